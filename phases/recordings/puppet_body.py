"""The puppet's body: poses -> joints of a Kinect v2, by limbs that bend towards their targets."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from phases.recordings.puppet_moves import CHEST, FOOT, FOOT2, HAND, HAND2, HEAD, HIPS, ROOT


class Limbs(NamedTuple):
    """Lengths in metres; `out` is to the side."""
    mid: float              # pelvis to mid spine
    chest: float            # mid spine to shoulder line
    neck: float
    head: float
    shoulder_out: float
    shoulder_up: float
    upper_arm: float
    forearm: float
    hip_out: float
    hip_up: float
    thigh: float
    shin: float
    ankle: float            # above the floor
    foot: float
    hand: float
    tip: float              # of the fingers
    thumb: float

    @property
    def arm(self) -> float:
        return self.upper_arm + self.forearm

    @property
    def leg(self) -> float:
        return self.thigh + self.shin


# of a person of 1.65 m, in the order of Limbs
LIMBS = np.array([.28, .21, .07, .125, .16, -.05, .25, .225, .075, -.03, .36, .36, .075, .115, .065, .065, .05])
MIRROR = np.array([0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22])

# A joint's orientation is that of the bone from its parent.
PARENT = np.array([0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11])


class Side(NamedTuple):
    """One side of the body: its sign of x, its rows of a pose, its first joints; a limb's joints count outward."""
    sign: int
    hand: int
    foot: int
    shoulder: int
    tip: int                # the thumb is the next
    hip: int


RIGHT = Side(1, HAND, FOOT, 8, 23, 16)
LEFT = Side(-1, HAND2, FOOT2, 4, 21, 12)


def joints_of_poses(pose: np.ndarray, body: np.ndarray, swivel: float) -> np.ndarray:
    """Joints (T, 25, 3), metres, of poses (T, 8, 3): at the origin, looking along -z, x to the right, y up.

    body has lengths as LIMBS; swivel turns the elbows outward.
    """
    limbs = Limbs(*body)
    place = pose * (1, 1, -1)
    hips = rotations(pose[:, HIPS])
    torso = hips @ rotations(pose[:, CHEST])

    J = np.zeros((len(pose), 25, 3))
    set_spine(J, pose, hips, torso, limbs)
    for side in (RIGHT, LEFT):
        set_arm(J, side, place[:, side.hand], torso, limbs, swivel)
        set_leg(J, side, place[:, side.foot], hips, limbs)
    return J


def set_spine(J: np.ndarray, pose: np.ndarray, hips: np.ndarray, torso: np.ndarray, limbs: Limbs) -> None:
    """The pelvis above the floor, and from it up to the head; half of the chest's turn is in the mid spine."""
    spine = hips @ rotations(pose[:, CHEST] / 2)
    root = pose[:, ROOT] * (1, 1, -1)
    J[:, 0] = root * limbs.leg + (0, limbs.ankle + 0.985 * limbs.leg - limbs.hip_up, 0)
    J[:, 1] = J[:, 0] + hips @ (0, limbs.mid, 0)
    J[:, 20] = J[:, 1] + spine @ (0, limbs.chest, 0)
    J[:, 2] = J[:, 20] + torso @ (0, limbs.neck, 0)
    J[:, 3] = J[:, 2] + (torso @ rotations(pose[:, HEAD])) @ (0, limbs.head, -0.1 * limbs.head)


def set_arm(J: np.ndarray, side: Side, place: np.ndarray, torso: np.ndarray, limbs: Limbs, swivel: float) -> None:
    """Shoulder, elbow, wrist, hand, finger tip and thumb; the hand's place (T, 3) is in the torso's axes."""
    s = side.shoulder
    own = np.array((side.sign, 1, 1))
    J[:, s] = J[:, 20] + torso @ (side.sign * limbs.shoulder_out, limbs.shoulder_up, 0)

    # the wrist is where the pose has it; the elbow points out, down and back
    wrist = J[:, s] + np.einsum("tij,tj->ti", torso, place * own * limbs.arm)
    pole = torso @ (own * (0.5 + swivel, -0.7, 0.8))
    J[:, s + 1], J[:, s + 2], bend = limb(J[:, s], wrist, limbs.upper_arm, limbs.forearm, pole)

    # the hand continues the forearm, the thumb is at an angle to it
    along = (J[:, s + 2] - J[:, s + 1]) / limbs.forearm
    up = -bend + (bend * along).sum(1, keepdims=True) * along
    J[:, s + 3] = J[:, s + 2] + limbs.hand * along
    J[:, side.tip] = J[:, s + 3] + limbs.tip * along
    thumb = 0.6 * along + 0.8 * up / np.linalg.norm(up, axis=1, keepdims=True)
    J[:, side.tip + 1] = J[:, s + 3] + limbs.thumb * thumb


def set_leg(J: np.ndarray, side: Side, place: np.ndarray, hips: np.ndarray, limbs: Limbs) -> None:
    """Hip, knee, ankle and foot; the ankle's place (T, 3) is on the floor's axes."""
    k = side.hip
    own = np.array((side.sign, 1, 1))
    J[:, k] = J[:, 0] + hips @ (side.sign * limbs.hip_out, limbs.hip_up, 0)

    # the ankle is where the pose has it; the knee points forward
    sole = np.array((side.sign * (limbs.hip_out + 0.03), limbs.ankle, 0)) + place * own * limbs.leg
    pole = np.array((side.sign * 0.15, 0.2, -1))
    J[:, k + 1], J[:, k + 2], _ = limb(J[:, k], sole, limbs.thigh, limbs.shin, pole)

    # toes point down as the foot lifts
    droop = np.clip(0.5 + 1.2 * place[:, 1], 0.5, 1.1)[:, None]
    toes = (side.sign * 0.2 * np.cos(droop), -np.sin(droop), -0.96 ** 0.5 * np.cos(droop))
    J[:, k + 3] = J[:, k + 2] + limbs.foot * np.concatenate(toes, 1)


def rotations(angles: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) that bow forward, turn and tilt by angles (T, 3); x is right, y up, z backward."""
    (c, d, e), (s, r, q) = np.cos(angles).T, np.sin(angles).T
    o = np.ones_like(c)
    z = np.zeros_like(c)
    bow = np.stack([o, z, z, z, c, s, z, -s, c], -1).reshape(-1, 3, 3)
    turn = np.stack([d, z, -r, z, o, z, r, z, d], -1).reshape(-1, 3, 3)
    tilt = np.stack([e, q, z, -q, e, z, z, z, o], -1).reshape(-1, 3, 3)
    return turn @ bow @ tilt


def limb(start: np.ndarray, end: np.ndarray, a: float, b: float, pole: np.ndarray) -> tuple[np.ndarray, ...]:
    """A limb of two bones of lengths a and b that reaches from start towards end and bends towards pole (T, 3).

    Returns its middle joint, its end, and the unit vector of the bend, all (T, 3).
    """
    way = end - start
    reach = np.linalg.norm(way, axis=1, keepdims=True)
    way = way / reach
    r = np.clip(reach, 0.45 * (a + b), 0.992 * (a + b))  # neither folded flat nor locked

    # the middle joint is beside the way, towards the pole
    along = (a * a - b * b + r * r) / (2 * r)
    bend = pole - (pole * way).sum(1, keepdims=True) * way
    bend /= np.linalg.norm(bend, axis=1, keepdims=True)
    return start + along * way + np.sqrt(a * a - along * along) * bend, start + r * way, bend


def turned(joints: np.ndarray, angle: float) -> np.ndarray:
    """Joints turned about the vertical axis by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return joints @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
