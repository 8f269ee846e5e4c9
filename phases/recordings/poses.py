"""One clip of anyone's own, as an array or as pose estimators write it. numpy only.

    .npy     (L, V, C) or (M, L, V, C); flat rows and channels first as flat.py reads them
    .npz     one such array, or the one named joints
    .json    the same nested, frames or bodies first; or a list of frames, each with its bodies: landmarks as
             MediaPipe's (the shape of world landmarks, the path of those of the picture), `people` as OpenPose's, or
             lists of joints. Hands beside a body are read for a skeleton that has them: hand21, holistic
    .csv     a row per frame, a column per coordinate: left_elbow_x, left_elbow_y, ...; or x0, y0, ...; or numbers only;
             or a row per joint, with the columns frame, joint, x, y and perhaps z, a score, person
    folder   a .json file per frame, as OpenPose writes them; or a .txt file per frame, as YOLO does
    others   known_files.py: BVH, AMC with ASF, NTU's text, hand gestures; Azure Kinect, Kinetics, AlphaPose, YOLO

A joint is x, y; x, y, z; x, y, score; or x, y, z, score; with NaN, null or an empty cell in it the joint is missing.
In text a score is known by its name (left_elbow_score).
A table that names every joint of the skeleton is put into the skeleton's order. A table of as many joints that names
some of them differently is refused. Any other table must have the skeleton's order.
Of several people clips.main_two takes the main ones, whoever is listed first. What reads a kind of file is imported
when there is one.
"""
from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import load_npy, load_npz, read_bytes
from phases.recordings import known_files
from phases.recordings.archives import as_given

SUFFIXES = (".npy", ".npz", ".json", ".csv", *known_files.SUFFIXES)
NO_CLIPS = ("skeleton.json", "labels.csv")
PRINTED: set[tuple[Path, str]] = set()  # notes of this process: (folder, note)


@np.errstate(over="ignore", invalid="ignore")  # 1e300 becomes infinite, which `as_joints` refuses
def load_pose(path: Path, joints: Sequence[str] = (), ids: list | None = None) -> np.ndarray:
    """The numbers of a clip, (L, V, C) or (M, L, V, C); ValueError says what is wrong.

    joints: the skeleton's, by name. ids: what the format calls each of the M bodies is appended, if it numbers them.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return load_frames(path, joints, ids)
    if suffix == ".json":
        from phases.recordings.json_clips import clip_of_json, json_value
        value = json_value(path)
        known = known_files.clip_of_known_json(value, joints, ids)
        if known is not None:
            return known
        notes: list[str] = []
        clip = clip_of_json(value, joints, notes)
        print_notes(path, notes)
        return clip
    if suffix == ".csv":
        from phases.recordings.csv_clips import clip_of_table
        return clip_of_table(path, joints, ids)
    if suffix in known_files.SUFFIXES:
        return known_files.load_known(path, joints, ids)
    from phases.recordings.flat import in_usual_order
    return in_order(in_usual_order(load_array(path), len(joints)))


def load_array(path: Path) -> np.ndarray:
    """The array of an .npy file; of an .npz file the only one, or the one named joints."""
    with open(path, "rb") as f:
        packed = f.read(2) == b"PK"  # the name may be wrong
    if not packed:
        return load_npy(path)

    # of several arrays the one named joints
    arrays = load_npz(path)
    if len(arrays) != 1 and "joints" not in arrays:
        raise ValueError(f"holds {', '.join(arrays)}: must hold one array, or one named joints")
    return arrays["joints" if "joints" in arrays else next(iter(arrays))]


def load_frames(folder: Path, joints: Sequence[str] = (), ids: list | None = None) -> np.ndarray:
    """(M, L, V, C) of a folder of frames; ids: see load_pose."""
    files = frame_files(folder)
    if not files and is_text_frames(folder):
        from phases.recordings.text_clips import clip_of_text_frames, text_frame_files
        return clip_of_text_frames(text_frame_files(folder), ids)
    if not files:
        raise ValueError(f"{folder}: holds no .json file of a frame")

    # a damaged frame is named
    from phases.recordings.json_clips import clip_of_frames, json_value
    frames = []
    for file in files:
        try:
            frames.append(json_value(file))
        except ValueError as e:
            raise ValueError(f"{file.name} {e}") from None
    notes: list[str] = []
    clip = clip_of_frames(frames, [file.name for file in files], joints, notes)
    print_notes(folder, notes)
    return clip


def print_notes(path: Path, notes: list[str]) -> None:
    """Each note on standard error, once for all clips of a folder, or of the class folders in one."""
    for note in notes:
        known = (path.absolute().parent.parent, note)
        if known not in PRINTED:
            PRINTED.add(known)
            print(as_given(f"{path}: {note}"), file=sys.stderr)


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
        suffix = path.suffix.lower()
        return known_files.is_known_clip(path) if suffix in known_files.SUFFIXES else suffix in SUFFIXES
    return path.is_dir() and is_frames(path)


def is_frames(folder: Path) -> bool:
    """Whether a folder holds a file per frame, .json or .txt, and so one clip; other files may be among them."""
    files = frame_files(folder)
    if not files:
        return is_text_frames(folder)
    if any(path.suffix.lower() in (".npy", ".csv") for path in folder.iterdir()):
        return False

    # one that is readable and a frame is enough
    from phases.recordings.json_clips import is_frame, json_value
    for file in files[:1] + files[-1:]:
        with contextlib.suppress(ValueError, OSError):
            if is_frame(json_value(file)):
                return True
    return False


def is_text_frames(folder: Path) -> bool:
    """Whether a folder holds YOLO's .txt file per picture."""
    if not any(path.suffix.lower() == ".txt" for path in folder.iterdir()):
        return False
    from phases.recordings.text_clips import is_text_frames as is_of_yolo
    return is_of_yolo(folder)


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
