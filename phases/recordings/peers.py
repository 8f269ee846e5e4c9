"""Other projects' packed files: CTR-GCN's .npz and pyskl's annotation pickle."""
from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from phases.common.limits import check_size, one_line, open_zip, reading
from phases.recordings.clips import (
    Clip,
    Skip,
    main_two,
    npz_arrays,
    recorded_as,
    replications_in_turn,
    trimmed,
)
from phases.recordings.labels import number_classes
from phases.recordings.metres import PLACE, Recorded, as_joints
from phases.recordings.ntu import ntu_fields
from phases.recordings.pickles import read_annotations
from phases.recordings.settings import Data

SPINE = 1   # the joint that CTR-GCN's clips are centred on
TRAINING = ("train", "training")  # sides of pyskl's splits; all others test

# ---------------------------------------------------------------------------------------------------------------------
# CTR-GCN
# ---------------------------------------------------------------------------------------------------------------------

def read_ctrgcn(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    """CTR-GCN's .npz files, such as NTU60_CS.npz. They bring the split `given`.

    x_train and x_test (N, T, 150) hold two bodies of 25 joints; y_train and y_test are one-hot. CTR-GCN subtracts the
    middle of the spine in the first frame from each clip, where that joint is then 0, 0, 0, and not missing.
    """
    arrays = npz_arrays(raw, {"x_train", "y_train", "x_test", "y_test"}, but="x_")
    for side, name in enumerate(("train", "test")):
        # as many rows as labels, each of two bodies
        labels = arrays[f"y_{name}"]
        shape, rows = npz_rows(raw, f"x_{name}")
        if not 1 <= labels.ndim <= 2 or len(shape) != 3 or shape[2] % 6 or shape[0] != len(labels):
            raise ValueError(f"{raw}: x_{name} has shape {shape}, y_{name} {labels.shape}: "
                             "must be (clips, frames, 2 * joints * 3) and as many labels")

        # a bad row costs its clip, damaged bytes all rows after them
        i = 0
        try:
            for i, row in enumerate(rows):
                try:
                    yield ctrgcn_clip(row, labels[i], name, i, side)
                except (ValueError, TypeError, OverflowError) as e:
                    yield Skip(f"{raw.name}:x_{name}[{i}]", 0, one_line(e))
        except Exception as e:  # zipfile and zlib raise types of their own for damaged bytes
            yield Skip(f"{raw.name}:x_{name}", 0, f"is damaged ({one_line(e)}): cannot be read beyond clip {i}")


def ctrgcn_clip(row: np.ndarray, label: np.ndarray, name: str, i: int, side: int) -> Clip:
    """Clip i of an array: its joints (T, 2 * V * 3) in a row, its label one-hot or a number."""
    if label.ndim and (np.count_nonzero(label) != 1 or label.max() != 1):
        raise ValueError(f"y_{name}[{i}] is not one-hot")
    joints = np.moveaxis(row.reshape(len(row), 2, -1, 3), 1, 0)  # m l v c
    joints = off_the_origin(trimmed(as_joints(joints)))
    number = int(label.argmax() if label.ndim else label)
    return Clip(f"{name}_{i:06d}", number, joints, splits={"given": side})


def off_the_origin(joints: np.ndarray) -> np.ndarray:
    """Joints (M, L, V, 3), moved by PLACE if CTR-GCN's origin is one of them: the middle of the first body's spine, in
    the first frame that shows it, as the only joint at 0, 0, 0. Bodies that a frame does not show stay 0."""
    there = joints.any(3)  # m l v
    shown = there.any(2)   # m l
    first = joints[0][shown[0]][:1]
    if not len(first) or np.flatnonzero(~first[0].any(1)).tolist() != [SPINE]:
        return joints
    return np.where(shown[..., None, None], joints + PLACE, np.float32(0))


def npz_rows(path: Path, key: str) -> tuple[tuple[int, ...], Iterator[np.ndarray]]:
    """Shape of one array in an .npz file, and its rows one at a time: the whole array may not fit in memory."""
    with reading(path), open_zip(path) as z, z.open(f"{key}.npy") as f:
        shape, _ = numbers_header(z, f, key)
    return shape, unpacked_rows(path, key)


def unpacked_rows(path: Path, key: str) -> Iterator[np.ndarray]:
    with open_zip(path) as z, z.open(f"{key}.npy") as f:
        shape, dtype = numbers_header(z, f, key)
        size = dtype.itemsize * int(np.prod(shape[1:]))
        for _ in range(shape[0]):
            yield np.frombuffer(f.read(size), dtype).reshape(shape[1:])


def numbers_header(z: zipfile.ZipFile, f: IO[bytes], key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array that begins here; ValueError if its rows are not one after another."""
    shape, fortran, dtype = check_size(f, z.getinfo(f"{key}.npy").file_size, np.inf)
    if fortran or dtype.kind not in "fiu" or len(shape) < 2:
        order = "Fortran" if fortran else "C"
        raise ValueError(f"{key} must be an array of numbers in C order with two or more axes, "
                         f"but has type {dtype}, {order} order and shape {shape}")
    return shape, dtype


# ---------------------------------------------------------------------------------------------------------------------
# pyskl
# ---------------------------------------------------------------------------------------------------------------------

def read_pyskl(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    """pyskl's annotation pickle. It brings its splits: xsub_train and xsub_val (or xsub_test) become the protocol xsub.

    {split: {name: [frame_dir]}, annotations: [{frame_dir, label, keypoint (M, L, V, C), ...}]}, or the bare list of
    annotations. keypoint_score (M, L, V) decides which joints are missing. Of many people the two that move most stay.
    Clips without split get replications in turn, unless their names are like NTU RGB+D's, which hold one.
    """
    yield from replications_in_turn(annotated_clips(raw, data))


def annotated_clips(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    # what holds for all of them
    d = read_annotations(raw)
    recorded = recorded_as(data)
    index, _ = number_classes(annotated_labels(d["annotations"]), [], data.num_classes, tell=True)
    sides = sides_of_splits(d["split"])

    # each by its name, else by its number
    for i, annotation in enumerate(d["annotations"]):
        name = str(annotation.get("frame_dir", i)) if isinstance(annotation, dict) else str(i)
        try:
            yield annotated_clip(annotation, name, index, sides, recorded)
        except (ValueError, KeyError, TypeError, OverflowError) as e:
            yield Skip(f"{raw.name}:{name}", 0, f"lacks {e}" if isinstance(e, KeyError) else one_line(e))


def sides_of_splits(splits: dict) -> dict[str, dict[str, int]]:
    """{protocol: {clip: 0 training, 1 test}} of pyskl's splits {protocol_side: clips}."""
    sides: dict[str, dict[str, int]] = {}
    for name, members in splits.items():
        protocol, _, side = str(name).rpartition("_")
        if not isinstance(members, (list, tuple)):
            members = np.asarray(members).tolist()
        number = int(side not in TRAINING)
        sides.setdefault(protocol or "given", {}).update(dict.fromkeys(map(str, members), number))
    return sides


def annotated_labels(annotations: list) -> list[int]:
    """The labels of annotations that have one; without it an annotation costs its own clip alone."""
    labels = []
    for annotation in annotations:
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
            labels.append(int(annotation["label"]))
    return [label for label in labels if abs(label) < 10**9]


def annotated_clip(annotation: dict, name: str, index: dict[str, int], sides: dict[str, dict[str, int]],
                   recorded: Recorded) -> Clip:
    """The clip of an annotation; index: of labels.number_classes. ValueError, KeyError or TypeError if it is none."""
    # the numbers in a name of NTU RGB+D
    try:
        numbers = ntu_fields(name)
    except ValueError:
        numbers = {}

    # joints of low score are missing
    joints = as_joints(np.asarray(annotation["keypoint"]), recorded)
    score = annotation.get("keypoint_score")
    if score is not None:
        score = np.asarray(score, np.float32).reshape(joints.shape[:3])
        joints = joints * ((score > 0) & (score >= recorded.min_score))[..., None]

    # the two who move most
    people = len(joints)
    joints = trimmed(main_two(joints, score))
    label = int(annotation["label"])
    numbers["label"] = index.get(str(label), label)
    splits = {protocol: side.get(name, -1) for protocol, side in sides.items()}
    return Clip(name, joints=joints, splits=splits, people=people, **numbers)
