"""The field's way to read NTU text, as the yardstick of `just bench` and the tests: line by line, every field of every line to a float."""
from __future__ import annotations

from pathlib import Path

BODY = ("body_id", "clipped_edges", "left_hand_confidence", "left_hand_state", "right_hand_confidence", "right_hand_state", "restricted", "lean_x",
        "lean_y", "tracking_state")
JOINT = ("x", "y", "z", "depth_x", "depth_y", "colour_x", "colour_y", "orientation_w", "orientation_x", "orientation_y", "orientation_z",
         "tracking_state")


def reference_parse(path: Path | str) -> list[list[dict]]:
    """Frames -> bodies -> the ten fields of the body and `joints`, a list of 25 dictionaries of twelve fields."""
    frames = []
    with open(path) as f:
        for _ in range(int(f.readline())):
            bodies = []
            for _ in range(int(f.readline())):
                body = dict(zip(BODY, map(float, f.readline().split()), strict=True))
                body["joints"] = []
                for _ in range(int(f.readline())):
                    body["joints"].append(dict(zip(JOINT, map(float, f.readline().split()), strict=True)))
                bodies.append(body)
            frames.append(bodies)
    return frames
