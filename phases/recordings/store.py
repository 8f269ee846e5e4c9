"""Writes a clip store: the joints of all clips at their raw length. run.ClipStore reads it. No torch: phase 0 parses in
many processes, and each would load it.

    frames.npy   (rows, V, 3) float32, metres; a body of L frames takes L rows
    clips.npz    name, label, subject, camera, setup, replication, length (N,); offset (N, 2), the first row of each
                 body, -1 if absent; split_<name> if the recordings bring a split: 0 training, 1 test, -1 neither
    meta.json    skeleton, classes, protocols and their counts, reader, versions, quality, what was skipped and why

A store is written shard by shard into <store>.partial, merged there, and moved into place as a whole.
"""
from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from phases.common.limits import FARTHEST, load_npz, one_line
from phases.common.protocols import PROTOCOLS, check_rules, sides
from phases.recordings.clips import Clip, Skip, skip_text
from phases.recordings.metres import Recorded, complaints, in_metres, trunk_vector
from phases.recordings.quality import report
from phases.recordings.settings import Data
from skeletons import Skeleton

NUMBERS = ("label", "subject", "camera", "setup", "replication")


# ---------------------------------------------------------------------------------------------------------------------
# Shards
# ---------------------------------------------------------------------------------------------------------------------

def check(clip: Clip, V: int, num_classes: int) -> str:
    """The reason why a clip cannot be stored, or an empty text."""
    if not 0 <= clip.label < num_classes:
        return f"label {clip.label} is out of range: data.num_classes = {num_classes} allows 0 to {num_classes - 1}"
    if not 0 < len(clip.name) < 256:
        return f"a name of {len(clip.name)} characters: it may have 1 to 255"
    M, L, joints = clip.joints.shape[:3]
    if joints != V:
        return f"{joints} joints, the skeleton has {V}"
    if not 1 <= M <= 2 or L < 1:
        return f"{M} bodies, {L} frames: needs one or two bodies and a frame"
    bad = np.argwhere(~np.isfinite(clip.joints))
    if len(bad):
        return f"frame {int(bad[0][1])}: a coordinate is not finite"
    return "" if clip.joints.any() else "no body in any frame"


def write_shard(path: Path, found: list[Clip | Skip], V: int, num_classes: int, recorded: Recorded,
                trunk: list[int] | None) -> None:
    """One shard: joints in metres, table and skips of some clips, written as a whole or not at all."""
    clips, skips = [], []
    for item in found:
        why = check(item, V, num_classes) if isinstance(item, Clip) else ""
        if isinstance(item, Skip):
            skips.append(item)
        elif why:
            skips.append(Skip(item.name, 0, why))
        else:
            item.joints = item.joints[item.joints.any((1, 2, 3))]  # drops a body that is never seen
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                item.joints = in_metres(item.joints, recorded, trunk)
            if (np.abs(item.joints) <= FARTHEST).all():
                clips.append(item)
            else:
                skips.append(Skip(item.name, 0, "in metres a coordinate is not finite: is it one body of one size?"))
    table = {k: np.array([getattr(c, k) for c in clips], np.int64) for k in NUMBERS}
    for split in sorted({s for c in clips for s in c.splits}):
        table[f"split_{split}"] = np.array([c.splits.get(split, -1) for c in clips], np.int64)
    table["name"] = np.array([c.name for c in clips], str)
    table["length"] = np.array([c.joints.shape[1] for c in clips], np.int64)
    table["bodies"] = np.array([c.joints.shape[0] for c in clips], np.int64)
    table["people"] = np.array([c.people for c in clips], np.int64)
    frames = np.concatenate([np.zeros((0, V, 3), np.float32), *(c.joints.reshape(-1, V, 3) for c in clips)])
    part = path.with_suffix(f".{os.getpid()}")  # a worker of a killed run may still be writing the same shard
    with open(part, "wb") as f:
        np.savez(f, frames=frames, skips=np.array(json.dumps([asdict(s) for s in skips])), **table)
        f.flush()
        os.fsync(f.fileno())  # else a power cut may leave an empty file that passes for a finished shard
    os.replace(part, path)


def fresh_partial(partial: Path, key: str) -> None:
    """Deletes the shards of an interrupted run, unless its key is the same: same recordings, same recipe."""
    if not (partial / "key").exists() or (partial / "key").read_text(errors="replace") != key:
        for path in partial.iterdir():  # the folder itself stays, because it is locked
            path.unlink()
        (partial / "key").write_text(key)


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
    """Shards -> frames.npy and clips.npz in the partial folder; returns meta."""
    shards = sorted(partial.glob("shard-*.npz"))
    tables, skips = _read_tables(shards)
    if not any(t["keep"].any() for t in tables):
        raise NothingStored(skips)
    bones = np.array([b for b in skeleton.bones if b[0] != b[1]])
    offset, quality = _write_frames(partial / "frames.npy", shards, tables, skeleton, bones)
    names = [k for k in tables[0] if k not in ("keep", "bodies", "people")]
    for t in tables:
        names += [k for k in t if k.startswith("split_") and k not in names]
    clips = {}
    for k in names:
        clips[k] = np.concatenate([t[k][t["keep"]] if k in t else np.full(t["keep"].sum(), -1) for t in tables])
    clips["offset"] = np.array(offset, np.int64)
    with open(partial / "clips.npz", "wb") as f:
        np.savez(f, **clips)
    protocols = {name: rule for name, rule in PROTOCOLS.get(data.name, {}).items() if clips[rule["field"]].any()}
    protocols |= check_rules(data.protocols)
    for k in clips:
        if k.startswith("split_"):
            protocols[k.removeprefix("split_")] = {"field": k, "train": [0], "test": [1]}
    counts = {}
    for name, rule in protocols.items():
        train, test = sides(rule, clips)
        counts[name] = {"train": int(train.sum()), "test": int(test.sum())}
    return {"format": 1, "dataset": data.name, "reader": data.reader, "skeleton": skeleton.to_dict(),
            "protocols": protocols, "counts": counts, "skipped": skips, "left_out": left_out,
            "recorded": json.loads(json.dumps(asdict(recorded))),
            "quality": report(clips, quality, protocols, skeleton, bones) | {
                "crowds": sum(int((t["people"][t["keep"]] > 2).sum()) for t in tables),
                "complaints": complaints(np.array(quality["trunk"]), recorded)},
            "versions": {"python": sys.version.split()[0], "numpy": np.__version__}}


def _read_tables(shards: list[Path]) -> tuple[list[dict], list[dict]]:
    """The table of each shard, with a mask `keep` that drops a second clip of a name, and the skips of all shards."""
    tables, skips, seen = [], [], set()
    for path in shards:
        try:
            table = load_npz(path, lambda name: name != "frames")
            skips += json.loads(str(table.pop("skips")))
            del table["frames"]
        except (ValueError, KeyError) as e:
            path.unlink()
            raise ValueError(f"a shard of the interrupted run is damaged ({one_line(e)}) and was deleted: "
                             "the same command reads its recordings again") from None
        table["keep"] = np.ones(len(table["name"]), bool)
        for i, name in enumerate(table["name"].tolist()):
            if name in seen:
                table["keep"][i] = False
                skips.append(asdict(Skip(name, 0, "a second clip of this name")))
            seen.add(name)
        tables.append(table)
    return tables, skips


def trunk_of(skeleton) -> list[int] | None:
    """Left and right shoulder, left and right hip; None if one is missing."""
    return [joints[0] for joints in skeleton.trunk] if skeleton.trunk else None


def _write_frames(path: Path, shards: list[Path], tables: list[dict], skeleton, bones: np.ndarray) -> tuple[list, dict]:
    """Writes the joints of all kept clips, one shard in memory at a time; returns the clips' offsets and quality."""
    V, trunk = skeleton.num_joints, trunk_of(skeleton)
    offset, at, quality = [], 0, {k: [] for k in ("lengths", "missing", "constant", "digest", "flat", "trunk")}
    rows = sum(int((t["length"] * t["bodies"])[t["keep"]].sum()) for t in tables)
    with open(path, "wb") as f:  # not a memory map: on a full disk, write() raises an error but a map crashes
        np.lib.format.write_array_header_1_0(f, {"descr": "<f4", "fortran_order": False, "shape": (rows, V, 3)})
        for shard, t in zip(shards, tables, strict=True):
            block = load_npz(shard, lambda name: name == "frames")["frames"]
            f.write(block[np.repeat(t["keep"], t["length"] * t["bodies"])].tobytes())
            start = np.concatenate([[0], np.cumsum(t["length"] * t["bodies"])])
            for i in np.flatnonzero(t["keep"]):
                L, x = int(t["length"][i]), block[start[i]:start[i + 1]]
                offset.append([at, at + L if t["bodies"][i] == 2 else -1])
                at += len(x)
                body = x[:L]
                there = (body != 0).any(2)  # l v
                length = np.linalg.norm(body[:, bones[:, 0]] - body[:, bones[:, 1]], axis=2)  # l bones
                whole = there[:, bones].all(2)  # l bones; a missing end, 0, 0, 0, is no place
                quality["lengths"].append(np.median(length, axis=0) if whole.all() else [
                    np.median(length[seen, k]) if seen.any() else np.nan for k, seen in enumerate(whole.T)])
                quality["missing"].append(int((~there).any(1).sum()))
                quality["flat"].append(not body[..., 2].any())
                quality["trunk"].append(trunk_vector(body, trunk))
                quality["constant"].append(L > 1 and not np.ptp(body, axis=0).any())
                quality["digest"].append(hashlib.blake2b(x.tobytes(), digest_size=16).digest())
    return offset, quality


def old_store(store: Path) -> Path:
    """Where the old store is while the new one takes its place."""
    return store.with_name(f".{store.name}.old")
