"""`just fuzz`: a few inputs of each target; a fault is found, saved and counted."""
import json
from pathlib import Path

from tests.tools import fuzz, fuzz_targets
from tests.tools.fuzz import Target


def test_a_few_inputs_of_every_target_are_stored_or_refused(tmp_path, capsys):
    code = fuzz.main(["inputs=3", f"keep={tmp_path / 'faults'}", f"out={tmp_path / 'fuzz.json'}"])
    assert code == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["tried"] == 3 * len(found["targets"]) and len(found["targets"]) > 20
    assert sum(entry["stored"] for entry in found["targets"].values()) > 5 and not found["faults"]


def test_every_kind_of_fault_is_seen_saved_and_mended(tmp_path, monkeypatch, capsys):
    kinds = [lambda: 1 / 0, lambda: fuzz_targets.np.float32(1e30) ** 2, lambda: (_ for _ in ()).throw(ValueError("")),
             lambda: (_ for _ in ()).throw(ValueError("two\nlines")), lambda: open("/dev/null/x")]
    broken = [Target(f"t{i}", [b"x"], lambda data, kind=kind: kind()) for i, kind in enumerate(kinds)]
    monkeypatch.setattr(fuzz_targets, "make_targets", lambda folder, wanted: broken)
    keep, out = tmp_path / "faults", tmp_path / "fuzz.json"
    assert fuzz.main(["inputs=2", f"keep={keep}", f"out={out}"]) == 1
    assert sorted(path.name[:2] for path in keep.iterdir()) == ["t0", "t1", "t2", "t3"]  # the last one names a file
    broken[0].take = lambda data: None
    assert fuzz.main([f"replay={keep}", f"out={out}"]) == 1
    mended = {fault["target"]: fault["mended"] for fault in json.loads(out.read_text())["faults"].values()}
    assert mended == {"t0": True, "t1": False, "t2": False, "t3": False}
    assert "t1" in capsys.readouterr().err and Path(keep).is_dir()
