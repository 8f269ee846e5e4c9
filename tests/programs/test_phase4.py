"""Phase 4: the files say what they are, what each form loses is measured, and bad input is named."""
import copy
import importlib.util
import json
import shutil

import onnx
import pytest

from phases import p4_export
from phases.shipping import onnx_files, verify
from phases.shipping.onnx_files import FILES
from phases.training.clip_store import ClipStore
from phases.training.networks import load_run
from skeletons import Skeleton
from tests.helpers.clip_stores import latest, write_store
from tests.helpers.programs import call
from tests.helpers.shipped import Shipped, ship


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


def metadata(path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


# ---------------------------------------------------------------------------------------------------------------------
# The files
# ---------------------------------------------------------------------------------------------------------------------

def test_the_export_is_complete_and_says_what_it_is(shipped):
    names = {p.name for p in shipped.export.iterdir()}
    assert names == {"model.onnx", "model.int8.onnx", "model.w8.onnx", "report.json", "report.md"}
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
        assert json.loads(about["streams"]) == ["joint", "bone", "velocity", "bone_velocity"]
        assert json.loads(about["top1"]) == report[form]["top1"]
        assert report[form]["bytes"] == (shipped.export / name).stat().st_size

    weights = [i.data_type for i in onnx.load(shipped.export / "model.int8.onnx").graph.initializer]
    assert onnx.TensorProto.INT8 in weights


def test_the_report_measures_every_form(shipped):
    report = json.loads((shipped.export / "report.json").read_text())
    keys = {"recipe", "dataset", "params", "command", "device", "commit", "fp32", "int8", "w8", "latency"}
    assert keys <= report.keys()
    loss = {"top1", "bytes", "drop", "drop_ci95", "agreement", "max_diff"}
    assert loss <= report["int8"].keys() & report["w8"].keys()
    assert report["latency"].keys() == {"eager", "train_form", "deploy", "int8", "w8"}
    assert report["latency"]["deploy"] == 1

    # FP32 is the network
    assert report["fp32"]["top1"] == pytest.approx(json.loads((shipped.run / "result.json").read_text())["top1"])
    assert report["fp32"]["parity"] < 1e-4

    # the command can be given again
    assert report["command"].split() == ["just", "phase4", *shipped.argv, f"exports={shipped.export.parent}",
                                         "calibration=16"]
    page = (shipped.export / "report.md").read_text()
    assert report["command"] in page and all(f"| {form} | {name} | " in page for form, name in FILES.items())


@pytest.fixture
def traced(shipped, monkeypatch) -> None:
    """torch.onnx.export takes seconds: the graph is the one that it has written already."""
    graph = onnx.load(shipped.export / "model.onnx")
    del graph.metadata_props[:]
    for module in (onnx_files, verify):
        monkeypatch.setattr(module, "to_onnx", lambda *args, **more: copy.deepcopy(graph))


def test_lost_points_end_with_1_and_name_the_layers(shipped, traced, monkeypatch, tmp_path, capsys):
    judge = verify.judge
    lost = 1  # of a dozen clips

    def spoiled(cfg, scores, label):
        report = judge(cfg, scores, label)
        report["int8"]["drop"] = 100 * lost / len(label)
        return report

    argv = [*shipped.argv, f"exports={tmp_path}", "calibration=8"]
    monkeypatch.setattr(verify, "judge", spoiled)
    assert call(p4_export, *argv) == 0
    lost = 2
    assert call(p4_export, *argv) == 1

    folder = tmp_path / "lite_nano"
    report = json.loads((folder / "report.json").read_text())
    assert not report["accepted"] and report["layers"][0]["layer"].startswith("features.")
    accepted = {form: metadata(folder / name)["accepted"] for form, name in FILES.items()}
    assert accepted == {"fp32": "true", "int8": "false", "w8": "true"}
    assert "do not ship" in (folder / "report.md").read_text()
    assert report["layers"][0]["layer"] in capsys.readouterr().err


def test_a_cut_export_leaves_the_one_before_it(shipped, traced, tmp_path, monkeypatch):
    folder = tmp_path / "lite_nano"
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

def test_an_export_of_another_data_set_is_not_overwritten(shipped, tmp_path):
    report = tmp_path / "lite_nano" / "report.json"
    report.parent.mkdir()
    for dataset, split, seed in (("ntu60", "xsub", 3), ("tiny", "xview", 3), ("tiny", "xsub", 2)):
        report.write_text(json.dumps({"dataset": dataset, "split": split, "seed": seed}))
        with pytest.raises(ValueError, match=f"{dataset} {split}, seed {seed}.*exports="):
            call(p4_export, *shipped.argv, f"exports={tmp_path}")
    assert [p.name for p in report.parent.iterdir()] == ["report.json"]


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
