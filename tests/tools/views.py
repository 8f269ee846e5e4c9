"""The study behind the view's defaults: which streams, and how much damage in training, hold best on what cameras see.

Variants change the words of a recipe; scaled, smoothed and gated change how velocities enter (stream_forms.py); late
averages the probabilities of two networks, the default and one of velocities alone.

    python -m tests.tools.views                                   every variant, into results/wild-study.json
    python -m tests.tools.views variants=default,half sets=utd    some of them, in this order
    python -m tests.tools.views work=FOLDER                       FOLDER keeps stores and runs

LAST-Lite nano, trained by each data set's recipe (Northwestern-UCLA: 40 epochs) on one half of its training people and
judged on the other, clean and under the changes of `just wild`: UTD-MHAD's persons 1, 3 and 5, 7, Northwestern-UCLA's
cameras 1 and 2, SBU's setups 2, 3 and 4, 5. Every second seed is trained on the other half; the test sides take no
part. Several such commands may run side by side, each with sets of its own; a finished training is not repeated, and
one command for all of them at the end collects the figures. Needs the recordings (LAST_TEST_DATA, or ../shared/data).
"""
from __future__ import annotations

import tarfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np

from phases import p1_train, wild
from phases.common.command import run
from phases.common.files import ROOT, read_json, write_json
from phases.recordings.wild import CLEAN
from phases.training.changed_clips import answers_by_row, judge
from phases.training.recipe import load_config
from phases.training.run_folder import commit
from phases.training.settings import View
from tests.tools.small_sets import DATA, program, toml
from tests.tools.stream_forms import FORMS, streams_as

NETWORK = "lite_nano"
FOLDS = {  # data set: field, and its values on either side
    "utd_mhad": ("subject", [1, 3], [5, 7]),
    "nw_ucla": ("camera", [1], [2]),
    "sbu": ("setup", [2, 3], [4, 5])}
RAW = {"utd_mhad": "utd-mhad.npz", "nw_ucla": "nw-ucla.tar.xz", "sbu": "sbu.tar.xz"}
SCHEDULES = {"nw_ucla": ["train.epochs=40"]}  # of its recipe's 160


def damage(share: float) -> list[str]:
    """The words of a recipe whose training clips have a share of the default damage."""
    default = View()
    return [f"view.{key}={share * getattr(default, key):g}" for key in ("missing", "noise", "spikes", "idle")]


FOUR = "model.streams=joint,bone,velocity,bone_velocity"
VELOCITIES, LATE = "velocities", "late"
VARIANTS = {  # name: words that change a recipe
    "default": [],
    "undamaged": damage(0),
    "half": damage(0.5),
    "double": damage(2),
    "joint": ["model.streams=joint"],
    "four_streams": [FOUR],
    **dict.fromkeys(FORMS, [FOUR]),
    VELOCITIES: ["model.streams=velocity,bone_velocity"],
    LATE: [],
    "pair": ["model.variant=pair"],
    "small": ["model.variant=small"],
    "without_missing": ["view.missing=0"],
    "without_noise": ["view.noise=0"],
    "without_spikes": ["view.spikes=0"],
    "without_idle": ["view.idle=0"],
    "tempo": ["view.tempo=0.5"],
    "standing_ends": ["view.still=0"],
    "uniform": ["view.sampling=uniform"]}


@dataclass(frozen=True)
class Options:
    variants: Annotated[tuple[str, ...], VARIANTS, "in this order"] = tuple(VARIANTS)
    sets: Annotated[tuple[str, ...], FOLDS, "of recordings"] = tuple(FOLDS)
    seeds: Annotated[tuple[int, ...], (0, 1000), "a training each; an odd one on the other half"] = (0, 1, 2)
    epochs: Annotated[int, (0, 100_000), "of every training, to try the command; 0: as the recipe has it"] = 0
    work: Annotated[Path, "keeps stores and runs"] = Path("runs/views")
    out: Annotated[Path, "the results"] = ROOT / "results" / "wild-study.json"


def store_of(name: str, work: Path) -> Path:
    """The clip store of a data set, with a protocol for each half."""
    store = work / "stores" / name
    if not (store / "meta.json").exists():
        raw = DATA / RAW[name]
        if name == "sbu":  # a folder of clips, packed to travel
            with tarfile.open(raw) as tar:
                tar.extractall(work / "raw", filter="data")
            raw = work / "raw" / name

        field, one, other = FOLDS[name]
        rules = [{"field": field, "train": one, "test": other}, {"field": field, "train": other, "test": one}]
        words = [f"data.protocols.half{k}={toml(rule)}" for k, rule in enumerate(rules)]
        program("p0_preprocess", f"recipe={name}", f"raw={raw}", f"data.store={store}", *words)
    return store


def judged(name: str, variant: str, seed: int, options: Options, work: Path) -> dict:
    """The row of one training, or of a pair of them: the words that changed it, and its figures under each change."""
    if variant == LATE:
        words = [training(name, part, seed, options, work) for part in ("default", VELOCITIES)]
        figures = together([wild.finished_run(wild.Options(results=None), part) for part in words])
    else:
        words = training(name, variant, seed, options, work)
        run_folder = load_config(words).run
        if not (run_folder / "wild.json").exists():
            with streams_as(variant):
                wild.main(wild.Options(results=None), words)
        figures = read_json(run_folder / "wild.json")
    return {"data": name, "variant": variant, "seed": seed, "half": seed % 2, "words": VARIANTS[variant],
            **{key: figures[key] for key in ("clips", "device", "commit", "mean_of", "mean", "top1")}}


def training(name: str, variant: str, seed: int, options: Options, work: Path) -> list[str]:
    """Train a variant, unless that is done; the words of its run."""
    schedule = [f"train.epochs={options.epochs}"] if options.epochs else SCHEDULES.get(name, [])
    words = [f"recipe={NETWORK}", f"data={name}", f"data.store={store_of(name, work)}", f"data.split=half{seed % 2}",
             *schedule, *VARIANTS[variant], f"seed={seed}", f"out={work / variant}"]
    with streams_as(variant):
        p1_train.main(words)
    return words


def together(networks: list[wild.Subject]) -> dict:
    """The figures of the mean probability of networks that were tested on the same clips."""
    def answers(clips: list[np.ndarray]) -> np.ndarray:
        return np.mean([network.answers(clips) for network in networks], axis=0)

    one = networks[0]
    by_row = answers_by_row(answers, one.store, one.test, wild.possible_rows(one))
    figures = judge(by_row, one.store.clips["label"][one.test], one.cfg.data.leaked)
    return {"clips": len(one.test), "device": one.device, "commit": commit(), **figures}


def main(options: Options) -> None:
    if not DATA.is_dir():
        raise ValueError(f"{DATA}: no such folder; LAST_TEST_DATA names the recordings")
    work = (ROOT / options.work).absolute()
    work.mkdir(parents=True, exist_ok=True)

    for variant, seed, name in product(options.variants, options.seeds, options.sets):
        row = judged(name, variant, seed, options, work)

        # the report is written after each training; others may have added to it
        rows = read_json(options.out)["runs"] if options.out.exists() else []
        rows = [old for old in rows if not same_training(old, row)] + [row]
        write_json(options.out, {"command": "python -m tests.tools.views", "network": NETWORK, "runs": rows})
        print(f"{variant} {name}, seed {seed}: clean {row['top1'][CLEAN]:.1f}, mean of the {row['mean_of']} "
              f"{row['mean']:.1f}", flush=True)


def same_training(a: dict, b: dict) -> bool:
    return all(a[key] == b[key] for key in ("data", "variant", "seed"))


if __name__ == "__main__":
    run(main, Options)
