"""Where the time of an exported network goes, kind of node by kind of node: FP32 beside INT8, on one CPU thread.

    python -m tests.tools.bench_nodes [fp32=FILE.onnx] [int8=FILE.onnx]      a minute -> results/bench-nodes.json
    python -m tests.tools.bench_nodes out=results/bench-nodes-vnni.json      on another processor

onnxruntime optimises a graph before it runs it: the kinds are those of the optimised graph, such as FusedConv and
QLinearConv. Both files take turns, a profile each, so that a busy moment hits both; a kind's time is its median.
"""
from __future__ import annotations

import json
import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
import torch

from phases.common.command import run, words
from phases.common.files import ROOT, write_json
from phases.training.run_folder import commit, device_name

TURNS, RUNS = 10, 40


def profiled(path: Path, runs: int = RUNS) -> dict[str, tuple[float, int]]:
    """{kind of node: (ms a run, nodes)} of the optimised graph of a file, for random inputs."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for kind, ms in node_times(path, runs):
        kinds[kind].append(ms)
    return {kind: (sum(times), len(times)) for kind, times in kinds.items()}


def node_times(path: Path, runs: int = RUNS) -> list[tuple[str, float]]:
    """(kind, ms a run) of each node of the optimised graph, in the order in which they run."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        # a batch of one clip; a profile holds every run
        feed = {}
        for given in session.get_inputs():
            shape = [size if isinstance(size, int) else 1 for size in given.shape]
            feed[given.name] = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        for _ in range(runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())

    # the fastest run of each node: a preempted one says nothing about the node
    fastest: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = (event["args"]["op_name"], event["name"])
            fastest[node] = min(event["dur"], fastest.get(node, event["dur"]))
    return [(kind, duration / 1000) for (kind, _), duration in fastest.items()]


def compared(fp32: Path, int8: Path) -> dict:
    """{fp32: [{kind, ms, nodes}], int8: the same, ratio: INT8's time over FP32's, ratios: of each turn}."""
    turns = [(profiled(fp32), profiled(int8)) for _ in range(TURNS)]
    report: dict = {"clips": 1, "turns": TURNS, "onnxruntime": onnxruntime.__version__}
    for name, side in zip(("fp32", "int8"), zip(*turns, strict=True), strict=True):
        rows = []
        for kind, (_, nodes) in side[0].items():
            rows.append({"kind": kind, "ms": statistics.median(turn[kind][0] for turn in side), "nodes": nodes})
        report[name] = sorted(rows, key=lambda row: -row["ms"])
    totals = [[sum(ms for ms, _ in side.values()) for side in turn] for turn in turns]
    report["ratios"] = [after / before for before, after in totals]
    report["ratio"] = statistics.median(report["ratios"])
    return report


def int8_instructions(listed: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The instructions for products of INT8 numbers, VNNI and AMX, that Linux lists for this processor."""
    flags = set(listed.read_text().split()) if listed.exists() else set()
    return sorted(flags & {"avx_vnni", "avx512_vnni", "amx_int8"})


@dataclass(frozen=True)
class Options:
    fp32: Annotated[str, "an exported network"] = "results/networks/utd_mhad.onnx"
    int8: Annotated[str, "the same network in INT8"] = "results/networks/utd_mhad.int8.onnx"
    out: Annotated[str, "the report; empty: none"] = "results/bench-nodes.json"


def main(options: Options) -> None:
    for path in (options.fp32, options.int8):
        if not (ROOT / path).is_file():
            raise ValueError(f"{path}: no such file")

    command = " ".join(["python -m tests.tools.bench_nodes", *words(options)])
    report = {"command": command, **compared(ROOT / options.fp32, ROOT / options.int8)}
    for side in ("fp32", "int8"):
        print(f"| {side} | nodes | ms |\n|---|---|---|")
        for row in report[side]:
            print(f"| {row['kind']} | {row['nodes']} | {row['ms']:.3f} |")
    low, high = min(report["ratios"]), max(report["ratios"])
    print(f"INT8 takes {report['ratio']:.2f} of FP32's time ({low:.2f} to {high:.2f})")

    if options.out:
        report |= {"device": device_name(torch.device("cpu")), "instructions": int8_instructions(), "commit": commit()}
        write_json(ROOT / options.out, report)


if __name__ == "__main__":
    run(main, Options, interrupted="")
