"""Tiny clip stores with classes that can be learned, and the words of a short run on one."""
import json
from pathlib import Path

import numpy as np

from skeletons import SKELETONS, Skeleton

ROOT = Path(__file__).resolve().parents[2]  # of the project

# A short run of phase 1 that several files look at; its clips are not damaged.
UNHURT = ["view.missing=0.0", "view.noise=0.0", "view.spikes=0.0", "view.idle=0.0", "view.tempo=0.0"]
QUICK = ["recipe=lite_nano", "data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "train.epochs=2",
         "train.batch=8", "train.warmup_epochs=1", "train.lr=0.05", *UNHURT]
RUN = "runs/lite_nano/tiny-xsub/seed0"


def latest(*words: str) -> list[str]:
    """key=value words of which a later one replaces an earlier one of the same key: a command line takes each once."""
    return list({word.partition("=")[0]: word for word in words}.values())


def rest_pose(skeleton: Skeleton) -> np.ndarray:
    """(V, 3) metres: every joint 0.2 below its parent, left ones to +x, right ones to -x, depths all different."""
    pose = np.zeros((skeleton.num_joints, 3))
    for v in np.argsort(skeleton.hops[skeleton.root], kind="stable"):
        side = ("left" in skeleton.joints[v]) - ("right" in skeleton.joints[v])
        if v != skeleton.root:
            pose[v] = pose[skeleton.parents[v]] + (0.15 * side, -0.2, 0.03 * np.cos(7 * v))
    return pose


def swinging(rest: np.ndarray, regions: list[tuple[int, ...]], k: int, frames: int, m: int,
             rng: np.random.Generator) -> np.ndarray:
    """(frames, V, 3): body m of a clip of class k, with a random phase, heading, size, place and noise."""
    t = np.arange(frames)[:, None]
    x = np.tile(rest, (frames, 1, 1))

    # the class: which region swings, along which axis, how fast
    joints = list(regions[k % len(regions)])
    axis = (k + k // len(regions)) % 3
    x[:, joints, axis] += 0.3 * np.sin(2 * np.pi * (1 + k % 3) * t / 24 + rng.uniform(0, 0.5))

    a = rng.uniform(-0.3, 0.3)
    about_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    x = x @ about_y * rng.uniform(0.9, 1.1)
    return x + (rng.normal(0, 0.005, x.shape) + rng.uniform(-0.5, 0.5, 3) + (m, 0.2, 3))


def write_store(folder: Path, skeleton: str = "ntu25", clips: int = 24, classes: int = 3, bodies: int = 2,
                seed: int = 0) -> Path:
    """Write a valid clip store into `folder`; return `folder`.

    Class k swings the joints of region k mod R, along an axis and at a rate of its own. Clip i has label i mod
    `classes`, subject 1-4 and camera 1-3 (i // classes, modulo). Protocols: xsub (train on subjects 1 and 2), xview
    (train on cameras 2 and 3). Lengths are 1..80 frames; clips 0, 1 and 2 have 1, 80 and 5. With bodies=2 every odd
    clip has a second body, seen in the second half. In every fifth clip the main body misses frames 3 and 4, in clip 5
    also the first two. coco17 is flat: z = 0.
    """
    s = SKELETONS[skeleton]
    rng = np.random.default_rng(seed)
    rest = rest_pose(s)
    regions = list(s.regions.values())

    # the joints of all bodies, one after the other
    number = np.arange(clips)
    length = np.where(number < 3, np.array([1, 80, 5])[number % 3], rng.integers(12, 81, clips))
    offset = np.full((clips, 2), -1)
    rows = []
    at = 0
    for i in range(clips):
        for m in range(1 + (bodies == 2 and i % 2)):
            x = swinging(rest, regions, i % classes, length[i], m, rng)
            hide_frames(x, i, m)
            if skeleton == "coco17":
                x[..., 2] = 0
            offset[i, m] = at
            at += length[i]
            rows.append(x)

    # the table of clips, and the sides of each protocol
    turn = number // classes
    table = {"name": np.array([f"clip{i:03d}" for i in number]), "label": number % classes, "subject": 1 + turn % 4,
             "camera": 1 + turn % 3, "setup": 1 + turn % 2, "replication": np.ones(clips, int), "length": length,
             "offset": offset}
    protocols = {"xsub": {"field": "subject", "train": [1, 2]},
                 "xview": {"field": "camera", "train": [2, 3], "test": [1]}}
    counts = {}
    for name, rule in protocols.items():
        train = np.isin(table[rule["field"]], rule["train"])
        counts[name] = {"train": int(train.sum()), "test": int((~train).sum())}

    meta = {"format": 1, "dataset": "tiny", "reader": "arrays", "skeleton": s.to_dict(),
            "classes": [f"swing {k}" for k in range(classes)], "protocols": protocols, "counts": counts,
            "skipped": [], "quality": {}, "versions": {}}
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "frames.npy", np.concatenate(rows).astype(np.float32))
    np.savez(folder / "clips.npz", **table)
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def hide_frames(x: np.ndarray, i: int, m: int) -> None:
    """The frames in which body m of clip i is missing."""
    if m == 1:
        x[:len(x) // 2] = 0
    elif i % 5 == 0 and len(x) > 8:
        x[3:5] = 0
        if i == 5:
            x[:2] = 0
