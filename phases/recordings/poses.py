"""One clip of anyone's own, as an array or as pose estimators write it. numpy only.

    .npy     (L, V, C) or (M, L, V, C)
    .json    the same nested, frames or bodies first; or a list of frames, each with its bodies: landmarks as
             MediaPipe's (world landmarks before those of the picture), `people` as OpenPose's, or lists of joints
    .csv     a row per frame, a column per coordinate: left_elbow_x, left_elbow_y, ...; or x0, y0, ...; or numbers only
    folder   a .json file per frame, as OpenPose writes them

A joint is x, y; x, y, z; x, y, score; or x, y, z, score. In text a score is known by its name (left_elbow_score).
A table that names every joint of the skeleton is put into the skeleton's order. A table of as many joints that names
some of them differently is refused. Any other table must have the skeleton's order.
Of several people clips.main_two takes the main ones, whoever is listed first.
"""
from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import load_npy, read_bytes
from phases.recordings.csv_clips import clip_of_table
from phases.recordings.json_clips import clip_of_frames, clip_of_json, is_frame, json_value

SUFFIXES = (".npy", ".json", ".csv")
NO_CLIPS = ("skeleton.json", "labels.csv")


@np.errstate(over="ignore", invalid="ignore")  # 1e300 becomes infinite, which `as_joints` refuses
def load_pose(path: Path, joints: Sequence[str] = ()) -> np.ndarray:
    """The numbers of a clip, (L, V, C) or (M, L, V, C); ValueError says what is wrong. joints: the skeleton's, by name.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return load_frames(path)
    if suffix == ".json":
        return clip_of_json(json_value(path))
    if suffix == ".csv":
        return clip_of_table(path, joints)
    return in_order(load_npy(path))


def load_frames(folder: Path) -> np.ndarray:
    """(M, L, V, C) of a folder of frames."""
    files = frame_files(folder)
    if not files:
        raise ValueError(f"{folder}: holds no .json file of a frame")

    # a damaged frame is named
    frames = []
    for file in files:
        try:
            frames.append(json_value(file))
        except ValueError as e:
            raise ValueError(f"{file.name} {e}") from None
    return clip_of_frames(frames, [file.name for file in files])


def in_order(x: np.ndarray) -> np.ndarray:
    """The array; ValueError if its axes are in ST-GCN's order, (3, L, V, M), or frames are before bodies."""
    if x.ndim == 4 and (x.shape[0] == 3 and x.shape[3] <= 2 or x.shape[0] > max(2, x.shape[1])):
        raise ValueError(f"has shape {x.shape}, read as {x.shape[0]} bodies and {x.shape[1]} frames: are the axes "
                         "swapped? An array is (bodies, frames, joints, 3), with two bodies at most in 2-D")
    return x


# ---------------------------------------------------------------------------------------------------------------------
# Which files are clips
# ---------------------------------------------------------------------------------------------------------------------

def pose_files(folder: Path) -> list[Path]:
    """The clips in a folder, sorted: files, and folders of frames; hidden ones and NO_CLIPS are left out."""
    return sorted(path for path in folder.iterdir() if is_clip(path))


def is_clip(path: Path) -> bool:
    if path.name in NO_CLIPS or path.name[0] == ".":
        return False
    if path.is_file():
        return path.suffix.lower() in SUFFIXES
    return path.is_dir() and is_frames(path)


def is_frames(folder: Path) -> bool:
    """Whether a folder holds a .json file per frame, and so one clip; other files may sort before or after them."""
    files = frame_files(folder)
    if not files or any(path.suffix.lower() in (".npy", ".csv") for path in folder.iterdir()):
        return False

    # one that is readable and a frame is enough
    for file in files[:1] + files[-1:]:
        with contextlib.suppress(ValueError, OSError):
            if is_frame(json_value(file)):
                return True
    return False


def is_openpose(path: Path) -> bool:
    """Whether a .json file, or the frames in a folder, are OpenPose's."""
    files = [path] if path.suffix.lower() == ".json" else []
    if path.is_dir():
        files = frame_files(path)

    # the first and the last one tell
    return any(b'"pose_keypoints' in read_bytes(file) for file in files[:1] + files[-1:])


def frame_files(folder: Path) -> list[Path]:
    """The .json files of a folder in the order of the numbers in their names."""
    files = []
    for path in folder.iterdir():
        if path.suffix.lower() == ".json" and path.name != "skeleton.json" and path.name[0] != ".":
            files.append(path)
    return sorted(files, key=by_numbers)


def by_numbers(path: Path) -> list:
    """A key to sort paths by name: v_9 is before v_10."""
    return [int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", path.name)]
