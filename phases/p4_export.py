"""Phase 4: turn a finished run into files that run anywhere, and verify each of them on the whole test split.

    just phase4 recipe=lite_small_base data=nw_ucla            exports/lite_small_base/: the files below
    just phase4 recipe=lite_nano data=nw_ucla seed=2 exports=exports/seed2
    just phase4 recipe=L9 causal=true                          temporal convolutions that see no frame ahead
    just phase4 recipe=lite_small opset=13                     by torch's older exporter; slower, larger files; 18 is the default
    just phase4 recipe=lite_small format=tflite                also .tflite (FP32 and weight-only INT8, batch 1); needs the extra `tflite`

In:  runs/<recipe>/<dataset>-<split>/seed<k>/final.pt, and the clip store it was trained on.
Out: exports/<recipe>/
         model.onnx        FP32, joints (B, M, T, V, 3) -> logits (B, K), B free
         model.int8.onnx   weights and activations of convolutions in 8 bits (static, QDQ); stem and head stay in float
         model.w8.onnx     weights alone in 8 bits, arithmetic in float: the smallest file, and the closest to FP32
         report.json, report.md
     Each file is whole in itself: its metadata hold the skeleton, class names, view, streams, recipe and test accuracy for `just predict`.
The deploy form has every batch norm folded and derives the streams in the graph: a consumer feeds joints, centred as `just predict` does.
Exit codes: 0 verified, 1 INT8 lost a point of top-1 or more (the files stay, marked; the layers that cost most are named), 2 bad input.
"""
from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib.util
import io
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from p1_train import accuracies, commit, device_name, open_store, splits
from torch import Tensor, nn

from last import (
    Batches,
    ClipView,
    Config,
    InformationBottleneck,
    LastLite,
    ShiftFuseBlock,
    Skeleton,
    StreamFusion,
    TemporalConv,
    atomic,
    bodies_present,
    cli,
    load_config,
    load_run,
    nearest,
    progress,
    read_json,
    write_json,
)
from last import causal as causal_mode

DROP = 1.0  # points of top-1 that INT8 may not lose
FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx", "w8": "model.w8.onnx"}
WEIGHTED = ("Conv", "Gemm")


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
# ONNX files
# ---------------------------------------------------------------------------------------------------------------------

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
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

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


def logits_of(run: ort.InferenceSession, clips: np.ndarray, what: str = "") -> np.ndarray:
    """Logits (N, K) of clips (N, M, T, V, 3)."""
    out = []
    with progress(len(clips), 0, what or "verify") as bar:
        for at in range(0, len(clips), 64):
            out.append(run.run(["logits"], {"joints": clips[at:at + 64]})[0])
            bar.update(len(out[-1]))
    return np.concatenate(out)


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
# Verification
# ---------------------------------------------------------------------------------------------------------------------

def compared(reference: np.ndarray, logits: np.ndarray, label: np.ndarray) -> dict:
    """What a form loses to FP32 on the same clips: points of top-1 with the paired 95 % interval, agreement, largest logit difference.

    The interval is Agresti and Min's for matched pairs (Statistics in Medicine 2005): half a clip is added to each of the four cells,
    so that it stays honest where few clips, or none, change sides.
    """
    n, right, before = len(label), logits.argmax(1) == label, reference.argmax(1) == label
    lost, won = int((before & ~right).sum()), int((~before & right).sum())
    middle = (lost - won) / (n + 2)
    half = 1.96 * ((lost + won + 1) - (lost - won) ** 2 / (n + 2)) ** 0.5 / (n + 2)
    return {"top1": 100 * float(right.mean()), "drop": 100 * (lost - won) / n, "drop_ci95": [100 * (middle - half), 100 * (middle + half)],
            "agreement": 100 * float((logits.argmax(1) == reference.argmax(1)).mean()), "max_diff": float(np.abs(logits - reference).max())}


def sensitivity(int8: onnx.ModelProto, plain: onnx.ModelProto, clips: np.ndarray, reference: np.ndarray) -> list[dict]:
    """Every quantised layer put back to float alone: the mean logit error against FP32 that this saves, greatest first, in percent."""
    error = lambda model: float(np.abs(session(model).run(["logits"], {"joints": clips})[0] - reference).mean())  # noqa: E731
    quantised = {n.output[0] for n in int8.graph.node if n.op_type == "DequantizeLinear"}
    weights = {n.name: n.input[1].removesuffix(".weight") for n in plain.graph.node if n.op_type in WEIGHTED}  # such as features.blocks.0.mix
    layers = [n.name for n in int8.graph.node if n.op_type in WEIGHTED and n.input[1] in quantised]
    whole, found = error(int8), []
    with progress(len(layers), 0, "sensitivity") as bar:
        for layer in layers:
            found.append({"layer": weights[layer], "saves": 100 * (1 - error(back_to_float(int8, plain, layer)) / max(whole, 1e-12))})
            bar.update()
    return sorted(found, key=lambda f: -f["saves"])


def latencies(runs: dict[str, Callable[[], object]], rounds: int = 60) -> dict[str, float]:
    """Median time of one call each, interleaved, as ratios to `deploy`."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 5):
        for name, call in runs.items():
            call()  # into the caches, where the one before has left its own data
            start = time.perf_counter()
            call()
            if i >= 5:
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(t) for name, t in times.items()}
    return {name: round(m / medians["deploy"], 3) for name, m in medians.items()}


def arrays(view: ClipView, clips: np.ndarray) -> np.ndarray:
    """Joints (N, M, T, V, 3) of clips under the test view."""
    return torch.cat([b["joints"].cpu() for b in Batches(view, clips, 256)()]).numpy()


def description(cfg: Config, skeleton: Skeleton, classes: list[str], model: nn.Module, causal: bool) -> dict:
    """The metadata that `just predict` reads. `centre` and `trunk` are joints of the skeleton, for the view."""
    view = {k: getattr(cfg.view, k) for k in ("frames", "bodies", "sampling", "smooth", "heading", "trunk_scale", "extent")}
    return {"format": "LAST 1", "recipe": cfg.run_name, "seed": cfg.seed, "dataset": cfg.data.name, "split": cfg.data.split,
            "network": cfg.model.name, "params": sum(p.numel() for p in model.parameters()), "streams": list(model.streams), "causal": causal,
            "skeleton": {**skeleton.to_dict(), "centre": skeleton.centre, "trunk": skeleton.trunk}, "classes": classes, "view": view}


def markdown(report: dict) -> str:
    files = FILES | {"tflite": "model.tflite", "tflite_w8": "model.w8.tflite"}
    rows = [f"| {form} | {files[form]} | {x['bytes']:,} | {x['top1']:.1f} | " + (
            f"{x['drop']:.2f} ({x['drop_ci95'][0]:.2f} to {x['drop_ci95'][1]:.2f}) | {x['agreement']:.1f} | {x['max_diff']:.2g} |"
            if "drop" in x else " | | |") for form, x in ((f, report[f]) for f in files if f in report)]
    ratios = ", ".join(f"{k} {v:.2f}" for k, v in report["latency"].items())
    layers = "".join(f"\n- {x['layer']}: {x['saves']:.1f} % of the logit error" for x in report.get("layers", [])[:5])
    return (f"# {report['recipe']} on {report['dataset']} {report['split']}, exported\n\n"
            f"{report['params']:,} parameters, {report['clips']} test clips; `{report['command']}`, commit {report['commit']}, "
            f"{report['device']}.\n\n"
            "| form | file | bytes | top-1 | points lost to FP32 (paired 95 %) | agreement | largest logit difference |\n" + "|---" * 7 + "|\n"
            + "\n".join(rows) + f"\n\nTime of one clip, one thread, as a ratio to the FP32 deploy form: {ratios}.\n"
            + (f"\n**INT8 lost {report['int8']['drop']:.2f} points, 1 or more: do not ship it.** Layers that cost most:{layers}\n"
               if not report["accepted"] else ""))


# ---------------------------------------------------------------------------------------------------------------------
# TFLite
# ---------------------------------------------------------------------------------------------------------------------

def need_tflite() -> None:
    missing = [p for p, module in (("litert-torch", "litert_torch"), ("ai-edge-litert", "ai_edge_litert"), ("ai-edge-quantizer", "ai_edge_quantizer"))
               if importlib.util.find_spec(module) is None]
    if missing:
        raise ValueError(f"format = 'tflite' needs {', '.join(missing)}: pip install -e '.[tflite]' (about 2 GB)")


def tflite(module: nn.Module, folder: Path, clips: np.ndarray, label: np.ndarray, reference: np.ndarray) -> dict:
    """model.tflite and model.w8.tflite (weight-only INT8), batch 1, each compared with FP32 through ai-edge-litert."""
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe
    report, paths = {}, (folder / "model.tflite", folder / "model.w8.tflite")
    with atomic(paths[0]) as part:
        litert_torch.convert(module, (torch.from_numpy(clips[:1]),)).export(str(part))
    with atomic(paths[1]) as part:
        q = quantizer.Quantizer(str(paths[0]))
        q.load_quantization_recipe(recipe.weight_only_wi8_afp32())
        part.write_bytes(q.quantize().quantized_model)
    for name, path in zip(("tflite", "tflite_w8"), paths, strict=True):
        run = Interpreter(model_path=str(path))
        run.allocate_tensors()
        source, sink = run.get_input_details()[0]["index"], run.get_output_details()[0]["index"]
        out = []
        for clip in clips:
            run.set_tensor(source, clip[None])
            run.invoke()
            out.append(run.get_tensor(sink)[0].copy())
        report[name] = {**compared(reference, np.stack(out), label), "bytes": path.stat().st_size}
    return report


def options(argv: list[str]) -> tuple[dict, list[str]]:
    """What belongs to this program, and the rest, which belongs to the recipe."""
    given = {"exports": "exports", "opset": "18", "format": "onnx", "causal": "false", "calibration": "1000"}
    rest = []
    for arg in argv:
        key, eq, value = arg.partition("=")
        if eq and key in given:
            given[key] = value
        else:
            rest.append(arg)
    for key, known in (("format", ("onnx", "tflite")), ("causal", ("true", "false")), ("opset", tuple(map(str, range(13, 24))))):
        if given[key] not in known:
            raise ValueError(f"{key} = {given[key]!r}{nearest(given[key], known)}")
    if not given["calibration"].isdigit() or int(given["calibration"]) < 1:
        raise ValueError(f"calibration = {given['calibration']!r}: must be a number of clips, at least 1")
    return given, rest


def check_folder(folder: Path, cfg: Config) -> None:
    """ValueError where the folder holds the export of another run."""
    if (folder / "report.json").exists():
        old = read_json(folder / "report.json")
        if (old["dataset"], old["split"], old["seed"]) != (cfg.data.name, cfg.data.split, cfg.seed):
            raise ValueError(f"{folder} holds the export for {old['dataset']} {old['split']}, seed {old['seed']}: give exports=FOLDER, or move it "
                             "away")


def judged(cfg: Config, scores: dict[str, np.ndarray], label: np.ndarray) -> dict[str, dict]:
    """Of each form's logits (N, K): top-1, of clips that are no copies too, and what INT8 and w8 lose to FP32."""
    report = {}
    for form, logits in scores.items():
        found = accuracies(cfg, torch.from_numpy(logits), torch.from_numpy(label).long())
        report[form] = {k: found[k] for k in ("top1", "top1_clean") if k in found}
        if form != "fp32":
            report[form] |= compared(scores["fp32"], logits, label)
    return report


def main(argv: list[str]) -> int:
    given, rest = options(argv)
    cfg, opset, causal = load_config(rest), int(given["opset"]), given["causal"] == "true"
    if given["format"] == "tflite":
        need_tflite()
    folder, command, code = Path(given["exports"]) / cfg.run_name, "just phase4 " + " ".join(argv), commit()
    if not (cfg.run / "final.pt").is_file():
        raise ValueError(f"no finished run in {cfg.run} (it lacks final.pt): train it first, or give the out=, data= and seed= it was made with")
    model, trained, skeleton, classes = load_run(cfg.run)
    cfg = dataclasses.replace(trained, out=cfg.out, data=dataclasses.replace(trained.data, store=cfg.data.store))
    check_folder(folder, cfg)
    torch.set_num_threads(1)
    store = open_store(cfg)
    if classes != store.classes:
        raise ValueError(f"{cfg.run} was trained on other classes than {cfg.store} has now ({', '.join(classes[:3])} ... there, "
                         f"{', '.join(store.classes[:3])} ... here): train again, with another out= or seed=")
    train_clips, _, test_clips = splits(store, cfg)
    view = ClipView(store, cfg.view)
    with np.load(cfg.run / "scores.npz") as z:
        if sorted(z["name"]) != sorted(store.clips["name"][test_clips]):
            raise ValueError(f"{cfg.store} holds other test clips than {cfg.run} was tested on: train again, with another out= or seed=")
    clips, label = arrays(view, test_clips), store.clips["label"][test_clips]
    chosen = np.random.default_rng(0).permutation(train_clips)[:int(given["calibration"])]
    module, one = deploy(model, causal), torch.from_numpy(clips[[0, -1]])

    print(f"{folder}: {len(clips)} test clips, {len(chosen)} for calibration, opset {opset}", file=sys.stderr)
    about = {**description(cfg, skeleton, classes, model, causal), "opset": opset}
    fp32 = to_onnx(module, one, opset)
    reference = logits_of(session(fp32), clips)
    with torch.no_grad(), causal_mode(model, causal):
        parity = max(float(np.abs(model(torch.from_numpy(clips[i:i + 64])).numpy() - reference[i:i + 64]).max()) for i in range(0, len(clips), 64))
    if parity > 1e-3 * max(1.0, float(np.abs(reference).max())):
        raise ValueError(f"the exported graph differs from the network by {parity:.2g} in a logit: this is a fault of the export, please report it")
    int8, plain = static_int8(fp32, arrays(view, chosen))
    w8 = weight_only(fp32)
    scores = {"fp32": reference, "int8": logits_of(session(int8), clips), "w8": logits_of(session(w8, "w8"), clips)}
    report = judged(cfg, scores, label)
    report["fp32"]["parity"] = parity
    accepted = report["int8"]["drop"] < DROP
    layers = [] if accepted else sensitivity(int8, plain, clips[:256], reference[:256])

    sessions = {"deploy": session(fp32), "int8": session(int8), "w8": session(w8, "w8")}
    with causal_mode(model, causal):
        sessions["train_form"] = session(to_onnx(model, one[:1], opset, free_batch=False))  # as it was trained: what is folding worth?
    runs = {name: lambda s=s: s.run(["logits"], {"joints": clips[:1]}) for name, s in sessions.items()}
    with torch.inference_mode(), causal_mode(model, causal):
        runs["eager"] = lambda: model(one[:1])
        latency = latencies(runs)
    for form, graph in (("fp32", fp32), ("int8", int8), ("w8", w8)):  # when all is measured: a run that was cut leaves the export before it
        ok = accepted or form != "int8"
        written(graph, folder / FILES[form], {**about, "form": form, "top1": report[form]["top1"], "accepted": ok})
        report[form]["bytes"] = (folder / FILES[form]).stat().st_size
    if given["format"] == "tflite":
        report |= tflite(module, folder, clips, label, reference)
    report = {**{k: about[k] for k in ("recipe", "dataset", "split", "seed", "params", "causal", "opset")}, "command": command, "device": device_name(
        torch.device("cpu")), "commit": code, "clips": len(clips), "calibration": len(chosen), "accepted": accepted, **report, "latency": latency,
        **({"layers": layers} if layers else {})}
    write_json(folder / "report.json", report)
    with atomic(folder / "report.md") as part:
        part.write_text(markdown(report))
    print(markdown(report))
    if not accepted:
        worst = ", ".join(f"{x['layer']} ({x['saves']:.0f} %)" for x in layers[:5])
        print(f"error: {folder / FILES['int8']} lost {report['int8']['drop']:.2f} points of top-1, {DROP:g} or more; most of its error is due to "
              f"{worst}; ship {FILES['w8']} or {FILES['fp32']}", file=sys.stderr)
    return 0 if accepted else 1


if __name__ == "__main__":
    cli(main)
