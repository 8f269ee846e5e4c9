"""Look at your own recordings and write a recipe for them, recipes/<name>.toml, every line explained.

    just adopt FOLDER                       a folder of clips per class, or clips with labels.csv
    just adopt FILE name=gestures           a packed .npz, a pyskl pickle; a folder of NTU's .skeleton files
    just adopt FOLDER skeleton=openpose25   what the joints are, if the recordings do not say
    just adopt FOLDER_OF_SIDES              train/ and test/ with class folders; train.pkl and val.pkl: their split
    just adopt FILE.zip                     any of these, packed; it is unpacked into a temporary folder each time

A clip is a .npy, .npz, .json, .csv, .bvh, .amc (with .asf), .skeleton or .txt file, or a folder of frames in .json or
.txt files (poses.py lists the forms). Kinetics-Skeleton, UAV-Human, DHG and SHREC'17 say themselves what their clips
are. What a format fixes, such as the joints of BVH or the millimetres of Azure Kinect, is used. What no file says is
measured: the unit and the upright axis by the trunks of the bodies; the skeleton, among those with as many joints, by
bones that keep their lengths and are as long on the left as on the right. The schedule gives a network some 2,000
steps, which small sets need; a start from a network of many bodies (init=any) is proposed for the sizes at which it
helped in a study. Read the recipe, correct what is wrong, then run the commands that are printed. An existing recipe is
not overwritten. raw=FOLDER says the same as FOLDER.
Exit codes: 0 written, 2 bad input, 3 written, but clips were left out, each named.
"""
from __future__ import annotations

import re
import shlex
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from phases.common.command import HELP, run
from phases.common.files import ROOT, atomic, check_writable
from phases.common.recipes import recipe_files
from phases.common.wording import counted
from phases.recordings.oddities import oddities
from phases.recordings.proposal import Proposal, propose, recipe_text
from phases.recordings.survey import Survey, look
from phases.training.recipe import Config, load_config
from skeletons import RECORDED, SKELETONS

NAMED_LOST = 5  # clips that could not be read


@dataclass(frozen=True)
class Options:
    raw: Annotated[Path, "the recordings, a folder or a file"]
    name: Annotated[str, "of the recipe, the store and the runs; by default after the recordings"] = ""
    skeleton: Annotated[str, ("", *SKELETONS), "of the recordings, if they do not say"] = ""

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9_]*", self.name):
            raise ValueError(f"name = {self.name!r}: letters, digits and _ only")


def main(options: Options) -> int:
    # where the recipe goes
    raw = options.raw.absolute()
    name = options.name or plain_name(options.raw)
    path = free_path(name)

    # look, decide, write
    survey = look(raw, options.skeleton)
    proposal = propose(survey)
    cfg = write_recipe(path, recipe_text(name, raw, survey, proposal))

    # what was seen and assumed; what is lost or odd, on standard error
    print_survey(survey)
    print_assumed(survey, proposal, cfg)
    print_lost(survey)
    for line in oddities(survey, proposal):
        print(f"odd      {line}", file=sys.stderr)

    # what to do next
    print(f"wrote    {path}: read it, then")
    for command in next_commands(name, survey, proposal):
        print(f"         {command}")
    return 3 if survey.skips else 0


# ---------------------------------------------------------------------------------------------------------------------
# The recipe
# ---------------------------------------------------------------------------------------------------------------------

def plain_name(raw: Path) -> str:
    """A name in small letters, digits and _ after a file or a folder."""
    plain = unicodedata.normalize("NFKD", raw.stem.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"\W+", "_", plain).strip("_") or "mine"


def free_path(name: str) -> Path:
    """The path of a new recipe; ValueError if one has its name."""
    path = ROOT / "recipes" / f"{name}.toml"
    if path.exists() or name in recipe_files():
        raise ValueError(f"name = {name!r}: {path} exists already; give another name=, or delete it")
    check_writable(path, "a copy of the project that is yours")
    return path


def write_recipe(path: Path, text: str) -> Config:
    """Write a recipe, and return what it means; ValueError, and no file, if it means nothing."""
    with atomic(path) as part:
        part.write_text(text)

    try:
        return load_config([f"recipe={path.stem}"])
    except ValueError:
        path.unlink()
        raise


# ---------------------------------------------------------------------------------------------------------------------
# What is printed
# ---------------------------------------------------------------------------------------------------------------------

def print_survey(survey: Survey) -> None:
    people = counted(len(survey.subjects), "person") if survey.subjects else "nobody says whose"
    lost = f"; {len(survey.skips)} could not be read" if survey.skips else ""
    print(f"saw      {counted(len(survey.all_clips), 'clip')} of {counted(len(survey.classes), 'class')}, {people}, "
          f"{survey.skeleton.num_joints} joints{lost}")


def print_assumed(survey: Survey, proposal: Proposal, cfg: Config) -> None:
    # skeletons with as many joints, unless somebody names this one
    own = survey.skeleton
    others = [s.name for s in RECORDED if s.num_joints == own.num_joints and s != own]
    perhaps = f" (or skeleton={', '.join(others)}?)" if others and not survey.named else ""

    # joints of low scores do not count
    scores = f", scores from {survey.min_score:g} on" if survey.min_score else ""

    print(f"assumed  {own.name}{perhaps}, {cfg.data.unit}, {cfg.data.up} up{scores}, {cfg.view.frames} frames, "
          f"{cfg.train.epochs} epochs; {proposal.split.reason}")


def print_lost(survey: Survey) -> None:
    """The first clips that could not be read, and the files that are none, on standard error."""
    for skip in survey.skips[:NAMED_LOST]:
        line = f", line {skip.line}" if skip.line else ""
        print(f"lost     {skip.file}{line}: {skip.reason}", file=sys.stderr)
    if survey.others:
        print(f"left out {survey.others}", file=sys.stderr)


def next_commands(name: str, survey: Survey, proposal: Proposal) -> list[str]:
    """From the recipe to a prediction, to be pasted."""
    start = f" init={proposal.start.name}" if proposal.start else ""
    return [
        f"just phase0 recipe={name}",
        shlex.join(["just", "show", f"data={name}", f"clip={survey.clips[0].name}", "out=clip.gif"]),
        f"just phase1 recipe=lite_nano data={name}{start}",
        f"just phase4 recipe=lite_nano data={name}",
        f"just predict model=exports/{name}/lite_nano/model.onnx clip=FILE"]


def with_raw(argv: list[str]) -> list[str]:
    """The words of a command line; the first one without = is the recordings."""
    bare = next((i for i, word in enumerate(argv) if "=" not in word and word not in HELP), None)
    if bare is None:
        return argv
    return [*argv[:bare], f"raw={argv[bare]}", *argv[bare + 1:]]


if __name__ == "__main__":
    sys.argv[1:] = with_raw(sys.argv[1:])
    run(main, Options)
