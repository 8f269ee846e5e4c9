"""Clips of what no network was taught: people at rest, and actions whose names tell that they are others."""
import numpy as np
import pytest

from phases.recordings.strangers import (
    FRAMES,
    JITTER,
    SWAY,
    is_sitting_down,
    is_stranger,
    is_walking,
    sitting,
    standing,
)
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose

S = SKELETONS["kinect20"]
HEAD = S.joints.index("head")
FOOT = int(rest_pose(S)[:, 1].argmin())
CLIPS = {"standing": standing, "sitting": sitting}


def clip(frames: int = 30, bodies: int = 1, flat: bool = False) -> np.ndarray:
    """(M, L, V, 3): bodies that drift apart from where they began; no coordinate is 0."""
    x = np.repeat((rest_pose(S) + (1, 2, 3))[None, None], frames, 1) + 0.05 * np.arange(frames)[:, None, None]
    x = np.concatenate([x + 2 * m for m in range(bodies)])
    x[..., 2] *= not flat
    return x.astype(np.float32)


# --- people at rest ---

@pytest.mark.parametrize("make", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("bodies", [1, 2])
def test_a_clip_of_rest_is_a_pure_function_of_joints_and_name(make, bodies):
    x = clip(bodies=bodies)
    before = x.copy()
    got = make(x, "a")
    assert got.shape == (bodies, FRAMES, 20, 3) and got.dtype == np.float32 and np.array_equal(x, before)
    assert np.array_equal(got, make(x, "a")) and not np.array_equal(got, make(x, "b"))


def test_people_stand_in_the_first_pose_and_sit_in_the_last():
    x = clip()
    for made, pose in ((standing(x, "a"), x[:, :1]), (sitting(x, "a"), x[:, -1:])):
        assert np.abs(made - pose).max() < SWAY + 6 * JITTER
        assert np.abs(made.mean(1) - pose[:, 0]).max() < SWAY


def test_frames_that_show_no_body_are_no_pose():
    x = clip()
    x[:, :5] = 0
    x[:, 20:] = 0
    assert np.abs(standing(x, "a") - x[:, 5:6]).max() < SWAY + 6 * JITTER
    assert np.abs(sitting(x, "a") - x[:, 19:20]).max() < SWAY + 6 * JITTER


@pytest.mark.parametrize("make", CLIPS.values(), ids=CLIPS)
def test_a_clip_without_any_body_stays_one(make):
    assert not make(np.zeros((2, 9, 20, 3), np.float32), "a").any()


@pytest.mark.parametrize("make", CLIPS.values(), ids=CLIPS)
def test_rest_of_flat_clips_is_flat(make):
    got = make(clip(flat=True), "a")
    assert not got[..., 2].any() and got[..., :2].all() and make(clip(), "a")[..., 2].all()


@pytest.mark.parametrize("make, frame", [(standing, 0), (sitting, -1)])
def test_what_is_missing_in_the_pose_stays_missing(make, frame):
    x = clip(bodies=2)
    x[0, frame, [5, HEAD, 12]] = 0
    x[1, frame] = 0
    got = make(x, "a")
    shown = got.any(3)
    assert not shown[0][:, [5, HEAD, 12]].any() and not shown[1].any() and shown[0].sum() == FRAMES * 17


def test_a_body_sways_from_the_feet_and_a_sensor_jitters():
    """The head goes to and fro and sideways, not up and down; the feet stay where they are, but for the jitter."""
    spread = np.mean([standing(clip(), str(k))[0][:, [HEAD, FOOT]].std(0) for k in range(40)], 0)  # head, foot; x y z
    assert np.allclose(spread[1], JITTER, rtol=0.2) and spread[0, 1] == pytest.approx(JITTER, rel=0.2)
    assert (spread[0, [0, 2]] > 2 * JITTER).all()

    # no faster than a person: what is left between neighbouring frames is the sensor's
    steps = np.diff(standing(clip(), "a")[0], axis=0)
    assert steps.std() == pytest.approx(JITTER * 2 ** 0.5, rel=0.1)


def test_a_body_of_one_height_stands_still():
    x = np.full((1, 4, 20, 3), 2.0, np.float32)
    assert standing(x, "a").std(1).max() < 2 * JITTER


# --- names ---

@pytest.mark.parametrize("name, known, strange", [
    ("jump", ["wave", "sit down"], True),
    ("sit down", ["stand to sit"], False),
    ("sitting down", ["sit down"], False),              # the same word, longer
    ("walk around", ["sit around"], True),              # around tells nothing
    ("raise the left arm", ["swing the left arm"], True),
    ("two hand push", ["push"], False),
    ("pick up with one hand", ["pick up and throw"], False),
    ("Throw", ["throwing"], False),
    ("go", ["golf"], True),                             # too short to be its beginning
    ("wave", [], True)])
def test_an_action_is_a_stranger_if_it_shares_no_telling_word(name, known, strange):
    assert is_stranger(name, known) == strange


@pytest.mark.parametrize("name, sits", [
    ("sit down", True), ("stand to sit", True), ("Sitting Down", True), ("sit", True), ("sitting", True),
    ("sit to stand", False), ("stand up", False), ("visit", False), ("sit down and write", False), ("squat", False)])
def test_people_sit_at_the_end_of_actions_that_say_so(name, sits):
    assert is_sitting_down(name) == sits


@pytest.mark.parametrize("name, walks", [
    ("walk", True), ("walk around", True), ("Walking", True), ("walk_around", True), ("he walks up to her", True),
    ("sidewalk", False), ("jog", False), ("walker", False)])
def test_people_walk_in_actions_that_say_so(name, walks):
    assert is_walking(name) == walks
