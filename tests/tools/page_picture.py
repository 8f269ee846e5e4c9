"""The picture of the page after it was taught three gestures: results/page-teach.png.

    python -m tests.tools.page_picture             a minute -> results/page-teach.png
    python -m tests.tools.page_picture out=x.png

The gestures are synthetic clips, three of one person each; the page then plays another person's.
"""
from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from phases.common.command import run
from phases.common.files import ROOT
from phases.recordings.puppet import SYNTHETIC_ACTIONS, write_synthetic
from phases.recordings.readers import read_clip
from phases.shipping.exported import model_file
from phases.shipping.web_page import SUBJECT, write_page
from tests.helpers.browser import Browser, installed, served

GESTURES = ("clapping", "hand waving", "kicking something")
ASKED = "hand waving"
EXAMPLES = 3
WIDTH, HEIGHT = 1200, 1120
TEACHER = 1     # the person who shows the gestures


@dataclass(frozen=True)
class Options:
    out: Annotated[Path, "the picture"] = ROOT / "results" / "page-teach.png"
    model: Annotated[str, "the network"] = "any"


def examples(folder: Path) -> dict[str, list[Path]]:
    """{gesture: files of its examples}."""
    raw = folder / "raw"
    write_synthetic(raw, workers=1, subjects=(TEACHER,), replications=EXAMPLES)
    found = {}
    for name in GESTURES:
        recordings = sorted(raw.glob(f"S*C001P*A{SYNTHETIC_ACTIONS.index(name) + 1:03}.skeleton"))[:EXAMPLES]
        found[name] = []
        for number, recording in enumerate(recordings, 1):
            file = folder / f"{name}-{number}.npy"
            np.save(file, read_clip(recording)[0])
            found[name].append(file)
    return found


def teach(browser: Browser, lessons: dict[str, list[Path]]) -> None:
    """Add clips of each gesture, as a user does."""
    for number, (name, files) in enumerate(lessons.items(), 1):
        browser.js("document.getElementById('action').value = arguments[0];", name)
        browser.keys("#examples", "\n".join(map(str, files)))
        browser.wait(f"document.querySelectorAll('#lessons > li').length === {number}", 60)
    browser.wait("document.getElementById('network-mine')?.checked", 60)


def ask(browser: Browser) -> None:
    """Play another person's gesture."""
    browser.js("""const clips = document.getElementById("clip"), options = [...clips.options];
        clips.selectedIndex = options.findIndex((option) => option.text === arguments[0]);""", ASKED)
    browser.js("document.body.dataset.state = '';")
    browser.click("#play")
    browser.wait("document.body.dataset.state === 'played'", 60)


def main(options: Options) -> None:
    missing = installed()
    if missing:
        raise ValueError(missing)

    # a page that is taught, and asked
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_page([model_file(options.model)], folder / "page")
        lessons = examples(folder)
        with served(folder / "page") as (host, port), Browser(folder / "profile") as browser:
            browser.devtools("Emulation.setEmulatedMedia",
                             features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
            browser.devtools("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1,
                             mobile=False)
            browser.open(f"http://{host}:{port}/")
            browser.wait("document.body.dataset.state === 'ready'", 120)
            teach(browser, lessons)
            ask(browser)

            # without a caret or a focus in the picture
            browser.js("document.activeElement.blur(); scrollTo(0, 0);")
            time.sleep(0.5)
            browser.picture(options.out)
    print(f"{options.out}: {WIDTH} x {HEIGHT}, another person ({SUBJECT}) than the teacher ({TEACHER})")


if __name__ == "__main__":
    run(main, Options)
