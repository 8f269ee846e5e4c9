"""Clips of many data sets, of many bodies, as the clips of one: `just pool`. numpy only.

Every clip is turned into the joints of body16 (skeletons.py): the means of joints, as predict turns skeletons; a joint
that a sensor does not give is missing. Of a clip of two people the more active one is taken.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from phases.common.wording import counted
from phases.recordings.clips import Clip, main_bodies
from skeletons import BODY, Skeleton, means, retargeted

SPLIT = "pool"      # the protocol of all: what its data set's protocol trains on trains, what it tests on tests
TRAINS, TESTS = 0, 1


@dataclass(frozen=True)
class Source:
    """A clip store that enters the pool, with the side of each of its clips under a protocol."""
    name: str
    skeleton: Skeleton
    classes: list[str]
    frames: np.ndarray              # rows v 3
    clips: dict[str, np.ndarray]
    side: np.ndarray                # n: TRAINS, TESTS, or -1 for neither

    def __post_init__(self):
        if self.table is None:
            raise ValueError(f"{self.name}: too few of the joints of {self.skeleton.name!r} have names that body16 "
                             "knows; the names of joints decide")

    @property
    def table(self) -> list[list[int]] | None:
        """For each joint of body16 the joints whose mean it is."""
        return means(self.skeleton.joints, BODY.joints)

    @property
    def lacks(self) -> list[str]:
        """The joints of body16 that no clip of this body has."""
        return [joint for joint, sources in zip(BODY.joints, self.table, strict=True) if not sources]

    def joints(self, index: int) -> np.ndarray:
        """Joints (1, L, 16, 3) of a clip's main body."""
        length = self.clips["length"][index]
        people = np.stack([self.frames[at:at + length] for at in self.clips["offset"][index] if at >= 0])
        people = people[main_bodies(people)[:1]]
        return retargeted(people, self.table)


def pooled_classes(sources: list[Source]) -> list[str]:
    """The classes of all, each behind the name of its data set: the same word may mean two things."""
    return [f"{source.name}: {label}" for source in sources for label in source.classes]


def pooled_clips(sources: list[Source]) -> Iterator[Clip]:
    """Every clip of the sources, those of one after those of another.

    Numbers of people, cameras and set-ups go on from one data set to the next: no two people have one number.
    """
    first_label = 0
    first = dict.fromkeys(("subject", "camera", "setup"), 0)
    for source in sources:
        clips = source.clips
        for index in range(len(clips["label"])):
            numbers = {key: at + int(clips[key][index]) for key, at in first.items()}
            yield Clip(f"{source.name}/{clips['name'][index]}", first_label + int(clips["label"][index]),
                       source.joints(index), **numbers, splits=sides_of(source, index))

        # the next data set's numbers follow
        first_label += len(source.classes)
        first = {key: at + int(clips[key].max()) + 1 for key, at in first.items()}


def sides_of(source: Source, index: int) -> dict[str, int]:
    """The sides of a clip: in the pool, and in the protocol of its own data set, which leaves out all other clips."""
    side = int(source.side[index])
    return {SPLIT: side, source.name: side}


def lines_about(sources: list[Source]) -> list[str]:
    """What `just pool` prints of each data set."""
    lines = []
    for source in sources:
        train, test = (int((source.side == side).sum()) for side in (TRAINS, TESTS))
        lacks = f"; lacks {', '.join(source.lacks)}" if source.lacks else ""
        lines.append(f"{source.name}: {counted(train, 'clip')} to train on, {test} to test on, "
                     f"{counted(len(source.classes), 'class')}, {source.skeleton.name}{lacks}")
    return lines
