"""What lets a network decline: directions of the classes, a threshold that keeps known clips, a temperature."""
import numpy as np
import pytest
import torch

from phases.shipping.declining import (
    KEEP,
    SURE,
    Declining,
    class_means,
    cosine_of,
    likeness_of,
    scale_of,
    softmax,
    temperature_of,
    threshold_of,
)


def drawn(N: int = 300, K: int = 4, C: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, C) about the axis of their class, of all lengths, and labels (N,)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K, N)
    features = np.eye(K, C)[labels] + rng.normal(0, 0.2, (N, C))
    return (features * rng.uniform(0.1, 9, (N, 1))).astype(np.float32), labels


def test_the_mean_of_a_class_is_the_direction_of_its_features():
    features, labels = drawn()
    means = class_means(features, labels, 5)
    for k in range(4):
        unit = [x / np.linalg.norm(x) for x in features[labels == k]]
        want = np.mean(unit, 0)
        np.testing.assert_allclose(means[k], want / np.linalg.norm(want), atol=1e-6)
    assert means.dtype == np.float32 and not means[4].any(), "a class without clips has no direction"


def test_likeness_is_the_cosine_to_the_nearest_class():
    features, labels = drawn()
    means = class_means(features, labels, 4)
    cosine = torch.cosine_similarity(torch.from_numpy(features)[:, None], torch.from_numpy(means), dim=2)
    np.testing.assert_allclose(cosine_of(features, means), cosine.max(1).values, atol=1e-6)

    # a clip between two classes is less like both
    logits = np.tile([0.0, 0.0, -9.0, -9.0], (len(features), 1))
    sure = np.tile([9.0, -9.0, -9.0, -9.0], (len(features), 1))
    less = likeness_of(features, means, sure) - likeness_of(features, means, logits)
    np.testing.assert_allclose(less, SURE / 2, atol=1e-4)


@pytest.mark.parametrize("keep", [0.9, 0.95, 1.0])
def test_the_threshold_keeps_its_share_of_known_clips(keep):
    likeness = np.random.default_rng(0).uniform(-1, 1, 1000)
    assert (likeness >= threshold_of(likeness, keep)).mean() == pytest.approx(keep, abs=0.002)


@pytest.mark.parametrize("true", [0.7, 1.0, 3.0])
def test_the_temperature_makes_probabilities_honest(true):
    # labels are drawn by the logits at a temperature, which is found again
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (40_000, 5))
    draws = softmax(logits / true).cumsum(1) > rng.random((40_000, 1))
    assert temperature_of(logits, draws.argmax(1)) == pytest.approx(true, rel=0.05)


def test_a_network_without_a_fault_keeps_a_usable_temperature():
    logits = np.eye(3)[np.arange(30) % 3]
    assert temperature_of(logits, np.arange(30) % 3) == pytest.approx(0.1)
    assert temperature_of(logits, (np.arange(30) + 1) % 3) == pytest.approx(10)


def test_all_of_it_is_measured_together():
    features, labels = drawn()
    features = features[:, :4]
    damaged = np.concatenate([features + 0.1, features - 0.1])
    found = Declining.of(features, labels, 4, damaged, np.tile(3 * features, (2, 1)))
    logits = np.tile(3 * features, (2, 1))
    known = likeness_of(damaged * found.scale, found.means, logits)
    assert np.array_equal(found.likeness(damaged, logits), known)
    assert (known >= found.threshold).mean() == pytest.approx(KEEP, abs=0.01)
    opposite = likeness_of(-features * found.scale, found.means, 3 * features)
    assert opposite.max() < found.threshold, "the opposite direction is none of them"


def test_every_feature_counts_by_its_spread():
    features, _ = drawn()
    np.testing.assert_allclose((features * scale_of(features)).std(0), 1, rtol=1e-4)
    constant = np.concatenate([features, np.ones((len(features), 1), np.float32)], 1)
    assert scale_of(constant)[-1] < 30 * scale_of(constant)[:-1].mean() and np.isfinite(scale_of(constant)).all()
