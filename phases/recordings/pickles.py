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
from typing import NamedTuple

import numpy as np

from phases.common.limits import VALUES, check_file, check_text, one_line


class PickledType:
    """Stand-in for numpy.dtype: a plain number or text type, with the byte order from its state."""

    def __init__(self, code: object, *_):
        if not isinstance(code, str) or not re.fullmatch(r"[biufSU]\d{1,6}", code):
            shown = repr(code)[:40] if isinstance(code, str) else f"a {type(code).__name__}"
            raise ValueError(f"holds an array of type {shown}: only numbers and text are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple):
        self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray:
    """Stand-in for numpy.ndarray: numpy itself trusts the state, and the elements of its object arrays are pointers."""

    def __init__(self, *_):
        self.value = np.zeros(0)

    def __setstate__(self, state: tuple):
        _, shape, kind, fortran, raw = state
        self.value = frombuffer(raw, kind, shape, "F" if fortran else "C")

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.value.astype(dtype or self.value.dtype)


def frombuffer(raw: bytes, kind: PickledType, shape: tuple, order: str) -> np.ndarray:
    """Stand-in for numpy's _frombuffer, which protocol 5 uses."""
    return check_text(np.frombuffer(raw, kind.dtype)).reshape(shape, order=order)


def scalar(kind: PickledType, raw: bytes) -> object:
    """Stand-in for numpy's scalar: a plain number or text."""
    return check_text(np.frombuffer(raw, kind.dtype))[0].item()


def encode(text: str, encoding: str) -> bytes:
    """Stand-in for _codecs.encode: protocol 2, which mmcv uses, writes bytes as latin1 text."""
    return text.encode("latin1")


STANDINS = {"numpy.dtype": PickledType, "numpy.ndarray": PickledArray, "multiarray._reconstruct": PickledArray,
            "_codecs.encode": encode, "multiarray.scalar": scalar, "numeric._frombuffer": frombuffer}


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

# kinds of instructions, by their names
REFUSED = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER"}
HASHED = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "FROZENSET"}  # may be keys, and nest others
KEPT = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD", "DUP"}  # leave the object that they found
FOLLOWED = {"EMPTY_TUPLE", "GLOBAL", "MARK", "GET", "BINGET", "LONG_BINGET"}  # push more than a plain object
PUSHES = {op.name for op in pickletools.opcodes if not op.stack_before and len(op.stack_after) == 1}
PUSHES -= REFUSED | FOLLOWED


class Effect(NamedTuple):
    """What an instruction does to the stack: objects taken below a mark, whether those above it too, objects left."""
    below: int
    to_mark: bool
    pushed: int


def effect_of(op: pickletools.OpcodeInfo) -> Effect:
    marks = (pickletools.markobject, pickletools.stackslice)
    below = sum(kind not in marks for kind in op.stack_before)
    return Effect(below, pickletools.markobject in op.stack_before, len(op.stack_after))


EFFECTS = {op.name: effect_of(op) for op in pickletools.opcodes}

# an object on the stack: values that it unpacks to, and depth; MARK and NAME are recognised by identity
Item = tuple[int, int]
MARK: Item = (-1, 0)
NAME: Item = (0, 0)
PLAIN: Item = (1, 0)


def check_opcodes(f: mmap.mmap, size: int) -> None:
    """ValueError for a pickle whose instructions ask for more than its `size` bytes can hold.

    Follows the stack: of each object it knows how many values it unpacks to if it is a tuple, which may be a key. A
    tuple of two references to a tuple of two references, and so on, takes few bytes, and forever to hash.
    """
    stack: list[Item] = []
    memo: dict[int, Item] = {}
    for op, arg, at in pickletools.genops(f):
        name = op.name

        # what pushes one object
        if name in PUSHES:
            stack.append(PLAIN)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name.endswith("GET"):
            stack.append(memo[arg])
        elif name == "MARK":
            stack.append(MARK)

        # what no plain pickle has
        elif name in REFUSED:
            raise ValueError(f"the pickle uses {name}: only numpy arrays and plain containers are read")
        elif name == "FRAME" and arg > size - at or name.endswith("PUT") and not 0 <= arg <= size:
            raise ValueError(f"claims more than its {size} bytes ({name} {arg})")

        # what takes objects, or keeps one
        elif name.endswith("PUT"):
            memo[arg] = stack[-1]
        elif name == "POP":
            stack.pop()
        else:
            follow(name, stack)


def follow(name: str, stack: list[Item]) -> None:
    """Take from the stack what an instruction takes, and leave there what it leaves."""
    below, to_mark, pushed = EFFECTS[name]

    # the objects that it takes
    taken = []
    if to_mark:
        at = len(stack) - 1
        while stack[at] is not MARK:
            at -= 1
        taken = stack[at + 1:]
        del stack[at:]
    if below:
        taken = stack[-below:] + taken
        del stack[-below:]
    if name == "BUILD" and taken[0] is NAME:
        raise ValueError("the pickle sets the state of a function: nothing of it was run")

    # the object that it leaves
    result = NAME if "GLOBAL" in name else PLAIN
    if name in HASHED:
        values = 1 + sum(item[0] for item in taken)
        depth = 1 + max((item[1] for item in taken), default=0)
        if values > VALUES or depth > 100:
            raise ValueError(f"holds a tuple of {values} values, {depth} deep")
        result = (values, depth)
    elif name in KEPT:
        result = taken[0]
    stack += [result] * pushed


CONTAINERS = (dict, list, tuple, set, frozenset)
OPEN = -1


def check_values(d: object) -> None:
    """ValueError for containers that contain themselves, or hold the same ones so often that they unpack to too many.
    """
    size: dict[int, int] = {}  # id of a container: values that it unpacks to; OPEN while its items are checked
    todo = [d]
    while todo:
        value = todo[-1]
        if not isinstance(value, CONTAINERS) or size.get(id(value), OPEN) != OPEN:
            todo.pop()
            continue
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        containers = [item for item in inside if isinstance(item, CONTAINERS)]

        # first the containers in it, then the container itself
        if id(value) not in size:
            size[id(value)] = OPEN
            if any(size.get(id(item)) == OPEN for item in containers):
                raise ValueError("holds a container that contains itself")
            todo += [item for item in containers if id(item) not in size]
        else:
            todo.pop()
            total = len(inside) + sum(size[id(item)] for item in containers)
            total += sum(len(item) for item in inside if isinstance(item, (str, bytes, bytearray)))
            if total > VALUES:
                raise ValueError(f"unpacks to more than {VALUES} values")
            size[id(value)] = total


def plain_value(path: Path) -> object:
    """The value of a pickle, read without running any code in it; ValueError says what is wrong."""
    check_file(path)
    try:
        # its instructions, before any of them is run
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as text:
            check_opcodes(text, len(text))
            text.seek(0)
            value = PlainUnpickler(text).load()

        # what they made
        check_values(value)
        return value
    except Exception as e:  # a hostile or damaged pickle can raise nearly anything
        why = one_line(e) if isinstance(e, ValueError) else f"is not an annotation pickle ({type(e).__name__}: {e})"
        raise ValueError(f"{path}: {one_line(ValueError(why))}") from None


def read_annotations(raw: Path) -> dict:
    """The dictionary {split, annotations} of a pyskl pickle.

    A bare list of annotations, as older mmaction2 writes it, has no splits.
    """
    # a bare list
    d = plain_value(raw)
    if isinstance(d, (list, tuple)) and d and all(isinstance(a, dict) and "keypoint" in a for a in d):
        d = {"split": {}, "annotations": list(d)}

    # the two keys
    known = d if isinstance(d, dict) else {}
    if not isinstance(known.get("split"), dict) or not isinstance(known.get("annotations"), (list, tuple)):
        raise ValueError(f"{raw}: is not an annotation pickle: must be a dictionary with the keys "
                         "split, a dictionary, and annotations, a list")
    return d
