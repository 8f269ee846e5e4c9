"""Whether the acting person is told from one who stands by, whom a camera sees with noise, and whom a file lists first.

    python -m tests.tools.bystanders        results/bystanders.json: percent of clips in which the actor is found

Beside every one-body clip of a store a second person is put, who holds a pose of another clip, sways and trembles. Of a
store of two people the less active one of each pair gets the noise; pairs of about equal people do not count. Three
measures of activity are compared:

    step        mean distance of a joint from one frame to the next
    calmed      the same of joints that are means of six frames each
    activity    what the readers use: variance less half the squared step (phases/recordings/clips.py)
"""
from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from phases.common.command import run
from phases.common.files import ROOT, write_json
from phases.common.progress import progress_bar
from phases.recordings.clips import CLEARLY, activity
from phases.training.clip_store import ClipStore, clip_joints
from phases.training.run_folder import commit, device_name

# what trembles: metres of noise on each coordinate, how alike it is from frame to frame, share of spikes
NOISE = {"none": (0.0, 0.0, 0.0), "1 cm": (0.01, 0.0, 0.0), "2 cm": (0.02, 0.0, 0.0), "3 cm": (0.03, 0.0, 0.0),
         "2 cm, slowly": (0.02, 0.8, 0.0), "1 cm, spikes": (0.01, 0.0, 0.02)}
RATES = (1, 3)      # every frame, every third
SHORTEST = 6        # frames
SWAY = 0.015        # metres, of the head
PERIOD = 90         # frames
SPIKE = 0.3         # metres
BLOCK = 6           # frames
EQUAL = 1.3         # times as active: pairs of people who are more alike do not count


@dataclass(frozen=True)
class Options:
    stores: Annotated[tuple[str, ...], "data sets that phase 0 has stored"] = ("utd_mhad", "nw_ucla", "jhmdb", "sbu")
    out: Annotated[Path, "the results"] = ROOT / "results" / "bystanders.json"


def main(options: Options) -> int:
    rows = []
    for name in options.stores:
        store = ClipStore(Path("stores") / name)
        rows += [row for rate in RATES for row in rows_of(name, store, rate)]
    command = f"python -m tests.tools.bystanders stores={','.join(options.stores)}"
    write_json(options.out, {"command": command, "device": device_name(torch.device("cpu")), "commit": commit(),
                             "rows": rows})
    for row in rows:
        print(row)
    return 0


def rows_of(name: str, store: ClipStore, rate: int) -> list[dict]:
    """A row per measure: the percent of clips in which the actor is found, by the noise of the other person."""
    found = {measure: {noise: [] for noise in NOISE} for measure in MEASURES}
    clips = [clip_joints(store, i)[:, ::rate] for i in range(len(store.clips["label"]))]
    clips = [clip for clip in clips if clip.shape[1] >= SHORTEST]
    with progress_bar(len(clips), 0, name, "clip") as bar:
        for i, clip in enumerate(clips):
            for noise in NOISE:
                for measure, active in MEASURES.items():
                    pair = pair_of(clip, clips[i - 1], active, noise, f"{name} {i}")
                    if pair is not None:
                        found[measure][noise].append(names_second(active(pair)))
            bar.update()
    return [{"set": name, "rate": rate, "measure": measure, "clips": len(right["none"]),
             "right": {noise: round(100 * float(np.mean(hits)), 1) for noise, hits in right.items()}}
            for measure, right in found.items()]


def pair_of(clip: np.ndarray, other: np.ndarray, active, noise: str, name: str) -> np.ndarray | None:
    """(2, L, V, 3): who stands by, or is less active, comes first; None for two people who are about equal."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {noise}".encode()))
    if len(clip) == 1:
        return np.concatenate([trembling(held(other[0], clip.shape[1], rng), noise, rng)[None], clip])
    first, second = active(clip)
    if max(first, second) < EQUAL * min(first, second):
        return None
    order = [0, 1] if first < second else [1, 0]
    return np.stack([trembling(clip[order[0]], noise, rng), clip[order[1]]])


def held(joints: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """(length, V, 3): a pose of joints (L, V, 3), held by a person who sways; the higher a joint, the more."""
    pose = joints[rng.integers(len(joints))]
    seen = pose.any(1)
    y = pose[:, 1]
    low, high = (y[seen].min(), y[seen].max()) if seen.any() else (0, 1)
    share = np.clip((y - low) / max(high - low, 1e-6), 0, 1)
    sway = SWAY * np.sin(rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(length) / PERIOD)
    out = np.repeat(pose[None], length, 0)
    out[..., 0] += sway[:, None] * share
    return out * seen[:, None]


def trembling(joints: np.ndarray, noise: str, rng: np.random.Generator) -> np.ndarray:
    """Joints (L, V, 3) with noise; a flat clip stays flat, a missing joint missing."""
    size, alike, spikes = NOISE[noise]
    shift = rng.normal(0, 1, joints.shape)
    for t in range(1, len(shift)):
        shift[t] = alike * shift[t - 1] + np.sqrt(1 - alike ** 2) * shift[t]
    shift *= size
    shift += (rng.random(joints.shape[:2]) < spikes)[..., None] * rng.normal(0, SPIKE, joints.shape)
    if not joints[..., 2].any():
        shift[..., 2] = 0
    return (joints + shift * joints.any(2, keepdims=True)).astype(np.float32)


def names_second(active: np.ndarray) -> bool:
    """Whether the second of two people is the main one, as clips.main_bodies decides."""
    return bool(active[1] > CLEARLY * active[0])


def step(joints: np.ndarray) -> np.ndarray:
    """(M,) the mean distance of a joint of bodies (M, L, V, 3) from one frame to the next."""
    there = joints.any(3)
    in_both = there[:, 1:] & there[:, :-1]
    way = np.linalg.norm(np.diff(joints, axis=1), axis=3) * in_both
    return way.sum((1, 2)) / np.maximum(in_both.sum((1, 2)), 1)


def calmed(joints: np.ndarray) -> np.ndarray:
    """(M,) the same of joints that are means of BLOCK frames each."""
    parts = [joints[:, first:first + BLOCK] for first in range(0, joints.shape[1], BLOCK)]
    return step(np.stack([part.sum(1) / np.maximum(part.any(3).sum(1), 1)[..., None] for part in parts], 1))


MEASURES = {"step": step, "calmed": calmed, "activity": activity}

if __name__ == "__main__":
    run(main, Options)
