"""A clip of a table: a row per frame, a column per coordinate. poses.py lists the forms. numpy only."""
from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import read_bytes
from phases.recordings.metres import missing_as_zeros
from skeletons import spelled

SCORES = ("visibility", "vis", "confidence", "conf", "score", "likelihood", "v", "c", "s")
AXES = ("x", "y", "z", *SCORES)
MISSING = ("", "nan", "-nan", "null", "none", "na", "n/a", "#n/a", "<na>")  # cells of a joint that was not seen
COUNTS = (17, 18, 20, 25, 26, 33)  # joints of usual skeletons, for numbers without names

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
    header, _ = csv_rows(path)
    if not header:
        return []
    return [joint for joint in named_columns(header) if not NUMBERED.fullmatch(joint)]


def clip_of_table(path: Path, names: Sequence[str] = ()) -> np.ndarray:
    """(L, V, C) of a table with a row per frame; a joint with a cell of MISSING is zeros. names: the skeleton's joints.

    Columns that name every joint of the skeleton are put into its order. ValueError if a table of as many joints names
    some of them differently.
    """
    header, body = csv_rows(path)
    joints = joint_columns(header, names) or plain_columns(body)
    columns = [column for joint in joints for column in joint]
    x = table_numbers(header, body, columns).reshape(len(body), len(joints), -1)  # l v c

    x = missing_as_zeros(x)

    # x, y, score: a z of 0 keeps the score from being read as z
    last = joints[0][-1]
    scored = bool(header) and joint_and_axis(header[last])[1] in SCORES
    return np.insert(x, 2, 0, axis=2) if scored and x.shape[2] == 3 else x


# ---------------------------------------------------------------------------------------------------------------------
# Cells
# ---------------------------------------------------------------------------------------------------------------------

def csv_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """(names of the columns, or none; the rows below) of a table."""
    rows = cells(path)
    filled = [at for at, row in enumerate(rows) if not all(map(is_missing, row))] or [0]
    first, last = filled[0], filled[-1]
    top = rows[first] if rows else []

    # the first row has names, or pandas's 0, 1, 2, ... (after an empty cell, if pandas wrote an index), or a frame
    header = [] if any(map(is_number, top)) else top
    numbered = [str(k) for k in range(len(top))]
    counted = [cell.strip() for cell in top] in (numbered, ["", *numbered[:-1]])

    # a spreadsheet leaves empty rows below the last frame; between frames they are frames without a body
    below = first + 1 if header or counted else 0
    body = rows[below:last + 1]
    if not body:
        raise ValueError("holds no frame")
    lengths = {len(row) for row in body} | ({len(header)} if header else set())
    if len(lengths) != 1:
        raise ValueError("its rows differ in length")
    return header, body


def cells(path: Path) -> list[list[str]]:
    """The cells of a table without its empty lines. Where no comma separates them, decimal commas become points."""
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
        delimiter = delimiter_of(next((line for line in lines if line.strip(" ,;\t")), ""))
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row[1:] or any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as e:
        raise ValueError(f"is no table of text ({e})") from None
    return rows if delimiter == "," else [list(map(with_point, row)) for row in rows]


def delimiter_of(line: str) -> str:
    """What separates the cells of a first line. In a line of numbers with `;` or tabs a comma is a decimal mark."""
    for mark in ";\t,":
        filled = [cell for cell in line.split(mark) if not is_missing(cell)]
        numbers = filled if mark == "," else map(with_point, filled)
        if mark in line and all(map(is_number, numbers)):
            return mark
    return max(",;\t", key=line.count)


def with_point(cell: str) -> str:
    """1,5 -> 1.5"""
    return re.sub(r"^(\s*[-+]?\d*),(?=\d)", r"\1.", cell)


def is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def is_number(word: str) -> bool:
    try:
        return np.isfinite(float(word))
    except ValueError:
        return False


def table_numbers(header: list[str], body: list[list[str]], columns: list[int]) -> np.ndarray:
    """(L, columns) float32 of the cells; NaN where one is missing."""
    x = np.zeros((len(body), len(columns)), np.float32)
    for at, row in enumerate(body):
        for k, column in enumerate(columns):
            # a number
            try:
                x[at, k] = np.nan if is_missing(row[column]) else float(row[column])
            except ValueError:
                raise ValueError(f"frame {at}: {row[column]!r} is not a number") from None

            # infinite as written, or as a float32
            if np.isinf(x[at, k]):
                name = header[column] if header else "a coordinate"
                raise ValueError(f"frame {at}: {name} is not finite; an empty cell means that the joint is missing")
    return x


# ---------------------------------------------------------------------------------------------------------------------
# Columns
# ---------------------------------------------------------------------------------------------------------------------

def joint_columns(header: list[str], names: Sequence[str]) -> list[list[int]]:
    """The columns of each joint that a header names, in the order of `names` if it names all of these; [] without one.
    """
    found = named_columns(header) if header else {}
    wanted = [spelled(name) for name in names]
    lacking = [name for name in wanted if name not in found]

    # as many joints as the skeleton has, but not the same
    if len(found) == len(wanted) > len(lacking) > 0:
        others = ", ".join(name for name in found if name not in wanted)
        raise ValueError(f"has no columns for the joint {lacking[0]!r}, but for {others}: name them alike here and in "
                         "the skeleton")
    order = wanted if wanted and not lacking else found
    return [found[name] for name in order]


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
    counted = counts_frames([row[0] for row in rows])
    for first in (1, 0) if counted else (0, 1):
        n = len(rows[0]) - first
        C = usual_channels(n) or (3 if n % 3 == 0 else 0)
        if C and n:
            return [list(range(at, at + C)) for at in range(first, first + n, C)]
    raise ValueError(f"has {len(rows[0])} columns of numbers: must be 2, 3 or 4 for each joint; a first line may name "
                     "them: left_elbow_x, left_elbow_y, ...")


def usual_channels(n: int) -> int:
    """How many numbers a joint has if n numbers are a usual skeleton: 3, 2 or 4; 0 if they are none."""
    return next((C for C in (3, 2, 4) if n % C == 0 and n // C in COUNTS), 0)


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
    even = np.abs(steps / step - np.round(steps / step)) * step <= tolerance
    usual = np.abs(steps - step) <= tolerance
    if not even.all() or not usual.mean() >= 0.5:
        return False

    # whole steps of 2 to 7 that vary are the pixels of a body that walks
    return bool(not whole or step == 1 or step > 7 or np.ptp(steps) == 0)
