"""Recordings that are not cut, joined from clips or made: people act, stand about, act again. Functions of a seed."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from phases.shipping.events import Event
from phases.training.clip_store import ClipStore
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose

BLEND = 1 / 3           # seconds from the pose of one clip to that of the next
PAUSES = (1.0, 4.0)     # seconds of standing between two actions
SWAY = 0.006            # metres: standard deviation of how far a body's height sways sideways and forwards,
SWAYS = (0.2, 0.7)      # times a second
JITTER = 0.004          # metres: of each coordinate, as a camera shakes
ALIKE = 0.35            # metres between joints of two poses: a clip that begins farther away comes last
MOVED = 0.1             # metres: a joint this far from where it was has moved
CLOSE = 0.5             # seconds between the start of an event and that of its action, and between their ends

SKELETON = SKELETONS["ntu25"]
TRUNK = [joints[0] for joints in SKELETON.trunk]
ARM = [SKELETON.joints.index(name) for name in ("left elbow", "left wrist", "left hand")]


@dataclass(frozen=True)
class Action:
    """What a recording shows from `start` to `end` (seconds); label None: an action that the network does not know."""
    start: float
    end: float
    label: int | None


@dataclass(frozen=True)
class Untrimmed:
    """A recording: joints (M, L, V, 3) at times (L,), and the actions in it."""
    joints: np.ndarray
    times: np.ndarray
    actions: list[Action]


def recording(clips: list[np.ndarray], labels: list[int | None], fps: float, centre: list[int],
              rng: np.random.Generator) -> Untrimmed:
    """Clips (L, V, 3) of one body one after another, with standing before, between and after them."""
    parts = [standing(clips[0][0], rng.uniform(*PAUSES), fps, rng)]
    actions = []
    length = len(parts[0])
    for clip, label in zip(clips, labels, strict=True):
        # at the place where the body stands, its pose blended into the clip's first one
        clip = clip + ground(parts[-1][-1], centre) - ground(clip[0], centre)
        share = np.linspace(0, 1, round(BLEND * fps) + 2)[1:-1, None, None]
        blend = parts[-1][-1] * (1 - share) + clip[0] * share

        # the action is the clip without its still ends
        first, last = acting(clip)
        begins = length + len(blend)
        actions.append(Action((begins + first) / fps, (begins + last) / fps, label))

        # and then the body stands
        pause = standing(clip[-1], rng.uniform(*PAUSES), fps, rng)
        parts += [blend, clip, pause]
        length = begins + len(clip) + len(pause)

    joints = np.concatenate(parts)[None].astype(np.float32)
    return Untrimmed(joints, np.arange(length) / fps, actions)


def ground(pose: np.ndarray, centre: list[int]) -> np.ndarray:
    """(3,) the place on the floor of a pose (V, 3)."""
    return pose[centre].mean(0) * [1, 0, 1]


def acting(clip: np.ndarray) -> tuple[int, int]:
    """First and last frame of a clip (L, V, 3) that are not its first and its last pose."""
    begun = np.linalg.norm(clip - clip[0], axis=2).max(1) > MOVED
    goes_on = np.linalg.norm(clip - clip[-1], axis=2).max(1) > MOVED
    if not begun.any() or not goes_on.any():
        return 0, len(clip) - 1
    first = int(np.argmax(begun))
    return first, max(first, len(clip) - 1 - int(np.argmax(goes_on[::-1])))


def standing(pose: np.ndarray, seconds: float, fps: float, rng: np.random.Generator) -> np.ndarray:
    """(L, V, 3) a pose (V, 3) held for so long: a body that sways about its feet, before a camera that shakes."""
    times = np.arange(round(seconds * fps)) / fps
    height = pose[:, 1] - pose[:, 1].min()

    # a few slow waves for each of the two directions
    lean = np.zeros((len(times), 3))
    for axis in (0, 2):
        for _ in range(3):
            rate = rng.uniform(*SWAYS)
            lean[:, axis] += rng.normal(0, SWAY) * (np.sin(2 * np.pi * (rate * times + rng.uniform())))
    lean -= lean[:1]
    jitter = rng.normal(0, JITTER, (len(times), *pose.shape))
    return pose + lean[:, None] * height[:, None] + jitter


def in_order(store: ClipStore, members: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clip numbers of one person in a random order in which each begins in about the pose in which another ended.

    After standing up people stand, after sitting down they sit: of the clips left the first one that fits comes next,
    or else the one that fits best.
    """
    left = list(rng.permutation(members))
    centre = store.skeleton.centre
    order = [left.pop(0)]
    while left:
        pose = clip_of(store, order[-1])[-1]
        away = []
        for i in left:
            first = clip_of(store, i)[0]
            moved = first - ground(first, centre) + ground(pose, centre) - pose
            away.append(np.linalg.norm(moved, axis=1).max())
        fits = np.flatnonzero(np.array(away) < ALIKE)
        order.append(left.pop(int(fits[0]) if len(fits) else int(np.argmin(away))))
    return np.array(order)


def clip_of(store: ClipStore, i: int) -> np.ndarray:
    """(L, V, 3) the first body of clip i."""
    first = store.clips["offset"][i, 0]
    return np.array(store.frames[first:first + store.clips["length"][i]])


def recordings(store: ClipStore, members: np.ndarray, unknown: tuple[int, ...], fps: float, clips: int,
               seed: int = 0) -> list[Untrimmed]:
    """Recordings of about `clips` actions each, every clip of `members` in one of them; one person a recording."""
    found = []
    for person in np.unique(store.clips["subject"][members]):
        rng = np.random.default_rng([seed, int(person)])
        own = in_order(store, members[store.clips["subject"][members] == person], rng)
        for part in np.array_split(own, max(1, round(len(own) / clips))):
            labels = [int(k) if k not in unknown else None for k in store.clips["label"][part]]
            found.append(recording([clip_of(store, i) for i in part], labels, fps, store.skeleton.centre, rng))
    return found


def at_fps(recorded: Untrimmed, fps: float) -> Untrimmed:
    """The recording at another rate: joints on the line between those of the frames around."""
    times = np.arange(int(recorded.times[-1] * fps) + 1) / fps
    before = np.clip(np.searchsorted(recorded.times, times, side="right") - 1, 0, len(recorded.times) - 2)
    step = recorded.times[before + 1] - recorded.times[before]
    share = ((times - recorded.times[before]) / step)[:, None, None].astype(np.float32)
    joints = recorded.joints[:, before] * (1 - share) + recorded.joints[:, before + 1] * share
    return Untrimmed(joints, times, recorded.actions)


# ---------------------------------------------------------------------------------------------------------------------
# A made person
# ---------------------------------------------------------------------------------------------------------------------

def person(seconds: float, fps: float, raised: list[tuple[float, float]] = (), noise: float = 0.004) -> tuple:
    """(joints (1, L, V, 3), times (L,)): somebody stands, and raises an arm by half a metre and back in such times."""
    times = np.arange(round(seconds * fps)) / fps
    x = np.repeat((rest_pose(SKELETON) + [0, 0, 2.5])[None], len(times), 0)
    for start, end in raised:
        share = np.clip((times - start) / (end - start), 0, 1)
        x[:, ARM, 1] += (0.5 * np.sin(np.pi * share) ** 2)[:, None]
    x += np.random.default_rng(0).normal(0, noise, x.shape)
    return x[None].astype(np.float32), times


# ---------------------------------------------------------------------------------------------------------------------
# How good events are
# ---------------------------------------------------------------------------------------------------------------------

def score(actions: list[Action], events: list[Event], classes: list[str]) -> dict[str, int]:
    """Counts over one recording: its known actions, and the events that end and have a label, by what became of them.

    right: the label of an action whose start and end are both CLOSE; an action makes one event right. late: the right
    label at another time. wrong: another action's label. unknown: named, but none of the network's actions. standing:
    named while nobody acts. missed: known actions without a right event.
    """
    found = Counter(actions=sum(action.label is not None for action in actions))
    left = [action for action in actions if action.label is not None]
    for event in events:
        if event.end is None or not event.known:
            continue
        found["events"] += 1

        # an action that the event fits; else what is acted at its time
        fits = [action for action in left if classes[action.label] == event.label and is_close(action, event)]
        if fits:
            left.remove(fits[0])
            found["right"] += 1
            continue
        found[fault_of(event, actions, classes)] += 1
    found["missed"] = len(left)
    return found


def is_close(action: Action, event: Event) -> bool:
    return max(abs(action.start - event.start), abs(action.end - event.end)) <= CLOSE


def fault_of(event: Event, actions: list[Action], classes: list[str]) -> str:
    """What is wrong with an event: see score."""
    shared, action = max(((min(a.end, event.end) - max(a.start, event.start), a) for a in actions),
                         key=lambda pair: pair[0])
    if shared <= 0:
        return "standing"
    if action.label is None:
        return "unknown"
    return "late" if classes[action.label] == event.label else "wrong"


def f1(found: dict[str, int]) -> float:
    """Harmonic mean of precision and recall of the events; 0 if there is neither an action nor an event."""
    return 2 * found["right"] / max(found["events"] + found["actions"], 1)
