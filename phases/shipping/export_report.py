"""The folder of an export, and its page report.md: the forms, what they lose, their times, the costly layers."""
from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from phases.common.files import read_json, write_json
from phases.common.wording import counted
from phases.shipping.declining import Declining
from phases.shipping.onnx_files import FILES
from phases.shipping.tflite import TFLITE_FILES
from phases.shipping.verify import CLIPS, DROP
from phases.training.recipe import Config

COLUMNS = ("form", "file", "bytes", "top-1", "passes", "points lost to FP32 (paired 95 %)", "agreement",
           "largest difference of a probability")


# ---------------------------------------------------------------------------------------------------------------------
# The folder
# ---------------------------------------------------------------------------------------------------------------------

def check_folder(folder: Path, cfg: Config) -> None:
    """ValueError if the folder holds the export of another run."""
    if not (folder / "report.json").exists():
        return
    old = read_json(folder / "report.json")
    if (old["dataset"], old["split"], old["seed"]) != (cfg.data.name, cfg.data.split, cfg.seed):
        raise ValueError(f"{folder} holds the export for {old['dataset']} {old['split']}, seed {old['seed']}: give "
                         "exports=FOLDER, or move it away")


def write_declining(run: Path, origin: dict, names: list[str], declining: Declining,
                    likeness: np.ndarray) -> None:
    """Write RUN/declining.json: the threshold, and the likeness (N,) of the test clips.

    A run folder that nobody may write to stays as it is.
    """
    of_clips = dict(zip(names, likeness.tolist(), strict=True))
    with contextlib.suppress(OSError):
        write_json(run / "declining.json", {**origin, "threshold": declining.threshold, "likeness": of_clips})


# ---------------------------------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------------------------------

def markdown(report: dict) -> str:
    """The whole page."""
    # what was exported
    lines = [
        f"# {report['recipe']} on {report['dataset']} {report['split']}, exported",
        "",
        f"{report['params']:,} parameters, {counted(report['clips'], 'test clip')}; `{report['command']}`, commit "
        f"{report['commit']}, {report['device']}.",
        "",
    ]

    # a table of the forms, and the rule that they were judged by
    lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *form_rows(report), ""]
    lines += [f"A file passes if it loses {allowance(report)} of top-1 to FP32.", ""]

    # times, and a warning
    ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in report["latency"].items())
    lines.append(f"Time of one clip, one thread, as a ratio to the network's FP32 deploy form without the view; `file` "
                 f"is model.onnx as a whole, with view and answer: {ratios}.")
    lines += ["", f"A likeness below {report['threshold']:.3f} means none of the classes: {report['declined']:.1f} % "
              f"of the test clips are declined. The logits are divided by {report['temperature']:.3g} before the "
              "softmax."]
    if set(TFLITE_FILES) & set(report):
        lines += ["", "A .tflite file holds the network alone, viewed joints (1, M, T, V, 3) -> logits (1, K), because "
                  "its shapes are fixed."]
    return "\n".join([*lines, *warnings(report)]) + "\n"


def form_rows(report: dict) -> list[str]:
    """A row of the table for each form that was written."""
    rows = []
    for form, name in written(report).items():
        figures = report[form]
        passes = "yes" if figures["accepted"] else "**no**"

        # FP32 loses nothing to itself
        loss = " | | |"
        if "drop" in figures:
            low, high = figures["drop_ci95"]
            loss = (f"{figures['drop']:.2f} ({low:.2f} to {high:.2f}) | {figures['agreement']:.1f} | "
                    f"{figures['max_diff']:.2g} |")

        rows.append(f"| {form} | {name} | {figures['bytes']:,} | {figures['top1']:.1f} | {passes} | {loss}")
    return rows


def warnings(report: dict) -> list[str]:
    """A paragraph for each file that does not pass; for INT8 also the layers to blame."""
    lines = []
    for form, name in refused(report).items():
        lines += ["", f"**{name} lost {report[form]['drop']:.2f} points: do not ship it.**"]
        if form == "int8":
            lines[-1] += " Layers that cost most:"
            lines += [f"- {layer['layer']}: {layer['saves']:.1f} % of the logit error" for layer in worst(report)]
    return lines


# ---------------------------------------------------------------------------------------------------------------------
# Which files to ship
# ---------------------------------------------------------------------------------------------------------------------

def written(report: dict) -> dict[str, str]:
    """The file of each form that was written."""
    return {form: name for form, name in (FILES | TFLITE_FILES).items() if form in report}


def refused(report: dict) -> dict[str, str]:
    """The file of each form that lost too much."""
    return {form: name for form, name in written(report).items() if not report[form]["accepted"]}


def advised(report: dict) -> list[str]:
    """The files that pass, the smallest first."""
    passing = [form for form in written(report) if report[form]["accepted"]]
    return [written(report)[form] for form in sorted(passing, key=lambda form: report[form]["bytes"])]


def verdict(report: dict) -> str:
    """One line: the files that do not pass, the limit, the layers to blame, the files to ship instead."""
    # each with its loss
    lost = []
    for form, name in refused(report).items():
        lost.append(f"{name} lost {report[form]['drop']:.2f} points of top-1")
    text = f"{', '.join(lost)}; {'each' if len(lost) > 1 else 'it'} may lose {allowance(report)}"

    # where INT8 lost them, and what to do
    if "int8" in refused(report):
        layers = ", ".join(f"{layer['layer']} ({layer['saves']:.0f} %)" for layer in worst(report))
        text += f"; the layers with most of the error of INT8 are {layers}"
    return f"{text}; ship {' or '.join(advised(report))}"


def allowance(report: dict) -> str:
    """The limit that the files were judged by, in words."""
    points = report["limit"]
    if points == DROP:
        return f"fewer than {points:g} point"
    return f"fewer than {points:.3g} points ({CLIPS:g} of {counted(report['clips'], 'test clip')})"


def worst(report: dict) -> list[dict]:
    """The layers that cost INT8 most."""
    return report["layers"][:5]
