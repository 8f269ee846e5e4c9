"""LAST: small and strong skeleton-based action recognisers. Networks, losses and trainer in this single file.

Joints of a body over time go in, the name of an action comes out. Read from top to bottom: a section uses only names
from earlier sections.

    1. Settings           of the networks (Model) and of a training (Train)
    2. Streams            bone, velocity and bone velocity, derived from joints
    3. Blocks             temporal convolution, causal mode, DCT, stream fusion, head
    4. LAST-Lite          ShiftFuse-GCN: fixed compute, at most 190K (small), 120K (pair) or 64K (nano) parameters
    5. LAST-Base          the teacher, four networks of 4.1M parameters, one per stream: adaptive graphs, attention
    6. LAST-E v3          the fallback teacher, 740K parameters, for when LAST-Base is too expensive
    7. Losses             cross-entropy of blended clips, the bottleneck's loss
    8. Several processes  one per GPU; batch norms and losses give the values that a single process would
    9. Trainer            fit(model, batches, loss_fn, ...): resumable, on a CPU in FP32 to the same bits

Bodies as data are in skeletons.py, batches of clips come from phases/training/view.py; the programs in phases/ train,
distil, pretrain and export. Rows L0, B7 and so on are recipes of the ablation tables: each switches one piece.

Axis letters, capital in docstrings, small in einops patterns and comments (after a def: of its arguments):

    b clip · m body of a clip · n body of any clip, at most b·m · c channel · t frame · v joint
    k hop, frequency bin, prototype or class · h attention head · d head width · s stream · r body region
    u joint that is read · o frame offset · p neighbour slot · g channel group · l latent coordinate · i hidden unit

References: ST-GCN (Yan et al., AAAI 2018, arXiv:1801.07455); Shift-GCN (Cheng et al., CVPR 2020); SGN (Zhang et al.,
CVPR 2020, arXiv:1904.01189); MS-G3D (Liu et al., CVPR 2020, arXiv:2003.14111); CTR-GCN (Chen et al., ICCV 2021,
arXiv:2107.12213); EfficientGCN (Song et al., TPAMI 2022, arXiv:2106.15125); HD-GCN (Lee et al., ICCV 2023,
arXiv:2208.10741); HI-GCN (Zhang et al., Sci. Rep. 2025, doi:10.1038/s41598-025-19399-4).
"""
from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

# oneDNN caches compiled kernels per input shape. Training drops absent second bodies, so two-body batches all differ in
# shape, and the default cache grows to gigabytes.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from phases.common.files import atomic, check_zip, damaged, locked, read_log, write_json
from phases.common.memory import keep_freed_memory
from phases.common.progress import loss_is_back, progress_bar
from phases.common.recipes import current_weights, differences
from skeletons import Skeleton

# --- 1. Settings: the annotation of a field holds its choices or its range --------------------------------------------
STREAMS = ("joint", "bone", "velocity", "bone_velocity")
Share = Annotated[float, (0, 0.99)]
Probability = Annotated[float, (0, 1)]
Rate = Annotated[float, (0, 100)]


@dataclass(frozen=True)
class Model:
    """Which network, and the switches of its ablation rows."""
    name: Literal["lite", "base", "last_e"] = "lite"
    dropout: Share = 0.15                                       # of the head
    streams: Annotated[tuple[str, ...], STREAMS] = ("joint", "bone")    # that LAST-Lite or LAST-E fuses
    # LAST-Lite
    variant: Literal["nano", "pair", "small"] = "small"         # pair: two nano trunks, places and velocities
    shift: Literal["region", "random"] = "region"
    joint_embedding: bool = True
    dct_gate: bool = True
    frame_gate: bool = True
    # LAST-Base; LAST-E reads the last two
    stream: Literal["joint", "bone", "velocity", "bone_velocity"] = "joint"
    width: Annotated[int, (8, 4096)] = 128                      # of stage 1, by fours; then two and three times it
    graph: Literal["grouped", "spatial"] = "grouped"            # CrossTemporalPrototypeGCN, SpatialGCN
    temporal_context: bool = True                               # the body's own graph A(x), from nearby frames
    prototypes: bool = True                                     # A(x) from the bank of graphs that blocks share
    frequency_gate: bool = True
    attention: Literal["partitioned", "factorized", "none"] = "partitioned"    # factorized: STJointAtt
    regions: bool = True
    bottleneck: bool = True                                     # InformationBottleneck in the head
    drop_path: Share = 0.2                                      # of the last block, rising from 0


@dataclass(frozen=True)
class Train:
    """How a network is trained. Learning rates refer to one optimiser step, that is batch * accumulate clips."""
    epochs: Annotated[int, (1, 100_000)] = 120
    batch: Annotated[int, (1, 100_000)] = 64
    accumulate: Annotated[int, (1, 10_000)] = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"                  # SGD with Nesterov momentum 0.9
    lr: Annotated[float, (1e-12, 100)] = 0.1
    warmup_epochs: Annotated[int, (0, 100_000)] = 5
    warmup_lr: Rate = 0.01
    min_lr: Rate = 1e-4
    trunk_lr: Probability = 1.0                                 # share of the rate, of all but head.classifier
    head_epochs: Annotated[int, (0, 100_000)] = 0               # in the first epochs head.classifier alone learns
    weight_decay: Annotated[float, (0, 10)] = 1e-4              # of linear layers and convolutions only, with SGD
    adamw_decay: Annotated[float, (0, 10)] = 0.05               # the same for AdamW: decoupled, so not comparable
    grad_clip: Annotated[float, (0, 1e6)] = 1.0                 # gradient norm; 0: off
    label_smoothing: Share = 0.0
    balanced: bool = False                                      # an epoch as long as without, classes equally often
    ib_weight: Rate = 0.01                                      # of bottleneck_loss, times its own two weights
    amp: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    average: Literal["none", "swa", "ema"] = "none"
    swa_start: Probability = 0.75                               # share of the epochs after which SWA averages
    swa_lr: Rate = 0.0                                          # constant rate then; 0: the cosine's value at swa_start
    ema_decay: Probability = 0.999                              # per optimiser step
    causal: Probability = 0.0                                   # of an optimiser step to be causal
    compile: bool = False
    save_seconds: Annotated[float, (0, 1e9)] = 300.0            # last.pt is written each epoch, and this often within


# --- 2. Streams -------------------------------------------------------------------------------------------------------

def derive_streams(joints: Tensor, parents: Tensor, names: tuple[str, ...] = STREAMS) -> Tensor:
    """Streams (..., T, V, 3·S) of joints (..., T, V, 3), in the order of `names`.

    bone = J[child] - J[parent] (root: 0); velocity = J[t+1] - J[t] (last frame: 0); bone_velocity is the velocity of
    the bones. All are linear in J: turning or scaling the joints does the same to every stream.
    """
    def velocity(x: Tensor) -> Tensor:
        return F.pad(x[..., 1:, :, :] - x[..., :-1, :, :], (0, 0, 0, 0, 0, 1))

    # bones always, their velocity needs them; velocities if asked for
    bone = joints - joints[..., parents, :]
    streams = {"joint": joints, "bone": bone}
    if "velocity" in names:
        streams["velocity"] = velocity(joints)
    if "bone_velocity" in names:
        streams["bone_velocity"] = velocity(bone)
    return torch.cat([streams[name] for name in names], dim=-1)


# --- 3. Blocks that the networks share --------------------------------------------------------------------------------

def pointwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution of (N, C, T, V) with weight (D, C, 1, 1) and bias (D,).

    On a GPU a matrix product over channels-last maps: cuDNN plans a convolution anew for each shape, and the number of
    bodies changes it. Planning was half of LAST-Lite's step (results/speed.md). On a CPU it pays if C, D > 96.
    """
    if x.is_cuda or min(weight.shape[:2]) > 96:
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias)


class Conv1x1(nn.Conv2d):
    """A 1x1 convolution, which starts without a bias; the deploy form gives it one."""

    def __init__(self, cin: int, cout: int):
        super().__init__(cin, cout, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        return pointwise_conv(x, self.weight, self.bias)


class BatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d that does not count its batches: a count in every norm is a kernel to launch in every step."""

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training,
                            self.momentum, self.eps)


class TemporalConv(nn.Module):
    """Convolution over the frames of (N, C, T, V), padded so that T frames give ceil(T / stride).

    Causal mode pads all (kernel - 1)·dilation frames on the left: output t then depends on no input after t·stride.
    """

    def __init__(self, cin: int, cout: int, kernel: int = 5, stride: int = 1, dilation: int = 1, groups: int = 1):
        super().__init__()
        assert kernel % 2, "an even kernel has no middle"
        self.conv = nn.Conv2d(cin, cout, (kernel, 1), (stride, 1), dilation=(dilation, 1), groups=groups, bias=False)
        self.reach = (kernel - 1) * dilation
        self.causal = False

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        conv = self.conv
        # as many frames before as after; in causal mode all before
        frames = math.ceil(x.shape[2] / conv.stride[0])
        pad = self.reach if self.causal else self.reach // 2

        # a contiguous input selects PyTorch's depthwise kernel; cuDNN's takes twice as long
        if x.is_cuda and conv.groups > 1:
            x = x.contiguous()

        # conv2d pads both ends; causal padding adds frames at the end: cut them off
        y = F.conv2d(x, conv.weight, conv.bias, conv.stride, (pad, 0), conv.dilation, conv.groups)
        return y[:, :, :frames]


@contextlib.contextmanager
def causal(model: nn.Module, on: bool = True):
    """Inside the block every TemporalConv of the model is causal (or not); on exit each is as before.

    Not causal: DCT gates, the head, attention and AdaptiveGraph see the whole clip, velocities one frame ahead.
    """
    # blocks may nest, as a teacher's in a student's step: remember what each was
    convs = [m for m in model.modules() if isinstance(m, TemporalConv)]
    before = [m.causal for m in convs]
    try:
        for m in convs:
            m.causal = on
        yield model
    finally:
        for m, was in zip(convs, before, strict=True):
            m.causal = was


def dct_matrix(T: int) -> Tensor:
    """Orthonormal DCT-II matrix (T, T): D @ x is the spectrum of x, D.T @ X the signal of X."""
    k, t = torch.meshgrid(torch.arange(T, dtype=torch.float64), torch.arange(T, dtype=torch.float64), indexing="ij")
    D = (2 / T) ** 0.5 * torch.cos(math.pi * (t + 0.5) * k / T)
    D[0] /= 2 ** 0.5
    return D.float()


class EpSepTCN(nn.Module):
    """1x1 expansion -> depthwise k = 5 over time (carries the stride) -> 1x1 projection; at stride 1 plus its input.

    EfficientGCN's inverted bottleneck; batch norms and Hardswish between.
    """

    def __init__(self, channels: int, stride: int = 1, expand: int = 2, kernel: int = 5):
        super().__init__()
        wide = channels * expand
        self.residual = stride == 1
        self.body = nn.Sequential(
            Conv1x1(channels, wide), BatchNorm(wide), nn.Hardswish(),
            TemporalConv(wide, wide, kernel, stride, groups=wide), BatchNorm(wide), nn.Hardswish(),
            Conv1x1(wide, channels), BatchNorm(channels))

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        y = self.body(x)  # n c t/stride v
        return x + y if self.residual else y


class StreamFusion(nn.Module):
    """Early fusion: one BatchNorm per stream, one shared 1x1 stem 3 -> C, a softmax over the streams for each channel.

    y[c] = sum_s softmax(w)[s, c] · (W BN_s(x_s))[c], computed as one convolution of the 3·S stream channels.
    """

    def __init__(self, streams: int, channels: int):
        super().__init__()
        self.norm = BatchNorm(3 * streams)  # treats channels separately: S norms side by side
        self.stem = nn.Parameter(torch.randn(channels, 3) / 3 ** 0.5)
        self.weights = nn.Parameter(torch.zeros(streams, channels))

    def forward(self, x: Tensor) -> Tensor:  # n (s 3) t v
        # the sum over streams and the stem are one 1x1 convolution, whose kernel follows from both
        share = rearrange(self.weights.float().softmax(0), "s c -> c s 1")
        kernel = rearrange(self.stem[:, None] * share, "c s xyz -> c (s xyz) 1 1")
        return pointwise_conv(self.norm(x), kernel.to(x.dtype))  # n c t v


class ClipNorm(nn.BatchNorm1d):
    """Batch norm over clips (B, C). A single clip has no variance: it is normalised by the running statistics."""

    def forward(self, x: Tensor) -> Tensor:  # b c
        in_training = self.training and len(x) > 1
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, in_training,
                            self.momentum, self.eps)


class Head(nn.Module):
    """g · mean + (1 - g) · max over (T, V), g learned per channel -> mean of the bodies -> norm, dropout, classifier.

    `pool` does the first step, `forward` the rest. LAST-Base and LAST-E may put a bottleneck in the classifier's place.
    """

    def __init__(self, channels: int, num_classes: int, dropout: float, halves: int = 1):
        super().__init__()
        self.halves = halves
        self.gate = nn.Parameter(torch.zeros(channels))  # starts half mean, half maximum
        self.norm = ClipNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def pool(self, x: Tensor) -> Tensor:  # n c t v
        x = x.permute(0, 2, 3, 1)  # the mean's gradient is then channels-last, as are those of all maps
        return torch.lerp(x.amax((1, 2)), x.mean((1, 2)), self.gate.sigmoid().to(x.dtype))  # n c

    def forward(self, pooled: Tensor, present: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # b m c, b m
        mean = pooled.squeeze(1)  # b c if M = 1
        if pooled.shape[1] > 1:
            mean = (pooled * present[..., None]).sum(1) / present.sum(1, keepdim=True)  # b c
        z = self.dropout(self.norm(mean))
        if not self.training or self.halves == 1:
            return self.classifier(z)  # b k; in training a bottleneck gives (b k, its z)
        # 2·b k: each half of the channels learns alone; the mean of their logits is what the classifier gives
        z, weight = (x.unflatten(1, (self.halves, -1)) for x in (z, self.classifier.weight))
        return (self.halves * torch.einsum("bhc,khc->hbk", z, weight) + self.classifier.bias).flatten(0, 1)


def bodies_present(joints: Tensor) -> Tensor:
    """(B, M) 1 for a body with any non-zero joint, else 0. The first body always counts: a mean over bodies exists."""
    first = joints.new_ones(joints.shape[0], 1)
    if joints.shape[1] == 1:
        return first
    others = (joints[:, 1:] != 0).flatten(2).any(2)
    return torch.cat([first, others.to(joints.dtype)], 1)


def classify(model: nn.Module, joints: Tensor, drop_absent: bool) -> tuple[Tensor | tuple, list[Tensor]]:
    """(output of the head, stage maps) of a network for joints (B, M, T, V, 3).

    drop_absent, for training: absent bodies enter no batch-norm statistics and cost no time. The maps are then those of
    the bodies present, in order, else all B·M.
    """
    # clips -> bodies: a network sees one at a time
    present = bodies_present(joints)  # b m
    bodies = rearrange(joints, "b m t v c -> (b m) t v c")

    # skipped bodies pool to zeros; the head ignores absent ones either way
    if drop_absent and joints.shape[1] > 1:
        chosen = present.flatten().nonzero().squeeze(1)
        maps = model.features(bodies[chosen])
        pooled = model.head.pool(maps[-1])
        pooled = pooled.new_zeros(len(bodies), pooled.shape[1]).index_copy(0, chosen, pooled)
    else:
        maps = model.features(bodies)
        pooled = model.head.pool(maps[-1])

    # bodies -> clips
    pooled = rearrange(pooled, "(b m) c -> b m c", b=len(joints))
    return model.head(pooled, present), maps


class Network(nn.Module):
    """Joints (B, M, T, V, 3) -> logits (B, K). A subclass adds its stem, stages and head."""
    drop_absent = False  # true: absent bodies enter no batch-norm statistics, as in training

    def __init__(self, streams: tuple[str, ...], skeleton: Skeleton):
        super().__init__()
        self.streams = tuple(streams)
        self.register_buffer("parents", torch.tensor(skeleton.parents), persistent=False)

    def features(self, bodies: Tensor, *shared: Tensor | None) -> list[Tensor]:  # n t v 3, what all blocks share
        """Feature maps (N, C, T', V) at the end of each stage."""
        # the rearrange leaves channels last in memory, and blocks keep that layout on a CPU, gradients too: shifts, 1x1
        # convolutions, DCT products, norms and sums then read whole rows
        streams = derive_streams(bodies, self.parents, self.streams)
        x = self.stem(rearrange(streams, "n t v c -> n c t v"))
        # the end of each stage is kept: students imitate a teacher's, and encoders are judged by them
        maps = []
        for stage in self.stages:
            x = stage(x, *shared)
            maps.append(x)
        return maps

    def forward(self, joints: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # b m t v 3
        return classify(self, joints, self.training or self.drop_absent)[0]


# --- 4. LAST-Lite (ShiftFuse-GCN): fixed compute, every body runs the same operations with the same weights ---------

NANO = 24, ((32, 1, 1), (48, 1, 2), (64, 1, 2))  # width of the stem; (width, blocks, stride) of each stage
LITE = {"nano": NANO, "pair": NANO, "small": (32, ((48, 1, 1), (72, 2, 2), (96, 2, 2)))}


class JointShift(nn.Module):
    """y[c, t, v] = x[c, t, table[c, v]]: a fixed gather without parameters (after Shift-GCN). Maps (N, C, T, V).

    table: Skeleton.region_shift, within arms, legs, trunk and to neighbours; or random_shift.
    """

    def __init__(self, table: np.ndarray):
        super().__init__()
        C, V = table.shape
        flat = torch.from_numpy(table).T * C + torch.arange(C)  # v c: index of (table[c, v], c) in the flattened (v c)
        self.register_buffer("flat", flat.flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        # one gather for all channels: each frame is a row of v · c numbers
        t, v = x.shape[2:]
        x = rearrange(x, "n c t v -> (n t) (v c)").index_select(1, self.flat)
        return rearrange(x, "(n t) (v c) -> n c t v", t=t, v=v)


def by_rows(op: Callable, x: Tensor, shared: Tensor) -> Tensor:  # n c t v, what broadcasts to c t v
    """op(x, shared); all maps share the latter. A CPU sums its gradient much faster if it is as large as one map."""
    if x.is_cuda:
        return op(x, shared)
    x = x.permute(0, 2, 3, 1)
    return op(x, torch.empty_like(x[0], dtype=shared.dtype).copy_(shared.permute(1, 2, 0))).permute(0, 3, 1, 2)


class DCTGate(nn.Module):
    """y = D^T (sigmoid(m) ⊙ D x) over time: a learned filter per channel, the same for every body.

    The stage owns m (C, K), and passes sigmoid(m) as the mask; m = 0 gives y = x / 2. A block of T < K frames uses its
    first T bins: bin k has k half-waves per clip at any T, so bins of different T match.
    """

    def __init__(self, frames: int):
        super().__init__()
        self.register_buffer("D", dct_matrix(frames), persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # n c t v, c k in 0 to 1
        # to frequency, filtered, and back; D is (frequency, time)
        v = x.shape[3]
        kept = rearrange(mask[:, :len(self.D)], "c k -> c k 1")
        with torch.autocast(x.device.type, enabled=False):  # DCT products stay in FP32
            y = self.D @ rearrange(x.float(), "n c t v -> n t (v c)")
            y = by_rows(torch.mul, rearrange(y, "n k (v c) -> n c k v", v=v), kept.float())
            y = self.D.T @ rearrange(y, "n c k v -> n k (v c)")
        return rearrange(y, "n t (v c) -> n c t v", v=v).to(x.dtype)


class ShiftFuseBlock(nn.Module):
    """Shift -> 1x1, BN, Hardswish -> + joint embedding -> DCT gate -> EpSepTCN (stride) -> frame gate; + residual.

    The residual has no parameters: x itself, at stride 2 the mean of frames 2t - 1 and 2t; new channels are zeros. It
    reads no frame after 2t, as in causal mode. The stage passes what its blocks share: embedding (C, V), mask (C, K)
    and gate (C, T'), both in 0 to 1; K frames enter the stage, T' leave it.
    """

    def __init__(self, table: np.ndarray, cout: int, frames: int, stride: int):
        super().__init__()
        cin = len(table)
        self.stride = stride
        self.extra = cout - cin
        self.mix = nn.Sequential(JointShift(table), Conv1x1(cin, cout), BatchNorm(cout), nn.Hardswish())
        self.dct = DCTGate(frames)
        self.tcn = EpSepTCN(cout, stride)

    def forward(self, x: Tensor, embedding: Tensor | None, mask: Tensor | None, gate: Tensor | None) -> Tensor:
        # over joints: read other joints, mix channels, add which joint it is
        y = self.mix(x)  # n c t v
        if embedding is not None:
            y = by_rows(torch.add, y, rearrange(embedding, "c v -> c 1 v"))
        # over time: which frequencies, then neighbouring frames, then which frames
        if mask is not None:
            y = self.dct(y, mask)
        y = self.tcn(y)  # n c t/stride v
        if gate is not None:
            y = by_rows(torch.mul, y, rearrange(gate, "c t -> c t 1"))
        return y + self.residual(x, y.shape[2])

    def residual(self, x: Tensor, frames: int) -> Tensor:  # n c t v
        if self.stride == 2:
            # on a GPU, torch before 2.14 gives wrong gradients for channels-last maps with padding (pytorch #188344)
            x = x.contiguous() if x.is_cuda else x
            x = F.avg_pool2d(x, (2, 1), padding=(1, 0), count_include_pad=False)

        # pooling an even length gives one frame too many; a negative pad drops it
        surplus = x.shape[2] - frames
        if surplus or self.extra:
            x = F.pad(x, (0, 0, 0, -surplus, 0, self.extra))
        return x


class LiteStage(nn.Module):
    """Blocks of one width share a joint embedding (SGN's, added), a DCT mask and a frame gate (SGN's, as a factor)."""
    JOINT_AXES = {"embedding": (1,)}  # parameter -> its axes over joints, to start from another skeleton's network

    def __init__(self, cin: int, cout: int, blocks: int, stride: int, frames: int, skeleton: Skeleton, cfg: Model):
        super().__init__()
        # what the blocks share; a row that switches a piece off leaves None
        out = math.ceil(frames / stride)
        self.embedding = nn.Parameter(0.02 * torch.randn(cout, skeleton.num_joints)) if cfg.joint_embedding else None
        self.mask = nn.Parameter(torch.zeros(cout, frames)) if cfg.dct_gate else None
        self.gate = nn.Parameter(torch.zeros(cout, out)) if cfg.frame_gate else None

        # the first block carries stride and new width
        shift = {"region": skeleton.region_shift, "random": skeleton.random_shift}[cfg.shift]
        self.blocks = nn.ModuleList([ShiftFuseBlock(shift(cin), cout, frames, stride)])
        for _ in range(blocks - 1):
            self.blocks.append(ShiftFuseBlock(shift(cout), cout, out, 1))

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        # sigmoids once for all blocks of the stage
        mask = None if self.mask is None else self.mask.sigmoid()
        gate = None if self.gate is None else self.gate.sigmoid()
        for block in self.blocks:
            x = block(x, self.embedding, mask, gate)
        return x


class LiteTrunk(Network):
    """The stem and stages of a LAST-Lite, for T = `frames`."""

    def __init__(self, streams: tuple[str, ...], cfg: Model, skeleton: Skeleton, frames: int):
        super().__init__(streams, skeleton)
        self.width, table = LITE[cfg.variant]
        self.stem = StreamFusion(len(streams), self.width)
        self.stages = nn.ModuleList()
        for cout, blocks, stride in table:
            self.stages.append(LiteStage(self.width, cout, blocks, stride, frames, skeleton, cfg))
            self.width = cout
            frames = math.ceil(frames / stride)


class LastLite(LiteTrunk):
    """LAST-Lite, for phones and microcontrollers; rows L0 to L8 switch its pieces. A pair has a second trunk for the
    velocities of what the first one sees; their maps meet in the head, where each half learns alone."""

    def __init__(self, cfg: Model, skeleton: Skeleton, num_classes: int, frames: int):
        super().__init__(cfg.streams, cfg, skeleton, frames)
        self.second = None
        if cfg.variant == "pair":
            velocities = [STREAMS[STREAMS.index(stream) + 2] for stream in cfg.streams]
            self.second = LiteTrunk(velocities, cfg, skeleton, frames)
        halves = 1 if self.second is None else 2
        self.head = Head(halves * self.width, num_classes, cfg.dropout, halves)

    def features(self, bodies: Tensor) -> list[Tensor]:  # n t v 3
        maps = super().features(bodies)
        if self.second is None:
            return maps
        return [torch.cat(both, 1) for both in zip(maps, self.second.features(bodies), strict=True)]


# --- 5. LAST-Base: the teacher, one stream; a switch for every novel piece --------------------------------------------

PROTOTYPES = 15  # graphs in the bank that the blocks share


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with all parameters 0: its output starts at 0."""
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


class DropPath(nn.Module):
    """Drops the branch for a random share of the bodies in training (Huang et al., ECCV 2016, arXiv:1603.09382)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate
        return x * (keep / (1 - self.rate)).to(x.dtype)


class AdaptiveGraph(nn.Module):
    """A(x) (N, V, V): the graph that the recorded body adds to the skeleton's own. It starts at zero.

    context (HI-GCN): row v = (b2 + W2 · LN(mean_t ReLU(b1 + sum_o W1_o · x[t + o, v]))) / V for o = 0, ±1, ±3; zeros
    beyond the clip. ReLU before the mean: without it the mean of x[t + o] is nearly that of x[t], whatever o.
    Without the layer norm A(x) grows with x, A(x) x with its square, and SGD learns nothing.
    prototypes: softmax(P · mean x) mixes the K graphs of a bank that all blocks share.
    """
    OFFSETS = (0, -1, 1, -3, 3)  # frames
    HIDDEN = 32
    JOINT_AXES = {"rows.1.weight": (0,), "rows.1.bias": (0,)}

    def __init__(self, channels: int, joints: int, context: bool, prototypes: int):
        super().__init__()
        hidden = self.HIDDEN

        # the convolution over the five offsets, as one kernel of seven frames: offset o is tap o + 3
        taps = torch.zeros(len(self.OFFSETS), 7)
        taps[range(len(self.OFFSETS)), [o + 3 for o in self.OFFSETS]] = 1
        self.register_buffer("taps", taps, persistent=False)

        # rows of A(x) from the features around each frame
        self.context = self.bias = self.rows = None
        if context:
            bound = channels ** -0.5
            self.context = nn.Parameter(torch.empty(hidden, channels, len(taps)).uniform_(-bound, bound))
            self.bias = nn.Parameter(torch.zeros(hidden))
            self.rows = nn.Sequential(nn.LayerNorm(hidden), zeroed(nn.Linear(hidden, joints)))
        self.choose = nn.Linear(channels, prototypes, bias=False) if prototypes else None

    def forward(self, x: Tensor, bank: Tensor | None) -> Tensor:  # n c t v, k v u
        A = 0
        if self.context is not None:
            kernel = torch.tensordot(self.context, self.taps, 1)[..., None]  # i c 7 1: the offsets -3 to 3
            hidden = F.relu(F.conv2d(x, kernel, self.bias, padding=(3, 0))).mean(2)  # n i v
            A = A + self.rows(rearrange(hidden, "n i v -> n v i")) / x.shape[3]
        if self.choose is not None:
            weights = self.choose(x.permute(0, 2, 3, 1).mean((1, 2))).float().softmax(1)  # n k
            A = A + torch.tensordot(weights, bank.float(), 1)
        return A  # n v u: joint v reads joint u


def aggregate(x: Tensor, A: Tensor) -> Tensor:
    """y[n, g, c, t, v] = sum_u A[n, g, v, u] · x[n, g, c, t, u], for x (N, G·C, T, V) and A (N or 1, G, V, V).

    Returns y as (N, G, V, T·C).
    """
    return A.to(x.dtype) @ rearrange(x, "n (g c) t u -> n g u (t c)", g=A.shape[1])


class SpatialGCN(nn.Module):
    """y = sum_k W_k x (E_k ⊙ A_k + A(x))^T: one adjacency per distance in bones, learned weights E (EfficientGCN).

    A_k keeps the pairs k = 0, 1, 2 bones apart of D^-1/2 A D^-1/2, where A joins all pairs at most two bones apart.
    directed (LAST-E): k = 1 and 2 split by whether the neighbour is nearer to the root (after ST-GCN), which gives
    five subsets, each (with its A(x)) times 5 · softmax(w)_k, which starts at 1. E only rescales the edges of A_k.
    """
    JOINT_AXES = {"edges": (1, 2)}

    def __init__(self, cin: int, cout: int, skeleton: Skeleton, directed: bool = False,
                 adaptive: AdaptiveGraph | None = None):
        super().__init__()
        hops = skeleton.hops
        from_root = hops[skeleton.root]
        inward = from_root[:, None] > from_root[None, :]  # v u: v reads u, which is nearer to the root

        # the subsets of pairs (v, u), each a mask
        subsets = [hops == 0]
        for k in (1, 2):
            subsets += [(hops == k) & inward, (hops == k) & ~inward] if directed else [hops == k]

        # each subset with the normalisation of the whole neighbourhood
        scale = (hops <= 2).sum(1) ** -0.5
        A = np.stack(subsets) * scale[:, None] * scale[None, :]
        self.register_buffer("A", torch.from_numpy(A).float(), persistent=False)  # k v u
        self.edges = nn.Parameter(torch.ones_like(self.A))
        self.weights = nn.Parameter(torch.zeros(len(A))) if directed else None
        # one convolution makes the features of all subsets
        self.conv = Conv1x1(cin, cout * len(A))
        self.adaptive = adaptive

    def forward(self, x: Tensor, bank: Tensor | None = None) -> Tensor:  # n c t v
        # the skeleton's graph, then the recorded body's
        A = (self.edges * self.A)[None]  # 1 k v u
        if self.adaptive is not None:
            A = A + self.adaptive(x, bank)[:, None]  # n k v u
        if self.weights is not None:
            A = A * rearrange(len(self.weights) * self.weights.softmax(0), "k -> k 1 1")
        return rearrange(aggregate(self.conv(x), A).sum(1), "n v (t c) -> n c t v", t=x.shape[2])


class CrossTemporalPrototypeGCN(nn.Module):
    """y_g = W_g x (A_phys + A_g + A(x))^T for four channel groups g, concatenated; A_g (V, V) starts at 0.

    A_phys is the skeleton's graph, A(x) an AdaptiveGraph: its context and prototypes name this class. A graph for each
    group of channels comes from Decoupling GCN (Cheng et al., ECCV 2020); CTR-GCN has one for each channel.
    """
    GROUPS = 4
    JOINT_AXES = {"learned": (1, 2)}

    def __init__(self, cin: int, cout: int, skeleton: Skeleton, adaptive: AdaptiveGraph | None = None):
        super().__init__()
        self.register_buffer("A", torch.from_numpy(skeleton.adjacency).float(), persistent=False)
        self.learned = nn.Parameter(torch.zeros(self.GROUPS, *self.A.shape))
        self.conv = Conv1x1(cin, cout)
        self.adaptive = adaptive

    def forward(self, x: Tensor, bank: Tensor | None = None) -> Tensor:  # n c t v
        # the skeleton's graph, the learned ones, the recorded body's
        A = (self.A + self.learned)[None]  # 1 g v u
        if self.adaptive is not None:
            A = A + self.adaptive(x, bank)[:, None]  # n g v u
        y = rearrange(aggregate(self.conv(x), A), "n g v (t c) -> n t v (g c)", t=x.shape[2])
        return rearrange(y, "n t v c -> n c t v")  # in two steps: channels stay last in memory


class FreqTemporalGate(nn.Module):
    """y = x + D^T (m ⊙ D x) over time, m (N, K) = sigmoid(MLP(mean of |D x| over bins and joints)).

    Each body weighs its own frequencies. m starts at 1/2 everywhere, so y starts as 1.5 x.
    """

    def __init__(self, channels: int, frames: int):
        super().__init__()
        self.register_buffer("D", dct_matrix(frames), persistent=False)
        # zeroed at the end: all frequencies pass alike at first
        hidden = channels // 4
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), zeroed(nn.Linear(hidden, frames)))

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        with torch.autocast(x.device.type, enabled=False):  # DCT products stay in FP32
            X = self.D @ rearrange(x.float(), "n c t v -> n t (v c)")
            size = rearrange(X, "n k (v c) -> n (k v) c", v=x.shape[3]).abs().mean(1)
            y = self.D.T @ (self.mlp(size).sigmoid()[..., None] * X)
        return x + rearrange(y, "n t (v c) -> n c t v", v=x.shape[3]).to(x.dtype)


class TemporalMaxPool(nn.Module):
    """Maximum over frames t - 2 to t (strided). It reads no frame ahead, so causal mode needs no switch."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        return F.max_pool2d(F.pad(x, (0, 0, 2, 0), value=-math.inf), (3, 1), (self.stride, 1))


class MultiScaleTCN(nn.Module):
    """Four branches side by side, C/4 channels each: k = 5, k = 5 dilated by 2, max-pool, 1x1.

    As in CTR-GCN (after MS-G3D), but the two convolutions over time are depthwise. The first three branches begin with
    a 1x1 convolution, norm and GELU, done at once; the norm after all four is one as well.
    """

    def __init__(self, channels: int, stride: int):
        super().__init__()
        c = channels // 4
        self.reduce = nn.Sequential(Conv1x1(channels, 3 * c), BatchNorm(3 * c), nn.GELU())
        self.branches = nn.ModuleList([TemporalConv(c, c, 5, stride, groups=c),
                                       TemporalConv(c, c, 5, stride, dilation=2, groups=c), TemporalMaxPool(stride)])
        self.plain = nn.Conv2d(channels, c, 1, (stride, 1), bias=False)
        self.norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        parts = [branch(part) for branch, part in zip(self.branches, self.reduce(x).chunk(3, 1), strict=True)]
        parts.append(self.plain(x))
        return self.norm(torch.cat(parts, 1))  # n c t/stride v


def attention_mask(reads: Tensor) -> Tensor:
    """Additive mask: 0 where `reads` (..., queries, keys), else -inf; zeros for a query without keys, to avoid NaN."""
    has_key = reads.any(-1, keepdim=True)
    return torch.zeros(reads.shape).masked_fill(~reads & has_key, -math.inf)


class PartitionedTemporalAttention(nn.Module):
    """x + W · concat(four heads of norm(x)), each with its own C/4 channels and keys (SkateFormer, arXiv:2403.09508).

    For a query (t, v), joints at most one bone away (or itself) are near, and frames with |dt| <= 3. Head 0 reads near
    joints in near frames, 1 far joints in near frames, 2 near joints in far frames, 3 far joints in far frames. A query
    without keys returns zero. W starts at zero.

    Frames are read in blocks of four (if T is no multiple: two, or one): ten frames serve four queries, 2.5 each;
    blocks of one would need seven. Head 2 gathers its near joints; only head 3 multiplies all pairs. At (T, V) =
    (64, 25) that is 38 % of the dense products. A mask is the sum of one over frames and one over joints. d is the last
    axis in memory: only then does PyTorch's scaled_dot_product_attention take a fused kernel, which stores no scores.
    Letters of this class alone: f block, t frame (beside f: in the block), o place in its window, s frame that is read.
    """
    REACH = 3  # frames
    BLOCK = 4

    def __init__(self, channels: int, skeleton: Skeleton, frames: int):
        super().__init__()
        # joints: which are near (at most one bone away, itself included), as a mask and as a padded list
        near_joint = torch.from_numpy(skeleton.hops <= 1)                             # v u
        most = int(near_joint.sum(1).max())
        neighbour = torch.argsort((~near_joint).int(), dim=1, stable=True)[:, :most]  # v p: neighbours, then padding

        # frames: blocks of queries, and the window of frames around each block that they read
        t = torch.arange(frames)
        block = math.gcd(frames, self.BLOCK)
        around = t[::block, None] + torch.arange(-self.REACH, block + self.REACH)     # f o
        exists = (around >= 0) & (around < frames)
        distance = (around[:, None] - t.view(-1, block, 1)).abs()                     # f t o
        in_window = exists[:, None] & (distance <= self.REACH)
        far_frame = (t[:, None] - t).abs() > self.REACH                               # t s

        # which heads give a query any key at all; elsewhere the head's output becomes zero
        has_far_frame = far_frame.any(1)[:, None].expand(-1, len(near_joint))         # t v
        has_far_joint = (~near_joint).any(1)[None].expand(frames, -1)                 # t v
        always = torch.ones_like(has_far_frame)
        has_key = torch.stack([always, has_far_joint, has_far_frame, has_far_frame & has_far_joint], 2)[..., None]

        near_and_far = torch.stack([near_joint, ~near_joint])                         # h v u
        neighbour_mask = attention_mask(near_joint.gather(1, neighbour))              # v p
        constants = {
            "around": around.clamp(0, frames - 1).flatten(), "neighbour": neighbour.flatten(),
            "window_mask": rearrange(attention_mask(in_window), "f t o -> f t 1 o 1"),
            "joint_mask": rearrange(attention_mask(near_and_far), "h v u -> h 1 v 1 u"),
            "neighbour_mask": rearrange(neighbour_mask, "v p -> v 1 p 1"), "far_mask": attention_mask(far_frame),  # t s
            "has_key": None if has_key.all() else has_key.float()}                    # t v h 1
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

        # head h sees its own quarter of the channels; forward takes the weights alone, for products of matrices
        self.norm = BatchNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, groups=4, bias=False)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def near_frames(self, q: Tensor, kv: Tensor, joint_mask: Tensor) -> Tensor:  # n t v d, n t v 2d, 1 v 1 u
        """Head 0 or 1 (N, F, T, V, D): each block of frames reads the window around it, gathered once."""
        blocks = len(self.window_mask)
        q = rearrange(q, "n (f t) v d -> n f (t v) d", f=blocks)
        kv = rearrange(kv.index_select(1, self.around), "n (f o) u d -> n f (o u) d", f=blocks)
        mask = rearrange(self.window_mask + joint_mask, "f t v o u -> 1 f (t v) (o u)")
        y = F.scaled_dot_product_attention(q, *kv.chunk(2, 3), mask)
        return y.unflatten(2, (-1, joint_mask.shape[1]))

    def near_joints(self, q: Tensor, kv: Tensor) -> Tensor:  # n t v d, n t v 2d
        """Head 2 (N, T, V, D): each joint reads the far frames of its neighbours."""
        kv = kv.transpose(1, 2).index_select(1, self.neighbour)
        kv = rearrange(kv, "n (v p) s d -> n v (p s) d", v=q.shape[2])
        mask = rearrange(self.neighbour_mask + self.far_mask[:, None], "v t p s -> 1 v t (p s)")
        return F.scaled_dot_product_attention(q.transpose(1, 2), *kv.chunk(2, 3), mask).transpose(1, 2)

    def far_far(self, q: Tensor, kv: Tensor) -> Tensor:  # n t v d, n t v 2d
        """Head 3 (N, T, V, D): dense, all pairs that are far in both."""
        q, kv = (rearrange(x, "n t v d -> n 1 (t v) d") for x in (q, kv))
        mask = rearrange(self.far_mask, "t s -> t 1 s 1") + self.joint_mask[1]
        mask = rearrange(mask, "t v s u -> 1 1 (t v) (s u)")
        y = F.scaled_dot_product_attention(q, *kv.chunk(2, 3), mask)
        return rearrange(y, "n 1 (t v) d -> n t v d", t=len(self.far_mask))

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        # a product a head: a convolution of four groups takes longer on a CPU
        y = rearrange(self.norm(x).permute(0, 2, 3, 1), "n t v (h c) -> h (n t v) c", h=4)
        qkv = y @ rearrange(self.qkv.weight, "(h d) c 1 1 -> h c d", h=4).to(y.dtype)
        qkv = rearrange(qkv, "h (n t v) d -> h n t v d", n=x.shape[0], v=x.shape[3])
        q, kv = (part.unbind() for part in qkv.split((y.shape[2], 2 * y.shape[2]), 4))

        # the four heads, frames as f t
        f_t = self.window_mask.shape[:2]
        heads = [*map(self.near_frames, q[:2], kv[:2], self.joint_mask),
                 self.near_joints(q[2], kv[2]).unflatten(1, f_t), self.far_far(q[3], kv[3]).unflatten(1, f_t)]
        y = torch.cat(heads, 4).flatten(1, 2)  # n t v c
        if self.has_key is not None:
            y = (y.unflatten(3, (4, -1)) * self.has_key.to(y.dtype)).flatten(3)
        return x + pointwise_conv(rearrange(y, "n t v c -> n c t v"), self.out.weight, self.out.bias)


class STJointAtt(nn.Module):
    """y = x + a · x ⊙ s_t ⊙ s_v: gates of frames and of joints, each from means over the other axis (EfficientGCN)."""

    def __init__(self, channels: int):
        super().__init__()
        c = channels // 2
        self.squeeze = nn.Sequential(nn.Conv1d(channels, c, 1, bias=False), nn.BatchNorm1d(c), nn.Hardswish())
        self.frame = nn.Conv1d(c, channels, 1)
        self.joint = nn.Conv1d(c, channels, 1)
        self.scale = nn.Parameter(torch.zeros(1))  # a

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        # what happens in a frame, and what a joint does: one squeeze for both
        t, v = x.shape[2:]
        pooled = torch.cat([x.mean(3), x.mean(2)], 2)  # n c t+v
        frames, joints = self.squeeze(pooled).split((t, v), 2)
        s_t = rearrange(self.frame(frames).sigmoid(), "n c t -> n c t 1")
        s_v = rearrange(self.joint(joints).sigmoid(), "n c v -> n c 1 v")
        return x + self.scale * x * (s_t * s_v)


class HierarchicalBodyRegion(nn.Module):
    """Attention in each frame, among the joints of a region, then among regions; x + W·(joints + w_v · region).

    Loosely after HD-GCN's attention over sets of joints, at width d = C/8. A learned query pools a region's joints into
    its token; w[v] scales the token that joint v takes back. W starts at zero.
    """
    JOINT_AXES = {"weight": (0,)}

    def __init__(self, channels: int, skeleton: Skeleton):
        super().__init__()
        regions = [list(joints) for joints in skeleton.regions.values() if joints]
        region = torch.zeros(skeleton.num_joints, dtype=torch.long)
        for r, joints in enumerate(regions):
            region[joints] = r
        number = torch.arange(len(regions))
        self.register_buffer("region", region, persistent=False)  # v -> r
        self.register_buffer("own", attention_mask(region[:, None] == region), persistent=False)  # v u
        self.register_buffer("members", attention_mask(number[:, None] == region), persistent=False)  # r v

        # narrow attention: among joints, then among regions
        d = channels // 8
        self.norm = BatchNorm(channels)
        self.joint_qkv = nn.Linear(channels, 3 * d)
        self.region_qkv = nn.Linear(d, 3 * d)
        self.query = nn.Parameter(d ** -0.5 * torch.randn(len(regions), d))
        self.weight = nn.Parameter(torch.ones(skeleton.num_joints, 1))
        self.out = zeroed(nn.Linear(d, channels))

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        attend = F.scaled_dot_product_attention
        n, _, t, _ = x.shape

        # joints of a region see each other
        y = rearrange(self.norm(x), "n c t v -> n t v c")
        joints = attend(*self.joint_qkv(y).chunk(3, -1), self.own)  # n t v d

        # a token per region pools its joints; tokens see each other
        query = self.query.to(joints.dtype).expand(n, t, -1, -1)
        token = attend(query, joints, joints, self.members)  # n t r d
        token = attend(*self.region_qkv(token).chunk(3, -1))

        # each joint takes its region's token back
        token = token.index_select(2, self.region)  # n t v d
        return x + rearrange(self.out(joints + self.weight * token), "n t v c -> n c t v")


def shortcut(cin: int, cout: int, stride: int) -> nn.Module:
    """The shortcut of a block: the identity, or a strided 1x1 convolution and norm if the shape changes."""
    if cin == cout and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(cin, cout, 1, (stride, 1), bias=False), BatchNorm(cout))


class BaseBlock(nn.Module):
    """GCN, BN, GELU -> frequency gate -> multi-scale TCN (stride) -> attention -> body regions; + residual; GELU."""

    def __init__(self, cin: int, cout: int, frames: int, stride: int, drop: float, skeleton: Skeleton, cfg: Model):
        super().__init__()
        # the graph convolution, and the graph that the recorded body adds
        adaptive = None
        if cfg.temporal_context or cfg.prototypes:
            prototypes = PROTOTYPES if cfg.prototypes else 0
            adaptive = AdaptiveGraph(cin, skeleton.num_joints, cfg.temporal_context, prototypes)
        gcn = {"spatial": SpatialGCN, "grouped": CrossTemporalPrototypeGCN}[cfg.graph]
        self.gcn = gcn(cin, cout, skeleton, adaptive=adaptive)
        self.norm = BatchNorm(cout)

        # time, attention, regions; what a row switches off is the identity
        gate = FreqTemporalGate(cout, frames) if cfg.frequency_gate else nn.Identity()
        tcn = MultiScaleTCN(cout, stride)
        attention = nn.Identity()
        if cfg.attention == "partitioned":
            attention = PartitionedTemporalAttention(cout, skeleton, math.ceil(frames / stride))
        elif cfg.attention == "factorized":
            attention = STJointAtt(cout)
        regions = HierarchicalBodyRegion(cout, skeleton) if cfg.regions else nn.Identity()

        self.rest = nn.Sequential(gate, tcn, attention, regions, DropPath(drop))
        self.residual = shortcut(cin, cout, stride)

    def forward(self, x: Tensor, bank: Tensor | None) -> Tensor:  # n c t v
        y = F.gelu(self.norm(self.gcn(x, bank)))
        return F.gelu(self.rest(y) + self.residual(x))  # n c t/stride v


class BaseStage(nn.ModuleList):
    """Blocks of one width, one after another; `bank` (K, V, V) are the prototypes' graphs."""

    def forward(self, x: Tensor, bank: Tensor | None) -> Tensor:  # n c t v
        for block in self:
            x = block(x, bank)
        return x


class InformationBottleneck(nn.Module):
    """z = mu + sigma · eps (B, L) classifies, as in InfoGCN (Chi et al., CVPR 2022); L >= K, for orthogonal priors.
    Logits from mu in eval mode, (logits, z) in training."""

    def __init__(self, channels: int, num_classes: int, latent: int = 128):
        super().__init__()
        latent = max(latent, num_classes)
        self.mu = nn.Linear(channels, latent)
        self.log_var = nn.Linear(channels, latent)
        self.linear = nn.Linear(latent, num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # b c
        z = self.mu(x)  # b l
        if not self.training:
            return self.linear(z)
        sigma = (0.5 * self.log_var(x).float().clamp(max=10)).exp()
        z = z + torch.randn_like(z) * sigma.to(z.dtype)
        return self.linear(z), z


class LastBase(Network):
    """Joints (B, M, T, V, 3) -> logits (B, K), in training (logits, z) with a bottleneck, from one stream.

    Four such networks, one per stream, make the teacher. Stages of 3, 4, 3 blocks, 1, 2, 3 times `cfg.width` wide.
    """
    JOINT_AXES = {"bank": (1, 2)}

    def __init__(self, cfg: Model, skeleton: Skeleton, num_classes: int, frames: int):
        super().__init__((cfg.stream,), skeleton)
        V = skeleton.num_joints
        self.bank = nn.Parameter(torch.zeros(PROTOTYPES, V, V)) if cfg.prototypes else None

        # three stages; the first block of each carries stride and new width
        width = cfg.width
        self.stem = nn.Sequential(BatchNorm(3), Conv1x1(3, width))
        self.stages = nn.ModuleList()
        cin = width
        number = 0
        for cout, blocks, first_stride in ((width, 3, 1), (2 * width, 4, 2), (3 * width, 3, 2)):
            stage = BaseStage()
            for b in range(blocks):
                stride = first_stride if b == 0 else 1
                drop = cfg.drop_path * number / 9  # rises from 0 over the ten blocks
                stage.append(BaseBlock(cin, cout, frames, stride, drop, skeleton, cfg))
                cin = cout
                frames = math.ceil(frames / stride)
                number += 1
            self.stages.append(stage)
        self.head = Head(cin, num_classes, cfg.dropout)
        if cfg.bottleneck:
            self.head.classifier = InformationBottleneck(cin, num_classes)

    def features(self, bodies: Tensor) -> list[Tensor]:  # n t v 3
        return super().features(bodies, self.bank)


# --- 6. LAST-E v3: the fallback teacher, made of blocks from above -----------------------------------------------

class MotionGate(nn.Module):
    """y[t] = x[t] ⊙ sigmoid(BN(W (x[t] - x[t-1]))); the norm's scale starts at 0, so y starts as x / 2."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = Conv1x1(channels, channels)
        self.norm = zeroed(BatchNorm(channels))

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        motion = F.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 1, 0))  # none in the first frame
        return x * self.norm(self.conv(motion)).sigmoid()


class LastEBlock(nn.Module):
    """SpatialGCN, BN, Hardswish -> EpSepTCN (stride) -> motion gate -> joint and frame attention; + residual."""

    def __init__(self, cin: int, cout: int, stride: int, drop: float, skeleton: Skeleton):
        super().__init__()
        self.body = nn.Sequential(
            SpatialGCN(cin, cout, skeleton, directed=True), BatchNorm(cout), nn.Hardswish(),
            EpSepTCN(cout, stride), MotionGate(cout), STJointAtt(cout), DropPath(drop))
        self.residual = shortcut(cin, cout, stride)

    def forward(self, x: Tensor) -> Tensor:  # n c t v
        return self.body(x) + self.residual(x)  # n c t/stride v


class LastE(Network):
    """LAST-E v3: its streams fused early, three stages of two blocks; with a bottleneck as LastBase."""

    def __init__(self, cfg: Model, skeleton: Skeleton, num_classes: int, frames: int):
        super().__init__(cfg.streams, skeleton)
        # three stages of two blocks; drop path rises from 0 over the six
        cin = 48
        self.stem = StreamFusion(len(self.streams), cin)
        self.stages = nn.ModuleList()
        for i, (cout, stride) in enumerate(((64, 1), (96, 2), (128, 2))):
            drop = [cfg.drop_path * (2 * i + b) / 5 for b in range(2)]
            self.stages.append(nn.Sequential(LastEBlock(cin, cout, stride, drop[0], skeleton),
                                             LastEBlock(cout, cout, 1, drop[1], skeleton)))
            cin = cout
        self.head = Head(cin, num_classes, cfg.dropout)
        if cfg.bottleneck:
            self.head.classifier = InformationBottleneck(cin, num_classes)


MODELS: dict[str, type[nn.Module]] = {"lite": LastLite, "base": LastBase, "last_e": LastE}


# --- 7. Losses of plain training; phases/p2_distill.py and phases/p3_maskclr.py have their own ------------------------

def cross_entropy(logits: Tensor, batch: dict, smoothing: float = 0.0) -> Tensor:
    """Mean over the clips in FP32. A blended clip counts for both of its labels, by their shares."""
    if len(logits) > len(batch["label"]):  # each half of a pair learns as fast as a network of its own
        return sum(cross_entropy(half, batch, smoothing) for half in logits.chunk(2))
    logits = logits.float()
    if "share" not in batch:
        return F.cross_entropy(logits, batch["label"], label_smoothing=smoothing)
    own = F.cross_entropy(logits, batch["label"], label_smoothing=smoothing, reduction="none")  # b
    other = F.cross_entropy(logits, batch["other"], label_smoothing=smoothing, reduction="none")
    return (batch["share"] * own + (1 - batch["share"]) * other).mean()


def bottleneck_loss(z: Tensor, label: Tensor, mean_weight: float = 1e-4, class_weight: float = 0.1,
                    gain: float = 3.0) -> Tensor:
    """InfoGCN's: mean_weight · ‖mean z‖ + class_weight · mean over classes k of ‖mean z of k - gain · e_k‖² / L.

    z (B, L) comes from a linear layer, so the axes of its mean may be chosen. Classes without a clip do not count.
    """
    z = z.float()
    member = F.one_hot(label, z.shape[1]).to(z.device, torch.float32)  # b l: axis k for class k
    count = member.sum(0)
    class_mean = (member.T @ z) / count.clamp(min=1)[:, None]  # l l: from row K on empty

    prior = gain * torch.eye(z.shape[1], device=z.device)
    distance = (class_mean - prior).square().mean(1)
    present = count > 0
    return mean_weight * z.mean(0).norm() + class_weight * (distance * present).sum() / present.sum()


# --- 8. Several processes, one per GPU: batch norms and losses as with one process ------------------------------------

def rank_of() -> tuple[int, int]:
    """(number of this process, number of processes that train together), as torchrun says."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; backward sums the gradients over all processes."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total
    backward = forward


def gather_batch(x: Tensor, batch: dict) -> tuple[Tensor, Tensor]:
    """x of the whole batch (clips, C) from every process's own x (B, C), and the indices of this process's rows."""
    rank, ranks = rank_of()
    if ranks == 1:
        return x, torch.arange(len(x), device=x.device)

    # each process fills its rows, the sum over processes all; gradients reach the process that owns a row
    rows = torch.arange(batch["clips"], device=x.device)[rank::ranks]
    own = x.new_zeros(batch["clips"], x.shape[1]).index_copy(0, rows, x[:len(rows)])
    whole = SumOverProcesses.apply(own)
    if not len(rows):
        rows = rows.new_zeros(1)  # a process without clips has a stand-in, row 0; its loss counts 0
    return whole, rows


def mean_correction(count: int | Tensor, batch: dict) -> float | Tensor:
    """Factor on this process's mean over `count` items, such as bodies: the trainer's sum is then the mean over all.

    The trainer weighs a process by its clips, batch["own"] of batch["clips"]; some have more items per clip.
    """
    if rank_of()[1] == 1:
        return 1.0
    counted = count if batch["own"] else 0
    total = torch.as_tensor(counted, dtype=torch.float32, device=batch["label"].device).clone()
    dist.all_reduce(total)
    return count / total.clamp(min=1) * batch["clips"] / max(1, batch["own"])


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the clips of all processes, on a CPU too (torch's SyncBatchNorm needs GPUs)."""
    counted = True  # whether this process has a clip of its own in the batch; the trainer sets it

    def _check_input_dim(self, x: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:  # n c ...
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)

        # mean over all processes
        z = x.float()
        values = x.numel() // x.shape[1]  # of a channel, on this process
        sums = torch.cat([z.sum(axes), z.new_full((1,), values)])
        total = SumOverProcesses.apply(self.counted * sums)
        mean = total[:-1] / total[-1]
        n = total[-1].detach()

        # variance, and the running statistics; `values > 1` comes first, because to read n waits for the device
        if values > 1 or n > 1:
            var = SumOverProcesses.apply(self.counted * (z - mean.view(shape)).square().sum(axes)) / n
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * n / (n - 1), self.momentum)
        else:  # as in ClipNorm
            mean = self.running_mean
            var = self.running_var
        y = (z - mean.view(shape)) * (var + self.eps).rsqrt().view(shape)
        return (y * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)


@contextlib.contextmanager
def global_norms(model: nn.Module):
    """Inside the block, batch norms see the clips of all processes; on exit their classes are restored."""
    # the class alone changes: parameters, statistics and state dict stay
    norms = [(m, type(m)) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    try:
        if rank_of()[1] > 1:
            for m, _ in norms:
                m.__class__ = GlobalBatchNorm
        yield
    finally:
        for m, kind in norms:
            m.__class__ = kind


# --- 9. Trainer -------------------------------------------------------------------------------------------------------

LossFn = Callable[[nn.Module, dict], tuple[Tensor, dict[str, Tensor]]]  # (model, batch) -> (mean loss, metrics)


def classification_loss(cfg: Train) -> LossFn:
    """loss_fn of plain training. top1 (0 to 1) and the bottleneck use `label` alone, also for a blended clip."""
    def loss_fn(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(batch["joints"])
        label = batch["label"]
        logits, z = output if isinstance(output, tuple) else (output, None)
        loss = cross_entropy(logits, batch, cfg.label_smoothing)
        named = logits if len(logits) == len(label) else sum(logits.chunk(2))  # by a pair
        metrics = {"top1": (named.argmax(1) == label).mean(dtype=torch.float)}

        # the bottleneck's means are those of the whole batch, also if several processes share it
        if z is not None:
            z, _ = gather_batch(z.float(), batch)
            labels, _ = gather_batch(label[:, None], batch)
            metrics["bottleneck"] = bottleneck_loss(z, labels[:, 0])
            loss = loss + cfg.ib_weight * metrics["bottleneck"]
        return loss, metrics
    return loss_fn


def hashed_uniform(*keys: int | Tensor) -> Tensor:
    """Numbers in [0, 1): a pure function of integer keys that broadcast together, the same on every device."""
    # each key is XORed in, then a 32-bit finaliser like murmur's mixes (constants of C. Wellons' hash prospector)
    h: int | Tensor = 0x9E3779B9
    for key in keys:
        h = (h ^ key) & 0xFFFFFFFF
        h = ((h ^ (h >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        h = ((h ^ (h >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        h = h ^ (h >> 16)
    return (torch.as_tensor(h) >> 8).float() / (1 << 24)


def swa_epoch(cfg: Train) -> int:
    """First epoch whose weights enter the SWA mean: at the latest the last one."""
    return min(int(cfg.swa_start * cfg.epochs), cfg.epochs - 1)


def lr_at(step: int, cfg: Train, steps: int) -> float:
    """Learning rate of optimiser step `step`, `steps` per epoch: linear warm-up, then cosine; constant under SWA."""
    warm = cfg.warmup_epochs * steps
    total = cfg.epochs * steps
    if step < warm:
        return cfg.warmup_lr + (cfg.lr - cfg.warmup_lr) * (step + 1) / warm

    # constant while SWA averages, else a cosine to min_lr
    start = swa_epoch(cfg) * steps
    if cfg.average == "swa" and step >= start:
        if cfg.swa_lr:
            return cfg.swa_lr
        step = max(start, warm)
    return cfg.min_lr + (cfg.lr - cfg.min_lr) * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def make_optimizer(model: nn.Module, cfg: Train) -> torch.optim.Optimizer:
    """Weight decay on the weights of linear layers and convolutions only: not on norms, biases, gates, adjacencies,
    embeddings, nor the bare kernels StreamFusion.stem and AdaptiveGraph.context. A trunk's own rate makes groups.
    """
    decayed = {id(m.weight) for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))}
    decay = cfg.adamw_decay if cfg.optimizer == "adamw" else cfg.weight_decay

    # the trunk: of the network, not of what trains beside it, all but head.classifier
    trunk = set()
    for net in model.modules():
        if isinstance(net, tuple(MODELS.values())) and (cfg.trunk_lr < 1 or cfg.head_epochs):
            trunk |= {id(p) for name, p in net.named_parameters() if not name.startswith("head.classifier.")}

    # head first, what decays first: checkpoints hold groups in this order
    groups = []
    for is_trunk, is_decayed in itertools.product((False, True) if trunk else (False,), (True, False)):
        chosen = [p for p in model.parameters() if (id(p) in trunk, id(p) in decayed) == (is_trunk, is_decayed)]
        groups.append({"params": chosen, "weight_decay": decay * is_decayed, "trunk": is_trunk})

    if cfg.optimizer == "adamw":
        on_gpu = next(model.parameters()).is_cuda or None  # None leaves the choice to torch
        return torch.optim.AdamW(groups, lr=cfg.lr, betas=(0.9, 0.999), fused=on_gpu)
    # not fused: if FP16 overflows in the very first step, torch's fused SGD keeps a momentum that was never written
    return torch.optim.SGD(groups, lr=cfg.lr, momentum=0.9, nesterov=True)


def amp_dtype(cfg: Train, device: torch.device) -> torch.dtype:
    """cfg.amp; auto: bf16 on a GPU that has it, FP16 (with a scaler) on other GPUs, FP32 on a CPU."""
    if cfg.amp != "auto":
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[cfg.amp]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def refresh_batchnorm(model: nn.Module, batches: Callable[[], Iterable[dict]]) -> None:
    """Set batch-norm statistics to their mean over `batches`. Dropout stays off; frozen parts stay as they are."""
    # the norms that training would set; a frozen part overrides train() and stays in eval mode
    was_training = model.training
    model.train()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    momenta = [m.momentum for m in norms]
    nets = [m for m in model.modules() if hasattr(m, "drop_absent")]

    # norms alone train; absent bodies do not count, as in training
    model.eval()
    for net in nets:
        net.drop_absent = True
    for m in norms:
        m.reset_running_stats()
        m.train()
    with torch.no_grad():
        for i, batch in enumerate(batches(), 1):
            for m in norms:
                m.momentum = 1 / i  # a cumulative mean
            model(batch["joints"])

    for net in nets:
        net.drop_absent = False
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    model.train(was_training)


def save_checkpoint(path: Path, state: dict) -> None:
    """Write a checkpoint as a whole or not at all."""
    with atomic(path) as part:
        try:
            torch.save(state, part)
        except RuntimeError as e:  # torch's writer hides the errno of a full disk
            raise OSError(f"{str(e).splitlines()[0]}: is the disk full?") from None


def load_checkpoint(path: Path | str, device: torch.device | str = "cpu") -> dict:
    """A checkpoint, loaded with weights_only=True: pickled code is not executed."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        check_zip(path)  # torch.load checks no checksum
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"holds a {type(state).__name__}")
        return {key: current_weights(value) for key, value in state.items()}
    except Exception as e:  # damaged bytes make torch raise almost anything
        raise damaged(path, e) from None


class Training:
    """A training under way: its state, all of it in folder/last.pt, and how it takes a step and an epoch."""

    def __init__(self, model: nn.Module, loss_fn: LossFn, cfg: Train, folder: Path, seed: int, steps: int,
                 identity: dict):
        self.model = model
        self.net = model            # what takes a step: several processes wrap the model
        self.loss_fn = loss_fn
        self.cfg = cfg
        self.seed = seed
        self.steps = steps          # per epoch
        self.identity = identity    # the recipe, and what else a resumed run must share

        # its files, its share of several processes, and how it computes
        self.last = folder / "last.pt"
        self.log = folder / "metrics.jsonl"
        self.rank, self.ranks = rank_of()
        self.device = next(model.parameters()).device
        self.dtype = amp_dtype(cfg, self.device)
        self.optimizer = make_optimizer(model, cfg)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

        # the averaged model; parameters only, for the mean of an index table would be nonsense
        self.mean_model = None
        if cfg.average != "none":
            ema = torch.optim.swa_utils.get_ema_multi_avg_fn(cfg.ema_decay) if cfg.average == "ema" else None
            self.mean_model = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=ema)

        # where the training is (step: within the epoch; best: a score), and the weights of the best-scoring epoch
        self.progress = {"epoch": 0, "step": 0, "sums": {}, "clips": 0, "best": -math.inf}
        self.best: dict | None = None
        # first step that is not finite, -1: none; kept on the device, because reading it waits for the device
        self.first_bad_step = torch.full((), -1, dtype=torch.long, device=self.device)

    def open(self, folder: Path, recipe: dict) -> None:
        """Continue from last.pt, or start; then the first process writes the recipe and tidies the folder."""
        if self.last.exists():
            self.restore()
        else:
            torch.manual_seed(self.seed + 1)
        # only now: a folder of another recipe stays as it is
        if self.rank == 0:
            write_json(folder / "recipe.json", recipe)
            self.remove_what_a_killed_run_left(folder)
        if self.ranks > 1:
            self.net = nn.parallel.DistributedDataParallel(self.model)

    def remove_what_a_killed_run_left(self, folder: Path) -> None:
        """Half-written checkpoints, and log lines of the epoch that runs again."""
        # this process holds the folder's lock: none of these is being written
        for torn in folder.glob(".last.pt.*"):
            torn.unlink()
        kept = [line for line in read_log(self.log) if line["epoch"] < self.progress["epoch"]]
        with atomic(self.log) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def restore(self) -> None:
        """Take the state in last.pt. ValueError if it is damaged, or of another recipe or other clips."""
        state = load_checkpoint(self.last, self.device)
        try:
            changed = differences(json.loads(state["recipe"]), json.loads(json.dumps(self.identity)))
            if changed:
                raise ValueError(f"{self.last} is of another recipe ({changed}): give another out=, or move it away")

            # weights and optimiser; fused kernels or not is this device's choice, an old file knows no trunk
            self.model.load_state_dict(state["model"])
            for old, new in zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True):
                old.update({key: new[key] for key in ("fused", "foreach", "trunk") if key in new})
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"]:  # empty if the run was not in FP16
                self.scaler.load_state_dict(state["scaler"])
            if self.mean_model:
                self.mean_model.load_state_dict(state["mean_model"])

            # where it was, and the random numbers from there on
            self.progress = state["at"]
            self.best = state["best"]
            torch.set_rng_state(state["rng"]["cpu"].cpu())
            if "cuda" in state["rng"]:
                torch.cuda.set_rng_state(state["rng"]["cuda"].cpu(), self.device)
        except (KeyError, TypeError, AttributeError, RuntimeError, IndexError, json.JSONDecodeError) as e:
            raise damaged(self.last, e) from None

    def save(self) -> None:
        """Write last.pt. ValueError if a loss or gradient was not finite; the previous last.pt is kept."""
        self.raise_if_not_finite()
        if self.rank > 0:
            return
        # random numbers, too: dropout continues where it was
        rng = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            rng["cuda"] = torch.cuda.get_rng_state(self.device)
        mean = self.mean_model.state_dict() if self.mean_model else None
        save_checkpoint(self.last, {
            "recipe": json.dumps(self.identity), "at": self.progress, "rng": rng, "best": self.best, "mean_model": mean,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict()})

    def raise_if_not_finite(self) -> None:
        if self.first_bad_step >= 0:
            step = int(self.first_bad_step)
            kept = f"{self.last} is the last good checkpoint" if self.last.exists() else "no checkpoint was written"
            raise ValueError(f"loss or gradient is not finite at step {step} (epoch {step // self.steps}): "
                             f"lower train.lr or look at the clips; {kept}")

    def take_step(self, window: list[dict]) -> None:
        """One optimiser step over the batches of `window`: their mean losses, weighted by clips.

        Batch norm and losses that couple clips (bottleneck, contrastive) see one batch, not the whole window.
        """
        # the learning rate is a function of the step
        step = self.progress["epoch"] * self.steps + self.progress["step"]
        rate = lr_at(step, self.cfg, self.steps)
        share = 0.0 if self.progress["epoch"] < self.cfg.head_epochs else self.cfg.trunk_lr
        for group in self.optimizer.param_groups:
            group["lr"] = rate * share if group["trunk"] else rate
        clips = sum(batch.get("clips", len(batch["label"])) for batch in window)  # of all processes

        # a resumed run draws the same; processes agree on causal mode, but each has its own dropout
        if self.ranks > 1:  # seeded anew: no state to save for each process (32, 31: any two different keys)
            torch.manual_seed(int(hashed_uniform(self.seed, step, 32, self.rank) * 2**24))
        is_causal = bool(hashed_uniform(self.seed, step, 31) < self.cfg.causal)

        # gradients; processes exchange them with the last batch of the window
        self.optimizer.zero_grad(set_to_none=True)
        for i, batch in enumerate(window):
            wait = self.net.no_sync() if self.ranks > 1 and i + 1 < len(window) else contextlib.nullcontext()
            with wait:
                self.add_gradients(batch, step, clips, is_causal)

        # the norm of the true gradients; FP16 overflows now and then, and its scaler skips the step
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.grad_clip or math.inf)
        if not self.scaler.is_enabled():
            self.note_if_not_finite(norm, step)

        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.cfg.average == "ema":
            self.mean_model.update_parameters(self.model)

        # reading the flag waits for the device: on a GPU now and then
        self.progress["step"] += 1
        self.progress["clips"] += clips
        if self.device.type == "cpu" or self.progress["step"] % 50 == 0:
            self.raise_if_not_finite()

    def add_gradients(self, batch: dict, step: int, clips: int, is_causal: bool) -> None:
        """Forward and backward of one batch; the window has `clips` clips, over all processes."""
        own = batch.get("own", len(batch["label"]))
        if self.ranks > 1:
            for m in self.model.modules():
                if isinstance(m, GlobalBatchNorm):
                    m.counted = own > 0

        # forward: one path for every precision
        amp = torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
        with causal(self.model, is_causal), amp:
            loss, metrics = self.loss_fn(self.net, batch)

        # DistributedDataParallel averages over processes; with this factor the result is the mean over clips
        self.scaler.scale(loss * (own * self.ranks / clips)).backward()
        self.add_metrics({"loss": loss, **metrics}, own, step)

    def add_metrics(self, metrics: dict[str, Tensor], own: int, step: int) -> None:
        """Add a batch's loss and metrics, weighted by clips, to the epoch's sums; note a loss that is not finite."""
        values = torch.stack([v.detach().float() for v in metrics.values()]) * own
        if self.ranks > 1:
            dist.all_reduce(values)
        self.note_if_not_finite(values[0], step)
        sums = self.progress["sums"]  # on the device until the epoch ends
        for key, value in zip(metrics, values.unbind(), strict=True):
            sums[key] = sums.get(key, 0.0) + value

    def note_if_not_finite(self, value: Tensor, step: int) -> None:
        is_first = (self.first_bad_step < 0) & ~torch.isfinite(value)
        self.first_bad_step = torch.where(is_first, step, self.first_bad_step)

    def run_epoch(self, batches: Callable, score: Callable | None, bar) -> None:
        """Finish the current epoch, append a line to metrics.jsonl, write last.pt."""
        started = time.monotonic()
        self.model.train()
        self.take_steps(batches(self.progress["epoch"], self.progress["step"] * self.cfg.accumulate), bar)
        self.raise_if_not_finite()
        if self.cfg.average == "swa" and self.progress["epoch"] >= swa_epoch(self.cfg):
            self.mean_model.update_parameters(self.model)

        done = (self.progress["epoch"] + 1) * self.steps
        entry = {"epoch": self.progress["epoch"], "step": done, "lr": lr_at(done - 1, self.cfg, self.steps),
                 "seconds": round(time.monotonic() - started, 2)}
        entry |= {key: float(value) / self.progress["clips"] for key, value in self.progress["sums"].items()}
        if score is not None:
            entry["validation"] = score(self.model)
            if entry["validation"] > self.progress["best"]:
                self.progress["best"] = entry["validation"]
                self.best = {name: x.clone() for name, x in self.model.state_dict().items()}

        # a log line, and the state for a resumed run
        if self.rank == 0:
            with open(self.log, "a") as f:
                f.write(json.dumps(entry) + "\n")
            log = read_log(self.log)
            if loss_is_back(log) and not loss_is_back(log[:-1]):
                bar.write(f"epoch {len(log)}: {loss_is_back(log)}", file=sys.stderr)
        bar.set_postfix({key: f"{entry[key]:.3f}" for key in ("loss", "top1", "validation") if key in entry})
        self.progress.update(epoch=self.progress["epoch"] + 1, step=0, sums={}, clips=0)
        self.save()

    def take_steps(self, source: Iterable[dict], bar) -> None:
        """Steps over the batches of `source`; saves every cfg.save_seconds."""
        source = iter(source)
        saved = time.monotonic()
        while window := list(itertools.islice(source, self.cfg.accumulate)):
            self.take_step(window)
            bar.update()
            if time.monotonic() - saved > self.cfg.save_seconds:
                self.save()
                saved = time.monotonic()


@contextlib.contextmanager
def compiled(model: nn.Module, on: bool):
    """Inside the block the feature maps of the networks in `model` come from torch.compile, if `on`.

    Only the maps: the number of bodies present is a shape, known only at run time. After its first change a graph
    serves any number; training, evaluation and causal mode have their own.
    """
    # an attribute of the instance hides the method of the class
    nets = [m for m in model.modules() if on and isinstance(m, tuple(MODELS.values()))]
    try:
        for net in nets:
            net.features = torch.compile(net.features)
        yield
    finally:
        for net in nets:
            del net.features  # the method of the class is back


SETTLED = 200  # steps. After fewer, running statistics of batch norms lag: a network may name one class for all clips


def fit(model: nn.Module, batches: Callable, loss_fn: LossFn, cfg: Train, folder: Path, recipe: dict, seed: int = 0,
        plain: Callable | None = None, score: Callable[[nn.Module], float] | None = None,
        identity: dict | None = None) -> nn.Module:
    """Train `model` in place; return it with its final (or averaged, or best-scoring) weights, in eval mode.

    batches(epoch, start) yields an epoch's batches from number `start` on, {joints (B, M, T, V, 3), label (B,)}, and
        has a length. Under torchrun each process has its share, and a batch says own and clips (training/view.py).
    plain() yields whole, unaugmented batches for batch-norm statistics after averaging or a short run; else batches().
    score(model), higher is better, judges on clips held out of training. The best epoch's weights are returned, or the
        average, or refreshed statistics after a short run, if these score no worse.
    folder/last.pt holds everything: a run that was cut continues from it, on a CPU in FP32 to the very same weights, if
        it has the same `recipe` and `identity` (phase, clips, teachers).

    ValueError if a loss or gradient is not finite.
    """
    keep_freed_memory()  # a step needs what the last one freed; on a CPU, taking it anew is slow

    # one training at a time in a folder: rank 0 locks it, no other rank writes
    steps = math.ceil(len(batches) / cfg.accumulate)
    lock = locked(folder) if rank_of()[0] == 0 else contextlib.nullcontext()
    with lock, global_norms(model), compiled(model, cfg.compile):
        run = Training(model, loss_fn, cfg, folder, seed, steps, recipe | (identity or {}))
        run.open(folder, recipe)
        done = run.progress["epoch"] * steps + run.progress["step"]
        with progress_bar(cfg.epochs * steps, done, "train", "step") as bar:
            while run.progress["epoch"] < cfg.epochs:
                run.run_epoch(batches, score, bar)
    choose_weights(run, plain or (lambda: batches(0, 0)), score)
    return model.eval()


def choose_weights(run: Training, plain: Callable, score: Callable | None) -> None:
    """Load the average (unless the best epoch scores more), else the best epoch's weights, else keep the last."""
    model = run.model
    if run.mean_model is not None:
        model.load_state_dict(run.mean_model.module.state_dict())
    elif run.best is not None:
        model.load_state_dict(run.best)

    # statistics of the average, or of a short run; the best-scoring epoch wins if they make it worse
    if run.mean_model is not None or run.cfg.epochs * run.steps < SETTLED:
        refresh_batchnorm(model, plain)
        if run.best is not None and score(model) < run.progress["best"]:
            model.load_state_dict(run.best)
