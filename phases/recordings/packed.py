"""Recordings packed into one .npz: all clips in one array, their offsets, names and labels."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from phases.recordings.clips import Clip, Skip, npz_arrays, recorded_as
from phases.recordings.labels import NAMED, NUMBERS, number_classes, numbers_of_names, read_labels
from phases.recordings.metres import as_joints
from phases.recordings.settings import Data

PACKED = ("data", "offsets", "names", "labels")


def packed_clips(raw: Path, classes: list[str], data: Data) -> Iterator[Clip | Skip]:
    """The clips of a packed file: clip i has the rows offsets[i] to offsets[i + 1] of data."""
    arrays = npz_arrays(raw, set(PACKED))
    columns = packed_columns(raw, arrays)
    offsets = arrays["offsets"]

    # each clip with its row of labels
    recorded = recorded_as(data)
    index, classes = number_classes(columns["label"], classes, data.num_classes, tell=True)
    for i, name in enumerate(map(str, arrays["names"])):
        row = {key: column[i] for key, column in columns.items()}
        try:
            label, splits, numbers = read_labels(row, index, classes)
            joints = as_joints(arrays["data"][offsets[i]:offsets[i + 1]], recorded)
            yield Clip(name, label, joints, splits=splits, **numbers)
        except ValueError as e:
            yield Skip(f"{raw.name}:{name}", 0, str(e))


def as_whole_numbers(labels: np.ndarray) -> np.ndarray:
    """Labels as integers, if they are such in floating point."""
    is_whole = labels.dtype.kind == "f" and bool((np.abs(labels) < 1e9).all()) and bool((labels % 1 == 0).all())
    return labels.astype(np.int64) if is_whole else labels


def packed_columns(raw: Path, arrays: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """{column of labels.csv: its values as text} of a packed file; ValueError if its arrays do not fit each other."""
    for key in (*PACKED, *NUMBERS, "split"):
        array = arrays.get(key)
        if array is not None and (not array.ndim or array.ndim > 1 and key != "data"):
            raise ValueError(f"{raw}: {key} has shape {array.shape}: must have one value per clip")

    # one value per clip
    names, offsets = arrays["names"], arrays["offsets"]
    found = {key: arrays[key] for key in ("labels", *NUMBERS, "split") if key in arrays}
    found["labels"] = as_whole_numbers(found["labels"])
    fits = len(offsets) == len(names) + 1 and all(len(column) == len(names) for column in found.values())

    # offsets that rise from the first row to the last
    rows = len(arrays["data"])
    rise = fits and offsets.dtype.kind in "iu" and bool((offsets[1:] >= offsets[:-1]).all())
    if not rise or offsets[0] != 0 or offsets[-1] != rows:
        lengths = ", ".join(f"{len(column)} {key}" for key, column in found.items())
        raise ValueError(f"{raw}: {len(names)} names, {len(offsets)} offsets, {lengths}: each column must have one "
                         f"value per name, and offsets must be {len(names) + 1} whole numbers that rise from 0 to "
                         f"{rows}")

    # people by name
    columns = {key.replace("labels", "label"): list(map(str, column)) for key, column in found.items()}
    for key in NAMED:
        number_of = numbers_of_names(key, columns.get(key, []))
        if number_of:
            columns[key] = [number_of.get(word, word) for word in columns[key]]
    return columns
