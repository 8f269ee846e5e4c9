"""Videos in place of recordings: this project reads poses; the message names an estimator and its command. No numpy."""
from __future__ import annotations

from pathlib import Path

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
DEPTH = 4   # folders below which no video is looked for


def is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.name[0] != "."


def first_video(raw: Path) -> Path | None:
    """A video: the path itself, or one in a folder."""
    if not raw.is_dir():
        return raw if is_video(raw) else None
    for depth in range(1, DEPTH + 1):
        found = next((path for path in sorted(raw.glob("/".join("*" * depth))) if is_video(path)), None)
        if found:
            return found
    return None


def check_videos(raw: Path) -> None:
    """ValueError for videos, with what makes poses of them."""
    video = first_video(raw)
    if video:
        raise ValueError(f"{raw}: holds videos ({video.name}), and poses are read: make a folder of them per "
                         "video with a pose estimator, such as `pip install ultralytics` and `yolo pose track "
                         f"model=yolo11n-pose.pt source={video} save_txt=True project=poses name={video.stem}`; the "
                         f"folder poses/{video.stem}/labels is a clip")
