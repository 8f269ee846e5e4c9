"""metres.py: the same clips recorded otherwise give the same store, the same training and the same prediction."""
import json
import pickle

import numpy as np
import pytest
import torch

from phases import p0_preprocess
from phases.recordings.clips import main_two
from phases.recordings.metres import (
    AXES,
    Recorded,
    as_joints,
    body_size,
    complaints,
    in_metres,
    reference_joint,
    trunk_of,
    trunk_vector,
)
from phases.training.clip_store import ClipStore
from phases.training.settings import View
from phases.training.view import ClipView
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose

COCO, NTU = SKELETONS["coco17"], SKELETONS["ntu25"]
TRUNK = trunk_of(NTU)


def clip(seed: int = 0, bodies: int = 1, frames: int = 20, skeleton=NTU) -> np.ndarray:
    """Joints (M, L, V, 3) in metres, y up, three metres from the camera; a few joints are missing."""
    rng = np.random.default_rng(seed)
    x = rest_pose(skeleton) + rng.normal(0, 0.02, (bodies, frames, skeleton.num_joints, 3)) + rng.normal(0, 0.3, 3)
    x[..., 2] += 3
    x[rng.random(x.shape[:3]) < 0.02] = 0
    return x.astype(np.float32)


def recorded_as(x: np.ndarray, unit: float, up: str) -> np.ndarray:
    """A clip in metres, y up, as it would have been recorded: the inverse of in_metres."""
    out = np.zeros_like(x)
    for ours, (theirs, sign) in enumerate(AXES[up]):
        out[..., theirs] = sign * x[..., ours] * unit
    return out


@pytest.mark.parametrize("up", AXES)
@pytest.mark.parametrize("unit, factor", [("m", 1), ("cm", 100), ("mm", 1000)])
def test_units_and_axes_give_the_clip_back(unit, factor, up):
    x = clip()
    back = in_metres(recorded_as(x, factor, up), Recorded(unit, up), TRUNK)
    np.testing.assert_allclose(back, x, atol=1e-6)
    assert np.array_equal(back == 0, x == 0)
    assert not complaints(trunk_vector(back[0], TRUNK)[None], Recorded(unit, up))


@pytest.mark.parametrize("up", AXES)
def test_axes_turn_and_never_mirror(up):
    turn = np.zeros((3, 3))
    for ours, (theirs, sign) in enumerate(AXES[up]):
        turn[ours, theirs] = sign
    assert np.linalg.det(turn) == pytest.approx(1)


def test_a_cameras_coordinates_become_a_kinects():
    """A camera: x to the right of its picture, y down, z away. Kinect's x runs to the right of who faces it."""
    at = {"left shoulder": (0.2, -1.4, 2), "right shoulder": (-0.2, -1.4, 2), "nose": (0, -1.6, 1.8), "hip": (0, -1, 2)}
    x = in_metres(np.float32([[list(at.values())]]), Recorded("m", "-y"), None)[0, 0]
    found = dict(zip(at, x, strict=True))
    assert found["left shoulder"][0] < 0 < found["right shoulder"][0]
    assert found["nose"][1] > found["hip"][1] and 0 < found["nose"][2] < found["hip"][2]


@pytest.mark.parametrize("unit", ["px", "body"])
def test_without_a_length_the_trunk_becomes_half_a_metre(unit):
    x = clip()
    a, b = (in_metres(s * x, Recorded(unit), TRUNK) for s in (1, 250))
    np.testing.assert_allclose(a, b, rtol=1e-4)
    assert np.linalg.norm(trunk_vector(a[0], TRUNK)) == pytest.approx(0.5, rel=1e-4)
    assert body_size(250 * x[0], None) == pytest.approx(250 * body_size(x[0], None), rel=1e-4)  # by its height


@pytest.mark.parametrize("factor, up, words", [
    (1000, "y", ["data.unit=mm"]), (100, "y", ["data.unit=cm"]), (30_000, "y", ["data.unit=px"]),
    (1, "z", ["data.up=z"]), (1, "-y", ["data.up=-y"]), (1000, "-z", ["data.unit=mm", "data.up=-z"])])
def test_a_contradiction_to_the_recipe_is_said_with_its_remedy(factor, up, words):
    x = recorded_as(clip(), factor, up)
    said = complaints(trunk_vector(x[0], TRUNK)[None], Recorded())
    assert len(said) == len(words) and all(any(word in line for line in said) for word in words)


def test_flat_clips_of_any_length_are_pixels():
    x = clip(skeleton=COCO) * [1, 1, 0]
    for factor in (100, 1000):  # not centimetres, not millimetres
        said = complaints(trunk_vector(factor * x[0], trunk_of(COCO))[None], Recorded())
        assert len(said) == 1 and said[0].endswith("data.unit=px")


def test_a_wrong_recipe_is_corrected_too():
    x = in_metres(clip(), Recorded("mm", "z"), TRUNK)
    said = complaints(trunk_vector(x[0], TRUNK)[None], Recorded("mm", "z"))
    assert "data.unit=m" in said[0] and said[0].endswith("data.unit=m") and said[1].endswith("data.up=y")


def test_lying_people_and_unknown_trunks_raise_no_complaint():
    mixed = np.array([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0, -0.5, 0]])
    assert not complaints(mixed, Recorded()) and not complaints(np.full((3, 3), np.nan), Recorded())


# --- channels ---

def test_channels_are_told_apart():
    x = np.random.default_rng(0).random((4, 17, 4)).astype(np.float32) + 0.1
    assert np.array_equal(as_joints(x[..., :2])[0], np.pad(x[..., :2], [(0, 0)] * 2 + [(0, 1)]))
    assert np.array_equal(as_joints(x[..., :3])[0], x[..., :3])
    some = as_joints(x, Recorded(min_score=0.5))[0]
    assert np.array_equal(some, x[..., :3] * (x[..., 3:] >= 0.5)) and 0 < (some == 0).sum() < some.size
    flat = as_joints(x[..., :3], Recorded(channels="xys", min_score=0.5))[0]
    assert np.array_equal(flat[..., :2], x[..., :2] * (x[..., 2:3] >= 0.5)) and not flat[..., 2].any()


def test_the_two_that_move_most_are_the_main_ones():
    still, slow, fast, sure = (np.ones((1, 9, 17, 3), np.float32) for _ in range(4))
    for x, step in ((slow, 1), (fast, 5), (sure, 3)):
        x[0] += step * np.arange(9)[:, None, None]
    crowd = np.concatenate([fast, still, sure, slow])
    assert np.array_equal(main_two(crowd), crowd[[0, 2]])
    score = np.ones(crowd.shape[:3])
    score[0] = 0.1  # the fast one is hardly seen
    assert np.array_equal(main_two(crowd, score), crowd[[2, 3]])


# --- a joint that clips are centred on ---

def test_a_reference_joint_is_told_from_one_that_is_never_seen():
    clips = [clip(seed) for seed in range(5)]
    centred = [np.where((x != 0).any(3, keepdims=True), x - x[:, :, 1:2], 0) * (x[:, :, 1:2] != 0) for x in clips]
    assert reference_joint(centred) == (1,)

    # three metres away from the origin
    for x in clips:
        x[:, :, 1] = 0
    assert reference_joint(clips) == ()

    # two joints: which one?
    for x in centred:
        x[:, :, 7] = 0
    assert reference_joint(centred) == () and reference_joint([]) == ()


# --- phase 0 and predict ---

def write_arrays(folder, clips: list[np.ndarray]):
    folder.mkdir()
    for i, x in enumerate(clips):
        np.save(folder / f"c{i}.npy", x)
    lines = [f"c{i},{i % 2},{i}" for i in range(len(clips))]
    (folder / "labels.csv").write_text("\n".join(["name,label,subject", *lines]))
    (folder / "skeleton.json").write_text(json.dumps({"skeleton": "ntu25", "classes": ["a", "b"]}))
    return folder


@pytest.fixture
def stored(tmp_path, monkeypatch, capsys):
    """Function (clips, extra arguments) -> (store, what phase 0 said)."""
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "mine.toml"
    recipe.write_text("""extends = "lite_nano"
[data]
name = "mine"
reader = "arrays"
skeleton = ""
num_classes = 2
[data.protocols]
xsub = { field = "subject", train = [0, 1] }
""")

    numbers = iter(range(99))

    def run(clips, *more: str):
        n = next(numbers)
        raw = write_arrays(tmp_path / f"raw{n}", clips)
        code = p0_preprocess.main([f"recipe={recipe}", f"raw={raw}", f"data.store=stores/{n}", *more])
        said = capsys.readouterr()
        assert code == 0, said
        return ClipStore(tmp_path / "stores" / str(n)), said.out + said.err
    return run


@pytest.mark.parametrize("factor, up, unit", [(1000, "z", "mm"), (1, "-y", "m"), (100, "-z", "cm")])
def test_copies_recorded_otherwise_give_the_original_store(stored, factor, up, unit):
    clips = [clip(seed) for seed in range(4)]
    original, said = stored(clips)
    assert "data.u" not in said

    # with a recipe that says how, and without
    copies = [recorded_as(x, factor, up) for x in clips]
    copy, said = stored(copies, f"data.unit={unit}", f"data.up={up}")
    np.testing.assert_allclose(copy.frames, original.frames, atol=1e-6)
    assert "data.u" not in said and copy.meta["recorded"]["up"] == up
    _, said = stored(copies)
    assert f"data.up={up}" in said and (unit == "m" or f"data.unit={unit}" in said)


def test_clips_centred_on_a_joint_are_seen_as_the_original(stored):
    clips = [clip(seed) for seed in range(4)]
    for x in clips:
        x[x == 0] = 0.01  # nothing is missing

    # the joint stands still, so that centring on it loses nothing
    centre = [x[:, :1, 1:2] for x in clips]
    for x, c in zip(clips, centre, strict=True):
        x[:, :, 1:2] = c

    original, _ = stored(clips)
    copy, said = stored([x - c for x, c in zip(clips, centre, strict=True)])
    assert "spine mid is 0, 0, 0 throughout" in said and (copy.frames != 0).any(2).all()

    # the network's view is the same
    index = np.arange(4)
    a, b = (ClipView(s, View(frames=8))(torch.as_tensor(index)) for s in (original, copy))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_pixels_with_scores_of_a_crowd_come_from_a_bare_list(tmp_path, monkeypatch, capsys):
    # four bodies, of which the first and the third move most
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    annotations = []
    for i in range(4):
        pose = 200 * rest_pose(COCO)[:, :2] * [1, -1] + [300, 200]
        bodies = pose + rng.normal(0, 1, (4, 12, 17, 2)) * np.array([9, 1, 5, 0.1])[:, None, None, None]
        annotations.append({"frame_dir": f"v{i}", "label": 1 + i % 2, "keypoint": bodies.astype(np.float16),
                            "keypoint_score": rng.random((4, 12, 17)).astype(np.float16)})
    (tmp_path / "list.pkl").write_bytes(pickle.dumps(annotations))

    code = p0_preprocess.main(["recipe=lite_nano", "data.name=mine", "data.reader=pyskl", "raw=list.pkl",
                               'data.skeleton=""', "data.num_classes=2", "data.unit=px", "data.up=-y",
                               "data.min_score=0.1"])
    said = capsys.readouterr()
    assert code == 0, said

    assert "labels run from 1 to 2" in said.err and "4 clips of more than two people" in said.out
    store = ClipStore(tmp_path / "stores" / "mine")
    assert store.clips["label"].tolist() == [0, 1, 0, 1] and (store.clips["offset"] >= 0).all()
    missing = (store.frames == 0).all(2).mean()
    assert 0.05 < missing < 0.2 and not store.frames[..., 2].any()
    assert not [line for line in said.err.splitlines() if "data.u" in line]
