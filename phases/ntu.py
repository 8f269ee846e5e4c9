"""NTU RGB+D .skeleton text -> joints of at most two actors. numpy alone."""
from __future__ import annotations

import numpy as np


class Malformed(ValueError):
    """Bad text at a line, counted from 1."""

    def __init__(self, line: int, reason: str):
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason = line, reason


MOST_BODIES = 20  # in a frame; a Kinect tracks six
Tracks = dict[str, tuple[np.ndarray, np.ndarray]]  # body id -> frame numbers (F,), joints (F, 25, 3)


def parse_ntu(data: bytes) -> tuple[int, Tracks]:
    """Number of frames of a .skeleton file, and each body's frame numbers (F,) and joints (F, 25, 3), metres, float32.

    Only x y z of a joint's 12 numbers become floats, all of a file at once; of the rest the count is checked. A file that deviates in
    anything is read again line by line, which either copes or raises Malformed with the line.
    """
    try:
        plain = _parse_plain(data)
    except (ValueError, IndexError):
        plain = None
    frames, ids, times, joints = plain or _parse_careful(data)
    owner, times = np.array(ids), np.array(times, np.int64)
    with np.errstate(over="ignore"):  # 1e300 becomes infinite, and the clip is refused for it
        joints = joints.astype(np.float32)
    return frames, {b.decode(errors="replace"): (times[owner == b], joints[owner == b]) for b in dict.fromkeys(ids)}


def _parse_plain(data: bytes) -> tuple | None:
    """(frames, body id and frame number of each body seen, joints (N, 25, 3) float64) of a file as the camera wrote it, else None."""
    text = np.frombuffer(data, np.uint8)
    blank = text <= ord(" ")
    gap = np.flatnonzero(blank)  # where each field ends
    newline = np.flatnonzero(text[gap] == ord("\n"))
    end = gap[newline].tolist()  # of each line
    crlf = int(text[end[0] - 1] == ord("\r"))
    if np.count_nonzero(blank[1:] & blank[:-1]) != crlf * len(newline) or b"_" in data:  # an empty field; 1_000, which Python takes for a number
        return None
    fields = np.diff(newline) - crlf  # of every line but the first
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
    if frames < 0 or len(newline) != at + 1 or (fields[rows] != 12).any() or (fields[first - 2] != 10).any() \
            or len(ids) > len({*zip(ids, times, strict=True)}):
        return None
    token = gap[newline[rows][:, None] + np.arange(4)]
    start, stop = (token[:, :3] + 1).ravel(), token[:, 1:].ravel()
    joints, odd = _decimals(data, start, stop)
    odd = np.flatnonzero(odd)
    joints[odd] = [float(data[i:j]) for i, j in zip(start[odd].tolist(), stop[odd].tolist(), strict=True)]
    return (frames, ids, times, joints.reshape(-1, 25, 3)) if np.isfinite(joints).all() else None


def _decimals(data: bytes, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (N,) that the bytes data[start:stop] spell, exactly as float() reads them, and which of them (N,) are left to float().

    Read here is what nearly all are: a minus or none, one digit, a dot, one to eight digits. The eight bytes that end the number go into
    one integer and become its value there by three multiplications of neighbouring digits, pairs and fours (D. Lemire's trick). An
    integer below 2^53 over a power of ten, both exact: the one division rounds as float() does.
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
    """The same, line by line."""
    lines = data.split(b"\n")
    end = len(lines) - (not lines[-1].strip())
    at, ids, times, joints = 0, [], [], []

    def number(x: bytes) -> float:
        return float(x) if b"_" not in x else np.nan  # 1_000 is a number to Python alone

    def take() -> bytes:
        nonlocal at
        if at >= end:
            raise Malformed(max(end, 1), "the file ends here, in the middle of a frame" if end else "the file is empty")
        at += 1
        return lines[at - 1]

    def count(what: str, most: int) -> int:
        line = take()
        if not line.strip().isdigit() or int(line) > most:
            raise Malformed(at, f"{line[:40].decode(errors='replace').strip()!r} is no number of {what}")
        return int(line)

    frames = count("frames", 1_000_000)
    for t in range(frames):
        for _ in range(count("bodies", MOST_BODIES)):
            head = take().split()
            if len(head) != 10:
                raise Malformed(at, f"a body has 10 fields, here are {len(head)}")
            if (head[0], t) in zip(ids[-MOST_BODIES:], times[-MOST_BODIES:], strict=True):
                raise Malformed(at, f"body {head[0].decode(errors='replace')} twice in frame {t}")
            if (n := count("joints", 1000)) != 25:
                raise Malformed(at, f"a body has 25 joints, here are {n}")
            ids.append(head[0])
            times.append(t)
            for _ in range(25):
                numbers = take().split()
                if len(numbers) != 12:
                    raise Malformed(at, f"a joint has 12 numbers, here are {len(numbers)}")
                try:
                    joints += [number(x) for x in numbers[:3]]
                except ValueError:
                    joints.append(np.nan)
                if not np.isfinite(joints[-3:]).all():
                    raise Malformed(at, f"{b' '.join(numbers[:3]).decode(errors='replace')!r} are not three finite coordinates")
    if any(line.strip() for line in lines[at:]):
        raise Malformed(at + 1, f"text after the last of {frames} frames")
    return frames, ids, times, np.array(joints).reshape(-1, 25, 3)


def clean_bodies(bodies: dict[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Actors (M, L, V, 3), M = 1 or 2, of the tracks of a clip, as CTR-GCN and SGN clean them; frames that show no actor are dropped.

    Of several tracks, those of at most 11 frames go, then those of which a share of 0.69754 or more of the frames is implausible (wider than
    0.8 times their height), but never the last. The others are ordered by motion, the sum of the coordinates' variances, and each joins
    actor 1, else actor 2, whose frames it does not share. ValueError for a clip without a body.
    """
    tracks = list(bodies.values())
    if not tracks:
        raise ValueError("no body in any frame")
    motion = lambda track: track[1].reshape(-1, 3).var(0).sum()  # noqa: E731
    tracks.sort(key=motion, reverse=True)

    def implausible(track) -> float:
        extent = np.ptp(track[1], axis=1)  # f 3
        return (extent[:, 0] > 0.8 * extent[:, 1]).mean()

    for bad in (lambda track: len(track[0]) <= 11, lambda track: implausible(track) >= 0.69754):
        if len(tracks) > 1:
            tracks = [t for t in tracks if not bad(t)] or tracks[:1]
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
