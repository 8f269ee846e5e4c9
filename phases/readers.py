"""Readers: the bytes of a file -> joints. numpy only.

A reader yields a Clip for each recording, or a Skip that says which file is left out, and why. There are readers for
NTU RGB+D text (ntu.py parses it), Northwestern-UCLA, CTR-GCN's arrays, pyskl's annotations, and anyone's own arrays
(arrays.py).
"""
from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from arrays import read_arrays
from clips import Clip, Skip, count_from, main_two, npz_arrays, recorded_as, replications_in_turn, trimmed
from limits import (
    ARCHIVE,
    TEXT,
    check_file,
    check_size,
    load_npy,
    load_npz,
    one_line,
    open_zip,
    read_bytes,
    reading,
)
from metres import Recorded, as_joints
from ntu import Malformed, clean_bodies, ntu_fields, parse_ntu
from pickles import read_annotations
from poses import in_order, load_pose


def npz_rows(path: Path, key: str) -> tuple[tuple[int, ...], Iterator[np.ndarray]]:
    """Shape of one array in an .npz file, and its rows one at a time: the whole array may not fit in memory."""
    def header(z: zipfile.ZipFile, f) -> tuple:
        shape, fortran, dtype = check_size(f, z.getinfo(f"{key}.npy").file_size, np.inf)
        if fortran or dtype.kind not in "fiu" or len(shape) < 2:
            order = "Fortran" if fortran else "C"
            raise ValueError(f"{key} must be an array of numbers in C order with two or more axes, "
                             f"but has type {dtype}, {order} order and shape {shape}")
        return shape, dtype

    def rows() -> Iterator[np.ndarray]:
        with open_zip(path) as z, z.open(f"{key}.npy") as f:
            shape, dtype = header(z, f)
            size = dtype.itemsize * int(np.prod(shape[1:]))
            for _ in range(shape[0]):
                yield np.frombuffer(f.read(size), dtype).reshape(shape[1:])

    with reading(path), open_zip(path) as z, z.open(f"{key}.npy") as f:
        return header(z, f)[0], rows()


# ---------------------------------------------------------------------------------------------------------------------
# NTU RGB+D
# ---------------------------------------------------------------------------------------------------------------------

def read_ntu_file(path: Path) -> Clip | Skip:
    """The clip of one .skeleton file, or the reason why it gives none."""
    name = path.name.split(".")[0]
    try:
        _, tracks = parse_ntu(read_bytes(path))
        return Clip(name, joints=clean_bodies(tracks), **ntu_fields(name))
    except Malformed as e:
        return Skip(path.name, e.line, e.reason)
    except (ValueError, OSError) as e:
        return Skip(path.name, 0, str(e))


# ---------------------------------------------------------------------------------------------------------------------
# Northwestern-UCLA
# ---------------------------------------------------------------------------------------------------------------------

NW_UCLA_NAME = re.compile(r"a(\d{1,9})_s(\d{1,9})_e(\d{1,9})_v(\d{1,9})")


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
        files = [(path.name, path) for path in raw.rglob("*.json")]
    else:
        files, skips = unpacked(raw)
        yield from skips
    for name, source in sorted(files, key=lambda file: file[0]):
        try:
            text = source if isinstance(source, bytes) else read_bytes(source)
            yield parse_nw_ucla(text, name.removesuffix(".json"))
        except Malformed as e:
            yield Skip(name, e.line, e.reason)
        except (ValueError, TypeError, OverflowError, RecursionError, OSError) as e:
            yield Skip(name, 0, one_line(e))


class _Unpacked:
    """The bytes of a file, or those that it unpacks to by its first bytes; ValueError for more than ARCHIVE of them."""

    def __init__(self, path: Path):
        with open(path, "rb") as f:
            start = f.read(6)
        opened = {b"\xfd7zXZ\0": lzma.open, b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
        self.file = next((f for magic, f in opened.items() if start.startswith(magic)), open)(path, "rb")
        self.left = ARCHIVE

    def read(self, n: int) -> bytes:
        data = self.file.read(min(n, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"unpacks to more than {ARCHIVE >> 20} MB")
        return data


def unpacked(raw: Path) -> tuple[list[tuple[str, bytes]], list[Skip]]:
    """(name, bytes) of the JSON files in a tar archive, and what of it cannot be read. Nothing is written to the disk.
    """
    check_file(raw)
    files, skips, stream = [], [], _Unpacked(raw)
    with stream.file:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    name = Path(member.name).name
                    if not name.endswith(".json") or member.isdir():
                        continue
                    if not member.isfile() or member.size > TEXT:
                        why = f"has more than {TEXT >> 20} MB" if member.isfile() else "is a link or a device, no file"
                        skips.append(Skip(name, 0, why))
                        continue
                    files.append((name, tar.extractfile(member).read()))
        except Exception as e:  # tarfile and the decompressors raise types of their own
            if not files and isinstance(e, tarfile.ReadError):
                raise ValueError(f"raw = {raw}: must be a folder of JSON files, or a tar archive of one "
                                 f"({one_line(e)})") from None
            why = f"is damaged ({one_line(e)}): only its first {len(files)} files can be read"
            skips.append(Skip(raw.name, 0, why))
    return files, skips


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
        if not 1 <= y.ndim <= 2 or len(shape) != 3 or shape[2] % 6 or shape[0] != len(y):
            raise ValueError(f"{raw}: x_{name} has shape {shape}, y_{name} {y.shape}: "
                             "must be (clips, frames, 2 * joints * 3) and as many labels")
        i = 0
        try:
            for i, x in enumerate(rows):
                try:
                    if y.ndim == 2 and (np.count_nonzero(y[i]) != 1 or y[i].max() != 1):
                        raise ValueError(f"y_{name}[{i}] is not one-hot")
                    joints = trimmed(as_joints(np.moveaxis(x.reshape(len(x), 2, -1, 3), 1, 0)))  # m l v c
                    label = int(y[i].argmax() if y.ndim == 2 else y[i])
                    yield Clip(f"{name}_{i:06d}", label, joints, splits={"given": side})
                except (ValueError, TypeError, OverflowError) as e:
                    yield Skip(f"{raw.name}:x_{name}[{i}]", 0, one_line(e))
        except Exception as e:  # zipfile and zlib raise types of their own for damaged bytes
            yield Skip(f"{raw.name}:x_{name}", 0, f"is damaged ({one_line(e)}): cannot be read beyond clip {i}")


def read_pyskl(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """pyskl's annotation pickle. It brings its splits: xsub_train and xsub_val (or xsub_test) become the protocol xsub.

    {split: {name: [frame_dir]}, annotations: [{frame_dir, label, keypoint (M, L, V, C), ...}]}, or the bare list of
    annotations. keypoint_score (M, L, V) decides which joints are missing. Of many people the two that move most stay.
    Clips without split get replications in turn, if their names, unlike NTU RGB+D's, tell none.
    """
    yield from replications_in_turn(_pyskl(raw, cfg))


def _pyskl(raw: Path, cfg) -> Iterator[Clip | Skip]:
    d, recorded = read_annotations(raw), recorded_as(cfg)
    first = count_from([a.get("label") for a in d["annotations"] if isinstance(a, dict)], cfg.data.num_classes)
    sides: dict[str, dict[str, int]] = {}  # protocol -> clip -> side
    for name, members in d["split"].items():
        protocol, _, side = str(name).rpartition("_")
        if not isinstance(members, (list, tuple)):
            members = np.asarray(members).tolist()
        clips = map(str, members)
        sides.setdefault(protocol or "given", {}).update(dict.fromkeys(clips, int(side not in ("train", "training"))))
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
        except (ValueError, KeyError, TypeError, OverflowError) as e:
            yield Skip(f"{raw.name}:{name}", 0, f"lacks {e}" if isinstance(e, KeyError) else one_line(e))


READABLE = (".skeleton", ".json", ".csv", ".npy", ".npz")
READERS = {"nw_ucla": read_nw_ucla, "ctrgcn": read_ctrgcn, "pyskl": read_pyskl, "arrays": read_arrays}


# ---------------------------------------------------------------------------------------------------------------------
# One file
# ---------------------------------------------------------------------------------------------------------------------

def of_format(path: Path) -> str | None:
    """The skeleton that a file's format fixes: NTU's text and Northwestern-UCLA's JSON have one each."""
    if path.suffix.lower() == ".skeleton":
        return "ntu25"
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    with open(path, "rb") as f:
        start = f.read(1000)
    theirs = b'"file_name"' in start or NW_UCLA_NAME.fullmatch(path.stem)  # others use the word skeletons, too
    return "kinect20" if theirs and b'"skeletons"' in start else None


def read_clip(path: Path | str, recorded: Recorded = Recorded(),  # noqa: B008, a frozen value
              joints: Sequence[str] = ()) -> np.ndarray:
    """Joints (M, L, V, 3) of one clip as recorded: .skeleton, .json (Northwestern-UCLA), .npz, or as poses.py reads it.

    A body that is never seen is left out, as in a store. ValueError says what is wrong with the file.
    """
    path = Path(path)
    try:
        joints = as_joints(_load_one(path, joints), recorded)
    except Malformed as e:
        raise ValueError(f"{path}: line {e.line}: {e.reason}") from None
    except OSError:
        raise
    except Exception as e:  # numpy raises almost anything on damaged bytes
        why = f"lacks {e}" if isinstance(e, KeyError) else one_line(e).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {why}") from None
    if not joints.size:
        raise ValueError(f"{path}: no frame")
    seen = joints.any((1, 2, 3))
    return joints[seen] if seen.any() else joints


def _load_one(path: Path, joints: Sequence[str]):
    suffix = path.suffix.lower()
    if suffix == ".skeleton":
        return clean_bodies(parse_ntu(read_bytes(path))[1])
    if suffix in (".json", ".csv") or path.is_dir():
        return load_pose(path, joints)
    if suffix not in (".npy", ".npz"):
        raise ValueError("must end in .skeleton, .json, .csv, .npy or .npz")
    with open(path, "rb") as f:
        packed = f.read(2) == b"PK"  # whatever its name says
    if not packed:
        return in_order(load_npy(path))
    arrays = load_npz(path)
    if len(arrays) != 1 and "joints" not in arrays:
        raise ValueError(f"holds {', '.join(arrays)}: must hold one array, or one named joints")
    return in_order(arrays["joints" if "joints" in arrays else next(iter(arrays))])
