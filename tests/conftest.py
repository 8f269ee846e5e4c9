"""What the tests share: the folder of real recordings, and tiny clip stores whose classes can be learned."""
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # spinning OpenMP threads cost far more than they give on busy machines
settings.register_profile("last", deadline=None, max_examples=20, derandomize=True, database=None)
settings.load_profile("last")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real recordings: $LAST_TEST_DATA or ../shared/data. Without them a test is skipped, but fails under CI."""
    folder = Path(os.environ.get("LAST_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no recordings in {folder}: set LAST_TEST_DATA")
    return folder


def rest_pose(skeleton) -> np.ndarray:
    """(V, 3) metres: every joint 0.2 below its parent, left ones to +x, right ones to -x, depths all different."""
    pose = np.zeros((skeleton.num_joints, 3))
    root = next(v for v, p in skeleton.bones if v == p)
    for v in np.argsort(skeleton.hops[root], kind="stable"):
        side = ("left" in skeleton.joints[v]) - ("right" in skeleton.joints[v])
        if v != root:
            pose[v] = pose[skeleton.parents[v]] + (0.15 * side, -0.2, 0.03 * np.cos(7 * v))
    return pose


def write_store(folder: Path, skeleton: str = "ntu25", clips: int = 24, classes: int = 3, bodies: int = 2, seed: int = 0) -> Path:
    """A valid clip store in `folder`, which it returns.

    Class k swings the joints of region k mod R along an axis and at a rate of its own. Clip i has label i mod `classes`, subject
    1-4 and camera 1-3 (i // classes, modulo); protocols xsub (train subjects 1 2) and xview (train cameras 2 3). Lengths lie in
    1..80 (clip 0: 1 frame, clip 1: 80, clip 2: 5); with bodies=2 odd clips have a second body, seen in their second half; in every
    fifth clip the main body misses frames 3 and 4, in clip 5 also the first two. coco17 is flat: z = 0.
    """
    from last import SKELETONS
    s, rng = SKELETONS[skeleton], np.random.default_rng(seed)
    rest, regions = rest_pose(s), list(s.regions.values())
    number = np.arange(clips)
    length = np.where(number < 3, np.array([1, 80, 5])[number % 3], rng.integers(12, 81, clips))
    offset = np.full((clips, 2), -1)
    rows, at = [], 0
    for i in range(clips):
        k = i % classes
        for m in range(1 + (bodies == 2 and i % 2)):
            t = np.arange(length[i])[:, None]
            x = np.tile(rest, (length[i], 1, 1))
            swing = 0.3 * np.sin(2 * np.pi * (1 + k % 3) * t / 24 + rng.uniform(0, 0.5))
            x[:, list(regions[k % len(regions)]), (k + k // len(regions)) % 3] += swing
            a = rng.uniform(-0.3, 0.3)  # heading, about the vertical
            x = x @ np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]]) * rng.uniform(0.9, 1.1)
            x += rng.normal(0, 0.005, x.shape) + rng.uniform(-0.5, 0.5, 3) + (m, 0.2, 3)
            if m == 1:
                x[:length[i] // 2] = 0
            elif i % 5 == 0 and length[i] > 8:
                x[3:5] = 0
                x[:2 * (i == 5)] = 0
            if skeleton == "coco17":
                x[..., 2] = 0
            offset[i, m] = at
            at += length[i]
            rows.append(x)
    turn = number // classes
    table = {"name": np.array([f"clip{i:03d}" for i in number]), "label": number % classes, "subject": 1 + turn % 4, "camera": 1 + turn % 3,
             "setup": 1 + turn % 2, "replication": np.ones(clips, int), "length": length, "offset": offset}
    protocols = {"xsub": {"field": "subject", "train": [1, 2]}, "xview": {"field": "camera", "train": [2, 3], "test": [1]}}
    sides = {n: np.isin(table[r["field"]], r["train"]) for n, r in protocols.items()}
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "frames.npy", np.concatenate(rows).astype(np.float32))
    np.savez(folder / "clips.npz", **table)
    (folder / "meta.json").write_text(json.dumps({
        "format": 1, "dataset": "tiny", "reader": "arrays", "skeleton": s.to_dict(), "classes": [f"swing {k}" for k in range(classes)],
        "protocols": protocols, "counts": {n: {"train": int(m.sum()), "test": int((~m).sum())} for n, m in sides.items()},
        "skipped": [], "quality": {}, "versions": {}}))
    return folder


@pytest.fixture(scope="session")
def make_store():
    """make_store(folder, skeleton="ntu25", clips=24, classes=3, bodies=2, seed=0) -> folder: see write_store."""
    return write_store
