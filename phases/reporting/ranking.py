"""How well a network ranks the clips of each class above all others: ROC curves, areas below them, average precision.

Each class is judged on its own against all others, by its probabilities; macro is the mean over the classes. A class
without a test clip, or of all of them, has no curve.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

Curve = list[tuple[float, float]]
GRID = np.linspace(0, 1, 101)   # rates at which a curve is drawn


# ---------------------------------------------------------------------------------------------------------------------
# Measures
# ---------------------------------------------------------------------------------------------------------------------

def taken(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives with at least a score, for each score that occurs, from the highest on.

    scores (n,): NaN is the lowest; positive (n,): whether a clip is of the class.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(scores[order][1:] != scores[order][:-1], True))     # of clips with equal scores
    hits = np.cumsum(positive[order])[last]
    return hits, 1 + last - hits


def roc(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates from (0, 0) to (1, 1); needs a positive and a negative."""
    hits, misses = taken(scores, positive)
    return np.append(0, misses) / misses[-1], np.append(0, hits) / hits[-1]


def area_below(x: np.ndarray, y: np.ndarray) -> float:
    """The area below a curve of straight lines; of a ROC curve the chance that a positive outranks a negative."""
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """The sum of precision x gain of recall over the scores; the area below the steps of precision over recall."""
    hits, misses = taken(scores, positive)
    gain = np.diff(hits, prepend=0) / hits[-1]
    return float((gain * hits / (hits + misses)).sum())


# ---------------------------------------------------------------------------------------------------------------------
# What a report shows
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Ranked:
    """A class: shares from 0 to 1, and its ROC curve in pixels."""
    name: str
    precision: float
    area: float
    points: Curve


@dataclass(frozen=True)
class Rankings:
    """The classes, the worst average precision first, and their mean; the drawing is a square in pixels."""
    SIZE: ClassVar = 300        # of the drawing
    LEFT: ClassVar = 46         # of the axes
    RIGHT: ClassVar = 290
    TOP: ClassVar = 10
    BOTTOM: ClassVar = 254
    TICKS: ClassVar = (0, 25, 50, 75, 100)

    classes: list[Ranked]
    macro: Ranked

    @classmethod
    def place(cls, x: float, y: float) -> tuple[float, float]:
        """Pixels of two rates."""
        return cls.LEFT + x * (cls.RIGHT - cls.LEFT), cls.BOTTOM - y * (cls.BOTTOM - cls.TOP)


def rankings(p: np.ndarray, label: np.ndarray, classes: list[str]) -> Rankings | None:
    """What a report shows of probabilities (n, k) and labels (n,); None if no class has clips and others, too."""
    found = []
    heights = []
    for k in range(p.shape[1]):
        positive = label == k
        if positive.all() or not positive.any():
            continue

        # where the curve is upright, the highest point counts
        x, y = roc(p[:, k], positive)
        height = np.interp(GRID, x, y)
        heights.append(height)
        found.append(Ranked(classes[k], average_precision(p[:, k], positive), area_below(x, y), drawn(height)))

    if not found:
        return None
    macro = Ranked(f"mean of {len(found)} classes", float(np.mean([one.precision for one in found])),
                   float(np.mean([one.area for one in found])), drawn(np.mean(heights, 0)))
    return Rankings(sorted(found, key=lambda one: one.precision), macro)


def drawn(height: np.ndarray) -> Curve:
    """The points in pixels of a curve with these heights above GRID; it begins at (0, 0)."""
    return [Rankings.place(0, 0), *(Rankings.place(x, y) for x, y in zip(GRID, height, strict=True))]
