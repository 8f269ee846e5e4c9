"""Labelled recordings as a list of files, each of one clip, to teach a recogniser: in every form that adopt reads.

Nothing but names and tables is read here. The clips of packed files are unpacked, as .npy files, into a temporary
folder that is deleted when the program ends. numpy only.
"""
from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phases.recordings.archives import named_as_given, unpacked
from phases.recordings.arrays import class_folders, class_paths, clip_file, metadata, not_listed
from phases.recordings.clips import Skip
from phases.recordings.labels import LINE, labelled_rows, number_classes, read_labels
from phases.recordings.laid_out import laid_out
from phases.recordings.ntu import is_ntu_name, ntu_fields, ntu_paths, number_actions
from phases.recordings.poses import pose_files
from phases.recordings.sides import side_folders, split_of_sides
from phases.recordings.sources import listed_classes
from phases.recordings.survey import look, reader_of

MOST = 2000     # clips


@dataclass(frozen=True)
class Example:
    """A file of one clip, and what is known of it."""
    name: str
    label: str
    path: Path
    person: str = ""        # empty: nobody says
    is_test: bool = False   # on the test side of a split that the recordings bring
    first: int = 0          # frames of the file
    last: int | None = None


@named_as_given()
def find_examples(raw: Path) -> tuple[list[Example], list[Skip], list[str]]:
    """(examples, files that are none, classes in their order) of recordings.

    ValueError for a class folder, or a class that skeleton.json lists, without any. A packed file may list more.
    """
    raw = unpacked(raw)
    reader = reader_of(raw)
    if reader == "ntu":
        found = list(of_ntu(raw))
    elif reader == "arrays" and raw.is_dir():
        found = list(of_folder(raw))
    else:
        found = list(of_packed(raw))

    # few enough
    examples = [item for item in found if isinstance(item, Example)]
    skips = [item for item in found if isinstance(item, Skip)]
    if len(examples) > MOST:
        raise ValueError(f"raw = {raw}: {len(examples)} clips are too many to teach with: train on them, `just adopt "
                         f"raw={raw}`")

    # classes as a list or the alphabet has them, each with a clip
    listed = listed_classes(reader, raw)
    named = {example.label for example in examples}
    classes = [label for label in listed if label in named] + sorted(named - set(listed))
    lacking = []
    if reader == "arrays" and raw.is_dir():
        lacking = [label for label in listed if label not in named] + empty_folders(raw)
    if lacking:
        raise ValueError(f"raw = {raw}: no clip of the class {lacking[0]!r}: record one, or delete the class")
    return examples, skips, classes


def empty_folders(raw: Path) -> list[str]:
    """The names of folders beside class folders that hold no clip."""
    if not class_folders(raw):
        return []
    classes = {folder for _, folder, _ in class_paths(raw)}
    found = []
    for parent in side_folders(raw) or [raw]:
        for path in sorted(parent.iterdir()):
            if path.is_dir() and path not in classes and path.name[0] != "." and path.name != "__MACOSX":
                found.append(path.name)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Forms
# ---------------------------------------------------------------------------------------------------------------------

def of_ntu(raw: Path) -> Iterator[Example | Skip]:
    """.skeleton files: their names say action and person."""
    paths = ntu_paths(raw)
    index, words = number_actions(paths, 0)
    listed = listed_classes("ntu", raw)
    named = [listed[k] for k in index] if listed and max(index, default=0) < len(listed) else words
    for path in paths:
        if not is_ntu_name(path.stem):
            yield Skip(path.name, 0, "has no name like S001C001P001R001A001, which says what it shows")
            continue
        fields = ntu_fields(path.stem)
        yield Example(path.stem, named[index[fields["label"]]], path, str(fields["subject"]))


def of_folder(raw: Path) -> Iterator[Example | Skip]:
    """Files that labels.csv, class folders or they themselves label."""
    classes = list(map(str, metadata(raw).get("classes") or []))
    if laid_out(raw):
        yield from of_said(raw)
    elif class_folders(raw):
        yield from of_class_folders(raw, classes)
    else:
        yield from of_table(raw, classes)


def of_said(raw: Path) -> Iterator[Example | Skip]:
    for said in laid_out(raw):
        if said.label:
            yield Example(said.name, said.label, said.path, str(said.subject or ""), said.split == 1, said.first,
                          None if said.last is None else said.last + 1)
        else:
            yield Skip(said.path.name, 0, "says no label")


def of_class_folders(raw: Path, classes: list[str]) -> Iterator[Example | Skip]:
    paths = class_paths(raw)
    index, names = number_classes([label for label, _, _ in paths], classes, 0)
    sides = split_of_sides({side for _, _, side in paths})
    for path in pose_files(raw):
        yield Skip(path.name, 0, "lies beside the class folders")
    for label, folder, side in paths:
        for path in pose_files(folder):
            is_test = sides.get(side) == 1
            yield Example(str(path.relative_to(raw)), names[index[label]], path, is_test=is_test)


def of_table(raw: Path, classes: list[str]) -> Iterator[Example | Skip]:
    """The clips that labels.csv lists."""
    rows = labelled_rows(raw / "labels.csv")
    yield from not_listed(raw, rows)
    index, names = number_classes([row["label"] or "" for row in rows], classes, 0, tell=True)
    for row in rows:
        name = row["name"]
        if not name or None in row:
            yield Skip("labels.csv", row[LINE], f"{name or 'names no clip'}: is no row of the header's columns")
            continue
        try:
            label, splits, _ = read_labels({key: row.get(key, "") for key in ("label", "split")}, index, names)
            if label >= len(names):
                raise ValueError(f"label {row['label']!r} is no class")
        except ValueError as e:
            yield Skip("labels.csv", row[LINE], f"{name}: {e}")
            continue

        path = clip_file(raw, name)
        if path.exists():
            yield Example(name, names[label], path, row.get("subject") or "", splits.get("given") == 1)
        else:
            yield Skip(name, 0, f"no such file: {path}")


def of_packed(raw: Path) -> Iterator[Example | Skip]:
    """The clips of a packed .npz or a pickle, written into a temporary folder beside the skeleton that they have."""
    survey = look(raw)
    if survey.rest:
        raise ValueError(f"raw = {raw}: {len(survey.all_clips)} clips are too many to teach with: train on them, `just "
                         f"adopt raw={raw}`")
    yield from survey.skips

    # their skeleton, for whoever reads them
    folder = Path(tempfile.mkdtemp(prefix="last-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "skeleton.json").write_text(json.dumps({"skeleton": survey.skeleton.to_dict()}))
    split = next(iter(sorted({name for clip in survey.clips for name in clip.splits})), "")
    for i, clip in enumerate(survey.clips):
        path = folder / f"{i}.npy"
        np.save(path, clip.joints)
        yield Example(clip.name, survey.class_of(clip.label), path, str(clip.subject or ""),
                      clip.splits.get(split) == 1)
