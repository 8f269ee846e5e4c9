"""The learning rate: warm-up, cosine, the constant under SWA, and that every step is made at it."""
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from last import fit, lr_at
from tests.helpers.toy_training import RECIPE, Clips, Toy, log, loss_fn, quick


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 14), st.integers(1, 9), st.sampled_from(["none", "swa", "ema"]),
       st.floats(0, 1), st.sampled_from([0.0, 0.07]), st.data())
def test_lr_is_warm_up_then_cosine_or_constant_under_swa(epochs, warm, steps, average, start, swa_lr, data):
    cfg = quick(epochs=epochs, warmup_epochs=warm, average=average, swa_start=start, lr=0.5, warmup_lr=0.02,
                min_lr=0.003, swa_lr=swa_lr)
    step = data.draw(st.integers(0, epochs * steps - 1))
    epoch = step // steps
    if epoch < warm:
        share = (step + 1) / (warm * steps)
        want = 0.02 * (1 - share) + 0.5 * share
    elif swa_lr and average == "swa" and (epoch >= math.floor(start * epochs) or epoch == epochs - 1):
        want = 0.07
    else:  # under SWA the cosine stands still from epoch `first` on
        first = min(math.floor(start * epochs), epochs - 1) if average == "swa" else epochs
        turn = (min(step, max(first, warm) * steps) - warm * steps) / ((epochs - warm) * steps)
        want = 0.5 * 0.5 * (1 + math.cos(math.pi * turn)) + 0.003 * 0.5 * (1 - math.cos(math.pi * turn))
    assert lr_at(step, cfg, steps) == pytest.approx(want) == pytest.approx(lr_at(step, cfg, steps))


def test_the_schedule_peaks_falls_steadily_and_ends_at_its_floor():
    cfg = quick(epochs=20, warmup_epochs=4, min_lr=1e-4)
    rates = [lr_at(s, cfg, 10) for s in range(200)]
    assert max(rates) == rates[39] == cfg.lr and rates == sorted(rates[:40]) + sorted(rates[40:], reverse=True)
    assert cfg.min_lr <= rates[-1] < cfg.min_lr + 1e-4


def test_every_step_is_made_at_the_rate_of_the_schedule(tmp_path, monkeypatch):
    seen, real = [], torch.optim.SGD.step

    def step(self, *args, **kwargs):
        seen.append({g["lr"] for g in self.param_groups})
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    cfg = quick(accumulate=2, average="swa", swa_start=0.5)
    fit(Toy(), Clips(20), loss_fn, cfg, tmp_path, RECIPE)
    assert seen == [{lr_at(s, cfg, 3)} for s in range(9)]
    assert [e["lr"] for e in log(tmp_path)] == [lr_at(s, cfg, 3) for s in (2, 5, 8)]
