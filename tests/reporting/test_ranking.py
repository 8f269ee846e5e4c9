"""ROC, the area below it and average precision are those of a naive reading of their definitions."""
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from phases.reporting.ranking import Rankings, area_below, average_precision, rankings, roc

CLIPS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30)  # a score, often tied; a class


def naive_average_precision(scores: list[float], positive: list[bool]) -> float:
    """Over the thresholds from the highest on: precision times what recall gains."""
    total = recall = 0.0
    for threshold in sorted(set(scores), reverse=True):
        named = [is_positive for score, is_positive in zip(scores, positive, strict=True) if score >= threshold]
        now = sum(named) / sum(positive)
        total += (now - recall) * sum(named) / len(named)
        recall = now
    return total


def naive_area(scores: list[float], positive: list[bool]) -> float:
    """The chance that a positive has a higher score than a negative; a tie counts half."""
    clips = list(zip(scores, positive, strict=True))
    won = [(a > b) + (a == b) / 2 for a, yes in clips if yes for b, other in clips if not other]
    return sum(won) / len(won)


@given(CLIPS)
def test_measures_equal_naive_ones(clips):
    scores, positive = map(list, zip(*clips, strict=True))
    assume(any(positive) and not all(positive))
    x, y = roc(np.array(scores, float), np.array(positive))
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1) and (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    assert area_below(x, y) == pytest.approx(naive_area(scores, positive))
    found = average_precision(np.array(scores, float), np.array(positive))
    assert found == pytest.approx(naive_average_precision(scores, positive))


@given(CLIPS)
def test_each_point_of_a_roc_curve_is_a_threshold(clips):
    scores, positive = map(np.array, zip(*clips, strict=True))
    assume(positive.any() and not positive.all())
    x, y = roc(scores.astype(float), positive)
    thresholds = sorted(set(scores.tolist()), reverse=True)
    assert len(x) == len(thresholds) + 1
    for threshold, a, b in zip(thresholds, x[1:], y[1:], strict=True):
        assert a == pytest.approx((scores[~positive] >= threshold).mean())
        assert b == pytest.approx((scores[positive] >= threshold).mean())


def test_a_score_of_nan_is_the_lowest():
    scores = np.array([0.5, np.nan, 0.2])
    assert average_precision(scores, np.array([True, False, False])) == 1
    assert average_precision(scores, np.array([False, True, False])) == pytest.approx(1 / 3)


def test_rankings_have_each_class_with_clips_and_their_mean():
    rng = np.random.default_rng(0)
    label = np.array([0, 1, 3, 3, 0, 1] * 5)
    p = rng.dirichlet(np.ones(4), len(label))
    p[:, 1] = label == 1
    found = rankings(p, label, ["sit", "wave", "nobody", "walk"])
    assert [one.name for one in found.classes[::-1]][0] == "wave" and len(found.classes) == 3
    wave = found.classes[-1]
    assert (wave.precision, wave.area) == (1, 1)
    assert wave.points[:2] == [(Rankings.LEFT, Rankings.BOTTOM), (Rankings.LEFT, Rankings.TOP)]

    # macro
    assert found.macro.precision == pytest.approx(np.mean([one.precision for one in found.classes]))
    assert found.macro.area == pytest.approx(np.mean([one.area for one in found.classes]))
    heights = np.mean([[y for _, y in one.points] for one in found.classes], 0)
    np.testing.assert_allclose([y for _, y in found.macro.points], heights)


def test_one_class_alone_has_no_ranking():
    assert rankings(np.ones((3, 2)) / 2, np.zeros(3, int), ["a", "b"]) is None
