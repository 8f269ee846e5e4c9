"""A stream of frames: what is printed, times, what a bad line costs, and frames of another skeleton."""
import io
import json
import re
from collections import Counter

import numpy as np
import pytest

from phases.shipping import live
from phases.shipping.events import Event, Hearing
from phases.shipping.exported import Answer, ExportedModel
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose
from tests.helpers.shipped import Shipped, ship
from tests.helpers.untrimmed import person

HEARING = Hearing(window=2.0)
GOOD = json.dumps(np.random.default_rng(0).normal(size=(25, 3)).tolist()) + "\n"
BAD = {"\"ntu25\"": "is no JSON", "\"\"": "is no JSON",
       "hello": "is no JSON", "[" * 5000: "is no JSON", f"[{', '.join([f'[{10**400}, 0, 0]'] * 25)}]": "is no JSON",
       GOOD[:99]: "is no JSON", "{}": "is no JSON", '{"t": 1}': "is no JSON", '{"t": 1, "joints": "x"}': "is no JSON",
       '{"t": NaN, "joints": []}': "is no JSON", '{"t": "1", "joints": []}': "is no JSON",
       '{"t": true, "joints": []}': "is no JSON", "7": "has shape ()", "[[1, 2, 3]]": "has shape (1, 3)",
       "[[[NaN, 0, 0]]]": "has shape (1, 3)", f"[{', '.join(['[Infinity, 0, 0]'] * 25)}]": "a coordinate is not finite",
       "\ufffd\x00": "is no JSON"}


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def model(shipped) -> ExportedModel:
    return ExportedModel(shipped.export / "model.onnx")


class Stub(ExportedModel):
    """A file whose answer is the same for every clip. It keeps the clips it saw."""

    def __init__(self, model: ExportedModel, p: list[float], **view: int):
        vars(self).update(vars(model))
        self.view = model.view | view
        self.p = np.array(p)
        self.seen = []

    def answer(self, joints: np.ndarray) -> Answer:
        self.seen.append(joints)
        return Answer(self.p, np.zeros(4), 1.0)


def as_lines(joints: np.ndarray) -> list[str]:
    """The frames of one body (L, V, 3), or of several (M, L, V, 3), as lines."""
    frames = joints.swapaxes(0, 1) if joints.ndim == 4 else joints
    return [json.dumps(frame.tolist()) + "\n" for frame in frames.round(5).astype(float)]


def raised(seconds: float = 5, fps: float = 30, start: float = 1) -> list[str]:
    """Lines of somebody who raises an arm for two seconds."""
    return as_lines(person(seconds, fps, [(start, start + 2)])[0][0])


# ---------------------------------------------------------------------------------------------------------------------
# Labels
# ---------------------------------------------------------------------------------------------------------------------

def test_a_stream_tells_an_action_that_goes_on_and_one_that_has_ended(model, capsys):
    live.stream(Stub(model, [0.9, 0.1, 0]), raised(), 30, HEARING)
    told = capsys.readouterr()
    assert re.fullmatch(r"1\.\d s: swing 0 \(90 %\)\n1\.\d to [23]\.\d s: swing 0 \(90 %\)\n", told.out)
    assert told.err.startswith("150 frames, ") and "ms each" in told.err


def test_a_stream_answers_in_json(model, capsys):
    live.stream(Stub(model, [0.9, 0.1, 0]), raised(), 30, HEARING, "json")
    early, ended = map(json.loads, capsys.readouterr().out.splitlines())
    assert early == {"start": early["start"], "end": None, "label": "swing 0", "probability": 0.9, "known": True}
    assert ended == early | {"end": ended["end"]} and abs(ended["end"] - 3) < 0.4


def test_ctrl_c_ends_a_stream_and_prints_the_times(model, capsys):
    def camera():
        yield from raised()[:40]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live.stream(Stub(model, [0.9, 0.1, 0]), camera(), 30, HEARING)
    assert capsys.readouterr().err.startswith("40 frames, ")


EARLY = Event(1.0, None, "wave", 0.9)


@pytest.mark.parametrize("events, lines", [
    ([EARLY, Event(1.0, 2.5, "wave", 0.95)], ["1.0 s: wave (90 %)", "1.0 to 2.5 s: wave (95 %)"]),
    ([EARLY, Event(1.0, 2.5, "clap", 0.95)], ["1.0 s: wave (90 %)", "1.0 to 2.5 s: clap (95 %), not wave"]),
    ([EARLY, Event(1.0, 2.5, "clap", 0.3, False)], ["1.0 s: wave (90 %)", "1.0 to 2.5 s: none of these, not wave"]),
    ([Event(1.0, 2.5, "clap", 0.3, False)], []),
    ([EARLY, Event(1.0, 2.5, "wave", 0.9), Event(4.0, 5.0, "clap", 0.9)],
     ["1.0 s: wave (90 %)", "1.0 to 2.5 s: wave (90 %)", "4.0 to 5.0 s: clap (90 %)"])])
def test_the_line_at_the_end_corrects_the_early_one(capsys, events, lines):
    teller = live.Teller("text")
    teller.tell(events[:1])
    teller.tell(events[1:])
    assert capsys.readouterr().out.splitlines() == lines


# ---------------------------------------------------------------------------------------------------------------------
# Times
# ---------------------------------------------------------------------------------------------------------------------

def ended(capsys) -> list[tuple[float, float]]:
    """(start, end) of the actions that were printed as JSON."""
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [(event["start"], event["end"]) for event in told if event["end"]]


def test_seconds_are_the_same_at_any_rate_and_by_time_stamps(model, capsys):
    stub = Stub(model, [0.9, 0.1, 0])
    for fps in (10, 30, 60):
        live.stream(stub, raised(fps=fps), fps, HEARING, "json")
        assert ended(capsys) == [pytest.approx((1, 3), abs=0.4)]

    # stamps that are not even
    stamps = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.08, 100))
    frames = person(9, 1000, [(1, 3)])[0][0, (1000 * stamps).astype(int)]
    lines = [f'{{"t": {1e6 + t}, "joints": {line.strip()}}}' for t, line in zip(stamps, as_lines(frames), strict=True)]
    live.stream(stub, lines, 30, HEARING, "json")
    assert ended(capsys) == [pytest.approx((1e6 + 1, 1e6 + 3), abs=0.4)]


def test_after_a_stall_the_stream_starts_anew(model, monkeypatch, capsys):
    """A pause in a movement of whose both halves somebody is told; its seconds pass, too."""
    clock = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])

    def camera(pause: float):
        for i, line in enumerate(raised()):
            clock[0] += pause if i == 60 else 0.03
            yield line

    for pause, want in ((1.9, [(1, 3)]), (5, [(1, 2), (7, 8)])):
        live.stream(Stub(model, [0.9, 0.1, 0]), camera(pause), 30, HEARING, "json")
        assert ended(capsys) == [pytest.approx(times, abs=0.4) for times in want]

    # by time stamps the pauses of their arrival do not count
    def stamped(pause: float):
        for i, line in enumerate(raised()):
            clock[0] += 5
            yield f'{{"t": {i / 30 + pause * (i >= 60)}, "joints": {line.strip()}}}'

    for pause, want in ((0, [(1, 3)]), (5, [(1, 2), (7, 8)])):
        live.stream(Stub(model, [0.9, 0.1, 0]), stamped(pause), 30, HEARING, "json")
        assert ended(capsys) == [pytest.approx(times, abs=0.4) for times in want]


@pytest.mark.parametrize("first, second, message", [
    ('{"t": 1, "joints": %s}', '{"t": 1, "joints": %s}', "its time stamp is not later than the one before"),
    ('{"t": 1, "joints": %s}', "%s", "has no time stamp, the lines before it have"),
    ("%s", '{"t": 1, "joints": %s}', "has a time stamp, the lines before it have none")])
def test_a_time_stamp_that_does_not_fit_makes_a_bad_line(model, capsys, first, second, message):
    good = GOOD.strip()
    live.stream(Stub(model, [1.0, 0, 0]), [first % good, second % good], 30, HEARING)
    assert f"standard input, line 2: {message}: skipped" in capsys.readouterr().err


def test_a_bad_line_takes_its_time(model, capsys):
    lines = ["hello"] * 300 + raised()
    live.stream(Stub(model, [0.9, 0.1, 0]), lines, 30, HEARING, "json")
    assert ended(capsys) == [pytest.approx((11, 13), abs=0.4)]


# ---------------------------------------------------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("line,message", BAD.items(), ids=range(len(BAD)))
def test_a_stream_outlives_a_bad_line_and_reports_its_fault(model, capsys, line, message):
    live.stream(Stub(model, [1.0, 0, 0]), io.StringIO(f"{GOOD}\n{line}\n{GOOD}{line}\n{GOOD}"), 30, HEARING)
    said = capsys.readouterr()
    first, last = said.err.splitlines()
    assert first.startswith(f"standard input, line 3: {message}") and "skipped" in first
    assert last.startswith("3 frames") and last.endswith("2 lines were skipped")


def test_a_missing_value_of_a_frame_is_a_missing_joint(model):
    """null and NaN in a number, a joint, a body and the frame, as in a file."""
    rest = json.loads(GOOD)
    missing = {2: [0.5, float("nan"), 1], 3: None, 4: [None, None, None], 5: []}
    lines = [json.dumps([missing.get(v, joint) for v, joint in enumerate(rest)]), json.dumps([None, rest]),
             "null", "[]", '{"joints": []}', json.dumps([[None] * 3] * 25), json.dumps([None] * 25)]
    frames = [frame.bodies.joints for frame in live.read_frames(lines, model, 30, Counter())]

    # what is seen stays
    seen = np.ones(25, bool)
    seen[list(missing)] = False
    np.testing.assert_array_equal(frames[0][0].any(1), seen)
    np.testing.assert_array_equal(frames[0][0, seen], np.float32(rest)[seen])
    assert not frames[1][0].any() and frames[1][1].any(1).all()
    assert [len(frame) for frame in frames[2:]] == [0] * 5


@pytest.mark.parametrize("text,message", [
    ("", "no frame with a body"), ("[]\nhello\n", "no frame with a body; 1 line was skipped")])
def test_a_stream_without_any_frame_is_an_error(model, text, message):
    with pytest.raises(ValueError, match=message):
        live.stream(model, io.StringIO(text), 30, HEARING)


# ---------------------------------------------------------------------------------------------------------------------
# Bodies
# ---------------------------------------------------------------------------------------------------------------------

def test_a_stream_of_another_skeleton_is_turned_as_its_clip_is(model, tmp_path, capsys):
    """MediaPipe's world landmarks: metres, y down. x and y alone, and scores, are read as a clip's are."""
    skeleton = SKELETONS["mediapipe33"]
    x = np.random.default_rng(0).normal(0, 0.002, (90, 33, 3)).astype(np.float32)
    x += rest_pose(skeleton) * [-1, -1, 1] + [0, 0, 3]
    hands = [v for v, joint in enumerate(skeleton.joints) if "wrist" in joint or "index" in joint]
    x[30:60, hands, 1] -= 0.4 * np.sin(np.pi * np.arange(30) / 30)[:, None].astype(np.float32)
    clips = {"xyz": x, "scored": np.concatenate([x, np.ones((90, 33, 1))], 2), "flat": 500 * x[..., :2]}

    for name, clip in clips.items():
        # as a file
        np.save(tmp_path / f"{name}.npy", clip)
        want = model.read(tmp_path / f"{name}.npy")
        said = capsys.readouterr().err.split(": ", 1)[1].split(";")[0]

        # as lines, after an empty frame; the last line is of the network's own skeleton
        stub = Stub(model, [1.0, 0, 0])
        live.stream(stub, ["[]", *(json.dumps(frame.tolist()) for frame in clip), GOOD], 30, HEARING)
        seen = stub.seen[-1]
        L = seen.shape[1]
        away = [np.abs(want[:, first:first + L] - seen).max() for first in range(90 - L)]
        assert min(away) < (0.02 if name == "flat" else 1e-4), "a flat clip has the size of its own trunk"
        err = capsys.readouterr().err.splitlines()
        assert ("no depth" in err.pop(1)) if name == "flat" else "no depth" not in str(err)
        assert err[0] == said and "mediapipe33" in said and "line 92: has shape (25, 3), must be 33 joints" in err[1]


def test_a_body_that_is_never_seen_leaves_its_place_to_the_next(model):
    x, _ = person(5, 30, [(1, 3)])
    seen = []
    for clip in (x, np.concatenate([0 * x, x])):
        stub = Stub(model, [1.0, 0, 0], bodies=1)
        live.stream(stub, as_lines(clip), 30, HEARING)
        seen.append(stub.seen)
    assert len(seen[0]) == len(seen[1]) > 1
    assert all(np.array_equal(*pair) and len(pair[0]) == 1 for pair in zip(*seen, strict=True))


def test_more_people_than_the_network_sees_are_reported_once(model, capsys):
    x, _ = person(5, 30, [(1, 3)])
    live.stream(Stub(model, [1.0, 0, 0], bodies=1), as_lines(np.concatenate([x, x + np.float32(1)])), 30, HEARING)
    assert capsys.readouterr().err.count("2 people, the network sees 1: the most active of each movement") == 1
