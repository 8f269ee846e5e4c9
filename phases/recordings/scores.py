"""The scores that a pose estimator gives its joints, and from which score on a joint counts. numpy only.

Joints that an estimator does not see have low scores and any place. Where their scores are a group of their own, apart
from those of the joints that are seen, the border is between the two groups. adopt measures it over a data set, for
data.min_score; of a clip that a network, a picture or the page is given, it is that of the network's training clips if
these had one, else the clip's own.
"""
from __future__ import annotations

import numpy as np

STEP = 0.05       # of the high scores: width of a bin of the histogram
BORDER = 0.5      # of the high scores: no border is above
FEW = 0.01        # share of the joints: fewer low scores are no group


def scores_in(numbers: np.ndarray, channels: str = "xyz") -> np.ndarray | None:
    """The scores in the numbers (..., C) of joints: the fourth, or that of x, y, s; None if they have none."""
    has_score = numbers.shape[-1:] == (4,) or numbers.shape[-1:] == (3,) and channels == "xys"
    return numbers[..., -1] if has_score else None


def least_of_clip(scores: np.ndarray | None, min_score: float = 0.0) -> float:
    """The least score of a joint that counts in a clip; min_score: that of the network's training clips, 0 if none."""
    if min_score or scores is None:
        return min_score
    return least_score(scores[np.isfinite(scores) & (scores > 0)])[0]


def least_score(scores: np.ndarray) -> tuple[float, str]:
    """(the least score of a joint that counts, why) by the scores (N,) of joints; (0.0, "") without any.

    The border is the middle of the emptiest bins between a group of low scores and the others; 0.0 if there is none.
    """
    if not len(scores):
        return 0.0, ""
    high = float(np.quantile(scores, 0.95))
    bins = round(BORDER / STEP)
    count = np.histogram(scores / high, bins, (0, BORDER))[0]

    # the emptiest bin that has low scores below it, and the emptiest ones above
    first = 1 + int(count[1:].argmin())
    last = first
    while last + 1 < bins and count[last + 1] <= count[first]:
        last += 1

    # below it is a group, and most joints are above
    low = count[:first].sum() / len(scores)
    if low < FEW or low > 1 - BORDER or count[first] > count[:first].mean() / 2:
        return 0.0, f"scores of {scores.min():.2g} to {scores.max():.2g} are one group: every joint counts"
    border = float(f"{STEP * (first + last + 1) / 2 * high:.2g}")
    return border, f"{100 * low:.2g} % of the joints have lower scores, a group of their own: they may be anywhere"
