"""Teach: a few real clips of each action make a recogniser that works like any exported file, without torch."""
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from phases import info, predict, teach
from phases.recordings.examples import Example
from phases.shipping import quantise
from phases.shipping.exported import ExportedModel, model_file, open_session
from phases.shipping.lessons import Lesson
from phases.shipping.onnx_edit import save_onnx
from phases.shipping.taught import feature_scale, network_gap, taught_graph
from phases.shipping.teaching import teach as taught_by
from tests.helpers.clip_stores import ROOT
from tests.helpers.own_clips import class_folders
from tests.helpers.programs import call

MODEL = "nw_ucla"  # a network that has seen none of UTD-MHAD's people, sensor and actions
ACTIONS = {"wave": 2, "clap": 3, "draw x": 7, "bowling": 11, "squat": 26}


@cache
def packed(folder: Path) -> dict:
    with np.load(folder / "utd-mhad.npz") as file:
        return {key: file[key] for key in file.files}


def clips_of(folder: Path, action: str, people: tuple[int, ...], most: int = 9) -> list[np.ndarray]:
    """Clips (frames, 20, 3) of an action by some people of UTD-MHAD, as many of each."""
    arrays = packed(folder)
    found = []
    for person in people:
        index = np.flatnonzero((arrays["labels"] == ACTIONS[action]) & (arrays["subject"] == person))[:most]
        found += [arrays["data"][arrays["offsets"][i]:arrays["offsets"][i + 1]] for i in index]
    return found


def recordings(data: Path, folder: Path, people: tuple[int, ...] = (1, 3), most: int = 2, **more: str) -> Path:
    """Class folders of ACTIONS with skeleton.json; `more`: {another folder: the action that it shows}."""
    shown = {action: action for action in ACTIONS} | more
    class_folders(folder, **{name: clips_of(data, action, people, most) for name, action in shown.items()})
    skeleton = json.loads((data / "utd-mhad.json").read_text())["skeleton"]
    (folder / "skeleton.json").write_text(json.dumps({"skeleton": skeleton}))
    return folder


@pytest.fixture(scope="module")
def mine(data_folder, tmp_path_factory) -> Path:
    """Two clips of each action by each of two people; only to be read."""
    return recordings(data_folder, tmp_path_factory.mktemp("teach") / "mine")


@pytest.fixture(scope="module")
def taught(mine, tmp_path_factory) -> Path:
    """The file that they teach; only to be read."""
    out = tmp_path_factory.mktemp("taught") / "mine.onnx"
    assert call(teach, f"model={MODEL}", f"raw={mine}", f"out={out}") == 0
    return out


def read(model: ExportedModel, clip: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "one.npy", clip)
    return model.read(folder / "one.npy")


# ---------------------------------------------------------------------------------------------------------------------
# What it knows
# ---------------------------------------------------------------------------------------------------------------------

def test_other_people_are_named_far_better_than_by_chance(taught, mine, data_folder, tmp_path):
    model = ExportedModel(taught)
    assert model.classes == sorted(ACTIONS)
    (tmp_path / "skeleton.json").write_text((mine / "skeleton.json").read_text())
    right, kept = [], []
    for action in ACTIONS:
        for clip in clips_of(data_folder, action, (2, 4, 6)):
            answer = model.answer(read(model, clip, tmp_path))
            right.append(model.classes[answer.probabilities.argmax()] == action)
            kept.append(model.is_known(answer))
    assert np.mean(right) > 0.75 and np.mean(kept) > 0.75  # chance: 0.2


def test_people_who_stand_are_none_of_the_actions(taught, mine, data_folder, tmp_path):
    model = ExportedModel(taught)
    (tmp_path / "skeleton.json").write_text((mine / "skeleton.json").read_text())
    declined = []
    for action in ACTIONS:
        for clip in clips_of(data_folder, action, (2, 4), 1):
            still = np.repeat(clip[:1], 60, 0) + np.random.default_rng(0).normal(0, 0.01, (60, 20, 3))
            declined.append(not model.is_known(model.answer(read(model, still, tmp_path))))
    assert np.mean(declined) > 0.9


def test_the_old_last_layer_is_computed_no_more(taught):
    new, old = (onnx.load(path).graph for path in (taught, model_file(MODEL)))
    made = {output for node in new.node for output in node.output}
    assert "network/logits" not in made and "network/logits" in {o for node in old.node for o in node.output}
    read_by = {name for node in new.node for name in node.input}
    assert all(constant.name in read_by for constant in new.initializer)


@pytest.mark.parametrize("form", ["fp32", "int8", "w8"])
def test_the_file_answers_as_numpy_does(form, tmp_path, mine):
    old = onnx.load(model_file(MODEL + ".int8" * (form == "int8")))
    old = quantise.weight_only(old) if form == "w8" else old
    before = open_session(old.SerializeToString(), form == "w8")
    rng = np.random.default_rng(0)
    clips = [rng.normal(0, 0.3, (1, 30, 20, 3)).cumsum(1).astype(np.float32) * 0.2 for _ in range(12)]
    features = np.stack([before.run(["features"], {"joints": clip})[0] for clip in clips])
    labels = np.arange(12) % 3
    for nothing in (None, features[:2] + 1):
        found = taught_by(features, labels, 3, network_gap(old, Path("x")), feature_scale(old, Path("x")),
                          standing=nothing, nothing=nothing)
        after = open_session(taught_graph(old, found).SerializeToString(), form == "w8")
        for i, clip in enumerate(clips):
            p, same, likeness = after.run(None, {"joints": clip})
            np.testing.assert_allclose(same, features[i], rtol=1e-6)
            np.testing.assert_allclose(p, found.probabilities(features[[i]])[0], atol=1e-5)
            assert float(likeness) == pytest.approx(found.likeness(features[[i]])[0], abs=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# A file like any other
# ---------------------------------------------------------------------------------------------------------------------

def test_its_metadata_tell_what_it_is(taught, capsys):
    about = ExportedModel(taught).about
    story = json.loads(about["taught"])
    assert about["recipe"] == "taught" and about["dataset"] == "mine" and about["top1"] == ""
    assert story["examples"] == dict.fromkeys(sorted(ACTIONS), 4) and story["nothing"] == 0
    assert story["from"]["file"] == "nw_ucla.onnx" and 50 < story["left_out"] <= 100 and story["head"]
    call(info, f"model={taught}")
    assert "names one of 5 actions: bowling, clap, draw x, squat, wave" in capsys.readouterr().out


def test_its_metadata_keep_no_figure_of_the_old_classes(taught):
    old = ExportedModel(model_file(MODEL)).about
    about = ExportedModel(taught).about
    assert about["top1"] == about["declined"] == ""

    # the old last layer of 10 classes is not counted, the new one is
    K, C = len(ACTIONS), len(feature_scale(onnx.load(taught), taught))
    assert int(about["params"]) == int(old["params"]) - 10 * (C + 1) + K * (C + 1)


def test_it_predicts_clips_segments_and_streams(taught, mine, capsys, monkeypatch):
    assert call(predict, f"model={taught}", f"clip={mine}", "format=csv", "top=1") == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(rows) == 20 and np.mean([row[0].startswith(row[2]) for row in rows]) > 0.9
    call(predict, f"model={taught}", f"clip={mine / 'wave' / '0.npy'}", "segments=true")
    assert capsys.readouterr().out

    # frame by frame, in a process of its own
    model = ExportedModel(taught)
    frames = model.read(mine / "wave" / "0.npy")[0]
    lines = "\n".join(json.dumps(frame.tolist()) for frame in [frames[0]] * 30 + [*frames] + [frames[-1]] * 45)
    done = subprocess.run([sys.executable, "-m", "phases.predict", f"model={taught}", "stream=true", "sure=0.3"],
                          input=lines, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_taught_file_teaches_again(taught, mine, tmp_path):
    assert call(teach, f"model={taught}", f"raw={mine}", f"out={tmp_path / 'again.onnx'}") == 0
    first, second = ExportedModel(taught), ExportedModel(tmp_path / "again.onnx")
    assert first.about["gap"] == second.about["gap"], "that of the network, not of what was taught"
    clip = first.read(mine / "clap" / "0.npy")
    np.testing.assert_allclose(first(clip), second(clip), atol=1e-5)


def test_it_needs_no_torch_and_says_what_it_found(mine, tmp_path):
    code = (f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['teach', *sys.argv[1:]]\n"
            "try: runpy.run_module('phases.teach', run_name='__main__', alter_sys=True)\n"
            "finally: print('torch' in sys.modules, 'last' in sys.modules)")
    words = [f"model={MODEL}", f"raw={mine}", f"out={tmp_path / 'mine.onnx'}"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "False False"
    assert [line.split()[0] for line in lines[:3]] == ["saw", "clips", "left"]
    assert lines[0] == "saw      20 clips of 5 classes" and lines[1].startswith("clips    4 bowling, 4 clap, ")
    assert "of 20 clips are named rightly" in lines[2] and "of people who stand" in done.stdout
    assert done.stderr.count("\n") == 1 and "joints of utd20 (m, y up) are turned" in done.stderr, "once for all clips"


# ---------------------------------------------------------------------------------------------------------------------
# Forms of recordings
# ---------------------------------------------------------------------------------------------------------------------

def test_people_in_labels_csv_are_left_out_whole(mine, tmp_path, capsys, data_folder):
    rows = [f"{action}/{i},{action},{'anna' if i < 2 else 'ben'}" for action in ACTIONS for i in range(4)]
    folder = recordings(data_folder, tmp_path / "raw")
    (folder / "labels.csv").write_text("\n".join(["name,label,subject", *rows, "wave/9,wave,ben", "wave/0,jump,ben"]))
    assert call(teach, f"model={MODEL}", f"raw={folder}", f"out={tmp_path / 'a.onnx'}") == 3
    said = capsys.readouterr()
    assert "all of a person's at a time" in said.out and "wave/9: no such file" in said.err
    assert json.loads(ExportedModel(tmp_path / "a.onnx").about["taught"])["by_people"] is True


def test_nothing_is_no_class(data_folder, tmp_path, capsys):
    folder = recordings(data_folder, tmp_path / "raw", Nothing="wave")
    for file in (folder / "wave").iterdir():
        file.unlink()
    (folder / "wave").rmdir()
    assert call(teach, f"model={MODEL}", f"raw={folder}", f"out={tmp_path / 'a.onnx'}") == 0
    assert "16 clips of 4 classes, and 4 of nothing" in capsys.readouterr().out
    model = ExportedModel(tmp_path / "a.onnx")
    assert "Nothing" not in model.classes
    waves = [model.answer(model.read(path)) for path in sorted((folder / "Nothing").iterdir())]
    assert not any(map(model.is_known, waves))


def test_one_clip_of_each_action_is_enough(data_folder, tmp_path, capsys):
    folder = recordings(data_folder, tmp_path / "raw", people=(1,), most=1)
    assert call(teach, f"model={MODEL}", f"raw={folder}", f"out={tmp_path / 'a.onnx'}") == 0
    said = capsys.readouterr().out
    assert "with one clip of each class" in said and "damaged copies" in said
    model = ExportedModel(tmp_path / "a.onnx")
    assert -1 < model.threshold < 1
    named = [model.top(model.read(folder / action / "0.npy"), 1)[0][0] == action for action in ACTIONS]
    assert all(named)


def test_one_action_alone_is_told_from_none(data_folder, tmp_path, capsys):
    folder = recordings(data_folder, tmp_path / "raw")
    for action in set(ACTIONS) - {"wave"}:
        (folder / action).rename(tmp_path / action)
    assert call(teach, f"model={MODEL}", f"raw={folder}", f"out={tmp_path / 'a.onnx'}") == 0
    assert "class alone" in capsys.readouterr().out
    assert ExportedModel(tmp_path / "a.onnx").classes == ["wave"]


def test_the_test_side_of_a_packed_file_does_not_teach(data_folder, tmp_path, capsys):
    # three actions of UTD-MHAD in one file, with a split
    arrays = packed(data_folder)
    index = np.flatnonzero(np.isin(arrays["labels"], [2, 3, 26]) & (arrays["subject"] < 5))
    parts = [arrays["data"][arrays["offsets"][i]:arrays["offsets"][i + 1]] for i in index]
    split = np.where(arrays["subject"][index] % 2, "train", "test")
    columns = {key: arrays[key][index] for key in ("names", "labels", "subject")}
    np.savez(tmp_path / "raw.npz", data=np.concatenate(parts), offsets=np.cumsum([0, *map(len, parts)]), split=split,
             **columns)
    (tmp_path / "raw.json").write_text((data_folder / "utd-mhad.json").read_text())
    assert call(teach, f"model={MODEL}", f"raw={tmp_path / 'raw.npz'}", f"out={tmp_path / 'a.onnx'}", "name=three") == 0
    said = capsys.readouterr().out
    assert f"saw      {(split == 'train').sum()} clips of 3 classes" in said
    assert f"tested   {(split == 'test').sum()} clips of the test side" in said
    assert ExportedModel(tmp_path / "a.onnx").about["dataset"] == "three"


def test_a_damaged_clip_is_named_and_left_out(data_folder, tmp_path, capsys):
    folder = recordings(data_folder, tmp_path / "raw")
    (folder / "wave" / "1.npy").write_bytes(b"nonsense")
    assert call(teach, f"model={MODEL}", f"raw={folder}", f"out={tmp_path / 'a.onnx'}") == 3
    said = capsys.readouterr()
    assert "saw      19 clips of 5 classes; 1 left out" in said.out and "lost     wave/1.npy: " in said.err


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------

def refused(*words: str) -> str:
    with pytest.raises(ValueError) as e:
        call(teach, *words)
    return str(e.value)


def test_a_class_without_a_clip_is_named(data_folder, tmp_path):
    folder = recordings(data_folder, tmp_path / "raw", most=1)
    out = f"out={tmp_path / 'a.onnx'}"
    (folder / "jump").mkdir()
    assert "'jump'" in refused(f"model={MODEL}", f"raw={folder}", out)
    (folder / "jump" / "0.npy").write_bytes(b"nonsense")
    assert "'jump' teaches" in refused(f"model={MODEL}", f"raw={folder}", out)
    for action in ("jump", *ACTIONS):
        (folder / action).rename(tmp_path / action)
    (tmp_path / "wave").rename(folder / "none")
    assert "nothing only" in refused(f"model={MODEL}", f"raw={folder}", out)
    assert not (tmp_path / "a.onnx").exists()


def test_only_a_taught_file_is_replaced(mine, taught, tmp_path):
    precious = tmp_path / "mine.onnx"
    precious.write_bytes(model_file(MODEL).read_bytes())
    given = f"model={MODEL}", f"raw={mine}"
    for path in (precious, tmp_path, tmp_path / "no" / "a.onnx", tmp_path / "a.txt"):
        assert f"out = {path}" in refused(*given, f"out={path}")
    assert precious.read_bytes() == model_file(MODEL).read_bytes()
    precious.write_bytes(taught.read_bytes())
    assert call(teach, *given, f"out={precious}") == 0
    assert "would be lost" in refused(f"model={precious}", f"raw={mine}", f"out={precious}"), "itself"


def test_what_cannot_teach_is_refused(mine, tmp_path):
    out = f"out={tmp_path / 'a.onnx'}"
    assert "no such file" in refused("model=utd_mhda", f"raw={mine}", out)
    assert "no such file or folder" in refused(f"model={MODEL}", f"raw={tmp_path / 'none'}", out)
    assert "which action is each" in refused(f"model={MODEL}", f"raw={mine / 'wave'}", out)

    # a file without the constants of an answer
    old = onnx.load(model_file(MODEL))
    about = {entry.key: entry.value for entry in old.metadata_props}
    for constant in old.graph.initializer:
        constant.name = constant.name.replace("feature_scale", "scale")
    for node in old.graph.node:
        node.input[:] = [name.replace("feature_scale", "scale") for name in node.input]
    save_onnx(old, tmp_path / "old.onnx", about)
    assert "no features to learn from" in refused(f"model={tmp_path / 'old.onnx'}", f"raw={mine}", out)


def test_the_gain_of_training_is_said_if_it_was_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(teach, "FEW_SHOT", tmp_path / "few-shot.json")
    assert teach.training_gain() == ""
    (tmp_path / "few-shot.json").write_text('{"training_gains": 4.25}')
    assert teach.training_gain() == ": by 4.2 points where that was measured"

    # many clips of a class
    lesson = Lesson()
    for k in range(60):
        lesson.add(Example(str(k), "wave", tmp_path), np.zeros((1, 2, 3, 3)), np.zeros(3))
    teach.print_lesson(lesson, Lesson(), ["wave"], [])
    assert "`just adopt` and phase 1" in capsys.readouterr().out
