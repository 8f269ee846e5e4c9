"""Name the action in a clip with an exported file. It needs onnxruntime and numpy, no torch.

    just predict model=exports/ntu60/lite_small/model.onnx clip=S001C001P001R001A001.skeleton
    just predict model=exports/ntu60/lite_small/model.int8.onnx clip=FOLDER format=csv out=labels.csv
    just predict model=utd_mhad clip=FILE                      a network that comes along, in results/networks
    camera | just predict model=exports/ntu60/lite_small/model.onnx stream=true

clip: .skeleton (NTU RGB+D), .json (Northwestern-UCLA, MediaPipe, OpenPose, Azure Kinect, AlphaPose, YOLO), .csv, .bvh,
.amc with its .asf, .txt (UAV-Human, hand gestures), .npy or .npz (frames, joints, 3) or (bodies, frames, joints, 3), a
folder of OpenPose's or YOLO's frames; or a folder or .zip of clips. Class names and view come from the network's
metadata. What a clip is (skeleton, unit, upright axis) is decided by its format; else by the nearest skeleton.json, in
the clip's folder or above it in the data set; else by the network, if it has as many joints; else by a guess, which
standard error reports. A clip of another skeleton is turned into the network's joints where that is possible, else
refused; the names of its joints decide, not its title.

stream=true reads one frame per line from standard input, as JSON: joints [[x, y, z], ...], or several bodies
[[[x, y, z], ...], ...]; an empty list is a frame without a body, [0, 0, 0] a missing joint. They are the network's own
joints, in its order, unit and axes (`just info model=utd_mhad` lists them), or those of a skeleton that can be turned
into them, such as MediaPipe's 33. The newest frames are classified at every frame. A line is printed as soon as one
class has led for hold=5 frames with a probability of at least sure=0.8, and again when another class does:
`frame 26: sit down (89 %)`, or {"frame": 26, "label": "sit down", ...} with format=json. At the end, standard error
gets the milliseconds per frame. A file made with `just phase4 ... causal=true` suits this best, if the network was
trained for it (train.causal): its temporal convolutions read no frame ahead. A line that is no frame is skipped; each
kind of fault is reported once. After two seconds without a frame the window starts anew.

Exit codes: 0 done, 2 bad input, 3 some files of a folder were skipped, each named with its reason, 130 interrupted.
"""
from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np

from phases.common.command import run
from phases.common.files import atomic
from phases.common.limits import CLASSES, FRAMES
from phases.recordings.archives import unpacked
from phases.recordings.poses import is_clip, is_frames
from phases.recordings.readers import READABLE
from phases.recordings.videos import check_videos
from phases.shipping.exported import ExportedModel, model_file
from phases.shipping.live import stream


class Named(NamedTuple):
    """The answer to one clip."""
    ranking: list[tuple[str, float]]    # (label, probability), the most probable first
    is_known: bool                      # false: none of these
    likeness: float


@dataclass(frozen=True)
class Options:
    model: Annotated[str, "a file of `just phase4`, or the name of a network in results/networks, such as utd_mhad"]
    clip: Annotated[Path | None, "a file, or a folder of files"] = None
    stream: Annotated[bool, "classify frames on standard input"] = False
    format: Annotated[Literal["text", "csv", "json"], "of the answer"] = "text"
    out: Annotated[Path | None, "a file for the answer; without it, standard output"] = None
    top: Annotated[int, (1, CLASSES), "names per clip"] = 5
    sure: Annotated[float, (0, 1), "of a stream: the least probability of a label"] = 0.8
    hold: Annotated[int, (1, FRAMES), "of a stream: frames for which a class has to lead"] = 5
    window: Annotated[int | None, (1, FRAMES), "of a stream: newest frames; without it, as many as the network sees"
                      ] = None

    def __post_init__(self):
        if self.stream == (self.clip is not None):
            both = ", not both" if self.stream else ""
            raise ValueError(f"give clip=FILE or FOLDER, or stream=true for frames on standard input{both}")
        if self.stream and (self.format == "csv" or self.out):
            raise ValueError("stream=true prints lines of text, or of JSON (format=json): it takes no csv and no out=")
        if self.out and not self.out.absolute().parent.is_dir():
            raise ValueError(f"out = {self.out}: there is no folder {self.out.absolute().parent}")


def main(options: Options) -> int:
    path = model_file(options.model)
    model = ExportedModel(path)
    warn_of_losses(path, model)

    # frames, until the input ends
    if options.stream:
        sys.stdin.reconfigure(errors="replace")  # bytes that are no text make a bad line, and do not end the stream
        window = options.window or model.view["frames"]
        stream(model, sys.stdin, options.sure, options.hold, window, options.format)
        return 0

    # one clip, or those in a folder
    found, skipped = classify(model, options.clip, options.top)
    text = answer_text(found, options.format)
    if options.out:
        save(text, options.out, path)
    else:
        print(text, end="")
    return 3 if skipped else 0


def warn_of_losses(path: Path, model: ExportedModel) -> None:
    """Standard error: a file that phase 4 did not accept."""
    if model.about.get("accepted") == "false":
        print(f"{path}: lost too much accuracy when it was exported (accepted: false in its metadata): use another "
              "form of this network; its report.md names those that pass", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------------------
# Clips
# ---------------------------------------------------------------------------------------------------------------------

def recordings(clip: Path) -> dict[str, Path]:
    """{name: file}: every readable file below a folder, named by its path in it; or the one file."""
    if not clip.exists():
        raise ValueError(f"clip = {clip}: no such file or folder")
    if clip.is_file():
        check_videos(clip)
    if not clip.is_dir() or is_frames(clip):
        return {str(clip): clip}

    # a folder of OpenPose's frames is one clip, and its files are none
    below = list(clip.rglob("*"))
    folders = [p for p in below if p.is_dir() and is_frames(p)]
    files = [p for p in below if is_clip_name(p) and p.parent not in folders]
    if not folders and not files:
        check_videos(clip)
        raise ValueError(f"clip = {clip}: holds no {', '.join(READABLE)} file")
    return {str(p.relative_to(clip)): p for p in sorted([*folders, *files])}


def is_clip_name(path: Path) -> bool:
    """Whether a file in a folder of clips is one, by its name; a .txt file by its first line."""
    return path.is_file() and is_clip(path)


def named(model: ExportedModel, joints: np.ndarray, top: int) -> Named:
    """The `top` most probable names of joints (M, L, V, 3) in metres, and whether they show any of the classes."""
    answer = model.answer(joints)
    return Named(model.ranking(answer.probabilities, top), model.is_known(answer), answer.likeness)


def classify(model: ExportedModel, clip: Path, top: int) -> tuple[list[tuple[str, Named]], int]:
    """The answer to each clip, with `top` names, and how many files of a folder were skipped."""
    # a single file that cannot be used is an error, one of many is left out
    clip = unpacked(clip)
    found = []
    skipped = 0
    for name, path in recordings(clip).items():
        try:
            found.append((name, named(model, model.read(path), top)))
        except (ValueError, OSError) as e:
            if not clip.is_dir():
                raise
            skipped += 1
            print("skipped:", " ".join(str(e).split()), file=sys.stderr)

    if not found:
        raise ValueError(f"clip = {clip}: none of its {skipped} files could be used")
    return found, skipped


# ---------------------------------------------------------------------------------------------------------------------
# The answer
# ---------------------------------------------------------------------------------------------------------------------

def answer_text(found: list[tuple[str, Named]], form: str) -> str:
    """The names of each clip in one of the forms text, csv and json."""
    writers = {"text": plain_text, "csv": csv_text, "json": json_text}
    return writers[form](found)


def plain_text(found: list[tuple[str, Named]]) -> str:
    lines = []
    for clip, answer in found:
        lines.append(clip)
        if not answer.is_known:
            label, p = answer.ranking[0]
            lines.append(f"  none of these ({label} {100 * p:.0f} %)")
        lines += [f"  {100 * p:5.1f} %  {label}" for label, p in answer.ranking]
    return "\n".join(lines) + "\n"


def csv_text(found: list[tuple[str, Named]]) -> str:
    """Columns clip, rank, label, probability, known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("clip", "rank", "label", "probability", "known"))
    for clip, answer in found:
        known = str(answer.is_known).lower()
        for rank, (label, p) in enumerate(answer.ranking, 1):
            writer.writerow((clip, rank, label, f"{p:.6f}", known))
    return text.getvalue()


def json_text(found: list[tuple[str, Named]]) -> str:
    """[{clip, known, likeness, top: [{label, probability}, ...]}, ...]"""
    rows = []
    for clip, answer in found:
        top = [{"label": label, "probability": round(p, 6)} for label, p in answer.ranking]
        rows.append({"clip": clip, "known": answer.is_known, "likeness": round(answer.likeness, 6), "top": top})
    return json.dumps(rows, indent=1) + "\n"


def save(text: str, out: Path, model: Path) -> None:
    """Write the answer, whole or not at all."""
    check_out(out, model, text)
    with atomic(out) as part:
        part.write_text(text)


def check_out(out: Path, model: Path, text: str) -> None:
    """ValueError if the answer would replace a clip, a model or a table of labels. It may replace an earlier answer."""
    if out.is_dir():
        raise ValueError(f"out = {out}: is a folder; give a file in it")
    if not out.exists():
        return

    # an earlier answer begins as this one does
    suffix = out.suffix.lower()
    is_answer = suffix in (".csv", ".json") and out.read_text(errors="replace")[:10] == text[:10]
    is_recording = suffix in READABLE and (suffix != ".txt" or is_clip(out))
    is_precious = out.resolve() == model.resolve() or is_recording or suffix in (".onnx", ".csv")
    if is_precious and not is_answer:
        raise ValueError(f"out = {out}: exists, and would be lost; give another name")


if __name__ == "__main__":
    run(main, Options, interrupted="")
