"""The clip store: the sides of a split, and stores that are damaged."""
import numpy as np
import pytest

from phases.training.batches import Batches
from phases.training.clip_store import ClipStore, known_of, splits, unknown_clips
from phases.training.recipe import Config, load_config
from phases.training.view import ClipView
from tests.helpers.views import WILD


@pytest.fixture
def store(tmp_path, make_store) -> ClipStore:
    return ClipStore(make_store(tmp_path / "store"))


@pytest.mark.parametrize("name, sides", [("xsub", ("subject", {1, 2})), ("xview", ("camera", {2, 3}))])
def test_split_is_the_rule_and_leaves_no_clip_on_both_sides(store, name, sides):
    (field, values), (train, test) = sides, store.split(name)
    assert set(store.clips[field][train]) == values and not set(store.clips[field][test]) & values
    assert sorted([*train, *test]) == list(range(24))


def test_split_by_test_side_alone_trains_on_the_complement(store):
    store.protocols = {"one": {"field": "subject", "test": [3]},
                       "two": {"field": "subject", "train": [1], "test": [3]}}
    assert [set(store.clips["subject"][side]) for side in store.split("one")] == [{1, 2, 4}, {3}]
    assert [set(store.clips["subject"][side]) for side in store.split("two")] == [{1}, {3}]


def test_the_split_all_trains_and_tests_on_every_clip(store):
    assert [side.tolist() for side in store.split("all")] == [list(range(24))] * 2


@pytest.mark.parametrize("name, words", [("xsup", "did you mean 'xsub'"), ("nobody", "no clip .* training side")])
def test_bad_split_says_what_is_wrong(store, name, words):
    store.protocols["nobody"] = {"field": "subject", "train": [99]}
    with pytest.raises(ValueError, match=words):
        store.split(name)


def test_store_that_is_absent_or_cut_short_is_one_clear_error(tmp_path, make_store):
    with pytest.raises(ValueError, match="no clip store.*just phase0"):
        ClipStore(tmp_path)
    for name in ("frames.npy", "clips.npz", "meta.json"):
        folder = make_store(tmp_path / name)
        (folder / name).write_bytes((folder / name).read_bytes()[:-40 if name != "frames.npy" else -4000])
        with pytest.raises(ValueError, match="damaged.*phase 0"):
            ClipStore(folder)


def test_reading_through_a_store_leaves_its_files_as_they_were(tmp_path, make_store):
    folder = make_store(tmp_path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    list(Batches(ClipView(ClipStore(folder), WILD), np.arange(24), 5, True)())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


# --- classes that are kept from a network ---

def config(*words: str) -> Config:
    return load_config(["recipe=lite_nano", "data.name=tiny", "data.num_classes=3", "data.split=xsub", *words])


@pytest.mark.parametrize("unknown", [[0], [2], []])
def test_unknown_classes_are_on_no_side_and_tell_their_test_clips(store, unknown):
    cfg = config(f"data.unknown={unknown}", "data.validate.subject=[2]")
    sides = splits(store, cfg)
    train, test = store.split("xsub")
    label = store.clips["label"]
    for part, whole in zip(sides, (train[store.clips["subject"][train] == 1], train[store.clips["subject"][train] == 2],
                                   test), strict=True):
        assert part.tolist() == [i for i in whole if label[i] not in unknown]
    assert unknown_clips(store, cfg).tolist() == [i for i in test if label[i] in unknown]


def test_clips_of_known_classes_keep_their_order_and_numbers(store):
    clips = np.array([5, 3, 4, 0])
    assert known_of(store, clips, config("data.unknown=[1]")).tolist() == [5, 3, 0]  # clip i has label i mod 3
    assert known_of(store, clips, config()).tolist() == [5, 3, 4, 0]


@pytest.mark.parametrize("unknown", [[0, 1], [0, 1, 2]])
def test_two_classes_at_least_are_known(store, unknown):
    with pytest.raises(ValueError, match=r"^data.unknown = \[0, 1.*: fewer than two classes are left to tell apart$"):
        splits(store, config(f"data.unknown={unknown}"))
