"""The view: clips of any length -> batches (B, M, T, V, 3), sampled, aligned and augmented on the device."""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from last import hashed_uniform, rank_of
from skeletons import Skeleton

Probability = Annotated[float, (0, 1)]
SEEN = ("frames", "bodies", "sampling", "smooth", "heading", "trunk_scale", "extent")  # fields of the test view


@dataclass(frozen=True)
class View:
    """How a clip becomes (M, T, V, 3)."""
    frames: Annotated[int, (1, 10_000)] = 64        # T
    bodies: Annotated[int, (1, 2)] = 1              # M
    sampling: Literal["uniform", "crop", "stretch"] = "uniform"
    smooth: Annotated[float, (0, 100)] = 0.0        # Gaussian over time: standard deviation in recorded frames
    heading: bool = False            # turn the main body, by its mean over the clip, to face one way
    trunk_scale: bool = False        # the trunk, shoulders to hips in the first frame seen, becomes 0.5 long
    extent: bool = False             # scale the augmented clip so that its bounding box's longest side is 2
    # training only
    window: Annotated[float, (0.01, 1)] = 1.0       # take a random section of at least this share (not with crop)
    rotate: tuple[float, float, float] = (15.0, 15.0, 15.0)  # degrees about x, y, z, uniform in ±
    scale: Annotated[float, (0, 0.99)] = 0.1        # all axes alike, 1 ± this
    noise: Probability = 0.0         # standard deviation of each coordinate, in the units after scaling
    flip: Probability = 0.0          # of mirroring the body
    swap: Probability = 0.0          # of swapping the labels left and right, as a sensor may from behind
    mix: Probability = 0.0           # of blending a clip with another of its batch, labels by share


class Store(Protocol):
    """What a view reads of a clip store."""
    path: Path
    skeleton: Skeleton
    frames: np.ndarray              # rows v 3
    clips: dict[str, np.ndarray]


def sample_frames(length: Tensor, T: int, sampling: str, u: Tensor | None = None,
                  window: Tensor | None = None) -> Tensor:
    """Frame numbers (B, T) that a view takes from clips of `length` (B,) frames, each at least 1.

    uniform: T equal bins over the clip, the middle of each, or with u (B, T) in [0, 1) a random frame of each. A clip
        (or window) of fewer than T frames keeps its rate and repeats its last frame, where the velocity is zero.
    stretch: the same bins, but a clip shorter than T repeats frames evenly and fills all of T.
    crop: the clip looped to at least 300 frames, then T consecutive ones, from the middle or drawn by u[:, 0] (ST-GCN).
    `window` (B, 2), in training: the first frame and the number of frames to draw from.
    """
    t = torch.arange(T, device=length.device)
    if sampling == "crop":
        total = length.clamp(min=max(300, T))
        start = ((total - T + 1) * (0.5 if u is None else u[:, 0])).long()
        return (start[:, None] + t) % length[:, None]

    # a frame in each bin of the clip, or of the window in it
    first = torch.zeros_like(length)
    count = length
    if window is not None:
        first, count = window.unbind(1)
    inside = ((t + (0.5 if u is None else u)) * count[:, None] / T).long()

    # what is shorter than T keeps its rate
    if sampling == "uniform":
        inside = torch.where(count[:, None] < T, t.expand_as(inside), inside)
    return first[:, None] + torch.minimum(inside, count[:, None] - 1)


def rotation(angles: Tensor) -> Tensor:
    """Matrices (B, 3, 3) that turn row vectors by angles (B, 3) in radians about x, then y, then z."""
    cx, cy, cz = angles.cos().unbind(1)
    sx, sy, sz = angles.sin().unbind(1)
    one = torch.ones_like(cx)
    zero = torch.zeros_like(cx)

    def matrix(*entries: Tensor) -> Tensor:
        return rearrange(torch.stack(entries, 1), "b (i j) -> b i j", i=3)

    about_x = matrix(one, zero, zero, zero, cx, sx, zero, -sx, cx)
    about_y = matrix(cy, zero, -sy, zero, one, zero, sy, zero, cy)
    about_z = matrix(cz, sz, zero, -sz, cz, zero, zero, zero, one)
    return about_x @ about_y @ about_z


class ClipView:
    """Batches (B, M, T, V, 3) of a clip store, made on the device. An absent body, frame or joint is all zeros.

    Every clip is centred on its main body's centre (Skeleton.centre: spine or hips) in the first frame that shows it;
    if that is missing there, on the mean of the joints seen. The recipe may also smooth it, turn it to a common heading
    and scale it. Training flips, turns, scales and adds noise at random, as a pure function of (seed, epoch, clip): a
    resumed run and every process draw the same.

    `store` (a ClipStore) has skeleton, path, frames (rows, V, 3) and a table of arrays, clips: length (N,), label (N,),
    offset (N, 2): the first row of each body in frames, -1 if it is absent. Here n is a clip of the store.
    """

    def __init__(self, store: Store, cfg: View, device: torch.device | str = "cpu"):
        self.cfg = cfg
        self.device = torch.device(device)
        self.skeleton = store.skeleton
        check_view(store, cfg)

        # frames stay on the host if the device has no room; then each batch is copied to the device
        frames = torch.from_numpy(store.frames)
        if self.device.type == "cuda" and frames.nbytes < 0.5 * torch.cuda.mem_get_info(self.device)[0]:
            frames = frames.to(self.device)
        self.frames = frames
        self.length = torch.from_numpy(store.clips["length"]).to(self.device)
        self.offset = torch.from_numpy(store.clips["offset"][:, :cfg.bodies]).to(self.device)
        self.label = torch.from_numpy(store.clips["label"]).to(self.device)

        # keys of a clip's random numbers: 16 of the augmentation, 2 of the window, T of the sampling
        self.keys = torch.tensor([*range(16), 50, 51, *range(100, 100 + cfg.frames)], device=self.device)
        self.noise_keys = torch.tensor([201, 202], device=self.device).view(2, 1, 1, 1, 1, 1)

        # constants of the augmentation, and what each clip is normalised by
        self.mirror = torch.tensor(self.skeleton.mirror, device=self.device)
        self.turn = torch.tensor([math.radians(angle) for angle in cfg.rotate], device=self.device)
        self.centre, self.normalising = self._normalise()

    def _rows(self, index: Tensor) -> Tensor:
        return self.frames[index.to(self.frames.device)].to(self.device)

    def _joints_at(self, offset: Tensor, t: Tensor, length: Tensor) -> Tensor:
        """Joints (B, M, T, V, 3) at frames t (B, T), as recorded or as Gaussian means; missing joints have weight 0."""
        if not self.cfg.smooth:
            return self._rows(offset[:, :, None] + t[:, None])

        # the frames around each, the ends repeated
        reach = math.ceil(3 * self.cfg.smooth)
        o = torch.arange(-reach, reach + 1, device=self.device)
        at = (t[..., None] + o).clamp(min=0).minimum(length[:, None, None] - 1)  # b t o
        x = self._rows(offset[:, :, None, None] + at[:, None])  # b m t o v 3

        # their mean; a joint that is missing in the middle stays missing
        gauss = rearrange((-0.5 * (o / self.cfg.smooth) ** 2).exp(), "o -> o 1 1")
        weight = gauss * (x != 0).any(-1, keepdim=True)
        mean = (weight * x).sum(3) / weight.sum(3).clamp(min=1e-12)
        return mean * (weight[:, :, :, reach] > 0)  # b m t v 3

    def _normalise(self) -> tuple[Tensor, Tensor]:
        """Centre (N, 3) and linear map (N, 3, 3) of every clip, from the first frame that shows its main body."""
        body = self._rows(self._first_row_seen())  # n v 3
        seen = (body != 0).any(-1)  # n v

        # centre: the mean of the spine's joints, or of all that are seen
        is_centre = torch.zeros_like(seen).index_fill(1, torch.tensor(self.skeleton.centre, device=self.device), True)
        is_centre = is_centre & seen
        used = torch.where(is_centre.any(1, keepdim=True), is_centre, seen)[..., None]  # n v 1
        centre = (body * used).sum(1) / used.sum(1).clamp(min=1)

        # map: a turn about y, the vertical of a levelled camera, and a factor for the trunk
        linear = torch.eye(3, device=self.device).repeat(len(self.length), 1, 1)
        if self.cfg.heading:
            angle = self._heading()
            zero = torch.zeros_like(angle)
            linear = rotation(torch.stack([zero, angle, zero], 1))
        if self.cfg.trunk_scale:
            linear = linear * self._trunk_scale(body, seen)[:, None, None]
        return centre, linear

    def _first_row_seen(self) -> Tensor:
        """Row (N,) of the first frame that shows each main body; the last frame's if none does."""
        row = self.offset[:, 0].clone()
        last = row + self.length - 1
        while True:
            unseen = (self._rows(row) == 0).all(-1).all(-1) & (row < last)
            if not unseen.any():
                return row
            row += unseen.long()

    def _trunk_scale(self, body: Tensor, seen: Tensor) -> Tensor:
        """Factor (N,) that makes the trunk of bodies (N, V, 3) half a metre long, as an adult's; 1 if it is unknown."""
        four = [joint for joint, in self.skeleton.trunk]
        left_shoulder, right_shoulder, left_hip, right_hip = body[:, four].unbind(1)
        size = ((left_shoulder + right_shoulder - left_hip - right_hip) / 2).norm(dim=1)
        known = (size > 1e-3) & seen[:, four].all(1)
        return 0.5 / torch.where(known, size, 0.5)

    def _heading(self) -> Tensor:
        """Angle (N,) about the vertical that turns each main body to face one way.

        It is of the mean over all frames: shoulders and hips of one frame are noisy for a body seen from its side.
        """
        # all frames of all main bodies, one after another: l
        N = len(self.length)
        clip = torch.arange(N, device=self.device).repeat_interleave(self.length)
        frame = torch.arange(len(clip), device=self.device) - (self.length.cumsum(0) - self.length)[clip]
        row = (self.offset[clip, 0] + frame).to(self.frames.device)
        four = [self.frames[row, joint].to(self.device) for joint, in self.skeleton.trunk]  # l 3
        left_shoulder, right_shoulder, left_hip, right_hip = four

        # the sum over a clip of the vectors from right to left
        seen = torch.stack([(joint != 0).any(-1, keepdim=True) for joint in four]).all(0)
        across = seen * (left_shoulder + left_hip - right_shoulder - right_hip)
        total = torch.zeros(N, 3, device=self.device).index_add_(0, clip, across)
        return torch.atan2(total[:, 2], total[:, 0])

    def _window(self, length: Tensor, u: Tensor) -> Tensor:
        """First frame and number of frames (B, 2) that may be drawn from clips of `length` (B,); u (B, 2) in [0, 1)."""
        share = self.cfg.window + (1 - self.cfg.window) * u[:, 0]
        count = (length * share).ceil().long().clamp(min=1)
        first = ((length - count + 1) * u[:, 1]).long()
        return torch.stack([first, count], 1)

    def _augment(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Random linear map (B, 3, 3); whether to mirror the body (B,); whether to swap left and right (B,).

        u (B, 16) in [-1, 1): 0-2 rotation, 6 scale, 13 flip, 14 swap; the others are free.
        """
        linear = rotation(u[:, :3] * self.turn) * (1 + self.cfg.scale * u[:, 6, None, None])
        flip = u[:, 13] < 2 * self.cfg.flip - 1
        swap = u[:, 14] < 2 * self.cfg.swap - 1
        return linear, flip, swap

    def _signs(self, flip: Tensor, swap: Tensor) -> Tensor:
        """Signs (B, 3) of x, y and z of a body whose labels left and right are exchanged.

        flip negates x. swap exchanges the labels only; a heading taken from swapped shoulders is off by 180 degrees, so
        with cfg.heading x and z are negated as well.
        """
        turned = swap & self.cfg.heading
        return torch.stack([1 - 2 * (flip ^ turned), torch.ones_like(flip, dtype=torch.long), 1 - 2 * turned], 1)

    def __call__(self, index: Tensor, training: bool = False, seed: int = 0, epoch: int = 0) -> Tensor:
        """Joints (B, M, T, V, 3) of the clips `index` (B,) about the body's centre, in the store's unit or scaled."""
        cfg = self.cfg
        length = self.length[index]
        u = window = None
        if training:
            drawn = hashed_uniform(seed, epoch, index[:, None], self.keys)
            augmenting, within, u = drawn.split((16, 2, cfg.frames), 1)
            window = self._window(length, within)

        # frames, about the centre
        t = sample_frames(length, cfg.frames, cfg.sampling, u, window)  # b t
        offset = self.offset[index]  # b m
        x = self._joints_at(offset.clamp(min=0), t, length)  # b m t v 3
        seen = (x != 0).any(-1, keepdim=True) & (offset >= 0)[:, :, None, None, None]  # b m t v 1
        x = x - self.centre[index][:, None, None, None]

        # one linear map normalises and augments
        linear = self.normalising[index]
        if training:
            augment, flip, swap = self._augment(2 * augmenting - 1)
            mirrored = (flip ^ swap)[:, None, None, None, None]
            x = torch.where(mirrored, x[..., self.mirror, :], x)
            seen = torch.where(mirrored, seen[..., self.mirror, :], seen)
            linear = (linear * self._signs(flip, swap)[:, None]) @ augment
        x = rearrange(x, "b m t v c -> b (m t v) c") @ linear
        x = rearrange(x, "b (m t v) c -> b m t v c", m=seen.shape[1], t=seen.shape[2])

        if cfg.extent:
            x = x * self._extent_scale(x, seen)[:, None, None, None, None]
        if training and cfg.noise:
            x = x + self._noise(x, index, seed, epoch)
        return x * seen

    def _extent_scale(self, x: Tensor, seen: Tensor) -> Tensor:
        """Factor (B,) that makes the longest side of a clip's bounding box 2; 1 for a clip without extent."""
        # of seen joints only: after centring, absent ones (zeros) are no longer at the origin
        low = torch.where(seen, x, math.inf).amin((1, 2, 3))  # b c
        high = torch.where(seen, x, -math.inf).amax((1, 2, 3))
        size = (high - low).amax(1).nan_to_num(0, 0, 0)  # -inf if nothing is seen
        return 2 / torch.where(size > 1e-3, size, 2.0)

    def _noise(self, x: Tensor, index: Tensor, seed: int, epoch: int) -> Tensor:
        """Normal numbers in the shape of x, of standard deviation cfg.noise, by Box and Muller's method."""
        at = torch.arange(x[0].numel(), device=self.device).view_as(x[0])
        a, b = hashed_uniform(seed, epoch, index[:, None, None, None, None], self.noise_keys, at)
        return self.cfg.noise * (-2 * (1 - a).log()).sqrt() * (2 * math.pi * b).cos()


def check_view(store: Store, cfg: View) -> None:
    """ValueError if the store's bodies or its skeleton cannot give what the view asks for."""
    bodies = store.clips["offset"].shape[1]
    if bodies < cfg.bodies:
        raise ValueError(f"view.bodies = {cfg.bodies}: {store.path} holds {bodies} per clip")
    if (cfg.flip or cfg.swap) and not store.skeleton.pairs:
        raise ValueError(f"view.flip, view.swap: skeleton {store.skeleton.name!r} has no left and right "
                         "joints: name them (`left hand`, `right hand`), list them as pairs, or set both to 0")
    if (cfg.heading or cfg.trunk_scale) and store.skeleton.trunk is None:
        raise ValueError(f"view.heading, view.trunk_scale: skeleton {store.skeleton.name!r} names no left and "
                         "right shoulder and hip; set both false")


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
