"""NTU RGB+D: the fields of a file's name, and .skeleton text -> joints of one or two actors. numpy only."""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from phases.common.limits import FARTHEST, read_bytes
from phases.recordings.clips import Clip, Skip


class Malformed(ValueError):
    """Text that does not follow the format, with its line, counted from 1."""

    def __init__(self, line: int, reason: str):
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason = line, reason


NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
MOST_BODIES = 20  # per frame; a Kinect tracks six
Tracks = dict[str, tuple[np.ndarray, np.ndarray]]  # body id -> frame numbers (F,), joints (F, 25, 3)


def ntu_fields(name: str) -> dict[str, int]:
    """setup, camera, subject, replication, and label from 0, of a name SsssCcccPpppRrrrAaaa."""
    hit = NTU_NAME.fullmatch(name)
    if not hit:
        raise ValueError("name is not of the form SsssCcccPpppRrrrAaaa")
    s, c, p, r, a = map(int, hit.groups())
    return {"setup": s, "camera": c, "subject": p, "replication": r, "label": a - 1}


# ---------------------------------------------------------------------------------------------------------------------
# Text -> tracks
# ---------------------------------------------------------------------------------------------------------------------

def parse_ntu(data: bytes) -> tuple[int, Tracks]:
    """Number of frames of a .skeleton file, and its tracks: of each body the frames (F,), joints (F, 25, 3) in metres.

    A joint line has 12 numbers: x y z become floats, the others are counted. The fast path converts all numbers of a
    file at once and gives up on any deviation from the camera's layout. Then the careful path reads the file line by
    line, and raises Malformed at the line that does not follow the format.
    """
    try:
        plain = _parse_plain(data)
    except (ValueError, IndexError):
        plain = None
    frames, ids, times, joints = plain or _parse_careful(data)
    owner, times = np.array(ids), np.array(times, np.int64)
    joints = joints.astype(np.float32)
    tracks = {}
    for body in dict.fromkeys(ids):
        own = owner == body
        tracks[body.decode(errors="replace")] = times[own], joints[own]
    return frames, tracks


def _parse_plain(data: bytes) -> tuple | None:
    """Fast path: number of frames, ids and times of the N bodies seen, joints (N, 25, 3) float64.

    None, ValueError or IndexError if the text deviates from the camera's layout.
    """
    if data.count(b"\n") > len(data) // 4:  # not a recording: its lines would take gigabytes as a list
        return None
    text = np.frombuffer(data, np.uint8)
    blank = text <= ord(" ")
    gap = np.flatnonzero(blank)  # end of each field
    newline = np.flatnonzero(text[gap] == ord("\n"))
    end = gap[newline].tolist()  # end of each line
    crlf = int(text[end[0] - 1] == ord("\r"))
    empty_fields = np.count_nonzero(blank[1:] & blank[:-1]) - crlf * len(newline)
    if empty_fields or b"_" in data:  # Python reads 1_000 as a number
        return None
    fields = np.diff(newline) - crlf  # per line, from the second on
    frames, at, ids, times, firsts = int(data[:end[0]]), 0, [], [], []
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
            at += 27
    first = np.array(firsts, np.int64)
    rows = (first[:, None] + np.arange(25)).ravel()
    if frames < 0 or len(newline) != at + 1 or (fields[rows] != 12).any() or (fields[first - 2] != 10).any():
        return None
    if len(ids) > len(set(zip(ids, times, strict=True))):  # a body twice in a frame
        return None
    token = gap[newline[rows][:, None] + np.arange(4)]
    start, stop = (token[:, :3] + 1).ravel(), token[:, 1:].ravel()
    joints, odd = _decimals(data, start, stop)
    odd = np.flatnonzero(odd)
    spans = zip(start[odd].tolist(), stop[odd].tolist(), strict=True)
    joints[odd] = [float(data[i:j]) for i, j in spans]
    return (frames, ids, times, joints.reshape(-1, 25, 3)) if (np.abs(joints) <= FARTHEST).all() else None


def _decimals(data: bytes, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (N,) of the numbers data[start:stop], as float() reads them, and a mask (N,) of those left to float().

    Fast path for nearly every number: optional minus, one digit, a dot, one to eight digits. The last eight bytes of
    a number are loaded as one integer; three multiplications add up its digits, then pairs, then fours (D. Lemire's
    trick). Integer and power of ten are exact in float64, so the single division rounds as float() does.
    """
    text, u64 = np.frombuffer(data, np.uint8), np.uint64
    minus = text[start] == ord("-")
    first = start + minus
    places = stop - first - 2
    plain = (text[first + 1] == ord(".")) & (places >= 1) & (places <= 8)
    places[~plain] = 8
    last8 = np.ndarray(len(data) - 7, "<u8", data, 0, (1,))[stop - 8]  # the earliest byte is the lowest
    shift = (64 - 8 * places).astype(u64)
    d = (last8 ^ u64(0x3030303030303030)) >> shift << shift  # digits as numbers, zeros before them
    whole = text[first] - np.uint8(ord("0"))
    plain &= ((d | (d + u64(0x0606060606060606))) & u64(0xF0F0F0F0F0F0F0F0) == 0) & (whole < 10)
    d = d * u64(10) + (d >> u64(8))
    even, uneven, mask = d, d >> u64(16), u64(0x000000FF000000FF)
    d = ((even & mask) * u64(100 + (1000000 << 32)) + (uneven & mask) * u64(1 + (10000 << 32))) >> u64(32)
    scale = (10.0 ** np.arange(9))[places]
    value = (whole * scale + d) / scale
    return np.where(minus, -value, value), ~plain


def _parse_careful(data: bytes) -> tuple:
    """Careful path: what _parse_plain returns, read line by line; Malformed if a line does not follow the format."""
    lines = data.split(b"\n")
    end = len(lines) - (not lines[-1].strip())
    at, ids, times, joints = 0, [], [], []

    def take() -> bytes:
        nonlocal at
        if at >= end:
            raise Malformed(max(end, 1), "the file ends here, in the middle of a frame" if end else "the file is empty")
        at += 1
        return lines[at - 1]

    def count(what: str, most: int) -> int:
        line = take()
        if not line.strip().isdigit() or len(line) > 40 or int(line) > most:
            shown = line[:40].decode(errors="replace").strip()
            raise Malformed(at, f"{shown!r} is not a number of {what}, 0 to {most}")
        return int(line)

    def coordinates() -> list[float]:
        numbers = take().split()
        if len(numbers) != 12:
            raise Malformed(at, f"a joint has 12 numbers, this line has {len(numbers)}")
        try:
            xyz = [float(x) for x in numbers[:3]]
        except ValueError:
            xyz = [np.nan]
        near = all(abs(x) <= FARTHEST for x in xyz)
        if not near or any(b"_" in x for x in numbers[:3]):  # only Python reads 1_000 as a number
            shown = b" ".join(numbers[:3]).decode(errors="replace")
            raise Malformed(at, f"{shown!r} are not three finite coordinates")
        return xyz

    frames = count("frames", 1_000_000)
    for t in range(frames):
        for _ in range(count("bodies", MOST_BODIES)):
            head = take().split()
            if len(head) != 10:
                raise Malformed(at, f"a body has 10 fields, this line has {len(head)}")
            if (head[0], t) in zip(ids[-MOST_BODIES:], times[-MOST_BODIES:], strict=True):
                raise Malformed(at, f"body {head[0].decode(errors='replace')} appears twice in frame {t}")
            num_joints = count("joints", 1000)
            if num_joints != 25:
                raise Malformed(at, f"a body has 25 joints, this one has {num_joints}")
            ids.append(head[0])
            times.append(t)
            for _ in range(25):
                joints += coordinates()
    if any(line.strip() for line in lines[at:]):
        raise Malformed(at + 1, f"text after the last of {frames} frames")
    return frames, ids, times, np.array(joints).reshape(-1, 25, 3)


# ---------------------------------------------------------------------------------------------------------------------
# Tracks -> actors
# ---------------------------------------------------------------------------------------------------------------------

def clean_bodies(bodies: Tracks) -> np.ndarray:
    """Actors (M, L, V, 3), M = 1 or 2, from the tracks of a clip, cleaned as in CTR-GCN and SGN.

    1. Drop tracks of at most 11 frames.
    2. Drop tracks with at least a share of 0.69754 implausible frames: frames wider than 0.8 times their height.
       Both rules keep the track with the most motion if they would drop all.
    3. Order the tracks by motion, the sum of the variances of x, y and z, the largest first.
    4. Each track joins the first of at most two actors with which it shares no frame, or is dropped.
    5. Drop the frames without an actor.

    ValueError for a clip without a body.
    """
    tracks = list(bodies.values())
    if not tracks:
        raise ValueError("no body in any frame")

    def motion(track) -> float:
        return track[1].reshape(-1, 3).var(0).sum()

    def long(track) -> bool:
        return len(track[0]) > 11

    def plausible(track) -> bool:
        extent = np.ptp(track[1], axis=1)  # f 3
        return (extent[:, 0] > 0.8 * extent[:, 1]).mean() < 0.69754

    tracks.sort(key=motion, reverse=True)
    for good in (long, plausible):
        if len(tracks) > 1:
            tracks = [track for track in tracks if good(track)] or tracks[:1]
    actors: list[list] = []
    for track in tracks:
        for actor in actors:
            if not np.isin(track[0], np.concatenate([t[0] for t in actor])).any():
                actor.append(track)
                break
        else:
            if len(actors) < 2:
                actors.append([track])
    seen = np.unique(np.concatenate([t[0] for actor in actors for t in actor]))
    joints = np.zeros((len(actors), len(seen), *tracks[0][1].shape[1:]), np.float32)
    for m, actor in enumerate(actors):
        for frames, xyz in actor:
            joints[m, np.searchsorted(seen, frames)] = xyz
    return joints


# ---------------------------------------------------------------------------------------------------------------------
# NTU RGB+D
# ---------------------------------------------------------------------------------------------------------------------

def read_ntu_file(path: Path) -> Clip | Skip:
    """The clip of one .skeleton file, or the reason why it gives none."""
    name = path.name.split(".")[0]
    try:
        _, tracks = parse_ntu(read_bytes(path))
        return Clip(name, joints=clean_bodies(tracks), **ntu_fields(name))
    except Malformed as e:
        return Skip(path.name, e.line, e.reason)
    except (ValueError, OSError) as e:
        return Skip(path.name, 0, str(e))
