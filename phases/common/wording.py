"""Numbers in sentences."""
from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """1 clip, 2 clips."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def between(least: int, most: int) -> str:
    """20 to 30; 30, where both are the same."""
    return f"{least}" if least == most else f"{least} to {most}"
