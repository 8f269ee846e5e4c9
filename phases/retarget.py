"""Joints of one skeleton as means of another's joints: a network of Kinect's joints takes a pose estimator's.

The table says where a joint lies in terms of others, in order of preference; the first line whose joints a skeleton has
is taken. A joint that both name alike is copied. numpy only.
"""
from __future__ import annotations

import re

import numpy as np

SIDES = {"l": "left", "r": "right", "left": "left", "right": "right"}
HIPS, SHOULDERS = ("left hip", "right hip"), ("left shoulder", "right shoulder")
BASE, CHEST = (("mid hip",), HIPS), (("thorax",), ("spine shoulder",), ("shoulder centre",), SHOULDERS)
MEANS: dict[str, tuple[tuple[str, ...], ...]] = {
    "spine base": BASE, "hip centre": BASE, "mid hip": BASE, "hip": BASE,
    "spine mid": (("spine",), SHOULDERS + HIPS), "spine": (("spine mid",), SHOULDERS + HIPS),
    "shoulder centre": CHEST, "spine shoulder": CHEST, "thorax": CHEST,
    "neck": (("shoulder centre",), (*SHOULDERS, "nose"), SHOULDERS),
    "head": (("left ear", "right ear"), ("nose",)),
    **{f"{side} {name}": tuple(tuple(f"{side} {joint}" for joint in joints) for joints in found)
       for side in ("left", "right") for name, found in {
           "hand": (("pinky", "index"), ("wrist",)), "hand tip": (("index",), ("wrist",)),
           "thumb": (("wrist",),), "foot": (("big toe",), ("ankle",))}.items()},
}


def spelled(joint: str) -> str:
    """A joint's name in one spelling: left_shoulder, LShoulder, shoulder_l -> left shoulder; hip center -> hip centre.

    last.py's spaced() without torch, which what only predicts must not load.
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=\b[LR])(?=[A-Z][a-z])", " ", re.sub("[_.-]", " ", joint)).lower().split()
    words = [word.replace("center", "centre") for word in words]
    sides = [SIDES[word] for word in words if word in SIDES]
    if len(sides) == 1 < len(words):
        words = sides + [word for word in words if word not in SIDES]
    return " ".join(words).replace("foot index", "foot")  # MediaPipe's own name


def means(source: list[str], target: list[str]) -> list[list[int]] | None:
    """For each joint of `target` the joints of `source` whose mean it is; None if one cannot be had."""
    at, found = {spelled(joint): v for v, joint in enumerate(source)}, []
    for joint in map(spelled, target):
        names = next((names for names in ((joint,), *MEANS.get(joint, ())) if all(name in at for name in names)), None)
        if names is None:
            return None
        found.append([at[name] for name in names])
    return found


def tables(skeleton, known: dict) -> dict[str, dict]:
    """What an exported file carries: by the name of each skeleton that can be turned into this one, how."""
    found = {}
    for other in known.values():
        table = means(list(other.joints), list(skeleton.joints)) if other.joints != skeleton.joints else None
        if table:
            trunk = [joints[0] for joints in other.trunk] if other.trunk else None
            found[other.name] = {"joints": other.num_joints, "trunk": trunk, "means": table}
    return found


def retargeted(joints: np.ndarray, table: list[list[int]]) -> np.ndarray:
    """Joints (M, L, V, 3) -> (M, L, W, 3): means of those that are seen; a joint without any is missing."""
    there = joints.any(3)
    out = [joints[:, :, of].sum(2) / np.maximum(there[:, :, of].sum(2), 1)[..., None] for of in table]
    return np.stack(out, 2).astype(np.float32)
