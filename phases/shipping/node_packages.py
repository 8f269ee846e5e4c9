"""The two packages of Node.js that the page needs: MediaPipe's pose estimator and the ONNX runtime for browsers."""
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Needed(NamedTuple):
    """The files of a package that the page takes."""
    inside: str                 # their folder in the package
    files: tuple[str, ...]
    place: str                  # their folder in the page


POSE = ("pose.js", "pose_solution_packed_assets.data", "pose_solution_packed_assets_loader.js",
        "pose_solution_simd_wasm_bin.js", "pose_solution_simd_wasm_bin.wasm", "pose_web.binarypb",
        "pose_landmark_lite.tflite", "pose_landmark_full.tflite")
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
NEEDED = {"@mediapipe/pose": Needed("", POSE, "lib/pose"), "onnxruntime-web": Needed("dist", RUNTIME, "lib/ort")}


def fetch_packages(source: Path) -> dict[str, Path]:
    """{package: its folder} at the versions of source/package.json; `npm ci` fetches them if one is missing."""
    versions = json.loads((source / "package.json").read_text())["dependencies"]
    folders = {name: source / "node_modules" / name for name in versions}

    def complete() -> bool:
        return all(is_complete(name, folders[name], version) for name, version in versions.items())

    # fetched for an earlier page
    if complete():
        return folders

    # missing, or of another version
    done = run_npm(source)
    if done.returncode or not complete():
        why = " ".join(line for line in done.stderr.splitlines() if "warn" not in line)[:200]
        raise ValueError(f"npm could not fetch the packages of {source / 'package-lock.json'} ({why or 'no reason'})")
    return folders


def is_complete(name: str, folder: Path, version: str) -> bool:
    """Whether a package has this version and every file that the page needs."""
    about = folder / "package.json"
    if not about.is_file() or json.loads(about.read_text())["version"] != version:
        return False
    needed = NEEDED[name]
    return all((folder / needed.inside / file).is_file() for file in needed.files)


def run_npm(source: Path) -> subprocess.CompletedProcess:
    """`npm ci` in the folder; ValueError without npm."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("the page needs Node.js, whose npm fetches the pose estimator and the ONNX runtime: install "
                         "it (apt-get install nodejs npm), then give this command again")
    print("npm fetches MediaPipe's pose estimator and the ONNX runtime, once ...", file=sys.stderr)
    return subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=source, text=True,
                          capture_output=True)


def copy_packages(folders: dict[str, Path], page: Path) -> None:
    """Copy what the page needs of each package into its place in the page."""
    for name, folder in folders.items():
        needed = NEEDED[name]
        place = page / needed.place
        place.mkdir(parents=True)
        for file in needed.files:
            shutil.copyfile(folder / needed.inside / file, place / file)
