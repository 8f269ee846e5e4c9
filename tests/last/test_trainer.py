"""Trainer and checkpoints: schedule, accumulation, averaging, resuming, each against a plain restatement on a toy."""
import dataclasses
import json
import math
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import last
from last import TemporalConv, Train, causal, fit, load_checkpoint, lr_at, make_optimizer, refresh_batchnorm
from phases import p1_train
from phases.common.command import run
from phases.common.files import ROOT, atomic, write_json
from phases.common.recipes import differences
from phases.training.evaluation import accuracy, predict
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS

RECIPE = {"toy": 1}
QUICK = Train(epochs=3, batch=4, warmup_epochs=1, warmup_lr=0.01, lr=0.1, amp="fp32", save_seconds=1e9)


class Toy(nn.Module):
    """One of each kind of state: a convolution that may be causal, batch norm, dropout, integers beyond float32."""

    def __init__(self, seed: int = 0, norm: bool = True, dropout: float = 0.2):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = TemporalConv(3, 6, 3)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(6, 4)
        self.register_buffer("table", torch.tensor([2**40 + 1, 2, 3]))

    def forward(self, joints):  # b m t v 3
        x = self.norm(self.conv(joints[:, 0].permute(0, 3, 1, 2)))
        return self.linear(self.dropout(x.relu().mean((2, 3))))


class Clips:
    """Batches of fixed random clips, in a new order each epoch. `offset` is added to every coordinate."""

    def __init__(self, clips: int = 12, size: int = 4, shuffle: bool = True, offset: float = 0.0, dtype=torch.float32):
        g = torch.Generator().manual_seed(5)
        self.x = torch.randn(clips, 1, 6, 2, 3, generator=g).to(dtype) + offset
        self.y = torch.randint(4, (clips,), generator=g)
        self.size, self.shuffle = size, shuffle

    def __len__(self):
        return math.ceil(len(self.x) / self.size)

    def __call__(self, epoch=0, start=0):
        order = torch.arange(len(self.x))
        if self.shuffle:
            order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(epoch))
        for part in order.split(self.size)[start:]:
            yield {"joints": self.x[part], "label": self.y[part]}


def loss_fn(model, batch):
    logits = model(batch["joints"])
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(logits, batch["label"]), {"top1": (logits.argmax(1) == batch["label"]).float().mean()}


def weights(model) -> dict:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def log(folder) -> list[dict]:
    """metrics.jsonl without the seconds: a resume may change these and nothing else."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines


def quick(**changes) -> Train:
    return dataclasses.replace(QUICK, **changes)


# --- schedule and optimiser ---

@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 14), st.integers(1, 9), st.sampled_from(["none", "swa", "ema"]),
       st.floats(0, 1), st.sampled_from([0.0, 0.07]), st.data())
def test_lr_is_warm_up_then_cosine_or_constant_under_swa(epochs, warm, steps, average, start, swa_lr,
                                                                      data):
    cfg = quick(epochs=epochs, warmup_epochs=warm, average=average, swa_start=start, lr=0.5, warmup_lr=0.02,
                min_lr=0.003, swa_lr=swa_lr)
    step = data.draw(st.integers(0, epochs * steps - 1))
    epoch = step // steps
    if epoch < warm:
        share = (step + 1) / (warm * steps)
        want = 0.02 * (1 - share) + 0.5 * share
    elif swa_lr and average == "swa" and (epoch >= math.floor(start * epochs) or epoch == epochs - 1):
        want = 0.07
    else:  # under SWA the cosine stands still from epoch `first` on
        first = min(math.floor(start * epochs), epochs - 1) if average == "swa" else epochs
        turn = (min(step, max(first, warm) * steps) - warm * steps) / ((epochs - warm) * steps)
        want = 0.5 * 0.5 * (1 + math.cos(math.pi * turn)) + 0.003 * 0.5 * (1 - math.cos(math.pi * turn))
    assert lr_at(step, cfg, steps) == pytest.approx(want) == pytest.approx(lr_at(step, cfg, steps))


def test_the_schedule_peaks_falls_steadily_and_ends_at_its_floor():
    cfg = quick(epochs=20, warmup_epochs=4, min_lr=1e-4)
    rates = [lr_at(s, cfg, 10) for s in range(200)]
    assert max(rates) == rates[39] == cfg.lr and rates == sorted(rates[:40]) + sorted(rates[40:], reverse=True)
    assert cfg.min_lr <= rates[-1] < cfg.min_lr + 1e-4


def test_every_step_is_made_at_the_rate_of_the_schedule(tmp_path, monkeypatch):
    seen, real = [], torch.optim.SGD.step

    def step(self, *args, **kwargs):
        seen.append({g["lr"] for g in self.param_groups})
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    cfg = quick(accumulate=2, average="swa", swa_start=0.5)
    fit(Toy(), Clips(20), loss_fn, cfg, tmp_path, RECIPE)
    assert seen == [{lr_at(s, cfg, 3)} for s in range(9)]
    assert [e["lr"] for e in log(tmp_path)] == [lr_at(s, cfg, 3) for s in (2, 5, 8)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("row", ["L5", "lite_nano"])
def test_weight_decay_falls_on_kernels_and_linear_weights_alone(optimizer, row):
    cfg = load_config([f"recipe={row}", f"train.optimizer={optimizer}", "train.weight_decay=0.03",
                       "train.adamw_decay=0.03"])
    model = build_model(cfg, SKELETONS["ntu25"], 10)
    opt = make_optimizer(model, cfg.train)
    name = {id(p): n for n, p in model.named_parameters()}
    groups = {g["weight_decay"]: {name[id(p)] for p in g["params"]} for g in opt.param_groups}
    # a norm's weight has one axis
    kernels = {n for n, p in model.named_parameters() if n.endswith(".weight") and p.ndim in (2, 4)}
    assert groups == {0.03: kernels, 0.0: set(name.values()) - kernels}
    assert sum(len(g["params"]) for g in opt.param_groups) == len(name)
    for n in ("embedding", "mask", "gate", "bias", "norm.weight", "stem.weights"):
        assert any(n in x for x in groups[0.0]) and not any(n in x for x in groups[0.03])
    group = opt.param_groups[0]
    if optimizer == "sgd":
        assert (group["momentum"], group["nesterov"]) == (0.9, True)
    else:
        assert group["betas"] == (0.9, 0.999)


# --- accumulation, clipping, precision ---

@pytest.mark.parametrize("clips", [40, 38, 16, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_accumulating_four_batches_equals_one_of_four_times_size(clips, optimizer, tmp_path):
    done = {}
    for size, accumulate in ((16, 1), (4, 4)):
        cfg = quick(optimizer=optimizer, accumulate=accumulate, grad_clip=0.05)
        model, data = Toy(norm=False, dropout=0).double(), Clips(clips, size, dtype=torch.float64)
        done[size] = weights(fit(model, data, loss_fn, cfg, tmp_path / str(size), RECIPE)), log(tmp_path / str(size))
    (whole, whole_log), (parts, parts_log) = done[16], done[4]
    steps = 3 * math.ceil(clips / 16)  # the last window of an epoch may be partial and is still a step
    assert whole_log[-1]["step"] == parts_log[-1]["step"] == steps
    for k, v in whole.items():
        torch.testing.assert_close(parts[k], v, rtol=1e-9, atol=1e-11)
    for a, b in zip(whole_log, parts_log, strict=True):
        assert a == pytest.approx(b)


@pytest.mark.parametrize("amp", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("clip", [0.02, 0.0])
def test_gradients_are_clipped_by_true_norm_at_any_loss_scale(amp, clip, tmp_path):
    model, data = Toy(norm=False, dropout=0), Clips(4, 4)
    loss_fn(model, next(data()))[0].backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
    assert norm > 0.05  # above 0.02, so that clipping has an effect
    start = {k: v.clone() for k, v in model.named_parameters()}
    cfg = quick(epochs=1, warmup_epochs=0, lr=0.1, weight_decay=0.0, grad_clip=clip, amp=amp)
    fit(model, data, loss_fn, cfg, tmp_path, RECIPE)
    moved = math.sqrt(sum((p - start[k]).square().sum().item() for k, p in model.named_parameters()))
    want = 0.1 * 1.9 * (clip or norm)  # Nesterov's first step: lr (1 + momentum) g
    assert moved == pytest.approx(want, rel=2e-2 if amp != "fp32" else 1e-4)


def test_bf16_autocast_runs_and_follows_fp32(tmp_path):
    seen, done = [], {}

    def noting(model, batch):
        seen.append(model(batch["joints"]).dtype)
        return loss_fn(model, batch)

    for amp in ("fp32", "bf16"):
        done[amp] = weights(fit(Toy(dropout=0), Clips(), noting, quick(amp=amp), tmp_path / amp, RECIPE))
    half = len(seen) // 2
    assert set(seen[:half]) == {torch.float32} and set(seen[half:]) == {torch.bfloat16}
    for a, b in zip(log(tmp_path / "fp32"), log(tmp_path / "bf16"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.05) and a["loss"] != b["loss"]
    assert all(v.dtype == done["fp32"][k].dtype for k, v in done["bf16"].items())  # master weights stay FP32


# --- averaging and batch-norm ---

class Noting(Clips):
    """Clips that note a network's weights at the start of each epoch."""

    def watch(self, model):
        self.model, self.seen = model, []
        return self

    def __call__(self, epoch=0, start=0):
        self.seen.append(weights(self.model))
        return super().__call__(epoch, start)


@pytest.mark.parametrize("start, first", [(0.5, 3), (0.0, 0), (1.0, 5)])
def test_swa_weights_are_the_mean_over_the_last_epochs(start, first, tmp_path):
    model = Toy()
    data = Noting().watch(model)
    cfg = quick(epochs=6, average="swa", swa_start=start, swa_lr=0.05)
    fit(model, data, loss_fn, cfg, tmp_path, RECIPE, plain=Clips())
    ends = [*data.seen[1:], load_checkpoint(tmp_path / "last.pt")["model"]]
    assert len(ends) == 6
    for k, v in model.named_parameters():
        torch.testing.assert_close(v.detach(), torch.stack([s[k] for s in ends[first:]]).mean(0), rtol=1e-5, atol=1e-7)


def test_ema_weights_follow_the_naive_recurrence_over_steps(tmp_path):
    seen = []

    def noting(model, batch):
        seen.append(weights(model))
        return loss_fn(model, batch)

    model = fit(Toy(), Clips(), noting, quick(average="ema", ema_decay=0.7), tmp_path, RECIPE)
    after = [*seen[1:], load_checkpoint(tmp_path / "last.pt")["model"]]
    assert len(after) == 9
    for k, v in model.named_parameters():
        mean = after[0][k]
        for s in after[1:]:
            mean = 0.7 * mean + 0.3 * s[k]
        torch.testing.assert_close(v.detach(), mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_averaging_leaves_integer_tables_alone(average, tmp_path):
    model = fit(Toy(), Clips(), loss_fn, quick(average=average, swa_start=0.0, ema_decay=0.7), tmp_path, RECIPE)
    for table in (model.table, load_checkpoint(tmp_path / "last.pt")["mean_model"]["module.table"]):
        assert table.dtype == torch.int64 and table.tolist() == [2**40 + 1, 2, 3]


class Dropped(nn.Module):
    """Dropout ahead of a norm: with dropout on, the norm's statistics would be wrong."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3, momentum=0.03), nn.Dropout(0.5))

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batches", [1, 4])
def test_refreshed_batch_norm_has_the_statistics_of_the_data(batches, training):
    x = torch.randn(40, 3) * torch.tensor([1., 2., 5.]) + torch.tensor([0., -3., 7.])
    model = Dropped().train(training)
    model(x * 9 + 4)  # stale statistics, to be forgotten
    weight, parts = weights(model)["body.1.weight"], x.chunk(batches)
    refresh_batchnorm(model, lambda: [{"joints": part} for part in parts])
    norm = model.body[1]
    torch.testing.assert_close(norm.running_mean, x.mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([part.var(0) for part in parts]).mean(0))
    assert all(m.training == training for m in model.modules())
    assert norm.momentum == 0.03 and torch.equal(norm.weight, weight)


def test_refreshing_leaves_absent_bodies_out():
    cfg, x = load_config(["recipe=lite_nano", "view.frames=8"]), torch.randn(6, 1, 8, 25, 3)
    one, two = (build_model(cfg, SKELETONS["ntu25"], 5) for _ in range(2))
    refresh_batchnorm(one, lambda: [{"joints": x}])
    refresh_batchnorm(two, lambda: [{"joints": torch.cat([x, torch.zeros_like(x)], 1)}])
    for k, v in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[k], v, msg=k)


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_averaged_weights_get_statistics_of_plain_clips(average, tmp_path):
    plain = Clips(offset=0.0)
    model = fit(Toy(), Clips(offset=50.0), loss_fn, quick(average=average), tmp_path, RECIPE, plain=plain)
    x = torch.cat([model.conv(b["joints"][:, 0].permute(0, 3, 1, 2)) for b in plain()]).detach()
    torch.testing.assert_close(model.norm.running_mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not model.training


# --- causal toggle ---

def modes(cfg, folder, seed=0, clips=12) -> list[bool]:
    """For every batch of a training, whether it was causal."""
    seen = []

    def noting(model, batch):
        seen.append(model.conv.causal)
        return loss_fn(model, batch)

    model = fit(Toy(), Clips(clips), noting, cfg, folder, RECIPE, seed)
    assert not model.conv.causal
    return seen


def test_the_causal_toggle_is_a_function_of_seed_and_step(tmp_path):
    half = quick(epochs=4, causal=0.5)
    a = modes(half, tmp_path / "a", clips=400)
    assert len(a) == 400 and abs(sum(a) / 400 - 0.5) < 0.1  # four standard deviations
    assert modes(half, tmp_path / "b", seed=1) != a[:12]
    pairs = modes(quick(epochs=10, causal=0.5, accumulate=2), tmp_path / "c", clips=24)
    assert pairs[::2] == pairs[1::2] == a[:30]  # all batches of a step agree, whatever the size of the step
    assert not any(modes(QUICK, tmp_path / "d")) and all(modes(quick(causal=1.0), tmp_path / "e"))


def test_the_causal_toggle_is_undone_when_the_loss_fails(tmp_path):
    model = Toy()
    with pytest.raises(ZeroDivisionError):
        fit(model, Clips(), lambda m, b: 1 // 0, quick(causal=1.0), tmp_path, RECIPE)
    assert not model.conv.causal
    with causal(model):
        assert model.conv.causal


# --- resume ---

class Cut(Exception):
    pass


def cut_after(monkeypatch, saves: int):
    """Let the run end right after checkpoint number `saves`, as a kill there would."""
    real, count = last.save_checkpoint, [0]

    def save(path, state):
        real(path, state)
        count[0] += 1
        if count[0] == saves:
            raise Cut

    monkeypatch.setattr(last, "save_checkpoint", save)


ARMS = {"sgd": quick(causal=0.5), "sgd-swa-accumulate": quick(average="swa", swa_start=0.4, accumulate=2, causal=0.5),
        "adamw-ema": quick(optimizer="adamw", lr=0.01, average="ema", ema_decay=0.8, causal=0.5),
        "fp16": quick(amp="fp16", causal=0.5)}


def resumes(arm, cuts, tmp_path, monkeypatch, score=None):
    """A run cut after each number of saves and continued must equal an uninterrupted one.

    The continued run starts from another network, which the checkpoint must replace.
    """
    cfg = dataclasses.replace(ARMS[arm], save_seconds=0.0)
    clips = 12 * cfg.accumulate - 2

    def run(folder, seed=0):
        return weights(fit(Toy(seed), Clips(clips), loss_fn, cfg, folder, RECIPE, 3, score=score))

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


def test_a_process_killed_anywhere_ends_with_the_same_weights(
        tmp_path, make_store, monkeypatch):
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


# --- bad checkpoints, bad numbers, bad disks ---

@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    fit(Toy(), Clips(), loss_fn, QUICK, folder, RECIPE)
    return folder


class Bomb:
    """Unpickling one creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def refused(folder, capsys, recipe=RECIPE) -> str:
    """The one line that refuses a run in this folder, with exit code 2; last.pt stays as it is."""
    before = (folder / "last.pt").read_bytes()
    with pytest.raises(SystemExit) as e:
        run(lambda argv: fit(Toy(), Clips(), loss_fn, QUICK, folder, recipe) and 0)
    printed = re.split("[\r\n]+", capsys.readouterr().err)
    lines = [line for line in printed if line and not line.startswith("train:")]  # train: is the progress bar
    assert e.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and "last.pt" in lines[0]
    assert (folder / "last.pt").read_bytes() == before
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
    return lines[0]


DAMAGE = {"empty": lambda b: b"", "text": lambda b: b"not a checkpoint\n", "half": lambda b: b[:len(b) // 2],
          "first bytes": lambda b: b[:10], "all but one": lambda b: b[:-1], "zeros": lambda b: bytes(len(b)),
          "pickle that ends early": lambda b: b"\x80\x02.", "opcode": lambda b: b"0",
          "torn head": lambda b: bytes(100) + b[100:]}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_last_pt_is_one_line_and_is_left_alone(damage, finished, tmp_path, capsys):
    (tmp_path / "last.pt").write_bytes(DAMAGE[damage]((finished / "last.pt").read_bytes()))
    assert "damaged" in refused(tmp_path, capsys)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40).flatmap(lambda b: st.sampled_from([b, b"\x80\x02" + b])))
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_bytes_at_all_crash_the_loader(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.pt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="fuzz.pt"):
        load_checkpoint(path)


def test_one_changed_bit_of_a_checkpoint_is_noticed(finished, tmp_path):
    data = bytearray((finished / "last.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "last.pt").write_bytes(data)
    with pytest.raises(ValueError, match=r"last\.pt is damaged"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("value", [{}, [1, 2], {"recipe": json.dumps(RECIPE)},
                                   {"recipe": json.dumps(RECIPE), "model": {"other": torch.zeros(2)}}],
                         ids=["empty", "list", "recipe alone", "other network"])
def test_a_last_pt_of_other_content_is_one_line_and_stays(value, tmp_path, capsys):
    torch.save(value, tmp_path / "last.pt")
    refused(tmp_path, capsys)


def test_a_last_pt_of_another_recipe_names_the_difference(finished, tmp_path, capsys):
    shutil.copy(finished / "last.pt", tmp_path)
    line = refused(tmp_path, capsys, {"toy": 2, "train": {"lr": 1.0}})
    assert "another recipe" in line and "toy was 1, is 2" in line and "out=" in line


def test_a_new_field_that_is_off_makes_no_other_recipe():
    old = {"train": {"lr": 0.1}, "data": {"name": "a"}}
    assert differences(old, {"train": {"lr": 0.1, "new": False}, "data": {"name": "a", "fill": 0}, "init": ""}) == ""
    assert differences(old, {"train": {"lr": 0.1, "new": 2}, "data": {"name": "a"}}) == "train.new was None, is 2"
    assert differences(old, {"train": {"lr": 0.1}, "data": {}}) == "data.name was 'a', is None"


@pytest.mark.parametrize("form", ["pickle", "torch"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_bomb_does_not_go_off(form, tmp_path, capsys):
    bomb = {"recipe": json.dumps(RECIPE), "model": Bomb(tmp_path / "boom")}
    if form == "pickle":
        (tmp_path / "last.pt").write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, tmp_path / "last.pt")
    refused(tmp_path, capsys)
    assert not (tmp_path / "boom").exists()


class Poisoned(Clips):
    """Clips with one batch that is NaN."""

    def __init__(self, epoch: int, batch: int):
        super().__init__()
        self.poison = epoch, batch

    def __call__(self, epoch=0, start=0):
        for n, batch in enumerate(super().__call__(epoch, start), start):
            factor = math.nan if (epoch, n) == self.poison else 1
            yield {**batch, "joints": batch["joints"] * factor}


def test_a_loss_not_finite_names_step_and_last_good_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"not finite at step 7 \(epoch 2\).*last\.pt") as e:
        fit(Toy(), Poisoned(2, 1), loss_fn, quick(save_seconds=0.0), tmp_path, RECIPE)
    assert "\n" not in str(e.value)
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["at"]["epoch"] == 2 and state["at"]["step"] == 1
    assert all(v.isfinite().all() for v in state["model"].values())
    whole = fit(Toy(), Clips(), loss_fn, quick(save_seconds=0.0), tmp_path / "whole", RECIPE)
    healed = fit(Toy(1), Clips(), loss_fn, quick(save_seconds=0.0), tmp_path, RECIPE)  # continues from last.pt
    assert equal(weights(healed), weights(whole))


def test_a_loss_not_finite_from_the_start_says_nothing_was_saved(tmp_path):
    with pytest.raises(ValueError, match="step 0 .*no checkpoint"):
        fit(Toy(), Poisoned(0, 0), loss_fn, quick(save_seconds=0.0), tmp_path, RECIPE)
    assert not (tmp_path / "last.pt").exists()


@pytest.mark.parametrize("step", [4, 5, 8], ids=["within", "end of an epoch", "last"])
def test_weights_not_finite_never_replace_a_good_checkpoint(step, tmp_path):
    seen = [0]

    def broken(model, batch):  # a finite loss without a finite gradient: sqrt at 0
        seen[0] += 1
        loss, metrics = loss_fn(model, batch)
        return loss + ((0 * loss).sqrt() if seen[0] == step + 1 else 0), metrics

    with pytest.raises(ValueError, match="not finite"):
        fit(Toy(), Clips(), broken, quick(save_seconds=0.0), tmp_path, RECIPE)
    assert all(v.isfinite().all() for v in load_checkpoint(tmp_path / "last.pt")["model"].values())


def test_a_full_disk_is_one_line_and_keeps_the_checkpoint_before(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, 1)
        fit(Toy(), Clips(), loss_fn, QUICK, tmp_path, RECIPE)
    limits, size = resource.getrlimit(resource.RLIMIT_FSIZE), (tmp_path / "last.pt").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))  # a larger file fails as on a full disk
    try:
        assert "last.pt" in refused(tmp_path, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(tmp_path / "last.pt")["at"]["epoch"] == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit) as e:
        run(lambda argv: fit(Toy(), Clips(), loss_fn, QUICK, tmp_path / "file" / "run", RECIPE) and 0)
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1 and "file" in err


def test_a_checkpoint_that_cannot_be_placed_keeps_the_old_one(finished, tmp_path, monkeypatch):
    shutil.copy(finished / "last.pt", tmp_path)
    before = (tmp_path / "last.pt").read_bytes()

    def read_only(a, b):
        raise OSError(30, "Read-only file system", str(b))

    monkeypatch.setattr(os, "replace", read_only)
    with pytest.raises(OSError, match="Read-only"):
        last.save_checkpoint(tmp_path / "last.pt", {"a": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"] and (tmp_path / "last.pt").read_bytes() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, None])
def test_atomic_gives_all_or_nothing(error, tmp_path):
    path = tmp_path / "deep" / "file"
    for text in ("old", "new"):
        try:
            with atomic(path) as part:
                part.write_text(text)
                assert not path.exists() or path.read_text() == "old"
                if error and text == "new":
                    raise error
        except (ValueError, KeyboardInterrupt):
            pass
    assert path.read_text() == ("old" if error else "new") and list(path.parent.iterdir()) == [path]


def test_leftovers_of_killed_processes_alone_are_deleted(tmp_path):
    killed = subprocess.Popen(["true"])
    killed.wait()
    for pid in (killed.pid, os.getppid(), 2**40):
        (tmp_path / f".file.{pid}").write_text("half")
    (tmp_path / ".file.old").write_text("not ours")
    with atomic(tmp_path / "file") as part:
        part.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {"file", ".file.old", f".file.{os.getppid()}"}


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.readlink(f"/proc/self/fd/{handle}")))
    monkeypatch.setattr(os, "replace", lambda a, b: done.append(str(b)) or replace(a, b))
    write_json(tmp_path / "file", {})
    assert done == [str(tmp_path / f".file.{os.getpid()}"), str(tmp_path / "file"), str(tmp_path)]


def test_a_checkpoint_larger_than_its_bytes_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "last.pt", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("archive/data/0", bytes(1 << 24))
    with pytest.raises(ValueError, match=r"last\.pt is damaged .*claims more bytes than it has"):
        load_checkpoint(tmp_path / "last.pt")


# --- outcome ---

class OneBatch:
    """Batches of a single batch."""

    def __init__(self, batch: dict):
        self.batch = batch

    def __len__(self):
        return 1

    def __call__(self, epoch=0, start=0):
        return iter([self.batch][start:])


def test_a_random_batch_of_unit_variance_is_learned_by_heart(tmp_path):
    # averaging, because it refreshes batch-norm statistics, which lag after so few steps
    cfg = load_config(["recipe=lite_nano", "view.frames=8", "model.dropout=0", "train.epochs=50", "train.lr=0.05",
                       "train.average=swa", "train.amp=fp32"])
    model, g = build_model(cfg, SKELETONS["ntu25"], 8), torch.Generator().manual_seed(1)
    data = OneBatch({"joints": torch.randn(16, 1, 8, 25, 3, generator=g), "label": torch.arange(16) % 8})
    fit(model, data, last.classification_loss(cfg.train), cfg.train, tmp_path, RECIPE)
    assert accuracy(*predict(model, data))["top1"] == 100
    assert log(tmp_path)[0]["loss"] > 1.5 and log(tmp_path)[-1]["loss"] < 0.1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(2, 9), st.integers(0, 2**31))
def test_accuracy_equals_a_naive_count(n, K, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.permutation(n * K).reshape(n, K).astype(np.float32), rng.integers(0, K, n)  # no ties
    got = accuracy(torch.from_numpy(logits), torch.from_numpy(labels))
    top1, top5, table = 0, 0, [[0] * K for _ in range(K)]
    for row, label in zip(logits, labels, strict=True):
        ranked = sorted(range(K), key=lambda k, row=row: -row[k])
        top1 += ranked[0] == label
        top5 += label in ranked[:5]
        table[label][ranked[0]] += 1
    assert got["clips"] == n and got["confusion"] == table
    assert got["top1"] == pytest.approx(100 * top1 / n) and got["top5"] == pytest.approx(100 * top5 / n)
    for k, recall in enumerate(got["per_class"]):
        total = sum(table[k])
        assert recall == (pytest.approx(100 * table[k][k] / total) if total else None)
    assert len(got["per_class"]) == K


def test_a_network_that_cannot_tell_gets_no_credit_in_top_5():
    label = torch.zeros(3, dtype=torch.long)
    assert accuracy(torch.zeros(3, 9), label)["top5"] == 0
    assert accuracy(torch.full((3, 9), math.nan), label)["top5"] == 0
    assert accuracy(torch.eye(9)[label], label)["top5"] == 100


def test_predict_sees_every_clip_once_in_order_without_dropout():
    model, data = Toy(dropout=0.9), Clips(10, 4, shuffle=False)
    logits, labels = predict(model.train(), data)
    assert torch.equal(labels, data.y) and logits.dtype == torch.float32
    torch.testing.assert_close(logits, model.eval()(data.x))
    assert not torch.equal(predict(model, data, is_causal=True)[0], logits) and not model.conv.causal


@pytest.mark.parametrize("refreshed, keeps, least", [(30.0, True, 0.0), (29.0, False, 0.0), (29.0, False, -100.0)])
def test_validation_keeps_the_best_epoch_with_better_statistics(refreshed, keeps, least, tmp_path):
    seen, scores = [], iter([least + score for score in (10.0, 30.0, 20.0, 30.0, refreshed)])

    def score(model):
        seen.append(weights(model))
        return next(scores)

    model = fit(Toy(), Clips(), loss_fn, quick(epochs=4), tmp_path, RECIPE, score=score)
    best = Toy()
    best.load_state_dict(seen[1])
    last.refresh_batchnorm(best, Clips())
    best, got = weights(best), weights(model)
    assert not equal(seen[1], best) and not equal(seen[1], seen[3])  # of equal epochs the first counts
    assert equal(got, best if keeps else seen[1])
    assert [e["validation"] - least for e in log(tmp_path)] == [10.0, 30.0, 20.0, 30.0]


def test_validation_keeps_the_best_epoch_of_a_long_run_as_it_was(tmp_path):
    seen, scores = [], iter([*range(40), *range(30)])

    def score(model):
        seen.append(weights(model))
        return next(scores)

    model = fit(Toy(), Clips(), loss_fn, quick(epochs=70), tmp_path, RECIPE, score=score)
    assert len(seen) == 70 and equal(weights(model), seen[39]) and not equal(seen[39], seen[69])


@pytest.mark.parametrize("average", ["swa", "ema"])
@pytest.mark.parametrize("last_score, keeps", [(29.0, "epoch"), (30.0, "average"), (31.0, "average")])
def test_validation_chooses_best_epoch_or_average(average, last_score, keeps, tmp_path):
    seen, scores = [], iter([10.0, 30.0, 20.0, last_score])

    def score(model):
        seen.append(weights(model))
        return next(scores)

    model = fit(Toy(), Clips(), loss_fn, quick(epochs=3, average=average), tmp_path / "a", RECIPE, score=score)
    mean = weights(fit(Toy(), Clips(), loss_fn, quick(epochs=3, average=average), tmp_path / "b", RECIPE))
    assert not equal(seen[1], mean) and equal(weights(model), {"epoch": seen[1], "average": mean}[keeps])


def test_metrics_hold_one_line_an_epoch_with_means_over_clips(tmp_path):
    losses = []

    def noting(model, batch):
        loss, metrics = loss_fn(model, batch)
        losses.append((loss.item(), metrics["top1"].item(), len(batch["label"])))
        return loss, metrics

    fit(Toy(), Clips(10, 4), noting, QUICK, tmp_path, RECIPE)
    lines = log(tmp_path)
    assert [(e["epoch"], e["step"]) for e in lines] == [(0, 3), (1, 6), (2, 9)]
    assert [clips for *_, clips in losses] == [4, 4, 2] * 3
    for e, part in zip(lines, (losses[:3], losses[3:6], losses[6:]), strict=True):
        assert e["loss"] == pytest.approx(sum(loss * clips for loss, _, clips in part) / 10)
        assert e["top1"] == pytest.approx(sum(top1 * clips for _, top1, clips in part) / 10)


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
