"""A clip of a table: a row per frame, a column per coordinate; or a row per joint. poses.py lists the forms.

numpy only.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from phases.recordings.metres import missing_as_zeros
from phases.recordings.tables import (
    SCORES,
    csv_rows,
    in_order_of,
    is_missing,
    is_number,
    number_of,
    usual_channels,
)
from phases.recordings.tidy_tables import clip_of_joint_rows, joints_of_rows, tidy_columns
from skeletons import spelled

AXES = ("x", "y", "z", *SCORES)

# a column is left_elbow_x, x_elbow or ELBOWX; a joint without a name is joint7
JOINT_AXIS = re.compile(rf"(.+?)(?:[_. /-]|(?<=\d)|(?<=[a-z])(?=[A-Z]))((?i:{'|'.join(AXES)}))(?i:[_. ]pos(?:ition)?)?")
AXIS_JOINT = re.compile(rf"((?i:{'|'.join(AXES)}))[_. /-]?(\d+|(?<=[_. /-]).+)")
CAPITALS = re.compile(r"([A-Z0-9_ ]{2,}[A-Z])([XYZ])")
NUMBERED = re.compile(r"((key ?)?point|joint|landmark|marker|part|kp|j|p)? ?\d+")


def joints_of_table(path: Path) -> list[str]:
    """The joints that a table names, as `spelled`; [] for other files, and for names that are numbers, as in joint7_x.
    """
    if path.suffix.lower() != ".csv":
        return []
    header, body = csv_rows(path)
    if not header:
        return []
    tidy = tidy_columns(header)
    return with_names(joints_of_rows(body, tidy) if tidy else named_columns(header))


def with_names(joints: Iterable[str]) -> list[str]:
    """Those of a table's joints that have a name, not a number."""
    return [joint for joint in joints if not NUMBERED.fullmatch(joint)]


def clip_of_table(path: Path, names: Sequence[str] = (), ids: list | None = None) -> np.ndarray:
    """The numbers of a table: (L, V, C) of a row per frame, (M, L, V, C) of a row per joint.

    A joint with a cell of MISSING is zeros. names: the skeleton's joints. Joints that a table names are put into their
    order. ids: of bodies are appended. ValueError if a table of as many joints names some of them differently.
    """
    header, body = csv_rows(path)
    tidy = tidy_columns(header)
    if tidy:
        return clip_of_joint_rows(body, tidy, names, ids)
    return clip_of_frame_rows(header, body, joint_columns(header, names) or plain_columns(body))


def clip_of_frame_rows(header: list[str], body: list[list[str]], joints: list[list[int]]) -> np.ndarray:
    """(L, V, C) of a row per frame. joints: the columns of each."""
    columns = [column for joint in joints for column in joint]
    x = table_numbers(header, body, columns).reshape(len(body), len(joints), -1)  # l v c
    x = missing_as_zeros(x)

    # x, y, score: a z of 0 keeps the score from being read as z
    last = joints[0][-1]
    scored = bool(header) and joint_and_axis(header[last])[1] in SCORES
    return np.insert(x, 2, 0, axis=2) if scored and x.shape[2] == 3 else x


def table_numbers(header: list[str], body: list[list[str]], columns: list[int]) -> np.ndarray:
    """(L, columns) float32 of the cells; NaN where one is missing."""
    x = np.zeros((len(body), len(columns)), np.float32)
    for at, row in enumerate(body):
        for k, column in enumerate(columns):
            try:
                x[at, k] = number_of(row[column])
            except ValueError as e:
                name = f"{header[column]} = " if header else ""
                raise ValueError(f"frame {at}: {name}{e}") from None
    return x


# ---------------------------------------------------------------------------------------------------------------------
# Columns
# ---------------------------------------------------------------------------------------------------------------------

def joint_columns(header: list[str], names: Sequence[str]) -> list[list[int]]:
    """The columns of each joint that a header names, in the order of `names` if it names all of these; [] without one.
    """
    found = named_columns(header) if header else {}
    return [found[name] for name in in_order_of(names, found)]


def named_columns(header: list[str]) -> dict[str, list[int]]:
    """{joint as `spelled`: columns of x, y, then z and score if it has them}, in the order of the table."""
    joints: dict[str, dict[str, int]] = {}
    for number, column in enumerate(header):
        joint, axis = joint_and_axis(column)
        if joint:
            axes = joints.setdefault(spelled(joint), {})
            axes.setdefault("score" if axis in SCORES else axis, number)

    # what has no x and y, such as speed_v, is no joint; all joints must have the same axes
    joints = {joint: axes for joint, axes in joints.items() if {"x", "y"} <= axes.keys()}
    kinds = {tuple(sorted(axes)) for axes in joints.values()}
    if len(kinds) != 1:
        what = "its joints have different axes" if kinds else "no joint has columns for x and y"
        raise ValueError(f"{what}; columns must be like left_elbow_x, left_elbow_y, left_elbow_z, or x0, y0, z0")

    (kind,) = kinds
    order = [axis for axis in ("x", "y", "z", "score") if axis in kind]
    return {joint: [axes[axis] for axis in order] for joint, axes in joints.items()}


def joint_and_axis(column: str) -> tuple[str, str]:
    """("left_elbow", "x") of left_elbow_x, ("0", "x") of x0; ("", "") of another column, such as frame."""
    word = re.sub(r"\s*[\[(][^\[(]*[\])]$", "", column.strip())  # left elbow x [mm]
    if hit := JOINT_AXIS.fullmatch(word):
        return hit[1], hit[2].lower()
    if hit := AXIS_JOINT.fullmatch(word):
        return hit[2], hit[1].lower()
    if hit := CAPITALS.fullmatch(word):
        return hit[1], hit[2].lower()
    return "", ""


def plain_columns(rows: list[list[str]]) -> list[list[int]]:
    """The columns of each joint in a table of numbers only; a first column that counts frames is left out."""
    indexed = indexed_columns(rows)
    if indexed:
        return indexed
    counted = counts_frames([row[0] for row in rows])
    for first in (1, 0) if counted else (0, 1):
        n = len(rows[0]) - first
        C = usual_channels(n) or (3 if n % 3 == 0 else 0)
        if C and n:
            return [list(range(at, at + C)) for at in range(first, first + n, C)]
    raise ValueError(f"has {len(rows[0])} columns of numbers: must be 2, 3 or 4 for each joint; a first line may name "
                     "them: left_elbow_x, left_elbow_y, ...")


def indexed_columns(rows: list[list[str]]) -> list[list[int]]:
    """The columns of each joint in a table that puts the joint's number before its coordinates: t, 0, x, y, z, 1, ...

    The numbers count the joints from 0 or 1, at equal distances up to the end of the row, and are the same in every
    row. Columns before the first of them, such as a time, belong to no joint. [] for another table.
    """
    # what a row must have: the numbers at every C + 1 columns
    row = next(row for row in rows if not all(map(is_missing, row)))
    width = len(row)
    for first in range(min(4, width)):
        for C in (3, 2, 4):
            at = range(first, width, C + 1)
            if len(at) < 3 or (width - first) % (C + 1) or not counts_joints([row[column] for column in at]):
                continue

            # the same in all rows; a row without a body may lack them
            numbers = [row[column] for column in at]
            if all(same_or_missing([other[column] for column in at], numbers) for other in rows):
                return [list(range(column + 1, column + 1 + C)) for column in at]
    return []


def same_or_missing(cells: list[str], others: list[str]) -> bool:
    return all(cell == other or is_missing(cell) for cell, other in zip(cells, others, strict=True))


def counts_joints(cells: list[str]) -> bool:
    """Whether cells are 0, 1, 2, ... or 1, 2, 3, ..."""
    if not all(map(is_number, cells)):
        return False
    numbers = [float(cell) for cell in cells]
    return numbers[0] in (0, 1) and numbers == [numbers[0] + k for k in range(len(numbers))]


def counts_frames(column: list[str]) -> bool:
    """Whether numbers rise like frame numbers or times, give or take lost frames and rounded milliseconds."""
    try:
        steps = np.diff([float(cell) for cell in column])
    except ValueError:
        return False
    if not len(steps) or not steps.min() > 0:
        return False

    # nearly every step is the usual one, and the others are multiples of it
    step = np.median(steps)
    whole = not (steps % 1).any()
    tolerance = 1 if whole else 0.1 * step
    even = np.abs(steps - np.round(steps / step) * step) <= tolerance
    usual = np.abs(steps - step) <= tolerance
    if not even.all() or not usual.mean() >= 0.5:
        return False

    # whole steps of 2 to 7 that vary are the pixels of a body that walks
    return bool(not whole or step == 1 or step > 7 or np.ptp(steps) == 0)
