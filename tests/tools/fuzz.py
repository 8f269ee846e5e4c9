"""Mutated inputs against every reader and loader: each is stored, refused in one line, or a fault.

    just fuzz                                 a minute, all targets in turn
    just fuzz seconds=600 seed=3              longer, other inputs
    just fuzz targets=ntu,pickle inputs=5000  some targets, a number of inputs each instead of a time
    just fuzz replay=build/fuzz               the saved inputs of earlier faults, again
    just fuzz out=results/fuzz.json           adds the counts to a file

In:  valid inputs made here, and pieces of the real recordings in $LAST_TEST_DATA or ../shared/data if they are there.
     Input i of a target depends on (seed, target, i) alone.
Out: a line per target. The input of a fault goes to keep=FOLDER, one file for each place in the code.
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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from phases.common.command import nearest, words
from phases.common.command import run as run_program
from phases.common.files import ROOT, write_json
from tests.tools.mutations import Target

SLOW, LARGE = 5.0, 1 << 20  # seconds of a core; kilobytes that one input may add to the peak
SLICE = 0.25                # seconds for which a target has its turn
OURS = (ROOT / "last.py", ROOT / "skeletons.py", ROOT / "phases")


@dataclass(frozen=True)
class Options:
    seconds: Annotated[int, (0, 1_000_000), "of wall time, all targets together"] = 60
    seed: Annotated[int, (0, 2**31), "of the inputs"] = 0
    inputs: Annotated[int, (0, 2**31), "for each target, instead of a time; 0: by time"] = 0
    targets: Annotated[tuple[str, ...], "some of them; empty: all"] = ()
    replay: Annotated[str, "a folder of saved inputs, instead of new ones"] = ""
    keep: Annotated[Path, "the folder for the inputs of faults"] = Path("build/fuzz")
    out: Annotated[str, "the file that the counts are added to; empty: none"] = ""


class TooSlow(BaseException):
    """No reader's `except Exception` holds it."""


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


# ---------------------------------------------------------------------------------------------------------------------
# One input
# ---------------------------------------------------------------------------------------------------------------------

def complaint(target: Target, data: bytes) -> str:
    """`stored`, `refused`, or what is wrong with how the target took an input."""
    def too_slow(*_) -> None:
        raise TooSlow

    # within a time of the processor, without a word on either stream, and every warning is an error
    peak = peak_kilobytes()
    signal.signal(signal.SIGPROF, too_slow)
    signal.setitimer(signal.ITIMER_PROF, SLOW)
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            warnings.simplefilter("error")
            taken = "stored" if target.take(data) is not False else "refused"
    except (ValueError, OSError) as e:
        taken = refusal(e)
    except TooSlow as e:
        taken = f"took more than {SLOW:g} seconds, {place(e)}"
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        taken = f"{type(e).__name__}: {' '.join(str(e).split())[:120]}, {place(e)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)

    return "took more than 1 GB" if peak_kilobytes() - peak > LARGE else taken


def peak_kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def refusal(e: ValueError | OSError) -> str:
    """`refused`, or what is wrong with the message of an error that may be raised."""
    text = str(e)
    if not text.strip() or "\n" in text.strip():
        return f"message: {text[:80]!r}, {place(e)}"
    if isinstance(e, OSError) and not e.filename and e.errno:
        return f"names no file: {text[:80]}, {place(e)}"
    if type(e).__name__ in ("UnicodeDecodeError", "JSONDecodeError"):
        return f"{type(e).__name__}: {text[:80]}, {place(e)}"
    return "refused"


def place(e: BaseException) -> str:
    """The innermost line of ours that an exception passed."""
    found = "here"
    for frame in traceback.extract_tb(e.__traceback__):
        path = Path(frame.filename)
        if path in OURS or OURS[-1] in path.parents:
            found = f"{path.name}, {frame.name}"
    return found


def one(target: Target, number: int, seed: int) -> bytes:
    """Input `number` of a target."""
    rng = random.Random(f"{seed} {target.name} {number}")
    return target.mutate(rng.choice(target.seeds), rng, target.seeds)


def judge(target: Target, data: bytes, count: Count, keep: Path) -> None:
    """Count an input; save it if it is the first with its fault."""
    taken = complaint(target, data)
    if taken in ("stored", "refused"):
        setattr(count, taken, getattr(count, taken) + 1)
        return

    # faults are of one kind if they have the same type and function
    count.faults += 1
    kind = taken.split(":")[0] + "," + taken.rpartition(" seconds")[2].rpartition(",")[2]
    if kind in count.found:
        return
    # the first of its kind is saved under its hash
    path = keep / f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
    keep.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    count.found[kind] = {"what": taken, "input": path.name}
    print(f"fault    {target.name}: {taken} -> {path}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------------------
# All of them
# ---------------------------------------------------------------------------------------------------------------------

def make_targets(folder: Path, wanted: Sequence[str]) -> list[Target]:
    """The targets by their names, by default all; they write below a folder."""
    from tests.tools.fuzz_known import known_targets
    from tests.tools.fuzz_recordings import recording_targets
    from tests.tools.fuzz_written import written_targets
    # all are made, because some use what others have written
    made = [*recording_targets(folder), *known_targets(folder), *written_targets(folder)]
    known = [target.name for target in made]
    for name in wanted:
        if name not in known:
            raise ValueError(f"targets = {name!r}{nearest(name, known)}")
    return [target for target in made if not wanted or target.name in wanted]


def run(targets: list[Target], options: Options) -> dict[str, Count]:
    """A slice of time for each target in turn, until time is up or each has had its inputs."""
    counts = {target.name: Count() for target in targets}
    most = options.inputs or sys.maxsize
    start = time.monotonic()
    while True:
        for target in targets:
            # a slice of the time
            count = counts[target.name]
            slice_start = time.monotonic()
            while time.monotonic() - slice_start < SLICE and count.tried < most:
                judge(target, one(target, count.tried, options.seed), count, options.keep)
            if not options.inputs and time.monotonic() - start > options.seconds:
                return counts
        if all(count.tried >= most for count in counts.values()):
            return counts


def replay(targets: list[Target], folder: Path) -> dict[str, Count]:
    """Every saved input again."""
    by_name = {target.name: target for target in targets}
    counts = {}
    for path in sorted(folder.iterdir()):
        target = by_name.get(path.name.rpartition("-")[0])
        if target:
            judge(target, path.read_bytes(), counts.setdefault(target.name, Count()), folder)
    return counts


def record(out: Path, counts: dict[str, Count], options: Options, seconds: float) -> None:
    """Add the counts of a run to a file; a replay says which of the faults are mended."""
    from phases.training.run_folder import commit
    command = " ".join(["just fuzz", *words(replace(options, out="", keep=Options.keep, replay=""))])
    whole = {"command": command, "runs": [], "targets": {}, "faults": {}}
    if out.exists():
        whole = json.loads(out.read_text())

    # what is still a fault, or new counts
    if options.replay:
        faulty = {found["input"] for count in counts.values() for found in count.found.values()}
        for name, fault in whole["faults"].items():
            fault["mended"] = name not in faulty
    else:
        whole["runs"].append({"command": command, "seconds": round(seconds), "commit": commit()})
        for name, count in counts.items():
            entry = whole["targets"].setdefault(name, {"tried": 0, "stored": 0, "refused": 0, "faults": 0})
            for key in entry:
                entry[key] += getattr(count, key)
            for found in count.found.values():
                whole["faults"].setdefault(found["input"], {"target": name, "what": found["what"], "mended": False})

    whole["tried"] = sum(entry["tried"] for entry in whole["targets"].values())
    write_json(out, whole)


def main(options: Options) -> int:
    # in memory, where there is such a folder
    scratch = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        targets = make_targets(Path(folder), options.targets)
        start = time.monotonic()
        counts = replay(targets, Path(options.replay)) if options.replay else run(targets, options)
        seconds = time.monotonic() - start

    # a line per target
    total = Counter()
    for name, count in counts.items():
        print(f"{name:17} {count.tried:9,} inputs, {count.stored:8,} stored, {count.refused:9,} refused, "
              f"{count.faults} faults")
        total.update(tried=count.tried, faults=count.faults)
    print(f"{total['tried']:,} inputs, {total['faults']} faults")

    if options.out:
        record(Path(options.out), counts, options, seconds)
    return 1 if total["faults"] else 0


if __name__ == "__main__":
    run_program(main, Options)
