"""Clips in .txt files: NTU's text, YOLO's key points of a picture, and rows of numbers. numpy only.

    NTU's text     a first line with the number of frames, as in .skeleton files (UAV-Human); ntu.py reads it
    YOLO           class cx cy w h kx ky [score] ... [confidence] [id], a line per person: one frame, as `save_txt` of
                   Ultralytics writes it into a file per picture; x and y are shares of the picture
    rows           a line per frame, blanks, commas or semicolons between: 66 numbers are the 22 joints of the hand
                   gestures DHG and SHREC'17 (De Smedt et al., CVPRW 2016)

A joint with a number that is NaN, in any spelling, is missing.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

from phases.common.limits import FRAMES, read_bytes
from phases.recordings.flat import joints_of_rows, row_layout
from phases.recordings.json_clips import clip_of_frames
from phases.recordings.named_body import named_body
from phases.recordings.ntu import START, clean_bodies, parse_ntu, skeleton_of_text
from phases.recordings.tables import number_of
from phases.recordings.tracked import Tracked, rows_by_number, with_gaps
from skeletons import SKELETONS, Skeleton

BOX = 5     # numbers before the key points: class and box
POINTS = (17, 21)   # key points of YOLO's own networks, of bodies and of hands
GAPS = 10   # see with_gaps
FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def text_kind(path: Path) -> str:
    """"ntu", "yolo" or "rows" by the first lines of a .txt file; empty for any other text."""
    with open(path, "rb") as f:
        start = f.read(START)
    lines = [line for line in start.splitlines()[:100] if line.strip()]
    if not lines:
        return ""
    try:
        first = numbers_of(lines[0])
    except ValueError:
        return ""
    if len(first) == 1:
        return "ntu" if len(lines) > 1 and lines[0].strip().isdigit() else ""
    return "yolo" if yolo_points(first) else "rows"


def load_text(path: Path, joints: int = 0, ids: list | None = None) -> np.ndarray:
    """The numbers of a clip in a .txt file; `joints`: of the skeleton, 0 if unknown. ids: of bodies are appended."""
    kind = text_kind(path)
    if kind == "ntu":
        return clean_bodies(parse_ntu(read_bytes(path))[1], ids)
    if kind == "yolo":
        return clip_of_text_frames([path], ids)
    if kind == "rows":
        return joints_of_rows(rows_of(path), joints)
    raise ValueError("is no clip: its first line must be numbers")


def skeleton_of_rows(path: Path) -> Skeleton | str | None:
    """The skeleton that a .txt file fixes; None if it fixes none."""
    kind = text_kind(path)
    if kind == "ntu":
        return skeleton_of_text(path)
    if kind == "yolo":
        points, _ = yolo_points(rows_of(path)[0])
        return "coco17" if points == 17 else None
    if kind == "rows" and row_layout(rows_of(path).shape[1]) == (1, 22, 3):
        return SKELETONS.get("shrec22") or shrec_hand()
    return None


def shrec_hand() -> Skeleton:
    """The hand of DHG and SHREC'17: wrist, palm, and four joints of each finger from its base to its tip."""
    joints = ["wrist", "palm"]
    parents = [0, 0]
    for finger in FINGERS:
        first = len(joints)
        joints += [f"{finger} {part}" for part in ("base", "first joint", "second joint", "tip")]
        parents += [0 if finger == "thumb" else 1, first, first + 1, first + 2]
    return named_body("shrec22", joints, parents)


# ---------------------------------------------------------------------------------------------------------------------
# Rows of numbers
# ---------------------------------------------------------------------------------------------------------------------

def numbers_of(line: bytes) -> list[float]:
    """The numbers of a line, NaN for one that is missing; ValueError for another word, or an infinite number."""
    words = line.replace(b",", b" ").replace(b";", b" ").decode(errors="replace").split()
    return [number_of(word) for word in words]


def rows_of(path: Path) -> np.ndarray:
    """(L, N) of a text with as many numbers on each line; empty lines do not count."""
    rows: list[list[float]] = []
    for at, line in enumerate(read_bytes(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = numbers_of(line)
        except ValueError as e:
            raise ValueError(f"line {at}: {e}") from None
        if rows and len(row) != len(rows[0]):
            raise ValueError(f"line {at}: has {len(row)} numbers, the first line has {len(rows[0])}")
        rows.append(row)
    if not 0 < len(rows) <= FRAMES:
        raise ValueError(f"has {len(rows)} lines of numbers: must be 1 to {FRAMES}")
    return np.array(rows)


# ---------------------------------------------------------------------------------------------------------------------
# YOLO
# ---------------------------------------------------------------------------------------------------------------------

def yolo_points(row: list[float] | np.ndarray) -> tuple[int, int] | None:
    """(number of key points, numbers of each) of a line of YOLO's; None if it is none."""
    if len(row) <= BOX or not np.isfinite(row[:BOX]).all():
        return None
    has_class = row[0] >= 0 and row[0] == int(row[0])
    if not has_class or not all(0 <= x <= 1 for x in row[1:BOX]):
        return None
    for C in (3, 2):
        for points in POINTS:
            if 0 <= len(row) - BOX - C * points <= 2:
                return points, C
    return None


def is_text_frames(folder: Path) -> bool:
    """Whether a folder holds YOLO's .txt file per picture, and so one clip."""
    files = text_frame_files(folder)
    return bool(files) and all(text_kind(file) == "yolo" for file in files[:1] + files[-1:])


def text_frame_files(folder: Path) -> list[Path]:
    """The .txt files of a folder in the order of the last number in their names."""
    files = [path for path in folder.iterdir() if path.suffix.lower() == ".txt" and path.name[0] != "."]
    return sorted(files, key=lambda path: (frame_number(path), path.name))


def frame_number(path: Path) -> int:
    """The last number in a name; -1 without one."""
    digits = path.stem[len(path.stem.rstrip("0123456789")):]
    return int(digits[-9:]) if digits else -1


def clip_of_text_frames(files: list[Path], ids: list | None = None) -> np.ndarray:
    """(M, L, V, 4) of a file per picture: x, y, 0, score. People with an id keep their rows, others by place.

    A picture in which nobody is seen has no file: its number is missing, and the frame is empty.
    """
    places = with_gaps([frame_number(file) for file in files], GAPS)
    frames: list[Tracked] = [[] for _ in range(places[-1] + 1)]
    for file, place in zip(files, places, strict=True):
        try:
            frames[place] = yolo_people(rows_of(file))
        except ValueError as e:
            raise ValueError(f"{file.name}: {e}" if len(files) > 1 else str(e)) from None

    if all(number is not None for frame in frames for number, _ in frame):
        return rows_by_number(frames, ids)
    return clip_of_frames([[body.tolist() for _, body in frame] for frame in frames])


def yolo_people(rows: np.ndarray) -> Tracked:
    """The people of a picture: id or None, joints (V, 4)."""
    layout = yolo_points(rows[0])
    if layout is None:
        raise ValueError(f"has {rows.shape[1]} numbers on a line: must be class, box and 17 key points of 2 or 3")
    points, C = layout

    # behind the key points a confidence, an id, or both
    rest = rows[:, BOX + points * C:]
    is_id = rest.shape[1] > 0 and bool((rest[:, -1] == rest[:, -1].round()).all())  # NaN is none
    numbers = rest[:, -1].astype(int).tolist() if is_id else [None] * len(rows)
    x = rows[:, BOX:BOX + points * C].reshape(len(rows), points, C)
    score = x[..., 2] if C == 3 else x.any(2).astype(float)
    bodies = np.stack([x[..., 0], x[..., 1], np.zeros_like(score), score], 2)
    return list(zip(numbers, bodies.astype(np.float32), strict=True))
