"""Networks and joints for the tests of the deploy form and of its graphs."""
import torch
from torch import nn

from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS


def stirred(model: nn.Module) -> nn.Module:
    """The model as if trained: gates, scales and statistics are no longer neutral."""
    # gates and scales
    g = torch.Generator().manual_seed(5)
    for p in model.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=g)

    # statistics of batch norm
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_(0, 0.1, generator=g)
            m.running_var.uniform_(0.5, 1.5, generator=g)
    return model.eval()


def network(skeleton: str, *argv: str) -> nn.Module:
    """A stirred LAST-Lite nano of seven classes; argv changes its recipe."""
    return stirred(build_model(load_config(["recipe=lite_nano", *argv]), SKELETONS[skeleton], 7))


def joints(B: int, M: int, T: int, V: int) -> torch.Tensor:
    """Random joints (B, M, T, V, 3). Every other clip has only its first body."""
    x = torch.randn(B, M, T, V, 3, generator=torch.Generator().manual_seed(B * T))
    x[::2, 1:] = 0
    return x
