"""The page teaches, in a real browser: recorded joints stand in for people before a camera."""
import base64
import io
import json
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from phases import adopt, page, teach
from phases.shipping import web_page
from phases.shipping.exported import ExportedModel
from skeletons import SKELETONS
from tests.helpers.acting import STAND_IN, act, landmarks, utd_clips, utd_skeleton
from tests.helpers.browser import WANTED, Browser, installed, need, served
from tests.helpers.programs import call
from tests.programs.test_adopt import here  # noqa: F401, a fixture

NETWORK = "utd_mhad"
NOTE = "document.getElementById('note').textContent"
LESSON = "document.getElementById('lesson-note').textContent"
SAID = "document.getElementById('teach-note').textContent"  # about teaching
MINE = "document.getElementById('network-mine')?.checked"
ANSWER = "document.getElementById('answer').textContent"
GONE = "return document.querySelector('#lessons .gone span').textContent"  # what was just deleted
NONE = "none of these"
CLIPS = (0, 1, 3)  # recordings of one person that teach; another's are asked


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    """A browser on a page with two networks, a camera, and an estimator that finds recorded joints."""
    need(installed())
    if not WANTED and not (web_page.SOURCE / "node_modules").is_dir():
        need(f"no packages in {web_page.SOURCE / 'node_modules'}: give `just page` once")
    out = tmp_path_factory.mktemp("page") / "page"
    call(page, f"model={NETWORK},nw_ucla", f"out={out}")
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with served(out) as (host, port), Browser(tmp_path_factory.mktemp("profile"), *camera) as b:
        b.devtools("Page.addScriptToEvaluateOnNewDocument", source=STAND_IN)
        b.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
        b.address = f"http://{host}:{port}/"
        b.downloads = tmp_path_factory.mktemp("downloads")
        b.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(b.downloads))
        yield b


@pytest.fixture
def opened(window):
    """The page, with nothing kept from before. At the end, no error may stand on the console."""
    window.open(f"{window.address}licences.html")
    window.js("""return new Promise((resolve) => {
        indexedDB.deleteDatabase("last-page").onsuccess = resolve; }).then(() => true);""")
    window.log()
    reopen(window)
    yield window
    assert [entry["message"] for entry in window.log() if entry["level"] == "SEVERE"] == []


def reopen(b: Browser) -> None:
    b.open(b.address)
    b.wait("document.body.dataset.state === 'ready'", 120)


def record(b: Browser, action: str, frames: list) -> None:
    """Name an action and record it, until it is to be kept."""
    act(b, frames)
    b.js("document.getElementById('action').value = arguments[0];", action)
    b.click("#record")
    b.wait("!document.getElementById('replay').hidden")


def record_in_a_row(b: Browser, action: str, frames: list, kept: int) -> None:
    """Record an action several times, until the page has so many recordings."""
    act(b, frames)
    b.js("document.getElementById('action').value = arguments[0];", action)
    b.click("#record")
    b.wait(f"document.querySelectorAll('#lessons .thumb').length === {kept}", 90)
    b.wait("document.getElementById('record').textContent === 'Record'")


def drop(b: Browser, files: dict[str, bytes], target: str = "body") -> None:
    """Let files fall on the page."""
    listed = {name: base64.b64encode(data).decode() for name, data in files.items()}
    b.js("""const files = new DataTransfer();
        for (const [name, data] of Object.entries(arguments[0])) {
          files.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
        }
        document.querySelector(arguments[1]).dispatchEvent(
          new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));""", listed, target)


def add_clips(b: Browser, action: str, clips: list[np.ndarray], folder: Path) -> None:
    """Add clips of an action through the file dialogue."""
    paths = []
    for i, clip in enumerate(clips):
        paths.append(folder / f"{i}.npy")
        np.save(paths[-1], clip.astype(np.float32))
    b.js("document.getElementById('action').value = arguments[0];", action)
    b.js(f"{SAID} = '';")
    b.keys("#examples", "\n".join(map(str, paths)))
    b.wait(f"{SAID}.includes('added')")


def lessons(b: Browser) -> dict[str, int]:
    """{action: its examples} as the page lists them."""
    return dict(b.js("""return [...document.querySelectorAll("#lessons > li:not(.gone)")].map(
        (item) => [item.querySelector("strong").textContent, item.querySelectorAll(".thumb").length]);"""))


def bars(b: Browser) -> dict[str, float]:
    return dict(b.js("""return [...document.querySelectorAll("#bars li")].map(
        (bar) => [bar.children[0].textContent, Number(bar.dataset.p)]);"""))


def saved(b: Browser, button: str, name: str) -> Path:
    """The file that a button saves."""
    path = b.downloads / name
    path.unlink(missing_ok=True)
    b.click(button)
    end = time.monotonic() + 20
    while not path.is_file() or not path.stat().st_size:
        assert time.monotonic() < end, f"{name} is not saved: {b.js(f'return {NOTE}')}"
        time.sleep(0.05)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# By the camera
# ---------------------------------------------------------------------------------------------------------------------

def test_two_recorded_actions_are_known_at_once(opened, data_folder):
    skeleton = utd_skeleton(data_folder)
    clips = {action: utd_clips(data_folder, action) for action in ("wave", "squat")}

    # the first recording: a countdown, a replay, kept
    act(opened, landmarks(clips["wave"][0], skeleton))
    opened.keys("#action", "Hello")
    opened.click("#record")
    counted = opened.wait("document.querySelector('#count:not([hidden]) b')?.textContent")
    assert counted == "3" and opened.js("return document.querySelector('#count span').textContent") == "Hello"
    opened.wait("document.querySelector('#count.now:not([hidden])')")
    opened.wait("!document.getElementById('replay').hidden")
    assert "Hello, 2." in opened.js("return document.getElementById('replay-title').textContent")
    drawn = "const c = document.getElementById('figure'); return c.getContext('2d')" \
            ".getImageData(0, 0, c.width, c.height).data.some((value) => value);"
    opened.wait(f"(() => {{ {drawn} }})()")
    opened.click("#keep")
    assert opened.wait(LESSON) == "Now name a second action, or show it “nothing”: then it tells Hello from that."
    assert not opened.js(f"return {MINE}")

    # the second one: from now on both are known
    record(opened, "squat", landmarks(clips["squat"][0], skeleton))
    opened.click("#keep")
    opened.wait(MINE)
    assert lessons(opened) == {"Hello": 1, "squat": 1} and "it knows Hello, squat" in opened.js(f"return {LESSON}")
    for action, name in (("wave", "Hello"), ("squat", "squat")):
        act(opened, landmarks(clips[action][1], skeleton), loop=True)
        opened.wait(f"{ANSWER} === '{name}'")
        heard = opened.wait(f"document.querySelector('#heard .known')?.textContent.includes('{name}') && "
                            "document.getElementById('heard').firstChild.textContent")
        assert re.fullmatch(r"\d+\.\d to \d+\.\d s: .*%\)", heard)
    opened.click("#camera")


def test_who_stands_is_not_named(opened, data_folder):
    """The network that came along answers."""
    squat = landmarks(utd_clips(data_folder, "squat")[0], utd_skeleton(data_folder))
    act(opened, squat, loop=True)
    opened.click("#camera")
    opened.wait("document.querySelectorAll('#heard li').length > 0")
    act(opened, squat[:1])
    opened.wait(f"document.getElementById('verdict').textContent.includes('{NONE}')")
    before = opened.wait("document.getElementById('heard').textContent")
    time.sleep(3)
    assert opened.js("return document.getElementById('heard').textContent") == before
    assert opened.js("return document.getElementById('answer').matches(':empty, .over')")
    opened.click("#camera")


def test_a_recording_can_be_discarded_or_stopped(opened, data_folder):
    wave = landmarks(utd_clips(data_folder, "wave")[0], utd_skeleton(data_folder))
    record(opened, "wave", wave)
    opened.click("#discard")
    assert lessons(opened) == {} and opened.js("return document.getElementById('replay').hidden")

    # stopped in the countdown, by the button
    opened.click("#record")
    opened.wait("document.getElementById('record').textContent === 'Stop'")
    opened.wait("!document.getElementById('count').hidden")
    opened.click("#record")
    opened.wait("document.getElementById('record').textContent === 'Record'")
    assert opened.js("return document.getElementById('replay').hidden") and lessons(opened) == {}

    # nobody there
    act(opened, [])
    opened.click("#record")
    opened.wait(f"{SAID}.startsWith('No body was seen')")
    opened.click("#camera")


def test_a_name_comes_first_and_a_camera_error_is_a_line(opened):
    opened.click("#record")
    assert opened.wait(SAID) == "Write the action's name first, for example wave."
    assert opened.js("return document.activeElement.id") == "action"
    opened.js("""Object.defineProperty(navigator, "mediaDevices", { configurable: true, value:
        { getUserMedia: () => Promise.reject(new DOMException("no", "NotAllowedError")) } });""")
    opened.keys("#action", "wave\n")
    opened.wait(f"{SAID}.includes('not allowed to use the camera')")
    opened.wait("document.getElementById('record').textContent === 'Record'")


def test_one_action_and_nothing_are_enough(opened, data_folder):
    skeleton = utd_skeleton(data_folder)
    wave = [landmarks(clip, skeleton) for clip in utd_clips(data_folder, "wave")[:2]]
    act(opened, [wave[0][0]])
    opened.click("#idle")
    opened.wait("!document.getElementById('replay').hidden")
    opened.click("#keep")
    assert opened.wait(LESSON) == "Now name an action and show it."
    record(opened, "wave", wave[0])
    opened.click("#keep")
    opened.wait(MINE)
    assert lessons(opened) == {"nothing": 1, "wave": 1}

    # standing is none of these, waving is known
    act(opened, [wave[1][0]])
    opened.wait(f"document.getElementById('verdict').textContent.includes('{NONE}')")
    act(opened, wave[1], loop=True)
    opened.wait(f"{ANSWER} === 'wave'")
    opened.click("#camera")


# ---------------------------------------------------------------------------------------------------------------------
# Clips, kept and saved
# ---------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def taught(opened, data_folder, tmp_path):
    """The page after three clips of each of three actions."""
    for action in ("wave", "squat", "clap"):
        clips = utd_clips(data_folder, action)
        add_clips(opened, action, [clips[i] for i in CLIPS], tmp_path)
        assert opened.js(f"return {SAID}").startswith(f"3 examples of {action} added.")
    opened.wait(MINE)
    assert "Try it: use the camera, or open a clip that it has not seen." in opened.wait(LESSON)
    return opened


def ask(b: Browser, clip: np.ndarray) -> str:
    """What the page says of a whole clip."""
    b.js("document.body.dataset.state = '';")
    drop(b, {"asked.npy": npy(clip)})
    b.wait("document.body.dataset.state === 'played'")
    return b.js(f"return {ANSWER}")


def npy(clip: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, clip.astype(np.float32))
    return file.getvalue()


def test_each_step_says_what_comes_next(opened, data_folder, tmp_path):
    """As who has clips and reads nothing but the page."""
    opened.click("#play")  # a clip that came along, of none of these actions
    clips = {action: utd_clips(data_folder, action) for action in ("wave", "squat")}
    for action in clips:
        for i in CLIPS:
            np.save(tmp_path / f"{i}.npy", clips[action][i].astype(np.float32))
        files = "\n".join(str(tmp_path / f"{i}.npy") for i in CLIPS)
        if action == "wave":
            opened.keys("#examples", files)
            said = opened.wait(f"{SAID}.includes('Which action') && {SAID}")
            assert said.startswith("Which action is it? Write its name into the field “Action”, then add 0.npy and 2 ")
        opened.keys("#action", action)  # in place of the name that was there
        opened.keys("#examples", files)
        opened.wait(f"{SAID}.startsWith('3 examples of {action} added')")
        assert opened.js("return document.getElementById('action').value") == action
    opened.wait(MINE)
    assert "Try it: " in opened.wait(LESSON) and lessons(opened) == {"wave": 3, "squat": 3}
    assert opened.js(f"return {SAID}") == "3 examples of squat added."
    top, bottom = opened.js("const { top, bottom } = document.getElementById('lesson-note').getBoundingClientRect();"
                            "return [top, innerHeight - bottom];")
    assert min(top, bottom) > -1, "in view"
    lines = opened.js("return [...document.querySelectorAll('#lesson-note.ready p')].map((p) => p.textContent);")
    assert lines[:3] == ["Ready: it knows wave, squat.", "Try it: use the camera, or open a clip that it has not seen.",
                         "Each example tried on the others: 6 of 6 named rightly."]
    assert ask(opened, clips["wave"][9]) == "wave"


def test_the_page_answers_as_the_file_of_just_teach(taught, data_folder, tmp_path):
    """Taught by the same clips; asked clips of other people."""
    for action in ("wave", "squat", "clap"):
        (tmp_path / "raw" / action).mkdir(parents=True)
        clips = utd_clips(data_folder, action)
        for i in CLIPS:
            np.save(tmp_path / "raw" / action / f"{i}.npy", clips[i].astype(np.float32))
    call(teach, f"model={NETWORK}", f"raw={tmp_path / 'raw'}", f"out={tmp_path / 'mine.onnx'}", "fps=30")
    model = ExportedModel(tmp_path / "mine.onnx")
    assert "9 of 9 named rightly" in taught.js(f"return {LESSON}")

    said = set()
    for action, number in (("clap", 9), ("wave", 13), ("squat", 8), ("lunge", 5), ("draw x", 20), ("clap", 25)):
        clip = utd_clips(data_folder, action)[number].astype(np.float32)
        answer = model.answer(clip[None])
        label, _ = model.ranking(answer.probabilities, 1)[0]
        named = ask(taught, clip)
        assert named == (label if model.is_known(answer) else NONE), (action, number)
        want = dict(zip(model.classes, answer.probabilities.tolist(), strict=True))
        assert bars(taught) == pytest.approx(want, abs=0.01)
        said.add(named)
    assert len(said) > 2 and NONE in said


def test_what_is_like_no_example_is_none_of_these(taught, data_folder):
    assert ask(taught, utd_clips(data_folder, "lunge")[5]) == NONE
    assert ask(taught, utd_clips(data_folder, "squat")[2]) == "squat"


def test_recordings_outlive_the_page_and_are_deleted(taught):
    reopen(taught)
    assert lessons(taught) == {"wave": 3, "squat": 3, "clap": 3} and taught.js(f"return {MINE}")

    # one clip, one action, all
    taught.click("#lessons .thumb")
    assert taught.js("return document.getElementById('discard').textContent") == "Delete it"
    taught.click("#discard")
    taught.wait("document.querySelectorAll('#lessons .thumb').length === 8")
    assert taught.js(GONE) == "Deleted wave, 1 example."
    taught.wait(f"{LESSON}.includes(' of 8 named rightly')")

    # an example of it that is looked at is closed
    taught.click("#lessons > li:nth-child(3) .thumb")  # below what was deleted
    assert "squat" in taught.js("return document.getElementById('replay-title').textContent")
    taught.click("[data-action=squat]")
    taught.wait("document.querySelectorAll('#lessons .thumb').length === 5")
    assert taught.js(GONE) == "Deleted squat, 3 examples."
    assert taught.js("return document.getElementById('replay').hidden")
    reopen(taught)
    assert lessons(taught) == {"wave": 2, "clap": 3}
    taught.click("#forget")
    taught.wait("document.querySelectorAll('#lessons .thumb').length === 0")
    taught.wait("document.getElementById('network-mine') === null")
    reopen(taught)
    assert lessons(taught) == {}


def test_saved_recordings_are_adopted_and_opened_again(opened, data_folder, here, capsys):  # noqa: F811
    skeleton = utd_skeleton(data_folder)
    opened.js("document.getElementById('times').value = '3';")
    for number, action in enumerate(("wave", "squat"), 1):
        record_in_a_row(opened, action, landmarks(utd_clips(data_folder, action)[0], skeleton), 3 * number)
    opened.click("#camera")
    path = saved(opened, "#save-clips", "my-actions.zip")
    with zipfile.ZipFile(path) as z:
        assert {"skeleton.json", "squat/01.npy", "wave/03.npy"} < set(z.namelist()) and len(z.namelist()) == 7
        about = json.loads(z.read("skeleton.json"))
    assert about == {"skeleton": "mediapipe33", "classes": ["squat", "wave"], "unit": "m", "up": "y", "fps": 30,
                     "camera": True}

    # as it is, it is recordings for adopt
    call(adopt, f"raw={path}", "name=mine")
    recipe = (here / "recipes" / "mine.toml").read_text()
    assert 'skeleton = "mediapipe33"' in recipe and "num_classes = 2" in recipe
    assert "6 clips of 2 classes" in capsys.readouterr().out and 'unit = "mm"' not in recipe

    # into a page that has nothing
    opened.click("#forget")
    opened.wait("document.querySelectorAll('#lessons .thumb').length === 0")
    drop(opened, {"my-actions.zip": path.read_bytes()})
    opened.wait(f"{SAID} === '6 examples added.'")
    opened.wait(MINE)
    assert lessons(opened) == {"squat": 3, "wave": 3}
    assert "Kept in this browser" in opened.js("return document.getElementById('kept').textContent")

    # twice is no more
    drop(opened, {"my-actions.zip": path.read_bytes()}, "#teach")
    opened.wait(f"{SAID} === '6 examples were here already.'")
    assert lessons(opened) == {"squat": 3, "wave": 3}
    act(opened, landmarks(utd_clips(data_folder, "wave")[1], skeleton), loop=True)
    opened.click("#camera")
    opened.wait(f"{ANSWER} === 'wave'")
    opened.js("document.getElementById('camera').click();")  # which a movement that ends may shift


def test_recordings_of_several_bodies_are_saved_as_the_networks(taught, tmp_path):
    np.save(tmp_path / "kinect.npy", np.random.default_rng(0).normal(0, 0.3, (40, 25, 3)) + [0, 0, 3])
    taught.js("document.getElementById('action').value = 'shake';")
    taught.keys("#examples", str(tmp_path / "kinect.npy"))
    taught.wait("document.querySelectorAll('#lessons > li').length === 4")
    with zipfile.ZipFile(saved(taught, "#save-clips", "my-actions.zip")) as z:
        about = json.loads(z.read("skeleton.json"))
        shapes = {np.load(z.open(name)).shape[1:] for name in z.namelist() if name.endswith(".npy")}
    assert shapes == {(20, 3)} and about["skeleton"]["name"] == "utd20"


def test_what_was_learned_is_saved_and_opened_again(taught, data_folder):
    path = saved(taught, "#save-taught", "my-actions.json")
    assert path.stat().st_size < 20_000
    taught.click("#forget")
    taught.wait("document.getElementById('network-mine') === null")

    drop(taught, {"my-actions.json": path.read_bytes()})
    taught.wait("document.getElementById('network-taught-1')?.checked")
    assert "knows wave, squat, clap" in taught.js(f"return {NOTE}")
    assert ask(taught, utd_clips(data_folder, "squat")[8]) == "squat"

    # wrong or damaged
    changed = json.loads(path.read_text())
    for change, said in (({"means": []}, "is damaged"), ({"network": {}}, "is not on this page"),
                         ({"format": "LAST taught 1"}, "this page reads LAST taught 2")):
        drop(taught, {"x.json": json.dumps(changed | change).encode()})
        assert said in taught.wait(f"{NOTE}.startsWith('x.json') && {NOTE}")
        taught.js(f"{NOTE} = '';")
    drop(taught, {"x.zip": b"nothing"})
    taught.wait(f"{SAID}.includes('x.zip cannot be read')")

    # through the teaching panel too
    taught.js("document.getElementById('network-1').click();")
    taught.keys("#examples", str(path))
    taught.wait("document.getElementById('network-taught-2')?.checked")
    assert taught.js(f"return {SAID}").startswith(
        "my-actions.json is one of the networks now, until you reload the page; it knows wave, squat, clap.")


def test_a_dropped_clip_is_shown_or_taken_as_an_example(opened, data_folder):
    wave, squat = (npy(utd_clips(data_folder, action)[0]) for action in ("wave", "squat"))
    drop(opened, {"wave.npy": wave})
    opened.wait("document.body.dataset.state === 'played'")
    assert lessons(opened) == {}
    opened.keys("#action", "wave")
    opened.click("#use")
    opened.click("#keep")
    opened.wait("document.querySelectorAll('#lessons .thumb').length === 1")
    opened.js("document.getElementById('action').value = 'squat';")
    drop(opened, {"squat.npy": squat}, "#teach")
    opened.wait(MINE)
    assert lessons(opened) == {"wave": 1, "squat": 1}


def rows(b: Browser) -> list[list[str]]:
    """[file, answer] of the clips that the page has named."""
    return b.js("""return [...document.querySelectorAll("#answers:not([hidden]) li")].map(
        (row) => [...row.children].map((part) => part.textContent));""")


def test_several_clips_are_named_and_teach_nothing(taught, data_folder, tmp_path):
    asked = {"broken.npy": b"no", "squat-1.npy": npy(utd_clips(data_folder, "squat")[8]),
             "wave-1.npy": npy(utd_clips(data_folder, "wave")[9])}
    for way in ("drop", "dialogue"):
        if way == "drop":
            drop(taught, asked)
        else:
            for name, data in asked.items():
                (tmp_path / name).write_bytes(data)
            taught.keys("#file", "\n".join(str(tmp_path / name) for name in asked))
        taught.wait(f"{NOTE}.startsWith('3 clips are named')")
        (_, broken), (name, squat), (_, wave) = rows(taught)
        assert name == "squat-1.npy" and re.fullmatch(r"squat, \d+ %", squat) and re.fullmatch(r"wave, \d+ %", wave)
        assert broken.startswith("broken.npy cannot be read") and len(lessons(taught)) == 3
        taught.js(f"{NOTE} = '';")

    # a row plays its clip, another network names them anew
    taught.click("#answers li:nth-child(2) button")
    taught.wait(f"document.body.dataset.state === 'played' && {ANSWER} === 'squat'")
    taught.click("#network-1")
    taught.wait(f"{NOTE}.startsWith('3 clips are named')")
    assert len(rows(taught)) == 3
    taught.js("document.getElementById('clip').selectedIndex = 1;")
    taught.click("#play")
    taught.wait("document.getElementById('answers').hidden")


def test_actions_named_after_files_are_told_and_renamed(opened, data_folder, tmp_path):
    for name, action, i in (("person1", "wave", 0), ("person2", "wave", 1), ("squat_1", "squat", 0)):
        np.save(tmp_path / f"{name}.npy", utd_clips(data_folder, action)[i].astype(np.float32))
    opened.keys("#examples", "\n".join(str(tmp_path / f"person{i}.npy") for i in (1, 2)))
    opened.wait(f"{SAID}.includes('Named “person” after the files: rename it here')")

    # its name is edited in the list
    opened.click("#lessons .name")
    opened.js("document.activeElement.value = '';")
    opened.keys("#lessons .naming input", "hello\n")
    opened.wait(f"{SAID} === 'person is called hello now.'")
    assert lessons(opened) == {"hello": 2}

    # another one's name puts them together, after it is asked; kept so
    opened.keys("#examples", str(tmp_path / "squat_1.npy"))
    opened.wait(MINE)
    opened.click("#lessons > li:nth-child(2) .name")
    opened.js("document.activeElement.value = 'Hello';")
    opened.click("#lessons > li:nth-child(2) .naming button")
    question = opened.js("return document.querySelector('#lessons > li:nth-child(2) .naming button').textContent")
    assert question == "Put it together with hello?" and len(lessons(opened)) == 2
    opened.click("#lessons > li:nth-child(2) .naming button")
    opened.wait(f"{SAID} === 'squat is part of hello now.'")
    reopen(opened)
    assert lessons(opened) == {"hello": 3}


def test_folders_are_chosen_and_files_that_are_no_clips_are_told(opened, data_folder, tmp_path):
    for action in ("wave", "squat"):
        (tmp_path / "mine" / action).mkdir(parents=True)
        for i in CLIPS:
            np.save(tmp_path / "mine" / action / f"person{i}.npy", utd_clips(data_folder, action)[i])
    (tmp_path / "mine" / "notes.txt").write_text("of me")
    opened.keys("#folders", str(tmp_path / "mine"))
    opened.wait(MINE)
    assert lessons(opened) == {"squat": 3, "wave": 3} and opened.js(f"return {SAID}") == "6 examples added."

    drop(opened, {"notes.csv": b"who,what\nanna,waves", "film.mp4": b""}, "#teach")
    said = opened.wait(f"{SAID}.includes('film.mp4 is no clip') && {SAID}")
    assert said.startswith("notes.csv is no clip: ") and "Which action" not in said


def test_lessons_go_on_with_another_network(taught):
    listed = "document.getElementById('networks').lastChild.textContent"
    before = lessons(taught)
    assert "9 examples · on utd-mhad: lite nano, FP32" in taught.js(f"return {listed}")
    taught.click("#network-2")
    taught.wait(f"{listed}.includes('9 examples · on nw-ucla: lite nano, FP32')")
    assert lessons(taught) == before and "it knows" in taught.js(f"return {LESSON}")
    taught.click("#network-1")
    taught.wait(f"{listed}.includes('on utd-mhad')")
    assert not taught.js(f"return {MINE}"), "the network that was chosen answers"


def test_examples_of_joints_that_a_network_cannot_take_do_not_count(taught):
    taught.js("""return new Promise((resolve) => {
        indexedDB.open("last-page").onsuccess = ({ target: { result: database } }) => {
          const change = database.transaction(database.objectStoreNames, "readwrite");
          change.objectStore(database.objectStoreNames[0]).openCursor().onsuccess = ({ target: { result: at } }) => {
            at?.update({ ...at.value, skeleton: "crab", table: null });
            at?.continue();
          };
          change.oncomplete = () => { database.close(); resolve(true); };
        }; });""")
    reopen(taught)
    taught.wait(f"{LESSON}.includes('9 examples cannot be turned into this network')")
    assert taught.js("return document.getElementById('network-mine')") is None


# ---------------------------------------------------------------------------------------------------------------------
# Small screens, keyboards
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_holds_the_lessons(taught, width):
    taught.devtools("Emulation.setDeviceMetricsOverride", width=width, height=840, deviceScaleFactor=2, mobile=True)
    try:
        taught.click("#lessons .thumb")
        assert taught.js("return document.documentElement.scrollWidth") <= width
        small = taught.js("""const parts = document.querySelectorAll("#teach :is(button, .button, select, #action)");
            const box = (e) => e.getBoundingClientRect();
            return [...parts].filter((e) => e.getClientRects().length)
              .filter((e) => box(e).height < 43.9 || box(e).right > arguments[0])
              .map((e) => e.id || e.textContent);""", width)
        assert small == []
    finally:
        taught.devtools("Emulation.clearDeviceMetricsOverride")


def test_the_keyboard_reaches_every_lesson(taught):
    taught.js("document.getElementById('file').focus();")
    reached = taught.tabbed(28)
    assert reached[:6] == ["action", "record", "times", "idle", "examples", "folders"]
    assert {"wave, example 1: look at it", "Rename wave", "Delete wave", "save-clips", "save-taught",
            "forget"} <= set(reached)
    unnamed = taught.js("""return [...document.querySelectorAll("#teach button, #teach input, #teach select")].filter(
        (e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map((e) => e.id);""")
    assert unnamed == []

    # Escape closes the replay
    taught.click("#lessons .thumb")
    taught.press("Escape", 27)
    assert taught.js("return document.getElementById('replay').hidden")


def test_a_skeleton_of_the_camera_is_known_by_its_name():
    assert len(SKELETONS["mediapipe33"].joints) == 33, "recorder.js and exchange.js name it"
