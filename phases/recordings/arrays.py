"""Anyone's own clips: files with labels.csv, class folders of them, or one packed .npz. numpy only."""
from __future__ import annotations

import csv
import difflib
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from phases.common.limits import CLASSES, JOINTS, load_npz, one_line, read_bytes, read_json
from phases.recordings.clips import Clip, Skip, count_from, main_two, npz_arrays, recorded_as, replications_in_turn
from phases.recordings.metres import as_joints
from phases.recordings.poses import SUFFIXES, is_frames, load_pose, pose_files
from phases.recordings.settings import Data

NUMBERS = ("subject", "camera", "setup", "replication")
COLUMNS = {"name", "label", *NUMBERS, "split"}
LINE = "its line"  # no column is called so
LABELS_HEADER = "name,label[,subject,camera,setup,replication,split]"
METADATA = '{"skeleton": a name or {joints, parents, regions}, "classes": [...]}'


def read_arrays(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    """Anyone's own clips, in one of three forms.

    A folder: <name>.npy, .json or .csv per clip, or a folder of frames, as poses.py reads them; labels.csv under
    LABELS_HEADER, the label a number from 0 (or 1, if all are from 1 to the number of classes) or a class name, the
    split train or test; skeleton.json as METADATA says; without it the classes are the labels in order, and the recipe
    names the skeleton.
    A folder of class folders, <class>/<name>.npy; labels.csv may list them, as <class>/<name> or <class>-<name>. What
    lies beside the folders, or is not listed, is skipped with that reason.
    A packed file x.npz: data (rows, V, 3), offsets (N + 1), names, labels, and any other column of labels.csv; beside
    it x.json, as METADATA says.
    Clips without split get replications in turn, unless a column tells them.
    """
    form = _packed if not raw.is_dir() else _class_folders if class_folders(raw) else _folder
    classes = list(map(str, metadata(raw).get("classes") or []))
    yield from form(raw, classes, data) if has_replications(raw) else replications_in_turn(form(raw, classes, data))


def has_replications(raw: Path) -> bool:
    """Whether labels.csv, or the packed file, has a column of replications."""
    if not raw.is_dir():
        return "replication" in load_npz(raw, lambda name: False)
    try:
        return "replication" in labels_table(raw / "labels.csv")[1]
    except (OSError, ValueError):
        return False


def class_folders(raw: Path) -> list[str]:
    """The names of the class folders, if a folder holds clips in that form."""
    return [] if (raw / "labels.csv").exists() else clip_folders(raw)


def clip_folders(raw: Path) -> list[str]:
    """The names of the folders in a folder that hold clips; hidden ones do not count."""
    if not raw.is_dir():
        return []
    return sorted(path.name for path in raw.iterdir() if path.is_dir() and path.name[0] != "."
                  and path.name != "__MACOSX" and not is_frames(path) and pose_files(path))


def label_words(raw: Path) -> list[str]:
    """The labels of labels.csv in order, if none is a number."""
    try:
        words = {row.get("label") or "" for row in labels_table(raw / "labels.csv")[0]}
    except (OSError, ValueError):
        return []
    return sorted(words) if words and not any(not word or word.isdigit() for word in words) else []


def labels_table(path: Path) -> tuple[list[dict], list[str]]:
    """Rows and columns of labels.csv, a row's line under LINE; ValueError if it is no such text or too large."""
    try:
        text = read_bytes(path).decode("utf-8-sig")  # Excel begins a file with a byte order mark
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        if len(reader.fieldnames or []) > 100 or text.count("\n") + text.count("\r") > 2_000_000:
            raise csv.Error("at most 100 columns and a million lines are read")
        reader.fieldnames = [str(name).strip() for name in reader.fieldnames or []]
        rows = [{key: value.strip() if isinstance(value, str) else value for key, value in row.items()}
                | {LINE: reader.line_num} for row in reader]
        return rows, reader.fieldnames
    except UnicodeDecodeError as e:
        raise ValueError(f"{path}: is not in UTF-8 ({e})") from None
    except csv.Error as e:
        raise ValueError(f"{path}: is not the table that it must be: {e}") from None


def labelled_rows(table: Path) -> list[dict]:
    """The rows of labels.csv; ValueError if its header is another."""
    rows, columns = labels_table(table)
    if not {"name", "label"} <= set(columns) <= COLUMNS or not rows:
        header = ",".join(columns)
        found = f"its header is {header!r}" if rows or not columns else f"below {header!r} it has none"
        raise ValueError(f"{table}: must have the header {LABELS_HEADER} with commas between, and a line per clip; "
                         f"{found}")
    return rows


def joints_of(raw: Path, data: Data) -> list[str]:
    """The joints of the skeleton that the recordings or the recipe name, for tables with named columns."""
    from skeletons import SKELETONS
    named = metadata(raw).get("skeleton") or data.skeleton
    named = named if isinstance(named, dict) else {"joints": SKELETONS[named].joints if named in SKELETONS else ()}
    return [str(joint) for joint in named.get("joints", ())]


def bare(name: str) -> str:
    """The name of a clip without its suffix."""
    return next((name[:-len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def clip_file(raw: Path, name: str) -> Path:
    """The file of a clip that labels.csv names: <name>.npy, or for <class>-<name> the file in the class folder."""
    stem = bare(name)
    places = [raw / stem] + [raw / stem[:i] / stem[i + 1:] for i, c in enumerate(stem) if c == "-"]
    files = [Path(f"{place}{suffix}") for place in places for suffix in SUFFIXES]
    found = next((path for path in files if path.is_file()), next(filter(Path.is_dir, places), None))
    if found is None:  # .NPY
        beside = [path for place in places if place.parent.is_dir() for path in place.parent.iterdir()
                  if path.is_file() and path.suffix.lower() in SUFFIXES and bare(path.name) == place.name]
        found = beside[0] if beside else files[0]
    return found


def _class_folders(raw: Path, classes: list[str], data: Data) -> Iterator[Clip | Skip]:
    """The clips of each class folder."""
    recorded, joints_named = recorded_as(data), joints_of(raw, data)
    for path in pose_files(raw):
        yield Skip(path.name, 0, "lies beside the class folders; a clip, even a folder of frames, lies in one of them")
    for path in [path for folder in class_folders(raw) for path in pose_files(raw / folder)]:
        name = f"{path.parent.name}-{bare(path.name)}"
        try:
            joints = as_joints(load_pose(path, joints_named), recorded)
            yield Clip(name, classes.index(path.parent.name), main_two(joints), people=len(joints))
        except Exception as e:  # see read_clip
            yield Skip(f"{path.parent.name}/{path.name}", 0, one_line(e))


def _folder(raw: Path, classes: list[str], data: Data) -> Iterator[Clip | Skip]:
    """The clips that labels.csv lists, and a Skip for each that it does not list."""
    table = raw / "labels.csv"
    if not table.is_file():
        raise ValueError(f"{table}: missing; it lists the clips under the header {LABELS_HEADER}")
    rows = labelled_rows(table)
    listed = {bare(str(row["name"])) for row in rows}
    for path in [*pose_files(raw), *(path for folder in clip_folders(raw) for path in pose_files(raw / folder))]:
        inside = path.parent != raw
        name = f"{path.parent.name}/{bare(path.name)}" if inside else bare(path.name)
        if not {name, name.replace("/", "-", int(inside))} & listed:
            yield Skip(f"{path.parent.name}/{path.name}" if inside else path.name, 0,
                       f"is not listed in {table.name}, which begins with {rows[0]['name']!r}")
    joints_named = joints_of(raw, data)
    recorded, first = recorded_as(data), count_from([row["label"] for row in rows], data.num_classes)
    for row in rows:
        name, line = row["name"], row[LINE]
        if not name:
            yield Skip(table.name, line, "names no clip")
            continue
        if None in row:
            yield Skip(table.name, line, f"{name}: has more fields than the header")
            continue
        try:
            label, splits, numbers = labels_line(row, classes, first)
        except ValueError as e:
            yield Skip(table.name, line, f"{name}: {e}")
            continue
        try:
            joints = as_joints(load_pose(clip_file(raw, name), joints_named), recorded)
            yield Clip(name.replace("/", "-"), label, main_two(joints), splits=splits, people=len(joints), **numbers)
        except FileNotFoundError as e:
            yield Skip(name, 0, f"no such file: {e.filename}, nor one that ends in {', '.join(SUFFIXES[1:])}")
        except Exception as e:  # see read_clip
            yield Skip(clip_file(raw, name).name, 0, one_line(e))


def _packed(raw: Path, classes: list[str], data: Data) -> Iterator[Clip | Skip]:
    """The clips of a packed file: clip i has the rows offsets[i] to offsets[i + 1] of data."""
    a = npz_arrays(raw, {"data", "offsets", "names", "labels"})
    for k in ("data", "offsets", "names", "labels", *NUMBERS, "split"):
        if k in a and (not a[k].ndim or a[k].ndim > 1 and k != "data"):
            raise ValueError(f"{raw}: {k} has shape {a[k].shape}: must have one value per clip")
    N, at, rows = len(a["names"]), a["offsets"], len(a["data"])
    columns = {k: a[k] for k in ("labels", *NUMBERS, "split") if k in a}
    fits = len(at) == N + 1 and all(len(column) == N for column in columns.values())
    if not fits or at.dtype.kind not in "iu" or at[0] != 0 or at[-1] != rows or (at[1:] < at[:-1]).any():
        lengths = ", ".join(f"{len(column)} {k}" for k, column in columns.items())
        raise ValueError(f"{raw}: {N} names, {len(at)} offsets, {lengths}: each column must have one value per name, "
                         f"and offsets must be {N + 1} whole numbers that rise from 0 to {rows}")
    recorded, first = recorded_as(data), count_from(a["labels"].tolist(), data.num_classes)
    for i, name in enumerate(map(str, a["names"])):
        row = {k.replace("labels", "label"): str(column[i]) for k, column in columns.items()}
        try:
            label, splits, numbers = labels_line(row, classes, first)
            yield Clip(name, label, as_joints(a["data"][at[i]:at[i + 1]], recorded), splits=splits, **numbers)
        except ValueError as e:
            yield Skip(f"{raw.name}:{name}", 0, str(e))


def labels_line(row: dict[str, str | None], classes: list[str],
                first: int = 0) -> tuple[int, dict[str, int], dict[str, int]]:
    """(label, splits, numbers) of a line of labels.csv; ValueError says which field is wrong. Numbers count from first.
    """
    word, split = row["label"] or "", row.get("split", "")
    if word not in classes and not re.fullmatch(r"\d{1,9}", word):
        hint = ": skeleton.json lacks `classes`"
        if classes:
            close = difflib.get_close_matches(word, classes, n=1, cutoff=0.5)
            hint = (f", did you mean {close[0]!r}?" if close else "") + f" (known: {', '.join(sorted(classes))})"
        raise ValueError(f"label {word!r} is neither a class nor the number of one{hint}")
    if split not in ("", "train", "test"):
        raise ValueError(f"split {split!r} is neither train nor test")
    label = classes.index(word) if word in classes else int(word) - first
    splits = {"given": ("train", "test").index(split)} if split else {}
    numbers = {}
    for key in NUMBERS:
        if key in row:
            if not re.fullmatch(r"-?\d{1,9}", row[key] or ""):
                raise ValueError(f"{key} {row[key] or ''!r} is not a whole number")
            numbers[key] = int(row[key])
    return label, splits, numbers


def metadata(raw: Path) -> dict:
    """skeleton.json of a folder, or the .json beside a packed file; classes that nobody lists are folders or labels."""
    path, folders = raw / "skeleton.json" if raw.is_dir() else raw.with_suffix(".json"), class_folders(raw)
    found = folders or label_words(raw)
    if found and not path.is_file():
        return {"classes": found}
    if not path.is_file():
        if raw.is_dir() and (raw / "labels.csv").is_file():
            labelled_rows(raw / "labels.csv")  # says what is wrong with it
            return {}
        raise ValueError(f"{path}: missing; it must hold {METADATA}")
    d = read_json(path)
    if not isinstance(d, dict) or not isinstance(d.get("classes") or [], list):
        raise ValueError(f"{path}: must be like {METADATA}")
    if not isinstance(d.get("skeleton"), (str, dict, type(None))):
        raise ValueError(f"{path}: skeleton must be a name or a table, like {METADATA}")
    joints = d["skeleton"].get("joints") if isinstance(d.get("skeleton"), dict) else ()
    if len(d.get("classes") or ()) > CLASSES or isinstance(joints, list) and len(joints) > JOINTS:
        raise ValueError(f"{path}: at most {CLASSES} classes and {JOINTS} joints are read")
    for name, times in Counter(map(str, d.get("classes") or [])).items():
        if times > 1:
            raise ValueError(f"{path}: names the class {name!r} twice")
    if folders and not set(folders) <= set(map(str, d.get("classes") or folders)):
        raise ValueError(f"{path}: its classes are not the class folders, {', '.join(folders)}")
    return d | ({"classes": d.get("classes") or found} if found else {})
