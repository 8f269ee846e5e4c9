"""EfficientGCN-B0 has the published size, and `just bench peer=true` measures it beside LAST-Lite."""
import onnxruntime
import pytest
import torch
from torch import nn

from phases.shipping.onnx_files import to_onnx
from skeletons import SKELETONS
from tests.helpers.networks import joints, stirred
from tests.tools import bench_peer
from tests.tools.peers import Branches, EfficientGCN, GraphLayer, deployed

NTU = SKELETONS["ntu25"]


@pytest.fixture
def peer():
    torch.manual_seed(0)
    return EfficientGCN(NTU, 60)


def test_it_has_the_published_parameters(peer):
    edges = sum(p.numel() for name, p in peer.named_parameters() if name.endswith("edges"))
    assert edges == 11 * 3 * 25 * 25, "eleven graph layers, three distances"
    params = sum(p.numel() for p in peer.parameters()) - edges
    assert params == 285_576 and round(params / 1e6, 2) == 0.29


def test_it_has_about_the_published_operations(peer):
    # multiply-accumulates of layers; the authors' counter knows no product with a graph, and counts norms a little
    macs = 0

    def count(layer, _, out):
        nonlocal macs
        macs += out.numel() * layer.weight[0].numel()

    for layer in peer.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    peer.eval()(joints(1, 2, 288, 25))
    assert macs / 1e9 == pytest.approx(2.73, rel=0.04) and macs / 1e9 < 2.73


def test_its_inputs_are_positions_motions_and_bones():
    x = joints(2, 1, 6, 25)[:, 0]
    joint, velocity, bone = Branches(NTU)(x)
    t, v = 3, NTU.joints.index("left wrist")
    parent, centre = NTU.parents[v], NTU.centre[0]
    vector = x[:, t, v] - x[:, t, parent]
    angles = (vector / vector.norm(dim=1, keepdim=True)).acos()
    assert torch.allclose(joint[:, :, t, v], torch.cat([x[:, t, v], x[:, t, v] - x[:, t, centre]], 1), atol=1e-6)
    assert torch.equal(velocity[:, :, t, v], torch.cat([x[:, 5, v] - x[:, 3, v], x[:, 4, v] - x[:, 3, v]], 1))
    assert torch.allclose(bone[:, :, t, v], torch.cat([vector, angles], 1), atol=1e-3)
    assert not velocity[:, :, 5].any() and not velocity[:, :3, 4].any(), "no frame after the last"


def test_a_graph_layer_reads_joints_two_bones_away_and_no_further():
    layer = GraphLayer(6, 8, NTU).eval()
    x = torch.randn(1, 6, 4, 25, requires_grad=True)
    v = NTU.joints.index("left wrist")
    layer(x)[..., v].sum().backward()
    read = x.grad.abs().sum((0, 1, 2)) > 0
    assert read.tolist() == (NTU.hops[v] <= 2).tolist()


def test_all_of_it_learns(peer):
    peer.train()(joints(3, 2, 16, 25)).square().mean().backward()
    for name, p in peer.named_parameters():
        assert p.grad.isfinite().all(), name
        assert p.grad.any() or name.endswith(("conv.bias", "0.bias")), name  # a norm takes a constant away


def test_the_deployed_form_and_its_graph_give_the_same_logits(peer):
    x = joints(2, 2, 64, 25)
    logits = stirred(peer)(x)
    folded = deployed(peer)
    assert torch.allclose(folded(x), logits, atol=1e-5)

    graph = to_onnx(folded, x, 18)
    norms = sum(node.op_type == "BatchNormalization" for node in graph.graph.node)
    assert norms == 8, "those of the attention"
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    assert torch.allclose(torch.from_numpy(session.run(None, {"joints": x.numpy()})[0]), logits, atol=1e-4)


def test_the_comparison_gives_ratios_of_each_turn(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(bench_peer.time, "process_time", lambda: next(clock))
    calls = {"nano": lambda: None, "small": lambda: next(clock), "peer": lambda: [next(clock) for _ in range(7)]}
    nano, small = bench_peer.compared("step", calls, 3, 0.1)
    assert (nano["ratios"], small["ratio"]) == ([8.0] * 3, 4.0), "a call takes 1, 2 and 8 seconds"
    share = bench_peer.compared("onnx", calls, 3, 0.1)
    assert [row["ratio"] for row in share] == [1 / 8, 1 / 4] and share[0]["aim"] == 0.12


def test_both_sides_are_measured(monkeypatch):
    monkeypatch.setattr(bench_peer, "OURS", ("nano",))
    monkeypatch.setattr(bench_peer, "CLIPS", 2)
    found = bench_peer.table(turns=1, least=0.01)
    assert [(row["what"], row["network"]) for row in found["rows"]] == [("step", "nano"), ("onnx", "nano")]
    assert all(row["ms"] < row["peer_ms"] for row in found["rows"]), "LAST-Lite is the smaller one"
