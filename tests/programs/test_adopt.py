"""adopt: what it sees in recordings, the recipe it writes, and what it refuses."""
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import tomli

from phases import adopt, p0_preprocess, p1_train, p4_export, predict
from phases.common.files import ROOT
from phases.recordings import puppet, survey
from phases.shipping.exported import ExportedModel
from phases.training.clip_store import ClipStore
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose
from tests.recordings.test_metres import clip, recorded_as

COCO = SKELETONS["coco17"]
META = json.dumps({"skeleton": "ntu25", "classes": ["a", "b"]})


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder whose recipes/ is its own, with the networks' recipes."""
    (tmp_path / "recipes").mkdir()
    for name in ("lite_nano", "lite_small"):
        (tmp_path / "recipes" / f"{name}.toml").write_text((ROOT / "recipes" / f"{name}.toml").read_text())
    for module in ("phases.adopt", "phases.training.recipe"):
        monkeypatch.setattr(f"{module}.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder(path: Path, clips: list[np.ndarray], classes: list[str], subjects: int = 4, **meta) -> Path:
    """.npy files with labels.csv; subjects in turn, none if 0."""
    path.mkdir()
    lines = ["name,label" + ",subject" * (subjects > 0)]
    for i, x in enumerate(clips):
        np.save(path / f"c{i}.npy", x)
        lines.append(f"c{i},{classes[i % len(classes)]}" + (f",{1 + i // 2 % subjects}" if subjects else ""))
    (path / "labels.csv").write_text("\n".join(lines))
    (path / "skeleton.json").write_text(json.dumps({"skeleton": "ntu25", "classes": classes} | meta))
    return path


def cfg_of(name: str):
    return load_config([f"recipe={name}"])


def test_a_folder_becomes_a_recipe_that_trains(here, capsys):
    raw = folder(here / "mine", [clip(i) for i in range(16)], ["wave", "point"])
    assert adopt.main([f"raw={raw}"]) == 0
    said, cfg = capsys.readouterr().out, cfg_of("mine")
    assert "16 clips of 2 classes, 4 people" in said and "just phase0 recipe=mine" in said
    assert (cfg.data.unit, cfg.data.up, cfg.data.split, cfg.data.skeleton) == ("m", "y", "xsub", "ntu25")
    assert cfg.data.protocols == {"xsub": {"field": "subject", "train": [1, 3]}}
    assert cfg.view.frames == 16 and cfg.view.flip == 0.5 and cfg.view.trunk_scale
    assert cfg.train.epochs == 400  # eight training clips: one step an epoch
    assert p0_preprocess.main(["recipe=mine"]) == 0
    assert p1_train.main(["recipe=lite_nano", "data=mine", "train.epochs=1"]) == 0
    assert json.loads((here / "runs/lite_nano/mine-xsub/seed0/result.json").read_text())["clips"] == 8
    for line in (here / "recipes" / "mine.toml").read_text().splitlines():
        assert len(line) <= 200


@pytest.mark.parametrize("factor, up, unit", [(1, "y", "m"), (1000, "z", "mm"), (100, "-y", "cm"), (1, "-z", "m")])
def test_unit_and_axis_are_measured(here, factor, up, unit):
    adopt.main([f"raw={folder(here / 'mine', [recorded_as(clip(i), factor, up) for i in range(8)], ['a', 'b'])}"])
    assert (cfg_of("mine").data.unit, cfg_of("mine").data.up) == (unit, up)


def test_without_people_every_fourth_clip_of_a_class_tests_and_that_is_called_flattering(here, capsys):
    raw = folder(here / "mine", [clip(i) for i in range(16)], ["swipe left", "point"], subjects=0)
    adopt.main([f"raw={raw}"])
    assert "flatters" in capsys.readouterr().out and cfg_of("mine").view.flip == 0  # left is told from right
    assert p0_preprocess.main(["recipe=mine"]) == 0
    store = ClipStore(here / "stores" / "mine")
    train, test = store.split("random")
    assert len(train) == 12 and np.bincount(store.clips["label"][test]).tolist() == [2, 2]


def test_class_folders_need_no_other_file(here):
    for name in ("sit", "stand"):
        (here / "mine" / name).mkdir(parents=True)
        for i in range(4):
            np.save(here / "mine" / name / f"{i}.npy", clip(i, skeleton=COCO)[0])
    adopt.main(["raw=mine", "skeleton=coco17"])
    assert p0_preprocess.main(["recipe=mine"]) == 0
    store = ClipStore(here / "stores" / "mine")
    assert store.classes == ["sit", "stand"] and store.clips["name"][5] == "stand-1"
    assert store.clips["label"].tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize("name", ["ntu25", "openpose25", "coco17", "h36m17", "mediapipe33", "halpe26"])
def test_the_skeleton_is_the_one_with_steady_bones(here, name):
    s, rng, annotations = SKELETONS[name], np.random.default_rng(0), []
    for i in range(6):
        x = np.tile(rest_pose(s), (30, 1, 1))
        for v in np.argsort(s.hops[next(v for v, p in s.bones if v == p)], kind="stable"):  # limbs swing about joints
            p = s.parents[v]
            if p != v:
                bone, a = rest_pose(s)[v] - rest_pose(s)[p], np.sin(np.arange(30) / 5 + rng.uniform(0, 6))
                turned = np.stack([bone[0] * np.cos(a) - bone[1] * np.sin(a), bone[0] * np.sin(a) + bone[1] * np.cos(a),
                                   np.full(30, bone[2])], 1)
                x[:, v] = x[:, p] + turned
        annotations.append({"frame_dir": f"v{i}", "label": i % 2, "keypoint": x[None] + [0, 0, 3]})
    (here / "list.pkl").write_bytes(pickle.dumps(annotations))
    adopt.main(["raw=list.pkl", "name=mine"])
    assert cfg_of("mine").data.skeleton == name


def test_flat_pixels_are_scaled_by_the_body_and_turned_in_the_plane(here):
    clips = [np.round(300 + 200 * clip(i, skeleton=COCO)[..., :2] * [1, -1]) for i in range(8)]
    adopt.main([f"raw={folder(here / 'mine', clips, ['a', 'b'], skeleton='coco17')}"])
    cfg = cfg_of("mine")
    assert (cfg.data.unit, cfg.data.up) == ("px", "-y") and cfg.view.rotate == (0.0, 0.0, 10.0)


def test_class_folders_of_tables_and_of_openpose_frames_are_adopted_and_stored(here, capsys):
    for i in range(8):
        x = np.round(300 + 200 * clip(i, skeleton=SKELETONS["openpose25"])[0][..., :2])  # l v 2, its head is up
        x = x - x.min((0, 1)) + 5
        place = here / "mine" / ("sit", "stand")[i % 2]
        if i < 4:  # a table
            place.mkdir(parents=True, exist_ok=True)
            header = ",".join(f"j{v}_{c}" for v in range(25) for c in ("x", "y", "score"))
            rows = [",".join(map(str, np.insert(frame, 2, 0.5, axis=1).ravel().tolist())) for frame in x]
            (place / f"{i}.csv").write_text("\n".join([header, *rows]))
        else:  # a folder of frames
            (place / f"{i}").mkdir(parents=True)
            for t, frame in enumerate(x):
                numbers = np.insert(frame, 2, 0.5, axis=1).ravel().tolist()
                text = json.dumps({"people": [{"pose_keypoints_2d": numbers}]})
                (place / f"{i}" / f"v_{t}_keypoints.json").write_text(text)
    adopt.main(["raw=mine"])
    cfg = cfg_of("mine")
    assert (cfg.data.unit, cfg.data.up, cfg.data.reader) == ("px", "-y", "arrays")
    assert cfg.data.skeleton == "openpose25"  # not ntu25: flat clips are of no depth sensor
    assert "8 clips of 2 classes" in capsys.readouterr().out and p0_preprocess.main(["recipe=mine"]) == 0
    store = ClipStore(here / "stores" / "mine")
    assert store.clips["name"].tolist() == [f"sit-{i}" for i in (0, 2, 4, 6)] + [f"stand-{i}" for i in (1, 3, 5, 7)]


def test_openpose_says_what_it_is_and_columns_name_their_joints_in_any_order(here):
    assert survey.told_by_files(here) == ""
    (here / "a" / "wave" / "1").mkdir(parents=True)
    (here / "a" / "wave" / "1" / "f_0_keypoints.json").write_text(json.dumps(
        {"people": [{"pose_keypoints_2d": [1, 2, 0.5] * 18}]}))
    assert survey.told_by_files(here / "a") == "openpose18"
    order = np.random.default_rng(0).permutation(17)
    clips = [np.round(300 + 200 * clip(i, skeleton=COCO)[0][..., :2] * [1, -1]) for i in range(8)]
    for i, x in enumerate(clips):
        place = here / "mine" / ("sit", "stand")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        names = [f"{COCO.joints[v].replace(' ', '_')}_{axis}" for v in order for axis in "xy"]
        rows = [",".join(map(str, frame[order].ravel().tolist())) for frame in x]
        (place / f"{i}.csv").write_text("\n".join([",".join(names), *rows]))
    adopt.main(["raw=mine"])
    assert cfg_of("mine").data.skeleton == "coco17" and p0_preprocess.main(["recipe=mine"]) == 0
    store = ClipStore(here / "stores" / "mine")
    shown, want = store.frames[0, :, 1], clips[0][0, :, 1]  # heights in the first frame of sit-0; want: downwards
    there = shown != 0
    assert there.sum() > 10 and np.corrcoef(shown[there], -want[there])[0, 1] > 0.999


def test_classes_people_and_counts_are_those_of_all_clips_though_some_are_not_looked_at(here, capsys, monkeypatch):
    monkeypatch.setattr(survey, "MOST", 6)
    raw = folder(here / "mine", [clip(i // 2) for i in range(24)], ["a", "b"], subjects=4)
    lines = (raw / "labels.csv").read_text().splitlines()
    lines[1:] = sorted(lines[1:], key=lambda line: line.split(",")[1])  # the six are of one class
    (raw / "labels.csv").write_text("\n".join(lines))
    (raw / "skeleton.json").write_text('{"skeleton": "ntu25"}')
    adopt.main([f"raw={raw}"])
    assert "24 clips of 2 classes, 4 people" in capsys.readouterr().out and cfg_of("mine").data.num_classes == 2
    looked = survey.look(raw, "")
    assert len(looked.clips) == 6 and len(looked.rest) == 18
    assert all(c.joints.shape[1] == 1 and c.joints.base is None for c in looked.rest), "no whole clip stays in memory"


def test_ntu_files_have_the_classes_that_phase_0_counts(here, capsys):
    puppet.write_synthetic(here / "raw", seed=1, workers=1, subjects=(1, 2), replications=1)
    kept = [p for p in sorted((here / "raw").glob("*.skeleton")) if p.stem[-4:] in ("A001", "A003")]
    for path in set((here / "raw").glob("*.skeleton")) - set(kept):
        path.unlink()
    adopt.main(["raw=raw", "name=mine"])
    assert f"{len(kept)} clips of 3 classes" in capsys.readouterr().out, "A001 to A003, and A003 is label 2"
    assert p0_preprocess.main(["recipe=mine"]) == 0
    assert set(ClipStore(here / "stores" / "mine").clips["label"]) == {0, 2}
    for path in kept:
        path.rename(path.with_name(path.stem[-4:] + path.stem[:4] + ".skeleton"))
    with pytest.raises(ValueError, match="no .skeleton file has a name like S001C001P001R001A001"):
        adopt.main(["raw=raw", "name=other"])


@pytest.mark.parametrize("labels, classes", [(("1", "2", "3"), 3), (("1", "3", "3"), 4), (("0", "1", "1"), 2)])
def test_labels_count_from_1_if_none_is_missing(here, labels, classes):
    raw = folder(here / "mine", [clip(i) for i in range(12)], list(labels))
    (raw / "skeleton.json").unlink()
    adopt.main([f"raw={raw}", "skeleton=ntu25"])
    assert cfg_of("mine").data.num_classes == classes and p0_preprocess.main(["recipe=mine"]) == 0
    assert len(ClipStore(here / "stores" / "mine").clips["label"]) == 12


def test_a_split_without_training_clips_is_named(here):
    raw = folder(here / "mine", [clip(i) for i in range(8)], ["a", "b"], subjects=0)
    lines = (raw / "labels.csv").read_text().splitlines()
    (raw / "labels.csv").write_text("\n".join([lines[0] + ",split", *(line + ",test" for line in lines[1:])]))
    with pytest.raises(ValueError, match="'given' that the recordings bring has no training clip"):
        adopt.main([f"raw={raw}"])


def test_an_annotation_without_a_label_costs_that_clip_alone(here):
    annotations = [{"frame_dir": f"v{i}", "label": i % 2, "keypoint": clip(i)} for i in range(8)]
    del annotations[5]["label"]
    split = {"training": [f"v{i}" for i in range(6)], "validation": ["v6", "v7"]}
    (here / "list.pkl").write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    assert adopt.main(["raw=list.pkl", "name=mine"]) == 3 and cfg_of("mine").data.num_classes == 2
    assert p0_preprocess.main(["recipe=mine"]) == 3
    store = ClipStore(here / "stores" / "mine")
    assert [len(side) for side in store.split(cfg_of("mine").data.split)] == [5, 2]


def test_a_second_body_of_zeros_is_nobody(here):
    def padded(i: int) -> np.ndarray:
        return np.concatenate([clip(i), np.zeros_like(clip(i))])

    adopt.main([f"raw={folder(here / 'tanz💃', [padded(i) for i in range(8)], ['a', 'b'])}", "name=mine"])
    assert cfg_of("mine").view.bodies == 1 and p0_preprocess.main(["recipe=mine"]) == 0


def test_a_table_with_mediapipes_own_names_is_mediapipe33(here):
    body = SKELETONS["mediapipe33"]
    names = [joint.replace("left foot", "left foot index").replace("right foot", "right foot index").replace(" ", "_")
             for joint in body.joints]
    for i in range(8):
        place = here / "mine" / ("sit", "stand")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        header = ",".join(f"{name}_{axis}" for name in names for axis in "xyz")
        rows = [",".join(map(str, frame.ravel().tolist())) for frame in clip(i, skeleton=body)[0]]
        (place / f"{i}.csv").write_text("\n".join([header, *rows]))
    adopt.main(["raw=mine"])
    assert cfg_of("mine").data.skeleton == "mediapipe33"


def test_one_odd_clip_of_many_is_left_out_and_named(here, capsys):
    raw = folder(here / "mine", [clip(i) for i in range(24)], ["a", "b"])
    np.save(raw / "c5.npy", np.ones((5, 17, 3)))
    assert adopt.main([f"raw={raw}"]) == 3
    assert "c5: has 17 joints, the others have 25" in capsys.readouterr().err


def test_three_numbers_a_joint_are_taken_for_x_y_score_if_they_look_so(here):
    def scored(i: int) -> np.ndarray:
        x = np.round(300 + 200 * clip(i, skeleton=COCO)[0] * [1, -1, 0])
        x[..., 2] = np.random.default_rng(i).uniform(0.1, 1, x.shape[:2])
        return x

    adopt.main([f"raw={folder(here / 'mine', [scored(i) for i in range(8)], ['a', 'b'], skeleton='coco17')}"])
    cfg = cfg_of("mine")
    assert (cfg.data.channels, cfg.data.unit, cfg.data.up) == ("xys", "px", "-y") and cfg.view.rotate[0] == 0
    assert p0_preprocess.main(["recipe=mine"]) == 0 and not ClipStore(here / "stores" / "mine").frames[:, :, 2].any()


def test_mediapipe_landmarks_go_all_the_way_to_a_prediction(here, capsys, monkeypatch):
    """World landmarks: metres, y down, the origin between the hips; one .json file a clip."""
    body = SKELETONS["mediapipe33"]
    for i in range(12):
        x = clip(i, skeleton=body)[0] * [-1, -1, 1]  # l v 3
        x = np.where(x.any(2, keepdims=True), x - x[:, 23:25].mean(1, keepdims=True), 0)
        frames = [[dict(zip("xyz", map(float, joint), strict=True), visibility=float(joint.any())) for joint in frame]
                  for frame in x]
        place = here / "mine" / ("wave", "point")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.json").write_text(json.dumps([{"worldLandmarks": [frame]} for frame in frames]))
    adopt.main(["raw=mine"])
    cfg = cfg_of("mine")
    assert (cfg.data.skeleton, cfg.data.unit, cfg.data.up, cfg.data.num_classes) == ("mediapipe33", "m", "-y", 2)
    assert p0_preprocess.main(["recipe=mine"]) == 0
    monkeypatch.setattr(p4_export, "measure", lambda job, forms: {})  # a second export, and its time
    short = ["recipe=lite_nano", "data=mine", "train.epochs=1", "view.frames=8"]
    assert p1_train.main(short) == 0 and p4_export.main([*short, "calibration=4"]) in (0, 1)
    model, store = ExportedModel(here / "exports/lite_nano/model.onnx"), ClipStore(here / "stores" / "mine")
    name, first, length = (store.clips[key][3] for key in ("name", "offset", "length"))
    file = here / "mine" / f"{name.replace('-', '/')}.json"
    np.testing.assert_allclose(model.read(file)[0], store.frames[first[0]:first[0] + length], atol=1e-6)
    capsys.readouterr()
    assert predict.main(["model=exports/lite_nano/model.onnx", f"clip={file}"]) == 0
    said = capsys.readouterr()
    assert "wave" in said.out and "point" in said.out and not said.err


def test_utd_mhad_is_adopted_as_its_own_recipe_has_it(here, data_folder):
    adopt.main([f"raw={data_folder / 'utd-mhad.npz'}", "name=gestures"])
    written = tomli.loads((here / "recipes" / "gestures.toml").read_text())
    hand = tomli.loads((Path(adopt.__file__).parent.parent / "recipes" / "utd_mhad.toml").read_text())
    for key in ("frames", "trunk_scale", "rotate", "scale", "window"):
        assert written["view"][key] == hand["view"][key]
    assert abs(written["train"]["epochs"] - hand["train"]["epochs"]) <= 2
    assert written["data"]["protocols"] == hand["data"]["protocols"]


def write_nothing(here) -> bool:
    return sorted(p.name for p in (here / "recipes").iterdir()) == ["lite_nano.toml", "lite_small.toml"]


@pytest.mark.parametrize("spoil, words", [
    (lambda raw: np.save(raw / "c1.npy", np.ones((5, 17, 3))), ["several joint counts", "with 17"]),
    (lambda raw: [(raw / f"c{i}.npy").unlink() for i in (1, 3, 5)], ["'b' has one clip"]),
    (lambda raw: (raw / "labels.csv").unlink(), ["labels.csv"]),
    (lambda raw: [p.unlink() for p in raw.iterdir()], ["give a folder per class"]),
    (lambda raw: (raw / "skeleton.json").write_text(META.replace("ntu25", "ntu52")), ["ntu52", "unknown"]),
    (lambda raw: [np.save(p, np.full((5, 25, 3), np.nan)) for p in raw.glob("*.npy")], ["no clip could be read"]),
    (lambda raw: (raw / "skeleton.json").write_text('{"classes": ["a", "b"]}')
     and [np.save(p, np.ones((5, 24, 3))) for p in raw.glob("*.npy")], ["24 joints", "nearest"]),
    (lambda raw: (raw / "skeleton.json").write_text(json.dumps({"skeleton": COCO.to_dict()})),
     ["skeleton.json has 17 joints, the clips have 25 (such as c0)"]),
    (lambda raw: [p.unlink() for p in raw.glob("c*")] + [(raw / "skeleton.json").unlink()] + [
        (raw / f"c{i}.csv").write_text("LKnee_x,LKnee_y,tip_x,tip_y\n1,2,3,4\n") for i in range(8)],
     ["names 2 joints, of no known skeleton", "skeleton.json"]),
])
def test_what_cannot_be_adopted_is_one_line_and_writes_nothing(here, spoil, words):
    raw = folder(here / "mine", [clip(i) for i in range(8)], ["a", "b"])
    spoil(raw)
    with pytest.raises(ValueError) as e:
        adopt.main([f"raw={raw}"])
    assert all(word in str(e.value) for word in words) and write_nothing(here), e.value


def test_an_existing_recipe_is_kept(here):
    raw = folder(here / "mine", [clip(i) for i in range(8)], ["a", "b"])
    with pytest.raises(ValueError, match="exists already"):
        adopt.main([f"raw={raw}", "name=lite_nano"])
    with pytest.raises(ValueError, match="letters, digits"):
        adopt.main([f"raw={raw}", "name=a/b"])
    with pytest.raises(ValueError, match="unknown"):
        adopt.main([f"row={raw}"])
    assert write_nothing(here)


def test_labels_may_name_clips_in_class_folders_and_no_other_file_is_needed(here, capsys):
    for name in ("sit", "stand"):
        (here / "mine" / name).mkdir(parents=True)
        for i in range(4):
            np.save(here / "mine" / name / f"{i}.npy", clip(i)[0])
    lines = [f"{name}{sign}{i},{name},{i}" for name in ("sit", "stand") for i, sign in enumerate("-/-/")]
    (here / "mine" / "labels.csv").write_text("\n".join(["name,label,subject", *lines, "sit-9,sit,anna"]))
    adopt.main(["raw=mine"])
    said = capsys.readouterr()
    assert "line 10: sit-9: subject 'anna' is not a whole number" in said.err and "4 people" in said.out
    assert p0_preprocess.main(["recipe=mine"]) == 3  # anna's clip
    store = ClipStore(here / "stores" / "mine")
    assert store.classes == ["sit", "stand"] and store.clips["name"][:2].tolist() == ["sit-0", "sit-1"]


def test_swapped_axes_and_a_clip_in_another_unit_are_told(here, capsys):
    clips = [clip(i, frames=20 + i)[0].swapaxes(0, 1) for i in range(8)]
    with pytest.raises(ValueError, match="are the axes swapped"):
        adopt.main([f"raw={folder(here / 'swapped', clips, ['a', 'b'])}"])
    clips = [clip(i) * (1000 if i == 3 else 1) for i in range(8)]
    adopt.main([f"raw={folder(here / 'mine', clips, ['a', 'b'])}"])
    assert "1 clips have bodies five times larger or smaller than the others: another unit? c3" in capsys.readouterr(
    ).err


def class_folders(path: Path, **classes: list[np.ndarray]) -> Path:
    for name, clips in classes.items():
        (path / name).mkdir(parents=True)
        for i, x in enumerate(clips):
            np.save(path / name / f"{i}.npy", x)
    return path


@pytest.mark.parametrize("people, split, train", [((0, 1, 2), "xsub", [0, 1]), ((0, 1), "xsub", [0]),
                                                  ((1,), "random", [1, 2, 3]), ((0,), "random", [1, 2, 3])])
def test_a_person_may_have_the_number_0_and_one_person_is_enough(here, people, split, train, capsys):
    raw = folder(here / "mine", [clip(i) for i in range(12)], ["a", "b"])
    lines = [f"c{i},{'ab'[i % 2]} ,{people[i // 2 % len(people)]}" for i in range(12)]  # blanks after a label are none
    (raw / "labels.csv").write_text("\n".join(["name,label,subject ", *lines]))
    assert adopt.main(["raw=mine"]) == 0
    cfg = cfg_of("mine")
    assert (cfg.data.split, cfg.data.protocols[split]["train"]) == (split, train)
    assert cfg.data.num_classes == 2 and p0_preprocess.main(["recipe=mine"]) == 0
    assert all(len(side) for side in ClipStore(here / "stores" / "mine").split(split))
    assert ("one person" in capsys.readouterr().out) == (people == (1,))


def test_what_is_left_out_is_named(here, capsys):
    raw = class_folders(here / "mine", sit=[clip(i)[0] for i in range(4)], stand=[clip(i)[0] for i in range(4)])
    class_folders(raw, __MACOSX=[clip(0)[0]])
    (raw / ".ipynb_checkpoints").mkdir()
    np.save(raw / "wave.npy", clip(0)[0])
    (raw / "sit" / "0.npy").rename(raw / "sit" / "0.NPY")
    assert adopt.main(["raw=mine"]) == 3
    said = capsys.readouterr()
    assert "8 clips of 2 classes" in said.out and "lost     wave.npy: lies beside the class folders" in said.err
    lines = [f"sit-{i},sit" for i in range(4)] + [f"stand/{i}.npy,stand" for i in range(3)]
    (raw / "labels.csv").write_text("\n".join(["name,label", *lines]))
    assert adopt.main(["raw=mine", "name=listed"]) == 3
    said = capsys.readouterr()
    assert "7 clips" in said.out and said.err.count("is not listed") == 2 and "lost     stand/3.npy" in said.err


def test_a_class_that_nobody_trains_a_short_clip_and_an_assumed_axis_are_told(here, capsys):
    clips = [clip(i)[0, :1 if i == 5 else None] for i in range(12)]
    raw = folder(here / "mine", clips, ["a", "b", "c"], skeleton=SKELETONS["ntu25"].to_dict() | {
        "joints": [f"j{v}" for v in range(25)]})
    lines = [f"c{i},{'abc'[i % 3]},{2 if i % 3 == 2 else 1 + i // 3 % 2}" for i in range(12)]
    (raw / "labels.csv").write_text("\n".join(["name,label,subject", *lines]))
    adopt.main(["raw=mine"])
    err = capsys.readouterr().err
    assert "no training clip of class 'c'" in err and "fewer than 4 frames: c5" in err
    assert "up = y is assumed: no joint is named left shoulder" in err


@pytest.mark.parametrize("names", ["winken links", "wave_r", "agiter à gauche", "L hand", "recto"])
def test_classes_that_are_each_others_mirror_image_are_never_mirrored(here, names):
    base = [clip(i)[0] for i in range(4)]
    left, right = (SKELETONS["ntu25"].joints.index(f"{side} wrist") for side in ("left", "right"))
    waving = [[x + 0 for x in base] for _ in range(2)]
    for each, joint in zip(waving, (left, right), strict=True):
        for x in each:
            x[:, joint] += 0.5 * np.sin(np.arange(len(x)))[:, None]
    class_folders(here / "mine", kneel=base, **{names: waving[0], "other": waving[1]})
    adopt.main(["raw=mine", "skeleton=ntu25"])
    assert cfg_of("mine").view.flip == 0
    text = (here / "recipes" / "mine.toml").read_text()
    assert ("tells left from right" if names != "recto" else "mirrored moves as") in text
    class_folders(here / "yours", kneel=base, wave=waving[0])
    adopt.main(["raw=yours", "skeleton=ntu25"])
    assert cfg_of("yours").view.flip == 0.5


def test_commands_can_be_pasted_and_the_name_is_plain(here, capsys):
    (here / "exports" / "lite_nano").mkdir(parents=True)
    class_folders(here / "Übungen Mai", **{"Fuß Tritt (links)": [clip(i)[0] for i in range(4)],
                                           "b": [clip(i)[0] for i in range(4)]})
    adopt.main([f"raw={here / 'Übungen Mai'}", "skeleton=ntu25"])
    said = capsys.readouterr().out
    assert "just show data=ubungen_mai 'clip=Fuß Tritt (links)-0' out=clip.gif" in said
    assert "data=ubungen_mai exports=exports/ubungen_mai" in said and "model=exports/ubungen_mai/lite_nano/" in said


def test_words_that_only_look_like_left_and_right_tell_nothing():
    sided = ["swipe left", "Right kick", "swipeLeft", "nach links", "à droite", "wave_l", "R hand", "swipe_lr",
             "mano destra"]
    assert all(adopt.SIDED.search(word) for word in sided)
    plain = ["bright", "stand upright", "leftover", "Tür öffnen", "ouvrir l'armoire", "destroy", "pedestrian",
             "blinks", "R2"]
    assert not any(adopt.SIDED.search(word) for word in plain)


def test_replications_that_a_column_tells_are_kept_also_0(here):
    raw = folder(here / "mine", [clip(i) for i in range(12)], ["a", "b"])
    lines = [f"c{i},{'ab'[i % 2]},{i // 2 % 3},1" for i in range(12)]
    (raw / "labels.csv").write_text("\n".join(["name,label,replication,subject", *lines]))
    adopt.main(["raw=mine"])
    assert cfg_of("mine").data.protocols == {"random": {"field": "replication", "train": [1, 2]}}
    p0_preprocess.main(["recipe=mine"])
    assert ClipStore(here / "stores" / "mine").clips["replication"].tolist() == [i // 2 % 3 for i in range(12)]
