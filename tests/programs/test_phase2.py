"""Phase 2: a teacher that never changes, projections that are dropped at the end, resume, and what is refused."""
import contextlib
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import last
from last import Conv1x1, load_checkpoint
from phases import p1_train, p2_distill
from phases.common.protocols import XSUB60, XSUB120
from phases.p2_distill import Distilled, distil_loss, dkd_loss, kd_loss, make_distilled, soft_loss
from phases.training.batches import Batches
from phases.training.clip_store import ClipStore
from phases.training.evaluation import predict
from phases.training.networks import build_model, check_leakage, load_run
from phases.training.recipe import Distil, load_config
from phases.training.teachers import Teacher, load_teachers
from phases.training.view import ClipView
from skeletons import SKELETONS
from tests.helpers.clip_stores import latest, write_store
from tests.helpers.loss_formulas import rows
from tests.helpers.toy_training import Cut, cut_after

QUICK = ["data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "train.epochs=2", "train.batch=8",
         "train.warmup_epochs=1", "train.lr=0.05"]


def nano(classes: int = 3, seed: int = 0, *argv: str) -> nn.Module:
    cfg = load_config(["recipe=lite_nano", "view.frames=8", "model.dropout=0", f"seed={seed}", *argv])
    return build_model(cfg, SKELETONS["ntu25"], classes)


def state(model: nn.Module) -> dict:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def weights(path: Path) -> dict:
    return load_checkpoint(path)["model"]


def log(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def complaint(run, *argv) -> str:
    """The one line with which a program refuses, after it has written nothing."""
    before = {p: p.read_bytes() for p in Path.cwd().rglob("*") if p.is_file()}
    with pytest.raises(ValueError) as e:
        run(*argv)
    assert "\n" not in str(e.value)
    assert {p: p.read_bytes() for p in Path.cwd().rglob("*") if p.is_file()} == before
    return str(e.value)


# --- the teacher ---

class Wide(nn.Module):
    """A small teacher with LAST-Base's widths and strides. `seen` records how it is called: (bodies, causal, grad,
    inference mode)."""

    def __init__(self, classes: int = 3, widths=(128, 256, 384), strides=(1, 2, 2)):
        super().__init__()
        stages = [nn.Sequential(Conv1x1(a, b), nn.BatchNorm2d(b)) for a, b in zip((3, *widths), widths, strict=False)]
        self.stages = nn.ModuleList(stages)
        self.conv = last.TemporalConv(3, 3, 3)
        self.strides = strides
        self.head = last.Head(widths[-1], classes, 0.5)
        self.seen = []

    def features(self, bodies):
        self.seen.append((bodies, self.conv.causal, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        x, maps = self.conv(bodies.permute(0, 3, 1, 2)), []
        for stage, stride in zip(self.stages, self.strides, strict=True):
            x = stage(x[:, :, ::stride])
            maps.append(x)
        return maps

    def forward(self, joints):
        return last.classify(self, joints, self.training)[0]


def batch(B: int = 6, M: int = 1, T: int = 8, classes: int = 3) -> dict:
    return {"joints": torch.randn(B, M, T, 25, 3), "label": torch.arange(B) % classes}


def test_teachers_give_their_mean_and_the_first_its_maps():
    one, two, x = nano(seed=1).eval(), nano(seed=2).eval(), batch()["joints"]
    mean, maps = Teacher([one, two], 2.0)(x)

    with torch.no_grad():
        want = ((one(x) / 2).softmax(1) + (two(x) / 2).softmax(1)) / 2
        torch.testing.assert_close(mean, want)
        assert len(maps) == 3 and all(torch.equal(a, b) for a, b in zip(maps, one.features(x[:, 0]), strict=True))
    assert not mean.is_inference() and mean.sum(1).allclose(torch.ones(6))


def test_absent_bodies_cost_the_teacher_no_time():
    wide, x = Wide().eval(), batch(M=2)["joints"]
    x[1, 1], x[4, 1], x[5] = 0, 0, 0  # the first body of a clip always counts
    there = [0, 1, 2, 4, 5, 6, 7, 8, 10]  # of (b m)
    target, maps = Teacher([wide, nano(seed=1)], 4.0)(x)
    assert len(wide.seen[0][0]) == len(there)

    all_logits, all_maps = last.classify(wide, x, drop_absent=False)
    others = last.classify(nano(seed=1).eval(), x, drop_absent=False)[0]
    torch.testing.assert_close(target, ((all_logits / 4).softmax(1) + (others / 4).softmax(1)) / 2)
    for few, every in zip(maps, all_maps, strict=True):
        torch.testing.assert_close(few, every[there])


def test_training_changes_nothing_of_the_teacher(tmp_path):
    class OneBatch:
        def __len__(self):
            return 1

        def __call__(self, epoch=0, start=0):
            return iter([data][start:])

    wide, data = Wide(), batch()
    teacher = Teacher([wide.train()], 4.0)
    before = state(wide)
    model = make_distilled(nano(), teacher, 0.1, data["joints"][:1])
    student = state(model)
    cfg = last.Train(epochs=2, amp="fp32", warmup_epochs=0)
    last.fit(model, OneBatch(), distil_loss(teacher, Distil()), cfg, tmp_path, {})

    # the teacher is as it was, the student and the projections are not
    assert equal(state(wide), before) and all(p.grad is None and not p.requires_grad for p in wide.parameters())
    assert not any(m.training for m in wide.modules())
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, student[k])}
    projections = {f"projections.{i}.weight" for i in range(3)}
    assert projections | {"student.head.classifier.weight"} <= changed

    # how it was called
    for given_bodies, _, grad, inference in wide.seen[1:]:
        assert torch.equal(given_bodies, data["joints"][:, 0]) and inference and not grad


@pytest.mark.parametrize("shared", [True, False])
def test_the_teacher_is_causal_as_student_and_recipe_say(shared):
    wide, data = Wide(), batch()
    teacher = Teacher([wide], 4.0)
    model = make_distilled(nano(), teacher, 0.1, data["joints"][:1]).train()
    loss_fn = distil_loss(teacher, Distil(shared_causal=shared))
    wide.seen.clear()
    for on in (True, False, True):
        with last.causal(model, on):
            loss_fn(model, data)
        assert not wide.conv.causal  # restored
    assert [causal for _, causal, *_ in wide.seen] == [shared, False, shared]


def test_all_teachers_are_causal_together_and_under_autocast():
    teacher, data = Teacher([Wide(), Wide()], 4.0), batch()
    with torch.autocast("cpu", torch.bfloat16):
        mean, maps = teacher(data["joints"], is_causal=True)
    assert [net.seen[0][1] for net in teacher.nets] == [True, True]
    assert not any(net.conv.causal for net in teacher.nets)
    assert maps[-1].dtype == torch.bfloat16 and mean.dtype == torch.float32


# --- the loss ---

def test_the_loss_is_the_weighted_sum_of_its_parts():
    data, teacher = batch(), Teacher([Wide()], 4.0)
    model = make_distilled(nano(), teacher, 0.1, data["joints"][:1]).train()
    for p in model.parameters():
        nn.init.normal_(p, std=0.2)  # gates start at zero and would pass no gradient on
    for kind in ("kd", "dkd"):
        cfg = Distil(kind=kind, tau=3.0, alpha=0.3, beta=0.7, gamma=0.2, dkd_alpha=1.5, dkd_beta=5.0)
        loss, parts = distil_loss(teacher, cfg, 0.1)(model, data)
        torch.testing.assert_close(loss, 0.3 * parts["ce"] + 0.7 * parts["kd"] + 0.2 * parts["mimicry"])
        target, label = teacher(data["joints"])[0], data["label"]
        logits = last.classify(model.student, data["joints"], drop_absent=True)[0]
        want = {"kd": kd_loss(logits, target, 3.0), "dkd": dkd_loss(logits, target, label, 3.0, 1.5, 5.0)}
        torch.testing.assert_close(parts["kd"], want[kind])
        torch.testing.assert_close(parts["ce"], F.cross_entropy(logits, label, label_smoothing=0.1))
        assert not torch.isclose(*want.values())

    # every parameter has a gradient; projections do not change the logits
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    model.eval()
    assert torch.equal(model(data["joints"]), model.student(data["joints"]))


@pytest.mark.parametrize("row, widths, want", [
    ("lite_small", (128, 256, 384), 61_440), ("lite_nano", (128, 256, 384), 4_096 + 12_288 + 24_576),
    ("lite_small", (64, 96, 128), 3_072 + 6_912 + 12_288)])
def test_projections_are_counted_and_have_no_bias(row, widths, want):
    student = build_model(load_config([f"recipe={row}", "view.frames=8"]), SKELETONS["ntu25"], 3)
    teacher = Teacher([Wide(widths=widths)], 4.0)
    model = make_distilled(student, teacher, 0.1, batch(1)["joints"])
    assert sum(p.numel() for p in model.projections.parameters()) == want
    assert all(p.bias is None for p in model.projections)
    assert len(make_distilled(student, teacher, 0.0, batch(1)["joints"]).projections) == 0


def test_stages_that_do_not_match_in_frames_are_one_line():
    with pytest.raises(ValueError, match=r"distil.gamma.*384x4x25.*64x2x25.*gamma=0"):
        make_distilled(nano(), Teacher([Wide(strides=(1, 1, 2))], 4.0), 0.1, batch(1)["joints"])


def test_an_absent_second_body_changes_no_part_of_the_loss():
    data, teacher = batch(), Teacher([nano(seed=3)], 4.0)
    model = make_distilled(nano(), teacher, 0.1, data["joints"][:1]).train()
    two = {**data, "joints": torch.cat([data["joints"], torch.zeros_like(data["joints"])], 1)}
    (one, a), (both, b) = (distil_loss(teacher, Distil())(model, d) for d in (data, two))
    torch.testing.assert_close(one, both)
    assert all(a[k].item() == pytest.approx(b[k].item(), rel=1e-4) for k in a)


def test_norms_are_refreshed_without_absent_bodies():
    x, plain = torch.randn(6, 1, 8, 25, 3), nano()
    wrapped = Distilled(nano(), [])
    last.refresh_batchnorm(plain, lambda: [{"joints": x}])
    last.refresh_batchnorm(wrapped, lambda: [{"joints": torch.cat([x, torch.zeros_like(x)], 1)}])
    for k, v in plain.state_dict().items():
        torch.testing.assert_close(wrapped.student.state_dict()[k], v, msg=k)


@given(st.integers(0, 99))
def test_dkd_of_a_blend_is_the_shared_sum_over_both_labels(seed):
    def dkd_of(i, label):
        return dkd_loss(logits[i:i + 1], target[i:i + 1], label[i:i + 1], 2.0, 1.5, 5.0)

    logits, target, label = rows(5, 4, seed)
    data = {"label": label, "other": label.roll(1), "share": 0.5 + 0.5 * torch.rand(5)}
    cfg = Distil(kind="dkd", tau=2.0, dkd_alpha=1.5, dkd_beta=5.0)
    want = sum(a * dkd_of(i, label) + (1 - a) * dkd_of(i, data["other"]) for i, a in enumerate(data["share"])) / 5
    torch.testing.assert_close(soft_loss(logits, target, data, cfg), want, rtol=1e-4, atol=1e-4)
    same = soft_loss(logits, target, {**data, "other": label}, cfg)
    torch.testing.assert_close(same, dkd_loss(logits, target, label, 2.0, 1.5, 5.0))


# --- the program ---

@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("stores") / "tiny")


@pytest.fixture(scope="module")
def teacher_run(store, tmp_path_factory):
    """The folder of a finished run of lite_small. Tests read it and do not change it."""
    with pytest.MonkeyPatch.context() as m:
        m.chdir(tmp_path_factory.mktemp("teacher"))
        assert p1_train.main(latest("recipe=lite_small", *QUICK, f"data.store={store}", "train.epochs=1")) == 0
        return Path("runs/lite_small/tiny-xsub/seed0").resolve()


@pytest.fixture
def phase2(store, teacher_run, tmp_path, monkeypatch):
    """Run phase 2 in an empty folder: phase2(*overrides) -> run folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Path:
        argv = latest("recipe=lite_nano_small", *QUICK, f"data.store={store}", f"distil.teacher={teacher_run}", *words)
        assert p2_distill.main(argv) == 0
        return load_config(argv).run
    return run


def test_the_final_student_is_a_plain_lite_network(phase2, teacher_run):
    folder = phase2()
    files = {"recipe.json", "metrics.jsonl", "last.pt", "final.pt", "scores.npz", "result.json"}
    assert {p.name for p in folder.iterdir()} == files
    assert weights(folder / "final.pt").keys() == nano().state_dict().keys()
    assert sum("projections" in k for k in weights(folder / "last.pt")) == 3

    # the result is one of phase 1, and more
    result, alone = result_of(folder), result_of(teacher_run)
    assert result.keys() - alone.keys() == {"teacher", "teacher_top1"} and alone.keys() <= result.keys()
    assert result["teacher"] == [str(teacher_run)] and result["teacher_top1"] == alone["top1"]
    assert result["params"] == sum(p.numel() for p in nano().parameters())
    assert result["command"].startswith("just phase2 recipe=lite_nano_small")

    # final.pt gives the scores again
    net, cfg, skeleton, classes = load_run(folder)
    store = ClipStore(cfg.store)
    test = Batches(ClipView(store, cfg.view), store.split("xsub")[1], 8)
    logits, _ = predict(net, test)
    assert np.array_equal(logits.numpy(), np.load(folder / "scores.npz")["logits"])
    assert cfg.recipe == "lite_nano_small" and len(classes) == 3
    assert {"ce", "kd", "mimicry", "top1", "teacher_top1", "loss"} <= log(folder)[0].keys()


def test_with_the_teachers_word_at_zero_phase_2_is_phase_1(phase2, store):
    folder = phase2("distil.alpha=1", "distil.beta=0", "distil.gamma=0", "train.label_smoothing=0.2")
    alone = ["recipe=lite_nano", *QUICK, f"data.store={store}", "train.label_smoothing=0.2"]
    assert p1_train.main(alone) == 0
    assert equal(weights(folder / "final.pt"), weights(Path("runs/lite_nano/tiny-xsub/seed0/final.pt")))


@pytest.mark.parametrize("cut", [1, 2, 4, 5])
def test_a_cut_distillation_ends_as_an_uncut_one(cut, phase2, monkeypatch):
    argv = ["train.causal=0.5", "distil.shared_causal=false", "train.average=swa", "train.swa_start=0.5",
            "train.save_seconds=0", "distil.kind=dkd"]
    whole = phase2(*argv, "out=whole")
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, cut)
        phase2(*argv, "out=cut")

    torch.manual_seed(99)
    again = phase2(*argv, "out=cut")
    a, b = (weights(f / "last.pt") for f in (whole, again))
    assert equal(a, b) and any("projections" in k for k in a) and log(whole) == log(again)
    assert equal(*(weights(f / "final.pt") for f in (whole, again)))


def test_teachers_are_named_by_recipe_and_seed(teacher_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(["recipe=lite_nano_small", *QUICK, "distil.teacher=lite_small:0,lite_small:3"])
    store = ClipStore(json.loads((teacher_run / "recipe.json").read_text())["data"]["store"])
    for seed in (0, 3):
        shutil.copytree(teacher_run, f"runs/lite_small/tiny-xsub/seed{seed}")
    _, folders = load_teachers(cfg, store, torch.device("cpu"))
    assert [f.name for f in folders] == ["seed0", "seed3"]


def test_a_student_learns_from_its_teachers_word_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    large = f"data.store={write_store(tmp_path / 'large', clips=72, bodies=1)}"
    calm = ("view.sampling=uniform", "view.still=0")
    argv = latest(*QUICK, *calm, large, "view.frames=16", "train.epochs=20", "train.average=swa")
    p1_train.main(["recipe=lite_nano", *argv])
    taught = ["distil.teacher=lite_nano", "distil.alpha=0", "distil.beta=1", "distil.tau=1", "seed=1"]
    p2_distill.main(["recipe=lite_nano_small", *argv, *taught])

    folder = Path("runs/lite_nano_small/tiny-xsub/seed1")
    lines = log(folder)
    assert lines[-1]["kd"] < 0.5 * lines[0]["kd"] and lines[-1]["mimicry"] < 0.95 * lines[0]["mimicry"]
    assert result_of(folder)["top1"] > 50  # chance: 33; two seeds on one processor: 67. Another acts like another seed


def test_four_streams_of_a_real_base_teach_logits_and_stages(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = latest(*QUICK, f"data.store={store}", "train.epochs=1", "train.accumulate=1")
    p1_train.main(["recipe=base", *argv, "model.width=8", "streams=all"])
    p2_distill.main(["recipe=lite_small_base", *argv, "distil.tau=1"])

    folder = Path("runs/lite_small_base/tiny-xsub/seed0")
    result = result_of(folder)
    streams = [f"runs/base{s}/tiny-xsub/seed0" for s in ("", "-bone", "-velocity", "-bone_velocity")]
    assert result["teacher"] == streams
    average = result_of(Path("runs/base-all/tiny-xsub/seed0"))  # at tau = 1 the same mean as the target
    assert result["teacher_top1"] == average["top1"]
    shapes = {k: tuple(v.shape[:2]) for k, v in weights(folder / "last.pt").items() if "projections" in k}
    assert shapes == {f"projections.{i}.weight": s for i, s in enumerate([(8, 48), (16, 72), (24, 96)])}


def test_the_teacher_has_the_temperature_of_the_recipe(phase2, monkeypatch):
    asked = []
    judged = []

    def noted_teacher(nets, tau):
        asked.append(tau)
        return Teacher(nets, tau)

    def noted_judge(teacher, cfg, test):
        judged.append(test.index)
        return {}

    monkeypatch.setattr(p2_distill, "Teacher", noted_teacher)
    monkeypatch.setattr(p2_distill, "judge", noted_judge)
    folder = phase2("distil.tau=2.5", "train.epochs=1")

    recipe = json.loads((folder / "recipe.json").read_text())
    test_clips = ClipStore(recipe["data"]["store"]).split("xsub")[1]
    assert asked == [2.5] and np.array_equal(np.sort(judged[0]), test_clips)


# --- what is refused ---

@pytest.mark.parametrize("argv, words", [
    (["distil.teacher="], ["distil.teacher is empty"]),
    (["distil.teacher=bse"], ["'bse'", "runs/bse/tiny-xsub/seed0", "did you mean 'base'?"]),
    (["distil.teacher=no/where"], ["no/where", "final.pt"]), (["view.frames=16"], ["view.frames = 8", "16"]),
    (["view.bodies=2"], ["view.bodies = 1", "2"]), (["view.sampling=crop"], ["view.sampling", "'crop'"]),
    (["view.trunk_scale=true"], ["view.trunk_scale"]), (["data.num_classes=4"], ["data.num_classes = 4", "has 3"]),
    (["init=maskclr_nano"], ["maskclr_nano", "final.pt"]), (["distil.knid=kd"], ["did you mean 'kind'?"]),
    (["distil.kind=ddk"], ["dkd"]),
], ids=lambda x: x[0])
def test_a_teacher_that_does_not_fit_is_one_line(argv, words, phase2):
    line = complaint(phase2, *argv)
    assert all(w in line for w in words), line


def test_a_teacher_of_another_body_or_classes_is_one_line(phase2, tmp_path):
    body = write_store(tmp_path / "kinect", "kinect20")
    line = complaint(phase2, f"data.store={body}", "data.skeleton=kinect20")
    assert "'ntu25'" in line and "'kinect20'" in line

    other = write_store(tmp_path / "other")
    meta = json.loads((other / "meta.json").read_text())
    (other / "meta.json").write_text(json.dumps({**meta, "classes": ["swing 0", "wave", "swing 2"]}))
    assert "class 1 is 'swing 1' there, 'wave' here" in complaint(phase2, f"data.store={other}")


def test_a_damaged_teacher_is_one_line(phase2, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "final.pt").write_bytes(b"text")
    assert "damaged" in complaint(phase2, f"distil.teacher={tmp_path / 'odd'}")


def test_a_teacher_that_saw_what_is_held_out_here_is_one_line(phase2):
    line = complaint(phase2, "data.split=xview")
    assert "data.split = 'xsub', this run has 'xview'" in line and "held out here" in line
    assert "data.validate = {}, this run has {'subject': [2]}" in complaint(phase2, "data.validate={subject=[2]}")


@pytest.mark.parametrize("theirs, ours, told", [
    (("ntu120", "xsub"), ("ntu60", "xview"), True), (("ntu60", "xview"), ("ntu120", "xsub"), True),
    (("ntu120", "xsub"), ("ntu60", "xsub"), False), (("ntu60", "xsub"), ("nw_ucla", "xview"), False),
    (("ntu60", "xview"), ("ntu60", "all"), False), (("ntu60", "all"), ("ntu60", "xsub"), True)])
def test_clips_of_ntu_60_are_clips_of_ntu_120(theirs, ours, told):
    assert set(XSUB60) == set(XSUB120) & set(range(1, 41)), "so xsub of one and of the other hold out the same people"
    recipe = {"data": {"name": theirs[0], "split": theirs[1], "validate": {}}}
    cfg = load_config(["recipe=lite_nano", f"data={ours[0]}", f"data.split={ours[1]}"])
    with pytest.raises(ValueError, match="held out here") if told else contextlib.nullcontext():
        check_leakage(recipe, cfg, "a run")


def test_a_teacher_of_a_store_made_anew_since_is_one_line(phase2, store, tmp_path):
    """The split keeps its name, but its test side holds other clips."""
    anew = tmp_path / "anew"
    shutil.copytree(store, anew)
    with np.load(store / "clips.npz") as z:
        clips = dict(z)
    clips["subject"] = clips["subject"] % 4 + 1
    np.savez(anew / "clips.npz", **clips)
    line = complaint(phase2, f"data.store={anew}")
    assert "was not tested on clip" in line and "may have trained on them" in line and "made anew?" in line


def test_a_teacher_may_be_named_by_its_final_pt(phase2, teacher_run):
    folder = phase2(f"distil.teacher={teacher_run / 'final.pt'}", "train.epochs=1")
    assert result_of(folder)["teacher"] == [str(teacher_run)]


def test_a_teacher_that_never_saw_a_causal_batch_is_asked_none(phase2, teacher_run):
    line = complaint(phase2, "train.causal=0.5")
    assert str(teacher_run) in line and "distil.shared_causal=false" in line
    phase2("train.causal=0.5", "distil.shared_causal=false", "train.epochs=1")


def test_an_encoder_of_phase_3_is_no_teacher(phase2, teacher_run, tmp_path):
    state = load_checkpoint(teacher_run / "final.pt")
    state["model"] = {k: v for k, v in state["model"].items() if not k.startswith("head.")}
    (tmp_path / "encoder").mkdir()
    torch.save(state, tmp_path / "encoder" / "final.pt")
    line = complaint(phase2, f"distil.teacher={tmp_path / 'encoder'}")
    assert "an encoder of phase 3, which cannot classify" in line


def test_a_resume_wants_the_very_same_teachers(phase2, teacher_run, tmp_path, monkeypatch):
    mine = tmp_path / "mine" / "teacher"
    shutil.copytree(teacher_run, mine)
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, 1)
        phase2(f"distil.teacher={mine}")
    state = load_checkpoint(mine / "final.pt")
    state["model"]["head.classifier.bias"] += 1
    torch.save(state, mine / "final.pt")

    line = complaint(phase2, f"distil.teacher={mine}")
    assert re.search(r"teachers was \['[\w.-]+/mine/teacher/\w{12}'\], is \['[\w.-]+/mine/teacher/\w{12}'\]", line)
    shutil.copy(teacher_run / "final.pt", mine)
    phase2(f"distil.teacher={mine}")


# --- recipes ---

def test_the_rows_of_distillation_weigh_as_the_plan_says():
    small, nano_ = (load_config([f"recipe={r}", "data=nw_ucla"]) for r in ("lite_small_base", "lite_nano_base"))
    d, n = small.distil, nano_.distil
    assert (d.alpha, d.beta, d.gamma, d.tau) == (0.5, 0.5, 0.1, 4.0)
    assert (n.alpha, n.beta, n.gamma, n.tau) == (0.3, 0.7, 0.1, 4.0)
    assert small.train.label_smoothing == nano_.train.label_smoothing == 0  # also if the data set smooths
    assert small.train.lr == 0.1
    l11, l12 = (dataclasses.replace(load_config([f"recipe={row}"]), recipe="") for row in ("L11", "L12"))
    assert dataclasses.replace(l12, init="") == l11
