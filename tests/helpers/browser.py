"""A real browser for the tests: Chromium through ChromeDriver, the W3C WebDriver protocol over urllib; and a server."""
from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from phases.shipping import serve
from phases.shipping.web_page import write_sources

# Chromium's own background traffic is off, and no name resolves: the page has this machine alone. WebGL, which the pose
# estimator needs, is drawn by the CPU.
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element


WANTED = os.environ.get("CI_BROWSER") == "1"  # then no test of the page is skipped


def need(missing: str) -> None:
    """Skip the test if something is missing, or fail it where a browser is wanted."""
    if missing:
        (pytest.fail if WANTED else pytest.skip)(missing)


def installed() -> str:
    """What is missing to run the tests in a browser, or ""."""
    missing = [name for name in ("chromium", "chromedriver", "npm") if not shutil.which(name)]
    return f"no {', '.join(missing)}: apt-get install chromium chromium-driver nodejs npm" if missing else ""


def node(body: str, jobs: object) -> list:
    """What the body of a JavaScript function makes of `jobs`; `root` is the folder of the page's modules."""
    need("" if shutil.which("node") else "no node: install Node.js")
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder))
        program = f"""import fs from "node:fs";
            const root = {json.dumps(folder)};
            const jobs = JSON.parse(fs.readFileSync(0, "utf8"));
            console.log(JSON.stringify(await (async () => {{ {body} }})()));"""
        done = subprocess.run(["node", "--input-type=module", "-e", program], input=json.dumps(jobs), text=True,
                              capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """(host, port) of the page's server in a thread."""
    with serve.server(folder, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address
        server.shutdown()


class Browser:
    """One window. `with Browser(folder) as b: b.open(url); b.js("return document.title")`."""

    def __init__(self, folder: Path, *flags: str, width: int = 1200, height: int = 820):
        # the driver, on a port that it chooses and prints
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        started = filter(None, (re.search(r"successfully on port (\d+)", line) for line in self.driver.stdout))
        self.url = f"http://127.0.0.1:{next(started)[1]}/session"
        self.session = ""

        # the browser
        args = [*FLAGS, *flags, f"--user-data-dir={folder}", f"--window-size={width},{height}"]
        options = {"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                   "goog:chromeOptions": {"args": args, "binary": shutil.which("chromium")}}
        try:
            self.session = "/" + self.call("POST", "", capabilities={"alwaysMatch": options})["sessionId"]
        except BaseException:
            self.driver.kill()
            raise
        self.call("POST", "/timeouts", script=60_000, pageLoad=60_000)

    def call(self, method: str, path: str, **body) -> object:
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self.url + self.session + path, data, {"Content-Type": "application/json"},
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as e:
            raise RuntimeError(json.load(e)["value"]["message"]) from None

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *why) -> None:
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(10)
            self.driver.stdout.close()

    def open(self, url: str) -> None:
        self.call("POST", "/url", url=url)

    def js(self, script: str, *args) -> object:
        """What the body of a JavaScript function returns; a promise is awaited."""
        return self.call("POST", "/execute/sync", script=script, args=args)

    def wait(self, script: str, seconds: float = 60) -> object:
        """The first true value of a JavaScript expression."""
        end = time.monotonic() + seconds
        while True:
            found = self.js(f"return {script}")
            if found:
                return found
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {script}; the page says: "
                                     f"{self.js('return document.body.innerText')!r}")
            time.sleep(0.05)

    def find(self, selector: str) -> str:
        found = self.call("POST", "/element", using="css selector", value=selector)
        return found[ELEMENT]

    def click(self, selector: str) -> None:
        self.call("POST", f"/element/{self.find(selector)}/click")

    def keys(self, selector: str, text: str) -> None:
        """Type into an element; into a file input, the path of a file."""
        self.call("POST", f"/element/{self.find(selector)}/value", text=text)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key: its name, its number among Windows' key codes, and what it types."""
        for kind in ("keyDown", "keyUp"):
            self.devtools("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                          text=text if kind == "keyDown" else "")

    def tabbed(self, times: int) -> list[str]:
        """What Tab reaches from where the focus is, by id, label or text."""
        reached = []
        for _ in range(times):
            self.press("Tab", 9)
            reached.append(self.js("const e = document.activeElement; return e.id || e.ariaLabel || e.textContent;"))
        return reached

    def devtools(self, command: str, **params) -> dict:
        return self.call("POST", "/goog/cdp/execute", cmd=command, params=params)

    def log(self, kind: str = "browser") -> list[dict]:
        """Entries since the last call: the console's (browser), or the network's (performance)."""
        return self.call("POST", "/se/log", type=kind)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))
