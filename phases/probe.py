"""Judge a pretrained encoder, as the field judges self-supervision: train on its features, report once on the test side.

    just probe recipe=probe_linear init=maskclr_small           the head alone learns: a linear probe
    just probe recipe=probe_finetune init=maskclr_small         everything learns
    just probe recipe=probe_10 init=maskclr_small               everything, from 10 % of the labels; probe_1: from 1 %
    just probe recipe=probe_10 init=runs/maskclr_small/ntu60-xsub/seed0 probe.frozen=true out=runs/frozen

init is a recipe (the run of the same seed) or a run's folder; init= (empty) gives the arm from scratch, with an out= of its own.
The labelled clips are drawn per class, a function of the seed; each share holds the smaller ones.

In:  the clip store of phase 0; a run of phase 3, 1 or 2.
Out: runs/<recipe>/<dataset>-<split>/seed<k>/ as in phase 1. Cut off at any moment, the same command goes on.
Exit codes: 0 done (or already done), 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
from recipe import cli, load_config
from run import (
    already_done,
    build_model,
    check_phase,
    commit,
    find_runs,
    finish,
    identity,
    init_from,
    open_store,
    splits,
)
from torch import Tensor, nn

from last import Batches, ClipView, accuracy, classification_loss, fit, plain_batches, predict, rank_of


def labelled(clips: np.ndarray, label: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Those of `clips`, in order, whose labels may be seen: `share` of each class, at least one clip; label[clip] of all clips."""
    order = np.random.default_rng(seed).permutation(clips)
    return np.sort(np.concatenate([own[:max(1, math.floor(share * len(own) + 0.5))]
                                   for own in (order[label[order] == k] for k in np.unique(label[clips]))]))


class Frozen(nn.Module):
    """A network whose head alone learns: the rest keeps its weights and its batch-norm statistics."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net.requires_grad_(False)
        net.head.requires_grad_(True)

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        for name, part in self.net.named_children():
            part.train(mode and name == "head")
        return self

    def forward(self, joints: Tensor) -> Tensor:
        return self.net(joints)


def main(argv: list[str]) -> int:
    cfg, command, code = load_config(argv), "just probe " + " ".join(argv), commit()
    check_phase(cfg, "probe")
    if cfg.gpus > 1 or rank_of()[1] > 1:
        raise ValueError(f"gpus = {max(cfg.gpus, rank_of()[1])}: a probe is short, and runs in one process")
    store = open_store(cfg)
    train_clips, held_clips, test_clips = splits(store, cfg)
    train_clips = labelled(train_clips, store.clips["label"], cfg.probe.labels, cfg.seed)
    recipe = dataclasses.asdict(cfg)
    if already_done(cfg, "probe"):
        return 0
    device = cfg.torch_device
    view = ClipView(store, cfg.view, device)
    net = build_model(cfg, store.skeleton, cfg.data.num_classes).to(device)
    if cfg.init:
        init_from(net, find_runs(cfg.init, cfg, cfg.seed)[0], cfg)
    model = Frozen(net) if cfg.probe.frozen else net
    print(f"{cfg.run}: {len(train_clips)} labelled, {len(held_clips)} validation, {len(test_clips)} test clips; "
          f"{'the head alone' if cfg.probe.frozen else 'everything'} learns, from {cfg.init or 'scratch'}", file=sys.stderr)
    batches = Batches(view, train_clips, cfg.train.batch, training=True, seed=cfg.seed)
    plain = plain_batches(view, train_clips, cfg.train.batch)
    held = Batches(view, held_clips, cfg.train.batch)
    score = (lambda n: accuracy(*predict(n, held))["top1"]) if len(held_clips) else None
    fit(model, batches, classification_loss(cfg.train), cfg.train, cfg.run, recipe, cfg.seed, plain, score,
        identity("probe", store, train_clips, held_clips, test_clips))
    finish(cfg, command, code, store, view, net, test_clips, {"init": cfg.init, "labelled": len(train_clips), "frozen": cfg.probe.frozen})
    return 0


if __name__ == "__main__":
    cli(main)
