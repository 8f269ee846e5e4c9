"""Data sets whose files say themselves what each clip is: Kinetics-Skeleton, and the hand gestures of DHG and SHREC'17.

    Kinetics-Skeleton    .json files in one folder, or in folders named after the sides: kinetics_train, kinetics_val;
                         a file holds its label, kinetics_train_label.json beside the folder holds those of all
    DHG, SHREC'17        gesture_1/finger_1/subject_1/essai_1/skeletons_world.txt; train_gestures.txt and
                         test_gestures.txt are SHREC's split, informations_troncage_sequences.txt is where DHG's begin

No numpy: readers read the joints.
"""
from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from phases.common.limits import read_bytes, read_json
from phases.recordings.sides import side_of, split_of_sides

GESTURES = ("grab", "tap", "expand", "pinch", "rotation clockwise", "rotation counter clockwise", "swipe right",
            "swipe left", "swipe up", "swipe down", "swipe x", "swipe +", "swipe v", "shake")  # as DHG numbers them
FOLDERS = re.compile(r"gesture_(\d{1,4})/finger_(\d{1,4})/subject_(\d{1,4})/essai_(\d{1,4})")
NO_CLIP = "label.json"  # ends the name of the file that holds the labels of a folder


class Said(NamedTuple):
    """A clip: its file and name, and what the data set says of it."""
    path: Path
    name: str
    label: str              # empty: the file says none
    order: int              # of its label among the classes
    subject: int = 0
    split: int | None = None    # 0 training, 1 test, -1 neither
    first: int = 0          # frames of the file
    last: int | None = None


def laid_out(raw: Path) -> tuple[Said, ...]:
    """The clips of such a data set; () for any other folder. ValueError for a table that is damaged."""
    if not raw.is_dir() or (raw / "labels.csv").exists():
        return ()
    folders = sorted(path for path in raw.iterdir() if path.is_dir())
    return said_once(raw.absolute(), *(path.stat().st_mtime_ns for path in (raw, *folders)))


@lru_cache(10)
def said_once(raw: Path, *of_this_moment: int) -> tuple[Said, ...]:
    return tuple(hand_clips(raw)) or tuple(kinetics_clips(raw))


def laid_out_classes(raw: Path) -> list[str]:
    """The labels of such a data set, in its order."""
    order = {said.label: said.order for said in laid_out(raw) if said.label}
    return sorted(order, key=lambda label: (order[label], label))


# ---------------------------------------------------------------------------------------------------------------------
# Kinetics-Skeleton
# ---------------------------------------------------------------------------------------------------------------------

def kinetics_clips(raw: Path) -> Iterator[Said]:
    folders = [path for path in sorted(raw.iterdir()) if path.is_dir() and side_of(path.name) and is_kinetics(path)]
    split = split_of_sides(path.name for path in folders)
    for folder in folders or ([raw] if is_kinetics(raw) else []):
        table = raw / f"{folder.name}_{NO_CLIP}"
        labels = read_json(table) if table.is_file() else {}
        if not isinstance(labels, dict):
            raise ValueError(f"{table}: must be a table of the clips by name")
        for path in json_files(folder):
            label, order = label_of(path, labels)
            yield Said(path, path.stem, label, order, split=split.get(folder.name))


def json_files(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.iterdir()):
        is_other = path.name[0] == "." or path.name.endswith(("skeleton.json", NO_CLIP))
        if path.suffix.lower() == ".json" and not is_other:
            found.append(path)
    return found


def is_kinetics(folder: Path) -> bool:
    """Whether the first .json file of a folder begins as those of Kinetics-Skeleton do, and holds a label."""
    first = next(iter(json_files(folder)), None)
    if first is None:
        return False
    with open(first, "rb") as f:
        if b'"frame_index"' not in f.read(1000):
            return False
    return b'"label"' in read_bytes(first)


def label_of(path: Path, labels: dict) -> tuple[str, int]:
    """(label, its number) of a file, by its line in the table of all or by what it holds; ("", 0) if it is damaged."""
    value = labels.get(path.stem)
    if value is None:
        with contextlib.suppress(ValueError):
            value = read_json(path)
    label = value.get("label") if isinstance(value, dict) else None
    number = value.get("label_index") if isinstance(value, dict) else None
    return (label, number) if isinstance(label, str) and isinstance(number, int) else ("", 0)


# ---------------------------------------------------------------------------------------------------------------------
# Hand gestures
# ---------------------------------------------------------------------------------------------------------------------

def hand_clips(raw: Path) -> Iterator[Said]:
    sides = {}
    for side, name in enumerate(("train_gestures.txt", "test_gestures.txt")):
        for row in number_rows(raw / name, 7):
            sides[tuple(row[:4])] = side
    cuts = {tuple(row[:4]): row[4:6] for row in number_rows(raw / "informations_troncage_sequences.txt", 6)}

    for path in sorted(raw.glob("gesture_*/finger_*/subject_*/essai_*/skeleton*_world.txt")):
        hit = FOLDERS.fullmatch(path.parent.relative_to(raw).as_posix())
        if not hit:
            continue
        gesture, finger, subject, essai = numbers = tuple(map(int, hit.groups()))
        first, last = cuts.get(numbers, (0, None))
        known = 1 <= gesture <= len(GESTURES)
        yield Said(
            path=path,
            name="_".join(map(str, numbers)),
            label=GESTURES[gesture - 1] if known else f"gesture {gesture}",
            order=gesture,
            subject=subject,
            split=sides.get(numbers, -1) if sides else None,
            first=first,
            last=last)


def number_rows(path: Path, count: int) -> Iterator[list[int]]:
    """The lines of a table of whole numbers; none if there is no such file."""
    lines = read_bytes(path).decode("utf-8", "replace").splitlines() if path.is_file() else []
    for at, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) < count or not all(word.isdecimal() and len(word) < 10 for word in words):
            raise ValueError(f"{path}: line {at}: {line[:40]!r} are not {count} whole numbers")
        yield [int(word) for word in words]
