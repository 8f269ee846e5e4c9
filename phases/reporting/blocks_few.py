"""The blocks about a general network: what it tells apart by few examples, and on bodies of many sensors."""
from __future__ import annotations

from phases.reporting.measured import Results
from phases.reporting.tables import markdown_table

SETS = ("utd_mhad", "nw_ucla", "jhmdb", "sbu", "irds")
LABEL = {"utd_mhad": "UTD-MHAD", "nw_ucla": "NW-UCLA", "jhmdb": "JHMDB, 2-D", "sbu": "SBU", "irds": "IntelliRehabDS"}
SEEN = {"joints": "the joints themselves"}


def few_examples(results: Results) -> str:
    """A line per set and kind of features, a column per number of examples."""
    rows = results.file("few-shot")["rows"]
    shots = sorted({row["shots"] for row in rows if row["shots"]})
    columns = [*(str(n) for n in shots), "all"]
    names = sorted({row["set"] for row in rows}, key=order_of)

    table = []
    for name in names:
        own = [row for row in rows if row["set"] == name]
        for kind in sorted({row["kind"] for row in own}, key=place_of):
            line = {"data set": LABEL.get(name, name), "told by": SEEN.get(kind, kind), **dict.fromkeys(columns, "")}
            for row in own:
                if row["kind"] == kind:
                    line[str(row["shots"]) if row["shots"] else "all"] = figure(row)
            table.append(line)

    counts = [counted_set(name, rows) for name in names]
    return markdown_table(["data set", "told by", *columns], table) + "\n\n" + "\n".join(counts)


def order_of(name: str) -> tuple[int, str]:
    """The place of a set among all; one that is not listed comes last."""
    return (SETS.index(name) if name in SETS else len(SETS)), name


def place_of(kind: str) -> tuple:
    """General networks first, then what they are compared with."""
    return kind.endswith("scratch"), ".onnx" in kind, kind == "joints", ", " in kind, kind


def figure(row: dict) -> str:
    """Mean and deviation over the draws."""
    return f"{row['top1']:.1f}" if row["draws"] == 1 else f"{row['top1']:.1f} ± {row['sd']:.1f}"


def counted_set(name: str, rows: list[dict]) -> str:
    """The sizes of a set: classes, clips that are tested, and how many *all* are."""
    own = [row for row in rows if row["set"] == name]
    most = max(row["examples"] for row in own)
    of = own[0]
    return f"- {LABEL.get(name, name)}: {of['classes']} classes, {of['tested']} clips tested, {most} examples in all"


def one_network_many_bodies(results: Results) -> str:
    """A line per network and set: top-1 of the same clips as each body."""
    rows = []
    commands = []
    for name in ("any", "any_small"):
        found = results.file(f"bodies-{name}")
        commands.append(f"`{found['command']}`")
        for row in found["rows"]:
            figures = {body: f"{top1:.1f}" for body, top1 in row["top1"].items()}
            rows.append({"network": name, "data set": row["set"], "clips": str(row["clips"]), **figures})
    return markdown_table(list(rows[0]), rows) + "\n\n" + ", ".join(commands) + "."
