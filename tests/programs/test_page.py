"""`just page`: the folder it writes, its server, the JavaScript against predict, and the page in a real browser."""
import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from phases import page
from phases.p4_export import description
from phases.recordings.metres import PLACE, reference_joint, trunk_vector
from phases.shipping import live
from phases.shipping.exported import ExportedModel
from phases.shipping.onnx_files import save_onnx
from phases.shipping.view_numpy import clip_view
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS, Skeleton, retarget_tables, retargeted
from tests.helpers import browser
from tests.helpers.clip_stores import ROOT
from tests.helpers.recordings import SAMPLES, sample
from tests.helpers.shipped import ship

WANTED = os.environ.get("CI_BROWSER") == "1"  # then nothing that is missing is skipped


def need(missing: str) -> None:
    if missing:
        (pytest.fail if WANTED else pytest.skip)(missing)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    return ship(tmp_path_factory.getbasetemp())


# ---------------------------------------------------------------------------------------------------------------------
# The folder and its server
# ---------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """The page's source with packages of empty files in node_modules; returns node_modules."""
    source = tmp_path / "source"
    shutil.copytree(page.SOURCE, source, ignore=shutil.ignore_patterns("node_modules"))
    monkeypatch.setattr(page, "SOURCE", source)
    for name, version in json.loads((source / "package.json").read_text())["dependencies"].items():
        inside, files, _ = page.NEEDED[name]
        for file in files:
            path = source / "node_modules" / name / inside / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        about = {"name": name, "version": version, "license": "MIT"}
        (source / "node_modules" / name / "package.json").write_text(json.dumps(about))
    return source / "node_modules"


def test_the_page_is_one_folder_with_networks_clips_and_all_that_they_need(shipped, packages, tmp_path, capsys):
    model, out = shipped.export / "model.onnx", tmp_path / "page"
    page.main([f"model={model},{model},{shipped.export / 'model.int8.onnx'}", f"out={out}"])
    listed = json.loads((out / "page.json").read_text())
    assert listed["networks"] == ["lite_nano-tiny-fp32.onnx", "lite_nano-tiny-fp32_2.onnx", "lite_nano-tiny-int8.onnx"]
    assert (out / "networks" / listed["networks"][0]).read_bytes() == model.read_bytes()
    network = ExportedModel(model)
    surest = [network.top(network.read(out / "clips" / clip["file"]), 1)[0][1] for clip in listed["clips"]]
    assert listed["start"] == int(np.argmax(surest)), "it begins with the clip whose answer is surest"
    assert len(listed["clips"]) == 12 and all((out / "clips" / clip["file"]).is_file() for clip in listed["clips"])
    text = "".join(path.read_text() for path in out.glob("*.*") if path.suffix in (".html", ".js", ".css"))
    for reference in re.findall(r"(?:src|href)=\"([^\"#]+)\"|from \"\./([^\"]+)\"", text):
        assert (out / "".join(reference)).is_file(), reference
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text), "nothing of the page lies elsewhere"
    assert "onnxruntime-web" in (out / "licences.html").read_text()
    assert f"{out}: 3 networks, 12 clips" in capsys.readouterr().out


def test_a_page_that_cannot_be_written_leaves_the_old_one(shipped, packages, tmp_path, monkeypatch):
    out, model = tmp_path / "page", shipped.export / "model.onnx"
    page.main([f"model={model}", f"out={out}"])
    before = sorted(out.rglob("*"))
    (tmp_path / "none.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="none.onnx: is no ONNX file"):
        page.main([f"model={model},{tmp_path / 'none.onnx'}", f"out={out}"])
    assert sorted(out.rglob("*")) == before and {p.name for p in tmp_path.iterdir()} == {"none.onnx", "page", "source"}


def test_without_node_one_line_says_what_to_install(shipped, packages, tmp_path, monkeypatch):
    shutil.rmtree(packages)
    monkeypatch.setattr(page.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="needs Node.js.*install"):
        page.main([f"model={shipped.export / 'model.onnx'}", f"out={tmp_path / 'page'}"])
    assert not (tmp_path / "page").exists()


def test_the_lock_names_versions_and_no_address():
    lock = (page.SOURCE / "package-lock.json").read_text()
    assert "resolved" not in lock and "http" not in lock
    for name, version in json.loads((page.SOURCE / "package.json").read_text())["dependencies"].items():
        assert json.loads(lock)["packages"][f"node_modules/{name}"]["version"] == version


@pytest.mark.parametrize("argv,message", [
    ([], "no model"), (["modle=x"], "did you mean 'model'"), (["model=x", "serve=web"], "must be a port"),
    (["model=x", f"out={ROOT}"], "holds other files"), (["model=x", f"out={ROOT / 'LICENSE'}"], "is no folder"),
    (["serve=8000", "out=nowhere"], "no model")])
def test_bad_arguments_of_page_are_named(argv, message):
    with pytest.raises(ValueError, match=message):
        page.main(argv)


@contextmanager
def served(folder: Path):
    """(host, port) of the page's server in a thread."""
    with page.server(folder, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address
        server.shutdown()


def test_the_server_gives_its_folder_alone_with_types_and_survives_nonsense(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "sub").mkdir()
    for name in ("a.wasm", "a.mjs", "a.js", "index.html", "page.json"):
        (folder / name).write_text(name)
    with served(folder) as (host, port):
        assert host == "127.0.0.1"

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
                    return answer.status, answer.headers["Content-Type"]
            except urllib.error.HTTPError as e:
                return e.code, ""

        for nonsense in (b"\x00\xff\x16\x03" * 50 + b"\r\n\r\n", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
                         b"GET / HTTP/9.9\r\n\r\n", b"GET /%00 HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"GET"):
            with socket.create_connection((host, port), timeout=5) as line:
                line.sendall(nonsense)
        assert [get(f"/a.{kind}") for kind in ("wasm", "mjs", "js")] == [
            (200, "application/wasm"), (200, "text/javascript"), (200, "text/javascript")]
        assert get("/")[0] == 200
        for outside in ("/../secret.txt", "/%2e%2e/secret.txt", "/link.txt", "/sub/", "//etc/passwd", "/none"):
            assert get(outside)[0] == 404, outside


def test_ctrl_c_ends_the_server_with_130(tmp_path):
    (tmp_path / "page.json").write_text("{}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "phases.page", f"out={tmp_path}", f"serve={port}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}) as run:
        assert str(port) in run.stdout.readline()
        run.send_signal(signal.SIGINT)
        assert run.wait(10) == 130


def test_a_port_in_use_is_one_line(tmp_path):
    with served(tmp_path) as (_, port), pytest.raises(ValueError, match="cannot be used"):
        page.server(tmp_path, port)


# ---------------------------------------------------------------------------------------------------------------------
# The JavaScript, in Node.js
# ---------------------------------------------------------------------------------------------------------------------

VIEWS = """
const { Network } = await import(root + "/network.js"), { clipView } = await import(root + "/view.js");
return jobs.map(({ model, clip }) => {
  const network = new Network("network", fs.readFileSync(model));
  try {
    const { clip: found, said } = network.read(clip.split("/").at(-1), new Uint8Array(fs.readFileSync(clip)));
    const view = clipView(found, network.view, network.skeleton);
    return { view: Buffer.from(view.buffer).toString("base64"), said };
  } catch (e) {
    return { error: e.message };
  }
});
"""


def node(body: str, jobs: object) -> list:
    """What the body of a JavaScript function makes of `jobs`; `root` is the folder of the page's modules."""
    need("" if shutil.which("node") else "no node: install Node.js")
    program = f"""import fs from "node:fs";
        const root = {json.dumps(str(ROOT / "phases" / "shipping" / "page"))};
        const jobs = JSON.parse(fs.readFileSync(0, "utf8"));
        console.log(JSON.stringify(await (async () => {{ {body} }})()));"""
    done = subprocess.run(["node", "--input-type=module", "-e", program], input=json.dumps(jobs), text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def network(path: Path, recipe: list[str], skeleton: Skeleton, recorded: dict | None = None) -> Path:
    """An ONNX file with the metadata of a network, and in its place a mean of the joints: two classes, x and y."""
    cfg = load_config(["recipe=lite_nano", *recipe])
    about = description(cfg, skeleton, ["a", "b"], build_model(cfg, skeleton, 2), False)
    about |= {"recorded": recorded or {}, "retarget": retarget_tables(skeleton)}
    x = helper.make_tensor_value_info(
        "joints", TensorProto.FLOAT, ["n", cfg.view.bodies, cfg.view.frames, skeleton.num_joints, 3])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
    first = helper.make_tensor("first", TensorProto.INT64, [2], [0, 1])
    nodes = [helper.make_node("ReduceMean", ["joints", "axes"], ["mean"], keepdims=0),
             helper.make_node("Gather", ["mean", "first"], ["logits"], axis=1)]
    graph = helper.make_graph(nodes, "mean", [x], [y], [axes, first])
    save_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path, about)
    return path


def check_views(jobs: list[tuple[Path, Path]]) -> list[str]:
    """The view in JavaScript is predict's, for pairs (network, clip); what the page says to each."""
    found = node(VIEWS, [{"model": str(model), "clip": str(clip)} for model, clip in jobs])
    models = {model: ExportedModel(model) for model, _ in jobs}
    for (path, clip), got in zip(jobs, found, strict=True):
        assert "error" not in got, got
        model = models[path]
        want = clip_view(model.read(clip), model.view, model.skeleton)
        ours = np.frombuffer(base64.b64decode(got["view"]), np.float32).reshape(want.shape)
        assert np.abs(want).max() > 0.1
        np.testing.assert_allclose(ours, want, atol=1e-4, err_msg=clip.name)
    return [got["said"] for got in found]


def test_the_view_in_javascript_is_predicts_on_northwestern_ucla(data_folder, tmp_path):
    model = network(tmp_path / "net.onnx", ["data=nw_ucla"], SKELETONS["kinect20"])
    smooth = network(tmp_path / "smooth.onnx", ["data=nw_ucla", "view.smooth=1.0", "view.sampling=crop"],
                     SKELETONS["kinect20"])
    with tarfile.open(data_folder / "nw-ucla.tar.xz") as tar:
        members = [m for m in tar.getmembers() if m.name.endswith(".json")][::25]
        for member in members:
            (tmp_path / Path(member.name).name).write_bytes(tar.extractfile(member).read())
    clips = sorted(tmp_path.glob("*.json"))
    assert len(clips) > 50
    check_views([(model, clip) for clip in clips] + [(smooth, clip) for clip in clips[::10]])


def test_the_view_in_javascript_is_predicts_on_utd_mhad(data_folder, tmp_path):
    skeleton = Skeleton.from_dict(json.loads((data_folder / "utd-mhad.json").read_text())["skeleton"])
    with np.load(data_folder / "utd-mhad.npz") as z:
        clips = np.split(z["data"], z["offsets"][1:-1])[::15]
    recorded = {"unit": "m", "up": "y", "reference": list(reference_joint([clip[None] for clip in clips]))}
    model, jobs = network(tmp_path / "net.onnx", ["data=utd_mhad"], skeleton, recorded), []
    for i, clip in enumerate(clips):
        np.save(tmp_path / f"{i}.npy", clip)
        jobs.append((model, tmp_path / f"{i}.npy"))
    check_views(jobs)


def test_the_view_in_javascript_is_predicts_on_ntu(data_folder, tmp_path):
    models = [network(tmp_path / f"{n}.onnx", ["data=ntu60", f"view.bodies={n}"], SKELETONS["ntu25"]) for n in (1, 2)]
    jobs = []
    for name in SAMPLES:
        path = tmp_path / f"{name}.skeleton"
        path.write_bytes(sample(data_folder, name))
        jobs += [(model, path) for model in models]
    check_views(jobs)


def test_arrays_of_every_kind_and_other_skeletons_are_read_as_predict_reads_them(tmp_path, capsys):
    rng, mp = np.random.default_rng(0), SKELETONS["mediapipe33"]
    ntu = network(tmp_path / "ntu.onnx", ["view.heading=true", "view.bodies=2"], SKELETONS["ntu25"])
    flat = network(tmp_path / "flat.onnx", ["view.extent=true"], SKELETONS["coco17"],
                   {"unit": "px", "up": "-y", "channels": "xys", "min_score": 0.3})
    up = network(tmp_path / "up.onnx", [], SKELETONS["ntu25"], {"unit": "mm", "up": "z"})
    body = rng.normal(size=(9, 25, 3)) + [0, 0, 3]
    body[3, 5:9] = 0
    several = rng.normal(size=(4, 9, 25, 3)) * np.arange(1, 5)[:, None, None, None]  # the last two move most
    arrays = {"f8": (ntu, body), "f4": (ntu, body.astype("f4")), "big": (ntu, body.astype(">f4")),
              "fortran": (ntu, np.asfortranarray(body)), "whole": (ntu, (100 * body).astype("<i2")),
              "four": (ntu, several), "unseen": (ntu, np.stack([0 * body, body])),
              "scored": (flat, rng.random((7, 17, 3)) * [300, 400, 1]), "millimetres": (up, 1000 * body)}
    standing = np.zeros((5, 25, 3)) + rng.normal(0, 0.01, (5, 25, 3)) + [0, 0, 3]
    standing[:, [4, 8, 20, 2, 3], 1] += 0.5
    arrays |= {"standing": (ntu, standing), "centimetres": (ntu, 100 * standing)}
    arrays["lying"] = (ntu, standing[..., [2, 0, 1]])
    pose = np.zeros((5, 33, 3)) + rng.normal(0, 0.05, (5, 33, 3))
    pose[:, [11, 12], 1] -= 500
    pose[:, mp.joints.index("nose"), 1] -= 700
    arrays["mediapipe"] = (ntu, pose)
    jobs = []
    for name, (model, x) in arrays.items():
        np.save(tmp_path / f"{name}.npy", x)
        jobs.append((model, tmp_path / f"{name}.npy"))
    ucla = tmp_path / "a01_s01_e00_v01.json"
    ucla.write_text(json.dumps({"skeletons": body[:, :20].tolist(), "label": 1}))
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps(standing.tolist()))
    *told, turned, plain = check_views([*jobs, (ntu, ucla), (ntu, listed)])
    assert not plain and turned == "Joints of kinect20 are turned into the network's ntu25."
    said = dict(zip(arrays, told, strict=True))
    assert said["mediapipe"] == "Joints of mediapipe33 (mm, -y up) are turned into the network's ntu25."
    doubted = {Path(line.split(":")[0]).stem for line in capsys.readouterr().err.splitlines() if "recorded as" in line}
    assert {name for name, text in said.items() if "was trained on" in text} == doubted
    assert {"centimetres", "lying"} <= doubted and "standing" not in doubted
    assert "a trunk is 50" in said["centimetres"] and "bodies stand along z" in said["lying"]


def test_what_the_page_cannot_read_is_a_sentence(tmp_path):
    model = network(tmp_path / "net.onnx", [], SKELETONS["ntu25"])
    np.save(tmp_path / "nineteen.npy", np.ones((5, 19, 3)))
    np.save(tmp_path / "nobody.npy", np.zeros((5, 25, 3)))
    np.save(tmp_path / "nan.npy", np.full((5, 25, 3), np.nan))
    np.save(tmp_path / "flat.npy", np.ones((5, 25)))
    np.save(tmp_path / "words.npy", np.array(["a"]))
    np.save(tmp_path / "whole.npy", np.ones((5, 25, 3)))
    cut = (tmp_path / "whole.npy").read_bytes()[:300]
    files = {"cut.npy": cut, "no.npy": b"hello", "empty.npy": b"", "bad.skeleton": b"1\n1\nnonsense\n",
             "x.json": b"{", "x.txt": b""}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    expected = {"nineteen.npy": "has 19 joints", "nobody.npy": "no body in any frame", "nan.npy": "not a finite number",
                "flat.npy": "have the shape (5, 25)", "words.npy": "save it as float32", "cut.npy": "ends too early",
                "no.npy": "not a numpy file", "empty.npy": "not a numpy file", "bad.skeleton": "line 3: a body has 10",
                "x.json": "not JSON", "x.txt": "is no clip"}
    found = node(VIEWS, [{"model": str(model), "clip": str(tmp_path / name)} for name in expected])
    for (name, message), got in zip(expected.items(), found, strict=True):
        assert name in got["error"] and message in got["error"] and got["error"].endswith("."), got


def test_the_page_is_sure_when_predict_is(shipped, capsys):
    rng, model = np.random.default_rng(1), ExportedModel(shipped.export / "model.onnx")
    answers = []
    for lead in rng.integers(0, 3, 40):  # runs of a leader, sometimes unsure
        for _ in range(rng.integers(1, 9)):
            p = np.full(3, 0.05 if rng.random() < 0.9 else 0.2)
            p[lead] = 1 - p.sum() + p[lead]
            answers.append(p.tolist())

    class Oracle:
        skeleton, classes, view, other = model.skeleton, model.classes, model.view, model.other
        retarget, recorded, asked = model.retarget, model.recorded, -1

        def in_metres(self, clip):
            return clip

        def __call__(self, clip):
            self.asked += 1
            return np.array(answers[self.asked])

    line = json.dumps(rng.normal(size=(25, 3)).tolist())
    live.stream(Oracle(), [line] * len(answers), 0.8, 5, 12)
    want = [(int(n) - 1, int(c)) for n, c in re.findall(r"frame (\d+): swing (\d)", capsys.readouterr().out)]
    got = node("""const { Watcher } = await import(root + "/network.js"), watcher = new Watcher();
        return jobs.map((p, i) => [i, watcher.see(p)]).filter(([, said]) => said !== null);""", answers)
    assert [tuple(pair) for pair in got] == want and len(want) > 5


def test_the_window_holds_the_newest_frames_and_fills_a_slow_camera_in(tmp_path):
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


def test_a_camera_s_pose_has_the_place_and_the_axes_of_a_kinect():
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


def test_a_camera_s_pose_comes_to_a_network_as_its_training_clips_did(tmp_path):
    rng, ntu, coco = np.random.default_rng(0), SKELETONS["ntu25"], SKELETONS["coco17"]
    body = (rng.normal(0, 0.4, (1, 6, 33, 3)) + [0.3, 0.1, 3.0]).astype(np.float32)
    models = [network(tmp_path / "metres.onnx", [], ntu), network(tmp_path / "centred.onnx", [], ntu,
              {"unit": "m", "up": "y", "reference": [1]}), network(tmp_path / "flat.onnx", [], coco, {"unit": "px"}),
              network(tmp_path / "down.onnx", [], coco, {"unit": "px", "up": "-y"})]
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


# ---------------------------------------------------------------------------------------------------------------------
# The page, in a browser
# ---------------------------------------------------------------------------------------------------------------------

ENDED = "['played', 'trouble'].includes(document.body.dataset.state)"
NOTE = "document.getElementById('note').textContent"
PHOTO = "mpl-data/sample_data/grace_hopper.jpg"  # of the United States Navy, in the public domain; in matplotlib


@pytest.fixture(scope="module")
def written(tmp_path_factory, shipped) -> Path:
    need(browser.installed())
    if not WANTED and not (page.SOURCE / "node_modules").is_dir():
        need("no packages in phases/page/node_modules: give `just page` once")
    out = tmp_path_factory.mktemp("page") / "page"
    page.main([f"model={shipped.export / 'model.onnx'},{shipped.export / 'model.int8.onnx'}", f"out={out}"])
    return out


@pytest.fixture(scope="module")
def photo() -> Path:
    return Path(pytest.importorskip("matplotlib").__file__).parent / PHOTO


@pytest.fixture(scope="module")
def film(photo, tmp_path_factory) -> Path:
    """The photograph as what a camera films: 640 x 480, uncompressed."""
    from PIL import Image
    path, picture = tmp_path_factory.mktemp("film") / "film.y4m", Image.new("RGB", (640, 480))
    picture.paste(Image.open(photo).resize((410, 480)), (115, 0))
    y, u, v = picture.convert("YCbCr").split()
    frame = b"FRAME\n" + y.tobytes() + u.resize((320, 240)).tobytes() + v.resize((320, 240)).tobytes()
    path.write_bytes(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n" + 10 * frame)
    return path


@pytest.fixture(scope="module")
def window(written, film, tmp_path_factory):
    """A browser with a camera that films the photograph, and the page's address in `address`."""
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
              f"--use-file-for-fake-video-capture={film}")
    with served(written) as (host, port), browser.Browser(tmp_path_factory.mktemp("profile"), *camera) as b:
        b.address = f"http://{host}:{port}/"
        yield b


@pytest.fixture
def opened(window):
    """The page, opened anew; it plays no clip by itself. At the end, no error may stand on the console."""
    window.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    window.log()
    window.open(window.address)
    window.wait("document.body.dataset.state === 'ready'")
    yield window
    assert [entry["message"] for entry in window.log() if entry["level"] == "SEVERE"] == []


def drop(b, name: str, data: bytes) -> None:
    """Let a file fall on the page."""
    b.js("""const bytes = Uint8Array.from(atob(arguments[1]), (c) => c.charCodeAt(0)), files = new DataTransfer();
        files.items.add(new File([bytes], arguments[0]));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
        """, name, base64.b64encode(data).decode())


def test_the_page_opens_without_an_error_and_asks_nobody_but_its_server(window):
    window.devtools("Emulation.setEmulatedMedia", features=[])
    window.log(), window.log("performance")
    window.open(window.address)
    window.wait("document.body.dataset.state === 'played'")  # it shows itself with a clip
    assert [entry["message"] for entry in window.log()] == []
    events = [json.loads(entry["message"])["message"] for entry in window.log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 10 and all(url.startswith((window.address, "blob:", "data:")) for url in asked)


def test_the_page_may_connect_to_nothing_else(window):
    """Its policy, not its good will: a request to another server is refused by the browser."""
    window.open(window.address)
    refused = window.js("""return new Promise((resolve) => {
        addEventListener("securitypolicyviolation", (e) => resolve(e.effectiveDirective));
        fetch("http://127.0.0.1:9/").catch(() => {});
    });""")
    assert refused == "connect-src"
    window.log()


def test_a_clip_of_every_action_gets_predicts_answer(opened, written, shipped):
    model = ExportedModel(shipped.export / "model.onnx")
    for i, clip in enumerate(json.loads((written / "page.json").read_text())["clips"]):
        opened.js("document.getElementById('clip').selectedIndex = arguments[0]; document.body.dataset.state = '';", i)
        opened.click("#play")
        opened.wait(ENDED)
        bars = opened.js("""return [...document.querySelectorAll("#bars li")].map(
            (bar) => [bar.children[0].textContent, Number(bar.dataset.p)]);""")
        want = model.top(model.read(written / "clips" / clip["file"]), 5)
        assert [label for label, _ in bars] == [label for label, _ in want]
        np.testing.assert_allclose([p for _, p in bars], [p for _, p in want], atol=1e-3)
        assert f": {want[0][0]}, {100 * want[0][1]:.0f} %" in opened.js(f"return {NOTE}")
    assert opened.js("return parseFloat(document.getElementById('network-ms').textContent)") > 0


def test_another_network_answers_as_predict_does_with_it(opened, written, shipped):
    model, clip = ExportedModel(shipped.export / "model.int8.onnx"), written / "clips" / "throw.npy"
    opened.click("#network-2")
    drop(opened, clip.name, clip.read_bytes())
    opened.wait(ENDED)
    p = opened.js("return Number(document.querySelector('#bars li').dataset.p)")
    assert p == pytest.approx(model.top(model.read(clip), 1)[0][1], abs=0.03)  # the kernels round otherwise


def test_a_photograph_of_a_person_shows_joints(opened, photo):
    opened.keys("#file", str(photo))
    opened.wait("document.body.dataset.state === 'photo'", 60)
    assert opened.js("return document.getElementById('skeleton').dataset.joints") == "33"
    assert "A body" in opened.js("return document.getElementById('skeleton').getAttribute('aria-label')")
    drawn = opened.js("""const canvas = document.getElementById("skeleton"), context = canvas.getContext("2d");
        const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, i) => i % 4 === 3 && value).length;""")
    assert drawn > 500, "joints are drawn over the picture"
    assert opened.js("return parseFloat(document.getElementById('pose-ms').textContent)") > 0


def test_the_camera_is_followed_and_can_be_stopped(opened):
    opened.click("#camera")
    opened.wait("document.getElementById('skeleton').dataset.joints === '33'", 60)
    opened.wait("parseFloat(document.getElementById('network-ms').textContent) > 0")
    assert opened.js("return document.getElementById('camera').getAttribute('aria-pressed')") == "true"
    opened.click("#camera")
    opened.wait("!document.getElementById('video').srcObject")
    assert opened.js(f"return {NOTE}") == "The camera is off."


def test_a_video_is_followed_to_its_end(opened):
    """The browser records its camera for a second; the recording is dropped on the page."""
    opened.js("""return (async () => {
        const stream = await navigator.mediaDevices.getUserMedia({ video: true });
        const recorder = new MediaRecorder(stream), parts = [];
        recorder.ondataavailable = (e) => parts.push(e.data);
        const ended = new Promise((resolve) => { recorder.onstop = resolve; });
        recorder.start();
        setTimeout(() => recorder.stop(), 1000);
        await ended;
        stream.getTracks().forEach((track) => track.stop());
        const files = new DataTransfer();
        files.items.add(new File(parts, "film.webm", { type: "video/webm" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
    })();""")
    opened.wait(ENDED, 60)
    assert opened.js(f"return {NOTE}") == "The video has ended."
    assert opened.js("return document.getElementById('skeleton').dataset.joints") == "33"


@pytest.mark.parametrize("name,sentence", [
    ("NotAllowedError", "not allowed to use the camera"), ("NotFoundError", "No camera was found"),
    ("NotReadableError", "in use by another program"), ("", "from https")])
def test_a_camera_that_cannot_be_had_is_a_sentence(opened, name, sentence):
    opened.js("""Object.defineProperty(navigator, "mediaDevices", { configurable: true, value: arguments[0] ?
        { getUserMedia: () => Promise.reject(new DOMException("no", arguments[0])) } : undefined });""", name)
    opened.click("#camera")
    opened.wait("document.body.dataset.state === 'trouble'")
    assert sentence in opened.js(f"return {NOTE}")
    opened.click("#play")
    opened.wait("document.body.dataset.state === 'played'")  # clips still play


@pytest.mark.parametrize("name,data,sentence", [
    ("broken.npy", b"\x93NUMPY\x01\x00", "broken.npy cannot be read"), ("x.skeleton", b"3\n1\n", "line 2"),
    ("x.json", b"{}", "x.json cannot be read: it needs lists of frames"),
    ("x.onnx", b"\xff" * 99, "x.onnx is not an ONNX file"), ("x.txt", b"hi", "x.txt is nothing that this page reads"),
    ("x.mp4", b"\x00" * 99, "x.mp4 cannot be played")], ids=["npy", "skeleton", "json", "onnx", "other", "video"])
def test_a_dropped_file_that_cannot_be_used_is_a_sentence(opened, name, data, sentence):
    drop(opened, name, data)
    opened.wait("document.body.dataset.state === 'trouble'")
    assert sentence in opened.js(f"return {NOTE}")
    assert "%" not in opened.js("return document.getElementById('bars').textContent"), "no answer to an earlier clip"
    opened.log()  # the browser itself notes that it cannot decode a video


def test_a_network_can_be_dropped_and_one_of_another_skeleton_has_no_camera(opened, tmp_path):
    own = Skeleton("arm", ("hip", "neck", "hand"), (0, 0, 1), {"torso": (0, 1), "arm": (2,)})
    drop(opened, "arm.onnx", network(tmp_path / "arm.onnx", [], own).read_bytes())
    opened.wait("document.querySelectorAll('#networks input').length === 3")
    assert "skeleton arm, which a camera's pose cannot be turned into" in opened.wait(f"{NOTE}")
    assert opened.js("return document.getElementById('camera').disabled")


def test_everything_has_a_name_and_the_keyboard_reaches_it(opened):
    nodes = opened.devtools("Accessibility.getFullAXTree")["nodes"]
    named = {}
    for n in nodes:
        if not n.get("ignored"):
            named.setdefault(n["role"]["value"], []).append(n.get("name", {}).get("value", ""))
    for role in ("button", "combobox", "radio", "radiogroup", "link", "image", "heading", "list"):
        assert named.get(role), role
        assert role == "list" or all(name.strip() for name in named[role]), (role, named[role])
    assert any(name.startswith("Open a file") for name in named["button"])
    reached = []
    for _ in range(12):
        for kind in ("keyDown", "keyUp"):
            opened.devtools("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(opened.js("const e = document.activeElement; return e.id || e.textContent;"))
    assert reached[:4] == ["camera", "clip", "play", "file"]
    assert {"network-1", "accuracy", "knows", "Licences"} <= set(reached)
    opened.js("document.getElementById('play').focus();")
    for kind in ("keyDown", "keyUp"):
        opened.devtools("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13,
                        text="\r" if kind == "keyDown" else "")
    opened.wait("document.body.dataset.state === 'playing'")
    opened.wait(ENDED)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_s_width_holds_the_page_in_both_schemes(opened, scheme):
    opened.devtools("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    opened.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        assert opened.js("return document.documentElement.scrollWidth") <= 360
        wide = opened.js("""return [...document.querySelectorAll("body *")].filter((e) => e.getClientRects().length &&
            e.getBoundingClientRect().right > 361).map((e) => e.id || e.tagName);""")
        assert wide == []
        ground = opened.js("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 380) == (scheme == "light")
    finally:
        opened.devtools("Emulation.clearDeviceMetricsOverride")
