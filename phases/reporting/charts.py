"""Geometry of a report's drawings: line charts, confusion matrices, strips of frames.

All in pixels, y downwards. The macros of drawings.svg.j2 turn them into SVG.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from phases.reporting.drawing import FRONT, bounds, drawn_lines, project, segments
from skeletons import Skeleton

# ---------------------------------------------------------------------------------------------------------------------
# Line charts
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Curve:
    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Curves over epochs."""
    WIDTH: ClassVar = 320       # of the drawing
    HEIGHT: ClassVar = 210
    LEFT: ClassVar = 46         # of the axes
    RIGHT: ClassVar = 310
    TOP: ClassVar = 28
    BOTTOM: ClassVar = 180

    title: str
    grid: list[tuple[float, str]]       # (y, value)
    epochs: list[tuple[float, str]]     # (x, epoch), the first and the last
    lines: list[Curve]


def chart(title: str, curves: dict[str, list[tuple[float, float]]]) -> Chart:
    """The chart of {name: [(epoch, value)]}, each curve with a point at least."""
    epochs = [epoch for curve in curves.values() for epoch, _ in curve]
    values = [value for curve in curves.values() for _, value in curve]
    first, last = min(epochs), max(epochs)
    low, high = min(values), max(values)

    # curves that come near zero are drawn from zero on; constant ones get a height
    bottom = min(low, 0.0) if low < 0.5 * high else low
    top = high if high > low else low + 1

    # pixels of an epoch and of a value
    def x_of(epoch: float) -> float:
        return Chart.LEFT + (epoch - first) / max(last - first, 1) * (Chart.RIGHT - Chart.LEFT)

    def y_of(value: float) -> float:
        return Chart.BOTTOM - (value - bottom) / (top - bottom) * (Chart.BOTTOM - Chart.TOP)

    lines = []
    for name, curve in curves.items():
        lines.append(Curve(name, [(x_of(epoch), y_of(value)) for epoch, value in curve]))
    grid = [(y_of(value), f"{value:g}") for value in ticks(bottom, top)]
    ends = [(x_of(epoch), f"{epoch:g}") for epoch in sorted({first, last})]
    return Chart(title, grid, ends, lines)


def ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between low and high."""
    # a fifth, a half, one or two of a power of ten
    power = 10 ** math.floor(math.log10(max(high - low, 1e-12)))
    step = next(step for step in (power / 5, power / 2, power, 2 * power) if (high - low) / step <= 6)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


# ---------------------------------------------------------------------------------------------------------------------
# Confusion matrices
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Cell:
    x: int
    y: int
    clips: int
    share: float        # of the clips of its row
    is_right: bool      # on the diagonal
    about: str


@dataclass(frozen=True)
class Matrix:
    """A row per true class, a column per answer; both start after a margin for the names of the classes."""
    size: int                           # of the drawing
    margin: int
    side: int                           # of the square of cells
    cell: int                           # side of a cell
    names: list[tuple[float, str]]      # (middle of its row, class); empty if there are too many
    cells: list[Cell]                   # without those that count no clip


def confusion_chart(confusion: np.ndarray, classes: list[str]) -> Matrix:
    """The drawing of a confusion matrix (K, K)."""
    K = len(confusion)
    cell = 10
    if K <= 30:
        cell = 30 if K <= 15 else 22
    is_named = K <= 60
    margin = 150 if is_named else 10

    # the classes beside it
    names = []
    for k, name in enumerate(classes if is_named else ()):
        short = name if len(name) < 23 else f"{name[:21]}…"
        names.append((margin + (k + 0.5) * cell, short))

    # cells that count a clip
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    cells = []
    for row, column in zip(*np.nonzero(confusion), strict=True):
        clips = int(confusion[row, column])
        about = f"{classes[row]} taken for {classes[column]}: {clips} of {int(confusion[row].sum())}"
        x = margin + int(column) * cell
        y = margin + int(row) * cell
        cells.append(Cell(x, y, clips, share[row, column], row == column, about))
    return Matrix(margin + K * cell + 10, margin, K * cell, cell, names, cells)


# ---------------------------------------------------------------------------------------------------------------------
# Strips of frames
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Bone:
    ends: tuple[float, float, float, float]     # x, y, x, y
    colour: str
    is_main_body: bool


@dataclass(frozen=True)
class Strip:
    """FRAMES frames of a clip, side by side."""
    FRAMES: ClassVar = 8
    HEIGHT: ClassVar = 120

    width: float
    bones: list[Bone]


def frame_strip(joints: np.ndarray, skeleton: Skeleton) -> Strip:
    """Frames from the front, evenly over a clip (M, L, V, 3)."""
    paper = project(joints, skeleton, FRONT)
    low, high = bounds(paper)
    scale = Strip.HEIGHT / (high[1] - low[1])
    frame_width = max(40.0, (high[0] - low[0]) * scale)
    drawn = drawn_lines(skeleton)

    # each frame moves to its place in the strip
    bones = []
    shown = np.linspace(0, joints.shape[1] - 1, Strip.FRAMES).round().astype(int)
    for k, t in enumerate(shown):
        for m, body in enumerate(paper[:, t]):
            places = segments((body - low) * scale, drawn)  # n 2 2, y upwards
            for line, ((x1, y1), (x2, y2)) in zip(drawn, places, strict=True):
                if np.isfinite((x1, y1, x2, y2)).all():
                    left = k * frame_width
                    ends = left + x1, Strip.HEIGHT - y1, left + x2, Strip.HEIGHT - y2
                    bones.append(Bone(ends, line.colour, m == 0))
    return Strip(Strip.FRAMES * frame_width, bones)
