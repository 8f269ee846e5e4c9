"""The block about robustness: what `just fuzz` and `just torture` tried, and what they found."""
from __future__ import annotations

from collections import Counter

from phases.reporting.measured import Results
from phases.reporting.tables import markdown_table


def faults_and_survivals(results: Results) -> str:
    """A line per kind of input, per phase that was interrupted, and per data set that was read at full size."""
    rows = [
        *fuzzed_inputs(results.file("fuzz")),
        *interrupted_phases(results.file("torture")),
        *full_size_sets(results.file("ntu-rehearsal")),
    ]
    return markdown_table(["what", "command", "tried", "survived", "faults found", "mended"], rows)


def fuzzed_inputs(fuzz: dict) -> list[dict[str, str]]:
    # a fault that was met again later is listed twice there: count it once
    faults = {(fault["target"], fault["what"]): fault["mended"] for fault in fuzz["faults"].values()}
    found = Counter(target for target, _ in faults)
    mended = Counter(target for (target, _), is_mended in faults.items() if is_mended)

    rows = []
    for name, target in fuzz["targets"].items():
        word = f"targets={name}"
        rows.append({
            "what": name,
            "command": f"`just fuzz '{word}'`" if " " in name else f"`just fuzz {word}`",
            "tried": f"{target['tried']:,} inputs",
            "survived": f"{target['stored']:,} stored, {target['refused']:,} refused",
            "faults found": str(found[name] or ""),
            "mended": str(mended[name] or ""),
        })
    rows.append({
        "what": "**all inputs**",
        "command": "`just fuzz`",
        "tried": f"{fuzz['tried']:,} inputs",
        "faults found": str(found.total()),
        "mended": str(mended.total()),
    })
    return rows


def interrupted_phases(torture: dict) -> list[dict[str, str]]:
    rows = []
    for program, tried in sorted(torture["phases"].items()):
        # how it was interrupted
        ways = Counter(tried["ways"])
        kills = ways["kill"]
        signals = ways["term"] + ways["int"]
        disk = ways["full"] + ways["inodes"] + ways["read-only"] + ways["permission"]
        others = ways.total() - kills - signals - disk

        # p1_train is phase 1; the ablation and the page keep their names
        is_phase = "_" in program
        rows.append({
            "what": f"phase {program[1]}" if is_phase else program,
            "command": f"`just torture phases={program[1] if is_phase else program}`",
            "tried": f"{kills} kills, {signals} other signals, {disk} faults of the disk, {others} others",
            "survived": f"{tried['ended']} runs went on to the very same result",
            "faults found": str(len(tried["faults"]) or ""),
        })
    return rows


def full_size_sets(rehearsal: dict) -> list[dict[str, str]]:
    rows = []
    for data in rehearsal["data sets"]:
        sides = [f"{split} {n['train']:,} + {n['test']:,}" for split, n in data["counts"].items()]
        rows.append({
            "what": data["dataset"],
            "command": f"`{rehearsal['command']}`",
            "tried": f"{data['clips']:,} files, one kill",
            "survived": f"{'; '.join(sides)}; at most {data['peak MB']} MB",
        })
    return rows


def who_is_meant(results: Results) -> str:
    """A line per data set, rate and measure of activity: percent of clips in which the acting person is found."""
    found = results.file("bystanders")
    rows = []
    for row in found["rows"]:
        rate = "every" if row["rate"] == 1 else "every third"
        figures = {noise: f"{right:.1f}" for noise, right in row["right"].items()}
        rows.append({"data set": row["set"], "frames": rate, "activity": row["measure"], "clips": str(row["clips"]),
                     **figures})
    return f"{markdown_table(list(rows[0]), rows)}\n\n`{found['command']}`"
