"""One clip of a table: a row per frame, a column per coordinate. poses.py has the forms. numpy only."""
from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import read_bytes
from skeletons import spelled

SCORES = ("visibility", "vis", "confidence", "conf", "score", "likelihood", "v", "c", "s")
AXES = ("x", "y", "z", *SCORES)
COUNTS = (17, 18, 20, 25, 26, 33)  # joints of usual skeletons, for tables without names
JOINT_AXIS = re.compile(rf"(.+?)(?:[_. /-]|(?<=\d)|(?<=[a-z])(?=[A-Z]))((?i:{'|'.join(AXES)}))(?i:[_. ]pos(?:ition)?)?")
AXIS_JOINT = re.compile(rf"((?i:{'|'.join(AXES)}))[_. /-]?(\d+|(?<=[_. /-]).+)")
CAPITALS = re.compile(r"([A-Z0-9_ ]{2,}[A-Z])([XYZ])")
NUMBERED = re.compile(r"((key ?)?point|joint|landmark|marker|part|kp|j|p)? ?\d+")


def told_joints(path: Path) -> list[str]:
    """The joints that a table names, as spelled; none for other files, and if they are numbers, as in joint7_x."""
    header = csv_rows(path)[0] if path.suffix.lower() == ".csv" else []
    return [joint for joint in named_columns(header) if not NUMBERED.fullmatch(joint)] if header else []


def csv_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """(names of the columns, or none; the rows below) of a table."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
        delimiter = delimiter_of(next((line for line in text.splitlines() if line.strip(" ,;\t")), ""))
        rows = csv.reader(text.splitlines(), delimiter=delimiter)
        rows = [row for row in rows if row[1:] or any(map(str.strip, row))]
        if delimiter != ",":
            rows = [list(map(with_point, row)) for row in rows]
    except (UnicodeDecodeError, csv.Error) as e:
        raise ValueError(f"is no table of text ({e})") from None
    filled = [at for at, row in enumerate(rows) if any(map(str.strip, row))] or [0]
    first = filled[0]
    numbered = [str(k) for k in range(len(rows[first]))] if rows else []  # pandas's 0, 1, 2, ...
    counted = rows and [cell.strip() for cell in rows[first]] in (numbered, ["", *numbered[:-1]])
    header = rows[first] if rows and not any(map(is_number, rows[first])) else []
    # blank rows below the last frame are a spreadsheet's; between frames they are frames without a body
    body = rows[first + 1 if header or counted else 0:filled[-1] + 1]
    if not body or len({len(row) for row in ([header] if header else []) + body}) != 1:
        raise ValueError("holds no frame" if not body else "its rows differ in length")
    return header, body


def delimiter_of(line: str) -> str:
    """What separates the cells of a first line. In a line of numbers with `;` or tabs a comma is a decimal mark."""
    for mark in ";\t,":
        cells = [with_point(cell) if mark != "," else cell for cell in line.split(mark) if cell.strip()]
        if mark in line and all(map(is_number, cells)):
            return mark
    return max(",;\t", key=line.count)


def with_point(cell: str) -> str:
    """1,5 -> 1.5"""
    return re.sub(r"^(\s*[-+]?\d*),(?=\d)", r"\1.", cell)


def of_csv(path: Path, names: Sequence[str] = ()) -> np.ndarray:
    """(L, V, C) of a table with a row per frame; an empty cell makes its joint missing."""
    header, body = csv_rows(path)
    found = named_columns(header) if header else {}
    wanted = [spelled(name) for name in names]
    lacking = [name for name in wanted if name not in found]
    if len(found) == len(wanted) > len(lacking) > 0:
        other = ", ".join(name for name in found if name not in wanted)
        raise ValueError(f"has no columns for the joint {lacking[0]!r}, but for {other}: name them alike here and in "
                         "the skeleton")
    joints = [found[name] for name in (wanted if wanted and set(wanted) <= found.keys() else found)]
    joints = joints or plain_columns(body)
    flat = [column for columns in joints for column in columns]
    x = np.zeros((len(body), len(flat)), np.float32)
    for at, row in enumerate(body):
        for k, column in enumerate(flat):
            try:
                x[at, k] = float(row[column]) if row[column].strip() else np.inf
            except ValueError:
                raise ValueError(f"frame {at}: {row[column]!r} is not a number") from None
            if not np.isfinite(x[at, k]) and row[column].strip():
                raise ValueError(f"frame {at}: {header[column] if header else 'a coordinate'} is not finite; an empty "
                                 "cell means that the joint is missing")
    x = x.reshape(len(body), len(joints), -1)  # l v c
    x[np.isinf(x).any(2)] = 0
    scored = bool(header) and joint_and_axis(header[joints[0][-1]])[1] in SCORES
    return np.insert(x, 2, 0, axis=2) if scored and x.shape[2] == 3 else x


def is_number(word: str) -> bool:
    try:
        return np.isfinite(float(word))
    except ValueError:
        return False


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


def named_columns(header: list[str]) -> dict[str, list[int]]:
    """{joint as spelled: columns of x, y, then z and score if it has them}, in the order of the table."""
    joints: dict[str, dict[str, int]] = {}
    for number, column in enumerate(header):
        joint, axis = joint_and_axis(column)
        axis = "score" if axis in SCORES else axis
        if joint:
            joints.setdefault(spelled(joint), {}).setdefault(axis, number)
    joints = {joint: axes for joint, axes in joints.items() if {"x", "y"} <= axes.keys()}
    kinds = {tuple(sorted(axes)) for axes in joints.values()}
    if len(kinds) != 1:
        what = "its joints have different axes" if kinds else "no joint has columns for x and y"
        raise ValueError(f"{what}; columns must be like left_elbow_x, left_elbow_y, left_elbow_z, or x0, y0, z0")
    (kind,) = kinds
    order = [axis for axis in ("x", "y", "z", "score") if axis in kind]
    return {joint: [axes[axis] for axis in order] for joint, axes in joints.items()}


def counts_frames(column: list[str]) -> bool:
    """Whether numbers rise as numbers or times of frames do, give or take lost frames and rounded milliseconds."""
    try:
        steps = np.diff([float(cell) for cell in column])
    except ValueError:
        return False
    if not len(steps) or not steps.min() > 0:
        return False
    step, whole = np.median(steps), not (steps % 1).any()
    even = np.abs(steps / step - np.round(steps / step)) * step <= (1 if whole else 0.1 * step)
    usual = np.abs(steps - step) <= (1 if whole else 0.1 * step)
    # steps of 2 to 7 that vary are pixels of a body that walks
    return bool(even.all() and usual.mean() >= 0.5 and (not whole or step == 1 or step > 7 or np.ptp(steps) == 0))


def plain_columns(rows: list[list[str]]) -> list[list[int]]:
    """Columns of joints in a table of numbers only; a first column that counts frames is left out."""
    for first in (1, 0) if counts_frames([row[0] for row in rows]) else (0, 1):
        n = len(rows[0]) - first
        C = next((C for C in (3, 2, 4) if n % C == 0 and n // C in COUNTS), 3 if n % 3 == 0 else 0)
        if C and n:
            return [[first + v * C + c for c in range(C)] for v in range(n // C)]
    raise ValueError(f"has {len(rows[0])} columns of numbers: must be 2, 3 or 4 for each joint; a first line may name "
                     "them: left_elbow_x, left_elbow_y, ...")
