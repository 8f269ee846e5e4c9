"""Batches of clips: which clips, in which order, blended or not."""
from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from last import hashed_uniform, rank_of
from phases.training.view import ClipView


class Batches:
    """Batches of some clips of a view. Training: a new order each epoch, each clip once, or each class equally often if
    balanced. Otherwise in order, each clip exactly once.

    In training, process r of R takes clips r, r + R, ... of each batch: `clips` is the size of the whole batch, `own`
    the number on this process. A process without clips (own = 0) still computes on one: every process must join each
    all-reduce. view.mix blends a clip with the one before it, a · clip + (1 - a) · other with a uniform in 0.5 to 1
    (after mixup, Zhang et al., arXiv:1710.09412): `share` is a, `other` the other clip's label.
    """

    def __init__(self, view: ClipView, index: np.ndarray, size: int, training: bool = False, seed: int = 0,
                 balanced: bool = False):
        self.view = view
        self.index = torch.as_tensor(index, device=view.device)
        self.size = size
        self.training = training
        self.seed = seed
        self.balanced = balanced
        self.rank, self.ranks = rank_of() if training else (0, 1)

    def __len__(self) -> int:
        return math.ceil(len(self.index) / self.size)

    def __call__(self, epoch: int = 0, start: int = 0) -> Iterator[dict[str, Tensor | int]]:
        """Batches {joints (B, M, T, V, 3), label (B,), index (B,), own, clips} of an epoch, from batch `start` on."""
        index = self._order(epoch) if self.training else self.index
        for at in range(start * self.size, len(index), self.size):
            # this process's share of the batch
            whole = index[at:at + self.size]
            part = whole[self.rank::self.ranks]
            own = len(part)
            if not own:
                part = whole[:1]

            joints = self.view(part, self.training, self.seed, epoch)
            batch = {"joints": joints, "label": self.view.label[part], "index": part, "own": own, "clips": len(whole)}
            if self.training and self.view.cfg.mix:
                others = whole.roll(1)[self.rank::self.ranks] if own else part
                batch |= self._blend(joints, part, others, epoch)
            yield batch

    def _order(self, epoch: int) -> Tensor:
        """Clip numbers of an epoch of training: a pure function of (seed, epoch)."""
        order = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        if self.balanced:
            place = balanced_order(self.view.label[self.index].cpu(), order)
        else:
            place = torch.randperm(len(self.index), generator=order)
        return self.index[place.to(self.index.device)]

    def _blend(self, joints: Tensor, clips: Tensor, others: Tensor, epoch: int) -> dict[str, Tensor]:
        """What a blended batch holds in place of its joints, and beside them: share (B,), other (B,)."""
        u = hashed_uniform(self.seed, epoch, clips[:, None], 60 + torch.arange(2, device=clips.device))
        share = torch.where(u[:, 0] < self.view.cfg.mix, 0.5 + 0.5 * u[:, 1], 1.0)
        a = rearrange(share, "b -> b 1 1 1 1")
        joints = a * joints + (1 - a) * self.view(others, True, self.seed, epoch)
        return {"joints": joints, "share": share, "other": self.view.label[others]}


def balanced_order(label: Tensor, order: torch.Generator) -> Tensor:
    """Places (N,) of an epoch of N clips in which every class comes equally often, in a random order.

    A class of few clips shows each of them several times; one of many shows another part of them in each epoch.
    """
    # the class of each place: rounds in which each class has one turn
    present = label.unique()
    rounds = [torch.randperm(len(present), generator=order) for _ in range(math.ceil(len(label) / len(present)))]
    turns = present[torch.cat(rounds)][:len(label)]  # n

    # the clip of each place: those of its class in a random order, again and again
    places = torch.empty(len(label), dtype=torch.long)
    for k in present:
        own = (label == k).nonzero()[:, 0]
        wanted = turns == k
        times = math.ceil(int(wanted.sum()) / len(own))
        again = [own[torch.randperm(len(own), generator=order)] for _ in range(times)]
        places[wanted] = torch.cat(again)[:int(wanted.sum())]
    return places[torch.randperm(len(places), generator=order)]


def plain_batches(view: ClipView, index: np.ndarray, size: int) -> Batches:
    """Training clips without augmentation, for batch-norm statistics under averaged weights.

    In one random order: a store is sorted by action, and the statistics of a batch of one action are not the data's.
    """
    return Batches(view, np.random.default_rng(0).permutation(index), size)
