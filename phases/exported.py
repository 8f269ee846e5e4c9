"""An exported file at work: its session, its metadata, and its view of a clip. numpy and onnxruntime alone, no torch.
"""
from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np


class Model:
    """An exported file: its session and its metadata."""

    def __init__(self, path: Path):
        import onnxruntime
        if not path.is_file():
            raise ValueError(f"model = {path}: " + ("is a folder; give a file in it, such as model.onnx" if path.is_dir() else
                                                    "no such file; make one with `just phase4 recipe=...`"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3  # one thread is the fastest for one clip
        options.add_session_config_entry("session.disable_quant_qdq", str(int(path.name.endswith(".w8.onnx"))))
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
            about = self.session.get_modelmeta().custom_metadata_map
        except Exception as e:  # onnxruntime has exceptions of its own for damaged files
            raise ValueError(f"model = {path}: is no ONNX file that can be used ({' '.join(str(e).split())[:120]})") from None
        if about.get("format") != "LAST 1":
            raise ValueError(f"model = {path}: carries no metadata of this project; export it with `just phase4 recipe=...`")
        self.skeleton, self.classes, self.view = (json.loads(about[k]) for k in ("skeleton", "classes", "view"))

    def __call__(self, joints: np.ndarray) -> np.ndarray:
        """Probabilities (K,) for joints (M, L, V, 3) in metres, as phase 0 reads them."""
        logits = self.session.run(["logits"], {"joints": as_seen(joints, self.view, self.skeleton)[None]})[0][0]
        p = np.exp(logits - logits.max())
        return p / p.sum()


def frames_seen(length: int, T: int, sampling: str) -> np.ndarray:
    """Frame numbers (T,) of the test view: last.sample_frames without its random part."""
    t = np.arange(T)
    if sampling == "crop":
        return (int((max(length, 300, T) - T + 1) * 0.5) + t) % length
    if sampling == "uniform" and length < T:
        return np.minimum(t, length - 1)
    return ((t + np.float32(0.5)) * np.float32(length) / np.float32(T)).astype(int)


def smoothed(joints: np.ndarray, std: float) -> np.ndarray:
    """Joints (M, L, V, 3) as Gaussian means over time; joints that are missing, 0, count nowhere and stay missing."""
    if not std:
        return joints
    reach, t = math.ceil(3 * std), np.arange(joints.shape[1])
    total, weights, there = np.zeros_like(joints), 0.0, joints.any(-1, keepdims=True)
    for o in range(-reach, reach + 1):
        at = np.clip(t + o, 0, len(t) - 1)
        weight = np.float32(math.exp(-0.5 * (o / std) ** 2)) * there[:, at]
        total, weights = total + weight * joints[:, at], weights + weight
    return total / np.maximum(weights, 1e-12) * there


def as_seen(joints: np.ndarray, view: dict, skeleton: dict) -> np.ndarray:
    """The test view (M, T, V, 3) of a clip (any number of bodies, L, V, 3): what last.ClipView makes of it, in numpy."""
    joints = np.asarray(joints, np.float32)[:view["bodies"]]
    bodies, length = joints.shape[:2]
    seen = joints.any(3)                                                                    # m l v
    first = seen[0].any(1).argmax() if seen[0].any() else length - 1                        # of the main body
    middle = [v for v in skeleton["centre"] if seen[0, first, v]] or np.flatnonzero(seen[0, first])
    centre, linear = joints[0, first, middle].sum(0) / max(1, len(middle)), np.eye(3, dtype=np.float32)
    if view["heading"] or view["trunk_scale"]:
        four = [j[0] for j in skeleton["trunk"]]
        (ls, rs, lh, rh), whole = joints[0][:, four].swapaxes(0, 1), seen[0][:, four].all(1)  # l 3 each, l
        if view["heading"]:
            across = (ls + lh - rs - rh)[whole].sum(0)
            a = np.arctan2(across[2], across[0])
            linear = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]], np.float32)
        if view["trunk_scale"]:
            size = np.linalg.norm((ls + rs - lh - rh)[first] / 2)
            linear = linear * np.float32(0.5 / (size if size > 1e-3 and whole[first] else 0.5))
    at = frames_seen(length, view["frames"], view["sampling"])
    x, seen = (smoothed(joints, view.get("smooth", 0))[:, at] - centre) @ linear, seen[:, at]  # m t v 3
    if view["extent"] and seen.any():
        size = np.ptp(x[seen], axis=0).max()
        x = x * np.float32(2 / (size if size > 1e-3 else 2))
    out = np.zeros((view["bodies"], *x.shape[1:]), np.float32)
    out[:bodies] = x * seen[..., None]
    return out
