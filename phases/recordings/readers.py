"""Readers: the kinds of recordings that phase 0 reads, and the kinds of files that hold one clip. numpy only.

A reader takes (raw, data) and yields a Clip for each recording, or a Skip that names a file that is left out and why.
NTU RGB+D's text is read by many processes (ntu_shards.py).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import one_line
from phases.recordings.arrays import read_arrays
from phases.recordings.clips import Clip, Skip
from phases.recordings.known_files import known_body
from phases.recordings.metres import Recorded, as_joints
from phases.recordings.ntu import Malformed
from phases.recordings.nw_ucla import NW_UCLA_NAME, read_nw_ucla
from phases.recordings.peers import read_ctrgcn, read_pyskl
from phases.recordings.poses import SUFFIXES, load_pose
from phases.recordings.settings import Data

READERS: dict[str, Callable[[Path, Data], Iterator[Clip | Skip]]] = {
    "nw_ucla": read_nw_ucla, "ctrgcn": read_ctrgcn, "pyskl": read_pyskl, "arrays": read_arrays}
READABLE = SUFFIXES


def skeleton_of_format(path: Path) -> str | None:
    """The skeleton of a file whose format fixes it together with metres and y up, as NTU's text does."""
    if not path.exists():
        return None
    known = known_body(path)
    if known and known.in_metres:
        return known.skeleton.name
    if path.suffix.lower() != ".json" or path.is_dir():
        return None

    # others use the word skeletons, too
    with open(path, "rb") as f:
        start = f.read(1000)
    is_nw_ucla = b'"file_name"' in start or NW_UCLA_NAME.fullmatch(path.stem)
    return "kinect20" if is_nw_ucla and b'"skeletons"' in start else None


def read_clip(path: Path | str, recorded: Recorded = Recorded(),  # noqa: B008, a frozen value
              joint_names: Sequence[str] = ()) -> np.ndarray:
    """Joints (M, L, V, 3) of one clip as recorded, in a file that ends as READABLE says or a folder of frames.

    A body that is never seen is left out, as in a store. ValueError says what is wrong with the file. joint_names: the
    skeleton's, for tables that name theirs.
    """
    # whatever is wrong becomes one line with the file's name
    path = Path(path)
    try:
        joints = as_joints(load_file(path, joint_names), recorded)
    except Malformed as e:
        raise ValueError(f"{path}: line {e.line}: {e.reason}") from None
    except OSError:
        raise
    except Exception as e:  # numpy raises almost anything on damaged bytes
        why = f"lacks {e}" if isinstance(e, KeyError) else one_line(e).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {why}") from None

    # without bodies that are never seen
    if not joints.size:
        raise ValueError(f"{path}: no frame")
    seen = joints.any((1, 2, 3))
    return joints[seen] if seen.any() else joints


def load_file(path: Path, joint_names: Sequence[str]) -> np.ndarray:
    """The numbers of one clip, as its file has them."""
    if path.suffix.lower() in SUFFIXES or path.is_dir():
        return load_pose(path, joint_names)
    raise ValueError(f"must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
