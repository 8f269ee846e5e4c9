"""What somebody should look at before a network learns from new recordings."""
from __future__ import annotations

import numpy as np

from phases.recordings.metres import body_size, trunk_of
from phases.recordings.proposal import ASSUMED, Proposal, trains
from phases.recordings.skeleton_guess import first_few
from phases.recordings.survey import Survey

SHORT = 4   # frames
TIMES = 5   # larger or smaller than the median


def oddities(survey: Survey, proposal: Proposal) -> list[str]:
    """A line for each thing that looks wrong."""
    return [*assumptions(proposal), *untrained_classes(survey, proposal), *short_clips(survey), *odd_sizes(survey)]


def assumptions(proposal: Proposal) -> list[str]:
    """A unit or an axis that nothing in the recordings supports."""
    found = []
    for key, choice in (("unit", proposal.unit), ("up", proposal.up)):
        if choice.reason.startswith(ASSUMED):
            found.append(f"{key} = {choice.value} is {choice.reason}; draw a clip and look")
    return found


def untrained_classes(survey: Survey, proposal: Proposal) -> list[str]:
    """Classes that are missing on one side of a split by a rule."""
    if proposal.split.rule is None:
        return []
    # the classes of each side
    trained = {c.label for c in survey.all_clips if trains(c, proposal.split)}
    tested = {c.label for c in survey.all_clips if not trains(c, proposal.split)}

    # those of the other side that are not among them
    found = []
    for side, labels in (("training", trained), ("test", tested)):
        names = [repr(survey.class_of(label)) for label in sorted((trained | tested) - labels)]
        if names:
            found.append(f"no {side} clip of class {first_few(names)}: change data.protocols")
    return found


def short_clips(survey: Survey) -> list[str]:
    short = [c.name for c in survey.clips if c.joints.shape[1] < SHORT]
    return [f"{len(short)} clips have fewer than {SHORT} frames: {first_few(short)}"] if short else []


def odd_sizes(survey: Survey) -> list[str]:
    """Clips with much larger or smaller bodies than the others, unless they are of a picture."""
    trunk = trunk_of(survey.skeleton)
    size = np.array([body_size(c.joints[0], trunk) for c in survey.clips])
    times = np.abs(np.log(size / np.median(size)))
    odd = [survey.clips[i].name for i in np.flatnonzero(times > np.log(TIMES))]
    if not odd or survey.flat:
        return []

    return [f"{len(odd)} clips have bodies five times larger or smaller than the others: another unit? "
            f"{first_few(odd)}"]
