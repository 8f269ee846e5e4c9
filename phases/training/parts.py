"""What clips are compared by when there are only a few of each action: the last map of a network, part by part.

A head pools the last map over all frames and joints: enough to tell the classes it was trained on. Two actions that it
was not trained on may differ in nothing but which arm moved, or what came first. So the map is also averaged over each
quarter of the clip and each region of the body apart. What that gains on people and actions that a network has not
seen: results/few-shot.md.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skeletons import Skeleton

QUARTERS = 4  # of a clip


class Parts(nn.Module):
    """The last map (N, C, T, V) of a network -> features (N, D): two unit vectors, side by side.

    The first holds the map by quarter and region, the second what the head pools: gate · mean + (1 - gate) · maximum.
    Before they are scaled to length 1, each feature loses its mean over known clips and is divided by its spread there
    (`settle`): cosines then compare what differs between clips, not what all of them share. Both vectors count alike:
    feature by feature the first, twenty times as long, would outweigh the second.
    """

    def __init__(self, skeleton: Skeleton, frames: int, gate: Tensor):  # of the map; c
        super().__init__()
        # a column for each quarter, whose frames count alike; in a map of fewer than four they overlap
        quarter = torch.zeros(frames, QUARTERS)
        for q in range(QUARTERS):
            quarter[q * frames // QUARTERS:math.ceil((q + 1) * frames / QUARTERS), q] = 1
        # and for each region
        region = torch.zeros(skeleton.num_joints, len(skeleton.regions))
        for r, joints in enumerate(skeleton.regions.values()):
            region[list(joints), r] = 1

        C = len(gate)
        self.sizes = [C * QUARTERS * len(skeleton.regions), C]
        self.register_buffer("gate", gate)
        self.register_buffer("quarter", quarter / quarter.sum(0))  # t q
        self.register_buffer("region", region / region.sum(0))  # v r
        self.register_buffer("mean", torch.zeros(sum(self.sizes)))
        self.register_buffer("scale", torch.ones(sum(self.sizes)))

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module, skeleton: Skeleton, frames: int) -> Parts:
        """Those of a network that takes clips of so many frames."""
        last = model.features(torch.zeros(1, frames, skeleton.num_joints, 3))[-1]
        return cls(skeleton, last.shape[2], model.head.gate.sigmoid().detach())

    def settle(self, known: Tensor) -> None:
        """Take mean and scale from the `raw` features (N, D) of known clips."""
        spread = known.std(0)
        self.mean = known.mean(0)
        self.scale = 1 / torch.maximum(spread, 0.05 * spread.mean() + 1e-12)

    def raw(self, x: Tensor) -> Tensor:  # n c t v
        """Features (N, D) as they come."""
        parts = (x @ self.region).transpose(2, 3) @ self.quarter  # n c r q
        pooled = self.gate * x.mean((2, 3)) + (1 - self.gate) * x.amax((2, 3))
        return torch.cat([parts.flatten(1), pooled], 1)

    def forward(self, x: Tensor) -> Tensor:
        scaled = (self.raw(x) - self.mean) * self.scale
        return torch.cat([F.normalize(part) for part in scaled.split(self.sizes, 1)], 1)
