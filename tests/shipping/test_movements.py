"""Movements: standing people make none, at any rate; speeds, gaps and spikes; clips at another rate."""
import numpy as np
import pytest

from phases.shipping.movements import PAUSE, Tracker, at_rate, speed
from tests.helpers.clip_stores import rest_pose
from tests.helpers.untrimmed import ARM, SKELETON, TRUNK, person, standing

RATES = (10, 15, 30, 60)


def found(joints: np.ndarray, times: np.ndarray, trunk: list[int] | None = TRUNK) -> list[tuple[float, float]]:
    """The movements in a whole recording."""
    tracker = Tracker()
    ended = [tracker.add(float(t), speed(joints, times, i, trunk)) for i, t in enumerate(times)]
    return [movement for movement in [*ended, tracker.end()] if movement]


# ---------------------------------------------------------------------------------------------------------------------
# Movements
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("noise", [0.003, 0.01, 0.02])
def test_people_who_stand_make_no_movement(monkeypatch, fps, noise):
    monkeypatch.setattr("tests.helpers.untrimmed.JITTER", noise)
    x = standing(rest_pose(SKELETON) + [0, 0, 2.5], 30, fps, np.random.default_rng(1))[None]
    assert found(x, np.arange(x.shape[1]) / fps) == []


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("noise", [0.003, 0.02])
def test_a_raised_arm_is_one_movement_at_any_rate(fps, noise):
    (start, end), = found(*person(6, fps, [(2, 3.5)], noise))
    assert abs(start - 2) < 0.35 and abs(end - 3.5) < 0.35


@pytest.mark.parametrize("fps", RATES)
def test_a_pause_parts_movements_and_a_shorter_one_does_not(fps):
    apart = found(*person(12, fps, [(1, 2.5), (4.2, 5.7), (7.4, 8.9)]))
    assert [start for start, _ in apart] == pytest.approx([1, 4.2, 7.4], abs=0.35)
    assert len(found(*person(6, fps, [(1, 2.5), (2.5 + PAUSE / 4, 4.2)]))) == 1


def test_times_need_not_be_even():
    x, times = person(6, 30, [(2, 3.5)])
    keep = np.random.default_rng(2).random(len(times)) < 0.6
    (start, end), = found(x[:, keep], 1e9 + times[keep])
    assert abs(start - 1e9 - 2) < 0.35 and abs(end - 1e9 - 3.5) < 0.35


def test_a_childs_movement_is_measured_by_its_own_size():
    x, times = person(6, 30, [(2, 3.5)], 0)
    middle = [speed(x, times, 75, TRUNK), speed(x * np.float32(0.5), times, 75, TRUNK), speed(x, times, 75, None)]
    assert middle[1] == pytest.approx(middle[0], rel=1e-3) and middle[2] > 0.4


def test_one_joint_that_jumps_is_no_movement():
    x, times = person(6, 30)
    spiky = x.copy()
    spiky[0, ::7, ARM[2]] += 0.5            # single frames
    spiky[0, 90:, ARM[0]] += [0, 0.4, 0]    # and a joint that is taken for another
    assert found(spiky, times) == []


def test_missing_joints_and_frames_are_no_movement():
    rng = np.random.default_rng(3)
    x, times = person(6, 30, [(2, 3.5)])
    x[rng.random(x.shape[:3]) < 0.2] = 0
    x[:, rng.random(len(times)) < 0.1] = 0
    (start, end), = found(x, times)
    assert abs(start - 2) < 0.35 and abs(end - 3.5) < 0.35

    # somebody who is gone for a while, and back in another place
    still, times = person(6, 30)
    still[:, 60:90] = 0
    still[:, 90:] += [1, 0, 0]
    assert found(still, times) == []


def test_the_fastest_of_several_people_counts():
    still, times = person(6, 30)
    moving, _ = person(6, 30, [(2, 3.5)])
    assert len(found(np.concatenate([still, moving + 1]), times)) == 1


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_few_frames_have_a_speed(frames):
    x, times = person(1, 30)
    values = [speed(x[:, :frames], times[:frames], i, TRUNK) for i in range(frames)]
    assert values[0] == 0 and np.isfinite(values).all() and max(values) < 0.3


def test_a_slow_beginning_reaches_back_only_so_far():
    tracker = Tracker()
    for i in range(100):  # fidgeting for ten seconds
        assert tracker.add(i / 10, 0.5) is None and not tracker.is_moving
    for i in range(100, 110):
        tracker.add(i / 10, 2.0)
    ended = [tracker.add(i / 10, 0.0) for i in range(110, 130)]
    assert [movement for movement in ended if movement] == [pytest.approx((9.7, 10.9))]


@pytest.mark.parametrize("fps", [4, *RATES])
def test_a_body_that_walks_has_its_speed_at_any_rate(fps):
    x, times = person(3, fps, noise=0)
    trunk = np.linalg.norm(x[0, 0, TRUNK[:2]].mean(0) - x[0, 0, TRUNK[2:]].mean(0))
    x = x + (times[:, None, None] * [1.2, 0, 0]).astype(np.float32)
    middle = speed(x, times, len(times) // 2, TRUNK)
    assert middle == pytest.approx(1.2 * 0.5 / np.clip(trunk, 0.15, 1), rel=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# Another rate
# ---------------------------------------------------------------------------------------------------------------------

def test_a_clip_at_its_own_rate_stays_as_it_is():
    x, times = person(2, 30)
    x[0, 5:9, 3] = 0
    assert np.array_equal(at_rate(x, times, 30), x)
    assert np.array_equal(at_rate(x[:, :1], times[:1], 30), x[:, :1])


def test_of_more_frames_the_nearest_are_taken():
    x, times = person(2, 60)
    assert np.array_equal(at_rate(x, times, 30), x[:, ::2])


def test_between_fewer_frames_joints_lie_on_lines():
    x, times = person(2, 10, [(0.2, 1.5)], 0)
    x[0, 4:6, 3] = 0                        # a gap is closed from the frames around it
    x[0, :, 7] = 0                          # a joint that is never seen stays so
    y = at_rate(x, times, 30)
    assert y.shape[1] == 58 and np.allclose(y[0, ::3][[0, 3, 6]], x[0, [0, 3, 6]], atol=1e-5) and not y[0, :, 7].any()
    np.testing.assert_allclose(y[0, 1, ARM], (2 * x[0, 0, ARM] + x[0, 1, ARM]) / 3, atol=1e-5)
    want = x[0, 3, 3] + (x[0, 6, 3] - x[0, 3, 3]) * np.linspace(0, 1, 10)[:, None]
    np.testing.assert_allclose(y[0, 9:19, 3], want, atol=1e-5)
