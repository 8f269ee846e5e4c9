"""A clip as a reader yields it, and what all readers share. numpy only."""
from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from phases.common.limits import load_npz, reading
from phases.recordings.metres import Recorded
from phases.recordings.settings import Data


@dataclass
class Clip:
    """One recording: joints (M, L, V, 3) as recorded, M = 1 or 2, zeros where a joint is missing; label from 0.

    subject, camera, setup, replication are 0 if unknown. splits maps a split to its side: 0 training, 1 test, -1 none.
    """
    name: str
    label: int
    joints: np.ndarray
    subject: int = 0
    camera: int = 0
    setup: int = 0
    replication: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    people: int = 0     # before the two main ones were chosen


@dataclass
class Skip:
    """A file, or a clip in one, that is not stored: the line where reading failed (0 if it has none) and why."""
    file: str
    line: int
    reason: str

    def __post_init__(self):
        self.reason = " ".join(self.reason.split())[:300]  # one line, whatever a library says


def recorded_as(data: Data) -> Recorded:
    """What a recipe says of the coordinates."""
    return Recorded(data.unit, data.up, data.channels, data.min_score, data.fill)


def replications_in_turn(found: Iterator[Clip | Skip]) -> Iterator[Clip | Skip]:
    """Clips without replication and split get the replications 0, 1, 2, 3 in turn, within each class.

    A rule {field = "replication", test = [0]} then tests on every fourth clip of a class.
    """
    of_class = Counter()
    for clip in found:
        if isinstance(clip, Clip) and not (clip.replication or clip.splits):
            clip.replication = of_class[clip.label] % 4
            of_class[clip.label] += 1
        yield clip


def motion_of(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M,) the way that all joints of a body (M, L, V, 3) go, and in how many steps; a step is seen in both frames."""
    there = joints.any(3)  # m l v
    both = there[:, 1:] & there[:, :-1]
    return (np.linalg.norm(np.diff(joints, axis=1), axis=3) * both).sum((1, 2)), both.sum((1, 2))


def main_two(joints: np.ndarray, score: np.ndarray | None = None) -> np.ndarray:
    """Of more than two bodies (M, L, V, 3) the two with the most motion times mean score (M, L, V), in their order."""
    if len(joints) <= 2:
        return joints
    motion, _ = motion_of(joints)
    if score is not None:
        there = joints.any(3)  # m l v
        motion = motion * (score * there).sum((1, 2)) / np.maximum(there.sum((1, 2)), 1)
    return joints[np.sort(np.argsort(-motion, kind="stable")[:2])]


def count_from(labels: list, num_classes: int) -> int:
    """1 if whole-number labels are all of 1 to the number of classes, which is said, else 0."""
    numbers = set()
    for label in labels:
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # an empty one costs its own clip only
            numbers.add(int(label))
    if numbers != set(range(1, num_classes + 1)):
        return 0
    print(f"  labels run from 1 to {num_classes}: label 1 is taken for class 0, and so on", file=sys.stderr)
    return 1


def trimmed(joints: np.ndarray) -> np.ndarray:
    """Joints without the all-zero frames at the end, and without a second body that is never seen."""
    seen = (joints != 0).any((2, 3))  # m l
    if not seen.any():
        raise ValueError("no body in any frame")
    keep = seen.any(1) | (np.arange(len(joints)) == 0)
    return joints[keep, :np.flatnonzero(seen.any(0))[-1] + 1]


def npz_arrays(path: Path, needed: set[str], but: str = "-") -> dict[str, np.ndarray]:
    """The arrays of an .npz file, except those with a name that starts with `but`."""
    with reading(path):
        arrays = load_npz(path, lambda name: not name.startswith(but))
        lacking = needed - set(arrays)
        if lacking:
            raise ValueError(f"lacks {', '.join(sorted(lacking))}; it holds {', '.join(arrays)}")
    return {k: array for k, array in arrays.items() if array is not None}


def skip_text(skip: dict) -> str:
    """A skip as text: file, line and reason."""
    line = f", line {skip['line']}" if skip["line"] else ""
    return f"{skip['file']}{line}: {skip['reason']}"
