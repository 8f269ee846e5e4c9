"""The scores in recordings, for a look at them before a recipe says from which one on a joint counts. numpy only."""
from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from phases.recordings.arrays import class_folders, class_paths, clip_file, named_joints
from phases.recordings.clips import npz_arrays
from phases.recordings.labels import labelled_rows
from phases.recordings.laid_out import laid_out
from phases.recordings.pickle_sides import annotations_of
from phases.recordings.poses import load_pose, pose_files
from phases.recordings.settings import Data

LOOKED_AT = 100   # clips


def recorded_scores(raw: Path, data: Data) -> np.ndarray:
    """(N,) scores of joints in the first clips, where each joint has x, y, z and a score, or a pickle has scores."""
    arrays = pickled_scores(raw) if data.reader == "pyskl" else array_scores(raw, data)
    found = [np.ravel(scores) for scores in itertools.islice(arrays, LOOKED_AT)]
    scores = np.concatenate([np.zeros(0), *found])
    return scores[(scores > 0) & np.isfinite(scores)]


def pickled_scores(raw: Path) -> Iterator[np.ndarray]:
    for annotation in annotations_of(raw)["annotations"]:
        try:
            yield np.asarray(annotation["keypoint_score"], np.float64)
        except (KeyError, TypeError, ValueError):  # the reader names a damaged clip
            continue


def array_scores(raw: Path, data: Data) -> Iterator[np.ndarray]:
    if data.reader != "arrays":
        return

    # a packed file
    if not raw.is_dir():
        joints = npz_arrays(raw, {"data"})["data"]
        if joints.ndim == 3 and joints.shape[2] == 4:
            yield joints[..., 3]
        return

    # a file per clip
    joint_names = named_joints(raw, data)
    for path in clip_paths(raw):
        try:
            joints = np.asarray(load_pose(path, joint_names), np.float64)
        except Exception:  # numpy raises almost anything; the reader names a damaged clip
            continue
        if joints.ndim in (3, 4) and joints.shape[-1] == 4:
            yield joints[..., 3]


def clip_paths(raw: Path) -> Iterator[Path]:
    """The files of the clips of a known data set, in class folders, or in labels.csv."""
    said = laid_out(raw)
    if said:
        yield from (clip.path for clip in said)
        return

    # some of each class; or those that are listed
    if not class_folders(raw):
        yield from (clip_file(raw, row["name"]) for row in labelled_rows(raw / "labels.csv") if row["name"])
        return
    folders = class_paths(raw)
    for _, folder, _ in folders:
        yield from pose_files(folder)[:1 + LOOKED_AT // len(folders)]
