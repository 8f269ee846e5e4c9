"""The page's JavaScript guesses whose joints a nameless clip has, as predict does: by the lengths of their bones."""
import base64
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from phases.recordings.described import guessed_skeleton
from phases.recordings.nw_ucla import parse_nw_ucla
from phases.shipping.exported import ExportedModel, model_file
from skeletons import SKELETONS, Skeleton, means, retarget_tables, retargeted
from tests.helpers.browser import node
from tests.helpers.page_clips import READ, check_clips
from tests.helpers.shipped import stand_in
from tests.recordings.test_survey import body, swung

GUESS = """
const { guessedSkeleton } = await import(root + "/skeleton_guess.js");
const { clipOf } = await import(root + "/joints.js");
return jobs.map(({ x, shape }) => {
  const clip = clipOf(...shape);
  clip.x.set(new Float32Array(new Uint8Array(Buffer.from(x, "base64")).buffer));
  try {
    return guessedSkeleton("clip", clip);
  } catch (e) {
    return e.message.includes("bones do not fit") ? "none" : e.message;
  }
});
"""


def of_python(x: np.ndarray) -> str:
    """What predict takes joints (L, V, 3) for."""
    try:
        return guessed_skeleton(Path("clip"), x[None]).name
    except ValueError as e:
        assert "bones do not fit" in str(e)
        return "none"


def both(clips: list[np.ndarray]) -> list[str]:
    """The guesses for clips (L, V, 3), which the page and predict agree on."""
    clips = [np.ascontiguousarray(x, np.float32) for x in clips]
    found = node(GUESS, [{"x": base64.b64encode(x.tobytes()).decode(), "shape": [1, *x.shape[:2]]} for x in clips])
    assert found == [of_python(x) for x in clips]
    return found


def turned(x: np.ndarray, source: Sequence[str], name: str) -> np.ndarray:
    """Recorded joints (L, V, 3) as those of another skeleton."""
    return retargeted(x[None], means(source, SKELETONS[name].joints))[0]


# ---------------------------------------------------------------------------------------------------------------------
# The guess
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["ntu25", "openpose25", "coco17", "h36m17"])
def test_noisy_bodies_in_space_and_in_a_picture(name):
    clips, right = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = swung(SKELETONS[name], rng)
        x += rng.normal(0, (0, 0.01, 0.02, 0.03, 0.05)[seed], x.shape)
        holes = np.where(rng.random(x.shape[:2])[..., None] < 0.2, 0, x)
        flat = x * [200, -200, 0] + [320, 240, 0]
        scored = flat + [0, 0, 1] * rng.uniform(0.3, 1, (*x.shape[:2], 1))
        clips += [x, 1000 * x, holes, flat, scored]
        right += [True, True, seed < 3, False, False]

    # a picture is no depth sensor's: there another skeleton of as many joints is taken
    found = both(clips)
    assert {guess for guess, is_right in zip(found, right, strict=True) if is_right} == {name}


@pytest.mark.parametrize("name", ["nite15", "jhmdb15", "smpl22", "shrec22"])
def test_skeletons_that_are_taken_only_where_their_bones_fit(name):
    rng = np.random.default_rng(0)
    clips = [body(name, rng) for _ in range(4)]
    assert set(both(clips)) == {name}
    shuffled = [x[:, rng.permutation(x.shape[1])] for x in clips]
    assert "none" in both([*shuffled, *(x * [1, 1, 0] for x in clips)])


def test_clips_that_show_hardly_anything():
    rng = np.random.default_rng(0)
    x = swung(SKELETONS["ntu25"], rng)
    one, half = np.zeros_like(x), np.zeros_like(x)
    one[:, 3] = x[:, 3]
    half[:, :13] = x[:, :13]
    both([one, half, x[:1], np.broadcast_to(x[:1], x.shape), rng.normal(size=x.shape)])


@pytest.mark.parametrize("recordings", ["gait", "irds", "jhmdb"])
def test_real_recordings(data_folder, recordings):
    with np.load(data_folder / f"{recordings}.npz") as z:
        clips = np.split(z["data"], z["offsets"][1:-1])[::40]
    clips = [np.pad(x, ((0, 0), (0, 0), (0, 3 - x.shape[2]))) for x in clips]
    right = "jhmdb15" if recordings == "jhmdb" else "ntu25"
    found = both(clips)
    assert found.count(right) > 0.9 * len(found) and len(found) > 4


def test_kinects_joints_in_two_orders(data_folder):
    """UTD-MHAD's and Northwestern-UCLA's: the head is drawn at the waist if one is taken for the other."""
    with np.load(data_folder / "utd-mhad.npz") as z:
        utd = np.split(z["data"], z["offsets"][1:-1])[::40]
    with tarfile.open(data_folder / "nw-ucla.tar.xz") as tar:
        members = [m for m in tar if m.name.endswith(".json")][::60]
        ucla = [parse_nw_ucla(tar.extractfile(m).read(), Path(m.name).stem).joints[0] for m in members]
    assert both(utd) == ["utd20"] * len(utd) and len(utd) > 20
    assert both(ucla) == ["kinect20"] * len(ucla) and len(ucla) > 20

    # a joint that is never seen makes the bones at it no shorter
    for clips, name in ((utd[:3], "utd20"), (ucla[:3], "kinect20")):
        without = [np.where((np.arange(20) == v)[:, None], 0, np.asarray(x)) for x in clips for v in range(20)]
        assert set(both(without)) == {name}

    # each in the order of the other
    names = SKELETONS["utd20"].joints, SKELETONS["kinect20"].joints
    assert set(both([turned(x, names[0], "kinect20") for x in utd])) == {"kinect20"}
    assert set(both([turned(x, names[1], "utd20") for x in ucla])) == {"utd20"}


def test_real_movements_of_17_joints(data_folder):
    # Kinect's joints of two data sets, as Human3.6M's
    described = json.loads((data_folder / "utd-mhad.json").read_text())
    with np.load(data_folder / "utd-mhad.npz") as z:
        recordings = [(x, described["skeleton"]["joints"]) for x in np.split(z["data"], z["offsets"][1:-1])[::60]]
    with tarfile.open(data_folder / "nw-ucla.tar.xz") as tar:
        for member in [m for m in tar if m.name.endswith(".json")][::100]:
            clip = parse_nw_ucla(tar.extractfile(member).read(), Path(member.name).stem)
            recordings.append((clip.joints[0], SKELETONS["kinect20"].joints))

    assert len(recordings) > 25
    found = both([turned(x, joints, "h36m17") for x, joints in recordings])
    assert found.count("h36m17") > 0.8 * len(found)


# ---------------------------------------------------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------------------------------------------------

def gait_clips(data_folder: Path) -> list[np.ndarray]:
    """Some clips of Kinect v2, without a word about their skeleton."""
    with np.load(data_folder / "gait.npz") as z:
        return np.split(z["data"], z["offsets"][1:-1])[::300]


def test_nameless_kinect_clips_are_read_as_predict_reads_them(data_folder, tmp_path, capsys):
    clips = gait_clips(data_folder)
    jobs = []
    for name in ("nite15", "h36m17", "kinect20"):
        model = stand_in(tmp_path / f"{name}.onnx", [], SKELETONS[name])
        assert [how["joints"] for how in ExportedModel(model).retarget.values()].count(25) == 2
        for i, clip in enumerate(clips):
            path = tmp_path / f"{i}.npy"
            np.save(path, clip)
            jobs.append((model, path))

    # both say what they took it for
    said = check_clips(jobs)
    of_predict = [line for line in capsys.readouterr().err.splitlines() if "joints of ntu25" in line]
    assert len(of_predict) == len(said) == 12
    for (model, _), words in zip(jobs, said, strict=True):
        assert words == (f"Joints of ntu25 (mm, z up) are turned into the network's {model.stem}. Read as the 25 "
                         "joints of ntu25, by the lengths of their bones; openpose25 has as many.")


def test_a_nameless_clip_of_utd_mhad_keeps_its_head(data_folder, tmp_path, capsys):
    """In networks that come along, whose files are from before utd20 was known."""
    with np.load(data_folder / "utd-mhad.npz") as z:
        clip = z["data"][:z["offsets"][1]].astype(np.float32)
    np.save(tmp_path / "x.npy", clip)
    path = model_file("any")
    own = ExportedModel(path)
    [said] = check_clips([(path, tmp_path / "x.npy")])
    assert said == ("Joints of utd20 (m, y up) are turned into the network's body16. Read as the 20 joints of utd20, "
                    "by the lengths of their bones; kinect20 has as many.")
    assert "joints of utd20 (m, y up) are turned" in capsys.readouterr().err
    head = own.skeleton["joints"].index("head")
    np.testing.assert_allclose(own.read(tmp_path / "x.npy")[0][:, head], clip[:, 0], atol=1e-5)

    # the tables are those of a file that is written today
    for name in ("any", "nw_ucla", "utd_mhad"):
        today = retarget_tables(Skeleton.from_dict(ExportedModel(model_file(name)).skeleton))
        [tables] = node("""const { Network } = await import(root + "/network.js");
            return jobs.map((path) => new Network("m", new Uint8Array(fs.readFileSync(path))).retarget);""",
                        [str(model_file(name))])
        assert tables == today and ExportedModel(model_file(name)).retarget == today


def test_pictures_scores_and_crowds_without_a_name(tmp_path):
    rng = np.random.default_rng(0)
    models = [stand_in(tmp_path / f"{name}.onnx", ["view.bodies=2"], SKELETONS[name]) for name in ("ntu25", "kinect20")]
    jobs = []
    for name in ("coco17", "h36m17"):
        x = swung(SKELETONS[name], rng) * [1, -1, 1]
        flat = (200 * x + 400)[..., :2]
        scored = np.concatenate([flat, rng.uniform(0.3, 1, (*flat.shape[:2], 1))], 2)
        crowd = np.stack([np.broadcast_to(x[:1] + 1, x.shape), x])
        for kind, clip in (("space", x), ("flat", flat), ("scored", scored), ("crowd", crowd)):
            path = tmp_path / f"{name}_{kind}.npy"
            np.save(path, clip)
            jobs += [(model, path) for model in models]
    said = check_clips(jobs)
    assert all("by the lengths of their bones; " in words for words in said)


def test_kinects_joints_are_not_taken_for_those_that_the_network_can_use(data_folder, tmp_path):
    model = stand_in(tmp_path / "coco17.onnx", [], SKELETONS["coco17"])
    np.save(tmp_path / "gait.npy", gait_clips(data_folder)[0])
    words = "gait.npy: its 25 joints move as those of ntu25, which cannot be turned into the network's coco17"
    with pytest.raises(ValueError, match=words):
        ExportedModel(model).read(tmp_path / "gait.npy")
    [found] = node(READ, [{"model": str(model), "clip": str(tmp_path / "gait.npy")}])
    assert found["error"] == f"{words}."


def test_a_guess_that_cannot_be_turned_is_a_sentence(tmp_path):
    rng = np.random.default_rng(0)
    model = stand_in(tmp_path / "ntu25.onnx", [], SKELETONS["ntu25"])
    np.save(tmp_path / "hand.npy", body("shrec22", rng))
    np.save(tmp_path / "mixed.npy", body("smpl22", rng)[:, rng.permutation(22)])
    found = node(READ, [{"model": str(model), "clip": str(tmp_path / name)} for name in ("hand.npy", "mixed.npy")])
    assert found[0]["error"] == ("hand.npy: its 22 joints move as those of shrec22, which cannot be turned into the "
                                 "network's ntu25.")
    assert found[1]["error"].startswith("mixed.npy: its 22 joints are as many as shrec22 and smpl22 has")
    for name in ("hand", "mixed"):
        with pytest.raises(ValueError, match="cannot be turned" if name == "hand" else "bones do not fit"):
            ExportedModel(model).read(tmp_path / f"{name}.npy")
