"""NTU RGB+D: the fields of a file's name, and .skeleton text -> joints of one or two actors. numpy only.

    parse_ntu        text -> tracks, the frames and joints of each body that the camera numbered
    clean_bodies     tracks -> actors, cleaned as the field does (ntu_actors.py)
    read_ntu_file    both, for one file

Other data sets use the same text: UAV-Human (Li et al., CVPR 2021) writes 17 joints into .txt files with names of its
own. A text with another number of joints than 25 may have any number of fields on a line, the same on all lines.
A joint with a coordinate of NaN, in any spelling, is missing; a body without another joint is not there in this frame.
"""
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from phases.common.limits import FARTHEST, JOINTS, read_bytes
from phases.recordings.clips import Clip, Skip
from phases.recordings.ntu_actors import Track, clean_bodies
from phases.recordings.tables import number_of

NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
UAV_NAME = re.compile(r"P(\d{3})S\d{2}G\d{2}B\d{2}H\d{2}UC\d{6}LC\d{6}A(\d{3})R(\d)_\d+")
MOST_BODIES = 20        # per frame; a Kinect tracks six
BODY_FIELDS = 10        # of a body's line
JOINT_FIELDS = 12       # of a joint's line: x y z; depth x y, colour x y, orientation w x y z and state are not read
START = 100_000         # bytes of a text that show how it is laid out
BODY_LINES = 27         # a body's line, its number of joints, 25 joints
Bodies = tuple[int, list[bytes], list[int], np.ndarray]     # frames of the file; id, frame, joints of each body


class Malformed(ValueError):
    """Text that does not follow the format, with its line, counted from 1."""

    def __init__(self, line: int, reason: str):
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def ntu_fields(name: str) -> dict[str, int]:
    """setup, camera, subject, replication, and label from 0, of a name SsssCcccPpppRrrrAaaa; or as UAV-Human names it.
    """
    # UAV-Human counts people and actions from 0
    hit = UAV_NAME.fullmatch(name)
    if hit:
        p, a, r = map(int, hit.groups())
        return {"subject": p, "replication": r, "label": a}

    hit = NTU_NAME.fullmatch(name)
    if not hit:
        raise ValueError("name is not of the form SsssCcccPpppRrrrAaaa")
    s, c, p, r, a = map(int, hit.groups())
    return {"setup": s, "camera": c, "subject": p, "replication": r, "label": a - 1}


def name_of(path: Path) -> str:
    return path.name.split(".")[0]


def number_actions(paths: Iterable[Path], num_classes: int) -> tuple[dict[int, int], list[str]]:
    """{label in the name of a file: its class}, and the actions as the names say them, A001, A002, ...

    Actions without a file are left out if num_classes counts the others, or is 0: else each label is a class.
    """
    words = {}
    for name in map(name_of, paths):
        if is_ntu_name(name):
            words[ntu_fields(name)["label"]] = re.search(r"A\d{3}", name)[0]

    used = sorted(words)
    index = {label: label for label in used}
    if num_classes in (0, len(used)):
        index = {label: k for k, label in enumerate(used)}
    return index, [words[label] for label in used]


def ntu_paths(raw: Path) -> list[Path]:
    """The files of NTU's text at any depth of a folder, sorted by name: .skeleton, and .txt with UAV-Human's names."""
    found = list(raw.rglob("*.skeleton"))
    found += [path for path in raw.rglob("*.txt") if UAV_NAME.fullmatch(path.stem)]
    return sorted(found, key=lambda path: path.name)


def skeleton_of_text(path: Path) -> str | None:
    """The skeleton of a file of NTU's text: 25 joints are a Kinect v2's, UAV-Human's 17 are COCO's; else None."""
    with open(path, "rb") as f:
        joints = layout_of(f.read(START)).joints
    if UAV_NAME.fullmatch(path.stem) and joints == 17:
        return "coco17"
    return "ntu25" if joints == 25 else None


def is_ntu_name(name: str) -> bool:
    return bool(NTU_NAME.fullmatch(name) or UAV_NAME.fullmatch(name))


def read_ntu_file(path: Path) -> Clip | Skip:
    """The clip of one .skeleton file, or the reason why it gives none."""
    name = name_of(path)
    try:
        _, tracks = parse_ntu(read_bytes(path))
        return Clip(name, joints=clean_bodies(tracks), **ntu_fields(name))
    except Malformed as e:
        return Skip(path.name, e.line, e.reason)
    except (ValueError, OSError) as e:
        return Skip(path.name, 0, str(e))


# ---------------------------------------------------------------------------------------------------------------------
# Text -> tracks
# ---------------------------------------------------------------------------------------------------------------------

def parse_ntu(data: bytes) -> tuple[int, dict[str, Track]]:
    """(number of frames, {body id: track}) of a .skeleton file, in metres; a missing joint is NaN.

    The fast path converts all numbers of a file at once and gives up on any deviation from the camera's layout. Then
    the careful path reads the file line by line, and raises Malformed at the line that does not follow the format.
    """
    try:
        plain = parse_plain(data)
    except (ValueError, IndexError):
        plain = None
    frames, ids, times, joints = plain or parse_careful(data)

    # the rows of each body, in the order in which the bodies appear
    owner = np.array(ids)
    times = np.array(times, np.int64)
    joints = joints.astype(np.float32)
    seen = ~np.isnan(joints).all((1, 2))
    tracks = {}
    for body in dict.fromkeys(ids):
        own = (owner == body) & seen
        if own.any():
            tracks[body.decode(errors="replace")] = times[own], joints[own]
    return frames, tracks


# --- the fast path ---

def parse_plain(data: bytes) -> Bodies | None:
    """Frames of the file; ids, frame numbers and joints (N, 25, 3) float64 of the N bodies seen.

    None, ValueError or IndexError if the text deviates from the camera's layout.
    """
    # not a recording: its lines would take gigabytes as a list
    if data.count(b"\n") > len(data) // 4:
        return None

    # where each field ends, and each line
    text = np.frombuffer(data, np.uint8)
    blank = text <= ord(" ")
    gap = np.flatnonzero(blank)
    newline = np.flatnonzero(text[gap] == ord("\n"))
    end = gap[newline].tolist()

    # one blank between two fields, and no 1_000, which only Python reads as a number
    crlf = int(text[end[0] - 1] == ord("\r"))
    empty_fields = np.count_nonzero(blank[1:] & blank[:-1]) - crlf * len(newline)
    if empty_fields or b"_" in data:
        return None

    # the bodies of each frame
    frames = int(data[:end[0]])
    found = _walk(data, end, frames)
    if found is None:
        return None
    ids, times, firsts, lines = found

    # every line has its number of fields
    first = np.array(firsts, np.int64)
    rows = (first[:, None] + np.arange(25)).ravel()
    fields = np.diff(newline) - crlf  # per line, from the second on
    if frames < 0 or len(newline) != lines + 1:
        return None
    if (fields[rows] != JOINT_FIELDS).any() or (fields[first - 2] != BODY_FIELDS).any():
        return None
    if len(ids) > len(set(zip(ids, times, strict=True))):  # a body twice in a frame
        return None

    # x, y and z of each joint's line
    token = gap[newline[rows][:, None] + np.arange(4)]
    joints = _numbers(data, (token[:, :3] + 1).ravel(), token[:, 1:].ravel()).reshape(-1, 25, 3)
    return (frames, ids, times, joints) if (np.abs(joints) <= FARTHEST).all() else None


def _walk(data: bytes, end: list[int], frames: int) -> tuple[list[bytes], list[int], list[int], int] | None:
    """Ids, frame numbers and first joint lines of the bodies, and the number of lines after the first.

    end: where each line ends. None if a count is none of the camera's.
    """
    ids, times, firsts = [], [], []
    at = 0
    for t in range(frames):
        bodies = int(data[end[at]:end[at + 1]])
        if not 0 <= bodies <= MOST_BODIES:
            return None
        at += 1

        for _ in range(bodies):
            ids.append(data[end[at] + 1:end[at + 1]].split(None, 1)[0])
            if int(data[end[at + 1]:end[at + 2]]) != 25:
                return None
            times.append(t)
            firsts.append(at + 2)
            at += BODY_LINES
    return ids, times, firsts, at


def _numbers(data: bytes, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Values (N,) float64 of the numbers data[start:stop], as float() reads them; ValueError for a word."""
    values, odd = _decimals(data, start, stop)
    odd = np.flatnonzero(odd)
    spans = zip(start[odd].tolist(), stop[odd].tolist(), strict=True)
    values[odd] = [float(data[i:j]) for i, j in spans]
    return values


def _decimals(data: bytes, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (N,) of the numbers data[start:stop], as float() reads them, and a mask (N,) of those left to float().

    Nearly every number is plain: optional minus, one digit, a dot, one to eight digits. The last eight bytes of a
    number are loaded as one integer; three multiplications add up its digits, then pairs, then fours (D. Lemire's
    trick). Integer and power of ten are exact in float64, so the single division rounds as float() does.
    """
    text = np.frombuffer(data, np.uint8)
    u64 = np.uint64

    # which numbers are plain
    minus = text[start] == ord("-")
    first = start + minus
    places = stop - first - 2
    plain = (text[first + 1] == ord(".")) & (places >= 1) & (places <= 8)
    places[~plain] = 8

    # the last eight bytes as digits, with zeros in place of those before the dot; the earliest byte is the lowest
    last8 = np.ndarray(len(data) - 7, "<u8", data, 0, (1,))[stop - 8]
    shift = (64 - 8 * places).astype(u64)
    d = (last8 ^ u64(0x3030303030303030)) >> shift << shift
    whole = text[first] - np.uint8(ord("0"))
    plain &= ((d | (d + u64(0x0606060606060606))) & u64(0xF0F0F0F0F0F0F0F0) == 0) & (whole < 10)

    # digits -> pairs -> fours -> eight
    d = d * u64(10) + (d >> u64(8))
    mask = u64(0x000000FF000000FF)
    even = (d & mask) * u64(100 + (1000000 << 32))
    uneven = ((d >> u64(16)) & mask) * u64(1 + (10000 << 32))
    d = (even + uneven) >> u64(32)

    scale = (10.0 ** np.arange(9))[places]
    value = (whole * scale + d) / scale
    return np.where(minus, -value, value), ~plain


# --- the careful path ---

class Layout(NamedTuple):
    """Numbers of joints, and of fields on the lines of a body and of a joint."""
    joints: int = 25
    body_fields: int = BODY_FIELDS
    joint_fields: int = JOINT_FIELDS


def layout_of(data: bytes) -> Layout:
    """The layout that the first body of a text shows; the camera's if it has 25 joints, or shows none that can be."""
    # behind the number of frames and the frames without a body
    lines = data[:START].split(b"\n")
    first = next((at for at, line in enumerate(lines[1:], 1) if line.strip() != b"0"), len(lines))
    body = [line.split() for line in lines[first + 1:first + 4]]
    if len(body) < 3 or len(body[1]) != 1 or not body[1][0].isdigit():
        return Layout()

    # a Kinect v2's text is malformed if it says another number than it has lines
    joints = int(body[1][0][:10])
    rows = [len(line.split()) for line in lines[first + 3:]]
    run = next((at for at, fields in enumerate(rows) if fields != rows[0]), len(rows))
    if joints == 25 or run == 25 or not 2 <= joints <= JOINTS or not body[0]:
        return Layout()
    fields, _ = Counter(rows[:joints]).most_common(1)[0]
    return Layout(joints, len(body[0]), fields) if fields >= 3 else Layout()


class _Lines:
    """The lines of a file, read one after the other; Malformed for one that does not follow the format."""

    def __init__(self, data: bytes):
        self.lines = data.split(b"\n")
        self.end = len(self.lines) - (not self.lines[-1].strip())  # the last line may have no line end
        self.at = 0  # lines read

    def take(self) -> bytes:
        if self.at >= self.end:
            reason = "the file ends here, in the middle of a frame" if self.end else "the file is empty"
            raise Malformed(max(self.end, 1), reason)
        self.at += 1
        return self.lines[self.at - 1]

    def count(self, of: str, most: int) -> int:
        """A line that is a whole number, 0 to `most`."""
        line = self.take()
        if not line.strip().isdigit() or len(line) > 40 or int(line) > most:
            shown = line[:40].decode(errors="replace").strip()
            raise Malformed(self.at, f"{shown!r} is not a number of {of}, 0 to {most}")
        return int(line)

    def body(self, layout: Layout) -> bytes:
        """The id of a body."""
        fields = self.take().split()
        if len(fields) != layout.body_fields:
            raise Malformed(self.at, f"a body has {layout.body_fields} fields, this line has {len(fields)}")
        return fields[0]

    def coordinates(self, layout: Layout) -> list[float]:
        """x, y and z of a joint; all are NaN if one of them is."""
        fields = self.take().split()
        if len(fields) != layout.joint_fields:
            raise Malformed(self.at, f"a joint has {layout.joint_fields} numbers, this line has {len(fields)}")
        try:
            xyz = [number_of(x.decode(errors="replace")) for x in fields[:3]]
        except ValueError:
            xyz = [np.inf]

        # only Python reads 1_000 as a number
        far = any(abs(x) > FARTHEST for x in xyz)
        if far or any(b"_" in x for x in fields[:3]):
            shown = b" ".join(fields[:3]).decode(errors="replace")
            raise Malformed(self.at, f"{shown!r} are not three finite coordinates; NaN would be a missing joint")
        return [np.nan] * 3 if np.isnan(xyz).any() else xyz


def parse_careful(data: bytes) -> Bodies:
    """What parse_plain returns, read line by line; Malformed if a line does not follow the format."""
    lines = _Lines(data)
    layout = layout_of(data)
    ids, times, joints = [], [], []
    frames = lines.count("frames", 1_000_000)
    for t in range(frames):
        for _ in range(lines.count("bodies", MOST_BODIES)):
            # once per frame
            body = lines.body(layout)
            if (body, t) in zip(ids[-MOST_BODIES:], times[-MOST_BODIES:], strict=True):
                raise Malformed(lines.at, f"body {body.decode(errors='replace')} appears twice in frame {t}")

            # all of as many joints
            num_joints = lines.count("joints", JOINTS)
            if num_joints != layout.joints:
                raise Malformed(lines.at, f"a body has {layout.joints} joints, this one has {num_joints}")
            ids.append(body)
            times.append(t)
            for _ in range(layout.joints):
                joints += lines.coordinates(layout)

    if any(line.strip() for line in lines.lines[lines.at:]):
        raise Malformed(lines.at + 1, f"text after the last of {frames} frames")
    return frames, ids, times, np.array(joints).reshape(-1, layout.joints, 3)
