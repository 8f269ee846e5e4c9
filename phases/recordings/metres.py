"""Coordinates as they were recorded -> metres with y up. Phase 0 does it once for a store, predict for a clip.

    data.unit       m, cm, mm; px and body have no length of their own: each clip is scaled by its body's trunk
    data.up         y, -y, z, -z: the axis that points up; clips are turned, never mirrored. -y is a camera's: x to the
                    right of the picture, y down, z away; a body that faces it faces z = 0 afterwards, as a Kinect's
    data.channels   xyz, xys: what three numbers are; two are x, y; four are x, y, z, score
    data.min_score  a joint with a lower score is missing

A missing joint is 0, 0, 0; as recorded it may also be NaN. A joint that the clips are centred on is 0, 0, 0 in every
frame: it is kept. numpy only.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phases.common.limits import BODIES, FARTHEST, FRAMES, JOINTS
from skeletons import Skeleton

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}

# stored axis -> (recorded axis, sign); each is a rotation
AXES = {"y": ((0, 1), (1, 1), (2, 1)), "-y": ((0, -1), (1, -1), (2, 1)),
        "z": ((0, 1), (2, 1), (1, -1)), "-z": ((0, 1), (2, -1), (1, 1))}
TRUNK = 0.5                       # metres, of an adult
HEIGHT = 1.7                      # metres, of an adult
PLACE = np.float32([0, 0, 2])     # the place of the joint that a clip is centred on: no joint is 0, 0, 0 there


@dataclass(frozen=True)
class Recorded:
    """How coordinates were recorded; `reference`: the joint that clips are centred on, or none."""
    unit: str = "m"
    up: str = "y"
    channels: str = "xyz"
    min_score: float = 0.0
    reference: tuple[int, ...] = ()


# ---------------------------------------------------------------------------------------------------------------------
# Arrays -> joints
# ---------------------------------------------------------------------------------------------------------------------

def as_joints(x, recorded: Recorded = Recorded()) -> np.ndarray:  # noqa: B008, a frozen value
    """Joints (M, L, V, 3) float32 of an array (L, V, C) or (M, L, V, C) of 2 to 4 channels; z is 0 if there is none.

    A joint with a low score becomes missing, and so does one with a coordinate or a score of NaN. ValueError if x is no
    such array, is larger than a clip may be (limits.py), or holds a coordinate that is infinite or too large.
    """
    x = real_array(x)
    if x.ndim == 3:
        x = x[None]
    check_shape(x.shape)

    # the score is the last channel
    has_score = x.shape[-1] == 4 or (x.shape[-1] == 3 and recorded.channels == "xys")
    if has_score:
        score, x = x[..., -1:], x[..., :-1]
        x = np.where((score > 0) & (score >= recorded.min_score), x, np.float32(0))

    # NaN is not far
    far = np.argwhere(np.abs(x) > FARTHEST)
    if len(far):
        raise ValueError(f"frame {int(far[0][1])}: a coordinate is not finite, or beyond ±{FARTHEST:g}; a missing "
                         "joint is 0, 0, 0 or NaN")
    x = missing_as_zeros(x)
    return x if x.shape[-1] == 3 else np.pad(x, [(0, 0)] * 3 + [(0, 1)])


def missing_as_zeros(x: np.ndarray) -> np.ndarray:
    """Joints (..., C), those with a number that is NaN as zeros."""
    missing = np.isnan(x).any(-1, keepdims=True)
    return np.where(missing, np.float32(0), x) if missing.any() else x


def real_array(x) -> np.ndarray:
    """An array or nested lists as float32; ValueError if they are ragged, no numbers, or complex ones."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            if np.iscomplexobj(x):
                raise TypeError
            return np.asarray(x, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("joints are not a full array of real numbers") from None


def check_shape(shape: tuple[int, ...]) -> None:
    """ValueError unless this is the shape (M, L, V, C) of a clip within the limits."""
    if len(shape) != 4 or shape[-1] not in (2, 3, 4):
        raise ValueError(f"joints have shape {shape}: must be (frames, joints, 3) or (bodies, frames, joints, 3)")
    if any(n > most for n, most in zip(shape, (BODIES, FRAMES, JOINTS), strict=False)):
        raise ValueError(f"joints have shape {shape}: at most {BODIES} bodies, {FRAMES} frames and {JOINTS} joints "
                         "are read")


# ---------------------------------------------------------------------------------------------------------------------
# Joints as recorded -> metres
# ---------------------------------------------------------------------------------------------------------------------

def in_metres(joints: np.ndarray, recorded: Recorded, trunk: list[int] | None) -> np.ndarray:
    """Joints (M, L, V, 3) as recorded -> metres, y up; a missing joint stays 0, 0, 0. trunk: see trunk_vector."""
    if (recorded.unit, recorded.up, recorded.reference) == ("m", "y", ()):
        return joints
    there = joints.any(3)  # m l v

    # the axes, then the unit
    x = np.stack([joints[..., axis] * np.float32(sign) for axis, sign in AXES[recorded.up]], 3)
    scale = METRES.get(recorded.unit) or 1 / body_size(x[0], trunk)
    x = x * np.float32(scale) + np.float32(0)  # + 0: no negative zeros

    # the reference joint exists wherever another joint of the body does
    if recorded.reference:
        there[..., list(recorded.reference)] |= there.any(2, keepdims=True)
        x = np.where(there[..., None], x + PLACE, np.float32(0))
    return x


def trunk_of(skeleton: Skeleton) -> list[int] | None:
    """Left and right shoulder, left and right hip; None if one is missing."""
    return [joints[0] for joints in skeleton.trunk] if skeleton.trunk else None


def trunk_vector(body: np.ndarray, trunk: list[int] | None) -> np.ndarray:
    """(3,) from the middle of the hips to the middle of the shoulders, median over the frames of a body (L, V, 3).

    trunk: left and right shoulder, left and right hip. NaN if there is no trunk, or no frame shows all four joints.
    """
    unknown = np.full(3, np.nan, np.float32)
    if trunk is None:
        return unknown

    # frames that show all four
    four = body[:, trunk]  # l 4 3
    four = four[four.any(2).all(1)]
    if not len(four):
        return unknown
    return np.median((four[:, 0] + four[:, 1] - four[:, 2] - four[:, 3]) / 2, axis=0)


def body_size(body: np.ndarray, trunk: list[int] | None) -> float:
    """Recorded units per metre of a body (L, V, 3): by its trunk, else by the longest side of its joints' box."""
    size = np.linalg.norm(trunk_vector(body, trunk)) / TRUNK
    if not size > 0:  # NaN is not
        frames = [frame[frame.any(1)] for frame in body]
        sides = [np.ptp(joints, axis=0).max() for joints in frames if len(joints) > 1]
        size = np.median(sides) / HEIGHT if sides else 1.0
    return float(size) if size > 0 else 1.0


# ---------------------------------------------------------------------------------------------------------------------
# How clips were recorded, as their joints show it
# ---------------------------------------------------------------------------------------------------------------------

def reference_joint(clips: list[np.ndarray]) -> tuple[int, ...]:
    """The joint that clips (M, L, V, 3) are centred on: the only one that is 0 in nearly all frames of nearly all.

    The origin is then inside the body. A joint that a sensor never sees is 0 too, but the camera, from which the body
    keeps a distance, is the origin there.
    """
    zero = []  # v: whether the joint is 0 in nearly all frames of a clip
    near = []  # distance of the body from the origin, in diagonals of its box
    for joints in clips:
        body = joints[0][joints[0].any((1, 2))]  # l v 3
        if not len(body):
            continue
        there = body.any(2)  # l v
        zero.append((~there).mean(0) > 0.95)

        # missing joints do not widen the box
        centre = body.sum(1) / there.sum(1)[:, None]
        box = np.ptp(np.where(there[..., None], body, centre[:, None]), axis=1)
        near.append(np.median(np.linalg.norm(centre, axis=1) / np.maximum(np.linalg.norm(box, axis=1), 1e-9)))

    if not zero:
        return ()
    always = np.flatnonzero(np.mean(zero, axis=0) > 0.95)
    return (int(always[0]),) if len(always) == 1 and np.median(near) < 0.6 else ()


def in_unit_square(places: np.ndarray) -> bool:
    """Whether places (N, 3) are shares of a picture's width and height: x and y are within 0 to 1, or turned 0 to -1.

    A few joints may be beyond the edges. Places in metres, about a sensor or a body, have both signs.
    """
    if not len(places):
        return False
    plane = places[:, :2]
    one_sign = np.maximum((plane >= 0).mean(0), (plane <= 0).mean(0))
    return bool((one_sign > 0.95).all() and ((np.abs(plane) <= 1).mean(0) > 0.95).all())


def guess(trunks: np.ndarray) -> tuple[float, str, str]:
    """(length, unit, axis that points up) of trunks (N, 3) as recorded; an empty text for what they do not show.

    The axis may be x or -x, which no recipe can name.
    """
    # trunks that are known and have a length
    trunks = trunks[np.isfinite(trunks).all(1)]
    lengths = np.linalg.norm(trunks, axis=1)
    trunks, lengths = trunks[lengths > 0], lengths[lengths > 0]
    if not len(trunks):
        return 0.0, "", ""

    # the unit in which a trunk has a plausible length; flat clips of any length are pixels, not centimetres
    length = float(np.median(lengths))
    units = METRES if trunks[:, 2].any() else {"m": 1.0}
    unit = next((u for u, m in units.items() if 0.15 < length * m < 1.5), "px")

    # the axis along which most trunks point; none if some people are lying
    mean = (trunks / lengths[:, None]).mean(0)
    axis = int(np.abs(mean).argmax())
    up = ("-" if mean[axis] < 0 else "") + "xyz"[axis]
    return length, unit, up if abs(mean[axis]) > 0.6 else ""


def complaints(trunks: np.ndarray, recorded: Recorded) -> list[str]:
    """The contradictions to data.unit and data.up, a line each, from the trunks (N, 3) of all clips in metres, y up."""
    # back to the coordinates as recorded
    scale = METRES.get(recorded.unit, 1.0)
    raw = np.empty_like(trunks)
    for ours, (theirs, sign) in enumerate(AXES[recorded.up]):
        raw[..., theirs] = sign * trunks[..., ours] / scale
    length, unit, up = guess(raw)

    found = []
    if unit and recorded.unit in METRES and unit != recorded.unit:
        found.append(f"a trunk is {length:.3g} long as recorded, data.unit = {recorded.unit!r} makes that "
                     f"{length * scale:.3g} metres: give data.unit={unit}")
    if up and up != recorded.up:
        advice = f"give data.up={up}" if up in AXES else "turn the clips, x cannot be up, or name another skeleton"
        found.append(f"bodies stand along {up} as recorded, data.up = {recorded.up!r}: {advice}")
    return found
