"""What phase 3 sees: two views of each clip, and the joints that are hidden in each of them."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from last import hashed_uniform
from phases.training.batches import Batches
from phases.training.view import ClipView
from skeletons import Skeleton


def region_table(skeleton: Skeleton, device: torch.device | str = "cpu") -> tuple[int, Tensor, Tensor]:
    """Number of regions; (V,) each joint's region; (V,) its mate: the other side's joint of this region, or itself."""
    region = torch.zeros(skeleton.num_joints, dtype=torch.long)
    for number, joints in enumerate(skeleton.regions.values()):
        region[list(joints)] = number

    # for example the eyes of coco17, both in the region of the torso
    mates = torch.arange(skeleton.num_joints)
    for left, right in skeleton.pairs:
        if region[left] == region[right]:
            mates[left] = right
            mates[right] = left
    return len(skeleton.regions), region.to(device), mates.to(device)


def region_masks(table: tuple[int, Tensor, Tensor], share: float, *keys: int | Tensor) -> Tensor:
    """Which joints are hidden, (N, V) bool with keys (N,): whole regions in random order up to `share` of the joints.

    table: of region_table. The last region is hidden in part; as mates are hidden together, the count may differ from
    the share by one joint.
    """
    regions, region, mates = table
    V = len(region)
    device = region.device
    keys = [key[:, None] if isinstance(key, Tensor) else key for key in keys]

    # the place of each region in a random order
    order = hashed_uniform(*keys, 300 + torch.arange(regions, device=device))               # n r
    order = order.argsort(1).argsort(1)

    # joints ranked by region, at random within it; mates tie: their ranks are adjacent
    within = hashed_uniform(*keys, 400 + torch.arange(V, device=device))                    # n v, in [0, 1)
    within = within.maximum(within[:, mates])
    rank = (order[:, region] + within).argsort(1).argsort(1)                                # n v

    # the first of them are hidden; of two mates both or none, whichever keeps to the share
    count = round(share * V)
    masks = rank < count
    return masks & masks[:, mates] if count > share * V else masks | masks[:, mates]


class Pairs(Batches):
    """Batches of two views of each clip: joints (2B, M, T, V, 3), all first views first, and hidden (2B, M, V) bool."""

    def __init__(self, view: ClipView, index: np.ndarray, size: int, seed: int, share: float):
        super().__init__(view, index, size, training=True, seed=seed)
        self.share = share
        self.table = region_table(view.skeleton, view.device)

    def __call__(self, epoch: int = 0, start: int = 0) -> Iterator[dict[str, Tensor | int]]:
        for batch in super().__call__(epoch, start):
            index = batch["index"]
            M = batch["joints"].shape[1]

            # the second view has its own seed
            second = self.view(index, True, self.seed + 2**31, epoch)
            joints = torch.cat([batch["joints"], second])

            # one mask per view and body
            masks = []
            for number in range(2 * M):
                masks.append(region_masks(self.table, self.share, self.seed, epoch, index, number))
            hidden = rearrange(torch.stack(masks), "(s m) b v -> (s b) m v", m=M)
            yield {**batch, "joints": joints, "hidden": hidden}
