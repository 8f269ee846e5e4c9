"""Readers: the bytes of a file -> joints. numpy alone.

Each reader yields a Clip, or a Skip that says which file was left out, and why: NTU RGB+D text (ntu.py parses it),
Northwestern-UCLA, CTR-GCN's arrays, pyskl's annotations, anyone's own arrays.
"""
from __future__ import annotations

import csv
import difflib
import json
import lzma
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ntu import Malformed, clean_bodies, parse_ntu
from pickles import PlainUnpickler


@dataclass
class Clip:
    """One recording: joints (M, L, V, 3) in metres, M = 1 or 2, zeros where a body is missing; label 0-based; 0 for unknown numbers."""
    name: str
    label: int
    joints: np.ndarray
    subject: int = 0
    camera: int = 0
    setup: int = 0
    replication: int = 0
    splits: dict[str, int] = field(default_factory=dict)


@dataclass
class Skip:
    """A file, or a clip in one, that is not stored: the line where reading failed (0: none in particular) and why."""
    file: str
    line: int
    reason: str


# ---------------------------------------------------------------------------------------------------------------------
# Arrays
# ---------------------------------------------------------------------------------------------------------------------

def as_joints(x) -> np.ndarray:
    """(M, L, V, 3) float32 of an array (L, V, C) or (M, L, V, C), C = 2 or 3, where a third coordinate is added as zero."""
    try:
        with np.errstate(over="ignore"):
            if np.iscomplexobj(x):
                raise TypeError
            x = np.asarray(x, np.float32)
    except (ValueError, TypeError):
        raise ValueError("joints are not a full array of real numbers") from None
    if x.ndim == 3:
        x = x[None]
    if x.ndim != 4 or x.shape[-1] not in (2, 3):
        raise ValueError(f"joints have shape {x.shape}: must be (frames, joints, 3) or (bodies, frames, joints, 3)")
    return x if x.shape[-1] == 3 else np.pad(x, [(0, 0)] * 3 + [(0, 1)])


def trimmed(joints: np.ndarray) -> np.ndarray:
    """Without the all-zero frames at the end and the bodies that are never seen."""
    seen = (joints != 0).any((2, 3))
    if not seen.any():
        raise ValueError("no body in any frame")
    return joints[seen.any(1) | (np.arange(len(joints)) == 0), :np.flatnonzero(seen.any(0))[-1] + 1]


def npz_arrays(path: Path, needed: set[str], but: str = "-") -> dict[str, np.ndarray]:
    """The arrays of an .npz file, except those whose names start with `but`."""
    try:
        z = np.load(path, allow_pickle=False)
        if not isinstance(z, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with z:
            if lacking := needed - set(z.files):
                raise ValueError(f"lacks {', '.join(sorted(lacking))}; it holds {', '.join(z.files)}")
            return {k: z[k] for k in z.files if not k.startswith(but)}
    except OSError:
        raise
    except Exception as e:  # see read_clip
        raise ValueError(f"raw = {path}: is no .npz file that can be used ({e})") from None


def npz_rows(path: Path, key: str) -> tuple[tuple[int, ...], Iterator[np.ndarray]]:
    """Shape of one array of an .npz file, and its rows one at a time: the whole may be larger than memory."""
    def header(f) -> tuple:
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[np.lib.format.read_magic(f)](f)
        if fortran or dtype.kind not in "fiu" or len(shape) < 2:
            raise ValueError(f"{path}: {key} must be an array of numbers in C order, here are {dtype} of shape {shape}")
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

NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")


def ntu_fields(name: str) -> dict[str, int]:
    """setup, camera, subject, replication, and 0-based label of a name SsssCcccPpppRrrrAaaa."""
    hit = NTU_NAME.fullmatch(name)
    if not hit:
        raise ValueError("name is not of the form SsssCcccPpppRrrrAaaa")
    s, c, p, r, a = map(int, hit.groups())
    return {"setup": s, "camera": c, "subject": p, "replication": r, "label": a - 1}


def read_ntu_file(path: Path) -> Clip | Skip:
    """The clip of one .skeleton file, or why it is none."""
    try:
        return Clip(path.name.split(".")[0], joints=clean_bodies(parse_ntu(path.read_bytes())[1]), **ntu_fields(path.name.split(".")[0]))
    except Malformed as e:
        return Skip(path.name, e.line, e.reason)
    except (ValueError, OSError) as e:
        return Skip(path.name, 0, str(e))


# ---------------------------------------------------------------------------------------------------------------------
# Northwestern-UCLA
# ---------------------------------------------------------------------------------------------------------------------

NW_UCLA_NAME = re.compile(r"a(\d+)_s(\d+)_e(\d+)_v(\d+)")


def parse_nw_ucla(text: bytes, name: str) -> Clip:
    """The clip of one JSON file {file_name, skeletons (L, 20, 3), label 1-10}; ValueError says what is wrong with it."""
    hit = NW_UCLA_NAME.fullmatch(name)
    if not hit:
        raise ValueError("name is not of the form aAA_sSS_eEE_vVV")
    try:
        d = json.loads(text)
    except json.JSONDecodeError as e:
        raise Malformed(e.lineno, f"is no JSON: {e.msg}") from None
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
            yield Skip(raw.name, 0, f"cannot be read beyond its {len(files)} first files ({str(e).splitlines()[0]})")
        files.sort()
    else:
        raise ValueError(f"raw = {raw}: is neither a folder of JSON files nor a tar archive of one")
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
    """CTR-GCN's NTU60_CS.npz and the like: x_train, x_test (N, T, 150), two bodies of 25 joints; y one-hot. Brings the split `given`."""
    labels = npz_arrays(raw, {"x_train", "y_train", "x_test", "y_test"}, but="x_")
    for side, name in enumerate(("train", "test")):
        y = labels[f"y_{name}"]
        shape, rows = npz_rows(raw, f"x_{name}")
        if len(shape) != 3 or shape[2] % 6 or shape[0] != len(y):
            raise ValueError(f"{raw}: x_{name} has shape {shape}, y_{name} {y.shape}: expected (clips, frames, 2 * joints * 3) and as many labels")
        i = 0
        try:
            for i, x in enumerate(rows):
                try:
                    if y.ndim == 2 and (np.count_nonzero(y[i]) != 1 or y[i].max() != 1):
                        raise ValueError(f"y_{name}[{i}] is not one-hot")
                    joints = trimmed(np.moveaxis(x.reshape(len(x), 2, -1, 3), 1, 0).astype(np.float32))
                    yield Clip(f"{name}_{i:06d}", int(y[i].argmax() if y.ndim == 2 else y[i]), joints, splits={"given": side})
                except ValueError as e:
                    yield Skip(f"{raw.name}:x_{name}[{i}]", 0, str(e))
        except (zipfile.BadZipFile, zlib.error, EOFError) as e:
            yield Skip(f"{raw.name}:x_{name}", 0, f"is damaged ({e}): cannot be read beyond clip {i}")


def read_annotations(raw: Path) -> dict:
    """The dictionary {split, annotations} of pyskl's pickle, opened without running any code it may carry."""
    with open(raw, "rb") as f:
        try:
            d = PlainUnpickler(f).load()
        except Exception as e:  # a hostile or broken pickle can raise nearly anything
            raise ValueError(f"{raw}: {e}" if isinstance(e, ValueError) else f"{raw}: is no annotation pickle ({type(e).__name__}: {e})") from None
    if not isinstance(d, dict) or not isinstance(d.get("split"), dict) or not isinstance(d.get("annotations"), (list, tuple)):
        raise ValueError(f"{raw}: is no annotation pickle: needs a dictionary with split, a dictionary, and annotations, a list")
    return d


def read_pyskl(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """pyskl's annotation pickle {split: {name: [frame_dir]}, annotations: [{frame_dir, label, keypoint (M, L, V, C), ...}]}. Brings its splits:
    xsub_train and xsub_val (or _test) become the protocol xsub. The skeleton follows from V: 17 coco17, 25 ntu25.
    """
    d = read_annotations(raw)
    sides: dict[str, dict[str, int]] = {}
    for name, members in d["split"].items():
        protocol, _, side = str(name).rpartition("_")
        sides.setdefault(protocol or "given", {}).update(dict.fromkeys(np.asarray(members, str).tolist(), 0 if side == "train" else 1))
    for i, a in enumerate(d["annotations"]):
        name = str(a.get("frame_dir", i)) if isinstance(a, dict) else str(i)
        try:
            try:
                numbers = ntu_fields(name)
            except ValueError:
                numbers = {}
            yield Clip(name, joints=trimmed(as_joints(a["keypoint"])), splits={p: s.get(name, -1) for p, s in sides.items()},
                       **{**numbers, "label": int(a["label"])})
        except (ValueError, KeyError, TypeError) as e:
            yield Skip(f"{raw.name}:{name}", 0, f"lacks {e}" if isinstance(e, KeyError) else str(e))


# ---------------------------------------------------------------------------------------------------------------------
# Anyone's own clips
# ---------------------------------------------------------------------------------------------------------------------

LABELS_HEADER = "name,label[,subject,camera,setup,replication,split]"
COLUMNS = {"name", "label", "subject", "camera", "setup", "replication", "split"}


def labels_line(row: dict[str, str | None], classes: list[str]) -> tuple[int, dict, dict]:
    """(label, splits, numbers) of a line of labels.csv; ValueError says which field is wrong."""
    def number(key: str) -> int:
        if not re.fullmatch(r"-?\d{1,9}", row[key] or ""):
            raise ValueError(f"{key} {row[key] or ''!r} is no whole number")
        return int(row[key])

    if row["label"] not in classes and not re.fullmatch(r"\d{1,9}", row["label"] or ""):
        word = row["label"] or ""
        hint = ": skeleton.json lacks `classes`"
        if classes:
            close = difflib.get_close_matches(word, classes, n=1, cutoff=0.5)
            hint = (f", did you mean {close[0]!r}?" if close else "") + f" (known: {', '.join(sorted(classes))})"
        raise ValueError(f"label {word!r} is neither a class nor the number of one{hint}")
    if row.get("split", "") not in ("", "train", "test"):
        raise ValueError(f"split {row['split']!r} is neither train nor test")
    label = classes.index(row["label"]) if row["label"] in classes else int(row["label"])
    split = {"given": ("train", "test").index(row["split"])} if row.get("split") else {}
    return label, split, {k: number(k) for k in ("subject", "camera", "setup", "replication") if k in row}


def read_arrays(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """Anyone's own clips, in one of two forms.

    A folder: <name>.npy (L, V, 3) or (M, L, V, 3) each; labels.csv with a header name,label[,subject,camera,setup,replication,split], the
    label a 0-based number or a class name, the split train or test; skeleton.json {"skeleton": a name or {joints, parents, regions},
    "classes": [...]}.
    A packed file x.npz: data (rows, V, 3), offsets (N + 1), names, labels, any of the other columns, as in labels.csv; beside it x.json like
    skeleton.json.
    """
    classes = list(map(str, metadata(raw).get("classes") or []))
    if raw.is_dir():
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
            raise ValueError(f"{table}: needs the header {LABELS_HEADER} with commas between, and a line per clip; "
                             + (f"its header is {header!r}" if rows or not columns else f"below {header!r} it has none"))
        for unlisted in sorted({p.stem for p in raw.glob("*.npy")} - {str(row["name"]).removesuffix(".npy") for row in rows}):
            yield Skip(f"{unlisted}.npy", 0, f"is not listed in {table.name}")
        for number, row in enumerate(rows, 2):
            if not row["name"]:
                yield Skip(table.name, number, "names no clip")
                continue
            if None in row:
                yield Skip(table.name, number, f"{row['name']}: has more fields than the header")
                continue
            try:
                label, split, numbers = labels_line(row, classes)
            except ValueError as e:
                yield Skip(table.name, number, f"{row['name']}: {e}")
                continue
            try:
                joints = as_joints(np.load(raw / f"{row['name'].removesuffix('.npy')}.npy", allow_pickle=False))
                yield Clip(row["name"], label, joints, splits=split, **numbers)
            except Exception as e:  # see read_clip
                yield Skip(f"{row['name']}.npy", 0, str(e))
        return
    a = npz_arrays(raw, {"data", "offsets", "names", "labels"})
    N = len(a["names"])
    columns = {k: a[k] for k in ("labels", "subject", "camera", "setup", "replication", "split") if k in a}
    at = a["offsets"]
    if len(at) != N + 1 or at.dtype.kind not in "iu" or at[0] != 0 or at[-1] != len(a["data"]) or (at[1:] < at[:-1]).any() \
            or any(len(c) != N for c in columns.values()):
        raise ValueError(f"{raw}: {N} names, {len(at)} offsets (must be one more, whole numbers that rise from 0 to {len(a['data'])}), "
                         + ", ".join(f"{len(c)} {k}" for k, c in columns.items()))
    for i in range(N):
        try:
            label, split, numbers = labels_line({k.replace("labels", "label"): str(c[i]) for k, c in columns.items()}, classes)
            yield Clip(str(a["names"][i]), label, as_joints(a["data"][at[i]:at[i + 1]]), splits=split, **numbers)
        except ValueError as e:
            yield Skip(f"{raw.name}:{a['names'][i]}", 0, str(e))


def metadata(raw: Path) -> dict:
    """skeleton.json of a folder, or the .json beside a packed file."""
    path = raw / "skeleton.json" if raw.is_dir() else raw.with_suffix(".json")
    if not path.is_file():
        raise ValueError(f'{path}: missing; it says {{"skeleton": a name or {{joints, parents, regions}}, "classes": [...]}}')
    try:
        d = json.loads(path.read_text())
    except ValueError as e:
        raise ValueError(f"{path}: is no JSON ({e})") from None
    if not isinstance(d, dict) or not isinstance(d.get("classes") or [], list):
        raise ValueError(f'{path}: must be like {{"skeleton": a name or {{joints, parents, regions}}, "classes": [...]}}')
    if twice := [c for c, n in Counter(map(str, d.get("classes") or [])).items() if n > 1]:
        raise ValueError(f"{path}: names the class {twice[0]!r} twice")
    return d


READERS = {"nw_ucla": read_nw_ucla, "ctrgcn": read_ctrgcn, "pyskl": read_pyskl, "arrays": read_arrays}


def read_clip(path: Path | str) -> np.ndarray:
    """Joints (M, L, V, 3) of one file: .skeleton, .json (Northwestern-UCLA), .npy or .npz. ValueError says what is wrong with it.

    As in a store, bodies that are never seen are left out.
    """
    path = Path(path)
    try:
        if path.suffix == ".skeleton":
            array = clean_bodies(parse_ntu(path.read_bytes())[1])
        elif path.suffix == ".json":
            array = json.loads(path.read_text())["skeletons"]
        elif path.suffix not in (".npy", ".npz"):
            raise ValueError("is none of .skeleton, .json, .npy and .npz")
        else:
            if path.read_bytes()[:2] not in (b"\x93N", b"PK"):
                raise ValueError("is no numpy file, whatever its name says")
            array = np.load(path, allow_pickle=False)
            if isinstance(array, np.lib.npyio.NpzFile):
                with array:
                    if len(array.files) != 1 and "joints" not in array.files:
                        raise ValueError(f"holds {', '.join(array.files)}: needs one array, or one named joints")
                    array = array["joints" if "joints" in array.files else array.files[0]]
        joints = as_joints(array)
    except Malformed as e:
        raise ValueError(f"{path}: line {e.line}: {e.reason}") from None
    except OSError:
        raise
    except Exception as e:  # damaged bytes make numpy raise almost anything
        raise ValueError(f"{path}: {f'lacks {e}' if isinstance(e, KeyError) else e}") from None
    if not joints.size or not np.isfinite(joints).all():
        raise ValueError(f"{path}: {'no frame' if not joints.size else 'a coordinate is not finite'}")
    return joints[seen] if (seen := joints.any((1, 2, 3))).any() else joints
