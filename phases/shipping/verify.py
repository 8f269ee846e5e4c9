"""Exported graphs against the network they are of: answers and accuracy on the test clips, times, costly layers."""
from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from last import causal as causal_mode
from last import classify
from phases.common.progress import progress_bar
from phases.shipping.declining import Declining
from phases.shipping.deploy import over_bodies
from phases.shipping.exported import open_session
from phases.shipping.onnx_files import FILES
from phases.shipping.quantise import WEIGHTED, back_to_float, quantised_layers
from phases.training.clip_store import ClipStore, clip_joints
from phases.training.parts import Parts
from phases.training.recipe import Config
from phases.training.run_folder import accuracies
from phases.training.view import ClipView

DROP = 1.0   # points of top-1: a file must lose fewer than this,
CLIPS = 1.5  # or than these clips, where they are more: it may lose one
DAMAGED = 1000  # damaged training clips, at least, that set the threshold of declining
WARM_UP = 5  # rounds that are not timed


# ---------------------------------------------------------------------------------------------------------------------
# Answers
# ---------------------------------------------------------------------------------------------------------------------

def session(graph: onnx.ModelProto, form: str = "fp32") -> ort.InferenceSession:
    """A session of a graph in memory, as `just predict` opens the file of that form."""
    return open_session(graph.SerializeToString(), weight_only=form == "w8")


def logits_of(run: ort.InferenceSession, clips: np.ndarray) -> np.ndarray:
    """Logits (N, K) of clips (N, M, T, V, 3) by a network's own graph."""
    out = []
    for start in range(0, len(clips), 64):
        out.append(run.run(["logits"], {"joints": clips[start:start + 64]})[0])
    return np.concatenate(out)


class RecordedClips(Sequence):
    """Clips of a store as they were recorded: joints (bodies, frames, V, 3) of each, absent bodies left out."""

    def __init__(self, store: ClipStore, index: np.ndarray):
        self.store = store
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> np.ndarray:
        return clip_joints(self.store, self.index[i])


class Answers(NamedTuple):
    """What a whole graph makes of N clips."""
    probabilities: np.ndarray   # n k
    features: np.ndarray        # n c
    likeness: np.ndarray        # n


def answers_of(run: ort.InferenceSession, clips: Sequence[np.ndarray]) -> Answers:
    """The answers of a whole graph to recorded clips, each (bodies, frames, V, 3)."""
    found = []
    with progress_bar(len(clips), 0, "verify", "clip") as bar:
        for clip in clips:
            found.append(run.run(Answers._fields, {"joints": clip}))
            bar.update()
    return Answers(*map(np.stack, zip(*found, strict=True)))


def eager_answers(model: nn.Module, causal: bool, clips: np.ndarray, declining: Declining,
                    parts: Parts | None = None) -> Answers:
    """The same of the network itself in PyTorch, for clips (N, M, T, V, 3) under the test view."""
    logits, features = network_outputs(model, causal, torch.from_numpy(clips).split(64), parts)
    probabilities = (logits / declining.temperature).softmax(1)
    return Answers(probabilities.numpy(), features.numpy(), declining.likeness(features.numpy(), logits.numpy()))


def network_outputs(model: nn.Module, causal: bool, batches: Iterable[Tensor],
                    pool: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and features (N, C) of the network for batches of clips (B, M, T, V, 3).

    pool: what makes features of its last map, by default the pooling of its head. See Deployed.
    """
    pool = pool or model.head.pool
    found = []
    features = []
    with torch.no_grad(), causal_mode(model, causal):
        for batch in batches:
            logits, maps = classify(model, batch, drop_absent=False)
            found.append(logits)
            features.append(over_bodies(pool(maps[-1]), batch))
    return torch.cat(found), torch.cat(features)


def declining_of(model: nn.Module, causal: bool, view: ClipView, clips: np.ndarray,
                 parts: Parts | None = None) -> Declining:
    """What lets the network decline, measured on training clips: under the test view, and damaged as in training.

    `parts` are settled by the same clips.
    """
    index = torch.from_numpy(clips)
    if parts is not None:
        parts.settle(network_outputs(model, causal, map(view, index.split(256)), parts.raw)[1])
    _, features = network_outputs(model, causal, map(view, index.split(256)), parts)

    # few clips are damaged several times
    times = -(-DAMAGED // len(clips))
    damaged = (view(part, True, 0, epoch) for epoch in range(times) for part in index.split(256))
    logits, again = network_outputs(model, causal, damaged, parts)
    label = view.label[index].numpy()
    scale = None if parts is None else np.ones(features.shape[1], np.float32)  # parts have theirs
    return Declining.of(features.numpy(), label, logits.shape[1], again.numpy(), logits.numpy(), scale)


def parity(network: Answers, reference: Answers) -> float:
    """Largest difference in a probability between the network and its FP32 file; ValueError if it is no rounding.

    The network sees the clips of a store through ClipView, the file sees them as recorded: so this compares the views.
    """
    found = float(np.abs(network.probabilities - reference.probabilities).max())
    of_likeness = float(np.abs(network.likeness - reference.likeness).max())

    # probabilities near 0 and 1 hide a difference; rounding grows with the features
    of_features = float(np.abs(network.features - reference.features).max())
    if max(found, of_likeness, of_features / max(1.0, float(np.abs(network.features).max()))) > 1e-3:
        raise ValueError(f"the exported file differs from the network by {found:.2g} in a probability, "
                         f"{of_likeness:.2g} in a likeness and {of_features:.2g} in a feature: this is a fault of the "
                         "export, please report it")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Accuracy
# ---------------------------------------------------------------------------------------------------------------------

def judge(cfg: Config, scores: dict[str, np.ndarray], label: np.ndarray) -> dict[str, dict]:
    """By form, from its probabilities (N, K): top-1, also without copied clips, what it loses to FP32, if it passes."""
    report = {}
    for form, probabilities in scores.items():
        found = accuracies(cfg, torch.from_numpy(probabilities), torch.from_numpy(label).long())
        report[form] = {key: found[key] for key in ("top1", "top1_clean") if key in found}

        # FP32 loses nothing to itself; `parity` compares it with the network
        report[form]["accepted"] = True
        if form != "fp32":
            report[form] |= compare(scores["fp32"], probabilities, label)
    return report


def compare(reference: np.ndarray, probabilities: np.ndarray, label: np.ndarray) -> dict:
    """What a form loses to FP32 on the same clips (points of top-1, agreement, a probability), and whether it may.

    `drop_ci95` is Agresti and Min's 95 % interval for matched pairs (Statistics in Medicine 2005). It adds half a clip
    to each of the four cells and so stays honest when few clips, or none, change sides.
    """
    # clips that change sides
    n = len(label)
    right = probabilities.argmax(1) == label
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
        "agreement": 100 * float((probabilities.argmax(1) == reference.argmax(1)).mean()),
        "max_diff": float(np.abs(probabilities - reference).max()),
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

def relative_times(model: nn.Module, causal: bool, networks: dict[str, onnx.ModelProto], clip: np.ndarray,
                   whole: onnx.ModelProto, joints: np.ndarray) -> dict[str, float]:
    """Time of one clip, as a ratio to the deploy form: of each other form, of the network itself, of the whole file.

    `deploy` is the FP32 graph of the network, `eager` the network in PyTorch; they and the 8-bit forms get clip
    (1, M, T, V, 3), under the view. `file` is the `whole` FP32 graph and gets the joints as recorded.
    """
    # the graphs, as `just predict` opens a file of each form
    runs = {}
    for form in FILES:
        name = "deploy" if form == "fp32" else form
        runs[name] = partial(session(networks[form], form).run, ["logits"], {"joints": clip})
    runs["file"] = partial(session(whole).run, ["probabilities"], {"joints": joints})

    # the network itself
    runs["eager"] = partial(model, torch.from_numpy(clip))
    with causal_mode(model, causal), torch.inference_mode():
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


def sensitivity(networks: dict[str, onnx.ModelProto], clips: np.ndarray) -> list[dict]:
    """Percent of the mean logit error against FP32 that each quantised layer `saves` when only it is float again.

    networks: the graphs `fp32`, `int8` and `plain` of a network; clips (N, M, T, V, 3) under the test view.
    """
    int8 = networks["int8"]
    plain = networks["plain"]
    reference = logits_of(session(networks["fp32"]), clips)

    def error(model: onnx.ModelProto) -> float:
        return float(np.abs(logits_of(session(model), clips) - reference).mean())

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
