"""Files among recordings that no reader takes: counted and named in one line. No numpy."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from phases.common.wording import counted

EXPECTED = ("skeleton.json", "labels.csv", "Thumbs.db", "desktop.ini")
BESIDE = (".asf",)          # of .amc files
NAMED = 4                   # files that the line names


def left_out(folder: Path, taken: Iterable[Path]) -> list[Path]:
    """The files below a folder that are not `taken`, nor in a folder that is; hidden and expected ones do not count."""
    read = set(taken)
    if folder in read:
        return []
    found = []
    for path in sorted(folder.iterdir()):
        is_hidden = path.name[0] == "." or path.name in ("__MACOSX", *EXPECTED)
        if is_hidden or path in read:
            continue
        if path.is_dir():
            found += left_out(path, read)
        elif path.suffix.lower() not in BESIDE:
            found.append(path)
    return found


def left_out_words(folder: Path, files: list[Path]) -> str:
    """What to tell of files that are left out."""
    named = [str(path.relative_to(folder)) for path in files[:NAMED]]
    more = ", ..." if len(files) > NAMED else ""
    are = "is no clip" if len(files) == 1 else "are no clips"
    return f"{counted(len(files), 'file')} {are}: {', '.join(named)}{more}"
