"""Recipe files: found by name, merged with what they extend and with the words of a command line. No torch.

A recipe is a TOML file of a few lines: `extends`, and what differs from that parent. `resolved` gives the merged table;
the fields that it may have, and their defaults, are those of dataclasses (training/recipe.py).
"""
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from phases.common.command import nearest, overrides, tomli
from phases.common.files import NETWORKS, ROOT


def recipe_files() -> dict[str, Path]:
    """Every recipe by its bare name; studies are in a folder of their own."""
    return {path.stem: path for path in sorted((ROOT / "recipes").glob("**/*.toml"))}


def read_recipe(name: str) -> tuple[str, dict]:
    """(name, table) of a recipe, given by its bare name or by a path that ends in .toml."""
    known = recipe_files()
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None or not path.is_file():
        raise ValueError(f"no recipe {name!r}{nearest(name, known)}; `just adopt raw=...` writes one for own clips")
    try:
        return path.stem, tomli.loads(path.read_text())
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ValueError(f"{path}: {e}") from None


def read_chain(name: str) -> tuple[str, list[dict]]:
    """(name, tables from the root down to it) of a recipe and those it extends, at most three in all."""
    name, table = read_recipe(name)
    chain = [table]
    parent = table.pop("extends", None)
    while parent is not None:
        chain.insert(0, read_recipe(str(parent))[1])
        parent = chain[0].pop("extends", None)
        if len(chain) > 3:
            raise ValueError(f"recipe {name!r}: extends a chain of more than three recipes")
    return name, chain


def read_data_set(name: str) -> dict:
    """The table of a data set's recipe: one that sets data.reader."""
    def is_set(known: str) -> bool:
        return "reader" in read_recipe(known)[1].get("data", {})

    files = recipe_files()
    if not name.endswith(".toml") and not (name in files and is_set(name)):
        sets = filter(is_set, files)
        raise ValueError(f"data = {name!r}: no data set has this name{nearest(name, sets)}; `just adopt raw=...` "
                         "makes one of own clips")
    return read_recipe(name)[1]


def shipped(init: str) -> Path | None:
    """The checkpoint of a network that comes along, if `init` is the bare name of one."""
    path = NETWORKS / f"{init}.pt"
    return path if init and "/" not in init and path.is_file() else None


def merged(base: dict, over: dict) -> dict:
    """`base` with the values of `over`: tables merge, scalars and arrays replace."""
    table = dict(base)
    for key, value in over.items():
        both_tables = isinstance(value, dict) and isinstance(base.get(key), dict)
        table[key] = merged(base[key], value) if both_tables else value
    return table


def merged_all(tables: Iterable[dict]) -> dict:
    whole: dict = {}
    for table in tables:
        whole = merged(whole, table)
    return whole


def resolved(argv: list[str]) -> dict:
    """The merged table of `recipe=NAME [data=DATASET] [key.sub=value ...]`; its key recipe is the recipe's name.

    Tables are merged in this order, later ones win: the root of the `extends` chain, the data set, the rest of the
    chain, the words. A row therefore keeps what it differs in on every data set. A start from a network that comes
    along (init=any) has the rates of the recipe finetune, on top of the data set's.
    """
    given = overrides(argv)
    if "recipe" not in given:
        raise ValueError("no recipe: give recipe=NAME, such as recipe=lite_nano" + nearest("", recipe_files()))
    name, chain = read_chain(str(given.pop("recipe")))
    above = [read_data_set(str(given.pop("data")))] if "data" in given else []
    if shipped(str(given.get("init", merged_all([*chain, *above]).get("init", "")))):
        above.append(read_recipe("finetune")[1])
    chain[1:1] = above

    # a word a.b=value is the table {a: {b: value}}
    for key, value in given.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        chain.append(value)
    return current(merged_all([{"recipe": name}, *chain]))


# ---------------------------------------------------------------------------------------------------------------------
# Recipes of runs that were made before
# ---------------------------------------------------------------------------------------------------------------------

RENAMED = {"train.clip": "train.grad_clip"}
RETIRED = {  # settings that are gone, and the only value that they may have: what is done in their place
    "data.fill": 0,
    "view.stretch": 0.0, "view.shear": 0.0, "train.ib_mean": 1e-4, "train.ib_class": 0.1,
    "pretrain.temperature": 0.07, "pretrain.projection": 128}
INSTEAD = {"data.fill": "the view closes every gap of missing joints, of any length"}
ADDED = {  # settings that came later: what a run without them did; LAST-E's streams had an order of their own
    "model.streams": {"lite": ["joint", "bone", "velocity", "bone_velocity"], "last_e": ["joint", "velocity", "bone"]},
    "view.still": 0.0, "view.missing": 0.0, "view.spikes": 0.0, "view.idle": 0.0, "view.tempo": 0.0,
    "train.trunk_lr": 1.0}
WHERE = (  # settings that say where and how a training runs, not what it computes; it does not read data.fps
    "device", "gpus", "out", "raw", "data.store", "data.workers", "data.fps", "train.compile", "train.save_seconds")


def current(table: dict, finished: bool = False) -> dict:
    """A recipe's table by today's names. ValueError for a setting that is gone, unless it has its only value.

    `finished`: the recipe of a run that only has to be read; how it was trained does not matter any more.
    """
    table = {key: dict(value) if isinstance(value, dict) else value for key, value in table.items()}
    for old, new in RENAMED.items():
        group, _, key = old.partition(".")
        if isinstance(table.get(group), dict) and key in table[group]:
            table[group].setdefault(new.partition(".")[2], table[group].pop(key))

    for old, only in RETIRED.items():
        group, _, key = old.partition(".")
        if isinstance(table.get(group), dict) and key in table[group]:
            value = table[group].pop(key)
            if value != only and not finished:
                instead = INSTEAD.get(old, f"its value was {only}")
                raise ValueError(f"{old} = {value!r}: this setting is gone; leave it out ({instead})")
    return table


def recorded(table: dict, finished: bool = True) -> dict:
    """The whole recipe of a run, as its folder keeps it, with the settings that came later."""
    table = current(table, finished)
    for name, was in ADDED.items():
        group, _, key = name.partition(".")
        if isinstance(was, dict):
            was = was.get(table.get("model", {}).get("name"))
        if group in table and was is not None:
            table[group].setdefault(key, was)
    return table


def current_weights(value: object) -> object:
    """Weights by today's names: AdaptiveGraph was called `sample` once, and the head's classifier `linear`."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        return value
    return {name.replace(".sample.", ".adaptive.").replace("head.linear.", "head.classifier."): weights
            for name, weights in value.items()}


def differences(old: dict, new: dict) -> str:
    """The fields in which two resolved recipes differ, as text.

    Those in WHERE do not count, nor does one that is off (0, false, empty) and that the old recipe does not know: a
    field added after the old run does not count while it is off.
    """
    old = recorded(old, finished=False)
    new = recorded(new, finished=False)

    # LAST-Base fuses no streams: model.stream is the one that it reads
    if new.get("model", {}).get("name") == "base":
        for table in (old, new):
            table.get("model", {}).pop("streams", None)
    return "; ".join(changed(old, new))


def changed(old: dict, new: dict, prefix: str = "") -> list[str]:
    out = []
    for key in sorted({*old, *new}):
        before = old.get(key)
        now = new.get(key)
        if prefix + key in WHERE or (key not in old and not now):
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            out += changed(before, now, f"{prefix}{key}.")
        elif before != now:
            out.append(f"{prefix}{key} was {before!r}, is {now!r}")
    return out
