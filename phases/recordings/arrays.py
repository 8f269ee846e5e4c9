"""Anyone's own clips: files with labels.csv, class folders of them, or one packed .npz. numpy only."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from phases.common.limits import CLASSES, JOINTS, load_npz, one_line, read_json
from phases.recordings.clips import Clip, Skip, main_two, recorded_as, replications_in_turn
from phases.recordings.known_files import known_body
from phases.recordings.labels import (
    HEADER,
    LINE,
    NAMED,
    label_words,
    labelled_rows,
    labels_table,
    number_classes,
    numbers_of_names,
    read_labels,
)
from phases.recordings.laid_out import laid_out, laid_out_classes
from phases.recordings.metres import Recorded, as_joints
from phases.recordings.packed import packed_clips
from phases.recordings.poses import SUFFIXES, is_frames, load_pose, pose_files
from phases.recordings.settings import Data
from phases.recordings.sides import side_folders, side_of, split_of_sides
from skeletons import SKELETONS

METADATA = '{"skeleton": a name or {joints, parents, regions}, "classes": [...]}'


def read_arrays(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    """Anyone's own clips, in one of these forms.

    A folder: <name>.npy, .json or .csv per clip, or a folder of frames, as poses.py reads them; labels.csv under
    labels.HEADER, the label a class name or the number of one (labels.number_classes), the split train or test;
    skeleton.json as METADATA says. Without it the classes are the labels in order, and the recipe names the skeleton.
    A folder of class folders, <class>/<name>.npy; labels.csv may list them, as <class>/<name> or <class>-<name>. What
    is beside the folders, or is not listed, is skipped with that reason.
    Folders train and test (and val) of class folders, which become the split `given`; a data set of laid_out.py.
    A packed file x.npz: data (rows, V, 3), offsets (N + 1), names, labels, and any other column of labels.csv; beside
    it x.json or skeleton.json, as METADATA says.
    Clips without split get replications in turn, unless a column has them.
    """
    classes = list(map(str, metadata(raw).get("classes") or []))
    if not raw.is_dir():
        clips = packed_clips(raw, classes, data)
    elif laid_out(raw):
        clips = said_clips(raw, classes, data)
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
    """The table {skeleton, classes} of recordings: skeleton.json of a folder, or what is beside a packed file.

    Classes that it does not list are the class folders, or the words in labels.csv. ValueError if it is damaged, or
    missing in a folder where nothing else names the classes.
    """
    path = description_file(raw)
    folders = class_folders(raw)
    found = folders or laid_out_classes(raw) or label_words(raw / "labels.csv")

    # without the file
    if not path.is_file():
        if found or raw.is_file():
            return with_known_body(raw, {"classes": found})
        table = raw / "labels.csv"
        if raw.is_dir() and table.is_file():
            labelled_rows(table)  # raises if the table is wrong
            return with_known_body(raw, {})
        raise ValueError(f"{path}: missing; it must hold {METADATA}")

    # with it
    d = read_json(path)
    check_metadata(path, d)
    listed = d.get("classes")
    if folders and listed and not set(folders) <= set(map(str, listed)):
        raise ValueError(f"{path}: its classes are not the class folders, {', '.join(folders)}")
    return with_known_body(raw, d | {"classes": listed or found} if found else d)


def with_known_body(raw: Path, d: dict) -> dict:
    """Metadata, with the skeleton that the format of the first clip fixes unless they have one.

    `in_metres` is true if the format fixes unit and upright axis, too.
    """
    file = first_clip(raw)
    known = known_body(file) if file else None
    if known is None:
        return d
    name = known.skeleton.name
    skeleton = name if SKELETONS.get(name) == known.skeleton else known.skeleton.to_dict()
    return d | {"skeleton": d.get("skeleton") or skeleton, "in_metres": known.in_metres}


def first_clip(raw: Path) -> Path | None:
    """The first clip in a folder of recordings, or in its class folders."""
    if not raw.is_dir():
        return None
    said = laid_out(raw)
    if said:
        return said[0].path
    folders = [folder for _, folder, _ in class_paths(raw)]
    return next((file for folder in (*folders, raw) for file in pose_files(folder)), None)


def description(raw: Path, reader: str) -> dict:
    """The table {skeleton, classes} of recordings, for any reader; {} for readers that can do without one."""
    if reader == "arrays":
        return metadata(raw)
    path = description_file(raw)
    d = read_json(path) if path.is_file() else {}

    # beside a pickle, a file of its name may be about anything
    if path.name != "skeleton.json" and not (isinstance(d, dict) and d.keys() & {"skeleton", "classes"}):
        return {}
    check_metadata(path, d)
    return d


def description_file(raw: Path) -> Path:
    """skeleton.json in a folder; x.json beside a file x.npz or x.pkl, else skeleton.json beside it.

    The first of the two, if there is none.
    """
    if raw.is_dir():
        return raw / "skeleton.json"
    own = raw.with_suffix(".json")
    beside = raw.with_name("skeleton.json")
    return beside if beside.is_file() and not own.is_file() else own


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
    if (raw / "labels.csv").exists() or laid_out(raw):
        return []
    names = sorted({name for name, _, _ in class_paths(raw)})
    sides = {side_of(name) for name in names}
    if "train" in sides and len(sides) > 1 and "" not in sides:
        raise ValueError(f"{raw}: {' and '.join(names)} are sides of a split and hold clips: which action is each? "
                         "Give each side a folder per class")
    return names


def class_paths(raw: Path) -> list[tuple[str, Path, str]]:
    """(class, its folder, side) of class folders; the side is empty unless these are in folders train and test."""
    found = [(name, raw / name, "") for name in clip_folders(raw)]
    return found or class_paths_of_sides(raw)


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


def class_paths_of_sides(raw: Path) -> list[tuple[str, Path, str]]:
    """class_paths of folders train, test and perhaps val that hold the class folders; [] if there are none."""
    found = []
    for side in side_folders(raw):
        found += [(name, side / name, side.name) for name in clip_folders(side)]
    return found if len({side for _, _, side in found}) > 1 else []


def clips_in_folders(raw: Path, classes: list[str], data: Data) -> Iterator[Clip | Skip]:
    """The clips of each class folder, and a Skip for each clip beside the folders."""
    # clips of no class
    for path in pose_files(raw):
        yield Skip(path.name, 0, "lies beside the class folders; a clip, even a folder of frames, lies in one of them")

    # those of each class
    recorded = recorded_as(data)
    joint_names = named_joints(raw, data)
    paths = class_paths(raw)
    index, _ = number_classes([label for label, _, _ in paths], classes, data.num_classes)
    sides = split_of_sides({side for _, _, side in paths})
    for label, folder, side in paths:
        for path in pose_files(folder):
            file = str(path.relative_to(raw))
            try:
                joints = as_joints(load_pose(path, joint_names), recorded)
                splits = {"given": sides[side]} if side else {}
                name = without_suffix(file).replace("/", "-")
                yield Clip(name, index[label], main_two(joints), splits=splits, people=len(joints))
            except Exception as e:  # numpy raises almost anything on damaged bytes
                yield Skip(file, 0, one_line(e))


# ---------------------------------------------------------------------------------------------------------------------
# Data sets that say what their clips are
# ---------------------------------------------------------------------------------------------------------------------

def said_clips(raw: Path, classes: list[str], data: Data) -> Iterator[Clip | Skip]:
    """The clips of a data set that laid_out.py knows."""
    recorded = recorded_as(data)
    joint_names = named_joints(raw, data)
    said_of_all = laid_out(raw)
    index, _ = number_classes([said.label or "" for said in said_of_all], classes, data.num_classes)
    for said in said_of_all:
        file = str(said.path.relative_to(raw.absolute()))
        if not said.label:
            yield Skip(file, 0, "holds no JSON with a label, text, and a label_index, a number")
            continue

        # some sets use a part of a file's frames
        try:
            joints = as_joints(load_pose(said.path, joint_names), recorded)
            last = len(joints[0]) if said.last is None else said.last + 1
            joints = joints[:, said.first:last]
            splits = {} if said.split is None else {"given": said.split}
            yield Clip(said.name, index[said.label], main_two(joints), said.subject, splits=splits,
                       people=len(joints))
        except Exception as e:  # numpy raises almost anything on damaged bytes
            yield Skip(file, 0, one_line(e))


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

    # people by name
    for key in NAMED:
        number_of = numbers_of_names(key, [row.get(key) for row in rows])
        rows = [row | {key: number_of[row[key]]} if row.get(key) in number_of else row for row in rows]

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
