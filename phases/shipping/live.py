"""Frames on standard input, one per line, become labels as soon as a network is sure: `just predict stream=true`."""
from __future__ import annotations

import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator

import numpy as np

from phases.common.limits import FARTHEST
from phases.recordings.clips import main_two
from phases.recordings.described import has_score, without_score
from phases.recordings.json_clips import full_array, in_rows, nesting
from phases.recordings.metres import Recorded, as_joints, trunk_vector
from phases.shipping.exported import ExportedModel

STALL = 2.0  # seconds without a frame
UNSURE = -1  # in place of a class
SETTLED = 15  # frames that show which of several skeletons with as many joints a stream's is


# ---------------------------------------------------------------------------------------------------------------------
# Lines -> frames
# ---------------------------------------------------------------------------------------------------------------------

def frame_of(line: str, counts: tuple[int, ...], model: ExportedModel) -> np.ndarray:
    """Joints (M, V, 3) of a line, V one of `counts`; M = 0 for a frame without a body. ValueError for a bad line.

    null and NaN mean that a joint, a body or the frame is missing.
    """
    allowed = " or ".join(map(str, counts))
    try:
        with np.errstate(over="ignore"):  # 1e300 becomes infinite, and is refused below
            value = json.loads(line)
            x = None if isinstance(value, dict) else full_array(value, nesting(value)[0])
        if x is None:
            raise ValueError
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise ValueError(f"is no JSON list of {allowed} joints, [[x, y, z], ...]") from None

    # nobody, one body or several
    if np.isnan(x).all():
        return np.zeros((0, counts[0], 3), np.float32)
    if x.ndim == 2:
        x = x[None]
    if x.ndim != 3 or x.shape[1] not in counts or x.shape[2] not in (2, 3, 4):
        raise ValueError(f"has shape {x.shape[-2:] if x.ndim else x.shape}, must be {allowed} joints [x, y, z]")
    if (np.abs(x) > FARTHEST).any():
        raise ValueError("a coordinate is not finite, or too large; a missing joint is [0, 0, 0] or null")

    # the network's own joints are recorded as its training clips were
    is_own = x.shape[1] == len(model.skeleton["joints"])
    return as_joints(x[:, None], model.recorded if is_own else Recorded())[:, 0]


def read_frames(lines: Iterable[str], model: ExportedModel, skipped: Counter) -> Iterator[tuple[np.ndarray, bool]]:
    """(joints (M, V, 3), whether the frames had stalled before it) of each good line.

    The first body settles the skeleton. A bad line is counted in `skipped` by its fault; the first line with each fault
    is reported.
    """
    # at first, joints of any skeleton that the network understands
    own = len(model.skeleton["joints"])
    counts = (own, *sorted({how["joints"] for how in model.retarget.values()} - {own}))
    arrived = time.monotonic()

    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue

        # a bad line
        try:
            joints = frame_of(line, counts, model)
        except ValueError as e:
            fault = str(e)
            skipped[fault] += 1
            if skipped[fault] == 1:
                print(f"standard input, line {number}: {fault}: skipped, and so is every such line", file=sys.stderr)
            continue

        # a good one
        if joints.any():
            counts = (joints.shape[1],)
        before = arrived
        arrived = time.monotonic()
        yield joints, arrived - before > STALL


# ---------------------------------------------------------------------------------------------------------------------
# Frames -> clips
# ---------------------------------------------------------------------------------------------------------------------

class Window:
    """The newest frames of a stream as a clip of the network's joints, from its own or another skeleton's."""

    def __init__(self, model: ExportedModel, length: int):
        self.model = model
        self.frames = deque(maxlen=length)      # (M, V, 3), M of each frame
        self.number = 0                         # frames with a body so far
        self.source: str | None = None          # another skeleton, guessed anew until it is SETTLED
        self.recorded: Recorded | None = None   # of that one: unit and axis, once a trunk has been seen
        self.is_crowd = False                   # more bodies than the network sees, which is reported once

    def clear(self) -> None:
        self.frames.clear()

    def add(self, joints: np.ndarray) -> np.ndarray:
        """The clip (M, L, V, 3) in metres whose last frame is `joints` (M, V, 3); M = 0 while no body was seen."""
        # empty frames from before the first body may have another number of joints
        if self.frames and len(joints) and joints.shape[1] != self.frames[-1].shape[1]:
            self.frames.clear()
        self.frames.append(joints)

        # as in a store, the next body takes the place of one that is never seen
        clip = self.bodies()  # m l v 3
        clip = clip[clip.any((1, 2, 3))]
        if not len(clip):
            return clip
        self.report_people(len(clip))
        clip = main_two(clip)

        # another skeleton's joints; a few frames may not show whose
        self.number += 1
        if self.number <= SETTLED:
            before = self.source
            self.source = self.model.other_skeleton(clip)
            self.recorded = self.recorded if self.source == before else None
        if self.source is None:
            return self.model.in_metres(clip)
        return self.from_skeleton(without_score(clip) if has_score(clip) else clip, self.source)

    def report_people(self, people: int) -> None:
        """Standard error, once: more people than the network sees."""
        bodies = self.model.view["bodies"]
        if people > bodies and not self.is_crowd:
            self.is_crowd = True
            print(f"{people} people, the network sees {bodies}: the most active of each window", file=sys.stderr)

    def bodies(self) -> np.ndarray:
        """(M, L, V, 3) of the frames: bodies in the order of their lines, or followed if their number varies."""
        if len({len(frame) for frame in self.frames}) == 1:
            return np.stack(self.frames, 1)

        # as in a file of such frames; most often there is at most one body
        found = [list(frame) for frame in self.frames]
        return in_rows(found, found, self.frames[-1].shape[1:])

    def from_skeleton(self, clip: np.ndarray, source: str) -> np.ndarray:
        """A clip of another skeleton as the network's; its unit and axis are those of the first frames with a trunk."""
        recorded = self.recorded

        # until a trunk is seen, every clip is guessed anew
        if recorded is None:
            recorded = self.model.guess_recorded(clip, source)
            trunk = trunk_vector(clip[0], self.model.retarget[source]["trunk"])
            if np.isfinite(trunk).all():
                self.recorded = recorded
                print(f"joints of {source} ({recorded.unit}, {recorded.up} up) are turned into the network's "
                      f"{self.model.skeleton['name']}", file=sys.stderr)

        return self.model.from_skeleton(clip, source, recorded)


# ---------------------------------------------------------------------------------------------------------------------
# Clips -> labels
# ---------------------------------------------------------------------------------------------------------------------

def print_label(frame: int, label: str, p: float, form: str, sure: bool = True) -> None:
    """One line of a stream's answer."""
    if form == "json":
        line = json.dumps({"frame": frame, "label": label, "probability": round(p, 6), "sure": sure})
    elif sure:
        line = f"frame {frame}: {label} ({100 * p:.0f} %)"
    else:
        line = f"frame {frame}: not sure; {label} is likeliest ({100 * p:.0f} %)"
    print(line, flush=True)


def stream(model: ExportedModel, lines: Iterable[str], sure: float, hold: int, window: int, form: str = "text") -> None:
    """Print a label as soon as one class has led for `hold` frames with probability `sure`, then when another does.

    Bad lines are skipped. After STALL seconds without a frame the window is emptied: earlier frames show another scene.
    Ctrl-C ends the stream; the times are printed all the same. ValueError if no frame has a body.
    """
    newest = Window(model, window)
    leads = deque(maxlen=hold)  # the leading classes of the newest frames
    printed = None  # the last class that was
    skipped = Counter()
    times = []  # milliseconds
    number = 0

    # a label when one is sure, at the end the likeliest
    try:
        for number, (joints, stalled) in enumerate(read_frames(lines, model, skipped), 1):
            started = time.perf_counter()
            if stalled:
                newest.clear()
                leads.clear()

            # the class that leads in the newest frames
            clip = newest.add(joints)
            if not len(clip):
                continue
            p = model(clip)
            leads.append(int(p.argmax()) if p.max() >= sure else UNSURE)
            times.append(1000 * (time.perf_counter() - started))

            # it has led for long enough, and is news
            if len(leads) == hold and len(set(leads)) == 1 and leads[0] not in (UNSURE, printed):
                printed = leads[0]
                print_label(number, model.classes[printed], float(p[printed]), form)

        if times and printed is None:
            print_label(number, model.classes[int(p.argmax())], float(p.max()), form, sure=False)
    finally:
        lost = f"; {skipped.total()} lines were skipped" if skipped else ""
        if times:
            print(f"{number} frames, {np.median(times):.2f} ms each (median; 95 of 100 within "
                  f"{np.percentile(times, 95):.2f} ms){lost}", file=sys.stderr)
    if not times:
        raise ValueError(f"standard input: no frame with a body{lost}")
