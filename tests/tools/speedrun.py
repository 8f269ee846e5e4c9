"""Races towards a speed record: the fewest core-minutes to a mean of 94.0 on Northwestern-UCLA, five seeds.

    just speedrun levers=all                  each lever alone against `plain`, on cameras 1 and 2: 2 folds, 3 seeds
    just speedrun levers=linear,nano+muon     some of them, and two together; what is in the file is not repeated
    just speedrun levers=plain sets=test seeds=0,1,2,3,4 epochs=160     the race itself: cameras 1 and 2, judged on 3

Rules: at most 190K parameters, the weights that the training ends with, none selected.
The clock is CPU time, of all threads, from recorded joints in memory to weights: the view's preparation of the clips,
building the network, every step. What it leaves out: starting Python, reading the clip store, the test.

A lever is a change of `Settings`. Needs the recordings (LAST_TEST_DATA, or ../shared/data).
"""
from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from last import Conv1x1, hashed_uniform, keep_freed_memory, make_optimizer, refresh_batchnorm
from phases import p0_preprocess
from phases.common.command import nearest, run
from phases.common.files import ROOT, read_json, write_json
from phases.common.progress import progress_bar
from phases.training.batches import Batches, plain_batches
from phases.training.clip_store import ClipStore
from phases.training.evaluation import predict
from phases.training.networks import build_model
from phases.training.recipe import Config, load_config
from phases.training.run_folder import accuracies, commit, device_name
from phases.training.view import ClipView, rest_of
from tests.tools.small_sets import DATA, toml

FOLDS = {"fold0": {"field": "camera", "train": [1], "test": [2]},
         "fold1": {"field": "camera", "train": [2], "test": [1]}}
AVERAGED = 0.7  # share of a training after which weights are averaged
TAU = 4.0       # temperature of a teacher's answers


# ---------------------------------------------------------------------------------------------------------------------
# Levers
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Settings:
    """How a network is trained in a race."""
    recipe: str = "lite_small"
    epochs: int = 40
    batch: int = 16
    frames: int = 32
    last_frames: int = 0        # clip length of the last third; 0: as before
    rate: float = 0.1           # the highest
    norm_rate: float = 1.0      # of norms, biases, gates and embeddings, as a multiple
    linear: bool = False        # the rate falls to zero along a line, not a cosine
    average: bool = False       # of the weights after each of the last 30 % of the epochs, at a constant rate
    turns: bool = False         # each clip is mirrored every second epoch, not by chance
    damaged: bool = True        # missing joints, noise, spikes and idle ends in training
    smoothing: float = 0.1      # of labels
    skip: float = 0.0           # share of the clips that an epoch leaves out: those of least loss, in the middle half
    growing: bool = False       # steps of four times as many clips in the first quarter
    muon: bool = False          # orthogonal steps for 1x1 convolutions
    muon_rate: float = 0.02
    taught: bool = False        # half of the epochs train a teacher, which answers each clip once for its student
    compiled: bool = False


LEVERS = {
    "plain": {}, "frames_16": {"frames": 16}, "frames_16_32": {"frames": 16, "last_frames": 32},
    "linear": {"linear": True}, "turns": {"turns": True}, "norms_faster": {"norm_rate": 4.0},
    "skip_learnt": {"skip": 0.5}, "muon": {"muon": True}, "growing": {"growing": True}, "batch_32": {"batch": 32},
    "taught": {"taught": True}, "compiled": {"compiled": True}, "average": {"average": True},
    "undamaged": {"damaged": False}, "unsmoothed": {"smoothing": 0.0}, "rate_20": {"rate": 0.2},
    "rate_5": {"rate": 0.05}, "nano": {"recipe": "lite_nano"}, "pair": {"recipe": "lite_pair"}}


def settings_of(name: str, epochs: int) -> Settings:
    """The settings of levers joined by `+`."""
    changes = {key: value for lever in name.split("+") for key, value in LEVERS[lever].items()}
    return Settings(**{"epochs": epochs, **changes})


@dataclass(frozen=True)
class Options:
    levers: Annotated[tuple[str, ...], "each alone, or several joined by +; all"]
    sets: Annotated[tuple[str, ...], ("folds", "test"), "cameras 1 and 2 against each other, or 3"] = ("folds",)
    seeds: Annotated[tuple[int, ...], (0, 1000), "a training each"] = (0, 1, 2)
    epochs: Annotated[int, (1, 10_000), "of each training"] = 40
    work: Annotated[Path, "keeps the clip store"] = Path("runs/speedrun")
    out: Annotated[Path, "the results; what is there is kept"] = ROOT / "results" / "speedrun.json"

    def __post_init__(self):
        for name in self.levers:
            for lever in name.split("+"):
                if lever not in LEVERS and name != "all":
                    raise ValueError(f"levers = {lever!r}{nearest(lever, LEVERS)}")


def main(options: Options) -> int:
    keep_freed_memory()
    levers = tuple(LEVERS) if options.levers == ("all",) else options.levers
    splits = [split for kind in options.sets for split in (FOLDS if kind == "folds" else ("xview",))]
    store = clip_store(options.work)

    found = read_json(options.out) if options.out.exists() else {"command": "just speedrun", "runs": []}
    done = {(r["levers"], r["epochs"], r["split"], r["seed"]) for r in found["runs"]}
    for seed in options.seeds:
        for name in levers:
            for split in splits:
                if (name, options.epochs, split, seed) in done:
                    continue
                race = raced(settings_of(name, options.epochs), store, split, seed, name)
                row = {"levers": name, "epochs": options.epochs, "split": split, "seed": seed, **race,
                       "commit": commit(), "device": device_name(torch.device("cpu"))}
                # read again: another command may have added rows
                found = read_json(options.out) if options.out.exists() else found
                found["runs"].append(row)
                write_json(options.out, found)
    report(found["runs"])
    return 0


def clip_store(work: Path) -> ClipStore:
    """Northwestern-UCLA's clip store with the folds as protocols, made by phase 0."""
    path = work / "store"
    if not (path / "meta.json").exists():
        folds = [f"data.protocols.{name}={toml(rule)}" for name, rule in FOLDS.items()]
        raw = DATA / "nw-ucla.tar.xz"
        if p0_preprocess.main(["recipe=nw_ucla", f"raw={raw}", f"data.store={path}", *folds]):
            raise ValueError(f"{raw} gave no clip store")
    return ClipStore(path)


def report(runs: list[dict]) -> None:
    """A line per levers and set: mean accuracy and core-minutes."""
    groups: dict[tuple, list[dict]] = {}
    for row in runs:
        kind = "test" if row["split"] == "xview" else "folds"
        groups.setdefault((row["levers"], row["epochs"], kind), []).append(row)
    for (name, epochs, kind), rows in groups.items():
        top1, clean, minutes = (np.mean([r[key] for r in rows]) for key in ("top1", "top1_clean", "core_minutes"))
        print(f"{name:24} {epochs:4} epochs {kind:6} {len(rows)} runs: top-1 {top1:.1f}, clean {clean:.1f}, "
              f"{minutes:.1f} core-minutes")


# ---------------------------------------------------------------------------------------------------------------------
# A race
# ---------------------------------------------------------------------------------------------------------------------

def raced(how: Settings, store: ClipStore, split: str, seed: int, title: str) -> dict:
    """Train by the clock; what a test gives, and how long it took."""
    train, test = store.split(split)
    started = cpu_seconds()
    with progress_bar(how.epochs, 0, f"{title} {split} {seed}", "epoch") as bar:
        network, view, cfg = trained(how, store, train, seed, bar)
    minutes = (cpu_seconds() - started) / 60

    logits, labels = predict(network, Batches(view, test, 64))
    result = accuracies(cfg, logits, labels)
    return {"core_minutes": round(minutes, 2), "params": sum(p.numel() for p in network.parameters()),
            **{key: round(result[key], 3) for key in ("top1", "top1_clean")}}


def cpu_seconds() -> float:
    """CPU time of this process and of those that it waited for: a compiler's too."""
    return sum(os.times()[:4])


def trained(how: Settings, store: ClipStore, train: np.ndarray, seed: int, bar) -> tuple[nn.Module, ClipView, Config]:
    """A network that has learnt the clips `train`, in evaluation mode, with the view and the recipe of its test."""
    answers = None
    if how.taught:
        first = dataclasses.replace(how, taught=False, epochs=how.epochs // 2)
        teacher, view, _ = trained(first, store, train, seed + 1000, bar)
        answers = answers_of(teacher, view, store, train)
        how = dataclasses.replace(how, epochs=how.epochs - first.epochs)

    rest = rest_of(store, train)
    racer = Racer(how, store, rest, how.frames, seed)
    loss_of = torch.zeros(len(store))       # of each clip when it was last seen
    mean = None

    for epoch in range(how.epochs):
        # longer clips in the last third
        if how.last_frames and epoch == math.ceil(how.epochs * 2 / 3):
            longer = Racer(how, store, rest, how.last_frames, seed)
            lengthen(racer.network, longer.network)
            racer = longer

        batches = order(how, train, loss_of, seed, epoch)
        for i, clips in enumerate(batches):
            racer.set_rate(how, (epoch + i / len(batches)) / how.epochs)
            loss_of[clips] = racer.step(clips, seed, epoch, None if answers is None else answers[clips])

        # the mean of the last weights
        if how.average and epoch >= AVERAGED * how.epochs:
            mean = mean or torch.optim.swa_utils.AveragedModel(racer.network)
            mean.update_parameters(racer.network)
        bar.update()

    network = racer.network
    if mean is not None:
        network.load_state_dict(mean.module.state_dict())
        refresh_batchnorm(network, plain_batches(racer.view, train, 64))
    return network.eval(), racer.view, racer.cfg


def answers_of(teacher: nn.Module, view: ClipView, store: ClipStore, train: np.ndarray) -> Tensor:
    """A teacher's softened probabilities (clips of the store, K) of the clips `train`, as a test shows them."""
    logits, _ = predict(teacher, Batches(view, train, 64))
    answers = torch.zeros(len(store), logits.shape[1])
    answers[train] = (logits / TAU).softmax(1)
    return answers


class Racer:
    """A network with its view and its optimisers."""

    def __init__(self, how: Settings, store: ClipStore, rest: Tensor, frames: int, seed: int):
        words = [f"recipe={how.recipe}", "data=nw_ucla", f"view.frames={frames}", f"seed={seed}"]
        if not how.damaged:
            words += [f"view.{key}=0" for key in ("missing", "noise", "spikes", "idle")]
        self.cfg = load_config(words)
        self.smoothing = how.smoothing
        self.view = (TurnsView if how.turns else ClipView)(store, self.cfg.view, rest=rest)
        self.network = build_model(self.cfg, store.skeleton, len(store.classes)).train()
        if how.compiled:
            self.network.features = torch.compile(self.network.features)
        self.optimizers = make_optimizers(self.network, self.cfg, how)

    def set_rate(self, how: Settings, done: float) -> None:
        """The rate of a step when this share of the training is done: a short rise, then down to zero."""
        rise = 0.05
        done = min(done, AVERAGED) if how.average else done
        left = min(1.0, (1 - done) / (1 - rise))
        share = min(1.0, 0.1 + 0.9 * done / rise) * (left if how.linear else 0.5 - 0.5 * math.cos(math.pi * left))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["highest"]

    def step(self, clips: Tensor, seed: int, epoch: int, answers: Tensor | None = None) -> Tensor:
        """One step; the loss of each clip (B,). A teacher's `answers` (B, K) count as much as the labels."""
        logits = self.network(self.view(clips, True, seed, epoch))
        label = self.view.label[clips]

        # each half of a pair learns alone
        loss = torch.zeros(len(clips))
        for half in logits.split(len(clips)):
            own = F.cross_entropy(half, label, label_smoothing=self.smoothing, reduction="none")
            if answers is not None:
                kd = F.kl_div((half / TAU).log_softmax(1), answers, reduction="none").sum(1) * TAU ** 2
                own = (own + kd) / 2
            loss = loss + own
        self.network.zero_grad(set_to_none=True)
        loss.mean().backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach()


def order(how: Settings, train: np.ndarray, loss_of: Tensor, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """The batches (B,) of an epoch, in a random order; without those that are learnt, if the lever says so."""
    done = epoch / how.epochs
    clips = torch.from_numpy(train)
    if 0.25 <= done < 0.75 and how.skip:
        clips = clips[loss_of[clips].argsort(descending=True)[:round(len(clips) * (1 - how.skip))]]
    draw = torch.Generator().manual_seed(seed * 100_003 + epoch)
    size = 4 * how.batch if how.growing and done < 0.25 else how.batch
    return clips[torch.randperm(len(clips), generator=draw)].split(size)


class TurnsView(ClipView):
    """A view that mirrors a clip every second epoch: half of the clips in even epochs, the others in odd ones."""

    def __call__(self, index: Tensor, training: bool = False, seed: int = 0, epoch: int = 0) -> Tensor:
        self.turn_now = (hashed_uniform(seed, index, 71) < 0.5) ^ bool(epoch % 2)
        return super().__call__(index, training, seed, epoch)

    def _augment(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        linear, _, swap = super()._augment(u)
        return linear, self.turn_now, swap


def lengthen(short: nn.Module, long: nn.Module) -> None:
    """Give the network of longer clips the weights of that of shorter ones, half as long.

    Bin k of a DCT mask has k half-waves per clip at any length: the first bins are the same. A gate of a frame serves
    the two frames of the same moment.
    """
    state = short.state_dict()
    for name, x in long.state_dict().items():
        old = state[name]
        if name.endswith(".mask"):
            old = F.pad(old, (0, x.shape[1] - old.shape[1]))
        elif name.endswith(".gate") and old.dim() == 2:
            old = old.repeat_interleave(x.shape[1] // old.shape[1], 1)
        state[name] = old
    long.load_state_dict(state)


# ---------------------------------------------------------------------------------------------------------------------
# Optimisers
# ---------------------------------------------------------------------------------------------------------------------

def make_optimizers(network: nn.Module, cfg: Config, how: Settings) -> list[torch.optim.Optimizer]:
    """SGD as in last.py, or Muon for the 1x1 convolutions and SGD for what is left."""
    sgd = make_optimizer(network, cfg.train)
    decayed, rest = sgd.param_groups
    decayed["highest"] = how.rate
    rest["highest"] = how.rate * how.norm_rate
    if not how.muon:
        return [sgd]

    matrices = [m.weight for m in network.modules() if isinstance(m, Conv1x1)]
    taken = {id(p) for p in matrices}
    decayed["params"] = [p for p in decayed["params"] if id(p) not in taken]
    return [Muon([{"params": matrices, "highest": how.muon_rate}]), sgd]


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal by five Newton-Schulz steps (Jordan et al., 2024).

    torch.optim.Muon takes no 1x1 convolutions, whose weights have four axes.
    """

    def __init__(self, groups: list[dict], momentum: float = 0.95, decay: float = 0.0):
        super().__init__(groups, {"lr": 0.02, "momentum": momentum, "weight_decay": decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                moving = self.state[p].setdefault("moving", torch.zeros_like(p))
                moving.lerp_(p.grad, 1 - group["momentum"])
                direction = p.grad.lerp(moving, group["momentum"]).flatten(1)
                scale = max(1.0, len(direction) / direction.shape[1]) ** 0.5
                p.sub_(orthogonal(direction).view_as(p), alpha=group["lr"] * scale)


def orthogonal(x: Tensor) -> Tensor:
    """Near the orthogonal factor of x (D, C): five Newton-Schulz steps of fifth order."""
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if wide else x.T


if __name__ == "__main__":
    run(main, Options)
