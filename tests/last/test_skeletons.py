"""Skeletons: what follows from their parents, regions and names."""
import dataclasses
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skeletons import SKELETONS, Skeleton

each = pytest.mark.parametrize("s", SKELETONS.values(), ids=SKELETONS)
WIDTHS = (24, 32, 48, 72, 96)


def test_ntu25_has_the_bones_that_are_published():
    published = ((1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10),
                 (12, 11), (13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (22, 23),
                 (23, 8), (24, 25), (25, 12), (21, 21))
    assert sorted(SKELETONS["ntu25"].bones) == sorted((c - 1, p - 1) for c, p in published)


def test_ntu25_has_the_regions_of_the_design():
    assert {k: set(v) for k, v in SKELETONS["ntu25"].regions.items()} == {
        "left_arm": {4, 5, 6, 7, 21, 22}, "right_arm": {8, 9, 10, 11, 23, 24}, "left_leg": {12, 13, 14, 15},
        "right_leg": {16, 17, 18, 19}, "torso": {0, 1, 2, 3, 20}}


COUNTS = {"ntu25": 25, "kinect20": 20, "utd20": 20, "coco17": 17, "mediapipe33": 33, "openpose25": 25, "openpose18": 18,
          "halpe26": 26, "h36m17": 17, "azure32": 32, "smpl24": 24, "smpl22": 22, "nite15": 15, "jhmdb15": 15,
          "hand21": 21, "shrec22": 22, "holistic": 75, "body16": 16}
HANDS = ("hand21", "shrec22")
SPINE = {"spine1", "spine2", "spine3"}  # SMPL's


def test_each_skeleton_has_its_count_here():
    assert SKELETONS.keys() == COUNTS.keys()


@pytest.mark.parametrize("name, bones", [
    # the pairs that the libraries draw, from their documentation; MediaPipe also draws 9-10, 11-12, 23-24 and rings
    ("openpose25", "1-8 1-2 1-5 2-3 3-4 5-6 6-7 8-9 9-10 10-11 8-12 12-13 13-14 1-0 0-15 15-17 0-16 16-18 14-19 19-20 "
                   "14-21 11-22 22-23 11-24"),
    ("openpose18", "1-2 1-5 2-3 3-4 5-6 6-7 1-8 8-9 9-10 1-11 11-12 12-13 1-0 0-14 14-16 0-15 15-17"),
    ("mediapipe33", "0-1 1-2 2-3 3-7 0-4 4-5 5-6 6-8 11-13 13-15 15-17 15-19 15-21 12-14 14-16 16-18 16-20 16-22 11-23 "
                    "12-24 23-25 25-27 27-29 27-31 24-26 26-28 28-30 28-32"),
    ("halpe26", "0-1 0-2 1-3 2-4 5-18 6-18 5-7 7-9 6-8 8-10 17-18 18-19 19-11 19-12 11-13 12-14 13-15 14-16 20-15 "
                "21-16 24-15 25-16"),
    ("h36m17", "0-1 1-2 2-3 0-4 4-5 5-6 0-7 7-8 8-9 9-10 8-11 11-12 12-13 8-14 14-15 15-16"),
    ("azure32", "0-1 1-2 2-3 2-4 4-5 5-6 6-7 7-8 8-9 7-10 2-11 11-12 12-13 13-14 14-15 15-16 14-17 0-18 18-19 19-20 "
                "20-21 0-22 22-23 23-24 24-25 3-26 26-27 26-28 26-29 26-30 26-31"),
    ("smpl24", "0-1 1-4 4-7 7-10 0-2 2-5 5-8 8-11 0-3 3-6 6-9 9-12 12-15 9-13 13-16 16-18 18-20 20-22 9-14 14-17 17-19 "
               "19-21 21-23"),
    ("smpl22", "0-1 1-4 4-7 7-10 0-2 2-5 5-8 8-11 0-3 3-6 6-9 9-12 12-15 9-13 13-16 16-18 18-20 9-14 14-17 17-19 "
               "19-21"),
    ("hand21", "0-1 1-2 2-3 3-4 0-5 5-6 6-7 7-8 0-9 9-10 10-11 11-12 0-13 13-14 14-15 15-16 0-17 17-18 18-19 19-20"),
    ("shrec22", "0-1 1-2 2-3 3-4 4-5 1-6 6-7 7-8 8-9 1-10 10-11 11-12 12-13 1-14 14-15 15-16 16-17 1-18 18-19 19-20 "
                "20-21")])
def test_bones_are_those_that_the_pose_estimator_draws(name, bones):
    drawn = {frozenset(map(int, bone.split("-"))) for bone in bones.split()}
    ours = {frozenset(bone) for bone in SKELETONS[name].bones}
    assert drawn <= ours and len(ours - drawn) <= 6  # the root's own, and what ties the face or the toes on


@pytest.mark.parametrize("name, count", COUNTS.items())
def test_skeletons_that_ship_have_their_number_of_joints(name, count):
    assert SKELETONS[name].num_joints == len(SKELETONS[name].joints) == len(SKELETONS[name].parents) == count


@each
def test_regions_partition_joints_and_limbs_keep_to_their_side(s):
    assert sorted(v for r in s.regions.values() for v in r) == list(range(s.num_joints))
    for side, other in (("left", "right"), ("right", "left")):
        for limb in ("arm", "leg"):
            assert s.name in HANDS or s.regions[f"{side}_{limb}"]
        for name, region in s.regions.items():
            assert not name.startswith(side) or not any(other in s.joints[v] for v in region)


@pytest.mark.parametrize("name, hand", [("hand21", ""), ("shrec22", ""), ("holistic", "left "), ("holistic", "right ")])
def test_each_finger_is_a_region_from_its_root_to_its_tip(name, hand):
    s = SKELETONS[name]
    for finger in ("thumb", "index", "middle", "ring", "pinky"):
        region = s.regions[hand.replace(" ", "_") + finger]
        assert len(region) == 4 and s.joints[region[-1]].endswith("tip")
        assert all(finger in s.joints[v] and hand in s.joints[v] for v in region)
        assert [s.parents[v] for v in region[1:]] == list(region[:-1])


def test_holistic_is_the_body_with_a_hand_at_each_wrist():
    s, body, hand = (SKELETONS[name] for name in ("holistic", "mediapipe33", "hand21"))
    assert s.joints[:33] == body.joints and s.parents[:33] == body.parents
    assert [len(s.joints[v].split()) for v in (33, 54)] == [3, 3]
    for side, first in (("left", 33), ("right", 54)):
        assert s.joints[first:first + 21] == tuple(f"{side} hand {joint}" for joint in hand.joints)
        assert s.joints[s.parents[first]] == f"{side} wrist"
        assert [parent - first for parent in s.parents[first + 1:first + 21]] == list(hand.parents[1:])


@pytest.mark.parametrize("own, file", [("jhmdb15", "jhmdb.json"), ("nite15", "sbu.tar.xz")])
def test_joints_are_those_of_the_recordings(data_folder, own, file):
    if file.endswith(".json"):
        table = json.loads((data_folder / file).read_text())
    else:
        with tarfile.open(data_folder / file) as tar:
            member = next(m for m in tar if m.name.endswith("skeleton.json"))
            table = json.load(tar.extractfile(member))
    theirs = Skeleton.from_dict(table["skeleton"])
    assert dataclasses.replace(theirs, name=own) == SKELETONS[own]


def naive_hops(s) -> np.ndarray:
    """Breadth-first search from every joint."""
    near = [{v, s.parents[v]} | {c for c, p in enumerate(s.parents) if p == v} for v in range(s.num_joints)]
    hops = np.full((s.num_joints,) * 2, -1)
    for v in range(s.num_joints):
        ring, seen, k = {v}, set(), 0
        while ring:
            hops[v, list(ring)] = k
            seen |= ring
            ring, k = {u for w in ring for u in near[w]} - seen, k + 1
    return hops


@st.composite
def trees(draw):
    """A skeleton of 2 to 9 joints in two regions: a random tree, its joints numbered in random order."""
    V = draw(st.integers(2, 9))
    place = draw(st.permutations(range(V)))
    parents = [0] * V
    for i in range(V):
        parents[place[i]] = place[draw(st.integers(0, max(0, i - 1)))]
    cut = draw(st.integers(1, V - 1))
    regions = {"a": tuple(range(cut)), "b": tuple(range(cut, V))}
    return Skeleton("tree", tuple(f"j{v}" for v in range(V)), tuple(parents), regions)


@each
def test_hops_are_those_of_a_breadth_first_search(s):
    assert np.array_equal(s.hops, naive_hops(s))


@given(trees())
def test_hops_of_any_tree_are_those_of_a_breadth_first_search(s):
    assert np.array_equal(s.hops, naive_hops(s))


@each
def test_adjacency_is_normalised_on_both_sides(s):
    V = s.num_joints
    A = np.eye(V)
    for child, parent in s.bones:
        A[child, parent] = A[parent, child] = 1
    D = np.diag(A.sum(1) ** -0.5)
    assert np.allclose(s.adjacency, D @ A @ D, atol=1e-6)


def naive_region_shift(s, C: int) -> list[list[int]]:
    """The rule in the docstring of region_shift, one channel and joint at a time."""
    region = {v: (name, list(r)) for name, r in s.regions.items() for v in r}
    table = []
    for c in range(C):
        row = []
        for v in range(s.num_joints):
            name, r = region[v]
            if c < C / 4:
                i, moved = c, name in ("left_arm", "right_arm")
            elif c < C / 2:
                i, moved = c - C // 4, name in ("left_leg", "right_leg")
            elif c < 5 * C / 8:
                i, moved = c - C // 2, name not in ("left_arm", "right_arm", "left_leg", "right_leg")
            else:
                near = sorted({v, s.parents[v]} | {k for k, p in enumerate(s.parents) if p == v})
                row.append(near[(c - 5 * C // 8) % len(near)])
                continue
            row.append(r[(r.index(v) + i + 1) % len(r)] if moved else v)
        table.append(row)
    return table


@each
@pytest.mark.parametrize("C", WIDTHS)
def test_region_shift_is_the_design_joint_by_joint(s, C):
    assert s.region_shift(C).tolist() == naive_region_shift(s, C)


@each
@pytest.mark.parametrize("C", WIDTHS)
def test_region_shift_rotates_in_regions_then_reads_neighbours(s, C):
    table, home, hops = s.region_shift(C), {v: k for k, r in s.regions.items() for v in r}, naive_hops(s)
    turned, near = table[:5 * C // 8], table[5 * C // 8:]
    assert all(home[v] == home[u] for row in turned for v, u in enumerate(row))
    assert all(sorted(row) == list(range(s.num_joints)) for row in turned)
    assert all(hops[v, u] <= 1 for row in near for v, u in enumerate(row))
    for v in range(s.num_joints):  # reads all its neighbours, if there are enough channels
        assert len(set(near[:, v])) == min(len(near), (hops[v] <= 1).sum())


@each
def test_random_shift_permutes_each_channels_joints_by_its_seed(s):
    table = s.random_shift(48, seed=3)
    assert np.array_equal(np.sort(table, 1), np.tile(np.arange(s.num_joints), (48, 1)))
    assert len({tuple(row) for row in table}) == 48
    assert np.array_equal(table, s.random_shift(48, seed=3)) and not np.array_equal(table, s.random_shift(48, seed=4))


@each
def test_mirror_is_an_involution_that_exchanges_left_and_right(s):
    assert [s.mirror[v] for v in s.mirror] == list(range(s.num_joints))
    exchange = {"left": "right", "right": "left"}
    for v, u in enumerate(s.mirror):
        assert s.joints[u] == " ".join(exchange.get(word, word) for word in s.joints[v].split())
        assert s.mirror[s.parents[v]] == s.parents[u]  # a mirrored body has the same bones


@each
def test_skeleton_survives_json(s):
    assert Skeleton.from_dict(json.loads(json.dumps(s.to_dict()))) == s


def test_pairs_may_be_given_where_names_do_not_tell_them():
    d = {"name": "own", "joints": ["a", "b", "c"], "parents": [0, 0, 0], "regions": {"all": [0, 1, 2]}}
    assert Skeleton.from_dict(d).mirror == [0, 1, 2]
    assert Skeleton.from_dict({**d, "pairs": [[1, 2]]}).mirror == [0, 2, 1]


@pytest.mark.parametrize("change, words", [
    ({"parents": [0, 2, 3, 1]}, "cycle"),
    ({"parents": [0, 1, 0, 0]}, r"exactly one joint, the root.*\[0, 1\]"),
    ({"parents": [1, 2, 3, 0]}, r"exactly one joint, the root.*\[\]"),
    ({"parents": [0, 0, 0, 4]}, r"0\.\.3"),
    ({"parents": [0, 0, 0, -1]}, r"0\.\.3"),
    ({"parents": [0, 0, 0]}, "3 parents for 4 joints"),
    ({"parents": [0, 0, 0, "x"]}, "bad"),
    ({"parents": None}, "bad"),
    ({"joints": ["a", "b", "c", "c"]}, "different names"),
    ({"joints": ["a"], "parents": [0], "regions": {"x": [0]}}, "at least 2 joints"),
    ({"joints": [1, 2, 3, 4]}, "bad"),
    ({"regions": {"x": [0, 1, 2], "y": [2, 3]}}, r"exactly one region.*\[2\]"),
    ({"regions": {"x": [0, 1, 2]}}, r"exactly one region.*\[3\]"),
    ({"regions": {"x": [0, 1, 2, 3, 4]}}, r"exactly one region.*\[4\]"),
    ({"regions": [[0, 1, 2, 3]]}, "bad"),
    ({"pairs": [[0, 9]]}, "bad"),
    ({"pairs": [[0, 1], [1, 2]]}, "bad"),
    ({"pairs": [[1, 1]]}, "bad"),
])
def test_bad_skeleton_is_one_line_that_names_it(change, words):
    good = {"name": "bad", "joints": ["a", "b", "c", "d"], "parents": [0, 0, 1, 2],
            "regions": {"x": [0, 1], "y": [2, 3]}}
    Skeleton.from_dict({**good, "name": "good"})
    with pytest.raises(ValueError, match=words) as e:
        Skeleton.from_dict({**good, **change})
    assert "bad" in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("key", ["joints", "parents", "regions"])
def test_skeleton_that_lacks_a_key_says_which(key):
    d = SKELETONS["ntu25"].to_dict()
    del d[key]
    with pytest.raises(ValueError, match=f"'ntu25'.*lacks {key}"):
        Skeleton.from_dict(d)


def test_skeleton_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SKELETONS["ntu25"].name = "other"


@each
def test_centre_and_trunk_are_found_by_name(s):
    named = {"ntu25": {"spine mid"}, "kinect20": {"spine"}, "utd20": {"spine"}, "h36m17": {"spine"},
             "body16": {"spine"}, "azure32": {"spine navel", "spine chest"},
             **dict.fromkeys(("smpl24", "smpl22"), SPINE), **dict.fromkeys(HANDS, {"wrist"})}
    hips = {joint for joint in ("left hip", "right hip", "mid hip") if joint in s.joints}
    assert {s.joints[v] for v in s.centre} == named.get(s.name, hips)
    if s.name in HANDS:
        assert s.trunk is None
        return
    trunk = [[s.joints[v] for v in joints] for joints in s.trunk]
    assert trunk == [["left shoulder"], ["right shoulder"], ["left hip"], ["right hip"]]


def test_skeleton_without_telling_names_has_its_root_as_centre():
    s = Skeleton("own", ("a", "b"), (1, 1), {"all": (0, 1)})
    assert s.centre == [1] and s.trunk is None and s.mirror == [0, 1]


def test_a_region_that_is_no_limb_shifts_with_the_torso():
    regions = {"torso": (0, 1, 2), "tail": (3, 4), "left_arm": (5, 6)}
    s = Skeleton("cat", tuple("abcdefg"), (0, 0, 1, 0, 3, 0, 5), regions)
    assert s.region_shift(24).tolist() == naive_region_shift(s, 24)
    assert s.region_shift(24)[12].tolist() == [1, 2, 0, 4, 3, 5, 6]


def test_skeleton_of_utd_mhad_works(data_folder):
    s = Skeleton.from_dict(json.loads((data_folder / "utd-mhad.json").read_text())["skeleton"])
    assert np.array_equal(s.hops, naive_hops(s))
    assert s.region_shift(48).tolist() == naive_region_shift(s, 48)
    assert len(s.pairs) == 8
    assert all(s.joints[left].replace("left", "right") == s.joints[right] for left, right in s.pairs)
    assert [s.joints[v] for v in s.centre] == ["spine"] and s.trunk is not None


@pytest.mark.parametrize("spell", [lambda j: j, lambda j: j.replace(" ", "_"), lambda j: j.title().replace(" ", ""),
                                   str.upper, str.title, lambda j: j[0] + j.title().replace(" ", "")[1:]])
@each
def test_joints_are_told_by_their_names_however_they_are_spelled(s, spell):
    other = Skeleton(s.name, tuple(map(spell, s.joints)), s.parents, s.regions)
    assert (other.pairs, other.centre, other.trunk) == (s.pairs, s.centre, s.trunk)
