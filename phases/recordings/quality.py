"""What phase 0 reports of the clips that it stored."""
from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from phases.common.protocols import sides
from phases.recordings.clips import skip_text


def report(clips: dict, quality: dict, protocols: dict, skeleton, bones: np.ndarray) -> dict:
    """Quality of a store: counts, lengths, missing joints, constant clips, bones out of range, copies.

    A bone is out of range if its median length in a clip is below half or above twice its median over the clips.
    test_clips_in_training counts the test clips of each protocol that are copies of a training clip.
    """
    names, length, bone = clips["name"], clips["length"], np.array(quality["lengths"])
    usual = np.array([np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else 0 for column in bone.T])
    bone = np.where(np.isfinite(bone), bone, usual)
    odd = np.flatnonzero(((bone < 0.5 * usual) | (bone > 2 * usual)).any(1) & (usual > 0).any())
    worst = np.abs(np.log((bone[odd] + 1e-6) / (usual + 1e-6))).argmax(1)
    copies: dict[bytes, list[int]] = {}
    for i, digest in enumerate(quality["digest"]):
        copies.setdefault(digest, []).append(i)
    doubles = [group for group in copies.values() if len(group) > 1]
    across = {}
    for name, rule in protocols.items():
        train, test = sides(rule, clips)
        across[name] = sum(int(test[i]) for group in doubles if train[group].any() for i in group)
    found = {
        "clips": len(length), "frames": [int(length.min()), float(np.median(length)), int(length.max())],
        "two_bodies": int((clips["offset"][:, 1] >= 0).sum()),
        "missing_joints": int((np.array(quality["missing"]) > 0).sum()),
        "longest_bone": float(usual.max()), "flat": all(quality["flat"]),
        "constant": [str(name) for name in names[np.array(quality["constant"])]],
        "odd_bones": [f"{names[i]}: {skeleton.joints[bones[k][0]]}" for i, k in zip(odd, worst, strict=True)],
        "copies": [[str(names[i]) for i in group] for group in doubles], "test_clips_in_training": across}
    for k in ("label", "subject", "camera", "setup"):
        found[f"per_{k}"] = {str(value): int(n) for value, n in sorted(Counter(clips[k].tolist()).items())}
    return found


def show_report(meta: dict, store: Path, show: int = 20) -> None:
    """Prints the report in a few lines, and at most `show` of the skips; meta.json has all."""
    q, skipped = meta["quality"], meta["skipped"]
    shortest, median, longest = q["frames"]
    print(f"{store}: {q['clips']} clips, {shortest} to {longest} frames (median {median:g}), "
          f"{q['two_bodies']} with two bodies")
    for plural, key in (("classes", "label"), ("subjects", "subject"), ("cameras", "camera"), ("setups", "setup")):
        clips = q[f"per_{key}"].values()
        if len(clips) > 1:
            print(f"  {len(clips)} {plural} with {min(clips)} to {max(clips)} clips each")
    for name, n in meta["counts"].items():
        twice = q["test_clips_in_training"].get(name, 0)
        note = f"; {twice} test clips are copies of training clips" if twice else ""
        empty = "" if n["train"] and n["test"] else "  <- one side is empty"
        print(f"  {name}: {n['train']} training, {n['test']} test{note}{empty}")
    print(f"  {q['missing_joints']} clips with missing joints, {len(q['constant'])} constant, "
          f"{len(q['odd_bones'])} with bones out of range, {sum(len(g) - 1 for g in q['copies'])} exact copies; "
          f"{meta['left_out']} left out by the list of unusable samples")
    if q["odd_bones"]:
        print(f"  bones out of range, so perhaps another unit or joint order: {'; '.join(q['odd_bones'][:3])}"
              f"{'; ...' if len(q['odd_bones']) > 3 else ''}")
    for joint in meta["recorded"]["reference"]:
        print(f"  {meta['skeleton']['joints'][joint]} is 0, 0, 0 throughout: the clips are centred on it, it is kept")
    if q["crowds"]:
        print(f"  {q['crowds']} clips of more than two people: the two that move most are kept")
    if not q["complaints"] and q["longest_bone"] > 5:
        print(f"  the median length of the longest bone is {q['longest_bone']:.4g}: are the joints in metres? "
              "(data.unit)", file=sys.stderr)
    for line in q["complaints"]:
        print(f"  {line}", file=sys.stderr)
    for s in skipped[:show]:
        print(f"  skipped {skip_text(s)}", file=sys.stderr)
    if len(skipped) > show:
        print(f"  ... and {len(skipped) - show} more, all in {store / 'meta.json'}", file=sys.stderr)
