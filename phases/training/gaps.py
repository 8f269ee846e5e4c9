"""What cameras leave out: missing joints and frames are filled in, and single-frame spikes with them.

Shapes: n body, l or t frame, v joint. A missing joint is (0, 0, 0). All of it is tensor arithmetic that torch.onnx can
export: the same lines run before a training and inside an exported file.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phases.common.limits import FARTHEST
from skeletons import Skeleton

SPIKE = 0.15        # metres between a joint and the middle of its neighbours in time: more may be a spike,
OFF_BONE = 0.15     # if a bone at it differs from its mean length by this share
FAR = 10_000_000    # more than any entry of Body.order


@dataclass(frozen=True)
class Body:
    """The skeleton as tensors, and where the joints of its average body lie."""
    parents: Tensor     # v
    touches: Tensor     # v v: 1 where bone u (of joint u to its parent) ends at joint v
    order: Tensor       # v v: how near joint u is to joint v, in bones; no two entries of a row are equal
    rest: Tensor        # v 3: metres

    @classmethod
    def of(cls, skeleton: Skeleton, rest: Tensor) -> Body:
        parents = torch.tensor(skeleton.parents)
        V = len(parents)
        touches = torch.eye(V)
        touches[parents, torch.arange(V)] = 1

        # the root's bone has no length, and is never off
        touches[:, skeleton.root] = 0
        order = torch.from_numpy(skeleton.hops.astype(np.float32)) * V + torch.arange(V)
        return cls(parents, touches, order, rest)

    def to(self, device: torch.device) -> Body:
        return Body(*(field.to(device) for field in (self.parents, self.touches, self.order, self.rest)))


def seen_in(x: Tensor) -> Tensor:
    """1.0 for a joint of (..., V, 3) that is there, 0.0 for a missing one."""
    return (x.abs().amax(-1) > 0).to(x.dtype)


def fixed_sizes(x: Tensor) -> tuple[int, int]:
    """(N, V) of x (n, t, v, 3) as plain numbers: an exported graph has them as constants, and computes t alone."""
    return len(x), int(x.shape[2])


def close_gaps(x: Tensor, seen: Tensor) -> Tensor:
    """x (n, t, v, 3) with each missing joint on the line between the frames around it that show it; seen (n, t, v).

    Before the first frame and after the last one that shows it, it stays where it was nearest. A joint that no frame
    shows becomes 0.
    """
    is_seen = seen.long()
    N, V = fixed_sizes(x)
    row = torch.arange(N * V * x.shape[1], device=x.device).view(N, -1, V)  # of a joint, in x as a table of rows

    # place[k]: the row that shows the joint for the k-th time, k from 1; rows that do not all write to place 0
    count = is_seen.cumsum(1)
    place = torch.zeros_like(torch.cat([count[:, :1], count], 1)).scatter(1, count * is_seen, row)
    times = count[:, -1:].clamp(min=1)

    # the nearest such rows, before and after; at the ends both are the same. Rows of a joint are V apart, which cancels
    before = place.gather(1, count.clamp(min=1))
    after = place.gather(1, (count + 1 - is_seen).minimum(times))
    share = (row - before).to(x.dtype) / (after - before).clamp(min=1).to(x.dtype)

    # on the line between them
    rows = x.reshape(-1, 3)
    start = rows.index_select(0, before.reshape(-1)).view(N, -1, V, 3)
    end = rows.index_select(0, after.reshape(-1)).view(N, -1, V, 3)
    ever = seen.amax(1, keepdim=True)
    return (start + share[..., None] * (end - start)) * ever[..., None]


def spikes(x: Tensor, seen: Tensor, length: Tensor, body: Body) -> Tensor:
    """1.0 for joints (n, t, v) that jump away for a single frame: from both neighbours in time, and off their bones.

    x (n, t, v, 3) has no gaps; n bodies of `length` (n,) frames, the first of t. A hand that turns round fast moves as
    far, but its bones keep their length.
    """
    # the frames before and after; at an end the two nearest
    N, V = fixed_sizes(x)
    T = x.shape[1]
    t = torch.arange(T, device=x.device)
    last = length[:, None] - 1
    is_first = (t == 0).long()
    is_last = (t == last).long()
    near = (t - 1).abs().minimum(last)  # n t
    far = (t + 1 + is_first - 3 * is_last).clamp(min=0).minimum(last)
    first = torch.arange(N, device=x.device)[:, None] * T  # of all frames, the first of each body
    frames = x.reshape(-1, V, 3)
    a = frames.index_select(0, (first + near).reshape(-1)).view(N, -1, V, 3)
    b = frames.index_select(0, (first + far).reshape(-1)).view(N, -1, V, 3)

    # far from their middle, at an end from the line through them; farther than they are apart
    share = 0.5 - 1.5 * (is_first + is_last).clamp(max=1)[:, :, None, None].to(x.dtype)
    away = (x - (a + share * (b - a))).norm(dim=-1)
    is_away = (away > (b - a).norm(dim=-1).clamp(min=SPIKE)).to(x.dtype)

    # one of its bones is longer or shorter than on the mean
    bone = (x - x.index_select(2, body.parents)).norm(dim=-1)  # n t v
    both = seen * seen.index_select(2, body.parents)
    mean = (bone * both).sum(1, keepdim=True) / both.sum(1, keepdim=True).clamp(min=1)
    is_off = ((bone - mean).abs() > OFF_BONE * mean).to(x.dtype)
    return is_away * ((is_off @ body.touches.T) > 0).to(x.dtype) * seen


def place_unseen(x: Tensor, ever: Tensor, body: Body) -> Tensor:
    """x (n, t, v, 3) with joints that no frame shows where the mean body has them, seen from the nearest joint shown.

    ever (n, v): 1.0 for a joint that some frame shows.
    """
    nearest = (body.order + (1 - ever[:, None]) * FAR).argmin(2)  # n v
    N, V = fixed_sizes(x)
    offset = body.rest - body.rest.index_select(0, nearest.reshape(-1)).view(N, V, 3)  # n v 3; 0 if shown

    # the joint `nearest` of every frame
    frame = torch.arange(N * x.shape[1], device=x.device).view(N, -1, 1) * V
    at = (frame + nearest[:, None]).reshape(-1)
    return x.reshape(-1, 3).index_select(0, at).view(N, -1, V, 3) + offset[:, None]


def filled(x: Tensor, seen: Tensor, body: Body) -> Tensor:
    """x (n, t, v, 3) without gaps, and with joints that are never seen; a body without any joint is zeros."""
    ever = seen.amax(1)  # n v
    present = ever.amax(1).view(-1, 1, 1, 1)
    return place_unseen(close_gaps(x, seen), ever, body) * present


def cleaned(x: Tensor, length: Tensor, body: Body) -> Tensor:
    """Recorded joints (n, t, v, 3) without spikes and gaps: n bodies of `length` (n,) frames, the first of t."""
    seen = seen_in(x)
    spiky = spikes(close_gaps(x, seen), seen, length, body)

    # a joint that does nothing but jump, as in clips of two frames, stays as recorded
    calm = (seen * (1 - spiky)).amax(1, keepdim=True)
    return filled(x, seen * (1 - spiky * calm), body)


def mean_body(frames: np.ndarray, skeleton: Skeleton) -> Tensor:
    """Joints (v, 3) of a body whose bones are the mean vectors of those in `frames` (n, v, 3); its root is at 0.

    Where no frame shows a joint's parent, the nearest joint that is shown with it takes the parent's place. A joint
    that no frame shows lies in the middle of its neighbours: at its only neighbour, or between the two of a chain.
    """
    # what is no coordinate, in a damaged store, counts as missing
    is_coordinate = (np.abs(frames) <= FARTHEST).all(-1, keepdims=True)
    frames = np.where(is_coordinate, frames, 0).astype(np.float64)
    seen = frames.any(-1)
    shown = seen.any(0)
    rest = np.zeros(frames.shape[1:])
    if not shown.any():
        return torch.from_numpy(rest.astype(np.float32))

    # bones between any two joints that frames show together; first the joint nearest to the root
    together = seen.T.astype(np.float64) @ seen > 0
    hops = np.where(together, skeleton.hops, math.inf)
    placed = np.zeros(len(rest), bool)
    placed[np.where(shown, skeleton.hops[skeleton.root], math.inf).argmin()] = True

    # from there outwards
    while True:
        bones = np.where(placed[:, None] & ~placed, hops, math.inf)
        u, v = np.unravel_index(bones.argmin(), bones.shape)
        if bones[u, v] == math.inf:
            break
        both = (seen[:, u] & seen[:, v])[:, None]
        rest[v] = rest[u] + ((frames[:, v] - frames[:, u]) * both).sum(0) / both.sum(0)
        placed[v] = True

    # the others: each the mean of its neighbours, all at once
    is_bone = (skeleton.hops == 1).astype(np.float64)
    pulls = np.diag(is_bone.sum(1)) - is_bone
    if not placed.all():
        rest[~placed] = np.linalg.solve(pulls[~placed][:, ~placed], is_bone[~placed][:, placed] @ rest[placed])
    return torch.from_numpy((rest - rest[skeleton.root]).astype(np.float32))
