"""Phase 2: the losses against their formulas, a teacher that never changes, projections that come and go, resume, and what is refused."""
import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import p1_train
import p2_distill
import p3_maskclr
import probe
import pytest
import run
import torch
import torch.nn.functional as F
from conftest import write_store
from hypothesis import given
from hypothesis import strategies as st
from p2_distill import Distilled, Teacher, distil_loss, make_distilled, soft_loss
from recipe import Distil, load_config
from run import build_model
from test_trainer import Cut, cut_after
from torch import nn

import last
from last import SKELETONS, conv1x1, cross_entropy, dkd_loss, info_nce, kd_loss, load_checkpoint, mimicry_loss

QUICK = ["data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "train.epochs=2", "train.batch=8", "train.warmup_epochs=1",
         "train.lr=0.05"]


def nano(classes: int = 3, seed: int = 0, *argv: str) -> nn.Module:
    cfg = load_config(["recipe=lite_nano", "view.frames=8", "model.dropout=0", f"seed={seed}", *argv])
    return build_model(cfg, SKELETONS["ntu25"], classes)


def state(model) -> dict:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def rows(B: int, K: int, seed: int, size: float = 3.0):
    """Student logits, teacher probabilities and labels in float32."""
    g = torch.Generator().manual_seed(seed)
    student, teacher = (size * torch.randn(B, K, generator=g) for _ in range(2))
    return student.requires_grad_(), teacher.softmax(1), torch.randint(K, (B,), generator=g)


# --- losses ---

def softmax(z: list[float], tau: float) -> list[float]:
    e = [math.exp((x - max(z)) / tau) for x in z]
    return [x / sum(e) for x in e]


def naive_kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@given(st.integers(1, 6), st.integers(2, 7), st.sampled_from([1.0, 2.0, 4.0]), st.integers(0, 999))
def test_kd_is_the_closed_form_and_its_gradient_too(B, K, tau, seed):
    logits, teacher, _ = rows(B, K, seed)
    loss = kd_loss(logits, teacher, tau)
    want = [naive_kl(p, softmax(z, tau)) for p, z in zip(teacher.tolist(), logits.tolist(), strict=True)]
    assert loss.item() == pytest.approx(tau ** 2 * sum(want) / B, rel=1e-4, abs=1e-5)
    loss.backward()
    torch.testing.assert_close(logits.grad, tau * ((logits / tau).softmax(1) - teacher).detach() / B, rtol=1e-4, atol=1e-6)


def test_kd_of_two_known_rows():
    q = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert kd_loss(q.log(), p, 1.0).item() == pytest.approx((math.log(2) + 0.5 * math.log(4 / 3)) / 2)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(tau):
    z = torch.randn(5, 7)
    label = torch.arange(5)
    for loss in (kd_loss(z, (z / tau).softmax(1), tau), dkd_loss(z, (z / tau).softmax(1), label, tau, 1.0, 8.0)):
        assert loss.item() == pytest.approx(0, abs=1e-5)


@given(st.integers(1, 6), st.integers(2, 7), st.sampled_from([1.0, 4.0]), st.integers(0, 999))
def test_dkd_at_the_right_weights_is_kd_and_so_is_its_gradient(B, K, tau, seed):
    logits, teacher, label = rows(B, K, seed)
    own = teacher.gather(1, label[:, None])[:, 0]
    losses = kd_loss(logits, teacher, tau), dkd_loss(logits, teacher, label, tau, 1.0, 1 - own)
    grads = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-3, atol=1e-5)


@given(st.integers(1, 5), st.integers(2, 6), st.sampled_from([1.0, 2.0]), st.floats(0, 3), st.floats(0, 9), st.integers(0, 999))
def test_dkd_equals_a_naive_sum_of_its_two_parts(B, K, tau, alpha, beta, seed):
    logits, teacher, label = rows(B, K, seed, 1.5)
    total = 0.0
    for p, z, y in zip(teacher.tolist(), logits.tolist(), label.tolist(), strict=True):
        q = softmax(z, tau)
        rest = [k for k in range(K) if k != y]
        target = naive_kl([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others = naive_kl([p[k] / sum(p[j] for j in rest) for k in rest], [q[k] / sum(q[j] for j in rest) for k in rest])
        total += alpha * target + beta * others
    assert dkd_loss(logits, teacher, label, tau, alpha, beta).item() == pytest.approx(tau ** 2 * total / B, rel=1e-3, abs=1e-4)


def test_a_teacher_without_doubt_gives_finite_losses_and_gradients():
    logits, label = (50 * torch.randn(4, 5)).requires_grad_(), torch.arange(4)
    teacher = F.one_hot(label, 5).float()
    for loss in (kd_loss(logits, teacher, 1.0), dkd_loss(logits, teacher, label, 1.0, 1.0, 8.0)):
        grad, = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and grad.isfinite().all()


def test_mimicry_is_the_sum_of_the_mean_squares():
    a, b = ([torch.randn(2, c, 4, 5) for c in (3, 7)] for _ in range(2))
    want = sum(((x - y) ** 2).sum() / x.numel() for x, y in zip(a, b, strict=True))
    torch.testing.assert_close(mimicry_loss(a, b), want)


@given(st.integers(1, 6), st.integers(2, 7), st.sampled_from([0.0, 0.1]), st.integers(0, 999))
def test_cross_entropy_of_a_blend_is_that_of_the_blended_labels(B, K, smoothing, seed):
    logits, _, label = rows(B, K, seed)
    batch = {"label": label, "other": label.flip(0), "share": 0.5 + 0.5 * torch.rand(B)}
    a, hot = batch["share"][:, None], lambda k: (1 - smoothing) * F.one_hot(k, K) + smoothing / K
    want = -((a * hot(label) + (1 - a) * hot(batch["other"])) * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(cross_entropy(logits, batch, smoothing), want)
    torch.testing.assert_close(cross_entropy(logits, {"label": label}, smoothing), F.cross_entropy(logits, label, label_smoothing=smoothing))


@given(st.integers(1, 6), st.integers(2, 9), st.sampled_from([0.07, 0.5]), st.integers(0, 999))
def test_info_nce_equals_a_naive_loop_in_both_directions(B, C, temperature, seed):
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(B, C, generator=g, dtype=torch.float64), torch.randn(B, C, generator=g, dtype=torch.float64)
    cosine = [[float(x @ y / (x.norm() * y.norm())) / temperature for y in b] for x in a]
    forth = [-math.log(softmax(cosine[i], 1)[i]) for i in range(B)]
    back = [-math.log(softmax([cosine[j][i] for j in range(B)], 1)[i]) for i in range(B)]
    assert info_nce(a, b, temperature).item() == pytest.approx((sum(forth) + sum(back)) / (2 * B), rel=1e-3, abs=1e-4)


def test_info_nce_of_identical_views_is_near_its_minimum():
    a = torch.randn(16, 128)
    same = info_nce(a, a)
    assert same < 0.01 and info_nce(a, a.roll(1, 0)) > 10 and info_nce(a, torch.randn(16, 128)) > 1
    basis = torch.eye(8)
    assert info_nce(basis, basis).item() == pytest.approx(math.log(1 + 7 * math.exp(-1 / 0.07)), abs=1e-6)
    torch.testing.assert_close(info_nce(3 * a, 0.1 * a), same)  # lengths do not count


def test_losses_stay_in_fp32_under_autocast():
    a, b = torch.randn(8, 16), torch.randn(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(a, b), info_nce(a.clone(), b)) and info_nce(a, b).dtype == torch.float32
        low = info_nce(a, b)
    assert torch.equal(low, info_nce(a, b))


# --- the teacher ---

class Wide(nn.Module):
    """A teacher of LAST-Base's widths and strides, small and frozen from the start; notes what it is given."""

    def __init__(self, classes: int = 3, widths=(128, 256, 384), strides=(1, 2, 2)):
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(conv1x1(a, b), nn.BatchNorm2d(b)) for a, b in zip((3, *widths), widths, strict=False))
        self.conv, self.strides = last.TemporalConv(3, 3, 3), strides
        self.head, self.seen = last.Head(widths[-1], classes, 0.5), []

    def features(self, bodies):
        self.seen.append((bodies, self.conv.causal, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        x, maps = self.conv(bodies.permute(0, 3, 1, 2)), []
        for stage, stride in zip(self.stages, self.strides, strict=True):
            maps.append(x := stage(x[:, :, ::stride]))
        return maps

    def forward(self, joints):
        return last.classify(self, joints, self.training)[0]


def batch(B: int = 6, M: int = 1, T: int = 8, classes: int = 3) -> dict:
    return {"joints": torch.randn(B, M, T, 25, 3), "label": torch.arange(B) % classes}


def test_several_teachers_give_their_mean_probabilities_and_the_first_its_maps():
    one, two, x = nano(seed=1).eval(), nano(seed=2).eval(), batch()["joints"]
    mean, maps = Teacher([one, two], 2.0)(x)
    with torch.no_grad():
        want = ((one(x) / 2).softmax(1) + (two(x) / 2).softmax(1)) / 2
        torch.testing.assert_close(mean, want)
        assert len(maps) == 3 and all(torch.equal(a, b) for a, b in zip(maps, one.features(x[:, 0]), strict=True))
    assert not mean.is_inference() and mean.sum(1).allclose(torch.ones(6))


def test_training_changes_no_weight_and_no_buffer_of_the_teacher_and_gives_it_no_gradient(tmp_path):
    wide, data = Wide(), batch()
    teacher = Teacher([wide.train()], 4.0)
    before = state(wide)
    model = make_distilled(nano(), teacher, 0.1, data["joints"][:1])
    student = state(model)
    one = type("One", (), {"__len__": lambda s: 1, "__call__": lambda s, epoch=0, start=0: iter([data][start:])})()
    last.fit(model, one, distil_loss(teacher, Distil()), last.Train(epochs=2, amp="fp32", warmup_epochs=0), tmp_path, {})
    assert equal(state(wide), before) and all(p.grad is None and not p.requires_grad for p in wide.parameters())
    assert not any(m.training for m in wide.modules())
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, student[k])}
    assert {"projections.0.weight", "projections.1.weight", "projections.2.weight", "student.head.linear.weight"} <= changed
    assert all(torch.equal(given, data["joints"][:, 0]) and inference and not grad for given, _, grad, inference in wide.seen[1:])


@pytest.mark.parametrize("shared", [True, False])
def test_the_teacher_is_causal_when_the_student_is_and_the_recipe_wants_it(shared):
    wide, data = Wide(), batch()
    teacher = Teacher([wide], 4.0)
    model = make_distilled(nano(), teacher, 0.1, data["joints"][:1]).train()
    loss_fn = distil_loss(teacher, Distil(shared_causal=shared))
    wide.seen.clear()
    for on in (True, False, True):
        with last.causal(model, on):
            loss_fn(model, data)
        assert not wide.conv.causal  # restored
    assert [causal for _, causal, *_ in wide.seen] == [shared, False, shared]


def test_the_loss_is_the_weighted_sum_of_its_parts_and_reaches_every_parameter():
    data, teacher = batch(), Teacher([Wide()], 4.0)
    model = make_distilled(nano(), teacher, 0.1, data["joints"][:1]).train()
    for p in model.parameters():
        nn.init.normal_(p, std=0.2)  # gates at zero pass no gradient on
    for kind in ("kd", "dkd"):
        cfg = Distil(kind=kind, tau=3.0, alpha=0.3, beta=0.7, gamma=0.2, dkd_alpha=1.5, dkd_beta=5.0)
        loss, parts = distil_loss(teacher, cfg, 0.1)(model, data)
        torch.testing.assert_close(loss, 0.3 * parts["ce"] + 0.7 * parts["kd"] + 0.2 * parts["mimicry"])
        target, label = teacher(data["joints"])[0], data["label"]
        logits = last.classify(model.student, data["joints"], drop_absent=True)[0]
        want = {"kd": kd_loss(logits, target, 3.0), "dkd": dkd_loss(logits, target, label, 3.0, 1.5, 5.0)}
        torch.testing.assert_close(parts["kd"], want[kind])
        torch.testing.assert_close(parts["ce"], F.cross_entropy(logits, label, label_smoothing=0.1))
        assert not torch.isclose(*want.values())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    model.eval()
    assert torch.equal(model(data["joints"]), model.student(data["joints"]))  # the projections take no part in the answer


@pytest.mark.parametrize("row, widths, want", [("lite_small", (128, 256, 384), 61_440), ("lite_nano", (128, 256, 384), 4_096 + 12_288 + 24_576),
                                               ("lite_small", (64, 96, 128), 3_072 + 6_912 + 12_288)])
def test_projections_are_counted_and_have_no_bias(row, widths, want):
    student = build_model(load_config([f"recipe={row}", "view.frames=8"]), SKELETONS["ntu25"], 3)
    model = make_distilled(student, Teacher([Wide(widths=widths)], 4.0), 0.1, batch(1)["joints"])
    assert sum(p.numel() for p in model.projections.parameters()) == want and all(p.bias is None for p in model.projections)
    assert len(make_distilled(student, Teacher([Wide(widths=widths)], 4.0), 0.0, batch(1)["joints"]).projections) == 0


def test_stages_that_do_not_match_in_frames_are_one_line():
    with pytest.raises(ValueError, match=r"distil.gamma.*384x4x25.*64x2x25.*gamma=0"):
        make_distilled(nano(), Teacher([Wide(strides=(1, 1, 2))], 4.0), 0.1, batch(1)["joints"])


def test_an_absent_second_body_changes_no_part_of_the_loss():
    data, teacher = batch(), Teacher([nano(seed=3)], 4.0)
    model = make_distilled(nano(), teacher, 0.1, data["joints"][:1]).train()
    two = {**data, "joints": torch.cat([data["joints"], torch.zeros_like(data["joints"])], 1)}
    (one, a), (both, b) = (distil_loss(teacher, Distil())(model, d) for d in (data, two))
    torch.testing.assert_close(one, both)
    assert all(a[k].item() == pytest.approx(b[k].item(), rel=1e-4) for k in a)


def test_batch_norm_is_refreshed_through_the_wrapper_without_absent_bodies():
    x, plain = torch.randn(6, 1, 8, 25, 3), nano()
    wrapped = Distilled(nano(), [])
    last.refresh_batchnorm(plain, lambda: [{"joints": x}])
    last.refresh_batchnorm(wrapped, lambda: [{"joints": torch.cat([x, torch.zeros_like(x)], 1)}])
    for k, v in plain.state_dict().items():
        torch.testing.assert_close(wrapped.student.state_dict()[k], v, msg=k)


@given(st.integers(0, 99))
def test_dkd_of_a_blend_is_the_shared_sum_over_both_labels(seed):
    logits, target, label = rows(5, 4, seed)
    data = {"label": label, "other": label.roll(1), "share": 0.5 + 0.5 * torch.rand(5)}
    cfg = Distil(kind="dkd", tau=2.0, dkd_alpha=1.5, dkd_beta=5.0)
    one = lambda i, k: dkd_loss(logits[i:i + 1], target[i:i + 1], k[i:i + 1], 2.0, 1.5, 5.0)  # noqa: E731
    want = sum(a * one(i, label) + (1 - a) * one(i, data["other"]) for i, a in enumerate(data["share"])) / 5
    torch.testing.assert_close(soft_loss(logits, target, data, cfg), want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(soft_loss(logits, target, {**data, "other": label}, cfg), dkd_loss(logits, target, label, 2.0, 1.5, 5.0))


def test_all_teachers_are_causal_together_and_under_autocast():
    teacher, data = Teacher([Wide(), Wide()], 4.0), batch()
    with torch.autocast("cpu", torch.bfloat16):
        mean, maps = teacher(data["joints"], is_causal=True)
    assert [net.seen[0][1] for net in teacher.nets] == [True, True] and not any(net.conv.causal for net in teacher.nets)
    assert maps[-1].dtype == torch.bfloat16 and mean.dtype == torch.float32


# --- the phase ---

@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("stores") / "tiny")


@pytest.fixture(scope="module")
def teacher_run(store, tmp_path_factory):
    """The folder of a finished run of lite_small, only to be read."""
    with pytest.MonkeyPatch.context() as m:
        m.chdir(tmp_path_factory.mktemp("teacher"))
        assert p1_train.main(["recipe=lite_small", *QUICK, f"data.store={store}", "train.epochs=1"]) == 0
        return Path("runs/lite_small/tiny-xsub/seed0").resolve()


@pytest.fixture
def phase2(store, teacher_run, tmp_path, monkeypatch):
    """Run phase 2 in an empty folder: phase2(*overrides) -> run folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        assert p2_distill.main(["recipe=lite_nano_small", *QUICK, f"data.store={store}", f"distil.teacher={teacher_run}", *argv]) == 0
        return load_config(["recipe=lite_nano_small", *QUICK, *argv]).run
    return run


def log(folder) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_exported_student_is_a_plain_lite_and_the_projections_are_kept_for_resume_alone(phase2, teacher_run):
    folder = phase2()
    assert {p.name for p in folder.iterdir()} == {"recipe.json", "metrics.jsonl", "last.pt", "final.pt", "scores.npz", "result.json"}
    final, kept = load_checkpoint(folder / "final.pt")["model"], load_checkpoint(folder / "last.pt")["model"]
    assert final.keys() == nano().state_dict().keys() and sum("projections" in k for k in kept) == 3
    result, alone = json.loads((folder / "result.json").read_text()), json.loads((teacher_run / "result.json").read_text())
    assert result.keys() - alone.keys() == {"teacher", "teacher_top1"} and alone.keys() <= result.keys()
    assert result["teacher"] == [str(teacher_run)] and result["teacher_top1"] == alone["top1"]
    assert result["params"] == sum(p.numel() for p in nano().parameters()) and result["command"].startswith("just phase2 recipe=lite_nano_small")
    net, cfg, skeleton, classes = run.load_run(folder)
    view = last.ClipView(run.ClipStore(cfg.store), cfg.view)
    logits, _ = last.predict(net, last.Batches(view, run.ClipStore(cfg.store).split("xsub")[1], 8))
    assert np.array_equal(logits.numpy(), np.load(folder / "scores.npz")["logits"]) and cfg.recipe == "lite_nano_small" and len(classes) == 3
    assert {"ce", "kd", "mimicry", "top1", "teacher_top1", "loss"} <= log(folder)[0].keys()


def test_with_the_teachers_word_at_zero_phase_2_is_phase_1(phase2, store):
    folder = phase2("distil.alpha=1", "distil.beta=0", "distil.gamma=0", "train.label_smoothing=0.2")
    assert p1_train.main(["recipe=lite_nano", *QUICK, f"data.store={store}", "train.label_smoothing=0.2"]) == 0
    assert equal(load_checkpoint(folder / "final.pt")["model"], load_checkpoint(Path("runs/lite_nano/tiny-xsub/seed0/final.pt"))["model"])


@pytest.mark.parametrize("cut", [1, 2, 4, 5])
def test_a_cut_distillation_continued_equals_an_uninterrupted_one_bit_for_bit(cut, phase2, monkeypatch):
    argv = ["train.causal=0.5", "distil.shared_causal=false", "train.average=swa", "train.swa_start=0.5", "train.save_seconds=0", "distil.kind=dkd"]
    whole = phase2(*argv, "out=whole")
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, cut)
        phase2(*argv, "out=cut")
    torch.manual_seed(99)
    again = phase2(*argv, "out=cut")
    a, b = (load_checkpoint(f / "last.pt")["model"] for f in (whole, again))
    assert equal(a, b) and any("projections" in k for k in a) and log(whole) == log(again)
    assert equal(*(load_checkpoint(f / "final.pt")["model"] for f in (whole, again)))


def test_teachers_are_named_by_recipe_and_seed(teacher_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(["recipe=lite_nano_small", *QUICK, "distil.teacher=lite_small:0,lite_small:3"])
    store = run.ClipStore(json.loads((teacher_run / "recipe.json").read_text())["data"]["store"])
    for seed in (0, 3):
        shutil.copytree(teacher_run, f"runs/lite_small/tiny-xsub/seed{seed}")
    assert [f.name for f in p2_distill.load_teachers(cfg, store, torch.device("cpu"))[1]] == ["seed0", "seed3"]


def test_a_student_learns_from_its_teachers_word_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    large = f"data.store={write_store(tmp_path / 'large', clips=72, bodies=1)}"
    argv = [*QUICK, large, "view.frames=16", "train.epochs=8", "train.average=swa"]
    p1_train.main(["recipe=lite_nano", *argv])
    p2_distill.main(["recipe=lite_nano_small", *argv, "distil.teacher=lite_nano", "distil.alpha=0", "distil.beta=1", "distil.tau=1", "seed=1"])
    lines = log(Path("runs/lite_nano_small/tiny-xsub/seed1"))
    assert lines[-1]["kd"] < 0.5 * lines[0]["kd"] and lines[-1]["mimicry"] < 0.95 * lines[0]["mimicry"]
    assert json.loads(Path("runs/lite_nano_small/tiny-xsub/seed1/result.json").read_text())["top1"] > 60  # chance: 33


def complaint(run, *argv) -> str:
    """The one line with which a phase refuses, having written nothing."""
    before = {p: p.read_bytes() for p in Path.cwd().rglob("*") if p.is_file()}
    with pytest.raises(ValueError) as e:
        run(*argv)
    assert "\n" not in str(e.value) and {p: p.read_bytes() for p in Path.cwd().rglob("*") if p.is_file()} == before
    return str(e.value)


@pytest.mark.parametrize("argv, words", [
    (["distil.teacher="], ["distil.teacher is empty"]), (["distil.teacher=bse"], ["'bse'", "runs/bse/tiny-xsub/seed0", "did you mean 'base'?"]),
    (["distil.teacher=no/where"], ["no/where", "final.pt"]), (["view.frames=16"], ["view.frames = 8", "16"]),
    (["view.bodies=2"], ["view.bodies = 1", "2"]), (["view.sampling=crop"], ["view.sampling", "'crop'"]),
    (["view.trunk_scale=true"], ["view.trunk_scale"]), (["data.num_classes=4"], ["data.num_classes = 4", "has 3"]),
    (["init=maskclr_nano"], ["maskclr_nano", "final.pt"]), (["distil.knid=kd"], ["did you mean 'kind'?"]), (["distil.kind=ddk"], ["dkd"]),
], ids=lambda x: x[0])
def test_a_teacher_that_does_not_fit_is_one_line_and_nothing_is_written(argv, words, phase2):
    line = complaint(phase2, *argv)
    assert all(w in line for w in words), line


def test_a_teacher_of_another_skeleton_or_of_other_classes_is_one_line(phase2, tmp_path):
    body = write_store(tmp_path / "kinect", "kinect20")
    line = complaint(phase2, f"data.store={body}", "data.skeleton=kinect20")
    assert "'ntu25'" in line and "'kinect20'" in line
    other = write_store(tmp_path / "other")
    meta = json.loads((other / "meta.json").read_text())
    (other / "meta.json").write_text(json.dumps({**meta, "classes": ["swing 0", "wave", "swing 2"]}))
    assert "class 1 is 'swing 1' there, 'wave' here" in complaint(phase2, f"data.store={other}")


def test_a_damaged_teacher_is_one_line(phase2, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "final.pt").write_bytes(b"text")
    assert "damaged" in complaint(phase2, f"distil.teacher={tmp_path / 'odd'}")


def test_a_teacher_that_saw_what_is_held_out_here_is_one_line(phase2):
    line = complaint(phase2, "data.split=xview")
    assert "data.split = 'xsub', this run has 'xview'" in line and "held out here" in line
    assert "data.validate = {}, this run has {'subject': [2]}" in complaint(phase2, "data.validate={subject=[2]}")


def test_a_teacher_of_a_store_that_was_made_anew_since_is_one_line(phase2, store, tmp_path):
    """Its split has the same name, but other clips stand on its test side."""
    anew = tmp_path / "anew"
    shutil.copytree(store, anew)
    with np.load(store / "clips.npz") as z:
        clips = dict(z)
    clips["subject"] = clips["subject"] % 4 + 1
    np.savez(anew / "clips.npz", **clips)
    line = complaint(phase2, f"data.store={anew}")
    assert "was not tested on clip" in line and "may have trained on them" in line and "made anew?" in line


def test_a_teacher_may_be_named_by_its_final_pt(phase2, teacher_run):
    folder = phase2(f"distil.teacher={teacher_run / 'final.pt'}", "train.epochs=1")
    assert json.loads((folder / "result.json").read_text())["teacher"] == [str(teacher_run)]


def test_a_teacher_that_never_saw_a_causal_batch_is_asked_none(phase2, teacher_run):
    line = complaint(phase2, "train.causal=0.5")
    assert str(teacher_run) in line and "distil.shared_causal=false" in line
    phase2("train.causal=0.5", "distil.shared_causal=false", "train.epochs=1")


def test_an_encoder_of_phase_3_is_no_teacher(phase2, teacher_run, tmp_path):
    state = load_checkpoint(teacher_run / "final.pt")
    state["model"] = {k: v for k, v in state["model"].items() if not k.startswith("head.")}
    (tmp_path / "encoder").mkdir()
    torch.save(state, tmp_path / "encoder" / "final.pt")
    assert "an encoder of phase 3, which cannot classify" in complaint(phase2, f"distil.teacher={tmp_path / 'encoder'}")


def test_a_resume_wants_the_very_same_teachers(phase2, teacher_run, tmp_path, monkeypatch):
    mine = tmp_path / "mine" / "teacher"
    shutil.copytree(teacher_run, mine)
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, 1)
        phase2(f"distil.teacher={mine}")
    state = load_checkpoint(mine / "final.pt")
    state["model"]["head.linear.bias"] += 1
    torch.save(state, mine / "final.pt")
    assert re.search(r"teachers\..*mine/teacher was '\w{12}', is '\w{12}'", complaint(phase2, f"distil.teacher={mine}"))
    shutil.copy(teacher_run / "final.pt", mine)
    phase2(f"distil.teacher={mine}")


@pytest.mark.parametrize("phase", [p1_train, p2_distill, p3_maskclr, probe])
@pytest.mark.parametrize("argv, words", [("recipe=lite_nano_small", "just phase2"), ("recipe=maskclr_nano", "just phase3"),
                                         ("recipe=probe_10", "just probe")])
def test_what_is_another_phases_work_a_phase_leaves_to_it(phase, argv, words, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if {p2_distill: "just phase2", p3_maskclr: "just phase3", probe: "just probe"}.get(phase) != words:
        force = ["force=true"] if phase is p3_maskclr else []
        assert words in complaint(lambda: phase.main([argv, *QUICK, f"data.store={store}", *force]))


def test_a_half_done_run_of_another_phase_is_not_gone_on_with(phase2, store, tmp_path):
    phase2("train.epochs=1", "recipe=lite_nano")
    (tmp_path / "runs/lite_nano/tiny-xsub/seed0/result.json").unlink()
    recipe = json.loads((tmp_path / "runs/lite_nano/tiny-xsub/seed0/recipe.json").read_text())
    (tmp_path / "runs/lite_nano/tiny-xsub/seed0/recipe.json").write_text(json.dumps({**recipe, "distil": {**recipe["distil"], "teacher": ""}}))
    line = complaint(lambda: p1_train.main(["recipe=lite_nano", *QUICK, f"data.store={store}", "train.epochs=1"]))
    assert "phase was 'phase2', is 'phase1'" in line


def test_a_result_of_another_phase_is_not_taken_for_ones_own(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["recipe=probe_linear", *QUICK, f"data.store={store}", "train.epochs=1"]
    p1_train.main(argv)
    line = complaint(lambda: probe.main(argv))
    assert "a run of another phase (just phase1 recipe=probe_linear" in line


def test_four_streams_of_a_real_base_teach_logits_and_stages(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = [*QUICK, f"data.store={store}", "train.epochs=1", "train.accumulate=1"]
    p1_train.main(["recipe=base", *argv, "model.width=8", "streams=all"])
    p2_distill.main(["recipe=lite_small_base", *argv, "distil.tau=1"])
    folder = Path("runs/lite_small_base/tiny-xsub/seed0")
    result = json.loads((folder / "result.json").read_text())
    streams = [f"runs/base{s}/tiny-xsub/seed0" for s in ("", "-bone", "-velocity", "-bone_velocity")]
    assert result["teacher"] == streams
    assert result["teacher_top1"] == json.loads(Path("runs/base-all/tiny-xsub/seed0/result.json").read_text())["top1"]  # at tau = 1 the same mean
    shapes = {k: tuple(v.shape[:2]) for k, v in load_checkpoint(folder / "last.pt")["model"].items() if "projections" in k}
    assert shapes == {f"projections.{i}.weight": s for i, s in enumerate([(8, 48), (16, 72), (24, 96)])}


def test_the_four_streams_of_a_base_teach_joint_first_once_all_are_trained(tmp_path, capsys):
    cfg, runs = load_config(["recipe=lite_small_base", f"out={tmp_path}"]), []
    for stream in last.STREAMS:
        if runs:
            assert run.find_runs("base", cfg) == runs[:1]
            said = capsys.readouterr().err
            assert f"{4 - len(runs)} of the other three" in said if len(runs) > 1 else not said
        folder = load_config(["recipe=base", f"model.stream={stream}", f"out={tmp_path}"]).run  # where phase 1 leaves it
        folder.mkdir(parents=True)
        (folder / "final.pt").touch()
        runs.append(folder)
    assert run.find_runs("base", cfg) == runs and run.find_runs(str(runs[0]), cfg) == runs[:1]


def test_a_recipes_name_means_its_run_on_the_same_clips(teacher_run):
    cfg = load_config(["recipe=lite_nano_small", *QUICK, "seed=3", f"out={teacher_run.parents[2]}"])
    assert run.find_runs("lite_small", cfg) == [teacher_run]
    with pytest.raises(ValueError, match="seed3"):
        run.find_runs("lite_small", cfg, cfg.seed)


# --- a start from another run, and the probe ---

def test_init_takes_what_fits_and_says_what_not(teacher_run, capsys, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = build_model(load_config(["recipe=lite_small", "view.frames=16", "seed=5"]), SKELETONS["ntu25"], 4)
    before, old = state(model), load_checkpoint(teacher_run / "final.pt")["model"]
    run.init_from(model, teacher_run, load_config(["recipe=lite_small", *QUICK]))
    said = capsys.readouterr().err
    left = {k for k, v in model.state_dict().items() if v.shape != old[k].shape}
    assert {"head.linear.weight", "head.linear.bias", "stages.0.mask", "stages.0.gate"} <= left
    for k, v in model.state_dict().items():
        assert torch.equal(v, before[k] if k in left else old[k]) and (k in said) == (k in left)
    assert f"{len(old) - len(left)} of {len(old)} tensors" in said
    line = complaint(lambda: run.init_from(build_model(load_config(["recipe=lite_small", "view.frames=8"]), SKELETONS["ntu25"], 3), teacher_run,
                                             load_config(["recipe=lite_small", *QUICK, "data.split=xview"])))
    assert f"init: {teacher_run} was trained with data.split = 'xsub'" in line
    line = complaint(lambda: run.init_from(nano(), teacher_run, load_config(["recipe=lite_nano", *QUICK])))
    assert "another network" in line and "model.variant" in line


def test_phase_1_starts_from_a_run(teacher_run, store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ["recipe=lite_small", *QUICK, f"data.store={store}", "train.epochs=1", "train.lr=1e-9", "train.warmup_lr=0", "train.min_lr=0"]
    assert p1_train.main([*argv, f"init={teacher_run}"]) == 0 and "init: " in capsys.readouterr().err
    final, old = (load_checkpoint(f / "final.pt")["model"] for f in (Path("runs/lite_small/tiny-xsub/seed0"), teacher_run))
    torch.testing.assert_close(final["stages.2.blocks.0.mix.1.weight"], old["stages.2.blocks.0.mix.1.weight"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("phase", [p1_train, p2_distill, p3_maskclr])
def test_init_by_a_recipes_name_is_its_run_of_the_same_seed(phase, store, teacher_run, tmp_path, monkeypatch):
    """Weights and momenta alone: a rate of 1e-12 leaves what the start gave."""
    monkeypatch.chdir(tmp_path)
    state = load_checkpoint(teacher_run / "final.pt")
    for seed in (0, 1):
        state["model"]["stages.0.blocks.0.mix.1.weight"] = state["model"]["stages.0.blocks.0.mix.1.weight"] + 1
        folder = tmp_path / f"runs/lite_small/tiny-xsub/seed{seed}"
        folder.mkdir(parents=True)
        torch.save(state, folder / "final.pt")
    recipe, more = {p1_train: ("lite_small_short", []), p2_distill: ("lite_small_short_kd", [f"distil.teacher={teacher_run}"]),
                    p3_maskclr: ("maskclr_small", ["force=true"])}[phase]
    still = ["train.epochs=1", "train.lr=1e-12", "train.warmup_lr=0", "train.min_lr=0", "train.average=none", "train.optimizer=sgd"]
    assert phase.main([f"recipe={recipe}", *QUICK, *still, *more, f"data.store={store}", "init=lite_small", "seed=1"]) == 0
    final = load_checkpoint(tmp_path / f"runs/{recipe}/tiny-xsub/seed1/final.pt")["model"]
    torch.testing.assert_close(final["stages.0.blocks.0.mix.1.weight"], state["model"]["stages.0.blocks.0.mix.1.weight"])


def test_an_out_of_ones_own_is_where_a_recipes_runs_are_looked_for(phase2):
    line = complaint(phase2, "out=elsewhere", "distil.teacher=lite_small")
    assert "no finished run in elsewhere/lite_small/tiny-xsub/seed0" in line and "did you mean" not in line


def test_the_teacher_speaks_at_the_recipes_temperature_and_is_judged_on_test_clips(phase2, monkeypatch):
    asked = []
    monkeypatch.setattr(p2_distill, "Teacher", lambda nets, tau: asked.append(tau) or Teacher(nets, tau))
    judged = []
    monkeypatch.setattr(p2_distill, "judge", lambda teacher, cfg, test: judged.append(test.index) or {})
    folder = phase2("distil.tau=2.5", "train.epochs=1")
    recipe = json.loads((folder / "recipe.json").read_text())
    assert asked == [2.5] and np.array_equal(np.sort(judged[0]), run.ClipStore(recipe["data"]["store"]).split("xsub")[1])


@pytest.mark.parametrize("frozen", [True, False])
def test_a_probe_trains_the_head_alone_or_everything(frozen, teacher_run, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    probe.main(["recipe=probe_linear", *QUICK, f"data.store={store}", f"init={teacher_run}", f"probe.frozen={str(frozen).lower()}",
                "train.average=swa"])
    folder = Path("runs/probe_linear/tiny-xsub/seed0")
    final, old = (load_checkpoint(f / "final.pt")["model"] for f in (folder, teacher_run))
    same = {k for k in old if torch.equal(final[k], old[k])}
    assert (same >= {k for k in old if not k.startswith("head.")}) == frozen  # batch-norm statistics, too
    assert not same & {"head.linear.weight", "head.norm.running_mean"} and json.loads((folder / "result.json").read_text())["labelled"] == 12


@given(st.integers(0, 50), st.floats(0.001, 1))
def test_the_labelled_clips_are_a_share_of_each_class_and_nested(seed, share):
    rng = np.random.default_rng(seed)
    label, clips = rng.integers(0, 4, 90), np.sort(rng.permutation(90)[:60])
    got, whole = probe.labelled(clips, label, share, seed), probe.labelled(clips, label, 1.0, seed)
    assert np.array_equal(whole, clips) and set(got) <= set(probe.labelled(clips, label, min(1.0, 2 * share), seed))
    for k in np.unique(label[clips]):
        n = (label[clips] == k).sum()
        assert abs((label[got] == k).sum() - max(1, share * n)) <= 0.5 and len(set(got)) == len(got)


def test_the_rows_of_distillation_weigh_as_the_plan_says():
    small, nano_ = (load_config([f"recipe={r}", "data=nw_ucla"]) for r in ("lite_small_base", "lite_nano_base"))
    d, n = small.distil, nano_.distil
    assert (d.alpha, d.beta, d.gamma, d.tau) == (0.5, 0.5, 0.1, 4.0) and (n.alpha, n.beta, n.gamma, n.tau) == (0.3, 0.7, 0.1, 4.0)
    assert small.train.label_smoothing == nano_.train.label_smoothing == 0 and small.train.lr == 0.1  # also where the data set smooths
    assert dataclasses.replace(load_config(["recipe=L12"]), recipe="", init="") == dataclasses.replace(load_config(["recipe=L11"]), recipe="")
