"""A skeleton of the joints and parents that a file names: regions and usual names follow from these. numpy only.

Motion capture names bones. The joint of a bone in BVH is where the bone begins: LeftArm begins at the shoulder,
LeftUpLeg at the hip. A bone in ASF is known by where it ends: lhumerus ends at the elbow. Such names become those of
the joints, so that trunks are found, left and right are paired and other skeletons can be made of these.
"""
from __future__ import annotations

from collections.abc import Sequence

from skeletons import Skeleton, spelled

BEGINS = {  # BVH: bone -> the joint where it begins, for names as in Motion Builder, Mixamo, CMU's and LAFAN1's files
    "left shoulder": "left collar", "left arm": "left shoulder", "left up arm": "left shoulder",
    "left fore arm": "left elbow", "left hand": "left wrist",
    "left hip joint": "left pelvis", "left up leg": "left hip", "left leg": "left knee", "left foot": "left ankle",
    "left toe base": "left foot", "left toe": "left foot", "hips": "mid hip"}
ENDS = {  # ASF: bone -> the joint where it ends, for names as in CMU's and HDM05's files
    "root": "mid hip", "lhipjoint": "left hip", "lfemur": "left knee", "ltibia": "left ankle", "lfoot": "left foot",
    "ltoes": "left toe end", "lclavicle": "left shoulder", "lhumerus": "left elbow", "lradius": "left wrist",
    "lwrist": "left hand", "lhand": "left hand end", "lfingers": "left hand tip", "lthumb": "left thumb",
    "lowerback": "spine", "thorax": "thorax", "lowerneck": "neck", "head": "head"}


def named_body(name: str, joints: Sequence[str], parents: Sequence[int]) -> Skeleton:
    """The skeleton `name` of joints and their parents; ValueError if these are none."""
    body = Skeleton(name, tuple(joints), tuple(parents), {"body": tuple(range(len(joints)))})
    regions: dict[str, list[int]] = {}
    for v in range(len(joints)):
        regions.setdefault(region_of(body, v), []).append(v)
    return Skeleton(name, body.joints, body.parents, {key: tuple(found) for key, found in regions.items()})


def region_of(body: Skeleton, joint: int) -> str:
    """The region of a joint: an arm from its shoulder on, a leg from its hip on, else the torso."""
    for _ in body.joints:
        name = spelled(body.joints[joint])
        for side in ("left", "right"):
            if name == f"{side} shoulder":
                return f"{side}_arm"
            if name == f"{side} hip":
                return f"{side}_leg"
        joint = body.parents[joint]
    return "torso"


def tree_of(joints: Sequence[str], bones: Sequence[tuple[int, int]]) -> list[int]:
    """The parents of joints that bones join, in any direction, as seen from the first joint.

    ValueError if they do not join all joints.
    """
    near: list[set[int]] = [set() for _ in joints]
    for one, other in bones:
        near[one].add(other)
        near[other].add(one)

    # outwards from the first joint
    parents = [-1] * len(joints)
    parents[0] = 0
    reached = [0]
    for joint in reached:
        for other in sorted(near[joint]):
            if parents[other] < 0:
                parents[other] = joint
                reached.append(other)

    if len(reached) < len(joints):
        alone = next(name for name, parent in zip(joints, parents, strict=True) if parent < 0)
        raise ValueError(f"no bone joins {alone} to {joints[0]}")
    return parents


# ---------------------------------------------------------------------------------------------------------------------
# Names of bones -> names of joints
# ---------------------------------------------------------------------------------------------------------------------

def joints_of_begins(bones: Sequence[str]) -> list[str]:
    """The joints where the bones of BVH begin, if the bones have usual names; else the names as they are."""
    plain = [spelled(bone.rpartition(":")[2]) for bone in bones]  # mixamorig:LeftArm
    usual = {"left arm", "left fore arm"} <= set(plain)
    return all_different(renamed(plain, BEGINS)) if usual else list(bones)


def joints_of_ends(bones: Sequence[str]) -> list[str]:
    """The joints where the bones of ASF end, if the bones have usual names; else the names as they are."""
    plain = [bone.lower() for bone in bones]
    sided = ENDS | {"r" + bone[1:]: joint.replace("left", "right") for bone, joint in ENDS.items() if "left" in joint}
    usual = {"lhumerus", "lradius"} <= set(plain)
    return all_different([sided.get(bone, bone) for bone in plain]) if usual else list(bones)


def renamed(bones: Sequence[str], names: dict[str, str]) -> list[str]:
    """The joints of bones, by the names of those on the left side."""
    found = []
    for bone in bones:
        joint = names.get(bone.replace("right", "left"), bone)
        found.append(joint.replace("left", "right") if bone.startswith("right") else joint)
    return found


def all_different(names: Sequence[str]) -> list[str]:
    """The names, the second one of the same name with a 2 behind it, and so on."""
    found: list[str] = []
    for name in names:
        times = 1
        while (name if times == 1 else f"{name} {times}") in found:
            times += 1
        found.append(name if times == 1 else f"{name} {times}")
    return found
