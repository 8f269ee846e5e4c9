"""Which frames a view takes, and where bodies are, which way they face, how large they are; smoothing."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from last import derive_streams, hashed_uniform
from phases.training.alignment import around, extent_scale, gaussian, rotation, sample_frames
from phases.training.clip_store import ClipStore
from phases.training.view import ClipView
from skeletons import Skeleton
from tests.helpers.views import calm, every, smooth_body, store_of, turn

FIRST = torch.tensor([0])


@pytest.fixture
def store(tmp_path, make_store) -> ClipStore:
    return ClipStore(make_store(tmp_path / "store"))


# --- frames ---

@given(length=st.integers(1, 300), T=st.integers(1, 130))
def test_uniform_sampling_takes_the_middle_of_bins_in_tests(length, T):
    want = [(2 * t + 1) * length // (2 * T) if length >= T else min(t, length - 1) for t in range(T)]
    assert sample_frames(torch.tensor([length]), T, "uniform")[0].tolist() == want


@given(length=st.integers(1, 300), T=st.integers(1, 130), seed=st.integers(0, 99), data=st.data())
def test_uniform_sampling_trains_on_a_frame_of_each_bin(length, T, seed, data):
    count = data.draw(st.integers(1, length))
    first = data.draw(st.integers(0, length - count))
    u = hashed_uniform(seed, torch.arange(T))[None]
    t = sample_frames(torch.tensor([length]), T, "uniform", u, torch.tensor([[first, count]]))[0]
    assert (t.diff() >= 0).all() and t[0] >= first and t[-1] < first + count
    if count >= T:
        edges = first + torch.arange(T + 1, dtype=torch.double) * count / T
        assert (t + 1 > edges[:-1]).all() and (t < edges[1:]).all()
    else:
        assert t.tolist() == [first + min(i, count - 1) for i in range(T)]


def test_uniform_sampling_reaches_every_frame_in_training():
    u = hashed_uniform(torch.arange(400)[:, None], torch.arange(8))
    t = sample_frames(torch.full((400,), 40), 8, "uniform", u, torch.tensor([[0, 40]]).repeat(400, 1))
    assert set(t.flatten().tolist()) == set(range(40))


@given(length=st.integers(1, 400), T=st.integers(1, 130), u=st.one_of(st.none(), st.floats(0, 0.9999)))
def test_crop_takes_frames_in_a_row_of_the_clip_repeated_to_300(length, T, u):
    clip = [i % length for i in range(max(300, length))]
    t = sample_frames(torch.tensor([length]), T, "crop", None if u is None else torch.full((1, T), u))[0].tolist()
    starts = [i for i in range(len(clip) - T + 1) if clip[i:i + T] == t]
    assert starts
    if u is None:
        assert (len(clip) - T + 1) // 2 in starts


@pytest.mark.parametrize("length, T", [(1, 4), (3, 8), (5, 5), (40, 8)])
def test_stretch_fills_all_frames_in_equal_bins_at_any_length(length, T):
    frames = sample_frames(torch.tensor([length]), T, "stretch")[0]
    assert frames.tolist() == [int((t + 0.5) * length / T) for t in range(T)]
    drawn = sample_frames(torch.tensor([length]), T, "stretch", torch.rand(1, T))[0]
    assert all(int(t * length / T) <= f <= min((t + 1) * length / T, length - 1) for t, f in enumerate(drawn.tolist()))


@given(length=st.integers(1, 60), T=st.integers(1, 40), before=st.integers(0, 90), after=st.integers(0, 90),
       seed=st.integers(0, 99), sampling=st.sampled_from(["uniform", "stretch"]))
def test_a_window_beyond_the_clip_repeats_its_ends(length, T, before, after, seed, sampling):
    """The same frames as of a clip that really stands still for that long."""
    u = hashed_uniform(seed, torch.arange(T))[None]
    still = [0] * before + list(range(length)) + [length - 1] * after
    window = torch.tensor([[-before, len(still)]])
    got = sample_frames(torch.tensor([length]), T, sampling, u, window)[0].tolist()
    at = sample_frames(torch.tensor([len(still)]), T, sampling, u, torch.tensor([[0, len(still)]]))[0].tolist()
    assert got == [still[t] for t in at]


@pytest.mark.parametrize("training", [False, True])
def test_short_clips_stand_still_after_their_last_frame(training):
    store = store_of(smooth_body(5), smooth_body(9, seed=1), smooth_body(15, seed=2))
    x = ClipView(store, calm(frames=16, bodies=1))(every(store), training)
    velocity = derive_streams(x, torch.tensor(store.skeleton.parents), ("velocity",))
    for v, length in zip(velocity, store.clips["length"], strict=True):
        assert (v[:, length - 1:] == 0).all() and v[:, :length - 1].flatten(2).any(2).all()


@pytest.mark.parametrize("sampling", ["uniform", "stretch", "crop"])
@pytest.mark.parametrize("training", [False, True])
def test_clip_of_one_frame_is_that_frame_held(store, sampling, training):
    x = ClipView(store, calm(frames=7, sampling=sampling, idle=0.7, tempo=1.0))(FIRST, training)
    assert torch.isfinite(x).all() and x.any() and torch.equal(x, x[:, :, :1].expand_as(x))


def test_window_limits_training_to_a_stretch_of_the_clip():
    still = np.repeat(smooth_body(1), 80, 1)
    clip = still * (1 + 0.01 * np.arange(80))[:, None, None]  # the body grows: its size tells the frame
    view = ClipView(store_of(clip), calm(frames=64, bodies=1, window=0.5))
    bone = np.linalg.norm(still[0, 0, 1] - still[0, 0, 20])
    starts, ends = [], []
    for epoch in range(200):
        x = view(FIRST, True, 0, epoch)[0, 0]
        frames = (((x[:, 1] - x[:, 20]).norm(dim=-1) / bone - 1) / 0.01).round()
        assert frames.max() - frames.min() < 80 and frames.min() >= 0 and frames.max() < 80
        starts.append(int(frames.min()))
        ends.append(int(frames.max()))
        assert ends[-1] - starts[-1] >= 40 - 3  # half of 80 frames; a bin at the edge may draw an inner frame
    assert min(starts) <= 1 and max(starts) > 20 and max(ends) >= 78


@given(length=st.integers(1, 30), count=st.integers(0, 12))
def test_the_frames_around_one_repeat_the_ends(length, count):
    t = torch.arange(length)[None]
    got = around(t, torch.tensor([length]), 2 * count + 1)[0]
    for i in range(length):
        assert got[i].tolist() == [min(max(i + o, 0), length - 1) for o in range(-count, count + 1)]


# --- the centre ---

@pytest.mark.parametrize("change", [{}, {"heading": True}, {"trunk_scale": True}, {"smooth": 1.5}])
@pytest.mark.parametrize("training", [False, True])
def test_the_centre_of_the_first_frame_taken_is_the_origin(store, change, training):
    x = ClipView(store, calm(window=0.3, **change))(every(store), training, 1, 2)
    assert x[:, 0, 0, store.skeleton.centre].mean(1).abs().max() < 1e-5


def test_both_bodies_move_alike_so_that_their_distance_stays():
    clip = smooth_body(80, bodies=2)
    x = ClipView(store_of(clip), calm(frames=80, bodies=2))(FIRST)[0]
    assert np.allclose(x[1, 60] - x[0, 60], clip[1, 60] - clip[0, 60], atol=1e-5)


@pytest.mark.parametrize("lost", [[11], [12], [11, 12], [0, 5]])
def test_joints_of_the_centre_that_go_missing_move_no_other(lost):
    """In some frames: they are on the line, and the body stays where it was."""
    clip = smooth_body(30, "coco17")
    want = ClipView(store_of(clip, skeleton="coco17"), calm(frames=30, bodies=1))(FIRST)
    clip[:, 5:9, lost] = 0
    got = ClipView(store_of(clip, skeleton="coco17"), calm(frames=30, bodies=1))(FIRST)
    kept = [v for v in range(17) if v not in lost]
    assert torch.equal(got[..., kept, :], want[..., kept, :])
    assert (got - want).abs().max() < 0.05


# --- heading, trunk, extent ---

@given(degrees=st.floats(-180, 180), training=st.booleans())
def test_heading_undoes_a_turn_about_the_vertical(degrees, training):
    clip = smooth_body(40, bodies=2)
    cfg = calm(heading=True)
    still, turned = (ClipView(store_of(x), cfg)(FIRST, training) for x in (clip, clip @ turn(degrees)))
    assert torch.allclose(turned, still, atol=2e-4)


def test_heading_puts_the_left_side_along_x_and_stays_upright(store):
    plain, turned = (ClipView(store, calm(frames=80, bodies=1, heading=h))(torch.tensor([1]))[0, 0]
                     for h in (False, True))
    ls, rs, lh, rh = (turned[:, j].mean(1) for j in store.skeleton.trunk)
    across = (ls + lh - rs - rh).mean(0)
    assert across[0] > 0.1 and abs(across[2]) < 1e-5
    assert torch.allclose(plain[..., 1], turned[..., 1], atol=1e-6)


def test_heading_is_hardly_moved_by_one_wild_frame():
    clip = smooth_body(80)
    wild = clip.copy()
    wild[0, 40] = (wild[0, 40] - wild[0, 40, 0]) @ turn(90) + wild[0, 40, 0]
    before, after = (ClipView(store_of(x), calm(heading=True)).normalising[0] for x in (clip, wild))
    cosine = ((after.T @ before).trace().item() - 1) / 2  # of the angle between the two rotations
    assert math.degrees(math.acos(min(1, cosine))) < 3


@given(size=st.floats(0.3, 2), training=st.booleans())
def test_trunk_scale_undoes_the_size_of_the_body(size, training):
    clip = smooth_body(40, bodies=2)
    cfg = calm(trunk_scale=True)
    still, scaled = (ClipView(store_of(x), cfg)(FIRST, training) for x in (clip, clip * size))
    assert torch.allclose(scaled, still, atol=1e-4)


def test_trunk_scale_makes_the_mean_trunk_half_a_metre():
    clip = smooth_body(80)
    store = store_of(clip * np.linspace(1, 1.3, 80)[:, None, None])
    x = ClipView(store, calm(frames=80, bodies=1, trunk_scale=True))(FIRST)[0, 0]
    ls, rs, lh, rh = (x[:, j].mean(1) for j in store.skeleton.trunk)
    assert ((ls + rs - lh - rh) / 2).norm(dim=-1).mean() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("cfg", [{"heading": True}, {"trunk_scale": True}])
def test_empty_ends_do_not_count_for_heading_and_size(cfg):
    """Frames before and after the body repeat its ends; the mean is that of the frames between."""
    clip = smooth_body(40)
    padded = np.concatenate([np.zeros_like(clip), clip, np.zeros_like(clip[:, :7])], 1)
    plain, late = (ClipView(store_of(x), calm(**cfg)) for x in (clip, padded))
    torch.testing.assert_close(late.normalising, plain.normalising)
    torch.testing.assert_close(late(FIRST), plain(FIRST))


@pytest.mark.parametrize("training", [False, True])
def test_extent_makes_the_longest_axis_measure_2(store, training):
    x = ClipView(store, calm(extent=True, scale=0.2, rotate=(30.0, 40.0, 50.0)))(every(store), training)
    for clip, offset in zip(x, store.clips["offset"], strict=True):
        there = clip[:1 + (offset[1] >= 0)].flatten(0, 2)
        assert (there.amax(0) - there.amin(0)).max() == pytest.approx(2, rel=1e-5)


def test_an_absent_body_has_no_extent():
    x = torch.randn(3, 2, 5, 7, 3) * 0.1
    x[:, 1] += 100
    alone = extent_scale(x, torch.tensor([[1.0, 0.0]] * 3))
    torch.testing.assert_close(alone, extent_scale(x[:, :1], torch.ones(3, 1)))
    assert (alone > 10 * extent_scale(x, torch.ones(3, 2))).all()


def test_alignment_of_a_skeleton_without_shoulders_is_refused(store):
    joints = tuple("abcdefghijklmnopqrstuvwxy")
    store.skeleton = Skeleton("own", joints, (0,) * 25, {"all": tuple(range(25))})
    with pytest.raises(ValueError, match="'own' names no left and right"):
        ClipView(store, calm(heading=True))
    ClipView(store, calm())


# --- smoothing ---

@given(std=st.floats(0.2, 2), lost=st.integers(0, 24))
def test_smoothing_is_the_gaussian_mean_of_the_whole_clip(std, lost):
    """Naive: gaps are closed first, then each frame is a mean of those around it; the ends repeat."""
    clip = smooth_body(24)
    clip[0, 4, lost] = 0
    x = clip[0].astype(np.float64)
    x[4, lost] = (x[3, lost] + x[5, lost]) / 2

    reach = math.ceil(3 * std)
    weight = [math.exp(-0.5 * (o / std) ** 2) for o in range(-reach, reach + 1)]
    want = np.zeros_like(x)
    for t in range(24):
        for o, w in zip(range(-reach, reach + 1), weight, strict=True):
            want[t] += w / sum(weight) * x[min(max(t + o, 0), 23)]

    store = store_of(clip)
    got = ClipView(store, calm(frames=24, bodies=1, smooth=std))(FIRST)[0, 0]
    np.testing.assert_allclose(got, want - want[0, store.skeleton.centre].mean(0), atol=1e-5)


@given(std=st.floats(0.1, 20))
def test_the_weights_of_smoothing_are_a_bell_of_sum_one(std):
    weight = gaussian(std)
    assert weight.sum() == pytest.approx(1, abs=1e-5) and len(weight) == 2 * math.ceil(3 * std) + 1
    torch.testing.assert_close(weight, weight.flip(0))
    assert weight.argmax() == len(weight) // 2


def test_smoothing_leaves_a_still_body_alone():
    clip = np.repeat(smooth_body(1), 20, 1)
    plain, smooth = (ClipView(store_of(clip), calm(smooth=s))(FIRST) for s in (0.0, 2.0))
    torch.testing.assert_close(plain, smooth)


# --- turns ---

@given(angles=st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_rotation_is_orthonormal_and_turns_about_x_then_y_then_z(angles):
    R = rotation(torch.tensor([angles], dtype=torch.double))[0]
    assert torch.allclose(R @ R.T, torch.eye(3, dtype=torch.double)) and torch.linalg.det(R) == pytest.approx(1)
    p = q = [0.3, -1.2, 0.7]
    for i, a in enumerate(angles):  # right-handed: about x, y turns to z; about y, z to x; about z, x to y
        j, k = (i + 1) % 3, (i + 2) % 3
        q = list(q)
        q[j], q[k] = math.cos(a) * q[j] - math.sin(a) * q[k], math.sin(a) * q[j] + math.cos(a) * q[k]
    assert torch.allclose(torch.tensor([p], dtype=torch.double) @ R, torch.tensor([q], dtype=torch.double))
