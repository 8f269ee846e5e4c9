"""Clips on paper: the joints of a stored clip, and where they lie in a drawing from the front or from the side."""
from __future__ import annotations

import numpy as np

from phases.training.clip_store import ClipStore
from skeletons import Skeleton

# of the regions, in a skeleton's own order
COLOURS = ("#d1495b", "#00798c", "#edae49", "#30638e", "#5a5a66", "#8f5fbf", "#6a994e")
FRONT, SIDE = "front", "side"


def clip_joints(store: ClipStore, index: int) -> np.ndarray:
    """Joints (M, L, V, 3) of a clip; an absent body is left out."""
    length = store.clips["length"][index]
    return np.stack([store.frames[first:first + length] for first in store.clips["offset"][index] if first >= 0])


def project(joints: np.ndarray, skeleton: Skeleton, view: str) -> np.ndarray:
    """(M, L, V, 3) -> (M, L, V, 2) metres on paper, seen from the front or from the left; nan for a missing joint.

    Kinect's x grows to the right of a person who faces it, so it is mirrored: the paper shows what the camera saw.
    2-D key points (z = 0) count y downwards; they are turned upright.
    """
    flat = joints.any() and not joints[..., 2].any()
    x = joints[..., 2] if view == SIDE else joints[..., 0] * (1 if flat else -1)
    paper = np.stack((x, joints[..., 1]), -1).astype(float)
    paper[~joints.any(-1)] = np.nan
    if flat and upside_down(paper, skeleton):
        paper[..., 1] *= -1
    return paper


def upside_down(paper: np.ndarray, skeleton: Skeleton) -> bool:
    """Whether the head usually lies below the feet."""
    heights = []
    for words in (("head", "nose"), ("shoulder",), ("hip",), ("foot", "ankle")):  # from top to bottom
        named = [v for v, joint in enumerate(skeleton.joints) if any(word in joint.lower() for word in words)]
        seen = paper[:, :, named, 1][np.isfinite(paper[:, :, named, 1])]
        heights += [np.median(seen)] if seen.size else []
    return len(heights) > 1 and bool(heights[0] < heights[-1])


def limits(paper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest (x, y) over a whole clip, with a margin of a twentieth of the larger extent."""
    points = paper[np.isfinite(paper).all(-1)]
    if not len(points):
        raise ValueError("nothing to draw: every joint of the clip is missing")
    low, high = points.min(0), points.max(0)
    margin = 0.05 * max(*(high - low), 1e-3)
    return low - margin, high + margin


def as_camera(joints: np.ndarray, up: str) -> np.ndarray:
    """Flat clips that phase 0 turned upright, as a camera gives them, y down: the paper turns them."""
    return joints if up == "y" or joints[..., 2].any() else joints * np.float32([-1, -1, 1])
