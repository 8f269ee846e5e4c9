"""The blocks about a general network: what it tells apart by few examples, and on bodies of many sensors."""
from __future__ import annotations

from phases.reporting.measured import Results
from phases.reporting.tables import markdown_table

SEEN = {"joints": "the joints themselves"}


def few_examples(results: Results) -> str:
    """A line per set and kind of features, a column per number of examples."""
    rows = results.file("few-shot")["rows"]
    shots = sorted({row["shots"] for row in rows if row["shots"]})
    columns = [*(str(n) for n in shots), "all"]

    table = []
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        for kind in dict.fromkeys(row["kind"] for row in own):
            line = {"data set": name, "told by": SEEN.get(kind, kind), **dict.fromkeys(columns, "")}
            for row in own:
                if row["kind"] == kind:
                    line[str(row["shots"]) if row["shots"] else "all"] = figure(row)
            table.append(line)

    counts = [counted_set(name, rows) for name in dict.fromkeys(row["set"] for row in rows)]
    return markdown_table(["data set", "told by", *columns], table) + "\n\n" + " ".join(counts)


def figure(row: dict) -> str:
    """Mean and deviation over the draws."""
    return f"{row['top1']:.1f}" if row["draws"] == 1 else f"{row['top1']:.1f} ± {row['sd']:.1f}"


def counted_set(name: str, rows: list[dict]) -> str:
    """The sizes of a set: classes, clips that are tested, and how many *all* are."""
    own = [row for row in rows if row["set"] == name]
    most = max(row["examples"] for row in own)
    return f"{name}: {own[0]['classes']} classes, {own[0]['tested']} clips tested, {most} examples in all."


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
