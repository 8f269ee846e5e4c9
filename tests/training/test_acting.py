"""The ends of clips in which nobody moves are left out: alignment.acting, and the views that use it."""
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phases.training.alignment import CALM as MARGIN
from phases.training.alignment import acting
from phases.training.view import ClipView, WholeClips, rest_of
from tests.helpers.views import calm, smooth_body, standing_about, store_of

STILL = 0.1  # metres


def ends_of(clip: np.ndarray, first: int = 0, last: int | None = None, still: float = STILL) -> tuple[int, int]:
    """acting of one clip (M, L, V, 3)."""
    last = clip.shape[1] - 1 if last is None else last
    begin, end = acting(torch.from_numpy(clip)[None], torch.tensor([first]), torch.tensor([last]), still)
    return int(begin), int(end)


def naive_ends(clip: np.ndarray, first: int, last: int, still: float) -> tuple[int, int]:
    """The reference, frame by frame and joint by joint."""
    def is_far(s: int, t: int) -> bool:
        return any(np.linalg.norm(clip[m, s, v] - clip[m, t, v]) > still
                   for m in range(clip.shape[0]) for v in range(clip.shape[2]))

    from_first = [t for t in range(first, last + 1) if is_far(t, first)]
    from_last = [t for t in range(first, last + 1) if is_far(t, last)]
    if not from_first or not from_last:
        return first, last
    begin = max(from_first[0] - 3, first)
    return begin, max(min(from_last[-1] + 3, last), begin)


def raised(frames: int, begin: int, end: int, height: float = 0.5) -> np.ndarray:
    """A body (1, frames, 25, 3) that stands, but in frames begin to end, when its third joint goes up and down."""
    clip = np.repeat(smooth_body(1), frames, 1)
    clip[0, begin:end + 1, 3, 1] += height
    return clip


# --- against the reference ---

@given(seed=st.integers(0, 10_000), bodies=st.integers(1, 2), still=st.sampled_from([0.02, 0.1, 0.4]), data=st.data())
def test_the_ends_are_those_of_the_reference(seed, bodies, still, data):
    """A batch of clips of several lengths, each with frames before `first` and after `last` that do not count."""
    rng = np.random.default_rng(seed)
    clips = []
    ranges = []
    for length in data.draw(st.lists(st.integers(1, 24), min_size=1, max_size=4)):
        steps = rng.normal(0, 0.03, (bodies, length, 2, 3)) * (rng.random((bodies, length, 1, 1)) < rng.random())
        clips.append(np.pad(steps.cumsum(1), ((0, 0), (0, 24 - length), (0, 0), (0, 0))).astype(np.float32))
        first = int(rng.integers(0, length))
        ranges.append((first, int(rng.integers(first, length))))

    first, last = torch.tensor(ranges).T
    begin, end = acting(torch.from_numpy(np.stack(clips)), first, last, still)
    want = [naive_ends(clip, *both, still) for clip, both in zip(clips, ranges, strict=True)]
    assert list(zip(begin.tolist(), end.tolist(), strict=True)) == want


# --- what that means ---

@pytest.mark.parametrize("begin, end", [(10, 19), (3, 36), (20, 20)])
def test_three_frames_of_rest_are_kept_on_both_sides(begin, end):
    assert MARGIN == 3 and ends_of(raised(40, begin, end)) == (begin - 3, end + 3)


@pytest.mark.parametrize("begin, end", [(0, 9), (2, 38), (31, 39)])
def test_the_margin_ends_where_the_clip_does(begin, end):
    """One that moves in its first frame differs from it until the end of the clip's rest."""
    clip = raised(40, begin, end)
    got = ends_of(clip)
    assert got == naive_ends(clip, 0, 39, STILL) and got[0] >= 0 and got[1] <= 39


def test_a_movement_within_the_setting_is_rest():
    assert ends_of(raised(40, 10, 19, 0.09)) == (0, 39) and ends_of(raised(40, 10, 19, 0.11)) == (7, 22)


def test_a_clip_in_which_nobody_moves_keeps_all_its_frames():
    assert ends_of(np.repeat(smooth_body(1, bodies=2), 50, 1)) == (0, 49)
    assert ends_of(smooth_body(1)) == (0, 0) and ends_of(np.zeros((2, 9, 25, 3), np.float32)) == (0, 8)


@pytest.mark.parametrize("first, second", [((10, 19), (30, 34)), ((30, 34), (10, 19)), ((10, 34), (20, 21))])
def test_either_of_two_bodies_may_move(first, second):
    clip = np.concatenate([raised(50, *first), raised(50, *second) + np.float32(1)])
    assert ends_of(clip) == (7, 37)


@pytest.mark.parametrize("before, after", [(0, 40), (40, 0), (15, 60)])
def test_standing_before_and_after_a_clip_makes_no_difference(before, after):
    clip = smooth_body(60)
    begin, end = ends_of(standing_about(clip, before, after))
    own = ends_of(clip)
    assert begin >= before + own[0] - 3 and end <= before + own[1] + 3 and begin <= before + own[0]


def test_noise_of_2_cm_keeps_frames_and_cuts_no_action():
    """A shaking body is far from where it began after a few frames: the trimming is off, nothing of the action lost."""
    clip = standing_about(raised(40, 10, 29, 0.6), 30, 30)  # moves in frames 40 to 59 of 100
    assert ends_of(clip) == (37, 62)
    kept = []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 0.02, clip.shape)
        begin, end = ends_of((clip + noise).astype(np.float32))
        assert begin <= 37 and end >= 62
        kept.append(end - begin + 1)
    assert np.mean(kept) > 80


# --- in a view ---

def test_a_view_takes_frames_of_the_acting_part_alone():
    clip = smooth_body(60)
    waiting = standing_about(clip, 30, 45)
    store = store_of(waiting)
    whole = WholeClips(store, store.clips["offset"], rest_of(store), calm(still=STILL))
    begin, end = ends_of(waiting)
    assert (whole.offset[0, 0], whole.length[0]) == (begin, end - begin + 1) and whole.length[0] <= 66

    # none with the setting off
    off = WholeClips(store, store.clips["offset"], rest_of(store), calm())
    assert (off.offset[0, 0], off.length[0]) == (0, 135)


@pytest.mark.parametrize("training", [False, True])
def test_a_clip_with_rest_around_it_looks_as_without(training):
    """To a view that leaves rest out: a body that moves at once and to the end, and the margin in both."""
    clip = standing_about(raised(40, 10, 29), 3, 3)
    views = [ClipView(store_of(standing_about(clip, k, k)), calm(bodies=1, still=STILL, frames=8)) for k in (0, 25)]
    assert torch.equal(*(view(torch.tensor([0]), training, 1, 2) for view in views))


def test_frames_without_a_body_are_left_out_before_rest_is():
    clip = standing_about(raised(40, 15, 24), 0, 0)
    clip[:, :6] = 0
    clip[:, 36:] = 0
    store = store_of(clip)
    whole = WholeClips(store, store.clips["offset"], rest_of(store), calm(still=STILL))
    assert (whole.offset[0, 0], whole.length[0]) == (12, 16)
