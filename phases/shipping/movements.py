"""When somebody moves: the speed of a body, the beginning and end of its movements, and clips at another rate.

Speeds are in metres per second of a body with the trunk of an adult; times are in seconds, at any rate and with gaps.
Shapes: m body, l frame, v joint. A missing joint is (0, 0, 0). numpy only.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phases.recordings.metres import body_size

SPAN = 0.2      # seconds: a speed compares the mean places of joints before and after a frame, over so long each
SLACK = 1e-3    # seconds by which time stamps may be off
STILL = 0.4     # metres per second: people who stand are slower, at noise of 2 cm and from 10 frames per second on
FAST = 2.0      # times as fast: a movement reaches it,
LEAST = 0.1     # seconds: for so long
REACH = 0.3     # seconds by which a movement begins before it is fast, and ends after, at most
PAUSE = 0.8     # seconds at rest that end a movement
SIZES = (0.3, 2.0)  # of an adult: a body is taken to have no other


# ---------------------------------------------------------------------------------------------------------------------
# Speed
# ---------------------------------------------------------------------------------------------------------------------

def speeds(joints: np.ndarray, times: np.ndarray, trunk: list[int] | None) -> np.ndarray:
    """(L,) the speed of the fastest body of joints (M, L, V, 3) at each of times (L,); `trunk`: see body_size.

    A body's speed is that of its second fastest joint: one that the camera misjudges is no movement. A joint counts
    where frames on both sides show it.
    """
    seen = joints.any(3)  # m l v
    calm = without_spikes(joints, seen)

    # the frames before and after each, at least one
    count = np.arange(len(times))
    low = np.minimum(np.searchsorted(times, times - SPAN - SLACK), np.maximum(count - 1, 0))
    high = np.maximum(np.searchsorted(times, times + SPAN - SLACK), count + 1)
    before = mean_places(calm, seen, low, np.maximum(count, 1))
    after = mean_places(calm, seen, count, high)
    apart = mean_times(times, count, high) - mean_times(times, low, np.maximum(count, 1))

    # NaN where one side does not show a joint
    way = np.linalg.norm(after - before, axis=3)  # m l v
    way = np.sort(np.where(np.isnan(way), 0, way), axis=2)
    second = way[:, :, -min(2, way.shape[2])].max(0)
    return second / np.maximum(apart, SPAN) / size_of(joints, trunk)


def without_spikes(joints: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Joints (M, L, V, 3), each coordinate as the middle one of three frames that all show the joint."""
    if joints.shape[1] < 3:
        return joints
    three = np.stack([joints[:, :-2], joints[:, 1:-1], joints[:, 2:]])
    middle = np.maximum(np.minimum(three[0], three[1]), np.minimum(np.maximum(three[0], three[1]), three[2]))

    out = joints.copy()
    is_whole = seen[:, :-2] & seen[:, 1:-1] & seen[:, 2:]
    out[:, 1:-1] = np.where(is_whole[..., None], middle, joints[:, 1:-1])
    return out


def mean_places(joints: np.ndarray, seen: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(M, L, V, 3) mean places of joints over frames `first` to `end` - 1 (L,) that show them; NaN where none does."""
    total = np.cumsum(np.pad(joints.astype(np.float64), ((0, 0), (1, 0), (0, 0), (0, 0))), 1)
    number = np.cumsum(np.pad(seen.astype(np.float64), ((0, 0), (1, 0), (0, 0))), 1)
    shown = (number[:, end] - number[:, first])[..., None]
    return (total[:, end] - total[:, first]) / np.where(shown > 0, shown, np.nan)


def mean_times(times: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(L,) mean of times over frames `first` to `end` - 1 (L,)."""
    total = np.cumsum(np.pad(times - times[0], (1, 0)))
    return (total[end] - total[first]) / (end - first)


def size_of(joints: np.ndarray, trunk: list[int] | None) -> float:
    """The size of the first body of joints (M, L, V, 3) that is seen; an adult's is 1."""
    for body in joints[joints.any((1, 2, 3))]:
        return float(np.clip(body_size(body, trunk), *SIZES))
    return 1.0


# ---------------------------------------------------------------------------------------------------------------------
# Movements
# ---------------------------------------------------------------------------------------------------------------------

@dataclass
class Tracker:
    """Speeds in the order of time -> (start, end) of each movement, as soon as it has ended."""
    still: float = STILL            # metres per second
    start: float | None = None      # of what may become a movement; None: everybody stands still
    last: float = 0.0               # the newest time at which somebody moved,
    fast: float = 0.0               # at which somebody was fast
    moved: float = 0.0              # seconds for which somebody was fast
    before: float | None = None     # the time of the speed before

    @property
    def is_moving(self) -> bool:
        """Whether a movement is going on, fast enough to be one."""
        return self.start is not None and self.moved >= LEAST - SLACK

    def add(self, time: float, speed: float) -> tuple[float, float] | None:
        """The movement that has ended, if one has; speeds are given at every frame."""
        step = SPAN if self.before is None else min(time - self.before, SPAN)
        self.before = time

        # at rest for long enough
        if speed <= self.still:
            return self.end() if time - self.last > PAUSE - SLACK else None

        # what is slow belongs to a movement that is fast soon
        if self.start is None:
            self.start = time
        self.last = time
        if speed > FAST * self.still:
            self.start = self.start if self.moved else max(self.start, time - REACH)
            self.fast = time
            self.moved += step
        return None

    def end(self) -> tuple[float, float] | None:
        """End what goes on: the movement, if it is one."""
        ended = (self.start, min(self.last, self.fast + REACH)) if self.is_moving else None
        self.start = None
        self.moved = 0.0
        return ended


# ---------------------------------------------------------------------------------------------------------------------
# Another rate
# ---------------------------------------------------------------------------------------------------------------------

def at_rate(joints: np.ndarray, times: np.ndarray, rate: float) -> np.ndarray:
    """Joints (M, L, V, 3) at times (L,) as they are at `rate` frames per second.

    Of more frames the nearest are taken. Between fewer, a joint lies on the line between the frames that show it.
    """
    lasts = times[-1] - times[0]
    wanted = times[0] + np.arange(round(lasts * rate) + 1) / rate
    if len(times) == 1 or len(times) >= 0.9 * len(wanted):
        nearest = np.abs(times[:, None] - wanted).argmin(0)
        return joints[:, nearest]

    # each coordinate on its own line
    out = np.zeros((len(joints), len(wanted), *joints.shape[2:]), joints.dtype)
    seen = joints.any(3)
    for m, v in zip(*np.nonzero(seen.any(1)), strict=True):
        shown = seen[m, :, v]
        for axis in range(3):
            out[m, :, v, axis] = np.interp(wanted, times[shown], joints[m, shown, v, axis])
    return out
