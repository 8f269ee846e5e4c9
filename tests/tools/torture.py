"""Phases 0 to 4, `just ablation` and `just page`, interrupted in every way: then the same command until it ends.

    just torture                         50 interruptions of each phase
    just torture rounds=8 phases=1,4     fewer, of some phases: 0, 1, 2, 3, 4, ablation, page
    just torture ways=kill,term          some ways only
    just torture seed=3 out=FILE         another order; adds the counts to FILE, such as results/torture.json
    just torture ntu=true raw=FOLDER     NTU RGB+D at full size, rehearsed: see rehearsal.py

A run lies on a disk of its own, a small tmpfs if this process may mount one. Ways: SIGKILL, SIGTERM and SIGINT at a
random moment, also inside a save (train.save_seconds=0); the same command twice at once; the folder removed under way;
a full disk, no inodes left, a disk that turns read-only, folders without permission; files that a
clock to come has written; a link in place of the folder. Where nothing can be mounted, RLIMIT_FSIZE stands for the full
disk, and two ways are left out.
Asserted: exit codes as promised, one line for an error, no half file at any moment; in the end the very weights of a
run that was never interrupted, and no other file than it has.
Exit codes: 0 all survived, 1 something was not, 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import hashlib
import importlib
import json
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from phases.common.command import run, words
from tests.tools.forked import Disk, Phase, ended, printed, start
from tests.tools.interruptions import WAYS, Torture, reference

TINY = ["data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "train.batch=6", "train.warmup_epochs=1",
        "train.epochs=5", "train.save_seconds=0"]
PROGRAMS = {"0": "p0_preprocess", "1": "p1_train", "2": "p2_distill", "3": "p3_maskclr", "4": "p4_export",
            "ablation": "ablation", "page": "page"}


@dataclass(frozen=True)
class Options:
    rounds: Annotated[int, (1, 1_000_000), "interruptions of each phase"] = 50
    phases: Annotated[tuple[str, ...], PROGRAMS, "some of them"] = tuple(PROGRAMS)
    ways: Annotated[tuple[str, ...], dict.fromkeys(WAYS), "to interrupt, each as often as it is named"] = WAYS
    seed: Annotated[int, (0, 2**31), "of ways and moments"] = 0
    out: Annotated[str, "the file that the counts are added to; empty: none"] = ""
    ntu: Annotated[bool, "NTU RGB+D at full size instead"] = False
    raw: Annotated[str, "its recordings; empty: those in $LAST_TEST_DATA or ../shared/data"] = ""
    names: Annotated[str, "its names, one a line; empty: those there"] = ""
    folder: Annotated[Path, "for its links and stores, 5 GB"] = Path("build/ntu")


# ---------------------------------------------------------------------------------------------------------------------
# What a run leaves
# ---------------------------------------------------------------------------------------------------------------------

def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def store_result(folder: Path) -> dict:
    import numpy as np
    with np.load(folder / "clips.npz") as z:
        table = b"".join(z[k].tobytes() for k in sorted(z.files))
    meta = json.loads((folder / "meta.json").read_text())
    return {"frames": digest((folder / "frames.npy").read_bytes()), "clips": digest(table), "counts": meta["counts"],
            "skipped": meta["skipped"]}


def run_result(folder: Path) -> dict:
    """Weights, losses and scores of every run below a folder."""
    import numpy as np

    from last import load_checkpoint
    from phases.common.files import read_log
    found = {}
    for path in sorted(folder.rglob("final.pt")):
        run_folder = path.parent
        model = load_checkpoint(path)["model"]
        weights = digest(*(value.numpy().tobytes() for _, value in sorted(model.items())))
        losses = [line["loss"] for line in read_log(run_folder / "metrics.jsonl")]
        json.loads((run_folder / "result.json").read_text())

        found[str(run_folder.relative_to(folder))] = [weights, losses]
        if (run_folder / "scores.npz").exists():
            with np.load(run_folder / "scores.npz") as z:
                found[str(run_folder.relative_to(folder))].append(digest(z["logits"].tobytes()))
    return found


def export_result(folder: Path) -> dict:
    json.loads((folder / "report.json").read_text())
    return {path.name: digest(path.read_bytes()) for path in sorted(folder.glob("*.onnx"))}


def page_result(folder: Path) -> dict:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): digest(path.read_bytes()) for path in files}


# ---------------------------------------------------------------------------------------------------------------------
# The phases
# ---------------------------------------------------------------------------------------------------------------------

def make_phases(work: Path, wanted: tuple[str, ...]) -> list[Phase]:
    """Each phase on tiny inputs, which are made in `work`; a trained network is made by phase 1."""
    from tests.helpers.clip_stores import write_store
    from tests.helpers.recordings import names, write_ntu
    # clips as a store and as recordings
    store = write_store(work / "store", clips=24)
    raw = write_ntu(work / "raw", names(600))
    tiny = [*TINY, f"data.store={store}"]
    trained = ["recipe=lite_nano", *tiny]

    # what phase 2 learns from and phase 4 exports
    teacher = Phase("p1_train", [*trained, f"out={work / 'runs'}"], "", run_result)
    if {"2", "4"} & set(wanted) and ended(start(teacher, work, work / "log")):
        raise ValueError(f"phase 1 does not run: {printed(work / 'log')[-3:]}")
    taught = f"distil.teacher={work / 'runs' / 'lite_nano' / 'tiny-xsub' / 'seed0'}"

    # in the order of PROGRAMS
    run_of = "runs/{}/tiny-xsub/seed0".format
    phases = [
        Phase("p0_preprocess", ["recipe=ntu60", f"raw={raw}", "data.store=store", "data.workers=2"], "store",
              store_result),
        Phase("p1_train", trained, run_of("lite_nano"), run_result),
        Phase("p2_distill", ["recipe=lite_nano_small", *tiny, taught], run_of("lite_nano_small"), run_result),
        Phase("p3_maskclr", ["recipe=maskclr_nano", "force=true", *tiny], run_of("maskclr_nano"), run_result),
        Phase("p4_export", [*trained, f"out={work / 'runs'}", "calibration=8"], "exports/tiny/lite_nano", export_result,
              promised=(0, 1)),
        Phase("page", ["model=utd_mhad", "out=page"], "page", page_result),
        Phase("ablation", ["rows=lite_nano", "seeds=0,1", "jobs=2", *tiny], "runs", run_result)]
    return [phase for name in wanted for phase in phases if phase.program == PROGRAMS[name]]


def record(out: Path, torture: Torture, command: str) -> None:
    """Add what happened to a phase to a file."""
    from phases.common.files import write_json
    from phases.training.run_folder import commit
    whole = json.loads(out.read_text()) if out.exists() else {"runs": [], "phases": {}}
    program = torture.phase.program
    whole["runs"].append({"command": command, "commit": commit(), "phase": program, "mounted": torture.disk.mounted})

    # counts add up
    entry = whole["phases"].setdefault(program, {"ways": {}, "ended": 0, "retried": 0, "faults": []})
    entry["ways"] = dict(Counter(entry["ways"]) + torture.ways)
    entry["ended"] += torture.resumed
    entry["retried"] += torture.retried
    entry["faults"] += torture.faults
    write_json(out, whole)


def torture_one(name: str, phase: Phase, disk: Disk, work: Path, options: Options) -> Torture:
    """Interrupt a phase, print what became of it and add it to the file."""
    # without interruptions, then with them
    began = time.monotonic()
    reference(phase, disk, work)
    torture = Torture(phase, disk, work, random.Random(f"{options.seed} {phase.program}"))
    try:
        torture.go(options.rounds, options.ways)
    finally:  # what happened before Ctrl-C counts too
        if options.out:
            command = " ".join(["just torture", *words(replace(options, phases=(name,), out=""))])
            record(Path(options.out), torture, command)

    ways = ", ".join(f"{n} {way}" for way, n in torture.ways.most_common())
    print(f"{phase.program}: {sum(torture.ways.values())} interruptions ({ways}), {torture.resumed} runs "
          f"ended as ever, {len(torture.faults)} faults; {time.monotonic() - began:.0f} s", flush=True)
    return torture


def main(options: Options) -> int:
    if options.ntu:
        from tests.tools.rehearsal import rehearse
        return rehearse(options.raw, options.names, options.folder, options.out)

    # a fork of this process has imported what the programs import
    import torch
    for program in PROGRAMS.values():
        importlib.import_module(f"phases.{program}")
    torch.set_num_threads(1)

    # one phase after another, on one disk
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        disk = Disk(work / "disk")
        try:
            phases = make_phases(work, options.phases)
            pairs = zip(options.phases, phases, strict=True)
            tortures = [torture_one(name, phase, disk, work, options) for name, phase in pairs]
        finally:
            disk.close()
    return 1 if any(torture.faults for torture in tortures) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the disk is taken away then too
    run(main, Options)
