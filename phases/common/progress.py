"""A progress bar on standard error."""
from __future__ import annotations

import os
import sys

from tqdm import tqdm


def progress_bar(total: int, done: int, what: str, unit: str) -> tqdm:
    """A bar of the first process alone, redrawn every 30 s where standard error is no terminal."""
    interval = 0.5 if sys.stderr.isatty() else 30
    hidden = os.environ.get("RANK", "0") != "0"
    return tqdm(total=total, initial=done, desc=what, unit=unit, disable=hidden, mininterval=interval,
                dynamic_ncols=True)
