"""A training step of each network on a GPU, on a store in memory of NTU-60's number and length of clips.

    just bench device=cuda                      -> results/bench-<GPU>.json and a table
    just bench device=cuda networks=lite_small  some networks; what else the file holds is kept
    just bench device=cuda amp=fp32             without the casts of bf16, which are launches too
    LAST_GPU=cpu just bench device=cuda out=    rehearses every line without a GPU

T = 64, V = 25, M = 2, the recipe's own batch. A step is the trainer's: view, forward, backward, clipping, optimiser,
over `accumulate` batches. Launches are counted by torch's profiler, after all is timed. The epoch is 40,091 clips at
the measured rate. Exit code 1 if a network did not run.
"""
from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import last
from last import Training, classification_loss
from phases.common.files import write_json
from phases.training.networks import build_model
from phases.training.recipe import load_config
from phases.training.run_folder import commit, device_name
from phases.training.view import Batches, ClipView
from skeletons import SKELETONS

NETWORKS = ("lite_nano", "lite_small", "last_e", "base")
CLIPS, FRAMES, PAIRS = 40_091, 84, 11 / 60  # of NTU-60's xsub; share of clips with two people
ROOT = Path(__file__).resolve().parents[2]
DEVICE = torch.device(os.environ.get("LAST_GPU", "cuda"))
WARM = 25 if DEVICE.type == "cuda" else 1  # steps before any that counts: each new number of bodies is planned for


def clips_in_memory(count: int) -> SimpleNamespace:
    """What ClipView reads of a store: random joints, PAIRS of the clips with a second body."""
    rng = np.random.default_rng(0)
    two = rng.random(count) < PAIRS
    bodies = 1 + two
    first = FRAMES * (np.cumsum(bodies) - bodies)
    offset = np.stack([first, np.where(two, first + FRAMES, -1)], 1)
    frames = np.resize(rng.standard_normal(1 << 22).astype("float32"), (FRAMES * bodies.sum(), 25, 3))
    clips = {"label": rng.integers(0, 60, count), "length": np.full(count, FRAMES), "offset": offset}
    return SimpleNamespace(path="memory", skeleton=SKELETONS["ntu25"], frames=frames, clips=clips)


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds(f: Callable, calls: int, rounds: int = 3) -> float:
    """Seconds of a call: the median of `rounds` rounds of `calls` calls."""
    times = []
    for _ in range(rounds):
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            f()
        wait()
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def forever(batches: Batches) -> Iterator[dict]:
    while True:
        yield from batches()


@contextlib.contextmanager
def training(recipe: str, compiled: bool, amp: str, store: SimpleNamespace):
    """(the training under way, a function that takes a step, one that only makes its batches)."""
    cfg = load_config([f"recipe={recipe}", "view.bodies=2", f"train.compile={str(compiled).lower()}",
                       f"train.amp={amp}"])
    view = ClipView(store, cfg.view, DEVICE)
    model = build_model(cfg, store.skeleton, 60).to(DEVICE).train()
    source = forever(Batches(view, np.arange(len(store.clips["label"])), cfg.train.batch, training=True))

    def look() -> list[dict]:
        return [next(source) for _ in range(cfg.train.accumulate)]

    try:
        with tempfile.TemporaryDirectory() as folder, last.compiled(model, compiled):
            run = Training(model, classification_loss(cfg.train), cfg.train, Path(folder), {}, 0, 1000, {})
            yield run, lambda: run.take_step(look()), look
    finally:
        torch._dynamo.reset()


def measure(recipe: str, compiled: bool, amp: str, store: SimpleNamespace, calls: int) -> dict:
    """A network's training: seconds of a step, clips a second, peak memory, share of the view, an epoch."""
    with training(recipe, compiled, amp, store) as (run, step, look):
        if DEVICE.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
        started = time.perf_counter()
        step()
        wait()
        first = time.perf_counter() - started
        for _ in range(WARM):
            step()
        each, looking = seconds(step, calls), seconds(look, calls)
        cfg = run.cfg
        clips = cfg.batch * cfg.accumulate
        case = {"recipe": recipe, "compiled": compiled, "dtype": str(run.dtype).removeprefix("torch."),
                "batch": cfg.batch, "accumulate": cfg.accumulate, "first_step_s": round(first, 2),
                "step_ms": round(1e3 * each, 3), "clips_per_s": round(clips / each, 1),
                "view_share": round(looking / each, 3), "epoch_s": round(CLIPS * each / clips, 2)}
        if DEVICE.type == "cuda":
            case["peak_MB"] = round((torch.cuda.max_memory_allocated() - held) / 1e6)
    return case


def launches(recipe: str, compiled: bool, amp: str, store: SimpleNamespace) -> int:
    """Kernels and copies that the device runs in a step; on a CPU, operations."""
    with training(recipe, compiled, amp, store) as (_, step, _):
        for _ in range(WARM):
            step()
        wait()
        with torch.profiler.profile() as profile:
            step()
            wait()
    wanted = torch.autograd.DeviceType.CUDA if DEVICE.type == "cuda" else torch.autograd.DeviceType.CPU
    return sum(event.device_type == wanted for event in profile.events())


def table(networks: list[str], compiled: list[bool], amp: str, out: str | None, command: str) -> Path:
    """Measure and print; the file is written after each case, so that what was measured is there if time runs out."""
    rehearsal = DEVICE.type != "cuda"
    if not rehearsal and not torch.cuda.is_available():
        raise ValueError("device = 'cuda': no GPU here; LAST_GPU=cpu rehearses the lines")
    unknown = [name for name in networks if name not in NETWORKS]
    if unknown:
        raise ValueError(f"networks = {unknown[0]!r}: known are {', '.join(NETWORKS)}")
    load_config(["recipe=lite_nano", f"train.amp={amp}"])  # or ValueError
    store = clips_in_memory(600 if rehearsal else CLIPS)
    name = device_name(DEVICE)
    path = ROOT / (out or f"results/bench-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json")
    report = json.loads(path.read_text()) if path.is_file() and out != "" else {}
    # a case keeps the command, commit and note that it was measured under
    was = {key: report[key] for key in ("command", "commit", "note") if key in report}
    cases = [was | case for case in report.get("cases", [])]
    print("| network | compiled | dtype | batch | step ms | clips / s | view | NTU-60 epoch, s | peak MB |")
    print("|---" * 9 + "|", flush=True)
    failed = []

    def keep() -> None:
        if out != "":
            kept = {key: value for key, value in report.items() if key not in was}
            write_json(path, kept | {
                "command": command, "device": name, "torch": torch.__version__, "commit": commit(), "clips": CLIPS,
                "frames": FRAMES, "pairs": round(PAIRS, 3), "cases": cases})

    measured = []
    for compile_it in compiled:
        for recipe in networks:
            row = f"| {recipe} | {'yes' if compile_it else 'no'} "
            try:
                case = measure(recipe, compile_it, amp, store, 1 if rehearsal else 10 if recipe == "base" else 50)
                case |= {"command": command, "commit": commit()}
            except Exception as e:  # a network that does not run must not cost the others' figures
                print(f"{row}| failed: {str(e).splitlines()[0][:100]} |", flush=True)
                failed.append(recipe)
                continue
            print(f"{row}| {case['dtype']} | {case['batch']} x {case['accumulate']} | {case['step_ms']:.1f} "
                  f"| {case['clips_per_s']:.0f} | {100 * case['view_share']:.0f} % | {case['epoch_s']:.1f} "
                  f"| {case.get('peak_MB', '')} |", flush=True)
            same = [case[key] for key in ("recipe", "compiled", "dtype")]
            cases = [c for c in cases if [c[key] for key in ("recipe", "compiled", "dtype")] != same] + [case]
            measured.append(case)
            keep()
    for case in measured:  # last, because a step may be slower once torch's profiler has run
        try:
            case["launches"] = launches(case["recipe"], case["compiled"], amp, store)
        except Exception as e:
            print(f"{case['recipe']}: launches: {str(e).splitlines()[0][:100]}", flush=True)
            failed.append(case["recipe"])
            continue
        print(f"{case['recipe']}: {case['launches']} launches a step", flush=True)
        keep()
    if failed:
        sys.exit(f"error: {', '.join(failed)} did not run")
    return path
