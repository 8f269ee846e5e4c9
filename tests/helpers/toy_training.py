"""A training of a moment: a toy network, fixed clips, a short recipe, and runs that are cut or refused."""
import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import last
from last import TemporalConv, Train, fit
from phases.common.command import run

RECIPE = {"toy": 1}
QUICK = Train(epochs=3, batch=4, warmup_epochs=1, warmup_lr=0.01, lr=0.1, amp="fp32", save_seconds=1e9)


def quick(**changes) -> Train:
    return dataclasses.replace(QUICK, **changes)


# --- what is trained ---

class Toy(nn.Module):
    """One of each kind of state: a convolution that may be causal, batch norm, dropout, integers beyond float32."""

    def __init__(self, seed: int = 0, norm: bool = True, dropout: float = 0.2):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = TemporalConv(3, 6, 3)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(6, 4)
        self.register_buffer("table", torch.tensor([2**40 + 1, 2, 3]))

    def forward(self, joints):  # b m t v 3
        x = self.norm(self.conv(joints[:, 0].permute(0, 3, 1, 2)))
        return self.linear(self.dropout(x.relu().mean((2, 3))))


class Clips:
    """Batches of fixed random clips, in a new order each epoch. `offset` is added to every coordinate."""

    def __init__(self, clips: int = 12, size: int = 4, shuffle: bool = True, offset: float = 0.0, dtype=torch.float32):
        g = torch.Generator().manual_seed(5)
        self.x = torch.randn(clips, 1, 6, 2, 3, generator=g).to(dtype) + offset
        self.y = torch.randint(4, (clips,), generator=g)
        self.size = size
        self.shuffle = shuffle

    def __len__(self):
        return math.ceil(len(self.x) / self.size)

    def __call__(self, epoch=0, start=0):
        order = torch.arange(len(self.x))
        if self.shuffle:
            order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(epoch))
        for part in order.split(self.size)[start:]:
            yield {"joints": self.x[part], "label": self.y[part]}


def loss_fn(model, batch):
    logits = model(batch["joints"])
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(logits, batch["label"]), {"top1": (logits.argmax(1) == batch["label"]).float().mean()}


# --- what is compared ---

def weights(model) -> dict:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def log(folder: Path) -> list[dict]:
    """metrics.jsonl without the seconds: a resume may change these and nothing else."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines


# --- runs that end early ---

class Cut(Exception):
    pass


def cut_after(monkeypatch, saves: int) -> None:
    """Let the run end right after checkpoint number `saves`, as a kill there would."""
    real = last.save_checkpoint
    count = 0

    def save(path, state):
        nonlocal count
        real(path, state)
        count += 1
        if count == saves:
            raise Cut

    monkeypatch.setattr(last, "save_checkpoint", save)


def refused(folder: Path, capsys, recipe: dict = RECIPE) -> str:
    """The one line that refuses a run in this folder, with exit code 2; last.pt stays as it is."""
    before = (folder / "last.pt").read_bytes()
    with pytest.raises(SystemExit) as e:
        run(lambda argv: fit(Toy(), Clips(), loss_fn, QUICK, folder, recipe) and 0)

    # the progress bar (train:) is no line of its own
    printed = re.split("[\r\n]+", capsys.readouterr().err)
    lines = [line for line in printed if line and not line.startswith("train:")]
    assert e.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: ") and "last.pt" in lines[0]

    # nothing changed on the disk
    assert (folder / "last.pt").read_bytes() == before
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
    return lines[0]
