"""The view of a clip in tests and in training: what it depends on, what stays zero, how clips are augmented."""
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from last import hashed_uniform
from phases.training.clip_store import ClipStore
from phases.training.settings import View
from phases.training.view import ClipView, rest_of
from skeletons import SKELETONS
from tests.helpers.clip_stores import write_store
from tests.helpers.views import CALM, WILD, calm, every, smooth_body, store_of, trim

EVERY = torch.arange(24)


def drawn(index: torch.Tensor, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    """The 16 numbers in [-1, 1) that augment each clip."""
    return 2 * hashed_uniform(seed, epoch, index[:, None], torch.arange(16)) - 1


@pytest.fixture
def store(tmp_path, make_store) -> ClipStore:
    return ClipStore(make_store(tmp_path / "store"))


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
def test_absent_bodies_stay_zero_and_missing_frames_do_not(store, training):
    x = ClipView(store, replace(WILD, window=1.0))(every(store), training)
    present = torch.from_numpy(store.clips["offset"] >= 0)
    assert not present[:, 1].all() and present[:, 1].any()

    # every joint in every frame of a body that is there (the centre may be 0), none of one that is not
    others = [v for v in range(25) if v not in store.skeleton.centre]
    assert torch.equal((x[..., others, :] != 0).any(-1).flatten(2).all(2), present)
    assert torch.equal((x != 0).flatten(2).any(2), present)


@pytest.mark.parametrize("training", [False, True])
def test_a_late_second_body_stands_where_it_will_appear(training):
    clip = smooth_body(16, bodies=2)
    clip[1, :10] = 0
    x = ClipView(store_of(clip), CALM)(torch.tensor([0]), training)[0, 1]
    assert torch.equal(x[:10], x[10:11].expand(10, -1, -1)) and x[10].any()


def test_a_second_body_that_no_frame_shows_is_absent():
    clip = smooth_body(16, bodies=2)
    clip[1] = 0
    x = ClipView(store_of(clip), CALM)(torch.tensor([0]))
    assert (x[0, 1] == 0).all() and torch.equal(x, ClipView(store_of(clip[:1]), CALM)(torch.tensor([0])))


@given(st.integers(0, 99), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0.0, 1.0]))
def test_a_missing_joint_moves_no_other(seed, heading, trunk, extent, flip):
    """Joints outside centre and trunk go missing in single frames: the others stay where they were."""
    clips = [smooth_body(16, seed=k, bodies=1 + k % 2) for k in range(6)]
    cfg = calm(heading=heading, trunk_scale=trunk, flip=flip)
    before = ClipView(store_of(*clips), cfg)(torch.arange(6), True)
    body = SKELETONS["ntu25"]
    fixed = {*body.centre, *(v for j in body.trunk for v in j)}

    # the same, with joints missing
    rng = np.random.default_rng(seed)
    hurt = []
    kept = torch.ones(6, 2, 16, 25, dtype=torch.bool)
    for k, clip in enumerate(clips):
        lost = rng.random(clip.shape[:3]) < 0.2
        lost[..., sorted(fixed)] = False
        lost[0, 7] = False
        hurt.append(np.where(lost[..., None], 0, clip))
        kept[k, :len(clip)] = torch.from_numpy(~lost)
    after = ClipView(store_of(*hurt), cfg)(torch.arange(6), True)
    kept = kept[..., body.mirror if flip else slice(None)]
    assert torch.allclose(after[kept], before[kept], atol=1e-6)
    assert (after != 0).any(-1)[:, 0][..., [v for v in range(25) if v not in body.centre]].all()
    if extent:
        for x in ClipView(store_of(*hurt), replace(cfg, extent=True, bodies=1))(torch.arange(6)):
            span = (x.flatten(0, 2).amax(0) - x.flatten(0, 2).amin(0)).max()
            assert torch.allclose(span, torch.tensor(2.0), atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cfg", [{"heading": True, "trunk_scale": True}, {"extent": True}, {"smooth": 1.0}])
def test_a_clip_that_shows_nothing_is_zero_never_nan(store, training, cfg):
    store.frames = np.zeros_like(store.frames)
    x = ClipView(store, replace(WILD, **cfg))(EVERY, training)
    assert (x == 0).all()


@pytest.mark.parametrize("training", [False, True])
def test_one_empty_clip_leaves_the_others_as_they_are(training):
    clips = [smooth_body(20, seed=k) for k in range(3)]
    with_it = store_of(clips[0], np.zeros_like(clips[1]), clips[2])
    view = ClipView(with_it, WILD, rest=rest_of(with_it, np.array([0, 2])))
    x = view(torch.arange(3), training)
    assert (x[1] == 0).all()
    want = ClipView(store_of(*clips), WILD, rest=rest_of(store_of(*clips), np.array([0, 2])))(torch.arange(3), training)
    torch.testing.assert_close(x[[0, 2]], want[[0, 2]])


@pytest.mark.parametrize("skeleton", ["kinect20", "coco17"])
def test_a_view_of_any_skeleton_is_finite(tmp_path, make_store, skeleton):
    store = ClipStore(make_store(tmp_path, skeleton))
    x = ClipView(store, replace(WILD, trunk_scale=True))(EVERY, True)
    assert torch.isfinite(x).all() and x.shape == (24, 2, 16, SKELETONS[skeleton].num_joints, 3)
    if skeleton == "coco17":
        assert (ClipView(store, CALM)(EVERY)[..., 2] == 0).all()


def test_a_second_body_that_the_store_has_no_room_for_is_refused(store):
    store.clips["offset"] = store.clips["offset"][:, :1]
    with pytest.raises(ValueError, match="view.bodies = 2"):
        ClipView(store, CALM)


def test_two_views_of_a_store_agree_and_leave_it_as_it_is(tmp_path, make_store):
    folder = make_store(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    store = ClipStore(folder)
    first, second = (ClipView(store, WILD) for _ in range(2))
    assert torch.equal(first(EVERY, True), second(EVERY, True))
    assert torch.equal(first(EVERY), ClipView(ClipStore(folder), WILD)(EVERY))
    assert np.array_equal(store.frames, ClipStore(folder).frames)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# --- augmentation ---

def bone_lengths(x: torch.Tensor, skeleton) -> torch.Tensor:
    return (x - x[..., list(skeleton.parents), :]).norm(dim=-1)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_rotation_alone_keeps_every_bone_length(store, flip):
    trim(store)
    view = ClipView(store, calm(rotate=(90.0, 90.0, 90.0), flip=flip))
    plain, turned = view(EVERY), view(EVERY, True)
    if flip:
        plain = plain[..., store.skeleton.mirror, :]
    assert torch.allclose(bone_lengths(turned, store.skeleton), bone_lengths(plain, store.skeleton), atol=1e-5)
    assert not torch.allclose(turned, plain, atol=0.1)


@pytest.mark.parametrize("change", [{"flip": 0.5}, {"swap": 0.1}])
def test_a_body_without_pairs_is_not_mirrored_without_a_word(tmp_path, make_store, change):
    folder = make_store(tmp_path / "own")
    meta = json.loads((folder / "meta.json").read_text())
    meta["skeleton"] |= {"joints": [f"j{v}" for v in range(25)], "pairs": []}
    (folder / "meta.json").write_text(json.dumps(meta))
    ClipView(ClipStore(folder), calm(frames=8))
    with pytest.raises(ValueError, match="has no left and right joints.*set both to 0"):
        ClipView(ClipStore(folder), calm(frames=8, **change))


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


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_flip_and_swap_come_as_often_as_the_recipe_says(store, p):
    _, flips, swaps = ClipView(store, calm(flip=p, swap=1 - p))._augment(drawn(torch.arange(4000), 0, 0))
    tolerance = 0.03 * (0 < p < 1)
    assert flips.float().mean() == pytest.approx(p, abs=tolerance)
    assert swaps.float().mean() == pytest.approx(1 - p, abs=tolerance)


def test_a_flat_view_loses_the_depth_of_a_share_of_the_clips(tmp_path):
    store = ClipStore(write_store(tmp_path, clips=60))
    x, flat = (ClipView(store, View(frames=4, flat=share))(torch.arange(60), training=True) for share in (0.0, 0.5))
    is_flat = ~flat[..., 2].flatten(1).any(1)
    assert 15 < is_flat.sum() < 45
    assert torch.equal(flat[~is_flat], x[~is_flat])
    assert torch.equal(flat[is_flat][..., :2], x[is_flat][..., :2])
