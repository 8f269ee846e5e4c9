"""The blocks of README.md, results/README.md and results/networks/README.md: numbers from the files in results/."""
from __future__ import annotations

import json
import re
import statistics
import textwrap
from collections import Counter
from pathlib import Path

from last import STREAMS
from phases.common.command import nearest
from phases.common.files import ROOT, read_json
from phases.common.recipes import recipe_files
from phases.reporting.measured import (
    change,
    count,
    default_split,
    drop,
    entry_of,
    mean_sd,
    overrides,
    paired,
    published,
    sizes,
    values,
    verdict,
)
from phases.reporting.tables import AGAINST, LABEL, ablation_rows, purpose, rows_of
from phases.shipping.exported import ExportedModel


def headline(entries: dict, exports: dict, bench: dict) -> str:
    """The three numbers of the first screen, each beside a peer's."""
    ctr = published()["CTR-GCN (4s)--nw_ucla-xview"]
    small, nano = entries["lite_small--nw_ucla-xview"], exports["lite_nano", "nw_ucla", "xview"]
    top1, clean = (statistics.mean(values(small, key)) for key in ("top1", "top1_clean"))
    low, high = nano["int8"]["drop_ci95"]
    lost = "nothing that could be measured" if low <= 0 <= high else f"{drop(nano['int8'])} points"
    return "\n".join((
        f"- **{top1:.1f} %** on Northwestern-UCLA from one network of {count(small['params'])} parameters, "
        f"{clean:.1f} % without copied clips.",
        f"  CTR-GCN: {values(ctr, 'top1')[0]} % from four networks, {count(ctr['params'])} in all.",
        f"- **{nano['int8']['bytes'] / 1000:.0f} KB**: LAST-Lite nano as an INT8 file, which loses {lost} there.",
        f"- **{bench['parse']['ratio']:.0f} times** as fast as the usual line-by-line parser on NTU RGB+D's text "
        "(`just bench`)."))


PEERS = ("CTR-GCN (joint stream)", "CTR-GCN (4s)", "InfoGCN (6s)", "HD-GCN (6s)", "SkateFormer (2s)")
OURS = (("lite_small", "LAST-Lite small"), ("lite_small_smalls", "LAST-Lite small, distilled"),
        ("lite_nano", "LAST-Lite nano"), ("lite_nano_smalls", "LAST-Lite nano, distilled"))


def peers(entries: dict, exports: dict, bench: dict) -> str:
    """Ours beside the published rows: top-1 on Northwestern-UCLA's 464 clips, the clean 369 of them, and UTD-MHAD."""
    rows, papers = [], published()
    for model in PEERS:
        e = papers[f"{model}--nw_ucla-xview"]
        rows.append({"model": model, **sizes(e), "NW-UCLA": str(values(e, "top1")[0]),
                     "runs": "a user's run" if "user" in e["source"] else "paper"})
    for recipe, model in OURS:
        e, utd = entries[f"{recipe}--nw_ucla-xview"], entries.get(f"{recipe}--utd_mhad-xsub")
        rows.append({"model": f"**{model}**", **sizes(e), "NW-UCLA": mean_sd(e, "top1"),
                     "clean": mean_sd(e, "top1_clean"), "runs": str(len(e["runs"])), "UTD-MHAD": mean_sd(utd, "top1"),
                     "runs there": str(len(utd["runs"])) if utd else ""})
    for row in rows:
        row["parameters"] = row["parameters in total"]
        row["streams"] = row["streams"].replace(" in one network", ", fused")
    return rows_of(["model", "streams", "parameters", "NW-UCLA", "clean", "runs", "UTD-MHAD", "runs there"], rows)


def speed(entries: dict, exports: dict, bench: dict) -> str:
    """The short table of speed, clips per second of one thread of a CPU, and a training step's peak memory."""
    rows = []
    for variant in ("nano", "small"):
        row = {"network": f"LAST-Lite {variant}"}
        for x in bench["networks"]:
            if x["variant"] == variant and x["bodies"] == 1:
                if x["training"] and x["batch"] == 16 and not x["compiled"]:
                    row |= {"training": f"{x['clips_per_cpu_s']:.0f}", "peak MB": f"{x['peak_MB']:.0f}"}
                if not x["training"] and x["batch"] == 1:
                    column = "the same, torch.compile" if x["compiled"] else "one clip at a time"
                    row[column] = f"{x['clips_per_cpu_s']:.0f}"
        rows.append(row)
    whole = next(x for x in bench["attention"] if x["channels"] is None and x["training"])
    rows.append({"network": f"LAST-Base, {whole['ratio']:.1f} times as fast as with dense attention masks",
                 "training": f"{whole['ours']['clips_per_cpu_s']:.1f}", "peak MB": f"{whole['ours']['peak_MB']:.0f}"})
    head = ["network", "training", "one clip at a time", "the same, torch.compile", "peak MB"]
    return rows_of(head, rows) + ("\n\nClips per CPU second; peak of a step of 16 clips (LAST-Base: 2), 64 frames, one "
                                  f"body. `{bench['command'].strip()}`: {bench['device'].split(',')[0]}.")


def lite_speed(entries: dict, exports: dict, bench: dict) -> str:
    """Every case of LAST-Lite in bench.json, eager beside compiled."""
    rows, cases = [], {}
    for x in bench["networks"]:
        key = x["variant"], x["bodies"], x["batch"], x["training"]
        cases.setdefault(key, {})[x["compiled"]] = x
    for (variant, bodies, batch, training), case in cases.items():
        eager, fast = case[False], case.get(True)
        row = {"LAST-Lite": variant, "M": str(bodies), "batch": str(batch),
               "mode": "training step" if training else "forward",
               "clips per CPU second": f"{eager['clips_per_cpu_s']:.1f}", "of small's step": f"{eager['ratio']:.2f}",
               "peak MB: eager": f"{eager['peak_MB']:.0f}"}
        if fast:
            row |= {"compiled": f"{fast['clips_per_cpu_s']:.1f}", "compiled peak": f"{fast['peak_MB']:.0f}",
                    "against eager": f"{fast['clips_per_cpu_s'] / eager['clips_per_cpu_s']:.2f}"}
        rows.append(row)
    head = ["LAST-Lite", "M", "batch", "mode", "clips per CPU second", "of small's step", "compiled", "against eager",
            "peak MB: eager", "compiled peak"]
    return rows_of(head, rows)


def attention_speed(entries: dict, exports: dict, bench: dict) -> str:
    """Partitioned attention against dense masks."""
    rows = [{"partitioned attention": f"one block, C = {x['channels']}" if x["channels"] else "LAST-Base, one stream",
             "mode": "training step" if x["training"] else "forward", "times as fast": f"{x['ratio']:.2f}",
             "dense: peak MB": f"{x['dense']['peak_MB']:.0f}", "ours": f"{x['ours']['peak_MB']:.0f}"}
            for x in bench["attention"]]
    return rows_of(["partitioned attention", "mode", "times as fast", "dense: peak MB", "ours"], rows)


def against(entries: dict, exports: dict, bench: dict, results: str = "results") -> str:
    """Training steps before and after, of `just bench against=COMMIT`: time on a CPU as a ratio, memory, launches."""
    x = read_json(ROOT / results / "bench-against.json")
    rows = [{"step": case["name"], "clips": str(case["clips"]), "times as fast": f"{case['ratio']:.2f}",
             "from": f"{min(case['ratios']):.2f}", "to": f"{max(case['ratios']):.2f}",
             "peak MB before": f"{case['before']['peak_MB']:.0f}", "MB now": f"{case['after']['peak_MB']:.0f}",
             "launches before": f"{case['before']['launches']:,}", "launches now": f"{case['after']['launches']:,}"}
            for case in x["steps"]]
    return rows_of(list(rows[0]), rows) + f"\n\n`{x['command']}`: {x['device']}, torch {x['torch']}."


def side_by_side(entries: dict, exports: dict, bench: dict, results: str = "results") -> str:
    """`just ablation jobs=N` against one by one, of `just bench jobs=N`."""
    x = read_json(ROOT / results / "bench-jobs.json")
    low, high = min(x["ratios"]), max(x["ratios"])
    return (f"`{x['command']}`: {x['one by one']:.0f} s one by one, {x['side by side']:.0f} s with {x['jobs']} side by "
            f"side, {x['ratio']:.2f} of it ({low:.2f} to {high:.2f}); {x['cores']} cores, {x['device'].split(',')[0]}.")


def gpu_steps(entries: dict, exports: dict, bench: dict) -> str:
    """Every case of `just bench device=cuda`, all GPUs; an older state of the code under the name `before`."""
    rows = []
    for gpu in bench["gpus"]:
        for state, cases in (("", gpu["cases"]), ("before", gpu.get("before", {}).get("cases", []))):
            rows += [{"device": gpu["device"], "network": x["recipe"], "dtype": x["dtype"],
                      "code": state or x.get("commit", gpu["commit"]),
                      "compiled": "yes" if x["compiled"] else "no", "clips a step": str(x["batch"] * x["accumulate"]),
                      "step ms": f"{x['step_ms']:.1f}", "launches": str(x.get("launches", "")),
                      "clips a second": f"{x['clips_per_s']:.0f}", "of it the view": f"{100 * x['view_share']:.0f} %",
                      "NTU-60 epoch, s": f"{x['epoch_s']:.0f}", "peak MB": str(x.get("peak_MB", ""))} for x in cases]
    return rows_of(list(rows[0]), rows) if rows else "No GPU has been measured."


def teacher_share(entries: dict, exports: dict, bench: dict) -> str:
    """What a teacher's forward takes of a step of phase 2."""
    rows = [{"teacher": x["teacher"], "share of a step of phase 2": f"{100 * x['teacher_share']:.0f} %"}
            for x in bench["distil"]]
    return rows_of(["teacher", "share of a step of phase 2"], rows)


def exported(entries: dict, exports: dict, bench: dict) -> str:
    """Exported files: bytes, top-1 and agreement with FP32."""
    rows = []
    for (recipe, dataset, _), x in sorted(exports.items()):
        row = {"recipe": recipe, "data set": dataset, "seed": str(x.get("seed", ""))}
        for form, name in (("fp32", "FP32"), ("int8", "INT8"), ("w8", "w8")):
            row |= {f"{name} bytes": f"{x[form]['bytes']:,}", f"{name} top-1": f"{x[form]['top1']:.1f}"}
            if form != "fp32":
                row[f"{name} lost"] = drop(x[form])
            if "agreement" in x[form]:
                row[f"{name} agrees"] = f"{x[form]['agreement']:.1f}"
        rows.append(row)
    return rows_of(list(rows[0]), rows)


def measured(entries: dict, exports: dict, bench: dict, data: str = "nw_ucla") -> str:
    """Everything that was measured on a data set but the rows of ablation tables, with its recipe's purpose."""
    rows, files = [], recipe_files()
    for _, e in sorted(entries.items()):
        if e["dataset"] != data or re.fullmatch(r"[BLP]\d+(-\w+)?", e["recipe"]):
            continue
        line = files[e["recipe"]].read_text().split("\n")[0] if e["recipe"] in files else ""
        epochs = ", ".join(dict.fromkeys(map(str, values(e, "epochs"))))
        rows.append({"recipe": f"`{e['recipe']}`", "what": line.removeprefix("# ").rstrip("."), **sizes(e),
                     "epochs": epochs, "top-1": mean_sd(e, "top1"), "top-1 clean": mean_sd(e, "top1_clean"),
                     "top-5": mean_sd(e, "top5"), "parameters": count(e.get("params")),
                     "with": " ".join(overrides(e))})
    head = ["recipe", "what", "parameters", "epochs", "seeds", "top-1", "top-1 clean", "top-5", "with"]
    return rows_of(head, rows)


# what a student learns from: the ending of that recipe's name
SHORT = {"alone": "", "no smoothing": "_unsmoothed", "logits": "_kd", "logits and maps": "_mimic", "DKD": "_dkd"}
LONG = {"alone": "", "no smoothing": "_unsmoothed", "logits": "_logits", "logits and maps": "_smalls",
        "DKD and maps": "_dkd"}
STUDENTS = {"nw_ucla": {"small, 40 epochs": ("lite_small_short", SHORT), "small, 160 epochs": ("lite_small", LONG),
                        "nano, 40 epochs": ("lite_nano_short", SHORT), "nano, 160 epochs": ("lite_nano", LONG)},
            "utd_mhad": {"nano, 25 epochs": ("lite_nano", LONG)}}


def distilled(entries: dict, exports: dict, bench: dict, data: str = "nw_ucla") -> str:
    """What teachers are worth that are LAST-Lite small, averaged: a line a student, against those without a teacher."""
    rows, split = [], default_split(data)
    for student, (recipe, forms) in STUDENTS[data].items():
        got = {what: entries.get(f"{recipe}{ending}--{data}-{split}") for what, ending in forms.items()}
        for what, e in got.items():
            if e:
                row = {"student": student, "learns from": what, **sizes(e)}
                for key, name in (("top1", "top-1"), ("top1_clean", "top-1 clean")):
                    row |= {name: mean_sd(e, key)} | {
                        f"{name}: to {other}": change(e, got[other], key)
                        for other in ("alone", "no smoothing", "logits") if what not in ("alone", "no smoothing")}
                rows.append(row)
    head = ["student", "learns from", "seeds", *(f"{name}{to}" for name in ("top-1", "top-1 clean") for to in (
            "", ": to alone", ": to no smoothing", ": to logits"))]
    return rows_of(head, rows)


def taught(entries: dict, exports: dict, bench: dict, data: str = "utd_mhad") -> str:
    """The streams of a narrow LAST-Base, their average, and students on as many frames: alone and taught by it."""
    rows, split = [], default_split(data)
    streams = [("base_narrow", "joint", ""), *((f"base_narrow-{s}", s, "") for s in STREAMS[1:]),
               ("base_narrow-all", "the four, averaged", "")]
    students = [("lite_nano_16", "nano", ""), ("lite_nano_16_base", "nano, taught by the average", "lite_nano_16"),
                ("lite_small_16", "small", ""), ("L11", "small, taught by the average", "lite_small_16")]
    for name, what, alone in streams + students:
        e, other = (entries.get(f"{recipe}--{data}-{split}") for recipe in (name, alone))
        # the 16 frames of L11 stand in its command, those of lite_small_16 in its recipe
        plain = {**e, "command": ""} if e else None
        rows.append({"network": what, "recipe": f"`{name}`", **sizes(e),
                     "epochs": ", ".join(dict.fromkeys(map(str, values(e, "epochs")))),
                     "top-1": mean_sd(e, "top1"), "to the same alone": change(plain, other),
                     "top-1 clean": mean_sd(e, "top1_clean"),
                     "clean: to alone": change(plain, other, "top1_clean")})
    head = ["network", "recipe", "parameters in total", "epochs", "seeds", "top-1", "to the same alone", "top-1 clean",
            "clean: to alone"]
    return rows_of(head, rows)


def ablation(entries: dict, exports: dict, bench: dict, rows: str = "L", data: str = "utd_mhad") -> str:
    """The table of rows B, L or P, short: purpose, top-1 and the differences to its baselines.

    What the commands of all rows changed stands below it, what one row's did in its line.
    """
    split, lines = default_split(data), []
    got = {row: entry_of(row, data, split, entries) for row in ablation_rows(rows)}
    each = [overrides(e) for e in got.values() if e]
    shared = [word for word in (each[0] if each else []) if all(word in words for words in each)]
    against = {f"to {r}": got[r] for r in AGAINST[rows]}
    for row, e in got.items():
        lines.append({"row": row, "purpose": purpose(row), "top-1": mean_sd(e, "top1"), **sizes(e),
                      "epochs": ", ".join(dict.fromkeys(map(str, values(e, "epochs")))),
                      "top-1 clean": mean_sd(e, "top1_clean"), **{to: change(e, b) for to, b in against.items()},
                      **{f"clean {to}": change(e, b, "top1_clean") for to, b in against.items()},
                      "with": " ".join(word for word in overrides(e) if word not in shared)})
    head = ["row", "purpose", "parameters in total", "epochs", "seeds", "top-1", *against, "top-1 clean",
            *(f"clean {to}" for to in against), "with"]
    below = f"\n\nAll rows with `{' '.join(shared)}`." if shared else ""
    return rows_of(head, lines) + below


def ranges(rows: list[str]) -> str:
    """`L1, L3 to L10` for L1, L3, L4, ..., L10."""
    runs = []
    for row in rows:
        if runs and row == f"{runs[-1][-1][0]}{int(runs[-1][-1][1:]) + 1}":
            runs[-1].append(row)
        else:
            runs.append([row])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


def verdicts(entries: dict, exports: dict, bench: dict) -> str:
    """All ablation rows in a few lines: what helps, hurts and cannot be told, each against the row that it changes.

    On clean clips where some test clips are copies of training clips.
    """
    out = []
    for data in ("utd_mhad", "nw_ucla"):
        said = {"helps": [], "hurts": [], "cannot be told": [], "too few seeds": []}
        for letter, (base, *_) in AGAINST.items():
            got = {row: entry_of(row, data, default_split(data), entries) for row in ablation_rows(letter)}
            key = "top1_clean" if values(got[base], "top1_clean") else "top1"
            for row in [row for row in got if row != base]:
                named = re.search(rf"\b{letter}\d+\b", purpose(row))  # L5 without the DCT gate: against L5
                reference = got[named[0] if named else base]
                if points := paired(got[row], reference, key):
                    piece = re.sub(rf"^{letter}\d+ (\+ )?| \(.*|:.*", "", purpose(row))
                    told = f"{piece} ({row}, {change(got[row], reference, key)})"
                    name = verdict(points)
                    said[name].append(told if name in ("helps", "hurts") else row)
        words = {name: ", ".join(rows) if name in ("helps", "hurts") else ranges(rows) for name, rows in said.items()}
        line = "; ".join(f"{name}: {rows}" for name, rows in words.items() if rows) or "nothing measured"
        out += textwrap.wrap(f"- **{LABEL[data]}**: {line}.", 118, subsequent_indent="  ")
    return "\n".join(out)


def robust(entries: dict, exports: dict, bench: dict, results: str = "results") -> str:
    """What `just fuzz` and `just torture` tried and found: a line per kind of input, per phase, per full-size set."""
    fuzz, torture, ntu = (read_json(ROOT / results / f"{name}.json") for name in ("fuzz", "torture", "ntu-rehearsal"))
    kinds = {(x["target"], x["what"]): x["mended"] for x in fuzz["faults"].values()}  # some were met again later
    found = Counter(target for target, _ in kinds)
    mended = Counter(target for (target, _), is_mended in kinds.items() if is_mended)
    rows = [{"what": name, "command": f"`just fuzz 'targets={name}'`" if " " in name else f"`just fuzz targets={name}`",
             "tried": f"{x['tried']:,} inputs", "survived": f"{x['stored']:,} stored, {x['refused']:,} refused",
             "faults found": str(found[name] or ""), "mended": str(mended[name] or "")}
            for name, x in fuzz["targets"].items()]
    rows.append({"what": "**all inputs**", "command": "`just fuzz`", "tried": f"{fuzz['tried']:,} inputs",
                 "faults found": str(found.total()), "mended": str(mended.total())})
    for program, x in sorted(torture["phases"].items()):
        disk = sum(x["ways"].get(way, 0) for way in ("full", "inodes", "read-only", "permission"))
        kills, signals = x["ways"].get("kill", 0), x["ways"].get("term", 0) + x["ways"].get("int", 0)
        rest = sum(x["ways"].values()) - kills - signals - disk
        name = f"phase {program[1]}" if "_" in program else program
        rows.append({"what": name, "command": f"`just torture phases={name.removeprefix('phase ')}`",
                     "tried": f"{kills} kills, {signals} other signals, {disk} faults of the disk, {rest} others",
                     "survived": f"{x['ended']} runs went on to the very same result",
                     "faults found": str(len(x["faults"]) or "")})
    for x in ntu["data sets"]:
        sides = "; ".join(f"{name} {n['train']:,} + {n['test']:,}" for name, n in x["counts"].items())
        rows.append({"what": x["dataset"], "command": f"`{ntu['command']}`", "tried": f"{x['clips']:,} files, one kill",
                     "survived": f"{sides}; at most {x['peak MB']} MB"})
    return rows_of(["what", "command", "tried", "survived", "faults found", "mended"], rows)


def small_sets(entries: dict, exports: dict, bench: dict, results: str = "results") -> str:
    """The study behind adopt's schedule: a line per variant, top-1 of each fold, mean over sets."""
    trainings, rows = read_json(ROOT / results / "small-sets.json")["trainings"], {}
    names = {"utd": "UTD-MHAD", "irds": "IRDS", "ucla": "NW-UCLA", "rare": "rare classes"}
    for x in sorted(trainings, key=lambda x: (x["variant"] != "adopt", x["variant"], x["fold"])):
        row = rows.setdefault(x["variant"], {"variant": x["variant"], "changed": " ".join(x["changed"]),
                                             "steps": f"{round(x['steps'], -2):,}"})
        row[names[x["set"]]] = f"{row.get(names[x['set']], '')} {x['top1']:.1f}".strip()
    return rows_of(["variant", "changed", "steps", *names.values()], list(rows.values()))


def networks(entries: dict, exports: dict, bench: dict, results: str = "results") -> str:
    """The files in results/networks: what they are, and what their recipe reaches on clips that it did not train on."""
    rows = []
    for path in sorted((ROOT / results / "networks").glob("*.onnx")):
        model = ExportedModel(path)
        about, recorded = model.about, model.recorded
        dataset, recipe = about["dataset"], about["recipe"]
        e, causal = entries.get(f"{recipe}--{dataset}-{default_split(dataset)}"), json.loads(about["causal"])
        rows.append({"name": f"`{path.stem}`", "network": f"`{recipe}`", "form": about["form"] + ", causal" * causal,
                     "KB": f"{path.stat().st_size / 1000:.0f}", "data": LABEL.get(dataset, dataset),
                     "classes": str(len(model.classes)),
                     "joints": f"{model.skeleton['name']}, {recorded.unit}, {recorded.up} up",
                     "held-out, FP32": mean_sd(e, "top1_causal" if causal else "top1"),
                     "clean": "" if causal else mean_sd(e, "top1_clean")})
    return rows_of(["name", "network", "form", "KB", "data", "classes", "joints", "held-out, FP32", "clean"], rows)


def in_browser(entries: dict, exports: dict, bench: dict, results: str = "results") -> str:
    """Milliseconds a frame of `just page`: the networks, and the pose estimator."""
    x, rows = read_json(ROOT / results / "bench-page.json"), []
    for name, case in x["recognition"].items():
        rows.append({"what": f"{name}: view and network", "ms a frame": f"{case['ms']:.1f}",
                     "in Python": f"{case['python_ms']:.1f}", "KB": f"{case['bytes'] / 1000:.0f}"})
    for name, case in x["pose"].items():
        rows.append({"what": f"MediaPipe's pose, {name}", "ms a frame": f"{case['ms']:.0f}"})
    return rows_of(["what", "ms a frame", "in Python", "KB"], rows) + f"\n\n`{x['command']}`: {x['device']}, no GPU."


BLOCKS = {"headline": headline, "peers": peers, "speed": speed, "lite-speed": lite_speed,
          "attention-speed": attention_speed, "against": against, "side-by-side": side_by_side, "gpu-steps": gpu_steps,
          "teacher-share": teacher_share, "exports": exported, "measured": measured, "distilled": distilled,
          "ablation": ablation, "verdicts": verdicts, "robust": robust, "small-sets": small_sets, "networks": networks,
          "in-browser": in_browser, "taught": taught}
MARK = r"<!-- table: "
BLOCK = re.compile(rf"({MARK}([\w-]+)((?: \w+=[\w.-]+)*) -->\n)(?:(?!{MARK}).)*?(<!-- end -->)", re.S)


def filled(text: str, entries: dict, exports: dict, results: Path) -> str:
    """A README's text with each block between its markers rendered anew; ValueError for one that cannot be."""
    odd = re.search(rf"^{MARK}.*", BLOCK.sub("", text), re.M)
    if odd:
        raise ValueError(f"{odd[0]!r}: has no `<!-- end -->` before the next table, or words other than key=value")
    others = [read_json(path) for path in sorted(results.glob("bench-*.json"))]
    bench = read_json(results / "bench.json") | {"gpus": [other for other in others if "cases" in other]}

    def render(match: re.Match) -> str:
        start, name, words, end = match.groups()
        if name not in BLOCKS:
            raise ValueError(f"no table {name!r}{nearest(name, BLOCKS)}")
        options = dict(word.split("=") for word in words.split())
        return f"{start}{BLOCKS[name](entries, exports, bench, **options)}\n{end}"

    return BLOCK.sub(render, text)
