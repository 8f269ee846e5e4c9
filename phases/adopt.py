"""Look at your own recordings and write a recipe for them, recipes/<name>.toml, every line explained.

    just adopt raw=FOLDER                       a folder of clips per class, or clips with labels.csv
    just adopt raw=FILE name=gestures           a packed .npz, a pyskl pickle; a folder of NTU's .skeleton files
    just adopt raw=FOLDER skeleton=openpose25   what the joints are, if the recordings do not say

A clip is a .npy, .json or .csv file, or a folder of .json frames (poses.py has the forms). What nobody says is
measured: the unit and the upright axis by the trunks of the bodies; the skeleton, among those with as many joints, by
how steady its bones are. The schedule gives a network some 1,600 steps, which small sets need. Read the recipe, mend
what is wrong, then run the commands that are printed. An existing recipe is not overwritten.
Exit codes: 0 written, 2 bad input, 3 written, but clips were left out, each named.
"""
from __future__ import annotations

import itertools
import json
import math
import re
import shlex
import sys
import unicodedata
from pathlib import Path

import numpy as np

from phases.common.files import ROOT, atomic
from phases.common.recipes import recipe_files
from phases.common.settings_cli import cli
from phases.recordings.metres import AXES, Recorded, body_size, guess, trunk_vector
from phases.recordings.store import trunk_of
from phases.recordings.survey import Seen, look
from phases.training.recipe import load_config
from skeletons import SKELETONS

STEPS = 1600   # optimiser steps of a training
BATCH = 16
SIDED = re.compile(r"left(?!over)|(?<!b)(?<!f)(?<!up)right|(?<![^\W\d_])(?:links|rechts|gauche|droite?|sinistr[ao]|"
                   r"destr[ao]|izquierd[ao]|derech[ao]|esquerd[ao]|direit[ao]|lew[aey]|praw[aey]|[lr]|lr|rl)"
                   r"(?![^\W_]|['’])", re.I)  # class names that tell left from right


def recorded(seen: Seen) -> tuple[Recorded, str, str]:
    """Unit and upright axis, and how each was found."""
    trunk = trunk_of(seen.skeleton)
    length, unit, up = guess(np.array([trunk_vector(c.joints[0], trunk) for c in seen.clips]))
    if seen.flat:
        unit = "px"
    nothing = "assumed: no frame shows shoulders and hips" if trunk else "assumed: no joint is named left shoulder"
    why = f"the median trunk is {length:.3g} long" if length else nothing
    stand = "the axis along which bodies stand" if up in AXES else \
        f"assumed: bodies {f'lie along {up}' if up else 'stand along no axis'}" if length else nothing
    return Recorded(unit or "body", up if up in AXES else "y"), why, stand


def oddities(seen: Seen) -> list[str]:
    """What should be looked at, a line each: what was assumed, classes that never train, odd lengths and sizes."""
    (_, rule, _), (as_recorded, *why), found = protocol(seen), recorded(seen), []
    for key, reason in zip(("unit", "up"), why, strict=True):
        if reason.startswith("assumed"):
            found.append(f"{key} = {getattr(as_recorded, key)} is {reason}; draw a clip and look")
    if rule:
        labels = {c.label for c in seen.all_clips}
        trained = {c.label for c in seen.all_clips if getattr(c, rule["field"]) in rule["train"]}
        tested = {c.label for c in seen.all_clips if getattr(c, rule["field"]) not in rule["train"]}
        for side, there in (("training", trained), ("test", tested)):
            names = [repr(seen.class_of(label)) for label in sorted(labels - there)]
            if names:
                found.append(f"no {side} clip of class {', '.join(names[:3])}{', ...' * (len(names) > 3)}: change "
                             "data.protocols")
    short = [c.name for c in seen.clips if c.joints.shape[1] < 4]
    if short:
        more = ", ..." * (len(short) > 3)
        found.append(f"{len(short)} clips have fewer than 4 frames: {', '.join(short[:3])}{more}")
    return found + odd_sizes(seen)


def mirrored_classes(seen: Seen) -> tuple[str, str] | None:
    """Two classes of which one, mirrored, moves its joints as the other does: the nearest such pair.

    How much a joint moves is its deviation from its mean place about the body, a mean over the clips of a class.
    """
    moves: dict[int, list[np.ndarray]] = {}
    for c in seen.clips:
        body = c.joints[0][c.joints[0].any((1, 2))]  # l v 3
        there = body.any(2, keepdims=True)
        place = body - body.sum(1, keepdims=True) / there.sum(1, keepdims=True).clip(1)
        mean = (place * there).sum(0) / there.sum(0).clip(1)
        spread = ((place - mean) ** 2 * there).sum((0, 2)) / there[..., 0].sum(0).clip(1)
        moves.setdefault(c.label, []).append(np.sqrt(spread) / body_size(c.joints[0], trunk_of(seen.skeleton)))
    means, mirror = {label: np.mean(each, 0) for label, each in moves.items()}, seen.skeleton.mirror
    best, pair = 0.5, None
    for a, b in itertools.combinations(sorted(means), 2):
        apart = np.linalg.norm(means[a] - means[b])
        if apart > 0.3 * max(np.linalg.norm(means[a]), np.linalg.norm(means[b])):
            ratio = np.linalg.norm(means[a][mirror] - means[b]) / apart
            if ratio < best:
                best, pair = ratio, (seen.class_of(a), seen.class_of(b))
    return pair


def odd_sizes(seen: Seen) -> list[str]:
    """Clips whose bodies are five times larger or smaller than the median: of another unit?"""
    size = np.array([body_size(c.joints[0], trunk_of(seen.skeleton)) for c in seen.clips])
    odd = [seen.clips[i].name for i in np.flatnonzero(np.abs(np.log(size / np.median(size))) > np.log(5))]
    more = ", ..." * (len(odd) > 3)
    return [f"{len(odd)} clips have bodies five times larger or smaller than the others: another unit? "
            f"{', '.join(odd[:3])}{more}"] if odd and not seen.flat else []


def protocol(seen: Seen) -> tuple[str, dict | None, str]:
    """(split, rule or None if the recordings bring it, a sentence)."""
    brought = sorted({split for c in seen.all_clips for split in c.splits})
    if brought:
        return brought[0], None, "the split that the recordings bring"
    people = seen.subjects
    if len(people) >= 4:
        return "xsub", {"field": "subject", "train": people[::2]}, "every second person trains, the others test"
    if len(people) > 1:
        return "xsub", {"field": "subject", "train": people[:-1]}, "few people: all but the last train"
    why = "All are of one person: how well others are recognised is not tested" if people else \
        "Nobody said whose clips they are: the same people train and test, which flatters the network. Give " \
        "labels.csv a column subject"
    first, *others = sorted({c.replication for c in seen.all_clips})
    if not others:
        raise ValueError("nothing tells training from test clips: they have one person, one replication and no split")
    if (first, others[-1]) == (0, 3):
        return "random", {"field": "replication", "train": others}, f"every fourth clip of a class tests. {why}"
    return "random", {"field": "replication", "train": others}, f"replication {first} tests. {why}"


def training_clips(seen: Seen, split: str, rule: dict | None) -> int:
    if rule is None:
        number = sum(c.splits.get(split) == 0 for c in seen.all_clips)
        if not number:
            raise ValueError(f"the split {split!r} that the recordings bring has no training clip")
        return number
    return max(1, sum(getattr(c, rule["field"]) in rule["train"] for c in seen.all_clips))


def recipe_text(name: str, raw: Path, seen: Seen) -> str:
    """The recipe, every line with its reason."""
    as_recorded, why, stand = recorded(seen)
    split, rule, reason = protocol(seen)
    number = training_clips(seen, split, rule)
    steps = math.ceil(number / BATCH)
    epochs = min(400, max(20, round(STEPS / steps)))
    median = float(np.median(seen.lengths))
    frames = 16 if median <= 20 else 32 if median <= 110 else 64
    two = np.mean([c.joints.any((1, 2, 3)).sum() > 1 for c in seen.clips])
    handed = [c for c in seen.classes if SIDED.search(c)]
    mirrored = None if handed else mirrored_classes(seen)
    numbered = all(re.fullmatch(r"\w*?[ _-]?\d+", c) for c in seen.classes)
    cameras = len({c.camera for c in seen.clips})
    alike = ", ".join(s.name for s in SKELETONS.values() if s.num_joints == seen.skeleton.num_joints)
    trunk, pairs = seen.skeleton.trunk is not None, bool(seen.skeleton.pairs)
    own = seen.skeleton.name not in SKELETONS or SKELETONS[seen.skeleton.name] != seen.skeleton
    lines = [
        f"# {name}: {len(seen.all_clips)} clips, adopted from {raw.name}.",
        "# Written by `just adopt`; every line may be changed.",
        ("raw = " + json.dumps(str(raw), ensure_ascii=False), "the recordings"), "",
        "[data]",
        (f"name = {json.dumps(name)}", ""), (f"reader = {json.dumps(seen.reader)}", ""),
        (f"skeleton = {json.dumps('' if own else seen.skeleton.name)}",
         "the one that the recordings spell out" if own else "as named" if seen.named else
         f"{seen.skeleton.num_joints} joints: its bones are the steadiest of {alike}; is it right?"),
        (f"num_classes = {len(seen.classes)}", ", ".join(seen.classes[:4]) + ", ..." * (len(seen.classes) > 4)),
        (f"unit = {json.dumps(as_recorded.unit)}", "flat clips are scaled by the body" if seen.flat else why),
        (f"up = {json.dumps(as_recorded.up)}", stand),
        *([('channels = "xys"', "the third number of a joint is a score")] if seen.channels == "xys" else []),
        (f"split = {json.dumps(split)}", reason)]
    if rule:
        train = ", ".join(map(str, rule["train"]))
        lines.append((f'protocols = {{ {split} = {{ field = "{rule["field"]}", train = [{train}] }} }}', ""))
        if rule["field"] == "subject" and len(rule["train"]) > 2:
            lines.append((f"# validate = {{ subject = [{rule['train'][-1]}] }}", "without the #: settings are judged "
                          "on this person, not on the test side"))
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
        (f"flip = {0.5 if pairs and not handed and not mirrored and not numbered else 0.0}",
         f"{handed[0]!r} tells left from right: never mirrored" if handed else
         f"{mirrored[0]!r} mirrored moves as {mirrored[1]!r} does: never mirrored" if mirrored else
         "numbered classes may tell left from right; 0.5 mirrors half of the clips" if numbered else
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
    plain = unicodedata.normalize("NFKD", Path(given["raw"]).stem.lower()).encode("ascii", "ignore").decode()
    given["name"] = given["name"] or re.sub(r"\W+", "_", plain).strip("_") or "mine"
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
    print(f"saw      {len(seen.all_clips)} clips of {len(seen.classes)} classes, {people}, "
          f"{seen.skeleton.num_joints} joints{lost}")
    others = [s.name for s in SKELETONS.values() if s.num_joints == seen.skeleton.num_joints and s != seen.skeleton]
    perhaps = f" (or skeleton={', '.join(others)}?)" if others and not seen.named else ""
    print(f"assumed  {seen.skeleton.name}{perhaps}, {cfg.data.unit}, {cfg.data.up} up, {cfg.view.frames} frames, "
          f"{cfg.train.epochs} epochs; {protocol(seen)[2]}")
    for skip in seen.skips[:5]:
        print(f"lost     {skip.file}{f', line {skip.line}' if skip.line else ''}: {skip.reason}", file=sys.stderr)
    for line in oddities(seen):
        print(f"odd      {line}", file=sys.stderr)
    print(f"wrote    {path}: read it, then")
    exports = f"exports/{name}" if Path("exports/lite_nano").exists() else ""  # of another data set
    for command in (f"just phase0 recipe={name}", shlex.join(["just", "show", f"data={name}",
                                                              f"clip={seen.clips[0].name}", "out=clip.gif"]),
                    f"just phase1 recipe=lite_nano data={name}",
                    f"just phase4 recipe=lite_nano data={name}" + f" exports={exports}" * bool(exports),
                    f"just predict model={exports or 'exports'}/lite_nano/model.onnx clip=FILE"):
        print(f"         {command}")
    return 3 if seen.skips else 0


if __name__ == "__main__":
    cli(main)
