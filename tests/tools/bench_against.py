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
from collections.abc import Sequence
from pathlib import Path

from tests.tools.bench_steps import CASES, ROOT

STEPS = ROOT / "tests" / "tools" / "bench_steps.py"
TURNS = 3


def unpack(revision: str, folder: Path) -> str:
    """Write the files of a commit into `folder`; return its short name. ValueError if git does not know it."""
    # a commit by any of its names
    git = ["git", "-C", str(ROOT)]
    named = subprocess.run([*git, "rev-parse", "--short", "--verify", f"{revision}^{{commit}}"], capture_output=True,
                           text=True)
    if named.returncode:
        raise ValueError(f"against={revision}: no such commit here (a shallow clone lacks the older ones)")

    # its files, without its history
    files = subprocess.run([*git, "archive", revision], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(files)) as tar:
        tar.extractall(folder, filter="data")
    return named.stdout.strip()


def measured(tree: Path, case: str) -> dict:
    """The `cost` of a case, in a process that finds the code of this tree and, by -P, no other."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
    command = [sys.executable, "-P", str(STEPS), str(tree), case]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tree, env=env)
    if done.returncode:
        raise ValueError(f"{case} at {tree}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def compared(case: str, tree: Path, name: str) -> dict:
    """{name, against, clips, before, after, ratio, ratios} of a case; before and after are medians over the turns."""
    # a ratio is of one turn, because the machine's speed varies
    turns = [(measured(tree, case), measured(ROOT, case)) for _ in range(TURNS)]
    ratios = [before["ms"] / after["ms"] for before, after in turns]

    sides = []
    for side in zip(*turns, strict=True):
        sides.append({key: statistics.median(turn[key] for turn in side) for key in side[0]})
    return {"name": case, "against": name, "clips": CASES[case], "before": sides[0], "after": sides[1],
            "ratio": statistics.median(ratios), "ratios": ratios}


def table(revision: str, networks: Sequence[str] = ()) -> list[dict]:
    """Measure some of the cases, by default all, and print them: a list of what `compared` gives."""
    for network in networks:
        if network not in CASES:
            raise ValueError(f"networks={network}: one or more of {', '.join(CASES)}")

    # the other side, then case by case
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        name = unpack(revision, Path(folder))
        print(f"| step | clips | ms a clip: {name} | now | times as fast | peak MB: {name} | now | launches: {name} "
              "| now |")
        print("|---" * 9 + "|", flush=True)
        for network in networks or CASES:
            case = compared(network, Path(folder), name)
            before = case["before"]
            after = case["after"]
            print(f"| {network} | {case['clips']} | {before['ms']:.1f} | {after['ms']:.1f} | {case['ratio']:.2f} "
                  f"| {before['peak_MB']:.0f} | {after['peak_MB']:.0f} "
                  f"| {before['launches']:,} | {after['launches']:,} |", flush=True)
            cases.append(case)
    return cases
