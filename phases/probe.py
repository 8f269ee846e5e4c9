"""Judge a pretrained encoder as the field judges self-supervision: train on its features, test once on the test side.

    just probe recipe=probe_linear init=maskclr_small           a linear probe: only the head learns
    just probe recipe=probe_finetune init=maskclr_small         fine-tuning: all layers learn
    just probe recipe=probe_10 init=maskclr_small               fine-tuning on 10 % of the labels; probe_1: on 1 %
    just probe recipe=probe_10 init=runs/maskclr_small/ntu60-xsub/seed0 probe.frozen=true out=runs/frozen

init is the name of a network in results/networks, a recipe (its run of the same seed), a run folder or a .pt file.
init= (empty) trains the baseline from scratch; give it another out=. The labelled clips are drawn per class, as a
function of the seed; a larger share contains every smaller one.

In:  the clip store of phase 0; a run of phase 3, 1 or 2.
Out: runs/<recipe>/<dataset>-<split>/seed<k>/ as in phase 1.
After an interruption the same command continues. Exit codes: 0 done (or already done), 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import sys

from torch import Tensor, nn

from last import classification_loss, fit, rank_of
from phases.common.command import run
from phases.training.recipe import Config, load_config
from phases.training.run_folder import check_phase
from phases.training.session import OpenedData, finish, open_data, start_network


def main(argv: list[str]) -> int:
    cfg = load_config(argv)
    check_phase(cfg, "probe")
    check_single_process(cfg)

    # the labelled clips: a share of the training side
    data = open_data(cfg, "probe", argv)
    if data is None:
        return 0

    # the encoder and a new head, or the head alone
    network = start_network(cfg, data)
    model = Frozen(network) if cfg.probe.frozen else network
    announce_probe(cfg, data)

    loss_fn = classification_loss(cfg.train)
    fit(model, data.batches, loss_fn, cfg.train, cfg.run, dataclasses.asdict(cfg), cfg.seed, data.plain, data.score,
        data.identity)

    finish(cfg, data, network, {"init": cfg.init, "labelled": len(data.train), "frozen": cfg.probe.frozen})
    return 0


def check_single_process(cfg: Config) -> None:
    processes = max(cfg.gpus, rank_of()[1])
    if processes > 1:
        raise ValueError(f"gpus = {processes}: a probe is short and runs in one process; give gpus=1")


def announce_probe(cfg: Config, data: OpenedData) -> None:
    learning = "only the head learns" if cfg.probe.frozen else "all layers learn"
    print(f"{cfg.run}: {len(data.train)} labelled, {len(data.held)} validation, {len(data.test)} test clips; "
          f"{learning}, from {cfg.init or 'scratch'}", file=sys.stderr)


class Frozen(nn.Module):
    """A network with only its head learning: all other weights and batch-norm statistics stay fixed."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.net = network.requires_grad_(False)
        network.head.requires_grad_(True)

    def train(self, mode: bool = True) -> Frozen:
        """Training mode is for the head alone: elsewhere it would change the statistics of batch norms."""
        super().train(mode)
        for name, part in self.net.named_children():
            part.train(mode and name == "head")
        return self

    def forward(self, joints: Tensor) -> Tensor:
        return self.net(joints)


if __name__ == "__main__":
    run(main)
