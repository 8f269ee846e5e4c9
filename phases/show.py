"""Look at a clip: an animation, or a sheet of its frames, from the front and from the side.

    just show clip=S001C001P001R001A001 out=clip.gif                  a clip of stores/ntu60, moving
    just show clip=a01_s01_e00_v01 data=nw_ucla out=clip.png          a sheet of frames, of another store
    just show clip=some/file.skeleton out=clip.gif                    a file: .skeleton, .npy, Northwestern-UCLA JSON
    just show clip=some/file.skeleton model=FILE.onnx out=clip.gif    beside it what an exported network makes of it
    just show clip=@each store=stores/synthetic out=classes.png       one clip of every class (png only)

Bones have the colour of their body region; a second body is paler. The axes are metres, equal, and fixed over the clip.
With model= the five likeliest actions are drawn beside the clip at each frame, as probabilities of the clip up to that
frame; where the network declines it, the title says none of these. Needs the extra `figures`. An image appears whole
or not at all.
Exit codes: 0 drawn, 2 bad input, or matplotlib is missing.
"""
from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from phases.common.command import run
from phases.common.files import check_writable
from phases.recordings.clips import main_two
from phases.recordings.described import (
    Described,
    described,
    guessed_recorded,
    guessed_skeleton,
    has_score,
    without_score,
)
from phases.recordings.metres import in_metres, trunk_of
from phases.recordings.readers import READABLE, read_clip
from phases.reporting.drawing import FRONT
from phases.reporting.pictures import Drawn, animation, contact_sheet, views
from phases.shipping.exported import ExportedModel, model_file
from phases.training.clip_store import ClipStore, clip_joints
from skeletons import SKELETONS, Skeleton

EACH = "@each"


@dataclass(frozen=True)
class Options:
    clip: Annotated[str, "the name of a clip in the store, a file or a folder, or @each"]
    out: Annotated[Path, "an animation .gif, or a sheet of frames .png"] = Path("clip.gif")
    data: Annotated[str, "the data set of the clip: stores/NAME"] = "ntu60"
    store: Annotated[Path | None, "the clip store, in place of stores/NAME"] = None
    model: Annotated[str, "an exported network, FILE.onnx or a name in results/networks"] = ""

    def __post_init__(self):
        if self.out.suffix not in (".gif", ".png"):
            raise ValueError(f"out = {str(self.out)!r}: must end in .gif (animation) or .png (sheet of frames)")
        if self.clip == EACH and self.out.suffix == ".gif":
            raise ValueError(f"clip = {EACH!r} makes a sheet: give out={self.out.stem}.png, not {self.out.name}")
        if self.model and self.out.suffix != ".gif":
            raise ValueError(f"model = {self.model!r}: its answers are drawn beside an animation; give "
                             f"out={self.out.stem}.gif")


# ---------------------------------------------------------------------------------------------------------------------
# Clips of a store
# ---------------------------------------------------------------------------------------------------------------------

def stored_clip(store: ClipStore, index: int) -> Drawn:
    """A clip of a store by its number; its class is part of the title."""
    name = store.clips["name"][index]
    label = store.clips["label"][index]
    up = store.meta.get("recorded", {}).get("up", "y")
    return Drawn(f"{name} · {store.classes[label]}", clip_joints(store, index), store.skeleton, up)


def clip_of_name(store: ClipStore, name: str) -> Drawn:
    names = store.clips["name"].tolist()
    if name not in names:
        raise ValueError(f"clip = {name!r}: {store.path} has no such clip{nearest_names(name, names)}")
    return stored_clip(store, names.index(name))


def clip_of_each_class(store: ClipStore) -> list[Drawn]:
    """The first clip of every class that has one."""
    _, first = np.unique(store.clips["label"], return_index=True)
    return [stored_clip(store, int(index)) for index in first]


def nearest_names(name: str, names: list[str]) -> str:
    """The three nearest of many names; those of the same length differ in the fewest letters."""
    def distance(other: str) -> tuple[int, str]:
        letters = sum(a != b for a, b in zip(other, name, strict=False))
        return letters + abs(len(other) - len(name)), other

    nearest = sorted(names, key=distance)[:3]
    return f", the nearest of its {len(names)} names are {', '.join(nearest)}"


# ---------------------------------------------------------------------------------------------------------------------
# Clips of a file
# ---------------------------------------------------------------------------------------------------------------------

def is_recording(clip: str) -> bool:
    """Whether clip= gives a file or a folder of frames, not the name of a stored clip."""
    return Path(clip).suffix.lower() in READABLE or Path(clip).is_dir()


def clip_of_file(path: Path) -> Drawn:
    """A file in metres, y up, as far as its format or its bodies show how it was recorded."""
    # the numbers; a score is no depth
    found = described(path)
    joints = read_clip(path, joint_names=found.joints)
    if found.recorded is None and has_score(joints):
        joints = without_score(joints)

    # whose they are, and which way is up
    skeleton = drawn_skeleton(path, found, joints)
    trunk = trunk_of(skeleton)
    recorded = found.recorded or guessed_recorded(main_two(joints), trunk)
    return Drawn(path.stem, in_metres(joints, recorded, trunk), skeleton, recorded.up)


def clip_of_file_for(model: ExportedModel, path: Path) -> Drawn:
    """A file as a network takes it, also if that turns it into other joints."""
    joints, recorded = model.read_recorded(path)
    return Drawn(path.stem, joints, Skeleton.from_dict(model.skeleton), recorded.up)


def drawn_skeleton(path: Path, found: Described, joints: np.ndarray) -> Skeleton:
    """The skeleton that the format or skeleton.json names; without one the likeliest known one, reported."""
    count = joints.shape[2]
    name = found.skeleton_of(count) or found.likely(count)

    # what may be: one that is written out, one of its name, any
    body = found.body(count)
    known = [body] if body else [skeleton for skeleton in SKELETONS.values() if name in (None, skeleton.name)]

    # those of as many joints
    fit = [skeleton for skeleton in known if skeleton.num_joints == count]
    if not fit:
        names = ", ".join(skeleton.name for skeleton in known) or name
        raise ValueError(f"{path}: {count} joints fit none of the skeletons {names}; describe them in skeleton.json "
                         "beside it")
    if len(fit) == 1:
        return fit[0]

    # a guess
    guess = guessed_skeleton(path, joints)
    others = ", ".join(skeleton.name for skeleton in fit if skeleton != guess)
    print(f"{path}: {count} joints, drawn as {guess.name} by the lengths of their bones; {others} has as many: name "
          "one in skeleton.json beside it", file=sys.stderr)
    return guess


# ---------------------------------------------------------------------------------------------------------------------
# The program
# ---------------------------------------------------------------------------------------------------------------------

def main(options: Options) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError('drawing needs matplotlib: pip install -e ".[figures]"')
    check_writable(options.out, "another out=FILE")
    model = ExportedModel(model_file(options.model)) if options.model else None
    folder = options.store or Path("stores", options.data)

    # a sheet of a store's classes
    if options.clip == EACH:
        clips = clip_of_each_class(ClipStore(folder))
        contact_sheet([(clip, FRONT) for clip in clips], options.out)
        print(options.out)
        return

    # one clip
    if not is_recording(options.clip):
        clip = clip_of_name(ClipStore(folder), options.clip)
    elif model is None:
        clip = clip_of_file(Path(options.clip))
    else:
        clip = clip_of_file_for(model, Path(options.clip))

    # a stored clip has the joints that phase 0 wrote
    if model is not None and model.skeleton["name"] != clip.skeleton.name:
        raise ValueError(f"model = {options.model}: knows the skeleton {model.skeleton['name']!r}, the clip has "
                         f"{clip.skeleton.name!r}")

    # moving, or as a sheet of each view
    if options.out.suffix == ".gif":
        animation(clip, options.out, model)
    else:
        contact_sheet([(clip, view) for view in views(clip.joints)], options.out)
    print(options.out)


if __name__ == "__main__":
    run(main, Options)
