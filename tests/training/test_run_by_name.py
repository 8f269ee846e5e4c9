"""Runs by name: folders found by recipe and seed, a start from another run, and runs that belong to another phase."""
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import last
from last import load_checkpoint
from phases import p1_train, p2_distill, p3_maskclr, probe
from phases.common import recipes
from phases.common.files import NETWORKS
from phases.shipping.deploy import deploy
from phases.training import networks, transfer
from phases.training.jobs import built_on
from phases.training.networks import build_model, find_runs
from phases.training.recipe import load_config
from phases.training.run_folder import save_weights, without_places
from phases.training.transfer import init_from
from skeletons import SKELETONS, Skeleton
from tests.helpers.clip_stores import latest, write_store
from tests.helpers.programs import call
from tests.programs.test_phase2 import QUICK, complaint, nano, state

# the rate never exceeds a tiny train.lr: the weights stay as they were
STILL = ["train.warmup_lr=0", "train.min_lr=0"]
OWN = (SKELETONS["ntu25"], list("abcd"))  # what init_from is told of the clips


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("stores") / "tiny")


@pytest.fixture(scope="module")
def small_run(store, tmp_path_factory) -> Path:
    """The folder of a finished run of lite_small. Tests read it and do not change it."""
    with pytest.MonkeyPatch.context() as m:
        m.chdir(tmp_path_factory.mktemp("small"))
        assert p1_train.main(latest("recipe=lite_small", *QUICK, f"data.store={store}", "train.epochs=1")) == 0
        return Path("runs/lite_small/tiny-xsub/seed0").resolve()


# --- folders ---

def test_a_recipes_name_means_its_run_on_the_same_clips(small_run):
    cfg = load_config(["recipe=lite_nano_small", *QUICK, "seed=3", f"out={small_run.parents[2]}"])
    assert find_runs("lite_small", cfg) == [small_run]
    with pytest.raises(ValueError, match="seed3"):
        find_runs("lite_small", cfg, cfg.seed)


def test_the_runs_of_a_recipe_are_searched_in_out(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["recipe=lite_nano_small", *QUICK, f"data.store={store}", "out=elsewhere", "distil.teacher=lite_small"]
    line = complaint(p2_distill.main, argv)
    assert "no finished run in elsewhere/lite_small/tiny-xsub/seed0" in line and "did you mean" not in line


def test_four_streams_teach_joint_first_if_all_are_trained(tmp_path, capsys):
    cfg = load_config(["recipe=lite_small_base", f"out={tmp_path}"])
    runs = []
    for stream in last.STREAMS:
        # some of them: the joint stream alone
        if runs:
            assert find_runs("base", cfg) == runs[:1]
            said = capsys.readouterr().err
            assert f"{4 - len(runs)} of the other three" in said if len(runs) > 1 else not said

        folder = load_config(["recipe=base", f"model.stream={stream}", f"out={tmp_path}"]).run  # of phase 1
        folder.mkdir(parents=True)
        (folder / "final.pt").touch()
        runs.append(folder)
    assert find_runs("base", cfg) == runs and find_runs(str(runs[0]), cfg) == runs[:1]


# --- a start from another run ---

def test_init_takes_what_fits_and_says_what_not(small_run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(["recipe=lite_small", *QUICK])
    model = build_model(load_config(["recipe=lite_small", "view.frames=16", "seed=5"]), SKELETONS["ntu25"], 4)
    before, old = state(model), load_checkpoint(small_run / "final.pt")["model"]
    init_from(model, small_run, cfg, *OWN)
    said = capsys.readouterr().err

    # tensors of another shape stay; what is per frame is stretched
    changed = {k for k, v in model.state_dict().items() if v.shape != old[k].shape}
    left = {"head.classifier.weight", "head.classifier.bias"}
    stretched = {f"stages.{i}.{kind}" for i in range(3) for kind in ("mask", "gate")}
    assert changed == left | stretched and "6 stretched to 8 frames" in said
    for k, v in model.state_dict().items():
        assert torch.equal(v, before[k] if k in left else old[k]) != (k in stretched) and (k in said) == (k in left)
    assert f"{len(old) - len(left)} of {len(old)} tensors" in said

    same = build_model(load_config(["recipe=lite_small", "view.frames=8"]), SKELETONS["ntu25"], 3)
    other_split = load_config(["recipe=lite_small", *QUICK, "data.split=xview"])
    line = complaint(init_from, same, small_run, other_split, *OWN)
    assert f"init: {small_run} was trained with data.split = 'xsub'" in line
    line = complaint(init_from, nano(), small_run, load_config(["recipe=lite_nano", *QUICK]), *OWN)
    assert "another network" in line and "model.variant" in line


def test_phase_1_starts_from_a_run(small_run, store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = latest("recipe=lite_small", *QUICK, f"data.store={store}", "train.epochs=1", "train.lr=1e-9", *STILL)
    assert p1_train.main([*argv, f"init={small_run}"]) == 0 and "init: " in capsys.readouterr().err

    name = "stages.2.blocks.0.mix.1.weight"
    final = load_checkpoint(Path("runs/lite_small/tiny-xsub/seed0/final.pt"))["model"]
    old = load_checkpoint(small_run / "final.pt")["model"]
    torch.testing.assert_close(final[name], old[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("phase", [p1_train, p2_distill, p3_maskclr])
def test_init_by_a_recipes_name_is_its_run_of_the_same_seed(phase, store, small_run, tmp_path, monkeypatch):
    """A learning rate of 1e-12 keeps the weights of the start, so the result tells from which run they came."""
    monkeypatch.chdir(tmp_path)
    name = "stages.0.blocks.0.mix.1.weight"
    state = load_checkpoint(small_run / "final.pt")

    # the runs of two seeds
    for seed in (0, 1):
        state["model"][name] = state["model"][name] + 1
        folder = tmp_path / f"runs/lite_small/tiny-xsub/seed{seed}"
        folder.mkdir(parents=True)
        torch.save(state, folder / "final.pt")

    recipe, more = {
        p1_train: ("lite_small_short", []),
        p2_distill: ("lite_small_short_kd", [f"distil.teacher={small_run}"]),
        p3_maskclr: ("maskclr_small", ["force=true"])}[phase]
    argv = latest(f"recipe={recipe}", *QUICK, "train.epochs=1", "train.lr=1e-12", *STILL, "train.average=none",
                  "train.optimizer=sgd", *more, f"data.store={store}", "init=lite_small", "seed=1")
    assert call(phase, *argv) == 0
    final = load_checkpoint(tmp_path / f"runs/{recipe}/tiny-xsub/seed1/final.pt")["model"]
    torch.testing.assert_close(final[name], state["model"][name])


# --- networks that come along ---

@pytest.fixture
def along(tmp_path, monkeypatch, small_run):
    """The folder of networks that come along; `lite_small`, by the name of a recipe, is the finished run's."""
    folder = tmp_path / "along"
    folder.mkdir()
    for module in (recipes, networks, transfer):
        monkeypatch.setattr(module, "NETWORKS", folder)
    model, cfg, skeleton, classes = networks.load_run(small_run)
    save_weights(folder / "lite_small.pt", without_places(cfg), skeleton, classes, model)
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_network_that_comes_along_wins_over_a_recipes_run(along, small_run):
    name = load_config(["recipe=lite_nano", *QUICK, "init=lite_small"])
    assert networks.start_of(name) == along / "lite_small.pt"
    assert built_on(name) == [], "it waits for no run"
    for given in (str(small_run), str(small_run / "final.pt")):
        by_path = load_config(["recipe=lite_nano", *QUICK, f"init={given}"])
        assert networks.start_of(by_path) == Path(given) and built_on(by_path) == [small_run]


@pytest.mark.parametrize("phase", [p1_train, p2_distill, p3_maskclr, probe])
def test_a_start_by_name_is_a_start_from_its_run(phase, along, small_run, store, tmp_path):
    recipe, more = {
        p1_train: ("lite_small_short", []), probe: ("probe_finetune", []),
        p2_distill: ("lite_small_short_kd", [f"distil.teacher={small_run}"]),
        p3_maskclr: ("maskclr_small", ["force=true"])}[phase]
    finals = []
    for init in ("lite_small", small_run, along / "lite_small.pt"):
        out = tmp_path / f"out{len(finals)}"
        argv = latest(f"recipe={recipe}", *QUICK, "train.epochs=1", *more, f"data.store={store}", f"init={init}",
                      f"out={out}")
        assert call(phase, *argv) == 0
        finals.append(load_checkpoint(out / recipe / "tiny-xsub" / "seed0" / "final.pt")["model"])
    for other in finals[1:]:
        assert finals[0].keys() == other.keys() and all(torch.equal(finals[0][k], other[k]) for k in other)


def test_a_name_without_a_network_or_a_run_is_one_line(along, store):
    argv = latest("recipe=lite_small", *QUICK, f"data.store={store}")
    line = complaint(p1_train.main, [*argv, "init=lite_smal"])
    assert "no network that comes along (lite_small)" in line and "did you mean 'lite_small'" in line
    assert "runs/lite_smal/tiny-xsub/seed0" in line
    assert "gone.pt: no such file" in complaint(p1_train.main, [*argv, "init=gone.pt"])


def test_a_network_of_another_size_is_told_which_fit(along, store, small_run):
    model = nano()
    cfg = load_config(["recipe=lite_nano", *QUICK])
    save_weights(along / "tiny_nano.pt", cfg, *OWN, model)
    argv = latest("recipe=lite_nano", *QUICK, f"data.store={store}", "init=lite_small")
    line = complaint(p1_train.main, argv)
    assert "is model.variant the same? (of its kind come along: tiny_nano)" in line


def test_a_start_by_name_has_the_rates_of_fine_tuning(along, monkeypatch):
    table = {"train": {"trunk_lr": 0.25, "lr": 0.03}}
    real = recipes.read_recipe
    monkeypatch.setattr(recipes, "read_recipe", lambda name: ("", table) if name == "finetune" else real(name))

    def rates(*words: str) -> tuple[float, float]:
        train = load_config(list(words)).train
        return train.trunk_lr, train.lr

    assert rates("recipe=lite_nano", "data=utd_mhad", "init=lite_small") == (0.25, 0.03)
    assert rates("recipe=utd_mhad", "init=lite_small", "train.lr=0.5") == (0.25, 0.5)
    assert rates("recipe=probe_finetune", "init=lite_small") == (0.25, 0.01), "a row keeps its own"
    for other in ("init=runs/lite_small/x", "init=lite_nano", "init="):
        assert rates("recipe=lite_nano", "data=utd_mhad", other) == (1.0, 0.1)


@pytest.mark.parametrize("path", sorted(NETWORKS.glob("*.pt")), ids=lambda path: path.stem)
def test_a_checkpoint_that_comes_along_is_its_onnx_files_network(path):
    """Of the same classes and joints, without a folder of the machine that it was made on."""
    state = load_checkpoint(path)
    recipe = json.loads(state["recipe"])
    file = onnx.load(path.with_suffix(".onnx"))
    about = {p.key: p.value for p in file.metadata_props}
    assert json.loads(about["classes"]) == state["classes"]
    assert Skeleton.from_dict(json.loads(about["skeleton"])) == Skeleton.from_dict(json.loads(state["skeleton"]))
    assert (about["recipe"], about["dataset"], about["split"]) == (
        recipe["recipe"], recipe["data"]["name"], recipe["data"]["split"])
    assert recipe["out"] == "runs" and not recipe["raw"] and not recipe["data"]["store"] and "/" not in recipe["init"]
    assert len(path.read_bytes()) < 1_000_000

    # the weights that both keep, batch norms folded
    model, *_ = networks.load_run(path)
    kept = {name: x.numpy() for name, x in deploy(model).state_dict().items()}
    found = {x.name.removeprefix("network/"): numpy_helper.to_array(x) for x in file.graph.initializer}
    same = kept.keys() & found.keys()
    assert {"features.stem.weight", "features.blocks.2.tcn.4.weight", "linear.weight", "gate"} <= same
    for name in same:
        np.testing.assert_allclose(found[name].reshape(-1), kept[name].reshape(-1), atol=1e-6, err_msg=name)


# --- runs of another phase ---

@pytest.mark.parametrize("phase", [p1_train, p2_distill, p3_maskclr, probe])
@pytest.mark.parametrize("argv, words", [("recipe=lite_nano_small", "just phase2"),
                                         ("recipe=maskclr_nano", "just phase3"), ("recipe=probe_10", "just probe"),
                                         ("recipe=probe_linear", "just probe")])
def test_a_phase_leaves_to_another_what_is_its_work(phase, argv, words, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = {p2_distill: "just phase2", p3_maskclr: "just phase3", probe: "just probe"}
    if own.get(phase) != words:
        force = ["force=true"] if phase is p3_maskclr else []
        assert words in complaint(call, phase, argv, *QUICK, f"data.store={store}", *force)


def test_a_half_done_run_of_another_phase_is_not_gone_on_with(store, small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = latest("recipe=lite_nano", *QUICK, f"data.store={store}", "train.epochs=1")
    assert p2_distill.main([*argv, f"distil.teacher={small_run}"]) == 0
    folder = tmp_path / "runs/lite_nano/tiny-xsub/seed0"
    (folder / "result.json").unlink()
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["distil"]["teacher"] = ""
    (folder / "recipe.json").write_text(json.dumps(recipe))
    assert "phase was 'phase2', is 'phase1'" in complaint(p1_train.main, argv)


def test_a_result_of_another_phase_is_not_taken_for_ones_own(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = latest("recipe=lite_nano", *QUICK, f"data.store={store}", "train.epochs=1")
    p1_train.main(argv)
    assert "a run of another phase (just phase1 recipe=lite_nano" in complaint(probe.main, argv)
