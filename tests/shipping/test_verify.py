"""What an exported form loses is counted clip by clip."""
import numpy as np
import pytest

from phases.shipping.verify import acceptable, compare, latencies, limit


def test_what_a_form_loses_is_counted_clip_by_clip():
    label = np.array([0, 0, 1, 1, 2, 2, 0, 1])
    reference = np.eye(3)[[0, 0, 1, 1, 2, 0, 0, 1]]
    other = np.eye(3)[[0, 1, 1, 1, 2, 2, 1, 1]]
    x = compare(reference, other, label)
    assert (x["top1"], x["drop"], x["agreement"], x["max_diff"]) == (75.0, 12.5, 62.5, 1.0)

    # Agresti and Min: (b - c) / (n + 2) ± 1.96 sqrt((b + c + 1) - (b - c)² / (n + 2)) / (n + 2), b = 2 lost, c = 1 won
    low, high = x["drop_ci95"]
    assert low < 0 < 12.5 < high
    assert high == pytest.approx(100 * (1 / 10 + 1.96 * (4 - 1 / 10) ** 0.5 / 10))


def test_the_interval_of_no_change_still_has_a_width():
    z = np.eye(3)[np.arange(300) % 3]
    x = compare(z, z, np.arange(300) % 3)
    assert x["drop"] == 0 and x["agreement"] == 100 and x["drop_ci95"][0] < 0 < x["drop_ci95"][1] < 1


def test_a_form_may_lose_one_clip_or_less_than_a_point():
    assert acceptable(100 / 12, 12) and not acceptable(200 / 12, 12)
    assert acceptable(0.99, 1000) and not acceptable(1.0, 1000)
    assert (limit(12), limit(150), limit(1000)) == (12.5, 1, 1)


def test_a_comparison_says_whether_the_form_passes():
    label = np.arange(12) % 3
    z = np.eye(3)[label]
    for lost, passes in ((0, True), (1, True), (2, False)):
        other = z.copy()
        other[:lost] = other[:lost, [1, 2, 0]]
        assert compare(z, other, label)["accepted"] is passes


def test_times_are_ratios_to_the_deploy_form():
    calls = {"deploy": 0, "other": 0}

    def call(name: str) -> None:
        calls[name] += 1

    ratios = latencies({name: lambda name=name: call(name) for name in calls}, rounds=3)
    assert ratios["deploy"] == 1 and ratios["other"] > 0
    assert calls["deploy"] == calls["other"] > 3
