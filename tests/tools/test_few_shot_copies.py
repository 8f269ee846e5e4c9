"""The study of changed copies: what a copy keeps, how copies teach, what is chosen and judged; on made directions."""
import json
from types import SimpleNamespace

import numpy as np
import pytest

from phases.reporting.blocks_few import copies
from phases.reporting.measured import Results
from phases.shipping.declining import unit_vectors
from tests.helpers.programs import call
from tests.tools import few_shot_copies
from tests.tools.few_shot_copies import CANDIDATES, CHANGES, KINDS, LEAD, Options, Side

RNG = np.random.default_rng


def made_side(K: int = 4, n: int = 24, C: int = 30) -> Side:
    """Clips of K classes by the two people of irds and a third one; each change moves a clip along axes of its own."""
    rng = RNG(0)
    labels = np.arange(K * n) % K
    subject = np.array([215, 216, 217])[np.arange(K * n) // K % 3]
    features = rng.normal(0, 1, (K, C))[labels] + rng.normal(0, 0.8, (K * n, C))
    clips = {"label": labels, "subject": subject}
    sides = np.flatnonzero(subject != 217), np.flatnonzero(subject == 217)
    side = Side(SimpleNamespace(clips=clips, split=lambda _: sides),
                SimpleNamespace(about={"dataset": "another"}), np.ones(C), [])
    for i, own in enumerate(features):
        side.found[i, ""] = unit_vectors(own[None])
        for change, ways in CHANGES.items():
            side.found[i, change] = unit_vectors(own + rng.normal(0, 0.3, (len(ways), C)))
    return side


@pytest.mark.parametrize("name", CHANGES)
def test_a_copy_is_the_same_movement(name):
    joints = RNG(1).normal(0, 0.4, (1, 40, 20, 3)) + [0, 1, 3]
    joints[0, 20, 7] = 0
    for change in CHANGES[name]:
        copy = change(joints, RNG(2))
        assert copy.shape[0] == 1 and 30 <= copy.shape[1] <= 40 and copy.shape[2:] == (20, 3)
        assert np.isfinite(copy).all() and not np.array_equal(copy, joints)
        assert (copy[0, :, 7] == 0).all(1).any(), "a missing joint stays missing"
        if "turned" in name:
            np.testing.assert_allclose(copy[..., 1], joints[..., 1], atol=1e-9)
            a, b = (np.linalg.norm(x[0, 9, 3] - x[0, 9, 4]) for x in (copy, joints))
            assert a == pytest.approx(b)

            # not mirrored: the volume that three joints span keeps its sign
            spanned = [np.linalg.det(x[0, 9, 1:4] - x[0, 9, 0]) for x in (copy, joints)]
            assert spanned[0] == pytest.approx(spanned[1])


def test_copies_that_are_no_others_change_nothing():
    u = unit_vectors(RNG(0).normal(0, 1, (12, 8)))
    labels = np.arange(12) % 3
    tested = unit_vectors(RNG(1).normal(0, 1, (200, 8)))
    for head in KINDS:
        alone = few_shot_copies.named_by(head, u[None], labels, tested)
        assert np.array_equal(few_shot_copies.named_by(head, np.stack([u] * 5), labels, tested), alone)


@pytest.mark.parametrize("rows", [60, 20])
def test_the_basis_holds_nearly_all(rows):
    u = unit_vectors(RNG(0).normal(0, 1, (rows, 5)) @ RNG(1).normal(0, 1, (5, 40)))[None]
    basis = few_shot_copies.basis_of(u)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-5)
    assert basis.shape[1] <= 5 and np.square(u @ basis).sum() >= 0.998 * np.square(u).sum()


def test_choice_and_judgement(monkeypatch, tmp_path):
    monkeypatch.setattr(few_shot_copies, "side_of", lambda *_: made_side())
    words = ["sets=irds", "draws=5", f"out={tmp_path / 'few-shot-copies.json'}"]
    assert call(few_shot_copies, *words) == 0
    found = json.loads((tmp_path / "few-shot-copies.json").read_text())
    assert len(found["choice"]) == 3 * len(CANDIDATES) and found["chosen"] in CANDIDATES
    assert {row["number"] for row in found["choice"] if row["copies"] == "none"} == {0}
    of_none = [row["top1"]["logistic 0.01"] for row in found["choice"] if row["copies"] == "none"]
    assert 40 < of_none[0] < of_none[-1] <= 100, "chance is 25, and more examples teach more"
    assert [row["shots"] for row in found["judged"]] == [1, 3, 5]
    assert all(len(points) == 5 for row in found["judged"] for points in row["gains"].values())

    # the page's tables
    text = copies(Results(tmp_path))
    assert f"| {LEAD} | 4 | " in text and "| IntelliRehabDS | another | 5 | " in text

    # what is there is not measured again
    monkeypatch.setattr(few_shot_copies, "choice", None)
    monkeypatch.setattr(few_shot_copies, "judgement", None)
    assert call(few_shot_copies, *words) == 0


def test_the_best_mean_is_chosen():
    rows = [{"copies": name, "top1": {"logistic 0.01": 50.0 + place}} for place, name in enumerate(CANDIDATES)]
    assert few_shot_copies.best_of(rows) == list(CANDIDATES)[-1]
    assert few_shot_copies.best_of([*rows, {"copies": LEAD, "top1": {"logistic 0.01": 99.0}}]) == LEAD


def test_a_network_that_has_seen_the_set_is_refused():
    with pytest.raises(ValueError, match="has seen utd_mhad"):
        few_shot_copies.side_of(Options(without_utd="any"), "utd_mhad")
    with pytest.raises(ValueError, match="is none of utd_mhad, nw_ucla"):
        few_shot_copies.side_of(Options(), "gait")


def test_a_set_without_halves_chooses_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(few_shot_copies, "side_of", lambda *_: made_side())
    with pytest.raises(ValueError, match="none of them chooses"):
        call(few_shot_copies, "sets=nw_ucla", f"out={tmp_path / 'x.json'}")
