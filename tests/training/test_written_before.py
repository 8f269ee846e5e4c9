"""Files that an older commit wrote are still read: stores, recipes, finished and cut runs.

tests/helpers/written_before.md describes the archive.
"""
import dataclasses
import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from last import causal, load_checkpoint
from phases import p1_train, p2_distill
from phases.common.files import ROOT
from phases.common.recipes import RENAMED, RETIRED, current, read_recipe
from phases.training.batches import Batches
from phases.training.clip_store import ClipStore
from phases.training.evaluation import accuracy, predict
from phases.training.jobs import is_done
from phases.training.networks import load_run
from phases.training.recipe import load_config
from phases.training.view import ClipView
from tests.helpers.clip_stores import latest

ARCHIVE = ROOT / "tests" / "helpers" / "written_before.tar.xz"
AS_THEN = ["data=recipes/tiny.toml", "device=cpu", "view.missing=0.0", "view.spikes=0.0", "view.idle=0.0",
           "view.tempo=0.0", "view.still=0.0", "view.sampling=uniform"]  # what cameras do was not part of a training
LITE = ["recipe=lite_nano", *AS_THEN, 'model.streams=["joint", "bone", "velocity", "bone_velocity"]']
NANO = [*LITE, "train.causal=0.5"]
BASE = ["recipe=base", *AS_THEN, "model.width=8", "train.accumulate=2", "train.lr=0.002"]
RUNS = {
    "runs/lite_nano/tiny-xsub/seed0": NANO,
    "runs/base/tiny-xsub/seed0": BASE,
    "spatial/base-bone/tiny-xsub/seed0": [
        "recipe=base", *AS_THEN, "model.width=8", "model.graph=spatial",
        "model.attention=factorized", "model.stream=bone", "train.optimizer=sgd", "train.accumulate=1", "out=spatial"],
    "runs/last_e/tiny-xsub/seed0": ["recipe=last_e", *AS_THEN, 'model.streams=["joint", "velocity", "bone"]'],
    "shipped/lite_nano/tiny-xsub/seed0": [*NANO, "out=shipped", "train.epochs=1"]}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "written_before"


@pytest.fixture
def here(unpacked, tmp_path, monkeypatch) -> Path:
    """The archive's folder, to be changed; paths in its files are relative to it."""
    folder = shutil.copytree(unpacked, tmp_path / "written_before")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def expected(unpacked) -> dict:
    return json.loads((unpacked / "expected.json").read_text())


def fixed_input() -> Tensor:
    """Joints (2, 2, 8, 25, 3): two clips."""
    n = np.arange(2 * 2 * 8 * 25 * 3, dtype=np.int64)
    return torch.from_numpy(((n * 7919 % 1009 - 504) / 1024).astype(np.float32).reshape(2, 2, 8, 25, 3))


def assert_within(before: dict, now: dict, where: str = "") -> None:
    """All that `before` says is still so; `now` may say more."""
    for key, value in before.items():
        if isinstance(value, dict) and isinstance(now[key], dict):
            assert_within(value, now[key], f"{where}{key}.")
        else:
            assert now[key] == value, where + key


def assert_logits(network: nn.Module, want: dict) -> None:
    joints = fixed_input()
    with torch.no_grad():
        torch.testing.assert_close(network(joints), torch.tensor(want["logits"]), rtol=1e-4, atol=1e-4)
        with causal(network):
            torch.testing.assert_close(network(joints), torch.tensor(want["logits_causal"]), rtol=1e-4, atol=1e-4)


def hashed(tensor: Tensor) -> str:
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + data).hexdigest()[:16]


def hash_of_weights(path: Path) -> str:
    """Of all tensors without their names, of which some have changed since."""
    hashes = sorted(map(hashed, load_checkpoint(path)["model"].values()))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


# --- stores and recipes ---

def test_a_store_is_read(here, expected):
    store = ClipStore("stores/tiny")
    assert len(store) == expected["store"]["clips"] == 24
    assert [len(side) for side in store.split("xsub")] == [12, 12]
    frames = hashlib.sha256(Path("stores/tiny/frames.npy").read_bytes()).hexdigest()
    assert frames[:16] == expected["store"]["frames.npy"] and store.frames.dtype == np.float32


def test_a_recipe_with_every_key_at_its_default_resolves_alike(here):
    cfg = load_config(["recipe=recipes/every_key.toml"])
    before = current(json.loads(Path("recipes/every_key.json").read_text()))
    assert_within(before, json.loads(json.dumps(dataclasses.asdict(cfg))))


def test_other_values_are_kept_except_of_settings_that_are_gone(here):
    with pytest.raises(ValueError, match="this setting is gone"):
        load_config(["recipe=recipes/every_key_other.toml"])

    # with their only values, the others are as they were
    before = json.loads(Path("recipes/every_key_other.json").read_text())
    words = [f"{name}={value}" for name, value in RETIRED.items()]
    cfg = load_config(["recipe=recipes/every_key_other.toml", *words])
    for name, value in RETIRED.items():
        table, _, key = name.partition(".")
        before[table][key] = value
    assert_within(current(before), json.loads(json.dumps(dataclasses.asdict(cfg))))


@pytest.mark.parametrize("name", RENAMED)
def test_a_renamed_setting_is_read_by_its_old_name(name, here):
    table, _, old = name.partition(".")
    new = RENAMED[name].partition(".")[2]
    words = [f"{key}={only}" for key, only in RETIRED.items()]
    cfg = load_config(["recipe=recipes/every_key_other.toml", *words])
    assert getattr(getattr(cfg, table), new) == read_recipe("recipes/every_key_other.toml")[1][table][old]


# --- finished runs ---

@pytest.mark.parametrize("folder", RUNS)
def test_a_finished_run_has_its_weights_and_gives_its_logits(folder, here, expected):
    want = expected["runs"][folder]
    assert hash_of_weights(Path(folder) / "final.pt") == want["tensors_without_keys"]

    network, cfg, skeleton, classes = load_run(Path(folder))
    assert sum(p.numel() for p in network.parameters()) == want["params"]
    assert cfg.run == Path(folder) and skeleton.name == "ntu25" and classes == ["reach", "kick", "bow"]
    assert_logits(network, want)


@pytest.mark.parametrize("folder", RUNS)
def test_the_command_of_a_finished_run_finds_it_done(folder, here, capsys):
    before = {path: path.read_bytes() for path in Path(folder).iterdir()}
    assert is_done(load_config(RUNS[folder]))
    assert p1_train.main(RUNS[folder]) == 0 and "already done" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in Path(folder).iterdir()} == before


STREAMS_THEN = {"lite": ("joint", "bone", "velocity", "bone_velocity"), "last_e": ("joint", "velocity", "bone")}


@pytest.mark.parametrize("folder", RUNS)
def test_a_finished_run_keeps_its_streams_and_was_not_damaged(folder, here):
    network, cfg, _, _ = load_run(Path(folder))
    if cfg.model.name in STREAMS_THEN:
        assert cfg.model.streams == network.streams == STREAMS_THEN[cfg.model.name]
    assert (cfg.view.missing, cfg.view.spikes, cfg.view.idle, cfg.view.tempo) == (0, 0, 0, 0)
    assert cfg.view.noise == 0.01 and cfg.view.still == 0 and cfg.view.sampling == "uniform"


@pytest.mark.parametrize("folder, words, told", [
    ("runs/lite_nano/tiny-xsub/seed0", [*NANO[:-2], 'model.streams=["joint", "bone"]', NANO[-1]],
     "model.streams was ['joint', 'bone', 'velocity', 'bone_velocity'], is ['joint', 'bone']"),
    ("runs/last_e/tiny-xsub/seed0", ["recipe=last_e", *AS_THEN, 'model.streams=["joint", "bone", "velocity"]'],
     "model.streams was ['joint', 'velocity', 'bone'], is ['joint', 'bone', 'velocity']"),
    ("runs/base/tiny-xsub/seed0", latest(*BASE, "view.missing=0.5", "view.idle=0.7"),
     "view.idle was 0.0, is 0.7; view.missing was 0.0, is 0.5")])
def test_another_recipe_in_the_folder_of_a_run_is_told(folder, words, told, here):
    assert not is_done(load_config(words))
    with pytest.raises(ValueError) as e:
        p1_train.main(words)
    assert f"({told})" in str(e.value)


@pytest.mark.parametrize("teacher", ["runs/base/tiny-xsub/seed0", "runs/lite_nano/tiny-xsub/seed0"])
def test_a_finished_run_teaches(teacher, here):
    words = [*LITE, f"distil.teacher={teacher}", "train.epochs=1", "out=taught"]
    assert p2_distill.main(words) == 0
    result = json.loads(Path("taught/lite_nano/tiny-xsub/seed0/result.json").read_text())

    # the teacher sees the test clips by the view of today
    network, cfg, _, _ = load_run(Path(teacher))
    store = ClipStore("stores/tiny")
    test = Batches(ClipView(store, cfg.view), store.split("xsub")[1], 4)
    assert result["teacher"] == [teacher]
    assert result["teacher_top1"] == pytest.approx(accuracy(*predict(network, test))["top1"])


def test_a_training_starts_from_a_finished_run(here, capsys):
    words = [*LITE, "init=runs/lite_nano/tiny-xsub/seed0", "train.epochs=1", "out=started"]
    assert p1_train.main(words) == 0
    assert "left as they were: none" in capsys.readouterr().err


# --- runs that were cut ---

@pytest.mark.parametrize("recipe, words", [
    ("lite_nano", NANO), ("base", [*BASE, "train.average=ema", "train.ema_decay=0.9", "train.causal=0.5"])])
def test_a_cut_run_continues(recipe, words, here):
    """With the weights, moments and averages of its last.pt. The bits are not those of then: clips are whole now."""
    folder = Path("cut", recipe, "tiny-xsub", "seed0")
    cut = (folder / "metrics.jsonl").read_text()
    if recipe == "lite_nano":
        shutil.copytree(folder, Path("again", *folder.parts[1:]))
    assert p1_train.main([*words, "out=cut"]) == 0

    # the epochs before the cut were not run again
    log = (folder / "metrics.jsonl").read_text()
    assert log.startswith(cut) and [json.loads(line)["epoch"] for line in log.splitlines()] == [0, 1, 2]

    # once more, the same bits; without the weights of then, others
    if recipe == "lite_nano":
        assert p1_train.main([*words, "out=again"]) == p1_train.main([*words, "out=whole"]) == 0
        ends = [hash_of_weights(Path(out, *folder.parts[1:], "final.pt")) for out in ("cut", "again", "whole")]
        assert ends[0] == ends[1] != ends[2]


@pytest.mark.parametrize("recipe", ["lite_nano", "base"])
def test_a_cut_run_keeps_its_recipe(recipe, here):
    """Continued with the defaults of today it would be another training."""
    words = {"lite_nano": NANO, "base": [*BASE, "train.average=ema", "train.ema_decay=0.9", "train.causal=0.5"]}[recipe]
    with pytest.raises(ValueError, match="view.idle was 0.0, is 0.6"):
        p1_train.main(latest(*words, "view.idle=0.6", "out=cut"))


def test_a_finished_run_with_a_retired_setting_still_loads(here):
    folder = here / "runs/lite_nano/tiny-xsub/seed0"
    state = torch.load(folder / "final.pt", weights_only=True)
    recipe = json.loads(state["recipe"])
    recipe["view"]["shear"] = 0.3
    torch.save(state | {"recipe": json.dumps(recipe)}, folder / "final.pt")
    load_run(folder)
    with pytest.raises(ValueError, match="view.shear = 0.3"):
        current(recipe)
