"""How many kernels a training step launches: on a GPU that, not arithmetic, is the time of a small network's step."""
from dataclasses import replace

import pytest
import torch

import last
from phases.training.clip_store import ClipStore
from phases.training.view import ClipView
from tests.helpers.clip_stores import write_store
from tests.helpers.views import WILD, calm
from tests.tools.bench_steps import Launches, plain_step

MOST = {"lite_nano": (202, 259), "lite_small": (294, 383), "last_e": (781, 924), "B0": (587, 694), "base": (2018, 2729)}


@pytest.mark.parametrize("recipe", MOST)
def test_forward_and_backward_launch_at_most_so_many_operations(recipe, monkeypatch):
    """In FP32, and in bf16, whose casts are launches too. On a GPU what blocks share broadcasts."""
    monkeypatch.setattr(last, "by_rows", lambda op, x, shared: op(x, shared))
    step = plain_step(recipe, 2)
    for most, is_bf16 in zip(MOST[recipe], (False, True), strict=True):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            step()
            with Launches() as launches:
                step()
        assert launches.count.total() <= most, launches.count.most_common(12)


@pytest.mark.parametrize("cfg, most", [(calm(frames=8), 128), (replace(WILD, frames=8), 390)], ids=["calm", "wild"])
def test_a_view_in_training_launches_few_operations(tmp_path, cfg, most):
    """Damage draws a number for each coordinate, and closes the gaps that it made."""
    view, index = ClipView(ClipStore(write_store(tmp_path / "tiny")), cfg), torch.arange(6)
    with Launches() as launches:
        view(index, True, 0, 1)
    assert launches.count.total() <= most, launches.count.most_common(12)
