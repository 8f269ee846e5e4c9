"""`just table` on result files written by hand: every cell is a number that was put in, or empty."""
import csv
import json
import math
import shutil

import pytest

from phases import collect, table
from phases.common.files import ROOT
from phases.reporting import tables as tables_
from phases.reporting.cells import SIZES
from tests.helpers.programs import call
from tests.helpers.results import write_result


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tables(capsys, *words: str) -> dict[str, list[dict[str, str]]]:
    """The rows, by heading, of every table that is printed, by its title; of all tables unless `words` name some."""
    words = words if any(word.startswith("show=") for word in words) else (*words, "show=all")
    assert call(table, *words) == 0
    found: dict[str, list] = {}
    for part in capsys.readouterr().out.split("## ")[1:]:
        title, _, *lines = part.strip().splitlines()
        table_lines = [line for line in lines if line.startswith("|")]
        head, rule, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table_lines]
        assert rule == ["---"] * len(head) and all(len(row) == len(head) for row in rows)
        found[title] = [dict(zip(head, row, strict=True)) for row in rows]
    return found


def row(rows: list[dict], name: str) -> dict[str, str]:
    return next(r for r in rows if name in (r.get("row"), r.get("model"), r.get("recipe")))


NTU = ("NTU-60 xsub", "NTU-60 xview", "NTU-120 xsub", "NTU-120 xset")


# ---------------------------------------------------------------------------------------------------------------------
# Ablation tables
# ---------------------------------------------------------------------------------------------------------------------

def test_differences_are_to_the_baseline_and_to_full(here, capsys):
    for seed, (base, one, full) in enumerate([(80.0, 82.5, 90.0), (84.0, 83.5, 91.0)]):
        write_result("L0", base, seed)
        write_result("L2", one, seed, top1_clean=one - 2)
        write_result("L5", full, seed)
    rows = tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"]
    base, one, full = (row(rows, name) for name in ("L0", "L2", "L5"))
    assert base["top-1"] == f"82.0 ± {math.sqrt(8):.1f}" and (base["to L0"], base["to L5"]) == ("", "-8.5 ± 2.1")
    assert one["top-1"] == "83.0 ± 0.7" and (one["to L0"], one["to L5"]) == ("+1.0 ± 2.1", "-7.5 ± 0.0")
    assert one["top-1 clean"] == "81.0 ± 0.7" and base["top-1 clean"] == ""
    assert (full["to L0"], full["to L5"]) == ("+8.5 ± 2.1", "") and full["epochs"] == "5"


def test_differences_are_paired_by_seed_else_of_the_means(here, capsys):
    for seed, top1 in ((0, 80.0), (1, 90.0), (2, 70.0)):
        write_result("L0", top1, seed)
    for seed, top1 in ((1, 92.0), (0, 81.0), (7, 60.0)):
        write_result("L1", top1, seed)
    write_result("L2", 85.0, 9)
    rows = tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"]
    assert row(rows, "L1")["to L0"] == f"+1.5 ± {math.sqrt(0.5):.1f}" and row(rows, "L2")["to L0"] == "+5.0"
    write_result("L3", 93.0, 1)
    assert row(tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"], "L3")["to L0"] == "+3.0"


def test_another_view_is_not_compared_another_teacher_is(here, capsys):
    write_result("L0", 80.0)
    for name, top1, command in (
            ("L1", 85.0, "just phase1 recipe=L1 data=nw_ucla view.frames=16 seed=0"),
            ("L10", 86.0, "just phase2 recipe=L10 data=nw_ucla distil.teacher=lite_small seed=0"),
            ("L11", 87.0, "just phase2 recipe=L11 data=nw_ucla distil.teacher=lite_small train.lr=0.05 seed=0"),
            ("L9", 88.0, "just phase1 recipe=L9 data=nw_ucla train.swa_lr=0 seed=0")):
        write_result(name, top1, command=command)
    rows = tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"]
    assert [row(rows, name)["to L0"] for name in ("L1", "L9", "L10", "L11")] == ["", "+8.0", "+6.0", ""]


def test_a_difference_to_a_row_without_runs_is_empty(here, capsys):
    write_result("L2", 83.0)
    cells = row(tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"], "L2")
    assert cells["top-1"] == "83.0" and cells["to L0"] == cells["to L5"] == "" and "top-1 clean" not in cells


def test_every_row_of_the_plan_is_listed_with_its_purpose(here, capsys):
    write_result("L2", 83.0)
    shown = tables(capsys)  # NTU-60, where nothing was measured
    for letter, last in (("B", 14), ("L", 12), ("P", 3)):
        rows = shown[f"Rows {letter}, NTU-60 xsub"]
        assert [r["row"] for r in rows] == [f"{letter}{i}" for i in range(last + 1)]
        for r in rows:
            path = ROOT / "recipes" / f"{r['row']}.toml"
            first = path.read_text().splitlines()[0] if path.exists() else ""
            assert bool(r["purpose"]) == path.exists() and r["purpose"] in first
            assert {value for key, value in r.items() if key not in ("row", "purpose")} == {""}


def test_a_recipe_of_a_further_row_appears_by_itself(here, capsys, monkeypatch):
    (here / "recipes").mkdir()
    (here / "recipes" / "L13.toml").write_text('# L13: L5 + something.\nextends = "L5"\n')
    monkeypatch.setattr(tables_, "ROOT", here)
    write_result("L0", 60.0)
    write_result("L13", 70.0)
    rows = tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"]
    last = rows[-1]
    assert (last["row"], last["purpose"], last["top-1"]) == ("L13", "L5 + something", "70.0")
    assert rows[0]["purpose"] == ""


def test_synthetic_rows_are_marked_as_a_demonstration(here, capsys):
    write_result("L0", 99.0, data="synthetic", split="xsub")
    write_result("lite_small", 98.0, data="synthetic", split="xsub")
    shown = tables(capsys, "data=synthetic")
    assert row(shown["Rows L, synthetic xsub"], "L0 (demonstration)")["top-1"] == "99.0"
    assert row(shown["LAST-Lite"], "LAST-Lite small (demonstration)")["synthetic xsub"] == "98.0"
    assert not any(r["source"].startswith("published") for r in shown["LAST-Lite"])  # nothing to compare with
    assert "LAST-Base" not in shown
    assert all("(demonstration)" in r["data set"] for r in tables(capsys)["Measured besides"])


# ---------------------------------------------------------------------------------------------------------------------
# Results tables
# ---------------------------------------------------------------------------------------------------------------------

def test_parameters_of_streams_and_of_their_ensemble(here, capsys):
    write_result("base", 95.0, params=4_200_000, streams=1, macs=6_700_000_000)
    write_result("base", 94.0, folder="base-bone", params=4_200_000, macs=6_700_000_000)
    write_result("base", 97.0, folder="base-all", params=16_800_000, params_per_stream=4_200_000, streams=4,
                 macs=26_800_000_000)
    write_result("lite_small", 90.0, streams=4)
    shown = tables(capsys, "data=nw_ucla")
    one, four = (row(shown["LAST-Base"], f"LAST-Base ({n}s)") for n in (1, 4))
    lite = row(shown["LAST-Lite"], "LAST-Lite small")
    cells = ("NW-UCLA xview", *SIZES, "source")
    assert [one[c] for c in cells] == ["95.0", "1", "4.2M", "4.2M", "6.7G", "1", "recipe base"]
    assert [four[c] for c in cells] == ["97.0", "4", "4.2M", "16.8M", "26.8G", "1", "recipe base-all"]
    want = ["90.0", "4 in one network", "173.8K", "173.8K", "53.98M", "1", "recipe lite_small"]
    assert [lite[c] for c in cells] == want
    assert [r["recipe"] for r in shown["Measured besides"]] == ["base-bone"]


@pytest.mark.parametrize("streams", [None, 2])
def test_a_lite_result_has_its_streams_in_one_network(streams, here, capsys):
    """All four where it does not say, as figures of before December 2026."""
    write_result("lite_small", 90.0, streams=streams)
    found = row(tables(capsys, "data=nw_ucla")["LAST-Lite"], "LAST-Lite small")["streams"]
    assert found == f"{streams or 4} in one network"


def test_b14_is_the_ensemble_where_base_was_not_run(here, capsys):
    write_result("B14", 96.0, params=16_800_000, params_per_stream=4_200_000, streams=4)
    shown = tables(capsys, "data=nw_ucla")
    assert row(shown["LAST-Base"], "LAST-Base (4s)")["source"] == "recipe B14"
    assert row(shown["Rows B, NW-UCLA xview"], "B14")["top-1"] == "96.0" and "Measured besides" not in shown


def test_published_rows_have_what_was_published_and_its_source(here, capsys):
    write_result("L0", 80.0)
    shown = tables(capsys)
    ctr = row(shown["LAST-Base"], "CTR-GCN (4s)")
    assert ctr["source"].startswith("published: ") and "arXiv:2107.12213" in ctr["source"]
    assert ctr["seeds"] == ctr["MACs per clip"] == ""
    assert [ctr[c] for c in NTU] == ["92.4", "96.8", "88.9", "90.6"]
    assert (ctr["parameters per stream"], ctr["parameters in total"]) == ("1.45M", "5.8M")
    b0 = row(shown["LAST-Lite"], "EfficientGCN-B0")
    assert b0["NTU-60 xsub"] == "90.2" and b0["parameters in total"] == "290K"
    assert row(shown["LAST-Base"], "HI-GCN")["NTU-60 xview"] == ""
    write_result("lite_small", 90.0)
    ucla = tables(capsys, "data=nw_ucla")
    assert row(ucla["LAST-Base"], "CTR-GCN (4s)")["NW-UCLA xview"] == "96.5"
    assert "EfficientGCN-B0" not in [r["model"] for r in ucla["LAST-Lite"]]  # it publishes nothing for this data set


def test_ntu_has_its_four_splits_in_one_row_or_one_of_them(here, capsys):
    for data, split, top1 in (("ntu60", "xsub", 91.0), ("ntu60", "xview", 95.0), ("ntu120", "xset", 88.0)):
        write_result("base", top1, data=data, split=split)
    write_result("base", 92.0, seed=1, data="ntu60", split="xsub")
    base = row(tables(capsys)["LAST-Base"], "LAST-Base (1s)")
    assert [base[c] for c in (*NTU, "seeds")] == ["91.5 ± 0.7", "95.0", "", "88.0", "2, 1"]
    only = row(tables(capsys, "split=xview")["LAST-Base"], "LAST-Base (1s)")
    assert only["NTU-60 xview"] == "95.0" and "NTU-60 xsub" not in only


def test_file_sizes_come_from_the_export_report(here, capsys):
    write_result("lite_small", 95.0)
    (here / "results").mkdir()
    export = {
        "recipe": "lite_small", "dataset": "nw_ucla", "params": 173826, "command": "just phase4 …", "device": "a CPU",
        "commit": "abc", "fp32": {"top1": 95.04, "bytes": 820123}, "latency": {"int8": 1.1},
        "int8": {"top1": 94.83, "bytes": 383001, "drop": 0.21, "drop_ci95": [-0.2, 0.6], "agreement": 98.9},
        "w8": {"top1": 95.04, "bytes": 285002, "drop": 0.0, "drop_ci95": None, "agreement": 99.8, "max_diff": 0.1}}
    (here / "results" / "lite_small--nw_ucla-export.json").write_text(json.dumps(export))
    lite = row(tables(capsys, "data=nw_ucla")["LAST-Lite"], "LAST-Lite small")
    assert (lite["FP32 bytes"], lite["w8 bytes"], lite["w8 drop"]) == ("820123", "285002", "0.0")
    assert (lite["INT8 bytes"], lite["INT8 top-1"], lite["INT8 drop"]) == ("383001", "94.8", "0.2 (-0.2 to 0.6)")
    assert row(tables(capsys)["LAST-Lite"], "LAST-Lite small")["INT8 bytes"] == ""  # nothing exported for NTU-60

    assert call(table, "format=csv") == 0
    line = next(csv.DictReader(capsys.readouterr().out.splitlines()))
    cells = ("int8 bytes", "int8 drop_ci95", "w8 agreement", "latency int8")
    assert [line[c] for c in cells] == ["383001", "[-0.2, 0.6]", "99.8", "1.1"]


# ---------------------------------------------------------------------------------------------------------------------
# Forms
# ---------------------------------------------------------------------------------------------------------------------

def test_csv_parses_back_to_every_number(here):
    for seed, top1 in enumerate((90.0, 94.0, 92.5)):
        write_result("lite_small", top1, seed, top1_clean=top1 - 1)
    write_result("L0", 99.0, data="synthetic", split="xsub", params=None)
    assert call(table, "format=csv", "out=all.csv") == 0
    with open("all.csv", newline="") as f:
        rows = list(csv.DictReader(f))

    # the mean over seeds, and each of them
    ours = {r["kind"]: r for r in rows}
    got = ours["measured"]
    mean = (90 + 94 + 92.5) / 3
    sd = math.sqrt(((90 - mean) ** 2 + (94 - mean) ** 2 + (92.5 - mean) ** 2) / 2)
    assert float(got["top1"]) == pytest.approx(mean) and float(got["top1 sd"]) == pytest.approx(sd)
    assert float(got["top1_clean"]) == pytest.approx(mean - 1)
    assert got["top1 by seed"] == "90.0; 94.0; 92.5" and got["seeds"] == got["runs"] == "3"
    cells = ("params", "params_per_stream", "streams", "macs")
    assert [got[c] for c in cells] == ["173826", "173826", "4", "53976000"]

    # other kinds of rows
    demo = ours["demonstration"]
    assert demo["recipe"] == "L0" and demo["params"] == demo["top1_clean"] == ""
    papers = {(r["recipe"], r["dataset"], r["split"]): r for r in rows if r["kind"] == "published"}
    assert float(papers["HD-GCN (6s)", "ntu120", "xset"]["top1"]) == 91.6 and ("HI-GCN", "ntu60", "xview") not in papers
    assert len(rows) == len({(r["recipe"], r["dataset"], r["split"]) for r in rows})


def test_a_file_takes_the_place_of_standard_output_whole(here, capsys):
    write_result("L0", 80.0)
    call(table, "data=nw_ucla")
    printed = capsys.readouterr().out
    assert call(table, "data=nw_ucla", "out=made/tables.md") == 0 and capsys.readouterr().out == ""
    assert (here / "made/tables.md").read_text() == printed
    assert [p.name for p in (here / "made").iterdir()] == ["tables.md"]


def test_show_picks_tables_and_the_rest_is_what_they_leave(here, capsys):
    write_result("L0", 80.0)
    write_result("P1", 70.0)
    assert list(tables(capsys, "data=nw_ucla", "show=P,L")) == ["Rows P, NW-UCLA xview", "Rows L, NW-UCLA xview"]
    assert row(tables(capsys, "data=nw_ucla", "show=P,rest")["Measured besides"], "L0")["top-1"] == "80.0"
    assert "Measured besides" not in tables(capsys, "data=nw_ucla")


@pytest.fixture
def mine(here, monkeypatch):
    """Runs of Northwestern-UCLA, and two of a data set of the user's own."""
    monkeypatch.setattr(tables_, "default_split", lambda data: "xsub" if data == "mine" else "xview")
    for recipe in ("lite_small", "L0", "L2", "B3", "base"):
        write_result(recipe, 90.0)
    write_result("lite_nano", 70.0, data="mine", split="xsub")
    write_result("probe_1", 60.0, data="mine", split="all subjects")


def test_a_data_set_by_name_lists_only_rows_with_its_figures(mine, capsys):
    shown = tables(capsys, "data=mine")
    assert list(shown) == ["LAST-Lite", "Measured besides"]
    assert [r["mine xsub"] for r in shown["LAST-Lite"]] == ["70.0"]
    assert [(r["recipe"], r["data set"]) for r in shown["Measured besides"]] == [("probe_1", "mine")]
    assert call(table, "data=mine") == 0 and capsys.readouterr().err.startswith("2 measured")

    # every number of it
    assert call(table, "data=mine", "format=csv") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(r["recipe"], r["top1"]) for r in rows] == [("lite_nano", "70.0"), ("probe_1", "60.0")]


def test_the_best_rows_of_a_data_set_come_first(mine, capsys):
    for number in range(12):
        write_result(f"L{number}", 60.0 + number, data="mine", split="xsub", params=1000 * number)
    write_result("L3", 65.0, data="mine", split="other", params=3000)
    [(title, rows)] = tables(capsys, "data=mine", "show=best").items()
    assert title == "mine, the best 10 of 15"
    assert [r["recipe"] for r in rows] == ["L11", "L10", "lite_nano", "L9", "L8", "L7", "L6", "L3", "L5", "L4"]
    assert rows[0] | {"top-1": "71.0", "parameters in total": "11K", "split": "xsub"} == rows[0]
    assert [r["split"] for r in rows if r["recipe"] == "L3"] == ["other"]

    # by default, with what prints the others; of few there are no others
    assert call(table, "data=mine") == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].startswith("show=all prints the others") and len(printed.splitlines()) == 16
    assert call(table, "data=nw_ucla") == 0 and "show=all" not in capsys.readouterr().out
    [(title, rows)] = tables(capsys, "data=mine", "split=other", "show=best").items()
    assert title == "mine" and len(rows) == 1
    with pytest.raises(ValueError, match="split = 'xview': nothing was measured on it; there are runs of all subjects, "
                                         "other, xsub"):
        call(table, "data=mine", "split=xview")


@pytest.mark.parametrize("words, named", [
    (("data=utd_mhad", "show=L"), "there are runs of mine, nw_ucla"),
    (("data=utd_mhad_2", "format=csv"), "there are runs of mine, nw_ucla"),
    (("data=mine", "show=L,P"), "show = 'L,P': none of these rows was measured on mine")])
def test_tables_without_a_row_are_one_line(mine, words, named):
    with pytest.raises(ValueError, match=named) as e:
        call(table, *words)
    assert "\n" not in str(e.value)


# ---------------------------------------------------------------------------------------------------------------------
# Collected files
# ---------------------------------------------------------------------------------------------------------------------

def test_exports_are_collected_into_the_file_the_table_reads(here):
    report = {"recipe": "lite_nano", "dataset": "nw_ucla", "split": "xview", "params": 48042,
              "fp32": {"top1": 92.5, "bytes": 226915}, "w8": {"top1": 92.5, "bytes": 122719, "drop": 0.0},
              "int8": {"top1": 92.2, "bytes": 144708, "drop": 0.3, "drop_ci95": [-1.0, 1.5]}}
    for folder, data, split in (("a", "nw_ucla", "xview"), ("b", "synthetic", "xview"), ("c", "nw_ucla", "all")):
        (here / "exports" / folder).mkdir(parents=True)
        there = json.dumps({**report, "dataset": data, "split": split})
        (here / "exports" / folder / "report.json").write_text(there)
    assert not call(collect)
    assert [p.name for p in (here / "results").iterdir()] == ["lite_nano--nw_ucla-export.json"]
    assert json.loads((here / "results" / "lite_nano--nw_ucla-export.json").read_text()) == report


def test_exports_in_their_place_count_before_older_ones(here, capsys):
    def export(folder: str, top1: float, data: str = "nw_ucla") -> None:
        path = here / "exports" / folder / "report.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"recipe": "lite_nano", "dataset": data, "split": "xview", "fp32": {"top1": top1}}))

    export("lite_nano", 80.0)            # as phase 4 wrote it once
    export("utd_mhad/lite_nano", 70.0, "utd_mhad")
    export("seed2/lite_nano", 60.0)      # of exports=exports/seed2 at that time
    found = here / "results" / "lite_nano--nw_ucla-export.json"
    assert not call(collect) and json.loads(found.read_text())["fp32"]["top1"] == 80.0
    assert {p.name for p in found.parent.iterdir()} == {found.name, "lite_nano--utd_mhad-export.json"}

    export("nw_ucla/lite_nano", 90.0)
    capsys.readouterr()
    assert not call(collect) and json.loads(found.read_text())["fp32"]["top1"] == 90.0
    assert capsys.readouterr().err == ("left out: exports/lite_nano: exports/nw_ucla/lite_nano is of the same recipe "
                                       "and data set\n")


def test_ensembles_are_collected_with_their_streams(here, capsys):
    write_result("base", 97.0, folder="base-all", params=16_800_000, params_per_stream=4_200_000, streams=4)
    before = tables(capsys, "data=nw_ucla")
    call(collect)
    stored = json.loads((here / "results/base-all--nw_ucla-xview.json").read_text())
    assert stored["recipe"] == "base-all" and stored["streams"] == 4 and stored["params_per_stream"] == 4_200_000
    capsys.readouterr()
    assert tables(capsys, "data=nw_ucla", "runs=gone") == before


def test_a_run_folder_that_was_moved_aside_is_left_out(here, capsys):
    write_result("L0", 80.0)
    write_result("L0", 10.0, folder="L0-old")
    shutil.copytree(here / "runs/L0-old/nw_ucla-xview/seed0", here / "runs/L0/nw_ucla-xview/seed0.old")
    shutil.copytree(here / "runs/L0-old/nw_ucla-xview", here / "runs/L0/nw_ucla-xview.old")
    assert [r for rows in tables(capsys, "data=nw_ucla").values() for r in rows if "10.0" in r.values()] == []


# ---------------------------------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------------------------------

def test_an_unknown_table_is_one_line_with_the_nearest():
    with pytest.raises(ValueError) as e:
        call(table, "show=bas")
    assert str(e.value) == "show = 'bas', did you mean 'base'? (known: B, L, P, all, base, best, lite, rest)"


@pytest.mark.parametrize("word, named", [
    ("data=nw_ulca", "runs of nw_ucla"), ("format=cvs", "'csv'"), ("splt=x", "'split'"), ("show=", "show"),
    ("show=L,show", "'show'")])
def test_bad_input_is_named_in_one_line(word, named, here):
    write_result("L0", 80.0)
    with pytest.raises(ValueError, match=named) as e:
        call(table, word)
    assert "\n" not in str(e.value)


def test_blocks_are_not_made_without_result_files(here):
    with pytest.raises(ValueError, match="results"):
        call(table, "into=page.md", "results=")


def test_a_page_that_is_not_there_is_named_with_the_nearest(here):
    (here / "speed.md").write_text("# Speed")
    with pytest.raises(ValueError, match="into = sped.md: no such file, did you mean 'speed.md'"):
        call(table, "into=sped.md")
    with pytest.raises(ValueError, match=r"into = no/such\.md: no such file$"):
        call(table, "into=no/such.md")


def test_a_result_without_what_names_it_is_reported(here):
    write_result("L0", 80.0, split="xview", dataset=None)
    with pytest.raises(ValueError, match="result.json: lacks dataset"):
        call(table)
