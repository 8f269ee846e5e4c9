"""Answers of `just predict` as text, CSV and JSON: the names of clips, and the actions in recordings."""
from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # predict starts faster without it
    from phases.shipping.events import Event


class Who(NamedTuple):
    """Whom an answer is about."""
    clip: str
    person: str = ""    # empty: the main people of the clip

    def __str__(self) -> str:
        return f"{self.clip}, person {self.person}" if self.person else self.clip


class Named(NamedTuple):
    """The answer to one clip."""
    ranking: list[tuple[str, float]]    # (label, probability), the most probable first
    is_known: bool                      # false: none of these
    likeness: float
    features: np.ndarray                # c


def none_of_these(label: str, p: float) -> str:
    """What is no class of the network, and the class that it would be."""
    return f"none of these ({label} {100 * p:.0f} %)"


def are_single(found: list[tuple[Who, object]]) -> bool:
    """Whether the answers are about single people."""
    return any(who.person for who, _ in found)


def embeddings(found: list[tuple[Who, Named]]) -> dict[str, np.ndarray]:
    """name (N,) and features (N, C) of clips, likeness (N,), the most probable label (N,), known (N,), as arrays; and
    person (N,), if the answers are about single people."""
    answers = [answer for _, answer in found]
    people = {"person": np.array([who.person for who, _ in found])} if are_single(found) else {}
    return people | {
        "name": np.array([who.clip for who, _ in found]),
        "features": np.stack([answer.features for answer in answers]),
        "likeness": np.array([answer.likeness for answer in answers], np.float32),
        "label": np.array([answer.ranking[0][0] for answer in answers]),
        "known": np.array([answer.is_known for answer in answers]),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Clips
# ---------------------------------------------------------------------------------------------------------------------

def answer_text(found: list[tuple[Who, Named]], form: str) -> str:
    """The names of each clip in one of the forms text, csv and json."""
    writers = {"text": plain_text, "csv": csv_text, "json": json_text}
    return writers[form](found)


def plain_text(found: list[tuple[Who, Named]]) -> str:
    lines = []
    for who, answer in found:
        lines.append(str(who))
        if not answer.is_known:
            lines.append(f"  {none_of_these(*answer.ranking[0])}")
        lines += [f"  {100 * p:5.1f} %  {label}" for label, p in answer.ranking]
    return "\n".join(lines) + "\n"


def csv_text(found: list[tuple[Who, Named]]) -> str:
    """Columns clip, (person,) rank, label, probability, known."""
    columns = slice(2 if are_single(found) else 1)
    rows = [(*Who._fields[columns], "rank", "label", "probability", "known")]
    for who, answer in found:
        known = str(answer.is_known).lower()
        for rank, (label, p) in enumerate(answer.ranking, 1):
            rows.append((*who[columns], rank, label, f"{p:.6f}", known))
    return table(rows)


def json_text(found: list[tuple[Who, Named]]) -> str:
    """[{clip, (person,) known, likeness, top: [{label, probability}, ...]}, ...]"""
    rows = []
    for who, answer in found:
        top = [{"label": label, "probability": round(p, 6)} for label, p in answer.ranking]
        rows.append(keys_of(who) | {"known": answer.is_known, "likeness": round(answer.likeness, 6), "top": top})
    return json.dumps(rows, indent=1) + "\n"


def keys_of(who: Who) -> dict[str, str]:
    """Whom an answer is about, as the first keys of a JSON table."""
    return {key: value for key, value in who._asdict().items() if key == "clip" or value}


def table(rows: list[tuple]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


# ---------------------------------------------------------------------------------------------------------------------
# Actions
# ---------------------------------------------------------------------------------------------------------------------

def action_text(found: list[tuple[Who, list[Event]]], form: str) -> str:
    """The actions in each recording in one of the forms text, csv and json."""
    writers = {"text": plain_actions, "csv": csv_actions, "json": json_actions}
    return writers[form](found)


def plain_actions(found: list[tuple[Who, list[Event]]]) -> str:
    lines = []
    for who, events in found:
        lines.append(str(who) if events else f"{who}: nobody moves")
        for event in events:
            named = event.label if event.known else none_of_these(event.label, event.probability)
            sure = f"{100 * event.probability:5.1f} %" if event.known else " " * 7
            lines.append(f"  {event.start:6.1f} to {event.end:6.1f} s  {sure}  {named}")
    return "\n".join(lines) + "\n"


def csv_actions(found: list[tuple[Who, list[Event]]]) -> str:
    """Columns clip, (person,) start, end, label, probability, known."""
    columns = slice(2 if are_single(found) else 1)
    rows = [(*Who._fields[columns], "start", "end", "label", "probability", "known")]
    for who, events in found:
        for event in events:
            times = f"{event.start:.3f}", f"{event.end:.3f}"
            rows.append((*who[columns], *times, event.label, f"{event.probability:.6f}", str(event.known).lower()))
    return table(rows)


def json_actions(found: list[tuple[Who, list[Event]]]) -> str:
    """[{clip, (person,) segments: [{start, end, label, probability, known}, ...]}, ...]"""
    rows = [keys_of(who) | {"segments": [as_dict(event) for event in events]} for who, events in found]
    return json.dumps(rows, indent=1) + "\n"


def as_dict(event: Event) -> dict:
    """An event for a program to read; its end is None while it goes on."""
    end = None if event.end is None else round(event.end, 3)
    return {"start": round(event.start, 3), "end": end, "label": event.label,
            "probability": round(event.probability, 6), "known": event.known}
