"""Write one HTML page about a run: its curves, its confusions, the clips that it gets wrong, and how it was made.

    just report recipe=lite_nano data=nw_ucla                 RUN/report.html; with the words that the training had
    just report run=runs/lite_nano/nw_ucla-xview/seed0        the same by its folder
    just report recipe=lite_nano data=nw_ucla html=nano.html  elsewhere

The page is a single file that holds its drawings: it can be mailed. An unfinished run gets its curves. Clips are drawn
if the clip store is there. Recall is the share of a class's test clips that get its name; ROC curves and average
precisions judge each class against all others. After `just wild` the page lists the changes of the test clips under
which the run is worst, after `just phase4` the test clips that an exported file declines.
Exit codes: 0 written, 2 bad input.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jinja2

from phases.common.command import run
from phases.common.files import ROOT, atomic
from phases.common.wording import counted
from phases.reporting.charts import Chart, chart
from phases.reporting.reported import (
    Declined,
    ReportedRun,
    answers_of,
    declined_classes,
    load_reported,
    worst_rows,
)
from phases.training.recipe import load_config

CURVES = {"loss": "Loss", "top1": "Accuracy in percent", "lr": "Learning rate"}


@dataclass(frozen=True)
class Options:
    run: Annotated[Path | None, "a run's folder, in place of its recipe"] = None
    html: Annotated[Path | None, "the page; RUN/report.html if empty"] = None


# ---------------------------------------------------------------------------------------------------------------------
# Facts and curves
# ---------------------------------------------------------------------------------------------------------------------

def facts(reported: ReportedRun) -> list[tuple[str, str]]:
    """(name, text) of each line of the table at the top."""
    r = reported.result
    data = reported.recipe["data"]
    lines = [("data", f"{data['name']}, split {data['split']}, {len(reported.classes)} classes")]

    # a tested network
    if "top1" in r:
        clean = ""
        if r.get("top1_clean") is not None:
            clean = f", {r['top1_clean']:.1f} % without copied clips"

        # of five classes or fewer, every clip's is among five
        top5 = f"; top-5 {r['top5']:.1f} %" if len(reported.classes) > 5 else ""
        lines += [
            ("top-1", f"{r['top1']:.1f} %{clean}{top5}; {counted(r['clips'], 'test clip')}"),
            *wild_fact(reported.wild),
            *declined_fact(declined_classes(reported)),
            ("network", f"{reported.recipe['model']['name']}, {r['params']:,} parameters, {r['macs'] / 1e6:.1f}M "
                        "multiply-adds a clip"),
            ("training", f"{counted(r['epochs'], 'epoch')}, {r['seconds'] / 60:.1f} minutes on {r['device']}"),
        ]

    # an encoder of phase 3
    elif r:
        lines.append(("training", f"without labels: {r['seconds'] / 60:.1f} minutes on {r['device']}"))

    # a training that is not complete
    elif reported.log:
        minutes = sum(line["seconds"] for line in reported.log) / 60
        lines.append(("training", f"under way: {len(reported.log)} of {reported.recipe['train']['epochs']} epochs, "
                                  f"{minutes:.1f} minutes"))
    return lines


def wild_fact(wild: dict) -> list[tuple[str, str]]:
    """The line about changed clips, if `just wild` measured them."""
    if not wild:
        return []
    changes = counted(wild["mean_of"] - 1, "change")
    return [("in the wild", f"{wild['mean']:.1f} %, the mean of the test clips as recorded and under {changes}")]


def declined_fact(classes: list[Declined]) -> list[tuple[str, str]]:
    """The line about declined clips, if the run was exported."""
    if not classes:
        return []
    clips = sum(len(one.clips) for one in classes)
    right = sum(one.right for one in classes)
    share = 100 * clips / sum(one.of for one in classes)
    return [("none of these", f"{counted(clips, 'test clip')} declined, {share:.1f} %; {right} of them had the right "
                              "name")]


def training_curves(log: list[dict]) -> list[Chart]:
    """A chart of each of CURVES that the log has; epochs count from 1."""
    charts = []
    for key, title in CURVES.items():
        # the log has shares; a validation is in percent
        factor = 100 if key == "top1" else 1
        curves = {"training": [(line["epoch"] + 1, factor * line[key]) for line in log if key in line]}
        if key == "top1":
            curves["validation"] = [(line["epoch"] + 1, line["validation"]) for line in log if "validation" in line]

        # runs without this figure, and those that validated on no clips, have no curve of it
        measured = {name: curve for name, curve in curves.items() if curve}
        if measured:
            charts.append(chart(title, measured))
    return charts


# ---------------------------------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------------------------------

def html_page(reported: ReportedRun) -> str:
    """The page as text: phases/reporting/report.html.j2 with the run's numbers."""
    templates = jinja2.FileSystemLoader(ROOT / "phases" / "reporting")
    environment = jinja2.Environment(loader=templates, autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)

    recipe = reported.recipe
    data = recipe["data"]
    name = reported.folder.parent.parent.name
    return environment.get_template("report.html.j2").render(
        title=f"{name} on {data['name']} {data['split']}, seed {recipe['seed']}",
        facts=facts(reported),
        result=reported.result,
        charts=training_curves(reported.log),
        answers=answers_of(reported),
        has_store=reported.store is not None,
        declined=declined_classes(reported),
        wild=reported.wild,
        worst_rows=worst_rows(reported.wild),
        recipe=json.dumps(recipe, indent=1))


def main(options: Options, words: list[str]) -> None:
    # the folder of the run
    if bool(options.run) == bool(words):
        raise ValueError("give run=FOLDER, or recipe=NAME and the other words that the run was made with")
    folder = options.run or load_config(words).run
    if not (folder / "recipe.json").is_file():
        raise ValueError(f"{folder}: no run is there (it lacks recipe.json): train it first, or give a run's folder")

    # its page
    reported = load_reported(folder)
    if not reported.log and not reported.result:
        raise ValueError(f"{folder}: nothing to report yet: no epoch is complete")
    page = options.html or folder / "report.html"
    with atomic(page) as part:
        part.write_text(html_page(reported), encoding="utf-8")
    print(page)


if __name__ == "__main__":
    run(main, Options, recipe=True)
