"""Runs: stores against recipes, splits, what result.json says, and what happens if a run is started again."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from last import load_checkpoint
from phases.training import run_folder
from phases.training.clip_store import ClipStore, splits
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.clip_stores import QUICK, RUN, write_store


def content(folder) -> dict:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def complaint(run, *argv) -> str:
    """The one line with which phase 1 refuses; it has written nothing."""
    before = content(Path.cwd())
    with pytest.raises((ValueError, OSError)) as e:
        run(*argv)
    assert "\n" not in str(e.value) and content(Path.cwd()) == before
    return str(e.value)


# --- stores against recipes ---

@pytest.mark.parametrize("argv, words", [
    (["data.skeleton=kinect20"], ["data.skeleton", "'kinect20'", "'ntu25'"]),
    (["data.num_classes=2"], ["clip002", "label 2", "0 to 1"]),
    (["data.num_classes=5"], ["data.num_classes = 5", "has 3"]),
    (["data.split=xviw"], ["data.split = 'xviw'", "did you mean 'xview'?"]),
    (["data.store=nowhere"], ["nowhere", "just phase0"]),
    (["data.validate.subjct=[1]"], ["data.validate.subjct", "did you mean 'subject'?"]),
    (["data.validate.subject=[3]"], ["holds out 0 of 12"]),
    (["data.validate.subject=[1, 2]"], ["holds out 12 of 12"]),
    (["device=gpu"], ["gpu"]),
], ids=lambda x: x[0])
def test_what_cannot_be_trained_is_one_line(argv, words, phase1):
    line = complaint(phase1, *argv)
    assert all(w in line for w in words), line


def altered(folder, arrays=None, meta=None):
    """A tiny store with other arrays in clips.npz, or other entries in meta.json."""
    write_store(folder)
    if arrays:
        with np.load(folder / "clips.npz") as z:
            clips = dict(z)
        np.savez(folder / "clips.npz", **{**clips, **{k: f(clips[k]) for k, f in arrays.items()}})
    m = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**m, **(meta or {})}))
    return f"data.store={folder}"


@pytest.mark.parametrize("change, words", [
    ({"meta": {"protocols": {"xsub": {"field": "subject", "test": [9]}}}}, ["no clip", "test side", "9"]),
    ({"meta": {"protocols": {"xsub": {"field": "subject", "train": [9]}}}}, ["no clip", "training side"]),
    ({"arrays": {"label": lambda x: np.where(np.arange(len(x)) == 4, -1, x)}}, ["clip004", "label -1"]),
], ids=["no test clip", "no training clip", "negative label"])
def test_a_store_that_does_not_fit_is_one_line(change, words, phase1, tmp_path):
    line = complaint(phase1, altered(tmp_path / "odd", **change))
    assert all(w in line for w in words), line


@pytest.mark.parametrize("name", ["clips.npz", "frames.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["half", "empty", "text"])
def test_a_damaged_store_is_one_line(name, damage, phase1, tmp_path):
    odd = write_store(tmp_path / "odd")
    whole = (odd / name).read_bytes()
    (odd / name).write_bytes({"half": whole[:len(whole) // 2], "empty": b"", "text": b"text"}[damage])
    assert "odd" in complaint(phase1, f"data.store={odd}")


RULES = ({"field": "name", "train": 3}, {"field": "subject"}, {"field": "offset", "train": [1]}, {"train": [1]}, 2.5)
ODD_STORES = {
    "a column is lost": {"arrays": {"subject": None}},
    "labels are text": {"arrays": {"label": lambda x: x.astype("S2")}},
    "labels are floats": {"arrays": {"label": lambda x: x * 1.0}},
    "a column is short": {"arrays": {"camera": lambda x: x[1:]}},
    "a column is one number": {"arrays": {"length": np.sum}},
    "names are a table": {"arrays": {"name": lambda x: x.reshape(2, -1)}},
    "a clip has no frame": {"arrays": {"length": lambda x: x * 0}},
    "a clip begins before all": {"arrays": {"offset": lambda x: x - 2}},
    "a clip has 2**62 frames": {"arrays": {"length": lambda x: x + 2**62}},
    "frames are of half precision": {"frames": lambda x: x.astype(np.float16)},
    "frames are one number": {"frames": np.sum}, "frames have other joints": {"frames": lambda x: x[:, 1:]},
    "classes are numbers": {"meta": {"classes": [1, 2, 3]}}, "classes are text": {"meta": {"classes": "abc"}},
    "an infinite parent": {"meta": {"skeleton": {"joints": ["a"] * 2, "parents": [0, 1e999], "regions": {}}}},
    "meta is a list": {"meta": {"protocols": []}},
    **{f"the rule {rule}": {"meta": {"protocols": {"xsub": rule}}} for rule in RULES}}


@pytest.mark.parametrize("odd", ODD_STORES)
def test_a_store_that_holds_something_else_is_damaged(odd, tmp_path):
    change = ODD_STORES[odd]
    altered(tmp_path / "odd", meta=change.get("meta"))
    with np.load(tmp_path / "odd" / "clips.npz") as z:
        clips = {k: change["arrays"][k](v) if change.get("arrays", {}).get(k) else v for k, v in z.items()
                 if change.get("arrays", {}).get(k, 1)}
    np.savez(tmp_path / "odd" / "clips.npz", **clips)
    if "frames" in change:
        np.save(tmp_path / "odd" / "frames.npy", change["frames"](np.load(tmp_path / "odd" / "frames.npy")))
    with pytest.raises(ValueError, match=r"odd is damaged \(.*\): run phase 0 again$"):
        ClipStore(tmp_path / "odd")


def test_damaged_scores_of_a_run_are_one_line_that_names_them(tmp_path):
    good = {"name": np.array(["a", "b"]), "logits": np.zeros((2, 3), np.float32)}
    np.savez(tmp_path / "scores.npz", **good)
    assert run_folder.read_scores(tmp_path)[0] == ["a", "b"]
    for change in ({"logits": np.zeros((3, 3), np.float32)}, {"logits": np.zeros((2, 3), np.int64)},
                   {"name": np.zeros(())}, {"name": np.array([{}], object)}):
        np.savez(tmp_path / "scores.npz", **{**good, **change})
        with pytest.raises(ValueError, match="scores.npz: "):
            run_folder.read_scores(tmp_path)
    (tmp_path / "scores.npz").write_bytes((tmp_path / "scores.npz").read_bytes()[:-30])
    with pytest.raises(ValueError, match="scores.npz: "):
        run_folder.read_scores(tmp_path)


def test_a_store_of_one_body_cannot_show_two(phase1, tmp_path):
    one = altered(tmp_path / "one", {"offset": lambda x: x[:, :1]})
    assert "view.bodies = 2" in complaint(phase1, one, "view.bodies=2")


# --- splits ---

def test_validation_clips_are_taken_from_the_training_side(store):
    clips, cfg = ClipStore(store), load_config([*QUICK, "data.validate.subject=[2]"])
    train, held, test = splits(clips, cfg)
    assert set(clips.clips["subject"][train]) == {1} and set(clips.clips["subject"][held]) == {2} and len(held)
    with pytest.raises(ValueError, match="data.validate.offset: no such field"):
        splits(clips, load_config([*QUICK, "data.validate.offset=[0]"]))
    whole, none, same = splits(clips, load_config(QUICK))
    assert sorted([*train, *held]) == whole.tolist() and not len(none) and same.tolist() == test.tolist()


# --- results ---

def test_the_reported_accuracies_equal_a_recount_from_the_scores(done, store):
    z, result = np.load(done / "scores.npz"), json.loads((done / "result.json").read_text())
    clips = ClipStore(store)
    hit, test = z["logits"].argmax(1) == z["label"], clips.split("xsub")[1]
    for key in ("name", "label"):
        assert z[key].tolist() == clips.clips[key][test].tolist()
    assert result["clips"] == len(test) == 12 and result["top1"] == pytest.approx(100 * hit.mean())
    clean = z["label"] != 0
    assert result["clips_clean"] == clean.sum() < 12 and result["top1_clean"] == pytest.approx(100 * hit[clean].mean())
    assert 0 <= result["top1_causal"] <= 100 and result["top5"] == 100  # of three classes
    assert np.trace(result["confusion"]) == hit.sum() and len(result["per_class"]) == 3


def test_the_result_describes_the_network_and_the_run(done):
    result = json.loads((done / "result.json").read_text())
    model = build_model(load_config([*QUICK]), SKELETONS["ntu25"], 3)
    assert result["params"] == sum(p.numel() for p in model.parameters()) and result["macs"] > 1e5
    assert result["streams"] == len(model.streams)
    run_of = [result[key] for key in ("recipe", "dataset", "split", "seed", "epochs")]
    assert run_of == ["lite_nano", "tiny", "xsub", 0, 2]
    assert result["command"].startswith("just phase1 recipe=lite_nano")
    assert {"device", "commit", "seconds"} <= result.keys()


def test_a_result_has_no_clean_or_causal_top1_by_itself(phase1):
    assert phase1("train.epochs=1") == 0
    assert not {"top1_clean", "top1_causal"} & json.loads(Path(RUN, "result.json").read_text()).keys()


# --- run again ---

def test_run_again_a_finished_run_says_so_and_changes_nothing(phase1, capsys):
    phase1("train.epochs=1")
    before = content(Path.cwd())
    capsys.readouterr()
    assert phase1("train.epochs=1") == 0 and "already done" in capsys.readouterr().out
    assert content(Path.cwd()) == before


@pytest.mark.parametrize("finished", [True, False])
def test_another_recipe_in_the_folder_of_a_run_is_refused(finished, phase1):
    phase1("train.epochs=1")
    if not finished:
        for name in ("final.pt", "scores.npz", "result.json"):
            Path(RUN, name).unlink()
    line = complaint(phase1, "train.epochs=1", "train.lr=0.25")
    assert "train.lr was 0.05, is 0.25" in line and "out=" in line


def test_a_final_pt_that_was_moved_away_is_made_again(phase1):
    phase1("train.epochs=1")
    want = load_checkpoint(f"{RUN}/final.pt")["model"]
    Path(RUN, "final.pt").unlink()
    assert phase1("train.epochs=1") == 0
    again = load_checkpoint(f"{RUN}/final.pt")["model"]
    assert all(torch.equal(again[k], want[k]) for k in want)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("change", ["classes", "sides"])
def test_a_run_does_not_go_on_with_other_clips(change, finished, phase1, store, tmp_path):
    phase1("train.epochs=1")
    if not finished:
        for name in ("final.pt", "scores.npz", "result.json"):
            Path(RUN, name).unlink()
    anew = tmp_path / "anew"
    shutil.copytree(store, anew)
    if change == "classes":
        meta = json.loads((anew / "meta.json").read_text())
        (anew / "meta.json").write_text(json.dumps({**meta, "classes": meta["classes"][::-1]}))
    else:
        with np.load(store / "clips.npz") as z:
            clips = dict(z)
        clips["subject"] = clips["subject"] % 4 + 1
        np.savez(anew / "clips.npz", **clips)
    line = complaint(phase1, "train.epochs=1", f"data.store={anew}")
    assert ("a finished run on other clips, labels or classes" if finished else "(clips was '") in line


@pytest.mark.parametrize("lost", [b"", None])
def test_a_finished_run_does_not_need_its_last_pt(lost, phase1, capsys):
    phase1("train.epochs=1")
    last = Path(RUN, "last.pt")
    last.unlink() if lost is None else last.write_bytes(lost)
    capsys.readouterr()
    assert phase1("train.epochs=1") == 0 and "already done" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["result.json", "recipe.json"])
def test_a_damaged_json_of_a_run_is_named(name, phase1):
    phase1("train.epochs=1")
    Path(RUN, name).write_text("{")
    assert f"{name}: is no JSON" in complaint(phase1, "train.epochs=1")
