"""The last map of a network, part by part: phases/training/parts.py."""
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


@pytest.mark.parametrize("frames", [1, 3, 4, 7, 8, 16])
def test_each_part_is_a_mean(frames):
    x = torch.randn(2, 5, frames, 16)
    parts = Parts(BODY, 5, frames)(x).view(2, 5, len(BODY.regions), QUARTERS)
    for q in range(QUARTERS):
        first, end = q * frames // QUARTERS, -(-(q + 1) * frames // QUARTERS)
        for r, joints in enumerate(BODY.regions.values()):
            want = x[:, :, first:end][..., list(joints)].mean((2, 3))
            torch.testing.assert_close(parts[:, :, r, q], want)


def test_the_mean_of_the_parts_is_that_of_the_map():
    x = torch.randn(3, 4, 8, 16)
    parts = Parts(BODY, 4, 8)(x).view(3, 4, len(BODY.regions), QUARTERS)
    sizes = torch.tensor([len(joints) for joints in BODY.regions.values()]) / 16
    torch.testing.assert_close((parts.mean(3) * sizes).sum(2), x.mean((2, 3)))


def test_the_mean_is_taken_off():
    parts = Parts(BODY, 4, 8)
    x = torch.randn(6, 4, 8, 16)
    parts.mean = parts(x).mean(0)
    torch.testing.assert_close(parts(x).mean(0), torch.zeros(4 * QUARTERS * 5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("bodies", [1, 2])
def test_the_exported_graph_gives_them(bodies):
    model = network("body16", "view.frames=16").eval()
    parts = Parts.of(model, BODY, 16)
    parts.mean = torch.randn(len(parts.mean))
    x = torch.randn(4, bodies, 16, 16, 3)
    if bodies == 2:
        x[1, 1] = 0

    # in PyTorch, deployed, and as a graph
    logits, want = network_outputs(model, False, [x], parts)
    assert want.shape == (4, 64 * QUARTERS * 5)
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
