"""Blocks about accuracies and files: ours beside published rows, a data set's rows, distillation, exported files."""
from __future__ import annotations

import re
import statistics

from last import STREAMS
from phases.common.command import nearest
from phases.common.recipes import recipe_files
from phases.recordings.wild import CLEAN
from phases.reporting.cells import change, count, drop, epochs, mean_sd, overridden, sizes, values
from phases.reporting.measured import Results, published
from phases.reporting.tables import LABEL, markdown_table
from phases.shipping.exported import ExportedModel

# ---------------------------------------------------------------------------------------------------------------------
# The first screen of the README
# ---------------------------------------------------------------------------------------------------------------------

def headline(results: Results) -> str:
    """Three numbers: accuracy beside a peer's, accuracy in the wild, bytes of a file."""
    ctr_gcn = published()["CTR-GCN (4s)--nw_ucla-xview"]
    small = results.entries["lite_small--nw_ucla-xview"]
    top1 = statistics.mean(values(small, "top1"))
    clean = statistics.mean(values(small, "top1_clean"))

    # what the INT8 file loses, if its interval excludes zero
    int8 = results.exports["lite_nano", "utd_mhad", "xsub"]["int8"]
    low, high = int8["drop_ci95"]
    lost = "nothing that could be measured" if low <= 0 <= high else f"{drop(int8)} points"

    return "\n".join((
        f"- **{top1:.1f} %** on Northwestern-UCLA from one network of {count(small['params'])} parameters, "
        f"{clean:.1f} % without copied clips.",
        f"  CTR-GCN: {values(ctr_gcn, 'top1')[0]} % from four networks, {count(ctr_gcn['params'])} in all.",
        in_the_wild(results),
        f"- **{int8['bytes'] / 1000:.0f} KB**: LAST-Lite nano as an INT8 file that takes joints as recorded; it loses "
        f"{lost}."))


def in_the_wild(results: Results) -> str:
    """The mean over clean and damaged clips of UTD-MHAD, of a network trained for it and of one that was not."""
    def mean(label: str) -> float:
        return statistics.mean(values(results.wild_of("lite_nano", "utd_mhad", label), "mean"))

    return (f"- **{mean(''):.1f} %** on UTD-MHAD as cameras deliver it, the mean over 20 kinds of test clips: joints "
            "missing, noise,\n  people standing about. LAST-Lite nano trained as usual, on the same clips: "
            f"{mean('before'):.1f} %.")


PEERS = ("CTR-GCN (joint stream)", "CTR-GCN (4s)", "InfoGCN (6s)", "HD-GCN (6s)", "SkateFormer (2s)")
OURS = {
    "lite_small": "LAST-Lite small",
    "lite_small_smalls": "LAST-Lite small, distilled",
    "lite_nano": "LAST-Lite nano",
    "lite_nano_smalls": "LAST-Lite nano, distilled",
    "base_16-all": "LAST-Base, 16 frames",
}


def beside_peers(results: Results) -> str:
    """Ours beside the published rows: top-1 on Northwestern-UCLA's 464 clips, the clean 369 of them, and UTD-MHAD."""
    rows = []

    # published
    papers = published()
    for model in PEERS:
        entry = papers[f"{model}--nw_ucla-xview"]
        rows.append({
            "model": model,
            **sizes(entry),
            "NW-UCLA": str(values(entry, "top1")[0]),
            "runs": "a user's run" if "user" in entry["source"] else "paper",
        })

    # ours
    for recipe, model in OURS.items():
        ucla = results.entry(recipe, "nw_ucla")
        utd = results.entry(recipe, "utd_mhad")
        rows.append({
            "model": f"**{model}**",
            **sizes(ucla or utd),
            "NW-UCLA": mean_sd(ucla, "top1"),
            "clean": mean_sd(ucla, "top1_clean"),
            "runs": str(len(ucla["runs"])) if ucla else "",
            "UTD-MHAD": mean_sd(utd, "top1"),
            "runs there": str(len(utd["runs"])) if utd else "",
        })

    # the short names of this table
    for row in rows:
        row["parameters"] = row["parameters in total"]
        row["streams"] = row["streams"].replace(" in one network", ", fused")
    head = ["model", "streams", "parameters", "NW-UCLA", "clean", "runs", "UTD-MHAD", "runs there"]
    return markdown_table(head, rows)


# ---------------------------------------------------------------------------------------------------------------------
# Rows of a data set
# ---------------------------------------------------------------------------------------------------------------------

def all_rows(results: Results, data: str = "nw_ucla") -> str:
    """Everything that was measured on a data set but the rows of ablation tables, with its recipe's purpose."""
    files = recipe_files()
    rows = []
    for _, entry in sorted(results.entries.items()):
        recipe = entry["recipe"]
        is_ablation = re.fullmatch(r"[BLP]\d+(-\w+|_16)?", recipe) is not None
        if entry["dataset"] != data or is_ablation:
            continue

        # the recipe's first comment line
        line = files[recipe].read_text().split("\n")[0] if recipe in files else ""
        rows.append({
            "recipe": f"`{recipe}`",
            "what": line.removeprefix("# ").rstrip("."),
            **sizes(entry),
            "parameters": count(entry.get("params")),
            "epochs": epochs(entry),
            "top-1": mean_sd(entry, "top1"),
            "top-1 clean": mean_sd(entry, "top1_clean"),
            "top-5": mean_sd(entry, "top5"),
            "with": " ".join(overridden(entry)),
        })
    head = ["recipe", "what", "parameters", "epochs", "seeds", "top-1", "top-1 clean", "top-5", "with"]
    return markdown_table(head, rows)


# ---------------------------------------------------------------------------------------------------------------------
# Distillation
# ---------------------------------------------------------------------------------------------------------------------

# what a student learns from: the ending of that recipe's name
SHORT = {"alone": "", "no smoothing": "_unsmoothed", "logits": "_kd", "logits and maps": "_mimic", "DKD": "_dkd"}
LONG = {"alone": "", "no smoothing": "_unsmoothed", "logits": "_logits", "logits and maps": "_smalls",
        "DKD and maps": "_dkd"}
STUDENTS = {  # {data set: {student: (its recipe alone, endings)}}
    "nw_ucla": {
        "small, 40 epochs": ("lite_small_short", SHORT),
        "small, 160 epochs": ("lite_small", LONG),
        "nano, 40 epochs": ("lite_nano_short", SHORT),
        "nano, 160 epochs": ("lite_nano", LONG),
    },
    "utd_mhad": {"nano, 25 epochs": ("lite_nano", LONG)},
}
UNTAUGHT = ("alone", "no smoothing")


def gains_of_distilling(results: Results, data: str = "nw_ucla") -> str:
    """What averaged LAST-Lite small are worth as teachers: a line per student, against those without a teacher."""
    rows = []
    for student, (recipe, endings) in STUDENTS[data].items():
        found = {what: results.entry(recipe + ending, data) for what, ending in endings.items()}
        for what, entry in found.items():
            if entry:
                row = {"student": student, "learns from": what, **sizes(entry)}
                rows.append(row | gains(entry, found, is_taught=what not in UNTAUGHT))

    # differences beside each accuracy
    head = ["student", "learns from", "seeds"]
    for name in ("top-1", "top-1 clean"):
        head += [name, *(f"{name}: to {other}" for other in (*UNTAUGHT, "logits"))]
    return markdown_table(head, rows)


def gains(entry: dict, others: dict[str, dict | None], is_taught: bool) -> dict[str, str]:
    """A student's accuracies; if a teacher taught it, also the differences to the untaught ones and to logits."""
    cells = {}
    for key, name in (("top1", "top-1"), ("top1_clean", "top-1 clean")):
        cells[name] = mean_sd(entry, key)
        if is_taught:
            for other in (*UNTAUGHT, "logits"):
                cells[f"{name}: to {other}"] = change(entry, others[other], key)
    return cells


STUDENTS_OF = {  # LAST-Base -> (recipe, network, its recipe without a teacher); its streams come before
    "base_narrow": [
        ("lite_nano_16", "nano", ""),
        ("lite_nano_16_base", "nano, taught by the average, with maps", "lite_nano_16"),
        ("lite_small_16", "small", ""),
        ("L11", "small, taught by the average, with maps", "lite_small_16")],
    "base_16": [
        ("base_16_nano_alone", "nano", ""),
        ("base_16_nano_logits", "nano, taught by the average", "base_16_nano_alone"),
        ("base_16_nano_maps", "nano, with the joint stream's maps", "base_16_nano_alone"),
        ("base_16_small_alone", "small", ""),
        ("base_16_small_logits", "small, taught by the average", "base_16_small_alone"),
        ("base_16_small_maps", "small, with the joint stream's maps", "base_16_small_alone"),
        ("base_16_small_started", "the same from MaskCLR's encoder", "base_16_small_alone")]}


def streams_and_students(results: Results, data: str = "utd_mhad", teacher: str = "base_narrow") -> str:
    """The streams of a LAST-Base, their average, and students on as many frames: alone and taught by it."""
    if teacher not in STUDENTS_OF:
        raise ValueError(f"teacher = {teacher!r}{nearest(teacher, STUDENTS_OF)}")
    lines = [(teacher, "joint", ""), *((f"{teacher}-{stream}", stream, "") for stream in STREAMS[1:]),
             (f"{teacher}-all", "the four, averaged", ""), *STUDENTS_OF[teacher]]
    rows = []
    for recipe, network, recipe_alone in lines:
        entry = results.entry(recipe, data)
        alone = results.entry(recipe_alone, data)

        # compared without their commands: L11 has its 16 frames from there, lite_small_16 from its recipe
        uncommanded = {**entry, "command": ""} if entry else None
        rows.append({
            "network": network,
            "recipe": f"`{recipe}`",
            **sizes(entry),
            "epochs": epochs(entry),
            "top-1": mean_sd(entry, "top1"),
            "to the same alone": change(uncommanded, alone),
            "top-1 clean": mean_sd(entry, "top1_clean"),
            "clean: to alone": change(uncommanded, alone, "top1_clean"),
        })
    head = ["network", "recipe", "parameters in total", "epochs", "seeds", "top-1", "to the same alone", "top-1 clean",
            "clean: to alone"]
    return markdown_table(head, rows)


def teacher_study(results: Results, data: str = "utd_mhad") -> str:
    """A line per recipe of LAST-Base that was tried on training clips: what it changes, and what it reaches."""
    runs = [run for run in results.file("base-study")["runs"] if run["dataset"] == data]
    rows = []
    for run in runs:
        row = {"recipe": run["what"], "changed": " ".join(f"`{word}`" for word in run["changed"]),
               "epochs": str(run["epochs"]), "top-1": f"{run['top1']:.1f}"}
        if "top1_clean" in run:
            row["clean"] = f"{run['top1_clean']:.1f}"
        rows.append({**row, "top-5": f"{run['top5']:.1f}"})
    return markdown_table(list(rows[0]), rows)


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------

def exported_files(results: Results) -> str:
    """Exported files: bytes, top-1 and agreement with FP32."""
    rows = []
    for (recipe, dataset, _), report in sorted(results.exports.items()):
        row = {"recipe": recipe, "data set": dataset, "seed": str(report.get("seed", ""))}

        # the small forms are compared with FP32
        for name in ("FP32", "INT8", "w8"):
            form = report[name.lower()]
            row[f"{name} bytes"] = f"{form['bytes']:,}"
            row[f"{name} top-1"] = f"{form['top1']:.1f}"
            if name != "FP32":
                row[f"{name} lost"] = drop(form)
            if "agreement" in form:
                row[f"{name} agrees"] = f"{form['agreement']:.1f}"
        rows.append(row)
    return markdown_table(list(rows[0]), rows)


def shipped_networks(results: Results) -> str:
    """The files in results/networks: what they are, and what their recipe reaches on clips that it did not train on."""
    rows = []
    for path in sorted((results.folder / "networks").glob("*.onnx")):
        model = ExportedModel(path)
        dataset = model.about["dataset"]
        recipe = model.about["recipe"]

        # accuracy of the recipe, on the data set's own split; a general network's runs are those of the file itself
        entry = results.wild_of(recipe, dataset)
        own = results.entry(recipe, dataset) if dataset == "any" else None
        clean = {"runs": own["runs"] if own else []}
        for run in entry["runs"] if entry else ():
            clean["runs"].append({"top1": run["top1"][CLEAN], "uncopied": run.get("top1_clean", {}).get(CLEAN)})
        rows.append({
            "name": f"`{path.stem}`",
            "network": f"`{recipe}`",
            "form": model.about["form"],
            "KB": f"{path.stat().st_size / 1000:.0f}",
            "data": LABEL.get(dataset, dataset),
            "classes": str(len(model.classes)),
            "joints": f"{model.skeleton['name']}, {model.recorded.unit}, {model.recorded.up} up",
            "held-out, FP32": mean_sd(clean, "top1"),
            "without copied clips": mean_sd(clean, "uncopied"),
            "in the wild": mean_sd(entry, "mean"),
            "declined: known": mean_sd(results.declined_of(recipe, dataset), "known clips"),
            "unknown": mean_sd(results.declined_of(recipe, dataset), "unknown classes"),
        })
    head = ["name", "network", "form", "KB", "data", "classes", "joints", "held-out, FP32", "without copied clips",
            "in the wild", "declined: known", "unknown"]
    return markdown_table(head, rows)


SETS = {"utd": "UTD-MHAD", "irds": "IRDS", "ucla": "NW-UCLA", "rare": "rare classes"}


def small_set_variants(results: Results) -> str:
    """The study behind adopt's schedule: a line per variant, top-1 of each fold of a set."""
    def adopt_first(training: dict) -> tuple:
        return training["variant"] != "adopt", training["variant"], training["fold"]

    # the study of starts is in the same file
    trainings = []
    for training in results.file("small-sets")["trainings"]:
        whole = training.get("labels", 1.0) == 1 and training.get("network", "lite_nano") == "lite_nano"
        if whole and training["set"] in SETS and training["seed"] == 0 and not training.get("init"):
            trainings.append(training)

    rows = {}
    for training in sorted(trainings, key=adopt_first):
        variant = training["variant"]
        row = rows.setdefault(variant, {
            "variant": variant,
            "changed": " ".join(training["changed"]),
            "steps": f"{round(training['steps'], -2):,}",
        })

        # one cell has all folds of a set
        column = SETS[training["set"]]
        row[column] = f"{row.get(column, '')} {training['top1']:.1f}".strip()
    return markdown_table(["variant", "changed", "steps", *SETS.values()], list(rows.values()))
