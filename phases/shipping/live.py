"""Frames on standard input, one per line, become labels as soon as a network is sure: `just predict stream=true`."""
from __future__ import annotations

import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator

import numpy as np

from phases.recordings.metres import Recorded, as_joints, trunk_vector
from phases.shipping.exported import ExportedModel

STALL = 2.0  # seconds without a frame


def frame_of(line: str, counts: tuple[int, ...], model: ExportedModel) -> np.ndarray:
    """Joints (M, V, 3) of a line, V one of `counts`, M = 0 for a frame without a body.

    ValueError says what is wrong with the line.
    """
    allowed, own = " or ".join(map(str, counts)), len(model.skeleton["joints"])
    try:
        with np.errstate(over="ignore"):  # 1e300 becomes infinite, and is refused below
            x = np.asarray(json.loads(line), np.float32)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise ValueError(f"is no JSON list of {allowed} joints, [[x, y, z], ...]") from None
    x = x[None] if x.ndim == 2 else x
    if x.size == 0:
        return np.zeros((0, counts[0], 3), np.float32)
    if x.ndim != 3 or x.shape[1] not in counts or x.shape[2] not in (2, 3, 4):
        raise ValueError(f"has shape {x.shape[-2:] if x.ndim else x.shape}, must be {allowed} joints [x, y, z]")
    if not np.isfinite(x).all():
        raise ValueError("a coordinate is not finite; a missing joint is [0, 0, 0]")
    return as_joints(x[:, None], model.recorded if x.shape[1] == own else Recorded())[:, 0]


def frames(lines: Iterable[str], model: ExportedModel, skipped: Counter) -> Iterator[tuple[np.ndarray, bool]]:
    """(joints (M, V, 3), whether the frames had stalled before it) of each good line.

    The first body settles whose joints they are. A bad line is counted in `skipped` by what is wrong with it, and the
    first of each kind is said.
    """
    own, came = len(model.skeleton["joints"]), time.monotonic()
    counts = (own, *sorted({how["joints"] for how in model.retarget.values()} - {own}))
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            x = frame_of(line, counts, model)
        except ValueError as e:
            skipped[str(e)] += 1
            if skipped[str(e)] == 1:
                print(f"standard input, line {number}: {e}: skipped, and so is every such line", file=sys.stderr)
            continue
        counts = (x.shape[1],) if x.any() else counts
        before, came = came, time.monotonic()
        yield x, came - before > STALL


class Source:
    """The newest frames of a stream, and whose joints they are: the network's own, or of a skeleton to be turned."""

    def __init__(self, model: ExportedModel, window: int):
        self.model, self.kept, self.bodies = model, deque(maxlen=window), max(model.view["bodies"], 2)
        self.recorded = None  # of another skeleton: unit and axis, once a trunk has been seen

    def clip(self, x: np.ndarray) -> np.ndarray:
        """The newest frames with x (M, V, 3) as the last: (M, L, V, 3) in metres, M = 0 while no body was seen."""
        if self.kept and len(x) and x.shape[1] != self.kept[-1].shape[1]:
            self.kept.clear()  # empty frames, from before it was known whose joints come
        frame = np.zeros((self.bodies, *x.shape[1:]), np.float32)
        frame[:len(x)] = x[:self.bodies]
        self.kept.append(frame)
        clip = np.stack(self.kept, 1)  # m l v 3
        clip = clip[clip.any((1, 2, 3))]  # as in a store, the next body takes the place of one that is never seen
        other = self.model.other(clip.shape[2])
        if not len(clip) or other is None:
            return self.model.in_metres(clip) if len(clip) else clip
        recorded = self.recorded or self.model.measured(clip, other)
        if not self.recorded and np.isfinite(trunk_vector(clip[0], self.model.retarget[other]["trunk"])).all():
            self.recorded = recorded
            print(f"joints of {other} ({recorded.unit}, {recorded.up} up) are turned into the network's "
                  f"{self.model.skeleton['name']}", file=sys.stderr)
        return self.model.turn(clip, other, recorded)


def tell(number: int, label: str, p: float, form: str, sure: bool = True) -> None:
    """One line of a stream's answer."""
    if form == "json":
        print(json.dumps({"frame": number, "label": label, "probability": round(p, 6), "sure": sure}), flush=True)
    else:
        print(f"frame {number}: {label} ({100 * p:.0f} %)" if sure else
              f"frame {number}: not sure; {label} is likeliest ({100 * p:.0f} %)", flush=True)


def stream(model: ExportedModel, lines: Iterable[str], sure: float, hold: int, window: int, form: str = "text") -> None:
    """Print a label as soon as one class has led for `hold` frames with probability `sure`, then when another does.

    Bad lines are skipped. After STALL seconds without a frame the window starts anew: what the camera saw before is no
    part of what it sees now. Ctrl-C ends it, and the times are printed none the less.
    """
    source, leads = Source(model, window), deque(maxlen=hold)  # leading classes, -1 if unsure
    said, took, number, skipped = None, [], 0, Counter()
    try:
        for number, (x, stalled) in enumerate(frames(lines, model, skipped), 1):
            started = time.perf_counter()
            if stalled:
                source.kept.clear()
                leads.clear()
            clip = source.clip(x)
            if not len(clip):
                continue
            p = model(clip)
            leads.append(int(p.argmax()) if p.max() >= sure else -1)
            took.append(1000 * (time.perf_counter() - started))
            if len(leads) == hold and len(set(leads)) == 1 and leads[0] not in (-1, said):
                said = leads[0]
                tell(number, model.classes[said], float(p[said]), form)
        if took and said is None:
            tell(number, model.classes[int(p.argmax())], float(p.max()), form, sure=False)
    finally:
        lost = f"; {skipped.total()} lines were skipped" if skipped else ""
        if took:
            print(f"{number} frames, {np.median(took):.2f} ms each (median; 95 of 100 within "
                  f"{np.percentile(took, 95):.2f} ms){lost}", file=sys.stderr)
    if not took:
        raise ValueError(f"standard input: no frame with a body{lost}")
