"""labels.csv, the table of anyone's own clips: a line names a clip, its class, and who, where and on which side it is.

    name,label[,subject,camera,setup,replication,split]

No numpy: text only.
"""
from __future__ import annotations

import csv
import difflib
import io
import re
from pathlib import Path

from phases.common.limits import read_bytes

NUMBERS = ("subject", "camera", "setup", "replication")
COLUMNS = {"name", "label", *NUMBERS, "split"}
HEADER = "name,label[,subject,camera,setup,replication,split]"
LINE = "its line"  # no column has this name


def labels_table(path: Path) -> tuple[list[dict], list[str]]:
    """Rows and columns of labels.csv, a row's line number under LINE; ValueError if it is no such text or too large."""
    try:
        text = read_bytes(path).decode("utf-8-sig")  # Excel begins a file with a byte order mark
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        if len(reader.fieldnames or []) > 100 or text.count("\n") + text.count("\r") > 2_000_000:
            raise csv.Error("at most 100 columns and a million lines are read")
        reader.fieldnames = [str(name).strip() for name in reader.fieldnames or []]

        # a row that is too long has its last fields in a list
        rows = []
        for row in reader:
            row = {key: value.strip() if isinstance(value, str) else value for key, value in row.items()}
            rows.append(row | {LINE: reader.line_num})
        return rows, reader.fieldnames
    except UnicodeDecodeError as e:
        raise ValueError(f"{path}: is not in UTF-8 ({e})") from None
    except csv.Error as e:
        raise ValueError(f"{path}: is not the table that it must be: {e}") from None


def labelled_rows(path: Path) -> list[dict]:
    """The rows of labels.csv; ValueError if its header is another, or no row is below it."""
    rows, columns = labels_table(path)
    if {"name", "label"} <= set(columns) <= COLUMNS and rows:
        return rows
    header = ",".join(columns)
    found = f"its header is {header!r}" if rows or not columns else f"below {header!r} it has none"
    raise ValueError(f"{path}: must have the header {HEADER} with commas between, and a line per clip; {found}")


def label_words(path: Path) -> list[str]:
    """The labels of labels.csv in order, if none is a number; [] if there is no such table."""
    try:
        rows, _ = labels_table(path)
    except (OSError, ValueError):
        return []
    words = {row.get("label") or "" for row in rows}
    return [] if any(not word or word.isdigit() for word in words) else sorted(words)


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
