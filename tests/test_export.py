"""Phase 4 and predict: every form computes the network's function, the files say what they are, and bad input is named."""
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import deploy
import exported
import numpy as np
import onnx
import p1_train
import p4_export
import predict
import pytest
import torch
from conftest import ROOT, write_store
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from recipe import load_config
from run import ClipStore, build_model, load_run
from torch import nn

from last import SKELETONS, ClipView, Skeleton, causal, conv1x1

QUICK = ["data.name=tiny", "data.num_classes=3", "device=cpu", "train.epochs=3", "train.batch=8", "train.warmup_epochs=1", "view.frames=12",
         "view.bodies=2", "seed=3"]


def stirred(model: nn.Module) -> nn.Module:
    """The model as if trained: no gate, scale or statistic is neutral any more."""
    g = torch.Generator().manual_seed(5)
    for p in model.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=g)
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_(0, 0.1, generator=g)
            m.running_var.uniform_(0.5, 1.5, generator=g)
    return model.eval()


def network(skeleton: str, *argv: str) -> nn.Module:
    return stirred(build_model(load_config(["recipe=lite_nano", *argv]), SKELETONS[skeleton], 7))


def joints(B: int, M: int, T: int, V: int) -> torch.Tensor:
    x = torch.randn(B, M, T, V, 3, generator=torch.Generator().manual_seed(B * T))
    x[::2, 1:] = 0  # absent in every other clip
    return x


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A short run on a tiny store, and its export: (working folder, run folder, export folder, the run's arguments)."""
    folder = tmp_path_factory.mktemp("export")
    write_store(folder / "stores" / "tiny", clips=48)
    before = os.getcwd()
    os.chdir(folder)
    try:
        argv = ["recipe=lite_nano", *QUICK, f"data.store={folder / 'stores' / 'tiny'}", f"out={folder / 'runs'}"]
        p1_train.main(argv)
        code = p4_export.main([*argv, f"exports={folder / 'exports'}", "calibration=16"])
    finally:
        os.chdir(before)
    assert code in (0, 1)
    return folder, folder / "runs" / "lite_nano" / "tiny-xsub" / "seed3", folder / "exports" / "lite_nano", argv


# --- the deploy form ---

@settings(max_examples=12)
@given(st.sampled_from(["nano", "small"]), st.sampled_from(sorted(SKELETONS)), st.integers(5, 24), st.sampled_from([1, 2]), st.sampled_from([1, 7]),
       st.tuples(*[st.booleans()] * 5))
def test_the_deploy_form_is_the_network_in_every_switch(variant, skeleton, T, M, B, switches):
    embedding, dct, gate, region, is_causal = switches
    model = network(skeleton, f"model.variant={variant}", f"view.frames={T}", f"model.joint_embedding={str(embedding).lower()}",
                    f"model.dct_gate={str(dct).lower()}", f"model.frame_gate={str(gate).lower()}", f"model.shift={'region' if region else 'random'}")
    x = joints(B, M, T, SKELETONS[skeleton].num_joints)
    with torch.no_grad(), causal(model, is_causal):
        want = model(x)
    torch.testing.assert_close(deploy.deploy(model, is_causal)(x), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("recipe", ["base", "B0", "B11", "last_e"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_so_is_that_of_the_teachers(recipe, is_causal):
    cfg = load_config([f"recipe={recipe}", "view.frames=9", "model.width=16"])
    model = stirred(build_model(cfg, SKELETONS["kinect20"], 5))
    x = joints(3, 2, 9, 20)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad(), causal(model, is_causal):
        want = model(x)
    module = deploy.deploy(model, is_causal)
    torch.testing.assert_close(module(x), want, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()), "the trained network must stay as it is"


def test_nothing_is_left_to_normalise_or_to_learn_in_the_deploy_form():
    module = deploy.deploy(network("ntu25", "view.frames=16"))
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    assert not any(p.requires_grad for p in module.parameters())
    tables = [b for b in module.buffers() if b.dtype not in (torch.float32,)]
    assert tables and all(b.dtype == torch.int32 and b.ndim == 1 for b in tables), "index tables are never wider than C·V"


# --- ONNX ---

@pytest.mark.parametrize("argv,M,is_causal", [((), 1, False), (("model.joint_embedding=false", "model.dct_gate=false", "model.frame_gate=false",
                                                               "model.shift=random"), 2, True)])
def test_onnx_is_the_network_for_any_batch_of_real_clips(data_folder, argv, M, is_causal):
    with np.load(data_folder / "utd-mhad.npz") as z:
        clips = torch.from_numpy(z["data"][:64 * M * 16].astype(np.float32)).view(64, M, 16, 20, 3)
    clips = clips - clips.mean((1, 2, 3), keepdim=True)
    clips[::2, 1:] = 0  # absent in every other clip
    model = network("kinect20", "view.frames=16", *argv)
    module = deploy.deploy(model, is_causal)
    run = deploy.session(deploy.to_onnx(module, clips[:2], 18))
    for B in (1, 7, 64):
        x = clips[:B]
        with torch.no_grad(), causal(model, is_causal):
            want = model(x)
        torch.testing.assert_close(module(x), want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(p4_export.logits_of(run, x.numpy()), want.numpy(), rtol=1e-4, atol=1e-4)


def test_opset_13_is_written_when_it_is_asked_for():
    model = network("coco17", "view.frames=12")
    graph = deploy.to_onnx(deploy.deploy(model), joints(2, 2, 12, 17), 13)
    assert [o.version for o in graph.opset_import if o.domain == ""] == [13]
    x = joints(7, 2, 12, 17)
    with torch.no_grad():
        np.testing.assert_allclose(p4_export.logits_of(deploy.session(graph), x.numpy()), model(x).numpy(), rtol=1e-4, atol=1e-4)


def test_a_block_of_base_goes_through_onnx():
    cfg = load_config(["recipe=base", "view.frames=32", "model.width=16"])
    model = build_model(cfg, SKELETONS["coco17"], 5)
    model.stages = nn.ModuleList([nn.ModuleList([model.stages[2][0]])])  # it has every piece, a stride too; ten blocks take minutes
    model.stem = nn.Sequential(nn.BatchNorm2d(3), conv1x1(3, 32))
    x = joints(3, 1, 16, 17)  # what the third stage sees of 32 frames
    with torch.no_grad():
        want = stirred(model)(x)
    run = deploy.session(deploy.to_onnx(deploy.deploy(model), x[:2], 18))
    np.testing.assert_allclose(p4_export.logits_of(run, x.numpy()), want.numpy(), rtol=1e-4, atol=1e-4)


def test_another_opset_than_asked_for_is_refused(monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda module, args, path, **kw: onnx.save(onnx.helper.make_model(
        onnx.helper.make_graph([], "g", [], []), opset_imports=[onnx.helper.make_opsetid("", 18)]), path))
    with pytest.raises(ValueError, match="opset = 14: the exporter wrote 18"):
        deploy.to_onnx(nn.Identity(), torch.zeros(1), 14)


def test_equal_constants_are_stored_once():
    module = deploy.deploy(network("ntu25", "view.frames=16"))
    graph = deploy.to_onnx(module, joints(2, 1, 16, 25), 18).graph
    values = [numpy_helper.to_array(i) for i in graph.initializer]
    keys = [(str(v.dtype), v.shape, v.tobytes()) for v in values]
    assert len(keys) == len(set(keys)) and not graph.value_info


def test_weights_in_8_bits_are_within_half_a_step():
    graph = deploy.to_onnx(deploy.deploy(network("ntu25", "view.frames=16")), joints(2, 1, 16, 25), 18)
    small = deploy.weight_only(graph)
    arrays = {i.name: numpy_helper.to_array(i) for i in small.graph.initializer}
    weights = {i.name: numpy_helper.to_array(i) for i in graph.graph.initializer}
    layers = [n for n in graph.graph.node if n.op_type in ("Conv", "Gemm")]
    for node in layers:
        name = node.input[1]
        w, q, scale = weights[name], arrays[f"{name}_q"], arrays[f"{name}_scale"]
        axis = int(node.op_type == "Gemm" and q.shape[0] != len(scale))
        step = np.expand_dims(scale, tuple(i for i in range(w.ndim) if i != axis))
        assert q.dtype == np.int8 and (np.abs(q * step - w) <= step * 0.5001).all()
    assert len(small.SerializeToString()) < 0.6 * len(graph.SerializeToString())


def test_layers_put_back_to_float_one_by_one_make_the_float_graph_again():
    model = network("ntu25", "view.frames=16")
    x = joints(24, 1, 16, 25).numpy()
    graph = deploy.to_onnx(deploy.deploy(model), torch.from_numpy(x[:2]), 18)
    int8, plain = deploy.static_int8(graph, x)
    want = p4_export.logits_of(deploy.session(plain), x)
    kinds = {i.name: i.data_type for i in int8.graph.initializer}
    assert onnx.TensorProto.INT8 in kinds.values()
    error = np.abs(p4_export.logits_of(deploy.session(int8), x) - want).mean()
    for node in [n.name for n in int8.graph.node if n.op_type in ("Conv", "Gemm")]:
        int8 = deploy.back_to_float(int8, plain, node)
    left = np.abs(p4_export.logits_of(deploy.session(int8), x) - want).mean()
    assert left < 0.02 * error, (left, error)


# --- verification ---

def test_what_a_form_loses_is_counted_clip_by_clip():
    label = np.array([0, 0, 1, 1, 2, 2, 0, 1])
    reference, other = np.eye(3)[[0, 0, 1, 1, 2, 0, 0, 1]], np.eye(3)[[0, 1, 1, 1, 2, 2, 1, 1]]
    x = p4_export.compared(reference, other, label)
    assert (x["top1"], x["drop"], x["agreement"], x["max_diff"]) == (75.0, 12.5, 62.5, 1.0)
    low, high = x["drop_ci95"]
    assert low < 0 < 12.5 < high
    # Agresti and Min: (b - c) / (n + 2) ± 1.96 sqrt((b + c + 1) - (b - c)² / (n + 2)) / (n + 2), with b = 2 lost and c = 1 won
    assert high == pytest.approx(100 * (1 / 10 + 1.96 * (4 - 1 / 10) ** 0.5 / 10))


def test_the_interval_of_no_change_still_has_a_width():
    z = np.eye(3)[np.arange(300) % 3]
    x = p4_export.compared(z, z, np.arange(300) % 3)
    assert x["drop"] == 0 and x["agreement"] == 100 and x["drop_ci95"][0] < 0 < x["drop_ci95"][1] < 1


def test_the_export_is_complete_and_says_what_it_is(shipped):
    folder, run, export, _ = shipped
    assert {p.name for p in export.iterdir()} == {"model.onnx", "model.int8.onnx", "model.w8.onnx", "report.json", "report.md"}
    report = json.loads((export / "report.json").read_text())
    store = ClipStore(folder / "stores" / "tiny")
    for form, name in p4_export.FILES.items():
        model = onnx.load(export / name)
        onnx.checker.check_model(model, full_check=True)
        about = {p.key: p.value for p in model.metadata_props}
        assert Skeleton.from_dict(json.loads(about["skeleton"])) == store.skeleton
        assert json.loads(about["classes"]) == store.classes and about["form"] == form and about["recipe"] == "lite_nano"
        assert json.loads(about["view"])["frames"] == 12 and json.loads(about["streams"]) == ["joint", "bone", "velocity", "bone_velocity"]
        assert json.loads(about["top1"]) == report[form]["top1"]
        assert report[form]["bytes"] == (export / name).stat().st_size
        assert [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] == [18]
    assert {"recipe", "dataset", "params", "command", "device", "commit", "fp32", "int8", "w8", "latency"} <= report.keys()
    assert {"top1", "bytes", "drop", "drop_ci95", "agreement", "max_diff"} <= report["int8"].keys() & report["w8"].keys()
    assert report["latency"].keys() == {"eager", "train_form", "deploy", "int8", "w8"} and report["latency"]["deploy"] == 1
    assert report["fp32"]["top1"] == pytest.approx(json.loads((run / "result.json").read_text())["top1"])
    assert report["fp32"]["parity"] < 1e-4
    weights = [i.data_type for i in onnx.load(export / "model.int8.onnx").graph.initializer]
    assert onnx.TensorProto.INT8 in weights


def test_a_lost_point_ends_with_1_and_names_the_layers(shipped, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(p4_export, "DROP", -1000.0)
    assert p4_export.main([*shipped[3], f"exports={tmp_path}", "calibration=8"]) == 1
    report = json.loads((tmp_path / "lite_nano" / "report.json").read_text())
    assert not report["accepted"] and report["layers"][0]["layer"].startswith("features.")
    about = {form: {p.key: p.value for p in onnx.load(tmp_path / "lite_nano" / f).metadata_props} for form, f in p4_export.FILES.items()}
    assert [about[form]["accepted"] for form in ("fp32", "int8", "w8")] == ["true", "false", "true"]
    assert "do not ship" in (tmp_path / "lite_nano" / "report.md").read_text()
    assert report["layers"][0]["layer"] in capsys.readouterr().err


def test_an_export_of_another_data_set_is_not_overwritten(shipped, tmp_path):
    report = tmp_path / "lite_nano" / "report.json"
    report.parent.mkdir()
    for dataset, split, seed in (("ntu60", "xsub", 3), ("tiny", "xview", 3), ("tiny", "xsub", 2)):
        report.write_text(json.dumps({"dataset": dataset, "split": split, "seed": seed}))
        with pytest.raises(ValueError, match=f"holds the export for {dataset} {split}, seed {seed}: give exports="):
            p4_export.main([*shipped[3], f"exports={tmp_path}"])
    assert [p.name for p in report.parent.iterdir()] == ["report.json"]


def test_a_cut_export_leaves_the_one_before_it(shipped, tmp_path, monkeypatch):
    folder = tmp_path / "lite_nano"
    shutil.copytree(shipped[2], folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def cut(runs):
        raise KeyboardInterrupt
    monkeypatch.setattr(p4_export, "latencies", cut)
    with pytest.raises(KeyboardInterrupt):
        p4_export.main([*shipped[3], f"exports={tmp_path}", "calibration=4"])
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("argument,message", [
    ("opset=12", "opset = '12'"), ("format=coreml", "format = 'coreml'"), ("calibration=0", "calibration = '0'"), ("causal=yes", "causal = 'yes'"),
    ("seed=9", "no finished run in .*seed9"), ("opse=13", "unknown key opse")])
def test_bad_arguments_are_named(shipped, argument, message):
    argv = [a for a in shipped[3] if not a.startswith(argument.split("=")[0] + "=")]
    with pytest.raises(ValueError, match=message):
        p4_export.main([*argv, argument])


def test_a_store_that_was_replaced_since_is_noticed(shipped, tmp_path):
    other = write_store(tmp_path / "other", clips=36)
    with pytest.raises(ValueError, match="holds other test clips than .* was tested on"):
        p4_export.main([*shipped[3], f"data.store={other}", f"exports={tmp_path / 'e'}"])


def test_classes_in_another_order_than_the_network_learned_are_noticed(shipped, tmp_path):
    other = write_store(tmp_path / "other")
    meta = json.loads((other / "meta.json").read_text())
    (other / "meta.json").write_text(json.dumps({**meta, "classes": meta["classes"][::-1]}))
    with pytest.raises(ValueError, match="was trained on other classes than .* has now"):
        p4_export.main([*shipped[3], f"data.store={other}", f"exports={tmp_path / 'e'}"])


def test_without_the_extra_tflite_a_line_says_how_to_get_it(shipped, monkeypatch):
    monkeypatch.setattr(p4_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[tflite\]'"):
        p4_export.main([*shipped[3], "format=tflite"])


# --- predict ---

@given(st.sampled_from(["uniform", "crop", "stretch"]), st.integers(1, 40), st.sampled_from([1, 2]), st.sampled_from([0, 0.5, 1]),
       st.sampled_from([0, 0.3]),
       st.booleans(), st.booleans(), st.booleans())
def test_the_view_in_numpy_is_the_view(tmp_path_factory, sampling, T, M, smooth, missing, heading, trunk, extent):
    folder = tmp_path_factory.getbasetemp() / "view-store"
    if not folder.exists():
        write_store(folder, clips=12)
    store = ClipStore(folder)
    store.frames = np.where(np.random.default_rng(T).random(store.frames.shape[:2])[..., None] < missing, 0, store.frames)
    switches = {"heading": heading, "trunk_scale": trunk, "extent": extent}
    cfg = load_config(["recipe=lite_nano", f"view.frames={T}", f"view.sampling={sampling}", f"view.bodies={M}", f"view.smooth={smooth}",
                       *(f"view.{k}={str(v).lower()}" for k, v in switches.items())])
    want = ClipView(store, cfg.view)(torch.arange(12)).numpy()
    about = p4_export.description(cfg, store.skeleton, store.classes, network("ntu25"), False)
    for i in range(12):
        np.testing.assert_allclose(exported.as_seen(raw(store, i), about["view"], about["skeleton"]), want[i], rtol=1e-4, atol=1e-5)


def raw(store: ClipStore, i: int) -> np.ndarray:
    length = store.clips["length"][i]
    return np.stack([store.frames[first:first + length] for first in store.clips["offset"][i] if first >= 0])


def run(*argv: str, text: str | None = None) -> subprocess.CompletedProcess:
    """predict.py in a process in which torch cannot be imported."""
    code = (f"import sys, runpy; sys.modules.update(torch=None, last=None, einops=None, onnx=None); sys.path.insert(0, {str(ROOT / 'phases')!r}); "
            f"sys.argv = ['predict.py', *{list(argv)!r}]; runpy.run_path({str(ROOT / 'phases' / 'predict.py')!r}, run_name='__main__')")
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, input=text)


@pytest.fixture(scope="module")
def clips(shipped) -> Path:
    """The clips of the store's test side as .npy files."""
    folder, _, _, _ = shipped
    store = ClipStore(folder / "stores" / "tiny")
    (folder / "clips").mkdir()
    for i in store.split("xsub")[1]:
        np.save(folder / "clips" / f"{store.clips['name'][i]}.npy", raw(store, i))
    return folder / "clips"


@pytest.mark.parametrize("form", ["fp32", "w8"])
def test_predictions_are_the_test_split_s_clip_by_clip_without_torch(shipped, clips, form):
    _, folder, export, _ = shipped
    done = run(f"model={export / p4_export.FILES[form]}", f"clip={clips}", "format=json", "top=3")
    assert done.returncode == 0, done.stderr
    got = {x["clip"].removesuffix(".npy"): {t["label"]: t["probability"] for t in x["top"]} for x in json.loads(done.stdout)}
    with np.load(folder / "scores.npz") as z:
        p = torch.from_numpy(z["logits"]).softmax(1).numpy()
        assert len(got) == len(z["name"])
        for name, row in zip(z["name"], p, strict=True):
            np.testing.assert_allclose([got[name][f"swing {k}"] for k in range(3)], row, atol=2e-5 if form == "fp32" else 0.05)


def test_forms_of_output(shipped, clips, tmp_path):
    model = exported.Model(shipped[2] / "model.onnx")
    one = sorted(clips.iterdir())[0]
    p = model(predict.read(one, model))
    assert p.shape == (3,) and p.sum() == pytest.approx(1, abs=1e-5)
    rows = predict.report([("a", p), ("b", p)], model.classes, 2, "csv").splitlines()
    assert rows[0] == "clip,rank,label,probability" and len(rows) == 5
    names = [r["label"] for r in json.loads(predict.report([("a", p)], model.classes, 5, "json"))[0]["top"]]
    assert names == [model.classes[k] for k in np.argsort(-p)]
    out = tmp_path / "labels.csv"
    assert predict.main([f"model={shipped[2] / 'model.onnx'}", f"clip={one}", "format=csv", f"out={out}"]) == 0
    assert out.read_text().startswith("clip,rank") and [p.name for p in tmp_path.iterdir()] == ["labels.csv"]
    argv = [f"model={shipped[2] / 'model.onnx'}", f"clip={one}", "format=csv"]
    assert predict.main([*argv, f"out={out}"]) == 0, "an earlier answer gives way"
    for name, text in (("labels.csv", "name,label\n"), ("clip.npy", "..."), ("model.onnx", "..."), ("clip.json", "[{}]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="exists, and would be lost"):
            predict.main([*argv, f"out={tmp_path / name}"])
        assert (tmp_path / name).read_text() == text
    with pytest.raises(ValueError, match="is a folder"):
        predict.main([*argv, f"out={tmp_path}"])


def test_frames_on_standard_input_become_a_label_with_its_latency(shipped, clips):
    x = np.load(sorted(clips.iterdir())[3])
    lines = "".join(json.dumps(f.tolist()) + "\n" for f in x.transpose(1, 0, 2, 3)) + "[]\n"
    done = run(f"model={shipped[2] / 'model.onnx'}", "stream=true", "sure=0.34", "hold=2", text=lines)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("frame 2: swing ") and "ms each" in done.stderr
    unsure = run(f"model={shipped[2] / 'model.onnx'}", "stream=true", "sure=1", text=lines)
    assert "not sure" in unsure.stdout


def test_the_last_window_alone_decides(shipped, clips, capsys):
    model = exported.Model(shipped[2] / "model.onnx")
    seen = []
    monkey = lambda clip: seen.append(clip.shape[1]) or np.array([1.0, 0, 0])  # noqa: E731
    monkey.skeleton, monkey.view, monkey.classes = model.skeleton, model.view, model.classes
    line = json.dumps(np.random.default_rng(0).normal(size=(25, 3)).tolist())
    predict.stream(monkey, [line] * 9, 0.5, 3, 4)
    assert seen == [1, 2, 3, 4, 4, 4, 4, 4, 4]
    assert capsys.readouterr().out == "frame 3: swing 0 (100 %)\n", "one line as soon as it is sure, none after"


@pytest.mark.parametrize("text,message", [
    ("", "no frame with a body"), ("[[1, 2, 3]]\n", "line 1: has shape"), ("[]\nhello\n", "line 2: is no JSON"), ("[" * 5000, "is no JSON"),
    (f"[{', '.join([f'[{10**400}, 0, 0]'] * 25)}]\n", "line 1: is no JSON"),
    ("[[[NaN, 0, 0]]]\n", "line 1: has shape"), (f"\n[{', '.join(['[NaN, 0, 0]'] * 25)}]\n", "line 2: a coordinate is not finite")])
def test_bad_frames_are_named(shipped, text, message):
    with pytest.raises(ValueError, match=message):
        predict.stream(exported.Model(shipped[2] / "model.onnx"), io.StringIO(text), 0.8, 5, 12)


def test_what_is_no_model_or_no_clip_of_it_is_one_line(shipped, clips, tmp_path):
    whole = shipped[2] / "model.onnx"
    (tmp_path / "cut.onnx").write_bytes(whole.read_bytes()[:5000])
    onnx.save(deploy.to_onnx(nn.Flatten(), torch.zeros(1, 4), 18), tmp_path / "other.onnx")
    np.save(tmp_path / "twenty.npy", np.ones((5, 20, 3)))
    np.save(tmp_path / "empty.npy", np.zeros((0, 25, 3)))
    np.save(tmp_path / "nobody.npy", np.zeros((4, 25, 3)))
    np.save(tmp_path / "nan.npy", np.full((4, 25, 3), np.nan))
    (tmp_path / "a01_s01_e00_v01.json").write_text(json.dumps({"skeletons": np.ones((4, 25, 3)).tolist(), "label": 1}))
    (tmp_path / "bad.skeleton").write_text("1\n1\nnonsense\n")
    good = sorted(clips.iterdir())[0]
    cases = [(tmp_path / "cut.onnx", good, "is no ONNX file that can be used"), (tmp_path / "other.onnx", good, "carries no metadata"),
             (tmp_path / "none.onnx", good, "no such file; make one"),
             (whole, tmp_path / "twenty.npy", "has 20 joints, the model's skeleton 'ntu25' has 25"),
             (whole, tmp_path / "empty.npy", "no frame"), (whole, tmp_path / "nobody.npy", "no body in any frame"),
             (whole, tmp_path / "nan.npy", "not finite"),
             (whole, tmp_path / "a01_s01_e00_v01.json", "is of skeleton 'kinect20', the model knows 'ntu25'"),
             (whole, tmp_path / "bad.skeleton", "line 3"), (whole, tmp_path / "absent.npy", "no such file or folder")]
    for model, clip, message in cases:
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            predict.main([f"model={model}", f"clip={clip}"])
    done = run(f"model={whole}", f"clip={tmp_path / 'twenty.npy'}")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    np.save(tmp_path / "good.npy", np.load(good))
    np.savez_compressed(tmp_path / "torn.npz", np.random.default_rng(0).normal(size=(9, 25, 3)))
    torn = bytearray((tmp_path / "torn.npz").read_bytes())
    torn[200:300] = bytes(100)
    (tmp_path / "torn.npz").write_bytes(torn)
    done = run(f"model={whole}", f"clip={tmp_path}", "format=csv", "top=1")
    assert done.returncode == 3 and len(done.stdout.splitlines()) == 2 and done.stderr.count("skipped:") == 7


def test_a_folder_that_names_another_skeleton_is_refused(shipped, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 25, 3)))
    (tmp_path / "skeleton.json").write_text('{"skeleton": {"name": "mocap25"}}')
    with pytest.raises(ValueError, match="is of skeleton 'mocap25', the model knows 'ntu25'"):
        predict.main([f"model={shipped[2] / 'model.onnx'}", f"clip={tmp_path / 'x.npy'}"])


@pytest.mark.parametrize("argv,message", [
    (["clip=x"], "no model"), (["model=x"], "give clip="), (["model=x", "clip=y", "stream=true"], "not both"), (["modle=x"], "did you mean 'model'"),
    (["model=x", "clip=y", "clip=z"], "given twice"), (["model=x", "stream=true", "format=csv"], "lines of text"),
    (["model=x", "clip=y", "out=/no/such/f.csv"], "there is no folder"), ([f"model={ROOT}", "clip=y"], "is a folder"),
    (["model=x", "clip=y", "format=xml"], "format = 'xml'"), (["model=x", "clip=y", "top=many"], "must be numbers"),
    (["model=x", "clip=y", "top=0"], "at least 1")])
def test_bad_arguments_of_predict_are_named(argv, message):
    with pytest.raises(ValueError, match=message):
        predict.main(argv)


def test_a_real_recording_is_read_as_phase_0_reads_it(shipped, data_folder, tmp_path):
    import lzma
    model = exported.Model(shipped[2] / "model.onnx")
    for packed in sorted((data_folder / "ntu-samples").glob("*.skeleton.xz")):
        path = tmp_path / packed.name.removesuffix(".xz")
        path.write_bytes(lzma.decompress(packed.read_bytes()))
        p = model(predict.read(path, model))
        assert p.shape == (3,)
        other = path.rename(tmp_path / "mine.skeleton")  # what is to be named needs no name of NTU's
        assert np.array_equal(model(predict.read(other, model)), p)


def test_a_body_that_is_never_seen_leaves_its_place_to_the_next_as_in_a_store(shipped, clips, tmp_path):
    model = exported.Model(shipped[2] / "model.onnx")
    x = np.load(sorted(clips.iterdir())[3])[:1]
    np.save(tmp_path / "first.npy", x)
    np.save(tmp_path / "second.npy", np.concatenate([0 * x, x]))
    a, b = (model(predict.read(tmp_path / f"{n}.npy", model)) for n in ("first", "second"))
    assert np.array_equal(a, b)
    seen = []
    monkey = lambda clip: seen.append(clip) or a  # noqa: E731
    monkey.skeleton, monkey.view, monkey.classes = model.skeleton, {**model.view, "bodies": 1}, model.classes
    predict.stream(monkey, [json.dumps([np.zeros((25, 3)).tolist(), f.tolist()]) for f in x[0]], 0.0, 1, 500)
    assert np.array_equal(seen[-1], x)


def test_a_finished_run_gives_back_its_network(shipped):
    model, cfg, skeleton, classes = load_run(shipped[1])
    assert cfg.view.bodies == 2 and skeleton.name == "ntu25" and classes == ["swing 0", "swing 1", "swing 2"]
