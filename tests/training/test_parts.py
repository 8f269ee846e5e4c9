"""What a network's maps say part by part: phases/training/parts.py."""
import numpy as np
import pytest
import torch

from phases.shipping.deploy import deploy
from phases.shipping.onnx_files import network_graph
from phases.shipping.verify import network_outputs, session
from phases.training.parts import QUARTERS, Parts
from skeletons import SKELETONS
from tests.helpers.networks import network

BODY = SKELETONS["body16"]
R = len(BODY.regions)


def map_of(frames, channels=5):
    return torch.randn(6, channels, frames, 16)


@pytest.mark.parametrize("frames", [1, 3, 4, 7, 8, 16])
def test_each_part_is_a_mean(frames):
    x = map_of(frames)
    gate = torch.rand(5)
    raw = Parts(BODY, frames, gate).raw(x)
    parts = raw[:, :-5].view(6, 5, R, QUARTERS)
    for q in range(QUARTERS):
        first, end = q * frames // QUARTERS, -(-(q + 1) * frames // QUARTERS)
        for r, joints in enumerate(BODY.regions.values()):
            want = x[:, :, first:end][..., list(joints)].mean((2, 3))
            torch.testing.assert_close(parts[:, :, r, q], want)

    # then what the head pools
    torch.testing.assert_close(raw[:, -5:], gate * x.mean((2, 3)) + (1 - gate) * x.amax((2, 3)))


def test_features_are_two_unit_vectors_of_equal_spread():
    parts = Parts(BODY, 8, torch.rand(5))
    raw = parts.raw(map_of(8))
    parts.settle(raw)
    scaled = (raw - parts.mean) * parts.scale
    torch.testing.assert_close(scaled.mean(0), torch.zeros(raw.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(0), torch.ones(raw.shape[1]))

    features = parts(map_of(8))
    for part in features.split(parts.sizes, 1):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(6))


@pytest.mark.parametrize("bodies", [1, 2])
def test_the_exported_graph_gives_them(bodies):
    model = network("body16", "view.frames=16").eval()
    parts = Parts.of(model, BODY, 16)
    x = torch.randn(4, bodies, 16, 16, 3)
    parts.settle(network_outputs(model, False, [torch.randn(9, bodies, 16, 16, 3)], parts.raw)[1])
    if bodies == 2:
        x[1, 1] = 0

    # in PyTorch, deployed, and as a graph
    logits, want = network_outputs(model, False, [x], parts)
    assert want.shape == (4, 64 * R * QUARTERS + 64)
    module = deploy(model, parts=parts)
    got = module(x)
    torch.testing.assert_close(got[0], logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got[1], want, atol=1e-4, rtol=1e-4)
    features, = session(network_graph(module, x[:2], 18)).run(["features"], {"joints": x.numpy()})
    np.testing.assert_allclose(features, want, atol=1e-4, rtol=1e-4)

    # an absent body does not count
    if bodies == 2:
        alone, = network_outputs(model, False, [x[1:2, :1]], parts)[1]
        torch.testing.assert_close(want[1], alone, atol=1e-5, rtol=1e-5)
