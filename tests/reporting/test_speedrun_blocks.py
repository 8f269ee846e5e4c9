"""Blocks about the speed record: each lever against the race without it, pair by pair."""
import json

from phases.reporting import blocks_speedrun
from phases.reporting.measured import Results


def run(levers: str, seed: int, top1: float, minutes: float, split: str = "fold0", epochs: int = 40) -> dict:
    return {"levers": levers, "epochs": epochs, "split": split, "seed": seed, "top1": top1, "top1_clean": top1 - 1,
            "core_minutes": minutes, "params": 48_040, "device": "A processor, 1 threads"}


def test_a_lever_is_compared_with_the_race_without_it(tmp_path):
    rows = [run("plain", seed, top1, 4.0) for seed, top1 in enumerate((70.0, 72.0, 71.0))]
    rows += [run("nano", seed, top1, 2.0) for seed, top1 in enumerate((75.0, 77.0, 76.5))]
    rows += [run("nano+linear", 0, 75.0, 2.0), run("nano+linear", 5, 99.0, 2.0), run("nano", 0, 10.0, 1.0, epochs=80)]
    rows += [run("nano", 0, 94.0, 4.0, "xview"), run("nano", 1, 95.0, 4.4, "xview")]
    (tmp_path / "speedrun.json").write_text(json.dumps({"runs": rows}))

    table = blocks_speedrun.levers(Results(tmp_path))
    assert "| plain | 40 | 3 | 71.0 ± 1.0 | 4.0 |  |  |" in table
    assert "| nano | 40 | 3 | 76.2 ± 1.0 | 2.0 | 5.2 ± 0.3, helps | 0.50 |" in table
    assert "| nano+linear | 40 | 2 | 87.0 ± 17.0 | 2.0 | 0.0, too few seeds | 1.00 |" in table
    assert "| nano | 80 | 1 | 10.0 | 1.0 |  |  |" in table and "94" not in table

    tested = blocks_speedrun.record(Results(tmp_path))
    assert "| nano | 40 | 48,040 | 2 | 94.5 ± 0.7 | 93.5 ± 0.7 | 4.2 ± 0.3 |" in tested and "plain" not in tested
    assert tested.endswith("`just speedrun`: A processor.")
