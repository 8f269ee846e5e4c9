"""LAST-Base and LAST-E: every block against its formula, every ablation row, and invariants of the whole networks."""
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import last
from last import (
    AdaptiveGraph,
    CrossTemporalPrototypeGCN,
    FreqTemporalGate,
    HierarchicalBodyRegion,
    MultiScaleTCN,
    PartitionedTemporalAttention,
    SpatialGCN,
    STJointAtt,
    Train,
    bottleneck_loss,
    causal,
    make_optimizer,
)
from phases import p1_train
from phases.training.networks import build_model, describe
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.reference import dense_attention

NTU = SKELETONS["ntu25"]
ROWS = [f"B{i}" for i in range(14)]


def stir(module: nn.Module, scale: float = 0.3) -> nn.Module:
    """The module with random parameters and statistics: a piece that starts at zero then shows in the output."""
    for p in module.parameters():
        nn.init.normal_(p, std=scale)
    for m in module.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            m.running_mean.normal_(std=0.1)
            m.running_var.uniform_(0.5, 1.5)
    return module


def small(recipe: str, *overrides: str, skeleton=NTU, frames: int = 8) -> nn.Module:
    cfg = load_config([f"recipe={recipe}", "model.width=16", f"view.frames={frames}", *overrides])
    return build_model(cfg, skeleton, 5)


@given(T=st.integers(1, 13), name=st.sampled_from(sorted(SKELETONS)), seed=st.integers(0, 99))
def test_partitioned_attention_equals_dense_masks(T, name, seed):
    torch.manual_seed(seed)
    s = SKELETONS[name]
    block = stir(PartitionedTemporalAttention(16, s, T)).eval()
    x, g = torch.randn(2, 16, T, s.num_joints), torch.randn(2, 16, T, s.num_joints)
    grads = []
    for f in (lambda x: dense_attention(block, x, s.hops), block):
        x = x.detach().requires_grad_()
        y = f(x)
        grads.append((y, *torch.autograd.grad((y * g).sum(), [x, *block.parameters()])))
    for a, b in zip(*grads, strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1, a.detach().abs().max().item())


def test_partitioned_attention_saves_no_scores_of_all_pairs():
    block, sizes = stir(PartitionedTemporalAttention(16, NTU, 64)), []

    def note(t: torch.Tensor) -> torch.Tensor:
        sizes.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        block(torch.randn(3, 16, 64, 25)).sum().backward()
    pairs = (64 * 25) ** 2
    assert sizes.count(pairs) == 1 and max(sizes) == pairs and sorted(sizes)[-2] < pairs / 2


def test_partitioned_attention_needs_half_of_the_dense_products():
    T, V, near, block = 64, 25, int((NTU.hops <= 1).sum(1).max()), PartitionedTemporalAttention
    # (query, key) pairs that a head multiplies: heads 0 and 2 together, head 1, head 3
    window, listed, far = 2 * T * V * 10 * V, T * V * T * near, (T * V) ** 2
    assert (block.REACH, block.BLOCK) == (3, 4) and window + listed + far <= 0.5 * 4 * (T * V) ** 2
    module = block(16, NTU, T)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module(torch.zeros(1, 16, T, V))
    projections = T * V * (16 * 12 + 16 * 16)
    assert counter.get_total_flops() // 2 == projections + 2 * 4 * (window + listed + far)


@pytest.mark.parametrize("T", [1, 4, 8])
def test_attention_is_finite_under_autocast_and_close_to_fp32(T):
    block, x = stir(PartitionedTemporalAttention(16, NTU, T)).eval(), torch.randn(2, 16, T, 25)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
    assert torch.isfinite(y).all() and (y - block(x)).abs().mean() < 0.05


def test_attention_compiles_into_one_graph():
    torch._dynamo.reset()
    block, x = stir(PartitionedTemporalAttention(16, NTU, 9)).eval(), torch.randn(2, 16, 9, 25)
    torch.testing.assert_close(torch.compile(block, backend="eager", fullgraph=True)(x), block(x))


def test_temporal_context_is_the_mean_relu_over_shifted_frames():
    A, x = stir(AdaptiveGraph(6, 25, True, 0)), torch.randn(2, 6, 7, 25)
    W = A.context.detach().permute(2, 0, 1)  # o h c
    hidden = torch.zeros(2, 25, A.HIDDEN)
    for n in range(2):
        for v in range(25):
            for t in range(7):
                h = A.bias.detach().clone()
                for o, offset in enumerate((0, -1, 1, -3, 3)):
                    if 0 <= t + offset < 7:
                        h += W[o] @ x[n, :, t + offset, v]
                hidden[n, v] += h.relu() / 7
    norm, linear = A.rows
    mean, var = hidden.mean(2, keepdim=True), hidden.var(2, correction=0, keepdim=True)
    z = (hidden - mean) / (var + norm.eps).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(A(x, None), (z @ linear.weight.T + linear.bias) / 25, rtol=1e-4, atol=1e-4)


def test_temporal_context_does_not_grow_with_the_features():
    A, x = stir(AdaptiveGraph(6, 25, True, 0)), 10 * torch.randn(2, 6, 7, 25)
    nn.init.zeros_(A.bias)  # the only term that does not scale with x
    torch.testing.assert_close(A(100 * x, None), A(x, None), rtol=1e-4, atol=1e-4)


def test_temporal_context_does_not_dominate_the_gradient():
    torch.manual_seed(0)
    model, x = small("B1").train(), 5 * torch.randn(16, 1, 8, 25, 3)
    F.cross_entropy(model(x), torch.arange(16) % 5).backward()
    own = sum(p.grad.square().sum() for n, p in model.named_parameters() if ".adaptive." in n)
    rest = sum(p.grad.square().sum() for n, p in model.named_parameters() if ".adaptive." not in n)
    assert 0 < own < rest


def test_prototypes_mix_the_bank_by_softmax_of_pooled_features():
    A, x, bank = stir(AdaptiveGraph(6, 25, False, 15)), torch.randn(2, 6, 7, 25), torch.randn(15, 25, 25)
    w = F.softmax(x.mean((2, 3)) @ A.choose.weight.T, 1)
    torch.testing.assert_close(A(x, bank), sum(w[:, k, None, None] * bank[k] for k in range(15)))


@pytest.mark.parametrize("directed", [False, True])
def test_spatial_gcn_sums_over_subsets_of_the_normalised_graph(directed):
    gcn, x = stir(SpatialGCN(6, 8, NTU, directed)), torch.randn(2, 6, 3, 25)
    A = gcn.A * gcn.edges
    if directed:
        A = A * 5 * gcn.weights.softmax(0)[:, None, None]
    W = gcn.conv.weight.reshape(len(A), 8, 6)
    torch.testing.assert_close(gcn(x), torch.einsum("koc,nctu,kvu->notv", W, x, A), rtol=1e-4, atol=1e-4)
    whole = (NTU.hops <= 2).astype(np.float32)
    d = whole.sum(1) ** -0.5
    np.testing.assert_allclose(gcn.A.sum(0), d[:, None] * whole * d, rtol=1e-5)  # each pair lies in exactly one subset


def test_grouped_gcn_gives_each_channel_group_its_own_graph():
    gcn = stir(CrossTemporalPrototypeGCN(6, 8, NTU, AdaptiveGraph(6, 25, True, 15)))
    x, bank = torch.randn(2, 6, 3, 25), torch.randn(15, 25, 25)
    y, A = gcn.conv(x), gcn.adaptive(x, bank)
    out = [torch.einsum("nctu,nvu->nctv", y[:, 2 * g:2 * g + 2], gcn.A + gcn.learned[g] + A) for g in range(4)]
    torch.testing.assert_close(gcn(x, bank), torch.cat(out, 1), rtol=1e-4, atol=1e-4)


def test_frequency_gate_equals_its_formula():
    gate, x = stir(FreqTemporalGate(8, 6)), torch.randn(2, 8, 6, 5)
    X = torch.einsum("kt,nctv->nckv", gate.D, x)
    mask = torch.sigmoid(gate.mlp(X.abs().mean(2).mean(2)))
    torch.testing.assert_close(gate(x), x + torch.einsum("kt,nk,nckv->nctv", gate.D, mask, X))


def test_body_regions_attend_inside_a_region_then_among_regions():
    block, x = stir(HierarchicalBodyRegion(16, NTU)).eval(), torch.randn(1, 16, 2, 25)
    y = block.norm(x).permute(0, 2, 3, 1)[0]  # t v c
    q, k, v = block.joint_qkv(y).chunk(3, -1)
    h, token = torch.zeros_like(v), torch.zeros(2, 5, 2)
    for t in range(2):
        for r, joints in enumerate(NTU.regions.values()):
            joints = list(joints)
            h[t, joints] = F.softmax(q[t, joints] @ k[t, joints].T / 2 ** 0.5, -1) @ v[t, joints]
            token[t, r] = F.softmax(h[t, joints] @ block.query[r] / 2 ** 0.5, 0) @ h[t, joints]
    q, k, v = block.region_qkv(token).chunk(3, -1)
    token = F.softmax(q @ k.transpose(1, 2) / 2 ** 0.5, -1) @ v
    back = h.clone()
    for r, joints in enumerate(NTU.regions.values()):
        back[:, list(joints)] += block.weight[list(joints)] * token[:, r, None]
    torch.testing.assert_close(block(x), x + block.out(back).permute(2, 0, 1)[None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [PartitionedTemporalAttention(16, NTU, 8), HierarchicalBodyRegion(16, NTU),
                                   STJointAtt(16)])
def test_fresh_attention_changes_nothing(block):
    x = torch.randn(2, 16, 8, 25)
    assert torch.equal(block(x), x)


def test_fresh_full_block_is_its_plain_residual_gcn():
    model = small("B7", "model.drop_path=0").eval()
    block, x = model.stages[0][1], torch.randn(2, 16, 8, 25)
    y = F.gelu(block.norm(torch.einsum("nctu,vu->nctv", block.gcn.conv(x), block.gcn.A)))
    torch.testing.assert_close(block(x, model.bank), F.gelu(block.rest[1](1.5 * y) + x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [MultiScaleTCN(8, 1), MultiScaleTCN(8, 2)])
def test_multi_scale_tcn_sees_no_later_frame_in_causal_mode(block):
    block.eval()
    x, later = torch.randn(1, 8, 12, 3), torch.randn(1, 8, 12, 3)
    stride = block.branches[0].conv.stride[0]
    for t in range(0, 12, stride):
        y = torch.cat([x[:, :, :t + 1], later[:, :, t + 1:]], 2)
        with causal(block):
            torch.testing.assert_close(block(x)[:, :, :t // stride + 1], block(y)[:, :, :t // stride + 1])


def test_budgets_hold_at_60_classes():
    assert abs(describe(load_config(["recipe=base", "view.frames=64"]))["params"] / 4.2e6 - 1) <= 0.05
    assert abs(describe(load_config(["recipe=last_e"]))["params"] / 720e3 - 1) <= 0.05


# row: parts of the names of the parameters that it adds to B0
SWITCH = {"B1": "adaptive.", "B2": "adaptive.choose|bank", "B3": "rest.0.", "B4": "rest.2.", "B5": "rest.3.",
          "B6": "head.classifier."}


@pytest.mark.parametrize("row", SWITCH)
def test_each_row_adds_the_parameters_of_its_piece_alone(row):
    names = {k: {n: p.shape for n, p in small(k).named_parameters()} for k in ("B0", row)}
    added = {n for n in names[row] if names["B0"].get(n) != names[row][n]}
    assert added and all(any(piece in n for piece in SWITCH[row].split("|")) for n in added)
    assert {n for n in names["B0"] if n not in names[row]} <= {"head.classifier.weight", "head.classifier.bias"}


# row: parts of the names of the parameters that it takes from B7
REMOVED = {"B8": "rest.0.", "B9": "bank|adaptive.choose", "B10": "rest.3.", "B11": "rest.2."}


@pytest.mark.parametrize("row", REMOVED)
def test_each_row_takes_the_parameters_of_its_piece_alone(row):
    full, less = (dict(small(k).named_parameters()) for k in ("B7", row))
    gone = {n for n in full if n not in less}
    assert gone and all(any(piece in n for piece in REMOVED[row].split("|")) for n in gone)
    assert all("rest.2." in n for n in less if n not in full)


@pytest.mark.parametrize("recipe", [*ROWS, "last_e"])
def test_a_gradient_reaches_every_parameter_after_one_step(recipe):
    model = small(recipe, "model.drop_path=0")
    loss_fn, optimizer = last.classification_loss(Train()), make_optimizer(model, Train(optimizer="adamw", lr=0.01))
    batch = {"joints": torch.randn(6, 1, 8, 25, 3), "label": torch.arange(6) % 5}
    for _ in range(3):  # a layer that starts at zero blocks the gradient in the first step
        optimizer.zero_grad()
        loss_fn(model, batch)[0].backward()
        optimizer.step()
    for name, p in model.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().max() > 0, name


@pytest.mark.parametrize("recipe", ["B0", "B7", "B11", "last_e"])
def test_permuted_clips_permute_logits_and_absent_bodies_nothing(recipe):
    model = stir(small(recipe), 0.1).eval()
    x, order = torch.randn(4, 1, 8, 25, 3), torch.tensor([2, 0, 3, 1])
    y = model(x)
    torch.testing.assert_close(model(x[order]), y[order], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(torch.cat([x, torch.zeros_like(x)], 1)), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recipe", ["B7", "B11", "last_e"])
@pytest.mark.parametrize("skeleton", sorted(SKELETONS))
@pytest.mark.parametrize("frames", [1, 9])
def test_any_skeleton_and_length_gives_finite_logits(recipe, skeleton, frames):
    s = SKELETONS[skeleton]
    model = small(recipe, skeleton=s, frames=frames).eval()
    x = torch.randn(2, 2, frames, s.num_joints, 3)
    x[1] = 0
    assert model(x).shape == (2, 5) and torch.isfinite(model(x)).all()
    half = math.ceil(frames / 2)
    assert [m.shape[2] for m in model.features(x[:, 0])] == [frames, half, math.ceil(half / 2)]


@pytest.mark.parametrize("stream", last.STREAMS)
def test_the_stream_switch_feeds_that_stream(stream):
    model, x, seen = small("B0", f"model.stream={stream}"), torch.randn(2, 8, 25, 3), []
    model.stem.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    model.features(x)
    torch.testing.assert_close(seen[0], last.derive_streams(x, model.parents, (stream,)).permute(0, 3, 1, 2))


def test_bottleneck_loss_equals_the_means_written_out():
    z, label = torch.randn(7, 6), torch.tensor([0, 0, 2, 3, 3, 3, 0])
    distances = [(z[label == k].mean(0) - 3 * torch.eye(6)[k]).square().mean() for k in (0, 2, 3)]
    want = 1e-4 * z.mean(0).norm() + 0.1 * sum(distances) / 3
    torch.testing.assert_close(bottleneck_loss(z, label), want)


def test_bottleneck_loss_is_not_zero_and_falls_in_training():
    model, cfg = small("B6", "model.drop_path=0", "model.dropout=0"), Train(optimizer="adamw", ib_weight=100.0)
    loss_fn, optimizer = last.classification_loss(cfg), make_optimizer(model, cfg)
    batch, seen = {"joints": torch.randn(10, 1, 8, 25, 3), "label": torch.arange(10) % 5}, []
    for group in optimizer.param_groups:
        group["lr"] = 3e-3
    for _ in range(80):
        loss, metrics = loss_fn(model, batch)
        seen.append(metrics["bottleneck"].item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert seen[0] > 0.01 and seen[-1] < 0.8 * seen[0]


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean():
    drop, x = last.DropPath(0.25), torch.ones(4000, 2, 1, 1)
    y = drop(x).flatten(1)
    assert y.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert (y[:, 0] == y[:, 1]).all() and abs(y.mean() - 1) < 0.05
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize("width, near", [(9, 8), (4095, 4096)])
def test_a_width_that_four_groups_cannot_share_is_refused(width, near):
    cfg = load_config(["recipe=base", f"model.width={width}"])
    with pytest.raises(ValueError, match=f"model.width = {width}: is divided among four groups: give {near}$"):
        build_model(cfg, NTU, 3)


# --- phase 1 ---

TINY = ["data.num_classes=3", "model.width=16", "view.frames=8", "train.epochs=1", "train.batch=6",
        "train.accumulate=1"]


@pytest.mark.parametrize("row", [*ROWS, "last_e"])
def test_every_row_trains_an_epoch_and_is_evaluated(row, make_store, tmp_path, tmp_path_factory):
    store = tmp_path_factory.getbasetemp() / "rows"
    if not store.exists():
        make_store(store, clips=18)
    assert p1_train.main([f"recipe={row}", f"data.store={store}", *TINY, f"out={tmp_path}"]) == 0
    result = json.loads(next(tmp_path.glob("*/*/seed0/result.json")).read_text())
    assert 0 <= result["top1"] <= 100 and ("top1_causal" in result) == (row == "B12")
    logged = json.loads(next(tmp_path.glob("*/*/seed0/metrics.jsonl")).read_text())
    assert ("bottleneck" in logged) == load_config([f"recipe={row}"]).model.bottleneck


def test_the_ensemble_averages_the_four_streams_by_clip(make_store, tmp_path, capsys):
    store, runs = make_store(tmp_path / "store", clips=18), tmp_path / "runs"
    tiny = [f"data.store={store}", *TINY, f"out={runs}"]
    assert p1_train.main(["recipe=B7", *tiny]) == 0
    joint = runs / "B7/ntu60-xsub/seed0"
    before = (joint / "final.pt").stat().st_mtime_ns
    assert p1_train.main(["recipe=B14", "weights=[2, 1, 0, 1]", *tiny]) == 0
    assert (joint / "final.pt").stat().st_mtime_ns == before and "already done" in capsys.readouterr().out

    mean = 0
    for name, weight in (("B7", 2), ("B7-bone", 1), ("B7-bone_velocity", 1)):
        scores = np.load(runs / f"{name}/ntu60-xsub/seed0/scores.npz")
        mean = mean + weight / 4 * torch.from_numpy(scores["logits"]).softmax(1)
    top1 = 100 * (mean.argmax(1) == torch.from_numpy(scores["label"])).float().mean().item()
    folder = runs / "B14/ntu60-xsub/seed0"
    torch.testing.assert_close(torch.from_numpy(np.load(folder / "scores.npz")["logits"]).exp(), mean)
    result = json.loads((folder / "result.json").read_text())
    assert result["streams"] == 4 and result["params"] == 4 * result["params_per_stream"] and result["recipe"] == "B14"
    assert result["top1"] == pytest.approx(top1)
    bone = json.loads((runs / "B7-bone/ntu60-xsub/seed0/result.json").read_text())
    assert bone["recipe"] == "B7-bone" and "model.stream=bone" in bone["command"]

    assert p1_train.main(["recipe=B14", "weights=[2, 1, 0, 1]", *tiny]) == 0
    path = runs / "B7-bone/ntu60-xsub/seed0/scores.npz"
    scores = dict(np.load(path))
    np.savez(path, **{**scores, "logits": -scores["logits"]})
    with pytest.raises(ValueError, match="the average of other runs than the four streams are now"):
        p1_train.main(["recipe=B14", "weights=[2, 1, 0, 1]", *tiny])


def test_streams_of_a_network_that_fuses_them_are_refused():
    with pytest.raises(ValueError, match="only LAST-Base"):
        p1_train.main(["recipe=lite_small", "streams=all"])
