"""What a network names clips, and how often it is right."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from last import causal


@torch.no_grad()
def predict(model: nn.Module, batches: Callable, is_causal: bool = False) -> tuple[Tensor, Tensor]:
    """Logits (N, K) in FP32 and labels (N,) of every clip of `batches`, once, in order."""
    model.eval()
    logits = []
    labels = []
    with causal(model, is_causal):
        for batch in batches():
            logits.append(model(batch["joints"]).float().cpu())
            labels.append(batch["label"].cpu())
    return torch.cat(logits), torch.cat(labels)


def accuracy(logits: Tensor, labels: Tensor) -> dict:
    """top1, top5 and per-class recall in percent, and the confusion matrix (rows: true class)."""
    K = logits.shape[1]
    named = logits.argmax(1)

    # classes with at least the score of the true one: in top5, ties and NaN count against it
    rank = (~(logits < logits.gather(1, labels[:, None]))).sum(1) - 1

    one = torch.ones_like(labels)
    confusion = torch.zeros(K, K, dtype=torch.long).index_put_((labels, named), one, accumulate=True)
    total = confusion.sum(1)
    recall = [100 * confusion[k, k].item() / total[k].item() if total[k] else None for k in range(K)]
    return {"clips": len(labels), "top1": 100 * (named == labels).float().mean().item(),
            "top5": 100 * (rank < 5).float().mean().item(), "per_class": recall, "confusion": confusion.tolist()}
