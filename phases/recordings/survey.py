"""What recordings show before a recipe says what they are: reader, clips, skeleton, classes."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from phases.common.command import nearest
from phases.common.limits import load_npz
from phases.recordings.arrays import class_folders, clip_folders, metadata
from phases.recordings.clips import Clip, Skip
from phases.recordings.csv_clips import told_joints
from phases.recordings.metres import unsteadiness
from phases.recordings.ntu import NTU_NAME, ntu_fields, read_ntu_file
from phases.recordings.poses import SUFFIXES, is_frames, is_openpose, load_pose, pose_files
from phases.recordings.readers import READERS
from phases.recordings.settings import Data
from skeletons import SKELETONS, Skeleton, spelled

MOST = 2000    # clips that are looked at
SENSORS = ("ntu25", "kinect20", "h36m17")  # three-dimensional by nature


@dataclass
class Seen:
    """What the recordings show."""
    reader: str
    clips: list[Clip]
    skips: list[Skip]
    skeleton: Skeleton
    named: bool              # whether the recordings or the user named the skeleton
    classes: list[str]
    channels: str = "xyz"
    rest: list[Clip] = field(default_factory=list)   # beyond those: who does what, with no more than a frame

    @property
    def flat(self) -> bool:
        return not any(c.joints[..., 2].any() for c in self.clips)

    @property
    def lengths(self) -> np.ndarray:
        return np.array([c.joints.shape[1] for c in self.clips])

    @property
    def all_clips(self) -> list[Clip]:
        return self.clips + self.rest

    @property
    def subjects(self) -> list[int]:
        """The people; none if nobody says whose clips they are."""
        people = sorted({c.subject for c in self.all_clips})
        return people if people != [0] else []

    def class_of(self, label: int) -> str:
        """The name of a class by its label, which may count from 1; the label itself if no class has it."""
        names = dict(enumerate(self.classes, int(max(c.label for c in self.all_clips) == len(self.classes))))
        return names.get(label, str(label))


def reader_of(raw: Path) -> str:
    """The reader for recordings, by what they are."""
    if not raw.exists():
        raise ValueError(f"raw = {raw}: no such file or folder")
    if raw.suffix.lower() in (".pkl", ".pickle"):
        return "pyskl"
    if raw.suffix.lower() == ".npz" and raw.is_file():
        return "ctrgcn" if "x_train" in load_npz(raw, lambda name: False) else "arrays"
    if raw.is_dir():
        if next(raw.rglob("*.skeleton"), None):
            return "ntu"
        if (raw / "labels.csv").is_file() or class_folders(raw):
            return "arrays"
        if is_frames(raw):
            raise ValueError(f"{raw} holds the frames of one clip; give a folder per class, with a folder per clip")
        if pose_files(raw):
            frames = "; a folder of frames is one clip, and lies in a class folder" if any(raw.glob("*/*.json")) else ""
            raise ValueError(f"{raw} holds clips, but neither labels.csv nor a folder per class: which action is each? "
                             f"Write labels.csv with the header name,label,subject{frames}")
    raise ValueError(f"raw = {raw}: give a folder per class of {', '.join(SUFFIXES)} files, or these files with "
                     "labels.csv, a folder of .skeleton files, a packed .npz or a pyskl pickle")


def told_by_files(raw: Path) -> str:
    """The skeleton that a first clip tells: by the columns that its table names, or as OpenPose's; else empty.

    ValueError if a table names joints that no known skeleton has, and nothing says what they are.
    """
    folders = [raw / name for name in clip_folders(raw)] or [raw] * raw.is_dir()
    file = next((file for folder in folders for file in pose_files(folder)), None)
    try:
        if file is None or is_openpose(file):
            return f"openpose{load_pose(file).shape[-2]}" if file else ""
        named = set(told_joints(file))
    except ValueError:  # a damaged first clip tells nothing
        return ""
    known = [s for s in SKELETONS.values() if {spelled(joint) for joint in s.joints} <= named]
    if named and not known and not metadata(raw).get("skeleton"):
        alike = max(SKELETONS.values(), key=lambda s: len({spelled(joint) for joint in s.joints} & named))
        lacking = [joint for joint in alike.joints if spelled(joint) not in named]
        raise ValueError(f"raw = {raw}: {file.name} names {len(named)} joints, of no known skeleton; for {alike.name} "
                         f"it lacks {', '.join(lacking[:3])}{', ...' * (len(lacking) > 3)}. Write your own into "
                         "skeleton.json (README, Your own skeletons)")
    return max(known, key=lambda s: s.num_joints).name if known else ""


def read(raw: Path, reader: str, told: str) -> tuple[list[Clip], list[Skip], list[Clip]]:
    """Clips as recorded, at most MOST; those that could not be read; all others, with one frame at most."""
    rest = []
    if reader == "ntu":
        names = [p for p in sorted(raw.rglob("*.skeleton")) if NTU_NAME.fullmatch(p.stem)]
        if not names:
            raise ValueError(f"raw = {raw}: no .skeleton file has a name like S001C001P001R001A001 (setup, camera, "
                             "person, replication, action), which says whose clip it is and of what")
        some = names[::max(1, len(names) // 200)]
        unread = np.zeros((1, 1, 25, 3), np.float32)
        rest = [Clip(p.stem, joints=unread, **ntu_fields(p.stem)) for p in sorted(set(names) - set(some))]
        found = map(read_ntu_file, some)
    else:
        named = told if told in SKELETONS else ""
        found = READERS[reader](raw, Data(name="adopted", reader=reader, num_classes=100_000, skeleton=named))
    found = [replace(c, joints=c.joints[:, :1].copy()) if i >= MOST and isinstance(c, Clip) else c
             for i, c in enumerate(found)]
    rest += [c for c in found[MOST:] if isinstance(c, Clip) and c.label >= 0]
    skips, found = [s for s in found if isinstance(s, Skip)], found[:MOST]
    clips = [c for c in found if isinstance(c, Clip) and c.joints.ndim == 4 and np.isfinite(c.joints).all()
             and c.joints.any() and c.label >= 0]
    if not clips:
        why = next((f"{s.file}: {s.reason}" for s in found if not isinstance(s, Clip)), "none has finite joints")
        raise ValueError(f"raw = {raw}: no clip could be read ({why})")
    return clips, skips, rest


def skeleton_of(raw: Path, reader: str, clips: list[Clip], given: str) -> tuple[Skeleton, bool]:
    """The skeleton that the user or the recordings name, else the steadiest of those with as many joints."""
    counts = Counter(c.joints.shape[2] for c in clips)
    if len(counts) > 1:  # see without_odd: not just a few clips
        words = ", ".join(f"{n} clips with {V}" for V, n in counts.most_common(3)) + ", ..." * (len(counts) > 3)
        odd = next(c.name for c in clips if c.joints.shape[2] != counts.most_common(1)[0][0])
        swapped = {c.joints.shape[1] for c in clips}
        if len(counts) > 3 and len(swapped) == 1:
            raise ValueError(f"raw = {raw}: each clip has {swapped.pop()} frames and another number of joints: are the "
                             "axes swapped? An array is (frames, joints, 3)")
        raise ValueError(f"raw = {raw}: clips of several joint counts ({words}), such as {odd}; adopt them apart")
    V = next(iter(counts))
    told = given or (metadata(raw).get("skeleton") if reader == "arrays" else "ntu25" if reader == "ntu" else None)
    if isinstance(told, dict):
        own = Skeleton.from_dict(told)
        if own.num_joints != V:
            raise ValueError(f"raw = {raw}: skeleton.json has {own.num_joints} joints, the clips have {V} (such as "
                             f"{clips[0].name})")
        return own, True
    if told:
        if told not in SKELETONS:
            raise ValueError(f"skeleton = {told!r}: unknown{nearest(told, SKELETONS)}")
        if SKELETONS[told].num_joints != V:
            raise ValueError(f"skeleton = {told!r} has {SKELETONS[told].num_joints} joints, the clips have {V}")
        return SKELETONS[told], True
    fit = [s for s in SKELETONS.values() if s.num_joints == V]
    if not fit:
        near = min(SKELETONS.values(), key=lambda s: abs(s.num_joints - V))
        raise ValueError(f"raw = {raw}: {V} joints fit no known skeleton, the nearest is {near.name} with "
                         f"{near.num_joints}; write your own into skeleton.json (README, Your own skeletons)")
    some, flat = [c.joints[0] for c in clips[:40]], not any(c.joints[..., 2].any() for c in clips)
    if flat or with_scores(clips):  # of a picture, so of no depth sensor, if another fits
        fit = [s for s in fit if s.name not in SENSORS] or fit
    return min(fit, key=lambda s: unsteadiness(some, s.bones)), False


def without_odd(clips: list[Clip], skips: list[Skip]) -> list[Clip]:
    """Clips without the few, at most one in twenty, of another joint count, which are skipped."""
    (V, _), *others = Counter(c.joints.shape[2] for c in clips).most_common()
    if sum(n for _, n in others) > len(clips) / 20:
        return clips
    skips += [Skip(c.name, 0, f"has {c.joints.shape[2]} joints, the others have {V}") for c in clips
              if c.joints.shape[2] != V]
    return [c for c in clips if c.joints.shape[2] == V]


def with_scores(clips: list[Clip]) -> bool:
    """Whether the third number of a joint is a score: within 0 to 1 where bodies are many times larger."""
    third = np.concatenate([c.joints[..., 2].ravel() for c in clips[:100]])
    size = np.median([np.ptp(c.joints[c.joints.any(3)][:, :2], axis=0).max() for c in clips[:100]])
    return bool(third.any() and third.min() >= 0 and third.max() <= 1.001 and size > 20)


def class_names(raw: Path, reader: str, clips: list[Clip]) -> list[str]:
    """The names of the classes; numbers in their place if the recordings have none, from 0 or from 1."""
    named = metadata(raw).get("classes") if reader == "arrays" else None
    if named:
        return list(map(str, named))
    labels = {c.label for c in clips}
    # as count_from does: from 1 if all of 1 to the largest occur
    first = int(reader in ("arrays", "pyskl") and labels == set(range(1, max(labels) + 1)))
    return [f"class {k}" for k in range(max(labels) + 1 - first)]


def look(raw: Path, skeleton: str) -> Seen:
    """Read the recordings and see what they are."""
    reader = reader_of(raw)
    told = skeleton or (told_by_files(raw) if reader == "arrays" else "")
    clips, skips, rest = read(raw, reader, told)
    clips = without_odd(clips, skips)
    found, named = skeleton_of(raw, reader, clips, told)
    channels = "xys" if reader == "arrays" and with_scores(clips) else "xyz"
    if channels == "xys":
        clips = [replace(c, joints=c.joints * (c.joints[..., 2:] > 0) * np.float32([1, 1, 0])) for c in clips]
    seen = Seen(reader, clips, skips, found, named, class_names(raw, reader, clips + rest), channels, rest)
    few = [k for k, n in Counter(c.label for c in clips + rest).items() if n < 2]
    if few:
        raise ValueError(f"raw = {raw}: class {seen.class_of(few[0])!r} has one clip: it cannot both train and be "
                         "tested")
    if len(seen.classes) < 2:
        raise ValueError(f"raw = {raw}: one class only, {seen.classes[0]!r}: there is nothing to tell apart. Give the "
                         "folder that holds a folder per class")
    return seen
