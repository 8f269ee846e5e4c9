"""BVH, motion capture's text: a hierarchy of joints with offsets and channels, then a line of channels per frame.

    read_bvh(path)       joints (L, V, 3) by forward kinematics, in the file's own unit, and their names
    skeleton_of_bvh      its joints and parents

A joint is where a bone begins; the End Site of a chain is a joint, too. Rotations are degrees, in the order in which
the channels are listed: the first one turns about the parent's axes. Positions replace the offset. The format fixes
neither unit nor upright axis. Where a channel is NaN, its joint or the joints that it turns are missing. numpy only.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from phases.common.limits import FRAMES, JOINTS, read_bytes
from phases.recordings.named_body import joints_of_begins, named_body
from phases.recordings.tables import number_of
from skeletons import Skeleton

CHANNELS = ("xposition", "yposition", "zposition", "xrotation", "yrotation", "zrotation")


@dataclass
class Bone:
    """A joint of the hierarchy: channels are numbers in CHANNELS."""
    name: str
    parent: int         # its own number if it is the root
    offset: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    channels: list[int] = field(default_factory=list)


def read_bvh(path: Path) -> tuple[np.ndarray, list[str]]:
    """(joints (L, V, 3) float32, names of the bones) of a BVH file; ValueError says what is wrong with it."""
    bones, motion = parts(path)
    values = channel_values(motion, sum(len(bone.channels) for bone in bones))  # l channels

    # from the root outwards: a parent is always before its children
    places: list[np.ndarray] = []   # l 3
    turns: list[np.ndarray] = []    # l 3 3
    first = 0
    for v, bone in enumerate(bones):
        own = values[:, first:first + len(bone.channels)]
        first += len(bone.channels)
        local = local_place(bone, own)
        turn = local_turn(bone, own)
        if bone.parent != v:
            local = places[bone.parent] + np.einsum("lij,lj->li", turns[bone.parent], local)
            turn = turns[bone.parent] @ turn
        places.append(local)
        turns.append(turn)
    return np.stack(places, 1).astype(np.float32), [bone.name for bone in bones]


def skeleton_of_bvh(path: Path) -> Skeleton:
    bones, _ = parts(path)
    return named_body(f"bvh{len(bones)}", joints_of_begins([b.name for b in bones]), [b.parent for b in bones])


# ---------------------------------------------------------------------------------------------------------------------
# The hierarchy
# ---------------------------------------------------------------------------------------------------------------------

def parts(path: Path) -> tuple[list[Bone], list[str]]:
    """The hierarchy, and the lines below MOTION."""
    lines = read_bytes(path).decode("utf-8-sig", "replace").splitlines()
    at = next((at for at, line in enumerate(lines) if line.split()[:1] == ["MOTION"]), None)
    if at is None:
        raise ValueError("has no line MOTION: is it BVH, and whole?")
    return hierarchy(" ".join(lines[:at]).replace("{", " { ").replace("}", " } ").split()), lines[at + 1:]


def hierarchy(words: list[str]) -> list[Bone]:
    """The joints that the words of a hierarchy describe, each behind its parent."""
    bones: list[Bone] = []
    open_bones: list[int] = []
    if words[:2] != ["HIERARCHY", "ROOT"]:
        raise ValueError(f"begins with {' '.join(words[:2])[:40]!r}: must begin with HIERARCHY ROOT")

    at = 1
    while at < len(words):
        word = words[at]

        # a joint, named; the end of a chain, which its parent names
        if word in ("ROOT", "JOINT", "End"):
            if len(bones) >= JOINTS or (word == "ROOT") == bool(bones):
                raise ValueError(f"has a {word} behind {len(bones)} joints: must be one ROOT, and at most {JOINTS} "
                                 "joints")
            if bones and not open_bones:
                raise ValueError(f"has the joint {' '.join(words[at + 1:at + 2])!r} outside of the ROOT's braces")
            parent = open_bones[-1] if open_bones else 0
            brace = next((k for k in range(at + 1, len(words)) if words[k] == "{"), len(words))
            name = f"{bones[parent].name}_end" if word == "End" else " ".join(words[at + 1:brace])
            bones.append(Bone(name, parent))
            open_bones.append(len(bones) - 1)
            at = brace + 1
        elif word == "}" and open_bones:
            open_bones.pop()
            at += 1
        elif word == "OFFSET" and open_bones:
            bones[open_bones[-1]].offset = numbers_of(words[at + 1:at + 4], bones[open_bones[-1]].name)
            at += 4
        elif word == "CHANNELS" and open_bones:
            bones[open_bones[-1]].channels = channels_of(words[at + 1:at + 8], bones[open_bones[-1]].name)
            at += 2 + len(bones[open_bones[-1]].channels)
        else:
            raise ValueError(f"has the word {word[:40]!r} in its hierarchy: must be JOINT, End Site, OFFSET, CHANNELS, "
                             "{ or }")
    if open_bones:
        raise ValueError(f"its hierarchy ends inside {bones[open_bones[-1]].name}: a brace is not closed")
    return bones


def numbers_of(words: list[str], name: str) -> list[float]:
    """Three finite numbers of an offset."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise ValueError(f"{name} has the offset {' '.join(words)[:40]!r}: must be three numbers")
    return numbers


def channels_of(words: list[str], name: str) -> list[int]:
    """The channels of a joint: a number, and as many names."""
    count = int(words[0]) if words and words[0].isdigit() and len(words[0]) == 1 else 7
    named = [word.lower() for word in words[1:1 + count]]
    if count > 6 or len(named) != count or len(set(named)) != count or not set(named) <= set(CHANNELS):
        raise ValueError(f"{name} has the channels {' '.join(words)[:80]!r}: must be a number up to 6, and as many of "
                         "Xposition, Yposition, Zposition, Xrotation, Yrotation, Zrotation")
    return [CHANNELS.index(word) for word in named]


# ---------------------------------------------------------------------------------------------------------------------
# The motion
# ---------------------------------------------------------------------------------------------------------------------

def channel_values(lines: list[str], channels: int) -> np.ndarray:
    """(L, channels) of the lines below MOTION: Frames, Frame Time, and a line per frame; NaN where one is missing."""
    filled = [line for line in lines if line.strip()]
    head = [line.replace(":", " ").split() for line in filled[:2]]
    if len(head) < 2 or head[0][:1] != ["Frames"] or head[1][:2] != ["Frame", "Time"]:
        raise ValueError("below MOTION it must have the lines Frames: and Frame Time:")

    # as many lines as it says
    rows = filled[2:]
    count = head[0][1] if len(head[0]) > 1 else ""
    if not count.isdigit() or len(count) > 9 or not 0 < int(count) <= FRAMES:
        raise ValueError(f"has {count!r} frames: must be a number from 1 to {FRAMES}")
    if len(rows) != int(count):
        raise ValueError(f"says that it has {count} frames, and holds {len(rows)}")

    # as many numbers on each as there are channels
    values = np.zeros((len(rows), channels))
    for t, row in enumerate(rows):
        words = row.split()
        if len(words) != channels:
            raise ValueError(f"frame {t}: has {len(words)} numbers for {channels} channels")
        try:
            values[t] = [number_of(word) for word in words]
        except ValueError as e:
            raise ValueError(f"frame {t}: {e}") from None
    return values


def local_place(bone: Bone, own: np.ndarray) -> np.ndarray:
    """(L, 3) the place of a joint from its parent; own: (L, channels) of the joint."""
    place = np.tile(np.array(bone.offset), (len(own), 1))
    for k, channel in enumerate(bone.channels):
        if channel < 3:
            place[:, channel] = own[:, k]
    return place


def local_turn(bone: Bone, own: np.ndarray) -> np.ndarray:
    """(L, 3, 3) how a joint is turned against its parent; own: (L, channels) of the joint."""
    turn = np.tile(np.eye(3), (len(own), 1, 1))
    for k, channel in enumerate(bone.channels):
        if channel >= 3:
            turn = turn @ about(channel - 3, np.deg2rad(own[:, k]))
    return turn


def about(axis: int, angles: np.ndarray) -> np.ndarray:
    """(L, 3, 3) rotations about x, y or z by angles (L,) in radians, right-handed."""
    one, other = (axis + 1) % 3, (axis + 2) % 3
    turn = np.zeros((len(angles), 3, 3))
    turn[:, axis, axis] = 1
    turn[:, one, one] = turn[:, other, other] = np.cos(angles)
    turn[:, other, one] = np.sin(angles)
    turn[:, one, other] = -np.sin(angles)
    return turn
