"""Whether a start from a network of many bodies helps a set of some size: by the study of small sets, tools/small_sets.

The study's trainings are in results/small-sets.json. Two that differ in their start alone make a pair.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from phases.common.files import NETWORKS, ROOT, read_json
from phases.common.wording import counted
from skeletons import Skeleton

STUDY = ROOT / "results" / "small-sets.json"
GENERAL = "any"       # the network of many bodies
SCRATCH = "adopt"     # the study's training from random weights
STARTED = "started"   # and that with the rates of the recipe finetune
POINTS = 1.0          # of top-1 that a start must gain
BEYOND = 2.0          # times the largest set of the study: beyond nothing is known


@dataclass(frozen=True)
class Gain:
    """What a start gained on one set with some share of its labels."""
    set: str
    labels: float                   # share of the training clips
    clips: int                      # how many that are
    points: tuple[float, ...]       # of top-1, a pair each

    @property
    def mean(self) -> float:
        return sum(self.points) / len(self.points)

    @property
    def is_tested(self) -> bool:
        """Whether it was measured on a test side, which chooses nothing."""
        return self.set.endswith("_test")


class Start(NamedTuple):
    """A network to start from, and why."""
    name: str
    reason: str


def pair_of(training: dict) -> tuple:
    """What two trainings of a pair have in common. Trainings of the first study had all labels, and nano alone."""
    return (training.get("network", "lite_nano"), training["set"], training.get("labels", 1.0), training["fold"],
            training["seed"])


def gains(trainings: list[dict], init: str, variant: str = STARTED, network: str = "lite_nano") -> list[Gain]:
    """What starting from `init` gained on each set with each share of the labels, smallest first."""
    scratch = {}
    started = {}
    for training in trainings:
        if training["variant"] == SCRATCH and not training.get("init"):
            scratch[pair_of(training)] = training
        elif training["variant"] == variant and training.get("init") == init:
            started[pair_of(training)] = training

    # folds and seeds of one set
    pairs: dict[tuple, list[tuple]] = {}
    for key in scratch.keys() & started.keys():
        if key[0] == network:
            pairs.setdefault(key[1:3], []).append(key)

    found = []
    for (name, labels), keys in pairs.items():
        points = [started[key]["top1"] - scratch[key]["top1"] for key in sorted(keys)]
        clips = sum(started[key]["clips"] for key in keys) / len(keys)
        found.append(Gain(name, labels, round(clips), tuple(points)))
    return sorted(found, key=lambda gain: (gain.clips, gain.set))


def start_for(clips: int, skeleton: Skeleton, study: Path = STUDY) -> Start | None:
    """The start that helps a training on so many clips, by the measured set of the nearest size; None if none does."""
    if skeleton.trunk is None or not (NETWORKS / f"{GENERAL}.pt").is_file() or not study.is_file():
        return None
    measured = [gain for gain in gains(read_json(study).get("trainings", []), GENERAL) if not gain.is_tested]
    if not measured or clips > BEYOND * measured[-1].clips:
        return None

    # sizes are compared by their ratio
    distance = min(abs(math.log(gain.clips / clips)) for gain in measured)
    near = [gain for gain in measured if abs(math.log(gain.clips / clips)) == distance]
    points = sum(gain.mean for gain in near) / len(near)
    if points < POINTS:
        return None
    return Start(GENERAL, f"measured with {counted(near[0].clips, 'training clip')}: {points:+.1f} points of top-1")
