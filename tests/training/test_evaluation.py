"""Accuracy against a naive count; predict names every clip once, in order."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phases.training.evaluation import accuracy, predict
from tests.helpers.toy_training import Clips, Toy


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(2, 9), st.integers(0, 2**31))
def test_accuracy_equals_a_naive_count(n, K, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.permutation(n * K).reshape(n, K).astype(np.float32), rng.integers(0, K, n)  # no ties
    got = accuracy(torch.from_numpy(logits), torch.from_numpy(labels))
    top1, top5, table = 0, 0, [[0] * K for _ in range(K)]
    for row, label in zip(logits, labels, strict=True):
        ranked = sorted(range(K), key=lambda k, row=row: -row[k])
        top1 += ranked[0] == label
        top5 += label in ranked[:5]
        table[label][ranked[0]] += 1
    assert got["clips"] == n and got["confusion"] == table
    assert got["top1"] == pytest.approx(100 * top1 / n) and got["top5"] == pytest.approx(100 * top5 / n)
    for k, recall in enumerate(got["per_class"]):
        total = sum(table[k])
        assert recall == (pytest.approx(100 * table[k][k] / total) if total else None)
    assert len(got["per_class"]) == K


def test_a_network_that_cannot_tell_gets_no_credit_in_top_5():
    label = torch.zeros(3, dtype=torch.long)
    assert accuracy(torch.zeros(3, 9), label)["top5"] == 0
    assert accuracy(torch.full((3, 9), math.nan), label)["top5"] == 0
    assert accuracy(torch.eye(9)[label], label)["top5"] == 100


def test_predict_sees_every_clip_once_in_order_without_dropout():
    model, data = Toy(dropout=0.9), Clips(10, 4, shuffle=False)
    logits, labels = predict(model.train(), data)
    assert torch.equal(labels, data.y) and logits.dtype == torch.float32
    torch.testing.assert_close(logits, model.eval()(data.x))
    assert not torch.equal(predict(model, data, is_causal=True)[0], logits) and not model.conv.causal
