"""What recordings show before a recipe says what they are: reader, clips, skeleton, classes."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from phases.common.limits import CLASSES, load_npz
from phases.recordings.archives import named_as_given, unpacked
from phases.recordings.arrays import class_folders, metadata
from phases.recordings.clips import Clip, Skip, third_is_score
from phases.recordings.labels import number_classes
from phases.recordings.laid_out import laid_out
from phases.recordings.left_out import others_beside_clips
from phases.recordings.ntu import is_ntu_name, ntu_fields, ntu_paths, number_actions, read_ntu_file
from phases.recordings.pickle_sides import pickle_sides
from phases.recordings.poses import SUFFIXES, is_frames, pose_files
from phases.recordings.readers import READERS
from phases.recordings.recorded_scores import recorded_scores
from phases.recordings.scores import least_score
from phases.recordings.sets import is_set
from phases.recordings.settings import Data
from phases.recordings.skeleton_guess import guess_skeleton, skeleton_of_first_clip, without_odd
from phases.recordings.sources import listed_classes, recorded_labels
from phases.recordings.videos import check_videos
from skeletons import SKELETONS, Skeleton

SAMPLE = 2000     # clips that are looked at with all their frames
NTU_SAMPLE = 200  # files of NTU's text, which is slow to read: at least as many, and fewer than twice that


@dataclass
class Survey:
    """What the recordings show."""
    reader: str
    clips: list[Clip]
    skips: list[Skip]
    skeleton: Skeleton
    named: bool              # whether the recordings or the user named the skeleton
    classes: list[str]
    channels: str = "xyz"
    rest: list[Clip] = field(default_factory=list)   # the clips beyond the sample, with one frame at most
    left_out: list[str] = field(default_factory=list)   # classes of a list that no clip has
    min_score: float = 0.0   # joints with a lower one are missing, because ...
    scores: str = ""         # what the scores show; empty if there are none
    in_metres: bool = False  # whether the format fixes metres and y up
    others: str = ""         # what to tell of files that are no clips

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
        """The numbers of the people; [] if the recordings name none."""
        people = sorted({c.subject for c in self.all_clips})
        return people if people != [0] else []

    def class_of(self, label: int) -> str:
        """The name of a class by its label."""
        return self.classes[label]

    @property
    def clips_of_class(self) -> Counter:
        """{label: the number of its clips}."""
        return Counter(c.label for c in self.all_clips)


@named_as_given()
def look(raw: Path, skeleton: str = "") -> Survey:
    """Read recordings, and see what they are; `skeleton` names theirs. ValueError if no network can learn from them."""
    raw = unpacked(raw)
    reader = reader_of(raw)
    named = skeleton
    if reader == "arrays" and not skeleton:
        named = skeleton_of_first_clip(raw)

    listed = listed_classes(reader, raw)
    labels = recorded_labels(reader, raw)
    _, classes = number_classes(labels, listed, 0)

    # as recorded, without joints of low scores
    data = Data(name="adopted", reader=reader, num_classes=len(classes) or CLASSES,
                skeleton=named if named in SKELETONS else "")
    min_score, scores = least_score(recorded_scores(raw, data))
    clips, skips, rest = read_sample(raw, replace(data, min_score=min_score))
    clips, odd = without_odd(clips)
    skips += odd
    found, is_named = guess_skeleton(raw, reader, clips, named)

    # x, y, score: a joint without a score is missing
    channels = "xyz"
    if reader == "arrays" and third_is_score(clips):
        channels = "xys"
        third = np.concatenate([c.joints[..., 2].ravel() for c in clips])
        min_score, scores = least_score(third[third > 0])
        clips = [without_low_scores(c, min_score) for c in clips]

    # NTU's names and one-hot rows number the classes themselves; of NTU's, actions without a file are left out
    if reader == "ntu":
        index, words = number_actions(ntu_paths(raw), 0)
        classes = [listed[k] for k in index] if max(index) < len(listed) else words
        for clip in clips + rest:
            clip.label = index[clip.label]
    elif not labels:
        classes = [f"class {k}" for k in range(1 + max(c.label for c in clips + rest))]

    left_out = [name for name in listed if name not in classes]
    in_metres = reader == "arrays" and metadata(raw).get("in_metres", False)
    survey = Survey(reader, clips, skips, found, is_named, classes, channels, rest, left_out, min_score, scores,
                    in_metres, others_beside_clips(raw, reader))
    check_classes(raw, survey)
    return survey


def reader_of(raw: Path) -> str:
    """The reader for recordings, by what they are."""
    if not raw.exists():
        raise ValueError(f"raw = {raw}: no such file or folder")

    # a file
    suffix = raw.suffix.lower()
    if suffix in (".pkl", ".pickle"):
        return "pyskl"
    if suffix == ".npz" and raw.is_file():
        return "ctrgcn" if "x_train" in load_npz(raw, lambda name: False) else "arrays"

    # a folder
    if raw.is_dir():
        named = any(is_ntu_name(path.stem) for path in ntu_paths(raw))
        if named or next(raw.rglob("*.skeleton"), None) and not has_labels(raw):
            return "ntu"
        if has_labels(raw):
            return "arrays"
        if pickle_sides(raw):
            return "pyskl"
        packed = next((path for path in sorted(raw.iterdir()) if path.is_file() and is_set(path)), None)
        if packed:
            raise ValueError(f"{raw} holds {packed.name}, a file of many clips: give raw={packed}")
        if is_frames(raw):
            raise ValueError(f"{raw} holds the frames of one clip; give a folder per class, with a folder per clip")
        if pose_files(raw):
            frames = "; a folder of frames is one clip, and lies in a class folder" if any(raw.glob("*/*.json")) else ""
            raise ValueError(f"{raw} holds clips, but neither labels.csv nor a folder per class: which action is each? "
                             f"Write labels.csv with the header name,label,subject{frames}")
    check_videos(raw)
    raise ValueError(f"raw = {raw}: give a folder per class of {', '.join(SUFFIXES)} files, or these files with "
                     "labels.csv, a folder of .skeleton files, a packed .npz or a pyskl pickle")


def has_labels(raw: Path) -> bool:
    """Whether labels.csv, class folders or the files themselves say what the clips in a folder are."""
    return (raw / "labels.csv").is_file() or bool(class_folders(raw) or laid_out(raw))


# ---------------------------------------------------------------------------------------------------------------------
# Clips
# ---------------------------------------------------------------------------------------------------------------------

def read_sample(raw: Path, data: Data) -> tuple[list[Clip], list[Skip], list[Clip]]:
    """Clips as recorded, at most SAMPLE; those that could not be read; all other clips, with one frame at most."""
    rest: list[Clip] = []
    if data.reader == "ntu":
        found, rest = ntu_sample(raw)
    else:
        found = READERS[data.reader](raw, data)

    # no whole clip beyond the sample stays in memory
    items = []
    for item in found:
        if len(items) >= SAMPLE and isinstance(item, Clip):
            item = replace(item, joints=item.joints[:, :1].copy())
        if isinstance(item, Clip) and not 0 <= item.label < data.num_classes:
            item = Skip(item.name, 0, f"label {item.label} is no class")
        items.append(item)

    clips = [item for item in items[:SAMPLE] if isinstance(item, Clip) and is_usable(item)]
    skips = [item for item in items if isinstance(item, Skip)]
    rest += [item for item in items[SAMPLE:] if isinstance(item, Clip) and item.label >= 0]
    if not clips:
        first = next((item for item in items[:SAMPLE] if isinstance(item, Skip)), None)
        why = f"{first.file}: {first.reason}" if first else "none has finite joints"
        raise ValueError(f"raw = {raw}: no clip could be read ({why})")
    return clips, skips, rest


def ntu_sample(raw: Path) -> tuple[Iterable[Clip | Skip], list[Clip]]:
    """The clips of evenly chosen .skeleton files, and the others, of which only the names are read."""
    files = [path for path in ntu_paths(raw) if is_ntu_name(path.stem)]
    if not files:
        raise ValueError(f"raw = {raw}: no .skeleton file has a name like S001C001P001R001A001 (setup, camera, "
                         "person, replication, action), which says whose clip it is and of what")

    # one file in a number is read whole
    some_files = files[::max(1, len(files) // NTU_SAMPLE)]
    some = list(map(read_ntu_file, some_files))
    first = next((clip for clip in some if isinstance(clip, Clip)), None)
    unread = np.zeros((1, 1, first.joints.shape[2] if first else 25, 3), np.float32)
    rest = [Clip(path.stem, joints=unread, **ntu_fields(path.stem)) for path in sorted(set(files) - set(some_files))]
    return some, rest


def without_low_scores(clip: Clip, min_score: float) -> Clip:
    """The flat clip of one with x, y, score: a joint with a low score is missing."""
    score = clip.joints[..., 2:]
    counts = (score > 0) & (score >= min_score)
    return replace(clip, joints=clip.joints * counts * np.float32([1, 1, 0]))


def is_usable(clip: Clip) -> bool:
    x = clip.joints
    return bool(x.ndim == 4 and np.isfinite(x).all() and x.any() and clip.label >= 0)


# ---------------------------------------------------------------------------------------------------------------------
# Classes
# ---------------------------------------------------------------------------------------------------------------------

def check_classes(raw: Path, survey: Survey) -> None:
    """ValueError for a single class."""
    if len(survey.classes) < 2:
        raise ValueError(f"raw = {raw}: one class only, {survey.classes[0]!r}: there is nothing to tell apart. Give "
                         "the folder that holds a folder per class")
