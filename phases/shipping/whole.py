"""The graph of an exported file: the view before a network, the network, and the answer after it.

A network's own graph takes clips under the view, (B, M, T, V, 3), and gives logits (B, K) and features (B, C). It alone
is quantised; view and answer stay in float. The whole takes one clip as recorded.
"""
from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from torch import Tensor, nn

from phases.shipping import quantise
from phases.shipping.declining import SURE, Declining
from phases.shipping.deploy import Deployed
from phases.shipping.onnx_edit import expanded, numbered, rename_inputs
from phases.shipping.onnx_files import FILES, network_graph, to_onnx
from phases.training.inference_view import InferenceView


@dataclass(frozen=True)
class Graphs:
    """The graphs of an export by form. networks: the network alone, and `plain`, the float graph INT8 was made from."""
    networks: dict[str, onnx.ModelProto]
    wholes: dict[str, onnx.ModelProto]


def graphs_of(module: Deployed, view: InferenceView, declining: Declining, clips: np.ndarray, opset: int) -> Graphs:
    """The graphs of every form; INT8 is calibrated with clips (N, M, T, V, 3) under the view."""
    fp32 = network_graph(module, torch.from_numpy(clips[[0, -1]]), opset)
    int8, plain = quantise.static_int8(fp32, clips)
    networks = {"fp32": expanded(fp32), "int8": expanded(int8), "w8": expanded(quantise.weight_only(fp32)),
                "plain": plain}

    # the same view and answer for all
    before = view_graph(view, opset)
    wholes = {form: whole_graph(before, networks[form], declining) for form in FILES}
    return Graphs(networks, wholes)


# ---------------------------------------------------------------------------------------------------------------------
# The view
# ---------------------------------------------------------------------------------------------------------------------

def view_graph(view: InferenceView, opset: int) -> onnx.ModelProto:
    """The graph of a view: recorded joints (bodies, frames, V, 3) -> `clip` (1, M, T, V, 3)."""
    example = torch.randn(2, 50, len(view.parents), 3)  # any two bodies of any length
    return numbered(to_onnx(OneClip(view), example, opset, ("clip",), ("bodies", "frames"), traced=True))


class OneClip(nn.Module):
    """A view whose clip is a batch of one, as a network takes it."""

    def __init__(self, view: InferenceView):
        super().__init__()
        self.view = view

    def forward(self, joints: Tensor) -> Tensor:  # any number of bodies, l v 3
        return self.view(joints)[None]


# ---------------------------------------------------------------------------------------------------------------------
# The whole
# ---------------------------------------------------------------------------------------------------------------------

def whole_graph(view: onnx.ModelProto, network: onnx.ModelProto, declining: Declining) -> onnx.ModelProto:
    """Recorded joints (bodies, frames, V, 3) -> probabilities (K,), features (C,), likeness () of one clip.

    view, network: what view_graph and network_graph give, or the latter in 8 bits.
    """
    # each part keeps its names, behind a prefix
    first = compose.add_prefix_graph(view.graph, "view/")
    second = compose.add_prefix_graph(network.graph, "network/")
    rename_inputs(first, {"view/joints": "joints"})
    rename_inputs(second, {"network/joints": "view/clip"})

    # what comes last
    constants = {"class_means": declining.means, "feature_scale": declining.scale, "sure": np.float32(SURE),
                 "temperature": np.float32(declining.temperature), "flat": np.array([-1]), "tiny": np.float32(1e-12)}
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]

    # one graph
    K, C = declining.means.shape
    joints = copy.deepcopy(view.graph.input[0])
    shapes = {"probabilities": [K], "features": [C], "likeness": []}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    nodes = [*first.node, *second.node, *answer_nodes()]
    graph = helper.make_graph(nodes, "LAST", [joints], outputs, [*first.initializer, *second.initializer, *stored])

    # the operators of both
    versions = {o.domain: o for o in [*network.opset_import, *view.opset_import]}
    ir_version = max(view.ir_version, network.ir_version)
    return helper.make_model(graph, opset_imports=list(versions.values()), ir_version=ir_version,
                             functions=[*view.functions, *network.functions])


def answer_nodes() -> list[onnx.NodeProto]:
    """softmax(logits / temperature); and the cosine of the scaled features to the nearest of class_means, plus `sure`
    times the largest of softmax(logits)."""
    node = helper.make_node
    return [
        node("Div", ["network/logits", "temperature"], ["answer/scaled"]),
        node("Softmax", ["answer/scaled"], ["answer/softmax"], axis=-1),
        node("Reshape", ["answer/softmax", "flat"], ["probabilities"]),
        node("Reshape", ["network/features", "flat"], ["features"]),
        # the length of the scaled features divides the largest product with a mean
        node("Mul", ["features", "feature_scale"], ["answer/features"]),
        node("Mul", ["answer/features", "answer/features"], ["answer/squares"]),
        node("ReduceSum", ["answer/squares"], ["answer/sum"], keepdims=0),
        node("Sqrt", ["answer/sum"], ["answer/norm"]),
        node("Max", ["answer/norm", "tiny"], ["answer/length"]),
        node("MatMul", ["class_means", "answer/features"], ["answer/products"]),
        node("ReduceMax", ["answer/products"], ["answer/largest"], keepdims=0),
        node("Div", ["answer/largest", "answer/length"], ["answer/cosine"]),
        node("Softmax", ["network/logits"], ["answer/untempered"], axis=-1),
        node("ReduceMax", ["answer/untempered"], ["answer/surest"], keepdims=0),
        node("Mul", ["answer/surest", "sure"], ["answer/little"]),
        node("Add", ["answer/cosine", "answer/little"], ["likeness"]),
    ]
