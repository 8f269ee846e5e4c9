"""Tables of what was measured, and the results files that are committed.

    just table                        Markdown: the plan's two result tables, its three ablation tables, and everything else
    just table data=nw_ucla           the same about another data set, and split= about another split (default: the data set's own)
    just table show=L,rest            some of base, lite, B, L, P, rest
    just table out=tables.md          into a file instead of standard output
    just table format=csv             every number: one row per (recipe, data set, split), then the published ones
    just collect                      runs/ -> results/<recipe>--<dataset>-<split>.json, all seeds of a run in one file, and
                                      exports/*/report.json -> results/<recipe>--<dataset>-export.json

In:  finished runs below runs=runs, files in results=results (a run wins over the file of its name; results= reads none). A results
     file: {"recipe", "dataset", "split", "params", "macs", "command", "runs": [{"seed", "top1", "top5", "top1_clean", "epochs",
     "seconds", "device", "commit"}]}; accuracies in percent, top1_clean null where no class of the data set leaks. An ensemble adds
     "streams" and "params_per_stream", its params and macs are totals. <recipe>--<dataset>-export.json gives the sizes of real files.
     The first comment line of recipes/<row>.toml is the purpose of a row.
Out: mean ± sd (n - 1) over seeds; what was not measured is an empty cell. Synthetic clips are a demonstration: their rows are marked,
     and they are never collected.
Exit codes: 0 done, 2 bad input or nothing to show.
"""
from __future__ import annotations

import csv
import io
import re
import statistics
import sys
from pathlib import Path

from recipe import ROOT, cli, load_config, nearest
from run import read_json

from last import STREAMS, WHERE, atomic, write_json

RUN_KEYS = ("seed", "top1", "top5", "top1_clean", "epochs", "seconds", "device", "commit")
SHOW = ("base", "lite", "B", "L", "P", "rest")
ROWS = {"B": 15, "L": 13, "P": 4}                                     # ablation rows of the plan: B0-B14, L0-L12, P0-P3
AGAINST = {"B": ("B0", "B7"), "L": ("L0", "L5"), "P": ("P0",)}        # baseline, full
FUSED = {"lite": len(STREAMS), "last_e": 3}                           # streams that one network takes in together
LABEL = {"ntu60": "NTU-60", "ntu120": "NTU-120", "nw_ucla": "NW-UCLA"}
DEMO = " (demonstration)"
NTU = [("ntu60", "xsub"), ("ntu60", "xview"), ("ntu120", "xsub"), ("ntu120", "xset")]

# Published rows: source, streams, parameters of one network and in total (None where neither the paper's page nor the plan says), top-1.
# CTR-GCN, InfoGCN and HD-GCN agree with the benchmark lists of hyper.ai and paperswithcode.com, HI-GCN with its abstract; these add HD-GCN's
# xview and xset and the figures for NW-UCLA to the plan's. Parameters that no page confirmed say so. EfficientGCN-B0 is the paper's own page
# (the plan has 150K and 88.3, paperswithcode.com 89.9 and 94.7). SkateFormer, which the plan leaves out, is its authors' page of released
# weights (joint + bone; parameters, NTU), its NW-UCLA figure as others cite it.
PUBLISHED = {
    "EfficientGCN-B0": ("Song et al., TPAMI 2022, arXiv:2106.15125", 3, 0.29e6, 0.29e6, (90.2, 94.9)),
    "CTR-GCN (4s)": ("Chen et al., ICCV 2021, arXiv:2107.12213", 4, 1.45e6, 5.8e6, (92.4, 96.8, 88.9, 90.6, 96.5)),
    "InfoGCN (6s)": ("Chi et al., CVPR 2022; parameters as the plan gives it", 6, 1.5e6, None, (93.0, 97.1, 89.8, 91.2, 97.0)),
    "HD-GCN (6s)": ("Lee et al., ICCV 2023, arXiv:2208.10741; parameters as the plan gives it", 6, 3e6, None, (93.4, 97.2, 90.1, 91.6, 97.2)),
    "HI-GCN": ("Zhang et al., Sci. Rep. 2025, doi:10.1038/s41598-025-19399-4; 3-4M parameters as the plan gives it",
               None, None, None, (93.3, None, 90.3, None, 97.0)),
    "SkateFormer (2s)": ("Do and Kim, ECCV 2024, arXiv:2403.09508, released weights", 2, 3.62e6, 7.24e6, (93.0, 97.4, 89.4, None, 98.3)),
}
# Model and the recipes that stand for it: the first one that was measured.
BASE = [*((model, (model,)) for model in PUBLISHED), ("LAST-Base (1s)", ("base", "B7")), ("LAST-Base (4s)", ("base-all", "B14"))]
LITE = [("EfficientGCN-B0", ("EfficientGCN-B0",)), ("LAST-Lite nano", ("lite_nano",)), ("LAST-Lite small", ("lite_small",)),
        ("LAST-Lite nano + distil (Base)", ("lite_nano_base",)),
        ("LAST-Lite small + distil (LAST-E)", ("lite_small_laste", "L10")), ("LAST-Lite small + distil (Base)", ("lite_small_base", "L11")),
        ("LAST-Lite small + MaskCLR + distil", ("L12",))]


def published() -> dict[str, dict]:
    """The published rows in the form of results files, one a column."""
    return {f"{model}--{d}-{s}": {"kind": "published", "recipe": model, "dataset": d, "split": s, "params": total, "params_per_stream": each,
                                  "streams": streams, "source": f"published: {source}", "runs": [{"top1": top1}]}
            for model, (source, streams, each, total, row) in PUBLISHED.items()
            for (d, s), top1 in zip([*NTU, ("nw_ucla", "xview")], row, strict=False) if top1 is not None}


def read(path: Path, *needs: str) -> dict:
    value = read_json(path)
    if missing := [k for k in needs if k not in value]:
        raise ValueError(f"{path}: lacks {', '.join(missing)}")
    return value


def trained(name: str) -> str:
    """The recipe behind a run folder's name: base for base, base-bone and base-all."""
    stem, _, stream = name.rpartition("-")
    return stem if stream in (*STREAMS, "all") else name


def gather(runs: Path, strict: bool = True) -> dict[str, dict]:
    """Results files, by name, of every finished run below a folder. <recipe>-<stream> holds another stream, <recipe>-all the ensemble.

    A run that was made by another command than the seed before it is an error; where not strict, it is named and left out.
    """
    found: dict[str, dict] = {}
    for path in sorted(runs.glob("*/*/seed*/result.json")):
        r, name = read(path, "recipe", "dataset", "split"), path.parts[-4]
        if "top1" not in r or trained(name) != trained(r["recipe"]):  # an encoder of phase 3, a folder that was moved aside
            continue
        words = [w for w in r.get("command", "").split() if w.partition("=")[0] not in ("seed", *WHERE)]
        command = re.sub(r"/seed\d+\b", "/seed...", " ".join(words)) + " seed=..."  # each seed may start from a run of its own
        entry = found.setdefault(f"{name}--{r['dataset']}-{r['split']}", {
            "recipe": name, **{k: r.get(k) for k in ("dataset", "split", "params", "macs")},
            **{k: r[k] for k in ("streams", "params_per_stream") if k in r}, "command": command, "runs": []})
        if sorted(entry["command"].split()) != sorted(command.split()):
            odd = f"{path.parent}: was made by {command!r}, other seeds by {entry['command']!r}"
            if strict:
                raise ValueError(f"{odd}; move one of them aside")
            print(f"left out: {odd}", file=sys.stderr)
            continue
        entry["runs"].append({k: round(r[k], 3) if isinstance(r.get(k), float) else r.get(k) for k in RUN_KEYS})
    for entry in found.values():
        entry["runs"].sort(key=lambda r: r["seed"] or 0)
    return found


def stored(folder: Path) -> tuple[dict[str, dict], dict[tuple, dict]]:
    """Results files by name, and export reports by (recipe, data set, split); a report that names no split is about the default one."""
    entries, exports = {}, {}
    for path in sorted(folder.glob("*--*.json")):
        if path.stem.endswith("-export"):
            x = read(path, "recipe", "dataset")
            exports[x["recipe"], x["dataset"], x.get("split") or default_split(x["dataset"])] = x
        elif "runs" in read(path):
            entries[path.stem] = read(path, "recipe", "dataset", "split")
    return entries, exports


def default_split(data: str) -> str:
    return load_config(["recipe=lite_small", f"data={data}"]).data.split


def values(e: dict | None, key: str) -> list:
    return [r[key] for r in e["runs"] if r.get(key) is not None] if e else []


def mean_sd(e: dict | None, key: str) -> str:
    """`95.2 ± 0.3` over seeds, the sample standard deviation; empty where nothing was measured."""
    v = values(e, key)
    return (f"{statistics.mean(v):.1f}" if v else "") + (f" ± {statistics.stdev(v):.1f}" if len(v) > 1 else "")


def change(e: dict | None, reference: dict | None) -> str:
    """Difference of the mean top-1 to a reference row's, in points."""
    a, b = values(e, "top1"), values(reference, "top1")
    return f"{statistics.mean(a) - statistics.mean(b):+.1f}" if a and b and e is not reference else ""


def count(n: float | None) -> str:
    """188588 -> 188.6K, four digits at most."""
    unit, mark = next((u, m) for u, m in ((1e9, "G"), (1e6, "M"), (1e3, "K"), (0, "")) if (n or 0) >= u)
    return "" if n is None else f"{n / (unit or 1):.4g}{mark}"


def drop(form: dict) -> str:
    """`0.2 (-0.1 to 0.5)`: points of top-1 lost to FP32, with the paired 95 % interval."""
    low_high = form.get("drop_ci95")
    return "" if form.get("drop") is None else f"{form['drop']:.1f}" + (f" ({low_high[0]:.1f} to {low_high[1]:.1f})" if low_high else "")


def network(e: dict) -> tuple[int | None, float | None]:
    """(streams, parameters of one network) of an entry; None where neither it nor its recipe tells."""
    try:
        fused = FUSED.get(load_config([f"recipe={trained(e['recipe'])}"]).model.name, 1)
    except ValueError:  # a recipe that is gone, a paper
        fused = None
    streams = e.get("streams") or fused
    return streams, e.get("params_per_stream") or (e.get("params") if streams == 1 or (fused or 1) > 1 else None)


def sizes(e: dict | None) -> dict[str, str]:
    if not e:
        return {}
    streams, each = network(e)
    together = " in one network" if (streams or 1) > 1 and each == e.get("params") else ""
    return {"streams": f"{streams or ''}{together}", "parameters per stream": count(each), "parameters in total": count(e.get("params")),
            "MACs per clip": count(e.get("macs")), "seeds": str(len(values(e, "seed")) or "")}


SIZES = ("streams", "parameters per stream", "parameters in total", "MACs per clip", "seeds")


def purpose(row: str) -> str:
    """The first comment line of a row's recipe; empty without the recipe."""
    path = ROOT / "recipes" / f"{row}.toml"
    line = path.read_text().split("\n")[0] if path.exists() else ""
    return line.removeprefix("# ").removeprefix(row).lstrip(":, ").rstrip(".")


def ablation_rows(letter: str) -> list[str]:
    """The plan's rows, and any recipe of that form."""
    also = {p.stem for p in (ROOT / "recipes").glob(f"{letter}*.toml") if p.stem[1:].isdigit()}
    return sorted(also | {f"{letter}{i}" for i in range(ROWS[letter])}, key=lambda row: int(row[1:]))


def render(title: str, head: list[str], rows: list[dict[str, str]]) -> str:
    head = [h for h in head if "clean" not in h or any(row.get(h) for row in rows)]  # most data sets leak nothing
    cells = (" | ".join(row.get(h, "").replace("|", "/") for h in head) for row in rows)
    return "\n".join([f"## {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {c} |" for c in cells)])


def results_table(title: str, listed: list[tuple[str, tuple]], columns: list[tuple[str, str]], entries: dict, exports: dict) -> tuple[str, set]:
    """A table of the plan's section 10, and the names of the entries in it; `columns` are (data set, split)."""
    heading = {c: f"{LABEL.get(c[0], c[0])} {c[1]}" for c in columns}
    rows, shown, known = [], set(), {**published(), **entries}
    for model, recipes in listed:
        recipe = next((r for r in recipes if any(f"{r}--{d}-{s}" in known for d, s in columns)), recipes[0])
        got = {c: known[name] for c in columns if (name := f"{recipe}--{c[0]}-{c[1]}") in known}
        if model in PUBLISHED and not got:
            continue
        shown |= {f"{recipe}--{d}-{s}" for d, s in got}
        first, export = next(iter(got.values()), None), exports.get((recipe, *columns[0]), {})
        row = {"model": model, "source": f"recipe {recipe}", **sizes(first)}
        if model in PUBLISHED:
            row["source"] = f"published: {PUBLISHED[model][0]}"
        else:
            row["model"] += DEMO * (columns[0][0] == "synthetic")
            row["seeds"] = ", ".join(dict.fromkeys(sizes(e)["seeds"] for e in got.values()))
        for c, e in got.items():
            row |= {heading[c]: mean_sd(e, "top1"), f"{heading[c]} clean": mean_sd(e, "top1_clean")}
        for form in ("FP32", "INT8", "w8"):
            x = export.get(form.lower(), {})
            row |= {f"{form} bytes": str(x.get("bytes") or ""), f"{form} top-1": mean_sd({"runs": [x]}, "top1"), f"{form} drop": drop(x)}
        rows.append(row)
    accuracies = [f"{heading[c]}{clean}" for c in columns for clean in ("", " clean")]
    files = ["FP32 bytes", "INT8 bytes", "INT8 top-1", "INT8 drop", "w8 bytes", "w8 drop"] if listed is LITE else []
    return render(title, ["model", *accuracies, *SIZES, *files, "source"], rows), shown


def ablation_table(letter: str, data: str, split: str, entries: dict) -> tuple[str, set]:
    """The ablation table of rows B, L or P, and the names of the entries in it."""
    got = {row: entries.get(f"{row}--{data}-{split}") for row in ablation_rows(letter)}
    rows = [{"row": row + DEMO * (data == "synthetic"), "purpose": purpose(row), "top-1": mean_sd(e, "top1"), "top-1 clean": mean_sd(e, "top1_clean"),
             **{f"to {r}": change(e, got[r]) for r in AGAINST[letter]}, **sizes(e),
             "epochs": ", ".join(dict.fromkeys(map(str, values(e, "epochs"))))} for row, e in got.items()]
    head = ["row", "purpose", "top-1", "top-1 clean", *(f"to {r}" for r in AGAINST[letter]), *SIZES, "epochs"]
    return render(f"Rows {letter}, {LABEL.get(data, data)} {split}", head, rows), {f"{row}--{data}-{split}" for row in got}


def rest_table(entries: dict[str, dict]) -> str:
    rows = [{"recipe": e["recipe"], "data set": e["dataset"] + DEMO * (e["dataset"] == "synthetic"), "split": e["split"], **sizes(e),
             "top-1": mean_sd(e, "top1"), "top-1 clean": mean_sd(e, "top1_clean"), "top-5": mean_sd(e, "top5")} for e in entries.values()]
    return render("Measured besides", ["recipe", "data set", "split", *SIZES, "top-1", "top-1 clean", "top-5"], rows)


def markdown(entries: dict, exports: dict, data: str, split: str, show: list[str]) -> str:
    split, out, shown = split or default_split(data), [], set()
    for name in show:
        if name in ROWS:
            text, names = ablation_table(name, data, split, entries)
        elif name != "rest":
            columns = NTU if name == "base" and (data, split) in (NTU[0], NTU[2]) else [(data, split)]
            text, names = results_table(*(("LAST-Base", BASE) if name == "base" else ("LAST-Lite", LITE)), columns, entries, exports)
        else:
            continue
        out, shown = [*out, text], shown | names
    rest = {name: e for name, e in sorted(entries.items()) if name not in shown}
    return "\n\n".join([*out, *([rest_table(rest)] if rest and "rest" in show else [])]) + "\n"


def as_csv(entries: dict, exports: dict) -> str:
    rows = []
    for e in [*(e for _, e in sorted(entries.items())), *published().values()]:
        streams, each = network(e)
        row = {"kind": e.get("kind") or ("demonstration" if e["dataset"] == "synthetic" else "measured"),
               **{k: e.get(k) for k in ("recipe", "dataset", "split", "params", "macs")}, "params_per_stream": each, "streams": streams,
               "source": e.get("source") or e.get("command"), "seeds": len(values(e, "seed")) or None}
        for key in ("top1", "top1_clean", "top5"):
            v = values(e, key)
            row |= {key: statistics.mean(v) if v else None, f"{key} sd": statistics.stdev(v) if len(v) > 1 else None}
        row |= {f"{key} by seed": "; ".join("" if r.get(key) is None else str(r[key]) for r in e["runs"]) for key in RUN_KEYS if values(e, key)
                and "kind" not in e}
        export = exports.get((e["recipe"], e["dataset"], e["split"]), {})
        row |= {f"{form} {k}": v for form in ("fp32", "int8", "w8", "latency") for k, v in export.get(form, {}).items()}
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def collect(measured: dict[str, dict], results: Path, runs: str, exports: str) -> int:
    reports = [read(path, "recipe", "dataset") for path in sorted(Path(exports).glob("*/report.json"))]
    real = measured | {f"{x['recipe']}--{x['dataset']}-export": x for x in reports}
    real = {k: v for k, v in real.items() if v["dataset"] != "synthetic"}
    if not real:
        raise ValueError(f"no finished run of a real data set below {runs}, no export below {exports}: train one with `just phase1`")
    for name, entry in real.items():
        write_json(results / f"{name}.json", entry)
        print(results / f"{name}.json")
    return 0


def main(argv: list[str]) -> int:
    action, *rest = argv or [""]
    if action not in ("table", "collect"):
        raise ValueError(f"unknown action {action!r}{nearest(action, ('table', 'collect'))}")
    given = {"runs": "runs", "results": "results"} | ({"exports": "exports"} if action == "collect" else {})
    if action == "table":
        given |= {"data": "ntu60", "split": "", "show": ",".join(SHOW), "format": "markdown", "out": ""}
    for arg in rest:
        key, _, value = arg.partition("=")
        if key not in given:
            raise ValueError(f"unknown argument {arg!r}{nearest(key, given)}")
        given[key] = value
    measured = gather(Path(given["runs"]), strict=action == "collect")
    if action == "collect":
        return collect(measured, Path(given["results"]), given["runs"], given["exports"])
    show = given["show"].split(",")
    for key, word, known in (*(("show", s, SHOW) for s in show), ("format", given["format"], ("markdown", "csv"))):
        if word not in known:
            raise ValueError(f"{key} = {word!r}{nearest(word, known)}")
    entries, exports = stored(Path(given["results"])) if given["results"] else ({}, {})
    entries |= measured
    if not entries:
        raise ValueError(f"nothing to show: no finished run below {given['runs']}, no file in {given['results'] or 'results'}")
    text = as_csv(entries, exports) if given["format"] == "csv" else markdown(entries, exports, given["data"], given["split"], show)
    if given["out"]:
        with atomic(Path(given["out"])) as part:
            part.write_text(text)
    else:
        print(text, end="")
    print(f"{len(entries)} measured; accuracies in percent, mean ± sd over seeds", file=sys.stderr)
    return 0


if __name__ == "__main__":
    cli(main)
