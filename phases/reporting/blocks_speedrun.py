"""Blocks about the speed record: what each lever gives, and the races that count."""
from __future__ import annotations

from statistics import mean

from phases.reporting.cells import mean_and_sd, verdict
from phases.reporting.measured import Results
from phases.reporting.tables import markdown_table

TEST = "xview"
Race = tuple[str, int]  # levers, epochs


def races(results: Results, *, tested: bool) -> dict[Race, dict[tuple[str, int], dict]]:
    """The runs of each race by (split, seed): on the test side, or on the folds of training cameras."""
    found: dict[Race, dict[tuple[str, int], dict]] = {}
    for run in results.file("speedrun")["runs"]:
        if (run["split"] == TEST) == tested:
            found.setdefault((run["levers"], run["epochs"]), {})[run["split"], run["seed"]] = run
    return found


def levers(results: Results) -> str:
    """A line per race on the folds: accuracy, core-minutes, and both against the race without its last lever."""
    found = races(results, tested=False)
    rows = []
    for (name, epochs), runs in found.items():
        row = {"levers": name, "epochs": str(epochs), "runs": str(len(runs)),
               "top-1": mean_and_sd([run["top1"] for run in runs.values()]),
               "core-minutes": f"{mean(run['core_minutes'] for run in runs.values()):.1f}"}

        # the same without its last lever; one alone: plain
        without = name.rpartition("+")[0] or "plain"
        other = found.get((without, epochs), {}) if without != name else {}
        pairs = [(run, other[key]) for key, run in runs.items() if key in other]
        if pairs:
            gains = [a["top1"] - b["top1"] for a, b in pairs]
            row["points more"] = f"{mean_and_sd(gains)}, {verdict(gains)}"
            row["of the time"] = f"{mean(a['core_minutes'] / b['core_minutes'] for a, b in pairs):.2f}"
        rows.append(row)
    return markdown_table(["levers", "epochs", "runs", "top-1", "core-minutes", "points more", "of the time"], rows)


def record(results: Results) -> str:
    """A line per race on the test side."""
    rows = []
    for (name, epochs), runs in races(results, tested=True).items():
        own = list(runs.values())
        rows.append({"levers": name, "epochs": str(epochs), "parameters": f"{own[0]['params']:,}",
                     "runs": str(len(own)), "top-1": mean_and_sd([run["top1"] for run in own]),
                     "clean": mean_and_sd([run["top1_clean"] for run in own]),
                     "core-minutes": mean_and_sd([run["core_minutes"] for run in own])})
    return (f"{markdown_table(list(rows[0]), rows)}\n\n`just speedrun`: {own[0]['device'].split(',')[0]}.")
