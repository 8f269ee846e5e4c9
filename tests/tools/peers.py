"""EfficientGCN-B0, the network that LAST-Lite's speed is compared with (Song et al., TPAMI 2022, arXiv:2106.15125).

Written from the paper's description, with the settings that its authors published for NTU RGB+D; none of their code is
here. Three input branches of 6 channels each (joint, velocity, bone) are fused early:

    branch          norm 6 -> graph 64 -> temporal convolution 64 -> graph 48, attention -> graph 32, attention
    main stream     96 -> graph 64, sandglass / 2, attention -> graph 128, sandglass / 2, attention -> classifier

B0 scales no width and no depth. The branches' half a temporal layer a block rounds to none, and their 24 channels, to a
multiple of 16, give 32. Its temporal layers are the paper's SG (sandglass) layers: 0.29M parameters and 2.73 GFLOPs are
theirs. With the EpSep layers of the paper's first version it is larger, and LAST-Lite's EpSepTCN has no shortcut at
stride 2, graph and attention here have biases, norms and activations that LAST-E's lack; so no block of last.py serves.
"""
from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from last import BatchNorm
from phases.shipping.deploy import scale_and_shift
from skeletons import Skeleton

HOPS = 2  # of the graph: each joint reads joints at most so many bones away
KERNEL = 5  # frames of a temporal convolution
STEM, BRANCH, MAIN = 64, (48, 32), (64, 128)  # channels


# ---------------------------------------------------------------------------------------------------------------------
# Input
# ---------------------------------------------------------------------------------------------------------------------

class Branches(nn.Module):
    """Joints (N, T, V, 3) -> joint, velocity and bone, each (N, 6, T, V).

    joint: the positions, and those from the body's centre; velocity: over two frames and over one, 0 beyond the clip;
    bone: the vector from the parent, and its angles to the axes.
    """

    def __init__(self, skeleton: Skeleton):
        super().__init__()
        self.register_buffer("parents", torch.tensor(skeleton.parents), persistent=False)
        self.register_buffer("centre", torch.tensor(skeleton.centre), persistent=False)

    def forward(self, joints: Tensor) -> list[Tensor]:  # n t v 3
        x = joints.permute(0, 3, 1, 2)  # n 3 t v
        centred = x - x[..., self.centre].mean(3, keepdim=True)
        fast = F.pad(x[:, :, 2:] - x[:, :, :-2], (0, 0, 0, 2))
        slow = F.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 0, 1))
        bone = x - x[..., self.parents]
        angle = torch.acos(bone / (bone.square().sum(1, keepdim=True).sqrt() + 1e-4))
        return [torch.cat(pair, 1) for pair in ((x, centred), (fast, slow), (bone, angle))]


# ---------------------------------------------------------------------------------------------------------------------
# Layers, on maps (N, C, T, V)
# ---------------------------------------------------------------------------------------------------------------------

def conv_norm(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution over time, or without a kernel of channels, and its norm."""
    conv = nn.Conv2d(cin, cout, (kernel, 1), (stride, 1), (kernel // 2, 0), groups=groups)
    return nn.Sequential(conv, BatchNorm(cout))


class GraphLayer(nn.Module):
    """y = Swish(BN(sum_k W_k x (E_k ⊙ A_k)) + R x), k = 0, 1, 2 bones; E is learned, R a 1x1 convolution with norm.

    A_k keeps the pairs k bones apart of A D^-1, where A joins all pairs at most two bones apart.
    """

    def __init__(self, cin: int, cout: int, skeleton: Skeleton):
        super().__init__()
        hops = skeleton.hops
        A = np.stack([hops == k for k in range(HOPS + 1)]) / (hops <= HOPS).sum(0)
        self.register_buffer("A", torch.from_numpy(A).float(), persistent=False)  # k u v
        self.edges = nn.Parameter(torch.ones_like(self.A))
        self.conv = nn.Conv2d(cin, cout * len(A), 1)
        self.norm = BatchNorm(cout)
        self.shortcut = conv_norm(cin, cout)  # in B0 no graph layer keeps its width

    def forward(self, x: Tensor) -> Tensor:  # n c t u
        y = rearrange(self.conv(x), "n (k c) t u -> n k (c t) u", k=len(self.A))
        y = (y @ (self.A * self.edges)).sum(1)  # n (c t) v
        y = rearrange(y, "n (c t) v -> n c t v", t=x.shape[2])
        return F.silu(self.norm(y) + self.shortcut(x))


class StemTemporal(nn.Module):
    """y = Swish(BN(convolution over 5 frames) + x), all channels to all: that of a branch's stem."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv_norm(channels, channels, KERNEL)

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        return F.silu(self.conv(x) + x)


class Sandglass(nn.Module):
    """Depthwise, 1x1 to half the channels, 1x1 back, depthwise with the stride, all with norms; + 1x1 with the stride.

    Swish after the first depthwise convolution and after the widening, as MobileNeXt has it.
    """

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            conv_norm(channels, channels, KERNEL, groups=channels), nn.SiLU(), conv_norm(channels, channels // 2),
            conv_norm(channels // 2, channels), nn.SiLU(),
            conv_norm(channels, channels, KERNEL, stride, groups=channels))
        self.shortcut = conv_norm(channels, channels, stride=stride)

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        return self.body(x) + self.shortcut(x)  # n c t/stride v


class Attention(nn.Module):
    """ST-JointAtt: y = Swish(BN(x ⊙ s_t ⊙ s_v) + x), gates of frames and joints from one squeeze to C/2."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = nn.Sequential(*conv_norm(channels, channels // 2), nn.Hardswish())
        self.frame = nn.Conv2d(channels // 2, channels, 1)
        self.joint = nn.Conv2d(channels // 2, channels, 1)
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        pooled = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)  # n c (t v) 1
        frames, joints = self.squeeze(pooled).split(x.shape[2:], 2)
        s_t = self.frame(frames).sigmoid()  # n c t 1
        s_v = self.joint(joints.transpose(2, 3)).sigmoid()  # n c 1 v
        return F.silu(self.norm(x * (s_t * s_v)) + x)


# ---------------------------------------------------------------------------------------------------------------------
# The network
# ---------------------------------------------------------------------------------------------------------------------

class EfficientGCN(nn.Module):
    """Joints (B, M, T, V, 3) -> logits (B, K). It averages all M bodies, absent ones too, as its authors do."""

    def __init__(self, skeleton: Skeleton, num_classes: int):
        super().__init__()
        self.inputs = Branches(skeleton)

        # three branches of the same layers, each with weights of its own
        self.branches = nn.ModuleList()
        for _ in range(3):
            branch = nn.Sequential(BatchNorm(6), GraphLayer(6, STEM, skeleton), StemTemporal(STEM))
            width = STEM
            for cout in BRANCH:
                branch.extend([GraphLayer(width, cout, skeleton), Attention(cout)])
                width = cout
            self.branches.append(branch)

        # what they give side by side enters the main stream
        self.main = nn.Sequential()
        width *= 3
        for cout in MAIN:
            self.main.extend([GraphLayer(width, cout, skeleton), Sandglass(cout, 2), Attention(cout)])
            width = cout
        self.dropout = nn.Dropout(0.25)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, joints: Tensor) -> Tensor:  # b m t v 3
        streams = self.inputs(joints.flatten(0, 1))
        x = torch.cat([branch(x) for branch, x in zip(self.branches, streams, strict=True)], 1)
        x = self.main(x).mean((2, 3))  # (b m) c
        return self.classifier(self.dropout(x.unflatten(0, joints.shape[:2]).mean(1)))


@torch.no_grad()
def deployed(model: EfficientGCN) -> EfficientGCN:
    """The network for inference, its norms folded into the convolutions beside them, as phase 4 does with ours.

    The norms of the attention stay: they come after a product of maps.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)

    # a norm after a convolution
    for part in list(model.modules()):
        if isinstance(part, nn.Sequential) and isinstance(part[0], nn.Conv2d):
            part[0] = fuse_conv_bn_eval(part[0], part[1])
            part[1] = nn.Identity()

    # that of a graph layer: its scale into the convolution before the graph, its shift into the shortcut's bias
    for part in model.modules():
        if isinstance(part, GraphLayer):
            scale, shift = scale_and_shift(part.norm)
            scale = scale.repeat(len(part.A))
            part.conv.weight *= scale[:, None, None, None]
            part.conv.bias *= scale
            part.shortcut[0].bias += shift
            part.norm = nn.Identity()
            part.A *= part.edges
            part.edges.fill_(1)

    # a branch's first norm, into both convolutions that read it
    for branch in model.branches:
        scale, shift = scale_and_shift(branch[0])
        for conv in (branch[1].conv, branch[1].shortcut[0]):
            conv.bias += conv.weight[:, :, 0, 0] @ shift
            conv.weight *= scale[:, None, None]
        branch[0] = nn.Identity()
    return model
