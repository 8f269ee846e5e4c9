"""Clips as pose estimators write them: JSON of frames, tables of columns, folders of frames."""
import json

import numpy as np
import pytest

from phases.recordings.clips import main_two
from phases.recordings.csv_clips import joints_of_table
from phases.recordings.metres import as_joints
from phases.recordings.poses import is_frames, load_pose, pose_files
from phases.recordings.readers import read_clip

RNG = np.random.default_rng(0)
BODY = RNG.normal(size=(4, 33, 3)).astype(np.float32) + 5  # l v 3
FLAT = RNG.uniform(100, 900, (4, 25, 2)).astype(np.float32)


def landmarks(frame: np.ndarray, **more) -> list[dict]:
    return [{"x": float(x), "y": float(y), "z": float(z), "visibility": 0.9} | more for x, y, z in frame]


def people(*bodies: np.ndarray) -> dict:
    """A frame as OpenPose writes it, of bodies (V, 2)."""
    flat = [np.insert(b, 2, 0.5, axis=1).ravel().tolist() for b in bodies]
    return {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": numbers} for numbers in flat]}


def read(tmp_path, value, name: str = "clip.json") -> np.ndarray:
    (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return as_joints(load_pose(tmp_path / name))


@pytest.mark.parametrize("wrap", [
    lambda frames: frames,
    lambda frames: {"frames": frames},
    lambda frames: [{"landmarks": f} for f in frames],
    lambda frames: {"fps": 30, "frames": [{"time": 0, "poseWorldLandmarks": f} for f in frames]},
    lambda frames: [{"landmarks": [landmarks(np.ones((33, 3)))], "worldLandmarks": [f]} for f in frames],
], ids=["list", "frames", "landmarks", "camel case", "world before picture"])
def test_mediapipe_landmarks_are_read_in_each_usual_form(tmp_path, wrap):
    x = read(tmp_path, wrap([landmarks(frame) for frame in BODY]))
    np.testing.assert_allclose(x, BODY[None], rtol=1e-6)


def test_a_frame_without_a_body_and_hidden_landmarks_are_missing(tmp_path):
    frames = [landmarks(BODY[0]), [], None, landmarks(BODY[1])]
    frames[3][7]["visibility"] = 0
    x = read(tmp_path, frames)
    assert x.shape == (1, 4, 33, 3) and not x[0, 1:3].any() and not x[0, 3, 7].any() and x[0, 3, 8].any()


def test_nested_numbers_are_what_an_array_is(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, BODY.tolist()), BODY[None])
    np.testing.assert_array_equal(read(tmp_path, {"skeletons": BODY.tolist()}), BODY[None])

    # bodies before frames, and frames before bodies
    two = np.stack([BODY, BODY + 1])
    np.testing.assert_array_equal(read(tmp_path, two.tolist()), two)
    four_frames = np.moveaxis(two[:, :, :20], 0, 1)
    assert read(tmp_path, four_frames.tolist()).shape == (2, 4, 20, 3)
    np.testing.assert_array_equal(read(tmp_path, BODY[:, None].tolist()), BODY[None])


@pytest.mark.parametrize("key", ["joints", "keypoints", "landmarks", "frames"])
def test_the_frames_of_a_clip_may_be_under_a_bodys_word(tmp_path, key):
    long = np.concatenate([BODY] * 3)  # twelve frames: more than the people in a picture
    np.testing.assert_array_equal(read(tmp_path, {"label": "wave", key: long.tolist()}), long[None])
    assert not is_frames(tmp_path), "a folder of such files holds clips"
    np.testing.assert_allclose(read(tmp_path, {key: [landmarks(frame) for frame in long]}), long[None], rtol=1e-6)
    assert not is_frames(tmp_path)


@pytest.mark.parametrize("frame", [{"keypoints": BODY[0].tolist()}, {"landmarks": landmarks(BODY[0])}])
def test_a_single_frame_is_a_clip_and_a_folder_of_them_is_one(tmp_path, frame):
    x = read(tmp_path, frame)
    np.testing.assert_allclose(x, BODY[None, :1], rtol=1e-6)
    assert is_frames(tmp_path)


def test_two_people_in_a_picture_of_alphapose_are_one_frame(tmp_path):
    two = np.stack([FLAT[:, :17], FLAT[:, :17] + 2000])
    entries = [{"image_id": f"{t}.jpg", "keypoints": np.insert(body[t], 2, 0.5, axis=1).ravel().tolist()}
               for t in range(4) for body in two]
    x = read(tmp_path, entries)
    assert x.shape == (2, 4, 17, 3)
    np.testing.assert_allclose(np.sort(x[:, :, 0, 0], axis=0), np.sort(two[:, :, 0, 0], axis=0), rtol=1e-5)

    # what is no image's name merges nothing
    odd = [entry | {"image_id": [entry["image_id"]]} for entry in entries]
    assert read(tmp_path, odd).shape == (1, 8, 17, 3)


@pytest.mark.parametrize("shape", [(40, 2, 25, 3), (9, 4, 25, 2)])
def test_arrays_with_swapped_axes_are_refused(tmp_path, shape):
    np.save(tmp_path / "clip.npy", np.ones(shape))
    np.savez(tmp_path / "clip.npz", np.ones(shape))
    with pytest.raises(ValueError, match="are the axes swapped"):
        load_pose(tmp_path / "clip.npy")
    with pytest.raises(ValueError, match="are the axes swapped"):
        read_clip(tmp_path / "clip.npz")


@pytest.mark.parametrize("shape", [(3, 40, 25, 3), (2, 40, 25, 2), (2, 1, 25, 3)])
def test_arrays_that_only_look_swapped_are_read(tmp_path, shape):
    np.save(tmp_path / "clip.npy", np.ones(shape))
    assert load_pose(tmp_path / "clip.npy").shape == shape


def test_openpose_frames_are_one_clip_as_a_list_and_as_a_folder(tmp_path):
    # in the order of their numbers
    folder = tmp_path / "clip"
    folder.mkdir()
    for i, frame in enumerate(FLAT):
        (folder / f"v_{[2, 9, 10, 11][i]}_keypoints.json").write_text(json.dumps(people(frame)))

    from_folder = as_joints(load_pose(folder))
    from_list = read(tmp_path, [people(frame) for frame in FLAT])
    assert is_frames(folder) and pose_files(tmp_path) == [folder, tmp_path / "clip.json"]
    np.testing.assert_array_equal(from_folder, from_list)
    np.testing.assert_allclose(from_list[0, :, :, :2], FLAT, rtol=1e-6)


def test_people_keep_their_row_when_the_order_in_a_frame_changes(tmp_path):
    other = FLAT + 2000
    x = read(tmp_path, [people(FLAT[0], other[0]), people(other[1], FLAT[1]), people(other[2]), people(FLAT[3])])
    np.testing.assert_allclose(x[0, [0, 1, 3], :, :2], FLAT[[0, 1, 3]], rtol=1e-6)
    np.testing.assert_allclose(x[1, :3, :, :2], other[:3], rtol=1e-6)
    assert not x[0, 2].any() and not x[1, 3].any()


@pytest.mark.parametrize("moving, first", [(1.0, 0), (1.1, 0), (3.0, 1)])
def test_a_body_that_clearly_moves_more_comes_first(tmp_path, moving, first):
    middle = FLAT.mean(0)
    seen = [FLAT, moving * (FLAT - middle) + middle + 5000]
    x = main_two(read(tmp_path, [people(*frame) for frame in zip(*seen, strict=True)]))
    np.testing.assert_allclose(x[..., :2], [seen[first], seen[1 - first]], rtol=1e-5)


def test_a_body_that_is_hardly_ever_seen_does_not_come_first(tmp_path):
    frames = [people(FLAT[0] + t % 2) for t in range(20)]
    frames[4], frames[5] = people(FLAT[0], FLAT[1] + 3000), people(FLAT[0] + 1, FLAT[2] + 4000)
    assert main_two(read(tmp_path, frames)).any((2, 3)).sum(1).tolist() == [20, 2]


def test_the_picture_keeps_the_world_landmarks_of_two_apart(tmp_path):
    about_hips = [BODY - BODY.mean(1, keepdims=True), 1.1 * (BODY - BODY.mean(1, keepdims=True))]
    frames = []
    for t in range(len(BODY)):
        order = [t % 2, 1 - t % 2]
        frames.append({"landmarks": [landmarks(np.full((33, 3), 0.2 + 0.5 * k)) for k in order],
                       "worldLandmarks": [landmarks(about_hips[k][t]) for k in order]})

    np.testing.assert_allclose(read(tmp_path, frames), about_hips, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [
    lambda v, c: f"j{v}_{c}", lambda v, c: f"{c}{v}", lambda v, c: f"{c.upper()}_{v}", lambda v, c: f"part{v}.{c}",
    lambda v, c: f"joint {v} {c} pos", lambda v, c: f"point{v}{c}"])
@pytest.mark.parametrize("by_axis", [False, True])
def test_a_table_names_its_columns_in_any_usual_way_and_order(tmp_path, name, by_axis):
    cells = [(v, c) for v in range(33) for c in range(3)]
    if by_axis:
        cells = [(v, c) for c in range(3) for v in range(33)]

    # other columns do not count
    lines = [",".join(["frame", *(name(v, "xyz"[c]) for v, c in cells), "index", "action"])]
    lines += [",".join([str(t), *(repr(float(frame[v, c])) for v, c in cells), "7", "wave"])
              for t, frame in enumerate(BODY)]
    np.testing.assert_allclose(read(tmp_path, "\n".join(lines), "clip.csv"), BODY[None], rtol=1e-6)


def test_a_table_of_numbers_only_and_one_with_scores_and_gaps(tmp_path):
    plain = "\n".join(" ; ".join(map(str, [t, *frame.ravel().tolist()])) for t, frame in enumerate(BODY))
    np.testing.assert_allclose(read(tmp_path, plain, "clip.csv"), BODY[None], rtol=1e-6)

    # as pandas writes an array: its columns are called 0, 1, 2, ...
    for index in (False, True):
        flat = BODY.reshape(len(BODY), -1).tolist()
        lines = ["," * index + ",".join(map(str, range(99))), *(f"{t}," * index + ",".join(map(str, row))
                                                                for t, row in enumerate(flat))]
        np.testing.assert_allclose(read(tmp_path, "\n".join(lines), "clip.csv"), BODY[None], rtol=1e-6)

    # scores and gaps
    x = read(tmp_path, "a_x,a_y,a_score,b_x,b_y,b_score\n1,2,0.5,3,4,0\n5,,1,7,8,0.9\n", "clip.csv")
    np.testing.assert_array_equal(x[0], [[[1, 2, 0], [0, 0, 0]], [[0, 0, 0], [7, 8, 0]]])


@pytest.mark.parametrize("times", [(0, 1, 2, 3), (7, 8, 10, 11), (0, 33, 66, 100), (0.0, 0.033, 0.067, 0.1),
                                   (1700000000000, 1700000000033, 1700000000100, 1700000000133)])
@pytest.mark.parametrize("V", [17, 33])
def test_a_first_column_of_times_or_numbers_is_no_coordinate(tmp_path, times, V):
    rows = [",".join(map(str, [t, *frame[:V].ravel().tolist()])) for t, frame in zip(times, BODY, strict=True)]
    np.testing.assert_allclose(read(tmp_path, "\n".join(rows), "clip.csv"), BODY[None, :, :V], rtol=1e-6)


@pytest.mark.parametrize("before", [[], ["t"], ["t", "person"]])
@pytest.mark.parametrize("C", [2, 3, 4])
@pytest.mark.parametrize("first", [0, 1])
def test_a_column_that_numbers_each_joint_is_no_coordinate(tmp_path, before, C, first):
    x = np.concatenate([BODY, np.full((4, 33, 1), 0.5, np.float32)], 2)[:, :20, :C]
    rows = []
    for t, frame in enumerate(x):
        numbered = np.insert(frame, 0, np.arange(first, first + 20), axis=1).ravel().tolist()
        whole = [int(number) if k % (C + 1) == 0 else number for k, number in enumerate(numbered)]
        rows.append(",".join(map(str, [t / 30, 7][:len(before)] + whole)))
    rows[2] = "," * rows[0].count(",")

    want = BODY[:, :20] * ([1, 1, 0] if C == 2 else [1, 1, 1])
    want[2] = 0
    np.testing.assert_allclose(read(tmp_path, "\n".join(rows), "clip.csv"), want[None], rtol=1e-6)

    # numbers that change from frame to frame are coordinates
    if not before and C == 2:
        cells = rows[3].split(",")
        cells[15] = "9"
        assert read(tmp_path, "\n".join([*rows[:3], ",".join(cells)]), "clip.csv")[0, 0, 1, 0] == first + 1


def test_a_first_joint_that_walks_is_a_joint(tmp_path):
    x = np.round(FLAT[:, :17])
    x[:, 0, 0] = (400, 403, 405, 410)
    rows = [",".join(map(str, frame.ravel().astype(int))) for frame in x]
    np.testing.assert_array_equal(read(tmp_path, "\n".join(rows), "clip.csv")[0, :, :, :2], x)


def test_a_german_spreadsheet_has_decimal_commas_and_empty_rows(tmp_path):
    text = "knee x [mm];knee y [mm];hand x [mm];hand y [mm]\n1,5;-2;,25;4e3\n;;;\n1;2;3;4,0\n;;;\n;;;\n"
    x = read(tmp_path, text, "Kicken.CSV")
    np.testing.assert_array_equal(x[0, :, :, :2], [[[1.5, -2], [0.25, 4000]], [[0, 0], [0, 0]], [[1, 2], [3, 4]]])
    np.testing.assert_array_equal(read(tmp_path, text.replace(";", "\t"), "clip.csv"), x)

    # both are clips, a hidden file is none
    (tmp_path / "._clip.csv").write_text("hidden")
    assert pose_files(tmp_path) == [tmp_path / "Kicken.CSV", tmp_path / "clip.csv"]


@pytest.mark.parametrize("text", [
    "a_x,\ta_y\n1,\t2\n", "a_x (px; image),a_y\n1,2\n", ";\na_x;a_y\n1;2\n", "\n,,\na_x,a_y,note\n1,2,\n,,\n",
    "A_X_Pos,A_Y_Pos\n1,2\n", "A x position;A y position\n+1,0;2,0\n", "KNEEX,KNEEY,VX\n1,2,3\n"])
def test_tables_as_they_come(tmp_path, text):
    np.testing.assert_array_equal(read(tmp_path, text, "clip.csv"), [[[[1, 2, 0]]]])


def test_a_first_frame_without_a_body_is_a_frame(tmp_path):
    numbers = "\n".join([";" * 50, ";".join(["1,5"] * 51), ";" * 50])
    x = read(tmp_path, numbers, "clip.csv")
    assert x.shape == (1, 2, 17, 3) and not x[0, 0].any() and (x[0, 1] == 1.5).all()


def test_joints_may_be_named_after_their_axis_or_with_l_and_r(tmp_path):
    lines = ["x_pelvis,y_pelvis,x_LThorax,y_LThorax,RHip_x,RHip_y,vx", "1,2,3,4,5,6,7"]
    (tmp_path / "clip.csv").write_text("\n".join(lines))
    assert joints_of_table(tmp_path / "clip.csv") == ["pelvis", "left thorax", "right hip"]

    # in the order of a skeleton that has all of them, and of one that has not
    x = load_pose(tmp_path / "clip.csv", ["right hip", "thorax_l", "Pelvis"])
    np.testing.assert_array_equal(x, [[[5, 6], [3, 4], [1, 2]]])
    with pytest.raises(ValueError, match="'right knee', but for right hip"):
        load_pose(tmp_path / "clip.csv", ["right knee", "thorax_l", "Pelvis"])


def test_flat_key_points_of_a_frame_are_x_y_score(tmp_path):
    numbers = np.insert(FLAT, 2, 0.5, axis=2).reshape(len(FLAT), -1).tolist()
    x = read(tmp_path, [{"keypoints": frame} for frame in numbers])
    np.testing.assert_allclose(x[0, :, :, :2], FLAT, rtol=1e-6)

    # an empty frame; x and y without a score
    np.testing.assert_array_equal(read(tmp_path, [{"instances": 0, "keypoints": n} for n in numbers] + [{}])[0, 4], 0)
    assert read(tmp_path, [{"keypoints": list(range(1, 37))}]).shape == (1, 1, 18, 3)


def test_another_json_file_among_the_frames_is_named(tmp_path):
    for i, frame in enumerate(FLAT):
        (tmp_path / f"v_{i}.json").write_text(json.dumps(people(frame)))
    (tmp_path / "calib.json").write_text('{"fx": 500}')
    assert is_frames(tmp_path)
    with pytest.raises(ValueError, match="^calib.json has the keys fx"):
        load_pose(tmp_path)


@pytest.mark.parametrize("text, words", [
    ('{"a": 1}', "has the keys a"), ("[", "is not JSON"), ("[" * 100_000, "nested too deeply|is not JSON"),
    ("7", "must be a list of frames"), ("[1, 2]", "list of numbers"), ("[]", "no body"), ("[[[1, 2, 3], [1, 2]]]", "."),
    ('[[{"x": "a", "y": 1}]]', "must be numbers"), ('[{"people": [{"pose_keypoints_2d": [1, 2]}]}]', "multiple of 3"),
    ('[{"people": [{"pose_keypoints_2d": 5}]}]', "list of numbers"),
    ('[{"time": 1}]', "frame 0 has the keys time"), ('{"people": []}', "no body"),
    ('[[{"x": 1, "y": 1}], [{"x": 1, "y": 1}, {"x": 2, "y": 1}]]', "bodies differ")])
def test_json_that_is_no_clip_is_told_in_one_line(tmp_path, text, words):
    with pytest.raises(ValueError, match=words) as e:
        read(tmp_path, text)
    assert "\n" not in str(e.value)


def test_columns_of_the_skeletons_joints_get_its_order(tmp_path):
    lines = ["time,right_hand_x,right_hand_y,Hip Center_x,Hip Center_y,nose_x,nose_y", "0,1,2,3,4,5,6"]
    (tmp_path / "clip.csv").write_text("\n".join(lines))
    x = load_pose(tmp_path / "clip.csv", ["hip centre", "right hand"])
    np.testing.assert_array_equal(x, [[[3, 4], [1, 2]]])
    assert joints_of_table(tmp_path / "clip.csv") == ["right hand", "hip centre", "nose"]

    # another skeleton's
    assert load_pose(tmp_path / "clip.csv", ["hip", "right hand"]).shape == (1, 3, 2)


@pytest.mark.parametrize("text, words", [
    ("", "no frame"), ("a_x,a_y\n", "no frame"), ("a_x,a_y\n1,2,3\n", "differ in length"), ("a,b\n1,2\n", "no joint"),
    ("a_x,a_y\n1,b\n", "'b' is not a number"), ("a_x,a_y\n1,inf\n", "not finite"),
    ("a_x,a_y,b_x,b_y,b_z\n1,2,3,4,5\n", "different axes"), ("1\n2\n", "has 1 columns")])
def test_a_table_that_is_no_clip_is_told_in_one_line(tmp_path, text, words):
    with pytest.raises(ValueError, match=words) as e:
        read(tmp_path, text, "clip.csv")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("joints", [0, 25])
def test_flat_rows_of_two_bodies_are_told_from_channels(tmp_path, joints):
    two = RNG.normal(size=(2, 6, 25, 3)).astype(np.float32)
    names = [f"j{v}" for v in range(joints)]
    for change in (lambda x: x.reshape(2, 6, 75), lambda x: np.moveaxis(x, 0, 1).reshape(6, 150)):
        np.save(tmp_path / "a.npy", change(two))
        np.testing.assert_array_equal(load_pose(tmp_path / "a.npy", names), two)
    np.save(tmp_path / "a.npy", np.moveaxis(two[0, ..., :2], 2, 0))
    np.testing.assert_array_equal(load_pose(tmp_path / "a.npy", names), two[0, ..., :2])
