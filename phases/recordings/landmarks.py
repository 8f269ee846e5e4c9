"""MediaPipe's landmarks, which exist twice, and the hands that pose estimators write beside a body. numpy only.

World landmarks are metres from the middle of the hips, or of the hand: they show the shape, and nothing of how the
whole body moves. Those of the picture are shares of its width and height, with a rough depth: they show the path.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skeletons import SKELETONS, spelled

SHAPE_AND_PATH = "world landmarks give the shape of a body, those of the picture the path along which it moves"
NO_PATH = ("has world landmarks only, which are centred on the body: how the whole body moves is not in them; write "
           "those of the picture beside them")
HANDS = "hands are in the file, and are not read: skeleton=hand21 reads them, the one that moves most first"
HOLISTIC = f"{HANDS}; skeleton=holistic reads body and hands, 75 joints"
WRISTS = {"left": 15, "right": 16}  # in mediapipe33
BODY, HAND = 33, 21  # joints


def hand_keys(side: str, world: bool = False) -> tuple[str, str]:
    """The keys of a hand's landmarks in JavaScript and in Python."""
    if world:
        return f"{side}HandWorldLandmarks", f"{side}_hand_world_landmarks"
    return f"{side}HandLandmarks", f"{side}_hand_landmarks"


HAND_KEYS = tuple(key for side in WRISTS for world in (False, True) for key in hand_keys(side, world))


def wanted_parts(joints: Sequence[str], has_hands: bool, has_body: bool) -> tuple[str, ...]:
    """What to read of frames for a skeleton's joints: "body", "holistic", or "left" and "right", each hand a body."""
    names = [spelled(joint) for joint in joints]
    if has_hands and names == list(SKELETONS["holistic"].joints):
        return ("holistic",)
    if has_hands and (names == list(SKELETONS["hand21"].joints) or not has_body):
        return tuple(WRISTS)
    return ("body",)


def shows_hands(frame: object) -> bool:
    """Whether a frame holds a hand beside the body: MediaPipe Holistic's or OpenPose's."""
    if not isinstance(frame, dict):
        return False
    hands = [person.get(f"hand_{side}_keypoints_2d") for person in people_of(frame) for side in WRISTS]
    of_people = any(isinstance(hand, list) and any(hand) for hand in hands)  # all zeros: not seen
    return of_people or any(frame.get(key) for key in HAND_KEYS)


def people_of(frame: dict) -> list[dict]:
    """The people of a frame of OpenPose."""
    people = frame.get("people")
    return [person for person in people if isinstance(person, dict)] if isinstance(people, list) else []


def scored(hand: np.ndarray) -> np.ndarray:
    """A hand (V, 4), which is seen as a whole: MediaPipe fills its scores with zeros."""
    if hand.shape[1] == 4 and not hand[:, 3].any():
        hand = hand.copy()
        hand[:, 3] = 1
    return hand


def joined(body: np.ndarray, hands: dict[str, np.ndarray], at_wrist: bool) -> np.ndarray:
    """(75, 4) of a body (33, 4) and its hands (21, 4); zeros for one that is not seen.

    The depth of a hand counts from its wrist. at_wrist: so do x and y, as of world landmarks. ValueError for other
    bodies.
    """
    if len(body) != BODY:
        raise ValueError(f"has a body of {len(body)} joints: holistic is MediaPipe's {BODY} with two hands")
    parts = [body]
    for side, wrist in WRISTS.items():
        hand = np.zeros((HAND, 4), np.float32)
        if side in hands:
            hand = hands[side].copy()
            axes = slice(0, 3) if at_wrist else slice(2, 3)
            hand[:, axes] += body[wrist, axes] - hand[0, axes]
        parts.append(hand)
    return np.concatenate(parts)


def with_path(world: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """World landmarks (M, L, V, 4), moved along the path that the same joints (M, L, V, 4) have in the picture.

    Metres per width and per height of the picture are those that fit its bodies best to the world's, in the whole clip.
    The path is in the picture's plane, and 0 in the middle; without an extent in the picture nothing moves.
    """
    there = world[..., :3].any(3) & picture[..., :3].any(3)  # m l v
    middle, shape = centred(world[..., :2], there)
    middle_seen, shape_seen = centred(picture[..., :2], there)

    # metres per unit of the picture, for x and for y
    spread = (shape_seen ** 2).sum((0, 1, 2))
    scale = (shape * shape_seen).sum((0, 1, 2)) / np.maximum(spread, 1e-12)
    if not (scale > 0).all():
        return world

    # one place for all bodies: they keep their distances
    path = middle_seen * scale - middle  # m l 2
    path -= np.median(path[there.any(2)], axis=0)
    out = world.copy()
    out[..., :2] += path[:, :, None] * world[..., :3].any(3)[..., None]
    return out


def centred(x: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle (M, L, 2) of the joints (M, L, V, 2) that are there, and the joints from it, zeros for the others."""
    number = np.maximum(there.sum(2), 1)[..., None]
    middle = (x * there[..., None]).sum(2) / number
    return middle, (x - middle[:, :, None]) * there[..., None]
