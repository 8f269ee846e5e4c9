"""Blocks about a general network: what it gains as a start of a training."""
import json

from phases.reporting import blocks_few
from phases.reporting.measured import Results


def test_starts_are_judged_seed_by_seed(tmp_path):
    """Pairs of one seed; a start that is there for fewer seeds is compared with these alone."""
    def training(variant: str, seed: int, top1: float, of: str = "utd_test", **more) -> dict:
        return {"set": of, "fold": 0, "variant": variant, "labels": 0.1, "seed": seed, "network": "lite_nano",
                "init": "" if variant == "adopt" else "any", "clips": 54, "top1": top1, "changed": [], **more}

    rows = [training("adopt", seed, top1) for seed, top1 in enumerate((60.0, 62.0, 64.0))]
    rows += [training("started", seed, top1) for seed, top1 in enumerate((66.0, 69.0, 69.0))]
    rows += [training("adopt", 0, 50.0, "utd"), training("started", 0, 52.0, "utd"),
             training("trunk_30", 0, 49.0, "utd", changed=["train.trunk_lr=0.3"])]
    (tmp_path / "small-sets.json").write_text(json.dumps({"trainings": rows}))

    judged = blocks_few.starts_judged(Results(tmp_path))
    assert "| UTD-MHAD | `lite_nano` | 10 % | 54 | 62.0 ± 2.0 | 68.0 ± 1.7 | +6.0, +7.0, +5.0 | helps |" in judged
    compared = blocks_few.starts_compared(Results(tmp_path))
    assert "| started |  | +2.0 |" in compared and "| trunk_30 | `train.trunk_lr=0.3` | -1.0 |" in compared
    assert "_test" not in compared

    # two seeds of the start
    (tmp_path / "small-sets.json").write_text(json.dumps({"trainings": rows[:3] + rows[4:6]}))
    assert "| 63.0 ± 1.4 | 69.0 ± 0.0 | +7.0, +5.0 | too few seeds |" in blocks_few.starts_judged(Results(tmp_path))
