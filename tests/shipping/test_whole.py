"""An exported file's graph: its view is the training's, its answer the network's, for clips of any length."""
import json

import numpy as np
import onnx
import pytest
import torch

from phases.shipping.declining import SURE, Declining
from phases.shipping.deploy import deploy
from phases.shipping.onnx_files import network_graph
from phases.shipping.verify import Answers, RecordedClips, answers_of, network_outputs, parity, session
from phases.shipping.whole import view_graph, whole_graph
from phases.training.clip_store import ClipStore
from phases.training.inference_view import InferenceView
from phases.training.networks import build_model
from phases.training.recipe import load_config
from phases.training.view import ClipView, rest_of
from tests.helpers.clip_stores import write_store
from tests.helpers.networks import stirred
from tests.helpers.shipped import ship

VIEWS = [
    ["view.frames=12", "view.bodies=2"],
    ["view.frames=9", "view.sampling=stretch", "view.smooth=0.7", "view.heading=true", "view.extent=true"],
    ["view.frames=40", "view.trunk_scale=true", "view.heading=true"],
    ["view.frames=16", "view.bodies=2", "view.sampling=crop", "view.extent=true"],
]


@pytest.fixture(scope="module")
def gappy(tmp_path_factory) -> ClipStore:
    """Clips with missing joints, spikes, a joint that is never seen, frames without a body, empty ends."""
    folder = write_store(tmp_path_factory.mktemp("stores") / "gappy", clips=20)
    rng = np.random.default_rng(0)
    x = np.load(folder / "frames.npy")
    with np.load(folder / "clips.npz") as z:
        first, length = z["offset"][:, 0], z["length"]

    # spikes, then joints and frames that are missing
    spikes = rng.random(x.shape[:2]) < 0.02
    x[spikes] += rng.normal(0, 0.4, (spikes.sum(), 3))
    x[rng.random(x.shape[:2]) < 0.2] = 0
    x[rng.random(len(x)) < 0.1] = 0
    for row, frames in zip(first[::3], length[::3], strict=True):
        x[row:row + frames, [7, 21]] = 0
        x[row:row + 2] = x[row + frames - 3:row + frames] = 0
    np.save(folder / "frames.npy", x)
    return ClipStore(folder)


def view_of(store: ClipStore, words: list[str]) -> InferenceView:
    cfg = load_config(["recipe=lite_nano", *words]).view
    return InferenceView(cfg, store.skeleton, rest_of(store, None)).eval()


@pytest.mark.parametrize("opset,words", [(18, VIEWS[0]), (18, VIEWS[1]), *((13, words) for words in VIEWS)])
def test_the_view_of_a_file_is_the_view_of_the_training(gappy, opset, words):
    cfg = load_config(["recipe=lite_nano", *words]).view
    run = session(view_graph(view_of(gappy, words), opset))
    every = np.arange(len(gappy))
    want = ClipView(gappy, cfg)(torch.from_numpy(every)).numpy()
    for clip, expected in zip(RecordedClips(gappy, every), want, strict=True):
        got = run.run(["clip"], {"joints": clip})[0]
        np.testing.assert_allclose(got[0], expected, atol=2e-6)


def test_a_file_answers_for_any_number_of_frames_and_bodies(gappy):
    words = ["view.frames=12", "view.bodies=2"]
    view = view_of(gappy, words)
    model = stirred(build_model(load_config(["recipe=lite_nano", *words]), gappy.skeleton, 3))
    C = len(model.head.gate)
    scale = np.linspace(1, 3, C, dtype=np.float32)
    declining = Declining(scale, np.eye(3, C, dtype=np.float32), 1.7, 0.5)  # along the first three features
    network = network_graph(deploy(model), torch.randn(2, 2, 12, 25, 3), 18)
    run = session(whole_graph(view_graph(view, 18), network, declining))
    assert [o.name for o in run.get_outputs()] == ["probabilities", "features", "likeness"]

    rng = np.random.default_rng(1)
    for M, L in ((1, 1), (1, 2), (2, 11), (3, 12), (1, 13), (2, 500)):
        x = rng.normal(0, 0.4, (M, L, 25, 3)).astype(np.float32)
        x[rng.random(x.shape[:3]) < 0.2] = np.nan
        probabilities, features, likeness = run.run(None, {"joints": x})

        # the network on what the view makes of it; its features by hand
        logits, pooled = network_outputs(model, False, [view(torch.from_numpy(x))[None]])
        np.testing.assert_allclose(probabilities, (logits[0] / 1.7).softmax(0), atol=1e-5)
        np.testing.assert_allclose(features, pooled[0], rtol=1e-4, atol=1e-5)
        scaled = pooled[0] * torch.from_numpy(scale)
        cosine = float((scaled / scaled.norm())[:3].max())
        assert likeness == pytest.approx(cosine + SURE * float(logits[0].softmax(0).max()), abs=1e-5)

        # zeros are missing as NaN is, and a third body changes nothing
        again = run.run(["features"], {"joints": np.nan_to_num(x)[:2]})[0]
        np.testing.assert_array_equal(again, features)


def test_the_constants_that_decline_have_their_names(tmp_path_factory):
    model = onnx.load(ship(tmp_path_factory.getbasetemp()).export / "model.onnx")
    constants = {i.name: list(i.dims) for i in model.graph.initializer}
    about = {p.key: json.loads(p.value) for p in model.metadata_props if p.key in ("threshold", "temperature")}
    assert constants["temperature"] == [] and constants["class_means"][0] == 3
    assert -1 <= about["threshold"] <= 1 + SURE and about["temperature"] > 0


def test_a_file_that_differs_from_its_network_is_a_fault():
    answers = Answers(np.full((4, 3), 1 / 3, np.float32), np.ones((4, 5), np.float32), np.ones(4, np.float32))
    assert parity(answers, answers) == 0
    for changed in (answers._replace(probabilities=answers.probabilities + 0.01),
                    answers._replace(features=answers.features + 0.01),
                    answers._replace(likeness=answers.likeness - 0.01)):
        with pytest.raises(ValueError, match="fault of the export"):
            parity(answers, changed)


def test_recorded_clips_go_through_one_by_one(gappy):
    class Run:
        def run(self, names, feed):
            assert feed["joints"].dtype == np.float32
            joints = feed["joints"]
            return joints.mean((0, 1, 2)), joints.std((0, 1, 2)), joints.max()

    found = answers_of(Run(), RecordedClips(gappy, np.array([4, 2])))
    want = RecordedClips(gappy, np.array([2]))[0]
    np.testing.assert_array_equal(found.probabilities[1], want.mean((0, 1, 2)))
    assert found.likeness[1] == want.max() and found.features.shape == (2, 3)
    assert want.shape[1] == gappy.clips["length"][2]
