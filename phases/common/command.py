"""Command lines and recipes: from words and TOML tables to frozen dataclasses; and how a program ends.

The annotations of a dataclass say everything. The parser, the manual page and the recipes read them:

    @dataclass(frozen=True)
    class Options:
        clip: Annotated[str, "a file or a folder"]                              # no default: must be given
        format: Annotated[Literal["text", "json"], "of the answer"] = "text"
        jobs: Annotated[int, (1, 1024), "runs side by side"] = 1
        seeds: Annotated[tuple[int, ...], (0, 99), "one run each"] = (0,)       # seeds=0,1,2 or seeds=[0, 1, 2]
        skeleton: Annotated[str, SKELETONS, "of the clips"] = "ntu25"
        serve: Annotated[int | None, (1, 65535), "a port"] = None               # serve= is None again

A note is one of three. A string is help. A tuple of two numbers is a range with both ends. Any other collection (a
dict, a set, a tuple of words) lists the choices, as Literal does. In a tuple, each item must obey them. Types: str,
int, float, bool, dict, Path, Literal; X | None; tuple[X, ...] and tuple[X, X, X]; in recipes another such dataclass.
A check of several fields together belongs in `__post_init__`, which raises ValueError.
"""
from __future__ import annotations

import contextlib
import dataclasses
import datetime
import difflib
import functools
import json
import math
import os
import signal
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Iterable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Literal, NoReturn, TypeVar

try:
    import tomli
except ModuleNotFoundError:  # not installed where networks only predict; Python has it under this name
    import tomllib as tomli

T = TypeVar("T")
HELP = {"-h", "--help", "help"}
RESUMES = "interrupted: the same command goes on from here"
WORDS = {str: "a string", bool: "true or false", int: "an integer", float: "a number", dict: "a table", Path: "a path"}


# ---------------------------------------------------------------------------------------------------------------------
# Fields
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Field:
    """What the annotation of one field says."""
    kind: type                              # a key of WORDS, or a dataclass; of a tuple: the type of its items
    default: object                         # MISSING: the field must be given
    many: bool = False                      # a tuple
    length: int | None = None               # of the tuple; None: any
    optional: bool = False                  # None is a value, too
    choices: Collection | None = None
    range: tuple[float, float] | None = None
    help: str = ""


@functools.cache
def fields_of(cls: type) -> dict[str, Field]:
    """{name: Field} of a dataclass, in its order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for f in dataclasses.fields(cls):
        default = f.default if f.default_factory is MISSING else f.default_factory()
        found[f.name] = read_annotation(hints[f.name], default)
    return found


def read_annotation(hint: object, default: object) -> Field:
    """The Field of `name: hint = default`."""
    said = {}

    # Annotated[X, notes]: help, range, choices
    if typing.get_origin(hint) is Annotated:
        hint, *notes = typing.get_args(hint)
        for note in notes:
            numbers = isinstance(note, tuple) and all(isinstance(end, int | float) for end in note)
            name = "range" if numbers else "choices"
            said["help" if isinstance(note, str) else name] = note

    # X | None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        said["optional"] = True

    # tuple[X, ...] or tuple[X, X, X]
    if typing.get_origin(hint) is tuple:
        hint, *others = typing.get_args(hint)
        said["many"] = True
        said["length"] = None if others == [...] else 1 + len(others)

    # Literal["a", "b"]
    if typing.get_origin(hint) is Literal:
        said["choices"] = typing.get_args(hint)
        hint = type(said["choices"][0])

    return Field(typing.get_origin(hint) or hint, default, **said)


# ---------------------------------------------------------------------------------------------------------------------
# Tables -> dataclasses
# ---------------------------------------------------------------------------------------------------------------------

class UnknownKeyError(ValueError):
    """A key that no field has."""


def build(cls: type[T], table: dict, where: str = "") -> T:
    """Dataclass `cls` from a TOML table; ValueError for an unknown key, a wrong type or a value out of range.

    `where` is what messages put before a key, such as "train.".
    """
    if not isinstance(table, dict):
        raise ValueError(f"{where[:-1]} = {table!r}: is a table, give {where}<key>")
    fields = fields_of(cls)
    values = {}

    # the fields that the table has
    for key, value in table.items():
        path = where + key
        if key not in fields:
            raise UnknownKeyError(f"unknown key {path}{suggestion(key, fields)}")
        field = fields[key]
        is_table = dataclasses.is_dataclass(field.kind)
        values[key] = build(field.kind, value, path + ".") if is_table else checked(path, value, field)

    # the others, of which each needs a default
    for key, field in fields.items():
        if key not in values and field.default is MISSING:
            about = f" ({field.help})" if field.help else ""
            raise ValueError(f"no {where}{key}: give {where}{key}=...{about}")
    return cls(**values)


def suggestion(key: str, fields: dict[str, Field]) -> str:
    """What an unknown key may have meant: the tables that have a field of this name, else the nearest key."""
    inner = {name: field.kind for name, field in fields.items() if dataclasses.is_dataclass(field.kind)}
    tables = [f"{name}.{key}" for name, kind in inner.items() if key in fields_of(kind)]
    return f", did you mean {' or '.join(tables)}?" if tables else nearest(key, fields)


def nearest(word: str, known: Iterable) -> str:
    """`, did you mean 'x'? (known: x, y, z)`: the end of every message about an unknown name."""
    known = sorted(filter(None, map(str, known)))
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    meant = f", did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(known) if len(known) <= 40 else f"{len(known)}, see recipes/README.md"
    return f"{meant} (known: {listed})" if known else ""


def checked(path: str, value: object, field: Field) -> object:
    """`value` in the type of the field, one of its choices and within its range."""
    # words between commas are a list, in a recipe too: model.streams=joint,bone
    if field.many and isinstance(value, str) and value:
        value = read(value, field)

    # the type
    value = widened(value, field.kind)
    if value is None and field.optional:
        return None
    if not same_type(value, field):
        given = json.dumps(value, default=str)
        has_default = field.default not in (MISSING, None)
        like = f", like the default {json.dumps(field.default, default=str)}" if has_default else ""
        raise ValueError(f"{path} = {given}: must be {type_words(field)}{like}")

    # the value, or each item of a tuple
    for item in value if field.many else (value,):
        if field.choices is not None and item not in field.choices:
            raise ValueError(f"{path} = {item!r}{nearest(item, field.choices)}")
        if field.range and not field.range[0] <= item <= field.range[1]:  # NaN fails too
            raise ValueError(f"{path} = {item}: must lie in {field.range[0]} to {field.range[1]}")
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"{path} = {item}: must be a finite number")
    return value


def widened(value: object, kind: type) -> object:
    """A TOML list becomes a tuple; an integer a float and a string a path, if that is the kind."""
    if isinstance(value, list):
        return tuple(widened(item, kind) for item in value)
    if kind is float and type(value) is int:
        return float(value) if abs(value) < 1e300 else math.inf
    return Path(value) if kind is Path and isinstance(value, str) and value else value


def same_type(value: object, field: Field) -> bool:
    """Whether `value` has the type of the field, and a tuple its length. True and false are no integers."""
    items = value if field.many else (value,)
    if not isinstance(items, tuple) or field.length not in (None, len(items)):
        return False
    return all(isinstance(item, field.kind) and isinstance(item, bool) == (field.kind is bool) for item in items)


def type_words(field: Field) -> str:
    if not field.many:
        return WORDS[field.kind]
    number = "" if field.length is None else f"{field.length} "
    return f"a list of {number}{WORDS[field.kind].split()[-1]}s"


# ---------------------------------------------------------------------------------------------------------------------
# Words <-> values
# ---------------------------------------------------------------------------------------------------------------------

def parse(options: type[T], argv: list[str]) -> T:
    """A dataclass of options from key=value words; ValueError names what is wrong and what is possible."""
    fields = fields_of(options)
    table = {}
    for key, text in pairs(argv, f"{next(iter(fields))}=...").items():
        value = read(text, fields[key]) if key in fields else text  # `build` refuses an unknown key
        if value is not MISSING:
            table[key] = value
    return build(options, table)


def parse_known(options: type[T], argv: list[str]) -> tuple[T, list[str]]:
    """(options, the words that are none of their fields), for programs that pass words on to a recipe."""
    known = fields_of(options)
    others = [word for word in argv if word.partition("=")[0] not in known]
    pairs(others)
    return parse(options, [word for word in argv if word not in others]), others


def overrides(argv: list[str]) -> dict[str, object]:
    """{dotted key: value} of the words of a recipe. A value is TOML, or a bare word."""
    return {key: toml_or_word(text) for key, text in pairs(argv).items()}


def pairs(argv: list[str], example: str = "recipe=lite_small or train.epochs=5") -> dict[str, str]:
    """{key: text} of key=value words, each key once."""
    found = {}
    for word in argv:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ValueError(f"argument {word!r}: give key=value, such as {example}")
        if key in found:
            raise ValueError(f"{key}= is given twice: give one value")
        found[key] = text
    return found


def toml_or_word(text: str) -> object:
    """The value of a TOML literal, else the text itself. A date is text: raw=2024-05-01 is a folder."""
    try:
        table = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    is_date = isinstance(table["value"], datetime.date | datetime.time)
    return text if is_date or len(table) > 1 else table["value"]  # several keys: the text has several lines


def read(text: str, field: Field) -> object:
    """The value that a text means to a field; MISSING for an empty text, if the field must be given."""
    value = toml_or_word(text)
    if not text and field.default is MISSING:
        return MISSING
    if not text and field.optional and field.kind is not str:
        return None

    # one value; or a list in TOML, one string in quotes, or words between commas
    if not field.many:
        return text_or(value, text, field.kind)
    if isinstance(value, list):
        return value
    if isinstance(value, str) and value != text:
        return [value]
    parts = filter(None, map(str.strip, text.split(",")))
    return [text_or(toml_or_word(part), part, field.kind) for part in parts]


def text_or(value: object, text: str, kind: type) -> object:
    """For strings and paths the text as it stands, unless the value is a string in quotes: clip=007 is no number."""
    return text if kind in (str, Path) and not isinstance(value, str) else value


def written(value: object, field: Field) -> str:
    """The text that `read` turns into this value."""
    if value is None:
        return ""
    quoted = json.dumps(value, default=str, ensure_ascii=False).replace("\x7f", r"\u007f")  # as TOML wants it
    plain = ",".join(map(str, value)) if field.many else str(value)
    return plain if widened(read(plain, field), field.kind) == value else quoted


def words(options: object) -> list[str]:
    """The key=value words that `parse` turns into these options; defaults are left out."""
    values = {key: (getattr(options, key), field) for key, field in fields_of(type(options)).items()}
    return [f"{key}={written(value, field)}" for key, (value, field) in values.items() if value != field.default]


# ---------------------------------------------------------------------------------------------------------------------
# Programs
# ---------------------------------------------------------------------------------------------------------------------

def run(main: Callable[..., int | None], options: type | None = None, *, recipe: bool = False,
        interrupted: str = RESUMES) -> NoReturn:
    """Run a program and exit with its code.

    Calls main(argv); with a dataclass of `options` main(options); with `recipe` too main(options, the other words).
    --help prints the manual page. Bad input (ValueError, OSError) is one line on standard error and exit code 2. Ctrl-C
    prints `interrupted`, unless empty, and exits with 130. A reader of the output who has seen enough (`| head`) ends
    the program quietly, with 141.
    """
    argv = sys.argv[1:]

    def start() -> int | None:
        if HELP & set(argv):
            return print(manual(main, options, recipe))
        if options is None:
            return main(argv)
        return with_words(main, options, argv) if recipe else main(parse(options, argv))

    code = exit_code(start, interrupted)

    # the other processes of a training; one that failed does not wait for them
    distributed = sys.modules.get("torch.distributed")
    if not code and distributed and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()

    # what cannot be written now would fail once more at exit: let it go nowhere
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def with_words(main: Callable[..., int | None], options: type, argv: list[str]) -> int | None:
    """main(options, the other words). What is missing, or no key of a recipe, may be a misspelt option."""
    own = fields_of(options)
    others = {word.partition("=")[0] for word in argv} - {*own, "recipe", "data", "seed"}
    try:
        return main(*parse_known(options, argv))
    except ValueError as e:
        for key in sorted(others):
            is_unknown = isinstance(e, UnknownKeyError) and str(e).startswith(f"unknown key {key},")
            close = difflib.get_close_matches(key, own, n=1, cutoff=0.8)
            is_missing = str(e).startswith(("no recipe", *(f"{word} {close[0]}" for word in ("no", "give") if close)))
            if close and (is_missing or is_unknown):
                what = "unknown key" if is_unknown else f"{e}; no option"
                raise ValueError(f"{what} {key}, did you mean {close[0]!r}? (options: {', '.join(own)})") from None
        raise


def exit_code(start: Callable[[], int | None], interrupted: str) -> int:
    """What `start` returns, or the code of its exception, which becomes a line on standard error."""
    line = ""
    try:
        code = start() or 0
        print(end="", flush=True)
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE
    except (ValueError, OSError) as e:
        code = 2
        line = "error: " + " ".join(str(e).split())
    except KeyboardInterrupt:
        code = 130
        line = interrupted

    # of several processes that train together, the first speaks
    if line and os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr)
    return code


def manual(main: Callable, options: type | None = None, recipe: bool = False) -> str:
    """The manual page of a program: the docstring of its module, and a line per option."""
    page = (sys.modules[main.__module__].__doc__ or "").strip()
    if options is None:
        return page

    # key=default, and what the field says
    rows = {}
    for key, field in fields_of(options).items():
        default = "..." if field.default is MISSING else written(field.default, field)
        choices = ", ".join(filter(None, map(str, field.choices or ())))
        limits = "{} to {}".format(*field.range) if field.range else ""
        rows[f"{key}={default}"] = "; ".join(filter(None, (field.help, choices, limits)))
    if recipe:
        rows["key.sub=value"] = "any field of a recipe"

    # two columns
    width = min(30, max(map(len, rows)))
    margin = " " * (width + 6)
    lines = [page, "", "Options and their defaults (...: must be given):"]
    for left, about in rows.items():
        lines.append(textwrap.fill(f"    {left:<{width}}  {about}", 120, subsequent_indent=margin))
    return "\n".join(lines)
