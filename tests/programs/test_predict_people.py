"""Predict: an answer for each person, files of many clips, and one note about many."""
import csv
import io
import json
import pickle

import numpy as np
import pytest

from phases import predict
from phases.recordings.kinect_json import SDK
from phases.shipping.exported import ExportedModel
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose, write_store
from tests.helpers.programs import call
from tests.helpers.shipped import stand_in
from tests.helpers.untrimmed import person
from tests.recordings.test_known_files import text_of

NTU = SKELETONS["ntu25"]
ASIDE = np.float32([3, 0, 0])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A stand-in that names a body by its mean place: "a" to the right, "b" above."""
    return stand_in(tmp_path_factory.mktemp("model") / "m.onnx", [], NTU)


def body(place: list[float], frames: int = 12) -> np.ndarray:
    """(L, V, 3) somebody who moves a little, around a place."""
    x = rest_pose(NTU) - rest_pose(NTU).mean(0) + place
    x = np.tile(x, (frames, 1, 1))
    x[:, 7] += np.linspace(0, 0.3, frames)[:, None]
    return x.astype(np.float32)


RIGHT, ABOVE = body([5, 0, 3]), body([0, 5, 3])


# ---------------------------------------------------------------------------------------------------------------------
# People
# ---------------------------------------------------------------------------------------------------------------------

def write_azure(path) -> list[tuple[str, str]]:
    """Azure Kinect's ids, which are not in order; x to the left, y down, millimetres."""
    body = 1000 * rest_pose(SKELETONS["azure32"])
    frames = []
    for t in range(10):
        bodies = []
        for number, place in ((9, [-5000, 0, 3000]), (4, [0, -5000, 3000])):
            joints = body * [-1, -1, 1] + place + [0, 0, t]
            bodies.append({"body_id": number, "joint_positions": joints.tolist()})
        frames.append({"frame_id": t, "num_bodies": 2, "bodies": bodies})
    names = SDK.split()
    bones = [["SPINE_CHEST", "SPINE_NAVEL"]] + [[n, "PELVIS"] for n in names if n not in ("PELVIS", "SPINE_CHEST")]
    path.with_suffix(".json").write_text(json.dumps({"joint_names": names, "bone_list": bones, "frames": frames}))
    return [("9", "a"), ("4", "b")]


def write_ntu(path) -> list[tuple[str, str]]:
    """A body that is as wide as high would be furniture."""
    lines = [str(len(RIGHT))]
    for right, above in zip(RIGHT, ABOVE, strict=True):
        lines.append("2")
        for number, joints in ((72057594037930, right * [0.4, 1, 1]), (72057594037944, above * [0.4, 1, 1])):
            lines += [f"{number} 0 0 0 0 0 0 0 0 0", "25", *(" ".join(map(str, [*j, *[0] * 9])) for j in joints)]
    path.with_suffix(".skeleton").write_text("\n".join(lines))
    return [("72057594037930", "a"), ("72057594037944", "b")]


def write_rows(path) -> list[tuple[str, str]]:
    """A table with a column for people, of whom one is seen in a few frames only."""
    lines = ["frame,person,joint,x,y,z"]
    for t in range(12):
        for name, clip in (("anna", RIGHT), ("ben", ABOVE)):
            if name == "anna" or 4 <= t < 8:
                lines += [f"{t},{name},{v},{','.join(map(str, joint))}" for v, joint in enumerate(clip[t])]
    path.with_suffix(".csv").write_text("\n".join(lines))
    return [("anna", "a"), ("ben", "b")]


def write_array(path) -> list[tuple[str, str]]:
    """An array numbers nobody; somebody who is never seen is nobody."""
    np.save(path.with_suffix(".npy"), np.stack([RIGHT, 0 * RIGHT, ABOVE]))
    return [("1", "a"), ("2", "b")]


@pytest.mark.parametrize("write", [write_azure, write_ntu, write_rows, write_array])
def test_each_person_is_answered_under_the_files_number(file, tmp_path, capsys, write):
    want = sorted(write(tmp_path / "clip"))
    argv = [f"model={file}", f"clip={tmp_path}", "people=each"]
    assert call(predict, *argv, "format=json") == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted((row["person"], row["top"][0]["label"]) for row in found) == want
    assert len({row["clip"] for row in found}) == 1

    # the same in the other forms
    call(predict, *argv, "format=csv", "top=1")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == ["clip", "person", "rank", "label", "probability", "known"]
    assert sorted((row["person"], row["label"]) for row in rows) == want
    call(predict, *argv, "top=1")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and [line.rpartition(", person ")[2] for line in lines[::2]] == [
        row["person"] for row in found]


def test_one_person_alone_is_read_as_a_clip_of_hers(file, tmp_path):
    """Unit and axis are the clip's; embeddings and times keep who it is."""
    model = ExportedModel(file)
    crowd = 1000 * np.stack([RIGHT, ABOVE])
    for name, x in (("both", crowd), ("right", crowd[:1]), ("above", crowd[1:])):
        np.save(tmp_path / f"{name}.npy", x)
    alone = [model.read(tmp_path / f"{name}.npy") for name in ("right", "above")]
    for (_, joints), want in zip(model.each_person(model.recording(tmp_path / "both.npy")), alone, strict=True):
        np.testing.assert_array_equal(joints, want)

    out = tmp_path / "e.npz"
    call(predict, f"model={file}", f"clip={tmp_path / 'both.npy'}", "people=each", f"embeddings={out}")
    with np.load(out) as z:
        assert z["person"].tolist() == ["1", "2"] and z["features"].shape == (2, 3)


def test_the_actions_of_each_person_keep_their_times(file, tmp_path, capsys):
    """Nobody is moved in time by being seen late."""
    x = np.concatenate([person(6, 30, [(1, 3)])[0], person(6, 30, [(3, 5)])[0] + ASIDE])
    x[1, :60] = 0
    np.save(tmp_path / "x.npy", x)
    call(predict, f"model={file}", f"clip={tmp_path / 'x.npy'}", "people=each", "segments=true", "format=json")
    found = json.loads(capsys.readouterr().out)
    starts = {row["person"]: [round(s["start"]) for s in row["segments"]] for row in found}
    assert starts == {"1": [1], "2": [3]}


def test_a_stream_has_no_answer_for_each_person(file):
    with pytest.raises(ValueError, match="people=each is for clip="):
        call(predict, f"model={file}", "stream=true", "people=each")


# ---------------------------------------------------------------------------------------------------------------------
# Files of many clips
# ---------------------------------------------------------------------------------------------------------------------

def write_pickle(folder) -> list[str]:
    """Three dimensions with scores, and one annotation that is none."""
    annotations = [{"frame_dir": name, "label": 0, "keypoint": x[None], "keypoint_score": np.ones((1, 12, 25))}
                   for name, x in (("right", RIGHT), ("above", ABOVE))]
    (folder / "set.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": [*annotations, {"frame_dir": "bad"}]}))
    return ["set.pkl"]


def write_packed(folder) -> list[str]:
    np.savez(folder / "set.npz", data=np.concatenate([RIGHT, ABOVE]), offsets=np.array([0, 12, 24]),
             names=np.array(["right", "above"]), labels=np.array([0, 1]))
    (folder / "set.json").write_text('{"skeleton": "ntu25", "classes": ["a", "b"]}')
    return ["set.npz"]


def write_ctrgcn(folder) -> list[str]:
    one = np.zeros((2, 12, 150), np.float32)
    one[0, :, :75] = RIGHT.reshape(12, -1)
    one[1, :, :75] = ABOVE.reshape(12, -1)
    hot = np.eye(2, dtype=np.float32)
    np.savez(folder / "set.npz", x_train=one[:1], y_train=hot[:1], x_test=one[1:], y_test=hot[1:])
    return ["set.npz"]


@pytest.mark.parametrize("write", [write_pickle, write_packed, write_ctrgcn])
def test_a_file_of_many_clips_names_each(file, tmp_path, capsys, write):
    name, = write(tmp_path)
    code = call(predict, f"model={file}", f"clip={tmp_path / name}", "format=json")
    said = capsys.readouterr()
    assert [row["top"][0]["label"] for row in json.loads(said.out)] == ["a", "b"]
    is_bad = write is write_pickle
    assert code == (3 if is_bad else 0) and ("skipped: " in said.err) == is_bad

    # in a folder, beside another clip; what says whose joints they are is no clip
    np.save(tmp_path / "x.npy", RIGHT)
    call(predict, f"model={file}", f"clip={tmp_path}", "format=json")
    names = [row["clip"] for row in json.loads(capsys.readouterr().out)]
    assert len(names) == 3 and names[-1] == "x.npy" and all(n.startswith(f"{name}:") for n in names[:2])


def test_a_pickles_joints_in_a_picture_are_turned(file, tmp_path, capsys):
    x = 100 * rest_pose(SKELETONS["coco17"])[None, None, :, :2] * [1, -1] + 500
    people = np.concatenate([x, x + 200]).repeat(4, 1)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([{"frame_dir": "c", "keypoint": people, "label": 0}]))
    assert call(predict, f"model={file}", f"clip={tmp_path / 'x.pkl'}", "people=each", "format=json") == 0
    said = capsys.readouterr()
    assert [row["person"] for row in json.loads(said.out)] == ["1", "2"]
    assert "joints of coco17 (px, -y up) are turned" in said.err


def test_a_hostile_pickle_is_refused(file, tmp_path):
    (tmp_path / "x.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match="x.pkl"):
        call(predict, f"model={file}", f"clip={tmp_path / 'x.pkl'}")


def test_a_clip_store_is_read_as_its_clips(file, tmp_path, capsys):
    store = write_store(tmp_path / "store", clips=6)
    assert call(predict, f"model={file}", f"clip={store}", "format=json", "people=each") == 0
    said = capsys.readouterr()
    with np.load(store / "clips.npz") as z:
        assert {row["clip"] for row in json.loads(said.out)} == set(z["name"].tolist())
    assert not said.err

    # one that is damaged
    (store / "frames.npy").write_bytes((store / "frames.npy").read_bytes()[:5000])
    with pytest.raises(ValueError, match="store"):
        call(predict, f"model={file}", f"clip={store}")


# ---------------------------------------------------------------------------------------------------------------------
# A folder
# ---------------------------------------------------------------------------------------------------------------------

def test_a_note_about_many_clips_is_printed_once(file, tmp_path, capsys):
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", np.tile(rest_pose(SKELETONS["mediapipe33"]), (2 + k, 9, 1, 1)))
    assert call(predict, f"model={file}", f"clip={tmp_path}") == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("3 clips, such as ") for line in lines), lines
    assert "more people than the network sees (1)" in lines[0] and "joints of mediapipe33" in lines[1]

    # about one clip in the words of a single one
    (tmp_path / "1.npy").unlink()
    (tmp_path / "2.npy").unlink()
    call(predict, f"model={file}", f"clip={tmp_path}")
    assert f"{tmp_path / '0.npy'}: shows 2 people" in capsys.readouterr().err


def test_kinetics_labels_beside_its_folder_are_no_clip(file, tmp_path, capsys):
    (tmp_path / "kinetics_val").mkdir()
    body = {"pose": rest_pose(SKELETONS["coco17"])[:, :2].repeat(2, 0)[:18].ravel().tolist(), "score": [1.0] * 18}
    frames = [{"frame_index": t, "skeleton": [body]} for t in range(5)]
    (tmp_path / "kinetics_val" / "v.json").write_text(json.dumps({"data": frames, "label": "a", "label_index": 0}))
    (tmp_path / "kinetics_val_label.json").write_text('{"v": {"label": "a", "label_index": 0}}')
    assert call(predict, f"model={file}", f"clip={tmp_path}") == 0
    said = capsys.readouterr()
    assert said.out.startswith("kinetics_val/v.json\n") and "label.json" not in said.err


def test_files_that_are_no_clips_are_named_in_one_line(file, tmp_path, capsys):
    np.save(tmp_path / "x.npy", RIGHT)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "P001S00G10B10H50UC022000LC021000A003R0_08241716.txt").write_text(text_of(RIGHT))
    for name in ("notes.txt", "other/table.xlsx", "labels.csv", "skeleton.json", ".hidden"):
        (tmp_path / name).write_text('{"skeleton": "ntu25"}' if name == "skeleton.json" else "hello\n")
    assert call(predict, f"model={file}", f"clip={tmp_path}") == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{tmp_path}: 2 files are no clips: notes.txt, other/table.xlsx"
