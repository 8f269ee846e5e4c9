"""What the tests of exported files share: a short training and its export, made once, and a stand-in for a network."""
import fcntl
import functools
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from phases import p1_train, p4_export
from phases.shipping.deploy import deploy
from phases.shipping.onnx_edit import save_onnx
from phases.shipping.onnx_files import description, network_graph
from phases.training.clip_store import ClipStore
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import Skeleton, retarget_tables
from tests.helpers.clip_stores import write_store
from tests.helpers.networks import joints, network
from tests.helpers.programs import call

QUICK = ["data.name=tiny", "data.num_classes=3", "device=cpu", "train.epochs=3", "train.batch=8",
         "train.warmup_epochs=1", "view.frames=12", "view.bodies=2", "seed=3"]


class Shipped(NamedTuple):
    """A short run on a tiny store, and its export."""
    folder: Path        # the store is folder/stores/tiny
    run: Path
    export: Path
    argv: list[str]     # of the run


@functools.cache
def ship(base: Path) -> Shipped:
    """base: pytest's folder of this run; the first of its processes makes the run and the export, the others wait."""
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shipped"
    argv = ["recipe=lite_nano", *QUICK, f"data.store={folder / 'stores' / 'tiny'}", f"out={folder / 'runs'}"]
    with open(folder.with_suffix(".lock"), "w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "exports" / "tiny" / "lite_nano").exists():
            write_store(folder / "stores" / "tiny", clips=48)
            patch.chdir(folder)
            call(p1_train, *argv)
            assert call(p4_export, *argv, f"exports={folder / 'exports'}", "calibration=16") in (0, 1)
    run = folder / "runs" / "lite_nano" / "tiny-xsub" / "seed3"
    return Shipped(folder, run, folder / "exports" / "tiny" / "lite_nano", argv)


@functools.cache
def float_graph() -> onnx.ModelProto:
    """The FP32 graph of a stirred lite_nano for 16 frames of ntu25, one body; only to be read."""
    return network_graph(deploy(network("ntu25", "view.frames=16")), joints(2, 1, 16, 25), 18)


def recorded(store: ClipStore, i: int) -> np.ndarray:
    """Joints (M, L, V, 3) of clip i as they are stored; an absent body is left out."""
    length = store.clips["length"][i]
    return np.stack([store.frames[first:first + length] for first in store.clips["offset"][i] if first >= 0])


def stand_in(path: Path, recipe: list[str], skeleton: Skeleton, recorded: dict | None = None, **metadata) -> Path:
    """An ONNX file with the metadata of a network, and in its place a mean of the joints: two classes, x and y.

    Its likeness is the largest coordinate of the mean. `metadata`: what else the file says.
    """
    # what the file says of itself
    cfg = load_config(["recipe=lite_nano", *recipe])
    about = description(cfg, skeleton, ["a", "b"], build_model(cfg, skeleton, 2), False, cfg.view.frames)
    about |= {"recorded": recorded or {}, "retarget": retarget_tables(skeleton),
              "form": "fp32", "threshold": -1.0, "temperature": 1.0} | metadata

    # the graph
    shape = ["bodies", "frames", skeleton.num_joints, 3]
    x = helper.make_tensor_value_info("joints", TensorProto.FLOAT, shape)
    shapes = {"probabilities": [2], "features": [3], "likeness": []}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in shapes.items()]
    constants = [helper.make_tensor("axes", TensorProto.INT64, [3], [0, 1, 2]),
                 helper.make_tensor("first", TensorProto.INT64, [2], [0, 1])]
    nodes = [helper.make_node("ReduceMean", ["joints", "axes"], ["features"], keepdims=0),
             helper.make_node("Gather", ["features", "first"], ["logits"]),
             helper.make_node("Softmax", ["logits"], ["probabilities"]),
             helper.make_node("ReduceMax", ["features"], ["likeness"], keepdims=0)]
    graph = helper.make_graph(nodes, "mean", [x], outputs, constants)
    save_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path, about)
    return path


def utd_stand_in(path: Path, data_folder: Path) -> Path:
    """A stand-in for a network of UTD-MHAD, whose 20 joints are kinect20's in another order."""
    skeleton = Skeleton.from_dict(json.loads((data_folder / "utd-mhad.json").read_text())["skeleton"])
    return stand_in(path, ["data=utd_mhad"], skeleton)
