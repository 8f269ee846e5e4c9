"""Northwestern-UCLA's JSON files, from a folder or a tar archive."""
from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from phases.common.limits import ARCHIVE, TEXT, check_file, one_line, read_bytes
from phases.recordings.clips import Clip, Skip
from phases.recordings.metres import as_joints
from phases.recordings.ntu import Malformed
from phases.recordings.settings import Data

NW_UCLA_NAME = re.compile(r"a(\d{1,9})_s(\d{1,9})_e(\d{1,9})_v(\d{1,9})")
PACKERS = {b"\xfd7zXZ\0": lzma.open, b"\x1f\x8b": gzip.open, b"BZh": bz2.open}  # by the first bytes of a file


def read_nw_ucla(raw: Path, data: Data) -> Iterator[Clip | Skip]:
    """The all_sqe JSON files of Northwestern-UCLA, from a folder or straight from a tar archive."""
    # name and path, or name and bytes
    if raw.is_dir():
        files = [(path.name, path) for path in raw.rglob("*.json") if path.name != "skeleton.json"]
    else:
        files, skips = unpacked(raw)
        yield from skips

    # in the order of their names, which an archive may not have
    for name, source in sorted(files, key=lambda file: file[0]):
        try:
            text = source if isinstance(source, bytes) else read_bytes(source)
            yield parse_nw_ucla(text, name.removesuffix(".json"))
        except Malformed as e:
            yield Skip(name, e.line, e.reason)
        except (ValueError, TypeError, OverflowError, RecursionError, OSError) as e:
            yield Skip(name, 0, one_line(e))


def parse_nw_ucla(text: bytes, name: str) -> Clip:
    """The clip of one JSON file {file_name, skeletons (L, 20, 3), label 1 to 10}; ValueError says what is wrong."""
    # the name says who, where and how often
    hit = NW_UCLA_NAME.fullmatch(name)
    if not hit:
        raise ValueError("name is not of the form aAA_sSS_eEE_vVV")
    _, subject, replication, camera = map(int, hit.groups())

    # the text holds the class and the joints
    try:
        d = json.loads(text)
    except json.JSONDecodeError as e:
        raise Malformed(e.lineno, f"is not JSON: {e.msg}") from None
    if not isinstance(d, dict) or not {"skeletons", "label"} <= d.keys():
        raise ValueError("lacks the keys skeletons and label")

    label = int(d["label"]) - 1
    joints = as_joints(d["skeletons"])
    return Clip(name, label, joints, subject=subject, camera=camera, replication=replication)


# ---------------------------------------------------------------------------------------------------------------------
# The archive
# ---------------------------------------------------------------------------------------------------------------------

class Unpacked:
    """The bytes of a file, unpacked if it is packed; ValueError for more than ARCHIVE of them. Tar reads it."""

    def __init__(self, path: Path):
        with open(path, "rb") as f:
            start = f.read(6)
        opener = next((packer for magic, packer in PACKERS.items() if start.startswith(magic)), open)
        self.file = opener(path, "rb")
        self.left = ARCHIVE

    def read(self, n: int) -> bytes:
        data = self.file.read(min(n, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"unpacks to more than {ARCHIVE >> 20} MB")
        return data


def unpacked(raw: Path) -> tuple[list[tuple[str, bytes]], list[Skip]]:
    """(name, bytes) of the JSON files in a tar archive, and what of it cannot be read. Nothing is written to the disk.
    """
    check_file(raw)
    files: list[tuple[str, bytes]] = []
    skips: list[Skip] = []
    stream = Unpacked(raw)

    # one member after another: the stream is never read twice
    try:
        with stream.file, tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                name = Path(member.name).name
                if not name.endswith(".json") or member.isdir():
                    continue
                refused = why_refused(member)
                if refused:
                    skips.append(Skip(name, 0, refused))
                else:
                    files.append((name, tar.extractfile(member).read()))

    # a damaged archive gives the files before the damage
    except Exception as e:  # tarfile and the decompressors raise types of their own
        if not files and isinstance(e, tarfile.ReadError):
            raise ValueError(f"raw = {raw}: must be a folder of JSON files, or a tar archive of one "
                             f"({one_line(e)})") from None
        skips.append(Skip(raw.name, 0, f"is damaged ({one_line(e)}): only its first {len(files)} files can be read"))
    return files, skips


def why_refused(member: tarfile.TarInfo) -> str:
    """Why a member of an archive is not read; empty if it is."""
    if not member.isfile():
        return "is a link or a device, no file"
    return f"has more than {TEXT >> 20} MB" if member.size > TEXT else ""
