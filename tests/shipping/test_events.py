"""Events of a recording that is not cut: what is told, when, and that a stream and a file agree."""
import numpy as np
import pytest

from phases.shipping.events import HOPS, Event, Hearing, Listener, Look, Windows, events_of
from phases.shipping.exported import Answer
from phases.shipping.movements import LONG
from skeletons import SKELETONS
from tests.helpers.untrimmed import TRUNK, person

HEARING = Hearing(window=2.0)
RATES = (10, 15, 30, 60)


class Stub:
    """What stands for a model: `answers` is called with each clip, and gives a label and a probability."""

    def __init__(self, answer=lambda clip: ("wave", 0.9), known=lambda clip: True):
        self.classes = ["wave", "clap", "walk"]
        self.fps = 30.0
        self.trunk = TRUNK
        self.skeleton = {"joints": SKELETONS["ntu25"].joints, "name": "ntu25"}
        self.view = {"bodies": 1}
        self.naming = answer
        self.knowing = known
        self.seen = []

    def answer(self, clip: np.ndarray) -> Answer:
        self.seen.append(clip)
        label, p = self.naming(clip)
        probabilities = np.full(3, (1 - p) / 2)
        probabilities[self.classes.index(label)] = p
        return Answer(probabilities, clip, 1.0)

    def is_known(self, answer: Answer) -> bool:
        return self.knowing(answer.features)


def told(model: Stub, joints: np.ndarray, times: np.ndarray, hearing: Hearing = HEARING) -> list[tuple[float, Event]]:
    """(when, event) of a stream."""
    listener = Listener(model, hearing, is_read=True)
    found = []
    for time, frame in zip(times, joints.swapaxes(0, 1), strict=True):
        found += [(time, event) for event in listener.add(float(time), frame)]
    return found + [(times[-1], event) for event in listener.end()]


# ---------------------------------------------------------------------------------------------------------------------
# What is told, and when
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("fps", RATES)
def test_an_action_is_told_when_sure_and_when_it_ends(fps):
    (early, first), (late, last) = told(Stub(), *person(8, fps, [(2, 4)]))
    assert first.end is None and first.label == last.label == "wave" and first.start == last.start
    assert abs(last.start - 2) < 0.4 and abs(last.end - 4) < 0.4 and last.known
    assert 1 <= early - first.start < 1.4, "half of the window, and not much later"
    assert 0.8 < late - last.end < 1.4, "after a rest"


def test_people_who_stand_are_not_looked_at():
    model = Stub()
    assert told(model, *person(10, 30, noise=0.02)) == [] and model.seen == []


def test_a_repeated_action_is_told_again():
    events = [event for _, event in told(Stub(), *person(14, 30, [(1, 3), (4.5, 6.5), (8, 10), (11.5, 13.5)]))]
    assert [event.end is None for event in events] == [True, False] * 4
    assert [event.start for event in events if event.end] == pytest.approx([1, 4.5, 8, 11.5], abs=0.4)


@pytest.mark.parametrize("hearing, early", [
    (Hearing(2.0, needs=0.2), 1), (Hearing(2.0, needs=1), 0), (Hearing(2.0, sure=0.95), 0), (Hearing(2.0, hold=2), 0),
    (Hearing(2.0, hold=0), 1), (Hearing(0.5), 1)])
def test_it_speaks_early_only_when_it_may(hearing, early):
    found = [event for _, event in told(Stub(), *person(6, 15, [(1, 2)]), hearing)]
    assert sum(event.end is None for event in found) == early and sum(event.end is not None for event in found) == 1


def test_a_share_of_the_window_is_seen_before_it_speaks():
    x, times = person(6, 30, [(1, 3)])
    for needs in (0.3, 0.5, 0.8):
        when, event = told(Stub(), x, times, Hearing(2.0, needs=needs))[0]
        assert event.end is None and 2 * needs - 1e-3 < when - event.start < 2 * needs + 0.2


def test_a_label_that_changes_is_not_told_early():
    labels = iter(["wave", "clap"] * 99)
    events = [event for _, event in told(Stub(lambda clip: (next(labels), 0.99)), *person(6, 30, [(1, 3)]))]
    assert [event.end is None for event in events] == [False]


def test_what_is_none_of_the_classes_is_not_known():
    for model in (Stub(known=lambda clip: False), Stub(lambda clip: ("wave", 0.4))):
        (_, event), = told(model, *person(6, 30, [(1, 3)]))
        assert not event.known and event.label == "wave" and event.end


def test_an_action_that_goes_on_when_the_input_ends_is_told():
    x, times = person(6, 30, [(1, 3)])
    *_, (_, last) = told(Stub(), x[:, :80], times[:80])
    assert last.end == pytest.approx(times[79], abs=0.2)


# ---------------------------------------------------------------------------------------------------------------------
# What the network sees
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("fps", RATES)
def test_the_network_sees_the_whole_movement_at_its_own_rate(fps):
    model = Stub()
    event, = events_of(model, person(8, fps, [(2, 4)])[0], fps, HEARING)
    clip, = model.seen
    assert clip.shape[1] == pytest.approx(30 * (event.end - event.start + 0.4), abs=4)
    assert np.ptp(clip[0, :, 6, 1]) > 0.45, "the whole way of the arm"


def test_of_several_people_the_network_sees_who_moves():
    still, times = person(8, 30)
    moving, _ = person(8, 30, [(2, 4)])
    model = Stub()
    told(model, np.concatenate([still, still + [1, 0, 0], moving + [2, 0, 0]]).astype(np.float32), times)
    assert model.seen and all(clip[0, 0, 0, 0] > 1.5 for clip in model.seen)


@pytest.mark.parametrize("fps", [10, 30])
def test_a_recording_and_a_stream_have_the_same_events(fps):
    x, times = person(30, fps, [(1, 3), (5, 6.5), *((k, k + 1) for k in range(8, 20)), (23, 25)])
    ended = [event for _, event in told(Stub(), x, times) if event.end is not None]
    assert events_of(Stub(), x, fps, HEARING) == ended and len(ended) == 4


def test_another_scene_begins_anew():
    x, times = person(3, 30, [(0.5, 2)])
    listener = Listener(Stub(), HEARING, is_read=True)
    for start in (0, 100):
        found = []
        for time, frame in zip(times + start, x.swapaxes(0, 1), strict=True):
            found += listener.add(float(time), frame)
        found += listener.end()
        assert found[-1].start == pytest.approx(start + 0.5, abs=0.4) and listener.newest.times == []


# ---------------------------------------------------------------------------------------------------------------------
# Long movements
# ---------------------------------------------------------------------------------------------------------------------

def waving(seconds: float, fps: float = 15) -> tuple[np.ndarray, np.ndarray]:
    """Somebody moves an arm up and down from second 2 on."""
    return person(seconds + 4, fps, [(2 + k, 3 + k) for k in range(int(seconds))])


def test_an_action_that_goes_on_is_told_once_and_its_frames_dropped():
    x, times = waving(60)
    listener = Listener(Stub(), HEARING, is_read=True)
    found = []
    most = 0
    for time, frame in zip(times, x.swapaxes(0, 1), strict=True):
        found += listener.add(float(time), frame)
        most = max(most, len(listener.newest.frames))
    found += listener.end()
    assert [event.end is None for event in found] == [True, False]
    assert found[-1].start == pytest.approx(2, abs=0.4) and found[-1].end == pytest.approx(62, abs=0.4)
    assert most < 15 * (LONG + 1) * HEARING.window


def test_an_action_that_follows_without_a_rest_is_told():
    x, times = waving(20)
    x[0, :, 0] = times[:, None]     # the first joint of a frame tells its time
    model = Stub(lambda clip: ("wave" if np.median(clip[0, :, 0, 0]) < 12 else "clap", 0.9))
    events = [event for _, event in told(model, x, times)]
    assert [(event.label, event.end is None) for event in events] == [
        ("wave", True), ("wave", False), ("clap", True), ("clap", False)]
    assert events[1].end == events[3].start == pytest.approx(12, abs=0.5)


def look(time: float, label: str, p: float = 0.9) -> Look:
    return Look(time, label, p, True)


@pytest.mark.parametrize("labels, want", [
    ("wwwww", ["w"]), ("wwcww", ["w"]), ("wwwcc", ["w", "c"]), ("wwwwc", ["w"]), ("wwcdcc", ["w", "?", "c"]),
    ("wwccww", ["w", "c", "w"]), ("w", ["?"])])
def test_windows_become_actions(labels, want):
    windows = Windows(0.0, HEARING, None)
    found = []
    for i, label in enumerate(labels):
        found += windows.add(look(2 + i * 2 / HOPS, label))
    found.append(windows.end(2 + len(labels) * 2 / HOPS))
    ended = [event for event in found if event.end is not None]
    assert [event.label if event.known else "?" for event in ended] == want
    assert all(a.end == b.start for a, b in zip(ended, ended[1:], strict=False)) and ended[0].start == 0


