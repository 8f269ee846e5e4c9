"""A network's start from another one (init=): what fits by name and shape, and by the names of joints and classes.

A network of another data set may have other joints, in another order, and other classes. A tensor that holds something
per joint takes the rows of the joints that both skeletons name alike; the embedding of a joint that the other skeleton
lacks is that of the nearest joint. LAST-Lite's masks and gates of another number of frames are stretched. The last
layer is taken only for the same classes.
"""
from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from last import load_checkpoint
from phases.common.files import NETWORKS, damaged
from phases.common.recipes import read_data_set, recipe_files
from phases.training.networks import check_leakage, checkpoint_of
from phases.training.recipe import Config
from skeletons import MEANS, Skeleton, means, spelled

EMBEDDING = "embedding"  # of joints: a parameter of this name; others are graphs, where two of a kind would count twice


@dataclass(frozen=True)
class OldRun:
    """What a checkpoint of another run holds; None where an old file does not say."""
    recipe: dict
    weights: dict[str, Tensor]
    skeleton: Skeleton | None
    classes: list[str] | None

    @property
    def taught(self) -> list[str]:
        """The classes that it has learned: those of data.unknown were kept from it."""
        unknown = self.recipe.get("data", {}).get("unknown", ())
        return [label for k, label in enumerate(self.classes or ()) if k not in unknown]


def init_from(model: nn.Module, start: Path, cfg: Config, skeleton: Skeleton, classes: list[str]) -> None:
    """Copy into `model` what fits of a finished run; print what was taken by joint and what was left.

    start: its folder, or a checkpoint. skeleton, classes: those of this run's clips. ValueError if less than half of
    the parameters fit.
    """
    old = read_old_run(start)
    check_leakage(old.recipe, cfg, f"init: {start}")
    check_pool(old.taught, cfg, f"init: {start}")
    theirs = old.skeleton or skeleton
    pairs = same_joints(theirs, skeleton)
    rows = stand_ins(theirs, skeleton)
    by_joint = spellings(theirs) != spellings(skeleton)
    other_classes = old.classes is not None and old.classes != list(classes)

    # by name: whole tensors of the same shape; with other joints, the rows of those that both have
    own = model.state_dict()
    axes = joint_axes(model)
    taken = {}
    placed = []
    stretched = 0
    for name, tensor in own.items():
        if name not in old.weights or (other_classes and name.startswith("head.classifier.")):
            continue
        found = old.weights[name] if old.weights[name].shape == tensor.shape else None
        if by_joint and name in axes:
            if name.endswith(EMBEDDING):
                found = by_rows(tensor, old.weights[name], axes[name][0], rows)
            else:
                found = by_names(tensor, old.weights[name], axes[name], pairs)
            placed += [name] * (found is not None)
        elif found is None:
            found = over_time(name, tensor, old.weights[name])
            stretched += found is not None
        if found is not None:
            taken[name] = found

    # less than half: another network
    left = [name for name in own if name not in taken]
    if 2 * sum(v.numel() for v in taken.values()) < sum(v.numel() for v in own.values()):
        raise ValueError(f"init: {start} holds another network: most tensors do not fit, such as {left[0]}; "
                         f"is model.variant the same?{alike(cfg)}")
    model.load_state_dict(taken, strict=False)

    # which joints had one of their own name, which another's
    joints = f"; {len(placed)} of them by the names of {len(pairs)} of {skeleton.num_joints} joints" if placed else ""
    others = sum(map(bool, rows)) - len(pairs)
    if others and any(name.endswith(EMBEDDING) for name in placed):
        joints += f" and what is nearest to {others} others"
    frames = f"; {stretched} stretched to {cfg.view.frames} frames" if stretched else ""
    print(f"init: {len(taken)} of {len(own)} tensors taken from {start}{joints}{frames}; "
          f"left as they were: {', '.join(left) or 'none'}", file=sys.stderr)


def alike(cfg: Config) -> str:
    """The end of a message: networks that come along and are of the recipe's kind."""
    found = []
    for path in sorted(NETWORKS.glob("*.pt")):
        model = read_old_run(path).recipe.get("model", {})
        if (model.get("name"), model.get("variant")) == (cfg.model.name, cfg.model.variant):
            found.append(path.stem)
    return f" (of its kind come along: {', '.join(found)})" if found else ""


def check_pool(classes: list[str], cfg: Config, where: str) -> None:
    """ValueError if a network of many data sets may have seen clips that are held out here.

    Its classes are named "data set: class", and it has learned from the training side of each set's own split.
    """
    name = cfg.data.name
    if cfg.data.split == "all" or not any(known.startswith(f"{name}: ") for known in classes):
        return
    split = read_data_set(name)["data"].get("split") if name in recipe_files() else None
    if cfg.data.split != split or cfg.data.validate:
        held = "data.validate" if cfg.data.split == split else f"data.split = {cfg.data.split!r}"
        raise ValueError(f"{where} has learned from {name}'s training clips of its split {split!r}, this run has "
                         f"{held}: it may have seen clips that are held out here")


def read_old_run(start: Path) -> OldRun:
    """A checkpoint, or final.pt of a run, perhaps of phase 3 or another data set; ValueError if it is damaged."""
    path = checkpoint_of(start)
    state = load_checkpoint(path)
    try:
        run = OldRun(json.loads(state.get("recipe", "{}")), dict(state.get("model", {})),
                     Skeleton.from_dict(json.loads(state["skeleton"])) if "skeleton" in state else None,
                     list(state["classes"]) if "classes" in state else None)
        has_table = isinstance(run.recipe.get("data", {}), dict)
        if not has_table or not all(isinstance(tensor, Tensor) for tensor in run.weights.values()):
            raise TypeError("its recipe is no table, or its weights are no tensors")
        if not all(isinstance(label, str) for label in run.taught):
            raise TypeError("a class has no name")
    except (ValueError, TypeError, AttributeError) as e:
        raise damaged(path, e) from None
    return run


def joint_axes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The axes over joints of each tensor that has some, as its module says (JOINT_AXES)."""
    found = {}
    for module_name, module in model.named_modules():
        for key, axes in getattr(module, "JOINT_AXES", {}).items():
            found[f"{module_name}.{key}".lstrip(".")] = axes
    return found


def spellings(skeleton: Skeleton) -> list[str]:
    return [spelled(joint) for joint in skeleton.joints]


def same_joints(theirs: Skeleton, ours: Skeleton) -> list[tuple[int, int]]:
    """(their number, our number) of each joint that both name alike."""
    place = {joint: v for v, joint in enumerate(spellings(theirs))}
    return [(place[joint], v) for v, joint in enumerate(spellings(ours)) if joint in place]


def by_names(ours: Tensor, theirs: Tensor, axes: tuple[int, ...], pairs: list[tuple[int, int]]) -> Tensor | None:
    """`ours` with the values of `theirs` wherever each axis in `axes` is at a joint of `pairs`; None if none fits."""
    def other_axes(x: Tensor) -> list[int]:
        return [n for axis, n in enumerate(x.shape) if axis not in axes]

    if other_axes(ours) != other_axes(theirs) or not pairs:
        return None

    # along an axis over joints the joints of `pairs`, along any other everything
    source = [torch.arange(n) for n in ours.shape]
    target = [torch.arange(n) for n in ours.shape]
    for axis in axes:
        source[axis], target[axis] = (torch.tensor(numbers) for numbers in zip(*pairs, strict=True))

    found = ours.clone()
    found[torch.meshgrid(*target, indexing="ij")] = theirs[torch.meshgrid(*source, indexing="ij")].to(ours)
    return found


def over_time(name: str, ours: Tensor, theirs: Tensor) -> Tensor | None:
    """A stage's DCT mask (C, K) or frame gate (C, T) for as many frames as ours has; None for any other tensor.

    Bin k has k half-waves a clip at any T; theirs of the highest frequency stands for higher ones. A gate is stretched.
    """
    kind = name.rpartition(".")[2]
    if kind not in ("mask", "gate") or ours.ndim != 2 or theirs.ndim != 2 or len(ours) != len(theirs):
        return None
    if kind == "mask":
        return theirs[:, torch.arange(ours.shape[1]).clamp(max=theirs.shape[1] - 1)].to(ours)
    return F.interpolate(theirs[None], size=ours.shape[1], mode="linear")[0].to(ours)


# ---------------------------------------------------------------------------------------------------------------------
# Embeddings of joints that only one skeleton has
# ---------------------------------------------------------------------------------------------------------------------

def stand_ins(theirs: Skeleton, ours: Skeleton) -> list[list[int]]:
    """For each of our joints those of theirs whose mean stands for it; [] if the bodies have nothing in common."""
    number = {joint: v for v, joint in enumerate(spellings(theirs))}
    found = [stand_in(joint, number) for joint in spellings(ours)]

    # what has no relative takes those of the nearest joint that has one, rather of its parent
    known = [v for v, joints in enumerate(found) if joints]
    for v, parent in ours.bones:
        if v not in known and known:
            *_, nearest = min((ours.hops[v, u], u != parent, u) for u in known)
            found[v] = found[nearest]
    return found


def stand_in(joint: str, number: dict[str, int]) -> list[int]:
    """The joints, of those in `number`, that stand for a joint; [] if none does, names spelled alike.

    By retargeting's MEANS: its name; another name of its place; what is made from it alone, as a neck from a shoulder
    centre; what it is the mean of.
    """
    if joint in number:
        return [number[joint]]

    # one that is at its place, or is made from it
    for other, v in number.items():
        if joint in MEANS and MEANS.get(other) == MEANS[joint]:
            return [v]
    for other, v in number.items():
        if (joint,) in MEANS.get(other, ()):
            return [v]
    return (means(list(number), [joint]) or [[]])[0]


def by_rows(ours: Tensor, theirs: Tensor, axis: int, rows: list[list[int]]) -> Tensor | None:
    """`ours` with, at each place v of the axis, the mean of `theirs` at places rows[v], where it has any."""
    if ours.select(axis, 0).shape != theirs.select(axis, 0).shape or not any(rows):
        return None
    found = ours.clone()
    for v, places in enumerate(rows):
        if places:
            found.select(axis, v).copy_(theirs.index_select(axis, torch.tensor(places)).mean(axis))
    return found
