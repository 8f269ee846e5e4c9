"""Phase 1 and its tables on tiny stores: what is written, that it resumes, which clips it sees, true numbers."""
import dataclasses
import json
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

import last
from last import load_checkpoint
from phases import p1_train, table
from phases.common.settings_cli import cli
from phases.reporting import measured
from phases.training.clip_store import ClipStore
from phases.training.networks import build_model
from phases.training.recipe import load_config
from phases.training.view import Batches, ClipView, View, plain_batches
from skeletons import Skeleton
from tests.helpers.clip_stores import QUICK, RUN, write_store

# --- what a run leaves ---

def test_a_run_leaves_its_files_and_nothing_half_written(done):
    files = {p.name for p in done.iterdir()}
    assert files == {"recipe.json", "metrics.jsonl", "last.pt", "final.pt", "scores.npz", "result.json"}
    assert len((done / "metrics.jsonl").read_text().splitlines()) == 2
    recipe = json.loads((done / "recipe.json").read_text())
    assert recipe["train"]["causal"] == 0.5 and recipe["data"]["leaked"] == [0]
    assert recipe["train"]["clip"] == 1.0  # a default


def test_the_final_weights_alone_give_the_scores_again(done, store):
    final = load_checkpoint(done / "final.pt")
    assert json.loads(final["recipe"]) == json.loads((done / "recipe.json").read_text())
    assert len(final["classes"]) == 3
    skeleton = Skeleton.from_dict(json.loads(final["skeleton"]))
    model = build_model(load_config(QUICK), skeleton, len(final["classes"]))
    model.load_state_dict(final["model"])
    clips = ClipStore(store)
    logits, _ = last.predict(model, Batches(ClipView(clips, load_config(QUICK).view), clips.split("xsub")[1], 8))
    assert np.array_equal(logits.numpy(), np.load(done / "scores.npz")["logits"])


def test_the_same_command_gives_the_same_weights_and_another_seed_others(phase1):
    weights = []
    for out, seed in (("a", 0), ("b", 0), ("a", 1)):
        phase1("train.epochs=1", f"out={out}", f"seed={seed}")
        weights.append(load_checkpoint(Path(f"{out}/lite_nano/tiny-xsub/seed{seed}/final.pt"))["model"])
    a, b, c = weights
    assert all(torch.equal(a[k], b[k]) for k in a) and not all(torch.equal(a[k], c[k]) for k in a)


def test_a_few_epochs_learn_the_motions_of_unseen_subjects(phase1, tmp_path):
    large = write_store(tmp_path / "large", clips=72, bodies=1)
    phase1(f"data.store={large}", "train.epochs=8", "view.frames=16", "train.average=swa")
    assert json.loads(Path(RUN, "result.json").read_text())["top1"] > 60  # chance: 33


def test_two_bodies_train_and_test(phase1):
    assert phase1("view.bodies=2", "train.epochs=1") == 0
    assert np.isfinite(np.load(f"{RUN}/scores.npz")["logits"]).all()


@pytest.mark.parametrize("skeleton", ["kinect20", "coco17"])
def test_other_skeletons_train_by_overrides_alone(skeleton, phase1, tmp_path):
    odd = write_store(tmp_path / skeleton, skeleton)
    assert phase1("train.epochs=1", f"data.store={odd}", f"data.skeleton={skeleton}") == 0


ROWS = [*(f"L{k}" for k in range(10)), *(f"P{k}" for k in range(4)), "lite_small", "lite_nano"]


@pytest.mark.parametrize("row", ROWS)
def test_every_row_builds_and_takes_a_step(row, store, tmp_path):
    cfg = load_config([f"recipe={row}", "data.num_classes=3", "train.amp=fp32"])
    short = dataclasses.replace(cfg.view, frames=cfg.view.frames // 8)
    cfg = dataclasses.replace(cfg, view=short, train=dataclasses.replace(cfg.train, epochs=1, batch=6))
    clips = ClipStore(store)
    view, model = ClipView(clips, cfg.view), build_model(cfg, clips.skeleton, 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    batches, loss = Batches(view, np.arange(6), 6, training=True), last.classification_loss(cfg.train)
    last.fit(model, batches, loss, cfg.train, tmp_path, {"row": row})
    after = model.state_dict()
    assert all(v.isfinite().all() for v in after.values())
    assert not torch.equal(before["head.linear.weight"], after["head.linear.weight"])
    logits, _ = last.predict(model, Batches(view, np.arange(8), 4))
    assert logits.shape == (8, 3) and logits.isfinite().all()


# --- resumed, refused ---

def test_a_run_cut_after_training_is_reported_without_training_again(phase1, monkeypatch):
    phase1("train.average=swa")
    want, before = np.load(f"{RUN}/scores.npz")["logits"], Path(RUN, "metrics.jsonl").read_text()
    for name in ("final.pt", "scores.npz", "result.json"):
        Path(RUN, name).unlink()
    monkeypatch.setattr(p1_train, "classification_loss", lambda cfg: lambda model, batch: 1 // 0)
    assert phase1("train.average=swa") == 0
    assert np.array_equal(np.load(f"{RUN}/scores.npz")["logits"], want)
    assert Path(RUN, "metrics.jsonl").read_text() == before


def test_a_torn_line_of_the_log_costs_that_line_alone(phase1):
    phase1()
    for name in ("final.pt", "scores.npz", "result.json"):
        Path(RUN, name).unlink()
    log = Path(RUN, "metrics.jsonl")
    log.write_text('{"epoch": 0, "st\n' + log.read_text().splitlines()[1] + "\n")
    assert phase1() == 0
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1]


def test_bad_input_leaves_by_code_2_with_one_line(phase1, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["p1_train.py", *QUICK, "data.store=nowhere"])
    with pytest.raises(SystemExit) as e:
        cli(p1_train.main)
    out, err = capsys.readouterr()
    assert e.value.code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1


# --- clips of each side ---

def test_the_reported_weights_are_those_best_on_the_validation_clips(phase1, store):
    phase1("data.validate.subject=[2]", "train.epochs=4", "train.lr=0.2")
    lines = [json.loads(line) for line in Path(RUN, "metrics.jsonl").read_text().splitlines()]
    clips, cfg = ClipStore(store), load_config(QUICK)
    model = build_model(cfg, clips.skeleton, 3)
    model.load_state_dict(load_checkpoint(f"{RUN}/final.pt")["model"])
    held = np.flatnonzero(clips.clips["subject"] == 2)
    top1 = last.accuracy(*last.predict(model, Batches(ClipView(clips, cfg.view), held, 8)))["top1"]
    assert top1 >= max(e["validation"] for e in lines)  # so few steps: its statistics were refreshed, and may do better


def test_no_test_clip_is_ever_trained_on(phase1, store, monkeypatch):
    seen, real = {True: set(), False: set()}, ClipView.__call__

    def noting(self, index, training=False, *rest):
        seen[training] |= set(index.tolist())
        return real(self, index, training, *rest)
    monkeypatch.setattr(ClipView, "__call__", noting)
    phase1("train.epochs=1")
    train, test = ClipStore(store).split("xsub")
    assert seen[True] == set(train.tolist())
    assert seen[False] == {*train.tolist(), *test.tolist()}  # norms are refreshed on training clips


def test_norms_after_few_steps_know_training_clips_alone(phase1, store):
    """At a learning rate near 0 the weights are known: the first norm has the statistics of plain training clips."""
    phase1("train.epochs=1", "train.lr=1e-9", "train.warmup_lr=0", "train.min_lr=0", "train.batch=64")
    cfg = load_config(QUICK)
    clips = ClipStore(store)
    batch = next(plain_batches(ClipView(clips, cfg.view), clips.split("xsub")[0], 64)())
    net = build_model(cfg, clips.skeleton, 3)
    streams = last.derive_streams(batch["joints"][:, 0], net.parents, last.STREAMS)
    norm = load_checkpoint(f"{RUN}/final.pt")["model"]
    torch.testing.assert_close(norm["stem.norm.running_mean"], streams.flatten(0, 2).mean(0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm["stem.norm.running_var"], streams.flatten(0, 2).var(0), rtol=1e-3, atol=1e-5)


def test_batch_norms_of_averaged_weights_see_each_training_clip_once_and_the_actions_mixed(tmp_path, monkeypatch):
    store = ClipStore(write_store(tmp_path / "sorted", clips=60, bodies=1))
    view = ClipView(store, View(frames=8))
    index = np.argsort(store.clips["label"], kind="stable")  # as phase 0 leaves most data sets
    batches = list(plain_batches(view, index, 10)())
    assert sorted(torch.cat([b["index"] for b in batches]).tolist()) == sorted(index.tolist())
    assert all(len(b["label"].unique()) > 1 for b in batches)
    torch.testing.assert_close(batches[0]["joints"], view(batches[0]["index"]))
    seen = []
    monkeypatch.setattr(p1_train, "plain_batches", lambda *a: seen.append(a) or plain_batches(*a))
    argv = [*QUICK, f"data.store={store.path}", f"out={tmp_path / 'runs'}", "train.average=swa"]
    assert p1_train.main(argv) == 0 and len(seen) == 1


# --- tables ---

@pytest.fixture
def runs(done, tmp_path, monkeypatch):
    """A runs folder with three seeds of a real data set, one run without top1_clean, and one on synthetic clips."""
    monkeypatch.chdir(tmp_path)
    result = json.loads((done / "result.json").read_text())
    measured = [("tiny", 0, 90.0), ("tiny", 1, 94.0), ("tiny", 10, 92.5), ("other", 0, 50.0), ("synthetic", 0, 99.0)]
    for dataset, seed, top1 in measured:
        folder = tmp_path / f"runs/lite_nano/{dataset}-xsub/seed{seed}"
        folder.mkdir(parents=True)
        r = {**result, "dataset": dataset, "seed": seed, "top1": top1, "top1_clean": top1 - 1,
             "command": f"just phase1 recipe=lite_nano data={dataset} seed={seed} out=x"}
        if dataset == "other":
            del r["top1_clean"]
        (folder / "result.json").write_text(json.dumps(r))
    return tmp_path


def test_the_table_has_a_row_a_run_with_mean_and_deviation_over_seeds(runs, capsys):
    assert table.main(["table", "show=rest"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = {line[1]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    sd = statistics.stdev([90, 94, 92.5])
    assert set(rows) == {"tiny", "other", "synthetic (demonstration)"}
    assert rows["tiny"]["top-1"] == f"{(90 + 94 + 92.5) / 3:.1f} ± {sd:.1f}" and rows["tiny"]["seeds"] == "3"
    assert rows["tiny"]["top-1 clean"] == f"{(90 + 94 + 92.5) / 3 - 1:.1f} ± {sd:.1f}"
    assert rows["other"]["top-1"] == "50.0" and rows["other"]["top-1 clean"] == ""


def test_collect_writes_what_its_docstring_says_and_never_synthetic_clips(runs):
    assert table.main(["collect"]) == 0
    files = {p.name for p in (runs / "results").iterdir()}
    assert files == {"lite_nano--tiny-xsub.json", "lite_nano--other-xsub.json"}
    tiny, other = (json.loads((runs / f"results/lite_nano--{d}-xsub.json").read_text()) for d in ("tiny", "other"))
    assert list(tiny) == ["recipe", "dataset", "split", "params", "macs", "command", "runs"]
    for r in tiny["runs"] + other["runs"]:
        assert list(r) == ["seed", "top1", "top5", "top1_clean", "epochs", "seconds", "device", "commit", "top1_causal"]
        assert all(f'"{k}"' in measured.__doc__ for k in r)
    assert [(r["seed"], r["top1"]) for r in tiny["runs"]] == [(0, 90.0), (1, 94.0), (10, 92.5)]
    assert other["runs"][0]["top1_clean"] is None
    assert "out=" not in tiny["command"]
    assert tiny["command"].split()[:4] == ["just", "phase1", "recipe=lite_nano", "data=tiny"]


def test_collected_results_stand_in_the_table_without_their_runs(runs, capsys):
    table.main(["collect"])
    capsys.readouterr()
    table.main(["table"])
    both = [line for line in capsys.readouterr().out.splitlines() if "synthetic" not in line]
    assert table.main(["table", "runs=gone"]) == 0
    assert capsys.readouterr().out.splitlines() == both


def test_a_real_run_is_rendered_and_collected(done, capsys, tmp_path):
    folder = done.parents[2]
    assert table.main(["table", f"runs={folder}", "results="]) == 0
    assert f"{json.loads((done / 'result.json').read_text())['top1']:.1f}" in capsys.readouterr().out
    assert table.main(["collect", f"runs={folder}", f"results={tmp_path}"]) == 0
    assert (tmp_path / "lite_nano--tiny-xsub.json").exists()


@pytest.mark.parametrize("argv, words", [
    (["tabel"], "did you mean 'table'?"), ([], "unknown action"), (["table", "run=x"], "did you mean 'runs'?"),
    (["table", "runs=gone", "results="], "nothing to show"), (["collect", "runs=gone"], "no finished run")])
def test_a_table_of_nothing_is_one_line(argv, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as e:
        table.main(argv)
    assert words in str(e.value) and "\n" not in str(e.value) and list(tmp_path.iterdir()) == []


def test_synthetic_runs_alone_cannot_be_collected(runs):
    for name in ("tiny", "other"):
        Path(runs, f"runs/lite_nano/{name}-xsub").rename(runs / name)
    with pytest.raises(ValueError, match="real data set"):
        table.main(["collect"])
    assert not (runs / "results").exists()


def test_a_broken_result_is_named(runs):
    path = runs / "runs/lite_nano/tiny-xsub/seed1/result.json"
    path.write_text('{"recipe": ')
    with pytest.raises(ValueError, match="seed1/result.json"):
        table.main(["table"])
