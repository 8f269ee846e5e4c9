"""The tables of `just table` in Markdown: the best rows of a data set; LAST-Base and LAST-Lite beside published rows,
ablation rows, all others."""
from __future__ import annotations

import statistics

from phases.common.files import ROOT
from phases.reporting.cells import SIZES, change, drop, epochs, mean_sd, overridden, sizes, values
from phases.reporting.measured import default_split, entry_of_row, published

ABLATIONS = {"B": 15, "L": 13, "P": 4}  # rows of the plan: B0-B14, L0-L12, P0-P3
SHOW = ("base", "lite", *ABLATIONS, "rest")
BEST = 10  # rows that are printed of a data set, unless more are asked for
AGAINST = {"B": ("B0", "B7"), "L": ("L0", "L5"), "P": ("P0",)}  # baseline, full
LABEL = {"ntu60": "NTU-60", "ntu120": "NTU-120", "nw_ucla": "NW-UCLA", "utd_mhad": "UTD-MHAD",
         "sbu": "SBU", "any": "seven data sets"}
NTU = [("ntu60", "xsub"), ("ntu60", "xview"), ("ntu120", "xsub"), ("ntu120", "xset")]

# published rows, by their names in results/published.json
PAPERS = ("EfficientGCN-B0", "CTR-GCN (joint stream)", "CTR-GCN (4s)", "InfoGCN (6s)", "HD-GCN (6s)", "HI-GCN",
          "SkateFormer (2s)")

# (model, the recipes that stand for it: the first one that was measured)
BASE = [
    *((model, (model,)) for model in PAPERS),
    ("LAST-Base (1s)", ("base", "B7")),
    ("LAST-Base (4s)", ("base-all", "B14")),
]
LITE = [
    ("EfficientGCN-B0", ("EfficientGCN-B0",)),
    ("LAST-Lite nano", ("lite_nano",)),
    ("LAST-Lite small", ("lite_small",)),
    ("LAST-Lite nano + distil (Base)", ("lite_nano_base",)),
    ("LAST-Lite small + distil (LAST-E)", ("lite_small_laste", "L10")),
    ("LAST-Lite small + distil (Base)", ("lite_small_base", "L11")),
    ("LAST-Lite small + MaskCLR + distil", ("L12",)),
]
FILES = ["FP32 bytes", "INT8 bytes", "INT8 top-1", "INT8 drop", "w8 bytes", "w8 drop"]  # columns of exported files


# ---------------------------------------------------------------------------------------------------------------------
# Markdown
# ---------------------------------------------------------------------------------------------------------------------

def markdown_table(head: list[str], rows: list[dict[str, str]]) -> str:
    """Rows under the columns of `head`; a cell that a row lacks is empty.

    The columns `with` and those about clean clips are left out if they are empty: most tables need neither.
    """
    def is_needed(column: str) -> bool:
        return ("clean" not in column and column != "with") or any(row.get(column) for row in rows)

    # head and rule, then a line per row; a bar would end a cell
    columns = list(filter(is_needed, head))
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [row.get(column, "").replace("|", "/") for column in columns]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def titled_table(title: str, head: list[str], rows: list[dict[str, str]]) -> str:
    return f"## {title}\n\n{markdown_table(head, rows)}"


def marked(name: str, data: str) -> str:
    """A row's name; clips of a puppet are a demonstration, never a result."""
    return f"{name} (demonstration)" if data == "synthetic" else name


# ---------------------------------------------------------------------------------------------------------------------
# LAST-Base and LAST-Lite
# ---------------------------------------------------------------------------------------------------------------------

def heading(place: tuple[str, str]) -> str:
    """The column of a (data set, split): NTU-60 xsub."""
    data, split = place
    return f"{LABEL.get(data, data)} {split}"


def results_table(title: str, listed: list[tuple[str, tuple]], places: list[tuple[str, str]], entries: dict,
                  exports: dict, whole: bool) -> tuple[str, set[str]]:
    """A table of the plan's section 10, and the names of the entries in it. `places` are (data set, split).

    whole: our rows are listed without figures too; else a table without rows is empty text.
    """
    known = {**published(), **entries}
    rows = []
    shown = set()
    for model, recipes in listed:
        recipe = first_measured(recipes, places, known)

        # the row's entries; a paper that measured none of these places never has a row
        found = {}
        for data, split in places:
            name = f"{recipe}--{data}-{split}"
            if name in known:
                found[data, split] = known[name]
                shown.add(name)
        if found or (whole and model not in PAPERS):
            export = exports.get((recipe, *places[0]), {})
            rows.append(results_row(model, recipe, found, export, places[0]))

    if not rows:
        return "", shown

    # accuracies first, sizes of files only for what is exported
    accuracies = []
    for place in places:
        accuracies += [heading(place), f"{heading(place)} clean"]
    files = FILES if listed is LITE else []
    return titled_table(title, ["model", *accuracies, *SIZES, *files, "source"], rows), shown


def first_measured(recipes: tuple[str, ...], places: list[tuple[str, str]], known: dict) -> str:
    """The first of these recipes that was measured in any of these places; without one, the first."""
    for recipe in recipes:
        if any(f"{recipe}--{data}-{split}" in known for data, split in places):
            return recipe
    return recipes[0]


def results_row(model: str, recipe: str, found: dict[tuple, dict], export: dict, place: tuple[str, str]) -> dict:
    """The cells of a model: its accuracy in each place, and its sizes in the first of them."""
    first = next(iter(found.values()), None)
    # its name, source and sizes; seeds may differ between places
    if model in PAPERS:
        row = {"model": model, "source": first["source"], **sizes(first)}
    else:
        row = {"model": marked(model, place[0]), "source": f"recipe {recipe}", **sizes(first)}
        row["seeds"] = ", ".join(dict.fromkeys(sizes(entry)["seeds"] for entry in found.values()))

    # accuracies
    for where, entry in found.items():
        row[heading(where)] = mean_sd(entry, "top1")
        row[f"{heading(where)} clean"] = mean_sd(entry, "top1_clean")

    # exported files
    for form in ("FP32", "INT8", "w8"):
        report = export.get(form.lower(), {})
        row[f"{form} bytes"] = str(report.get("bytes") or "")
        row[f"{form} top-1"] = mean_sd({"runs": [report]}, "top1")
        row[f"{form} drop"] = drop(report)
    return row


# ---------------------------------------------------------------------------------------------------------------------
# Ablation rows
# ---------------------------------------------------------------------------------------------------------------------

def purpose(row: str) -> str:
    """The first comment line of a row's recipe, without the row's name; empty without the recipe."""
    path = ROOT / "recipes" / f"{row}.toml"
    if not path.exists():
        return ""
    line = path.read_text().split("\n")[0]
    return line.removeprefix("# ").removeprefix(row).lstrip(":, ").rstrip(".")


def ablation_rows(letter: str) -> list[str]:
    """The plan's rows of a letter, and any further recipe of that form."""
    planned = {f"{letter}{i}" for i in range(ABLATIONS[letter])}
    files = (ROOT / "recipes").glob(f"{letter}*.toml")
    further = {path.stem for path in files if path.stem[1:].isdigit()}
    return sorted(planned | further, key=lambda row: int(row[1:]))


def ablation_table(letter: str, data: str, split: str, entries: dict, whole: bool) -> tuple[str, set[str]]:
    """The ablation table of rows B, L or P, and the names of the entries in it.

    whole: rows are listed without figures too; else a table without rows is empty text.
    """
    found = {row: entry_of_row(row, data, split, entries) for row in ablation_rows(letter)}
    references = {f"to {row}": found[row] for row in AGAINST[letter]}

    # a line per row, empty where nothing was measured
    rows = []
    for name, entry in found.items():
        if entry is None and not whole:
            continue
        row = {
            "row": marked(name, data),
            "purpose": purpose(name),
            "top-1": mean_sd(entry, "top1"),
            "top-1 clean": mean_sd(entry, "top1_clean"),
            **sizes(entry),
            "epochs": epochs(entry),
            "with": " ".join(overridden(entry)),
        }
        for column, reference in references.items():
            row[column] = change(entry, reference)
        rows.append(row)

    head = ["row", "purpose", "top-1", "top-1 clean", *references, *SIZES, "epochs", "with"]
    shown = {f"{row}--{data}-{split}" for row in found}
    if not rows:
        return "", shown
    return titled_table(f"Rows {letter}, {heading((data, split))}", head, rows), shown


# ---------------------------------------------------------------------------------------------------------------------
# All together
# ---------------------------------------------------------------------------------------------------------------------

def rest_table(entries: dict[str, dict]) -> str:
    """Entries that no other table shows, in the order of their names."""
    rows = []
    for _, entry in sorted(entries.items()):
        rows.append({
            "recipe": entry["recipe"],
            "data set": marked(entry["dataset"], entry["dataset"]),
            "split": entry["split"],
            **sizes(entry),
            "top-1": mean_sd(entry, "top1"),
            "top-1 clean": mean_sd(entry, "top1_clean"),
            "top-5": mean_sd(entry, "top5"),
        })
    head = ["recipe", "data set", "split", *SIZES, "top-1", "top-1 clean", "top-5"]
    return titled_table("Measured besides", head, rows)


def best_table(entries: dict[str, dict], exports: dict, data: str, split: str = "") -> str:
    """The rows of a data set with the highest top-1, or the fewest parameters of equals, and how to see the others."""
    found = []
    for entry in entries.values():
        if entry["dataset"] == data and split in ("", entry["split"]) and values(entry, "top1"):
            found.append(entry)
    if not found:
        raise ValueError(nothing_measured(entries, data, split=split))
    found.sort(key=lambda entry: (-statistics.mean(values(entry, "top1")), entry.get("params") or 0, entry["recipe"]))

    # what it reaches, what it costs, what its INT8 file loses
    rows = []
    for entry in found[:BEST]:
        int8 = exports.get((entry["recipe"], entry["dataset"], entry["split"]), {}).get("int8", {})
        rows.append({
            "recipe": marked(entry["recipe"], data), "split": entry["split"], "top-1": mean_sd(entry, "top1"),
            "top-1 clean": mean_sd(entry, "top1_clean"), **sizes(entry), "epochs": epochs(entry),
            "INT8 bytes": str(int8.get("bytes") or ""), "INT8 drop": drop(int8)})
    head = ["recipe", "split", "top-1", "top-1 clean", "parameters in total", "MACs per clip", "seeds", "epochs",
            *(column for column in ("INT8 bytes", "INT8 drop") if any(row[column] for row in rows))]

    left = len(found) - len(rows)
    title = f"{LABEL.get(data, data)}, the best {len(rows)} of {len(found)}" if left else LABEL.get(data, data)
    more = "show=all prints the others and the ablation tables, format=csv every number"
    return titled_table(title, head, rows) + (f"\n\n{more}" if left else "") + "\n"


def plan_tables(entries: dict, exports: dict, data: str, split: str, show: tuple[str, ...]) -> str:
    """The tables that `just table` prints; `show` names them, each of SHOW.

    Without `data`: the plan's rows on NTU-60, measured or not, and everything that was measured besides. With it: only
    rows that have figures of that data set; ValueError without any.
    """
    whole = not data
    data = data or "ntu60"
    split = split or default_split(data)

    # the tables in the order they were asked for
    texts = []
    shown = set()
    for name in show:
        if name in ABLATIONS:
            text, names = ablation_table(name, data, split, entries, whole)
        elif name == "base":
            places = NTU if (data, split) in (("ntu60", "xsub"), ("ntu120", "xsub")) else [(data, split)]
            text, names = results_table("LAST-Base", BASE, places, entries, exports, whole)
        elif name == "lite":
            text, names = results_table("LAST-Lite", LITE, [(data, split)], entries, exports, whole)
        else:
            continue
        if text:
            texts.append(text)
        shown |= names

    # entries that none of them shows
    rest = {}
    for name, entry in entries.items():
        if name not in shown and (whole or entry["dataset"] == data):
            rest[name] = entry
    if rest and "rest" in show:
        texts.append(rest_table(rest))

    if not texts and not whole:
        raise ValueError(nothing_measured(entries, data, show))
    return "\n\n".join(texts) + "\n"


def nothing_measured(entries: dict, data: str, show: tuple[str, ...] = SHOW, split: str = "") -> str:
    """Why there is no row of a data set in these tables, and what there is."""
    measured = sorted({entry["dataset"] for entry in entries.values()})
    if data in measured and split:
        splits = sorted({entry["split"] for entry in entries.values() if entry["dataset"] == data})
        return f"split = {split!r}: nothing was measured on it; there are runs of {', '.join(splits)}"
    if data in measured:
        return f"show = '{','.join(show)}': none of these rows was measured on {data}; leave show= out for all tables"
    return f"data = '{data}': nothing was measured on it; there are runs of {', '.join(measured)}"
