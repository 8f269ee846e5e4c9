"""Describe a recipe's network, a skeleton, or an exported file.

    just info recipe=lite_small [key.sub=value ...]     parameters, and multiply-adds of one clip with one body
    just info recipe=lite_small format=json             the same in one line, for programs
    just info skeleton=ntu25                            the joints of a skeleton in order, each with its parent
    just info model=utd_mhad                            what a file takes: joints, unit, axes, frames; and its actions

model= takes a file of phase 4, or the name of a network in results/networks.
Exit codes: 0 done, 2 bad input.
"""
from __future__ import annotations

import json

from phases.common.command import nearest
from phases.common.settings_cli import cli
from phases.shipping.exported import ExportedModel, named
from phases.training.networks import describe
from phases.training.recipe import load_config
from skeletons import SKELETONS, Skeleton


def joints_of(skeleton: Skeleton) -> str:
    return "\n".join(f"{joint:3}  {skeleton.joints[joint]:16} parent {parent}" for joint, parent in skeleton.bones)


def about(model: ExportedModel) -> str:
    """What a file says of itself, for one who wants to feed it."""
    say, view, recorded = model.about, model.view, model.recorded
    skeleton = Skeleton.from_dict(model.skeleton)
    causal = ", causal" * json.loads(say.get("causal", "false"))
    bodies = "body" if view["bodies"] == 1 else "bodies"
    turned = ", ".join(sorted(model.retarget)) or "no other"
    return "\n".join((
        f"{say['recipe']} on {say['dataset']}, split {say['split']}, {say['form']}{causal}",
        f"takes {view['bodies']} {bodies} of {skeleton.name}, {skeleton.num_joints} joints, in {recorded.unit} with "
        f"{recorded.up} up; a clip of any length, of which it sees {view['frames']} frames",
        joints_of(skeleton),
        f"also takes clips of: {turned}",
        f"names one of {len(model.classes)} actions: {', '.join(model.classes)}"))


def main(argv: list[str]) -> None:
    key, _, name = argv[0].partition("=") if len(argv) == 1 else ("", "", "")
    if key == "model":
        print(about(ExportedModel(named(name))))
    elif key == "skeleton":
        if name not in SKELETONS:
            raise ValueError(f"skeleton = {name!r}{nearest(name, SKELETONS)}")
        print(joints_of(SKELETONS[name]))
    else:
        about_it = describe(load_config([argument for argument in argv if argument != "format=json"]))
        if "format=json" in argv:
            print(json.dumps(about_it))
        else:
            print("\n".join(f"{k:12} {v:,}" if isinstance(v, int) else f"{k:12} {v}" for k, v in about_it.items()))


if __name__ == "__main__":
    cli(main)
