"""The folder of a run: what is in it, whether it is done, and its result.

A run has its folder runs/<recipe>/<dataset>-<split>/seed<k>/. A run under way has recipe.json and last.pt there; a
finished run has final.pt and result.json too.
"""
from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from last import load_checkpoint, rank_of, save_checkpoint
from phases.common import limits
from phases.common.files import ROOT, atomic, read_json, read_log, write_json
from phases.common.limits import load_npz
from phases.common.recipes import differences
from phases.training.clip_store import ClipStore
from phases.training.evaluation import accuracy
from phases.training.recipe import Config
from skeletons import Skeleton

# ---------------------------------------------------------------------------------------------------------------------
# Which run a folder holds
# ---------------------------------------------------------------------------------------------------------------------

def check_phase(cfg: Config, phase: str) -> None:
    """ValueError if the recipe belongs to another phase."""
    marks = ((cfg.distil.teacher, "learns from a teacher", "phase2"),
             (cfg.pretrain.after, "learns without labels", "phase3"),
             (cfg.probe.only or cfg.probe.labels < 1, "judges an encoder", "probe"))
    for has_mark, does, theirs in marks:
        if has_mark and theirs != phase:
            raise ValueError(f"recipe {cfg.recipe!r} {does}: that is `just {theirs}`")


def identity_of(phase: str, store: ClipStore, *sides: np.ndarray) -> dict:
    """What a resumed run must share besides its recipe: the phase, and a hash of classes, clips and labels per side."""
    name = store.clips["name"]
    label = store.clips["label"]
    clips = []
    for side in sides:
        clips.append([[str(name[i]), int(label[i])] for i in side])

    whole = json.dumps([store.classes, *clips])
    return {"phase": phase, "clips": hashlib.sha256(whole.encode()).hexdigest()[:12]}


def already_done(cfg: Config, phase: str, identity: dict | None = None) -> bool:
    """Whether the run folder holds this run's result; ValueError if it is of another recipe, phase or `identity`."""
    result = cfg.run / "result.json"
    recipe = cfg.run / "recipe.json"

    # another recipe's run, finished or not, stays
    if recipe.exists() and ((cfg.run / "last.pt").exists() or result.exists()):
        try:
            changed = differences(read_json(recipe), json.loads(json.dumps(dataclasses.asdict(cfg))))
        except ValueError as e:  # damaged, or with a setting that is gone
            raise ValueError(f"{cfg.run} holds a run that cannot continue ({e}): choose another out=, or move it away"
                             ) from None
        if changed:
            raise ValueError(f"{cfg.run} holds a run of another recipe ({changed}): "
                             "choose another out=, or move it away")
    if not result.exists():
        return False

    # so does another phase's
    command = read_json(result).get("command", "")
    if command and command.split()[:2] != ["just", phase]:
        raise ValueError(f"{cfg.run} holds a run of another phase ({command}): choose another out=, or move it away")

    # last.pt makes a lost final.pt again; an average has no weights
    if not cfg.streams and not (cfg.run / "final.pt").exists():
        return False

    # a result on other clips, as far as last.pt tells: a finished run does not need it
    theirs = {}
    with contextlib.suppress(ValueError, KeyError, TypeError):
        theirs = json.loads(load_checkpoint(cfg.run / "last.pt")["recipe"])
    if identity and theirs.get("clips", identity["clips"]) != identity["clips"]:
        raise ValueError(f"{cfg.run} holds a finished run on other clips, labels or classes than {cfg.store} has now: "
                         "choose another out= or seed=, or move it away")

    if rank_of()[0] == 0:
        print(f"{cfg.run}: already done")
    return True


# ---------------------------------------------------------------------------------------------------------------------
# What a finished run leaves
# ---------------------------------------------------------------------------------------------------------------------

def save_final(cfg: Config, store: ClipStore, network: nn.Module) -> None:
    """Write final.pt, the weights that a run reports."""
    save_weights(cfg.run / "final.pt", cfg, store.skeleton, store.classes, network)


def save_weights(path: Path, cfg: Config, skeleton: Skeleton, classes: list[str], network: nn.Module) -> None:
    """Write a checkpoint: the weights, and all it takes to build the network again."""
    save_checkpoint(path, {
        "recipe": json.dumps(dataclasses.asdict(cfg)), "skeleton": json.dumps(skeleton.to_dict()),
        "classes": classes, "model": network.state_dict()})


def without_places(cfg: Config) -> Config:
    """A recipe for a file that leaves this machine: without folders, also those of a start and of teachers."""
    data = dataclasses.replace(cfg.data, store="")
    distil = cfg.distil if "/" not in cfg.distil.teacher else dataclasses.replace(cfg.distil, teacher="")
    init = cfg.init if "/" not in cfg.init else ""
    return dataclasses.replace(cfg, init=init, raw="", out=Config.out, data=data, distil=distil)


def save_scores(cfg: Config, store: ClipStore, clips: np.ndarray, logits: Tensor, labels: Tensor) -> dict:
    """Write the scores of the test clips to the run folder; return their accuracies."""
    with atomic(cfg.run / "scores.npz") as part, open(part, "wb") as f:
        np.savez(f, name=store.clips["name"][clips], logits=logits.numpy(), label=labels.numpy())
    return accuracies(cfg, logits, labels)


def read_scores(run: Path) -> tuple[list[str], np.ndarray]:
    """Names of a run's test clips, and their logits (clips, classes)."""
    path = run / "scores.npz"
    with limits.reading(path):
        scores = load_npz(path)
        names = scores["name"]
        logits = scores["logits"]
        if names.ndim != 1 or logits.ndim != 2 or len(names) != len(logits) or logits.dtype != np.float32:
            raise ValueError(f"names of shape {names.shape}, logits of {logits.shape} are not the scores of a run")
    return names.tolist(), logits


def accuracies(cfg: Config, logits: Tensor, labels: Tensor) -> dict:
    """`accuracy` on the test clips, and top1_clean without the classes of data.leaked."""
    result = accuracy(logits, labels)
    if cfg.data.leaked:
        clean = ~torch.isin(labels, torch.tensor(cfg.data.leaked))
        result["clips_clean"] = int(clean.sum())
        result["top1_clean"] = accuracy(logits[clean], labels[clean])["top1"]
    return result


FIGURES = {"top1": "top-1", "top1_clean": "clean", "top1_causal": "causal", "top5": "top-5",
           "teacher_top1": "its teacher"}
COUNTS = {"clips": "test clips", "params": "parameters"}


def write_result(cfg: Config, command: str, revision: str, result: dict) -> None:
    """Write result.json, and print its first figures as a line."""
    head = {"recipe": cfg.run_name, "dataset": cfg.data.name, "split": cfg.data.split, "seed": cfg.seed,
            "command": command, "epochs": cfg.train.epochs, "commit": revision}
    write_json(cfg.run / "result.json", head | result)

    # the top 5 of five classes are all of them
    few = 0 < len(result.get("per_class", ())) <= 5
    shown = [key for key in FIGURES if key in result and not (few and key == "top5")]
    figures = [f"{FIGURES[key]} {result[key]:.1f}" for key in shown]
    figures += [f"{result[key]:,} {name}" for key, name in COUNTS.items() if key in result]
    print(f"{cfg.run / 'result.json'}: {', '.join(figures) or 'done'}")


def seconds_of(run: Path) -> int:
    """Duration of a training, by its log."""
    return round(sum(line["seconds"] for line in read_log(run / "metrics.jsonl")))


def commit() -> str:
    """The commit of the code, with + if tracked files were changed since; empty outside a repository or without git."""
    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()
        except FileNotFoundError:
            return ""

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


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
