"""Changed clips: exact shares and sizes, nothing touched but what a row names, the same clip every time."""
import dataclasses

import numpy as np
import pytest

from phases.recordings.wild import COUNTED, JITTER, ROWS, Row, changed, is_flat, lower_legs, rows_for
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose

S = SKELETONS["kinect20"]
NAMED = {row.name: row for row in ROWS}
GONE = [name for name in NAMED if "missing" in name or "without" in name or "never" in name or "arm" in name]


def clip(frames: int = 50, bodies: int = 1, flat: bool = False, seed: int = 0) -> np.ndarray:
    """(M, L, V, 3): bodies that drift, none at the origin; no two frames are alike."""
    rng = np.random.default_rng(seed)
    x = rest_pose(S) + (1, 1, 2) + 0.01 * rng.normal(size=(bodies, frames, 20, 3)).cumsum(1)
    x[..., 2] *= not flat
    return x.astype(np.float32)


def under(name: str, x: np.ndarray, title: str = "clip") -> np.ndarray:
    return changed(x, NAMED[name], title, S)


# ---------------------------------------------------------------------------------------------------------------------
# All rows
# ---------------------------------------------------------------------------------------------------------------------

def test_the_mean_is_of_the_clean_clips_and_19_rows():
    assert COUNTED == (
        "clean", "joints missing 1 %", "joints missing 5 %", "joints missing 20 %", "frames without a body 5 %",
        "frames without a body 10 %", "ten frames in a row without a body", "noise 1 cm", "noise 2 cm", "noise 5 cm",
        "spikes 2 %", "knees, ankles, feet never seen", "standing still 15 frames", "standing still 30 frames",
        "standing still 60 frames", "half the frame rate", "20 % cut off both ends", "turned 30 degrees",
        "turned 60 degrees", "1.3 times as large")
    assert len(NAMED) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_a_pure_function_of_clip_name_and_row(row: Row):
    x = clip(bodies=2)
    before = x.copy()
    first = changed(x, row, "a", S)
    assert np.array_equal(first, changed(x, row, "a", S)) and np.array_equal(x, before)
    assert first.dtype == np.float32 and first.shape[0] == 2 and first.shape[2:] == (20, 3)
    assert first.shape != x.shape or not np.array_equal(first, x), "a row changes something"

    # it draws anew for each clip, and for each row
    draws = not row.name.startswith(("half", "a quarter", "20 %", "1.3", "knees"))
    others = [changed(x, row, name, S) for name in "bcdefgh"]
    assert any(not np.array_equal(first, other) for other in others) == draws
    if draws and row.unit and row.kind != "turned":
        twin = dataclasses.replace(row, kind="another kind")
        assert not np.array_equal(first, changed(x, twin, "a", S))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("frames", [1, 2, 3, 11])
def test_a_row_takes_clips_of_few_frames_and_missing_parts(row: Row, frames):
    x = clip(frames, bodies=2)
    x[1, : frames // 2] = 0
    x[0, :, 7] = 0
    for joints in (x, x[:1], np.zeros_like(x)):
        out = changed(joints, row, "a", S)
        assert np.isfinite(out).all() and out.shape[1] >= 1
        assert out.any() == joints.any(), "a body is left, and none is made"
    assert not changed(x, row, "a", S)[0, :, 7].any() or row.name.startswith("left and right"), "missing stays missing"


@pytest.mark.parametrize("row", rows_for(S, flat=True)[0], ids=lambda row: row.name)
def test_flat_clips_stay_flat(row: Row):
    assert is_flat(changed(clip(flat=True), row, "a", S))


def test_rows_that_a_data_set_cannot_have_are_left_out():
    assert rows_for(S, flat=False) == (list(ROWS), [])
    turned = [row for row in ROWS if row.kind == "turned" or "tilted" in row.name]
    assert rows_for(SKELETONS["jhmdb15"], flat=True)[1] == turned
    hand = {row.name for row in rows_for(SKELETONS["hand21"], flat=False)[1]}
    assert hand == {"knees, ankles, feet never seen", "an arm lost for half of the clip",
                    "left and right swapped in 10 % of frames"}


# ---------------------------------------------------------------------------------------------------------------------
# What goes missing
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", GONE)
def test_what_does_not_go_missing_stays_as_it_was(name):
    x = clip(bodies=2)
    out = under(name, x)
    there = out.any(3)
    assert np.array_equal(out[there], x[there]) and not there.all()


@pytest.mark.parametrize("percent", [1, 2, 5, 10, 20, 50])
def test_the_share_of_missing_joints_is_exact(percent):
    x = clip(bodies=2)
    x[1, :25] = 0  # what is not seen cannot go missing
    lost = x.any(3) & ~under(f"joints missing {percent} %", x).any(3)
    assert lost.sum() == percent * 1500 // 100 and lost[0].any() and lost[1].any()


@pytest.mark.parametrize("name, count", [("frames without a body 5 %", 3), ("frames without a body 10 %", 5),
                                         ("ten frames in a row without a body", 10)])
def test_whole_frames_go_missing_for_all_bodies(name, count):
    x = clip(50, bodies=2)
    there = under(name, x).any(3)
    gone = np.flatnonzero(~there.any((0, 2)))
    assert len(gone) == count and there.all((0, 2)).sum() == 50 - count
    if "row" in name:
        assert gone[-1] - gone[0] == 9
        assert (~under(name, clip(12)).any((0, 2, 3))).sum() == 6, "half of a short clip is left"


@pytest.mark.parametrize("name", [name for name, s in SKELETONS.items() if not name.startswith(("hand", "shrec"))])
def test_lower_legs_are_knees_ankles_and_feet(name):
    s = SKELETONS[name]
    found = {s.joints[v] for v in lower_legs(s)}
    assert {"left knee", "right knee"} <= found and not any("hip" in joint or "hand" in joint for joint in found)

    # without such names the regions of the legs tell
    numbered = dataclasses.replace(s, joints=tuple(f"j{v}" for v in range(s.num_joints)))
    assert lower_legs(numbered) == sorted(lower_legs(s))


def test_legs_are_never_seen_and_an_arm_for_half_of_the_clip():
    x = clip(50)
    gone = ~under("knees, ankles, feet never seen", x)[0].any(2)
    assert set(np.flatnonzero(gone.all(0))) == {13, 14, 15, 17, 18, 19} and gone.sum() == 6 * 50
    sides = set()
    for title in "abcdefgh":
        gone = ~under("an arm lost for half of the clip", x, title)[0].any(2)
        sides.add(tuple(np.flatnonzero(gone.any(0))))
        assert gone.sum() == 4 * 25 and np.ptp(np.flatnonzero(gone.any(1))) == 24
    assert sides == {S.regions["left_arm"], S.regions["right_arm"]}


# ---------------------------------------------------------------------------------------------------------------------
# What is seen wrongly
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("centimetres", [1, 2, 5, 10])
def test_noise_has_its_deviation_on_each_coordinate(centimetres):
    x = clip(200)
    x[:, ::3, 5] = 0
    off = under(f"noise {centimetres} cm", x) - x
    assert not off[~x.any(3)].any()
    np.testing.assert_allclose(off[x.any(3)].std(0), centimetres / 100, rtol=0.05)
    np.testing.assert_allclose(off.mean((0, 1, 2)), 0, atol=centimetres / 2000)


@pytest.mark.parametrize("flat", [False, True])
def test_spikes_are_an_exact_share_of_joint_frames(flat):
    x = clip(500, bodies=2, flat=flat)
    off = (under("spikes 2 %", x) - x)[..., :3 - flat]
    assert off.any(3).sum() == 0.02 * 20_000
    np.testing.assert_allclose(off[off.any(3)].std(0), 0.3, rtol=0.1)

    off = np.linalg.norm(under("spikes of exactly 30 cm, 2 %", x).astype(float) - x, axis=3)
    assert (off > 0).sum() == 0.02 * 20_000
    np.testing.assert_allclose(off[off > 0], 0.3, atol=1e-6)


def test_a_frozen_joint_and_swapped_sides_touch_only_these():
    x = clip(50)
    out = under("a joint frozen", x)
    moved = (out != x).any(3)[0]
    (v,) = np.flatnonzero(moved.any(0))
    first = np.flatnonzero(moved[:, v])[0] - 1
    assert first < 25 and moved[first + 1:, v].all() and (out[0, first:, v] == x[0, first, v]).all()

    out = under("left and right swapped in 10 % of frames", x)
    swapped = (out != x).any((0, 2, 3))
    assert swapped.sum() == 5 and np.array_equal(out[:, swapped], x[:, swapped][:, :, S.mirror])


# ---------------------------------------------------------------------------------------------------------------------
# When, from where, of whom
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("frames", [15, 30, 60, 120])
def test_standing_still_holds_the_first_and_the_last_pose(frames):
    x = clip(40)
    x[:, 0] = x[:, 38:] = 0  # the first and last pose are those of frames that show a body
    x[0, 1, 5] = 0
    out = under(f"standing still {frames} frames", x)
    assert out.shape[1] == 40 + 2 * frames and np.array_equal(out[:, frames:-frames], x)
    for held, pose in ((out[0, :frames], x[0, 1]), (out[0, -frames:], x[0, 37])):
        there = pose.any(1)
        assert np.array_equal(held.any(2), np.tile(there, (frames, 1)))
        off = (held - pose)[:, there]
        assert 0.9 * JITTER < off.std() < 1.1 * JITTER and len(np.unique(off[..., 0])) > 0.9 * off[..., 0].size


def test_frame_rates_and_cut_ends_take_frames_as_they_are():
    x = clip(50)
    assert np.array_equal(under("half the frame rate", x), x[:, ::2])
    assert np.array_equal(under("a quarter of the frame rate", x), x[:, ::4])
    assert np.array_equal(under("20 % cut off both ends", x), x[:, 10:40])


@pytest.mark.parametrize("name, degrees, axis", [
    ("turned 15 degrees", 15, 1), ("turned 30 degrees", 30, 1), ("turned 60 degrees", 60, 1),
    ("turned 90 degrees", 90, 1), ("camera tilted by 15 degrees", 15, 0)])
def test_a_turned_body_keeps_its_shape_and_its_middle(name, degrees, axis):
    x = clip(50)
    x[:, :, 3] = 0
    seen = x.any(3)
    middle = x[seen].mean(0, dtype=float)
    signs = set()
    for title in "abcdefgh":
        out = under(name, x, title)
        assert np.array_equal(out.any(3), seen)
        np.testing.assert_allclose(out[seen].mean(0, dtype=float), middle, atol=1e-5)
        np.testing.assert_allclose(out[seen][:, axis], x[seen][:, axis], atol=1e-6)

        # the angle in the plane across the axis
        a, b = [k for k in range(3) if k != axis]
        before = np.arctan2(*(x[seen] - middle).T[[b, a]])
        after = np.arctan2(*(out[seen] - middle).T[[b, a]])
        angle = np.rad2deg(np.angle(np.exp(1j * (after - before))))
        signs.add(np.sign(np.median(angle)))
        np.testing.assert_allclose(np.median(abs(angle)), degrees, atol=1e-2)
    assert signs == {-1, 1}


def test_a_larger_body_has_bones_1_3_times_as_long():
    x = clip(50)
    bones = np.array([bone for bone in S.bones if bone[0] != bone[1]])

    def lengths(joints: np.ndarray) -> np.ndarray:
        return np.linalg.norm(joints[:, :, bones[:, 0]] - joints[:, :, bones[:, 1]], axis=3)

    np.testing.assert_allclose(lengths(under("1.3 times as large", x)), 1.3 * lengths(x), rtol=1e-4)
