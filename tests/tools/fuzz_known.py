"""What `just fuzz` feeds the readers of formats that say what they hold: motion capture, other projects' text and JSON,
and archives of recordings."""
from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np

from phases.recordings.archives import unpacked, unpacked_once
from phases.recordings.known_files import known_body
from phases.recordings.poses import load_pose
from phases.recordings.readers import read_clip
from phases.recordings.survey import look
from tests.recordings import test_known_files as known
from tests.recordings import test_motion_capture as capture
from tests.tools.mutations import Target, changed_json, changed_zip, damaged

RNG = np.random.default_rng(0)
UAV_HUMAN = "P001S00G10B10H50UC022000LC021000A003R0_08241716.txt"


def known_targets(folder: Path) -> list[Target]:
    """The readers of known formats; they write below a folder."""
    here = folder / "known"
    here.mkdir()
    return [bvh_target(here), *acclaim_targets(here), *text_targets(here), json_target(here), zip_target(here)]


def clip_target(name: str, path: Path, seeds: list[bytes], mutate=damaged) -> Target:
    """read_clip on a file, and what its format fixes: joints (M, L, V, 3) of finite numbers, or an error."""
    def take(data: bytes) -> None:
        path.write_bytes(data)
        read_whole(path)

    return Target(name, seeds, take, mutate)


def read_whole(path: Path) -> None:
    body = known_body(path)
    joints = read_clip(path)
    assert joints.ndim == 4 and joints.shape[-1] == 3 and np.isfinite(joints).all(), f"joints of shape {joints.shape}"
    count = np.asarray(load_pose(path)).shape[-2]
    assert body is None or body.skeleton.num_joints == count, f"a body of another number of joints than {count}"


# ---------------------------------------------------------------------------------------------------------------------
# Motion capture
# ---------------------------------------------------------------------------------------------------------------------

def bvh_target(folder: Path) -> Target:
    joint = "JOINT b { OFFSET 1 2 3 CHANNELS 3 Yrotation Xposition Zrotation }"
    head = f"HIERARCHY ROOT a {{ OFFSET 1 1 1 CHANNELS 0 {joint} }}"
    seeds = [capture.BVH, capture.BVH.replace("\n", "\r\n"),
             f"{head}\nMOTION\nFrames: 2\nFrame Time: 0.5\n1 2 3\n4 nan 6\n"]
    return clip_target("bvh", folder / "a.bvh", [seed.encode() for seed in seeds])


def acclaim_targets(folder: Path) -> list[Target]:
    """One of the two files changes, and the other one is good."""
    path = folder / "07_01.amc"
    beside = folder / "07.asf"
    asf = capture.ASF.encode()
    amc = capture.AMC.encode()

    def take_amc(data: bytes) -> None:
        beside.write_bytes(asf)
        path.write_bytes(data)
        read_whole(path)

    # an .asf file of the same size and time is read anew, since the .amc file is new
    def take_asf(data: bytes) -> None:
        beside.write_bytes(data)
        path.write_bytes(amc)
        read_whole(path)

    return [Target("amc", [amc, amc.replace(b"90", b"-1.#IND")], take_amc),
            Target("asf", [asf, asf.replace(b"deg", b"rad")], take_asf)]


# ---------------------------------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------------------------------

def text_targets(folder: Path) -> list[Target]:
    """UAV-Human's text of 17 joints, SHREC's rows of 66 numbers, YOLO's lines per person."""
    x = RNG.normal(size=(3, 17, 3)).round(3)
    ntu = [known.text_of(x), known.text_of(x[:2], 3, "7"), known.text_of(np.where(x > 1, np.nan, x))]

    rows = RNG.normal(size=(4, 66)).round(3).astype(str).tolist()
    rows[1][4] = "nan"
    shrec = ["\n".join(mark.join(row) for row in rows) for mark in (" ", ",", "; ")]

    pose = RNG.uniform(0.1, 0.9, (17, 2)).round(3)
    lines = [known.yolo_line(pose), known.yolo_line(pose, 0.9, 3), known.yolo_line(pose, scores=False)]
    yolo = [*lines, f"{lines[1]}\n{lines[1]}\n"]

    made = []
    for name, file, texts in (("uav_human", UAV_HUMAN, ntu), ("shrec", "skeleton.txt", shrec), ("yolo", "a.txt", yolo)):
        made.append(clip_target(name, folder / file, [text.encode() for text in texts]))
    return made


# ---------------------------------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------------------------------

def json_target(folder: Path) -> Target:
    """AlphaPose's results, YOLO's, Kinetics-Skeleton and Azure Kinect's JSON."""
    flat = RNG.uniform(0.1, 0.9, (3, 17, 2)).round(3)
    values = [known.alphapose(flat, flat[::-1]), known.yolo_json(flat), known.kinetics(known.FLAT[:3]),
              known.kinect(*RNG.uniform(100, 900, (2, 3, 7, 3)))]
    return clip_target("known_json", folder / "a.json", [json.dumps(value).encode() for value in values], changed_json)


# ---------------------------------------------------------------------------------------------------------------------
# Archives
# ---------------------------------------------------------------------------------------------------------------------

def zip_target(folder: Path) -> Target:
    """A .zip of class folders: unpacked below a folder that nothing leaves, and looked at as adopt does."""
    path = folder / "set.zip"
    x = RNG.normal(size=(4, 20, 3)).astype("f4")

    def packed(top: str) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as z:
            for i, name in enumerate(("sit/a.npy", "sit/b.npy", "wave/c.npy", "wave/d.npy")):
                clip = io.BytesIO()
                np.save(clip, x + i)
                z.writestr(top + name, clip.getvalue())
            z.writestr(f"{top}skeleton.json", '{"skeleton": "kinect20"}')
        return out.getvalue()

    def take(data: bytes) -> None:
        path.write_bytes(data)
        unpacked_once.cache_clear()
        inside = unpacked(path)
        try:
            look(inside)
        finally:
            shutil.rmtree(inside, ignore_errors=True)

    return Target("zip", [packed(""), packed("mine/")], take, odd_zip)


def odd_zip(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """An archive that is changed, or that holds a name which leads out of it."""
    if rng.random() < 0.8:
        return changed_zip(data, rng, others)
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as z:
        z.writestr(rng.choice(("../out.npy", "/out.npy", "sit/../../out.npy", "C:\\out.npy", "sit/a.npy/b", " ")), b"x")
    return out.getvalue()
