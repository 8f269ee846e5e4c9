"""Trainer: schedule, groups, accumulation, averaging, checkpoints and resume, each against a plain restatement on a toy network."""
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

import numpy as np
import pytest
import recipe
import run
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe import ROOT, cli
from torch import nn

import last
from last import (
    TemporalConv,
    Train,
    accuracy,
    atomic,
    causal,
    fit,
    load_checkpoint,
    lr_at,
    make_optimizer,
    predict,
    refresh_batchnorm,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """So small a network is fastest on one thread, many times so on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


RECIPE = {"toy": 1}
QUICK = Train(epochs=3, batch=4, warmup_epochs=1, warmup_lr=0.01, lr=0.1, amp="fp32", save_seconds=1e9)


class Toy(nn.Module):
    """One of each kind of state: convolution that may be causal, batch-norm, dropout, and a table of integers too large for float32."""

    def __init__(self, seed: int = 0, norm: bool = True, dropout: float = 0.2):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = TemporalConv(3, 6, 3)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(6, 4)
        self.register_buffer("table", torch.tensor([2**40 + 1, 2, 3]))

    def forward(self, joints):                                                              # b m t v 3
        x = self.norm(self.conv(joints[:, 0].permute(0, 3, 1, 2)))
        return self.linear(self.dropout(x.relu().mean((2, 3))))


class Clips:
    """Batches of fixed random clips, in a new order each epoch; notes the epochs it was asked for. offset shifts the clips."""

    def __init__(self, clips: int = 12, size: int = 4, shuffle: bool = True, offset: float = 0.0, dtype=torch.float32):
        g = torch.Generator().manual_seed(5)
        self.x, self.y = torch.randn(clips, 1, 6, 2, 3, generator=g).to(dtype) + offset, torch.randint(4, (clips,), generator=g)
        self.size, self.shuffle, self.asked = size, shuffle, []

    def __len__(self):
        return math.ceil(len(self.x) / self.size)

    def __call__(self, epoch=0, start=0):
        self.asked.append(epoch)
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(epoch)) if self.shuffle else torch.arange(len(self.x))
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
    """metrics.jsonl without the seconds, the one thing that a resume may change."""
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (folder / "metrics.jsonl").read_text().splitlines()]


def with_(**changes) -> Train:
    return dataclasses.replace(QUICK, **changes)


# --- schedule and optimiser ---

@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 14), st.integers(1, 9), st.sampled_from(["none", "swa", "ema"]), st.floats(0, 1),
       st.sampled_from([0.0, 0.07]), st.data())
def test_lr_is_warm_up_then_cosine_to_the_floor_or_constant_under_swa(epochs, warm, steps, average, start, swa_lr, data):
    cfg = with_(epochs=epochs, warmup_epochs=warm, average=average, swa_start=start, lr=0.5, warmup_lr=0.02, min_lr=0.003, swa_lr=swa_lr)
    step = data.draw(st.integers(0, epochs * steps - 1))
    if step // steps < warm:
        share = (step + 1) / (warm * steps)
        want = 0.02 * (1 - share) + 0.5 * share
    elif swa_lr and average == "swa" and (step // steps >= math.floor(start * epochs) or step // steps == epochs - 1):
        want = 0.07
    else:
        first = min(math.floor(start * epochs), epochs - 1) if average == "swa" else epochs  # epoch from which the cosine stands still
        turn = (min(step, max(first, warm) * steps) - warm * steps) / ((epochs - warm) * steps)
        want = 0.5 * 0.5 * (1 + math.cos(math.pi * turn)) + 0.003 * 0.5 * (1 - math.cos(math.pi * turn))
    assert lr_at(step, cfg, steps) == pytest.approx(want) == pytest.approx(lr_at(step, cfg, steps))


def test_the_schedule_reaches_its_peak_falls_steadily_and_ends_near_its_floor():
    cfg = with_(epochs=20, warmup_epochs=4, min_lr=1e-4)
    rates = [lr_at(s, cfg, 10) for s in range(200)]
    assert max(rates) == rates[39] == cfg.lr and rates == sorted(rates[:40]) + sorted(rates[40:], reverse=True)
    assert cfg.min_lr <= rates[-1] < cfg.min_lr + 1e-4


def test_every_step_is_made_at_the_rate_of_the_schedule(tmp_path, monkeypatch):
    seen, step = [], torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *a, **k: (seen.append({g["lr"] for g in self.param_groups}), step(self, *a, **k))[1])
    cfg = with_(accumulate=2, average="swa", swa_start=0.5)
    fit(Toy(), Clips(20), loss_fn, cfg, tmp_path, RECIPE)
    assert seen == [{lr_at(s, cfg, 3)} for s in range(9)]
    assert [e["lr"] for e in log(tmp_path)] == [lr_at(s, cfg, 3) for s in (2, 5, 8)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("row", ["L5", "lite_nano"])
def test_weight_decay_falls_on_kernels_and_linear_weights_alone(optimizer, row):
    cfg = recipe.load_config([f"recipe={row}", f"train.optimizer={optimizer}", "train.weight_decay=0.03", "train.adamw_decay=0.03"])
    model = run.build_model(cfg, last.SKELETONS["ntu25"], 10)
    opt = make_optimizer(model, cfg.train)
    name = {id(p): n for n, p in model.named_parameters()}
    groups = {g["weight_decay"]: {name[id(p)] for p in g["params"]} for g in opt.param_groups}
    kernels = {n for n, p in model.named_parameters() if n.endswith(".weight") and p.ndim in (2, 4)}  # a norm's weight has one axis
    assert groups == {0.03: kernels, 0.0: set(name.values()) - kernels}
    assert sum(len(g["params"]) for g in opt.param_groups) == len(name)
    for n in ("embedding", "mask", "gate", "bias", "norm.weight", "stem.weights"):
        assert any(n in x for x in groups[0.0]) and not any(n in x for x in groups[0.03])
    g = opt.param_groups[0]
    assert (g["momentum"], g["nesterov"]) == (0.9, True) if optimizer == "sgd" else g["betas"] == (0.9, 0.999)


# --- accumulation, clipping, precision ---

@pytest.mark.parametrize("clips", [40, 38, 16, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_accumulating_four_batches_equals_one_batch_of_four_times_the_size(clips, optimizer, tmp_path):
    done = {}
    for size, accumulate in ((16, 1), (4, 4)):
        cfg, data = with_(optimizer=optimizer, accumulate=accumulate, clip=0.05), Clips(clips, size, dtype=torch.float64)
        model = Toy(norm=False, dropout=0).double()
        done[size] = weights(fit(model, data, loss_fn, cfg, tmp_path / str(size), RECIPE)), log(tmp_path / str(size))
    assert done[16][1][-1]["step"] == done[4][1][-1]["step"] == 3 * math.ceil(clips / 16)  # the last, partial window is a step
    for k, v in done[16][0].items():
        torch.testing.assert_close(done[4][0][k], v, rtol=1e-9, atol=1e-11)
    for a, b in zip(done[16][1], done[4][1], strict=True):
        assert a == pytest.approx(b)


@pytest.mark.parametrize("amp", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("clip", [0.02, 0.0])
def test_the_gradient_is_clipped_by_its_true_norm_whatever_the_loss_scale(amp, clip, tmp_path):
    model, data = Toy(norm=False, dropout=0), Clips(4, 4)
    loss_fn(model, next(data()))[0].backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
    assert norm > 0.05  # so that clipping to 0.02 bites
    start = {k: v.clone() for k, v in model.named_parameters()}
    fit(model, data, loss_fn, with_(epochs=1, warmup_epochs=0, lr=0.1, weight_decay=0.0, clip=clip, amp=amp), tmp_path, RECIPE)
    moved = math.sqrt(sum((p - start[k]).square().sum().item() for k, p in model.named_parameters()))
    assert moved == pytest.approx(0.1 * 1.9 * (clip or norm), rel=2e-2 if amp != "fp32" else 1e-4)  # Nesterov's first step: (1 + 0.9) lr g


def test_bf16_autocast_runs_and_follows_fp32(tmp_path):
    seen, done = [], {}

    def noting(model, batch):
        seen.append(model(batch["joints"]).dtype)
        return loss_fn(model, batch)
    for amp in ("fp32", "bf16"):
        done[amp] = weights(fit(Toy(dropout=0), Clips(), noting, with_(amp=amp), tmp_path / amp, RECIPE)), log(tmp_path / amp)
    assert set(seen[:len(seen) // 2]) == {torch.float32} and set(seen[len(seen) // 2:]) == {torch.bfloat16}
    for a, b in zip(done["fp32"][1], done["bf16"][1], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.05) and a["loss"] != b["loss"]
    assert all(v.dtype == done["fp32"][0][k].dtype for k, v in done["bf16"][0].items())  # master weights stay FP32


# --- averaging and batch-norm ---

class Noting(Clips):
    """Notes a network's weights at the start of each epoch."""

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
    fit(model, data, loss_fn, with_(epochs=6, average="swa", swa_start=start, swa_lr=0.05), tmp_path, RECIPE, plain=Clips())
    ends = [*data.seen[1:], load_checkpoint(tmp_path / "last.pt")["model"]]
    assert len(ends) == 6
    for k, v in model.named_parameters():
        torch.testing.assert_close(v.detach(), torch.stack([s[k] for s in ends[first:]]).mean(0), rtol=1e-5, atol=1e-7)


def test_ema_weights_follow_the_naive_recurrence_over_steps(tmp_path):
    seen = []

    def noting(model, batch):
        seen.append(weights(model))
        return loss_fn(model, batch)
    model = fit(Toy(), Clips(), noting, with_(average="ema", ema_decay=0.7), tmp_path, RECIPE)
    after = [*seen[1:], load_checkpoint(tmp_path / "last.pt")["model"]]
    assert len(after) == 9
    for k, v in model.named_parameters():
        mean = after[0][k]
        for s in after[1:]:
            mean = 0.7 * mean + 0.3 * s[k]
        torch.testing.assert_close(v.detach(), mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_averaging_leaves_integer_tables_alone(average, tmp_path):
    model = fit(Toy(), Clips(), loss_fn, with_(average=average, swa_start=0.0, ema_decay=0.7), tmp_path, RECIPE)
    for table in (model.table, load_checkpoint(tmp_path / "last.pt")["mean_model"]["module.table"]):
        assert table.dtype == torch.int64 and table.tolist() == [2**40 + 1, 2, 3]


class Dropped(nn.Module):
    """Dropout ahead of a norm: statistics taken with dropout on are wrong."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3, momentum=0.03), nn.Dropout(0.5))

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batches", [1, 4])
def test_refreshed_batch_norm_has_the_exact_statistics_of_the_data(batches, training):
    x = torch.randn(40, 3) * torch.tensor([1., 2., 5.]) + torch.tensor([0., -3., 7.])
    model = Dropped().train(training)
    model(x * 9 + 4)  # stale statistics, to be forgotten
    weight = weights(model)["body.1.weight"]
    refresh_batchnorm(model, lambda: [{"joints": part} for part in x.chunk(batches)])
    norm = model.body[1]
    torch.testing.assert_close(norm.running_mean, x.mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([part.var(0) for part in x.chunk(batches)]).mean(0))
    assert norm.momentum == 0.03 and all(m.training == training for m in model.modules()) and torch.equal(norm.weight, weight)


def test_refreshing_leaves_absent_bodies_out():
    cfg, x = recipe.load_config(["recipe=lite_nano", "view.frames=8"]), torch.randn(6, 1, 8, 25, 3)
    one, two = (run.build_model(cfg, last.SKELETONS["ntu25"], 5) for _ in range(2))
    refresh_batchnorm(one, lambda: [{"joints": x}])
    refresh_batchnorm(two, lambda: [{"joints": torch.cat([x, torch.zeros_like(x)], 1)}])
    for k, v in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[k], v, msg=k)


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_averaged_weights_get_statistics_of_plain_clips_not_of_augmented_ones(average, tmp_path):
    plain = Clips(offset=0.0)
    model = fit(Toy(), Clips(offset=50.0), loss_fn, with_(average=average), tmp_path, RECIPE, plain=plain)
    x = torch.cat([model.conv(b["joints"][:, 0].permute(0, 3, 1, 2)) for b in plain()]).detach()
    torch.testing.assert_close(model.norm.running_mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not model.training


# --- causal toggle ---

def modes(cfg, folder, seed=0, clips=12):
    seen = []

    def noting(model, batch):
        seen.append(model.conv.causal)
        return loss_fn(model, batch)
    model = fit(Toy(), Clips(clips), noting, cfg, folder, RECIPE, seed)
    assert not model.conv.causal
    return seen


def test_the_causal_toggle_is_a_function_of_seed_and_step(tmp_path):
    half = with_(epochs=4, causal=0.5)
    a = modes(half, tmp_path / "a", clips=400)
    assert len(a) == 400 and abs(sum(a) / 400 - 0.5) < 0.1  # four standard deviations
    assert modes(half, tmp_path / "b", seed=1) != a[:12]
    pairs = modes(with_(epochs=10, causal=0.5, accumulate=2), tmp_path / "c", clips=24)
    assert pairs[::2] == pairs[1::2] == a[:30]  # all batches of a step agree, whatever the size of the step
    assert not any(modes(QUICK, tmp_path / "d")) and all(modes(with_(causal=1.0), tmp_path / "e"))


def test_the_causal_toggle_is_undone_when_the_loss_fails(tmp_path):
    model = Toy()
    with pytest.raises(ZeroDivisionError):
        fit(model, Clips(), lambda m, b: 1 // 0, with_(causal=1.0), tmp_path, RECIPE)
    assert not model.conv.causal
    with causal(model):
        assert model.conv.causal


# --- resume ---

class Cut(Exception):
    pass


def cut_after(monkeypatch, saves: int):
    """Let the run end right after its n-th checkpoint, as a kill there would."""
    real, count = last.save_checkpoint, [0]

    def save(path, state):
        real(path, state)
        count[0] += 1
        if count[0] == saves:
            raise Cut
    monkeypatch.setattr(last, "save_checkpoint", save)


ARMS = {"sgd": with_(causal=0.5), "sgd-swa-accumulate": with_(average="swa", swa_start=0.4, accumulate=2, causal=0.5),
        "adamw-ema": with_(optimizer="adamw", lr=0.01, average="ema", ema_decay=0.8, causal=0.5), "fp16": with_(amp="fp16", causal=0.5)}


def resumes(arm, cuts, tmp_path, monkeypatch, score=None):
    """Run uninterrupted, then cut after each number of saves and continued, with a network that starts elsewhere."""
    cfg = dataclasses.replace(ARMS[arm], save_seconds=0.0)
    clips = 12 * cfg.accumulate - 2
    run = lambda folder, seed=0: weights(fit(Toy(seed), Clips(clips), loss_fn, cfg, folder, RECIPE, 3, score=score))  # noqa: E731
    want = run(tmp_path / "whole")
    for cut in cuts:
        folder = tmp_path / f"cut{cut}"
        with monkeypatch.context() as m, pytest.raises(Cut):
            cut_after(m, cut)
            run(folder)
        torch.manual_seed(99 + cut)  # whatever the random state of the new process
        assert equal(run(folder, seed=7), want), f"cut after save {cut}"
        assert log(folder) == log(tmp_path / "whole") and len(log(folder)) == cfg.epochs


@pytest.mark.parametrize("arm", ARMS)
def test_a_cut_run_continued_equals_an_uninterrupted_one_bit_for_bit(arm, tmp_path, monkeypatch):
    resumes(arm, [1, 2, 4, 5, 6, 8, 9, 10, 12], tmp_path, monkeypatch)  # 3 steps and the end of the epoch, three times


def test_a_run_cut_between_the_last_step_of_an_epoch_and_its_end_goes_on_too(tmp_path, monkeypatch):
    resumes("sgd", [3, 7, 11], tmp_path, monkeypatch)


def test_a_continued_run_remembers_its_best_epoch(tmp_path, monkeypatch):
    score = lambda model: float(model.linear.weight.detach().abs().sum() * 1000 % 97)  # noqa: E731
    resumes("sgd", [2, 4, 8, 12], tmp_path, monkeypatch, score)


def test_a_finished_run_called_again_trains_no_further(tmp_path):
    first = weights(fit(Toy(), Clips(), loss_fn, with_(average="swa"), tmp_path, RECIPE))
    data = Clips()
    again = fit(Toy(1), data, lambda m, b: 1 // 0, with_(average="swa"), tmp_path, RECIPE)
    assert equal(weights(again), first) and len(log(tmp_path)) == 3


def test_lines_logged_after_the_last_checkpoint_are_not_logged_twice(tmp_path, monkeypatch):
    fit(Toy(), Clips(), loss_fn, QUICK, tmp_path / "a", RECIPE)
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, 1)
        fit(Toy(), Clips(), loss_fn, QUICK, tmp_path / "b", RECIPE)
    with open(tmp_path / "b" / "metrics.jsonl", "a") as f:
        f.write('{"epoch": 1, "cut": "before its checkpo')
    fit(Toy(), Clips(), loss_fn, QUICK, tmp_path / "b", RECIPE)
    assert log(tmp_path / "b") == log(tmp_path / "a") and [e["epoch"] for e in log(tmp_path / "a")] == [0, 1, 2]


# --- a real process, really killed ---

KILL_ME = """import os, runpy, signal, sys, torch
real = torch.save
def half(state, path):  # the first checkpoint is cut in its middle
    real(state, path)
    os.truncate(path, os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_process_killed_at_random_moments_and_run_again_ends_with_the_same_weights(tmp_path, make_store):
    make_store(tmp_path / "store")
    argv = [str(ROOT / "phases/p1_train.py"), "recipe=lite_nano", f"data.store={tmp_path / 'store'}", "data.name=tiny", "data.num_classes=3",
            "view.frames=8", "device=cpu", "train.epochs=4", "train.batch=4", "train.warmup_epochs=1", "train.causal=0.5",
            "train.average=swa", "train.save_seconds=0"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run, out = "runs/lite_nano/tiny-xsub/seed0", {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    subprocess.run([sys.executable, *argv], cwd=tmp_path / "whole", env=env, check=True, **out)
    seconds = sum(json.loads(line)["seconds"] for line in (tmp_path / "whole" / run / "metrics.jsonl").read_text().splitlines())

    died = subprocess.run([sys.executable, "-c", KILL_ME, *argv], cwd=tmp_path / "killed", env=env, **out)
    folder, kills = tmp_path / "killed" / run, 0
    assert died.returncode == -signal.SIGKILL and not (folder / "last.pt").exists()
    for _ in range(3):
        started = time.time()
        p = subprocess.Popen([sys.executable, *argv], cwd=tmp_path / "killed", env=env, **out)
        while p.poll() is None and not ((folder / "recipe.json").exists() and (folder / "recipe.json").stat().st_mtime > started):
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.6 * seconds))
        p.kill()
        kills += p.wait() == -signal.SIGKILL
        _, err = p.communicate()
        assert p.returncode in (0, -signal.SIGKILL), err.decode()
    assert kills >= 1
    subprocess.run([sys.executable, *argv], cwd=tmp_path / "killed", env=env, check=True, **out)
    a, b = (load_checkpoint(tmp_path / name / run / "final.pt") for name in ("whole", "killed"))
    assert equal(a["model"], b["model"]) and a["recipe"] == b["recipe"]
    assert log(folder) == log(tmp_path / "whole" / run) and len(log(folder)) == 4
    a, b = (np.load(tmp_path / name / run / "scores.npz") for name in ("whole", "killed"))
    assert np.array_equal(a["logits"], b["logits"])


# --- bad checkpoints, bad numbers, bad disks ---

@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    fit(Toy(), Clips(), loss_fn, QUICK, folder, RECIPE)
    return folder


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def refused(folder, capsys, recipe=RECIPE) -> str:
    """The one line with which a run in this folder is refused, exit code 2, last.pt untouched."""
    before = (folder / "last.pt").read_bytes()
    with pytest.raises(SystemExit) as e:
        cli(lambda argv: fit(Toy(), Clips(), loss_fn, QUICK, folder, recipe) and 0)
    lines = [line for line in re.split("[\r\n]+", capsys.readouterr().err) if line and not line.startswith("train:")]  # beside the progress bar
    assert e.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and "last.pt" in lines[0]
    assert (folder / "last.pt").read_bytes() == before and [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
    return lines[0]


DAMAGE = {"empty": lambda b: b"", "text": lambda b: b"not a checkpoint\n", "half": lambda b: b[:len(b) // 2], "first bytes": lambda b: b[:10],
          "all but one": lambda b: b[:-1], "zeros": lambda b: bytes(len(b)), "pickle that ends early": lambda b: b"\x80\x02.",
          "opcode": lambda b: b"0", "torn head": lambda b: bytes(100) + b[100:]}


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


@pytest.mark.parametrize("value", [{}, [1, 2], {"recipe": json.dumps(RECIPE)}, {"recipe": json.dumps(RECIPE), "model": {"other": torch.zeros(2)}}],
                         ids=["empty", "list", "recipe alone", "other network"])
def test_a_last_pt_of_other_content_is_one_line_and_is_left_alone(value, tmp_path, capsys):
    torch.save(value, tmp_path / "last.pt")
    refused(tmp_path, capsys)


def test_a_last_pt_of_another_recipe_names_the_difference(finished, tmp_path, capsys):
    shutil.copy(finished / "last.pt", tmp_path)
    line = refused(tmp_path, capsys, {"toy": 2, "train": {"lr": 1.0}})
    assert "another recipe" in line and "toy was 1, is 2" in line and "out=" in line


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


def poisoned(at_epoch, at_batch):
    class Poisoned(Clips):
        def __call__(self, epoch=0, start=0):
            for n, batch in enumerate(super().__call__(epoch, start), start):
                yield {**batch, "joints": batch["joints"] * (math.nan if (epoch, n) == (at_epoch, at_batch) else 1)}
    return Poisoned()


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_last_good_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"not finite at step 7 \(epoch 2\).*last\.pt") as e:
        fit(Toy(), poisoned(2, 1), loss_fn, with_(save_seconds=0.0), tmp_path, RECIPE)
    assert "\n" not in str(e.value)
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["at"]["epoch"] == 2 and state["at"]["step"] == 1 and all(v.isfinite().all() for v in state["model"].values())
    whole = fit(Toy(), Clips(), loss_fn, with_(save_seconds=0.0), tmp_path / "whole", RECIPE)
    healed = fit(Toy(1), Clips(), loss_fn, with_(save_seconds=0.0), tmp_path, RECIPE)  # and from there it can go on
    assert equal(weights(healed), weights(whole))


def test_a_loss_that_is_not_finite_from_the_start_says_that_nothing_was_saved(tmp_path):
    with pytest.raises(ValueError, match="step 0 .*no checkpoint"):
        fit(Toy(), poisoned(0, 0), loss_fn, with_(save_seconds=0.0), tmp_path, RECIPE)
    assert not (tmp_path / "last.pt").exists()


@pytest.mark.parametrize("step", [4, 5, 8], ids=["within", "end of an epoch", "last"])
def test_weights_that_are_not_finite_never_replace_a_good_checkpoint(step, tmp_path):
    seen = [0]

    def broken(model, batch):  # a finite loss whose gradient is not: d sqrt(0)
        seen[0] += 1
        loss, metrics = loss_fn(model, batch)
        return loss + ((0 * loss).sqrt() if seen[0] == step + 1 else 0), metrics
    with pytest.raises(ValueError, match="not finite"):
        fit(Toy(), Clips(), broken, with_(save_seconds=0.0), tmp_path, RECIPE)
    assert all(v.isfinite().all() for v in load_checkpoint(tmp_path / "last.pt")["model"].values())


def test_a_full_disk_is_one_line_and_keeps_the_checkpoint_before(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, 1)
        fit(Toy(), Clips(), loss_fn, QUICK, tmp_path, RECIPE)
    limits, size = resource.getrlimit(resource.RLIMIT_FSIZE), (tmp_path / "last.pt").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))  # no file may grow beyond: a write fails as on a full disk
    try:
        assert "last.pt" in refused(tmp_path, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(tmp_path / "last.pt")["at"]["epoch"] == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit) as e:
        cli(lambda argv: fit(Toy(), Clips(), loss_fn, QUICK, tmp_path / "file" / "run", RECIPE) and 0)
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1 and "file" in err


def test_a_checkpoint_that_cannot_take_its_place_keeps_the_one_before(finished, tmp_path, monkeypatch):
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


# --- outcome ---

def test_a_random_batch_of_unit_variance_is_learned_by_heart(tmp_path):
    cfg = recipe.load_config(["recipe=lite_nano", "view.frames=8", "model.dropout=0", "train.epochs=50", "train.lr=0.05",
                            "train.average=swa", "train.amp=fp32"])  # the mean refreshes batch-norm, which lags after so few steps
    model, g = run.build_model(cfg, last.SKELETONS["ntu25"], 8), torch.Generator().manual_seed(1)
    batch = {"joints": torch.randn(16, 1, 8, 25, 3, generator=g), "label": torch.arange(16) % 8}
    data = type("One", (), {"__len__": lambda s: 1, "__call__": lambda s, epoch=0, start=0: iter([batch][start:])})()
    fit(model, data, last.classification_loss(cfg.train), cfg.train, tmp_path, RECIPE)
    assert accuracy(*predict(model, data))["top1"] == 100
    assert log(tmp_path)[0]["loss"] > 1.5 and log(tmp_path)[-1]["loss"] < 0.1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(2, 9), st.integers(0, 2**31))
def test_accuracy_equals_a_naive_count(n, K, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.permutation(n * K).reshape(n, K).astype(np.float32), rng.integers(0, K, n)  # no ties
    got, ranked = accuracy(torch.from_numpy(logits), torch.from_numpy(labels)), [sorted(range(K), key=lambda k, row=row: -row[k]) for row in logits]
    assert got["clips"] == n and got["top1"] == pytest.approx(100 * sum(r[0] == y for r, y in zip(ranked, labels, strict=True)) / n)
    assert got["top5"] == pytest.approx(100 * sum(y in r[:5] for r, y in zip(ranked, labels, strict=True)) / n)
    table = [[sum(y == i and r[0] == j for r, y in zip(ranked, labels, strict=True)) for j in range(K)] for i in range(K)]
    assert got["confusion"] == table
    assert got["per_class"] == [pytest.approx(100 * table[k][k] / sum(table[k])) if sum(table[k]) else None for k in range(K)]


def test_a_network_that_cannot_tell_gets_no_credit_in_top_5():
    label = torch.zeros(3, dtype=torch.long)
    assert accuracy(torch.zeros(3, 9), label)["top5"] == 0 and accuracy(torch.full((3, 9), math.nan), label)["top5"] == 0
    assert accuracy(torch.eye(9)[label], label)["top5"] == 100


def test_predict_sees_every_clip_once_in_order_without_dropout():
    model, data = Toy(dropout=0.9), Clips(10, 4, shuffle=False)
    logits, labels = predict(model.train(), data)
    assert torch.equal(labels, data.y) and logits.dtype == torch.float32
    torch.testing.assert_close(logits, model.eval()(data.x))
    assert not torch.equal(predict(model, data, is_causal=True)[0], logits) and not model.conv.causal


def test_validation_keeps_the_weights_of_the_best_epoch(tmp_path):
    seen, scores = [], iter([10.0, 30.0, 20.0, 30.0])

    def score(model):
        seen.append(weights(model))
        return next(scores)
    model = fit(Toy(), Clips(), loss_fn, with_(epochs=4), tmp_path, RECIPE, score=score)
    assert equal(weights(model), seen[1]) and not equal(seen[1], seen[3])  # of equals the first
    assert [e["validation"] for e in log(tmp_path)] == [10.0, 30.0, 20.0, 30.0]


@pytest.mark.parametrize("average", ["swa", "ema"])
@pytest.mark.parametrize("last_score, keeps", [(29.0, "epoch"), (30.0, "average"), (31.0, "average")])
def test_validation_chooses_between_the_best_epoch_and_the_average(average, last_score, keeps, tmp_path):
    seen, scores = [], iter([10.0, 30.0, 20.0, last_score])

    def score(model):
        seen.append(weights(model))
        return next(scores)
    model = fit(Toy(), Clips(), loss_fn, with_(epochs=3, average=average), tmp_path / "a", RECIPE, score=score)
    mean = weights(fit(Toy(), Clips(), loss_fn, with_(epochs=3, average=average), tmp_path / "b", RECIPE))
    assert not equal(seen[1], mean) and equal(weights(model), {"epoch": seen[1], "average": mean}[keeps])


def test_metrics_hold_one_line_an_epoch_with_means_over_clips(tmp_path):
    losses = []

    def noting(model, batch):
        loss, metrics = loss_fn(model, batch)
        losses.append((loss.item(), metrics["top1"].item(), len(batch["label"])))
        return loss, metrics
    fit(Toy(), Clips(10, 4), noting, QUICK, tmp_path, RECIPE)
    lines = log(tmp_path)
    assert [(e["epoch"], e["step"]) for e in lines] == [(0, 3), (1, 6), (2, 9)] and [n for *_, n in losses] == [4, 4, 2] * 3
    for e, part in zip(lines, (losses[:3], losses[3:6], losses[6:]), strict=True):
        assert e["loss"] == pytest.approx(sum(a * n for a, _, n in part) / 10) and e["top1"] == pytest.approx(sum(b * n for _, b, n in part) / 10)
