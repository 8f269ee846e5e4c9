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
from torch import device

from phases.common.files import write_json
from phases.common.protocols import PROTOCOLS, WITHIN, sides
from phases.recordings.ntu import ntu_fields
from phases.training.run_folder import commit, device_name
from tests.tools.interruptions import ROOT, descendants


def link_all(raw: Path, recordings: list[Path], names: list[str], folder: Path) -> None:
    """One link per name, in a folder for each setup; those that exist are kept."""
    samples = []
    for path in recordings:
        sample = folder / path.name.removesuffix(".xz")
        if not sample.exists():
            sample.write_bytes(lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes())
        samples.append(sample)
    for i, name in enumerate(names):
        link = raw / name[:4] / f"{name}.skeleton"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            os.link(samples[i % len(samples)], link)


def expected_counts(names: list[str], dataset: str) -> tuple[int, dict]:
    """Clips, and training and test clips by protocol, from the names alone."""
    fields = [ntu_fields(name) for name in names]
    kept = [f for f in fields if all(f[k] <= most for k, most in WITHIN.get(dataset, {}).items())]
    table, counts = {k: np.array([f[k] for f in kept]) for k in kept[0]}, {}
    for name, rule in PROTOCOLS[dataset].items():
        train, test = sides(rule, table)
        counts[name] = {"train": int(train.sum()), "test": int(test.sum())}
    return len(kept), counts


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
    began, peak, shards = time.monotonic(), 0, 0
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


def rehearse(given: dict) -> int:
    data = Path(os.environ.get("LAST_TEST_DATA") or ROOT.parent / "shared" / "data")
    recordings = sorted(Path(given["raw"] or data / "ntu-samples").glob("*.skeleton*"))
    listed, folder = Path(given["names"] or data / "ntu-names.txt.xz"), Path(given["folder"]).resolve()
    if not recordings or not listed.is_file():
        raise ValueError(f"no recordings: give raw=FOLDER of .skeleton files and names=FILE, or set LAST_TEST_DATA "
                         f"(looked at {data})")
    text = listed.read_bytes()
    names = (lzma.decompress(text) if listed.suffix == ".xz" else text).decode().split()
    folder.mkdir(parents=True, exist_ok=True)
    link_all(folder / "raw", recordings, names, folder)
    report, failed = {"command": "just torture ntu=true", "commit": commit(), "device": device_name(device("cpu")),
                      "cores": os.cpu_count(), "recordings": len(recordings), "data sets": []}, False
    for dataset in ("ntu60", "ntu120"):
        clips, counts = expected_counts(names, dataset)
        store = folder / dataset
        shutil.rmtree(store, ignore_errors=True)
        partial, whole = store.with_name(f"{dataset}.partial"), -(-clips // 256)
        shutil.rmtree(partial, ignore_errors=True)
        command = [sys.executable, "-m", "phases.p0_preprocess", f"recipe={dataset}",
                   f"raw={folder / 'raw'}", f"data.store={store}"]
        code, first, peak, shards = watch(command, partial, whole // 3)
        again, second, other_peak, _ = watch(command, partial, 0)
        meta = json.loads((store / "meta.json").read_text())
        entry = {"dataset": dataset, "clips": meta["quality"]["clips"], "counts": meta["counts"],
                 "counts of the names": counts, "skipped": len(meta["skipped"]),
                 "killed": {"exit": code, "seconds": round(first, 1), "shards": shards, "of": whole},
                 "resumed": {"exit": again, "seconds": round(second, 1)},
                 "files per second": round(clips / (first + second)), "peak MB": round(max(peak, other_peak) / 1e6),
                 "store MB": round(sum(p.stat().st_size for p in store.iterdir()) / 1e6)}
        good = (code, again, entry["clips"], meta["counts"], entry["skipped"]) == (-9, 0, clips, counts, 0)
        failed |= not good or partial.exists() or any(folder.glob(f".{dataset}*"))
        report["data sets"].append(entry | {"as expected": good})
        print(json.dumps(entry), flush=True)
        shutil.rmtree(store)
        if given["out"]:
            write_json(Path(given["out"]), report)
    return 1 if failed else 0
