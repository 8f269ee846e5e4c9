"""Write one HTML page about a run: its curves, its confusions, the clips that it gets wrong, and how it was made.

    just report recipe=lite_nano data=nw_ucla                 RUN/report.html; any override that the training had
    just report run=runs/lite_nano/nw_ucla-xview/seed0        the same by its folder
    just report recipe=lite_nano data=nw_ucla html=nano.html  elsewhere

The page is a single file with its drawings in it: it can be mailed. A run under way gets its curves. Clips are drawn if
the clip store is there. Recall is the share of a class's test clips that get its name.
Exit codes: 0 written, 2 bad input.
"""
from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from last import load_checkpoint
from phases.common.files import atomic, read_json, read_log
from phases.common.limits import load_npz, reading
from phases.common.settings_cli import cli
from phases.reporting.drawing import COLOURS, FRONT, as_camera, clip_joints, limits, project
from phases.training.clip_store import ClipStore
from phases.training.recipe import load_config

WORST, EXAMPLES, FRAMES = 6, 2, 8  # pairs of classes, clips of a pair, frames of a clip
STYLE = """
:root{--ground:#f7f6f3;--paper:#fff;--ink:#1f2a30;--soft:#5b6870;--line:#dcdfdf;--accent:#00798c;--wrong:#d1495b;
color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ground:#12181b;--paper:#1b2327;--ink:#e8eced;--soft:#a0adb3;--line:#313c41;
--accent:#3cb4c4;--wrong:#ef7486}}
body{font:16px/1.5 system-ui,sans-serif;max-width:1080px;margin:0 auto;padding:1.5rem;background:var(--ground);
color:var(--ink)}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}p{margin:.4rem 0;color:var(--soft)}
.curves{display:flex;flex-wrap:wrap;gap:1rem}svg{max-width:100%;height:auto;display:block}
text{fill:var(--soft);font-size:11px}.axis{stroke:var(--line);fill:none}table{border-collapse:collapse}
td,th{text-align:left;padding:.15rem 1rem .15rem 0;vertical-align:top}th{font-weight:600;color:var(--soft)}
figure{margin:0 0 1.2rem}figcaption{font-size:.9rem;color:var(--soft)}.clip{background:#fff;border-radius:8px}
.wide{overflow-x:auto}pre{white-space:pre-wrap;font-size:.8rem}code{overflow-wrap:anywhere}
"""
CURVES = {"loss": "Loss", "top1": "Accuracy in percent", "lr": "Learning rate"}


@dataclass(frozen=True)
class Run:
    """What a run folder holds; logits and result are empty while it is under way."""
    folder: Path
    recipe: dict
    log: list[dict]         # a line per epoch
    result: dict
    classes: list[str]
    name: np.ndarray        # n, of the test clips
    label: np.ndarray       # n
    logits: np.ndarray      # n k
    store: ClipStore | None


def options(argv: list[str]) -> tuple[Path, Path]:
    """(run folder, file to write)."""
    given = dict(arg.partition("=")[::2] for arg in argv)
    rest = [arg for arg in argv if arg.partition("=")[0] not in ("run", "html")]
    if ("run" in given) == bool(rest):
        raise ValueError("give run=FOLDER, or recipe=NAME and what else the run was made with")
    folder = Path(given["run"]) if "run" in given else load_config(rest).run
    if not (folder / "recipe.json").is_file():
        raise ValueError(f"{folder}: no run is there (it lacks recipe.json): train it first, or give a run's folder")
    return folder, Path(given.get("html") or folder / "report.html")


def load(folder: Path) -> Run:
    recipe, result, scores = read_json(folder / "recipe.json"), {}, {"name": [], "label": [], "logits": []}
    if (folder / "result.json").is_file():
        result = read_json(folder / "result.json")
    if result and (folder / "scores.npz").is_file():
        with reading(folder / "scores.npz"):
            found = load_npz(folder / "scores.npz")
            scores = {key: found[key] for key in scores}
    place, store, classes = Path(recipe["data"]["store"] or f"stores/{recipe['data']['name']}"), None, []
    if (place / "meta.json").is_file():
        store = ClipStore(place)
        classes = list(store.classes)
    if (folder / "final.pt").is_file():
        classes = list(load_checkpoint(folder / "final.pt").get("classes", classes))
    classes = classes or [f"class {k}" for k in range(recipe["data"]["num_classes"])]
    arrays = {key: np.asarray(x) for key, x in scores.items()}
    return Run(folder, recipe, read_log(folder / "metrics.jsonl"), result, classes, store=store, **arrays)


# ---------------------------------------------------------------------------------------------------------------------
# Drawings
# ---------------------------------------------------------------------------------------------------------------------

def ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between low and high."""
    step = 10 ** math.floor(math.log10(max(high - low, 1e-12)))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if (high - low) / s <= 6)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def curve(title: str, lines: dict[str, list[tuple[float, float]]]) -> str:
    """A chart of {name: [(epoch, value)]}."""
    points = [point for line in lines.values() for point in line]
    (x0, x1), (y0, y1) = ((min(axis), max(axis)) for axis in zip(*points, strict=True))
    y0, y1 = min(y0, 0.0) if y0 < 0.5 * y1 else y0, y1 if y1 > y0 else y0 + 1
    width, height, left, low = 320, 210, 46, 180

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - x0) / max(x1 - x0, 1) * (width - left - 10), low - (y - y0) / (y1 - y0) * (low - 28)

    parts = [f'<text x="{left}" y="14" style="font-size:13px">{title}</text>']
    for y in ticks(y0, y1):
        parts.append(f'<path class="axis" d="M{left} {at(x0, y)[1]:.1f}H{width - 10}"/>'
                     f'<text x="{left - 6}" y="{at(x0, y)[1] + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in sorted({x0, x1}):
        anchor = "start" if x == x0 else "end"
        parts.append(f'<text x="{at(x, y0)[0]:.1f}" y="{low + 18}" text-anchor="{anchor}">epoch {x:g}</text>')
    for (name, line), ink in zip(lines.items(), ("var(--accent)", "var(--wrong)"), strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2"/>')
        if len(lines) > 1:
            place = 14 + 14 * list(lines).index(name)
            parts.append(f'<text x="{width - 10}" y="{place}" text-anchor="end" style="fill:{ink}">{name}</text>')
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">' + \
        "".join(parts) + "</svg>"


def curves(log: list[dict]) -> str:
    charts = []
    for key, title in CURVES.items():
        percent = 100 if key == "top1" else 1
        lines = {"training": [(line["epoch"] + 1, percent * line[key]) for line in log if key in line]}
        if key == "top1":
            lines["validation"] = [(line["epoch"] + 1, line["validation"]) for line in log if "validation" in line]
        lines = {name: line for name, line in lines.items() if line}
        if lines:
            charts.append(curve(title, lines))
    return f'<h2>Training</h2><div class="curves">{"".join(charts)}</div>' if charts else ""


def matrix(confusion: np.ndarray, classes: list[str]) -> str:
    """The confusion matrix (K, K) as a picture: a row per true class, the darker the larger its share of the row."""
    K = len(confusion)
    cell = 30 if K <= 15 else 22 if K <= 30 else 10
    named = K <= 60
    left = 150 if named else 10
    size, share = left + K * cell + 10, confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    top = left if named else 10
    parts = [f'<rect x="{left}" y="{top}" width="{K * cell}" height="{K * cell}" fill="var(--paper)"/>']
    for k, name in enumerate(classes if named else ()):
        at, text = (k + 0.5) * cell, html.escape(name if len(name) < 23 else f"{name[:21]}…")
        font = f"font-size:{min(11, cell - 1)}px"
        turned = f'transform="translate({left + at + 4:.0f} {top - 5}) rotate(-90)"'
        parts.append(f'<text x="{left - 5}" y="{top + at + 4:.0f}" text-anchor="end" style="{font}">{text}</text>'
                     f'<text {turned} style="{font}">{text}</text>')
    for row, column in zip(*np.nonzero(confusion), strict=True):
        count, ink = int(confusion[row, column]), "accent" if row == column else "wrong"
        x, y = left + column * cell, top + row * cell
        told = html.escape(f"{classes[row]} taken for {classes[column]}: {count} of {int(confusion[row].sum())}")
        parts.append(f'<rect x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" fill="var(--{ink})" '
                     f'fill-opacity="{0.12 + 0.88 * share[row, column]:.2f}"><title>{told}</title></rect>')
        if cell > 20:
            dark = ' style="fill:#fff"' if share[row, column] > 0.5 else ""
            parts.append(f'<text x="{x + cell / 2:.0f}" y="{y + cell / 2 + 4:.0f}" text-anchor="middle" '
                         f'pointer-events="none"{dark}>{count}</text>')
    return f'<div class="wide"><svg width="{size}" height="{top + K * cell + 10}" role="img" ' \
           f'aria-label="Confusion matrix">{"".join(parts)}</svg></div>'


def strip(joints: np.ndarray, skeleton) -> str:
    """FRAMES frames, evenly over a clip (M, L, V, 3), side by side from the front."""
    paper = project(joints, skeleton, FRONT)
    (left, low), (right, high) = limits(paper)
    tall = 120
    scale = tall / (high - low)
    wide = max(40.0, (right - left) * scale)
    region = {v: r for r, members in enumerate(skeleton.regions.values()) for v in members}
    parts = []
    for k, t in enumerate(np.linspace(0, joints.shape[1] - 1, FRAMES).round().astype(int)):
        for m, body in enumerate(paper[:, t]):
            xy = (body - [left, low]) * scale
            for child, parent in skeleton.bones:
                if child != parent and np.isfinite(xy[[child, parent]]).all():
                    (x1, y1), (x2, y2) = xy[child], xy[parent]
                    parts.append(f'<path d="M{k * wide + x1:.1f} {tall - y1:.1f}L{k * wide + x2:.1f} {tall - y2:.1f}" '
                                 f'stroke="{COLOURS[region[child] % len(COLOURS)]}" opacity="{0.45 if m else 1}"/>')
    size = f'width="{FRAMES * wide:.0f}" height="{tall}" viewBox="0 0 {FRAMES * wide:.0f} {tall}"'
    return f'<svg class="clip" {size} stroke-width="2.2" stroke-linecap="round" role="img" ' \
           f'aria-label="Frames of the clip">{"".join(parts)}</svg>'


# ---------------------------------------------------------------------------------------------------------------------
# Sections
# ---------------------------------------------------------------------------------------------------------------------

def facts(run: Run) -> str:
    r, d = run.result, run.recipe["data"]
    rows = [("data", f"{d['name']}, split {d['split']}, {len(run.classes)} classes")]
    if r and "top1" not in r:
        rows.append(("training", f"without labels: {r['seconds'] / 60:.1f} minutes on {r['device']}"))
    elif r:
        clean = f", {r['top1_clean']:.1f} % without copied clips" if r.get("top1_clean") is not None else ""
        rows += [("top-1", f"{r['top1']:.1f} %{clean}; top-5 {r['top5']:.1f} %; {r['clips']} test clips"),
                 ("network", f"{run.recipe['model']['name']}, {r['params']:,} parameters, {r['macs'] / 1e6:.1f}M "
                             "multiply-adds a clip"),
                 ("training", f"{r['epochs']} epochs, {r['seconds'] / 60:.1f} minutes on {r['device']}")]
    elif run.log:
        seconds = sum(line["seconds"] for line in run.log)
        rows.append(("training", f"under way: {len(run.log)} of {run.recipe['train']['epochs']} epochs, "
                                 f"{seconds / 60:.1f} minutes"))
    if r:
        rows += [("command", f"<code>{html.escape(r['command'])}</code>"),
                 ("commit", html.escape(r["commit"] or "unknown"))]
    return "<table>" + "".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in rows) + "</table>"


def recalls(confusion: np.ndarray, classes: list[str]) -> str:
    """A bar per class, the worst first."""
    clips, right = confusion.sum(1), np.diag(confusion)
    share = right / np.maximum(clips, 1)
    rows = []
    for k in np.argsort(share, kind="stable"):
        if clips[k]:
            bar = f'<rect width="{200 * share[k]:.0f}" height="12" rx="4" fill="var(--accent)"/>'
            bar = f'<rect width="200" height="12" rx="4" fill="var(--line)"/>{bar}'
            rows.append(f'<tr><td>{html.escape(classes[k])}</td><td><svg width="200" height="12" aria-hidden="true">'
                        f"{bar}</svg></td><td>{100 * share[k]:.0f} %</td>"
                        f"<td>{right[k]} of {clips[k]}</td></tr>")
    return f"<h2>Recall of each class</h2><table>{''.join(rows)}</table>"


def worst(run: Run, confusion: np.ndarray, p: np.ndarray) -> str:
    """The most frequent confusions, and of each the clips that the network is most certain about."""
    off = confusion - np.diag(np.diag(confusion))
    pairs = [np.unravel_index(k, off.shape) for k in np.argsort(-off, axis=None, kind="stable")[:WORST] if off.flat[k]]
    if not pairs:
        return "<h2>Worst confusions</h2><p>None: every test clip gets its name.</p>"
    rows = {name: i for i, name in enumerate(run.store.clips["name"].tolist())} if run.store else {}
    up = run.store.meta.get("recorded", {}).get("up", "y") if run.store else "y"
    parts = ["<h2>Worst confusions</h2>"]
    if not rows:
        parts.append("<p>The clip store is not here, so the clips are named and not drawn.</p>")
    for true, taken in pairs:
        own = np.flatnonzero((run.label == true) & (p.argmax(1) == taken))
        parts.append(f"<h3>{html.escape(run.classes[true])}, taken for {html.escape(run.classes[taken])}: "
                     f"{len(own)} of {(run.label == true).sum()}</h3>")
        for i in own[np.argsort(-p[own, taken], kind="stable")][:EXAMPLES]:
            name, picture = str(run.name[i]), ""
            if name in rows:
                picture = strip(as_camera(clip_joints(run.store, rows[name]), up), run.store.skeleton)
            said = " · ".join(f"{html.escape(run.classes[k])} {100 * p[i, k]:.0f} %" for k in (taken, true))
            parts.append(f'<figure><div class="wide">{picture}</div>'
                         f"<figcaption>{html.escape(name)}: {said}</figcaption></figure>")
    return "".join(parts)


def page(run: Run) -> str:
    r, d = run.recipe, run.recipe["data"]
    title = html.escape(f"{run.folder.parent.parent.name} on {d['name']} {d['split']}, seed {r['seed']}")
    parts: Iterable[str] = [f"<h1>{title}</h1>", facts(run), curves(run.log)]
    if len(run.label):
        p = np.exp(run.logits - run.logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        confusion = np.zeros((p.shape[1],) * 2, int)
        np.add.at(confusion, (run.label, p.argmax(1)), 1)
        parts += ["<h2>Confusion matrix</h2><p>A row per true class, a column per answer.</p>",
                  matrix(confusion, run.classes), worst(run, confusion, p), recalls(confusion, run.classes)]
    parts.append(f"<h2>Recipe</h2><details><summary>every field</summary><pre>{html.escape(json.dumps(r, indent=1))}"
                 "</pre></details>")
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">' \
           f"<title>{title}</title><style>{STYLE}</style>{''.join(parts)}</html>\n"


def main(argv: list[str]) -> None:
    folder, out = options(argv)
    run = load(folder)
    if not run.log and not run.result:
        raise ValueError(f"{folder}: nothing to report yet: no epoch is complete")
    with atomic(out) as part:
        part.write_text(page(run), encoding="utf-8")
    print(out)


if __name__ == "__main__":
    cli(main)
