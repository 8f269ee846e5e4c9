"""Frames of a recording that is not cut -> its actions, each with start, end and label, while it goes on or at once.

    frames at their times -> speed of the fastest body -> movements -> a clip of each -> the network's answer

Whole movements are classified, from rest to rest, as training clips show them. What lasts much longer than a training
clip is classified window by window: an action that goes on is told once, one that follows without a rest by its own
windows. Needs numpy, no torch.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from phases.recordings.described import BodyFrame
from phases.shipping.exported import ExportedModel
from phases.shipping.movements import LONG, REACH, SLACK, SPAN, STILL, Tracker, at_rate, speed
from phases.shipping.newest import Newest

MARGIN = 0.2    # seconds before and after a movement that its clip shows as well
HOPS = 4        # windows to a window's length: a movement that is LONG is classified window by window
LIKELY = 0.5    # the least probability of the label of a movement that has ended
LOOK = 0.1      # seconds between two looks at a movement that goes on


# ---------------------------------------------------------------------------------------------------------------------
# Actions
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Event:
    """An action: seconds from `start` to `end`; None while it goes on. Not known: none of the network's classes."""
    start: float
    end: float | None
    label: str
    probability: float
    known: bool = True


@dataclass(frozen=True)
class Hearing:
    """When a label is told."""
    window: float           # seconds that training clips last
    sure: float = 0.8       # while an action goes on: the least probability of its label,
    hold: float = 0.2       # for so many seconds,
    needs: float = 0.5      # after this share of the window
    still: float = STILL    # metres per second: who is slower stands


@dataclass
class Look:
    """The answer to what was seen of a movement until `time`."""
    time: float
    label: str
    probability: float
    known: bool


class Windows:
    """The windows of a long movement, in the order of time -> its actions. One odd window does not end an action."""

    def __init__(self, start: float, hearing: Hearing, told: str | None):
        self.hearing = hearing
        self.next = start + hearing.window      # where the next window ends
        self.since = start                      # where the action began that goes on
        self.told = told                        # its label, if it has been told
        self.looks: list[Look] = []             # at it,
        self.odd: Look | None = None            # and one at something else

    @property
    def label(self) -> str | None:
        return label_of(self.looks[0]) if self.looks else None

    def add(self, look: Look) -> list[Event]:
        """The events that one more window brings about."""
        self.next += self.hearing.window / HOPS
        if not self.looks or label_of(look) == self.label:
            self.looks.append(look)
            self.odd = None
            return self._told()
        if self.odd is None:
            self.odd = look
            return []

        # the second one: another action began between the windows' middles
        change = (self.looks[-1].time + self.odd.time - self.hearing.window) / 2
        event = self.end(max(change, self.since))
        is_one = label_of(look) == label_of(self.odd)
        self.since = event.end
        self.told = None
        self.looks = [self.odd, look] if is_one else [replace(look, known=False)]
        self.odd = None
        return [event, *self._told()]

    def _told(self) -> list[Event]:
        """Tell the action that goes on, once it has two windows."""
        probability = mean_probability(self.looks)
        if self.label in (None, self.told) or len(self.looks) < 2 or probability < self.hearing.sure:
            return []
        self.told = self.label
        return [Event(self.since, None, self.told, probability)]

    def end(self, time: float) -> Event:
        """The action that went on until a time."""
        is_known = self.label is not None and len(self.looks) > 1
        return Event(self.since, time, self.looks[-1].label, mean_probability(self.looks), is_known)


def label_of(look: Look) -> str | None:
    """The label of a look; None if it shows none of the classes, or is not likely to."""
    return look.label if look.known and look.probability >= LIKELY else None


def mean_probability(looks: list[Look]) -> float:
    return float(np.mean([look.probability for look in looks]))


class Listener:
    """Frames in the order of their times -> events, as soon as they are known.

    With `early`, an action is told once while it goes on, as soon as it is sure; every action when it has ended.
    """

    def __init__(self, model: ExportedModel, hearing: Hearing, early: bool = True, is_read: bool = False):
        self.model = model
        self.hearing = hearing
        self.early = early
        self.newest = Newest(model, is_read)
        self.tracker = Tracker(hearing.still)
        self.judged = -np.inf                   # the time of the newest frame whose speed is known
        self.next_movement()

    def next_movement(self) -> None:
        """Nothing has been heard of the movement that comes next."""
        self.looked = -np.inf                   # when the newest look at all of it was
        self.leader: str | None = None          # the label that leads, if one is sure,
        self.leads = 0.0                        # since when
        self.told: str | None = None            # the label that was told while it went on
        self.windows: Windows | None = None     # of a long one

    def add(self, time: float, frame: BodyFrame | np.ndarray) -> list[Event]:
        """The events that a frame, or its joints (M, V, 3) alone, completes."""
        self.newest.add(time, frame)
        events = self._moved(time - SPAN)

        # what goes on
        tracker = self.tracker
        if tracker.is_moving and tracker.last - tracker.start > LONG * self.hearing.window:
            events += self._window_by_window(tracker.last)
        elif tracker.is_moving and self.early:
            events += self._look(time)

        # frames that no clip will show
        keep = time - SPAN - REACH
        if tracker.moved:
            keep = tracker.start if self.windows is None else self.windows.next - self.hearing.window
        self.newest.forget(min(keep, time - SPAN) - SPAN - MARGIN)
        return events

    def end(self) -> list[Event]:
        """The input has ended, or is interrupted: the events that were going on. What follows is another scene."""
        events = self._moved(np.inf)
        ended = self.tracker.end()
        events += self._finished(*ended) if ended else []

        self.newest.clear()
        self.tracker = Tracker(self.hearing.still)
        self.next_movement()
        return events

    # --- movements ---------------------------------------------------------------------------------------------------

    def _moved(self, until: float) -> list[Event]:
        """Follow the speeds of frames until a time, and finish the movements that end there."""
        times = np.array(self.newest.times)
        pending = times[(times > self.judged) & (times <= until + SLACK)]
        if not len(pending):
            return []
        self.judged = pending[-1]

        # the frames around them
        clip, around = self.newest.between(pending[0] - 2 * SPAN, times[-1])
        events = []
        for i in np.flatnonzero((around >= pending[0]) & (around <= pending[-1])):
            now = speed(clip, around, i, self.model.trunk) if len(clip) else 0.0
            ended = self.tracker.add(float(around[i]), now)
            events += self._finished(*ended) if ended else []
        return events

    def _finished(self, start: float, end: float) -> list[Event]:
        """The events of a movement that has ended."""
        if self.windows is not None:
            events = self._window_by_window(end)
            events.append(self.windows.end(end))
        else:
            look = self._seen(start, end, end + MARGIN)
            events = [Event(start, end, look.label, look.probability, label_of(look) is not None)]
        self.next_movement()
        return events

    def _seen(self, start: float, time: float, last: float) -> Look:
        """The network's answer to the frames from shortly before `start` to `last`."""
        clip, times = self.newest.between(start - MARGIN, last)
        if not len(clip):
            return Look(time, self.model.classes[0], 0.0, False)
        answer = self.model.answer(at_rate(clip, times, self.model.fps))
        k = int(answer.probabilities.argmax())
        return Look(time, self.model.classes[k], float(answer.probabilities[k]), self.model.is_known(answer))

    # --- while it goes on --------------------------------------------------------------------------------------------

    def _look(self, time: float) -> list[Event]:
        """Tell the label of a movement that goes on, once it has led for long enough."""
        hearing = self.hearing
        start = self.tracker.start
        is_early = time - start < hearing.needs * hearing.window - hearing.hold - SLACK
        if self.told or is_early or time - self.looked < LOOK - SLACK:
            return []

        # what it looks like so far
        self.looked = time
        look = self._seen(start, time, time)
        label = label_of(look) if look.probability >= hearing.sure else None
        if label != self.leader:
            self.leader = label
            self.leads = time

        # it leads for long enough
        if label is None or time - self.leads < hearing.hold - SLACK:
            return []
        self.told = label
        return [Event(start, None, label, look.probability)]

    def _window_by_window(self, until: float) -> list[Event]:
        """The events of a long movement's windows that end before a time."""
        if self.windows is None:
            self.windows = Windows(self.tracker.start, self.hearing, self.told)

        events = []
        while self.windows.next <= until + SLACK:
            time = self.windows.next
            events += self.windows.add(self._seen(time - self.hearing.window + MARGIN, time, time))
        return [event for event in events if self.early or event.end is not None]


def events_of(model: ExportedModel, joints: np.ndarray, fps: float, hearing: Hearing) -> list[Event]:
    """All movements of a recording (M, L, V, 3), as ExportedModel.read gives it, at a rate."""
    listener = Listener(model, hearing, early=False, is_read=True)
    events = []
    for number, frame in enumerate(joints.swapaxes(0, 1)):
        events += listener.add(number / fps, frame)
    return events + listener.end()
