"""The clips that `just predict clip=` means, one after the other, and the answer to each. Needs numpy, no torch."""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from phases.recordings.archives import as_given, named_as_given, unpacked
from phases.recordings.described import Recording
from phases.recordings.left_out import left_out, left_out_words
from phases.recordings.poses import is_clip, is_frames
from phases.recordings.readers import READABLE
from phases.recordings.sets import PICKLES, clips_of_set, describes_clips, is_set
from phases.recordings.videos import check_videos
from phases.shipping.answers import Who
from phases.shipping.exported import ExportedModel
from phases.shipping.notes import Notes

T = TypeVar("T")


def recordings(clip: Path) -> dict[str, Path]:
    """{name: file}: every readable file below a folder, named by its path in it; or the one file."""
    if not clip.exists():
        raise ValueError(f"clip = {clip}: no such file or folder")
    if clip.is_file():
        check_videos(clip)
    if not clip.is_dir() or is_set(clip) or is_frames(clip):
        return {as_given(clip): clip}

    # a folder of frames is one clip, and a clip store is one set; their files are none
    below = list(clip.rglob("*"))
    folders = [p for p in below if p.is_dir() and (is_set(p) or is_frames(p))]
    files = [p for p in below if is_clip_name(p) and p.parent not in folders]
    if not folders and not files:
        check_videos(clip)
        raise ValueError(f"clip = {clip}: holds no {', '.join((*READABLE, *PICKLES))} file")

    others = [path for path in left_out(clip, [*folders, *files]) if not describes_clips(path)]
    if others:
        print(as_given(f"{clip}: {left_out_words(clip, others)}"), file=sys.stderr)
    return {str(p.relative_to(clip)): p for p in sorted([*folders, *files])}


def is_clip_name(path: Path) -> bool:
    """Whether a file in a folder of clips is one, or a set of them, by its name; a .txt file by its first line."""
    if not path.is_file() or path.name[0] == "." or describes_clips(path):
        return False
    return path.suffix.lower() in PICKLES or is_clip(path)


def opened(model: ExportedModel, clip: Path) -> Iterator[tuple[str, Callable[[], Recording]]]:
    """(name, what reads it) of every clip in a file or folder."""
    for name, path in recordings(clip).items():
        if not is_set(path):
            yield name, partial(model.recording, path)
            continue

        # a set in a folder has the set's name before those of its clips
        before = f"{name}:" if path != clip else ""
        try:
            for inner, read in clips_of_set(path):
                yield before + inner, read
        except (ValueError, OSError) as e:
            yield name, partial(fail, e)


def fail(e: Exception) -> Recording:
    raise e


@named_as_given()
def answers_to(model: ExportedModel, clip: Path, answer: Callable[[Path, np.ndarray], T],
               each: bool = False) -> tuple[list[tuple[Who, T]], int]:
    """The answer to the main people of each clip, or to each person in it; and how many clips were skipped.

    answer: of what messages call a clip, and joints (M, L, V, 3). A single clip that cannot be used is an error, one of
    many is left out. Notes that are true of many clips are printed once.
    """
    clip = unpacked(clip)
    is_one = not clip.is_dir() and not is_set(clip) or clip.is_dir() and is_frames(clip)
    model.notes = Notes(together=not is_one)
    found = []
    skipped = 0
    for name, read in opened(model, clip):
        try:
            recording = read()
            people = model.each_person(recording) if each else [("", model.main_people(recording)[0])]
            found += [(Who(name, person), answer(recording.where, joints)) for person, joints in people]
        except (ValueError, OSError) as e:
            if is_one:
                raise
            skipped += 1
            print("skipped:", " ".join(as_given(e).split()), file=sys.stderr)

    model.notes.tell()
    if not found:
        raise ValueError(f"clip = {clip}: none of its {skipped} files could be used")
    return found, skipped
