"""LAST-Lite pair: two trunks that learn apart and meet in the head."""
import pytest
import torch

from last import STREAMS, LastLite, Model, classification_loss, derive_streams
from phases.p2_distill import kd_loss, soft_loss
from phases.training.networks import build_model
from phases.training.recipe import Distil, Train, load_config
from skeletons import SKELETONS
from tests.helpers.networks import joints, stirred

BODY = SKELETONS["kinect20"]
K = 5


def pair(**switches) -> LastLite:
    torch.manual_seed(0)
    return LastLite(Model(variant="pair", dropout=0.0, **switches), BODY, K, 16)


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_it_is_smaller_than_small_and_reads_all_streams():
    sizes = {v: parameters(build_model(load_config([f"recipe=lite_{v}"]), SKELETONS["ntu25"], 60))
             for v in ("nano", "pair", "small")}
    assert sizes["nano"] < 64_000 < sizes["pair"] < 120_000 < sizes["small"] <= 190_000
    assert (*pair().streams, *pair().second.streams) == STREAMS
    assert pair(streams=("bone",)).second.streams == ("bone_velocity",)


def test_the_second_trunk_sees_velocities_alone():
    model = stirred(pair()).eval()
    bodies = joints(3, 1, 16, 20)[:, 0]
    moved = bodies + torch.tensor([0.3, -0.2, 1.0])  # the same motion in another place
    one, other = (model.features(x)[-1] for x in (bodies, moved))
    half = one.shape[1] // 2
    torch.testing.assert_close(one[:, half:], other[:, half:], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(one[:, :half], other[:, :half], atol=1e-2)
    assert derive_streams(bodies, model.parents, model.second.streams).shape[-1] == 6


def test_each_half_learns_from_a_loss_of_its_own():
    model = pair().train()
    batch = {"joints": joints(4, 1, 16, 20), "label": torch.arange(4)}
    logits = model(batch["joints"])
    assert logits.shape == (8, K)

    # the first half's loss moves the first trunk, and only its half of the head
    torch.nn.functional.cross_entropy(logits[:4], batch["label"]).backward()
    assert model.stem.stem.grad.any() and model.stages[2].gate.grad.any()
    assert all(p.grad is None or not p.grad.any() for p in model.second.parameters())
    half = model.head.classifier.in_features // 2
    assert model.head.classifier.weight.grad[:, :half].any() and not model.head.classifier.weight.grad[:, half:].any()

    # training's loss is the sum of both
    loss, metrics = classification_loss(Train(label_smoothing=0.1))(pair().train(), batch)
    ce = [torch.nn.functional.cross_entropy(part, batch["label"], label_smoothing=0.1) for part in logits.chunk(2)]
    torch.testing.assert_close(loss, ce[0] + ce[1])
    right = batch["label"] == (logits[:4] + logits[4:]).argmax(1)
    assert metrics["top1"] == pytest.approx(float(right.float().mean()))


def test_what_it_answers_is_the_mean_of_its_halves():
    model = stirred(pair())
    pooled = torch.randn(6, 1, model.head.classifier.in_features)
    present = torch.ones(6, 1)
    model.head.train()
    model.head.norm.eval()
    halves = model.head(pooled, present)
    torch.testing.assert_close(model.head.eval()(pooled, present), halves.view(2, 6, K).mean(0))


def test_a_teacher_teaches_each_half():
    logits = torch.randn(8, K)
    target = torch.randn(4, K).softmax(1)
    batch = {"label": torch.arange(4)}
    for kind in ("kd", "dkd"):
        found = soft_loss(logits, target, batch, Distil(kind=kind))
        apart = [soft_loss(part, target, batch, Distil(kind=kind)) for part in logits.chunk(2)]
        torch.testing.assert_close(found, apart[0] + apart[1])
    torch.testing.assert_close(soft_loss(logits[:4], target, batch, Distil()), kd_loss(logits[:4], target, 4.0))


def test_a_pair_of_velocities_is_refused():
    with pytest.raises(ValueError, match="a pair makes the velocities itself: give joint, bone or both"):
        load_config(["recipe=lite_pair", "model.streams=joint,velocity"])
