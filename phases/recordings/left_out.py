"""Files among recordings that no reader takes: counted and named in one line. numpy only."""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from phases.common.wording import counted

EXPECTED = ("skeleton.json", "labels.csv", "Thumbs.db", "desktop.ini")
BESIDE = (".asf", ".onnx")  # of .amc files; a network
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


def others_beside_clips(raw: Path, reader: str) -> str:
    """What to tell of the files in a folder of recordings that the readers `arrays` and `ntu` do not take; empty if
    there are none. Data sets that say themselves what is a clip have other files, too."""
    from phases.recordings.arrays import class_paths, clip_file, clip_folders
    from phases.recordings.labels import labelled_rows
    from phases.recordings.laid_out import laid_out
    from phases.recordings.ntu import ntu_paths
    from phases.recordings.poses import pose_files
    if not raw.is_dir() or reader not in ("arrays", "ntu") or reader == "arrays" and laid_out(raw):
        return ""
    if reader == "ntu":
        taken = ntu_paths(raw)
    else:
        folders = [folder for _, folder, _ in class_paths(raw)] or [raw / name for name in clip_folders(raw)]
        taken = [path for folder in (raw, *folders) for path in pose_files(folder)]

    # a table may list clips anywhere
    table = raw / "labels.csv"
    if reader == "arrays" and table.is_file():
        taken += [clip_file(raw, str(row["name"])) for row in labelled_rows(table) if row["name"]]
    others = left_out(raw, taken)
    return left_out_words(raw, others) if others else ""
