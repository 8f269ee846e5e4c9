"""Where a clip lies in time and space: the frames that a view takes, and how bodies are turned and scaled.

Shapes: b or n clip, m body, t or l frame, v joint.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

from skeletons import Skeleton

CALM = 3  # frames at rest that are kept before a clip's first movement and after its last

def sample_frames(length: Tensor, T: int, sampling: str, u: Tensor | None = None,
                  window: Tensor | None = None) -> Tensor:
    """Frame numbers (B, T) that a view takes from clips of `length` (B,) frames, each at least 1.

    uniform: T equal bins over the clip, the middle of each, or with u (B, T) in [0, 1) a random frame of each. A clip
        (or window) of fewer than T frames keeps its rate and repeats its last frame, where the velocity is zero.
    stretch: the same bins, but a clip shorter than T repeats frames evenly and fills all of T.
    crop: the clip looped to at least 300 frames, then T consecutive ones, from the middle or drawn by u[:, 0] (ST-GCN).
    `window` (B, 2): the first frame and the number of frames to draw from. It may reach beyond both ends of the clip,
    where the first and the last frame repeat.
    """
    t = torch.arange(T, device=length.device)
    if sampling == "crop":
        total = length.clamp(min=max(300, T))
        start = ((total - T + 1) * (0.5 if u is None else u[:, 0])).long()
        return (start[:, None] + t) % length[:, None]

    # a frame in each bin of the clip, or of the window in it
    count = length
    if window is not None:
        first, count = window.unbind(1)
    inside = ((t + (0.5 if u is None else u)) * count[:, None] / T).long()

    # what is shorter than T keeps its rate
    if sampling == "uniform":
        inside = torch.where(count[:, None] < T, t, inside)
    inside = torch.minimum(inside, count[:, None] - 1)
    if window is None:
        return inside
    return (first[:, None] + inside).clamp(min=0).minimum(length[:, None] - 1)


def rotation(angles: Tensor) -> Tensor:
    """Matrices (B, 3, 3) that turn row vectors by angles (B, 3) in radians about x, then y, then z."""
    x, y, z = angles.unbind(1)
    cx, sx = x.cos(), x.sin()
    cz, sz = z.cos(), z.sin()
    one = torch.ones_like(cx)
    zero = torch.zeros_like(cx)

    about_x = matrix(one, zero, zero, zero, cx, sx, zero, -sx, cx)
    about_z = matrix(cz, sz, zero, -sz, cz, zero, zero, zero, one)
    return about_x @ about_vertical(y) @ about_z


def about_vertical(angle: Tensor) -> Tensor:
    """Matrices (B, 3, 3) that turn row vectors by angles (B,) in radians about y."""
    c, s = angle.cos(), angle.sin()
    one = torch.ones_like(c)
    zero = torch.zeros_like(c)
    return matrix(c, zero, -s, zero, one, zero, s, zero, c)


def matrix(*entries: Tensor) -> Tensor:
    """Matrices (B, 3, 3) of nine entries (B,), row after row."""
    return torch.stack(entries, 1).view(-1, 3, 3)


def gaussian(std: float) -> Tensor:
    """Weights (O,) of the frames around one, from 3·std before it to 3·std after it; their sum is 1."""
    reach = math.ceil(3 * std)
    weight = (-0.5 * (torch.arange(-reach, reach + 1) / std) ** 2).exp()
    return weight / weight.sum()


def around(t: Tensor, length: Tensor, count: int) -> Tensor:
    """Frames (B, T, O): t (B, T) and the frames around it, `count` in all; the ends of clips repeat."""
    o = torch.arange(count, device=t.device) - count // 2
    return (t[..., None] + o).clamp(min=0).minimum(length[:, None, None] - 1)


def acting(whole: Tensor, first: Tensor, last: Tensor, still: float) -> tuple[Tensor, Tensor]:
    """(first, last) frames (B,) of clips without the ends in which people stand still; whole (B, M, L, V, 3).

    Before the clip's first movement every joint is within `still` metres of where it was in frame `first`, after the
    last one of where it is in frame `last`. A few frames before and after the movement are kept. A clip in which nobody
    moves keeps all its frames.
    """
    M, V = int(whole.shape[1]), int(whole.shape[3])  # numbers: see gaps.fixed_sizes
    t = torch.arange(whole.shape[2], device=whole.device)
    inside = ((t >= first[:, None]) & (t <= last[:, None])).to(whole.dtype)  # b l

    def moved_from(frame: Tensor) -> Tensor:
        at = frame[:, None, None, None, None].expand(len(frame), M, 1, V, 3)
        far = (whole - whole.gather(2, at)).norm(dim=-1).amax((1, 3))  # b l
        return (far > still).to(whole.dtype) * inside

    # the first frame that is far from the beginning, the last one that is far from the end
    begun = moved_from(first)
    ends = moved_from(last)
    begin = (begun.argmax(1) - CALM).maximum(first)
    end = (t.shape[0] - 1 - ends.flip(1).argmax(1) + CALM).minimum(last)

    # a clip that stays where it began
    is_moving = begun.amax(1) * ends.amax(1) > 0
    return torch.where(is_moving, begin, first), torch.where(is_moving, end.maximum(begin), last)


class Upright:
    """Turns main bodies to face one way and scales their trunks to 0.5 m, if the view asks for it."""

    def __init__(self, skeleton: Skeleton, heading: bool, trunk_scale: bool):
        self.heading = heading
        self.trunk_scale = trunk_scale
        self.corners = [joint for joint, in skeleton.trunk] if heading or trunk_scale else []

    def __call__(self, body: Tensor, valid: Tensor) -> Tensor:
        """Linear maps (N, 3, 3) of clips, from all frames of their main bodies (N, L, V, 3); valid (N, L) marks them.

        A single frame is not enough: shoulders and hips are noisy for a body seen from its side.
        """
        linear = torch.eye(3, device=body.device).expand(len(body), 3, 3)
        if not self.corners:
            return linear
        left_shoulder, right_shoulder, left_hip, right_hip = (body[:, :, v] for v in self.corners)  # n l 3

        # a turn about y, the vertical of a levelled camera: the mean vector from right to left becomes x
        if self.heading:
            across = ((left_shoulder + left_hip - right_shoulder - right_hip) * valid[..., None]).sum(1)
            no_width = (across[:, 0].abs() + across[:, 2].abs() == 0).to(across.dtype)  # such a body is not turned
            angle = torch.atan2(across[:, 2], across[:, 0] + no_width)
            linear = about_vertical(angle)

        # a factor; a trunk without length keeps its size
        if self.trunk_scale:
            size = ((left_shoulder + right_shoulder - left_hip - right_hip) / 2).norm(dim=-1)  # n l
            mean = (size * valid).sum(1) / valid.sum(1).clamp(min=1)
            linear = linear * (0.5 / torch.where(mean > 1e-3, mean, 0.5))[:, None, None]
        return linear


def centred(x: Tensor, centre: list[int]) -> Tensor:
    """x (B, M, T, V, 3) about the centre of the main body in the first frame: the mean of its joints `centre`."""
    middle = torch.stack([x[:, :1, :1, v] for v in centre], 3).mean(3, keepdim=True)
    return x - middle


def extent_scale(x: Tensor, present: Tensor) -> Tensor:
    """Factor (B,) that makes the longest side of a clip's bounding box 2; 1 for a clip without extent.

    x (B, M, T, V, 3); present (B, M): 1.0 for the bodies that count. The first always does.
    """
    # an absent body, in the place of the first
    shown = present[:, :, None, None, None]
    x = x * shown + x[:, :1] * (1 - shown)
    size = (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).amax(1)
    return 2 / torch.where(size > 1e-3, size, 2.0)
