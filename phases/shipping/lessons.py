"""Examples as an exported file sees them: features of clips, of people who stand, of damaged copies. No torch."""
from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from phases.common.progress import progress_bar
from phases.recordings.clips import Skip
from phases.recordings.examples import Example
from phases.recordings.strangers import standing
from phases.recordings.wild import ROWS, changed, is_flat, rows_for
from phases.shipping.exported import ExportedModel
from phases.shipping.movements import at_rate, moves
from skeletons import Skeleton

NOISE = 0.01    # metres: of people who stand, as a camera's estimates shake
DAMAGE = ("noise 2 cm", "joints missing 5 %", "20 % cut off both ends", "turned 15 degrees", "1.3 times as large",
          "a little of all")    # rows of wild.py that make copies
LONG = 50       # clips from which on a bar shows how far it is


@dataclass
class Lesson:
    """What the file makes of examples, in their order."""
    examples: list[Example] = field(default_factory=list)
    clips: list[np.ndarray] = field(default_factory=list)       # (M, L, V, 3) in metres, at the file's rate
    features: list[np.ndarray] = field(default_factory=list)    # (C,) each
    skips: list[Skip] = field(default_factory=list)             # files that could not be read
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))   # what reading reports: of which

    @property
    def length(self) -> float:
        """The median number of frames."""
        return float(np.median([clip.shape[1] for clip in self.clips]))

    def of(self, classes: list[str]) -> Lesson:
        """The examples of some classes."""
        part = Lesson(skips=self.skips, notes=self.notes)
        for example, clip, features in zip(self.examples, self.clips, self.features, strict=True):
            if example.label in classes:
                part.add(example, clip, features)
        return part

    def add(self, example: Example, clip: np.ndarray, features: np.ndarray) -> None:
        self.examples.append(example)
        self.clips.append(clip)
        self.features.append(features)

    def labels(self, classes: list[str]) -> np.ndarray:
        """The numbers (N,) of the examples' classes."""
        return np.array([classes.index(example.label) for example in self.examples], int)

    def people(self) -> np.ndarray | None:
        """Numbers (N,) of who moves; None unless that is known of every example."""
        names = [example.person for example in self.examples]
        return np.unique(names, return_inverse=True)[1] if all(names) else None


def study(model: ExportedModel, examples: list[Example], fps: float) -> Lesson:
    """Read the files of examples, which have `fps` frames per second, as `just predict` does."""
    lesson = Lesson()
    with progress_bar(len(examples), 0, "read", "clip") if len(examples) >= LONG else contextlib.nullcontext() as bar:
        for example in examples:
            try:
                clip = read(model, example, fps, lesson.notes)
                features = model.answer(clip).features
            except (ValueError, OSError) as e:
                lesson.skips.append(Skip(example.name, 0, str(e).removeprefix(f"{example.path}: ")))
            else:
                lesson.add(example, clip, features)
            if bar is not None:
                bar.update()
    return lesson


def read(model: ExportedModel, example: Example, fps: float, notes: dict[str, list[str]]) -> np.ndarray:
    """The joints (M, L, V, 3) of an example in metres, at the file's rate; what reading reports is added to notes."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        joints = model.read(example.path)[:, example.first:example.last]
    for line in said.getvalue().splitlines():
        notes[line.removeprefix(f"{example.path}: ")].append(example.name)
    if not joints.any():
        raise ValueError("no body in any frame")
    return at_rate(joints, np.arange(joints.shape[1]) / fps, model.fps)


def standing_of(model: ExportedModel, lesson: Lesson) -> np.ndarray:
    """Features (S, C) of people who stand as the examples begin. Where nobody moves, standing may be the action."""
    found = []
    for example, clip in zip(lesson.examples, lesson.clips, strict=True):
        if moves(clip, model.fps, model.trunk):
            found.append(model.answer(standing(clip, example.name, NOISE)).features)
    return np.stack(found) if found else np.zeros((0, len(lesson.features[0])))


def copies_of(model: ExportedModel, lesson: Lesson) -> np.ndarray:
    """Features (D, C) of damaged copies of all examples, as cameras may show them."""
    skeleton = Skeleton.from_dict(model.skeleton)
    rows = {row.name: row for row in ROWS}
    found = []
    for example, clip in zip(lesson.examples, lesson.clips, strict=True):
        able = {row.name for row in rows_for(skeleton, is_flat(clip))[0]}
        for name in DAMAGE:
            if name in able:
                found.append(model.answer(changed(clip, rows[name], example.name, skeleton)).features)
    return np.stack(found)
