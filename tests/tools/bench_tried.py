"""What was tried to make LAST-Lite faster on a CPU, each beside the code as it is: ratios of ten turns.

    python -m tests.tools.bench_tried       a few minutes, one thread -> results/tried-speed.json

A variant replaces one function and computes the same up to rounding: `difference` is the largest change of a gradient
or logit, as a share of the largest. What was kept is measured against what it replaced. Steps and clips are those of
`just bench peer=true`.

Where the time of an exported network goes bounds what is left. Convolutions and products of matrices, Hardswish fused
into them by onnxruntime, stay; of the stream fusion and the first shift nothing would be left at best.
"""
from __future__ import annotations

import contextlib
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

import last
from phases.common.command import run, words
from phases.common.files import ROOT, write_json
from phases.common.memory import keep_freed_memory
from phases.shipping import deploy as shipping
from phases.shipping.onnx_edit import expanded
from phases.shipping.onnx_files import network_graph
from phases.training.networks import build_model
from phases.training.recipe import load_config
from phases.training.run_folder import commit, device_name
from tests.tools.bench_nodes import node_times
from tests.tools.bench_peer import CLASSES, CLIPS, FRAMES, NTU, OURS, in_turns, runner

# ---------------------------------------------------------------------------------------------------------------------
# The variants: a function in place of one of last.py, or of one of the deploy form
# ---------------------------------------------------------------------------------------------------------------------

KEPT = "what is shared is as large as a map"


def products(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """pointwise_conv as a product of matrices at every width."""
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def dct_by_halves(self: last.DCTGate, x: Tensor, mask: Tensor) -> Tensor:
    """DCTGate.forward with half the products: even bins see x(t) + x(T-1-t) only, odd bins the difference."""
    v = x.shape[3]
    half = len(self.D) // 2
    kept = rearrange(mask[:, :len(self.D)], "c k -> c k 1")
    y = rearrange(x, "n c t v -> n t (v c)")
    mirrored = y[:, half:].flip(1)
    sides = []
    for first, part in ((0, y[:, :half] + mirrored), (1, y[:, :half] - mirrored)):
        D = self.D[first::2, :half]
        spectrum = rearrange(D @ part, "n k (v c) -> n c k v", v=v)
        spectrum = last.by_rows(torch.mul, spectrum, kept[:, first::2])
        sides.append(D.T @ rearrange(spectrum, "n c k v -> n k (v c)"))
    y = torch.cat([sides[0] + sides[1], (sides[0] - sides[1]).flip(1)], 1)
    return rearrange(y, "n t (v c) -> n c t v", v=v)


def gate_with_residual(self: last.ShiftFuseBlock, x: Tensor, embedding: Tensor | None, mask: Tensor | None,
                       gate: Tensor | None) -> Tensor:
    """ShiftFuseBlock.forward whose frame gate and residual are one pass."""
    y = last.by_rows(torch.add, self.mix(x), rearrange(embedding, "c v -> c 1 v"))
    y = self.tcn(self.dct(y, mask))
    residual = self.residual(x, y.shape[2]).permute(0, 2, 3, 1)

    def scaled(y: Tensor, gate: Tensor) -> Tensor:
        return torch.addcmul(residual, y, gate)
    return last.by_rows(scaled, y, rearrange(gate, "c t -> c t 1"))


def deployed_by_halves(self: shipping.DeployBlock, x: Tensor, halves: bool = True) -> Tensor:
    """DeployBlock.forward, its DCT by halves; without padding where a block is as wide as its input."""
    y = x.flatten(1, 2).index_select(1, self.index)
    y = F.hardswish(self.mix(y.unflatten(1, (-1, self.joints)))) + self.embedding
    if halves:
        half = len(self.D) // 2
        mirrored = y[..., half:].flip(3)
        sides = []
        for first, part in ((0, y[..., :half] + mirrored), (1, y[..., :half] - mirrored)):
            D = self.D[first::2, :half]
            sides.append((part @ D.T * self.mask[..., first::2]) @ D)
        y = torch.cat([sides[0] + sides[1], (sides[0] - sides[1]).flip(3)], 3)
    else:
        y = (y @ self.D.T * self.mask) @ self.D
    y = (self.tcn(y) + y if self.stride == 1 else self.tcn(y)) * self.gate
    if self.stride == 2:
        x = F.avg_pool2d(x, (1, 2), padding=(0, 1), count_include_pad=False)[:, :, :, :y.shape[3]]
    return y + (F.pad(x, (0, 0, 0, 0, 0, self.extra)) if self.extra else x)


def deployed_unpadded(self: shipping.DeployBlock, x: Tensor) -> Tensor:
    """DeployBlock.forward, only without that padding."""
    return deployed_by_halves(self, x, halves=False)


def broadcasting(op: Callable, x: Tensor, shared: Tensor) -> Tensor:
    """last.by_rows as on a GPU."""
    return op(x, shared)


@contextlib.contextmanager
def replaced(owner: object, name: str, function: Callable) -> Iterator[None]:
    """Inside the block, `owner` has another function under a name."""
    before = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)


STEPS = {
    "1x1 convolutions as products of matrices": (last, "pointwise_conv", products),
    "DCT gate by even and odd halves": (last.DCTGate, "forward", dct_by_halves),
    "frame gate and residual in one pass": (last.ShiftFuseBlock, "forward", gate_with_residual),
}
FORMER = {KEPT: (last, "by_rows", broadcasting)}  # before what was kept
EXPORTS = {
    "DCT gate by even and odd halves": (shipping.DeployBlock, "forward", deployed_by_halves),
    "no padding by no channels": (shipping.DeployBlock, "forward", deployed_unpadded),
}


# ---------------------------------------------------------------------------------------------------------------------
# Pairs
# ---------------------------------------------------------------------------------------------------------------------

def paired(before: Callable, after: Callable, turns: int, least: float) -> dict:
    """{ratio, ratios}: how many times as fast `after` is."""
    seconds = in_turns({"before": before, "after": after}, turns, least)
    ratios = [a / b for a, b in zip(seconds["before"], seconds["after"], strict=True)]
    return {"ratio": statistics.median(ratios), "ratios": ratios}


def difference(was: list[Tensor], now: list[Tensor]) -> float:
    """The largest change, as a share of the largest value."""
    changes = [float((a - b).abs().max()) for a, b in zip(was, now, strict=True)]
    return max(changes) / max(float(a.abs().max()) for a in was)


def tried_steps(network: str, turns: int, least: float) -> list[dict]:
    """Each of STEPS in a training step."""
    cfg = load_config([f"recipe=lite_{network}", "model.dropout=0"])
    model = build_model(cfg, NTU, CLASSES).train()
    batch = {"joints": torch.randn(CLIPS, 1, FRAMES, NTU.num_joints, 3), "label": torch.arange(CLIPS)}
    loss_fn = last.classification_loss(cfg.train)

    def step() -> list[Tensor]:
        model.zero_grad(set_to_none=True)
        loss_fn(model, batch)[0].backward()
        return [p.grad for p in model.parameters()]

    rows = []
    for name, change in (FORMER | STEPS).items():
        def other(change: tuple = change) -> list[Tensor]:
            with replaced(*change):
                return step()

        sides = (other, step) if name in FORMER else (step, other)
        rows.append({"what": name, "where": "step", "network": network, "difference": difference(step(), other()),
                     "kept": name in FORMER, **paired(*sides, turns, least)})
    return rows


def tried_exports(network: str, turns: int, least: float) -> tuple[list[dict], dict]:
    """Each of EXPORTS and KEPT in a run of one clip of two bodies; and where the time of the graph goes."""
    module = shipping.deploy(build_model(load_config([f"recipe=lite_{network}"]), NTU, CLASSES))
    example = torch.randn(2, 2, FRAMES, NTU.num_joints, 3)
    feed = {"joints": example[:1].numpy()}
    plain = network_graph(module, example, 18)
    graphs = {KEPT: expanded(plain)}
    for name, change in EXPORTS.items():
        with replaced(*change):
            graphs[name] = expanded(network_graph(module, example, 18))

    runs = {name: runner(graph.SerializeToString(), feed) for name, graph in {"": plain, **graphs}.items()}
    rows = []
    for name in graphs:
        before = runs["" if name == KEPT else KEPT]
        off = difference(*([torch.from_numpy(x) for x in side()] for side in (before, runs[name])))
        rows.append({"what": name, "where": "onnx", "network": network, "difference": off, "kept": name == KEPT,
                     **paired(before, runs[name], turns, least)})
    return rows, where_time_goes(graphs[KEPT])


def where_time_goes(graph: onnx.ModelProto) -> dict:
    """{ms, products, fusion, norms} of a graph: its time, the shares of convolutions and products of matrices, and of
    the stream fusion with the first shift, and how many batch norms are left."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(graph, path)
        nodes = node_times(path)
    kinds = [kind for kind, _ in nodes]
    whole = sum(ms for _, ms in nodes)
    products = sum(ms for kind, ms in nodes if kind in ("Conv", "MatMul"))

    # from the first convolution to before the second; the residual's padding lies between
    first = kinds.index("Conv")
    second = kinds.index("Conv", first + 1)
    fusion = sum(ms for kind, ms in nodes[first:second] if kind != "Pad")
    return {"ms": whole, "products": products / whole, "fusion": fusion / whole,
            "norms": kinds.count("BatchNormalization")}


# ---------------------------------------------------------------------------------------------------------------------
# All of them
# ---------------------------------------------------------------------------------------------------------------------

def table(turns: int, least: float = 0.6) -> dict:
    """Measure and print all variants: {tried: rows, exported: {network: where its time goes}}."""
    tried = []
    exported = {}
    print("| where | network | what | times as fast | from | to | difference |\n" + "|---" * 7 + "|", flush=True)
    for network in OURS:
        steps = tried_steps(network, turns, least)
        exports, exported[network] = tried_exports(network, turns, least)
        for row in [*steps, *exports]:
            print(f"| {row['where']} | {network} | {row['what']} | {row['ratio']:.3f} | {min(row['ratios']):.3f} "
                  f"| {max(row['ratios']):.3f} | {row['difference']:.1e} |", flush=True)
            tried.append(row)
    return {"turns": turns, "tried": tried, "exported": exported}


@dataclass(frozen=True)
class Options:
    turns: Annotated[int, (1, 100), "of each pair"] = 10
    out: Annotated[str, "the report; empty: none"] = "results/tried-speed.json"


def main(options: Options) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    report = {"command": " ".join(["python -m tests.tools.bench_tried", *words(options)]), **table(options.turns)}
    for network, spent in report["exported"].items():
        print(f"{network}: {100 * spent['products']:.0f} % in convolutions and products, {100 * spent['fusion']:.1f} % "
              f"in stream fusion and first shift, {spent['norms']} norms left")

    if options.out:
        report |= {"device": device_name(torch.device("cpu")), "torch": torch.__version__,
                   "onnxruntime": onnxruntime.__version__, "commit": commit()}
        write_json(ROOT / options.out, report)


if __name__ == "__main__":
    run(main, Options, interrupted="")
