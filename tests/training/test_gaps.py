"""Closing gaps: missing joints and frames, single-frame spikes, joints that are never seen, the mean body."""
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from phases.training.clip_store import ClipStore
from phases.training.gaps import Body, cleaned, close_gaps, filled, mean_body, place_unseen, seen_in, spikes
from phases.training.view import WholeClips, rest_of
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose
from tests.helpers.views import calm, smooth_body, store_of

NTU = SKELETONS["ntu25"]
V = NTU.num_joints
BODY = Body.of(NTU, torch.from_numpy(rest_pose(NTU)).float())
HAND = NTU.joints.index("right hand tip")
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 40), st.floats(0, 1), st.integers(0, 99))


def moving(frames: int, bodies: int = 1, seed: int = 0) -> Tensor:
    """Bodies (n, t, v, 3) without gaps and spikes."""
    return torch.from_numpy(smooth_body(frames, seed=seed, bodies=bodies))


def masked(size: tuple) -> tuple[Tensor, Tensor]:
    """Random joints (n, t, v, 3), some of them missing, and which are there (n, t, v)."""
    N, T, share, seed = size
    g = torch.Generator().manual_seed(seed)
    seen = (torch.rand(N, T, V, generator=g) >= share).float()
    return torch.randn(N, T, V, 3, generator=g) * seen[..., None], seen


def one_gap_closed(x: list, seen: list[bool]) -> list:
    """The naive reference: one coordinate over time."""
    shown = [t for t in range(len(x)) if seen[t]]
    out = []
    for t in range(len(x)):
        before = [s for s in shown if s <= t]
        after = [s for s in shown if s >= t]
        if not shown:
            out.append(0.0)
        elif not before:
            out.append(x[after[0]])
        elif not after or after[0] == before[-1]:
            out.append(x[before[-1]])
        else:
            a, b = before[-1], after[0]
            out.append(x[a] + (t - a) / (b - a) * (x[b] - x[a]))
    return out


def lengths(x: Tensor) -> Tensor:
    return torch.full((len(x),), x.shape[1])


# --- gaps in time ---

@given(SIZES)
def test_a_missing_joint_is_on_the_line_between_its_neighbours(size):
    x, seen = masked(size)
    got = close_gaps(x, seen)
    for n in range(len(x)):
        for v in (0, 3, HAND):
            for c in range(3):
                want = one_gap_closed(x[n, :, v, c].double().tolist(), seen[n, :, v].bool().tolist())
                torch.testing.assert_close(got[n, :, v, c].double(), torch.tensor(want).double(), atol=1e-5, rtol=1e-5)


@given(SIZES)
def test_joints_that_are_seen_keep_their_bits(size):
    x, seen = masked(size)
    got = close_gaps(x, seen)
    assert torch.equal(got[seen > 0], x[seen > 0])


@given(SIZES)
def test_at_the_ends_a_joint_stays_where_it_was_nearest(size):
    x, seen = masked(size)
    got = close_gaps(x, seen)
    for n, v in (seen.amax(1) > 0).nonzero().tolist():
        shown = seen[n, :, v].nonzero()[:, 0]
        first, last = int(shown[0]), int(shown[-1])
        assert (got[n, :first, v] == x[n, first, v]).all() and (got[n, last:, v] == x[n, last, v]).all()


def test_a_joint_that_no_frame_shows_becomes_zero():
    x, seen = masked((2, 9, 0.3, 0))
    seen[1, :, 4] = 0
    assert (close_gaps(x, seen)[1, :, 4] == 0).all()


@pytest.mark.parametrize("T", [1, 2, 500, 4097])
def test_gaps_are_closed_at_any_length(T):
    x = torch.arange(1.0, T + 1)[None, :, None, None].expand(1, T, 2, 3).contiguous()  # a line: closing gives it back
    seen = torch.zeros(1, T, 2)
    seen[:, [0, -1]] = 1
    seen[:, T // 3, 1] = 1
    torch.testing.assert_close(close_gaps(x * seen[..., None], seen), x)


# --- joints that are never seen ---

@given(st.sampled_from(["ntu25", "coco17", "mediapipe33"]), st.floats(0, 1), st.integers(0, 99))
def test_an_unseen_joint_hangs_on_the_nearest_that_is_seen(name, share, seed):
    skeleton = SKELETONS[name]
    g = torch.Generator().manual_seed(seed)
    rest = torch.randn(skeleton.num_joints, 3, generator=g)
    x = torch.randn(2, 5, skeleton.num_joints, 3, generator=g)
    ever = (torch.rand(2, skeleton.num_joints, generator=g) >= share).float()
    ever[:, seed % skeleton.num_joints] = 1

    got = place_unseen(x, ever, Body.of(skeleton, rest))
    for n in range(2):
        shown = ever[n].nonzero()[:, 0].tolist()
        for v in range(skeleton.num_joints):
            near = min(shown, key=lambda u: (skeleton.hops[u, v], u))
            want = x[n, :, v] if ever[n, v] else x[n, :, near] + rest[v] - rest[near]
            torch.testing.assert_close(got[n, :, v], want)


def test_a_body_without_any_joint_is_zeros_not_the_mean_body():
    x = moving(7, 2)
    seen = torch.ones(2, 7, V)
    seen[1] = 0
    got = filled(x, seen, BODY)
    assert torch.equal(got[0], x[0]) and (got[1] == 0).all()


def test_of_a_rigid_body_every_joint_is_found_again():
    """The pose is the mean body's own in every frame, at another place: joints never seen are exactly known."""
    place = torch.linspace(0, 1, 9)[:, None, None] * torch.tensor([1.0, 0.2, 3.0]) + 1
    x = (BODY.rest + place)[None]
    seen = torch.ones(1, 9, V)
    seen[:, :, [*NTU.regions["left_leg"], *NTU.regions["right_leg"], HAND]] = 0
    torch.testing.assert_close(filled(x * seen[..., None], seen, BODY), x, atol=1e-5, rtol=0)


def test_no_joint_is_left_at_the_origin():
    x, seen = masked((3, 12, 0.8, 5))
    seen[:, 0, 0] = 1
    x[:, 0, 0] = 1.0
    assert seen_in(filled(x, seen, BODY)).all()


def test_the_mean_body_has_the_mean_bones_of_what_is_seen():
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(40, V, 3)).astype(np.float32)
    frames[rng.random((40, V)) < 0.3] = 0
    rest = mean_body(frames, NTU)
    assert (rest[NTU.root] == 0).all()
    for v, p in NTU.bones:
        if v != p:
            bones = [f[v].astype(float) - f[p] for f in frames if f[v].any() and f[p].any()]
            np.testing.assert_allclose(rest[v] - rest[p], np.mean(bones, 0), atol=1e-5)


@pytest.mark.parametrize("joint", ["spine base", "spine shoulder", "left elbow", "right knee", "right hand tip"])
def test_others_have_their_mean_place_without_a_joint(joint):
    """Also those that were measured from it: the nearest joint takes its place."""
    k = NTU.joints.index(joint)
    frames = smooth_body(40)[0]
    whole = mean_body(frames, NTU)
    frames[:, k] = 0
    rest = mean_body(frames, NTU)
    others = [v for v in range(V) if v != k]
    torch.testing.assert_close(rest[others] - rest[others[5]], whole[others] - whole[others[5]], atol=1e-4, rtol=0)


def test_a_joint_that_is_never_seen_lies_among_its_neighbours():
    knee, ankle, hip = (NTU.joints.index(f"right {name}") for name in ("knee", "ankle", "hip"))
    tip, thumb = (NTU.joints.index(f"right {name}") for name in ("hand tip", "thumb"))
    frames = smooth_body(40)[0]
    whole = mean_body(frames, NTU)
    frames[:, [tip, knee, ankle]] = 0
    rest = mean_body(frames, NTU)

    # at its only neighbour; a chain of two between its ends
    assert torch.equal(rest[tip], rest[thumb])
    foot = NTU.joints.index("right foot")
    step = (whole[foot] - whole[hip]) / 3
    torch.testing.assert_close(rest[[knee, ankle, foot]], whole[hip] + step * torch.tensor([[1], [2], [3]]),
                               atol=1e-5, rtol=0)


def test_joints_that_are_never_seen_together_are_neighbours():
    frames = np.zeros((2, V, 3), np.float32)
    frames[0, NTU.root] = frames[1, HAND] = (1, 2, 3)
    assert (mean_body(frames, NTU) == 0).all()


def test_the_mean_body_of_nothing_is_a_point():
    assert (mean_body(np.zeros((3, V, 3), np.float32), NTU) == 0).all()


def test_the_mean_body_is_that_of_the_training_clips():
    small, large = (smooth_body(20, seed=k) * size for k, size in ((0, 1.0), (1, 3.0)))
    store = store_of(small, large)
    assert torch.equal(rest_of(store, np.array([0])), rest_of(store_of(small), None))
    assert not torch.allclose(rest_of(store, np.array([0])), rest_of(store, None), atol=0.01)


# --- spikes ---

@pytest.mark.parametrize("frame", [0, 1, 14, 28, 29])
@pytest.mark.parametrize("joint", [HAND, 3, 15])
@pytest.mark.parametrize("jump", [(0.4, 0, 0), (0, -0.3, 0.3), (0.5, 0.5, 0.0)])
def test_a_joint_that_jumps_for_one_frame_is_a_spike(frame, joint, jump):
    x = moving(30)
    before = x.clone()
    x[0, frame, joint] += torch.tensor(jump)
    want = torch.zeros(1, 30, V)
    want[0, frame, joint] = 1
    assert torch.equal(spikes(x, seen_in(x), lengths(x), BODY), want)

    # back on its way: on a line, or at an end where it was in the next frame
    got = cleaned(x, lengths(x), BODY)
    off = (got - before).norm(dim=-1)
    assert off[0, frame, joint] < (0.06 if frame in (0, 29) else 0.005)
    assert torch.equal(got[want == 0], before[want == 0])


@pytest.mark.parametrize("frame", [0, 1, 14, 28, 29])
def test_a_jump_out_of_the_room_leaves_a_smooth_body(frame):
    """Such a jump moves the mean length of its bone, so that an end frame beside it may count as a spike too."""
    x = moving(30)
    before = x.clone()
    x[0, frame, HAND] += 5.0
    assert (cleaned(x, lengths(x), BODY) - before).norm(dim=-1).max() < 0.12


@pytest.mark.parametrize("joint", [5, NTU.root])
def test_a_spike_shows_in_the_bones_of_its_children_too(joint):
    """An elbow whose own bone keeps its length, and the root, which has none."""
    x = moving(30)
    parent = NTU.parents[joint]
    x[0, 9, joint] = 2 * x[0, 9, parent] - x[0, 9, joint] if parent != joint else x[0, 9, joint] + 0.4
    assert spikes(x, seen_in(x), lengths(x), BODY).nonzero().tolist() == [[0, 9, joint]]


def test_spikes_of_two_joints_in_one_frame_are_both_found():
    x = moving(30)
    x[0, 9, [HAND, 15]] += 0.4
    assert spikes(x, seen_in(x), lengths(x), BODY).nonzero().tolist() == [[0, 9, 15], [0, 9, HAND]]


def test_a_hand_that_turns_round_fast_is_no_spike():
    """For one frame the tip points the other way: it is far from both neighbours, on a bone of its own length."""
    x = moving(30)
    parent = NTU.parents[HAND]
    x[:, :, HAND] = x[:, :, parent] + torch.tensor([0.25, 0.0, 0.0])
    x[0, 12, HAND] = x[0, 12, parent] - torch.tensor([0.25, 0.0, 0.0])
    assert not spikes(x, seen_in(x), lengths(x), BODY).any()


def test_a_body_that_moves_fast_is_no_spike():
    x = moving(30)
    x = x + torch.linspace(0, 15, 30)[:, None, None]  # half a metre a frame
    x[0, 15:] += 1.0                                  # and somewhere else at once
    assert not spikes(x, seen_in(x), lengths(x), BODY).any()


def test_a_jump_that_lasts_two_frames_is_no_spike():
    x = moving(30)
    x[0, 10:12, HAND] += 0.4
    assert not spikes(x, seen_in(x), lengths(x), BODY).any()


def test_a_missing_joint_is_never_a_spike():
    x = moving(30)
    x[0, 9, HAND] = 0
    seen = seen_in(x)
    assert not spikes(close_gaps(x, seen), seen, lengths(x), BODY).any()


@pytest.mark.parametrize("T", [1, 2, 3, 4])
def test_very_short_clips_of_a_calm_body_have_no_spikes(T):
    x = moving(T)
    assert not spikes(x, seen_in(x), lengths(x), BODY).any()
    assert torch.equal(cleaned(x, lengths(x), BODY), x)


@pytest.mark.parametrize("grown", [(1, 2), (2, 1), (1, 2, 1), (2, 1, 2)])
def test_a_body_that_only_jumps_stays_as_recorded(grown):
    """Each frame is off its neighbours and each bone off its mean length: there is no better place for a joint."""
    x = moving(len(grown)) * torch.tensor(grown)[:, None, None]
    assert spikes(x, seen_in(x), lengths(x), BODY)[0, :, HAND].all()
    assert torch.equal(cleaned(x, lengths(x), BODY)[0, :, HAND], x[0, :, HAND])


@given(st.integers(1, 6), st.integers(0, 99), st.sampled_from([0.3, 3.0, 100.0]))
def test_a_wild_clip_keeps_a_body(T, seed, size):
    """Frames that have nothing in common: whatever counts as a spike, a body that was seen does not vanish."""
    x = torch.randn(1, T, V, 3, generator=torch.Generator().manual_seed(seed)) * size
    got = cleaned(x, lengths(x), BODY)
    assert torch.isfinite(got).all() and seen_in(got).all()


# --- whole clips ---

@pytest.mark.parametrize("T", [1, 2, 16, 100])
def test_a_clip_without_gaps_and_spikes_keeps_every_bit(T):
    x = moving(T, 3)
    assert torch.equal(cleaned(x, lengths(x), BODY), x)


@given(st.integers(2, 40), st.floats(0, 0.9), st.integers(0, 99))
def test_cleaning_twice_changes_no_gap_again(T, share, seed):
    x = moving(T, 2, seed)
    g = torch.Generator().manual_seed(seed)
    x = x * (torch.rand(2, T, V, 1, generator=g) >= share)
    once = filled(x, seen_in(x), BODY)
    assert torch.equal(filled(once, seen_in(once), BODY), once)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=6), st.integers(0, 99))
def test_clips_in_a_batch_are_cleaned_as_alone(counts, seed):
    g = torch.Generator().manual_seed(seed)
    batch = torch.zeros(len(counts), max(counts), V, 3)
    for n, T in enumerate(counts):
        x = moving(T, 1, seed + n)
        x = x * (torch.rand(1, T, V, 1, generator=g) >= 0.2)
        x = x + 0.5 * (torch.rand(1, T, V, 1, generator=g) < 0.05) * seen_in(x)[..., None]
        batch[n, :T] = x[0]
    got = cleaned(batch, torch.tensor(counts), BODY)
    for n, T in enumerate(counts):
        alone = cleaned(batch[n:n + 1, :T], torch.tensor([T]), BODY)[0]
        torch.testing.assert_close(got[n, :T], alone, atol=1e-6, rtol=0)


def hurt(clip: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    clip = clip * (rng.random((*clip.shape[:3], 1)) >= 0.1) * (rng.random((1, clip.shape[1], 1, 1)) >= 0.1)
    return clip.astype(np.float32)


def test_whole_clips_are_the_clips_of_a_store_cleaned():
    clips = [hurt(smooth_body(int(T), seed=T, bodies=1 + T % 2), T) for T in (1, 2, 9, 40, 17, 33)]
    store = store_of(*clips)
    rest = rest_of(store, None)
    whole = WholeClips(store, store.clips["offset"], rest, calm())
    for i, clip in enumerate(clips):
        x = torch.from_numpy(clip)
        want = cleaned(x, lengths(x), Body.of(NTU, rest))
        shown = np.flatnonzero(clip.any((0, 2, 3)))
        first, last = (shown[0], shown[-1]) if len(shown) else (0, len(clip[0]) - 1)
        assert whole.length[i] == last - first + 1
        for m in range(len(clip)):
            at = int(whole.offset[i, m])
            got = torch.from_numpy(whole.frames[at:at + int(whole.length[i])])
            torch.testing.assert_close(got, want[m, first:last + 1], atol=1e-6, rtol=0)
        assert whole.present[i].tolist() == [float(m < len(clip) and bool(want[m].any())) for m in range(2)]


def test_frames_before_and_after_all_bodies_are_left_out():
    clip = smooth_body(30, bodies=2)
    clip[:, :4] = 0
    clip[0, 4:7] = 0   # the second body is there before the first
    clip[:, 12:15] = 0
    clip[:, 25:] = 0
    store = store_of(clip)
    for bodies, first in ((2, 4), (1, 7)):
        whole = WholeClips(store, store.clips["offset"][:, :bodies], rest_of(store, None), calm(bodies=bodies))
        assert whole.offset[0, 0] == first and whole.length[0] == 25 - first


def test_the_store_and_its_file_stay_as_they_were(tmp_path, make_store):
    folder = make_store(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    store = ClipStore(folder)
    views = [WholeClips(store, store.clips["offset"], rest_of(store, None), calm()) for _ in range(2)]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert np.array_equal(store.frames, np.load(folder / "frames.npy"))

    # both views see the same, and something was filled in
    assert np.array_equal(views[0].frames, views[1].frames) and not np.array_equal(views[0].frames, store.frames)


def test_frames_in_memory_are_not_written_to():
    store = store_of(hurt(smooth_body(20), 1))
    before = store.frames.copy()
    first, second = (WholeClips(store, store.clips["offset"], rest_of(store, None), calm()) for _ in range(2))
    assert np.array_equal(store.frames, before) and np.array_equal(first.frames, second.frames)


def test_a_store_without_gaps_and_spikes_is_not_copied():
    store = store_of(smooth_body(20), smooth_body(7, seed=1))
    whole = WholeClips(store, store.clips["offset"], rest_of(store, None), calm())
    assert whole.frames is store.frames
