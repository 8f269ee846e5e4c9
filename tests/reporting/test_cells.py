"""Cells of a table: differences by seed, verdicts, sizes."""
import pytest

from phases.reporting import cells


def entry(*runs: tuple[int, float]) -> dict:
    """An entry of (seed, top-1) runs."""
    return {"recipe": "lite_small", "runs": [{"seed": seed, "top1": top1, "epochs": 5} for seed, top1 in runs]}


def test_runs_of_one_seed_count_once_in_a_difference():
    twice = entry((0, 90.0), (0, 94.0), (1, 95.0))
    once = entry((0, 91.0), (1, 92.0), (2, 99.0))
    assert cells.change(twice, once) == "+2.0 ± 1.4" and cells.change(once, twice) == "-2.0 ± 1.4"
    assert cells.sizes(twice)["seeds"] == "2 (3 runs)" and cells.sizes(once)["seeds"] == "3"


def test_entries_of_other_epochs_are_not_compared():
    short, long = entry((0, 90.0)), entry((0, 91.0))
    assert cells.change(short, long) == "-1.0"
    short["runs"][0]["epochs"] = 6
    assert cells.change(short, long) == ""


@pytest.mark.parametrize(("points", "verdict"), [
    ([0.7, 1.4, 1.2], "helps"), ([-3.0, -2.3, -5.6], "hurts"), ([5.3, 0.5, 0.0], "cannot be told"),
    ([1.0, 3.0, 2.0], "helps"), ([0.9, 3.0, 2.0], "cannot be told"),  # a mean of just twice its spread, and of less
    ([6.0, 6.0], "too few seeds"), ([0.0, 0.0, 0.0], "cannot be told"), ([], "too few seeds")])
def test_a_verdict_needs_three_seeds_and_twice_their_spread(points, verdict):
    assert cells.verdict(points) == verdict
