"""What cameras deliver, made of clean clips: joints that go missing, noise, people who stand about. numpy only.

A row changes the joints (M, L, V, 3) of a clip, in metres, y up, a missing joint 0, 0, 0. What it changes is a pure
function of the clip's joints, its name and the row: every network is judged on the very same clips. ROWS lists all
rows. The clips as recorded and the rows that are `counted` make the mean of the 20; the others are shown apart.
A flat clip, z = 0 everywhere, stays flat.
"""
from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from skeletons import Skeleton, spelled

Change = Callable[[np.ndarray, Skeleton, np.random.Generator], np.ndarray]

SEED = 2026
CLEAN = "clean"                                         # the name of the clips as recorded
SPIKE = 0.3                                             # metres
JITTER = 0.003                                          # metres: of a person who stands still before a Kinect
LOWER_LEG = ("knee", "ankle", "foot", "toe", "heel")    # in the names of joints


# ---------------------------------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------------------------------

def is_flat(joints: np.ndarray) -> bool:
    """Whether joints have no depth, as those of a picture."""
    return bool(joints.any()) and not joints[..., 2].any()


def number_of(share: float, count: int) -> int:
    """How many of `count` a share is: the nearest whole number, halves upwards."""
    return math.floor(share * count + 0.5)


def frames_with_body(joints: np.ndarray) -> np.ndarray:
    """The numbers of the frames that show anybody."""
    return np.flatnonzero(joints.any((0, 2, 3)))


def shaken(joints: np.ndarray, sd: float, rng: np.random.Generator) -> np.ndarray:
    """Joints with normal noise of `sd` metres on each coordinate; a missing joint stays missing, a flat clip flat."""
    noise = rng.normal(0, sd, joints.shape)
    if is_flat(joints):
        noise[..., 2] = 0
    return joints + noise * joints.any(3, keepdims=True)


def lower_legs(skeleton: Skeleton) -> list[int]:
    """Knees, ankles and feet by their names; without any, the legs' regions but for the joint next to the trunk."""
    named = [v for v, joint in enumerate(skeleton.joints) if any(word in spelled(joint) for word in LOWER_LEG)]
    if named:
        return named

    found = []
    for leg in limbs(skeleton, "leg"):
        found += sorted(leg, key=lambda v: skeleton.hops[skeleton.root, v])[1:]
    return sorted(found)


def limbs(skeleton: Skeleton, kind: str) -> list[tuple[int, ...]]:
    """The joints of each arm or leg; empty for a skeleton whose regions name none."""
    return [region for name, region in skeleton.regions.items() if name.endswith(kind)]


# ---------------------------------------------------------------------------------------------------------------------
# What goes missing
# ---------------------------------------------------------------------------------------------------------------------

def lose_joints(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, share: float) -> np.ndarray:
    """A share of all joint-frames that are seen goes missing."""
    seen = np.flatnonzero(joints.any(3))
    lost = rng.choice(seen, number_of(share, len(seen)), replace=False)

    out = joints.copy()
    out.reshape(-1, 3)[lost] = 0
    return out


def lose_frames(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, share: float) -> np.ndarray:
    """A share of the frames that show a body shows none."""
    seen = frames_with_body(joints)
    lost = rng.choice(seen, number_of(share, len(seen)), replace=False)

    out = joints.copy()
    out[:, lost] = 0
    return out


def lose_run(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, frames: int) -> np.ndarray:
    """So many frames in a row show no body; in a clip of fewer than twice as many, half of its frames."""
    L = joints.shape[1]
    count = min(frames, L // 2)
    first = rng.integers(0, L - count + 1)

    out = joints.copy()
    out[:, first:first + count] = 0
    return out


def lose_lower_legs(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator) -> np.ndarray:
    """Knees, ankles and feet are never seen, as at a desk."""
    out = joints.copy()
    out[:, :, lower_legs(skeleton)] = 0
    return out


def lose_arm(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator) -> np.ndarray:
    """One arm, left or right, is not seen for half of the clip, as behind a body."""
    arms = limbs(skeleton, "arm")
    arm = arms[rng.integers(len(arms))]

    # half of the clip, anywhere in it
    L = joints.shape[1]
    count = L // 2
    first = rng.integers(0, L - count + 1)

    out = joints.copy()
    out[:, first:first + count, list(arm)] = 0
    return out


# ---------------------------------------------------------------------------------------------------------------------
# What is seen wrongly
# ---------------------------------------------------------------------------------------------------------------------

def add_noise(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, sd: float) -> np.ndarray:
    """Normal noise of `sd` metres on each coordinate of each joint that is seen."""
    return shaken(joints, sd, rng)


def add_spikes(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, share: float) -> np.ndarray:
    """A share of the joint-frames that are seen has normal noise of SPIKE metres on each coordinate."""
    return displaced(joints, rng, share, rng.normal(0, SPIKE, (joints.any(3).sum(), 3)))


def add_short_spikes(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, share: float) -> np.ndarray:
    """A share of the joint-frames that are seen is off by exactly SPIKE metres, each in a direction of its own."""
    # uniform on a sphere, or on a circle
    direction = rng.normal(size=(joints.any(3).sum(), 3))
    if is_flat(joints):
        direction[:, 2] = 0
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return displaced(joints, rng, share, SPIKE * direction)


def displaced(joints: np.ndarray, rng: np.random.Generator, share: float, by: np.ndarray) -> np.ndarray:
    """A share of the joint-frames that are seen (n), each displaced by its row of `by` (n, 3); a flat clip stays so."""
    seen = np.flatnonzero(joints.any(3))
    off = rng.choice(len(seen), number_of(share, len(seen)), replace=False)

    out = joints.copy()
    out.reshape(-1, 3)[seen[off]] += by[off].astype(joints.dtype)
    if is_flat(joints):
        out[..., 2] = 0
    return out


def freeze_joint(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator) -> np.ndarray:
    """A joint of each body stays where it is from some frame of the first half on, as when a tracker loses it."""
    out = joints.copy()
    first = rng.integers(0, max(1, joints.shape[1] // 2))
    for body in out:
        v = rng.integers(skeleton.num_joints)
        seen = first + np.flatnonzero(body[first:, v].any(1))
        if len(seen):
            body[seen, v] = body[seen[0], v]
    return out


def swap_sides(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, share: float) -> np.ndarray:
    """In a share of the frames left and right joints are taken for each other."""
    L = joints.shape[1]
    frames = rng.choice(L, number_of(share, L), replace=False)

    out = joints.copy()
    out[:, frames] = joints[:, frames][:, :, skeleton.mirror]
    return out


# ---------------------------------------------------------------------------------------------------------------------
# When, from where, of whom
# ---------------------------------------------------------------------------------------------------------------------

def stand_still(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, frames: int) -> np.ndarray:
    """The first pose is held for so many frames before, the last one for as many after, both with a sensor's jitter."""
    seen = frames_with_body(joints)
    first, last = (seen[0], seen[-1]) if len(seen) else (0, -1)

    before = shaken(np.repeat(joints[:, [first]], frames, 1), JITTER, rng)
    after = shaken(np.repeat(joints[:, [last]], frames, 1), JITTER, rng)
    return np.concatenate([before, joints, after], 1)


def drop_rate(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, step: int) -> np.ndarray:
    """Every second frame (step = 2), or every fourth."""
    return joints[:, ::step]


def cut_ends(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, share: float) -> np.ndarray:
    """A share of the frames is cut off at each end."""
    L = joints.shape[1]
    cut = min(number_of(share, L), (L - 1) // 2)
    return joints[:, cut:L - cut]


def turn(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, degrees: float) -> np.ndarray:
    """Turned about the vertical through the middle of all joints, half of the clips to the left."""
    angle = math.radians(degrees) * rng.choice([-1, 1])
    cos, sin = math.cos(angle), math.sin(angle)
    return about_middle(joints, np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]))


def tilt(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, degrees: float) -> np.ndarray:
    """Turned about x through the middle of all joints, as by a camera that looks down (half of the clips) or up."""
    angle = math.radians(degrees) * rng.choice([-1, 1])
    cos, sin = math.cos(angle), math.sin(angle)
    return about_middle(joints, np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]]))


def enlarge(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator, factor: float) -> np.ndarray:
    """A body of another size, about the middle of all joints."""
    return about_middle(joints, factor * np.eye(3))


def about_middle(joints: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Joints under a linear map of row vectors (3, 3) about the mean of all that are seen; missing ones stay so."""
    seen = joints.any(3)
    if not seen.any():
        return joints
    middle = joints[seen].mean(0, dtype=np.float64)
    return ((joints - middle) @ linear + middle) * seen[..., None]


def all_at_once(joints: np.ndarray, skeleton: Skeleton, rng: np.random.Generator) -> np.ndarray:
    """A little of all: 15 frames of standing at each end, 2 cm of noise, 5 % of joints and 5 % of frames missing."""
    x = stand_still(joints, skeleton, rng, 15)
    x = shaken(x, 0.02, rng)
    x = lose_joints(x, skeleton, rng, 0.05)
    return lose_frames(x, skeleton, rng, 0.05)


# ---------------------------------------------------------------------------------------------------------------------
# The rows
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Row:
    """One change. Rows of one kind differ in strength, the axis of a picture."""
    kind: str
    change: Change
    strength: float = 0
    unit: str = ""          # of the strength; empty: the kind is the whole name
    counted: bool = False   # in the mean of the 20
    needs: str = ""         # what a data set must have: legs, arms, depth or sides

    @property
    def name(self) -> str:
        return f"{self.kind} {self.strength:g} {self.unit}" if self.unit else self.kind


def rows_of(kind: str, change: Callable, key: str, unit: str, strengths: dict[float, float], counted: tuple[float, ...],
            needs: str = "") -> list[Row]:
    """Rows of one kind. strengths: {strength as shown: argument `key` of the change}; counted: strengths as shown."""
    rows = []
    for shown, value in strengths.items():
        rows.append(Row(kind, partial(change, **{key: value}), shown, unit, shown in counted, needs))
    return rows


def shares(*percent: float) -> dict[float, float]:
    return {p: p / 100 for p in percent}


ROWS: tuple[Row, ...] = (
    *rows_of("joints missing", lose_joints, "share", "%", shares(1, 2, 5, 10, 20, 50), counted=(1, 5, 20)),
    *rows_of("frames without a body", lose_frames, "share", "%", shares(5, 10, 20, 40), counted=(5, 10)),
    Row("ten frames in a row without a body", partial(lose_run, frames=10), counted=True),
    *rows_of("noise", add_noise, "sd", "cm", shares(1, 2, 5, 10), counted=(1, 2, 5)),
    *rows_of("spikes", add_spikes, "share", "%", shares(1, 2, 5, 10), counted=(2,)),
    Row("knees, ankles, feet never seen", lose_lower_legs, counted=True, needs="legs"),
    *rows_of("standing still", stand_still, "frames", "frames", {n: n for n in (15, 30, 60, 120)},
             counted=(15, 30, 60)),
    Row("half the frame rate", partial(drop_rate, step=2), counted=True),
    Row("20 % cut off both ends", partial(cut_ends, share=0.2), counted=True),
    *rows_of("turned", turn, "degrees", "degrees", {a: a for a in (15, 30, 60, 90)}, counted=(30, 60), needs="depth"),
    Row("1.3 times as large", partial(enlarge, factor=1.3), counted=True),
    Row("a quarter of the frame rate", partial(drop_rate, step=4)),
    Row("spikes of exactly 30 cm, 2 %", partial(add_short_spikes, share=0.02)),
    Row("an arm lost for half of the clip", lose_arm, needs="arms"),
    Row("a joint frozen", freeze_joint),
    Row("left and right swapped in 10 % of frames", partial(swap_sides, share=0.1), needs="sides"),
    Row("camera tilted by 15 degrees", partial(tilt, degrees=15), needs="depth"),
    Row("a little of all", all_at_once),
)
COUNTED = (CLEAN, *(row.name for row in ROWS if row.counted))  # the 20


def rows_for(skeleton: Skeleton, flat: bool) -> tuple[list[Row], list[Row]]:
    """(rows that a data set can have, rows that it lacks something for). flat: its clips have no depth."""
    has = {"": True, "legs": bool(lower_legs(skeleton)), "arms": bool(limbs(skeleton, "arm")), "depth": not flat,
           "sides": bool(skeleton.pairs)}
    return [row for row in ROWS if has[row.needs]], [row for row in ROWS if not has[row.needs]]


def changed(joints: np.ndarray, row: Row, clip: str, skeleton: Skeleton) -> np.ndarray:
    """The joints (M, L', V, 3) of the clip of this name under a row; joints (M, L, V, 3) stay as they are."""
    rng = np.random.default_rng([SEED, zlib.crc32(clip.encode()), zlib.crc32(row.name.encode())])
    return np.ascontiguousarray(row.change(joints, skeleton, rng), np.float32)
