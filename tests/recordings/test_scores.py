"""Scores: where a group of low ones ends."""
import numpy as np
import pytest

from phases.recordings.metres import Recorded, as_joints
from phases.recordings.scores import least_score


def scores(*groups: tuple[float, float, int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(low, high, n) for low, high, n in groups])


@pytest.mark.parametrize("groups, low, high", [
    ([(0.01, 0.04, 100), (0.5, 1, 900)], 0.05, 0.5),
    ([(0.001, 0.2, 100), (0.4, 1, 900)], 0.2, 0.4),
    ([(0.01, 0.1, 300), (0.1, 0.3, 30), (0.3, 1, 700)], 0.1, 0.3),
    ([(0.1, 0.2, 100), (2.5, 3.5, 900)], 0.2, 1.7)])  # AlphaPose's scores may be above 1
def test_a_group_of_low_scores_ends_at_the_border(groups, low, high):
    border, why = least_score(scores(*groups))
    assert low <= border <= high and "%" in why


@pytest.mark.parametrize("groups", [
    [(0.3, 1, 900)], [(0.01, 1, 900)], [(0.01, 0.04, 3), (0.5, 1, 900)], [(0.9, 0.90001, 50)],
    [(0.01, 0.04, 900), (0.5, 1, 100)]])  # nearly all low: the estimator counts otherwise
def test_one_group_of_scores_has_no_border(groups):
    border, why = least_score(scores(*groups))
    assert border == 0 and "one group" in why


def test_without_scores_there_is_nothing_to_say():
    assert least_score(np.zeros(0)) == (0, "")


def test_a_joint_whose_numbers_and_score_are_nan_is_missing():
    x = np.ones((2, 5, 4), np.float32)
    x[1, 3] = np.nan
    joints = as_joints(x, Recorded(min_score=0.5))[0]
    assert not joints[1, 3].any() and joints.any(2).sum() == 9
