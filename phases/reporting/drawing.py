"""Clips on paper: the places of joints in a drawing from the front or from the side."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skeletons import Skeleton

COLOURS = ("#d1495b", "#00798c", "#edae49", "#30638e", "#5a5a66", "#8f5fbf", "#6a994e")  # of a skeleton's regions
FRONT, SIDE = "front", "side"


def as_camera(joints: np.ndarray, up: str) -> np.ndarray:
    """Flat clips that phase 0 turned upright, as a camera gives them, y down: `project` turns them upright again."""
    is_flat = not joints[..., 2].any()
    return joints * np.float32([-1, -1, 1]) if is_flat and up != "y" else joints


class Line(NamedTuple):
    """A line of a drawn body, from the middle of some joints to the middle of others."""
    start: tuple[int, ...]
    end: tuple[int, ...]
    colour: str


def drawn_lines(skeleton: Skeleton) -> list[Line]:
    """The bones, each in the colour of its child's region; a body without neck and spine gets these as lines, too."""
    region = {v: r for r, members in enumerate(skeleton.regions.values()) for v in members}

    def line(start: tuple[int, ...], end: tuple[int, ...], of: int) -> Line:
        return Line(start, end, COLOURS[region.get(of, 0) % len(COLOURS)])

    # the trunk of COCO, MediaPipe, ...: shoulders hang from the nose, and no joint is between shoulders and hips
    root = skeleton.root
    added = []
    from_nose = ()
    if skeleton.joints[root] == "nose" and skeleton.trunk:
        left, right, left_hip, right_hip = (joints[0] for joints in skeleton.trunk)
        from_nose = left, right
        added = [line((left,), (right,), root), line((left_hip,), (right_hip,), root),
                 line((left, right), (root,), root), line((left, right), (left_hip, right_hip), root)]

    bones = []
    for child, parent in skeleton.bones:
        if child != parent and not (parent == root and child in from_nose):
            bones.append(line((child,), (parent,), child))
    return bones + added


def segments(paper: np.ndarray, lines: list[Line]) -> np.ndarray:
    """(..., N, 2, 2) both ends of each line on paper (..., V, 2); NaN for an end of which a joint is missing."""
    ends = []
    for line in lines:
        ends += [paper[..., list(joints), :].mean(-2) for joints in (line.start, line.end)]
    return np.stack(ends, -2).reshape(*paper.shape[:-2], len(lines), 2, 2)


def project(joints: np.ndarray, skeleton: Skeleton, view: str) -> np.ndarray:
    """(M, L, V, 3) -> (M, L, V, 2) metres on paper, seen from the front or from the left; nan for a missing joint.

    Kinect's x grows to the right of a person who faces it. It is mirrored here, so that the drawing shows what the
    camera saw. 2-D key points (z = 0) count y downwards; they are turned upright.
    """
    is_flat = joints.any() and not joints[..., 2].any()

    # the two axes of the paper
    if view == SIDE:
        x = joints[..., 2]
    else:
        x = joints[..., 0] * (1 if is_flat else -1)
    paper = np.stack((x, joints[..., 1]), -1).astype(float)
    paper[~joints.any(-1)] = np.nan

    if is_flat and upside_down(paper, skeleton):
        paper[..., 1] *= -1
    return paper


def upside_down(paper: np.ndarray, skeleton: Skeleton) -> bool:
    """Whether the head is usually below the feet; without feet, below the lowest joints that were seen."""
    heights = []
    for words in (("head", "nose"), ("shoulder",), ("hip",), ("foot", "ankle")):  # from top to bottom
        named = [v for v, joint in enumerate(skeleton.joints) if any(word in joint.lower() for word in words)]
        height = paper[:, :, named, 1]
        height = height[np.isfinite(height)]
        if height.size:
            heights.append(np.median(height))
    return len(heights) > 1 and bool(heights[0] < heights[-1])


def bounds(paper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest (x, y) over a whole clip, with a margin of a twentieth of the larger extent."""
    points = paper[np.isfinite(paper).all(-1)]
    if not len(points):
        raise ValueError("nothing to draw: every joint of the clip is missing")

    low, high = points.min(0), points.max(0)
    margin = 0.05 * max(*(high - low), 1e-3)
    return low - margin, high + margin
