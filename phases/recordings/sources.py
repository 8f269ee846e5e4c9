"""What phase 0 knows of the recordings before it reads their clips: the skeleton, and the names of the classes.

For every reader skeleton.json says both, in the folder of the recordings or beside their file: see arrays.METADATA.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phases.common.command import nearest
from phases.common.protocols import NTU_CLASSES, NW_UCLA_CLASSES
from phases.common.wording import counted
from phases.recordings.arrays import class_folders, description, description_file
from phases.recordings.clips import npz_arrays
from phases.recordings.labels import labelled_rows, number_classes
from phases.recordings.laid_out import laid_out
from phases.recordings.ntu import ntu_paths, number_actions, skeleton_of_text
from phases.recordings.ntu_shards import ntu_files
from phases.recordings.packed import as_whole_numbers
from phases.recordings.peers import annotated_labels
from phases.recordings.pickle_sides import annotations_of
from phases.recordings.puppet import SYNTHETIC_ACTIONS
from phases.recordings.settings import Data
from skeletons import SKELETONS, Skeleton

PUBLIC_CLASSES = {"ntu60": NTU_CLASSES[:60], "ntu120": NTU_CLASSES, "nw_ucla": NW_UCLA_CLASSES,
                  "synthetic": SYNTHETIC_ACTIONS}
PYSKL_SKELETONS = {(17,): "coco17", (25,): "ntu25"}  # a pyskl pickle brings only the number of joints


def recorded_skeleton(data: Data, raw: Path) -> Skeleton:
    """The skeleton that the recipe names, or else the one that the recordings bring."""
    brought = brought_skeleton(data, raw)
    if not data.skeleton:
        if brought is None:
            raise ValueError(f"data.skeleton is empty and {raw} brings none; name one of {', '.join(SKELETONS)}, "
                             "or say in skeleton.json what the joints are")
        return brought

    # both must agree
    named = SKELETONS[data.skeleton]
    if brought is not None and (brought.name, brought.num_joints) != (named.name, named.num_joints):
        raise ValueError(f"data.skeleton = {named.name!r}, but {raw} brings {brought.name!r} of {brought.num_joints} "
                         'joints: give data.skeleton="" to take that')
    return named


def brought_skeleton(data: Data, raw: Path) -> Skeleton | None:
    """The skeleton that the recordings bring, by its name or as a table; None if they bring none."""
    brought = description(raw, data.reader).get("skeleton")
    if brought is None and data.reader == "ntu" and raw.is_dir():
        file = next(iter(ntu_paths(raw)), None)
        brought = skeleton_of_text(file) if file else None
    elif brought is None and data.reader == "pyskl" and not data.skeleton:
        brought = pyskl_skeleton(raw)

    if isinstance(brought, dict):
        try:
            return Skeleton.from_dict(brought)
        except ValueError as e:
            raise ValueError(f"{description_file(raw)}: {e}") from None
    if brought is not None and brought not in SKELETONS:
        known = nearest(brought, SKELETONS)
        raise ValueError(f"skeleton {brought!r} of {raw} is unknown{known}; or spell it out as a table")
    return SKELETONS.get(brought)


def pyskl_skeleton(raw: Path) -> str | None:
    """The name of the skeleton by the number of joints, if all annotations of a pickle have the same."""
    clips = [a for a in annotations_of(raw)["annotations"] if isinstance(a, dict)]
    joints = {np.shape(a.get("keypoint"))[-2:-1] for a in clips}
    return PYSKL_SKELETONS.get(joints.pop()) if len(joints) == 1 else None


def recorded_classes(data: Data, raw: Path) -> list[str]:
    """Names of the classes: those in the recordings, those of a public data set, or "class 0", "class 1", ...; of NTU's
    files A001, A002, ...

    ValueError if data.num_classes counts neither all of them nor those that have clips.
    """
    # those of a public data set, if the recordings have no names
    listed = listed_classes(data.reader, raw)
    public = PUBLIC_CLASSES.get(data.name, ())
    if not listed and len(public) == data.num_classes:
        return list(public)
    if data.reader in ("ntu", "synthetic"):
        return ntu_classes(data, raw, listed, public)

    labels = recorded_labels(data.reader, raw)
    _, names = number_classes(labels, listed, data.num_classes)
    if (labels or listed) and len(names) != data.num_classes:
        _, used = number_classes(labels, listed, 0)
        some = "" if len(used) == len(names) else f", {len(used)} of them with clips"
        raise ValueError(f"data.num_classes = {data.num_classes}, but {raw} names "
                         f"{counted(len(names), 'class')}{some}")
    return names if labels or listed else [f"class {k}" for k in range(data.num_classes)]


def ntu_classes(data: Data, raw: Path, listed: list[str], public: Sequence[str]) -> list[str]:
    """Names of the classes of NTU's files, from a list, or as the files say them: A001, A002, ...

    Actions without a file are left out if data.num_classes counts the others. ValueError for a list that counts
    neither.
    """
    files, _ = ntu_files(raw, data)
    index, words = number_actions(map(Path, files), data.num_classes)
    used = sorted(index)
    if len(listed) == data.num_classes:
        return listed
    if listed and (len(used) != data.num_classes or used[-1] >= len(listed)):
        raise ValueError(f"data.num_classes = {data.num_classes}, but {raw} names {counted(len(listed), 'class')}, and "
                         f"has files of {counted(len(used), 'action')}, {words[0]} to {words[-1]}")

    # those that have files; or all, which phase 0 reports
    if len(used) == data.num_classes:
        names = listed or public
        if used != list(range(len(used))):
            print(f"  no file of {used[-1] + 1 - len(used)} actions up to {words[-1]}: the {len(used)} others are the "
                  f"classes", file=sys.stderr)
        return [names[k] for k in used] if used[-1] < len(names) else words
    first = int(words[0][1:]) - used[0] if words else 1
    return [f"A{first + k:03d}" for k in range(data.num_classes)]


def listed_classes(reader: str, raw: Path) -> list[str]:
    """The classes that skeleton.json, folders or the words in labels.csv name; [] if there are none."""
    return list(map(str, description(raw, reader).get("classes") or []))


def recorded_labels(reader: str, raw: Path) -> list[object]:
    """The labels of all clips as the recordings have them; [] where they can be no other than numbers of classes."""
    if reader == "pyskl":
        return annotated_labels(annotations_of(raw)["annotations"])
    if reader != "arrays":
        return []
    if not raw.is_dir():
        return as_whole_numbers(npz_arrays(raw, {"labels"}, but="data")["labels"].ravel()).tolist()
    said = [clip.label or "" for clip in laid_out(raw)]
    return class_folders(raw) or said or [row["label"] or "" for row in labelled_rows(raw / "labels.csv")]
