"""Clip stores of many data sets -> one store of one body, to train a general network on.

    just pool stores=nw_ucla,utd_mhad,irds      stores/any, and recipes/any.toml if there is none
    just pool stores=ntu60:xview,gait:all name=mine

In:  stores/<name> of each data set, or its folder, as phase 0 writes it; `:SPLIT` is the protocol that says which of
     its clips train (by default that of its recipe, else its first), `all` trains on every clip.
Out: stores/<name>: every clip in the joints of body16, which every sensor's body turns into, its classes behind the
     names of their data sets (nw_ucla: throw); recipes/<name>.toml. Protocol `pool`: what a data set's own protocol
     tests on is not trained on. Of two people in a clip the more active one is taken.
Then `just phase1 recipe=lite_small data=<name>`, and phase 4. Exit codes: 0 done, 2 bad input.
"""
from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from phases.common.command import run
from phases.common.files import ROOT, atomic, check_writable, locked
from phases.common.progress import progress_bar
from phases.common.recipes import read_data_set, recipe_files
from phases.common.wording import counted
from phases.recordings.metres import Recorded, trunk_of
from phases.recordings.pooling import BODY, SPLIT, TESTS, TRAINS, Source, lines_about, pooled_classes, pooled_clips
from phases.recordings.settings import Data
from phases.recordings.store import (
    SHARD,
    Common,
    check_place,
    fresh_partial,
    in_parts,
    merge,
    put_in_place,
    restore_old,
    shard_path,
    write_shard,
)
from phases.training.clip_store import ClipStore


@dataclass(frozen=True)
class Options:
    stores: Annotated[tuple[str, ...], "data sets or folders of stores, each perhaps with :SPLIT"]
    name: Annotated[str, "of the pool: its store, its recipe"] = "any"

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9_]+", self.name):
            raise ValueError(f"name = {self.name!r}: letters, digits and _ only")


def main(options: Options) -> int:
    # what enters, and where it goes
    sources = [source_of(word) for word in options.stores]
    check_sources(sources, options.name)
    classes = pooled_classes(sources)
    data = Data(name=options.name, reader="pool", skeleton=BODY.name, num_classes=len(classes), split=SPLIT)
    store = data.folder.resolve()
    check_writable(store)
    check_recipe(options.name, len(classes))
    restore_old(store)
    check_place(store)

    # the store, then the recipe
    partial = store.with_name(f"{store.name}.partial")
    with locked(partial):
        write_store(sources, classes, data, partial, store)
    path = ROOT / "recipes" / f"{options.name}.toml"
    if not path.exists():
        with atomic(path) as part:
            part.write_text(recipe_text(data, sources))

    # what is in it
    for line in lines_about(sources):
        print(line)
    print(f"{store}: {counted(sum(len(source.side) for source in sources), 'clip')}, {len(classes)} classes; "
          f"train with just phase1 recipe=lite_small data={options.name}")
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# The stores that enter
# ---------------------------------------------------------------------------------------------------------------------

def source_of(word: str) -> Source:
    """A store as `stores` names it: NAME, FOLDER, NAME:SPLIT or FOLDER:SPLIT."""
    place, _, split = word.partition(":")
    folder = Path(place) if "/" in place else Data(name=place).folder
    store = ClipStore(folder)
    name = store.meta["dataset"]

    # which clips train
    side = np.full(len(store), -1)
    train, test = store.split(split or usual_split(store, name))
    side[test] = TESTS
    side[train] = TRAINS
    return Source(name, store.skeleton, store.classes, store.frames, store.clips, side)


def usual_split(store: ClipStore, name: str) -> str:
    """The split of the data set's recipe, else the store's first protocol, else all."""
    if name in recipe_files():
        split = read_data_set(name)["data"].get("split", "")
        if split in store.protocols:
            return split
    return next(iter(store.protocols), "all")


def check_sources(sources: list[Source], name: str) -> None:
    """ValueError for a data set that enters twice, or for the pool itself."""
    names = [source.name for source in sources]
    twice = sorted({own for own in names if names.count(own) > 1})
    if twice:
        raise ValueError(f"stores: {twice[0]} enters twice; NTU RGB+D 120 holds the 60 as well")
    if name in names:
        raise ValueError(f"name = {name!r}: this store enters the pool; give the pool another name")


# ---------------------------------------------------------------------------------------------------------------------
# The pool
# ---------------------------------------------------------------------------------------------------------------------

def write_store(sources: list[Source], classes: list[str], data: Data, partial: Path, store: Path) -> None:
    """Write the clips of all into `partial`, and move it to the store's place."""
    common = Common(BODY.num_joints, len(classes), Recorded(), trunk_of(BODY))
    try:
        fresh_partial(partial, os.urandom(8).hex())
        total = sum(len(source.side) for source in sources)
        with progress_bar(total, 0, "pool", "clip") as bar:
            for number, found in enumerate(in_parts(pooled_clips(sources), SHARD)):
                write_shard(shard_path(partial, number), found, common)
                bar.update(len(found))

        meta = merge(partial, BODY, data, 0, Recorded())
        meta["classes"] = classes
        meta["pooled"] = {source.name: {"skeleton": source.skeleton.name, "lacks": source.lacks} for source in sources}
        put_in_place(partial, meta, store)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_recipe(name: str, num_classes: int) -> None:
    """ValueError if the name is another recipe's, or the pool's recipe has another number of classes."""
    path = recipe_files().get(name)
    if path is None:
        return
    own = read_data_set(name)["data"] if "[data]" in path.read_text() else {}
    if own.get("reader") != "pool":
        raise ValueError(f"name = {name!r}: is another recipe ({path}); give the pool another name")
    if own.get("num_classes") != num_classes:
        raise ValueError(f"name = {name!r}: {path} is of {own.get('num_classes')} classes, these stores have "
                         f"{num_classes}: give another name=, or delete the recipe")


def recipe_text(data: Data, sources: list[Source]) -> str:
    """The recipe of a pool."""
    names = ", ".join(source.name for source in sources)
    return f"""# A pool of {names}: just pool.
[data]
name = "{data.name}"
reader = "pool"
skeleton = "{data.skeleton}"
num_classes = {data.num_classes}
split = "{data.split}"

[view]
frames = 32
trunk_scale = true              # bodies of all sizes, and recordings without a unit
rotate = [10.0, 30.0, 10.0]
scale = 0.2
window = 0.7
flat = 0.25                     # a picture has no depth

[train]
epochs = 12
batch = 32
balanced = true                 # every class equally often: data sets differ in size
label_smoothing = 0.1
"""


if __name__ == "__main__":
    run(main, Options)
