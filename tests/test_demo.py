"""`just demo`, command by command as the Justfile has it, on fewer clips and epochs."""
import functools
import importlib
import re
import shlex

import numpy as np
import p0_preprocess
import puppet
from conftest import ROOT

from last import load_checkpoint


def commands() -> list[tuple[str, list[str]]]:
    """(program, arguments) of each line of the recipe `demo`."""
    body = re.search(r"^demo:\n((?:    .*\n)+)", (ROOT / "Justfile").read_text(), re.M)[1]
    words = [shlex.split(line.strip().removeprefix("@").replace("{{python}}", "python").partition(" || ")[0]) for line in body.splitlines()]
    return [(w[1].removeprefix("phases/").removesuffix(".py"), w[2:]) for w in words]


def test_the_demo_distils_and_its_table_shows_teacher_student_alone_and_student_distilled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(p0_preprocess, "write_synthetic", functools.partial(puppet.write_synthetic, subjects=(1, 6), replications=1))
    said = {}
    for program, argv in commands():
        short = ["train.epochs=1", "view.bodies=1"] if program in ("p1_train", "p2_distill", "p4_export") else []
        code = importlib.import_module(program).main([*argv, *short])
        said[program] = capsys.readouterr()
        # so short a training leaves scores close to each other, and phase 4 may find a point lost to INT8: it says so with 1, and just goes on
        assert code in ((None, 0, 1) if program == "p4_export" else (None, 0)), said[program]
    assert list(said) == ["p0_preprocess", "p1_train", "p2_distill", "table", "show", "p4_export", "predict"]
    table = [[c.strip() for c in line.strip("|").split("|")] for line in said["table"].out.splitlines() if line.startswith("| ")]
    head, rows = table[0], {r[0].split()[0]: r for r in table[1:]}
    assert set(rows) == {"lite_small", "lite_nano", "lite_nano_small"}
    at = head.index("top-1")
    assert all(0 <= float(r[at]) <= 100 for r in rows.values())
    distilled = tmp_path / "runs/demo/lite_nano_small/synthetic-xsub/seed0"
    assert f"{float(rows['lite_nano_small'][at]):.1f}" == f"{100 * np.mean(score(distilled)):.1f}"
    assert any("projections" in k for k in load_checkpoint(distilled / "last.pt")["model"])
    assert "lite_small/synthetic-xsub/seed0" in said["p2_distill"].err
    assert said["predict"].out.strip() and (tmp_path / "runs/demo/clips.png").stat().st_size > 10_000


def score(folder) -> np.ndarray:
    with np.load(folder / "scores.npz") as z:
        return z["logits"].argmax(1) == z["label"]
