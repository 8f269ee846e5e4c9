"""Yardsticks of `just bench` and the tests: the field's parser of NTU text, partitioned attention by definition."""
from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

BODY = ("body_id", "clipped_edges", "left_hand_confidence", "left_hand_state", "right_hand_confidence",
        "right_hand_state", "restricted", "lean_x", "lean_y", "tracking_state")
JOINT = ("x", "y", "z", "depth_x", "depth_y", "colour_x", "colour_y", "orientation_w", "orientation_x",
         "orientation_y", "orientation_z", "tracking_state")


def reference_parse(path: Path | str) -> list[list[dict]]:
    """Frames -> bodies -> the ten fields of a body and `joints`, 25 dictionaries of twelve fields.

    Reads line by line and converts every field to a float, as the field's parsers do.
    """
    frames = []
    with open(path) as f:
        for _ in range(int(f.readline())):
            bodies = []
            for _ in range(int(f.readline())):
                # a line of the body, then one per joint
                body = dict(zip(BODY, map(float, f.readline().split()), strict=True))
                body["joints"] = []
                for _ in range(int(f.readline())):
                    body["joints"].append(dict(zip(JOINT, map(float, f.readline().split()), strict=True)))
                bodies.append(body)
            frames.append(bodies)
    return frames


def dense_attention(block: nn.Module, x: Tensor, hops: np.ndarray) -> Tensor:
    """PartitionedTemporalAttention by its definition: each head has one (T·V, T·V) mask of (frame, joint) pairs."""
    import torch  # here: a reader of NTU text needs no torch
    n, c, T, V = x.shape
    qkv = block.qkv(block.norm(x)).reshape(n, 4, 3, c // 4, T * V)

    # which pairs of (frame, joint) are near in time, and on the skeleton
    frame = torch.arange(T).repeat_interleave(V)
    joint = torch.arange(V).repeat(T)
    near_frame = (frame[:, None] - frame).abs() <= 3
    near_joint = torch.from_numpy(hops)[joint][:, joint] <= 1
    kinds = ((near_joint, near_frame), (~near_joint, near_frame), (near_joint, ~near_frame), (~near_joint, ~near_frame))

    # one head for each kind; a query without keys gets 0
    out = []
    for h, (joints, frames) in enumerate(kinds):
        q, k, v = qkv[:, h].unbind(1)  # n d (t v)
        mask = (joints & frames).to(x.device)
        score = (q.transpose(1, 2) @ k / math.sqrt(c // 4)).masked_fill(~mask, -1e30).softmax(-1) * mask
        out.append(v @ score.transpose(1, 2))
    return x + block.out(torch.cat(out, 1).reshape(n, c, T, V))
