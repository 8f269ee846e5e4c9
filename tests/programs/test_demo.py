"""`just demo`: every command of the Justfile, on fewer clips and epochs."""
import functools
import importlib
import re
import shlex

import numpy as np

from last import load_checkpoint
from phases import p0_preprocess
from phases.recordings import puppet
from phases.shipping import verify
from tests.helpers.clip_stores import ROOT
from tests.helpers.programs import call


def commands() -> list[tuple[str, list[str]]]:
    """(program, arguments) of each command of the Justfile's recipe `demo`."""
    justfile = (ROOT / "Justfile").read_text().replace("\\\n", " ")  # join continued lines
    body = re.search(r"^demo:\n((?:    .*\n)+)", justfile, re.M)[1]
    found = []
    for line in body.splitlines():
        command, _, _ = line.strip().removeprefix("@").partition("|| ")
        _, _, program, *arguments = shlex.split(command.replace("{{python}}", "python"))
        found.append((program.removeprefix("phases."), arguments))
    return found


def correct(folder) -> np.ndarray:
    """(N,) bool: the test clips that a run classifies correctly."""
    with np.load(folder / "scores.npz") as z:
        return z["logits"].argmax(1) == z["label"]


def test_the_demo_shows_what_distillation_gives(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few_clips = functools.partial(puppet.write_synthetic, subjects=(1, 6), replications=1)
    monkeypatch.setattr(p0_preprocess, "write_synthetic", few_clips)
    monkeypatch.setattr(verify, "relative_times", lambda *given: {})  # takes its time

    # every command, on few clips; after so short a training a file may lose a point: phase 4 then returns 1
    said = {}
    for program, argv in commands():
        trains = program in ("p1_train", "p2_distill", "p4_export")
        short = ["train.epochs=1", "view.bodies=1", "view.frames=16"] if trains else []
        short += ["calibration=32"] * (program == "p4_export")
        code = call(importlib.import_module(f"phases.{program}"), *argv, *short)
        said[program] = capsys.readouterr()
        assert code in ((None, 0, 1) if program == "p4_export" else (None, 0)), said[program]
    assert list(said) == ["p0_preprocess", "p1_train", "p2_distill", "table", "show", "p4_export", "predict", "report"]

    # teacher, student alone and student distilled, in the table
    lines = [line for line in said["table"].out.splitlines() if line.startswith("| ")]
    head, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = {row[0].split()[0]: row for row in body}
    assert set(rows) == {"lite_small", "lite_nano", "lite_nano_small"}
    at = head.index("top-1")
    assert all(0 <= float(r[at]) <= 100 for r in rows.values())

    # and what each command leaves
    distilled = tmp_path / "runs/demo/lite_nano_small/synthetic-xsub/seed0"
    assert f"{float(rows['lite_nano_small'][at]):.1f}" == f"{100 * np.mean(correct(distilled)):.1f}"
    assert any("projections" in k for k in load_checkpoint(distilled / "last.pt")["model"])
    assert "lite_small/synthetic-xsub/seed0" in said["p2_distill"].err
    assert "<svg" in (tmp_path / "runs/demo/report.html").read_text()
    assert said["predict"].out.strip() and (tmp_path / "runs/demo/clips.png").stat().st_size > 10_000
