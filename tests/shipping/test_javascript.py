"""The page's JavaScript, in Node.js: it reads clips, and is sure of an answer, as predict is."""
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from phases.recordings.metres import PLACE, reference_joint, trunk_vector
from phases.shipping.exported import ExportedModel
from phases.shipping.web_page import clearest
from skeletons import SKELETONS, Skeleton, retarget_tables, retargeted
from tests.helpers.browser import node
from tests.helpers.page_clips import READ, check_clips
from tests.helpers.recordings import SAMPLES, sample
from tests.helpers.shipped import Shipped, ship, stand_in


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


# ---------------------------------------------------------------------------------------------------------------------
# Clips, as the network reads them
# ---------------------------------------------------------------------------------------------------------------------

def test_the_page_reads_northwestern_ucla_as_predict_does(data_folder, tmp_path):
    model = stand_in(tmp_path / "net.onnx", ["data=nw_ucla"], SKELETONS["kinect20"])
    with tarfile.open(data_folder / "nw-ucla.tar.xz") as tar:
        members = [m for m in tar.getmembers() if m.name.endswith(".json")][::25]
        for member in members:
            (tmp_path / Path(member.name).name).write_bytes(tar.extractfile(member).read())
    clips = sorted(tmp_path.glob("*.json"))
    assert len(clips) > 50
    check_clips([(model, clip) for clip in clips])


def test_the_page_reads_utd_mhad_as_predict_does(data_folder, tmp_path):
    # a network that is trained on these recordings
    skeleton = Skeleton.from_dict(json.loads((data_folder / "utd-mhad.json").read_text())["skeleton"])
    with np.load(data_folder / "utd-mhad.npz") as z:
        clips = np.split(z["data"], z["offsets"][1:-1])[::15]
    recorded = {"unit": "m", "up": "y", "reference": list(reference_joint([clip[None] for clip in clips]))}
    model = stand_in(tmp_path / "net.onnx", ["data=utd_mhad"], skeleton, recorded)

    jobs = []
    for i, clip in enumerate(clips):
        np.save(tmp_path / f"{i}.npy", clip)
        jobs.append((model, tmp_path / f"{i}.npy"))
    check_clips(jobs)


def test_the_page_reads_ntu_as_predict_does(data_folder, tmp_path):
    models = [stand_in(tmp_path / f"{n}.onnx", ["data=ntu60", f"view.bodies={n}"], SKELETONS["ntu25"]) for n in (1, 2)]
    jobs = []
    for name in SAMPLES:
        path = tmp_path / f"{name}.skeleton"
        path.write_bytes(sample(data_folder, name))
        jobs += [(model, path) for model in models]
    check_clips(jobs)


def test_arrays_of_every_kind_are_read_as_predict_reads_them(tmp_path, capsys):
    rng = np.random.default_rng(0)
    mp = SKELETONS["mediapipe33"]
    ntu = stand_in(tmp_path / "ntu.onnx", ["view.heading=true", "view.bodies=2"], SKELETONS["ntu25"])
    flat = stand_in(tmp_path / "flat.onnx", ["view.extent=true"], SKELETONS["coco17"],
                   {"unit": "px", "up": "-y", "channels": "xys", "min_score": 0.3})
    unscored = stand_in(tmp_path / "unscored.onnx", ["view.extent=true"], SKELETONS["coco17"],
                       {"unit": "px", "up": "-y", "channels": "xys"})
    up = stand_in(tmp_path / "up.onnx", [], SKELETONS["ntu25"], {"unit": "mm", "up": "z"})

    # every type and order of numbers
    body = rng.normal(size=(9, 25, 3)) + [0, 0, 3]
    body[3, 5:9] = 0
    several = rng.normal(size=(4, 9, 25, 3)) * np.arange(1, 5)[:, None, None, None]  # the last two move most
    arrays = {"f8": (ntu, body), "f4": (ntu, body.astype("f4")), "big": (ntu, body.astype(">f4")),
              "fortran": (ntu, np.asfortranarray(body)), "whole": (ntu, (100 * body).astype("<i2")),
              "four": (ntu, several), "unseen": (ntu, np.stack([0 * body, body])),
              "scored": (flat, rng.random((7, 17, 3)) * [300, 400, 1]), "millimetres": (up, 1000 * body)}

    # bodies whose unit or axis is doubtful, and a camera's joints
    standing = np.zeros((5, 25, 3)) + rng.normal(0, 0.01, (5, 25, 3)) + [0, 0, 3]
    standing[:, [4, 8, 20, 2, 3], 1] += 0.5
    arrays |= {"standing": (ntu, standing), "centimetres": (ntu, 100 * standing)}
    arrays["lying"] = (ntu, standing[..., [2, 0, 1]])
    pose = np.zeros((5, 33, 3)) + rng.normal(0, 0.05, (5, 33, 3))
    pose[:, [11, 12], 1] -= 500
    pose[:, mp.joints.index("nose"), 1] -= 700
    arrays["mediapipe"] = (ntu, pose)

    # missing joints, in numbers that are none
    holes = body.copy()
    holes[2, 4] = np.nan
    holes[5, 7, 1] = np.nan
    arrays["holes"] = (ntu, holes)

    # who stands by is seen with noise, and listed first
    swinging = body[:1] + 0.4 * np.sin(np.arange(40) / 4)[:, None, None] * (np.arange(25) > 15)[:, None]
    trembling = body[:1] + [1, 0, 0] + rng.normal(0, 0.05, (40, 25, 3))
    arrays["crowd"] = (ntu, np.stack([trembling, trembling[::-1], swinging, trembling]))

    # joints of low scores, in any place; also where the network was not trained on scores
    seen = rng.random((7, 17, 1)) < 0.7
    some = rng.uniform(0.6, 1, (7, 17, 1))
    places = np.where(seen, [100, 100], rng.uniform(0, 600, (7, 17, 2))) + rng.uniform(0, 40, (7, 17, 2))
    arrays["low"] = (unscored, np.concatenate([places, np.where(seen, some, some / 30)], 2))
    arrays["low_4"] = (ntu, np.insert(body, 3, np.where(np.arange(25) > 20, 0.02, 0.9), axis=2))

    # as .npy, and two in JSON
    jobs = []
    for name, (model, x) in arrays.items():
        np.save(tmp_path / f"{name}.npy", x)
        jobs.append((model, tmp_path / f"{name}.npy"))
    ucla = tmp_path / "a01_s01_e00_v01.json"
    ucla.write_text(json.dumps({"skeletons": body[:, :20].tolist(), "label": 1}))
    listed = tmp_path / "list.json"
    lists = standing.tolist()
    lists[1][3] = None
    lists[2][4] = [None, None, None]
    listed.write_text(json.dumps(lists))
    *told, turned, plain = check_clips([*jobs, (ntu, ucla), (ntu, listed)])

    # the page says what predict says
    assert not plain and turned == "Joints of kinect20 are turned into the network's ntu25."
    said = dict(zip(arrays, told, strict=True))
    assert said["mediapipe"] == "Joints of mediapipe33 (mm, -y up) are turned into the network's ntu25."
    doubted = {Path(line.split(":")[0]).stem for line in capsys.readouterr().err.splitlines() if "recorded as" in line}
    assert {name for name, text in said.items() if "was trained on" in text} == doubted
    assert {"centimetres", "lying"} <= doubted and "standing" not in doubted
    assert "a trunk is 50" in said["centimetres"] and "bodies stand along z" in said["lying"]


def test_what_the_page_cannot_read_is_a_sentence(tmp_path):
    model = stand_in(tmp_path / "net.onnx", [], SKELETONS["ntu25"])
    np.save(tmp_path / "nineteen.npy", np.ones((5, 19, 3)))
    np.save(tmp_path / "nobody.npy", np.zeros((5, 25, 3)))
    np.save(tmp_path / "nan.npy", np.full((5, 25, 3), np.nan))
    np.save(tmp_path / "inf.npy", np.full((5, 25, 3), np.inf))
    np.save(tmp_path / "flat.npy", np.ones((5, 25)))
    np.save(tmp_path / "words.npy", np.array(["a"]))
    np.save(tmp_path / "whole.npy", np.ones((5, 25, 3)))
    cut = (tmp_path / "whole.npy").read_bytes()[:300]
    files = {"cut.npy": cut, "no.npy": b"hello", "empty.npy": b"", "bad.skeleton": b"1\n1\nnonsense\n",
             "x.json": b"{", "x.txt": b""}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    expected = {"nineteen.npy": "has 19 joints", "nobody.npy": "no body in any frame", "inf.npy": "not a finite number",
                "nan.npy": "no body in any frame",
                "flat.npy": "have the shape (5, 25)", "words.npy": "save it as float32", "cut.npy": "ends too early",
                "no.npy": "not a numpy file", "empty.npy": "it is empty", "bad.skeleton": "line 3: a body has 10",
                "x.json": "not JSON", "x.txt": "is no clip"}
    found = node(READ, [{"model": str(model), "clip": str(tmp_path / name)} for name in expected])
    for (name, message), got in zip(expected.items(), found, strict=True):
        assert name in got["error"] and message in got["error"] and got["error"].endswith("."), got


def test_the_pages_own_clip_is_no_other_skeletons(tmp_path, capsys):
    """A COCO network's page opened with an ntu25 clip that was read as openpose25."""
    path = stand_in(tmp_path / "m.onnx", [], SKELETONS["coco17"])
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(4, 25, 3)) + 3)
    said = node("""const { Network } = await import(root + "/network.js");
        const network = new Network("m", fs.readFileSync(jobs[0]));
        try { network.read("x.npy", new Uint8Array(fs.readFileSync(jobs[1])), "ntu25"); return ["read"]; }
        catch (e) { return [e.message]; }""", [str(path), str(tmp_path / "x.npy")])
    assert "shows the skeleton ntu25; this network knows coco17" in said[0]
    assert clearest(ExportedModel(path), tmp_path, []) is None and "without a clip" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# A camera's frames
# ---------------------------------------------------------------------------------------------------------------------

def test_the_page_is_sure_when_a_class_has_led_for_five_frames():
    rng = np.random.default_rng(1)

    # runs of a leader, sometimes unsure
    answers = []
    for lead in rng.integers(0, 3, 40):
        for _ in range(rng.integers(1, 9)):
            p = np.full(3, 0.05 if rng.random() < 0.9 else 0.2)
            p[lead] = 1 - p.sum() + p[lead]
            answers.append(p.tolist())

    # a class is said when it has led for long enough, and was not the last that was
    want = []
    for i in range(4, len(answers)):
        leads = {int(np.argmax(p)) if max(p) >= 0.8 else -1 for p in answers[i - 4:i + 1]}
        if len(leads) == 1 and leads != {-1} and (not want or {want[-1][1]} != leads):
            want.append((i, *leads))
    got = node("""const { Watcher } = await import(root + "/network.js"), watcher = new Watcher();
        return jobs.map((p, i) => [i, watcher.see(p)]).filter(([, said]) => said !== null);""", answers)
    assert [tuple(pair) for pair in got] == want and len(want) > 5


def test_the_window_keeps_a_slow_cameras_newest_frames(tmp_path):
    run = """const { Window } = await import(root + "/network.js");
        return jobs.map(({ frames, times }) => {
          const kept = new Window(1, 1, frames);
          for (const t of times) kept.push(t, Float32Array.of(t, 1, 1));
          return Array.from(kept.clip().x).filter((_, i) => i % 3 === 0);
        });"""
    full, slow, stalled = node(run, [
        {"frames": 20, "times": [t / 30 for t in range(50)]}, {"frames": 20, "times": [t / 10 for t in range(30)]},
        {"frames": 20, "times": [0, 0.1, 0.2, 5, 5.1]}])
    np.testing.assert_allclose(full, np.arange(30, 50) / 30, atol=1e-6)
    np.testing.assert_allclose(slow, 2.9 - np.arange(19, -1, -1) / 30, atol=1e-6)
    np.testing.assert_allclose(stalled, 5 + np.arange(4) / 30, atol=1e-6)


def test_a_cameras_pose_has_the_place_and_axes_of_a_kinect():
    """A body in a Kinect's coordinates, as MediaPipe would give it: world landmarks about the hips, and a picture."""
    rng = np.random.default_rng(0)
    body = rng.normal(0, 0.4, (33, 3)) + [0.3, 0.1, 3.0]
    hips = body[23:25].mean(0)
    world = (body - hips) * [-1, -1, 1]
    scale, aspect = 2.4, 0.75  # metres that the picture's width spans
    image = np.stack([0.5 - body[:, 0] / scale, 0.5 - body[:, 1] / scale / aspect], 1)
    points = [[dict(zip("xyz", map(float, p), strict=False)) for p in side] for side in (world, image)]
    found, width = node("""const { joints, metresPerWidth } = await import(root + "/pose.js");
        const [world, image] = jobs, width = metresPerWidth(world, image, 0.75);
        return [Array.from(joints(world, image, 0.75, width)), width];""", points)
    assert width == pytest.approx(scale)
    np.testing.assert_allclose(np.reshape(found, (33, 3)), body - [0, 0, hips[2] - 3], atol=1e-5)


def test_a_cameras_pose_reaches_a_network_as_training_clips_did(tmp_path):
    rng, ntu, coco = np.random.default_rng(0), SKELETONS["ntu25"], SKELETONS["coco17"]
    body = (rng.normal(0, 0.4, (1, 6, 33, 3)) + [0.3, 0.1, 3.0]).astype(np.float32)
    models = [stand_in(tmp_path / "metres.onnx", [], ntu), stand_in(tmp_path / "centred.onnx", [], ntu,
              {"unit": "m", "up": "y", "reference": [1]}), stand_in(tmp_path / "flat.onnx", [], coco, {"unit": "px"}),
              stand_in(tmp_path / "down.onnx", [], coco, {"unit": "px", "up": "-y"})]
    x = [{"model": str(model), "x": body.ravel().tolist()} for model in models]
    found = node("""const { Network } = await import(root + "/network.js");
        return jobs.map(({ model, x }) => Array.from(new Network("network", fs.readFileSync(model)).fromCamera(
          { x: Float32Array.from(x), M: 1, L: 6, V: 33 }).x));""", x)
    metres, centred = (np.reshape(clip, (1, 6, 25, 3)) for clip in found[:2])
    want = retargeted(body, retarget_tables(ntu)["mediapipe33"]["means"])
    np.testing.assert_allclose(metres, want, atol=1e-6)
    np.testing.assert_allclose(centred, want - want[:, :, 1:2] + PLACE, atol=1e-6)
    flat = np.reshape(found[2], (1, 6, 17, 3))
    picture = retargeted(body, retarget_tables(coco)["mediapipe33"]["means"]) * [-1, 1, 0]  # x to its right
    scale = 0.5 / np.linalg.norm(trunk_vector(picture[0], [joints[0] for joints in coco.trunk]))
    assert not flat[..., 2].any()
    np.testing.assert_allclose(flat, picture * scale, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.reshape(found[3], flat.shape), flat * [-1, 1, 1], atol=1e-6)  # turned with y
