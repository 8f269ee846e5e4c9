"""8-bit graphs: weights within half a step, and layers that go back to float one by one."""
import numpy as np
import onnx
import torch
from onnx import numpy_helper

from phases.shipping.deploy import deploy
from phases.shipping.onnx_files import network_graph
from phases.shipping.quantise import back_to_float, quantised_layers, static_int8, weight_only
from phases.shipping.verify import logits_of, session
from tests.helpers.networks import joints, network
from tests.helpers.shipped import float_graph


def test_weights_in_8_bits_are_within_half_a_step():
    graph = float_graph()
    small = weight_only(graph)
    arrays = {i.name: numpy_helper.to_array(i) for i in small.graph.initializer}
    weights = {i.name: numpy_helper.to_array(i) for i in graph.graph.initializer}
    stem, *layers = [n for n in graph.graph.node if n.op_type in ("Conv", "Gemm")]
    assert layers
    np.testing.assert_array_equal(arrays[stem.input[1]], weights[stem.input[1]])

    for node in layers:
        name = node.input[1]
        w, q, scale = weights[name], arrays[f"{name}_q"], arrays[f"{name}_scale"]
        axis = int(node.op_type == "Gemm" and q.shape[0] != len(scale))
        step = np.expand_dims(scale, tuple(i for i in range(w.ndim) if i != axis))
        assert q.dtype == np.int8 and (np.abs(q * step - w) <= step * 0.5001).all()
    assert len(small.SerializeToString()) < 0.6 * len(graph.SerializeToString())


def test_flat_clips_keep_their_answers_with_weights_in_8_bits():
    # a network whose norm of the input has seen nothing but z = 0
    x = joints(64, 1, 16, 17)
    x[..., 2] = 0
    model = network("coco17", "view.frames=16").train()
    with torch.no_grad():
        for _ in range(100):
            model(x)
    graph = network_graph(deploy(model.eval()), x[:2], 18)

    want = logits_of(session(graph), x.numpy())
    found = logits_of(session(weight_only(graph), "w8"), x.numpy())
    assert (found.argmax(1) == want.argmax(1)).mean() > 0.95
    assert np.abs(found - want).mean() < 0.1 * want.std()


def test_layers_put_back_one_by_one_make_the_float_graph():
    x = joints(24, 1, 16, 25).numpy()
    int8, plain = static_int8(float_graph(), x)
    want = logits_of(session(plain), x)
    kinds = {i.name: i.data_type for i in int8.graph.initializer}
    assert onnx.TensorProto.INT8 in kinds.values()

    # stem and head are in float from the start
    layers = [n.name for n in int8.graph.node if n.op_type in ("Conv", "Gemm")]
    assert quantised_layers(int8) == layers[1:-1]

    # every layer back in float: what is left of the error is rounding
    error = np.abs(logits_of(session(int8), x) - want).mean()
    for layer in layers:
        int8 = back_to_float(int8, plain, layer)
    left = np.abs(logits_of(session(int8), x) - want).mean()
    assert left < 0.02 * error, (left, error)
