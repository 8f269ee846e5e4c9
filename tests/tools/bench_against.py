"""Training steps of this code against those of an earlier commit, on one CPU thread: times as ratios of one run, the
memory by which a step raises its process's peak, and how many operations it launches.

    just bench against=COMMIT [networks=lite_nano,base] [out=results/bench-against.json]

The commit is unpacked into a temporary folder. Each network takes turns: a few steps of the one code, a few of the
other, each turn a process of its own, so that a machine whose speed varies slows both. T = 64, V = 25, M = 1; phase 2
has M = 2, and a second body in every fourth clip, as in NTU RGB+D (11 of its 60 actions are of two people).
"""
from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from bench import speed_and_memory  # both lie on the path of the other process, whatever code that measures
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
CASES = {"lite_nano": 16, "lite_small": 16, "last_e": 4, "base": 2, "phase 2": 4}  # and clips a step
TURNS = 3


class Launches(TorchDispatchMode):
    """Counts the operations that do something: a view of a tensor and an allocation launch nothing."""

    def __init__(self):
        super().__init__()
        self.count: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        views = [a for a in func._schema.arguments if a.alias_info is not None and not a.alias_info.is_write]
        if not views and name not in ("_unsafe_view", "empty", "empty_like", "new_empty", "new_empty_strided"):
            self.count[name] += 1
        return func(*args, **(kwargs or {}))


def step_of(model: torch.nn.Module, loss_fn: Callable, batch: dict) -> Callable[[], None]:
    """Forward and backward, without the optimiser."""
    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss_fn(model, batch)[0].backward()
    return step


def plain_step(recipe: str, clips: int) -> Callable[[], None]:
    """A step of a recipe's network on clips of one body."""
    import last
    from phases.training.networks import build_model
    from phases.training.recipe import load_config
    from skeletons import SKELETONS
    cfg = load_config([f"recipe={recipe}"])
    model, loss_fn = build_model(cfg, SKELETONS["ntu25"], 60).train(), last.classification_loss(cfg.train)
    batch = {"joints": torch.randn(clips, 1, 64, 25, 3), "label": torch.arange(clips)}
    return step_of(model, loss_fn, batch)


def distilling_step(clips: int) -> Callable[[], None]:
    """A step of LAST-Lite small, taught by one stream of LAST-Base."""
    from phases.p2_distill import distil_loss, make_distilled
    from phases.training.networks import build_model
    from phases.training.recipe import Distil, load_config
    from phases.training.teachers import Teacher
    from skeletons import SKELETONS
    skeleton = SKELETONS["ntu25"]
    student, net = (build_model(load_config([f"recipe={name}"]), skeleton, 60) for name in ("lite_small", "base"))
    batch = {"joints": torch.randn(clips, 2, 64, 25, 3), "label": torch.arange(clips)}
    batch["joints"][torch.arange(clips) % 4 > 0, 1] = 0
    teacher = Teacher([net], 4.0)
    model, loss_fn = make_distilled(student, teacher, 0.1, batch["joints"][:1]).train(), distil_loss(teacher, Distil())
    return step_of(model, loss_fn, batch)


def cost(case: str) -> dict:
    """ms a clip, peak_MB and launches of a step; called in a process that imports the one code or the other."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    step = distilling_step(CASES[case]) if case == "phase 2" else plain_step(case, CASES[case])
    speed = speed_and_memory(step, CASES[case], 3)
    with Launches() as launches:
        step()
    return {"ms": 1000 / speed["clips_per_cpu_s"], "peak_MB": speed["peak_MB"], "launches": launches.count.total()}


def measured(code: Path, case: str) -> dict:
    path = os.pathsep.join(map(str, (code, code / "phases", ROOT / "tests")))
    program = f"import bench_against, json; print(json.dumps(bench_against.cost({case!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=code,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path})
    if done.returncode:
        raise ValueError(f"{case} at {code}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def unpack(revision: str, folder: Path) -> str:
    """Write the files of a commit into `folder`; return its short name. ValueError if git does not know it."""
    git = ["git", "-C", str(ROOT)]
    named = subprocess.run([*git, "rev-parse", "--short", "--verify", f"{revision}^{{commit}}"], capture_output=True,
                           text=True)
    if named.returncode:
        raise ValueError(f"against={revision}: no such commit here (a shallow clone lacks the older ones)")
    files = subprocess.run([*git, "archive", revision], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(files)) as tar:
        tar.extractall(folder, filter="data")
    return named.stdout.strip()


def table(revision: str, networks: list[str]) -> list[dict]:
    """Measure and print. A list of {name, against, clips, before, after, ratio, ratios}; the two sides as of `cost`."""
    if unknown := [name for name in networks if name not in CASES]:
        raise ValueError(f"networks={unknown[0]}: one or more of {', '.join(CASES)}")
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        name = unpack(revision, Path(folder))
        print(f"| step | clips | ms a clip: {name} | now | times as fast | peak MB: {name} | now | launches: {name} "
              "| now |")
        print("|---" * 9 + "|", flush=True)
        for case in networks:
            turns = [(measured(Path(folder), case), measured(ROOT, case)) for _ in range(TURNS)]
            ratios = [before["ms"] / after["ms"] for before, after in turns]
            sides = [{key: statistics.median(turn[i][key] for turn in turns) for key in turns[0][i]} for i in (0, 1)]
            cases.append({"name": case, "against": name, "clips": CASES[case], "before": sides[0], "after": sides[1],
                          "ratio": statistics.median(ratios), "ratios": ratios})
            print(f"| {case} | {CASES[case]} | {sides[0]['ms']:.1f} | {sides[1]['ms']:.1f} | {cases[-1]['ratio']:.2f} "
                  f"| {sides[0]['peak_MB']:.0f} | {sides[1]['peak_MB']:.0f} "
                  f"| {sides[0]['launches']:,} | {sides[1]['launches']:,} |", flush=True)
    return cases
