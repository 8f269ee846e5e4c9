"""The view in numpy, which an exported file is used with, is the view of the training; damaged metadata is one line."""
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phases.shipping.exported import ExportedModel
from phases.shipping.onnx_files import description
from phases.shipping.view_numpy import clip_view
from phases.training.clip_store import ClipStore
from phases.training.networks import build_model
from phases.training.recipe import load_config
from phases.training.view import ClipView
from skeletons import SKELETONS, retarget_tables
from tests.helpers.clip_stores import write_store
from tests.helpers.shipped import recorded


@given(st.sampled_from(["uniform", "crop", "stretch"]), st.integers(1, 40), st.sampled_from([1, 2]),
       st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.3]), st.booleans(), st.booleans(), st.booleans())
def test_the_view_in_numpy_is_the_view(tmp_path_factory, sampling, T, M, smooth, missing, heading, trunk, extent):
    folder = tmp_path_factory.getbasetemp() / "view-store"
    if not folder.exists():
        write_store(folder, clips=12)

    # clips in which some joints are missing
    store = ClipStore(folder)
    lost = np.random.default_rng(T).random(store.frames.shape[:2])[..., None] < missing
    store.frames = np.where(lost, 0, store.frames)

    # the view of the training
    switches = {"heading": heading, "trunk_scale": trunk, "extent": extent}
    cfg = load_config(["recipe=lite_nano", f"view.frames={T}", f"view.sampling={sampling}", f"view.bodies={M}",
                       f"view.smooth={smooth}", *(f"view.{k}={str(v).lower()}" for k, v in switches.items())])
    want = ClipView(store, cfg.view)(torch.arange(12)).numpy()

    # from the metadata of a file
    model = build_model(cfg, store.skeleton, len(store.classes))
    about = description(cfg, store.skeleton, store.classes, model, False, cfg.view.frames)
    for i in range(12):
        got = clip_view(recorded(store, i), about["view"], about["skeleton"])
        np.testing.assert_allclose(got, want[i], rtol=1e-4, atol=1e-5)


def metadata(**change) -> dict[str, str]:
    """What an exported file says of itself, with some of it changed."""
    skeleton = SKELETONS["ntu25"]
    view = {"frames": 8, "bodies": 1, "sampling": "uniform", "heading": True, "trunk_scale": True, "extent": False}
    about = {"skeleton": skeleton.to_dict() | {"centre": skeleton.centre, "trunk": skeleton.trunk},
             "classes": ["a", "b"], "view": view, "recorded": {},
             "retarget": retarget_tables(skeleton, [SKELETONS["coco17"]])}
    for key, value in change.items():
        part, _, field = key.partition("__")
        about[part] = about[part] | {field: value} if field else value
    return {k: json.dumps(v) for k, v in about.items()}


def understood(about: dict[str, str]) -> ExportedModel:
    """A model of two classes whose network is a stand-in."""
    model = object.__new__(ExportedModel)
    model.session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(shape=["batch", 1, 8, 25, 3])],
                                    run=lambda names, feed: [np.zeros((1, 2), np.float32)])
    model.read_metadata(Path("model.onnx"), about)
    return model


@pytest.mark.parametrize("change", [
    {"classes": ["a"]}, {"classes": [1, 2]}, {"classes": 3}, {"classes": {}}, {"view": []}, {"view__frames": 9},
    {"view__bodies": 2}, {"view__smooth": 1e9}, {"view__sampling": "all"}, {"view__smooth": float("nan")},
    {"skeleton__joints": ["a"]}, {"skeleton__trunk": [[99], [1], [2], [3]]}, {"skeleton__centre": [25]},
    {"skeleton__trunk": 5}, {"skeleton__name": None}, {"recorded__unit": "mile", "recorded__up": "x"},
    {"recorded__colour": 1}, {"recorded__reference": [99]}, {"retarget": {"coco17": {"joints": 10**9, "means": []}}},
    {"retarget": [1]}, {"retarget__coco17": {"joints": 17, "trunk": [99] * 4, "means": [[0]] * 25}}],
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
