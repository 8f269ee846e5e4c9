"""A clip of JSON: nested numbers, or frames of bodies as pose estimators write them. poses.py lists the forms.

    value -> frames -> bodies (V, C) of each frame -> (M, L, V, C), each body in a row of its own

null, NaN and an empty list mean that a number, a joint, a body or a frame is missing. numpy only.
"""
from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import one_line, read_bytes
from phases.recordings.landmarks import (
    HAND_KEYS,
    HANDS,
    HOLISTIC,
    NO_PATH,
    SHAPE_AND_PATH,
    WRISTS,
    hand_keys,
    joined,
    people_of,
    scored,
    shows_hands,
    wanted_parts,
    with_path,
)
from phases.recordings.metres import check_shape, missing_as_zeros
from phases.recordings.nested_lists import full_array, is_empty, nesting
from phases.recordings.tables import SCORES, usual_channels

PICTURE = ("landmarks", "poseLandmarks", "pose_landmarks", "landmark", "people", "keypoints", "pose_keypoints_3d",
           "pose_keypoints_2d", "joints", "hand_landmarks", "multiHandLandmarks", "multi_hand_landmarks",
           )  # keys of bodies as they are in the picture
WORLD = ("worldLandmarks", "world_landmarks", "poseWorldLandmarks", "pose_world_landmarks", "hand_world_landmarks",
         "multiHandWorldLandmarks", "multi_hand_world_landmarks")
BODIES = (*WORLD, *PICTURE)
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


def clip_of_json(value: object, joints: Sequence[str] = (), notes: list[str] | None = None) -> np.ndarray:
    """A clip of a JSON value: nested numbers, a list of frames, or one frame; joints, notes: see clip_of_frames.

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
        return clip_of_frames([value], (), joints, notes)
    if not isinstance(value, list):
        raise ValueError(f"is {type(value).__name__}: must be a list of frames")

    # nested numbers; or frames, whose numbers of bodies may differ
    sizes, item = nesting(value)
    depth = len(sizes)
    if depth in (1, 2) and isinstance(item, (int, float)):
        raise ValueError("is a list of numbers: must be frames of joints of [x, y, z]")
    whole = full_array(value, sizes) if depth in (3, 4) else None
    if whole is None or depth == 4 and len(whole) > whole.shape[1]:
        return clip_of_frames(value, (), joints, notes)
    return whole


def is_frame(value: object) -> bool:
    """Whether a JSON value is one frame: a table of bodies, or a list of landmarks."""
    if isinstance(value, dict):
        keys = [key for key in (*BODIES, *HAND_KEYS) if key in value]
        return bool(keys) and not any(is_crowd(value[key]) for key in keys)
    first = next((item for item in value if item), None) if isinstance(value, list) else None
    return isinstance(first, dict) and "x" in first


def is_crowd(value: object) -> bool:
    """Whether a value under a body's key has more bodies than a picture shows: then they are the frames of a clip."""
    sizes, item = nesting(value)
    depth = len(sizes)
    return (depth > 2 or depth == 2 and isinstance(item, dict)) and len(value) > CROWD


# ---------------------------------------------------------------------------------------------------------------------
# The bodies of a frame
# ---------------------------------------------------------------------------------------------------------------------

def bodies_of(frame: object) -> list[np.ndarray]:
    """The bodies (V, C) of a frame: a table of bodies, a list of them, or the joints of one."""
    if nesting(frame)[1] is None:
        return []
    if isinstance(frame, dict):
        return bodies_of_table(frame)
    if not isinstance(frame, list):
        raise ValueError(f"is {type(frame).__name__}: must be a list of joints or of bodies")

    # a list of bodies
    first = next(item for item in frame if nesting(item)[1] is not None)
    if isinstance(first, dict) and "x" not in first or len(nesting(first)[0]) == 2 or is_frame(first):
        return [body for item in frame for body in bodies_of(item)]

    # the joints of one body
    joints = [None if is_empty(joint) else joint_of(joint) for joint in frame]
    lengths = {len(joint) for joint in joints if joint is not None}
    if len(lengths) > 1:
        raise ValueError("has joints of different lengths")
    missing = np.full(lengths.pop(), np.nan, np.float32)
    return [np.stack([missing if joint is None else joint for joint in joints])]


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
    if key == "keypoints" and isinstance(value, list) and are_numbers(value):
        return [flat_body(value, usual_channels(len(value)) or 3)]
    return bodies_of(value)


def are_numbers(value: list) -> bool:
    """Whether a list holds numbers, as its first item shows that is not null."""
    sizes, first = nesting(value)
    return len(sizes) == 1 and isinstance(first, (int, float))


def joint_of(joint: object) -> np.ndarray:
    """x, y, z, score of a landmark; a plain joint's numbers as they are; NaN for null."""
    # a landmark by its names; a score of null says nothing
    if isinstance(joint, dict):
        score = next((joint[key] for key in SCORES if joint.get(key) is not None), 1.0)
        joint = [joint.get("x"), joint.get("y"), joint.get("z", 0.0), score]

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

def clip_of_frames(frames: list, names: Sequence[str] = (), joints: Sequence[str] = (),
                   notes: list[str] | None = None) -> np.ndarray:
    """(M, L, V, C) of frames; a body keeps its row while it stays nearest to where it was, zeros where it is not seen.

    Where it was is read from the picture's landmarks, where frames have them: the origin of world landmarks is between
    the body's own hips, and gets the path of the picture's. clips.main_two finds the main one. names: what messages
    call the frames. joints: the skeleton's, which may be hands or have them. notes: what to tell the user is appended.
    """
    # which part of them: the body, with hands, or each hand as a body of its own
    notes = [] if notes is None else notes
    has_hands = any(map(shows_hands, frames))
    has_body = not has_hands or any(has_any(frame, BODIES) for frame in frames)
    parts = wanted_parts(joints, has_hands, has_body)
    if has_hands and parts == ("body",):
        of_people = any(has_any(frame, ("people",)) for frame in frames)
        notes.append(HANDS if of_people else HOLISTIC)

    rows = [clip_of_part(frames, names, part, notes) for part in parts]
    found = [clip for clip in rows if clip is not None]
    if not found:
        raise ValueError("no body in any frame")
    return np.concatenate(found)


def clip_of_part(frames: list, names: Sequence[str], part: str, notes: list[str]) -> np.ndarray | None:
    """(M, L, V, C) of one part of frames, a body per row; None if no frame shows it."""
    # world landmarks of a body are no use beside hands that are only in the picture
    use_world = part != "holistic" or all(map(has_world_hands, frames))
    bodies: Frames = []
    places: Frames = []  # the same bodies as they are in the picture
    twice = True  # every body is seen in both
    for number, frame in enumerate(frames):
        try:
            found = bodies_of_part(frame, part, use_world)
        except ValueError as e:
            raise ValueError(f"{names[number] if names else f'frame {number}'} {e}") from None
        where = in_picture(frame, part, found)
        twice = twice and (where is not found or not found)
        seen = seen_bodies(found, where)
        bodies.append([body for body, _ in seen])
        places.append([place for _, place in seen])

    # a row for each body
    bodies, places = one_frame_per_image(frames, bodies, places)
    shape = shape_of_all(bodies)
    if shape is None:
        return None
    check_shape((max(map(len, bodies)), len(bodies), *shape))
    x = in_rows(bodies, places, shape)
    if not (use_world and any(has_any(frame, world_keys(part)) for frame in frames)):
        return x

    # the shape of world landmarks, the path of the picture's
    if not twice or {place.shape for where in places for place in where} != {shape}:
        notes.append(NO_PATH)
        return x
    notes.append(SHAPE_AND_PATH)
    return with_path(x, in_rows(places, places, shape))


def shape_of_all(bodies: Frames) -> tuple[int, int] | None:
    """The shape (V, C) that all bodies have, None without a body; ValueError if they differ."""
    shapes = {body.shape for found in bodies for body in found}
    if len(shapes) > 1:
        sizes = [f"{V} joints of {C} numbers" for V, C in sorted(shapes)[:3]]
        raise ValueError(f"bodies differ: {', '.join(sizes)}")
    return next(iter(shapes), None)


def seen_bodies(bodies: list[np.ndarray], places: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(body, its place) for each body of a frame that has a joint; a missing joint becomes zeros."""
    seen = []
    for body, place in zip(bodies, places, strict=True):
        body = missing_as_zeros(body)
        if body[:, :3].any():
            seen.append((body, missing_as_zeros(place)))
    return seen


def has_any(frame: object, keys: Sequence[str]) -> bool:
    """Whether a frame is a table with something under one of these keys."""
    return isinstance(frame, dict) and any(frame.get(key) for key in keys)


# ---------------------------------------------------------------------------------------------------------------------
# Parts of a frame
# ---------------------------------------------------------------------------------------------------------------------

def world_keys(part: str) -> tuple[str, ...]:
    return hand_keys(part, world=True) if part in WRISTS else WORLD


def bodies_of_part(frame: object, part: str, world: bool = True) -> list[np.ndarray]:
    """The bodies (V, C) of a frame; of its world landmarks, if there are any and they are wanted."""
    if part == "body":
        only_hands = has_any(frame, HAND_KEYS) and not any(key in frame for key in BODIES)
        return [] if only_hands else bodies_of(frame)
    if not isinstance(frame, dict):
        return []
    if part in WRISTS:
        return (world and hands_of(frame, part, world=True)) or hands_of(frame, part)

    # body and hands, both in metres or both in the picture
    in_world = world and has_any(frame, WORLD)
    found = {key: frame[key] for key in (WORLD if in_world else PICTURE) if frame.get(key)}
    hands = {}
    for side in WRISTS:
        for hand in hands_of(frame, side, in_world)[:1]:
            hands[side] = hand
    return [joined(body, hands, at_wrist=in_world) for body in (bodies_of(found) if found else [])[:1]]


def hands_of(frame: dict, side: str, world: bool = False) -> list[np.ndarray]:
    """The hands (21, 4) of one side: MediaPipe Holistic's, or those of each of OpenPose's people."""
    for key in hand_keys(side, world):
        if frame.get(key):
            return [scored(hand) for hand in bodies_of(frame[key])[:1]]

    # a hand that is not seen is all zeros
    hands = [] if world else [person.get(f"hand_{side}_keypoints_2d") for person in people_of(frame)]
    return [flat_body(hand, 3) for hand in hands if isinstance(hand, list) and any(hand)]


def has_world_hands(frame: object) -> bool:
    """Whether each hand of a frame has world landmarks."""
    if not isinstance(frame, dict):
        return True
    return all(hands_of(frame, side, world=True) or not hands_of(frame, side) for side in WRISTS)


def in_picture(frame: object, part: str, bodies: list[np.ndarray]) -> list[np.ndarray]:
    """The bodies of a frame as they are in the picture, if the frame has each of them so; else the bodies themselves.
    """
    if not isinstance(frame, dict):
        return bodies
    if part != "body":
        seen = bodies_of_part(frame, part, world=False) if bodies else []
        return seen if len(seen) == len(bodies) else bodies

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
