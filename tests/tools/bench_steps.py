"""What a benchmark of steps needs: time, memory and launches of a step, and the training steps themselves.

    python -P tests/tools/bench_steps.py TREE CASE       measures a case of the code in TREE and prints it as JSON

`just bench against=COMMIT` runs this file so for its own tree and for one of an earlier commit, with PYTHONPATH=TREE.
The file therefore imports nothing else of tests/, and knows the names of the flat phases/ of before December 2026.
"""
from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads

import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CASES = {"lite_nano": 16, "lite_small": 16, "last_e": 4, "base": 2, "phase 2": 4}  # and clips per step


# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------

def cpu_seconds(f: Callable, least: float = 1.0, times: int = 5) -> float:
    """CPU seconds of a call: the median of `times` rounds, each of at least `least` seconds."""
    # one call to warm up, one to learn how many fill a round
    f()
    start = time.process_time()
    f()
    calls = max(1, round(least / max(1e-6, time.process_time() - start)))

    # the rounds
    rounds = []
    for _ in range(times):
        start = time.process_time()
        for _ in range(calls):
            f()
        rounds.append((time.process_time() - start) / calls)
    return statistics.median(rounds)


def peak_kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def speed_and_memory(step: Callable, clips: int, times: int = 5) -> dict:
    """Clips per CPU second of `step`, and the memory by which it raises the process's peak."""
    before = peak_kilobytes()
    seconds = cpu_seconds(step, 1.0, times)
    return {"clips_per_cpu_s": clips / seconds, "peak_MB": (peak_kilobytes() - before) / 1024}


class Launches(TorchDispatchMode):
    """Counts the operations that do something: a view of a tensor and an allocation launch nothing."""

    ALLOCATIONS = ("_unsafe_view", "empty", "empty_like", "new_empty", "new_empty_strided")

    def __init__(self):
        super().__init__()
        self.count: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # a view shares its argument's memory without writing to it
        name = func._schema.name.split("::")[1]
        shared = [a.alias_info for a in func._schema.arguments if a.alias_info is not None]
        is_view = any(not alias.is_write for alias in shared)

        if not is_view and name not in self.ALLOCATIONS:
            self.count[name] += 1
        return func(*args, **(kwargs or {}))


# ---------------------------------------------------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------------------------------------------------

def code_in(tree: Path) -> SimpleNamespace:
    """The functions that a step needs, from a tree that is first on the path."""
    if is_flat(tree):
        sys.path.insert(0, str(tree / "phases"))
        from p2_distill import Teacher, distil_loss, make_distilled
        from recipe import Distil, load_config
        from run import build_model

        from last import SKELETONS, classification_loss
    else:
        from last import classification_loss
        from phases.p2_distill import distil_loss, make_distilled
        from phases.training.networks import build_model
        from phases.training.recipe import Distil, load_config
        from phases.training.teachers import Teacher
        from skeletons import SKELETONS
    return SimpleNamespace(
        SKELETONS=SKELETONS, load_config=load_config, build_model=build_model, classification_loss=classification_loss,
        Distil=Distil, Teacher=Teacher, make_distilled=make_distilled, distil_loss=distil_loss)


def is_flat(tree: Path) -> bool:
    """Whether phases/ has its modules without packages, as until November 2026."""
    return (tree / "phases" / "run.py").exists()


def raise_if_foreign(tree: Path) -> None:
    """ValueError if a module of the project comes from outside the tree: an installed copy would be measured."""
    own = {"last", "skeletons", "phases"}
    if is_flat(tree):
        own |= {path.stem for path in tree.glob("phases/*.py")}

    # a namespace, such as the flat phases/, has no file
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and name.partition(".")[0] in own and not Path(path).resolve().is_relative_to(tree.resolve()):
            raise ValueError(f"{name} comes from {path}, which is not in {tree}")


def training_step(model: torch.nn.Module, loss_fn: Callable, batch: dict) -> Callable[[], None]:
    """Forward and backward, without the optimiser."""
    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss_fn(model, batch)[0].backward()
    return step


def plain_step(recipe: str, clips: int, tree: Path = ROOT) -> Callable[[], None]:
    """A step of a recipe's network on clips of one body."""
    code = code_in(tree)
    cfg = code.load_config([f"recipe={recipe}"])
    model = code.build_model(cfg, code.SKELETONS["ntu25"], 60).train()
    batch = {"joints": torch.randn(clips, 1, 64, 25, 3), "label": torch.arange(clips)}
    return training_step(model, code.classification_loss(cfg.train), batch)


def distilling_step(clips: int, tree: Path) -> Callable[[], None]:
    """A step of LAST-Lite small, taught by one stream of LAST-Base."""
    code = code_in(tree)
    skeleton = code.SKELETONS["ntu25"]
    student = code.build_model(code.load_config(["recipe=lite_small"]), skeleton, 60)
    teacher = code.Teacher([code.build_model(code.load_config(["recipe=base"]), skeleton, 60)], 4.0)

    # every fourth clip has a second body
    batch = {"joints": torch.randn(clips, 2, 64, 25, 3), "label": torch.arange(clips)}
    batch["joints"][torch.arange(clips) % 4 > 0, 1] = 0

    model = code.make_distilled(student, teacher, 0.1, batch["joints"][:1]).train()
    return training_step(model, code.distil_loss(teacher, code.Distil()), batch)


def cost(case: str, tree: Path) -> dict:
    """{ms: per clip, peak_MB, launches} of a step of the code in a tree."""
    # one thread; the same weights and clips on both sides
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clips = CASES[case]
    step = distilling_step(clips, tree) if case == "phase 2" else plain_step(case, clips, tree)
    raise_if_foreign(tree)

    # as a training begins, where the tree has it
    with contextlib.suppress(ImportError):
        from phases.common.memory import keep_freed_memory
        keep_freed_memory()

    speed = speed_and_memory(step, clips, 3)
    with Launches() as launches:
        step()
    return {"ms": 1000 / speed["clips_per_cpu_s"], "peak_MB": speed["peak_MB"], "launches": launches.count.total()}


if __name__ == "__main__":
    print(json.dumps(cost(sys.argv[2], Path(sys.argv[1]))))
