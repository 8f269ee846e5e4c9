"""A pair of pickles, one per side, as older mmaction2 and pyskl data sets have them: train.pkl and val.pkl.

The pickles of a folder are read as one, with the split `given`. numpy only.
"""
from __future__ import annotations

from pathlib import Path

from phases.recordings.pickles import read_annotations
from phases.recordings.sides import side_of, split_of_sides

SUFFIXES = (".pkl", ".pickle")


def pickle_sides(raw: Path) -> list[Path]:
    """The pickles of a folder that are named by a side, if train and another one are among them; else []."""
    if not raw.is_dir():
        return []
    found = [path for path in sorted(raw.iterdir()) if path.suffix.lower() in SUFFIXES and side_of(path.stem)]
    sides = [side_of(path.stem) for path in found]
    return found if "train" in sides and 1 < len(set(sides)) == len(sides) else []


def annotations_of(raw: Path) -> dict:
    """{split, annotations} of a pyskl pickle, or of a folder with one per side.

    The sides become the split `given`; val is tested on if there is no test, and else belongs to neither side. The
    splits inside the pickles do not count. ValueError if a clip is in two of them, or the folder holds no such pair.
    """
    if not raw.is_dir():
        return read_annotations(raw)
    files = pickle_sides(raw)
    if not files:
        raise ValueError(f"{raw}: holds no pair of pickles, named train and val or test")

    # a clip without a name is known by its number in its file
    sides = split_of_sides(path.stem for path in files)
    split: dict[str, list[str]] = {"given_train": [], "given_test": []}
    annotations = []
    owner: dict[str, str] = {}
    for path in files:
        for i, annotation in enumerate(read_annotations(path)["annotations"]):
            if isinstance(annotation, dict):
                annotation = {"frame_dir": f"{path.stem}_{i}"} | annotation
                name = str(annotation["frame_dir"])
                if owner.setdefault(name, path.name) != path.name:
                    raise ValueError(f"{raw}: {name} is in {owner[name]} and in {path.name}")
                if sides[path.stem] >= 0:
                    split["given_test" if sides[path.stem] else "given_train"].append(name)
            annotations.append(annotation)
    return {"split": split, "annotations": annotations}
