"""One clip of anyone's own, as an array or as pose estimators write it. numpy only.

    .npy     (L, V, C) or (M, L, V, C)
    .json    the same nested, frames or bodies first; or a list of frames, each with its bodies: landmarks as
             MediaPipe's (world landmarks go before those of the picture), `people` as OpenPose's, or lists of joints
    .csv     a row per frame, a column per coordinate: left_elbow_x, left_elbow_y, ...; or x0, y0, ...; or numbers only
    folder   a .json file per frame, as OpenPose writes them

A joint is x, y; x, y, z; x, y, score; or x, y, z, score. In text the score is known by its name (left_elbow_score).
Columns that name every joint of the skeleton are put into its order; if some of as many are named otherwise, the table
is refused; else its order is the skeleton's.
Of the people in frames, one that clearly moves most comes first.
"""
from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phases.common.limits import load_npy, one_line, read_bytes
from phases.recordings.clips import motion_of
from phases.recordings.csv_clips import COUNTS, SCORES, of_csv

SUFFIXES = (".npy", ".json", ".csv")
BODIES = ("worldLandmarks", "world_landmarks", "poseWorldLandmarks", "pose_world_landmarks", "landmarks",
          "poseLandmarks", "pose_landmarks", "landmark", "people", "keypoints", "pose_keypoints_3d",
          "pose_keypoints_2d", "joints")
FRAMES = ("skeletons", "frames", "poses", "data")
PICTURE = BODIES[4:]  # keys of landmarks that say where in the picture a body is


@np.errstate(over="ignore", invalid="ignore")  # 1e300 becomes infinite, and is refused by who takes the clip
def load_pose(path: Path, joints: Sequence[str] = ()) -> np.ndarray:
    """The numbers of a clip, (L, V, C) or (M, L, V, C); ValueError says what is wrong. joints: the skeleton's, by name.
    """
    if path.is_dir():
        files, frames = frame_files(path), []
        for file in files:
            try:
                frames.append(json_value(file))
            except ValueError as e:
                raise ValueError(f"{file.name} {e}") from None
        if not frames:
            raise ValueError(f"{path}: holds no .json file of a frame")
        return of_frames(frames, [file.name for file in files])
    if path.suffix.lower() == ".json":
        return of_json(json_value(path))
    return of_csv(path, joints) if path.suffix.lower() == ".csv" else in_order(load_npy(path))


def in_order(x: np.ndarray) -> np.ndarray:
    """The array; ValueError if its axes are in ST-GCN's order, (3, L, V, M), or frames come before bodies."""
    if x.ndim == 4 and (x.shape[0] == 3 and x.shape[3] <= 2 or x.shape[0] > max(2, x.shape[1])):
        raise ValueError(f"has shape {x.shape}, read as {x.shape[0]} bodies and {x.shape[1]} frames: are the axes "
                         "swapped? An array is (bodies, frames, joints, 3), with two bodies at most in 2-D")
    return x


def pose_files(folder: Path) -> list[Path]:
    """The clips in a folder: files, and folders of frames; without hidden ones and what else adopt knows by name."""
    return sorted(p for p in folder.iterdir() if p.name not in ("skeleton.json", "labels.csv") and p.name[0] != "."
                  and (p.suffix.lower() in SUFFIXES if p.is_file() else p.is_dir() and is_frames(p)))


def is_frames(folder: Path) -> bool:
    """Whether a folder holds a .json file per frame, and so one clip; other files may sort before or after them."""
    files = frame_files(folder)
    if not files or any(p.suffix.lower() in (".npy", ".csv") for p in folder.iterdir()):
        return False
    for file in files[:1] + files[-1:]:
        with contextlib.suppress(ValueError, OSError):
            if is_frame(json_value(file)):
                return True
    return False


def is_openpose(path: Path) -> bool:
    """Whether a .json file, or the frames in a folder, are OpenPose's."""
    files = frame_files(path) if path.is_dir() else [path] * (path.suffix.lower() == ".json")
    return any(b'"pose_keypoints' in read_bytes(file) for file in files[:1] + files[-1:])


def frame_files(folder: Path) -> list[Path]:
    """The .json files of a folder in the order of the numbers in their names."""
    def key(path: Path) -> list:
        return [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", path.name)]

    return sorted((p for p in folder.iterdir() if p.suffix.lower() == ".json" and p.name != "skeleton.json"
                   and p.name[0] != "."), key=key)


# ---------------------------------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------------------------------

def json_value(path: Path):
    try:
        return json.loads(read_bytes(path))
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as e:
        raise ValueError(f"is not JSON ({one_line(e)})") from None


def of_json(value) -> np.ndarray:
    """A clip of a JSON value: nested numbers, a list of frames, or one frame.

    Four axes of numbers are (L, M, V, C) if there are more frames than bodies so, else (M, L, V, C).
    """
    if isinstance(value, dict) and not is_frame(value):
        key = next((key for key in (*FRAMES, *BODIES) if key in value), None)
        if key is None:
            raise ValueError(f"has the keys {', '.join(map(str, value))}; must have frames, or a frame's people or "
                             "landmarks")
        value = value[key]
    if is_frame(value):
        return of_frames([value])
    if not isinstance(value, list):
        raise ValueError(f"is {type(value).__name__}: must be a list of frames")
    (depth, number), whole = nesting(value), None
    if depth in (1, 2) and isinstance(number, (int, float)):
        raise ValueError("is a list of numbers: must be frames of joints of [x, y, z]")
    if depth in (3, 4):
        try:
            whole = np.asarray(value, np.float32)
        except (ValueError, TypeError):
            pass  # frames with different numbers of bodies, or landmarks
    if whole is None or whole.ndim != depth or depth == 4 and len(whole) > whole.shape[1]:
        return of_frames(value)  # frames, each with its bodies
    return whole


def nesting(value) -> tuple[int, object]:
    """How many lists lie around the first item that is none, and this item."""
    depth = 0
    while isinstance(value, list):
        filled = [item for item in value if item not in ([], {}, None)]
        depth, value = depth + 1, filled[0] if filled else None
    return depth, value


def is_frame(value) -> bool:
    """Whether a JSON value is one frame: a table of bodies, or a list of landmarks."""
    if isinstance(value, dict):
        return any(key in value for key in BODIES) and not any(many(value[key]) for key in BODIES if key in value)
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "x" in value[0]


def many(value) -> bool:
    """Whether a value holds more bodies than a picture shows: the frames of a clip, under a body's key."""
    depth, item = nesting(value)
    return (depth > 2 or depth == 2 and isinstance(item, dict)) and len(value) > 10


def bodies_of(frame) -> list[np.ndarray]:
    """The bodies (V, C) of a frame."""
    if not frame:
        return []
    if isinstance(frame, dict):
        key = next((key for key in BODIES if key in frame and frame[key]), None)
        if key is None and not any(key in frame for key in BODIES):
            raise ValueError(f"has the keys {', '.join(map(str, frame))}: none of {', '.join(BODIES)}; an empty list "
                             "or null means that nobody is seen")
        if key in ("pose_keypoints_2d", "pose_keypoints_3d"):
            return [flat_body(frame[key], 3 if key.endswith("2d") else 4)]
        if key == "keypoints" and isinstance(frame[key], list) and isinstance(frame[key][0], (int, float)):
            n = len(frame[key])
            return [flat_body(frame[key], next((C for C in (3, 2, 4) if n % C == 0 and n // C in COUNTS), 3))]
        return bodies_of(frame[key]) if key else []
    if not isinstance(frame, list):
        raise ValueError(f"is {type(frame).__name__}: must be a list of joints or of bodies")
    first = next((item for item in frame if item), None)
    if isinstance(first, dict) and "x" not in first or nesting(first)[0] == 2 or is_frame(first):
        return [body for item in frame for body in bodies_of(item)]
    joints = [joint_of(joint) for joint in frame]
    if len({joint.shape for joint in joints}) > 1:
        raise ValueError("has joints of different lengths")
    return [np.stack(joints)]


def joint_of(joint) -> np.ndarray:
    """x, y, z, score of a landmark; a plain joint's numbers as they are; a joint of null is missing."""
    if isinstance(joint, dict):
        score = next((joint[key] for key in SCORES if key in joint), 1.0)
        joint = [joint.get("x"), joint.get("y"), joint.get("z", 0.0), score]
    elif joint is None or joint == []:
        joint = [0.0, 0.0, 0.0, 0.0]
    try:
        return np.asarray(joint, np.float32).reshape(-1)
    except (ValueError, TypeError):
        raise ValueError(f"has the joint {str(joint)[:40]}: must be numbers") from None


def flat_body(numbers, C: int) -> np.ndarray:
    """OpenPose's and COCO's x, y, score, x, y, score, ... -> (V, 4): x, y, z, score; (V, 3) without scores, C = 2."""
    try:
        body = np.asarray(numbers, np.float32).reshape(-1, C)
    except (ValueError, TypeError):
        raise ValueError(f"has {len(numbers)} key point numbers: must be a multiple of {C}") from None
    return body if C == 4 else np.insert(body, 2, 0, axis=1)


def of_frames(frames: list, names: Sequence[str] = ()) -> np.ndarray:
    """(M, L, V, C) of frames; a body keeps its row while it stays nearest to where it was, zeros where it is not seen.

    Where it was is read from the picture's landmarks, where frames have them: world landmarks lie about the body's own
    hips. A body that moves clearly more than the first one seen, and is not seen for much less time, takes its place.
    """
    found, places = [], []
    for number, frame in enumerate(frames):
        try:
            found.append(bodies_of(frame))
        except ValueError as e:
            raise ValueError(f"{names[number] if names else f'frame {number}'} {e}") from None
        places.append(pictured(frame, found[-1]))
    found, places = one_a_picture(frames, found, places)
    shapes = {body.shape for bodies in found for body in bodies}
    if len(shapes) != 1:
        sizes = ", ".join(f"{V} joints of {C} numbers" for V, C in sorted(shapes)[:3])
        raise ValueError(f"bodies differ: {sizes}" if shapes else "no body in any frame")
    M = max(map(len, found))
    x, last = np.zeros((M, len(found), *shapes.pop()), np.float32), np.full((M, 3), np.inf, np.float32)
    for at, bodies in enumerate(found):
        centres = [centre_of(body) for body in places[at]]
        far = [[np.linalg.norm(c - w) if np.isfinite(w).all() else 1e30 + row for row, w in enumerate(last)]
               for c in centres]
        rows, columns = set(range(len(bodies))), set(range(M))
        for body, row in sorted(np.ndindex(len(bodies), M), key=lambda pair: far[pair[0]][pair[1]]):
            if body in rows and row in columns:
                x[row, at], last[row] = bodies[body], centres[body]
                rows.remove(body)
                columns.remove(row)
    (way, steps), seen = motion_of(x[..., :3]), x.any((2, 3)).sum(1)
    motion = way / steps.clip(1) * (2 * seen >= seen[0])  # else a passer-by, or no body at all
    first = int(motion.argmax()) if motion.max() > 1.2 * motion[0] else 0
    return x[[first, *(row for row in range(M) if row != first)]]


def one_a_picture(frames: list, found: list, places: list) -> tuple[list, list]:
    """AlphaPose and COCO write an entry a body: entries of one image_id are one frame."""
    images = [frame.get("image_id") if isinstance(frame, dict) else None for frame in frames]
    if None in images or len(set(images)) == len(images):
        return found, places
    merged = {image: ([], []) for image in images}
    for image, bodies, where in zip(images, found, places, strict=True):
        merged[image][0].extend(bodies)
        merged[image][1].extend(where)
    return [m[0] for m in merged.values()], [m[1] for m in merged.values()]


def pictured(frame, bodies: list[np.ndarray]) -> list[np.ndarray]:
    """The bodies of a frame as they lie in the picture, if the frame says it of each, else as they are."""
    key = next((key for key in PICTURE if isinstance(frame, dict) and frame.get(key)), None)
    with contextlib.suppress(ValueError):
        seen = bodies_of({key: frame[key]}) if key else []
        return seen if len(seen) == len(bodies) else bodies
    return bodies


def centre_of(body: np.ndarray) -> np.ndarray:
    """(3,) the mean of the joints that are seen."""
    places = body[:, :3] if body.shape[1] > 2 else np.pad(body, ((0, 0), (0, 1)))
    seen = places.any(1)
    return places[seen].mean(0) if seen.any() else np.zeros(3, np.float32)
