"""Name the action in a clip with an exported file. It needs onnxruntime and numpy, no torch.

    just predict model=exports/lite_small/model.onnx clip=S001C001P001R001A001.skeleton
    just predict model=exports/lite_small/model.int8.onnx clip=FOLDER format=csv out=labels.csv
    just predict model=utd_mhad clip=FILE                      a network that comes along, in results/networks
    camera | just predict model=exports/lite_small/model.onnx stream=true

clip: .skeleton (NTU RGB+D), .json (Northwestern-UCLA, MediaPipe, OpenPose), .csv, .npy or .npz (frames, joints, 3) or
(bodies, frames, joints, 3), a folder of OpenPose's frames; or a folder of clips. Skeleton, class names, view, unit and
upright axis come from the file's metadata. A clip of another skeleton is turned into the network's joints if they can
be had (retarget.py), else refused; skeleton.json beside it may name its skeleton. format: text, csv or json; top=5
names.

stream=true reads one frame per line from standard input, as JSON: joints [[x, y, z], ...], or several bodies
[[[x, y, z], ...], ...]; an empty list is a frame without a body, [0, 0, 0] a missing joint. They are the network's own
joints, in its order, unit and axes (`just info model=utd_mhad` lists them), or those of a skeleton that can be turned
into them, such as MediaPipe's 33. The newest window frames (the network's T) are classified at every frame. A line is
printed as soon as one class has led for hold=5 frames with a probability of at least sure=0.8, and again when another
class does: `frame 26: sit down (89 %)`, or {"frame": 26, "label": "sit down", ...} with format=json. At the end come
the milliseconds per frame. A file made with `just phase4 ... causal=true` suits this best, if the network was trained
for it (train.causal): its temporal convolutions read no frame ahead. A line that is no frame is skipped, which is said
once for each kind of fault; after two seconds without a frame the window starts anew.
Exit codes: 0 done, 2 bad input, 3 some files of a folder were skipped, each named with its reason, 130 interrupted.
"""
from __future__ import annotations

import csv
import difflib
import io
import json
import os
import sys
from pathlib import Path

from phases.recordings.poses import is_frames
from phases.recordings.readers import READABLE
from phases.shipping.exported import ExportedModel, named
from phases.shipping.live import stream

Ranking = list[tuple[str, float]]  # (label, probability), the most probable first


def options(argv: list[str]) -> dict:
    """The command line, checked; ValueError names what is wrong and what is possible."""
    given = {"model": "", "clip": "", "stream": "false", "format": "text", "out": "", "top": "5", "sure": "0.8",
             "hold": "5", "window": ""}
    seen: set[str] = set()
    for arg in argv:
        key, eq, value = arg.partition("=")
        if not eq or key not in given:
            close = difflib.get_close_matches(key, given, n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"unknown argument {arg!r}{hint} (known: {', '.join(given)})")
        if key in seen:
            what = "file or folder" if key == "clip" else "value"
            raise ValueError(f"{key}= is given twice: one {what} at a time")
        seen.add(key)
        given[key] = value
    for key, known in (("format", ("text", "csv", "json")), ("stream", ("true", "false"))):
        if given[key] not in known:
            raise ValueError(f"{key} = {given[key]!r}: must be {' or '.join(known)}")
    try:
        given |= {"top": int(given["top"]), "hold": int(given["hold"]), "sure": float(given["sure"]),
                  "window": int(given["window"] or 0)}
    except ValueError:
        raise ValueError("top, hold, window and sure must be numbers") from None
    if min(given["top"], given["hold"]) < 1 or given["window"] < 0 or not 0 <= given["sure"] <= 1:
        raise ValueError("top, hold and window must be at least 1, sure must lie in 0 to 1")
    if not given["model"]:
        raise ValueError("no model: give model=FILE.onnx, as `just phase4` writes it, or a name in results/networks, "
                         "such as model=utd_mhad")
    streams = given["stream"] == "true"
    if bool(given["clip"]) == streams:
        both = ", not both" if streams else ""
        raise ValueError(f"give clip=FILE or FOLDER, or stream=true for frames on standard input{both}")
    if streams and (given["format"] == "csv" or given["out"]):
        raise ValueError("stream=true prints lines of text, or of JSON (format=json): it takes no csv and no out=")
    folder = Path(given["out"]).absolute().parent
    if given["out"] and not folder.is_dir():
        raise ValueError(f"out = {given['out']}: there is no folder {folder}")
    return given


def recordings(clip: Path) -> dict[str, Path]:
    """{name: file}: every readable file below a folder, named by its path in it; or the one file."""
    if not clip.exists():
        raise ValueError(f"clip = {clip}: no such file or folder")
    if not clip.is_dir() or is_frames(clip):
        return {str(clip): clip}
    files, folders = [], [p for p in clip.rglob("*") if p.is_dir() and is_frames(p)]
    for p in clip.rglob("*"):
        clip_file = p.suffix.lower() in READABLE and p.name[0] != "." and p.name not in ("skeleton.json", "labels.csv")
        if p in folders or clip_file and p.parent not in folders:
            files.append(p)
    files.sort()
    if not files:
        raise ValueError(f"clip = {clip}: holds no {', '.join(READABLE)} file")
    return {str(p.relative_to(clip)): p for p in files}


def classify(model: ExportedModel, clip: Path, top: int) -> tuple[list[tuple[str, Ranking]], int]:
    """The `top` most probable names of each clip, and how many files of a folder were skipped."""
    found, skipped = [], 0
    for name, path in recordings(clip).items():
        try:
            found.append((name, model.top(model.read(path), top)))
        except (ValueError, OSError) as e:
            if not clip.is_dir():
                raise
            skipped += 1
            print("skipped:", " ".join(str(e).split()), file=sys.stderr)
    if not found:
        raise ValueError(f"clip = {clip}: none of its {skipped} files could be used")
    return found, skipped


def report(found: list[tuple[str, Ranking]], form: str) -> str:
    """The names of each clip as text, CSV (clip, rank, label, probability) or JSON."""
    text = io.StringIO()
    if form == "json":
        rows = []
        for clip, names in found:
            rows.append({"clip": clip, "top": [{"label": n, "probability": round(p, 6)} for n, p in names]})
        print(json.dumps(rows, indent=1), file=text)
    elif form == "csv":
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("clip", "rank", "label", "probability"))
        for clip, names in found:
            writer.writerows((clip, rank, n, f"{p:.6f}") for rank, (n, p) in enumerate(names, 1))
    else:
        for clip, names in found:
            print(clip, *(f"  {100 * p:5.1f} %  {n}" for n, p in names), sep="\n", file=text)
    return text.getvalue()


def save(text: str, out: Path, model: Path) -> None:
    """Write the answer, whole or not at all."""
    check_out(out, model, text)
    part = Path(f"{out}.{os.getpid()}")
    try:
        part.write_text(text)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def check_out(out: Path, model: Path, text: str) -> None:
    """ValueError if the answer would replace a clip, a model or a table of labels. It may replace an earlier answer."""
    if out.is_dir():
        raise ValueError(f"out = {out}: is a folder; give a file in it")
    if not out.exists():
        return
    suffix = out.suffix.lower()
    answer = suffix in (".csv", ".json") and out.read_text(errors="replace")[:10] == text[:10]
    if not answer and (out.resolve() == model.resolve() or suffix in (*READABLE, ".onnx", ".csv")):
        raise ValueError(f"out = {out}: exists, and would be lost; give another name")


def main(argv: list[str]) -> int:
    given = options(argv)
    path = named(given["model"])
    model = ExportedModel(path)
    if given["stream"] == "true":
        sys.stdin.reconfigure(errors="replace")  # a garbled line is a bad line, not the end
        stream(model, sys.stdin, given["sure"], given["hold"], given["window"] or model.view["frames"],
               given["format"])
        return 0
    found, skipped = classify(model, Path(given["clip"]), given["top"])
    text = report(found, given["format"])
    if given["out"]:
        save(text, Path(given["out"]), path)
    else:
        print(text, end="")
    return 3 if skipped else 0


if __name__ == "__main__":
    try:
        if {"-h", "--help", "help"} & set(sys.argv[1:]):
            print(__doc__.strip(), flush=True)
            sys.exit(0)
        code = main(sys.argv[1:])
    except BrokenPipeError:  # the reader of a pipe closed it
        os._exit(0)
    except (ValueError, OSError) as e:
        print("error:", " ".join(str(e).split()), file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
