"""The deploy form of a network: a plain module for inference with every constant of the trained network folded.

`deploy` makes it: joints (B, M, T, V, 3) -> logits (B, K) and features (B, C). LAST-Lite's maps lie in memory as
(B, C, V, T), so that the shift copies whole rows of T and the DCT gate is two matrix products.

The names of the parts end up in the ONNX file, and in the report of phase 4.
"""
from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from last import InformationBottleneck, LastLite, LiteTrunk, ShiftFuseBlock, StreamFusion, TemporalConv, bodies_present
from phases.training.parts import Parts

# ---------------------------------------------------------------------------------------------------------------------
# Folding a batch norm into the layer before or after it
# ---------------------------------------------------------------------------------------------------------------------

def scale_and_shift(norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """(scale (C,), shift (C,)) of a batch norm in evaluation: y = scale · x + shift."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def fold_norm_after(conv: nn.Conv2d, norm: nn.Module, causal: bool = False) -> nn.Module:
    """A convolution (k, 1) and the norm after it as one convolution (1, k) on (B, C, V, T); pads like TemporalConv."""
    scale, shift = scale_and_shift(norm)
    k = conv.kernel_size[0]
    stride = (1, conv.stride[0])
    padding = (0, 0 if causal else k // 2)

    # time is the last axis here, so the kernel is transposed
    folded = nn.Conv2d(conv.in_channels, conv.out_channels, (1, k), stride, padding, groups=conv.groups)
    folded.weight.data = (conv.weight * scale[:, None, None, None]).transpose(2, 3).contiguous()
    folded.bias.data = shift

    # causal: all the padding is before the first frame
    if causal and k > 1:
        return nn.Sequential(nn.ZeroPad2d((k - 1, 0, 0, 0)), folded)
    return folded


def fold_norm_before(norm: nn.Module, weight: Tensor) -> nn.Conv2d:
    """A norm and the 1x1 convolution after it, weight (C, C_in), as one convolution."""
    scale, shift = scale_and_shift(norm)
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    conv.weight.data = (weight * scale)[:, :, None, None]
    conv.bias.data = weight @ shift
    return conv


def fold_stream_fusion(fusion: StreamFusion) -> nn.Conv2d:
    """A StreamFusion as one convolution: its norms, the shared 1x1 stem and the softmax over the streams."""
    weight = torch.einsum("sc,ck->csk", fusion.weights.softmax(0), fusion.stem).flatten(1)  # c (s 3)
    return fold_norm_before(fusion.norm, weight)


def fold_head(head: nn.Module) -> nn.Linear:
    """Norm and classifier of a Head as one linear layer. In evaluation an information bottleneck is linear too."""
    # the classifier as one layer
    if isinstance(head.classifier, InformationBottleneck):
        bottleneck = head.classifier
        weight = bottleneck.linear.weight @ bottleneck.mu.weight
        bias = bottleneck.linear.weight @ bottleneck.mu.bias + bottleneck.linear.bias
    else:
        weight = head.classifier.weight
        bias = head.classifier.bias

    # and the norm before it
    scale, shift = scale_and_shift(head.norm)
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight.data = weight * scale
    linear.bias.data = weight @ shift + bias
    return linear


def fold_norms_in_place(steps: nn.Sequential) -> None:
    """Fold each batch norm that follows a convolution into it; an identity takes the norm's place."""
    for i in range(1, len(steps)):
        conv = steps[i - 1].conv if isinstance(steps[i - 1], TemporalConv) else steps[i - 1]
        if isinstance(conv, nn.Conv2d) and isinstance(steps[i], nn.BatchNorm2d):
            scale, shift = scale_and_shift(steps[i])
            conv.weight.data = conv.weight * scale[:, None, None, None]
            conv.bias = nn.Parameter(shift)
            steps[i] = nn.Identity()


# ---------------------------------------------------------------------------------------------------------------------
# LAST-Lite
# ---------------------------------------------------------------------------------------------------------------------

class DeployBlock(nn.Module):
    """A ShiftFuseBlock on maps (B, C, V, T). Embedding, mask and gate of its stage become constants of the block.

    y = Hardswish(mix(shift(x))) + embedding -> D^T (sigmoid(mask) ⊙ D y) -> tcn -> · sigmoid(gate); + residual.
    """

    def __init__(self, block: ShiftFuseBlock, embedding: Tensor | None, mask: Tensor | None, gate: Tensor | None,
                 causal: bool):
        super().__init__()
        shift, conv, norm, _ = block.mix
        C = conv.in_channels
        V = len(shift.flat) // C
        self.joints = V
        self.stride = block.stride
        self.extra = block.extra

        # the shift, as the row of (C V) that each row reads; the block's own table counts in (V C)
        joint_read = (shift.flat.view(V, C) - torch.arange(C)).T // C  # c v
        self.register_buffer("index", (torch.arange(C)[:, None] * V + joint_read).flatten().int())
        self.mix = fold_norm_after(conv, norm)

        # the constants of the stage
        self.embedding = None if embedding is None else nn.Buffer(embedding[:, :, None])  # c v 1
        self.D = None if mask is None else nn.Buffer(block.dct.D)  # k t
        self.mask = None if mask is None else nn.Buffer(mask[:, :len(block.dct.D)].sigmoid()[:, None])  # c 1 k
        self.gate = None if gate is None else nn.Buffer(gate.sigmoid()[:, None])  # c 1 t

        # the convolution over time
        expand, norm1, _, temporal, norm2, _, project, norm3 = block.tcn.body
        expand = fold_norm_after(expand, norm1)
        temporal = fold_norm_after(temporal.conv, norm2, causal)
        self.tcn = nn.Sequential(expand, nn.Hardswish(), temporal, nn.Hardswish(), fold_norm_after(project, norm3))

    def forward(self, x: Tensor) -> Tensor:  # b c v t
        # shift and mix
        y = x.flatten(1, 2).index_select(1, self.index)  # b (c v) t
        y = F.hardswish(self.mix(y.unflatten(1, (-1, self.joints))))

        # joint embedding, DCT gate, convolution over time, frame gate
        if self.embedding is not None:
            y = y + self.embedding
        if self.D is not None:
            y = (y @ self.D.T * self.mask) @ self.D
        y = self.tcn(y) + y if self.stride == 1 else self.tcn(y)
        if self.gate is not None:
            y = y * self.gate

        # the residual: pooling an even length gives one frame too many, new channels are zeros
        if self.stride == 2:
            x = F.avg_pool2d(x, (1, 2), padding=(0, 1), count_include_pad=False)[:, :, :, :y.shape[3]]
        return y + F.pad(x, (0, 0, 0, 0, 0, self.extra))


class DeployLite(nn.Module):
    """Bodies (N, T, V, 3) -> the last map (N, C, V, T) of a LAST-Lite. The graph derives its streams itself."""

    def __init__(self, model: LiteTrunk, causal: bool):
        super().__init__()
        self.register_buffer("parents", model.parents.int())
        self.streams = model.streams
        second = getattr(model, "second", None)  # of a pair
        self.second = None if second is None else DeployLite(second, causal)
        self.stem = fold_stream_fusion(model.stem)
        self.blocks = nn.Sequential()
        for stage in model.stages:
            for block in stage.blocks:
                self.blocks.append(DeployBlock(block, stage.embedding, stage.mask, stage.gate, causal))

    def forward(self, joints: Tensor) -> Tensor:  # n t v 3
        x = self.blocks(self.stem(self.derived(joints.permute(0, 3, 2, 1))))
        return x if self.second is None else torch.cat([x, self.second(joints)], 1)

    def derived(self, x: Tensor) -> Tensor:  # n 3 v t
        """Streams (N, 3·S, V, T) of joints, in the network's order: see derive_streams."""
        def velocity(x: Tensor) -> Tensor:
            return F.pad(x[..., 1:] - x[..., :-1], (0, 1))

        # only what the network reads becomes part of the graph
        streams = {"joint": x}
        if {"bone", "bone_velocity"} & set(self.streams):
            streams["bone"] = x - x.index_select(2, self.parents)
        if "velocity" in self.streams:
            streams["velocity"] = velocity(x)
        if "bone_velocity" in self.streams:
            streams["bone_velocity"] = velocity(streams["bone"])
        return torch.cat([streams[name] for name in self.streams], 1)


# ---------------------------------------------------------------------------------------------------------------------
# The other networks, and the whole
# ---------------------------------------------------------------------------------------------------------------------

class DeployPlain(nn.Module):
    """Bodies (N, T, V, 3) -> the last map (N, C, T, V) of a LAST-Base or LAST-E.

    The network itself, with the stem's norms and every norm right after a convolution folded into that convolution.
    """

    def __init__(self, model: nn.Module, causal: bool):
        super().__init__()
        model = copy.deepcopy(model)
        for part in model.modules():
            if isinstance(part, TemporalConv):
                part.causal = causal
            if isinstance(part, nn.Sequential):
                fold_norms_in_place(part)

        # the stem's norm is before its convolution
        if isinstance(model.stem, StreamFusion):
            model.stem = fold_stream_fusion(model.stem)
        else:
            norm, conv = model.stem[0], model.stem[1]
            model.stem = fold_norm_before(norm, conv.weight.flatten(1))
        self.model = model

    def forward(self, joints: Tensor) -> Tensor:
        return self.model.features(joints)[-1]


class Deployed(nn.Module):
    """Joints (B, M, T, V, 3) -> logits (B, K) and features (B, C): the module that is exported.

    Features are what enters the head's norm; or, with `parts`, what these make of the last map. Absent bodies, all
    zeros, do not count.
    """

    def __init__(self, features: nn.Module, head: nn.Module, parts: Parts | None = None):
        super().__init__()
        self.features = features
        self.linear = fold_head(head)
        self.gate = nn.Buffer(head.gate.sigmoid())
        self.parts = parts

    def forward(self, joints: Tensor) -> tuple[Tensor, Tensor]:  # b m t v 3
        x = self.features(joints.flatten(0, 1))  # (b m) c v t, or (b m) c t v
        pooled = self.gate * x.mean((2, 3)) + (1 - self.gate) * x.amax((2, 3))  # (b m) c
        pooled = over_bodies(pooled, joints)
        if self.parts is None:
            return self.linear(pooled), pooled

        if isinstance(self.features, DeployLite):  # its frames come last
            x = x.transpose(2, 3)
        return self.linear(pooled), over_bodies(self.parts(x), joints)


def over_bodies(x: Tensor, joints: Tensor) -> Tensor:
    """The mean (B, C) of what (B·M, C) the bodies of joints (B, M, T, V, 3) give, of those that are present."""
    M = joints.shape[1]
    if M == 1:
        return x
    present = bodies_present(joints)  # b m
    return (x.unflatten(0, (-1, M)) * present[:, :, None]).sum(1) / present.sum(1, keepdim=True)


@torch.no_grad()
def deploy(model: nn.Module, causal: bool = False, parts: Parts | None = None) -> Deployed:
    """The deploy form of a trained network, which stays as it is: joints (B, M, T, V, 3) -> logits and features."""
    model = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    features = DeployLite(model, causal) if isinstance(model, LastLite) else DeployPlain(model, causal)
    return Deployed(features, model.head, parts).eval().requires_grad_(False)
