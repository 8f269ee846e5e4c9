"""Nested lists of JSON: how deep they are, and the array that they are if null and empty lists count as missing."""
from __future__ import annotations

import contextlib
import math

import numpy as np

from phases.common.limits import VALUES


def full_array(value: object, sizes: tuple[int, ...]) -> np.ndarray | None:
    """The array of nested numbers, NaN where one is missing; None for lists of different lengths, or anything else.

    sizes: of the lists around a number, as `nesting` finds them.
    """
    # every list is whole
    with contextlib.suppress(ValueError, TypeError):
        x = np.asarray(value, np.float32)
        if x.ndim == len(sizes):
            return x

    # a joint, a body or a frame is missing
    with contextlib.suppress(ValueError, TypeError):
        if math.prod(sizes) <= VALUES:
            return completed(value, sizes)
    return None


def completed(value: object, sizes: tuple[int, ...]) -> np.ndarray:
    """Nested numbers as an array; null and empty lists in it become NaN. ValueError if others differ in length."""
    if is_empty(value):
        return np.full(sizes, np.nan, np.float32)
    if len(sizes) <= 1:
        return np.asarray(value, np.float32)
    if len(value) != sizes[0]:
        raise ValueError("lists of different lengths")
    return np.stack([completed(item, sizes[1:]) for item in value])


def nesting(value: object, deepest: int = 8) -> tuple[tuple[int, ...], object]:
    """(sizes of the nested lists around the first item that is no list, that item); empty ones do not count.

    (sizes, None) if there is no such item. No list is opened that has `deepest` lists around it.
    """
    if not isinstance(value, list) or not deepest:
        return (), None if is_empty(value) else value
    for item in value:
        sizes, found = nesting(item, deepest - 1)
        if found is not None:
            return (len(value), *sizes), found
    return (len(value),), None


def is_empty(value: object) -> bool:
    return value is None or value == [] or value == {}
