"""A network's start from another run (init=): what fits by name and shape, and by the names of joints and classes.

A run of another data set may have other joints, in another order, and other classes. A tensor that holds something per
joint takes the rows of the joints that both skeletons name alike; the last layer is taken only for the same classes.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from last import damaged, load_checkpoint
from phases.training.networks import check_leakage
from phases.training.recipe import Config
from skeletons import Skeleton, spelled


def init_from(model: nn.Module, folder: Path, cfg: Config, skeleton: Skeleton, classes: list[str]) -> None:
    """Copy into `model` what fits of a finished run; print what was taken by joint and what was left.

    skeleton, classes: those of this run's clips. ValueError if less than half of the parameters fit.
    """
    state, own, axes = load_checkpoint(folder / "final.pt"), model.state_dict(), joint_axes(model)
    try:
        recipe, old = json.loads(state.get("recipe", "{}")), dict(state.get("model", {}))
        theirs = Skeleton.from_dict(json.loads(state["skeleton"])) if "skeleton" in state else skeleton
        other_classes = list(state.get("classes", classes)) != list(classes)
        if not isinstance(recipe.get("data", {}), dict) or not all(isinstance(v, Tensor) for v in old.values()):
            raise TypeError("its recipe is no table, or its weights are no tensors")
    except (ValueError, TypeError, AttributeError) as e:
        raise damaged(folder / "final.pt", e) from None
    check_leakage(recipe, cfg, f"init: {folder}")
    pairs, by_joint = same_joints(theirs, skeleton), spellings(theirs) != spellings(skeleton)
    taken, placed = {}, []
    for name, tensor in own.items():
        if name not in old or other_classes and name.startswith("head.linear."):
            continue
        if by_joint and name in axes:
            found = by_names(tensor, old[name], axes[name], pairs)
            placed += [name] * (found is not None)
        else:
            found = old[name] if old[name].shape == tensor.shape else None
        if found is not None:
            taken[name] = found
    left = [name for name in own if name not in taken]
    if 2 * sum(v.numel() for v in taken.values()) < sum(v.numel() for v in own.values()):
        raise ValueError(f"init: {folder} holds another network: most tensors do not fit, such as {left[0]}; "
                         "is model.variant the same?")
    model.load_state_dict(taken, strict=False)
    joints = f"; {len(placed)} of them by the names of {len(pairs)} of {skeleton.num_joints} joints" if placed else ""
    print(f"init: {len(taken)} of {len(own)} tensors taken from {folder}{joints}; "
          f"left as they were: {', '.join(left) or 'none'}", file=sys.stderr)


def joint_axes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The axes over joints of each tensor that has some, as its module says (JOINT_AXES)."""
    return {f"{name}.{key}".lstrip("."): axes for name, module in model.named_modules()
            for key, axes in getattr(module, "JOINT_AXES", {}).items()}


def spellings(skeleton: Skeleton) -> list[str]:
    return [spelled(joint) for joint in skeleton.joints]


def same_joints(theirs: Skeleton, ours: Skeleton) -> list[tuple[int, int]]:
    """(their number, our number) of each joint that both name alike."""
    at = {joint: v for v, joint in enumerate(spellings(theirs))}
    return [(at[joint], v) for v, joint in enumerate(spellings(ours)) if joint in at]


def by_names(ours: Tensor, theirs: Tensor, axes: tuple[int, ...], pairs: list[tuple[int, int]]) -> Tensor | None:
    """`ours` with the values of `theirs` wherever each axis in `axes` is at a joint of `pairs`; None if none fits."""
    rest = [[n for axis, n in enumerate(x.shape) if axis not in axes] for x in (ours, theirs)]
    if rest[0] != rest[1] or not pairs:
        return None
    source, target = [torch.arange(n) for n in ours.shape], [torch.arange(n) for n in ours.shape]
    for axis in axes:
        source[axis], target[axis] = (torch.tensor(numbers) for numbers in zip(*pairs, strict=True))
    found = ours.clone()
    found[torch.meshgrid(*target, indexing="ij")] = theirs[torch.meshgrid(*source, indexing="ij")].to(ours)
    return found
