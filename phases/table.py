"""Tables of what was measured, the results files that are committed, and the numbers of the READMEs.

    just table                        Markdown: the plan's two result tables, its ablation tables, and everything else
    just table data=nw_ucla           the same about another data set; split= names another split than its own
    just table show=L,rest            some of base, lite, B, L, P, rest
    just table out=tables.md          into a file instead of standard output
    just table format=csv             every number: one row per (recipe, data set, split), then the published ones
    just table into=README.md         render the blocks of a file anew: what stands between `<!-- table: NAME -->` and
                                      `<!-- end -->`; from the committed files in results/ only
    just collect                      runs/ -> results/<recipe>--<dataset>-<split>.json, all seeds of a run in one file;
                                      exports/*/report.json -> results/<recipe>--<dataset>-export.json

In:  finished runs below runs=runs, files in results=results (a run wins over the file of its name; results= reads
     none). measured.py says what a results file holds. The first comment line of recipes/<row>.toml is a row's purpose.
Out: mean ± sd (n - 1) over seeds. A cell without a measurement is empty. Synthetic clips are a demonstration: their
     rows are marked and never collected.
Exit codes: 0 done, 2 bad input or nothing to show.
"""
from __future__ import annotations

import csv
import io
import statistics
import sys
from pathlib import Path

from phases.common.command import nearest
from phases.common.files import atomic, write_json
from phases.common.settings_cli import cli
from phases.reporting.blocks import filled
from phases.reporting.measured import RUN_KEYS, gather, network, published, read, stored, values
from phases.reporting.tables import SHOW, plan


def as_csv(entries: dict, exports: dict) -> str:
    """Every number: measured entries in order, then the published ones."""
    rows = []
    for e in [*(e for _, e in sorted(entries.items())), *published().values()]:
        streams, each = network(e)
        row = {"kind": e.get("kind") or ("demonstration" if e["dataset"] == "synthetic" else "measured"),
               **{k: e.get(k) for k in ("recipe", "dataset", "split", "params", "macs")}, "params_per_stream": each,
               "streams": streams, "source": e.get("source") or e.get("command"),
               "seeds": len(set(values(e, "seed"))) or None, "runs": len(values(e, "seed")) or None}
        for key in ("top1", "top1_clean", "top5"):
            v = values(e, key)
            row |= {key: statistics.mean(v) if v else None, f"{key} sd": statistics.stdev(v) if len(v) > 1 else None}
        for key in RUN_KEYS:
            if values(e, key) and "kind" not in e:
                row[f"{key} by seed"] = "; ".join("" if r.get(key) is None else str(r[key]) for r in e["runs"])
        export = exports.get((e["recipe"], e["dataset"], e["split"]), {})
        for form in ("fp32", "int8", "w8", "latency"):
            row |= {f"{form} {k}": v for k, v in export.get(form, {}).items()}
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def collect(runs: Path, results: Path, exports: Path) -> int:
    """Write what was measured into results/, one file a row."""
    real = gather(runs)
    for path in sorted(exports.glob("*/report.json")):
        report = read(path, "recipe", "dataset")
        if report.get("split") == "all":  # of training clips
            continue
        real[f"{report['recipe']}--{report['dataset']}-export"] = report
    real = {name: entry for name, entry in real.items() if entry["dataset"] != "synthetic"}
    if not real:
        raise ValueError(f"no finished run of a real data set below {runs}, no export below {exports}: train one with "
                         "`just phase1`")
    for name, entry in real.items():
        write_json(results / f"{name}.json", entry)
        print(results / f"{name}.json")
    return 0


def render_into(path: Path, results: Path) -> int:
    """Render the blocks of a README anew."""
    text = path.read_text()
    new = filled(text, *stored(results), results)
    if new != text:
        with atomic(path) as part:
            part.write_text(new)
    print(f"{path}: {'rendered' if new != text else 'is as results/ say'}")
    return 0


def options(action: str, argv: list[str]) -> dict[str, str]:
    given = {"runs": "runs", "results": "results"}
    if action == "collect":
        given["exports"] = "exports"
    else:
        given |= {"data": "ntu60", "split": "", "show": ",".join(SHOW), "format": "markdown", "out": "", "into": ""}
    for arg in argv:
        key, _, value = arg.partition("=")
        if key not in given:
            raise ValueError(f"unknown argument {arg!r}{nearest(key, given)}")
        given[key] = value
    for key, words, known in (("show", given.get("show", "base").split(","), SHOW),
                              ("format", [given.get("format", "csv")], ("markdown", "csv"))):
        for word in words:
            if word not in known:
                raise ValueError(f"{key} = {word!r}{nearest(word, known)}")
    return given


def main(argv: list[str]) -> int:
    action, *rest = argv or [""]
    if action not in ("table", "collect"):
        raise ValueError(f"unknown action {action!r}{nearest(action, ('table', 'collect'))}")
    given = options(action, rest)
    runs, results = Path(given["runs"]), Path(given["results"])
    if action == "collect":
        return collect(runs, results, Path(given["exports"]))
    if given["into"]:
        return render_into(Path(given["into"]), results)
    entries, exports = stored(results) if given["results"] else ({}, {})
    entries |= gather(runs, strict=False)
    if not entries:
        raise ValueError(f"nothing to show: no finished run below {runs}, no file in {given['results'] or 'results'}")
    if given["format"] == "csv":
        text = as_csv(entries, exports)
    else:
        text = plan(entries, exports, given["data"], given["split"], given["show"].split(","))
    if given["out"]:
        with atomic(Path(given["out"])) as part:
            part.write_text(text)
    else:
        print(text, end="")
    print(f"{len(entries)} measured; accuracies in percent, mean ± sd over seeds", file=sys.stderr)
    return 0


if __name__ == "__main__":
    cli(main)
