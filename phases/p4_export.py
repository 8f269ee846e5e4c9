"""Phase 4: export a finished run to files that run anywhere, and verify each of them on the whole test split.

    just phase4 recipe=lite_small_base data=nw_ucla      exports/nw_ucla/lite_small_base/: the files below
    just phase4 recipe=lite_nano data=nw_ucla seed=2 exports=exports/seed2
    just phase4 recipe=L9 causal=true
    just phase4 recipe=lite_small format=tflite          also .tflite (FP32, weight-only INT8)

In:  runs/<recipe>/<dataset>-<split>/seed<k>/final.pt, and the clip store the run was trained on.
Out: exports/<dataset>/<recipe>/
         model.onnx        FP32
         model.int8.onnx   weights and activations of the convolutions in 8 bits (static, QDQ); stem and head in float
         model.w8.onnx     only the weights in 8 bits, without the stem's; arithmetic in float: the smallest file, the
                           closest to FP32
         model.pt          the weights for PyTorch: a training starts from them, init=FILE
         report.json, report.md: what each file loses to FP32, and whether it passes
     RUN/declining.json  the likeness of each test clip, for the page of `just report`
Each ONNX file is one graph: the test view of the recipe, always in float; the network, its batch norms folded; and the
answer. It takes one clip as recorded and needs no preprocessing:

    joints          (bodies, frames, V, 3) float32, any number of bodies and frames, in metres, y up, the main body
                    first; zeros or NaN are a missing joint
    probabilities   (K,) of the classes, calibrated by a temperature
    features        (C,): what the network's head pools, the mean over the bodies present; of a network trained on a
                    pool (just pool) also its last map by quarter of the clip and region of the body
    likeness        (): cosine of the features to the nearest class, and a little of how sure the network is; below
                    `threshold` of the metadata the clip shows none of the classes

The metadata hold skeleton, class names, view, streams, recipe, threshold and test accuracy, all that predict needs.
Verification runs each file on the recorded test clips, and compares FP32 with the network in PyTorch.
A .tflite file holds the network alone, viewed joints (1, M, T, V, 3) -> logits (1, K): its shapes are fixed.
A file passes if it loses fewer than 1 point of top-1 to FP32, or one clip where a clip is more than that.
Exit codes: 0 verified; 1 a file does not pass (it stays, and its metadata say "accepted": false); 2 bad input.
"""
from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import nn

from phases.common import command
from phases.common.files import atomic, write_json
from phases.common.wording import counted
from phases.shipping import onnx_files, verify
from phases.shipping.declining import Declining, softmax
from phases.shipping.deploy import deploy
from phases.shipping.export_report import check_folder, check_writable, markdown, refused, verdict, write_declining
from phases.shipping.onnx_edit import save_onnx
from phases.shipping.onnx_files import FILES
from phases.shipping.tflite import TFLITE_FILES, require_tflite, write_tflite
from phases.shipping.verify import RecordedClips
from phases.shipping.whole import Graphs, graphs_of
from phases.training.batches import Batches
from phases.training.clip_store import ClipStore, open_store, splits
from phases.training.inference_view import InferenceView
from phases.training.networks import load_run
from phases.training.parts import Parts
from phases.training.recipe import Config, load_config
from phases.training.run_folder import commit, device_name, read_scores, save_weights, without_places
from phases.training.view import ClipView, rest_of
from skeletons import Skeleton, retarget_tables


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
    parts: Parts | None         # a general network's features
    declining: Declining
    metadata: dict              # of every file: see onnx_files.description
    view: InferenceView
    recorded: RecordedClips     # the test split
    names: list[str]            # n
    clips: np.ndarray           # n m t v 3, the same under the test view
    label: np.ndarray           # n
    calibration: np.ndarray     # n m t v 3, training clips under the test view


def main(options: Options, recipe: list[str]) -> int:
    job = prepare(options, recipe)
    module = deploy(job.model, options.causal, job.parts)
    graphs = graphs_of(module, job.view, job.declining, job.calibration, options.opset)
    verified, reference = verify_forms(job, graphs)
    report = write(job, graphs, verified, reference)
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
    rest = rest_of(store, train_clips)
    view = ClipView(store, cfg.view, rest=rest)
    parts = Parts.of(model, skeleton, cfg.view.frames) if cfg.data.reader == "pool" else None
    declining = verify.declining_of(model, options.causal, view, train_clips, parts)

    length = float(np.median(store.clips["length"][train_clips]))
    metadata = onnx_files.description(cfg, skeleton, classes, model, options.causal, length)
    metadata["opset"] = options.opset
    metadata["recorded"] = store.meta.get("recorded", {})  # predict reads clips as phase 0 did
    metadata["retarget"] = retarget_tables(skeleton)
    metadata |= {"threshold": declining.threshold, "temperature": declining.temperature}
    print(f"{folder}: {counted(len(test_clips), 'test clip')}, {len(chosen)} for calibration, opset {options.opset}",
          file=sys.stderr)
    return Job(cfg, options, folder, origin, model, parts, declining, metadata,
               view=InferenceView(cfg.view, skeleton, rest).eval(),
               recorded=RecordedClips(store, test_clips), names=store.clips["name"][test_clips].tolist(),
               clips=viewed(view, test_clips),
               label=store.clips["label"][test_clips], calibration=viewed(view, chosen))


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

def verify_forms(job: Job, graphs: Graphs) -> tuple[dict, verify.Answers]:
    """(report, answers of FP32): accuracy and loss of each form, latency; the costly layers if INT8 fails."""
    causal = job.options.causal
    answers = {form: verify.answers_of(verify.session(graphs.wholes[form], form), job.recorded) for form in FILES}

    # accuracy of each form, and FP32 against the network
    judged = verify.judge(job.cfg, {form: found.probabilities for form, found in answers.items()}, job.label)
    network = verify.eager_answers(job.model, causal, job.clips, job.declining, job.parts)
    judged["fp32"]["parity"] = verify.parity(network, answers["fp32"])
    judged["declined"] = 100 * float((answers["fp32"].likeness < job.declining.threshold).mean())
    report = {"accepted": judged["int8"]["accepted"], "limit": verify.limit(len(job.label)), **judged}

    # times; and where the accuracy of INT8 got lost
    report["latency"] = verify.relative_times(job.model, causal, graphs.networks, job.clips[:1], graphs.wholes["fp32"],
                                              job.recorded[0])
    if not report["accepted"]:
        report["layers"] = verify.sensitivity(graphs.networks, job.clips[:256])
    return report, answers["fp32"]


def write(job: Job, graphs: Graphs, verified: dict, reference: verify.Answers) -> dict:
    """Write the files and the report, which it returns. Until here the folder keeps its previous export."""
    told = ("recipe", "dataset", "split", "seed", "params", "causal", "opset", "threshold", "temperature")
    report = {key: job.metadata[key] for key in told}
    report |= {**job.origin, "clips": len(job.clips), "calibration": len(job.calibration), **verified}

    # ONNX
    for form, name in FILES.items():
        metadata = {**job.metadata, "form": form, "accepted": report[form]["accepted"]}
        is_seen = job.cfg.data.split == "all"  # of clips that it has seen: no figures
        for key, figure in (("top1", report[form]["top1"]), ("declined", report["declined"])):
            metadata[key] = "" if is_seen else figure
        save_onnx(graphs.wholes[form], job.folder / name, metadata)
        report[form]["bytes"] = (job.folder / name).stat().st_size

    # TFLite
    if job.options.format == "tflite":
        module = deploy(job.model, job.options.causal)
        for form, logits in write_tflite(module, job.folder, job.clips).items():
            probabilities = softmax(logits / job.declining.temperature)
            report[form] = verify.compare(reference.probabilities, probabilities, job.label)
            report[form]["bytes"] = (job.folder / TFLITE_FILES[form]).stat().st_size

    # the weights to start a training from
    skeleton = Skeleton.from_dict(job.metadata["skeleton"])
    save_weights(job.folder / "model.pt", without_places(job.cfg), skeleton, job.metadata["classes"], job.model)

    # what each lost, as data and as a page; what is declined, for the run's page
    write_declining(job.cfg.run, job.origin, job.names, job.declining, reference.likeness)
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
