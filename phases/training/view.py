"""The view: clips of any length -> (B, M, T, V, 3), whole, sampled, aligned and augmented on the device."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from last import hashed_uniform
from phases.training.alignment import Upright, acting, around, centred, extent_scale, gaussian, rotation, sample_frames
from phases.training.damage import Damage
from phases.training.gaps import Body, cleaned, mean_body, seen_in
from phases.training.settings import View
from skeletons import Skeleton


class Store(Protocol):
    """What a view reads of a clip store."""
    path: Path
    skeleton: Skeleton
    frames: np.ndarray              # rows v 3
    clips: dict[str, np.ndarray]


class ClipView:
    """Batches (B, M, T, V, 3) of a clip store, made on the device. An absent body is all zeros.

    A recorded clip is made whole once (gaps.py): missing joints, frames without a body and single-frame spikes are
    filled in, frames before the first and after the last that shows a body are left out. It is centred on its main
    body's centre (Skeleton.centre: spine or hips) in the first frame taken. The recipe may also smooth it, turn it to a
    common heading and scale it. Training damages, flips, turns and scales at random, as a pure function of (seed,
    epoch, clip): a resumed run and every process draw the same. InferenceView does what a test sees, for one clip.

    `store` (a ClipStore) has skeleton, path, frames (rows, V, 3) and a table of arrays, clips: length (N,), label (N,),
    offset (N, 2): the first row of each body in frames, -1 if it is absent. Here n is a clip of the store.
    `rest` (V, 3) is the mean body of the training clips (rest_of); without it, that of all clips of the store.
    """

    def __init__(self, store: Store, cfg: View, device: torch.device | str = "cpu", rest: Tensor | None = None):
        self.cfg = cfg
        self.device = torch.device(device)
        self.skeleton = store.skeleton
        check_view(store, cfg)

        # the clips, made whole; frames of the store's file that change are changed in memory alone
        offset = store.clips["offset"][:, :cfg.bodies]
        whole = WholeClips(store, offset, rest_of(store) if rest is None else rest, cfg)
        frames = torch.from_numpy(whole.frames)

        # frames stay on the host if the device has no room; then each batch is copied to the device
        if self.device.type == "cuda" and frames.nbytes < 0.5 * torch.cuda.mem_get_info(self.device)[0]:
            frames = frames.to(self.device)
        self.frames = frames
        self.length = whole.length.to(self.device)
        self.offset = whole.offset.to(self.device)
        self.present = whole.present.to(self.device)
        self.normalising = whole.normalising.to(self.device)
        self.label = torch.from_numpy(store.clips["label"]).to(self.device)
        self.smoothing = gaussian(cfg.smooth).to(self.device) if cfg.smooth else None

        # keys of a clip's random numbers: 16 of the augmentation, 2 of the window, T of the sampling
        self.keys = torch.tensor([*range(16), 50, 51, *range(100, 100 + cfg.frames)], device=self.device)
        self.damage = Damage(cfg, self.skeleton, whole.body.to(self.device), whole.axes.to(self.device))
        self.mirror = torch.tensor(self.skeleton.mirror, device=self.device)
        self.turn = torch.tensor([math.radians(angle) for angle in cfg.rotate], device=self.device)

    def _rows(self, index: Tensor) -> Tensor:
        return self.frames[index.to(self.frames.device)].to(self.device)

    def _joints_at(self, offset: Tensor, t: Tensor, length: Tensor) -> Tensor:
        """Joints (B, M, T, V, 3) at frames t (B, T), as recorded or as Gaussian means."""
        if self.smoothing is None:
            return self._rows(offset[:, :, None] + t[:, None])
        at = around(t, length, len(self.smoothing))  # b t o
        return torch.einsum("bmtovc,o->bmtvc", self._rows(offset[:, :, None, None] + at[:, None]), self.smoothing)

    def _augment(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Random linear map (B, 3, 3); whether to mirror the body (B,); whether to swap left and right (B,).

        u (B, 16) in [-1, 1): 0-2 rotation, 6 scale, 12 depth, 13 flip, 14 swap; the others are free.
        """
        linear = rotation(u[:, :3] * self.turn) * (1 + self.cfg.scale * u[:, 6, None, None])
        if self.cfg.flat:
            is_deep = (u[:, 12] >= 2 * self.cfg.flat - 1).to(u.dtype)
            linear = torch.stack([linear[..., 0], linear[..., 1], linear[..., 2] * is_deep[:, None]], 2)
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
            harm = self.damage.drawn(index, seed, epoch)
            window = self.damage.idle(section(length, within, cfg.window), length, harm)
            u = self.damage.paced(u, harm)

        # frames, about the centre
        t = sample_frames(length, cfg.frames, cfg.sampling, u, window)  # b t
        x = self._joints_at(self.offset[index], t, length)  # b m t v 3
        if training:
            x = self.damage(x, harm, index, seed, epoch)
        x = centred(x, self.skeleton.centre)

        # one linear map normalises and augments
        linear = self.normalising[index]
        if training:
            augment, flip, swap = self._augment(2 * augmenting - 1)
            mirrored = (flip ^ swap)[:, None, None, None, None]
            x = torch.where(mirrored, x[..., self.mirror, :], x)
            linear = (linear * self._signs(flip, swap)[:, None]) @ augment
        shape = x.shape
        x = (rearrange(x, "b m t v c -> b (m t v) c") @ linear).view(shape)

        present = self.present[index]
        if cfg.extent:
            x = x * extent_scale(x, present)[:, None, None, None, None]
        return x * present[:, :, None, None, None]


def section(length: Tensor, u: Tensor, share: float) -> Tensor:
    """First frame and number of frames (B, 2) of a random section of clips of `length` (B,), at least this share of
    each; u (B, 2) in [0, 1).
    """
    share = share + (1 - share) * u[:, 0]
    count = (length * share).ceil().long().clamp(min=1)
    first = ((length - count + 1) * u[:, 1]).long()
    return torch.stack([first, count], 1)


# ---------------------------------------------------------------------------------------------------------------------
# Whole clips
# ---------------------------------------------------------------------------------------------------------------------

def rest_of(store: Store, known: np.ndarray | None = None) -> Tensor:
    """The mean body (V, 3) of the clips `known` (all without it): of 1,000 of them at most, eight frames of each."""
    clips = np.arange(len(store.clips["length"])) if known is None else np.asarray(known)
    clips = clips[np.linspace(0, len(clips) - 1, min(len(clips), 1000)).astype(int)]
    at = (np.linspace(0, 1, 8) * (store.clips["length"][clips, None] - 1)).astype(int)
    return mean_body(store.frames[(store.clips["offset"][clips, :1] + at).ravel()], store.skeleton)


class WholeClips:
    """The clips of a store without gaps, spikes, and frames before and after its bodies.

    frames (rows, V, 3); of each clip: offset (N, M) and length (N,) without its empty ends, present (N, M): 1.0 for a
    body with any joint, normalising (N, 3, 3): how its main body is turned and scaled. axes (3,): 0.0 for an axis on
    which nothing ever differs, the third of flat recordings.
    """
    BATCH = 128  # clips

    def __init__(self, store: Store, offset: np.ndarray, rest: Tensor, cfg: View):
        self.recorded = store.frames
        self.frames = store.frames
        self.body = Body.of(store.skeleton, rest)
        self.axes = (rest != 0).any(0).float()
        self.upright = Upright(store.skeleton, cfg.heading, cfg.trunk_scale)
        self.still = cfg.still
        N = len(offset)
        self.length = torch.from_numpy(store.clips["length"].astype(np.int64))
        self.offset = torch.from_numpy(offset.astype(np.int64))
        self.present = (self.offset >= 0).float()
        self.normalising = torch.eye(3).repeat(N, 1, 1)

        # clips of like length in a batch
        order = torch.argsort(self.length, stable=True)
        for clips in order.split(self.BATCH):
            self._make_whole(clips)
        self.offset = self.offset.clamp(min=0)

    def _make_whole(self, clips: Tensor) -> None:
        """Fill the gaps of some clips, in place, and find their ends and normalisation."""
        length = self.length[clips]
        offset = self.offset[clips]  # b m
        B, M = offset.shape
        t = torch.arange(int(length.max()))
        valid = t < length[:, None]  # b l
        rows = offset.clamp(min=0)[:, :, None] + t.minimum(length[:, None] - 1)[:, None]  # b m l

        # recorded joints; 0 beyond a clip, and of absent bodies
        there = valid[:, None] & (offset >= 0)[:, :, None]
        x = torch.from_numpy(self.recorded[rows.numpy()]) * there[..., None, None]
        bodies = rearrange(x, "b m l v c -> (b m) l v c")
        whole = cleaned(bodies, length.repeat_interleave(M), self.body).view_as(x)

        # only what differs is written: the file of a store is read, never copied as a whole
        changed = ((whole != x).flatten(3).any(3) & there).nonzero(as_tuple=True)
        if len(changed[0]):
            self._write(rows[changed], whole[changed])

        # the ends
        shown = seen_in(x).amax((1, 3))  # b l
        first = shown.argmax(1)
        last = (shown.shape[1] - 1 - shown.flip(1).argmax(1)).minimum(length - 1)
        if self.still:
            first, last = acting(whole, first, last, self.still)
        count = last - first + 1
        self.present[clips] *= (whole != 0).flatten(2).any(2)
        inside = ((t >= first[:, None]) & (t < (first + count)[:, None])).float()
        self.normalising[clips] = self.upright(whole[:, 0], inside)
        self.offset[clips] = torch.where(offset >= 0, offset + first[:, None], -1)
        self.length[clips] = count

    def _write(self, rows: Tensor, x: Tensor) -> None:
        """Change frames in memory: of a file's own mapping, which another view of the store does not see."""
        if self.frames is self.recorded:
            is_file = isinstance(self.recorded, np.memmap)
            self.frames = own_mapping(self.recorded) if is_file else np.array(self.recorded)
        self.frames[rows.numpy()] = x.numpy()


def own_mapping(frames: np.memmap) -> np.memmap:
    """The same file, mapped once more: what is written stays in memory, page by page, and the file as it is."""
    return np.memmap(frames.filename, frames.dtype, "c", frames.offset, frames.shape)


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
