"""The block about recordings that are not cut: how many actions a file finds in them, and what it makes of the rest."""
from __future__ import annotations

from phases.reporting.measured import Results
from phases.reporting.tables import markdown_table

HEAD = ["network", "frames a second", "F1", "actions", "found", "events", "of unknown actions", "of another label",
        "at another time", "of people who stand", "told early", "of these right", "after"]


def events_at_rates(results: Results) -> str:
    """A line per network and rate, and the command of each network."""
    rows = []
    origins = []
    for network in results.file("live")["networks"]:
        rows += [row_of(network, rate) for rate in network["rates"]]
        origins.append(f"`{network['command']}`: {network['clips']} clips, {len(network['unknown'])} unknown classes, "
                       f"{network['recordings']} recordings of {network['seconds'] / 60:.0f} minutes in all.")
    return "\n\n".join([markdown_table(HEAD, rows), *origins])


def row_of(network: dict, rate: dict) -> dict[str, str]:
    """One network at one rate."""
    delay = rate["delay"]
    return {
        "network": f"{network['recipe']}, {network['dataset']}, {network['form']}",
        "frames a second": f"{rate['fps']:g}",
        "F1": f"{rate['f1']:.3f}",
        "actions": str(rate["actions"]),
        "found": str(rate.get("right", 0)),
        "events": str(rate.get("events", 0)),
        "of unknown actions": str(rate.get("unknown", 0)),
        "of another label": str(rate.get("wrong", 0)),
        "at another time": str(rate.get("late", 0)),
        "of people who stand": str(rate.get("standing", 0)),
        "told early": str(rate.get("early", 0)),
        "of these right": str(rate.get("early_right", 0)),
        "after": "" if delay is None else f"{delay:.1f} s",
    }
