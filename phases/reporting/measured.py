"""What was measured, as entries: a recipe on a split of a data set, with one line per run.

Entries come from finished runs below runs/, from the committed files results/<recipe>--<dataset>-<split>.json and, in
the same form, from what papers published (results/published.json). An entry:

    {"recipe", "dataset", "split", "params", "macs", "streams", "command",
     "runs": [{"seed", "top1", "top5", "top1_clean", "epochs", "seconds", "device", "commit"}]}

Accuracies are percent. top1_clean is null if no test clip of the data set copies a training clip. A run that also
trained causally has its accuracy in that mode as "top1_causal", a student its teacher's as "teacher_top1". Without
"streams" a LAST-Lite took in all four. An ensemble adds "params_per_stream"; its params and macs are totals.
results/<recipe>--<dataset>-export.json gives the sizes of exported files,
results/wild-<network>--<dataset>-<split>.json accuracies on changed clips,
results/decline-<recipe>--<dataset>-<split>.json how often a file declines what it was not taught.
"""
from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from last import STREAMS
from phases.common.files import ROOT, read_json
from phases.common.recipes import WHERE, read_recipe, recipe_files
from phases.training.recipe import load_config

RUN_KEYS = ("seed", "top1", "top5", "top1_clean", "epochs", "seconds", "device", "commit")
OPTIONAL_RUN_KEYS = ("top1_causal", "teacher_top1")


# ---------------------------------------------------------------------------------------------------------------------
# Committed files
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Results:
    """A folder of result files. Each kind of file is read when it is first needed."""
    folder: Path

    @cached_property
    def entries(self) -> dict[str, dict]:
        """Entries by name, <recipe>--<dataset>-<split>."""
        found = {}
        for path in self._row_files():
            if not path.stem.endswith("-export") and "runs" in read_result(path):
                found[path.stem] = read_result(path, "recipe", "dataset", "split")
        return found

    @cached_property
    def exports(self) -> dict[tuple[str, str, str], dict]:
        """Reports of phase 4 by (recipe, data set, split); without a split it is the data set's own."""
        found = {}
        for path in self._row_files():
            if path.stem.endswith("-export"):
                report = read_result(path, "recipe", "dataset")
                split = report.get("split") or default_split(report["dataset"])
                found[report["recipe"], report["dataset"], split] = report
        return found

    @cached_property
    def bench(self) -> dict:
        """What `just bench` measured on a CPU."""
        return self.file("bench")

    @cached_property
    def gpus(self) -> list[dict]:
        """What `just bench device=cuda` measured, one table per GPU."""
        benches = [read_json(path) for path in sorted(self.folder.glob("bench-*.json"))]
        return [bench for bench in benches if "cases" in bench]

    @cached_property
    def wild(self) -> list[dict]:
        """What `just wild` measured: an entry per network and data set, figures of each row per run."""
        paths = sorted(self.folder.glob("wild-*--*.json"))
        return [read_result(path, "recipe", "form", "label", "dataset", "split", "runs") for path in paths]

    def wild_of(self, recipe: str, data: str, label: str = "") -> dict | None:
        """What `just wild` measured of the runs of a recipe on a data set's own split."""
        key = (recipe, "", label, data, default_split(data))
        for entry in self.wild:
            if tuple(entry[name] for name in ("recipe", "form", "label", "dataset", "split")) == key:
                return entry
        return None

    @cached_property
    def declines(self) -> list[dict]:
        """What `just decline` measured: an entry per network and data set, a run per set of unknown classes."""
        paths = sorted(self.folder.glob("decline-*--*.json"))
        return [read_result(path, "recipe", "dataset", "split", "runs") for path in paths]

    def declined_of(self, recipe: str, data: str) -> dict | None:
        """Percent that the files of a recipe decline, {known clips, each kind of strangers}, per run: an entry."""
        for entry in self.declines:
            if (entry["recipe"], entry["dataset"]) != (recipe, data) or entry["split"] != default_split(data):
                continue
            runs = []
            for run in entry["runs"]:
                kinds = {kind: found["declined"] for kind, found in run["strangers"].items()}
                runs.append({"known clips": round(100 - run["kept"], 2), **kinds})
            return {**entry, "runs": runs}
        return None

    def entry(self, recipe: str, data: str) -> dict | None:
        """The entry of a recipe on a data set's own split."""
        return self.entries.get(f"{recipe}--{data}-{default_split(data)}")

    def file(self, stem: str) -> dict:
        """The table of any other file of the folder, such as fuzz.json."""
        return read_json(self.folder / f"{stem}.json")

    def _row_files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*--*.json") if not path.name.startswith(("wild-", "decline-")))


def read_result(path: Path, *keys: str) -> dict:
    """The table of a JSON file that has these keys; ValueError names what it lacks."""
    table = read_json(path)
    missing = [key for key in keys if key not in table]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}")
    return table


def default_split(data: str) -> str:
    """The split of a data set that its recipe names."""
    return load_config(["recipe=lite_small", f"data={data}"]).data.split


def published() -> dict[str, dict]:
    """What papers published, as entries of one run each, by name: <model>--<dataset>-<split>.

    CTR-GCN, InfoGCN and HD-GCN agree with the benchmark lists of hyper.ai and paperswithcode.com, HI-GCN with its
    abstract; CTR-GCN's joint stream is a user's run. EfficientGCN-B0 is the paper's own page, SkateFormer its authors'
    page of released weights (joint + bone), with its NW-UCLA figure as others cite it. A source says if no page
    confirmed the parameters.
    """
    entries = {}
    for model, paper in read_json(ROOT / "results" / "published.json").items():
        for place, top1 in paper["top1"].items():
            dataset, _, split = place.partition("-")
            entries[f"{model}--{place}"] = {
                "kind": "published",
                "recipe": model,
                "dataset": dataset,
                "split": split,
                "params": paper["params"],
                "params_per_stream": paper["params_per_stream"],
                "streams": paper["streams"],
                "source": f"published: {paper['source']}",
                "runs": [{"top1": top1}],
            }
    return entries


# ---------------------------------------------------------------------------------------------------------------------
# Finished runs
# ---------------------------------------------------------------------------------------------------------------------

def gather(runs: Path, strict: bool = True) -> dict[str, dict]:
    """Entries, by name, of every finished run below a folder.

    <recipe>-<stream> and <recipe>-all are runs of <recipe>. Runs that phase 3 made, that were tested on their training
    clips (split=all), or whose folder was renamed do not count. A row's runs must have been made by one command: if
    `strict`, another is a ValueError, else it is reported on standard error and left out.
    """
    found: dict[str, dict] = {}
    for path in sorted(runs.glob("*/*/seed*/result.json")):
        result = read_result(path, "recipe", "dataset", "split")
        if not counts(path, result):
            continue

        # the entry of this run, made by the first of its runs
        name = path.parts[-4]
        command = command_of_row(result.get("command", ""))
        entry = found.setdefault(f"{name}--{result['dataset']}-{result['split']}", new_entry(name, result, command))

        # a run that another command made is another row
        if sorted(entry["command"].split()) != sorted(command.split()):
            odd = f"{path.parent}: was made by {command!r}, other seeds by {entry['command']!r}"
            if strict:
                raise ValueError(f"{odd}; move one of them aside")
            print(f"left out: {odd}", file=sys.stderr)
            continue
        entry["runs"].append(run_line(result))

    for entry in found.values():
        entry["runs"].sort(key=lambda run: run["seed"] or 0)
    return found


def counts(path: Path, result: dict) -> bool:
    """Whether a finished run has an accuracy for the tables, and its folder the name that the phases gave it."""
    name, place, seed = path.parts[-4:-1]
    in_place = place == f"{result['dataset']}-{result['split']}" and re.fullmatch(r"seed\d+", seed) is not None
    of_recipe = recipe_behind(name) == recipe_behind(result["recipe"])
    return in_place and of_recipe and "top1" in result and result["split"] != "all"


def new_entry(name: str, result: dict, command: str) -> dict:
    """An entry without runs, of a run's result.json."""
    entry = {"recipe": name}
    for key in ("dataset", "split", "params", "macs"):
        entry[key] = result.get(key)
    for key in ("streams", "params_per_stream"):
        if key in result:
            entry[key] = result[key]
    return entry | {"command": command, "runs": []}


def run_line(result: dict) -> dict:
    """What an entry keeps of a run; floats are rounded to three decimals."""
    kept = {key: result.get(key) for key in RUN_KEYS}
    for key in OPTIONAL_RUN_KEYS:
        if key in result:
            kept[key] = result[key]
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in kept.items()}


def recipe_behind(name: str) -> str:
    """The recipe of a run folder's name: base for base, base-bone and base-all."""
    stem, _, stream = name.rpartition("-")
    return stem if stream in (*STREAMS, "all") else name


def command_of_row(command: str) -> str:
    """A command without what differs between the runs of a row: its seed, where it ran, the seed of what it started."""
    words = [word for word in command.split() if word.partition("=")[0] not in ("seed", *WHERE)]
    return re.sub(r"/seed\d+\b", "/seed...", " ".join(words)) + " seed=..."


# ---------------------------------------------------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------------------------------------------------

def entry_of_row(row: str, data: str, split: str, entries: dict[str, dict]) -> dict | None:
    """The entry of a recipe, or of the one that it is another name of: of base for B7, of base-all for B14."""
    entry = entries.get(f"{row}--{data}-{split}")
    if entry or row not in recipe_files():
        return entry
    table = read_recipe(row)[1]

    # an ensemble: the average of all streams of its members' recipe
    if "members" in table:
        for recipe in names_of(table["members"]):
            name = f"{recipe}-all--{data}-{split}"
            if name in entries:
                return entries[name]
        return None

    # a recipe that changes nothing of its parent
    return entry_of_row(table["extends"], data, split, entries) if set(table) == {"extends"} else None


def names_of(recipe: str) -> list[str]:
    """A recipe, and the parents that it changes nothing of: B7, base."""
    table = read_recipe(recipe)[1]
    parents = names_of(table["extends"]) if set(table) == {"extends"} else []
    return [recipe, *parents]
