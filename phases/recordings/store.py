"""Writes a clip store: the joints of all clips at their raw length. training/clip_store.py reads it. No torch: phase 0
parses in many processes, and each would load it.

    frames.npy   (rows, V, 3) float32, metres; a body of L frames takes L rows
    clips.npz    name, label, subject, camera, setup, replication, length (N,); offset (N, 2), the first row of each
                 body, -1 if absent; split_<name> if the recordings bring a split: 0 training, 1 test, -1 neither
    meta.json    skeleton, classes, protocols and their counts, reader, versions, quality, what was skipped and why

A store is written shard by shard into <store>.partial, merged there, and moved into place as a whole.
"""
from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from phases.common.files import flush, replace_folder
from phases.common.limits import FARTHEST, load_npz, one_line
from phases.common.protocols import PROTOCOLS, check_rules, sides
from phases.recordings.clips import Clip, Skip, skip_text
from phases.recordings.metres import Recorded, complaints, in_metres, trunk_of
from phases.recordings.quality import ClipQuality, bones_of, clip_quality, quality_report
from phases.recordings.settings import Data
from skeletons import Skeleton

SHARD = 256  # clips per shard: bounds the memory, and the work that an interruption loses
NUMBERS = ("label", "subject", "camera", "setup", "replication")


# ---------------------------------------------------------------------------------------------------------------------
# Clips -> shards
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Common:
    """What all clips of a store have in common."""
    num_joints: int
    num_classes: int
    recorded: Recorded
    trunk: list[int] | None     # left and right shoulder, left and right hip


def reason_to_skip(clip: Clip, num_joints: int, num_classes: int) -> str:
    """The reason why a clip cannot be stored, or an empty text."""
    if not 0 <= clip.label < num_classes:
        return f"label {clip.label} is out of range: data.num_classes = {num_classes} allows 0 to {num_classes - 1}"
    if not 0 < len(clip.name) < 256:
        return f"a name of {len(clip.name)} characters: it may have 1 to 255"

    # the shape
    M, L, joints = clip.joints.shape[:3]
    if joints != num_joints:
        return f"{joints} joints, the skeleton has {num_joints}"
    if not 1 <= M <= 2 or L < 1:
        return f"{M} bodies, {L} frames: needs one or two bodies and a frame"

    # the coordinates
    bad = np.argwhere(~np.isfinite(clip.joints))
    if len(bad):
        return f"frame {int(bad[0][1])}: a coordinate is not finite"
    return "" if clip.joints.any() else "no body in any frame"


def prepared(item: Clip | Skip, common: Common) -> Clip | Skip:
    """The clip with its joints in metres, without a body that is never seen; or a Skip that says why not."""
    if isinstance(item, Skip):
        return item
    why = reason_to_skip(item, common.num_joints, common.num_classes)
    if why:
        return Skip(item.name, 0, why)

    item.joints = item.joints[item.joints.any((1, 2, 3))]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        item.joints = in_metres(item.joints, common.recorded, common.trunk)
    if (np.abs(item.joints) <= FARTHEST).all():  # NaN is not
        return item
    return Skip(item.name, 0, "in metres a coordinate is not finite: is it one body of one size?")


def shard_path(partial: Path, number: int) -> Path:
    return partial / f"shard-{number:05d}.npz"


def write_shard(path: Path, found: list[Clip | Skip], common: Common) -> None:
    """One shard, written as a whole or not at all: the table, the joints and the skips of some clips."""
    items = [prepared(item, common) for item in found]
    clips = [item for item in items if isinstance(item, Clip)]
    skips = [asdict(item) for item in items if isinstance(item, Skip)]

    # the table; splits are those of any clip
    table = {key: np.array([getattr(c, key) for c in clips], np.int64) for key in NUMBERS}
    for split in sorted({s for c in clips for s in c.splits}):
        table[f"split_{split}"] = np.array([c.splits.get(split, -1) for c in clips], np.int64)
    table["name"] = np.array([c.name for c in clips], str)
    table["length"] = np.array([c.joints.shape[1] for c in clips], np.int64)
    table["bodies"] = np.array([c.joints.shape[0] for c in clips], np.int64)
    table["people"] = np.array([c.people for c in clips], np.int64)

    # all joints, one body after the other
    V = common.num_joints
    frames = np.concatenate([np.zeros((0, V, 3), np.float32), *(c.joints.reshape(-1, V, 3) for c in clips)])

    # a name of its own: a process of a killed run may still be writing the same shard
    part = path.with_suffix(f".{os.getpid()}")
    with open(part, "wb") as f:
        np.savez(f, frames=frames, skips=np.array(json.dumps(skips)), **table)
    flush(part)  # else a power cut may leave an empty file that passes for a finished shard
    os.replace(part, path)


def in_parts(found: Iterator[Clip | Skip], size: int) -> Iterator[list[Clip | Skip]]:
    """Lists of `size` items, the last one shorter."""
    part = list(itertools.islice(found, size))
    while part:
        yield part
        part = list(itertools.islice(found, size))


def fresh_partial(partial: Path, key: str) -> None:
    """Deletes the shards of an interrupted run, unless its key is the same: same recordings, same recipe."""
    mark = partial / "key"
    if mark.exists() and mark.read_text(errors="replace") == key:
        return
    for path in partial.iterdir():  # the folder itself stays, because it is locked
        path.unlink()
    mark.write_text(key)


# ---------------------------------------------------------------------------------------------------------------------
# Shards -> store
# ---------------------------------------------------------------------------------------------------------------------

class NothingStored(ValueError):
    """No clip could be read. The message has the first reason."""

    def __init__(self, skips: list[dict]):
        why = "no clip found"
        if skips:
            why = f"{len(skips)} files or clips could not be read; the first: {skip_text(skips[0])}"
        super().__init__(f"nothing stored: {why}")


def merge(partial: Path, skeleton: Skeleton, data: Data, left_out: int, recorded: Recorded) -> dict:
    """Shards -> frames.npy and clips.npz in the partial folder; returns meta, without the names of the classes."""
    # the tables of all shards
    shards = sorted(partial.glob("shard-*.npz"))
    tables, skips = read_tables(shards)
    if not any(t["keep"].any() for t in tables):
        raise NothingStored(skips)

    # joints and table of the store
    offset, per_clip = write_frames(partial / "frames.npy", shards, tables, skeleton)
    clips = joined(tables)
    clips["offset"] = np.array(offset, np.int64)
    with open(partial / "clips.npz", "wb") as f:
        np.savez(f, **clips)

    # protocols and their sides
    protocols = protocols_of(data, clips)
    counts = {}
    for name, rule in protocols.items():
        train, test = sides(rule, clips)
        counts[name] = {"train": int(train.sum()), "test": int(test.sum())}

    # and what phase 0 prints of them
    quality = quality_report(clips, per_clip, protocols, skeleton)
    quality["crowds"] = sum(int((t["people"][t["keep"]] > 2).sum()) for t in tables)
    quality["complaints"] = complaints(np.array([clip.trunk for clip in per_clip]), recorded)
    return {"format": 1, "dataset": data.name, "reader": data.reader, "skeleton": skeleton.to_dict(),
            "protocols": protocols, "counts": counts, "skipped": skips, "left_out": left_out,
            "recorded": json.loads(json.dumps(asdict(recorded))), "quality": quality,
            "versions": {"python": sys.version.split()[0], "numpy": np.__version__}}


def read_tables(shards: list[Path]) -> tuple[list[dict], list[dict]]:
    """The table of each shard, with a mask `keep` that drops a second clip of a name, and the skips of all shards."""
    tables, skips = [], []
    seen = set()
    for path in shards:
        table, own_skips = read_table(path)
        skips += own_skips

        table["keep"] = np.ones(len(table["name"]), bool)
        for i, name in enumerate(table["name"].tolist()):
            if name in seen:
                table["keep"][i] = False
                skips.append(asdict(Skip(name, 0, "a second clip of this name")))
            seen.add(name)
        tables.append(table)
    return tables, skips


def read_table(path: Path) -> tuple[dict, list[dict]]:
    """The table of a shard and its skips; a damaged shard is deleted, with a ValueError."""
    try:
        table = load_npz(path, lambda name: name != "frames")
        skips = json.loads(str(table.pop("skips")))
        del table["frames"]

    # the next run then reads its recordings again
    except (ValueError, KeyError) as e:
        path.unlink()
        raise ValueError(f"a shard of the interrupted run is damaged ({one_line(e)}) and was deleted: "
                         "the same command reads its recordings again") from None
    return table, skips


def write_frames(path: Path, shards: list[Path], tables: list[dict],
                 skeleton: Skeleton) -> tuple[list[list[int]], list[ClipQuality]]:
    """Writes the joints of all kept clips, one shard in memory at a time; returns the clips' offsets and quality."""
    offset, per_clip = [], []
    at = 0
    bones = bones_of(skeleton)
    trunk = trunk_of(skeleton)
    rows = sum(int(rows_of(t)[t["keep"]].sum()) for t in tables)
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, skeleton.num_joints, 3)}
    with open(path, "wb") as f:  # not a memory map: on a full disk, write() raises an error but a map crashes
        np.lib.format.write_array_header_1_0(f, header)
        for shard, table in zip(shards, tables, strict=True):
            block = load_npz(shard, lambda name: name == "frames")["frames"]
            f.write(block[np.repeat(table["keep"], rows_of(table))].tobytes())

            for clip, length, bodies in kept_clips(block, table):
                offset.append([at, at + length if bodies == 2 else -1])
                at += len(clip)
                per_clip.append(clip_quality(clip, length, bones, trunk))
    return offset, per_clip


def rows_of(table: dict) -> np.ndarray:
    """(N,) rows of the clips of a shard."""
    return table["length"] * table["bodies"]


def kept_clips(block: np.ndarray, table: dict) -> Iterator[tuple[np.ndarray, int, int]]:
    """(joints (rows, V, 3), frames, bodies) of each kept clip of a shard's joints."""
    start = np.concatenate([[0], np.cumsum(rows_of(table))])
    for i in np.flatnonzero(table["keep"]):
        yield block[start[i]:start[i + 1]], int(table["length"][i]), int(table["bodies"][i])


def joined(tables: list[dict]) -> dict[str, np.ndarray]:
    """One table of the clips that are kept; a split that a shard lacks is -1 there."""
    names = [key for key in tables[0] if key not in ("keep", "bodies", "people")]
    for t in tables:
        names += [key for key in t if key.startswith("split_") and key not in names]

    clips = {}
    for key in names:
        columns = [t[key][t["keep"]] if key in t else np.full(t["keep"].sum(), -1) for t in tables]
        clips[key] = np.concatenate(columns)
    return clips


def protocols_of(data: Data, clips: dict[str, np.ndarray]) -> dict[str, dict]:
    """{name: rule}: published ones whose field the clips have, those of the recipe, and the recordings' own splits."""
    published = PROTOCOLS.get(data.name, {})
    protocols = {name: rule for name, rule in published.items() if clips[rule["field"]].any()}
    protocols |= check_rules(data.protocols)
    for key in clips:
        if key.startswith("split_"):
            protocols[key.removeprefix("split_")] = {"field": key, "train": [0], "test": [1]}
    return protocols


# ---------------------------------------------------------------------------------------------------------------------
# Into place
# ---------------------------------------------------------------------------------------------------------------------

def old_store(store: Path) -> Path:
    """Where the old store is while the new one takes its place."""
    return store.with_name(f".{store.name}.old")


def check_place(store: Path) -> None:
    """ValueError for a folder that is no store: the new store would replace it."""
    if store.exists() and not (store / "meta.json").exists() and any(store.iterdir()):
        raise ValueError(f"data.store = {store}: is not a clip store, and phase 0 would replace it")


def put_in_place(partial: Path, meta: dict, store: Path) -> None:
    """Complete the partial folder, flush it to the disk, and move it to the store's place."""
    (partial / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    for path in (*partial.glob("shard-*"), partial / "key"):
        path.unlink()

    for path in partial.iterdir():
        flush(path)
    flush(partial)
    replace_folder(partial, store, old_store(store))


def restore_old(store: Path) -> None:
    """Put the old store back, if a run was killed between its two renames."""
    aside = old_store(store)
    if not store.exists() and (aside / "meta.json").exists():
        os.replace(aside, store)
