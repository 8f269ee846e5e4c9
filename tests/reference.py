"""Yardsticks of `just bench` and the tests: the field's way to read NTU text, and partitioned attention by its definition."""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

BODY = ("body_id", "clipped_edges", "left_hand_confidence", "left_hand_state", "right_hand_confidence", "right_hand_state", "restricted", "lean_x",
        "lean_y", "tracking_state")
JOINT = ("x", "y", "z", "depth_x", "depth_y", "colour_x", "colour_y", "orientation_w", "orientation_x", "orientation_y", "orientation_z",
         "tracking_state")


def reference_parse(path: Path | str) -> list[list[dict]]:
    """Line by line, every field to a float: frames -> bodies -> the ten fields of the body and `joints`, 25 dictionaries of twelve fields."""
    frames = []
    with open(path) as f:
        for _ in range(int(f.readline())):
            bodies = []
            for _ in range(int(f.readline())):
                body = dict(zip(BODY, map(float, f.readline().split()), strict=True))
                body["joints"] = []
                for _ in range(int(f.readline())):
                    body["joints"].append(dict(zip(JOINT, map(float, f.readline().split()), strict=True)))
                bodies.append(body)
            frames.append(bodies)
    return frames


def dense_attention(block: torch.nn.Module, x: torch.Tensor, hops: np.ndarray) -> torch.Tensor:
    """The definition: for each head one (T·V, T·V) mask over pairs of (frame, joint)."""
    n, c, T, V = x.shape
    qkv = block.qkv(block.norm(x)).reshape(n, 4, 3, c // 4, T * V)
    frame, joint = torch.arange(T).repeat_interleave(V), torch.arange(V).repeat(T)
    near_frame = (frame[:, None] - frame).abs() <= 3
    near_joint = torch.from_numpy(hops)[joint][:, joint] <= 1
    out = []
    for h, (a, b) in enumerate(((near_joint, near_frame), (near_joint, ~near_frame), (~near_joint, near_frame), (~near_joint, ~near_frame))):
        q, k, v = qkv[:, h].unbind(1)                                                       # n d (t v)
        mask = a & b
        score = (q.transpose(1, 2) @ k / math.sqrt(c // 4)).masked_fill(~mask, -1e30).softmax(-1) * mask
        out.append(v @ score.transpose(1, 2))
    return x + block.out(torch.cat(out, 1).reshape(n, c, T, V))
