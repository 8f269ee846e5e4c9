"""Folders of anyone's own clips, to adopt and to read."""
import json
from pathlib import Path

import numpy as np


def labelled_folder(folder: Path, clips: list[np.ndarray], classes: list[str], subjects: int = 4, **meta) -> Path:
    """.npy files c0, c1, ... with labels.csv and skeleton.json; classes and subjects in turn, no subjects if 0."""
    folder.mkdir()
    (folder / "skeleton.json").write_text(json.dumps({"skeleton": "ntu25", "classes": classes} | meta))
    lines = ["name,label" + ",subject" * (subjects > 0)]
    for i, x in enumerate(clips):
        np.save(folder / f"c{i}.npy", x)
        subject = f",{1 + i // 2 % subjects}" if subjects else ""
        lines.append(f"c{i},{classes[i % len(classes)]}{subject}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def relabel(folder: Path, header: str, lines: list[str]) -> None:
    (folder / "labels.csv").write_text("\n".join([header, *lines]))


def class_folders(folder: Path, **classes: list[np.ndarray]) -> Path:
    """<class>/0.npy, <class>/1.npy, ... for each class."""
    for name, clips in classes.items():
        (folder / name).mkdir(parents=True)
        for i, x in enumerate(clips):
            np.save(folder / name / f"{i}.npy", x)
    return folder


def write_table(path: Path, names: list[str], frames: np.ndarray) -> None:
    """A table with these columns, and a row per frame (L, V, C)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [",".join(map(str, frame.ravel().tolist())) for frame in frames]
    path.write_text("\n".join([",".join(names), *rows]))


def write_openpose(folder: Path, frames: np.ndarray) -> None:
    """A folder of frames (L, V, 2) as OpenPose writes them, each joint with a score."""
    folder.mkdir(parents=True)
    for t, frame in enumerate(frames):
        numbers = np.insert(frame, 2, 0.5, axis=1).ravel().tolist()
        text = json.dumps({"people": [{"pose_keypoints_2d": numbers}]})
        (folder / f"v_{t}_keypoints.json").write_text(text)
