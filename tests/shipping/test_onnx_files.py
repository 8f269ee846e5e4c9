"""Every ONNX graph computes the function of the network, and each quantised one differs by no more than it should."""
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from last import Conv1x1, causal
from phases.shipping import onnx_files
from phases.shipping.deploy import deploy
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.networks import joints, network, stirred

ALL_ON = ()
ALL_OFF = ("model.joint_embedding=false", "model.dct_gate=false", "model.frame_gate=false", "model.shift=random")


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    return onnx_files.to_onnx(deploy(network("ntu25", "view.frames=16")), joints(2, 1, 16, 25), 18)


@pytest.mark.parametrize("argv,M,is_causal", [(ALL_ON, 1, False), (ALL_OFF, 2, True)])
def test_onnx_is_the_network_for_any_batch_of_real_clips(data_folder, argv, M, is_causal):
    with np.load(data_folder / "utd-mhad.npz") as z:
        clips = torch.from_numpy(z["data"][:64 * M * 16].astype(np.float32)).view(64, M, 16, 20, 3)
    clips = clips - clips.mean((1, 2, 3), keepdim=True)
    clips[::2, 1:] = 0  # every other clip has only its first body
    model = network("kinect20", "view.frames=16", *argv)
    module = deploy(model, is_causal)
    run = onnx_files.session(onnx_files.to_onnx(module, clips[:2], 18))
    for B in (1, 7, 64):
        x = clips[:B]
        with torch.no_grad(), causal(model, is_causal):
            want = model(x)
        torch.testing.assert_close(module(x), want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(onnx_files.logits_of(run, x.numpy()), want.numpy(), rtol=1e-4, atol=1e-4)


def test_opset_13_is_written_when_it_is_asked_for():
    model = network("coco17", "view.frames=12")
    graph = onnx_files.to_onnx(deploy(model), joints(2, 2, 12, 17), 13)
    assert [o.version for o in graph.opset_import if o.domain == ""] == [13]
    x = joints(7, 2, 12, 17)
    got = onnx_files.logits_of(onnx_files.session(graph), x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(got, model(x).numpy(), rtol=1e-4, atol=1e-4)


def test_a_block_of_base_goes_through_onnx():
    cfg = load_config(["recipe=base", "view.frames=32", "model.width=16"])
    model = build_model(cfg, SKELETONS["coco17"], 5)
    # One block has every piece, also a stride; the export of all ten takes minutes.
    model.stages = nn.ModuleList([nn.ModuleList([model.stages[2][0]])])
    model.stem = nn.Sequential(nn.BatchNorm2d(3), Conv1x1(3, 32))
    x = joints(3, 1, 16, 17)  # the third stage sees 16 of 32 frames
    with torch.no_grad():
        want = stirred(model)(x)
    run = onnx_files.session(onnx_files.to_onnx(deploy(model), x[:2], 18))
    np.testing.assert_allclose(onnx_files.logits_of(run, x.numpy()), want.numpy(), rtol=1e-4, atol=1e-4)


def test_another_opset_than_asked_for_is_refused(monkeypatch):
    def writes_18(module, args, path, **kw):
        graph = helper.make_graph([], "g", [], [])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)

    monkeypatch.setattr(torch.onnx, "export", writes_18)
    with pytest.raises(ValueError, match="opset = 14: the exporter wrote 18"):
        onnx_files.to_onnx(nn.Identity(), torch.zeros(1), 14)


def test_equal_constants_are_stored_once(graph):
    values = [numpy_helper.to_array(i) for i in graph.graph.initializer]
    keys = [(str(v.dtype), v.shape, v.tobytes()) for v in values]
    assert len(keys) == len(set(keys)) and not graph.graph.value_info


def test_weights_in_8_bits_are_within_half_a_step(graph):
    small = onnx_files.weight_only(graph)
    arrays = {i.name: numpy_helper.to_array(i) for i in small.graph.initializer}
    weights = {i.name: numpy_helper.to_array(i) for i in graph.graph.initializer}
    layers = [n for n in graph.graph.node if n.op_type in ("Conv", "Gemm")]
    for node in layers:
        name = node.input[1]
        w, q, scale = weights[name], arrays[f"{name}_q"], arrays[f"{name}_scale"]
        axis = int(node.op_type == "Gemm" and q.shape[0] != len(scale))
        step = np.expand_dims(scale, tuple(i for i in range(w.ndim) if i != axis))
        assert q.dtype == np.int8 and (np.abs(q * step - w) <= step * 0.5001).all()
    assert len(small.SerializeToString()) < 0.6 * len(graph.SerializeToString())


def test_layers_put_back_to_float_one_by_one_make_the_float_graph_again(graph):
    x = joints(24, 1, 16, 25).numpy()
    int8, plain = onnx_files.static_int8(graph, x)
    want = onnx_files.logits_of(onnx_files.session(plain), x)
    kinds = {i.name: i.data_type for i in int8.graph.initializer}
    assert onnx.TensorProto.INT8 in kinds.values()
    error = np.abs(onnx_files.logits_of(onnx_files.session(int8), x) - want).mean()
    for node in [n.name for n in int8.graph.node if n.op_type in ("Conv", "Gemm")]:
        int8 = onnx_files.back_to_float(int8, plain, node)
    left = np.abs(onnx_files.logits_of(onnx_files.session(int8), x) - want).mean()
    assert left < 0.02 * error, (left, error)
