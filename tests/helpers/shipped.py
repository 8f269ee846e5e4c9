"""What the tests of exported files share: a short training and its export. `ship` makes them once."""
import fcntl
import functools
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from phases import p1_train, p4_export
from phases.training.clip_store import ClipStore
from tests.helpers.clip_stores import write_store

QUICK = ["data.name=tiny", "data.num_classes=3", "device=cpu", "train.epochs=3", "train.batch=8",
         "train.warmup_epochs=1", "view.frames=12", "view.bodies=2", "seed=3"]


class Shipped(NamedTuple):
    """A short run on a tiny store, and its export."""
    folder: Path        # the store is folder/stores/tiny
    run: Path
    export: Path
    argv: list[str]     # of the run


@functools.cache
def ship(base: Path) -> Shipped:
    """base: pytest's folder of this run; the first of its processes makes the run and the export, the others wait."""
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shipped"
    argv = ["recipe=lite_nano", *QUICK, f"data.store={folder / 'stores' / 'tiny'}", f"out={folder / 'runs'}"]
    with open(folder.with_suffix(".lock"), "w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "exports" / "lite_nano").exists():
            write_store(folder / "stores" / "tiny", clips=48)
            patch.chdir(folder)
            p1_train.main(argv)
            assert p4_export.main([*argv, f"exports={folder / 'exports'}", "calibration=16"]) in (0, 1)
    run = folder / "runs" / "lite_nano" / "tiny-xsub" / "seed3"
    return Shipped(folder, run, folder / "exports" / "lite_nano", argv)


def recorded(store: ClipStore, i: int) -> np.ndarray:
    """Joints (M, L, V, 3) of clip i as they are stored; an absent body is left out."""
    length = store.clips["length"][i]
    return np.stack([store.frames[first:first + length] for first in store.clips["offset"][i] if first >= 0])
