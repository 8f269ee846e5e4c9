"""Mutated inputs against every reader and loader: each is stored, refused in one line, or a fault.

    just fuzz                                 a minute, all targets in turn
    just fuzz seconds=600 seed=3              longer, other inputs
    just fuzz targets=ntu,pickle inputs=5000  some targets, a number of inputs each instead of a time
    just fuzz replay=build/fuzz               the saved inputs of earlier faults, again
    just fuzz out=results/fuzz.json           adds the counts to a file

In:  valid inputs made here, and pieces of the real recordings in $LAST_TEST_DATA or ../shared/data if they are there.
     Input i of a target depends on (seed, target, i) alone.
Out: a line per target. The input of a fault goes to keep=FOLDER (build/fuzz), one file for each place in the code.
     A fault is another exception than ValueError or OSError, a message of several lines or of none, a warning, more
     than 5 seconds of a core, more than 1 GB, or another result than a naive reader's.
Exit codes: 0 no fault, 1 faults, 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.tools.mutations import damaged

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SLOW, LARGE = 5.0, 1 << 20  # seconds of a core; kilobytes that one input may add to the peak


class TooSlow(BaseException):
    """No reader's `except Exception` holds it."""


class Different(AssertionError):
    """A reader and a naive one accept the same input and read different things."""


@dataclass
class Target:
    """take(data) reads an input: False if it refused it without an exception. mutate(seed, rng, seeds) makes one."""
    name: str
    seeds: list[bytes]
    take: Callable[[bytes], object]
    mutate: Callable[[bytes, random.Random, list[bytes]], bytes] = damaged


@dataclass
class Count:
    """What became of the inputs of a target."""
    stored: int = 0
    refused: int = 0
    faults: int = 0
    found: dict[str, dict] = field(default_factory=dict)  # a fault's place in the code -> what, input

    @property
    def tried(self) -> int:
        return self.stored + self.refused + self.faults


def options(argv: list[str]) -> dict:
    given = {"seconds": "60", "seed": "0", "inputs": "0", "targets": "", "replay": "", "keep": "build/fuzz", "out": ""}
    for arg in argv:
        key, eq, value = arg.partition("=")
        if not eq or key not in given:
            raise ValueError(f"argument {arg!r}: unknown (known: {', '.join(given)})")
        given[key] = value
    for key in ("seconds", "seed", "inputs"):
        if not given[key].isdecimal():
            raise ValueError(f"{key} = {given[key]!r}: must be a whole number")
        given[key] = int(given[key])
    return given


# ---------------------------------------------------------------------------------------------------------------------
# One input
# ---------------------------------------------------------------------------------------------------------------------

def complaint(target, data: bytes) -> str:
    """`stored`, `refused`, or what is wrong with how the target took an input."""
    def too_slow(*_) -> None:
        raise TooSlow

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGPROF, too_slow)
    signal.setitimer(signal.ITIMER_PROF, SLOW)
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("error")
            taken = "stored" if target.take(data) is not False else "refused"
    except (ValueError, OSError) as e:
        text = str(e)
        taken = "refused"
        if not text.strip() or "\n" in text.strip():
            taken = f"message: {text[:80]!r}, {place(e)}"
        elif isinstance(e, OSError) and not e.filename and e.errno:
            taken = f"names no file: {text[:80]}, {place(e)}"
        elif type(e).__name__ in ("UnicodeDecodeError", "JSONDecodeError"):
            taken = f"{type(e).__name__}: {text[:80]}, {place(e)}"
    except TooSlow as e:
        taken = f"took more than {SLOW:g} seconds, {place(e)}"
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        taken = f"{type(e).__name__}: {' '.join(str(e).split())[:120]}, {place(e)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak > LARGE:
        taken = "took more than 1 GB"
    return taken


def place(e: BaseException) -> str:
    """The innermost line of ours that an exception passed."""
    ours = f"{ROOT}/phases", f"{ROOT}/last.py"
    frames = [frame for frame in traceback.extract_tb(e.__traceback__) if frame.filename.startswith(ours)]
    return f"{Path(frames[-1].filename).name}, {frames[-1].name}" if frames else "here"


def one(target, number: int, seed: int) -> bytes:
    """Input `number` of a target."""
    rng = random.Random(f"{seed} {target.name} {number}")
    return target.mutate(rng.choice(target.seeds), rng, target.seeds)


def judge(target, data: bytes, count: Count, keep: Path) -> None:
    """Count an input; save it if it is the first with its fault."""
    taken = complaint(target, data)
    if taken in ("stored", "refused"):
        setattr(count, taken, getattr(count, taken) + 1)
        return
    count.faults += 1
    kind = taken.split(":")[0] + "," + taken.rpartition(" seconds")[2].rpartition(",")[2]
    if kind not in count.found:
        path = keep / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
        keep.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        count.found[kind] = {"what": taken, "input": path.name}
        print(f"fault    {target.name}: {taken} -> {path}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------------------
# All of them
# ---------------------------------------------------------------------------------------------------------------------

def run(targets: list, given: dict) -> dict[str, Count]:
    """Slices of a quarter of a second for each target in turn, until time is up or each has had its inputs."""
    counts = {target.name: Count() for target in targets}
    start, keep = time.monotonic(), Path(given["keep"])
    while True:
        for target in targets:
            count, slice_start = counts[target.name], time.monotonic()
            while time.monotonic() - slice_start < 0.25 and not (given["inputs"] and count.tried >= given["inputs"]):
                judge(target, one(target, count.tried, given["seed"]), count, keep)
            if not given["inputs"] and time.monotonic() - start > given["seconds"]:
                return counts
        if given["inputs"] and all(count.tried >= given["inputs"] for count in counts.values()):
            return counts


def replay(targets: list, given: dict) -> dict[str, Count]:
    """Every saved input again."""
    counts, by_name = {}, {target.name: target for target in targets}
    for path in sorted(Path(given["replay"]).iterdir()):
        target = by_name.get(path.name.rpartition("-")[0])
        if target:
            judge(target, path.read_bytes(), counts.setdefault(target.name, Count()), Path(given["replay"]))
    return counts


def record(out: Path, counts: dict[str, Count], given: dict, seconds: float, command: str) -> None:
    """Add the counts of a run to a file; a replay says which of the faults are mended."""
    from phases.common.files import write_json
    from phases.training.run_folder import commit
    old = json.loads(out.read_text()) if out.exists() else {"command": command, "runs": [], "targets": {}, "faults": {}}
    if given["replay"]:
        faulty = {found["input"] for count in counts.values() for found in count.found.values()}
        for name, fault in old["faults"].items():
            fault["mended"] = name not in faulty
    else:
        old["runs"].append({"command": command, "seconds": round(seconds), "commit": commit()})
        for name, count in counts.items():
            entry = old["targets"].setdefault(name, {"tried": 0, "stored": 0, "refused": 0, "faults": 0})
            for key in entry:
                entry[key] += getattr(count, key)
            for found in count.found.values():
                old["faults"].setdefault(found["input"], {"target": name, "what": found["what"], "mended": False})
    old["tried"] = sum(entry["tried"] for entry in old["targets"].values())
    write_json(out, old)


def main(argv: list[str]) -> int:
    given = options(argv)
    scratch = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        from tests.tools import fuzz_targets
        targets = fuzz_targets.make_targets(Path(folder), given["targets"].split(",") if given["targets"] else [])
        start = time.monotonic()
        counts = replay(targets, given) if given["replay"] else run(targets, given)
    total = Counter()
    for name, count in counts.items():
        print(f"{name:17} {count.tried:9,} inputs, {count.stored:8,} stored, {count.refused:9,} refused, "
              f"{count.faults} faults")
        total.update(tried=count.tried, faults=count.faults)
    print(f"{total['tried']:,} inputs, {total['faults']} faults")
    if given["out"]:
        words = " ".join(arg for arg in argv if not arg.startswith(("out=", "keep=", "replay=")))
        record(Path(given["out"]), counts, given, time.monotonic() - start, f"just fuzz {words}".strip())
    return 1 if total["faults"] else 0


if __name__ == "__main__":
    from phases.common.settings_cli import cli
    cli(main)
