"""Files whose format says what they hold: a known motion is read as it is, and damage is named in one line."""
import json

import numpy as np
import pytest

from phases.recordings.clips import main_two
from phases.recordings.known_files import known_body
from phases.recordings.readers import read_clip, skeleton_of_format
from skeletons import SKELETONS

RNG = np.random.default_rng(0)


def refusal(path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ValueError) as e:
        read_clip(path)
    assert "\n" not in str(e.value) and str(e.value).startswith(f"{path}")
    return str(e.value)


def written(path, value) -> object:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


# ---------------------------------------------------------------------------------------------------------------------
# NTU's text with other joints
# ---------------------------------------------------------------------------------------------------------------------

def text_of(frames: np.ndarray, fields: int = 12, body: str = "7 0 1 1 1 1 0 0.1 0.2 2") -> str:
    """NTU's text of one body (L, V, 3), with `fields` numbers on a joint's line."""
    lines = [str(len(frames))]
    for joints in frames:
        lines += ["1", body, str(len(joints))]
        lines += [" ".join(map(repr, [*xyz, *[0.0] * (fields - 3)])) for xyz in joints.tolist()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("fields, body", [(12, "7 0 1 1 1 1 0 0.1 0.2 2"), (3, "7"), (4, "7 1")])
def test_ntu_text_of_17_joints_is_read(tmp_path, fields, body):
    x = RNG.normal(size=(14, 17, 3)).round(4)
    path = written(tmp_path / "P001S00G10B10H50UC022000LC021000A003R0_08241716.txt", text_of(x, fields, body))
    np.testing.assert_array_equal(read_clip(path), np.float32(x)[None])
    assert known_body(path).skeleton is SKELETONS["coco17"] and skeleton_of_format(path) is None

    # any name, if it ends in .skeleton
    np.testing.assert_array_equal(read_clip(written(tmp_path / "a.skeleton", text_of(x, fields, body))),
                                  np.float32(x)[None])


@pytest.mark.parametrize("change, reason", [
    (lambda t: t[:len(t) // 2], "the file ends here"),
    (lambda t: t.replace("\n17\n", "\n18\n"), "numbers, this line has"),
    (lambda t: t[::-1].replace("\n71\n", "\n61\n", 1)[::-1], "17 joints, this one has 16"),
    (lambda t: t.replace("\n5.", "\nnan", 1).replace("\n4.", "\nnan", 1), "finite"),
    (lambda t: t.replace("0.0\n", "\n", 1), "12 numbers, this line has 11"),
], ids=["cut", "count", "a later count", "nan", "a field short"])
def test_damage_in_such_text_is_named(tmp_path, change, reason):
    text = text_of(RNG.normal(size=(4, 17, 3)).round(3) + 5)
    assert reason in refusal(written(tmp_path / "a.skeleton", change(text)))


# ---------------------------------------------------------------------------------------------------------------------
# Azure Kinect
# ---------------------------------------------------------------------------------------------------------------------

NAMES = ["PELVIS", "SPINE_CHEST", "SHOULDER_LEFT", "SHOULDER_RIGHT", "HIP_LEFT", "HIP_RIGHT", "ELBOW_LEFT"]
BONES = [["SPINE_CHEST", "PELVIS"], ["SPINE_CHEST", "SHOULDER_LEFT"], ["SPINE_CHEST", "SHOULDER_RIGHT"],
         ["PELVIS", "HIP_LEFT"], ["HIP_RIGHT", "PELVIS"], ["SHOULDER_LEFT", "ELBOW_LEFT"]]


def kinect(*bodies: np.ndarray, ids=(4, 9)) -> dict:
    """offline_processor's JSON of bodies (L, V, 3) in millimetres, listed in another order in every second frame."""
    frames = []
    for t in range(len(bodies[0])):
        found = [{"body_id": number, "joint_positions": body[t].tolist()}
                 for number, body in zip(ids, bodies, strict=False)]
        frames.append({"frame_id": t, "num_bodies": len(found), "bodies": found[::-1] if t % 2 else found})
    return {"joint_names": NAMES, "bone_list": BONES, "frames": frames}


def test_azure_kinects_json_is_read_in_metres_with_y_up(tmp_path):
    a, b = RNG.uniform(100, 900, (2, 6, 7, 3))
    path = written(tmp_path / "a.json", kinect(a, b))
    x = read_clip(path)
    expected = np.stack([a, b]) * [-0.001, -0.001, 0.001]
    first = int(np.abs(x[0, 0] - expected[:, 0]).max((1, 2)).argmin())
    np.testing.assert_allclose(x, expected[[first, 1 - first]], rtol=1e-5)

    # names and bones are the file's
    body = known_body(path).skeleton
    assert body.joints[1:3] == ("spine chest", "shoulder left") and body.parents == (0, 0, 1, 1, 0, 0, 2)
    assert body.regions["left_arm"] == (2, 6) and body.pairs == ((2, 3), (4, 5)) and body.trunk
    assert skeleton_of_format(path) == "azure7"


@pytest.mark.parametrize("change, reason", [
    (lambda d: d["frames"][1]["bodies"][0]["joint_positions"].pop(), "frame 1: a body has joint_positions of shape"),
    (lambda d: d["frames"][1]["bodies"][0].pop("body_id"), "frame 1: lacks 'body_id'"),
    (lambda d: d["frames"].clear(), "holds no frames"),
    (lambda d: d["frames"].insert(1, 3), "frame 1: must be a table"),
    (lambda d: d.update(joint_names=[1, 2]), "joint_names"),
    (lambda d: [f["bodies"].clear() for f in d["frames"]], "no body in any frame"),
    (lambda d: d["frames"][0]["bodies"][0]["joint_positions"].__setitem__(0, [1, 2, float("inf")]), "finite"),
], ids=["joints", "id", "none", "number", "names", "nobody", "infinite"])
def test_damage_in_azure_kinects_json_is_named(tmp_path, change, reason):
    value = kinect(RNG.uniform(100, 900, (4, 7, 3)))
    change(value)
    assert reason in refusal(written(tmp_path / "a.json", value))


# ---------------------------------------------------------------------------------------------------------------------
# Bodies in a picture
# ---------------------------------------------------------------------------------------------------------------------

FLAT = RNG.uniform(0.1, 0.9, (5, 18, 2)).round(3)


def kinetics(x: np.ndarray, first: int = 1, skip: tuple[int, ...] = ()) -> dict:
    data = [{"frame_index": t + first, "skeleton": [{"pose": pose.ravel().tolist(), "score": [0.5] * len(pose)}]}
            for t, pose in enumerate(x) if t not in skip]
    return {"data": data, "label": "wave", "label_index": 3}


def test_kinetics_skeleton_is_read_with_its_gaps(tmp_path):
    path = written(tmp_path / "a.json", kinetics(FLAT, skip=(2,)))
    x = read_clip(path)
    assert x.shape == (1, 5, 18, 3) and not x[0, 2].any() and not x[..., 2].any()
    np.testing.assert_allclose(x[0, [0, 1, 3, 4], :, :2], FLAT[[0, 1, 3, 4]], rtol=1e-6)
    assert known_body(path).skeleton is SKELETONS["openpose18"] and skeleton_of_format(path) is None

    # a joint without a score is missing
    value = kinetics(FLAT)
    value["data"][1]["skeleton"][0]["score"][4] = 0
    x = read_clip(written(tmp_path / "b.json", value))
    assert not x[0, 1, 4].any() and x[0, 1, 5].any()


def one_pose(pose: list, score: list) -> dict:
    return {"data": [{"frame_index": 1, "skeleton": [{"pose": pose, "score": score}]}]}


def alphapose(*bodies: np.ndarray, ids=(1, 2), name: str = "{}.jpg") -> list[dict]:
    """AlphaPose's results of bodies (L, V, 2), the person listed first in turns."""
    entries = []
    for t in range(len(bodies[0])):
        found = [{"image_id": name.format(t), "category_id": 1, "score": 3.1, "box": [0, 0, 1, 1], "idx": number,
                  "keypoints": np.insert(body[t], 2, 0.9, 1).ravel().tolist()}
                 for number, body in zip(ids, bodies, strict=False)]
        entries += found[::-1] if t % 2 else found
    return entries


@pytest.mark.parametrize("ids", [(1, 2), ([3.0], [5.0])])
def test_alphaposes_people_keep_their_rows_where_they_cross(tmp_path, ids):
    one = np.linspace(0, 100, 11)[:, None, None] + RNG.uniform(0, 9, (17, 2))
    other = np.linspace(300, -200, 11)[:, None, None] + RNG.uniform(0, 9, (17, 2))
    path = written(tmp_path / "a.json", alphapose(one, other, ids=ids))
    x = main_two(read_clip(path))[..., :2]
    np.testing.assert_allclose(x[0], other, rtol=1e-5, atol=1e-3)  # who moves more comes first
    np.testing.assert_allclose(x[1], one, rtol=1e-5, atol=1e-3)
    assert known_body(path).skeleton is SKELETONS["coco17"]


def test_pictures_without_a_body_are_gaps_in_alphapose(tmp_path):
    entries = [e for e in alphapose(FLAT[:, :17]) if e["image_id"] not in ("1.jpg", "2.jpg")]
    x = read_clip(written(tmp_path / "a.json", entries))
    assert x.shape == (1, 5, 17, 3) and not x[0, 1:3].any()
    np.testing.assert_allclose(x[0, 3, :, :2], FLAT[3, :17], rtol=1e-5)

    # 26 points are Halpe's; 17 and 26 cannot be one clip
    halpe = alphapose(RNG.uniform(0, 99, (3, 26, 2)))
    assert known_body(written(tmp_path / "b.json", halpe)).skeleton is SKELETONS["halpe26"]
    assert "bodies differ" in refusal(written(tmp_path / "c.json", entries + halpe))


def yolo_json(x: np.ndarray, number: int | None = 1) -> list:
    frames = []
    for pose in x:
        points = {"x": pose[:, 0].tolist(), "y": pose[:, 1].tolist(), "visible": [0.8] * len(pose)}
        person = {"name": "person", "class": 0, "confidence": 0.9, "box": {}, "keypoints": points}
        frames.append([person | ({} if number is None else {"track_id": number})])
    return frames


@pytest.mark.parametrize("number", [1, None])
def test_yolos_json_is_a_list_of_frames(tmp_path, number):
    frames = yolo_json(FLAT[:, :17], number)
    x = read_clip(written(tmp_path / "a.json", [*frames[:2], [], *frames[2:]]))
    np.testing.assert_allclose(x[0, [0, 1, 3, 4, 5], :, :2], FLAT[:, :17], rtol=1e-6)
    assert not x[0, 2].any() and read_clip(written(tmp_path / "b.json", frames[0])).shape == (1, 1, 17, 3)


@pytest.mark.parametrize("value, reason", [
    (lambda: one_pose([1, 2], [1, 1]), "2 scores"),
    (lambda: kinetics(FLAT) | {"data": [{"frame_index": "one", "skeleton": []}]}, "one"),
    (lambda: one_pose(["a", 2], [1]), "numbers"),
    (lambda: kinetics(FLAT) | {"data": [{"frame_index": 1, "skeleton": []}]}, "no body"),
    (lambda: [alphapose(FLAT)[0] | {"keypoints": [1, 2, 3, 4]}], "has 2 x"),
    (lambda: [alphapose(FLAT)[0], {"image_id": "1.jpg"}], "lacks 'keypoints'"),
    (lambda: [[{"keypoints": {"x": [1, 2], "y": [1]}}]], "has 2 x, 1 y"),
    (lambda: [[{"keypoints": {"x": [1e30], "y": [1]}}]], "beyond"),
    (lambda: [[{"keypoints": 2}], *yolo_json(FLAT)], "frame 0: keypoints of a person must be"),
    (lambda: [[3], *yolo_json(FLAT)], "frame 0: a person must be a table"),
], ids=["scores", "index", "word", "nobody", "points", "entry", "yolo", "far", "keypoints", "person"])
def test_damage_in_such_json_is_named(tmp_path, value, reason):
    assert reason in refusal(written(tmp_path / "a.json", value()))


# ---------------------------------------------------------------------------------------------------------------------
# YOLO's text, hands
# ---------------------------------------------------------------------------------------------------------------------

def yolo_line(pose: np.ndarray, *behind: object, scores: bool = True) -> str:
    points = np.insert(pose, 2, 0.75, 1) if scores else pose
    return " ".join(map(str, [0, 0.5, 0.5, 0.2, 0.6, *points.ravel(), *behind]))


@pytest.mark.parametrize("scores", [True, False])
@pytest.mark.parametrize("behind", [(), (0.91,), (7,), (0.91, 7)], ids=["", "confidence", "id", "both"])
def test_yolos_files_of_pictures_are_one_clip(tmp_path, scores, behind):
    folder = tmp_path / "labels"
    folder.mkdir()
    for t, pose in enumerate(FLAT[:, :17]):
        written(folder / f"video_{[8, 9, 10, 12, 13][t]}.txt", yolo_line(pose, *behind, scores=scores) + "\n")
    x = read_clip(folder)
    np.testing.assert_allclose(x[0, [0, 1, 2, 4, 5], :, :2], FLAT[:, :17], rtol=1e-6)
    assert x.shape == (1, 6, 17, 3) and not x[0, 3].any()
    assert known_body(folder).skeleton is SKELETONS["coco17"]

    # a damaged file is named
    written(folder / "video_10.txt", yolo_line(FLAT[0, :16]))
    assert "video_10.txt" in refusal(folder)


def test_the_ids_of_yolos_text_keep_people_apart(tmp_path):
    one, other = FLAT[:, :17], FLAT[:, :17] * 0.01
    for t in range(5):
        lines = [yolo_line(one[t], 1), yolo_line(other[t], 2)]
        written(tmp_path / f"v_{t}.txt", "\n".join(lines[::-1] if t % 2 else lines))
    np.testing.assert_allclose(read_clip(tmp_path)[..., :2], [one, other], rtol=1e-5)


@pytest.mark.parametrize("mark", [" ", ",", ";", ", "])
def test_a_line_per_frame_of_66_numbers_is_a_hand(tmp_path, mark):
    x = RNG.normal(size=(7, 22, 3)).round(4)
    lines = [mark.join(map(repr, row)) for row in x.reshape(7, -1).tolist()]
    path = written(tmp_path / "skeletons_world.txt", "\n".join(lines))
    np.testing.assert_array_equal(read_clip(path), np.float32(x)[None])
    hand = known_body(path).skeleton
    assert hand.name == "shrec22" and hand == SKELETONS["shrec22"] and hand.joints[5] == "thumb tip"


@pytest.mark.parametrize("text, reason", [
    ("1 2 3\n1 2\n", "line 2: has 2 numbers"), ("1 2 3\n1 a 3\n", "line 2"), ("1 2 3\n\n1 inf 3\n", "line 3"),
    ("1 2 3 4 5 6 7\n", "rows of 7 numbers"), ("read me\n", "first line"), ("", "first line"), ("\0\0", "first line")])
def test_damage_in_rows_is_named(tmp_path, text, reason):
    assert reason in refusal(written(tmp_path / "a.txt", text))
