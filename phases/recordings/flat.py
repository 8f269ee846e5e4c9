"""Arrays in other orders than (bodies, frames, joints, coordinates): flat rows, channels first. numpy only.

What the shape leaves open is assumed, and said once on standard error.
"""
from __future__ import annotations

import sys
from functools import lru_cache

import numpy as np

COUNTS = (15, 17, 18, 20, 21, 22, 24, 25, 26, 32, 33)   # joints of usual skeletons
WORDS = {2: "x, y", 3: "x, y, z", 4: "x, y, z, score"}


@lru_cache
def note(text: str) -> None:
    """Prints a line on standard error, once."""
    print(f"  {text}", file=sys.stderr)


def in_usual_order(x: np.ndarray, joints: int = 0) -> np.ndarray:
    """(L, V, C) or (M, L, V, C) of an array; `joints`: of the skeleton, 0 if unknown.

    (L, C·V) and (M, L, C·V) have a flat row per frame; (3, L, V) and (3, L, V, M) have their channels first, as ST-GCN
    has them. Others are returned as they are.
    """
    if x.ndim == 2:
        return joints_of_rows(x, joints)
    if x.ndim == 3 and is_rows_of_bodies(x.shape, joints):
        return np.stack([joints_of_rows(body, joints) for body in x])
    if x.ndim == 3 and x.shape[0] in (2, 3) and x.shape[2] not in WORDS:
        note(f"arrays of shape ({x.shape[0]}, frames, {x.shape[2]}) are read as channels first: {WORDS[x.shape[0]]}")
        return np.moveaxis(x, 0, 2)

    # one body behind two or three channels, or two behind three: bodies with three coordinates each end in 3
    if x.ndim == 4 and (x.shape[0] in (2, 3) and x.shape[3] == 1 or x.shape[0] == 3 and x.shape[3] == 2):
        note(f"arrays of shape ({x.shape[0]}, frames, {x.shape[2]}, {x.shape[3]}) are read as channels first, as "
             f"ST-GCN's: {WORDS[x.shape[0]]} of {x.shape[3]} {'body' if x.shape[3] == 1 else 'bodies'}")
        return np.moveaxis(x, (3, 1, 2, 0), (0, 1, 2, 3))
    return x


def is_rows_of_bodies(shape: tuple[int, ...], joints: int) -> bool:
    """Whether an array is (bodies, L, C·V): a flat row per body and frame."""
    bodies, _, N = shape
    layout = row_layout(N, joints)
    if N in WORDS or N == joints or layout[0] == 2 or not layout[1]:
        return False
    return joints > 0 or bodies == 2 and N not in COUNTS


def joints_of_rows(x: np.ndarray, joints: int = 0) -> np.ndarray:
    """(L, V, C) of flat rows (L, N), or (2, L, V, 3) of rows with two bodies; ValueError if N fits no joints."""
    N = x.shape[1]
    bodies, V, C = row_layout(N, joints)
    if not V:
        wanted = f"{joints} joints of the skeleton" if joints else "joints of 2, 3 or 4 numbers"
        raise ValueError(f"has rows of {N} numbers: these are no {wanted}; an array is (frames, joints, 3)")

    if not joints:
        note(f"rows of {N} numbers are read as {'two bodies of ' if bodies == 2 else ''}{V} joints of {WORDS[C]}; "
             "skeleton.json can name another skeleton")
    x = x.reshape(len(x), bodies, V, C)
    return np.moveaxis(x, 1, 0) if bodies == 2 else x[:, 0]


def row_layout(N: int, joints: int = 0) -> tuple[int, int, int]:
    """(bodies, joints, channels) of N numbers; no joints if they fit none."""
    if joints:
        for bodies, C in ((1, 3), (1, 2), (1, 4), (2, 3)):
            if N == bodies * joints * C:
                return bodies, joints, C
        return 1, 0, 0

    # usual skeletons first; 150 numbers are CTR-GCN's two bodies of 25 joints
    if N == 150:
        return 2, 25, 3
    for C in (3, 2, 4):
        if N % C == 0 and N // C in COUNTS:
            return 1, N // C, C
    return (1, N // 3, 3) if N % 3 == 0 and N else (1, 0, 0)
