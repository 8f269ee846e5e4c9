"""Streams, the view of a clip and its batches, and the clip store that they read."""
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from last import STREAMS, derive_streams, hashed_uniform
from phases.training.alignment import rotation, sample_frames
from phases.training.batches import Batches
from phases.training.clip_store import ClipStore
from phases.training.view import ClipView, View
from skeletons import SKELETONS, Skeleton
from tests.helpers.clip_stores import write_store

# nearly every augmentation that a recipe can switch on
WILD = View(frames=16, bodies=2, window=0.5, rotate=(30.0, 40.0, 50.0), scale=0.2, noise=0.05,
            flip=0.5)
CALM = View(frames=16, bodies=2, rotate=(0.0, 0.0, 0.0), scale=0.0)  # training draws frames, and nothing else
EVERY = torch.arange(24)


def drawn(index: torch.Tensor, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    """The 16 numbers in [-1, 1) that augment each clip."""
    return 2 * hashed_uniform(seed, epoch, index[:, None], torch.arange(16)) - 1


@pytest.fixture
def store(tmp_path, make_store) -> ClipStore:
    return ClipStore(make_store(tmp_path / "store"))


def turn(degrees: float) -> np.ndarray:
    """The matrix that turns row vectors about the vertical."""
    a = math.radians(degrees)
    return np.array([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])


def change(store: ClipStore, f) -> ClipStore:
    """The store with f(x) in place of x in frames that show a body; missing frames stay zero."""
    x = np.asarray(store.frames)
    seen = (x != 0).any((1, 2), keepdims=True)
    store.frames = np.where(seen, f(x.astype(np.float64)), 0).astype(np.float32)
    return store


def trim(store: ClipStore) -> None:
    """Cut every clip to 16 frames: a view of 16 frames then takes frame t of the clip at t, in training too."""
    store.clips["length"] = np.minimum(store.clips["length"], 16)


# --- streams ---

@pytest.mark.parametrize("name", SKELETONS)
@pytest.mark.parametrize("T", [1, 2, 9])
def test_streams_are_the_differences_of_the_design(name, T):
    s, J = SKELETONS[name], torch.randn(2, T, SKELETONS[name].num_joints, 3)
    want = torch.zeros(2, T, s.num_joints, 12)
    for t in range(T):
        for v, p in s.bones:
            want[:, t, v, 0:3] = J[:, t, v]
            want[:, t, v, 3:6] = J[:, t, v] - J[:, t, p]
            if t + 1 < T:
                want[:, t, v, 6:9] = J[:, t + 1, v] - J[:, t, v]
                want[:, t, v, 9:12] = (J[:, t + 1, v] - J[:, t + 1, p]) - (J[:, t, v] - J[:, t, p])
    assert torch.allclose(derive_streams(J, torch.tensor(s.parents)), want, atol=1e-6)


def test_streams_come_in_the_order_they_are_named():
    J, parents = torch.randn(5, 25, 3), torch.tensor(SKELETONS["ntu25"].parents)
    every = dict(zip(STREAMS, derive_streams(J, parents).split(3, -1), strict=True))
    names = ("bone_velocity", "joint")
    assert torch.equal(derive_streams(J, parents, names), torch.cat([every[n] for n in names], -1))


def test_streams_of_augmented_joints_are_the_augmented_streams():
    J, A = torch.randn(2, 7, 25, 3, dtype=torch.double), torch.randn(3, 3, dtype=torch.double)
    parents = torch.tensor(SKELETONS["ntu25"].parents)
    after = derive_streams(J, parents).unflatten(-1, (4, 3)) @ A
    assert torch.allclose(derive_streams(J @ A, parents), after.flatten(-2))


# --- random numbers ---

def test_hashed_uniform_is_uniform():
    u = hashed_uniform(7, torch.arange(200_000))
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 1 / 2) < 4 * 12 ** -0.5 / len(u) ** 0.5
    assert abs(u.var() - 1 / 12) < 4 * 180 ** -0.5 / len(u) ** 0.5
    chi2 = ((torch.histc(u, 100, 0, 1) - 2000) ** 2 / 2000).sum()
    assert abs(chi2 - 99) < 4 * (2 * 99) ** 0.5


@pytest.mark.parametrize("place", range(4))
def test_hashed_uniform_of_neighbouring_keys_does_not_correlate(place):
    # keys are (seed, epoch, clip, draw): one varies over the sample, another is larger by 1 in b than in a
    keys = [torch.tensor(k) for k in (3, 1, 4, 1)]
    keys[(place + 1) % 4] = torch.arange(50_000)
    a = hashed_uniform(*keys)
    keys[place] = keys[place] + 1
    b = hashed_uniform(*keys)
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 4 / len(a) ** 0.5
    pairs = torch.histogramdd(torch.stack([a, b], 1), [10, 10], [0, 1, 0, 1]).hist
    assert abs(((pairs - 500) ** 2 / 500).sum() - 99) < 4 * (2 * 99) ** 0.5


def test_hashed_uniform_is_one_number_however_a_key_is_given():
    batch = hashed_uniform(1, 2, torch.arange(10)[:, None], torch.arange(5))
    assert batch.shape == (10, 5)
    assert all(batch[i, j] == hashed_uniform(1, 2, i, j) for i in range(10) for j in range(5))
    assert hashed_uniform(1, 2) != hashed_uniform(2, 1)


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


def test_short_clips_stand_still_after_their_last_frame(store):
    short = EVERY[store.clips["length"] < 16]
    for training in (False, True):
        x = ClipView(store, CALM)(short, training)
        velocity = derive_streams(x, torch.tensor(store.skeleton.parents), ("velocity",))
        for v, length in zip(velocity, store.clips["length"][short], strict=True):
            assert (v[:, length - 1:] == 0).all()


@pytest.mark.parametrize("sampling", ["uniform", "crop"])
@pytest.mark.parametrize("training", [False, True])
def test_clip_of_one_frame_is_that_frame_held(store, sampling, training):
    x = ClipView(store, View(frames=7, sampling=sampling))(torch.tensor([0]), training)
    assert torch.isfinite(x).all() and x.any() and torch.equal(x, x[:, :, :1].expand_as(x))


def test_window_limits_training_to_a_stretch_of_the_clip(store):
    row = np.arange(len(store.frames), dtype=np.float32)[:, None, None]
    store.frames = np.zeros_like(store.frames) + row + 1  # every coordinate tells its row
    view = ClipView(store, View(frames=64, window=0.5, rotate=(0.0,) * 3, scale=0.0))
    starts, ends = [], []
    for epoch in range(200):
        rows = view(torch.tensor([1]), True, 0, epoch)[0, 0, :, 0, 0].round()
        assert rows.max() - rows.min() < 80 and rows.min() >= 0 and rows.max() < 80
        starts.append(int(rows.min()))
        ends.append(int(rows.max()))
        assert ends[-1] - starts[-1] >= 40 - 3  # half of 80 frames; a bin at the edge may draw an inner frame
    assert min(starts) <= 1 and max(starts) > 20 and max(ends) >= 78


# --- what a view depends on ---

def test_view_of_a_clip_is_the_same_in_any_batch(store):
    view = ClipView(store, WILD)
    whole = view(EVERY, True, seed=3, epoch=2)
    order = torch.randperm(24)
    assert torch.allclose(view(EVERY[order], True, 3, 2), whole[order], atol=1e-6)
    for i in (0, 1, 5, 23):
        assert torch.allclose(view(torch.tensor([i]), True, 3, 2)[0], whole[i], atol=1e-6)


def test_view_in_training_differs_between_epochs_seeds_and_clips(store):
    view = ClipView(store, WILD)
    x = view(EVERY, True, seed=3, epoch=2)
    for other in (view(EVERY, True, 3, 3), view(EVERY, True, 4, 2)):
        assert all(not torch.allclose(a, b, atol=1e-3) for a, b in zip(x, other, strict=True))
    maps, flips, _ = view._augment(drawn(EVERY, 3, 2))
    assert len({tuple(m.flatten().tolist()) for m in maps}) == 24 and 0 < flips.sum() < 24


def test_view_at_test_time_depends_on_the_clip_alone(store):
    view = ClipView(store, WILD)
    assert torch.equal(view(EVERY, False, 0, 0), view(EVERY, False, 5, 9))


@pytest.mark.parametrize("training", [False, True])
def test_absent_bodies_and_missing_frames_stay_exactly_zero(store, training):
    trim(store)
    x = ClipView(store, replace(WILD, window=1.0))(EVERY, training)
    assert (store.clips["offset"][:, 1] < 0).any() and (store.clips["offset"][:, 1] >= 0).any()
    hidden = 0  # missing frames of bodies that are present
    for clip, offsets, length in zip(x, store.clips["offset"], store.clips["length"], strict=True):
        for body, offset in zip(clip, offsets, strict=True):
            for t in range(16):
                seen = offset >= 0 and np.asarray(store.frames[offset + min(t, length - 1)]).any()
                hidden += offset >= 0 and not seen
                assert body[t].any() == seen
    assert hidden > 10


# --- alignment ---

@pytest.mark.parametrize("heading, trunk_scale", [(False, False), (True, False), (False, True), (True, True)])
def test_centre_of_the_first_seen_frame_is_the_origin(store, heading, trunk_scale):
    view, short = View(frames=80, heading=heading, trunk_scale=trunk_scale), EVERY[store.clips["length"] < 80]
    x = ClipView(store, view)(short)[:, 0]
    first = (x != 0).any(-1).any(-1).int().argmax(1)
    assert first.max() > 0  # clip 5 misses its first frames
    centre = x[torch.arange(len(x)), first][:, store.skeleton.centre].mean(1)
    assert centre.abs().max() < 1e-5


def test_both_bodies_move_alike_so_that_their_distance_stays(store):
    x = ClipView(store, View(frames=80, bodies=2))(torch.tensor([1]))[0]
    a, b = (np.asarray(store.frames[o:o + 80]) for o in store.clips["offset"][1])
    assert np.allclose(x[1, 60] - x[0, 60], b[60] - a[60], atol=1e-5)


@given(degrees=st.floats(-180, 180))
def test_heading_undoes_a_turn_about_the_vertical(tmp_path_factory, make_store, degrees):
    folder, cfg = make_store(tmp_path_factory.mktemp("store"), clips=6), View(frames=16, bodies=2, heading=True)
    still, turned = ClipStore(folder), change(ClipStore(folder), lambda x: x @ turn(degrees))
    assert torch.allclose(ClipView(turned, cfg)(EVERY[:6]), ClipView(still, cfg)(EVERY[:6]), atol=2e-4)


def test_heading_puts_the_left_side_along_x_and_stays_upright(store):
    plain, turned = (ClipView(store, View(frames=80, heading=h))(torch.tensor([1]))[0, 0] for h in (False, True))
    ls, rs, lh, rh = (turned[:, j].mean(1) for j in store.skeleton.trunk)
    across = (ls + lh - rs - rh).mean(0)
    assert across[0] > 0.1 and abs(across[2]) < 1e-5
    assert torch.allclose(plain[..., 1], turned[..., 1], atol=1e-6)


def test_heading_is_hardly_moved_by_one_wild_frame(store):
    before = ClipView(store, View(heading=True)).normalising[1]
    store.frames = np.array(store.frames)
    first = store.clips["offset"][1, 0]
    store.frames[first] = store.frames[first] @ turn(90)
    after = ClipView(store, View(heading=True)).normalising[1]
    cosine = ((after.T @ before).trace().item() - 1) / 2  # of the angle between the two rotations
    assert math.degrees(math.acos(min(1, cosine))) < 3


@given(size=st.floats(0.2, 5))
def test_trunk_scale_undoes_the_size_of_the_body(tmp_path_factory, make_store, size):
    folder, cfg = make_store(tmp_path_factory.mktemp("store"), clips=6), View(frames=16, bodies=2, trunk_scale=True)
    still, scaled = ClipStore(folder), change(ClipStore(folder), lambda x: x * size)
    assert torch.allclose(ClipView(scaled, cfg)(EVERY[:6]), ClipView(still, cfg)(EVERY[:6]), atol=1e-4)


def test_trunk_scale_makes_the_first_trunk_half_a_metre(store):
    x = ClipView(store, View(frames=80, trunk_scale=True))(torch.tensor([1]))[0, 0, 0]
    ls, rs, lh, rh = (x[j].mean(0) for j in store.skeleton.trunk)
    assert ((ls + rs - lh - rh) / 2).norm() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_extent_makes_the_longest_axis_of_what_is_seen_measure_2(store, training):
    x = ClipView(store, View(frames=16, bodies=2, extent=True))(EVERY, training)
    for clip in x:
        seen = clip[(clip != 0).any(-1).any(-1)].flatten(0, 1)
        assert (seen.amax(0) - seen.amin(0)).max() == pytest.approx(2, rel=1e-5)


def test_extent_leaves_a_clip_in_which_nothing_is_seen_at_zero(tmp_path_factory, make_store):
    folder = make_store(tmp_path_factory.mktemp("store"), clips=6)
    frames = np.load(folder / "frames.npy")
    np.save(folder / "frames.npy", np.zeros_like(frames))
    assert (ClipView(ClipStore(folder), View(frames=8, bodies=2, extent=True))(torch.arange(6), True) == 0).all()


def test_alignment_of_a_skeleton_without_shoulders_is_refused(store):
    joints = tuple("abcdefghijklmnopqrstuvwxy")
    store.skeleton = Skeleton("own", joints, (0,) * 25, {"all": tuple(range(25))})
    with pytest.raises(ValueError, match="'own' names no left and right"):
        ClipView(store, View(heading=True))
    ClipView(store, View())


@pytest.mark.parametrize("training", [False, True])
def test_clip_in_which_nothing_is_seen_is_zero_and_never_nan(store, training):
    store.frames = np.zeros_like(store.frames)
    x = ClipView(store, replace(WILD, heading=True, trunk_scale=True))(EVERY, training)
    assert (x == 0).all()


@pytest.mark.parametrize("skeleton", ["kinect20", "coco17"])
def test_view_of_any_skeleton_is_finite_and_flat_ones_stay_flat(tmp_path, make_store, skeleton):
    store = ClipStore(make_store(tmp_path, skeleton))
    x = ClipView(store, replace(WILD, trunk_scale=True))(EVERY, True)
    assert torch.isfinite(x).all() and x.shape == (24, 2, 16, SKELETONS[skeleton].num_joints, 3)
    if skeleton == "coco17":
        assert (ClipView(store, View())(EVERY)[..., 2] == 0).all()


def test_a_second_body_that_the_store_has_no_room_for_is_refused(store):
    store.clips["offset"] = store.clips["offset"][:, :1]
    with pytest.raises(ValueError, match="view.bodies = 2"):
        ClipView(store, View(bodies=2))


# --- smoothing ---

@given(std=st.floats(0.2, 2), joint=st.integers(0, 24))
def test_smoothing_is_the_gaussian_mean_of_frames_that_show_it(tmp_path_factory, std, joint):
    folder = tmp_path_factory.getbasetemp() / "smooth"
    store = ClipStore(folder if folder.exists() else write_store(folder, clips=6))
    store.frames = np.array(store.frames)
    (offset, _), length = store.clips["offset"][1], int(store.clips["length"][1])
    store.frames[offset + 4, joint] = 0  # a missing joint
    x = store.frames[offset:offset + length].astype(np.float64)
    want, reach = np.zeros_like(x), math.ceil(3 * std)
    for t in range(length):
        for v in range(25):
            near = []
            for o in range(-reach, reach + 1):
                p = x[min(max(t + o, 0), length - 1), v]
                if p.any():
                    near.append((math.exp(-0.5 * (o / std) ** 2), p))
            if x[t, v].any():
                want[t, v] = sum(w * p for w, p in near) / sum(w for w, _ in near)
    view = ClipView(store, View(frames=length, smooth=std))
    got = view(torch.tensor([1]))[0, 0]
    np.testing.assert_allclose(got, (want - view.centre[1].numpy()) * x.any(-1)[..., None], atol=1e-5)


def test_smoothing_brings_no_body_where_none_was_seen(store):
    plain, smooth = (ClipView(store, View(frames=80, bodies=2, smooth=s))(EVERY) for s in (0.0, 2.0))
    assert torch.equal((plain != 0).any(-1).any(-1), (smooth != 0).any(-1).any(-1))


# --- augmentation ---

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


def bone_lengths(x: torch.Tensor, skeleton) -> torch.Tensor:
    return (x - x[..., list(skeleton.parents), :]).norm(dim=-1)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_rotation_alone_keeps_every_bone_length(store, flip):
    trim(store)
    view = ClipView(store, View(frames=16, bodies=2, rotate=(90.0, 90.0, 90.0), scale=0.0, flip=flip))
    plain, turned = view(EVERY), view(EVERY, True)
    if flip:
        plain = plain[..., store.skeleton.mirror, :]
    assert torch.allclose(bone_lengths(turned, store.skeleton), bone_lengths(plain, store.skeleton), atol=1e-5)
    assert not torch.allclose(turned, plain, atol=0.1)


@given(st.integers(0, 99), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0.0, 1.0]))
def test_a_missing_joint_is_zero_and_moves_no_other(tmp_path_factory, seed, heading, trunk, extent, flip):
    """Joints outside centre and trunk go missing in single frames: these are zero, mirrored or not; the rest stays."""
    folder = tmp_path_factory.getbasetemp() / "missing"
    store = ClipStore(folder if folder.exists() else write_store(folder))
    trim(store)
    view = replace(CALM, heading=heading, trunk_scale=trunk, flip=flip)
    before, s = ClipView(store, view)(EVERY, True), store.skeleton
    fixed = {*s.centre, *(v for j in s.trunk for v in j)}
    lost = np.random.default_rng(seed).random(store.frames.shape[:2]) < 0.2
    lost[:, sorted(fixed)] = False
    store.frames = np.where(lost[..., None], 0, store.frames)
    after = ClipView(store, view)(EVERY, True)
    offset = torch.from_numpy(store.clips["offset"])[..., None]  # b m 1
    t = sample_frames(torch.from_numpy(store.clips["length"]), 16, "uniform")  # b t
    kept = torch.from_numpy((store.frames != 0).any(-1))[offset.clamp(min=0) + t[:, None]]  # b m t v
    kept = kept[..., s.mirror if flip else slice(None)] & (offset >= 0)[..., None]
    assert 0.1 < (~kept)[offset[..., 0] >= 0].float().mean() < 0.5
    assert torch.allclose(after, before * kept[..., None], atol=1e-6)
    if extent:
        for x in ClipView(store, replace(view, extent=True))(EVERY):
            seen = x[(x != 0).any(-1)]
            span = (seen.amax(0) - seen.amin(0)).max()
            assert torch.allclose(span, torch.tensor(2.0), atol=1e-5)


@pytest.mark.parametrize("lost, centre", [([11], [12]), ([12], [11]), ([11, 12], [*range(11), *range(13, 17)]),
                                          ([0, 5], [11, 12])])
def test_a_clip_is_centred_on_what_is_seen_of_its_centre(tmp_path, lost, centre):
    store = ClipStore(write_store(tmp_path / "coco", "coco17"))
    store.frames = np.asarray(store.frames).copy()
    store.frames[:, lost] = 0
    first = [np.flatnonzero((store.frames[at:at + n] != 0).any((1, 2)))[0] + at
             for at, n in zip(store.clips["offset"][:, 0], store.clips["length"], strict=True)]
    got = ClipView(store, View(frames=8, heading=True, trunk_scale=True))
    assert torch.allclose(got.centre, torch.from_numpy(store.frames[first][:, centre].mean(1)), atol=1e-6)
    if set(lost) & {5, 11, 12}:  # a trunk with a joint missing has no known heading and size
        assert torch.equal(got.normalising, torch.eye(3).expand(24, 3, 3))


@pytest.mark.parametrize("change", [{"flip": 0.5}, {"swap": 0.1}])
def test_a_body_without_pairs_is_not_mirrored_without_a_word(tmp_path, make_store, change):
    folder = make_store(tmp_path / "own")
    meta = json.loads((folder / "meta.json").read_text())
    meta["skeleton"] |= {"joints": [f"j{v}" for v in range(25)], "pairs": []}
    (folder / "meta.json").write_text(json.dumps(meta))
    ClipView(ClipStore(folder), View(frames=8))
    with pytest.raises(ValueError, match="has no left and right joints.*set both to 0"):
        ClipView(ClipStore(folder), View(frames=8, **change))


def test_flip_exchanges_left_and_right_and_mirrors_x(store):
    trim(store)
    plain, flipped = (ClipView(store, replace(CALM, flip=p))(EVERY, True) for p in (0.0, 1.0))
    mirrored = plain[..., store.skeleton.mirror, :] * torch.tensor([-1., 1., 1.])
    assert torch.allclose(flipped, mirrored, atol=1e-6)
    ls, rs, *_ = store.skeleton.trunk  # conftest puts left at +x and turns clips only a little
    assert (flipped[1, 0, 0, ls, 0] > flipped[1, 0, 0, rs, 0]).all()


@pytest.mark.parametrize("heading", [False, True])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_swap_is_the_view_of_a_recording_with_sides_mistaken(tmp_path, make_store, heading, flip):
    store = ClipStore(make_store(tmp_path))
    cfg = replace(CALM, heading=heading, flip=flip)
    swapped = ClipView(store, replace(cfg, swap=1.0))(EVERY, True)
    store.frames = np.ascontiguousarray(store.frames[:, store.skeleton.mirror])
    torch.testing.assert_close(swapped, ClipView(store, cfg)(EVERY, True), atol=1e-5, rtol=0)


def test_scale_acts_on_all_axes_alike(store):
    maps, _, _ = ClipView(store, replace(CALM, scale=0.3))._augment(drawn(torch.arange(2000)))
    axes = torch.diagonal(maps, dim1=1, dim2=2)
    assert torch.equal(maps, torch.diag_embed(axes))
    assert 0.7 <= axes.min() < 0.72 and 1.28 < axes.max() <= 1.3 and axes.mean() == pytest.approx(1, abs=0.02)
    assert (axes[:, 0] - axes[:, 1]).abs().max() < 1e-6


@pytest.mark.parametrize("axis", range(3))
def test_rotation_stays_within_its_degrees_about_its_axis(store, axis):
    rotate = [0.0] * 3
    rotate[axis] = 40.0
    maps, _, _ = ClipView(store, replace(CALM, rotate=tuple(rotate)))._augment(drawn(torch.arange(2000), 0, 0))
    j, k = (axis + 1) % 3, (axis + 2) % 3
    degrees = torch.rad2deg(torch.atan2(maps[:, j, k], maps[:, j, j]))
    assert torch.allclose(maps[:, axis, axis], torch.ones(2000))
    assert 39 < degrees.max() <= 40.01 and -40.01 <= degrees.min() < -39


def test_noise_is_normal_and_of_its_deviation_in_metres(store):
    trim(store)
    quiet, loud = (ClipView(store, replace(CALM, bodies=1, noise=n))(EVERY, True) for n in (0.0, 0.02))
    e = (loud - quiet)[quiet.any(-1).any(-1)].flatten() / 0.02
    assert len(e) > 20_000
    assert abs(e.mean()) < 0.03 and e.std() == pytest.approx(1, abs=0.02)
    assert (e ** 4).mean() == pytest.approx(3, abs=0.3)  # the fourth moment of a normal distribution


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_flip_and_swap_come_as_often_as_the_recipe_says(store, p):
    _, flips, swaps = ClipView(store, View(flip=p, swap=1 - p))._augment(drawn(torch.arange(4000), 0, 0))
    tolerance = 0.03 * (0 < p < 1)
    assert flips.float().mean() == pytest.approx(p, abs=tolerance)
    assert swaps.float().mean() == pytest.approx(1 - p, abs=tolerance)


# --- batches and stores ---

@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [1, 5, 8, 100])
def test_batches_hold_every_clip_once_the_last_one_partial(store, training, size):
    index = np.arange(1, 24, 1)
    batches = Batches(ClipView(store, CALM), index, size, training)
    got = list(batches(epoch=4))
    assert len(got) == len(batches) == math.ceil(23 / size)
    assert [len(b["label"]) for b in got] == [min(size, 23 - i) for i in range(0, 23, size)]
    order = torch.cat([b["index"] for b in got])
    assert sorted(order.tolist()) == index.tolist() and (order.tolist() == index.tolist()) == (not training)
    assert torch.equal(torch.cat([b["label"] for b in got]), torch.from_numpy(store.clips["label"])[order])
    second = torch.cat([b["joints"] for b in got])[:, 1].flatten(1).any(1)
    assert torch.equal(second, torch.from_numpy(store.clips["offset"])[order, 1] >= 0)


def test_balanced_batches_show_each_class_equally_often(store):
    label = store.clips["label"]
    index = np.concatenate([np.flatnonzero(label == k)[:n] for k, n in enumerate((1, 4, 2))])
    batches = Batches(ClipView(store, CALM), index, 3, True, 1, balanced=True)
    seen = [torch.cat([b["index"] for b in batches(epoch)]).tolist() for epoch in range(40)]
    for epoch in seen:
        counts = np.bincount(label[epoch], minlength=3)
        assert len(epoch) == 7 and set(epoch) <= set(index) and counts[:3].min() >= 2 and counts.sum() == 7
    assert len({tuple(epoch) for epoch in seen}) == 40 and {clip for epoch in seen for clip in epoch} == set(index)
    assert torch.equal(torch.cat([b["index"] for b in batches(5, start=1)]), torch.tensor(seen[5][3:]))


def test_batches_come_in_another_order_each_epoch_and_seed(store):
    view = ClipView(store, CALM)
    orders = set()
    for seed in (0, 1):
        batches = Batches(view, np.arange(24), 8, True, seed)
        for epoch in (0, 1, 2):
            orders.add(tuple(torch.cat([b["index"] for b in batches(epoch)]).tolist()))
    assert len(orders) == 6


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("k", [0, 1, 4, 5])
def test_batches_resume_exactly(store, training, k):
    batches = Batches(ClipView(store, WILD), np.arange(24), 5, training, seed=1)
    whole, rest = list(batches(2)), list(batches(2, start=k))
    assert len(rest) == 5 - k
    for a, b in zip(whole[k:], rest, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in ("joints", "label", "index"))


def test_blended_clips_are_two_clips_by_shares_with_both_labels(store):
    plain, mixed = (ClipView(store, replace(WILD, mix=p)) for p in (0.0, 0.5))
    pairs = zip(*(Batches(view, np.arange(24), 5, True, 1)(2) for view in (plain, mixed)), strict=True)
    shares = []
    for a, b in pairs:
        share = b["share"][:, None, None, None, None]
        torch.testing.assert_close(b["joints"], share * a["joints"] + (1 - share) * a["joints"].roll(1, 0))
        assert torch.equal(b["other"], b["label"].roll(1)) and torch.equal(b["label"], a["label"])
        assert "share" not in a
        shares += b["share"].tolist()
    assert all(0.5 <= s <= 1 for s in shares) and 6 <= sum(s == 1 for s in shares) <= 18
    assert "share" not in next(Batches(mixed, np.arange(24), 5)(0))  # the test view blends nothing


@pytest.mark.parametrize("name, sides", [("xsub", ("subject", {1, 2})), ("xview", ("camera", {2, 3}))])
def test_split_is_the_rule_and_leaves_no_clip_on_both_sides(store, name, sides):
    (field, values), (train, test) = sides, store.split(name)
    assert set(store.clips[field][train]) == values and not set(store.clips[field][test]) & values
    assert sorted([*train, *test]) == list(range(24))


def test_split_by_test_side_alone_trains_on_the_complement(store):
    store.protocols = {"one": {"field": "subject", "test": [3]},
                       "two": {"field": "subject", "train": [1], "test": [3]}}
    assert [set(store.clips["subject"][side]) for side in store.split("one")] == [{1, 2, 4}, {3}]
    assert [set(store.clips["subject"][side]) for side in store.split("two")] == [{1}, {3}]


def test_the_split_all_trains_and_tests_on_every_clip(store):
    assert [side.tolist() for side in store.split("all")] == [list(range(24))] * 2


@pytest.mark.parametrize("name, words", [("xsup", "did you mean 'xsub'"), ("nobody", "no clip .* training side")])
def test_bad_split_says_what_is_wrong(store, name, words):
    store.protocols["nobody"] = {"field": "subject", "train": [99]}
    with pytest.raises(ValueError, match=words):
        store.split(name)


def test_store_that_is_absent_or_cut_short_is_one_clear_error(tmp_path, make_store):
    with pytest.raises(ValueError, match="no clip store.*just phase0"):
        ClipStore(tmp_path)
    for name in ("frames.npy", "clips.npz", "meta.json"):
        folder = make_store(tmp_path / name)
        (folder / name).write_bytes((folder / name).read_bytes()[:-40 if name != "frames.npy" else -4000])
        with pytest.raises(ValueError, match="damaged.*phase 0"):
            ClipStore(folder)


def test_reading_through_a_store_leaves_its_files_as_they_were(tmp_path, make_store):
    folder = make_store(tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    list(Batches(ClipView(ClipStore(folder), WILD), np.arange(24), 5, True)())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
