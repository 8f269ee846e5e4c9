"""All that a GPU is needed for, in the order of its worth: test, train, measure. A finished step is not repeated.

    just gpu                          everything; an hour or two on one GPU
    just gpu minutes=8 out=FOLDER     has stopped after 8 minutes; the same command goes on
    just gpu steps=teacher,bench      some steps, in this order
    just gpu train.amp=fp32           a field of a recipe goes to every training
    just gpu tiny=true                rehearses each line on any machine: device=cpu, narrow networks, one epoch

In:  clip stores of Northwestern-UCLA and UTD-MHAD (`just phase0 recipe=nw_ucla raw=...`).
Out: runs/ as always; FOLDER-steps/: a log per step, and which are done; FOLDER, brought up to date after each step:
     results.tar with these logs, the benchmark, and every run's recipe, metrics, result and scores, or its log if it
     has no result; weights-<run>.pt of the teachers and students.tar, in FP16. No file is larger than 15 MB.
Nothing need be installed but torch, numpy, einops, tqdm and, for phase 4, onnx, onnxscript and onnxruntime.
Exit codes: 0 all steps done, 1 a step failed or time ran out, 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from phases.common.command import nearest, run
from phases.common.files import ROOT, atomic

MOST = 15e6                                          # bytes of a file
SMALL = 3e6                                          # bytes of weights that go into one file with others
STOP = 25.0                                          # seconds that a stop may take
KEPT = ("base", "lite", "last_e", "maskclr", "L12")  # runs whose weights come along


# ---------------------------------------------------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------------------------------------------------

@dataclass
class Step:
    """Commands, one after another; `beside`: the next step starts at once, because this one measures no time."""
    name: str
    commands: tuple[str, ...]
    tiny: tuple[str, ...]       # words added in a rehearsal
    beside: bool = False


ABLATION = "-m phases.ablation rows="
BENCH = "-m tests.tools.bench device=cuda"
TEST = '-m pytest -o "addopts=-q --import-mode=importlib" tests/last/test_gpu.py --durations=8'
TINY = ("view.frames=8", "train.epochs=1", "device=cpu")
NARROW = ("model.width=16", *TINY)
QUICK = ("networks=lite_nano", "out=")
BASE = "train.accumulate=1 train.batch=64 model.drop_path=0.05"  # for sets of a thousand clips
LITE = "seeds=0,1,2 jobs=6 train.batch=64 train.epochs=120"
B_ROWS = "B0,B1,B2,B3,B4,B5,B6,B8,B9,B10,B11,B12,B13"  # B7 is base under another name
STEPS = [
    Step("test", (TEST,), ("-k", "fp32 or view or group"), beside=True),
    Step("teacher", (f"{ABLATION}base streams=all data=nw_ucla jobs=4 {BASE} train.epochs=60 train.amp=fp32",),
         NARROW),  # as many epochs as fifteen minutes on an H100 had time for
    Step("students", (f"{ABLATION}lite_small_base,lite_nano_base data=nw_ucla {LITE}",
                      f"{ABLATION}lite_small,lite_nano data=nw_ucla {LITE}"), TINY),
    Step("bench", (f"{BENCH} compile=false",), QUICK),
    Step("fp32", (f"{BENCH} compile=false amp=fp32",), QUICK),
    Step("B_utd", (f"{ABLATION}base,{B_ROWS} data=utd_mhad jobs=14 {BASE} train.epochs=40",), NARROW),
    # NARROW as in B_utd: both hold base
    Step("L_utd", (f"{ABLATION}last_e data=utd_mhad", f"{ABLATION}base streams=all data=utd_mhad jobs=4 {BASE} "
                   "train.epochs=40",
                   f"{ABLATION}L10,L11,lite_small_base,lite_nano_base data=utd_mhad train.epochs=25 seeds=0,1,2 jobs=8",
                   f"{ABLATION}maskclr_small data=utd_mhad train.epochs=25 pretrain.gate=100 seeds=0,1,2 jobs=3",
                   f"{ABLATION}L12 data=utd_mhad train.epochs=25 seeds=0,1,2 jobs=3"), NARROW),
    Step("L_ucla", (f"{ABLATION}L0,L3,L5,L6,L7,L8 data=nw_ucla train.epochs=40 seeds=0,1,2 jobs=8",), TINY),
    Step("B_ucla", (f"{ABLATION}{B_ROWS} data=nw_ucla jobs=13 {BASE} train.epochs=100",), NARROW),
    Step("compiled", (f"{BENCH} compile=only",), QUICK),
]


@dataclass(frozen=True)
class Options:
    minutes: Annotated[float, (0, 100_000), "in which everything has stopped"] = 600.0
    steps: Annotated[tuple[str, ...], "some steps, in this order; empty: all"] = ()
    out: Annotated[Path, "the folder of what comes home"] = Path("build/gpu")
    tiny: Annotated[bool, "a rehearsal without a GPU"] = False


def chosen_steps(names: Sequence[str]) -> list[Step]:
    """The steps by their names, by default all."""
    known = {step.name: step for step in STEPS}
    for name in names:
        if name not in known:
            raise ValueError(f"steps = {name!r}{nearest(name, known)}")
    return [known[name] for name in names or known]


def words_of(command: str, step: Step, tiny: bool, passed: list[str]) -> list[str]:
    """A command as its words: those of the recipe that the user passed, then those of a rehearsal, win."""
    words = shlex.split(command)
    if command.startswith(ABLATION):
        words += passed
    if tiny:
        words += step.tiny

    # a command line takes a key once
    latest = {word.partition("=")[0] if "=" in word else i: word for i, word in enumerate(words)}
    return [sys.executable, *latest.values()]


# ---------------------------------------------------------------------------------------------------------------------
# Running them
# ---------------------------------------------------------------------------------------------------------------------

class Lease:
    """The time that is left, and the commands under way."""

    def __init__(self, minutes: float, out: Path, tiny: bool, passed: list[str]):
        self.end = time.monotonic() + 60 * minutes
        self.out = out
        self.tiny = tiny
        self.passed = passed
        self.steps = out.with_name(out.name + "-steps")
        for folder in (self.out, self.steps):
            folder.mkdir(parents=True, exist_ok=True)
        self.under_way: list[tuple[Step, subprocess.Popen]] = []

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def done(self, step: Step) -> bool:
        return (self.steps / f"{step.name}.done").exists()

    def start(self, step: Step) -> None:
        """Start a step in a process group of its own; its commands follow each other, also after a failure."""
        say(f"{step.name}: starts, {self.left / 60:.1f} min left")

        # where nothing is installed, the code is found from here
        env = os.environ | {"PYTHONUNBUFFERED": "1"}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        if self.tiny:
            env["LAST_GPU"] = "cpu"

        # a command that was interrupted is the last one
        lines = []
        for command in step.commands:
            words = words_of(command, step, self.tiny, self.passed)
            lines.append(f"{shlex.join(words)} || rc=$?; [ $rc = 130 ] && exit 130")
        script = "; ".join(["rc=0", *lines, "exit $rc"])
        with open(self.steps / f"{step.name}.log", "ab") as f:
            child = subprocess.Popen(["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=f,
                                     stderr=subprocess.STDOUT, cwd=ROOT, env=env, start_new_session=True)
        self.under_way.append((step, child))

    def wait(self) -> bool:
        """Wait for all commands under way; interrupt them when time is up. Whether all ended well."""
        # as long as there is time, then an interrupt
        for _, child in self.under_way:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, self.left - STOP))
        late = [child for _, child in self.under_way if child.poll() is None]
        stop(late)

        # a line per step, and the last ones of its log
        for step, child in self.under_way:
            if child.returncode == 0:
                (self.steps / f"{step.name}.done").touch()
            ended = "done" if child.returncode == 0 else f"exit code {child.returncode}"
            tail = (self.steps / f"{step.name}.log").read_text(errors="replace").splitlines()[-4:]
            say(f"{step.name}: {'out of time, ' * (child in late)}{ended}", *tail)

        # what there is comes home
        good = all(child.returncode == 0 for _, child in self.under_way)
        self.under_way.clear()
        pack(self.out, self.steps)
        return good

    def run(self, steps: list[Step]) -> bool:
        """Run steps in their order while there is time, except those that are done. Whether all ended well."""
        good = True
        for step in steps:
            if self.done(step):
                say(f"{step.name}: already done")
                continue
            if self.left < STOP + 5:
                good = False
                break
            self.start(step)
            if not step.beside:
                good &= self.wait()
        if self.under_way:
            good &= self.wait()
        return good


def stop(children: list[subprocess.Popen]) -> None:
    """Interrupt steps and wait for them; trainings end with their last.pt in place, and none is left behind.

    A second interrupt makes `just ablation` kill trainings that have not ended.
    """
    for number, seconds in ((signal.SIGINT, 0.7 * STOP), (signal.SIGINT, 0.2 * STOP), (signal.SIGKILL, 0.1 * STOP)):
        end = time.monotonic() + seconds
        alive = [child for child in children if child.poll() is None]
        for child in alive:
            os.killpg(child.pid, number)
        for child in alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, end - time.monotonic()))


def say(*lines: str) -> None:
    print(time.strftime("%T"), *lines, sep="\n  ", flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# What comes home
# ---------------------------------------------------------------------------------------------------------------------

def pack(out: Path, steps: Path) -> None:
    """What is worth keeping, in a few files below MOST."""
    # results and logs
    with atomic(out / "results.tar") as part, tarfile.open(part, "w") as results:
        for path in (*sorted(ROOT.glob("results/bench-*.json")), *sorted(steps.glob("*.log"))):
            results.add(path, path.name)
        for run_folder in run_folders():
            add_result(results, run_folder)

    # weights
    with atomic(out / "students.tar") as part, tarfile.open(part, "w") as students:
        for run_folder in run_folders():
            keep_weights(students, out, run_folder)

    # what may be too large to come home
    for path in sorted(out.iterdir()):
        if path.stat().st_size > MOST:
            say(f"warning: {path} has {path.stat().st_size / 1e6:.0f} MB")


def run_folders() -> list[Path]:
    """Folders of runs and of what became of their commands, relative to the project."""
    found = {path.parent for kind in ("recipe.json", "log.txt") for path in ROOT.glob(f"runs/**/{kind}")}
    return sorted(folder.relative_to(ROOT) for folder in found)


def add_result(results: tarfile.TarFile, run_folder: Path) -> None:
    """What a run reached; a run without a result is worth its log, too."""
    files = ["recipe.json", "metrics.jsonl", "result.json", "scores.npz"]
    if not (ROOT / run_folder / "result.json").is_file():
        files.append("log.txt")
    for file in files:
        if (ROOT / run_folder / file).is_file():
            results.add(ROOT / run_folder / file, str(run_folder / file))


def keep_weights(students: tarfile.TarFile, out: Path, run_folder: Path) -> None:
    """The weights of some runs, small ones in one file, others each in a file of its own that is written once."""
    # those worth keeping, unless they are at home
    weights = ROOT / run_folder / "final.pt"
    if not weights.is_file() or not run_folder.parts[1].startswith(KEPT):
        return
    alone = out / f"weights-{'-'.join(run_folder.parts[1:])}.pt"
    if alone.is_file() and alone.stat().st_mtime > weights.stat().st_mtime:
        return

    # large or small
    data = halved(weights)
    if len(data) > SMALL:
        alone.write_bytes(data)
        return
    info = tarfile.TarInfo(str(run_folder / "final.pt"))
    info.size = len(data)
    students.addfile(info, io.BytesIO(data))


def halved(path: Path) -> bytes:
    """A final.pt with its weights in FP16."""
    import torch
    state = torch.load(path, map_location="cpu", weights_only=True)
    state["model"] = {k: v.half() if v.is_floating_point() else v for k, v in state["model"].items()}
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


# ---------------------------------------------------------------------------------------------------------------------
# The program
# ---------------------------------------------------------------------------------------------------------------------

def has_gpu() -> bool:
    import torch
    return torch.cuda.is_available()


def raise_if_no_store(steps: list[Step], passed: list[str]) -> None:
    """ValueError for the first data set of the steps that has no clip store."""
    if any(word.startswith("data.store=") for word in passed):
        return
    words = [word for step in steps for command in step.commands for word in command.split()]
    for name in sorted({word[5:] for word in words if word.startswith("data=")}):
        if not (ROOT / "stores" / name / "meta.json").is_file():
            raise ValueError(f"no clip store stores/{name}: run `just phase0 recipe={name} raw=...`")


def main(options: Options, passed: list[str]) -> int:
    # everything is checked before anything starts
    for word in passed:
        if "." not in word.partition("=")[0]:
            raise ValueError(f"unknown argument {word!r} (known: minutes, steps, out, tiny, train.KEY)")
    steps = chosen_steps(options.steps)
    if not options.tiny and not has_gpu():
        raise ValueError("no GPU here; tiny=true rehearses every line without one")
    raise_if_no_store(steps, passed)

    # until all is done, time is up or somebody stops it
    lease = Lease(options.minutes, ROOT / options.out, options.tiny, passed)
    try:
        return 0 if lease.run(steps) else 1
    except KeyboardInterrupt:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # a second one would leave trainings behind
        lease.end = 0
        lease.wait()
        return 130


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT):  # what is done comes home all the same
        signal.signal(number, signal.default_int_handler)  # also where a shell's & ignores SIGINT
    run(main, Options, recipe=True)
