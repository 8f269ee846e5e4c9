"""The measurement of what is declined and of last layers, on made directions."""
import numpy as np
import pytest

from phases.shipping.declining import unit_vectors
from tests.tools import taught_rules
from tests.tools.taught_rules import Case, Options, Side

RNG = np.random.default_rng


def side(people: int = 4, K: int = 6, spread: float = 0.1) -> Side:
    """Four clips of each action by each person, who do it a little differently; all stand alike."""
    rng = RNG(0)
    labels, who, _ = (x.ravel() for x in np.meshgrid(np.arange(K), np.arange(people), np.arange(4), indexing="ij"))
    styles = rng.normal(0, spread, (people, 30))
    clips = rng.normal(0, 1, (K, 30))[labels] + styles[who] + rng.normal(0, spread / 2, (len(labels), 30))
    standing = rng.normal(0, 1, 30) + styles[who]
    cut = [unit_vectors(clips + rng.normal(0, 0.01, clips.shape)) for _ in range(2)]
    return Side(unit_vectors(clips), unit_vectors(standing), *cut, labels, who)


def test_one_take_needs_the_networks_gap():
    own = side(spread=0.3)
    case = Case("one take", "x", 3, 1, is_one_take=True)
    shares = taught_rules.draw(own, side(K=9), case, 1.0, RNG(0))
    assert shares["spread x 2"][0] < 0.5 < shares["spread x 1, at most network's x 0.4"][0]
    assert all(0 <= share <= 1 for row in shares.values() for share in row) and shares["spread x 2"][1] == 1


def test_other_people_are_judged_or_other_clips():
    classes, teachers, places = taught_rules.drawn(side(), Case("3", "x", 3, 3), RNG(1))
    assert len(classes) == 3 and len(places) == 9 and set(side().people[places]) == set(teachers)
    alone = side(people=1)
    shares = taught_rules.draw(alone, alone, Case("3", "x", 3, 3), 1.0, RNG(1))
    assert shares["gap x 0.6"][0] == pytest.approx(1), "the clip that did not teach"


def test_a_larger_doubt_is_less_sure():
    rows = list(taught_rules.doubts({"x": side(spread=0.3), "few": side(people=1, K=1)}, Options(draws=3)))
    confidence = list(rows[0]["confidence"].values())
    assert confidence == sorted(confidence, reverse=True) and confidence[0] > confidence[-1] + 5
    assert 0 <= min(rows[0]["ece"].values()) and rows[0]["draws"] == 3


def test_heads_are_taught_by_half_of_the_people():
    found = taught_rules.top1(side(), 3, RNG(0))
    assert set(found) == {"means", "ridge", "logistic", "chosen"} and min(found.values()) > 0.8
    assert taught_rules.top1(side(people=1, K=3), 1, RNG(0)), "without people, half of the clips"
    assert not taught_rules.top1(side(people=1, K=60), 10, RNG(0)), "a class has too few"
