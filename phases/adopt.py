"""Look at your own recordings and write a recipe for them, recipes/<name>.toml, every line explained.

    just adopt raw=FOLDER                       .npy files with labels.csv, or a folder of .npy files per class
    just adopt raw=FILE name=gestures           a packed .npz, a pyskl pickle; a folder of NTU's .skeleton files
    just adopt raw=FOLDER skeleton=openpose25   what the joints are, if the recordings do not say

What nobody says is measured: the unit and the upright axis by the trunks of the bodies; the skeleton, among those with
as many joints, by how steady its bones are. The schedule gives a network some 1,600 steps, which small sets need. Read
the recipe, mend what is wrong, then run the commands that are printed. An existing recipe is not overwritten.
Exit codes: 0 written, 2 bad input.
"""
from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from arrays import class_folders, metadata
from clips import Clip, Skip
from limits import load_npz
from metres import AXES, Recorded, body_size, guess, trunk_vector, unsteadiness
from ntu import NTU_NAME
from pickles import read_annotations
from readers import READERS, read_ntu_file
from recipe import ROOT, cli, load_config, recipe_files
from store import trunk_of

from last import SKELETONS, Skeleton, atomic

MOST = 2000    # clips that are looked at
STEPS = 1600   # optimiser steps of a training
BATCH = 16


@dataclass
class Seen:
    """What the recordings show."""
    reader: str
    clips: list[Clip]
    skips: list[Skip]
    skeleton: Skeleton
    named: bool              # whether the recordings or the user named the skeleton
    classes: list[str]
    channels: str = "xyz"

    @property
    def flat(self) -> bool:
        return not any(c.joints[..., 2].any() for c in self.clips)

    @property
    def lengths(self) -> np.ndarray:
        return np.array([c.joints.shape[1] for c in self.clips])

    @property
    def subjects(self) -> list[int]:
        return sorted({c.subject for c in self.clips} - {0})


def reader_of(raw: Path) -> str:
    """The reader for recordings, by what they are."""
    if not raw.exists():
        raise ValueError(f"raw = {raw}: no such file or folder")
    if raw.suffix in (".pkl", ".pickle"):
        return "pyskl"
    if raw.suffix == ".npz" and raw.is_file():
        return "ctrgcn" if "x_train" in load_npz(raw, lambda name: False) else "arrays"
    if raw.is_dir():
        if next(raw.rglob("*.skeleton"), None):
            return "ntu"
        if (raw / "labels.csv").is_file() or class_folders(raw):
            return "arrays"
        if next(raw.glob("*.npy"), None):
            raise ValueError(f"{raw} holds .npy files, but neither labels.csv nor a folder per class: which action is "
                             "each? Write labels.csv with the header name,label,subject")
    raise ValueError(f"raw = {raw}: give a folder of .npy files with labels.csv, a folder per class, a folder of "
                     ".skeleton files, a packed .npz or a pyskl pickle")


def read(raw: Path, reader: str) -> tuple[list[Clip], list[Skip]]:
    """Clips as recorded, at most MOST, and those that could not be read."""
    if reader == "ntu":
        names = [p for p in sorted(raw.rglob("*.skeleton")) if NTU_NAME.fullmatch(p.stem)]
        found = map(read_ntu_file, names[::max(1, len(names) // 200)])
    else:
        cfg = load_config(["recipe=lite_nano", "data.name=adopted", f"data.reader={reader}", "data.num_classes=100000"])
        found = READERS[reader](raw, cfg)
    found = list(islice(found, MOST))
    clips = [c for c in found if isinstance(c, Clip) and c.joints.ndim == 4 and np.isfinite(c.joints).all()
             and c.joints.any() and c.label >= 0]
    if not clips:
        why = next((f"{s.file}: {s.reason}" for s in found if not isinstance(s, Clip)), "none has finite joints")
        raise ValueError(f"raw = {raw}: no clip could be read ({why})")
    return clips, [s for s in found if isinstance(s, Skip)]


def skeleton_of(raw: Path, reader: str, clips: list[Clip], given: str) -> tuple[Skeleton, bool]:
    """The skeleton that the user or the recordings name, else the steadiest of those with as many joints."""
    counts = Counter(c.joints.shape[2] for c in clips)
    if len(counts) > 1:
        words = ", ".join(f"{n} clips with {V}" for V, n in counts.most_common(3)) + ", ..." * (len(counts) > 3)
        odd = next(c.name for c in clips if c.joints.shape[2] != counts.most_common(1)[0][0])
        swapped = {c.joints.shape[1] for c in clips}
        if len(counts) > 3 and len(swapped) == 1:
            raise ValueError(f"raw = {raw}: each clip has {swapped.pop()} frames and another number of joints: are the "
                             "axes swapped? An array is (frames, joints, 3)")
        raise ValueError(f"raw = {raw}: clips of several joint counts ({words}), such as {odd}; adopt them apart")
    V = next(iter(counts))
    told = given or (metadata(raw).get("skeleton") if reader == "arrays" else "ntu25" if reader == "ntu" else None)
    if isinstance(told, dict):
        return Skeleton.from_dict(told), True
    if told:
        if told not in SKELETONS:
            raise ValueError(f"skeleton = {told!r}: unknown (known: {', '.join(SKELETONS)})")
        if SKELETONS[told].num_joints != V:
            raise ValueError(f"skeleton = {told!r} has {SKELETONS[told].num_joints} joints, the clips have {V}")
        return SKELETONS[told], True
    fit = [s for s in SKELETONS.values() if s.num_joints == V]
    if not fit:
        near = min(SKELETONS.values(), key=lambda s: abs(s.num_joints - V))
        raise ValueError(f"raw = {raw}: {V} joints fit no known skeleton, the nearest is {near.name} with "
                         f"{near.num_joints}; write your own into skeleton.json (README, Your own skeletons)")
    some = [c.joints[0] for c in clips[:40]]
    return min(fit, key=lambda s: unsteadiness(some, s.bones)), False


def class_names(raw: Path, reader: str, clips: list[Clip]) -> list[str]:
    """The names of the classes; numbers in their place if the recordings have none, from 0 or from 1."""
    named = metadata(raw).get("classes") if reader == "arrays" else None
    if named:
        return list(map(str, named))
    labels = {c.label for c in clips}
    if reader == "pyskl":
        labels |= {int(a["label"]) for a in read_annotations(raw)["annotations"] if isinstance(a, dict)}
    first = 1 if 0 not in labels else 0
    return [f"class {k}" for k in range(max(labels) + 1 - first)]


def look(raw: Path, skeleton: str) -> Seen:
    """Read the recordings and see what they are."""
    reader = reader_of(raw)
    clips, skips = read(raw, reader)
    found, named = skeleton_of(raw, reader, clips, skeleton)
    seen = Seen(reader, clips, skips, found, named, class_names(raw, reader, clips))
    first = int(max(c.label for c in clips) == len(seen.classes))  # numbers from 1
    few = [seen.classes[k - first] for k, n in Counter(c.label for c in clips).items()
           if n < 2 and first <= k < len(seen.classes) + first]
    if few:
        raise ValueError(f"raw = {raw}: class {few[0]!r} has one clip: it cannot both train and be tested")
    if len(seen.classes) < 2:
        raise ValueError(f"raw = {raw}: one class only, {seen.classes[0]!r}: there is nothing to tell apart")
    return seen


# ---------------------------------------------------------------------------------------------------------------------
# What follows
# ---------------------------------------------------------------------------------------------------------------------

def recorded(seen: Seen) -> tuple[Recorded, str]:
    """Unit and upright axis, and how they were found."""
    trunk = trunk_of(seen.skeleton)
    length, unit, up = guess(np.array([trunk_vector(c.joints[0], trunk) for c in seen.clips]))
    if seen.flat:
        unit = "px"
    why = f"the median trunk is {length:.3g} long" if length else "no trunk to measure: look at the clips"
    return Recorded(unit or "body", up if up in AXES else "y"), why


def odd_sizes(seen: Seen) -> list[str]:
    """Clips whose bodies are five times larger or smaller than the median: of another unit?"""
    size = np.array([body_size(c.joints[0], trunk_of(seen.skeleton)) for c in seen.clips])
    odd = [seen.clips[i].name for i in np.flatnonzero(np.abs(np.log(size / np.median(size))) > np.log(5))]
    more = ", ..." * (len(odd) > 3)
    return [f"{len(odd)} clips have bodies five times larger or smaller than the others: another unit? "
            f"{', '.join(odd[:3])}{more}"] if odd and not seen.flat else []


def protocol(seen: Seen) -> tuple[str, dict | None, str]:
    """(split, rule or None if the recordings bring it, a sentence)."""
    brought = sorted({split for c in seen.clips for split in c.splits})
    if brought:
        return brought[0], None, "the split that the recordings bring"
    people = seen.subjects
    if len(people) >= 4:
        return "xsub", {"field": "subject", "train": people[::2]}, "every second person trains, the others test"
    if len(people) > 1:
        return "xsub", {"field": "subject", "train": people[:-1]}, "few people: all but the last train"
    return "random", {"field": "replication", "train": [1, 2, 3]}, \
        "every fourth clip of a class tests. Nobody said whose clips they are: the same people train and test, which " \
        "flatters the network. Give labels.csv a column subject"


def training_clips(seen: Seen, split: str, rule: dict | None) -> int:
    if rule is None:
        return sum(c.splits.get(split) == 0 for c in seen.clips)
    return max(1, sum(getattr(c, rule["field"]) in rule["train"] for c in seen.clips))


def recipe_text(name: str, raw: Path, seen: Seen) -> str:
    """The recipe, every line with its reason."""
    as_recorded, why = recorded(seen)
    split, rule, reason = protocol(seen)
    number = training_clips(seen, split, rule)
    steps = math.ceil(number / BATCH)
    epochs = min(400, max(20, round(STEPS / steps)))
    median = float(np.median(seen.lengths))
    frames = 16 if median <= 20 else 32 if median <= 110 else 64
    two = np.mean([len(c.joints) > 1 for c in seen.clips])
    handed = [c for c in seen.classes if re.search(r"left|right", c, re.I)]
    cameras = len({c.camera for c in seen.clips})
    trunk, pairs = seen.skeleton.trunk is not None, bool(seen.skeleton.pairs)
    own = seen.skeleton.name not in SKELETONS or SKELETONS[seen.skeleton.name] != seen.skeleton
    lines = [
        f"# {name}: {len(seen.clips)} clips, adopted from {raw.name}.",
        "# Written by `just adopt`; every line may be changed.",
        ("raw = " + json.dumps(str(raw)), "the recordings"), "",
        "[data]",
        (f"name = {json.dumps(name)}", ""), (f"reader = {json.dumps(seen.reader)}", ""),
        (f"skeleton = {json.dumps('' if own else seen.skeleton.name)}",
         "the one that the recordings spell out" if own else "as named" if seen.named else
         f"{seen.skeleton.num_joints} joints, and the steadiest bones of all with as many: is it right?"),
        (f"num_classes = {len(seen.classes)}", ", ".join(seen.classes[:4]) + ", ..." * (len(seen.classes) > 4)),
        (f"unit = {json.dumps(as_recorded.unit)}", "flat clips are scaled by the body" if seen.flat else why),
        (f"up = {json.dumps(as_recorded.up)}", "the axis along which bodies stand"),
        (f"split = {json.dumps(split)}", reason)]
    if rule:
        train = ", ".join(map(str, rule["train"]))
        lines.append((f'protocols = {{ {split} = {{ field = "{rule["field"]}", train = [{train}] }} }}', ""))
    lines += [
        "", "[view]",
        (f"frames = {frames}", f"clips have {seen.lengths.min()} to {seen.lengths.max()}, the median {median:g}"),
        (f"bodies = {2 if two > 0.1 else 1}", f"{100 * two:.0f} % of the clips have two"),
        (f"trunk_scale = {str(trunk).lower()}", "people differ in size" if trunk else "no shoulders and hips by name"),
        (f"heading = {str(trunk and cameras > 1 and not seen.flat).lower()}",
         f"{cameras} cameras" if cameras > 1 else "one camera: where people face may tell actions apart"),
        ("rotate = [0.0, 0.0, 10.0]" if seen.flat else "rotate = [10.0, 30.0, 10.0]",
         "degrees, in the plane only" if seen.flat else "degrees, most about the vertical"),
        ("scale = 0.2", ""), ("window = 0.7", "a clip may begin late or end early"),
        (f"flip = {0.5 if pairs and not handed else 0.0}",
         f"{handed[0]!r} tells left from right: never mirrored" if handed else
         "mirrored clips are as good" if pairs else "no left and right joints by name"),
        "", "[train]",
        (f"batch = {BATCH}", f"{number} training clips: {steps} steps an epoch"),
        (f"epochs = {epochs}", f"{epochs * steps} steps in all; small sets need that many"),
        ("weight_decay = 5e-4", ""), ("label_smoothing = 0.1", "")]
    wide = max(len(line[0]) for line in lines if isinstance(line, tuple) and len(line[0]) < 40)
    return "".join((line if isinstance(line, str) else
                    f"{line[0]:<{wide}}  # {line[1]}" if line[1] else line[0]) + "\n" for line in lines)


def options(argv: list[str]) -> dict[str, str]:
    given = {"raw": "", "name": "", "skeleton": ""}
    for arg in argv:
        key, eq, value = arg.partition("=")
        if not eq or key not in given:
            raise ValueError(f"argument {arg!r}: unknown (known: raw=FOLDER_OR_FILE, name=, skeleton=)")
        given[key] = value
    if not given["raw"]:
        raise ValueError("no recordings: give raw=FOLDER_OR_FILE")
    given["name"] = given["name"] or re.sub(r"\W+", "_", Path(given["raw"]).stem.lower()).strip("_") or "mine"
    if not re.fullmatch(r"[A-Za-z0-9_]+", given["name"]):
        raise ValueError(f"name = {given['name']!r}: letters, digits and _ only")
    return given


def main(argv: list[str]) -> int:
    given = options(argv)
    name, raw = given["name"], Path(given["raw"]).absolute()
    path = ROOT / "recipes" / f"{name}.toml"
    if path.exists() or name in recipe_files():
        raise ValueError(f"name = {name!r}: {path} exists already; give another name=, or delete it")
    seen = look(raw, given["skeleton"])
    with atomic(path) as part:
        part.write_text(recipe_text(name, raw, seen))
    try:
        cfg = load_config([f"recipe={name}"])
    except ValueError:
        path.unlink()
        raise
    people = f"{len(seen.subjects)} people" if seen.subjects else "nobody says whose"
    lost = f"; {len(seen.skips)} could not be read" if seen.skips else ""
    print(f"saw      {len(seen.clips)} clips of {len(seen.classes)} classes, {people}, "
          f"{seen.skeleton.num_joints} joints{lost}")
    print(f"assumed  {seen.skeleton.name}, {cfg.data.unit}, {cfg.data.up} up, {cfg.view.frames} frames, "
          f"{cfg.train.epochs} epochs; {protocol(seen)[2]}")
    for skip in seen.skips[:5]:
        print(f"lost     {skip.file}{f', line {skip.line}' if skip.line else ''}: {skip.reason}", file=sys.stderr)
    for line in odd_sizes(seen):
        print(f"odd      {line}", file=sys.stderr)
    print(f"wrote    {path}: read it, then")
    for command in (f"just phase0 recipe={name}", f"just show data={name} clip={seen.clips[0].name} out=clip.gif",
                    f"just phase1 recipe=lite_nano data={name}", f"just phase4 recipe=lite_nano data={name}",
                    "just predict model=exports/lite_nano/model.onnx clip=FILE"):
        print(f"         {command}")
    return 0


if __name__ == "__main__":
    cli(main)
