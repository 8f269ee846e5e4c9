"""Phase 1: train one network on one split from scratch, and report it once on the test side.

    just phase1 recipe=lite_small                              NTU-60 xsub, the default
    just phase1 recipe=lite_small data=nw_ucla seed=1          another data set: one override
    just phase1 recipe=L3 data.split=xview train.epochs=5      any field of a recipe
    just phase1 recipe=base streams=all                        LAST-Base: its four streams in turn, then their average
    just phase1 recipe=base gpus=4                             four processes, one GPU each; several machines: torchrun

In:  the clip store of phase 0 (stores/<dataset>).
Out: runs/<recipe>/<dataset>-<split>/seed<k>/; the other streams of LAST-Base go to <recipe>-bone and so on, their
     average to <recipe>-all
         recipe.json     the resolved recipe             metrics.jsonl   one line per epoch
         last.pt         all it takes to go on           final.pt        the weights reported
         scores.npz      name, logits, label per clip    result.json     top-1, top-5, per class, confusion
Interrupt it at any moment: the same command resumes. On a CPU in FP32 the weights are the same bit for bit.
Exit codes: 0 done (or already done), 1 a process died (gpus=N), 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from last import STREAMS, classification_loss, fit, rank_of
from phases.common.files import read_json, write_json
from phases.common.settings_cli import cli
from phases.training.clip_store import open_store, splits, validation
from phases.training.networks import build_model, find_runs
from phases.training.processes import start_processes
from phases.training.recipe import Config, load_config
from phases.training.run_folder import (
    already_done,
    announce,
    check_phase,
    commit,
    finish,
    identity,
    read_scores,
    save_scores,
    write_result,
)
from phases.training.transfer import init_from
from phases.training.view import Batches, ClipView, plain_batches


def train(cfg: Config, command: str) -> None:
    """Train one network and report it, unless its folder holds the result."""
    revision, store = commit(), open_store(cfg)
    train_clips, held_clips, test_clips = splits(store, cfg)
    same = identity("phase1", store, train_clips, held_clips, test_clips)
    if already_done(cfg, "phase1", same):
        return
    recipe, device = dataclasses.asdict(cfg), cfg.torch_device
    view = ClipView(store, cfg.view, device)
    model = build_model(cfg, store.skeleton, cfg.data.num_classes).to(device)
    if cfg.init:
        init_from(model, find_runs(cfg.init, cfg, cfg.seed)[0], cfg, store.skeleton, store.classes)
    sides = f"{len(train_clips)} training, {len(held_clips)} validation, {len(test_clips)} test clips"
    announce(cfg, sides, device)

    batches = Batches(view, train_clips, cfg.train.batch, True, cfg.seed, cfg.train.balanced)
    plain = plain_batches(view, train_clips, cfg.train.batch)
    fit(model, batches, classification_loss(cfg.train), cfg.train, cfg.run, recipe, cfg.seed, plain,
        validation(view, held_clips, cfg), same)
    if rank_of()[0] == 0:
        finish(cfg, command, revision, store, view, model, test_clips)


def ensemble(cfg: Config, argv: list[str]) -> None:
    """Train the four streams of a LAST-Base in turn, each a run of its own, and average their probabilities."""
    if cfg.model.name != "base":
        raise ValueError(f"streams = {cfg.streams!r}: only LAST-Base has one network per stream, "
                         f"{cfg.recipe} fuses them in one")
    if min(cfg.weights) < 0 or sum(cfg.weights) == 0:
        raise ValueError(f"weights = {list(cfg.weights)}: none may be negative, nor all 0")
    given = dict(a.partition("=")[::2] for a in argv)
    name, row, revision = cfg.members or cfg.recipe, cfg.members or given["recipe"], commit()
    rest = [a for a in argv if a.partition("=")[0] not in ("recipe", "streams", "members", "weights")]
    if not cfg.members and "streams" not in given:  # the recipe says streams="all"
        rest.append("streams=")
    members = []
    for stream in STREAMS:
        model = dataclasses.replace(cfg.model, stream=stream)
        member = dataclasses.replace(cfg, recipe=name, streams="", members="", weights=Config.weights, model=model)
        chosen = [] if stream == "joint" else [f"model.stream={stream}"]
        train(member, " ".join(["just phase1", f"recipe={row}", *chosen, *rest]))
        members.append(member.run)
    if rank_of()[0] > 0:
        return

    store = open_store(cfg)
    test_clips = splits(store, cfg)[2]
    mean = mean_probabilities(members, cfg, store.clips["name"][test_clips])
    if already_done(cfg, "phase1"):
        names, logits = read_scores(cfg.run)
        if names != store.clips["name"][test_clips].tolist() or not np.allclose(np.exp(logits), mean, atol=1e-5):
            raise ValueError(f"{cfg.run} holds the average of other runs than the four streams are now: move it away")
        return
    labels = torch.from_numpy(store.clips["label"][test_clips]).long()
    results = [read_json(run / "result.json") for run in members]
    write_json(cfg.run / "recipe.json", dataclasses.asdict(cfg))
    write_result(cfg, " ".join(["just phase1", *argv]), revision, {
        "seconds": sum(r["seconds"] for r in results), "device": results[0]["device"], "streams": len(results),
        "params": sum(r["params"] for r in results), "params_per_stream": results[0]["params"],
        "macs": sum(r["macs"] for r in results), "weights": list(cfg.weights),
        **save_scores(cfg, store, test_clips, mean.log(), labels)})


def mean_probabilities(runs: list[Path], cfg: Config, names: np.ndarray) -> Tensor:
    """Weighted mean (clips, classes) of the runs' softmax scores, clips in the order of `names`."""
    mean = 0.0
    for run, weight in zip(runs, cfg.weights, strict=True):
        scored, logits = read_scores(run)
        place = {n: i for i, n in enumerate(scored)}
        if set(place) != set(names):
            raise ValueError(f"{run}: its scores are of other clips than {cfg.store} has on the test side; "
                             "train it again")
        logits = torch.from_numpy(logits)[[place[n] for n in names]]
        mean = mean + weight / sum(cfg.weights) * logits.softmax(1)
    return mean


def main(argv: list[str]) -> int:
    cfg = load_config(argv)
    check_phase(cfg, "phase1")
    exit_code = start_processes(cfg, argv)
    if exit_code is not None:
        return exit_code
    if cfg.streams:
        ensemble(cfg, argv)
    else:
        train(cfg, "just phase1 " + " ".join(argv))
    return 0


if __name__ == "__main__":
    cli(main)
