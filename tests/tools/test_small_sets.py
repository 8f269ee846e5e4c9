"""The study of small sets: trainings from a start and from scratch, their rows, and what adopt concludes from them."""
import json

import pytest

from phases.common.files import NETWORKS
from phases.recordings import starts
from phases.recordings.starts import gains, start_for
from skeletons import SKELETONS
from tests.tools import small_sets
from tests.tools.small_sets import Options

NTU = SKELETONS["ntu25"]


def row(top1: float, clips: int = 100, init: str = "any", **more) -> dict:
    variant = "started" if init else "adopt"
    return {"set": "utd", "fold": 0, "variant": variant, "seed": 0, "top1": top1, "clips": clips, "init": init} | more


# --- the study ---

def test_a_start_is_compared_with_scratch_and_done_once(tmp_path, data_folder, capsys):
    asked = Options(variants=("adopt", "trunk_0"), sets=("utd",), folds=(0,), labels=(0.1,), epochs=1, name="ucla",
                    init=str(NETWORKS / "nw_ucla.pt"), work=tmp_path / "work", out=tmp_path / "out.json")
    small_sets.main(asked)
    report = json.loads((tmp_path / "out.json").read_text())
    scratch, started = report["trainings"]
    assert (scratch["init"], started["init"], started["variant"]) == ("", "ucla", "trunk_0")
    assert scratch["clips"] == started["clips"] == 27 and started["steps"] == 2 and started["labels"] == 0.1
    assert started["changed"] == ["train.trunk_lr=0"] and 0 <= started["top1"] <= 100
    assert str(tmp_path) not in json.dumps(report)
    said = capsys.readouterr()
    assert "of them by the names of 20 of 20 joints" in said.err
    assert f"trunk_0 utd, 27 clips: {started['top1'] - scratch['top1']:+.1f}" in said.out

    # again: the same rows, and no training
    small_sets.main(asked)
    assert capsys.readouterr().out.count("already done") == 2
    assert json.loads((tmp_path / "out.json").read_text()) == report


def test_a_start_that_has_seen_the_set_is_refused(tmp_path, data_folder):
    seen = Options(variants=("started",), sets=("utd",), init="utd_mhad", work=tmp_path, out=tmp_path / "out.json")
    with pytest.raises(ValueError, match="utd_mhad.pt: has seen utd_mhad"):
        small_sets.main(seen)
    with pytest.raises(ValueError, match="begins with a network; give init="):
        Options(variants=("started",))
    placed = Options(init=str(NETWORKS / "{set}.pt"), sets=("ucla",), variants=("adopt",))
    with pytest.raises(ValueError, match="nw_ucla.pt: has seen nw_ucla"):
        small_sets.start_of(placed, "ucla")
    assert not (tmp_path / "out.json").exists()


def test_rows_of_the_first_study_are_replaced_by_their_like():
    old = {"set": "utd", "fold": 0, "variant": "adopt", "seed": 0, "top1": 90.0}
    like = row(91, init="", labels=1.0, network="lite_nano")
    assert small_sets.same_training(old, like)
    for other in ({"labels": 0.1}, {"seed": 1}, {"network": "lite_small"}, {"init": "any"}):
        assert not small_sets.same_training(old, like | other)


# --- what adopt concludes ---

def test_gains_are_of_pairs_that_differ_in_the_start_alone():
    rows = [row(80, init=""), row(86), row(70, init="", seed=1), row(72, seed=1), row(99, seed=2),
            row(50, 10, init="", labels=0.1), row(60, 10, labels=0.1), row(10, init="", network="lite_small"),
            row(0, init="other")]
    found = gains(rows, "any")
    assert [(gain.set, gain.clips, gain.points) for gain in found] == [("utd", 10, (10,)), ("utd", 100, (6, 2))]
    assert found[1].mean == 4 and gains(rows, "elsewhere") == []


@pytest.fixture
def study(tmp_path, monkeypatch):
    """study(row, ...) -> results of these trainings; a network `any` comes along."""
    (tmp_path / "any.pt").touch()
    monkeypatch.setattr(starts, "NETWORKS", tmp_path)

    def write(*rows: dict):
        path = tmp_path / "small-sets.json"
        path.write_text(json.dumps({"trainings": rows}))
        return path
    return write


def test_a_start_is_proposed_where_the_nearest_size_gained(study, tmp_path):
    path = study(row(50, 30, init="", labels=0.1), row(60, 30, labels=0.1), row(90, 300, init=""), row(90.5, 300))
    found = start_for(60, NTU, path)
    assert found == ("any", "measured with 30 training clips: +10.0 points of top-1")
    assert start_for(5, NTU, path) == found and start_for(150, NTU, path) is None, "300 clips gained half a point"
    assert start_for(60, SKELETONS["hand21"], path) is None, "a hand has no joint of a body"
    assert start_for(60, NTU, tmp_path / "gone.json") is None

    # a test side decides nothing
    judged = [row(50, 300, init="", set="utd_test"), row(70, 300, set="utd_test")]
    path = study(row(50, 30, init=""), row(49, 30), *judged)
    assert start_for(300, NTU, path) is None and start_for(30, NTU, path) is None

    # beyond twice the largest set nothing is known
    path = study(row(50, 30, init=""), row(60, 30))
    assert start_for(60, NTU, path) and start_for(61, NTU, path) is None
    (tmp_path / "any.pt").unlink()
    assert start_for(60, NTU, path) is None, "no such network"


def test_nothing_is_proposed_from_a_study_without_starts(study):
    assert start_for(100, NTU, study(row(90, init=""), row(99, init="other"))) is None
