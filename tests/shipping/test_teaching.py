"""Last layers of a few examples: closed forms against naive ones, the choice of a head, and what is declined."""
import time

import numpy as np
import pytest

from phases.shipping.declining import softmax
from phases.shipping.teaching import (
    ALIKE,
    HEADS,
    LOOSE,
    ROUNDS,
    USUAL,
    Head,
    balanced,
    best_head,
    directions,
    fit,
    leave_one_out,
    limited,
    logistic,
    nearest,
    offset_for,
    penalty,
    rounds_of,
    teach,
    threshold_for,
    with_ones,
)

RNG = np.random.default_rng
GAP = 0.9   # of a network


def drawn(K: int = 4, n: int = 5, C: int = 12, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (K n, C) about a centre of each class, of all lengths, and labels in turn."""
    rng = RNG(seed)
    centres = RNG(99).normal(0, 1, (K, C)) + 2
    labels = np.arange(K * n) % K
    features = centres[labels] + rng.normal(0, noise, (K * n, C))
    return features * rng.uniform(0.5, 2, (K * n, 1)), labels


def directed(**how) -> tuple[np.ndarray, np.ndarray]:
    features, labels = drawn(**how)
    return directions(features, np.ones(features.shape[1])), labels


# ---------------------------------------------------------------------------------------------------------------------
# Last layers
# ---------------------------------------------------------------------------------------------------------------------

def test_ridge_is_least_squares_with_a_penalty():
    u, labels = directed(n=6)
    labels[:3] = 0  # no balance: the weights of the examples count
    weight, bias = fit(Head("ridge", 0.1), u, labels, 4)

    # rows for the penalty, below those of the examples
    root = np.sqrt(balanced(labels, 4))[:, None]
    rows = np.concatenate([root * with_ones(u), np.diag(np.sqrt(penalty(12, 0.1)))])
    targets = np.concatenate([root * np.eye(4)[labels], np.zeros((13, 4))])
    want = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(np.vstack([weight.T, bias]), want, atol=1e-8)


def test_the_logistic_head_has_no_gradient_at_its_end():
    u, labels = directed()
    w = logistic(u, labels, 4, 0.01, steps=3000)[0]
    wrong = balanced(labels, 4)[:, None] * (softmax(with_ones(u) @ w) - np.eye(4)[labels])
    gradient = with_ones(u).T @ wrong + penalty(12, 0.01)[:, None] * w
    assert np.abs(gradient).max() < 1e-6


def test_means_are_cosines_to_the_mean_direction():
    u, labels = directed()
    weight, bias = fit(Head("means"), u, labels, 4)
    want = np.stack([u[labels == k].mean(0) / np.linalg.norm(u[labels == k].mean(0)) for k in range(4)])
    np.testing.assert_allclose(weight, want, atol=1e-6)
    assert not bias.any()


def test_classes_count_alike():
    labels = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(balanced(labels, 2), [2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_allclose(balanced(labels, 2, np.array([[1, 0, 1, 1]])), [[0.75, 0, 0.75, 1.5]])


# ---------------------------------------------------------------------------------------------------------------------
# Leaving out
# ---------------------------------------------------------------------------------------------------------------------

def naive(u, labels, K, head, rounds) -> np.ndarray:
    """Each round's examples by a head that is fitted anew without them; ridge keeps the weights that all have."""
    out = np.zeros((len(u), K))
    for r in range(rounds.max() + 1):
        rest = rounds != r
        if head.kind == "ridge":
            d = balanced(labels, K)[rest, None]
            x = with_ones(u[rest])
            found = np.linalg.solve(x.T @ (d * x) + np.diag(penalty(u.shape[1], head.strength)),
                                    x.T @ (d * np.eye(K)[labels[rest]]))
            weight, bias = found[:-1].T, found[-1]
        else:
            weight, bias = fit(head, u[rest], labels[rest], K)
        out[~rest] = u[~rest] @ weight.T + bias
    return out


@pytest.mark.parametrize("head", HEADS, ids=str)
@pytest.mark.parametrize("people", [False, True])
def test_leaving_out_equals_fitting_anew(head, people):
    u, labels = directed(n=6)
    who = np.arange(len(u)) // 9 if people else None  # three people, who do not show the classes equally often
    rounds, told = rounds_of(labels, who)
    assert told.all()
    np.testing.assert_allclose(leave_one_out(u, labels, 4, head, rounds), naive(u, labels, 4, head, rounds), atol=1e-6)


def test_a_round_leaves_out_one_of_each_class():
    labels = np.array([0, 1, 0, 1, 0, 2])
    rounds, told = rounds_of(labels)
    assert rounds.tolist() == [0, 0, 1, 1, 2, -1] and told.tolist() == [True] * 5 + [False]
    assert rounds_of(np.zeros(100, int))[0].max() == ROUNDS - 1


def test_a_person_tells_of_what_others_show_too():
    labels = np.array([0, 1, 0, 1, 2])
    rounds, told = rounds_of(labels, np.array([7, 7, 3, 3, 3]))
    assert rounds.tolist() == [1, 1, 0, 0, 0] and told.tolist() == [True] * 4 + [False]

    # nobody shows what another one does: the examples in turn
    rounds, told = rounds_of(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 3]))
    assert rounds.tolist() == [0, 1, 0, 1] and told.all()


def test_left_out_classes_keep_their_balance():
    # examples without any meaning are named rightly by chance, not less often than that
    rng = RNG(1)
    u = directions(rng.normal(1, 1, (400, 8)), np.ones(8))
    labels = np.arange(400) % 2
    rounds, _ = rounds_of(labels)
    for head in HEADS:
        right = (leave_one_out(u, labels, 2, head, rounds).argmax(1) == labels).mean()
        assert 0.4 < right < 0.6, head


# ---------------------------------------------------------------------------------------------------------------------
# The choice
# ---------------------------------------------------------------------------------------------------------------------

def chosen(u, labels, K) -> Head:
    return best_head(u, labels, K, *rounds_of(labels))[0]


def test_ties_go_to_the_simplest_head():
    u = np.eye(3)[np.arange(30) % 3]  # every head knows them all
    assert chosen(u, np.arange(30) % 3, 3) == HEADS[0]


def test_few_examples_do_not_choose():
    u, labels = directed(n=3)
    assert chosen(u, labels, 4) == USUAL
    u, labels = directed(n=1)
    head, named, _ = best_head(u, labels, 4, *rounds_of(labels))
    assert head == USUAL and (named == -1).all()


def test_a_richer_head_is_chosen_where_means_fail():
    # two classes with the same mean direction: one lies around the other
    rng = RNG(0)
    angle = rng.choice([-0.9, 0.9], 60) + rng.normal(0, 0.05, 60)
    middle = rng.normal(0, 0.05, 60)
    u = np.concatenate([np.stack([np.cos(a), np.sin(a), np.full(60, 0)], 1) for a in (angle, middle)])
    head = chosen(u, np.repeat([0, 1], 60), 2)
    assert head.kind != "means"


# ---------------------------------------------------------------------------------------------------------------------
# Declining
# ---------------------------------------------------------------------------------------------------------------------

def test_nearly_all_left_out_examples_are_kept():
    features, labels = drawn(K=5, n=40, noise=1.0)
    for people in (np.arange(200) // 20, None):
        taught = teach(features, labels, 5, 0.0, people=people)
        assert taught.by_people == (people is not None) and 0.92 <= taught.kept < 1
    assert teach(features, labels, 5, GAP).threshold < taught.threshold, "never stricter than the network's gap"
    assert threshold_for(np.linspace(0, 1, 101), GAP) == pytest.approx(1 - ALIKE, abs=0.011)
    assert threshold_for(np.zeros(0), GAP) == 1 - LOOSE * GAP and threshold_for(np.array([-1.5]), GAP) == -1.0


def test_near_copies_leave_room_for_the_next_take():
    features, labels = drawn(n=1, noise=0.0)
    copies = np.concatenate([features + RNG(k).normal(0, 0.01, features.shape) for k in range(3)])
    taught = teach(copies, np.tile(labels, 3), 4, GAP)
    assert taught.threshold == 1 - LOOSE * GAP, "the copies are more alike than that"
    again, labels = drawn(n=20, noise=0.3, seed=4)
    assert (taught.likeness(again) >= taught.threshold).mean() > 0.9


def test_people_who_stand_are_declined():
    features, labels = drawn(noise=0.3)
    standing = RNG(5).normal(0, 0.1, (20, 12)) + 2
    taught = teach(features, labels, 4, GAP, standing=standing)
    assert taught.declined["standing"] >= 0.95 and taught.kept >= 0.92
    new = RNG(6).normal(0, 0.1, (50, 12)) + 2
    assert (taught.likeness(new) < taught.threshold).mean() > 0.9
    again, _ = drawn(noise=0.3, seed=8)
    assert (taught.likeness(again) >= taught.threshold).mean() > 0.9


def test_what_is_nearer_to_nothing_is_declined():
    features, labels = drawn(K=5, n=6, noise=0.4)
    known = labels < 4
    taught = teach(features[known], labels[known], 4, GAP, nothing=features[~known])
    again, labels = drawn(K=5, n=20, noise=0.4, seed=3)
    kept = taught.likeness(again) >= taught.threshold
    assert kept[labels < 4].mean() > 0.8 and kept[labels == 4].mean() < 0.2
    assert len(taught.others) == (~known).sum()


def test_an_offset_spares_the_classes_first():
    lead = np.linspace(0.1, 1, 100)
    assert offset_for(lead, -lead) == 0, "declined anyway"
    assert offset_for(lead, np.full(10, 0.05)) == pytest.approx(0.05), "raised as far as it costs nothing"
    assert (offset_for(lead, np.full(10, 2.0)) <= lead).mean() >= 0.95
    assert offset_for(lead - 0.2, np.zeros(0)) < 0, "a class that is too near is spared"


def test_likeness_is_below_the_threshold_for_anything_else():
    own = np.array([0.9, 0.9, 0.6])
    other = np.array([0.8, 0.91, 0.2])
    assert (limited(own, other, 0.7) >= 0.7).tolist() == [True, False, False]
    np.testing.assert_array_equal(limited(own, nearest(np.zeros((3, 2)), np.zeros((0, 2))), 0.7), own)


def test_one_example_of_each_class_is_judged_by_copies():
    features, labels = drawn(n=1)
    copies = np.concatenate([features + RNG(k).normal(0, 0.2, features.shape) for k in range(6)])
    taught = teach(features, labels, 4, GAP, copies=copies)
    assert (taught.left_out == -1).all() and -1 < taught.threshold < 1 and taught.kept >= 0.92
    assert (taught.probabilities(copies).argmax(1) == np.tile(labels, 6)).all()
    assert teach(features, labels, 4, GAP).threshold == taught.threshold, "the network tells it"


def test_one_class_alone_is_told_from_standing():
    features, _ = drawn(K=1, n=5, noise=0.2)
    standing = -features
    taught = teach(features, np.zeros(5, int), 1, GAP, standing=standing)
    np.testing.assert_array_equal(taught.probabilities(features), np.ones((5, 1)))
    assert (taught.likeness(standing) < taught.threshold).all() and taught.kept == 1


def test_many_examples_take_no_time():
    features, labels = drawn(K=20, n=5, C=96)
    start = time.process_time()
    teach(features, labels, 20, GAP)
    assert time.process_time() - start < 3  # 0.1 s
