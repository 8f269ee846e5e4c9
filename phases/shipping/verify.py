"""Exported graphs against the network they are of: logits, accuracy on the test clips, times, costly layers."""
from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from last import causal as causal_mode
from phases.common.progress import progress_bar
from phases.shipping.exported import open_session
from phases.shipping.onnx_files import FILES, to_onnx
from phases.shipping.quantise import WEIGHTED, back_to_float, quantised_layers
from phases.training.recipe import Config
from phases.training.run_folder import accuracies

DROP = 1.0   # points of top-1: a file must lose fewer than this,
CLIPS = 1.5  # or than these clips, where they are more: it may lose one
WARM_UP = 5  # rounds that are not timed


# ---------------------------------------------------------------------------------------------------------------------
# Logits
# ---------------------------------------------------------------------------------------------------------------------

def session(graph: onnx.ModelProto, form: str = "fp32") -> ort.InferenceSession:
    """A session of a graph in memory, as `just predict` opens the file of that form."""
    return open_session(graph.SerializeToString(), weight_only=form == "w8")


def logits_of(run: ort.InferenceSession, clips: np.ndarray) -> np.ndarray:
    """Logits (N, K) of clips (N, M, T, V, 3)."""
    out = []
    with progress_bar(len(clips), 0, "verify", "clip") as bar:
        for start in range(0, len(clips), 64):
            out.append(run.run(["logits"], {"joints": clips[start:start + 64]})[0])
            bar.update(len(out[-1]))
    return np.concatenate(out)


def parity(model: nn.Module, causal: bool, clips: np.ndarray, reference: np.ndarray) -> float:
    """Largest logit difference between the network and its FP32 graph; ValueError if it is more than rounding."""
    # the network in batches of 64, as the graph was run
    found = 0.0
    with torch.no_grad(), causal_mode(model, causal):
        for start in range(0, len(clips), 64):
            logits = model(torch.from_numpy(clips[start:start + 64])).numpy()
            found = max(found, float(np.abs(logits - reference[start:start + 64]).max()))

    # rounding grows with the logits
    if found > 1e-3 * max(1.0, float(np.abs(reference).max())):
        raise ValueError(f"the exported graph differs from the network by {found:.2g} in a logit: this is a fault of "
                         "the export, please report it")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Accuracy
# ---------------------------------------------------------------------------------------------------------------------

def judge(cfg: Config, scores: dict[str, np.ndarray], label: np.ndarray) -> dict[str, dict]:
    """By form, from its logits (N, K): top-1, also without copied clips, what it loses to FP32, whether it passes."""
    report = {}
    for form, logits in scores.items():
        found = accuracies(cfg, torch.from_numpy(logits), torch.from_numpy(label).long())
        report[form] = {key: found[key] for key in ("top1", "top1_clean") if key in found}

        # FP32 loses nothing to itself; `parity` compares it with the network
        report[form]["accepted"] = True
        if form != "fp32":
            report[form] |= compare(scores["fp32"], logits, label)
    return report


def compare(reference: np.ndarray, logits: np.ndarray, label: np.ndarray) -> dict:
    """What a form loses to FP32 on the same clips (points of top-1, agreement, logits), and whether it may.

    `drop_ci95` is Agresti and Min's 95 % interval for matched pairs (Statistics in Medicine 2005). It adds half a clip
    to each of the four cells and so stays honest when few clips, or none, change sides.
    """
    # clips that change sides
    n = len(label)
    right = logits.argmax(1) == label
    right_before = reference.argmax(1) == label
    lost = int((right_before & ~right).sum())
    won = int((~right_before & right).sum())

    # the interval
    middle = (lost - won) / (n + 2)
    half = 1.96 * ((lost + won + 1) - (lost - won) ** 2 / (n + 2)) ** 0.5 / (n + 2)

    drop = 100 * (lost - won) / n
    return {
        "top1": 100 * float(right.mean()),
        "accepted": acceptable(drop, n),
        "drop": drop,
        "drop_ci95": [100 * (middle - half), 100 * (middle + half)],
        "agreement": 100 * float((logits.argmax(1) == reference.argmax(1)).mean()),
        "max_diff": float(np.abs(logits - reference).max()),
    }


def limit(clips: int) -> float:
    """The points of top-1 that every form has to stay below on this many clips."""
    return max(DROP, 100 * CLIPS / clips)


def acceptable(drop: float, clips: int) -> bool:
    """Whether a form may lose this many points of top-1 on this many clips."""
    return drop < limit(clips)


# ---------------------------------------------------------------------------------------------------------------------
# Times, and layers
# ---------------------------------------------------------------------------------------------------------------------

def relative_times(model: nn.Module, causal: bool, opset: int, forms: dict[str, onnx.ModelProto],
                   clip: np.ndarray) -> dict[str, float]:
    """Time of one clip (1, M, T, V, 3), as a ratio to the deploy form: of each other form, and of the network itself.

    `deploy` is the FP32 graph, `train_form` the graph without folding, `eager` PyTorch.
    """
    # the files, as `just predict` opens them
    sessions = {}
    for form in FILES:
        sessions["deploy" if form == "fp32" else form] = session(forms[form], form)

    # the network itself, as a graph and in PyTorch
    with causal_mode(model, causal):
        unfolded = to_onnx(model, torch.from_numpy(clip), opset, free_batch=False)
        sessions["train_form"] = session(unfolded)
        runs = {name: partial(s.run, ["logits"], {"joints": clip}) for name, s in sessions.items()}
        runs["eager"] = partial(model, torch.from_numpy(clip))
        with torch.inference_mode():
            return latencies(runs)


def latencies(runs: dict[str, Callable[[], object]], rounds: int = 60) -> dict[str, float]:
    """Median time of a call as a ratio to `deploy`. The calls are interleaved."""
    # each call in turn, so that a busy moment hits all of them
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + WARM_UP):
        for name, call in runs.items():
            call()  # warms the caches, which hold the data of the previous call
            start = time.perf_counter()
            call()
            if i >= WARM_UP:
                times[name].append(time.perf_counter() - start)

    # as ratios
    medians = {name: statistics.median(t) for name, t in times.items()}
    return {name: round(m / medians["deploy"], 3) for name, m in medians.items()}


def sensitivity(int8: onnx.ModelProto, plain: onnx.ModelProto, clips: np.ndarray, reference: np.ndarray) -> list[dict]:
    """Percent of the mean logit error against FP32 that each quantised layer `saves` when only it is float again."""
    def error(model: onnx.ModelProto) -> float:
        logits = session(model).run(["logits"], {"joints": clips})[0]
        return float(np.abs(logits - reference).mean())

    # in the float graph a weight has the name of its part of the network
    names = {n.name: n.input[1].removesuffix(".weight") for n in plain.graph.node if n.op_type in WEIGHTED}
    layers = quantised_layers(int8)
    whole = max(error(int8), 1e-12)

    # one layer at a time
    found = []
    with progress_bar(len(layers), 0, "sensitivity", "layer") as bar:
        for layer in layers:
            left = error(back_to_float(int8, plain, layer))
            found.append({"layer": names[layer], "saves": 100 * (1 - left / whole)})
            bar.update()
    return sorted(found, key=lambda layer: -layer["saves"])
