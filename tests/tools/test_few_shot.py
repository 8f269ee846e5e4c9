"""The benchmark of few examples, on tiny stores."""
import json

import numpy as np
import pytest

from phases import pool
from phases.common.files import ROOT
from phases.reporting.blocks_few import few_examples
from phases.reporting.measured import Results
from tests.helpers.clip_stores import write_store
from tests.helpers.programs import call
from tests.tools import few_shot


@pytest.fixture
def pooled(tmp_path, monkeypatch):
    """A pool of two stores under the name of the project's own."""
    monkeypatch.chdir(tmp_path)
    for name, skeleton in (("one", "kinect20"), ("two", "ntu25")):
        meta = write_store(tmp_path / "stores" / name, skeleton) / "meta.json"
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"dataset": name}))
    monkeypatch.setattr(pool, "check_recipe", lambda *_: None)
    call(pool, "stores=one,two")
    return tmp_path


def test_a_set_is_left_out_and_taught_by_a_few(pooled, monkeypatch):
    train = few_shot.training
    monkeypatch.setattr(few_shot, "training",
                        lambda *how: [*train(*how), "data.num_classes=6", "view.frames=8", "device=cpu"])
    words = ["sets=two", "networks=lite_nano", "shots=1,0", "draws=2", "epochs=1", "scratch=0", "out=few-shot.json"]
    assert call(few_shot, *words) == 0
    table = json.loads((pooled / "few-shot.json").read_text())
    rows = table["rows"]
    assert table["training_gains"] == pytest.approx(rows[-1]["top1"] - rows[1]["top1"], abs=0.01)
    assert [row["kind"] for row in rows[::2]] == ["lite_nano", "lite_nano, pooled by its head", "joints",
                                                  "utd_mhad_small.onnx", "lite_nano from scratch"]
    assert {row["draws"] for row in rows if row["shots"]} == {2}
    assert all(row["set"] == "two" and row["tested"] == 12 for row in rows)
    assert {row["examples"] for row in rows} == {3, 12}

    # the network has not seen it
    recipe = json.loads((pooled / "runs/without_two/lite_nano/any-pool/seed0/recipe.json").read_text())
    assert recipe["data"]["unknown"] == [3, 4, 5]

    # what is there is not made again; the table shows it
    before = (pooled / "few-shot.json").read_bytes()
    monkeypatch.setattr(few_shot, "teach", None)
    assert call(few_shot, *words) == 0
    assert (pooled / "few-shot.json").read_bytes() == before
    assert "| two | the joints themselves |" in few_examples(Results(pooled))


def test_networks_are_chosen_by_people_of_the_training_side(pooled):
    store = few_shot.ClipStore(pooled / "stores/any")
    train, test = store.split("pool")
    held = few_shot.held_of(store, "two", "training")
    assert set(held.clips) <= set(train) and not set(held.clips) & set(test)

    # everybody is tested once, by examples of others
    people = store.clips["subject"][held.clips]
    tested = np.concatenate([places for _, places in held.rounds])
    assert np.sort(tested).tolist() == list(range(len(held.clips)))
    for examples, others in held.rounds:
        assert len(examples) and not set(people[examples]) & set(people[others])


def test_a_set_that_does_not_tell_who_moves_chooses_nothing(pooled):
    store = few_shot.ClipStore(pooled / "stores/any")
    for column in ("subject", "setup"):
        store.clips[column][:] = 1
    with pytest.raises(ValueError, match="sets = 'two': does not tell who moves"):
        few_shot.held_of(store, "two", "training")
    assert few_shot.Options(side="training").out.name == "few-shot-choice.json" != few_shot.Options().out.name
    with pytest.raises(ValueError, match="scratch: goes with side=test"):
        call(few_shot, "side=training", "scratch=5")


def test_a_set_that_is_not_in_the_pool_is_one_line(pooled):
    with pytest.raises(ValueError, match="sets = 'three': is not in the pool"):
        call(few_shot, "sets=three")


def test_draws_hold_so_many_of_each_class():
    labels = np.repeat([0, 1, 2], [5, 9, 2])
    for places in few_shot.draws(labels, 3, 4):
        assert np.bincount(labels[places]).tolist() == [3, 3, 2]
    everything, = few_shot.draws(labels, 0, 4)
    assert everything.tolist() == list(range(16))
    assert (ROOT / "recipes" / "any.toml").exists()
