"""Tables and picture of changed clips, from result files written by hand."""
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from phases import table
from phases.common.files import ROOT
from phases.recordings.wild import COUNTED, ROWS
from phases.reporting.blocks import block
from phases.reporting.measured import Results
from phases.reporting.strengths import Panel, Picture, picture, svg
from tests.helpers.programs import call

ALL = ["clean", *(row.name for row in ROWS)]


def write_wild(folder: Path, recipe: str, *means: float, form: str = "", label: str = "", place: str = "utd_mhad-xsub",
               rows: list[str] = ALL, clean: float | None = None) -> None:
    """A result of `just wild` with a run per mean; each row has the mean as its accuracy, and is 10 points surer."""
    dataset, split = place.rsplit("-", 1)
    runs = []
    for seed, mean in enumerate(means):
        counted = [row for row in rows if row in COUNTED]
        run = {"seed": seed, "mean": mean, "mean_of": len(counted), "top1": dict.fromkeys(rows, mean),
               "confidence": dict.fromkeys(rows, mean + 10), "ece": dict.fromkeys(rows, 10.0)}
        runs.append(run if clean is None else run | {"mean_clean": clean})
    entry = {"recipe": recipe, "form": form, "label": label, "dataset": dataset, "split": split, "runs": runs}
    network = "-".join(filter(None, (recipe, form, label)))
    (folder / f"wild-{network}--{place}.json").write_text(json.dumps(entry))


def cells(text: str) -> dict[str, list[str]]:
    """{first cell: the others} of a table."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {first: rest for first, *rest in lines}


def test_a_table_has_a_column_per_network_earlier_ones_first(tmp_path):
    write_wild(tmp_path, "lite_nano", 90, 92, 94)
    write_wild(tmp_path, "lite_nano", 70, label="before")
    write_wild(tmp_path, "lite_nano", 91, form="int8")
    write_wild(tmp_path, "lite_nano", 1, place="nw_ucla-xview")
    found = cells(block("wild", {}, Results(tmp_path)))
    assert found["test clips"] == ["lite_nano, before", "lite_nano", "lite_nano INT8"]
    assert list(found)[2:-2] == list(COUNTED) and found["noise 5 cm"] == ["70.0", "92.0 ± 2.0", "91.0"]
    assert found["**mean of the 20**"] == ["**70.0**", "**92.0 ± 2.0**", "**91.0**"]
    assert found["runs"] == ["1", "3", "1"]

    more = cells(block("wild-more", {}, Results(tmp_path)))
    assert set(more) - {"test clips", "---", "runs"} == set(ALL) - set(COUNTED)
    sure = cells(block("wild-sure", {}, Results(tmp_path)))
    assert sure["spikes 2 %"] == ["80 / 70", "102 / 92", "101 / 91"]
    assert sure["**calibration error, mean**"] == ["10.0", "10.0 ± 0.0", "10.0"]


def test_rows_that_were_not_measured_are_left_out(tmp_path):
    flat = [row for row in ALL if "turned" not in row]
    write_wild(tmp_path, "lite_nano", 90, rows=flat, place="nw_ucla-xview", clean=85.0)
    found = cells(block("wild", {"data": "nw_ucla"}, Results(tmp_path)))
    assert "turned 30 degrees" not in found and found["**mean of the 18**"] == ["**90.0**"]
    assert found["the mean without copied clips"] == ["85.0"]


def test_without_results_a_block_says_how_to_measure(tmp_path):
    for name in ("wild", "wild-more", "wild-sure", "wild-picture"):
        assert "`just wild recipe=... data=nw_ucla`" in block(name, {"data": "nw_ucla"}, Results(tmp_path))


def test_changed_clips_are_no_rows_of_other_tables(tmp_path):
    write_wild(tmp_path, "lite_nano", 90)
    assert Results(tmp_path).entries == {} and Results(tmp_path).exports == {}


# ---------------------------------------------------------------------------------------------------------------------
# Declining
# ---------------------------------------------------------------------------------------------------------------------

def write_decline(folder: Path, recipe: str, *runs: dict, place: str = "utd_mhad-xsub") -> None:
    """A result of `just decline`: each run gives the AUROC of its kinds, the other figures follow from it."""
    lines = []
    for seed, kinds in enumerate(runs):
        strangers = {}
        for kind, auroc in kinds.items():
            strangers[kind] = {"clips": 9, "auroc": auroc, "declined": 100 * auroc - 10, "declined_at_95": 100 * auroc,
                               "auroc_probability": auroc - 0.1}
        lines.append({"seed": seed, "unknown": [seed], "kept": 94.0 + 2 * seed, "strangers": strangers})
    dataset, split = place.rsplit("-", 1)
    entry = {"recipe": recipe, "dataset": dataset, "split": split, "runs": lines}
    (folder / f"decline-{recipe}--{place}.json").write_text(json.dumps(entry))


def test_declining_has_a_line_per_network_and_kind(tmp_path):
    """The mean of the draws that have the kind: an AUROC with three digits, percents with their deviation."""
    write_decline(tmp_path, "lite_nano", {"people who stand": 0.9}, {"people who stand": 0.8, "unknown classes": 0.7})
    write_decline(tmp_path, "lite_small", {"unknown classes": 0.95}, place="nw_ucla-xview")
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")]
                       for line in block("decline", {}, Results(tmp_path)).splitlines()]
    assert head == ["network", "draws", "strangers", "kept", "declined", "declined where 95 % are kept", "AUROC",
                    "AUROC by probability"]
    first, second, third = lines
    assert first[0].startswith("`lite_nano`, ") and third[0].startswith("`lite_small`, ") and first[0] == second[0]
    assert first[1:] == ["2", "people who stand", "95.0 ± 1.4", "75.0 ± 7.1", "85.0 ± 7.1", "0.850", "0.750"]
    assert second[1:] == ["2", "unknown classes", "95.0 ± 1.4", "60.0", "70.0", "0.700", "0.600"]
    assert third[1:] == ["1", "unknown classes", "94.0", "85.0", "95.0", "0.950", "0.850"]


def test_declining_without_results_says_how_to_measure(tmp_path):
    assert "`just decline model=... data=utd_mhad`" in block("decline", {}, Results(tmp_path))


def test_what_files_decline_is_no_row_of_other_tables(tmp_path):
    write_decline(tmp_path, "lite_nano", {"people who stand": 0.9})
    assert Results(tmp_path).entries == {} and Results(tmp_path).exports == {} and Results(tmp_path).wild == []


# ---------------------------------------------------------------------------------------------------------------------
# The picture
# ---------------------------------------------------------------------------------------------------------------------

def test_the_picture_has_a_panel_per_kind_and_a_line_per_network(tmp_path):
    write_wild(tmp_path, "lite_nano", 0, 100)
    write_wild(tmp_path, "lite_nano", 100, label="before")
    drawn = picture(Results(tmp_path), "utd_mhad")
    assert [panel.title for panel in drawn.panels] == [
        "joints missing, %", "frames without a body, %", "noise, cm", "spikes, %", "standing still, frames",
        "turned, degrees"]
    assert [mark for _, mark in drawn.panels[0].strengths] == ["0", "1", "2", "5", "10", "20", "50"]

    # the mean over runs, the strengths equally far apart
    before, now = drawn.panels[2].lines
    assert {y for _, y in now.points} == {(Panel.TOP + Panel.BOTTOM) / 2}
    assert {y for _, y in before.points} == {Panel.TOP}
    xs = [x for x, _ in now.points]
    assert xs[0] == Panel.LEFT and xs[-1] == pytest.approx(Panel.RIGHT) and len(xs) == 5
    assert (drawn.panels[3].x, drawn.panels[3].y) == (0, Panel.HEIGHT)

    root = ElementTree.fromstring(svg(Results(tmp_path), "utd_mhad"))
    space = "{http://www.w3.org/2000/svg}"
    assert len(list(root.iter(f"{space}polyline"))) == 12
    assert {"lite_nano", "lite_nano, before"} <= {text.text for text in root.iter(f"{space}text")}
    assert int(root.get("width")) == Picture.COLUMNS * Panel.WIDTH


def test_a_kind_that_was_not_measured_has_no_panel(tmp_path):
    write_wild(tmp_path, "lite_nano", 50, rows=[row for row in ALL if "turned" not in row])
    assert len(picture(Results(tmp_path), "utd_mhad").panels) == 5


def test_just_table_draws_the_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_wild(tmp_path, "lite_nano", 50)
    assert call(table, "data=utd_mhad", "picture=a.svg", "results=.") == 0
    assert capsys.readouterr().out == "a.svg: drawn\n"
    assert Path("a.svg").read_text() == svg(Results(tmp_path), "utd_mhad")
    for words, says in ((["data=nw_ucla", "picture=b.svg"], "no wild-.*--nw_ucla-"), (["picture=b.svg"], "data="),
                        (["picture=b.png", "data=utd_mhad"], "ends in .svg")):
        with pytest.raises(ValueError, match=says):
            call(table, *words, "results=.")
    assert not list(Path().glob("b.*"))


def test_the_committed_pictures_are_those_of_the_results():
    page = (ROOT / "results" / "wild.md").read_text()
    for data in re.findall(r"\]\(wild-(\w+)\.svg\)", page):
        file = ROOT / "results" / f"wild-{data}.svg"
        want = svg(Results(ROOT / "results"), data)
        assert file.read_text() == want, f"run `just table data={data} picture=results/wild-{data}.svg`"


def test_the_study_compares_each_variant_with_the_default_seed_by_seed(tmp_path):
    def run(variant: str, data: str, seed: int, clean: float, mean: float) -> dict:
        words = [] if variant == "default" else ["view.noise=0"]
        return {"data": data, "variant": variant, "seed": seed, "words": words, "mean": mean, "top1": {"clean": clean}}

    runs = [run("quiet", "utd_mhad", 0, 91, 85), run("quiet", "utd_mhad", 1, 93, 87), run("quiet", "sbu", 0, 72, 50),
            run("default", "utd_mhad", 0, 90, 88), run("default", "utd_mhad", 1, 94, 89),
            run("default", "sbu", 0, 70, 60), run("half", "utd_mhad", 2, 50, 50)]
    (tmp_path / "wild-study.json").write_text(json.dumps({"runs": runs}))
    found = cells(block("wild-study", {}, Results(tmp_path)))
    assert found["variant"] == ["with", "UTD-MHAD, clean / mean", "SBU, clean / mean", "all", "seeds"]
    assert found["default"] == ["", "92.0 ± 2.8 / 88.5 ± 0.7", "70.0 / 60.0", "", "2"]
    # seed by seed: 91 - 90 and 93 - 94; 85 - 88 and 87 - 89
    assert found["quiet"] == ["`view.noise=0`", "+0.0 ± 1.4 / -2.5 ± 0.7", "+2.0 / -10.0", "-2.6", "2"]
    # a seed that the default has not
    assert found["half"] == ["`view.noise=0`", "", "", "", "1"]


def test_trainings_are_compared_by_both_scores(tmp_path):
    def run(top1: float, auroc: float, declined: float) -> dict:
        better = {"auroc": auroc + 0.1, "declined_at_95": declined + 10}
        return {"top1": top1, "cosine": {"auroc": auroc, "declined_at_95": declined}, "cosine and probability": better}

    rows = [{"training": "as shipped", "runs": [run(90, 0.8, 40), run(92, 0.7, 50)]}]
    (tmp_path / "decline-study.json").write_text(json.dumps({"trainings": {"rows": rows}}))
    found = cells(block("decline-trained", {}, Results(tmp_path)))
    assert found["as shipped"] == ["91.0 ± 1.4", "0.750 (45)", "0.850 (55)"]


def test_the_study_of_the_view_takes_the_mean_of_both_sides(tmp_path):
    def run(tested: str, clean: float, mean: float) -> dict:
        return {"data": "sbu", "recipe": "lite_nano", "words": "view.still=0", "trained": tested, "mean": mean,
                "top1": {"clean": clean}}

    (tmp_path / "view-study.json").write_text(json.dumps({"runs": [run("a", 80, 70), run("b", 90, 71)]}))
    found = cells(block("view-study", {}, Results(tmp_path)))
    assert found["SBU"] == ["`lite_nano`", "`view.still=0`", "a; b", "85.0", "70.5"]
