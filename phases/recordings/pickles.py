"""pyskl's annotation pickles: arrays and plain containers, read without running any code in the file. numpy only.

A pickle is a program. It is looked through before it runs: no instruction may claim more bytes than the file has, give
an object a number beyond them, or build keys that take forever to compare.
"""
from __future__ import annotations

import mmap
import pickle
import pickletools
import re
from pathlib import Path

import numpy as np

from phases.common.limits import VALUES, check_file, check_text, one_line


class _PickledType:
    """Stand-in for numpy.dtype: a plain number or text type, with the byte order from its state."""

    def __init__(self, code, *_):
        if not isinstance(code, str) or not re.fullmatch(r"[biufSU]\d{1,6}", code):
            shown = repr(code)[:40] if isinstance(code, str) else f"a {type(code).__name__}"
            raise ValueError(f"holds an array of type {shown}: only numbers and text are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray:
    """Stand-in for numpy.ndarray: numpy itself trusts the state, and the elements of its object arrays are pointers."""

    def __init__(self, *_):
        self.value = np.zeros(0)

    def __setstate__(self, state):
        _, shape, kind, fortran, raw = state
        self.value = check_text(np.frombuffer(raw, kind.dtype)).reshape(shape, order="F" if fortran else "C")

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.value.astype(dtype or self.value.dtype)


def _encode(text: str, encoding: str) -> bytes:
    """Stand-in for _codecs.encode: protocol 2, which mmcv uses, writes bytes as latin1 text."""
    return text.encode("latin1")


def _scalar(kind: _PickledType, raw: bytes):
    return check_text(np.frombuffer(raw, kind.dtype))[0].item()


def _frombuffer(raw: bytes, kind: _PickledType, shape: tuple, order: str) -> np.ndarray:
    return check_text(np.frombuffer(raw, kind.dtype)).reshape(shape, order=order)


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


# ---------------------------------------------------------------------------------------------------------------------
# Before and after it runs
# ---------------------------------------------------------------------------------------------------------------------

REFUSED = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER"}
HASHED = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "FROZENSET"}  # may be keys, and nest others
KEPT = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD", "DUP"}  # leave the object that they found
PUSHES = {op.name for op in pickletools.opcodes if not op.stack_before and len(op.stack_after) == 1} - REFUSED - {
    "EMPTY_TUPLE", "GLOBAL", "MARK", "GET", "BINGET", "LONG_BINGET"}
EFFECT = {  # objects taken below a mark, whether all above the mark are taken too, objects left
    op.name: (sum(kind not in (pickletools.markobject, pickletools.stackslice) for kind in op.stack_before),
              pickletools.markobject in op.stack_before, len(op.stack_after)) for op in pickletools.opcodes}
MARK, NAME, PLAIN = (-1, 0), (0, 0), (1, 0)  # (values that an object unpacks to, depth)


def check_opcodes(f, size: int) -> None:
    """ValueError for a pickle whose instructions ask for more than its `size` bytes can tell.

    Follows the stack: of each object it knows how many values it unpacks to if it is a tuple, which may be a key. A
    tuple of two references to a tuple of two references, and so on, takes few bytes, and forever to hash.
    """
    stack, memo = [], {}
    for op, arg, at in pickletools.genops(f):
        name = op.name
        if name in PUSHES:
            stack.append(PLAIN)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[arg])
        elif name == "MARK":
            stack.append(MARK)
        elif name in REFUSED:
            raise ValueError(f"the pickle uses {name}: only numpy arrays and plain containers are read")
        elif name == "FRAME" and arg > size - at or name.endswith("PUT") and not 0 <= arg <= size:
            raise ValueError(f"claims more than its {size} bytes ({name} {arg})")
        elif name.endswith("PUT"):
            memo[arg] = stack[-1]
        elif name == "POP":
            stack.pop()
        else:
            _follow(name, stack)


def _follow(name: str, stack: list[tuple[int, int]]) -> None:
    """What an instruction takes from the stack and leaves there."""
    below, to_mark, pushed = EFFECT[name]
    inside = []
    if to_mark:
        at = len(stack) - 1
        while stack[at] is not MARK:
            at -= 1
        inside = stack[at + 1:]
        del stack[at:]
    if below:
        taken = stack[-below:]
        del stack[-below:]
        inside = taken + inside
    if name == "BUILD" and inside[0] is NAME:
        raise ValueError("the pickle sets the state of a function: nothing of it was run")
    result = NAME if "GLOBAL" in name else PLAIN
    if name in HASHED:
        result = 1 + sum(item[0] for item in inside), 1 + max((item[1] for item in inside), default=0)
        if result[0] > VALUES or result[1] > 100:
            raise ValueError(f"holds a tuple of {result[0]} values, {result[1]} deep")
    elif name in KEPT:
        result = inside[0]
    stack += [result] * pushed


def check_values(d: object) -> None:
    """ValueError for containers that contain themselves, or hold the same ones so often that they unpack to too many.
    """
    size: dict[int, int] = {}  # values that a container unpacks to; -1 while it is looked at
    todo = [d]
    while todo:
        value = todo[-1]
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        if not isinstance(value, (dict, list, tuple, set, frozenset)) or size.get(id(value), -1) >= 0:
            todo.pop()
            continue
        inner = [x for x in inside if isinstance(x, (dict, list, tuple, set, frozenset))]
        if id(value) not in size:
            size[id(value)] = -1
            if any(size.get(id(x)) == -1 for x in inner):
                raise ValueError("holds a container that contains itself")
            todo += [x for x in inner if id(x) not in size]
        else:
            todo.pop()
            total = len(inside) + sum(size[id(x)] for x in inner)
            total += sum(len(x) for x in inside if isinstance(x, (str, bytes, bytearray)))
            if total > VALUES:
                raise ValueError(f"unpacks to more than {VALUES} values")
            size[id(value)] = total


def read_annotations(raw: Path) -> dict:
    """The dictionary {split, annotations} of a pyskl pickle, opened without running any code in it.

    A bare list of annotations, as older mmaction2 writes it, has no splits.
    """
    check_file(raw)
    try:
        with open(raw, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as text:
            check_opcodes(text, len(text))
            text.seek(0)
            d = PlainUnpickler(text).load()
        check_values(d)
    except Exception as e:  # a hostile or damaged pickle can raise nearly anything
        why = one_line(e) if isinstance(e, ValueError) else f"is not an annotation pickle ({type(e).__name__}: {e})"
        raise ValueError(f"{raw}: {one_line(ValueError(why))}") from None
    if isinstance(d, (list, tuple)) and d and all(isinstance(a, dict) and "keypoint" in a for a in d):
        d = {"split": {}, "annotations": list(d)}
    known = d if isinstance(d, dict) else {}
    if not isinstance(known.get("split"), dict) or not isinstance(known.get("annotations"), (list, tuple)):
        raise ValueError(f"{raw}: is not an annotation pickle: must be a dictionary with the keys "
                         "split, a dictionary, and annotations, a list")
    return d
