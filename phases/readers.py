"""Readers: the bytes of a file -> joints. numpy only.

A reader yields a Clip for each recording, or a Skip that says which file is left out, and why. There are readers for
NTU RGB+D text (ntu.py parses it), Northwestern-UCLA, CTR-GCN's arrays, pyskl's annotations, and anyone's own arrays
(arrays.py).
"""
from __future__ import annotations

import json
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from arrays import read_arrays
from clips import Clip, Skip, count_from, main_two, npz_arrays, recorded_as, trimmed
from metres import Recorded, as_joints
from ntu import Malformed, clean_bodies, ntu_fields, parse_ntu
from pickles import read_annotations
from poses import load_pose


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


READABLE = (".skeleton", ".json", ".csv", ".npy", ".npz")
READERS = {"nw_ucla": read_nw_ucla, "ctrgcn": read_ctrgcn, "pyskl": read_pyskl, "arrays": read_arrays}


# ---------------------------------------------------------------------------------------------------------------------
# One file
# ---------------------------------------------------------------------------------------------------------------------

def of_format(path: Path) -> str | None:
    """The skeleton that a file's format fixes: NTU's text and Northwestern-UCLA's JSON have one each."""
    if path.suffix == ".skeleton":
        return "ntu25"
    if path.suffix != ".json" or not path.is_file():
        return None
    with open(path, "rb") as f:
        return "kinect20" if b'"skeletons"' in f.read(1000) else None


def read_clip(path: Path | str, recorded: Recorded = Recorded()) -> np.ndarray:  # noqa: B008
    """Joints (M, L, V, 3) of one clip as recorded: .skeleton, .json (Northwestern-UCLA), .npz, or as poses.py reads it.

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
    if path.suffix in (".json", ".csv") or path.is_dir():
        return load_pose(path)
    if path.suffix not in (".npy", ".npz"):
        raise ValueError("must end in .skeleton, .json, .csv, .npy or .npz")
    if path.read_bytes()[:2] not in (b"\x93N", b"PK"):
        raise ValueError("is not a numpy file, whatever its name says")
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.lib.npyio.NpzFile):
        return array
    with array:
        if len(array.files) != 1 and "joints" not in array.files:
            raise ValueError(f"holds {', '.join(array.files)}: must hold one array, or one named joints")
        return array["joints" if "joints" in array.files else array.files[0]]
