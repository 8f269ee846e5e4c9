"""Which skeleton recordings have, while no recipe says it.

    1. the one that the user names
    2. the one that a first clip shows: the joints that its table names, or OpenPose's format
    3. the one that skeleton.json names, or NTU's
    4. of those with as many joints, the one whose bones keep their lengths, and whose left bones are as long as its
       right ones; of those that have the same joints in another order, the one whose bones are shortest; some only
       where their bones fit at all
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phases.common.command import nearest
from phases.common.wording import counted
from phases.recordings.arrays import description, first_clip, metadata
from phases.recordings.clips import Clip, Skip, third_is_score
from phases.recordings.csv_clips import joints_of_table
from phases.recordings.metres import body_size
from phases.recordings.ntu import ntu_paths, skeleton_of_text
from phases.recordings.poses import is_openpose, load_pose
from phases.recordings.quality import bone_lengths, bones_of
from skeletons import RECORDED, SKELETONS, Skeleton, spelled

SENSORS = ("ntu25", "kinect20", "utd20", "h36m17", "nite15")  # three-dimensional by nature
SELDOM = ("azure32", "smpl24", "smpl22", "nite15", "jhmdb15", "hand21", "shrec22", "holistic")  # guessed if they fit
LOOKED_AT = 40   # clips whose bones are measured
LONGER = 1.5     # all bones together, in lengths of the shortest tree: real bodies 1.1 to 1.25, wrong ones from 1.7
LEAST = 1e-3     # added to each of two measures, so that a product of them is never decided by a measure that is 0


def guess_skeleton(raw: Path, reader: str, clips: list[Clip], named: str) -> tuple[Skeleton, bool]:
    """The skeleton of clips, and whether it has a name: from the user or a first clip (`named`), or the recordings.

    ValueError if the clips have several joint counts, or the skeleton has another one.
    """
    V = joint_count(raw, clips)
    found = named or brought_name(raw, reader)
    if isinstance(found, dict):
        return own_skeleton(raw, found, clips[0]), True
    if found:
        return known_skeleton(found, V), True
    return fitting_skeleton(raw, clips, V), False


def joint_count(raw: Path, clips: list[Clip]) -> int:
    """The number of joints that all clips have."""
    counts = Counter(c.joints.shape[2] for c in clips)
    (V, _), *others = counts.most_common()
    if not others:
        return V

    # as many frames, but other joints: perhaps these are the frames
    lengths = {c.joints.shape[1] for c in clips}
    if len(counts) > 3 and len(lengths) == 1:
        raise ValueError(f"raw = {raw}: each clip has {lengths.pop()} frames and another number of joints: are the "
                         "axes swapped? An array is (frames, joints, 3)")
    words = first_few([f"{counted(n, 'clip')} with {count}" for count, n in counts.most_common()])
    odd = next(c.name for c in clips if c.joints.shape[2] != V)
    raise ValueError(f"raw = {raw}: clips of several joint counts ({words}), such as {odd}; adopt them apart")


def first_few(words: Sequence[str], most: int = 3) -> str:
    """The first words of a list, with dots if there are more."""
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")


# ---------------------------------------------------------------------------------------------------------------------
# A skeleton that is named
# ---------------------------------------------------------------------------------------------------------------------

def skeleton_of_first_clip(raw: Path) -> str:
    """The skeleton that the first clip shows by the joints that its table names, or as OpenPose's; else empty.

    ValueError if a table names joints that no known skeleton has, and skeleton.json does not say what they are.
    """
    file = first_clip(raw)
    if file is None:
        return ""
    try:
        if is_openpose(file):
            return f"openpose{load_pose(file).shape[-2]}"
        named = set(joints_of_table(file))
    except ValueError:  # a damaged first clip shows nothing
        return ""

    # the largest skeleton of which all joints are named
    known = [s for s in RECORDED if joints_of_skeleton(s) <= named]
    if known:
        return max(known, key=lambda s: s.num_joints).name
    if named and not metadata(raw).get("skeleton"):
        alike = max(RECORDED, key=lambda s: len(joints_of_skeleton(s) & named))
        lacking = [joint for joint in alike.joints if spelled(joint) not in named]
        raise ValueError(f"raw = {raw}: {file.name} names {len(named)} joints, of no known skeleton; for {alike.name} "
                         f"it lacks {first_few(lacking)}. Write your own into skeleton.json (README, Your own "
                         "skeletons)")
    return ""


def joints_of_skeleton(skeleton: Skeleton) -> set[str]:
    return {spelled(joint) for joint in skeleton.joints}


def brought_name(raw: Path, reader: str) -> str | dict | None:
    """The skeleton that recordings bring: its name, or a table that spells it out."""
    brought = description(raw, reader).get("skeleton")
    if brought is not None or reader != "ntu":
        return brought
    file = next(iter(ntu_paths(raw)), None)
    return skeleton_of_text(file) if file else None


def own_skeleton(raw: Path, table: dict, clip: Clip) -> Skeleton:
    """The skeleton that skeleton.json spells out."""
    own = Skeleton.from_dict(table)
    V = clip.joints.shape[2]
    if own.num_joints != V:
        raise ValueError(f"raw = {raw}: skeleton.json has {own.num_joints} joints, the clips have {V} (such as "
                         f"{clip.name})")
    return own


def known_skeleton(name: str, V: int) -> Skeleton:
    """The skeleton of this name; ValueError if there is none, or it has not V joints."""
    if name not in SKELETONS:
        raise ValueError(f"skeleton = {name!r}: unknown{nearest(name, SKELETONS)}")
    skeleton = SKELETONS[name]
    if skeleton.num_joints != V:
        raise ValueError(f"skeleton = {name!r} has {skeleton.num_joints} joints, the clips have {V}")
    return skeleton


# ---------------------------------------------------------------------------------------------------------------------
# A skeleton that nobody names
# ---------------------------------------------------------------------------------------------------------------------

def fitting_skeleton(raw: Path, clips: list[Clip], V: int) -> Skeleton:
    """Of the skeletons with V joints the one that fits the clips best."""
    bodies = [c.joints[0] for c in clips[:LOOKED_AT]]
    as_many = [s for s in RECORDED if s.num_joints == V]
    fit = [s for s in as_many if s.name not in SELDOM or bones_fit(s, bodies)]
    if not fit:
        raise ValueError(f"raw = {raw}: {V} joints {none_fits(V, as_many)} (README, Your own skeletons)")

    # clips of a picture are not a depth sensor's, if another skeleton fits
    flat = not any(c.joints[..., 2].any() for c in clips)
    if flat or third_is_score(clips):
        fit = [s for s in fit if s.name not in SENSORS] or fit
    return best_skeleton(bodies, fit)


def best_skeleton(bodies: list[np.ndarray], candidates: Sequence[Skeleton]) -> Skeleton:
    """Of skeletons with as many joints as bodies (L, V, 3) have, the one with the least misfit.

    Joints that no bone joins change their distance, and lines between them are longer on one side than on the other.
    Of the same joints in another order those of the arms and legs may agree; the others' bones are too long.
    """
    if len({tuple(sorted(s.joints)) for s in candidates}) == 1:
        d = distances(bodies)
        shown = [[d[bone] for bone in s.bones if d[bone] > 0] for s in candidates]  # a missing joint shortens nothing
        return candidates[int(np.argmin([np.mean(lengths) if lengths else np.inf for lengths in shown]))]

    sides_count = all(mirrored_bones(s) for s in candidates)
    misfit = []
    for skeleton in candidates:
        asymmetry = bone_asymmetry(bodies, skeleton) if sides_count else 0
        misfit.append((bone_deviation(bodies, skeleton) + LEAST) * (asymmetry + LEAST))
    return candidates[int(np.argmin(misfit))]


def bone_deviation(bodies: list[np.ndarray], skeleton: Skeleton) -> float:
    """How much the lengths of bones vary over time: their standard deviation, a mean over the bones, a median over
    the bodies (L, V, 3), in metres of a person of 1.7 m.

    Relative to its bone a deviation says little: wrong bones are often long, and so look steady.
    """
    ends = bones_of(skeleton)
    found = []
    for body in bodies:
        there = body.any(2)[:, ends].all(2)  # l bones
        length = np.linalg.norm(body[:, ends[:, 0]] - body[:, ends[:, 1]], axis=2)
        frames = there.sum(0).clip(1)

        # over the frames that show both ends
        mean = (length * there).sum(0) / frames
        variance = ((length - mean) ** 2 * there).sum(0) / frames
        found.append(np.sqrt(variance[there.any(0)]).mean() / body_size(body, None) if there.any() else 0)
    return float(np.median(found))


def bone_asymmetry(bodies: list[np.ndarray], skeleton: Skeleton) -> float:
    """Difference between the lengths of left and right bones as a share of their mean: a median over the bones of a
    body (L, V, 3), and over the bodies; 0 if nothing shows it."""
    bones = mirrored_bones(skeleton)
    found = []
    for body in bodies:
        there = body.any(2)
        left, right = (bone_lengths(body, there, np.array(side)) for side in zip(*bones, strict=True))
        ratio = 2 * np.abs(left - right) / np.maximum(left + right, 1e-9)
        if np.isfinite(ratio).any():
            found.append(np.nanmedian(ratio))
    return float(np.median(found)) if found else 0.0


def mirrored_bones(skeleton: Skeleton) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(left bone, right bone), each as (child, parent), wherever one is the mirror image of the other."""
    found = []
    for left, right in skeleton.pairs:
        bones = (left, skeleton.parents[left]), (right, skeleton.parents[right])
        if skeleton.mirror[bones[0][1]] == bones[1][1]:
            found.append(bones)
    return found


def none_fits(V: int, as_many: list[Skeleton]) -> str:
    """What to do about V joints that are of no known skeleton, as the end of a sentence."""
    if not as_many:
        near = min(RECORDED, key=lambda s: abs(s.num_joints - V))
        return (f"fit no known skeleton, the nearest is {near.name} with {near.num_joints}; write your own into "
                "skeleton.json")
    names = " and ".join(s.name for s in as_many)
    return (f"are as many as {names} has, whose bones do not fit them; give skeleton={as_many[0].name} if they are its "
            "joints, or write your own into skeleton.json")


# ---------------------------------------------------------------------------------------------------------------------
# Whether bones fit
# ---------------------------------------------------------------------------------------------------------------------

def bones_fit(skeleton: Skeleton, bodies: list[np.ndarray]) -> bool:
    """Whether bodies (L, V, 3) can be of this skeleton: its bones join neighbours.

    They are hardly longer than the shortest tree that joins all joints. A hand's fingers begin next to each other, in
    which other bodies of five limbs differ.
    """
    d = distances(bodies)
    if "palm" not in skeleton.regions:
        length = sum(d[bone] for bone in skeleton.bones)
        return bool(0 < length <= LONGER * shortest_tree(d))

    # a hand: from finger to finger it is less far than from the wrist
    roots = [skeleton.regions[finger][0] for finger in ("index", "middle", "ring", "pinky")]
    return bool(d[roots[:-1], roots[1:]].max() < d[skeleton.root, roots].min())


def distances(bodies: list[np.ndarray]) -> np.ndarray:
    """(V, V) mean distance of two joints, over the frames of bodies (L, V, 3) that show both; 0 if none does."""
    V = bodies[0].shape[1]
    total = np.zeros((V, V))
    number = np.zeros((V, V))

    # some frames of each body are enough
    for body in bodies:
        frames = body[::max(1, len(body) // 32)]
        seen = frames.any(2)
        both = seen[:, :, None] & seen[:, None]  # l v v
        total += (np.linalg.norm(frames[:, :, None] - frames[:, None], axis=3) * both).sum(0)
        number += both.sum(0)
    return total / np.maximum(number, 1)


def shortest_tree(d: np.ndarray) -> float:
    """The length of the shortest tree through all joints, by their distances (V, V): Prim's algorithm."""
    far = d[0].copy()  # from the joints in the tree
    outside = np.arange(len(d)) > 0
    length = 0.0

    # the nearest joint joins the tree
    while outside.any():
        v = np.where(outside, far, np.inf).argmin()
        length += far[v]
        outside[v] = False
        far = np.minimum(far, d[v])
    return float(length)


def without_odd(clips: list[Clip]) -> tuple[list[Clip], list[Skip]]:
    """Clips without those of another joint count, and a Skip for each of these, if they are few: one in twenty."""
    # the usual count, and how many clips have another one
    (V, _), *others = Counter(c.joints.shape[2] for c in clips).most_common()
    if sum(n for _, n in others) > len(clips) / 20:
        return clips, []

    # the few of another count
    kept, odd = [], []
    for c in clips:
        if c.joints.shape[2] == V:
            kept.append(c)
        else:
            odd.append(Skip(c.name, 0, f"has {c.joints.shape[2]} joints, the others have {V}"))
    return kept, odd
