"""`just pool`: stores of several data sets become one."""
import json

import numpy as np
import pytest

from phases import p1_train, pool
from phases.training.clip_store import ClipStore
from tests.helpers.clip_stores import UNHURT, write_store
from tests.helpers.programs import call


@pytest.fixture
def stores(tmp_path, monkeypatch):
    """Three stores in the working folder; recipes of pools go into a folder beside them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool, "ROOT", tmp_path)
    (tmp_path / "recipes").mkdir()
    for name, skeleton in (("one", "kinect20"), ("two", "coco17"), ("three", "ntu25")):
        meta = write_store(tmp_path / "stores" / name, skeleton) / "meta.json"
        table = json.loads(meta.read_text()) | {"dataset": name}
        meta.write_text(json.dumps(table))
    return tmp_path


def test_a_network_is_trained_on_the_pool(stores, capsys):
    assert call(pool, "stores=one,two:xview,three:all", "name=both") == 0
    assert "stores/both: 72 clips, 9 classes" in capsys.readouterr().out

    # what a protocol tests on is not trained on
    both = ClipStore(stores / "stores" / "both")
    train, test = both.split("pool")
    for name, split in (("one", "xsub"), ("two", "xview")):
        theirs = ClipStore(stores / "stores" / name).split(split)
        for ours, side in zip((train, test), theirs, strict=True):
            assert np.char.startswith(both.clips["name"][ours], f"{name}/").sum() == len(side)
    assert np.char.startswith(both.clips["name"][train], "three/").sum() == 24
    assert not np.intersect1d(train, test).size

    # the recipe is one that phase 1 takes
    recipe = stores / "recipes" / "both.toml"
    assert call(p1_train, "recipe=lite_nano", f"data={recipe}", "view.frames=8", "train.epochs=1", "device=cpu",
                *UNHURT) == 0
    assert (stores / "runs/lite_nano/both-pool/seed0/result.json").exists()


@pytest.mark.parametrize(("words", "said"), [
    (["stores=one,one"], "one enters twice"),
    (["stores=one,nowhere"], "no clip store in stores/nowhere"),
    (["stores=one:xsbu"], "did you mean 'xsub'"),
    (["stores=one", "name=one"], "this store enters the pool"),
    (["stores=one", "name=lite_nano"], "is another recipe"),
    (["stores=one", "name=any"], "recipes/any.toml is of 88 classes, these stores have 3"),
    (["stores=one", "name=a b"], "letters, digits and _ only"),
])
def test_bad_words_are_one_line(stores, words, said):
    with pytest.raises(ValueError, match=said.replace("(", "[(]")):
        call(pool, *words)
    assert not (stores / "stores" / "any").exists()
    assert not list((stores / "recipes").iterdir())


def test_an_interrupted_pool_leaves_the_old_one(stores, monkeypatch):
    call(pool, "stores=one,two", "name=both")
    before = (stores / "stores/both/frames.npy").read_bytes()

    def stopped(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(pool, "merge", stopped)
    with pytest.raises(KeyboardInterrupt):
        call(pool, "stores=two,three", "name=both")
    assert (stores / "stores/both/frames.npy").read_bytes() == before
    assert not list((stores / "stores").glob("*.partial"))
