"""Clips of what no network was taught: people who stand or sit, and another data set's actions. numpy only."""
from __future__ import annotations

import math
import re
import zlib

import numpy as np

FRAMES = 60     # two seconds at a Kinect's rate
JITTER = 0.003  # metres: of its joints
SWAY = 0.015    # metres: of a person who stands

COMMON = {"a", "an", "the", "to", "and", "with", "of", "on", "in", "one", "two", "hand", "hands", "left", "right", "up",
          "down", "around", "body", "arm", "arms"}  # words that make no two actions alike


def standing(joints: np.ndarray, name: str, jitter: float = JITTER) -> np.ndarray:
    """Two seconds (M, 60, V, 3) of a person in the first pose of a clip (M, L, V, 3), who sways; a sensor's jitter."""
    return at_rest(joints, name, first_pose(joints), jitter)


def sitting(joints: np.ndarray, name: str) -> np.ndarray:
    """The same of the last pose, for clips of people who sit down."""
    return at_rest(joints, name, last_pose(joints))


def first_pose(joints: np.ndarray) -> int:
    seen = np.flatnonzero(joints.any((0, 2, 3)))
    return int(seen[0]) if len(seen) else 0


def last_pose(joints: np.ndarray) -> int:
    seen = np.flatnonzero(joints.any((0, 2, 3)))
    return int(seen[-1]) if len(seen) else -1


def at_rest(joints: np.ndarray, name: str, frame: int, jitter: float = JITTER) -> np.ndarray:
    """The pose of a frame, held: a pure function of joints and the clip's name."""
    rng = np.random.default_rng([FRAMES, zlib.crc32(name.encode())])
    pose = joints[:, [frame]].astype(np.float64)
    seen = pose.any(3, keepdims=True)

    # the higher a joint, the more it sways; the feet stand
    y = pose[..., 1:2]
    low = np.where(seen, y, math.inf).min(2, keepdims=True)
    high = np.where(seen, y, -math.inf).max(2, keepdims=True)
    share = np.clip((y - low) / np.maximum(high - low, 1e-6), 0, 1)

    # to and fro and sideways, each slowly
    t = np.arange(FRAMES)[None, :, None, None]
    phase = rng.uniform(0, 2 * math.pi, 2)
    rate = rng.uniform(0.5, 1.5, 2) * 2 * math.pi / FRAMES
    sway = SWAY * np.concatenate([np.sin(phase[0] + rate[0] * t), 0 * t, np.sin(phase[1] + rate[1] * t)], 3)

    # flat clips stay flat
    shaken = sway * share + rng.normal(0, jitter, (len(pose), FRAMES, *pose.shape[2:]))
    if not joints[..., 2].any():
        shaken[..., 2] = 0
    return ((pose + shaken) * seen).astype(np.float32)


def words(name: str) -> set[str]:
    """The words of an action's name that tell it from others: {"sit"} of `sit down`."""
    return set(re.findall(r"[a-z]+", name.lower())) - COMMON


def is_stranger(name: str, known: list[str]) -> bool:
    """Whether an action shares no telling word with any of the known ones, as far as names can tell."""
    def alike(a: str, b: str) -> bool:
        return a == b or min(len(a), len(b)) >= 3 and (a.startswith(b) or b.startswith(a))

    return not any(alike(a, b) for other in known for a in words(name) for b in words(other))


def is_sitting_down(name: str) -> bool:
    """Whether people sit at the end of an action of this name: `sit down`, `stand to sit`."""
    return bool(re.search(r"\bsit(ting)?( down)?$", name.lower()))


def is_walking(name: str) -> bool:
    """Whether people walk in an action of this name: `walk around`, `walking`."""
    return bool(re.search(r"\bwalk(s|ing)?\b", name.lower().replace("_", " ")))
