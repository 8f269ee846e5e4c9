"""A clip of JSON: nested numbers, or frames of bodies as pose estimators write them. poses.py lists the forms.

    value -> frames -> bodies (V, C) of each frame -> (M, L, V, C), each body in a row of its own

numpy only.
"""
from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import one_line, read_bytes
from phases.recordings.csv_clips import SCORES, usual_channels

PICTURE = ("landmarks", "poseLandmarks", "pose_landmarks", "landmark", "people", "keypoints", "pose_keypoints_3d",
           "pose_keypoints_2d", "joints")  # keys of bodies as they are in the picture
BODIES = ("worldLandmarks", "world_landmarks", "poseWorldLandmarks", "pose_world_landmarks", *PICTURE)
FRAMES = ("skeletons", "frames", "poses", "data")
CROWD = 10  # a longer list of bodies under one key is the frames of a clip

Frames = list[list[np.ndarray]]  # for each frame its bodies


def json_value(path: Path) -> object:
    try:
        return json.loads(read_bytes(path))
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as e:
        raise ValueError(f"is not JSON ({one_line(e)})") from None


def clip_of_json(value: object) -> np.ndarray:
    """A clip of a JSON value: nested numbers, a list of frames, or one frame.

    Four axes of numbers are (L, M, V, C) if that means more frames than bodies, else (M, L, V, C).
    """
    # the frames, out of the table around them
    if isinstance(value, dict) and not is_frame(value):
        key = next((key for key in (*FRAMES, *BODIES) if key in value), None)
        if key is None:
            raise ValueError(f"has the keys {', '.join(map(str, value))}; must have frames, or a frame's people or "
                             "landmarks")
        value = value[key]
    if is_frame(value):
        return clip_of_frames([value])
    if not isinstance(value, list):
        raise ValueError(f"is {type(value).__name__}: must be a list of frames")

    # nested numbers; or frames, whose numbers of bodies may differ
    depth, item = nesting(value)
    if depth in (1, 2) and isinstance(item, (int, float)):
        raise ValueError("is a list of numbers: must be frames of joints of [x, y, z]")
    whole = full_array(value) if depth in (3, 4) else None
    if whole is None or whole.ndim != depth or depth == 4 and len(whole) > whole.shape[1]:
        return clip_of_frames(value)
    return whole


def full_array(value: list) -> np.ndarray | None:
    """The array of nested numbers; None for lists of different lengths, or of anything else."""
    with contextlib.suppress(ValueError, TypeError):
        return np.asarray(value, np.float32)
    return None


def nesting(value: object) -> tuple[int, object]:
    """(depth of nested lists, the first item that is not a list); empty items do not count."""
    depth = 0
    while isinstance(value, list):
        filled = [item for item in value if item not in ([], {}, None)]
        depth += 1
        value = filled[0] if filled else None
    return depth, value


def is_frame(value: object) -> bool:
    """Whether a JSON value is one frame: a table of bodies, or a list of landmarks."""
    if isinstance(value, dict):
        keys = [key for key in BODIES if key in value]
        return bool(keys) and not any(is_crowd(value[key]) for key in keys)
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "x" in value[0]


def is_crowd(value: object) -> bool:
    """Whether a value under a body's key has more bodies than a picture shows: then they are the frames of a clip."""
    depth, item = nesting(value)
    return (depth > 2 or depth == 2 and isinstance(item, dict)) and len(value) > CROWD


# ---------------------------------------------------------------------------------------------------------------------
# The bodies of a frame
# ---------------------------------------------------------------------------------------------------------------------

def bodies_of(frame: object) -> list[np.ndarray]:
    """The bodies (V, C) of a frame: a table of bodies, a list of them, or the joints of one."""
    if not frame:
        return []
    if isinstance(frame, dict):
        return bodies_of_table(frame)
    if not isinstance(frame, list):
        raise ValueError(f"is {type(frame).__name__}: must be a list of joints or of bodies")

    # a list of bodies
    first = next((item for item in frame if item), None)
    if isinstance(first, dict) and "x" not in first or nesting(first)[0] == 2 or is_frame(first):
        return [body for item in frame for body in bodies_of(item)]

    # the joints of one body
    joints = [joint_of(joint) for joint in frame]
    if len({joint.shape for joint in joints}) > 1:
        raise ValueError("has joints of different lengths")
    return [np.stack(joints)]


def bodies_of_table(frame: dict) -> list[np.ndarray]:
    """The bodies (V, C) under the first key of BODIES that holds any."""
    keys = [key for key in BODIES if key in frame]
    if not keys:
        raise ValueError(f"has the keys {', '.join(map(str, frame))}: none of {', '.join(BODIES)}; an empty list "
                         "or null means that nobody is seen")
    key = next((key for key in keys if frame[key]), None)
    if key is None:
        return []

    # one body as a list of numbers: OpenPose's, with scores, or COCO's
    value = frame[key]
    if key in ("pose_keypoints_2d", "pose_keypoints_3d"):
        return [flat_body(value, 3 if key.endswith("2d") else 4)]
    if key == "keypoints" and isinstance(value, list) and isinstance(value[0], (int, float)):
        return [flat_body(value, usual_channels(len(value)) or 3)]
    return bodies_of(value)


def joint_of(joint: object) -> np.ndarray:
    """x, y, z, score of a landmark; a plain joint's numbers as they are; a joint of null is missing."""
    # a landmark by its names; a missing joint
    if isinstance(joint, dict):
        score = next((joint[key] for key in SCORES if key in joint), 1.0)
        joint = [joint.get("x"), joint.get("y"), joint.get("z", 0.0), score]
    elif joint is None or joint == []:
        joint = [0.0, 0.0, 0.0, 0.0]

    # its numbers
    try:
        return np.asarray(joint, np.float32).reshape(-1)
    except (ValueError, TypeError):
        raise ValueError(f"has the joint {str(joint)[:40]}: must be numbers") from None


def flat_body(numbers: object, C: int) -> np.ndarray:
    """OpenPose's and COCO's x, y, score, x, y, score, ... -> (V, 4): x, y, z, score; (V, 3) without scores, C = 2."""
    if not isinstance(numbers, list):
        raise ValueError(f"has key points of type {type(numbers).__name__}: must be a list of numbers")
    try:
        body = np.asarray(numbers, np.float32).reshape(-1, C)
    except (ValueError, TypeError):
        raise ValueError(f"has {len(numbers)} key point numbers: must be a multiple of {C}") from None
    return body if C == 4 else np.insert(body, 2, 0, axis=1)


# ---------------------------------------------------------------------------------------------------------------------
# Frames -> rows
# ---------------------------------------------------------------------------------------------------------------------

def clip_of_frames(frames: list, names: Sequence[str] = ()) -> np.ndarray:
    """(M, L, V, C) of frames; a body keeps its row while it stays nearest to where it was, zeros where it is not seen.

    Where it was is read from the picture's landmarks, where frames have them: the origin of world landmarks is between
    the body's own hips. clips.main_two finds the main one. names: what messages call the frames.
    """
    bodies: Frames = []
    places: Frames = []  # the same bodies as they are in the picture
    for number, frame in enumerate(frames):
        try:
            bodies.append(bodies_of(frame))
        except ValueError as e:
            raise ValueError(f"{names[number] if names else f'frame {number}'} {e}") from None
        places.append(in_picture(frame, bodies[-1]))
    bodies, places = one_frame_per_image(frames, bodies, places)

    # all of one shape
    shapes = {body.shape for found in bodies for body in found}
    if not shapes:
        raise ValueError("no body in any frame")
    if len(shapes) > 1:
        sizes = [f"{V} joints of {C} numbers" for V, C in sorted(shapes)[:3]]
        raise ValueError(f"bodies differ: {', '.join(sizes)}")
    return in_rows(bodies, places, shapes.pop())


def in_picture(frame: object, bodies: list[np.ndarray]) -> list[np.ndarray]:
    """The bodies of a frame as they are in the picture, if the frame has each of them so; else the bodies themselves.
    """
    if not isinstance(frame, dict):
        return bodies
    key = next((key for key in PICTURE if frame.get(key)), None)
    with contextlib.suppress(ValueError):
        seen = bodies_of({key: frame[key]}) if key else []
        if len(seen) == len(bodies):
            return seen
    return bodies


def one_frame_per_image(frames: list, bodies: Frames, places: Frames) -> tuple[Frames, Frames]:
    """AlphaPose and COCO write an entry per body: entries of one image_id become one frame."""
    images = [frame.get("image_id") if isinstance(frame, dict) else None for frame in frames]
    if not all(isinstance(image, (str, int, float)) for image in images) or len(set(images)) == len(images):
        return bodies, places

    # an image is where its first entry was
    merged = {image: ([], []) for image in images}
    for image, found, where in zip(images, bodies, places, strict=True):
        merged[image][0].extend(found)
        merged[image][1].extend(where)
    return [found for found, _ in merged.values()], [where for _, where in merged.values()]


def in_rows(bodies: Frames, places: Frames, shape: tuple[int, int]) -> np.ndarray:
    """(M, L, V, C): each body of a frame in the row whose last body was nearest to it; an unseen body is zeros."""
    # a row for each body of the fullest frame
    M = max(map(len, bodies))
    x = np.zeros((M, len(bodies), *shape), np.float32)
    last = np.full((M, 3), np.inf, np.float32)  # where the last body of each row was; infinite: it had none yet

    # frame by frame; with fewer bodies the other rows stay empty, and remember their last
    for t, found in enumerate(bodies):
        centres = [centre_of(body) for body in places[t]]
        for body, row in nearest_pairs(centres, last):
            x[row, t] = found[body]
            last[row] = centres[body]
    return x


def nearest_pairs(centres: list[np.ndarray], last: np.ndarray) -> list[tuple[int, int]]:
    """(body, row) for each body of a frame: the nearest pair first, then the nearest of the others, and so on."""
    # a row that had no body yet is further away than any other
    far = []
    for centre in centres:
        far.append([np.linalg.norm(centre - place) if np.isfinite(place).all() else 1e30 for place in last])

    # each body and each row once
    pairs = []
    free_bodies, free_rows = set(range(len(centres))), set(range(len(last)))
    for body, row in sorted(np.ndindex(len(centres), len(last)), key=lambda pair: far[pair[0]][pair[1]]):
        if body in free_bodies and row in free_rows:
            pairs.append((body, row))
            free_bodies.remove(body)
            free_rows.remove(row)
    return pairs


def centre_of(body: np.ndarray) -> np.ndarray:
    """(3,) the mean of the joints that are seen."""
    places = body[:, :3] if body.shape[1] > 2 else np.pad(body, ((0, 0), (0, 1)))
    seen = places.any(1)
    return places[seen].mean(0) if seen.any() else np.zeros(3, np.float32)
