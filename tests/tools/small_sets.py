"""The study behind `just adopt`: which schedule and view suit 100 to 1,000 clips. A finished training is not repeated.

    python -m tests.tools.small_sets                              every variant, into results/small-sets.json
    python -m tests.tools.small_sets variants=adopt,half          some of them, in this order
    python -m tests.tools.small_sets sets=utd,irds work=FOLDER    FOLDER keeps stores and runs

LAST-Lite nano with the recipe that adopt writes, cross-validated: UTD-MHAD's persons 1, 3, 5, 7 in two halves,
IRDS by each of three persons, Northwestern-UCLA's camera 1 against camera 2 and back; `rare` is UTD-MHAD with two
training clips, not eight, of every second class. The test sides of UTD-MHAD and Northwestern-UCLA take no part. Needs
the recordings (LAST_TEST_DATA, or ../shared/data).
"""
from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from phases.common.command import run
from phases.common.files import ROOT, atomic, write_json
from phases.common.protocols import NW_UCLA_CLASSES
from phases.recordings.nw_ucla import read_nw_ucla
from phases.recordings.proposal import BATCH, STEPS, propose, recipe_text
from phases.recordings.settings import Data
from phases.recordings.survey import look

DATA = Path(os.environ.get("LAST_TEST_DATA") or ROOT.parent / "shared/data")
OUT = ROOT / "results" / "small-sets.json"
FOLDS = {  # set: rules that make a person or a camera test
    "utd": [{"field": "subject", "train": [1, 3], "test": [5, 7]},
            {"field": "subject", "train": [5, 7], "test": [1, 3]}],
    "irds": [{"field": "subject", "train": [216, 217], "test": [215]},
             {"field": "subject", "train": [215, 217], "test": [216]},
             {"field": "subject", "train": [215, 216], "test": [217]}],
    "ucla": [{"field": "camera", "train": [1], "test": [2]},
             {"field": "camera", "train": [2], "test": [1]}],
    "rare": [{"field": "subject", "train": [1, 3], "test": [5, 7]}]}
VARIANTS = {  # name: (share of adopt's steps, words that change its recipe)
    "adopt": (1.0, []),
    "half": (0.5, []),
    "double": (2.0, []),
    "half_mirrored": (0.5, ["view.flip=0.5"]),
    "half_swa": (0.5, ["train.average=swa", "train.swa_start=0.7"]),
    "half_mix": (0.5, ["view.mix=0.5"]),
    "half_balanced": (0.5, ["train.balanced=true"]),
    "half_batch32": (0.5, ["train.batch=32"]),
    "half_turned": (0.5, ["view.heading=true"]),
    "half_smooth": (0.5, ["view.smooth=1.0"]),
    "half_plain_view": (0.5, ["view.trunk_scale=false", "view.heading=false", "view.window=1.0", "view.flip=0"])}


@dataclass(frozen=True)
class Options:
    variants: Annotated[tuple[str, ...], VARIANTS, "in this order"] = tuple(VARIANTS)
    sets: Annotated[tuple[str, ...], FOLDS, "of recordings"] = tuple(FOLDS)
    work: Annotated[Path, "keeps stores and runs"] = Path("runs/small-sets")


# ---------------------------------------------------------------------------------------------------------------------
# The sets
# ---------------------------------------------------------------------------------------------------------------------

def recordings(name: str, work: Path) -> Path:
    """The packed array of a set; Northwestern-UCLA and the rare classes are packed first."""
    if name in ("utd", "irds"):
        return DATA / {"utd": "utd-mhad.npz", "irds": "irds.npz"}[name]
    path = work / f"{name}.npz"
    if not path.exists():
        {"rare": pack_rare, "ucla": pack_ucla}[name](path)
    return path


def pack(path: Path, **arrays) -> None:
    with atomic(path) as part, open(part, "wb") as f:
        np.savez(f, **arrays)


def pack_rare(path: Path) -> None:
    """UTD-MHAD's persons 1, 3, 5, 7; of every second class a quarter of the clips of persons 1 and 3."""
    shutil.copy(DATA / "utd-mhad.json", path.with_suffix(".json"))
    with np.load(DATA / "utd-mhad.npz") as z:
        utd = dict(z)

    # which clips
    keep = np.isin(utd["subject"], [5, 7])
    for k in np.unique(utd["labels"]):
        own = np.flatnonzero((utd["labels"] == k) & np.isin(utd["subject"], [1, 3]))
        keep[own[::4] if k % 2 else own] = True

    # their rows
    first = utd["offsets"]
    rows = np.concatenate([np.arange(first[i], first[i + 1]) for i in np.flatnonzero(keep)])
    pack(path, data=utd["data"][rows], offsets=np.cumsum([0, *np.diff(first)[keep]]),
         **{key: utd[key][keep] for key in ("names", "labels", "subject")})


def pack_ucla(path: Path) -> None:
    """Northwestern-UCLA's cameras 1 and 2."""
    data = Data(name="nw_ucla", reader="nw_ucla", skeleton="kinect20", num_classes=10)
    clips = [clip for clip in read_nw_ucla(DATA / "nw-ucla.tar.xz", data) if clip.camera < 3]
    path.with_suffix(".json").write_text(json.dumps({"skeleton": "kinect20", "classes": NW_UCLA_CLASSES}))

    # one body each, one after another
    lengths = [clip.joints.shape[1] for clip in clips]
    pack(path, data=np.concatenate([clip.joints[0] for clip in clips]), offsets=np.cumsum([0, *lengths]),
         names=[clip.name for clip in clips], labels=[clip.label for clip in clips],
         subject=[clip.subject for clip in clips], camera=[clip.camera for clip in clips])


def program(name: str, *words: str) -> int:
    """The exit code of one of the programs."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", f"phases.{name}", *words], check=False, env=env).returncode


def adopted(name: str, work: Path) -> Path:
    """The recipe that adopt writes for a set, and its store with a protocol for each fold."""
    raw = recordings(name, work)
    recipe = work / f"{name}.toml"
    store = work / "stores" / name
    if not (store / "meta.json").exists():
        survey = look(raw)
        recipe.write_text(recipe_text(name, raw, survey, propose(survey)))
        folds = [f"data.protocols.fold{k}={toml(rule)}" for k, rule in enumerate(FOLDS[name])]
        program("p0_preprocess", f"recipe={recipe}", f"data.store={store}", *folds)
    return recipe


def toml(rule: dict) -> str:
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in rule.items()) + " }"


# ---------------------------------------------------------------------------------------------------------------------
# Trainings
# ---------------------------------------------------------------------------------------------------------------------

def trained(name: str, fold: int, variant: str, recipe: Path, work: Path) -> dict:
    """The result of one training: its commit, device and top-1 on the fold's other side."""
    share, words = VARIANTS[variant]
    store = work / "stores" / name

    # a share of adopt's steps, whatever the batch
    rule = FOLDS[name][fold]
    with np.load(store / "clips.npz") as clips:
        number = int(np.isin(clips[rule["field"]], rule["train"]).sum())
    batch = BATCH
    for word in words:
        if word.startswith("train.batch="):
            batch = int(word.removeprefix("train.batch="))
    steps = math.ceil(number / batch)  # per epoch
    epochs = max(1, round(share * STEPS * BATCH / batch / steps))

    # a finished training is not repeated
    folder = work / variant / "lite_nano" / f"{name}-fold{fold}" / "seed0"
    if not (folder / "result.json").exists():
        code = program("p1_train", f"recipe={ROOT / 'recipes/lite_nano.toml'}", f"data={recipe}", f"data.store={store}",
                       f"data.split=fold{fold}", f"train.epochs={epochs}", *words, f"out={work / variant}")
        if code:
            raise ValueError(f"{variant} {name} fold {fold}: phase 1 ended with exit code {code}")

    result = json.loads((folder / "result.json").read_text())
    return {"set": name, "fold": fold, "variant": variant, "clips": number, "steps": epochs * steps, "changed": words,
            **{key: result[key] for key in ("top1", "commit", "device", "seed")}}


def same_training(a: dict, b: dict) -> bool:
    return all(a[key] == b[key] for key in ("set", "fold", "variant"))


def main(options: Options) -> None:
    if not DATA.is_dir():
        raise ValueError(f"{DATA}: no such folder; LAST_TEST_DATA names the recordings")
    work = (ROOT / options.work).absolute()
    work.mkdir(parents=True, exist_ok=True)

    # the report is written after each training
    rows = json.loads(OUT.read_text())["trainings"] if OUT.exists() else []
    for variant in options.variants:
        for name in options.sets:
            recipe = adopted(name, work)
            for fold in range(len(FOLDS[name])):
                row = trained(name, fold, variant, recipe, work)
                rows = [old for old in rows if not same_training(old, row)] + [row]
                write_json(OUT, {"command": "python -m tests.tools.small_sets", "network": "lite_nano",
                                 "trainings": rows})
                print(f"{variant} {name} fold {fold}: {row['steps']} steps, {row['top1']:.1f}", flush=True)


if __name__ == "__main__":
    run(main, Options)
