"""The test view of a clip in numpy: ClipView (training/view.py) without its random part."""
from __future__ import annotations

import math

import numpy as np


def clip_view(joints: np.ndarray, view: dict, skeleton: dict) -> np.ndarray:
    """The test view (view.bodies, T, V, 3) of a clip (any number of bodies, L, V, 3)."""
    joints = np.asarray(joints, np.float32)[:view["bodies"]]
    seen = joints.any(3)  # m l v

    # the frames of the view, normalised
    centre, linear = normalisation(joints[0], seen[0], view, skeleton)
    chosen = sample_frames(joints.shape[1], view["frames"], view["sampling"])
    x = (smoothed(joints, view.get("smooth", 0))[:, chosen] - centre) @ linear  # m t v 3
    seen = seen[:, chosen]  # m t v

    # the longest side of the box around all joints becomes 2
    if view["extent"] and seen.any():
        size = np.ptp(x[seen], axis=0).max()
        x = x * np.float32(2 / (size if size > 1e-3 else 2))

    # an absent body is zeros, and so is a missing joint
    out = np.zeros((view["bodies"], *x.shape[1:]), np.float32)
    out[:len(joints)] = x * seen[..., None]
    return out


def normalisation(body: np.ndarray, seen: np.ndarray, view: dict, skeleton: dict) -> tuple[np.ndarray, np.ndarray]:
    """(centre (3,), linear map (3, 3)) of a clip from its main body (L, V, 3) and the joints seen (L, V).

    In the first frame that shows the body, the centre is the spine, or else the mean of the joints seen. The map turns
    the mean right-to-left axis of shoulders and hips to +x and scales the trunk to 0.5 m, if the view asks for it.
    """
    # the centre
    first = seen.any(1).argmax() if seen.any() else len(seen) - 1
    middle = [v for v in skeleton["centre"] if seen[first, v]] or np.flatnonzero(seen[first])
    centre = body[first, middle].sum(0) / max(1, len(middle))
    linear = np.eye(3, dtype=np.float32)
    if not (view["heading"] or view["trunk_scale"]):
        return centre, linear

    # the corners of the trunk, and the frames that show all four
    corners = [joints[0] for joints in skeleton["trunk"]]
    left_shoulder, right_shoulder, left_hip, right_hip = body[:, corners].swapaxes(0, 1)  # l 3
    whole = seen[:, corners].all(1)  # l

    # turn about y
    if view["heading"]:
        across = (left_shoulder + left_hip - right_shoulder - right_hip)[whole].sum(0)
        angle = np.arctan2(across[2], across[0])
        cos, sin = np.cos(angle), np.sin(angle)
        linear = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]], np.float32)

    # scale the trunk; one without length keeps its size
    if view["trunk_scale"]:
        size = np.linalg.norm((left_shoulder + right_shoulder - left_hip - right_hip)[first] / 2)
        linear = linear * np.float32(0.5 / (size if size > 1e-3 and whole[first] else 0.5))
    return centre, linear


def sample_frames(length: int, T: int, sampling: str) -> np.ndarray:
    """Frame numbers (T,) of the test view: sample_frames of training/view.py without its random part."""
    t = np.arange(T)
    if sampling == "crop":
        return (int((max(length, 300, T) - T + 1) * 0.5) + t) % length
    if sampling == "uniform" and length < T:
        return np.minimum(t, length - 1)
    return ((t + np.float32(0.5)) * np.float32(length) / np.float32(T)).astype(int)


def smoothed(joints: np.ndarray, std: float) -> np.ndarray:
    """Gaussian means of joints (M, L, V, 3) over time, `std` frames wide. Missing joints, zeros, stay missing."""
    if not std:
        return joints
    t = np.arange(joints.shape[1])
    reach = math.ceil(3 * std)
    there = joints.any(-1, keepdims=True)  # m l v 1; a missing joint has no weight in any mean

    # the frame `offset` later, or the clip's last one, counts by the Gaussian of the offset
    total = np.zeros_like(joints)
    weights = 0.0
    for offset in range(-reach, reach + 1):
        other = np.clip(t + offset, 0, len(t) - 1)
        weight = np.float32(math.exp(-0.5 * (offset / std) ** 2)) * there[:, other]
        total = total + weight * joints[:, other]
        weights = weights + weight
    return total / np.maximum(weights, 1e-12) * there
