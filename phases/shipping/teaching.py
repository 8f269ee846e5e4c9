"""A recogniser of a few examples per class: a new last layer for a network's features. numpy only.

Pure functions of arrays. N examples, K classes, C features; u: features times a scale, at length 1. Every head gives
logits = weight @ u + bias:

    means       cosine to the mean direction of each class
    ridge       least squares to the classes as one-hot vectors
    logistic    multinomial logistic regression

The head is the one that is surest of what left-out examples are. They are left out in rounds: one of each class at a
time, so that the classes keep their balance; or all of a person's, where it is known who moves. A clip is none of the
classes if it is not alike enough, or more like something else: people who stand, and what was recorded as nothing.

Alike enough are clips as far from the class means as most left-out examples, or as LOOSE of the network's gap:
examples of one take are near copies and leave no room for the next one, but how far apart the network's own classes are
does, whatever is taught (results/few-shot.md). page/heads.js and page/teach.js hold the same rules.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from phases.shipping.declining import class_means, scale_of, softmax, temperature_of, unit_vectors

STEPS = 30      # of logistic regression: with 300 it names no more clips of other people rightly
ROUNDS = 10     # at most
MANY = 5        # left-out examples per class from which on they choose the head
TIE = 0.01      # nats: a richer head must be better by more
BETWEEN = (1e-3, 10.0)  # temperatures: cosines differ by hundredths
DOUBT = 0.002   # of what the examples themselves are, where nothing can be left out: new people are as sure as right
ALIKE = 0.97    # share of new clips of the classes that are alike enough,
SPARED = 0.95   # and that are less like something else
TOLD = 0.95     # share of that which is declined, where it costs no more
LOOSE = 0.4     # of the network's gap: likenesses above 1 - LOOSE gap are those of one take, not of one action


# ---------------------------------------------------------------------------------------------------------------------
# Last layers
# ---------------------------------------------------------------------------------------------------------------------

class Head(NamedTuple):
    """A kind of last layer, and the weight of its penalty."""
    kind: str
    strength: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.strength:g}" if self.strength else self.kind


HEADS = (Head("means"), Head("ridge", 0.1), Head("ridge", 0.03), Head("logistic", 0.03), Head("logistic", 0.01),
         Head("logistic", 0.003))   # the simplest first
USUAL = Head("logistic", 0.01)  # the best with one to three examples of each class, where they cannot tell


def fit(head: Head, u: np.ndarray, labels: np.ndarray, K: int) -> tuple[np.ndarray, np.ndarray]:
    """weight (K, C) and bias (K,) of a head for directions u (N, C)."""
    if head.kind == "means":
        return class_means(u, labels, K).astype(np.float64), np.zeros(K)
    if head.kind == "ridge":
        _, found = ridge(u, labels, K, head.strength)
    else:
        found = logistic(u, labels, K, head.strength)[0]
    return found[:-1].T, found[-1]


def balanced(labels: np.ndarray, K: int, counted: np.ndarray | None = None) -> np.ndarray:
    """Weights (..., N) that let all classes count alike, 1 if they have as many examples; 0 where not `counted`."""
    counted = np.ones(len(labels)) if counted is None else np.asarray(counted, np.float64)
    of_class = counted @ np.eye(K)[labels]  # ... k
    number = counted.sum(-1, keepdims=True) / np.maximum((of_class > 0).sum(-1, keepdims=True), 1)
    return counted * (number / np.maximum(of_class, 1))[..., labels]


def with_ones(u: np.ndarray) -> np.ndarray:
    return np.concatenate([u, np.ones((len(u), 1))], 1)


def penalty(C: int, strength: float) -> np.ndarray:
    """The diagonal (C + 1,) of the penalty: it spares the bias, but for what keeps the matrix regular."""
    return np.append(np.full(C, strength), 1e-6)


def ridge(u: np.ndarray, labels: np.ndarray, K: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """(inverse (C + 1, C + 1), solution (C + 1, K)) of balanced least squares to one-hot labels."""
    x = with_ones(u)
    weighted = x * balanced(labels, K)[:, None]
    inverse = np.linalg.inv(x.T @ weighted + np.diag(penalty(u.shape[1], strength)))
    return inverse, inverse @ weighted.T @ np.eye(K)[labels]


def logistic(u: np.ndarray, labels: np.ndarray, K: int, strength: float, counted: np.ndarray | None = None,
             steps: int = STEPS) -> np.ndarray:
    """Solutions (R, C + 1, K) of balanced multinomial logistic regression, one for each row of `counted` (R, N).

    Each step solves a quadratic bound of the loss, whose curvature is at most half of X'X (Böhning 1992), with
    Nesterov's momentum.
    """
    x = with_ones(u)
    y = np.eye(K)[labels]
    d = balanced(labels, K, np.ones((1, len(u))) if counted is None else counted)[..., None]    # r n 1
    ridges = penalty(u.shape[1], strength)
    step = np.linalg.inv(0.5 * x.T @ (d * x) + np.diag(ridges))

    w = ahead = np.zeros((len(d), x.shape[1], K))
    t = 1.0
    for _ in range(steps):
        p = np.exp(softened(x @ ahead))
        gradient = x.T @ (d * (p - y)) + ridges[:, None] * ahead
        new = ahead - step @ gradient

        # momentum
        later = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = new + (t - 1) / later * (new - w)
        w, t = new, later
    return w


def span_of(u: np.ndarray) -> np.ndarray:
    """An orthonormal basis (C, R) of the span of u (N, C), R = min(N, C): cosines and penalties are the same in it."""
    if len(u) >= u.shape[1]:
        return np.eye(u.shape[1])
    return np.linalg.qr(u.T)[0]


def softened(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities of logits (..., K)."""
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


# ---------------------------------------------------------------------------------------------------------------------
# Leaving out
# ---------------------------------------------------------------------------------------------------------------------

def rounds_of(labels: np.ndarray, people: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(round (N,) in which each example is left out, -1: never; whether that tells anything (N,)).

    With people, a round leaves out one person: it tells of the classes that others show as well. Without them, or if
    that tells of fewer than half of the examples, a round leaves out one of each class that has several.
    """
    if people is not None:
        shown = {(k, who) for k, who in zip(labels.tolist(), people.tolist(), strict=True)}
        by = np.bincount([k for k, _ in shown])     # how many people show a class
        told = by[labels] > 1
        if 2 * told.sum() >= len(labels):
            return numbered(people), told

    # the examples of each class in turn
    rounds = np.full(len(labels), -1)
    for k in np.unique(labels):
        own = np.flatnonzero(labels == k)
        if len(own) > 1:
            rounds[own] = np.arange(len(own)) % ROUNDS
    return rounds, rounds >= 0


def numbered(people: np.ndarray) -> np.ndarray:
    """People (N,) by numbers from 0 on."""
    return np.unique(people, return_inverse=True)[1]


def leave_one_out(u: np.ndarray, labels: np.ndarray, K: int, head: Head, rounds: np.ndarray) -> np.ndarray:
    """Logits (N, K) of each example by the head that the examples of its round did not teach; 0 in round -1."""
    logits = np.zeros((len(u), K))
    parts = [np.flatnonzero(rounds == r) for r in range(rounds.max(initial=-1) + 1)]
    if head.kind == "means":
        for part in parts:
            rest = np.delete(np.arange(len(u)), part)
            logits[part] = u[part] @ class_means(u[rest], labels[rest], K).T

    # least squares: (I - H)^-1 times the residuals of the part, H its block of the hat matrix
    elif head.kind == "ridge":
        x = with_ones(u)
        y = np.eye(K)[labels]
        inverse, found = ridge(u, labels, K, head.strength)
        weighted = inverse @ (x * balanced(labels, K)[:, None]).T
        for part in parts:
            hat = x[part] @ weighted[:, part]
            logits[part] = y[part] - np.linalg.solve(np.eye(len(part)) - hat, y[part] - x[part] @ found)

    # all rounds side by side
    elif parts:
        counted = np.stack([rounds != r for r in range(len(parts))])
        found = logistic(u, labels, K, head.strength, counted)
        for part, w in zip(parts, found, strict=True):
            logits[part] = with_ones(u[part]) @ w
    return logits


def best_head(u: np.ndarray, labels: np.ndarray, K: int, rounds: np.ndarray,
              told: np.ndarray) -> tuple[Head, np.ndarray, float]:
    """(head, the class that it gives each example while that is left out (N,), -1 where nothing tells it; temperature).

    The simplest head of those that are surest of the right class: by the mean logarithm of its probability, at the best
    temperature.
    """
    named = np.full(len(u), -1)
    if K == 1:
        named[told] = 0
        return HEADS[0], named, 1.0
    if not told.any():
        weight, bias = fit(USUAL, u, labels, K)
        return USUAL, named, temperature_of(u @ weight.T + bias, labels, DOUBT, BETWEEN)

    # few examples cannot choose
    best = None
    for head in HEADS if told.sum() >= MANY * K else (USUAL,):
        logits = leave_one_out(u, labels, K, head, rounds)[told]
        temperature = temperature_of(logits, labels[told], 1 / (len(logits) + 2), BETWEEN)
        sure = softened(logits / temperature)[np.arange(len(logits)), labels[told]].mean()
        if best is None or sure > best[0] + TIE:
            best = sure, head, logits.argmax(1), temperature
    _, head, named[told], temperature = best
    return head, named, temperature


# ---------------------------------------------------------------------------------------------------------------------
# Declining
# ---------------------------------------------------------------------------------------------------------------------

def new_clips(u: np.ndarray, labels: np.ndarray, means: np.ndarray, rounds: np.ndarray, told: np.ndarray,
              copies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(directions (Q, C), cosine to the nearest class (Q,)) of clips that did not make the class means.

    They are the examples that can be left out. If there are none, copies (D, C).
    """
    if not told.any():
        return copies, nearest(copies, means)
    return u[told], leave_one_out(u, labels, len(means), HEADS[0], rounds)[told].max(1)


def threshold_for(own: np.ndarray, gap: float) -> float:
    """The least likeness of a clip of the classes, from cosines (Q,) of left-out examples to the nearest class.

    gap: of the network, 1 - the mean cosine of the means of two of the classes that it was trained on.
    """
    most = 1 - LOOSE * gap
    return max(-1.0, min(most, lowest(own, ALIKE)) if len(own) else most)


def lowest(x: np.ndarray, kept: float) -> float:
    """The value that at least this share of x (Q,) reaches."""
    return float(np.quantile(x, 1 - kept, method="lower"))


def offset_for(known: np.ndarray, other: np.ndarray) -> float:
    """What is added to the cosine to something else, before it is compared with that to the nearest class.

    From the leads of the classes: of new clips that show one (Q,), and of clips that show none (S,). Most of the latter
    are declined, as far as nearly all of the former are spared.
    """
    offset = max(0.0, float(np.quantile(other, TOLD))) if len(other) else 0.0
    return min(offset, lowest(known, SPARED)) if len(known) else offset


def something_else(standing: np.ndarray, nothing: np.ndarray, means: np.ndarray, new: np.ndarray,
                   own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(directions (J, C), offsets (J,)) of people who stand, by their mean, and of each clip of nothing: it is of many
    kinds. new, own: of new_clips."""
    others = np.zeros((0, means.shape[1]))
    offsets = np.zeros(0)
    if len(standing):
        at_rest = class_means(standing, np.zeros(len(standing), int), 1)
        offset = offset_for(own - nearest(new, at_rest), nearest(standing, means) - nearest(standing, at_rest))
        others = np.concatenate([others, at_rest])
        offsets = np.append(offsets, offset)

    # a single clip of nothing shows nothing of the next one
    if len(nothing):
        lead = nearest(nothing, means) - but_itself(nothing @ nothing.T).max(1)
        offset = offset_for(own - nearest(new, nothing), lead[:len(lead) if len(lead) > 1 else 0])
        others = np.concatenate([others, nothing])
        offsets = np.append(offsets, np.full(len(nothing), offset))
    return others, offsets


def but_itself(cosines: np.ndarray) -> np.ndarray:
    """Cosines to clips, -2 where a clip meets itself or its copy."""
    return np.where(cosines > 1 - 1e-6, -2.0, cosines)


# ---------------------------------------------------------------------------------------------------------------------
# Teaching
# ---------------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Taught:
    """A last layer, what declines a clip, and what was seen while it was made."""
    head: Head
    weight: np.ndarray      # k c
    bias: np.ndarray        # k
    temperature: float
    scale: np.ndarray       # c
    means: np.ndarray       # k c: unit vectors
    threshold: float
    others: np.ndarray      # j c: unit vectors of what is none of the classes
    offsets: np.ndarray     # j: added to the cosines to them
    left_out: np.ndarray    # n: the class that an example is given while it is left out; -1: nothing tells it
    by_people: bool         # whether all of a person's were left out at a time
    kept: float             # share of left-out examples, or of copies, that are not declined; NaN without any
    declined: dict[str, float]  # share of `standing`, and of `nothing` as new clips; NaN without any

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(N, K) of features (N, C)."""
        return softmax((directions(features, self.scale) @ self.weight.T + self.bias) / self.temperature)

    def likeness(self, features: np.ndarray) -> np.ndarray:
        """(N,) of features (N, C): a clip below the threshold is none of the classes."""
        u = directions(features, self.scale)
        return limited(nearest(u, self.means), nearest(u, self.others, self.offsets), self.threshold)


def directions(features: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Unit vectors (N, C) of features (N, C) times their scale."""
    return unit_vectors(np.asarray(features, np.float64) * scale)


def nearest(u: np.ndarray, to: np.ndarray, offsets: np.ndarray | float = 0.0) -> np.ndarray:
    """The largest of the cosines of u (N, C) to unit vectors (J, C), each plus its offset: (N,); -2 without any."""
    return (u @ to.T + offsets).max(1, initial=-2.0)


def limited(own: np.ndarray, other: np.ndarray, threshold: float) -> np.ndarray:
    """Likeness (N,) to the classes: `own`, or less, so that a clip that is more like `other` is below the threshold."""
    return np.minimum(own, threshold + own - other)


def teach(features: np.ndarray, labels: np.ndarray, K: int, gap: float, scale: np.ndarray | None = None,
          standing: np.ndarray | None = None, nothing: np.ndarray | None = None, copies: np.ndarray | None = None,
          people: np.ndarray | None = None) -> Taught:
    """The recogniser of examples: features (N, C) and labels (N,), at least one of each class.

    gap: of the network (threshold_for). scale: of the features (C,), by default from the examples. standing: features
    (S, C) of people who stand. nothing: features (M, C) of clips that show none of the classes. copies: features (D, C)
    of the examples, damaged: they tell what is kept if every class has only one example. people: numbers (N,) of who
    moves, if that is known.
    """
    scale = scale_of(features) if scale is None else np.asarray(scale, np.float32)
    none = np.zeros((0, len(scale)))
    u, standing, nothing, copies = (none if x is None else directions(x, scale)
                                    for x in (features, standing, nothing, copies))

    # the last layer, which lies in the span of the examples: fewer numbers than features
    rounds, told = rounds_of(labels, people)
    basis = span_of(u)
    inside = u @ basis
    head, left_out, temperature = best_head(inside, labels, K, rounds, told)
    weight, bias = fit(head, inside, labels, K)
    weight = weight @ basis.T

    # what is alike enough, and not more like something else
    means = class_means(u, labels, K)
    new, own = new_clips(u, labels, means, rounds, told, copies)
    by_people = people is not None and np.array_equal(rounds, numbered(people))
    threshold = threshold_for(own if told.any() else own[:0], gap)
    others, offsets = something_else(standing, nothing, means, new, own)

    # how many that keeps and declines
    kept = limited(own, nearest(new, others, offsets), threshold) >= threshold
    declined = {}
    to_others = {"standing": nearest(standing, others, offsets),
                 "nothing": (but_itself(nothing @ others.T) + offsets).max(1, initial=-2.0)}
    for kind, clips in (("standing", standing), ("nothing", nothing)):
        likeness = limited(nearest(clips, means), to_others[kind], threshold)
        declined[kind] = float((likeness < threshold).mean()) if len(clips) else float("nan")
    return Taught(head, weight, bias, temperature, scale, means, threshold, others, offsets, left_out, by_people,
                  float(kept.mean()) if len(kept) else float("nan"), declined)
