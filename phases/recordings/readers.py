"""Readers: the kinds of recordings that phase 0 reads, and the kinds of files that hold one clip. numpy only.

A reader takes (raw, data) and yields a Clip for each recording, or a Skip that names a file that is left out and why.
NTU RGB+D's text is read by many processes (ntu_shards.py). A reader is imported when it is called: predict starts
faster without those that it does not need.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from phases.common.limits import one_line
from phases.recordings.clips import Clip, Skip
from phases.recordings.known_files import known_body
from phases.recordings.metres import Recorded, as_joints, real_array
from phases.recordings.poses import SUFFIXES, load_pose
from phases.recordings.scores import least_of_clip, scores_in
from phases.recordings.settings import Data

READABLE = SUFFIXES


def nw_ucla(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    from phases.recordings.nw_ucla import read_nw_ucla
    return read_nw_ucla(raw, data)


def ctrgcn(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    from phases.recordings.peers import read_ctrgcn
    return read_ctrgcn(raw, data)


def pyskl(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    from phases.recordings.peers import read_pyskl
    return read_pyskl(raw, data)


def arrays(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    from phases.recordings.arrays import read_arrays
    return read_arrays(raw, data)


READERS: dict[str, Callable[[Path, Data], Iterator[Clip | Skip]]] = {
    "nw_ucla": nw_ucla, "ctrgcn": ctrgcn, "pyskl": pyskl, "arrays": arrays}


def skeleton_of_format(path: Path) -> str | None:
    """The skeleton of a file whose format fixes it together with metres and y up, as NTU's text does."""
    if not path.exists():
        return None
    known = known_body(path)
    if known and known.in_metres:
        return known.skeleton.name
    if path.suffix.lower() != ".json" or path.is_dir():
        return None

    with open(path, "rb") as f:
        start = f.read(1000)
    if b'"skeletons"' not in start:
        return None

    # others use the word, too
    from phases.recordings.nw_ucla import NW_UCLA_NAME
    return "kinect20" if b'"file_name"' in start or NW_UCLA_NAME.fullmatch(path.stem) else None


def read_clip(path: Path | str, recorded: Recorded = Recorded(),  # noqa: B008, a frozen value
              joint_names: Sequence[str] = ()) -> np.ndarray:
    """Joints (M, L, V, 3) of one clip as recorded, in a file that ends as READABLE says or a folder of frames.

    A body that is never seen is left out, as in a store. ValueError says what is wrong with the file. joint_names: the
    skeleton's, for tables that name theirs.
    """
    path = Path(path)
    return seen_people(path, load_clip(path, joint_names), recorded)[0]


def load_clip(path: Path, joint_names: Sequence[str] = (), ids: list | None = None) -> np.ndarray:
    """The numbers of one clip, as its file has them. ids: see load_pose. ValueError names the file."""
    with naming(path):
        if path.suffix.lower() in SUFFIXES or path.is_dir():
            return load_pose(path, joint_names, ids)
        raise ValueError(f"must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def seen_people(path: Path, numbers: np.ndarray, recorded: Recorded, ids: Sequence = ()) -> tuple[np.ndarray, list]:
    """(joints (M, L, V, 3) of the numbers of a clip, what the file calls each); without bodies that are never seen.

    ids: of all bodies, or none. Joints with a low score are missing: see scores.py. ValueError names the file.
    """
    with naming(path):
        numbers = real_array(numbers)
        least = least_of_clip(scores_in(numbers, recorded.channels), recorded.min_score)
        joints = as_joints(numbers, replace(recorded, min_score=least))
        if not joints.size:
            raise ValueError("no frame")

    seen = joints.any((1, 2, 3))
    if not seen.any() or seen.all():
        return joints, list(ids)
    return joints[seen], [number for number, is_seen in zip(ids, seen, strict=False) if is_seen]


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Inside the block, whatever is wrong becomes one line with the file's name."""
    try:
        yield
    except OSError:
        raise
    except Exception as e:  # numpy raises almost anything on damaged bytes
        why = f"lacks {e}" if isinstance(e, KeyError) else one_line(e).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: {why}") from None
