"""Phase 1 and its tables, end to end on tiny stores: what is written, what is refused, and that the numbers are true."""
import dataclasses
import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import p1_train
import pytest
import run
import table
import torch
from conftest import write_store
from recipe import cli, load_config
from run import ClipStore, build_model

import last
from last import Batches, ClipView, load_checkpoint

QUICK = ["recipe=lite_nano", "data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "train.epochs=2", "train.batch=8",
         "train.warmup_epochs=1", "train.lr=0.05"]
RUN = "runs/lite_nano/tiny-xsub/seed0"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """So small a network is fastest on one thread, many times so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("stores") / "tiny")


@pytest.fixture
def phase1(store, tmp_path, monkeypatch):
    """Run phase 1 in an empty folder: phase1(*overrides, base=QUICK) -> exit code."""
    monkeypatch.chdir(tmp_path)
    return lambda *argv, base=QUICK: p1_train.main([*base, f"data.store={store}", *argv])


@pytest.fixture(scope="module")
def done(store, tmp_path_factory):
    """The folder of one finished run, only to be read."""
    with pytest.MonkeyPatch.context() as m:
        m.chdir(tmp_path_factory.mktemp("done"))
        assert p1_train.main([*QUICK, f"data.store={store}", "data.leaked=[0]", "train.causal=0.5", "train.average=swa"]) == 0
        return Path(RUN).resolve()


def content(folder) -> dict:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def complaint(run, *argv) -> str:
    """The one line with which phase 1 refuses, having written nothing."""
    before = content(Path.cwd())
    with pytest.raises((ValueError, OSError)) as e:
        run(*argv)
    assert "\n" not in str(e.value) and content(Path.cwd()) == before
    return str(e.value)


# --- what a run leaves ---

def test_a_run_leaves_its_files_and_nothing_half_written(done):
    assert {p.name for p in done.iterdir()} == {"recipe.json", "metrics.jsonl", "last.pt", "final.pt", "scores.npz", "result.json"}
    assert len((done / "metrics.jsonl").read_text().splitlines()) == 2
    recipe = json.loads((done / "recipe.json").read_text())
    assert recipe["train"]["causal"] == 0.5 and recipe["data"]["leaked"] == [0] and recipe["train"]["clip"] == 1.0  # defaults, too


def test_the_reported_accuracies_equal_a_recount_from_the_scores(done, store):
    z, result, clips = np.load(done / "scores.npz"), json.loads((done / "result.json").read_text()), ClipStore(store)
    hit, test = z["logits"].argmax(1) == z["label"], clips.split("xsub")[1]
    assert z["name"].tolist() == clips.clips["name"][test].tolist() and z["label"].tolist() == clips.clips["label"][test].tolist()
    assert result["clips"] == len(test) == 12 and result["top1"] == pytest.approx(100 * hit.mean())
    assert result["clips_clean"] == (z["label"] != 0).sum() < 12 and result["top1_clean"] == pytest.approx(100 * hit[z["label"] != 0].mean())
    assert 0 <= result["top1_causal"] <= 100 and result["top5"] == 100  # of three classes
    assert np.trace(result["confusion"]) == hit.sum() and len(result["per_class"]) == 3


def test_the_result_describes_the_network_and_the_run(done):
    result = json.loads((done / "result.json").read_text())
    cfg = load_config([*QUICK])
    assert result["params"] == sum(p.numel() for p in build_model(cfg, last.SKELETONS["ntu25"], 3).parameters()) and result["macs"] > 1e5
    assert (result["recipe"], result["dataset"], result["split"], result["seed"], result["epochs"]) == ("lite_nano", "tiny", "xsub", 0, 2)
    assert result["command"].startswith("just phase1 recipe=lite_nano") and {"device", "commit", "seconds"} <= result.keys()


def test_the_final_weights_alone_give_the_scores_again(done, store):
    final = load_checkpoint(done / "final.pt")
    assert json.loads(final["recipe"]) == json.loads((done / "recipe.json").read_text()) and len(final["classes"]) == 3
    skeleton = last.Skeleton.from_dict(json.loads(final["skeleton"]))
    model = build_model(load_config(QUICK), skeleton, len(final["classes"]))
    model.load_state_dict(final["model"])
    clips = ClipStore(store)
    logits, _ = last.predict(model, Batches(ClipView(clips, load_config(QUICK).view), clips.split("xsub")[1], 8))
    assert np.array_equal(logits.numpy(), np.load(done / "scores.npz")["logits"])


def test_a_result_without_leaked_classes_or_causal_training_claims_neither(phase1):
    assert phase1("train.epochs=1") == 0
    assert not {"top1_clean", "top1_causal"} & json.loads(Path(RUN, "result.json").read_text()).keys()


def test_the_same_command_gives_the_same_weights_and_another_seed_others(phase1):
    for argv in (["out=a"], ["out=b"], ["out=a", "seed=1"]):
        phase1("train.epochs=1", *argv)
    a, b, c = (load_checkpoint(Path(f"{out}/lite_nano/tiny-xsub/seed{seed}/final.pt"))["model"] for out, seed in (("a", 0), ("b", 0), ("a", 1)))
    assert all(torch.equal(a[k], b[k]) for k in a) and not all(torch.equal(a[k], c[k]) for k in a)


def test_a_few_epochs_learn_the_motions_of_unseen_subjects(phase1, tmp_path):
    phase1(f"data.store={write_store(tmp_path / 'large', clips=72, bodies=1)}", "train.epochs=8", "view.frames=16", "train.average=swa")
    assert json.loads(Path(RUN, "result.json").read_text())["top1"] > 60  # chance: 33


# --- run again ---

def test_run_again_a_finished_run_says_so_and_changes_nothing(phase1, capsys):
    phase1("train.epochs=1")
    before = content(Path.cwd())
    capsys.readouterr()
    assert phase1("train.epochs=1") == 0 and "already done" in capsys.readouterr().out and content(Path.cwd()) == before


@pytest.mark.parametrize("finished", [True, False])
def test_another_recipe_in_the_folder_of_a_run_is_refused_and_nothing_changed(finished, phase1):
    phase1("train.epochs=1")
    if not finished:
        for name in ("final.pt", "scores.npz", "result.json"):
            Path(RUN, name).unlink()
    line = complaint(phase1, "train.epochs=1", "train.lr=0.25")
    assert "train.lr was 0.05, is 0.25" in line and "out=" in line


def test_a_run_cut_after_training_is_reported_without_training_again(phase1, monkeypatch):
    phase1("train.average=swa")
    want, before = np.load(f"{RUN}/scores.npz")["logits"], Path(RUN, "metrics.jsonl").read_text()
    for name in ("final.pt", "scores.npz", "result.json"):
        Path(RUN, name).unlink()
    monkeypatch.setattr(p1_train, "classification_loss", lambda cfg: lambda model, batch: 1 // 0)
    assert phase1("train.average=swa") == 0
    assert np.array_equal(np.load(f"{RUN}/scores.npz")["logits"], want) and Path(RUN, "metrics.jsonl").read_text() == before


def test_a_final_pt_that_was_moved_away_is_made_again(phase1):
    phase1("train.epochs=1")
    want = load_checkpoint(f"{RUN}/final.pt")["model"]
    Path(RUN, "final.pt").unlink()
    assert phase1("train.epochs=1") == 0
    again = load_checkpoint(f"{RUN}/final.pt")["model"]
    assert all(torch.equal(again[k], want[k]) for k in want)


@pytest.mark.parametrize("change", ["classes", "sides"])
def test_a_run_does_not_go_on_with_other_clips(change, phase1, store, tmp_path):
    phase1("train.epochs=1")
    for name in ("final.pt", "scores.npz", "result.json"):
        Path(RUN, name).unlink()
    anew = tmp_path / "anew"
    shutil.copytree(store, anew)
    if change == "classes":
        meta = json.loads((anew / "meta.json").read_text())
        (anew / "meta.json").write_text(json.dumps({**meta, "classes": meta["classes"][::-1]}))
    else:
        with np.load(store / "clips.npz") as z:
            clips = dict(z)
        clips["subject"] = clips["subject"] % 4 + 1
        np.savez(anew / "clips.npz", **clips)
    assert "(clips was '" in complaint(phase1, "train.epochs=1", f"data.store={anew}")


def test_a_torn_line_of_the_log_costs_that_line_alone(phase1):
    phase1()
    for name in ("final.pt", "scores.npz", "result.json"):
        Path(RUN, name).unlink()
    log = Path(RUN, "metrics.jsonl")
    log.write_text('{"epoch": 0, "st\n' + log.read_text().splitlines()[1] + "\n")
    assert phase1() == 0
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1]


@pytest.mark.parametrize("name", ["result.json", "recipe.json"])
def test_a_damaged_json_of_a_run_is_named(name, phase1):
    phase1("train.epochs=1")
    Path(RUN, name).write_text("{")
    assert f"{name}: is no JSON" in complaint(phase1, "train.epochs=1")


# --- refused ---

@pytest.mark.parametrize("argv, words", [
    (["data.skeleton=kinect20"], ["data.skeleton", "'kinect20'", "'ntu25'"]),
    (["data.num_classes=2"], ["clip002", "label 2", "0 to 1"]), (["data.num_classes=5"], ["data.num_classes = 5", "has 3"]),
    (["data.split=xviw"], ["data.split = 'xviw'", "did you mean 'xview'?"]),
    (["data.store=nowhere"], ["nowhere", "just phase0"]),
    (["data.validate.subjct=[1]"], ["data.validate.subjct", "did you mean 'subject'?"]),
    (["data.validate.subject=[3]"], ["holds out 0 of 12"]),
    (["data.validate.subject=[1, 2]"], ["holds out 12 of 12"]),
    (["device=gpu"], ["gpu"]),
], ids=lambda x: x[0])
def test_what_cannot_be_trained_is_one_line_and_nothing_is_written(argv, words, phase1):
    line = complaint(phase1, *argv)
    assert all(w in line for w in words), line


def altered(folder, arrays=None, meta=None):
    """A tiny store with other arrays in clips.npz, or other entries in meta.json."""
    write_store(folder)
    if arrays:
        with np.load(folder / "clips.npz") as z:
            clips = dict(z)
        np.savez(folder / "clips.npz", **{**clips, **{k: f(clips[k]) for k, f in arrays.items()}})
    m = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**m, **(meta or {})}))
    return f"data.store={folder}"


@pytest.mark.parametrize("change, words", [
    ({"meta": {"protocols": {"xsub": {"field": "subject", "test": [9]}}}}, ["no clip", "test side", "9"]),
    ({"meta": {"protocols": {"xsub": {"field": "subject", "train": [9]}}}}, ["no clip", "training side"]),
    ({"arrays": {"label": lambda x: np.where(np.arange(len(x)) == 4, -1, x)}}, ["clip004", "label -1"]),
], ids=["no test clip", "no training clip", "negative label"])
def test_a_store_that_does_not_fit_is_one_line(change, words, phase1, tmp_path):
    line = complaint(phase1, altered(tmp_path / "odd", **change))
    assert all(w in line for w in words), line


@pytest.mark.parametrize("name", ["clips.npz", "frames.npy", "meta.json"])
@pytest.mark.parametrize("damage", [lambda b: b[:len(b) // 2], lambda b: b"", lambda b: b"text"], ids=["half", "empty", "text"])
def test_a_damaged_store_is_one_line(name, damage, phase1, tmp_path):
    odd = write_store(tmp_path / "odd")
    (odd / name).write_bytes(damage((odd / name).read_bytes()))
    assert "odd" in complaint(phase1, f"data.store={odd}")


def test_a_store_of_one_body_cannot_show_two(phase1, tmp_path):
    assert "view.bodies = 2" in complaint(phase1, altered(tmp_path / "one", {"offset": lambda x: x[:, :1]}), "view.bodies=2")


def test_bad_input_leaves_by_code_2_with_one_line(phase1, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["p1_train.py", *QUICK, "data.store=nowhere"])
    with pytest.raises(SystemExit) as e:
        cli(p1_train.main)
    out, err = capsys.readouterr()
    assert e.value.code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1


# --- sides, bodies, rows ---

def test_validation_clips_come_out_of_the_training_side_and_leave_the_test_side_alone(store):
    clips, cfg = ClipStore(store), load_config([*QUICK, "data.validate.subject=[2]"])
    train, held, test = run.splits(clips, cfg)
    assert set(clips.clips["subject"][train]) == {1} and set(clips.clips["subject"][held]) == {2} and len(held)
    whole, none, same = run.splits(clips, load_config(QUICK))
    assert sorted([*train, *held]) == whole.tolist() and not len(none) and same.tolist() == test.tolist()


def test_the_reported_weights_are_those_best_on_the_validation_clips(phase1, store):
    phase1("data.validate.subject=[2]", "train.epochs=4", "train.lr=0.2")
    lines = [json.loads(line) for line in Path(RUN, "metrics.jsonl").read_text().splitlines()]
    clips, cfg = ClipStore(store), load_config(QUICK)
    model = build_model(cfg, clips.skeleton, 3)
    model.load_state_dict(load_checkpoint(f"{RUN}/final.pt")["model"])
    held = np.flatnonzero(clips.clips["subject"] == 2)
    top1 = last.accuracy(*last.predict(model, Batches(ClipView(clips, cfg.view), held, 8)))["top1"]
    assert top1 == max(e["validation"] for e in lines)


def test_no_test_clip_is_ever_trained_on(phase1, store, monkeypatch):
    seen, real = {True: set(), False: set()}, ClipView.__call__

    def noting(self, index, training=False, *rest):
        seen[training] |= set(index.tolist())
        return real(self, index, training, *rest)
    monkeypatch.setattr(ClipView, "__call__", noting)
    phase1("train.epochs=1")
    train, test = ClipStore(store).split("xsub")
    assert seen[True] == set(train.tolist()) and seen[False] == {*train.tolist(), *test.tolist()}  # norms are refreshed after few steps


def test_norms_after_few_steps_know_training_clips_alone(phase1, store):
    """A network whose rate is nearly 0, so that its weights are known: its first norm has the statistics of plain training clips."""
    phase1("train.epochs=1", "train.lr=1e-9", "train.warmup_lr=0", "train.min_lr=0", "train.batch=64")
    cfg = load_config(QUICK)
    clips = ClipStore(store)
    batch = next(last.plain_batches(ClipView(clips, cfg.view), clips.split("xsub")[0], 64)())
    net = build_model(cfg, clips.skeleton, 3)
    streams = last.derive_streams(batch["joints"][:, 0], net.parents, last.STREAMS)
    norm = load_checkpoint(f"{RUN}/final.pt")["model"]
    torch.testing.assert_close(norm["stem.norm.running_mean"], streams.flatten(0, 2).mean(0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm["stem.norm.running_var"], streams.flatten(0, 2).var(0), rtol=1e-3, atol=1e-5)


def test_two_bodies_train_and_test(phase1):
    assert phase1("view.bodies=2", "train.epochs=1") == 0 and np.isfinite(np.load(f"{RUN}/scores.npz")["logits"]).all()


@pytest.mark.parametrize("skeleton", ["kinect20", "coco17"])
def test_other_skeletons_train_by_overrides_alone(skeleton, phase1, tmp_path):
    odd = write_store(tmp_path / skeleton, skeleton)
    assert phase1("train.epochs=1", f"data.store={odd}", f"data.skeleton={skeleton}") == 0


@pytest.mark.parametrize("row", [*(f"L{k}" for k in range(10)), *(f"P{k}" for k in range(4)), "lite_small", "lite_nano"])
def test_every_row_builds_and_takes_a_step(row, store, tmp_path):
    cfg = load_config([f"recipe={row}", "data.num_classes=3", "train.amp=fp32"])
    short = dataclasses.replace(cfg.view, frames=cfg.view.frames // 8)
    cfg = dataclasses.replace(cfg, view=short, train=dataclasses.replace(cfg.train, epochs=1, batch=6))
    clips = ClipStore(store)
    view, model = ClipView(clips, cfg.view), build_model(cfg, clips.skeleton, 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    last.fit(model, Batches(view, np.arange(6), 6, training=True), last.classification_loss(cfg.train), cfg.train, tmp_path, {"row": row})
    after = model.state_dict()
    assert all(v.isfinite().all() for v in after.values()) and not torch.equal(before["head.linear.weight"], after["head.linear.weight"])
    logits, _ = last.predict(model, Batches(view, np.arange(8), 4))
    assert logits.shape == (8, 3) and logits.isfinite().all()


# --- tables ---

@pytest.fixture
def runs(done, tmp_path, monkeypatch):
    """A runs folder with three seeds of a real data set, one run without top1_clean, and one on synthetic clips."""
    monkeypatch.chdir(tmp_path)
    result = json.loads((done / "result.json").read_text())
    for dataset, seed, top1 in (("tiny", 0, 90.0), ("tiny", 1, 94.0), ("tiny", 10, 92.5), ("other", 0, 50.0), ("synthetic", 0, 99.0)):
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
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    rows = {line[1]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    sd = statistics.stdev([90, 94, 92.5])
    assert set(rows) == {"tiny", "other", "synthetic (demonstration)"}
    assert rows["tiny"]["top-1"] == f"{(90 + 94 + 92.5) / 3:.1f} ± {sd:.1f}" and rows["tiny"]["seeds"] == "3"
    assert rows["tiny"]["top-1 clean"] == f"{(90 + 94 + 92.5) / 3 - 1:.1f} ± {sd:.1f}"
    assert rows["other"]["top-1"] == "50.0" and rows["other"]["top-1 clean"] == ""


def test_collect_writes_what_its_docstring_says_and_never_synthetic_clips(runs):
    assert table.main(["collect"]) == 0
    assert {p.name for p in (runs / "results").iterdir()} == {"lite_nano--tiny-xsub.json", "lite_nano--other-xsub.json"}
    tiny, other = (json.loads((runs / f"results/lite_nano--{d}-xsub.json").read_text()) for d in ("tiny", "other"))
    assert list(tiny) == ["recipe", "dataset", "split", "params", "macs", "command", "runs"]
    for r in tiny["runs"] + other["runs"]:
        assert list(r) == ["seed", "top1", "top5", "top1_clean", "epochs", "seconds", "device", "commit"]
        assert all(f'"{k}"' in table.__doc__ for k in r)
    assert [r["seed"] for r in tiny["runs"]] == [0, 1, 10] and [r["top1"] for r in tiny["runs"]] == [90.0, 94.0, 92.5]
    assert other["runs"][0]["top1_clean"] is None
    assert "out=" not in tiny["command"] and tiny["command"].split()[:4] == ["just", "phase1", "recipe=lite_nano", "data=tiny"]


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
    assert table.main(["collect", f"runs={folder}", f"results={tmp_path}"]) == 0 and (tmp_path / "lite_nano--tiny-xsub.json").exists()


@pytest.mark.parametrize("argv, words", [(["tabel"], "did you mean 'table'?"), ([], "unknown action"), (["table", "run=x"], "did you mean 'runs'?"),
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


def test_batch_norms_of_averaged_weights_see_each_training_clip_once_and_the_actions_mixed(tmp_path, monkeypatch):
    store = run.ClipStore(write_store(tmp_path / "sorted", clips=60, bodies=1))
    view = last.ClipView(store, last.View(frames=8))
    index = np.argsort(store.clips["label"], kind="stable")  # as phase 0 leaves most data sets
    batches = list(last.plain_batches(view, index, 10)())
    assert sorted(torch.cat([b["index"] for b in batches]).tolist()) == sorted(index.tolist())
    assert all(len(b["label"].unique()) > 1 for b in batches)
    torch.testing.assert_close(batches[0]["joints"], view(batches[0]["index"]))
    seen = []
    monkeypatch.setattr(p1_train, "plain_batches", lambda *a: seen.append(a) or last.plain_batches(*a))
    assert p1_train.main([*QUICK, f"data.store={store.path}", f"out={tmp_path / 'runs'}", "train.average=swa"]) == 0 and len(seen) == 1
