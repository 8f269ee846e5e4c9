"""Hands beside a body are read for a skeleton that has them; world landmarks move along the picture's path."""
import json
from pathlib import Path

import numpy as np
import pytest

from phases.recordings.metres import as_joints
from phases.recordings.poses import PRINTED, load_pose
from phases.recordings.survey import look
from skeletons import SKELETONS

RNG = np.random.default_rng(0)
LEFT, RIGHT = 15, 16  # the wrists of mediapipe33
BODY = RNG.normal(0, 0.3, (6, 33, 3)) + RNG.normal(0, 0.02, (6, 1, 1))  # l v 3
HANDS = {side: RNG.normal(0, 0.05, (6, 21, 3)) for side in ("left", "right")}


@pytest.fixture(autouse=True)
def nothing_printed():
    PRINTED.clear()


def landmarks(joints: np.ndarray, **more) -> list[dict]:
    return [{"x": float(x), "y": float(y), "z": float(z)} | more for x, y, z in joints]


def pictured(metres: np.ndarray) -> np.ndarray:
    """Joints (..., 3) in metres as a picture of 16:9 shows them: shares of its width and height, a depth alike."""
    return metres * [0.3, 0.3 * 16 / 9, 0.3] + [0.5, 0.5, 0]


def load(path: Path, value: object, skeleton: str = "") -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return as_joints(load_pose(path, SKELETONS[skeleton].joints if skeleton else ()))


# ---------------------------------------------------------------------------------------------------------------------
# World and picture
# ---------------------------------------------------------------------------------------------------------------------

def moving(shape: np.ndarray, path: np.ndarray, world="worldLandmarks", picture="landmarks") -> list[dict]:
    """Frames of a body (L, V, 3) that moves along a path (L, 3), in both kinds of landmarks."""
    return [{world: [landmarks(s)], picture: [landmarks(pictured(s + p))]} for s, p in zip(shape, path, strict=True)]


@pytest.mark.parametrize("keys", [("worldLandmarks", "landmarks"), ("pose_world_landmarks", "pose_landmarks"),
                                  ("hand_world_landmarks", "hand_landmarks")])
def test_the_shape_is_the_worlds_and_the_path_the_pictures(tmp_path, capsys, keys):
    V = 21 if "hand" in keys[0] else 33
    path = np.linspace(-1, 1, 6)[:, None] * [0.25, -0.1, 0]
    x = load(tmp_path / "clip.json", moving(BODY[:, :V], path, *keys))
    np.testing.assert_allclose(x[0], BODY[:, :V] + path[:, None], atol=1e-4)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "world landmarks give the shape" in said


def test_world_landmarks_alone_are_read_and_the_lack_is_told(tmp_path, capsys):
    frames = [{"worldLandmarks": [landmarks(frame)]} for frame in BODY]
    np.testing.assert_allclose(load(tmp_path / "clip.json", frames)[0], BODY, rtol=1e-5)
    assert "how the whole body moves is not in them" in capsys.readouterr().err


def test_landmarks_of_the_picture_alone_stay_as_they_are(tmp_path, capsys):
    frames = [{"landmarks": [landmarks(frame)]} for frame in BODY]
    np.testing.assert_allclose(load(tmp_path / "clip.json", frames)[0], BODY, rtol=1e-5)
    assert not capsys.readouterr().err


def test_a_note_is_printed_once_for_a_folder(tmp_path, capsys):
    for i in range(6):
        load(tmp_path / "mine" / ("wave", "sit")[i % 2] / f"{i}.json", moving(BODY, np.zeros((6, 3))))
    assert capsys.readouterr().err.count("\n") == 1


def test_two_bodies_keep_their_distance_and_one_may_be_missing(tmp_path):
    shapes = [BODY, BODY[::-1]]
    frames = []
    for t in range(6):
        both = [(shape[t], shape[t] + [side, 0, 0]) for shape, side in zip(shapes, (-0.5, 0.5), strict=True)]
        seen = both if t != 3 else both[:1]
        frames.append({"worldLandmarks": [landmarks(s) for s, _ in seen],
                       "landmarks": [landmarks(pictured(p)) for _, p in seen]})
    x = load(tmp_path / "clip.json", frames)
    assert x.shape == (2, 6, 33, 3) and not x[1, 3].any()
    np.testing.assert_allclose(x[1, [0, 5]] - x[0, [0, 5]], BODY[::-1][[0, 5]] - BODY[[0, 5]] + [1, 0, 0], atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Hands
# ---------------------------------------------------------------------------------------------------------------------

def holistic(style: str, world: str = "") -> list[dict]:
    """Frames of MediaPipe Holistic: its keys in Python or JavaScript; world: also of the body, or of the hands too.

    The scores of hands are zeros, as MediaPipe writes them. The left hand is not seen in frame 2.
    """
    def key(name: str) -> str:
        return name if style == "python" else "".join(w.title() if i else w for i, w in enumerate(name.split("_")))

    frames = []
    for t in range(6):
        frame = {key("pose_landmarks"): landmarks(pictured(BODY[t]), visibility=0.9), key("face_landmarks"): []}
        if world:
            frame[key("pose_world_landmarks")] = landmarks(BODY[t], visibility=0.9)
        for side, wrist in (("left", LEFT), ("right", RIGHT)):
            hand = HANDS[side][t] - HANDS[side][t, 0]
            in_picture = pictured(hand + BODY[t, wrist]) - [0, 0, 0.3 * BODY[t, wrist, 2]]
            missing = side == "left" and t == 2
            frame[key(f"{side}_hand_landmarks")] = None if missing else landmarks(in_picture, visibility=0.0)
            if world == "hands":
                frame[key(f"{side}_hand_world_landmarks")] = [] if missing else landmarks(HANDS[side][t], visibility=0)
        frames.append(frame)
    return frames


def whole() -> np.ndarray:
    """(6, 75, 3) metres: the body of `holistic` with its hands at its wrists."""
    parts = [BODY]
    for side, wrist in (("left", LEFT), ("right", RIGHT)):
        parts.append(HANDS[side] - HANDS[side][:, :1] + BODY[:, wrist, None])
    x = np.concatenate(parts, 1)
    x[2, 33:54] = 0
    return x


@pytest.mark.parametrize("style", ["python", "javascript"])
@pytest.mark.parametrize("world", ["", "body", "hands"])
def test_a_body_without_a_word_is_read_alone_and_its_hands_told(tmp_path, capsys, style, world):
    x = load(tmp_path / "clip.json", holistic(style, world))
    assert x.shape == (1, 6, 33, 3)
    said = capsys.readouterr().err
    assert "hands are in the file" in said and "skeleton=holistic" in said and "skeleton=hand21" in said


@pytest.mark.parametrize("style", ["python", "javascript"])
@pytest.mark.parametrize("world", ["", "body", "hands"])
def test_holistic_is_the_body_with_both_hands_at_its_wrists(tmp_path, capsys, style, world):
    x = load(tmp_path / "clip.json", holistic(style, world), "holistic")
    expected = whole()
    if world != "hands":
        expected = pictured(expected) * expected.any(2, keepdims=True)
    np.testing.assert_allclose(x[0], expected, atol=1e-4)
    assert "are not read" not in capsys.readouterr().err


@pytest.mark.parametrize("keep", ["both", "left", "right"])
def test_each_hand_is_a_body_and_the_one_that_moves_is_first(tmp_path, keep):
    frames = holistic("python")
    moves = {"left": 4.0, "right": 1.0}
    for t, frame in enumerate(frames):
        for side, step in moves.items():
            hand = np.tile(np.arange(21)[:, None] * [0.01, 0.02, 0.01], (1, 1)) + [0.3 + 0.01 * step * t, 0.5, 0]
            frame[f"{side}_hand_landmarks"] = landmarks(hand) if keep in ("both", side) else None
    x = load(tmp_path / "clip.json", frames, "hand21")
    assert x.shape == (1 + (keep == "both"), 6, 21, 3)
    first = "left" if keep == "both" else keep
    np.testing.assert_allclose(np.diff(x[0, :, 0, 0]), 0.01 * moves[first], atol=1e-5)


def test_hands_that_cross_stay_apart(tmp_path):
    """Each hand keeps its row by its name, though the other one is nearer to where it was."""
    frames = []
    for t in range(6):
        place = {"left": 0.1 + 0.16 * t, "right": 0.9 - 0.16 * t}
        frames.append({f"{side}_hand_landmarks": landmarks(HANDS[side][0] + [x, 0.5, 0]) for side, x in place.items()})
    x = load(tmp_path / "clip.json", frames)  # hands only: they need no word
    assert x.shape == (2, 6, 21, 3)
    assert (np.sign(np.diff(x[:, :, 0, 0], axis=1)) == [[1] * 5, [-1] * 5]).all()


def openpose(body: np.ndarray, **hands: np.ndarray) -> dict:
    def flat(x: np.ndarray) -> list[float]:
        return np.insert(x[:, :2], 2, 0.8, axis=1).ravel().tolist()

    unseen = {f"hand_{side}_keypoints_2d": [0.0] * 63 for side in ("left", "right")}
    seen = {f"hand_{side}_keypoints_2d": flat(hand) for side, hand in hands.items()}
    return {"version": 1.3, "people": [{"pose_keypoints_2d": flat(body)} | unseen | seen]}


def test_openposes_hands_are_told_and_read(tmp_path, capsys):
    frames = [openpose(500 + 100 * BODY[t, :25], right=300 + 100 * HANDS["right"][t]) for t in range(6)]
    folder = tmp_path / "wave" / "0"
    folder.mkdir(parents=True)
    for t, frame in enumerate(frames):
        (folder / f"v_{t}_keypoints.json").write_text(json.dumps(frame))
    assert as_joints(load_pose(folder)).shape == (1, 6, 25, 3)
    said = capsys.readouterr().err
    assert "skeleton=hand21" in said and "holistic" not in said

    # the hand that is seen; no 75 joints
    x = as_joints(load_pose(folder, SKELETONS["hand21"].joints))
    np.testing.assert_allclose(x[0, :, :, :2], 300 + 100 * HANDS["right"][..., :2], rtol=1e-5)
    with pytest.raises(ValueError, match="frame 0.*25 joints: holistic is MediaPipe's 33|v_0_keypoints.*25 joints"):
        load_pose(folder, SKELETONS["holistic"].joints)


@pytest.mark.parametrize("skeleton, joints", [("", 33), ("holistic", 75), ("hand21", 21)])
def test_recordings_of_a_skeleton_with_hands_are_surveyed(tmp_path, skeleton, joints):
    for i in range(6):
        load(tmp_path / ("wave", "sit")[i % 2] / f"{i}.json", holistic("python"))
    found = look(tmp_path, skeleton)
    assert found.skeleton.num_joints == joints and len(found.clips) == 6 and not found.skips


@pytest.mark.parametrize("frame", [
    {"people": 5}, {"people": [{"hand_left_keypoints_2d": 7}]}, {"left_hand_landmarks": 3},
    {"left_hand_landmarks": [{"x": "a"}]}, {"leftHandLandmarks": {"a": 1}}])
@pytest.mark.parametrize("skeleton", ["", "hand21", "holistic"])
def test_hands_that_are_no_hands_are_one_line(tmp_path, frame, skeleton):
    with pytest.raises(ValueError, match=".") as e:
        load(tmp_path / "clip.json", [frame], skeleton)
    assert "\n" not in str(e.value)


def test_a_frame_with_hands_alone_shows_no_body(tmp_path):
    frames = holistic("python")
    frames[3] = {"left_hand_landmarks": frames[3]["left_hand_landmarks"]}
    x = load(tmp_path / "clip.json", frames)
    assert x.shape == (1, 6, 33, 3) and not x[0, 3].any()
