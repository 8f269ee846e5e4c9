"""NTU RGB+D at full size through phase 0, rehearsed with a few real recordings under all of its names.

    just torture ntu=true                              recordings and names in $LAST_TEST_DATA or ../shared/data
    just torture ntu=true raw=FOLDER names=FILE        .skeleton files (or .skeleton.xz), a text of one name per line
    just torture ntu=true out=results/ntu-rehearsal.json folder=FOLDER  5 GB; build/ntu

Every name is a hard link to one of the recordings. Phase 0 is killed when a third of the shards is written; the same
command goes on. Counts must be those of the names, by the published protocols.
"""
from __future__ import annotations

import contextlib
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from phases.common.files import ROOT, write_json
from phases.common.protocols import PROTOCOLS, WITHIN, sides
from phases.p0_preprocess import SHARD
from phases.recordings.ntu import ntu_fields
from phases.training.run_folder import commit, device_name
from tests.tools.forked import descendants

SETS = ("ntu60", "ntu120")


# ---------------------------------------------------------------------------------------------------------------------
# The recordings, and what must come out
# ---------------------------------------------------------------------------------------------------------------------

def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def link_all(raw: Path, recordings: list[Path], names: list[str], folder: Path) -> None:
    """One link per name, in a folder for each setup; those that exist are kept."""
    # the recordings themselves
    samples = []
    for path in recordings:
        sample = folder / path.name.removesuffix(".xz")
        if not sample.exists():
            sample.write_bytes(unpacked(path))
        samples.append(sample)

    # all names, in turn
    for i, name in enumerate(names):
        link = raw / name[:4] / f"{name}.skeleton"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            os.link(samples[i % len(samples)], link)


def expected_counts(names: list[str], dataset: str) -> tuple[int, dict]:
    """Clips, and training and test clips by protocol, from the names alone."""
    # the names of the data set, as a table
    within = WITHIN.get(dataset, {})
    fields = [ntu_fields(name) for name in names]
    kept = [f for f in fields if all(f[key] <= most for key, most in within.items())]

    table = {key: np.array([f[key] for f in kept]) for key in kept[0]}
    # both sides of each protocol
    counts = {}
    for name, rule in PROTOCOLS[dataset].items():
        train, test = sides(rule, table)
        counts[name] = {"train": int(train.sum()), "test": int(test.sum())}
    return len(kept), counts


# ---------------------------------------------------------------------------------------------------------------------
# Phase 0, watched
# ---------------------------------------------------------------------------------------------------------------------

def resident(pid: int) -> int:
    """Bytes of memory that a process and those it started hold, shared pages counted once for each."""
    total = 0
    for process in (pid, *descendants(pid)):
        with contextlib.suppress(OSError, IndexError):
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def watch(command: list[str], partial: Path, kill_at: int) -> tuple[int, float, int, int]:
    """Exit code, seconds, peak bytes, and shards at the end; killed with its processes at `kill_at` shards, 0: never.
    """
    began = time.monotonic()
    peak = 0
    shards = 0
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None:
        peak = max(peak, resident(child.pid))
        if kill_at and len(list(partial.glob("shard-*.npz"))) >= kill_at:
            for process in (child.pid, *descendants(child.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            child.wait()
            shards = len(list(partial.glob("shard-*.npz")))
        time.sleep(0.3)
    return child.returncode, time.monotonic() - began, peak, shards


def rehearse_set(dataset: str, names: list[str], folder: Path) -> dict:
    """Phase 0 on one of the data sets, killed and run again: what it wrote and whether that is as expected."""
    # nothing of an earlier rehearsal
    clips, counts = expected_counts(names, dataset)
    store = folder / dataset
    partial = store.with_name(f"{dataset}.partial")
    for old in (store, partial):
        shutil.rmtree(old, ignore_errors=True)

    # a run that is killed, and one that goes on
    whole = -(-clips // SHARD)
    command = [sys.executable, "-m", "phases.p0_preprocess", f"recipe={dataset}", f"raw={folder / 'raw'}",
               f"data.store={store}"]
    code, first, peak, shards = watch(command, partial, max(1, whole // 3))
    again, second, other_peak, _ = watch(command, partial, 0)

    # what there is then
    meta = json.loads((store / "meta.json").read_text())
    entry = {"dataset": dataset, "clips": meta["quality"]["clips"], "counts": meta["counts"],
             "counts of the names": counts, "skipped": len(meta["skipped"]),
             "killed": {"exit": code, "seconds": round(first, 1), "shards": shards, "of": whole},
             "resumed": {"exit": again, "seconds": round(second, 1)},
             "files per second": round(clips / (first + second)), "peak MB": round(max(peak, other_peak) / 1e6),
             "store MB": round(sum(path.stat().st_size for path in store.iterdir()) / 1e6)}
    print(json.dumps(entry), flush=True)
    shutil.rmtree(store)

    # nothing temporary is left
    good = (code, again, entry["clips"], meta["counts"], entry["skipped"]) == (-9, 0, clips, counts, 0)
    left = partial.exists() or any(folder.glob(f".{dataset}*"))
    return entry | {"as expected": good and not left}


def rehearse(raw: str, names: str, folder: Path, out: str) -> int:
    """Both data sets; the report is written after each. 1 if one did not come out as expected."""
    data = Path(os.environ.get("LAST_TEST_DATA") or ROOT.parent / "shared" / "data")
    recordings = sorted(Path(raw or data / "ntu-samples").glob("*.skeleton*"))
    listed = Path(names or data / "ntu-names.txt.xz")
    if not recordings or not listed.is_file():
        raise ValueError(f"no recordings: give raw=FOLDER of .skeleton files and names=FILE, or set LAST_TEST_DATA "
                         f"(looked at {data})")

    # all names as links
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    all_names = unpacked(listed).decode().split()
    link_all(folder / "raw", recordings, all_names, folder)

    report = {"command": "just torture ntu=true", "commit": commit(), "device": device_name(torch.device("cpu")),
              "cores": os.cpu_count(), "recordings": len(recordings), "data sets": []}
    for dataset in SETS:
        report["data sets"].append(rehearse_set(dataset, all_names, folder))
        if out:
            write_json(Path(out), report)
    return 0 if all(entry["as expected"] for entry in report["data sets"]) else 1
