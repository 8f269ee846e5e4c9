"""The test view as a module: the same numbers as ClipView for any clip, and the same once it is exported."""
import numpy as np
import pytest
import torch
from torch import Tensor

from phases.recordings.ntu import clean_bodies, parse_ntu
from phases.shipping.verify import session
from phases.shipping.whole import view_graph
from phases.training.inference_view import InferenceView
from phases.training.settings import View
from phases.training.view import ClipView, rest_of
from tests.helpers.recordings import SAMPLES, sample
from tests.helpers.views import calm, smooth_body, standing_about, store_of

VIEWS = {
    "plain": calm(frames=16, bodies=2),
    "aligned": calm(frames=32, bodies=1, heading=True, trunk_scale=True, smooth=0.8),
    "stretched": calm(frames=20, bodies=2, sampling="stretch", extent=True, smooth=2.0),
    "cropped": calm(frames=64, bodies=2, sampling="crop", trunk_scale=True),
    "turned": calm(frames=1, bodies=2, heading=True, extent=True),
    "acting": calm(frames=16, bodies=2, sampling="stretch", still=0.1),
    "acting, smoothed": calm(frames=12, bodies=1, sampling="uniform", still=0.05, smooth=1.0, trunk_scale=True)}


def assert_equal_views(store, cfg: View, clips: np.ndarray) -> None:
    """ClipView of a whole store against InferenceView of each clip alone."""
    rest = rest_of(store, None)
    one = InferenceView(cfg, store.skeleton, rest)
    want = ClipView(store, cfg)(torch.from_numpy(clips))
    for i, x in zip(clips, want, strict=True):
        offset = store.clips["offset"][i]
        length = store.clips["length"][i]
        bodies = [store.frames[at:at + length] for at in offset if at >= 0]
        got = one(torch.from_numpy(np.stack(bodies)))
        torch.testing.assert_close(got, x, atol=2e-5, rtol=1e-5, msg=lambda m, i=i: f"clip {i}: {m}")


def hostile() -> list[np.ndarray]:
    """Clips (M, L, V, 3) that a camera hardly delivers."""
    rng = np.random.default_rng(0)
    late = smooth_body(30, bodies=2)
    late[1, :20] = 0
    early = smooth_body(30, bodies=2, seed=1)
    early[0, :9] = 0
    early[1, 5:] = 0
    ends = smooth_body(50, seed=2)
    ends[:, :11] = 0
    ends[:, 40:] = 0
    empty_second = smooth_body(12, bodies=2, seed=3)
    empty_second[1] = 0
    empty_first = smooth_body(12, bodies=2, seed=3)
    empty_first[0] = 0
    one_joint = np.zeros((1, 9, 25, 3))
    one_joint[0, 4, 7] = (0.3, 1.0, 2.5)
    never = smooth_body(20, seed=4)
    never[:, :, [12, 13, 14, 15, 4]] = 0
    jumping = smooth_body(40, seed=5)
    jumping[0, rng.integers(0, 40, 12), rng.integers(0, 25, 12)] += 0.5
    waiting = standing_about(smooth_body(30, bodies=2, seed=6), 12, 20)
    waiting[:, :2] = 0
    noise = rng.normal(size=(2, 25, 25, 3)) * (rng.random((2, 25, 25, 1)) > 0.5)
    return [smooth_body(1), smooth_body(2), smooth_body(1, bodies=2), np.zeros((1, 1, 25, 3)), np.zeros((2, 9, 25, 3)),
            late, early, ends, waiting, empty_second, empty_first, one_joint, never, jumping, noise,
            noise[:, :2], noise[:1, :3], smooth_body(400), smooth_body(301, bodies=2)]


@pytest.mark.parametrize("name", VIEWS)
def test_hostile_clips_look_as_in_training(name):
    clips = hostile()
    assert_equal_views(store_of(*clips), VIEWS[name], np.arange(len(clips)))


@pytest.fixture(scope="module")
def recorded(data_folder):
    """Real clips: a sample of UTD-MHAD's 20 joints, all NTU samples, some of two bodies."""
    with np.load(data_folder / "utd-mhad.npz") as packed:
        data = packed["data"]
        offsets = packed["offsets"]
    gestures = [data[offsets[i]:offsets[i + 1]][None] for i in range(0, 861, 20)]
    ntu = [clean_bodies(parse_ntu(sample(data_folder, name))[1]) for name in SAMPLES]
    return {"kinect20": store_of(*gestures, skeleton="kinect20"), "ntu25": store_of(*ntu)}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("skeleton", ["kinect20", "ntu25"])
def test_real_clips_look_as_in_training(recorded, skeleton, name):
    store = recorded[skeleton]
    assert_equal_views(store, VIEWS[name], np.arange(len(store.clips["length"])))


# --- what the file is given ---

def one_view(cfg: View) -> InferenceView:
    store = store_of(smooth_body(40))
    return InferenceView(cfg, store.skeleton, rest_of(store, None))


@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("coordinates", [[0, 1, 2], [0], [1, 2]])
def test_a_joint_that_is_no_number_is_missing(nothing, coordinates):
    view = one_view(calm(bodies=1, extent=True))
    clip = torch.from_numpy(smooth_body(20))
    zeros = clip.clone()
    zeros[0, 3:6, 5] = 0
    zeros[0, :, 9] = 0
    other = zeros.clone()
    for c in coordinates:
        other[0, 3:6, 5, c] = nothing
        other[0, :, 9, c] = nothing
    assert torch.equal(view(other), view(zeros))


def test_bodies_beyond_those_of_the_view_do_not_count():
    clip = torch.from_numpy(smooth_body(20, bodies=3))
    for bodies in (1, 2):
        view = one_view(calm(bodies=bodies, extent=True))
        assert torch.equal(view(clip), view(clip[:bodies]))


def test_absent_bodies_are_zeros():
    clip = torch.from_numpy(smooth_body(20))
    two = one_view(calm(bodies=2))(clip)
    assert (two[1] == 0).all() and torch.equal(two[:1], one_view(calm(bodies=1))(clip))


def test_a_clip_without_any_body_is_zeros():
    for shape in ((1, 1), (1, 40), (2, 3)):
        assert (one_view(calm(bodies=2, extent=True, smooth=1.0))(torch.zeros(*shape, 25, 3)) == 0).all()


def test_settings_of_training_alone_change_nothing():
    clip = torch.from_numpy(smooth_body(20))
    wild = calm(window=0.5, rotate=(90.0, 90.0, 90.0), scale=0.5, flip=1.0, missing=1.0, noise=0.1, idle=2.0)
    assert torch.equal(one_view(wild)(clip), one_view(calm())(clip))


# --- exported ---

def clips_to_try() -> list[Tensor]:
    """1 to 500 frames, 1 to 5 bodies, with all that can be missing; and the hostile ones."""
    g = torch.Generator().manual_seed(0)
    out = [torch.from_numpy(np.asarray(clip, np.float32)) for clip in hostile()]
    for length in (1, 2, 3, 7, 19, 20, 21, 64, 100, 301, 500):
        for bodies in (1, 2, 5):
            x = torch.from_numpy(smooth_body(length, bodies=bodies, seed=length))
            x = x * (torch.rand(bodies, length, 25, 1, generator=g) > 0.2)
            x = x * (torch.rand(1, length, 1, 1, generator=g) > 0.2) * (torch.rand(bodies, 1, 25, 1, generator=g) > 0.1)
            spike = torch.rand(bodies, length, 25, 1, generator=g) > 0.98
            out.append(x + 0.5 * spike * (x != 0))
    out[-1][0, 100:103, 4, 1] = torch.nan
    return out


@pytest.mark.parametrize("name", VIEWS)
def test_the_exported_view_agrees_from_1_to_500_frames(name):
    view = one_view(VIEWS[name])
    run = session(view_graph(view, 18))
    for x in clips_to_try():
        with torch.no_grad():
            want = view(x)
        got = run.run(["clip"], {"joints": x.numpy()})[0]
        assert got.shape == (1, *want.shape)
        np.testing.assert_allclose(got[0], want, atol=2e-5, rtol=1e-5, err_msg=str(tuple(x.shape)))
