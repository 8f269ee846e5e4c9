"""Tables of what was measured, and the numbers of the Markdown pages.

    just table                        Markdown: LAST-Base and LAST-Lite beside published rows and the ablation rows, on
                                      NTU-60; then everything else that was measured
    just table data=mine              the best rows of that data set, with what they cost
    just table data=mine show=all     all its rows, in these tables; split= names another split than its own
    just table show=L,rest            some of the tables
    just table format=csv             every number (with data= of one data set): a row per (recipe, data set, split),
                                      then the published ones
    just table into=README.md         makes the blocks of a page anew: the text between `<!-- table: NAME -->` and
                                      `<!-- end -->`, from the committed files in results/ alone
    just table data=utd_mhad picture=results/wild-utd_mhad.svg
                                      draws what `just wild` measured on a data set, from results/ alone

Reads the finished runs below runs/ and the files in results/; a run replaces the file of its name.
phases/reporting/measured.py describes such a file. A row's purpose is the first comment line of recipes/<row>.toml.

A cell is mean ± sd (n - 1) over runs, empty without a measurement. Synthetic clips are a demonstration: their rows say
so. Exit codes: 0 done, 2 bad input or nothing to show.
"""
from __future__ import annotations

import csv
import io
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from phases.common.command import nearest, run
from phases.common.files import atomic
from phases.reporting.blocks import render_blocks
from phases.reporting.cells import streams_of, values
from phases.reporting.measured import RUN_KEYS, Results, gather, published
from phases.reporting.strengths import svg
from phases.reporting.tables import SHOW, best_table, nothing_measured, plan_tables


@dataclass(frozen=True)
class Options:
    data: Annotated[str, "only rows of this data set; empty: NTU-60's plan, and all that was measured besides"] = ""
    split: Annotated[str, "one of its splits; empty: the one that its recipe names"] = ""
    show: Annotated[tuple[str, ...], (*SHOW, "best", "all"), "which tables; best: of data=, the rows with the highest "
                    "top-1 (without data= all tables)"] = ("best",)
    format: Annotated[Literal["markdown", "csv"], "of what is printed"] = "markdown"
    out: Annotated[Path | None, "a file to write instead of standard output"] = None
    into: Annotated[Path | None, "a page whose blocks are made anew"] = None
    picture: Annotated[Path | None, "an .svg that is drawn of `just wild`'s results on data="] = None
    runs: Annotated[Path, "the folder of runs"] = Path("runs")
    results: Annotated[Path | None, "the folder of result files; empty: read none"] = Path("results")

    def __post_init__(self):
        if not self.show:
            raise ValueError(f"show = '': give best, all, or some of {', '.join(SHOW)}")
        if (self.into or self.picture) and not self.results:
            raise ValueError("results = '': into= and picture= read result files, name their folder")
        if self.picture and (self.into or self.picture.suffix != ".svg" or not self.data):
            raise ValueError(f"picture = {self.picture}: give a file that ends in .svg and data=, without into=")


# ---------------------------------------------------------------------------------------------------------------------
# CSV
# ---------------------------------------------------------------------------------------------------------------------

def csv_table(entries: dict, exports: dict, data: str = "") -> str:
    """Every number, or those of one data set: measured entries in the order of their names, then the published ones."""
    measured = [entry for _, entry in sorted(entries.items())]
    rows = []
    for entry in (*measured, *published().values()):
        if data in ("", entry["dataset"]):
            rows.append(csv_row(entry, exports))
    if not rows:
        raise ValueError(nothing_measured(entries, data))

    # the columns of all rows, in the order of their first appearance
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_row(entry: dict, exports: dict) -> dict:
    is_demonstration = entry["dataset"] == "synthetic"
    streams, parameters = streams_of(entry)
    seeds = values(entry, "seed")
    row = {
        "kind": entry.get("kind") or ("demonstration" if is_demonstration else "measured"),
        "recipe": entry["recipe"],
        "dataset": entry["dataset"],
        "split": entry["split"],
        "params": entry.get("params"),
        "macs": entry.get("macs"),
        "params_per_stream": parameters,
        "streams": streams,
        "source": entry.get("source") or entry.get("command"),
        "seeds": len(set(seeds)) or None,
        "runs": len(seeds) or None,
    }

    # means over runs
    for key in ("top1", "top1_clean", "top5"):
        found = values(entry, key)
        row[key] = statistics.mean(found) if found else None
        row[f"{key} sd"] = statistics.stdev(found) if len(found) > 1 else None

    # each run
    for key in RUN_KEYS:
        if values(entry, key) and "kind" not in entry:
            by_run = [run.get(key) for run in entry["runs"]]
            row[f"{key} by seed"] = "; ".join("" if value is None else str(value) for value in by_run)

    # exported files
    export = exports.get((entry["recipe"], entry["dataset"], entry["split"]), {})
    for form in ("fp32", "int8", "w8", "latency"):
        for key, value in export.get(form, {}).items():
            row[f"{form} {key}"] = value
    return row


# ---------------------------------------------------------------------------------------------------------------------
# The program
# ---------------------------------------------------------------------------------------------------------------------

def render_into(page: Path, results: Path) -> None:
    """Make the blocks of a page anew; the rest of it stays."""
    if not page.is_file():
        raise ValueError(f"into = {page}: no such file{nearest(page.name, [p.name for p in page.parent.glob('*.md')])}")
    text = page.read_text()
    new = render_blocks(text, Results(results))
    if new == text:
        print(f"{page}: is as the files in {results} say")
        return
    with atomic(page) as part:
        part.write_text(new)
    print(f"{page}: rendered")


def main(options: Options) -> int:
    if options.into:
        render_into(options.into, options.results)
        return 0
    if options.picture:
        drawn = svg(Results(options.results), options.data)
        with atomic(options.picture) as part:
            part.write_text(drawn)
        print(f"{options.picture}: drawn")
        return 0

    # committed files, and runs over them
    entries, exports = {}, {}
    if options.results:
        results = Results(options.results)
        entries |= results.entries
        exports |= results.exports
    entries |= gather(options.runs, strict=False)
    shown = [entry for entry in entries.values() if options.data in ("", entry["dataset"])]
    if not entries:
        raise ValueError(f"nothing to show: no finished run below {options.runs}, no file in "
                         f"{options.results or 'results'}")

    # the text, to a file or to standard output
    if options.format == "csv":
        text = csv_table(entries, exports, options.data)
    elif "best" in options.show and options.data:
        text = best_table(entries, exports, options.data, options.split)
    else:
        whole = {"best", "all"} & set(options.show)
        text = plan_tables(entries, exports, options.data, options.split, SHOW if whole else options.show)
    if options.out:
        with atomic(options.out) as part:
            part.write_text(text)
    else:
        print(text, end="")
    print(f"{len(shown)} measured; accuracies in percent, mean ± sd over seeds", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run(main, Options)
