"""A .zip of recordings: unpacked into a temporary folder, which is deleted when the program ends. No numpy.

Within the limits of limits.py: a bomb is not opened, and links, absolute paths and .. are refused. Messages call a
file in it as the user knows it: `gestures.zip: wave/3.json`.
"""
from __future__ import annotations

import atexit
import contextlib
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from phases.common.limits import ARRAY, MB, open_zip, reading

FILES = 1_000_000
GIVEN: dict[str, str] = {}  # {temporary folder: the archive, as it was given}
IGNORED = ("__MACOSX", ".DS_Store", "Thumbs.db")    # what systems add


def unpacked(raw: Path) -> Path:
    """The folder of a .zip file's recordings; any other path as it is."""
    if raw.suffix.lower() != ".zip" or not raw.is_file():
        return raw
    about = raw.stat()
    folder = unpacked_once(raw.absolute(), about.st_mtime_ns, about.st_size)
    GIVEN[str(folder)] = str(raw)

    # gestures.zip holds gestures/wave and gestures/point; the folder's name is the data set's
    inside = list(folder.iterdir())
    if len(inside) == 1 and not is_class_folder(inside[0]):
        return inside[0]
    return folder


@lru_cache(10)
def unpacked_once(path: Path, *of_this_moment: int) -> Path:
    """The folder that a .zip file was unpacked into."""
    folder = Path(tempfile.mkdtemp(prefix="last-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        with reading(path), open_zip(path) as z:
            unpack(z, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def as_given(text: object) -> str:
    """A message in which the files of unpacked archives are called as in these: `gestures.zip: wave/3.json`."""
    text = str(text)
    for folder, archive in GIVEN.items():
        text = text.replace(f"{folder}/", f"{archive}: ").replace(folder, archive)
    return text


@contextlib.contextmanager
def named_as_given() -> Iterator[None]:
    """Inside the block, and in a function that it decorates, errors name the files of archives `as_given`."""
    try:
        yield
    except (ValueError, OSError) as e:
        text = as_given(e)
        if text == str(e):
            raise
        raise ValueError(text) from None


def is_class_folder(path: Path) -> bool:
    """Whether a folder on its own holds clips, and so is a class, not the data set."""
    return path.is_dir() and not any(sub.is_dir() or sub.name == "labels.csv" for sub in path.iterdir())


def unpack(z: zipfile.ZipFile, folder: Path) -> None:
    """Write the files of an archive; ValueError for one that must not be written."""
    members = [info for info in z.infolist() if is_wanted(info)]
    if len(members) > FILES or sum(info.file_size for info in members) > ARRAY:
        raise ValueError(f"holds {len(members)} files, or more than {ARRAY // MB} MB unpacked: too much; unpack it "
                         "yourself and give the folder")
    if not members:
        raise ValueError("holds no file")

    for info in members:
        place = folder / checked_name(info)
        place.parent.mkdir(parents=True, exist_ok=True)
        with z.open(info) as source, open(place, "xb") as target:
            left = info.file_size
            while left > 0:
                part = source.read(min(left, MB))
                if not part:
                    raise ValueError(f"{info.filename} is cut off")
                target.write(part)
                left -= len(part)


def is_wanted(info: zipfile.ZipInfo) -> bool:
    return not info.is_dir() and not any(part in IGNORED for part in PurePosixPath(info.filename).parts)


def checked_name(info: zipfile.ZipInfo) -> PurePosixPath:
    """The path of a member inside the folder; ValueError for one that leads out of it, and for a link."""
    name = PurePosixPath(info.filename.replace("\\", "/"))
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ValueError(f"{info.filename} is a link: an archive of plain files is read")
    if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        raise ValueError(f"{info.filename} leads out of the archive")
    return name
