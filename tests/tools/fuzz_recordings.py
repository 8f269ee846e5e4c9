"""What `just fuzz` feeds the readers of recordings: valid inputs, how they change, and the reader that takes them."""
from __future__ import annotations

import io
import json
import lzma
import os
import pickle
import random
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tomli

from phases.common.command import build
from phases.common.files import ROOT
from phases.recordings.arrays import read_arrays
from phases.recordings.clips import Clip, Skip
from phases.recordings.metres import as_joints
from phases.recordings.ntu import parse_ntu, read_ntu_file
from phases.recordings.nw_ucla import read_nw_ucla
from phases.recordings.poses import load_pose
from phases.recordings.proposal import propose, recipe_text
from phases.recordings.readers import READERS, read_clip
from phases.recordings.sources import recorded_classes, recorded_skeleton
from phases.recordings.store import reason_to_skip
from phases.recordings.survey import look
from phases.training.recipe import Config, load_config
from tests.helpers.recordings import names, ntu_text, walker
from tests.helpers.reference import reference_parse
from tests.tools.mutations import Target, changed_json, changed_npy, changed_zip, damaged

PACKED = load_config(["recipe=utd_mhad", "data.name=own", "data.num_classes=2", "data.split=given"]).data
OWN = load_config(["recipe=utd_mhad", "data.name=own", "data.num_classes=2", 'data.skeleton=""']).data
LABELS = b"name,label,subject,split\na,wave,1,train\nb,1,2,test\n"
NAMES = "name;label;subject\na;wave;Zoë\nb;1;Bo\n".encode("latin-1")


class Different(AssertionError):
    """A reader and a naive one accept the same input and read different things."""


def recording_targets(folder: Path) -> list[Target]:
    """The readers of phase 0, of own clips, of one clip, and adopt; they write below a folder."""
    return [ntu_target(folder), *ucla_targets(folder), *packed_targets(folder), *own_targets(folder),
            pose_target(folder), clip_target(folder), adopt_target(folder)]


def saved(save: Callable, *args, **kwargs) -> bytes:
    """What a function writes into a file."""
    out = io.BytesIO()
    save(out, *args, **kwargs)
    return out.getvalue()


def real(pattern: str) -> list[Path]:
    """Real recordings, where there are any."""
    folder = Path(os.environ.get("LAST_TEST_DATA") or ROOT.parent / "shared" / "data")
    return sorted(folder.glob(pattern))


def kept(found: Iterable[Clip | Skip], V: int, num_classes: int) -> bool:
    """Whether each item that a reader yields is a clip that a store takes; a skip is one line."""
    good = True
    for item in found:
        if not isinstance(item, Skip):
            good &= not reason_to_skip(item, V, num_classes)
            continue
        if not item.reason or "\n" in item.reason:
            raise Different(f"a skip without a reason, or of several lines: {item.reason[:80]!r}")
        good = False
    return good


# ---------------------------------------------------------------------------------------------------------------------
# NTU RGB+D
# ---------------------------------------------------------------------------------------------------------------------

def first_frames(text: bytes, count: int) -> bytes:
    """A .skeleton file of its first frames."""
    lines = text.splitlines(keepends=True)
    end = 1
    for _ in range(count):
        end += 1 + 27 * int(lines[end])
    return lines[0].replace(str(int(lines[0])).encode(), str(count).encode()) + b"".join(lines[1:end])


def read_naively(path: Path) -> list[tuple[int, list]]:
    """(frame, joints) of every body, sorted, as the field's parser reads them."""
    found = []
    for t, bodies in enumerate(reference_parse(path)):
        for body in bodies:
            found.append((t, np.float32([[joint[k] for k in "xyz"] for joint in body["joints"]])))
    return comparable(found)


def read_here(data: bytes) -> list[tuple[int, list]]:
    """The same of our parser."""
    found = []
    for times, tracked in parse_ntu(data)[1].values():
        for t, joints in zip(times.tolist(), tracked, strict=True):
            found.append((t, np.float32(joints)))
    return comparable(found)


def comparable(found: list[tuple[int, np.ndarray]]) -> list[tuple[int, list]]:
    """Bodies sorted; joints that are missing, NaN, as one number, and no body that lacks all of them."""
    bodies = []
    for t, joints in found:
        missing = np.isnan(joints).any(1, keepdims=True)
        if not missing.all():
            bodies.append((t, np.where(missing, np.float32(1e30), joints).tolist()))
    return sorted(bodies)


def ntu_target(folder: Path) -> Target:
    path = folder / f"{names(1)[0]}.skeleton"

    def take(data: bytes) -> bool:
        path.write_bytes(data)
        clip = read_ntu_file(path)

        # what both parsers accept, they read alike
        try:
            ours = read_here(data)
            theirs = read_naively(path)
        except Exception:
            return kept([clip], 25, 60)
        if ours != theirs:
            raise Different("parse_ntu and reference_parse read different joints")
        return kept([clip], 25, 60)

    # one body, another end of line, two bodies with a gap; two frames of each real recording
    two = [{1: np.zeros((25, 3)) + 0.5, 2: np.ones((25, 3))}, {}, {2: np.ones((25, 3))}]
    seeds = [ntu_text(walker(2)), ntu_text(walker(1), "\r\n"), ntu_text(two)]
    seeds += [first_frames(lzma.decompress(p.read_bytes()), 2) for p in real("ntu-samples/*.skeleton.xz")]
    return Target("ntu", seeds, take)


# ---------------------------------------------------------------------------------------------------------------------
# Northwestern-UCLA
# ---------------------------------------------------------------------------------------------------------------------

def ucla_text(length: int, label: object = 1) -> bytes:
    """The JSON of one clip."""
    joints = np.random.default_rng(length).normal(0, 1, (length, 20, 3)).round(4)
    return json.dumps({"file_name": "a", "skeletons": joints.tolist(), "label": label}).encode()


def ucla_tar(mode: str) -> bytes:
    """An archive of three clips, and of a link that leads elsewhere."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for i in range(3):
            info = tarfile.TarInfo(f"all_sqe/a01_s01_e0{i}_v01.json")
            info.size = len(ucla_text(1 + i))
            archive.addfile(info, io.BytesIO(ucla_text(1 + i)))

        link = tarfile.TarInfo("all_sqe/../a01_s02_e00_v01.json")
        link.type = tarfile.SYMTYPE
        link.linkname = "/etc/passwd"
        archive.addfile(link)
    return out.getvalue()


def ucla_targets(folder: Path) -> list[Target]:
    clips = folder / "sqe"
    clips.mkdir()
    archive = folder / "all.tar"

    def take_json(data: bytes) -> bool:
        (clips / "a01_s01_e00_v01.json").write_bytes(data)
        return kept(read_nw_ucla(clips, PACKED), 20, 10)

    def take_tar(data: bytes) -> bool:
        archive.write_bytes(data)
        return kept(read_nw_ucla(archive, PACKED), 20, 10)

    # two frames of a real clip, too
    seeds = [ucla_text(1), ucla_text(3), ucla_text(2, "4")]
    for path in real("nw-ucla.tar.xz"):
        with tarfile.open(path) as t:
            member = next(m for m in t if m.name.endswith(".json"))
            clip = json.loads(t.extractfile(member).read())
        seeds.append(json.dumps(clip | {"skeletons": clip["skeletons"][:2]}).encode())

    return [Target("nw_ucla", seeds, take_json, changed_json),
            Target("tar", [ucla_tar("w"), ucla_tar("w:gz"), ucla_tar("w:xz")], take_tar)]


# ---------------------------------------------------------------------------------------------------------------------
# Many clips in one file
# ---------------------------------------------------------------------------------------------------------------------

def packed_targets(folder: Path) -> list[Target]:
    rng = np.random.default_rng(0)
    beside = json.dumps({"skeleton": "kinect20", "classes": ["wave", "sit"]})

    def reader(name: str, suffix: str, V: int) -> Callable[[bytes], bool]:
        path = folder / f"{name}{suffix}"
        (folder / f"{name}.json").write_text(beside)

        def take(data: bytes) -> bool:
            path.write_bytes(data)
            return kept(READERS[name](path, PACKED), V, 60)
        return take

    # CTR-GCN's arrays, labels one-hot
    flat = rng.normal(0, 1, (3, 4, 150)).astype(np.float32)
    hot = np.eye(60)[[1, 5, 59]]
    ctrgcn = [saved(save, x_train=flat, y_train=hot, x_test=flat[:1], y_test=hot[:1])
              for save in (np.savez, np.savez_compressed)]

    # our own
    own = saved(np.savez, data=rng.normal(size=(7, 20, 3)).astype("f4"), offsets=[0, 3, 7], names=["a", "b"],
                labels=["sit", "0"], subject=[1, 3], split=["train", "test"])

    # pyskl's pickles
    points = []
    for i, name in enumerate(("S001C001P001R001A003", "clip")):
        points.append({"frame_dir": name, "label": i, "total_frames": 2,
                       "keypoint": rng.normal(size=(1, 2, 25, 3)).astype("f2"),
                       "keypoint_score": np.ones((1, 2, 25), "f4"), "img_shape": (1080, 1920)})
    d = {"split": {"xsub_train": ["clip"], "xsub_val": np.array(["S001C001P001R001A003"])}, "annotations": points}
    pickles = [pickle.dumps(d, protocol) for protocol in (0, 2, 3, 4, 5)] + [pickle.dumps(points, 4)]

    return [Target("ctrgcn", ctrgcn, reader("ctrgcn", ".npz", 25), changed_zip),
            Target("pickle", pickles, reader("pyskl", ".pkl", 25)),
            Target("packed", [own], reader("arrays", ".npz", 20), changed_zip)]


# ---------------------------------------------------------------------------------------------------------------------
# A folder of own clips
# ---------------------------------------------------------------------------------------------------------------------

def own_arrays() -> list[bytes]:
    """A clip as .npy in several forms: two bodies, flat, another byte order, another order in memory."""
    x = np.random.default_rng(0).normal(size=(4, 20, 3)).astype("f4")
    forms = (x, np.stack([x, x]), x[..., :2], x.astype(">f8"), np.asfortranarray(x))
    return [saved(np.save, form) for form in forms]


def own_skeletons() -> list[bytes]:
    """skeleton.json: one by its name, one written out."""
    arm = {"name": "arm", "joints": [f"left joint {v}" for v in range(20)], "parents": [0, *range(19)],
           "regions": {"torso": list(range(10)), "left_arm": list(range(10, 20))}, "pairs": [[1, 2]]}
    return [json.dumps({"skeleton": s, "classes": ["wave", "sit"]}).encode() for s in ("kinect20", arm)]


def own_targets(folder: Path) -> list[Target]:
    raw = folder / "raw"
    raw.mkdir()
    # a good folder, of which one file changes
    arrays = own_arrays()
    skeletons = own_skeletons()
    files = {"a.npy": arrays[0], "b.npy": arrays[0], "labels.csv": LABELS, "skeleton.json": skeletons[0]}

    def folder_with(name: str) -> Callable[[bytes], bool]:
        def take(data: bytes) -> bool:
            for file, good in files.items():
                (raw / file).write_bytes(data if file == name else good)
            skeleton = recorded_skeleton(OWN, raw)
            recorded_classes(OWN, raw)
            return kept(read_arrays(raw, OWN), skeleton.num_joints, 2)
        return take

    return [Target("npy", arrays, folder_with("a.npy"), changed_npy),
            Target("labels", [LABELS, NAMES], folder_with("labels.csv")),
            Target("skeleton", skeletons, folder_with("skeleton.json"), changed_json)]


def adopt_target(folder: Path) -> Target:
    """adopt looks at four clips of two people, one of them changed, and writes a recipe that is valid."""
    raw = folder / "adopted"
    raw.mkdir()
    # three of the clips stay as they are
    arrays = own_arrays()
    (raw / "labels.csv").write_text("name,label,subject\na,0,1\nb,1,1\nc,0,2\nd,1,2\n")
    (raw / "skeleton.json").write_bytes(own_skeletons()[0])
    for name in "bcd":
        (raw / f"{name}.npy").write_bytes(arrays[0])

    def take(data: bytes) -> None:
        (raw / "a.npy").write_bytes(data)
        survey = look(raw)
        build(Config, tomli.loads(recipe_text("own", raw, survey, propose(survey))))

    return Target("adopt", arrays, take, changed_npy)


# ---------------------------------------------------------------------------------------------------------------------
# One clip
# ---------------------------------------------------------------------------------------------------------------------

def raise_if_odd(joints: np.ndarray, reader: str) -> None:
    """Different, unless joints are (M, L, V, 3) finite numbers."""
    if joints.ndim != 4 or not np.isfinite(joints).all():
        raise Different(f"{reader} gives joints of shape {joints.shape}")


def clip_target(folder: Path) -> Target:
    """read_clip on an array or an archive of arrays."""
    x = np.random.default_rng(0).normal(size=(4, 20, 3)).astype("f4")
    clips = [*own_arrays(), saved(np.savez, x), saved(np.savez, joints=x, other=x)]

    def take(data: bytes) -> None:
        path = folder / ("clip.npz" if data[:2] == b"PK" else "clip.npy")
        path.write_bytes(data)
        raise_if_odd(read_clip(path), "read_clip")

    def change(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
        return (changed_zip if data[:2] == b"PK" else changed_npy)(data, rng, others)

    return Target("clip", clips, take, change)


def pose_target(folder: Path) -> Target:
    """load_pose on what pose estimators write: JSON and CSV."""
    # MediaPipe alone and in frames, OpenPose with one and two people, plain lists; tables with and without a header
    x = np.random.default_rng(0).normal(size=(4, 20, 3)).astype("f4")
    marks = [[{"x": 0.1 * v, "y": 0.2, "z": 0.3, "visibility": 0.9} for v in range(5)] for _ in range(2)]
    mediapipe = {"frames": [{"worldLandmarks": [m]} for m in marks]}
    openpose = [{"people": [{"pose_keypoints_2d": [1.5, 2, 0.5] * 5}] * n} for n in (1, 2)]

    seeds = [json.dumps(v).encode() for v in (marks, mediapipe, openpose, x.tolist(), [x[0].tolist(), []])]
    seeds += [b"frame,hip_x,hip_y,hand_x,hand_y\n0,1,2,3,4\n1,2,3,4,5\n", b"x0;y0;v0\n1;2;0.5\n", b"1,2,3,4,5,6\n" * 3]

    # a row per joint, an index per joint, and what is missing
    seeds += [b"frame;joint;x;y;person\n0;hip;1,5;2;a\n0;hand;3;;a\n1;hip;1;2;b\n", b"0,0,1,2,1,3,4,2,5,6\n" * 2,
              json.dumps([None, marks[0][:2] + [None], [{"x": None, "y": 1}]]).encode(),
              json.dumps([x[0].tolist(), None, [None] * 20]).encode()]

    def take(data: bytes) -> None:
        path = folder / ("clip.json" if data[:1] in b"[{" else "clip.csv")
        path.write_bytes(data)
        raise_if_odd(as_joints(load_pose(path)), "load_pose")

    return Target("pose", seeds, take, damaged)
