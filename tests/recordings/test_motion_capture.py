"""BVH, and AMC with ASF: forward kinematics gives the places that a known motion has, and damage is named."""
import numpy as np
import pytest

from phases.recordings.known_files import known_body
from phases.recordings.named_body import joints_of_begins, joints_of_ends, named_body
from phases.recordings.readers import read_clip, skeleton_of_format
from skeletons import SKELETONS, means

BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT LeftArm
  {
    OFFSET 0 10 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT LeftForeArm
    {
      OFFSET 5 0 0
      CHANNELS 3 Zrotation Xrotation Yrotation
      End Site
      {
        OFFSET 3 0 0
      }
    }
  }
}
MOTION
Frames: 3
Frame Time: 0.033
0 90 0  0 0 0  0 0 0  0 0 0
1 90 2  90 0 0  0 0 0  0 0 0
0 90 0  0 0 0  90 0 0  0 0 -90
"""
PLACES = [[[0, 90, 0], [0, 100, 0], [5, 100, 0], [8, 100, 0]],      # at rest
          [[1, 90, 2], [-9, 90, 2], [-9, 95, 2], [-9, 98, 2]],      # all of it turned by 90 degrees about z
          [[0, 90, 0], [0, 100, 0], [0, 105, 0], [0, 105, 3]]]      # the arm up, the forearm about the arm's y


def refusal(path) -> str:
    with pytest.raises(ValueError) as e:
        read_clip(path)
    assert "\n" not in str(e.value) and str(e.value).startswith(f"{path}")
    return str(e.value)


def test_bvh_gives_the_places_of_its_joints(tmp_path):
    path = tmp_path / "walk.bvh"
    path.write_text(BVH)
    np.testing.assert_allclose(read_clip(path)[0], PLACES, atol=1e-4)

    # a joint is where a bone begins
    body = known_body(path).skeleton
    assert body.joints == ("mid hip", "left shoulder", "left elbow", "left fore arm end")
    assert body.parents == (0, 0, 1, 2) and body.regions["left_arm"] == (1, 2, 3)
    assert skeleton_of_format(path) is None, "the format fixes no unit"


def test_rotations_are_about_the_axes_in_the_listed_order(tmp_path):
    rng = np.random.default_rng(0)
    angles = rng.uniform(-180, 180, 3)
    x, y, z = np.deg2rad(angles)
    one = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    two = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    three = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    for order, turn in (("XYZ", one @ two @ three), ("ZXY", three @ one @ two)):
        named = " ".join(f"{letter}rotation" for letter in order)
        text = (f"HIERARCHY ROOT a {{ OFFSET 1 1 1 CHANNELS 3 {named} JOINT b {{ OFFSET 1 2 3 CHANNELS 0 }} }}\n"
                f"MOTION\nFrames: 1\nFrame Time: 1\n{' '.join(str(angles['XYZ'.index(c)]) for c in order)}\n")
        (tmp_path / "a.bvh").write_text(text)
        np.testing.assert_allclose(read_clip(tmp_path / "a.bvh")[0, 0, 1], turn @ [1, 2, 3] + 1, rtol=1e-5)


@pytest.mark.parametrize("change, reason", [
    (lambda t: t[:len(t) - 30], "frame 2: has"), (lambda t: t[:t.index("0 90")], "has 3 frames, and holds 0"),
    (lambda t: t[:200], "MOTION"), (lambda t: t.replace("Frames: 3", "Frames: 4"), "4 frames, and holds 3"),
    (lambda t: t.replace("Frames: 3", "Frames: 1e9"), "'1e9' frames"),
    (lambda t: t.replace("OFFSET 5", "OFFSET x"), "offset"),
    (lambda t: t.replace("CHANNELS 6", "CHANNELS 7"), "channels"),
    (lambda t: t.replace("1 90 2", "1 inf 2"), "frame 1"),
    (lambda t: t.replace("}\nMOTION", "MOTION"), "brace"), (lambda t: t.replace("HIERARCHY", "BVH"), "begins with"),
    (lambda t: t.replace("Zrotation", "Wrotation"), "Wrotation"),
    (lambda t: t.replace("JOINT LeftArm", "ROOT b"), "ROOT"),
    (lambda t: t.replace("1 90 2", "1 word 2"), "not a number"), (lambda t: "", "MOTION"),
    (lambda t: t.replace("Frame Time", "Time"), "Frame Time"),
], ids=range(15))
def test_damage_in_bvh_is_named(tmp_path, change, reason):
    (tmp_path / "a.bvh").write_text(change(BVH))
    assert reason in refusal(tmp_path / "a.bvh")


@pytest.mark.parametrize("frame, missing", [
    ("1 nan 2  90 0 0  0 0 0  0 0 0", [0, 1, 2, 3]), ("1 90 2  90 0 -nan(ind)  0 0 0  0 0 0", [1, 2, 3]),
    ("1 90 2  90 0 0  0 0 0  0 1.#QNAN 0", [3])])
def test_nan_in_bvh_is_missing_joints(tmp_path, frame, missing):
    path = tmp_path / "walk.bvh"
    path.write_text(BVH.replace("1 90 2  90 0 0  0 0 0  0 0 0", frame))
    expected = np.float32(PLACES)
    expected[1, missing] = 0
    np.testing.assert_allclose(read_clip(path)[0], expected, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Acclaim
# ---------------------------------------------------------------------------------------------------------------------

ASF = """# made by hand
:version 1.10
:name made
:units
  mass 1.0
  length 0.5
  angle deg
:documentation
   none
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name lhumerus
     direction 1 0 0
     length 2
     axis 0 0 90 XYZ
    dof rx rz
    limits (-180.0 180.0)
           (-180.0 180.0)
  end
  begin
     id 2
     name lradius
     direction 0 -1 0
     length 3
     axis 0 0 0 XYZ
  end
:hierarchy
  begin
    root lhumerus
    lhumerus lradius
  end
"""
AMC = """#!OML:ASF made.ASF
:FULLY-SPECIFIED
:DEGREES
1
root 0 10 0 0 0 0
lhumerus 0 0
2
root 0 10 0 0 90 0
lhumerus 0 0
3
root 1 10 2 0 0 0
lhumerus 90 0
"""
INCHES = 0.0254 / 0.5
ENDS = [[[0, 10, 0], [2, 10, 0], [2, 7, 0]],            # at rest
        [[0, 10, 0], [0, 10, -2], [0, 7, -2]],          # all of it turned by 90 degrees about y
        [[1, 10, 2], [1, 10, 0], [1, 7, 0]]]            # the humerus about its own x, which is the world's y


def acclaim(folder, amc: str = AMC, asf: str = ASF):
    (folder / "07.asf").write_text(asf)
    (folder / "07_01.amc").write_text(amc)
    return folder / "07_01.amc"


def test_amc_gives_the_ends_of_its_bones_in_metres(tmp_path):
    path = acclaim(tmp_path)
    np.testing.assert_allclose(read_clip(path)[0], np.array(ENDS) * INCHES, atol=1e-6)
    body = known_body(path).skeleton
    assert body.joints == ("mid hip", "left elbow", "left wrist") and body.parents == (0, 0, 1)
    assert skeleton_of_format(path) == "asf3"


def test_axis_order_and_a_turned_root_are_as_other_parsers_have(tmp_path):
    def turned(rx, ry, rz) -> np.ndarray:
        x, y, z = np.deg2rad([rx, ry, rz])
        one = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
        two = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        three = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
        return three @ two @ one

    asf = ASF.replace("axis 0 0 90 XYZ", "axis 10 20 30 XYZ").replace("dof rx rz", "dof rx ry rz")
    amc = "1\nroot 1 2 3 40 50 60\nlhumerus 15 25 35\n"
    x = read_clip(acclaim(tmp_path, amc, asf))[0, 0] / INCHES
    C = turned(10, 20, 30)
    bone = turned(40, 50, 60) @ C @ turned(15, 25, 35) @ C.T
    np.testing.assert_allclose(x[1] - x[0], bone @ [2, 0, 0], atol=1e-5)
    np.testing.assert_allclose(x[2] - x[1], bone @ [0, -3, 0], atol=1e-5)


@pytest.mark.parametrize("frame, missing", [
    ("root 1 nan 2 0 0 0\nlhumerus 90 0", [0, 1, 2]), ("root 1 10 2 0 0 0\nlhumerus 90 -1.#IND", [1, 2])])
def test_nan_in_amc_is_missing_joints(tmp_path, frame, missing):
    path = acclaim(tmp_path, AMC.replace("root 1 10 2 0 0 0\nlhumerus 90 0", frame))
    expected = np.array(ENDS) * INCHES
    expected[2, missing] = 0
    np.testing.assert_allclose(read_clip(path)[0], expected, atol=1e-6)


@pytest.mark.parametrize("amc, asf, reason", [
    (AMC[:-3], ASF, "line 12: lhumerus has '90' where 2"), ("", ASF, "no frame"),
    (AMC.replace("lhumerus 90 0", "rhumerus 90 0"), ASF, "'rhumerus' is no bone"),
    (AMC.replace("lhumerus 90 0", "lhumerus 90 inf"), ASF, "numbers must be"), (AMC[30:], ASF, "line"),
    (AMC, ASF[:300], "hierarchy"), (AMC, ASF.replace("length 0.5", "length 0"), "length"),
    (AMC, ASF.replace("axis 0 0 90 XYZ", "axis 0 0 90 XXZ"), "axis order"), (AMC, "", "bonedata"),
    (AMC, ASF.replace("    lhumerus lradius", "    lhumerus root"), "twice"),
    (AMC, ASF.replace("dof rx rz", "dof rx l"), "degree of freedom"),
    (AMC, ASF.replace("direction 1 0 0", "direction 1"), "3 numbers"),
    (AMC, ASF.replace("direction 1 0 0", "direction 1 nan 0"), "3 numbers"),
], ids=range(13))
def test_damage_in_amc_or_its_asf_is_named(tmp_path, amc, asf, reason):
    assert reason in refusal(acclaim(tmp_path, amc, asf))


def test_an_amc_without_its_asf_says_what_must_be_beside_it(tmp_path):
    path = acclaim(tmp_path)
    (tmp_path / "07.asf").rename(tmp_path / "other.asf")
    read_clip(path)  # the only one
    (tmp_path / "third.asf").write_text(ASF)
    assert "07_01.asf must be beside it (there: other.asf, third.asf)" in refusal(path)


# ---------------------------------------------------------------------------------------------------------------------
# Names
# ---------------------------------------------------------------------------------------------------------------------

BONES = ("Hips LeftUpLeg LeftLeg LeftFoot LeftToeBase RightUpLeg RightLeg RightFoot RightToeBase Spine Spine1 Neck "
         "Head LeftShoulder LeftArm LeftForeArm LeftHand RightShoulder RightArm RightForeArm RightHand").split()
PARENTS = [0, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 10, 13, 14, 15, 10, 17, 18, 19]


@pytest.mark.parametrize("prefix", ["", "mixamorig:"])
def test_usual_names_of_bones_become_those_of_joints(prefix):
    body = named_body("bvh21", joints_of_begins([prefix + bone for bone in BONES]), PARENTS)
    assert body.joints[14:17] == ("left shoulder", "left elbow", "left wrist") and body.joints[1] == "left hip"
    assert body.trunk == ([14], [18], [1], [5]) and len(body.pairs) == 8
    assert set(body.regions) == {"left_arm", "right_arm", "left_leg", "right_leg", "torso"}
    assert means(body.joints, SKELETONS["kinect20"].joints), "other skeletons can be made of it"

    # what is no usual name stays
    assert joints_of_begins(["a", "LeftArm"]) == ["a", "LeftArm"]
    assert joints_of_ends(["root", "a"]) == ["root", "a"]
