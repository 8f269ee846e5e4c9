"""Whether a network declines what it was not taught: classes kept from it, people at rest, another data set's actions.

    just phase1 recipe=lite_nano data=utd_mhad data.unknown=1,2,6 out=runs/draw0           trained without these classes
    just phase4 recipe=lite_nano data=utd_mhad out=runs/draw0 exports=exports/draw0
    just decline model=exports/draw0/utd_mhad/lite_nano/model.onnx data=utd_mhad data.unknown=1,2,6 others=nw_ucla

An exported file gives every clip a likeness and holds a threshold: below it, a clip is none of its classes. Judged on
the test side of data=: how many clips of the classes it knows are kept, and how many of each kind of stranger are
declined, at the file's threshold and at the one that keeps 95 % of these known clips. AUROC: how often a known clip has
a higher likeness than a stranger; beside it the same by the largest probability. Classes are numbered from 0. Strangers
are the test clips of data.unknown, people who stand (the first pose of a clip, held) or sit (the last of those who sit
down), and the test clips of another data set, of actions whose names share no word with the network's. Where no class
of the network is walking, those clips of both in which people walk make a kind of their own. Nobody's walking is made
up: without a recording of it the kind is left out.

In:  a file of phase 4; the clip stores of data= and others=.
Out: results/decline-<recipe>--<dataset>-<split>.json, a line for each set of unknown classes and seed.
Exit codes: 0 done, 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from phases.common.command import run
from phases.common.files import write_json
from phases.common.progress import progress_bar
from phases.recordings.strangers import is_sitting_down, is_stranger, is_walking, sitting, standing
from phases.reporting.measured import read_result
from phases.shipping.exported import Answer, ExportedModel, model_file
from phases.training.clip_store import ClipStore, clip_joints, open_store, splits, unknown_clips
from phases.training.networks import check_leakage
from phases.training.recipe import Config, load_config
from phases.training.run_folder import commit
from skeletons import means, retargeted

KEEP = 5  # percent of the known clips may be declined


@dataclass(frozen=True)
class Options:
    model: Annotated[str, "a file of `just phase4`"]
    others: Annotated[str, "another data set whose actions are strangers"] = ""
    results: Annotated[Path | None, "the folder of result files; empty: write none"] = Path("results")


def main(options: Options, recipe: list[str]) -> None:
    path = model_file(options.model)
    model = ExportedModel(path)
    cfg = load_config(["recipe=lite_small", *recipe])
    store = open_store(cfg)
    check_fits(model, store, path)
    check_untaught(model, cfg, path)

    # what it knows, and the strangers
    _, _, test = splits(store, cfg)
    clips = clips_of_strangers(model, store, cfg, test, options.others)
    known = answers_of(model, [clip_joints(store, i) for i in test], "known")
    strangers = {kind: answers_of(model, of_kind, kind) for kind, of_kind in clips.items()}

    # how well it tells them apart
    right = [answer.probabilities.argmax() == store.clips["label"][i] for answer, i in zip(known, test, strict=True)]
    line = {"seed": int(model.about.get("seed", 0)), "unknown": list(cfg.data.unknown), "clips": len(test),
            "top1": round(100 * float(np.mean(right)), 3), **judged(model, known, strangers), "commit": commit()}
    write(options, model, cfg, recipe, line)


def check_fits(model: ExportedModel, store: ClipStore, path: Path) -> None:
    """ValueError if the file knows other classes or joints than the store has."""
    if model.classes != store.classes or tuple(model.skeleton["joints"]) != store.skeleton.joints:
        raise ValueError(f"model = {path}: knows other classes or joints than {store.path} has: give the data= that "
                         "it was trained on")


def check_untaught(model: ExportedModel, cfg: Config, path: Path) -> None:
    """ValueError if the file may have seen the clips that are judged, or was taught what should be unknown."""
    about = model.about
    check_leakage({"data": {"name": about["dataset"], "split": about["split"]}}, cfg, str(path))

    # an earlier file does not tell which classes were kept from it
    kept_from_it = json.loads(about.get("unknown", json.dumps(cfg.data.unknown)))
    if sorted(kept_from_it) != sorted(cfg.data.unknown):
        words = str(kept_from_it).replace(" ", "")
        raise ValueError(f"data.unknown = {list(cfg.data.unknown)}: {path} was trained with data.unknown={words}: give "
                         "these classes, or train it without the others")


# ---------------------------------------------------------------------------------------------------------------------
# Clips
# ---------------------------------------------------------------------------------------------------------------------

def clips_of_strangers(model: ExportedModel, store: ClipStore, cfg: Config, test: np.ndarray,
                       others: str) -> dict[str, list[np.ndarray]]:
    """Clips (M, L, V, 3) by kind; a kind that the data set cannot show is left out."""
    names = store.clips["name"]
    label = store.clips["label"]
    found = {
        "unknown classes": [clip_joints(store, i) for i in unknown_clips(store, cfg)],
        "people who stand": [standing(clip_joints(store, i), str(names[i])) for i in test],
        "people who sit": [sitting(clip_joints(store, i), str(names[i])) for i in test
                           if is_sitting_down(store.classes[label[i]])],
    }
    of_others = clips_of_others(model, others) if others else []
    found["another data set"] = [joints for action, joints in of_others if is_stranger(action, model.classes)]

    # walking, where no class that the network was taught is
    taught = [name for k, name in enumerate(store.classes) if k not in cfg.data.unknown]
    if not any(map(is_walking, taught)):
        found["people who walk"] = [
            *(clip_joints(store, i) for i in unknown_clips(store, cfg) if is_walking(store.classes[label[i]])),
            *(joints for action, joints in of_others if is_walking(action))]
    return {kind: clips for kind, clips in found.items() if clips}


def clips_of_others(model: ExportedModel, name: str) -> list[tuple[str, np.ndarray]]:
    """(action, joints) of another data set's test clips in which people walk, or that share no word with the network's.

    In the network's joints.
    """
    cfg = load_config(["recipe=lite_small", f"data={name}"])
    store = open_store(cfg)
    table = means(store.skeleton.joints, model.skeleton["joints"])
    if not table:
        raise ValueError(f"others = {name!r}: joints of {store.skeleton.name} cannot be turned into "
                         f"{model.skeleton['name']}")

    # only names can tell whether an action is one that the network knows
    _, _, test = splits(store, cfg)
    found = []
    for i in test:
        action = store.classes[store.clips["label"][i]]
        if is_walking(action) or is_stranger(action, model.classes):
            joints = clip_joints(store, i)
            found.append((action, retargeted(joints, table)))
    return found


def answers_of(model: ExportedModel, clips: list[np.ndarray], kind: str) -> list[Answer]:
    with progress_bar(len(clips), 0, kind, "clip") as bar:
        found = []
        for joints in clips:
            found.append(model.answer(joints))
            bar.update()
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------------------------------------------------

def judged(model: ExportedModel, known: list[Answer], strangers: dict[str, list[Answer]]) -> dict:
    """{kept, threshold, strangers: {kind: {clips, auroc, declined, declined_at_95, auroc_probability}}} in percent."""
    alike = likeness(known)
    at_95 = np.percentile(alike, KEEP)
    kinds = {}
    for kind, answers in strangers.items():
        theirs = likeness(answers)
        kinds[kind] = {
            "clips": len(answers),
            "auroc": round(auroc(alike, theirs), 4),
            "declined": percent(theirs < model.threshold),
            "declined_at_95": percent(theirs < at_95),
            "auroc_probability": round(auroc(largest(known), largest(answers)), 4),
        }
    return {"kept": percent(alike >= model.threshold), "threshold": model.threshold, "strangers": kinds}


def likeness(answers: list[Answer]) -> np.ndarray:
    return np.array([answer.likeness for answer in answers])


def largest(answers: list[Answer]) -> np.ndarray:
    return np.array([answer.probabilities.max() for answer in answers])


def percent(marks: np.ndarray) -> float:
    return round(100 * float(marks.mean()), 2)


def auroc(known: np.ndarray, strangers: np.ndarray) -> float:
    """How often a known clip (N,) has the larger value than a stranger (K,), ties counting half."""
    below = np.searchsorted(np.sort(strangers), known, "left")
    up_to = np.searchsorted(np.sort(strangers), known, "right")
    return float((below + up_to).mean() / 2 / len(strangers))


# ---------------------------------------------------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------------------------------------------------

def write(options: Options, model: ExportedModel, cfg: Config, recipe: list[str], line: dict) -> None:
    """Print the figures; write them beside those of other sets of unknown classes."""
    recipe_name = model.about.get("recipe", "own")
    kinds = ", ".join(f"{kind} {found['declined']:.0f} % (AUROC {found['auroc']:.3f})"
                      for kind, found in line["strangers"].items())
    print(f"{recipe_name}: {line['kept']:.1f} % of {line['clips']} known clips kept; declined: {kinds}")
    if not options.results or cfg.data.split == "all" or cfg.data.name == "synthetic":
        return

    # in the place of an earlier line of the same classes and seed
    path = options.results / f"decline-{recipe_name}--{cfg.data.name}-{cfg.data.split}.json"
    lines = read_result(path, "runs")["runs"] if path.exists() else []
    lines = [old for old in lines if (old["seed"], old["unknown"]) != (line["seed"], line["unknown"])]
    words = [word for word in recipe if not word.startswith(("data.store=", "data.unknown="))]
    given = [*words, f"others={options.others}"] if options.others else words
    command = " ".join(["just decline model=exports/.../model.onnx", *given, "data.unknown=..."])
    write_json(path, {"recipe": recipe_name, "dataset": cfg.data.name, "split": cfg.data.split, "command": command,
                      "runs": sorted([*lines, line], key=lambda run: (run["seed"], run["unknown"]))})


if __name__ == "__main__":
    run(main, Options, recipe=True, interrupted="interrupted: nothing was written")
