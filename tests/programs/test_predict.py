"""Predict: an exported file gives the test split's probabilities without torch, and bad input is named in one line."""
import csv
import io
import json
import lzma
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from phases import predict
from phases.shipping.answers import Who
from phases.shipping.exported import ExportedModel
from phases.shipping.onnx_files import FILES, to_onnx
from phases.training.clip_store import ClipStore
from skeletons import SKELETONS
from tests.helpers.clip_stores import ROOT, rest_pose
from tests.helpers.programs import call, started
from tests.helpers.shipped import Shipped, recorded, ship, stand_in, utd_stand_in
from tests.helpers.untrimmed import person

# What may be missing where a network only predicts; tomllib has tomli's place.
ABSENT = ("torch", "last", "einops", "onnx", "jinja2", "tomli", "tqdm", "matplotlib")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def model(shipped) -> ExportedModel:
    return ExportedModel(shipped.export / "model.onnx")


@pytest.fixture(scope="module")
def clips(shipped, tmp_path_factory) -> Path:
    """The clips of the store's test side as .npy files."""
    store = ClipStore(shipped.folder / "stores" / "tiny")
    folder = tmp_path_factory.mktemp("clips")
    for i in store.split("xsub")[1]:
        np.save(folder / f"{store.clips['name'][i]}.npy", recorded(store, i))
    return folder


def write_bad_clips(folder: Path) -> dict[str, str]:
    """Eight files that are no clip of 25 joints; {name: part of the message}."""
    arrays = {"nineteen.npy": np.ones((5, 19, 3)), "empty.npy": np.zeros((0, 25, 3)),
              "nobody.npy": np.zeros((4, 25, 3)), "nan.npy": np.full((4, 25, 3), np.nan),
              "inf.npy": np.full((4, 25, 3), np.inf)}
    for name, joints in arrays.items():
        np.save(folder / name, joints)

    # another skeleton's, nonsense, and an archive with damaged bytes
    ucla = {"skeletons": np.ones((4, 25, 3)).tolist(), "label": 1}
    (folder / "a01_s01_e00_v01.json").write_text(json.dumps(ucla))
    (folder / "bad.skeleton").write_text("1\n1\nnonsense\n")
    np.savez_compressed(folder / "torn.npz", np.random.default_rng(0).normal(size=(9, 25, 3)))
    torn = bytearray((folder / "torn.npz").read_bytes())
    torn[200:300] = bytes(100)
    (folder / "torn.npz").write_bytes(torn)
    return {"nineteen.npy": "has 19 joints, the model's skeleton 'ntu25' has 25", "empty.npy": "no frame",
            "nobody.npy": "no body in any frame", "nan.npy": "no body in any frame",
            "inf.npy": "not finite", "bad.skeleton": "line 3",
            "a01_s01_e00_v01.json": "has 25 joints, kinect20 has 20", "torn.npz": "damaged"}


def command(*argv: str) -> list[str]:
    """predict.py in a process in which nothing of ABSENT can be imported."""
    code = (f"import sys, runpy; sys.modules.update(dict.fromkeys({ABSENT})); sys.path.insert(0, {str(ROOT)!r}); "
            "runpy.run_module('phases.predict', run_name='__main__', alter_sys=True)")
    return [sys.executable, "-c", code, *argv]


def run(*argv: str, text: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(command(*argv), capture_output=True, text=True, input=text)


# ---------------------------------------------------------------------------------------------------------------------
# Where only numpy and onnxruntime are installed
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", ["fp32", "w8"])
def test_predictions_are_the_test_splits_clip_by_clip(shipped, clips, form):
    done = run(f"model={shipped.export / FILES[form]}", f"clip={clips}", "format=json", "top=3")
    assert done.returncode == 0, done.stderr
    got = {}
    for answer in json.loads(done.stdout):
        got[answer["clip"].removesuffix(".npy")] = {t["label"]: t["probability"] for t in answer["top"]}

    temperature = json.loads((shipped.export / "report.json").read_text())["temperature"]
    with np.load(shipped.run / "scores.npz") as z:
        names = z["name"]
        p = torch.from_numpy(z["logits"] / temperature).softmax(1).numpy()
    assert len(got) == len(names)
    for name, row in zip(names, p, strict=True):
        ours = [got[name][f"swing {k}"] for k in range(3)]
        np.testing.assert_allclose(ours, row, atol=2e-5 if form == "fp32" else 0.05)


def test_frames_on_standard_input_become_an_action(shipped):
    x, times = person(5, 20, [(1, 3)])
    frames = [{"t": t, "joints": frame.tolist()} for t, frame in zip(times.tolist(), x[0], strict=True)]
    lines = "".join(json.dumps(frame) + "\n" for frame in frames)
    done = run(f"model={shipped.export / 'model.onnx'}", "stream=true", "format=json", text=lines)
    assert done.returncode == 0 and "ms each" in done.stderr, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["label"].startswith("swing ") and (last["start"], last["end"]) == pytest.approx((1, 3), abs=0.4)

    # the same without stamps
    bare = "".join(json.dumps(frame["joints"]) + "\n" for frame in frames)
    assert run(f"model={shipped.export / 'model.onnx'}", "stream=true", "format=json", "fps=20",
               text=bare).stdout == done.stdout


def test_each_kind_of_bad_line_is_reported_once(shipped):
    good = json.dumps(np.random.default_rng(0).normal(size=(25, 3)).tolist()) + "\n"
    far = f"[{', '.join(['[Infinity, 0, 0]'] * 25)}]"
    text = "".join(f"{line}\n" for line in ["hello", "[" * 5000, "{}", "7", "[[1, 2, 3]]", far] * 3) + good
    done = run(f"model={shipped.export / 'model.onnx'}", "stream=true", text=text)
    assert done.returncode == 0 and done.stderr.count("standard input, line") == 4, done.stderr

    # bytes that are no text
    argv = command(f"model={shipped.export / 'model.onnx'}", "stream=true")
    done = subprocess.run(argv, input=b"\xff\xfe\n" + good.encode(), capture_output=True)
    assert done.returncode == 0 and b"line 1: is no JSON" in done.stderr and b"1 frame, " in done.stderr


def test_a_bad_clip_is_one_line_and_bad_files_are_skipped(shipped, clips, tmp_path):
    whole = shipped.export / "model.onnx"
    bad = write_bad_clips(tmp_path)
    done = run(f"model={whole}", f"clip={tmp_path / 'nineteen.npy'}")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1

    # one good file among them
    np.save(tmp_path / "good.npy", np.load(sorted(clips.iterdir())[0]))
    done = run(f"model={whole}", f"clip={tmp_path}", "format=csv", "top=1")
    assert done.returncode == 3 and len(done.stdout.splitlines()) == 2
    assert done.stderr.count("skipped:") == len(bad) == 8


def test_ctrl_c_ends_a_stream_with_130_and_its_times(shipped):
    x, _ = person(5, 30, [(1, 3)])
    argv = command(f"model={shipped.export / 'model.onnx'}", "stream=true", "format=json")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(argv, **pipes) as process:
        process.stdin.write("".join(json.dumps(frame.tolist()) + "\n" for frame in x[0]))
        process.stdin.flush()
        assert "swing" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read().split()[1] == "frames,"


def test_a_closed_pipe_ends_it_quietly(shipped, clips):
    argv = command(f"model={shipped.export / 'model.onnx'}", f"clip={clips}")
    with started(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.wait(60) == 128 + signal.SIGPIPE
        assert process.stderr.read() == ""


# ---------------------------------------------------------------------------------------------------------------------
# The answer
# ---------------------------------------------------------------------------------------------------------------------

def test_forms_of_the_answer(model, clips):
    path = sorted(clips.iterdir())[0]
    joints = model.read(path)
    p = model(joints)
    assert p.shape == (3,) and p.sum() == pytest.approx(1, abs=1e-5)

    two = predict.named(model, path, joints, 2, 30)
    rows = predict.answer_text([(Who("a"), two), (Who("b"), two)], "csv").splitlines()
    assert rows[0] == "clip,rank,label,probability,known" and len(rows) == 5

    five = predict.named(model, path, joints, 5, 30)
    all_of_them = json.loads(predict.answer_text([(Who("a"), five)], "json"))[0]
    assert [row["label"] for row in all_of_them["top"]] == [model.classes[k] for k in np.argsort(-p)]
    assert all_of_them["likeness"] == pytest.approx(model.answer(joints).likeness, abs=1e-5)


def test_embeddings_are_the_features_that_the_file_gives(model, clips, shipped, tmp_path, capsys):
    out = tmp_path / "mine.npz"
    words = [f"model={shipped.export / 'model.onnx'}", f"clip={clips}", f"embeddings={out}", "format=json"]
    assert call(predict, *words) == 0
    with np.load(out) as arrays:
        found = dict(arrays)

    answer = json.loads(capsys.readouterr().out)
    assert found["name"].tolist() == [row["clip"] for row in answer]
    assert found["label"].tolist() == [row["top"][0]["label"] for row in answer]
    for name, features, likeness in zip(found["name"], found["features"], found["likeness"], strict=True):
        want = model.answer(model.read(clips / name))
        np.testing.assert_array_equal(features, want.features)
        assert likeness == pytest.approx(want.likeness)

    # written again, but over nothing else
    assert call(predict, *words) == 0
    out.write_bytes(b"my notes")
    with pytest.raises(ValueError, match="would be lost"):
        call(predict, *words)
    assert out.read_bytes() == b"my notes"
    with pytest.raises(ValueError, match="takes an .npz file"):
        call(predict, *words[:2], "embeddings=mine.csv")


def test_a_clip_of_no_class_is_none_of_these(tmp_path, capsys):
    """The stand-in's likeness is the largest coordinate of the mean joint, and the threshold 0.2."""
    path = stand_in(tmp_path / "m.onnx", [], SKELETONS["ntu25"], threshold=0.2)
    for name, x in (("far", 0.1), ("near", 0.3)):
        np.save(tmp_path / f"{name}.npy", np.full((5, 25, 3), x))
    assert call(predict, f"model={path}", f"clip={tmp_path}", "top=1") == 0
    assert capsys.readouterr().out.splitlines() == [
        "far.npy", "  none of these (a 50 %)", "   50.0 %  a", "near.npy", "   50.0 %  a"]

    # for programs
    call(predict, f"model={path}", f"clip={tmp_path}", "top=1", "format=csv")
    assert [row.split(",")[-1] for row in capsys.readouterr().out.splitlines()] == ["known", "false", "true"]
    call(predict, f"model={path}", f"clip={tmp_path}", "format=json")
    found = {row["clip"]: (row["known"], row["likeness"]) for row in json.loads(capsys.readouterr().out)}
    assert found == {"far.npy": (False, 0.1), "near.npy": (True, 0.3)}


def test_a_recording_that_is_not_cut_is_reported_and_its_actions_listed(tmp_path, capsys):
    """The stand-in's training clips last 64 frames, and everything is class a."""
    path = stand_in(tmp_path / "m.onnx", [], SKELETONS["ntu25"])
    np.save(tmp_path / "x.npy", person(8, 30, [(1, 3), (5, 6.5)])[0])
    np.save(tmp_path / "y.npy", person(3, 30)[0])
    call(predict, f"model={path}", f"clip={tmp_path}", "top=1")
    said = capsys.readouterr().err
    assert said == f"{tmp_path}/x.npy: lasts 8.0 s, training clips 2.1 s: segments=true lists the actions in it\n"

    # in each form
    argv = [f"model={path}", f"clip={tmp_path}", "segments=true", "window=2.0"]
    call(predict, *argv)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "x.npy" and lines[-1] == "y.npy: nobody moves" and len(lines) == 4
    assert re.fullmatch(r" +1\.\d to +[23]\.\d s +\d+\.\d %  [ab]", lines[1])
    call(predict, *argv, "format=csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    call(predict, *argv, "format=json")
    found, still = json.loads(capsys.readouterr().out)
    assert still == {"clip": "y.npy", "segments": []} and [row["clip"] for row in rows] == ["x.npy"] * 2
    for row, segment, want in zip(rows, found["segments"], [(1, 3), (5, 6.5)], strict=True):
        assert (segment["start"], segment["end"]) == pytest.approx(want, abs=0.4)
        assert {key: str(segment[key]).lower() for key in ("label", "known")} == {k: row[k] for k in ("label", "known")}
        assert [float(row[key]) for key in ("start", "end", "probability")] == pytest.approx(
            [segment[key] for key in ("start", "end", "probability")], abs=1e-3)

    # at twice the rate everything lasts half as long
    call(predict, *argv, "format=json", "fps=60")
    fast = json.loads(capsys.readouterr().out)[0]["segments"]
    assert (fast[0]["start"], fast[-1]["end"]) == pytest.approx((0.5, 3.25), abs=0.3)


def test_a_file_that_was_not_accepted_is_warned_about(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((5, 25, 3)))
    for accepted in (True, False):
        path = stand_in(tmp_path / "m.onnx", [], SKELETONS["ntu25"], accepted=accepted)
        call(predict, f"model={path}", f"clip={tmp_path / 'x.npy'}")
        said = capsys.readouterr().err.splitlines()
        assert [line.startswith(f"{path}: lost too much accuracy") for line in said] == [True] * (not accepted)


def test_an_answer_replaces_an_answer_and_nothing_else(shipped, clips, tmp_path):
    argv = [f"model={shipped.export / 'model.onnx'}", f"clip={sorted(clips.iterdir())[0]}", "format=csv"]
    out = tmp_path / "labels.csv"
    for _ in range(2):
        assert call(predict, *argv, f"out={out}") == 0
        assert out.read_text().startswith("clip,rank") and [p.name for p in tmp_path.iterdir()] == ["labels.csv"]

    files = {"labels.csv": "name,label\n", "clip.npy": "...", "model.onnx": "...", "clip.json": "[{}]", "x.pkl": "...",
             "table.CSV": "left hand_x\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="out = .*would be lost"):
            call(predict, *argv, f"out={tmp_path / name}")
        assert (tmp_path / name).read_text() == text
    with pytest.raises(ValueError, match="out = .*is a folder"):
        call(predict, *argv, f"out={tmp_path}")


# ---------------------------------------------------------------------------------------------------------------------
# Clips
# ---------------------------------------------------------------------------------------------------------------------

def test_a_file_that_is_no_model_is_named(shipped, clips, tmp_path):
    whole = shipped.export / "model.onnx"
    (tmp_path / "cut.onnx").write_bytes(whole.read_bytes()[:5000])
    onnx.save(to_onnx(nn.Flatten(), torch.zeros(1, 4), 18), tmp_path / "other.onnx")
    stand_in(tmp_path / "old.onnx", [], SKELETONS["ntu25"], format="LAST 1")
    cases = {tmp_path / "cut.onnx": "is no ONNX file", tmp_path / "other.onnx": "carries no metadata",
             tmp_path / "old.onnx": "its format is 'LAST 1'.*export it again with `just phase4",
             tmp_path / "none.onnx": "no such file", "utd_mhadd": "did you mean 'utd_mhad'", ROOT: "is a folder"}
    for file, message in cases.items():
        with pytest.raises(ValueError, match=f"model = .*{message}"):
            call(predict, f"model={file}", f"clip={sorted(clips.iterdir())[0]}")


def test_a_file_that_is_no_clip_of_the_network_is_named(shipped, tmp_path):
    for name, message in (write_bad_clips(tmp_path) | {"absent.npy": "no such file or folder"}).items():
        with pytest.raises(ValueError, match=f"{name}.*{message}"):
            call(predict, f"model={shipped.export / 'model.onnx'}", f"clip={tmp_path / name}")


def test_a_file_of_a_known_format_is_turned_as_an_array_is(model, tmp_path, capsys):
    x = np.random.default_rng(0).normal(0, 0.1, (5, 20, 3)) + rest_pose(SKELETONS["kinect20"]) + [0, 0, 3]
    (tmp_path / "a01_s01_e00_v01.json").write_text(json.dumps({"skeletons": x.tolist(), "label": 1}))
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "skeleton.json").write_text('{"skeleton": "kinect20"}')
    ours, theirs = (model.read(tmp_path / name) for name in ("a01_s01_e00_v01.json", "x.npy"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert "joints of kinect20 are turned into the network's ntu25\n" in capsys.readouterr().err


def test_the_word_skeletons_alone_makes_no_nw_ucla_file(model, tmp_path, capsys):
    x = np.random.default_rng(0).normal(0, 0.02, (5, 20, 3)) + rest_pose(SKELETONS["kinect20"]) + [0, 0, 3]
    (tmp_path / "mine.json").write_text(json.dumps({"skeletons": (1000 * x[..., [0, 2, 1]] * [1, -1, 1]).tolist()}))
    (tmp_path / "theirs.json").write_text(json.dumps({"file_name": "a01", "skeletons": x.tolist()}))
    ours, theirs = (model.read(tmp_path / name) for name in ("mine.json", "theirs.json"))
    said = capsys.readouterr().err.splitlines()
    assert "(mm, z up)" in said[0] and "(" not in said[1]
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_named_joints_win_over_a_count_that_fits(data_folder, tmp_path, capsys):
    """UTD-MHAD's 20 joints are kinect20's in another order: skeleton.json says which they are."""
    model = ExportedModel(utd_stand_in(tmp_path / "m.onnx", data_folder))
    kinect = SKELETONS["kinect20"]
    with np.load(data_folder / "utd-mhad.npz") as z:
        own = z["data"][:z["offsets"][1]].astype(np.float32)
    np.save(tmp_path / "own.npy", own)

    # the same clip in kinect20's order
    names = [name.replace("center", "centre") for name in model.skeleton["joints"]]
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "x.npy", own[:, [names.index(name) for name in kinect.joints]])
    (tmp_path / "other" / "skeleton.json").write_text('{"skeleton": "kinect20"}')

    want = model.read(tmp_path / "own.npy")
    np.testing.assert_allclose(model.read(tmp_path / "other" / "x.npy"), want, atol=1e-4)
    assert "kinect20" in capsys.readouterr().err


def test_a_table_with_columns_of_another_skeleton_is_turned(model, tmp_path):
    other = SKELETONS["openpose25"]
    assert "openpose25" in model.retarget
    pose = np.random.default_rng(0).normal(size=(5, 25, 3)) + 3
    names = [f"{joint}_{axis}" for joint in reversed(other.joints) for axis in "xyz"]
    rows = [",".join(map(str, frame[::-1].ravel())) for frame in pose]
    (tmp_path / "x.CSV").write_text("\n".join([",".join(names), *rows]))
    np.save(tmp_path / "x.npy", pose)  # the names of the columns count, not their order
    (tmp_path / "skeleton.json").write_text('{"skeleton": "openpose25"}')
    np.testing.assert_allclose(model.read(tmp_path / "x.CSV"), model.read(tmp_path / "x.npy"), atol=1e-5)


@pytest.mark.parametrize("people", [1, 2, 3])
def test_more_people_than_the_network_sees_are_reported(tmp_path, capsys, people):
    model = ExportedModel(stand_in(tmp_path / "m.onnx", [], SKELETONS["kinect20"]))
    clip = np.random.default_rng(0).normal(size=(people, 9, 20, 3)) + 3
    np.save(tmp_path / "x.npy", clip.astype(np.float32))
    assert model.view["bodies"] == 1 and model.read(tmp_path / "x.npy").shape[0] == min(people, 2)
    said = capsys.readouterr().err
    assert (f"shows {people} people, the network sees 1: number " in said) == (people > 1)


def test_a_folder_that_names_another_skeleton_is_refused(shipped, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 25, 3)))
    (tmp_path / "skeleton.json").write_text('{"skeleton": {"name": "mocap25"}}')
    with pytest.raises(ValueError, match="'mocap25'.*'ntu25'"):
        call(predict, f"model={shipped.export / 'model.onnx'}", f"clip={tmp_path / 'x.npy'}")


def test_a_real_recording_is_read_as_phase_0_reads_it(model, data_folder, tmp_path):
    for packed in sorted((data_folder / "ntu-samples").glob("*.skeleton.xz")):
        path = tmp_path / packed.name.removesuffix(".xz")
        path.write_bytes(lzma.decompress(packed.read_bytes()))
        p = model(model.read(path))
        assert p.shape == (3,)
        other = path.rename(tmp_path / "mine.skeleton")  # a file to classify needs no name of NTU's form
        assert np.array_equal(model(model.read(other)), p)


# ---------------------------------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("argv,field", [
    (["clip=x"], "model"), (["model=x"], "clip"), (["model=x", "clip=y", "stream=true"], "stream"),
    (["modle=x"], "modle"), (["model=x", "clip=y", "clip=z"], "clip"),
    (["model=x", "stream=true", "format=csv"], "csv"), (["model=x", "stream=true", "out=a.json"], "out"),
    (["model=x", "clip=y", "out=/no/such/f.csv"], "out"),
    (["model=x", "clip=y", "format=xml"], "format"), (["model=x", "clip=y", "top=many"], "top"),
    (["model=x", "clip=y", "top=0"], "top"), (["model=x", "clip=y", "hold=-1"], "hold"),
    (["model=x", "clip=y", "fps=0"], "fps"), (["model=x", "stream=true", "segments=true"], "segments"),
    (["model=x", "clip=y", "still=0"], "still"), (["model=x", "clip=y", "needs=2"], "needs"),
    (["model=x", "clip=y", "sure=1.1"], "sure"), (["model=x", "clip=y", "window=-1"], "window")])
def test_bad_arguments_of_predict_are_named(argv, field):
    with pytest.raises(ValueError, match=field):
        call(predict, *argv)


def test_the_exact_words_about_a_missing_clip():
    with pytest.raises(ValueError, match=r"^give clip=FILE or FOLDER, or stream=true for frames on standard input$"):
        call(predict, "model=utd_mhad")
