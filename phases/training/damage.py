"""What cameras do to a clip, for training: lost joints and frames, noise, spikes, people who stand about, other tempos.

Every draw is a pure function of (seed, epoch, clip). Shapes: b clip, m body, t frame, v joint.
"""
from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor

from last import hashed_uniform
from phases.training.gaps import Body, filled
from phases.training.settings import View
from skeletons import Skeleton

LOST_FRAMES = 0.3   # of a damaged clip: up to this share of joint-frames is missing
RUN = 0.3           # or a run of frames, of at most this share of those taken
LOST_JOINTS = 0.15  # or each joint with this probability, for good
JUMP = 0.3          # metres: standard deviation of a spike's coordinates


class Damage:
    """Joints (B, M, T, V, 3) as taken from whole clips -> as a camera might have delivered them, gaps closed again."""

    def __init__(self, cfg: View, skeleton: Skeleton, body: Body, axes: Tensor):
        self.cfg = cfg
        self.body = body
        self.axes = axes
        device = axes.device

        # the legs, which a desk hides
        legs = [v for name, region in skeleton.regions.items() if name.endswith("leg") for v in region]
        self.legs = torch.zeros(skeleton.num_joints, device=device).index_fill(
            0, torch.tensor(legs, dtype=torch.long, device=device), 1)

        # keys of the random numbers of a clip, of its joints, and of each of its coordinates
        self.clip_keys = 500 + torch.arange(12, device=device)
        self.joint_keys = 600 + torch.arange(skeleton.num_joints, device=device)
        self.place_keys = torch.tensor([201, 202, 203, 204], device=device)

    def drawn(self, index: Tensor, seed: int, epoch: int) -> Tensor:
        """Numbers (B, 12) of each clip: 0 to 6 what is missing, 7 noise, 8 spikes, 9 and 10 idle, 11 tempo."""
        return hashed_uniform(seed, epoch, index[:, None], self.clip_keys)

    def idle(self, window: Tensor, length: Tensor, drawn: Tensor) -> Tensor:
        """Windows (B, 2) that reach beyond both ends of half of the clips, where the body stands still."""
        if not self.cfg.idle:
            return window
        share = self.cfg.idle * (2 * drawn[:, 9:11] - 1).clamp(min=0)
        more = (share * length[:, None]).long()  # b 2
        return torch.stack([window[:, 0] - more[:, 0], window[:, 1] + more.sum(1)], 1)

    def paced(self, u: Tensor, drawn: Tensor) -> Tensor:
        """Places (B, T) in the bins of sample_frames, in 0 to 1, moved so that the clip's tempo varies.

        Frames in a row (sampling crop) keep their tempo.
        """
        if not self.cfg.tempo or self.cfg.sampling == "crop":
            return u
        bend = self.cfg.tempo * (2 * drawn[:, 11:] - 1)
        t = torch.arange(u.shape[1], device=u.device)
        return len(t) * ((t + u) / len(t)) ** (2 ** bend) - t

    def __call__(self, x: Tensor, drawn: Tensor, index: Tensor, seed: int, epoch: int) -> Tensor:
        """x (B, M, T, V, 3) with what the view's settings ask for."""
        cfg = self.cfg
        if not (cfg.noise or cfg.spikes or cfg.missing):
            return x
        at = torch.arange(x[0, ..., 0].numel(), device=x.device).view(x.shape[1:4])  # m t v
        clip = rearrange(index, "b -> b 1 1 1")

        # what moves
        if cfg.noise or cfg.spikes:
            x = x + self._shaken(clip, at, drawn, seed, epoch) * self.axes
        # what goes missing: the same frames of all bodies
        if cfg.missing:
            lost = self._lost(clip, at[0], drawn, seed, epoch)  # b 1 t v
            x = self._without(x, lost.expand(x.shape[:-1]))
        return x

    def _shaken(self, clip: Tensor, at: Tensor, drawn: Tensor, seed: int, epoch: int) -> Tensor:
        """What is added to joints: normal numbers (B, M, T, V, 3) by Box and Muller's method."""
        # three independent normal numbers of two pairs
        keys = rearrange(self.place_keys, "k -> k 1 1 1 1")
        a, b, c, d = hashed_uniform(seed, epoch, clip, keys, at)
        near = (-2 * (1 - a).log()).sqrt()
        far = (-2 * (1 - c).log()).sqrt()
        angle = 2 * math.pi * b
        normal = torch.stack([near * angle.cos(), near * angle.sin(), far * (2 * math.pi * d).cos()], -1)

        # each clip has its own noise; a spike is a normal number of a much larger deviation
        noise, share = rearrange(drawn[:, 7:9], "b k -> k b 1 1 1")
        is_spike = (hashed_uniform(seed, epoch, clip, 205, at) < share * self.cfg.spikes).to(normal.dtype)
        return normal * (self.cfg.noise * noise + is_spike * JUMP)[..., None]

    def _lost(self, clip: Tensor, at: Tensor, drawn: Tensor, seed: int, epoch: int) -> Tensor:
        """1.0 for joints (B, 1, T, V) that are missing."""
        T, V = at.shape
        is_hurt, rate, often, is_legs, is_run, size, start = rearrange(drawn[:, :7], "b k -> k b 1 1 1")

        # joint-frames here and there, joints for good, both legs, a run of frames
        lost = hashed_uniform(seed, epoch, clip, 206, at) < LOST_FRAMES * rate
        for_good = hashed_uniform(seed, epoch, rearrange(clip, "b 1 1 1 -> b 1"), self.joint_keys) < LOST_JOINTS
        lost = lost | (often < 0.3) & rearrange(for_good, "b v -> b 1 1 v")
        lost = lost | (is_legs < 0.2) & (self.legs > 0)
        if T > 1:  # a clip of one frame keeps it
            t = rearrange(torch.arange(T, device=at.device), "t -> t 1")
            first = (start * (1 - RUN * size) * T).floor()
            lost = lost | (is_run < 0.3) & (t >= first) & (t < first + RUN * size * T)
        return (lost & (is_hurt < self.cfg.missing)).float()

    def _without(self, x: Tensor, lost: Tensor) -> Tensor:
        """x (B, M, T, V, 3) without the joints that are lost, and made whole again."""
        m = x.shape[1]
        bodies = rearrange(x, "b m t v c -> (b m) t v c")
        whole = filled(bodies, 1 - rearrange(lost, "b m t v -> (b m) t v"), self.body)
        return rearrange(whole, "(b m) t v c -> b m t v c", m=m)
