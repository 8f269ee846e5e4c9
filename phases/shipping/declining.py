"""What lets a network decline a clip that shows none of its classes, and makes its probabilities honest.

Pure functions of arrays. N clips, K classes, C features: the pooled vector that enters a network's head.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SURE = 0.03  # what the largest probability adds to a cosine: a clip between two classes is like both of them
KEEP = 0.92  # share of damaged training clips that are kept: then 95 % of new people's are, by cross-validation
TEMPERATURES = (0.1, 10.0)  # between which the best is sought: where no clip is wrong, 0 would be the best


@dataclass(frozen=True)
class Declining:
    """What phase 4 measures of a network, and its files hold."""
    scale: np.ndarray   # c: that features are multiplied with before they are compared
    means: np.ndarray   # k c: unit vectors of features so scaled
    temperature: float
    threshold: float

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray, K: int, damaged: np.ndarray, logits: np.ndarray,
           scale: np.ndarray | None = None) -> Declining:
        """From the training clips' features (N, C); and from the features (D, C) and logits (D, K) of the same clips,
        in the same order and perhaps several times over, as a camera may damage them. scale (C,): of the features, by
        default one over their spread.

        A network knows its training clips too well: as they are, they are much more alike than those of new people, and
        hardly one is wrong. Damaged, they are about as alike as new people's.
        """
        scale = scale_of(features) if scale is None else scale
        means = class_means(features * scale, labels, K)
        alike = likeness_of(damaged * scale, means, logits)
        return cls(scale, means, temperature_of(logits, np.resize(labels, len(damaged))), threshold_of(alike))

    def likeness(self, features: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Likeness (N,) of clips to the nearest class, from features (N, C) and logits (N, K): as a file gives it."""
        return likeness_of(features * self.scale, self.means, logits)


def scale_of(features: np.ndarray) -> np.ndarray:
    """One over the spread (C,) of each feature: none outweighs the others. One that hardly varies counts little."""
    spread = features.std(0, dtype=np.float64)
    return (1 / np.maximum(spread, 0.05 * spread.mean() + 1e-12)).astype(np.float32)


def class_means(features: np.ndarray, labels: np.ndarray, K: int) -> np.ndarray:
    """Mean directions (K, C) of the features (N, C) of each class, unit vectors; zeros for a class without clips."""
    unit = unit_vectors(np.asarray(features, np.float64))
    total = np.zeros((K, unit.shape[1]))
    np.add.at(total, labels, unit)
    return unit_vectors(total).astype(np.float32)


def likeness_of(features: np.ndarray, means: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Cosine (N,) of features (N, C) to the nearest of the class means (K, C); and a little of how sure the network is
    of its logits (N, K), which no temperature divides."""
    return cosine_of(features, means) + SURE * softmax(np.asarray(logits, np.float64)).max(1)


def cosine_of(features: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Cosine (N,) of features (N, C) to the nearest of the class means (K, C)."""
    return (unit_vectors(np.asarray(features, np.float64)) @ means.T).max(1)


def threshold_of(likeness: np.ndarray, keep: float = KEEP) -> float:
    """The likeness that this share of known clips (N,) reaches: a clip below it is declined."""
    return float(np.quantile(likeness, 1 - keep))


def temperature_of(logits: np.ndarray, labels: np.ndarray, doubt: float = 0.0,
                   between: tuple[float, float] = TEMPERATURES) -> float:
    """The T that minimises the mean negative log-likelihood of softmax(logits / T) (Guo et al., arXiv:1706.04599).

    doubt: the share of each label that counts for all classes alike, as in Platt's scaling: few clips, none of them
    wrong, are no proof that none ever will be.
    """
    logits = np.asarray(logits, np.float64)
    own = logits[np.arange(len(labels)), labels]
    own = own if not doubt else (1 - doubt) * own + doubt * logits.mean(1)

    def slope(inverse: float) -> float:
        """Derivative of the likelihood's negative logarithm by 1 / T, which rises with 1 / T."""
        return float(((softmax(inverse * logits) * logits).sum(1) - own).mean())

    # where the slope is zero: halve the interval, in powers of T
    low, high = (1 / T for T in reversed(between))
    for _ in range(60):
        middle = (low * high) ** 0.5
        if slope(middle) < 0:
            low = middle
        else:
            high = middle
    return 1 / low


def unit_vectors(x: np.ndarray) -> np.ndarray:
    """The rows of x (N, C) at length 1; a row of zeros stays zeros."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) of logits (N, K)."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)
