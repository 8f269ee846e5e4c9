"""Numbers in sentences."""
from __future__ import annotations

IRREGULAR = {"person": "people"}


def counted(number: int, noun: str) -> str:
    """1 clip, 2 clips; 2 classes, 2 bodies, 2 people."""
    return f"{number} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
