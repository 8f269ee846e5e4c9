"""Phase 1: train one network on one split, and report it once on the test side.

    just phase1 recipe=lite_small                              NTU-60 xsub, the default
    just phase1 recipe=lite_small data=nw_ucla seed=1          another data set: one override
    just phase1 recipe=L3 data.split=xview train.epochs=5      any field of a recipe
    just phase1 recipe=lite_nano data=mine init=utd_mhad       start from a network of results/networks, or from a run
    just phase1 recipe=base streams=all                        LAST-Base: its four streams in turn, then their average
    just phase1 recipe=base gpus=4                             four processes, one GPU each; several machines: torchrun

In:  the clip store of phase 0 (stores/<dataset>).
Out: runs/<recipe>/<dataset>-<split>/seed<k>/; the other streams of LAST-Base have theirs in <recipe>-bone and so on,
     the average in <recipe>-all
         recipe.json     the resolved recipe             metrics.jsonl   one line per epoch
         last.pt         all it takes to continue        final.pt        the weights reported
         scores.npz      name, logits, label per clip    result.json     top-1, top-5, per class, confusion
Interrupt it at any moment: the same command continues. On a CPU in FP32 the weights are the same bit for bit.
Exit codes: 0 done (or already done), 1 a process died (gpus=N), 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from last import classification_loss, fit, rank_of
from phases.common.command import run
from phases.common.files import read_json, write_json
from phases.training.clip_store import open_store, splits
from phases.training.processes import start_processes
from phases.training.recipe import Config, load_config, stream_members
from phases.training.run_folder import already_done, check_phase, commit, read_scores, save_scores, write_result
from phases.training.session import announce, finish, open_data, start_network


def main(argv: list[str]) -> int:
    cfg = load_config(argv)
    check_phase(cfg, "phase1")
    check_streams(cfg)
    exit_code = start_processes(cfg, argv)
    if exit_code is not None:
        return exit_code

    if not cfg.streams:
        train(cfg, argv)
        return 0

    # LAST-Base: each stream is a run of its own
    revision = commit()
    members = stream_members(cfg, argv)
    for member, words in members:
        train(member, words)
    if rank_of()[0] == 0:
        report_average(cfg, argv, revision, [member.run for member, _ in members])
    return 0


def check_streams(cfg: Config) -> None:
    if cfg.streams and cfg.model.name != "base":
        raise ValueError(f"streams = {cfg.streams!r}: only LAST-Base has one network per stream, "
                         f"{cfg.recipe} fuses them in one")
    if cfg.streams and (min(cfg.weights) < 0 or sum(cfg.weights) == 0):
        raise ValueError(f"weights = {list(cfg.weights)}: none may be negative, nor all 0")


def train(cfg: Config, argv: list[str]) -> None:
    """Train one network and report it, unless its folder has the result."""
    data = open_data(cfg, "phase1", argv)
    if data is None:
        return

    network = start_network(cfg, data)
    announce(cfg, data)

    loss_fn = classification_loss(cfg.train)
    fit(network, data.batches, loss_fn, cfg.train, cfg.run, dataclasses.asdict(cfg), cfg.seed, data.plain, data.score,
        data.identity)

    # of several processes the first reports
    if rank_of()[0] == 0:
        finish(cfg, data, network)


def report_average(cfg: Config, argv: list[str], revision: str, runs: list[Path]) -> None:
    """Write scores and result of the average of finished runs; ValueError if other ones were averaged there before."""
    store = open_store(cfg)
    _, _, test_clips = splits(store, cfg)
    names = store.clips["name"][test_clips]
    mean = mean_probabilities(runs, cfg, names)

    # an average that exists must be of these runs
    if already_done(cfg, "phase1"):
        before, logits = read_scores(cfg.run)
        if before != names.tolist() or not np.allclose(np.exp(logits), mean, atol=1e-5):
            raise ValueError(f"{cfg.run} holds the average of other runs than the four streams are now: move it away")
        return

    # costs add up
    results = [read_json(run / "result.json") for run in runs]
    costs = {"seconds": sum(r["seconds"] for r in results), "device": results[0]["device"], "streams": len(results),
             "params": sum(r["params"] for r in results), "params_per_stream": results[0]["params"],
             "macs": sum(r["macs"] for r in results), "weights": list(cfg.weights)}

    labels = torch.from_numpy(store.clips["label"][test_clips]).long()
    write_json(cfg.run / "recipe.json", dataclasses.asdict(cfg))
    scores = save_scores(cfg, store, test_clips, mean.log(), labels)
    write_result(cfg, " ".join(["just phase1", *argv]), revision, costs | scores)


def mean_probabilities(runs: list[Path], cfg: Config, names: np.ndarray) -> Tensor:
    """Weighted mean (clips, classes) of the runs' softmax scores, clips in the order of `names`."""
    mean = 0.0
    for run_folder, weight in zip(runs, cfg.weights, strict=True):
        # a run made before the store may have scored other clips, or in another order
        scored, logits = read_scores(run_folder)
        place = {name: i for i, name in enumerate(scored)}
        if set(place) != set(names):
            raise ValueError(f"{run_folder}: its scores are of other clips than {cfg.store} has on the test side; "
                             "train it again")

        logits = torch.from_numpy(logits)[[place[name] for name in names]]
        mean = mean + weight / sum(cfg.weights) * logits.softmax(1)
    return mean


if __name__ == "__main__":
    run(main)
