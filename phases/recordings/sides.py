"""Sides of a split by their names: folders or files train, val and test. No numpy."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

TRAIN = ("train", "training")
VAL = ("val", "valid", "validation")
TEST = ("test", "testing")


def side_of(name: str) -> str:
    """train, val or test if a name is one of their words, or has one as a part: kinetics_train; else empty."""
    words = name.lower().replace("-", "_").replace(".", "_").split("_")
    for side, known in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        if any(word in known for word in words):
            return side
    return ""


def side_folders(raw: Path) -> list[Path]:
    """The folders in a folder whose whole name is that of a side, if train and another one are among them."""
    if not raw.is_dir():
        return []
    found = []
    for path in sorted(raw.iterdir()):
        if path.is_dir() and path.name.lower() in (*TRAIN, *VAL, *TEST):
            found.append(path)
    sides = {side_of(path.name) for path in found}
    return found if "train" in sides and len(sides) > 1 else []


def split_of_sides(names: Iterable[str]) -> dict[str, int]:
    """{name: 0 training, 1 test, -1 neither}: val is tested on if there is no test, and else held out."""
    sides = {name: side_of(name) for name in names}
    val = -1 if "test" in sides.values() else 1
    return {name: {"train": 0, "test": 1, "val": val}.get(side, -1) for name, side in sides.items()}
