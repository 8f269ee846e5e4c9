"""What recordings show before a recipe says it: skeleton, classes, people; and what cannot be learned from."""
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from phases.recordings import puppet, survey
from phases.recordings.handedness import sided_class
from phases.recordings.skeleton_guess import best_skeleton, bone_asymmetry, bone_deviation, bones_fit
from phases.recordings.survey import look
from skeletons import SKELETONS, Skeleton, means, retargeted
from tests.helpers.clip_stores import rest_pose
from tests.helpers.own_clips import class_folders, labelled_folder
from tests.helpers.recordings import write_ntu
from tests.recordings.test_metres import clip


def swung(body: Skeleton, phases: np.random.Generator) -> np.ndarray:
    """(30, V, 3): a body whose every bone swings about its parent joint, and keeps its length."""
    rest = rest_pose(body)
    x = np.tile(rest, (30, 1, 1))
    for v in np.argsort(body.hops[body.root], kind="stable"):
        parent = body.parents[v]
        if parent != v:
            bone = rest[v] - rest[parent]
            a = np.sin(np.arange(30) / 5 + phases.uniform(0, 6))
            turned = [bone[0] * np.cos(a) - bone[1] * np.sin(a), bone[0] * np.sin(a) + bone[1] * np.cos(a)]
            x[:, v] = x[:, parent] + np.stack([*turned, np.full(30, bone[2])], 1)
    return x + [0, 0, 3]


@pytest.mark.parametrize("noise", [0, 0.01, 0.02])
@pytest.mark.parametrize("name", ["ntu25", "openpose25", "coco17", "h36m17", "mediapipe33", "halpe26"])
def test_the_skeleton_has_steady_bones_and_equal_sides(tmp_path, name, noise):
    rng = np.random.default_rng(0)
    annotations = []
    for i in range(6):
        body = swung(SKELETONS[name], rng)
        body += rng.normal(0, noise, body.shape)
        annotations.append({"frame_dir": f"v{i}", "label": i % 2, "keypoint": body[None]})
    (tmp_path / "list.pkl").write_bytes(pickle.dumps(annotations))
    found = look(tmp_path / "list.pkl")
    assert found.skeleton.name == name and not found.named


@pytest.mark.parametrize("name", ["ntu25", "openpose25", "coco17", "h36m17"])
def test_bodies_that_hardly_move_and_lack_joints_fit_too(name):
    bodies = [clip(i, skeleton=SKELETONS[name])[0] for i in range(6)]  # noise of 2 cm, 2 % of the joints are missing
    V = SKELETONS[name].num_joints
    assert best_skeleton(bodies, [s for s in SKELETONS.values() if s.num_joints == V]).name == name


def test_long_wrong_bones_are_not_steadier_than_true_ones():
    # the bones of ntu25 vary by 2 cm; over long distances that is little
    bodies = [clip(i)[0] for i in range(6)]
    short, long = (bone_deviation(bodies, SKELETONS[name]) for name in ("ntu25", "openpose25"))
    assert short == pytest.approx(long, rel=0.1)
    assert bone_asymmetry(bodies, SKELETONS["ntu25"]) < 0.1 < bone_asymmetry(bodies, SKELETONS["openpose25"])


@pytest.mark.parametrize("name", ["gait", "irds"])
def test_real_kinect_clips_without_a_word_are_ntu25(data_folder, tmp_path, name):
    (tmp_path / f"{name}.npz").symlink_to(data_folder / f"{name}.npz")
    found = look(tmp_path / f"{name}.npz")
    assert found.skeleton.name == "ntu25" and not found.named


def hand(rng: np.random.Generator, frames: int = 30) -> np.ndarray:
    """(frames, 21, 3) metres: a hand that opens and closes before a camera."""
    curl = 0.5 + 0.5 * np.sin(np.arange(frames) / 5 + rng.uniform(0, 6))
    x = np.zeros((frames, 21, 3))
    x[:, 1:5] = [[-0.03, 0.02, 0.01], [-0.05, 0.05, 0.015], [-0.06, 0.08, 0.01], [-0.065, 0.10, 0]]
    for root, place in zip((5, 9, 13, 17), ((-0.03, 0.09), (-0.01, 0.095), (0.01, 0.09), (0.03, 0.08)), strict=True):
        x[:, root, :2] = place
        angle = 0
        for k, length in enumerate((0.045, 0.028, 0.022)):
            angle = angle + curl * (1.5, 1.7, 1.0)[k]
            bone = np.stack([0 * angle, np.cos(angle), np.sin(angle)], 1)
            x[:, root + k + 1] = x[:, root + k] + length * bone
    return x + rng.normal(0, 0.001, x.shape) + [0, 0, 0.5]


def body(name: str, rng: np.random.Generator) -> np.ndarray:
    """(frames, V, 3) of a skeleton: a hand, or the puppet's body with other joints."""
    if name == "hand21":
        return hand(rng)
    source, x = "hand21", hand(rng)
    if name != "shrec22":
        source, x = "ntu25", puppet.performers(0, int(rng.integers(10)), 1, 0)[0]
    table = means(SKELETONS[source].joints, SKELETONS[name].joints)
    return retargeted(x[None].astype(np.float32), table)[0]


def pickled(path: Path, bodies: list[np.ndarray]) -> Path:
    """A pyskl pickle of clips that names no skeleton."""
    rows = [{"frame_dir": f"v{i}", "label": i % 2, "keypoint": x[None]} for i, x in enumerate(bodies)]
    path.write_bytes(pickle.dumps(rows))
    return path


@pytest.mark.parametrize("name", ["smpl24", "smpl22", "nite15", "hand21", "shrec22"])
def test_a_body_that_is_seldom_met_is_found_by_its_bones(tmp_path, name):
    rng = np.random.default_rng(0)
    found = look(pickled(tmp_path / "list.pkl", [body(name, rng) for _ in range(6)]))
    assert found.skeleton.name == name and not found.named


def test_flat_bodies_of_15_joints_are_jhmdbs(tmp_path):
    rng = np.random.default_rng(0)
    found = look(pickled(tmp_path / "list.pkl", [body("jhmdb15", rng) * [100, -100, 0] for _ in range(6)]))
    assert found.skeleton.name == "jhmdb15"


@pytest.mark.parametrize("joints, named", [(range(24), "smpl24"), (range(22), "smpl22"), (range(15), "nite15"),
                                           (range(21), "hand21")])
def test_joints_that_are_only_as_many_are_not_taken(tmp_path, joints, named):
    rng = np.random.default_rng(0)
    bodies = [puppet.performers(0, int(rng.integers(10)), 1, 0)[0][:, list(joints)] for _ in range(6)]
    with pytest.raises(ValueError, match=f"as many as.*{named}.*bones do not fit.*skeleton="):
        look(pickled(tmp_path / "list.pkl", bodies))


@pytest.mark.parametrize("recordings, right", [("jhmdb", "jhmdb15"), ("sbu", "nite15")])
def test_recordings_of_15_joints_are_told_apart(data_folder, recordings, right):
    if recordings == "jhmdb":
        packed = np.load(data_folder / "jhmdb.npz")
        bodies = np.split(packed["data"], packed["offsets"][1:-1])[::15]
    else:
        with tarfile.open(data_folder / "sbu.tar.xz") as tar:
            files = [member for member in tar if member.name.endswith(".npy")][::7]
            bodies = [np.load(io.BytesIO(tar.extractfile(member).read()))[0] for member in files]
    fit = [s.name for s in SKELETONS.values() if s.num_joints == 15 and bones_fit(s, bodies)]
    assert fit == [right]


def test_a_body_of_21_joints_is_no_hand(data_folder):
    packed = np.load(data_folder / "bandai.npz")
    bodies = [packed["data"][at:at + 30].astype(np.float32) for at in packed["offsets"][:-1:100]]
    assert not bones_fit(SKELETONS["hand21"], bodies)


def test_openpose_frames_say_what_they_are(tmp_path):
    frame = json.dumps({"people": [{"pose_keypoints_2d": [1, 2, 0.5] * 18}]})
    for i in range(4):
        folder = tmp_path / ("wave", "point")[i % 2] / str(i)
        folder.mkdir(parents=True)
        (folder / "f_0_keypoints.json").write_text(frame)
    found = look(tmp_path)
    assert found.skeleton.name == "openpose18" and found.named


def test_clips_beyond_the_sample_are_counted_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "SAMPLE", 6)
    raw = labelled_folder(tmp_path / "mine", [clip(i) for i in range(24)], ["a", "b"])
    found = look(raw)
    assert len(found.clips) == 6 and len(found.rest) == 18 and len(found.all_clips) == 24
    assert all(c.joints.shape[1] == 1 and c.joints.base is None for c in found.rest), "no whole clip stays in memory"


def test_the_evenly_chosen_ntu_files_leave_the_others_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "NTU_SAMPLE", 4)
    puppet.write_synthetic(tmp_path, seed=1, workers=1, subjects=(1, 2), replications=1)
    number = len(list(tmp_path.glob("*.skeleton")))
    found = look(tmp_path)
    assert 4 <= len(found.clips) < 8 and len(found.all_clips) == number
    assert found.subjects == [1, 2] and not any(c.joints.any() for c in found.rest)


@pytest.mark.parametrize("name, last, classes, listed", [
    ("S001C001P{:03d}R001A{:03d}", 9, ["A002", "A005", "A009"], "bei"),
    ("P{:03d}S00G10B10H50UC022000LC021000A{:03d}R0_08241716", 0, ["A000", "A002", "A005"], "acf")])
def test_actions_without_a_file_of_ntus_text_are_no_class(tmp_path, name, last, classes, listed):
    write_ntu(tmp_path, [name.format(person, action) for person in (1, 2) for action in (2, 5, last)], length=20)
    found = look(tmp_path)
    assert found.classes == classes and {c.label for c in found.all_clips} == {0, 1, 2}

    (tmp_path / "skeleton.json").write_text(json.dumps({"classes": list("abcdefghi")}))
    assert look(tmp_path).classes == list(listed)


def test_a_few_clips_of_other_joints_are_left_out_and_named(tmp_path):
    raw = labelled_folder(tmp_path / "mine", [clip(i) for i in range(24)], ["a", "b"])
    np.save(raw / "c5.npy", np.ones((5, 17, 3)))
    found = look(raw)
    (skip,) = found.skips
    assert len(found.clips) == 23 and skip.file == "c5" and "17 joints" in skip.reason and "25" in skip.reason


@pytest.mark.parametrize("labels, classes", [
    ("123", ["class 1", "class 2", "class 3"]), ("133", ["class 1", "class 3"]), ("011", ["class 0", "class 1"]),
    ("1ab", ["1", "a", "b"])])
def test_labels_keep_their_numbers_and_have_no_holes(tmp_path, labels, classes):
    raw = labelled_folder(tmp_path / "mine", [clip(i) for i in range(12)], list(labels))
    (raw / "skeleton.json").unlink()
    found = look(raw, "ntu25")
    assert found.classes == classes and {c.label for c in found.clips} == set(range(len(classes)))


def test_a_listed_class_without_clips_is_left_out(tmp_path):
    raw = labelled_folder(tmp_path / "mine", [clip(i) for i in range(12)], ["a", "b"])
    (raw / "skeleton.json").write_text(json.dumps({"skeleton": "ntu25", "classes": ["a", "none", "b"]}))
    found = look(raw)
    assert found.classes == ["a", "b"] and found.left_out == ["none"]


def test_a_folder_of_frames_is_no_set_of_clips(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": [1, 2, 0.5] * 18}]}))
    with pytest.raises(ValueError, match="frames of one clip"):
        look(tmp_path)


def test_one_class_and_clips_without_any_table_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one class only, 'sit'"):
        look(class_folders(tmp_path / "one", sit=[clip(i)[0] for i in range(4)]), "ntu25")
    np.save(tmp_path / "a.npy", clip(0))
    with pytest.raises(ValueError, match="labels.csv"):
        look(tmp_path / "one" / "sit")


@pytest.mark.parametrize("name", ["swipe left", "Right kick", "swipeLeft", "nach links", "à droite", "wave_l",
                                  "R hand", "swipe_lr", "mano destra"])
def test_a_name_tells_left_from_right(name):
    assert sided_class(["sit", name]) == name


@pytest.mark.parametrize("name", ["bright", "stand upright", "leftover", "Tür öffnen", "ouvrir l'armoire", "destroy",
                                  "pedestrian", "blinks", "R2"])
def test_a_word_that_only_looks_like_a_side_tells_nothing(name):
    assert sided_class(["sit", name]) == ""
