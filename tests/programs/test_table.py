"""`just table` on result files written by hand: every cell is a number that was put in, or empty."""
import csv
import json
import math
import re
import shutil
from pathlib import Path

import pytest

from phases import table
from phases.common.files import ROOT
from phases.reporting import blocks, measured
from phases.reporting import tables as tables_


def result(recipe: str, top1: float, seed: int = 0, data: str = "nw_ucla", split: str = "xview", folder: str = "",
           **more) -> None:
    """runs/<recipe>/<data>-<split>/seed<k>/result.json, as phase 1 leaves it."""
    path = Path("runs", folder or recipe, f"{data}-{split}", f"seed{seed}")
    path.mkdir(parents=True)
    command = f"just phase1 recipe={recipe} data={data} seed={seed}"
    r = {"recipe": recipe, "dataset": data, "split": split, "seed": seed, "command": command, "epochs": 5, "seconds": 9,
         "device": "a CPU", "commit": "abc", "params": 173826, "macs": 53976000, "top1": top1, "top5": 99.0}
    (path / "result.json").write_text(json.dumps({k: v for k, v in {**r, **more}.items() if v is not None}))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tables(capsys, *argv: str) -> dict[str, list[dict[str, str]]]:
    """The rows, by heading, of every table that is printed, by its title."""
    assert table.main(["table", *argv]) == 0
    out: dict[str, list] = {}
    for part in capsys.readouterr().out.split("## ")[1:]:
        title, _, *lines = part.strip().splitlines()
        head, rule, *rows = [[c.strip() for c in line[1:-1].split("|")] for line in lines]
        assert rule == ["---"] * len(head) and all(len(row) == len(head) for row in rows)
        out[title] = [dict(zip(head, row, strict=True)) for row in rows]
    return out


def row(rows: list[dict], name: str) -> dict[str, str]:
    return next(r for r in rows if name in (r.get("row"), r.get("model"), r.get("recipe")))


NTU = ("NTU-60 xsub", "NTU-60 xview", "NTU-120 xsub", "NTU-120 xset")


# --- ablation tables ---

def test_differences_are_of_the_means_to_the_baseline_and_to_full_where_both_were_measured(here, capsys):
    for seed, (base, one, full) in enumerate([(80.0, 82.5, 90.0), (84.0, 83.5, 91.0)]):
        result("L0", base, seed)
        result("L2", one, seed, top1_clean=one - 2)
        result("L5", full, seed)
    rows = tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"]
    base, one, full = (row(rows, name) for name in ("L0", "L2", "L5"))
    assert base["top-1"] == f"82.0 ± {math.sqrt(8):.1f}" and (base["to L0"], base["to L5"]) == ("", "-8.5 ± 2.1")
    assert one["top-1"] == "83.0 ± 0.7" and (one["to L0"], one["to L5"]) == ("+1.0 ± 2.1", "-7.5 ± 0.0")
    assert one["top-1 clean"] == "81.0 ± 0.7" and base["top-1 clean"] == ""
    assert (full["to L0"], full["to L5"]) == ("+8.5 ± 2.1", "") and full["epochs"] == "5"


def test_a_difference_is_paired_by_seed_and_without_shared_seeds_one_of_means(here, capsys):
    for seed, top1 in ((0, 80.0), (1, 90.0), (2, 70.0)):
        result("L0", top1, seed)
    for seed, top1 in ((1, 92.0), (0, 81.0), (7, 60.0)):
        result("L1", top1, seed)
    result("L2", 85.0, 9)
    rows = tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"]
    assert row(rows, "L1")["to L0"] == f"+1.5 ± {math.sqrt(0.5):.1f}" and row(rows, "L2")["to L0"] == "+5.0"
    result("L3", 93.0, 1)
    assert row(tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"], "L3")["to L0"] == "+3.0"


def test_runs_of_one_seed_count_once_in_a_difference_and_are_told_in_the_column_of_seeds():
    def entry(*runs: tuple[int, float]) -> dict:
        return {"recipe": "lite_small", "runs": [{"seed": seed, "top1": top1, "epochs": 5} for seed, top1 in runs]}

    twice, once = entry((0, 90.0), (0, 94.0), (1, 95.0)), entry((0, 91.0), (1, 92.0), (2, 99.0))
    assert measured.change(twice, once) == "+2.0 ± 1.4" and measured.change(once, twice) == "-2.0 ± 1.4"
    assert measured.sizes(twice)["seeds"] == "2 (3 runs)" and measured.sizes(once)["seeds"] == "3"
    once["runs"][0]["epochs"] = 6
    assert measured.change(twice, once) == "", "other epochs are another comparison"


@pytest.mark.parametrize(("points", "said"), [
    ([0.7, 1.4, 1.2], "helps"), ([-3.0, -2.3, -5.6], "hurts"), ([5.3, 0.5, 0.0], "cannot be told"),
    ([1.0, 3.0, 2.0], "helps"), ([0.9, 3.0, 2.0], "cannot be told"),  # a mean of just twice its spread, and of less
    ([6.0, 6.0], "too few seeds"), ([0.0, 0.0, 0.0], "cannot be told"), ([], "too few seeds")])
def test_what_paired_differences_show_needs_three_seeds_and_twice_their_spread(points, said):
    assert measured.verdict(points) == said


def test_the_short_form_of_the_rows_compares_each_with_the_row_that_it_changes_on_clean_clips():
    def entry(row: str, *top1: float, clean: float | None = None, data: str = "utd_mhad-xsub") -> dict:
        runs = [{"seed": s, "top1": x, "top1_clean": clean and clean + x, "epochs": 5} for s, x in enumerate(top1)]
        return {f"{row}--{data}": {"recipe": row, "runs": runs}}

    entries = entry("L0", 90, 90, 90) | entry("L5", 80, 80, 80) | entry("L2", 91, 91, 92) | entry("L6", 79, 79, 78)
    entries |= entry("L7", 81, 79, 80) | entry("L8", 70, 82, 80) | entry("L9", 99)
    entries |= entry("P0", 9, 9) | entry("P1", 5, 5)
    assert " ".join(blocks.verdicts(entries, {}, {}).split()) == (
        "- **UTD-MHAD**: helps: frame gate (L2, +1.3 ± 0.6); hurts: full LAST-Lite small (L5, -10.0 ± 0.0), without "
        "the DCT gate (L6, -1.3 ± 0.6); cannot be told: L7, L8; too few seeds: L9, P1. "
        "- **NW-UCLA**: nothing measured.")
    ucla = entry("L0", 5, 5, 5, clean=2.0, data="nw_ucla-xview") | entry("L3", 1, 1, 1, clean=9.0, data="nw_ucla-xview")
    assert blocks.verdicts(ucla, {}, {}).endswith(
        "**NW-UCLA**: helps: body-region shift instead of the random shift (L3, +3.0 ± 0.0).")


def test_the_ensemble_row_is_the_average_of_what_its_members_are_another_name_of():
    entries = {f"{name}--nw_ucla-xview": {"recipe": name} for name in ("base", "base-all")}
    assert measured.entry_of("B7", "nw_ucla", "xview", entries)["recipe"] == "base"
    assert measured.entry_of("B14", "nw_ucla", "xview", entries)["recipe"] == "base-all"
    entries["B14--nw_ucla-xview"] = {"recipe": "B14"}
    assert measured.entry_of("B14", "nw_ucla", "xview", entries)["recipe"] == "B14"
    assert measured.entry_of("B14", "utd_mhad", "xsub", entries) is None


def test_a_row_measured_on_another_view_has_no_difference_and_one_with_another_teacher_has(here, capsys):
    result("L0", 80.0)
    result("L1", 85.0, command="just phase1 recipe=L1 data=nw_ucla view.frames=16 seed=0")
    result("L10", 86.0, command="just phase2 recipe=L10 data=nw_ucla distil.teacher=lite_small seed=0")
    result("L11", 87.0, command="just phase2 recipe=L11 data=nw_ucla distil.teacher=lite_small train.lr=0.05 seed=0")
    result("L9", 88.0, command="just phase1 recipe=L9 data=nw_ucla train.swa_lr=0 seed=0")
    rows = tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"]
    assert [row(rows, name)["to L0"] for name in ("L1", "L9", "L10", "L11")] == ["", "+8.0", "+6.0", ""]


def test_seeds_that_start_each_from_a_run_of_its_own_are_one_row(here, capsys):
    name, encoder = "probe_linear--nw_ucla-xview", "runs/maskclr_small/nw_ucla-xview/seed"
    for seed, top1 in enumerate([70.0, 72.0]):
        command = f"just probe recipe=probe_linear init={encoder}{seed} seed={seed}"
        result("probe_linear", top1, seed, command=command)
    found = measured.gather(Path("runs"))[name]
    assert found["command"] == f"just probe recipe=probe_linear init={encoder}... seed=..." and len(found["runs"]) == 2
    command = f"just probe device=cuda gpus=1 seed=2 init={encoder}2 recipe=probe_linear"
    result("probe_linear", 71.0, 2, command=command)
    assert len(measured.gather(Path("runs"))[name]["runs"]) == 3, "neither the order of words nor the place matters"
    command = "just probe recipe=probe_linear init=runs/maskclr_nano/nw_ucla-xview/seed3 seed=3"
    result("probe_linear", 71.0, 3, command=command)
    with pytest.raises(ValueError, match="other seeds by .*maskclr_small"):
        measured.gather(Path("runs"))
    assert len(measured.gather(Path("runs"), strict=False)[name]["runs"]) == 3
    assert "left out: runs/probe_linear/nw_ucla-xview/seed3: was made by" in capsys.readouterr().err


def test_a_difference_to_a_row_that_was_not_measured_is_empty(here, capsys):
    result("L2", 83.0)
    cells = row(tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"], "L2")
    assert cells["top-1"] == "83.0" and cells["to L0"] == cells["to L5"] == "" and "top-1 clean" not in cells


def test_every_row_of_the_plan_is_listed_with_its_purpose_and_empty_cells_stay_empty(here, capsys):
    result("L2", 83.0)
    shown = tables(capsys)  # NTU-60, where nothing was measured
    for letter, last in (("B", 14), ("L", 12), ("P", 3)):
        rows = shown[f"Rows {letter}, NTU-60 xsub"]
        assert [r["row"] for r in rows] == [f"{letter}{i}" for i in range(last + 1)]
        for r in rows:
            path = ROOT / "recipes" / f"{r['row']}.toml"
            first = path.read_text().splitlines()[0] if path.exists() else ""
            assert bool(r["purpose"]) == path.exists() and r["purpose"] in first
            assert set(v for k, v in r.items() if k not in ("row", "purpose")) == {""}


def test_a_recipe_of_a_further_row_appears_by_itself(here, capsys, monkeypatch):
    (here / "recipes").mkdir()
    (here / "recipes" / "L13.toml").write_text('# L13: L5 + something.\nextends = "L5"\n')
    monkeypatch.setattr(tables_, "ROOT", here)
    result("L13", 70.0)
    rows = tables(capsys, "data=nw_ucla")["Rows L, NW-UCLA xview"]
    last = rows[-1]
    assert (last["row"], last["purpose"], last["top-1"]) == ("L13", "L5 + something", "70.0")
    assert rows[0]["purpose"] == ""


def test_synthetic_rows_are_marked_as_a_demonstration_everywhere(here, capsys):
    result("L0", 99.0, data="synthetic", split="xsub")
    result("lite_small", 98.0, data="synthetic", split="xsub")
    shown = tables(capsys, "data=synthetic")
    assert row(shown["Rows L, synthetic xsub"], "L0 (demonstration)")["top-1"] == "99.0"
    assert row(shown["LAST-Lite"], "LAST-Lite small (demonstration)")["synthetic xsub"] == "98.0"
    rows = shown["LAST-Lite"] + shown["LAST-Base"]
    assert not any(r["source"].startswith("published") for r in rows)  # nothing to compare with
    assert all("(demonstration)" in r["data set"] for r in tables(capsys)["Measured besides"])


# --- results tables ---

def test_streams_and_their_ensemble_count_parameters_once_or_all(here, capsys):
    result("base", 95.0, params=4_200_000, streams=1, macs=6_700_000_000)
    result("base", 94.0, folder="base-bone", params=4_200_000, macs=6_700_000_000)
    result("base", 97.0, folder="base-all", params=16_800_000, params_per_stream=4_200_000, streams=4,
           macs=26_800_000_000)
    result("lite_small", 90.0, streams=4)
    shown = tables(capsys, "data=nw_ucla")
    one, four = (row(shown["LAST-Base"], f"LAST-Base ({n}s)") for n in (1, 4))
    lite = row(shown["LAST-Lite"], "LAST-Lite small")
    cells = ("NW-UCLA xview", *measured.SIZES, "source")
    assert [one[c] for c in cells] == ["95.0", "1", "4.2M", "4.2M", "6.7G", "1", "recipe base"]
    assert [four[c] for c in cells] == ["97.0", "4", "4.2M", "16.8M", "26.8G", "1", "recipe base-all"]
    want = ["90.0", "4 in one network", "173.8K", "173.8K", "53.98M", "1", "recipe lite_small"]
    assert [lite[c] for c in cells] == want
    assert [r["recipe"] for r in shown["Measured besides"]] == ["base-bone"]


def test_a_lite_result_that_names_no_streams_has_four_in_one_network(here, capsys):
    result("lite_small", 90.0)
    assert row(tables(capsys, "data=nw_ucla")["LAST-Lite"], "LAST-Lite small")["streams"] == "4 in one network"


def test_the_row_b14_stands_for_the_ensemble_where_base_was_not_run(here, capsys):
    result("B14", 96.0, params=16_800_000, params_per_stream=4_200_000, streams=4)
    shown = tables(capsys, "data=nw_ucla")
    assert row(shown["LAST-Base"], "LAST-Base (4s)")["source"] == "recipe B14"
    assert row(shown["Rows B, NW-UCLA xview"], "B14")["top-1"] == "96.0" and "Measured besides" not in shown


def test_published_rows_name_their_source_and_only_measure_what_was_published(here, capsys):
    result("L0", 80.0)
    shown = tables(capsys)
    ctr = row(shown["LAST-Base"], "CTR-GCN (4s)")
    assert ctr["source"].startswith("published: ") and "arXiv:2107.12213" in ctr["source"]
    assert ctr["seeds"] == ctr["MACs per clip"] == ""
    assert [ctr[c] for c in NTU] == ["92.4", "96.8", "88.9", "90.6"]
    assert (ctr["parameters per stream"], ctr["parameters in total"]) == ("1.45M", "5.8M")
    b0 = row(shown["LAST-Lite"], "EfficientGCN-B0")
    assert b0["NTU-60 xsub"] == "90.2" and b0["parameters in total"] == "290K"
    assert row(shown["LAST-Base"], "HI-GCN")["NTU-60 xview"] == ""
    ucla = tables(capsys, "data=nw_ucla")
    assert row(ucla["LAST-Base"], "CTR-GCN (4s)")["NW-UCLA xview"] == "96.5"
    assert "EfficientGCN-B0" not in [r["model"] for r in ucla["LAST-Lite"]]  # it publishes nothing for this data set


def test_all_four_ntu_splits_stand_in_one_row_and_split_picks_one(here, capsys):
    for data, split, top1 in (("ntu60", "xsub", 91.0), ("ntu60", "xview", 95.0), ("ntu120", "xset", 88.0)):
        result("base", top1, data=data, split=split)
    result("base", 92.0, seed=1, data="ntu60", split="xsub")
    base = row(tables(capsys)["LAST-Base"], "LAST-Base (1s)")
    assert [base[c] for c in (*NTU, "seeds")] == ["91.5 ± 0.7", "95.0", "", "88.0", "2, 1"]
    only = row(tables(capsys, "split=xview")["LAST-Base"], "LAST-Base (1s)")
    assert only["NTU-60 xview"] == "95.0" and "NTU-60 xsub" not in only


def test_real_file_sizes_and_int8_accuracy_come_from_the_export_report(here, capsys):
    result("lite_small", 95.0)
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
    assert table.main(["table", "format=csv"]) == 0
    line = next(csv.DictReader(capsys.readouterr().out.splitlines()))
    cells = ("int8 bytes", "int8 drop_ci95", "w8 agreement", "latency int8")
    assert [line[c] for c in cells] == ["383001", "[-0.2, 0.6]", "99.8", "1.1"]


# --- forms ---

def test_csv_parses_back_to_every_number(here):
    for seed, top1 in enumerate((90.0, 94.0, 92.5)):
        result("lite_small", top1, seed, top1_clean=top1 - 1)
    result("L0", 99.0, data="synthetic", split="xsub", params=None)
    assert table.main(["table", "format=csv", "out=all.csv"]) == 0
    with open("all.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    ours = {r["kind"]: r for r in rows}
    got = ours["measured"]
    mean = (90 + 94 + 92.5) / 3
    sd = math.sqrt(((90 - mean) ** 2 + (94 - mean) ** 2 + (92.5 - mean) ** 2) / 2)
    assert float(got["top1"]) == pytest.approx(mean) and float(got["top1 sd"]) == pytest.approx(sd)
    assert float(got["top1_clean"]) == pytest.approx(mean - 1)
    assert got["top1 by seed"] == "90.0; 94.0; 92.5" and got["seeds"] == got["runs"] == "3"
    cells = ("params", "params_per_stream", "streams", "macs")
    assert [got[c] for c in cells] == ["173826", "173826", "4", "53976000"]
    demo = ours["demonstration"]
    assert demo["recipe"] == "L0" and demo["params"] == demo["top1_clean"] == ""
    papers = {(r["recipe"], r["dataset"], r["split"]): r for r in rows if r["kind"] == "published"}
    assert float(papers["HD-GCN (6s)", "ntu120", "xset"]["top1"]) == 91.6 and ("HI-GCN", "ntu60", "xview") not in papers
    assert len(rows) == len({(r["recipe"], r["dataset"], r["split"]) for r in rows})


def test_a_file_takes_the_place_of_standard_output_whole(here, capsys):
    result("L0", 80.0)
    table.main(["table", "data=nw_ucla"])
    printed = capsys.readouterr().out
    assert table.main(["table", "data=nw_ucla", "out=made/tables.md"]) == 0 and capsys.readouterr().out == ""
    assert (here / "made/tables.md").read_text() == printed
    assert [p.name for p in (here / "made").iterdir()] == ["tables.md"]


def test_show_picks_tables_and_the_rest_is_what_they_leave(here, capsys):
    result("L0", 80.0)
    assert list(tables(capsys, "data=nw_ucla", "show=P,L")) == ["Rows P, NW-UCLA xview", "Rows L, NW-UCLA xview"]
    assert row(tables(capsys, "data=nw_ucla", "show=P,rest")["Measured besides"], "L0")["top-1"] == "80.0"
    assert "Measured besides" not in tables(capsys, "data=nw_ucla")


def test_exports_are_collected_into_the_file_the_table_reads(here, capsys):
    report = {"recipe": "lite_nano", "dataset": "nw_ucla", "split": "xview", "params": 48042,
              "fp32": {"top1": 92.5, "bytes": 226915}, "w8": {"top1": 92.5, "bytes": 122719, "drop": 0.0},
              "int8": {"top1": 92.2, "bytes": 144708, "drop": 0.3, "drop_ci95": [-1.0, 1.5]}}
    for folder, data, split in (("a", "nw_ucla", "xview"), ("b", "synthetic", "xview"), ("c", "nw_ucla", "all")):
        (here / "exports" / folder).mkdir(parents=True)
        there = json.dumps({**report, "dataset": data, "split": split})
        (here / "exports" / folder / "report.json").write_text(there)
    assert table.main(["collect"]) == 0
    assert [p.name for p in (here / "results").iterdir()] == ["lite_nano--nw_ucla-export.json"]
    assert json.loads((here / "results" / "lite_nano--nw_ucla-export.json").read_text()) == report
    capsys.readouterr()


def test_ensembles_are_collected_with_their_streams_and_shown_from_the_file(here, capsys):
    result("base", 97.0, folder="base-all", params=16_800_000, params_per_stream=4_200_000, streams=4)
    before = tables(capsys, "data=nw_ucla")
    table.main(["collect"])
    stored = json.loads((here / "results/base-all--nw_ucla-xview.json").read_text())
    assert stored["recipe"] == "base-all" and stored["streams"] == 4 and stored["params_per_stream"] == 4_200_000
    capsys.readouterr()
    assert tables(capsys, "data=nw_ucla", "runs=gone") == before


def test_a_run_folder_that_was_moved_aside_is_left_out(here, capsys):
    result("L0", 80.0)
    result("L0", 10.0, folder="L0-old")
    shutil.copytree(here / "runs/L0-old/nw_ucla-xview/seed0", here / "runs/L0/nw_ucla-xview/seed0.old")
    shutil.copytree(here / "runs/L0-old/nw_ucla-xview", here / "runs/L0/nw_ucla-xview.old")
    assert [r for rows in tables(capsys, "data=nw_ucla").values() for r in rows if "10.0" in r.values()] == []


def test_a_run_on_all_clips_has_no_accuracy_to_show(here, capsys):
    result("L0", 80.0)
    result("L0", 99.0, split="all")
    assert list(measured.gather(here / "runs")) == ["L0--nw_ucla-xview"]


@pytest.mark.parametrize("argv, words", [
    (["data=nw_ulca"], "did you mean 'nw_ucla'?"), (["show=bas"], "did you mean 'base'?"),
    (["format=cvs"], "did you mean 'csv'?"), (["splt=x"], "did you mean 'split'?")])
def test_bad_input_is_one_line_with_the_nearest_right_thing(argv, words, here):
    result("L0", 80.0)
    with pytest.raises(ValueError) as e:
        table.main(["table", *argv])
    assert words in str(e.value) and "\n" not in str(e.value)


def test_a_result_without_what_names_it_is_reported(here):
    result("L0", 80.0, split="xview", dataset=None)
    with pytest.raises(ValueError, match="result.json: lacks dataset"):
        table.main(["table"])


# --- blocks of the READMEs ---

READMES = ("README.md", "results/README.md", "results/networks/README.md")


@pytest.mark.parametrize("name", READMES)
def test_the_numbers_of_a_readme_are_those_of_the_results(name):
    text = (ROOT / name).read_text()
    assert len(blocks.BLOCK.findall(text)) == text.count("<!-- table:") == text.count("<!-- end -->") > 0
    results = ROOT / "results"
    assert blocks.filled(text, *measured.stored(results), results) == text, f"run `just table into={name}`"


def test_no_measured_number_of_the_readme_is_typed_by_hand():
    prose = blocks.BLOCK.sub("", (ROOT / "README.md").read_text())
    assert re.findall(r"\d+\.\d+", prose) == ["3.11"], "outside the blocks only Python's version has a point"
    assert "%" not in prose


def test_the_readme_is_a_shop_window():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 120
    shown = "\n".join(lines[:25])
    picture = ROOT / re.search(r"!\[[^]]+\]\(([^)]+)\)", shown)[1]
    assert picture.stat().st_size <= 400_000 and "just demo" in shown and "just test" in shown
    assert shown.count("- **") == 3, "three numbers on the first screen"


def test_a_block_is_rendered_from_the_files_and_the_rest_of_the_page_stays(here, capsys):
    (here / "page.md").write_text("# A\n<!-- table: exports -->\nold\n<!-- end -->\ntext 1.0\n")
    argv = ["table", f"results={ROOT / 'results'}", "into=page.md"]
    assert table.main(argv) == 0 and capsys.readouterr().out == "page.md: rendered\n"
    new = (here / "page.md").read_text()
    assert new.startswith("# A\n<!-- table: exports -->\n| recipe |") and new.endswith("|\n<!-- end -->\ntext 1.0\n")
    assert table.main(argv) == 0 and (here / "page.md").read_text() == new
    assert "as results/ say" in capsys.readouterr().out


def test_an_unknown_block_is_named_and_the_page_stays(here):
    (here / "page.md").write_text("<!-- table: export -->\n<!-- end -->\n")
    with pytest.raises(ValueError, match="did you mean 'exports'"):
        table.main(["table", f"results={ROOT / 'results'}", "into=page.md"])
    assert (here / "page.md").read_text() == "<!-- table: export -->\n<!-- end -->\n"


@pytest.mark.parametrize("text", [
    "<!-- table: teacher-share -->\nMy prose\n<!-- table: exports -->\nold\n<!-- end -->\n",
    "<!-- table: exports data -->\nold\n<!-- end -->\n", "<!-- table: exports -->\nold\n"])
def test_a_marker_that_cannot_be_rendered_is_named_and_the_page_stays(text, here):
    (here / "page.md").write_text(text)
    with pytest.raises(ValueError, match=re.escape(text.splitlines()[0])):
        table.main(["table", f"results={ROOT / 'results'}", "into=page.md"])
    assert (here / "page.md").read_text() == text


def test_the_table_of_faults_counts_what_the_files_say(tmp_path, monkeypatch):
    fuzz = {"tried": 30, "targets": {"ntu": {"tried": 10, "stored": 4, "refused": 5, "faults": 1},
                                     "store meta.json": {"tried": 20, "stored": 20, "refused": 0, "faults": 0}},
            "faults": {"ntu-1": {"target": "ntu", "what": "x", "mended": True},
                       "ntu-2": {"target": "ntu", "what": "y", "mended": False}}}
    torture = {"phases": {"p1_train": {"ways": {"kill": 3, "int": 1, "full": 2, "link": 1}, "ended": 4, "faults": []}}}
    counts = {"xsub": {"train": 1000, "test": 20}}
    ntu = {"command": "just torture ntu=true",
           "data sets": [{"dataset": "ntu60", "clips": 1020, "counts": counts, "peak MB": 9}]}
    (tmp_path / "results").mkdir()
    for name, value in (("fuzz", fuzz), ("torture", torture), ("ntu-rehearsal", ntu)):
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps(value))
    monkeypatch.setattr(blocks, "ROOT", tmp_path)
    lines = blocks.robust({}, {}, {}).splitlines()[2:]
    assert lines[0] == "| ntu | `just fuzz targets=ntu` | 10 inputs | 4 stored, 5 refused | 2 | 1 |"
    assert lines[1].startswith("| store meta.json | `just fuzz 'targets=store meta.json'` | 20 inputs |")
    assert lines[2] == "| **all inputs** | `just fuzz` | 30 inputs |  | 2 | 1 |"
    assert lines[3].startswith("| phase 1 | `just torture phases=1` | 3 kills, 1 other signals, 2 faults of the disk, "
                               "1 others | 4 runs")
    assert "xsub 1,000 + 20; at most 9 MB" in lines[4]
