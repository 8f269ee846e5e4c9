"""The test view of a clip in numpy: last.ClipView without its random part."""
from __future__ import annotations

import math

import numpy as np


def clip_view(joints: np.ndarray, view: dict, skeleton: dict) -> np.ndarray:
    """The test view (view.bodies, T, V, 3) of a clip (any number of bodies, L, V, 3): last.ClipView in numpy."""
    joints = np.asarray(joints, np.float32)[:view["bodies"]]
    seen = joints.any(3)  # m l v
    centre, linear = normalisation(joints[0], seen[0], view, skeleton)
    at = sample_frames(joints.shape[1], view["frames"], view["sampling"])
    x = (smoothed(joints, view.get("smooth", 0))[:, at] - centre) @ linear  # m t v 3
    seen = seen[:, at]  # m t v
    if view["extent"] and seen.any():
        size = np.ptp(x[seen], axis=0).max()
        x = x * np.float32(2 / (size if size > 1e-3 else 2))
    out = np.zeros((view["bodies"], *x.shape[1:]), np.float32)
    out[:len(joints)] = x * seen[..., None]
    return out


def normalisation(body: np.ndarray, seen: np.ndarray, view: dict, skeleton: dict) -> tuple[np.ndarray, np.ndarray]:
    """(centre (3,), linear map (3, 3)) of a clip from its main body (L, V, 3) and the joints seen (L, V).

    In the first frame that shows the body, the centre is the spine, or else the mean of the joints seen. The map turns
    the mean right-to-left axis of shoulders and hips to +x and scales the trunk to 0.5 m, if the view asks for it.
    """
    first = seen.any(1).argmax() if seen.any() else len(seen) - 1
    middle = [v for v in skeleton["centre"] if seen[first, v]] or np.flatnonzero(seen[first])
    centre, linear = body[first, middle].sum(0) / max(1, len(middle)), np.eye(3, dtype=np.float32)
    if not (view["heading"] or view["trunk_scale"]):
        return centre, linear
    four = [joints[0] for joints in skeleton["trunk"]]  # left and right shoulder, left and right hip
    ls, rs, lh, rh = body[:, four].swapaxes(0, 1)  # l 3
    whole = seen[:, four].all(1)  # l
    if view["heading"]:
        across = (ls + lh - rs - rh)[whole].sum(0)
        a = np.arctan2(across[2], across[0])
        linear = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]], np.float32)
    if view["trunk_scale"]:
        size = np.linalg.norm((ls + rs - lh - rh)[first] / 2)
        linear = linear * np.float32(0.5 / (size if size > 1e-3 and whole[first] else 0.5))
    return centre, linear


def sample_frames(length: int, T: int, sampling: str) -> np.ndarray:
    """Frame numbers (T,) of the test view: last.sample_frames without its random part."""
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
    reach, t = math.ceil(3 * std), np.arange(joints.shape[1])
    there = joints.any(-1, keepdims=True)  # m l v 1; a missing joint has no weight in any mean
    total, weights = np.zeros_like(joints), 0.0
    for offset in range(-reach, reach + 1):
        at = np.clip(t + offset, 0, len(t) - 1)
        weight = np.float32(math.exp(-0.5 * (offset / std) ** 2)) * there[:, at]
        total, weights = total + weight * joints[:, at], weights + weight
    return total / np.maximum(weights, 1e-12) * there
