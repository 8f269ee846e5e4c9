"""Phase 1: train one network on one split, from scratch, and report it once on the test side.

    just phase1 recipe=lite_small                              NTU-60 xsub, the default
    just phase1 recipe=lite_small data=nw_ucla seed=1          another data set: one override
    just phase1 recipe=L3 data.split=xview train.epochs=5      any field of a recipe
    just phase1 recipe=base streams=all                        LAST-Base: its four streams in turn, then their average
    just phase1 recipe=base gpus=4                             four processes, a GPU each; or under torchrun, on several machines

In:  the clip store of phase 0 (stores/<dataset>).
Out: runs/<recipe>/<dataset>-<split>/seed<k>/, <recipe>-bone and so on for the other streams of LAST-Base, <recipe>-all for the average
         recipe.json     the resolved recipe             metrics.jsonl   one line per epoch
         last.pt         all it takes to go on           final.pt        the weights reported
         scores.npz      name, logits, label per clip    result.json     top-1, top-5, per class, confusion
Cut off at any moment, the same command goes on; on a CPU in FP32 the weights come out the same bit for bit.
Exit codes: 0 done (or already done), 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys

import numpy as np
import torch

from last import (
    ROOT,
    STREAMS,
    Batches,
    ClipStore,
    ClipView,
    Config,
    accuracy,
    amp_dtype,
    atomic,
    build_model,
    classification_loss,
    cli,
    describe,
    differences,
    find_runs,
    fit,
    load_config,
    nearest,
    plain_batches,
    predict,
    rank_of,
    read_json,
    read_log,
    save_checkpoint,
    start_from,
    together,
    write_json,
)


def splits(store: ClipStore, cfg: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clip numbers for training, validation (empty unless data.validate holds some out) and test."""
    train, test = store.split(cfg.data.split)
    held = np.zeros(len(train), bool)
    for field, values in cfg.data.validate.items():
        if field not in store.clips or store.clips[field].dtype.kind != "i":
            known = [k for k, v in store.clips.items() if v.dtype.kind == "i" and v.ndim == 1]
            raise ValueError(f"data.validate.{field}: no such field of a clip{nearest(field, known)}")
        held |= np.isin(store.clips[field][train], values)
    if cfg.data.validate and (held.all() or not held.any()):
        raise ValueError(f"data.validate = {cfg.data.validate}: holds out {held.sum()} of {len(train)} training clips")
    return train[~held], train[held], test


def open_store(cfg: Config) -> ClipStore:
    """The store of a recipe, checked against what the recipe says of it."""
    store = ClipStore(cfg.store)
    if cfg.data.skeleton and store.skeleton.name != cfg.data.skeleton:
        raise ValueError(f"data.skeleton = {cfg.data.skeleton!r}: the store {cfg.store} was made with {store.skeleton.name!r}")
    label = store.clips["label"]
    if label.min() < 0 or label.max() >= cfg.data.num_classes:
        worst = int(np.argmax(np.where(label < 0, label.max() + 1 - label, label)))
        raise ValueError(f"clip {store.clips['name'][worst]} of {cfg.store} has label {label[worst]}: "
                         f"data.num_classes = {cfg.data.num_classes} allows 0 to {cfg.data.num_classes - 1}")
    if cfg.data.num_classes != len(store.classes):
        raise ValueError(f"data.num_classes = {cfg.data.num_classes}: the store {cfg.store} has {len(store.classes)}")
    return store


def needs(phase: str, store: ClipStore, *sides: np.ndarray) -> dict:
    """What a run goes on with besides its recipe: its phase, and a fingerprint of which clips train, validate and test, and their labels."""
    whole = json.dumps([store.classes, *([[str(store.clips["name"][i]), int(store.clips["label"][i])] for i in side] for side in sides)])
    return {"phase": phase, "clips": hashlib.sha256(whole.encode()).hexdigest()[:12]}


def commit() -> str:
    """The commit the code stands at, with + when it was changed since; empty outside a repository."""
    git = lambda *a: subprocess.run(["git", "-C", str(ROOT), *a], capture_output=True, text=True).stdout.strip()  # noqa: E731
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def accuracies(cfg: Config, logits: torch.Tensor, labels: torch.Tensor) -> dict:
    """`accuracy` of test clips, and of those among them that are no copies of training clips."""
    result = accuracy(logits, labels)
    if cfg.data.leaked:
        clean = ~torch.isin(labels, torch.tensor(cfg.data.leaked))
        result["clips_clean"], result["top1_clean"] = int(clean.sum()), accuracy(logits[clean], labels[clean])["top1"]
    return result


def report(cfg: Config, store: ClipStore, clips: np.ndarray, logits: torch.Tensor, labels: torch.Tensor) -> dict:
    """Accuracies of the test clips, after their scores were written to the run folder."""
    with atomic(cfg.run / "scores.npz") as part, open(part, "wb") as f:
        np.savez(f, name=store.clips["name"][clips], logits=logits.numpy(), label=labels.numpy())
    return accuracies(cfg, logits, labels)


def check_phase(cfg: Config, phase: str) -> None:
    """ValueError where a recipe asks for what another phase does."""
    for given, what, theirs in ((cfg.distil.teacher, "learns from a teacher", "phase2"), (cfg.pretrain.after, "learns without labels", "phase3"),
                                (cfg.probe.labels < 1, "sees a share of the labels", "probe")):
        if given and theirs != phase:
            raise ValueError(f"recipe {cfg.recipe!r} {what}: that is `just {theirs}`")


def already_done(cfg: Config, phase: str) -> bool:
    """Whether the run's folder holds its result; ValueError where it holds a run of another recipe or phase."""
    recipe = json.loads(json.dumps(dataclasses.asdict(cfg)))
    if (cfg.run / "recipe.json").exists() and ((cfg.run / "last.pt").exists() or (cfg.run / "result.json").exists()):
        if changed := differences(read_json(cfg.run / "recipe.json"), recipe):
            raise ValueError(f"{cfg.run} holds a run of another recipe ({changed}): choose another out=, or move it away")
    if (cfg.run / "result.json").exists():
        command = read_json(cfg.run / "result.json").get("command", "")
        if command and command.split()[:2] != ["just", phase]:
            raise ValueError(f"{cfg.run} holds a run of another phase ({command}): choose another out=, or move it away")
        if not cfg.streams and not (cfg.run / "final.pt").exists():  # moved away, for it was damaged: last.pt still makes it
            return False
        if rank_of()[0] == 0:
            print(f"{cfg.run}: already done")
        return True
    return False


def write_result(cfg: Config, command: str, code: str, result: dict) -> None:
    head = {"recipe": cfg.run_name, "dataset": cfg.data.name, "split": cfg.data.split, "seed": cfg.seed, "command": command,
            "epochs": cfg.train.epochs, "commit": code}
    write_json(cfg.run / "result.json", head | result)
    print(json.dumps({k: v for k, v in (head | result).items() if k not in ("per_class", "confusion")}))


def train(cfg: Config, command: str) -> None:
    """Train one network and report it; nothing to do where that was done."""
    code, store = commit(), open_store(cfg)
    train_clips, held_clips, test_clips = splits(store, cfg)
    if already_done(cfg, "phase1"):
        return
    recipe, device = dataclasses.asdict(cfg), cfg.torch_device
    view = ClipView(store, cfg.view, device)
    model = build_model(cfg, store.skeleton, cfg.data.num_classes).to(device)
    if cfg.init:
        start_from(model, find_runs(cfg.init, cfg, cfg.seed)[0], cfg)
    begin(cfg, f"{len(train_clips)} training, {len(held_clips)} validation, {len(test_clips)} test clips", device)

    batches = Batches(view, train_clips, cfg.train.batch, training=True, seed=cfg.seed)
    plain = plain_batches(view, train_clips, cfg.train.batch)
    held = Batches(view, held_clips, cfg.train.batch)
    score = (lambda net: accuracy(*predict(net, held))["top1"]) if len(held_clips) else None
    fit(model, batches, classification_loss(cfg.train), cfg.train, cfg.run, recipe, cfg.seed, plain, score,
        needs("phase1", store, train_clips, held_clips, test_clips))
    if rank_of()[0] == 0:
        finish(cfg, command, code, store, view, model, test_clips)


def begin(cfg: Config, what: str, device: torch.device, more: str = "") -> None:
    """Say what is about to be done; of several processes, the first does."""
    rank, ranks = rank_of()
    if rank == 0:
        dtype, ranks = str(amp_dtype(cfg.train, device)).removeprefix("torch."), f", {ranks} processes" if ranks > 1 else ""
        print(f"{cfg.run}: {what} on {device}, {dtype}{ranks}{more}", file=sys.stderr)


def finish(cfg: Config, command: str, code: str, store: ClipStore, view: ClipView, model: torch.nn.Module, test_clips: np.ndarray,
           more: dict | None = None) -> None:
    """Write the final weights, evaluate them once on the test side, write scores and result (and `more` into it)."""
    seconds = sum(line["seconds"] for line in read_log(cfg.run / "metrics.jsonl"))
    save_checkpoint(cfg.run / "final.pt", {"recipe": json.dumps(dataclasses.asdict(cfg)), "skeleton": json.dumps(store.skeleton.to_dict()),
                                          "classes": store.classes, "model": model.state_dict()})

    test = Batches(view, test_clips, cfg.train.batch)
    result = {"seconds": round(seconds), "device": device_name(view.device),
              **{k: v for k, v in describe(cfg, store.skeleton).items() if k in ("params", "macs")},
              **report(cfg, store, test_clips, *predict(model, test))}
    if cfg.train.causal:
        result["top1_causal"] = accuracy(*predict(model, test, is_causal=True))["top1"]
    write_result(cfg, command, code, result | (more or {}))


def ensemble(cfg: Config, argv: list[str]) -> None:
    """Train the four streams of a LAST-Base in turn, each a run of its own, and average their probabilities clip by clip."""
    if cfg.model.name != "base":
        raise ValueError(f"streams = {cfg.streams!r}: only LAST-Base has a network for each stream, {cfg.recipe} fuses them in one")
    if min(cfg.weights) < 0 or sum(cfg.weights) == 0:
        raise ValueError(f"weights = {list(cfg.weights)}: none may be negative, nor all 0")
    name, rest = cfg.members or cfg.recipe, [a for a in argv if a.partition("=")[0] not in ("recipe", "streams", "members", "weights")]
    code, members = commit(), []
    for stream in STREAMS:
        member = dataclasses.replace(cfg, recipe=name, streams="", members="", weights=Config.weights,
                                     model=dataclasses.replace(cfg.model, stream=stream))
        chosen = [] if stream == "joint" else [f"model.stream={stream}"]
        train(member, " ".join(["just phase1", f"recipe={name}", *chosen, *rest]))
        members.append(member.run)
    if already_done(cfg, "phase1") or rank_of()[0] > 0:
        return
    store = open_store(cfg)
    test_clips = splits(store, cfg)[2]
    names, mean = store.clips["name"][test_clips], 0.0
    for run, weight in zip(members, cfg.weights, strict=True):
        with np.load(run / "scores.npz") as z:
            place = {n: i for i, n in enumerate(z["name"])}
            if set(place) != set(names):
                raise ValueError(f"{run}: its scores are of other clips than {cfg.store} has on the test side; train it again")
            mean = mean + weight / sum(cfg.weights) * torch.from_numpy(z["logits"])[[place[n] for n in names]].softmax(1)
    runs = [read_json(run / "result.json") for run in members]
    write_json(cfg.run / "recipe.json", dataclasses.asdict(cfg))
    write_result(cfg, " ".join(["just phase1", *argv]), code, {
        "seconds": sum(r["seconds"] for r in runs), "device": runs[0]["device"], "streams": len(runs), "params": sum(r["params"] for r in runs),
        "params_per_stream": runs[0]["params"], "macs": sum(r["macs"] for r in runs), "weights": list(cfg.weights),
        **report(cfg, store, test_clips, mean.log(), torch.from_numpy(store.clips["label"][test_clips]).long())})


def main(argv: list[str]) -> int:
    cfg = load_config(argv)
    check_phase(cfg, "phase1")
    if (code := together(cfg, argv)) is not None:
        return code
    if cfg.streams:
        ensemble(cfg, argv)
    else:
        train(cfg, "just phase1 " + " ".join(argv))
    return 0


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


if __name__ == "__main__":
    cli(main)
