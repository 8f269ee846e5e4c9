"""Scores: where a group of low ones ends."""
from pathlib import Path

import numpy as np
import pytest

from phases.recordings.metres import Recorded, as_joints
from phases.recordings.readers import seen_people
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


def with_score(score: np.ndarray | float) -> np.ndarray:
    """A clip (20, 10, 4) whose last three joints have this score and any place."""
    x = np.random.default_rng(0).uniform(0.5, 1, (20, 10, 4)).astype(np.float32)
    x[:, 7:, 3] = score
    x[:, 7:, :3] *= 100
    return x


@pytest.mark.parametrize("score, min_score, seen", [
    (0.02, 0, 7),       # a group of low ones: as the clip's own scores show
    (0.3, 0.4, 7),      # as the network's training clips had it
    (0.02, 0.01, 10),
    (0.7, 0, 10)])
def test_a_clips_low_scores_are_missing_joints(score, min_score, seen):
    joints, _ = seen_people(Path("a.npy"), with_score(score), Recorded(min_score=min_score))
    assert (joints[0].any(2).sum(1) == seen).all()

    # the same of x, y, score
    flat = with_score(score)[..., [0, 1, 3]]
    joints, _ = seen_people(Path("a.npy"), flat, Recorded(channels="xys", min_score=min_score))
    assert (joints[0].any(2).sum(1) == seen).all()


def test_scores_that_are_nan_are_no_group():
    joints, _ = seen_people(Path("a.npy"), with_score(np.nan), Recorded())
    assert (joints[0].any(2).sum(1) == 7).all()
