"""The folder of `just page`: networks, synthetic clips, the JavaScript of page/, and the packages that it needs."""
from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import jinja2
import numpy as np

from phases.common.files import check_writable, locked, replace_folder
from phases.recordings.puppet import SYNTHETIC_ACTIONS, write_synthetic
from phases.recordings.readers import read_clip
from phases.recordings.skeleton_guess import SELDOM, SENSORS
from phases.shipping.exported import ExportedModel
from phases.shipping.node_packages import copy_packages, fetch_packages
from skeletons import RECORDED, SKELETONS, spelled

SOURCE = Path(__file__).resolve().parent / "page"
LICENCES = "licences.html.j2"
MARK = "page.json"  # a page's list of networks and clips; a folder with it is a page
CAMERA = "mediapipe33"  # the skeleton of a camera's joints
SYNTHETIC_SKELETON = "ntu25"
SUBJECT = 6  # of the synthetic clips: one of the test side, unknown to a network of the demonstration


def write_page(paths: list[Path], out: Path) -> None:
    """The whole page in a new folder, which then takes the place of `out`."""
    # all that can be missing, before anything is written
    check_writable(out, "another out=FOLDER")
    models = [(path, ExportedModel(path)) for path in paths]
    packages = fetch_packages(SOURCE)

    # a new folder, which is kept if it is complete
    new = out.with_name(f".{out.name}.new")
    with locked(new):
        empty(new)  # of what a killed run left
        try:
            fill(new, models, packages)
            replace_folder(new, out, out.with_name(f".{out.name}.old"))
        finally:
            shutil.rmtree(new, ignore_errors=True)

    # the summary
    listed = json.loads((out / MARK).read_text())
    networks, clips = len(listed["networks"]), len(listed["clips"])
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6
    print(f"{out}: {networks} network{'s' * (networks > 1)}, {clips} clips, {size:.0f} MB")


def empty(folder: Path) -> None:
    """Delete everything in a folder."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def fill(folder: Path, models: list[tuple[Path, ExportedModel]], packages: dict[str, Path]) -> None:
    """Write all that the page needs into an empty folder."""
    # networks, clips, and the clip to begin with
    networks = write_networks(models, folder / "networks")
    clips = write_clips(folder / "clips")
    start = clearest(models[0][1], folder / "clips", clips)

    # the page itself, and the packages
    write_sources(folder)
    copy_packages(packages, folder)
    (folder / "licences.html").write_text(licences(packages), encoding="utf-8")

    # last, because it marks a page
    (folder / MARK).write_text(json.dumps({"networks": networks, "clips": clips, "start": start}, indent=1))


def write_sources(folder: Path) -> None:
    """What the page consists of: the files of page/, and skeletons.js."""
    for file in sorted(SOURCE.iterdir()):
        if file.suffix in (".html", ".css", ".js", ".svg"):
            shutil.copyfile(file, folder / file.name)
    (folder / "skeletons.js").write_text(skeletons_module(), encoding="utf-8")


def skeletons_module() -> str:
    """The known skeletons as a module of JavaScript, with joints as `spelled`, and which of them are guessed when."""
    bodies = {name: asdict(body) | {"joints": list(map(spelled, body.joints))} for name, body in SKELETONS.items()}
    constants = {"SKELETONS": bodies, "RECORDED": [body.name for body in RECORDED], "SENSORS": SENSORS,
                 "SELDOM": SELDOM}
    lines = [f"export const {name} = {json.dumps(value)};" for name, value in constants.items()]
    return "\n".join(["// Made by phases/shipping/web_page.py of skeletons.py and skeleton_guess.py.", *lines, ""])


# ---------------------------------------------------------------------------------------------------------------------
# Networks
# ---------------------------------------------------------------------------------------------------------------------

def write_networks(models: list[tuple[Path, ExportedModel]], folder: Path) -> list[str]:
    """Copy the files under names that tell them apart; the names."""
    folder.mkdir()
    names: list[str] = []
    for path, model in models:
        names.append(network_file(model.about, names))
        shutil.copyfile(path, folder / names[-1])

        # a network that cannot follow a camera
        if CAMERA not in (*model.retarget, model.skeleton["name"]):
            print(f"{path}: a camera's joints cannot be turned into its skeleton {model.skeleton['name']!r}; it plays "
                  "clips only", file=sys.stderr)
    return names


def network_file(about: dict[str, str], taken: list[str]) -> str:
    """<recipe>-<dataset>-<form>.onnx, with _2, _3 and so on if the name is taken."""
    words = [about.get(key, "").replace("/", "-") for key in ("recipe", "dataset", "form")]
    stem = "-".join(words).strip("-")
    alike = sum(name == f"{stem}.onnx" or name.startswith(f"{stem}_") for name in taken)
    return f"{stem}_{alike + 1}.onnx" if alike else f"{stem}.onnx"


# ---------------------------------------------------------------------------------------------------------------------
# Clips
# ---------------------------------------------------------------------------------------------------------------------

def write_clips(folder: Path) -> list[dict[str, str]]:
    """One synthetic clip per action, as .npy; [{file, title, skeleton}]. Beside them skeleton.json, as in any data set.
    """
    folder.mkdir()
    (folder / "skeleton.json").write_text(json.dumps({"skeleton": SYNTHETIC_SKELETON}))
    clips = []

    # one subject's recordings of every action; of each, the one of the first camera
    with tempfile.TemporaryDirectory() as raw:
        write_synthetic(raw, workers=1, subjects=(SUBJECT,), replications=1)
        for number, action in enumerate(SYNTHETIC_ACTIONS, 1):
            recording = next(Path(raw).glob(f"S*C001P*R001A{number:03}.skeleton"))
            name = f"{action.replace(' ', '-')}.npy"
            np.save(folder / name, read_clip(recording))
            clips.append({"file": name, "title": action, "skeleton": SYNTHETIC_SKELETON})
    return clips


def clearest(model: ExportedModel, folder: Path, clips: list[dict[str, str]]) -> int | None:
    """The clip to begin with: one that the network knows, names rightly if it has that name, and is surest of.

    None, reported on standard error, if the clips' skeleton cannot be turned into the network's.
    """
    if SYNTHETIC_SKELETON not in (*model.retarget, model.skeleton["name"]):
        print(f"the page's clips are of {SYNTHETIC_SKELETON}, which cannot be turned into the skeleton "
              f"{model.skeleton['name']!r} of its first network: it begins without a clip", file=sys.stderr)
        return None

    def rank(i: int) -> tuple[bool, bool, float]:
        with contextlib.redirect_stderr(io.StringIO()):  # reading reports of each clip that joints are turned
            answer = model.answer(model.read(folder / clips[i]["file"]))
        label, p = model.ranking(answer.probabilities, 1)[0]
        return model.is_known(answer), label == clips[i]["title"], p

    # of equals the first
    return max(range(len(clips)), key=rank)


# ---------------------------------------------------------------------------------------------------------------------
# Licences
# ---------------------------------------------------------------------------------------------------------------------

def licences(packages: dict[str, Path]) -> str:
    """A page with name, version and licence of each part."""
    parts = [{"name": "LAST", "version": "", "license": "MIT"}]
    for folder in packages.values():
        parts.append(json.loads((folder / "package.json").read_text()))
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(SOURCE), autoescape=True)
    return pages.get_template(LICENCES).render(parts=parts)
