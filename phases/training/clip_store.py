"""The clip store that phase 0 wrote, opened for a recipe: its clips, and the sides of a split."""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from phases.common.command import nearest
from phases.common.files import read_json
from phases.common.limits import load_npz, one_line
from phases.common.protocols import sides
from phases.training.recipe import Config
from skeletons import Skeleton

# ---------------------------------------------------------------------------------------------------------------------
# The store
# ---------------------------------------------------------------------------------------------------------------------

class ClipStore:
    """The clips that phase 0 wrote: frames (rows, V, 3), the joints of all bodies, and `clips`, a table of arrays."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not (self.path / "meta.json").is_file():
            raise ValueError(f"no clip store in {self.path}: make it with `just phase0 recipe=... raw=...`")

        try:
            self.meta = read_json(self.path / "meta.json")
            self.frames = np.load(self.path / "frames.npy", mmap_mode="c")  # torch wants it writable; c leaves the file
            self.clips = load_npz(self.path / "clips.npz")
            self.skeleton = Skeleton.from_dict(self.meta["skeleton"])
            self.classes: list[str] = self.meta["classes"]
            self.protocols: dict[str, dict] = self.meta["protocols"]
            self._check_frames()
            self._check_meta()
        except Exception as e:  # see load_npz
            raise ValueError(f"clip store {self.path} is damaged ({one_line(e)}): run phase 0 again") from None

    def _check_frames(self) -> None:
        """ValueError if clips.npz and frames.npy do not fit each other."""
        clips = self.clips
        N = len(clips["name"])
        rows = len(self.frames)

        # the shape and type of each array
        for field in ("label", "subject", "camera", "setup", "replication", "length", "offset"):
            shapes = ((N, 1), (N, 2)) if field == "offset" else ((N,),)
            if clips[field].shape not in shapes or clips[field].dtype.kind != "i" or not N:
                raise ValueError(f"clips.npz: {field} has shape {clips[field].shape}, type {clips[field].dtype}")
        if self.frames.shape != (rows, self.skeleton.num_joints, 3) or self.frames.dtype != np.float32:
            raise ValueError(f"frames.npy has shape {self.frames.shape}, type {self.frames.dtype}")

        # each clip has its rows; an absent second body has offset -1
        offset = clips["offset"]
        length = clips["length"]
        if min(offset[:, 0].min(), offset.min() + 1, length.min() - 1) < 0 or clips["name"].shape != (N,):
            raise ValueError("clips.npz: a clip has no frame or no place in frames.npy")
        if max(offset.max(), length.max()) > rows or (offset.max(1) + length).max() > rows:
            raise ValueError("a clip lies beyond the end of frames.npy")

    def _check_meta(self) -> None:
        """ValueError if the classes or protocols of meta.json cannot be used."""
        if not isinstance(self.classes, list) or not all(isinstance(name, str) for name in self.classes):
            raise ValueError("meta.json: classes is no list of names")

        for name, rule in self.protocols.items():
            has = [rule[side] for side in ("train", "test") if side in rule]
            if not has or not all(isinstance(values, list) for values in has):
                raise ValueError(f"meta.json: protocol {name} has no side")
            if self.clips[rule["field"]].shape != (len(self),):
                raise ValueError(f"meta.json: protocol {name} is of another table")
            sides(rule, self.clips)

    def __len__(self) -> int:
        return len(self.clips["label"])

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Clip numbers of the (training, test) side of a protocol; `all` trains and tests on every clip."""
        if name == "all" and name not in self.protocols:
            return np.arange(len(self)), np.arange(len(self))
        if name not in self.protocols:
            known = nearest(name, self.protocols)
            raise ValueError(f"data.split = {name!r}: {self.path} has no such protocol{known}")

        rule = self.protocols[name]
        train, test = sides(rule, self.clips)
        for side, members in (("training", train), ("test", test)):
            if not members.any():
                raise ValueError(f"data.split = {name!r}: no clip of {self.path} is on the {side} side (rule: {rule})")
        return np.flatnonzero(train), np.flatnonzero(test)


def clip_joints(store: ClipStore, index: int) -> np.ndarray:
    """Joints (M, L, V, 3) of a clip; an absent body is left out."""
    length = store.clips["length"][index]
    return np.stack([store.frames[first:first + length] for first in store.clips["offset"][index] if first >= 0])


# ---------------------------------------------------------------------------------------------------------------------
# A store for a recipe
# ---------------------------------------------------------------------------------------------------------------------

def open_store(cfg: Config) -> ClipStore:
    """The store of a recipe; ValueError if skeleton, labels or number of classes differ from the recipe's."""
    store = ClipStore(cfg.store)
    data = cfg.data
    if data.skeleton and store.skeleton.name != data.skeleton:
        theirs = store.skeleton.name
        raise ValueError(f"data.skeleton = {data.skeleton!r}: the store {cfg.store} was made with {theirs!r}")

    # the message names a clip with a negative label, else one with the highest
    label = store.clips["label"]
    outside = (label < 0) | (label >= data.num_classes)
    if outside.any():
        worst = int(np.argmax(np.where(label < 0, label.max() + 1 - label, label)))
        raise ValueError(f"clip {store.clips['name'][worst]} of {cfg.store} has label {label[worst]}: "
                         f"data.num_classes = {data.num_classes} allows 0 to {data.num_classes - 1}")
    if data.num_classes != len(store.classes):
        raise ValueError(f"data.num_classes = {data.num_classes}: the store {cfg.store} has {len(store.classes)}")
    strange = [k for k in data.unknown if not 0 <= k < data.num_classes]
    if strange:
        raise ValueError(f"data.unknown = {list(data.unknown)}: the classes of {cfg.store} are 0 to "
                         f"{data.num_classes - 1}")
    return store


def splits(store: ClipStore, cfg: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clip numbers for training, validation (empty unless data.validate holds some out) and test.

    The classes of data.unknown are on neither side; `unknown_clips` gives those that would be on the test side.
    """
    train, test = (known_of(store, side, cfg) for side in store.split(cfg.data.split))

    # hold out the training clips that have one of the values
    held = np.zeros(len(train), bool)
    for field, values in cfg.data.validate.items():
        known = [k for k, v in store.clips.items() if v.dtype.kind == "i" and v.ndim == 1]
        if field not in known:
            raise ValueError(f"data.validate.{field}: no such field of a clip{nearest(field, known)}")
        held |= np.isin(store.clips[field][train], values)

    if cfg.data.validate and (held.all() or not held.any()):
        raise ValueError(f"data.validate = {cfg.data.validate}: holds out {held.sum()} of {len(train)} training clips")
    return train[~held], train[held], test


def known_of(store: ClipStore, clips: np.ndarray, cfg: Config) -> np.ndarray:
    """Those of the clips whose class is not in data.unknown; ValueError if fewer than two classes are left."""
    known = ~np.isin(store.clips["label"][clips], cfg.data.unknown)
    if cfg.data.unknown and len(np.unique(store.clips["label"][clips[known]])) < 2:
        raise ValueError(f"data.unknown = {list(cfg.data.unknown)}: fewer than two classes are left to tell apart")
    return clips[known]


def unknown_clips(store: ClipStore, cfg: Config) -> np.ndarray:
    """Clip numbers of the test side whose class is in data.unknown."""
    _, test = store.split(cfg.data.split)
    return test[np.isin(store.clips["label"][test], cfg.data.unknown)]


def labelled(clips: np.ndarray, label: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The clips, in ascending order, that keep their labels: `share` of each class, at least one clip of each.

    `clips` are clip numbers, `label` holds the label of every clip of the store. The draw is a function of the seed; a
    larger share contains every smaller one.
    """
    order = np.random.default_rng(seed).permutation(clips)
    kept = []
    for k in np.unique(label[clips]):
        own = order[label[order] == k]
        count = max(1, math.floor(share * len(own) + 0.5))
        kept.append(own[:count])
    return np.sort(np.concatenate(kept))
