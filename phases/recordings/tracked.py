"""Bodies that a tracker numbered -> (M, L, V, C), each number in a row of its own. numpy only."""
from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

import numpy as np

MOST = 20  # numbered bodies of a clip that are kept: those that are seen in most frames

Tracked = list[tuple[Hashable, np.ndarray]]     # the bodies of a frame: number, joints (V, C)


def rows_by_number(frames: list[Tracked], ids: list | None = None) -> np.ndarray:
    """(M, L, V, C) of frames; zeros where a body is not seen. ValueError if there is none, or they differ in shape.

    ids: the number of each row is appended.
    """
    times = Counter(number for frame in frames for number, _ in frame)
    shapes = {body.shape for frame in frames for _, body in frame}
    if not times:
        raise ValueError("no body in any frame")
    if len(shapes) > 1:
        sizes = [f"{V} joints of {C} numbers" for V, C in sorted(shapes)[:3]]
        raise ValueError(f"bodies differ: {', '.join(sizes)}")

    # the rows in the order in which the bodies appear
    kept = {number for number, _ in times.most_common(MOST)}
    rows = {number: row for row, number in enumerate(number for number in times if number in kept)}
    if ids is not None:
        ids += rows
    x = np.zeros((len(rows), len(frames), *shapes.pop()), np.float32)
    for t, frame in enumerate(frames):
        for number, body in frame:
            if number in rows:
                x[rows[number], t] = body
    return x


def with_gaps(numbers: list[int], most: int) -> list[int]:
    """For frame numbers, which rise: the places of the frames in a clip. Frames without a body leave a gap of zeros.

    Numbers that do not rise, or leave more than `most` times as many frames empty as there are, are no frame numbers.
    """
    rises = all(one < other for one, other in zip(numbers, numbers[1:], strict=False))
    if not numbers or not rises or numbers[-1] - numbers[0] >= most * len(numbers):
        return list(range(len(numbers)))
    return [number - numbers[0] for number in numbers]
