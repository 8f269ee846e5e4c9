"""The deploy form of a network, its ONNX graph, and what is done to that graph: 8 bits, TFLite.
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
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import Tensor, nn

from last import InformationBottleneck, LastLite, ShiftFuseBlock, StreamFusion, TemporalConv, atomic, bodies_present

# ---------------------------------------------------------------------------------------------------------------------
# The deploy form: the same function with all that is constant folded, (B, C, V, T) in memory
# ---------------------------------------------------------------------------------------------------------------------

def affine(norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """(scale, shift) of an evaluated batch norm: y = scale · x + shift."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def folded(conv: nn.Conv2d, norm: nn.Module, causal: bool = False) -> nn.Module:
    """The convolution (k, 1) and the norm behind it as one convolution (1, k) on (B, C, V, T), padded as TemporalConv pads."""
    (scale, shift), k = affine(norm), conv.kernel_size[0]
    new = nn.Conv2d(conv.in_channels, conv.out_channels, (1, k), (1, conv.stride[0]), (0, 0 if causal else k // 2), groups=conv.groups)
    new.weight.data = (conv.weight * scale[:, None, None, None]).transpose(2, 3).contiguous()
    new.bias.data = shift
    return nn.Sequential(nn.ZeroPad2d((k - 1, 0, 0, 0)), new) if causal and k > 1 else new


def folded_stem(norm: nn.Module, weight: Tensor) -> nn.Conv2d:
    """A norm and the 1x1 convolution behind it, weight (C, C_in), as one convolution."""
    scale, shift = affine(norm)
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    conv.weight.data, conv.bias.data = (weight * scale)[:, :, None, None], weight @ shift
    return conv


def folded_head(head: nn.Module) -> nn.Linear:
    """Norm and classifier of a Head as one linear layer; an evaluated information bottleneck is linear too."""
    last = head.linear.linear if isinstance(head.linear, InformationBottleneck) else head.linear
    weight, bias = last.weight, last.bias
    if last is not head.linear:
        weight, bias = weight @ head.linear.mu.weight, weight @ head.linear.mu.bias + bias
    scale, shift = affine(head.norm)
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight.data, linear.bias.data = weight * scale, weight @ shift + bias
    return linear


class DeployBlock(nn.Module):
    """A ShiftFuseBlock with its stage's embedding, mask and gate folded to constants, on maps (B, C, V, T)."""

    def __init__(self, block: ShiftFuseBlock, embedding: Tensor | None, mask: Tensor | None, gate: Tensor | None, causal: bool):
        super().__init__()
        shift, conv, norm, _ = block.mix
        V, C = len(shift.flat) // conv.in_channels, conv.in_channels
        table = (shift.flat.view(V, C) - torch.arange(C)).T // C                            # c v: the joint that is read
        self.joints, self.stride, self.extra = V, block.stride, block.extra
        self.register_buffer("index", (torch.arange(C)[:, None] * V + table).flatten().int())
        self.mix = folded(conv, norm)
        self.embedding = None if embedding is None else nn.Buffer(embedding[:, :, None])
        self.D = None if mask is None else nn.Buffer(block.dct.D)
        self.mask = None if mask is None else nn.Buffer(mask[:, :len(block.dct.D)].sigmoid()[:, None])                # c 1 k
        self.gate = None if gate is None else nn.Buffer(gate.sigmoid()[:, None])                                      # c 1 t
        expand, norm1, _, temporal, norm2, _, project, norm3 = block.tcn.body
        self.tcn = nn.Sequential(folded(expand, norm1), nn.Hardswish(), folded(temporal.conv, norm2, causal), nn.Hardswish(),
                                 folded(project, norm3))

    def forward(self, x: Tensor) -> Tensor:                                                 # b c v t
        y = x.flatten(1, 2).index_select(1, self.index).unflatten(1, (-1, self.joints))     # rows of t are gathered whole
        y = F.hardswish(self.mix(y))
        if self.embedding is not None:
            y = y + self.embedding
        if self.D is not None:
            y = (y @ self.D.T * self.mask) @ self.D
        y = self.tcn(y) + y if self.stride == 1 else self.tcn(y)
        if self.gate is not None:
            y = y * self.gate
        if self.stride == 2:
            x = F.avg_pool2d(x, (1, 2), padding=(0, 1), count_include_pad=False)[:, :, :, :y.shape[3]]
        return y + F.pad(x, (0, 0, 0, 0, 0, self.extra))


class DeployLite(nn.Module):
    """Bodies (N, T, V, 3) -> the last map (N, C, V, T) of a LAST-Lite."""

    def __init__(self, model: LastLite, causal: bool):
        super().__init__()
        self.register_buffer("parents", model.parents.int())
        w = torch.einsum("sc,ck->csk", model.stem.weights.softmax(0), model.stem.stem).flatten(1)
        self.stem = folded_stem(model.stem.norm, w)
        self.blocks = nn.Sequential(*(DeployBlock(block, stage.embedding, stage.mask, stage.gate, causal)
                                      for stage in model.stages for block in stage.blocks))

    def forward(self, joints: Tensor) -> Tensor:                                            # n t v 3
        x = joints.permute(0, 3, 2, 1)                                                      # n 3 v t
        x = torch.cat([x, x - x.index_select(2, self.parents)], 1)                          # joint, bone
        x = torch.cat([x, F.pad(x[..., 1:] - x[..., :-1], (0, 1))], 1)                      # and the velocity of each
        return self.blocks(self.stem(x))


class DeployPlain(nn.Module):
    """Bodies (N, T, V, 3) -> the last map (N, C, T, V) of a LAST-Base or LAST-E; norms are folded where a convolution stands before them."""

    def __init__(self, model: nn.Module, causal: bool):
        super().__init__()
        model = copy.deepcopy(model)
        for part in model.modules():
            if isinstance(part, TemporalConv):
                part.causal = causal
            if isinstance(part, nn.Sequential):
                for i in range(1, len(part)):
                    conv = part[i - 1].conv if isinstance(part[i - 1], TemporalConv) else part[i - 1]
                    if isinstance(conv, nn.Conv2d) and isinstance(part[i], nn.BatchNorm2d):
                        scale, shift = affine(part[i])
                        conv.weight.data, conv.bias = conv.weight * scale[:, None, None, None], nn.Parameter(shift)
                        part[i] = nn.Identity()
        if isinstance(model.stem, StreamFusion):
            w = torch.einsum("sc,ck->csk", model.stem.weights.softmax(0), model.stem.stem).flatten(1)
            model.stem = folded_stem(model.stem.norm, w)
        else:
            model.stem = folded_stem(model.stem[0], model.stem[1].weight.flatten(1))
        self.model = model

    def forward(self, joints: Tensor) -> Tensor:
        return self.model.features(joints)[-1]


class Deployed(nn.Module):
    """Joints (B, M, T, V, 3) -> logits (B, K): what is exported. An absent body, all zeros, does not count."""

    def __init__(self, features: nn.Module, head: nn.Module):
        super().__init__()
        self.features, self.linear = features, folded_head(head)
        self.gate = nn.Buffer(head.gate.sigmoid())

    def forward(self, joints: Tensor) -> Tensor:                                            # b m t v 3
        M = joints.shape[1]
        x = self.features(joints.flatten(0, 1))                                             # (b m) c ...
        pooled = self.gate * x.mean((2, 3)) + (1 - self.gate) * x.amax((2, 3))              # (b m) c
        if M > 1:
            present = bodies_present(joints)                                                # b m
            pooled = (pooled.unflatten(0, (-1, M)) * present[:, :, None]).sum(1) / present.sum(1, keepdim=True)
        return self.linear(pooled)


@torch.no_grad()
def deploy(model: nn.Module, causal: bool = False) -> Deployed:
    """A plain module for inference, joints (B, M, T, V, 3) -> logits (B, K), from any trained network; the network stays as it is."""
    model = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    features = DeployLite(model, causal) if isinstance(model, LastLite) else DeployPlain(model, causal)
    return Deployed(features, model.head).eval().requires_grad_(False)


# ---------------------------------------------------------------------------------------------------------------------
# ONNX graphs
# ---------------------------------------------------------------------------------------------------------------------

WEIGHTED = ("Conv", "Gemm")


def to_onnx(module: nn.Module, joints: Tensor, opset: int, free_batch: bool = True) -> onnx.ModelProto:
    """The module as one ONNX graph for any batch, or the one of `joints`; ValueError where the exporter cannot write it in that opset."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # it prints graphs
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
        path = Path(folder) / "model.onnx"
        try:
            if opset >= 18:
                torch.onnx.export(module, (joints,), path, dynamo=True, opset_version=opset, external_data=False, input_names=["joints"],
                                  output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},) if free_batch else None, verbose=False)
            else:
                torch.onnx.export(module, (joints,), path, dynamo=False, opset_version=opset, input_names=["joints"], output_names=["logits"],
                                  dynamic_axes={"joints": {0: "batch"}, "logits": {0: "batch"}} if free_batch else None)
        except Exception as e:  # the exporters raise types of their own
            why = " ".join(str(e).split())[:160]
            raise ValueError(f"opset = {opset}: torch's exporter cannot write this network ({why}); 18 is the default") from None
        model = onnx.load(path)
    written = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if written != opset:
        raise ValueError(f"opset = {opset}: the exporter wrote {written}; give 18, or 13 to 17 for the older exporter")
    return tidied(model)


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the exporter's notes, and with equal constants (the DCT matrices of a stage) stored once."""
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
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
    return model


def weight_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of convolutions and linear layers as int8, one scale per output channel, each behind a DequantizeLinear."""
    model = copy.deepcopy(model)
    graph, arrays = model.graph, {i.name: i for i in model.graph.initializer}
    nodes, done = [], set()
    for node in graph.node:
        if node.op_type in WEIGHTED and (name := node.input[1]) in arrays:
            if name not in done:
                done.add(name)
                w = numpy_helper.to_array(arrays[name])
                axis = int(node.op_type == "Gemm" and not any(a.name == "transB" and a.i for a in node.attribute))
                others = tuple(i for i in range(w.ndim) if i != axis)
                scale = np.maximum(np.abs(w).max(others), 1e-12).astype(np.float32) / 127
                q = np.round(w / np.expand_dims(scale, others)).astype(np.int8)
                graph.initializer.remove(arrays[name])
                graph.initializer.extend([numpy_helper.from_array(q, f"{name}_q"), numpy_helper.from_array(scale, f"{name}_scale"),
                                          numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}_zero")])
                nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_scale", f"{name}_zero"], [f"{name}_dq"], axis=axis))
            node.input[1] = f"{name}_dq"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def static_int8(model: onnx.ModelProto, clips: np.ndarray) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """(INT8, the float graph it was made from): convolutions and inner linear layers calibrated on clips (N, M, T, V, 3).

    A range is the mean over batches of 32 clips of their smallest and largest values: the extremes of 1,000 clips, which a few wild ones
    set, leave the rest fewer of the 256 steps (agreement with FP32 on Northwestern-UCLA, four networks: 97.4 to 99.1 %, so 99.1 to 99.6).
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quant_pre_process,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(np.array_split(clips, range(32, len(clips), 32)))

        def get_next(self):
            part = next(self.rest, None)
            return None if part is None else {"joints": part}

    with tempfile.TemporaryDirectory() as folder:
        source, plain, quantised = (Path(folder) / f"{name}.onnx" for name in ("source", "plain", "int8"))
        onnx.save(model, source)
        quant_pre_process(source, plain, skip_symbolic_shape=True)
        weighted = [n.name for n in onnx.load(plain).graph.node if n.op_type in WEIGHTED]
        ends = [weighted[0], weighted[-1]]  # stem and head: together they cost more accuracy than all the rest
        quantize_static(plain, quantised, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, op_types_to_quantize=list(WEIGHTED),
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=ends,
                        extra_options={"CalibMovingAverage": True})
        return tidied(onnx.load(quantised)), onnx.load(plain)


def back_to_float(int8: onnx.ModelProto, plain: onnx.ModelProto, layer: str) -> onnx.ModelProto:
    """The INT8 graph with one layer (weights, input and output tensors) in float again, as the float graph `plain` has it."""
    model = copy.deepcopy(int8)
    made_by = {out: n for n in model.graph.node for out in n.output}
    node = next(n for n in model.graph.node if n.name == layer)
    original = next(n for n in plain.graph.node if n.name == layer)
    weights, instead = {i.name: i for i in plain.graph.initializer}, {}
    for i, name in enumerate(node.input):
        producer = made_by.get(name)
        if producer is not None and producer.op_type == "DequantizeLinear":
            if (quantiser := made_by.get(producer.input[0])) is not None:
                instead[name] = quantiser.input[0]
            else:
                weight = copy.deepcopy(weights[original.input[i]])
                weight.name = node.input[i] = f"{weight.name}_float"
                model.graph.initializer.append(weight)
    quantised = {q.output[0] for q in model.graph.node if q.op_type == "QuantizeLinear" and q.input[0] == node.output[0]}
    instead |= {d.output[0]: node.output[0] for d in model.graph.node if d.op_type == "DequantizeLinear" and d.input[0] in quantised}
    for n in model.graph.node:
        for i, name in enumerate(n.input):
            n.input[i] = instead.get(name, name)
    return model


def session(model: onnx.ModelProto | Path, form: str = "fp32") -> ort.InferenceSession:
    """A session of one thread, the fastest for one clip; weights in 8 bits alone are put back to float once, when it is made."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if form == "w8":
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model), options, ["CPUExecutionProvider"])


def written(model: onnx.ModelProto, path: Path, metadata: dict) -> onnx.ModelProto:
    """The model with its metadata, checked whole and written atomically. Values are text, or JSON."""
    del model.metadata_props[:]
    helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()})
    model.producer_name = "LAST"
    onnx.checker.check_model(model, full_check=True)
    with atomic(path) as part:
        onnx.save(model, part)
    return model


# ---------------------------------------------------------------------------------------------------------------------
# TFLite
# ---------------------------------------------------------------------------------------------------------------------

def need_tflite() -> None:
    missing = [p for p, module in (("litert-torch", "litert_torch"), ("ai-edge-litert", "ai_edge_litert"), ("ai-edge-quantizer", "ai_edge_quantizer"))
               if importlib.util.find_spec(module) is None]
    if missing:
        raise ValueError(f"format = 'tflite' needs {', '.join(missing)}: pip install -e '.[tflite]' (about 2 GB)")


def tflite(module: nn.Module, folder: Path, clips: np.ndarray) -> dict[str, tuple[Path, np.ndarray]]:
    """Write model.tflite and model.w8.tflite (weight-only INT8), batch 1: each file and its logits (N, K) of the clips."""
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe
    paths = {"tflite": folder / "model.tflite", "tflite_w8": folder / "model.w8.tflite"}
    with atomic(paths["tflite"]) as part:
        litert_torch.convert(module, (torch.from_numpy(clips[:1]),)).export(str(part))
    with atomic(paths["tflite_w8"]) as part:
        q = quantizer.Quantizer(str(paths["tflite"]))
        q.load_quantization_recipe(recipe.weight_only_wi8_afp32())
        part.write_bytes(q.quantize().quantized_model)
    found = {}
    for name, path in paths.items():
        run = Interpreter(model_path=str(path))
        run.allocate_tensors()
        source, sink = run.get_input_details()[0]["index"], run.get_output_details()[0]["index"]
        out = []
        for clip in clips:
            run.set_tensor(source, clip[None])
            run.invoke()
            out.append(run.get_tensor(sink)[0].copy())
        found[name] = path, np.stack(out)
    return found
