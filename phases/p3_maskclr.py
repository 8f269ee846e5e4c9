"""Phase 3: pretrain LAST-Lite's encoder without labels (MaskCLR): rebuild hidden joints, match two views of a clip.

    just phase3 recipe=maskclr_small                            then: just phase2 recipe=L12
    just phase3 recipe=maskclr_small data=nw_ucla force=true    although phase 2 reached 88 % there, or has not run

    loss = MSE(decoder(map), joints) + 0.5 · InfoNCE(view 1, view 2)

The MSE covers hidden joints that were recorded, in every 4th frame (the encoder's stride). Whole body regions, in
random order, are hidden in all frames until the share pretrain.mask of the joints is reached; the last region is hidden
in part. A learned token replaces hidden joints before bones and velocities are derived, so no stream reveals them. Each
view of a clip has its own augmentation and mask. Only the clip's centre, heading and scale still depend on hidden
joints: a few numbers, the same for every joint. The plan's gate: this phase is for a student that phase 2 (the recipe
pretrain.after) leaves below 88 %.

In:  the clip store of phase 0, training side.
Out: runs/<recipe>/<dataset>-<split>/seed<k>/: recipe.json, metrics.jsonl, last.pt (the whole state of the training),
     result.json (the losses of the last epoch), and final.pt: the encoder, for init=<recipe or folder> of phases 1 and
     2 and of `just probe`.
After an interruption the same command continues. Exit codes: 0 done (or already done), 1 a process died
(gpus=N), 2 bad input or the gate, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from last import (
    bodies_present,
    fit,
    hashed_uniform,
    of_all_processes,
    rank_of,
    refresh_batchnorm,
    save_checkpoint,
    share_of,
)
from phases.common.files import read_json, read_log
from phases.common.settings_cli import cli
from phases.training.clip_store import ClipStore, open_store, splits
from phases.training.networks import build_model, find_runs
from phases.training.processes import start_processes
from phases.training.recipe import Config, Pretrain, load_config
from phases.training.run_folder import already_done, announce, check_phase, commit, device_name, identity, write_result
from phases.training.transfer import init_from
from phases.training.view import Batches, ClipView, plain_batches
from skeletons import Skeleton


def region_table(skeleton: Skeleton, device: torch.device | str = "cpu") -> tuple[int, Tensor, Tensor]:
    """Number of regions; (V,) each joint's region; (V,) its mate: the other side's joint of this region, or itself."""
    region, mates = torch.zeros(skeleton.num_joints, dtype=torch.long), torch.arange(skeleton.num_joints)
    for r, joints in enumerate(skeleton.regions.values()):
        region[list(joints)] = r
    for a, b in skeleton.pairs:
        if region[a] == region[b]:  # for example the eyes of coco17, in the region of the torso
            mates[a], mates[b] = b, a
    return len(skeleton.regions), region.to(device), mates.to(device)


def region_masks(table: tuple[int, Tensor, Tensor], share: float, *keys: int | Tensor) -> Tensor:
    """Which joints are hidden, (N, V) bool with keys (N,): whole regions in random order up to `share` of the joints.

    table: of region_table. The last region is hidden in part; as mates are hidden together, the count may differ from
    the share by one joint.
    """
    regions, region, mates = table
    V, device = len(region), region.device
    keys = [k[:, None] if isinstance(k, Tensor) else k for k in keys]
    order = hashed_uniform(*keys, 300 + torch.arange(regions, device=device))  # n r
    order = order.argsort(1).argsort(1)
    within = hashed_uniform(*keys, 400 + torch.arange(V, device=device))                    # n v, in [0, 1)
    within = within.maximum(within[:, mates])  # mates tie: their ranks are adjacent
    rank = (order[:, region] + within).argsort(1).argsort(1)                                # n v
    count = round(share * V)
    masks = rank < count
    return masks & masks[:, mates] if count > share * V else masks | masks[:, mates]


class Pairs(Batches):
    """Batches of two views of each clip: joints (2B, M, T, V, 3), all first views first, and hidden (2B, M, V) bool."""

    def __init__(self, view: ClipView, index, size: int, seed: int, share: float):
        super().__init__(view, index, size, training=True, seed=seed)
        self.share, self.table = share, region_table(view.skeleton, view.device)

    def __call__(self, epoch: int = 0, start: int = 0) -> Iterator[dict[str, Tensor]]:
        for batch in super().__call__(epoch, start):
            index, M = batch["index"], batch["joints"].shape[1]
            other = self.view(index, True, self.seed + 2**31, epoch)  # the second view has its own seed
            masks = []
            for number in range(2 * M):  # one mask per view and body
                masks.append(region_masks(self.table, self.share, self.seed, epoch, index, number))
            hidden = rearrange(torch.stack(masks), "(s m) b v -> (s b) m v", m=M)
            yield {**batch, "joints": torch.cat([batch["joints"], other]), "hidden": hidden}


class MaskCLR(nn.Module):
    """Encoder, token, decoder and projector; only the encoder is kept at the end.

    decoder: linear, features of a frame averaged over joints -> all joints (C -> V 3). projector: linear, pooled
    features of a clip averaged over its bodies -> embedding (C -> P).
    """

    def __init__(self, encoder: nn.Module, width: int, joints: int, projection: int):
        super().__init__()
        encoder.head.norm, encoder.head.linear = nn.Identity(), nn.Identity()  # no classifier in this phase
        self.encoder = encoder
        self.stride = math.prod(block.stride for stage in encoder.stages for block in stage.blocks)
        self.token = nn.Parameter(0.02 * torch.randn(3))
        self.decoder = nn.Linear(width, joints * 3)
        self.projector = nn.Linear(width, projection)

    def forward(self, joints: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rebuilt joints (N, T / stride, V, 3) of the N bodies present, and embeddings (B, P).

        joints (B, M, T, V, 3), hidden (B, M, V).
        """
        present = bodies_present(joints)                                                    # b m
        chosen = present.flatten().nonzero().squeeze(1)                                     # n
        x = joints.flatten(0, 1)[chosen]                                                    # n t v 3
        if hidden is not None:
            x = torch.where(hidden.flatten(0, 1)[chosen][:, None, :, None], self.token.to(x.dtype), x)
        features = self.encoder.features(x)[-1]                                             # n c t/stride v
        frames = rearrange(features.mean(3), "n c t -> n t c")
        rebuilt = rearrange(self.decoder(frames), "n t (v c) -> n t v c", c=3)
        pooled = self.encoder.head.pool(features)                                           # n c
        pooled = pooled.new_zeros(present.numel(), pooled.shape[1]).index_copy(0, chosen, pooled)
        pooled = rearrange(pooled, "(b m) c -> b m c", b=len(joints)).sum(1) / present.sum(1, keepdim=True)
        return rebuilt, self.projector(pooled)


def pretrain_loss(cfg: Pretrain, stride: int) -> Callable:
    """loss_fn of phase 3, for batches of Pairs: MSE at hidden, recorded joints + cfg.contrast · InfoNCE of the views.

    Metric `found`: the share of clips with their own second view as the nearest one.
    """
    def loss_fn(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        joints, hidden = batch["joints"], batch["hidden"]
        rebuilt, embedding = model(joints, hidden)
        chosen = bodies_present(joints).flatten().nonzero().squeeze(1)                      # n
        target = joints.flatten(0, 1)[chosen][:, ::stride]                                  # n t/stride v 3
        recorded = (target != 0).any(-1)                                                    # n t/stride v
        asked = hidden.flatten(0, 1)[chosen][:, None] & recorded
        error = ((rebuilt.float() - target).square().mean(-1) * asked).sum() / asked.sum().clamp(min=1)
        rebuild = share_of(asked.sum(), batch) * error
        first, second = embedding.float().chunk(2)
        a, rows = of_all_processes(first, batch)
        b, _ = of_all_processes(second, batch)
        contrast = info_nce(a, b, cfg.temperature, rows)
        nearest = nn.functional.cosine_similarity(a[rows, None], b[None], dim=2).argmax(1)
        found = (nearest == rows).float().mean()
        return rebuild + cfg.contrast * contrast, {"rebuild": rebuild, "contrast": contrast, "found": found}
    return loss_fn


def read_force(argv: list[str]) -> tuple[bool, list[str]]:
    """The value of force=, false by default, and the other arguments."""
    force, rest = "false", []
    for argument in argv:
        key, _, value = argument.partition("=")
        if key != "force":
            rest.append(argument)
            continue
        force = value.lower()
        if force not in ("true", "false"):
            raise ValueError(f"force = {force!r}: give true or false")
    return force == "true", rest


def check_recipe(cfg: Config, skeleton: Skeleton) -> None:
    if cfg.model.name != "lite":
        raise ValueError(f"model.name = {cfg.model.name!r}: phase 3 pretrains LAST-Lite; give model.name=lite")
    if cfg.view.mix:
        raise ValueError(f"view.mix = {cfg.view.mix}: phase 3 compares views of one clip, a blended clip is of two; "
                         "give view.mix=0")
    joints = round(cfg.pretrain.mask * skeleton.num_joints)
    if not 0 < joints < skeleton.num_joints:
        raise ValueError(f"pretrain.mask = {cfg.pretrain.mask}: hides {joints} of {skeleton.num_joints} joints; "
                         "at least one must be hidden and one visible")


def check_gate(cfg: Config) -> None:
    """ValueError unless phase 2 ran on this data set and its mean accuracy over seeds lies below the gate."""
    if not cfg.pretrain.after:
        raise ValueError(f"recipe {cfg.recipe!r} names no recipe of phase 2 that decides whether to pretrain "
                         "(pretrain.after): take maskclr_small or maskclr_nano, or give force=true")
    before = dataclasses.replace(cfg, recipe=cfg.pretrain.after).run.parent
    reached = [read_json(path)["top1"] for path in sorted(before.glob("seed*/result.json"))
               if path.parent.name.removeprefix("seed").isdecimal()]
    purpose = f"phase 3 is for a student that phase 2 leaves below {cfg.pretrain.gate:g} %"
    if not reached:
        raise ValueError(f"{purpose}, and {before} has no result yet: "
                         f"run `just phase2 recipe={cfg.pretrain.after}` first, or give force=true")
    mean = statistics.mean(reached)
    if mean >= cfg.pretrain.gate:
        raise ValueError(f"{purpose}, and {before} reached {mean:.1f} %: give force=true to pretrain all the same")


def save_encoder(cfg: Config, store: ClipStore, encoder: nn.Module) -> None:
    save_checkpoint(cfg.run / "final.pt", {
        "recipe": json.dumps(dataclasses.asdict(cfg)), "skeleton": json.dumps(store.skeleton.to_dict()),
        "classes": store.classes, "model": encoder.state_dict()})


def training_summary(cfg: Config, device: torch.device) -> dict:
    """What result.json reports: training time in seconds, the device, and the losses of the last epoch."""
    log = read_log(cfg.run / "metrics.jsonl")
    seconds = round(sum(line["seconds"] for line in log))
    losses = {key: log[-1][key] for key in ("loss", "rebuild", "contrast", "found")}
    return {"seconds": seconds, "device": device_name(device), **losses}


def main(argv: list[str]) -> int:
    command, revision = "just phase3 " + " ".join(argv), commit()
    force, overrides = read_force(argv)
    cfg = load_config(overrides)
    check_phase(cfg, "phase3")
    exit_code = start_processes(cfg, argv)
    if exit_code is not None:
        return exit_code
    store = open_store(cfg)
    train_clips, _, _ = splits(store, cfg)
    check_recipe(cfg, store.skeleton)
    run_identity = identity("phase3", store, train_clips)
    if already_done(cfg, "phase3", run_identity):
        return 0
    if not force:
        check_gate(cfg)

    device = cfg.torch_device
    view = ClipView(store, cfg.view, device)
    encoder = build_model(cfg, store.skeleton, cfg.data.num_classes)
    if cfg.init:
        init_from(encoder, find_runs(cfg.init, cfg, cfg.seed)[0], cfg, store.skeleton, store.classes)
    width = encoder.head.linear.in_features
    model = MaskCLR(encoder, width, store.skeleton.num_joints, cfg.pretrain.projection).to(device)
    announce(cfg, f"{len(train_clips)} training clips", device)

    batches = Pairs(view, train_clips, cfg.train.batch, cfg.seed, cfg.pretrain.mask)
    plain = plain_batches(view, train_clips, cfg.train.batch)
    loss_fn = pretrain_loss(cfg.pretrain, model.stride)
    fit(model, batches, loss_fn, cfg.train, cfg.run, dataclasses.asdict(cfg), cfg.seed, plain, identity=run_identity)
    if rank_of()[0] > 0:
        return 0
    if cfg.train.average == "none":  # the running statistics are of masked clips; fit refreshes those of an average
        refresh_batchnorm(model, plain)
    save_encoder(cfg, store, encoder)
    write_result(cfg, command, revision, training_summary(cfg, device))
    return 0


if __name__ == "__main__":
    cli(main)


def info_nce(a: Tensor, b: Tensor, temperature: float = 0.07, rows: Tensor | None = None) -> Tensor:
    """InfoNCE: each row of a (B, C) must find its own row of b by cosine, and the reverse.

    van den Oord et al., arXiv:1807.03748. Mean over all rows, or those with the indices `rows`, always against all.
    """
    rows = torch.arange(len(a), device=a.device) if rows is None else rows
    with torch.autocast(a.device.type, enabled=False):
        scores = F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T / temperature
        return (F.cross_entropy(scores[rows], rows) + F.cross_entropy(scores.T[rows], rows)) / 2
