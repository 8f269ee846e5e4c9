"""Batches: which clips, in which order, each once or each class equally often, blended or not."""
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from phases.training.batches import Batches, plain_batches
from phases.training.clip_store import ClipStore
from phases.training.view import ClipView
from tests.helpers.views import CALM, WILD


@pytest.fixture
def store(tmp_path, make_store) -> ClipStore:
    return ClipStore(make_store(tmp_path / "store"))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [1, 5, 8, 100])
def test_batches_hold_every_clip_once_the_last_one_partial(store, training, size):
    index = np.arange(1, 24, 1)
    batches = Batches(ClipView(store, CALM), index, size, training)
    got = list(batches(epoch=4))
    assert len(got) == len(batches) == math.ceil(23 / size)
    assert [len(b["label"]) for b in got] == [min(size, 23 - i) for i in range(0, 23, size)]
    order = torch.cat([b["index"] for b in got])
    assert sorted(order.tolist()) == index.tolist() and (order.tolist() == index.tolist()) == (not training)
    assert torch.equal(torch.cat([b["label"] for b in got]), torch.from_numpy(store.clips["label"])[order])
    second = torch.cat([b["joints"] for b in got])[:, 1].flatten(1).any(1)
    assert torch.equal(second, torch.from_numpy(store.clips["offset"])[order, 1] >= 0)


def test_balanced_batches_show_each_class_equally_often(store):
    label = store.clips["label"]
    index = np.concatenate([np.flatnonzero(label == k)[:n] for k, n in enumerate((1, 4, 2))])
    batches = Batches(ClipView(store, CALM), index, 3, True, 1, balanced=True)
    seen = [torch.cat([b["index"] for b in batches(epoch)]).tolist() for epoch in range(40)]
    for epoch in seen:
        counts = np.bincount(label[epoch], minlength=3)
        assert len(epoch) == 7 and set(epoch) <= set(index) and counts[:3].min() >= 2 and counts.sum() == 7
    assert len({tuple(epoch) for epoch in seen}) == 40 and {clip for epoch in seen for clip in epoch} == set(index)
    assert torch.equal(torch.cat([b["index"] for b in batches(5, start=1)]), torch.tensor(seen[5][3:]))


def test_batches_come_in_another_order_each_epoch_and_seed(store):
    view = ClipView(store, CALM)
    orders = set()
    for seed in (0, 1):
        batches = Batches(view, np.arange(24), 8, True, seed)
        for epoch in (0, 1, 2):
            orders.add(tuple(torch.cat([b["index"] for b in batches(epoch)]).tolist()))
    assert len(orders) == 6


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("k", [0, 1, 4, 5])
def test_batches_resume_exactly(store, training, k):
    batches = Batches(ClipView(store, WILD), np.arange(24), 5, training, seed=1)
    whole, rest = list(batches(2)), list(batches(2, start=k))
    assert len(rest) == 5 - k
    for a, b in zip(whole[k:], rest, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in ("joints", "label", "index"))


def test_blended_clips_are_two_clips_by_shares_with_both_labels(store):
    plain, mixed = (ClipView(store, replace(WILD, mix=p)) for p in (0.0, 0.5))
    pairs = zip(*(Batches(view, np.arange(24), 5, True, 1)(2) for view in (plain, mixed)), strict=True)
    shares = []
    for a, b in pairs:
        share = b["share"][:, None, None, None, None]
        torch.testing.assert_close(b["joints"], share * a["joints"] + (1 - share) * a["joints"].roll(1, 0))
        assert torch.equal(b["other"], b["label"].roll(1)) and torch.equal(b["label"], a["label"])
        assert "share" not in a
        shares += b["share"].tolist()
    assert all(0.5 <= s <= 1 for s in shares) and 6 <= sum(s == 1 for s in shares) <= 18
    assert "share" not in next(Batches(mixed, np.arange(24), 5)(0))  # the test view blends nothing


def test_plain_batches_are_the_test_view_in_one_random_order(store):
    view = ClipView(store, WILD)
    got = list(plain_batches(view, np.arange(24), 10)())
    order = torch.cat([batch["index"] for batch in got])
    assert order.tolist() != sorted(order.tolist()) == list(range(24))
    torch.testing.assert_close(torch.cat([batch["joints"] for batch in got]), view(order))
    again = torch.cat([batch["index"] for batch in plain_batches(view, np.arange(24), 10)(5)])
    assert torch.equal(order, again)
