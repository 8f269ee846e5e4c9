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
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import last
from last import Training, classification_loss
from phases.common.files import ROOT, write_json
from phases.training.batches import Batches
from phases.training.networks import build_model
from phases.training.recipe import load_config
from phases.training.run_folder import commit, device_name
from phases.training.view import ClipView
from skeletons import SKELETONS

NETWORKS = ("lite_nano", "lite_small", "last_e", "base")
CLIPS, FRAMES, PAIRS = 40_091, 84, 11 / 60  # of NTU-60's xsub; share of clips with two people
DEVICE = torch.device(os.environ.get("LAST_GPU", "cuda"))
REHEARSAL = DEVICE.type != "cuda"
WARM = 1 if REHEARSAL else 25  # steps before any that counts: cuDNN plans for each new number of bodies


# ---------------------------------------------------------------------------------------------------------------------
# A training under way
# ---------------------------------------------------------------------------------------------------------------------

def clips_in_memory(count: int) -> SimpleNamespace:
    """What ClipView reads of a store: random joints, PAIRS of the clips with a second body."""
    rng = np.random.default_rng(0)

    # the rows of each clip's bodies, one after another
    two = rng.random(count) < PAIRS
    bodies = 1 + two
    first = FRAMES * (np.cumsum(bodies) - bodies)
    offset = np.stack([first, np.where(two, first + FRAMES, -1)], 1)

    frames = np.resize(rng.standard_normal(1 << 22).astype("float32"), (FRAMES * bodies.sum(), 25, 3))
    clips = {"label": rng.integers(0, 60, count), "length": np.full(count, FRAMES), "offset": offset}
    return SimpleNamespace(path="memory", skeleton=SKELETONS["ntu25"], frames=frames, clips=clips)


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
            run = Training(model, classification_loss(cfg.train), cfg.train, Path(folder), 0, 1000, {})
            yield run, lambda: run.take_step(look()), look
    finally:
        torch._dynamo.reset()


# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------

def wait() -> None:
    if not REHEARSAL:
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


def measure(recipe: str, compiled: bool, amp: str, store: SimpleNamespace) -> dict:
    """A network's training: seconds of a step, clips a second, peak memory, share of the view, an epoch."""
    calls = 10 if recipe == "base" else 50
    if REHEARSAL:
        calls = 1

    with training(recipe, compiled, amp, store) as (run, step, look):
        if not REHEARSAL:
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()

        # the first step compiles and plans
        started = time.perf_counter()
        step()
        wait()
        first = time.perf_counter() - started
        for _ in range(WARM):
            step()

        each = seconds(step, calls)
        looking = seconds(look, calls)
        cfg = run.cfg
        clips = cfg.batch * cfg.accumulate
        case = {"recipe": recipe, "compiled": compiled, "dtype": str(run.dtype).removeprefix("torch."),
                "batch": cfg.batch, "accumulate": cfg.accumulate, "first_step_s": round(first, 2),
                "step_ms": round(1e3 * each, 3), "clips_per_s": round(clips / each, 1),
                "view_share": round(looking / each, 3), "epoch_s": round(CLIPS * each / clips, 2)}
        if not REHEARSAL:
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

    wanted = torch.autograd.DeviceType.CPU if REHEARSAL else torch.autograd.DeviceType.CUDA
    return sum(event.device_type == wanted for event in profile.events())


# ---------------------------------------------------------------------------------------------------------------------
# The report
# ---------------------------------------------------------------------------------------------------------------------

def same_case(a: dict, b: dict) -> bool:
    return all(a[key] == b[key] for key in ("recipe", "compiled", "dtype"))


class Report:
    """The cases of a file, old and new; it is written after each case, so that what was measured is there if time
    runs out."""

    def __init__(self, path: Path | None, device: str, command: str):
        self.path = path
        self.about = {"command": command, "device": device, "torch": torch.__version__, "commit": commit(),
                      "clips": CLIPS, "frames": FRAMES, "pairs": round(PAIRS, 3)}

        # an old case keeps the command, commit and note that it was measured under
        old = json.loads(path.read_text()) if path and path.is_file() else {}
        origin = {key: old.pop(key) for key in ("command", "commit", "note") if key in old}
        self.cases = [origin | case for case in old.pop("cases", [])]
        self.others = old

    def add(self, case: dict) -> None:
        self.cases = [old for old in self.cases if not same_case(old, case)] + [case]
        self.write()

    def write(self) -> None:
        if self.path:
            write_json(self.path, self.others | self.about | {"cases": self.cases})


def first_line(e: Exception) -> str:
    return (str(e).splitlines() or [type(e).__name__])[0][:100]


def table(networks: Sequence[str], compiled: list[bool], amp: str, out: str | None, command: str) -> list[str]:
    """Measure, print and write the networks, by default all; return those that did not run."""
    if not REHEARSAL and not torch.cuda.is_available():
        raise ValueError("device = 'cuda': no GPU here; LAST_GPU=cpu rehearses the lines")
    for recipe in networks:
        if recipe not in NETWORKS:
            raise ValueError(f"networks = {recipe!r}: known are {', '.join(NETWORKS)}")

    name = device_name(DEVICE)
    file = f"results/bench-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json" if out is None else out
    report = Report(ROOT / file if file else None, name, command)
    store = clips_in_memory(600 if REHEARSAL else CLIPS)
    print("| network | compiled | dtype | batch | step ms | clips / s | view | NTU-60 epoch, s | peak MB |")
    print("|---" * 9 + "|", flush=True)

    # all times first, because a step may be slower once torch's profiler has run
    asked = [(recipe, compile_it, amp, store) for compile_it in compiled for recipe in networks or NETWORKS]
    cases = {case[:2]: add_case(report, case) for case in asked}
    failed = [recipe for (recipe, _), case in cases.items() if case is None]
    for case in asked:
        if cases[case[:2]] and not add_launches(report, cases[case[:2]], case):
            failed.append(case[0])
    return failed


def add_case(report: Report, asked: tuple) -> dict | None:
    """Measure a case, print its row and write it; None if its network does not run, which must not cost the others."""
    recipe, compiled, *_ = asked
    row = f"| {recipe} | {'yes' if compiled else 'no'} "
    try:
        case = measure(*asked)
    except Exception as e:
        print(f"{row}| failed: {first_line(e)} |", flush=True)
        return None

    print(f"{row}| {case['dtype']} | {case['batch']} x {case['accumulate']} | {case['step_ms']:.1f} "
          f"| {case['clips_per_s']:.0f} | {100 * case['view_share']:.0f} % | {case['epoch_s']:.1f} "
          f"| {case.get('peak_MB', '')} |", flush=True)
    case |= {key: report.about[key] for key in ("command", "commit")}
    report.add(case)
    return case


def add_launches(report: Report, case: dict, asked: tuple) -> bool:
    """Count the launches of a case that was measured, and write them; whether it ran."""
    try:
        case["launches"] = launches(*asked)
    except Exception as e:
        print(f"{case['recipe']}: launches: {first_line(e)}", flush=True)
        return False

    print(f"{case['recipe']}: {case['launches']} launches per step", flush=True)
    report.write()
    return True
