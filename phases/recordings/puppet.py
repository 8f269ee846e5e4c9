"""Synthetic clips: a puppet with the 25 joints of Kinect v2 acts, three cameras record it, the files are NTU text.

With them the whole pipeline runs on any machine without a download. They are a demonstration, never a result: every
table marks them.

    puppet_moves     the actions: which part moves where, and when
    puppet_body      poses -> joints
    puppet_camera    joints -> NTU text, with the faults of a Kinect
    puppet           who acts, how, and where; the files
"""
from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from phases.recordings.puppet_body import LIMBS, MIRROR, joints_of_poses, turned
from phases.recordings.puppet_camera import recorded_text
from phases.recordings.puppet_moves import FOOT, FOOT2, HAND, HAND2, IDLE, REST, ROOT, SYNTHETIC, SYNTHETIC_ACTIONS

VERSION = 2
SUBJECTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14)  # xsub trains on eight; both of its sides have odd and even setups
SETUPS = 6
CAMERAS = {1: 0, 2: -45, 3: 45}                     # number: degrees
FRAME_RATE = 30                                     # frames per second
LEG = slice(10, 12)                                 # thigh and shin of Limbs


# ---------------------------------------------------------------------------------------------------------------------
# Performances
# ---------------------------------------------------------------------------------------------------------------------

class Person(NamedTuple):
    """How somebody is built and moves."""
    limbs: np.ndarray       # (17,) metres
    manner: np.ndarray      # (8, 3), added to every pose
    pace: float


def person(seed: int, subject: int) -> Person:
    rng = np.random.default_rng((seed, 1, subject))
    manner = rng.normal(0, 1, (8, 3)) * np.array([0, .04, .04, .08, .06, .06, 0, 0])[:, None]
    manner[[FOOT, FOOT2], 0] = rng.uniform(-0.02, 0.08)  # width of the stance
    limbs = LIMBS * rng.normal(1, 0.07) * rng.normal(1, 0.04, len(LIMBS))
    return Person(limbs, manner, rng.uniform(0.8, 1.25))


def act(moves: list, who: Person, T: int, late: float, lefty: bool, rng: np.random.Generator) -> np.ndarray:
    """Joints (T, 25, 3) of one performance: the moves at a person's own times and reach, with idle sway."""
    # the time of the action in each frame: it begins and ends anywhere near the clip's ends, and is uneven
    u = np.linspace(rng.uniform(-0.35, 0.02), rng.uniform(0.98, 1.3), T) - late
    u = u + 0.03 * np.sin(2 * np.pi * (u * rng.uniform(0.5, 1.2) + rng.random()))

    pose = np.tile(REST + who.manner, (T, 1, 1))
    pose[:, HAND2] += IDLE[rng.integers(len(IDLE))]
    perform_moves(pose, moves, u, who.manner, rng)
    pose += idle_sway(T, rng) * np.array([.004, .012, .015, .04, .018, .018, 0, 0])[:, None]

    J = joints_of_poses(pose, who.limbs, rng.normal(0.1, 0.15))
    return (J * (-1, 1, 1))[:, MIRROR] if lefty else J


def perform_moves(pose: np.ndarray, moves: list, u: np.ndarray, manner: np.ndarray, rng: np.random.Generator) -> None:
    """Change poses (T, 8, 3) by the moves at times u (T,), each part with a reach of its own."""
    # how far and how fast this performance reaches
    gain = rng.normal(1, 0.12, (8, 1))
    size = rng.normal(1, 0.08)
    beat = rng.uniform(0.85, 1.2)
    phase = rng.random()
    skew = rng.normal(0, 0.012, 4)
    for part, target, *when in moves:
        target = np.array(target)
        if len(when) == 5:
            # a swing about the part's place
            start, end, times = when[0], when[3], when[4]
            swing = np.sin(2 * np.pi * (times * beat * (u - start) / (end - start) + phase))
            pose[:, part] += (pulled(u, *when[:4]) * swing)[:, None] * target * gain[part]
            continue

        # a pull towards a pose; times after the end stay there
        pull = pulled(u, *(np.array(when) + skew * (abs(np.array(when)) < 1.5)))[:, None]
        if part in (HAND, HAND2):
            target = target + 0.5 * manner[part] + (gain[part] - 1) * (0.4, 0.4, -0.4)
        else:
            target = target * (size if part in (ROOT, FOOT, FOOT2) else gain[part])
        pose[:, part] += pull * (target - pose[:, part])


def pulled(u: np.ndarray, start: float, arrival: float, release: float, end: float) -> np.ndarray:
    """0 before the start, 1 from arrival to release, 0 after the end, with minimum-jerk ramps between."""
    a = np.clip((u - start) / (arrival - start), 0, 1)
    b = np.clip((u - release) / (end - release) if end > release else u * 0, 0, 1)
    return a ** 3 * (10 - 15 * a + 6 * a * a) * (1 - b ** 3 * (10 - 15 * b + 6 * b * b))


def idle_sway(T: int, rng: np.random.Generator) -> np.ndarray:
    """(T, 8, 3): slow oscillations of every part, of three frequencies in Hz; nobody is quite still."""
    t = np.arange(T)[:, None, None] / FRAME_RATE
    return sum(np.sin(2 * np.pi * (f * t + rng.random((8, 3)))) * rng.normal(0, 1, (8, 3)) for f in (0.4, 0.9, 1.7))


def perform(seed: int, action: int, subject: int, replication: int) -> list[tuple[str, bytes]]:
    """The files of one performance from three cameras: (name, NTU text)."""
    setup = setup_of(subject)
    cast = performers(seed, action, subject, replication)

    # the room's cameras, at one height and distance
    room = np.random.default_rng((seed, 3, setup))
    height, far, pitch = room.uniform(0.75, 1.15), room.uniform(2.7, 3.5), room.normal(0, 0.03)
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])

    def seen(angle: float, J: np.ndarray) -> np.ndarray:
        return (turned(J, -np.radians(angle)) + (0, -height, far)) @ tilt

    files = []
    for camera, angle in CAMERAS.items():
        rng = np.random.default_rng((seed, 4, action, subject, replication, camera))
        text = recorded_text(cast, partial(seen, angle), rng)
        files.append((clip_name(action, subject, replication, camera), text))
    return files


def performers(seed: int, action: int, subject: int, replication: int) -> list[np.ndarray]:
    """Joints (T, 25, 3) of the one or two people of a performance, in the room's coordinates."""
    moves, reply, apart = SYNTHETIC[SYNTHETIC_ACTIONS[action]]
    rng = np.random.default_rng((seed, 2, action, subject, replication))
    # the first person, in a clip of their own pace
    who = person(seed, subject)
    T = int(round(rng.uniform(44, 58) / who.pace))
    heading = np.radians((-45, 45)[(replication + 1) % 2] + rng.normal(0, 15))  # to camera 2, then to camera 3
    place = rng.normal(0, 0.15, 3) * (1, 0, 1)
    lefty = rng.random() < 0.25 and not reply  # people shake right hands
    cast = [act(moves, who, T, 0, lefty, rng)]

    # the other person, about as tall, face to face with the first
    if reply:
        other = person(seed, subject + 1000)
        limbs = other.limbs * who.limbs[LEG].sum() / other.limbs[LEG].sum() * rng.normal(1, 0.03)
        other = other._replace(limbs=limbs)
        cast.append(act(reply, other, T, rng.uniform(0, 0.03), False, rng))
        side = rng.choice((-1, 1))
        apart = apart * rng.normal(1, 0.05) / 2
        angles = side * np.pi / 2, -side * np.pi / 2
        cast = [turned(J + (0, 0, apart), angle) for J, angle in zip(cast, angles, strict=True)]
    return [turned(J, heading) + place for J in cast]


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------

class Job(NamedTuple):
    """One performance to write."""
    folder: str
    seed: int
    action: int
    subject: int
    replication: int


def setup_of(subject: int) -> int:
    return 1 + subject % SETUPS


def clip_name(action: int, subject: int, replication: int, camera: int) -> str:
    return f"S{setup_of(subject):03}C{camera:03}P{subject:03}R{replication:03}A{action + 1:03}"


def write_synthetic(folder: Path | str, seed: int = 0, workers: int = 0, subjects: tuple[int, ...] = SUBJECTS,
                    replications: int = 2) -> int:
    """Writes every action by every subject, `replications` times, from three cameras, as .skeleton files.

    Returns how many it wrote. A file depends only on its name and the seed. Existing files are kept, so an interrupted
    run continues; files of another seed are replaced. ValueError for a folder with .skeleton files of another origin.
    workers = 0: one process per core.
    """
    # impossible wishes
    folder = Path(folder)
    if seed < 0 or replications < 1 or not subjects or not all(1 <= s <= 999 for s in subjects):
        raise ValueError(f"synthetic clips: seed = {seed} must be at least 0, replications = {replications} at least "
                         f"1, subjects = {subjects} one or more of 1 to 999")
    there = kept_files(folder, seed)

    # performances of which a camera's file is missing
    jobs = []
    for r, s, a in itertools.product(range(1, replications + 1), subjects, range(len(SYNTHETIC))):
        if not there >= {clip_name(a, s, r, camera) for camera in CAMERAS}:
            jobs.append(Job(str(folder), seed, a, s, r))

    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers < 2:
        return sum(map(write_performance, jobs))
    with multiprocessing.get_context("spawn").Pool(workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        return sum(pool.imap_unordered(write_performance, jobs, chunksize=4))


def kept_files(folder: Path, seed: int) -> set[str]:
    """The names of the clips in the folder; those of another seed or version are deleted first.

    ValueError for a folder with .skeleton files of another origin.
    """
    folder.mkdir(parents=True, exist_ok=True)
    origin = f"synthetic clips, version {VERSION}, seed {seed}\n"
    mark = folder / "ORIGIN"
    there = {path.stem for path in folder.glob("*.skeleton")}
    if there and not mark.exists():
        raise ValueError(f"{folder}: holds .skeleton files of another origin: give synthetic clips their own folder")
    if mark.exists() and mark.read_text() == origin:
        return there

    for name in there:
        (folder / f"{name}.skeleton").unlink()
    mark.write_text(origin)
    return set()


def write_performance(job: Job) -> int:
    """Write the files of a performance, each as a whole; returns their number."""
    files = perform(job.seed, job.action, job.subject, job.replication)
    for name, text in files:
        part = Path(job.folder, f".{name}.part")
        part.write_bytes(text)
        os.replace(part, Path(job.folder, f"{name}.skeleton"))
    return len(files)
