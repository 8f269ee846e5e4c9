"""A frame per line of text, in each form that clip= reads: nested lists, landmarks, key points, tables. numpy only.

    JSON    joints [[x, y, z], ...], or several bodies of them; MediaPipe's landmarks; OpenPose's `people`; COCO's
            `keypoints`; a frame as YOLO, Kinetics-Skeleton and Azure Kinect's offline_processor have it; one entry of
            AlphaPose's or COCO's results per line, of which those of one image_id are a frame
    CSV     a row per frame or per joint, with a header or without one: see table_lines.py

A table of JSON may tell its time in seconds: {"t": 12.04, ...}.
"""
from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np

from phases.recordings.described import PICTURE, BodyFrame, Described, key_points_in
from phases.recordings.json_clips import (
    BODIES,
    bodies_of_part,
    has_any,
    has_world_hands,
    in_picture,
    is_frame,
    seen_bodies,
    shape_of_all,
    world_keys,
)
from phases.recordings.kinect_json import SDK, bodies_in_metres, skeleton_of_kinect
from phases.recordings.landmarks import (
    HAND_KEYS,
    HANDS,
    HOLISTIC,
    NO_PATH,
    SHAPE_AND_PATH,
    WRISTS,
    people_of,
    shows_hands,
    wanted_parts,
)
from phases.recordings.metres import Recorded, missing_as_zeros
from phases.recordings.nested_lists import full_array, nesting
from phases.recordings.picture_json import (
    FIXED,
    alphapose_frames,
    is_alphapose,
    is_kinetics,
    is_yolo_frame,
    kinetics_frames,
    yolo_frames,
)
from phases.recordings.table_lines import Gaps, TableLines
from skeletons import SKELETONS

WHOLE = "is a whole clip: a line holds one frame, and clip=FILE reads a clip"


class NoFrameError(ValueError):
    """A line that is no frame in any form."""


class FrameLines:
    """Lines of a stream, one after the other -> frames. joints: a network's, by name."""

    def __init__(self, joints: Sequence[str]):
        self.joints = list(joints)
        self.table: TableLines | None = None
        self.kinect: dict = {"joint_names": SDK.split(), "bone_list": []}
        self.entries: list[dict] = []       # of one image: AlphaPose and COCO have one per person
        self.stamp: float | None = None     # of these
        self.gaps = Gaps()
        self.has_hands = False              # whether a frame has shown hands beside a body
        self.notes: list[str] = []          # what to tell the user

    def add(self, line: str) -> list[BodyFrame]:
        """The frames that a line completes, in order. ValueError for a bad line; NoFrameError if it is nothing known.
        """
        text = line.strip()
        if text[:1] not in "[{" and any(mark in text for mark in ",;\t"):
            return self._row(text)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise NoFrameError from None

        # its time; json takes 1e300, which becomes infinite
        stamp = None
        if isinstance(value, dict) and "t" in value:
            stamp = time_of(value["t"])
            value = {key: item for key, item in value.items() if key != "t"}
        if value == {}:
            raise NoFrameError
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                return self._of_value(value, stamp, text)
            except (TypeError, KeyError, OverflowError, RecursionError):
                raise NoFrameError from None

    def end(self) -> list[BodyFrame]:
        """The frames that are whole because the input has ended."""
        return self._of_entries() + (self.table.end() if self.table else [])

    def _row(self, text: str) -> list[BodyFrame]:
        """The frames that a line of a table completes."""
        if self.table is None:
            try:
                table = TableLines(text, self.joints)
            except ValueError as e:
                raise NoFrameError from e
            self.table = table
            if table.is_header:
                return []
        return self.table.add(text)

    def _of_value(self, value: object, stamp: float | None, text: str) -> list[BodyFrame]:
        """The frames that a JSON value completes."""
        # a line of names before the frames
        if isinstance(value, dict) and "joint_names" in value:
            if value.get("frames"):
                raise ValueError(WHOLE)
            skeleton_of_kinect(value | {"bone_list": value.get("bone_list", [])})
            self.kinect = value
            return []

        # a person per line
        if isinstance(value, dict) and "image_id" in value and "keypoints" in value:
            is_next = bool(self.entries) and self.entries[0]["image_id"] != value["image_id"]
            before = self._of_entries() if is_next else []
            if not self.entries:
                self.stamp = stamp
            self.entries.append(value)
            return before
        return [*self._of_entries(), *self._of_frame(value, stamp, text)]

    def _of_entries(self) -> list[BodyFrame]:
        """The frame of the entries of one image."""
        entries = self.entries
        self.entries = []
        if not entries:
            return []
        return self._of_frame(entries, self.stamp, json.dumps(entries[:1]))

    def _of_frame(self, value: object, stamp: float | None, text: str) -> list[BodyFrame]:
        """A frame, after those without a body that its number tells."""
        gap = 0
        key_points = key_points_in(text.encode())
        if isinstance(value, dict) and isinstance(value.get("bodies"), list):
            frame = self._of_kinect(value)
        elif isinstance(value, dict) and is_kinetics({"data": [value]}):
            gap = self.gaps.before(value["frame_index"])
            frame = in_pictures(kinetics_frames({"data": [value]})[0], key_points)
        elif is_alphapose(value):
            gap = self.gaps.before("".join(filter(str.isdecimal, str(value[0]["image_id"]))))
            frame = in_pictures(alphapose_frames(value)[0], key_points)
        elif is_yolo_frame(value):
            frame = in_pictures(yolo_frames(value)[0], key_points)
        else:
            frame = self._of_bodies(value, key_points)
        return [nobody(self.joints)] * gap + [(frame or nobody(self.joints))._replace(stamp=stamp)]

    def _of_kinect(self, value: dict) -> BodyFrame | None:
        """A frame of Azure Kinect's, of the SDK's joints unless a line before it named others."""
        names = self.kinect["joint_names"]
        ids, joints = bodies_in_metres(value, len(names))
        if not ids:
            return None
        if names == SDK.split():
            skeleton = SKELETONS["azure32"]
        else:
            skeleton = skeleton_of_kinect(self.kinect)
        return BodyFrame(joints, ids, found=Described(skeleton, Recorded()))

    def _of_bodies(self, value: object, key_points: str) -> BodyFrame | None:
        """A frame of nested numbers, of landmarks, or of tables of bodies; None if nobody is seen."""
        if isinstance(value, dict) and list(value) == ["joints"]:
            value = value["joints"]
        sizes, item = nesting(value)
        if item is None:
            return None

        # nested numbers: bodies in their order
        if not isinstance(item, dict) and not isinstance(value, dict):
            x = full_array(value, sizes)
            if x is None or isinstance(item, (str, bool)):
                raise NoFrameError
            if np.isnan(x).all():
                return None
            return BodyFrame(x[None] if x.ndim == 2 else x)
        if isinstance(value, dict) and not is_frame(value) and any(value.get(key) for key in (*BODIES, "frames")):
            raise ValueError(WHOLE)
        return self._of_parts(value, key_points)

    def _of_parts(self, value: object, key_points: str) -> BodyFrame | None:
        """The bodies, or hands, of a frame as pose estimators write it."""
        # the body, with hands, or each hand as a body of its own
        self.has_hands = self.has_hands or mentions_hands(value)
        parts = wanted_parts(self.joints, self.has_hands, has_any(value, BODIES) or not self.has_hands)
        if parts == ("body",) and shows_hands(value):
            self._note(HANDS if has_any(value, ("people",)) else HOLISTIC)

        seen, sides = [], []
        has_world, twice = False, True
        for part in parts:
            use_world = part != "holistic" or has_world_hands(value)
            bodies = bodies_of_part(value, part, use_world)
            places = in_picture(value, part, bodies)
            twice = twice and (places is not bodies or not bodies)
            has_world = has_world or use_world and has_any(value, world_keys(part))
            found = seen_bodies(bodies, places)
            seen += found
            sides += [part] * len(found)
        if not seen:
            return None

        # the shape of world landmarks, the path of the picture's
        shape = shape_of_all([[body for body, _ in seen]])
        has_places = all(place.shape == shape for _, place in seen)
        has_path = has_world and twice and has_places
        if has_world:
            self._note(SHAPE_AND_PATH if has_path else NO_PATH)
        is_each_once = parts == tuple(WRISTS) and len(set(sides)) == len(sides)
        return BodyFrame(
            np.stack([body for body, _ in seen]),
            tuple(sides) if is_each_once else None,
            np.stack([place if has_places else body for body, place in seen]),
            has_path,
            Described(None, PICTURE, key_points) if key_points else Described())

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def nobody(joints: Sequence[str]) -> BodyFrame:
    return BodyFrame(np.zeros((0, len(joints), 3), np.float32))


def time_of(stamp: object) -> float:
    """A time stamp in seconds; NoFrameError if it is none."""
    if isinstance(stamp, bool) or not isinstance(stamp, (int, float)) or not math.isfinite(stamp):
        raise NoFrameError
    return float(stamp)


def mentions_hands(frame: object) -> bool:
    """Whether a frame has a place for hands beside a body, even if it shows none."""
    if not isinstance(frame, dict):
        return False
    of_people = any(f"hand_{side}_keypoints_2d" in person for person in people_of(frame) for side in WRISTS)
    return of_people or any(key in frame for key in HAND_KEYS)


def in_pictures(bodies: list[tuple[object, np.ndarray]], key_points: str) -> BodyFrame | None:
    """A frame of a picture's bodies (V, 4) with their numbers, as picture_json.py reads them; None without a body."""
    ids = tuple(number for number, _ in bodies)
    seen = [body for _, body in bodies]
    if None in ids:
        ids = None
        seen = [body for body, _ in seen_bodies(seen, seen)]
    if not seen:
        return None

    shape_of_all([seen])
    joints = missing_as_zeros(np.stack(seen))
    found = Described(SKELETONS.get(FIXED.get(joints.shape[1])), PICTURE if key_points else None, key_points)
    return BodyFrame(joints, ids, joints, found=found)
