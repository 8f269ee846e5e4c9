"""Phase 4: export a finished run to files that run anywhere, and verify each of them on the whole test split.

    just phase4 recipe=lite_small_base data=nw_ucla      exports/nw_ucla/lite_small_base/: the files below
    just phase4 recipe=lite_nano data=nw_ucla seed=2 exports=exports/seed2
    just phase4 recipe=L9 causal=true
    just phase4 recipe=lite_small format=tflite          also .tflite (FP32, weight-only INT8), batch 1

In:  runs/<recipe>/<dataset>-<split>/seed<k>/final.pt, and the clip store the run was trained on.
Out: exports/<dataset>/<recipe>/
         model.onnx        FP32, joints (B, M, T, V, 3) -> logits (B, K), any B
         model.int8.onnx   weights and activations of the convolutions in 8 bits (static, QDQ); stem and head in float
         model.w8.onnx     only the weights in 8 bits, without the stem's; arithmetic in float: the smallest file, the
                           closest to FP32
         report.json, report.md: what each file loses to FP32, and whether it passes
     A file's metadata hold skeleton, class names, view, streams, recipe and test accuracy, all that predict needs.
Batch norms are folded, and the graph derives the streams. It reads joints, centred as `just predict` centres them.
A file passes if it loses fewer than 1 point of top-1 to FP32, or one clip where a clip is more than that.
Exit codes: 0 verified; 1 a file does not pass (it stays, and its metadata say "accepted": false); 2 bad input.
"""
from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnx
import torch
from torch import nn

from phases.common import command
from phases.common.files import atomic, read_json, write_json
from phases.common.wording import counted
from phases.shipping import onnx_files, quantise, verify
from phases.shipping.deploy import deploy
from phases.shipping.export_report import markdown, refused, verdict
from phases.shipping.onnx_files import FILES
from phases.shipping.tflite import TFLITE_FILES, require_tflite, write_tflite
from phases.training.batches import Batches
from phases.training.clip_store import ClipStore, open_store, splits
from phases.training.networks import load_run
from phases.training.recipe import Config, load_config
from phases.training.run_folder import commit, device_name, read_scores
from phases.training.view import ClipView
from skeletons import retarget_tables


@dataclass(frozen=True)
class Options:
    causal: Annotated[bool, "temporal convolutions that read no frame ahead"] = False
    exports: Annotated[Path, "the folder of all exports"] = Path("exports")
    opset: Annotated[int, (13, 23), "below 18 by torch's older exporter: slower, larger files"] = 18
    format: Annotated[Literal["onnx", "tflite"], "tflite: .tflite files too; needs the extra `tflite`"] = "onnx"
    calibration: Annotated[int, (1, 10_000_000), "training clips that set the ranges of INT8"] = 1000

    def __post_init__(self):
        if self.format == "tflite":
            require_tflite()


@dataclass(frozen=True)
class Job:
    """One export: a trained network, and the clips to calibrate and verify it with."""
    cfg: Config
    options: Options
    folder: Path                # exports/<dataset>/<recipe>
    origin: dict                # of the report: command, device, commit
    model: nn.Module
    metadata: dict              # of every file: see onnx_files.description
    clips: np.ndarray           # n m t v 3, the test split
    label: np.ndarray           # n
    calibration: np.ndarray     # n m t v 3, training clips


def main(options: Options, recipe: list[str]) -> int:
    job = prepare(options, recipe)
    forms = export(job)
    verified, reference = verify_forms(job, forms)
    report = write(job, forms, verified, reference)
    return conclude(job, report)


# ---------------------------------------------------------------------------------------------------------------------
# The run and its clips
# ---------------------------------------------------------------------------------------------------------------------

def prepare(options: Options, recipe: list[str]) -> Job:
    """The network of a finished run and its clips; ValueError if the store or the export folder is another run's."""
    asked = load_config(recipe)
    if not (asked.run / "final.pt").is_file():
        raise ValueError(f"no finished run in {asked.run} (it lacks final.pt): train it first, or give the out=, "
                         "data= and seed= it was made with")

    # the run's own recipe, with its files where the command line says
    code = commit()
    model, trained, skeleton, classes = load_run(asked.run)
    data = dataclasses.replace(trained.data, store=asked.data.store)
    cfg = dataclasses.replace(trained, out=asked.out, data=data)
    folder = options.exports / cfg.data.name / cfg.run_name
    check_folder(folder, cfg)
    check_writable(folder)

    # for the report; the device's name tells the number of threads
    torch.set_num_threads(1)
    words = [*recipe, *command.words(options)]
    origin = {"command": "just phase4 " + " ".join(words), "device": device_name(torch.device("cpu")), "commit": code}

    # the clips of the test split, and some of the training split
    store = open_store(cfg)
    train_clips, _, test_clips = splits(store, cfg)
    check_store(store, test_clips, classes, cfg)
    chosen = np.random.default_rng(0).permutation(train_clips)[:options.calibration]
    view = ClipView(store, cfg.view)

    metadata = onnx_files.description(cfg, skeleton, classes, model, options.causal)
    metadata["opset"] = options.opset
    metadata["recorded"] = store.meta.get("recorded", {})  # predict reads clips as phase 0 did
    metadata["retarget"] = retarget_tables(skeleton)
    print(f"{folder}: {counted(len(test_clips), 'test clip')}, {len(chosen)} for calibration, opset {options.opset}",
          file=sys.stderr)
    return Job(cfg, options, folder, origin, model, metadata, clips=viewed(view, test_clips),
               label=store.clips["label"][test_clips], calibration=viewed(view, chosen))


def check_folder(folder: Path, cfg: Config) -> None:
    """ValueError if the folder holds the export of another run."""
    if not (folder / "report.json").exists():
        return
    old = read_json(folder / "report.json")
    if (old["dataset"], old["split"], old["seed"]) != (cfg.data.name, cfg.data.split, cfg.seed):
        raise ValueError(f"{folder} holds the export for {old['dataset']} {old['split']}, seed {old['seed']}: give "
                         "exports=FOLDER, or move it away")


def check_writable(folder: Path) -> None:
    """ValueError if nobody may write to the folder, or to the one that it will be made in."""
    place = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as e:
        raise ValueError(f"{folder}: cannot be written, {place.absolute()} takes no new file ({e.strerror}): give "
                         "exports=FOLDER, or change its permissions") from None


def check_store(store: ClipStore, test_clips: np.ndarray, classes: list[str], cfg: Config) -> None:
    """ValueError if the store has other classes or other test clips than the run had."""
    again = "train again, with another out= or seed="
    if classes != store.classes:
        raise ValueError(f"{cfg.run} was trained on other classes than {cfg.store} has now ({', '.join(classes[:3])} "
                         f"... there, {', '.join(store.classes[:3])} ... here): {again}")
    if sorted(read_scores(cfg.run)[0]) != sorted(store.clips["name"][test_clips].tolist()):
        raise ValueError(f"{cfg.store} holds other test clips than {cfg.run} was tested on: {again}")


def viewed(view: ClipView, clips: np.ndarray) -> np.ndarray:
    """Joints (N, M, T, V, 3) of clips under the test view."""
    return torch.cat([batch["joints"].cpu() for batch in Batches(view, clips, 256)()]).numpy()


# ---------------------------------------------------------------------------------------------------------------------
# The files
# ---------------------------------------------------------------------------------------------------------------------

def export(job: Job) -> dict[str, onnx.ModelProto]:
    """The graph of each form, and `plain`: the float graph that INT8 was made from."""
    module = deploy(job.model, job.options.causal)
    example = torch.from_numpy(job.clips[[0, -1]])
    fp32 = onnx_files.to_onnx(module, example, job.options.opset)
    int8, plain = quantise.static_int8(fp32, job.calibration)
    return {"fp32": fp32, "int8": int8, "w8": quantise.weight_only(fp32), "plain": plain}


def verify_forms(job: Job, forms: dict[str, onnx.ModelProto]) -> tuple[dict, np.ndarray]:
    """(report, FP32 logits (N, K)): accuracy and loss of each form, latency; the costly layers if INT8 fails."""
    causal = job.options.causal
    scores = {form: verify.logits_of(verify.session(forms[form], form), job.clips) for form in FILES}
    reference = scores["fp32"]

    # accuracy of each form, and FP32 against the network
    judged = verify.judge(job.cfg, scores, job.label)
    judged["fp32"]["parity"] = verify.parity(job.model, causal, job.clips, reference)
    report = {"accepted": judged["int8"]["accepted"], "limit": verify.limit(len(job.label)), **judged}

    # times; and where the accuracy of INT8 got lost
    report["latency"] = verify.relative_times(job.model, causal, job.options.opset, forms, job.clips[:1])
    if not report["accepted"]:
        report["layers"] = verify.sensitivity(forms["int8"], forms["plain"], job.clips[:256], reference[:256])
    return report, reference


def write(job: Job, forms: dict[str, onnx.ModelProto], verified: dict, reference: np.ndarray) -> dict:
    """Write the files and the report, which it returns. Until here the folder keeps its previous export."""
    report = {key: job.metadata[key] for key in ("recipe", "dataset", "split", "seed", "params", "causal", "opset")}
    report |= {**job.origin, "clips": len(job.clips), "calibration": len(job.calibration), **verified}

    # ONNX
    for form, name in FILES.items():
        top1 = "" if job.cfg.data.split == "all" else report[form]["top1"]  # of clips that it has seen: no figure
        metadata = {**job.metadata, "form": form, "top1": top1, "accepted": report[form]["accepted"]}
        onnx_files.save_onnx(forms[form], job.folder / name, metadata)
        report[form]["bytes"] = (job.folder / name).stat().st_size

    # TFLite
    if job.options.format == "tflite":
        module = deploy(job.model, job.options.causal)
        for form, logits in write_tflite(module, job.folder, job.clips).items():
            report[form] = verify.compare(reference, logits, job.label)
            report[form]["bytes"] = (job.folder / TFLITE_FILES[form]).stat().st_size

    # what each lost, as data and as a page
    write_json(job.folder / "report.json", report)
    with atomic(job.folder / "report.md") as part:
        part.write_text(markdown(report))
    return report


def conclude(job: Job, report: dict) -> int:
    """Print the report; exit code 1 and a line of advice if a file lost too much."""
    print(markdown(report))
    if not refused(report):
        return 0
    print(f"error: {job.folder}: {verdict(report)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    command.run(main, Options, recipe=True)
