"""The picture of `just wild`: accuracy against the strength of a change, a panel per kind, a line per network."""
from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import ClassVar

import jinja2

from phases.common.files import ROOT
from phases.recordings.wild import CLEAN, ROWS
from phases.reporting.blocks_wild import network_name, networks, of_row
from phases.reporting.cells import values
from phases.reporting.drawing import COLOURS
from phases.reporting.measured import Results

DASHES = ("", "6 3", "2 3")     # of lines, when there are more networks than colours


@dataclass(frozen=True)
class Line:
    network: str
    points: list[tuple[float, float]]
    colour: str
    dash: str


@dataclass(frozen=True)
class Panel:
    """One kind of change, drawn from its upper left corner. The strengths are equally far apart."""
    WIDTH: ClassVar = 300
    HEIGHT: ClassVar = 220
    LEFT: ClassVar = 38         # of the axes
    RIGHT: ClassVar = 284
    TOP: ClassVar = 30
    BOTTOM: ClassVar = 176

    title: str
    x: int
    y: int
    strengths: list[tuple[float, str]]      # (x, strength)
    lines: list[Line]


@dataclass(frozen=True)
class Picture:
    COLUMNS: ClassVar = 3
    LEGEND: ClassVar = 20       # height of a line of the legend

    title: str
    panels: list[Panel]
    legend: list[Line]          # the lines without points

    @property
    def width(self) -> int:
        return self.COLUMNS * Panel.WIDTH

    @property
    def top(self) -> int:
        """Height of title and legend, above the panels."""
        return 30 + self.LEGEND * -(-len(self.legend) // self.COLUMNS)

    @property
    def height(self) -> int:
        return self.top + Panel.HEIGHT * -(-len(self.panels) // self.COLUMNS)


def picture(results: Results, data: str) -> Picture:
    """The picture of a data set's networks; ValueError if none was measured."""
    found = networks(results, data)
    if not found:
        raise ValueError(f"data = {data!r}: {results.folder} has no wild-*--{data}-*.json to draw: measure first, with "
                         f"`just wild recipe=... data={data}`")

    # a panel for each kind that has several strengths
    kinds = list(dict.fromkeys(row.kind for row in ROWS if row.unit))
    panels = []
    for kind in kinds:
        drawn = panel(kind, found, len(panels))
        if any(line.points for line in drawn.lines):
            panels.append(drawn)

    legend = [Line(network, [], *ink(k)) for k, network in enumerate(found)]
    split = next(iter(found.values()))["split"]
    return Picture(f"Accuracy in percent, {data} {split}, against the strength of a change", panels, legend)


def panel(kind: str, found: dict[str, dict], place: int) -> Panel:
    """The panel of a kind of change, at a place counted from the left and from the top."""
    rows = sorted((row for row in ROWS if row.kind == kind), key=lambda row: row.strength)
    step = (Panel.RIGHT - Panel.LEFT) / len(rows)

    # the clean clips, then each strength: (name of the row, x, strength)
    places = [(CLEAN, Panel.LEFT, "0")]
    for i, row in enumerate(rows, 1):
        places.append((row.name, Panel.LEFT + i * step, f"{row.strength:g}"))

    # a line per network: the mean over its runs where it was measured; the clean clips alone are no line
    lines = []
    for k, entry in enumerate(found.values()):
        points = []
        for name, x, _ in places:
            top1 = values(of_row(entry, name, "top1"), "top1")
            if top1:
                height = statistics.mean(top1) / 100 * (Panel.BOTTOM - Panel.TOP)
                points.append((x, Panel.BOTTOM - height))
        lines.append(Line(network_name(entry), points if len(points) > 1 else [], *ink(k)))

    down, across = divmod(place, Picture.COLUMNS)
    marks = [(x, strength) for _, x, strength in places]
    return Panel(f"{kind}, {rows[0].unit}", across * Panel.WIDTH, down * Panel.HEIGHT, marks, lines)


def ink(k: int) -> tuple[str, str]:
    """Colour and dashes of the k-th network."""
    return COLOURS[k % len(COLOURS)], DASHES[k // len(COLOURS) % len(DASHES)]


def svg(results: Results, data: str) -> str:
    """The picture as a file of its own."""
    templates = jinja2.FileSystemLoader(ROOT / "phases" / "reporting")
    environment = jinja2.Environment(loader=templates, autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("strengths.svg.j2").render(picture=picture(results, data))
