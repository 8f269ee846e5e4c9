"""Views, and small stores in memory for them: every setting is given, so that no test depends on a default."""
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch

from phases.training.changed_clips import memory_store
from phases.training.clip_store import ClipStore
from phases.training.settings import View
from skeletons import SKELETONS, Skeleton
from tests.helpers.clip_stores import rest_pose

# training takes the frames of a clip, and nothing else
CALM = View(frames=16, bodies=2, sampling="uniform", smooth=0.0, heading=False, trunk_scale=False, extent=False,
            window=1.0, rotate=(0.0, 0.0, 0.0), scale=0.0, flip=0.0, swap=0.0, mix=0.0,
            still=0.0, missing=0.0, noise=0.0, spikes=0.0, idle=0.0, tempo=0.0)
# other frames, another camera, another person
MOVED = replace(CALM, window=0.5, rotate=(30.0, 40.0, 50.0), scale=0.2, flip=0.5)
# and all that a camera does to a clip
WILD = replace(MOVED, missing=0.5, noise=0.05, spikes=0.05, idle=0.5, tempo=0.5)


def calm(**changes) -> View:
    return replace(CALM, **changes)


def store_of(*clips: np.ndarray, skeleton: str | Skeleton = "ntu25") -> SimpleNamespace:
    """A store in memory of clips (M, L, V, 3), each of one body or two."""
    body = SKELETONS[skeleton] if isinstance(skeleton, str) else skeleton
    store = memory_store([np.float32(clip) for clip in clips], np.arange(len(clips)) % 3, body)
    return SimpleNamespace(**vars(store))  # which a test may change


def smooth_body(frames: int, skeleton: str = "ntu25", seed: int = 0, bodies: int = 1) -> np.ndarray:
    """(M, frames, V, 3) metres: bodies that walk and turn slowly; no joint moves 0.1 m in a frame, bones are rigid."""
    rng = np.random.default_rng(seed)
    rest = rest_pose(SKELETONS[skeleton])
    t = np.arange(frames)
    out = []
    for m in range(bodies):
        path = np.stack([m + 0.3 * np.sin(t / 11 + seed), 1 + 0.02 * np.sin(t / 5), 3 + 0.01 * t], 1)
        body = np.stack([rest @ turn(20 * math.sin(i / 9 + m)) for i in t])
        out.append((body + path[:, None]) * rng.uniform(0.9, 1.1))
    return np.stack(out).astype(np.float32)


def standing_about(clip: np.ndarray, before: int, after: int) -> np.ndarray:
    """A clip (M, L, V, 3) of bodies that hold their first pose before it, and their last pose after it."""
    return np.pad(clip, ((0, 0), (before, after), (0, 0), (0, 0)), mode="edge")


def trim(store: ClipStore) -> None:
    """Cut every clip to 16 frames: a view of 16 frames then takes frame t of the clip at t, in training too."""
    store.clips["length"] = np.minimum(store.clips["length"], 16)


def turn(degrees: float) -> np.ndarray:
    """The matrix that turns row vectors about the vertical."""
    a = math.radians(degrees)
    return np.array([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])


def every(store: ClipStore | SimpleNamespace) -> torch.Tensor:
    return torch.arange(len(store.clips["length"]))
