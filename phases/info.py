"""Describe a recipe's network, a skeleton, or an exported file.

    just info recipe=lite_small [key.sub=value ...]     parameters, and multiply-adds of one clip with one body
    just info skeleton=ntu25                            the joints of a skeleton in order, each with its parent
    just info model=utd_mhad                            an exported file: its input, its actions, what it declines

Exit codes: 0 done, 2 bad input.
"""
from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import Annotated, Literal

from phases.common.command import run
from phases.common.files import ROOT
from phases.reporting.cells import values
from phases.reporting.measured import Results
from phases.shipping.exported import ExportedModel, model_file
from phases.training.networks import describe
from phases.training.recipe import load_config
from skeletons import SKELETONS, Skeleton


@dataclass(frozen=True)
class Options:
    skeleton: Annotated[str, SKELETONS, "by its name"] = ""
    model: Annotated[str, "a file of `just phase4`, or the name of a network in results/networks"] = ""
    format: Annotated[Literal["text", "json"], "of the answer; json: one line, for programs"] = "text"


def describe_file(model: ExportedModel) -> dict:
    """What a user of an exported file needs to know: its recipe, its input and its classes."""
    about = model.about
    return {
        "recipe": about["recipe"],
        "dataset": about["dataset"],
        "split": about["split"],
        "form": about["form"],
        "causal": json.loads(about.get("causal", "false")),
        "bodies": model.view["bodies"],
        "frames": model.view["frames"],
        "unit": model.recorded.unit,
        "up": model.recorded.up,
        "pictures": model.pictures,
        "skeleton": Skeleton.from_dict(model.skeleton).to_dict(),
        "also_takes": sorted(model.retarget),
        "classes": model.classes,
        "threshold": model.threshold,
        "declined": json.loads(model.about.get("declined") or "null"),
        "recipe_declines": recipe_declines(about["recipe"], about["dataset"]),
    }


def recipe_declines(recipe: str, dataset: str) -> dict[str, float]:
    """Percent declined of known clips and of each kind of strangers, by files of a recipe that `just decline` judged.

    Means over its sets of unknown classes; empty if results/ has none.
    """
    found = Results(ROOT / "results").declined_of(recipe, dataset)
    kinds = dict.fromkeys(kind for run in found["runs"] for kind in run) if found else {}
    return {kind: round(statistics.mean(values(found, kind)), 1) for kind in kinds}


def declining_text(about: dict) -> list[str]:
    """Lines about what declining costs; none where nothing was measured."""
    lines = []
    if about["declined"] is not None:
        lines.append(f"of its test clips it declines {about['declined']:.1f} %")
    if about["recipe_declines"]:
        kinds = ", ".join(f"{kind} {share:.1f} %" for kind, share in about["recipe_declines"].items())
        lines.append(f"files of {about['recipe']} that were taught only some classes of {about['dataset']} decline, of "
                     f"people that they do not know: {kinds}")
    return lines


def skeleton_text(skeleton: Skeleton) -> str:
    """A line per joint: its number, its name, its parent's number."""
    lines = [f"{joint:3}  {skeleton.joints[joint]:16} parent {parent}" for joint, parent in skeleton.bones]
    return "\n".join(lines)


def file_text(about: dict) -> str:
    """The table of `describe_file` as text."""
    # the words
    skeleton = Skeleton.from_dict(about["skeleton"])
    causal = ", causal" if about["causal"] else ""
    bodies = "body" if about["bodies"] == 1 else "bodies"
    others = ", ".join(about["also_takes"]) or "no other"

    # the file, its input, its classes
    lines = [
        f"{about['recipe']} on {about['dataset']}, split {about['split']}, {about['form']}{causal}",
        f"takes {about['bodies']} {bodies} of {skeleton.name}, {skeleton.num_joints} joints, in {about['unit']} with "
        f"{about['up']} up; a clip of any length, of which it sees {about['frames']} frames",
        f"has learned from {'clips without depth, too' if about['pictures'] else 'clips with depth only'}",
        skeleton_text(skeleton),
        f"also takes clips of: {others}",
        *declining_text(about),
        f"below a likeness of {about['threshold']:.3f}, none of these; else",
        f"names one of {len(about['classes'])} actions: {', '.join(about['classes'])}",
    ]
    return "\n".join(lines)


def network_text(about: dict) -> str:
    """The table of `describe` as text, a line per figure."""
    lines = []
    for key, value in about.items():
        text = f"{value:,}" if isinstance(value, int) else value
        lines.append(f"{key:12} {text}")
    return "\n".join(lines)


def main(options: Options, recipe: list[str]) -> None:
    given = [word for word in (recipe, options.skeleton, options.model) if word]
    if len(given) != 1:
        raise ValueError("give recipe=..., skeleton=... or model=..., and no two of them")

    # as data, and as text
    if options.model:
        about = describe_file(ExportedModel(model_file(options.model)))
        text = file_text(about)
    elif options.skeleton:
        skeleton = SKELETONS[options.skeleton]
        about = skeleton.to_dict()
        text = skeleton_text(skeleton)
    else:
        about = describe(load_config(recipe))
        text = network_text(about)

    print(json.dumps(about) if options.format == "json" else text)


if __name__ == "__main__":
    run(main, Options, recipe=True)
