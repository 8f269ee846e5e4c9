"""Write a web page that recognises actions from a webcam, or serve it to a browser on this machine.

    just page model=exports/lite_small/model.onnx out=page/ serve=8000        then open http://127.0.0.1:8000
    just page model=utd_mhad,nw_ucla out=page/                                networks that come along
    just page out=page/ serve=8000                                            a page that was written before

model: files that phase 4 wrote, separated by commas; the first is shown first. The page reads skeleton, view and class
names from their metadata, and runs them with the ONNX runtime for browsers. MediaPipe finds the body in the camera's
picture; its 33 joints become the network's by the table in the file. A network whose skeleton has no such table plays
recorded clips only. Twelve synthetic clips are written into the page, which begins with the one that the first network
is surest of; videos, clips (.npy, .skeleton, .json of Northwestern-UCLA or of plain lists) and other exported .onnx
files can be dropped on it.

out: a folder that any web server can show. It needs no network then: no picture, joint or answer leaves the browser,
and the page's own policy forbids it. Browsers give a camera to pages from https or from this machine only.
serve: a port on 127.0.0.1; Ctrl-C ends the server. Without it the folder is written, and that is all.

Node.js's npm fetches the two packages that phases/page/package-lock.json names into phases/page/node_modules, once.
Exit codes: 0 written, 2 bad input, or Node.js is missing; 130 the server was ended. The folder appears whole or not at
all, and an earlier page there is replaced.
"""
from __future__ import annotations

import contextlib
import functools
import html
import http.server
import io
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from phases.common.command import nearest
from phases.common.files import locked, replace_folder
from phases.common.settings_cli import cli
from phases.recordings.puppet import SYNTHETIC_ACTIONS, write_synthetic
from phases.recordings.readers import read_clip
from phases.shipping.exported import ExportedModel, named

SOURCE = Path(__file__).resolve().parent / "shipping" / "page"
MARK = "page.json"  # a page's list of networks and clips; a folder with it is a page
POSE = ("pose.js", "pose_solution_packed_assets.data", "pose_solution_packed_assets_loader.js",
        "pose_solution_simd_wasm_bin.js", "pose_solution_simd_wasm_bin.wasm", "pose_web.binarypb",
        "pose_landmark_lite.tflite", "pose_landmark_full.tflite")
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
NEEDED = {"@mediapipe/pose": ("", POSE, "lib/pose"), "onnxruntime-web": ("dist", RUNTIME, "lib/ort")}
SUBJECT = 6  # of the synthetic clips: one of the test side, unknown to a network of the demonstration
TYPES = {".wasm": "application/wasm", ".mjs": "text/javascript", ".js": "text/javascript", ".css": "text/css",
         ".html": "text/html; charset=utf-8", ".json": "application/json", ".svg": "image/svg+xml"}


def options(argv: list[str]) -> dict:
    """The command line, checked; ValueError names what is wrong and what is possible."""
    given = {"model": "", "out": "page", "serve": ""}
    for arg in argv:
        key, equals, value = arg.partition("=")
        if key not in given or not equals:
            raise ValueError(f"unknown argument {arg!r}{nearest(key, given)}")
        given[key] = value
    given["model"], out = given["model"].strip(","), Path(given["out"])
    if given["serve"] and not (given["serve"].isdigit() and 0 < int(given["serve"]) < 65536):
        raise ValueError(f"serve = {given['serve']!r}: must be a port, 1 to 65535, such as 8000")
    if not given["model"] and not (given["serve"] and (out / MARK).is_file()):
        raise ValueError("no model: give model=FILE.onnx, as `just phase4` writes it, or a name in results/networks, "
                         "such as model=utd_mhad; several with commas between")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ValueError(f"out = {out}: is no folder; give the folder of the page")
    if given["model"] and out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise ValueError(f"out = {out}: holds other files, and they would be lost; give a new folder")
    return given


# ---------------------------------------------------------------------------------------------------------------------
# Write
# ---------------------------------------------------------------------------------------------------------------------

def packages() -> dict[str, Path]:
    """{package: its folder} at the versions of package.json; `npm ci` fetches them if one is missing."""
    wanted = json.loads((SOURCE / "package.json").read_text())["dependencies"]
    folders = {name: SOURCE / "node_modules" / name for name in wanted}

    def complete() -> bool:
        for name, folder in folders.items():
            inside, files, _ = NEEDED[name]
            about = folder / "package.json"
            if not about.is_file() or json.loads(about.read_text())["version"] != wanted[name]:
                return False
            if not all((folder / inside / file).is_file() for file in files):
                return False
        return True

    if complete():
        return folders
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("the page needs Node.js, whose npm fetches the pose estimator and the ONNX runtime: install "
                         "it (apt-get install nodejs npm), then give this command again")
    print("npm fetches MediaPipe's pose estimator and the ONNX runtime, once ...", file=sys.stderr)
    done = subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=SOURCE, text=True,
                          capture_output=True)
    if done.returncode or not complete():
        why = " ".join(line for line in done.stderr.splitlines() if "warn" not in line)[:200]
        raise ValueError(f"npm could not fetch the packages of {SOURCE / 'package-lock.json'} ({why or 'no reason'})")
    return folders


def write_networks(models: list[tuple[Path, ExportedModel]], folder: Path) -> list[str]:
    """Copy the files under names that tell them apart; the names."""
    folder.mkdir()
    names: list[str] = []
    for path, model in models:
        about = model.about
        stem = "-".join(about.get(key, "").replace("/", "-") for key in ("recipe", "dataset", "form")).strip("-")
        tail = sum(name == f"{stem}.onnx" or name.startswith(f"{stem}_") for name in names)
        names.append(f"{stem}_{tail + 1}.onnx" if tail else f"{stem}.onnx")
        shutil.copyfile(path, folder / names[-1])
        if "mediapipe33" not in (*model.retarget, model.skeleton["name"]):
            print(f"{path}: a camera's joints cannot be turned into its skeleton {model.skeleton['name']!r}; it plays "
                  "clips only", file=sys.stderr)
    return names


def clearest(model: ExportedModel, folder: Path, clips: list[dict[str, str]]) -> int:
    """The clip to begin with: one that the network names rightly, if it has that name, and is surest of."""
    def sure(clip: dict[str, str]) -> tuple[bool, float]:
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # it says of each clip that joints are turned
                label, p = model.top(model.read(folder / clip["file"]), 1)[0]
        except ValueError:  # of no skeleton that can be turned into the network's
            return False, 0.0
        return label == clip["title"], p

    return max(range(len(clips)), key=lambda i: sure(clips[i]))


def write_clips(folder: Path) -> list[dict[str, str]]:
    """One synthetic clip per action, as .npy; [{file, title}]."""
    folder.mkdir()
    clips = []
    with tempfile.TemporaryDirectory() as raw:
        write_synthetic(raw, workers=1, subjects=(SUBJECT,), replications=1)
        for a, action in enumerate(SYNTHETIC_ACTIONS, 1):
            path = next(Path(raw).glob(f"S*C001P*R001A{a:03}.skeleton"))
            name = f"{action.replace(' ', '-')}.npy"
            np.save(folder / name, read_clip(path))
            clips.append({"file": name, "title": action})
    return clips


def write_page(paths: list[Path], out: Path) -> None:
    """The whole page in a new folder, which then takes the place of `out`."""
    models, folders = [(path, ExportedModel(path)) for path in paths], packages()
    new = out.with_name(f".{out.name}.new")
    with locked(new):
        for left in new.iterdir():  # by a run that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            networks = write_networks(models, new / "networks")
            clips = write_clips(new / "clips")
            start = clearest(models[0][1], new / "clips", clips)
            for file in sorted(SOURCE.iterdir()):
                if file.suffix in (".html", ".css", ".js", ".svg"):
                    shutil.copyfile(file, new / file.name)
            for name, folder in folders.items():
                inside, files, place = NEEDED[name]
                (new / place).mkdir(parents=True)
                for file in files:
                    shutil.copyfile(folder / inside / file, new / place / file)
            (new / "licences.html").write_text(licences(folders), encoding="utf-8")
            (new / MARK).write_text(json.dumps({"networks": networks, "clips": clips, "start": start}, indent=1))
            replace_folder(new, out, out.with_name(f".{out.name}.old"))
        finally:
            shutil.rmtree(new, ignore_errors=True)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6
    print(f"{out}: {len(networks)} network{'s' * (len(networks) > 1)}, {len(clips)} clips, {size:.0f} MB")


def licences(folders: dict[str, Path]) -> str:
    """A page with name, version and licence of what the page carries."""
    rows = ["<tr><td>LAST</td><td></td><td>MIT</td></tr>"]
    for folder in folders.values():
        about = json.loads((folder / "package.json").read_text())
        cells = (html.escape(str(about.get(key, ""))) for key in ("name", "version", "license"))
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return ('<!doctype html><html lang="en"><meta charset="utf-8"><title>Licences</title>'
            '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="style.css">'
            '<main class="plain"><h1>Licences</h1><table><tr><th>part</th><th>version</th><th>licence</th></tr>'
            f'{"".join(rows)}</table><p>A network may be bound by the licence of the recordings that it was trained on.'
            '</p><p><a href="index.html">Back</a></p></main></html>\n')


# ---------------------------------------------------------------------------------------------------------------------
# Serve
# ---------------------------------------------------------------------------------------------------------------------

class Handler(http.server.SimpleHTTPRequestHandler):
    """The files of one folder, with the types that browsers insist on; no listings, and nothing through a link."""
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | TYPES
    timeout = 30  # seconds for a request that does not end

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if not path.resolve().is_relative_to(Path(self.directory).resolve()):
            self.send_error(404)
            return None
        return super().send_head()

    def list_directory(self, path):
        self.send_error(404)

    def end_headers(self):
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A browser that goes away, or sends nonsense, ends its own request and no more."""


def server(folder: Path, port: int) -> Server:
    try:
        return Server(("127.0.0.1", port), functools.partial(Handler, directory=str(folder)))
    except OSError as e:
        raise ValueError(f"serve = {port}: the port cannot be used ({e.strerror}); give another") from None


def main(argv: list[str]) -> None:
    given = options(argv)
    out = Path(given["out"])
    # the port first: if it is taken, the page that is there stays
    with server(out, int(given["serve"])) if given["serve"] else contextlib.nullcontext() as serving:
        if given["model"]:
            write_page([named(path) for path in given["model"].split(",") if path], out)
        if serving:
            print(f"http://127.0.0.1:{given['serve']} shows it; Ctrl-C ends it", flush=True)
            try:
                serving.serve_forever()
            except KeyboardInterrupt:
                sys.exit(130)


if __name__ == "__main__":
    cli(main)
