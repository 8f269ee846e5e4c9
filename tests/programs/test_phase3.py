"""Phase 3: hidden joints stay hidden, the loss and its gradients, resume, the gate, and what is refused."""
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import last
from last import load_checkpoint
from phases import p1_train, p3_maskclr, probe
from phases.p3_maskclr import TEMPERATURE, MaskCLR, info_nce, pretrain_loss
from phases.reporting.measured import gather
from phases.training.batches import plain_batches
from phases.training.clip_store import ClipStore
from phases.training.masking import Pairs, region_masks, region_table
from phases.training.networks import build_model
from phases.training.recipe import Pretrain, load_config
from phases.training.transfer import init_from
from phases.training.view import ClipView
from skeletons import SKELETONS
from tests.helpers.clip_stores import latest, write_store
from tests.helpers.programs import call
from tests.helpers.toy_training import Cut, cut_after
from tests.programs.test_phase2 import log

QUICK = ["data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "train.epochs=2", "train.batch=8",
         "train.warmup_epochs=1"]


def maskclr() -> MaskCLR:
    encoder = build_model(load_config(["recipe=maskclr_nano", "view.frames=8"]), SKELETONS["ntu25"], 3)
    return MaskCLR(encoder, 25, projection=16)


def masks_of(B: int, M: int = 1, seed: int = 3) -> torch.Tensor:
    """Masks (B, M, 25) that hide 60 % of the joints."""
    return region_masks(region_table(SKELETONS["ntu25"]), 0.6, seed, torch.arange(B * M)).view(B, M, 25)


def squared_errors(rebuilt, x, hidden, recorded_only: bool = False) -> torch.Tensor:
    """(count, 3) squared errors at hidden joints in every 4th frame of x (N, 1, 8, 25, 3), by a naive loop."""
    errors = []
    for n, t, v in itertools.product(range(len(x)), range(2), range(25)):
        joint = x[n, 0, 4 * t, v]
        if hidden[n, 0, v] and (joint.any() or not recorded_only):
            errors.append((rebuilt[n, t, v] - joint).square())
    return torch.stack(errors)


# --- what is hidden ---

@given(st.sampled_from(sorted(SKELETONS)), st.floats(0.1, 0.9), st.integers(0, 999))
def test_masks_cover_the_share_by_whole_regions_but_one(name, share, seed):
    skeleton = SKELETONS[name]
    masks = region_masks(region_table(skeleton), share, seed, torch.arange(40))
    assert masks.shape == (40, skeleton.num_joints) and masks.dtype == torch.bool
    assert abs(masks.sum(1) - share * skeleton.num_joints).max() <= 1
    region = {v: r for r, joints in skeleton.regions.items() for v in joints}
    for a, b in skeleton.pairs:
        together = torch.equal(masks[:, a], masks[:, b])
        assert region[a] != region[b] or together, "an eye is never hidden without the other"
    for mask in masks:
        parts = [mask[list(joints)] for joints in skeleton.regions.values()]
        assert sum(bool(p.any() and not p.all()) for p in parts) <= 1, "only the last region may be hidden in part"


def test_masks_favour_no_side_and_differ_from_clip_to_clip():
    skeleton = SKELETONS["ntu25"]
    table = region_table(skeleton)
    masks = torch.cat([region_masks(table, 0.6, seed, torch.arange(1000)) for seed in range(20)]).float()
    left, right = (masks[:, list(skeleton.regions[f"{side}_arm"])].mean() for side in ("left", "right"))
    assert abs(left - right) < 0.02
    assert (masks.mean(0) - 0.6).abs().max() < 0.03, "every joint is hidden equally often"
    assert len(masks.unique(dim=0)) > 100
    alone, of_nine = (region_masks(table, 0.6, 0, index) for index in (torch.tensor([7]), torch.arange(9)))
    assert torch.equal(alone, of_nine[7:8])


@pytest.mark.parametrize("M", [1, 2])
def test_no_hidden_value_reaches_the_encoder_by_any_stream(M):
    """Other values at hidden joints leave every output the same; other values at visible joints change it."""
    model = maskclr().eval()
    x, hidden = torch.randn(4, M, 8, 25, 3), masks_of(4, M)
    other = torch.where(hidden[:, :, None, :, None], 100 * torch.randn_like(x), x)
    with torch.no_grad():
        for a, b in zip(model(x, hidden), model(other, hidden), strict=True):
            assert torch.equal(a, b)
        seen = torch.where(hidden[:, :, None, :, None], x, x + 1)
        assert not torch.allclose(model(x, hidden)[0], model(seen, hidden)[0])
        assert not torch.allclose(model(x, hidden)[0], model(x)[0]), "without a mask everything is seen"


def test_the_loss_asks_for_hidden_joints_at_the_stride():
    model, cfg = maskclr().eval(), Pretrain(contrast=0.0)
    x, hidden = torch.randn(6, 1, 8, 25, 3), masks_of(6)
    assert model.stride == 4
    with torch.no_grad():
        loss, metrics = pretrain_loss(cfg, 4)(model, {"joints": x, "hidden": hidden})
        want = squared_errors(model(x, hidden)[0], x, hidden).mean().item()
    assert loss.item() == pytest.approx(want, rel=1e-5) == metrics["rebuild"].item()


def test_a_joint_that_was_not_recorded_is_not_asked_for():
    model, x = maskclr().eval(), torch.randn(4, 1, 8, 25, 3)
    x[:, :, 4:, 7] = 0
    x[2, :, :4] = 0
    hidden = masks_of(4)
    hidden[:, :, 7] = True
    with torch.no_grad():
        _, metrics = pretrain_loss(Pretrain(), 4)(model, {"joints": x, "hidden": hidden})
        want = squared_errors(model(x, hidden)[0], x, hidden, recorded_only=True).mean().item()
    assert metrics["rebuild"].item() == pytest.approx(want, rel=1e-5)


def test_the_contrast_is_between_the_two_views_of_a_clip():
    model, x = maskclr().eval(), torch.randn(8, 1, 8, 25, 3)
    x[4:] = x[:4] + 0.5 * torch.randn(4, 1, 8, 25, 3)
    batch = {"joints": x, "hidden": masks_of(8)}
    with torch.no_grad():
        embedding = model(x, batch["hidden"])[1]
        loss, metrics = pretrain_loss(Pretrain(contrast=0.25), 4)(model, batch)
    torch.testing.assert_close(metrics["contrast"], info_nce(embedding[:4], embedding[4:], TEMPERATURE))
    torch.testing.assert_close(loss, metrics["rebuild"] + 0.25 * metrics["contrast"])
    cosine = torch.nn.functional.cosine_similarity(embedding[:4, None], embedding[None, 4:], dim=2)
    assert metrics["found"] == (cosine.argmax(1) == torch.arange(4)).float().mean()


def test_frames_not_decoded_and_absent_bodies_cost_nothing():
    model, cfg = maskclr().eval(), Pretrain()
    x = torch.randn(4, 2, 8, 25, 3)
    x[1::2, 1] = 0
    hidden = masks_of(4, 2)
    with torch.no_grad():
        rebuilt, embedding = model(x, hidden)
        assert rebuilt.shape == (6, 2, 25, 3) and embedding.shape == (4, 16)
        alone = model(x[1:2, :1], hidden[1:2, :1])[1]
        torch.testing.assert_close(embedding[1:2], alone, rtol=1e-4, atol=1e-5)
        loss = pretrain_loss(cfg, 4)(model, {"joints": x, "hidden": hidden})[0]
        again = hidden.clone()
        again[1::2, 1] = ~again[1::2, 1]
        assert pretrain_loss(cfg, 4)(model, {"joints": x, "hidden": again})[0] == loss


def test_a_gradient_reaches_every_parameter_that_pretraining_has():
    model = maskclr()
    x, hidden = torch.randn(8, 2, 8, 25, 3), masks_of(8, 2, seed=1)
    pretrain_loss(Pretrain(), 4)(model.train(), {"joints": x, "hidden": hidden})[0].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert model.token.grad.any()


# --- pairs ---

@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("maskclr")
    write_store(folder / "stores" / "tiny", clips=32)
    return folder


def masks_by_clip(batches) -> dict[int, torch.Tensor]:
    """The mask (M, V) of each clip's first view."""
    masks = {}
    for batch in batches:
        for clip, hidden in zip(batch["index"], batch["hidden"], strict=False):  # first views come first
            masks[int(clip)] = hidden
    return masks


def test_two_views_of_a_clip_are_functions_of_the_epoch(here):
    cfg = load_config(["recipe=maskclr_nano", "view.frames=8", "view.bodies=2"])
    view = ClipView(ClipStore(here / "stores" / "tiny"), cfg.view)
    pairs = Pairs(view, np.arange(12), 5, 7, 0.6)
    batches = list(pairs(3))
    assert [len(b["joints"]) for b in batches] == [10, 10, 4] and batches[0]["hidden"].shape == (10, 2, 25)
    for b in batches:
        index, half = b["index"], len(b["index"])
        assert torch.equal(b["joints"][:half], view(index, True, 7, 3)), "the first view is phase 1's"
        assert not torch.allclose(b["joints"][:half], b["joints"][half:])
        assert not torch.equal(b["hidden"][:half], b["hidden"][half:])
        assert (b["hidden"].sum(2) == 15).all()
    again = list(Pairs(view, np.arange(12), 5, 7, 0.6)(3, 1))
    for a, b in zip(again, batches[1:], strict=True):
        assert torch.equal(a["joints"], b["joints"]) and torch.equal(a["hidden"], b["hidden"])
    third, fourth = masks_by_clip(pairs(3)), masks_by_clip(pairs(4))
    assert sum(torch.equal(third[i], fourth[i]) for i in third) < 4, "another epoch hides other joints of a clip"


# --- the program ---

def pretrain(folder: Path, monkeypatch, *words: str) -> Path:
    """Run phase 3 of maskclr_nano past its gate -> run folder."""
    monkeypatch.chdir(folder)
    argv = latest("recipe=maskclr_nano", *QUICK, *words)
    assert call(p3_maskclr, *argv, "force=true") == 0
    return load_config(argv).run


def test_pretraining_learns_and_hands_over_an_encoder(here, monkeypatch, capsys):
    run = pretrain(here, monkeypatch, "train.epochs=12", "train.lr=0.003")
    first, final = log(run)[0], log(run)[-1]
    assert final["rebuild"] < 0.8 * first["rebuild"] and final["contrast"] < first["contrast"]
    state = load_checkpoint(run / "final.pt")["model"]
    assert not any(k.startswith(("token", "decoder", "projector", "head.classifier", "head.norm")) for k in state)

    # phase 1 starts from it
    argv = ["recipe=lite_nano", *QUICK, f"init={run.resolve()}", "out=started"]
    capsys.readouterr()
    p1_train.main(argv)
    said = capsys.readouterr().err
    assert f"init: {len(state)} of" in said and "head.classifier.weight" in said.split("left as they were:")[1]
    fresh = build_model(load_config(argv), SKELETONS["ntu25"], 3)
    init_from(fresh, run, load_config(argv), SKELETONS["ntu25"], ["a", "b", "c"])
    assert all(torch.equal(fresh.state_dict()[k], v) for k, v in state.items())

    # the same command again; the result has losses and no accuracy
    assert pretrain(here, monkeypatch, "train.epochs=12", "train.lr=0.003") == run
    assert "already done" in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    assert result["command"].startswith("just phase3 recipe=maskclr_nano")
    assert result["rebuild"] == final["rebuild"] and result["device"]
    assert not gather(here / "runs").get("maskclr_nano--tiny-xsub"), "there is nothing to collect"


def test_the_share_of_the_recipe_is_hidden(here, monkeypatch):
    shares = []

    def noted_pairs(view, index, size, seed, share):
        shares.append(share)
        return Pairs(view, index, size, seed, share)

    monkeypatch.setattr(p3_maskclr, "Pairs", noted_pairs)
    pretrain(here, monkeypatch, "pretrain.mask=0.4", "train.epochs=1", "out=share")
    assert shares == [0.4]


@pytest.mark.parametrize("cut", [1, 3, 4, 6])
@pytest.mark.parametrize("average", ["none", "swa"])
def test_a_cut_pretraining_ends_as_an_uncut_one(here, monkeypatch, cut, average):
    argv = ["train.save_seconds=0", f"train.average={average}", "train.causal=0.5"]
    whole = pretrain(here, monkeypatch, f"out=whole-{average}", *argv)
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, cut)
        pretrain(here, m, f"out=cut{cut}-{average}", *argv)

    torch.manual_seed(99)
    again = pretrain(here, monkeypatch, f"out=cut{cut}-{average}", *argv)

    for name in ("last.pt", "final.pt"):
        a, b = (load_checkpoint(here / run / name) for run in (whole, again))
        assert a["model"].keys() == b["model"].keys()
        assert all(torch.equal(a["model"][k], b["model"][k]) for k in a["model"])
        if name == "last.pt":
            assert {"token", "decoder.weight", "projector.weight"} <= a["model"].keys() and a["at"] == b["at"]
            for p, q in zip(a["optimizer"]["state"].values(), b["optimizer"]["state"].values(), strict=True):
                assert all(torch.equal(p[k], q[k]) for k in p)
    assert log(here / whole) == log(here / again)


@pytest.mark.parametrize("average", ["none", "swa"])
def test_the_final_encoder_has_statistics_of_whole_clips(here, monkeypatch, average):
    argv = [f"train.average={average}", "train.batch=64", "view.bodies=2"]
    run = pretrain(here, monkeypatch, f"out=norms-{average}", *argv)

    # those of the first norm, of all training clips at once
    cfg = load_config(["recipe=maskclr_nano", *QUICK, "view.bodies=2"])
    store = ClipStore(cfg.store)
    batch = next(plain_batches(ClipView(store, cfg.view), store.split("xsub")[0], 64)())
    x = batch["joints"].flatten(0, 1)[last.bodies_present(batch["joints"]).flatten() > 0]
    encoder = build_model(cfg, store.skeleton, 3)
    streams = last.derive_streams(x, encoder.parents, encoder.streams)
    values = streams.flatten(0, 2)
    state = load_checkpoint(run / "final.pt")["model"]
    torch.testing.assert_close(state["stem.norm.running_mean"], values.mean(0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(state["stem.norm.running_var"], values.var(0), rtol=1e-3, atol=1e-5)


def test_the_gate_asks_for_phase_2_and_lets_a_weak_one_through(here, monkeypatch):
    monkeypatch.chdir(here)
    argv = ["recipe=maskclr_nano", *QUICK, "out=gate"]
    advice = "has no result yet: run `just phase2 recipe=lite_nano_base` first, or give force=true"
    with pytest.raises(ValueError, match=advice):
        call(p3_maskclr, *argv)

    # a strong one
    result = dataclasses.replace(load_config(argv), recipe="lite_nano_base").run / "result.json"
    result.parent.mkdir(parents=True)
    result.write_text('{"top1": 91.5}')
    with pytest.raises(ValueError, match="below 88 %, and .* reached 91.5 %: give force=true"):
        call(p3_maskclr, *argv)
    with pytest.raises(ValueError, match="reached 91.5 %"):
        call(p3_maskclr, *argv, "force=false")
    with pytest.raises(ValueError, match='force = "yes": must be true or false'):
        call(p3_maskclr, *argv, "force=yes")
    assert not load_config(argv).run.exists(), "nothing is written before the gate"

    # the mean over seeds decides
    second = result.parents[1] / "seed1" / "result.json"
    second.parent.mkdir()
    second.write_text('{"top1": 86.5}')
    with pytest.raises(ValueError, match="reached 89.0 %"):
        call(p3_maskclr, *argv)
    result.write_text('{"top1": 70.0}')
    assert call(p3_maskclr, *argv) == 0


@pytest.mark.parametrize("program, words, told", [
    (p3_maskclr, ["model.name=last_e", "force=true"], "phase 3 pretrains LAST-Lite"),
    (p3_maskclr, ["pretrain.mask=1.5", "force=true"], "pretrain.mask = 1.5: must lie in"),
    (p3_maskclr, ["pretrain.mask=0.01", "force=true"], "pretrain.mask = 0.01: hides 0 of 25 joints"),
    (p3_maskclr, ["pretrain.mask=0.99", "force=true"], "pretrain.mask = 0.99: hides 25 of 25 joints"),
    (p3_maskclr, ["pretrain.temperature=0.1", "force=true"], "this setting is gone"),
    (p3_maskclr, ["view.mix=0.5", "force=true"], "view.mix = 0.5: phase 3 compares views of one clip"),
    (p3_maskclr, ["recipe=lite_nano"], "recipe 'lite_nano' names no recipe of phase 2"),
    (probe, ["recipe=probe_linear", "gpus=2"], "gpus = 2: a probe is short")])
def test_what_cannot_be_pretrained_is_refused(program, words, told, here, monkeypatch):
    monkeypatch.chdir(here)
    with pytest.raises(ValueError, match=told):
        call(program, *latest("recipe=maskclr_nano", *QUICK, *words, "out=refused"))
    assert not (here / "refused").exists()
