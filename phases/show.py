"""Look at a clip: an animation, or a sheet of its frames, from the front and from the side.

    just show clip=S001C001P001R001A001 out=clip.gif                  a clip of stores/ntu60, moving
    just show clip=a01_s01_e00_v01 data=nw_ucla out=clip.png          a sheet of frames, of another store
    just show clip=some/file.skeleton out=clip.gif                    a file: .skeleton, .json of Northwestern-UCLA, .npy
    just show clip=@each store=stores/synthetic out=classes.png       one clip of every class (png alone)

store=FOLDER names the store, data=NAME means store=stores/NAME. Bones have the colour of their body region, a second body is paler; the
axes are metres, equal, and stay the same over the clip. Needs the extra `figures`.
Exit codes: 0 drawn, 2 bad input, or matplotlib is missing. An image appears whole or not at all.
"""
from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from readers import metadata, read_clip
from recipe import cli, nearest
from run import ClipStore

from last import SKELETONS, Skeleton, atomic

COLOURS = ("#d1495b", "#00798c", "#edae49", "#30638e", "#5a5a66", "#8f5fbf", "#6a994e")  # of the regions, in a skeleton's own order
FRONT, SIDE = "front", "side"


def clip_joints(store: ClipStore, index: int) -> np.ndarray:
    """Joints (M, L, V, 3) of a clip; an absent body is left out."""
    length = store.clips["length"][index]
    return np.stack([store.frames[first:first + length] for first in store.clips["offset"][index] if first >= 0])


def project(joints: np.ndarray, skeleton: Skeleton, view: str) -> np.ndarray:
    """(M, L, V, 3) -> (M, L, V, 2) metres on paper as a camera in front, or to the left of it, sees them; nan where a joint is missing.

    Kinect's x grows to the right of a person who faces it, so it is mirrored to show what the camera saw. Pictures (z = 0) have y downwards.
    """
    flat = joints.any() and not joints[..., 2].any()
    x = joints[..., 2] if view == SIDE else joints[..., 0] * (1 if flat else -1)
    paper = np.stack((x, joints[..., 1]), -1).astype(float)
    paper[~joints.any(-1)] = np.nan
    top, bottom = ([v for v, j in enumerate(skeleton.joints) if any(w in j for w in words)] for words in (("head", "nose"), ("foot", "ankle")))
    if flat and top and bottom and np.nanmedian(paper[:, :, top, 1]) < np.nanmedian(paper[:, :, bottom, 1]):
        paper[..., 1] *= -1
    return paper


def limits(paper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest (x, y) over a whole clip, with a margin of a twentieth of the larger extent."""
    points = paper[np.isfinite(paper).all(-1)]
    if not len(points):
        raise ValueError("nothing to draw: every joint of the clip is missing")
    low, high = points.min(0), points.max(0)
    margin = 0.05 * max(*(high - low), 1e-3)
    return low - margin, high + margin


def prepare(axes, skeleton: Skeleton, bodies: int, low: np.ndarray, high: np.ndarray) -> list:
    """Empty line collections, one a body, on axes of fixed limits; fill them with `draw`."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgb
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[])
    region = {v: r for r, members in enumerate(skeleton.regions.values()) for v in members}
    inks = [np.array(to_rgb(COLOURS[region[child] % len(COLOURS)])) for child, parent in skeleton.bones if child != parent]
    return [axes.add_collection(LineCollection([], colors=[ink + (1 - ink) * 0.5 * (m > 0) for ink in inks], linewidths=1.8,
                                               capstyle="round")) for m in range(bodies)]


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
    heights = [1.6 * np.clip((high - low)[1] / (high - low)[0], 0.55, 1.6) for low, high in boxes]  # inches, for cells 1.6 wide
    fig = Figure(figsize=(1.6 * frames, sum(heights) + 0.3 * len(rows)), layout="constrained")
    strips = np.atleast_1d(fig.subfigures(len(rows), 1, height_ratios=[h + 0.3 for h in heights]))
    for strip, (title, joints, view), paper, box in zip(strips, rows, papers, boxes, strict=True):
        strip.suptitle(f"{title} · {view}", fontsize=9, x=0.01, ha="left")
        for axes, t in zip(strip.subplots(1, frames), np.linspace(0, joints.shape[1] - 1, frames).round().astype(int), strict=True):
            draw(prepare(axes, skeleton, len(joints), *box), paper[:, t], skeleton)
            axes.set_xlabel(f"frame {t}", fontsize=7, labelpad=1)
    with atomic(out) as part:
        fig.savefig(part, format="png", dpi=100)


def animate(title: str, joints: np.ndarray, skeleton: Skeleton, out: Path, fps: int = 15) -> None:
    """A gif of joints (M, L, V, 3), front and side by side; the title carries the frame number."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image
    names = views(joints)
    papers = [project(joints, skeleton, view) for view in names]
    boxes = [limits(p) for p in papers]
    fig = Figure(figsize=(3.2 * len(names), 3.9))
    canvas = FigureCanvasAgg(fig)
    panels = fig.subplots(1, len(names), squeeze=False, width_ratios=[(high - low)[0] for low, high in boxes])[0]
    fig.subplots_adjust(0.02, 0.07, 0.98, 0.9, wspace=0.04)
    lines = [prepare(axes, skeleton, len(joints), *box) for axes, box in zip(panels, boxes, strict=True)]
    for axes, view in zip(panels, names, strict=True):
        axes.set_xlabel(view, fontsize=8)
    heading, pictures = fig.suptitle("", fontsize=9), []
    for t in range(joints.shape[1]):
        heading.set_text(f"{title} · frame {t + 1}/{joints.shape[1]}")
        for line, paper in zip(lines, papers, strict=True):
            draw(line, paper[:, t], skeleton)
        canvas.draw()
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(64))
    with atomic(out) as part:
        pictures[0].save(part, format="GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0)


def load(clip: str, store: Path) -> tuple[list[tuple[str, np.ndarray]], Skeleton]:
    """(title, joints) of a file, of a clip of a store, or of one clip of each class for @each; and their skeleton."""
    if clip != "@each" and Path(clip).suffix in (".skeleton", ".json", ".npy", ".npz"):
        joints, beside = read_clip(clip), Path(clip).parent / "skeleton.json"
        own = metadata(beside.parent).get("skeleton") if beside.is_file() else None
        known = [Skeleton.from_dict(own)] if isinstance(own, dict) else [s for s in SKELETONS.values() if own in (None, s.name)]
        fitting = [s for s in known if s.num_joints == joints.shape[2]]
        if not fitting:
            raise ValueError(f"{clip}: {joints.shape[2]} joints fit none of the skeletons {', '.join(s.name for s in known) or own}; "
                             "say in skeleton.json beside it what they are")
        return [(Path(clip).stem, joints)], fitting[0]
    clips = ClipStore(store)
    names = clips.clips["name"].tolist()
    if clip == "@each":
        first = [int(np.flatnonzero(clips.clips["label"] == c)[0]) for c in np.unique(clips.clips["label"])]
    elif clip in names:
        first = [names.index(clip)]
    else:
        raise ValueError(f"clip = {clip!r}: {store} has no such clip{close(clip, names)}")
    return [(f"{names[i]} · {clips.classes[clips.clips['label'][i]]}", clip_joints(clips, i)) for i in first], clips.skeleton


def close(name: str, names: list[str]) -> str:
    """The three nearest of many names; those of the same length differ in the fewest letters."""
    near = sorted(names, key=lambda n: (sum(a != b for a, b in zip(n, name, strict=False)) + abs(len(n) - len(name)), n))[:3]
    return f", the nearest of its {len(names)} names are {', '.join(near)}"


def main(argv: list[str]) -> None:
    given = {"clip": "", "out": "clip.gif", "store": "", "data": "ntu60"}
    for arg in argv:
        key, equals, value = arg.partition("=")
        if key not in given or not equals:
            raise ValueError(f"unknown argument {arg!r}{nearest(key, given)}")
        given[key] = value
    out = Path(given["out"])
    if not given["clip"]:
        raise ValueError("no clip: give clip=NAME (of a store), clip=FILE or clip=@each, and out=clip.gif or out=clip.png")
    if out.suffix not in (".gif", ".png"):
        raise ValueError(f"out = {given['out']!r}: must end in .gif (animation) or .png (sheet of frames)")
    if given["clip"] == "@each" and out.suffix == ".gif":
        raise ValueError(f"clip = '@each' makes a sheet: give out={out.stem}.png, not {out.name}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError('drawing needs matplotlib: pip install -e ".[figures]"')
    clips, skeleton = load(given["clip"], Path(given["store"] or f"stores/{given['data']}"))
    title, joints = clips[0]
    if out.suffix == ".gif":
        animate(title, joints, skeleton, out)
    else:
        rows = [(t, j, FRONT) for t, j in clips] if given["clip"] == "@each" else [(title, joints, view) for view in views(joints)]
        contact_sheet(rows, skeleton, out)
    print(out)


if __name__ == "__main__":
    cli(main)
