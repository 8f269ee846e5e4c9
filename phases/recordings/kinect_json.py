"""The JSON that Azure Kinect's sample `offline_processor` writes: names, bones, and joints in millimetres per frame.

    {"joint_names": ["PELVIS", ...], "bone_list": [["SPINE_CHEST", "SPINE_NAVEL"], ...],
     "frames": [{"frame_id", "num_bodies", "bodies": [{"body_id", "joint_positions": [[x, y, z], ...], ...}]}]}

Its axes are the depth camera's, x to the right, y down, z away: clips are read in metres with y up. numpy only.
"""
from __future__ import annotations

import numpy as np

from phases.common.limits import JOINTS
from phases.recordings.metres import Recorded, as_joints, in_metres
from phases.recordings.named_body import named_body, tree_of
from phases.recordings.tracked import Tracked, rows_by_number
from skeletons import SKELETONS, Skeleton

RECORDED = Recorded(unit="mm", up="-y")
SDK = ("PELVIS SPINE_NAVEL SPINE_CHEST NECK CLAVICLE_LEFT SHOULDER_LEFT ELBOW_LEFT WRIST_LEFT HAND_LEFT HANDTIP_LEFT "
       "THUMB_LEFT CLAVICLE_RIGHT SHOULDER_RIGHT ELBOW_RIGHT WRIST_RIGHT HAND_RIGHT HANDTIP_RIGHT THUMB_RIGHT HIP_LEFT "
       "KNEE_LEFT ANKLE_LEFT FOOT_LEFT HIP_RIGHT KNEE_RIGHT ANKLE_RIGHT FOOT_RIGHT HEAD NOSE EYE_LEFT EAR_LEFT "
       "EYE_RIGHT EAR_RIGHT")  # the joints of the body tracking SDK, in its order


def is_kinect(value: object) -> bool:
    return isinstance(value, dict) and "joint_names" in value and "frames" in value


def clip_of_kinect(value: dict, ids: list | None = None) -> np.ndarray:
    """Joints (M, L, V, 3) in metres, y up, of such a JSON value; ValueError says what is wrong. ids: body_id of each.
    """
    V = len(joint_names(value))
    frames = value["frames"]
    if not isinstance(frames, list) or not frames:
        raise ValueError("holds no frames")
    tracked = []
    for t, frame in enumerate(frames):
        try:
            tracked.append(bodies_of_frame(frame, V))
        except (ValueError, TypeError, KeyError) as e:
            raise ValueError(f"frame {t}: {f'lacks {e}' if isinstance(e, KeyError) else e}") from None
    return in_metres(as_joints(rows_by_number(tracked, ids)), RECORDED, None)


def bodies_in_metres(frame: dict, V: int) -> tuple[tuple[int, ...], np.ndarray]:
    """(body_id of each body, joints (M, V, 3) in metres, y up) of one frame."""
    tracked = bodies_of_frame(frame, V)
    joints = np.zeros((len(tracked), 1, V, 3), np.float32)
    for m, (_, body) in enumerate(tracked):
        joints[m, 0] = body
    joints = in_metres(as_joints(joints), RECORDED, None) if tracked else joints
    return tuple(number for number, _ in tracked), joints[:, 0]


def bodies_of_frame(frame: dict, V: int) -> Tracked:
    """The bodies of a frame by their ids, each (V, 3)."""
    if not isinstance(frame, dict) or not isinstance(frame.get("bodies"), list):
        raise ValueError("must be a table with a list of bodies")
    found: Tracked = []
    for body in frame["bodies"]:
        joints = np.asarray(body["joint_positions"], np.float32)
        if joints.shape != (V, 3):
            raise ValueError(f"a body has joint_positions of shape {joints.shape}: must be {(V, 3)}")
        found.append((int(body["body_id"]), joints))
    return found


def skeleton_of_kinect(value: dict) -> Skeleton:
    """The skeleton that the names and bones of such a JSON value spell out."""
    names = joint_names(value)
    number = {name: v for v, name in enumerate(names)}
    try:
        bones = [(number[one], number[other]) for one, other in value["bone_list"]]
    except (KeyError, TypeError, ValueError) as e:
        raise ValueError(f"bone_list must be pairs of joint_names ({e})") from None
    usual = SKELETONS.get("azure32")
    if usual and names == SDK.split():
        return usual
    joints = [name.lower().replace("_", " ") for name in names]
    return named_body(f"azure{len(names)}", joints, tree_of(names, bones))


def joint_names(value: dict) -> list[str]:
    names = value["joint_names"]
    if not isinstance(names, list) or not 2 <= len(names) <= JOINTS or not all(isinstance(n, str) for n in names):
        raise ValueError(f"joint_names must be a list of 2 to {JOINTS} names")
    return names
