"""A training that was cut or killed and goes on equals an uninterrupted one; another recipe is refused."""
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import last
from last import fit, load_checkpoint
from phases import p1_train
from phases.common.files import ROOT
from phases.common.recipes import differences
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.toy_training import (
    QUICK,
    RECIPE,
    Clips,
    Cut,
    Toy,
    cut_after,
    equal,
    log,
    loss_fn,
    quick,
    refused,
    weights,
)

# --- cut after a checkpoint ---

ARMS = {"sgd": quick(causal=0.5), "sgd-swa-accumulate": quick(average="swa", swa_start=0.4, accumulate=2, causal=0.5),
        "adamw-ema": quick(optimizer="adamw", lr=0.01, average="ema", ema_decay=0.8, causal=0.5),
        "fp16": quick(amp="fp16", causal=0.5),
        "trunk": quick(trunk_lr=0.3, head_epochs=1), "trunk-adamw": quick(optimizer="adamw", lr=0.01, trunk_lr=0.3)}


class Headed(Toy):
    """A toy among the networks: all but its last layer is the trunk."""

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.head = torch.nn.ModuleDict({"classifier": self._modules.pop("linear")})

    @property
    def linear(self):
        return self.head["classifier"]


def resumes(arm, cuts, tmp_path, monkeypatch, score=None):
    """A run cut after each number of saves and continued must equal an uninterrupted one.

    The continued run starts from another network, which the checkpoint must replace.
    """
    cfg = dataclasses.replace(ARMS[arm], save_seconds=0.0)
    clips = 12 * cfg.accumulate - 2
    toy = Headed if "trunk" in arm else Toy
    monkeypatch.setitem(last.MODELS, "headed", Headed)

    def run(folder, seed=0):
        return weights(fit(toy(seed), Clips(clips), loss_fn, cfg, folder, RECIPE, 3, score=score))

    want = run(tmp_path / "whole")
    for cut in cuts:
        folder = tmp_path / f"cut{cut}"
        with monkeypatch.context() as m, pytest.raises(Cut):
            cut_after(m, cut)
            run(folder)
        torch.manual_seed(99 + cut)  # a new process has another random state
        assert equal(run(folder, seed=7), want), f"cut after save {cut}"
        assert log(folder) == log(tmp_path / "whole") and len(log(folder)) == cfg.epochs


@pytest.mark.parametrize("arm", ARMS)
def test_a_cut_run_continued_equals_an_uninterrupted_one(arm, tmp_path, monkeypatch):
    # each epoch saves after its three steps and at its end; saves 3, 7 and 11 have a test of their own
    resumes(arm, [1, 2, 4, 5, 6, 8, 9, 10, 12], tmp_path, monkeypatch)


def test_a_run_cut_at_the_end_of_an_epoch_goes_on_too(tmp_path, monkeypatch):
    resumes("sgd", [3, 7, 11], tmp_path, monkeypatch)


def test_a_continued_run_remembers_its_best_epoch(tmp_path, monkeypatch):
    def score(model):  # jumps up and down from epoch to epoch
        return float(model.linear.weight.detach().abs().sum() * 1000 % 97)

    resumes("sgd", [2, 4, 8, 12], tmp_path, monkeypatch, score)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_continued_run_has_the_optimiser_of_this_device(name, tmp_path):
    cfg = quick(optimizer=name)
    fit(Toy(), Clips(), loss_fn, cfg, tmp_path, RECIPE)
    state = load_checkpoint(tmp_path / "last.pt")
    saved = state["optimizer"]["param_groups"]
    want = [(group["fused"], group["foreach"]) for group in saved]
    for group in saved:
        group.update(fused=True, foreach=True)  # as a GPU may have left it
    torch.save(state, tmp_path / "last.pt")
    run = last.Training(Toy(), loss_fn, cfg, tmp_path, 0, 3, RECIPE)
    run.restore()
    assert [(group["fused"], group["foreach"]) for group in run.optimizer.param_groups] == want
    assert run.optimizer.state, "the moments are those of the run"


def test_a_run_without_a_trunk_in_its_checkpoint_goes_on(tmp_path, monkeypatch):
    """As runs were saved before the trunk had a rate of its own."""
    want = weights(fit(Toy(), Clips(), loss_fn, QUICK, tmp_path / "whole", RECIPE))
    folder = tmp_path / "cut"
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, 1)
        fit(Toy(), Clips(), loss_fn, QUICK, folder, RECIPE)
    state = load_checkpoint(folder / "last.pt")
    groups = state["optimizer"]["param_groups"]
    assert len(groups) == 2 and not any(group.pop("trunk") for group in groups)
    torch.save(state, folder / "last.pt")
    assert equal(weights(fit(Toy(7), Clips(), loss_fn, QUICK, folder, RECIPE)), want)


def test_a_finished_run_called_again_trains_no_further(tmp_path):
    first = weights(fit(Toy(), Clips(), loss_fn, quick(average="swa"), tmp_path, RECIPE))
    again = fit(Toy(1), Clips(), lambda m, b: 1 // 0, quick(average="swa"), tmp_path, RECIPE)
    assert equal(weights(again), first) and len(log(tmp_path)) == 3


def test_lines_logged_after_the_checkpoint_are_not_logged_twice(tmp_path, monkeypatch):
    fit(Toy(), Clips(), loss_fn, QUICK, tmp_path / "a", RECIPE)
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, 1)
        fit(Toy(), Clips(), loss_fn, QUICK, tmp_path / "b", RECIPE)
    with open(tmp_path / "b" / "metrics.jsonl", "a") as f:
        f.write('{"epoch": 1, "cut": "before its checkpo')
    fit(Toy(), Clips(), loss_fn, QUICK, tmp_path / "b", RECIPE)
    assert log(tmp_path / "b") == log(tmp_path / "a") and [e["epoch"] for e in log(tmp_path / "a")] == [0, 1, 2]


def test_a_compiled_training_that_was_cut_ends_as_an_eager_one(tmp_path, monkeypatch):
    """With causal batches, one and two bodies, and a smaller last batch."""
    from torch._dynamo.utils import counters
    compile_, made = torch.compile, []
    monkeypatch.setattr(torch, "compile", lambda f: made.append(f) or compile_(f, backend="eager"))
    monkeypatch.setitem(last.LITE, "nano", (8, ((8, 1, 1), (12, 1, 2))))  # dynamo takes a second a block
    g, clips = torch.Generator().manual_seed(0), []
    for size in (6, 6, 6, 4):
        joints = torch.randn(size, 2, 8, 17, 3, generator=g)
        joints[torch.rand(size, generator=g) < 0.5, 1] = 0
        clips.append({"joints": joints, "label": torch.arange(size) % 3})

    class Epoch(list):
        def __call__(self, epoch: int = 0, start: int = 0):
            return iter(self[start:])

    def weights(on: bool) -> dict:
        cfg = load_config(["recipe=lite_nano", "train.epochs=2", "train.causal=0.5", "model.dropout=0", "view.frames=8",
                           f"train.compile={str(on).lower()}"])
        model = build_model(cfg, SKELETONS["coco17"], 3)
        model = fit(model, Epoch(clips), last.classification_loss(cfg.train), cfg.train, tmp_path / str(on), {})
        assert "features" not in vars(model)
        return model.state_dict()

    torch._dynamo.reset()
    counters.clear()
    eager = weights(False)
    with monkeypatch.context() as m:
        cut_after(m, 1)
        with pytest.raises(Cut):
            weights(True)
    assert len(log(tmp_path / "True")) == 1, "one of two epochs"
    ours = weights(True)
    assert len(made) == 2 and counters["stats"]["unique_graphs"] <= 2 * 4, "one network before the cut, one after it"
    for key, value in eager.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-3, atol=1e-4)


# --- a real process, killed by a signal ---

# runs the program of its arguments; its first checkpoint is cut in the middle of a write
KILL_ME = """import os, runpy, signal, sys, torch
real = torch.save
def half(state, path):
    real(state, path)
    os.truncate(path, os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
sys.argv = sys.argv[2:]
runpy.run_module("phases.p1_train", run_name="__main__", alter_sys=True)
"""


def test_a_process_killed_anywhere_ends_with_the_same_weights(tmp_path, make_store, monkeypatch):
    make_store(tmp_path / "store")
    argv = ["-m", "phases.p1_train", "recipe=lite_nano", f"data.store={tmp_path / 'store'}", "data.name=tiny",
            "data.num_classes=3", "view.frames=8", "device=cpu", "train.epochs=4", "train.batch=4",
            "train.warmup_epochs=1", "train.causal=0.5", "train.average=swa", "train.save_seconds=0"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    monkeypatch.chdir(whole)
    p1_train.main(argv[2:])
    died = subprocess.run([sys.executable, "-c", KILL_ME, *argv], cwd=killed, env=env, **out)
    a, b = (folder / "runs/lite_nano/tiny-xsub/seed0" for folder in (whole, killed))
    assert died.returncode == -signal.SIGKILL and not (b / "last.pt").exists()

    seconds = sum(json.loads(line)["seconds"] for line in (a / "metrics.jsonl").read_text().splitlines())
    recipe, started = b / "recipe.json", time.time()  # written when the training starts
    p = subprocess.Popen([sys.executable, *argv], cwd=killed, env=env, **out)
    while p.poll() is None and not (recipe.exists() and recipe.stat().st_mtime > started):
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.3 * seconds))
    p.kill()
    _, err = p.communicate()
    assert p.returncode == -signal.SIGKILL, err.decode()
    subprocess.run([sys.executable, *argv], cwd=killed, env=env, check=True, **out)
    final_a, final_b = load_checkpoint(a / "final.pt"), load_checkpoint(b / "final.pt")
    assert equal(final_a["model"], final_b["model"]) and final_a["recipe"] == final_b["recipe"]
    assert log(b) == log(a) and len(log(b)) == 4
    assert np.array_equal(np.load(a / "scores.npz")["logits"], np.load(b / "scores.npz")["logits"])


# --- another recipe ---

def test_a_last_pt_of_another_recipe_names_the_difference(tmp_path, capsys):
    fit(Toy(), Clips(), loss_fn, QUICK, tmp_path, RECIPE)
    capsys.readouterr()
    line = refused(tmp_path, capsys, {"toy": 2, "train": {"lr": 1.0}})
    assert "another recipe" in line and "toy was 1, is 2" in line and "out=" in line


def test_a_new_field_that_is_off_makes_no_other_recipe():
    old = {"train": {"lr": 0.1}, "data": {"name": "a"}}
    assert differences(old, {"train": {"lr": 0.1, "new": False}, "data": {"name": "a", "sharp": 0}, "init": ""}) == ""
    assert differences(old, {"train": {"lr": 0.1, "new": 2}, "data": {"name": "a"}}) == "train.new was None, is 2"
    assert differences(old, {"train": {"lr": 0.1}, "data": {}}) == "data.name was 'a', is None"
