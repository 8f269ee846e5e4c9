"""What a first reader of the page that teaches stumbled over, in a real browser."""
import numpy as np

from tests.helpers.acting import utd_clips
from tests.programs.test_page_teach import (  # noqa: F401, three fixtures
    ANSWER, CLIPS, LESSON, MINE, NOTE, SAID, add_clips, drop, lessons, npy, opened, reopen, taught, window)

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
    opened.wait("document.querySelectorAll('#lessons canvas').length === 3")
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
