"""Files that appear whole or not at all: atomic writing and replacing, locks; JSON files and logs."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from phases.common import limits

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

ROOT = Path(__file__).resolve().parents[2]  # of the project
NETWORKS = ROOT / "results" / "networks"    # that come along: NAME.onnx to use, NAME.pt to start a training from


def flush(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk: a power cut may undo a renaming otherwise."""
    if fcntl is None and path.is_dir():  # Windows opens no folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows flushes what is open for writing
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def alive(pid: int) -> bool:
    """Whether a process runs, as far as this system tells."""
    if fcntl is None:  # on Windows os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of `atomic` for `path` whose processes were killed."""
    for torn in path.parent.glob(f".{path.name}.*"):
        pid = torn.suffix[1:]
        if pid.isdecimal() and not alive(int(pid)):
            torn.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block succeeds, and is deleted when it raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)

    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield part
        flush(part)
        os.replace(part, path)
        flush(path.parent)
    except OSError as e:  # the error of a full disk names no file
        raise OSError(f"{path} could not be written ({e.strerror or e}); what was there before is kept") from None
    finally:
        part.unlink(missing_ok=True)


def check_writable(path: Path, give: str = "another place") -> None:
    """ValueError if this process may not write the file or folder `path`. give: what the user can give instead."""
    place = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as e:
        raise ValueError(f"{path}: cannot be written, {place} takes no new file ({e.strerror}): give {give}, or change "
                         "its permissions") from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside the block no other process may work in this folder: ValueError for the second one.

    The operating system frees the lock of a process that was killed.
    """
    if not folder.is_dir():
        check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder}: another process works there; wait for it, or choose another folder or seed"
                             ) from None
        yield
    finally:
        os.close(handle)


def replace_folder(new: Path, old: Path, aside: Path) -> None:
    """Move a complete folder into another's place. The old one moves aside first: half a folder is never in place."""
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        os.replace(old, aside)

    try:
        os.replace(new, old)
    except OSError:
        if aside.exists():
            os.replace(aside, old)
        raise

    flush(old.parent)
    (aside / "meta.json").unlink(missing_ok=True)  # a half-deleted folder must not pass for a store
    shutil.rmtree(aside, ignore_errors=True)


def write_json(path: Path, value: dict) -> None:
    with atomic(path) as part:
        part.write_text(json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict:
    """The table of a JSON file; ValueError if it is damaged or holds anything else."""
    value = limits.read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: lacks a table")
    return value


def read_log(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl; one that a power cut left unfinished is skipped."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def check_zip(path: Path) -> None:
    """ValueError if a zip archive without compression, such as a checkpoint of torch, is not as it was written."""
    with zipfile.ZipFile(path) as z:
        if sum(member.file_size for member in z.infolist()) > path.stat().st_size:
            raise ValueError("it claims more bytes than it has")
        bad = z.testzip()
    if bad:
        raise ValueError(f"{bad} was changed")


def damaged(path: Path, why: object) -> ValueError:
    why = " ".join(str(why).split())[:120] or type(why).__name__
    return ValueError(f"{path} is damaged or no checkpoint of this program ({why}): move it away to start afresh")
