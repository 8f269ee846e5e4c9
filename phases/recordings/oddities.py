"""What somebody should look at before a network learns from new recordings."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from phases.common.wording import counted
from phases.recordings.metres import body_size, trunk_of
from phases.recordings.proposal import ASSUMED, Proposal, tests, trains
from phases.recordings.quality import UNEQUAL
from phases.recordings.skeleton_guess import first_few
from phases.recordings.survey import Survey

SHORT = 4   # frames
TIMES = 5   # larger or smaller than the median


def oddities(survey: Survey, proposal: Proposal) -> list[str]:
    """A line for each thing that looks wrong."""
    return [
        *assumptions(proposal),
        *missing_classes(survey), *untrained_classes(survey, proposal), *unequal_classes(survey),
        *known_people(survey, proposal),
        *short_clips(survey), *still_clips(survey), *odd_sizes(survey)]


def assumptions(proposal: Proposal) -> list[str]:
    """A unit or an axis that nothing in the recordings supports."""
    found = []
    for key, choice in (("unit", proposal.unit), ("up", proposal.up)):
        if choice.reason.startswith(ASSUMED):
            found.append(f"{key} = {choice.value} is {choice.reason}; draw a clip and look")
    if proposal.in_picture:
        found.append("x and y are within 0 and 1, shares of a picture: unless it is square, bodies are stretched; "
                     "record world landmarks, or multiply x by the width and y by the height")
    return found


def missing_classes(survey: Survey) -> list[str]:
    """Classes of a list without clips, which are left out, and classes of which no clip could be read."""
    found = []
    if survey.left_out:
        found.append(f"no clip of class {quoted(survey.left_out)}: left out, a network does not know it")

    counts = survey.clips_of_class
    unread = [name for label, name in enumerate(survey.classes) if not counts[label]]
    if unread:
        found.append(f"no clip of class {quoted(unread)} could be read: a network has it among its answers and never "
                     "learns it; mend the clips or delete the class")
    return found


def untrained_classes(survey: Survey, proposal: Proposal) -> list[str]:
    """Classes that are missing on one side of the split."""
    # the classes of each side
    trained = {c.label for c in survey.all_clips if trains(c, proposal.split)}
    tested = {c.label for c in survey.all_clips if tests(c, proposal.split)}

    # those of the other side that are not among them
    change = "data.protocols" if proposal.split.rule else "the split of the recordings"
    found = []
    for side, labels, why in (("training", trained, "a network cannot learn it"),
                              ("test", tested, "nothing tells how well it is recognised")):
        names = [survey.class_of(label) for label in sorted((trained | tested) - labels)]
        if names:
            found.append(f"no {side} clip of class {quoted(names)}: {why}; record more clips, or change {change}")
    return found


def unequal_classes(survey: Survey) -> list[str]:
    """Classes with many times as many clips as others."""
    counts = survey.clips_of_class
    most = max(counts, key=counts.get)
    least = min(counts, key=counts.get)
    if counts[most] < UNEQUAL * counts[least]:
        return []
    return [f"class {survey.class_of(most)!r} has {counted(counts[most], 'clip')}, {survey.class_of(least)!r} "
            f"{counts[least]}: a network prefers the larger; record more of the smaller, or give phase 1 "
            "train.balanced=true"]


def known_people(survey: Survey, proposal: Proposal) -> list[str]:
    """People on both sides of a split that the recordings bring."""
    if not survey.subjects or proposal.split.rule is not None:
        return []
    trained = {c.subject for c in survey.all_clips if trains(c, proposal.split)}
    tested = {c.subject for c in survey.all_clips if tests(c, proposal.split)}
    both = sorted(map(str, trained & tested))
    if not both:
        return []
    return [f"the split {proposal.split.name!r} has the same people on both sides (subject {first_few(both)}), which "
            "flatters a network; without the split, adopt splits by people"]


def quoted(names: Sequence[str]) -> str:
    return first_few([repr(name) for name in names])


def short_clips(survey: Survey) -> list[str]:
    short = [c.name for c in survey.clips if c.joints.shape[1] < SHORT]
    return [f"{counted(len(short), 'clip')} of fewer than {SHORT} frames: {first_few(short)}"] if short else []


def still_clips(survey: Survey) -> list[str]:
    """Clips in which nothing moves."""
    still = [c.name for c in survey.clips if c.joints.shape[1] > 1 and not np.ptp(c.joints, axis=1).any()]
    if not still:
        return []
    return [f"{counted(len(still), 'clip')} in which nothing moves: {first_few(still)}; look at it, or delete it"]


def odd_sizes(survey: Survey) -> list[str]:
    """Clips with much larger or smaller bodies than the others, unless they are of a picture."""
    trunk = trunk_of(survey.skeleton)
    size = np.array([body_size(c.joints[0], trunk) for c in survey.clips])
    times = np.abs(np.log(size / np.median(size)))
    odd = [survey.clips[i].name for i in np.flatnonzero(times > np.log(TIMES))]
    if not odd or survey.flat:
        return []

    return [f"{counted(len(odd), 'clip')} with bodies five times larger or smaller than the others: another unit? "
            f"{first_few(odd)}"]
