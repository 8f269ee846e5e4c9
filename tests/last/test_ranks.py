"""Several processes train as one: equal losses and weights, batches split and reassembled, a killed process."""
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import last
from last import GlobalBatchNorm, global_norms
from phases import p1_train, p2_distill, p3_maskclr
from phases.training.batches import Batches
from phases.training.clip_store import ClipStore
from phases.training.processes import start_processes
from phases.training.recipe import load_config
from phases.training.view import ClipView
from tests.helpers.clip_stores import latest, write_store
from tests.helpers.programs import call

ARGV = ["data.name=tiny", "data.num_classes=3", "device=cpu", "train.epochs=3", "train.batch=9",
        "train.warmup_epochs=1", "train.lr=0.02", "view.frames=8", "model.dropout=0", "train.accumulate=2"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "phases.p1_train", *argv]


def run(folder: Path, *argv: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*argv), cwd=folder, capture_output=True, text=True, env=ONE_THREAD)


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> np.ndarray:
    return np.array([line["loss"] for line in log(folder)])


def final(folder: Path) -> dict:
    return torch.load(folder / "final.pt", weights_only=True)["model"]


def assert_close_weights(ours: dict, theirs: dict) -> None:
    for key, value in ours.items():
        if value.is_floating_point():
            torch.testing.assert_close(theirs[key], value, rtol=2e-2, atol=2e-2, msg=lambda m, key=key: f"{key}: {m}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A store with 25 training clips: batches of 9, 9 and 7 clips.

    With batch=8 the last batch is a single clip, so one of two processes has none.
    """
    folder = tmp_path_factory.mktemp("ranks")
    write_store(folder / "stores" / "tiny", clips=49)
    assert len(ClipStore(folder / "stores" / "tiny").split("xsub")[0]) == 25
    return folder


def one_process(folder: Path, recipe: str, argv: list[str], monkeypatch) -> tuple[Path, Path]:
    """The run of a single process; returns its folder, and the one of the same run by two."""
    monkeypatch.chdir(folder)
    assert p1_train.main(latest(*ARGV, f"recipe={recipe}", *argv, "out=one")) == 0
    return tuple(folder / side / recipe / "tiny-xsub" / "seed0" for side in ("one", "two"))


def forked(phase, argv: list[str], store: Path) -> list[int]:
    """Exit codes of a phase in two processes as torchrun would have them, forked: they need not import torch."""
    def member(rank: int) -> None:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
        # a store in a file in place of MASTER_ADDR: no port that another process may take in between
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
        os._exit(call(phase, *argv))

    fork = multiprocessing.get_context("fork")
    members = [fork.Process(target=member, args=(rank,)) for rank in range(2)]
    for process in members:
        process.start()
    for process in members:
        process.join(120)
        process.kill()
    return [process.exitcode for process in members]


def assert_same(one: Path, two: Path, done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top-1") == 1 and "2 processes" in done.stderr, "one process reports"
    np.testing.assert_allclose(losses(two), losses(one), rtol=2e-3)
    assert losses(two)[0] == pytest.approx(losses(one)[0], rel=1e-4)
    assert_close_weights(final(one), final(two))


def test_two_processes_of_torchrun_are_one_with_the_same_batches(folder, monkeypatch):
    argv = ["model.width=8", "model.drop_path=0", "model.bottleneck=false", "train.epochs=1", "train.lr=0.002"]
    one, two = one_process(folder, "base", argv, monkeypatch)
    python, *script = command(*latest(*ARGV, "recipe=base", *argv, "out=two"))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([python, *launcher, *script], capture_output=True, text=True, env=ONE_THREAD)
    assert_same(one, two, done)


def test_two_processes_one_of_them_killed_go_on_as_one(folder, monkeypatch):
    argv = ["view.bodies=2", "train.batch=8", "train.average=swa", "train.epochs=6"]
    one, two = one_process(folder, "lite_nano", argv, monkeypatch)
    argv = latest(*ARGV, "recipe=lite_nano", *argv, "train.save_seconds=0", "out=two")
    process = subprocess.Popen(command(*argv, "gpus=2"), cwd=folder, env=ONE_THREAD, text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (two / "last.pt").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    ps = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    os.kill(max(map(int, ps.stdout.split())), signal.SIGKILL)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert re.search(r"error: process \d of 2 ended \(killed by SIGKILL\).*goes on from .*last.pt", stderr), stderr
    assert len(losses(two)) < 6 and not (two / "result.json").exists()
    assert_same(one, two, run(folder, *argv, "gpus=2"))


@pytest.mark.parametrize("phase, argv", [
    (p3_maskclr, ["recipe=maskclr_nano", "force=true", "train.lr=0.002"]),
    (p2_distill, ["recipe=lite_nano_small", "distil.teacher=lite_small"])])
def test_two_processes_pretrain_and_distil_as_one(folder, phase, argv, monkeypatch, tmp_path):
    """Clips have one or two bodies. One process has no clip in the last batch of each epoch."""
    monkeypatch.chdir(folder)
    p1_train.main(latest(*ARGV, "recipe=lite_small", "view.bodies=2", "train.epochs=1", "out=phases"))
    here = folder / "phases" / argv[0].removeprefix("recipe=") / "tiny-xsub" / "seed0"
    argv = latest(*ARGV, *argv, "view.bodies=2", "train.batch=8", "train.epochs=2", "train.average=swa", "out=phases")
    assert call(phase, *argv) == 0
    one = here.rename(here.with_name("one"))
    assert forked(phase, argv, tmp_path / "store") == [0, 0]
    for ours, theirs in zip(log(one), log(here), strict=True):
        for key in ours.keys() - {"seconds"}:
            assert theirs[key] == pytest.approx(ours[key], rel=5e-3, abs=1e-3), key
    assert_close_weights(final(one), final(here))


def test_bad_input_is_one_line_with_several_processes_too(folder):
    done = run(folder, *ARGV, "recipe=lite_nano", "gpus=2", "data.split=xsubject", "out=bad")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    assert errors == [line for line in lines if "no such protocol, did you mean 'xsub'?" in line]


@pytest.mark.parametrize("argv,message", [(["gpus=2"], "gpus = 2: this machine has none; give device=cpu"),
                                          (["gpus=2", "device=cpu:0"], "gpus = 2 takes the first ones"),
                                          (["gpus=0"], "gpus = 0: must lie in")])
def test_gpus_that_are_not_there_are_named(argv, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        start_processes(load_config(["recipe=lite_nano", *argv]), argv)


@pytest.mark.parametrize("ranks", [2, 3, 5, 7])
def test_the_shares_of_a_batch_make_it_up(folder, monkeypatch, ranks):
    cfg = load_config(["recipe=lite_nano", "view.frames=4", "view.mix=0.5"])
    view = ClipView(ClipStore(folder / "stores" / "tiny"), cfg.view)
    one = list(Batches(view, np.arange(13), 4, training=True, seed=1)(2))
    whole = [b["index"].tolist() for b in one]
    shares = []
    for rank in range(ranks):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        batches = list(Batches(view, np.arange(13), 4, training=True, seed=1)(2))
        assert [b["clips"] for b in batches] == [4, 4, 4, 1]
        assert all(len(b["label"]) == max(b["own"], 1) for b in batches), "a process without a clip has a stand-in"
        shares.append([b["index"][:b["own"]].tolist() for b in batches])
        for a, b in zip(one, batches, strict=True):  # blended with the same clip by the same share as in one process
            mine = a["joints"][rank::ranks]
            assert not len(mine) or torch.equal(mine, b["joints"])
        test = [b["index"].tolist() for b in Batches(view, np.arange(5), 4)(0)]
        assert test == [[0, 1, 2, 3], [4]], "every process tests all clips"
    for number, batch in enumerate(whole):
        assert sorted(sum((share[number] for share in shares), [])) == sorted(batch)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 7])
def test_the_rows_of_all_processes_make_up_the_batch(monkeypatch, ranks):
    """Each rank runs in turn. The summands of all ranks add up to the batch; `rows` finds a rank's own clips in it."""
    x, parts = torch.randn(4, 3), []
    monkeypatch.setattr(last.SumOverProcesses, "apply", staticmethod(lambda x: x))
    for rank in range(ranks):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        own = x[rank::ranks]
        part, rows = last.gather_batch(own if len(own) else x[:1], {"clips": 4})
        assert torch.equal(x[rows], own if len(own) else x[:1])
        parts.append(part)
    assert torch.equal(sum(parts), x)


def test_norms_of_all_processes_are_those_of_the_whole_batch(monkeypatch):
    """The sum over processes is replaced by the identity: this process holds the whole batch."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(last.SumOverProcesses, "apply", staticmethod(lambda x: x))
    cases = ((nn.BatchNorm2d(5), torch.randn(4, 5, 3, 2)), (nn.BatchNorm1d(5), torch.randn(6, 5)),
             (nn.BatchNorm1d(5), torch.randn(3, 5, 7)))
    for plain, x in cases:
        ours = type(plain)(5)
        for p in (*plain.parameters(), *ours.parameters()):
            p.data.uniform_(0.5, 2, generator=torch.Generator().manual_seed(p.numel()))
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        want = plain(a)
        with global_norms(ours):
            assert isinstance(ours, GlobalBatchNorm)
            got = ours(b)
        assert type(ours) is type(plain)
        weight = torch.randn_like(want)
        (want * weight).sum().backward()
        (got * weight).sum().backward()
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5)
        for (name, u), v in zip(plain.state_dict().items(), ours.state_dict().values(), strict=True):
            assert name == "num_batches_tracked" or torch.allclose(v, u, rtol=1e-5, atol=1e-6), name
