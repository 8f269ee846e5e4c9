"""Recipes: from the words of a command line to a Config.

A recipe is a TOML file of a few lines: `extends`, and what differs from that parent. Every default is a field of a
dataclass: last.py has those of the network, the view and the trainer, this file has the others. Unknown keys, wrong
types and values out of range raise ValueError with the field's name, the value, and the nearest valid one.
"""
from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from last import LITE, MODELS, STREAMS, Model, Train
from phases.common.files import ROOT
from phases.common.settings_cli import nearest, suggestion
from phases.training.view import View
from skeletons import SKELETONS

try:
    import tomli
except ModuleNotFoundError:  # not installed; Python has it under this name
    import tomllib as tomli


# ---------------------------------------------------------------------------------------------------------------------
# Fields and their defaults
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Data:
    """Which recordings, and how phase 0 reads them."""
    name: str = "ntu60"              # names the store and the run folder
    reader: str = "ntu"              # ntu, nw_ucla, ctrgcn, pyskl, arrays, synthetic
    store: str = ""                  # folder of the clip store; empty: stores/<name>
    skeleton: str = "ntu25"          # one of SKELETONS; empty: the one that the recordings bring
    num_classes: int = 60
    unit: str = "m"                  # of the recordings: m, cm, mm, px, body
    up: str = "y"                    # the axis of the recordings that points up: y, -y, z, -z
    channels: str = "xyz"            # what three numbers a joint are: xyz, xys (s: score)
    min_score: float = 0.0           # a joint with a lower score is missing
    fill: int = 0                    # frames: a joint missing for at most so many is interpolated over time; 0: never
    split: str = "xsub"
    protocols: dict = field(default_factory=dict)   # if the reader brings none: name = {field = "subject", train = [1]}
    missing: str = ""                # list of unusable samples, a file beside the recipes
    workers: int = 0                 # parsing processes; 0: one per core
    leaked: tuple[int, ...] = ()     # classes with test clips copied from training clips; top1_clean leaves them out
    validate: dict = field(default_factory=dict)    # hold out training clips, {subject = [3]}; keep the best there


@dataclass(frozen=True)
class Distil:
    """Phase 2: loss = alpha * cross-entropy + beta * (KD or DKD) + gamma * feature mimicry."""
    teacher: str = ""                # runs, comma-separated: folder, recipe (seed 0), recipe:seed; mimics the first
    kind: str = "kd"                 # kd, dkd
    alpha: float = 0.5
    beta: float = 0.5
    gamma: float = 0.1
    tau: float = 4.0                 # temperature
    dkd_alpha: float = 1.0           # weight of DKD's target-class part
    dkd_beta: float = 8.0            # weight of DKD's non-target part
    shared_causal: bool = True       # a batch that is causal for the student is causal for the teacher too


@dataclass(frozen=True)
class Pretrain:
    """Phase 3: loss = reconstruction + contrast * InfoNCE."""
    mask: float = 0.6                # share of the joints that is hidden
    temperature: float = 0.07
    contrast: float = 0.5
    projection: int = 128            # width of the space in which two views are compared
    after: str = ""                  # phase 3 runs if this phase-2 recipe ...
    gate: float = 88.0               # ... has a top-1 below this, percent


@dataclass(frozen=True)
class Probe:
    """How a pretrained encoder (init) is judged."""
    frozen: bool = True              # only the head learns
    labels: float = 1.0              # share of the training clips of each class, at least one clip
    only: bool = False               # the recipe is for `just probe` alone


@dataclass(frozen=True)
class Config:
    """Everything one run is told; its JSON form is recipe.json in the run folder."""
    recipe: str = ""                 # name of the recipe, and of the run folder
    seed: int = 0
    init: str = ""                   # run to take the encoder from: a folder, or a recipe (its run of the same seed)
    raw: str = ""                    # phase 0: the recordings
    out: str = "runs"
    device: str = "auto"             # auto, cpu, cuda, cuda:1
    gpus: int = 1                    # training processes, one GPU each (with device=cpu: none)
    streams: str = ""                # LAST-Base: "all" trains the four streams in turn and averages them
    members: str = ""                # recipe of the four runs to average; empty: this one
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)   # in that average, in the order of STREAMS
    data: Data = Data()
    view: View = View()
    model: Model = Model()
    train: Train = Train()
    distil: Distil = Distil()
    pretrain: Pretrain = Pretrain()
    probe: Probe = Probe()

    @property
    def store(self) -> Path:
        return Path(self.data.store or f"stores/{self.data.name}")

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
        return Path(self.out) / self.run_name / f"{self.data.name}-{self.data.split}" / f"seed{self.seed}"

    @property
    def torch_device(self) -> torch.device:
        if self.device in ("auto", "cuda") and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if self.device == "auto":
            return torch.device("cpu")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError):
            raise ValueError(f"device = {self.device!r}: not here; give auto, cpu, cuda or cuda:1") from None
        return torch.device(self.device)


CHOICES = {
    "streams": ("", "all"),
    "data.reader": ("ntu", "nw_ucla", "ctrgcn", "pyskl", "arrays", "synthetic"),
    "data.skeleton": ("", *SKELETONS),
    "data.unit": ("m", "cm", "mm", "px", "body"), "data.up": ("y", "-y", "z", "-z"), "data.channels": ("xyz", "xys"),
    "view.sampling": ("uniform", "crop", "stretch"),
    "model.name": tuple(MODELS), "model.variant": tuple(LITE), "model.stream": STREAMS,
    "model.shift": ("region", "random"), "model.graph": ("grouped", "spatial"),
    "model.attention": ("partitioned", "factorized", "none"),
    "train.optimizer": ("sgd", "adamw"), "train.amp": ("auto", "bf16", "fp16", "fp32"),
    "train.average": ("none", "swa", "ema"),
    "distil.kind": ("kd", "dkd"),
}
RANGES = {  # inclusive
    "seed": (0, 2**31 - 1), "gpus": (1, 1024),

    "data.num_classes": (2, 100_000), "data.workers": (0, 1024), "data.min_score": (0, 1e9), "data.fill": (0, 10_000),

    "view.frames": (1, 10_000), "view.bodies": (1, 2), "view.smooth": (0, 100), "view.window": (0.01, 1),
    "view.scale": (0, 0.99), "view.stretch": (0, 0.99), "view.shear": (0, 2), "view.noise": (0, 1),
    "view.flip": (0, 1), "view.swap": (0, 1), "view.mix": (0, 1),

    "model.dropout": (0, 0.99), "model.width": (8, 4096), "model.drop_path": (0, 0.99),

    "train.epochs": (1, 100_000), "train.batch": (1, 100_000), "train.accumulate": (1, 10_000),
    "train.lr": (1e-12, 100), "train.warmup_epochs": (0, 100_000), "train.warmup_lr": (0, 100),
    "train.min_lr": (0, 100), "train.weight_decay": (0, 10), "train.adamw_decay": (0, 10), "train.clip": (0, 1e6),
    "train.label_smoothing": (0, 0.99), "train.ib_weight": (0, 100), "train.ib_mean": (0, 100),
    "train.ib_class": (0, 100), "train.swa_start": (0, 1), "train.swa_lr": (0, 100), "train.ema_decay": (0, 1),
    "train.causal": (0, 1), "train.save_seconds": (0, 1e9),

    "distil.alpha": (0, 1000), "distil.beta": (0, 1000), "distil.gamma": (0, 1000), "distil.tau": (0.01, 1000),
    "distil.dkd_alpha": (0, 1000), "distil.dkd_beta": (0, 1000),

    "pretrain.mask": (0.01, 0.99), "pretrain.temperature": (1e-3, 100), "pretrain.contrast": (0, 1000),
    "pretrain.projection": (1, 100_000), "pretrain.gate": (0, 100),

    "probe.labels": (1e-4, 1),
}


def build_config(cls: type, table: dict, where: str = ""):
    """Dataclass `cls` from a TOML table; ValueError for an unknown key, a wrong type or a value out of range."""
    defaults = {f.name: getattr(cls(), f.name) for f in dataclasses.fields(cls)}
    values = {}
    for key, value in table.items():
        path = where + key
        if key not in defaults:
            raise ValueError(f"unknown key {path}{suggestion(key, defaults)}")
        default = defaults[key]
        if not dataclasses.is_dataclass(default):
            values[key] = checked(path, value, default)
        elif isinstance(value, dict):
            values[key] = build_config(type(default), value, path + ".")
        else:
            raise ValueError(f"{path} = {value!r}: is a table, give {path}.<key>")
    return cls(**values)


def checked(path: str, value, default):
    """`value` in the type of `default`, one of the field's CHOICES and within its RANGES."""
    value = widened(value, default)
    if not same_type(value, default):
        given, like = json.dumps(value, default=str), json.dumps(default)
        raise ValueError(f"{path} = {given}: must be {type_words(default)}, like the default {like}")
    if path in CHOICES and value not in CHOICES[path]:
        raise ValueError(f"{path} = {value!r}{nearest(value, CHOICES[path])}")
    if path in RANGES:
        low, high = RANGES[path]
        if not low <= value <= high:  # NaN fails too
            raise ValueError(f"{path} = {value}: must lie in {low} to {high}")
    return value


def widened(value, default):
    """Integers become floats if the default is one, TOML lists become tuples."""
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(widened(v, default[0]) if default else v for v in value)
    return value


def same_type(value, default) -> bool:
    """Whether `value` has the type of `default`. A tuple also needs its length; an empty default takes any integers."""
    if type(value) is not type(default):
        return False
    if not isinstance(default, tuple):
        return True
    kind = type(default[0]) if default else int
    if default and len(value) != len(default):
        return False
    return all(type(v) is kind and math.isfinite(v) for v in value)


def type_words(default) -> str:
    if isinstance(default, tuple):
        return f"a list of {len(default)} numbers" if default else "a list of integers"
    words = {dict: "a table", str: "a string", bool: "true or false", int: "an integer", float: "a number"}
    return words[type(default)]


def merged_tables(base: dict, over: dict) -> dict:
    """`base` with the values of `over`: tables merge, scalars and arrays replace."""
    merged = dict(base)
    for key, value in over.items():
        both_tables = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merged_tables(base[key], value) if both_tables else value
    return merged


# ---------------------------------------------------------------------------------------------------------------------
# Files and the command line
# ---------------------------------------------------------------------------------------------------------------------

def recipe_files() -> dict[str, Path]:
    """Every recipe by its bare name; studies lie in a folder of their own."""
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


def parse_overrides(argv: list[str]) -> dict[str, object]:
    """{key: value} of key=value arguments. A value is TOML, or a bare word."""
    given: dict[str, object] = {}
    for arg in argv:
        key, eq, value = arg.partition("=")
        if not eq or not key:
            raise ValueError(f"argument {arg!r}: give key=value, such as recipe=lite_small or train.epochs=5")
        try:
            given[key] = tomli.loads(f"value = {value}")["value"]
        except tomli.TOMLDecodeError:
            given[key] = value
        if isinstance(given[key], (datetime.date, datetime.time)):  # no field is a date; raw=2024-05-01 is a folder
            given[key] = value
    return given


def read_chain(name: str) -> tuple[str, list[dict]]:
    """(name, tables from the root down to it) of a recipe and those it extends, at most three in all."""
    name, table = read_recipe(name)
    chain, parent = [table], table.pop("extends", None)
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


def load_config(argv: list[str]) -> Config:
    """Config of `recipe=NAME [data=DATASET] [key.sub=value ...]`.

    Tables are merged in this order, later ones win: the root of the `extends` chain, the data set, the rest of the
    chain, the overrides. A row therefore keeps what it differs in on every data set.
    """
    given = parse_overrides(argv)
    if "recipe" not in given:
        raise ValueError("no recipe: give recipe=NAME, such as recipe=lite_nano" + nearest("", recipe_files()))
    name, chain = read_chain(str(given.pop("recipe")))
    if "data" in given:
        chain.insert(1, read_data_set(str(given.pop("data"))))
    for key, value in given.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        chain.append(value)
    merged: dict = {"recipe": name}
    for table in chain:
        merged = merged_tables(merged, table)
    return build_config(Config, merged)
