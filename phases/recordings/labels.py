"""labels.csv, the table of anyone's own clips: a line names a clip, its class, and who, where and on which side it is.

    name,label[,subject,camera,setup,replication,split]

Between the fields are commas, semicolons or tabs. subject, camera and setup are numbers or names. No numpy: text only.
"""
from __future__ import annotations

import csv
import difflib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from phases.common.limits import read_text

NAMED = ("subject", "camera", "setup")     # columns that may hold names in place of numbers
NUMBERS = ("subject", "camera", "setup", "replication")
COLUMNS = {"name", "label", *NUMBERS, "split"}
HEADER = "name,label[,subject,camera,setup,replication,split]"
LINE = "its line"  # no column has this name


def labels_table(path: Path) -> tuple[list[dict], list[str]]:
    """Rows and columns of labels.csv, a row's line number under LINE; ValueError if it is no such text or too large."""
    try:
        text = read_text(path)
        mark = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, delimiter=mark)
        if len(reader.fieldnames or []) > 100 or text.count("\n") + text.count("\r") > 2_000_000:
            raise csv.Error("at most 100 columns and a million lines are read")
        reader.fieldnames = [str(name).strip() for name in reader.fieldnames or []]

        # a row that is too long has its last fields in a list
        rows = []
        for row in reader:
            row = {key: value.strip() if isinstance(value, str) else value for key, value in row.items()}
            rows.append(row | {LINE: reader.line_num})
        return rows, reader.fieldnames
    except csv.Error as e:
        raise ValueError(f"{path}: is not the table that it must be: {e}") from None


def labelled_rows(path: Path) -> list[dict]:
    """The rows of labels.csv; ValueError if its header is another, or no row is below it."""
    rows, columns = labels_table(path)
    if {"name", "label"} <= set(columns) <= COLUMNS and rows:
        return rows
    header = ",".join(columns)
    found = f"its header is {header!r}" if rows or not columns else f"below {header!r} it has none"
    raise ValueError(f"{path}: must have the header {HEADER} and a line per clip; {found}")


def label_words(path: Path) -> list[str]:
    """The labels of labels.csv in order, if none is a number; [] if there is no such table."""
    try:
        rows, _ = labels_table(path)
    except (OSError, ValueError):
        return []
    words = {row.get("label") or "" for row in rows}
    return [] if any(not word or word.isdigit() for word in words) else sorted(words)


def numbers_of_names(key: str, column: Sequence[str | None]) -> dict[str, str]:
    """{name: number} of the names in a column of NAMED, reported on standard error; {} for a column of numbers.

    Names that differ only in their last digits, as S01 and S07, have these as numbers; others are numbered from 1 in
    the order of the alphabet. Small and capital letters do not tell names apart. A column with numbers among the names
    stays as it is: a name in it is reported with its row.
    """
    names = {word for word in column if word}
    if not names or any(re.fullmatch(r"-?\d+", word) for word in names):
        return {}

    # the number in each name, if that tells them apart
    different = sorted({name.casefold() for name in names})
    hits = [re.fullmatch(r"(.*?\D)(\d{1,9})", name) for name in different]
    if all(hits) and len({hit[1] for hit in hits}) == 1:
        numbers = [int(hit[2]) for hit in hits]
        if len(set(numbers)) == len(numbers) and 0 not in numbers:
            number_of = dict(zip(different, numbers, strict=True))
            return {name: str(number_of[name.casefold()]) for name in names}

    # in the order of the alphabet
    number_of = {name: number for number, name in enumerate(different, 1)}
    shown = {number_of[name.casefold()]: name for name in sorted(names, reverse=True)}
    listed = ", ".join(f"{shown[number]} is {number}" for number in sorted(shown)[:8])
    print(f"  {key} by name: {listed}{', ...' if len(shown) > 8 else ''}", file=sys.stderr)
    return {name: str(number_of[name.casefold()]) for name in names}


def read_labels(row: dict[str, str | None], classes: list[str],
                first: int = 0) -> tuple[int, dict[str, int], dict[str, int]]:
    """(label, splits, numbers) of a row of labels.csv. ValueError names the field that is wrong.

    A label is a class, or a number that counts from `first`.
    """
    # the label
    word = row["label"] or ""
    if word not in classes and not re.fullmatch(r"\d{1,9}", word):
        raise ValueError(f"label {word!r} is neither a class nor the number of one{known_classes(word, classes)}")
    label = classes.index(word) if word in classes else int(word) - first

    # the side of the split
    split = row.get("split", "")
    if split not in ("", "train", "test"):
        raise ValueError(f"split {split!r} is neither train nor test")
    splits = {"given": ("train", "test").index(split)} if split else {}

    # subject, camera, ...
    numbers = {}
    for key in NUMBERS:
        if key in row:
            if not re.fullmatch(r"-?\d{1,9}", row[key] or ""):
                raise ValueError(f"{key} {row[key] or ''!r} is not a whole number")
            numbers[key] = int(row[key])
    return label, splits, numbers


def known_classes(word: str, classes: list[str]) -> str:
    """The end of the message about a label that is no class."""
    if not classes:
        return ": skeleton.json lacks `classes`"
    close = difflib.get_close_matches(word, classes, n=1, cutoff=0.5)
    meant = f", did you mean {close[0]!r}?" if close else ""
    return f"{meant} (known: {', '.join(sorted(classes))})"
