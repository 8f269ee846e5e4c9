"""Judge a pretrained encoder as the field judges self-supervision: train on its features, test once on the test side.

    just probe recipe=probe_linear init=maskclr_small           a linear probe: only the head learns
    just probe recipe=probe_finetune init=maskclr_small         fine-tuning: all layers learn
    just probe recipe=probe_10 init=maskclr_small               fine-tuning on 10 % of the labels; probe_1: on 1 %
    just probe recipe=probe_10 init=runs/maskclr_small/ntu60-xsub/seed0 probe.frozen=true out=runs/frozen

init is a recipe (its run of the same seed) or a run folder. init= (empty) trains the baseline from scratch; give it
another out=. The labelled clips are drawn per class, as a function of the seed; a larger share contains every smaller
one.

In:  the clip store of phase 0; a run of phase 3, 1 or 2.
Out: runs/<recipe>/<dataset>-<split>/seed<k>/ as in phase 1.
After an interruption the same command continues. Exit codes: 0 done (or already done), 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
from torch import Tensor, nn

from last import classification_loss, fit, rank_of
from phases.common.settings_cli import cli
from phases.training.clip_store import open_store, splits, validation
from phases.training.networks import build_model, find_runs
from phases.training.recipe import Config, load_config
from phases.training.run_folder import already_done, check_phase, commit, finish, identity
from phases.training.transfer import init_from
from phases.training.view import Batches, ClipView, plain_batches


def labelled(clips: np.ndarray, label: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The clips, in ascending order, that keep their labels: `share` of each class, at least one clip of each.

    `clips` are clip numbers, `label` holds the label of every clip of the store.
    """
    order, kept = np.random.default_rng(seed).permutation(clips), []
    for k in np.unique(label[clips]):
        own = order[label[order] == k]
        kept.append(own[:max(1, math.floor(share * len(own) + 0.5))])
    return np.sort(np.concatenate(kept))


class Frozen(nn.Module):
    """A network with only its head learning: all other weights and batch-norm statistics stay fixed."""

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


def check_recipe(cfg: Config) -> None:
    check_phase(cfg, "probe")
    processes = max(cfg.gpus, rank_of()[1])
    if processes > 1:
        raise ValueError(f"gpus = {processes}: a probe is short and runs in one process; give gpus=1")


def main(argv: list[str]) -> int:
    cfg, command, revision = load_config(argv), "just probe " + " ".join(argv), commit()
    check_recipe(cfg)
    store = open_store(cfg)
    train_clips, held_clips, test_clips = splits(store, cfg)
    train_clips = labelled(train_clips, store.clips["label"], cfg.probe.labels, cfg.seed)
    run_identity = identity("probe", store, train_clips, held_clips, test_clips)
    if already_done(cfg, "probe", run_identity):
        return 0

    view = ClipView(store, cfg.view, cfg.torch_device)
    net = build_model(cfg, store.skeleton, cfg.data.num_classes).to(view.device)
    if cfg.init:
        init_from(net, find_runs(cfg.init, cfg, cfg.seed)[0], cfg, store.skeleton, store.classes)
    model = Frozen(net) if cfg.probe.frozen else net
    learning = "only the head learns" if cfg.probe.frozen else "all layers learn"
    print(f"{cfg.run}: {len(train_clips)} labelled, {len(held_clips)} validation, {len(test_clips)} test clips; "
          f"{learning}, from {cfg.init or 'scratch'}", file=sys.stderr)

    batches = Batches(view, train_clips, cfg.train.batch, True, cfg.seed, cfg.train.balanced)
    plain = plain_batches(view, train_clips, cfg.train.batch)
    score = validation(view, held_clips, cfg)
    loss_fn = classification_loss(cfg.train)
    fit(model, batches, loss_fn, cfg.train, cfg.run, dataclasses.asdict(cfg), cfg.seed, plain, score, run_identity)
    more = {"init": cfg.init, "labelled": len(train_clips), "frozen": cfg.probe.frozen}
    finish(cfg, command, revision, store, view, net, test_clips, more)
    return 0


if __name__ == "__main__":
    cli(main)
