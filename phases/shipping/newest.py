"""The newest frames of a recording or a stream, and clips of them in a network's joints. Needs numpy, no torch."""
from __future__ import annotations

import sys

import numpy as np

from phases.recordings.clips import main_bodies
from phases.recordings.described import BodyFrame, Described, has_score, without_score
from phases.recordings.json_clips import in_rows
from phases.recordings.landmarks import with_path
from phases.recordings.metres import Recorded, trunk_vector
from phases.recordings.scores import least_of_clip
from phases.recordings.tracked import rows_by_number
from phases.shipping.exported import ExportedModel
from phases.shipping.movements import SLACK

SETTLED = 15    # frames that show which of several skeletons with as many joints a recording's is


class Newest:
    """The newest frames of a recording, and clips of them in the network's joints.

    The frames are as recorded, of its own or another skeleton's joints; or `is_read`, as ExportedModel.read gives them.
    """

    def __init__(self, model: ExportedModel, is_read: bool = False):
        self.model = model
        self.is_read = is_read
        self.times: list[float] = []
        self.frames: list[BodyFrame] = []
        self.number = 0                         # frames with a body so far
        self.found = Described()                # what the format of the frames says
        self.source: str | None = None          # the skeleton, decided anew until it is SETTLED
        self.is_scored = False                  # whether the third number is a score
        self.recorded: Recorded | None = None   # unit and axis, once a trunk has been seen
        self.is_crowd = False                   # more bodies than the network sees, which is reported once

    def clear(self) -> None:
        self.times.clear()
        self.frames.clear()

    def add(self, time: float, frame: BodyFrame | np.ndarray) -> None:
        """One more frame, or its joints (M, V, 3) alone; M = 0 shows nobody."""
        if isinstance(frame, np.ndarray):
            frame = BodyFrame(frame)
        joints = frame.joints

        # empty frames from before the first body may have another number of joints
        if self.frames and len(joints) and joints.shape[1:] != self.frames[-1].joints.shape[1:]:
            self.clear()
        self.times.append(time)
        self.frames.append(frame)

        # a few frames may not show whose joints they are
        self.number += bool(joints.any())
        if joints.any() and self.number <= SETTLED and not self.is_read:
            self._settle(frame.found)

    def _settle(self, found: Described) -> None:
        """Decide whose joints the frames show, and whether the third number is a score."""
        people = seen_bodies(self._counted(self.frames))
        before = self.source, self.is_scored
        self.found = found
        self.source, _ = self.model.source_of(found, people)
        self.is_scored = found.recorded is None and has_score(people)
        if (self.source, self.is_scored) != before:
            self.recorded = None

    def _counted(self, frames: list[BodyFrame]) -> list[BodyFrame]:
        """Frames without the joints whose scores are low among those of these frames: see scores.py."""
        scores = [np.ravel(frame.scores) for frame in frames if frame.scores is not None]
        least = least_of_clip(np.concatenate(scores), self.model.recorded.min_score) if scores else 0
        return [without_low(frame, least) for frame in frames] if least else frames

    def forget(self, time: float) -> None:
        """Drop the frames from before a time."""
        count = int(np.searchsorted(self.times, time))
        del self.times[:count]
        del self.frames[:count]

    def between(self, first: float, last: float) -> tuple[np.ndarray, np.ndarray]:
        """(clip (M, L, V, 3) in metres, its times (L,)): the frames of a time; M = 0 if none of them shows a body."""
        low, high = np.searchsorted(self.times, (first, last + SLACK))
        times = np.array(self.times[low:high])

        # as in a store, the next body takes the place of one that is never seen
        clip = seen_bodies(self._counted(self.frames[low:high]))
        if self.is_scored:
            clip = without_score(clip, self.model.recorded.min_score)
        if len(clip) > 1:
            self.report_people(len(clip))
            clip = clip[main_bodies(clip)]
        if self.is_read or not len(clip):
            return clip, times
        return self.model.turned(clip, self.source, self.recorded or self._recorded(clip)), times

    def report_people(self, people: int) -> None:
        """Standard error, once: more people than the network sees."""
        bodies = self.model.view["bodies"]
        if people > bodies and not (self.is_crowd or self.is_read):
            self.is_crowd = True
            print(f"{people} people, the network sees {bodies}: the most active of each movement", file=sys.stderr)

    def _recorded(self, clip: np.ndarray) -> Recorded:
        """How a clip was recorded: unit and axis are those of the first frames with a trunk.

        Until a trunk is seen, every clip is guessed anew.
        """
        recorded = self.model.recorded_of(self.found, self.source, clip, self.is_scored)
        if not np.isfinite(trunk_vector(clip[0], self.model.trunk_in(self.source))).all():
            return recorded

        self.recorded = recorded
        if self.source != self.model.skeleton["name"]:
            print(self.model.turned_words(self.source, recorded, self.found), file=sys.stderr)
        self.model.report_depth("standard input", clip)
        return recorded


def without_low(frame: BodyFrame, least: float) -> BodyFrame:
    """A frame whose joints with a score below `least` are missing."""
    if frame.scores is None:
        return frame
    return frame._replace(joints=frame.joints * (frame.scores >= least)[..., None])


def seen_bodies(frames: list[BodyFrame]) -> np.ndarray:
    """(M, L, V, 3) the bodies of frames that are ever seen: by their numbers; else followed by their places; else in
    their order, or followed if their number varies.

    World landmarks get the path of those in the picture.
    """
    if not frames:
        return np.zeros((0, 0, 0, 3), np.float32)
    shown = [frame for frame in frames if len(frame.joints)]
    shape = frames[-1].joints.shape[1:]
    bodies = [list(frame.joints) for frame in frames]
    is_followed = any(frame.places is not None for frame in shown)

    if shown and all(frame.ids is not None for frame in shown):
        numbered = [list(zip(frame.ids or (), frame.joints, strict=False)) for frame in frames]
        clip = rows_by_number(numbered)
    elif is_followed:
        places = [list(frame.joints if frame.places is None else frame.places) for frame in frames]
        clip = in_rows(bodies, places, shown[-1].joints.shape[1:])
        if all(frame.has_path for frame in shown):
            clip = with_path(clip, in_rows(places, places, shown[-1].joints.shape[1:]))
    elif len({len(found) for found in bodies}) == 1:
        clip = np.stack([frame.joints for frame in frames], 1)
    else:
        clip = in_rows(bodies, bodies, shape)
    return clip[clip.any((1, 2, 3))]
