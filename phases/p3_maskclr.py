"""Phase 3: pretrain LAST-Lite's encoder without labels (MaskCLR): hidden joints are rebuilt, two views of a clip recognise each other.

    just phase3 recipe=maskclr_small                            then: just phase2 recipe=L12
    just phase3 recipe=maskclr_small data=nw_ucla force=true    although phase 2 reached 88 % there, or was not run

    loss = MSE(decoder(map), joints) at hidden joints that were recorded, every 4th frame (the encoder's stride) + 0.5 · InfoNCE(view 1, view 2)

Whole body regions, in random order, are hidden in all frames until the share pretrain.mask of the joints is reached, the last region in
part. A learned token takes their place before streams are derived, so that no bone or velocity tells of them. The two views of a clip
are augmented and hidden each on its own. Where a clip stands, how it is turned and scaled is a matter of all its joints, hidden ones too:
a few numbers, the same for every joint. The plan's gate: this phase is for when phase 2 (recipe pretrain.after) stays below 88 %.

In:  the clip store of phase 0, training side.
Out: runs/<recipe>/<dataset>-<split>/seed<k>/: recipe.json, metrics.jsonl, last.pt (all it takes to go on), result.json (the last epoch's
     losses), and final.pt, the encoder alone, for init=<recipe or folder> of phases 1 and 2 and of `just probe`.
Cut off at any moment, the same command goes on. Exit codes: 0 done (or already done), 2 bad input or the gate, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Iterator

import torch
from einops import rearrange
from recipe import Config, Pretrain, cli, load_config
from run import (
    already_done,
    announce,
    build_model,
    check_phase,
    commit,
    device_name,
    find_runs,
    identity,
    init_from,
    open_store,
    read_json,
    splits,
    start_processes,
    write_result,
)
from torch import Tensor, nn

from last import (
    Batches,
    ClipView,
    Skeleton,
    bodies_present,
    fit,
    hashed_uniform,
    info_nce,
    of_all_processes,
    plain_batches,
    rank_of,
    read_log,
    refresh_batchnorm,
    save_checkpoint,
    share_of,
)


def region_masks(skeleton: Skeleton, share: float, *keys: int | Tensor) -> Tensor:
    """Which joints are hidden, (N, V) with keys (N,): whole regions in random order to `share` of the joints, to a joint;
    the last in part, but no left joint without its right."""
    of_joint = torch.tensor([r for v in range(skeleton.num_joints) for r, joints in enumerate(skeleton.regions.values()) if v in joints])
    keys = [k[:, None] if isinstance(k, Tensor) else k for k in keys]
    device = next(k.device for k in keys if isinstance(k, Tensor))
    place = hashed_uniform(*keys, 300 + torch.arange(len(skeleton.regions), device=device)).argsort(1).argsort(1)   # n r
    within = hashed_uniform(*keys, 400 + torch.arange(skeleton.num_joints, device=device))                          # n v in [0, 1)
    mates = torch.arange(skeleton.num_joints, device=device)
    for a, b in skeleton.pairs:
        if of_joint[a] == of_joint[b]:  # the eyes are of one region, the head: hidden both or neither
            mates[a], mates[b] = b, a
    within = within.maximum(within[:, mates])                                                                       # side by side in rank
    rank = (place[:, of_joint.to(device)] + within).argsort(1).argsort(1)
    count = round(share * skeleton.num_joints)
    masks = rank < count
    return masks & masks[:, mates] if count > share * skeleton.num_joints else masks | masks[:, mates]


class Pairs(Batches):
    """Batches of two views of each clip: joints (2B, M, T, V, 3), first views first, and which joints are hidden (2B, M, V)."""

    def __init__(self, view: ClipView, index, size: int, seed: int, share: float):
        super().__init__(view, index, size, training=True, seed=seed)
        self.share = share

    def __call__(self, epoch: int = 0, start: int = 0) -> Iterator[dict[str, Tensor]]:
        for batch in super().__call__(epoch, start):
            index, M = batch["index"], batch["joints"].shape[1]
            other = self.view(index, True, self.seed + 2**31, epoch)  # the second view draws from a seed of its own
            hidden = [region_masks(self.view.skeleton, self.share, self.seed, epoch, index, n) for n in range(2 * M)]   # view, body
            hidden = rearrange(torch.stack(hidden), "(s m) b v -> (s b) m v", m=M)
            yield {**batch, "joints": torch.cat([batch["joints"], other]), "hidden": hidden}


class MaskCLR(nn.Module):
    """Encoder, token, decoder and projector; all but the encoder are dropped at the end.

    The decoder is linear from a step's features, averaged over joints, to all joints (C -> V 3); the projector is linear from
    the pooled features of a clip, the mean over its bodies.
    """

    def __init__(self, encoder: nn.Module, width: int, joints: int, projection: int):
        super().__init__()
        encoder.head.norm, encoder.head.linear = nn.Identity(), nn.Identity()  # nothing classifies here
        self.encoder = encoder
        self.stride = math.prod(block.stride for stage in encoder.stages for block in stage.blocks)
        self.token = nn.Parameter(0.02 * torch.randn(3))
        self.decoder = nn.Linear(width, joints * 3)
        self.projector = nn.Linear(width, projection)

    def forward(self, joints: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:                # b m t v 3, b m v
        """Rebuilt joints (N, T / stride, V, 3) of the N bodies present, and embeddings (B, P)."""
        present = bodies_present(joints)                                                    # b m
        chosen = present.flatten().nonzero().squeeze(1)
        x = joints.flatten(0, 1)[chosen]                                                    # n t v 3
        if hidden is not None:
            x = torch.where(hidden.flatten(0, 1)[chosen][:, None, :, None], self.token.to(x.dtype), x)
        last = self.encoder.features(x)[-1]                                                 # n c t/stride v
        rebuilt = rearrange(self.decoder(rearrange(last.mean(3), "n c t -> n t c")), "n t (v c) -> n t v c", c=3)
        pooled = self.encoder.head.pool(last)
        pooled = pooled.new_zeros(present.numel(), pooled.shape[1]).index_copy(0, chosen, pooled)
        pooled = rearrange(pooled, "(b m) c -> b m c", b=len(joints)).sum(1) / present.sum(1, keepdim=True)
        return rebuilt, self.projector(pooled)


def pretrain_loss(cfg: Pretrain, stride: int) -> Callable:
    """loss_fn of phase 3, on batches of Pairs; metric `found`: the share of clips whose own second view is the nearest."""
    def loss_fn(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        joints, hidden = batch["joints"], batch["hidden"]
        rebuilt, embedding = model(joints, hidden)
        chosen = bodies_present(joints).flatten().nonzero().squeeze(1)
        target = joints.flatten(0, 1)[chosen][:, ::stride]                                                             # n t/stride v 3
        asked = hidden.flatten(0, 1)[chosen][:, None] & (target != 0).any(-1)  # nobody knows where a joint is that was not seen
        error = ((rebuilt.float() - target).square().mean(-1) * asked).sum() / asked.sum().clamp(min=1)
        rebuild = share_of(int(asked.sum()), batch) * error
        (a, rows), (b, _) = (of_all_processes(x, batch) for x in embedding.float().chunk(2))
        contrast = info_nce(a, b, cfg.temperature, rows)
        found = (nn.functional.cosine_similarity(a[rows, None], b[None], dim=2).argmax(1) == rows).float().mean()
        return rebuild + cfg.contrast * contrast, {"rebuild": rebuild, "contrast": contrast, "found": found}
    return loss_fn


def check_gate(cfg: Config) -> None:
    """ValueError unless phase 2 was run on this data set and its mean accuracy over seeds lies below the gate."""
    if not cfg.pretrain.after:
        raise ValueError(f"recipe {cfg.recipe!r} names no recipe of phase 2 that says whether to pretrain (pretrain.after): take maskclr_small or "
                         "maskclr_nano, or give force=true")
    before = dataclasses.replace(cfg, recipe=cfg.pretrain.after).run.parent
    reached = [read_json(p)["top1"] for p in sorted(before.glob("seed*/result.json"))]
    if not reached:
        raise ValueError(f"phase 3 is for when phase 2 stays below {cfg.pretrain.gate:g} %, and {before} has no result yet: "
                         f"run `just phase2 recipe={cfg.pretrain.after}` first, or give force=true")
    if (mean := statistics.mean(reached)) >= cfg.pretrain.gate:
        raise ValueError(f"phase 3 is for when phase 2 stays below {cfg.pretrain.gate:g} %, and {before} reached {mean:.1f} %: "
                         "give force=true to pretrain all the same")


def main(argv: list[str]) -> int:
    command, made_by = "just phase3 " + " ".join(argv), commit()
    forces = [a.partition("=")[2].lower() for a in argv if a.partition("=")[0] == "force"]
    if odd := [f for f in forces if f not in ("true", "false")]:
        raise ValueError(f"force = {odd[0]!r}: give true or false")
    cfg = load_config([a for a in argv if a.partition("=")[0] != "force"])
    check_phase(cfg, "phase3")
    if (code := start_processes(cfg, argv)) is not None:
        return code
    store = open_store(cfg)
    train_clips, _, _ = splits(store, cfg)
    recipe = dataclasses.asdict(cfg)
    if cfg.model.name != "lite":
        raise ValueError(f"model.name = {cfg.model.name!r}: phase 3 pretrains LAST-Lite; give model.name=lite")
    if cfg.view.mix:
        raise ValueError(f"view.mix = {cfg.view.mix}: phase 3 compares views of one clip, blended ones are of two; give view.mix=0")
    if not 0 < (joints := round(cfg.pretrain.mask * store.skeleton.num_joints)) < store.skeleton.num_joints:
        raise ValueError(f"pretrain.mask = {cfg.pretrain.mask}: hides {joints} of {store.skeleton.num_joints} joints; some must be hidden, some seen")
    if already_done(cfg, "phase3"):
        return 0
    if "true" not in forces[-1:]:
        check_gate(cfg)
    device = cfg.torch_device
    view = ClipView(store, cfg.view, device)
    encoder = build_model(cfg, store.skeleton, cfg.data.num_classes)
    if cfg.init:
        init_from(encoder, find_runs(cfg.init, cfg, cfg.seed)[0], cfg)
    model = MaskCLR(encoder, encoder.head.linear.in_features, store.skeleton.num_joints, cfg.pretrain.projection).to(device)
    announce(cfg, f"{len(train_clips)} training clips", device)
    batches = Pairs(view, train_clips, cfg.train.batch, cfg.seed, cfg.pretrain.mask)
    plain = plain_batches(view, train_clips, cfg.train.batch)
    fit(model, batches, pretrain_loss(cfg.pretrain, model.stride), cfg.train, cfg.run, recipe, cfg.seed, plain,
        identity=identity("phase3", store, train_clips))
    if rank_of()[0]:
        return 0
    if cfg.train.average == "none":  # an average's were refreshed by fit; these may be of hidden joints
        refresh_batchnorm(model, plain)
    save_checkpoint(cfg.run / "final.pt", {"recipe": json.dumps(recipe), "skeleton": json.dumps(store.skeleton.to_dict()),
                                          "classes": store.classes, "model": encoder.state_dict()})
    log = read_log(cfg.run / "metrics.jsonl")
    write_result(cfg, command, made_by, {"seconds": round(sum(line["seconds"] for line in log)), "device": device_name(device),
                                         **{k: log[-1][k] for k in ("loss", "rebuild", "contrast", "found")}})
    return 0


if __name__ == "__main__":
    cli(main)
