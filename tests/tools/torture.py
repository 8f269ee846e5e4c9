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
disk, and two ways fall out.
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
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from tests.helpers.clip_stores import write_store
from tests.helpers.recordings import names, write_ntu
from tests.tools.interruptions import WAYS, Disk, Phase, Torture, ended, reference, said, start

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

TINY = ["data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "train.batch=6", "train.warmup_epochs=1",
        "train.epochs=5", "train.save_seconds=0"]
NAMES = ("0", "1", "2", "3", "4", "ablation", "page")


def options(argv: list[str]) -> dict:
    given = {"rounds": "50", "phases": ",".join(NAMES), "ways": ",".join(WAYS), "seed": "0", "out": "", "ntu": "false",
             "raw": "", "names": "", "folder": "build/ntu"}
    for arg in argv:
        key, eq, value = arg.partition("=")
        if not eq or key not in given:
            raise ValueError(f"argument {arg!r}: unknown (known: {', '.join(given)})")
        given[key] = value
    for key in ("rounds", "seed"):
        if not given[key].isdecimal():
            raise ValueError(f"{key} = {given[key]!r}: must be a whole number")
        given[key] = int(given[key])
    for key, known in (("phases", NAMES), ("ways", dict.fromkeys(WAYS))):
        if set(given[key].split(",")) - set(known):
            raise ValueError(f"{key} = {given[key]!r}: must be some of {', '.join(known)}")
    return given


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
    """Weights, scores and losses of every run below a folder."""
    import numpy as np

    from last import load_checkpoint
    from phases.common.files import read_log
    found = {}
    for path in sorted(folder.rglob("final.pt")):
        name, model = str(path.parent.relative_to(folder)), load_checkpoint(path)["model"]
        found[name] = [digest(*(v.numpy().tobytes() for _, v in sorted(model.items())))]
        found[name] += [[line["loss"] for line in read_log(path.parent / "metrics.jsonl")]]
        if (path.parent / "scores.npz").exists():
            with np.load(path.parent / "scores.npz") as z:
                found[name].append(digest(z["logits"].tobytes()))
        json.loads((path.parent / "result.json").read_text())
    return found


def export_result(folder: Path) -> dict:
    json.loads((folder / "report.json").read_text())
    return {p.name: digest(p.read_bytes()) for p in sorted(folder.glob("*.onnx"))}


def page_result(folder: Path) -> dict:
    return {str(p.relative_to(folder)): digest(p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


# ---------------------------------------------------------------------------------------------------------------------
# The phases
# ---------------------------------------------------------------------------------------------------------------------

def make_phases(work: Path, wanted: list[str]) -> list[Phase]:
    """Each phase on tiny inputs, which are made in `work`; a trained network is made by phase 1."""
    store = write_store(work / "store", clips=24)
    raw = write_ntu(work / "raw", names(600))
    trained = ["recipe=lite_nano", *TINY, f"data.store={store}"]
    teacher = Phase("p1_train", [*trained, f"out={work / 'runs'}"], "", run_result)
    if {"2", "4"} & set(wanted) and ended(start(teacher, work, work / "log")):
        raise ValueError(f"phase 1 does not run: {said(work / 'log')[-3:]}")
    taught = f"distil.teacher={work / 'runs' / 'lite_nano' / 'tiny-xsub' / 'seed0'}"
    run = "runs/{}/tiny-xsub/seed0".format
    phases = {
        "0": Phase("p0_preprocess", ["recipe=ntu60", f"raw={raw}", "data.store=store", "data.workers=2"], "store",
                   store_result),
        "1": Phase("p1_train", trained, run("lite_nano"), run_result),
        "2": Phase("p2_distill", ["recipe=lite_nano_small", *TINY, f"data.store={store}", taught],
                   run("lite_nano_small"), run_result),
        "3": Phase("p3_maskclr", ["recipe=maskclr_nano", "force=true", *TINY, f"data.store={store}"],
                   run("maskclr_nano"), run_result),
        "4": Phase("p4_export", [*trained, f"out={work / 'runs'}", "calibration=8"], "exports/lite_nano",
                   export_result, promised=(0, 1)),
        "page": Phase("page", ["model=utd_mhad", "out=page"], "page", page_result),
        "ablation": Phase("ablation", ["rows=lite_nano", "seeds=0,1", "jobs=2", *TINY, f"data.store={store}"], "runs",
                          run_result)}
    return [phases[name] for name in wanted]


def record(out: Path, torture: Torture, command: str) -> None:
    """Add what happened to a phase to a file."""
    from phases.common.files import write_json
    from phases.training.run_folder import commit
    old = json.loads(out.read_text()) if out.exists() else {"runs": [], "phases": {}}
    old["runs"].append({"command": command, "commit": commit(), "phase": torture.phase.program,
                        "mounted": torture.disk.mounted})
    entry = old["phases"].setdefault(torture.phase.program, {"ways": {}, "ended": 0, "retried": 0, "faults": []})
    entry["ways"] = dict(Counter(entry["ways"]) + torture.ways)
    entry["ended"] += torture.resumed
    entry["retried"] += torture.retried
    entry["faults"] += torture.faults
    write_json(out, old)


def main(argv: list[str]) -> int:
    given = options(argv)
    if given["ntu"] == "true":
        from tests.tools.rehearsal import rehearse
        return rehearse(given)
    for program in ("p0_preprocess", "p1_train", "p2_distill", "p3_maskclr", "p4_export", "ablation", "page"):
        importlib.import_module(program)  # a fork has them
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        disk, tortures = Disk(work / "disk"), []
        try:
            wanted = given["phases"].split(",")
            for name, phase in zip(wanted, make_phases(work, wanted), strict=True):
                began = time.monotonic()
                reference(phase, disk, work)
                torture = Torture(phase, disk, work, random.Random(f"{given['seed']} {phase.program}"))
                tortures.append(torture)
                try:
                    torture.go(given["rounds"], tuple(given["ways"].split(",")))
                finally:  # what happened before Ctrl-C counts too
                    command = f"just torture rounds={given['rounds']} seed={given['seed']} phases={name}"
                    command += f" ways={given['ways']}" * (given["ways"] != ",".join(WAYS))
                    if given["out"]:
                        record(Path(given["out"]), torture, command)
                ways = ", ".join(f"{n} {way}" for way, n in torture.ways.most_common())
                print(f"{phase.program}: {sum(torture.ways.values())} interruptions ({ways}), {torture.resumed} runs "
                      f"ended as ever, {len(torture.faults)} faults; {time.monotonic() - began:.0f} s", flush=True)
        finally:
            disk.close()
    return 1 if any(torture.faults for torture in tortures) else 0


if __name__ == "__main__":
    from phases.common.settings_cli import cli
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the disk is taken away then too
    cli(main)
