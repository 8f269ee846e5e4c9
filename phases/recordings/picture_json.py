"""Bodies in a picture as JSON of three projects, each recognised by its keys; all become (M, L, V, 4): x, y, 0, score.

    Kinetics-Skeleton (ST-GCN)   {"data": [{"frame_index": 1, "skeleton": [{"pose": [x, y, ...], "score": [s, ...]}]}],
                                  "label": "...", "label_index": 0}; x and y are shares of the picture
    AlphaPose                    [{"image_id": "0.jpg", "keypoints": [x, y, s, ...], "score": 2.9, "idx": 1}, ...]
    YOLO (Ultralytics)           [[{"name": "person", "track_id": 1, "keypoints": {"x": [], "y": [], "visible": []}}]]:
                                  a list per frame of what `to_json` gives; a single one is one frame

A frame in which nobody is seen is missing in the first two, but its number is not used: it becomes a gap. Bodies that
are numbered (idx, track_id) keep their rows; others keep theirs by place. numpy only.
"""
from __future__ import annotations

import re

import numpy as np

from phases.recordings.json_clips import clip_of_frames
from phases.recordings.tracked import rows_by_number, with_gaps

GAPS = 10   # frames without a body for each with one, at most: else the numbers are no frame numbers
FIXED = {17: "coco17", 18: "openpose18", 26: "halpe26"}     # joints of these estimators' bodies

Frames = list[list[tuple[object, np.ndarray]]]  # for each frame its bodies, with their numbers, or None


def is_picture(value: object) -> bool:
    """Whether a JSON value is of one of these kinds."""
    return is_kinetics(value) or is_alphapose(value) or is_yolo(value)


def clip_of_picture(value: object, ids: list | None = None) -> np.ndarray:
    """(M, L, V, 4) of a JSON value of one of these kinds; ValueError says what is wrong. ids: see rows_by_number."""
    reader = next(read for known, read in KINDS if known(value))
    try:
        frames = reader(value)
    except (TypeError, KeyError, OverflowError) as e:
        raise ValueError(f"lacks {e}" if isinstance(e, KeyError) else str(e)) from None

    # by their numbers, or by where they are
    if all(number is not None for frame in frames for number, _ in frame):
        return rows_by_number(frames, ids)
    return clip_of_frames([[body.tolist() for _, body in frame] for frame in frames])


def scored(x: object, y: object, score: object, where: str) -> np.ndarray:
    """(V, 4) of as many x, y and scores."""
    columns = []
    for name, numbers in (("x", x), ("y", y), ("scores", score)):
        try:
            columns.append(np.asarray(numbers, np.float32))
        except (TypeError, ValueError):
            raise ValueError(f"{where}: its {name} are not numbers") from None
    x, y, s = columns
    if x.ndim != 1 or not len(x) or not x.shape == y.shape == s.shape:
        raise ValueError(f"{where}: has {x.size} x, {y.size} y and {s.size} scores")
    return np.stack([x, y, np.zeros_like(x), s], 1)


def placed(frames: dict[int, list]) -> Frames:
    """The frames by their numbers, with empty ones between them where numbers are left out."""
    numbers = sorted(frames)
    places = with_gaps(numbers, GAPS)
    found: Frames = [[] for _ in range(places[-1] + 1 if places else 0)]
    for number, place in zip(numbers, places, strict=True):
        found[place] = frames[number]
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Kinetics-Skeleton
# ---------------------------------------------------------------------------------------------------------------------

def is_kinetics(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list) or not value["data"]:
        return False
    return isinstance(value["data"][0], dict) and {"frame_index", "skeleton"} <= value["data"][0].keys()


def kinetics_frames(value: dict) -> Frames:
    frames: dict[int, list] = {}
    for frame in value["data"]:
        number = int(frame["frame_index"])
        bodies = []
        for body in frame["skeleton"]:
            pose = body["pose"]
            bodies.append((None, scored(pose[::2], pose[1::2], body["score"], f"frame_index {number}")))
        frames[number] = bodies
    return placed(frames)


# ---------------------------------------------------------------------------------------------------------------------
# AlphaPose
# ---------------------------------------------------------------------------------------------------------------------

def is_alphapose(value: object) -> bool:
    """Whether every entry has what AlphaPose adds to COCO's results: the number of a person, or a picture's name."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    entry = value[0]
    has_name = isinstance(entry.get("image_id"), str)
    return {"image_id", "keypoints", "score"} <= entry.keys() and (has_name or "idx" in entry)


def alphapose_frames(value: list) -> Frames:
    frames: dict[int, list] = {}
    number = {image: at for at, image in enumerate(dict.fromkeys(str(entry["image_id"]) for entry in value))}

    # pictures are named by the frame: 0.jpg, 1.jpg, or with zeros before
    digits = {image: re.findall(r"\d+", image) for image in number}
    named = {image: int(found[-1][-9:]) for image, found in digits.items() if found}
    if len(set(named.values())) == len(number):
        number = named

    for at, entry in enumerate(value):
        image = str(entry["image_id"])
        points = entry["keypoints"]
        body = scored(points[::3], points[1::3], points[2::3], f"entry {at}, {image}")
        frames.setdefault(number[image], []).append((as_number(entry.get("idx")), body))
    return placed(frames)


def as_number(number: object) -> int | float | str | None:
    """The number of a person; AlphaPose writes a list of one number in some versions."""
    if isinstance(number, list):
        number = number[0] if number else None
    return number if isinstance(number, (int, float, str)) else None


# ---------------------------------------------------------------------------------------------------------------------
# YOLO
# ---------------------------------------------------------------------------------------------------------------------

def is_yolo(value: object) -> bool:
    """Whether a value is a frame as YOLO writes it, or a list of them, of which some may be empty."""
    if not isinstance(value, list):
        return False
    return is_yolo_frame(value) or any(map(is_yolo_frame, value[:1000]))


def is_yolo_frame(value: object) -> bool:
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    points = value[0].get("keypoints")
    return isinstance(points, dict) and {"x", "y"} <= points.keys()


def yolo_frames(value: list) -> Frames:
    found: Frames = []
    for t, frame in enumerate([value] if is_yolo_frame(value) else value):
        bodies = []
        for body in frame:
            if not isinstance(body, dict):
                raise ValueError(f"frame {t}: a person must be a table with keypoints")
            points = body["keypoints"]
            if not isinstance(points, dict):
                raise ValueError(f"frame {t}: keypoints of a person must be lists x and y, perhaps visible")
            score = points.get("visible") or [1.0] * len(points["x"])
            bodies.append((as_number(body.get("track_id")), scored(points["x"], points["y"], score, f"frame {t}")))
        found.append(bodies)
    return found


KINDS = ((is_kinetics, kinetics_frames), (is_alphapose, alphapose_frames), (is_yolo, yolo_frames))
