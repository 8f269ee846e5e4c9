"""People in front of the page's camera: recorded joints in place of what MediaPipe's estimator finds in a picture."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from skeletons import SKELETONS, Skeleton
from tests.helpers.browser import Browser

# An estimator that finds the joints of `acted` in every picture: it stands in its first frame, and acts as soon as the
# page records, or over and over. One that finds nobody while there are no frames.
STAND_IN = """
globalThis.acted = { frames: [], loop: false, fps: 30 };
globalThis.Pose = class {
  setOptions() {}
  async initialize() {}
  reset() {}
  onResults(listener) { this.listener = listener; }
  async send() {
    const { frames, loop, fps } = globalThis.acted, now = performance.now() / 1000;
    const count = document.getElementById("count"), isRecording = !count.hidden && count.classList.contains("now");
    if (!isRecording && !loop) this.began = null;
    else this.began ??= now;
    const passed = this.began === null || this.began === undefined ? 0 : Math.floor((now - this.began) * fps);
    const at = loop ? passed % (frames.length + fps) : passed, found = frames[Math.min(at, frames.length - 1)];
    const point = ([x, y, z]) => ({ x, y, z, visibility: 1 });
    this.listener(found ? { poseWorldLandmarks: found.map(point),
      poseLandmarks: found.map(([x, y, z]) => ({ x: 0.5 + x / 4, y: 0.5 + y / 3, z, visibility: 1 })) } : {});
  }
};
"""


def utd_clips(folder: Path, action: str) -> list[np.ndarray]:
    """The recordings (L, 20, 3) of an action in UTD-MHAD, those of one person after those of another."""
    about = json.loads((folder / "utd-mhad.json").read_text())
    with np.load(folder / "utd-mhad.npz") as z:
        clips = np.split(z["data"], z["offsets"][1:-1])
        members = np.flatnonzero(z["labels"] == about["classes"].index(action))
    return [clips[i] for i in members]


def utd_skeleton(folder: Path) -> Skeleton:
    return Skeleton.from_dict(json.loads((folder / "utd-mhad.json").read_text())["skeleton"])


def place_of(joint: str) -> str:
    """The Kinect's joint that is nearest to one of MediaPipe's."""
    side, _, part = joint.partition(" ")
    if side not in ("left", "right") or part.split()[0] in ("eye", "ear", "mouth"):
        return "head"
    nearest = {"pinky": "hand", "index": "hand", "thumb": "hand", "heel": "foot", "foot index": "foot", "toe": "foot"}
    return f"{side} {nearest.get(part, part)}"


def landmarks(clip: np.ndarray, skeleton: Skeleton) -> list:
    """World landmarks (L, 33, 3) of a clip (L, V, 3) in metres, y up: from the hips, x right, y down."""
    joints = np.stack([clip[:, skeleton.joints.index(place_of(name))] for name in SKELETONS["mediapipe33"].joints], 1)
    hips = joints[:, 23:25].mean(1, keepdims=True)
    return ((joints - hips) * [-1, -1, 1]).round(4).tolist()


def act(browser: Browser, frames: list, loop: bool = False) -> None:
    """Let somebody do this in front of the camera, once while the page records or over and over."""
    browser.js("globalThis.acted.frames = arguments[0]; globalThis.acted.loop = arguments[1];", frames, loop)
