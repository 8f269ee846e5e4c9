"""Phase 0: raw skeletons -> one clip store, which every other phase reads.

    just phase0 recipe=ntu60 raw=FOLDER                 .skeleton files of NTU RGB+D, in any folders below
    just phase0 recipe=ntu120 raw=FOLDER                NTU-60 and NTU-120 files together
    just phase0 recipe=nw_ucla raw=all_sqe              a folder of JSON files, or the tar archive of one
    just phase0 recipe=utd_mhad raw=utd-mhad.npz        anyone's own clips: see `read_arrays`
    just phase0 recipe=ntu60 data.reader=ctrgcn raw=NTU60_CS.npz data.split=given
    just phase0 recipe=ntu60 data.reader=pyskl raw=ntu60_3danno.pkl
    just phase0 recipe=synthetic                        clips of a puppet, to try everything without a download

Out: stores/<dataset>/ (or data.store), joints once at their raw length, in metres; V joints, at most two bodies a clip:
    frames.npy   (rows, V, 3) float32, memory-mapped by the reader
    clips.npz    name, label, subject, camera, setup, replication, length, offset (N, 2): first row of each body, -1 absent;
                 split_<name> where the recordings bring their own split: 0 training, 1 test, -1 neither
    meta.json    skeleton, classes, protocols and their counts, reader, versions, quality, and what was skipped and why

A malformed file is reported by name, line and reason, and skipped. An interrupted run leaves the old store as it was; the same command goes on.
Exit codes: 0 clean, 2 nothing stored, 3 stored but something was skipped, 130 interrupted.
"""
from __future__ import annotations

import csv
import errno
import hashlib
import itertools
import json
import lzma
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import sys
import tarfile
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

SHARD = 256  # clips read and written at a time: what bounds memory, and what an interruption can cost


@dataclass
class Clip:
    """One recording: joints (M, L, V, 3) in metres, M = 1 or 2, zeros where a body is missing; label 0-based; 0 for unknown numbers."""
    name: str
    label: int
    joints: np.ndarray
    subject: int = 0
    camera: int = 0
    setup: int = 0
    replication: int = 0
    splits: dict[str, int] = field(default_factory=dict)


@dataclass
class Skip:
    """A file, or a clip in one, that is not stored: the line where reading failed (0: none in particular) and why."""
    file: str
    line: int
    reason: str


class Malformed(ValueError):
    """Bad text at a line, counted from 1."""

    def __init__(self, line: int, reason: str):
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason = line, reason


# ---------------------------------------------------------------------------------------------------------------------
# NTU RGB+D text
# ---------------------------------------------------------------------------------------------------------------------

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


# A001 to A120; the first 60 are NTU-60.
NTU_CLASSES = """\
drink water, eat a meal or snack, brush teeth, brush hair, drop, pick up, throw, sit down, stand up, clap, read, write, tear up paper, put
on jacket, take off jacket, put on a shoe, take off a shoe, put on glasses, take off glasses, put on a hat or cap, take off a hat or cap,
cheer up, wave a hand, kick something, reach into pocket, hop, jump up, make or answer a phone call, play with phone or tablet, type on a
keyboard, point to something, take a selfie, check the time, rub two hands together, nod or bow, shake head, wipe face, salute, put palms
together, cross hands in front, sneeze or cough, stagger, fall, headache, chest pain, back pain, neck pain, nausea or vomiting, fan oneself,
punch or slap somebody, kick somebody, push somebody, pat somebody on the back, point at somebody, hug somebody, give something to somebody,
touch somebody's pocket, shake hands, walk towards each other, walk apart, put on headphones, take off headphones, shoot at a basket, bounce
a ball, swing a tennis racket, juggle table tennis balls, hush, flick hair, thumb up, thumb down, make an ok sign, make a victory sign,
staple a book, count money, cut nails, cut paper, snap fingers, open a bottle, sniff, squat down, toss a coin, fold paper, ball up paper,
play magic cube, apply cream on face, apply cream on back of hand, put on a bag, take off a bag, put something into a bag, take something
out of a bag, open a box, move heavy objects, shake fist, throw up a cap or hat, both hands up, cross arms, circle arms, swing arms, run on
the spot, kick backward, cross toe touch, kick to the side, yawn, stretch oneself, blow nose, hit somebody with something, wield a knife
towards somebody, knock somebody over, grab somebody's stuff, shoot at somebody with a gun, step on somebody's foot, high-five, cheers and
drink, carry something together, take a photo of somebody, follow somebody, whisper in somebody's ear, exchange things, support somebody
with a hand, rock paper scissors"""
NTU_CLASSES = [" ".join(name.split()) for name in NTU_CLASSES.split(",")]
NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")


def ntu_fields(name: str) -> dict[str, int]:
    """setup, camera, subject, replication, and 0-based label of a name SsssCcccPpppRrrrAaaa."""
    hit = NTU_NAME.fullmatch(name)
    if not hit:
        raise ValueError("name is not of the form SsssCcccPpppRrrrAaaa")
    s, c, p, r, a = map(int, hit.groups())
    return {"setup": s, "camera": c, "subject": p, "replication": r, "label": a - 1}


def read_ntu_file(path: Path) -> Clip | Skip:
    """The clip of one .skeleton file, or why it is none."""
    try:
        return Clip(path.name.split(".")[0], joints=clean_bodies(parse_ntu(path.read_bytes())[1]), **ntu_fields(path.name.split(".")[0]))
    except Malformed as e:
        return Skip(path.name, e.line, e.reason)
    except (ValueError, OSError) as e:
        return Skip(path.name, 0, str(e))


# ---------------------------------------------------------------------------------------------------------------------
# The other readers: each yields Clip or Skip
# ---------------------------------------------------------------------------------------------------------------------

NW_UCLA_CLASSES = ("pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down", "stand up", "donning", "doffing",
                   "throw", "carry")
NW_UCLA_NAME = re.compile(r"a(\d+)_s(\d+)_e(\d+)_v(\d+)")


def parse_nw_ucla(text: bytes, name: str) -> Clip:
    """The clip of one JSON file {file_name, skeletons (L, 20, 3), label 1-10}; ValueError says what is wrong with it."""
    hit = NW_UCLA_NAME.fullmatch(name)
    if not hit:
        raise ValueError("name is not of the form aAA_sSS_eEE_vVV")
    try:
        d = json.loads(text)
    except json.JSONDecodeError as e:
        raise Malformed(e.lineno, f"is no JSON: {e.msg}") from None
    if not isinstance(d, dict) or not {"skeletons", "label"} <= d.keys():
        raise ValueError("lacks the keys skeletons and label")
    _, s, e, v = map(int, hit.groups())
    return Clip(name, int(d["label"]) - 1, as_joints(d["skeletons"]), subject=s, camera=v, replication=e)


def read_nw_ucla(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """The all_sqe JSON files of Northwestern-UCLA, from a folder or straight from a tar archive."""
    if raw.is_dir():
        files = ((path.name, path.read_bytes()) for path in sorted(raw.rglob("*.json"), key=lambda p: p.name))
    elif tarfile.is_tarfile(raw):
        files = []
        try:
            with tarfile.open(raw) as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(".json"):
                        files.append((Path(member.name).name, tar.extractfile(member).read()))
        except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as e:
            yield Skip(raw.name, 0, f"cannot be read beyond its {len(files)} first files ({str(e).splitlines()[0]})")
        files.sort()
    else:
        raise ValueError(f"raw = {raw}: is neither a folder of JSON files nor a tar archive of one")
    for name, text in files:
        try:
            yield parse_nw_ucla(text, name.removesuffix(".json"))
        except Malformed as e:
            yield Skip(name, e.line, e.reason)
        except (ValueError, TypeError) as e:
            yield Skip(name, 0, str(e))


def as_joints(x) -> np.ndarray:
    """(M, L, V, 3) float32 of an array (L, V, C) or (M, L, V, C), C = 2 or 3, where a third coordinate is added as zero."""
    try:
        with np.errstate(over="ignore"):
            if np.iscomplexobj(x):
                raise TypeError
            x = np.asarray(x, np.float32)
    except (ValueError, TypeError):
        raise ValueError("joints are not a full array of real numbers") from None
    if x.ndim == 3:
        x = x[None]
    if x.ndim != 4 or x.shape[-1] not in (2, 3):
        raise ValueError(f"joints have shape {x.shape}: must be (frames, joints, 3) or (bodies, frames, joints, 3)")
    return x if x.shape[-1] == 3 else np.pad(x, [(0, 0)] * 3 + [(0, 1)])


def npz_arrays(path: Path, needed: set[str], but: str = "-") -> dict[str, np.ndarray]:
    """The arrays of an .npz file, except those whose names start with `but`."""
    try:
        z = np.load(path, allow_pickle=False)
        if not isinstance(z, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with z:
            if lacking := needed - set(z.files):
                raise ValueError(f"lacks {', '.join(sorted(lacking))}; it holds {', '.join(z.files)}")
            return {k: z[k] for k in z.files if not k.startswith(but)}
    except OSError:
        raise
    except Exception as e:  # see read_clip
        raise ValueError(f"raw = {path}: is no .npz file that can be used ({e})") from None


def trimmed(joints: np.ndarray) -> np.ndarray:
    """Without the all-zero frames at the end and the bodies that are never seen."""
    seen = (joints != 0).any((2, 3))
    if not seen.any():
        raise ValueError("no body in any frame")
    return joints[seen.any(1) | (np.arange(len(joints)) == 0), :np.flatnonzero(seen.any(0))[-1] + 1]


def npz_rows(path: Path, key: str) -> tuple[tuple[int, ...], Iterator[np.ndarray]]:
    """Shape of one array of an .npz file, and its rows one at a time: the whole may be larger than memory."""
    def header(f) -> tuple:
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[np.lib.format.read_magic(f)](f)
        if fortran or dtype.kind not in "fiu" or len(shape) < 2:
            raise ValueError(f"{path}: {key} must be an array of numbers in C order, here are {dtype} of shape {shape}")
        return shape, dtype

    def rows() -> Iterator[np.ndarray]:
        with zipfile.ZipFile(path) as z, z.open(f"{key}.npy") as f:
            shape, dtype = header(f)
            size = dtype.itemsize * int(np.prod(shape[1:]))
            for _ in range(shape[0]):
                yield np.frombuffer(f.read(size), dtype).reshape(shape[1:])

    with zipfile.ZipFile(path) as z, z.open(f"{key}.npy") as f:
        return header(f)[0], rows()


def read_ctrgcn(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """CTR-GCN's NTU60_CS.npz and the like: x_train, x_test (N, T, 150), two bodies of 25 joints; y one-hot. Brings the split `given`."""
    labels = npz_arrays(raw, {"x_train", "y_train", "x_test", "y_test"}, but="x_")
    for side, name in enumerate(("train", "test")):
        y = labels[f"y_{name}"]
        shape, rows = npz_rows(raw, f"x_{name}")
        if len(shape) != 3 or shape[2] % 6 or shape[0] != len(y):
            raise ValueError(f"{raw}: x_{name} has shape {shape}, y_{name} {y.shape}: expected (clips, frames, 2 * joints * 3) and as many labels")
        i = 0
        try:
            for i, x in enumerate(rows):
                try:
                    if y.ndim == 2 and (np.count_nonzero(y[i]) != 1 or y[i].max() != 1):
                        raise ValueError(f"y_{name}[{i}] is not one-hot")
                    joints = trimmed(np.moveaxis(x.reshape(len(x), 2, -1, 3), 1, 0).astype(np.float32))
                    yield Clip(f"{name}_{i:06d}", int(y[i].argmax() if y.ndim == 2 else y[i]), joints, splits={"given": side})
                except ValueError as e:
                    yield Skip(f"{raw.name}:x_{name}[{i}]", 0, str(e))
        except (zipfile.BadZipFile, zlib.error, EOFError) as e:
            yield Skip(f"{raw.name}:x_{name}", 0, f"is damaged ({e}): cannot be read beyond clip {i}")


class _PickledType:
    """Stands in for numpy.dtype in a pickle: a plain number or text type, and the byte order that its state brings."""

    def __init__(self, code, *_):
        if not re.fullmatch(r"[biufSU]\d{1,6}", str(code)):
            raise ValueError(f"holds an array of type {code!r}: only numbers and text are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray:
    """Stands in for an ndarray in a pickle; numpy itself would trust the state, and its object arrays are raw pointers."""

    def __init__(self, *_):
        self.value = np.zeros(0)

    def __setstate__(self, state):
        _, shape, kind, fortran, raw = state
        self.value = np.frombuffer(raw, kind.dtype).reshape(shape, order="F" if fortran else "C")

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.value.astype(dtype or self.value.dtype)


class PlainUnpickler(pickle.Unpickler):
    """Reads arrays and plain containers of an untrusted pickle. Nothing of any module is ever looked up: the few names that pickles of
    arrays ask for (numpy 1 and 2 alike) get stand-ins, every other name raises ValueError.
    """
    STANDINS = {
        "numpy.dtype": _PickledType, "numpy.ndarray": _PickledArray, "multiarray._reconstruct": _PickledArray,
        "_codecs.encode": lambda text, _: text.encode("latin1"),  # how protocol 2, mmcv's, writes bytes
        "multiarray.scalar": lambda kind, raw: np.frombuffer(raw, kind.dtype)[0].item(),
        "numeric._frombuffer": lambda raw, kind, shape, order: np.frombuffer(raw, kind.dtype).reshape(shape, order=order)}

    def find_class(self, module: str, name: str):
        standin = self.STANDINS.get(f"{re.sub(r'^numpy[.]_?core[.]', '', module)}.{name}")
        if standin is None:
            raise ValueError(f"the pickle asks for {module}.{name}: only numpy arrays and plain containers are read; nothing of it was run")
        return standin


def read_annotations(raw: Path) -> dict:
    """The dictionary {split, annotations} of pyskl's pickle, opened without running any code it may carry."""
    with open(raw, "rb") as f:
        try:
            d = PlainUnpickler(f).load()
        except Exception as e:  # a hostile or broken pickle can raise nearly anything
            raise ValueError(f"{raw}: {e}" if isinstance(e, ValueError) else f"{raw}: is no annotation pickle ({type(e).__name__}: {e})") from None
    if not isinstance(d, dict) or not isinstance(d.get("split"), dict) or not isinstance(d.get("annotations"), (list, tuple)):
        raise ValueError(f"{raw}: is no annotation pickle: needs a dictionary with split, a dictionary, and annotations, a list")
    return d


def read_pyskl(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """pyskl's annotation pickle {split: {name: [frame_dir]}, annotations: [{frame_dir, label, keypoint (M, L, V, C), ...}]}. Brings its splits:
    xsub_train and xsub_val (or _test) become the protocol xsub. The skeleton follows from V: 17 coco17, 25 ntu25.
    """
    d = read_annotations(raw)
    sides: dict[str, dict[str, int]] = {}
    for name, members in d["split"].items():
        protocol, _, side = str(name).rpartition("_")
        sides.setdefault(protocol or "given", {}).update(dict.fromkeys(np.asarray(members, str).tolist(), 0 if side == "train" else 1))
    for i, a in enumerate(d["annotations"]):
        name = str(a.get("frame_dir", i)) if isinstance(a, dict) else str(i)
        try:
            try:
                numbers = ntu_fields(name)
            except ValueError:
                numbers = {}
            yield Clip(name, joints=trimmed(as_joints(a["keypoint"])), splits={p: s.get(name, -1) for p, s in sides.items()},
                       **{**numbers, "label": int(a["label"])})
        except (ValueError, KeyError, TypeError) as e:
            yield Skip(f"{raw.name}:{name}", 0, f"lacks {e}" if isinstance(e, KeyError) else str(e))


LABELS_HEADER = "name,label[,subject,camera,setup,replication,split]"
COLUMNS = {"name", "label", "subject", "camera", "setup", "replication", "split"}


def labels_line(row: dict[str, str | None], classes: list[str]) -> tuple[int, dict, dict]:
    """(label, splits, numbers) of a line of labels.csv; ValueError says which field is wrong."""
    def number(key: str) -> int:
        if not re.fullmatch(r"-?\d{1,9}", row[key] or ""):
            raise ValueError(f"{key} {row[key] or ''!r} is no whole number")
        return int(row[key])

    if row["label"] not in classes and not re.fullmatch(r"\d{1,9}", row["label"] or ""):
        from last import nearest
        word = row["label"] or ""
        hint = nearest(word, classes) if classes else ": skeleton.json lacks `classes`"
        raise ValueError(f"label {word!r} is neither a class nor the number of one{hint}")
    if row.get("split", "") not in ("", "train", "test"):
        raise ValueError(f"split {row['split']!r} is neither train nor test")
    label = classes.index(row["label"]) if row["label"] in classes else int(row["label"])
    split = {"given": ("train", "test").index(row["split"])} if row.get("split") else {}
    return label, split, {k: number(k) for k in ("subject", "camera", "setup", "replication") if k in row}


def read_arrays(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """Anyone's own clips, in one of two forms.

    A folder: <name>.npy (L, V, 3) or (M, L, V, 3) each; labels.csv with a header name,label[,subject,camera,setup,replication,split], the
    label a 0-based number or a class name, the split train or test; skeleton.json {"skeleton": a name or {joints, parents, regions},
    "classes": [...]}.
    A packed file x.npz: data (rows, V, 3), offsets (N + 1), names, labels, any of the other columns, as in labels.csv; beside it x.json like
    skeleton.json.
    """
    classes = list(map(str, metadata(raw).get("classes") or []))
    if raw.is_dir():
        table = raw / "labels.csv"
        if not table.is_file():
            raise ValueError(f"{table}: missing; it lists the clips under the header {LABELS_HEADER}")
        try:
            with open(table, newline="", encoding="utf-8-sig") as f:  # Excel begins a file with a byte order mark
                reader = csv.DictReader(f, skipinitialspace=True)
                rows, columns = list(reader), reader.fieldnames or []
        except UnicodeDecodeError as e:
            raise ValueError(f"{table}: is not in UTF-8 ({e})") from None
        if not {"name", "label"} <= set(columns) <= COLUMNS or not rows:
            header = ",".join(columns)
            raise ValueError(f"{table}: needs the header {LABELS_HEADER} with commas between, and a line per clip; "
                             + (f"its header is {header!r}" if rows or not columns else f"below {header!r} it has none"))
        for unlisted in sorted({p.stem for p in raw.glob("*.npy")} - {str(row["name"]).removesuffix(".npy") for row in rows}):
            yield Skip(f"{unlisted}.npy", 0, f"is not listed in {table.name}")
        for number, row in enumerate(rows, 2):
            if not row["name"]:
                yield Skip(table.name, number, "names no clip")
                continue
            if None in row:
                yield Skip(table.name, number, f"{row['name']}: has more fields than the header")
                continue
            try:
                label, split, numbers = labels_line(row, classes)
            except ValueError as e:
                yield Skip(table.name, number, f"{row['name']}: {e}")
                continue
            try:
                joints = as_joints(np.load(raw / f"{row['name'].removesuffix('.npy')}.npy", allow_pickle=False))
                yield Clip(row["name"], label, joints, splits=split, **numbers)
            except Exception as e:  # see read_clip
                yield Skip(f"{row['name']}.npy", 0, str(e))
        return
    a = npz_arrays(raw, {"data", "offsets", "names", "labels"})
    N = len(a["names"])
    columns = {k: a[k] for k in ("labels", "subject", "camera", "setup", "replication", "split") if k in a}
    at = a["offsets"]
    if len(at) != N + 1 or at.dtype.kind not in "iu" or at[0] != 0 or at[-1] != len(a["data"]) or (at[1:] < at[:-1]).any() \
            or any(len(c) != N for c in columns.values()):
        raise ValueError(f"{raw}: {N} names, {len(at)} offsets (must be one more, whole numbers that rise from 0 to {len(a['data'])}), "
                         + ", ".join(f"{len(c)} {k}" for k, c in columns.items()))
    for i in range(N):
        try:
            label, split, numbers = labels_line({k.replace("labels", "label"): str(c[i]) for k, c in columns.items()}, classes)
            yield Clip(str(a["names"][i]), label, as_joints(a["data"][at[i]:at[i + 1]]), splits=split, **numbers)
        except ValueError as e:
            yield Skip(f"{raw.name}:{a['names'][i]}", 0, str(e))


def metadata(raw: Path) -> dict:
    """skeleton.json of a folder, or the .json beside a packed file."""
    path = raw / "skeleton.json" if raw.is_dir() else raw.with_suffix(".json")
    if not path.is_file():
        raise ValueError(f'{path}: missing; it says {{"skeleton": a name or {{joints, parents, regions}}, "classes": [...]}}')
    try:
        d = json.loads(path.read_text())
    except ValueError as e:
        raise ValueError(f"{path}: is no JSON ({e})") from None
    if not isinstance(d, dict) or not isinstance(d.get("classes") or [], list):
        raise ValueError(f'{path}: must be like {{"skeleton": a name or {{joints, parents, regions}}, "classes": [...]}}')
    if twice := [c for c, n in Counter(map(str, d.get("classes") or [])).items() if n > 1]:
        raise ValueError(f"{path}: names the class {twice[0]!r} twice")
    return d


def read_clip(path: Path | str) -> np.ndarray:
    """Joints (M, L, V, 3) of one file: .skeleton, .json (Northwestern-UCLA), .npy or .npz. ValueError says what is wrong with it.

    As in a store, bodies that are never seen are left out.
    """
    path = Path(path)
    try:
        if path.suffix == ".skeleton":
            array = clean_bodies(parse_ntu(path.read_bytes())[1])
        elif path.suffix == ".json":
            array = json.loads(path.read_text())["skeletons"]
        elif path.suffix not in (".npy", ".npz"):
            raise ValueError("is none of .skeleton, .json, .npy and .npz")
        else:
            if path.read_bytes()[:2] not in (b"\x93N", b"PK"):
                raise ValueError("is no numpy file, whatever its name says")
            array = np.load(path, allow_pickle=False)
            if isinstance(array, np.lib.npyio.NpzFile):
                with array:
                    if len(array.files) != 1 and "joints" not in array.files:
                        raise ValueError(f"holds {', '.join(array.files)}: needs one array, or one named joints")
                    array = array["joints" if "joints" in array.files else array.files[0]]
        joints = as_joints(array)
    except Malformed as e:
        raise ValueError(f"{path}: line {e.line}: {e.reason}") from None
    except OSError:
        raise
    except Exception as e:  # damaged bytes make numpy raise almost anything
        raise ValueError(f"{path}: {f'lacks {e}' if isinstance(e, KeyError) else e}") from None
    if not joints.size or not np.isfinite(joints).all():
        raise ValueError(f"{path}: {'no frame' if not joints.size else 'a coordinate is not finite'}")
    return joints[seen] if (seen := joints.any((1, 2, 3))).any() else joints


# ---------------------------------------------------------------------------------------------------------------------
# Synthetic clips: a puppet of the 25 joints of Kinect v2 acts, three cameras record it, and the files are true NTU text
# ---------------------------------------------------------------------------------------------------------------------

# A pose is eight rows of three numbers. ROOT, FOOT, FOOT2: where pelvis and ankles are, from standing still, in leg lengths; HAND, HAND2:
# where the wrists are, from their shoulder, in arm lengths; all as (out to their own side, up, forward). HIPS, CHEST, HEAD: radians
# (bow forward, turn, tilt to the side of HAND). HAND and FOOT belong to the right side of right-handers.
ROOT, HIPS, CHEST, HEAD, HAND, HAND2, FOOT, FOOT2 = range(8)
REST = np.zeros((8, 3))
REST[HAND] = REST[HAND2] = 0.16, -0.93, 0.08
SEAT, LAP = (0, -0.46, -0.5), (-0.02, -0.62, 0.48)
IDLE = ((0, 0, 0), (0, 0, 0), (0, 0, 0), (-0.05, 0.2, 0.12), (-0.5, 0.42, 0.25))  # HAND2 meanwhile: hangs, on the hip, before the belly
STAY = (2, 2)  # a move that stays until the end

# A move draws `part` to a pose: (part, pose, when it sets out, arrives, lets go and is gone, as shares of the clip); with a sixth number it
# swings about where the part is, that many times over the whole of its stretch.
DRINK = [(HAND, (-0.32, 0.06, 0.31), .08, .38, .66, .92), (HEAD, (-0.3, 0, 0), .36, .48, .6, .72)]
PICK_UP = [(HIPS, (0.95, 0, 0), .08, .45, .55, .92), (CHEST, (0.75, 0, 0), .08, .45, .55, .92), (ROOT, (0, -0.52, -0.25), .08, .45, .55, .92),
           (HEAD, (-0.3, 0, 0), .1, .4, .55, .9), (HAND, (-0.15, -0.1, 0.98), .12, .43, .55, .9), (HAND2, (0, -0.45, 0.6), .12, .43, .55, .9)]
THROW = [(HAND, (0.42, 0.45, -0.3), .08, .36, .42, .5), (CHEST, (-0.1, 0.5, 0.1), .08, .36, .42, .52), (HAND2, (-0.05, -0.25, 0.7), .1, .36, .42, .6),
         (FOOT2, (0, 0, 0.4), .3, .46, *STAY), (FOOT2, (0, 0.12, 0.25), .28, .38, .4, .47), (ROOT, (0, -0.04, 0.25), .32, .5, *STAY),
         (CHEST, (0.3, -0.5, 0), .42, .54, .62, .9), (HAND, (-0.15, 0.1, 0.97), .44, .53, .56, .75)]
SIT_DOWN = [(ROOT, SEAT, .12, .72, *STAY), (HIPS, (0.75, 0, 0), .1, .42, .48, .85), (HAND, LAP, .2, .75, *STAY), (HAND2, LAP, .2, .75, *STAY)]
STAND_UP = [(ROOT, SEAT, -2, -1, .22, .82), (HIPS, (0.8, 0, 0), .06, .34, .42, .8), (HAND, LAP, -2, -1, .25, .8), (HAND2, LAP, -2, -1, .25, .8)]
CLAP = [m for h in (HAND, HAND2) for m in ((h, (-0.12, -0.22, 0.58), .04, .2, .82, .98), (h, (0.2, 0, 0), .12, .24, .78, .9, 5))]
WAVE = [(HAND, (0.28, 0.72, 0.22), .05, .26, .78, .96), (HAND, (0.36, -0.1, 0), .18, .3, .74, .86, 4), (CHEST, (0, 0, -0.06), .05, .26, .78, .96)]
KICK = [(FOOT, (0.02, 0.16, -0.4), .15, .34, .38, .46), (FOOT, (-0.05, 0.42, 0.85), .4, .52, .56, .8), (HIPS, (-0.2, 0, 0), .4, .52, .58, .8),
        (HIPS, (0.15, 0, 0), .12, .32, .36, .46), (ROOT, (-0.08, -0.01, 0), .1, .25, .75, .95), (HAND2, (0.3, -0.55, 0.55), .36, .52, .58, .85),
        (HAND, (0.4, -0.7, -0.35), .36, .52, .58, .85)]
JUMP = [(ROOT, (0, -0.26, -0.08), .06, .3, .36, .44), (HIPS, (0.45, 0, 0), .06, .3, .36, .44), (ROOT, (0, 0.36, 0), .4, .53, .55, .68),
        *((f, (0, 0.34, -0.03), .42, .53, .55, .66) for f in (FOOT, FOOT2)), (ROOT, (0, -0.2, -0.06), .66, .73, .76, .95),
        (HIPS, (0.35, 0, 0), .66, .73, .76, .95), *((h, (0.25, -0.8, -0.42), .06, .28, .34, .44) for h in (HAND, HAND2)),
        *((h, (0.2, 0.3, 0.75), .4, .52, .58, .8) for h in (HAND, HAND2))]
SHAKE = [(HAND, (-0.33, -0.38, 0.68), .08, .34, .78, .97), (HAND, (0, 0.12, 0), .32, .4, .72, .8, 4), (HIPS, (0.12, 0, 0), .08, .34, .78, .97)]
HUG = [(ROOT, (0, 0, 0.42), .12, .42, *STAY), (FOOT, (0, 0, 0.42), .1, .28, *STAY), (FOOT, (0, 0.12, 0.2), .1, .18, .2, .29),
       (HIPS, (0.12, 0, 0), .3, .5, .9, 1),
       (FOOT2, (0, 0, 0.36), .28, .46, *STAY), (FOOT2, (0, 0.12, 0.2), .28, .36, .38, .47),
       *((h, (0.35, -0.1, 0.8), .1, .32, .36, .55) for h in (HAND, HAND2)), (HAND, (-0.42, -0.12, 0.75), .4, .58, .85, 1.1),
       (HAND2, (-0.42, -0.4, 0.72), .4, .58, .85, 1.1)]
PUSH = [*((h, (0.1, -0.22, 0.4), .06, .28, .34, .46) for h in (HAND, HAND2)),
        *((h, (-0.1, -0.02, 0.97), .36, .47, .53, .78) for h in (HAND, HAND2)),
        (FOOT2, (0, 0, 0.35), .26, .44, *STAY), (FOOT2, (0, 0.1, 0.2), .26, .34, .36, .45), (ROOT, (0, -0.05, 0.25), .3, .48, *STAY),
        (HIPS, (0.2, 0, 0), .34, .47, .55, .85)]
PUSHED = [(HIPS, (-0.25, 0, 0), .44, .56, .6, .85), (HEAD, (0.3, 0, 0), .44, .52, .56, .7), (ROOT, (0, -0.05, -0.45), .45, .66, *STAY),
          (FOOT2, (0, 0, -0.55), .46, .6, *STAY), (FOOT2, (0, 0.12, -0.3), .46, .52, .54, .61), (FOOT, (0, 0, -0.36), .6, .74, *STAY),
          (FOOT, (0, 0.1, -0.2), .6, .66, .68, .75),
          *((h, (0.35, -0.35, 0.55), .44, .56, .62, .85) for h in (HAND, HAND2))]
# name: (moves, moves of the other person or nothing, metres between the two)
SYNTHETIC = {"drink water": (DRINK, None, 0), "pick up": (PICK_UP, None, 0), "throw": (THROW, None, 0), "sit down": (SIT_DOWN, None, 0),
             "stand up": (STAND_UP, None, 0), "clapping": (CLAP, None, 0), "hand waving": (WAVE, None, 0), "kicking something": (KICK, None, 0),
             "jump up": (JUMP, None, 0), "shaking hands": (SHAKE, SHAKE, 0.86), "hugging": (HUG, HUG, 1.0), "pushing": (PUSH, PUSHED, 0.95)}
SYNTHETIC_ACTIONS = tuple(SYNTHETIC)
SYNTHETIC_VERSION = 2
SUBJECTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14)  # eight of them train in xsub; odd and even setups on both of its sides
# metres of a person of 1.65 m: pelvis to mid spine to shoulder line, neck, head, shoulder (out, up), upper arm, forearm, hip (out, up), thigh,
# shin, ankle above the floor, foot, hand, finger tip, thumb
LIMBS = np.array([.28, .21, .07, .125, .16, -.05, .25, .225, .075, -.03, .36, .36, .075, .115, .065, .065, .05])
MIRROR = np.array([0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22])
PARENT = np.array([0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11])  # whose bone an orientation follows
ENDS, LIMB_NOISE = [3, 15, 19, 21, 22, 23, 24], np.full((25, 1), 0.002)
LIMB_NOISE[[6, 10, 14, 18]], LIMB_NOISE[[7, 11, 15, 19, 21, 22, 23, 24]] = 0.004, 0.007


def _bump(u: np.ndarray, t0: float, t1: float, t2: float, t3: float) -> np.ndarray:
    """0 before t0, 1 from t1 to t2, 0 after t3, along minimum-jerk ramps."""
    a, b = np.clip((u - t0) / (t1 - t0), 0, 1), np.clip((u - t2) / (t3 - t2) if t3 > t2 else u * 0, 0, 1)
    return a ** 3 * (10 - 15 * a + 6 * a * a) * (1 - b ** 3 * (10 - 15 * b + 6 * b * b))


def _frame(angles: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) that bow forward, turn and tilt by angles (T, 3); x is right, y up, z behind."""
    (c, d, e), (s, r, q) = np.cos(angles).T, np.sin(angles).T
    o, z = np.ones_like(c), np.zeros_like(c)
    bow, turn, tilt = ([o, z, z, z, c, s, z, -s, c], [d, z, -r, z, o, z, r, z, d], [e, q, z, -q, e, z, z, z, o])
    return np.stack(turn, -1).reshape(-1, 3, 3) @ np.stack(bow, -1).reshape(-1, 3, 3) @ np.stack(tilt, -1).reshape(-1, 3, 3)


def _limb(start: np.ndarray, end: np.ndarray, a: float, b: float, pole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle joint and end (T, 3) of two bones of length a and b that reach from start towards end and bend to the pole; and the way it bends."""
    way = end - start
    reach = np.linalg.norm(way, axis=1, keepdims=True)
    way, r = way / reach, np.clip(reach, 0.45 * (a + b), 0.992 * (a + b))  # neither folded flat nor locked
    along = (a * a - b * b + r * r) / (2 * r)
    bend = pole - (pole * way).sum(1, keepdims=True) * way
    bend /= np.linalg.norm(bend, axis=1, keepdims=True)
    return start + along * way + np.sqrt(a * a - along * along) * bend, start + r * way, bend


def _puppet(pose: np.ndarray, body: np.ndarray, swivel: float) -> np.ndarray:
    """Joints (T, 25, 3) in metres of poses (T, 8, 3); it stands at the origin and looks along -z, x to its right, y up."""
    mid, chest, neck, head, sh_out, sh_up, upper, fore, hip_out, hip_up, thigh, shin, ankle, foot, hand, tip, thumb = body
    J, leg, arm = np.zeros((len(pose), 25, 3)), thigh + shin, upper + fore
    place = pose * (1, 1, -1)
    hips = _frame(pose[:, HIPS])
    spine, torso = hips @ _frame(pose[:, CHEST] / 2), hips @ _frame(pose[:, CHEST])
    J[:, 0] = place[:, ROOT] * leg + (0, ankle + 0.985 * leg - hip_up, 0)
    J[:, 1] = J[:, 0] + hips @ (0, mid, 0)
    J[:, 20] = J[:, 1] + spine @ (0, chest, 0)
    J[:, 2] = J[:, 20] + torso @ (0, neck, 0)
    J[:, 3] = J[:, 2] + (torso @ _frame(pose[:, HEAD])) @ (0, head, -0.1 * head)
    for side, s, e, k, h in ((1, 8, 23, 16, (HAND, FOOT)), (-1, 4, 21, 12, (HAND2, FOOT2))):
        own = np.array((side, 1, 1))
        J[:, s] = J[:, 20] + torso @ (side * sh_out, sh_up, 0)
        wrist = J[:, s] + np.einsum("tij,tj->ti", torso, place[:, h[0]] * own * arm)
        J[:, s + 1], J[:, s + 2], bend = _limb(J[:, s], wrist, upper, fore, torso @ (own * (0.5 + swivel, -0.7, 0.8)))
        along = (J[:, s + 2] - J[:, s + 1]) / fore
        up = -bend + (bend * along).sum(1, keepdims=True) * along
        J[:, s + 3] = J[:, s + 2] + hand * along
        J[:, e] = J[:, s + 3] + tip * along
        J[:, e + 1] = J[:, s + 3] + thumb * (0.6 * along + 0.8 * up / np.linalg.norm(up, axis=1, keepdims=True))
        J[:, k] = J[:, 0] + hips @ (side * hip_out, hip_up, 0)
        sole = np.array((side * (hip_out + 0.03), ankle, 0)) + place[:, h[1]] * own * leg
        J[:, k + 1], J[:, k + 2], _ = _limb(J[:, k], sole, thigh, shin, np.array((side * 0.15, 0.2, -1)))
        droop = np.clip(0.5 + 1.2 * pose[:, h[1], 1], 0.5, 1.1)[:, None]  # toes point down as the foot lifts
        J[:, k + 3] = J[:, k + 2] + foot * np.concatenate((side * 0.2 * np.cos(droop), -np.sin(droop), -0.96 ** 0.5 * np.cos(droop)), 1)
    return J


def _act(moves: list, rng: np.random.Generator, body: np.ndarray, manner: np.ndarray, T: int, late: float, lefty: bool) -> np.ndarray:
    """Joints (T, 25, 3) of one performance: the moves at this person's pace, reach and manner (8, 3), with idle sway."""
    u = np.linspace(rng.uniform(-0.35, 0.02), rng.uniform(0.98, 1.3), T) - late
    u = u + 0.03 * np.sin(2 * np.pi * (u * rng.uniform(0.5, 1.2) + rng.random()))
    pose = np.tile(REST + manner, (T, 1, 1))
    pose[:, HAND2] += IDLE[rng.integers(len(IDLE))]
    gain, size = rng.normal(1, 0.12, (8, 1)), rng.normal(1, 0.08)
    beat, phase, skew = rng.uniform(0.85, 1.2), rng.random(), rng.normal(0, 0.012, 4)
    for part, target, *when in moves:
        if len(when) == 5:  # swing
            swing = np.sin(2 * np.pi * (when[4] * beat * (u - when[0]) / (when[3] - when[0]) + phase))
            pose[:, part] += (_bump(u, *when[:4]) * swing)[:, None] * np.array(target) * gain[part]
            continue
        w = _bump(u, *(np.array(when) + skew * (abs(np.array(when)) < 1.5)))[:, None]
        if part in (HAND, HAND2):
            target = np.array(target) + 0.5 * manner[part] + (gain[part] - 1) * (0.4, 0.4, -0.4)
        else:
            target = np.array(target) * (size if part in (ROOT, FOOT, FOOT2) else gain[part])
        pose[:, part] += w * (target - pose[:, part])
    t = np.arange(T)[:, None, None] / 30  # 30 frames a second
    sway = sum(np.sin(2 * np.pi * (f * t + rng.random((8, 3)))) * rng.normal(0, 1, (8, 3)) for f in (0.4, 0.9, 1.7))
    pose += sway * np.array([.004, .012, .015, .04, .018, .018, 0, 0])[:, None]
    J = _puppet(pose, body, rng.normal(0.1, 0.15))
    return (J * (-1, 1, 1))[:, MIRROR] if lefty else J


def _turn(joints: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return joints @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def _person(seed: int, subject: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Limbs (17,), manner (8, 3) and pace of a subject."""
    rng = np.random.default_rng((seed, 1, subject))
    manner = rng.normal(0, 1, (8, 3)) * np.array([0, .04, .04, .08, .06, .06, 0, 0])[:, None]
    manner[[FOOT, FOOT2], 0] = rng.uniform(-0.02, 0.08)  # width of the stance
    return LIMBS * rng.normal(1, 0.07) * rng.normal(1, 0.04, len(LIMBS)), manner, rng.uniform(0.8, 1.25)


def _perform(seed: int, action: int, subject: int, replication: int) -> list[tuple[str, bytes]]:
    """The three cameras' files of one performance: (name, NTU text)."""
    moves, reply, apart = SYNTHETIC[SYNTHETIC_ACTIONS[action]]
    rng, setup = np.random.default_rng((seed, 2, action, subject, replication)), 1 + subject % 6
    body, manner, pace = _person(seed, subject)
    T = int(round(rng.uniform(44, 58) / pace))
    heading = np.radians((-45, 45)[(replication + 1) % 2] + rng.normal(0, 15))  # the subject faces camera 2, then camera 3
    stand = rng.normal(0, 0.15, 3) * (1, 0, 1)
    cast = [_act(moves, rng, body, manner, T, 0, rng.random() < 0.25 and not reply)]  # hands are shaken with the right
    if reply:
        other, theirs, _ = _person(seed, subject + 1000)
        other = other * body[10:12].sum() / other[10:12].sum() * rng.normal(1, 0.03)  # about as tall
        cast.append(_act(reply, rng, other, theirs, T, rng.uniform(0, 0.03), False))
        side, apart = rng.choice((-1, 1)), apart * rng.normal(1, 0.05) / 2
        cast = [_turn(J + (0, 0, apart), angle) for J, angle in zip(cast, (side * np.pi / 2, -side * np.pi / 2), strict=True)]
    cast = [_turn(J, heading) + stand for J in cast]
    room = np.random.default_rng((seed, 3, setup))
    height, far, pitch = room.uniform(0.75, 1.15), room.uniform(2.7, 3.5), room.normal(0, 0.03)
    files = []
    for camera, angle in ((1, 0), (2, -45), (3, 45)):
        rng = np.random.default_rng((seed, 4, action, subject, replication, camera))
        tilt = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
        seen = lambda J: (_turn(J, -np.radians(angle)) + (0, -height, far)) @ tilt  # noqa: B023, E731
        name = f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}A{action + 1:03}"
        files.append((name, _record([seen(J) for J in cast], seen, rng)))
    return files


def _record(cast: list[np.ndarray], seen, rng: np.random.Generator) -> bytes:
    """What a Kinect makes of the joints (T, 25, 3) of each person: noise, gaps, strangers, and NTU text."""
    T, tracks = len(cast[0]), []
    for J in cast:
        shoulders = J[:, 4] - J[:, 8]
        hidden = abs(shoulders[:, 2]) > 0.75 * np.linalg.norm(shoulders, axis=1)  # side view: the far arm and leg are guessed
        guessed = np.zeros((T, 25), bool)
        for side, joints in ((1, [5, 6, 7, 13, 14, 15, 21, 22]), (-1, [9, 10, 11, 17, 18, 19, 23, 24])):
            guessed[np.ix_(hidden & (side * shoulders[:, 2] > 0), joints)] = True
        noise = rng.normal(0, 1, J.shape) + rng.normal(0, 1, J.shape)[np.arange(T) // 6]  # quick and slow
        tracks.append((J + noise * LIMB_NOISE * (0.7 + 1.6 * guessed[..., None]), 2 - guessed, np.ones(T, bool)))
    kind = rng.random(4)
    if kind[0] < 0.12:  # a body is lost for a few frames; alone, that leaves frames without a body
        start = rng.integers(3, T - 8)
        tracks[rng.integers(len(tracks))][2][start:start + rng.integers(1, 5)] = False
    if kind[1] < 0.03 and len(tracks) == 1:  # it is found again under another number
        J, state, there = tracks.pop()
        tracks += [(J, state, there & (np.arange(T) < T // 2)), (J, state, there & (np.arange(T) >= T // 2 + 2))]
    if kind[2] < 0.12:  # somebody passes behind, or furniture is taken for a body: wide and flat
        passing = kind[2] < 0.06
        pose = np.tile(REST, (T, 1, 1))
        J = seen(_puppet(pose, LIMBS, 0.1) + (rng.choice((-1, 1)) * 0.9, 0, 0.7) + np.linspace(0, 0.5, T)[:, None, None] * (1, 0, 0))
        there, start = np.zeros(T, bool), rng.integers(0, T // 2)
        there[start:start + (rng.integers(3, 12) if passing else T)] = True
        if not passing:
            J = (J - J.mean(1, keepdims=True)) * (2.6, 0.3, 1) + J.mean((0, 1)) + rng.normal(0, 0.02, J.shape)
        tracks.append((J, np.ones((T, 25), int), there))
    order = rng.permutation(len(tracks))
    blocks = [_blocks(*tracks[i][:2], 72057594037927936 + int(rng.integers(2, 20000))) for i in order]
    lines = [str(T)]
    for t in range(T):
        here = [b[t] for b, i in zip(blocks, order, strict=True) if tracks[i][2][t]]
        lines += [str(len(here)), *here]
    text = "\n".join(lines) + "\n"
    return (text.replace("\n", "\r\n") if kind[3] < 0.3 else text).encode()


def _blocks(J: np.ndarray, state: np.ndarray, number: int) -> list[str]:
    """The 27 lines of a body in each frame, of its joints (T, 25, 3) in the camera's space and their tracking state (T, 25)."""
    x, y, z = np.moveaxis(J, -1, 0)
    bone = J - J[:, PARENT]
    bone /= np.linalg.norm(bone, axis=-1, keepdims=True) + 1e-9
    turn = np.stack((1.0001 + bone[..., 1], bone[..., 2], 0 * x, -bone[..., 0]), -1)  # quaternion w x y z from the y axis to the bone
    turn /= np.linalg.norm(turn, axis=-1, keepdims=True)
    turn[:, ENDS] = 0
    depth = 256.3 + 366.4 * x / z, 208.5 - 366.4 * y / z  # pixels of the 512 x 424 depth and the 1920 x 1080 colour picture
    colour = 976.0 + 1055.0 * x / z, 567.3 - 1056.5 * y / z
    numbers = np.concatenate((np.stack((x, y, z, *depth, *colour), -1), turn, state[..., None]), -1).reshape(len(J), -1)
    upright = J[:, 20] - J[:, 0]
    lean = np.stack((upright[:, 0], -upright[:, 2]), 1) / np.linalg.norm(upright, axis=1, keepdims=True)
    form = f"{number} 0 1 1 1 1 0 %.7G %.7G 2\n25\n" + "\n".join(["%.7G " * 11 + "%d"] * 25)
    return [form % tuple(row) for row in np.concatenate((lean, numbers), 1).tolist()]


def _write_performance(job: tuple) -> int:
    folder, *performance = job
    for name, text in _perform(*performance):
        part = Path(folder, f".{name}.part")
        part.write_bytes(text)
        os.replace(part, Path(folder, f"{name}.skeleton"))
    return 3


def write_synthetic(folder: Path | str, seed: int = 0, workers: int = 0, subjects: tuple[int, ...] = SUBJECTS, replications: int = 2) -> int:
    """Write every action by every subject, `replications` times, seen by three cameras, as .skeleton files; returns how many were written.

    A file depends on its name and the seed alone. What is there already is kept, so that an interrupted run goes on; clips of another seed
    are replaced. A folder with .skeleton files of other origin is refused (ValueError). workers = 0: a process for each core.
    """
    folder, origin = Path(folder), f"synthetic clips, version {SYNTHETIC_VERSION}, seed {seed}\n"
    if seed < 0 or replications < 1 or not subjects or not all(1 <= s <= 999 for s in subjects):
        raise ValueError(f"synthetic clips: seed = {seed} must not be negative, replications = {replications} at least 1, subjects in 1..999")
    folder.mkdir(parents=True, exist_ok=True)
    mark, old = folder / "ORIGIN", {p.stem for p in folder.glob("*.skeleton")}
    if old and not mark.exists():
        raise ValueError(f"{folder} holds .skeleton files that were not made here: give synthetic clips a folder of their own")
    if not mark.exists() or mark.read_text() != origin:
        for name in old:
            (folder / f"{name}.skeleton").unlink()
        mark.write_text(origin)
        old = set()
    jobs = [(str(folder), seed, a, s, r) for r in range(1, replications + 1) for s in subjects for a in range(len(SYNTHETIC))
            if not old >= {f"S{1 + s % 6:03}C{c:03}P{s:03}R{r:03}A{a + 1:03}" for c in (1, 2, 3)}]
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers < 2:
        return sum(map(_write_performance, jobs))
    with multiprocessing.get_context("spawn").Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        return sum(pool.imap_unordered(_write_performance, jobs, chunksize=4))


# ---------------------------------------------------------------------------------------------------------------------
# Protocols
# ---------------------------------------------------------------------------------------------------------------------

XSUB60 = [1, 2, 4, 5, 8, 9, *range(13, 20), 25, 27, 28, 31, 34, 35, 38]
XSUB120 = [*XSUB60, 45, 46, 47, 49, 50, *range(52, 60), 70, 74, 78, *range(80, 87), 89, *range(91, 96), 97, 98, 100, 103]
PROTOCOLS = {  # training side; the rest tests
    "ntu60": {"xsub": {"field": "subject", "train": XSUB60}, "xview": {"field": "camera", "train": [2, 3], "test": [1]}},
    "ntu120": {"xsub": {"field": "subject", "train": XSUB120}, "xset": {"field": "setup", "train": list(range(2, 33, 2))}},
    "nw_ucla": {"xview": {"field": "camera", "train": [1, 2], "test": [3]},
                "view12": {"field": "camera", "train": [1], "test": [2]},  # to choose hyper-parameters without a look at camera 3
                "view21": {"field": "camera", "train": [2], "test": [1]}},
}
PROTOCOLS["synthetic"] = {**PROTOCOLS["ntu60"], "xset": PROTOCOLS["ntu120"]["xset"]}
WITHIN = {"ntu60": {"setup": 17, "subject": 40, "label": 59}, "ntu120": {"setup": 32, "subject": 106, "label": 119}}


def sides(rule: dict, clips: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Which clips (N,) train and which test under a rule."""
    value = clips[rule["field"]]
    train = np.isin(value, rule["train"]) if "train" in rule else ~np.isin(value, rule["test"])
    return train, np.isin(value, rule["test"]) if "test" in rule else ~train


def check_rules(protocols: dict) -> dict:
    for name, rule in protocols.items():
        if not isinstance(rule, dict) or set(rule) - {"field", "train", "test"} or not {"train", "test"} & set(rule):
            raise ValueError(f'data.protocols.{name} = {rule}: must look like {{ field = "subject", train = [1, 2] }}, with train, test or both')
        if rule.get("field") not in ("subject", "camera", "setup", "replication"):
            raise ValueError(f"data.protocols.{name}.field = {rule.get('field')!r}: must be subject, camera, setup or replication")
        for side in {"train", "test"} & set(rule):
            if not isinstance(rule[side], list) or not all(type(v) is int for v in rule[side]):
                raise ValueError(f"data.protocols.{name}.{side} = {rule[side]!r}: must be a list of whole numbers, such as [1, 2]")
        if both := sorted(set(rule.get("train", ())) & set(rule.get("test", ()))):
            raise ValueError(f"data.protocols.{name}: {rule['field']} {both[0]} stands on both sides")
    return protocols


# ---------------------------------------------------------------------------------------------------------------------
# The store
# ---------------------------------------------------------------------------------------------------------------------

NUMBERS = ("label", "subject", "camera", "setup", "replication")


def check(clip: Clip, V: int, num_classes: int) -> str:
    """Why a clip cannot be stored; empty if it can."""
    if not 0 <= clip.label < num_classes:
        return f"label {clip.label} is out of range: data.num_classes = {num_classes} allows 0 to {num_classes - 1}"
    M, L, joints = clip.joints.shape[:3]
    if joints != V:
        return f"{joints} joints, the skeleton has {V}"
    if not 1 <= M <= 2 or L < 1:
        return f"{M} bodies, {L} frames: needs one or two bodies and a frame"
    if not np.isfinite(clip.joints).all():
        return f"frame {int(np.argwhere(~np.isfinite(clip.joints))[0][1])}: a coordinate is not finite"
    return "" if clip.joints.any() else "no body in any frame"


def write_shard(path: Path, found: list[Clip | Skip], V: int, num_classes: int) -> None:
    """One shard: joints, table and skips of some clips, written whole or not at all."""
    clips, skips = [], []
    for c in found:
        if isinstance(c, Clip) and (why := check(c, V, num_classes)):
            c = Skip(c.name, 0, why)
        elif isinstance(c, Clip):
            c.joints = c.joints[c.joints.any((1, 2, 3))]  # without a body that is never seen
        (skips if isinstance(c, Skip) else clips).append(c)
    splits = sorted({s for c in clips for s in c.splits})
    table = {k: np.array([getattr(c, k) for c in clips], np.int64) for k in NUMBERS}
    table |= {f"split_{s}": np.array([c.splits.get(s, -1) for c in clips], np.int64) for s in splits}
    table |= {"name": np.array([c.name for c in clips], str), "length": np.array([c.joints.shape[1] for c in clips], np.int64),
              "bodies": np.array([c.joints.shape[0] for c in clips], np.int64)}
    frames = np.concatenate([c.joints.reshape(-1, V, 3) for c in clips]) if clips else np.zeros((0, V, 3), np.float32)
    part = path.with_suffix(f".{os.getpid()}")  # a process whose parent was killed may still be at the same shard
    with open(part, "wb") as f:
        np.savez(f, frames=frames, skips=np.array(json.dumps([asdict(s) for s in skips])), **table)
    os.replace(part, path)


def _worker() -> None:
    """Leave Ctrl-C to the parent, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True).start()


def _ntu_shard(job: tuple) -> int:
    path, files, V, num_classes = job
    write_shard(path, [read_ntu_file(Path(f)) for f in files], V, num_classes)
    return len(files)


def ntu_shards(raw: Path, partial: Path, cfg, V: int) -> int:
    """Parse .skeleton files in parallel into shards; those that stand already stay. Returns how many the list of unusable samples left out."""
    from tqdm import tqdm
    unusable = unusable_samples(cfg)
    within = WITHIN.get(cfg.data.name, {})
    files, left_out = [], 0
    for path in sorted(raw.rglob("*.skeleton"), key=lambda p: p.name):
        try:
            numbers = ntu_fields(path.stem)
        except ValueError:
            numbers = {}
        if path.stem in unusable:
            left_out += 1
        elif all(numbers.get(k, 0) <= most for k, most in within.items()):
            files.append(str(path))
    if not files:
        raise ValueError(f"raw = {raw}: no .skeleton file of {cfg.data.name} in it or below")
    jobs = [(partial / f"shard-{i // SHARD:05d}.npz", files[i:i + SHARD], V, cfg.data.num_classes) for i in range(0, len(files), SHARD)]
    stamp = hashlib.sha256("\n".join(f"{f} {os.stat(f).st_size} {os.stat(f).st_mtime_ns}" for f in files).encode()).hexdigest()
    fresh_partial(partial, f"1 {stamp} {cfg.data.name} {cfg.data.num_classes} {V}")
    done = sum(len(j[1]) for j in jobs if j[0].exists())
    todo = [j for j in jobs if not j[0].exists()]
    workers = min(cfg.data.workers or os.cpu_count() or 1, max(1, len(todo)))
    with tqdm(total=len(files), initial=done, desc="parse", unit="file", mininterval=0.5 if sys.stderr.isatty() else 30) as bar:
        if workers == 1:
            for job in todo:
                bar.update(_ntu_shard(job))
        else:
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _worker)
            try:
                for done in as_completed([pool.submit(_ntu_shard, job) for job in todo]):
                    bar.update(done.result())
            except BrokenProcessPool:
                raise OSError(f"a parsing process was killed (out of memory?): try data.workers={max(1, workers // 2)}; "
                              "the same command goes on from here") from None
            finally:
                pool.shutdown(cancel_futures=True)
    return left_out


def unusable_samples(cfg) -> set[str]:
    """Names in the list that the recipe gives, a file beside the recipes."""
    if not cfg.data.missing:
        return set()
    path = Path(__file__).resolve().parent.parent / "recipes" / cfg.data.missing
    if not path.is_file():
        raise ValueError(f"data.missing = {cfg.data.missing!r}: no such file beside the recipes")
    return set(path.read_text().split())


def fresh_partial(partial: Path, key: str) -> None:
    """Shards of an interrupted run are kept only where recordings and recipe are still the same."""
    if not (partial / "key").exists() or (partial / "key").read_text() != key:
        for path in partial.iterdir():  # not the folder itself, which is locked
            path.unlink()
        (partial / "key").write_text(key)


READERS = {"nw_ucla": read_nw_ucla, "ctrgcn": read_ctrgcn, "pyskl": read_pyskl, "arrays": read_arrays}


def merge(partial: Path, skeleton, cfg, left_out: int) -> dict:
    """Shards -> frames.npy and clips.npz in the partial folder; returns meta. Frames pass through memory one shard at a time."""
    shards = sorted(partial.glob("shard-*.npz"))
    tables, skips, seen = [], [], set()
    for path in shards:
        with np.load(path) as z:
            t = {k: z[k] for k in z.files if k not in ("frames", "skips")}
            skips += json.loads(str(z["skips"]))
        t["keep"] = np.array([not (n in seen or seen.add(n)) for n in t["name"].tolist()], bool)
        skips += [asdict(Skip(str(n), 0, "a second clip of this name")) for n in t["name"][~t["keep"]]]
        tables.append(t)
    rows = sum(int((t["length"] * t["bodies"])[t["keep"]].sum()) for t in tables)
    if not rows:
        raise NothingStored(skips)
    V = skeleton.num_joints
    bones = np.array([b for b in skeleton.bones if b[0] != b[1]])
    quality, at, offset = {k: [] for k in ("lengths", "missing", "constant", "digest", "flat")}, 0, []
    with open(partial / "frames.npy", "wb") as f:  # written, not mapped: a full disk is then an error, not a crash
        np.lib.format.write_array_header_1_0(f, {"descr": "<f4", "fortran_order": False, "shape": (rows, V, 3)})
        for path, t in zip(shards, tables, strict=True):
            with np.load(path) as z:
                block = z["frames"]
            f.write(block[np.repeat(t["keep"], t["length"] * t["bodies"])].tobytes())
            start = np.concatenate([[0], np.cumsum(t["length"] * t["bodies"])])
            for i in np.flatnonzero(t["keep"]):
                L, M = int(t["length"][i]), int(t["bodies"][i])
                x = block[start[i]:start[i + 1]]
                offset.append([at, at + L if M == 2 else -1])
                at += len(x)
                body = x[:L]
                there = (body != 0).any(2)
                quality["lengths"].append(np.median(np.linalg.norm(body[:, bones[:, 0]] - body[:, bones[:, 1]], axis=2)[there.any(1)], axis=0))
                quality["missing"].append(int((~there).any(1).sum()))
                quality["flat"].append(not body[..., 2].any())
                quality["constant"].append(L > 1 and not np.ptp(body, axis=0).any())
                quality["digest"].append(hashlib.blake2b(x.tobytes(), digest_size=16).digest())
    names = [k for k in tables[0] if k not in ("keep", "bodies")]
    for t in tables:
        names += [k for k in t if k.startswith("split_") and k not in names]
    clips = {k: np.concatenate([t[k][t["keep"]] if k in t else np.full(t["keep"].sum(), -1) for t in tables]) for k in names}
    clips["offset"] = np.array(offset, np.int64)
    with open(partial / "clips.npz", "wb") as f:
        np.savez(f, **clips)
    known = {name: rule for name, rule in PROTOCOLS.get(cfg.data.name, {}).items() if clips[rule["field"]].any()}
    protocols = {**known, **check_rules(cfg.data.protocols),
                 **{k[6:]: {"field": k, "train": [0], "test": [1]} for k in clips if k.startswith("split_")}}
    counts = {name: dict(zip(("train", "test"), (int(s.sum()) for s in sides(rule, clips)), strict=True)) for name, rule in protocols.items()}
    return {"format": 1, "dataset": cfg.data.name, "reader": cfg.data.reader, "skeleton": skeleton.to_dict(), "protocols": protocols,
            "counts": counts, "skipped": skips, "left_out": left_out, "quality": report(clips, quality, protocols, skeleton, bones),
            "versions": {"python": sys.version.split()[0], "numpy": np.__version__}}


class NothingStored(ValueError):
    """No clip could be read; says so with the first reason."""

    def __init__(self, skips: list[dict]):
        super().__init__(f"nothing stored: {len(skips)} files or clips could not be read; the first: {told(skips[0])}" if skips
                         else "nothing stored: no clip found")


def told(skip: dict) -> str:
    line = f", line {skip['line']}" if skip["line"] else ""
    return f"{skip['file']}{line}: {skip['reason']}"


def report(clips: dict, quality: dict, protocols: dict, skeleton, bones: np.ndarray) -> dict:
    """Quality of a store: counts, lengths, bodies, missing joints, constant clips, bones out of range, copies, and copies across a split."""
    length, bone = clips["length"], np.array(quality["lengths"])
    usual = np.median(bone, axis=0)
    odd = np.flatnonzero(((bone < 0.5 * usual) | (bone > 2 * usual)).any(1) & (usual > 0).any())
    copies: dict[bytes, list[int]] = {}
    for i, d in enumerate(quality["digest"]):
        copies.setdefault(d, []).append(i)
    doubles = [group for group in copies.values() if len(group) > 1]
    across = {}
    for name, rule in protocols.items():
        train, test = sides(rule, clips)
        across[name] = sum(int(test[i]) for group in doubles if train[group].any() for i in group)
    names = clips["name"]
    return {
        "clips": len(length), "frames": [int(length.min()), float(np.median(length)), int(length.max())],
        "two_bodies": int((clips["offset"][:, 1] >= 0).sum()), "missing_joints": int((np.array(quality["missing"]) > 0).sum()),
        "longest_bone": float(usual.max()), "flat": all(quality["flat"]), "constant": [str(n) for n in names[np.array(quality["constant"])]],
        "odd_bones": [f"{names[i]}: {skeleton.joints[bones[int(np.argmax(np.abs(np.log((bone[i] + 1e-6) / (usual + 1e-6)))))][0]]}" for i in odd],
        "copies": [[str(names[i]) for i in g] for g in doubles], "test_clips_in_training": across,
        **{f"per_{k}": {str(v): int(n) for v, n in sorted(Counter(clips[k].tolist()).items())} for k in ("label", "subject", "camera", "setup")}}


def show_report(meta: dict, store: Path, show: int = 20) -> None:
    """The report as a few lines; everything it cuts short stands in meta.json."""
    q = meta["quality"]
    print(f"{store}: {q['clips']} clips, {q['frames'][0]} to {q['frames'][2]} frames (median {q['frames'][1]:g}), {q['two_bodies']} with two bodies")
    for what, key in (("classes", "per_label"), ("subjects", "per_subject"), ("cameras", "per_camera"), ("setups", "per_setup")):
        if len(d := q[key]) > 1:
            print(f"  {len(d)} {what} with {min(d.values())} to {max(d.values())} clips each")
    for name, n in meta["counts"].items():
        twice = q["test_clips_in_training"].get(name, 0)
        note = f"; {twice} test clips are copies of training clips" if twice else ""
        print(f"  {name}: {n['train']} training, {n['test']} test{note}" + ("" if n["train"] and n["test"] else "  <- one side is empty"))
    print(f"  {q['missing_joints']} clips with missing joints, {len(q['constant'])} constant, {len(q['odd_bones'])} with bones out of range, "
          f"{sum(len(g) - 1 for g in q['copies'])} exact copies; {meta['left_out']} left out by the list of unusable samples")
    if q["longest_bone"] > 5 and not q["flat"]:
        print(f"  the longest bone usually measures {q['longest_bone']:.4g}: are the joints in metres?", file=sys.stderr)
    for s in meta["skipped"][:show]:
        print(f"  skipped {told(s)}", file=sys.stderr)
    if len(meta["skipped"]) > show:
        print(f"  ... and {len(meta['skipped']) - show} more, all in {store / 'meta.json'}", file=sys.stderr)


def skeleton_of(cfg, raw: Path):
    """The skeleton the recipe names, or the one the recordings bring."""
    from last import SKELETONS, Skeleton, nearest
    brought = metadata(raw).get("skeleton") if cfg.data.reader == "arrays" else None
    if cfg.data.reader == "pyskl" and not cfg.data.skeleton:
        joints = {np.shape(a.get("keypoint"))[-2:-1] for a in read_annotations(raw)["annotations"] if isinstance(a, dict)}
        brought = {((17,),): "coco17", ((25,),): "ntu25"}.get(tuple(joints))
    if isinstance(brought, dict):
        try:
            brought = Skeleton.from_dict(brought)
        except ValueError as e:
            raise ValueError(f"{raw / 'skeleton.json' if raw.is_dir() else raw.with_suffix('.json')}: {e}") from None
    elif brought is not None:
        if brought not in SKELETONS:
            raise ValueError(f"skeleton {brought!r} of {raw} is unknown{nearest(brought, SKELETONS)}; or write it out in full")
        brought = SKELETONS[brought]
    if not cfg.data.skeleton:
        if brought is None:
            raise ValueError(f"data.skeleton is empty and {raw} brings none; name one of {', '.join(SKELETONS)}")
        return brought
    named = SKELETONS[cfg.data.skeleton]
    if brought is not None and (brought.name, brought.num_joints) != (named.name, named.num_joints):
        raise ValueError(f"data.skeleton = {named.name!r}, but {raw} brings {brought.name!r} of {brought.num_joints} joints: "
                         'give data.skeleton="" to take that')
    return named


def class_names(cfg, raw: Path) -> list[str]:
    if cfg.data.reader == "arrays" and (classes := metadata(raw).get("classes")):
        if len(classes) != cfg.data.num_classes:
            raise ValueError(f"data.num_classes = {cfg.data.num_classes}, but {raw} names {len(classes)} classes")
        return list(map(str, classes))
    named = {"nw_ucla": NW_UCLA_CLASSES, "synthetic": SYNTHETIC_ACTIONS, "ntu60": NTU_CLASSES[:60], "ntu120": NTU_CLASSES}.get(cfg.data.name, ())
    return list(named) if len(named) == cfg.data.num_classes else [f"class {k}" for k in range(cfg.data.num_classes)]


def replace_folder(new: Path, old: Path, aside: Path) -> None:
    """Put a complete folder in another's place. The old one is moved aside first: there is no moment with half a store in its place."""
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        os.replace(old, aside)
    try:
        os.replace(new, old)
    except OSError:
        if aside.exists():
            os.replace(aside, old)
        raise
    (aside / "meta.json").unlink(missing_ok=True)  # half deleted, it is no store any more
    shutil.rmtree(aside, ignore_errors=True)


def write_store(raw: Path, store: Path, partial: Path, cfg, skeleton, classes: list[str]) -> dict:
    """Read, merge and put in place; returns meta. On an error the old store stays, and of NTU text the shards that are done."""
    resumable, left_out = cfg.data.reader in ("ntu", "synthetic"), 0
    try:
        if resumable:
            left_out = ntu_shards(raw, partial, cfg, skeleton.num_joints)
        else:
            fresh_partial(partial, os.urandom(8).hex())  # quick to read: always anew
            found, number = READERS[cfg.data.reader](raw, cfg), 0
            while chunk := list(itertools.islice(found, SHARD)):
                write_shard(partial / f"shard-{number:05d}.npz", chunk, skeleton.num_joints, cfg.data.num_classes)
                number += 1
        meta = {**merge(partial, skeleton, cfg, left_out), "classes": classes}
        (partial / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        for path in (*partial.glob("shard-*"), partial / "key"):
            path.unlink()
        for path in partial.iterdir():  # on the disk before it takes the place of what was there
            with open(path, "rb") as f:
                os.fsync(f.fileno())
        replace_folder(partial, store, old_store(store))
    except BaseException as e:
        if not resumable or isinstance(e, NothingStored) or not list(partial.glob("*")):  # empty: only the lock made it
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(e, OSError) and e.filename is None and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(f"{partial} cannot be written ({e.strerror}); {store} is as it was") from None
        raise
    return meta


def old_store(store: Path) -> Path:
    """Where a store waits while another takes its place."""
    return store.with_name(f".{store.name}.old")


def main(argv: list[str]) -> int:
    from last import Data, load_config, locked
    cfg = load_config(argv)
    if unused := [a for a in argv if a.partition("=")[0].partition(".")[0] not in ("recipe", "data", "raw", "seed", "view")]:
        raise ValueError(f"{unused[0]}: phase 0 has no use for it; it writes to data.store=FOLDER, by default stores/<data set>")
    store = cfg.store.resolve()  # where a link leads to
    partial = store.with_name(f"{store.name}.partial")
    aside = old_store(store)
    if cfg.data.reader == "synthetic":
        raw = Path(cfg.raw or f"{store}-raw")
        write_synthetic(raw, cfg.seed, cfg.data.workers)
    elif not cfg.raw:
        raise ValueError(f"no recordings: give raw=FOLDER_OR_FILE for the reader {cfg.data.reader!r}")
    else:
        raw = Path(cfg.raw)
    if not raw.exists():
        raise ValueError(f"raw = {cfg.raw!r}: no such file or folder")
    if not store.exists() and (aside / "meta.json").exists():  # a run was killed between the two renames
        os.replace(aside, store)
    if store.exists() and not (store / "meta.json").exists() and any(store.iterdir()):
        raise ValueError(f"data.store = {store}: holds something that is no clip store, and would be replaced")
    check_rules(cfg.data.protocols)
    if cfg.data.reader == "arrays" and cfg.data.name == Data.name:
        raise ValueError(f"data.name = {cfg.data.name!r} is the default: give your recordings a name of their own in the recipe")
    skeleton, classes = skeleton_of(cfg, raw), class_names(cfg, raw)
    with locked(partial):
        meta = write_store(raw, store, partial, cfg, skeleton, classes)
    show_report(meta, store)
    if meta["quality"]["two_bodies"] and cfg.view.bodies == 1:
        print("  view.bodies = 1: a network sees the first body of each clip; view.bodies=2 shows it both")
    return 3 if meta["skipped"] else 0


if __name__ == "__main__":
    from last import cli
    cli(main)
