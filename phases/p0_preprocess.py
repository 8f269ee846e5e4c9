"""Phase 0: raw skeletons -> one clip store, which every other phase reads.

    just phase0 recipe=ntu60 raw=FOLDER                 .skeleton files of NTU RGB+D, at any depth of the folder
    just phase0 recipe=ntu120 raw=FOLDER                NTU-60 and NTU-120 files together
    just phase0 recipe=nw_ucla raw=all_sqe              a folder of JSON files, or a tar archive of one
    just phase0 recipe=utd_mhad raw=utd-mhad.npz        your own clips: see `read_arrays`
    just phase0 recipe=ntu60 data.reader=ctrgcn raw=NTU60_CS.npz data.split=given
    just phase0 recipe=ntu60 data.reader=pyskl raw=ntu60_3danno.pkl
    just phase0 recipe=synthetic                        synthetic clips, to try the pipeline without a download

Coordinates in another unit, with another axis up or with scores: data.unit, data.up, data.channels, data.min_score
(metres.py says what they do; a store records them, and what looks wrong is told).

Out: stores/<dataset>/ (or data.store), the joints at their raw length, in metres; V joints, one or two bodies a clip:
    frames.npy   (rows, V, 3) float32, memory-mapped by the reader
    clips.npz    name, label, subject, camera, setup, replication, length; offset (N, 2), the first row of each body,
                 -1 if absent; split_<name> if the recordings bring a split: 0 training, 1 test, -1 neither
    meta.json    skeleton, classes, protocols and their counts, reader, versions, quality, what was skipped and why

A malformed file is skipped, and reported by name, line and reason. An interrupted run leaves the old store as it was;
the same command continues it.
Exit codes: 0 clean, 2 nothing stored, 3 stored but something was skipped, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from phases.common.command import build, nearest, run
from phases.common.files import ROOT, flush, locked, replace_folder
from phases.common.protocols import NTU_CLASSES, NW_UCLA_CLASSES, WITHIN, check_rules
from phases.common.recipes import resolved
from phases.recordings.arrays import metadata
from phases.recordings.clips import Clip, recorded_as
from phases.recordings.metres import reference_joint
from phases.recordings.ntu import ntu_fields, read_ntu_file
from phases.recordings.pickles import read_annotations
from phases.recordings.puppet import SYNTHETIC_ACTIONS, write_synthetic
from phases.recordings.quality import show_report
from phases.recordings.readers import READERS
from phases.recordings.settings import Data
from phases.recordings.store import (
    NothingStored,
    check,
    fresh_partial,
    merge,
    old_store,
    trunk_of,
    write_shard,
)
from skeletons import SKELETONS, Skeleton

SHARD = 256  # clips per shard: bounds the memory, and the work that an interruption loses


# ---------------------------------------------------------------------------------------------------------------------
# NTU text, parsed in many processes
# ---------------------------------------------------------------------------------------------------------------------

def _worker() -> None:
    """Set up a parsing process: the parent handles Ctrl-C, and the process ends when its parent ends."""
    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


def _ntu_shard(job: tuple) -> int:
    path, files, *rest = job
    write_shard(path, [read_ntu_file(Path(f)) for f in files], *rest)
    return len(files)


def ntu_shards(raw: Path, partial: Path, data: Data, skeleton: Skeleton) -> int:
    """Parses .skeleton files into shards, except shards that exist; returns how many unusable samples are left out."""
    from tqdm import tqdm
    files, left_out = ntu_files(raw, data)
    stamp = hashlib.sha256("\n".join(f"{f} {os.stat(f).st_size} {os.stat(f).st_mtime_ns}" for f in files).encode())
    V, recorded = skeleton.num_joints, recorded_as(data)
    fresh_partial(partial, f"2 {stamp.hexdigest()} {data.name} {data.num_classes} {V} {recorded}")
    todo = []
    for i in range(0, len(files), SHARD):
        path = partial / f"shard-{i // SHARD:05d}.npz"
        if not path.exists():
            todo.append((path, files[i:i + SHARD], V, data.num_classes, recorded, trunk_of(skeleton)))
    done = len(files) - sum(len(job[1]) for job in todo)
    workers = min(data.workers or os.cpu_count() or 1, max(1, len(todo)))
    interval = 0.5 if sys.stderr.isatty() else 30  # seconds
    with tqdm(total=len(files), initial=done, desc="parse", unit="file", mininterval=interval) as bar:
        if workers == 1:
            for job in todo:
                bar.update(_ntu_shard(job))
            return left_out
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _worker)
        try:
            for future in as_completed([pool.submit(_ntu_shard, job) for job in todo]):
                bar.update(future.result())
        except BrokenProcessPool:
            raise OSError(f"a parsing process was killed (out of memory?): try data.workers={max(1, workers // 2)}; "
                          "the same command continues from here") from None
        finally:
            pool.shutdown(cancel_futures=True)
    return left_out


def ntu_files(raw: Path, data: Data) -> tuple[list[str], int]:
    """The .skeleton files of the data set in raw, sorted by name, and how many unusable samples are left out.

    A name that does not follow the NTU form stays in the list: its reader then reports it.
    """
    unusable, within = unusable_samples(data), WITHIN.get(data.name, {})
    files, left_out = [], 0
    for path in sorted(raw.rglob("*.skeleton"), key=lambda p: p.name):
        try:
            numbers = ntu_fields(path.stem)
        except ValueError:
            numbers = {}
        if path.stem in unusable:
            left_out += 1
        elif all(numbers.get(k, 0) <= most for k, most in within.items()):
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


# ---------------------------------------------------------------------------------------------------------------------
# Skeleton and classes
# ---------------------------------------------------------------------------------------------------------------------

def skeleton_of(data: Data, raw: Path) -> Skeleton | None:
    """The skeleton that the recipe names, or else the one that the recordings bring."""
    brought = brought_skeleton(data, raw)
    if not data.skeleton:
        if brought is None:
            raise ValueError(f"data.skeleton is empty and {raw} brings none; name one of {', '.join(SKELETONS)}, "
                             "or say in skeleton.json what the joints are")
        return brought
    named = SKELETONS[data.skeleton]
    if brought is not None and (brought.name, brought.num_joints) != (named.name, named.num_joints):
        raise ValueError(f"data.skeleton = {named.name!r}, but {raw} brings {brought.name!r} of {brought.num_joints} "
                         'joints: give data.skeleton="" to take that')
    return named


def brought_skeleton(data: Data, raw: Path) -> Skeleton | None:
    """The skeleton that the recordings bring, by its name or as a table; None if they bring none.

    A pyskl pickle brings only the number of joints, 17 (coco17) or 25 (ntu25), used if the recipe names no skeleton.
    """
    brought = metadata(raw).get("skeleton") if data.reader == "arrays" else None
    if data.reader == "pyskl" and not data.skeleton:
        clips = [a for a in read_annotations(raw)["annotations"] if isinstance(a, dict)]
        joints = {np.shape(a.get("keypoint"))[-2:-1] for a in clips}
        brought = {((17,),): "coco17", ((25,),): "ntu25"}.get(tuple(joints))
    if isinstance(brought, dict):
        try:
            return Skeleton.from_dict(brought)
        except ValueError as e:
            path = raw / "skeleton.json" if raw.is_dir() else raw.with_suffix(".json")
            raise ValueError(f"{path}: {e}") from None
    if brought is not None and brought not in SKELETONS:
        known = nearest(brought, SKELETONS)
        raise ValueError(f"skeleton {brought!r} of {raw} is unknown{known}; or spell it out as a table")
    return SKELETONS.get(brought)


def class_names(data: Data, raw: Path) -> list[str]:
    """Names of the classes: those in the recordings, those of a public data set, or "class 0", "class 1", ..."""
    num_classes, classes = data.num_classes, None
    if data.reader == "arrays":
        classes = metadata(raw).get("classes")
    if classes:
        if len(classes) != num_classes:
            raise ValueError(f"data.num_classes = {num_classes}, but {raw} names {len(classes)} classes")
        return list(map(str, classes))
    public = {"ntu60": NTU_CLASSES[:60], "ntu120": NTU_CLASSES, "nw_ucla": NW_UCLA_CLASSES,
              "synthetic": SYNTHETIC_ACTIONS}
    named = public.get(data.name, ())
    return list(named) if len(named) == num_classes else [f"class {k}" for k in range(num_classes)]


# ---------------------------------------------------------------------------------------------------------------------
# The store
# ---------------------------------------------------------------------------------------------------------------------

def write_store(raw: Path, store: Path, partial: Path, data: Data, skeleton: Skeleton, classes: list[str]) -> dict:
    """Reads, merges, moves into place; returns meta. On an error the old store and finished shards of NTU text stay."""
    resumable, left_out = data.reader in ("ntu", "synthetic"), 0
    V, recorded = skeleton.num_joints, recorded_as(data)
    try:
        if resumable:
            left_out = ntu_shards(raw, partial, data, skeleton)
        else:
            fresh_partial(partial, os.urandom(8).hex())  # these formats are fast to read: always start anew
            found, number = READERS[data.reader](raw, data), 0
            while chunk := list(itertools.islice(found, SHARD)):
                if not number:
                    whole = [c.joints for c in chunk if isinstance(c, Clip) and not check(c, V, data.num_classes)]
                    recorded = dataclasses.replace(recorded, reference=reference_joint(whole))
                path = partial / f"shard-{number:05d}.npz"
                write_shard(path, chunk, V, data.num_classes, recorded, trunk_of(skeleton))
                number += 1
        meta = {**merge(partial, skeleton, data, left_out, recorded), "classes": classes}
        (partial / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        for path in (*partial.glob("shard-*"), partial / "key"):
            path.unlink()
        for path in partial.iterdir():  # flush to the disk before the new store replaces the old one
            with open(path, "rb") as f:
                os.fsync(f.fileno())
        flush(partial)
        replace_folder(partial, store, old_store(store))
    except BaseException as e:
        only_lock = not list(partial.glob("*"))  # the folder exists only because it was locked
        if not resumable or isinstance(e, NothingStored) or only_lock:
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(e, OSError) and e.filename is None and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(f"{partial} cannot be written ({e.strerror}); {store} is as it was") from None
        raise
    return meta


def recordings(data: Data, raw: str, seed: int, store: Path) -> Path:
    """The file or folder of recordings; the reader `synthetic` writes them first."""
    if data.reader == "synthetic":
        folder = Path(raw or f"{store}-raw")
        write_synthetic(folder, seed, data.workers)
        return folder
    if not raw:
        raise ValueError(f"no recordings: give raw=FOLDER_OR_FILE for the reader {data.reader!r}")
    if not Path(raw).exists():
        raise ValueError(f"raw = {raw!r}: no such file or folder")
    return Path(raw)


def main(argv: list[str]) -> int:
    for argument in argv:
        if argument.partition("=")[0].partition(".")[0] not in ("recipe", "data", "raw", "seed", "view"):
            raise ValueError(f"{argument}: phase 0 does not use it; it writes to data.store=FOLDER, by default "
                             "stores/<data set>")
    table = resolved(argv)
    data = build(Data, table.get("data", {}), "data.")
    store = data.folder.resolve()  # the folder that a link points to
    partial, aside = store.with_name(f"{store.name}.partial"), old_store(store)
    raw = recordings(data, str(table.get("raw", "")), table.get("seed", 0), store)
    if not store.exists() and (aside / "meta.json").exists():  # a run was killed between the two renames
        os.replace(aside, store)
    if store.exists() and not (store / "meta.json").exists() and any(store.iterdir()):
        raise ValueError(f"data.store = {store}: is not a clip store, and phase 0 would replace it")
    check_rules(data.protocols)
    if data.reader == "arrays" and data.name == Data.name:
        raise ValueError(f"data.name = {data.name!r} is the default: give your recordings a name in the recipe")
    skeleton, classes = skeleton_of(data, raw), class_names(data, raw)
    with locked(partial):
        meta = write_store(raw, store, partial, data, skeleton, classes)
    show_report(meta, store)
    if meta["quality"]["two_bodies"] and table.get("view", {}).get("bodies", 1) == 1:
        print("  view.bodies = 1: a network sees the first body of each clip; view.bodies=2 shows it both")
    return 3 if meta["skipped"] else 0


if __name__ == "__main__":
    run(main)
