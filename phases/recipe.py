"""Recipes: from the words of a command line to a Config, strictly.

A recipe is a TOML file of a few lines: `extends`, and what differs. Every default is a field of a dataclass: those of
the networks, the view and the trainer stand in last.py, the others here. Unknown keys, wrong types and values out of
range raise ValueError with the field's name, its value and the nearest valid one.
"""
from __future__ import annotations

import dataclasses
import datetime
import difflib
import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import tomli
import torch
import torch.distributed as dist

from last import LITE, MODELS, SKELETONS, STREAMS, Model, Train, View, rank_of

ROOT = Path(__file__).resolve().parent.parent


def nearest(word: str, known) -> str:
    """`, did you mean 'x'? (known: x, y, z)`: the end of every message about an unknown name."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return (f", did you mean {close[0]!r}?" if close else "") + f" (known: {', '.join(known)})"


@dataclass(frozen=True)
class Data:
    """Which recordings, and how phase 0 reads them."""
    name: str = "ntu60"              # names the store and the run folder
    reader: str = "ntu"              # ntu, nw_ucla, ctrgcn, pyskl, arrays, synthetic
    store: str = ""                  # folder of the clip store; empty: stores/<name>
    skeleton: str = "ntu25"          # one of SKELETONS, or empty: what the recordings bring
    num_classes: int = 60
    split: str = "xsub"
    protocols: dict = field(default_factory=dict)   # for readers that bring none: name = {field = "subject", train = [1, 2]}
    missing: str = ""                # list of unusable samples, a file beside the recipes
    workers: int = 0                 # parsing processes; 0: one per core
    leaked: tuple[int, ...] = ()     # classes whose test clips also stand in the training split: left out of top1_clean
    validate: dict = field(default_factory=dict)    # hold out training clips, {subject = [3, 7]}, and keep what is best on them


@dataclass(frozen=True)
class Distil:
    """Phase 2: loss = alpha * cross-entropy + beta * (KD or DKD) + gamma * feature mimicry."""
    teacher: str = ""                # runs with commas between, each a folder, a recipe (its seed 0) or recipe:seed; the first is mimicked
    kind: str = "kd"                 # kd, dkd
    alpha: float = 0.5
    beta: float = 0.5
    gamma: float = 0.1
    tau: float = 4.0                 # temperature
    dkd_alpha: float = 1.0           # weights of DKD's two parts
    dkd_beta: float = 8.0
    shared_causal: bool = True       # where a batch is causal for the student, it is for the teacher


@dataclass(frozen=True)
class Pretrain:
    """Phase 3: loss = reconstruction + contrast * InfoNCE."""
    mask: float = 0.6                # share of the joints that is hidden
    temperature: float = 0.07
    contrast: float = 0.5
    projection: int = 128            # width in which two views are compared
    after: str = ""                  # the recipe of phase 2 whose accuracy says whether pretraining is called for
    gate: float = 88.0               # it is below this, percent


@dataclass(frozen=True)
class Probe:
    """How a pretrained encoder (init) is judged."""
    frozen: bool = True              # the head learns alone
    labels: float = 1.0              # share of the training clips of each class, at least one


@dataclass(frozen=True)
class Config:
    recipe: str = ""                 # name of the recipe, and of the run folder
    seed: int = 0
    init: str = ""                   # a run, by folder or by recipe (its same seed), whose encoder is the start
    raw: str = ""                    # phase 0: the recordings
    out: str = "runs"
    device: str = "auto"             # auto, cpu, cuda, cuda:1
    gpus: int = 1                    # training processes, each with a GPU of its own (or, with device=cpu, without)
    streams: str = ""                # LAST-Base: all trains the four streams in turn and averages them
    members: str = ""                # the recipe whose four runs are averaged; empty: this one
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)  # of joint, bone, velocity, bone_velocity in that average
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
        """The recipe, with the stream of a LAST-Base that has another than joint, or -all for the average of its own four."""
        if self.streams:
            return self.recipe if self.members else f"{self.recipe}-all"
        return self.recipe if self.model.name != "base" or self.model.stream == "joint" else f"{self.recipe}-{self.model.stream}"

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
    "data.reader": ("ntu", "nw_ucla", "ctrgcn", "pyskl", "arrays", "synthetic"), "data.skeleton": ("", *SKELETONS),
    "view.sampling": ("uniform", "crop", "stretch"), "model.name": tuple(MODELS), "model.variant": tuple(LITE), "model.shift": ("region", "random"),
    "model.stream": STREAMS, "model.graph": ("grouped", "spatial"), "model.attention": ("partitioned", "factorized", "none"),
    "train.optimizer": ("sgd", "adamw"), "train.amp": ("auto", "bf16", "fp16", "fp32"), "train.average": ("none", "swa", "ema"),
    "distil.kind": ("kd", "dkd"),
}
RANGES = {  # inclusive
    "seed": (0, 2**31 - 1), "gpus": (1, 1024),
    "data.num_classes": (2, 100_000), "data.workers": (0, 1024), "view.frames": (1, 10_000), "view.bodies": (1, 2),
    "view.smooth": (0, 100), "view.swap": (0, 1), "view.mix": (0, 1),
    "view.window": (0.01, 1), "view.scale": (0, 0.99), "view.stretch": (0, 0.99), "view.shear": (0, 2), "view.noise": (0, 1), "view.flip": (0, 1),
    "model.dropout": (0, 0.99), "model.width": (8, 4096), "model.drop_path": (0, 0.99), "train.epochs": (1, 100_000), "train.batch": (1, 100_000),
    "train.accumulate": (1, 10_000), "train.lr": (1e-12, 100), "train.warmup_epochs": (0, 100_000), "train.warmup_lr": (0, 100),
    "train.min_lr": (0, 100), "train.weight_decay": (0, 10), "train.adamw_decay": (0, 10), "train.ib_weight": (0, 100), "train.ib_mean": (0, 100),
    "train.ib_class": (0, 100), "train.clip": (0, 1e6), "train.label_smoothing": (0, 0.99), "train.swa_start": (0, 1), "train.swa_lr": (0, 100),
    "train.ema_decay": (0, 1), "train.causal": (0, 1), "train.save_seconds": (0, 1e9),
    "distil.alpha": (0, 1000), "distil.beta": (0, 1000), "distil.gamma": (0, 1000), "distil.tau": (0.01, 1000), "distil.dkd_alpha": (0, 1000),
    "distil.dkd_beta": (0, 1000), "pretrain.mask": (0.01, 0.99), "pretrain.temperature": (1e-3, 100), "pretrain.contrast": (0, 1000),
    "pretrain.projection": (1, 100_000), "pretrain.gate": (0, 100), "probe.labels": (1e-4, 1),
}


def build_config(cls: type, table: dict, where: str = ""):
    """A dataclass from a TOML table, strictly: unknown keys, wrong types and values out of range raise with the field's name."""
    known = {f.name: f for f in dataclasses.fields(cls)}
    values = {}
    for key, value in table.items():
        path = where + key
        if key not in known:
            tables = {name: getattr(cls(), name) for name in known}
            within = [f"{name}.{key}" for name, table in tables.items() if dataclasses.is_dataclass(table) and hasattr(table, key)]
            raise ValueError(f"unknown key {path}" + (f", did you mean {' or '.join(within)}?" if within else nearest(key, known)))
        default = getattr(cls(), key)
        if dataclasses.is_dataclass(default):
            if not isinstance(value, dict):
                raise ValueError(f"{path} = {value!r}: is a table, give {path}.<key>")
            values[key] = build_config(type(default), value, path + ".")
            continue
        kind = type(default)
        if kind is float and type(value) is int:
            value = float(value)
        if kind is tuple and isinstance(value, list):
            value = tuple(float(v) if default and type(v) is int and type(default[0]) is float else v for v in value)
        if type(value) is not kind or kind is tuple and (default and len(value) != len(default)
                                                         or any(type(v) is not (type(default[0]) if default else int) or not math.isfinite(v)
                                                                for v in value)):
            wanted = {tuple: "a list of " + (f"{len(default)} numbers" if default else "integers") if kind is tuple else "", dict: "a table",
                      str: "a string", bool: "true or false", int: "an integer", float: "a number"}[kind]
            raise ValueError(f"{path} = {json.dumps(value, default=str)}: must be {wanted}, like the default {json.dumps(default)}")
        if path in CHOICES and value not in CHOICES[path]:
            raise ValueError(f"{path} = {value!r}{nearest(value, CHOICES[path])}")
        if path in RANGES and not RANGES[path][0] <= value <= RANGES[path][1]:  # NaN fails too
            raise ValueError(f"{path} = {value}: must lie in {RANGES[path][0]} to {RANGES[path][1]}")
        values[key] = value
    return cls(**values)


def merged_tables(base: dict, over: dict) -> dict:
    """Tables merge, scalars and arrays replace."""
    return {**base, **{k: merged_tables(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v for k, v in over.items()}}


def recipe_files() -> dict[str, Path]:
    """Every recipe by its bare name; studies lie in a folder of their own."""
    return {path.stem: path for path in sorted((ROOT / "recipes").glob("**/*.toml"))}


def read_recipe(name: str) -> tuple[str, dict]:
    """(name, table) of a recipe by its bare name, or of a path that ends in .toml."""
    known = recipe_files()
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None or not path.is_file():
        raise ValueError(f"no recipe {name!r}{nearest(name, known)}")
    try:
        return path.stem, tomli.loads(path.read_text())
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ValueError(f"{path}: {e}") from None


def load_config(argv: list[str]) -> Config:
    """Config of `recipe=NAME [data=DATASET] [key.sub=value ...]`.

    The chain of `extends` is merged from its root, at most three recipes long. A data set's recipe comes in after the root and
    before the rows, so that a row keeps what it differs in. Overrides, each a TOML value or a bare word, win.
    """
    given: dict[str, object] = {}
    for arg in argv:
        key, eq, value = arg.partition("=")
        if not eq or not key:
            raise ValueError(f"argument {arg!r}: give key=value, such as recipe=lite_small or train.epochs=5")
        try:
            given[key] = tomli.loads(f"value = {value}")["value"]
        except tomli.TOMLDecodeError:
            given[key] = value
        if isinstance(given[key], (datetime.date, datetime.time)):  # raw=2024-05-01 is a folder: no field is a date
            given[key] = value
    name = given.pop("recipe", None)
    if name is None:
        raise ValueError("no recipe: give recipe=NAME" + nearest("", recipe_files()))
    name, table = read_recipe(str(name))
    chain, parent = [table], table.pop("extends", None)
    while parent is not None:
        chain.insert(0, read_recipe(str(parent))[1])
        parent = chain[0].pop("extends", None)
        if len(chain) > 3:
            raise ValueError(f"recipe {name!r}: extends a chain of more than three recipes")
    if "data" in given:
        dataset = str(given.pop("data"))
        sets = [name for name in recipe_files() if "reader" in read_recipe(name)[1].get("data", {})]
        if dataset not in sets and not dataset.endswith(".toml"):
            raise ValueError(f"data = {dataset!r}: is no data set, a recipe that says which data.reader{nearest(dataset, sets)}")
        chain.insert(1, read_recipe(dataset)[1])
    merged: dict = {"recipe": name}
    for table in chain:
        merged = merged_tables(merged, table)
    for key, value in given.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        for k in value:
            merged = merged_tables(merged, value) if not (isinstance(value[k], dict) and not isinstance(merged.get(k, {}), dict)) else {**merged, **value}
    return build_config(Config, merged)


def cli(main: Callable[[list[str]], int | None]) -> None:
    """Run a program: bad input is one line on standard error and exit code 2, Ctrl-C exit code 130."""
    if {"-h", "--help", "help"} & set(sys.argv[1:]):
        print((sys.modules["__main__"].__doc__ or "").strip())
        sys.exit(0)
    try:
        code = main(sys.argv[1:])
    except (ValueError, OSError) as e:
        if rank_of()[0] == 0:
            print("error:", " ".join(str(e).split()), file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        if rank_of()[0] == 0:
            print("interrupted: the same command goes on from here", file=sys.stderr)
        code = 130
    if dist.is_initialized() and not code:
        dist.destroy_process_group()
    sys.exit(code or 0)
