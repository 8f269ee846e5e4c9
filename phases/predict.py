"""Name the action in a clip with an exported file. It needs onnxruntime and numpy, no torch.

    just predict model=exports/ntu60/lite_small/model.onnx clip=S001C001P001R001A001.skeleton
    just predict model=exports/ntu60/lite_small/model.int8.onnx clip=FOLDER format=csv out=labels.csv
    just predict model=utd_mhad clip=FILE                      a network that comes along, in results/networks
    just predict model=utd_mhad clip=FILE segments=true        the actions in a recording, with start and end
    just predict model=utd_mhad clip=FILE people=each          what each person in it does
    just predict model=utd_mhad clip=FOLDER embeddings=mine.npz      the features of each clip too
    camera | just predict model=exports/ntu60/lite_small/model.onnx stream=true fps=25

clip: .skeleton (NTU RGB+D), .json (Northwestern-UCLA, MediaPipe, OpenPose, Azure Kinect, AlphaPose, YOLO), .csv, .bvh,
.amc with its .asf, .txt (UAV-Human, hand gestures), .npy or .npz (frames, joints, 3) or (bodies, frames, joints, 3), a
folder of OpenPose's or YOLO's frames; or a folder or .zip of clips; or a file of many clips: pyskl's .pkl, a packed or
CTR-GCN's .npz, a clip store (stores/NAME). Class names and view come from the network's metadata. What a clip is
(skeleton, unit, upright axis) is decided by its format; else by the nearest skeleton.json, in the clip's folder or
above it in the data set; else by the network, if it has as many joints; else by a guess, which standard error reports.
A clip of another skeleton is turned into the network's joints where that is possible, else refused; the names of its
joints decide, not its title. What is true of many clips of a folder is reported once, and so are its files that are no
clips.

people=each: an answer for each person of a clip, from the first frame that shows them to the last. They are called as
the file numbers them (AlphaPose's idx, YOLO's track_id, Azure Kinect's body_id, NTU's body ids, a table's column
person), else 1, 2, ... in its order. Without it the most active people are classified together.

embeddings=FILE.npz: arrays name (N,), features (N, C), likeness (N,), label (N,), known (N,), in the order of the
answer; and person (N,) with people=each. Features are what the network's last layer reads. Where known is false, label
is only the nearest class.

segments=true, for recordings that are not cut: one line per movement of people, from rest to rest, with start, end,
label and probability. A movement much longer than training clips is cut where its label changes. Files have no times:
fps= is their rate, without it that of the training clips. A recording that is much longer than training clips is
reported on standard error: its label means little.

stream=true reads one frame per line from standard input. As JSON: joints [[x, y, z], ...], or several bodies [[[x, y,
z], ...], ...]; an empty list is a frame without a body, [0, 0, 0] a missing joint. They are the network's own joints,
in its order, unit and axes (`just info model=utd_mhad` lists them), or those of a skeleton that can be turned into
them. Or a frame as pose estimators write it: MediaPipe's landmarks, OpenPose's people, COCO's keypoints, a frame of
YOLO's, Azure Kinect's or Kinetics-Skeleton's JSON, or an entry per person of AlphaPose's or COCO's results. Or lines of
CSV, with a header or without one, a row per frame or per joint. Frames come at fps=, by default the rate of the
training clips, or tell their time in seconds: {"t": 12.04, "joints": [...]}, {"t": 12.04, "landmarks": [...]}; or in a
column of a table: time, timestamp, time_ms. While people stand, or move in a way that is none of the network's actions,
nothing is printed. While a movement goes on, a line tells its start and its action, once half (needs=) of a training
clip's length has passed and one label has stayed above 80 % (sure=) for 0.2 s (hold=). When it has ended, by 0.8
seconds of rest, another line tells start and end:

    12.3 s: sit down (89 %)
    12.3 to 14.1 s: sit down (97 %)

or {"start": 12.3, "end": null, "label": "sit down", ...} with format=json, which also has the movements that are none
of the network's actions ("known": false). At the end, standard error gets the milliseconds per frame. A line that is no
frame is skipped; each kind of fault is reported once. After two seconds without a frame the stream starts anew.

Exit codes: 0 done, 2 bad input, 3 some files of a folder were skipped, each named with its reason, 130 interrupted.
"""
from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from phases.common.command import run
from phases.common.files import atomic, check_writable
from phases.common.limits import CLASSES, FPS
from phases.recordings.poses import is_clip
from phases.recordings.readers import READABLE
from phases.recordings.sets import PICKLES
from phases.shipping.answers import Named, action_text, answer_text, embeddings
from phases.shipping.clip_sources import answers_to
from phases.shipping.exported import ExportedModel, model_file
from phases.shipping.movements import LONG, STILL, at_rate

if TYPE_CHECKING:
    from phases.shipping.events import Hearing


@dataclass(frozen=True)
class Options:
    model: Annotated[str, "a file of `just phase4`, or the name of a network in results/networks, such as utd_mhad"]
    clip: Annotated[Path | None, "a file, or a folder of files"] = None
    stream: Annotated[bool, "classify frames on standard input"] = False
    format: Annotated[Literal["text", "csv", "json"], "of the answer"] = "text"
    people: Annotated[Literal["main", "each"], "in a clip: the main ones together, or an answer for each"] = "main"
    out: Annotated[Path | None, "a file for the answer; without it, standard output"] = None
    embeddings: Annotated[Path | None, "an .npz file for the features of each clip"] = None
    top: Annotated[int, (1, CLASSES), "names per clip"] = 5
    segments: Annotated[bool, "of a clip that is not cut: each of its actions with start and end"] = False
    fps: Annotated[float | None, FPS, "frames per second of a stream or clip; without it, of the training clips"] = None
    window: Annotated[float | None, (0.1, 600), "seconds an action lasts; without it, the training clips'"] = None
    still: Annotated[float, (0.01, 100), "metres per second: who is slower stands still"] = STILL
    sure: Annotated[float, (0, 1), "of a stream: the least probability of an action that goes on"] = 0.8
    hold: Annotated[float, (0, 60), "of a stream: seconds for which it has to be the same"] = 0.2
    needs: Annotated[float, (0, 1), "of a stream: the share of the window that has to be seen before"] = 0.5

    def __post_init__(self):
        if self.stream == (self.clip is not None):
            both = ", not both" if self.stream else ""
            raise ValueError(f"give clip=FILE or FOLDER, or stream=true for frames on standard input{both}")
        if self.stream and self.people == "each":
            raise ValueError("people=each is for clip=: stream=true tells what the most active people do")
        if self.stream and (self.format == "csv" or self.out):
            raise ValueError("stream=true prints lines of text, or of JSON (format=json): it takes no csv and no out=")
        if self.segments and self.stream:
            raise ValueError("segments=true is for clip=; stream=true tells start and end anyway")
        if self.embeddings and (self.stream or self.segments or self.embeddings.suffix != ".npz"):
            raise ValueError(f"embeddings = {self.embeddings}: takes an .npz file, for whole clips (clip= without "
                             "segments=true)")
        for key, path in (("out", self.out), ("embeddings", self.embeddings)):
            if path and not path.absolute().parent.is_dir():
                raise ValueError(f"{key} = {path}: there is no folder {path.absolute().parent}")
            if path:
                check_writable(path, f"another {key}=FILE")


def main(options: Options) -> int:
    path = model_file(options.model)
    model = ExportedModel(path)
    warn_of_losses(path, model)

    fps = options.fps or model.fps
    window = options.window or model.length / model.fps

    # frames, until the input ends
    if options.stream:
        from phases.shipping.live import stream
        sys.stdin.reconfigure(errors="replace")  # bytes that are no text make a bad line, and do not end the stream
        stream(model, sys.stdin, fps, hearing_of(options, window), options.format)
        return 0

    # the actions in recordings, or the names of whole clips
    each = options.people == "each"
    if options.segments:
        from phases.shipping.events import events_of
        hearing = hearing_of(options, window)
        found, skipped = answers_to(model, options.clip, lambda _, joints: events_of(model, joints, fps, hearing), each)
        text = action_text(found, options.format)
    else:
        def answer(where: Path, joints: np.ndarray) -> Named:
            return named(model, where, while_seen(joints) if each else joints, options.top, fps)

        found, skipped = answers_to(model, options.clip, answer, each)
        text = answer_text(found, options.format)
        if options.embeddings:
            save_embeddings(embeddings(found), options.embeddings)
    if options.out:
        save(text, options.out, path)
    else:
        print(text, end="")
    return 3 if skipped else 0


def hearing_of(options: Options, window: float) -> Hearing:
    """When a label is told. What follows movements is imported when it is needed: whole clips are named sooner."""
    from phases.shipping.events import Hearing
    return Hearing(window, options.sure, options.hold, options.needs, options.still)


def warn_of_losses(path: Path, model: ExportedModel) -> None:
    """Standard error: a file that phase 4 did not accept."""
    if model.about.get("accepted") == "false":
        print(f"{path}: lost too much accuracy when it was exported (accepted: false in its metadata): use another "
              "form of this network; its report.md names those that pass", file=sys.stderr)


def while_seen(joints: np.ndarray) -> np.ndarray:
    """Joints (1, L, V, 3) from the first frame that shows the person to the last one."""
    seen = np.flatnonzero(joints.any((0, 2, 3)))
    return joints[:, seen[0]:seen[-1] + 1]


def named(model: ExportedModel, where: Path, joints: np.ndarray, top: int, fps: float) -> Named:
    """The `top` most probable names of a clip, and whether it shows any of the classes."""
    lasts = joints.shape[1] / fps
    usual = model.length / model.fps
    if lasts > LONG * usual:
        much = f"training clips {usual:.1f} s: segments=true lists the actions in"
        model.notes.add(where, f"lasts {lasts:.1f} s, {much} it", f"they last much longer than {much} them")

    # as many frames a second as the training clips had
    answer = model.answer(at_rate(joints, np.arange(joints.shape[1]) / fps, model.fps))
    return Named(model.ranking(answer.probabilities, top), model.is_known(answer), answer.likeness,
                 answer.features)


# ---------------------------------------------------------------------------------------------------------------------
# A file for the answer
# ---------------------------------------------------------------------------------------------------------------------

def save(text: str, out: Path, model: Path) -> None:
    """Write the answer, whole or not at all."""
    check_out(out, model, text)
    with atomic(out) as part:
        part.write_text(text)


def save_embeddings(arrays: dict[str, np.ndarray], out: Path) -> None:
    """Write the arrays, whole or not at all; ValueError if the file is there and holds anything else."""
    if out.exists():
        try:
            with np.load(out) as old:
                is_answer = set(old.files) == set(arrays)
        except (ValueError, OSError):
            is_answer = False
        if not is_answer:
            raise ValueError(f"embeddings = {out}: exists, and would be lost; give another name")
    with atomic(out) as part, part.open("wb") as file:
        np.savez(file, **arrays)


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
    is_precious = out.resolve() == model.resolve() or is_recording or suffix in (".onnx", ".csv", *PICKLES)
    if is_precious and not is_answer:
        raise ValueError(f"out = {out}: exists, and would be lost; give another name")


if __name__ == "__main__":
    run(main, Options, interrupted="")
