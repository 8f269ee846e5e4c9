"""NaN, null and empty cells mean that a joint is missing, in every reader; infinity stays an error that has a place."""
import json
import pickle

import numpy as np
import pytest

from phases.recordings.clips import Clip, Skip
from phases.recordings.metres import Recorded, as_joints
from phases.recordings.peers import read_ctrgcn, read_pyskl
from phases.recordings.poses import load_pose
from phases.recordings.readers import read_clip
from phases.recordings.settings import Data
from tests.helpers.recordings import OWN, clips, own_folder, phase0

RNG = np.random.default_rng(0)
BODY = RNG.normal(size=(12, 20, 3)).astype(np.float32) + 5  # l v 3
NAN, INF = float("nan"), float("inf")

# frame 2 has no joint 3, frame 4 no z of joint 7, frame 6 no body
HOLES = BODY.copy()
HOLES[2, 3] = np.nan
HOLES[4, 7, 2] = np.nan
HOLES[6] = np.nan
WANT = np.where(np.isnan(HOLES).any(2, keepdims=True), np.float32(0), BODY)[None]


def nulls(x: np.ndarray) -> list:
    """Nested lists with null for NaN."""
    return json.loads(json.dumps(x.tolist()).replace("NaN", "null"))


def read(tmp_path, value, name: str = "clip.json") -> np.ndarray:
    (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return as_joints(load_pose(tmp_path / name))


# ---------------------------------------------------------------------------------------------------------------------
# Arrays
# ---------------------------------------------------------------------------------------------------------------------

def test_nan_in_arrays_is_a_missing_joint(tmp_path):
    raw = own_folder(tmp_path / "raw", "name,label,subject\na,wave,1\nb,sit,3\n", a=HOLES, b=BODY)
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}") == (0, "")
    np.testing.assert_array_equal(clips(tmp_path / "store")["a"], WANT)
    np.testing.assert_array_equal(read_clip(raw / "a.npy"), WANT)

    # packed
    np.savez(tmp_path / "x.npz", data=np.concatenate([HOLES, BODY]), offsets=[0, 12, 24], names=["a", "b"],
             labels=[0, 1], subject=[1, 3])
    (tmp_path / "x.json").write_text('{"skeleton": "kinect20"}')
    assert phase0(*OWN, f"raw={tmp_path / 'x.npz'}", f"data.store={tmp_path / 'packed'}") == (0, "")
    np.testing.assert_array_equal(clips(tmp_path / "packed")["a"], WANT)


def test_a_score_that_is_nan_makes_its_joint_missing():
    x = np.concatenate([BODY, np.ones((12, 20, 1), np.float32)], 2)
    x[5, 4, 3] = np.nan
    x[5, 5, 0] = np.nan
    joints = as_joints(x)[0]
    assert not joints[5, 4:6].any() and joints.any(2).sum() == 12 * 20 - 2

    flat = as_joints(x[..., [0, 1, 3]], Recorded(channels="xys"))[0]
    np.testing.assert_array_equal(flat.any(2), joints.any(2))


def test_nan_in_other_projects_packed_files_is_a_missing_joint(tmp_path):
    pair = np.concatenate([HOLES, HOLES], 1).reshape(1, 12, 120)
    np.savez(tmp_path / "a.npz", x_train=pair, y_train=np.zeros(1), x_test=pair, y_test=np.zeros(1))
    for clip in read_ctrgcn(tmp_path / "a.npz", Data(reader="ctrgcn")):
        np.testing.assert_array_equal(clip.joints, np.concatenate([WANT, WANT]))

    # three people, of whom one has no score in a frame, and another moves least
    keypoint = np.stack([HOLES, BODY[:1] + np.zeros_like(BODY), HOLES + 10])
    score = np.ones((3, 12, 20), np.float32)
    score[0, 8] = np.nan
    found = [{"frame_dir": "a", "label": 0, "keypoint": keypoint, "keypoint_score": score}]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": found}))
    (clip,) = read_pyskl(tmp_path / "a.pkl", Data(reader="pyskl"))
    assert clip.joints.shape == (2, 12, 20, 3) and not clip.joints[0, 8].any()
    clip.joints[0, 8] = WANT[0, 8]
    np.testing.assert_array_equal(clip.joints[0], WANT[0])


# ---------------------------------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("empty", [None, []])
def test_null_in_nested_numbers_is_missing_at_any_depth(tmp_path, empty):
    for value in (HOLES.tolist(), nulls(HOLES), {"frames": nulls(HOLES)}):
        np.testing.assert_array_equal(read(tmp_path, value), WANT)

    # a joint, a frame; of bodies before frames, too
    value = nulls(HOLES)
    value[2][3], value[4][7], value[6] = empty, empty, empty
    np.testing.assert_array_equal(read(tmp_path, value), WANT)
    two = [value, (BODY + 50).tolist()]
    np.testing.assert_array_equal(read(tmp_path, two), np.stack([WANT[0], BODY + 50]))
    frames = [list(pair) for pair in zip(*two, strict=True)]
    np.testing.assert_array_equal(read(tmp_path, frames), np.stack([WANT[0], BODY + 50]))


@pytest.mark.parametrize("key", ["landmarks", "worldLandmarks"])
def test_null_in_landmarks_is_missing(tmp_path, key):
    frames = [{key: [dict(zip("xyz", joint, strict=True)) | {"visibility": 0.9} for joint in frame]}
              for frame in nulls(HOLES)]
    np.testing.assert_allclose(read(tmp_path, frames), WANT, rtol=1e-6)

    # null for a joint, the first one too, and for the frame; a score of null says nothing
    frames[2][key][3], frames[6][key] = None, None
    for joint in frames[9][key]:
        joint["visibility"] = None
    np.testing.assert_allclose(read(tmp_path, frames), WANT, rtol=1e-6)
    frames[2][key][0] = None
    assert not read(tmp_path, [frame[key] for frame in frames])[0, 2, 0].any()


@pytest.mark.parametrize("wrap", [
    lambda numbers: {"people": [{"pose_keypoints_2d": numbers}]}, lambda numbers: {"keypoints": numbers}],
    ids=["OpenPose", "COCO"])
def test_null_in_flat_key_points_is_missing(tmp_path, wrap):
    x = np.insert(HOLES[:, :17, :2], 2, 0.5, axis=2)
    x[3, 5, :2] = np.nan
    want = np.where(np.isnan(x).any(2, keepdims=True), 0, x)[..., :2]
    got = read(tmp_path, [wrap(frame) for frame in nulls(x.reshape(12, -1))])
    np.testing.assert_allclose(got[0, ..., :2], want, rtol=1e-6)

    # the first number too
    x[1, 0] = np.nan
    assert not read(tmp_path, [wrap(frame) for frame in nulls(x.reshape(12, -1))])[0, 1, 0].any()


def test_a_body_of_nothing_but_null_is_nobody(tmp_path):
    none = [[None] * 3] * 20
    frames = [{"people": [{"keypoints": none}, {"keypoints": frame.tolist()}]} for frame in BODY]
    np.testing.assert_array_equal(read(tmp_path, frames), BODY[None])
    with pytest.raises(ValueError, match="no body in any frame"):
        read(tmp_path, [{"people": [{"keypoints": none}]}])


def test_missing_frames_take_no_more_memory_than_the_file(tmp_path):
    with pytest.raises(ValueError, match="at most"):
        read(tmp_path, f"[{json.dumps([[1, 2, 3]] * 20_000)}{', null' * 50_000}]")
    with pytest.raises(ValueError, match="in any frame|at most|bodies differ"):
        read(tmp_path, f"[{json.dumps([[[1, 2, 3]] * 20_000])}, [{'null, ' * 200_000} null]]")


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("word", ["", "nan", "NaN", "null", "None", "NA", "#N/A", "-nan(ind)", "1.#QNAN"])
@pytest.mark.parametrize("first_frame", [False, True])
def test_a_cell_without_a_number_is_a_missing_joint(tmp_path, word, first_frame):
    x = np.roll(HOLES, -6, 0) if first_frame else HOLES
    want = np.roll(WANT, -6, 1) if first_frame else WANT
    rows = [",".join(word if np.isnan(number) else repr(float(number)) for number in frame.ravel()) for frame in x]
    header = ",".join(f"j{v}_{c}" for v in range(20) for c in "xyz")
    np.testing.assert_array_equal(read(tmp_path, "\n".join([header, *rows]), "clip.csv"), want)
    np.testing.assert_array_equal(read(tmp_path, "\n".join(rows), "clip.csv"), want)
    german = [row.replace(",", ";").replace(".", ",") for row in rows]
    np.testing.assert_array_equal(read(tmp_path, "\n".join(german), "clip.csv"), want)


@pytest.mark.parametrize("word", ["nan", "-nan(ind)", "-1.#IND00"])
@pytest.mark.parametrize("mark", [" ", ", "])
def test_nan_in_rows_of_text_is_a_missing_joint(tmp_path, word, mark):
    rows = [mark.join(word if np.isnan(number) else repr(float(number)) for number in frame.ravel())
            for frame in HOLES]
    np.testing.assert_array_equal(read(tmp_path, "\n".join(rows), "clip.txt"), WANT)


def test_nan_among_yolos_key_points_is_a_missing_joint(tmp_path):
    x = np.random.default_rng(0).uniform(0.1, 0.9, (17, 3)).round(3)
    points = [" ".join(map(str, joint)) for joint in x.tolist()]
    points[5] = "nan nan 0"
    (tmp_path / "clip.txt").write_text(f"0 0.5 0.5 0.2 0.4 {' '.join(points)}\n")
    got = read_clip(tmp_path / "clip.txt")[0, 0]
    x[5] = 0
    np.testing.assert_allclose(got[:, :2], x[:, :2], rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# What stays an error
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [INF, -INF, 1e13])
def test_infinity_beside_nan_names_file_and_frame(tmp_path, number):
    x = HOLES.copy()
    x[5, 1, 1] = number
    np.save(tmp_path / "clip.npy", x)
    (tmp_path / "clip.json").write_text(json.dumps(x.tolist()))
    frames = [[dict(zip("xyz", joint, strict=True)) for joint in frame] for frame in x.tolist()]
    (tmp_path / "marks.json").write_text(json.dumps(frames))
    rows = [",".join(map(repr, frame.ravel().tolist())) for frame in x]
    (tmp_path / "clip.csv").write_text("\n".join(rows))
    for name in ("clip.npy", "clip.json", "marks.json", "clip.csv"):
        with pytest.raises(ValueError, match=f"{name}: frame 5: .*not finite"):
            read_clip(tmp_path / name)


def test_an_infinite_number_costs_its_clip_of_a_pickle(tmp_path):
    x = BODY[None].copy()
    x[0, 5, 1, 1] = INF
    found = [{"frame_dir": name, "label": 0, "keypoint": joints} for name, joints in (("a", x), ("b", HOLES[None]))]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": found}))
    skip, clip = read_pyskl(tmp_path / "a.pkl", Data(reader="pyskl"))
    assert isinstance(skip, Skip) and skip.file == "a.pkl:a" and "frame 5: a coordinate is not finite" in skip.reason
    assert isinstance(clip, Clip)
