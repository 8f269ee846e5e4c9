"""Whether classes tell left from right, by their names or by what moves: such clips must never be mirrored."""
from __future__ import annotations

import itertools
import re

import numpy as np

from phases.recordings.clips import Clip
from phases.recordings.metres import body_size, trunk_of
from phases.recordings.survey import Survey

SIDED = re.compile(r"left(?!over)|(?<!b)(?<!f)(?<!up)right|(?<![^\W\d_])(?:links|rechts|gauche|droite?|sinistr[ao]|"
                   r"destr[ao]|izquierd[ao]|derech[ao]|esquerd[ao]|direit[ao]|lew[aey]|praw[aey]|[lr]|lr|rl)"
                   r"(?![^\W_]|['’])", re.I)  # class names that tell left from right
DIFFERENT = 0.3  # of the larger motion: classes that are nearer move alike
MIRRORED = 0.5   # of the distance: one class, mirrored, is as near to the other


def sided_class(classes: list[str]) -> str:
    """The first class whose name tells left from right; empty if none does."""
    return next((name for name in classes if SIDED.search(name)), "")


def mirrored_classes(survey: Survey) -> tuple[str, str] | None:
    """Two classes of which one, mirrored, moves its joints as the other does: the nearest such pair."""
    motions = class_motions(survey)
    mirror = survey.skeleton.mirror
    nearest = MIRRORED
    pair = None
    for a, b in itertools.combinations(sorted(motions), 2):
        # classes that move alike are not each other's mirror image
        apart = np.linalg.norm(motions[a] - motions[b])
        if not apart > DIFFERENT * max(np.linalg.norm(motions[a]), np.linalg.norm(motions[b])):
            continue

        ratio = np.linalg.norm(motions[a][mirror] - motions[b]) / apart
        if ratio < nearest:
            nearest = ratio
            pair = (survey.class_of(a), survey.class_of(b))
    return pair


def class_motions(survey: Survey) -> dict[int, np.ndarray]:
    """{label: (V,) how much each joint moves, in sizes of the body, a mean over the clips of the class}."""
    trunk = trunk_of(survey.skeleton)
    moves: dict[int, list[np.ndarray]] = {}
    for clip in survey.clips:
        moved = joint_motion(clip) / body_size(clip.joints[0], trunk)
        moves.setdefault(clip.label, []).append(moved)
    return {label: np.mean(each, 0) for label, each in moves.items()}


def joint_motion(clip: Clip) -> np.ndarray:
    """(V,) the deviation of each joint from its mean place about the middle of the body."""
    body = clip.joints[0][clip.joints[0].any((1, 2))]  # l v 3
    there = body.any(2, keepdims=True)
    frames = there.sum(0).clip(1)  # in which a joint is seen

    place = body - body.sum(1, keepdims=True) / there.sum(1, keepdims=True).clip(1)
    mean = (place * there).sum(0) / frames
    spread = ((place - mean) ** 2 * there).sum((0, 2)) / frames[:, 0]
    return np.sqrt(spread)
