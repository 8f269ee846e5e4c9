"""LAST-Lite beside EfficientGCN-B0 on one CPU thread: training steps, and exported networks, as ratios of one run.

    just bench peer=true        a few minutes -> results/bench-peer.json

A step is forward and backward of 16 clips of one body. An exported network is what phase 4 would export, run by
onnxruntime on one clip of two bodies; B0's norms are folded alike (peers.py). T = 64, V = 25, 60 classes. The networks
take turns in one process, a second each or one call; a ratio is of one turn, because the speed of a machine
varies. Times are of the CPU.
"""
from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F

from phases.common.memory import keep_freed_memory
from phases.shipping.deploy import deploy
from phases.shipping.onnx_edit import expanded
from phases.shipping.onnx_files import network_graph, to_onnx
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.tools.bench_steps import plain_step, training_step
from tests.tools.peers import EfficientGCN, deployed

NTU = SKELETONS["ntu25"]
CLIPS, FRAMES, CLASSES = 16, 64, 60
OURS = ("nano", "small")
AIMS = {"step": {"nano": 8.0, "small": 4.0}, "onnx": {"nano": 0.12, "small": 0.25}}  # times as fast; share of the time


# ---------------------------------------------------------------------------------------------------------------------
# What is measured
# ---------------------------------------------------------------------------------------------------------------------

def steps() -> dict[str, Callable[[], None]]:
    """{network: its training step}, B0's under `peer`."""
    found = {name: plain_step(f"lite_{name}", CLIPS) for name in OURS}
    batch = {"joints": torch.randn(CLIPS, 1, FRAMES, NTU.num_joints, 3), "label": torch.arange(CLIPS)}

    def loss_fn(model: torch.nn.Module, batch: dict) -> tuple[torch.Tensor, dict]:
        return F.cross_entropy(model(batch["joints"]), batch["label"]), {}

    return found | {"peer": training_step(EfficientGCN(NTU, CLASSES).train(), loss_fn, batch)}


def graphs() -> dict[str, Callable[[], None]]:
    """{network: a run of its exported graph}, B0's under `peer`."""
    example = torch.randn(2, 2, FRAMES, NTU.num_joints, 3)
    models = {}
    for name in OURS:
        module = deploy(build_model(load_config([f"recipe=lite_{name}"]), NTU, CLASSES))
        models[name] = network_graph(module, example, 18)
    models["peer"] = to_onnx(deployed(EfficientGCN(NTU, CLASSES)), example, 18)

    clip = {"joints": example[:1].numpy()}
    return {name: runner(expanded(model).SerializeToString(), clip) for name, model in models.items()}


def runner(graph: bytes, feed: dict[str, np.ndarray]) -> Callable[[], None]:
    """A run of a graph on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


# ---------------------------------------------------------------------------------------------------------------------
# Turns
# ---------------------------------------------------------------------------------------------------------------------

def in_turns(calls: dict[str, Callable[[], None]], turns: int, least: float) -> dict[str, list[float]]:
    """{name: CPU seconds a call in each turn}; a turn calls each for at least `least` seconds."""
    # one call to warm up, one to learn how many fill a turn
    count = {}
    for name, call in calls.items():
        call()
        count[name] = max(1, round(least / max(1e-6, spent(call, 1))))

    # then one after the other
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            seconds[name].append(spent(call, count[name]))
    return seconds


def spent(call: Callable[[], None], times: int) -> float:
    """CPU seconds a call."""
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def compared(what: str, calls: dict[str, Callable[[], None]], turns: int, least: float) -> list[dict]:
    """[{what, network, ms, peer_ms, ratio, ratios, aim}]: how often B0's step takes ours, or our share of its graph."""
    seconds = in_turns(calls, turns, least)
    rows = []
    for name in OURS:
        pairs = zip(seconds[name], seconds["peer"], strict=True)
        ratios = [peer / ours if what == "step" else ours / peer for ours, peer in pairs]
        ms, peer_ms = (1000 * statistics.median(seconds[side]) for side in (name, "peer"))
        rows.append({"what": what, "network": name, "ms": ms, "peer_ms": peer_ms, "ratio": statistics.median(ratios),
                     "ratios": ratios, "aim": AIMS[what][name]})
    return rows


def table(turns: int = 10, least: float = 1.0) -> dict:
    """Measure and print: {peer, params, edges, clips, frames, turns, onnxruntime, rows}."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()  # as a training begins

    rows = []
    print("| what | network | ms | EfficientGCN-B0's | ratio | from | to | aim |\n" + "|---" * 8 + "|", flush=True)
    for what, made in (("step", steps), ("onnx", graphs)):
        for row in compared(what, made(), turns, least):
            print(f"| {what} | {row['network']} | {row['ms']:.1f} | {row['peer_ms']:.1f} | {row['ratio']:.3f} "
                  f"| {min(row['ratios']):.3f} | {max(row['ratios']):.3f} | {row['aim']:g} |", flush=True)
            rows.append(row)

    # its edge weights are no parameters of a layer, and the paper does not count them
    peer = EfficientGCN(NTU, CLASSES)
    edges = sum(p.numel() for name, p in peer.named_parameters() if name.endswith("edges"))
    params = sum(p.numel() for p in peer.parameters()) - edges
    return {"peer": "EfficientGCN-B0", "params": params, "edges": edges, "clips": CLIPS, "frames": FRAMES,
            "turns": turns, "onnxruntime": onnxruntime.__version__, "rows": rows}
