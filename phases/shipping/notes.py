"""Notes on standard error about clips: one line per clip, or of many clips one line for all that it is true of."""
from __future__ import annotations

import sys
from pathlib import Path

from phases.recordings.archives import as_given


class Notes:
    """Notes about clips. `together`: they are kept until `tell`, which prints each of them once."""

    def __init__(self, together: bool = False):
        self.together = together
        self.found: dict[str, list[tuple[Path | str, str]]] = {}    # the words of many: the clips, and their own words

    def add(self, where: Path | str, words: str, of_many: str = "") -> None:
        """A note about the clip `where`. of_many: its words for several clips, where each clip's own differ."""
        if self.together:
            self.found.setdefault(of_many or words, []).append((where, words))
        else:
            print(as_given(f"{where}: {words}"), file=sys.stderr)

    def tell(self) -> None:
        """Print what was kept."""
        for of_many, clips in self.found.items():
            where, words = clips[0]
            line = f"{where}: {words}" if len(clips) == 1 else f"{len(clips)} clips, such as {where}: {of_many}"
            print(as_given(line), file=sys.stderr)
        self.found.clear()
