"""A network on changed clips: what it answers to each row of recordings/wild.py, and how good the answers are."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from phases.common.progress import progress_bar
from phases.recordings.wild import CLEAN, COUNTED, Row, changed
from phases.training.batches import Batches
from phases.training.clip_store import ClipStore, clip_joints
from phases.training.evaluation import predict
from phases.training.recipe import Config
from phases.training.view import ClipView
from skeletons import Skeleton

Answers = Callable[[list[np.ndarray]], np.ndarray]      # clips (M, L, V, 3) -> probabilities (N, K)

BINS = 15       # of the expected calibration error (Guo et al., ICML 2017)
CHUNK = 256     # clips that are in memory at a time


# ---------------------------------------------------------------------------------------------------------------------
# Answers
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class MemoryStore:
    """Clips in the form that a view reads: see view.Store."""
    path: Path
    skeleton: Skeleton
    frames: np.ndarray
    clips: dict[str, np.ndarray]


def memory_store(clips: list[np.ndarray], label: np.ndarray, skeleton: Skeleton) -> MemoryStore:
    """A store of clips (M, L, V, 3), M = 1 or 2, with their labels (N,)."""
    length = np.array([joints.shape[1] for joints in clips])
    offset = np.full((len(clips), 2), -1)

    # the rows of all bodies, one after another
    bodies = []
    at = 0
    for i, joints in enumerate(clips):
        for m, body in enumerate(joints):
            offset[i, m] = at
            at += len(body)
            bodies.append(body)

    table = {"length": length, "offset": offset, "label": np.asarray(label, np.int64)}
    return MemoryStore(Path("memory"), skeleton, np.concatenate(bodies), table)


def network_answers(network: nn.Module, cfg: Config, skeleton: Skeleton, rest: Tensor, clips: list[np.ndarray],
                    device: torch.device) -> np.ndarray:
    """Probabilities (N, K) that a network gives clips (M, L, V, 3) under its recipe's test view.

    rest (V, 3): the mean body of its training clips (view.rest_of).
    """
    store = memory_store(clips, np.zeros(len(clips)), skeleton)
    view = ClipView(store, cfg.view, device, rest)
    logits, _ = predict(network, Batches(view, np.arange(len(clips)), cfg.train.batch))
    return logits.softmax(1).numpy()


def answers_by_row(answers: Answers, store: ClipStore, index: np.ndarray, rows: list[Row]
                   ) -> Iterator[tuple[str, np.ndarray]]:
    """(row, probabilities (N, K)) of the clips `index` of a store: as recorded, then under each row."""
    with progress_bar((1 + len(rows)) * len(index), 0, "wild", "clip") as bar:
        for row in (None, *rows):
            p = []
            for start in range(0, len(index), CHUNK):
                clips = [changed_clip(store, i, row) for i in index[start:start + CHUNK]]
                p.append(answers(clips))
                bar.update(len(clips))
            yield row.name if row else CLEAN, np.concatenate(p)


def changed_clip(store: ClipStore, i: int, row: Row | None) -> np.ndarray:
    """Joints (M, L, V, 3) of clip i of a store; as recorded without a row."""
    joints = clip_joints(store, i)
    return joints if row is None else changed(joints, row, str(store.clips["name"][i]), store.skeleton)


# ---------------------------------------------------------------------------------------------------------------------
# How good they are
# ---------------------------------------------------------------------------------------------------------------------

def judge(by_row: Iterator[tuple[str, np.ndarray]], label: np.ndarray, leaked: tuple[int, ...] = ()) -> dict:
    """The figures of all rows, from (row, probabilities (N, K)) and labels (N,), in percent.

        mean                        top-1 over the rows of the 20 that are there, `mean_of` of them
        top1, confidence, ece       by row
        mean_clean, top1_clean      the same without the clips of the `leaked` classes, if there are any
    """
    kept = ~np.isin(label, leaked)
    figures: dict[str, dict] = {"top1": {}, "confidence": {}, "ece": {}}
    if not kept.all():
        figures["top1_clean"] = {}

    # each row
    for row, p in by_row:
        found = judged(p, label)
        if "top1_clean" in figures:
            found["top1_clean"] = judged(p[kept], label[kept])["top1"]
        for key, values in figures.items():
            values[row] = round(found[key], 3)

    # their means
    counted = [row for row in COUNTED if row in figures["top1"]]
    means = {}
    for name, key in (("mean", "top1"), ("mean_clean", "top1_clean")):
        if key in figures:
            means[name] = round(float(np.mean([figures[key][row] for row in counted])), 3)
    return {**means, "mean_of": len(counted), **figures}


def judged(p: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """top1, confidence and ece in percent, of probabilities p (N, K) and labels (N,).

    confidence is the mean probability of the answer given; ece the expected calibration error: confidence and accuracy
    are compared within BINS equal ranges of confidence, and the distances averaged over the clips.
    """
    sure = p.max(1).astype(np.float64)
    right = p.argmax(1) == label

    # the bin of each clip; a probability of 1 is in the last one
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    gap = np.bincount(place, sure - right, BINS)
    ece = np.abs(gap).sum() / len(label)
    return {"top1": 100 * float(right.mean()), "confidence": 100 * float(sure.mean()), "ece": 100 * float(ece)}
