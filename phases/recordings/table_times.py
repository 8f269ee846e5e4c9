"""The times of a table's rows in seconds, from the column that tells them. No numpy.

    time, t, timestamp                  seconds, milliseconds, ..., or a count of frames: the first step between two
                                        rows shows which
    time_ms, time [s], milliseconds     the unit is in the name
"""
from __future__ import annotations

import math
import re
from dataclasses import dataclass

UNITS = {  # how a unit is called: its seconds
    1.0: ("s", "sec", "secs", "second", "seconds"),
    1e-3: ("ms", "msec", "millis", "milliseconds"),
    1e-6: ("us", "µs", "usec", "microseconds"),
    1e-9: ("ns", "nsec", "nanoseconds"),
}
SECONDS = {word: seconds for seconds, words in UNITS.items() for word in words}
NAMES = {"time", "t", "timestamp", "time stamp"}
LONGEST = 1.0   # seconds between two frames; a step that is longer has another unit,
SHORTEST = 5e-3     # in which it lasts so long at least


@dataclass
class Times:
    """column: of the times. unit: its seconds; None until two rows have shown it; 0 where no times are told."""
    column: int
    unit: float | None = None

    def settle(self, rows: list[list[str]]) -> None:
        """Decide the unit by the first two rows that tell a time."""
        told = [at for at in map(self._number, rows) if at is not None]
        if self.unit is None and len(told) > 1:
            self.unit = unit_of_step(told[1] - told[0])

    def of(self, row: list[str]) -> float | None:
        """The time of a row in seconds; None if it tells none."""
        number = self._number(row)
        return number * self.unit if self.unit and number is not None else None

    def _number(self, row: list[str]) -> float | None:
        try:
            number = float(row[self.column])
        except ValueError:
            return None
        return number if math.isfinite(number) else None


def unit_of_step(step: float) -> float:
    """The unit in seconds of times that are one step apart; 0 for a count of frames, and for what does not rise."""
    if 0 < step < LONGEST:
        return 1.0
    for unit in (1e-3, 1e-6, 1e-9):
        if SHORTEST <= step * unit < LONGEST:
            return unit
    return 0.0


def times_of_header(header: list[str]) -> Times | None:
    """The column of a table that tells times; None if none does."""
    for number, name in enumerate(header):
        # time_ms, Time [s], timestampMs
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.strip()).lower()
        words = re.sub(r"[\W_]+", " ", words).split()
        unit = SECONDS.get(words[-1]) if words else None
        if unit is not None and (len(words) == 1 and words[0] != "s" or " ".join(words[:-1]) in NAMES):
            return Times(number, unit)
        if " ".join(words) in NAMES:
            return Times(number)
    return None
