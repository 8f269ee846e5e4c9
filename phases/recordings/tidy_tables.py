"""A clip of a tidy table: a row per frame and joint, with the columns frame, joint, x, y and perhaps others.

numpy only.
"""
from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from phases.recordings.metres import check_shape, missing_as_zeros
from phases.recordings.table_times import times_of_header
from phases.recordings.tables import SCORES, in_order_of, is_number, number_of
from skeletons import spelled

WORDS = {  # what a column holds: how it may be called
    "frame": ("frame", "frame id", "frame no", "frame number", "frame index", "frame idx", "image", "image id", "time",
              "timestamp", "t"),
    "joint": ("joint", "landmark", "keypoint", "key point", "kpt", "marker", "point", "bodypart", "body part", "part",
              "node"),
    "body": ("body", "body id", "person", "person id", "track", "track id", "skeleton", "skeleton id", "id", "idx"),
    "x": ("x",), "y": ("y",), "z": ("z",), "score": SCORES,
}
SUFFIXES = re.compile(r" (name|id|index|idx|no|number)$")  # joint name, joint id


def tidy_columns(header: list[str]) -> dict[str, int]:
    """{key of WORDS: column} of a table with a row per joint; {} for another table."""
    columns: dict[str, int] = {}
    for number, name in enumerate(header):
        # x [mm], Joint_Name
        word = re.sub(r"\s*[\[(][^\[(]*[\])]$", "", name.strip())
        word = re.sub(r"[_\s.-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word)).lower()
        for key, words in WORDS.items():
            if word in words or key == "joint" and SUFFIXES.sub("", word) in words:
                columns.setdefault(key, number)

    # a time with its unit, time_ms, tells frames apart as well
    times = times_of_header(header)
    if times:
        columns.setdefault("frame", times.column)
    return columns if {"frame", "joint", "x", "y"} <= columns.keys() else {}


def joints_of_rows(body: list[list[str]], columns: dict[str, int]) -> list[str]:
    """The joints of a table as `joint_word`: numbers in their order, without gaps; names as they come."""
    found = list(dict.fromkeys(joint_word(row, columns) for row in body))
    found = [word for word in found if word]
    if not all(word.isdecimal() for word in found):
        return found

    # a joint that no row has is missing
    numbers = sorted(map(int, found))
    if numbers and numbers[0] in (0, 1) and numbers[-1] < 2 * len(numbers):
        numbers = range(numbers[0], numbers[-1] + 1)
    return list(map(str, numbers))


def joint_word(row: list[str], columns: dict[str, int]) -> str:
    """The joint of a row: a name as `spelled`, or a number; empty if the row has none."""
    word = row[columns["joint"]].strip()
    return str(int(word)) if word.isdecimal() and len(word) < 10 else spelled(word)


def clip_of_joint_rows(body: list[list[str]], columns: dict[str, int], names: Sequence[str] = (),
                       ids: list | None = None) -> np.ndarray:
    """(M, L, V, C) of rows that each hold a joint; zeros where no row has one.

    names: the skeleton's joints. ids: the person of each body is appended, if there is a column for it.
    """
    # a row without a joint is empty
    body = [row for row in body if joint_word(row, columns)]
    if not body:
        raise ValueError("has a column for joints, but names none")

    # where each row belongs
    joints = {joint: v for v, joint in enumerate(joint_order(joints_of_rows(body, columns), names))}
    frames = frame_order([row[columns["frame"]].strip() for row in body])
    persons = [row[columns["body"]].strip() if "body" in columns else "" for row in body]
    rows_of = {person: m for m, person in enumerate(dict.fromkeys(persons))}
    if ids is not None and "body" in columns:
        ids += rows_of

    # a place takes one joint
    axes = [columns[key] for key in ("x", "y", "z", "score") if key in columns]
    shape = len(rows_of), max(frames) + 1, len(joints), len(axes)
    check_shape(shape)
    x = np.zeros(shape, np.float32)
    taken = np.zeros(shape[:3], bool)
    for row, t, person in zip(body, frames, persons, strict=True):
        where = rows_of[person], t, joints[joint_word(row, columns)]
        if taken[where]:
            raise ValueError(f"{place_of(row, columns)} is there twice: a column `person` tells bodies apart")
        taken[where] = True
        x[where] = numbers_of(row, columns, axes)

    # x, y, score: a z of 0 keeps the score from being read as z
    x = missing_as_zeros(x)
    x = np.insert(x, 2, 0, axis=3) if "score" in columns and "z" not in columns else x
    return x


def joint_order(found: list[str], names: Sequence[str]) -> list[str]:
    """The joints of a table in the skeleton's order; joints of the skeleton that no row has are among them."""
    wanted = [spelled(name) for name in names]
    if wanted and set(found) <= set(wanted):
        return wanted

    # numbers of the skeleton's joints, from 0 or from 1
    if found[0] in ("0", "1") and found[-1].isdecimal():
        first, last = int(found[0]), int(found[-1])
        return list(map(str, range(first, max(last, first + len(wanted) - 1) + 1)))
    return in_order_of(names, found)


def frame_order(words: list[str]) -> list[int]:
    """The frame of each row, from 0: by the numbers in its column, where frames that no row has are frames without a
    body; by times, in their order; or by names, as they come.
    """
    different = list(dict.fromkeys(words))
    if not all(map(is_number, different)):
        rank = {word: t for t, word in enumerate(different)}
        return [rank[word] for word in words]

    # numbers that count frames, give or take lost ones; or times
    numbers = np.array([float(word) for word in words])
    found, rank = np.unique(numbers, return_inverse=True)
    counts = not (found % 1).any() and len(found) > 1 and np.median(np.diff(found)) == 1
    return (numbers - found[0]).astype(int).tolist() if counts else rank.tolist()


def numbers_of(row: list[str], columns: dict[str, int], axes: list[int]) -> list[float]:
    """The numbers of a row; ValueError names frame and joint."""
    try:
        return [number_of(row[column]) for column in axes]
    except ValueError as e:
        raise ValueError(f"{place_of(row, columns)}: {e}") from None


def place_of(row: list[str], columns: dict[str, int]) -> str:
    """Frame and joint of a row, for messages."""
    return f"frame {row[columns['frame']].strip()}, joint {row[columns['joint']].strip()!r}"
