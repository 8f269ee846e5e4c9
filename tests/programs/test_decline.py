"""decline.py: what a file keeps and declines, by hand on a tiny store; results hold a line per classes and seed."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from phases import decline
from phases.common.files import ROOT
from phases.recordings.strangers import sitting, standing
from phases.shipping import verify
from phases.shipping.declining import Declining, class_means
from phases.shipping.exported import Answer, ExportedModel
from phases.shipping.verify import declining_of, network_outputs
from phases.training.clip_store import ClipStore, clip_joints, splits
from phases.training.networks import load_run
from phases.training.parts import Parts
from phases.training.recipe import load_config
from phases.training.view import ClipView
from tests.helpers.clip_stores import write_store
from tests.helpers.programs import call
from tests.helpers.shipped import ship

TINY = '[data]\nname = "tiny"\nreader = "arrays"\nnum_classes = 3\nstore = "{}"\n'
OTHER = TINY.replace("tiny", "other") + 'skeleton = "{}"\n'
UNKNOWN = ["data=tiny.toml", "data.unknown=[2]"]  # 16 of 24 test clips are of the other classes


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return ship(tmp_path_factory.getbasetemp())


@pytest.fixture
def here(shipped, tmp_path, monkeypatch) -> Path:
    """A folder with recipes of two data sets, and model.onnx, which says that it was trained without class 2."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY.format(shipped.folder / "stores" / "tiny"))
    write_as(shipped, "model.onnx", unknown="[2]")
    return tmp_path


def write_as(shipped, name: str, **says: str) -> None:
    """The shipped file with other metadata; an empty text: without this key."""
    model = onnx.load(shipped.export / "model.onnx")
    kept = {prop.key: prop.value for prop in model.metadata_props} | says
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {key: value for key, value in kept.items() if value})
    onnx.save(model, name)


def other_store(skeleton: str, *classes: str) -> None:
    """A data set other.toml of these classes."""
    folder = write_store(Path("stores/other"), skeleton, seed=5)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"classes": list(classes), "dataset": "other"}))
    Path("other.toml").write_text(OTHER.format(folder, skeleton))


def written(name: str = "results/decline-lite_nano--tiny-xsub.json") -> dict:
    return json.loads(Path(name).read_text())


def share_above(known: list[float], strangers: list[float]) -> float:
    """The naive reference of AUROC."""
    won = [1.0 if a > b else 0.5 if a == b else 0.0 for a in known for b in strangers]
    return sum(won) / len(won)


# --- figures ---

def test_the_figures_are_those_of_the_files_own_answers(shipped, here, capsys):
    """Every clip is asked about here as well, and counted one by one."""
    other_store("ntu25", "jump", "swing the bat", "kick")
    call(decline, "model=./model.onnx", *UNKNOWN, "others=other.toml")
    (line,) = written()["runs"]

    model = ExportedModel(Path("model.onnx"))
    store = ClipStore(shipped.folder / "stores" / "tiny")
    theirs = ClipStore("stores/other")
    test = store.split("xsub")[1]
    label = store.clips["label"]
    asked = {
        "known": [i for i in test if label[i] != 2],
        "unknown classes": [clip_joints(store, i) for i in test if label[i] == 2],
        "another data set": [clip_joints(theirs, i) for i in theirs.split("xsub")[1] if theirs.clips["label"][i] != 1]}
    asked["people who stand"] = [standing(clip_joints(store, i), str(store.clips["name"][i])) for i in asked["known"]]
    right = [model(clip_joints(store, i)).argmax() == label[i] for i in asked["known"]]
    asked["known"] = [clip_joints(store, i) for i in asked["known"]]
    alike = {kind: [model.answer(clip).likeness for clip in clips] for kind, clips in asked.items()}
    sure = {kind: [model(clip).max() for clip in clips] for kind, clips in asked.items()}
    known = alike.pop("known")

    # what is kept, and of what
    assert line["kept"] == round(100 * sum(v >= model.threshold for v in known) / len(known), 2)
    assert line["clips"] == len(known) == 16 and line["top1"] == round(100 * float(np.mean(right)), 3)
    assert (line["seed"], line["unknown"], line["threshold"]) == (3, [2], model.threshold) and "commit" in line

    # each kind of stranger; nobody sits down here
    cut = np.percentile(known, 5)
    assert sum(v < cut for v in known) <= 0.05 * len(known) + 1 and set(line["strangers"]) == set(alike)
    for kind, values in alike.items():
        assert line["strangers"][kind] == {
            "clips": len(values), "auroc": round(share_above(known, values), 4),
            "declined": round(100 * sum(v < model.threshold for v in values) / len(values), 2),
            "declined_at_95": round(100 * sum(v < cut for v in values) / len(values), 2),
            "auroc_probability": round(share_above(sure["known"], sure[kind]), 4)}

    said = capsys.readouterr().out
    assert said.startswith(f"lite_nano: {line['kept']:.1f} % of 16 known clips kept; declined: unknown classes ")
    first = line["strangers"]["unknown classes"]
    assert f"unknown classes {first['declined']:.0f} % (AUROC {first['auroc']:.3f})" in said


@pytest.mark.parametrize("known, strangers, want", [
    ([3, 4], [1, 2], 1.0), ([1, 2], [3, 4], 0.0), ([1, 1], [1], 0.5), ([1, 2, 3], [2], 0.5),
    ([2], [1, 2, 3, 3], 0.375)])
def test_auroc_by_hand(known, strangers, want):
    assert decline.auroc(np.array(known), np.array(strangers)) == want


@pytest.mark.parametrize("seed", range(8))
def test_auroc_is_that_of_a_double_loop_ties_counting_half(seed):
    rng = np.random.default_rng(seed)
    known, strangers = rng.integers(0, 6, rng.integers(1, 30)), rng.integers(0, 5, rng.integers(1, 30))
    assert decline.auroc(known, strangers) == pytest.approx(share_above(known.tolist(), strangers.tolist()))


def test_shares_by_hand_a_likeness_at_the_threshold_is_kept():
    class Model:
        threshold = 0.5

    def answers(*likeness: float) -> list[Answer]:
        return [Answer(np.array([v, 1 - v]), np.zeros(3), v) for v in likeness]

    got = decline.judged(Model(), answers(0.5, 0.9, 0.4, 0.8), {"strangers": answers(0.5, 0.1)})
    assert got == {"kept": 75.0, "threshold": 0.5, "strangers": {"strangers": {
        "clips": 2, "auroc": 0.8125, "declined": 50.0, "declined_at_95": 50.0, "auroc_probability": 0.5}}}


def test_people_sit_where_a_class_ends_so(shipped, here):
    store = ClipStore(shipped.folder / "stores" / "tiny")
    store.classes = ["sit down", "wave", "stand up"]
    cfg = load_config(["recipe=lite_small", *UNKNOWN])
    test = splits(store, cfg)[2]
    found = decline.clips_of_strangers(None, store, cfg, test, "")
    assert list(found) == ["unknown classes", "people who stand", "people who sit"]
    seated = [i for i in test if store.clips["label"][i] == 0]
    for clip, i in zip(found["people who sit"], seated, strict=True):
        assert np.array_equal(clip, sitting(clip_joints(store, i), str(store.clips["name"][i])))


def test_clips_of_another_skeleton_are_turned_into_the_networks(here):
    other_store("kinect20", "jump", "swing the bat", "kick")
    clips = decline.clips_of_others(ExportedModel(Path("model.onnx")), "other.toml")
    theirs = ClipStore("stores/other")
    test = [i for i in theirs.split("xsub")[1] if theirs.clips["label"][i] != 1]
    assert len(clips) == len(test) and all(clip.shape[2:] == (25, 3) for _, clip in clips)


def test_people_who_walk_are_a_kind_where_no_class_is_walking(shipped, here):
    store = ClipStore(shipped.folder / "stores" / "tiny")
    cfg = load_config(["recipe=lite_small", *UNKNOWN])
    test = splits(store, cfg)[2]
    other_store("ntu25", "walk around", "swing the bat", "kick")
    model = ExportedModel(Path("model.onnx"))
    theirs = ClipStore("stores/other")
    walkers = [clip_joints(theirs, i) for i in theirs.split("xsub")[1] if theirs.clips["label"][i] == 0]

    # the other data set's, and those of a class that the network was not taught
    found = decline.clips_of_strangers(model, store, cfg, test, "other.toml")
    assert all(map(np.array_equal, found["people who walk"], walkers)) and len(found["people who walk"]) == len(walkers)
    store.classes = model.classes = ["wave", "kick", "walk"]
    found = decline.clips_of_strangers(model, store, cfg, test, "other.toml")
    assert len(found["people who walk"]) == len(walkers) + len(found["unknown classes"]), "two walks in all"
    swings = int((theirs.clips["label"][theirs.split("xsub")[1]] == 1).sum())
    assert len(found["another data set"]) == swings, "walk and kick are names of the network's own classes"

    # the network knows walking; nobody walks
    store.classes = model.classes = ["walk", "kick", "wave"]
    assert "people who walk" not in decline.clips_of_strangers(model, store, cfg, test, "other.toml")
    store.classes = ["wave", "kick", "sit"]
    assert "people who walk" not in decline.clips_of_strangers(model, store, cfg, test, "")


# --- result files ---

def test_a_line_per_unknown_classes_and_seed(here):
    store = load_config(["recipe=lite_small", *UNKNOWN]).store
    call(decline, "model=./model.onnx", *UNKNOWN, f"data.store={store}")
    table = written()
    assert (table["recipe"], table["dataset"], table["split"]) == ("lite_nano", "tiny", "xsub")
    assert table["command"] == "just decline model=exports/.../model.onnx data=tiny.toml data.unknown=..."

    # the same classes and seed are replaced, others stay
    old = [{**table["runs"][0], "seed": seed, "unknown": unknown, "kept": -1}
           for seed, unknown in ((3, [2]), (3, [1]), (0, [2]), (3, []))]
    Path("results/decline-lite_nano--tiny-xsub.json").write_text(json.dumps(table | {"runs": old}))
    call(decline, "model=./model.onnx", *UNKNOWN)
    assert [(run["seed"], run["unknown"], run["kept"] < 0) for run in written()["runs"]] == [
        (0, [2], True), (3, [], True), (3, [1], True), (3, [2], False)]


def test_clips_that_a_network_has_seen_give_no_result(shipped, here, capsys):
    write_as(shipped, "all.onnx", unknown="[]", split="all")
    call(decline, "model=./all.onnx", "data=tiny.toml", "data.split=all")
    assert capsys.readouterr().out.startswith("lite_nano: ") and not Path("results").exists()


def test_without_a_folder_of_results_nothing_is_written(here, capsys):
    call(decline, "model=./model.onnx", *UNKNOWN, "results=")
    assert "known clips kept" in capsys.readouterr().out and not Path("results").exists()


def test_a_file_that_does_not_tell_its_unknown_classes_is_believed(shipped, here):
    write_as(shipped, "older.onnx", unknown="")
    call(decline, "model=./older.onnx", *UNKNOWN)
    assert written()["runs"][0]["unknown"] == [2]


# --- bad input ---

@pytest.mark.parametrize("words, says", [
    (["model=nowhere.onnx", *UNKNOWN], "nowhere.onnx: no such file"),
    (["model=tiny.toml", *UNKNOWN], "tiny.toml"),
    (["model=./model.onnx", "data=tiny"], "no data set has this name"),
    (["model=./model.onnx", "data=tiny.toml", "data.store=nowhere"], "no clip store in nowhere"),
    (["model=./model.onnx", "data=tiny.toml"], r"data.unknown = \[\]: .* data.unknown=\[2\]: give these"),
    (["model=./model.onnx", "data=tiny.toml", "data.unknown=[1]"], r"was trained with data.unknown=\[2\]: give these"),
    (["model=./model.onnx", "data=tiny.toml", "data.unknown=[7]"], r"data.unknown = \[7\]: the classes .* 0 to 2"),
    (["model=./model.onnx", *UNKNOWN, "data.split=xview"], "may have seen clips that are held out"),
    (["model=./model.onnx", *UNKNOWN, "others=nowhere"], "no data set has this name"),
    (["model=./model.onnx", *UNKNOWN, "others=other.toml"], "joints of hand21 cannot be turned into ntu25"),
    (["data=tiny.toml"], "no model")])
def test_what_cannot_be_judged_is_refused(words, says, here):
    if "others=other.toml" in words:
        other_store("hand21", "jump", "kick", "run")
    with pytest.raises(ValueError, match=says) as e:
        call(decline, *words)
    assert "\n" not in str(e.value) and not Path("results").exists()


def test_a_file_of_other_classes_is_refused(here):
    other_store("ntu25", "jump", "kick", "run")
    with pytest.raises(ValueError, match=r"model.onnx: knows other classes or joints than stores/other has"):
        call(decline, "model=./model.onnx", "data=other.toml")


def test_the_command_line_says_it_in_one_line_with_exit_code_2(here):
    words = [sys.executable, "-m", "phases.decline", "model=./model.onnx", "data=tiny.toml"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=here, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: data.unknown = []: ")
    assert not done.stdout and not Path("results").exists()


# --- what phase 4 measures for it ---

def test_phase_4_measures_declining_on_its_training_clips_alone(shipped, here, monkeypatch):
    """Each clip as it is, for the class means; and damaged as in training, until there are 1,000 of them."""
    model, cfg, _, _ = load_run(shipped.run)
    store = ClipStore(shipped.folder / "stores" / "tiny")
    view = ClipView(store, cfg.view)
    train = store.split("xsub")[0]
    monkeypatch.setattr(verify, "DAMAGED", 60)
    got = declining_of(model, False, view, train)

    clips = [view(torch.from_numpy(train), True, 0, epoch) for epoch in range(3)]
    logits, damaged = network_outputs(model, False, clips)
    features = network_outputs(model, False, [view(torch.from_numpy(train))])[1]
    want = Declining.of(features.numpy(), store.clips["label"][train], 3, damaged.numpy(), logits.numpy())
    assert len(damaged) == 72  # 24 clips, three times
    for field in ("scale", "means", "temperature", "threshold"):
        np.testing.assert_allclose(getattr(got, field), getattr(want, field), rtol=1e-4, atol=1e-5)

    # a test clip has no say
    view.label = view.label.clone()
    view.label[torch.from_numpy(store.split("xsub")[1])] = 0
    assert np.array_equal(declining_of(model, False, view, train).means, got.means)


def test_parts_of_a_map_keep_the_scale_that_they_have(shipped, here):
    """Feature by feature the parts, twenty times as many, would outweigh what the head pools."""
    model, cfg, skeleton, _ = load_run(shipped.run)
    store = ClipStore(shipped.folder / "stores" / "tiny")
    view = ClipView(store, cfg.view)
    train = store.split("xsub")[0]
    parts = Parts.of(model, skeleton, cfg.view.frames)
    got = declining_of(model, False, view, train, parts)

    assert (got.scale == 1).all()
    features = network_outputs(model, False, [view(torch.from_numpy(train))], parts)[1]
    np.testing.assert_allclose(got.means, class_means(features.numpy(), store.clips["label"][train], 3), atol=1e-5)


def test_a_class_that_was_kept_from_training_has_no_mean(shipped, here):
    model, cfg, _, _ = load_run(shipped.run)
    store = ClipStore(shipped.folder / "stores" / "tiny")
    train = splits(store, load_config(["recipe=lite_nano", *UNKNOWN]))[0]
    means = declining_of(model, False, ClipView(store, cfg.view), train).means
    assert not means[2].any() and np.allclose(np.linalg.norm(means[:2], axis=1), 1, atol=1e-5)
