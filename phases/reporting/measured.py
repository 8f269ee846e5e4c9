"""What was measured, as entries: a recipe on a split of a data set, with one line per seed.

Entries come from finished runs below runs/, from the committed files results/<recipe>--<dataset>-<split>.json and, in
the same form, from what papers published (results/published.json). An entry:

    {"recipe", "dataset", "split", "params", "macs", "command",
     "runs": [{"seed", "top1", "top5", "top1_clean", "epochs", "seconds", "device", "commit"}]}

Accuracies are percent; top1_clean is null if no class of the data set leaks. A run that also trained causally has its
accuracy in that mode as "top1_causal", a student its teacher's as "teacher_top1". An ensemble adds "streams" and
"params_per_stream"; its params and macs are totals. results/<recipe>--<dataset>-export.json gives sizes of real files.
"""
from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path

from last import STREAMS
from phases.common.files import ROOT, read_json
from phases.common.recipes import WHERE, read_recipe, recipe_files
from phases.training.recipe import load_config

RUN_KEYS = ("seed", "top1", "top5", "top1_clean", "epochs", "seconds", "device", "commit")
MORE = ("top1_causal", "teacher_top1")  # in some results
FUSED = {"lite": len(STREAMS), "last_e": 3}  # streams that one network takes in together
DEMO = " (demonstration)"


def published() -> dict[str, dict]:
    """What papers published, by model and split, as entries of one run each.

    CTR-GCN, InfoGCN and HD-GCN agree with the benchmark lists of hyper.ai and paperswithcode.com, HI-GCN with its
    abstract; CTR-GCN's joint stream is a user's run. EfficientGCN-B0 is the paper's own page, SkateFormer its authors'
    page of released weights (joint + bone), with its NW-UCLA figure as others cite it. A source says if no page
    confirmed the parameters.
    """
    entries = {}
    for model, paper in read_json(ROOT / "results" / "published.json").items():
        for place, top1 in paper["top1"].items():
            dataset, _, split = place.partition("-")
            entries[f"{model}--{place}"] = {
                "kind": "published", "recipe": model, "dataset": dataset, "split": split, "params": paper["params"],
                "params_per_stream": paper["params_per_stream"], "streams": paper["streams"],
                "source": f"published: {paper['source']}", "runs": [{"top1": top1}]}
    return entries


def read(path: Path, *keys: str) -> dict:
    """A JSON file with these keys; ValueError names what it lacks."""
    value = read_json(path)
    missing = [k for k in keys if k not in value]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}")
    return value


def trained(name: str) -> str:
    """The recipe behind a run folder's name: base for base, base-bone and base-all."""
    stem, _, stream = name.rpartition("-")
    return stem if stream in (*STREAMS, "all") else name


def same_but_seed(command: str) -> str:
    """A command without what may differ between the seeds of one row: the seed, the place, the runs it starts from."""
    words = [w for w in command.split() if w.partition("=")[0] not in ("seed", *WHERE)]
    return re.sub(r"/seed\d+\b", "/seed...", " ".join(words)) + " seed=..."


def gather(runs: Path, strict: bool = True) -> dict[str, dict]:
    """Entries, by name, of every finished run below a folder. <recipe>-<stream> and <recipe>-all are runs of <recipe>.

    A seed that another command made than the seed before it is an error; if not strict, it is named and left out.
    """
    found: dict[str, dict] = {}
    for path in sorted(runs.glob("*/*/seed*/result.json")):
        r, (name, place, seed) = read(path, "recipe", "dataset", "split"), path.parts[-4:-1]
        aside = place != f"{r['dataset']}-{r['split']}" or not re.fullmatch(r"seed\d+", seed)
        if aside or "top1" not in r or trained(name) != trained(r["recipe"]):  # moved aside, or an encoder of phase 3
            continue
        if r["split"] == "all":  # tested on its training clips
            continue
        command = same_but_seed(r.get("command", ""))
        entry = {"recipe": name, **{k: r.get(k) for k in ("dataset", "split", "params", "macs")}}
        entry |= {k: r[k] for k in ("streams", "params_per_stream") if k in r}
        entry = found.setdefault(f"{name}--{r['dataset']}-{r['split']}", entry | {"command": command, "runs": []})
        if sorted(entry["command"].split()) != sorted(command.split()):
            odd = f"{path.parent}: was made by {command!r}, other seeds by {entry['command']!r}"
            if strict:
                raise ValueError(f"{odd}; move one of them aside")
            print(f"left out: {odd}", file=sys.stderr)
            continue
        line = {k: r.get(k) for k in RUN_KEYS} | {k: r[k] for k in MORE if k in r}
        entry["runs"].append({k: round(v, 3) if isinstance(v, float) else v for k, v in line.items()})
    for entry in found.values():
        entry["runs"].sort(key=lambda line: line["seed"] or 0)
    return found


def stored(folder: Path) -> tuple[dict[str, dict], dict[tuple, dict]]:
    """Committed entries by name, and export reports by (recipe, data set, split); no split means the data set's own."""
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


def entry_of(row: str, data: str, split: str, entries: dict[str, dict]) -> dict | None:
    """The entry of a row; of the recipe that it extends if it changes nothing there (B7 is base under another name)."""
    e = entries.get(f"{row}--{data}-{split}")
    if e or row not in recipe_files():
        return e
    table = read_recipe(row)[1]
    if "members" in table:  # B14: the average of B7's streams, and B7 is base
        return next((entries[name] for name in (f"{recipe}-all--{data}-{split}" for recipe in same_as(table["members"]))
                     if name in entries), None)
    return entry_of(table["extends"], data, split, entries) if set(table) == {"extends"} else None


def same_as(recipe: str) -> list[str]:
    """A recipe, and those that it is another name of: B7, base."""
    table = read_recipe(recipe)[1]
    return [recipe, *(same_as(table["extends"]) if set(table) == {"extends"} else [])]


def overrides(e: dict | None) -> list[str]:
    """What an entry's command changed of its recipe, apart from the epochs, which have a column: view.frames=16."""
    words = e.get("command", "").split() if e else []
    return [w for w in words if "." in w.partition("=")[0] and not w.startswith("train.epochs=")]


# ---------------------------------------------------------------------------------------------------------------------
# Cells of a table
# ---------------------------------------------------------------------------------------------------------------------

def values(e: dict | None, key: str) -> list:
    return [r[key] for r in e["runs"] if r.get(key) is not None] if e else []


def mean_sd(e: dict | None, key: str) -> str:
    """`95.2 ± 0.3` over seeds, the sample standard deviation; empty if nothing was measured."""
    v = values(e, key)
    return (f"{statistics.mean(v):.1f}" if v else "") + (f" ± {statistics.stdev(v):.1f}" if len(v) > 1 else "")


def by_seed(e: dict, key: str) -> dict[int | None, float]:
    """A seed's figure, the mean of its runs if several machines made some."""
    runs = [(r.get("seed"), r[key]) for r in e["runs"] if r.get(key) is not None]
    return {seed: statistics.mean(x for other, x in runs if other == seed) for seed, _ in runs}


def paired(e: dict | None, reference: dict | None, key: str = "top1") -> list[float]:
    """Differences to a reference row in points, one for each seed that both have; the means' alone if they share none.

    Empty if the two commands changed different things, such as the epochs or the number of frames; a teacher and SWA's
    rate are what rows of distillation and of SWA are about, and nothing else reads them.
    """
    def conditions(e: dict) -> tuple[list, set]:
        return sorted(w for w in overrides(e) if not w.startswith(("distil.", "train.swa_"))), set(values(e, "epochs"))

    if not values(e, key) or not values(reference, key) or e is reference or conditions(e) != conditions(reference):
        return []
    ours, theirs = by_seed(e, key), by_seed(reference, key)
    shared = [x - theirs[seed] for seed, x in ours.items() if seed in theirs]
    return shared or [statistics.mean(ours.values()) - statistics.mean(theirs.values())]


def change(e: dict | None, reference: dict | None, key: str = "top1") -> str:
    """Difference to a reference row: `+1.0 ± 0.4`, mean and sample standard deviation over the seeds; see paired."""
    points = paired(e, reference, key)
    spread = f" ± {statistics.stdev(points):.1f}" if len(points) > 1 else ""
    return f"{statistics.mean(points):+.1f}{spread}" if points else ""


def verdict(points: list[float]) -> str:
    """What paired differences show. *helps* or *hurts*: three seeds or more, a mean of at least twice its spread."""
    if len(points) < 3:
        return "too few seeds"
    mean = statistics.mean(points)
    if mean == 0 or abs(mean) < 2 * statistics.stdev(points):
        return "cannot be told"
    return "helps" if mean > 0 else "hurts"


def count(n: float | None) -> str:
    """188588 -> 188.6K, at most four digits."""
    if n is None:
        return ""
    for unit, mark in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if n >= unit:
            return f"{n / unit:.4g}{mark}"
    return f"{n:.4g}"


def drop(form: dict) -> str:
    """`0.2 (-0.1 to 0.5)`: points of top-1 lost to FP32, with the paired 95 % interval."""
    if form.get("drop") is None:
        return ""
    low_high = form.get("drop_ci95")
    return f"{form['drop']:.1f}" + (f" ({low_high[0]:.1f} to {low_high[1]:.1f})" if low_high else "")


def network(e: dict) -> tuple[int | None, float | None]:
    """(streams, parameters of one network) of an entry; None if neither it nor its recipe tells."""
    try:
        fused = FUSED.get(load_config([f"recipe={trained(e['recipe'])}"]).model.name, 1)
    except ValueError:  # a recipe that is gone, or a paper
        fused = None
    streams = e.get("streams") or fused
    return streams, e.get("params_per_stream") or (e.get("params") if streams == 1 or (fused or 1) > 1 else None)


SIZES = ("streams", "parameters per stream", "parameters in total", "MACs per clip", "seeds")


def sizes(e: dict | None) -> dict[str, str]:
    """The cells SIZES of an entry."""
    if not e:
        return {}
    streams, each = network(e)
    seeds = str(len(set(values(e, "seed"))) or "")
    together = " in one network" if (streams or 1) > 1 and each == e.get("params") else ""
    return {"streams": f"{streams or ''}{together}", "parameters per stream": count(each),
            "parameters in total": count(e.get("params")), "MACs per clip": count(e.get("macs")),
            "seeds": seeds + f" ({len(values(e, 'seed'))} runs)" * (len(values(e, "seed")) > int(seeds or 0))}
