"""Every ONNX graph computes the function of the network, for any batch and any opset."""
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from last import Conv1x1, causal
from phases.shipping.deploy import deploy
from phases.shipping.onnx_edit import expanded, numbered
from phases.shipping.onnx_files import network_graph, to_onnx
from phases.shipping.quantise import static_int8
from phases.shipping.verify import logits_of, session
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.networks import joints, network, stirred
from tests.helpers.shipped import float_graph

ALL_ON = ()
ALL_OFF = ("model.joint_embedding=false", "model.dct_gate=false", "model.frame_gate=false", "model.shift=random")


@pytest.mark.parametrize("argv,M,is_causal", [(ALL_ON, 1, False), (ALL_OFF, 2, True)])
def test_onnx_is_the_network_for_any_batch_of_real_clips(data_folder, argv, M, is_causal):
    with np.load(data_folder / "utd-mhad.npz") as z:
        clips = torch.from_numpy(z["data"][:64 * M * 16].astype(np.float32)).view(64, M, 16, 20, 3)
    clips = clips - clips.mean((1, 2, 3), keepdim=True)
    clips[::2, 1:] = 0  # every other clip has only its first body

    model = network("kinect20", "view.frames=16", *argv)
    module = deploy(model, is_causal)
    run = session(network_graph(module, clips[:2], 18))
    for B in (1, 7, 64):
        x = clips[:B]
        with torch.no_grad(), causal(model, is_causal):
            want = model(x)
        torch.testing.assert_close(module(x)[0], want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(logits_of(run, x.numpy()), want.numpy(), rtol=1e-4, atol=1e-4)


def test_opset_13_is_written_when_it_is_asked_for():
    model = network("coco17", "view.frames=12")
    graph = network_graph(deploy(model), joints(2, 2, 12, 17), 13)
    assert [o.version for o in graph.opset_import if o.domain == ""] == [13]

    x = joints(7, 2, 12, 17)
    with torch.no_grad():
        want = model(x).numpy()
    np.testing.assert_allclose(logits_of(session(graph), x.numpy()), want, rtol=1e-4, atol=1e-4)


def test_a_block_of_base_goes_through_onnx():
    cfg = load_config(["recipe=base", "view.frames=32", "model.width=16"])
    model = build_model(cfg, SKELETONS["coco17"], 5)

    # One block has every piece, also a stride; the export of all ten takes minutes.
    del model.stages[:2]
    del model.stages[0][1:]
    model.stem = nn.Sequential(nn.BatchNorm2d(3), Conv1x1(3, 32))
    x = joints(3, 1, 16, 17)  # the third stage sees 16 of 32 frames

    with torch.no_grad():
        want = stirred(model)(x)
    run = session(network_graph(deploy(model), x[:2], 18))
    np.testing.assert_allclose(logits_of(run, x.numpy()), want.numpy(), rtol=1e-4, atol=1e-4)


def test_another_opset_than_asked_for_is_refused(monkeypatch):
    def writes_18(module, args, path, **kw):
        graph = helper.make_graph([], "g", [], [])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)

    monkeypatch.setattr(torch.onnx, "export", writes_18)
    with pytest.raises(ValueError, match="opset = 14"):
        to_onnx(nn.Identity(), torch.zeros(1), 14)


def gone(export):
    """torch's exporters without the older one."""
    def newer_alone(*args, **how):
        if not how["dynamo"]:
            raise TypeError("dynamic_axes: unknown")
        return export(*args, **how)
    return newer_alone


class Halved(nn.Module):
    def forward(self, x):
        return x[:len(x) // 2] + 1


def test_the_newer_exporter_takes_the_place_of_the_older(monkeypatch):
    x = torch.arange(12.0).view(4, 3)
    older = to_onnx(Halved(), x, 18, free=(), traced=True)
    monkeypatch.setattr(torch.onnx, "export", gone(torch.onnx.export))
    newer = to_onnx(Halved(), x, 18, free=(), traced=True)
    assert older.ir_version != newer.ir_version, "the two exporters differ in what they write"
    for graph in (older, newer):
        np.testing.assert_array_equal(logits_of(session(graph), x.numpy()), x[:2] + 1)

    with pytest.raises(ValueError, match="opset = 17.*unknown"):
        to_onnx(Halved(), x, 17, free=(), traced=True)


def test_an_export_prints_nothing(capfd, recwarn):
    to_onnx(Halved(), torch.zeros(4, 3), 18, free=(), traced=True)
    assert capfd.readouterr() == ("", "") and not recwarn.list


def test_constants_that_are_nodes_are_stored_once():
    graph = to_onnx(Halved(), torch.zeros(4, 3), 18, traced=True).graph
    assert not [node for node in graph.node if node.op_type == "Constant"]
    values = [numpy_helper.to_array(i) for i in graph.initializer]
    keys = [(str(v.dtype), v.shape, v.tobytes()) for v in values]
    assert keys and len(keys) == len(set(keys))


def test_equal_constants_are_stored_once():
    graph = float_graph()
    values = [numpy_helper.to_array(i) for i in graph.graph.initializer]
    keys = [(str(v.dtype), v.shape, v.tobytes()) for v in values]
    assert len(keys) == len(set(keys)) and not graph.graph.value_info


def test_numbers_for_names_make_a_graph_smaller_and_change_nothing():
    model = network("kinect20", "view.frames=16")
    named = network_graph(deploy(model), torch.randn(2, 1, 16, 20, 3), 18)
    want = logits_of(session(named), clips := np.random.default_rng(0).normal(size=(3, 1, 16, 20, 3)).astype("float32"))
    size = named.ByteSize()
    short = numbered(named)
    onnx.checker.check_model(short)
    np.testing.assert_array_equal(logits_of(session(short), clips), want)
    assert short.ByteSize() < size - 3_000 and not any(node.name for node in short.graph.node)


@pytest.mark.parametrize("form", ["float", "8 bits"])
def test_constants_of_the_size_of_a_map_change_nothing_and_are_not_stored(form):
    model = network("kinect20", "view.frames=16")
    graph = network_graph(deploy(model), torch.randn(2, 1, 16, 20, 3), 18)
    clips = np.random.default_rng(0).normal(size=(3, 1, 16, 20, 3)).astype("float32")
    if form == "8 bits":
        graph = static_int8(graph, clips)[0]
    size, nodes = graph.ByteSize(), len(graph.graph.node)
    large = expanded(graph)
    onnx.checker.check_model(large, full_check=True)
    np.testing.assert_array_equal(logits_of(session(large), clips), logits_of(session(graph), clips))
    assert (graph.ByteSize(), len(graph.graph.node)) == (size, nodes), "the given graph stays as it is"

    # embedding, mask and gate of three stages, each a block; no sum or product of maps broadcasts along the last axes
    assert sum(node.op_type == "Expand" for node in large.graph.node) == 9 + sum(
        node.op_type == "Expand" for node in graph.graph.node)
    assert large.ByteSize() < size + 3_000
    assert expanded(large) == large
