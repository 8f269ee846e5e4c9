"""What the programs share once the recipe is known: stores, networks, runs found by name, the run folder, results.

A run lives in runs/<recipe>/<dataset>-<split>/seed<k>/. A run under way has recipe.json and last.pt there; a finished
run has final.pt and result.json too.
"""
from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import limits
import numpy as np
import torch
import torch.distributed as dist
from limits import load_npz, one_line
from protocols import sides
from recipe import ROOT, Config, build_config, nearest, recipe_files
from torch import Tensor, nn

from last import (
    MODELS,
    SKELETONS,
    STREAMS,
    Batches,
    ClipView,
    Skeleton,
    accuracy,
    amp_dtype,
    atomic,
    damaged,
    differences,
    load_checkpoint,
    predict,
    rank_of,
    read_log,
    save_checkpoint,
    write_json,
)

# ---------------------------------------------------------------------------------------------------------------------
# Stores against recipes
# ---------------------------------------------------------------------------------------------------------------------

class ClipStore:
    """The clips that phase 0 wrote: frames (rows, V, 3), the joints of all bodies, and `clips`, a table of arrays."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not (self.path / "meta.json").is_file():
            raise ValueError(f"no clip store in {self.path}: make it with `just phase0 recipe=... raw=...`")
        try:
            self.meta = read_json(self.path / "meta.json")
            self.frames = np.load(self.path / "frames.npy", mmap_mode="c")  # torch wants it writable; c leaves the file
            self.clips = load_npz(self.path / "clips.npz")
            self.skeleton = Skeleton.from_dict(self.meta["skeleton"])
            self.classes: list[str] = self.meta["classes"]
            self.protocols: dict[str, dict] = self.meta["protocols"]
            self._check()
        except Exception as e:  # see load_npz
            raise ValueError(f"clip store {self.path} is damaged ({one_line(e)}): run phase 0 again") from None

    def _check(self) -> None:
        """ValueError if the files do not fit each other."""
        N, rows, clips = len(self.clips["name"]), len(self.frames), self.clips
        for field in ("label", "subject", "camera", "setup", "replication", "length", "offset"):
            shapes = ((N, 1), (N, 2)) if field == "offset" else ((N,),)
            if clips[field].shape not in shapes or clips[field].dtype.kind != "i" or not N:
                raise ValueError(f"clips.npz: {field} has shape {clips[field].shape}, type {clips[field].dtype}")
        if self.frames.shape != (rows, self.skeleton.num_joints, 3) or self.frames.dtype != np.float32:
            raise ValueError(f"frames.npy has shape {self.frames.shape}, type {self.frames.dtype}")
        offset, length = clips["offset"], clips["length"]
        if min(offset[:, 0].min(), offset.min() + 1, length.min() - 1) < 0 or clips["name"].shape != (N,):
            raise ValueError("clips.npz: a clip has no frame or no place in frames.npy")
        if max(offset.max(), length.max()) > rows or (offset.max(1) + length).max() > rows:
            raise ValueError("a clip lies beyond the end of frames.npy")
        if not isinstance(self.classes, list) or not all(isinstance(name, str) for name in self.classes):
            raise ValueError("meta.json: classes is no list of names")
        for name, rule in self.protocols.items():
            has = [rule[side] for side in ("train", "test") if side in rule]
            if not has or not all(isinstance(values, list) for values in has):
                raise ValueError(f"meta.json: protocol {name} has no side")
            if clips[rule["field"]].shape != (N,):
                raise ValueError(f"meta.json: protocol {name} is of another table")
            sides(rule, clips)

    def __len__(self) -> int:
        return len(self.clips["label"])

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Clip numbers of the (training, test) side of a protocol; `all` trains and tests on every clip."""
        if name == "all" and name not in self.protocols:
            return np.arange(len(self.clips["label"])), np.arange(len(self.clips["label"]))
        if name not in self.protocols:
            known = nearest(name, self.protocols)
            raise ValueError(f"data.split = {name!r}: {self.path} has no such protocol{known}")
        rule = self.protocols[name]
        train, test = sides(rule, self.clips)
        for side, members in (("training", train), ("test", test)):
            if not members.any():
                raise ValueError(f"data.split = {name!r}: no clip of {self.path} is on the {side} side (rule: {rule})")
        return np.flatnonzero(train), np.flatnonzero(test)


def open_store(cfg: Config) -> ClipStore:
    """The store of a recipe; ValueError if skeleton, labels or number of classes differ from the recipe's."""
    store, data = ClipStore(cfg.store), cfg.data
    if data.skeleton and store.skeleton.name != data.skeleton:
        theirs = store.skeleton.name
        raise ValueError(f"data.skeleton = {data.skeleton!r}: the store {cfg.store} was made with {theirs!r}")
    label = store.clips["label"]
    outside = (label < 0) | (label >= data.num_classes)
    if outside.any():
        worst = int(np.argmax(np.where(label < 0, label.max() + 1 - label, label)))
        raise ValueError(f"clip {store.clips['name'][worst]} of {cfg.store} has label {label[worst]}: "
                         f"data.num_classes = {data.num_classes} allows 0 to {data.num_classes - 1}")
    if data.num_classes != len(store.classes):
        raise ValueError(f"data.num_classes = {data.num_classes}: the store {cfg.store} has {len(store.classes)}")
    return store


def splits(store: ClipStore, cfg: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clip numbers for training, validation (empty unless data.validate holds some out) and test."""
    train, test = store.split(cfg.data.split)
    held = np.zeros(len(train), bool)
    for field, values in cfg.data.validate.items():
        known = [k for k, v in store.clips.items() if v.dtype.kind == "i" and v.ndim == 1]
        if field not in known:
            raise ValueError(f"data.validate.{field}: no such field of a clip{nearest(field, known)}")
        held |= np.isin(store.clips[field][train], values)
    if cfg.data.validate and (held.all() or not held.any()):
        raise ValueError(f"data.validate = {cfg.data.validate}: holds out {held.sum()} of {len(train)} training clips")
    return train[~held], train[held], test


def validation(view: ClipView, clips: np.ndarray, cfg: Config) -> Callable[[nn.Module], float] | None:
    """Function network -> top-1 in percent on held-out clips; None if there are none."""
    if not len(clips):
        return None
    held = Batches(view, clips, cfg.train.batch)

    def score(net: nn.Module) -> float:
        return accuracy(*predict(net, held))["top1"]
    return score


# ---------------------------------------------------------------------------------------------------------------------
# Networks, and runs by name
# ---------------------------------------------------------------------------------------------------------------------

def build_model(cfg: Config, skeleton: Skeleton, num_classes: int) -> nn.Module:
    """The network of a recipe; the seed determines its initial weights."""
    torch.manual_seed(cfg.seed)
    return MODELS[cfg.model.name](cfg.model, skeleton, num_classes, cfg.view.frames)


def describe(cfg: Config, skeleton: Skeleton | None = None) -> dict:
    """What `just info` prints: parameters, and multiply-adds of one clip with one body."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    if skeleton is None:
        skeleton = SKELETONS[cfg.data.skeleton] if cfg.data.skeleton else ClipStore(cfg.store).skeleton
    model = build_model(cfg, skeleton, cfg.data.num_classes).eval()
    clip = torch.zeros(1, 1, cfg.view.frames, skeleton.num_joints, 3)
    # FlopCounterMode does not see fused attention kernels
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(clip)
    return {"recipe": cfg.recipe, "model": cfg.model.name, "params": sum(p.numel() for p in model.parameters()),
            "macs": counter.get_total_flops() // 2, "streams": len(model.streams), "T": cfg.view.frames,
            "V": skeleton.num_joints, "classes": cfg.data.num_classes}


def find_runs(name: str, cfg: Config, seed: int = 0) -> list[Path]:
    """Folders of finished runs: the given folder, or a recipe's run on the same data set.

    A LAST-Base recipe gives all four streams if all are trained, else its joint stream.
    """
    is_folder = "/" in name
    if is_folder:
        folder = Path(name.removesuffix("/final.pt"))
    else:
        folder = dataclasses.replace(cfg, recipe=name, seed=seed).run
    if not (folder / "final.pt").is_file():
        close = difflib.get_close_matches(name, recipe_files(), 1)
        hint = f", did you mean {close[0]!r}?" if close and close[0] != name and not is_folder else ""
        raise ValueError(f"{name!r}: no finished run in {folder} (it lacks final.pt){hint}: train it first, "
                         "or give the folder of a finished run")
    if is_folder:
        return [folder]
    others = [dataclasses.replace(cfg, recipe=f"{name}-{stream}", seed=seed).run for stream in STREAMS[1:]]
    missing = sum(not (other / "final.pt").is_file() for other in others)
    if missing == 0:
        return [folder, *others]
    if missing < len(others) and rank_of()[0] == 0:
        print(f"{name!r}: takes the joint stream only, because {missing} of the other three are not trained yet",
              file=sys.stderr)
    return [folder]


def load_run(folder: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, Config, Skeleton, list[str]]:
    """The network of a finished run in eval mode, its recipe, skeleton and class names."""
    state = load_checkpoint(folder / "final.pt", device)
    weights = state.get("model")
    if isinstance(weights, dict) and weights and not any(k.startswith("head.linear") for k in weights):
        raise ValueError(f"{folder} holds an encoder of phase 3, which cannot classify: give it as init=, "
                         "or take a run of phase 1 or 2")
    try:
        cfg = build_config(Config, json.loads(state["recipe"]))
        skeleton = Skeleton.from_dict(json.loads(state["skeleton"]))
        model = build_model(cfg, skeleton, cfg.data.num_classes)
        model.load_state_dict(state["model"])
        return model.to(device).eval(), cfg, skeleton, list(state["classes"])
    except Exception as e:  # a changed file can hold anything in place of a recipe, a skeleton and weights
        raise damaged(folder / "final.pt", e) from None


def check_leakage(theirs: dict, cfg: Config, where: str) -> None:
    """ValueError if a run with the resolved recipe `theirs` may have seen clips that `cfg` tests or validates on.

    NTU RGB+D 120 contains the 60, and its training subjects contain theirs.
    """
    data, ntu = theirs.get("data", {}), {"ntu60": "ntu", "ntu120": "ntu"}
    alike = ntu.get(data.get("name"), data.get("name")) == ntu.get(cfg.data.name, cfg.data.name)
    for key, ours in (("split", cfg.data.split), ("validate", cfg.data.validate)):
        if alike and ours and ours != "all" and data.get(key) != ours:
            raise ValueError(f"{where} was trained with data.{key} = {data.get(key)!r}, this run has {ours!r}: "
                             "it may have seen clips that are held out here")


# ---------------------------------------------------------------------------------------------------------------------
# The folder of a run
# ---------------------------------------------------------------------------------------------------------------------

def read_json(path: Path) -> dict:
    value = limits.read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: lacks a table")
    return value


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


# ---------------------------------------------------------------------------------------------------------------------
# Several processes
# ---------------------------------------------------------------------------------------------------------------------

def start_processes(cfg: Config, argv: list[str]) -> int | None:
    """gpus=N: run the program in N processes and return the exit code. Inside one of them: join them, return None."""
    if rank_of()[1] > 1:
        join_processes(cfg.torch_device)
        return None
    if cfg.gpus == 1:
        return None
    device = cfg.torch_device.type
    if ":" in cfg.device:
        raise ValueError(f"device = {cfg.device!r}: gpus = {cfg.gpus} takes the first ones: give no number")
    if device == "cuda" and cfg.gpus > torch.cuda.device_count():
        raise ValueError(f"gpus = {cfg.gpus}: this machine has {torch.cuda.device_count()}")
    if device == "cpu" and cfg.device != "cpu":
        raise ValueError(f"gpus = {cfg.gpus}: this machine has none; give device=cpu as well to train in {cfg.gpus} "
                         "processes without")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    launch = LaunchConfig(1, 1, cfg.gpus, run_id=str(os.getpid()), rdzv_backend="c10d", rdzv_endpoint="localhost:0",
                          max_restarts=0)
    try:
        elastic_launch(launch, sys.executable)(sys.argv[0], *argv)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as e:
        number, failure = min(e.failures.items(), key=lambda f: f[1].timestamp)
        code = failure.exitcode
        if code in (2, 130):  # the process has printed why
            return code
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        print(f"error: process {number} of {cfg.gpus} ended ({how}), and with it the run: "
              f"the same command goes on from {cfg.run / 'last.pt'}", file=sys.stderr)
        return 1
    return 0


def join_processes(device: torch.device) -> None:
    """Join the other processes of this run, which torchrun or `start_processes` started."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # depthwise kernels trigger this warning: it costs a copy and changes nothing
    warnings.filterwarnings("ignore", "Grad strides do not match")
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
