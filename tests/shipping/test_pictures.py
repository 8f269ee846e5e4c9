"""A clip without depth, given to a network that always had it: predict, a stream and the page say so, others do not."""
import io
import json
from pathlib import Path

import numpy as np
import pytest

from phases.shipping.events import Hearing
from phases.shipping.exported import ExportedModel
from phases.shipping.live import stream
from phases.shipping.onnx_files import sees_pictures
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.page_clips import check_clips
from tests.helpers.shipped import Shipped, ship, stand_in
from tests.recordings.test_survey import swung

SAYS = "has no depth, and the network was trained with depth"
PIXELS = {"unit": "px", "up": "-y"}


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


@pytest.fixture
def clips(tmp_path) -> dict[str, Path]:
    """A body of COCO's joints in a picture, in a picture with scores, and in space; in a picture of the Kinect's."""
    rng = np.random.default_rng(0)
    body = swung(SKELETONS["coco17"], rng) * [1, -1, 1]
    pixels = 200 * body[..., :2] + 400
    arrays = {"flat": pixels, "scored": np.insert(pixels, 2, 0.9, axis=2), "deep": body,
              "own": 200 * swung(SKELETONS["ntu25"], rng)[..., :2] + 400}
    for name, x in arrays.items():
        np.save(tmp_path / f"{name}.npy", x.astype(np.float32))
    return {name: tmp_path / f"{name}.npy" for name in arrays}


@pytest.mark.parametrize("name, recorded, about, is_said", [
    ("ntu25", {}, {"pictures": False}, True),
    ("ntu25", {}, {"pictures": True}, False),
    ("ntu25", {}, {}, True),                            # files from before this was written
    ("ntu25", PIXELS, {}, False),
    ("body16", {}, {}, False),
    ("ntu25", {}, {"pictures": False, "taught": {}}, False),
])
def test_only_a_network_that_has_seen_no_picture_is_reported(tmp_path, clips, capsys, name, recorded, about, is_said):
    model = stand_in(tmp_path / "m.onnx", [], SKELETONS[name], recorded, **about)
    names = [clip for clip in clips if clip != "own" or name == "ntu25"]
    said = check_clips([(model, clips[clip]) for clip in names])
    lines = [line for line in capsys.readouterr().err.splitlines() if SAYS in line]
    reported = [clip for clip in names if any(line.startswith(f"{clips[clip]}: ") for line in lines)]
    assert reported == [clip for clip in names if is_said and clip != "deep"] and len(lines) == len(reported)
    assert [clip for clip, words in zip(names, said, strict=True) if "It has no depth" in words] == reported


def test_each_person_of_a_picture(tmp_path, clips, capsys):
    model = ExportedModel(stand_in(tmp_path / "m.onnx", [], SKELETONS["ntu25"]))
    model.each_person(model.recording(clips["flat"]))
    assert capsys.readouterr().err.count(SAYS) == 1


def test_a_stream_is_told_once(tmp_path, capsys):
    model = ExportedModel(stand_in(tmp_path / "m.onnx", [], SKELETONS["ntu25"]))
    body = np.tile(swung(SKELETONS["ntu25"], np.random.default_rng(0)), (3, 1, 1))
    for frames, times in ((body, 0), (body * [1, 1, 0], 1)):
        lines = "\n".join(json.dumps(frame.tolist()) for frame in frames)
        stream(model, io.StringIO(lines), 30, Hearing(2, 0.8, 0.2, 0.5, 0.4))
        assert capsys.readouterr().err.count(f"standard input: {SAYS}") == times


def test_an_export_tells_whether_it_has_seen_pictures(shipped):
    deep = np.ones((4, 25, 3), np.float32)
    flat = deep * np.float32([1, 1, 0])
    cfg, losing = load_config(["recipe=lite_nano"]), load_config(["recipe=lite_nano", "view.flat=0.25"])
    assert [sees_pictures(cfg, deep), sees_pictures(cfg, flat), sees_pictures(losing, deep)] == [False, True, True]
    about = ExportedModel(shipped.export / "model.int8.onnx").about
    assert about["pictures"] == "false"
