"""The losses of phase 2 against their formulas: KD, DKD, mimicry."""
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from phases.p2_distill import dkd_loss, kd_loss, mimicry_loss
from tests.helpers.loss_formulas import rows, softmax


def naive_kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@given(st.integers(1, 6), st.integers(2, 7), st.sampled_from([1.0, 2.0, 4.0]), st.integers(0, 999))
def test_kd_is_the_closed_form_and_its_gradient_too(B, K, tau, seed):
    logits, teacher, _ = rows(B, K, seed)
    loss = kd_loss(logits, teacher, tau)
    want = [naive_kl(p, softmax(z, tau)) for p, z in zip(teacher.tolist(), logits.tolist(), strict=True)]
    assert loss.item() == pytest.approx(tau ** 2 * sum(want) / B, rel=1e-4, abs=1e-5)
    loss.backward()
    want = tau * ((logits / tau).softmax(1) - teacher).detach() / B
    torch.testing.assert_close(logits.grad, want, rtol=1e-4, atol=1e-6)


def test_kd_of_two_known_rows():
    q = torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert kd_loss(q.log(), p, 1.0).item() == pytest.approx((math.log(2) + 0.5 * math.log(4 / 3)) / 2)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(tau):
    z = torch.randn(5, 7)
    teacher, label = (z / tau).softmax(1), torch.arange(5)
    for loss in (kd_loss(z, teacher, tau), dkd_loss(z, teacher, label, tau, 1.0, 8.0)):
        assert loss.item() == pytest.approx(0, abs=1e-5)


@given(st.integers(1, 6), st.integers(2, 7), st.sampled_from([1.0, 4.0]), st.integers(0, 999))
def test_dkd_at_the_right_weights_is_kd_and_so_is_its_gradient(B, K, tau, seed):
    logits, teacher, label = rows(B, K, seed)
    own = teacher.gather(1, label[:, None])[:, 0]
    losses = kd_loss(logits, teacher, tau), dkd_loss(logits, teacher, label, tau, 1.0, 1 - own)
    grads = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-3, atol=1e-5)


@given(st.integers(1, 5), st.integers(2, 6), st.sampled_from([1.0, 2.0]), st.floats(0, 3), st.floats(0, 9),
       st.integers(0, 999))
def test_dkd_equals_a_naive_sum_of_its_two_parts(B, K, tau, alpha, beta, seed):
    logits, teacher, label = rows(B, K, seed, 1.5)
    total = 0.0
    for p, z, y in zip(teacher.tolist(), logits.tolist(), label.tolist(), strict=True):
        q = softmax(z, tau)
        rest = [k for k in range(K) if k != y]
        p_rest, q_rest = sum(p[k] for k in rest), sum(q[k] for k in rest)
        target = naive_kl([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others = naive_kl([p[k] / p_rest for k in rest], [q[k] / q_rest for k in rest])
        total += alpha * target + beta * others
    want = pytest.approx(tau ** 2 * total / B, rel=1e-3, abs=1e-4)
    assert dkd_loss(logits, teacher, label, tau, alpha, beta).item() == want


def test_a_teacher_without_doubt_gives_finite_gradients():
    logits, label = (50 * torch.randn(4, 5)).requires_grad_(), torch.arange(4)
    teacher = F.one_hot(label, 5).float()
    for loss in (kd_loss(logits, teacher, 1.0), dkd_loss(logits, teacher, label, 1.0, 1.0, 8.0)):
        grad, = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and grad.isfinite().all()


def test_mimicry_is_the_sum_of_the_mean_squares():
    a, b = ([torch.randn(2, c, 4, 5) for c in (3, 7)] for _ in range(2))
    want = sum(((x - y) ** 2).sum() / x.numel() for x, y in zip(a, b, strict=True))
    torch.testing.assert_close(mimicry_loss(a, b), want)
