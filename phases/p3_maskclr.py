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
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from last import bodies_present, fit, gather_batch, mean_correction, rank_of, refresh_batchnorm
from phases.common.command import run, words
from phases.common.files import read_json, read_log
from phases.training.masking import Pairs
from phases.training.processes import start_processes
from phases.training.recipe import Config, Pretrain, load_config
from phases.training.run_folder import check_phase, device_name, save_final, seconds_of, write_result
from phases.training.session import OpenedData, announce, open_data, start_network

PROJECTION = 128    # width of the space in which two views are compared
TEMPERATURE = 0.07  # of InfoNCE


@dataclass(frozen=True)
class Options:
    force: Annotated[bool, "pretrain whatever phase 2 reached (pretrain.gate)"] = False


def main(options: Options, recipe: list[str]) -> int:
    argv = [*recipe, *words(options)]
    cfg = load_config(recipe)
    check_phase(cfg, "phase3")
    check_encoder(cfg)
    exit_code = start_processes(cfg, argv)
    if exit_code is not None:
        return exit_code

    # training clips; there is nothing to test
    data = open_data(cfg, "phase3", argv, judged=False)
    if data is None:
        return 0
    check_mask(cfg, data.store.skeleton.num_joints)
    if not options.force:
        check_gate(cfg)

    # the encoder, and what trains with it and is dropped at the end
    encoder = start_network(cfg, data)
    model = MaskCLR(encoder, data.store.skeleton.num_joints).to(data.view.device)
    announce(cfg, data, clips=f"{len(data.train)} training clips")

    # two views of each clip, with some joints hidden
    batches = Pairs(data.view, data.train, cfg.train.batch, cfg.seed, cfg.pretrain.mask)
    loss_fn = pretrain_loss(cfg.pretrain, model.stride)
    fit(model, batches, loss_fn, cfg.train, cfg.run, dataclasses.asdict(cfg), cfg.seed, data.plain,
        identity=data.identity)
    if rank_of()[0] > 0:
        return 0

    # the running statistics are of masked clips, unless fit has refreshed those of an average
    if cfg.train.average == "none":
        refresh_batchnorm(model, data.plain)
    save_final(cfg, data.store, encoder)
    write_result(cfg, data.command, data.commit, training_summary(cfg, data))
    return 0


# ---------------------------------------------------------------------------------------------------------------------
# What is refused, and what is reported
# ---------------------------------------------------------------------------------------------------------------------

def check_encoder(cfg: Config) -> None:
    if cfg.model.name != "lite":
        raise ValueError(f"model.name = {cfg.model.name!r}: phase 3 pretrains LAST-Lite; give model.name=lite")
    if cfg.view.mix:
        raise ValueError(f"view.mix = {cfg.view.mix}: phase 3 compares views of one clip, a blended clip is of two; "
                         "give view.mix=0")


def check_mask(cfg: Config, joints: int) -> None:
    hidden = round(cfg.pretrain.mask * joints)
    if not 0 < hidden < joints:
        raise ValueError(f"pretrain.mask = {cfg.pretrain.mask}: hides {hidden} of {joints} joints; "
                         "at least one must be hidden and one visible")


def check_gate(cfg: Config) -> None:
    """ValueError unless phase 2 ran on this data set and its mean accuracy over seeds lies below the gate."""
    if not cfg.pretrain.after:
        raise ValueError(f"recipe {cfg.recipe!r} names no recipe of phase 2 that decides whether to pretrain "
                         "(pretrain.after): take maskclr_small or maskclr_nano, or give force=true")

    # top-1 of each seed
    before = dataclasses.replace(cfg, recipe=cfg.pretrain.after).run.parent
    reached = []
    for path in sorted(before.glob("seed*/result.json")):
        if path.parent.name.removeprefix("seed").isdecimal():
            reached.append(read_json(path)["top1"])

    purpose = f"phase 3 is for a student that phase 2 leaves below {cfg.pretrain.gate:g} %"
    if not reached:
        raise ValueError(f"{purpose}, and {before} has no result yet: "
                         f"run `just phase2 recipe={cfg.pretrain.after}` first, or give force=true")
    mean = statistics.mean(reached)
    if mean >= cfg.pretrain.gate:
        raise ValueError(f"{purpose}, and {before} reached {mean:.1f} %: give force=true to pretrain all the same")


def training_summary(cfg: Config, data: OpenedData) -> dict:
    """What result.json reports: training time in seconds, the device, and the losses of the last epoch."""
    last_epoch = read_log(cfg.run / "metrics.jsonl")[-1]
    losses = {key: last_epoch[key] for key in ("loss", "rebuild", "contrast", "found")}
    return {"seconds": seconds_of(cfg.run), "device": device_name(data.view.device), **losses}


# ---------------------------------------------------------------------------------------------------------------------
# The network and its loss
# ---------------------------------------------------------------------------------------------------------------------

class MaskCLR(nn.Module):
    """Encoder, token, decoder and projector; only the encoder is kept at the end.

    decoder: linear, features of a frame averaged over joints -> all joints (C -> V 3). projector: linear, pooled
    features of a clip averaged over its bodies -> embedding (C -> P).
    """

    def __init__(self, encoder: nn.Module, joints: int, projection: int = PROJECTION):
        super().__init__()
        width = encoder.head.classifier.in_features
        self.stride = math.prod(block.stride for stage in encoder.stages for block in stage.blocks)

        # no classifier in this phase
        encoder.head.norm = nn.Identity()
        encoder.head.classifier = nn.Identity()
        self.encoder = encoder

        self.token = nn.Parameter(0.02 * torch.randn(3))
        self.decoder = nn.Linear(width, joints * 3)
        self.projector = nn.Linear(width, projection)

    def forward(self, joints: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rebuilt joints (N, T / stride, V, 3) of the N bodies present, and embeddings (B, P).

        joints (B, M, T, V, 3), hidden (B, M, V).
        """
        # the bodies present, with the token in place of hidden joints
        present = bodies_present(joints)                                                    # b m
        chosen = present.flatten().nonzero().squeeze(1)                                     # n
        x = joints.flatten(0, 1)[chosen]                                                    # n t v 3
        if hidden is not None:
            covered = hidden.flatten(0, 1)[chosen][:, None, :, None]                        # n 1 v 1
            x = torch.where(covered, self.token.to(x.dtype), x)
        features = self.encoder.features(x)[-1]                                             # n c t/stride v

        # all joints of a frame, from its features
        frames = rearrange(features.mean(3), "n c t -> n t c")
        rebuilt = rearrange(self.decoder(frames), "n t (v c) -> n t v c", c=3)

        # a clip's embedding, from the mean of its bodies
        pooled = self.encoder.head.pool(features)                                           # n c
        pooled = pooled.new_zeros(present.numel(), pooled.shape[1]).index_copy(0, chosen, pooled)
        pooled = rearrange(pooled, "(b m) c -> b m c", b=len(joints)).sum(1) / present.sum(1, keepdim=True)
        return rebuilt, self.projector(pooled)


def pretrain_loss(cfg: Pretrain, stride: int) -> Callable:
    """loss_fn of phase 3, for batches of Pairs: MSE at hidden, recorded joints + cfg.contrast · InfoNCE of the views.

    Metric `found`: the share of clips with their own second view as the nearest one.
    """
    def loss_fn(model: nn.Module, batch: dict) -> tuple[Tensor, dict[str, Tensor]]:
        joints = batch["joints"]
        hidden = batch["hidden"]
        rebuilt, embedding = model(joints, hidden)

        # MSE, in the frames that the encoder keeps: a mean over joints, of which each process has another number
        chosen = bodies_present(joints).flatten().nonzero().squeeze(1)                      # n
        target = joints.flatten(0, 1)[chosen][:, ::stride]                                  # n t/stride v 3
        recorded = (target != 0).any(-1)                                                    # n t/stride v
        asked = hidden.flatten(0, 1)[chosen][:, None] & recorded
        error = ((rebuilt.float() - target).square().mean(-1) * asked).sum() / asked.sum().clamp(min=1)
        rebuild = mean_correction(asked.sum(), batch) * error

        # InfoNCE, among the clips of all processes
        first, second = embedding.float().chunk(2)
        a, rows = gather_batch(first, batch)
        b, _ = gather_batch(second, batch)
        contrast = info_nce(a, b, TEMPERATURE, rows)

        nearest = F.cosine_similarity(a[rows, None], b[None], dim=2).argmax(1)
        found = (nearest == rows).float().mean()
        return rebuild + cfg.contrast * contrast, {"rebuild": rebuild, "contrast": contrast, "found": found}

    return loss_fn


def info_nce(a: Tensor, b: Tensor, temperature: float = TEMPERATURE, rows: Tensor | None = None) -> Tensor:
    """InfoNCE: each row of a (B, C) must find its own row of b by cosine, and the reverse.

    van den Oord et al., arXiv:1807.03748. Mean over all rows, or those with the indices `rows`, always against all.
    """
    rows = torch.arange(len(a), device=a.device) if rows is None else rows
    with torch.autocast(a.device.type, enabled=False):
        scores = F.normalize(a.float(), dim=1) @ F.normalize(b.float(), dim=1).T / temperature
        return (F.cross_entropy(scores[rows], rows) + F.cross_entropy(scores.T[rows], rows)) / 2


if __name__ == "__main__":
    run(main, Options, recipe=True)
