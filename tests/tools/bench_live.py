"""How well an exported file finds the actions in recordings that are not cut: the F1 of its events.

    python -m tests.tools.bench_live model=FILE data=utd_mhad data.unknown=1,2,6     minutes -> results/live.json
    python -m tests.tools.bench_live model=FILE data=utd_mhad data.unknown=1,2,6 out=    print only

The recordings are joined from the clips of the test people, every clip in one of them, one person a recording: a random
order in which each clip begins in about the pose in which the one before ended, with 1 to 4 seconds of standing between
them (a body that sways, a camera that shakes), and a third of a second from pose to pose. Classes of data.unknown are
acted like all others, and no event shall name them. The very same recordings are seen at 60, 30, 15 and 10 frames per
second, on the line between their frames.

An event is right if its label is, and if its start and its end are each within half a second of its action's: the clip
without the ends in which every joint stays within 10 cm of its first and its last place. F1 is the harmonic mean of
precision (of the events) and recall (of the known actions). The events are those of `just predict stream=true`, which
sees one frame after another.
"""
from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from phases.common.command import run, words
from phases.common.files import ROOT, read_json, write_json
from phases.shipping.events import Event, Hearing, Listener
from phases.shipping.exported import ExportedModel, model_file
from phases.training.clip_store import ClipStore, open_store, splits, unknown_clips
from phases.training.recipe import load_config
from phases.training.run_folder import commit
from tests.helpers.untrimmed import Untrimmed, at_fps, f1, recordings, score

RATES = (60, 30, 15, 10)    # frames per second
CLIPS = 27                  # in a recording, about


@dataclass(frozen=True)
class Options:
    model: Annotated[str, "a file of `just phase4`"]
    out: Annotated[str, "the report, which keeps other networks' figures; empty: none"] = "results/live.json"


@dataclass
class Heard:
    """What a stream told of a recording: events, and how long after its action's start each early one came."""
    events: list[Event]
    delays: list[float]


def listen(model: ExportedModel, recorded: Untrimmed) -> Heard:
    """The events of a recording, frame by frame."""
    listener = Listener(model, Hearing(model.length / model.fps), is_read=True)
    heard = Heard([], [])
    for moment, frame in zip(recorded.times, recorded.joints.swapaxes(0, 1), strict=True):
        for event in listener.add(float(moment), frame):
            heard.events.append(event)
            if event.end is None:
                heard.delays.append(float(moment) - event.start)
    heard.events += listener.end()
    return heard


def early_ones(recorded: Untrimmed, heard: Heard, classes: list[str]) -> Counter:
    """Counts: the events told while an action goes on, and those with the label of what is acted."""
    found = Counter()
    for event in heard.events:
        if event.end is None:
            acted = [a for a in recorded.actions if a.label is not None and abs(a.start - event.start) <= 1]
            found["early"] += 1
            found["early_right"] += any(classes[a.label] == event.label for a in acted)
    return found


def at_rate(model: ExportedModel, recorded: list[Untrimmed], fps: float) -> dict:
    """The figures of all recordings at one rate."""
    found = Counter()
    delays = []
    frames = 0
    started = time.process_time()
    for whole in recorded:
        seen = at_fps(whole, fps)
        heard = listen(model, seen)
        found += score(seen.actions, heard.events, model.classes) + early_ones(seen, heard, model.classes)
        delays += heard.delays
        frames += len(seen.times)

    spent = 1000 * (time.process_time() - started) / frames
    return {"fps": fps, "f1": f1(found), **found, "delay": float(np.median(delays)) if delays else None,
            "cpu_ms_per_frame": round(spent, 2)}


def measured(model: ExportedModel, store: ClipStore, clips: np.ndarray, unknown: tuple[int, ...]) -> dict:
    """The figures of a network on recordings of clips of a store: print and return them."""
    recorded = recordings(store, clips, unknown, model.fps, CLIPS)
    seconds = sum(r.times[-1] for r in recorded)
    print(f"{len(recorded)} recordings of {len(clips)} clips, {seconds / 60:.0f} minutes", flush=True)

    rates = []
    for fps in RATES:
        rates.append(at_rate(model, recorded, fps))
        print(", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                        for key, value in rates[-1].items()), flush=True)
    return {"recordings": len(recorded), "seconds": round(float(seconds)), "clips": len(clips), "rates": rates}


def write(entry: dict, out: Path) -> None:
    """Put an entry into the report, in place of an earlier one of the same network."""
    key = ("dataset", "split", "recipe", "seed", "form", "unknown")
    entries = read_json(out)["networks"] if out.exists() else []
    others = [e for e in entries if [e[k] for k in key] != [entry[k] for k in key]]
    write_json(out, {"networks": [*others, entry]})
    print(f"written to {out}")


def main(options: Options, recipe: list[str]) -> int:
    cfg = load_config(["recipe=lite_nano", *recipe])  # of which the data set counts
    model = ExportedModel(model_file(options.model))
    store = open_store(cfg)
    if model.classes != store.classes:
        raise ValueError(f"model = {options.model}: tells other classes than {cfg.store} has")

    # all test clips, those of unknown classes among them
    clips = np.concatenate([splits(store, cfg)[2], unknown_clips(store, cfg)])
    about = {key: model.about[key] for key in ("dataset", "split", "recipe", "form")}
    command = " ".join(["python -m tests.tools.bench_live", *words(options), *recipe])
    entry = {**about, "seed": int(model.about["seed"]), "unknown": list(cfg.data.unknown), "command": command,
             "commit": commit(), **measured(model, store, np.sort(clips), cfg.data.unknown)}
    if options.out:
        write(entry, ROOT / options.out)
    return 0


if __name__ == "__main__":
    run(main, Options, recipe=True)
