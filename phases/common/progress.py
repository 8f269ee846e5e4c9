"""A progress bar on standard error, and a word when a training loses what it had learnt."""
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


def loss_is_back(log: list[dict]) -> str:
    """What to tell of a training whose loss climbs back to where it began, by the lines of its metrics.jsonl; else "".

    Back: after the last two epochs the loss is nearer to the first epoch's than to the lowest, which lay at least a
    tenth below the first. A rate that is too high does this, and the run goes on as if nothing were wrong.
    """
    losses = [line["loss"] for line in log if "loss" in line]
    if len(losses) < 3:
        return ""
    first = losses[0]
    lowest = min(losses)
    if first - lowest < 0.1 * abs(first) or min(losses[-2:]) <= (first + lowest) / 2:
        return ""
    return (f"the loss is back at {losses[-1]:.3g}: it was {lowest:.3g} after {1 + losses.index(lowest)} epochs, "
            f"{first:.3g} after the first; if it stays there, start anew with a lower train.lr")
