"""Predict: an exported file gives the test split's probabilities without torch, and bad input is named in one line."""
import io
import json
import lzma
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from phases import p4_export, predict
from phases.shipping import live
from phases.shipping.exported import ExportedModel, named
from phases.shipping.onnx_files import to_onnx
from phases.training.clip_store import ClipStore
from skeletons import SKELETONS
from tests.helpers.clip_stores import ROOT, rest_pose
from tests.helpers.shipped import Shipped, recorded, ship


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def clips(shipped, tmp_path_factory) -> Path:
    """The clips of the store's test side as .npy files."""
    store, folder = ClipStore(shipped.folder / "stores" / "tiny"), tmp_path_factory.mktemp("clips")
    for i in store.split("xsub")[1]:
        np.save(folder / f"{store.clips['name'][i]}.npy", recorded(store, i))
    return folder


def run(*argv: str, text: str | None = None) -> subprocess.CompletedProcess:
    """predict.py in a process in which torch cannot be imported."""
    code = ("import sys, runpy; sys.modules.update(torch=None, last=None, einops=None, onnx=None); "
            f"sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['predict.py', *{list(argv)!r}]; "
            "runpy.run_module('phases.predict', run_name='__main__')")
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, input=text)


class Stub:
    """What stands for a model: its answer is the same for every clip. It keeps the clips it saw."""

    def __init__(self, model: ExportedModel, answer: np.ndarray, **view: int):
        self.skeleton, self.classes, self.view = model.skeleton, model.classes, model.view | view
        self.retarget, self.recorded, self.other = model.retarget, model.recorded, model.other
        self.answer, self.seen = answer, []

    def in_metres(self, clip: np.ndarray) -> np.ndarray:
        return clip

    def __call__(self, clip: np.ndarray) -> np.ndarray:
        self.seen.append(clip)
        return self.answer


@pytest.mark.parametrize("form", ["fp32", "w8"])
def test_predictions_are_the_test_split_s_clip_by_clip_without_torch(shipped, clips, form):
    done = run(f"model={shipped.export / p4_export.FILES[form]}", f"clip={clips}", "format=json", "top=3")
    assert done.returncode == 0, done.stderr
    got = {}
    for answer in json.loads(done.stdout):
        got[answer["clip"].removesuffix(".npy")] = {t["label"]: t["probability"] for t in answer["top"]}
    with np.load(shipped.run / "scores.npz") as z:
        p = torch.from_numpy(z["logits"]).softmax(1).numpy()
        assert len(got) == len(z["name"])
        for name, row in zip(z["name"], p, strict=True):
            ours = [got[name][f"swing {k}"] for k in range(3)]
            np.testing.assert_allclose(ours, row, atol=2e-5 if form == "fp32" else 0.05)


def test_forms_of_output(shipped, clips, tmp_path):
    path = shipped.export / "model.onnx"
    model = ExportedModel(path)
    one = sorted(clips.iterdir())[0]
    joints = model.read(one)
    p = model(joints)
    assert p.shape == (3,) and p.sum() == pytest.approx(1, abs=1e-5)
    two = model.top(joints, 2)
    rows = predict.report([("a", two), ("b", two)], "csv").splitlines()
    assert rows[0] == "clip,rank,label,probability" and len(rows) == 5
    names = [r["label"] for r in json.loads(predict.report([("a", model.top(joints, 5))], "json"))[0]["top"]]
    assert names == [model.classes[k] for k in np.argsort(-p)]
    out, argv = tmp_path / "labels.csv", [f"model={path}", f"clip={one}", "format=csv"]
    assert predict.main([*argv, f"out={out}"]) == 0
    assert out.read_text().startswith("clip,rank") and [p.name for p in tmp_path.iterdir()] == ["labels.csv"]
    assert predict.main([*argv, f"out={out}"]) == 0, "an earlier answer may be replaced"
    for name, text in (("labels.csv", "name,label\n"), ("clip.npy", "..."), ("model.onnx", "..."),
                       ("clip.json", "[{}]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="exists, and would be lost"):
            predict.main([*argv, f"out={tmp_path / name}"])
        assert (tmp_path / name).read_text() == text
    with pytest.raises(ValueError, match="is a folder"):
        predict.main([*argv, f"out={tmp_path}"])


def test_frames_on_standard_input_become_a_label_with_its_latency(shipped, clips):
    x = np.load(sorted(clips.iterdir())[3])
    lines = "".join(json.dumps(f.tolist()) + "\n" for f in x.transpose(1, 0, 2, 3)) + "[]\n"
    model = f"model={shipped.export / 'model.onnx'}"
    done = run(model, "stream=true", "sure=0.34", "hold=2", text=lines)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("frame 2: swing ") and "ms each" in done.stderr
    unsure = run(model, "stream=true", "sure=1", text=lines)
    assert "not sure" in unsure.stdout


def test_a_stream_answers_in_json_and_ctrl_c_still_tells_the_times(shipped, capsys):
    stub = Stub(ExportedModel(shipped.export / "model.onnx"), np.array([0.75, 0.25, 0]))

    def camera(pauses: bool):
        yield from [GOOD] * 4
        if pauses:
            raise KeyboardInterrupt

    live.stream(stub, camera(False), 0.5, 3, 12, "json")
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said == [{"frame": 3, "label": "swing 0", "probability": 0.75, "sure": True}]
    with pytest.raises(KeyboardInterrupt):
        live.stream(stub, camera(True), 0.9, 3, 12, "json")
    ended = capsys.readouterr()
    assert not ended.out and ended.err.startswith("4 frames, ")


def test_a_stream_of_another_skeleton_is_turned_as_its_clip_is(shipped, tmp_path, capsys):
    """MediaPipe's world landmarks: metres, y down. x and y alone, and scores, are read as a clip's are."""
    model = ExportedModel(shipped.export / "model.onnx")
    stub, x = Stub(model, np.array([1.0, 0, 0])), np.random.default_rng(0).normal(0, 0.1, (5, 33, 3)).astype(np.float32)
    x += rest_pose(SKELETONS["mediapipe33"]) * [-1, -1, 1] + [0, 0, 3]
    stub.measured, stub.turn = model.measured, model.turn
    for name, clip in (("xyz", x), ("scored", np.concatenate([x, np.ones((5, 33, 1))], 2)), ("flat", 500 * x[..., :2])):
        np.save(tmp_path / f"{name}.npy", clip)
        want = model.read(tmp_path / f"{name}.npy")
        said = capsys.readouterr().err.split(": ", 1)[1].split(";")[0]
        stub.seen.clear()
        live.stream(stub, ["[]", *(json.dumps(frame.tolist()) for frame in clip), GOOD], 0.5, 2, 12)
        np.testing.assert_allclose(stub.seen[-1][:, -5:], want, atol=1e-5)
        err = capsys.readouterr().err.splitlines()
        assert err[0] == said and "mediapipe33" in said and "line 7: has shape (25, 3), must be 33 joints" in err[1]


def test_the_last_window_alone_decides(shipped, clips, capsys):
    stub = Stub(ExportedModel(shipped.export / "model.onnx"), np.array([1.0, 0, 0]))
    line = json.dumps(np.random.default_rng(0).normal(size=(25, 3)).tolist())
    live.stream(stub, [line] * 9, 0.5, 3, 4)
    assert [clip.shape[1] for clip in stub.seen] == [1, 2, 3, 4, 4, 4, 4, 4, 4]
    assert capsys.readouterr().out == "frame 3: swing 0 (100 %)\n", "one line as soon as it is sure, none after"


GOOD = json.dumps(np.random.default_rng(0).normal(size=(25, 3)).tolist()) + "\n"
BAD = {"hello": "is no JSON", "[" * 5000: "is no JSON", f"[{', '.join([f'[{10**400}, 0, 0]'] * 25)}]": "is no JSON",
       GOOD[:99]: "is no JSON", "{}": "is no JSON", "7": "has shape ()", "[[1, 2, 3]]": "has shape (1, 3)",
       "[[[NaN, 0, 0]]]": "has shape (1, 3)", f"[{', '.join(['[NaN, 0, 0]'] * 25)}]": "a coordinate is not finite",
       "\ufffd\x00": "is no JSON"}


@pytest.mark.parametrize("line,message", BAD.items(), ids=range(len(BAD)))
def test_a_stream_outlives_a_bad_line_and_says_what_is_wrong_with_it(shipped, capsys, line, message):
    stub = Stub(ExportedModel(shipped.export / "model.onnx"), np.array([1.0, 0, 0]))
    live.stream(stub, io.StringIO(f"{GOOD}\n{line}\n{GOOD}{line}\n{GOOD}"), 0.5, 3, 12)
    said = capsys.readouterr()
    assert said.out == "frame 3: swing 0 (100 %)\n" and [clip.shape[1] for clip in stub.seen] == [1, 2, 3]
    first, last = said.err.splitlines()
    assert first.startswith(f"standard input, line 3: {message}") and "skipped" in first
    assert last.startswith("3 frames") and last.endswith("2 lines were skipped")


def test_each_kind_of_bad_line_is_said_once_and_bytes_that_are_no_text_end_nothing(shipped):
    text = "".join(f"{line}\n" for line in list(BAD)[:8] * 3) + GOOD
    done = run(f"model={shipped.export / 'model.onnx'}", "stream=true", text=text)
    assert done.returncode == 0 and done.stderr.count("standard input, line") == 3, done.stderr
    code = (f"import sys; sys.path.insert(0, {str(ROOT)!r}); from phases import predict; "
            f"predict.main(['model={shipped.export / 'model.onnx'}', 'stream=true'])")
    done = subprocess.run([sys.executable, "-c", code], input=b"\xff\xfe\n" + GOOD.encode(), capture_output=True)
    assert done.returncode == 0 and b"line 1: is no JSON" in done.stderr and b"frame 1: " in done.stdout


@pytest.mark.parametrize("text,message", [
    ("", "no frame with a body"), ("[]\nhello\n", "no frame with a body; 1 lines were skipped")])
def test_a_stream_without_any_frame_is_an_error(shipped, text, message):
    with pytest.raises(ValueError, match=message):
        live.stream(ExportedModel(shipped.export / "model.onnx"), io.StringIO(text), 0.8, 5, 12)


def test_after_a_stall_the_window_starts_anew(shipped, monkeypatch):
    stub, clock = Stub(ExportedModel(shipped.export / "model.onnx"), np.array([1.0, 0, 0])), [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])

    def camera():
        for pause in (0.1, 0.1, 0.1, 5, 0.1, 1.9):
            clock[0] += pause
            yield GOOD

    live.stream(stub, camera(), 0.5, 2, 12)
    assert [clip.shape[1] for clip in stub.seen] == [1, 2, 3, 1, 2, 3]


def test_what_is_no_model_or_no_clip_of_it_is_one_line(shipped, clips, tmp_path):
    whole = shipped.export / "model.onnx"
    (tmp_path / "cut.onnx").write_bytes(whole.read_bytes()[:5000])
    onnx.save(to_onnx(nn.Flatten(), torch.zeros(1, 4), 18), tmp_path / "other.onnx")
    np.save(tmp_path / "nineteen.npy", np.ones((5, 19, 3)))
    np.save(tmp_path / "empty.npy", np.zeros((0, 25, 3)))
    np.save(tmp_path / "nobody.npy", np.zeros((4, 25, 3)))
    np.save(tmp_path / "nan.npy", np.full((4, 25, 3), np.nan))
    ucla = tmp_path / "a01_s01_e00_v01.json"
    ucla.write_text(json.dumps({"skeletons": np.ones((4, 25, 3)).tolist(), "label": 1}))
    (tmp_path / "bad.skeleton").write_text("1\n1\nnonsense\n")
    good = sorted(clips.iterdir())[0]
    cases = [(tmp_path / "cut.onnx", good, "is no ONNX file that can be used"),
             (tmp_path / "other.onnx", good, "carries no metadata"),
             (tmp_path / "none.onnx", good, "no such file; make one"), ("utd_mhadd", good, "did you mean 'utd_mhad'"),
             (whole, tmp_path / "nineteen.npy", "has 19 joints, the model's skeleton 'ntu25' has 25"),
             (whole, tmp_path / "empty.npy", "no frame"),
             (whole, tmp_path / "nobody.npy", "no body in any frame"),
             (whole, tmp_path / "nan.npy", "not finite"),
             (whole, ucla, "has 25 joints, kinect20 has 20"),
             (whole, tmp_path / "bad.skeleton", "line 3"),
             (whole, tmp_path / "absent.npy", "no such file or folder")]
    for model, clip, message in cases:
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            predict.main([f"model={model}", f"clip={clip}"])
    done = run(f"model={whole}", f"clip={tmp_path / 'nineteen.npy'}")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    np.save(tmp_path / "good.npy", np.load(good))
    np.savez_compressed(tmp_path / "torn.npz", np.random.default_rng(0).normal(size=(9, 25, 3)))
    torn = bytearray((tmp_path / "torn.npz").read_bytes())
    torn[200:300] = bytes(100)
    (tmp_path / "torn.npz").write_bytes(torn)
    done = run(f"model={whole}", f"clip={tmp_path}", "format=csv", "top=1")
    assert done.returncode == 3 and len(done.stdout.splitlines()) == 2 and done.stderr.count("skipped:") == 7


def test_a_file_of_a_known_format_is_turned_as_an_array_of_its_joints_is(shipped, tmp_path, capsys):
    model = ExportedModel(shipped.export / "model.onnx")
    x = np.random.default_rng(0).normal(0, 0.1, (5, 20, 3)) + rest_pose(SKELETONS["kinect20"]) + [0, 0, 3]
    (tmp_path / "a01_s01_e00_v01.json").write_text(json.dumps({"skeletons": x.tolist(), "label": 1}))
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "skeleton.json").write_text('{"skeleton": "kinect20"}')
    ours, theirs = (model.read(tmp_path / name) for name in ("a01_s01_e00_v01.json", "x.npy"))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert "joints of kinect20 are turned into the network's ntu25\n" in capsys.readouterr().err


def test_ones_own_json_with_the_word_skeletons_is_no_northwestern_ucla_file(shipped, tmp_path, capsys):
    model = ExportedModel(shipped.export / "model.onnx")
    x = np.random.default_rng(0).normal(0, 0.1, (5, 20, 3)) + rest_pose(SKELETONS["kinect20"]) + [0, 0, 3]
    (tmp_path / "mine.json").write_text(json.dumps({"skeletons": (1000 * x[..., [0, 2, 1]] * [1, -1, 1]).tolist()}))
    (tmp_path / "theirs.json").write_text(json.dumps({"file_name": "a01", "skeletons": x.tolist()}))
    ours, theirs = (model.read(tmp_path / name) for name in ("mine.json", "theirs.json"))
    said = capsys.readouterr().err.splitlines()
    assert "(mm, z up)" in said[0] and "(" not in said[1]
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_named_joints_win_over_a_count_that_fits(data_folder, tmp_path, capsys):
    """UTD-MHAD's 20 joints are kinect20's in another order: skeleton.json says which they are."""
    model, kinect = ExportedModel(named("utd_mhad")), SKELETONS["kinect20"]
    with np.load(data_folder / "utd-mhad.npz") as z:
        own = z["data"][:z["offsets"][1]].astype(np.float32)
    names = [name.replace("center", "centre") for name in model.skeleton["joints"]]
    np.save(tmp_path / "own.npy", own)
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "x.npy", own[:, [names.index(name) for name in kinect.joints]])
    (tmp_path / "other" / "skeleton.json").write_text('{"skeleton": "kinect20"}')
    want = model(model.read(tmp_path / "own.npy"))
    np.testing.assert_allclose(model(model.read(tmp_path / "other" / "x.npy")), want, atol=1e-4)
    assert "kinect20" in capsys.readouterr().err


def test_a_table_of_another_skeleton_is_turned_and_no_recording_is_overwritten(shipped, tmp_path, capsys):
    model, other = ExportedModel(shipped.export / "model.onnx"), SKELETONS["openpose25"]
    pose = np.random.default_rng(0).normal(size=(5, 25, 3)) + 3
    names = [f"{joint}_{axis}" for joint in reversed(other.joints) for axis in "xyz"]
    rows = [",".join(map(str, frame[::-1].ravel())) for frame in pose]
    (tmp_path / "x.CSV").write_text("\n".join([",".join(names), *rows]))
    np.save(tmp_path / "x.npy", pose[:, ::-1])
    (tmp_path / "skeleton.json").write_text('{"skeleton": "openpose25"}')
    assert "openpose25" in model.retarget
    np.testing.assert_allclose(model.read(tmp_path / "x.CSV"), model.read(tmp_path / "x.npy"), atol=1e-5)
    with pytest.raises(ValueError, match="exists, and would be lost"):
        predict.check_out(tmp_path / "x.CSV", tmp_path / "model.onnx", "clip,rank")


@pytest.mark.parametrize("people, words", [(1, ""), (2, "the first of them"), (3, "1 of the two that move most")])
def test_more_people_than_the_network_sees_are_told(tmp_path, capsys, people, words):
    model = ExportedModel(named("utd_mhad"))
    clip = np.random.default_rng(0).normal(size=(people, 9, 20, 3)) + 3
    np.save(tmp_path / "x.npy", clip.astype(np.float32))
    assert model.view["bodies"] == 1 and model.read(tmp_path / "x.npy").shape[0] == min(people, 2)
    said = capsys.readouterr().err
    assert (f"shows {people} people, the network sees {words}" in said) == (people > 1)


def test_a_folder_that_names_another_skeleton_is_refused(shipped, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 25, 3)))
    (tmp_path / "skeleton.json").write_text('{"skeleton": {"name": "mocap25"}}')
    with pytest.raises(ValueError, match="is of skeleton 'mocap25', the model knows 'ntu25'"):
        predict.main([f"model={shipped.export / 'model.onnx'}", f"clip={tmp_path / 'x.npy'}"])


@pytest.mark.parametrize("argv,message", [
    (["clip=x"], "no model"), (["model=x"], "give clip="), (["model=x", "clip=y", "stream=true"], "not both"),
    (["modle=x"], "did you mean 'model'"), (["model=x", "clip=y", "clip=z"], "given twice"),
    (["model=x", "stream=true", "format=csv"], "lines of text"),
    (["model=x", "clip=y", "out=/no/such/f.csv"], "there is no folder"), ([f"model={ROOT}", "clip=y"], "is a folder"),
    (["model=x", "clip=y", "format=xml"], "format = 'xml'"), (["model=x", "clip=y", "top=many"], "must be numbers"),
    (["model=x", "clip=y", "top=0"], "at least 1")])
def test_bad_arguments_of_predict_are_named(argv, message):
    with pytest.raises(ValueError, match=message):
        predict.main(argv)


def test_a_real_recording_is_read_as_phase_0_reads_it(shipped, data_folder, tmp_path):
    model = ExportedModel(shipped.export / "model.onnx")
    for packed in sorted((data_folder / "ntu-samples").glob("*.skeleton.xz")):
        path = tmp_path / packed.name.removesuffix(".xz")
        path.write_bytes(lzma.decompress(packed.read_bytes()))
        p = model(model.read(path))
        assert p.shape == (3,)
        other = path.rename(tmp_path / "mine.skeleton")  # a file to classify needs no name of NTU's form
        assert np.array_equal(model(model.read(other)), p)


def test_a_body_that_is_never_seen_leaves_its_place_to_the_next_as_in_a_store(shipped, clips, tmp_path):
    model = ExportedModel(shipped.export / "model.onnx")
    x = np.load(sorted(clips.iterdir())[3])[:1]
    np.save(tmp_path / "first.npy", x)
    np.save(tmp_path / "second.npy", np.concatenate([0 * x, x]))
    a, b = (model(model.read(tmp_path / f"{n}.npy")) for n in ("first", "second"))
    assert np.array_equal(a, b)
    stub = Stub(model, a, bodies=1)
    lines = [json.dumps([np.zeros((25, 3)).tolist(), f.tolist()]) for f in x[0]]
    live.stream(stub, lines, 0.0, 1, 500)
    assert np.array_equal(stub.seen[-1], x)
