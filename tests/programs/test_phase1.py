"""Phase 1 on tiny stores: what is written, that it resumes, which clips it sees."""
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import last
from last import load_checkpoint
from phases import p1_train
from phases.training import session
from phases.training.batches import Batches, plain_batches
from phases.training.clip_store import ClipStore
from phases.training.evaluation import accuracy, predict
from phases.training.networks import build_model
from phases.training.recipe import load_config
from phases.training.settings import View
from phases.training.view import ClipView
from skeletons import Skeleton
from tests.helpers.clip_stores import QUICK, RUN, write_store

# --- what a run leaves ---

def test_a_run_leaves_its_files_and_nothing_half_written(done):
    files = {p.name for p in done.iterdir()}
    assert files == {"recipe.json", "metrics.jsonl", "last.pt", "final.pt", "scores.npz", "result.json"}
    assert len((done / "metrics.jsonl").read_text().splitlines()) == 2
    recipe = json.loads((done / "recipe.json").read_text())
    assert recipe["train"]["causal"] == 0.5 and recipe["data"]["leaked"] == [0]
    assert recipe["train"]["grad_clip"] == 1.0  # a default


def test_the_final_weights_alone_give_the_scores_again(done, store):
    final = load_checkpoint(done / "final.pt")
    assert json.loads(final["recipe"]) == json.loads((done / "recipe.json").read_text())
    assert len(final["classes"]) == 3

    skeleton = Skeleton.from_dict(json.loads(final["skeleton"]))
    model = build_model(load_config(QUICK), skeleton, len(final["classes"]))
    model.load_state_dict(final["model"])
    clips = ClipStore(store)
    test = Batches(ClipView(clips, load_config(QUICK).view), clips.split("xsub")[1], 8)
    logits, _ = predict(model, test)
    assert np.array_equal(logits.numpy(), np.load(done / "scores.npz")["logits"])


def test_the_weights_are_a_function_of_command_and_seed(phase1):
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


ROWS = [*(f"L{k}" for k in range(10)), *(f"P{k}" for k in range(4)), "lite_small", "lite_nano", "lite_pair"]


@pytest.mark.parametrize("row", ROWS)
def test_every_row_builds_and_takes_a_step(row, store, tmp_path):
    cfg = load_config([f"recipe={row}", "data.num_classes=3", "train.amp=fp32"])
    short = dataclasses.replace(cfg.view, frames=cfg.view.frames // 8)
    cfg = dataclasses.replace(cfg, view=short, train=dataclasses.replace(cfg.train, epochs=1, batch=6))
    clips = ClipStore(store)
    view = ClipView(clips, cfg.view)
    model = build_model(cfg, clips.skeleton, 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}

    batches = Batches(view, np.arange(6), 6, training=True)
    last.fit(model, batches, last.classification_loss(cfg.train), cfg.train, tmp_path, {"row": row})
    after = model.state_dict()
    assert all(v.isfinite().all() for v in after.values())
    assert not torch.equal(before["head.classifier.weight"], after["head.classifier.weight"])
    logits, _ = predict(model, Batches(view, np.arange(8), 4))
    assert logits.shape == (8, 3) and logits.isfinite().all()


# --- resumed, refused ---

def test_a_run_cut_after_training_is_only_reported(phase1, monkeypatch):
    phase1("train.average=swa")
    want = np.load(f"{RUN}/scores.npz")["logits"]
    before = Path(RUN, "metrics.jsonl").read_text()
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


def test_bad_input_is_one_line_and_nothing_is_written(phase1):
    with pytest.raises(ValueError) as e:
        phase1("data.store=nowhere")
    assert str(e.value) == "no clip store in nowhere: make it with `just phase0 recipe=... raw=...`"
    assert not Path("runs").exists()


# --- clips of each side ---

def test_the_reported_weights_are_the_best_on_validation(phase1, store):
    phase1("data.validate.subject=[2]", "train.epochs=4", "train.lr=0.2")
    lines = [json.loads(line) for line in Path(RUN, "metrics.jsonl").read_text().splitlines()]
    clips, cfg = ClipStore(store), load_config(QUICK)
    model = build_model(cfg, clips.skeleton, 3)
    model.load_state_dict(load_checkpoint(f"{RUN}/final.pt")["model"])
    held = np.flatnonzero(clips.clips["subject"] == 2)
    top1 = accuracy(*predict(model, Batches(ClipView(clips, cfg.view), held, 8)))["top1"]
    assert top1 >= max(e["validation"] for e in lines)  # so few steps: its statistics were refreshed, and may do better


def test_no_test_clip_is_ever_trained_on(phase1, store, monkeypatch):
    seen = {True: set(), False: set()}
    real = ClipView.__call__

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
    streams = last.derive_streams(batch["joints"][:, 0], net.parents, net.streams)
    norm = load_checkpoint(f"{RUN}/final.pt")["model"]
    torch.testing.assert_close(norm["stem.norm.running_mean"], streams.flatten(0, 2).mean(0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm["stem.norm.running_var"], streams.flatten(0, 2).var(0), rtol=1e-3, atol=1e-5)


def test_norms_of_averaged_weights_see_each_clip_once_mixed(tmp_path, monkeypatch):
    store = ClipStore(write_store(tmp_path / "sorted", clips=60, bodies=1))
    view = ClipView(store, View(frames=8))
    index = np.argsort(store.clips["label"], kind="stable")  # as phase 0 leaves most data sets
    batches = list(plain_batches(view, index, 10)())
    assert sorted(torch.cat([b["index"] for b in batches]).tolist()) == sorted(index.tolist())
    assert all(len(b["label"].unique()) > 1 for b in batches)
    torch.testing.assert_close(batches[0]["joints"], view(batches[0]["index"]))

    # phase 1 makes them, once
    seen = []

    def noting(*given):
        seen.append(given)
        return plain_batches(*given)

    monkeypatch.setattr(session, "plain_batches", noting)
    argv = [*QUICK, f"data.store={store.path}", f"out={tmp_path / 'runs'}", "train.average=swa"]
    assert p1_train.main(argv) == 0 and len(seen) == 1
