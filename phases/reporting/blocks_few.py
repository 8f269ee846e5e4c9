"""The blocks about a general network: what it tells by few examples, gains as a start, and names on many bodies."""
from __future__ import annotations

from statistics import mean, stdev

from phases.recordings.starts import GENERAL, SCRATCH, STARTED, Gain, gains, pair_of
from phases.reporting.cells import mean_and_sd, verdict
from phases.reporting.measured import Results, published
from phases.reporting.tables import markdown_table

SETS = ("utd_mhad", "nw_ucla", "jhmdb", "sbu", "irds")
LABEL = {"utd_mhad": "UTD-MHAD", "nw_ucla": "NW-UCLA", "jhmdb": "JHMDB, 2-D", "sbu": "SBU", "irds": "IntelliRehabDS"}
TRAINED_ON = {"utd": "utd_mhad", "utd_test": "utd_mhad", "ucla": "nw_ucla", "ucla_test": "nw_ucla"}
SEEN = {"joints": "the joints themselves"}


def few_examples(results: Results, of: str = "few-shot") -> str:
    """A line per set and kind of features, a column per number of examples; `of` is the file of results."""
    rows = results.file(of)["rows"]
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


def declining_rules(results: Results) -> str:
    """A line per candidate: what it keeps in each case, and what it declines on average over these."""
    found = results.file("taught-rules")
    kinds = {"unknown": "other actions", "standing": "who stands", "another set": "another set"}
    rows = []
    for rule in found["cases"][0]["shares"]:
        row = {"likeness at least": rule}
        for case in found["cases"]:
            name = f"{case['case']} ({LABEL[case['set']]}, {case['actions']} actions)"
            row[name] = f"{case['shares'][rule]['named']:.1f}"
        for kind, name in kinds.items():
            row[f"declined: {name}"] = f"{mean([case['shares'][rule][kind] for case in found['cases']]):.1f}"
        rows.append(row)
    command = f"python -m tests.tools.taught_rules model={found['model']} draws={found['draws']}"
    return f"{markdown_table(list(rows[0]), rows)}\n\n`{command}`: {found['draws']} draws of each."


def last_layers(results: Results) -> str:
    """A line per set and number of examples: top-1 by kind of last layer; at the end the mean over the sets."""
    found = results.file("taught-rules")["heads"]
    rows = [{"data set": LABEL[row["set"]], "examples": str(row["shots"]),
             **{kind: f"{top1:.1f}" for kind, top1 in row["top1"].items()}} for row in found]
    for n in sorted({row["shots"] for row in found}):
        of_n = [row["top1"] for row in found if row["shots"] == n]
        rows.append({"data set": "*mean*", "examples": str(n),
                     **{kind: f"{mean([top1[kind] for top1 in of_n]):.1f}" for kind in of_n[0]}})
    return markdown_table(list(rows[0]), rows)


def copies(results: Results) -> str:
    """What copies of the examples gain on training people, a line per kind of copies; what the chosen ones gain on the
    test sides."""
    found = results.file("few-shot-copies")
    rows = found["choice"]
    sets = list(dict.fromkeys(row["set"] for row in rows))
    heads = list(rows[0]["top1"])
    without = {(row["set"], row["shots"]): row["top1"] for row in rows if not row["number"]}
    shots = sorted({n for _, n in without})

    # points at each number of examples
    def gained(name: str, head: str, of: list[str]) -> str:
        own = [row for row in rows if row["copies"] == name and row["set"] in of]
        points = [(row["shots"], row["top1"][head] - without[row["set"], row["shots"]][head]) for row in own]
        return ", ".join(f"{mean(point for n, point in points if n == shot):+.1f}" for shot in shots)

    table = []
    for name, number in {row["copies"]: row["number"] for row in rows if row["number"]}.items():
        line = {"copies": name, "of each": str(number)} | {head: gained(name, head, sets) for head in heads}
        table.append(line | {f"{LABEL[of]}, {heads[-1]}": gained(name, heads[-1], [of]) for of in sets})

    # judged
    tested = []
    for row in found["judged"]:
        line = {"data set": LABEL[row["set"]], "network": row["network"], "examples": str(row["shots"]),
                "without": f"{row['top1']:.1f}"}
        tested.append(line | {name: f"{mean(points):+.1f} ± {stdev(points):.1f}, {verdict(points)}"
                              for name, points in row["gains"].items()})
    return f"{markdown_table(list(table[0]), table)}\n\n{markdown_table(list(tested[0]), tested)}"


def doubts(results: Results) -> str:
    """A line per set: how far confidence and accuracy differ by doubt, taught by one example of each action."""
    found = results.file("taught-rules")["doubts"]
    rows = [{"data set": LABEL[row["set"]], "named rightly": f"{row['top1']:.1f}",
             **{doubt: f"{row['confidence'][doubt]:.0f} ({ece:.1f})" for doubt, ece in row["ece"].items()}}
            for row in found]
    errors = {doubt: f"({mean(row['ece'][doubt] for row in found):.1f})" for doubt in found[0]["ece"]}
    return markdown_table(list(rows[0]), [*rows, {"data set": "*mean*", "named rightly": "", **errors}])


def one_example(results: Results) -> str:
    """What papers published on NTU-120's one-shot protocol, and what was judged here: a cell is empty until it is."""
    papers = [{"data set": "NTU-120", "network": entry["recipe"], "trained on": "its 100 other classes",
               "top-1": f"{entry['runs'][0]['top1']:.1f}"}
              for entry in published().values() if entry["split"] == "oneshot"]
    path = results.folder / "one-shot.json"
    done = results.file("one-shot")["rows"] if path.exists() else []
    ours = []
    for data, label in (("ntu120", "NTU-120"), ("utd_mhad", "UTD-MHAD")):
        own = [row for row in done if row["data"] == data]
        ours += [{"data set": label, "network": row["network"], "trained on": row["trained on"],
                  "top-1": f"{row['top1']:.1f}"} for row in own]
        ours += [{"data set": label, "network": "", "trained on": "", "top-1": ""}] if not own else []
    return markdown_table(["data set", "network", "trained on", "top-1"], [*papers, *ours])


def starts_compared(results: Results) -> str:
    """What each way to begin with the general network gains over random weights, on training people: a line per way, a
    column per set and share of the labels."""
    trainings = results.file("small-sets")["trainings"]
    ways = {row["variant"]: row["changed"] for row in trainings if row.get("init") == GENERAL}
    table = []
    for way, changed in ways.items():
        line = {"way": way, "changed": " ".join(f"`{word}`" for word in changed)}
        for gain in gains(trainings, GENERAL, way):
            if not gain.is_tested:
                line[share_of(gain)] = " ".join(f"{x:+.1f}" for x in gain.points)
        table.append(line)
    columns = list(dict.fromkeys(column for line in table for column in line))
    return markdown_table(columns, [dict.fromkeys(columns, "") | line for line in table if len(line) > 2])


def share_of(gain: Gain) -> str:
    """UTD-MHAD, 10 %"""
    return f"{LABEL[TRAINED_ON[gain.set]]}, {gain.labels:.0%}".replace("%", " %")


def starts_judged(results: Results) -> str:
    """A line per network, set and share of its labels: accuracy on the test side from random weights, and begun with
    the general network, and what that gains seed by seed."""
    trainings = results.file("small-sets")["trainings"]
    scratch = {pair_of(row): row["top1"] for row in trainings if row["variant"] == SCRATCH and not row.get("init")}
    started = {pair_of(row): row["top1"] for row in trainings
               if row["variant"] == STARTED and row.get("init") == GENERAL}
    table = []
    for network in sorted({row.get("network", "lite_nano") for row in trainings}):
        for gain in gains(trainings, GENERAL, STARTED, network):
            if not gain.is_tested:
                continue
            keys = [key for key in sorted(scratch.keys() & started.keys())
                    if key[:3] == (network, gain.set, gain.labels)]
            name, labels = share_of(gain).rsplit(", ", 1)
            table.append({"data set": name, "network": f"`{network}`", "labels": labels, "clips": str(gain.clips),
                          "from scratch": mean_and_sd([scratch[key] for key in keys]),
                          "started": mean_and_sd([started[key] for key in keys]),
                          "gained, seed by seed": ", ".join(f"{x:+.1f}" for x in gain.points),
                          "": verdict(list(gain.points))})
    return markdown_table(list(table[0]), table)


def one_network_many_bodies(results: Results) -> str:
    """A line per set: top-1 of the same clips as each body, named by the general network."""
    found = results.file("bodies-any")
    rows = []
    apart = 0.0
    for row in found["rows"]:
        figures = {body: f"{top1:.1f}" for body, top1 in row["top1"].items()}
        rows.append({"data set": row["set"], "clips": str(row["clips"]), **figures})
        apart = max(apart, max(row["top1"].values()) - min(row["top1"].values()))
    return (f"{markdown_table(list(rows[0]), rows)}\n\nThe bodies are within {apart:.1f} points of each other.\n"
            f"`{found['command']}`.")
