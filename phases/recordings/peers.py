"""Other projects' packed files: CTR-GCN's .npz and pyskl's annotation pickle."""
from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from phases.common.limits import check_size, one_line, open_zip, reading
from phases.recordings.clips import (
    Clip,
    Skip,
    count_from,
    main_two,
    npz_arrays,
    recorded_as,
    replications_in_turn,
    trimmed,
)
from phases.recordings.metres import as_joints
from phases.recordings.ntu import ntu_fields
from phases.recordings.pickles import read_annotations
from phases.recordings.settings import Data


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
# Other projects' files
# ---------------------------------------------------------------------------------------------------------------------

def read_ctrgcn(raw: Path, data: Data) -> Iterator[Clip | Skip]:
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


def read_pyskl(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    """pyskl's annotation pickle. It brings its splits: xsub_train and xsub_val (or xsub_test) become the protocol xsub.

    {split: {name: [frame_dir]}, annotations: [{frame_dir, label, keypoint (M, L, V, C), ...}]}, or the bare list of
    annotations. keypoint_score (M, L, V) decides which joints are missing. Of many people the two that move most stay.
    Clips without split get replications in turn, if their names, unlike NTU RGB+D's, tell none.
    """
    yield from replications_in_turn(_pyskl(raw, data))


def _pyskl(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    d, recorded = read_annotations(raw), recorded_as(data)
    first = count_from([a.get("label") for a in d["annotations"] if isinstance(a, dict)], data.num_classes)
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
