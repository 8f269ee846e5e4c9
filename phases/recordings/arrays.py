"""Anyone's own clips: files with labels.csv, class folders of them, or one packed .npz. numpy only."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import CLASSES, JOINTS, load_npz, one_line, read_json
from phases.recordings.clips import Clip, Skip, main_two, npz_arrays, recorded_as, replications_in_turn
from phases.recordings.labels import (
    HEADER,
    LINE,
    NUMBERS,
    label_words,
    labelled_rows,
    labels_table,
    number_classes,
    read_labels,
)
from phases.recordings.metres import Recorded, as_joints
from phases.recordings.poses import SUFFIXES, is_frames, load_pose, pose_files
from phases.recordings.settings import Data
from skeletons import SKELETONS

METADATA = '{"skeleton": a name or {joints, parents, regions}, "classes": [...]}'
PACKED = ("data", "offsets", "names", "labels")


def read_arrays(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    """Anyone's own clips, in one of three forms.

    A folder: <name>.npy, .json or .csv per clip, or a folder of frames, as poses.py reads them; labels.csv under
    labels.HEADER, the label a class name or the number of one (labels.number_classes), the split train or test;
    skeleton.json as METADATA says. Without it the classes are the labels in order, and the recipe names the skeleton.
    A folder of class folders, <class>/<name>.npy; labels.csv may list them, as <class>/<name> or <class>-<name>. What
    is beside the folders, or is not listed, is skipped with that reason.
    A packed file x.npz: data (rows, V, 3), offsets (N + 1), names, labels, and any other column of labels.csv; beside
    it x.json, as METADATA says.
    Clips without split get replications in turn, unless a column has them.
    """
    classes = list(map(str, metadata(raw).get("classes") or []))
    if not raw.is_dir():
        clips = packed_clips(raw, classes, data)
    elif class_folders(raw):
        clips = clips_in_folders(raw, classes, data)
    else:
        clips = listed_clips(raw, classes, data)
    yield from clips if has_replications(raw) else replications_in_turn(clips)


def has_replications(raw: Path) -> bool:
    """Whether labels.csv, or the packed file, has a column of replications."""
    if not raw.is_dir():
        return "replication" in load_npz(raw, lambda name: False)
    try:
        return "replication" in labels_table(raw / "labels.csv")[1]
    except (OSError, ValueError):
        return False


# ---------------------------------------------------------------------------------------------------------------------
# Skeleton and classes
# ---------------------------------------------------------------------------------------------------------------------

def metadata(raw: Path) -> dict:
    """The table {skeleton, classes} of recordings: skeleton.json of a folder, or the .json beside a packed file.

    Classes that it does not list are the class folders, or the words in labels.csv. ValueError if it is damaged, or
    missing in a folder where nothing else names the classes.
    """
    path = raw / "skeleton.json" if raw.is_dir() else raw.with_suffix(".json")
    folders = class_folders(raw)
    found = folders or label_words(raw / "labels.csv")

    # without the file
    if not path.is_file():
        if found or raw.is_file():
            return {"classes": found}
        table = raw / "labels.csv"
        if raw.is_dir() and table.is_file():
            labelled_rows(table)  # raises if the table is wrong
            return {}
        raise ValueError(f"{path}: missing; it must hold {METADATA}")

    # with it
    d = read_json(path)
    check_metadata(path, d)
    listed = d.get("classes")
    if folders and listed and not set(folders) <= set(map(str, listed)):
        raise ValueError(f"{path}: its classes are not the class folders, {', '.join(folders)}")
    return d | {"classes": listed or found} if found else d


def check_metadata(path: Path, d: object) -> None:
    """ValueError if a value of JSON is not METADATA, or larger than is read."""
    if not isinstance(d, dict) or not isinstance(d.get("classes") or [], list):
        raise ValueError(f"{path}: must be like {METADATA}")
    skeleton = d.get("skeleton")
    if not isinstance(skeleton, (str, dict, type(None))):
        raise ValueError(f"{path}: skeleton must be a name or a table, like {METADATA}")

    # the limits
    classes = d.get("classes") or []
    joints = skeleton.get("joints") if isinstance(skeleton, dict) else ()
    if len(classes) > CLASSES or isinstance(joints, list) and len(joints) > JOINTS:
        raise ValueError(f"{path}: at most {CLASSES} classes and {JOINTS} joints are read")

    for name, times in Counter(map(str, classes)).items():
        if times > 1:
            raise ValueError(f"{path}: names the class {name!r} twice")


def named_joints(raw: Path, data: Data) -> list[str]:
    """The joints of the skeleton that the recordings or the recipe name, for tables with named columns."""
    skeleton = metadata(raw).get("skeleton") or data.skeleton
    if isinstance(skeleton, dict):
        joints = skeleton.get("joints")
        return list(map(str, joints)) if isinstance(joints, list) else []
    return list(SKELETONS[skeleton].joints) if skeleton in SKELETONS else []


# ---------------------------------------------------------------------------------------------------------------------
# Class folders
# ---------------------------------------------------------------------------------------------------------------------

def class_folders(raw: Path) -> list[str]:
    """The names of the class folders, if a folder holds clips in that form."""
    return [] if (raw / "labels.csv").exists() else clip_folders(raw)


def clip_folders(raw: Path) -> list[str]:
    """The names of the folders in a folder that hold clips; hidden ones do not count."""
    if not raw.is_dir():
        return []
    names = []
    for path in raw.iterdir():
        visible = path.is_dir() and path.name[0] != "." and path.name != "__MACOSX"
        if visible and not is_frames(path) and pose_files(path):
            names.append(path.name)
    return sorted(names)


def clips_in_folders(raw: Path, classes: list[str], data: Data) -> Iterator[Clip | Skip]:
    """The clips of each class folder, and a Skip for each clip beside the folders."""
    # clips of no class
    for path in pose_files(raw):
        yield Skip(path.name, 0, "lies beside the class folders; a clip, even a folder of frames, lies in one of them")

    # those of each class
    recorded = recorded_as(data)
    joint_names = named_joints(raw, data)
    folders = class_folders(raw)
    index, _ = number_classes(folders, classes, data.num_classes)
    for folder in folders:
        for path in pose_files(raw / folder):
            try:
                joints = as_joints(load_pose(path, joint_names), recorded)
                name = f"{folder}-{without_suffix(path.name)}"
                yield Clip(name, index[folder], main_two(joints), people=len(joints))
            except Exception as e:  # numpy raises almost anything on damaged bytes
                yield Skip(f"{folder}/{path.name}", 0, one_line(e))


# ---------------------------------------------------------------------------------------------------------------------
# A folder with labels.csv
# ---------------------------------------------------------------------------------------------------------------------

def listed_clips(raw: Path, classes: list[str], data: Data) -> Iterator[Clip | Skip]:
    """The clips that labels.csv lists, and a Skip for each that it does not list."""
    table = raw / "labels.csv"
    if not table.is_file():
        raise ValueError(f"{table}: missing; it lists the clips under the header {HEADER}")
    rows = labelled_rows(table)
    yield from not_listed(raw, rows)

    # a row is a clip
    joint_names = named_joints(raw, data)
    recorded = recorded_as(data)
    index, classes = number_classes([row["label"] or "" for row in rows], classes, data.num_classes, tell=True)
    for row in rows:
        yield listed_clip(raw, row, index, classes, joint_names, recorded)


def not_listed(raw: Path, rows: list[dict]) -> Iterator[Skip]:
    """A Skip for each clip in the folder, or in a folder in it, that no row of labels.csv names."""
    listed = {without_suffix(str(row["name"])) for row in rows}
    why = f"is not listed in labels.csv, which begins with {rows[0]['name']!r}"

    # in the folder itself
    for path in pose_files(raw):
        if without_suffix(path.name) not in listed:
            yield Skip(path.name, 0, why)

    # in class folders: listed as folder/name or folder-name
    for folder in clip_folders(raw):
        for path in pose_files(raw / folder):
            name = without_suffix(path.name)
            if not {f"{folder}/{name}", f"{folder}-{name}"} & listed:
                yield Skip(f"{folder}/{path.name}", 0, why)


def listed_clip(raw: Path, row: dict, index: dict[str, int], classes: list[str], joint_names: Sequence[str],
                recorded: Recorded) -> Clip | Skip:
    """The clip that a row of labels.csv names."""
    # the row
    name = row["name"]
    line = row[LINE]
    if not name:
        return Skip("labels.csv", line, "names no clip")
    if None in row:
        return Skip("labels.csv", line, f"{name}: has more fields than the header")
    try:
        label, splits, numbers = read_labels(row, index, classes)
    except ValueError as e:
        return Skip("labels.csv", line, f"{name}: {e}")

    # the file
    try:
        joints = as_joints(load_pose(clip_file(raw, name), joint_names), recorded)
        return Clip(name.replace("/", "-"), label, main_two(joints), splits=splits, people=len(joints), **numbers)
    except FileNotFoundError as e:
        return Skip(name, 0, f"no such file: {e.filename}, nor one that ends in {', '.join(SUFFIXES[1:])}")
    except Exception as e:  # numpy raises almost anything on damaged bytes
        return Skip(clip_file(raw, name).name, 0, one_line(e))


def clip_file(raw: Path, name: str) -> Path:
    """The file of a clip that labels.csv names: <name>.npy, or for <class>-<name> the file in the class folder.

    If there is none, the path of the first that was looked for.
    """
    stem = without_suffix(name)
    places = [raw / stem]
    for i, letter in enumerate(stem):
        if letter == "-":
            places.append(raw / stem[:i] / stem[i + 1:])

    # a file that ends in small letters; a folder of frames
    files = [Path(f"{place}{suffix}") for place in places for suffix in SUFFIXES]
    for path in files:
        if path.is_file():
            return path
    for path in places:
        if path.is_dir():
            return path

    # a file that ends in .NPY
    for place in places:
        if not place.parent.is_dir():
            continue
        for path in place.parent.iterdir():
            if path.is_file() and path.suffix.lower() in SUFFIXES and without_suffix(path.name) == place.name:
                return path
    return files[0]


def without_suffix(name: str) -> str:
    """The name of a clip without a suffix that clips have."""
    return next((name[:-len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


# ---------------------------------------------------------------------------------------------------------------------
# A packed file
# ---------------------------------------------------------------------------------------------------------------------

def packed_clips(raw: Path, classes: list[str], data: Data) -> Iterator[Clip | Skip]:
    """The clips of a packed file: clip i has the rows offsets[i] to offsets[i + 1] of data."""
    arrays = npz_arrays(raw, set(PACKED))
    columns = packed_columns(raw, arrays)
    offsets = arrays["offsets"]

    # each clip with its row of labels
    recorded = recorded_as(data)
    index, classes = number_classes(columns["label"].tolist(), classes, data.num_classes, tell=True)
    for i, name in enumerate(map(str, arrays["names"])):
        row = {key: str(column[i]) for key, column in columns.items()}
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


def packed_columns(raw: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{column of labels.csv: its values} of a packed file; ValueError if its arrays do not fit each other."""
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
    return {key.replace("labels", "label"): column for key, column in found.items()}
