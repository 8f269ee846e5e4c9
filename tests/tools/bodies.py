"""Whether a general network names the same recordings alike as ntu25, kinect20, mediapipe33 and coco17 would give them.

    python -m tests.tools.bodies model=any          results/bodies-any.json: top-1 of test clips, recorded as each body

Kinect v2's test clips in the pool (IntelliRehabDS, pathological gait) are turned into each body, and read from there as
`just predict` reads it. What a Kinect does not give, the face, lies about its head: ears 7 cm to the sides, the nose
10 cm ahead.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from phases.common.command import run
from phases.common.files import ROOT, write_json
from phases.common.progress import progress_bar
from phases.shipping.exported import ExportedModel, check_exists, model_file
from phases.training.clip_store import ClipStore, clip_joints
from phases.training.run_folder import commit, device_name
from skeletons import SKELETONS, means, retargeted

BODIES = ("ntu25", "kinect20", "mediapipe33", "coco17")
NTU = SKELETONS["ntu25"]
EAR = 0.07      # metres from the middle of the head
NOSE = 0.10
HAND = {f"{side} {finger}": f"{side} {joint}" for side in ("left", "right")
        for finger, joint in (("pinky", "hand"), ("index", "hand tip"))}


@dataclass(frozen=True)
class Options:
    model: Annotated[str, "a file on body16, or the name of one in results/networks"] = "any"
    stores: Annotated[tuple[str, ...], "data sets in the pool, of ntu25"] = ("irds", "gait")
    out: Annotated[Path, "the results; without it, bodies-<model>.json"] = Path()


def main(options: Options) -> int:
    path = model_file(options.model)
    check_exists(path)
    model = ExportedModel(path)
    words = " ".join(["python -m tests.tools.bodies", f"model={options.model}", f"stores={','.join(options.stores)}"])
    rows = [row_of(model, name) for name in options.stores]
    out = options.out if options.out.name else ROOT / "results" / f"bodies-{path.stem}.json"
    write_json(out, {"command": words, "device": device_name(torch.device("cpu")), "commit": commit(),
                             "rows": rows})
    for row in rows:
        print(row)
    return 0


def row_of(model: ExportedModel, name: str) -> dict:
    """Top-1 of a store's test clips as each body, and how many of them are named as the body that was recorded."""
    store = ClipStore(Path("stores") / name)
    split = next(iter(store.protocols))
    _, test = store.split(split)
    labels = [model.classes.index(f"{name}: {store.classes[k]}") for k in store.clips["label"][test]]

    named = {body: [] for body in BODIES}
    with progress_bar(len(test), 0, name, "clip") as bar:
        for clip in test:
            recorded = clip_joints(store, clip)[:1]
            for body in BODIES:
                joints = as_body(recorded, body)
                named[body].append(int(model(as_network(joints, body, model)).argmax()))
            bar.update()

    found = {body: np.array(answers) for body, answers in named.items()}
    return {"set": name, "clips": len(test), "split": split,
            "top1": {body: round(100 * float((found[body] == labels).mean()), 2) for body in BODIES},
            "as_recorded": {body: round(100 * float((found[body] == found["ntu25"]).mean()), 2) for body in BODIES}}


def as_network(joints: np.ndarray, body: str, model: ExportedModel) -> np.ndarray:
    """Joints (1, L, W, 3) of a body as those of the network (1, L, V, 3)."""
    return retargeted(joints, model.retarget[body]["means"])


def as_body(joints: np.ndarray, body: str) -> np.ndarray:
    """Joints (1, L, 25, 3) of a Kinect v2 as another body's (1, L, W, 3)."""
    if body == "ntu25":
        return joints
    own = SKELETONS[body]
    face = {v: place for v, joint in enumerate(own.joints) if (place := on_face(joint))}
    table = means(NTU.joints, ["head" if v in face else HAND.get(joint, joint) for v, joint in enumerate(own.joints)])
    out = retargeted(joints, table)

    # the face turns with the shoulders
    left, right = (joints[:, :, NTU.joints.index(f"{side} shoulder")] for side in ("left", "right"))
    across = unit(left - right)  # 1 l 3
    ahead = unit(np.cross(across, np.array([0, 1, 0], across.dtype)))
    for v, (sideways, forwards) in face.items():
        seen = out[:, :, v].any(-1, keepdims=True)
        out[:, :, v] += seen * (sideways * across + forwards * ahead)
    return out


def on_face(joint: str) -> tuple[float, float] | None:
    """(metres to the left, metres ahead) from the middle of the head to a joint of the face; None for any other."""
    side = ("left" in joint) - ("right" in joint)
    if joint == "nose":
        return 0.0, NOSE
    if "ear" in joint.split():
        return side * EAR, 0.0
    if {"eye", "mouth"} & set(joint.split()):
        return side * EAR / 2, 0.8 * NOSE
    return None


def unit(x: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) at length 1; zeros stay zeros."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)


if __name__ == "__main__":
    run(main, Options)
