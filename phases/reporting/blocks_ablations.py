"""Blocks about ablation rows: the table of a letter, rows at full width, the verdicts of all rows in a few lines."""
from __future__ import annotations

import re
import textwrap

from phases.reporting.cells import change, epochs, mean_sd, overridden, paired_differences, sizes, values, verdict
from phases.reporting.measured import Results, default_split, entry_of_row
from phases.reporting.tables import AGAINST, LABEL, ablation_rows, markdown_table, purpose


def entries_of_rows(results: Results, letter: str, data: str) -> dict[str, dict | None]:
    """{row: its entry} of the rows of a letter on a data set's own split."""
    split = default_split(data)
    return {row: entry_of_row(row, data, split, results.entries) for row in ablation_rows(letter)}


def short_ablation(results: Results, rows: str = "L", data: str = "utd_mhad") -> str:
    """The table of rows B, L or P: purpose, top-1 and the differences to its baselines.

    Fields that the commands of all rows changed are named below the table, those of one row in its line.
    """
    found = entries_of_rows(results, rows, data)
    references = {f"to {row}": found[row] for row in AGAINST[rows]}

    # fields that all commands changed
    changed = [overridden(entry) for entry in found.values() if entry]
    first = changed[0] if changed else []
    shared = [word for word in first if all(word in words for words in changed)]

    # a line per row, with its difference to each reference
    lines = []
    for name, entry in found.items():
        line = {
            "row": name,
            "purpose": purpose(name),
            **sizes(entry),
            "epochs": epochs(entry),
            "top-1": mean_sd(entry, "top1"),
            "top-1 clean": mean_sd(entry, "top1_clean"),
            "with": " ".join(word for word in overridden(entry) if word not in shared),
        }
        for column, reference in references.items():
            line[column] = change(entry, reference)
            line[f"clean {column}"] = change(entry, reference, "top1_clean")
        lines.append(line)

    # clean figures last
    clean = [f"clean {column}" for column in references]
    head = ["row", "purpose", "parameters in total", "epochs", "seeds", "top-1", *references, "top-1 clean", *clean,
            "with"]
    below = f"\n\nAll rows with `{' '.join(shared)}`." if shared else ""
    return markdown_table(head, lines) + below


WIDE = ("B0", "B2", "B4", "B6", "B7")  # rows that were trained at full width too, by recipes of 16 frames


def full_width(results: Results) -> str:
    """Rows B of UTD-MHAD at a quarter of the width and at full width: top-1, and the difference to B0 of that width."""
    narrow = entries_of_rows(results, "B", "utd_mhad")
    wide = {row: results.entry(f"{row}_16", "utd_mhad") for row in WIDE}
    lines = []
    for row in WIDE:
        lines.append({
            "row": row,
            "purpose": purpose(row),
            "narrow": mean_sd(narrow[row], "top1"),
            "narrow: to B0": change(narrow[row], narrow["B0"]),
            **sizes(wide[row]),
            "epochs": epochs(wide[row]),
            "full width": mean_sd(wide[row], "top1"),
            "to B0": change(wide[row], wide["B0"]),
        })
    head = ["row", "purpose", "narrow", "narrow: to B0", "parameters in total", "epochs", "seeds", "full width",
            "to B0"]
    return markdown_table(head, lines)


# ---------------------------------------------------------------------------------------------------------------------
# Verdicts
# ---------------------------------------------------------------------------------------------------------------------

TOLD = ("helps", "hurts")  # verdicts that name what a row changes; the others list rows alone


def verdicts(results: Results) -> str:
    """All ablation rows in a few lines: what helps, hurts and cannot be told, each against the row that it changes.

    On clean clips, if some test clips are copies of training clips.
    """
    lines = []
    for data in ("utd_mhad", "nw_ucla"):
        by_verdict: dict[str, list[str]] = {}
        for letter in AGAINST:
            for name, row in judged_rows(results, letter, data):
                by_verdict.setdefault(name, []).append(row)

        # helps: X (L2, +1.1 ± 0.4); cannot be told: L1, L3 to L5
        parts = []
        for name in (*TOLD, "cannot be told", "too few seeds"):
            rows = by_verdict.get(name)
            if rows:
                parts.append(f"{name}: {', '.join(rows) if name in TOLD else ranges(rows)}")
        line = f"- **{LABEL[data]}**: {'; '.join(parts) or 'nothing measured'}."
        lines += textwrap.wrap(line, 118, subsequent_indent="  ")
    return "\n".join(lines)


def judged_rows(results: Results, letter: str, data: str) -> list[tuple[str, str]]:
    """(verdict, row) of each row that was measured beside its reference; a row that helps or hurts with its change."""
    found = entries_of_rows(results, letter, data)
    baseline = AGAINST[letter][0]
    key = "top1_clean" if values(found[baseline], "top1_clean") else "top1"

    judged = []
    for row, entry in found.items():
        # the row that it changes: L5 for `L5 without the DCT gate`
        named = re.search(rf"\b{letter}\d+\b", purpose(row))
        reference = found[named[0] if named else baseline]
        points = paired_differences(entry, reference, key)
        if row == baseline or not points:
            continue

        name = verdict(points)
        if name in TOLD:
            piece = re.sub(rf"^{letter}\d+ (\+ )?| \(.*|:.*", "", purpose(row))
            row = f"{piece} ({row}, {change(entry, reference, key)})"
        judged.append((name, row))
    return judged


def ranges(rows: list[str]) -> str:
    """`L1, L3 to L10` for L1, L3, L4, ..., L10."""
    # runs of rows whose numbers follow each other
    runs: list[list[str]] = []
    for row in rows:
        letter, number = row[0], int(row[1:])
        if runs and runs[-1][-1] == f"{letter}{number - 1}":
            runs[-1].append(row)
        else:
            runs.append([row])

    parts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs]
    return ", ".join(parts)
