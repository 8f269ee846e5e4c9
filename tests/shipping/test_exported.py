"""An exported file in use: its answer, and metadata that are damaged."""
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from phases.common.files import ROOT
from phases.shipping.exported import NETWORKS, ExportedModel
from phases.training.clip_store import ClipStore
from skeletons import SKELETONS, retarget_tables
from tests.helpers.shipped import Shipped, recorded, ship


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


def metadata(**change) -> dict[str, str]:
    """What an exported file says of itself, with some of it changed."""
    skeleton = SKELETONS["ntu25"]
    view = {"frames": 8, "bodies": 1, "sampling": "uniform", "heading": True, "trunk_scale": True, "extent": False}
    about = {"skeleton": skeleton.to_dict() | {"centre": skeleton.centre, "trunk": skeleton.trunk},
             "classes": ["a", "b"], "view": view, "recorded": {},
             "threshold": 0.5, "fps": 30.0, "length": 40.0,
             "retarget": retarget_tables(skeleton, [SKELETONS["coco17"]])}
    for key, value in change.items():
        part, _, field = key.partition("__")
        about[part] = about[part] | {field: value} if field else value
    return {k: json.dumps(v) for k, v in about.items()}


def understood(about: dict[str, str]) -> ExportedModel:
    """A model of two classes whose network is a stand-in."""
    model = object.__new__(ExportedModel)
    answer = [np.float32([0.3, 0.7]), np.zeros(4, np.float32), np.float32(0.5)]
    model.session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(shape=["bodies", "frames", 25, 3])],
                                    run=lambda names, feed: answer)
    model.read_metadata(Path("model.onnx"), about)
    return model


@pytest.mark.parametrize("change", [
    {"classes": ["a"]}, {"classes": [1, 2]}, {"classes": 3}, {"classes": {}}, {"view": []}, {"view__frames": 0},
    {"view__frames": "9"}, {"view__bodies": 3}, {"threshold": "high"}, {"threshold": 1.5}, {"threshold": float("nan")},
    {"fps": 0}, {"fps": "30 Hz"}, {"length": float("nan")},
    {"skeleton__joints": ["a"]}, {"skeleton__trunk": [[99], [1], [2], [3]]},
    {"skeleton__trunk": 5}, {"skeleton__name": None}, {"recorded__unit": "mile", "recorded__up": "x"},
    {"recorded__colour": 1}, {"recorded__reference": [99]}, {"retarget": {"coco17": {"joints": 10**9, "means": []}}},
    {"retarget": [1]}, {"retarget__coco17": {"joints": 17, "trunk": [99] * 4, "means": [[0]] * 25}},
    {"retarget__coco17": {"joints": 17, "trunk": None, "means": [[17]] * 25}},
    {"retarget__coco17": {"joints": 17, "trunk": [0], "means": [[0]] * 25}}],
    ids=lambda change: ", ".join(change))
def test_metadata_that_does_not_fit_the_network_is_one_line(change):
    understood(metadata())
    with pytest.raises(ValueError, match="model.onnx: its metadata are damaged") as e:
        understood(metadata(**change))
    assert "\n" not in str(e.value)


def test_metadata_that_is_missing_or_no_json_is_one_line():
    for about in ({}, metadata() | {"view": "{"}, metadata() | {"skeleton": "[" * 100_000}):
        with pytest.raises(ValueError, match="model.onnx: its metadata are damaged"):
            understood(about)


def test_a_file_tells_how_long_training_clips_are(shipped):
    store = ClipStore(shipped.folder / "stores" / "tiny")
    model = ExportedModel(shipped.export / "model.onnx")
    assert model.length == np.median(store.clips["length"][store.split("xsub")[0]]) and model.fps == 30


def test_a_clip_is_known_from_the_threshold_on():
    model = understood(metadata())
    answer = model.answer(np.zeros((1, 2, 25, 3)))
    assert answer.likeness == 0.5 and model.is_known(answer)
    np.testing.assert_array_equal(model(np.zeros((1, 2, 25, 3))), answer.probabilities)
    assert not understood(metadata(threshold=0.6)).is_known(answer)
    assert model.top(np.zeros((1, 2, 25, 3)), 1) == [("b", pytest.approx(0.7))]


@pytest.mark.parametrize("path", sorted(NETWORKS.glob("*.onnx")), ids=lambda path: path.stem)
def test_every_network_that_comes_along_opens(path):
    model = ExportedModel(path)
    assert model.about["recipe"] and len(model.classes) > 1


def test_five_lines_of_onnxruntime_are_enough(shipped, tmp_path, monkeypatch, capsys):
    """The example of the README, in a folder with a file and a clip of the names that it gives."""
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert len(example.splitlines()) == 5
    model = ExportedModel(shipped.export / "model.onnx")
    shutil.copyfile(shipped.export / "model.onnx", tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)

    # a clip that it was trained for, and noise
    store = ClipStore(shipped.folder / "stores" / "tiny")
    clips = [recorded(store, i) for i in range(12)] + [np.random.default_rng(0).normal(0, 9, (1, 40, 25, 3))]
    said = []
    for clip in clips:
        np.save("clip.npy", np.float32(clip[0]))
        exec(example, {})
        said.append(capsys.readouterr().out.strip())
        answer = model.answer(clip[:1])
        assert said[-1] == (model.top(clip[:1], 1)[0][0] if model.is_known(answer) else "none of these")
    assert len(set(said)) > 1
