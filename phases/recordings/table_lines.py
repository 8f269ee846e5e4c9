"""Lines of a table, one after the other -> frames, as soon as they are whole. numpy only.

A line is a frame, under a header or without one; or a joint of a frame: then the next frame's first line completes it.
A column of times gives the frames their time stamps (table_times.py).
"""
from __future__ import annotations

import numpy as np

from phases.recordings.csv_clips import clip_of_frame_rows, joint_columns, named_columns, plain_columns, with_names
from phases.recordings.described import BodyFrame, Described, skeleton_of_names
from phases.recordings.table_times import Times, times_of_header
from phases.recordings.tables import cells_of, is_missing, is_number
from phases.recordings.tidy_tables import clip_of_joint_rows, joint_word, joints_of_rows, tidy_columns
from skeletons import SKELETONS

LEAST = 4       # cells on a line of a table
UNDECIDED = 5   # rows without a header that show whether their first column counts frames
GAP = 1000      # frames without a body between two that are numbered


class Gaps:
    """Numbers of frames, of which those without a body are left out, unless they are times or names."""

    def __init__(self):
        self.last: int | None = None
        self.counts: bool | None = None     # whether they count frames, as the first step shows

    def before(self, word: object) -> int:
        """How many frames without a body are between the frame before and this one."""
        text = str(word).strip()
        number = int(text) if text.isdecimal() and len(text) < 10 else None
        step = 0 if number is None or self.last is None else number - self.last
        if self.counts is None and self.last is not None:
            self.counts = step == 1
        self.last = number
        return step - 1 if self.counts and 1 < step <= GAP else 0


class TableLines:
    """The lines of a table. joints: a network's; a table that names them is put into their order."""

    def __init__(self, first: str, joints: list[str]):
        """first: its first line, a header or numbers; ValueError if it is none."""
        self.first = first
        self.joints = joints
        self.found = Described()
        self.columns: list[list[int]] = []      # of each joint, where a line is a frame
        self.rows: list[list[str]] = []         # of a frame that is not whole; or that await `columns`
        self.gaps = Gaps()

        # names of columns, or numbers
        row = self._cells(first)
        if len(row) < LEAST:
            raise ValueError("is no line of a table")
        self.width = len(row)
        is_frame = any(map(is_number, row))
        self.header = [] if is_frame else row
        self.tidy = tidy_columns(self.header)
        self.times: Times | None = times_of_header(self.header)
        if self.header and not self.tidy:
            self._take_names(list(named_columns(self.header)))
            self.columns = joint_columns(self.header, self.joints)
        numbered = [str(k) for k in range(len(row))]
        self.is_header = not is_frame or [cell.strip() for cell in row] in (numbered, ["", *numbered[:-1]])

    def _cells(self, line: str) -> list[str]:
        """The cells of a line, separated as those of the first line are."""
        rows = cells_of([self.first, line])
        return rows[-1] if rows else []

    def _take_names(self, named: list[str]) -> None:
        """Whose joints a table names, as its file would show it."""
        skeleton = skeleton_of_names(set(with_names(named)), self.joints)
        if skeleton:
            self.found = Described(skeleton)
            self.joints = list(SKELETONS[skeleton].joints)

    def add(self, line: str) -> list[BodyFrame]:
        """The frames that a line completes; ValueError for a line that does not fit the table."""
        row = self._cells(line)
        if len(row) != self.width:
            raise ValueError(f"has {len(row)} cells, the lines before it have {self.width}")
        if self.tidy:
            return self._joint(row)
        if not self.header and not all(is_number(cell) or is_missing(cell) for cell in row):
            raise ValueError("has a cell that is not a number")

        # a first column of numbers may count frames
        self.rows.append(row)
        if not self.columns and sum(not all(map(is_missing, row)) for row in self.rows) < UNDECIDED:
            return []

        # two rows show the unit of times
        if self.times:
            self.times.settle(self.rows)
            if self.times.unit is None and len(self.rows) < UNDECIDED:
                return []
            self.times.unit = self.times.unit or 0
        return self.end()

    def end(self) -> list[BodyFrame]:
        """What is left when the input has ended."""
        rows = self.rows
        self.rows = []
        if not any(not is_missing(cell) for row in rows for cell in row):
            return [BodyFrame(np.zeros((0, len(self.joints), 3), np.float32)) for _ in rows]
        if self.tidy:
            return self._frame(rows)

        # a row per frame: one body
        if not self.columns:
            self.columns = plain_columns(rows)
            if self.columns[0][0]:
                self.times = Times(0)
                self.times.settle(rows)
        try:
            clip = clip_of_frame_rows(self.header, rows, self.columns)  # l v c
        except ValueError as e:
            raise ValueError(str(e).removeprefix("frame 0: ")) from None
        stamps = [self.times.of(row) if self.times else None for row in rows]
        return [BodyFrame(frame[None], found=self.found, stamp=stamp)
                for frame, stamp in zip(clip, stamps, strict=True)]

    # --- a row per joint ---------------------------------------------------------------------------------------------

    def _joint(self, row: list[str]) -> list[BodyFrame]:
        """The frame before, if this row begins another one."""
        at = self.tidy["frame"]
        is_next = bool(self.rows) and row[at].strip() != self.rows[0][at].strip()
        if self.times and is_next:
            self.times.settle([self.rows[0], row])
        frames = self.end() if is_next else []
        self.rows.append(row)
        return frames

    def _frame(self, rows: list[list[str]]) -> list[BodyFrame]:
        """The frame of its rows, after those without a body."""
        rows = [row for row in rows if joint_word(row, self.tidy)]
        if not rows:
            return []
        named = joints_of_rows(rows, self.tidy)
        if not self.found.skeleton:
            self._take_names(named)

        # joints that this frame lacks keep their places
        ids: list = []
        clip = clip_of_joint_rows(rows, self.tidy, self.joints, ids)  # m 1 v c
        empty = BodyFrame(np.zeros((0, clip.shape[2], 3), np.float32))
        stamp = self.times.of(rows[0]) if self.times else None
        gap = self.gaps.before(rows[0][self.tidy["frame"]]) if stamp is None else 0
        return [empty] * gap + [BodyFrame(clip[:, 0], tuple(ids) if ids else None, found=self.found, stamp=stamp)]
