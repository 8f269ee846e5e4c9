"""Two trainings side by side against one after another: wall time of `just ablation` with jobs=2 and jobs=1.

    just bench jobs=2                 -> results/bench-jobs.json; on an otherwise idle machine

LAST-Lite nano with as many seeds as jobs on 288 made clips, half of them to train on, T = 32, 4 epochs each; both ways
by turns, three times.
"""
from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.clip_stores import ROOT, write_store

WORDS = ["rows=lite_nano", "data.name=tiny", "data.num_classes=3", "device=cpu", "train.epochs=4",
         "train.batch=16", "view.frames=32", "view.bodies=1"]
TURNS = 3


def seconds(folder: Path, seeds: int, jobs: int) -> float:
    """Wall seconds of all trainings, from the start of the command to its end."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-m", "phases.ablation", *WORDS, f"data.store={folder / 'store'}",
                   f"seeds={','.join(map(str, range(seeds)))}", f"out={out}", f"jobs={jobs}"]
        start = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder,
                       env={**os.environ, "PYTHONPATH": str(ROOT)})
        return time.monotonic() - start


def ratios(jobs: int) -> dict:
    """{jobs, cores, one by one, side by side, ratio, ratios}: seconds are medians, a ratio is of one turn."""
    with tempfile.TemporaryDirectory() as name:
        # both ways by turns, so that a machine whose speed varies slows both
        folder = Path(name)
        write_store(folder / "store", clips=288, bodies=1)
        turns = [(seconds(folder, jobs, 1), seconds(folder, jobs, jobs)) for _ in range(TURNS)]

    # a ratio is of one turn
    of_turns = [beside / alone for alone, beside in turns]
    alone, beside = (statistics.median(side) for side in zip(*turns, strict=True))
    print(f"one by one {alone:.1f} s, {jobs} side by side {beside:.1f} s: {statistics.median(of_turns):.2f} of it")
    return {"jobs": jobs, "cores": os.cpu_count(), "one by one": alone, "side by side": beside,
            "ratio": statistics.median(of_turns), "ratios": of_turns}
