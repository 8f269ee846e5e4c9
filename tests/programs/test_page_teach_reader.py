"""The page that teaches, for who reads it for the first time: in a real browser."""
import numpy as np

from tests.helpers.acting import utd_clips
from tests.programs.test_page_teach import (  # noqa: F401, three fixtures
    ANSWER,
    GONE,
    LESSON,
    MINE,
    NOTE,
    SAID,
    add_clips,
    drop,
    lessons,
    npy,
    opened,
    reopen,
    saved,
    taught,
    window,
)

NO_CAMERA = """Object.defineProperty(navigator, "mediaDevices", { configurable: true, value:
    { getUserMedia: () => Promise.reject(new DOMException("no", "NotFoundError")) } });"""
DRAWN = """(() => { const c = document.getElementById("skeleton");
    return c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((value) => value); })()"""
PLAYED = "document.body.dataset.state === 'played'"


def play(b, name: str, clip: np.ndarray) -> None:
    """Open a clip and see it to its end."""
    b.js("document.body.dataset.state = '';")
    drop(b, {name: npy(clip)})
    b.wait(PLAYED)


# ---------------------------------------------------------------------------------------------------------------------
# Without a camera
# ---------------------------------------------------------------------------------------------------------------------

def test_nothing_without_a_camera_says_what_works_once(opened, data_folder, tmp_path):  # noqa: F811
    for action in ("wave", "squat"):
        add_clips(opened, action, utd_clips(data_folder, action)[:1], tmp_path)
    opened.wait(MINE)
    assert "use a clip of none of these as “nothing”" in opened.js(f"return {LESSON}")
    play(opened, "lunge.npy", utd_clips(data_folder, "lunge")[0])
    before = opened.js(f"return {NOTE}")
    opened.js(NO_CAMERA)
    opened.click("#idle")
    said = opened.wait(f"{SAID}.startsWith('No camera was found.') && {SAID}")
    assert "play a clip that is none of your actions, and press “Use the clip shown” with the name “nothing”" in said
    assert opened.js("return document.querySelectorAll('.trouble').length") == 1
    assert opened.js(f"return {NOTE}") == before and opened.js(f"return {DRAWN} && {PLAYED}")

    # as it says
    opened.js("document.getElementById('action').value = 'Nothing';")
    opened.click("#use")
    opened.click("#keep")
    opened.wait("document.querySelectorAll('#lessons .thumb').length === 3")
    assert lessons(opened) == {"wave": 1, "squat": 1, "nothing": 1}


# ---------------------------------------------------------------------------------------------------------------------
# What it knows
# ---------------------------------------------------------------------------------------------------------------------

def test_nothing_is_among_what_it_knows(taught, data_folder, tmp_path):  # noqa: F811
    listed = "document.getElementById('networks').lastChild.textContent"
    assert "3 actions, 9 examples" in taught.js(f"return {listed}")
    add_clips(taught, "nothing", utd_clips(data_folder, "lunge")[:4], tmp_path)
    taught.wait(f"{listed}.includes('3 actions and nothing, 13 examples')")
    assert taught.wait(LESSON).startswith("Ready: it knows wave, squat, clap, and what is none of them (4 examples).")


# ---------------------------------------------------------------------------------------------------------------------
# The list of examples
# ---------------------------------------------------------------------------------------------------------------------

def test_what_is_deleted_can_be_brought_back(taught):  # noqa: F811
    """One action, one example, all of them; each with what the browser keeps."""
    tops = "return [...document.querySelectorAll('#lessons > li')].map((row) => row.offsetTop - row.parentElement" \
           ".offsetTop);"
    kept = lessons(taught)
    before = taught.js(tops)
    taught.click("[data-action=squat]")
    taught.wait("document.querySelectorAll('#lessons .thumb').length === 6")
    assert taught.js(GONE) == "Deleted squat, 3 examples."
    assert taught.js(tops) == before, "no other row moves"
    assert taught.js("return document.activeElement.textContent") == "Undo"
    taught.press("Enter", 13, "\r")
    taught.wait("document.querySelectorAll('#lessons .thumb').length === 9")
    assert taught.js("return document.activeElement.ariaLabel") == "Delete squat"
    assert list(lessons(taught).items()) == list(kept.items()), "in its place"
    assert taught.js("return document.querySelector('#lessons .gone')") is None

    # an example
    taught.click("#lessons .thumb")
    taught.click("#discard")
    taught.wait("document.querySelectorAll('#lessons .thumb').length === 8")
    assert taught.js(GONE) == "Deleted wave, 1 example."
    taught.click("#lessons .undo")
    taught.wait("document.querySelectorAll('#lessons .thumb').length === 9")

    # all
    taught.click("#forget")
    taught.wait("document.querySelectorAll('#lessons .thumb').length === 0")
    assert taught.js(GONE) == "Deleted all, 9 examples."
    taught.click("#lessons .undo")
    taught.wait(MINE)
    reopen(taught)
    assert lessons(taught) == kept


def test_an_example_is_looked_at_under_its_row(taught):  # noqa: F811
    """The thumbnail that was pressed is marked, and stays where the cursor is."""
    where = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
    first, last = "#lessons > li:nth-child(1) .thumb", "#lessons > li:nth-child(3) li:nth-child(2) .thumb"
    for thumb, action in ((first, "wave"), (last, "clap")):
        taught.js("document.querySelector(arguments[0]).scrollIntoView({ block: 'center' });", thumb)
        before = taught.js(where, thumb)
        taught.click(thumb)
        assert taught.js("return document.getElementById('replay').closest('li').querySelector('strong').textContent"
                         ) == action
        assert abs(taught.js(where, thumb) - before) < 2
        marked = taught.js("return [...document.querySelectorAll('.thumb[aria-current]')].map((e) => e.ariaLabel);")
        assert len(marked) == 1 and marked[0].startswith(action)
        assert taught.js("return document.activeElement.ariaLabel") == marked[0]

    # it is closed, or its example deleted
    taught.press("Escape", 27)
    assert taught.js("return document.querySelector('.thumb[aria-current]')") is None
    assert taught.js("return document.activeElement.ariaLabel").startswith("clap")
    taught.click(last)
    taught.click("#discard")
    taught.wait("document.querySelectorAll('#lessons .thumb').length === 8")
    assert taught.js("return document.getElementById('replay').hidden")


def test_a_later_change_ends_the_undo(taught, data_folder, tmp_path):  # noqa: F811
    taught.click("[data-action=squat]")
    taught.wait("document.querySelector('#lessons .undo')")
    add_clips(taught, "lunge", utd_clips(data_folder, "lunge")[:1], tmp_path)
    assert taught.js("return document.querySelector('#lessons .undo')") is None
    assert lessons(taught) == {"wave": 3, "clap": 3, "lunge": 1}


# ---------------------------------------------------------------------------------------------------------------------
# The clip shown
# ---------------------------------------------------------------------------------------------------------------------

def test_a_clip_that_waits_to_be_kept_is_not_replaced(opened, data_folder):  # noqa: F811
    play(opened, "wave.npy", utd_clips(data_folder, "wave")[0])
    opened.keys("#action", "wave")
    opened.click("#use")
    first = opened.js("return document.getElementById('replay-title').textContent")
    play(opened, "squat.npy", utd_clips(data_folder, "squat")[0])
    opened.js("document.getElementById('action').value = 'squat';")
    for button in ("#use", "#record"):
        opened.js(f"{SAID} = '';")
        opened.click(button)
        opened.wait(f"/^Keep or discard wave, \\d.\\d s, first.$/.test({SAID})")
        assert opened.js("return document.getElementById('replay-title').textContent") == first
        assert opened.js("return document.activeElement.id") == "keep"
    opened.click("#keep")
    opened.wait(f"{SAID} === '1 example of wave added.'")
    opened.click("#use")
    opened.click("#keep")
    opened.wait(MINE)
    assert lessons(opened) == {"wave": 1, "squat": 1}


def test_a_clip_stays_when_it_was_kept(opened, data_folder, tmp_path):  # noqa: F811
    """Its network answers, of a clip that came along, too."""
    opened.js("document.body.dataset.state = '';")
    opened.click("#play")
    opened.wait(PLAYED)
    opened.js("document.getElementById('action').value = 'nothing';")
    opened.click("#use")
    opened.click("#keep")
    opened.wait(f"{SAID} === '1 example of nothing added.'")
    add_clips(opened, "wave", utd_clips(data_folder, "wave")[:2], tmp_path)
    opened.wait(f"{MINE} && {PLAYED} && {ANSWER} === 'none of these'")
    assert opened.js(f"return {DRAWN} && !document.getElementById('use').hidden")
    assert opened.js(f"return {NOTE}").startswith("The whole clip, ")
    assert "nearest" in opened.js("return document.getElementById('verdict').textContent")
    assert "Try it: " in opened.js(f"return {LESSON}"), "what came along is no trial"


def test_the_list_of_clips_names_what_is_shown(opened, data_folder):  # noqa: F811
    """And so does the question about the clip shown."""
    chosen = "return document.getElementById('clip').selectedOptions[0].text"
    asked = "return document.getElementById('replay-title').textContent"
    select = """document.body.dataset.state = ''; const list = document.getElementById("clip");
        list.selectedIndex = 3; list.dispatchEvent(new Event("change"));"""
    opened.js(select)
    opened.wait(PLAYED)
    title = opened.js(chosen)
    opened.keys("#action", "nothing")
    opened.click("#use")
    assert opened.js(asked).startswith(f"{title} as nothing, ") and opened.js(asked).endswith(" s: is it good?")
    opened.click("#discard")

    # a file
    play(opened, "5.npy", utd_clips(data_folder, "squat")[0])
    assert opened.js(chosen) == "choose …"
    opened.click("#use")
    assert opened.js(asked).startswith("5.npy as nothing, ")
    opened.click("#discard")

    # the same entry again
    opened.js(select)
    opened.wait(PLAYED)
    assert opened.js(chosen) == title
    opened.js(NO_CAMERA)
    opened.click("#camera")
    opened.wait("document.body.dataset.state === 'trouble'")
    opened.click("#play")
    opened.wait(PLAYED)


def test_the_name_stays_selected_after_both_ways(opened, data_folder, tmp_path):  # noqa: F811
    field = "const e = document.activeElement; return [e.id, e.value.slice(e.selectionStart, e.selectionEnd)];"
    add_clips(opened, "squat", utd_clips(data_folder, "squat")[:1], tmp_path)
    assert opened.js(field) == ["action", "squat"]
    play(opened, "wave.npy", utd_clips(data_folder, "wave")[0])
    opened.keys("#action", "wave")
    opened.click("#use")
    opened.click("#keep")
    opened.wait(MINE)
    assert opened.js(field) == ["action", "wave"] and lessons(opened) == {"squat": 1, "wave": 1}


# ---------------------------------------------------------------------------------------------------------------------
# Files, and an empty picture
# ---------------------------------------------------------------------------------------------------------------------

def test_joints_that_cannot_be_read_are_told_with_those_that_can(opened):  # noqa: F811
    drop(opened, {"x.npy": npy(np.random.default_rng(0).normal(size=(9, 19, 3)))})
    said = opened.wait(f"{NOTE}.startsWith('x.npy has 19 joints; ') && {NOTE}")
    able = [int(word.strip(",")) for word in said.split("clips of ")[1].split() if word.strip(",").isdigit()]
    assert able == sorted(set(able)) and {15, 17, 20, 25, 33} <= set(able) and 19 not in able


def test_a_recogniser_is_there_until_the_page_is_loaded_again(taught):  # noqa: F811
    files = taught.js("return document.querySelector('#controls .files').textContent")
    assert "saved recognisers (.json)" in " ".join(files.split())
    drop(taught, {"mine.json": saved(taught, "#save-taught", "my-actions.json").read_bytes()})
    said = "mine.json is one of the networks now, until you reload the page; it knows wave, squat, clap."
    taught.wait(f"{NOTE} === '{said}'")
    reopen(taught)
    assert taught.js("return document.getElementById('network-taught-1')") is None


def test_a_file_of_no_use_is_told_in_plain_words(opened):  # noqa: F811
    for name, data, words in (("note.txt", b"hi", "This page cannot read note.txt. It takes a video, "),
                              ("none.npy", b"", "none.npy cannot be read: it is empty.")):
        drop(opened, {name: data})
        opened.wait(f"{NOTE}.startsWith('{words}')")
    drop(opened, {"none.npy": b""}, "#teach")
    opened.wait(f"{SAID} === 'none.npy cannot be read: it is empty.'")


def test_an_empty_picture_says_what_fills_it(opened, data_folder):  # noqa: F811
    seen = "(document.getElementById('empty')?.getClientRects().length ?? 0)"
    assert opened.js(f"return {seen} && document.getElementById('empty').innerText"
                     ) == "Use the camera, play a clip, or drop a file here."
    play(opened, "wave.npy", utd_clips(data_folder, "wave")[0])
    assert not opened.js(f"return {seen}")
    drop(opened, {"note.txt": b"hi"})
    opened.wait(f"{seen} && !{DRAWN}")


# ---------------------------------------------------------------------------------------------------------------------
# What is said of examples
# ---------------------------------------------------------------------------------------------------------------------

def test_the_same_clip_of_two_actions_is_told(opened, data_folder, tmp_path):  # noqa: F811
    clips = utd_clips(data_folder, "wave")
    add_clips(opened, "wave", clips[:2], tmp_path)
    assert opened.js(f"return {SAID}") == "2 examples of wave added."
    add_clips(opened, "hello", clips[:1], tmp_path)
    assert opened.js(f"return {SAID}") == "1 example of hello added. 0.npy is also an example of wave."
    add_clips(opened, "greet", clips[1:3], tmp_path)
    assert opened.js(f"return {SAID}") == "2 examples of greet added. 0.npy is also an example of wave."

    # the clip shown
    play(opened, "again.npy", clips[2])
    for action, said in (("wave", "1 example of wave added. again.npy is also an example of greet."),
                         ("greet", "1 example was here already.")):
        opened.js("document.getElementById('action').value = arguments[0];", action)
        opened.click("#use")
        opened.click("#keep")
        opened.wait(f"{SAID} === '{said}'")
    assert lessons(opened) == {"wave": 3, "hello": 1, "greet": 2}


def test_red_lines_end_with_the_next_success(opened, data_folder, tmp_path):  # noqa: F811
    red = "return [...document.querySelectorAll('.trouble')].map((e) => e.id);"
    wave, squat = utd_clips(data_folder, "wave")[0], utd_clips(data_folder, "squat")[0]

    # a lesson's, by a clip that is shown
    for _ in range(2):  # and not by another failure
        opened.click("#record")
        opened.wait("document.getElementById('teach-note').matches('.trouble')")
        assert opened.js(red) == ["teach-note"]
    play(opened, "wave.npy", wave)
    assert opened.js(red) == [] and opened.js(f"return {SAID}") == ""

    # a file's, by a lesson
    drop(opened, {"note.txt": b"hi"})
    opened.wait(f"{NOTE}.includes('note.txt')")
    drop(opened, {"none.npy": b""}, "#teach")
    opened.wait(f"{SAID}.includes('none.npy')")
    assert opened.js(red) == ["note", "teach-note"], "another failure ends nothing"
    add_clips(opened, "wave", [wave], tmp_path)
    opened.wait("document.querySelectorAll('.trouble').length === 0")
    assert opened.js(f"return {NOTE}") == "" and opened.js(f"return {SAID}") == "1 example of wave added."

    # what a success tells of trouble stays
    np.save(tmp_path / "squat.npy", squat.astype(np.float32))
    (tmp_path / "none.npy").write_bytes(b"")
    opened.js("document.getElementById('action').value = 'squat';")
    opened.keys("#examples", f"{tmp_path / 'none.npy'}\n{tmp_path / 'squat.npy'}")
    opened.wait(MINE)
    assert opened.js(red) == ["teach-note"] and "none.npy" in opened.js(f"return {SAID}")


def test_words_for_specialists_are_folded_away(opened, tmp_path):  # noqa: F811
    clip = np.random.default_rng(0).normal(0, 0.3, (40, 25, 3)) + [0, 0, 3]
    add_clips(opened, "shake", [clip, clip + 0.1], tmp_path)
    assert opened.js("return document.getElementById('teach-note').innerText").split("\n") == [
        "2 examples of shake added.", "Details"]
    opened.click("#teach-note summary")
    assert "Read as the 25 joints of " in opened.js("return document.querySelector('#teach-note details p').innerText")


def test_what_was_saved_says_where_it_goes(taught):  # noqa: F811
    saved(taught, "#save-clips", "my-actions.zip")
    assert taught.js(f"return {SAID}") == (
        "Saved my-actions.zip, a folder per action. Add it here another time, or give it to “just teach”.")
    saved(taught, "#save-taught", "my-actions.json")
    assert taught.js(f"return {SAID}") == "Saved my-actions.json. Open it with “Open a file”."
