"""`just page`: the folder it writes, its command line, and the page in a real browser."""
import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from phases import page
from phases.shipping import node_packages, web_page
from phases.shipping.exported import ExportedModel
from skeletons import SKELETONS, Skeleton
from tests.helpers.browser import WANTED, Browser, installed, need, served
from tests.helpers.clip_stores import ROOT
from tests.helpers.programs import call, started
from tests.helpers.shipped import Shipped, ship, stand_in


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


# ---------------------------------------------------------------------------------------------------------------------
# The folder
# ---------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """The page's source with packages of empty files in node_modules; returns node_modules."""
    source = tmp_path / "source"
    shutil.copytree(web_page.SOURCE, source, ignore=shutil.ignore_patterns("node_modules"))
    monkeypatch.setattr(web_page, "SOURCE", source)

    for name, version in json.loads((source / "package.json").read_text())["dependencies"].items():
        needed = node_packages.NEEDED[name]
        folder = source / "node_modules" / name
        (folder / needed.inside).mkdir(parents=True)
        for file in needed.files:
            (folder / needed.inside / file).write_text(name)
        about = {"name": name, "version": version, "license": "MIT"}
        (folder / "package.json").write_text(json.dumps(about))
    return source / "node_modules"


def test_the_page_is_one_folder_with_all_that_it_needs(shipped, packages, tmp_path, capsys):
    model = shipped.export / "model.onnx"
    out = tmp_path / "page"
    call(page, f"model={model},{model},{shipped.export / 'model.int8.onnx'}", f"out={out}")
    assert f"{out}: 3 networks, 12 clips" in capsys.readouterr().out

    # networks
    listed = json.loads((out / "page.json").read_text())
    assert listed["networks"] == ["lite_nano-tiny-fp32.onnx", "lite_nano-tiny-fp32_2.onnx", "lite_nano-tiny-int8.onnx"]
    assert (out / "networks" / listed["networks"][0]).read_bytes() == model.read_bytes()

    # clips
    network = ExportedModel(model)
    answers = [network.answer(network.read(out / "clips" / clip["file"])) for clip in listed["clips"]]
    surest = [(network.is_known(answer), answer.probabilities.max()) for answer in answers]
    assert surest[listed["start"]] == max(surest), "it begins with the clip it knows whose answer is surest"
    assert len(listed["clips"]) == 12 and all((out / "clips" / clip["file"]).is_file() for clip in listed["clips"])

    # the page refers to its own files only
    text = "".join(path.read_text() for path in out.glob("*.*") if path.suffix in (".html", ".js", ".css"))
    for reference in re.findall(r"(?:src|href)=\"([^\"#]+)\"|from \"\./([^\"]+)\"", text):
        assert (out / "".join(reference)).is_file(), reference
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text), "nothing of the page is elsewhere"


def test_the_licences_name_every_part_with_its_version(packages):
    about = json.loads((packages / "onnxruntime-web" / "package.json").read_text())
    (packages / "onnxruntime-web" / "package.json").write_text(json.dumps(about | {"license": "<MIT & more>"}))
    text = web_page.licences({name: packages / name for name in node_packages.NEEDED})
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", text)
    versions = json.loads((packages.parent / "package.json").read_text())["dependencies"]
    assert rows == [("LAST", "", "MIT"), ("@mediapipe/pose", versions["@mediapipe/pose"], "MIT"),
                    ("onnxruntime-web", versions["onnxruntime-web"], "&lt;MIT &amp; more&gt;")]


def test_a_page_that_cannot_be_written_leaves_the_old_one(shipped, packages, tmp_path):
    out = tmp_path / "page"
    model = shipped.export / "model.onnx"
    call(page, f"model={model}", f"out={out}")
    before = sorted(out.rglob("*"))

    (tmp_path / "none.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="none.onnx: is no ONNX file"):
        call(page, f"model={model},{tmp_path / 'none.onnx'}", f"out={out}")
    assert sorted(out.rglob("*")) == before and {p.name for p in tmp_path.iterdir()} == {"none.onnx", "page", "source"}


def test_without_node_one_line_says_what_to_install(shipped, packages, tmp_path, monkeypatch):
    shutil.rmtree(packages)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="needs Node.js.*install"):
        call(page, f"model={shipped.export / 'model.onnx'}", f"out={tmp_path / 'page'}")
    assert not (tmp_path / "page").exists()


def test_the_lock_names_versions_and_no_address():
    lock = (web_page.SOURCE / "package-lock.json").read_text()
    assert "resolved" not in lock and "http" not in lock
    for name, version in json.loads((web_page.SOURCE / "package.json").read_text())["dependencies"].items():
        assert json.loads(lock)["packages"][f"node_modules/{name}"]["version"] == version


# ---------------------------------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("argv,field", [
    ([], "model"), (["modle=x"], "modle"), (["model=x", "serve=web"], "serve"), (["model=x", "serve=65536"], "serve"),
    (["model=x", f"out={ROOT}"], "out = .*other files"), (["model=x", f"out={ROOT / 'LICENSE'}"], "out = .*no folder"),
    (["serve=8000", "out=nowhere"], "model")])
def test_bad_arguments_of_page_are_named(argv, field):
    with pytest.raises(ValueError, match=field):
        call(page, *argv)


def test_the_exact_words_about_a_missing_network():
    with pytest.raises(ValueError, match=r"^no model: give model=FILE.onnx, as `just phase4` writes it, or a name in "
                                         r"results/networks, such as model=utd_mhad; several with commas between$"):
        call(page, "out=somewhere")


def test_ctrl_c_ends_the_server_with_130(tmp_path):
    (tmp_path / "page.json").write_text("{}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    argv = [sys.executable, "-m", "phases.page", f"out={tmp_path}", f"serve={port}"]
    with started(argv, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}) as run:
        assert str(port) in run.stdout.readline()
        run.send_signal(signal.SIGINT)
        assert run.wait(10) == 130


# ---------------------------------------------------------------------------------------------------------------------
# The page, in a browser
# ---------------------------------------------------------------------------------------------------------------------

ENDED = "['played', 'trouble'].includes(document.body.dataset.state)"
NOTE = "document.getElementById('note').textContent"
PHOTO = "mpl-data/sample_data/grace_hopper.jpg"  # of the United States Navy, in the public domain; in matplotlib


@pytest.fixture(scope="module")
def written(tmp_path_factory, shipped) -> Path:
    need(installed())
    if not WANTED and not (web_page.SOURCE / "node_modules").is_dir():
        need(f"no packages in {web_page.SOURCE / 'node_modules'}: give `just page` once")
    out = tmp_path_factory.mktemp("page") / "page"
    call(page, f"model={shipped.export / 'model.onnx'},{shipped.export / 'model.int8.onnx'}", f"out={out}")
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
    with served(written) as (host, port), Browser(tmp_path_factory.mktemp("profile"), *camera) as b:
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


def test_the_page_opens_and_asks_its_own_server_only(window):
    window.devtools("Emulation.setEmulatedMedia", features=[])
    window.log(), window.log("performance")
    window.open(window.address)
    assert re.match("Loading the network.* …", window.js("return document.getElementById('loading').textContent"))
    window.wait("document.body.dataset.state === 'played'")  # it shows itself with a clip
    assert window.js("return document.getElementById('loading').hidden")
    assert [entry["message"] for entry in window.log()] == []
    events = [json.loads(entry["message"])["message"] for entry in window.log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    # not the page's: a slow browser is still loading the empty tab that it began with
    asked = [e["request"]["url"] for e in sent if not e["documentURL"].startswith("chrome:")]
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
        opened.js("document.getElementById('clip').selectedIndex = 1 + arguments[0]; document.body.dataset.state = '';",
                  i)
        opened.click("#play")
        opened.wait(ENDED)
        bars = opened.js("""return [...document.querySelectorAll("#bars li")].map(
            (bar) => [bar.children[0].textContent, Number(bar.dataset.p)]);""")
        want = model.top(model.read(written / "clips" / clip["file"]), 5)
        assert [label for label, _ in bars] == [label for label, _ in want]
        np.testing.assert_allclose([p for _, p in bars], [p for _, p in want], atol=1e-3)
        is_known = model.is_known(model.answer(model.read(written / "clips" / clip["file"])))
        label, percent = want[0][0], f"{100 * want[0][1]:.0f} %"
        said = f": {label}, {percent}" if is_known else f": none of these ({label} {percent})"
        assert said in opened.js(f"return {NOTE}")
    assert opened.js("return parseFloat(document.getElementById('network-ms').textContent)") > 0


def test_a_clip_of_no_class_is_none_of_these_on_the_page(opened, tmp_path):
    """The stand-in's likeness is the largest coordinate of the mean joint."""
    path = stand_in(tmp_path / "m.onnx", [], SKELETONS["ntu25"], threshold=0.2)
    drop(opened, "picky.onnx", path.read_bytes())
    opened.wait("document.querySelectorAll('#networks input').length === 3")
    for x, verdict in ((0.1, "It looks like none of these; nearest"), (0.3, "It looks like")):
        np.save(tmp_path / "x.npy", np.full((5, 25, 3), x))
        opened.js("document.body.dataset.state = '';")
        drop(opened, "x.npy", (tmp_path / "x.npy").read_bytes())
        opened.wait(ENDED)
        assert opened.js("return document.getElementById('verdict').textContent") == verdict
        answer = opened.js("return document.getElementById('answer').textContent")
        assert opened.js("return document.getElementById('bars').matches('.unknown')") == (x < 0.2)
        assert (answer == "none of these") == ("none of these (a 50 %)" in opened.js(f"return {NOTE}")) == (x < 0.2)


def test_another_network_answers_as_predict_does_with_it(opened, written, shipped):
    model, clip = ExportedModel(shipped.export / "model.int8.onnx"), written / "clips" / "throw.npy"
    opened.click("#network-2")
    drop(opened, clip.name, clip.read_bytes())
    opened.wait(ENDED)
    p = opened.js("return Number(document.querySelector('#bars li').dataset.p)")
    assert p == pytest.approx(model.top(model.read(clip), 1)[0][1], abs=0.06)  # 8-bit kernels round otherwise


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
    ("x.onnx", b"\xff" * 99, "x.onnx is not an ONNX file"),
    ("old.onnx", b"\x72\x10\x0a\x06format\x12\x06LAST 1", "has the format LAST 1, this page reads LAST 2"),
    ("x.txt", b"hi", "This page cannot read x.txt."), ("empty.npy", b"", "empty.npy cannot be read: it is empty."),
    ("x.mp4", b"\x00" * 99, "x.mp4 cannot be played")],
    ids=["npy", "skeleton", "json", "onnx", "old", "other", "empty", "video"])
def test_a_dropped_file_that_cannot_be_used_is_a_sentence(opened, name, data, sentence):
    drop(opened, name, data)
    opened.wait("document.body.dataset.state === 'trouble'")
    assert sentence in opened.js(f"return {NOTE}")
    assert "%" not in opened.js("return document.getElementById('bars').textContent"), "no answer to an earlier clip"
    opened.log()  # the browser itself notes that it cannot decode a video


def test_a_dropped_network_of_another_skeleton_has_no_camera(opened, tmp_path):
    own = Skeleton("arm", ("hip", "neck", "hand"), (0, 0, 1), {"torso": (0, 1), "arm": (2,)})
    drop(opened, "arm.onnx", stand_in(tmp_path / "arm.onnx", [], own).read_bytes())
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
    reached = opened.tabbed(20)
    assert reached[:5] == ["Teach it your own actions", "camera", "clip", "play", "file"]
    assert {"network-1", "accuracy", "knows", "Licences"} <= set(reached)
    opened.js("document.getElementById('play').focus();")
    opened.press("Enter", 13, "\r")
    opened.wait("document.body.dataset.state === 'playing'")
    opened.wait(ENDED)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phones_width_holds_the_page_in_both_schemes(opened, scheme):
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
