"""What was tried for speed computes what the code computes."""
import pytest
import torch

from phases.shipping import deploy as shipping
from phases.shipping.onnx_files import network_graph
from tests.helpers.networks import joints, network
from tests.tools import bench_tried


@pytest.mark.parametrize("name", [*bench_tried.STEPS, bench_tried.KEPT])
def test_a_variant_of_a_step_has_the_same_gradients(name):
    model = network("ntu25", "view.frames=16", "model.variant=small").train()
    x = joints(3, 2, 16, 25)

    def gradients():
        model.zero_grad()
        model(x).square().mean().backward()
        return [p.grad.clone() for p in model.parameters()]

    model.head.dropout.p = 0.0
    want = gradients()
    change = (bench_tried.FORMER | bench_tried.STEPS)[name]
    before = getattr(*change[:2])
    with bench_tried.replaced(*change):
        found = gradients()
    assert bench_tried.difference(want, found) < 1e-4
    assert getattr(*change[:2]) is before


@pytest.mark.parametrize("name", bench_tried.EXPORTS)
def test_a_variant_of_the_deploy_form_has_the_same_logits(name):
    module = shipping.deploy(network("ntu25", "view.frames=16", "model.variant=small"))
    x = joints(3, 2, 16, 25)
    want = module(x)
    with bench_tried.replaced(*bench_tried.EXPORTS[name]):
        assert bench_tried.difference(list(want), list(module(x))) < 1e-5


def test_the_time_of_a_graph_is_told_by_its_nodes():
    graph = network_graph(shipping.deploy(network("ntu25", "view.frames=16")), joints(2, 1, 16, 25), 18)
    spent = bench_tried.where_time_goes(graph)
    assert 0 < spent["fusion"] < spent["products"] < 1 and spent["ms"] > 0 and spent["norms"] == 0


def test_a_change_is_a_share_of_the_largest_value():
    was = [torch.tensor([4.0, 0.0]), torch.tensor([1e-9])]
    assert bench_tried.difference(was, [torch.tensor([4.0, 0.0]), torch.tensor([2e-9])]) < 1e-9
    assert bench_tried.difference(was, [torch.tensor([3.0, 0.0]), was[1]]) == 0.25
