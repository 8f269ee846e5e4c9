"""Phase 4: export a finished run to files that run anywhere, and verify each of them on the whole test split.

    just phase4 recipe=lite_small_base data=nw_ucla      exports/lite_small_base/: the files below
    just phase4 recipe=lite_nano data=nw_ucla seed=2 exports=exports/seed2
    just phase4 recipe=L9 causal=true                    temporal convolutions that see no frame ahead
    just phase4 recipe=lite_small opset=13               by torch's older exporter: slower, larger files; default 18
    just phase4 recipe=lite_small format=tflite          also .tflite (FP32, weight-only INT8), batch 1; extra `tflite`
    just phase4 recipe=lite_small calibration=1000       so many training clips set the ranges of INT8

In:  runs/<recipe>/<dataset>-<split>/seed<k>/final.pt, and the clip store the run was trained on.
Out: exports/<recipe>/
         model.onnx        FP32, joints (B, M, T, V, 3) -> logits (B, K), any B
         model.int8.onnx   weights and activations of the convolutions in 8 bits (static, QDQ); stem and head in float
         model.w8.onnx     only the weights in 8 bits, arithmetic in float: the smallest file, the closest to FP32
         report.json, report.md
     A file's metadata hold skeleton, class names, view, streams, recipe and test accuracy, all that predict needs.
Batch norms are folded, and the graph derives the streams. It reads joints, centred as `just predict` centres them.
Exit codes: 0 verified; 1 INT8 lost a point of top-1 and two clips, or more (the files stay, marked); 2 bad input.
"""
from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from last import causal as causal_mode
from phases.common.command import nearest
from phases.common.files import atomic, read_json, write_json
from phases.common.settings_cli import cli
from phases.shipping import onnx_files as graphs
from phases.shipping.deploy import deploy
from phases.training.clip_store import ClipStore, open_store, splits
from phases.training.networks import load_run
from phases.training.recipe import Config, load_config
from phases.training.run_folder import accuracies, commit, device_name, read_scores
from phases.training.view import SEEN, Batches, ClipView
from skeletons import Skeleton, retarget_tables

DROP = 1.0  # points of top-1: INT8 must lose fewer; where one test clip is more than that, it may lose one
FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx", "w8": "model.w8.onnx"}


def check(argv: list[str]) -> tuple[dict, Config]:
    """(options of this program, configuration of the run); ValueError if an option is wrong or the run unfinished."""
    given, rest = options(argv)
    cfg = load_config(rest)
    if given["format"] == "tflite":
        graphs.require_tflite()
    if not (cfg.run / "final.pt").is_file():
        raise ValueError(f"no finished run in {cfg.run} (it lacks final.pt): train it first, or give the out=, data= "
                         "and seed= it was made with")
    return given, cfg


def options(argv: list[str]) -> tuple[dict, list[str]]:
    """(options of this program, the other arguments, which belong to the recipe)."""
    given = {"exports": "exports", "opset": "18", "format": "onnx", "causal": "false", "calibration": "1000"}
    rest = []
    for arg in argv:
        key, eq, value = arg.partition("=")
        if eq and key in given:
            given[key] = value
        else:
            rest.append(arg)
    choices = {"format": ("onnx", "tflite"), "causal": ("true", "false"), "opset": tuple(map(str, range(13, 24)))}
    for key, known in choices.items():
        if given[key] not in known:
            raise ValueError(f"{key} = {given[key]!r}{nearest(given[key], known)}")
    if not given["calibration"].isdigit() or int(given["calibration"]) < 1:
        raise ValueError(f"calibration = {given['calibration']!r}: must be a number of clips, at least 1")
    return given, rest


@dataclasses.dataclass(frozen=True)
class Job:
    """What one export works on: a trained network and the clips to calibrate and verify it with."""
    cfg: Config
    folder: Path                # exports/<recipe>
    origin: dict                # of the report: command, device, commit
    model: nn.Module
    causal: bool
    opset: int
    tflite: bool
    metadata: dict              # see `description`
    clips: np.ndarray           # n m t v 3, the test split
    label: np.ndarray           # n
    calibration: np.ndarray     # n m t v 3, training clips


def load(given: dict, cfg: Config, command: str) -> Job:
    """The network of a finished run and its clips; ValueError if the store or the export folder is another run's."""
    code = commit()
    model, trained, skeleton, classes = load_run(cfg.run)
    cfg = dataclasses.replace(trained, out=cfg.out, data=dataclasses.replace(trained.data, store=cfg.data.store))
    folder = Path(given["exports"]) / cfg.run_name
    check_folder(folder, cfg)
    torch.set_num_threads(1)  # device_name reports it
    origin = {"command": command, "device": device_name(torch.device("cpu")), "commit": code}
    store = open_store(cfg)
    train_clips, _, test_clips = splits(store, cfg)
    check_store(store, test_clips, classes, cfg)
    chosen = np.random.default_rng(0).permutation(train_clips)[:int(given["calibration"])]
    view, causal, opset = ClipView(store, cfg.view), given["causal"] == "true", int(given["opset"])
    metadata = {**description(cfg, skeleton, classes, model, causal), "opset": opset}
    metadata["recorded"] = store.meta.get("recorded", {})  # predict reads clips as phase 0 did
    metadata["retarget"] = retarget_tables(skeleton)
    print(f"{folder}: {len(test_clips)} test clips, {len(chosen)} for calibration, opset {opset}", file=sys.stderr)
    return Job(cfg, folder, origin, model, causal, opset, given["format"] == "tflite", metadata,
               joints_of(view, test_clips), store.clips["label"][test_clips], joints_of(view, chosen))


def check_folder(folder: Path, cfg: Config) -> None:
    """ValueError if the folder holds the export of another run."""
    if (folder / "report.json").exists():
        old = read_json(folder / "report.json")
        if (old["dataset"], old["split"], old["seed"]) != (cfg.data.name, cfg.data.split, cfg.seed):
            raise ValueError(f"{folder} holds the export for {old['dataset']} {old['split']}, seed {old['seed']}: give "
                             "exports=FOLDER, or move it away")


def check_store(store: ClipStore, test_clips: np.ndarray, classes: list[str], cfg: Config) -> None:
    """ValueError if the store has other classes or other test clips than the run had."""
    again = "train again, with another out= or seed="
    if classes != store.classes:
        raise ValueError(f"{cfg.run} was trained on other classes than {cfg.store} has now ({', '.join(classes[:3])} "
                         f"... there, {', '.join(store.classes[:3])} ... here): {again}")
    if sorted(read_scores(cfg.run)[0]) != sorted(store.clips["name"][test_clips].tolist()):
        raise ValueError(f"{cfg.store} holds other test clips than {cfg.run} was tested on: {again}")


def joints_of(view: ClipView, clips: np.ndarray) -> np.ndarray:
    """Joints (N, M, T, V, 3) of clips under the test view."""
    return torch.cat([b["joints"].cpu() for b in Batches(view, clips, 256)()]).numpy()


def description(cfg: Config, skeleton: Skeleton, classes: list[str], model: nn.Module, causal: bool) -> dict:
    """The metadata that `just predict` reads. The view needs `centre` and `trunk`, joints of the skeleton."""
    return {"format": "LAST 1", "recipe": cfg.run_name, "seed": cfg.seed, "dataset": cfg.data.name,
            "split": cfg.data.split, "network": cfg.model.name, "params": sum(p.numel() for p in model.parameters()),
            "streams": list(model.streams), "causal": causal,
            "skeleton": {**skeleton.to_dict(), "centre": skeleton.centre, "trunk": skeleton.trunk},
            "classes": classes, "view": {k: getattr(cfg.view, k) for k in SEEN}}


def export(job: Job) -> dict[str, onnx.ModelProto]:
    """The graph of each form, and `plain`: the float graph that INT8 was made from."""
    fp32 = graphs.to_onnx(deploy(job.model, job.causal), torch.from_numpy(job.clips[[0, -1]]), job.opset)
    int8, plain = graphs.static_int8(fp32, job.calibration)
    return {"fp32": fp32, "int8": int8, "w8": graphs.weight_only(fp32), "plain": plain}


def verify(job: Job, forms: dict[str, onnx.ModelProto]) -> tuple[dict, np.ndarray]:
    """(report, FP32 logits (N, K)): accuracy and loss of each form, latency; the costly layers if INT8 is refused."""
    scores = {form: graphs.logits_of(graphs.session(forms[form], form), job.clips) for form in FILES}
    reference, report = scores["fp32"], judge(job.cfg, scores, job.label)
    report["fp32"]["parity"] = parity(job, reference)
    report = {"accepted": report["int8"]["drop"] < max(DROP, 150 / len(job.label))} | report
    report["latency"] = measure(job, forms)
    if not report["accepted"]:
        report["layers"] = graphs.sensitivity(forms["int8"], forms["plain"], job.clips[:256], reference[:256])
    return report, reference


def parity(job: Job, reference: np.ndarray) -> float:
    """Largest logit difference between the network and its FP32 graph; ValueError if it is more than rounding."""
    found = 0.0
    with torch.no_grad(), causal_mode(job.model, job.causal):
        for at in range(0, len(job.clips), 64):
            logits = job.model(torch.from_numpy(job.clips[at:at + 64])).numpy()
            found = max(found, float(np.abs(logits - reference[at:at + 64]).max()))
    if found > 1e-3 * max(1.0, float(np.abs(reference).max())):
        raise ValueError(f"the exported graph differs from the network by {found:.2g} in a logit: this is a fault of "
                         "the export, please report it")
    return found


def judge(cfg: Config, scores: dict[str, np.ndarray], label: np.ndarray) -> dict[str, dict]:
    """By form, from its logits (N, K): top-1, also without copied clips, and what INT8 and w8 lose to FP32."""
    report = {}
    for form, logits in scores.items():
        found = accuracies(cfg, torch.from_numpy(logits), torch.from_numpy(label).long())
        report[form] = {k: found[k] for k in ("top1", "top1_clean") if k in found}
        if form != "fp32":
            report[form] |= compare(scores["fp32"], logits, label)
    return report


def compare(reference: np.ndarray, logits: np.ndarray, label: np.ndarray) -> dict:
    """What a form loses to FP32 on the same clips: points of top-1, agreement, largest logit difference.

    `drop_ci95` is Agresti and Min's 95 % interval for matched pairs (Statistics in Medicine 2005). It adds half a clip
    to each of the four cells and so stays honest when few clips, or none, change sides.
    """
    n, right, before = len(label), logits.argmax(1) == label, reference.argmax(1) == label
    lost, won = int((before & ~right).sum()), int((~before & right).sum())
    middle = (lost - won) / (n + 2)
    half = 1.96 * ((lost + won + 1) - (lost - won) ** 2 / (n + 2)) ** 0.5 / (n + 2)
    return {"top1": 100 * float(right.mean()), "drop": 100 * (lost - won) / n,
            "drop_ci95": [100 * (middle - half), 100 * (middle + half)],
            "agreement": 100 * float((logits.argmax(1) == reference.argmax(1)).mean()),
            "max_diff": float(np.abs(logits - reference).max())}


def measure(job: Job, forms: dict[str, onnx.ModelProto]) -> dict[str, float]:
    """Time of one clip, as a ratio to the deploy form: of each form, of the graph without folding, and of PyTorch."""
    clip = job.clips[:1]
    sessions = {"deploy" if form == "fp32" else form: graphs.session(forms[form], form) for form in FILES}
    with causal_mode(job.model, job.causal):
        unfolded = graphs.to_onnx(job.model, torch.from_numpy(clip), job.opset, free_batch=False)
        sessions["train_form"] = graphs.session(unfolded)
        runs = {name: partial(s.run, ["logits"], {"joints": clip}) for name, s in sessions.items()}
        runs["eager"] = partial(job.model, torch.from_numpy(clip))
        with torch.inference_mode():
            return latencies(runs)


def latencies(runs: dict[str, Callable[[], object]], rounds: int = 60) -> dict[str, float]:
    """Median time of a call as a ratio to `deploy`. The calls are interleaved."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 5):
        for name, call in runs.items():
            call()  # warms the caches, which hold the data of the previous call
            start = time.perf_counter()
            call()
            if i >= 5:
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(t) for name, t in times.items()}
    return {name: round(m / medians["deploy"], 3) for name, m in medians.items()}


def write(job: Job, forms: dict[str, onnx.ModelProto], verified: dict, reference: np.ndarray) -> dict:
    """Write the files and the report, which it returns. Until here the folder keeps its previous export."""
    report = {k: job.metadata[k] for k in ("recipe", "dataset", "split", "seed", "params", "causal", "opset")}
    report |= {**job.origin, "clips": len(job.clips), "calibration": len(job.calibration), **verified}
    for form, name in FILES.items():
        accepted = report["accepted"] or form != "int8"
        top1 = "" if job.cfg.data.split == "all" else report[form]["top1"]  # of clips that it has seen: no figure
        metadata = {**job.metadata, "form": form, "top1": top1, "accepted": accepted}
        graphs.save_onnx(forms[form], job.folder / name, metadata)
        report[form]["bytes"] = (job.folder / name).stat().st_size
    if job.tflite:
        for form, logits in graphs.tflite(deploy(job.model, job.causal), job.folder, job.clips).items():
            report[form] = compare(reference, logits, job.label)
            report[form]["bytes"] = (job.folder / graphs.TFLITE_FILES[form]).stat().st_size
    write_json(job.folder / "report.json", report)
    with atomic(job.folder / "report.md") as part:
        part.write_text(markdown(report))
    return report


def markdown(report: dict) -> str:
    """The report as a page: a table of the forms, the latencies, and the costly layers if INT8 is refused."""
    ratios = ", ".join(f"{k} {v:.2f}" for k, v in report["latency"].items())
    columns = ("form", "file", "bytes", "top-1", "points lost to FP32 (paired 95 %)", "agreement",
               "largest logit difference")
    lines = [f"# {report['recipe']} on {report['dataset']} {report['split']}, exported", "",
             f"{report['params']:,} parameters, {report['clips']} test clips; `{report['command']}`, commit "
             f"{report['commit']}, {report['device']}.", "", f"| {' | '.join(columns)} |", "|---" * 7 + "|"]
    for form, name in (FILES | graphs.TFLITE_FILES).items():
        if form not in report:
            continue
        x, loss = report[form], " | | |"
        if "drop" in x:
            low, high = x["drop_ci95"]
            loss = f"{x['drop']:.2f} ({low:.2f} to {high:.2f}) | {x['agreement']:.1f} | {x['max_diff']:.2g} |"
        lines.append(f"| {form} | {name} | {x['bytes']:,} | {x['top1']:.1f} | {loss}")
    lines += ["", f"Time of one clip, one thread, as a ratio to the FP32 deploy form: {ratios}."]
    if not report["accepted"]:
        lost = f"INT8 lost {report['int8']['drop']:.2f} points, 1 or more: do not ship it."
        lines += ["", f"**{lost}** Layers that cost most:"]
        lines += [f"- {x['layer']}: {x['saves']:.1f} % of the logit error" for x in report["layers"][:5]]
    return "\n".join(lines) + "\n"


def conclude(job: Job, report: dict) -> int:
    """Print the report; exit code 1 and a line of advice if INT8 lost too much."""
    print(markdown(report))
    if report["accepted"]:
        return 0
    worst = ", ".join(f"{x['layer']} ({x['saves']:.0f} %)" for x in report["layers"][:5])
    print(f"error: {job.folder / FILES['int8']} lost {report['int8']['drop']:.2f} points of top-1, {DROP:g} or more; "
          f"the layers with most of its error are {worst}; ship {FILES['w8']} or {FILES['fp32']}", file=sys.stderr)
    return 1


def main(argv: list[str]) -> int:
    given, cfg = check(argv)
    job = load(given, cfg, "just phase4 " + " ".join(argv))
    forms = export(job)
    verified, reference = verify(job, forms)
    return conclude(job, write(job, forms, verified, reference))


if __name__ == "__main__":
    cli(main)
