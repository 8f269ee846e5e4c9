"""Other ways for velocities to meet joints and bones in LAST-Lite, for the study of tests/tools/views.py.

None of them is in `last.py`: a form replaces two of its names while a network is built and runs. All read four streams.

    scaled      a velocity is divided by the spread of its joints or bones instead of its own, times a learned number
                that starts at 1: the noise of a velocity stays as small as that of the joints
    smoothed    a velocity is the slope over five frames, (J[t+2] - J[t-2]) / 4; at the ends over those that are there
    gated       a velocity is multiplied by sigmoid(b + a · log(E[|Δv|²] / E[|v|²])), a number for each body and joint
                from means over the clip: white noise gives 3, smooth motion little. a, b start at 0
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import last
from last import STREAMS, BatchNorm, StreamFusion, derive_streams

REACH = 2  # frames on either side of a smoothed velocity


# ---------------------------------------------------------------------------------------------------------------------
# Fusions: maps (N, 12, T, V) of joints, bones and their velocities -> (N, C, T, V)
# ---------------------------------------------------------------------------------------------------------------------

class ScaledVelocities(nn.Module):
    """Joints and bones as the stem's norm makes them; velocities divided by the same spreads, times a learned gain."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = BatchNorm(channels // 2)
        self.gain = nn.Parameter(torch.ones(2))  # of each velocity

    def forward(self, x: Tensor) -> Tensor:  # n (s 3) t v
        places, velocities = x.chunk(2, 1)
        variance = places.var((0, 2, 3), unbiased=False) if self.training else self.norm.running_var
        scale = self.gain.repeat_interleave(3) * (variance + self.norm.eps).rsqrt()
        return torch.cat([self.norm(places), velocities * scale[:, None, None]], 1)


class GatedVelocities(nn.Module):
    """The stem's norm; then each velocity times a gate that closes where it jumps from frame to frame."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = BatchNorm(channels)
        self.slope = nn.Parameter(torch.zeros(2, 1))  # of each velocity
        self.offset = nn.Parameter(torch.zeros(2, 1))

    def forward(self, x: Tensor) -> Tensor:  # n (s 3) t v
        y = self.norm(x)
        v = x[:, 6:].unflatten(1, (2, 3))                               # n s 3 t v
        energy = v.square().sum(2).mean(2)                              # n s v
        jumps = v.diff(dim=3).square().sum(2).mean(2)
        roughness = (jumps + 1e-8).log() - (energy + 1e-8).log()        # square metres of a normalised body
        gate = (self.offset + self.slope * roughness).sigmoid()
        gate = gate.repeat_interleave(3, 1)[:, :, None]                 # n (s 3) 1 v
        return torch.cat([y[:, :6], y[:, 6:] * gate], 1)


def fusion_with(norm: type[nn.Module]) -> type[StreamFusion]:
    """A StreamFusion with another norm in front of its convolution."""
    class Fusion(StreamFusion):
        def __init__(self, streams: int, channels: int):
            super().__init__(streams, channels)
            self.norm = norm(3 * streams)
    return Fusion


# ---------------------------------------------------------------------------------------------------------------------
# Velocities over five frames
# ---------------------------------------------------------------------------------------------------------------------

def slope(x: Tensor) -> Tensor:
    """(x[t + 2] - x[t - 2]) / 4 of x (..., T, V, C), T >= 2; where a frame is lacking, over the frames there are."""
    T = x.shape[-3]
    t = torch.arange(T, device=x.device)
    after, before = (t + REACH).clamp(max=T - 1), (t - REACH).clamp(min=0)
    change = x.index_select(-3, after) - x.index_select(-3, before)
    return change / (after - before).clamp(min=1)[:, None, None]


def smoothed_streams(joints: Tensor, parents: Tensor, names: tuple[str, ...] = STREAMS) -> Tensor:
    """derive_streams with velocities over five frames."""
    assert tuple(names) == STREAMS
    places = derive_streams(joints, parents, STREAMS[:2])
    return torch.cat([places, slope(places)], -1)


# ---------------------------------------------------------------------------------------------------------------------
# In place of last.py's own
# ---------------------------------------------------------------------------------------------------------------------

FORMS = {
    "scaled": {"StreamFusion": fusion_with(ScaledVelocities)},
    "smoothed": {"derive_streams": smoothed_streams},
    "gated": {"StreamFusion": fusion_with(GatedVelocities)}}


@contextlib.contextmanager
def streams_as(form: str) -> Iterator[None]:
    """Inside the block, networks are built and run with a form of FORMS; another name changes nothing."""
    own = {name: getattr(last, name) for name in FORMS.get(form, {})}
    try:
        for name, other in FORMS.get(form, {}).items():
            setattr(last, name, other)
        yield
    finally:
        for name, original in own.items():
            setattr(last, name, original)
