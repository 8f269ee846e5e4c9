"""Phase 4: the files say what they are, what each form loses is measured, and bad input is named."""
import copy
import errno
import importlib.util
import json
import os
import shutil
import tempfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from last import load_checkpoint, save_checkpoint
from phases import p4_export, predict
from phases.shipping import onnx_files, verify, whole
from phases.shipping.onnx_files import FILES
from phases.shipping.tflite import TFLITE_FILES
from phases.training.clip_store import ClipStore
from phases.training.networks import build_model, load_run
from phases.training.recipe import load_config
from phases.training.transfer import init_from
from skeletons import SKELETONS, Skeleton
from tests.helpers.clip_stores import latest, write_store
from tests.helpers.programs import call
from tests.helpers.shipped import QUICK, Shipped, ship


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


def metadata(path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


# ---------------------------------------------------------------------------------------------------------------------
# The files
# ---------------------------------------------------------------------------------------------------------------------

def test_the_weights_start_a_training_as_the_run_does(shipped, capsys):
    recipe = load_config(["recipe=lite_nano", *QUICK])
    skeleton, classes = SKELETONS["ntu25"], ["a", "b", "c"]
    started = []
    for start in (shipped.run, shipped.export / "model.pt"):
        model = build_model(replace(recipe, seed=9), skeleton, 3)
        init_from(model, start, recipe, skeleton, classes)
        assert "head.classifier.bias" in capsys.readouterr().err
        started.append(model.state_dict())
    assert all(torch.equal(x, started[1][name]) for name, x in started[0].items())

    # it may leave the machine
    assert str(shipped.folder).encode() not in (shipped.export / "model.pt").read_bytes()


def test_the_export_is_complete_and_says_what_it_is(shipped):
    names = {p.name for p in shipped.export.iterdir()}
    assert names == {"model.onnx", "model.int8.onnx", "model.w8.onnx", "model.pt", "report.json", "report.md"}
    report = json.loads((shipped.export / "report.json").read_text())
    store = ClipStore(shipped.folder / "stores" / "tiny")

    for form, name in FILES.items():
        model = onnx.load(shipped.export / name)
        onnx.checker.check_model(model, full_check=True)
        assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [18]

        about = metadata(shipped.export / name)
        assert Skeleton.from_dict(json.loads(about["skeleton"])) == store.skeleton
        assert json.loads(about["classes"]) == store.classes
        assert about["form"] == form and about["recipe"] == "lite_nano"
        assert json.loads(about["view"])["frames"] == 12
        assert json.loads(about["streams"]) == ["joint", "bone"] and about["format"] == "LAST 2"
        assert "(bodies, frames, 25, 3)" in about["takes"] and "likeness" in about["gives"]
        assert json.loads(about["threshold"]) == report["threshold"] and json.loads(about["temperature"]) > 0
        assert [i.name for i in model.graph.input] == ["joints"]
        assert [o.name for o in model.graph.output] == ["probabilities", "features", "likeness"]
        assert json.loads(about["top1"]) == report[form]["top1"]
        assert json.loads(about["declined"]) == report["declined"]
        assert report[form]["bytes"] == (shipped.export / name).stat().st_size

    weights = [i.data_type for i in onnx.load(shipped.export / "model.int8.onnx").graph.initializer]
    assert onnx.TensorProto.INT8 in weights


def test_the_report_measures_every_form(shipped):
    report = json.loads((shipped.export / "report.json").read_text())
    keys = {"recipe", "dataset", "params", "command", "device", "commit", "fp32", "int8", "w8", "latency"}
    assert keys <= report.keys()
    loss = {"top1", "bytes", "drop", "drop_ci95", "agreement", "max_diff"}
    assert loss <= report["int8"].keys() & report["w8"].keys()
    assert report["latency"].keys() == {"eager", "deploy", "int8", "w8", "file"}
    assert report["latency"]["deploy"] == 1

    # FP32 is the network
    assert report["fp32"]["top1"] == pytest.approx(json.loads((shipped.run / "result.json").read_text())["top1"])
    assert report["fp32"]["parity"] < 1e-4

    # the command can be given again
    assert report["command"].split() == ["just", "phase4", *shipped.argv, f"exports={shipped.folder / 'exports'}",
                                         "calibration=16"]
    page = (shipped.export / "report.md").read_text()
    assert report["command"] in page and all(f"| {form} | {name} | " in page for form, name in FILES.items())


MADE: dict[tuple[str, ...], onnx.ModelProto] = {}  # by the names of their outputs


@pytest.fixture
def traced(monkeypatch) -> None:
    """torch.onnx.export takes seconds: each graph of the shipped run is made once for all tests."""
    make = onnx_files.to_onnx

    def to_onnx(module, joints, opset, outputs=("logits",), free=("batch",), **how):
        if outputs not in MADE:
            MADE[outputs] = make(module, joints, opset, outputs, free, **how)
        return copy.deepcopy(MADE[outputs])

    for user in (onnx_files, whole):
        monkeypatch.setattr(user, "to_onnx", to_onnx)


@pytest.fixture
def losing(monkeypatch):
    """Give each form, in the order in which they are compared with FP32, so many lost clips of the test split."""
    def lose(*clips: int) -> None:
        left = list(clips)

        def spoiled(reference, probabilities, label):
            probabilities = reference.copy()
            right = np.flatnonzero(reference.argmax(1) == label)[:left.pop(0)]
            probabilities[right, label[right]] = -1
            return compare(reference, probabilities, label)

        monkeypatch.setattr(verify, "compare", spoiled)

    compare = verify.compare
    return lose


def accepted(folder) -> tuple[dict[str, bool], dict[str, bool]]:
    """Whether each form passes: by report.json and by the metadata of its ONNX file."""
    report = json.loads((folder / "report.json").read_text())
    forms = {form: report[form]["accepted"] for form in ("fp32", "int8", "w8", "tflite", "tflite_w8") if form in report}
    return forms, {form: json.loads(metadata(folder / name)["accepted"]) for form, name in FILES.items()}


def test_lost_points_end_with_1_and_name_the_layers(shipped, traced, losing, tmp_path, capsys):
    argv = [*shipped.argv, f"exports={tmp_path}", "calibration=8"]
    folder = tmp_path / "tiny" / "lite_nano"
    losing(1, 1)  # of the test clips
    assert call(p4_export, *argv) == 0
    assert accepted(folder)[0] == dict.fromkeys(FILES, True) and "do not ship" not in (folder / "report.md").read_text()

    losing(2, 0)
    capsys.readouterr()
    assert call(p4_export, *argv) == 1
    report = json.loads((folder / "report.json").read_text())
    assert not report["accepted"] and report["layers"][0]["layer"].startswith("features.")
    assert accepted(folder) == ({"fp32": True, "int8": False, "w8": True},) * 2
    assert "**model.int8.onnx lost" in (folder / "report.md").read_text()
    said = capsys.readouterr().err.splitlines()[-1]
    assert report["layers"][0]["layer"] in said and said.endswith("ship model.w8.onnx or model.onnx")


def test_weights_in_8_bits_that_lost_points_are_not_advised(shipped, traced, losing, tmp_path, capsys):
    losing(0, 3)
    assert call(p4_export, *shipped.argv, f"exports={tmp_path}", "calibration=8") == 1
    folder = tmp_path / "tiny" / "lite_nano"
    report = json.loads((folder / "report.json").read_text())
    assert report["accepted"] and "layers" not in report, "`accepted` is INT8's, as it has always been"
    assert accepted(folder) == ({"fp32": True, "int8": True, "w8": False},) * 2

    # the line has the limit of so few clips
    n = report["clips"]
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (f"error: {folder}: model.w8.onnx lost {300 / n:.2f} points of top-1; it may lose fewer than "
                    f"{150 / n:.3g} points (1.5 of {n} test clips); ship model.int8.onnx or model.onnx")

    # so has the page, and each row says whether it passes
    page = (folder / "report.md").read_text()
    passes = {line.split(" | ")[1]: line.split(" | ")[4] for line in page.splitlines() if line.startswith("| ")}
    assert passes == {"file": "passes", "model.onnx": "yes", "model.int8.onnx": "yes", "model.w8.onnx": "**no**"}
    assert f"fewer than {150 / n:.3g} points" in page and "**model.w8.onnx lost" in page


def spoil_int8(weights: dict[str, torch.Tensor]) -> None:
    """A channel of 10,000 that nothing reads: the others share the steps of its range. In float it changes nothing."""
    weights["stages.1.blocks.0.tcn.body.4.bias"][0] = 1e4
    weights["stages.1.blocks.0.tcn.body.6.weight"][:, 0] = 0


def spoil_w8(weights: dict[str, torch.Tensor]) -> None:
    """A number of 1,000 on one feature, for all classes alike: the softmax ignores it, the steps of a class do not."""
    weights["head.classifier.weight"][:, 0] += 1e3


@pytest.mark.parametrize("form, spoil", [("int8", spoil_int8), ("w8", spoil_w8)])
def test_a_network_that_really_loses_in_8_bits(shipped, tmp_path, capsys, form, spoil):
    # a run whose weights are hard to round
    shutil.copytree(shipped.folder / "runs", tmp_path / "runs")
    final = tmp_path / "runs" / shipped.run.relative_to(shipped.folder / "runs") / "final.pt"
    checkpoint = load_checkpoint(final)
    spoil(checkpoint["model"])
    save_checkpoint(final, checkpoint)
    folder = tmp_path / "tiny" / "lite_nano"
    assert call(p4_export, *latest(*shipped.argv, f"out={tmp_path / 'runs'}", f"exports={tmp_path}")) == 1

    # the file stays and says so; the other one is advised
    report = json.loads((folder / "report.json").read_text())
    assert report[form]["drop"] > report["limit"] > 1 and report["fp32"]["top1"] > 60
    good = {"int8": "w8", "w8": "int8"}[form]
    assert accepted(folder) == ({"fp32": True, form: False, good: True},) * 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {folder}: {FILES[form]} lost {report[form]['drop']:.2f} points of top-1; it may ")
    assert said.endswith(f"; ship {FILES[good]} or model.onnx")

    # predict warns of it, and of no other
    np.save(tmp_path / "clip.npy", np.random.default_rng(0).normal(size=(20, 25, 3)) + [0, 0, 3])
    for name in FILES.values():
        call(predict, f"model={folder / name}", f"clip={tmp_path / 'clip.npy'}")
        assert ("lost too much accuracy" in capsys.readouterr().err) == (name == FILES[form])


def test_files_of_tflite_have_to_pass_too(shipped, traced, losing, monkeypatch, tmp_path, capsys):
    def write_tflite(module, folder, clips):
        for name in TFLITE_FILES.values():
            (folder / name).write_bytes(bytes(9))
        return dict.fromkeys(TFLITE_FILES, np.zeros((len(clips), 3), np.float32))

    monkeypatch.setattr(p4_export, "require_tflite", lambda: None)
    monkeypatch.setattr(p4_export, "write_tflite", write_tflite)
    losing(0, 0, 0, 2)
    assert call(p4_export, *shipped.argv, f"exports={tmp_path}", "calibration=8", "format=tflite") == 1
    forms, _ = accepted(tmp_path / "tiny" / "lite_nano")
    assert [form for form, passes in forms.items() if not passes] == ["tflite_w8"]
    said = capsys.readouterr().err.splitlines()[-1]
    assert "model.w8.tflite lost" in said and "model.w8.tflite" not in said.partition("ship")[2]


def test_a_cut_export_leaves_the_one_before_it(shipped, traced, tmp_path, monkeypatch):
    folder = tmp_path / "tiny" / "lite_nano"
    shutil.copytree(shipped.export, folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def cut(runs):
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "latencies", cut)
    with pytest.raises(KeyboardInterrupt):
        call(p4_export, *shipped.argv, f"exports={tmp_path}", "calibration=4")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


# ---------------------------------------------------------------------------------------------------------------------
# Another run's
# ---------------------------------------------------------------------------------------------------------------------

def test_an_export_of_another_run_is_not_overwritten(shipped, tmp_path):
    report = tmp_path / "tiny" / "lite_nano" / "report.json"
    report.parent.mkdir(parents=True)
    for dataset, split, seed in (("ntu60", "xsub", 3), ("tiny", "xview", 3), ("tiny", "xsub", 2)):
        report.write_text(json.dumps({"dataset": dataset, "split": split, "seed": seed}))
        with pytest.raises(ValueError, match=f"{dataset} {split}, seed {seed}.*exports="):
            call(p4_export, *shipped.argv, f"exports={tmp_path}")
    assert [p.name for p in report.parent.iterdir()] == ["report.json"]


def test_a_data_set_has_an_export_of_its_own(shipped, traced, tmp_path):
    before = tmp_path / "lite_nano" / "report.json"  # where exports were, whatever their data set
    before.parent.mkdir()
    before.write_text(json.dumps({"dataset": "ntu60", "split": "xsub", "seed": 3}))
    kept = before.read_text()
    assert call(p4_export, *shipped.argv, f"exports={tmp_path}", "calibration=4") in (0, 1)
    assert (tmp_path / "tiny" / "lite_nano" / "model.onnx").is_file() and before.read_text() == kept


def test_a_folder_that_takes_no_file_is_named_before_the_work(shipped, monkeypatch, tmp_path):
    # a file is in its place
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(p4_export, "splits", None)  # the work would begin here
    says = rf"{tmp_path}/file/tiny/lite_nano/report.json: .*{tmp_path}/file takes no new file"
    with pytest.raises(ValueError, match=says):
        call(p4_export, *shipped.argv, f"exports={tmp_path / 'file'}")

    # nobody may write to it
    def refuse(dir):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{dir}/tmp1234")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match=rf"{tmp_path} takes no new file \(Permission denied\).*exports=FOLDER") as e:
        call(p4_export, *shipped.argv, f"exports={tmp_path / 'new'}")
    assert "tmp1234" not in str(e.value) and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_store_that_was_replaced_since_is_noticed(shipped, tmp_path):
    other = write_store(tmp_path / "other", clips=36)
    with pytest.raises(ValueError, match="other test clips"):
        call(p4_export, *latest(*shipped.argv, f"data.store={other}", f"exports={tmp_path / 'e'}"))


def test_classes_in_another_order_than_learned_are_noticed(shipped, tmp_path):
    other = write_store(tmp_path / "other")
    meta = json.loads((other / "meta.json").read_text())
    (other / "meta.json").write_text(json.dumps({**meta, "classes": meta["classes"][::-1]}))
    with pytest.raises(ValueError, match="other classes"):
        call(p4_export, *latest(*shipped.argv, f"data.store={other}", f"exports={tmp_path / 'e'}"))


def test_a_finished_run_gives_back_its_network(shipped):
    model, cfg, skeleton, classes = load_run(shipped.run)
    assert cfg.view.bodies == 2 and skeleton.name == "ntu25" and classes == ["swing 0", "swing 1", "swing 2"]
    assert not model.training


# ---------------------------------------------------------------------------------------------------------------------
# The command line
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("argument", [
    "opset=12", "opset=24", "format=coreml", "calibration=0", "calibration=many", "causal=yes", "opse=13"])
def test_bad_arguments_of_phase_4_are_named(shipped, argument):
    with pytest.raises(ValueError, match=argument.partition("=")[0]):
        call(p4_export, *shipped.argv, argument)


def test_the_exact_words_about_an_unfinished_run(shipped):
    run = shipped.run.parent / "seed9"
    with pytest.raises(ValueError) as e:
        call(p4_export, *latest(*shipped.argv, "seed=9"))
    assert str(e.value) == (f"no finished run in {run} (it lacks final.pt): train it first, or give the out=, data= "
                            "and seed= it was made with")


def test_without_the_extra_tflite_a_line_says_how_to_get_it(shipped, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[tflite\]'"):
        call(p4_export, *shipped.argv, "format=tflite")
