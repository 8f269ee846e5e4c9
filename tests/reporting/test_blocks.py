"""Blocks of Markdown pages: the committed pages say what the result files say."""
import ast
import json
import re

import pytest

from phases import table
from phases.common.files import ROOT
from phases.reporting.blocks import BLOCK, BLOCKS, block, render_blocks
from phases.reporting.measured import Results
from tests.helpers.programs import call
from tests.helpers.results import write_entry

RESULTS = Results(ROOT / "results")
PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "results").rglob("*.md")))]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------------------------------------------------------------
# The committed pages
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", PAGES)
def test_the_blocks_of_a_page_are_those_of_the_results(name):
    text = (ROOT / name).read_text()
    assert len(BLOCK.findall(text)) == text.count("<!-- table:") == text.count("<!-- end -->")
    assert render_blocks(text, RESULTS) == text, f"run `just table into={name}`"


def test_every_block_is_on_a_page():
    pages = "".join((ROOT / name).read_text() for name in PAGES)
    assert {name for _, name, _, _ in BLOCK.findall(pages)} == set(BLOCKS)


def test_links_between_pages_lead_to_a_heading():
    for name in [*PAGES, "recipes/README.md"]:
        page = ROOT / name
        for link in re.findall(r"\]\(([^):]+)\)", page.read_text()):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), f"{name}: {link}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
                slugs = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
                assert anchor in slugs, f"{name}: {link}"


def test_prose_of_the_pages_keeps_within_120_columns():
    for name in [*PAGES, "recipes/README.md"]:
        prose = BLOCK.sub("", (ROOT / name).read_text()).splitlines()
        assert [line for line in prose if len(line) > 120 and not line.startswith("|")] == [], name


def test_the_index_of_results_is_short_and_lists_each_page():
    text = (ROOT / "results/README.md").read_text()
    assert len(text.splitlines()) <= 62
    listed = set(re.findall(r"^\| \[[^]]+\]\(([\w/-]+\.md)\)", text, re.M))
    pages = {str(path.relative_to(ROOT / "results")) for path in (ROOT / "results").rglob("*.md")}
    assert listed == pages - {"README.md"}


# ---------------------------------------------------------------------------------------------------------------------
# README.md
# ---------------------------------------------------------------------------------------------------------------------

def test_no_measured_number_of_the_readme_is_typed_by_hand():
    prose = BLOCK.sub("", (ROOT / "README.md").read_text())
    assert re.findall(r"\d+\.\d+", prose) == ["3.11"], "outside the blocks only Python's version has a point"
    assert "%" not in prose


def test_the_readme_is_a_shop_window():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 190 and max(map(len, lines)) <= 120
    shown = "\n".join(lines[:25])
    picture = ROOT / re.search(r"!\[[^]]+\]\(([^)]+)\)", shown)[1]
    assert picture.stat().st_size <= 400_000 and "just demo" in shown and "just test" in shown
    assert shown.count("- **") == 3, "three numbers on the first screen"


def test_the_layout_of_the_readme_has_each_room_in_its_words():
    text = (ROOT / "README.md").read_text()
    layout = " ".join(text.partition("## Layout")[2].partition("Exit codes")[0].split())
    for path in (ROOT / "phases").glob("**/__init__.py"):
        first = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]
        assert f"{path.parent.name}/ {' '.join(first.split())}" in layout, path


# ---------------------------------------------------------------------------------------------------------------------
# Rendering
# ---------------------------------------------------------------------------------------------------------------------

def test_a_block_is_rendered_and_the_rest_of_the_page_stays(here, capsys):
    (here / "page.md").write_text("# A\n<!-- table: exports -->\nold\n<!-- end -->\ntext 1.0\n")
    words = [f"results={ROOT / 'results'}", "into=page.md"]
    assert call(table, *words) == 0 and capsys.readouterr().out == "page.md: rendered\n"
    new = (here / "page.md").read_text()
    assert new.startswith("# A\n<!-- table: exports -->\n| recipe |") and new.endswith("|\n<!-- end -->\ntext 1.0\n")

    assert call(table, *words) == 0 and (here / "page.md").read_text() == new
    assert "rendered" not in capsys.readouterr().out


def test_a_page_without_blocks_needs_no_result_files(here):
    assert render_blocks("# A\n", Results(here)) == "# A\n"


@pytest.mark.parametrize("text, named", [
    ("<!-- table: export -->\n<!-- end -->\n", "'exports'"),
    ("<!-- table: taught teacher=base_17 -->\n<!-- end -->\n", "'base_16'"),
    ("<!-- table: measured rows=L -->\n<!-- end -->\n", "'rows'"),
    ("<!-- table: teacher-share -->\nMy prose\n<!-- table: exports -->\nold\n<!-- end -->\n", "teacher-share"),
    ("<!-- table: exports data -->\nold\n<!-- end -->\n", "exports data"),
    ("<!-- table: exports -->\nold\n", "table: exports")])
def test_a_marker_that_cannot_be_rendered_is_named(text, named, here):
    (here / "page.md").write_text(text)
    with pytest.raises(ValueError, match=re.escape(named)):
        call(table, f"results={ROOT / 'results'}", "into=page.md")
    assert (here / "page.md").read_text() == text


# ---------------------------------------------------------------------------------------------------------------------
# Single blocks
# ---------------------------------------------------------------------------------------------------------------------

def test_verdicts_compare_a_row_with_the_one_it_changes(tmp_path):
    rows = {"L0": (90, 90, 90), "L5": (80, 80, 80), "L2": (91, 91, 92), "L6": (79, 79, 78), "L7": (81, 79, 80),
            "L8": (70, 82, 80), "L9": (99,), "P0": (9, 9), "P1": (5, 5)}
    for row, top1 in rows.items():
        write_entry(tmp_path, row, *top1)
    assert " ".join(block("verdicts", {}, Results(tmp_path)).split()) == (
        "- **UTD-MHAD**: helps: frame gate (L2, +1.3 ± 0.6); hurts: full LAST-Lite small (L5, -10.0 ± 0.0), without "
        "the DCT gate (L6, -1.3 ± 0.6); cannot be told: L7, L8; too few seeds: L9, P1. "
        "- **NW-UCLA**: nothing measured.")


def test_verdicts_are_of_clean_clips_if_some_are_copies(tmp_path):
    write_entry(tmp_path, "L0", 5, 5, 5, clean=2.0, place="nw_ucla-xview")
    write_entry(tmp_path, "L3", 1, 1, 1, clean=9.0, place="nw_ucla-xview")
    assert block("verdicts", {}, Results(tmp_path)).endswith(
        "**NW-UCLA**: helps: body-region shift instead of the random shift (L3, +3.0 ± 0.0).")


def test_rows_at_full_width_stand_beside_the_narrow_ones(tmp_path):
    for row, top1 in {"B0": (90, 90), "B2": (93, 94), "B0_16": (80,), "B2_16": (77,)}.items():
        write_entry(tmp_path, row, *top1)
    table = block("full-width", {}, Results(tmp_path))
    line = [re.sub(" .*", "", cell.strip()) for cell in table.splitlines()[3].split("|")[1:-1]]
    assert line[0] == "B2" and line[2:4] == ["93.5", "+3.5"] and line[-2:] == ["77.0", "-3.0"]
    assert "| B7 |" in table  # not trained yet: an empty line


def test_the_table_of_faults_counts_what_the_files_say(tmp_path):
    fuzz = {"tried": 30, "targets": {"ntu": {"tried": 10, "stored": 4, "refused": 5, "faults": 1},
                                     "store meta.json": {"tried": 20, "stored": 20, "refused": 0, "faults": 0}},
            "faults": {"ntu-1": {"target": "ntu", "what": "x", "mended": True},
                       "ntu-2": {"target": "ntu", "what": "y", "mended": False}}}
    torture = {"phases": {"p1_train": {"ways": {"kill": 3, "int": 1, "full": 2, "link": 1}, "ended": 4, "faults": []}}}
    counts = {"xsub": {"train": 1000, "test": 20}}
    ntu = {"command": "just torture ntu=true",
           "data sets": [{"dataset": "ntu60", "clips": 1020, "counts": counts, "peak MB": 9}]}
    for name, value in (("fuzz", fuzz), ("torture", torture), ("ntu-rehearsal", ntu)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))

    lines = block("robust", {}, Results(tmp_path)).splitlines()[2:]
    assert lines[0] == "| ntu | `just fuzz targets=ntu` | 10 inputs | 4 stored, 5 refused | 2 | 1 |"
    assert lines[1].startswith("| store meta.json | `just fuzz 'targets=store meta.json'` | 20 inputs |")
    assert lines[2] == "| **all inputs** | `just fuzz` | 30 inputs |  | 2 | 1 |"
    assert lines[3].startswith("| phase 1 | `just torture phases=1` | 3 kills, 1 other signals, 2 faults of the disk, "
                               "1 others | 4 runs")
    assert "xsub 1,000 + 20; at most 9 MB" in lines[4]
