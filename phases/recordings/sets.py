"""Files of many clips, for those who want the clips alone, without classes and splits. numpy only.

    .pkl            pyskl's annotations
    .npz            packed clips (data, offsets, names), or CTR-GCN's x_train and x_test
    a folder        a clip store of phase 0
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from phases.common.limits import load_npz, read_json, reading
from phases.recordings.described import PICTURE, Described, Recording
from phases.recordings.metres import Recorded
from skeletons import SKELETONS, Skeleton

PICKLES = (".pkl", ".pickle")
STORE = ("meta.json", "frames.npy", "clips.npz")

Found = Iterator[tuple[str, Callable[[], Recording]]]     # name of a clip, and what reads it


def is_set(path: Path) -> bool:
    """Whether a file or a folder holds many clips."""
    if path.is_dir():
        return all((path / name).is_file() for name in STORE)
    return path.suffix.lower() in PICKLES or bool(kind_of_npz(path))


def describes_clips(path: Path) -> bool:
    """Whether x.json is beside a file of many clips, x.npz or x.pkl, whose skeleton it names; or Kinetics-Skeleton's
    x_label.json beside the folder x."""
    folder = path.with_name(path.name.removesuffix("_label.json"))
    if folder != path and folder.is_dir():
        return True
    beside = [path.with_suffix(suffix) for suffix in (".npz", *PICKLES)] if path.suffix == ".json" else []
    return any(file.is_file() and is_set(file) for file in beside)


def kind_of_npz(path: Path) -> str:
    """"packed" or "ctrgcn" by the names of the arrays; empty for any other file, and for a damaged one."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return ""
    try:
        names = set(load_npz(path, lambda name: False))
    except (ValueError, OSError):  # reading it as one clip says how
        return ""
    if {"x_train", "x_test"} <= names:
        return "ctrgcn"
    return "packed" if {"data", "offsets", "names"} <= names else ""


def clips_of_set(path: Path) -> Found:
    """The clips of a file or folder that `is_set`. ValueError if it is damaged; so may be a single clip of it."""
    if path.is_dir():
        return store_clips(path)
    if path.suffix.lower() in PICKLES:
        return pickled_clips(path)
    return packed_clips(path) if kind_of_npz(path) == "packed" else ctrgcn_clips(path)


def place(path: Path, name: str) -> Path:
    """What messages call a clip in a file."""
    return Path(f"{path}:{name}")


def skeleton_beside(path: Path) -> str | Skeleton | None:
    """The skeleton that x.json or skeleton.json beside a file names or spells out; None without one."""
    from phases.recordings.arrays import description, description_file
    from phases.recordings.described import skeleton_in
    return skeleton_in(description_file(path), description(path, "pyskl"))


# ---------------------------------------------------------------------------------------------------------------------
# Kinds
# ---------------------------------------------------------------------------------------------------------------------

def store_clips(folder: Path) -> Found:
    """A clip store's, in metres with y up."""
    with reading(folder):
        skeleton = Skeleton.from_dict(read_json(folder / "meta.json")["skeleton"])
        clips = load_npz(folder / "clips.npz")
        frames = np.load(folder / "frames.npy", mmap_mode="r", allow_pickle=False)
        names = [str(name) for name in clips["name"]]
        rows = list(zip(clips["offset"].tolist(), clips["length"].tolist(), strict=True))
    found = Described(skeleton, Recorded())

    def read(i: int) -> Recording:
        offsets, length = rows[i]
        bodies = [frames[first:first + length] for first in offsets if first >= 0]
        if not bodies or length < 1 or any(len(body) != length for body in bodies):
            raise ValueError(f"{place(folder, names[i])}: lies beyond the end of frames.npy")
        return Recording(place(folder, names[i]), np.stack(bodies), found, [], is_chosen=True)

    for i, name in enumerate(names):
        yield name, lambda i=i: read(i)


def pickled_clips(path: Path) -> Found:
    """pyskl's: everybody in a clip; in a picture if joints have two numbers, by the number of joints without a name."""
    from phases.recordings.pickles import read_annotations
    from phases.recordings.sources import PYSKL_SKELETONS
    named = skeleton_beside(path)

    def read(annotation: object, where: Path) -> Recording:
        if not isinstance(annotation, dict) or "keypoint" not in annotation:
            raise ValueError(f"{where}: lacks 'keypoint'")
        with reading(where):
            x = np.asarray(annotation["keypoint"], np.float32)
            if x.ndim != 4 or x.shape[3] not in (2, 3):
                raise ValueError(f"keypoint has shape {x.shape}: must be (people, frames, joints, 2 or 3)")
            is_flat = x.shape[3] == 2
            score = annotation.get("keypoint_score")
            if score is not None:
                x = x if not is_flat else np.pad(x, [(0, 0)] * 3 + [(0, 1)])
                x = np.concatenate([x, np.asarray(score, np.float32).reshape(*x.shape[:3], 1)], 3)
        skeleton = named or SKELETONS.get(PYSKL_SKELETONS.get(x.shape[2:3]))
        found = Described(skeleton, PICTURE, "coco") if is_flat else Described(skeleton)
        return Recording(where, x, found, [])

    for i, annotation in enumerate(read_annotations(path)["annotations"]):
        name = str(annotation.get("frame_dir", i)) if isinstance(annotation, dict) else str(i)
        yield name, lambda annotation=annotation, name=name: read(annotation, place(path, name))


def packed_clips(path: Path) -> Found:
    """A packed file's, recorded as nobody says."""
    with reading(path):
        arrays = load_npz(path, lambda name: name in ("data", "offsets", "names"))
        data, offsets, names = arrays["data"], arrays["offsets"], arrays["names"]
        if offsets.dtype.kind not in "iu" or offsets.shape != (len(names) + 1,):
            raise ValueError(f"has {len(names)} names and offsets of shape {offsets.shape}: must be one more offset")
    found = Described(skeleton_beside(path))

    for i, name in enumerate(map(str, names)):
        first, last = int(offsets[i]), int(offsets[i + 1])
        yield name, lambda first=first, last=last, name=name: Recording(place(path, name), data[first:last], found, [])


def ctrgcn_clips(path: Path) -> Found:
    """CTR-GCN's, in metres with y up."""
    from phases.recordings.clips import Skip
    from phases.recordings.peers import read_ctrgcn
    from phases.recordings.settings import Data

    def read(clip: object) -> Recording:
        if isinstance(clip, Skip):
            raise ValueError(f"{path}: {clip.file}: {clip.reason}")
        skeleton = SKELETONS["ntu25"] if clip.joints.shape[2] == 25 else None
        return Recording(place(path, clip.name), clip.joints, Described(skeleton, Recorded()), [], is_chosen=True)

    for clip in read_ctrgcn(path, Data(reader="ctrgcn")):
        yield clip.file if isinstance(clip, Skip) else clip.name, lambda clip=clip: read(clip)
