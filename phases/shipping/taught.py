"""The file of a taught recogniser: an exported file's view and network, and the answer of a new last layer. No torch.

    u = features · feature_scale at length 1
    probabilities = softmax((weight u + bias) / temperature)
    likeness = min(a, threshold + a - o)    a: the cosine of u to the nearest of class_means
                                            o: to the nearest of other_means, what is none of the classes, plus its
                                               offset: a clip that is more like that is below the threshold

The old last layer is computed no more. A taught file can be taught again.
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from phases.shipping.onnx_edit import cut_down
from phases.shipping.teaching import Taught

GIVES = ("probabilities of `classes`; features; likeness, the cosine of the features to the nearest class, lower if "
         "they are more like what is no class: below `threshold` the clip shows none of the classes")


def feature_scale(model: onnx.ModelProto, path: Path) -> np.ndarray:
    """What a file multiplies features with before it compares them (C,); ValueError if it holds no such constant."""
    for constant in model.graph.initializer:
        if constant.name == "feature_scale":
            return numpy_helper.to_array(constant)
    raise ValueError(f"model = {path}: has no features to learn from; export it again with `just phase4 recipe=...`")


def network_gap(model: onnx.ModelProto, path: Path) -> float:
    """1 - the mean cosine of the means of two of the classes that a file's network was trained on.

    A taught file, whose class means are of what it was taught, tells that of its network. ValueError without either.
    """
    told = {entry.key: entry.value for entry in model.metadata_props}
    if "gap" in told:
        return float(json.loads(told["gap"]))
    means = next((numpy_helper.to_array(c) for c in model.graph.initializer if c.name == "class_means"), None)
    means = means[means.any(1)] if means is not None else ()    # zeros: a class that was kept from it
    if len(means) < 2:
        raise ValueError(f"model = {path}: tells of no two classes how far apart they are; export it again with "
                         "`just phase4 recipe=...`")
    return 1 - float((means @ means.T)[np.triu_indices(len(means), 1)].mean())


def taught_graph(model: onnx.ModelProto, taught: Taught) -> onnx.ModelProto:
    """A copy of a whole graph with the answer of a taught last layer."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    graph = new.graph

    # view, network and features stay
    cut_down(graph, ["features"])
    names = {constant.name for constant in graph.initializer}
    K, C = taught.weight.shape

    # the constants of the answer
    constants = {"feature_scale": taught.scale, "tiny": 1e-12, "class_means": taught.means, "weight": taught.weight,
                 "bias": taught.bias, "temperature": taught.temperature}
    if len(taught.others):
        constants |= {"other_means": taught.others, "other_offsets": taught.offsets, "threshold": taught.threshold}
    for name, value in constants.items():
        if name in names:
            raise ValueError(f"the network has a constant of the name {name!r}")
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))

    # its nodes and outputs
    graph.node.extend(answer_nodes(bool(len(taught.others))))
    del graph.output[:]
    for name, shape in {"probabilities": [K], "features": [C], "likeness": []}.items():
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return new


def answer_nodes(has_others: bool) -> list[onnx.NodeProto]:
    """The formulas above; the names of the results are those of whole.py."""
    node = helper.make_node
    nodes = [
        node("Mul", ["features", "feature_scale"], ["answer/features"]),
        node("Mul", ["answer/features", "answer/features"], ["answer/squares"]),
        node("ReduceSum", ["answer/squares"], ["answer/sum"], keepdims=0),
        node("Sqrt", ["answer/sum"], ["answer/norm"]),
        node("Max", ["answer/norm", "tiny"], ["answer/length"]),
        node("Div", ["answer/features", "answer/length"], ["answer/unit"]),
        # probabilities
        node("MatMul", ["weight", "answer/unit"], ["answer/products"]),
        node("Add", ["answer/products", "bias"], ["answer/logits"]),
        node("Div", ["answer/logits", "temperature"], ["answer/scaled"]),
        node("Softmax", ["answer/scaled"], ["probabilities"], axis=-1),
        # the nearest class
        node("MatMul", ["class_means", "answer/unit"], ["answer/cosines"]),
        node("ReduceMax", ["answer/cosines"], ["answer/own" if has_others else "likeness"], keepdims=0),
    ]
    if not has_others:
        return nodes
    return [
        *nodes,
        # what is none of the classes
        node("MatMul", ["other_means", "answer/unit"], ["answer/others"]),
        node("Add", ["answer/others", "other_offsets"], ["answer/offset"]),
        node("ReduceMax", ["answer/offset"], ["answer/other"], keepdims=0),
        node("Sub", ["answer/own", "answer/other"], ["answer/lead"]),
        node("Add", ["answer/lead", "threshold"], ["answer/limit"]),
        node("Min", ["answer/own", "answer/limit"], ["likeness"]),
    ]


def last_layer_size(model: onnx.ModelProto) -> int:
    """The numbers that nothing but the probabilities of a whole graph needs: those of its last layer."""
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    cut_down(rest.graph, ["features"])
    stay = {constant.name for constant in rest.graph.initializer}

    # the constants of the answer, such as the class means, are no parameters
    own = [c for c in model.graph.initializer if c.name.startswith("network/") or c.name in ("weight", "bias")]
    return sum(int(np.prod(c.dims)) for c in own if c.name not in stay and c.data_type == TensorProto.FLOAT)


def metadata_of(about: dict[str, str], model: onnx.ModelProto, taught: Taught, classes: list[str], name: str,
                length: float, gap: float, lesson: dict) -> dict:
    """The metadata of a taught file, from those of the old one. length: the median number of frames of the examples.
    gap: network_gap of the old file.

    lesson: what the file tells of its teaching, under the key `taught`.
    """
    last = taught.weight.size + taught.bias.size
    return about | {
        "recipe": "taught",
        "dataset": name,
        "split": "all",
        "classes": classes,
        "unknown": [],
        "params": int(about.get("params", 0)) - last_layer_size(model) + last,
        "length": length,
        "threshold": taught.threshold,
        "gap": gap,
        "temperature": taught.temperature,
        "top1": "",  # the old network's figures say nothing of these classes
        "declined": "",
        "accepted": True,
        "gives": GIVES,
        "taught": lesson}
