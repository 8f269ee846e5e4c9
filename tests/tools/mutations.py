"""What `just fuzz` feeds a target: valid bytes, JSON and arrays, changed by functions of a random generator."""
from __future__ import annotations

import copy
import io
import json
import random
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NUMBERS = (b"0", b"-1", b"1e999", b"nan", b"-inf", b"1e30", b"99999999999999999999", b"1_0", b"4294967296",
           b"2147483648", b"0x10", b"1.5", b"-0.0", b"1e-400", b"25", b"1000000", b"")
VALUES = (None, True, False, 0, -1, 1, 2, 25, 2**31, 2**63, -2**63, 10**30, 0.5, -0.0, 1e30, 1e300, float("inf"),
          float("nan"), "", "0", "a", "\0", "ntu25", "\ud800", "x" * 300, "../x", [], [[]], {}, {"": []}, [0],
          [1e999], [None])
WORDS = (b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\r", b"\n", b"\r\n", b" ", b"\t",
         b",", b'"', b"[", b"]", b"{", b"}", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"PK\x03\x04", b"\x93NUMPY")
NAMES = ("x.npy", "../x.npy", "/", "names")  # of members of an archive
ODD_FLOATS = (np.nan, np.inf, 1e30, 3e38, -1, 0, 2**31)
ODD_INTEGERS = (-1, 0, 2**31 - 1, 60, 1)


# ---------------------------------------------------------------------------------------------------------------------
# Bytes
# ---------------------------------------------------------------------------------------------------------------------

def damaged(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Bytes with one to four changes: flipped, replaced, cut, doubled, moved, another seed's, other numbers."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not out:
            break
        at = rng.randrange(len(out))
        kind = rng.randrange(10)
        end = min(len(out), at + rng.choice((1, 2, 4, 8, 40, 400, 4000)))

        # a bit or a byte
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.randrange(256)

        # a section: cut, the rest cut, doubled
        elif kind == 2:
            del out[at:end]
        elif kind == 3:
            del out[at:]
        elif kind == 4:
            out[at:at] = out[at:end]

        # other bytes: inserted, in place, from another seed
        elif kind == 5:
            out[at:at] = rng.choice(WORDS)
        elif kind == 6:
            word = rng.choice(WORDS)
            out[at:at + len(word)] = word
        elif kind == 7:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            out[at:end] = other[start:start + rng.choice((4, 40, 400))]

        # text: a number, a line
        elif kind == 8:
            other_number(out, at, rng)
        else:
            out = other_line(out, rng)
    return bytes(out)


def other_number(out: bytearray, at: int, rng: random.Random) -> None:
    """Replace the first number after a place."""
    hit = re.compile(rb"-?[\d.]+(e[+-]?\d+)?").search(out, at)
    if hit:
        out[hit.start():hit.end()] = rng.choice(NUMBERS)


def other_line(data: bytearray, rng: random.Random) -> bytearray:
    """A line replaced by another one, or doubled without a break."""
    lines = bytes(data).split(b"\n")
    i = rng.randrange(len(lines))
    j = rng.randrange(len(lines))
    lines[i] = lines[j] if rng.random() < 0.5 else lines[i] * 2
    return bytearray(b"\n".join(lines))


@dataclass
class Target:
    """take(data) reads an input: False if it refused it without an exception. mutate(seed, rng, seeds) makes one."""
    name: str
    seeds: list[bytes]
    take: Callable[[bytes], object]
    mutate: Callable[[bytes, random.Random, list[bytes]], bytes] = damaged


# ---------------------------------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------------------------------

def changed(value: object, rng: random.Random) -> object:
    """A JSON value with one place replaced, dropped or doubled."""
    value = copy.deepcopy(value)
    places = places_of(value)
    if not places or rng.random() < 0.02:
        return rng.choice(VALUES)

    inside, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del inside[key]
    elif kind == 1 and isinstance(inside, list):
        inside.insert(key, inside[key])
    elif kind == 2:
        inside[key] = copy.deepcopy(rng.choice([a[k] for a, k in places]))
    elif kind == 3 and isinstance(inside[key], (int, float)):
        inside[key] = inside[key] + rng.choice((-1, 1, 0.5, 2**31, -2**31))
    else:
        inside[key] = copy.deepcopy(rng.choice(VALUES))
    return value


def places_of(value: object) -> list[tuple[dict | list, str | int]]:
    """(table or list, key or index) of what a JSON value holds at any depth, some 4000 of them at most."""
    places = []
    todo = [value] if isinstance(value, (dict, list)) else []
    while todo and len(places) < 4000:
        inside = todo.pop()
        for key in list(inside) if isinstance(inside, dict) else range(len(inside)):
            places.append((inside, key))
            if isinstance(inside[key], (dict, list)) and inside[key]:
                todo.append(inside[key])
    return places


def changed_json(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """JSON with a change of its values, or of its bytes."""
    if rng.random() < 0.3:
        return damaged(data, rng, others)
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2))):
        value = changed(value, rng)
    return json.dumps(value).encode()


# ---------------------------------------------------------------------------------------------------------------------
# Arrays and archives
# ---------------------------------------------------------------------------------------------------------------------

def odd_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    """An array of another type, shape or value."""
    kind = rng.randrange(9)

    # another type
    if kind == 0:
        is_text = array.dtype.kind in "US"
        types = ("U3", "S2") if is_text else ("f2", "f8", ">f4", "i1", "i8", "u8", "c8", "U3", "S2", "?")
        with np.errstate(all="ignore"):
            return array.astype(rng.choice(types))

    # another shape, or order in memory
    if kind == 1 and array.ndim:
        return np.moveaxis(array, rng.randrange(array.ndim), 0)
    if kind == 2 and array.ndim:
        return array[:rng.randrange(len(array) + 1)]
    if kind == 3:
        return array.reshape(-1) if rng.random() < 0.5 else array[None]
    if kind == 4 and array.size:
        return array.reshape(-1)[0]
    if kind == 5:
        return np.asfortranarray(array)
    if kind == 6:
        return np.zeros((0, *array.shape[1:]), array.dtype)

    # another value
    array = array.copy()
    if array.size and array.dtype.kind in "fiu":
        odd = ODD_FLOATS if array.dtype.kind == "f" else ODD_INTEGERS
        array.reshape(-1)[rng.randrange(array.size)] = rng.choice(odd)
    return array


def changed_npy(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """An .npy file with another array, or other bytes."""
    if rng.random() < 0.6:
        only_header = rng.random() < 0.7
        return damaged(data[:200], rng, others) + data[200:] if only_header else damaged(data, rng, others)
    out = io.BytesIO()
    np.save(out, odd_array(np.load(io.BytesIO(data)), rng))
    return out.getvalue()


def changed_zip(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """A zip archive with other bytes, or with a damaged, lost or odd member under a right checksum."""
    if rng.random() < 0.25:
        return damaged(data, rng, others)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        members = [(info.filename, z.read(info)) for info in z.infolist()]

    # one member: renamed, dropped or changed
    i = rng.randrange(len(members))
    name, text = members[i]
    if rng.random() < 0.1:
        members[i] = (rng.choice((*NAMES, name.upper())), text)
    elif rng.random() < 0.1:
        del members[i]
    else:
        members[i] = (name, (changed_npy if name.endswith(".npy") else damaged)(text, rng, others))

    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as z, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of two members of one name
        for name, text in members:
            z.writestr(name, text)
    return out.getvalue()
