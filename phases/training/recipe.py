"""Recipes: from the words of a command line to a Config.

Every default is a field of a dataclass. last.py has those of the network and the trainer, view.py those of the view,
recordings/settings.py those of the data set, this file the others. Unknown keys, wrong types and values out of range
raise ValueError with the field's name, the value, and the nearest valid one.
"""
from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch

from last import STREAMS, Model, Train
from phases.common.command import build, pairs
from phases.common.recipes import resolved
from phases.recordings.settings import Data
from phases.training.settings import View

Weight = Annotated[float, (0, 1000)]  # of a term in a loss


@dataclass(frozen=True)
class Distil:
    """Phase 2: loss = alpha * cross-entropy + beta * (KD or DKD) + gamma * feature mimicry."""
    teacher: str = ""                # runs, comma-separated: folder, recipe (seed 0), recipe:seed; mimics the first
    kind: Literal["kd", "dkd"] = "kd"
    alpha: Weight = 0.5
    beta: Weight = 0.5
    gamma: Weight = 0.1
    tau: Annotated[float, (0.01, 1000)] = 4.0   # temperature
    dkd_alpha: Weight = 1.0          # of DKD's target-class part
    dkd_beta: Weight = 8.0           # of DKD's non-target part
    shared_causal: bool = True       # a batch that is causal for the student is causal for the teacher too


@dataclass(frozen=True)
class Pretrain:
    """Phase 3: loss = reconstruction + contrast * InfoNCE."""
    mask: Annotated[float, (0.01, 0.99)] = 0.6      # share of the joints that is hidden
    contrast: Weight = 0.5
    after: str = ""                  # phase 3 runs if this recipe of phase 2 ...
    gate: Annotated[float, (0, 100)] = 88.0         # ... has a top-1 below this, percent


@dataclass(frozen=True)
class Probe:
    """How a pretrained encoder (init) is judged."""
    frozen: bool = True              # only the head learns
    labels: Annotated[float, (1e-4, 1)] = 1.0       # share of the training clips of each class, at least one clip
    only: bool = False               # the recipe is for `just probe` alone


@dataclass(frozen=True)
class Config:
    """All settings of one run; its JSON form is recipe.json in the run folder."""
    recipe: str = ""                 # name of the recipe, and of the run folder
    seed: Annotated[int, (0, 2**31 - 1)] = 0
    init: str = ""                   # weights to start from: a name in results/networks, a recipe (its run of the same
                                     # seed), a run's folder, a .pt file
    raw: str = ""                    # phase 0: the recordings
    out: str = "runs"
    device: str = "auto"             # auto, cpu, cuda, cuda:1
    gpus: Annotated[int, (1, 1024)] = 1             # training processes, one GPU each (with device=cpu: none)
    streams: Literal["", "all"] = ""                # LAST-Base: all trains the four streams in turn and averages them
    members: str = ""                # recipe of the four runs to average; empty: this one
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)   # in that average, in the order of STREAMS
    data: Data = Data()
    view: View = View()
    model: Model = Model()
    train: Train = Train()
    distil: Distil = Distil()
    pretrain: Pretrain = Pretrain()
    probe: Probe = Probe()

    def __post_init__(self):
        streams = self.model.streams
        if not streams or len(set(streams)) < len(streams):
            raise ValueError(f"model.streams = {list(streams)}: name at least one stream, and each of them once")
        if self.model.variant == "pair" and not set(streams) <= set(STREAMS[:2]):
            raise ValueError(f"model.streams = {list(streams)}: a pair makes the velocities itself: give joint, bone "
                             "or both")

    @property
    def store(self) -> Path:
        return self.data.folder

    @property
    def run_name(self) -> str:
        """The recipe; of LAST-Base also the stream (base-bone), or -all for the average of the recipe's own four."""
        if self.streams:
            return self.recipe if self.members else f"{self.recipe}-all"
        if self.model.name == "base" and self.model.stream != "joint":
            return f"{self.recipe}-{self.model.stream}"
        return self.recipe

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return Path(self.out) / self.run_name / f"{self.data.name}-{self.data.split}" / f"seed{self.seed}"

    @property
    def torch_device(self) -> torch.device:
        """The device that `device` means on this machine; each of several processes has a GPU of its own."""
        if self.device in ("auto", "cuda") and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if self.device == "auto":
            return torch.device("cpu")

        # any other name: try it
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError):
            raise ValueError(f"device = {self.device!r}: not here; give auto, cpu, cuda or cuda:1") from None
        return torch.device(self.device)


def load_config(argv: list[str]) -> Config:
    """Config of `recipe=NAME [data=DATASET] [key.sub=value ...]`."""
    return build(Config, resolved(argv))


def stream_members(cfg: Config, argv: list[str]) -> list[tuple[Config, list[str]]]:
    """(recipe, command words) of the four networks that `streams=all` averages, in the order of STREAMS.

    `argv`: the words that gave `cfg`. Each member is a run of its own, of the recipe cfg.members or of `cfg` itself.
    """
    given = pairs(argv)
    shared = {key: text for key, text in given.items()
              if key not in ("recipe", "streams", "members", "weights", "model.stream")}

    # a recipe file that says streams="all" is asked for one stream
    if not cfg.members and "streams" not in given:
        shared["streams"] = ""

    members = []
    for stream in STREAMS:
        chosen = {} if stream == "joint" else {"model.stream": stream}
        words = {"recipe": cfg.members or given["recipe"], **chosen, **shared}
        member = dataclasses.replace(
            cfg, recipe=cfg.members or cfg.recipe, streams="", members="", weights=Config.weights,
            model=dataclasses.replace(cfg.model, stream=stream))
        members.append((member, [f"{key}={text}" for key, text in words.items()]))
    return members
