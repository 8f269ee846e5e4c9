"""Networks by recipe, and finished runs by name."""
from __future__ import annotations

import dataclasses
import difflib
import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from last import MODELS, STREAMS, Network, load_checkpoint, rank_of
from phases.common.command import build
from phases.common.files import NETWORKS, damaged
from phases.common.recipes import recipe_files, recorded, shipped
from phases.training.clip_store import ClipStore
from phases.training.recipe import Config
from skeletons import SKELETONS, Skeleton

# ---------------------------------------------------------------------------------------------------------------------
# Networks by recipe
# ---------------------------------------------------------------------------------------------------------------------

def build_model(cfg: Config, skeleton: Skeleton, num_classes: int) -> nn.Module:
    """The network of a recipe; the seed determines its initial weights. ValueError if its width does not divide."""
    width = cfg.model.width
    if cfg.model.name == "base" and width % 4:
        raise ValueError(f"model.width = {width}: is divided among four groups: give {4 * max(2, round(width / 4))}")
    torch.manual_seed(cfg.seed)
    return MODELS[cfg.model.name](cfg.model, skeleton, num_classes, cfg.view.frames)


def describe(cfg: Config, skeleton: Skeleton | None = None) -> dict:
    """What `just info` prints: parameters, and multiply-adds of one clip with one body."""
    if skeleton is None:
        skeleton = SKELETONS[cfg.data.skeleton] if cfg.data.skeleton else ClipStore(cfg.store).skeleton
    model = build_model(cfg, skeleton, cfg.data.num_classes).eval()

    # count one clip; FlopCounterMode does not see fused attention kernels
    clip = torch.zeros(1, 1, cfg.view.frames, skeleton.num_joints, 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(clip)

    streams = sum(len(trunk.streams) for trunk in model.modules() if isinstance(trunk, Network))  # a pair has two
    return {"recipe": cfg.recipe, "model": cfg.model.name, "params": sum(p.numel() for p in model.parameters()),
            "macs": counter.get_total_flops() // 2, "streams": streams, "T": cfg.view.frames,
            "V": skeleton.num_joints, "classes": cfg.data.num_classes}


# ---------------------------------------------------------------------------------------------------------------------
# Runs by name
# ---------------------------------------------------------------------------------------------------------------------

def named_folders(name: str, cfg: Config, seed: int = 0) -> list[Path]:
    """Folders of the runs that a name may mean, trained or not.

    A name with a slash is a folder, or its final.pt. Any other is a recipe, trained on the data set of `cfg`: its run,
    and those that a LAST-Base keeps of its other three streams.
    """
    if "/" in name:
        return [Path(name.removesuffix("/final.pt"))]
    recipes = [name, *(f"{name}-{stream}" for stream in STREAMS[1:])]
    return [dataclasses.replace(cfg, recipe=recipe, seed=seed).run for recipe in recipes]


def find_runs(name: str, cfg: Config, seed: int = 0) -> list[Path]:
    """Folders of finished runs: the given folder, or a recipe's run on the same data set.

    A LAST-Base recipe gives all four streams if all are trained, else its joint stream.
    """
    folder, *others = named_folders(name, cfg, seed)
    if not (folder / "final.pt").is_file():
        close = [] if "/" in name else difflib.get_close_matches(name, recipe_files(), 1)
        hint = f", did you mean {close[0]!r}?" if close and close[0] != name else ""
        raise ValueError(f"{name!r}: no finished run in {folder} (it lacks final.pt){hint}: train it first, "
                         "or give the folder of a finished run")

    # the other streams, all or none
    missing = [other for other in others if not (other / "final.pt").is_file()]
    if not missing:
        return [folder, *others]
    if len(missing) < len(others) and rank_of()[0] == 0:
        print(f"{name!r}: takes the joint stream only, because {len(missing)} of the other three are not trained yet",
              file=sys.stderr)
    return [folder]


def start_of(cfg: Config) -> Path:
    """What init= means: the checkpoint of a network that comes along, a file, or the folder of a finished run.

    A name means the same start on every machine: a network that comes along wins over a recipe's run of that name.
    """
    name = cfg.init
    if shipped(name) or name.endswith(".pt"):
        return shipped(name) or Path(name)

    # a bare name may be misspelt
    folder = named_folders(name, cfg, cfg.seed)[0]
    if "/" not in name and not (folder / "final.pt").is_file():
        known = sorted(path.stem for path in NETWORKS.glob("*.pt"))
        close = difflib.get_close_matches(name, [*known, *recipe_files()], 1)
        hint = f", did you mean {close[0]!r}?" if close and close[0] != name else ""
        raise ValueError(f"init = {name!r}: no network that comes along ({', '.join(known)}), and no finished run in "
                         f"{folder} (it lacks final.pt){hint}")
    return find_runs(name, cfg, cfg.seed)[0]


def checkpoint_of(place: Path) -> Path:
    """A checkpoint itself, or that of a finished run by its folder."""
    return place if place.suffix == ".pt" else place / "final.pt"


def load_run(place: Path, device: torch.device | str = "cpu") -> tuple[nn.Module, Config, Skeleton, list[str]]:
    """The network of a finished run or a checkpoint in eval mode, its recipe, skeleton and class names."""
    state = load_checkpoint(checkpoint_of(place), device)
    weights = state.get("model")
    if isinstance(weights, dict) and weights and not any(k.startswith("head.classifier") for k in weights):
        raise ValueError(f"{place} holds an encoder of phase 3, which cannot classify: give it as init=, "
                         "or take a run of phase 1 or 2")

    try:
        cfg = build(Config, recorded(json.loads(state["recipe"])))
        skeleton = Skeleton.from_dict(json.loads(state["skeleton"]))
        model = build_model(cfg, skeleton, cfg.data.num_classes)
        model.load_state_dict(state["model"])
        return model.to(device).eval(), cfg, skeleton, list(state["classes"])
    except Exception as e:  # a changed file can hold anything in place of a recipe, a skeleton and weights
        raise damaged(checkpoint_of(place), e) from None


def check_leakage(theirs: dict, cfg: Config, where: str) -> None:
    """ValueError if a run with the resolved recipe `theirs` may have seen clips that `cfg` tests or validates on.

    NTU RGB+D 120 contains the 60, and its training subjects contain theirs.
    """
    data = theirs.get("data", {})
    ntu = {"ntu60": "ntu", "ntu120": "ntu"}
    alike = ntu.get(data.get("name"), data.get("name")) == ntu.get(cfg.data.name, cfg.data.name)

    for key, ours in (("split", cfg.data.split), ("validate", cfg.data.validate)):
        if alike and ours and ours != "all" and data.get(key) != ours:
            raise ValueError(f"{where} was trained with data.{key} = {data.get(key)!r}, this run has {ours!r}: "
                             "it may have seen clips that are held out here")
