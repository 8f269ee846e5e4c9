"""What clips are compared by when there are only a few of each action: a network's last map, part by part.

A head pools a map over all frames and joints: enough to tell the classes it was trained on. Two actions that it was not
trained on may differ in nothing but which arm moved, or what came first: so the map is averaged over each quarter of
the clip and each region of the body apart. On people and actions that a network had not seen, with five examples of an
action, this was 8 points better than the pooled map (results/few-shot.md).
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from skeletons import Skeleton

QUARTERS = 4  # of a clip


class Parts(nn.Module):
    """The last map (N, C, T, V) of a network -> (N, C · QUARTERS · R), for the R regions of the skeleton.

    `mean`, zeros at first, is taken off: cosines then compare what differs between clips, not what all of them share.
    """

    def __init__(self, skeleton: Skeleton, channels: int, frames: int):
        super().__init__()
        # a column for each quarter, whose frames count alike; in a map of fewer than four they overlap
        quarter = torch.zeros(frames, QUARTERS)
        for q in range(QUARTERS):
            quarter[q * frames // QUARTERS:math.ceil((q + 1) * frames / QUARTERS), q] = 1
        # and for each region
        region = torch.zeros(skeleton.num_joints, len(skeleton.regions))
        for r, joints in enumerate(skeleton.regions.values()):
            region[list(joints), r] = 1

        self.register_buffer("quarter", quarter / quarter.sum(0))  # t q
        self.register_buffer("region", region / region.sum(0))  # v r
        self.register_buffer("mean", torch.zeros(channels * QUARTERS * len(skeleton.regions)))

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module, skeleton: Skeleton, frames: int) -> Parts:
        """Those of a network that takes clips of so many frames."""
        last = model.features(torch.zeros(1, frames, skeleton.num_joints, 3))[-1]
        return cls(skeleton, last.shape[1], last.shape[2])

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        parts = (x @ self.region).transpose(2, 3) @ self.quarter  # n c r q
        return parts.flatten(1) - self.mean
