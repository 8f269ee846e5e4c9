"""Phase 4: turn a finished run into files that run anywhere, and verify each of them on the whole test split.

    just phase4 recipe=lite_small_base data=nw_ucla            exports/lite_small_base/: the files below
    just phase4 recipe=lite_nano data=nw_ucla seed=2 exports=exports/seed2
    just phase4 recipe=L9 causal=true                          temporal convolutions that see no frame ahead
    just phase4 recipe=lite_small opset=13                     by torch's older exporter; slower, larger files; 18 is the default
    just phase4 recipe=lite_small format=tflite                also .tflite (FP32 and weight-only INT8, batch 1); needs the extra `tflite`

In:  runs/<recipe>/<dataset>-<split>/seed<k>/final.pt, and the clip store it was trained on.
Out: exports/<recipe>/
         model.onnx        FP32, joints (B, M, T, V, 3) -> logits (B, K), B free
         model.int8.onnx   weights and activations of convolutions in 8 bits (static, QDQ); stem and head stay in float
         model.w8.onnx     weights alone in 8 bits, arithmetic in float: the smallest file, and the closest to FP32
         report.json, report.md
     Each file is whole in itself: its metadata hold the skeleton, class names, view, streams, recipe and test accuracy for `just predict`.
The deploy form has every batch norm folded and derives the streams in the graph: a consumer feeds joints, centred as `just predict` does.
Exit codes: 0 verified, 1 INT8 lost a point of top-1 or more (the files stay, marked; the layers that cost most are named), 2 bad input.
"""
from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from deploy import (
    WEIGHTED,
    back_to_float,
    deploy,
    need_tflite,
    session,
    static_int8,
    tflite,
    to_onnx,
    weight_only,
    written,
)
from recipe import Config, cli, load_config, nearest
from run import accuracies, commit, device_name, load_run, open_store, read_json, splits
from torch import nn

from last import Batches, ClipView, Skeleton, atomic, progress, write_json
from last import causal as causal_mode

DROP = 1.0  # points of top-1 that INT8 may not lose
FILES = {"fp32": "model.onnx", "int8": "model.int8.onnx", "w8": "model.w8.onnx"}


def logits_of(run: ort.InferenceSession, clips: np.ndarray, what: str = "") -> np.ndarray:
    """Logits (N, K) of clips (N, M, T, V, 3)."""
    out = []
    with progress(len(clips), 0, what or "verify") as bar:
        for at in range(0, len(clips), 64):
            out.append(run.run(["logits"], {"joints": clips[at:at + 64]})[0])
            bar.update(len(out[-1]))
    return np.concatenate(out)


def compared(reference: np.ndarray, logits: np.ndarray, label: np.ndarray) -> dict:
    """What a form loses to FP32 on the same clips: points of top-1 with the paired 95 % interval, agreement, largest logit difference.

    The interval is Agresti and Min's for matched pairs (Statistics in Medicine 2005): half a clip is added to each of the four cells,
    so that it stays honest where few clips, or none, change sides.
    """
    n, right, before = len(label), logits.argmax(1) == label, reference.argmax(1) == label
    lost, won = int((before & ~right).sum()), int((~before & right).sum())
    middle = (lost - won) / (n + 2)
    half = 1.96 * ((lost + won + 1) - (lost - won) ** 2 / (n + 2)) ** 0.5 / (n + 2)
    return {"top1": 100 * float(right.mean()), "drop": 100 * (lost - won) / n, "drop_ci95": [100 * (middle - half), 100 * (middle + half)],
            "agreement": 100 * float((logits.argmax(1) == reference.argmax(1)).mean()), "max_diff": float(np.abs(logits - reference).max())}


def sensitivity(int8: onnx.ModelProto, plain: onnx.ModelProto, clips: np.ndarray, reference: np.ndarray) -> list[dict]:
    """Every quantised layer put back to float alone: the mean logit error against FP32 that this saves, greatest first, in percent."""
    error = lambda model: float(np.abs(session(model).run(["logits"], {"joints": clips})[0] - reference).mean())  # noqa: E731
    quantised = {n.output[0] for n in int8.graph.node if n.op_type == "DequantizeLinear"}
    weights = {n.name: n.input[1].removesuffix(".weight") for n in plain.graph.node if n.op_type in WEIGHTED}  # such as features.blocks.0.mix
    layers = [n.name for n in int8.graph.node if n.op_type in WEIGHTED and n.input[1] in quantised]
    whole, found = error(int8), []
    with progress(len(layers), 0, "sensitivity") as bar:
        for layer in layers:
            found.append({"layer": weights[layer], "saves": 100 * (1 - error(back_to_float(int8, plain, layer)) / max(whole, 1e-12))})
            bar.update()
    return sorted(found, key=lambda f: -f["saves"])


def latencies(runs: dict[str, Callable[[], object]], rounds: int = 60) -> dict[str, float]:
    """Median time of one call each, interleaved, as ratios to `deploy`."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 5):
        for name, call in runs.items():
            call()  # into the caches, where the one before has left its own data
            start = time.perf_counter()
            call()
            if i >= 5:
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(t) for name, t in times.items()}
    return {name: round(m / medians["deploy"], 3) for name, m in medians.items()}


def arrays(view: ClipView, clips: np.ndarray) -> np.ndarray:
    """Joints (N, M, T, V, 3) of clips under the test view."""
    return torch.cat([b["joints"].cpu() for b in Batches(view, clips, 256)()]).numpy()


def description(cfg: Config, skeleton: Skeleton, classes: list[str], model: nn.Module, causal: bool) -> dict:
    """The metadata that `just predict` reads. `centre` and `trunk` are joints of the skeleton, for the view."""
    view = {k: getattr(cfg.view, k) for k in ("frames", "bodies", "sampling", "smooth", "heading", "trunk_scale", "extent")}
    return {"format": "LAST 1", "recipe": cfg.run_name, "seed": cfg.seed, "dataset": cfg.data.name, "split": cfg.data.split,
            "network": cfg.model.name, "params": sum(p.numel() for p in model.parameters()), "streams": list(model.streams), "causal": causal,
            "skeleton": {**skeleton.to_dict(), "centre": skeleton.centre, "trunk": skeleton.trunk}, "classes": classes, "view": view}


def markdown(report: dict) -> str:
    files = FILES | {"tflite": "model.tflite", "tflite_w8": "model.w8.tflite"}
    rows = [f"| {form} | {files[form]} | {x['bytes']:,} | {x['top1']:.1f} | " + (
            f"{x['drop']:.2f} ({x['drop_ci95'][0]:.2f} to {x['drop_ci95'][1]:.2f}) | {x['agreement']:.1f} | {x['max_diff']:.2g} |"
            if "drop" in x else " | | |") for form, x in ((f, report[f]) for f in files if f in report)]
    ratios = ", ".join(f"{k} {v:.2f}" for k, v in report["latency"].items())
    layers = "".join(f"\n- {x['layer']}: {x['saves']:.1f} % of the logit error" for x in report.get("layers", [])[:5])
    return (f"# {report['recipe']} on {report['dataset']} {report['split']}, exported\n\n"
            f"{report['params']:,} parameters, {report['clips']} test clips; `{report['command']}`, commit {report['commit']}, "
            f"{report['device']}.\n\n"
            "| form | file | bytes | top-1 | points lost to FP32 (paired 95 %) | agreement | largest logit difference |\n" + "|---" * 7 + "|\n"
            + "\n".join(rows) + f"\n\nTime of one clip, one thread, as a ratio to the FP32 deploy form: {ratios}.\n"
            + (f"\n**INT8 lost {report['int8']['drop']:.2f} points, 1 or more: do not ship it.** Layers that cost most:{layers}\n"
               if not report["accepted"] else ""))


def options(argv: list[str]) -> tuple[dict, list[str]]:
    """What belongs to this program, and the rest, which belongs to the recipe."""
    given = {"exports": "exports", "opset": "18", "format": "onnx", "causal": "false", "calibration": "1000"}
    rest = []
    for arg in argv:
        key, eq, value = arg.partition("=")
        if eq and key in given:
            given[key] = value
        else:
            rest.append(arg)
    for key, known in (("format", ("onnx", "tflite")), ("causal", ("true", "false")), ("opset", tuple(map(str, range(13, 24))))):
        if given[key] not in known:
            raise ValueError(f"{key} = {given[key]!r}{nearest(given[key], known)}")
    if not given["calibration"].isdigit() or int(given["calibration"]) < 1:
        raise ValueError(f"calibration = {given['calibration']!r}: must be a number of clips, at least 1")
    return given, rest


def check_folder(folder: Path, cfg: Config) -> None:
    """ValueError where the folder holds the export of another run."""
    if (folder / "report.json").exists():
        old = read_json(folder / "report.json")
        if (old["dataset"], old["split"], old["seed"]) != (cfg.data.name, cfg.data.split, cfg.seed):
            raise ValueError(f"{folder} holds the export for {old['dataset']} {old['split']}, seed {old['seed']}: give exports=FOLDER, or move it "
                             "away")


def judged(cfg: Config, scores: dict[str, np.ndarray], label: np.ndarray) -> dict[str, dict]:
    """Of each form's logits (N, K): top-1, of clips that are no copies too, and what INT8 and w8 lose to FP32."""
    report = {}
    for form, logits in scores.items():
        found = accuracies(cfg, torch.from_numpy(logits), torch.from_numpy(label).long())
        report[form] = {k: found[k] for k in ("top1", "top1_clean") if k in found}
        if form != "fp32":
            report[form] |= compared(scores["fp32"], logits, label)
    return report


def main(argv: list[str]) -> int:
    given, rest = options(argv)
    cfg, opset, causal = load_config(rest), int(given["opset"]), given["causal"] == "true"
    if given["format"] == "tflite":
        need_tflite()
    folder, command, code = Path(given["exports"]) / cfg.run_name, "just phase4 " + " ".join(argv), commit()
    if not (cfg.run / "final.pt").is_file():
        raise ValueError(f"no finished run in {cfg.run} (it lacks final.pt): train it first, or give the out=, data= and seed= it was made with")
    model, trained, skeleton, classes = load_run(cfg.run)
    cfg = dataclasses.replace(trained, out=cfg.out, data=dataclasses.replace(trained.data, store=cfg.data.store))
    check_folder(folder, cfg)
    torch.set_num_threads(1)
    store = open_store(cfg)
    if classes != store.classes:
        raise ValueError(f"{cfg.run} was trained on other classes than {cfg.store} has now ({', '.join(classes[:3])} ... there, "
                         f"{', '.join(store.classes[:3])} ... here): train again, with another out= or seed=")
    train_clips, _, test_clips = splits(store, cfg)
    view = ClipView(store, cfg.view)
    with np.load(cfg.run / "scores.npz") as z:
        if sorted(z["name"]) != sorted(store.clips["name"][test_clips]):
            raise ValueError(f"{cfg.store} holds other test clips than {cfg.run} was tested on: train again, with another out= or seed=")
    clips, label = arrays(view, test_clips), store.clips["label"][test_clips]
    chosen = np.random.default_rng(0).permutation(train_clips)[:int(given["calibration"])]
    module, one = deploy(model, causal), torch.from_numpy(clips[[0, -1]])

    print(f"{folder}: {len(clips)} test clips, {len(chosen)} for calibration, opset {opset}", file=sys.stderr)
    about = {**description(cfg, skeleton, classes, model, causal), "opset": opset}
    fp32 = to_onnx(module, one, opset)
    reference = logits_of(session(fp32), clips)
    with torch.no_grad(), causal_mode(model, causal):
        parity = max(float(np.abs(model(torch.from_numpy(clips[i:i + 64])).numpy() - reference[i:i + 64]).max()) for i in range(0, len(clips), 64))
    if parity > 1e-3 * max(1.0, float(np.abs(reference).max())):
        raise ValueError(f"the exported graph differs from the network by {parity:.2g} in a logit: this is a fault of the export, please report it")
    int8, plain = static_int8(fp32, arrays(view, chosen))
    w8 = weight_only(fp32)
    scores = {"fp32": reference, "int8": logits_of(session(int8), clips), "w8": logits_of(session(w8, "w8"), clips)}
    report = judged(cfg, scores, label)
    report["fp32"]["parity"] = parity
    accepted = report["int8"]["drop"] < DROP
    layers = [] if accepted else sensitivity(int8, plain, clips[:256], reference[:256])

    sessions = {"deploy": session(fp32), "int8": session(int8), "w8": session(w8, "w8")}
    with causal_mode(model, causal):
        sessions["train_form"] = session(to_onnx(model, one[:1], opset, free_batch=False))  # as it was trained: what is folding worth?
    runs = {name: lambda s=s: s.run(["logits"], {"joints": clips[:1]}) for name, s in sessions.items()}
    with torch.inference_mode(), causal_mode(model, causal):
        runs["eager"] = lambda: model(one[:1])
        latency = latencies(runs)
    for form, graph in (("fp32", fp32), ("int8", int8), ("w8", w8)):  # when all is measured: a run that was cut leaves the export before it
        ok = accepted or form != "int8"
        written(graph, folder / FILES[form], {**about, "form": form, "top1": report[form]["top1"], "accepted": ok})
        report[form]["bytes"] = (folder / FILES[form]).stat().st_size
    if given["format"] == "tflite":
        for name, (path, logits) in tflite(module, folder, clips).items():
            report[name] = {**compared(reference, logits, label), "bytes": path.stat().st_size}
    report = {**{k: about[k] for k in ("recipe", "dataset", "split", "seed", "params", "causal", "opset")}, "command": command, "device": device_name(
        torch.device("cpu")), "commit": code, "clips": len(clips), "calibration": len(chosen), "accepted": accepted, **report, "latency": latency,
        **({"layers": layers} if layers else {})}
    write_json(folder / "report.json", report)
    with atomic(folder / "report.md") as part:
        part.write_text(markdown(report))
    print(markdown(report))
    if not accepted:
        worst = ", ".join(f"{x['layer']} ({x['saves']:.0f} %)" for x in layers[:5])
        print(f"error: {folder / FILES['int8']} lost {report['int8']['drop']:.2f} points of top-1, {DROP:g} or more; most of its error is due to "
              f"{worst}; ship {FILES['w8']} or {FILES['fp32']}", file=sys.stderr)
    return 0 if accepted else 1


if __name__ == "__main__":
    cli(main)
