"""Random logits, and the softmax of a list, for the tests of the losses."""
import math

import torch
from torch import Tensor


def rows(B: int, K: int, seed: int, size: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Student logits (B, K) with a gradient, teacher probabilities (B, K) and labels (B,)."""
    g = torch.Generator().manual_seed(seed)
    student, teacher = (size * torch.randn(B, K, generator=g) for _ in range(2))
    return student.requires_grad_(), teacher.softmax(1), torch.randint(K, (B,), generator=g)


def softmax(z: list[float], tau: float) -> list[float]:
    e = [math.exp((x - max(z)) / tau) for x in z]
    return [x / sum(e) for x in e]
