"""Acclaim's ASF with AMC, as CMU's motion capture gives it: a skeleton of bones, and the angles of each bone per frame.

    read_amc(path)       joints (L, V, 3) in metres, y up: the root and the end of each bone; and the bones' names
    skeleton_of_amc      these joints and their parents

The .asf file is beside the .amc file: of the same name, of the name before the last _ (07_01.amc, 07.asf), or the only
one in the folder. A bone's axes are turned by `axis`; its angles turn it about these, x first. Lengths are inches
divided by the length that :units names: 0.45 in CMU's files. Where an angle is NaN, the joints beyond are missing.
numpy only.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from phases.common.limits import FRAMES, JOINTS, read_bytes
from phases.recordings.bvh import about
from phases.recordings.named_body import joints_of_ends, named_body
from phases.recordings.tables import number_of
from skeletons import Skeleton

INCH = 0.0254   # metres
MOVES = ("tx", "ty", "tz", "rx", "ry", "rz")


@dataclass
class Bone:
    """A bone of an .asf file: direction (3,) at rest, length as written, axes (3, 3), and which of MOVES it has."""
    name: str
    direction: np.ndarray = field(default_factory=lambda: np.zeros(3))
    length: float = 0.0
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    moves: list[str] = field(default_factory=list)
    parent: int = 0


@dataclass
class Body:
    """The bones of an .asf file, parents before children; bone 0 is the root. metres: of a written length."""
    bones: list[Bone]
    metres: float
    degrees: bool


def read_amc(path: Path) -> tuple[np.ndarray, list[str]]:
    """(joints (L, V, 3) float32 in metres, names of the bones) of an AMC file, with the ASF file beside it.

    ValueError says what is wrong with one of them.
    """
    body = read_asf(asf_beside(path))
    frames = frames_of(path, body)
    places: list[np.ndarray] = []   # l 3
    turns: list[np.ndarray] = []    # l 3 3
    for v, bone in enumerate(body.bones):
        values = {move: frames[v][:, k] for k, move in enumerate(bone.moves)}

        # turned about the bone's own axes, x first
        turn = np.tile(np.eye(3), (len(frames[v]), 1, 1))
        for axis, move in enumerate(("rx", "ry", "rz")):
            if move in values:
                angles = np.deg2rad(values[move]) if body.degrees else values[move]
                turn = about(axis, angles) @ turn
        turn = bone.axes @ turn @ bone.axes.T

        # the root's place is in the frame; a bone ends beyond its parent's end
        if v == 0:
            place = np.stack([values.get(move, np.zeros(len(turn))) for move in MOVES[:3]], 1)
        else:
            turn = turns[bone.parent] @ turn
            place = places[bone.parent] + turn @ (bone.length * bone.direction)
        places.append(place)
        turns.append(turn)
    return (np.stack(places, 1) * body.metres).astype(np.float32), [bone.name for bone in body.bones]


def skeleton_of_amc(path: Path) -> Skeleton:
    bones = read_asf(asf_beside(path)).bones
    return named_body(f"asf{len(bones)}", joints_of_ends([b.name for b in bones]), [b.parent for b in bones])


def asf_beside(path: Path) -> Path:
    """The .asf file of an .amc file; ValueError if there is none, or several that could be meant."""
    found = sorted(file for file in path.parent.iterdir() if file.suffix.lower() == ".asf")
    for stem in (path.stem, path.stem.rpartition("_")[0]):
        for file in found:
            if file.stem.lower() == stem.lower():
                return file
    if len(found) == 1:
        return found[0]
    names = ", ".join(file.name for file in found[:3]) or "none"
    raise ValueError(f"has no skeleton: {path.stem}.asf must be beside it (there: {names})")


# ---------------------------------------------------------------------------------------------------------------------
# ASF
# ---------------------------------------------------------------------------------------------------------------------

def read_asf(path: Path) -> Body:
    """The skeleton of an .asf file."""
    parts = sections(path)
    try:
        units = {line[0]: line[1] for line in parts.get("units", []) if len(line) > 1}
        length = float(units.get("length", 1.0))
        degrees = units.get("angle", "deg") != "rad"
        root = root_of(parts.get("root", []), degrees)
        bones = [root, *bones_of(parts["bonedata"], degrees)]
        return Body(in_order(bones, parts["hierarchy"]), INCH / positive(length), degrees)
    except KeyError as e:
        raise ValueError(f"{path.name} has no section :{e.args[0]}, or no such bone") from None
    except (ValueError, IndexError) as e:
        raise ValueError(f"{path.name}: {e}") from None


def sections(path: Path) -> dict[str, list[list[str]]]:
    """{section: its lines as words} of an .asf file."""
    parts: dict[str, list[list[str]]] = {}
    lines: list[list[str]] = []
    for line in read_bytes(path).decode("utf-8", "replace").splitlines():
        words = words_of(line)
        if words and words[0].startswith(":"):
            lines = parts.setdefault(words[0][1:].lower(), [])
        elif words:
            lines.append(words)
    return parts


def words_of(line: str) -> list[str]:
    """The words of a line before its comment, which begins with #; 1.#IND, which is NaN, holds none."""
    return re.split(r"(?:^|\s)#", line)[0].split()


def positive(number: float) -> float:
    if not 0 < number < 1e9:
        raise ValueError(f"has the length {number} in :units: must be above 0")
    return number


def root_of(lines: list[list[str]], degrees: bool) -> Bone:
    words = {line[0].lower(): line[1:] for line in lines}
    turned = numbers(words.get("orientation", ["0", "0", "0"]), 3)
    moves = [move.lower() for move in words.get("order", ["TX", "TY", "TZ", "RX", "RY", "RZ"])]
    return Bone("root", axes=axes_of(turned, words.get("axis", ["XYZ"])[0], degrees), moves=moves_of(moves))


def bones_of(lines: list[list[str]], degrees: bool) -> list[Bone]:
    """The bones between `begin` and `end`."""
    bones: list[Bone] = []
    for word, *rest in lines:
        word = word.lower()
        if word == "begin":
            bones.append(Bone(""))
        if not bones:
            raise ValueError(f"has the word {word[:40]!r} before the first bone")

        bone = bones[-1]
        if word == "name":
            bone.name = rest[0]
        elif word == "direction":
            bone.direction = numbers(rest, 3)
        elif word == "length":
            bone.length = float(numbers(rest, 1)[0])
        elif word == "axis":
            bone.axes = axes_of(numbers(rest[:3], 3), rest[3] if len(rest) > 3 else "XYZ", degrees)
        elif word == "dof":
            bone.moves = moves_of([move.lower() for move in rest])

    if not 0 < len(bones) < JOINTS or len({bone.name for bone in bones}) < len(bones):
        raise ValueError(f"has {len(bones)} bones: must be 1 to {JOINTS - 1}, all of different names")
    return bones


def numbers(words: list[str], count: int, missing: bool = False) -> np.ndarray:
    """(count,) of words; ValueError for any that is no number, and for NaN unless one may be missing."""
    try:
        found = np.array([number_of(word) for word in words])
    except ValueError:
        found = np.zeros(0)
    if len(found) != count or (np.isnan(found).any() and not missing):
        raise ValueError(f"has {' '.join(words)[:40]!r} where {count} numbers must be")
    return found


def moves_of(words: list[str]) -> list[str]:
    """The words for what a bone can do; ValueError for any other, such as `l`, which stretches a bone."""
    unknown = [word for word in words if word not in MOVES]
    if unknown:
        raise ValueError(f"has the degree of freedom {unknown[0][:20]!r}: must be of {', '.join(MOVES)}")
    return words


def axes_of(angles: np.ndarray, order: str, degrees: bool) -> np.ndarray:
    """(3, 3) the axes of a bone: turned about x, y and z in this order, each about the axes of the world."""
    if sorted(order.upper()) != ["X", "Y", "Z"]:
        raise ValueError(f"has the axis order {order[:20]!r}: must be like XYZ")
    turn = np.eye(3)
    for letter, angle in zip(order.upper(), np.deg2rad(angles) if degrees else angles, strict=True):
        turn = about("XYZ".index(letter), np.array([angle]))[0] @ turn
    return turn


def in_order(bones: list[Bone], lines: list[list[str]]) -> list[Bone]:
    """The bones that the hierarchy names, each behind its parent, whose number it gets."""
    named = {bone.name: bone for bone in bones}
    children: dict[str, list[str]] = {}
    for parent, *rest in lines:
        if parent not in ("begin", "end"):
            children.setdefault(parent, []).extend(rest)

    # outwards from the root, each bone once
    order = ["root"]
    for name in order:
        for child in children.get(name, []):
            if child in order:
                raise ValueError(f"its hierarchy names {child} twice")
            named[child].parent = order.index(name)
            order.append(child)
    return [named[name] for name in order]


# ---------------------------------------------------------------------------------------------------------------------
# AMC
# ---------------------------------------------------------------------------------------------------------------------

def frames_of(path: Path, body: Body) -> list[np.ndarray]:
    """For each bone its values (L, moves) in all frames."""
    number = {bone.name: v for v, bone in enumerate(body.bones)}
    rows: list[list[list[float]]] = []      # frame, bone, values
    for at, line in enumerate(read_bytes(path).decode("utf-8", "replace").splitlines(), 1):
        words = words_of(line)
        if not words or words[0].startswith(":"):
            continue

        # a number begins a frame
        if len(words) == 1 and words[0].isdigit():
            if len(rows) >= FRAMES:
                raise ValueError(f"line {at}: at most {FRAMES} frames are read")
            rows.append([[0.0] * len(bone.moves) for bone in body.bones])
            continue
        if not rows or words[0] not in number:
            raise ValueError(f"line {at}: {words[0][:40]!r} is no bone of the .asf file")
        v = number[words[0]]
        try:
            rows[-1][v] = numbers(words[1:], len(body.bones[v].moves), missing=True).tolist()
        except ValueError as e:
            raise ValueError(f"line {at}: {words[0]} {e}") from None

    if not rows:
        raise ValueError("holds no frame")
    return [np.array([row[v] for row in rows]).reshape(len(rows), -1) for v in range(len(body.bones))]
