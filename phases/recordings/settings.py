"""The settings of a data set: which recordings, and how phase 0 reads them."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from phases.common.limits import FPS
from skeletons import SKELETONS


@dataclass(frozen=True)
class Data:
    """The table `data` of a recipe."""
    name: str = "ntu60"              # names the store and the run folder
    reader: Literal["ntu", "nw_ucla", "ctrgcn", "pyskl", "arrays", "synthetic", "pool"] = "ntu"
    store: str = ""                  # folder of the clip store; empty: stores/<name>
    skeleton: Annotated[str, ("", *SKELETONS)] = "ntu25"              # empty: the one that the recordings bring
    num_classes: Annotated[int, (2, 100_000)] = 60
    unit: Literal["m", "cm", "mm", "px", "body"] = "m"                # of the recordings
    up: Literal["y", "-y", "z", "-z"] = "y"                           # the axis of the recordings that points up
    channels: Literal["xyz", "xys"] = "xyz"                           # what three numbers a joint are (s: score)
    min_score: Annotated[float, (0, 1e9)] = 0.0                       # a joint with a lower score is missing
    fps: Annotated[float, FPS] = 30.0        # frames per second of the recordings
    split: str = "xsub"
    protocols: dict = field(default_factory=dict)   # if the reader brings none: name = {field = "subject", train = [1]}
    missing: str = ""                # list of unusable samples, a file beside the recipes
    workers: Annotated[int, (0, 1024)] = 0   # parsing processes; 0: one per core
    leaked: tuple[int, ...] = ()     # classes with test clips copied from training clips; top1_clean leaves them out
    unknown: tuple[int, ...] = ()    # classes kept from training, to measure whether a network declines them
    validate: dict = field(default_factory=dict)    # hold out training clips, {subject = [3]}; keep the best there

    @property
    def folder(self) -> Path:
        """The folder of the clip store."""
        return Path(self.store or f"stores/{self.name}")
