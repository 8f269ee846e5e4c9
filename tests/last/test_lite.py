"""LAST-Lite and the blocks that the networks share, sections 3 and 4 of last.py."""
import io
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import last
from last import (
    LITE,
    DCTGate,
    EpSepTCN,
    Head,
    JointShift,
    LastLite,
    LiteStage,
    Model,
    ShiftFuseBlock,
    StreamFusion,
    TemporalConv,
    bodies_present,
    causal,
    dct_matrix,
)
from phases.training.recipe import load_config
from skeletons import SKELETONS

NTU = SKELETONS["ntu25"]
ROWS = [f"L{k}" for k in range(9)]


def lite(skeleton=NTU, frames=16, num_classes=7, seed=0, **switches) -> LastLite:
    torch.manual_seed(seed)
    return LastLite(replace(Model(variant="nano", dropout=0.0), **switches), skeleton, num_classes, frames)


def lived(model: nn.Module, seed: int = 1) -> nn.Module:
    """The model in eval mode, its parameters and statistics moved off their initial values as training would."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() < 4:  # kernels are random from the start
                p.add_(0.3 * torch.randn(p.shape, generator=g))
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.running_mean.copy_(0.2 * torch.randn(m.num_features, generator=g))
                m.running_var.copy_(0.5 + torch.rand(m.num_features, generator=g))
    return model.eval()


def clips(B=3, M=2, T=16, V=25, seed=0, absent=()) -> torch.Tensor:
    x = 0.5 * torch.randn(B, M, T, V, 3, generator=torch.Generator().manual_seed(seed))
    for b, m in absent:
        x[b, m] = 0
    return x


# --- size ---

def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("recipe, lo, hi", [("lite_nano", 0, 64_000), ("lite_pair", 64_000, 120_000),
                                             ("lite_small", 120_000, 190_000)])
def test_budget_is_kept_at_60_classes_25_joints_64_frames(recipe, lo, hi):
    cfg = load_config([f"recipe={recipe}"])
    assert cfg.view.frames == 64
    assert lo < parameters(LastLite(cfg.model, NTU, 60, cfg.view.frames)) <= hi


@pytest.mark.parametrize("variant, stem, stages", [
    ("nano", 24, ((32, 1, 1), (48, 1, 2), (64, 1, 2))), ("small", 32, ((48, 1, 1), (72, 2, 2), (96, 2, 2)))])
def test_widths_blocks_and_strides_are_the_table_of_the_design(variant, stem, stages):
    model = lite(variant=variant, frames=64)
    assert LITE[variant] == (stem, stages) and model.stem.stem.shape == (stem, 3)
    maps = model.features(torch.randn(2, 64, 25, 3))
    T, cin = 64, stem
    for stage, x, (width, blocks, stride) in zip(model.stages, maps, stages, strict=True):
        T //= stride
        assert x.shape == (2, width, T, 25) and len(stage.blocks) == blocks
        for i, block in enumerate(stage.blocks):
            expand, _, _, depthwise, _, _, project, _ = block.tcn.body
            assert block.stride == (stride if i == 0 else 1) and block.tcn.residual == (block.stride == 1)
            assert block.mix[1].weight.shape[:2] == (width, cin) and expand.weight.shape[:2] == (2 * width, width)
            assert depthwise.conv.weight.shape == (2 * width, 1, 5, 1)
            assert project.weight.shape[:2] == (width, 2 * width)
            cin = width


@pytest.mark.parametrize("recipe, p", [("lite_nano", 0.10), ("lite_small", 0.15)])
def test_head_dropout_is_that_of_the_design(recipe, p):
    cfg = load_config([f"recipe={recipe}"])
    assert LastLite(cfg.model, NTU, 60, 64).head.dropout.p == p


@pytest.mark.parametrize("variant", LITE)
@pytest.mark.parametrize("switch, name", [("joint_embedding", "embedding"), ("dct_gate", "mask"),
                                          ("frame_gate", "gate")])
def test_switch_adds_exactly_its_parameters(variant, switch, name):
    on, off = (dict(lite(variant=variant, frames=31, **{switch: s}).named_parameters()) for s in (True, False))
    trunks = ("", "second.") if variant == "pair" else ("",)
    names = {f"{trunk}stages.{s}.{name}" for trunk in trunks for s in range(3)}
    assert on.keys() - off.keys() == names and off.keys() < on.keys()
    assert all(on[k].shape == off[k].shape for k in off)
    if name != "gate":
        sizes = {"embedding": (25, 25, 25), "mask": (31, 31, 16)}[name]
        for s, (width, _, _) in enumerate(LITE[variant][1]):
            assert on[f"stages.{s}.{name}"].shape == (width, sizes[s])


def test_shift_costs_no_parameters_and_region_is_not_random():
    a, b = lite(shift="region").eval(), lite(shift="random").eval()
    assert parameters(a) == parameters(b) and a.state_dict().keys() == b.state_dict().keys()
    b.load_state_dict(a.state_dict())
    assert not torch.allclose(a(clips()), b(clips()), atol=1e-3)


def test_frame_gate_has_one_value_per_channel_and_frame():
    model = lite(variant="small", frames=64)
    assert [tuple(s.gate.shape) for s in model.stages] == [(48, 64), (72, 32), (96, 16)]


# --- DCT gate ---

@pytest.mark.parametrize("T", [1, 2, 13, 31, 64, 120])
def test_dct_matrix_is_orthonormal_and_type_two(T):
    D = dct_matrix(T)
    assert torch.allclose(D @ D.T, torch.eye(T), atol=1e-5) and D.dtype == torch.float32
    for k in {0, 1, T - 1} & set(range(T)):
        scale = math.sqrt((1 if k == 0 else 2) / T)
        want = [scale * math.cos(math.pi * (2 * t + 1) * k / (2 * T)) for t in range(T)]
        assert D[k].tolist() == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("T, K", [(16, 16), (8, 16), (31, 31), (16, 31), (1, 2)])
def test_dct_gate_is_one_matrix_per_channel(T, K):
    gate, x0, m0 = DCTGate(T), torch.randn(2, 6, T, 5), torch.randn(6, K)
    weight, results = torch.randn(2, 6, T, 5), []
    for explicit in (False, True):
        x, m = x0.clone().requires_grad_(), m0.clone().requires_grad_()
        if explicit:
            D = dct_matrix(T)
            matrices = [D.T @ torch.diag(torch.sigmoid(m[c, :T])) @ D for c in range(6)]
            y = torch.stack([matrices[c] @ x[:, c] for c in range(6)], 1)
        else:
            y = gate(x, m.sigmoid())
        (y * weight).sum().backward()
        results.append((y.detach(), x.grad, m.grad))
    for got, want in zip(*results, strict=True):
        assert torch.allclose(got, want, atol=1e-5)
    mask_gradient = results[0][2]
    assert (mask_gradient[:, T:] == 0).all()


def test_fresh_gates_are_one_constant_factor():
    model, x, y = lite(frames=16), torch.randn(2, 24, 16, 25), torch.randn(2, 32, 16, 25)
    stage, block = model.stages[0], model.stages[0].blocks[0].eval()
    assert torch.allclose(block.dct(y, stage.mask.sigmoid()), y / 2, atol=1e-5)
    residual = F.pad(x, (0, 0, 0, 0, 0, 8))
    mask = stage.mask.sigmoid()
    gated, free = (block(x, stage.embedding, mask, g) - residual for g in (stage.gate.sigmoid(), None))
    assert torch.allclose(2 * gated, free, atol=1e-5)
    assert all((p == 0).all() for s in model.stages for p in (s.mask, s.gate))
    S = len(model.streams)
    assert torch.allclose(torch.softmax(model.stem.weights, 0), torch.full((S, 24), 1 / S))
    assert (model.head.gate == 0).all()


# --- temporal convolution and causal mode ---

@given(T=st.integers(1, 17), kernel=st.sampled_from([1, 3, 5, 7]), stride=st.integers(1, 3), dilation=st.integers(1, 3),
       groups=st.sampled_from([1, 2]), is_causal=st.booleans())
def test_temporal_convolution_is_a_loop_over_frames(T, kernel, stride, dilation, groups, is_causal):
    conv, x = TemporalConv(4, 6, kernel, stride, dilation, groups), torch.randn(2, 4, T, 3)
    conv.causal = is_causal
    left = (kernel - 1) * dilation // (1 if is_causal else 2)
    want = torch.zeros(2, 6, math.ceil(T / stride), 3)
    for t in range(want.shape[2]):
        for k in range(kernel):
            at = t * stride - left + k * dilation
            if 0 <= at < T:
                for g in range(groups):
                    o = slice(g * 6 // groups, (g + 1) * 6 // groups)
                    i = slice(g * 4 // groups, (g + 1) * 4 // groups)
                    want[:, o, t] += torch.einsum("oi,biv->bov", conv.conv.weight[o, :, k, 0], x[:, i, at])
    with torch.no_grad():
        assert torch.allclose(conv(x), want, atol=1e-5)


def leaks(f, x: torch.Tensor, stride: int) -> bool:
    """Whether any output frame t of f depends on an input frame after t·stride."""
    y = f(x)
    for t in range(x.shape[2]):
        z = x.clone()
        z[:, :, t] += torch.randn_like(z[:, :, t])
        first_allowed = math.ceil(t / stride)
        if not torch.allclose(f(z)[:, :, :first_allowed], y[:, :, :first_allowed], atol=1e-6):
            return True
    return False


@pytest.mark.parametrize("variant", LITE)
@torch.no_grad()
def test_causal_mode_leaks_nothing_in_any_temporal_convolution(variant):
    model = lite(variant=variant, frames=64)
    convs = [m for m in model.modules() if isinstance(m, TemporalConv)]
    assert len(convs) == sum(blocks for _, blocks, _ in LITE[variant][1]) * (2 if variant == "pair" else 1)

    def conv_leaks(m: TemporalConv) -> bool:
        return leaks(m, torch.randn(1, m.conv.weight.shape[0], 13, 2), m.conv.stride[0])

    with causal(model):
        assert not any(conv_leaks(m) for m in convs)
    assert all(conv_leaks(m) for m in convs)


@pytest.mark.parametrize("T", [8, 13])
@torch.no_grad()
def test_causal_mode_leaks_nothing_through_blocks_without_dct(T):
    model = lived(lite(frames=T, dct_gate=False))

    def stages(x):
        for stage in model.stages:
            x = stage(x)
        return x

    x = torch.randn(1, 24, T, 25)
    inputs = [x, torch.randn(1, 32, T, 25), torch.randn(1, 48, math.ceil(T / 2), 25)]
    with causal(model):
        for stage, own in zip(model.stages, inputs, strict=True):
            assert not leaks(stage, own, stage.blocks[0].stride)
        assert not leaks(stages, x, 4)
    assert leaks(stages, x, 4)


@pytest.mark.parametrize("T", [8, 9])
def test_residual_is_identity_or_the_mean_of_two_frames(T):
    for stride, cout in ((1, 24), (1, 32), (2, 24), (2, 32)):
        block, x = ShiftFuseBlock(NTU.region_shift(24), cout, T, stride), torch.randn(2, 24, T, 25)
        nn.init.zeros_(block.tcn.body[-1].weight)
        if stride == 1:  # EpSepTCN then adds its input: silence that as well
            nn.init.zeros_(block.mix[1].weight)
        want = torch.zeros(2, cout, math.ceil(T / stride), 25)
        for t in range(want.shape[2]):
            if stride == 1 or t == 0:
                want[:, :24, t] = x[:, :, t]
            else:
                want[:, :24, t] = (x[:, :, 2 * t] + x[:, :, 2 * t - 1]) / 2
        assert torch.allclose(block(x, None, None, None), want, atol=1e-6)


def test_causal_mode_is_restored_after_errors_and_when_nested():
    model = lite()
    convs = [m for m in model.modules() if isinstance(m, TemporalConv)]
    convs[1].causal = True
    was = [m.causal for m in convs]
    with pytest.raises(KeyError), causal(model):
        assert all(m.causal for m in convs)
        with causal(model, False):
            assert not any(m.causal for m in convs)
        assert all(m.causal for m in convs)
        raise KeyError
    assert [m.causal for m in convs] == was


# --- pieces against their formulas ---

@pytest.mark.parametrize("name", SKELETONS)
def test_joint_shift_gathers_joint_by_joint(name):
    s = SKELETONS[name]
    for table in (s.region_shift(24), s.random_shift(24, seed=5)):
        x = torch.randn(2, 24, 3, s.num_joints)
        want = torch.empty_like(x)
        for c in range(24):
            for v in range(s.num_joints):
                want[:, c, :, v] = x[:, c, :, table[c, v]]
        assert torch.equal(JointShift(table)(x), want)


@pytest.mark.parametrize("training", [True, False])
def test_stream_fusion_is_norms_one_stem_and_a_softmax(training):
    fusion, x, want = StreamFusion(4, 6), torch.randn(3, 12, 5, 7), 0
    nn.init.normal_(fusion.weights)
    lived(fusion).train(training)
    share = fusion.weights.exp() / fusion.weights.exp().sum(0)
    for s in range(4):
        own, norm = slice(3 * s, 3 * s + 3), nn.BatchNorm2d(3).train(training)  # three channels per stream
        for key in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, key).data = getattr(fusion.norm, key).detach()[own].clone()
        want = want + share[s][:, None, None] * F.conv2d(norm(x[:, own]), fusion.stem[:, :, None, None])
    assert torch.allclose(fusion(x), want, atol=1e-5)


def test_ep_sep_tcn_is_expand_depthwise_project_plus_input():
    for stride in (1, 2):
        tcn, x = lived(EpSepTCN(6, stride)), torch.randn(2, 6, 9, 3)
        expand, n1, _, depthwise, n2, _, project, n3 = tcn.body
        wide = F.hardswish(n1(torch.einsum("oi,bitv->botv", expand.weight[..., 0, 0], x)))
        moved = F.conv2d(wide, depthwise.conv.weight, stride=(stride, 1), padding=(2, 0), groups=12)
        y = n3(torch.einsum("oi,bitv->botv", project.weight[..., 0, 0], F.hardswish(n2(moved))))
        assert torch.allclose(tcn(x), y + x if stride == 1 else y, atol=1e-5)


def test_block_is_the_formula_of_the_design():
    stage, x = lived(LiteStage(24, 32, 1, 2, 8, NTU, Model())), torch.randn(2, 24, 8, 25)
    block, D, table = stage.blocks[0], dct_matrix(8), torch.from_numpy(NTU.region_shift(24))
    shifted = torch.stack([x[:, c][:, :, table[c]] for c in range(24)], 1)
    mixed = block.mix[2](torch.einsum("oi,bitv->botv", block.mix[1].weight[..., 0, 0], shifted))
    y = F.hardswish(mixed) + stage.embedding[:, None, :]
    y = torch.einsum("kt,ck,ks,bcsv->bctv", D, stage.mask.sigmoid(), D, y)
    y = block.tcn(y) * stage.gate.sigmoid()[..., None]
    residual = torch.zeros_like(y)
    residual[:, :24, 0], residual[:, :24, 1:] = x[:, :, 0], (x[:, :, 1:7:2] + x[:, :, 2:8:2]) / 2
    assert torch.allclose(stage(x), y + residual, atol=1e-5)


def test_blocks_of_a_stage_share_its_embedding_mask_and_gate():
    stage, x = lived(LiteStage(32, 48, 2, 2, 16, NTU, Model())), torch.randn(2, 32, 16, 25)
    first, second = stage.blocks
    shared = stage.embedding, stage.mask.sigmoid(), stage.gate.sigmoid()
    assert torch.equal(stage(x), second(first(x, *shared), *shared))
    assert {n for n, _ in stage.named_parameters() if "blocks" not in n} == {"embedding", "mask", "gate"}


@pytest.mark.parametrize("training", [True, False])
def test_head_mixes_mean_and_maximum_of_present_bodies(training):
    head = lived(Head(6, 4, 0.0)).train(training)
    x, pooled = torch.randn(3, 2, 6, 5, 7), torch.zeros(3, 6)
    present = torch.tensor([[1., 1.], [1., 0.], [1., 1.]])
    for b in range(3):
        bodies = [x[b, m].flatten(1) for m in range(2) if present[b, m]]
        for c in range(6):
            g = torch.sigmoid(head.gate[c])
            pooled[b, c] = sum(g * y[c].mean() + (1 - g) * y[c].max() for y in bodies) / len(bodies)
    n = head.norm
    mean, var = n.running_mean.clone(), n.running_var.clone()
    if training:
        mean, var = pooled.mean(0), pooled.var(0, correction=0)
    want = head.classifier((pooled - mean) / (var + n.eps).sqrt() * n.weight + n.bias)
    got = head(torch.stack([head.pool(x[:, m]) for m in range(2)], 1), present)
    assert torch.allclose(got, want, atol=1e-5)


def test_bodies_with_a_joint_are_present_and_always_the_main_one():
    x = torch.zeros(3, 2, 4, 5, 3)
    x[1, 1, 3, 4, 2] = -1e-6
    assert bodies_present(x).tolist() == [[1, 0], [1, 1], [1, 0]]


# --- gradients ---

@pytest.mark.parametrize("row", ROWS)
def test_gradient_reaches_every_parameter_after_one_step(row):
    cfg = load_config([f"recipe={row}"])
    torch.manual_seed(0)
    model = LastLite(replace(cfg.model, dropout=0.0), NTU, 5, 16)
    x, label = clips(B=4, absent=[(1, 1)]), torch.arange(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    F.cross_entropy(model(x), label).backward()
    optimizer.step()
    optimizer.zero_grad()
    F.cross_entropy(model(x), label).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().max() > 1e-9, name
        if name.rsplit(".")[-1] in ("embedding", "mask", "gate"):
            assert (p.grad != 0).all(), name


# e: joint embedding, r: region shift, d: DCT gate, f: frame gate
@pytest.mark.parametrize("row, on", [*zip(ROWS, ("", "e", "f", "r", "d", "erdf", "erf", "rdf", "edf"), strict=True)])
def test_row_switches_the_pieces_of_the_plan(row, on):
    m = load_config([f"recipe={row}"]).model
    assert (m.joint_embedding, m.shift == "region", m.dct_gate, m.frame_gate) == tuple(k in on for k in "erdf")
    assert m.variant == "small"


def test_gradient_of_a_stage_is_that_of_finite_differences():
    # without the DCT gate: it computes in FP32, too coarse here, and a test above compares it with its matrix
    stage = lived(LiteStage(8, 8, 1, 2, 4, NTU, Model(dct_gate=False))).double()
    weights = dict(stage.named_parameters())
    x = torch.randn(1, 8, 4, 25, dtype=torch.double, requires_grad=True)

    def run(x, *values):
        return torch.func.functional_call(stage, dict(zip(weights, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *weights.values()), fast_mode=True)


# --- invariants of the whole ---

@torch.no_grad()
def test_order_of_the_clips_does_not_matter():
    model, x, order = lived(lite()), clips(B=5, absent=[(1, 1), (3, 1)]), torch.tensor([3, 0, 4, 1, 2])
    assert torch.allclose(model(x[order]), model(x)[order], atol=1e-4)
    assert torch.allclose(model(x[3:4]), model(x)[3:4], atol=1e-4)
    assert model(x).std(0).max() > 1e-3


@torch.no_grad()
def test_order_of_two_present_bodies_does_not_matter():
    model, x = lived(lite()), clips()
    assert torch.allclose(model(x.flip(1)), model(x), atol=1e-4)
    assert not torch.allclose(model(x[:, :1]), model(x), atol=1e-3)


@torch.no_grad()
def test_absent_second_body_changes_nothing_at_test_time():
    model, x = lived(lite()), clips(M=1)
    assert torch.allclose(model(torch.cat([x, torch.zeros_like(x)], 1)), model(x), atol=1e-5)


@pytest.mark.parametrize("B", [1, 3])
def test_absent_second_body_changes_nothing_in_training(B):
    x, results = clips(B=B, M=1), []
    for joints in (x, torch.cat([x, torch.zeros_like(x)], 1)):
        model = lite().train()
        y = model(joints)
        y.square().sum().backward()
        results.append((y.detach(), {n: p.grad for n, p in model.named_parameters()}, dict(model.named_buffers())))
    (y1, grads1, buffers1), (y2, grads2, buffers2) = results
    assert torch.allclose(y1, y2, atol=1e-5)
    assert all(torch.allclose(grads1[k], grads2[k], atol=1e-4, rtol=1e-3) for k in grads1)
    assert all(torch.allclose(buffers1[k].float(), buffers2[k].float(), atol=1e-6) for k in buffers1)


def test_an_absent_body_stays_out_of_batch_norm_statistics():
    model, x = lite().train(), clips(B=3, absent=[(0, 1), (2, 1)])
    model(x)
    other = lite().train()
    other.features(torch.stack([x[0, 0], x[1, 0], x[1, 1], x[2, 0]]))
    want = dict(other.stages.named_buffers())
    for name, buffer in model.stages.named_buffers():
        assert torch.allclose(buffer.float(), want[name].float(), atol=1e-5), name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["all zero", "one frame repeated", "one of them zero"])
def test_degenerate_clips_give_no_nan_in_values_or_gradients(training, kind):
    model, x = lite().train(training), clips()
    x = {"all zero": 0 * x, "one frame repeated": x[:, :, :1].expand_as(x),
         "one of them zero": torch.cat([0 * x[:1], x[1:]])}[kind]
    y = model(x)
    y.square().sum().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("skeleton", SKELETONS)
@pytest.mark.parametrize("T", [1, 2, 16, 31])
def test_any_skeleton_and_any_number_of_frames_work(skeleton, T):
    s = SKELETONS[skeleton]
    model = lite(s, T)
    for training in (True, False):
        y = model.train(training)(clips(M=1, T=T, V=s.num_joints))
        assert y.shape == (3, 7) and torch.isfinite(y).all()


@pytest.mark.parametrize("T", [31, 120])
def test_small_works_at_odd_and_long_lengths(T):
    model = lite(variant="small", frames=T).eval()
    maps = model.features(clips(B=1, T=T)[:, 0])
    assert [m.shape[2] for m in maps] == [T, math.ceil(T / 2), math.ceil(math.ceil(T / 2) / 2)]


@torch.no_grad()
def test_memory_format_does_not_change_what_a_stage_computes():
    model, x = lived(lite()), torch.randn(2, 24, 16, 25)
    stage, channels_last = model.stages[0], x.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(stage(channels_last), stage(x.contiguous()), atol=1e-5)
    whole, joints = model(clips()), clips()
    strided = joints.transpose(2, 3).contiguous().transpose(2, 3)
    assert not strided.is_contiguous() and torch.allclose(model(strided), whole, atol=1e-5)
    assert torch.allclose(model.to(memory_format=torch.channels_last)(joints), whole, atol=1e-4)


# --- state ---

def test_state_holds_no_tables_and_loads_as_weights_only():
    model, other = lived(lite()), lite(seed=9).eval()
    state = model.state_dict()
    assert not [k for k, v in state.items() if not v.is_floating_point() and not k.endswith("num_batches_tracked")]
    assert not [k for k in state if k.rsplit(".")[-1] in ("D", "flat", "parents")]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert state.keys() - dict(model.named_parameters()).keys() == {k for k in state if k.endswith(statistics)}
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    assert not torch.allclose(other(clips()), model(clips()), atol=1e-3)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(clips()), model(clips()))


def test_dct_products_stay_in_fp32_under_autocast():
    gate, x, m = DCTGate(16), torch.randn(2, 6, 16, 5), torch.rand(6, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = gate(x, m)
    assert y.dtype == torch.float32 and torch.equal(y, gate(x, m))


@torch.no_grad()
def test_autocast_stays_close_to_fp32():
    model = lived(lite())
    with torch.autocast("cpu", torch.bfloat16):
        half = model(clips()).float()
    whole = model(clips())
    assert (half - whole).abs().max() < 0.05 * whole.abs().max()


def test_what_blocks_share_may_be_of_any_size(monkeypatch):
    """On a CPU it is as large as a map, on a GPU it broadcasts: the same numbers, the same gradients up to rounding."""
    def run():
        model = lite(variant="small").train()
        y = model(clips())
        y.square().sum().backward()
        return y, [p.grad for p in model.parameters()]

    y, gradients = run()
    monkeypatch.setattr(last, "by_rows", lambda op, x, shared: op(x, shared))
    small_y, small_gradients = run()
    assert torch.equal(y, small_y)
    for a, b in zip(gradients, small_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(max(g.abs().max() for g in gradients)))
