"""NTU text -> shards of a clip store, in many processes. Shards that an interrupted run finished are kept."""
from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from phases.common.files import ROOT
from phases.common.progress import progress_bar
from phases.common.protocols import WITHIN
from phases.recordings.clips import Clip
from phases.recordings.ntu import ntu_fields, ntu_paths, number_actions, read_ntu_file
from phases.recordings.settings import Data
from phases.recordings.store import SHARD, Common, fresh_partial, shard_path, write_shard


class Job(NamedTuple):
    """One shard: the files to parse into it."""
    path: Path
    files: list[str]
    common: Common
    index: dict[int, int]       # of number_actions


def ntu_shards(raw: Path, partial: Path, data: Data, common: Common) -> int:
    """Parses .skeleton files into shards, except shards that exist; returns how many unusable samples are left out."""
    files, left_out = ntu_files(raw, data)
    fresh_partial(partial, shards_key(files, data, common))
    index, _ = number_actions(map(Path, files), data.num_classes)

    # the shards that an interrupted run has not finished
    jobs = []
    for first in range(0, len(files), SHARD):
        path = shard_path(partial, first // SHARD)
        if not path.exists():
            jobs.append(Job(path, files[first:first + SHARD], common, index))

    # in one process, or in several
    workers = min(data.workers or os.cpu_count() or 1, max(1, len(jobs)))
    done = len(files) - sum(len(job.files) for job in jobs)
    with progress_bar(len(files), done, "parse", "file") as bar:
        if workers > 1:
            in_processes(jobs, workers, bar.update)
        else:
            for job in jobs:
                bar.update(parse_shard(job))
    return left_out


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------

def ntu_files(raw: Path, data: Data) -> tuple[list[str], int]:
    """The .skeleton files of the data set in raw, sorted by name, and how many unusable samples are left out.

    A name that does not follow the NTU form stays in the list: its reader then reports it.
    """
    unusable = unusable_samples(data)
    within = WITHIN.get(data.name, {})
    files = []
    left_out = 0
    for path in ntu_paths(raw):
        try:
            numbers = ntu_fields(path.stem)
        except ValueError:
            numbers = {}

        # NTU-60 is a part of NTU-120
        if path.stem in unusable:
            left_out += 1
        elif all(numbers.get(key, 0) <= most for key, most in within.items()):
            files.append(str(path))

    if not files:
        raise ValueError(f"raw = {raw}: no .skeleton file of {data.name} in it or below")
    return files, left_out


def unusable_samples(data: Data) -> set[str]:
    """The names in the file data.missing, which is beside the recipes."""
    if not data.missing:
        return set()
    path = ROOT / "recipes" / data.missing
    if not path.is_file():
        raise ValueError(f"data.missing = {data.missing!r}: no such file beside the recipes")
    return set(path.read_text().split())


def shards_key(files: list[str], data: Data, common: Common) -> str:
    """A text that changes with the files, by name, size and date, and with the settings that change a shard."""
    lines = []
    for file in files:
        about = os.stat(file)
        lines.append(f"{file} {about.st_size} {about.st_mtime_ns}")
    stamp = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"3 {stamp} {data.name} {common.num_classes} {common.num_joints} {common.recorded}"


# ---------------------------------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------------------------------

def parse_shard(job: Job) -> int:
    """Parse the files of a shard and write it; returns their number."""
    found = [read_ntu_file(Path(file)) for file in job.files]
    for item in found:
        if isinstance(item, Clip):
            item.label = job.index[item.label]
    write_shard(job.path, found, job.common)
    return len(job.files)


def in_processes(jobs: list[Job], workers: int, report: Callable[[int], object]) -> None:
    """Run the jobs in processes, and report the number of files of each that is done."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker)

    # no job of those that wait begins after an error or Ctrl-C
    try:
        for future in as_completed([pool.submit(parse_shard, job) for job in jobs]):
            report(future.result())
    except BrokenProcessPool:
        raise OSError(f"a parsing process was killed (out of memory?): try data.workers={max(1, workers // 2)}; "
                      "the same command continues from here") from None
    finally:
        pool.shutdown(cancel_futures=True)


def start_worker() -> None:
    """Set up a parsing process: it ignores Ctrl-C, which its parent handles, and ends when its parent ends."""
    # a killed parent sends no signal
    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()
