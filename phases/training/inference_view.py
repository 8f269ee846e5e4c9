"""The test view of one clip as a module: what phase 4 exports in front of a network."""
from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from phases.training.alignment import Upright, acting, around, centred, extent_scale, gaussian, sample_frames
from phases.training.gaps import Body, cleaned, seen_in
from phases.training.settings import View
from skeletons import Skeleton


class InferenceView(nn.Module):
    """Joints (bodies, L, V, 3) as recorded, any number of bodies and frames -> (M, T, V, 3), as ClipView in tests.

    In metres, y up; (0, 0, 0) or NaN is a missing joint. The first M bodies count, the first is the main one. `rest`
    (V, 3) is the mean body of the training clips (gaps.mean_body), whose joints stand in for those never seen.
    """

    def __init__(self, cfg: View, skeleton: Skeleton, rest: Tensor):
        super().__init__()
        self.cfg = cfg
        self.centre = skeleton.centre
        self.upright = Upright(skeleton, cfg.heading, cfg.trunk_scale)

        # constants; buffers, so that they are part of an exported graph
        body = Body.of(skeleton, rest)
        for name in ("parents", "touches", "order", "rest"):
            self.register_buffer(name, getattr(body, name))
        self.register_buffer("smoothing", gaussian(cfg.smooth) if cfg.smooth else None)

    def forward(self, joints: Tensor) -> Tensor:  # any number of bodies, l v 3
        cfg = self.cfg
        body = Body(self.parents, self.touches, self.order, self.rest)

        # a joint with any number that is none is missing; the bodies of the view, the absent ones zeros
        is_number = (joints.abs() < float("inf")).to(joints.dtype)
        x = torch.where(is_number > 0, joints, 0.0) * is_number.amin(-1, keepdim=True)
        if cfg.bodies > 1:
            absent = torch.zeros_like(x[:1])
            x = torch.cat([x, *[absent] * (cfg.bodies - 1)])
        x = x[:cfg.bodies]

        # without gaps; in all frames
        t = torch.arange(x.shape[1], device=x.device)
        L = t[-1:] + 1
        whole = cleaned(x, L.expand(cfg.bodies), body)  # m l v 3

        # from the first frame that shows a body to the last, all if none does; without standing still
        shown = seen_in(x).amax((0, 2), keepdim=True)[0, :, 0]  # l
        first = shown.argmax(0, keepdim=True)
        last = L - 1 - shown.flip(0).argmax(0, keepdim=True)
        if cfg.still:
            first, last = acting(whole[None], first, last, cfg.still)
        count = last - first + 1
        inside = ((t >= first) & (t < first + count)).to(x.dtype)[None]  # 1 l
        linear = self.upright(whole[:1], inside)

        # the frames, from 0 at `first`
        at = sample_frames(count, cfg.frames, cfg.sampling)  # 1 t
        if self.smoothing is None:
            x = whole.index_select(1, (first + at)[0])
        else:
            near = (first + around(at, count, len(self.smoothing))[0]).reshape(-1)  # (t o)
            x = whole.index_select(1, near).view(cfg.bodies, cfg.frames, len(self.smoothing), len(self.parents), 3)
            x = rearrange(x, "m t o v c -> m t v c o") @ self.smoothing

        # about the centre, turned and scaled
        present = whole.abs().amax((1, 2, 3), keepdim=True).sign()[None]  # 1 m 1 1 1
        x = centred(x[None], self.centre) @ linear
        if cfg.extent:
            x = x * extent_scale(x, present.view(1, cfg.bodies))
        return (x * present)[0]
