"""A training that loses what it had learnt says so, once, while there is time to stop it."""
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from last import fit
from phases.common.files import ROOT
from phases.common.progress import loss_is_back
from tests.helpers.toy_training import RECIPE, Clips, Cut, Toy, cut_after, quick

FALLS = [2.3, 2.0, 1.5, 1.4]


def lines(losses: list[float]) -> list[dict]:
    return [{"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses)]


def told(losses: list[float]) -> list[int]:
    """After how many epochs there was something to tell."""
    return [n for n in range(len(losses) + 1) if loss_is_back(lines(losses[:n]))]


@pytest.mark.parametrize(("losses", "after"), [
    (FALLS, []), ([*FALLS, 2.2, 1.6, 2.2, 1.6], []),                    # an epoch now and then
    ([*FALLS, 1.9, 1.9, 1.8, 1.9], [6]),                                # half of the way is 1.85
    ([*FALLS, 2.4, 2.4], [6]), ([*FALLS, 2.4, 2.4, 2.4, 1.5], [6, 7]),
    ([2.3, 2.1, 2.3, 2.3], []),                                         # nothing had been learnt
    ([-1.0, -2.0, -1.1, -1.1], [4]), ([], []), ([2.3], []), ([2.3, 1.0], [])])
def test_a_loss_is_back_after_two_epochs_nearer_to_the_first_than_to_the_lowest(losses, after):
    assert told(losses) == after


@given(st.lists(st.floats(0.01, 100), max_size=12))
def test_a_loss_that_only_falls_is_never_back(losses):
    assert told(sorted(losses, reverse=True)) == []


def test_two_trainings_that_lost_it_would_have_been_told_by_the_sixteenth_epoch_of_sixty():
    runs = json.loads((ROOT / "results" / "base-study.json").read_text())["stopped"]
    losses = {run["what"].split(",")[0]: run["loss"] for run in runs if "loss" in run}
    assert {stream: told(of)[0] for stream, of in losses.items()} == {"joint": 14, "bone": 16}
    assert loss_is_back(lines(losses["joint"][:14])) == (
        "the loss is back at 2.18: it was 1.62 after 10 epochs, 2.33 after the first; "
        "if it stays there, start anew with a lower train.lr")


def test_lines_without_a_loss_are_no_epochs():
    assert loss_is_back([{"epoch": 0}, *lines([2.0, 1.0, 2.0]), {"validation": 1.0}]) == ""


@pytest.mark.parametrize("saves", [None, 3, 4, 5])
def test_fit_says_it_once_also_when_it_is_cut_around_there(tmp_path, capsys, monkeypatch, saves):
    schedule = [2.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    clips = Clips()

    def scheduled(model, batch):
        zero = model(batch["joints"]).sum() * 0
        return zero + batch["loss"], {"top1": torch.zeros(())}

    def batches(epoch=0, start=0):
        for batch in clips(epoch, start):
            yield batch | {"loss": schedule[epoch]}

    class Scheduled:
        __call__ = staticmethod(batches)
        __len__ = staticmethod(lambda: len(clips))

    def train():
        fit(Toy(), Scheduled(), scheduled, quick(epochs=6), tmp_path, RECIPE)

    if saves:
        with monkeypatch.context() as patch, pytest.raises(Cut):
            cut_after(patch, saves)
            train()
    train()
    said = [line for line in capsys.readouterr().err.replace("\r", "\n").split("\n") if "the loss is back" in line]
    assert said == ["epoch 4: the loss is back at 2: it was 1 after 2 epochs, 2 after the first; "
                    "if it stays there, start anew with a lower train.lr"]
