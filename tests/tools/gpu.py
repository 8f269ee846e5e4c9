"""All that a GPU is needed for, in the order of its worth: test, train, measure. A finished step is not repeated.

    just gpu                          everything; an hour or two on one GPU
    just gpu minutes=8 out=FOLDER     has stopped after 8 minutes; the same command goes on
    just gpu steps=teacher,bench      some steps, in this order
    just gpu train.amp=fp32           a field of a recipe goes to every training
    just gpu tiny=true                rehearses each line on any machine: device=cpu, narrow networks, one epoch

In:  clip stores of Northwestern-UCLA and UTD-MHAD (`just phase0 recipe=nw_ucla raw=...`).
Out: runs/ as always; FOLDER-steps/: a log a step, and which are done; FOLDER (default build/gpu/), brought up to date
     after each step: results.tar with these logs, the benchmark, and every run's recipe, metrics, result and scores, or
     its log if it has no result; weights-<run>.pt of the teachers and students.tar, in FP16. No file is larger than
     15 MB.
Nothing need be installed but torch, numpy, einops, tqdm and, for phase 4, onnx, onnxscript and onnxruntime.
Exit codes: 0 all steps done, 1 a step failed or time ran out, 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))                        # where last.py is not installed
MOST = 15e6                                          # bytes of a file
STOP = 25.0                                          # seconds that a stop may take
KEPT = ("base", "lite", "last_e", "maskclr", "L12")  # runs whose weights come along


@dataclass
class Step:
    """Commands, one after another; `beside`: the next step starts at once, because this one measures no time."""
    name: str
    commands: tuple[str, ...]
    tiny: str                   # words added in a rehearsal
    beside: bool = False


ABLATION = "-m phases.ablation rows="
SMALL = "view.frames=8 train.epochs=1 device=cpu"
NARROW = f"model.width=16 {SMALL}"
BASE = "train.accumulate=1 train.batch=64 model.drop_path=0.05"  # for sets of a thousand clips
LITE = "seeds=0,1,2 jobs=6 train.batch=64 train.epochs=120"
B_ROWS = "B0,B1,B2,B3,B4,B5,B6,B8,B9,B10,B11,B12,B13"  # B7 is base under another name
STEPS = [
    Step("test", ("-m pytest -o addopts=-q tests/last/test_gpu.py --durations=8",),
         "-k fp32 or view or group", beside=True),
    Step("teacher", (f"{ABLATION}base streams=all data=nw_ucla jobs=4 {BASE} train.epochs=60 train.amp=fp32",),
         NARROW),  # as many epochs as fifteen minutes on an H100 had time for
    Step("students", (f"{ABLATION}lite_small_base,lite_nano_base data=nw_ucla {LITE}",
                      f"{ABLATION}lite_small,lite_nano data=nw_ucla {LITE}"), SMALL),
    Step("bench", ("tests/tools/bench.py device=cuda compile=false",), "networks=lite_nano out="),
    Step("fp32", ("tests/tools/bench.py device=cuda compile=false amp=fp32",), "networks=lite_nano out="),
    Step("B_utd", (f"{ABLATION}base,{B_ROWS} data=utd_mhad jobs=14 {BASE} train.epochs=40",), NARROW),
    # NARROW as in B_utd: both hold base
    Step("L_utd", (f"{ABLATION}last_e data=utd_mhad", f"{ABLATION}base streams=all data=utd_mhad jobs=4 {BASE} "
                   "train.epochs=40",
                   f"{ABLATION}L10,L11,lite_small_base,lite_nano_base data=utd_mhad train.epochs=25 seeds=0,1,2 jobs=8",
                   f"{ABLATION}maskclr_small data=utd_mhad train.epochs=25 pretrain.gate=100 seeds=0,1,2 jobs=3",
                   f"{ABLATION}L12 data=utd_mhad train.epochs=25 seeds=0,1,2 jobs=3"), NARROW),
    Step("L_ucla", (f"{ABLATION}L0,L3,L5,L6,L7,L8 data=nw_ucla train.epochs=40 seeds=0,1,2 jobs=8",), SMALL),
    Step("B_ucla", (f"{ABLATION}{B_ROWS} data=nw_ucla jobs=13 {BASE} train.epochs=100",), NARROW),
    Step("compiled", ("tests/tools/bench.py device=cuda compile=only",), "networks=lite_nano out="),
]


class Lease:
    """The time that is left, and the commands under way."""

    def __init__(self, minutes: float, out: Path, tiny: bool, passed: list[str]):
        self.end, self.out, self.tiny, self.passed = time.monotonic() + 60 * minutes, out, tiny, passed
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
        say(f"{step.name}: starts, {self.left / 60:.1f} min left")
        words = [shlex.join([sys.executable, *shlex.split(c), *(self.passed if c.startswith(ABLATION) else ())])
                 for c in step.commands]
        if self.tiny:
            more = shlex.join([step.tiny[:2], step.tiny[3:]] if step.tiny.startswith("-k") else step.tiny.split())
            words = [f"{w} {more}" for w in words]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        env = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": path} | ({"LAST_GPU": "cpu"} if self.tiny else {})
        with open(self.steps / f"{step.name}.log", "ab") as f:
            lines = [f"{w} || rc=$?; [ $rc = 130 ] && exit 130" for w in words]  # interrupted: no next command
            child = subprocess.Popen(["bash", "-c", "; ".join(["rc=0", *lines, "exit $rc"])],
                                     stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, cwd=ROOT, env=env,
                                     start_new_session=True)
        self.under_way.append((step, child))

    def wait(self) -> bool:
        """Wait for all commands under way; interrupt them when time is up. Whether all ended well."""
        for _, child in self.under_way:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, self.left - STOP))
        late = [child for _, child in self.under_way if child.poll() is None]
        stop(late)
        for step, child in self.under_way:
            if child.returncode == 0:
                (self.steps / f"{step.name}.done").touch()
            ended = "done" if child.returncode == 0 else f"exit code {child.returncode}"
            tail = (self.steps / f"{step.name}.log").read_text(errors="replace").splitlines()[-4:]
            say(f"{step.name}: {'out of time, ' * (child in late)}{ended}", *tail)
        good = all(child.returncode == 0 for _, child in self.under_way)
        self.under_way.clear()
        pack(self.out, self.steps)
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


def has_gpu() -> bool:
    import torch
    return torch.cuda.is_available()


def say(*lines: str) -> None:
    print(time.strftime("%T"), *lines, sep="\n  ", flush=True)


def halved(path: Path) -> bytes:
    """A final.pt with its weights in FP16."""
    import torch
    state, file = torch.load(path, map_location="cpu", weights_only=True), io.BytesIO()
    state["model"] = {k: v.half() if v.is_floating_point() else v for k, v in state["model"].items()}
    torch.save(state, file)
    return file.getvalue()


def pack(out: Path, steps: Path) -> None:
    """What is worth keeping, in a few files below MOST; a run without a result is worth its log, too."""
    from phases.common.files import atomic
    with (atomic(out / "results.tar") as part, tarfile.open(part, "w") as results,
          atomic(out / "students.tar") as other, tarfile.open(other, "w") as students):
        for path in (*sorted(ROOT.glob("results/bench-*.json")), *sorted(steps.glob("*.log"))):
            results.add(path, path.name)
        for folder in sorted({path.parent for kind in ("recipe.json", "log.txt")
                              for path in ROOT.glob(f"runs/**/{kind}")}):
            name = folder.relative_to(ROOT)
            log = [] if (folder / "result.json").is_file() else ["log.txt"]
            for file in ("recipe.json", "metrics.jsonl", "result.json", "scores.npz", *log):
                if (folder / file).is_file():
                    results.add(folder / file, str(name / file))
            weights = folder / "final.pt"
            if not weights.is_file() or not name.parts[1].startswith(KEPT):
                continue
            alone = out / f"weights-{'-'.join(name.parts[1:])}.pt"
            if alone.is_file() and alone.stat().st_mtime > weights.stat().st_mtime:
                continue
            data = halved(weights)
            if len(data) > 3e6:
                alone.write_bytes(data)
            else:
                info = tarfile.TarInfo(str(name / "final.pt"))
                info.size = len(data)
                students.addfile(info, io.BytesIO(data))
    for path in sorted(out.iterdir()):
        if path.stat().st_size > MOST:
            say(f"warning: {path} has {path.stat().st_size / 1e6:.0f} MB")


def main(argv: list[str]) -> int:
    given = {"minutes": "600", "out": "build/gpu", "steps": ",".join(step.name for step in STEPS), "tiny": "false"}
    passed: list[str] = []
    if {"-h", "--help", "help"} & set(argv):
        print(__doc__.strip())
        return 0
    for arg in argv:
        key, eq, value = arg.partition("=")
        if eq and "." in key:
            passed.append(arg)
            continue
        if not eq or key not in given:
            print(f"error: unknown argument {arg!r} (known: {', '.join(given)}, train.KEY)", file=sys.stderr)
            return 2
        given[key] = value
    named = {step.name: step for step in STEPS}
    unknown = [name for name in given["steps"].split(",") if name not in named]
    if unknown:
        print(f"error: steps = {unknown[0]!r}: no such step (known: {', '.join(named)})", file=sys.stderr)
        return 2
    tiny = given["tiny"] == "true"
    if not re.fullmatch(r"\d+(\.\d+)?", given["minutes"]) or given["tiny"] not in ("true", "false"):
        print("error: minutes must be a number, tiny true or false", file=sys.stderr)
        return 2
    if not tiny and not has_gpu():
        print("error: no GPU here; tiny=true rehearses every line without one", file=sys.stderr)
        return 2
    names = given["steps"].split(",")
    words = [word for name in names for command in named[name].commands for word in command.split()]
    missing = sorted({word[5:] for word in words if word.startswith("data=")
                      and not (ROOT / "stores" / word[5:] / "meta.json").is_file()})
    if missing and not any(word.startswith("data.store=") for word in passed):
        print(f"error: no clip store stores/{missing[0]}: run `just phase0 recipe={missing[0]} raw=...`",
              file=sys.stderr)
        return 2
    lease, good = Lease(float(given["minutes"]), ROOT / given["out"], tiny, passed), True
    try:
        for name in names:
            if lease.done(named[name]):
                say(f"{name}: already done")
                continue
            if lease.left < STOP + 5:
                good = False
                break
            lease.start(named[name])
            if not named[name].beside:
                good &= lease.wait()
        if lease.under_way:
            good &= lease.wait()
    except KeyboardInterrupt:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # a second one would leave trainings behind
        lease.end = 0
        lease.wait()
        return 130
    return 0 if good else 1


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT):  # what is done comes home all the same
        signal.signal(number, signal.default_int_handler)  # also where a shell's & ignores SIGINT
    sys.exit(main(sys.argv[1:]))
