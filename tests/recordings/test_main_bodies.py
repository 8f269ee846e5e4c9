"""Who is meant: the most active body is the main one, wherever a file lists it."""
import json

import numpy as np
import pytest

from phases.recordings.arrays import read_arrays
from phases.recordings.clips import Clip, main_bodies, main_two
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
