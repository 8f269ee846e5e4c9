"""Synthetic clips: a puppet with the 25 joints of Kinect v2 acts, three cameras record it, the files are NTU text.

With them the whole pipeline runs on any machine without a download. They are a demonstration, never a result: every
table marks them.
"""
from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np

# ---------------------------------------------------------------------------------------------------------------------
# Actions
# ---------------------------------------------------------------------------------------------------------------------

# A pose has eight rows of three numbers.
#     ROOT, FOOT, FOOT2   pelvis and ankles, from their place at rest, in leg lengths: out to their side, up, forward
#     HAND, HAND2         wrists, from their shoulder, in arm lengths: out to their side, up, forward
#     HIPS, CHEST, HEAD   radians: bow forward, turn, tilt to the side of HAND
# HAND and FOOT are on the right; left-handers are mirrored.
ROOT, HIPS, CHEST, HEAD, HAND, HAND2, FOOT, FOOT2 = range(8)
REST = np.zeros((8, 3))
REST[HAND] = REST[HAND2] = 0.16, -0.93, 0.08
SEAT, LAP = (0, -0.46, -0.5), (-0.02, -0.62, 0.48)


# HAND2 while HAND acts: it hangs (in three of five clips), is on the hip, or in front of the belly.
IDLE = ((0, 0, 0), (0, 0, 0), (0, 0, 0), (-0.05, 0.2, 0.12), (-0.5, 0.42, 0.25))
STAY = (2, 2)  # a move with these last two times stays until the end


# A move pulls a part to a pose: (part, pose, start, arrival, release, end), times as shares of the clip. A seventh
# entry makes it a swing: the part oscillates about its place, that many times between start and end.
DRINK = [
    (HAND, (-0.32, 0.06, 0.31), .08, .38, .66, .92), (HEAD, (-0.3, 0, 0), .36, .48, .6, .72)]
PICK_UP = [
    (HIPS, (0.95, 0, 0), .08, .45, .55, .92), (CHEST, (0.75, 0, 0), .08, .45, .55, .92),
    (ROOT, (0, -0.52, -0.25), .08, .45, .55, .92), (HEAD, (-0.3, 0, 0), .1, .4, .55, .9),
    (HAND, (-0.15, -0.1, 0.98), .12, .43, .55, .9), (HAND2, (0, -0.45, 0.6), .12, .43, .55, .9)]
THROW = [
    (HAND, (0.42, 0.45, -0.3), .08, .36, .42, .5), (CHEST, (-0.1, 0.5, 0.1), .08, .36, .42, .52),
    (HAND2, (-0.05, -0.25, 0.7), .1, .36, .42, .6), (FOOT2, (0, 0, 0.4), .3, .46, *STAY),
    (FOOT2, (0, 0.12, 0.25), .28, .38, .4, .47), (ROOT, (0, -0.04, 0.25), .32, .5, *STAY),
    (CHEST, (0.3, -0.5, 0), .42, .54, .62, .9), (HAND, (-0.15, 0.1, 0.97), .44, .53, .56, .75)]
SIT_DOWN = [
    (ROOT, SEAT, .12, .72, *STAY), (HIPS, (0.75, 0, 0), .1, .42, .48, .85),
    (HAND, LAP, .2, .75, *STAY), (HAND2, LAP, .2, .75, *STAY)]
STAND_UP = [
    (ROOT, SEAT, -2, -1, .22, .82), (HIPS, (0.8, 0, 0), .06, .34, .42, .8),
    (HAND, LAP, -2, -1, .25, .8), (HAND2, LAP, -2, -1, .25, .8)]
CLAP = [
    (HAND, (-0.12, -0.22, 0.58), .04, .2, .82, .98), (HAND, (0.2, 0, 0), .12, .24, .78, .9, 5),
    (HAND2, (-0.12, -0.22, 0.58), .04, .2, .82, .98), (HAND2, (0.2, 0, 0), .12, .24, .78, .9, 5)]
WAVE = [
    (HAND, (0.28, 0.72, 0.22), .05, .26, .78, .96), (HAND, (0.36, -0.1, 0), .18, .3, .74, .86, 4),
    (CHEST, (0, 0, -0.06), .05, .26, .78, .96)]
KICK = [
    (FOOT, (0.02, 0.16, -0.4), .15, .34, .38, .46), (FOOT, (-0.05, 0.42, 0.85), .4, .52, .56, .8),
    (HIPS, (-0.2, 0, 0), .4, .52, .58, .8), (HIPS, (0.15, 0, 0), .12, .32, .36, .46),
    (ROOT, (-0.08, -0.01, 0), .1, .25, .75, .95), (HAND2, (0.3, -0.55, 0.55), .36, .52, .58, .85),
    (HAND, (0.4, -0.7, -0.35), .36, .52, .58, .85)]
JUMP = [
    (ROOT, (0, -0.26, -0.08), .06, .3, .36, .44), (HIPS, (0.45, 0, 0), .06, .3, .36, .44),
    (ROOT, (0, 0.36, 0), .4, .53, .55, .68),
    (FOOT, (0, 0.34, -0.03), .42, .53, .55, .66), (FOOT2, (0, 0.34, -0.03), .42, .53, .55, .66),
    (ROOT, (0, -0.2, -0.06), .66, .73, .76, .95), (HIPS, (0.35, 0, 0), .66, .73, .76, .95),
    (HAND, (0.25, -0.8, -0.42), .06, .28, .34, .44), (HAND2, (0.25, -0.8, -0.42), .06, .28, .34, .44),
    (HAND, (0.2, 0.3, 0.75), .4, .52, .58, .8), (HAND2, (0.2, 0.3, 0.75), .4, .52, .58, .8)]
SHAKE = [
    (HAND, (-0.33, -0.38, 0.68), .08, .34, .78, .97), (HAND, (0, 0.12, 0), .32, .4, .72, .8, 4),
    (HIPS, (0.12, 0, 0), .08, .34, .78, .97)]
HUG = [
    (ROOT, (0, 0, 0.42), .12, .42, *STAY), (FOOT, (0, 0, 0.42), .1, .28, *STAY),
    (FOOT, (0, 0.12, 0.2), .1, .18, .2, .29), (HIPS, (0.12, 0, 0), .3, .5, .9, 1),
    (FOOT2, (0, 0, 0.36), .28, .46, *STAY), (FOOT2, (0, 0.12, 0.2), .28, .36, .38, .47),
    (HAND, (0.35, -0.1, 0.8), .1, .32, .36, .55), (HAND2, (0.35, -0.1, 0.8), .1, .32, .36, .55),
    (HAND, (-0.42, -0.12, 0.75), .4, .58, .85, 1.1), (HAND2, (-0.42, -0.4, 0.72), .4, .58, .85, 1.1)]
PUSH = [
    (HAND, (0.1, -0.22, 0.4), .06, .28, .34, .46), (HAND2, (0.1, -0.22, 0.4), .06, .28, .34, .46),
    (HAND, (-0.1, -0.02, 0.97), .36, .47, .53, .78), (HAND2, (-0.1, -0.02, 0.97), .36, .47, .53, .78),
    (FOOT2, (0, 0, 0.35), .26, .44, *STAY), (FOOT2, (0, 0.1, 0.2), .26, .34, .36, .45),
    (ROOT, (0, -0.05, 0.25), .3, .48, *STAY), (HIPS, (0.2, 0, 0), .34, .47, .55, .85)]
PUSHED = [
    (HIPS, (-0.25, 0, 0), .44, .56, .6, .85), (HEAD, (0.3, 0, 0), .44, .52, .56, .7),
    (ROOT, (0, -0.05, -0.45), .45, .66, *STAY),
    (FOOT2, (0, 0, -0.55), .46, .6, *STAY), (FOOT2, (0, 0.12, -0.3), .46, .52, .54, .61),
    (FOOT, (0, 0, -0.36), .6, .74, *STAY), (FOOT, (0, 0.1, -0.2), .6, .66, .68, .75),
    (HAND, (0.35, -0.35, 0.55), .44, .56, .62, .85), (HAND2, (0.35, -0.35, 0.55), .44, .56, .62, .85)]
SYNTHETIC = {  # name: (moves, moves of the other person or None, metres between the two)
    "drink water": (DRINK, None, 0), "pick up": (PICK_UP, None, 0), "throw": (THROW, None, 0),
    "sit down": (SIT_DOWN, None, 0), "stand up": (STAND_UP, None, 0), "clapping": (CLAP, None, 0),
    "hand waving": (WAVE, None, 0), "kicking something": (KICK, None, 0), "jump up": (JUMP, None, 0),
    "shaking hands": (SHAKE, SHAKE, 0.86), "hugging": (HUG, HUG, 1.0), "pushing": (PUSH, PUSHED, 0.95)}
SYNTHETIC_ACTIONS = tuple(SYNTHETIC)
SYNTHETIC_VERSION = 2
SUBJECTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14)  # xsub trains on eight; both of its sides have odd and even setups


# ---------------------------------------------------------------------------------------------------------------------
# Puppet
# ---------------------------------------------------------------------------------------------------------------------

# Metres of a person of 1.65 m: pelvis to mid spine, mid spine to shoulder line, neck, head, shoulder (out, up), upper
# arm, forearm, hip (out, up), thigh, shin, ankle above the floor, foot, hand, finger tip, thumb.
LIMBS = np.array([.28, .21, .07, .125, .16, -.05, .25, .225, .075, -.03, .36, .36, .075, .115, .065, .065, .05])
MIRROR = np.array([0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22])


# A joint's orientation is that of the bone from its parent.
PARENT = np.array([0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11])


def _bump(u: np.ndarray, t0: float, t1: float, t2: float, t3: float) -> np.ndarray:
    """0 before t0, 1 from t1 to t2, 0 after t3, with minimum-jerk ramps between."""
    a, b = np.clip((u - t0) / (t1 - t0), 0, 1), np.clip((u - t2) / (t3 - t2) if t3 > t2 else u * 0, 0, 1)
    return a ** 3 * (10 - 15 * a + 6 * a * a) * (1 - b ** 3 * (10 - 15 * b + 6 * b * b))


def _frame(angles: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) that bow forward, turn and tilt by angles (T, 3); x is right, y up, z backward."""
    (c, d, e), (s, r, q) = np.cos(angles).T, np.sin(angles).T
    o, z = np.ones_like(c), np.zeros_like(c)
    bow, turn, tilt = ([o, z, z, z, c, s, z, -s, c], [d, z, -r, z, o, z, r, z, d], [e, q, z, -q, e, z, z, z, o])
    bow, turn, tilt = (np.stack(rows, -1).reshape(-1, 3, 3) for rows in (bow, turn, tilt))
    return turn @ bow @ tilt


def _limb(start: np.ndarray, end: np.ndarray, a: float, b: float, pole: np.ndarray) -> tuple[np.ndarray, ...]:
    """A limb of two bones of lengths a and b that reaches from start towards end and bends towards pole (T, 3).

    Returns its middle joint, its end, and the unit vector of the bend, all (T, 3).
    """
    way = end - start
    reach = np.linalg.norm(way, axis=1, keepdims=True)
    way, r = way / reach, np.clip(reach, 0.45 * (a + b), 0.992 * (a + b))  # neither folded flat nor locked
    along = (a * a - b * b + r * r) / (2 * r)
    bend = pole - (pole * way).sum(1, keepdims=True) * way
    bend /= np.linalg.norm(bend, axis=1, keepdims=True)
    return start + along * way + np.sqrt(a * a - along * along) * bend, start + r * way, bend


def _puppet(pose: np.ndarray, body: np.ndarray, swivel: float) -> np.ndarray:
    """Joints (T, 25, 3), metres, of poses (T, 8, 3); it stands at the origin and looks along -z, x to its right, y up.

    body has lengths as LIMBS; swivel turns the elbows outward.
    """
    mid, chest, neck, head, sh_out, sh_up, upper, fore = body[:8]
    hip_out, hip_up, thigh, shin, ankle, foot, hand, tip, thumb = body[8:]
    J, leg, arm = np.zeros((len(pose), 25, 3)), thigh + shin, upper + fore
    place = pose * (1, 1, -1)
    hips = _frame(pose[:, HIPS])
    spine, torso = hips @ _frame(pose[:, CHEST] / 2), hips @ _frame(pose[:, CHEST])
    J[:, 0] = place[:, ROOT] * leg + (0, ankle + 0.985 * leg - hip_up, 0)
    J[:, 1] = J[:, 0] + hips @ (0, mid, 0)
    J[:, 20] = J[:, 1] + spine @ (0, chest, 0)
    J[:, 2] = J[:, 20] + torso @ (0, neck, 0)
    J[:, 3] = J[:, 2] + (torso @ _frame(pose[:, HEAD])) @ (0, head, -0.1 * head)
    # s shoulder, e finger tip (the thumb is e + 1), k hip; the joints of a limb are numbered outward
    for side, s, e, k, h in ((1, 8, 23, 16, (HAND, FOOT)), (-1, 4, 21, 12, (HAND2, FOOT2))):
        own = np.array((side, 1, 1))
        J[:, s] = J[:, 20] + torso @ (side * sh_out, sh_up, 0)
        wrist = J[:, s] + np.einsum("tij,tj->ti", torso, place[:, h[0]] * own * arm)
        J[:, s + 1], J[:, s + 2], bend = _limb(J[:, s], wrist, upper, fore, torso @ (own * (0.5 + swivel, -0.7, 0.8)))
        along = (J[:, s + 2] - J[:, s + 1]) / fore
        up = -bend + (bend * along).sum(1, keepdims=True) * along
        J[:, s + 3] = J[:, s + 2] + hand * along
        J[:, e] = J[:, s + 3] + tip * along
        J[:, e + 1] = J[:, s + 3] + thumb * (0.6 * along + 0.8 * up / np.linalg.norm(up, axis=1, keepdims=True))
        J[:, k] = J[:, 0] + hips @ (side * hip_out, hip_up, 0)
        sole = np.array((side * (hip_out + 0.03), ankle, 0)) + place[:, h[1]] * own * leg
        J[:, k + 1], J[:, k + 2], _ = _limb(J[:, k], sole, thigh, shin, np.array((side * 0.15, 0.2, -1)))
        droop = np.clip(0.5 + 1.2 * pose[:, h[1], 1], 0.5, 1.1)[:, None]  # toes point down as the foot lifts
        toes = (side * 0.2 * np.cos(droop), -np.sin(droop), -0.96 ** 0.5 * np.cos(droop))
        J[:, k + 3] = J[:, k + 2] + foot * np.concatenate(toes, 1)
    return J


# ---------------------------------------------------------------------------------------------------------------------
# Performances
# ---------------------------------------------------------------------------------------------------------------------

def _act(moves: list, rng: np.random.Generator, body: np.ndarray, manner: np.ndarray, T: int, late: float,
         lefty: bool) -> np.ndarray:
    """Joints (T, 25, 3) of one performance: the moves at a person's pace, reach and manner (8, 3), with idle sway."""
    u = np.linspace(rng.uniform(-0.35, 0.02), rng.uniform(0.98, 1.3), T) - late
    u = u + 0.03 * np.sin(2 * np.pi * (u * rng.uniform(0.5, 1.2) + rng.random()))
    pose = np.tile(REST + manner, (T, 1, 1))
    pose[:, HAND2] += IDLE[rng.integers(len(IDLE))]
    gain, size = rng.normal(1, 0.12, (8, 1)), rng.normal(1, 0.08)
    beat, phase, skew = rng.uniform(0.85, 1.2), rng.random(), rng.normal(0, 0.012, 4)
    for part, target, *when in moves:
        if len(when) == 5:  # swing
            swing = np.sin(2 * np.pi * (when[4] * beat * (u - when[0]) / (when[3] - when[0]) + phase))
            pose[:, part] += (_bump(u, *when[:4]) * swing)[:, None] * np.array(target) * gain[part]
            continue
        w = _bump(u, *(np.array(when) + skew * (abs(np.array(when)) < 1.5)))[:, None]
        if part in (HAND, HAND2):
            target = np.array(target) + 0.5 * manner[part] + (gain[part] - 1) * (0.4, 0.4, -0.4)
        else:
            target = np.array(target) * (size if part in (ROOT, FOOT, FOOT2) else gain[part])
        pose[:, part] += w * (target - pose[:, part])
    t = np.arange(T)[:, None, None] / 30  # 30 frames a second
    sway = sum(np.sin(2 * np.pi * (f * t + rng.random((8, 3)))) * rng.normal(0, 1, (8, 3)) for f in (0.4, 0.9, 1.7))
    pose += sway * np.array([.004, .012, .015, .04, .018, .018, 0, 0])[:, None]
    J = _puppet(pose, body, rng.normal(0.1, 0.15))
    return (J * (-1, 1, 1))[:, MIRROR] if lefty else J


def _turn(joints: np.ndarray, angle: float) -> np.ndarray:
    """Joints turned about the vertical axis by an angle in radians."""
    c, s = np.cos(angle), np.sin(angle)
    return joints @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def _person(seed: int, subject: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Limbs (17,), manner (8, 3) and pace of a subject."""
    rng = np.random.default_rng((seed, 1, subject))
    manner = rng.normal(0, 1, (8, 3)) * np.array([0, .04, .04, .08, .06, .06, 0, 0])[:, None]
    manner[[FOOT, FOOT2], 0] = rng.uniform(-0.02, 0.08)  # width of the stance
    return LIMBS * rng.normal(1, 0.07) * rng.normal(1, 0.04, len(LIMBS)), manner, rng.uniform(0.8, 1.25)


def _perform(seed: int, action: int, subject: int, replication: int) -> list[tuple[str, bytes]]:
    """The files of one performance from three cameras: (name, NTU text)."""
    moves, reply, apart = SYNTHETIC[SYNTHETIC_ACTIONS[action]]
    rng, setup = np.random.default_rng((seed, 2, action, subject, replication)), 1 + subject % 6
    body, manner, pace = _person(seed, subject)
    T = int(round(rng.uniform(44, 58) / pace))
    heading = np.radians((-45, 45)[(replication + 1) % 2] + rng.normal(0, 15))  # to camera 2, then to camera 3
    stand = rng.normal(0, 0.15, 3) * (1, 0, 1)
    cast = [_act(moves, rng, body, manner, T, 0, rng.random() < 0.25 and not reply)]  # people shake right hands
    if reply:
        other, theirs, _ = _person(seed, subject + 1000)
        other = other * body[10:12].sum() / other[10:12].sum() * rng.normal(1, 0.03)  # about as tall
        cast.append(_act(reply, rng, other, theirs, T, rng.uniform(0, 0.03), False))
        side, apart = rng.choice((-1, 1)), apart * rng.normal(1, 0.05) / 2
        angles = side * np.pi / 2, -side * np.pi / 2  # face to face
        cast = [_turn(J + (0, 0, apart), angle) for J, angle in zip(cast, angles, strict=True)]
    cast = [_turn(J, heading) + stand for J in cast]
    room = np.random.default_rng((seed, 3, setup))
    height, far, pitch = room.uniform(0.75, 1.15), room.uniform(2.7, 3.5), room.normal(0, 0.03)
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])

    def seen(angle: float, J: np.ndarray) -> np.ndarray:
        return (_turn(J, -np.radians(angle)) + (0, -height, far)) @ tilt

    files = []
    for camera, angle in ((1, 0), (2, -45), (3, 45)):
        rng = np.random.default_rng((seed, 4, action, subject, replication, camera))
        name = f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}A{action + 1:03}"
        files.append((name, _record(cast, partial(seen, angle), rng)))
    return files


# ---------------------------------------------------------------------------------------------------------------------
# Camera
# ---------------------------------------------------------------------------------------------------------------------

ENDS = [3, 15, 19, 21, 22, 23, 24]  # joints at the end of a limb: a Kinect gives them no orientation
LIMB_NOISE = np.full((25, 1), 0.002)  # metres
LIMB_NOISE[[6, 10, 14, 18]], LIMB_NOISE[[7, 11, 15, 19, 21, 22, 23, 24]] = 0.004, 0.007


def _record(cast: list[np.ndarray], seen, rng: np.random.Generator) -> bytes:
    """NTU text of each person's joints (T, 25, 3), with the faults of a Kinect: noise, gaps, false bodies.

    seen maps joints from the room's coordinates to the camera's.
    """
    T = len(cast[0])
    tracks = [_track(seen(J), rng) for J in cast]  # joints (T, 25, 3), their state (T, 25), frames with the body (T,)
    kind = rng.random(4)
    if kind[0] < 0.12:  # a body is lost for a few frames; the only body then leaves empty frames
        start = rng.integers(3, T - 8)
        tracks[rng.integers(len(tracks))][2][start:start + rng.integers(1, 5)] = False
    if kind[1] < 0.03 and len(tracks) == 1:  # the body is lost, and found again under another number
        J, state, there = tracks.pop()
        tracks += [(J, state, there & (np.arange(T) < T // 2)), (J, state, there & (np.arange(T) >= T // 2 + 2))]
    if kind[2] < 0.12:  # somebody passes behind, or a piece of furniture, wide and flat, is taken for a body
        passing = kind[2] < 0.06
        path = (rng.choice((-1, 1)) * 0.9, 0, 0.7) + np.linspace(0, 0.5, T)[:, None, None] * (1, 0, 0)
        J = seen(_puppet(np.tile(REST, (T, 1, 1)), LIMBS, 0.1) + path)
        there, start = np.zeros(T, bool), rng.integers(0, T // 2)
        there[start:start + (rng.integers(3, 12) if passing else T)] = True
        if not passing:
            J = (J - J.mean(1, keepdims=True)) * (2.6, 0.3, 1) + J.mean((0, 1)) + rng.normal(0, 0.02, J.shape)
        tracks.append((J, np.ones((T, 25), int), there))
    order = rng.permutation(len(tracks))
    blocks = [_blocks(*tracks[i][:2], 72057594037927936 + int(rng.integers(2, 20000))) for i in order]
    lines = [str(T)]
    for t in range(T):
        here = [b[t] for b, i in zip(blocks, order, strict=True) if tracks[i][2][t]]
        lines += [str(len(here)), *here]
    text = "\n".join(lines) + "\n"
    return (text.replace("\n", "\r\n") if kind[3] < 0.3 else text).encode()


def _track(J: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noisy joints (T, 25, 3), tracking state (T, 25): 2 tracked, 1 guessed, and a mask of all frames (T,)."""
    shoulders = J[:, 4] - J[:, 8]
    hidden = abs(shoulders[:, 2]) > 0.75 * np.linalg.norm(shoulders, axis=1)  # side view: far arm and leg are guessed
    guessed = np.zeros((len(J), 25), bool)
    for side, joints in ((1, [5, 6, 7, 13, 14, 15, 21, 22]), (-1, [9, 10, 11, 17, 18, 19, 23, 24])):
        guessed[np.ix_(hidden & (side * shoulders[:, 2] > 0), joints)] = True
    noise = rng.normal(0, 1, J.shape) + rng.normal(0, 1, J.shape)[np.arange(len(J)) // 6]  # quick and slow
    return J + noise * LIMB_NOISE * (0.7 + 1.6 * guessed[..., None]), 2 - guessed, np.ones(len(J), bool)


def _blocks(J: np.ndarray, state: np.ndarray, number: int) -> list[str]:
    """The 27 lines of a body in each frame, from its joints (T, 25, 3) as seen and their state (T, 25)."""
    x, y, z = np.moveaxis(J, -1, 0)
    bone = J - J[:, PARENT]
    bone /= np.linalg.norm(bone, axis=-1, keepdims=True) + 1e-9
    turn = np.stack((1.0001 + bone[..., 1], bone[..., 2], 0 * x, -bone[..., 0]), -1)  # quaternion wxyz, y axis to bone
    turn /= np.linalg.norm(turn, axis=-1, keepdims=True)
    turn[:, ENDS] = 0
    depth = 256.3 + 366.4 * x / z, 208.5 - 366.4 * y / z  # pixels of the 512 x 424 depth picture
    colour = 976.0 + 1055.0 * x / z, 567.3 - 1056.5 * y / z  # pixels of the 1920 x 1080 colour picture
    numbers = np.concatenate((np.stack((x, y, z, *depth, *colour), -1), turn, state[..., None]), -1).reshape(len(J), -1)
    upright = J[:, 20] - J[:, 0]
    lean = np.stack((upright[:, 0], -upright[:, 2]), 1) / np.linalg.norm(upright, axis=1, keepdims=True)
    form = f"{number} 0 1 1 1 1 0 %.7G %.7G 2\n25\n" + "\n".join(["%.7G " * 11 + "%d"] * 25)
    return [form % tuple(row) for row in np.concatenate((lean, numbers), 1).tolist()]


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------

def _write_performance(job: tuple) -> int:
    folder, *performance = job
    for name, text in _perform(*performance):
        part = Path(folder, f".{name}.part")
        part.write_bytes(text)
        os.replace(part, Path(folder, f"{name}.skeleton"))
    return 3


def write_synthetic(folder: Path | str, seed: int = 0, workers: int = 0, subjects: tuple[int, ...] = SUBJECTS,
                    replications: int = 2) -> int:
    """Writes every action by every subject, `replications` times, from three cameras, as .skeleton files.

    Returns how many it wrote. A file depends only on its name and the seed. Existing files are kept, so an interrupted
    run continues; files of another seed are replaced. ValueError for a folder with .skeleton files of another origin.
    workers = 0: one process per core.
    """
    folder, origin = Path(folder), f"synthetic clips, version {SYNTHETIC_VERSION}, seed {seed}\n"
    if seed < 0 or replications < 1 or not subjects or not all(1 <= s <= 999 for s in subjects):
        raise ValueError(f"synthetic clips: seed = {seed} must be at least 0, replications = {replications} at least "
                         f"1, subjects = {subjects} one or more of 1 to 999")
    folder.mkdir(parents=True, exist_ok=True)
    mark, old = folder / "ORIGIN", {p.stem for p in folder.glob("*.skeleton")}
    if old and not mark.exists():
        raise ValueError(f"{folder}: holds .skeleton files of another origin: give synthetic clips their own folder")
    if not mark.exists() or mark.read_text() != origin:
        for name in old:
            (folder / f"{name}.skeleton").unlink()
        mark.write_text(origin)
        old = set()
    jobs = []
    for r, s, a in itertools.product(range(1, replications + 1), subjects, range(len(SYNTHETIC))):
        if not old >= {f"S{1 + s % 6:03}C{c:03}P{s:03}R{r:03}A{a + 1:03}" for c in (1, 2, 3)}:
            jobs.append((str(folder), seed, a, s, r))
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers < 2:
        return sum(map(_write_performance, jobs))
    with multiprocessing.get_context("spawn").Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        return sum(pool.imap_unordered(_write_performance, jobs, chunksize=4))
