"""The steps of a training: decay, accumulation, clipping, precision, causal draws, and what is logged of them."""
import math

import pytest
import torch

import last
from last import causal, classification_loss, fit, lr_at, make_optimizer
from phases.training.evaluation import accuracy, predict
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS, Skeleton
from tests.helpers.toy_training import QUICK, RECIPE, Clips, Toy, log, loss_fn, quick, weights

FOUR = Skeleton("four", ("hip", "chest", "hand", "foot"), (0, 0, 1, 0), {"arm": (2,), "leg": (3,), "torso": (0, 1)})

# --- optimiser ---

@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("row", ["L5", "lite_nano"])
def test_weight_decay_falls_on_kernels_and_linear_weights_alone(optimizer, row):
    cfg = load_config([f"recipe={row}", f"train.optimizer={optimizer}", "train.weight_decay=0.03",
                       "train.adamw_decay=0.03"])
    model = build_model(cfg, SKELETONS["ntu25"], 10)
    opt = make_optimizer(model, cfg.train)
    name = {id(p): n for n, p in model.named_parameters()}
    groups = {g["weight_decay"]: {name[id(p)] for p in g["params"]} for g in opt.param_groups}
    # a norm's weight has one axis
    kernels = {n for n, p in model.named_parameters() if n.endswith(".weight") and p.ndim in (2, 4)}
    assert groups == {0.03: kernels, 0.0: set(name.values()) - kernels}
    assert sum(len(g["params"]) for g in opt.param_groups) == len(name)
    for n in ("embedding", "mask", "gate", "bias", "norm.weight", "stem.weights"):
        assert any(n in x for x in groups[0.0]) and not any(n in x for x in groups[0.03])
    group = opt.param_groups[0]
    if optimizer == "sgd":
        assert (group["momentum"], group["nesterov"]) == (0.9, True)
    else:
        assert group["betas"] == (0.9, 0.999)


def step_by_step(monkeypatch, cfg, tmp_path, recipe: str = "lite_nano") -> tuple[list[dict], list[dict]]:
    """A training of random clips: the rate of each tensor, and the weights before and after each step, by name."""
    model = build_model(load_config([f"recipe={recipe}", "view.frames=6", "model.width=16"]), FOUR, 4)
    clips = Clips()
    clips.x = torch.randn(12, 1, 6, 4, 3)
    name = {id(p): n for n, p in model.named_parameters()}
    rates, after = [], [weights(model)]
    real = torch.optim.SGD.step

    def step(self, *args, **kwargs):
        rates.append({name[id(p)]: g["lr"] for g in self.param_groups for p in g["params"]})
        real(self, *args, **kwargs)
        after.append(weights(model))

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    fit(model, clips, classification_loss(cfg), cfg, tmp_path, RECIPE)
    return rates, after


@pytest.mark.parametrize("recipe", ["lite_nano", "base"])
def test_the_trunk_learns_at_its_share_of_the_rate(recipe, tmp_path, monkeypatch):
    cfg = quick(trunk_lr=0.25, head_epochs=1)
    rates, after = step_by_step(monkeypatch, cfg, tmp_path, recipe)
    trainable = set(rates[0])
    assert len(rates) == 9 and trainable <= set(after[0])
    for step, rate in enumerate(rates):
        share = 0 if step < 3 else 0.25
        want = {n: lr_at(step, cfg, 3) * (1 if n.startswith("head.classifier.") else share) for n in trainable}
        assert rate == want

        # what does not learn stays to the bit
        moved = {n for n in trainable if not torch.equal(after[step][n], after[step + 1][n])}
        assert any(n.startswith("head.classifier.") for n in moved)
        assert any(n.startswith("stages.") for n in moved) == (step >= 3)


def test_a_trunk_of_rate_0_keeps_its_weights(tmp_path, monkeypatch):
    _, after = step_by_step(monkeypatch, quick(trunk_lr=0.0), tmp_path)
    moved = {n for n in after[0] if not torch.equal(after[0][n], after[-1][n])}
    assert moved == {n for n in after[0] if n.startswith("head.classifier.") or "running_" in n}


def test_what_trains_beside_a_network_is_no_trunk():
    model = build_model(load_config(["recipe=lite_nano"]), FOUR, 4)
    whole = torch.nn.ModuleDict({"student": model, "adapter": torch.nn.Linear(3, 3)})
    groups = make_optimizer(whole, quick(trunk_lr=0.5)).param_groups
    apart = {id(p) for g in groups if not g["trunk"] for p in g["params"]}
    assert apart == {id(p) for p in [*whole["adapter"].parameters(), *model.head.classifier.parameters()]}
    assert sum(len(g["params"]) for g in groups) == len(list(whole.parameters()))


# --- accumulation, clipping, precision ---

@pytest.mark.parametrize("clips", [40, 38, 16, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_accumulating_four_batches_equals_one_of_four_times_size(clips, optimizer, tmp_path):
    done = {}
    for size, accumulate in ((16, 1), (4, 4)):
        cfg = quick(optimizer=optimizer, accumulate=accumulate, grad_clip=0.05)
        model, data = Toy(norm=False, dropout=0).double(), Clips(clips, size, dtype=torch.float64)
        done[size] = weights(fit(model, data, loss_fn, cfg, tmp_path / str(size), RECIPE)), log(tmp_path / str(size))
    (whole, whole_log), (parts, parts_log) = done[16], done[4]
    steps = 3 * math.ceil(clips / 16)  # the last window of an epoch may be partial and is still a step
    assert whole_log[-1]["step"] == parts_log[-1]["step"] == steps
    for k, v in whole.items():
        torch.testing.assert_close(parts[k], v, rtol=1e-9, atol=1e-11)
    for a, b in zip(whole_log, parts_log, strict=True):
        assert a == pytest.approx(b)


@pytest.mark.parametrize("amp", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("clip", [0.02, 0.0])
def test_gradients_are_clipped_by_true_norm_at_any_loss_scale(amp, clip, tmp_path):
    model, data = Toy(norm=False, dropout=0), Clips(4, 4)
    loss_fn(model, next(data()))[0].backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
    assert norm > 0.05  # above 0.02, so that clipping has an effect
    start = {k: v.clone() for k, v in model.named_parameters()}
    cfg = quick(epochs=1, warmup_epochs=0, lr=0.1, weight_decay=0.0, grad_clip=clip, amp=amp)
    fit(model, data, loss_fn, cfg, tmp_path, RECIPE)
    moved = math.sqrt(sum((p - start[k]).square().sum().item() for k, p in model.named_parameters()))
    want = 0.1 * 1.9 * (clip or norm)  # Nesterov's first step: lr (1 + momentum) g
    assert moved == pytest.approx(want, rel=2e-2 if amp != "fp32" else 1e-4)


def test_bf16_autocast_runs_and_follows_fp32(tmp_path):
    seen, done = [], {}

    def noting(model, batch):
        seen.append(model(batch["joints"]).dtype)
        return loss_fn(model, batch)

    for amp in ("fp32", "bf16"):
        done[amp] = weights(fit(Toy(dropout=0), Clips(), noting, quick(amp=amp), tmp_path / amp, RECIPE))
    half = len(seen) // 2
    assert set(seen[:half]) == {torch.float32} and set(seen[half:]) == {torch.bfloat16}
    for a, b in zip(log(tmp_path / "fp32"), log(tmp_path / "bf16"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.05) and a["loss"] != b["loss"]
    assert all(v.dtype == done["fp32"][k].dtype for k, v in done["bf16"].items())  # master weights stay FP32


# --- causal toggle ---

def modes(cfg, folder, seed=0, clips=12) -> list[bool]:
    """For every batch of a training, whether it was causal."""
    seen = []

    def noting(model, batch):
        seen.append(model.conv.causal)
        return loss_fn(model, batch)

    model = fit(Toy(), Clips(clips), noting, cfg, folder, RECIPE, seed)
    assert not model.conv.causal
    return seen


def test_the_causal_toggle_is_a_function_of_seed_and_step(tmp_path):
    half = quick(epochs=4, causal=0.5)
    a = modes(half, tmp_path / "a", clips=400)
    assert len(a) == 400 and abs(sum(a) / 400 - 0.5) < 0.1  # four standard deviations
    assert modes(half, tmp_path / "b", seed=1) != a[:12]
    pairs = modes(quick(epochs=10, causal=0.5, accumulate=2), tmp_path / "c", clips=24)
    assert pairs[::2] == pairs[1::2] == a[:30]  # all batches of a step agree, whatever the size of the step
    assert not any(modes(QUICK, tmp_path / "d")) and all(modes(quick(causal=1.0), tmp_path / "e"))


def test_the_causal_toggle_is_undone_when_the_loss_fails(tmp_path):
    model = Toy()
    with pytest.raises(ZeroDivisionError):
        fit(model, Clips(), lambda m, b: 1 // 0, quick(causal=1.0), tmp_path, RECIPE)
    assert not model.conv.causal
    with causal(model):
        assert model.conv.causal


# --- outcome ---

class OneBatch:
    """Batches of a single batch."""

    def __init__(self, batch: dict):
        self.batch = batch

    def __len__(self):
        return 1

    def __call__(self, epoch=0, start=0):
        return iter([self.batch][start:])


def test_a_random_batch_of_unit_variance_is_learned_by_heart(tmp_path):
    # averaging, because it refreshes batch-norm statistics, which lag after so few steps
    cfg = load_config(["recipe=lite_nano", "view.frames=8", "model.dropout=0", "train.epochs=50", "train.lr=0.05",
                       "train.average=swa", "train.amp=fp32"])
    model, g = build_model(cfg, SKELETONS["ntu25"], 8), torch.Generator().manual_seed(1)
    data = OneBatch({"joints": torch.randn(16, 1, 8, 25, 3, generator=g), "label": torch.arange(16) % 8})
    fit(model, data, last.classification_loss(cfg.train), cfg.train, tmp_path, RECIPE)
    assert accuracy(*predict(model, data))["top1"] == 100
    assert log(tmp_path)[0]["loss"] > 1.5 and log(tmp_path)[-1]["loss"] < 0.1


def test_metrics_hold_one_line_an_epoch_with_means_over_clips(tmp_path):
    losses = []

    def noting(model, batch):
        loss, metrics = loss_fn(model, batch)
        losses.append((loss.item(), metrics["top1"].item(), len(batch["label"])))
        return loss, metrics

    fit(Toy(), Clips(10, 4), noting, QUICK, tmp_path, RECIPE)
    lines = log(tmp_path)
    assert [(e["epoch"], e["step"]) for e in lines] == [(0, 3), (1, 6), (2, 9)]
    assert [clips for *_, clips in losses] == [4, 4, 2] * 3
    for e, part in zip(lines, (losses[:3], losses[3:6], losses[6:]), strict=True):
        assert e["loss"] == pytest.approx(sum(loss * clips for loss, _, clips in part) / 10)
        assert e["top1"] == pytest.approx(sum(top1 * clips for _, top1, clips in part) / 10)
