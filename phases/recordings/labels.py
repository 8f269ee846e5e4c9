"""labels.csv, the table of anyone's own clips: a line names a clip, its class, and who, where and on which side it is.

    name,label[,subject,camera,setup,replication,split]

No numpy: text only.
"""
from __future__ import annotations

import csv
import difflib
import io
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from phases.common.limits import read_bytes

NUMBERS = ("subject", "camera", "setup", "replication")
COLUMNS = {"name", "label", *NUMBERS, "split"}
HEADER = "name,label[,subject,camera,setup,replication,split]"
LINE = "its line"                # no column has this name
NUMBER = re.compile(r"\d{1,9}")  # a label that may be the number of a class


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
    """The labels of labels.csv in order; [] if all are numbers, or there is no such table."""
    try:
        rows, _ = labels_table(path)
    except (OSError, ValueError):
        return []
    return words_in([row.get("label") or "" for row in rows])


def words_in(labels: Iterable[str]) -> list[str]:
    """The labels in order, each once; [] if all are numbers. Empty ones do not count."""
    words = sorted(set(labels) - {""})
    return [] if all(re.fullmatch(r"-?\d+", word) for word in words) else words


def number_classes(labels: Iterable[object], listed: list[str], num_classes: int,
                   tell: bool = False) -> tuple[dict[str, int], list[str]]:
    """{label: its class, from 0} and the names of the classes, for the labels of all clips.

    A label is a class of the list, or the number of one. Without a list the labels themselves are the classes; numbers
    become "class 5". Classes without clips are left out if num_classes counts the others, or is 0: else each number
    from 0 on is a class. `tell` reports on standard error what label k does not say: which class it is.
    """
    words = sorted({str(label) for label in labels} - {""})
    numbers = sorted({int(word) for word in words if NUMBER.fullmatch(word)})
    names = listed or words_in(words)
    if names:
        index = index_of_words(words, numbers, names)
        used = sorted(set(index.values()))
    else:
        index = {word: int(word) for word in words if NUMBER.fullmatch(word)}
        used = numbers

    # the classes that have clips, in order; or all
    if num_classes in (0, len(used)):
        index = {word: used.index(k) for word, k in index.items()}
        names = [names[k] if names else f"class {k}" for k in used]
    names = names or [f"class {k}" for k in range(num_classes)]

    if tell:
        tell_numbers(index, names, numbers)
    return index, names


def index_of_words(words: list[str], numbers: list[int], names: list[str]) -> dict[str, int]:
    """{label: number of its class in a list}; labels that are numbers count from 1 if the last class has clips so."""
    first = int(0 not in numbers and len(names) in numbers)
    index = {}
    for word in words:
        if word in names:
            index[word] = names.index(word)
        elif NUMBER.fullmatch(word) and 0 <= int(word) - first < len(names):
            index[word] = int(word) - first
    return index


def tell_numbers(index: dict[str, int], names: list[str], numbers: list[int]) -> None:
    """Report which class the first number is, unless each number is the class of this number."""
    shifted = [word for word in index if NUMBER.fullmatch(word) and word not in names and int(word) != index[word]]
    if not shifted:
        return
    low, high = numbers[0], numbers[-1]
    lacking = high - low + 1 - len(numbers)
    holes = f", {lacking} numbers between them have no clip" if lacking else ""

    # classes named by their numbers say themselves which they are
    word = min(shifted, key=int)
    name = names[index[word]]
    which = f"label {word} is {name!r}, and so on"
    if name == f"class {int(word)}":
        which = f"a class for each that has clips, {names[0]!r} to {names[-1]!r}"
    print(f"  labels run from {low} to {high}{holes}: {which}", file=sys.stderr)


def read_labels(row: dict[str, str | None], index: dict[str, int],
                classes: list[str]) -> tuple[int, dict[str, int], dict[str, int]]:
    """(label, splits, numbers) of a row of labels.csv. ValueError names the field that is wrong.

    index: of number_classes. A number that it lacks is the label itself, which is no class.
    """
    # the label
    word = row["label"] or ""
    if word not in index and not NUMBER.fullmatch(word):
        raise ValueError(f"label {word!r} is neither a class nor the number of one{known_classes(word, classes)}")
    label = index[word] if word in index else int(word)

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
