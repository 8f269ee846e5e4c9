"""The probe: which labels it sees, and which layers learn."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from last import load_checkpoint
from phases import p1_train, p3_maskclr, probe
from phases.training.clip_store import labelled
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.clip_stores import latest, write_store
from tests.helpers.programs import call

QUICK = ["data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "train.epochs=2", "train.batch=8",
         "train.warmup_epochs=1"]


# --- labels ---

@given(st.integers(0, 50), st.floats(0.001, 1))
def test_the_labelled_clips_are_a_share_of_each_class_and_nested(seed, share):
    rng = np.random.default_rng(seed)
    label, clips = rng.integers(0, 4, 90), np.sort(rng.permutation(90)[:60])
    got = labelled(clips, label, share, seed)
    whole = labelled(clips, label, 1.0, seed)
    twice = labelled(clips, label, min(1.0, 2 * share), seed)

    assert np.array_equal(whole, clips) and set(got) <= set(twice)
    for k in np.unique(label[clips]):
        n = (label[clips] == k).sum()
        assert abs((label[got] == k).sum() - max(1, share * n)) <= 0.5 and len(set(got)) == len(got)


def test_labels_are_drawn_by_class_and_shares_nest():
    label = np.repeat([0, 1, 2], [100, 40, 3])
    clips = np.arange(len(label))[::-1][5:]
    shares = [labelled(clips, label, share, 4) for share in (0.01, 0.1, 0.5, 1.0)]
    for small, large in zip(shares, shares[1:], strict=False):
        assert set(small) <= set(large)
    assert np.array_equal(shares[-1], np.sort(clips))
    assert np.array_equal(np.unique(label[shares[0]]), np.unique(label[clips]))
    assert [np.bincount(label[s], minlength=3).tolist() for s in shares[:2]] == [[1, 1, 0], [10, 4, 0]]
    assert not np.array_equal(shares[1], labelled(clips, label, 0.1, 5))


# --- layers that learn ---

def test_a_frozen_encoder_keeps_its_statistics_in_training():
    net = build_model(load_config(["recipe=lite_nano", "view.frames=8"]), SKELETONS["ntu25"], 3)
    model = probe.Frozen(net).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    model(torch.randn(4, 1, 8, 25, 3)).sum().backward()
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed <= {"head.norm.running_mean", "head.norm.running_var", "head.norm.num_batches_tracked"}
    with_gradient = {name for name, p in net.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in net.named_parameters() if name.startswith("head.")}
    assert isinstance(net.head.norm, nn.BatchNorm1d)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Stores `tiny` (24 clips) and `larger` (32 clips), a run of lite_small on tiny and of maskclr_nano on larger."""
    folder = tmp_path_factory.mktemp("probe")
    write_store(folder / "stores" / "tiny")
    write_store(folder / "stores" / "larger", clips=32)
    with pytest.MonkeyPatch.context() as m:
        m.chdir(folder)
        small = latest("recipe=lite_small", *QUICK, "train.epochs=1", "train.lr=0.05")
        assert p1_train.main(small) == 0
        encoder = ["recipe=maskclr_nano", *QUICK, "data.store=stores/larger", "out=pretrained", "force=true"]
        assert call(p3_maskclr, *encoder) == 0
    return folder


@pytest.mark.parametrize("frozen", [True, False])
def test_a_probe_trains_the_head_alone_or_everything(frozen, folder, monkeypatch):
    monkeypatch.chdir(folder)
    init = Path("runs/lite_small/tiny-xsub/seed0")
    argv = ["recipe=probe_linear", *QUICK, "train.lr=0.05", f"init={init}", f"probe.frozen={str(frozen).lower()}",
            "train.average=swa", f"out=frozen-{frozen}"]
    probe.main(argv)

    run = load_config(argv).run
    final, old = (load_checkpoint(f / "final.pt")["model"] for f in (run, init))
    same = {k for k in old if torch.equal(final[k], old[k])}
    assert (same >= {k for k in old if not k.startswith("head.")}) == frozen  # batch-norm statistics, too
    assert not same & {"head.classifier.weight", "head.norm.running_mean"}
    assert json.loads((run / "result.json").read_text())["labelled"] == 12


@pytest.mark.parametrize("recipe,frozen", [("probe_linear", True), ("probe_finetune", False), ("probe_10", False),
                                           ("probe_1", False)])
def test_a_linear_probe_moves_the_head_fine_tuning_all(folder, monkeypatch, recipe, frozen):
    monkeypatch.chdir(folder)
    init = Path("pretrained/maskclr_nano/tiny-xsub/seed0")
    argv = [f"recipe={recipe}", *QUICK, "data.store=stores/larger", "model.variant=nano", f"init={init}", "out=probes"]
    assert probe.main(argv) == 0

    run = load_config(argv).run
    before, after = (load_checkpoint(f / "final.pt")["model"] for f in (init, run))
    moved = {k for k, v in before.items() if v.is_floating_point() and not torch.equal(v, after[k])}
    if frozen:
        assert all(k.startswith("head.") for k in moved)
    else:
        assert any(k.startswith("stages.") for k in moved)
    result = json.loads((run / "result.json").read_text())
    assert result["frozen"] == frozen and result["labelled"] == {"probe_10": 3, "probe_1": 3}.get(recipe, 18)
