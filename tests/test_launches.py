"""How many kernels a training step launches: on a GPU that, not arithmetic, is the time of a small network's step."""
from collections import Counter

import pytest
import torch
from conftest import write_store
from recipe import load_config
from run import ClipStore, build_model
from torch.utils._python_dispatch import TorchDispatchMode

from last import SKELETONS, ClipView, View, classification_loss

MOST = {"lite_nano": 228, "lite_small": 324, "last_e": 810, "B0": 575, "base": 1925}


class Launches(TorchDispatchMode):
    """Counts the operations that do something: a view of a tensor launches nothing."""

    def __init__(self):
        super().__init__()
        self.count: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        views = [a for a in func._schema.arguments if a.alias_info is not None and not a.alias_info.is_write]
        if not views and name != "_unsafe_view":
            self.count[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recipe", MOST)
def test_forward_and_backward_launch_at_most_so_many_operations(recipe):
    cfg = load_config([f"recipe={recipe}"])
    model, loss_fn = build_model(cfg, SKELETONS["ntu25"], 60).train(), classification_loss(cfg.train)
    batch = {"joints": torch.randn(2, 1, 64, 25, 3), "label": torch.tensor([0, 1])}
    loss_fn(model, batch)[0].backward()
    model.zero_grad(set_to_none=True)
    with Launches() as launches:
        loss_fn(model, batch)[0].backward()
    assert launches.count.total() <= MOST[recipe], launches.count.most_common(12)


def test_the_view_of_a_training_batch_launches_at_most_100_operations(tmp_path):
    view, index = ClipView(ClipStore(write_store(tmp_path / "tiny")), View(frames=8)), torch.arange(6)
    with Launches() as launches:
        view(index, True, 0, 1)
    assert launches.count.total() <= 100, launches.count.most_common(12)
