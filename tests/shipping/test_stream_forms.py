"""A stream's lines in each form that clip= reads: the network is shown what the same frames in a file are read as."""
import json

import numpy as np
import pytest

from phases.recordings.kinect_json import SDK
from phases.shipping import live
from phases.shipping.events import Hearing
from phases.shipping.exported import Answer, ExportedModel
from skeletons import SKELETONS, means, retargeted
from tests.helpers.clip_stores import rest_pose
from tests.helpers.shipped import stand_in

L = 90
HEARING = Hearing(window=2.0)


class Stub(ExportedModel):
    """A stand-in for a network, which keeps the clips that it is shown."""

    def answer(self, joints: np.ndarray) -> Answer:
        self.seen = joints
        return Answer(np.array([1.0, 0.0]), np.zeros(3, np.float32), 1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Stub:
    return Stub(stand_in(tmp_path_factory.mktemp("model") / "m.onnx", ["view.bodies=2"], SKELETONS["ntu25"]))


def moved(name: str) -> np.ndarray:
    """(L, V, 3) somebody in metres, y down as a camera sees it, who raises both hands and walks aside meanwhile."""
    skeleton = SKELETONS[name]
    pose = rest_pose(skeleton)
    if name == "openpose18":  # of which rest_pose makes a body without a trunk
        coco = SKELETONS["coco17"]
        pose = retargeted(rest_pose(coco)[None, None], means(coco.joints, skeleton.joints))
    x = pose.reshape(-1, 3) * [-1, -1, 1] + [0, 0, 3]
    x = x + np.random.default_rng(0).normal(0, 0.002, (L, *x.shape))
    hands = [v for v, joint in enumerate(skeleton.joints) if "wrist" in joint or "hand" in joint]
    x[30:60, hands, 1] -= 0.4 * np.sin(np.pi * np.arange(30) / 30)[:, None]
    x[30:60, :, 0] += np.linspace(0, 0.5, 30)[:, None]
    x[60:, :, 0] += 0.5
    return x.astype(np.float32)


def scored(name: str, height: float = 500) -> np.ndarray:
    """(L, V, 3) the same in a picture: x, y, score."""
    x = moved(name)
    return np.concatenate([height * (x[..., :2] + 2), np.ones((*x.shape[:2], 1))], 2)


def landmarks(x: np.ndarray) -> list:
    return [[dict(zip("xyz", map(float, joint), strict=False), visibility=0.9) for joint in frame] for frame in x]


def mediapipe() -> tuple[str, list]:
    """World landmarks are centred on the hips; those of the picture show the path."""
    x = moved("mediapipe33")
    hips = [SKELETONS["mediapipe33"].joints.index(f"{side} hip") for side in ("left", "right")]
    frames = []
    for picture, world in zip(landmarks(x / 4 + 0.5), landmarks(x - x[:, hips].mean(1, keepdims=True)), strict=True):
        frames.append({"landmarks": [picture], "worldLandmarks": [world]})
    return json.dumps(frames), frames


def plain_landmarks() -> tuple[str, list]:
    frames = landmarks(moved("mediapipe33"))
    return json.dumps(frames), frames


def openpose() -> tuple[str, list]:
    frames = [{"people": [{"pose_keypoints_2d": frame.ravel().tolist()}]} for frame in scored("openpose25")]
    return json.dumps(frames), frames


def legs_unseen(score: float = 0.02) -> tuple[str, list]:
    """OpenPose's, of somebody whose legs are anywhere, with a low score."""
    x = scored("openpose25")
    legs = [v for v, joint in enumerate(SKELETONS["openpose25"].joints) if "knee" in joint or "ankle" in joint]
    x[:, legs, :2] = np.random.default_rng(1).uniform(0, 900, (L, len(legs), 2))
    x[:, legs, 2] = score
    frames = [{"people": [{"pose_keypoints_2d": frame.ravel().tolist()}]} for frame in x]
    return json.dumps(frames), frames


def coco() -> tuple[str, list]:
    """Two people; the one who stands is listed first in every second frame."""
    bodies = np.stack([scored("coco17"), scored("coco17")[:1].repeat(L, 0) + [900, 0, 0]], 1)
    frames = [[{"keypoints": body.ravel().tolist()} for body in frame[::1 - 2 * (t % 2)]]
              for t, frame in enumerate(bodies)]
    return json.dumps(frames), frames


def alphapose() -> tuple[str, list]:
    """A line per person, whom a number keeps apart; a picture without anybody has no line."""
    entries = []
    for t, frame in enumerate(scored("halpe26")):
        for number in (7, 3)[::1 - 2 * (t % 2)] if t not in (5, 6) else ():
            body = frame if number == 3 else scored("halpe26")[0]
            entries.append({"image_id": f"{t}.jpg", "keypoints": body.ravel().tolist(), "score": 2.5, "idx": number})
    return json.dumps(entries), entries


def yolo() -> tuple[str, list]:
    frames = []
    for frame in scored("coco17"):
        points = dict(zip(("x", "y", "visible"), frame.T.tolist(), strict=True))
        frames.append([{"name": "person", "track_id": 4, "keypoints": points}])
    return json.dumps(frames), frames


def kinetics() -> tuple[str, list]:
    frames = []
    for t, frame in enumerate(scored("openpose18", 0.2)):
        body = {"pose": frame[:, :2].ravel().tolist(), "score": frame[:, 2].tolist()}
        frames.append({"frame_index": t + 1, "skeleton": [body] if t != 4 else []})
    return json.dumps({"data": frames, "label": "a", "label_index": 0}), frames


def azure() -> tuple[str, list]:
    frames = []
    for t, frame in enumerate(1000 * moved("azure32")):
        frames.append({"frame_id": t, "num_bodies": 1, "bodies": [{"body_id": 2, "joint_positions": frame.tolist()}]})
    return json.dumps({"joint_names": SDK.split(), "bone_list": [["SPINE_CHEST", "SPINE_NAVEL"]] + [
        [name, "PELVIS"] for name in SDK.split() if name not in ("PELVIS", "SPINE_CHEST")], "frames": frames}), frames


def table() -> tuple[str, list]:
    """Named columns, in an order of their own."""
    x = moved("mediapipe33")[:, ::-1]
    names = [f"{joint}_{axis}" for joint in SKELETONS["mediapipe33"].joints[::-1] for axis in "xyz"]
    lines = [",".join(names), *(",".join(map(str, frame.ravel())) for frame in x)]
    return "\n".join(lines), lines


def numbers() -> tuple[str, list]:
    """No header; the first column counts frames: 1 and 17 times x, y and score are 52 numbers, as many as 26 x, y."""
    lines = [";".join(map(str, [t, *frame.ravel().round(3)])) for t, frame in enumerate(moved("coco17"))]
    return "\n".join(lines), lines


def rows() -> tuple[str, list]:
    """A row per joint and person; two frames show nobody, and one lacks a joint."""
    lines = ["frame,person,joint,x,y,z"]
    for t, frame in enumerate(moved("ntu25") * [-1, -1, 1]):
        for v, joint in enumerate(frame):
            if t not in (7, 8) and (t, v) != (12, 20):
                lines.append(f"{t},anna,{SKELETONS['ntu25'].joints[v]},{','.join(map(str, joint.round(5)))}")
    return "\n".join(lines), lines


FORMS = {"mediapipe": mediapipe, "landmarks": plain_landmarks, "openpose": openpose, "coco": coco,
         "legs_unseen": legs_unseen, "alphapose": alphapose, "yolo": yolo, "kinetics": kinetics, "azure": azure,
         "table": table, "numbers": numbers, "rows": rows}


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_shows_the_network_what_a_file_does(model, tmp_path, capsys, form):
    text, frames = FORMS[form]()
    path = tmp_path / f"x.{'csv' if isinstance(frames[0], str) else 'json'}"
    path.write_text(text)
    want = model.read(path)
    from_file = capsys.readouterr().err
    live.stream(model, [f if isinstance(f, str) else json.dumps(f) for f in frames], 30, HEARING)
    said = capsys.readouterr()
    assert "skipped" not in said.err and said.out.count("(100 %)") == 2, said

    # the frames of the movement; a clip in a picture has the size of its trunk, and any clip its own middle
    seen = model.seen
    count = seen.shape[1]
    assert len(seen) == len(want) and 30 <= count < 60
    off = []
    for first in range(L - count):
        part = want[:, first:first + count]
        moved_by = np.median((seen - part)[part.any(3)], axis=0)
        off.append(np.abs((seen - part - moved_by) * part.any(3, keepdims=True)).max())
    assert min(off) < 0.02

    # whose joints they are is told alike, and each note once
    lines = said.err.splitlines()
    assert len(set(lines)) == len(lines)
    turned = [line.split(": ", 1)[1].split(" are turned")[0] for line in from_file.splitlines() if "turned" in line]
    assert all(line in said.err for line in turned)


def test_joints_of_low_scores_are_missing_as_those_without_a_score(model, tmp_path):
    (tmp_path / "low.json").write_text(legs_unseen()[0])
    (tmp_path / "none.json").write_text(legs_unseen(score=0)[0])
    low = model.read(tmp_path / "low.json")
    np.testing.assert_array_equal(low, model.read(tmp_path / "none.json"))
    assert not low[:, :, 13].any() and low[:, :, 4].any(2).all()  # left knee, left shoulder


@pytest.mark.parametrize("form", ["table", "numbers", "rows"])
@pytest.mark.parametrize("name, unit", [("time", 1), ("Time [s]", 1), ("timestamp", 1e-3), ("time_ms", 1e-3),
                                        ("t", 1e-6), ("timestampNs", 1e-9), ("time", 0)])
def test_a_table_s_times_are_time_stamps(model, capsys, form, name, unit):
    """Fifteen frames a second for the stream's thirty; unit 0: the column counts frames, which tell no time."""
    times = [t if not unit else f"{t / 15 / unit:.{4 if unit == 1 else 0}f}" for t in range(L)]
    lines = FORMS[form]()[1]
    if form == "table":
        lines = [f"{name},{lines[0]}", *(f"{t},{line}" for t, line in zip(times, lines[1:], strict=True))]
    elif form == "numbers":
        lines = [f"{t};{line.split(';', 1)[1]}" for t, line in zip(times, lines, strict=True)]
    else:
        lines = [lines[0].replace("frame", name)] + [
            f"{times[int(line.split(',')[0])]},{line.split(',', 1)[1]}" for line in lines[1:]]
    live.stream(model, lines, 30, HEARING)
    said = capsys.readouterr()
    assert "skipped" not in said.err, said.err

    # the movement is in frames 30 to 60
    start, end = map(float, said.out.splitlines()[-1].split(" s:")[0].split(" to "))
    rate = 15 if unit else 30
    assert abs(start - 30 / rate) < 0.45 and abs(end - 60 / rate) < 0.45


def test_a_row_without_its_time_is_a_bad_line(model, capsys):
    names, *frames = table()[1]
    lines = [f"time,{names}", *(f"{'' if t == 7 else t / 30:.5},{frame}" for t, frame in enumerate(frames))]
    live.stream(model, lines, 30, HEARING)
    said = capsys.readouterr().err
    assert "standard input, line 9: has no time stamp, the lines before it have" in said
    assert "1 line was skipped" in said


def test_joints_that_are_named_and_cannot_be_turned_are_a_bad_line(model, capsys):
    """Not an end of the stream, though they are as many as the network's."""
    names = {"joint_names": [f"j{v}" for v in range(25)], "bone_list": [[f"j{v}", "j0"] for v in range(1, 25)]}
    frame = {"bodies": [{"body_id": 1, "joint_positions": np.ones((25, 3)).tolist()}]}
    good = json.dumps(rest_pose(SKELETONS["ntu25"]).tolist())
    live.stream(model, [json.dumps(names), json.dumps(frame), json.dumps(frame), good], 30, HEARING)
    said = capsys.readouterr().err.splitlines()
    assert "standard input, line 2: " in said[0] and "azure25" in said[0] and "2 lines were skipped" in said[-1]


@pytest.mark.parametrize("line, told", [
    ('{"frames": [[[1, 2, 3]]]}', "is a whole clip"), (json.dumps(np.ones((2, 2, 25, 3)).tolist()), "is a whole clip"),
    ('{"joint_names": ["a", "b"], "bone_list": [], "frames": [1]}', "is a whole clip"),
    ('{"people": 3, "x": 1}', "is int: must be a list"), ("a,b,c,d", "is no JSON"),
    ('{"image": 1}', "has the keys image")])
def test_what_is_no_frame_says_so(model, capsys, line, told):
    good = json.dumps(rest_pose(SKELETONS["ntu25"]).tolist())
    live.stream(model, [line, good], 30, HEARING)
    said = capsys.readouterr().err
    assert "standard input, line 1: " in said and told in said.splitlines()[0]
