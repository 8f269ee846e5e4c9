"""The graphs of a network in deploy form: ONNX in float, with 8-bit weights and in static INT8, and TFLite.

Every graph takes joints (B, M, T, V, 3) and gives logits (B, K). TFLite has B = 1 and needs the extra `tflite`.
"""
from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from last import progress
from phases.common.files import atomic
from phases.shipping.exported import open_session

WEIGHTED = ("Conv", "Gemm")  # the ONNX operators that are quantised: convolutions and linear layers
TFLITE_FILES = {"tflite": "model.tflite", "tflite_w8": "model.w8.tflite"}


# ---------------------------------------------------------------------------------------------------------------------
# ONNX: export, edit, save
# ---------------------------------------------------------------------------------------------------------------------

def to_onnx(module: nn.Module, joints: Tensor, opset: int, free_batch: bool = True) -> onnx.ModelProto:
    """The module as one ONNX graph, for any B or for that of `joints`; ValueError if the exporter cannot write it."""
    how = {"input_names": ["joints"], "output_names": ["logits"], "opset_version": opset, "dynamo": opset >= 18}
    if opset >= 18:
        how |= {"external_data": False, "verbose": False}
        how["dynamic_shapes"] = ({0: torch.export.Dim("batch")},) if free_batch else None
    else:
        how["dynamic_axes"] = {"joints": {0: "batch"}, "logits": {0: "batch"}} if free_batch else None
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(module, (joints,), path, **how)
        except Exception as e:  # the exporters raise types of their own
            why = " ".join(str(e).split())[:160]
            raise ValueError(f"opset = {opset}: torch's exporter failed ({why}); the default is 18") from None
        model = onnx.load(path)
    found = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if found != opset:
        raise ValueError(f"opset = {opset}: the exporter wrote {found}; give 18, or 13 to 17 for the older exporter")
    return tidied(model)


@contextlib.contextmanager
def quiet():
    """Inside the block the exporters print no graphs and no warnings, not even that torchvision is not installed."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        yield


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the exporter's notes. Equal constants, such as a stage's DCT matrices, are stored once."""
    graph, first, same = model.graph, {}, {}
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    for item in [*graph.node, *graph.input, *graph.output, *graph.initializer]:
        item.doc_string = ""
        del item.metadata_props[:]
    for init in list(graph.initializer):
        array = numpy_helper.to_array(init)
        key = (str(array.dtype), array.shape, array.tobytes())
        if first.setdefault(key, init.name) != init.name:
            same[init.name] = first[key]
            graph.initializer.remove(init)
    rename_inputs(graph, same)
    return model


def rename_inputs(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Nodes that read tensor `old` read `new` instead, for every {old: new}."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)


def weight_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """The weights of convolutions and linear layers as int8, each behind a DequantizeLinear; arithmetic in float."""
    model = copy.deepcopy(model)
    graph, weights = model.graph, {i.name: i for i in model.graph.initializer}
    nodes, done = [], set()
    for node in graph.node:
        if node.op_type in WEIGHTED and node.input[1] in weights:
            name = node.input[1]
            if name not in done:
                done.add(name)
                transposed = any(a.name == "transB" and a.i for a in node.attribute)
                axis = int(node.op_type == "Gemm" and not transposed)  # of the output channels
                q, scale = in_8_bits(numpy_helper.to_array(weights[name]), axis)
                stored = {f"{name}_q": q, f"{name}_scale": scale, f"{name}_zero": np.zeros(len(scale), np.int8)}
                graph.initializer.remove(weights[name])
                graph.initializer.extend(numpy_helper.from_array(x, key) for key, x in stored.items())
                nodes.append(helper.make_node("DequantizeLinear", list(stored), [f"{name}_dq"], axis=axis))
            node.input[1] = f"{name}_dq"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def in_8_bits(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """(q int8, scale (C,)) with weight ≈ q · scale: one scale max|weight| / 127 per channel along `axis`."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(others), 1e-12).astype(np.float32) / 127
    return np.round(weight / np.expand_dims(scale, others)).astype(np.int8), scale


def static_int8(model: onnx.ModelProto, clips: np.ndarray) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """(INT8 graph, the float graph it was made from): layers of WEIGHTED, calibrated on clips (N, M, T, V, 3).

    The range of a tensor is the mean, over batches of 32 clips, of its minimum and of its maximum. A few outliers set
    the extremes of 1,000 clips, and the other values then share fewer of the 256 steps. Measured on Northwestern-UCLA,
    four networks: agreement with FP32 is 97.4 to 99.1 % with the extremes, 99.1 to 99.6 % with the means.
    """
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self):
            self.rest = iter(np.array_split(clips, range(32, len(clips), 32)))

        def get_next(self):
            part = next(self.rest, None)
            return None if part is None else {"joints": part}

    with tempfile.TemporaryDirectory() as folder:
        source, plain, quantised = (Path(folder) / f"{name}.onnx" for name in ("source", "plain", "int8"))
        onnx.save(model, source)
        q.quant_pre_process(source, plain, skip_symbolic_shape=True)  # symbolic inference crashes on dynamo's graphs
        layers = [n.name for n in onnx.load(plain).graph.node if n.op_type in WEIGHTED]
        ends = [layers[0], layers[-1]]  # stem and head, left in float: they cost more accuracy than all the rest
        q.quantize_static(plain, quantised, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                          op_types_to_quantize=list(WEIGHTED), nodes_to_exclude=ends,
                          activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8,
                          extra_options={"CalibMovingAverage": True})
        return tidied(onnx.load(quantised)), onnx.load(plain)


def back_to_float(int8: onnx.ModelProto, plain: onnx.ModelProto, layer: str) -> onnx.ModelProto:
    """The INT8 graph with one layer (weights, input, output) in float again, as in the float graph `plain`."""
    model = copy.deepcopy(int8)
    made_by = {out: n for n in model.graph.node for out in n.output}
    node = next(n for n in model.graph.node if n.name == layer)
    original = next(n for n in plain.graph.node if n.name == layer)
    weights, instead = {i.name: i for i in plain.graph.initializer}, {}
    for i, name in enumerate(node.input):
        dequantiser = made_by.get(name)
        if dequantiser is None or dequantiser.op_type != "DequantizeLinear":
            continue
        quantiser = made_by.get(dequantiser.input[0])
        if quantiser is not None:  # an activation
            instead[name] = quantiser.input[0]
        else:
            weight = copy.deepcopy(weights[original.input[i]])
            weight.name = node.input[i] = f"{weight.name}_float"
            model.graph.initializer.append(weight)
    output, quantised = node.output[0], set()
    for n in model.graph.node:
        if n.op_type == "QuantizeLinear" and n.input[0] == output:
            quantised.add(n.output[0])
        if n.op_type == "DequantizeLinear" and n.input[0] in quantised:
            instead[n.output[0]] = output
    rename_inputs(model.graph, instead)
    return model


def save_onnx(model: onnx.ModelProto, path: Path, metadata: dict) -> None:
    """Check the whole model and write it atomically with its metadata. A value is text, or stored as JSON."""
    del model.metadata_props[:]
    helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()})
    model.producer_name = "LAST"
    onnx.checker.check_model(model, full_check=True)
    with atomic(path) as part:
        onnx.save(model, part)


# ---------------------------------------------------------------------------------------------------------------------
# ONNX: run
# ---------------------------------------------------------------------------------------------------------------------

def session(graph: onnx.ModelProto, form: str = "fp32") -> ort.InferenceSession:
    """A session of a graph in memory, as `just predict` opens the file of that form."""
    return open_session(graph.SerializeToString(), weight_only=form == "w8")


def logits_of(run: ort.InferenceSession, clips: np.ndarray) -> np.ndarray:
    """Logits (N, K) of clips (N, M, T, V, 3)."""
    out = []
    with progress(len(clips), 0, "verify") as bar:
        for at in range(0, len(clips), 64):
            out.append(run.run(["logits"], {"joints": clips[at:at + 64]})[0])
            bar.update(len(out[-1]))
    return np.concatenate(out)


def sensitivity(int8: onnx.ModelProto, plain: onnx.ModelProto, clips: np.ndarray, reference: np.ndarray) -> list[dict]:
    """Percent of the mean logit error against FP32 that each quantised layer `saves` when only it is float again."""
    def error(model: onnx.ModelProto) -> float:
        return float(np.abs(session(model).run(["logits"], {"joints": clips})[0] - reference).mean())

    quantised = {n.output[0] for n in int8.graph.node if n.op_type == "DequantizeLinear"}
    layers = [n.name for n in int8.graph.node if n.op_type in WEIGHTED and n.input[1] in quantised]
    names = {n.name: n.input[1].removesuffix(".weight") for n in plain.graph.node if n.op_type in WEIGHTED}
    whole, found = max(error(int8), 1e-12), []
    with progress(len(layers), 0, "sensitivity") as bar:
        for layer in layers:
            left = error(back_to_float(int8, plain, layer))
            found.append({"layer": names[layer], "saves": 100 * (1 - left / whole)})
            bar.update()
    return sorted(found, key=lambda f: -f["saves"])


# ---------------------------------------------------------------------------------------------------------------------
# TFLite
# ---------------------------------------------------------------------------------------------------------------------

def require_tflite() -> None:
    """ValueError if a package of the extra `tflite` is missing."""
    packages = ("litert-torch", "ai-edge-litert", "ai-edge-quantizer")
    missing = [p for p in packages if importlib.util.find_spec(p.replace("-", "_")) is None]
    if missing:
        raise ValueError(f"format = 'tflite' needs {', '.join(missing)}: pip install -e '.[tflite]' (about 2 GB)")


def tflite(module: nn.Module, folder: Path, clips: np.ndarray) -> dict[str, np.ndarray]:
    """Write TFLITE_FILES (FP32 and weight-only INT8, batch 1) to `folder`: the logits (N, K) of the clips by form."""
    import litert_torch
    from ai_edge_quantizer import quantizer, recipe
    fp32, w8 = (folder / name for name in TFLITE_FILES.values())
    with atomic(fp32) as part:
        litert_torch.convert(module, (torch.from_numpy(clips[:1]),)).export(str(part))
    with atomic(w8) as part:
        q = quantizer.Quantizer(str(fp32))
        q.load_quantization_recipe(recipe.weight_only_wi8_afp32())
        part.write_bytes(q.quantize().quantized_model)
    return {form: tflite_logits(folder / name, clips) for form, name in TFLITE_FILES.items()}


def tflite_logits(path: Path, clips: np.ndarray) -> np.ndarray:
    """Logits (N, K) of clips (N, M, T, V, 3), one at a time."""
    from ai_edge_litert.interpreter import Interpreter
    run = Interpreter(model_path=str(path))
    run.allocate_tensors()
    source, sink = run.get_input_details()[0]["index"], run.get_output_details()[0]["index"]
    out = []
    for clip in clips:
        run.set_tensor(source, clip[None])
        run.invoke()
        out.append(run.get_tensor(sink)[0].copy())
    return np.stack(out)
