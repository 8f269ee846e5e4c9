"""The benchmarks of `just bench`: parsing, the view, networks, attention, distillation. Those of networks run `alone`.
"""
from __future__ import annotations

import json
import lzma
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import last
from phases.p2_distill import distil_loss, make_distilled
from phases.recordings.ntu import parse_ntu
from phases.recordings.puppet import write_synthetic
from phases.training.clip_store import ClipStore
from phases.training.networks import build_model
from phases.training.recipe import Config, Distil, load_config
from phases.training.settings import View
from phases.training.teachers import Teacher
from phases.training.view import ClipView
from skeletons import SKELETONS
from tests.helpers.reference import dense_attention, reference_parse
from tests.tools.bench_steps import ROOT, cpu_seconds, speed_and_memory

NTU = SKELETONS["ntu25"]


def alone(call: str) -> dict:
    """The result of a function of this file, called in a fresh process."""
    code = f"import json; from tests.tools import bench_cases; print(json.dumps(bench_cases.{call}))"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["?"])[-1][:100])
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------------------------------------------------------------
# Parsing and the view
# ---------------------------------------------------------------------------------------------------------------------

def recordings(scratch: Path) -> list[tuple[str, bytes]]:
    """(name, text) of real NTU files; without them, of seven synthetic ones."""
    folder = Path(os.environ.get("LAST_TEST_DATA") or ROOT.parent / "shared" / "data") / "ntu-samples"
    # real ones
    packed = sorted(folder.glob("*.skeleton.xz"))
    if packed:
        return [(path.stem, lzma.decompress(path.read_bytes())) for path in packed]

    # seven of a synthetic person
    write_synthetic(scratch, seed=0, subjects=(1,), replications=1)
    return [(path.stem, path.read_bytes()) for path in sorted(scratch.glob("*.skeleton"))[:7]]


def bench_parse() -> dict:
    """Milliseconds per file of our parser, of the field's, and of splitting the text only."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.skeleton"
        for name, data in recordings(Path(folder)):
            # the field's parser reads a file, ours has it in memory: reading takes no time beside parsing
            path.write_bytes(data)
            ours = 1e3 * cpu_seconds(lambda d=data: parse_ntu(d), 0.1, 7)
            field = 1e3 * cpu_seconds(lambda: reference_parse(path), 0.1, 7)
            split = 1e3 * cpu_seconds(lambda d=data: d.split(), 0.1, 7)
            rows.append({"file": name, "KB": len(data) // 1000, "ms": ours, "field_ms": field, "split_ms": split,
                         "ratio": field / ours})
    return {"files": rows, "ratio": statistics.median(row["ratio"] for row in rows)}


def write_random_store(folder: Path, clips: int, frames: int) -> None:
    """A store of two-body clips of random joints, all of one length."""
    rng = np.random.default_rng(0)
    np.save(folder / "frames.npy", rng.standard_normal((2 * clips * frames, 25, 3)).astype("float32"))

    # the second body's rows follow the first's
    first = 2 * frames * np.arange(clips)
    none = {key: np.zeros(clips, int) for key in ("label", "subject", "camera", "setup", "replication")}
    np.savez(folder / "clips.npz", name=np.array([f"c{i}" for i in range(clips)]), length=np.full(clips, frames),
             offset=np.stack([first, first + frames], 1), **none)

    meta = {"skeleton": NTU.to_dict(), "classes": ["a"], "protocols": {}}
    (folder / "meta.json").write_text(json.dumps(meta))


def bench_view() -> dict:
    """Clips per CPU second of the view, without and with augmentation, for M = 1 and 2."""
    torch.set_num_threads(1)
    augment = {"window": 0.5, "flip": 0.5}  # and the default rotation and scale
    cases = {"plain": {}, "augmented": augment, "augmented + noise": {**augment, "noise": 0.01}}
    index = torch.arange(16)

    # a store that is long enough not to stay in a cache
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        write_random_store(Path(folder), clips=256, frames=80)
        store = ClipStore(folder)
        for bodies in (1, 2):
            for name, more in cases.items():
                view = ClipView(store, View(bodies=bodies, **more))
                seconds = cpu_seconds(lambda v=view, training=bool(more): v(index, training, 0, 1), 0.3)
                rates[f"{name}, M = {bodies}"] = len(index) / seconds
    return rates


DAMAGE = {"missing": 0.0, "noise": 0.0, "spikes": 0.0, "idle": 0.0, "tempo": 0.0}  # a view without any


def bench_damage(rounds: int = 15) -> dict:
    """CPU seconds of a training step of LAST-Lite nano with the view of its clips, {plain, damaged}: M = 1, B = 16.

    The ratio is the median over pairs, of one step each, so that a busy moment hits both.
    """
    torch.set_num_threads(1)
    cfg = load_config(["recipe=lite_nano"])
    model = build_model(cfg, NTU, 60).train()
    optimizer = last.make_optimizer(model, cfg.train)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # see bench_network
    loss_fn = last.classification_loss(cfg.train)

    seconds: dict[str, list[float]] = {"plain": [], "damaged": []}
    with tempfile.TemporaryDirectory() as folder:
        write_random_store(Path(folder), clips=256, frames=80)
        store = ClipStore(folder)
        views = {"plain": ClipView(store, replace(cfg.view, **DAMAGE)), "damaged": ClipView(store, cfg.view)}

        # a pair of steps on the same clips; the first pair warms up
        for epoch in range(rounds + 1):
            index = (16 * epoch + torch.arange(16)) % 256
            for name, view in views.items():
                start = time.process_time()
                optimizer.zero_grad()
                batch = {"joints": view(index, True, 0, epoch), "label": index % 60}
                loss_fn(model, batch)[0].backward()
                optimizer.step()
                seconds[name].append(time.process_time() - start)

    pairs = [b / a for a, b in zip(seconds["plain"][1:], seconds["damaged"][1:], strict=True)]
    medians = {name: statistics.median(spent[1:]) for name, spent in seconds.items()}
    return {**medians, "ratio": statistics.median(pairs)}


# ---------------------------------------------------------------------------------------------------------------------
# Networks, each call in a process of its own
# ---------------------------------------------------------------------------------------------------------------------

def bench_network(variant: str, bodies: int, batch: int, training: bool, compiled: bool) -> dict:
    """Clips per CPU second and peak memory of LAST-Lite's step or forward."""
    torch.set_num_threads(1)
    cfg = Config(model=last.Model(variant=variant))
    model = build_model(cfg, NTU, 60).train(training)

    # a rate of zero: a network that learns this one batch by heart gets denormal gradients, which are slow
    optimizer = last.make_optimizer(model, cfg.train)
    for group in optimizer.param_groups:
        group["lr"] = 0.0

    # one batch, again and again
    joints = torch.randn(batch, bodies, 64, 25, 3)
    label = torch.arange(batch) % 60
    net = torch.compile(model) if compiled else model

    def step() -> None:
        if not training:
            with torch.no_grad():
                net(joints)
            return
        optimizer.zero_grad()
        F.cross_entropy(net(joints), label).backward()
        optimizer.step()

    return speed_and_memory(step, batch)


def bench_attention(form: str, channels: int, training: bool) -> dict:
    """The same of one PartitionedTemporalAttention, B = 4: `ours`, or `dense`, one mask over all pairs."""
    torch.set_num_threads(1)
    block = last.PartitionedTemporalAttention(channels, NTU, 64)
    x = torch.randn(4, channels, 64, 25)

    def step() -> None:
        with torch.set_grad_enabled(training):
            y = block(x) if form == "ours" else dense_attention(block, x, NTU.hops)
            if training:
                y.sum().backward()

    return speed_and_memory(step, len(x), 3)


def bench_base(form: str, training: bool) -> dict:
    """The same of the whole LAST-Base, one stream, M = 1, B = 2."""
    torch.set_num_threads(1)
    if form == "dense":
        last.PartitionedTemporalAttention.forward = lambda block, x: dense_attention(block, x, NTU.hops)

    cfg = load_config(["recipe=base"])
    model = build_model(cfg, NTU, 60).train(training)
    loss_fn = last.classification_loss(cfg.train)
    batch = {"joints": torch.randn(2, 1, 64, 25, 3), "label": torch.arange(2)}

    def step() -> None:
        with torch.set_grad_enabled(training):
            if training:
                loss_fn(model, batch)[0].backward()
            else:
                model(batch["joints"])

    return speed_and_memory(step, 2, 3)


def network(recipe: str) -> torch.nn.Module:
    """The network of the words of a recipe, for NTU-60."""
    return build_model(load_config(recipe.split()), NTU, 60)


def bench_distil(teachers: Sequence[str]) -> dict:
    """CPU seconds per clip of phase 2's step for LAST-Lite small, M = 1, B = 8, and the teacher's share of them."""
    torch.set_num_threads(1)
    # one or several teachers, and a student that imitates them
    teacher = Teacher([network(recipe) for recipe in teachers], 4.0)
    batch = {"joints": torch.randn(8, 1, 64, 25, 3), "label": torch.arange(8)}
    model = make_distilled(network("recipe=lite_small"), teacher, 0.1, batch["joints"]).train()

    # the teacher's share of a step
    spent = []

    def timed(*args):
        start = time.process_time()
        target = teacher(*args)
        spent.append(time.process_time() - start)
        return target

    loss_fn = distil_loss(timed, Distil())

    def step() -> None:
        loss_fn(model, batch)[0].backward()

    # whole and share come from the same steps, because a machine's speed varies
    step()
    spent.clear()
    start = time.process_time()
    whole = 0.0
    while whole < 3 or len(spent) < 3:
        step()
        whole = time.process_time() - start
    return {"seconds_a_clip": whole / len(spent) / 8, "teacher_share": sum(spent) / whole}
