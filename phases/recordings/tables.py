"""Tables of numbers as text: what separates cells, decimal commas, names of columns, missing values. numpy only."""
from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import read_text
from skeletons import spelled

SCORES = ("visibility", "vis", "confidence", "conf", "score", "likelihood", "v", "c", "s")
MISSING = ("", "nan", "-nan", "null", "none", "na", "n/a", "#n/a", "<na>")  # cells of a joint that was not seen
NOT_A_NUMBER = re.compile(r"[-+]?(nan\(\w*\)|1[.,]#(qnan|snan|ind)0*)", re.IGNORECASE)  # as C writes NaN on Windows
DECIMAL = re.compile(r"[-+]?\d*,\d+(e[-+]?\d+)?", re.IGNORECASE)
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
LARGEST = 3.4e38  # of a float32
COUNTS = (17, 18, 20, 25, 26, 33)  # joints of usual skeletons, for numbers without names


def csv_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """(names of the columns, or none; the rows below) of a table."""
    rows = cells_of(read_text(path).splitlines())
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


def cells_of(lines: list[str]) -> list[list[str]]:
    """The cells of a table without its empty lines. Decimal commas become points, also in quotes between commas."""
    try:
        delimiter = delimiter_of(next((line for line in lines if line.strip(" ,;\t")), ""))
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row[1:] or any(map(str.strip, row))]
    except csv.Error as e:
        raise ValueError(f"is no table of text ({e})") from None
    if delimiter == "," and not has_decimal_commas(rows):
        return rows
    return [list(map(with_point, row)) for row in rows]


def has_decimal_commas(rows: list[list[str]]) -> bool:
    """Whether cells hold numbers with a comma that is not before thousands: 1,5 or 0,125, but not 1,250 alone."""
    for row in rows:
        for cell in row:
            if "," in cell and DECIMAL.fullmatch(cell.strip()) and not THOUSANDS.fullmatch(cell.strip()):
                return True
    return False


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
    word = cell.strip().lower()
    return word in MISSING or bool(NOT_A_NUMBER.fullmatch(word))


def is_number(word: str) -> bool:
    try:
        return np.isfinite(float(word))
    except ValueError:
        return False


def number_of(cell: str) -> float:
    """The number in a cell, NaN if it is missing. ValueError if it is no number, or an infinite one."""
    try:
        number = float(cell)
    except ValueError:
        if is_missing(cell):
            return np.nan
        raise ValueError(f"{cell!r} is not a number") from None
    if abs(number) > LARGEST:
        raise ValueError(f"{cell!r} is not finite; an empty cell means that the joint is missing")
    return number


def in_order_of(names: Sequence[str], found: Collection[str]) -> list[str]:
    """The joints of a table, as `spelled`, in the order of the skeleton's `names` if it has all of these.

    ValueError if it has as many joints, but some are called differently.
    """
    wanted = [spelled(name) for name in names]
    lacking = [name for name in wanted if name not in found]
    if len(found) == len(wanted) > len(lacking) > 0:
        others = ", ".join(name for name in found if name not in wanted)
        raise ValueError(f"has no columns for the joint {lacking[0]!r}, but for {others}: name them alike here and in "
                         "the skeleton")
    return wanted if wanted and not lacking else list(found)


def usual_channels(n: int) -> int:
    """How many numbers a joint has if n numbers are a usual skeleton: 3, 2 or 4; 0 if they are none."""
    return next((C for C in (3, 2, 4) if n % C == 0 and n // C in COUNTS), 0)
