"""What a file of one clip is: skeleton, unit, upright axis and channels. Decided here, for predict, show and the page.

    1. its format: those of known_files.py, Northwestern-UCLA's JSON, key points of OpenPose or COCO, a table that names
       its joints
    2. skeleton.json: the nearest one, from the file's folder up to the data set's root
    3. the network that is given the clip: its own skeleton if the clip has as many joints, recorded as its clips were
    4. a guess, as adopt guesses: the skeleton by its bones, unit and axis by the trunk, a score by its range

numpy only.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from phases.common.limits import read_bytes, read_json
from phases.recordings.clips import Clip, main_bodies, third_is_score
from phases.recordings.known_files import known_body
from phases.recordings.metres import AXES, Recorded, guess, trunk_vector
from phases.recordings.poses import frame_files
from phases.recordings.readers import skeleton_of_format
from phases.recordings.scores import least_of_clip
from skeletons import SKELETONS, Skeleton, spelled

LEVELS = 3  # folders in which skeleton.json is looked for: <root>/<side>/<class>/<clip>
PICTURE = Recorded("px", "-y")
KEY_POINTS = {b'"pose_keypoints_2d"': "openpose", b'"keypoints"': "coco"}  # x, y, score, ... in a row
OPENPOSE = {25: "openpose25", 18: "openpose18"}     # joints: skeleton
COCO = {17: "coco17", 26: "halpe26"}


@dataclass(frozen=True)
class Described:
    """What is known of a file without a look at its numbers; None: not known."""
    skeleton: str | Skeleton | None = None      # a name; or itself, of the format or of skeleton.json
    recorded: Recorded | None = None
    key_points: str = ""                        # openpose or coco: the number of joints names their skeleton

    @property
    def name(self) -> str | None:
        return self.skeleton.name if isinstance(self.skeleton, Skeleton) else self.skeleton

    @property
    def joints(self) -> Sequence[str]:
        """The joints of the skeleton, as far as it is known."""
        body = self.body()
        return body.joints if body else ()

    def body(self, count: int = 0) -> Skeleton | None:
        """The skeleton itself, of `count` joints if that is known; None if it is not known, or only by its title."""
        name = self.skeleton_of(count)
        if isinstance(self.skeleton, Skeleton) and name == self.name:
            return self.skeleton
        return SKELETONS.get(name)

    def skeleton_of(self, count: int) -> str | None:
        """The name of the skeleton of `count` joints: of OpenPose's format, else the one that is named."""
        by_format = OPENPOSE.get(count) if self.key_points == "openpose" else None
        return by_format or self.name

    def likely(self, count: int) -> str | None:
        """The usual skeleton of `count` key points that are written as COCO's; other estimators write them so, too."""
        return COCO.get(count) if self.key_points == "coco" else None


class Recording(NamedTuple):
    """A clip as its file has it, and what is known of it."""
    where: Path             # what messages call it
    numbers: np.ndarray     # (L, V, C) or (M, L, V, C)
    found: Described
    ids: list               # what the file calls each of the M bodies; empty: it does not number them
    is_chosen: bool = False     # its reader has chosen the main bodies


class BodyFrame(NamedTuple):
    """The bodies of one frame of a stream."""
    joints: np.ndarray                  # m v 3 (or C, as the line has them); M = 0: nobody
    ids: tuple | None = None            # what a tracker calls them
    places: np.ndarray | None = None    # m v C: where they are in the picture, to follow them; None: in their order
    has_path: bool = False              # the joints are world landmarks, the places are those in the picture
    found: Described = Described()      # what the format says
    stamp: float | None = None          # seconds
    scores: np.ndarray | None = None    # m v: of the joints


def described(path: Path, own: Sequence[str] = ()) -> Described:
    """What the format of a file or skeleton.json says. own: a network's joints; a table that names them has them."""
    # a format in metres, y up, as a depth sensor's; or one that fixes the skeleton alone
    known = known_body(path)
    sensor = skeleton_of_format(path)
    if sensor:
        return Described(known.skeleton if known else sensor, Recorded())

    # a picture's key points
    key_points = key_points_of(path)
    if known:
        return Described(known.skeleton, PICTURE if key_points else None, key_points)
    if key_points:
        return Described(skeleton_of_data_set(path), PICTURE, key_points)

    named = skeleton_of_columns(path, own)
    return Described(named or skeleton_of_data_set(path))


# ---------------------------------------------------------------------------------------------------------------------
# The format
# ---------------------------------------------------------------------------------------------------------------------

def key_points_of(path: Path) -> str:
    """Whose two-dimensional key points a .json file or a folder of frames holds: openpose, coco, or an empty text."""
    files = [path] if path.suffix.lower() == ".json" and path.is_file() else []
    if path.is_dir():
        files = frame_files(path)

    # the first frame or the last one shows it
    for file in files[:1] + files[-1:]:
        kind = key_points_in(read_bytes(file))
        if kind:
            return kind
    return ""


def key_points_in(text: bytes) -> str:
    """Whose two-dimensional key points a text of JSON holds; nested lists of numbers are none."""
    for word, kind in KEY_POINTS.items():
        at = text.find(word)
        start = text[at + len(word):at + len(word) + 40].replace(b" ", b"").replace(b"\n", b"")
        if at >= 0 and start.startswith(b":[") and not start.startswith((b":[[", b":[{")):
            return kind
    return ""


def skeleton_of_columns(path: Path, own: Sequence[str]) -> str | None:
    """The largest known skeleton of which a table names all joints; None if it names all of the network's own."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return None
    from phases.recordings.csv_clips import joints_of_table
    try:
        named = set(joints_of_table(path))
    except ValueError:  # reading the clip says what is wrong
        return None
    return skeleton_of_names(named, own)


def skeleton_of_names(named: set[str], own: Sequence[str]) -> str | None:
    """The largest known skeleton of which these are all joints; None if they are all of the network's own."""
    if not named or own and {spelled(joint) for joint in own} <= named:
        return None
    known = [skeleton for skeleton in SKELETONS.values() if set(map(spelled, skeleton.joints)) <= named]
    return max(known, key=lambda skeleton: skeleton.num_joints).name if known else None


# ---------------------------------------------------------------------------------------------------------------------
# The data set
# ---------------------------------------------------------------------------------------------------------------------

def skeleton_of_data_set(path: Path) -> str | Skeleton | None:
    """The skeleton in the nearest skeleton.json, from the file's folder up to the data set's root; None without one.

    The root is the folder with labels.csv; without it, LEVELS folders are looked in.
    """
    path = path.absolute()
    folders = [path, *path.parents] if path.is_dir() else list(path.parents)
    for folder in folders[:LEVELS + path.is_dir()]:
        file = folder / "skeleton.json"
        if file.is_file():
            from phases.recordings.arrays import check_metadata
            found = read_json(file)
            check_metadata(file, found)
            return skeleton_in(file, found)
        if (folder / "labels.csv").is_file():
            return None
    return None


def skeleton_in(file: Path, found: dict) -> str | Skeleton | None:
    """The skeleton in the table of a skeleton.json: its title, or itself where its joints are spelled out."""
    skeleton = found.get("skeleton")
    if not isinstance(skeleton, dict):
        return skeleton
    if "joints" not in skeleton:
        return str(skeleton.get("name", "own"))
    try:
        return Skeleton.from_dict(skeleton)
    except ValueError as e:
        raise ValueError(f"{file}: {e}") from None


# ---------------------------------------------------------------------------------------------------------------------
# A guess
# ---------------------------------------------------------------------------------------------------------------------

def has_score(joints: np.ndarray) -> bool:
    """Whether the third number of joints (M, L, V, 3) is a score: within 0 to 1 where bodies are of many pixels."""
    return bool(joints.any()) and third_is_score([Clip("", 0, joints)])


def without_score(joints: np.ndarray, min_score: float = 0.0) -> np.ndarray:
    """Joints (M, L, V, x y score) as (M, L, V, x y 0); a joint with a low score is missing: see scores.py."""
    score = joints[..., 2:]
    least = least_of_clip(joints[..., 2], min_score)
    return joints * ((score > 0) & (score >= least)) * np.float32([1, 1, 0])


def guessed_skeleton(path: Path, joints: np.ndarray) -> Skeleton:
    """The skeleton that joints (M, L, V, 3) have, as adopt guesses it; ValueError if no known one has V joints."""
    from phases.recordings.skeleton_guess import fitting_skeleton
    main = joints[main_bodies(joints)[:1]]  # the bones of a body that stands still show nothing
    return fitting_skeleton(path, [Clip(path.stem, 0, main)], joints.shape[2])


def guessed_recorded(joints: np.ndarray, trunk: list[int] | None) -> Recorded:
    """Unit and upright axis of joints (M, L, V, 3), by the trunk of the first body."""
    _, unit, up = guess(trunk_vector(joints[0], trunk)[None])
    is_flat = not joints[..., 2].any()
    return Recorded("px" if is_flat else unit or "body", up if up in AXES else "y")
