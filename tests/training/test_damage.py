"""Damage in training: a pure function of (seed, epoch, clip), as strong as the view's settings say."""
import numpy as np
import pytest
import torch
from torch import Tensor

from phases.training.clip_store import ClipStore
from phases.training.damage import JUMP, LOST_FRAMES, LOST_JOINTS, RUN, Damage
from phases.training.gaps import Body, mean_body
from phases.training.view import ClipView
from skeletons import SKELETONS, Skeleton
from tests.helpers.views import CALM, calm, every, smooth_body, store_of

EACH = [{"missing": 1.0}, {"noise": 0.05}, {"spikes": 0.2}, {"idle": 0.7}, {"tempo": 1.0}]
ALL = calm(missing=0.7, noise=0.05, spikes=0.1, idle=0.7, tempo=1.0)
NTU = SKELETONS["ntu25"]
LEGS = [*NTU.regions["left_leg"], *NTU.regions["right_leg"]]


@pytest.fixture
def store(tmp_path, make_store) -> ClipStore:
    return ClipStore(make_store(tmp_path / "store"))


def damage_of(skeleton: Skeleton = NTU, **settings) -> Damage:
    rest = mean_body(smooth_body(30)[0], NTU) if skeleton is NTU else torch.randn(skeleton.num_joints, 3)
    return Damage(calm(**settings), skeleton, Body.of(skeleton, rest), torch.ones(3))


def damaged(damage: Damage, x: Tensor, seed: int = 0, epoch: int = 0) -> Tensor:
    """x (B, M, T, V, 3) of the clips 0 to B - 1 as training sees it."""
    index = torch.arange(len(x))
    return damage(x, damage.drawn(index, seed, epoch), index, seed, epoch)


def lost_of(damage: Damage, clips: int, T: int = 32, seed: int = 0, epoch: int = 0) -> Tensor:
    """What goes missing (clips, T, V), found where closing gaps changes joints that all differ from each other."""
    V = damage.body.rest.shape[0]
    x = torch.randn(1, 1, T, V, 3, generator=torch.Generator().manual_seed(1)).expand(clips, 1, T, V, 3)
    got = damaged(damage, x, seed, epoch)
    return (got != x).any(-1)[:, 0]


# --- a pure function ---

@pytest.mark.parametrize("change", EACH, ids=lambda change: next(iter(change)))
def test_damage_of_a_clip_is_the_same_in_any_batch(store, change):
    view = ClipView(store, calm(**change))
    whole = view(every(store), True, 3, 2)
    order = torch.randperm(24)
    assert torch.allclose(view(order, True, 3, 2), whole[order], atol=1e-6)
    for i in (0, 1, 5, 23):
        assert torch.allclose(view(torch.tensor([i]), True, 3, 2)[0], whole[i], atol=1e-6)


@pytest.mark.parametrize("change", EACH, ids=lambda change: next(iter(change)))
def test_damage_differs_between_epochs_seeds_and_clips(change):
    clip = smooth_body(60)
    view = ClipView(store_of(*[clip] * 20), calm(bodies=1, **change))
    index = torch.arange(20)
    still = ClipView(store_of(*[clip] * 20), calm(bodies=1))

    # what the frames that are drawn do not explain
    seen = [view(index, True, *key) - still(index, True, *key) for key in ((3, 2), (3, 2), (3, 3), (4, 2))]
    assert torch.equal(seen[0], seen[1])
    for other in (seen[2], seen[3]):
        assert not torch.allclose(other, seen[0], atol=1e-3)
    assert len({tuple(x.flatten().tolist()) for x in seen[0]}) > 5


def test_without_damage_training_is_bit_for_bit_without_it(store, monkeypatch):
    view = ClipView(store, CALM)
    want = view(every(store), True, 1, 2)
    monkeypatch.setattr(view, "damage", None)

    class Nothing:
        def drawn(self, index, seed, epoch):
            return None

        def __call__(self, x, drawn, index, seed, epoch):
            return x

        def idle(self, window, length, drawn):
            return window

        def paced(self, u, drawn):
            return u

    monkeypatch.setattr(view, "damage", Nothing())
    assert torch.equal(view(every(store), True, 1, 2), want)


def test_a_test_clip_is_never_damaged(store):
    assert torch.equal(ClipView(store, ALL)(every(store)), ClipView(store, CALM)(every(store)))


@pytest.mark.parametrize("skeleton", ["kinect20", "coco17", "mediapipe33"])
def test_damaged_clips_of_any_skeleton_are_finite(tmp_path, make_store, skeleton):
    store = ClipStore(make_store(tmp_path, skeleton))
    for frames in (1, 2, 16):
        x = ClipView(store, calm(frames=frames, missing=1.0, noise=0.05, spikes=0.1, idle=0.7, tempo=1.0))(
            every(store), True)
        assert torch.isfinite(x).all() and x[:, 0].flatten(1).any(1).all()


def test_flat_clips_stay_flat(tmp_path, make_store):
    store = ClipStore(make_store(tmp_path, "coco17"))
    x = ClipView(store, ALL)(every(store), True)
    assert (x[..., 2] == 0).all() and (x[..., :2] != 0).any()


def test_an_absent_body_stays_absent(store):
    x = ClipView(store, ALL)(every(store), True)
    assert torch.equal(x[:, 1].flatten(1).any(1), torch.from_numpy(store.clips["offset"][:, 1] >= 0))


# --- noise and spikes ---

def test_noise_is_normal_and_each_clip_has_its_own():
    """Of a deviation between 0 and view.noise, uniformly."""
    damage = damage_of(noise=0.04)
    x = torch.zeros(400, 2, 32, 25, 3)
    e = damaged(damage, x).flatten(1)  # 4,800 numbers a clip
    std = e.std(1)
    assert std.max() < 0.04 * 1.05 and std.min() < 0.001
    assert std.mean() == pytest.approx(0.02, rel=0.1) and std.var() == pytest.approx(0.04 ** 2 / 12, rel=0.2)

    # normal: moments of all clips of some noise
    z = (e / std[:, None])[std > 0.004].flatten()
    assert abs(z.mean()) < 0.005 and (z ** 3).mean().abs() < 0.02 and (z ** 4).mean() == pytest.approx(3, abs=0.05)


def test_noise_of_coordinates_bodies_and_frames_is_independent():
    x = damaged(damage_of(noise=0.04), torch.zeros(200, 2, 16, 25, 3))
    x = x / x.flatten(1).std(1)[:, None, None, None, None]
    pairs = ((x[..., 0], x[..., 1]), (x[..., 0], x[..., 2]), (x[..., 1], x[..., 2]), (x[:, 0], x[:, 1]),
             (x[:, :, 1:], x[:, :, :-1]), (x[..., 1:, :], x[..., :-1, :]))
    for a, b in pairs:
        assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) < 0.02


def test_spikes_are_a_share_of_joint_frames_up_to_the_setting():
    x = damaged(damage_of(spikes=0.1), torch.zeros(400, 1, 32, 25, 3))
    jumped = (x != 0).any(-1)
    share = jumped.flatten(1).float().mean(1)
    assert share.max() < 0.14 and share.mean() == pytest.approx(0.05, abs=0.005)

    # and of the deviation JUMP, where they are
    assert x[jumped].std() == pytest.approx(JUMP, rel=0.02) and x[jumped].mean().abs() < 0.01


def test_noise_is_added_before_gaps_are_closed():
    """A lost joint is on the line between joints that shake, as a camera's would be."""
    both = damage_of(noise=0.05, missing=1.0)
    noise = damage_of(noise=0.05)
    x = torch.from_numpy(smooth_body(16))[:, None].expand(40, 1, 16, 25, 3)
    got = damaged(both, x)
    shaken = damaged(noise, x)
    kept = ~lost_of(damage_of(missing=1.0), 40, 16)
    assert torch.equal(got[:, 0][kept], shaken[:, 0][kept]) and not torch.equal(got, shaken)


# --- what goes missing ---

@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_as_many_clips_lose_something_as_the_setting_says(share):
    hurt = lost_of(damage_of(missing=share), 1000).flatten(1).any(1).float().mean()
    assert hurt == pytest.approx(share, abs=0.05 * (0 < share < 1) + 0.01 * share)


def test_clips_lose_joints_legs_runs_and_single_joint_frames():
    lost = lost_of(damage_of(missing=1.0), 2000, 40)
    for_good = lost.all(1)                                 # n v
    has_legs = for_good[:, LEGS].all(1)
    assert has_legs.float().mean() == pytest.approx(0.2, abs=0.04)

    # other joints for good: 0.3 of the clips, LOST_JOINTS of the joints
    others = [v for v in range(25) if v not in LEGS]
    assert for_good[:, others].float().mean() == pytest.approx(0.3 * LOST_JOINTS, abs=0.01)

    # a run of frames: all joints, one stretch, at most RUN of the clip
    gone = lost.all(2)                                     # n t
    has_run = gone.any(1)
    assert has_run.float().mean() == pytest.approx(0.3, abs=0.05)
    assert gone.sum(1).max() <= round(RUN * 40) + 1
    edges = (gone[:, 1:].long() - gone[:, :-1].long()).clamp(min=0).sum(1) + gone[:, 0].long()
    assert edges.max() == 1 and gone.any(0).all()  # anywhere in the clip

    # single joint-frames
    plain = ~for_good.any(1) & ~has_run
    share = lost[plain].flatten(1).float().mean(1)
    assert share.max() < LOST_FRAMES + 0.06 and share.mean() == pytest.approx(LOST_FRAMES / 2, abs=0.02)


def test_both_bodies_lose_the_same_joints():
    x = torch.from_numpy(smooth_body(24, bodies=2))[None].expand(50, 2, 24, 25, 3)
    x = x + torch.randn(1, 2, 24, 25, 3, generator=torch.Generator().manual_seed(0))
    got = damaged(damage_of(missing=1.0), x)
    lost = (got != x).any(-1)
    assert torch.equal(lost[:, 0], lost[:, 1]) and lost.any()


def test_what_is_lost_lies_on_the_line_again():
    x = torch.linspace(1, 2, 32)[:, None, None] + mean_body(smooth_body(30)[0], NTU)  # a straight way, one pose
    damage = damage_of(missing=1.0)
    got = damaged(damage, x.expand(100, 1, 32, 25, 3))
    error = (got[:, 0] - x).norm(dim=-1)
    lost = lost_of(damage, 100)

    # before the first and after the last frame that shows it a joint stays where it was
    ends = lost.cummin(1).values | lost.flip(1).cummin(1).values.flip(1)
    inside = lost & ~ends
    assert inside.any() and error[inside].max() < 1e-5 and error[~lost].max() == 0
    assert error.max() < 1.0


def test_a_skeleton_without_legs_loses_none():
    own = Skeleton("own", NTU.joints, NTU.parents, {"one": tuple(range(12)), "other": tuple(range(12, 25))})
    for_good = lost_of(damage_of(own, missing=1.0), 1000).all(1)
    assert for_good[:, LEGS].float().mean() == pytest.approx(0.3 * LOST_JOINTS, abs=0.02)


# --- time ---

def test_idle_ends_repeat_the_end_poses_and_nothing_else():
    store = store_of(*[smooth_body(40, seed=k) for k in range(60)])
    x = ClipView(store, calm(frames=32, bodies=1, idle=0.7))(every(store), True)
    still = (x[:, 0, 1:] == x[:, 0, :-1]).flatten(2).all(2)  # n t
    before = still.long().cumprod(1).sum(1)
    after = still.flip(1).long().cumprod(1).sum(1)

    # each end in half of the clips, up to 0.7 of 40 frames of at most 96
    for end in (before, after):
        assert 0.25 < (end > 2).float().mean() < 0.65
        assert end.max() <= 32 * 0.7 / 1.7 + 1
    assert ((before > 2) & (after > 2)).any() and ((before < 2) & (after < 2)).any()


def test_idle_windows_reach_as_far_as_the_setting_says():
    damage = damage_of(idle=0.5)
    length = torch.full((1000,), 40)
    inner = torch.tensor([[0, 40]]).expand(1000, 2)
    window = damage.idle(inner, length, damage.drawn(torch.arange(1000), 0, 0))
    before = -window[:, 0]
    after = window.sum(1) - 40
    for end in (before, after):
        assert end.min() == 0 and 18 <= end.max() <= 20
        assert (end == 0).float().mean() == pytest.approx(0.5, abs=0.06)
        assert end[end > 0].float().mean() == pytest.approx(10, abs=1)


def test_frames_of_idle_clips_never_leave_the_clip():
    """Neighbours in the store are far away: a frame of one would show."""
    clips = [smooth_body(30, seed=k) + 100 * k for k in range(12)]
    x = ClipView(store_of(*clips), calm(bodies=1, idle=10.0, tempo=2.0))(torch.arange(12), True)
    assert x.abs().max() < 10


@pytest.mark.parametrize("bend", [0.5, 2.0])
def test_tempo_keeps_order_and_ends(bend):
    u = torch.rand(500, 24)
    damage = damage_of(tempo=bend)
    got = damage.paced(u, damage.drawn(torch.arange(500), 0, 0))
    place = (torch.arange(24) + got) / 24
    plain = (torch.arange(24) + u) / 24
    assert (place.diff(dim=1) >= 0).all() and place.min() >= 0 and place.max() <= 1

    # s -> s ** power, of powers from 2 ** -bend to 2 ** bend, half of them faster first
    power = (place[:, 5].log() / plain[:, 5].log()).log2()
    assert power.abs().max() <= bend + 0.01 and power.abs().max() > 0.95 * bend
    assert (power > 0).float().mean() == pytest.approx(0.5, abs=0.07)
    torch.testing.assert_close(place, plain ** (2 ** power[:, None]), atol=1e-4, rtol=1e-3)


def test_tempo_shows_the_whole_clip_in_order():
    clip = np.repeat(smooth_body(1), 200, 1)
    clip = clip * (1 + 0.001 * np.arange(200))[:, None, None]  # its size tells the frame
    x = ClipView(store_of(*[clip] * 30), calm(bodies=1, frames=16, tempo=1.0))(torch.arange(30), True)[:, 0]
    size = (x[:, :, 1] - x[:, :, 20]).norm(dim=-1)
    size = (size / np.linalg.norm(clip[0, 0, 1] - clip[0, 0, 20]) - 1) / 0.001
    assert (size.diff(dim=1) > -0.1).all()
    assert size[:, 0].max() < 60 and size[:, -1].min() > 170
    assert size[:, 8].max() - size[:, 8].min() > 80


def test_frames_in_a_row_keep_their_tempo():
    store = store_of(*[smooth_body(400, seed=k) for k in range(8)])
    plain, paced = (ClipView(store, calm(bodies=1, sampling="crop", tempo=t))(every(store), True) for t in (0.0, 1.0))
    assert torch.equal(plain, paced)
