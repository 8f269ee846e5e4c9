"""Entries from finished runs and from committed files."""
from pathlib import Path

import pytest

from phases.reporting import measured
from tests.helpers.results import write_result


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_ensemble_row_is_what_its_members_are_named_after():
    entries = {f"{name}--nw_ucla-xview": {"recipe": name} for name in ("base", "base-all")}
    assert measured.entry_of_row("B7", "nw_ucla", "xview", entries)["recipe"] == "base"
    assert measured.entry_of_row("B14", "nw_ucla", "xview", entries)["recipe"] == "base-all"
    entries["B14--nw_ucla-xview"] = {"recipe": "B14"}
    assert measured.entry_of_row("B14", "nw_ucla", "xview", entries)["recipe"] == "B14"
    assert measured.entry_of_row("B14", "utd_mhad", "xsub", entries) is None


def test_seeds_that_start_each_from_an_own_run_are_one_row(capsys):
    name, encoder = "probe_linear--nw_ucla-xview", "runs/maskclr_small/nw_ucla-xview/seed"
    for seed, top1 in enumerate([70.0, 72.0]):
        command = f"just probe recipe=probe_linear init={encoder}{seed} seed={seed}"
        write_result("probe_linear", top1, seed, command=command)
    found = measured.gather(Path("runs"))[name]
    assert found["command"] == f"just probe recipe=probe_linear init={encoder}... seed=..." and len(found["runs"]) == 2

    # neither the order of words nor the place matters
    command = f"just probe device=cuda gpus=1 seed=2 init={encoder}2 recipe=probe_linear"
    write_result("probe_linear", 71.0, 2, command=command)
    assert len(measured.gather(Path("runs"))[name]["runs"]) == 3

    # another encoder does
    command = "just probe recipe=probe_linear init=runs/maskclr_nano/nw_ucla-xview/seed3 seed=3"
    write_result("probe_linear", 71.0, 3, command=command)
    with pytest.raises(ValueError, match="other seeds by .*maskclr_small"):
        measured.gather(Path("runs"))
    assert len(measured.gather(Path("runs"), strict=False)[name]["runs"]) == 3
    assert "runs/probe_linear/nw_ucla-xview/seed3" in capsys.readouterr().err


def test_a_run_on_all_clips_has_no_accuracy_to_show():
    write_result("L0", 80.0)
    write_result("L0", 99.0, split="all")
    assert list(measured.gather(Path("runs"))) == ["L0--nw_ucla-xview"]
