"""Arrays and plain containers out of an untrusted pickle, without running any code it may carry. numpy alone."""
from __future__ import annotations

import pickle
import re

import numpy as np


class _PickledType:
    """Stands in for numpy.dtype in a pickle: a plain number or text type, and the byte order that its state brings."""

    def __init__(self, code, *_):
        if not re.fullmatch(r"[biufSU]\d{1,6}", str(code)):
            raise ValueError(f"holds an array of type {code!r}: only numbers and text are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray:
    """Stands in for an ndarray in a pickle; numpy itself would trust the state, and its object arrays are raw pointers."""

    def __init__(self, *_):
        self.value = np.zeros(0)

    def __setstate__(self, state):
        _, shape, kind, fortran, raw = state
        self.value = np.frombuffer(raw, kind.dtype).reshape(shape, order="F" if fortran else "C")

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.value.astype(dtype or self.value.dtype)


class PlainUnpickler(pickle.Unpickler):
    """Reads arrays and plain containers of an untrusted pickle. Nothing of any module is ever looked up: the few names that pickles of
    arrays ask for (numpy 1 and 2 alike) get stand-ins, every other name raises ValueError.
    """
    STANDINS = {
        "numpy.dtype": _PickledType, "numpy.ndarray": _PickledArray, "multiarray._reconstruct": _PickledArray,
        "_codecs.encode": lambda text, _: text.encode("latin1"),  # how protocol 2, mmcv's, writes bytes
        "multiarray.scalar": lambda kind, raw: np.frombuffer(raw, kind.dtype)[0].item(),
        "numeric._frombuffer": lambda raw, kind, shape, order: np.frombuffer(raw, kind.dtype).reshape(shape, order=order)}

    def find_class(self, module: str, name: str):
        standin = self.STANDINS.get(f"{re.sub(r'^numpy[.]_?core[.]', '', module)}.{name}")
        if standin is None:
            raise ValueError(f"the pickle asks for {module}.{name}: only numpy arrays and plain containers are read; nothing of it was run")
        return standin
