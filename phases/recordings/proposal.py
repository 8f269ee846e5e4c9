"""A recipe for recordings that nobody has described: measured, decided, written out with a reason for each line.

    survey -> measure -> Measures -> propose -> Proposal -> recipe_text

It knows the settings of the view and of the training by their names only.
"""
from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from phases.common.wording import counted
from phases.recordings.clips import Clip
from phases.recordings.handedness import mirrored_classes, sided_class
from phases.recordings.metres import AXES, guess, in_unit_square, trunk_of, trunk_vector
from phases.recordings.quality import OFTEN
from phases.recordings.skeleton_guess import first_few
from phases.recordings.starts import Start, start_for
from phases.recordings.survey import Survey
from skeletons import SKELETONS

STEPS = 2000             # optimiser steps of a training
BATCH = 16
EPOCHS = (20, 400)       # at least, at most
MANY = 0.1               # share of clips with two bodies from which on a network sees both
ASSUMED = "assumed: "    # begins the reason of a choice that nothing in the recordings supports


# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Measures:
    """What decides a recipe, measured in all clips of the sample."""
    trunk: float                       # median length as recorded; 0 if no frame shows one
    unit: str                          # by that length; empty without one
    up: str                            # the axis along which trunks stand, also x and -x; empty if they do along none
    shortest: int                      # frames
    median: float
    longest: int
    two_bodies: float                  # share of the clips
    cameras: int
    in_picture: bool                   # x and y are shares of a picture's width and height
    sided: str                         # a class whose name tells left from right, or empty
    twins: tuple[str, str] | None      # two classes that are each other's mirror image


def measure(survey: Survey) -> Measures:
    # unit and axis by the trunks
    trunk = trunk_of(survey.skeleton)
    trunks = [trunk_vector(c.joints[0], trunk) for c in survey.clips]
    length, unit, up = guess(np.array(trunks))

    # left and right by the names of the classes, else by what moves
    sided = sided_class(survey.classes)
    twins = None if sided else mirrored_classes(survey)

    return Measures(
        trunk=length,
        unit=unit,
        up=up,
        shortest=survey.lengths.min(),
        median=float(np.median(survey.lengths)),
        longest=survey.lengths.max(),
        two_bodies=np.mean([c.joints.any((1, 2, 3)).sum() > 1 for c in survey.clips]),
        cameras=len({c.camera for c in survey.clips}),
        in_picture=np.mean([in_unit_square(c.joints[c.joints.any(3)]) for c in survey.clips]) > OFTEN,
        sided=sided,
        twins=twins)


# ---------------------------------------------------------------------------------------------------------------------
# Deciding
# ---------------------------------------------------------------------------------------------------------------------

class Choice(NamedTuple):
    """The value of a setting, and why."""
    value: object
    reason: str = ""


class Split(NamedTuple):
    """Which clips train: the name of a split, its rule (None if the recordings bring the split), and why."""
    name: str
    rule: dict | None
    reason: str


@dataclass(frozen=True)
class Proposal:
    """The settings that suit recordings."""
    skeleton: Choice
    unit: Choice
    up: Choice
    in_picture: bool                   # see Measures
    split: Split
    training_clips: int
    frames: Choice
    bodies: Choice
    trunk_scale: Choice
    heading: Choice
    rotate: Choice
    flip: Choice
    epochs: int
    start: Start | None                # a network to start from, if it helps


def propose(survey: Survey) -> Proposal:
    measured = measure(survey)

    # the sides first: the schedule follows from the number of training clips
    split = choose_split(survey)
    number = count_training_clips(survey, split)
    epochs = round(STEPS / steps_per_epoch(number))

    return Proposal(
        skeleton=choose_skeleton(survey),
        unit=choose_unit(survey, measured),
        up=choose_up(survey, measured),
        in_picture=measured.in_picture,
        split=split,
        training_clips=number,
        frames=choose_frames(measured),
        bodies=choose_bodies(measured),
        trunk_scale=choose_trunk_scale(survey),
        heading=choose_heading(survey, measured),
        rotate=choose_rotation(survey),
        flip=choose_flip(survey, measured),
        epochs=min(EPOCHS[1], max(EPOCHS[0], epochs)),
        start=start_for(number, survey.skeleton))


def choose_skeleton(survey: Survey) -> Choice:
    skeleton = survey.skeleton
    if SKELETONS.get(skeleton.name) != skeleton:
        return Choice("", "the one that the recordings spell out")
    if survey.named:
        return Choice(skeleton.name, "as named")
    alike = ", ".join(s.name for s in SKELETONS.values() if s.num_joints == skeleton.num_joints)
    return Choice(skeleton.name, f"{skeleton.num_joints} joints: of {alike} its bones are the steadiest and its sides "
                  "the most alike; is it right?")


def choose_unit(survey: Survey, measured: Measures) -> Choice:
    if survey.in_metres:
        return Choice("m", "the format fixes it")
    unit = "px" if survey.flat or measured.in_picture else measured.unit or "body"
    if measured.in_picture:
        return Choice(unit, "x and y are within 0 and 1: shares of a picture, not metres")
    if measured.trunk:
        return Choice(unit, f"the median trunk is {measured.trunk:.3g} long")
    return Choice(unit, without_trunk(survey))


def choose_up(survey: Survey, measured: Measures) -> Choice:
    if survey.in_metres:
        return Choice("y", "the format fixes it")
    if measured.up in AXES:
        return Choice(measured.up, "the axis along which bodies stand")
    if not measured.trunk:
        return Choice("y", without_trunk(survey))
    return Choice("y", f"{ASSUMED}bodies {f'lie along {measured.up}' if measured.up else 'stand along no axis'}")


def without_trunk(survey: Survey) -> str:
    """Why nothing is known of the trunks."""
    has_trunk = survey.skeleton.trunk is not None
    return ASSUMED + ("no frame shows shoulders and hips" if has_trunk else "no joint is named left shoulder")


def choose_split(survey: Survey) -> Split:
    """The split that the recordings bring; else by people; else by replications."""
    brought = sorted({name for c in survey.all_clips for name in c.splits})
    if brought:
        return Split(brought[0], None, "the split that the recordings bring")

    # people: the test side must have at least one
    people = survey.subjects
    if len(people) >= 4:
        return Split("xsub", {"field": "subject", "train": people[::2]}, "every second person trains, the others test")
    if len(people) > 1:
        return Split("xsub", {"field": "subject", "train": people[:-1]}, "few people: all but the last train")

    # replications; replications_in_turn numbers them 0 to 3
    replications = sorted({c.replication for c in survey.all_clips})
    if len(replications) < 2:
        raise ValueError("nothing tells training from test clips: they have one person, one replication and no split")
    in_turn = (replications[0], replications[-1]) == (0, 3)
    tested = tested_replication(survey, replications)
    others = [k for k in replications if k != tested]
    what = "every fourth clip of a class tests" if in_turn else f"replication {tested} tests"
    why = "Nobody said whose clips they are: the same people train and test, which flatters the network. Give " \
          "labels.csv a column subject"
    if people:
        why = "All are of one person: how well others are recognised is not tested"
    return Split("random", {"field": "replication", "train": others}, f"{what}. {why}")


def tested_replication(survey: Survey, replications: list[int]) -> int:
    """The first replication whose clips can test: it leaves the fewest classes without a training clip."""
    of_class: dict[int, set[int]] = {}
    for c in survey.all_clips:
        of_class.setdefault(c.label, set()).add(c.replication)
    return min(replications, key=lambda tested: sum(seen == {tested} for seen in of_class.values()))


def trains(clip: Clip, split: Split) -> bool:
    """Whether a clip is on the training side."""
    if split.rule is None:
        return clip.splits.get(split.name) == 0
    return getattr(clip, split.rule["field"]) in split.rule["train"]


def tests(clip: Clip, split: Split) -> bool:
    """Whether a clip is on the test side; a split that the recordings bring may have it on neither side."""
    if split.rule is None:
        return clip.splits.get(split.name) == 1
    return not trains(clip, split)


def count_training_clips(survey: Survey, split: Split) -> int:
    number = sum(trains(c, split) for c in survey.all_clips)
    if not number and split.rule is None:
        raise ValueError(f"the split {split.name!r} that the recordings bring has no training clip")
    return max(1, number)


def steps_per_epoch(training_clips: int) -> int:
    return math.ceil(training_clips / BATCH)


def choose_frames(measured: Measures) -> Choice:
    reason = f"clips have {measured.shortest} to {measured.longest}, the median {measured.median:g}"
    if measured.shortest == measured.longest:
        reason = f"every clip has {counted(int(measured.longest), 'frame')}"
    if measured.median <= 20:
        return Choice(16, reason)
    return Choice(32 if measured.median <= 110 else 64, reason)


def choose_bodies(measured: Measures) -> Choice:
    return Choice(2 if measured.two_bodies > MANY else 1, f"{100 * measured.two_bodies:.0f} % of the clips have two")


def choose_trunk_scale(survey: Survey) -> Choice:
    """Whether bodies are scaled by their trunks."""
    if survey.skeleton.trunk is None:
        return Choice(False, "no shoulders and hips by name")
    return Choice(True, "people differ in size")


def choose_heading(survey: Survey, measured: Measures) -> Choice:
    """Whether people are turned to face the camera: useful with several cameras, and only in three dimensions."""
    several = measured.cameras > 1
    reason = f"{measured.cameras} cameras" if several else "one camera: where people face may tell actions apart"
    return Choice(survey.skeleton.trunk is not None and several and not survey.flat, reason)


def choose_rotation(survey: Survey) -> Choice:
    if survey.flat:
        return Choice([0.0, 0.0, 10.0], "degrees, in the plane only")
    return Choice([10.0, 30.0, 10.0], "degrees, most about the vertical")


def choose_flip(survey: Survey, measured: Measures) -> Choice:
    """The share of clips that are mirrored: half, unless left and right may matter."""
    # left and right matter
    if measured.sided:
        return Choice(0.0, f"{measured.sided!r} tells left from right: never mirrored")
    if measured.twins:
        one, other = measured.twins
        return Choice(0.0, f"{one!r} mirrored moves as {other!r} does: never mirrored")

    # they may matter, or nobody knows which joints they are
    if all(re.fullmatch(r"\w*?[ _-]?\d+", name) for name in survey.classes):
        return Choice(0.0, "numbered classes may tell left from right; 0.5 mirrors half of the clips")
    if not survey.skeleton.pairs:
        return Choice(0.0, "no left and right joints by name")
    return Choice(0.5, "mirrored clips are as good")


# ---------------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------------

class Line(NamedTuple):
    """A line of a recipe: text, and a comment beside it."""
    text: str
    comment: str = ""


def setting(key: str, choice: Choice) -> Line:
    return Line(f"{key} = {json.dumps(choice.value)}", choice.reason)


def recipe_text(name: str, raw: Path, survey: Survey, proposal: Proposal) -> str:
    """The recipe, every line with its reason."""
    lines: list[Line | str] = [
        f"# {name}: {counted(len(survey.all_clips), 'clip')}, adopted from {raw.name}.",
        "# Written by `just adopt`; every line may be changed.",
        Line("raw = " + json.dumps(str(raw), ensure_ascii=False), "the recordings"),
        *start_lines(proposal),
        "", "[data]", *data_lines(name, survey, proposal),
        "", "[view]", *view_lines(proposal),
        "", "[train]", *train_lines(proposal)]

    # comments are below each other; those of long lines are behind them
    width = max(len(line.text) for line in lines if isinstance(line, Line) and len(line.text) < 40)
    text = ""
    for line in lines:
        if isinstance(line, Line):
            line = f"{line.text:<{width}}  # {line.comment}" if line.comment else line.text
        text += line + "\n"
    return text


def start_lines(proposal: Proposal) -> list[Line]:
    if not proposal.start:
        return []
    name, reason = proposal.start
    return [Line(f'# init = "{name}"', f"without the #, or as a word of phase 1: lite_nano starts from it; {reason}")]


def data_lines(name: str, survey: Survey, proposal: Proposal) -> list[Line]:
    # what the recordings are
    unit = proposal.unit
    if survey.flat:
        unit = Choice(unit.value, "flat clips are scaled by the body")

    lines = [
        setting("name", Choice(name)),
        setting("reader", Choice(survey.reader)),
        setting("skeleton", proposal.skeleton),
        setting("num_classes", Choice(len(survey.classes), first_few(survey.classes, 4))),
        setting("unit", unit),
        setting("up", proposal.up)]
    if survey.channels == "xys":
        lines.append(setting("channels", Choice("xys", "the third number of a joint is a score")))
    if survey.scores:
        lines.append(setting("min_score", Choice(survey.min_score, survey.scores)))

    # the split, and a person who could judge settings
    split, rule, reason = proposal.split
    lines.append(setting("split", Choice(split, reason)))
    if rule:
        train = ", ".join(map(str, rule["train"]))
        lines.append(Line(f'protocols = {{ {split} = {{ field = "{rule["field"]}", train = [{train}] }} }}'))
    if rule and rule["field"] == "subject" and len(rule["train"]) > 2:
        lines.append(Line(f"# validate = {{ subject = [{rule['train'][-1]}] }}", "without the #: settings are judged "
                          "on this person, not on the test side"))
    return lines


def view_lines(proposal: Proposal) -> list[Line]:
    return [
        setting("frames", proposal.frames),
        setting("bodies", proposal.bodies),
        setting("trunk_scale", proposal.trunk_scale),
        setting("heading", proposal.heading),
        setting("rotate", proposal.rotate),
        setting("scale", Choice(0.2)),
        setting("window", Choice(0.7, "a clip may begin late or end early")),
        setting("flip", proposal.flip)]


def train_lines(proposal: Proposal) -> list[Line]:
    steps = steps_per_epoch(proposal.training_clips)
    total = proposal.epochs * steps
    clips = counted(proposal.training_clips, "training clip")
    return [
        setting("batch", Choice(BATCH, f"{clips}: {counted(steps, 'step')} an epoch")),
        setting("epochs", Choice(proposal.epochs, f"{counted(total, 'step')} in all; small sets need that many")),
        Line("weight_decay = 5e-4"),
        setting("label_smoothing", Choice(0.1))]
