"""Trained networks as teachers: found by name, checked against the student's clips and view, frozen."""
from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from last import causal, classify
from phases.training.clip_store import ClipStore
from phases.training.networks import check_leakage, find_runs, load_run
from phases.training.recipe import Config
from phases.training.run_folder import read_scores
from phases.training.settings import SEEN
from skeletons import Skeleton


class Teacher:
    """Frozen networks. The target (B, K) is the mean over the networks of softmax(logits / tau). The stage maps
    (N, C, T, V) are those of the first network, for the N bodies present, in order: an absent body costs no time.
    """

    def __init__(self, nets: list[nn.Module], tau: float):
        self.nets = [net.eval().requires_grad_(False) for net in nets]
        self.tau = tau

    def __call__(self, joints: Tensor, is_causal: bool = False) -> tuple[Tensor, list[Tensor]]:  # b m t v 3
        probabilities = []
        stage_maps = []

        # the mean of all, the maps of the first
        with torch.inference_mode():
            for net in self.nets:
                with causal(net, is_causal):
                    logits, maps = classify(net, joints, drop_absent=True)
                probabilities.append((logits.float() / self.tau).softmax(1))                # b k
                stage_maps = stage_maps or maps
            target = torch.stack(probabilities).mean(0)                                     # b k

        # autograd cannot save an inference tensor for the backward pass; a clone is an ordinary tensor
        return target.clone(), [m.clone() for m in stage_maps]


# ---------------------------------------------------------------------------------------------------------------------
# Teachers by name
# ---------------------------------------------------------------------------------------------------------------------

def named_teachers(cfg: Config) -> list[tuple[str, int]]:
    """(recipe or folder, seed) of each word of distil.teacher: recipe, recipe:seed or folder, separated by commas."""
    named = []
    for word in filter(None, map(str.strip, cfg.distil.teacher.split(","))):
        recipe, _, seed = word.rpartition(":")
        named.append((recipe, int(seed)) if recipe and seed.isdecimal() else (word, 0))
    return named


def load_teachers(cfg: Config, store: ClipStore, device: torch.device) -> tuple[list[nn.Module], list[Path]]:
    """The networks of distil.teacher and their run folders; ValueError if one does not fit the clips or the view."""
    # a recipe of LAST-Base may be four runs
    named = named_teachers(cfg)
    if not named:
        raise ValueError("distil.teacher is empty: give recipes that were trained on this data set, or run folders, "
                         "separated by commas")
    folders = []
    for name, seed in named:
        folders += find_runs(name, cfg, seed)

    # each of them has to know the same bodies and classes, and no test clip
    nets = []
    for folder in folders:
        net, theirs, skeleton, classes = load_run(folder, device)
        where = f"distil.teacher: {folder}"
        check_same_body(skeleton, cfg, store, where)
        check_same_classes(theirs, classes, cfg, store, where)
        check_leakage(dataclasses.asdict(theirs), cfg, where)
        check_test_side(folder, theirs, cfg, store, where)
        check_same_view(theirs, cfg, where)
        nets.append(net)
    return nets, folders


def fingerprints(folders: list[Path]) -> list[str]:
    """The last three parts of each teacher's folder, wherever that is, and a short hash of its weights."""
    found = []
    for folder in folders:
        weights = hashlib.sha256((folder / "final.pt").read_bytes()).hexdigest()[:12]
        found.append("/".join([*folder.resolve().parts[-3:], weights]))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Teachers that do not fit
# ---------------------------------------------------------------------------------------------------------------------

def check_same_body(skeleton: Skeleton, cfg: Config, store: ClipStore, where: str) -> None:
    if (skeleton.joints, skeleton.parents) != (store.skeleton.joints, store.skeleton.parents):
        raise ValueError(f"{where} has the skeleton {skeleton.name!r}, "
                         f"the store {cfg.store} has {store.skeleton.name!r}")


def check_same_classes(theirs: Config, classes: list[str], cfg: Config, store: ClipStore, where: str) -> None:
    if classes == store.classes and theirs.data.num_classes == cfg.data.num_classes:
        return

    # the first class that differs, else the numbers of classes
    difference = f"{theirs.data.num_classes} classes there, {cfg.data.num_classes} here"
    for k, (there, here) in enumerate(zip(classes, store.classes, strict=False)):
        if there != here:
            difference = f"class {k} is {there!r} there, {here!r} here"
            break
    raise ValueError(f"{where} was trained on other classes than {cfg.store} has: {difference}")


def check_test_side(folder: Path, theirs: Config, cfg: Config, store: ClipStore, where: str) -> None:
    """ValueError if the teacher's scores lack a test clip of this run: the teacher may have trained on that clip."""
    if theirs.data.name != cfg.data.name or not (folder / "scores.npz").exists():
        return

    # every clip on the test side here must be one of those it was tested on
    tested = set(read_scores(folder)[0])
    _, test_clips = store.split(cfg.data.split)
    ours = {str(name) for name in store.clips["name"][test_clips]}
    missing = sorted(ours - tested)
    if missing:
        raise ValueError(f"{where} was not tested on {missing[0]} and {len(missing) - 1} more test clips of this run, "
                         f"and may have trained on them: was {cfg.store} made anew?")


def check_same_view(theirs: Config, cfg: Config, where: str) -> None:
    """ValueError if the teacher was trained on another view, or never in the causal mode that it would run in."""
    if cfg.train.causal and cfg.distil.shared_causal and not theirs.train.causal:
        raise ValueError(f"{where} never saw a causal batch (its train.causal is 0), but train.causal = "
                         f"{cfg.train.causal} asks it for some: give distil.shared_causal=false, or a teacher like B12")

    # settings of the view that change what a network sees at test time
    for key in SEEN:
        there = getattr(theirs.view, key)
        here = getattr(cfg.view, key)
        if there != here:
            raise ValueError(f"{where} was trained with view.{key} = {there!r}, the student has {here!r}: "
                             "both must see the same batch")
