"""Write finished runs and exports into results/, the files that are committed.

    just collect

    runs/<recipe>/<dataset>-<split>/seed<k>/result.json   -> results/<recipe>--<dataset>-<split>.json, all seeds in one
    exports/<dataset>/<recipe>/report.json                -> results/<recipe>--<dataset>-export.json

An export that was made in exports/<recipe> or moved to exports/ANY is collected too, if there is no other of its recipe
and data set.
phases/reporting/measured.py describes such a file. Not collected: synthetic clips, which are a demonstration, and
networks that were tested on their training clips (data.split=all).
Exit codes: 0 written, 2 bad input or nothing to collect.
"""
from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from phases.common.command import run
from phases.common.files import write_json
from phases.reporting.measured import gather, read_result


@dataclass(frozen=True)
class Options:
    runs: Annotated[Path, "the folder of runs"] = Path("runs")
    exports: Annotated[Path, "the folder of exports"] = Path("exports")
    results: Annotated[Path, "the folder to write"] = Path("results")


def export_reports(exports: Path) -> dict[str, dict]:
    """Reports of phase 4 by the name of their file, without those about training clips."""
    found = {}
    taken = {}
    for path in export_paths(exports):
        report = read_result(path, "recipe", "dataset")
        if report.get("split") == "all":
            continue

        # the first of its recipe and data set counts
        name = f"{report['recipe']}--{report['dataset']}-export"
        if name in found:
            print(f"left out: {path.parent}: {taken[name]} is of the same recipe and data set", file=sys.stderr)
            continue
        found[name] = report
        taken[name] = path.parent
    return found


def export_paths(exports: Path) -> list[Path]:
    """The reports below a folder: those in the place that phase 4 gives them, then those of older exports."""
    # exports=exports/seed2 makes folders of the same depth, which are no data set's
    in_place = []
    for path in sorted(exports.glob("*/*/report.json")):
        if read_result(path, "dataset")["dataset"] == path.parts[-3]:
            in_place.append(path)

    # folders of older exports have any name; the report says what was exported
    return in_place + sorted(exports.glob("*/report.json"))


def main(options: Options) -> None:
    # clips of a puppet are a demonstration, never a result
    tables = gather(options.runs) | export_reports(options.exports)
    real = {name: table for name, table in tables.items() if table["dataset"] != "synthetic"}
    if not real:
        raise ValueError(f"no finished run of a real data set below {options.runs}, no export below {options.exports}: "
                         "train one with `just phase1`")

    # one file per row
    for name, table in real.items():
        path = options.results / f"{name}.json"
        write_json(path, table)
        print(path)


if __name__ == "__main__":
    run(main, Options)
