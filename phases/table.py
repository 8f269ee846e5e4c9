"""Tables of what was trained, and the results files that are committed.

    just table                   Markdown: every finished run under runs/ and every file under results/
    just table runs=runs/demo results=
    just collect                 runs/ -> results/<recipe>--<dataset>-<split>.json, all seeds of a run in one file

A results file: {"recipe", "dataset", "split", "params", "macs", "command", "runs": [{"seed", "top1", "top5", "top1_clean", "epochs",
"seconds", "device", "commit"}]}; accuracies in percent, top1_clean null where no class of the data set leaks. Synthetic clips are a
demonstration: their rows are marked, and they are never collected.
Exit codes: 0 done, 2 bad input or nothing to show.
"""
from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from last import atomic, cli, nearest

RUN_KEYS = ("seed", "top1", "top5", "top1_clean", "epochs", "seconds", "device", "commit")


def read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except ValueError as e:
        raise ValueError(f"{path}: is no JSON ({e})") from None


def gather(runs: Path) -> dict[str, dict]:
    """Results files, by name, of every finished run below a folder."""
    found: dict[str, dict] = {}
    for path in sorted(runs.glob("*/*/seed*/result.json")):
        r = read(path)
        if path.parts[-4] != r["recipe"]:  # a folder that was moved aside
            continue
        command = " ".join(w for w in r["command"].split() if not w.startswith(("seed=", "out="))) + " seed=..."
        entry = found.setdefault(f"{r['recipe']}--{r['dataset']}-{r['split']}", {
            **{k: r[k] for k in ("recipe", "dataset", "split", "params", "macs")}, "command": command, "runs": []})
        if entry["command"] != command:
            raise ValueError(f"{path.parent}: was made by {command!r}, other seeds by {entry['command']!r}; move one of them aside")
        entry["runs"].append({k: round(r[k], 3) if isinstance(r.get(k), float) else r.get(k) for k in RUN_KEYS})
    for entry in found.values():
        entry["runs"].sort(key=lambda r: r["seed"])
    return found


def mean_sd(runs: list[dict], key: str) -> str:
    """`95.2 ± 0.3` over seeds, the sample standard deviation; empty where nothing was measured."""
    values = [r[key] for r in runs if r.get(key) is not None]
    if not values:
        return ""
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def markdown(entries: dict[str, dict]) -> str:
    head = ("recipe", "data set", "split", "parameters", "MACs per clip", "seeds", "top-1", "top-1 clean", "top-5")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for _, e in sorted(entries.items()):
        mark = " (demonstration)" if e["dataset"] == "synthetic" else ""
        lines.append(f"| {e['recipe']} | {e['dataset']}{mark} | {e['split']} | {e['params'] / 1e3:.1f}K | {e['macs'] / 1e6:.0f}M | {len(e['runs'])} "
                     f"| {mean_sd(e['runs'], 'top1')} | {mean_sd(e['runs'], 'top1_clean')} | {mean_sd(e['runs'], 'top5')} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    action, *rest = argv or [""]
    if action not in ("table", "collect"):
        raise ValueError(f"unknown action {action!r}{nearest(action, ('table', 'collect'))}")
    given = {"runs": "runs", "results": "results"}
    for arg in rest:
        key, _, value = arg.partition("=")
        if key not in given:
            raise ValueError(f"unknown argument {arg!r}{nearest(key, given)}")
        given[key] = value
    measured = gather(Path(given["runs"]))
    if action == "collect":
        real = {k: v for k, v in measured.items() if v["dataset"] != "synthetic"}
        if not real:
            raise ValueError(f"no finished run of a real data set below {given['runs']}: train one with `just phase1`")
        for name, entry in real.items():
            path = Path(given["results"]) / f"{name}.json"
            with atomic(path) as part:
                part.write_text(json.dumps(entry, indent=1) + "\n")
            print(path)
        return 0
    entries = {p.stem: e for p in sorted(Path(given["results"]).glob("*--*.json")) if "runs" in (e := read(p))} if given["results"] else {}
    entries |= measured
    if not entries:
        raise ValueError(f"nothing to show: no finished run below {given['runs']}, no file in {given['results'] or 'results'}")
    print(markdown(entries))
    print(f"{len(entries)} rows; accuracies in percent, mean ± sd over seeds", file=sys.stderr)
    return 0


if __name__ == "__main__":
    cli(main)
