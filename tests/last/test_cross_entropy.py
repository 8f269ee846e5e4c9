"""The losses of last.py against their formulas: cross-entropy of blended clips."""
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from last import cross_entropy
from tests.helpers.loss_formulas import rows


@given(st.integers(1, 6), st.integers(2, 7), st.sampled_from([0.0, 0.1]), st.integers(0, 999))
def test_cross_entropy_of_a_blend_is_that_of_the_blended_labels(B, K, smoothing, seed):
    def smoothed(label):
        return (1 - smoothing) * F.one_hot(label, K) + smoothing / K

    logits, _, label = rows(B, K, seed)
    batch = {"label": label, "other": label.flip(0), "share": 0.5 + 0.5 * torch.rand(B)}
    share = batch["share"][:, None]
    target = share * smoothed(label) + (1 - share) * smoothed(batch["other"])
    want = -(target * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(cross_entropy(logits, batch, smoothing), want)
    want = F.cross_entropy(logits, label, label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, {"label": label}, smoothing), want)


@given(st.integers(1, 6), st.integers(2, 7), st.integers(0, 999))
def test_the_halves_of_a_pair_learn_as_fast_as_networks_of_their_own(B, K, seed):
    logits, other, label = rows(B, K, seed)
    batch = {"label": label, "other": label.flip(0), "share": 0.5 + 0.5 * torch.rand(B)}
    both = torch.cat([logits, other])
    for part in (batch, {"label": label}):
        want = cross_entropy(logits, part, 0.1) + cross_entropy(other, part, 0.1)
        torch.testing.assert_close(cross_entropy(both, part, 0.1), want)
