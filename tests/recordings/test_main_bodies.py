"""Who is meant: the most active body is the main one, wherever a file lists it."""
import json

import numpy as np
import pytest

from phases.recordings.arrays import read_arrays
from phases.recordings.clips import RAPID, Clip, activity, main_bodies, main_two
from phases.recordings.settings import Data
from phases.shipping.exported import ExportedModel
from phases.shipping.newest import Newest
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose
from tests.helpers.own_clips import class_folders
from tests.helpers.shipped import stand_in


def moving(speed: float, at: float = 0.0) -> np.ndarray:
    """(12, 17, 3): a body whose left arm swings."""
    body = SKELETONS["coco17"]
    x = np.tile(rest_pose(body) + [at, 0, 3], (12, 1, 1)).astype(np.float32)
    x[:, list(body.regions["left_arm"]), 1] += speed * np.sin(np.arange(12))[:, None]
    return x


STILL, WAVING, BUSY = moving(0, 2), moving(0.3), moving(0.5, 4)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> ExportedModel:
    """A network that sees one body."""
    path = tmp_path_factory.mktemp("network") / "m.onnx"
    return ExportedModel(stand_in(path, ["view.bodies=1"], SKELETONS["coco17"]))


# ---------------------------------------------------------------------------------------------------------------------
# The main bodies
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("people, main", [
    ([STILL, WAVING], [1, 0]), ([WAVING, STILL], [0, 1]), ([STILL, STILL, WAVING, STILL, STILL], [2, 0]),
    ([STILL, WAVING, BUSY], [2, 1]), ([WAVING], [0]), ([WAVING, 1.1 * WAVING], [0, 1])])
def test_the_most_active_body_is_the_main_one(people, main):
    assert main_bodies(np.stack(people)) == main


def test_a_passer_by_is_not_the_main_body():
    passing = moving(3)
    passing[4:] = 0
    assert main_bodies(np.stack([passing, STILL, WAVING])) == [2, 1]


@pytest.mark.parametrize("noise", [0.01, 0.03])
@pytest.mark.parametrize("every", [1, 3])
def test_a_sensor_s_noise_is_no_activity(data_folder, noise, every):
    """Who stands by, seen with noise, was taken for the most active one beside real people who act."""
    with np.load(data_folder / "utd-mhad.npz") as z:
        clips = [clip[::every] for clip in np.split(z["data"], z["offsets"][1:-1])[::20]]
    rng = np.random.default_rng(0)
    for clip in clips:
        bystander = clip[[0]] + rng.normal(0, noise, clip.shape).astype(np.float32)
        assert main_bodies(np.stack([bystander, clip])) == [1, 0]
        assert main_bodies(np.stack([clip, bystander, bystander])) == [0, 1]


def test_activity_is_in_the_clip_s_unit_and_knows_missing_joints():
    """Of a joint that goes to and fro by 1 it is the root of one half; noise is 0; joints never seen do not count."""
    rng = np.random.default_rng(0)
    x = np.zeros((3, 1000, 2, 3))
    x[:, :, 0] = 5
    x[0, :, 0, 0] += np.sin(np.arange(1000) / 20)
    x[1, :, 0] += rng.normal(0, 0.3, (1000, 3))
    x[2, :, 0, 0] += np.sin(np.arange(1000) * 3)  # too fast for its frames: all steps
    x[0, ::7] = 0
    swing, shaken, rapid = activity(x)
    assert abs(swing - 0.5 ** 0.5) < 0.01 and shaken < 0.13
    np.testing.assert_allclose(rapid, (RAPID * 0.5) ** 0.5, rtol=0.01)
    np.testing.assert_allclose(activity(1000 * x), 1000 * activity(x))


# ---------------------------------------------------------------------------------------------------------------------
# In every reader
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("people, taken", [([STILL, WAVING], 2), ([STILL, STILL, BUSY, STILL, WAVING], 3)])
@pytest.mark.parametrize("form", ["array", "frames"])
def test_predict_takes_the_most_active_and_says_whom(model, tmp_path, capsys, people, taken, form):
    """A bystander who is listed first was named."""
    crowd = np.stack(people)
    if form == "array":
        path = tmp_path / "x.json"
        path.write_text(json.dumps(crowd.tolist()))
    else:
        path = tmp_path / "x.json"
        frames = [{"people": [{"joints": body.tolist()} for body in frame]} for frame in np.moveaxis(crowd, 0, 1)]
        path.write_text(json.dumps([frame["people"] for frame in frames]))
    np.testing.assert_allclose(model.read(path)[0], people[taken - 1], atol=1e-5)
    said = f"shows {len(people)} people, the network sees 1: number {taken} in the order of the file, the most active"
    assert said in capsys.readouterr().err


def test_phase_0_and_a_stream_take_the_same_body(model, tmp_path):
    crowd = np.stack([STILL, WAVING])
    class_folders(tmp_path / "set", a=[crowd], b=[crowd])
    stored = [clip for clip in read_arrays(tmp_path / "set", Data(name="x", reader="arrays", num_classes=2))
              if isinstance(clip, Clip)]
    np.testing.assert_array_equal(stored[0].joints, main_two(crowd))
    np.testing.assert_array_equal(stored[0].joints[0], WAVING)

    # a stream, also if somebody is seen for a while only
    newest = Newest(model)
    for t in range(12):
        people = [STILL[t], WAVING[t]] if t % 3 else [WAVING[t]]
        newest.add(t / 30, np.stack(people))
    np.testing.assert_array_equal(newest.between(0, 1)[0][0], WAVING)


def test_noise_misleads_neither_a_file_nor_a_stream(model, tmp_path):
    trembling = moving(0, 2) + np.random.default_rng(0).normal(0, 0.03, STILL.shape).astype(np.float32)
    slow = np.tile(STILL[:1], (60, 1, 1))
    slow[:, :, 1] += 0.3 * np.sin(np.arange(60) / 10)[:, None]
    crowd = np.stack([np.tile(trembling, (5, 1, 1)), slow]).astype(np.float32)
    np.save(tmp_path / "x.npy", crowd)
    np.testing.assert_array_equal(model.read(tmp_path / "x.npy")[0], slow)

    newest = Newest(model)
    for t in range(60):
        newest.add(t / 30, crowd[:, t])
    np.testing.assert_array_equal(newest.between(0, 2)[0][0], slow)
