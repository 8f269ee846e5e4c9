"""Phase 4: the files say what they are, what each form loses is measured, and bad input is named."""
import copy
import importlib.util
import json
import shutil

import numpy as np
import onnx
import pytest

from phases import p4_export
from phases.training.clip_store import ClipStore
from phases.training.networks import load_run
from skeletons import Skeleton
from tests.helpers.clip_stores import write_store
from tests.helpers.shipped import Shipped, ship


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


def metadata(path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def test_what_a_form_loses_is_counted_clip_by_clip():
    label = np.array([0, 0, 1, 1, 2, 2, 0, 1])
    reference, other = np.eye(3)[[0, 0, 1, 1, 2, 0, 0, 1]], np.eye(3)[[0, 1, 1, 1, 2, 2, 1, 1]]
    x = p4_export.compare(reference, other, label)
    assert (x["top1"], x["drop"], x["agreement"], x["max_diff"]) == (75.0, 12.5, 62.5, 1.0)
    low, high = x["drop_ci95"]
    assert low < 0 < 12.5 < high
    # Agresti and Min: (b - c) / (n + 2) ± 1.96 sqrt((b + c + 1) - (b - c)² / (n + 2)) / (n + 2), b = 2 lost, c = 1 won
    assert high == pytest.approx(100 * (1 / 10 + 1.96 * (4 - 1 / 10) ** 0.5 / 10))


def test_the_interval_of_no_change_still_has_a_width():
    z = np.eye(3)[np.arange(300) % 3]
    x = p4_export.compare(z, z, np.arange(300) % 3)
    assert x["drop"] == 0 and x["agreement"] == 100 and x["drop_ci95"][0] < 0 < x["drop_ci95"][1] < 1


def test_the_export_is_complete_and_says_what_it_is(shipped):
    names = {p.name for p in shipped.export.iterdir()}
    assert names == {"model.onnx", "model.int8.onnx", "model.w8.onnx", "report.json", "report.md"}
    report = json.loads((shipped.export / "report.json").read_text())
    store = ClipStore(shipped.folder / "stores" / "tiny")
    for form, name in p4_export.FILES.items():
        model = onnx.load(shipped.export / name)
        onnx.checker.check_model(model, full_check=True)
        about = metadata(shipped.export / name)
        assert Skeleton.from_dict(json.loads(about["skeleton"])) == store.skeleton
        assert json.loads(about["classes"]) == store.classes
        assert about["form"] == form and about["recipe"] == "lite_nano"
        assert json.loads(about["view"])["frames"] == 12
        assert json.loads(about["streams"]) == ["joint", "bone", "velocity", "bone_velocity"]
        assert json.loads(about["top1"]) == report[form]["top1"]
        assert report[form]["bytes"] == (shipped.export / name).stat().st_size
        assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [18]
    keys = {"recipe", "dataset", "params", "command", "device", "commit", "fp32", "int8", "w8", "latency"}
    assert keys <= report.keys()
    loss = {"top1", "bytes", "drop", "drop_ci95", "agreement", "max_diff"}
    assert loss <= report["int8"].keys() & report["w8"].keys()
    assert report["latency"].keys() == {"eager", "train_form", "deploy", "int8", "w8"}
    assert report["latency"]["deploy"] == 1
    assert report["fp32"]["top1"] == pytest.approx(json.loads((shipped.run / "result.json").read_text())["top1"])
    assert report["fp32"]["parity"] < 1e-4
    weights = [i.data_type for i in onnx.load(shipped.export / "model.int8.onnx").graph.initializer]
    assert onnx.TensorProto.INT8 in weights


@pytest.fixture
def traced(shipped, monkeypatch) -> None:
    """torch.onnx.export takes seconds: the graph is the one that it has written already."""
    graph = onnx.load(shipped.export / "model.onnx")
    del graph.metadata_props[:]
    monkeypatch.setattr(p4_export.graphs, "to_onnx", lambda *args, **more: copy.deepcopy(graph))


def test_lost_points_end_with_1_and_name_the_layers(shipped, traced, monkeypatch, tmp_path, capsys):
    def spoiled(cfg, scores, label):
        report = judge(cfg, scores, label)
        report["int8"]["drop"] = 100 * lost / len(label)
        return report

    judge, argv = p4_export.judge, [*shipped.argv, f"exports={tmp_path}", "calibration=8"]
    monkeypatch.setattr(p4_export, "judge", spoiled)
    lost = 1  # of a dozen clips
    assert p4_export.main(argv) == 0
    lost = 2
    assert p4_export.main(argv) == 1
    folder = tmp_path / "lite_nano"
    report = json.loads((folder / "report.json").read_text())
    assert not report["accepted"] and report["layers"][0]["layer"].startswith("features.")
    accepted = {form: metadata(folder / name)["accepted"] for form, name in p4_export.FILES.items()}
    assert accepted == {"fp32": "true", "int8": "false", "w8": "true"}
    assert "do not ship" in (folder / "report.md").read_text()
    assert report["layers"][0]["layer"] in capsys.readouterr().err


def test_an_export_of_another_data_set_is_not_overwritten(shipped, tmp_path):
    report = tmp_path / "lite_nano" / "report.json"
    report.parent.mkdir()
    for dataset, split, seed in (("ntu60", "xsub", 3), ("tiny", "xview", 3), ("tiny", "xsub", 2)):
        report.write_text(json.dumps({"dataset": dataset, "split": split, "seed": seed}))
        message = f"holds the export for {dataset} {split}, seed {seed}: give exports="
        with pytest.raises(ValueError, match=message):
            p4_export.main([*shipped.argv, f"exports={tmp_path}"])
    assert [p.name for p in report.parent.iterdir()] == ["report.json"]


def test_a_cut_export_leaves_the_one_before_it(shipped, traced, tmp_path, monkeypatch):
    folder = tmp_path / "lite_nano"
    shutil.copytree(shipped.export, folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def cut(runs):
        raise KeyboardInterrupt

    monkeypatch.setattr(p4_export, "latencies", cut)
    with pytest.raises(KeyboardInterrupt):
        p4_export.main([*shipped.argv, f"exports={tmp_path}", "calibration=4"])
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("argument,message", [
    ("opset=12", "opset = '12'"), ("format=coreml", "format = 'coreml'"), ("calibration=0", "calibration = '0'"),
    ("causal=yes", "causal = 'yes'"), ("seed=9", "no finished run in .*seed9"), ("opse=13", "unknown key opse")])
def test_bad_arguments_are_named(shipped, argument, message):
    argv = [a for a in shipped.argv if not a.startswith(argument.split("=")[0] + "=")]
    with pytest.raises(ValueError, match=message):
        p4_export.main([*argv, argument])


def test_a_store_that_was_replaced_since_is_noticed(shipped, tmp_path):
    other = write_store(tmp_path / "other", clips=36)
    with pytest.raises(ValueError, match="holds other test clips than .* was tested on"):
        p4_export.main([*shipped.argv, f"data.store={other}", f"exports={tmp_path / 'e'}"])


def test_classes_in_another_order_than_the_network_learned_are_noticed(shipped, tmp_path):
    other = write_store(tmp_path / "other")
    meta = json.loads((other / "meta.json").read_text())
    (other / "meta.json").write_text(json.dumps({**meta, "classes": meta["classes"][::-1]}))
    with pytest.raises(ValueError, match="was trained on other classes than .* has now"):
        p4_export.main([*shipped.argv, f"data.store={other}", f"exports={tmp_path / 'e'}"])


def test_without_the_extra_tflite_a_line_says_how_to_get_it(shipped, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[tflite\]'"):
        p4_export.main([*shipped.argv, "format=tflite"])


def test_a_finished_run_gives_back_its_network(shipped):
    model, cfg, skeleton, classes = load_run(shipped.run)
    assert cfg.view.bodies == 2 and skeleton.name == "ntu25" and classes == ["swing 0", "swing 1", "swing 2"]
