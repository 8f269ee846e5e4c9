"""`just fuzz`: a few inputs of each target; a fault is found, saved and counted."""
import json
from pathlib import Path

import numpy as np
import pytest

from phases.common.command import parse
from tests.tools import fuzz
from tests.tools.mutations import Target


def run_fuzz(*words: object) -> int:
    return fuzz.main(parse(fuzz.Options, [str(word) for word in words]))


def test_a_few_inputs_of_every_target_are_stored_or_refused(tmp_path, capsys):
    code = run_fuzz("inputs=3", f"keep={tmp_path / 'faults'}", f"out={tmp_path / 'fuzz.json'}")
    assert code == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["tried"] == 3 * len(found["targets"]) and len(found["targets"]) > 20
    assert sum(entry["stored"] for entry in found["targets"].values()) > 5 and not found["faults"]


def test_targets_are_those_that_results_name():
    recorded = json.loads((fuzz.ROOT / "results" / "fuzz.json").read_text())["targets"]
    with pytest.raises(ValueError, match="targets = 'nut'") as refused:
        run_fuzz("targets=nut")
    assert all(name in str(refused.value) for name in recorded)


def fail(error: Exception) -> None:
    raise error


def test_every_kind_of_fault_is_seen_saved_and_mended(tmp_path, monkeypatch, capsys):
    kinds = [lambda: 1 / 0, lambda: np.float32(1e30) ** 2, lambda: fail(ValueError("")),
             lambda: fail(ValueError("two\nlines")), lambda: open("/dev/null/x")]
    broken = [Target(f"t{i}", [b"x"], lambda data, kind=kind: kind()) for i, kind in enumerate(kinds)]
    monkeypatch.setattr(fuzz, "make_targets", lambda folder, wanted: broken)
    keep = tmp_path / "faults"
    out = tmp_path / "fuzz.json"
    assert run_fuzz("inputs=2", f"keep={keep}", f"out={out}") == 1
    assert sorted(path.name[:2] for path in keep.iterdir()) == ["t0", "t1", "t2", "t3"]  # the last one names a file

    broken[0].take = lambda data: None
    assert run_fuzz(f"replay={keep}", f"out={out}") == 1
    mended = {fault["target"]: fault["mended"] for fault in json.loads(out.read_text())["faults"].values()}
    assert mended == {"t0": True, "t1": False, "t2": False, "t3": False}
    assert "t1" in capsys.readouterr().err and Path(keep).is_dir()
