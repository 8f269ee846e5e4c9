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
import hashlib
import json
import os
import pickle
import re
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
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
    return frames, {b.decode(errors="replace"): (times[owner == b], joints[owner == b].astype(np.float32)) for b in dict.fromkeys(ids)}


def _parse_plain(data: bytes) -> tuple | None:
    """(frames, body id and frame number of each body seen, joints (N, 25, 3) float64) of a file as the camera wrote it, else None."""
    text = np.frombuffer(data, np.uint8)
    start = np.concatenate([[0], np.flatnonzero(text == 10) + 1])
    gap = np.flatnonzero(text == 32)
    before = np.searchsorted(gap, start)
    fields = np.diff(before, append=len(gap)) + 1
    line = start.tolist()
    frames, at, ids, times, firsts = int(data[:line[1]]), 1, [], [], []
    for t in range(frames):
        bodies = int(data[line[at]:line[at + 1]])
        at += 1
        for _ in range(bodies):
            ids.append(data[line[at]:line[at + 1]].split(b" ", 1)[0])
            if int(data[line[at + 1]:line[at + 2]]) != 25:
                return None
            times.append(t)
            firsts.append(at + 2)
            at += 27
    first = np.array(firsts, np.int64)
    rows = (first[:, None] + np.arange(25)).ravel()
    if data[line[at]:].strip() or (fields[rows] != 12).any() or (fields[first - 2] != 10).any():
        return None
    if not len(rows):
        return frames, ids, times, np.zeros((0, 25, 3))
    ends = gap[before[rows][:, None] + np.arange(3)]
    starts = np.column_stack([start[rows], ends[:, :2] + 1])
    joints, odd = _decimals(text, starts.ravel(), ends.ravel())
    for i in np.flatnonzero(odd):  # 1.2E-05 and the like
        joints[i] = float(data[starts.flat[i]:ends.flat[i]])
    return (frames, ids, times, joints.reshape(-1, 25, 3)) if np.isfinite(joints).all() else None


def _decimals(text: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (N,) that the bytes text[start:end] spell, exactly as float() reads them, and which of them are not plain decimals.

    Horner's rule, one column of right-aligned digits at a time over all numbers. Up to 15 digits make an integer below 2^53 over a
    power of ten, both exact, so that the one division rounds as float() does.
    """
    minus = text[start] == ord("-")
    width = end - start - minus
    columns = min(int(width.max()), 16)
    value, decimals, dots = np.zeros(len(end)), np.zeros(len(end), np.int64), np.zeros(len(end), np.uint8)
    odd = (width < 1) | (width > 16)
    for column in reversed(range(columns)):
        char = text.take(end - 1 - column, mode="clip")
        inside = width > column
        dot = (char == ord(".")) & inside
        digit = char - np.uint8(ord("0"))  # wraps above 9 for all but digits
        odd |= inside & (digit > 9) & ~dot
        value *= 10
        value += digit * (inside & (digit < 10))
        decimals[dot] = column
        dots += dot
    scale = (10.0 ** np.arange(17))[decimals]
    whole = np.floor(value / (10 * scale))  # the dot took a place: what stands before it is ten times too large
    value = np.where(dots == 1, value - 9 * scale * whole, value) / scale
    return np.where(minus, -value, value), odd | (dots > 1) | (width - dots > 15) | (width - dots < 1)


def _parse_careful(data: bytes) -> tuple:
    """The same, line by line."""
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
        if not line.strip().isdigit() or int(line) > most:
            raise Malformed(at, f"{line[:40].decode(errors='replace').strip()!r} is no number of {what}")
        return int(line)

    frames = count("frames", 1_000_000)
    for t in range(frames):
        for _ in range(count("bodies", 20)):
            head = take().split()
            if len(head) != 10:
                raise Malformed(at, f"a body has 10 fields, here are {len(head)}")
            if (n := count("joints", 1000)) != 25:
                raise Malformed(at, f"a body has 25 joints, here are {n}")
            ids.append(head[0])
            times.append(t)
            for _ in range(25):
                numbers = take().split()
                if len(numbers) != 12:
                    raise Malformed(at, f"a joint has 12 numbers, here are {len(numbers)}")
                try:
                    joints += [float(x) for x in numbers[:3]]
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
    def files() -> Iterator[tuple[str, bytes]]:
        if raw.is_dir():
            for path in sorted(raw.rglob("*.json")):
                yield path.name, path.read_bytes()
        else:
            with tarfile.open(raw) as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(".json"):
                        yield Path(member.name).name, tar.extractfile(member).read()
    try:
        for name, text in sorted(files()) if not raw.is_dir() else files():
            try:
                yield parse_nw_ucla(text, name.removesuffix(".json"))
            except Malformed as e:
                yield Skip(name, e.line, e.reason)
            except (ValueError, TypeError) as e:
                yield Skip(name, 0, str(e))
    except tarfile.TarError as e:
        raise ValueError(f"raw = {raw}: is neither a folder of JSON files nor a tar archive ({e})") from None


def as_joints(x) -> np.ndarray:
    """(M, L, V, 3) float32 of an array (L, V, C) or (M, L, V, C), C = 2 or 3, where a third coordinate is added as zero."""
    try:
        x = np.asarray(x, np.float32)
    except (ValueError, TypeError):
        raise ValueError("joints are not a full array of numbers") from None
    if x.ndim == 3:
        x = x[None]
    if x.ndim != 4 or x.shape[-1] not in (2, 3):
        raise ValueError(f"joints have shape {x.shape}: must be (frames, joints, 3) or (bodies, frames, joints, 3)")
    return x if x.shape[-1] == 3 else np.pad(x, [(0, 0)] * 3 + [(0, 1)])


def trimmed(joints: np.ndarray) -> np.ndarray:
    """Without the all-zero frames at the end and the bodies that are never seen."""
    seen = (joints != 0).any((2, 3))
    if not seen.any():
        raise ValueError("no body in any frame")
    return joints[seen.any(1) | (np.arange(len(joints)) == 0), :np.flatnonzero(seen.any(0))[-1] + 1]


def read_ctrgcn(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """CTR-GCN's NTU60_CS.npz and the like: x_train, x_test (N, T, 150), two bodies of 25 joints; y one-hot. Brings the split `given`."""
    with np.load(raw, allow_pickle=False) as z:
        if missing := {"x_train", "y_train", "x_test", "y_test"} - set(z.files):
            raise ValueError(f"{raw}: lacks {', '.join(sorted(missing))}; it holds {', '.join(z.files)}")
        for side, name in enumerate(("train", "test")):
            x, y = z[f"x_{name}"], z[f"y_{name}"]
            if x.ndim != 3 or x.shape[2] % 6 or len(x) != len(y):
                raise ValueError(f"{raw}: x_{name} has shape {x.shape}, y_{name} {y.shape}: expected (clips, frames, 2 * joints * 3) and as many labels")
            for i in range(len(x)):
                try:
                    joints = trimmed(x[i].reshape(len(x[i]), 2, -1, 3).transpose(1, 0, 2, 3).astype(np.float32))
                    yield Clip(f"{name}_{i:06d}", int(y[i].argmax() if y.ndim == 2 else y[i]), joints, splits={"given": side})
                except ValueError as e:
                    yield Skip(f"{raw.name}:x_{name}[{i}]", 0, str(e))


class PlainUnpickler(pickle.Unpickler):
    """Reads numpy arrays and plain containers, nothing else: a pickle can otherwise run any code."""
    ALLOWED = {(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")} | {
        (f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")} | {("numpy", "ndarray"), ("numpy", "dtype")}

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED and not module.startswith("numpy.dtypes"):
            raise ValueError(f"the pickle asks for {module}.{name}: only numpy arrays and plain containers are read, nothing was run")
        return super().find_class(module, name)


def read_pyskl(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """pyskl's annotation pickle {split: {name: [frame_dir]}, annotations: [{frame_dir, label, keypoint (M, L, V, C), ...}]}. Brings its splits:
    xsub_train and xsub_val (or _test) become the protocol xsub. The skeleton follows from V: 17 coco17, 25 ntu25.
    """
    with open(raw, "rb") as f:
        try:
            d = PlainUnpickler(f).load()
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as e:
            raise ValueError(f"{raw}: is no annotation pickle ({e})") from None
    if not isinstance(d, dict) or not {"split", "annotations"} <= d.keys():
        raise ValueError(f"{raw}: lacks the keys split and annotations")
    sides: dict[str, dict[str, int]] = {}
    for name, members in d["split"].items():
        protocol, _, side = name.rpartition("_")
        sides.setdefault(protocol or name, {}).update(dict.fromkeys(members, 0 if side == "train" else 1))
    for a in d["annotations"]:
        name = str(a.get("frame_dir", "?"))
        try:
            try:
                numbers = ntu_fields(name)
            except ValueError:
                numbers = {}
            yield Clip(name, joints=trimmed(as_joints(a["keypoint"])), splits={p: s.get(name, -1) for p, s in sides.items()},
                       **{**numbers, "label": int(a["label"])})
        except (ValueError, KeyError, TypeError) as e:
            yield Skip(f"{raw.name}:{name}", 0, f"lacks {e}" if isinstance(e, KeyError) else str(e))


def read_arrays(raw: Path, cfg) -> Iterator[Clip | Skip]:
    """Anyone's own clips, in one of two forms.

    A folder: <name>.npy (L, V, 3) or (M, L, V, 3) each; labels.csv with a header name,label[,subject,camera,setup,replication,split], the
    label a 0-based number or a class name, the split train or test; skeleton.json {"skeleton": a name or {joints, parents, regions}, "classes": [...]}.
    A packed file x.npz: data (rows, V, 3), offsets (N + 1), names, labels, any of the other columns; beside it x.json like skeleton.json.
    """
    classes = metadata(raw).get("classes", [])
    if raw.is_dir():
        table = raw / "labels.csv"
        if not table.is_file():
            raise ValueError(f"{table}: missing; it lists the clips under the header name,label[,subject,camera,setup,replication,split]")
        with open(table, newline="") as f:
            rows = list(csv.DictReader(f))
        if not rows or not {"name", "label"} <= rows[0].keys():
            raise ValueError(f"{table}: needs a header with name and label, and a line per clip")
        for number, row in enumerate(rows, 2):
            try:
                label = classes.index(row["label"]) if row["label"] in classes else int(row["label"])
                split = {"given": ("train", "test").index(row["split"])} if row.get("split") else {}
                numbers = {k: int(row[k]) for k in ("subject", "camera", "setup", "replication") if row.get(k)}
            except (ValueError, TypeError):
                yield Skip(table.name, number, f"{','.join(map(str, row.values()))!r}: label must be a class name or a number, split train or test, others whole numbers")
                continue
            try:
                yield Clip(row["name"], label, as_joints(np.load(raw / f"{row['name'].removesuffix('.npy')}.npy", allow_pickle=False)), splits=split, **numbers)
            except (ValueError, OSError, EOFError) as e:
                yield Skip(f"{row['name']}.npy", 0, str(e))
        return
    with np.load(raw, allow_pickle=False) as z:
        if missing := {"data", "offsets", "names", "labels"} - set(z.files):
            raise ValueError(f"{raw}: lacks {', '.join(sorted(missing))}; it holds {', '.join(z.files)}")
        a = {k: z[k] for k in z.files}
    N = len(a["names"])
    columns = {k: a[k] for k in ("labels", "subject", "camera", "setup", "replication", "split") if k in a}
    if len(a["offsets"]) != N + 1 or a["offsets"][-1] != len(a["data"]) or any(len(c) != N for c in columns.values()):
        raise ValueError(f"{raw}: {N} names, {len(a['offsets'])} offsets (must be one more, the last one {len(a['data'])}), "
                         + ", ".join(f"{len(c)} {k}" for k, c in columns.items()))
    for i in range(N):
        try:
            yield Clip(str(a["names"][i]), int(a["labels"][i]), as_joints(a["data"][a["offsets"][i]:a["offsets"][i + 1]]),
                       splits={"given": int(a["split"][i])} if "split" in a else {},
                       **{k: int(a[k][i]) for k in ("subject", "camera", "setup", "replication") if k in a})
        except ValueError as e:
            yield Skip(f"{raw.name}:{a['names'][i]}", 0, str(e))


def metadata(raw: Path) -> dict:
    """skeleton.json of a folder, or the .json beside a packed file."""
    path = raw / "skeleton.json" if raw.is_dir() else raw.with_suffix(".json")
    if not path.is_file():
        raise ValueError(f'{path}: missing; it says {{"skeleton": a name or {{joints, parents, regions}}, "classes": [...]}}')
    try:
        return json.loads(path.read_text())
    except ValueError as e:
        raise ValueError(f"{path}: is no JSON ({e})") from None


def read_clip(path: Path | str) -> np.ndarray:
    """Joints (M, L, V, 3) of one file: .skeleton, .json (Northwestern-UCLA) or .npy. ValueError says what is wrong with it."""
    path = Path(path)
    if path.suffix == ".skeleton":
        clip = read_ntu_file(path)
        if isinstance(clip, Skip):
            raise ValueError(f"{path}: {f'line {clip.line}: ' if clip.line else ''}{clip.reason}")
        return clip.joints
    try:
        joints = as_joints(json.loads(path.read_text())["skeletons"] if path.suffix == ".json" else np.load(path, allow_pickle=False))
    except (ValueError, KeyError, TypeError, EOFError) as e:
        raise ValueError(f"{path}: {e}") from None
    if not joints.size or not np.isfinite(joints).all():
        raise ValueError(f"{path}: {'no frame' if not joints.size else 'a coordinate is not finite'}")
    return joints


# ---------------------------------------------------------------------------------------------------------------------
# Protocols
# ---------------------------------------------------------------------------------------------------------------------

XSUB60 = [1, 2, 4, 5, 8, 9, *range(13, 20), 25, 27, 28, 31, 34, 35, 38]
XSUB120 = [*XSUB60, 45, 46, 47, 49, 50, *range(52, 60), 70, 74, 78, *range(80, 87), 89, *range(91, 96), 97, 98, 100, 103]
PROTOCOLS = {  # training side; the rest tests
    "ntu60": {"xsub": {"field": "subject", "train": XSUB60}, "xview": {"field": "camera", "train": [2, 3], "test": [1]}},
    "ntu120": {"xsub": {"field": "subject", "train": XSUB120}, "xset": {"field": "setup", "train": list(range(2, 33, 2))}},
    "nw_ucla": {"xview": {"field": "camera", "train": [1, 2], "test": [3]}},
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
        (skips if isinstance(c, Skip) else clips).append(c)
    splits = sorted({s for c in clips for s in c.splits})
    table = {k: np.array([getattr(c, k) for c in clips], np.int64) for k in NUMBERS}
    table |= {f"split_{s}": np.array([c.splits.get(s, -1) for c in clips], np.int64) for s in splits}
    table |= {"name": np.array([c.name for c in clips], str), "length": np.array([c.joints.shape[1] for c in clips], np.int64),
              "bodies": np.array([c.joints.shape[0] for c in clips], np.int64)}
    frames = np.concatenate([c.joints.reshape(-1, V, 3) for c in clips]) if clips else np.zeros((0, V, 3), np.float32)
    part = path.with_suffix(".tmp")
    with open(part, "wb") as f:
        np.savez(f, frames=frames, skips=np.array(json.dumps([asdict(s) for s in skips])), **table)
    os.replace(part, path)


def _ntu_shard(job: tuple) -> int:
    path, files, V, num_classes = job
    write_shard(path, [read_ntu_file(Path(f)) for f in files], V, num_classes)
    return len(files)


def ntu_shards(raw: Path, partial: Path, cfg, V: int) -> int:
    """Parse .skeleton files in parallel into shards, those that stand already left alone. Returns how many the list of unusable ones left out."""
    from multiprocessing import get_context

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
    fresh_partial(partial, stamp + repr(cfg.data))
    done = sum(len(j[1]) for j in jobs if j[0].exists())
    todo = [j for j in jobs if not j[0].exists()]
    workers = min(cfg.data.workers or os.cpu_count() or 1, max(1, len(todo)))
    with tqdm(total=len(files), initial=done, desc="parse", unit="file", mininterval=0.5 if sys.stderr.isatty() else 30) as bar:
        if workers == 1:
            for job in todo:
                bar.update(_ntu_shard(job))
        else:
            with get_context("spawn").Pool(workers) as pool:
                for n in pool.imap_unordered(_ntu_shard, todo):
                    bar.update(n)
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
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
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
    frames = np.lib.format.open_memmap(partial / "frames.npy", "w+", np.float32, (rows, V, 3))
    bones = np.array([b for b in skeleton.bones if b[0] != b[1]])
    quality, at, offset = {k: [] for k in ("lengths", "missing", "constant", "digest")}, 0, []
    for path, t in zip(shards, tables, strict=True):
        with np.load(path) as z:
            block = z["frames"]
        start = np.concatenate([[0], np.cumsum(t["length"] * t["bodies"])])
        for i in np.flatnonzero(t["keep"]):
            L, M = int(t["length"][i]), int(t["bodies"][i])
            x = block[start[i]:start[i + 1]]
            frames[at:at + len(x)] = x
            offset.append([at, at + L if M == 2 else -1])
            at += len(x)
            body = x[:L]
            there = (body != 0).any(2)
            quality["lengths"].append(np.median(np.linalg.norm(body[:, bones[:, 0]] - body[:, bones[:, 1]], axis=2)[there.any(1)], axis=0))
            quality["missing"].append(int((~there).any(1).sum()))
            quality["constant"].append(L > 1 and not np.ptp(body, axis=0).any())
            quality["digest"].append(hashlib.blake2b(x.tobytes(), digest_size=16).digest())
    frames.flush()
    del frames
    names = [k for k in tables[0] if k not in ("keep", "bodies")]
    for t in tables:
        names += [k for k in t if k.startswith("split_") and k not in names]
    clips = {k: np.concatenate([t[k][t["keep"]] if k in t else np.full(t["keep"].sum(), -1) for t in tables]) for k in names}
    clips["offset"] = np.array(offset, np.int64)
    with open(partial / "clips.npz", "wb") as f:
        np.savez(f, **clips)
    protocols = {**PROTOCOLS.get(cfg.data.name, {}), **check_rules(cfg.data.protocols),
                 **{k[6:]: {"field": k, "train": [0], "test": [1]} for k in clips if k.startswith("split_")}}
    counts = {name: dict(zip(("train", "test"), (int(s.sum()) for s in sides(rule, clips)), strict=True)) for name, rule in protocols.items()}
    return {"format": 1, "dataset": cfg.data.name, "reader": cfg.data.reader, "skeleton": skeleton.to_dict(), "protocols": protocols,
            "counts": counts, "skipped": skips, "left_out": left_out, "quality": report(clips, quality, protocols, skeleton, bones),
            "versions": {"python": sys.version.split()[0], "numpy": np.__version__}}


class NothingStored(ValueError):
    """No clip could be read; carries the skips."""

    def __init__(self, skips: list[dict]):
        first = f"; first: {skips[0]['file']}" + (f", line {skips[0]['line']}" if skips[0]["line"] else "") + f": {skips[0]['reason']}" if skips else ""
        super().__init__(f"nothing stored: {len(skips)} files could not be read{first}")


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
        "constant": [str(n) for n in names[np.array(quality["constant"])]],
        "odd_bones": [f"{names[i]}: {skeleton.joints[bones[int(np.argmax(np.abs(np.log((bone[i] + 1e-6) / (usual + 1e-6)))))][0]]}" for i in odd],
        "copies": [[str(names[i]) for i in g] for g in doubles], "test_clips_in_training": across,
        **{f"per_{k}": {str(v): int(n) for v, n in sorted(Counter(clips[k].tolist()).items())} for k in ("label", "subject", "camera", "setup")}}


def show_report(meta: dict, store: Path, show: int = 20) -> None:
    """The report as a few lines; everything it cuts short stands in meta.json."""
    q = meta["quality"]
    spread = lambda d: f"{len(d)} ({min(d.values())} to {max(d.values())} clips each)"  # noqa: E731
    print(f"{store}: {q['clips']} clips, {q['frames'][0]} to {q['frames'][2]} frames (median {q['frames'][1]:g}), {q['two_bodies']} with two bodies")
    print(f"  classes {spread(q['per_label'])}, subjects {spread(q['per_subject'])}, cameras {spread(q['per_camera'])}, setups {spread(q['per_setup'])}")
    for name, n in meta["counts"].items():
        twice = q["test_clips_in_training"].get(name, 0)
        note = f"; {twice} test clips are copies of training clips" if twice else ""
        print(f"  {name}: {n['train']} training, {n['test']} test{note}" + ("" if n["train"] and n["test"] else "  <- one side is empty"))
    print(f"  {q['missing_joints']} clips with missing joints, {len(q['constant'])} constant, {len(q['odd_bones'])} with bones out of range, "
          f"{sum(len(g) - 1 for g in q['copies'])} exact copies" + (f", {meta['left_out']} on the list of unusable samples" if meta["left_out"] else ""))
    for s in meta["skipped"][:show]:
        print(f"  skipped {s['file']}" + (f", line {s['line']}" if s["line"] else "") + f": {s['reason']}", file=sys.stderr)
    if len(meta["skipped"]) > show:
        print(f"  ... and {len(meta['skipped']) - show} more, all in {store / 'meta.json'}", file=sys.stderr)


def skeleton_of(cfg, raw: Path):
    """The skeleton the recipe names, or the one the recordings bring."""
    from last import SKELETONS, Skeleton, nearest
    brought = metadata(raw).get("skeleton") if cfg.data.reader == "arrays" else None
    if isinstance(brought, dict):
        brought = Skeleton.from_dict(brought)
    elif brought is not None:
        if brought not in SKELETONS:
            raise ValueError(f"skeleton {brought!r} of {raw} is unknown{nearest(brought, SKELETONS)}; write it out as {{joints, parents, regions}}")
        brought = SKELETONS[brought]
    if not cfg.data.skeleton:
        if brought is None:
            raise ValueError(f"data.skeleton is empty and {raw} brings none; name one of {', '.join(SKELETONS)}")
        return brought
    named = SKELETONS[cfg.data.skeleton]
    if brought is not None and (brought.name, brought.num_joints) != (named.name, named.num_joints):
        raise ValueError(f"data.skeleton = {named.name!r}, but {raw} brings {brought.name!r} of {brought.num_joints} joints; leave data.skeleton empty to take that")
    return named


def class_names(cfg, raw: Path) -> list[str]:
    if cfg.data.reader == "arrays" and (classes := metadata(raw).get("classes")):
        if len(classes) != cfg.data.num_classes:
            raise ValueError(f"data.num_classes = {cfg.data.num_classes}, but {raw} names {len(classes)} classes")
        return list(map(str, classes))
    named = {"nw_ucla": NW_UCLA_CLASSES, "synthetic": SYNTHETIC_ACTIONS}.get(cfg.data.name, ())
    return list(named) if len(named) == cfg.data.num_classes else [f"A{k + 1:03d}" for k in range(cfg.data.num_classes)]


def replace_folder(new: Path, old: Path) -> None:
    """Put a complete folder in another's place: the old one is moved aside first, so that a whole store stands at any moment but one rename."""
    aside = old.with_name(f".{old.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        os.replace(old, aside)
    os.replace(new, old)
    shutil.rmtree(aside, ignore_errors=True)


def main(argv: list[str]) -> int:
    from last import load_config
    cfg = load_config(argv)
    store, partial = cfg.store, cfg.store.with_name(f"{cfg.store.name}.partial")
    if cfg.data.reader == "synthetic":
        raw = Path(cfg.raw or f"{store}-raw")
        write_synthetic(raw, cfg.seed, cfg.data.workers)
    elif not cfg.raw:
        raise ValueError(f"no recordings: give raw=FOLDER_OR_FILE for the reader {cfg.data.reader!r}")
    else:
        raw = Path(cfg.raw)
    if not raw.exists():
        raise ValueError(f"raw = {cfg.raw!r}: no such file or folder")
    skeleton, classes = skeleton_of(cfg, raw), class_names(cfg, raw)
    left_out = 0
    if cfg.data.reader in ("ntu", "synthetic"):
        left_out = ntu_shards(raw, partial, cfg, skeleton.num_joints)
    else:
        fresh_partial(partial, os.urandom(8).hex())  # quick to read: always anew
        found = READERS[cfg.data.reader](raw, cfg)
        while chunk := [c for _, c in zip(range(SHARD), found, strict=False)]:
            write_shard(partial / f"shard-{sum(1 for _ in partial.glob('shard-*')):05d}.npz", chunk, skeleton.num_joints, cfg.data.num_classes)
    meta = {**merge(partial, skeleton, cfg, left_out), "classes": classes}
    for path in (*partial.glob("shard-*"), partial / "key"):
        path.unlink()
    (partial / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    replace_folder(partial, store)
    show_report(meta, store)
    return 3 if meta["skipped"] else 0


if __name__ == "__main__":
    from last import cli
    cli(main)
