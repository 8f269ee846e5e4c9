"""How well a general network tells actions of a data set that it never saw, taught by a few examples of each.

    python -m tests.tools.few_shot                                     every set and network, into results/few-shot.json
    python -m tests.tools.few_shot sets=utd_mhad networks=lite_nano    some of them
    python -m tests.tools.few_shot scratch=5,0                         also networks trained on the same clips alone
    python -m tests.tools.few_shot side=training draws=10              which network is best, without the test sides

Each set in turn is left out of the pool: `just phase1 recipe=NETWORK data=any data.unknown=... out=runs/without_SET`
trains on the others (a finished training is not repeated, one that was interrupted continues). Examples come from the
training side of the set's own protocol, other people or cameras are tested. A draw has n examples of each class (0: all
of them); `just teach` chooses head and strength by these alone. Beside it: the same with the joints themselves under
the same view, and with the features of networks that one data set trained (results/networks).

`side=training`: half of the people of the training side (SBU: pairs of people) show the examples, the others are
tested, and back. JHMDB does not tell who moves.

In: stores/any, of `just pool`, and the stores that it was made of. Interrupt it at any moment; figures that are there
are not made again.
"""
from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import torch

from last import classification_loss, fit
from phases import p1_train
from phases.common.command import run
from phases.common.files import NETWORKS, ROOT, read_json, write_json
from phases.recordings.clips import main_bodies
from phases.recordings.proposal import BATCH, STEPS
from phases.shipping.declining import scale_of
from phases.shipping.exported import ExportedModel
from phases.shipping.taught import feature_scale
from phases.shipping.teaching import teach
from phases.shipping.verify import network_outputs
from phases.training.batches import Batches, plain_batches
from phases.training.clip_store import ClipStore, clip_joints, splits
from phases.training.evaluation import predict
from phases.training.networks import build_model, load_run
from phases.training.parts import Parts
from phases.training.recipe import Config, load_config
from phases.training.run_folder import commit, device_name
from phases.training.view import ClipView, rest_of
from skeletons import means, retargeted

SINGLE = {"utd_mhad": "nw_ucla"}    # the network of one data set that is compared; of all other sets:
OTHERWISE = "utd_mhad_small"
SCRATCH = "lite_nano from scratch"


@dataclass(frozen=True)
class Options:
    sets: Annotated[tuple[str, ...], "each is left out of the pool"] = ("utd_mhad", "nw_ucla", "sbu", "irds", "jhmdb")
    networks: Annotated[tuple[str, ...], "general recipes, that of `any` first"] = ("lite_pair", "lite_nano")
    shots: Annotated[tuple[int, ...], (0, 1000), "examples of each class; 0: all"] = (1, 3, 5, 10, 0)
    draws: Annotated[int, (1, 1000), "of the examples"] = 20
    scratch: Annotated[tuple[int, ...], (0, 1000), "of which shots a lite_nano is trained on the same clips"] = ()
    side: Annotated[str, ("test", "training"), "whose clips are tested"] = "test"
    epochs: Annotated[int, (0, 100_000), "of the general networks, to try the command; 0: as recipes/any.toml"] = 0
    pool: Annotated[Path, "the store of the pool"] = Path("stores/any")
    work: Annotated[Path, "the runs"] = Path("runs")
    out: Annotated[Path, "the results; without it, those of its side"] = Path()

    def __post_init__(self):
        if not self.out.name:
            name = "few-shot.json" if self.side == "test" else "few-shot-choice.json"
            object.__setattr__(self, "out", ROOT / "results" / name)
        if self.side == "training" and self.scratch:
            raise ValueError("scratch: goes with side=test; leave one out")


@dataclass(frozen=True)
class Held:
    """A set that is left out: its clips in the pool, and which of them are tested with examples of which others."""
    name: str
    store: ClipStore
    unknown: list[int]                              # its classes in the pool
    clips: np.ndarray                               # clip numbers in the pool
    rounds: list[tuple[np.ndarray, np.ndarray]]     # places in `clips` of examples, and of clips that are tested

    @property
    def labels(self) -> np.ndarray:
        """Of `clips`, from 0."""
        return self.store.clips["label"][self.clips] - self.unknown[0]


def main(options: Options) -> int:
    torch.set_num_threads(1)
    store = ClipStore(options.pool)
    done = read_json(options.out) if options.out.exists() else {"rows": []}
    for name in options.sets:
        held = held_of(store, name, options.side)
        for kind, features, scale in kinds(options, held):
            add(done, options, kind, held, features, scale)
            write_json(options.out, done)
        for n in options.scratch:
            add_scratch(done, options, held, n)
            write_json(options.out, done | training_gains(done, options.networks[0]))
    return 0


def held_of(store: ClipStore, name: str, side: str) -> Held:
    """A set of the pool; ValueError for one that is not in it, or whose training side does not tell who moves."""
    unknown = [k for k, label in enumerate(store.classes) if label.startswith(f"{name}: ")]
    if not unknown:
        raise ValueError(f"sets = {name!r}: is not in the pool {store.path}")
    own = np.flatnonzero(np.isin(store.clips["label"], unknown))
    train, test = (np.intersect1d(own, part) for part in store.split("pool"))
    if side == "test":
        places = np.arange(len(train) + len(test))
        return Held(name, store, unknown, np.concatenate([train, test]), [tuple(np.split(places, [len(train)]))])

    # every second person against the others, or every second setup
    for column in ("subject", "setup"):
        values, which = np.unique(store.clips[column][train], return_inverse=True)
        if len(values) > 1:
            one, other = np.flatnonzero(which % 2 == 0), np.flatnonzero(which % 2)
            return Held(name, store, unknown, train, [(one, other), (other, one)])
    raise ValueError(f"sets = {name!r}: does not tell who moves in its training clips; leave it out of side=training")


# ---------------------------------------------------------------------------------------------------------------------
# Features
# ---------------------------------------------------------------------------------------------------------------------

def kinds(options: Options, held: Held) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(what the clips are told by, features (N, C) of the clips of a set, their scale (C,))."""
    for recipe in options.networks:
        words = training(options, held, recipe)
        p1_train.main(words)
        cfg = load_config(words)
        found, joints = general_features(cfg, held)
        yield recipe, *found["parts"]
        yield f"{recipe}, pooled by its head", *found["pooled"]
    yield "joints", joints, np.ones(joints.shape[1], np.float32)
    single = SINGLE.get(held.name, OTHERWISE)
    yield f"{single}.onnx", *features_of_file(single, held)


def training(options: Options, held: Held, recipe: str) -> list[str]:
    """The words of phase 1 that train a network on the rest of the pool."""
    unknown = ",".join(map(str, held.unknown))
    words = [f"recipe={recipe}", "data=any", f"data.store={options.pool}", f"data.unknown={unknown}",
             f"out={options.work}/without_{held.name}"]
    return [*words, *([f"train.epochs={options.epochs}"] if options.epochs else [])]


@torch.no_grad()
def general_features(cfg: Config, held: Held) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """({parts, pooled: features (N, C) and their scale (C,)}, joints (N, C) under the view) of the clips of a set.

    Mean and scale are those of clips that the network was trained on.
    """
    model, cfg, skeleton, _ = load_run(cfg.run)
    train, _, _ = splits(held.store, cfg)
    view = ClipView(held.store, cfg.view, rest=rest_of(held.store, train))
    some = torch.from_numpy(np.random.default_rng(0).permutation(train)[:1000])
    known = [view(part) for part in some.split(256)]
    joints = [view(part) for part in torch.from_numpy(held.clips).split(256)]

    # by parts, settled on clips that it was trained on; and as its head pools
    parts = Parts.of(model, skeleton, cfg.view.frames)
    parts.settle(network_outputs(model, False, known, parts.raw)[1])
    found = {}
    for name, pool in (("parts", parts), ("pooled", None)):
        of_known, features = (network_outputs(model, False, clips, pool)[1].numpy() for clips in (known, joints))
        found[name] = features, scale_of(of_known) if pool is None else np.ones(features.shape[1], np.float32)
    return found, torch.cat(joints)[:, 0, ::2].flatten(1).numpy()


def features_of_file(name: str, held: Held) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, C) and their scale (C,) of the clips with all of their joints, by a network that comes along."""
    path = NETWORKS / f"{name}.onnx"
    model = ExportedModel(path)
    own = ClipStore(held.store.path.parent / held.name)
    table = means(own.skeleton.joints, model.skeleton["joints"])
    place = {clip: i for i, clip in enumerate(own.clips["name"].tolist())}

    found = []
    for clip in held.store.clips["name"][held.clips].tolist():
        people = clip_joints(own, place[clip.partition("/")[2]])
        main = people[main_bodies(people)[:1]]
        found.append(model.answer(retargeted(main, table)).features)
    return np.stack(found), feature_scale(onnx.load(path), path)


# ---------------------------------------------------------------------------------------------------------------------
# Draws
# ---------------------------------------------------------------------------------------------------------------------

def draws(labels: np.ndarray, n: int, count: int) -> Iterator[np.ndarray]:
    """Places of n examples of each class (all: 0), `count` times; of all there is one draw."""
    for seed in range(count if n else 1):
        order = np.random.default_rng(seed).permutation(len(labels))
        yield np.sort(np.concatenate([order[labels[order] == k][:n or None] for k in np.unique(labels)]))


def add(done: dict, options: Options, kind: str, held: Held, features: np.ndarray,
        scale: np.ndarray) -> None:
    """The rows of one kind of features on a set, those that are not there yet."""
    labels = held.labels
    K = len(held.unknown)
    for n in options.shots:
        row = {"set": held.name, "kind": kind, "shots": n}
        if find(done, row):
            continue
        right = []
        for examples, tested in held.rounds:
            for drawn in draws(labels[examples], n, options.draws):
                places = examples[drawn]
                own = labels[places]
                order = np.unique(own, return_inverse=True)
                taught = teach(features[places], order[1], len(order[0]), 1.0, scale, people=people_of(held, places))
                named = order[0][taught.probabilities(features[tested]).argmax(1)]
                right.append(100 * float((named == labels[tested]).mean()))
        done["rows"].append(row | {
            "classes": K, "examples": int(len(own)), "tested": sum(len(tested) for _, tested in held.rounds),
            "draws": len(right), "top1": round(float(np.mean(right)), 2), "sd": round(float(np.std(right)), 2),
            **origin()})
        print(f"{held.name:10} {kind:40} {n or 'all':>4} {np.mean(right):5.1f} ± {np.std(right):.1f}", flush=True)


def people_of(held: Held, places: np.ndarray) -> np.ndarray | None:
    """Who moves in the examples at `places`; None if the data set does not tell."""
    people = held.store.clips["subject"][held.clips]
    return people[places] if len(np.unique(people)) > 1 else None


def find(done: dict, row: dict) -> dict | None:
    return next((r for r in done["rows"] if row.items() <= r.items()), None)


def origin() -> dict:
    return {"device": device_name(torch.device("cpu")), "commit": commit()}


def add_scratch(done: dict, options: Options, held: Held, n: int) -> None:
    """A lite_nano trained on the first draw alone, with as many steps as `just adopt` proposes."""
    row = {"set": held.name, "kind": SCRATCH, "shots": n}
    if find(done, row):
        return
    examples, tested = held.rounds[0]
    chosen = held.clips[examples[next(draws(held.labels[examples], n, 1))]]

    # the recipe's training, on these clips
    steps = math.ceil(len(chosen) / BATCH)
    epochs = options.epochs or math.ceil(STEPS / steps)
    words = training(replace(options, epochs=epochs), held, "lite_nano")
    cfg = load_config([*words, f"train.batch={BATCH}"])
    view = ClipView(held.store, cfg.view, rest=rest_of(held.store, chosen))
    model = build_model(cfg, held.store.skeleton, len(held.store.classes))
    with tempfile.TemporaryDirectory() as folder:
        fit(model, Batches(view, chosen, BATCH, True), classification_loss(cfg.train), cfg.train, Path(folder),
            asdict(cfg), plain=plain_batches(view, chosen, BATCH))

    logits, labels = predict(model, Batches(view, held.clips[tested], 256))
    own = logits[:, held.unknown].argmax(1) + held.unknown[0]
    top1 = 100 * float((own == labels).float().mean())
    done["rows"].append(row | {
        "classes": len(held.unknown), "examples": len(chosen), "tested": len(tested), "draws": 1,
        "top1": round(top1, 2), "sd": 0.0, **origin()})
    print(f"{held.name:10} {SCRATCH:40} {n or 'all':>4} {top1:5.1f}", flush=True)


def training_gains(done: dict, network: str) -> dict:
    """{training_gains: points of top-1 that training on all examples gains over teaching with them}, a mean of sets."""
    gains = []
    for row in done["rows"]:
        taught = find(done, {"set": row["set"], "kind": network, "shots": 0})
        if row["kind"] == SCRATCH and not row["shots"] and taught:
            gains.append(row["top1"] - taught["top1"])
    return {"training_gains": round(float(np.mean(gains)), 2)} if gains else {}


if __name__ == "__main__":
    run(main, Options)
