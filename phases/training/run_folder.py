"""The folder of a run: what is in it, whether it is done, and its result.

A run lives in runs/<recipe>/<dataset>-<split>/seed<k>/. A run under way has recipe.json and last.pt there; a finished
run has final.pt and result.json too.
"""
from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from last import accuracy, amp_dtype, load_checkpoint, predict, rank_of, save_checkpoint
from phases.common import limits
from phases.common.files import ROOT, atomic, read_json, read_log, write_json
from phases.common.limits import load_npz
from phases.common.recipes import differences
from phases.training.clip_store import ClipStore
from phases.training.networks import describe
from phases.training.recipe import Config
from phases.training.view import Batches, ClipView


def check_phase(cfg: Config, phase: str) -> None:
    """ValueError if the recipe belongs to another phase."""
    for given, what, theirs in ((cfg.distil.teacher, "learns from a teacher", "phase2"),
                                (cfg.pretrain.after, "learns without labels", "phase3"),
                                (cfg.probe.only or cfg.probe.labels < 1, "judges an encoder", "probe")):
        if given and theirs != phase:
            raise ValueError(f"recipe {cfg.recipe!r} {what}: that is `just {theirs}`")


def already_done(cfg: Config, phase: str, same: dict | None = None) -> bool:
    """Whether the run folder holds this run's result; ValueError if it is of another recipe, phase or `identity`."""
    result, recipe = cfg.run / "result.json", cfg.run / "recipe.json"
    if recipe.exists() and ((cfg.run / "last.pt").exists() or result.exists()):
        changed = differences(read_json(recipe), json.loads(json.dumps(dataclasses.asdict(cfg))))
        if changed:
            raise ValueError(f"{cfg.run} holds a run of another recipe ({changed}): "
                             "choose another out=, or move it away")
    if not result.exists():
        return False
    command = read_json(result).get("command", "")
    if command and command.split()[:2] != ["just", phase]:
        raise ValueError(f"{cfg.run} holds a run of another phase ({command}): choose another out=, or move it away")
    if not cfg.streams and not (cfg.run / "final.pt").exists():  # a damaged one was moved away: last.pt remakes it
        return False
    theirs = {}
    with contextlib.suppress(ValueError, KeyError, TypeError):  # last.pt is gone or damaged: a finished run needs none
        theirs = json.loads(load_checkpoint(cfg.run / "last.pt")["recipe"])
    if same and theirs.get("clips", same["clips"]) != same["clips"]:
        raise ValueError(f"{cfg.run} holds a finished run on other clips, labels or classes than {cfg.store} has now: "
                         "choose another out= or seed=, or move it away")
    if rank_of()[0] == 0:
        print(f"{cfg.run}: already done")
    return True


def identity(phase: str, store: ClipStore, *sides: np.ndarray) -> dict:
    """What a resumed run must share besides its recipe: the phase, and a hash of classes, clips and labels per side."""
    name, label = store.clips["name"], store.clips["label"]
    clips = [[[str(name[i]), int(label[i])] for i in side] for side in sides]
    whole = json.dumps([store.classes, *clips])
    return {"phase": phase, "clips": hashlib.sha256(whole.encode()).hexdigest()[:12]}


def announce(cfg: Config, what: str, device: torch.device, more: str = "") -> None:
    """Say what is about to be done, in the first process only."""
    rank, ranks = rank_of()
    if rank == 0:
        dtype = str(amp_dtype(cfg.train, device)).removeprefix("torch.")
        processes = f", {ranks} processes" if ranks > 1 else ""
        if cfg.data.split == "all":
            what += " (the same clips: the accuracy below is of clips that the network has seen)"
        print(f"{cfg.run}: {what} on {device}, {dtype}{processes}{more}", file=sys.stderr)


def accuracies(cfg: Config, logits: Tensor, labels: Tensor) -> dict:
    """`accuracy` on the test clips, and top1_clean without the classes of data.leaked."""
    result = accuracy(logits, labels)
    if cfg.data.leaked:
        clean = ~torch.isin(labels, torch.tensor(cfg.data.leaked))
        result["clips_clean"] = int(clean.sum())
        result["top1_clean"] = accuracy(logits[clean], labels[clean])["top1"]
    return result


def read_scores(run: Path) -> tuple[list[str], np.ndarray]:
    """Names of a run's test clips, and their logits (clips, classes)."""
    path = run / "scores.npz"
    with limits.reading(path):
        scores = load_npz(path)
        names, logits = scores["name"], scores["logits"]
        if names.ndim != 1 or logits.ndim != 2 or len(names) != len(logits) or logits.dtype != np.float32:
            raise ValueError(f"names of shape {names.shape}, logits of {logits.shape} are not the scores of a run")
    return names.tolist(), logits


def save_scores(cfg: Config, store: ClipStore, clips: np.ndarray, logits: Tensor, labels: Tensor) -> dict:
    """Write the scores of the test clips to the run folder; return their accuracies."""
    with atomic(cfg.run / "scores.npz") as part, open(part, "wb") as f:
        np.savez(f, name=store.clips["name"][clips], logits=logits.numpy(), label=labels.numpy())
    return accuracies(cfg, logits, labels)


def finish(cfg: Config, command: str, revision: str, store: ClipStore, view: ClipView, model: nn.Module,
           test_clips: np.ndarray, more: dict | None = None) -> None:
    """Write the final weights, evaluate them once on the test side, write scores and result (`more` goes into it)."""
    seconds = sum(line["seconds"] for line in read_log(cfg.run / "metrics.jsonl"))
    recipe, skeleton = json.dumps(dataclasses.asdict(cfg)), json.dumps(store.skeleton.to_dict())
    save_checkpoint(cfg.run / "final.pt", {"recipe": recipe, "skeleton": skeleton, "classes": store.classes,
                                          "model": model.state_dict()})

    test = Batches(view, test_clips, cfg.train.batch)
    result: dict = {"seconds": round(seconds), "device": device_name(view.device)}
    size = describe(cfg, store.skeleton)
    result |= {"params": size["params"], "macs": size["macs"]}
    result |= save_scores(cfg, store, test_clips, *predict(model, test))
    if cfg.train.causal:
        result["top1_causal"] = accuracy(*predict(model, test, is_causal=True))["top1"]
    write_result(cfg, command, revision, result | (more or {}))


def write_result(cfg: Config, command: str, revision: str, result: dict) -> None:
    """Write result.json, and print its first figures as a line."""
    head = {"recipe": cfg.run_name, "dataset": cfg.data.name, "split": cfg.data.split, "seed": cfg.seed,
            "command": command, "epochs": cfg.train.epochs, "commit": revision}
    write_json(cfg.run / "result.json", head | result)
    names = {"top1": "top-1", "top1_clean": "clean", "top1_causal": "causal", "top5": "top-5",
             "teacher_top1": "its teacher"}
    figures = [f"{name} {result[key]:.1f}" for key, name in names.items() if key in result]
    figures += [f"{result[key]:,} {what}" for key, what in (("clips", "test clips"), ("params", "parameters"))
                if key in result]
    print(f"{cfg.run / 'result.json'}: {', '.join(figures) or 'done'}")


def commit() -> str:
    """The commit of the code, with + if tracked files were changed since; empty outside a repository or without git."""
    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()
        except FileNotFoundError:
            return ""
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as f:
            name = next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        name = "CPU"
    return f"{name}, {torch.get_num_threads()} threads"
