"""The loss of phase 3, InfoNCE, against its formula."""
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phases.p3_maskclr import info_nce
from tests.helpers.loss_formulas import softmax


@given(st.integers(1, 6), st.integers(2, 9), st.sampled_from([0.07, 0.5]), st.integers(0, 999))
def test_info_nce_equals_a_naive_loop_in_both_directions(B, C, temperature, seed):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(B, C, generator=g, dtype=torch.float64) for _ in range(2))
    cosine = [[float(x @ y / (x.norm() * y.norm())) / temperature for y in b] for x in a]
    forth = [-math.log(softmax(cosine[i], 1)[i]) for i in range(B)]
    back = [-math.log(softmax([cosine[j][i] for j in range(B)], 1)[i]) for i in range(B)]
    want = (sum(forth) + sum(back)) / (2 * B)
    assert info_nce(a, b, temperature).item() == pytest.approx(want, rel=1e-3, abs=1e-4)


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
