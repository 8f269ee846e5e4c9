"""Writing a clip store: joints of all clips at their raw length. run.ClipStore reads it. No torch here: phase 0 parses
in many processes.

    frames.npy   (rows, V, 3) float32, metres; a body of L frames is L rows
    clips.npz    name, label, subject, camera, setup, replication, length (N,), offset (N, 2): first row of each body,
                 -1 absent; split_<name> where the recordings bring their own split: 0 training, 1 test, -1 neither
    meta.json    skeleton, classes, protocols and their counts, reader, versions, quality, what was skipped and why

A store is written shard by shard into <store>.partial, merged there, and put in place whole.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
from protocols import PROTOCOLS, check_rules, sides
from readers import Clip, Skip

NUMBERS = ("label", "subject", "camera", "setup", "replication")


def check(clip: Clip, V: int, num_classes: int) -> str:
    """Why a clip cannot be stored; empty if it can."""
    if not 0 <= clip.label < num_classes:
        return f"label {clip.label} is out of range: data.num_classes = {num_classes} allows 0 to {num_classes - 1}"
    M, L, joints = clip.joints.shape[:3]
    if joints != V:
        return f"{joints} joints, the skeleton has {V}"
    if not 1 <= M <= 2 or L < 1:
        return f"{M} bodies, {L} frames: needs one or two bodies and a frame"
    if not np.isfinite(clip.joints).all():
        return f"frame {int(np.argwhere(~np.isfinite(clip.joints))[0][1])}: a coordinate is not finite"
    return "" if clip.joints.any() else "no body in any frame"


def write_shard(path: Path, found: list[Clip | Skip], V: int, num_classes: int) -> None:
    """One shard: joints, table and skips of some clips, written whole or not at all."""
    clips, skips = [], []
    for c in found:
        if isinstance(c, Clip) and (why := check(c, V, num_classes)):
            c = Skip(c.name, 0, why)
        elif isinstance(c, Clip):
            c.joints = c.joints[c.joints.any((1, 2, 3))]  # without a body that is never seen
        (skips if isinstance(c, Skip) else clips).append(c)
    splits = sorted({s for c in clips for s in c.splits})
    table = {k: np.array([getattr(c, k) for c in clips], np.int64) for k in NUMBERS}
    table |= {f"split_{s}": np.array([c.splits.get(s, -1) for c in clips], np.int64) for s in splits}
    table |= {"name": np.array([c.name for c in clips], str), "length": np.array([c.joints.shape[1] for c in clips], np.int64),
              "bodies": np.array([c.joints.shape[0] for c in clips], np.int64)}
    frames = np.concatenate([c.joints.reshape(-1, V, 3) for c in clips]) if clips else np.zeros((0, V, 3), np.float32)
    part = path.with_suffix(f".{os.getpid()}")  # a process whose parent was killed may still be at the same shard
    with open(part, "wb") as f:
        np.savez(f, frames=frames, skips=np.array(json.dumps([asdict(s) for s in skips])), **table)
    os.replace(part, path)


def fresh_partial(partial: Path, key: str) -> None:
    """Shards of an interrupted run are kept only where recordings and recipe are still the same."""
    if not (partial / "key").exists() or (partial / "key").read_text() != key:
        for path in partial.iterdir():  # not the folder itself, which is locked
            path.unlink()
        (partial / "key").write_text(key)


def merge(partial: Path, skeleton, cfg, left_out: int) -> dict:
    """Shards -> frames.npy and clips.npz in the partial folder; returns meta. Frames pass through memory one shard at a time."""
    shards = sorted(partial.glob("shard-*.npz"))
    tables, skips, seen = [], [], set()
    for path in shards:
        with np.load(path) as z:
            t = {k: z[k] for k in z.files if k not in ("frames", "skips")}
            skips += json.loads(str(z["skips"]))
        t["keep"] = np.array([not (n in seen or seen.add(n)) for n in t["name"].tolist()], bool)
        skips += [asdict(Skip(str(n), 0, "a second clip of this name")) for n in t["name"][~t["keep"]]]
        tables.append(t)
    rows = sum(int((t["length"] * t["bodies"])[t["keep"]].sum()) for t in tables)
    if not rows:
        raise NothingStored(skips)
    V = skeleton.num_joints
    bones = np.array([b for b in skeleton.bones if b[0] != b[1]])
    quality, at, offset = {k: [] for k in ("lengths", "missing", "constant", "digest", "flat")}, 0, []
    with open(partial / "frames.npy", "wb") as f:  # written, not mapped: a full disk is then an error, not a crash
        np.lib.format.write_array_header_1_0(f, {"descr": "<f4", "fortran_order": False, "shape": (rows, V, 3)})
        for path, t in zip(shards, tables, strict=True):
            with np.load(path) as z:
                block = z["frames"]
            f.write(block[np.repeat(t["keep"], t["length"] * t["bodies"])].tobytes())
            start = np.concatenate([[0], np.cumsum(t["length"] * t["bodies"])])
            for i in np.flatnonzero(t["keep"]):
                L, M = int(t["length"][i]), int(t["bodies"][i])
                x = block[start[i]:start[i + 1]]
                offset.append([at, at + L if M == 2 else -1])
                at += len(x)
                body = x[:L]
                there = (body != 0).any(2)
                quality["lengths"].append(np.median(np.linalg.norm(body[:, bones[:, 0]] - body[:, bones[:, 1]], axis=2)[there.any(1)], axis=0))
                quality["missing"].append(int((~there).any(1).sum()))
                quality["flat"].append(not body[..., 2].any())
                quality["constant"].append(L > 1 and not np.ptp(body, axis=0).any())
                quality["digest"].append(hashlib.blake2b(x.tobytes(), digest_size=16).digest())
    names = [k for k in tables[0] if k not in ("keep", "bodies")]
    for t in tables:
        names += [k for k in t if k.startswith("split_") and k not in names]
    clips = {k: np.concatenate([t[k][t["keep"]] if k in t else np.full(t["keep"].sum(), -1) for t in tables]) for k in names}
    clips["offset"] = np.array(offset, np.int64)
    with open(partial / "clips.npz", "wb") as f:
        np.savez(f, **clips)
    known = {name: rule for name, rule in PROTOCOLS.get(cfg.data.name, {}).items() if clips[rule["field"]].any()}
    protocols = {**known, **check_rules(cfg.data.protocols),
                 **{k[6:]: {"field": k, "train": [0], "test": [1]} for k in clips if k.startswith("split_")}}
    counts = {name: dict(zip(("train", "test"), (int(s.sum()) for s in sides(rule, clips)), strict=True)) for name, rule in protocols.items()}
    return {"format": 1, "dataset": cfg.data.name, "reader": cfg.data.reader, "skeleton": skeleton.to_dict(), "protocols": protocols,
            "counts": counts, "skipped": skips, "left_out": left_out, "quality": report(clips, quality, protocols, skeleton, bones),
            "versions": {"python": sys.version.split()[0], "numpy": np.__version__}}


class NothingStored(ValueError):
    """No clip could be read; says so with the first reason."""

    def __init__(self, skips: list[dict]):
        super().__init__(f"nothing stored: {len(skips)} files or clips could not be read; the first: {told(skips[0])}" if skips
                         else "nothing stored: no clip found")


def told(skip: dict) -> str:
    line = f", line {skip['line']}" if skip["line"] else ""
    return f"{skip['file']}{line}: {skip['reason']}"


def report(clips: dict, quality: dict, protocols: dict, skeleton, bones: np.ndarray) -> dict:
    """Quality of a store: counts, lengths, bodies, missing joints, constant clips, bones out of range, copies, and copies across a split."""
    length, bone = clips["length"], np.array(quality["lengths"])
    usual = np.median(bone, axis=0)
    odd = np.flatnonzero(((bone < 0.5 * usual) | (bone > 2 * usual)).any(1) & (usual > 0).any())
    copies: dict[bytes, list[int]] = {}
    for i, d in enumerate(quality["digest"]):
        copies.setdefault(d, []).append(i)
    doubles = [group for group in copies.values() if len(group) > 1]
    across = {}
    for name, rule in protocols.items():
        train, test = sides(rule, clips)
        across[name] = sum(int(test[i]) for group in doubles if train[group].any() for i in group)
    names = clips["name"]
    return {
        "clips": len(length), "frames": [int(length.min()), float(np.median(length)), int(length.max())],
        "two_bodies": int((clips["offset"][:, 1] >= 0).sum()), "missing_joints": int((np.array(quality["missing"]) > 0).sum()),
        "longest_bone": float(usual.max()), "flat": all(quality["flat"]), "constant": [str(n) for n in names[np.array(quality["constant"])]],
        "odd_bones": [f"{names[i]}: {skeleton.joints[bones[int(np.argmax(np.abs(np.log((bone[i] + 1e-6) / (usual + 1e-6)))))][0]]}" for i in odd],
        "copies": [[str(names[i]) for i in g] for g in doubles], "test_clips_in_training": across,
        **{f"per_{k}": {str(v): int(n) for v, n in sorted(Counter(clips[k].tolist()).items())} for k in ("label", "subject", "camera", "setup")}}


def replace_folder(new: Path, old: Path, aside: Path) -> None:
    """Put a complete folder in another's place. The old one is moved aside first: there is no moment with half a store in its place."""
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        os.replace(old, aside)
    try:
        os.replace(new, old)
    except OSError:
        if aside.exists():
            os.replace(aside, old)
        raise
    (aside / "meta.json").unlink(missing_ok=True)  # half deleted, it is no store any more
    shutil.rmtree(aside, ignore_errors=True)


def old_store(store: Path) -> Path:
    """Where a store waits while another takes its place."""
    return store.with_name(f".{store.name}.old")
