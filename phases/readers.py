"""Readers: the bytes of a file -> joints. numpy only.

A reader yields a Clip for each recording, or a Skip that says which file is left out, and why. There are readers for
NTU RGB+D text (ntu.py parses it), Northwestern-UCLA, CTR-GCN's arrays, pyskl's annotations, and anyone's own arrays.
"""
from __future__ import annotations

import csv
import difflib
import json
import lzma
import re
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from metres import Recorded, as_joints
from ntu import Malformed, clean_bodies, ntu_fields, parse_ntu
from pickles import read_annotations


@dataclass
class Clip:
    """One recording: joints (M, L, V, 3) in metres, M = 1 or 2, zeros where a joint is missing; label from 0.

    subject, camera, setup, replication are 0 if unknown. splits maps a split to its side: 0 training, 1 test, -1 none.
    """
    name: str
    label: int
    joints: np.ndarray
    subject: int = 0
    camera: int = 0
    setup: int = 0
    replication: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    people: int = 0     # before the two main ones were chosen


@dataclass
class Skip:
    """A file, or a clip in one, that is not stored: the line where reading failed (0 if it has none) and why."""
    file: str
    line: int
    reason: str


# ---------------------------------------------------------------------------------------------------------------------
# Arrays
# ---------------------------------------------------------------------------------------------------------------------

def recorded_as(cfg) -> Recorded:
    """What a recipe says of the coordinates."""
    d = cfg.data
    return Recorded(d.unit, d.up, d.channels, d.min_score)


def main_two(joints: np.ndarray, score: np.ndarray | None = None) -> np.ndarray:
    """Of more than two bodies (M, L, V, 3) the two with the most motion times mean score (M, L, V), in their order."""
    if len(joints) <= 2:
        return joints
    there = joints.any(3)  # m l v
    both = there[:, 1:] & there[:, :-1]
    motion = (np.linalg.norm(np.diff(joints, axis=1), axis=3) * both).sum((1, 2))
    if score is not None:
        motion = motion * (score * there).sum((1, 2)) / np.maximum(there.sum((1, 2)), 1)
    return joints[np.sort(np.argsort(-motion, kind="stable")[:2])]


def count_from(labels: list, num_classes: int) -> int:
    """1 if whole-number labels are all of 1 to the number of classes, which is said, else 0."""
    try:
        numbers = {int(label) for label in labels}
    except (TypeError, ValueError):
        return 0
    if numbers != set(range(1, num_classes + 1)):
        return 0
    print(f"  labels run from 1 to {num_classes}: label 1 is taken for class 0, and so on", file=sys.stderr)
    return 1


def trimmed(joints: np.ndarray) -> np.ndarray:
    """Joints without the all-zero frames at the end, and without a second body that is never seen."""
    seen = (joints != 0).any((2, 3))  # m l
    if not seen.any():
        raise ValueError("no body in any frame")
    keep = seen.any(1) | (np.arange(len(joints)) == 0)
    return joints[keep, :np.flatnonzero(seen.any(0))[-1] + 1]


def npz_arrays(path: Path, needed: set[str], but: str = "-") -> dict[str, np.ndarray]:
    """The arrays of an .npz file, except those with a name that starts with `but`."""
    try:
        z = np.load(path, allow_pickle=False)
        if not isinstance(z, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with z:
            lacking = needed - set(z.files)
            if lacking:
                raise ValueError(f"lacks {', '.join(sorted(lacking))}; it holds {', '.join(z.files)}")
            return {k: z[k] for k in z.files if not k.startswith(but)}
    except OSError:
        raise
    except Exception as e:  # see read_clip
        raise ValueError(f"raw = {path}: is not a readable .npz file ({e})") from None


def npz_rows(path: Path, key: str) -> tuple[tuple[int, ...], Iterator[np.ndarray]]:
    """Shape of one array in an .npz file, and its rows one at a time: the whole array may not fit in memory."""
    def header(f) -> tuple:
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[np.lib.format.read_magic(f)](f)
        if fortran or dtype.kind not in "fiu" or len(shape) < 2:
            order = "Fortran" if fortran else "C"
            raise ValueError(f"{path}: {key} must be an array of numbers in C order with two or more axes, "
                             f"but has type {dtype}, {order} order and shape {shape}")
        return shape, dtype

    def rows() -> Iterator[np.ndarray]:
        with zipfile.ZipFile(path) as z, z.open(f"{key}.npy") as f:
            shape, dtype = header(f)
            size = dtype.itemsize * int(np.prod(shape[1:]))
            for _ in range(shape[0]):
                yield np.frombuffer(f.read(size), dtype).reshape(shape[1:])

    with zipfile.ZipFile(path) as z, z.open(f"{key}.npy") as f:
        return header(f)[0], rows()


# ---------------------------------------------------------------------------------------------------------------------
# NTU RGB+D
# ---------------------------------------------------------------------------------------------------------------------

def read_ntu_file(path: Path) -> Clip | Skip:
    """The clip of one .skeleton file, or the reason why it gives none."""
    name = path.name.split(".")[0]
    try:
        _, tracks = parse_ntu(path.read_bytes())
        return Clip(name, joints=clean_bodies(tracks), **ntu_fields(name))
    except Malformed as e:
        return Skip(path.name, e.line, e.reason)
    except (ValueError, OSError) as e:
        return Skip(path.name, 0, str(e))


# ---------------------------------------------------------------------------------------------------------------------
# Northwestern-UCLA
# ---------------------------------------------------------------------------------------------------------------------

NW_UCLA_NAME = re.compile(r"a(\d+)_s(\d+)_e(\d+)_v(\d+)")


def parse_nw_ucla(text: bytes, name: str) -> Clip:
    """The clip of one JSON file {file_name, skeletons (L, 20, 3), label 1 to 10}; ValueError says what is wrong."""
    hit = NW_UCLA_NAME.fullmatch(name)
    if not hit:
        raise ValueError("name is not of the form aAA_sSS_eEE_vVV")
    try:
        d = json.loads(text)
    except json.JSONDecodeError as e:
        raise Malformed(e.lineno, f"is not JSON: {e.msg}") from None
    if not isinstance(d, dict) or not {"skeletons", "label"} <= d.keys():
        raise ValueError("lacks the keys skeletons and label")
    _, s, e, v = map(int, hit.groups())
    return Clip(name, int(d["label"]) - 1, as_joints(d["skeletons"]), subject=s, camera=v, replication=e)


def read_nw_ucla(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """The all_sqe JSON files of Northwestern-UCLA, from a folder or straight from a tar archive."""
    if raw.is_dir():
        files = ((path.name, path.read_bytes()) for path in sorted(raw.rglob("*.json"), key=lambda p: p.name))
    elif tarfile.is_tarfile(raw):
        files = []
        try:
            with tarfile.open(raw) as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(".json"):
                        files.append((Path(member.name).name, tar.extractfile(member).read()))
        except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as e:
            why = str(e).splitlines()[0]
            yield Skip(raw.name, 0, f"is damaged ({why}): only its first {len(files)} files can be read")
        files.sort()
    else:
        raise ValueError(f"raw = {raw}: must be a folder of JSON files, or a tar archive of one")
    for name, text in files:
        try:
            yield parse_nw_ucla(text, name.removesuffix(".json"))
        except Malformed as e:
            yield Skip(name, e.line, e.reason)
        except (ValueError, TypeError) as e:
            yield Skip(name, 0, str(e))


# ---------------------------------------------------------------------------------------------------------------------
# Other projects' files
# ---------------------------------------------------------------------------------------------------------------------

def read_ctrgcn(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """CTR-GCN's .npz files, such as NTU60_CS.npz. They bring the split `given`.

    x_train and x_test (N, T, 150) hold two bodies of 25 joints; y_train and y_test are one-hot.
    """
    labels = npz_arrays(raw, {"x_train", "y_train", "x_test", "y_test"}, but="x_")
    for side, name in enumerate(("train", "test")):
        y = labels[f"y_{name}"]
        shape, rows = npz_rows(raw, f"x_{name}")
        if len(shape) != 3 or shape[2] % 6 or shape[0] != len(y):
            raise ValueError(f"{raw}: x_{name} has shape {shape}, y_{name} {y.shape}: "
                             "must be (clips, frames, 2 * joints * 3) and as many labels")
        i = 0
        try:
            for i, x in enumerate(rows):
                try:
                    if y.ndim == 2 and (np.count_nonzero(y[i]) != 1 or y[i].max() != 1):
                        raise ValueError(f"y_{name}[{i}] is not one-hot")
                    bodies = np.moveaxis(x.reshape(len(x), 2, -1, 3), 1, 0)  # m l v c
                    joints = trimmed(bodies.astype(np.float32))
                    label = int(y[i].argmax() if y.ndim == 2 else y[i])
                    yield Clip(f"{name}_{i:06d}", label, joints, splits={"given": side})
                except ValueError as e:
                    yield Skip(f"{raw.name}:x_{name}[{i}]", 0, str(e))
        except (zipfile.BadZipFile, zlib.error, EOFError) as e:
            yield Skip(f"{raw.name}:x_{name}", 0, f"is damaged ({e}): cannot be read beyond clip {i}")


def read_pyskl(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """pyskl's annotation pickle. It brings its splits: xsub_train and xsub_val (or xsub_test) become the protocol xsub.

    {split: {name: [frame_dir]}, annotations: [{frame_dir, label, keypoint (M, L, V, C), ...}]}, or the bare list of
    annotations. keypoint_score (M, L, V) decides which joints are missing. Of many people the two that move most stay.
    """
    d, recorded = read_annotations(raw), recorded_as(cfg)
    first = count_from([a.get("label") for a in d["annotations"] if isinstance(a, dict)], cfg.data.num_classes)
    sides: dict[str, dict[str, int]] = {}  # protocol -> clip -> side
    for name, members in d["split"].items():
        protocol, _, side = str(name).rpartition("_")
        clips = np.asarray(members, str).tolist()
        sides.setdefault(protocol or "given", {}).update(dict.fromkeys(clips, 0 if side == "train" else 1))
    for i, a in enumerate(d["annotations"]):
        name = str(a.get("frame_dir", i)) if isinstance(a, dict) else str(i)
        try:
            numbers = ntu_fields(name)
        except ValueError:
            numbers = {}
        try:
            x, score = np.asarray(a["keypoint"]), a.get("keypoint_score")
            joints = as_joints(x, recorded)
            if score is not None:
                score = np.asarray(score, np.float32).reshape(joints.shape[:3])
                joints = joints * ((score > 0) & (score >= recorded.min_score))[..., None]
            people, joints = len(joints), trimmed(main_two(joints, score))
            numbers["label"] = int(a["label"]) - first
            side = {p: side.get(name, -1) for p, side in sides.items()}
            yield Clip(name, joints=joints, splits=side, people=people, **numbers)
        except (ValueError, KeyError, TypeError) as e:
            yield Skip(f"{raw.name}:{name}", 0, f"lacks {e}" if isinstance(e, KeyError) else str(e))


# ---------------------------------------------------------------------------------------------------------------------
# Anyone's own clips
# ---------------------------------------------------------------------------------------------------------------------

NUMBERS = ("subject", "camera", "setup", "replication")
COLUMNS = {"name", "label", *NUMBERS, "split"}
LABELS_HEADER = "name,label[,subject,camera,setup,replication,split]"
METADATA = '{"skeleton": a name or {joints, parents, regions}, "classes": [...]}'


def read_arrays(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """Anyone's own clips, in one of three forms.

    A folder: <name>.npy (L, V, C) or (M, L, V, C) per clip, C as in metres.py; labels.csv under LABELS_HEADER, the
    label a number from 0 (or 1, if all are from 1 to the number of classes) or a class name, the split train or test;
    skeleton.json as METADATA says.
    A folder of class folders, <class>/<name>.npy; skeleton.json is not needed if the recipe names the skeleton.
    A packed file x.npz: data (rows, V, 3), offsets (N + 1), names, labels, and any other column of labels.csv; beside
    it x.json, as METADATA says.
    Clips without subject, replication and split get the replications 0, 1, 2, 3 in turn, within each class: a rule
    {field = "replication", test = [0]} then tests on every fourth clip of a class.
    """
    form = _packed if not raw.is_dir() else _class_folders if class_folders(raw) else _folder
    of_class = Counter()
    for found in form(raw, list(map(str, metadata(raw).get("classes") or [])), cfg):
        if isinstance(found, Clip) and not (found.subject or found.replication or found.splits):
            found.replication = of_class[found.label] % 4
            of_class[found.label] += 1
        yield found


def class_folders(raw: Path) -> list[str]:
    """The names of the class folders, if a folder holds clips in that form."""
    if not raw.is_dir() or (raw / "labels.csv").exists():
        return []
    return sorted({path.parent.name for path in raw.glob("*/*.npy")})


def _class_folders(raw: Path, classes: list[str], cfg) -> Iterator[Clip | Skip]:
    """The .npy files of each class folder."""
    recorded = recorded_as(cfg)
    for path in sorted(raw.glob("*/*.npy")):
        name = f"{path.parent.name}-{path.stem}"
        try:
            joints = as_joints(np.load(path, allow_pickle=False), recorded)
            yield Clip(name, classes.index(path.parent.name), main_two(joints), people=len(joints))
        except Exception as e:  # see read_clip
            yield Skip(f"{path.parent.name}/{path.name}", 0, str(e))


def _folder(raw: Path, classes: list[str], cfg) -> Iterator[Clip | Skip]:
    """The clips that labels.csv lists, and a Skip for each .npy file that it does not list."""
    table = raw / "labels.csv"
    if not table.is_file():
        raise ValueError(f"{table}: missing; it lists the clips under the header {LABELS_HEADER}")
    try:
        with open(table, newline="", encoding="utf-8-sig") as f:  # Excel begins a file with a byte order mark
            reader = csv.DictReader(f, skipinitialspace=True)
            rows, columns = list(reader), reader.fieldnames or []
    except UnicodeDecodeError as e:
        raise ValueError(f"{table}: is not in UTF-8 ({e})") from None
    if not {"name", "label"} <= set(columns) <= COLUMNS or not rows:
        header = ",".join(columns)
        found = f"its header is {header!r}" if rows or not columns else f"below {header!r} it has none"
        raise ValueError(f"{table}: must have the header {LABELS_HEADER} with commas between, and a line per clip; "
                         f"{found}")
    listed = {str(row["name"]).removesuffix(".npy") for row in rows}
    for name in sorted({path.stem for path in raw.glob("*.npy")} - listed):
        yield Skip(f"{name}.npy", 0, f"is not listed in {table.name}")
    recorded, first = recorded_as(cfg), count_from([row["label"] for row in rows], cfg.data.num_classes)
    for line, row in enumerate(rows, 2):
        name = row["name"]
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
            joints = as_joints(np.load(raw / f"{name.removesuffix('.npy')}.npy", allow_pickle=False), recorded)
            yield Clip(name, label, main_two(joints), splits=splits, people=len(joints), **numbers)
        except Exception as e:  # see read_clip
            yield Skip(f"{name}.npy", 0, str(e))


def _packed(raw: Path, classes: list[str], cfg) -> Iterator[Clip | Skip]:
    """The clips of a packed file: clip i has the rows offsets[i] to offsets[i + 1] of data."""
    a = npz_arrays(raw, {"data", "offsets", "names", "labels"})
    N, at, rows = len(a["names"]), a["offsets"], len(a["data"])
    columns = {k: a[k] for k in ("labels", *NUMBERS, "split") if k in a}
    fits = len(at) == N + 1 and all(len(column) == N for column in columns.values())
    if not fits or at.dtype.kind not in "iu" or at[0] != 0 or at[-1] != rows or (at[1:] < at[:-1]).any():
        lengths = ", ".join(f"{len(column)} {k}" for k, column in columns.items())
        raise ValueError(f"{raw}: {N} names, {len(at)} offsets, {lengths}: each column must have one value per name, "
                         f"and offsets must be {N + 1} whole numbers that rise from 0 to {rows}")
    recorded, first = recorded_as(cfg), count_from(a["labels"].tolist(), cfg.data.num_classes)
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
    """skeleton.json of a folder, or the .json beside a packed file."""
    path, folders = raw / "skeleton.json" if raw.is_dir() else raw.with_suffix(".json"), class_folders(raw)
    if folders and not path.is_file():
        return {"classes": folders}
    if not path.is_file():
        raise ValueError(f"{path}: missing; it must hold {METADATA}")
    try:
        d = json.loads(path.read_text())
    except ValueError as e:
        raise ValueError(f"{path}: is not JSON ({e})") from None
    if not isinstance(d, dict) or not isinstance(d.get("classes") or [], list):
        raise ValueError(f"{path}: must be like {METADATA}")
    for name, times in Counter(map(str, d.get("classes") or [])).items():
        if times > 1:
            raise ValueError(f"{path}: names the class {name!r} twice")
    if folders and not set(folders) <= set(map(str, d.get("classes") or folders)):
        raise ValueError(f"{path}: its classes are not the class folders, {', '.join(folders)}")
    return d | ({"classes": d.get("classes") or folders} if folders else {})


READERS = {"nw_ucla": read_nw_ucla, "ctrgcn": read_ctrgcn, "pyskl": read_pyskl, "arrays": read_arrays}


# ---------------------------------------------------------------------------------------------------------------------
# One file
# ---------------------------------------------------------------------------------------------------------------------

def read_clip(path: Path | str, recorded: Recorded = Recorded()) -> np.ndarray:  # noqa: B008
    """Joints (M, L, V, 3) of one file as recorded: .skeleton, .json (Northwestern-UCLA), .npy or .npz.

    A body that is never seen is left out, as in a store. ValueError says what is wrong with the file.
    """
    path = Path(path)
    try:
        joints = as_joints(_load_one(path), recorded)
    except Malformed as e:
        raise ValueError(f"{path}: line {e.line}: {e.reason}") from None
    except OSError:
        raise
    except Exception as e:  # numpy raises almost anything on damaged bytes
        raise ValueError(f"{path}: {f'lacks {e}' if isinstance(e, KeyError) else e}") from None
    if not joints.size or not np.isfinite(joints).all():
        raise ValueError(f"{path}: {'a coordinate is not finite' if joints.size else 'no frame'}")
    seen = joints.any((1, 2, 3))
    return joints[seen] if seen.any() else joints


def _load_one(path: Path):
    if path.suffix == ".skeleton":
        return clean_bodies(parse_ntu(path.read_bytes())[1])
    if path.suffix == ".json":
        return json.loads(path.read_text())["skeletons"]
    if path.suffix not in (".npy", ".npz"):
        raise ValueError("must end in .skeleton, .json, .npy or .npz")
    if path.read_bytes()[:2] not in (b"\x93N", b"PK"):
        raise ValueError("is not a numpy file, whatever its name says")
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.lib.npyio.NpzFile):
        return array
    with array:
        if len(array.files) != 1 and "joints" not in array.files:
            raise ValueError(f"holds {', '.join(array.files)}: must hold one array, or one named joints")
        return array["joints" if "joints" in array.files else array.files[0]]
