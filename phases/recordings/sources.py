"""What phase 0 knows of the recordings before it reads their clips: the skeleton, and the names of the classes."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from phases.common.command import nearest
from phases.common.protocols import NTU_CLASSES, NW_UCLA_CLASSES
from phases.recordings.arrays import as_whole_numbers, class_folders, metadata
from phases.recordings.clips import npz_arrays
from phases.recordings.labels import labelled_rows, number_classes
from phases.recordings.peers import annotated_labels
from phases.recordings.pickles import read_annotations
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
    brought = None
    if data.reader == "arrays":
        brought = metadata(raw).get("skeleton")
    elif data.reader == "pyskl" and not data.skeleton:
        brought = pyskl_skeleton(raw)

    if isinstance(brought, dict):
        try:
            return Skeleton.from_dict(brought)
        except ValueError as e:
            path = raw / "skeleton.json" if raw.is_dir() else raw.with_suffix(".json")
            raise ValueError(f"{path}: {e}") from None
    if brought is not None and brought not in SKELETONS:
        known = nearest(brought, SKELETONS)
        raise ValueError(f"skeleton {brought!r} of {raw} is unknown{known}; or spell it out as a table")
    return SKELETONS.get(brought)


def pyskl_skeleton(raw: Path) -> str | None:
    """The name of the skeleton by the number of joints, if all annotations of a pickle have the same."""
    clips = [a for a in read_annotations(raw)["annotations"] if isinstance(a, dict)]
    joints = {np.shape(a.get("keypoint"))[-2:-1] for a in clips}
    return PYSKL_SKELETONS.get(joints.pop()) if len(joints) == 1 else None


def recorded_classes(data: Data, raw: Path) -> list[str]:
    """Names of the classes: those in the recordings, those of a public data set, or "class 0", "class 1", ...

    ValueError if data.num_classes counts neither all of them nor those that have clips.
    """
    # those of a public data set, if the recordings have no names
    listed = listed_classes(data.reader, raw)
    public = PUBLIC_CLASSES.get(data.name, ())
    if not listed and len(public) == data.num_classes:
        return list(public)

    labels = recorded_labels(data.reader, raw)
    _, names = number_classes(labels, listed, data.num_classes)
    if labels and len(names) != data.num_classes:
        _, used = number_classes(labels, listed, 0)
        some = "" if len(used) == len(names) else f", {len(used)} of them with clips"
        raise ValueError(f"data.num_classes = {data.num_classes}, but {raw} names {len(names)} "
                         f"class{'es' * (len(names) != 1)}{some}")
    return names if labels else [f"class {k}" for k in range(data.num_classes)]


def listed_classes(reader: str, raw: Path) -> list[str]:
    """The classes that skeleton.json, folders or the words in labels.csv name; [] if there are none."""
    return list(map(str, metadata(raw).get("classes") or [])) if reader == "arrays" else []


def recorded_labels(reader: str, raw: Path) -> list[object]:
    """The labels of all clips as the recordings have them; [] where they can be no other than numbers of classes."""
    if reader == "pyskl":
        return annotated_labels(read_annotations(raw)["annotations"])
    if reader != "arrays":
        return []
    if not raw.is_dir():
        return as_whole_numbers(npz_arrays(raw, {"labels"}, but="data")["labels"].ravel()).tolist()
    return class_folders(raw) or [row["label"] or "" for row in labelled_rows(raw / "labels.csv")]
