"""How a network holds on what cameras deliver: its accuracy on the test clips as recorded, and under 19 changes.

    just wild recipe=lite_nano data=utd_mhad                    a finished run, with the words that its training had
    just wild recipe=lite_nano data=utd_mhad seeds=0,1,2        three runs of one recipe, one after another
    just wild model=exports/utd_mhad/lite_nano/model.int8.onnx data=utd_mhad         an exported file
    just wild recipe=lite_nano data=utd_mhad name=before        under a label of its own

Joints go missing, frames show no body, sensors shake, people stand about, bodies turn (phases/recordings/wild.py lists
the rows). Only test clips change, before the network's own view of them, and each clip in the same way for every
network. The mean of the 20 is that of the clean clips and 19 changes; further ones are shown apart. What a data set
cannot show is left out: clips without depth are not turned. Confidence is the mean probability of the answer given, ece
the expected calibration error.

In:  runs/<recipe>/<dataset>-<split>/seed<k>/final.pt or a file of phase 4; the clip store of the data set.
Out: results/wild-<network>--<dataset>-<split>.json, an entry per seed, which replaces an earlier one of the seed.
     <network> is the recipe, with the form of an exported file (lite_nano-int8) and the label (lite_nano-before).
     A run's own figures are in its folder as well, wild.json, and `just report` shows its worst rows.
     With data.split=all, of clips that a network has seen, figures are printed and no result is written.
Exit codes: 0 done, 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from phases.common.command import run
from phases.common.files import write_json
from phases.recordings.wild import CLEAN, COUNTED, Row, is_flat, rows_for
from phases.reporting.measured import command_of_row, read_result
from phases.shipping.exported import ExportedModel, model_file
from phases.training.changed_clips import Answers, answers_by_row, judge, network_answers
from phases.training.clip_store import ClipStore, open_store, splits
from phases.training.networks import check_leakage, load_run
from phases.training.recipe import Config, load_config
from phases.training.run_folder import commit, device_name, read_scores
from phases.training.view import rest_of

WORST = 3   # rows that are printed


@dataclass(frozen=True)
class Options:
    model: Annotated[str, "an exported file, in place of a run"] = ""
    name: Annotated[str, "a label of the result, such as before"] = ""
    seeds: Annotated[tuple[int, ...], (0, 2**31 - 1), "one run each; without it, the run of seed="] = ()
    results: Annotated[Path | None, "the folder of result files; empty: write none"] = Path("results")

    def __post_init__(self):
        if not re.fullmatch(r"\w*", self.name):
            raise ValueError(f"name = {self.name!r}: is part of a file's name: give letters, digits and _")
        if self.model and self.seeds:
            raise ValueError("seeds: an exported file has one seed; give model= alone")


@dataclass(frozen=True)
class Subject:
    """A network, and the clips that it is judged on."""
    entry: dict             # of its result: recipe, form, label, dataset, split, command, trained
    seed: int
    cfg: Config
    store: ClipStore
    test: np.ndarray        # clip numbers
    answers: Answers
    device: str
    folder: Path | None     # of the run


def main(options: Options, recipe: list[str]) -> None:
    revision = commit()
    for subject in subjects(options, recipe):
        # the result that it becomes part of; another command's is refused before the work
        path = result_path(options, subject)
        entry = earlier_entry(path, subject)

        rows = possible_rows(subject)
        by_row = answers_by_row(subject.answers, subject.store, subject.test, rows)
        figures = judge(by_row, subject.store.clips["label"][subject.test], subject.cfg.data.leaked)

        line = {"seed": subject.seed, "clips": len(subject.test), "device": subject.device, "commit": revision}
        write(subject, path, entry, line | figures)
        announce(subject, path, figures)


def possible_rows(subject: Subject) -> list[Row]:
    """The rows that a data set can have; standard error names the others."""
    rows, left_out = rows_for(subject.store.skeleton, flat=is_flat(subject.store.frames))
    if left_out:
        names = ", ".join(row.name for row in left_out)
        print(f"{subject.cfg.store}: its joints cannot show {names}: left out", file=sys.stderr)
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# Networks
# ---------------------------------------------------------------------------------------------------------------------

def subjects(options: Options, recipe: list[str]) -> Iterator[Subject]:
    """The networks that a command line names, each opened when it is its turn."""
    named = [word.partition("=")[0] for word in recipe]
    if options.model:
        if "recipe" in named or "data" not in named:
            raise ValueError("give model=FILE data=DATASET, or the recipe= of a finished run")
        yield exported_file(options, recipe)
        return

    # runs; the words of each are those of its training
    if options.seeds and "seed" in named:
        raise ValueError("seed, seeds: give one of them")
    for seed in options.seeds or (None,):
        yield finished_run(options, recipe if seed is None else [*recipe, f"seed={seed}"])


def finished_run(options: Options, recipe: list[str]) -> Subject:
    """The network of a finished run; ValueError if there is none, or if its store has changed since."""
    asked = load_config(recipe)
    if not (asked.run / "final.pt").is_file():
        raise ValueError(f"no finished run in {asked.run} (it lacks final.pt): train it first, or give the out=, "
                         "data= and seed= it was made with")

    # the run's own recipe, with its files where the command line says
    device = asked.torch_device
    network, trained, skeleton, classes = load_run(asked.run, device)
    cfg = dataclasses.replace(trained, out=asked.out, data=dataclasses.replace(trained.data, store=asked.data.store))

    # the clips that it was tested on
    store = open_store(cfg)
    train, _, test = splits(store, cfg)
    rest = rest_of(store, train)
    if classes != store.classes or sorted(read_scores(cfg.run)[0]) != sorted(store.clips["name"][test].tolist()):
        raise ValueError(f"{cfg.store} holds other classes or test clips than {cfg.run} was tested on: train again, "
                         "with another out= or seed=")

    def answers(clips: list[np.ndarray]) -> np.ndarray:
        return network_answers(network, cfg, skeleton, rest, clips, device)

    entry = new_entry(options, cfg, cfg.run_name, "", recipe)
    entry["trained"] = command_of_row(read_result(cfg.run / "result.json", "command")["command"])
    return Subject(entry, cfg.seed, cfg, store, test, answers, device_name(device), cfg.run)


def exported_file(options: Options, recipe: list[str]) -> Subject:
    """The network of an exported file; ValueError if it is of other classes or joints, or may have seen these clips."""
    path = model_file(options.model)
    model = ExportedModel(path)
    about = {"form": "fp32"} | model.about
    missing = [key for key in ("recipe", "seed", "dataset", "split") if key not in about]
    if missing:
        raise ValueError(f"model = {path}: lacks {', '.join(missing)} in its metadata: export it again")

    # the test clips of the data set; of the recipe the data set alone matters
    cfg = load_config(["recipe=lite_small", *recipe])
    check_leakage({"data": {"name": about["dataset"], "split": about["split"]}}, cfg, str(path))
    store = open_store(cfg)
    test = splits(store, cfg)[2]
    if model.classes != store.classes or tuple(model.skeleton["joints"]) != store.skeleton.joints:
        raise ValueError(f"model = {path}: knows other classes or joints ({len(model.classes)}, "
                         f"{model.skeleton['name']}) than {cfg.store} has ({len(store.classes)}, "
                         f"{store.skeleton.name}): give the data= that it was trained on")

    def answers(clips: list[np.ndarray]) -> np.ndarray:
        return np.stack([model(joints) for joints in clips])

    # the command has the file's place on no machine
    file = path.name if path.is_absolute() else path
    entry = new_entry(options, cfg, about["recipe"], about["form"], [f"model={file}", *recipe])
    torch.set_num_threads(1)  # as ONNX Runtime has; the device's name tells it
    device = device_name(torch.device("cpu"))
    return Subject(entry, int(about["seed"]), cfg, store, test, answers, device, None)


def new_entry(options: Options, cfg: Config, network: str, form: str, given: list[str]) -> dict:
    """An entry without runs. given: the words of the command line that name network and data set."""
    label = [f"name={options.name}"] if options.name else []
    command = command_of_row(" ".join(["just wild", *given, *label]))
    command = command.removesuffix(" seed=...") if form else command  # a file has its own
    return {"recipe": network, "form": form, "label": options.name, "dataset": cfg.data.name,
            "split": cfg.data.split, "command": command, "trained": ""}


# ---------------------------------------------------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------------------------------------------------

def result_path(options: Options, subject: Subject) -> Path | None:
    """The file of the result; None for a demonstration, and for a network that was tested on its training clips."""
    entry = subject.entry
    if not options.results or entry["split"] == "all" or entry["dataset"] == "synthetic":
        return None
    network = "-".join(filter(None, (entry["recipe"], entry["form"], entry["label"])))
    return options.results / f"wild-{network}--{entry['dataset']}-{entry['split']}.json"


def earlier_entry(path: Path | None, subject: Subject) -> dict:
    """The entry that the result becomes part of; ValueError if its runs were trained by another command."""
    if path is None or not path.exists():
        return {**subject.entry, "runs": []}

    earlier = read_result(path, "trained", "runs")
    if sorted(earlier["trained"].split()) != sorted(subject.entry["trained"].split()):
        raise ValueError(f"{path}: holds runs made by {earlier['trained']!r}, this one was made by "
                         f"{subject.entry['trained']!r}: give name=, or move the file away")
    return {**subject.entry, "runs": earlier["runs"]}


def write(subject: Subject, path: Path | None, entry: dict, line: dict) -> None:
    """Write the result, with this run in the place of an earlier one of its seed; and the run's own file."""
    if path:
        others = [run for run in entry["runs"] if run["seed"] != subject.seed]
        write_json(path, {**entry, "runs": sorted([*others, line], key=lambda run: run["seed"])})
    if subject.folder:
        write_json(subject.folder / "wild.json", {**subject.entry, **line})


def announce(subject: Subject, path: Path | None, figures: dict) -> None:
    """Print the clean accuracy, the mean, and the changes under which the network is worst."""
    top1 = figures["top1"]
    changes = [row for row in COUNTED if row in top1 and row != CLEAN]
    worst = sorted(changes, key=top1.get)[:WORST]
    listed = ", ".join(f"{row} {top1[row]:.1f}" for row in worst)
    place = path or subject.folder or subject.entry["recipe"]
    print(f"{place}: seed {subject.seed}: clean {top1[CLEAN]:.1f}, mean of the {figures['mean_of']} "
          f"{figures['mean']:.1f}; worst: {listed}", flush=True)


if __name__ == "__main__":
    run(main, Options, recipe=True, interrupted="interrupted: nothing was written")
