"""Networks of any of the four streams: they learn, and their deploy form and its file give the same logits."""
import itertools
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from last import STREAMS
from phases.shipping.deploy import deploy
from phases.shipping.onnx_files import network_graph
from phases.shipping.verify import logits_of, session
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.networks import joints, stirred

SUBSETS = [names for count in range(1, 5) for names in itertools.combinations(STREAMS, count)]
SMALL = {"lite_nano": ["view.frames=8"], "last_e": ["view.frames=8", "model.width=16"]}
EXPORTED = ("bone_velocity", "velocity", "bone")  # in an order of its own


def network(recipe: str, streams: tuple[str, ...]) -> torch.nn.Module:
    torch.manual_seed(0)
    cfg = load_config([f"recipe={recipe}", *SMALL[recipe], f"model.streams={json.dumps(streams)}"])
    return build_model(cfg, SKELETONS["kinect20"], 5)


@pytest.mark.parametrize("recipe", SMALL)
@pytest.mark.parametrize("streams", SUBSETS, ids="+".join)
def test_steps_move_the_weights_and_the_deploy_form_agrees(recipe, streams):
    model = network(recipe, streams)
    assert model.streams == streams
    x = joints(4, 1, 8, 20) + 0.1
    label = torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    # two steps: a gate that starts closed opens in the first
    start = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):
        optimizer.zero_grad()
        found = model(x)
        logits = found if torch.is_tensor(found) else found[0]  # LAST-E gives more in training
        F.cross_entropy(logits, label).backward()
        optimizer.step()
    still = [name for (name, p), before in zip(model.named_parameters(), start, strict=True) if torch.equal(p, before)]
    assert len(still) <= 1 or len(streams) == 1  # a gate's few units may all be off; a fusion of one has no choice

    stirred(model)
    with torch.no_grad():
        want = model(x)
    torch.testing.assert_close(deploy(model)(x)[0], want, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recipe", SMALL)
def test_the_exported_file_gives_the_logits(recipe):
    model = stirred(network(recipe, EXPORTED))
    x = joints(3, 1, 8, 20) + 0.1
    with torch.no_grad():
        want = model(x)
    graph = network_graph(deploy(model), x[:2], 18)
    got = logits_of(session(graph, "fp32"), x.numpy())
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
