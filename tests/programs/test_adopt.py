"""adopt: the recipe that it writes for recordings, what it prints about them, and what it refuses."""
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import tomli

from phases import adopt, p0_preprocess, p1_train, p4_export, predict
from phases.common.files import ROOT
from phases.recordings import puppet, survey
from phases.recordings.starts import Start
from phases.shipping import verify
from phases.shipping.exported import ExportedModel
from phases.training.clip_store import ClipStore
from phases.training.recipe import Config, load_config
from skeletons import SKELETONS
from tests.helpers.own_clips import class_folders, labelled_folder, relabel, write_openpose, write_table
from tests.helpers.programs import call
from tests.recordings.test_metres import clip, recorded_as

COCO = SKELETONS["coco17"]
NAMELESS = SKELETONS["ntu25"].to_dict() | {"joints": [f"j{v}" for v in range(25)]}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder whose recipes/ is its own, with the networks' recipes."""
    (tmp_path / "recipes").mkdir()
    for name in ("lite_nano", "lite_small"):
        (tmp_path / "recipes" / f"{name}.toml").write_text((ROOT / "recipes" / f"{name}.toml").read_text())
    for module in ("phases.adopt", "phases.common.recipes"):
        monkeypatch.setattr(f"{module}.ROOT", tmp_path)
    monkeypatch.setattr("phases.recordings.starts.NETWORKS", tmp_path)  # none comes along: no start is proposed
    monkeypatch.chdir(tmp_path)
    return tmp_path


def adopted(raw: Path | str, *words: str, code: int = 0) -> Config:
    """The recipe, named mine or as the words say, that adopt writes for recordings."""
    named = [word[5:] for word in words if word.startswith("name=")]
    assert call(adopt, f"raw={raw}", *words, *([] if named else ["name=mine"])) == code
    return load_config([f"recipe={named[0] if named else 'mine'}"])


def stored(code: int = 0) -> ClipStore:
    """The store that phase 0 makes of the recipe mine."""
    assert call(p0_preprocess, "recipe=mine") == code
    return ClipStore(Path("stores/mine"))


def recipes(here: Path) -> list[str]:
    return sorted(path.stem for path in (here / "recipes").iterdir())


# ---------------------------------------------------------------------------------------------------------------------
# What is written and printed
# ---------------------------------------------------------------------------------------------------------------------

def test_the_recipe_and_the_printed_lines_word_for_word(here, capsys):
    raw = labelled_folder(here / "mine", [clip(i) for i in range(16)], ["wave", "point"])
    assert call(adopt, f"raw={raw}") == 0
    assert (here / "recipes" / "mine.toml").read_text() == f"""\
# mine: 16 clips, adopted from mine.
# Written by `just adopt`; every line may be changed.
raw = "{raw}"  # the recordings

[data]
name = "mine"
reader = "arrays"
skeleton = "ntu25"           # as named
num_classes = 2              # wave, point
unit = "m"                   # the median trunk is 0.404 long
up = "y"                     # the axis along which bodies stand
split = "xsub"               # every second person trains, the others test
protocols = {{ xsub = {{ field = "subject", train = [1, 3] }} }}

[view]
frames = 16                  # every clip has 20 frames
bodies = 1                   # 0 % of the clips have two
trunk_scale = true           # people differ in size
heading = false              # one camera: where people face may tell actions apart
rotate = [10.0, 30.0, 10.0]  # degrees, most about the vertical
scale = 0.2
window = 0.7                 # a clip may begin late or end early
flip = 0.5                   # mirrored clips are as good

[train]
batch = 16                   # 8 training clips: 1 step an epoch
epochs = 400                 # 400 steps in all; small sets need that many
weight_decay = 5e-4
label_smoothing = 0.1
"""
    assert capsys.readouterr().out == f"""\
saw      16 clips of 2 classes, 4 people, 25 joints
assumed  ntu25, m, y up, 16 frames, 400 epochs; every second person trains, the others test
wrote    {here}/recipes/mine.toml: read it, then
         just phase0 recipe=mine
         just show data=mine clip=c0 out=clip.gif
         just phase1 recipe=lite_nano data=mine
         just phase4 recipe=lite_nano data=mine
         just predict model=exports/mine/lite_nano/model.onnx clip=FILE
"""


def test_a_start_that_helps_is_proposed_in_recipe_and_commands(here, capsys, monkeypatch):
    sizes = []

    def start_for(clips, skeleton):
        sizes.append((clips, skeleton.name))
        return Start("any", "measured with 9 training clips: +5.0 points of top-1")

    monkeypatch.setattr("phases.recordings.proposal.start_for", start_for)
    raw = labelled_folder(here / "raw", [clip(i) for i in range(16)], ["wave", "point"])
    assert adopted(raw).init == "" and sizes == [(8, "ntu25")], "a comment: nobody must start from it"
    assert "just phase1 recipe=lite_nano data=mine init=any\n" in capsys.readouterr().out

    # without the # it is a setting, of the whole run
    path = here / "recipes" / "mine.toml"
    line = next(line for line in path.read_text().splitlines() if line.startswith('# init = "any"'))
    assert line.endswith("measured with 9 training clips: +5.0 points of top-1")
    path.write_text(path.read_text().replace(line, line[2:]))
    assert load_config(["recipe=lite_nano", "data=mine"]).init == "any"


def test_a_folder_becomes_a_recipe_that_trains(here):
    adopted(labelled_folder(here / "raw", [clip(i) for i in range(16)], ["wave", "point"]))
    stored()
    assert call(p1_train, "recipe=lite_nano", "data=mine", "train.epochs=1") == 0
    assert json.loads((here / "runs/lite_nano/mine-xsub/seed0/result.json").read_text())["clips"] == 8


def test_commands_can_be_pasted_and_the_name_is_plain(here, capsys):
    class_folders(here / "Übungen Mai", **{"Fuß Tritt (links)": [clip(i)[0] for i in range(4)],
                                           "b": [clip(i)[0] for i in range(4)]})
    call(adopt, f"raw={here / 'Übungen Mai'}", "skeleton=ntu25")
    said = capsys.readouterr().out
    assert "just show data=ubungen_mai 'clip=Fuß Tritt (links)-0' out=clip.gif" in said
    assert "model=exports/ubungen_mai/lite_nano/model.onnx" in said


def test_utd_mhad_is_adopted_as_its_own_recipe_has_it(here, data_folder):
    adopted(data_folder / "utd-mhad.npz", "name=gestures")
    written = tomli.loads((here / "recipes" / "gestures.toml").read_text())
    hand = tomli.loads((Path(adopt.__file__).parent.parent / "recipes" / "utd_mhad.toml").read_text())
    for key in ("frames", "trunk_scale", "rotate", "scale", "window"):
        assert written["view"][key] == hand["view"][key]
    assert abs(written["train"]["epochs"] - hand["train"]["epochs"]) <= 2
    assert written["data"]["protocols"] == hand["data"]["protocols"]


# ---------------------------------------------------------------------------------------------------------------------
# Coordinates and bodies
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("factor, up, unit", [(1, "y", "m"), (1000, "z", "mm"), (100, "-y", "cm"), (1, "-z", "m")])
def test_unit_and_axis_are_measured(here, factor, up, unit):
    clips = [recorded_as(clip(i), factor, up) for i in range(8)]
    cfg = adopted(labelled_folder(here / "raw", clips, ["a", "b"]))
    assert (cfg.data.unit, cfg.data.up) == (unit, up)


def test_flat_pixels_are_scaled_and_turned_in_the_plane(here):
    clips = [np.round(300 + 200 * clip(i, skeleton=COCO)[..., :2] * [1, -1]) for i in range(8)]
    cfg = adopted(labelled_folder(here / "raw", clips, ["a", "b"], skeleton="coco17"))
    assert (cfg.data.unit, cfg.data.up) == ("px", "-y") and cfg.view.rotate == (0.0, 0.0, 10.0)


def test_three_numbers_that_look_so_are_x_y_score(here):
    def scored(i: int) -> np.ndarray:
        x = np.round(300 + 200 * clip(i, skeleton=COCO)[0] * [1, -1, 0])
        x[..., 2] = np.random.default_rng(i).uniform(0.1, 1, x.shape[:2])
        return x

    cfg = adopted(labelled_folder(here / "raw", [scored(i) for i in range(8)], ["a", "b"], skeleton="coco17"))
    assert (cfg.data.channels, cfg.data.unit, cfg.data.up) == ("xys", "px", "-y") and cfg.view.rotate[0] == 0
    assert not stored().frames[:, :, 2].any()


def low_legs(i: int, low: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (L, 17, 2) and scores (L, 17) of a clip whose legs were not seen: low scores, anywhere in the picture."""
    rng = np.random.default_rng(i)
    x = 300 + 200 * clip(i, skeleton=COCO)[0][..., :2] * [1, -1]
    score = rng.uniform(0.5, 1, x.shape[:2])
    legs = [v for v, joint in enumerate(COCO.joints) if "knee" in joint or "ankle" in joint]
    x[:, legs] = rng.uniform(0, 900, (len(x), 4, 2))
    score[:, legs] = low * rng.uniform(0.5, 1.5, (len(x), 4))
    return np.round(x), score


@pytest.mark.parametrize("form", ["xys", "xyzs", "pickle"])
def test_joints_of_low_scores_become_missing(here, form):
    if form == "pickle":
        annotations = []
        for i in range(8):
            x, score = low_legs(i)
            clip_of = {"keypoint": x[None], "keypoint_score": score[None]}
            annotations.append({"frame_dir": f"v{i}", "label": i % 2} | clip_of)
        raw = here / "list.pkl"
        raw.write_bytes(pickle.dumps(annotations))
    else:
        clips = []
        for i in range(8):
            x, score = low_legs(i)
            z = [0 * score] if form == "xyzs" else []
            clips.append(np.stack([x[..., 0], x[..., 1], *z, score], 2))
        raw = labelled_folder(here / "raw", clips, ["a", "b"], skeleton="coco17")

    cfg = adopted(raw, "skeleton=coco17")
    assert 0.05 < cfg.data.min_score < 0.5
    text = (here / "recipes" / "mine.toml").read_text()
    assert "24 % of the joints have lower scores" in text
    frames = stored().frames
    missing = (frames == 0).all(2).mean(0)
    assert (missing[13:] == 1).all() and missing[:13].max() < 0.1


def test_scores_of_one_group_leave_every_joint(here):
    clips = []
    for i in range(8):
        x, score = low_legs(i, low=0.6)
        clips.append(np.dstack([x, score]))
    cfg = adopted(labelled_folder(here / "raw", clips, ["a", "b"], skeleton="coco17"))
    assert cfg.data.min_score == 0 and "one group" in (here / "recipes" / "mine.toml").read_text()


def test_a_second_body_of_zeros_is_nobody(here):
    clips = [np.concatenate([clip(i), np.zeros_like(clip(i))]) for i in range(8)]
    assert adopted(labelled_folder(here / "tanz💃", clips, ["a", "b"])).view.bodies == 1
    stored()


def test_a_table_with_mediapipes_own_names_is_mediapipe33(here):
    body = SKELETONS["mediapipe33"]
    names = [joint.replace("left foot", "left foot index").replace("right foot", "right foot index").replace(" ", "_")
             for joint in body.joints]
    for i in range(8):
        table = here / "raw" / ("sit", "stand")[i % 2] / f"{i}.csv"
        write_table(table, [f"{name}_{axis}" for name in names for axis in "xyz"], clip(i, skeleton=body)[0])
    assert adopted("raw").data.skeleton == "mediapipe33"


def test_columns_name_their_joints_in_any_order(here):
    order = np.random.default_rng(0).permutation(17)
    names = [f"{COCO.joints[v].replace(' ', '_')}_{axis}" for v in order for axis in "xy"]
    clips = [np.round(300 + 200 * clip(i, skeleton=COCO)[0][..., :2] * [1, -1]) for i in range(8)]
    for i, x in enumerate(clips):
        write_table(here / "raw" / ("sit", "stand")[i % 2] / f"{i}.csv", names, x[:, order])
    assert adopted("raw").data.skeleton == "coco17"

    # heights in the first frame of sit-0; the recorded ones point down
    shown = stored().frames[0, :, 1]
    recorded = clips[0][0, :, 1]
    there = shown != 0
    assert there.sum() > 10 and np.corrcoef(shown[there], -recorded[there])[0, 1] > 0.999


def test_tables_and_openpose_frames_in_class_folders_are_stored(here, capsys):
    for i in range(8):
        x = np.round(300 + 200 * clip(i, skeleton=SKELETONS["openpose25"])[0][..., :2])  # l v 2, its head is up
        x = x - x.min((0, 1)) + 5
        place = here / "raw" / ("sit", "stand")[i % 2]
        if i < 4:
            names = [f"j{v}_{c}" for v in range(25) for c in ("x", "y", "score")]
            write_table(place / f"{i}.csv", names, np.insert(x, 2, 0.5, axis=2))
        else:
            write_openpose(place / f"{i}", x)

    cfg = adopted("raw")
    assert (cfg.data.unit, cfg.data.up, cfg.data.reader) == ("px", "-y", "arrays")
    assert cfg.data.skeleton == "openpose25", "not ntu25: flat clips are of no depth sensor"
    assert "8 clips of 2 classes" in capsys.readouterr().out
    names = [f"sit-{i}" for i in (0, 2, 4, 6)] + [f"stand-{i}" for i in (1, 3, 5, 7)]
    assert stored().clips["name"].tolist() == names


def test_tables_of_a_row_per_joint_with_holes_are_adopted(here, capsys):
    body = SKELETONS["kinect20"]
    lines = ["name;label;subject"]
    (here / "raw").mkdir()
    for i in range(8):
        rows = ["frame;joint;x;y;z"]
        for (t, v), xyz in zip(np.ndindex(20, 20), clip(i, skeleton=body)[0].reshape(-1, 3), strict=True):
            cells = ["NaN" if (t + v + i) % 50 == 0 else f"{number:.4f}".replace(".", ",") for number in xyz]
            rows.append(";".join([str(t), body.joints[v], *cells]))
        (here / "raw" / f"c{i}.csv").write_text("\n".join(rows))
        lines.append(f"c{i};{('gähnen', 'grüßen')[i % 2]};{('Zoë', 'Anna', 'Bo', 'Cem')[i // 2]}")
    (here / "raw" / "labels.csv").write_bytes("\n".join(lines).encode("latin-1"))

    cfg = adopted("raw")
    said = capsys.readouterr()
    assert (cfg.data.skeleton, cfg.data.unit, cfg.data.up) == ("kinect20", "m", "y")
    assert "8 clips of 2 classes, 4 people, 20 joints" in said.out and "Anna is 1, Bo is 2" in said.err
    store = stored()
    assert store.classes == ["grüßen", "gähnen"] and store.clips["subject"].tolist() == [4, 4, 1, 1, 2, 2, 3, 3]


def test_mediapipe_landmarks_go_all_the_way_to_a_prediction(here, capsys, monkeypatch):
    # world landmarks: metres, y down, the origin between the hips; one .json file per clip
    body = SKELETONS["mediapipe33"]
    for i in range(12):
        x = clip(i, skeleton=body)[0] * [-1, -1, 1]  # l v 3
        x = np.where(x.any(2, keepdims=True), x - x[:, 23:25].mean(1, keepdims=True), 0)
        frames = []
        for frame in x:
            marks = [dict(zip("xyz", map(float, joint), strict=True), visibility=float(joint.any())) for joint in frame]
            frames.append({"worldLandmarks": [marks]})
        place = here / "raw" / ("wave", "point")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.json").write_text(json.dumps(frames))

    cfg = adopted("raw")
    assert (cfg.data.skeleton, cfg.data.unit, cfg.data.up, cfg.data.num_classes) == ("mediapipe33", "m", "-y", 2)
    store = stored()
    monkeypatch.setattr(verify, "relative_times", lambda *_: {})  # takes its time
    short = ["recipe=lite_nano", "data=mine", "train.epochs=1", "view.frames=8"]
    assert call(p1_train, *short) == 0 and call(p4_export, *short, "calibration=4") in (0, 1)

    # the exported file reads the clip as the store has it
    model = ExportedModel(here / "exports/mine/lite_nano/model.onnx")
    name, first, length = (store.clips[key][3] for key in ("name", "offset", "length"))
    file = here / "raw" / f"{name.replace('-', '/')}.json"
    np.testing.assert_allclose(model.read(file)[0], store.frames[first[0]:first[0] + length], atol=1e-6)

    capsys.readouterr()
    assert call(predict, "model=exports/mine/lite_nano/model.onnx", f"clip={file}") == 0
    said = capsys.readouterr()
    assert "wave" in said.out and "point" in said.out and not said.err


# ---------------------------------------------------------------------------------------------------------------------
# Classes and sides
# ---------------------------------------------------------------------------------------------------------------------

def test_class_folders_need_no_other_file(here):
    both = [clip(i, skeleton=COCO)[0] for i in range(4)]
    adopted(class_folders(here / "raw", sit=both, stand=both), "skeleton=coco17")
    store = stored()
    assert store.classes == ["sit", "stand"] and store.clips["name"][5] == "stand-1"
    assert store.clips["label"].tolist() == [0] * 4 + [1] * 4


def test_labels_may_name_clips_in_class_folders(here, capsys):
    both = [clip(i)[0] for i in range(4)]
    raw = class_folders(here / "raw", sit=both, stand=both)
    lines = [f"{name}{sign}{i},{name},{i}" for name in ("sit", "stand") for i, sign in enumerate("-/-/")]
    relabel(raw, "name,label,subject", [*lines, "sit-9,sit,anna"])

    # anna is no number, and her clip is left out
    adopted(raw, code=3)
    said = capsys.readouterr()
    assert "line 10" in said.err and "anna" in said.err and "4 people" in said.out
    store = stored(3)
    assert store.classes == ["sit", "stand"] and store.clips["name"][:2].tolist() == ["sit-0", "sit-1"]


def test_all_clips_count_though_some_are_not_looked_at(here, capsys, monkeypatch):
    # the six that are looked at are of one class
    monkeypatch.setattr(survey, "SAMPLE", 6)
    raw = labelled_folder(here / "raw", [clip(i // 2) for i in range(24)], ["a", "b"])
    header, *lines = (raw / "labels.csv").read_text().splitlines()
    relabel(raw, header, sorted(lines, key=lambda line: line.split(",")[1]))
    (raw / "skeleton.json").write_text('{"skeleton": "ntu25"}')
    assert adopted(raw).data.num_classes == 2
    assert "24 clips of 2 classes, 4 people" in capsys.readouterr().out


@pytest.mark.parametrize("labels, classes", [("123", [1, 2, 3]), ("133", [1, 3]), ("011", [0, 1]),
                                             ("1259", [1, 2, 5, 9])])
def test_phase_0_stores_labels_as_adopt_counts_them(here, labels, classes):
    raw = labelled_folder(here / "raw", [clip(i) for i in range(16)], list(labels))
    (raw / "skeleton.json").unlink()
    assert adopted(raw, "skeleton=ntu25").data.num_classes == len(classes)
    store = stored()
    assert store.classes == [f"class {k}" for k in classes] and len(store.clips["label"]) == 16
    assert [classes[k] for k in store.clips["label"][:len(labels)]] == [int(label) for label in labels]


def test_a_pickles_labels_with_holes_keep_their_numbers(here):
    annotations = [{"frame_dir": f"v{i}", "label": (1, 5, 9)[i % 3], "keypoint": clip(i)} for i in range(12)]
    (here / "list.pkl").write_bytes(pickle.dumps(annotations))
    assert adopted("list.pkl", "skeleton=ntu25").data.num_classes == 3
    assert stored().classes == ["class 1", "class 5", "class 9"]


def test_a_listed_class_without_clips_is_left_out_and_named(here, capsys):
    raw = labelled_folder(here / "raw", [clip(i) for i in range(12)], ["a", "b"])
    (raw / "skeleton.json").write_text(json.dumps({"skeleton": "ntu25", "classes": ["a", "none", "b"]}))
    assert adopted(raw).data.num_classes == 2
    assert "'none'" in capsys.readouterr().err and stored().classes == ["a", "b"]


def test_ntu_files_have_the_classes_that_phase_0_counts(here, capsys):
    puppet.write_synthetic(here / "raw", seed=1, workers=1, subjects=(1, 2), replications=1)
    kept = [path for path in sorted((here / "raw").glob("*.skeleton")) if path.stem[-4:] in ("A001", "A003")]
    for path in set((here / "raw").glob("*.skeleton")) - set(kept):
        path.unlink()
    adopted("raw")
    assert f"{len(kept)} clips of 2 classes" in capsys.readouterr().out, "no file is of A002"
    assert set(stored().clips["label"]) == {0, 1} and stored().classes == ["A001", "A003"]

    # names that say nothing
    for path in kept:
        path.rename(path.with_name(path.stem[-4:] + path.stem[:4] + ".skeleton"))
    with pytest.raises(ValueError, match="S001C001P001R001A001"):
        call(adopt, "raw=raw", "name=other")


def test_without_people_every_fourth_clip_of_a_class_tests(here, capsys):
    adopted(labelled_folder(here / "raw", [clip(i) for i in range(16)], ["wave", "point"], subjects=0))
    assert "flatters" in capsys.readouterr().out
    store = stored()
    train, test = store.split("random")
    assert len(train) == 12 and np.bincount(store.clips["label"][test]).tolist() == [2, 2]


@pytest.mark.parametrize("people, split, train", [((0, 1, 2), "xsub", [0, 1]), ((0, 1), "xsub", [0]),
                                                  ((1,), "random", [1, 2, 3]), ((0,), "random", [1, 2, 3])])
def test_a_person_may_be_number_0_and_one_person_is_enough(here, people, split, train, capsys):
    raw = labelled_folder(here / "raw", [clip(i) for i in range(12)], ["a", "b"])
    lines = [f"c{i},{'ab'[i % 2]} ,{people[i // 2 % len(people)]}" for i in range(12)]  # blanks after a label are none
    relabel(raw, "name,label,subject ", lines)
    cfg = adopted(raw)
    assert (cfg.data.split, cfg.data.protocols[split]["train"]) == (split, train)
    assert ("one person" in capsys.readouterr().out) == (people == (1,))
    assert cfg.data.num_classes == 2 and all(len(side) for side in stored().split(split))


def test_replications_that_a_column_tells_are_kept_also_0(here):
    raw = labelled_folder(here / "raw", [clip(i) for i in range(12)], ["a", "b"])
    relabel(raw, "name,label,replication,subject", [f"c{i},{'ab'[i % 2]},{i // 2 % 3},1" for i in range(12)])
    assert adopted(raw).data.protocols == {"random": {"field": "replication", "train": [1, 2]}}
    assert stored().clips["replication"].tolist() == [i // 2 % 3 for i in range(12)]


def test_a_split_without_training_clips_is_named(here):
    raw = labelled_folder(here / "raw", [clip(i) for i in range(8)], ["a", "b"], subjects=0)
    relabel(raw, "name,label,split", [f"c{i},{'ab'[i % 2]},test" for i in range(8)])
    with pytest.raises(ValueError, match="'given'"):
        call(adopt, f"raw={raw}")


def test_a_pickle_of_ones_own_joints_takes_skeleton_json(here):
    own = {"name": "chain", "joints": [f"j{v}" for v in range(12)], "parents": [max(0, v - 1) for v in range(12)],
           "regions": {"torso": list(range(12))}}
    annotations = [{"frame_dir": f"v{i}", "label": i % 2, "keypoint": clip(i)[:, :, :12]} for i in range(8)]
    first, last = [f"v{i}" for i in range(6)], ["v6", "v7"]
    split = {"train1": first, "test1": last, "train2": last, "test2": first}
    (here / "raw").mkdir()
    (here / "raw" / "list.pkl").write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    with pytest.raises(ValueError, match="12 joints fit no known skeleton.*skeleton.json"):
        call(adopt, "raw=raw/list.pkl")

    # with its joints and classes beside it
    (here / "raw" / "skeleton.json").write_text(json.dumps({"skeleton": own, "classes": ["wave", "point"]}))
    cfg = adopted("raw/list.pkl")
    assert (cfg.data.skeleton, cfg.data.reader, cfg.data.split) == ("", "pyskl", "split1")
    store = stored()
    assert store.classes == ["wave", "point"] and list(store.skeleton.joints) == own["joints"]
    assert [len(side) for side in store.split("split1")] == [6, 2]
    assert [len(side) for side in store.split("split2")] == [2, 6]


def test_an_annotation_without_a_label_costs_that_clip_alone(here):
    annotations = [{"frame_dir": f"v{i}", "label": i % 2, "keypoint": clip(i)} for i in range(8)]
    del annotations[5]["label"]
    split = {"training": [f"v{i}" for i in range(6)], "validation": ["v6", "v7"]}
    (here / "list.pkl").write_bytes(pickle.dumps({"split": split, "annotations": annotations}))
    cfg = adopted("list.pkl", code=3)
    assert cfg.data.num_classes == 2 and [len(side) for side in stored(3).split(cfg.data.split)] == [5, 2]


@pytest.mark.parametrize("names", ["winken links", "wave_r", "agiter à gauche", "L hand", "recto"])
def test_classes_that_mirror_each_other_are_never_mirrored(here, names):
    # one waves with the left hand, the other with the right
    base = [clip(i)[0] for i in range(4)]
    waving = []
    for side in ("left", "right"):
        clips = [x.copy() for x in base]
        for x in clips:
            x[:, SKELETONS["ntu25"].joints.index(f"{side} wrist")] += 0.5 * np.sin(np.arange(len(x)))[:, None]
        waving.append(clips)

    class_folders(here / "raw", kneel=base, **{names: waving[0], "other": waving[1]})
    assert adopted("raw", "skeleton=ntu25").view.flip == 0
    text = (here / "recipes" / "mine.toml").read_text()
    assert ("tells left from right" if names != "recto" else "mirrored moves as") in text

    # one of them alone
    class_folders(here / "alone", kneel=base, wave=waving[0])
    assert adopted("alone", "skeleton=ntu25", "name=alone").view.flip == 0.5


# ---------------------------------------------------------------------------------------------------------------------
# What is left out, odd, or refused
# ---------------------------------------------------------------------------------------------------------------------

def test_what_is_left_out_is_named(here, capsys):
    both = [clip(i)[0] for i in range(4)]
    raw = class_folders(here / "raw", sit=both, stand=both)
    class_folders(raw, __MACOSX=[clip(0)[0]])
    (raw / ".ipynb_checkpoints").mkdir()
    np.save(raw / "wave.npy", clip(0)[0])
    (raw / "sit" / "0.npy").rename(raw / "sit" / "0.NPY")
    adopted("raw", code=3)
    said = capsys.readouterr()
    assert "8 clips of 2 classes" in said.out and "lost     wave.npy: " in said.err

    # a list that names seven of them
    relabel(raw, "name,label", [f"sit-{i},sit" for i in range(4)] + [f"stand/{i}.npy,stand" for i in range(3)])
    adopted("raw", "name=listed", code=3)
    said = capsys.readouterr()
    assert "7 clips" in said.out and "lost     wave.npy: " in said.err and "lost     stand/3.npy: " in said.err


def test_swapped_axes_and_a_clip_in_another_unit_are_told(here, capsys):
    clips = [clip(i, frames=20 + i)[0].swapaxes(0, 1) for i in range(8)]
    with pytest.raises(ValueError, match="axes swapped"):
        call(adopt, f"raw={labelled_folder(here / 'swapped', clips, ['a', 'b'])}")

    clips = [clip(i) * (1000 if i == 3 else 1) for i in range(8)]
    adopted(labelled_folder(here / "raw", clips, ["a", "b"]))
    err = capsys.readouterr().err
    assert "another unit?" in err and "c3" in err


def test_an_untrained_class_a_short_clip_and_guesses_are_told(here, capsys):
    clips = [clip(i)[0, :1 if i == 5 else None] for i in range(12)]
    raw = labelled_folder(here / "raw", clips, ["a", "b", "c"], skeleton=NAMELESS)
    relabel(raw, "name,label,subject",
            [f"c{i},{'abc'[i % 3]},{2 if i % 3 == 2 else 1 + i // 3 % 2}" for i in range(12)])
    adopted(raw)
    err = capsys.readouterr().err
    assert "class 'c'" in err and "4 frames: c5" in err
    assert "unit = body is assumed" in err and "up = y is assumed" in err


def said_of(capsys, raw: Path) -> list[str]:
    """What adopt calls odd."""
    capsys.readouterr()
    adopted(raw)
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("odd ")]


def test_people_on_both_sides_and_a_class_on_one_are_told(here, capsys):
    raw = labelled_folder(here / "raw", [clip(i) for i in range(12)], ["a", "b", "c"])
    lines = [f"c{i},{'abc'[i % 3]},{i % 5},{'test' if i > 8 or i % 3 == 1 else 'train'}" for i in range(12)]
    relabel(raw, "name,label,subject,split", lines)
    people, = (line for line in said_of(capsys, raw) if "both sides" in line)
    assert "'given'" in people and "subject 0, 1, 2" in people
    (here / "recipes" / "mine.toml").unlink()
    assert any("no training clip of class 'b'" in line for line in said_of(capsys, raw))


def test_a_class_of_one_clip_trains_and_unequal_classes_are_told(here, capsys):
    both = [clip(i)[0] for i in range(12)]
    odd = said_of(capsys, class_folders(here / "raw", sit=both, fall=both[:1]))
    assert any("no test clip of class 'fall'" in line for line in odd)
    assert any("'sit' has 12 clips, 'fall' 1" in line and "train.balanced" in line for line in odd)
    store = stored()
    assert "'sit' has 12 clips, 'fall' 1" in capsys.readouterr().err
    train, test = store.split("random")
    assert 0 in store.clips["label"][train] and len(test)


def test_clips_in_which_nothing_moves_are_named(here, capsys):
    clips = [clip(i) for i in range(8)]
    clips[3][:] = clips[3][:, :1]
    odd = said_of(capsys, labelled_folder(here / "raw", clips, ["a", "b"]))
    assert ["c3" in line for line in odd if "nothing moves" in line] == [True]


def test_shares_of_a_picture_are_not_called_metres(here, capsys):
    # MediaPipe's landmarks of the picture: x and y of 0 to 1, y down, z about the hips
    clips = []
    for i in range(8):
        x = clip(i, skeleton=SKELETONS["mediapipe33"])[0]  # l v 3
        there = x.any(2)
        middle = (x[there].max(0) + x[there].min(0)) / 2
        clips.append(np.where(there[..., None], (x - middle) * [0.6, -0.8, 0.6] + [0.5, 0.5, 0], 0))
    odd = said_of(capsys, labelled_folder(here / "raw", clips, ["a", "b"], skeleton="mediapipe33"))
    cfg = load_config(["recipe=mine"])
    assert (cfg.data.unit, cfg.data.up) == ("px", "-y")
    assert ["world landmarks" in line for line in odd if "shares of a picture" in line] == [True]


def test_the_first_word_without_a_key_is_the_recordings():
    assert adopt.with_raw(["FOLDER", "name=a"]) == ["raw=FOLDER", "name=a"]
    assert adopt.with_raw(["name=a", "x.npz"]) == ["name=a", "raw=x.npz"]
    assert adopt.with_raw(["--help"]) == ["--help"] and adopt.with_raw(["raw=a"]) == ["raw=a"]


def write_clips(raw: Path, x: np.ndarray) -> None:
    for path in raw.glob("*.npy"):
        np.save(path, x)


def tables_of_two_joints(raw: Path) -> None:
    for path in [*raw.glob("*.npy"), raw / "skeleton.json"]:
        path.unlink()
    for i in range(8):
        (raw / f"c{i}.csv").write_text("LKnee_x,LKnee_y,tip_x,tip_y\n1,2,3,4\n")


def without_skeleton(raw: Path) -> None:
    (raw / "skeleton.json").write_text('{"classes": ["a", "b"]}')
    write_clips(raw, np.ones((5, 23, 3)))


def of_as_many_joints(raw: Path) -> None:
    """Clips of NTU's joints but for the last: 24, as SMPL has."""
    (raw / "skeleton.json").write_text('{"classes": ["a", "b"]}')
    write_clips(raw, clip(0)[0][:, :24])


@pytest.mark.parametrize("spoil, words", [
    (lambda raw: np.save(raw / "c1.npy", np.ones((5, 17, 3))), ["joint counts", "17"]),
    (lambda raw: (raw / "labels.csv").unlink(), ["labels.csv"]),
    (lambda raw: [path.unlink() for path in raw.iterdir()], ["folder per class"]),
    (lambda raw: (raw / "skeleton.json").write_text('{"skeleton": "ntu52"}'), ["ntu52", "ntu25"]),
    (lambda raw: (raw / "skeleton.json").write_text('{"skeleton": {"joints": 5}}'), ["skeleton", "parents"]),
    (lambda raw: write_clips(raw, np.full((5, 25, 3), np.nan)), ["no clip could be read"]),
    (without_skeleton, ["23 joints", "nearest"]),
    (of_as_many_joints, ["24 joints", "bones do not fit", "skeleton=smpl24"]),
    (lambda raw: (raw / "skeleton.json").write_text(json.dumps({"skeleton": COCO.to_dict()})),
     ["skeleton.json", "17 joints", "25", "c0"]),
    (tables_of_two_joints, ["2 joints", "skeleton.json"]),
])
def test_what_cannot_be_adopted_is_one_line_and_writes_nothing(here, spoil, words):
    raw = labelled_folder(here / "raw", [clip(i) for i in range(8)], ["a", "b"])
    spoil(raw)
    with pytest.raises(ValueError) as e:
        call(adopt, f"raw={raw}")
    assert all(word in str(e.value) for word in words) and "\n" not in str(e.value), e.value
    assert recipes(here) == ["lite_nano", "lite_small"]


@pytest.mark.parametrize("words, field", [
    (["raw=raw", "name=lite_nano"], "name"), (["raw=raw", "name=a/b"], "name"), (["row=raw"], "row"),
    (["name=a"], "raw"), (["raw="], "raw"), (["raw=nowhere"], "raw"), (["raw=raw", "skeleton=ntu52"], "ntu25")])
def test_bad_words_are_named_and_an_existing_recipe_is_kept(here, words, field):
    labelled_folder(here / "raw", [clip(i) for i in range(8)], ["a", "b"])
    before = (here / "recipes" / "lite_nano.toml").read_text()
    with pytest.raises(ValueError, match=field):
        call(adopt, *words)
    assert recipes(here) == ["lite_nano", "lite_small"]
    assert (here / "recipes" / "lite_nano.toml").read_text() == before
