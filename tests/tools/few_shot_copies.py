"""Whether changed copies of the examples help the last layer that a few of them teach.

    python -m tests.tools.few_shot_copies without_utd=exports/without_utd/lite_nano/model.onnx
    python -m tests.tools.few_shot_copies sets=sbu,irds draws=5 out=try.json

An example is changed as another take, person or camera might change it: turned about the vertical, taller, begun later
or ended earlier, of another tempo, noisy; never mirrored, which turns some actions into others. Its size is not
changed: the networks measure a body by its trunk. The features of the copies teach beside those of the example; the
penalty of the last layer grows with their number, so that an example with its copies counts as much as it did alone. A
network judges a set that it has not seen: UTD-MHAD a pool's without it (results/few-shot.md), the others one that
UTD-MHAD alone trained.

**Choice.** On training people alone: half of them show the examples and the others are named, in turn. UTD-MHAD:
persons 1 and 3, 5 and 7; SBU: pairs of people; IntelliRehabDS: its two people. Northwestern-UCLA chooses nothing: its
training cameras see the same takes. By each kind of head, in an orthonormal basis of nearly all that the examples span.

**Judged.** The copies that are chosen, and those of the first lead, on the sides of the set's own protocol, by the last
layer that `just teach` takes; paired by draw.

Interrupt it at any moment: a set whose figures are there is not measured again.

In: stores of utd_mhad, nw_ucla, sbu and irds, of phase 0. Out: results/few-shot-copies.json.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx

from phases.common.command import run
from phases.common.files import ROOT, read_json, write_json
from phases.recordings.clips import main_bodies
from phases.recordings.wild import about_middle, shaken
from phases.shipping.exported import ExportedModel, model_file
from phases.shipping.taught import feature_scale
from phases.shipping.teaching import HEADS, USUAL, Head, best_head, directions, fit, rounds_of
from phases.training.clip_store import ClipStore, clip_joints
from skeletons import means, retargeted
from tests.tools.few_shot import draws, find, origin

SHOTS = (1, 3, 5)
KINDS = (HEADS[0], Head("ridge", 0.1), USUAL)
KEPT = 0.999   # of the squared length of the examples, by the basis
SPLITS = {"utd_mhad": "xsub", "nw_ucla": "xview", "sbu": "fold1", "irds": "xsub"}
# of the training side: a column of its clips, and the values of one half
HALVES = {"utd_mhad": ("subject", (1, 3)), "sbu": ("setup", (2, 3)), "irds": ("subject", (215,))}


@dataclass(frozen=True)
class Options:
    without_utd: Annotated[str, "a general network that has not seen UTD-MHAD, a file of `just phase4`"] = ""
    other: Annotated[str, "the network for all other sets: UTD-MHAD alone trained it"] = "utd_mhad"
    sets: Annotated[tuple[str, ...], "of utd_mhad, nw_ucla, sbu, irds"] = ("sbu", "irds", "utd_mhad", "nw_ucla")
    stores: Annotated[Path, "of phase 0"] = Path("stores")
    draws: Annotated[int, (2, 1000), "of the judgement; a fifth as many of each half, for the choice"] = 20
    out: Annotated[Path, "the results"] = ROOT / "results" / "few-shot-copies.json"


# ---------------------------------------------------------------------------------------------------------------------
# Copies
# ---------------------------------------------------------------------------------------------------------------------

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def turned(joints: np.ndarray, rng: np.random.Generator, degrees: float) -> np.ndarray:
    """About the vertical through the middle of all joints."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return about_middle(joints, np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]))


def sized(joints: np.ndarray, rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    return about_middle(joints, np.diag([width, height, width]))


def noisy(joints: np.ndarray, rng: np.random.Generator, sd: float) -> np.ndarray:
    """sd in metres."""
    return shaken(joints, sd, rng)


def cut(joints: np.ndarray, rng: np.random.Generator, first: float, last: float) -> np.ndarray:
    """Shares of the frames, cut off at both ends."""
    L = joints.shape[1]
    begin = round(first * L)
    return joints[:, begin:max(begin + 1, L - round(last * L))]


def hurried(joints: np.ndarray, rng: np.random.Generator, power: float) -> np.ndarray:
    """Begun slowly and ended fast (power < 1), or the other way round: the nearest frames."""
    L = joints.shape[1]
    return joints[:, np.rint((L - 1) * np.linspace(0, 1, L) ** power).astype(int)]


def mixed(joints: np.ndarray, rng: np.random.Generator, degrees: float) -> np.ndarray:
    """A little of all: turned by at most so much, of another size and tempo, cut, 1 cm of noise."""
    x = turned(joints, rng, rng.uniform(-degrees, degrees))
    x = sized(x, rng, *rng.uniform(0.9, 1.1, 2))
    x = hurried(x, rng, math.exp(rng.uniform(-0.25, 0.25)))
    x = cut(x, rng, *rng.uniform(0, 0.1, 2))
    return noisy(x, rng, 0.01)


def part(change: Callable, **how: float) -> Change:
    return functools.partial(change, **how)


CHANGES: dict[str, tuple[Change, ...]] = {
    "turned by 15": tuple(part(turned, degrees=a) for a in (-15, 15)),
    "turned by 30": tuple(part(turned, degrees=a) for a in (-30, 30)),
    "turned by 60": tuple(part(turned, degrees=a) for a in (-60, 60)),
    "taller, shorter": tuple(part(sized, width=1, height=s) for s in (0.9, 1.1)),
    "of another tempo": tuple(part(hurried, power=p) for p in (0.8, 1.25)),
    "cut by 15 %": (part(cut, first=0.15, last=0), part(cut, first=0, last=0.15)),
    "noise of 2 cm": (part(noisy, sd=0.02),) * 2,
    "a little of all": (part(mixed, degrees=30),) * 4,
}
LEAD = "turned by 15 and 30"
CANDIDATES: dict[str, tuple[str, ...]] = {
    "none": (),
    **{name: (name,) for name in CHANGES},
    LEAD: ("turned by 15", "turned by 30"),
    "turned by 15, 30, 60": ("turned by 15", "turned by 30", "turned by 60"),
    "turned by 30, tempo, cut": ("turned by 30", "of another tempo", "cut by 15 %"),
    "turned by 30, a little of all": ("turned by 30", "a little of all"),
}


@dataclass
class Side:
    """The clips of a set as directions (N, C); copies are made as they are asked for."""
    store: ClipStore
    model: ExportedModel
    scale: np.ndarray
    table: list | None
    found: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, store: ClipStore, model: ExportedModel, scale: np.ndarray) -> Side:
        return cls(store, model, scale, means(store.skeleton.joints, model.skeleton["joints"]))

    def directions(self, clips: np.ndarray, change: str = "") -> np.ndarray:
        """(N, C) of clips as they are, or (N, J, C) of the J copies of a change."""
        for i in map(int, clips):
            if (i, change) not in self.found:
                people = clip_joints(self.store, i)
                clip = retargeted(people[main_bodies(people)[:1]], self.table)
                rng = np.random.default_rng([i, *change.encode()])
                copies = [c(clip, rng) for c in CHANGES[change]] if change else [clip]
                features = np.stack([self.model.answer(copy).features for copy in copies])
                self.found[i, change] = directions(features, self.scale)
        found = np.stack([self.found[int(i), change] for i in clips])
        return found if change else found[:, 0]

    def taught(self, clips: np.ndarray, changes: tuple[str, ...]) -> np.ndarray:
        """(1 + J, N, C): the clips, then their copies under all of the changes."""
        copies = [self.directions(clips, change).swapaxes(0, 1) for change in changes]
        return np.concatenate([self.directions(clips)[None], *copies])


def main(options: Options) -> int:
    done = read_json(options.out) if options.out.exists() else {"draws": options.draws, "choice": [], "judged": []}
    sides = {name: side_of(options, name) for name in options.sets}
    for name, side in sides.items():
        if name in HALVES and not find({"rows": done["choice"]}, {"set": name}):
            done["choice"] += choice(name, side, options)
            write_json(options.out, done | origin())

    # judged when all have chosen
    if not done["choice"]:
        raise ValueError(f"sets = {','.join(options.sets)}: none of them chooses; add one of {', '.join(HALVES)}")
    done["chosen"] = best_of(done["choice"])
    print(f"chosen: {done['chosen']}", flush=True)
    for name, side in sides.items():
        if not find({"rows": done["judged"]}, {"set": name, "copies": done["chosen"]}):
            done["judged"] += judgement(name, side, done["chosen"], options)
            write_json(options.out, done | origin())
    return 0


def side_of(options: Options, name: str) -> Side:
    """A set and the network that judges it; ValueError for an unknown set, or a network that has seen it."""
    if name not in SPLITS:
        raise ValueError(f"sets = {name!r}: is none of {', '.join(SPLITS)}")
    path = model_file(options.without_utd if name == "utd_mhad" else options.other)
    model = ExportedModel(path)
    if any(label.startswith(f"{name}: ") for label in model.classes) or model.about["dataset"] in (name, "any"):
        raise ValueError(f"model = {path}: has seen {name}; give one that has not")
    return Side.of(ClipStore(options.stores / name), model, feature_scale(onnx.load(path), path))


# ---------------------------------------------------------------------------------------------------------------------
# Choice
# ---------------------------------------------------------------------------------------------------------------------

def choice(name: str, side: Side, options: Options) -> Iterator[dict]:
    """A row per number of examples and candidate: top-1 in percent by kind of head, on the training side's halves."""
    clips = side.store.clips
    train, _ = side.store.split(SPLITS[name])
    column, values = HALVES[name]
    is_first = np.isin(clips[column][train], values)
    halves = train[is_first], train[~is_first]

    # each half shows, the other is named
    found: dict[tuple[int, str], list[list[float]]] = {}
    for examples, tested in (halves, halves[::-1]):
        others, wanted = side.directions(tested), clips["label"][tested]
        labels = clips["label"][examples]
        for places in draws(labels, max(SHOTS), max(1, options.draws // 5)):
            own = examples[places]
            basis = basis_of(side.taught(own, tuple(CHANGES)))
            seen = others @ basis
            for n in SHOTS:
                shown = first_of_each(clips["label"][own], n)
                for candidate, changes in CANDIDATES.items():
                    u = side.taught(own[shown], changes) @ basis
                    named = [named_by(head, u, clips["label"][own[shown]], seen) for head in KINDS]
                    found.setdefault((n, candidate), []).append([100 * float((k == wanted).mean()) for k in named])

    for (n, candidate), top1 in found.items():
        mean = dict(zip(map(str, KINDS), np.mean(top1, 0).round(2).tolist(), strict=True))
        print(f"{name:10} {n} {candidate:32} {mean}", flush=True)
        yield {"set": name, "shots": n, "copies": candidate, "number": number_of(candidate), "top1": mean}


def first_of_each(labels: np.ndarray, n: int) -> np.ndarray:
    """Places of the first n of each class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == k)[:n] for k in np.unique(labels)]))


def basis_of(u: np.ndarray) -> np.ndarray:
    """An orthonormal basis (C, R) that holds KEPT of the squared length of directions (1 + J, N, C)."""
    x = u.reshape(-1, u.shape[-1]).astype(np.float32)
    is_wide = len(x) < x.shape[1]   # then by the cosines of the rows, which is quicker
    power, axes = (side[..., ::-1] for side in np.linalg.eigh(x @ x.T if is_wide else x.T @ x))
    R = np.searchsorted(np.cumsum(power) / power.sum(), KEPT) + 1
    return x.T @ axes[:, :R] / np.sqrt(power[:R]) if is_wide else axes[:, :R]


def named_by(head: Head, u: np.ndarray, labels: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """The classes of directions tested (S, C) by a head that clips and copies u (1 + J, N, C) teach."""
    classes, own = np.unique(labels, return_inverse=True)
    heavier = Head(head.kind, head.strength * len(u))
    weight, bias = fit(heavier, u.reshape(-1, u.shape[-1]), np.tile(own, len(u)), len(classes))
    return classes[(tested @ weight.T + bias).argmax(1)]


def number_of(candidate: str) -> int:
    """The copies of each example."""
    return sum(len(CHANGES[name]) for name in CANDIDATES[candidate])


def best_of(rows: list[dict]) -> str:
    """The copies with the best mean over sets and numbers of examples, by the last layer that few examples take."""
    def top1(candidate: str) -> float:
        return float(np.mean([row["top1"][str(USUAL)] for row in rows if row["copies"] == candidate]))

    return max((name for name in CANDIDATES if name != "none"), key=top1)


# ---------------------------------------------------------------------------------------------------------------------
# Judgement
# ---------------------------------------------------------------------------------------------------------------------

def judgement(name: str, side: Side, chosen: str, options: Options) -> Iterator[dict]:
    """A row per number of examples: mean top-1 in percent without copies, and gains by draw, of the chosen ones and the
    lead's."""
    clips = side.store.clips
    examples, tested = side.store.split(SPLITS[name])
    others, wanted = side.directions(tested), clips["label"][tested]
    labels = clips["label"][examples]
    candidates = tuple(dict.fromkeys(("none", chosen, LEAD)))
    for n in SHOTS:
        found = []
        for places in draws(labels, n, options.draws):
            own = examples[places]
            shown = {candidate: side.taught(own, CANDIDATES[candidate]) for candidate in candidates}
            basis = basis_of(np.concatenate(list(shown.values())))
            head = head_of(shown["none"][0] @ basis, labels[places], clips["subject"][own])
            named = [named_by(head, u @ basis, labels[places], others @ basis) for u in shown.values()]
            found.append([100 * float((k == wanted).mean()) for k in named])
        top1 = np.array(found)
        gains = np.round(top1 - top1[:, :1], 2)
        row = {"set": name, "network": side.model.about["dataset"], "shots": n, "copies": chosen,
               "top1": round(float(top1[:, 0].mean()), 2),
               "gains": {candidate: gains[:, i].tolist() for i, candidate in enumerate(candidates) if i}}
        print(name, n, row["top1"], gains.mean(0).round(2), gains.std(0, ddof=1).round(2), flush=True)
        yield row


def head_of(u: np.ndarray, labels: np.ndarray, subjects: np.ndarray) -> Head:
    """What `just teach` takes by the examples alone."""
    own = np.unique(labels, return_inverse=True)[1]
    people = subjects if len(np.unique(subjects)) > 1 else None
    return best_head(u, own, own.max() + 1, *rounds_of(own, people))[0]


if __name__ == "__main__":
    run(main, Options)
