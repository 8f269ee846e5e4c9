"""The study behind `just adopt`: which schedule, view and start suit few clips. A finished training is not repeated.

    python -m tests.tools.small_sets                              every schedule and view, into results/small-sets.json
    python -m tests.tools.small_sets variants=adopt,half          some of them, in this order
    python -m tests.tools.small_sets sets=utd,irds work=FOLDER    FOLDER keeps stores and runs
    python -m tests.tools.small_sets init=runs/without_{set}/final.pt name=any variants=adopt,trunk_30,trunk_10 \\
        sets=utd,ucla labels=0.1,0.3,1                            rates of a start, chosen on training people alone
    python -m tests.tools.small_sets init=runs/without_{set}/final.pt name=any variants=adopt,started \\
        sets=utd_test,ucla_test labels=0.1,0.3,1 seeds=0,1,2      what the start gains on the test side

LAST-Lite with the recipe that adopt writes, cross-validated: UTD-MHAD's persons 1, 3, 5, 7 in two halves, IRDS by each
of three persons, Northwestern-UCLA's camera 1 against camera 2 and back; `rare` is UTD-MHAD with two training clips,
not eight, of every second class. The test sides of UTD-MHAD and Northwestern-UCLA take part in `utd_test` and
`ucla_test` alone. Needs the recordings (LAST_TEST_DATA, or ../shared/data).

A start (init) is a checkpoint that has not seen the set: {set} in its name stands for nw_ucla, utd_mhad or irds. The
variants STARTS begin with it, all others at random. `started` has the rates of recipes/finetune.toml. With a share of
the labels a training has the steps that adopt gives to so many clips. One process; interrupt it at any moment, the same
command continues. At the end it prints what each variant gained.
"""
from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np

from phases import probe
from phases.common.command import run
from phases.common.files import NETWORKS, ROOT, atomic, read_json, write_json
from phases.common.protocols import NW_UCLA_CLASSES
from phases.common.recipes import read_recipe
from phases.recordings.nw_ucla import read_nw_ucla
from phases.recordings.proposal import BATCH, EPOCHS, STEPS, propose, recipe_text
from phases.recordings.settings import Data
from phases.recordings.starts import STARTED, gains
from phases.recordings.survey import look
from phases.training.clip_store import labelled
from phases.training.transfer import read_old_run

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
    "rare": [{"field": "subject", "train": [1, 3], "test": [5, 7]}],
    "utd_test": [{"field": "subject", "train": [1, 3, 5, 7], "test": [2, 4, 6, 8]}],
    "ucla_test": [{"field": "camera", "train": [1, 2], "test": [3]}]}
ORIGIN = {"utd": "utd_mhad", "rare": "utd_mhad", "utd_test": "utd_mhad", "irds": "irds", "ucla": "nw_ucla",
          "ucla_test": "nw_ucla"}  # the data set of each
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
STARTS = {  # the same of variants that begin with init
    STARTED: (1.0, ["finetune"]),
    "same_rate": (1.0, []),
    "trunk_30": (1.0, ["train.trunk_lr=0.3"]),
    "trunk_10": (1.0, ["train.trunk_lr=0.1"]),
    "trunk_0": (1.0, ["train.trunk_lr=0"]),
    "slow": (1.0, ["train.lr=0.03", "train.warmup_lr=0.003"]),
    "slow_trunk_30": (1.0, ["train.lr=0.03", "train.warmup_lr=0.003", "train.trunk_lr=0.3"]),
    "head_first": (1.0, ["train.head_epochs={tenth}"]),
    "head_first_trunk_30": (1.0, ["train.head_epochs={tenth}", "train.trunk_lr=0.3"]),
    "half_trunk_30": (0.5, ["train.trunk_lr=0.3"]),
    "quarter_trunk_30": (0.25, ["train.trunk_lr=0.3"])}


@dataclass(frozen=True)
class Options:
    variants: Annotated[tuple[str, ...], (*VARIANTS, *STARTS), "in this order"] = tuple(VARIANTS)
    sets: Annotated[tuple[str, ...], FOLDS, "of recordings"] = ("utd", "irds", "ucla", "rare")
    folds: Annotated[tuple[int, ...], (0, 2), "of each set; without it, all"] = ()
    labels: Annotated[tuple[float, ...], (0.001, 1), "shares of each class's training clips"] = (1.0,)
    seeds: Annotated[tuple[int, ...], (0, 1000), "a training each"] = (0,)
    network: Annotated[str, ("lite_nano", "lite_pair", "lite_small"), "which is trained"] = "lite_nano"
    init: Annotated[str, "a checkpoint, or the name of a network in results/networks; {set}: see above"] = ""
    name: Annotated[str, "of that start in the results; without it, the checkpoint's"] = ""
    epochs: Annotated[int, (0, 100_000), "of every training, to try the command; 0: as adopt has it"] = 0
    work: Annotated[Path, "keeps stores and runs"] = Path("runs/small-sets")
    out: Annotated[Path, "the results"] = OUT

    def __post_init__(self):
        begin = [variant for variant in self.variants if variant in STARTS]
        if begin and not self.init:
            raise ValueError(f"variants = {begin[0]!r}: begins with a network; give init=")


# ---------------------------------------------------------------------------------------------------------------------
# The sets
# ---------------------------------------------------------------------------------------------------------------------

def recordings(name: str, work: Path) -> Path:
    """The packed array of a set; Northwestern-UCLA and the rare classes are packed first."""
    if name in ("utd", "utd_test", "irds"):
        return DATA / f"{ORIGIN[name].replace('_', '-')}.npz"
    path = work / f"{name}.npz"
    if not path.exists() and name == "rare":
        pack_rare(path)
    elif not path.exists():
        pack_ucla(path, cameras=3 if name == "ucla_test" else 2)
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


def pack_ucla(path: Path, cameras: int) -> None:
    """Northwestern-UCLA's first cameras."""
    data = Data(name="nw_ucla", reader="nw_ucla", skeleton="kinect20", num_classes=10)
    clips = [clip for clip in read_nw_ucla(DATA / "nw-ucla.tar.xz", data) if clip.camera <= cameras]
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

@dataclass(frozen=True)
class Training:
    """One training of the study."""
    set: str
    fold: int
    variant: str
    labels: float
    seed: int
    network: str
    init: str                   # the start's name; empty: at random

    @property
    def folder(self) -> Path:
        """Of its run, below the folder of all: a start and a share of the labels have folders of their own."""
        return Path(self.init or "scratch") / self.variant / f"labels-{self.labels:g}"


def start_of(options: Options, name: str) -> Path | None:
    """The checkpoint to start a set's trainings from; ValueError if it has seen the set."""
    if not options.init:
        return None
    path = Path(options.init.replace("{set}", ORIGIN[name]))
    if "/" not in options.init and (NETWORKS / f"{path}.pt").is_file():
        path = NETWORKS / f"{path}.pt"

    # of one data set, or of a pool, whose classes have names such as "nw_ucla: throw"
    old = read_old_run(path)
    seen = {old.recipe.get("data", {}).get("name")} | {known.partition(": ")[0] for known in old.taught}
    if ORIGIN[name] in seen:
        raise ValueError(f"init = {path}: has seen {ORIGIN[name]}, so what it gains on {name} says nothing; give one "
                         "that was trained without it")
    return path.absolute()


def schedule(training: Training, store: Path, epochs: int) -> tuple[int, int, int, list[str]]:
    """(training clips, epochs, steps, words) of a training: a share of the steps that adopt gives to so many clips."""
    share, words = (VARIANTS | STARTS)[training.variant]

    # the clips that keep their labels
    rule = FOLDS[training.set][training.fold]
    with np.load(store / "clips.npz") as clips:
        own = np.flatnonzero(np.isin(clips[rule["field"]], rule["train"]))
        number = len(labelled(own, clips["label"], training.labels, training.seed))

    # a share of adopt's steps, whatever the batch
    batch = BATCH
    for word in words:
        if word.startswith("train.batch="):
            batch = int(word.removeprefix("train.batch="))
    per_epoch = math.ceil(number / batch)
    adopts = min(EPOCHS[1], max(EPOCHS[0], round(STEPS * BATCH / batch / per_epoch)))
    epochs = epochs or max(1, round(share * adopts))

    # the rates of the recipe finetune, and a tenth of the epochs
    if words == ["finetune"]:
        words = [f"train.{key}={json.dumps(value)}" for key, value in read_recipe("finetune")[1]["train"].items()]
    words = [word.replace("{tenth}", str(math.ceil(epochs / 10))) for word in words]
    return number, epochs, epochs * per_epoch, words


def trained(training: Training, start: Path | None, recipe: Path, options: Options, work: Path) -> dict:
    """The row of one training: its commit, device and top-1 on the fold's other side."""
    store = work / "stores" / training.set
    number, epochs, steps, words = schedule(training, store, options.epochs)

    # `just probe` trains on a share of the labels; a finished training is not repeated
    out = work / training.folder
    folder = out / training.network / f"{training.set}-fold{training.fold}" / f"seed{training.seed}"
    if training.set == "ucla_test":
        words = [*words, "data.leaked=[1,2]"]  # copies of training clips
    argv = [f"recipe={ROOT / 'recipes' / training.network}.toml", f"data={recipe}", f"data.store={store}",
            f"data.split=fold{training.fold}", f"train.epochs={epochs}", f"seed={training.seed}", "probe.frozen=false",
            f"probe.labels={training.labels}", *words, *([f"init={start}"] if training.init else []), f"out={out}"]
    probe.main(argv)

    result = read_json(folder / "result.json")
    return {**asdict(training), "clips": number, "steps": steps, "changed": words,
            **{key: result[key] for key in ("top1", "top1_clean", "seconds", "commit", "device") if key in result}}


def same_training(a: dict, b: dict) -> bool:
    """Rows of the first study lack some keys."""
    before = {"labels": 1.0, "init": "", "network": "lite_nano"}
    return all((before | a)[field.name] == (before | b)[field.name] for field in fields(Training))


def asked(options: Options) -> list[Training]:
    """The trainings of a command line, by variant."""
    name = options.name or Path(options.init).stem
    found = []
    for variant, set_name, labels, seed in product(options.variants, options.sets, options.labels, options.seeds):
        for fold in options.folds or range(len(FOLDS[set_name])):
            if fold < len(FOLDS[set_name]):
                init = name if variant in STARTS else ""
                found.append(Training(set_name, fold, variant, labels, seed, options.network, init))
    return found


def main(options: Options) -> None:
    if not DATA.is_dir():
        raise ValueError(f"{DATA}: no such folder; LAST_TEST_DATA names the recordings")
    work = (ROOT / options.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    starts = {name: start_of(options, name) for name in options.sets}

    # the report is written after each training
    rows = read_json(options.out)["trainings"] if options.out.exists() else []
    for training in asked(options):
        row = trained(training, starts[training.set], adopted(training.set, work), options, work)
        rows = [old for old in rows if not same_training(old, row)] + [row]
        write_json(options.out, {"command": "python -m tests.tools.small_sets", "network": "lite_nano",
                                 "trainings": rows})
        print(f"{training.variant} {training.set} fold {training.fold}, {row['clips']} clips, seed {training.seed}: "
              f"{row['steps']} steps, {row['top1']:.1f}", flush=True)
    print_gains(rows, options)


def print_gains(rows: list[dict], options: Options) -> None:
    """A line for each variant that begins with a network, and each size: points of top-1 over a random start."""
    for variant in options.variants:
        for gain in gains(rows, options.name or Path(options.init).stem, variant, options.network):
            points = ", ".join(f"{x:+.1f}" for x in gain.points)
            print(f"{variant} {gain.set}, {gain.clips} clips: {gain.mean:+.1f} ({points})")


if __name__ == "__main__":
    run(main, Options)
