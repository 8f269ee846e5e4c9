"""Numbers in sentences."""
from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """1 clip, 2 clips; 2 classes, 2 bodies."""
    plural = noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
    if noun.endswith("y") and noun[-2] not in "aeiou":
        plural = noun[:-1] + "ies"
    return f"{number} {noun if number == 1 else plural}"
