"""Look at a clip: an animation, or a sheet of its frames, from the front and from the side.

    just show clip=S001C001P001R001A001 out=clip.gif                  a clip of stores/ntu60, moving
    just show clip=a01_s01_e00_v01 data=nw_ucla out=clip.png          a sheet of frames, of another store
    just show clip=some/file.skeleton out=clip.gif                    a file: .skeleton, .npy, Northwestern-UCLA JSON
    just show clip=some/file.skeleton model=FILE.onnx out=clip.gif    beside it what an exported network makes of it
    just show clip=@each store=stores/synthetic out=classes.png       one clip of every class (png only)

store=FOLDER names the store, data=NAME means store=stores/NAME. Bones have the colour of their body region; a second
body is paler. The axes are metres, equal, and fixed over the clip. With model= the five likeliest actions stand beside
the clip at each frame, as probabilities of the clip up to that frame. Needs the extra `figures`.
Exit codes: 0 drawn, 2 bad input, or matplotlib is missing. An image appears whole or not at all.
"""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

from phases.common.command import nearest
from phases.common.files import atomic
from phases.common.settings_cli import cli
from phases.recordings.arrays import metadata
from phases.recordings.readers import READABLE, of_format, read_clip
from phases.reporting.drawing import COLOURS, FRONT, SIDE, as_camera, clip_joints, limits, project
from phases.shipping.exported import ExportedModel, named
from phases.training.clip_store import ClipStore
from skeletons import SKELETONS, Skeleton

TOP = 5  # actions beside an animation


def prepare(axes, skeleton: Skeleton, bodies: int, low: np.ndarray, high: np.ndarray) -> list:
    """Empty line collections, one per body, on axes of fixed limits; `draw` fills them."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgb
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])
    region = {v: r for r, members in enumerate(skeleton.regions.values()) for v in members}
    children = [child for child, parent in skeleton.bones if child != parent]
    inks = [np.array(to_rgb(COLOURS[region[child] % len(COLOURS)])) for child in children]
    lines = []
    for body in range(bodies):
        colours = [ink + (1 - ink) * 0.5 * (body > 0) for ink in inks]
        lines.append(axes.add_collection(LineCollection([], colors=colours, linewidths=2.2, capstyle="round")))
    return lines


def draw(lines: list, paper: np.ndarray, skeleton: Skeleton) -> None:
    """Put one frame (M, V, 2) on prepared axes; a bone with a missing end is not drawn."""
    bones = np.array([(child, parent) for child, parent in skeleton.bones if child != parent])
    for line, body in zip(lines, paper, strict=True):
        line.set_segments(body[bones])


def views(joints: np.ndarray) -> tuple[str, ...]:
    return (FRONT, SIDE) if joints[..., 2].any() else (FRONT,)


def contact_sheet(rows: list[tuple[str, np.ndarray, str]], skeleton: Skeleton, out: Path, frames: int = 10) -> None:
    """A png of `frames` frames, evenly over the clip, of each row (title, joints (M, L, V, 3), view)."""
    from matplotlib.figure import Figure
    papers = [project(joints, skeleton, view) for _, joints, view in rows]
    boxes = [limits(p) for p in papers]
    cell = 1.6  # inches
    heights = [cell * np.clip((high - low)[1] / (high - low)[0], 0.55, 1.6) for low, high in boxes]
    fig = Figure(figsize=(cell * frames, sum(heights) + 0.3 * len(rows)), layout="constrained")
    strips = np.atleast_1d(fig.subfigures(len(rows), 1, height_ratios=[h + 0.3 for h in heights]))
    for strip, (title, joints, view), paper, box in zip(strips, rows, papers, boxes, strict=True):
        strip.suptitle(f"{title} · {view}", fontsize=9, x=0.01, ha="left")
        shown = np.linspace(0, joints.shape[1] - 1, frames).round().astype(int)
        for axes, t in zip(strip.subplots(1, frames), shown, strict=True):
            draw(prepare(axes, skeleton, len(joints), *box), paper[:, t], skeleton)
            axes.set_xlabel(f"frame {t}", fontsize=7, labelpad=1)
    with atomic(out) as part:
        fig.savefig(part, format="png", dpi=100)


class Bars:
    """The likeliest actions as horizontal bars, the likeliest on top."""

    def __init__(self, axes, count: int):
        axes.set(xlim=(0, 1), ylim=(count - 0.4, -0.6), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        place = np.arange(count)
        axes.barh(place + 0.12, 1.0, height=0.36, color="#eeeeee")
        self.bars = axes.barh(place + 0.12, 0.0, height=0.36)
        self.names = [axes.text(0, y - 0.2, "", fontsize=9, va="bottom") for y in place]
        self.shares = [axes.text(1, y - 0.2, "", fontsize=9, va="bottom", ha="right") for y in place]

    def show(self, ranking: list[tuple[str, float]]) -> None:
        """Draw (label, probability) pairs, the likeliest first."""
        for i, (label, probability) in enumerate(ranking):
            self.bars[i].set(width=probability, color=COLOURS[1] if i == 0 else "#a9b8c2")
            self.names[i].set(text=label, fontweight="bold" if i == 0 else "normal")
            self.shares[i].set_text(f"{100 * probability:.0f} %")


def animate(title: str, joints: np.ndarray, skeleton: Skeleton, out: Path, fps: int = 15,
            model: ExportedModel | None = None) -> None:
    """A gif of joints (M, L, V, 3), front and side by side, and beside them what a model makes of the frames so far."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image
    names = views(joints)
    papers = [project(joints, skeleton, view) for view in names]
    boxes = [limits(p) for p in papers]
    widths = [(high - low)[0] for low, high in boxes]
    if model is not None:
        widths.append(0.9 * sum(widths))
    fig = Figure(figsize=(2.7 * len(widths), 3.3) if model is not None else (3.2 * len(widths), 3.9))
    canvas = FigureCanvasAgg(fig)
    panels = fig.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    fig.subplots_adjust(0.02, 0.07, 0.98, 0.9, wspace=0.04)
    lines = []
    for axes, view, box in zip(panels, names, boxes, strict=False):
        lines.append(prepare(axes, skeleton, len(joints), *box))
        axes.set_xlabel(view, fontsize=8)
    bars = Bars(panels[-1], min(TOP, len(model.classes))) if model is not None else None
    heading, pictures = fig.suptitle("", fontsize=9), []
    for t in range(joints.shape[1]):
        heading.set_text(f"{title} · frame {t + 1}/{joints.shape[1]}")
        for line, paper in zip(lines, papers, strict=True):
            draw(line, paper[:, t], skeleton)
        if bars:
            bars.show(model.top(joints[:, :t + 1], TOP))
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        if pictures:  # one palette for all frames: then a frame stores only what changes
            pictures.append(picture.quantize(palette=pictures[0], dither=Image.Dither.NONE))
        else:
            pictures.append(picture.quantize(64))
    with atomic(out) as part:
        durations = [round(1000 / fps)] * (len(pictures) - 1) + [1500 if bars else round(1000 / fps)]
        pictures[0].save(part, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)


def load(clip: str, store: Path, model: ExportedModel | None = None) -> tuple[list[tuple[str, np.ndarray]], Skeleton]:
    """(title, joints) of a file, of a clip of a store, or of one clip of each class for @each; and their skeleton."""
    if clip != "@each" and (Path(clip).suffix.lower() in READABLE or Path(clip).is_dir()):
        if model:  # as the network takes it, also if that means other joints
            joints = as_camera(model.read(Path(clip)), model.recorded.up)
            return [(Path(clip).stem, joints)], Skeleton.from_dict(model.skeleton)
        joints = read_clip(clip)
        return [(Path(clip).stem, joints)], skeleton_of(Path(clip), joints.shape[2])
    clips = ClipStore(store)
    names, labels = clips.clips["name"].tolist(), clips.clips["label"]
    if clip == "@each":
        first = [int(np.flatnonzero(labels == c)[0]) for c in np.unique(labels)]
    elif clip in names:
        first = [names.index(clip)]
    else:
        raise ValueError(f"clip = {clip!r}: {store} has no such clip{close(clip, names)}")
    up = clips.meta.get("recorded", {}).get("up", "y")
    return [(f"{names[i]} · {clips.classes[labels[i]]}", as_camera(clip_joints(clips, i), up)) for i in first], \
        clips.skeleton


def skeleton_of(clip: Path, joints: int) -> Skeleton:
    """The skeleton that skeleton.json beside a file names, or the one with as many joints."""
    beside = clip.parent / "skeleton.json"
    own = metadata(beside.parent).get("skeleton") if beside.is_file() else of_format(clip)
    if isinstance(own, dict):
        known = [Skeleton.from_dict(own)]
    else:
        known = [s for s in SKELETONS.values() if own in (None, s.name)]
    fit = [skeleton for skeleton in known if skeleton.num_joints == joints]
    if fit:
        if len(fit) > 1:
            print(f"{clip}: {joints} joints, drawn as {fit[0].name}; {fit[1].name} has as many: name one in "
                  "skeleton.json beside it", file=sys.stderr)
        return fit[0]
    names = ", ".join(s.name for s in known) or own
    raise ValueError(f"{clip}: {joints} joints fit none of the skeletons {names}; say in skeleton.json beside it what "
                     "they are")


def close(name: str, names: list[str]) -> str:
    """The three nearest of many names; those of the same length differ in the fewest letters."""
    def distance(other: str) -> tuple[int, str]:
        return sum(a != b for a, b in zip(other, name, strict=False)) + abs(len(other) - len(name)), other

    return f", the nearest of its {len(names)} names are {', '.join(sorted(names, key=distance)[:3])}"


def options(argv: list[str]) -> dict[str, str]:
    given = {"clip": "", "out": "clip.gif", "store": "", "data": "ntu60", "model": ""}
    for arg in argv:
        key, equals, value = arg.partition("=")
        if key not in given or not equals:
            raise ValueError(f"unknown argument {arg!r}{nearest(key, given)}")
        given[key] = value
    out = Path(given["out"])
    if not given["clip"]:
        raise ValueError("no clip: give clip=NAME (of a store), clip=FILE or clip=@each, and out=clip.gif or "
                         "out=clip.png")
    if out.suffix not in (".gif", ".png"):
        raise ValueError(f"out = {given['out']!r}: must end in .gif (animation) or .png (sheet of frames)")
    if given["clip"] == "@each" and out.suffix == ".gif":
        raise ValueError(f"clip = '@each' makes a sheet: give out={out.stem}.png, not {out.name}")
    if given["model"] and out.suffix != ".gif":
        raise ValueError(f"model = {given['model']!r}: its bars stand beside an animation; give out={out.stem}.gif")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError('drawing needs matplotlib: pip install -e ".[figures]"')
    return given


def main(argv: list[str]) -> None:
    given = options(argv)
    out, model = Path(given["out"]), ExportedModel(named(given["model"])) if given["model"] else None
    clips, skeleton = load(given["clip"], Path(given["store"] or f"stores/{given['data']}"), model)
    if model is not None and model.skeleton["name"] != skeleton.name:
        raise ValueError(f"model = {given['model']}: knows the skeleton {model.skeleton['name']!r}, the clip has "
                         f"{skeleton.name!r}")
    title, joints = clips[0]
    if out.suffix == ".gif":
        animate(title, joints, skeleton, out, model=model)
    elif given["clip"] == "@each":
        contact_sheet([(title, joints, FRONT) for title, joints in clips], skeleton, out)
    else:
        contact_sheet([(title, joints, view) for view in views(joints)], skeleton, out)
    print(out)


if __name__ == "__main__":
    cli(main)
