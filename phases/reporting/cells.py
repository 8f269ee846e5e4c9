"""An entry's cells in a table: mean and deviation over runs, differences to another entry, sizes of a network."""
from __future__ import annotations

import statistics

from last import STREAMS
from phases.reporting.measured import recipe_behind
from phases.training.recipe import load_config

FUSED = {"lite": len(STREAMS), "last_e": 3}  # streams of one network, in results that do not say
SIZES = ("streams", "parameters per stream", "parameters in total", "MACs per clip", "seeds")


# ---------------------------------------------------------------------------------------------------------------------
# Over the runs of one entry
# ---------------------------------------------------------------------------------------------------------------------

def values(entry: dict | None, key: str) -> list:
    """A key of each run, without nulls; empty without an entry."""
    if not entry:
        return []
    return [run[key] for run in entry["runs"] if run.get(key) is not None]


def mean_sd(entry: dict | None, key: str) -> str:
    """`95.2 ± 0.3` over runs, the sample standard deviation; empty if nothing was measured."""
    return mean_and_sd(values(entry, key))


def mean_and_sd(found: list[float]) -> str:
    """The same of figures."""
    if not found:
        return ""
    spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.1f}{spread}"


def epochs(entry: dict | None) -> str:
    """The epochs of the runs, each number once."""
    return ", ".join(dict.fromkeys(map(str, values(entry, "epochs"))))


def overridden(entry: dict | None) -> list[str]:
    """The fields that an entry's command changes of its recipe, but the epochs, which have a column: view.frames=16."""
    words = entry.get("command", "").split() if entry else []
    return [word for word in words if "." in word.partition("=")[0] and not word.startswith("train.epochs=")]


# ---------------------------------------------------------------------------------------------------------------------
# Differences
# ---------------------------------------------------------------------------------------------------------------------

def by_seed(entry: dict, key: str) -> dict[int | None, float]:
    """{seed: figure}; of a seed that several machines trained, the mean of its runs."""
    figures: dict[int | None, list[float]] = {}
    for run in entry["runs"]:
        if run.get(key) is not None:
            figures.setdefault(run.get("seed"), []).append(run[key])
    return {seed: statistics.mean(found) for seed, found in figures.items()}


def conditions(entry: dict) -> tuple[list[str], set[int]]:
    """What two entries must share to be compared: the fields that their commands change, and their epochs.

    A teacher and SWA's rate do not count: rows of distillation and of SWA differ in them on purpose, and no other row
    reads them.
    """
    changed = [word for word in overridden(entry) if not word.startswith(("distil.", "train.swa_"))]
    return sorted(changed), set(values(entry, "epochs"))


def paired_differences(entry: dict | None, reference: dict | None, key: str = "top1") -> list[float]:
    """Differences to a reference entry in points, one for each seed that both have; without such, one of the means.

    Empty if one of them was not measured, or if they were made under other `conditions`.
    """
    if not values(entry, key) or not values(reference, key) or entry is reference:
        return []
    if conditions(entry) != conditions(reference):
        return []

    ours = by_seed(entry, key)
    theirs = by_seed(reference, key)
    shared = [figure - theirs[seed] for seed, figure in ours.items() if seed in theirs]
    return shared or [statistics.mean(ours.values()) - statistics.mean(theirs.values())]


def change(entry: dict | None, reference: dict | None, key: str = "top1") -> str:
    """`+1.0 ± 0.4`: mean and sample standard deviation of the paired differences; empty if there are none."""
    points = paired_differences(entry, reference, key)
    if not points:
        return ""
    spread = f" ± {statistics.stdev(points):.1f}" if len(points) > 1 else ""
    return f"{statistics.mean(points):+.1f}{spread}"


def verdict(points: list[float]) -> str:
    """What paired differences show. `helps` or `hurts`: three seeds or more, a mean of at least twice its spread."""
    if len(points) < 3:
        return "too few seeds"
    mean = statistics.mean(points)
    if mean == 0 or abs(mean) < 2 * statistics.stdev(points):
        return "cannot be told"
    return "helps" if mean > 0 else "hurts"


# ---------------------------------------------------------------------------------------------------------------------
# Sizes
# ---------------------------------------------------------------------------------------------------------------------

def count(number: float | None) -> str:
    """188588 -> 188.6K, at most four digits."""
    if number is None:
        return ""
    for unit, mark in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if number >= unit:
            return f"{number / unit:.4g}{mark}"
    return f"{number:.4g}"


def drop(form: dict) -> str:
    """`0.2 (-0.1 to 0.5)`: points of top-1 lost to FP32, with the paired 95 % interval."""
    if form.get("drop") is None:
        return ""
    interval = form.get("drop_ci95")
    between = f" ({interval[0]:.1f} to {interval[1]:.1f})" if interval else ""
    return f"{form['drop']:.1f}{between}"


def streams_of(entry: dict) -> tuple[int | None, float | None]:
    """(streams, parameters of one network) of an entry; None if neither the entry nor its recipe says."""
    try:
        fused = FUSED.get(load_config([f"recipe={recipe_behind(entry['recipe'])}"]).model.name, 1)
    except ValueError:  # a paper, or a recipe that was removed
        fused = None
    streams = entry.get("streams") or fused

    # one network holds all parameters if it has one stream, or takes in several together
    is_one_network = streams == 1 or (fused or 1) > 1
    return streams, entry.get("params_per_stream") or (entry.get("params") if is_one_network else None)


def sizes(entry: dict | None) -> dict[str, str]:
    """The cells SIZES of an entry."""
    if not entry:
        return {}

    # streams, and whether they are in one network
    streams, parameters = streams_of(entry)
    together = " in one network" if (streams or 1) > 1 and parameters == entry.get("params") else ""

    # seeds; the runs too, if a seed was trained several times
    runs = values(entry, "seed")
    seeds = len(set(runs))
    several = f" ({len(runs)} runs)" if len(runs) > seeds else ""
    return {
        "streams": f"{streams or ''}{together}",
        "parameters per stream": count(parameters),
        "parameters in total": count(entry.get("params")),
        "MACs per clip": count(entry.get("macs")),
        "seeds": f"{seeds or ''}{several}",
    }
