"""Readers: the bytes of a file -> joints. numpy only.

A reader yields a Clip for each recording, or a Skip that says which file is left out, and why. There are readers for
NTU RGB+D text (ntu.py parses it), Northwestern-UCLA, CTR-GCN's arrays, pyskl's annotations, and anyone's own arrays
(arrays.py).
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import load_npy, load_npz, one_line, read_bytes
from phases.recordings.arrays import read_arrays
from phases.recordings.metres import Recorded, as_joints
from phases.recordings.ntu import Malformed, clean_bodies, parse_ntu
from phases.recordings.nw_ucla import NW_UCLA_NAME, read_nw_ucla
from phases.recordings.peers import read_ctrgcn, read_pyskl
from phases.recordings.poses import in_order, load_pose

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
