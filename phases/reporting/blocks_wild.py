"""The blocks about changed clips: what `just wild` measured, a column per network, and the picture of it."""
from __future__ import annotations

import statistics
from collections.abc import Callable

from phases.recordings.wild import CLEAN, COUNTED, ROWS
from phases.reporting.cells import mean_sd, values
from phases.reporting.measured import Results, default_split
from phases.reporting.tables import LABEL, heading, markdown_table

DEFAULT = "default"     # variant of the study
NOTHING = "Nothing is measured yet: `just wild recipe=... data={}`."


def networks(results: Results, data: str) -> dict[str, dict]:
    """Entries of a data set's own split by the name of their network; those with a label come first."""
    split = default_split(data)
    own = [entry for entry in results.wild if (entry["dataset"], entry["split"]) == (data, split)]
    own.sort(key=lambda entry: (entry["recipe"], not entry["label"], entry["label"], entry["form"]))
    return {network_name(entry): entry for entry in own}


def network_name(entry: dict) -> str:
    """lite_nano INT8, before"""
    name = f"{entry['recipe']} {entry['form'].upper()}".strip()
    return f"{name}, {entry['label']}" if entry["label"] else name


def of_row(entry: dict, row: str, *keys: str) -> dict:
    """An entry whose runs have the figures `keys` of one row."""
    return {"runs": [{key: run.get(key, {}).get(row) for key in keys} for run in entry["runs"]]}


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------

def rows_that_count(results: Results, data: str = "utd_mhad") -> str:
    """The clean clips and the rows of the mean: accuracy of each network."""
    found = networks(results, data)
    lines = accuracy_lines(found, COUNTED)

    # a data set without depth has fewer rows
    counts = {run["mean_of"] for entry in found.values() for run in entry["runs"]}
    name = f"**mean of the {' or '.join(map(str, sorted(counts)))}**"
    means = {network: f"**{mean_sd(entry, 'mean')}**" for network, entry in found.items()}
    lines.append({"test clips": name, **means})

    # clips copied from the training side
    without = {network: mean_sd(entry, "mean_clean") for network, entry in found.items()}
    if any(without.values()):
        lines.append({"test clips": "the mean without copied clips", **without})
    return table(found, lines, data)


def other_rows(results: Results, data: str = "utd_mhad") -> str:
    """The rows that are no part of the mean: accuracy of each network."""
    found = networks(results, data)
    return table(found, accuracy_lines(found, [row.name for row in ROWS if not row.counted]), data)


def accuracy_lines(found: dict[str, dict], rows: tuple[str, ...] | list[str]) -> list[dict]:
    """A line for each of these rows that any network has."""
    lines = []
    for row in rows:
        cells = {network: mean_sd(of_row(entry, row, "top1"), "top1") for network, entry in found.items()}
        if any(cells.values()):
            lines.append({"test clips": row, **cells})
    return lines


def confidence(results: Results, data: str = "utd_mhad") -> str:
    """Mean probability of the answer given, and accuracy; at the end the expected calibration error over the rows."""
    found = networks(results, data)
    lines = []
    for row in COUNTED:
        cells = {}
        for network, entry in found.items():
            figures = of_row(entry, row, "confidence", "top1")
            sure = values(figures, "confidence")
            right = values(figures, "top1")
            if sure:
                cells[network] = f"{statistics.mean(sure):.0f} / {statistics.mean(right):.0f}"
        if cells:
            lines.append({"test clips": row, **cells})

    errors = {network: mean_sd(calibration_errors(entry), "ece") for network, entry in found.items()}
    lines.append({"test clips": "**calibration error, mean**", **errors})
    return table(found, lines, data)


def calibration_errors(entry: dict) -> dict:
    """An entry whose runs have the mean of their calibration errors over the rows that count, as `ece`."""
    runs = []
    for run in entry["runs"]:
        runs.append({"ece": statistics.mean(run["ece"][row] for row in COUNTED if row in run["ece"])})
    return {"runs": runs}


def study(results: Results) -> str:
    """The study behind the view's defaults: the default's accuracy on each data set, and what other variants gain."""
    runs = results.file("wild-study")["runs"]
    places = list(dict.fromkeys(run["data"] for run in runs))
    lines = []
    for variant in sorted({run["variant"] for run in runs}, key=lambda name: (name != DEFAULT, name)):
        own = [run for run in runs if run["variant"] == variant]
        line = {"variant": variant.replace("_", " "), "with": f"`{' '.join(own[0]['words'])}`" * bool(own[0]["words"])}
        gained = []
        for place in places:
            clean = figures(runs, variant, place, lambda run: run["top1"][CLEAN])
            wild = figures(runs, variant, place, lambda run: run["mean"])
            compared = f"{spread(clean, variant)} / {spread(wild, variant)}"
            line[f"{LABEL.get(place, place)}, clean / mean"] = compared if clean else ""
            gained += [statistics.mean(found) for found in (clean, wild) if found]
        complete = len(gained) == 2 * len(places) and variant != DEFAULT
        lines.append(line | {"all": f"{statistics.mean(gained):+.1f}" if complete else "",
                             "seeds": str(len({run["seed"] for run in own}))})
    return markdown_table(list(lines[0]), lines)


def view_study(results: Results) -> str:
    """How the test view was found: a line per variant, the mean over the sides that it was judged on."""
    variants: dict[tuple, list[dict]] = {}
    for run in results.file("view-study")["runs"]:
        variants.setdefault((run["data"], run["recipe"], run["words"]), []).append(run)

    lines = []
    for (data, recipe, words), runs in variants.items():
        clean = statistics.mean(run["top1"][CLEAN] for run in runs)
        mean = statistics.mean(run["mean"] for run in runs)
        lines.append({"data": LABEL.get(data, data), "recipe": f"`{recipe}`",
                      "with": f"`{words}`", "trained on": "; ".join(run["trained"] for run in runs),
                      "clean": f"{clean:.1f}", "mean of the 20": f"{mean:.1f}"})
    return markdown_table(list(lines[0]), lines)


def figures(runs: list[dict], variant: str, place: str, figure: Callable[[dict], float]) -> list[float]:
    """A figure of each run of the default on a data set, by seed; of another variant, what each gains over it."""
    def of(name: str) -> dict[int, float]:
        return {run["seed"]: figure(run) for run in runs if (run["variant"], run["data"]) == (name, place)}

    default = of(DEFAULT)
    if variant == DEFAULT:
        return [default[seed] for seed in sorted(default)]
    return [value - default[seed] for seed, value in sorted(of(variant).items()) if seed in default]


def spread(found: list[float], variant: str) -> str:
    """Mean and standard deviation; a gain has its sign."""
    if not found:
        return ""
    deviation = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return format(statistics.mean(found), ".1f" if variant == DEFAULT else "+.1f") + deviation


def declining(results: Results) -> str:
    """What exported files decline that they were not taught, and what they keep: a line per network and kind."""
    lines = []
    for entry in results.declines:
        runs = entry["runs"]
        place = heading((entry["dataset"], entry["split"]))
        kinds = dict.fromkeys(kind for run in runs for kind in run["strangers"])
        for kind in kinds:
            of_kind = {"runs": [run["strangers"].get(kind, {}) for run in runs]}
            lines.append({
                "network": f"`{entry['recipe']}`, {place}", "draws": str(len(runs)), "strangers": kind,
                "kept": mean_sd(entry, "kept"), "declined": mean_sd(of_kind, "declined"),
                "declined where 95 % are kept": mean_sd(of_kind, "declined_at_95"),
                "AUROC": mean_of(of_kind, "auroc"), "AUROC by probability": mean_of(of_kind, "auroc_probability")})
    if not lines:
        return "Nothing is measured yet: `just decline model=... data=utd_mhad`."
    return markdown_table(list(lines[0]), lines)


def scores_that_decline(results: Results) -> str:
    """By which number a clip may be declined: AUROC and share declined, of each draw of unknown classes."""
    runs = results.file("decline-study")["runs"]
    lines = []
    for score in runs[0]["scores"]:
        line = {"score": score}
        for kind in ("unknown classes", "people who stand", "another data set"):
            found = [run["scores"][score][kind] for run in runs]
            line[kind] = ", ".join(f"{one['auroc']:.3f} ({one['declined_at_95']:.0f})" for one in found)
        lines.append(line)
    return markdown_table(list(lines[0]), lines)


def trainings_that_decline(results: Results) -> str:
    """What other trainings decline of classes that they were not taught, by two scores: the mean over draws."""
    lines = []
    for row in results.file("decline-study")["trainings"]["rows"]:
        line = {"training": row["training"], "top-1 of known classes": mean_sd(row, "top1")}
        for score in ("cosine", "cosine and probability"):
            found = {"runs": [run[score] for run in row["runs"]]}
            line[score] = f"{mean_of(found, 'auroc')} ({statistics.mean(values(found, 'declined_at_95')):.0f})"
        lines.append(line)
    return markdown_table(list(lines[0]), lines)


def mean_of(entry: dict, key: str) -> str:
    """The mean of a figure between 0 and 1."""
    found = values(entry, key)
    return f"{statistics.mean(found):.3f}" if found else ""


def table(found: dict[str, dict], lines: list[dict], data: str) -> str:
    """The lines under a column per network, with the number of its runs."""
    if not found:
        return NOTHING.format(data)
    runs = {"test clips": "runs", **{network: str(len(entry["runs"])) for network, entry in found.items()}}
    return markdown_table(["test clips", *found], [*lines, runs])


# ---------------------------------------------------------------------------------------------------------------------
# The picture
# ---------------------------------------------------------------------------------------------------------------------

def picture_link(results: Results, data: str = "utd_mhad") -> str:
    """The picture that `just table data=... picture=results/wild-....svg` draws."""
    if not networks(results, data):
        return NOTHING.format(data)
    place = heading((data, default_split(data)))
    return f"![Accuracy on {place} against the strength of a change, a line per network](wild-{data}.svg)"
