"""A clip as a reader yields it, and the functions that all readers share. numpy only."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from phases.common.limits import load_npz, reading
from phases.recordings.archives import as_given
from phases.recordings.metres import Recorded
from phases.recordings.settings import Data

CLEARLY = 1.2  # times the activity of the body that is listed first
RAPID = 0.05   # of a joint's variance counts as motion, however much of it may be noise
PIXELS = 20    # a body larger than this is not in metres


@dataclass
class Clip:
    """One recording: joints (M, L, V, 3) as recorded, M = 1 or 2; a missing joint is 0, 0, 0. Labels count from 0.

    subject, camera, setup and replication are 0 if unknown; splits: {name: 0 training, 1 test, -1 neither}.
    """
    name: str
    label: int
    joints: np.ndarray
    subject: int = 0
    camera: int = 0
    setup: int = 0
    replication: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    people: int = 0     # in the recording, of whom the clip has the main two


@dataclass
class Skip:
    """A file, or a clip in a file, that is not stored: the line at which reading failed (0: no line) and the reason."""
    file: str
    line: int
    reason: str

    def __post_init__(self):
        self.reason = as_given(" ".join(self.reason.split()))[:300]  # libraries raise errors of several lines


def recorded_as(data: Data) -> Recorded:
    """The settings of a recipe that turn recorded coordinates into metres."""
    return Recorded(data.unit, data.up, data.channels, data.min_score)


def replications_in_turn(found: Iterator[Clip | Skip]) -> Iterator[Clip | Skip]:
    """Number the clips of each class 0, 1, 2, 3, 0, ... where they have neither a replication nor a split.

    A rule {field = "replication", test = [0]} then tests on every fourth clip of a class.
    """
    of_class = Counter()
    for clip in found:
        is_bare = isinstance(clip, Clip) and not (clip.replication or clip.splits)
        if is_bare:
            clip.replication = of_class[clip.label] % 4
            of_class[clip.label] += 1
        yield clip


# ---------------------------------------------------------------------------------------------------------------------
# Bodies
# ---------------------------------------------------------------------------------------------------------------------

def activity(joints: np.ndarray) -> np.ndarray:
    """(M,) how far the joints of bodies (M, L, V, 3) get from their mean places, in their unit; their noise is no
    motion.

    A joint's activity is the variance of its places, less half its mean squared step: of noise that is anew in every
    frame, the two are the same (von Neumann 1941). A motion that is fast for its frame rate has long steps, too: RAPID
    of the variance always counts. A body's is the root of its joints' mean.
    """
    # places relative to the mean one: millimetres and pixels keep their digits
    seen = joints.any(3)  # m l v
    places = joints.astype(np.float64)
    times = np.maximum(seen.sum(1), 1)  # m v
    places = (places - (places.sum(1) / times[..., None])[:, None]) * seen[..., None]
    variance = (places ** 2).sum((1, 3)) / times

    # a step leads from one frame to the next and counts if both show the joint
    in_both = seen[:, 1:] & seen[:, :-1]
    squares = (np.diff(places, axis=1) ** 2).sum(3) * in_both
    noise = squares.sum(1) / np.maximum(in_both.sum(1), 1) / 2

    # over the joints that are ever seen; those that never are have none
    count = np.maximum(seen.any(1).sum(1), 1)
    spread = variance.sum(1) / count
    return np.sqrt(np.maximum(spread - noise.sum(1) / count, RAPID * spread))


def main_bodies(joints: np.ndarray, score: np.ndarray | None = None) -> list[int]:
    """The numbers of the main two of bodies (M, L, V, 3), the main one first, wherever a file lists it.

    The main one is the most active; the first that is listed stays the main one unless another is clearly more active.
    A passer-by, seen for less than half the time of the one seen longest, is no main one if another is active. With a
    score (M, L, V) a body's activity counts times its mean score.
    """
    if len(joints) < 2:
        return list(range(len(joints)))

    there = joints.any(3)  # m l v
    active = activity(joints)
    if score is not None:
        active = active * (score * there).sum((1, 2)) / np.maximum(there.sum((1, 2)), 1)

    # who is seen for long enough, then who is most active
    seen = there.any(2).sum(1)
    stays = 2 * seen >= seen.max()
    order = sorted(range(len(joints)), key=lambda m: (not stays[m], -active[m], m))
    first, second = order[:2]

    # about as active: in the order of the file
    if second < first and stays[second] and active[first] <= CLEARLY * active[second]:
        return [second, first]
    return [first, second]


def main_two(joints: np.ndarray, score: np.ndarray | None = None) -> np.ndarray:
    """The main two of bodies (M, L, V, 3), the main one first: see main_bodies."""
    main = main_bodies(joints, score)
    return joints if main == list(range(len(joints))) else joints[main]


def third_is_score(clips: list[Clip]) -> bool:
    """Whether the third number of a joint is a score: within 0 to 1 where bodies are many times larger."""
    third, sizes = [], []
    for c in clips[:100]:
        third.append(c.joints[..., 2].ravel())
        seen = c.joints[c.joints.any(3)]
        sizes.append(np.ptp(seen[:, :2], axis=0).max())

    third = np.concatenate(third)
    return bool(third.any() and third.min() >= 0 and third.max() <= 1.001 and np.median(sizes) > PIXELS)


def trimmed(joints: np.ndarray) -> np.ndarray:
    """Joints without the all-zero frames at the end, and without a second body that is never seen."""
    seen = (joints != 0).any((2, 3))  # m l
    if not seen.any():
        raise ValueError("no body in any frame")

    # the first body stays even if only the second is seen
    is_kept = seen.any(1) | (np.arange(len(joints)) == 0)
    last = np.flatnonzero(seen.any(0))[-1]
    return joints[is_kept, :last + 1]


# ---------------------------------------------------------------------------------------------------------------------
# Files and skips
# ---------------------------------------------------------------------------------------------------------------------

def npz_arrays(path: Path, needed: set[str], but: str = "-") -> dict[str, np.ndarray]:
    """The arrays of an .npz file, except those with a name that starts with `but`."""
    with reading(path):
        arrays = load_npz(path, lambda name: not name.startswith(but))
        lacking = needed - set(arrays)
        if lacking:
            raise ValueError(f"lacks {', '.join(sorted(lacking))}; it holds {', '.join(arrays)}")
    return {k: array for k, array in arrays.items() if array is not None}


def skip_text(skip: dict) -> str:
    """A skip, as meta.json has it, as text: file, line and reason."""
    line = f", line {skip['line']}" if skip["line"] else ""
    return f"{skip['file']}{line}: {skip['reason']}"
