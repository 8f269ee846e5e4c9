"""The page tells start and end of each action as predict does: its movements beside those of Python, in Node.js."""
import numpy as np
import pytest

from phases.shipping.events import Hearing, Listener
from phases.shipping.movements import speed
from skeletons import SKELETONS
from tests.helpers.acting import utd_clips, utd_skeleton
from tests.helpers.browser import node
from tests.helpers.untrimmed import TRUNK, person, recording
from tests.shipping.test_events import Stub

LISTEN = """
const { Listener, speed } = await import(root + "/movements.js"), found = [];
for (const { joints, times, trunk, classes, seconds, p } of jobs) {
  const M = joints.length, V = joints[0][0].length;
  const network = { skeleton: { joints: Array(V).fill("") }, trunk, classes, window: 30 * seconds,
    async answer() { return { p, known: true }; } };
  const listener = new Listener(network, M, false), events = [], quiet = [];
  for (let l = 0; l < times.length; l++) {
    events.push(...await listener.add(times[l], Float32Array.from(joints.flatMap((body) => body[l].flat()))));
    quiet.push(listener.isQuiet(times[l]));
  }
  events.push(...await listener.end());
  const clip = { x: Float32Array.from(joints.flat(3)), M, L: times.length, V };
  found.push({ events, quiet, speeds: times.slice(0, 60).map((_, i) => speed(clip, times, i, trunk)) });
}
return found;
"""


def check(joints: np.ndarray, times: np.ndarray, trunk: list[int], p: tuple[float, ...] = (0.9, 0.05, 0.05)) -> list:
    """The events of joints (M, L, V, 3) in JavaScript, which are Python's; whether all was quiet at each time."""
    stub = Stub(lambda clip: ("wave", p[0]))
    stub.trunk = trunk
    listener = Listener(stub, Hearing(window=2.0), early=False, is_read=True)
    want = []
    for time, frame in zip(times, joints.swapaxes(0, 1), strict=True):
        want += listener.add(float(time), frame)
    want += listener.end()

    job = {"joints": joints.tolist(), "times": times.tolist(), "trunk": trunk, "classes": stub.classes, "seconds": 2,
           "p": list(p)}
    [got] = node(LISTEN, [job])
    assert [(e["label"], e["known"]) for e in got["events"]] == [(e.label, e.known) for e in want]
    np.testing.assert_allclose([(e["start"], e["end"], e["p"]) for e in got["events"]],
                               [(e.start, e.end, e.probability) for e in want], atol=1e-6)
    speeds = [speed(joints, times, i, trunk) for i in range(min(60, len(times)))]
    np.testing.assert_allclose(got["speeds"], speeds, atol=1e-4)
    return [got["events"], got["quiet"]]


@pytest.mark.parametrize("fps", [10, 15, 30])
def test_movements_of_a_made_person_are_pythons(fps):
    events, quiet = check(*person(14, fps, [(2, 4), (6, 7.5), (11, 12)]), TRUNK)
    assert len(events) == 3 and abs(events[0]["start"] - 2) < 0.4 and abs(events[0]["end"] - 4) < 0.4
    assert quiet[fps] and not quiet[4 * fps], "who stands is quiet, who moves is not"


def test_a_long_movement_is_judged_window_by_window():
    joints, times = person(16, 15, [(2 + k, 3 + k) for k in range(0, 9)])
    events, _ = check(joints, times, TRUNK)
    assert events and max(e["end"] - e["start"] for e in events) > 4


def test_unlikely_movements_are_told_as_none_of_these():
    events, _ = check(*person(6, 15, [(2, 4)]), TRUNK, (0.41, 0.3, 0.29))
    assert [e["known"] for e in events] == [False] and events[0]["p"] == pytest.approx(0.41)


def test_people_who_stand_or_are_not_there_say_nothing():
    joints, times = person(8, 15)
    joints[:, 40:60] = 0
    events, quiet = check(joints, times, TRUNK)
    assert events == [] and all(quiet)


def test_movements_of_recorded_people_are_pythons(data_folder):
    skeleton = utd_skeleton(data_folder)
    clips = [utd_clips(data_folder, action)[0] for action in ("wave", "squat", "bowling", "clap")]
    told = recording(clips, [0, 1, 2, 3], 30, skeleton.centre, np.random.default_rng(0))
    assert SKELETONS["ntu25"].num_joints != skeleton.num_joints
    events, _ = check(told.joints[:, ::2], told.times[::2], [joints[0] for joints in skeleton.trunk])
    assert 3 <= len(events) <= 6
