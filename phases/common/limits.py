"""Limits of what a file may hold, checked by its header before memory is taken; damaged bytes as one line. numpy only.

    .skeleton, .json, .csv    32 MB of text; labels.csv 1,000,000 lines
    .npy, a member of .npz    numbers or text, 8 GB; no more than the file holds
    .npz                      unpacked at most 64 MB and 200 times the file
    a tar archive             128 MB unpacked, its links are skipped
    a pickle                  plain containers and numpy arrays of 64 million values unpacked
    a clip                    1,000,000 frames, 100 bodies, 1,000 joints, coordinates within ±1e12
    a data set                100,000 classes
"""
from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

MB = 1 << 20
TEXT = 32 * MB
ARRAY = 8192 * MB
ARCHIVE = 128 * MB
FRAMES, BODIES, JOINTS, CLASSES = 1_000_000, 100, 1000, 100_000
FPS = (1, 1000)  # frames per second
FARTHEST = 1e12         # of a coordinate, in any unit: its square is finite in float32
VALUES = 64_000_000     # in a pickle's containers, unpacked


def one_line(e: BaseException) -> str:
    """The text of an exception as one line of at most 300 characters; its type if it has no text."""
    return " ".join(str(e).split())[:300] or type(e).__name__


@contextlib.contextmanager
def reading(what: Path | str) -> Iterator[None]:
    """Inside the block, an error of numpy or zipfile on damaged bytes becomes a ValueError that names the file.

    Warnings, such as numpy's of a header that Python 2 wrote, are not printed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield

    # errors that already name the file stay as they are
    except Exception as e:
        names_the_file = isinstance(e, OSError) and e.filename is not None or str(e).startswith(f"{what}:")
        if names_the_file:
            raise
        raise ValueError(f"{what}: {one_line(e) if type(e) is ValueError else damage(e)}") from None


def damage(e: Exception) -> str:
    return f"is damaged ({one_line(e)})"


def read_bytes(path: Path, most: int = TEXT) -> bytes:
    """The bytes of a file; ValueError if there are more than `most`."""
    check_file(path, most)
    with open(path, "rb") as f:
        return f.read(most)  # the file may grow meanwhile


def read_text(path: Path) -> str:
    """The text of a table: UTF-8, UTF-16 where the file begins with its mark, else Latin-1 as Windows writes it.

    ValueError if the file has more than TEXT bytes.
    """
    data = read_bytes(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")  # Excel begins a file with a byte order mark
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def check_file(path: Path, most: float = math.inf) -> None:
    """ValueError for a path that is no regular file, such as a pipe, and for a file of more than `most` bytes."""
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{path}: is no regular file")
    if about.st_size > most:
        raise ValueError(f"{path}: has {about.st_size} bytes, more than {int(most) // MB} MB, the most that is read")


def read_json(path: Path):
    """The value of a JSON file. ValueError if it is damaged, or a number in it is not finite."""
    def finite(word: str) -> float:
        value = float(word)
        if not math.isfinite(value):
            raise ValueError(f"{path}: {word[:40]} is not finite")
        return value

    data = read_bytes(path)

    # json raises ValueError with a place in the text, and RecursionError for lists that nest without end
    try:
        return json.loads(data, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError) as e:
        if str(e).startswith(f"{path}:"):
            raise
        raise ValueError(f"{path}: is no JSON ({one_line(e)})") from None


# ---------------------------------------------------------------------------------------------------------------------
# Arrays
# ---------------------------------------------------------------------------------------------------------------------

def read_header(f) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran order, type) of the array that begins here; ValueError unless it is a plain one."""
    # the format's version
    version = np.lib.format.read_magic(f)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"is an array of format {version}: only numbers and text are read")

    # no objects, which would be pickles, and no negative or empty sizes
    shape, fortran, dtype = read[version](f)
    if dtype.kind not in "biufcSU" or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"is an array of type {dtype} and shape {shape}: only numbers and text are read")
    return shape, fortran, dtype


def check_size(f, size: int, most: float = ARRAY) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The header of the array that begins here; ValueError if it claims more than `most` bytes, or than the file holds.

    size: bytes of the file, or of the member of an archive.
    """
    shape, fortran, dtype = read_header(f)
    claimed = math.prod(shape) * dtype.itemsize
    held = size - f.tell()
    if claimed > held or claimed > most or max(shape, default=0) > ARRAY:
        raise ValueError(f"claims shape {shape}, {claimed} bytes; the file holds {max(0, held)} of them, and at most "
                         f"{ARRAY // MB} MB are read")
    return shape, fortran, dtype


def check_text(array: np.ndarray) -> np.ndarray:
    """The array itself; ValueError if it is text with a number that is no character."""
    if array.dtype.kind == "U" and array.size:
        codes = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if (codes > 0x10FFFF).any() or ((codes >= 0xD800) & (codes < 0xE000)).any():
            raise ValueError("holds text with a number that is no character")
    return array


def load_npy(path: Path) -> np.ndarray:
    """The array of an .npy file."""
    check_file(path)
    with open(path, "rb") as f, reading(path):
        if f.read(2) != b"\x93N":
            raise ValueError("is not a numpy file, whatever its name says")

        # the header first, then the whole file
        f.seek(0)
        check_size(f, os.fstat(f.fileno()).st_size)
        f.seek(0)
        return check_text(np.load(f, allow_pickle=False))


@contextlib.contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """An open zip archive; ValueError for a bomb, which unpacks to more than 64 MB and 200 times its own bytes."""
    check_file(path)
    with zipfile.ZipFile(path) as z:
        packed = os.stat(path).st_size
        unpacked = sum(info.file_size for info in z.infolist())
        if unpacked > 64 * MB + 200 * packed:
            raise ValueError(f"claims {unpacked} bytes unpacked from {packed}: it is not opened")
        yield z


def load_npz(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray | None]:
    """The arrays of an .npz file by name; None for one that is not wanted."""
    found = {}
    with reading(path), open_zip(path) as z:
        for info in z.infolist():
            name = info.filename.removesuffix(".npy")
            found[name] = None
            if not wanted(name):
                continue

            # the header first, then the whole member
            with z.open(info) as f:
                check_size(f, info.file_size)
                f.seek(0)
                found[name] = check_text(np.lib.format.read_array(f, allow_pickle=False))
    return found
