"""Joints of one skeleton as means of another's: skeletons.py, part 3."""
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from phases.recordings.metres import Recorded
from phases.shipping.exported import ExportedModel
from skeletons import MEANS, SKELETONS, Skeleton, means, retarget_tables, retargeted, spelled
from tests.helpers.clip_stores import rest_pose


@pytest.mark.parametrize("source", ["mediapipe33", "coco17", "openpose25", "halpe26", "azure32", "smpl24", "smpl22",
                                    "nite15", "jhmdb15", "holistic"])
@pytest.mark.parametrize("target", ["kinect20", "ntu25"])
def test_a_pose_estimators_joints_become_kinects(source, target):
    s, t = SKELETONS[source], SKELETONS[target]
    table = means(list(s.joints), list(t.joints))
    assert len(table) == t.num_joints
    for joint, of in zip(t.joints, table, strict=True):
        if joint in s.joints:
            assert [s.joints[v] for v in of] == [joint]
        else:
            assert tuple(s.joints[v] for v in of) in MEANS[joint]
        sides = {side for side in ("left", "right") if side in joint}
        assert not sides or all(sides <= {w for w in s.joints[v].split()} for v in of)


# every body becomes one of these
FULL = ("ntu25", "kinect20", "utd20", "h36m17", "smpl24", "smpl22", "nite15", "jhmdb15", "body16")
FACE = ("mediapipe33", "openpose25", "halpe26", "azure32", "holistic")  # these become coco17


@pytest.mark.parametrize("target", SKELETONS)
def test_who_becomes_whom(target):
    bodies = {name for name in SKELETONS if name not in ("hand21", "shrec22", "body16")}  # which nobody records
    expected = {"hand21": {"shrec22"}, "shrec22": {"hand21"}, "holistic": set(), "mediapipe33": {"holistic"},
                "coco17": {*FACE, "openpose18"}, "openpose18": {*FACE, "coco17"},
                "azure32": {*FACE, "openpose18", "coco17"}, "openpose25": set(FACE), "halpe26": set(FACE)}
    expected |= dict.fromkeys(FULL, bodies)
    assert set(retarget_tables(SKELETONS[target])) == expected[target] - {target}


@pytest.mark.parametrize("target", SKELETONS)
def test_a_converted_clip_keeps_the_joints_that_both_name(target):
    t = SKELETONS[target]
    always = ("hip centre", "spine", "neck") if target == "body16" else ()
    for name, how in retarget_tables(t).items():
        s = SKELETONS[name]
        x = np.random.default_rng(0).normal(size=(1, 3, s.num_joints, 3)).astype(np.float32)
        out = retargeted(x, how["means"])
        assert out.shape == (1, 3, t.num_joints, 3) and out.any(3).all()
        for v, joint in enumerate(t.joints):
            if joint in s.joints and joint not in always:
                np.testing.assert_array_equal(out[:, :, v], x[:, :, s.joints.index(joint)])


def test_what_has_no_joint_of_its_own_is_where_it_should_be():
    smpl = SKELETONS["smpl24"].joints
    place = dict.fromkeys(SKELETONS["coco17"].joints, (0, 0, 1)) | {
        "left shoulder": (0.2, 0.5, 1), "right shoulder": (-0.2, 0.5, 1), "left hip": (0.1, 0, 1),
        "right hip": (-0.1, 0, 1)}
    x = np.array([*place.values()], np.float32)[None, None]
    out = dict(zip(smpl, retargeted(x, means(SKELETONS["coco17"].joints, smpl))[0, 0], strict=True))
    np.testing.assert_allclose([out[f"spine{i}"] for i in (1, 2, 3)], [(0, h / 6, 1) for h in (1, 1.5, 2)], atol=1e-6)
    np.testing.assert_allclose([out["left collar"], out["right collar"]], [(0.1, 0.5, 1), (-0.1, 0.5, 1)], atol=1e-6)


def test_azure_kinects_own_spelling_is_known():
    theirs = ["PELVIS", "SPINE_NAVAL", "SpineNaval", "SPINE_NAVEL", "HANDTIP_LEFT", "HandTipLeft", "CLAVICLE_RIGHT"]
    assert [spelled(joint) for joint in theirs] == ["pelvis", *["spine navel"] * 3, *["left hand tip"] * 2,
                                                    "right clavicle"]


def test_retargeting_commutes_with_turning_scaling_and_moving():
    table = retarget_tables(SKELETONS["kinect20"])["mediapipe33"]["means"]
    x = np.random.default_rng(0).normal(3, 1, (2, 5, 33, 3)).astype(np.float32)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0].astype(np.float32)
    np.testing.assert_allclose(retargeted(2 * x @ turn + 5, table), 2 * retargeted(x, table) @ turn + 5, rtol=1e-4)


def test_a_mean_is_of_the_joints_that_are_seen():
    x = np.ones((1, 1, 3, 3), np.float32) * np.array([1, 3, 0])[:, None]
    np.testing.assert_array_equal(retargeted(x, [[0, 1], [0, 2], [2]])[0, 0, :, 0], [2, 1, 0])


def test_joints_not_to_be_had_are_refused_however_spelled():
    assert means(["nose", "neck"], ["left wrist"]) is None
    own = Skeleton("own", ("Hip_Center", "left_shoulder"), (0, 0), {"torso": (0, 1)})
    assert retarget_tables(own)["coco17"]["means"] == [[11, 12], [5]]
    assert spelled("Hip_Center") == "hip centre"
    assert "ntu25" not in retarget_tables(SKELETONS["ntu25"])


def test_both_spellings_are_one_but_for_the_centre():
    names = [joint for s in SKELETONS.values() for joint in s.joints]
    names += ["LShoulder", "shoulder_l", "Skel_RHip", "L", "l r", "Hip.R", "left-Knee", "C7", "LEFT HIP", "leftHandTip"]
    for name in names:
        assert spelled(name) == spelled(name).replace("center", "centre"), name
    assert spelled("LShoulder") == spelled("shoulder_l") == spelled("Left Shoulder") == "left shoulder"


class Model(ExportedModel):
    """A model of one skeleton's joints whose file carries tables for some others."""

    def __init__(self, skeleton: Skeleton, sources: list[str]):
        self.skeleton = {**skeleton.to_dict(), "centre": skeleton.centre, "trunk": skeleton.trunk}
        self.recorded, self.view = Recorded(), {"bodies": 1}
        self.trunk = [joints[0] for joints in skeleton.trunk]
        self.retarget = json.loads(json.dumps(retarget_tables(skeleton, [SKELETONS[name] for name in sources])))


def name_beside(folder: Path, skeleton: object) -> None:
    (folder / "skeleton.json").write_text(json.dumps({"skeleton": skeleton, "classes": []}))


@pytest.mark.parametrize("title", ["sbu15", "coco17", "nite15"])
def test_joints_named_as_the_networks_are_its_own_by_any_title(tmp_path, title):
    own = dataclasses.replace(SKELETONS["nite15"], name="mine")
    x = np.random.default_rng(0).normal(size=(4, 15, 3)).astype(np.float32)
    np.save(tmp_path / "clip.npy", x)
    table = SKELETONS["nite15"].to_dict() | {"name": title, "joints": [joint.upper() for joint in own.joints]}
    for found in (table, "nite15"):
        name_beside(tmp_path, found)
        np.testing.assert_array_equal(Model(own, ["ntu25"]).read(tmp_path / "clip.npy")[0], x)


@pytest.mark.parametrize("spelled_out", [False, True])
def test_a_named_skeleton_is_turned_though_the_file_has_no_table(tmp_path, capsys, spelled_out):
    smpl, kinect = SKELETONS["smpl24"], SKELETONS["kinect20"]
    x = np.tile(rest_pose(smpl) * [1, -1, 1] + [0, 0, 3], (4, 1, 1))  # the head is up
    np.save(tmp_path / "clip.npy", x)
    name_beside(tmp_path, smpl.to_dict() | {"name": "mocap"} if spelled_out else "smpl24")
    joints = Model(kinect, ["ntu25"]).read(tmp_path / "clip.npy")
    for joint in ("left wrist", "right knee", "head"):
        np.testing.assert_allclose(joints[0, :, kinect.joints.index(joint)], x[:, smpl.joints.index(joint)], atol=1e-5)
    assert ("mocap" if spelled_out else "smpl24") in capsys.readouterr().err


def test_a_known_title_with_other_joints_is_no_known_skeleton(tmp_path):
    ntu = SKELETONS["ntu25"]
    turned = ntu.to_dict() | {"joints": list(ntu.joints[::-1]), "parents": [24 - p for p in ntu.parents[::-1]],
                              "regions": {"all": list(range(25))}}
    x = np.tile(rest_pose(ntu) + [0, 0, 3], (4, 1, 1))
    np.save(tmp_path / "clip.npy", x[:, ::-1])
    name_beside(tmp_path, turned)
    np.testing.assert_allclose(Model(ntu, ["kinect20"]).read(tmp_path / "clip.npy")[0], x, atol=1e-5)


@pytest.mark.parametrize("found, words", [("hand21", "is of skeleton 'hand21', the model knows 'kinect20'"),
                                          ("smpl42", "is of skeleton 'smpl42'"),
                                          ({"name": "odd", "joints": [1]}, "skeleton.json: skeleton 'odd'")])
def test_joints_that_cannot_be_turned_are_refused_in_one_line(tmp_path, found, words):
    np.save(tmp_path / "clip.npy", np.ones((4, 21, 3)))
    name_beside(tmp_path, found)
    with pytest.raises(ValueError, match=words) as e:
        Model(SKELETONS["kinect20"], ["ntu25"]).read(tmp_path / "clip.npy")
    assert "\n" not in str(e.value)


def test_predict_takes_another_skeletons_clip_and_says_so(tmp_path, capsys):
    ntu, mp = SKELETONS["ntu25"], SKELETONS["mediapipe33"]
    model = Model(ntu, ["mediapipe33"])
    pose = rest_pose(mp) + [0, 0, 3]
    np.save(tmp_path / "mm.npy", np.tile(pose * 1000, (4, 1, 1)) * [-1, -1, 1])  # millimetres, y down
    joints = model.read(tmp_path / "mm.npy")
    assert joints.shape == (1, 4, 25, 3)
    wrist = [s.joints.index("left wrist") for s in (ntu, mp)]
    np.testing.assert_allclose(joints[0, 0, wrist[0]], pose[wrist[1]], atol=1e-4)
    said = capsys.readouterr().err
    assert "mediapipe33 (mm, -y up)" in said and "ntu25" in said
    (tmp_path / "skeleton.json").write_text('{"skeleton": "mediapipe33", "classes": []}')
    np.testing.assert_array_equal(model.read(tmp_path / "mm.npy"), joints)
    np.save(tmp_path / "odd.npy", np.ones((4, 7, 3)))
    (tmp_path / "skeleton.json").unlink()
    with pytest.raises(ValueError, match="has 7 joints"):
        model.read(tmp_path / "odd.npy")


# ---------------------------------------------------------------------------------------------------------------------
# body16: the body of networks that have seen many
# ---------------------------------------------------------------------------------------------------------------------

WRISTS = ["left shoulder", "left elbow", "left wrist", "right shoulder", "right elbow", "right wrist"]


def test_a_body_may_lack_joints_of_body16():
    waist_up = Skeleton("desk", ("Nose", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist"),
                        (0, 0, 0, 1, 2, 3, 4), {"all": tuple(range(7))})
    how = retarget_tables(SKELETONS["body16"], [waist_up])["desk"]
    has = [joint for joint, of in zip(SKELETONS["body16"].joints, how["means"], strict=True) if of]
    assert has == ["neck", "head", *WRISTS]

    # what is lacking is missing
    out = retargeted(np.ones((1, 2, 7, 3), np.float32), how["means"])
    assert (out.any((0, 1, 3)) == [bool(of) for of in how["means"]]).all()


def test_a_body_of_a_few_joints_becomes_no_body16():
    arm = ("left shoulder", "left elbow", "left wrist", "neck", "head")
    assert means(arm, SKELETONS["body16"].joints) is None
    assert retarget_tables(SKELETONS["body16"], [SKELETONS["hand21"]]) == {}


def test_another_network_takes_no_body_that_lacks_joints():
    assert means(WRISTS, SKELETONS["kinect20"].joints) is None
