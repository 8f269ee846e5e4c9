"""Write a web page that recognises actions from a webcam, or serve it to a browser on this machine.

    just page model=exports/mine/lite_nano/model.onnx out=page/ serve=8000    then open http://127.0.0.1:8000
    just page model=utd_mhad,nw_ucla out=page/                                networks that come along
    just page out=page/ serve=8000                                            a page that was written before

The page reads skeleton, view and class names of a network from the file's metadata, and runs it with the ONNX runtime
for browsers. MediaPipe finds the body in the camera's picture; its 33 joints become the network's by the table in the
file. A network whose skeleton has no such table plays recorded clips only. Twelve synthetic clips are written into the
page, which begins with the one that the first network is surest of; videos, clips (.npy, .skeleton; .json of MediaPipe,
COCO, AlphaPose, OpenPose, Northwestern-UCLA or plain lists; .csv) and other exported .onnx files can be dropped on it.

Any web server can show the folder. The page then needs no network: no picture, joint or answer leaves the browser, and
the page's own policy forbids it. Browsers give a camera to pages from https or from this machine only.

Node.js's npm fetches the two packages that phases/shipping/page/package-lock.json names into node_modules beside it,
once.
Exit codes: 0 written, 2 bad input, or Node.js is missing; 130 the server was ended. The folder appears whole or not at
all, and an earlier page there is replaced.
"""
from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from phases.common.command import run
from phases.shipping.exported import model_file
from phases.shipping.serve import server
from phases.shipping.web_page import MARK, write_page


@dataclass(frozen=True)
class Options:
    model: Annotated[tuple[str, ...], "files of `just phase4`, or names of networks in results/networks, separated by "
                     "commas; the first is shown first"] = ()
    out: Annotated[Path, "the folder"] = Path("page")
    serve: Annotated[int | None, (1, 65535), "a port on this machine; Ctrl-C ends the server"] = None

    def __post_init__(self):
        # a page to write, or one to show
        out = self.out
        is_page = (out / MARK).is_file()
        if not self.model and not (self.serve and is_page):
            raise ValueError("no model: give model=FILE.onnx, as `just phase4` writes it, or a name in "
                             "results/networks, such as model=utd_mhad; several with commas between")

        # a folder in which nothing else gets lost
        if out.is_symlink() or (out.exists() and not out.is_dir()):
            raise ValueError(f"out = {out}: is no folder; give the folder of the page")
        if self.model and not is_page and out.is_dir() and any(out.iterdir()):
            raise ValueError(f"out = {out}: holds other files, and they would be lost; give a new folder")


def main(options: Options) -> None:
    # the port first: if it is taken, the page that is there stays
    serving = server(options.out, options.serve) if options.serve else contextlib.nullcontext()
    with serving as opened:
        if options.model:
            write_page([model_file(name) for name in options.model], options.out)
        if opened:
            print(f"http://127.0.0.1:{options.serve} shows it; Ctrl-C ends it", flush=True)
            opened.serve_forever()


if __name__ == "__main__":
    run(main, Options, interrupted="")
