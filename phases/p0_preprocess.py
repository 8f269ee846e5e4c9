"""Phase 0: raw skeletons -> one clip store, which every other phase reads.

    just phase0 recipe=ntu60 raw=FOLDER                 .skeleton files of NTU RGB+D, in any folders below
    just phase0 recipe=ntu120 raw=FOLDER                NTU-60 and NTU-120 files together
    just phase0 recipe=nw_ucla raw=all_sqe              a folder of JSON files, or the tar archive of one
    just phase0 recipe=utd_mhad raw=utd-mhad.npz        anyone's own clips: see `read_arrays`
    just phase0 recipe=ntu60 data.reader=ctrgcn raw=NTU60_CS.npz data.split=given
    just phase0 recipe=ntu60 data.reader=pyskl raw=ntu60_3danno.pkl
    just phase0 recipe=synthetic                        clips of a puppet, to try everything without a download

Out: stores/<dataset>/ (or data.store), joints once at their raw length, in metres; V joints, at most two bodies a clip:
    frames.npy   (rows, V, 3) float32, memory-mapped by the reader
    clips.npz    name, label, subject, camera, setup, replication, length, offset (N, 2): first row of each body, -1 absent;
                 split_<name> where the recordings bring their own split: 0 training, 1 test, -1 neither
    meta.json    skeleton, classes, protocols and their counts, reader, versions, quality, and what was skipped and why

A malformed file is reported by name, line and reason, and skipped. An interrupted run leaves the old store as it was; the same command goes on.
Exit codes: 0 clean, 2 nothing stored, 3 stored but something was skipped, 130 interrupted.
"""
from __future__ import annotations

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
from protocols import NTU_CLASSES, NW_UCLA_CLASSES, WITHIN, check_rules
from puppet import SYNTHETIC_ACTIONS, write_synthetic
from readers import READERS, metadata, ntu_fields, read_annotations, read_ntu_file
from store import NothingStored, fresh_partial, merge, old_store, replace_folder, told, write_shard

SHARD = 256  # clips read and written at a time: what bounds memory, and what an interruption can cost


def _worker() -> None:
    """Leave Ctrl-C to the parent, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True).start()


def _ntu_shard(job: tuple) -> int:
    path, files, V, num_classes = job
    write_shard(path, [read_ntu_file(Path(f)) for f in files], V, num_classes)
    return len(files)


def ntu_shards(raw: Path, partial: Path, cfg, V: int) -> int:
    """Parse .skeleton files in parallel into shards; those that stand already stay. Returns how many the list of unusable samples left out."""
    from tqdm import tqdm
    unusable = unusable_samples(cfg)
    within = WITHIN.get(cfg.data.name, {})
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
        raise ValueError(f"raw = {raw}: no .skeleton file of {cfg.data.name} in it or below")
    jobs = [(partial / f"shard-{i // SHARD:05d}.npz", files[i:i + SHARD], V, cfg.data.num_classes) for i in range(0, len(files), SHARD)]
    stamp = hashlib.sha256("\n".join(f"{f} {os.stat(f).st_size} {os.stat(f).st_mtime_ns}" for f in files).encode()).hexdigest()
    fresh_partial(partial, f"1 {stamp} {cfg.data.name} {cfg.data.num_classes} {V}")
    done = sum(len(j[1]) for j in jobs if j[0].exists())
    todo = [j for j in jobs if not j[0].exists()]
    workers = min(cfg.data.workers or os.cpu_count() or 1, max(1, len(todo)))
    with tqdm(total=len(files), initial=done, desc="parse", unit="file", mininterval=0.5 if sys.stderr.isatty() else 30) as bar:
        if workers == 1:
            for job in todo:
                bar.update(_ntu_shard(job))
        else:
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _worker)
            try:
                for done in as_completed([pool.submit(_ntu_shard, job) for job in todo]):
                    bar.update(done.result())
            except BrokenProcessPool:
                raise OSError(f"a parsing process was killed (out of memory?): try data.workers={max(1, workers // 2)}; "
                              "the same command goes on from here") from None
            finally:
                pool.shutdown(cancel_futures=True)
    return left_out


def unusable_samples(cfg) -> set[str]:
    """Names in the list that the recipe gives, a file beside the recipes."""
    if not cfg.data.missing:
        return set()
    path = Path(__file__).resolve().parent.parent / "recipes" / cfg.data.missing
    if not path.is_file():
        raise ValueError(f"data.missing = {cfg.data.missing!r}: no such file beside the recipes")
    return set(path.read_text().split())


def skeleton_of(cfg, raw: Path):
    """The skeleton the recipe names, or the one the recordings bring."""
    from recipe import nearest

    from last import SKELETONS, Skeleton
    brought = metadata(raw).get("skeleton") if cfg.data.reader == "arrays" else None
    if cfg.data.reader == "pyskl" and not cfg.data.skeleton:
        joints = {np.shape(a.get("keypoint"))[-2:-1] for a in read_annotations(raw)["annotations"] if isinstance(a, dict)}
        brought = {((17,),): "coco17", ((25,),): "ntu25"}.get(tuple(joints))
    if isinstance(brought, dict):
        try:
            brought = Skeleton.from_dict(brought)
        except ValueError as e:
            raise ValueError(f"{raw / 'skeleton.json' if raw.is_dir() else raw.with_suffix('.json')}: {e}") from None
    elif brought is not None:
        if brought not in SKELETONS:
            raise ValueError(f"skeleton {brought!r} of {raw} is unknown{nearest(brought, SKELETONS)}; or write it out in full")
        brought = SKELETONS[brought]
    if not cfg.data.skeleton:
        if brought is None:
            raise ValueError(f"data.skeleton is empty and {raw} brings none; name one of {', '.join(SKELETONS)}")
        return brought
    named = SKELETONS[cfg.data.skeleton]
    if brought is not None and (brought.name, brought.num_joints) != (named.name, named.num_joints):
        raise ValueError(f"data.skeleton = {named.name!r}, but {raw} brings {brought.name!r} of {brought.num_joints} joints: "
                         'give data.skeleton="" to take that')
    return named


def class_names(cfg, raw: Path) -> list[str]:
    if cfg.data.reader == "arrays" and (classes := metadata(raw).get("classes")):
        if len(classes) != cfg.data.num_classes:
            raise ValueError(f"data.num_classes = {cfg.data.num_classes}, but {raw} names {len(classes)} classes")
        return list(map(str, classes))
    named = {"nw_ucla": NW_UCLA_CLASSES, "synthetic": SYNTHETIC_ACTIONS, "ntu60": NTU_CLASSES[:60], "ntu120": NTU_CLASSES}.get(cfg.data.name, ())
    return list(named) if len(named) == cfg.data.num_classes else [f"class {k}" for k in range(cfg.data.num_classes)]


def write_store(raw: Path, store: Path, partial: Path, cfg, skeleton, classes: list[str]) -> dict:
    """Read, merge and put in place; returns meta. On an error the old store stays, and of NTU text the shards that are done."""
    resumable, left_out = cfg.data.reader in ("ntu", "synthetic"), 0
    try:
        if resumable:
            left_out = ntu_shards(raw, partial, cfg, skeleton.num_joints)
        else:
            fresh_partial(partial, os.urandom(8).hex())  # quick to read: always anew
            found, number = READERS[cfg.data.reader](raw, cfg), 0
            while chunk := list(itertools.islice(found, SHARD)):
                write_shard(partial / f"shard-{number:05d}.npz", chunk, skeleton.num_joints, cfg.data.num_classes)
                number += 1
        meta = {**merge(partial, skeleton, cfg, left_out), "classes": classes}
        (partial / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        for path in (*partial.glob("shard-*"), partial / "key"):
            path.unlink()
        for path in partial.iterdir():  # on the disk before it takes the place of what was there
            with open(path, "rb") as f:
                os.fsync(f.fileno())
        replace_folder(partial, store, old_store(store))
    except BaseException as e:
        if not resumable or isinstance(e, NothingStored) or not list(partial.glob("*")):  # empty: only the lock made it
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(e, OSError) and e.filename is None and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(f"{partial} cannot be written ({e.strerror}); {store} is as it was") from None
        raise
    return meta


def show_report(meta: dict, store: Path, show: int = 20) -> None:
    """The report as a few lines; everything it cuts short stands in meta.json."""
    q = meta["quality"]
    print(f"{store}: {q['clips']} clips, {q['frames'][0]} to {q['frames'][2]} frames (median {q['frames'][1]:g}), {q['two_bodies']} with two bodies")
    for what, key in (("classes", "per_label"), ("subjects", "per_subject"), ("cameras", "per_camera"), ("setups", "per_setup")):
        if len(d := q[key]) > 1:
            print(f"  {len(d)} {what} with {min(d.values())} to {max(d.values())} clips each")
    for name, n in meta["counts"].items():
        twice = q["test_clips_in_training"].get(name, 0)
        note = f"; {twice} test clips are copies of training clips" if twice else ""
        print(f"  {name}: {n['train']} training, {n['test']} test{note}" + ("" if n["train"] and n["test"] else "  <- one side is empty"))
    print(f"  {q['missing_joints']} clips with missing joints, {len(q['constant'])} constant, {len(q['odd_bones'])} with bones out of range, "
          f"{sum(len(g) - 1 for g in q['copies'])} exact copies; {meta['left_out']} left out by the list of unusable samples")
    if q["longest_bone"] > 5 and not q["flat"]:
        print(f"  the longest bone usually measures {q['longest_bone']:.4g}: are the joints in metres?", file=sys.stderr)
    for s in meta["skipped"][:show]:
        print(f"  skipped {told(s)}", file=sys.stderr)
    if len(meta["skipped"]) > show:
        print(f"  ... and {len(meta['skipped']) - show} more, all in {store / 'meta.json'}", file=sys.stderr)


def main(argv: list[str]) -> int:
    from recipe import Data, load_config

    from last import locked
    cfg = load_config(argv)
    if unused := [a for a in argv if a.partition("=")[0].partition(".")[0] not in ("recipe", "data", "raw", "seed", "view")]:
        raise ValueError(f"{unused[0]}: phase 0 has no use for it; it writes to data.store=FOLDER, by default stores/<data set>")
    store = cfg.store.resolve()  # where a link leads to
    partial = store.with_name(f"{store.name}.partial")
    aside = old_store(store)
    if cfg.data.reader == "synthetic":
        raw = Path(cfg.raw or f"{store}-raw")
        write_synthetic(raw, cfg.seed, cfg.data.workers)
    elif not cfg.raw:
        raise ValueError(f"no recordings: give raw=FOLDER_OR_FILE for the reader {cfg.data.reader!r}")
    else:
        raw = Path(cfg.raw)
    if not raw.exists():
        raise ValueError(f"raw = {cfg.raw!r}: no such file or folder")
    if not store.exists() and (aside / "meta.json").exists():  # a run was killed between the two renames
        os.replace(aside, store)
    if store.exists() and not (store / "meta.json").exists() and any(store.iterdir()):
        raise ValueError(f"data.store = {store}: holds something that is no clip store, and would be replaced")
    check_rules(cfg.data.protocols)
    if cfg.data.reader == "arrays" and cfg.data.name == Data.name:
        raise ValueError(f"data.name = {cfg.data.name!r} is the default: give your recordings a name of their own in the recipe")
    skeleton, classes = skeleton_of(cfg, raw), class_names(cfg, raw)
    with locked(partial):
        meta = write_store(raw, store, partial, cfg, skeleton, classes)
    show_report(meta, store)
    if meta["quality"]["two_bodies"] and cfg.view.bodies == 1:
        print("  view.bodies = 1: a network sees the first body of each clip; view.bodies=2 shows it both")
    return 3 if meta["skipped"] else 0


if __name__ == "__main__":
    from recipe import cli
    cli(main)
