"""The page's JavaScript, in Node.js, reads MediaPipe's, COCO's and OpenPose's JSON and tables as predict does."""
import json
from pathlib import Path

import numpy as np
import pytest

from skeletons import SKELETONS, Skeleton, spelled
from tests.helpers.browser import node
from tests.helpers.page_clips import READ, check_clips
from tests.helpers.shipped import stand_in

NEAR = 1e-5     # metres
FLAT = {"unit": "px", "up": "-y", "channels": "xys"}


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, Path]:
    """Stand-ins for networks of several skeletons, in metres or in pixels."""
    folder = tmp_path_factory.mktemp("networks")
    made = {name: stand_in(folder / f"{name}.onnx", ["view.bodies=2"], SKELETONS[name])
            for name in ("ntu25", "mediapipe33", "coco17", "h36m17", "openpose25")}
    for name in ("mediapipe33", "coco17"):
        made[f"{name}_flat"] = stand_in(folder / f"{name}_flat.onnx", ["view.extent=true"], SKELETONS[name], FLAT)
    own = SKELETONS["openpose25"]
    titled = Skeleton("ours", own.joints, own.parents, own.regions)
    made["titled"] = stand_in(folder / "titled.onnx", [], titled)
    return made


def body_of(name: str, frames: int = 9, seed: int = 0) -> np.ndarray:
    """Joints (L, V, 3) of an upright body that walks and waves, in metres, x right, y down as in a picture."""
    rng = np.random.default_rng(seed)
    skeleton = SKELETONS[name]
    pose = rng.normal(0, 0.1, (skeleton.num_joints, 3))
    for pair, height in zip((skeleton.trunk[:2], skeleton.trunk[2:]), (-0.5, 0.0), strict=True):
        for joints in pair:
            pose[joints, 1] += height
    wave = 0.2 * np.sin(np.arange(frames) / 2)[:, None, None] * rng.random((skeleton.num_joints, 1))
    walk = np.arange(frames)[:, None, None] * [0.02, 0.003, 0.0]
    return (pose + wave + walk).astype(np.float32)


def in_picture(body: np.ndarray, at: tuple[float, float] = (320, 240)) -> np.ndarray:
    """Pixels (L, V, 2) of a body in metres."""
    return body[..., :2] * 200 + np.float32(at)


def with_scores(places: np.ndarray, seed: int = 0) -> np.ndarray:
    """Places (L, V, C) with scores, a fifth of which are a group of low ones at joints that are anywhere."""
    rng = np.random.default_rng(seed)
    is_low = rng.random(places.shape[:2]) < 0.2
    score = np.where(is_low, rng.uniform(0.01, 0.04, is_low.shape), rng.uniform(0.7, 1, is_low.shape))
    away = np.where(is_low[..., None], rng.uniform(-50, 50, places.shape), 0)
    return np.concatenate([places + away, score[..., None]], 2)


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


# ---------------------------------------------------------------------------------------------------------------------
# MediaPipe
# ---------------------------------------------------------------------------------------------------------------------

def landmarks(body: np.ndarray, axes: str = "xyz", **more) -> list[list[dict]]:
    """A list of landmarks per frame."""
    return [[dict(zip(axes, map(float, joint), strict=True)) | more for joint in frame] for frame in body]


def mediapipe_files(folder: Path) -> list[Path]:
    body = body_of("mediapipe33")
    other = body_of("mediapipe33", seed=1) + np.float32([0.8, 0, 0])
    shares = body * np.float32([0.3, 0.4, 0.3]) + np.float32([0.4, 0.5, 0])
    second = other * np.float32([0.3, 0.4, 0.3]) + np.float32([0.4, 0.5, 0])
    centred, beside = (b - b[:, 23:25].mean(1, keepdims=True) for b in (body, other))
    world, picture = landmarks(centred, visibility=0.9), landmarks(shares)

    # how the two are written, by people and by the Tasks interface
    both = [{"landmarks": p, "worldLandmarks": w} for p, w in zip(picture, world, strict=True)]
    tasks = [{"pose_landmarks": [p], "pose_world_landmarks": [w]} for p, w in zip(picture, world, strict=True)]
    tasks[3] = {"pose_landmarks": [], "pose_world_landmarks": []}
    pairs = zip(shares, second, centred, beside, strict=True)
    people = [{"landmarks": landmarks(np.stack([p, q])), "worldLandmarks": landmarks(np.stack([v, w]))}
              for p, q, v, w in pairs]
    for frame in people[4:6]:
        frame["landmarks"], frame["worldLandmarks"] = frame["landmarks"][1:], frame["worldLandmarks"][1:]
    people[2] = {name: found[::-1] for name, found in people[2].items()}
    holes = landmarks(body)
    holes[1] = None
    holes[2][5] = None
    holes[3][6]["x"] = None
    scored = with_scores(body)
    return [
        write(folder / "lists.json", landmarks(body)),
        write(folder / "picture.json", [{"landmarks": frame} for frame in picture]),
        write(folder / "world.json", [{"poseWorldLandmarks": frame} for frame in world]),
        write(folder / "both.json", both),
        write(folder / "tasks.json", {"fps": 30, "frames": tasks}),
        write(folder / "people.json", people),
        write(folder / "holes.json", holes),
        write(folder / "one.json", both[0]),
        write(folder / "key.json", {"pose_landmarks": picture + picture}),
        write(folder / "low.json", [[{"x": x, "y": y, "z": z, "visibility": s} for x, y, z, s in frame]
                                    for frame in scored.tolist()]),
        write(folder / "numbers.json", {"poses": scored.tolist()}),
        write(folder / "bodies.json", np.stack([body, other], 1).tolist()),
        write(folder / "hands.json", [frame | {"leftHandLandmarks": landmarks(body)[0][:21]} for frame in both]),
        write(folder / "nan.json", json.dumps(landmarks(body)).replace(str(float(body[0, 0, 0])), "NaN", 1)),
    ]


def test_landmarks_of_mediapipe_are_read_as_predict_reads_them(networks, tmp_path):
    files = mediapipe_files(tmp_path)
    pairs = [(networks[name], file) for name in ("ntu25", "mediapipe33", "coco17") for file in files]
    said = dict(zip([(model.stem, file.stem) for model, file in pairs], check_clips(pairs, NEAR), strict=True))
    assert "Joints of mediapipe33 (m, -y up) are turned into the network's ntu25." in said["ntu25", "both"]
    assert "world landmarks only" in said["ntu25", "world"] and "only" not in said["ntu25", "both"]


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------

def table(names: list[str], rows: np.ndarray, mark: str = ",") -> str:
    return "\n".join([mark.join(names)] * bool(names) + [mark.join(map(repr, row)) for row in rows.tolist()])


def columns(joints: list[str], axes: tuple[str, ...]) -> list[str]:
    return [f"{joint}_{axis}" for joint in joints for axis in axes]


def table_files(folder: Path, name: str) -> list[Path]:
    """Tables whose columns name the joints of a skeleton."""
    joints = list(SKELETONS[name].joints)
    body = body_of(name)
    L, V = body.shape[:2]
    order = np.random.default_rng(2).permutation(V)
    mixed = [joints[v] for v in order]
    by_frame = body[:, order].reshape(L, -1)
    pixels = with_scores(in_picture(body))
    named = table(columns(mixed, ("x", "y", "z")), by_frame)

    # cells that are missing, an index, a time, another spelling
    holes = [line.split(",") for line in named.splitlines()]
    holes[2][4], holes[3][7], holes[5] = "", "nan", [""] * len(holes[0])
    timed = table(["time_ms", *columns(mixed, ("x", "y", "z")), "speed_v"],
                  np.c_[np.arange(L) * 33.3, by_frame, np.ones(L)])
    camel = ["".join(map(str.title, spelled(joint).split())) for joint in mixed]
    spaced = [f"{axis} {joint}".replace("_", " ") for joint in mixed for axis in "xyz"]
    score = columns(joints, ("x", "y", "confidence"))
    return [
        write(folder / "named.csv", named),
        write(folder / "holes.csv", "\n".join(map(",".join, holes))),
        write(folder / "timed.csv", timed),
        write(folder / "camel.csv", table([f"{joint}{axis}" for joint in camel for axis in "XYZ"], by_frame)),
        write(folder / "spaced.csv", table([f'"{column} [m]"' for column in spaced], by_frame, "\t")),
        write(folder / "commas.csv", table(columns(mixed, ("x", "y", "z")), by_frame, ";").replace(".", ",")),
        write(folder / "scores.csv", table(score, pixels.reshape(L, -1))),
        write(folder / "flat.csv", table(columns(joints, ("x", "y")), in_picture(body).reshape(L, -1))),
        *tidy_files(folder, joints, body),
    ]


def tidy_files(folder: Path, joints: list[str], body: np.ndarray) -> list[Path]:
    """Tables with a row per frame and joint."""
    L, V = body.shape[:2]
    rows = [(t, v, *map(float, body[t, v])) for t in range(L) for v in range(V) if t != 4 and (t, v) != (2, 3)]
    other = body + np.float32([0.9, 0, 0])
    people = [("a", t, joints[v], *map(float, body[t, v])) for t in range(L) for v in range(V)]
    people += [("b", t, joints[v], *map(float, other[0, v])) for t in range(L) for v in range(V)]
    named = [(10 + t, joints[v], *place) for t, v, *place in rows]
    scored = [(t, joints[v], 200 * x, 200 * y, 0.02 if v % 7 == 3 else 0.9) for t, v, x, y, _ in rows]

    def lines(header: str, found: list[tuple]) -> str:
        return "\n".join([header, *(",".join(map(str, row)) for row in found)])

    return [
        write(folder / "tidy.csv", lines("frame,joint,x,y,z", named)),
        write(folder / "tidy_numbers.csv", lines("Frame_ID,landmark,x [m],y [m],z [m]", rows)),
        write(folder / "tidy_times.csv", lines("time [s],joint,x,y,z", [(t / 30, *row) for t, *row in named])),
        write(folder / "tidy_people.csv", lines("person,frame,JointName,x,y,z", people)),
        write(folder / "tidy_scores.csv", lines("image,keypoint,x,y,score", scored)),
        write(folder / "tidy_empty.csv", lines("frame,joint,x,y,z", named) + f"\n19,{joints[0]},,,\n19,,1,1,1"),
    ]


@pytest.mark.parametrize("name", ["mediapipe33", "coco17", "ntu25"])
def test_tables_that_name_their_joints_are_read_as_predict_reads_them(networks, tmp_path, name):
    files = table_files(tmp_path, name)
    if name == "ntu25":     # to these it cannot be turned, and those without names are a guess
        models = [networks["ntu25"]]
    else:
        models = [networks[key] for key in ("ntu25", "mediapipe33", name) if name != "coco17" or key != "mediapipe33"]
    check_clips([(model, file) for model in models for file in files], NEAR)


def test_tables_of_numbers_are_read_as_predict_reads_them(networks, tmp_path):
    body = body_of("mediapipe33")
    rows = body.reshape(len(body), -1)
    plain = table([], rows)
    numbered = table([f"{axis}{v}" for v in range(33) for axis in "xyz"], rows)
    per_joint = np.concatenate([np.broadcast_to(np.arange(33)[:, None], (9, 33, 1)), body], 2).reshape(9, -1)
    pandas = table(["", *map(str, range(99))], np.c_[np.arange(9), rows])
    files = {
        "plain": plain, "numbered": numbered, "counted": table([], np.c_[np.arange(9), rows]), "pandas": pandas,
        "windows": "\r\n".join(plain.splitlines()) + "\r\n", "per_joint": table([], np.c_[np.arange(9), per_joint]),
        "missing": plain.replace(plain.split(",")[5], "-1.#IND", 1).replace(plain.split(",")[200], "N/A", 1),
        "pixels": table([], in_picture(body).reshape(9, -1)), "blank": "\n\n" + plain + "\n" + "," * 98 + "\n",
        "scores": table([], np.insert(with_scores(in_picture(body)), 2, 0, axis=2).reshape(9, -1)),
    }
    paths = [write(tmp_path / f"{name}.csv", text) for name, text in files.items()]
    wide = tmp_path / "wide.csv"
    wide.write_text(numbered, encoding="utf-16")
    check_clips([(networks[key], path) for key in ("ntu25", "mediapipe33") for path in [*paths, wide]], NEAR)

    # x, y, score without a name, for networks in metres and in pixels
    flat = with_scores(in_picture(body_of("coco17")))
    scored = write(tmp_path / "xys.csv", table([], flat.reshape(9, -1)))
    said = check_clips([(networks[key], scored) for key in ("coco17", "coco17_flat")], NEAR)
    assert said[0].startswith("The third number of a joint is a score: read as pixels, -y up. It has no depth, and")


# ---------------------------------------------------------------------------------------------------------------------
# Key points of COCO, AlphaPose and OpenPose
# ---------------------------------------------------------------------------------------------------------------------

def entries(bodies: list[np.ndarray], **more) -> list[dict]:
    """An annotation per frame and body (L, V, 3)."""
    return [{"image_id": t, "category_id": 1, "keypoints": body[t].ravel().tolist()} | more
            for t in range(len(bodies[0])) for body in bodies]


def coco_files(folder: Path, name: str) -> list[Path]:
    body = with_scores(in_picture(body_of(name)))
    other = with_scores(in_picture(body_of(name, seed=1), (500, 250)), 1)
    third = with_scores(in_picture(body_of(name, seed=2), (90, 250)), 2)
    tracked = [entry | {"idx": 4 + k % 2, "score": 2.5, "image_id": f"{entry['image_id']:03}.jpg"}
               for k, entry in enumerate(entries([body, other]))]
    untracked = [entry | {"score": 2.5, "image_id": f"v_{entry['image_id']}.png"} for entry in entries([body, third])]
    pairs = body[..., :2].tolist()
    return [
        write(folder / "annotations.json", entries([body])),
        write(folder / "crowd.json", entries([third, body, other], score=1.9)),
        write(folder / "frames.json", [{"keypoints": frame.ravel().tolist()} for frame in body]),
        write(folder / "wrapped.json", {"frames": [[{"keypoints": frame.ravel().tolist()}] for frame in body]}),
        write(folder / "tracked.json", tracked[:6] + tracked[8:]),
        write(folder / "untracked.json", untracked[:4] + untracked[5:]),
        write(folder / "joints.json", [{"keypoints": frame} for frame in body.tolist()]),
        write(folder / "pairs.json", [{"joints": frame} for frame in pairs]),
    ]


@pytest.mark.parametrize("name", ["coco17", "halpe26"])
def test_cocos_and_alphaposes_key_points_are_read_as_predict_reads_them(networks, tmp_path, name):
    files = coco_files(tmp_path, name)
    keys = ["ntu25", "coco17", "coco17_flat", "h36m17"] if name == "coco17" else ["ntu25", "coco17"]
    check_clips([(networks[key], file) for key in keys for file in files], NEAR)


@pytest.mark.parametrize("name", ["openpose25", "openpose18"])
def test_openposes_frames_are_read_as_predict_reads_them(networks, tmp_path, name):
    body = with_scores(in_picture(body_of(name)))
    other = with_scores(in_picture(body_of(name, seed=1), (500, 250)), 1)
    frames = [{"version": 1.3, "people": [{"pose_keypoints_2d": b[t].ravel().tolist(), "hand_left_keypoints_2d": []}
                                          for b in (body, other)]} for t in range(9)]
    frames[2]["people"].reverse()
    frames[4]["people"] = []
    frames[6]["people"] = frames[6]["people"][:1]
    files = [write(tmp_path / "list.json", frames), write(tmp_path / "table.json", {"frames": frames}),
             write(tmp_path / "spaced.json", json.dumps(frames, indent=2)),
             write(tmp_path / "single.json", frames[0])]
    keys = ("ntu25", "coco17", "openpose25", "titled")[:4 if name == "openpose25" else 2]  # 18 joints have no toes
    check_clips([(networks[key], file) for key in keys for file in files], NEAR)


# ---------------------------------------------------------------------------------------------------------------------
# Names, and what cannot be read
# ---------------------------------------------------------------------------------------------------------------------

def test_the_page_spells_joints_as_the_skeletons_do():
    odd = ["LeftShoulder", "shoulder_l", "LShoulder", "HANDTIP_LEFT", "hip center", "left_foot_index", "R.Elbow", "l r"]
    found = node("""const { spelled } = await import(root + "/spelling.js");
        return jobs.map(spelled);""", odd)
    assert found == list(map(spelled, odd))


def test_what_is_no_clip_in_these_forms_is_a_sentence(networks, tmp_path):
    point = {"x": 1, "y": 2}
    xy = columns(list(SKELETONS["ntu25"].joints), ("x", "y"))
    files = {
        "keys.json": ({"a": 1, "b": 2},
                      "it needs lists of frames, or a frame's people or landmarks; its keys are a, b."),
        "row.json": ([1, 2, 3], "is a list of numbers"),
        "word.json": ('"hello"', "must be a list of frames"),
        "differ.json": ([[point] * 33, [point] * 32], "bodies differ: 33 joints of 4 numbers, 32 joints"),
        "joint.json": ([[point, {"x": "a", "y": 1}]], "in frame 0 it has the joint"),
        "points.json": ([{"people": [{"pose_keypoints_2d": [1, 2, 3, 4]}]}], "4 key point numbers, no multiple of 3"),
        "unseen.json": ([{"people": []}], "shows no body in any frame"),
        "hands.json": ([{"leftHandLandmarks": [point] * 21}], "shows hands only"),
        "far.json": ("[[[1, 2, Infinity], [1, 2, 3]]]", "not a finite number"),
        "count.json": ([[point] * 19], "has 19 joints; this network can read clips of "),
        "ragged.csv": ("1,2,3\n1,2", "rows differ in length"),
        "empty.csv": ("a_x,a_y\n", "holds no frame"),
        "words.csv": ("a_x,a_y\n1,hello", "frame 0, a_y: “hello” is not a number"),
        "inf.csv": ("a_x,a_y\n1,inf", "“inf” is not finite; an empty cell means"),
        "names.csv": ("speed,angle\n1,2", "no joint has columns for x and y"),
        "axes.csv": ("a_x,a_y,b_x,b_y,b_z\n1,2,3,4,5", "its joints have different axes"),
        "five.csv": ("1,2,3,4,5\n1,2,3,4,8", "has 5 columns of numbers"),
        "other.csv": (",".join(["ear_x", "ear_y", *xy[2:]]) + "\n" + ",".join(["1"] * 50),
                      "no columns for the joint spine base, but for ear"),
        "twice.csv": ("frame,joint,x,y\n0,head,1,2\n0,head,1,2", "frame 0, joint head is there twice"),
    }
    for name, (value, _) in files.items():
        write(tmp_path / name, value)
    found = node(READ, [{"model": str(networks["ntu25"]), "clip": str(tmp_path / name)} for name in files])
    for (name, (_, message)), got in zip(files.items(), found, strict=True):
        assert name in got["error"] and message in got["error"] and got["error"].endswith("."), got
