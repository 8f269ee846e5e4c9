"""Frames on standard input, one per line, become actions with start and end: `just predict stream=true`."""
from __future__ import annotations

import itertools
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from phases.common.limits import FARTHEST
from phases.common.wording import counted
from phases.recordings.described import BodyFrame, Described
from phases.recordings.frame_lines import WHOLE, FrameLines, NoFrameError
from phases.recordings.metres import as_joints, missing_as_zeros
from phases.recordings.scores import scores_in
from phases.shipping.answers import as_dict
from phases.shipping.events import Event, Hearing, Listener
from phases.shipping.exported import ExportedModel

STALL = 2.0  # seconds without a frame


# ---------------------------------------------------------------------------------------------------------------------
# Lines -> frames
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Frame:
    """Bodies of good lines at a time in seconds, and whether no frame came for STALL seconds before it."""
    time: float
    bodies: BodyFrame
    stalled: bool


def checked(frame: BodyFrame, counts: tuple[int, ...], model: ExportedModel) -> BodyFrame:
    """A frame with joints (M, V, 3), V one of `counts`; ValueError if it is of no skeleton that the model takes."""
    x = frame.joints
    if not x.size:
        return frame._replace(joints=np.zeros((0, counts[0], 3), np.float32), ids=None, places=None)
    if x.ndim == 4:
        raise ValueError(WHOLE)
    allowed = " or ".join(map(str, counts))
    if x.ndim != 3 or x.shape[2] not in (2, 3, 4):
        raise ValueError(f"has shape {x.shape[-2:] if x.ndim else x.shape}, must be {allowed} joints [x, y, z]")

    # a format may name the skeleton; else the number of joints does
    found = frame.found
    if len(counts) > 1 and (found.skeleton or found.key_points):
        model.source_of(found, x[:, None])
    elif x.shape[1] not in counts:
        raise ValueError(f"has shape {x.shape[-2:]}, must be {allowed} joints [x, y, z]")
    if (np.abs(x) > FARTHEST).any():
        raise ValueError("a coordinate is not finite, or too large; a missing joint is [0, 0, 0] or null")

    # the network's own joints are recorded as its training clips were
    is_own = x.shape[1] == len(model.skeleton["joints"]) and found == Described()
    recorded = model.recorded if is_own else replace(model.recorded, channels="xyz")
    places = None if frame.places is None else missing_as_zeros(frame.places)[..., :3]
    return frame._replace(joints=as_joints(x[:, None], recorded)[:, 0], places=places,
                          scores=scores_in(x, recorded.channels))


class Clock:
    """The times of the lines of a stream: their stamps, or else their number at a rate, and the pauses between them."""

    def __init__(self, fps: float):
        self.fps = fps
        self.arrived = time.monotonic()     # when the newest frame did
        self.stamped: bool | None = None    # whether lines have stamps, once the first has told
        self.newest = -math.inf             # the time of the newest frame
        self.lines = 0                      # without a stamp, since `start`
        self.start = 0.0

    def tell(self, stamp: float | None) -> tuple[float, bool]:
        """(time of a frame, whether none came for STALL seconds before it); ValueError if its stamp is no later."""
        if self.stamped not in (None, stamp is not None):
            raise ValueError("has no time stamp, the lines before it have" if stamp is None
                             else "has a time stamp, the lines before it have none")
        if stamp is not None and stamp <= self.newest:
            raise ValueError("its time stamp is not later than the one before")
        paused = time.monotonic() - self.arrived
        self.arrived += paused
        is_first = self.stamped is None
        self.stamped = stamp is not None

        # lines without stamps come at the rate, but for a stall
        if stamp is not None:
            stalled = not is_first and stamp - self.newest > STALL
            self.newest = stamp
        else:
            stalled = paused > STALL
            if stalled and not is_first:
                self.start = self.newest + paused
                self.lines = 0
            self.newest = self.start + self.lines / self.fps
            self.lines += 1
        return self.newest, stalled


def read_frames(lines: Iterable[str], model: ExportedModel, fps: float, skipped: Counter) -> Iterator[Frame]:
    """The frames of good lines.

    The first body settles the skeleton. A bad line is counted in `skipped` by its fault; the first line with each fault
    is reported.
    """
    # at first, joints of any skeleton that the network understands
    own = len(model.skeleton["joints"])
    counts = (own, *sorted({how["joints"] for how in model.retarget.values()} - {own}))
    clock = Clock(fps)
    reader = FrameLines(model.skeleton["joints"])
    told = 0  # of its notes

    for number, line in enumerate(itertools.chain(lines, [None]), 1):
        if line is not None and not line.strip():
            continue

        # a bad line took its time, too; after the last one, what awaits another line
        try:
            found = reader.end() if line is None else reader.add(line)
            found = [checked(frame, counts, model) for frame in found]
            times = [clock.tell(frame.stamp) for frame in found]
        except ValueError as e:
            clock.lines += 1
            allowed = " or ".join(map(str, counts))
            fault = str(e) if not isinstance(e, NoFrameError) else (
                f"is no JSON list of {allowed} joints, [[x, y, z], ...], nor {{\"t\": seconds, \"joints\": [...]}}, "
                "nor a frame of a known format")
            skipped[fault] += 1
            if skipped[fault] == 1:
                print(f"standard input, line {number}: {fault}: skipped, and so is every such line", file=sys.stderr)
            continue

        # good ones
        for note in reader.notes[told:]:
            print(f"standard input: {note}", file=sys.stderr)
        told = len(reader.notes)
        for frame, (moment, stalled) in zip(found, times, strict=True):
            if frame.joints.any():
                counts = (frame.joints.shape[1],)
            yield Frame(moment, frame, stalled)


# ---------------------------------------------------------------------------------------------------------------------
# Frames -> actions
# ---------------------------------------------------------------------------------------------------------------------

class Teller:
    """Prints events, a line each. A line that ends an action corrects one that named it otherwise while it went on."""

    def __init__(self, form: str):
        self.form = form
        self.told: str | None = None    # the label of the action that goes on

    def tell(self, events: list[Event]) -> None:
        for event in events:
            line = json.dumps(as_dict(event)) if self.form == "json" else self.as_text(event)
            self.told = event.label if event.end is None else None
            if line:
                print(line, flush=True)

    def as_text(self, event: Event) -> str | None:
        """None for a movement that is none of the network's classes, unless it was told as one."""
        sure = f"({100 * event.probability:.0f} %)"
        if event.end is None:
            return f"{event.start:.1f} s: {event.label} {sure}"
        when = f"{event.start:.1f} to {event.end:.1f} s"
        if not event.known:
            return f"{when}: none of these, not {self.told}" if self.told else None
        return f"{when}: {event.label} {sure}" + (f", not {self.told}" if self.told not in (None, event.label) else "")


def stream(model: ExportedModel, lines: Iterable[str], fps: float, hearing: Hearing, form: str = "text") -> None:
    """Print a line as soon as an action is sure, and one with start and end when it has ended.

    Bad lines are skipped. After STALL seconds without a frame what went on has ended: later frames show another scene.
    Ctrl-C ends the stream; the times are printed all the same. ValueError if no frame has a body.
    """
    listener = Listener(model, hearing)
    teller = Teller(form)
    skipped = Counter()
    times = []  # milliseconds
    shown = False

    try:
        for frame in read_frames(lines, model, fps, skipped):
            started = time.perf_counter()
            shown = shown or bool(frame.bodies.joints.any())
            if frame.stalled:
                teller.tell(listener.end())
            teller.tell(listener.add(frame.time, frame.bodies))
            times.append(1000 * (time.perf_counter() - started))

        # what goes on at the end
        teller.tell(listener.end())
    finally:
        lines_lost = counted(skipped.total(), "line")
        lost = f"; {lines_lost} {'was' if skipped.total() == 1 else 'were'} skipped" if skipped else ""
        if shown and times:
            print(f"{counted(len(times), 'frame')}, {np.median(times):.2f} ms each (median; 95 of 100 within "
                  f"{np.percentile(times, 95):.2f} ms){lost}", file=sys.stderr)
    if not shown:
        raise ValueError(f"standard input: no frame with a body{lost}")
