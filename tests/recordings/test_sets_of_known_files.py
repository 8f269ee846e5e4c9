"""Sets of recordings in public formats: adopt sees what they are, and phase 0 stores them."""
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from phases import adopt, p0_preprocess
from phases.common.files import ROOT
from phases.recordings.archives import unpacked
from phases.recordings.sources import recorded_skeleton
from phases.recordings.survey import look
from phases.recordings.videos import check_videos
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.own_clips import class_folders
from tests.helpers.programs import call
from tests.helpers.recordings import clips, contents
from tests.recordings.test_known_files import FLAT, kinect, kinetics, text_of, yolo_line
from tests.recordings.test_metres import clip
from tests.recordings.test_motion_capture import AMC, ASF, BVH, PLACES

RNG = np.random.default_rng(0)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder whose recipes/ is its own."""
    (tmp_path / "recipes").mkdir()
    for module in ("phases.adopt", "phases.common.recipes"):
        monkeypatch.setattr(f"{module}.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes" / "lite_nano.toml").write_text((ROOT / "recipes" / "lite_nano.toml").read_text())
    return tmp_path


def walk(seed: int) -> np.ndarray:
    """(20, 25, 3): a body of ntu25 that sways."""
    return clip(seed)[0]


def stored(raw: Path | str):
    """The data settings that adopt writes, and the joints and table that phase 0 makes with them."""
    assert call(adopt, f"raw={raw}", "name=mine") == 0
    assert call(p0_preprocess, "recipe=mine") == 0
    _, table, meta = contents(Path("stores/mine"))
    return load_config(["recipe=mine"]).data, clips(Path("stores/mine")), table, meta


def in_classes(folder: Path, name: str, write) -> Path:
    """<class>/<name> for two classes and four clips each; write(path, i)."""
    for i in range(8):
        place = folder / ("wave", "point")[i % 2] / name.format(i)
        place.parent.mkdir(parents=True, exist_ok=True)
        write(place, i)
    return folder


def test_uav_humans_text_is_stored_with_its_people_and_classes(here):
    raw = here / "Skeleton"
    raw.mkdir()
    x = RNG.normal(size=(8, 12, 17, 3)).round(3) + 3
    for i in range(8):
        name = f"P{i % 4:03d}S00G10B10H50UC022000LC021000A{i // 4:03d}R0_0824171{i}.txt"
        (raw / name).write_text(text_of(x[i], 4, "7"))
    (raw / "readme.txt").write_text("1\nnot a clip\n")

    data, found, table, meta = stored(raw)
    assert (data.reader, data.skeleton, data.num_classes) == ("ntu", "coco17", 2)
    assert table["label"] == [0, 1] * 4 and sorted(set(table["subject"])) == [0, 1, 2, 3]
    np.testing.assert_allclose(found["P001S00G10B10H50UC022000LC021000A000R0_08241711"].shape, (1, 12, 17, 3))


def test_a_text_of_17_joints_in_class_folders_is_a_clip(here):
    x = RNG.normal(size=(8, 12, 17, 3)).round(3) + 3
    raw = in_classes(here / "mine", "{}.skeleton", lambda path, i: path.write_text(text_of(x[i])))
    _, found, _, _ = stored(raw)
    assert len(found) == 8 and found["wave-0"].shape == (1, 12, 17, 3)


def test_one_npz_per_clip_is_a_clip(here):
    def write(path, i):
        np.savez(path, joints=walk(i), fps=30)

    data, found, table, _ = stored(in_classes(here / "mine", "{}.npz", write))
    assert data.reader == "arrays" and table["label"] == [0, 0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(found["wave-0"], walk(0)[None], rtol=1e-6)


@pytest.mark.parametrize("change", [
    lambda x: x.reshape(len(x), -1), lambda x: np.moveaxis(x, 2, 0), lambda x: np.moveaxis(x, 2, 0)[..., None],
    lambda x: np.stack([np.moveaxis(x, 2, 0), np.moveaxis(x, 2, 0)], 3)], ids=["flat", "3LV", "3LV1", "3LV2"])
def test_arrays_in_other_orders_are_the_same_clips(here, change, capsys):
    raw = in_classes(here / "mine", "{}.npy", lambda path, i: np.save(path, change(walk(i))))
    _, found, _, _ = stored(raw)
    np.testing.assert_allclose(found["wave-0"][0], walk(0), rtol=1e-6)
    assert capsys.readouterr().err.count("are read as") <= 1


def test_the_skeletons_joints_decide_what_flat_rows_are(tmp_path):
    raw = class_folders(tmp_path / "mine", wave=[np.ones((4, 60))] * 2, point=[np.ones((4, 60))] * 2)
    assert look(raw).skeleton.name == "kinect20"
    own = SKELETONS["kinect20"].to_dict() | {"name": "own", "joints": [f"j{v}" for v in range(15)], "pairs": [],
                                              "parents": [0, *range(14)], "regions": {"all": list(range(15))}}
    (raw / "skeleton.json").write_text(json.dumps({"skeleton": own}))
    assert look(raw).clips[0].joints.shape == (1, 4, 15, 3)
    own |= {"joints": own["joints"][:14], "parents": own["parents"][:14], "regions": {"all": list(range(14))}}
    (raw / "skeleton.json").write_text(json.dumps({"skeleton": own}))
    with pytest.raises(ValueError, match="rows of 60 numbers: these are no 14 joints"):
        look(raw)


@pytest.mark.parametrize("sides, expected", [
    (("train", "test"), [0, 1]), (("Training", "val"), [0, 1]), (("train", "val", "test"), [0, -1, 1])])
def test_folders_of_sides_become_the_given_split(here, sides, expected):
    for n, side in enumerate(sides):
        class_folders(here / "mine" / side, wave=[walk(4 * n), walk(4 * n + 1)],
                      point=[walk(4 * n + 2), walk(4 * n + 3)])
    data, found, table, meta = stored(here / "mine")
    assert data.split == "given" and meta["classes"] == ["point", "wave"] and len(found) == 4 * len(sides)
    split = dict(zip(table["name"], table["split_given"], strict=True))
    assert [split[f"{side}-wave-0"] for side in sides] == expected


def test_a_pair_of_pickles_is_one_set_with_its_split(here):
    def annotations(first: int) -> list[dict]:
        return [{"frame_dir": f"v{first + i}", "label": i % 2, "keypoint": walk(first + i)[None]} for i in range(6)]

    raw = here / "mine"
    raw.mkdir()
    (raw / "gym_train.pkl").write_bytes(pickle.dumps(annotations(0)))
    (raw / "gym_val.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": annotations(6)}))
    data, found, table, _ = stored(raw)
    assert (data.reader, data.split, len(found)) == ("pyskl", "given", 12)
    assert dict(zip(table["name"], table["split_given"], strict=True)) == {f"v{i}": int(i > 5) for i in range(12)}

    # one clip in both
    (raw / "gym_val.pkl").write_bytes(pickle.dumps(annotations(5)))
    with pytest.raises(ValueError, match="v5 is in gym_train.pkl and in gym_val.pkl"):
        look(raw)


@pytest.mark.parametrize("name, write, skeleton, unit", [
    ("{}.json", lambda path, i: path.write_text(json.dumps(kinetics(FLAT + i / 50))), "openpose18", "px"),
    ("{}.json", lambda path, i: path.write_text(json.dumps(kinect(RNG.uniform(0, 900, (5, 7, 3))))), "azure7", "m"),
    ("{}.bvh", lambda path, i: path.write_text(BVH), "bvh4", "body"),
    ("{}.txt", lambda path, i: path.write_text("\n".join([" ".join(map(str, RNG.normal(size=66)))] * 4)), "shrec22",
     None),
], ids=["kinetics", "azure", "bvh", "hand"])
def test_what_a_format_fixes_is_used_and_not_guessed(here, name, write, skeleton, unit):
    raw = in_classes(here / "mine", name, write)
    found = look(raw)
    assert found.skeleton.name == skeleton and found.named
    data, joints, _, meta = stored(raw)
    assert meta["skeleton"]["name"] == skeleton and unit in (None, data.unit)
    assert recorded_skeleton(data, raw) == found.skeleton and len(joints) == 8


def test_amc_beside_its_asf_is_stored_in_metres(here):
    raw = in_classes(here / "mine", "07_{}.amc", lambda path, i: path.write_text(AMC))
    for name in ("wave", "point"):
        (raw / name / "07.asf").write_text(ASF)
    data, found, _, _ = stored(raw)
    assert (data.unit, data.up) == ("m", "y")
    np.testing.assert_allclose(found["wave-07_0"][0, 0, 0], [0, 10 * 0.0254 / 0.5, 0], rtol=1e-5)


def test_bvh_files_of_other_joints_are_told_apart(tmp_path):
    raw = in_classes(tmp_path / "mine", "{}.bvh", lambda path, i: path.write_text(BVH))
    (raw / "wave" / "4.bvh").write_text(BVH.replace("LeftForeArm", "Elbow"))
    found = look(raw)
    assert [skip.file for skip in found.skips] == ["wave/4.bvh"] and "has no joint" in found.skips[0].reason
    np.testing.assert_allclose(found.clips[0].joints[0], PLACES, atol=1e-4)


def test_folders_of_yolos_text_are_clips(here):
    def write(folder, i):
        folder.mkdir()
        for t, pose in enumerate(FLAT[:, :17]):
            (folder / f"v_{t}.txt").write_text(yolo_line(pose, 1) + "\n")

    data, found, _, meta = stored(in_classes(here / "mine", "{}", write))
    assert meta["skeleton"]["name"] == "coco17" and found["wave-0"].shape == (1, 5, 17, 3) and data.unit == "px"


# ---------------------------------------------------------------------------------------------------------------------
# Data sets that say what their clips are
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("table", [False, True])
def test_kinetics_files_bring_their_labels_and_sides(here, table):
    for n, side in enumerate(("kinetics_train", "kinetics_val")):
        folder = here / "mine" / side
        folder.mkdir(parents=True)
        lines = {}
        for i in range(4):
            said = {"label": ("wave", "abseiling")[i % 2], "label_index": (380, 2)[i % 2]}
            lines[f"v{n}{i}"] = said | {"has_skeleton": True}
            (folder / f"v{n}{i}.json").write_text(json.dumps(kinetics(FLAT + i / 50) | said))
        if table:
            (here / "mine" / f"{side}_label.json").write_text(json.dumps(lines))

    data, found, rows, meta = stored(here / "mine")
    assert meta["classes"] == ["abseiling", "wave"] and rows["label"] == [1, 0] * 4 and data.split == "given"
    assert rows["split_given"] == [0] * 4 + [1] * 4 and meta["skeleton"]["name"] == "openpose18"
    assert found["v11"].shape == (1, 5, 18, 3)

    # a file without a label
    (here / "mine" / "kinetics_val" / "v9.json").write_text('{"data": []}')
    (skip,) = look(here / "mine").skips
    assert skip.file == "kinetics_val/v9.json" and "label_index" in skip.reason


@pytest.mark.parametrize("shrec", [True, False])
def test_the_folders_of_hand_gestures_say_what_they_are(here, shrec):
    raw = here / "hands"
    lines = []
    for gesture in (1, 9):
        for subject in (1, 2, 3, 4):
            folder = raw / f"gesture_{gesture}" / "finger_1" / f"subject_{subject}" / "essai_1"
            folder.mkdir(parents=True)
            rows = RNG.normal(size=(9, 66)).round(3)
            name = "skeletons_world.txt" if shrec else "skeleton_world.txt"
            (folder / name).write_text("\n".join(" ".join(map(str, row)) for row in rows))
            lines.append(f"{gesture} 1 {subject} 1")
    if shrec:
        (raw / "train_gestures.txt").write_text("\n".join(f"{line} {line[0]} 1 9" for line in lines[:6]))
        (raw / "test_gestures.txt").write_text("\n".join(f"{line} {line[0]} 1 9" for line in lines[6:]))
    else:
        (raw / "informations_troncage_sequences.txt").write_text("\n".join(f"{line} 2 5" for line in lines))

    data, found, rows, meta = stored(raw)
    assert meta["classes"] == ["grab", "swipe up"] and rows["subject"] == [1, 2, 3, 4] * 2
    assert found["1_1_1_1"].shape == (1, 9 if shrec else 4, 22, 3) and meta["skeleton"]["name"] == "shrec22"
    assert data.split == ("given" if shrec else "xsub")
    if shrec:
        assert rows["split_given"] == [0] * 6 + [1] * 2


def test_sides_that_hold_clips_are_no_classes(tmp_path):
    raw = class_folders(tmp_path / "mine", train=[walk(0)] * 2, test=[walk(1)] * 2)
    with pytest.raises(ValueError, match="test and train are sides of a split"):
        look(raw)


# ---------------------------------------------------------------------------------------------------------------------
# Archives and videos
# ---------------------------------------------------------------------------------------------------------------------

def zipped(path: Path, folder: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for file in sorted(folder.rglob("*")):
            z.write(file, Path(top, file.relative_to(folder)))
        z.writestr("__MACOSX/._x", b"")
    return path


@pytest.mark.parametrize("top", ["", "gestures"])
def test_a_zip_of_class_folders_is_a_set(here, top):
    raw = in_classes(here / "mine", "{}.npy", lambda path, i: np.save(path, walk(i)))
    data, found, _, _ = stored(zipped(here / "mine.zip", raw, top))
    assert len(found) == 8 and data.reader == "arrays" and load_config(["recipe=mine"]).raw == str(here / "mine.zip")
    np.testing.assert_allclose(found["wave-0"][0], walk(0), rtol=1e-6)


def test_a_file_of_a_zip_is_called_as_in_it(here, capsys):
    """Messages had the path of the temporary folder."""
    raw = in_classes(here / "mine", "{}.npy", lambda path, i: np.save(path, walk(i)))
    (raw / "wave" / "bad.npy").write_bytes(b"text")
    archive = zipped(here / "mine.zip", raw)
    assert call(adopt, f"raw={archive}") == 3
    name = f"{archive}: wave/bad.npy: is not a numpy file"
    assert name in capsys.readouterr().err
    assert call(p0_preprocess, "recipe=mine") == 3
    skips = json.loads((here / "stores" / "mine" / "meta.json").read_text())["skipped"]
    assert [skip["file"] for skip in skips] == ["wave/bad.npy"] and skips[0]["reason"].startswith(name)

    # an error of all
    with zipfile.ZipFile(here / "text.zip", "w") as z:
        z.writestr("labels.csv", "name,label\na,b\n")
    with pytest.raises(ValueError, match=rf"^raw = {here / 'text.zip'}: labels.csv: give"):
        call(adopt, f"raw={here / 'text.zip'}")


@pytest.mark.parametrize("name, mode, reason", [
    ("../a.npy", 0, "leads out"), ("/a.npy", 0, "leads out"), ("wave\\..\\..\\a", 0, "leads out"),
    ("a.npy", 0o120777, "is a link")])
def test_an_archive_that_leads_elsewhere_is_refused(tmp_path, name, mode, reason):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        info = zipfile.ZipInfo(name)
        info.filename = name
        info.external_attr = mode << 16
        z.writestr(info, b"text")
        z.writestr("wave/0.npy", b"text")
    with pytest.raises(ValueError, match=reason):
        unpacked(tmp_path / "a.zip")
    assert not (tmp_path.parent / "a.npy").exists()


@pytest.mark.parametrize("data, reason", [
    (b"PK\x03\x04 no archive", "damaged"), (b"", "damaged"), ("bomb", "is not opened"), ("cut", "damaged")])
def test_a_damaged_archive_and_a_bomb_are_refused(tmp_path, data, reason):
    path = tmp_path / "a.zip"
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("wave/0.npy", b"\0" * (200 << 20) if data == "bomb" else RNG.bytes(9999))
    if data == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=reason):
        unpacked(path)


def test_a_folder_of_videos_names_an_estimator(tmp_path):
    (tmp_path / "wave").mkdir()
    (tmp_path / "wave" / "0.mp4").write_bytes(b"")
    for refused in (look, check_videos):
        with pytest.raises(ValueError, match="holds videos .0.mp4.*yolo pose track .*source=.*0.mp4"):
            refused(tmp_path)
