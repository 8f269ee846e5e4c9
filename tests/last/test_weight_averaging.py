"""The weights a training returns: SWA, EMA, refreshed batch norm, and the epoch that validation picks."""
import pytest
import torch
from torch import nn

import last
from last import fit, load_checkpoint, refresh_batchnorm
from phases.training.networks import build_model
from phases.training.recipe import load_config
from skeletons import SKELETONS
from tests.helpers.toy_training import RECIPE, Clips, Toy, equal, log, loss_fn, quick, weights

# --- SWA and EMA ---

class Noting(Clips):
    """Clips that note a network's weights at the start of each epoch."""

    def watch(self, model):
        self.model, self.seen = model, []
        return self

    def __call__(self, epoch=0, start=0):
        self.seen.append(weights(self.model))
        return super().__call__(epoch, start)


@pytest.mark.parametrize("start, first", [(0.5, 3), (0.0, 0), (1.0, 5)])
def test_swa_weights_are_the_mean_over_the_last_epochs(start, first, tmp_path):
    model = Toy()
    data = Noting().watch(model)
    cfg = quick(epochs=6, average="swa", swa_start=start, swa_lr=0.05)
    fit(model, data, loss_fn, cfg, tmp_path, RECIPE, plain=Clips())
    ends = [*data.seen[1:], load_checkpoint(tmp_path / "last.pt")["model"]]
    assert len(ends) == 6
    for k, v in model.named_parameters():
        torch.testing.assert_close(v.detach(), torch.stack([s[k] for s in ends[first:]]).mean(0), rtol=1e-5, atol=1e-7)


def test_ema_weights_follow_the_naive_recurrence_over_steps(tmp_path):
    seen = []

    def noting(model, batch):
        seen.append(weights(model))
        return loss_fn(model, batch)

    model = fit(Toy(), Clips(), noting, quick(average="ema", ema_decay=0.7), tmp_path, RECIPE)
    after = [*seen[1:], load_checkpoint(tmp_path / "last.pt")["model"]]
    assert len(after) == 9
    for k, v in model.named_parameters():
        mean = after[0][k]
        for s in after[1:]:
            mean = 0.7 * mean + 0.3 * s[k]
        torch.testing.assert_close(v.detach(), mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_averaging_leaves_integer_tables_alone(average, tmp_path):
    model = fit(Toy(), Clips(), loss_fn, quick(average=average, swa_start=0.0, ema_decay=0.7), tmp_path, RECIPE)
    for table in (model.table, load_checkpoint(tmp_path / "last.pt")["mean_model"]["module.table"]):
        assert table.dtype == torch.int64 and table.tolist() == [2**40 + 1, 2, 3]


# --- refreshed batch norm ---

class Dropped(nn.Module):
    """Dropout ahead of a norm: with dropout on, the norm's statistics would be wrong."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3, momentum=0.03), nn.Dropout(0.5))

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batches", [1, 4])
def test_refreshed_batch_norm_has_the_statistics_of_the_data(batches, training):
    x = torch.randn(40, 3) * torch.tensor([1., 2., 5.]) + torch.tensor([0., -3., 7.])
    model = Dropped().train(training)
    model(x * 9 + 4)  # stale statistics, to be forgotten
    weight, parts = weights(model)["body.1.weight"], x.chunk(batches)
    refresh_batchnorm(model, lambda: [{"joints": part} for part in parts])
    norm = model.body[1]
    torch.testing.assert_close(norm.running_mean, x.mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([part.var(0) for part in parts]).mean(0))
    assert all(m.training == training for m in model.modules())
    assert norm.momentum == 0.03 and torch.equal(norm.weight, weight)


def test_refreshing_leaves_absent_bodies_out():
    cfg, x = load_config(["recipe=lite_nano", "view.frames=8"]), torch.randn(6, 1, 8, 25, 3)
    one, two = (build_model(cfg, SKELETONS["ntu25"], 5) for _ in range(2))
    refresh_batchnorm(one, lambda: [{"joints": x}])
    refresh_batchnorm(two, lambda: [{"joints": torch.cat([x, torch.zeros_like(x)], 1)}])
    for k, v in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[k], v, msg=k)


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_averaged_weights_get_statistics_of_plain_clips(average, tmp_path):
    plain = Clips(offset=0.0)
    model = fit(Toy(), Clips(offset=50.0), loss_fn, quick(average=average), tmp_path, RECIPE, plain=plain)
    x = torch.cat([model.conv(b["joints"][:, 0].permute(0, 3, 1, 2)) for b in plain()]).detach()
    torch.testing.assert_close(model.norm.running_mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not model.training


# --- validation ---

@pytest.mark.parametrize("refreshed, keeps, least", [(30.0, True, 0.0), (29.0, False, 0.0), (29.0, False, -100.0)])
def test_validation_keeps_the_best_epoch_with_better_statistics(refreshed, keeps, least, tmp_path):
    seen, scores = [], iter([least + score for score in (10.0, 30.0, 20.0, 30.0, refreshed)])

    def score(model):
        seen.append(weights(model))
        return next(scores)

    model = fit(Toy(), Clips(), loss_fn, quick(epochs=4), tmp_path, RECIPE, score=score)
    best = Toy()
    best.load_state_dict(seen[1])
    last.refresh_batchnorm(best, Clips())
    best, got = weights(best), weights(model)
    assert not equal(seen[1], best) and not equal(seen[1], seen[3])  # of equal epochs the first counts
    assert equal(got, best if keeps else seen[1])
    assert [e["validation"] - least for e in log(tmp_path)] == [10.0, 30.0, 20.0, 30.0]


def test_validation_keeps_the_best_epoch_of_a_long_run_as_it_was(tmp_path):
    seen, scores = [], iter([*range(40), *range(30)])

    def score(model):
        seen.append(weights(model))
        return next(scores)

    model = fit(Toy(), Clips(), loss_fn, quick(epochs=70), tmp_path, RECIPE, score=score)
    assert len(seen) == 70 and equal(weights(model), seen[39]) and not equal(seen[39], seen[69])


@pytest.mark.parametrize("average", ["swa", "ema"])
@pytest.mark.parametrize("last_score, keeps", [(29.0, "epoch"), (30.0, "average"), (31.0, "average")])
def test_validation_chooses_best_epoch_or_average(average, last_score, keeps, tmp_path):
    seen, scores = [], iter([10.0, 30.0, 20.0, last_score])

    def score(model):
        seen.append(weights(model))
        return next(scores)

    model = fit(Toy(), Clips(), loss_fn, quick(epochs=3, average=average), tmp_path / "a", RECIPE, score=score)
    mean = weights(fit(Toy(), Clips(), loss_fn, quick(epochs=3, average=average), tmp_path / "b", RECIPE))
    assert not equal(seen[1], mean) and equal(weights(model), {"epoch": seen[1], "average": mean}[keeps])
