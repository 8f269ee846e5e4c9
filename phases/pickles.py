"""pyskl's annotation pickles: arrays and plain containers, read without running any code in the file. numpy only."""
from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np


class _PickledType:
    """Stand-in for numpy.dtype: a plain number or text type, with the byte order from its state."""

    def __init__(self, code, *_):
        if not re.fullmatch(r"[biufSU]\d{1,6}", str(code)):
            raise ValueError(f"holds an array of type {code!r}: only numbers and text are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray:
    """Stand-in for numpy.ndarray: numpy itself trusts the state, and the elements of its object arrays are pointers."""

    def __init__(self, *_):
        self.value = np.zeros(0)

    def __setstate__(self, state):
        _, shape, kind, fortran, raw = state
        self.value = np.frombuffer(raw, kind.dtype).reshape(shape, order="F" if fortran else "C")

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.value.astype(dtype or self.value.dtype)


def _encode(text: str, encoding: str) -> bytes:
    """Stand-in for _codecs.encode: protocol 2, which mmcv uses, writes bytes as latin1 text."""
    return text.encode("latin1")


def _scalar(kind: _PickledType, raw: bytes):
    return np.frombuffer(raw, kind.dtype)[0].item()


def _frombuffer(raw: bytes, kind: _PickledType, shape: tuple, order: str) -> np.ndarray:
    return np.frombuffer(raw, kind.dtype).reshape(shape, order=order)


STANDINS = {"numpy.dtype": _PickledType, "numpy.ndarray": _PickledArray, "multiarray._reconstruct": _PickledArray,
            "_codecs.encode": _encode, "multiarray.scalar": _scalar, "numeric._frombuffer": _frombuffer}


class PlainUnpickler(pickle.Unpickler):
    """Reads arrays and plain containers from an untrusted pickle.

    It never looks up a name in a module. The few names that pickles of numpy 1 and 2 arrays ask for get a stand-in; any
    other name raises ValueError.
    """

    def find_class(self, module: str, name: str):
        known = f"{re.sub(r'^numpy[.]_?core[.]', '', module)}.{name}"  # numpy 2 renamed numpy.core to numpy._core
        if known not in STANDINS:
            raise ValueError(f"the pickle asks for {module}.{name}: "
                             "only numpy arrays and plain containers are read; nothing of it was run")
        return STANDINS[known]


def read_annotations(raw: Path) -> dict:
    """The dictionary {split, annotations} of a pyskl pickle, opened without running any code in it.

    A bare list of annotations, as older mmaction2 writes it, has no splits.
    """
    with open(raw, "rb") as f:
        try:
            d = PlainUnpickler(f).load()
        except Exception as e:  # a hostile or damaged pickle can raise nearly anything
            why = str(e) if isinstance(e, ValueError) else f"is not an annotation pickle ({type(e).__name__}: {e})"
            raise ValueError(f"{raw}: {why}") from None
    if isinstance(d, (list, tuple)) and d and all(isinstance(a, dict) and "keypoint" in a for a in d):
        d = {"split": {}, "annotations": list(d)}
    known = d if isinstance(d, dict) else {}
    if not isinstance(known.get("split"), dict) or not isinstance(known.get("annotations"), (list, tuple)):
        raise ValueError(f"{raw}: is not an annotation pickle: must be a dictionary with the keys "
                         "split, a dictionary, and annotations, a list")
    return d
