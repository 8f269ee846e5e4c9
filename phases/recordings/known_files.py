"""Kinds of files whose format says what they hold: which one a file is, its numbers, and what the format fixes.

    .bvh, .amc (with .asf), .skeleton and .txt text, Azure Kinect's JSON; Kinetics-Skeleton, AlphaPose, YOLO

A format fixes the skeleton, or also unit and upright axis: such clips are read in metres with y up. What reads a format
is imported when a file of it is there. numpy only.
"""
from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from phases.common.limits import read_bytes
from skeletons import SKELETONS, Skeleton, spelled

SUFFIXES = (".bvh", ".amc", ".skeleton", ".txt")  # of files that only this module reads


class Known(NamedTuple):
    """What a format fixes; in_metres: the numbers are metres, y up."""
    skeleton: Skeleton
    in_metres: bool


def is_known_clip(path: Path) -> bool:
    """Whether a file of one of SUFFIXES is a clip; any .txt file may be something else."""
    suffix = path.suffix.lower()
    if suffix == ".txt":
        from phases.recordings.text_clips import text_kind
        with contextlib.suppress(OSError):
            return bool(text_kind(path))
        return False
    return suffix in SUFFIXES


def load_known(path: Path, names: Sequence[str] = (), ids: list | None = None) -> np.ndarray:
    """The numbers (L, V, C) or (M, L, V, C) of a file of one of SUFFIXES; ValueError says what is wrong with it.

    ids: of bodies are appended, if the format has them.
    """
    suffix = path.suffix.lower()
    if suffix == ".bvh":
        from phases.recordings.bvh import read_bvh
        from phases.recordings.named_body import joints_of_begins
        x, bones = read_bvh(path)
        return in_order_of(x, (joints_of_begins(bones), bones), names)
    if suffix == ".amc":
        from phases.recordings.acclaim import read_amc
        from phases.recordings.named_body import joints_of_ends
        x, bones = read_amc(path)
        return in_order_of(x, (joints_of_ends(bones), bones), names)
    if suffix == ".skeleton":
        from phases.recordings.ntu import clean_bodies, parse_ntu
        return clean_bodies(parse_ntu(read_bytes(path))[1], ids)
    from phases.recordings.text_clips import load_text
    return load_text(path, len(names), ids)


def clip_of_known_json(value: object, names: Sequence[str] = (), ids: list | None = None) -> np.ndarray | None:
    """The numbers of a JSON value of a known kind; None for any other. ids: of bodies are appended."""
    from phases.recordings.kinect_json import clip_of_kinect, is_kinect, skeleton_of_kinect
    from phases.recordings.picture_json import clip_of_picture, is_picture
    if is_kinect(value):
        return in_order_of(clip_of_kinect(value, ids), (skeleton_of_kinect(value).joints, value["joint_names"]), names)
    return clip_of_picture(value, ids) if is_picture(value) else None


def in_order_of(x: np.ndarray, own: Sequence[Sequence[str]], names: Sequence[str]) -> np.ndarray:
    """Joints (..., V, C) in the order of the skeleton's `names`; own: what the file calls them, in one or two ways.

    ValueError for as many joints of other names. Another number of joints is left to who knows the skeleton.
    """
    wanted = [spelled(name) for name in names]
    if len(wanted) != x.shape[-2]:
        return x
    for joints in own:
        found = [spelled(joint) for joint in joints]
        if sorted(found) == sorted(wanted):
            return x[..., [found.index(joint) for joint in wanted], :]
    lacking = next(name for name in wanted if name not in map(spelled, own[0]))
    raise ValueError(f"has no joint {lacking!r}, but as many joints as the skeleton: the files of a data set must have "
                     "the same ones")


# ---------------------------------------------------------------------------------------------------------------------
# What a format fixes
# ---------------------------------------------------------------------------------------------------------------------

def known_body(path: Path) -> Known | None:
    """What the format of a file fixes; None if it fixes nothing, or the file is damaged: its reader then says how."""
    with contextlib.suppress(ValueError, OSError, TypeError, KeyError, IndexError), np.errstate(all="ignore"):
        about = path.stat()
        return fixed_by(path, about.st_mtime_ns, about.st_size)
    return None


@lru_cache(100)
def fixed_by(path: Path, *of_this_moment: int) -> Known | None:
    """The same, looked up once as long as the file does not change."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return frames_body(path)
    if suffix == ".bvh":
        from phases.recordings.bvh import skeleton_of_bvh
        return Known(skeleton_of_bvh(path), in_metres=False)
    if suffix == ".amc":
        from phases.recordings.acclaim import skeleton_of_amc
        return Known(skeleton_of_amc(path), in_metres=True)
    if suffix == ".skeleton":
        from phases.recordings.ntu import skeleton_of_text
        return by_name(skeleton_of_text(path))
    if suffix == ".txt":
        from phases.recordings.text_clips import skeleton_of_rows
        return by_name(skeleton_of_rows(path))
    if suffix == ".json":
        from phases.recordings.json_clips import json_value
        return json_body(json_value(path))
    return None


def json_body(value: object) -> Known | None:
    """What Azure Kinect's JSON spells out, or the estimators' skeleton with as many joints."""
    from phases.recordings.kinect_json import is_kinect, skeleton_of_kinect
    from phases.recordings.picture_json import FIXED, clip_of_picture, is_picture
    if is_kinect(value):
        return Known(skeleton_of_kinect(value), in_metres=True)
    if is_picture(value):
        return by_name(FIXED.get(clip_of_picture(value).shape[2]))
    return None


def frames_body(folder: Path) -> Known | None:
    """The skeleton of a folder of YOLO's .txt files."""
    files = sorted(folder.glob("*.txt"))
    if not files:
        return None
    from phases.recordings.text_clips import skeleton_of_rows, text_kind
    file = next((file for file in files if text_kind(file) == "yolo"), None)
    return by_name(skeleton_of_rows(file)) if file else None


def by_name(found: Skeleton | str | None) -> Known | None:
    """A skeleton, by its name or as it is. Of these only a Kinect v2's text is in metres."""
    skeleton = SKELETONS[found] if isinstance(found, str) else found
    return Known(skeleton, in_metres=found == "ntu25") if skeleton else None
