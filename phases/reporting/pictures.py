"""Pictures of clips by matplotlib: a sheet of frames (PNG), or an animation beside which a network's answers are drawn.

A picture appears whole or not at all.
"""
from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from phases.common.files import atomic
from phases.reporting.drawing import COLOURS, FRONT, SIDE, as_camera, bounds, drawn_lines, project, segments
from phases.shipping.answers import none_of_these
from phases.shipping.exported import ExportedModel
from skeletons import Skeleton

TOP = 5                     # answers beside an animation
FRAMES_PER_SECOND = 15
SHEET_FRAMES = 10


class Drawn(NamedTuple):
    """A clip to draw."""
    title: str
    joints: np.ndarray      # M L V 3, as a network takes them: metres, y up
    skeleton: Skeleton
    up: str = "y"           # the axis that pointed up as it was recorded

    def on_paper(self, view: str) -> np.ndarray:
        """(M, L, V, 2) metres on paper, upright; of a flat clip with the sides of its picture."""
        return project(as_camera(self.joints, self.up), self.skeleton, view)


def views(joints: np.ndarray) -> tuple[str, ...]:
    """From the front and from the side; flat clips have no side."""
    return (FRONT, SIDE) if joints[..., 2].any() else (FRONT,)


class Stage:
    """The axes on which the frames of one clip are drawn from one view, with limits that hold for all of them."""

    def __init__(self, axes, clip: Drawn, view: str):
        from matplotlib.collections import LineCollection
        from matplotlib.colors import to_rgb
        paper = clip.on_paper(view)      # m l v 2
        drawn = drawn_lines(clip.skeleton)
        self.segments = segments(paper, drawn)      # m l n 2 2
        low, high = bounds(paper)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])

        # a second body is paler
        inks = [np.array(to_rgb(line.colour)) for line in drawn]
        self.lines = []
        for m in range(len(paper)):
            colours = [ink + (1 - ink) * 0.5 * (m > 0) for ink in inks]
            lines = LineCollection([], colors=colours, linewidths=2.2, capstyle="round")
            self.lines.append(axes.add_collection(lines))

    def show(self, t: int) -> None:
        """Draw frame t; a line with a missing end is left out."""
        for lines, ends in zip(self.lines, self.segments[:, t], strict=True):
            lines.set_segments(ends)


# ---------------------------------------------------------------------------------------------------------------------
# Sheets
# ---------------------------------------------------------------------------------------------------------------------

def contact_sheet(rows: list[tuple[Drawn, str]], out: Path) -> None:
    """A PNG with a row per (clip, view): SHEET_FRAMES frames, evenly over the clip."""
    from matplotlib.figure import Figure
    cell = 1.6  # inches

    # the height of a row follows its clip's extent
    heights = []
    for clip, view in rows:
        low, high = bounds(clip.on_paper(view))
        heights.append(cell * np.clip((high - low)[1] / (high - low)[0], 0.55, 1.6))
    size = cell * SHEET_FRAMES, sum(heights) + 0.3 * len(rows)
    figure = Figure(figsize=size, layout="constrained")
    strips = figure.subfigures(len(rows), 1, height_ratios=[height + 0.3 for height in heights])

    for strip, (clip, view) in zip(np.atleast_1d(strips), rows, strict=True):
        strip.suptitle(f"{clip.title} · {view}", fontsize=9, x=0.01, ha="left")
        shown = np.linspace(0, clip.joints.shape[1] - 1, SHEET_FRAMES).round().astype(int)
        for axes, t in zip(strip.subplots(1, SHEET_FRAMES), shown, strict=True):
            Stage(axes, clip, view).show(t)
            axes.set_xlabel(f"frame {t}", fontsize=7, labelpad=1)

    with atomic(out) as part:
        figure.savefig(part, format="png", dpi=100)


# ---------------------------------------------------------------------------------------------------------------------
# Animations
# ---------------------------------------------------------------------------------------------------------------------

class Bars:
    """The likeliest actions as horizontal bars, the likeliest on top."""

    def __init__(self, axes, count: int):
        axes.set(xlim=(0, 1), ylim=(count - 0.4, -0.6), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)

        # bars on a grey ground; above each its label and probability
        rows = np.arange(count)
        axes.barh(rows + 0.12, 1.0, height=0.36, color="#eeeeee")
        self.bars = axes.barh(rows + 0.12, 0.0, height=0.36)
        self.names = [axes.text(0, y - 0.2, "", fontsize=9, va="bottom") for y in rows]
        self.shares = [axes.text(1, y - 0.2, "", fontsize=9, va="bottom", ha="right") for y in rows]

    def show(self, ranking: list[tuple[str, float]]) -> None:
        """Draw (label, probability) pairs, the likeliest first."""
        for i, (label, probability) in enumerate(ranking):
            self.bars[i].set(width=probability, color=COLOURS[1] if i == 0 else "#a9b8c2")
            self.names[i].set(text=label, fontweight="bold" if i == 0 else "normal")
            self.shares[i].set_text(f"{100 * probability:.0f} %")


def animation(clip: Drawn, out: Path, model: ExportedModel | None = None) -> None:
    """A GIF of a clip, front and side beside each other; with a model, its answers to the frames so far beside them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # panels as wide as the clip's extents, and one for the answers
    shown = views(clip.joints)
    widths = []
    for view in shown:
        low, high = bounds(clip.on_paper(view))
        widths.append((high - low)[0])
    if model is not None:
        widths.append(0.9 * sum(widths))
    size = (3.2 * len(widths), 3.9) if model is None else (2.7 * len(widths), 3.3)

    figure = Figure(figsize=size)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    figure.subplots_adjust(0.02, 0.07, 0.98, 0.9, wspace=0.04)
    heading = figure.suptitle("", fontsize=9)

    # what changes from frame to frame
    stages = []
    for axes, view in zip(panels, shown, strict=False):
        stages.append(Stage(axes, clip, view))
        axes.set_xlabel(view, fontsize=8)
    bars = Bars(panels[-1], min(TOP, len(model.classes))) if model is not None else None

    frames = []
    length = clip.joints.shape[1]
    for t in range(length):
        title = clip.title
        for stage in stages:
            stage.show(t)

        # what the file makes of the frames so far
        if bars:
            answer = model.answer(clip.joints[:, :t + 1])
            ranking = model.ranking(answer.probabilities, TOP)
            bars.show(ranking)
            if not model.is_known(answer):
                title = f"{title} · {none_of_these(*ranking[0])}"
        heading.set_text(f"{title} · frame {t + 1}/{length}")
        canvas.draw()
        frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())

    last = 1500 if bars else round(1000 / FRAMES_PER_SECOND)  # milliseconds: time to read the answers
    write_gif(frames, [round(1000 / FRAMES_PER_SECOND)] * (length - 1) + [last], out)


def write_gif(frames: list[np.ndarray], durations: list[int], out: Path) -> None:
    """Frames (height, width, 3) with their durations in milliseconds."""
    from PIL import Image

    # one palette for all frames: then a frame stores only what changes
    pictures = [Image.fromarray(frames[0]).quantize(64)]
    for frame in frames[1:]:
        picture = Image.fromarray(frame)
        pictures.append(picture.quantize(palette=pictures[0], dither=Image.Dither.NONE))

    with atomic(out) as part:
        pictures[0].save(part, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
