"""Tables in Markdown: the plan's, and the blocks of README.md and results/README.md. All numbers come from results/."""
from __future__ import annotations

from phases.common.files import ROOT
from phases.reporting.measured import (
    DEMO,
    SIZES,
    change,
    default_split,
    drop,
    entry_of,
    mean_sd,
    overrides,
    published,
    sizes,
    values,
)

SHOW = ("base", "lite", "B", "L", "P", "rest")
ROWS = {"B": 15, "L": 13, "P": 4}  # ablation rows of the plan: B0-B14, L0-L12, P0-P3
AGAINST = {"B": ("B0", "B7"), "L": ("L0", "L5"), "P": ("P0",)}  # baseline, full
LABEL = {"ntu60": "NTU-60", "ntu120": "NTU-120", "nw_ucla": "NW-UCLA", "utd_mhad": "UTD-MHAD"}
NTU = [("ntu60", "xsub"), ("ntu60", "xview"), ("ntu120", "xsub"), ("ntu120", "xset")]
PAPERS = ("EfficientGCN-B0", "CTR-GCN (joint stream)", "CTR-GCN (4s)", "InfoGCN (6s)", "HD-GCN (6s)", "HI-GCN",
          "SkateFormer (2s)")


# (model, the recipes that stand for it: the first one that was measured)
BASE = [*((model, (model,)) for model in PAPERS), ("LAST-Base (1s)", ("base", "B7")),
        ("LAST-Base (4s)", ("base-all", "B14"))]
LITE = [("EfficientGCN-B0", ("EfficientGCN-B0",)),
        ("LAST-Lite nano", ("lite_nano",)), ("LAST-Lite small", ("lite_small",)),
        ("LAST-Lite nano + distil (Base)", ("lite_nano_base",)),
        ("LAST-Lite small + distil (LAST-E)", ("lite_small_laste", "L10")),
        ("LAST-Lite small + distil (Base)", ("lite_small_base", "L11")),
        ("LAST-Lite small + MaskCLR + distil", ("L12",))]


def rows_of(head: list[str], rows: list[dict[str, str]]) -> str:
    """A Markdown table. Empty columns about copied test clips and overrides go: most tables have neither."""
    head = [h for h in head if ("clean" not in h and h != "with") or any(row.get(h) for row in rows)]
    cells = (" | ".join(row.get(h, "").replace("|", "/") for h in head) for row in rows)
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {c} |" for c in cells)])


def titled(title: str, head: list[str], rows: list[dict[str, str]]) -> str:
    return f"## {title}\n\n{rows_of(head, rows)}"


# ---------------------------------------------------------------------------------------------------------------------
# The plan's tables
# ---------------------------------------------------------------------------------------------------------------------

def purpose(row: str) -> str:
    """The first comment line of a row's recipe; empty without the recipe."""
    path = ROOT / "recipes" / f"{row}.toml"
    line = path.read_text().split("\n")[0] if path.exists() else ""
    return line.removeprefix("# ").removeprefix(row).lstrip(":, ").rstrip(".")


def ablation_rows(letter: str) -> list[str]:
    """The plan's rows, and any recipe of that form."""
    also = {p.stem for p in (ROOT / "recipes").glob(f"{letter}*.toml") if p.stem[1:].isdigit()}
    return sorted(also | {f"{letter}{i}" for i in range(ROWS[letter])}, key=lambda row: int(row[1:]))


def results_table(title: str, listed: list[tuple[str, tuple]], columns: list[tuple[str, str]], entries: dict,
                  exports: dict) -> tuple[str, set]:
    """A table of the plan's section 10, and the names of the entries in it; `columns` are (data set, split)."""
    heading = {c: f"{LABEL.get(c[0], c[0])} {c[1]}" for c in columns}
    rows, shown, known = [], set(), {**published(), **entries}
    for model, recipes in listed:
        recipe = next((r for r in recipes if any(f"{r}--{d}-{s}" in known for d, s in columns)), recipes[0])
        names = {c: f"{recipe}--{c[0]}-{c[1]}" for c in columns}
        got = {c: known[name] for c, name in names.items() if name in known}
        if model in PAPERS and not got:
            continue
        shown |= {names[c] for c in got}
        first, export = next(iter(got.values()), None), exports.get((recipe, *columns[0]), {})
        row = {"model": model, "source": f"recipe {recipe}", **sizes(first)}
        if model in PAPERS:
            row["source"] = first["source"]
        else:
            row["model"] += DEMO * (columns[0][0] == "synthetic")
            row["seeds"] = ", ".join(dict.fromkeys(sizes(e)["seeds"] for e in got.values()))
        for c, e in got.items():
            row |= {heading[c]: mean_sd(e, "top1"), f"{heading[c]} clean": mean_sd(e, "top1_clean")}
        for form in ("FP32", "INT8", "w8"):
            x = export.get(form.lower(), {})
            row |= {f"{form} bytes": str(x.get("bytes") or ""), f"{form} top-1": mean_sd({"runs": [x]}, "top1"),
                    f"{form} drop": drop(x)}
        rows.append(row)
    accuracies = [f"{heading[c]}{clean}" for c in columns for clean in ("", " clean")]
    files = ["FP32 bytes", "INT8 bytes", "INT8 top-1", "INT8 drop", "w8 bytes", "w8 drop"] if listed is LITE else []
    return titled(title, ["model", *accuracies, *SIZES, *files, "source"], rows), shown


def ablation_table(letter: str, data: str, split: str, entries: dict) -> tuple[str, set]:
    """The ablation table of rows B, L or P, and the names of the entries in it."""
    got, rows = {row: entry_of(row, data, split, entries) for row in ablation_rows(letter)}, []
    against = {f"to {r}": got[r] for r in AGAINST[letter]}
    for row, e in got.items():
        rows.append({
            "row": row + DEMO * (data == "synthetic"), "purpose": purpose(row), "top-1": mean_sd(e, "top1"),
            "top-1 clean": mean_sd(e, "top1_clean"), **{to: change(e, other) for to, other in against.items()},
            **sizes(e), "epochs": ", ".join(dict.fromkeys(map(str, values(e, "epochs")))),
            "with": " ".join(overrides(e))})
    head = ["row", "purpose", "top-1", "top-1 clean", *against, *SIZES, "epochs", "with"]
    return (titled(f"Rows {letter}, {LABEL.get(data, data)} {split}", head, rows),
            {f"{row}--{data}-{split}" for row in got})


REST = ["recipe", "data set", "split", *SIZES, "top-1", "top-1 clean", "top-5"]


def rest_rows(entries: dict[str, dict]) -> list[dict[str, str]]:
    return [{"recipe": e["recipe"], "data set": e["dataset"] + DEMO * (e["dataset"] == "synthetic"),
             "split": e["split"], **sizes(e), "top-1": mean_sd(e, "top1"), "top-1 clean": mean_sd(e, "top1_clean"),
             "top-5": mean_sd(e, "top5")} for e in entries.values()]


def plan(entries: dict, exports: dict, data: str, split: str, show: list[str]) -> str:
    """The tables that `just table` prints."""
    split, out, shown = split or default_split(data), [], set()
    for name in show:
        if name in ROWS:
            text, names = ablation_table(name, data, split, entries)
        elif name != "rest":
            columns = NTU if name == "base" and (data, split) in (NTU[0], NTU[2]) else [(data, split)]
            title, listed = ("LAST-Base", BASE) if name == "base" else ("LAST-Lite", LITE)
            text, names = results_table(title, listed, columns, entries, exports)
        else:
            continue
        out, shown = [*out, text], shown | names
    rest = {name: e for name, e in sorted(entries.items()) if name not in shown}
    if rest and "rest" in show:
        out.append(titled("Measured besides", REST, rest_rows(rest)))
    return "\n\n".join(out) + "\n"
