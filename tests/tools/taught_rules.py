"""What `just teach` and the page decline, and which last layer they need: candidates, on people that `any` never saw.

    python -m tests.tools.taught_rules                       all tables, into results/taught-rules.json
    python -m tests.tools.taught_rules draws=5 out=FILE

Clips are those that the network's pool tests on: its training has seen neither these people nor, of Northwestern-UCLA,
this camera, but other people's clips of the same actions. In: the stores of utd_mhad, nw_ucla, irds, sbu and jhmdb, of
phase 0.

**Thresholds.** A draw takes some actions, and clips of each by one person or two, or one clip three times over, of
which two were begun or ended a little later: a recording that is repeated at once. Judged are the other people's clips
(where a set has but one, their other ones): how many are named rightly and kept; and how many are declined of other
actions of the same people, of people who stand, of another set.

**Heads.** Half of the people show n examples of each action, the others are named. A set without people is halved.

**Doubts.** With one example of each action nothing can be left out, and the examples themselves are all named rightly:
how sure to be of new people's clips follows from a doubt (temperature_of) that must be set beforehand.
"""
from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx

from phases.common.command import run
from phases.common.files import ROOT, write_json
from phases.recordings.clips import main_bodies
from phases.recordings.strangers import standing
from phases.shipping import teaching
from phases.shipping.declining import class_means, softmax, temperature_of
from phases.shipping.exported import ExportedModel, model_file
from phases.shipping.lessons import NOISE
from phases.shipping.taught import feature_scale, network_gap
from phases.shipping.teaching import HEADS, Head, directions, fit, leave_one_out, lowest, nearest, rounds_of
from phases.training.changed_clips import judged as judged_answers
from phases.training.clip_store import ClipStore, clip_joints
from skeletons import means, retargeted
from tests.tools.few_shot import origin

SPLITS = {"utd_mhad": "xsub", "nw_ucla": "xview", "sbu": "fold1", "jhmdb": "given", "irds": "xsub"}
SHOTS = (1, 3, 5, 10)
DOUBTS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)


@dataclass(frozen=True)
class Options:
    model: Annotated[str, "a general network"] = "any"
    stores: Annotated[Path, "of phase 0"] = Path("stores")
    draws: Annotated[int, (1, 1000), "of each case"] = 40
    out: Annotated[Path, "the results"] = ROOT / "results" / "taught-rules.json"


@dataclass(frozen=True)
class Side:
    """The test side of a set, as directions (N, C) of clips; of the same people as they stand; of clips cut short."""
    clips: np.ndarray
    standing: np.ndarray
    later: np.ndarray       # the first twentieth is cut off
    earlier: np.ndarray     # the last
    labels: np.ndarray      # n
    people: np.ndarray      # n


@dataclass(frozen=True)
class Case:
    """How examples are drawn: of K actions, n clips of each, by so many people."""
    name: str
    set: str
    K: int
    n: int
    people: int = 1
    is_one_take: bool = False
    are_alike: bool = False     # the two actions that are most alike
    others: str = "nw_ucla"


CASES = (
    Case("3 of one person", "utd_mhad", 3, 3), Case("3 of one person", "utd_mhad", 6, 3),
    Case("5 of two people", "utd_mhad", 6, 5, people=2),
    Case("one take, three times", "utd_mhad", 6, 1, is_one_take=True),
    Case("3 of one person, two alike", "utd_mhad", 2, 3, are_alike=True), Case("3 of one person", "irds", 4, 3),
    Case("3 of anybody", "sbu", 4, 3, people=0))


def main(options: Options) -> int:
    path = model_file(options.model)
    model = ExportedModel(path)
    file = onnx.load(path)
    scale = feature_scale(file, path)
    sides = {name: side_of(model, scale, options.stores / name, split) for name, split in SPLITS.items()}
    cases = list(thresholds(sides, network_gap(file, path), options))
    write_json(options.out, {"model": options.model, "draws": options.draws, "cases": cases,
                             "heads": list(heads(sides, options)), "doubts": list(doubts(sides, options)), **origin()})
    return 0


def side_of(model: ExportedModel, scale: np.ndarray, store: Path, split: str) -> Side:
    """What the network makes of the test clips of a store."""
    own = ClipStore(store)
    _, test = own.split(split)
    table = means(own.skeleton.joints, model.skeleton["joints"])
    found = {"clips": [], "standing": [], "later": [], "earlier": []}
    for i in test:
        people = clip_joints(own, i)
        clip = retargeted(people[main_bodies(people)[:1]], table)
        cut = max(1, clip.shape[1] // 20)
        for kind, joints in (("clips", clip), ("standing", standing(clip, str(own.clips["name"][i]), NOISE)),
                             ("later", clip[:, cut:]), ("earlier", clip[:, :-cut])):
            found[kind].append(model.answer(joints if joints.shape[1] else clip).features)
    print(f"{store.name}: {len(test)} clips", flush=True)
    return Side(*(directions(np.stack(features), scale) for features in found.values()),
                own.clips["label"][test], own.clips["subject"][test])


# ---------------------------------------------------------------------------------------------------------------------
# Thresholds
# ---------------------------------------------------------------------------------------------------------------------

def candidates() -> dict[str, Callable[[float, float, float], float]]:
    """{name: threshold}, of what 97 % of left-out examples reach, of the gap between the classes and of the network's.

    A gap is 1 - the mean cosine of the means of two classes: those that were drawn, or those that the file names.
    """
    found = {"spread x 2": lambda own, gap, network: 1 - 2 * (1 - own),
             "gap x 0.6": lambda own, gap, network: 1 - 0.6 * gap,
             "spread x 2, at most gap x 0.6": lambda own, gap, network: min(1 - 2 * (1 - own), 1 - 0.6 * gap)}
    for slack, loose in itertools.product((1, 2), (0.25, 0.3, 0.35, 0.4)):
        found[f"spread x {slack}, at most network's x {loose}"] = functools.partial(at_most, slack, loose)
    return found


def at_most(slack: float, loose: float, own: float, gap: float, network: float) -> float:
    return min(1 - slack * (1 - own), 1 - loose * network)


def thresholds(sides: dict[str, Side], network: float, options: Options) -> Iterator[dict]:
    """A row per case: shares in percent by candidate."""
    for case in CASES:
        found = {name: [] for name in candidates()}
        rng = np.random.default_rng(0)
        for _ in range(options.draws):
            for name, shares in draw(sides[case.set], sides[case.others], case, network, rng).items():
                found[name].append(shares)
        shares = {name: dict(zip(("named", "unknown", "standing", "another set"),
                                 np.round(100 * np.mean(rows, 0), 1).tolist(), strict=True))
                  for name, rows in found.items()}
        for name, of_rule in shares.items():
            print(f"{case.name:30} {case.set:10} {case.K} {name:40} {of_rule}", flush=True)
        yield {"case": case.name, "set": case.set, "actions": case.K, "clips": case.n, "shares": shares}


def draw(side: Side, others: Side, case: Case, network: float, rng: np.random.Generator) -> dict[str, list[float]]:
    """{candidate: [named rightly and kept, declined of other actions, of people who stand, of another set]}."""
    classes, teachers, places = drawn(side, case, rng)
    labels = np.searchsorted(classes, side.labels[places])
    u = side.clips[places]
    if case.is_one_take:
        u = np.concatenate([u, side.later[places], side.earlier[places]])
        labels = np.tile(labels, 3)

    # what it learns
    K = len(classes)
    rounds, told = rounds_of(labels, None)
    centres = class_means(u, labels, K)
    own = leave_one_out(u, labels, K, HEADS[0], rounds)[told].max(1)
    gap = 1 - float((centres @ centres.T)[np.triu_indices(K, 1)].mean())
    weight, bias = fit(teaching.USUAL, u, labels, K)
    new = u[told]
    rest, offsets = teaching.something_else(side.standing[places], np.zeros((0, u.shape[1])), centres, new, own)

    # other people's clips; where nobody else is there, other clips
    judged = ~np.isin(side.people, teachers)
    if not judged.any():
        judged[np.setdiff1d(np.arange(len(judged)), places)] = True
    is_known = np.isin(side.labels, classes)
    known = np.flatnonzero(judged & is_known)
    is_right = (side.clips[known] @ weight.T + bias).argmax(1) == np.searchsorted(classes, side.labels[known])

    # a clip that is more like standing is declined by any rule
    asked = side.clips[known], side.clips[judged & ~is_known], side.standing[judged], others.clips
    likeness = [np.where(nearest(v, centres) >= nearest(v, rest, offsets), nearest(v, centres), -2) for v in asked]
    found = {}
    for name, rule in candidates().items():
        threshold = max(-1.0, rule(lowest(own, teaching.ALIKE), gap, network))
        found[name] = [float(((likeness[0] >= threshold) & is_right).mean()),
                       *(float((of_strangers < threshold).mean()) for of_strangers in likeness[1:])]
    return found


def drawn(side: Side, case: Case, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(classes in order, people who teach, places of their clips)."""
    people = np.unique(side.people)
    teachers = rng.permutation(people)[:case.people or None]
    classes = np.unique(side.labels)
    classes = alike(side, rng) if case.are_alike else np.sort(rng.permutation(classes)[:case.K])
    places = []
    for k in classes:
        own = np.flatnonzero((side.labels == k) & np.isin(side.people, teachers))
        places.append(rng.permutation(own)[:case.n])
    return classes, teachers, np.concatenate(places)


def alike(side: Side, rng: np.random.Generator) -> np.ndarray:
    """A class and the one that is most like it."""
    K = side.labels.max() + 1
    centres = class_means(side.clips, side.labels, K)
    k = rng.integers(K)
    cosines = centres @ centres[k]
    cosines[k] = -2
    return np.sort([k, cosines.argmax()])


# ---------------------------------------------------------------------------------------------------------------------
# Heads
# ---------------------------------------------------------------------------------------------------------------------

def heads(sides: dict[str, Side], options: Options) -> Iterator[dict]:
    """A row per set and number of examples: top-1 in percent by kind of head. `chosen` is that of `just teach`."""
    for name, side in sides.items():
        for n in SHOTS:
            found = [row for seed in range(options.draws) if (row := top1(side, n, np.random.default_rng(seed)))]
            if found:
                mean = {kind: round(100 * float(np.mean([row[kind] for row in found])), 1) for kind in found[0]}
                print(name, n, mean, flush=True)
                yield {"set": name, "shots": n, "top1": mean}


def halved(side: Side, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """(places of n examples of each class by half of the people, their classes by number, who is judged (N,)); None
    where a class has too few."""
    half = side.people if len(np.unique(side.people)) > 1 else np.arange(len(side.labels))
    everybody = rng.permutation(np.unique(half))
    teaches = np.isin(half, everybody[:len(everybody) // 2])
    order = rng.permutation(np.flatnonzero(teaches))
    each = [order[side.labels[order] == k][:n] for k in np.unique(side.labels)]
    if min(map(len, each)) < min(n, 2):
        return None
    return np.concatenate(each), np.repeat(np.arange(len(each)), [len(own) for own in each]), ~teaches


def top1(side: Side, n: int, rng: np.random.Generator) -> dict[str, float]:
    """{kind of head: share of the other half's clips that it names rightly}; empty where a class has too few."""
    if (taught := halved(side, n, rng)) is None:
        return {}
    places, labels, judged = taught
    classes = np.unique(side.labels)

    # in the span of the examples
    basis = teaching.span_of(side.clips[places])
    u = side.clips[places] @ basis
    chosen = teaching.best_head(u, labels, len(classes), *rounds_of(labels, None))[0]
    found = {}
    for kind, head in {"means": HEADS[0], "ridge": Head("ridge", 0.1), "logistic": teaching.USUAL,
                       "chosen": chosen}.items():
        weight, bias = fit(head, u, labels, len(classes))
        named = classes[(side.clips[judged] @ basis @ weight.T + bias).argmax(1)]
        found[kind] = float((named == side.labels[judged]).mean())
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Doubts
# ---------------------------------------------------------------------------------------------------------------------

def doubts(sides: dict[str, Side], options: Options) -> Iterator[dict]:
    """A row per set: with one example of each action, top-1, and by doubt confidence and calibration error (percent).
    """
    for name, side in sides.items():
        drawn_logits = []
        labels = []
        for seed in range(options.draws):
            if (taught := halved(side, 1, np.random.default_rng(seed))) is not None:
                places, known, judged = taught
                weight, bias = fit(teaching.USUAL, side.clips[places], known, len(places))
                own = side.clips[places] @ weight.T + bias
                new = side.clips[judged] @ weight.T + bias
                by_doubt = {d: temperature_of(own, known, d, teaching.BETWEEN) for d in DOUBTS}
                drawn_logits.append({d: new / T for d, T in by_doubt.items()})
                labels.append(np.searchsorted(np.unique(side.labels), side.labels[judged]))
        if not labels:
            continue

        # the clips of all draws together
        label = np.concatenate(labels)
        found = {d: judged_answers(softmax(np.concatenate([logits[d] for logits in drawn_logits])), label)
                 for d in DOUBTS}
        row = {"set": name, "draws": len(labels), "top1": round(found[DOUBTS[0]]["top1"], 1)}
        for key in ("confidence", "ece"):
            row[key] = {str(d): round(figures[key], 1) for d, figures in found.items()}
        print(row, flush=True)
        yield row


if __name__ == "__main__":
    run(main, Options)
