"""What a file of one clip is: by its format, by skeleton.json, by the network, by a guess, in this order."""
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from phases.recordings.described import Described, described, has_score
from phases.recordings.metres import Recorded
from phases.shipping.exported import ExportedModel
from phases.show import clip_of_file
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose
from tests.helpers.own_clips import write_openpose, write_table
from tests.helpers.shipped import stand_in, utd_stand_in


def upright(name: str) -> np.ndarray:
    """(V, 3) metres: the rest pose with the shoulders above the hips, whatever joint is the root."""
    rest = rest_pose(SKELETONS[name])
    shoulders, hips = (rest[[joints[0] for joints in SKELETONS[name].trunk[at:at + 2]], 1].mean() for at in (0, 2))
    return rest if shoulders > hips else rest * [1, -1, 1]


def in_pixels(name: str, frames: int = 12) -> np.ndarray:
    """(L, V, 2): a body that walks and swings its left arm, in the pixels of a picture, y down."""
    body = SKELETONS[name]
    x = np.tile(upright(name)[:, :2], (frames, 1, 1)) + [0, 1]
    t = np.arange(frames)[:, None]
    x[:, list(body.regions["left_arm"])] += 0.1 * np.stack([np.sin(t), np.cos(t)], 2)
    x[..., 0] += 0.02 * t
    return x * [-300, -300] + [640, 600]


def scored(flat: np.ndarray) -> np.ndarray:
    """(L, V, x y score)"""
    score = np.random.default_rng(0).uniform(0.5, 1, flat.shape[:2])
    return np.concatenate([flat, score[..., None]], 2)


@pytest.fixture(scope="module")
def utd(data_folder, tmp_path_factory) -> ExportedModel:
    return ExportedModel(utd_stand_in(tmp_path_factory.mktemp("network") / "utd_mhad.onnx", data_folder))


# ---------------------------------------------------------------------------------------------------------------------
# The format
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["openpose25", "openpose18"])
def test_a_folder_of_openpose_has_openposes_joints(tmp_path, utd, capsys, name):
    """25 joints were read as ntu25's: "basketball shoot 89 %"."""
    flat = in_pixels(name)
    write_openpose(tmp_path / "clip", flat)
    joints, recorded = utd.read_recorded(tmp_path / "clip")
    assert f"joints of {name} (px, -y up) are turned" in capsys.readouterr().err
    assert (recorded.unit, recorded.up) == ("px", "-y") and not joints[..., 2].any()

    # the left wrist is where it was
    wrist, ours = (list(names).index("left wrist") for names in (SKELETONS[name].joints, utd.skeleton["joints"]))
    path = flat[:, wrist] - flat[0, wrist]
    scale = np.linalg.norm(path[-1]) / np.linalg.norm(joints[0, -1, ours] - joints[0, 0, ours])
    np.testing.assert_allclose(scale * (joints[0, :, ours, :2] - joints[0, 0, ours, :2]), -path, atol=0.01)


def test_the_format_wins_over_skeleton_json(tmp_path):
    write_openpose(tmp_path / "clip", in_pixels("openpose25"))
    (tmp_path / "skeleton.json").write_text('{"skeleton": "ntu25"}')
    found = described(tmp_path / "clip")
    assert found.skeleton_of(25) == "openpose25" and found.skeleton_of(15) == "ntu25"


@pytest.mark.parametrize("value, kind", [
    ([{"image_id": 1, "keypoints": [1, 2, 0.5] * 17}], "coco"), ([{"keypoints": [[1, 2]] * 17}], ""),
    ({"keypoints": [{"x": 1, "y": 2}] * 17}, ""), ({"people": [{"pose_keypoints_2d": [1, 2, 0.5] * 25}]}, "openpose"),
    ({"people": [{"pose_keypoints_3d": [1, 2, 3, 0.5] * 25}]}, "")])
def test_only_rows_of_x_y_score_are_a_pictures(tmp_path, value, kind):
    (tmp_path / "x.json").write_text(json.dumps(value))
    found = described(tmp_path / "x.json")
    assert found.key_points == kind and (found.recorded == Recorded("px", "-y")) == bool(kind)


def test_a_table_that_names_its_joints_has_their_skeleton(tmp_path, utd, capsys):
    other = SKELETONS["h36m17"]
    names = [f"{joint}_{axis}" for joint in other.joints for axis in "xy"]
    write_table(tmp_path / "x.csv", names, in_pixels("h36m17"))
    assert described(tmp_path / "x.csv").skeleton == "h36m17"
    assert described(tmp_path / "x.csv", other.joints) == Described(None), "a network's own joints are its own"
    utd.read(tmp_path / "x.csv")
    assert "joints of h36m17 (px, -y up)" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# skeleton.json
# ---------------------------------------------------------------------------------------------------------------------

def test_the_nearest_skeleton_json_up_to_the_root_counts(tmp_path):
    clip = tmp_path / "set" / "train" / "wave" / "0.npy"
    clip.parent.mkdir(parents=True)
    np.save(clip, np.ones((4, 25, 3)))
    assert described(clip).name is None

    # from the root to the class; labels.csv marks the root
    for folder, name in (("..", "kinect20"), (".", "openpose25"), ("train", "coco17"), ("train/wave", "h36m17")):
        (tmp_path / "set" / folder / "skeleton.json").write_text(json.dumps({"skeleton": name}))
        assert described(clip).name == (None if folder == ".." else name)
    (tmp_path / "set" / "train" / "wave" / "skeleton.json").unlink()
    (tmp_path / "set" / "train" / "wave" / "labels.csv").write_text("name,label\n")
    assert described(clip).name is None


def test_a_class_folder_has_the_skeleton_of_its_data_set(tmp_path, utd, capsys):
    (tmp_path / "wave").mkdir()
    np.save(tmp_path / "wave" / "0.npy", scored(in_pixels("h36m17")))
    (tmp_path / "skeleton.json").write_text('{"skeleton": "h36m17"}')
    utd.read(tmp_path / "wave" / "0.npy")
    assert "joints of h36m17 (px, -y up) are turned into the network's utd20\n" in capsys.readouterr().err


def test_joints_of_a_data_set_count_not_their_title(tmp_path, capsys):
    """The skeleton is spelled out at the root, with a known one's title or the network's."""
    kinect, h36m = SKELETONS["kinect20"], SKELETONS["h36m17"]
    model = ExportedModel(stand_in(tmp_path / "m.onnx", [], dataclasses.replace(kinect, name="mine")))
    clip = tmp_path / "wave" / "0.npy"
    clip.parent.mkdir()

    # the network's own joints
    np.save(clip, walking("kinect20"))
    (tmp_path / "skeleton.json").write_text(json.dumps({"skeleton": kinect.to_dict() | {"name": "ntu25"}}))
    np.testing.assert_allclose(model.read(clip)[0], walking("kinect20"), atol=1e-5)
    assert "are turned" not in capsys.readouterr().err

    # others
    np.save(clip, walking("h36m17"))
    (tmp_path / "skeleton.json").write_text(json.dumps({"skeleton": h36m.to_dict() | {"name": "mine"}}))
    joints = model.read(clip)[0]
    assert "joints of mine of other joints (m, y up) are turned into the network's mine" in capsys.readouterr().err
    ours, theirs = (body.joints.index("left wrist") for body in (kinect, h36m))
    np.testing.assert_allclose(joints[:, ours], walking("h36m17")[:, theirs], atol=1e-5)
    assert clip_of_file(clip).skeleton.joints == h36m.joints


# ---------------------------------------------------------------------------------------------------------------------
# Scores
# ---------------------------------------------------------------------------------------------------------------------

def test_pixels_with_scores_are_no_centimetres(tmp_path, utd, capsys):
    """The score was the depth, and the body 3 metres large."""
    flat = in_pixels("coco17")
    np.save(tmp_path / "scored.npy", scored(flat))
    np.save(tmp_path / "plain.npy", flat)
    assert has_score(read := np.float32(scored(flat))[None]) and not has_score(read * [1, 1, 0])
    ours, theirs = (utd.read(tmp_path / f"{name}.npy") for name in ("scored", "plain"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert capsys.readouterr().err.count("joints of coco17 (px, -y up)") == 2


def test_a_network_in_metres_reads_no_score_as_its_depth(tmp_path, capsys):
    model = ExportedModel(stand_in(tmp_path / "m.onnx", [], SKELETONS["coco17"]))
    np.save(tmp_path / "x.npy", scored(in_pixels("coco17")))
    joints, recorded = model.read_recorded(tmp_path / "x.npy")
    assert (recorded.unit, recorded.up) == ("px", "-y") and not joints[..., 2].any()
    assert "third number of a joint is a score" in capsys.readouterr().err


def test_a_network_of_scores_keeps_the_depth_of_others(tmp_path):
    how = {"unit": "px", "up": "-y", "channels": "xys"}
    model = ExportedModel(stand_in(tmp_path / "m.onnx", [], SKELETONS["kinect20"], how))
    solid = np.tile(upright("mediapipe33") + [0, 0, 3], (4, 1, 1))
    np.save(tmp_path / "other.npy", solid)
    np.save(tmp_path / "own.npy", scored(in_pixels("kinect20")))
    assert model.read(tmp_path / "other.npy")[..., 2].any() and not model.read(tmp_path / "own.npy")[..., 2].any()


# ---------------------------------------------------------------------------------------------------------------------
# A guess
# ---------------------------------------------------------------------------------------------------------------------

def walking(name: str) -> np.ndarray:
    """(L, V, 3) metres: a body of which every bone turns and keeps its length."""
    body = SKELETONS[name]
    rest = upright(name)
    x = np.tile(rest, (30, 1, 1))
    for v in np.argsort(body.hops[body.root], kind="stable"):
        parent = body.parents[v]
        angle = 0.5 * np.sin(np.arange(30) / 5 + v)
        bone = rest[v] - rest[parent]
        turned = [bone[0] * np.cos(angle) - bone[1] * np.sin(angle), bone[0] * np.sin(angle) + bone[1] * np.cos(angle)]
        x[:, v] = x[:, parent] + np.stack([*turned, np.full(30, bone[2])], 1)
    return x + [0, 0, 3]


@pytest.mark.parametrize("name", ["ntu25", "openpose25", "coco17", "h36m17"])
def test_of_equal_counts_the_bones_decide_and_it_is_said(tmp_path, utd, capsys, name):
    bystander = np.tile(upright(name) + [2, 0, 3], (30, 1, 1))
    np.save(tmp_path / "x.npy", np.stack([bystander, walking(name)]))
    utd.read(tmp_path / "x.npy")
    said = capsys.readouterr().err
    assert f"joints of {name} (m, y up)" in said and "by the lengths of their bones; skeleton.json" in said


def test_a_skeleton_that_cannot_be_turned_is_no_other(tmp_path):
    """A COCO network took ntu25's clip for openpose25's, because that can be turned and has 25 joints, too."""
    model = ExportedModel(stand_in(tmp_path / "m.onnx", [], SKELETONS["coco17"]))
    np.save(tmp_path / "x.npy", walking("ntu25"))
    with pytest.raises(ValueError, match="those of ntu25, .* coco17; if they are of openpose25, .* skeleton.json"):
        model.read(Path(tmp_path / "x.npy"))
