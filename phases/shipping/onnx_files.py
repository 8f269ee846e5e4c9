"""A network as an ONNX graph, and the metadata of its file. What a file's graph holds beside it: whole.py."""
from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from phases.recordings.wild import is_flat
from phases.shipping.exported import FORMAT
from phases.shipping.onnx_edit import tidied
from phases.training.recipe import Config
from phases.training.settings import SEEN
from skeletons import Skeleton

FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx", "w8": "model.w8.onnx"}  # of each form


# ---------------------------------------------------------------------------------------------------------------------
# The graph
# ---------------------------------------------------------------------------------------------------------------------

def to_onnx(module: nn.Module, joints: Tensor, opset: int, outputs: Sequence[str] = ("logits",),
            free: Sequence[str] = ("batch",), traced: bool = False) -> onnx.ModelProto:
    """The module as one ONNX graph of the input `joints`, whose first dimensions are `free`.

    torch has two exporters. The newer one knows opsets from 18. It writes the smallest graph, and needs seconds for a
    network, many more for a view with its hundreds of operations. `traced` asks for the older one, which needs tenths
    of a second. Its graph computes for every clip each size that the module reads from a tensor's shape, so it is as
    fast only if sizes that never change are plain numbers. torch announces that the older one will go some day; where
    it has gone, or fails, the newer one takes its place.
    ValueError if the exporter cannot write it.
    """
    if traced and opset >= 18:
        with contextlib.suppress(ValueError):
            return exported(module, joints, opset, outputs, free, newer=False)
    return exported(module, joints, opset, outputs, free, newer=opset >= 18)


def exported(module: nn.Module, joints: Tensor, opset: int, outputs: Sequence[str], free: Sequence[str],
             newer: bool) -> onnx.ModelProto:
    """What to_onnx gives, by the newer or the older of torch's exporters."""
    # each has its own options
    how = {"input_names": ["joints"], "output_names": list(outputs), "opset_version": opset, "dynamo": newer}
    if newer:
        how |= {"external_data": False, "verbose": False}
        how["dynamic_shapes"] = ({i: torch.export.Dim(name) for i, name in enumerate(free)},) if free else None
    else:
        how["dynamic_axes"] = {"joints": dict(enumerate(free))}

    # they write files
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(module, (joints,), path, **how)
        except Exception as e:  # the exporters raise types of their own
            why = " ".join(str(e).split())[:160]
            raise ValueError(f"opset = {opset}: torch's exporter failed ({why}); the default is 18") from None
        model = onnx.load(path)

    # torch's new exporter may write a later opset than it was asked for
    found = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if found != opset:
        raise ValueError(f"opset = {opset}: the exporter wrote {found}; give 18, or 13 to 17 for the older exporter")
    return tidied(model)


def network_graph(module: nn.Module, clips: Tensor, opset: int) -> onnx.ModelProto:
    """The graph of a deployed network: clips under the view (B, M, T, V, 3) -> logits (B, K), features (B, C)."""
    return to_onnx(module, clips, opset, ("logits", "features"))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside the block the exporters print no graphs and no warnings, not even that torchvision is not installed."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        yield


# ---------------------------------------------------------------------------------------------------------------------
# The metadata
# ---------------------------------------------------------------------------------------------------------------------

def sees_pictures(cfg: Config, frames: np.ndarray) -> bool:
    """Whether a network has learned from clips without depth: its recordings (N, V, 3) have none, or the view took it.
    """
    return cfg.view.flat > 0 or is_flat(frames)


def description(cfg: Config, skeleton: Skeleton, classes: list[str], model: nn.Module, causal: bool,
                length: float) -> dict:
    """The metadata that `just predict` reads, but for what declines a clip: see declining.py.

    length: the median number of frames of the training clips.
    """
    view = {key: getattr(cfg.view, key) for key in SEEN}
    V = skeleton.num_joints
    body = {**skeleton.to_dict(), "centre": skeleton.centre, "trunk": skeleton.trunk}
    return {
        "format": FORMAT,
        "recipe": cfg.run_name,
        "seed": cfg.seed,
        "dataset": cfg.data.name,
        "split": cfg.data.split,
        "network": cfg.model.name,
        "params": sum(p.numel() for p in model.parameters()),
        "streams": list(model.streams),
        "causal": causal,
        "skeleton": body,
        "classes": classes,
        "unknown": list(cfg.data.unknown),  # labels that it was not taught
        "view": view,
        "fps": cfg.data.fps,
        "length": length,
        "takes": f"joints (bodies, frames, {V}, 3), float32: one clip as recorded, in metres, y up; the main body is "
                 "first; zeros or NaN: a missing joint",
        "gives": "probabilities of `classes`; features; likeness, the cosine of the features to the nearest class "
                 "and a little of how sure it is: below `threshold` the clip shows none of the classes",
    }
