"""A stream of frames: when a label is printed, what a bad line costs, and frames of another skeleton."""
import io
import json
from pathlib import Path

import numpy as np
import pytest

from phases.shipping import live
from phases.shipping.exported import ExportedModel
from phases.training.clip_store import ClipStore
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose
from tests.helpers.shipped import Shipped, recorded, ship

GOOD = json.dumps(np.random.default_rng(0).normal(size=(25, 3)).tolist()) + "\n"
BAD = {"\"ntu25\"": "is no JSON", "\"\"": "is no JSON",
       "hello": "is no JSON", "[" * 5000: "is no JSON", f"[{', '.join([f'[{10**400}, 0, 0]'] * 25)}]": "is no JSON",
       GOOD[:99]: "is no JSON", "{}": "is no JSON", "7": "has shape ()", "[[1, 2, 3]]": "has shape (1, 3)",
       "[[[NaN, 0, 0]]]": "has shape (1, 3)", f"[{', '.join(['[Infinity, 0, 0]'] * 25)}]": "a coordinate is not finite",
       "\ufffd\x00": "is no JSON"}


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def model(shipped) -> ExportedModel:
    return ExportedModel(shipped.export / "model.onnx")


class Stub:
    """What stands for a model: its answer is the same for every clip. It keeps the clips it saw."""

    def __init__(self, model: ExportedModel, answer: list[float], **view: int):
        self.skeleton, self.classes, self.view = model.skeleton, model.classes, model.view | view
        self.retarget, self.recorded, self.other_skeleton = model.retarget, model.recorded, model.other_skeleton
        self.guess_recorded, self.from_skeleton = model.guess_recorded, model.from_skeleton
        self.answer, self.seen = np.array(answer), []

    def in_metres(self, clip: np.ndarray) -> np.ndarray:
        return clip

    def __call__(self, clip: np.ndarray) -> np.ndarray:
        self.seen.append(clip)
        return self.answer

    @property
    def lengths(self) -> list[int]:
        """Frames of each clip it saw."""
        return [clip.shape[1] for clip in self.seen]


# ---------------------------------------------------------------------------------------------------------------------
# Labels
# ---------------------------------------------------------------------------------------------------------------------

def test_a_stream_answers_in_json_and_ctrl_c_prints_the_times(model, capsys):
    stub = Stub(model, [0.75, 0.25, 0])

    def camera(pauses: bool):
        yield from [GOOD] * 4
        if pauses:
            raise KeyboardInterrupt

    live.stream(stub, camera(False), 0.5, 3, 12, "json")
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said == [{"frame": 3, "label": "swing 0", "probability": 0.75, "sure": True}]

    with pytest.raises(KeyboardInterrupt):
        live.stream(stub, camera(True), 0.9, 3, 12, "json")
    ended = capsys.readouterr()
    assert not ended.out and ended.err.startswith("4 frames, ")


def test_the_last_window_alone_decides(model, capsys):
    stub = Stub(model, [1.0, 0, 0])
    live.stream(stub, [GOOD] * 9, 0.5, 3, 4)
    assert stub.lengths == [1, 2, 3, 4, 4, 4, 4, 4, 4]
    assert capsys.readouterr().out == "frame 3: swing 0 (100 %)\n", "one line as soon as it is sure, none after"


def test_after_a_stall_the_window_starts_anew(model, monkeypatch):
    stub = Stub(model, [1.0, 0, 0])
    clock = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])

    def camera():
        for pause in (0.1, 0.1, 0.1, 5, 0.1, 1.9):
            clock[0] += pause
            yield GOOD

    live.stream(stub, camera(), 0.5, 2, 12)
    assert stub.lengths == [1, 2, 3, 1, 2, 3]


# ---------------------------------------------------------------------------------------------------------------------
# Lines
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("line,message", BAD.items(), ids=range(len(BAD)))
def test_a_stream_outlives_a_bad_line_and_reports_its_fault(model, capsys, line, message):
    stub = Stub(model, [1.0, 0, 0])
    live.stream(stub, io.StringIO(f"{GOOD}\n{line}\n{GOOD}{line}\n{GOOD}"), 0.5, 3, 12)
    said = capsys.readouterr()
    assert said.out == "frame 3: swing 0 (100 %)\n" and stub.lengths == [1, 2, 3]
    first, last = said.err.splitlines()
    assert first.startswith(f"standard input, line 3: {message}") and "skipped" in first
    assert last.startswith("3 frames") and last.endswith("2 lines were skipped")


def test_a_missing_value_of_a_frame_is_a_missing_joint(model):
    """null and NaN in a number, a joint, a body and the frame, as in a file."""
    rest = json.loads(GOOD)
    missing = {2: [0.5, float("nan"), 1], 3: None, 4: [None, None, None], 5: []}
    lines = [json.dumps([missing.get(v, joint) for v, joint in enumerate(rest)]), json.dumps([None, rest]),
             "null", "[]", json.dumps([[None] * 3] * 25), json.dumps([None] * 25)]
    frames = [live.frame_of(line, (25,), model) for line in lines]

    # what is seen stays
    seen = np.ones(25, bool)
    seen[list(missing)] = False
    np.testing.assert_array_equal(frames[0][0].any(1), seen)
    np.testing.assert_array_equal(frames[0][0, seen], np.float32(rest)[seen])
    assert not frames[1][0].any() and frames[1][1].any(1).all()
    assert [len(frame) for frame in frames[2:]] == [0] * 4


@pytest.mark.parametrize("text,message", [
    ("", "no frame with a body"), ("[]\nhello\n", "no frame with a body; 1 lines were skipped")])
def test_a_stream_without_any_frame_is_an_error(model, text, message):
    with pytest.raises(ValueError, match=message):
        live.stream(model, io.StringIO(text), 0.8, 5, 12)


# ---------------------------------------------------------------------------------------------------------------------
# Bodies
# ---------------------------------------------------------------------------------------------------------------------

def test_a_stream_of_another_skeleton_is_turned_as_its_clip_is(model, tmp_path, capsys):
    """MediaPipe's world landmarks: metres, y down. x and y alone, and scores, are read as a clip's are."""
    stub = Stub(model, [1.0, 0, 0])
    x = np.random.default_rng(0).normal(0, 0.1, (5, 33, 3)).astype(np.float32)
    x += rest_pose(SKELETONS["mediapipe33"]) * [-1, -1, 1] + [0, 0, 3]
    clips = {"xyz": x, "scored": np.concatenate([x, np.ones((5, 33, 1))], 2), "flat": 500 * x[..., :2]}

    for name, clip in clips.items():
        # as a file
        np.save(tmp_path / f"{name}.npy", clip)
        want = model.read(tmp_path / f"{name}.npy")
        said = capsys.readouterr().err.split(": ", 1)[1].split(";")[0]

        # as lines, after an empty frame; the last line is of the network's own skeleton
        stub.seen.clear()
        lines = [json.dumps(frame.tolist()) for frame in clip]
        live.stream(stub, ["[]", *lines, GOOD], 0.5, 2, 12)
        np.testing.assert_allclose(stub.seen[-1][:, -5:], want, atol=1e-5)
        err = capsys.readouterr().err.splitlines()
        assert err[0] == said and "mediapipe33" in said and "line 7: has shape (25, 3), must be 33 joints" in err[1]


def test_a_body_that_is_never_seen_leaves_its_place_to_the_next(shipped, model, tmp_path):
    store = ClipStore(shipped.folder / "stores" / "tiny")
    x = recorded(store, store.split("xsub")[1][3])[:1]

    # as in a store
    np.save(tmp_path / "first.npy", x)
    np.save(tmp_path / "second.npy", np.concatenate([0 * x, x]))
    first, second = (model(model.read(Path(tmp_path / f"{name}.npy"))) for name in ("first", "second"))
    assert np.array_equal(first, second)

    # and as a stream
    stub = Stub(model, first, bodies=1)
    lines = [json.dumps([np.zeros((25, 3)).tolist(), frame.tolist()]) for frame in x[0]]
    live.stream(stub, lines, 0.0, 1, 500)
    assert np.array_equal(stub.seen[-1], x)
