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
LONG = 2.0      # lengths of a training clip: what lasts longer is more than one action
SIZES = (0.3, 2.0)  # of an adult: a body is taken to have no other


# ---------------------------------------------------------------------------------------------------------------------
# Speed
# ---------------------------------------------------------------------------------------------------------------------

def speed(joints: np.ndarray, times: np.ndarray, i: int, trunk: list[int] | None) -> float:
    """The speed of the fastest body of joints (M, L, V, 3) in frame i of those at times (L,); `trunk`: see body_size.

    A body's speed is that of its second fastest joint: one that the camera misjudges is no movement. A joint counts
    where frames on both sides show it.
    """
    first = min(int(np.searchsorted(times, times[i] - SPAN - SLACK)), max(i - 1, 0))
    end = max(int(np.searchsorted(times, times[i] + SPAN - SLACK)), i + 1)
    if first == i:
        return 0.0  # the first frame

    # with a frame more on both sides, for the spikes
    low = max(first - 1, 0)
    seen = joints[:, low:end + 1].any(3)  # m l v
    calm = without_spikes(joints[:, low:end + 1], seen)
    before, was_seen = mean_places(calm[:, first - low:i - low], seen[:, first - low:i - low])
    after, is_seen = mean_places(calm[:, i - low:end - low], seen[:, i - low:end - low])

    # at an end there are fewer frames, whose mean is noisier
    way = np.linalg.norm(after - before, axis=2) * (was_seen & is_seen)  # m v
    second = np.sort(way, axis=1)[:, -min(2, way.shape[1])].max()
    apart = times[i:end].mean() - times[first:i].mean()
    return float(second / max(apart, SPAN) / size_of(joints, trunk))


def without_spikes(joints: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Joints (M, L, V, 3), each coordinate as the middle one of three frames that all show the joint.

    gaps.spikes finds what is a spike, for networks, with the whole clip and in torch. This one is for speeds: in numpy,
    which is all that `just predict` loads, and of few frames at a time, where a wrong guess costs little.
    """
    if joints.shape[1] < 3:
        return joints
    before, now, after = joints[:, :-2], joints[:, 1:-1], joints[:, 2:]
    middle = np.maximum(np.minimum(before, now), np.minimum(np.maximum(before, now), after))

    out = joints.copy()
    is_whole = seen[:, :-2] & seen[:, 1:-1] & seen[:, 2:]
    out[:, 1:-1] = np.where(is_whole[..., None], middle, now)
    return out


def mean_places(joints: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(places (M, V, 3), whether there is one (M, V)): means over the frames of joints (M, L, V, 3) that show them."""
    count = seen.sum(1)  # m v
    return joints.sum(1) / np.maximum(count, 1)[..., None], count > 0


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


def moves(joints: np.ndarray, fps: float, trunk: list[int] | None) -> bool:
    """Whether anybody in joints (M, L, V, 3) ever moves faster than people who stand."""
    times = np.arange(joints.shape[1]) / fps
    return any(speed(joints, times, i, trunk) > STILL for i in range(len(times)))


# ---------------------------------------------------------------------------------------------------------------------
# Another rate
# ---------------------------------------------------------------------------------------------------------------------

def at_rate(joints: np.ndarray, times: np.ndarray, rate: float) -> np.ndarray:
    """Joints (M, L, V, 3) at times (L,) as they are at `rate` frames per second.

    Of more frames the nearest are taken. Between fewer, a joint lies on the line between the frames that show it.
    """
    lasts = times[-1] - times[0]
    wanted = times[0] + np.arange(int(lasts * rate + SLACK) + 1) / rate
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
