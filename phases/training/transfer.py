"""A network's start from another run (init=): what fits by name and shape, and by the names of joints and classes.

A run of another data set may have other joints, in another order, and other classes. A tensor that holds something per
joint takes the rows of the joints that both skeletons name alike; the last layer is taken only for the same classes.
"""
from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from last import load_checkpoint
from phases.common.files import damaged
from phases.training.networks import check_leakage
from phases.training.recipe import Config
from skeletons import Skeleton, spelled


@dataclass(frozen=True)
class OldRun:
    """What final.pt of another run holds; None where an old file does not say."""
    recipe: dict
    weights: dict[str, Tensor]
    skeleton: Skeleton | None
    classes: list[str] | None


def init_from(model: nn.Module, folder: Path, cfg: Config, skeleton: Skeleton, classes: list[str]) -> None:
    """Copy into `model` what fits of a finished run; print what was taken by joint and what was left.

    skeleton, classes: those of this run's clips. ValueError if less than half of the parameters fit.
    """
    old = read_old_run(folder)
    check_leakage(old.recipe, cfg, f"init: {folder}")
    theirs = old.skeleton or skeleton
    pairs = same_joints(theirs, skeleton)
    by_joint = spellings(theirs) != spellings(skeleton)
    other_classes = old.classes is not None and old.classes != list(classes)

    # by name: whole tensors of the same shape; with other joints, the rows of those that both have
    own = model.state_dict()
    axes = joint_axes(model)
    taken = {}
    placed = []
    for name, tensor in own.items():
        if name not in old.weights or (other_classes and name.startswith("head.classifier.")):
            continue
        found = old.weights[name] if old.weights[name].shape == tensor.shape else None
        if by_joint and name in axes:
            found = by_names(tensor, old.weights[name], axes[name], pairs)
            placed += [name] * (found is not None)
        if found is not None:
            taken[name] = found

    # less than half: another network
    left = [name for name in own if name not in taken]
    if 2 * sum(v.numel() for v in taken.values()) < sum(v.numel() for v in own.values()):
        raise ValueError(f"init: {folder} holds another network: most tensors do not fit, such as {left[0]}; "
                         "is model.variant the same?")
    model.load_state_dict(taken, strict=False)

    joints = f"; {len(placed)} of them by the names of {len(pairs)} of {skeleton.num_joints} joints" if placed else ""
    print(f"init: {len(taken)} of {len(own)} tensors taken from {folder}{joints}; "
          f"left as they were: {', '.join(left) or 'none'}", file=sys.stderr)


def read_old_run(folder: Path) -> OldRun:
    """The final.pt of a run, perhaps of phase 3 or of another data set; ValueError if it is damaged."""
    path = folder / "final.pt"
    state = load_checkpoint(path)
    try:
        run = OldRun(json.loads(state.get("recipe", "{}")), dict(state.get("model", {})),
                     Skeleton.from_dict(json.loads(state["skeleton"])) if "skeleton" in state else None,
                     list(state["classes"]) if "classes" in state else None)
        has_table = isinstance(run.recipe.get("data", {}), dict)
        if not has_table or not all(isinstance(tensor, Tensor) for tensor in run.weights.values()):
            raise TypeError("its recipe is no table, or its weights are no tensors")
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
