"""The camera that records puppets: their joints -> NTU text, with the faults of a Kinect."""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from phases.recordings.puppet_body import LIMBS, PARENT, joints_of_poses
from phases.recordings.puppet_moves import REST

ENDS = [3, 15, 19, 21, 22, 23, 24]      # joints at the end of a limb: a Kinect gives them no orientation
FAR_LEFT = [5, 6, 7, 13, 14, 15, 21, 22]        # arm and leg that a body hides from a camera at its side
FAR_RIGHT = [9, 10, 11, 17, 18, 19, 23, 24]
LIMB_NOISE = np.full((25, 1), 0.002)    # metres
LIMB_NOISE[[6, 10, 14, 18]] = 0.004
LIMB_NOISE[[7, 11, 15, 19, 21, 22, 23, 24]] = 0.007


class Track(NamedTuple):
    """A body as the camera sees it."""
    joints: np.ndarray      # (T, 25, 3) metres
    state: np.ndarray       # (T, 25): 2 tracked, 1 guessed
    there: np.ndarray       # (T,): frames that have the body


def recorded_text(cast: list[np.ndarray], seen: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator) -> bytes:
    """NTU text of each person's joints (T, 25, 3), with the faults of a Kinect: noise, gaps, false bodies.

    seen maps joints from the room's coordinates to the camera's.
    """
    T = len(cast[0])
    tracks = [noisy_track(seen(J), rng) for J in cast]
    lose, rename, intrude, newline = rng.random(4)

    # a body is lost for a few frames; the only body then leaves empty frames
    if lose < 0.12:
        start = rng.integers(3, T - 8)
        track = tracks[rng.integers(len(tracks))]
        track.there[start:start + rng.integers(1, 5)] = False

    # the body is lost, and found again under another number
    if rename < 0.03 and len(tracks) == 1:
        J, state, there = tracks.pop()
        tracks.append(Track(J, state, there & (np.arange(T) < T // 2)))
        tracks.append(Track(J, state, there & (np.arange(T) >= T // 2 + 2)))

    # a person passes behind, or furniture is taken for a body
    if intrude < 0.12:
        tracks.append(false_body(intrude < 0.06, T, seen, rng))

    text = written_tracks(tracks, T, rng)
    return (text.replace("\n", "\r\n") if newline < 0.3 else text).encode()


def noisy_track(J: np.ndarray, rng: np.random.Generator) -> Track:
    """A person in all frames, with noise on each joint (T, 25, 3), more on those that the camera guesses."""
    # in a side view, the far arm and leg are guessed
    shoulders = J[:, 4] - J[:, 8]
    is_side_view = abs(shoulders[:, 2]) > 0.75 * np.linalg.norm(shoulders, axis=1)
    guessed = np.zeros((len(J), 25), bool)
    for side, joints in ((1, FAR_LEFT), (-1, FAR_RIGHT)):
        guessed[np.ix_(is_side_view & (side * shoulders[:, 2] > 0), joints)] = True

    # quick noise, and noise that stays for six frames
    noise = rng.normal(0, 1, J.shape) + rng.normal(0, 1, J.shape)[np.arange(len(J)) // 6]
    noisy = J + noise * LIMB_NOISE * (0.7 + 1.6 * guessed[..., None])
    return Track(noisy, 2 - guessed, np.ones(len(J), bool))


def false_body(is_person: bool, T: int, seen: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator) -> Track:
    """A person who passes behind for some frames; or furniture, wide and flat, from some frame to the last."""
    path = (rng.choice((-1, 1)) * 0.9, 0, 0.7) + np.linspace(0, 0.5, T)[:, None, None] * (1, 0, 0)
    J = seen(joints_of_poses(np.tile(REST, (T, 1, 1)), LIMBS, 0.1) + path)

    there = np.zeros(T, bool)
    start = rng.integers(0, T // 2)
    there[start:start + (rng.integers(3, 12) if is_person else T)] = True

    if not is_person:
        flat = (J - J.mean(1, keepdims=True)) * (2.6, 0.3, 1)
        J = flat + J.mean((0, 1)) + rng.normal(0, 0.02, J.shape)
    return Track(J, np.ones((T, 25), int), there)


# ---------------------------------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------------------------------

def written_tracks(tracks: list[Track], T: int, rng: np.random.Generator) -> str:
    """The lines of a file: in each frame the bodies that are there, always in the same, random order."""
    order = rng.permutation(len(tracks))
    blocks = []
    for i in order:
        number = 72057594037927936 + int(rng.integers(2, 20000))
        blocks.append(body_blocks(tracks[i].joints, tracks[i].state, number))

    lines = [str(T)]
    for t in range(T):
        here = [block[t] for block, i in zip(blocks, order, strict=True) if tracks[i].there[t]]
        lines += [str(len(here)), *here]
    return "\n".join(lines) + "\n"


def body_blocks(J: np.ndarray, state: np.ndarray, number: int) -> list[str]:
    """The 27 lines of a body in each frame, from its joints (T, 25, 3) as seen and their state (T, 25)."""
    # orientation: the quaternion wxyz that turns the y axis to the bone
    x, y, z = np.moveaxis(J, -1, 0)
    bone = J - J[:, PARENT]
    bone /= np.linalg.norm(bone, axis=-1, keepdims=True) + 1e-9
    turn = np.stack((1.0001 + bone[..., 1], bone[..., 2], 0 * x, -bone[..., 0]), -1)
    turn /= np.linalg.norm(turn, axis=-1, keepdims=True)
    turn[:, ENDS] = 0

    # the twelve numbers of a joint, with its places in the 512 x 424 depth and the 1920 x 1080 colour picture
    depth = 256.3 + 366.4 * x / z, 208.5 - 366.4 * y / z  # pixels
    colour = 976.0 + 1055.0 * x / z, 567.3 - 1056.5 * y / z
    places = np.stack((x, y, z, *depth, *colour), -1)
    numbers = np.concatenate((places, turn, state[..., None]), -1).reshape(len(J), -1)

    # the lean of a body
    upright = J[:, 20] - J[:, 0]
    lean = np.stack((upright[:, 0], -upright[:, 2]), 1) / np.linalg.norm(upright, axis=1, keepdims=True)

    form = f"{number} 0 1 1 1 1 0 %.7G %.7G 2\n25\n" + "\n".join(["%.7G " * 11 + "%d"] * 25)
    return [form % tuple(row) for row in np.concatenate((lean, numbers), 1).tolist()]
