"""ONNX graphs renamed, tidied up, cut down to what an output needs, and saved with their metadata. No torch."""
from __future__ import annotations

import copy
import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from phases.common.files import atomic


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the exporter's notes. Equal constants, such as a stage's DCT matrices, are stored once."""
    graph = model.graph
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    for item in [*graph.node, *graph.input, *graph.output, *graph.initializer]:
        item.doc_string = ""
        del item.metadata_props[:]

    # constants that are nodes, as the older exporter writes them, are stored as the others are
    for node in [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]:
        graph.initializer.append(node.attribute[0].t)
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)

    # the first of equal constants stays
    first = {}
    replaced_by = {}
    for constant in list(graph.initializer):
        array = numpy_helper.to_array(constant)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key in first:
            replaced_by[constant.name] = first[key]
            graph.initializer.remove(constant)
        else:
            first[key] = constant.name
    rename_inputs(graph, replaced_by)
    return model


def expanded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A network's graph whose constants, where maps are summed or multiplied with them, have the size of one map.

    The file grows by a node each: onnxruntime expands a constant once, as it loads the file. Sums that broadcast along
    the last axes take longer (results/speed.md).
    """
    model = copy.deepcopy(model)
    graph = model.graph
    stored = {constant.name: tuple(constant.dims) for constant in graph.initializer}
    sizes = {}
    for value in onnx.shape_inference.infer_shapes(model).graph.value_info:
        sizes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim[1:])  # without the batch

    # (C, V, 1), (C, 1, T) -> (C, V, T), once for all that read it
    large = {}
    for node in graph.node:
        size = sizes.get(node.output[0], ())
        if node.op_type not in ("Add", "Mul") or len(size) < 3 or 0 in size:
            continue
        for i, name in enumerate(node.input):
            if name in stored and len(stored[name]) == len(size) and stored[name] != size:
                node.input[i] = "_".join([name, *map(str, size)])
                large[node.input[i]] = name, size

    for name, (constant, size) in large.items():
        graph.initializer.append(numpy_helper.from_array(np.array(size), f"{name}_size"))
        graph.node.insert(0, helper.make_node("Expand", [constant, f"{name}_size"], [name]))
    return model


def numbered(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with numbers for the names of its inner tensors, and none for its nodes: a file holds them many times.
    """
    graph = model.graph
    outer = {value.name for value in [*graph.input, *graph.output]}
    inner = dict.fromkeys(name for node in graph.node for name in [*node.input, *node.output] if name)
    names = {name: str(number) for number, name in enumerate(inner) if name not in outer}
    rename_inputs(graph, names)
    for node in graph.node:
        node.name = ""
        for i, name in enumerate(node.output):
            node.output[i] = names.get(name, name)
    for constant in graph.initializer:
        constant.name = names.get(constant.name, constant.name)
    return model


def rename_inputs(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Nodes that read tensor `old` read `new` instead, for every {old: new}."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)


def cut_down(graph: onnx.GraphProto, outputs: Collection[str]) -> None:
    """Delete the nodes and constants of a graph that none of these tensors depends on."""
    wanted = set(outputs)
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= tensors_read(node)

    stored = [constant for constant in graph.initializer if constant.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(stored)


def tensors_read(node: onnx.NodeProto) -> set[str]:
    """The names of all tensors that a node reads, also inside the branches of an If or a Loop."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names = names.union(*map(tensors_read, graph.node), (output.name for output in graph.output))
    return names


def save_onnx(model: onnx.ModelProto, path: Path, metadata: dict) -> None:
    """Check the whole model and write it atomically with its metadata. A value is text, or stored as JSON."""
    del model.metadata_props[:]
    helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()})
    model.producer_name = "LAST"
    onnx.checker.check_model(model, full_check=True)
    with atomic(path) as part:
        onnx.save(model, part)
