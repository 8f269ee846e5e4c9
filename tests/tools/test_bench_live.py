"""The benchmark of events: its recordings, and how it counts."""
import numpy as np
import pytest

from phases.shipping.events import Event
from phases.training.clip_store import ClipStore
from tests.helpers.clip_stores import write_store
from tests.helpers.untrimmed import BLEND, PAUSES, Action, at_fps, clip_of, f1, recordings, score

CLASSES = ["wave", "clap"]
ACTIONS = [Action(1, 3, 0), Action(5, 6, 1), Action(8, 9, None), Action(11, 13, 0)]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ClipStore:
    return ClipStore(write_store(tmp_path_factory.mktemp("live") / "store", clips=24, bodies=1))


@pytest.mark.parametrize("events, want", [
    ([Event(1, 3, "wave", 1), Event(5.4, 6.4, "clap", 1), Event(11, 13, "wave", 1)], {"right": 3, "missed": 0}),
    ([Event(1, 3, "wave", 1), Event(1, 3, "wave", 1)], {"right": 1, "late": 1, "missed": 2}),
    ([Event(1, 3.6, "wave", 1)], {"late": 1, "missed": 3}),
    ([Event(0.4, 3, "wave", 1)], {"late": 1, "missed": 3}),
    ([Event(1, 3, "clap", 1)], {"wrong": 1, "missed": 3}),
    ([Event(8, 9, "clap", 1)], {"unknown": 1, "missed": 3}),
    ([Event(9.5, 10.5, "clap", 1)], {"standing": 1, "missed": 3}),
    ([Event(1, None, "wave", 1), Event(8, 9, "wave", 0.9, False)], {"missed": 3})])
def test_events_are_counted_by_what_became_of_them(events, want):
    found = score(ACTIONS, events, CLASSES)
    known = sum(event.end is not None and event.known for event in events)
    counted = {"actions": 3, **({"events": known} if known else {}), **want}
    assert {k: v for k, v in found.items() if v or k == "missed"} == counted
    assert f1(found) == pytest.approx(2 * want.get("right", 0) / (known + 3))


def test_every_clip_is_in_one_recording_of_its_person(store):
    found = recordings(store, np.arange(len(store)), (2,), 30, 5)
    again = recordings(store, np.arange(len(store)), (2,), 30, 5)
    assert all(np.array_equal(a.joints, b.joints) for a, b in zip(found, again, strict=True))
    labels = sorted(-1 if a.label is None else a.label for r in found for a in r.actions)
    assert labels == sorted(-1 if k == 2 else k for k in store.clips["label"].tolist())
    assert len(found) >= len(np.unique(store.clips["subject"]))


def test_people_stand_between_actions_and_nothing_jumps(store):
    for recorded in recordings(store, np.arange(len(store)), (), 30, 5):
        ends = [0, *(action.end for action in recorded.actions)]
        starts = [*(action.start for action in recorded.actions), recorded.times[-1]]
        assert all(start - end > PAUSES[0] - 0.1 for end, start in zip(ends, starts, strict=True))

        # a step is at most that of a clip, or a blend's
        most = max(np.abs(np.diff(clip_of(store, i), axis=0)).max(initial=0) for i in range(len(store)))
        poses = np.ptp(store.frames.reshape(-1, 3), axis=0).max() / (30 * BLEND)
        assert np.abs(np.diff(recorded.joints, axis=1)).max() < max(most, poses) + 0.1


def test_another_rate_shows_the_same_movement(store):
    whole = recordings(store, np.arange(len(store)), (), 30, 5)[0]
    slow = at_fps(whole, 10)
    np.testing.assert_allclose(slow.joints, whole.joints[:, ::3], atol=1e-5)
    fast = at_fps(whole, 60)
    np.testing.assert_allclose(fast.joints[:, ::2], whole.joints, atol=1e-5)
    np.testing.assert_allclose(fast.joints[:, 1:-1:2], (whole.joints[:, 1:] + whole.joints[:, :-1]) / 2, atol=1e-5)
    assert fast.actions == slow.actions == whole.actions
