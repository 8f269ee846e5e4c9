"""Teach an exported network your own actions, from a few clips of each, in seconds. No training, no torch.

    just teach model=any raw=mine out=mine.onnx             mine/wave/1.npy, mine/wave/2.npy, mine/point/1.npy, ...
    just predict model=mine.onnx clip=FILE                  it is a file like any other: stream, segments, page, info

The network stays as it is; a new last layer learns from the features of the clips, three to some dozens of each action.
raw: recordings in any form that `just adopt` reads (class folders, labels.csv, a packed file, a .zip of these); each
file is read as `just predict` reads it. Clips on the test side of a split do not teach: they are tested afterwards.

A class of the name nothing, none or other becomes no class: its clips show what is none of the actions, and a clip that
is more like one of them is declined. People who stand are declined without being recorded: each clip's first pose is
held, with noise. A single class is told from these. Give labels.csv a column subject if several people move: then whole
people are left out, and what is printed holds for people whom the recogniser has not seen.

What is printed: clips per class; how many clips it names rightly that were left out, and by which kind of last layer
(means of the classes, ridge or logistic regression; of five clips per class and more, left-out clips choose it); the
two classes that it takes for each other most; which share of left-out clips it keeps and what it declines. With one
clip of each class nothing can be left out: what is kept is told of damaged copies of the clips.

In:  an exported file, recordings.
Out: a new file. Only an earlier taught file is replaced. One that ends in .w8.onnx is opened as 8-bit weights are best.
Exit codes: 0 done, 2 bad input, 3 done, but clips were left out, each named; 130 interrupted.
"""
from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx

from phases.common.command import run
from phases.common.files import ROOT, check_writable, read_json
from phases.common.limits import FPS
from phases.common.wording import counted
from phases.recordings.clips import Skip
from phases.recordings.examples import find_examples
from phases.shipping.exported import ExportedModel, model_file
from phases.shipping.lessons import Lesson, copies_of, standing_of, study
from phases.shipping.onnx_edit import save_onnx
from phases.shipping.taught import feature_scale, metadata_of, network_gap, taught_graph
from phases.shipping.teaching import Taught, teach

NOTHING = ("nothing", "none", "other")
SEVERAL = 5     # clips per class from which on training was better where both were measured
SAID = 5        # kinds of notes, and files left out, that are printed
FEW_SHOT = ROOT / "results" / "few-shot.json"   # its `training_gains`: points of top-1, with all clips of a set


@dataclass(frozen=True)
class Options:
    model: Annotated[str, "a file of `just phase4`, or the name of a network in results/networks"]
    raw: Annotated[Path, "the recordings, a folder or a file"]
    out: Annotated[Path, "the new file, .onnx"]
    name: Annotated[str, "of the actions as a data set; by default that of the file"] = ""
    fps: Annotated[float | None, FPS, "frames per second of the recordings; without it, of the training clips"] = None


def main(options: Options) -> int:
    # what is given, and where it goes
    source = model_file(options.model)
    model = ExportedModel(source)
    graph = onnx.load(source)
    scale = feature_scale(graph, source)
    gap = network_gap(graph, source)
    check_out(options.out, source)

    # the clips, and what the network makes of them
    found, skips, named = find_examples(options.raw)
    classes = [name for name in named if name.lower() not in NOTHING]
    fps = options.fps or model.fps
    everything = study(model, [example for example in found if not example.is_test], fps)
    check_classes(options.raw, classes, everything)
    lesson = everything.of(classes)
    nothing = everything.of([name for name in named if name not in classes])
    skips = [*skips, *everything.skips]
    print_lesson(lesson, nothing, classes, skips)

    # the recogniser, and its file
    taught = taught_by(model, lesson, nothing, classes, scale, gap)
    print_taught(taught, lesson, classes)
    tested = [example for example in found if example.is_test and example.label in classes]
    if tested:
        print_tested(taught, study(model, tested, fps), classes)
    write(options, source, graph, model, taught, gap, lesson, nothing, classes)
    return 3 if skips else 0


# ---------------------------------------------------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------------------------------------------------

def check_out(out: Path, source: Path) -> None:
    """ValueError if the new file cannot be there, or would replace anything but a taught file."""
    if out.suffix.lower() != ".onnx":
        raise ValueError(f"out = {out}: give a file that ends in .onnx")
    if out.is_dir():
        raise ValueError(f"out = {out}: is a folder; give a file in it")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"out = {out}: there is no folder {out.absolute().parent}")
    if out.exists() and (out.resolve() == source.resolve() or not is_taught(out)):
        raise ValueError(f"out = {out}: exists, and would be lost; give another name")
    check_writable(out, "another out=FILE")


def is_taught(path: Path) -> bool:
    """Whether a file is one that this program wrote."""
    try:
        return any(entry.key == "taught" for entry in onnx.load(path).metadata_props)
    except Exception:  # protobuf raises types of its own for damaged files
        return False


def check_classes(raw: Path, classes: list[str], lesson: Lesson) -> None:
    """ValueError unless there is a class, and each has a clip that could be read."""
    if not classes:
        raise ValueError(f"raw = {raw}: has clips of nothing only: give a class folder of each action")
    readable = {example.label for example in lesson.examples}
    lacking = [name for name in classes if name not in readable]
    if lacking:
        why = next((f" ({skip.file}: {skip.reason})" for skip in lesson.skips), "")
        raise ValueError(f"raw = {raw}: no clip of the class {lacking[0]!r} teaches{why}")


# ---------------------------------------------------------------------------------------------------------------------
# The recogniser
# ---------------------------------------------------------------------------------------------------------------------

def taught_by(model: ExportedModel, lesson: Lesson, nothing: Lesson, classes: list[str], scale: np.ndarray,
              gap: float) -> Taught:
    labels = lesson.labels(classes)
    is_alone = len(labels) == len(classes)
    return teach(
        np.stack(lesson.features), labels, len(classes), gap, scale,
        standing=standing_of(model, lesson),
        nothing=np.stack(nothing.features) if nothing.examples else None,
        copies=copies_of(model, lesson) if is_alone else None,
        people=lesson.people())


def write(options: Options, source: Path, graph: onnx.ModelProto, model: ExportedModel, taught: Taught, gap: float,
          lesson: Lesson, nothing: Lesson, classes: list[str]) -> None:
    """Write the file, with what it tells of its teaching, and print what to do with it."""
    told = taught.left_out >= 0
    about = model.about
    story = {
        "from": {key: about.get(key, "") for key in ("recipe", "dataset", "split", "form")} | {"file": source.name},
        "examples": dict(Counter(example.label for example in lesson.examples)),
        "nothing": len(nothing.examples),
        "head": str(taught.head),
        "left_out": round(100 * right(taught, lesson, classes), 2) if told.any() else None,
        "by_people": taught.by_people}
    name = options.name or options.out.name.partition(".")[0]
    metadata = metadata_of(about, graph, taught, classes, name, lesson.length, gap, story)
    save_onnx(taught_graph(graph, taught), options.out, metadata)
    print(f"wrote    {options.out}: just predict model={options.out} clip=FILE")


# ---------------------------------------------------------------------------------------------------------------------
# What is printed
# ---------------------------------------------------------------------------------------------------------------------

def print_lesson(lesson: Lesson, nothing: Lesson, classes: list[str], skips: list[Skip]) -> None:
    """Clips per class; on standard error what was left out, and what reading reported."""
    number = Counter(example.label for example in lesson.examples)
    others = f", and {len(nothing.examples)} of nothing" if nothing.examples else ""
    lost = f"; {len(skips)} left out" if skips else ""
    print(f"saw      {counted(len(lesson.examples), 'clip')} of {counted(len(classes), 'class')}{others}{lost}")
    print(f"clips    {', '.join(f'{number[name]} {name}' for name in classes)}")
    if max(number.values()) >= SEVERAL:
        print(f"advice   from {SEVERAL} clips of a class on, `just adopt` and phase 1 make a better "
              f"network{training_gain()}")

    for skip in skips[:SAID]:
        line = f", line {skip.line}" if skip.line else ""
        print(f"lost     {skip.file}{line}: {skip.reason}", file=sys.stderr)
    for note, names in list(lesson.notes.items())[:SAID]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        print(f"note     {names[0]}{more}: {note}", file=sys.stderr)


def training_gain() -> str:
    """By how much training is better than teaching, where it was measured."""
    try:
        return f": by {float(read_json(FEW_SHOT)['training_gains']):.1f} points where that was measured"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def print_taught(taught: Taught, lesson: Lesson, classes: list[str]) -> None:
    """How well left-out clips are named, the two classes that are confused most, and what is declined."""
    told = taught.left_out >= 0
    if len(classes) == 1:
        print("one      class alone: it is told from people who stand, and from what a folder nothing shows")
    elif told.any():
        who = "all of a person's" if taught.by_people else "one of each class"
        flattered = "" if taught.by_people else "; other people may do worse (labels.csv can name them: subject)"
        print(f"left out {who} at a time, {100 * right(taught, lesson, classes):.0f} % of {told.sum()} clips are named "
              f"rightly, by {taught.head}{flattered}")
        print_confused(taught, lesson, classes)
    else:
        print("left out none: with one clip of each class nothing tells how well they are known; three are better")

    # what is none of them
    kinds = {"standing": "people who stand", "nothing": "nothing"}
    declined = [f"{100 * share:.0f} % of {kinds[kind]}" for kind, share in taught.declined.items() if share == share]
    clips = "left-out clips" if told.any() else "damaged copies"
    lost = f"{100 * (1 - taught.kept):.0f} % of {clips}"
    print(f"declined below a likeness of {taught.threshold:.3f}: {', '.join([lost, *declined])}")


def right(taught: Taught, lesson: Lesson, classes: list[str]) -> float:
    """The share of left-out clips that are named rightly."""
    told = taught.left_out >= 0
    return float((taught.left_out == lesson.labels(classes))[told].mean())


def print_confused(taught: Taught, lesson: Lesson, classes: list[str]) -> None:
    """The two classes that are taken for each other most, if any."""
    labels = lesson.labels(classes)
    pairs = Counter()
    for is_, named in zip(labels.tolist(), taught.left_out.tolist(), strict=True):
        if named not in (-1, is_):
            pairs[min(is_, named), max(is_, named)] += 1
    if pairs:
        (one, other), number = pairs.most_common(1)[0]
        of_both = np.isin(labels, (one, other)).sum()
        print(f"confused {classes[one]} and {classes[other]}: {number} of their {of_both} clips")


def print_tested(taught: Taught, lesson: Lesson, classes: list[str]) -> None:
    """How well clips of the test side are named, which did not teach."""
    features = np.stack(lesson.features)
    is_right = taught.probabilities(features).argmax(1) == lesson.labels(classes)
    kept = taught.likeness(features) >= taught.threshold
    print(f"tested   {counted(len(is_right), 'clip')} of the test side: {100 * is_right.mean():.1f} % named rightly, "
          f"{100 * kept.mean():.0f} % kept")


if __name__ == "__main__":
    run(main, Options, interrupted="interrupted: nothing was written")
