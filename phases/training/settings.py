"""The settings of a view: how a recorded clip becomes what a network sees."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

Probability = Annotated[float, (0, 1)]
SEEN = (  # fields of the test view
    "frames", "bodies", "sampling", "still", "smooth", "heading", "trunk_scale", "extent")


@dataclass(frozen=True)
class View:
    """How a clip becomes (M, T, V, 3)."""
    frames: Annotated[int, (1, 10_000)] = 64        # T
    bodies: Annotated[int, (1, 2)] = 1              # M
    sampling: Literal["uniform", "crop", "stretch"] = "stretch"
    still: Annotated[float, (0, 10)] = 0.1          # metres: ends where no joint moves farther are left out; 0: none
    smooth: Annotated[float, (0, 100)] = 0.0        # Gaussian over time: standard deviation in recorded frames
    heading: bool = False            # turn the main body, by its mean over the clip, to face one way
    trunk_scale: bool = False        # the trunk, shoulders to hips on the mean of the clip, becomes 0.5 long
    extent: bool = False             # scale the augmented clip so that its bounding box's longest side is 2
    # training only: another camera, another person
    window: Annotated[float, (0.01, 1)] = 1.0       # take a random section of at least this share (not with crop)
    rotate: tuple[float, float, float] = (15.0, 15.0, 15.0)  # degrees about x, y, z, uniform in ±
    scale: Annotated[float, (0, 0.99)] = 0.1        # all axes alike, 1 ± this
    flip: Probability = 0.0          # of mirroring the body
    swap: Probability = 0.0          # of swapping the labels left and right, as a sensor may from behind
    flat: Probability = 0.0          # of losing the depth, as a picture does
    mix: Probability = 0.0           # of blending a clip with another of its batch, labels by share
    # training only: what cameras do to a clip (damage.py)
    missing: Probability = 0.5       # of losing joints or frames
    noise: Probability = 0.03        # metres: standard deviation of each coordinate, a clip's own in 0 to this
    spikes: Probability = 0.02       # share of joint-frames that jump away, a clip's own in 0 to this
    idle: Annotated[float, (0, 10)] = 0.7           # standing still: up to this many clip lengths before and after
    tempo: Annotated[float, (0, 2)] = 0.0           # faster first, then slower, or the reverse: s -> s^(2^±this)
