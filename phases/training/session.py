"""What the training programs share: open the clips, start the network, say what is about to be done, report.

Each program reads as open_data, start_network, a loss of its own, last.fit, finish.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from last import amp_dtype, rank_of
from phases.common.files import check_writable
from phases.training.batches import Batches, plain_batches
from phases.training.clip_store import ClipStore, labelled, open_store, splits
from phases.training.evaluation import accuracy, predict
from phases.training.networks import build_model, describe, start_of
from phases.training.recipe import Config
from phases.training.run_folder import (
    already_done,
    commit,
    device_name,
    identity_of,
    save_final,
    save_scores,
    seconds_of,
    write_result,
)
from phases.training.transfer import init_from
from phases.training.view import ClipView, rest_of


@dataclass(frozen=True)
class OpenedData:
    """The clips of a recipe, ready to train on, and what its result says of their origin."""
    store: ClipStore
    train: np.ndarray                               # clip numbers of each side
    held: np.ndarray                                # training clips that judge each epoch; may be empty
    test: np.ndarray
    view: ClipView
    batches: Batches                                # of the training side: augmented, in a new order each epoch
    plain: Batches                                  # the same clips without augmentation
    score: Callable[[nn.Module], float] | None      # top-1 in percent on the clips held out, if there are any
    identity: dict                                  # what a resumed run must share besides its recipe
    command: str                                    # for the result: the command line,
    commit: str                                     # and the code's commit when the program started

    @property
    def test_batches(self) -> Batches:
        return Batches(self.view, self.test, self.batches.size)


def open_data(cfg: Config, phase: str, argv: list[str], *, judged: bool = True) -> OpenedData | None:
    """The clips of a recipe; None if its run folder has the result already.

    argv: the words of the command line. Without `judged` a run uses training clips alone and is not tested.
    ValueError if the store does not fit the recipe, or if the folder holds another run.
    """
    # the commit of now: files may change while the training runs
    revision = commit()
    store = open_store(cfg)
    train, held, test = splits(store, cfg)

    # a probe may keep a share of the labels
    if cfg.probe.labels < 1:
        train = labelled(train, store.clips["label"], cfg.probe.labels, cfg.seed)

    # a finished run stays as it is; one that continues must have the same clips
    sides = (train, held, test) if judged else (train,)
    identity = identity_of(phase, store, *sides)
    if already_done(cfg, phase, identity):
        return None
    check_writable(cfg.run / "recipe.json", "out=FOLDER")

    view = ClipView(store, cfg.view, cfg.torch_device, rest_of(store, train))
    return OpenedData(
        store, train, held, test, view,
        batches=Batches(view, train, cfg.train.batch, True, cfg.seed, cfg.train.balanced),
        plain=plain_batches(view, train, cfg.train.batch),
        score=validation(view, held, cfg) if judged else None,
        identity=identity, command=" ".join(["just", phase, *argv]), commit=revision)


def validation(view: ClipView, clips: np.ndarray, cfg: Config) -> Callable[[nn.Module], float] | None:
    """Function network -> top-1 in percent on held-out clips; None if there are none."""
    if not len(clips):
        return None
    held = Batches(view, clips, cfg.train.batch)

    def score(network: nn.Module) -> float:
        return accuracy(*predict(network, held))["top1"]
    return score


def start_network(cfg: Config, data: OpenedData) -> nn.Module:
    """The network of a recipe on its device: with the weights of its seed, or with those that `init` means."""
    network = build_model(cfg, data.store.skeleton, cfg.data.num_classes).to(data.view.device)

    if cfg.init:
        init_from(network, start_of(cfg), cfg, data.store.skeleton, data.store.classes)
    return network


def announce(cfg: Config, data: OpenedData, clips: str = "", more: str = "") -> None:
    """Say in the first process what is about to be done. `clips`: instead of the number of clips on each side."""
    rank, ranks = rank_of()
    if rank > 0:
        return

    # how many clips
    if not clips:
        clips = f"{len(data.train)} training, {len(data.held)} validation, {len(data.test)} test clips"
    if cfg.data.split == "all":
        clips += " (the same clips: the accuracy below is of clips that the network has seen)"

    # where, how precisely, in how many processes
    device = data.view.device
    precision = str(amp_dtype(cfg.train, device)).removeprefix("torch.")
    processes = f", {ranks} processes" if ranks > 1 else ""
    print(f"{cfg.run}: {clips} on {device}, {precision}{processes}{more}", file=sys.stderr)


def finish(cfg: Config, data: OpenedData, network: nn.Module, more: dict | None = None) -> None:
    """Write the final weights, evaluate them once on the test side, write scores and result (`more` is added to it)."""
    seconds = seconds_of(cfg.run)
    save_final(cfg, data.store, network)

    # what the network is, and what it reaches
    size = describe(cfg, data.store.skeleton)
    result = {"seconds": seconds, "device": device_name(data.view.device), "params": size["params"],
              "macs": size["macs"], "streams": size["streams"]}
    logits, labels = predict(network, data.test_batches)
    result |= save_scores(cfg, data.store, data.test, logits, labels)
    if cfg.train.causal:
        result["top1_causal"] = accuracy(*predict(network, data.test_batches, is_causal=True))["top1"]

    write_result(cfg, data.command, data.commit, result | (more or {}))
