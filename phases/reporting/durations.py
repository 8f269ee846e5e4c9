"""How long trainings take, by the seconds per epoch of earlier runs in results/."""
from __future__ import annotations

from dataclasses import dataclass

from phases.common.files import read_log
from phases.common.wording import counted
from phases.reporting.measured import Results
from phases.training.jobs import Run

SHOWN = 3   # files that a line names


@dataclass(frozen=True)
class Expected:
    """Seconds of a training by the fastest and the slowest earlier run, and where these are written."""
    low: float
    high: float
    file: str
    devices: tuple[str, ...]


def expected(run: Run, results: Results) -> Expected | None:
    """What the epochs that are left will take; None if no run of the recipe on this split of the data set is known."""
    cfg = run.cfg
    stem = f"{cfg.run_name}--{cfg.data.name}-{cfg.data.split}"
    entry = results.entries.get(stem, {"runs": []})
    known = [one for one in entry["runs"] if one.get("seconds") and one.get("epochs")]
    if not known:
        return None

    left = cfg.train.epochs
    if run.state == "resume":
        left -= len(read_log(cfg.run / "metrics.jsonl"))
    per_epoch = [one["seconds"] / one["epochs"] for one in known]
    devices = tuple(sorted({one.get("device") or "an unknown device" for one in known}))
    return Expected(left * min(per_epoch), left * max(per_epoch), f"{stem}.json", devices)


def outlook(runs: list[Run], results: Results) -> list[str]:
    """Lines that say how many trainings are to be run, and what time they take one after the other."""
    # an average of streams trains nothing
    trainings = [run for run in runs if not run.cfg.streams]
    left = [run for run in trainings if run.state != "done"]
    resumed = sum(run.state == "resume" for run in left)
    going_on = f", {resumed} of them from where they were cut" if resumed else ""
    averages = sum(bool(run.cfg.streams) for run in runs)
    also = f", and {counted(averages, 'average')} of streams" if averages else ""
    lines = [f"{counted(len(left), 'training')} to run{going_on}, {len(trainings) - len(left)} done{also}"]

    # of some the time is known
    times = {run.name: expected(run, results) for run in left}
    found = [time for time in times.values() if time]
    unknown = [name for name, time in times.items() if not time]
    if found:
        low = sum(time.low for time in found)
        high = sum(time.high for time in found)
        files = list(dict.fromkeys(time.file for time in found))
        others = f" and {counted(len(files) - SHOWN, 'other')}" if len(files) > SHOWN else ""
        devices = "; ".join(dict.fromkeys(device for time in found for device in time.devices))
        lines.append(f"time of {len(found)}, one after the other: {span(low, high)}, by the seconds per epoch in "
                     f"results/ ({devices}): {', '.join(files[:SHOWN])}{others}")
    if unknown:
        lines.append(f"time of {len(unknown)} unknown, since results/ has no time of them: {', '.join(unknown)}")
    return lines


def span(low: float, high: float) -> str:
    """Two lengths of time in seconds, in words: 12 minutes; 1.2 to 3.0 hours."""
    size, unit = (3600, "hour") if high >= 5400 else (60, "minute")
    ends = [f"{seconds / size:.1f}" if size == 3600 else f"{max(1, round(seconds / size))}" for seconds in (low, high)]
    if ends[0] == ends[1]:
        return f"{ends[0]} {unit}{'s' * (ends[0] != '1')}"
    return f"{ends[0]} to {ends[1]} {unit}s"
