"""The study of streams and damage: what each variant changes, and that nothing else does."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import last
from last import MODELS, STREAMS, Model, StreamFusion, derive_streams
from phases.recordings.wild import CLEAN
from phases.training.changed_clips import Answers
from phases.training.recipe import load_config
from phases.training.settings import View
from skeletons import SKELETONS
from tests.tools import views
from tests.tools.stream_forms import FORMS, GatedVelocities, ScaledVelocities, slope, streams_as

BODY = SKELETONS["kinect20"]


def joints(clips: int = 4, frames: int = 16) -> torch.Tensor:
    """Bodies (N, T, V, 3) that walk about."""
    steps = 0.02 * torch.randn(clips, frames, BODY.num_joints, 3)
    return steps.cumsum(1) + torch.randn(clips, 1, BODY.num_joints, 3)


def maps(bodies: torch.Tensor) -> torch.Tensor:
    return derive_streams(bodies, torch.tensor(BODY.parents), STREAMS).permute(0, 3, 1, 2)


@pytest.mark.parametrize("variant", views.VARIANTS)
def test_the_words_of_each_variant_are_a_recipe(variant):
    cfg = load_config([f"recipe={views.NETWORK}", "data=utd_mhad", *views.VARIANTS[variant]])
    assert (cfg == load_config([f"recipe={views.NETWORK}", "data=utd_mhad"])) == (not views.VARIANTS[variant])


def test_the_whole_damage_is_the_default():
    words = [f"recipe={views.NETWORK}", "data=utd_mhad"]
    assert load_config([*words, *views.damage(1)]).view == load_config(words).view
    bare = load_config([*words, *views.damage(0)]).view
    assert (bare.missing, bare.noise, bare.spikes, bare.idle) == (0, 0, 0, 0) and View().missing > 0


@pytest.mark.parametrize("form", FORMS)
def test_a_form_changes_the_network_inside_its_block_alone(form):
    def answer() -> torch.Tensor:
        torch.manual_seed(0)
        network = MODELS["lite"](Model(variant="nano", streams=STREAMS, dropout=0), BODY, 5, 16).train()
        return network(clip)

    torch.manual_seed(1)
    clip = joints()[:, None]
    own = answer()
    with streams_as(form):
        other = answer()
    assert not torch.allclose(own, other, atol=1e-3)
    assert torch.equal(own, answer()) and last.StreamFusion is StreamFusion


def test_a_name_that_is_no_form_changes_nothing():
    with streams_as("four_streams"):
        assert last.StreamFusion is StreamFusion and last.derive_streams is derive_streams


def test_a_smoothed_velocity_is_that_of_even_motion_and_hears_a_sixteenth_of_the_noise():
    even = torch.arange(20.0)[:, None, None] * torch.tensor([0.1, -0.2, 0.3])
    assert torch.allclose(slope(even), torch.tensor([0.1, -0.2, 0.3]).expand(20, 1, 3), atol=1e-6)

    torch.manual_seed(0)
    noise = torch.randn(2000, 4, 3)
    plain = noise.diff(dim=0).var()
    assert float(plain / slope(noise)[2:-2].var()) == pytest.approx(16, rel=0.1)
    assert torch.equal(slope(torch.randn(1, 4, 3)), torch.zeros(1, 4, 3))


def test_scaled_velocities_share_the_spread_of_what_moves():
    torch.manual_seed(0)
    x = maps(joints(64))
    norm = ScaledVelocities(12)
    norm.gain.data = torch.tensor([2.0, 3.0])
    y = norm(x)

    # joints and bones as a norm of their own makes them
    spread = x[:, :6].var((0, 2, 3), unbiased=False).add(1e-5).sqrt()[:, None, None]
    assert torch.allclose(y[:, :6], (x[:, :6] - x[:, :6].mean((0, 2, 3), keepdim=True)) / spread, atol=1e-4)
    assert torch.allclose(y[:, 6:9], 2 * x[:, 6:9] / spread[:3], atol=1e-5)
    assert torch.allclose(y[:, 9:], 3 * x[:, 9:] / spread[3:], atol=1e-5)

    # running statistics lead to the same in use
    for _ in range(100):
        norm(x)
    assert torch.allclose(norm.eval()(x), y, atol=1e-2)


def test_a_gate_closes_on_noise_and_stays_open_for_motion():
    torch.manual_seed(0)
    t = torch.linspace(0, 6, 32)[:, None, None]
    calm = (t + torch.rand(8, 1, BODY.num_joints, 3)).sin()
    shaken = calm.clone()
    shaken[:, :, 3] += 0.3 * torch.randn(8, 32, 3)
    norm = GatedVelocities(12).eval()

    # at first each velocity is halved
    x, noisy = maps(calm), maps(shaken)
    assert torch.allclose(norm(x)[:, 6:], norm.norm(x)[:, 6:] / 2) and torch.equal(norm(x)[:, :6], norm.norm(x)[:, :6])

    norm.slope.data.fill_(-2.0)

    def openness(x: torch.Tensor) -> torch.Tensor:
        return norm(x)[:, 6:9].abs().mean((0, 1, 2)) / norm.norm(x)[:, 6:9].abs().mean((0, 1, 2))
    assert openness(noisy)[3] < 0.2 and openness(x)[3] > 0.8
    assert torch.allclose(openness(noisy)[4], openness(x)[4])


def test_a_late_fusion_averages_probabilities(monkeypatch):
    label = np.arange(6) % 3

    def network(sure: float) -> SimpleNamespace:
        def answers(clips: list[np.ndarray]) -> np.ndarray:
            number = np.array([int(clip[0, 0, 0, 0]) for clip in clips])
            p = np.full((len(clips), 3), (1 - sure) / 2)
            p[np.arange(len(clips)), (number + (sure < 0.6)) % 3] = sure  # the unsure one is wrong
            return p
        return SimpleNamespace(answers=answers, store=SimpleNamespace(clips={"label": label}), test=np.arange(6),
                               cfg=SimpleNamespace(data=SimpleNamespace(leaked=())), device="cpu")

    def by_row(answers: Answers, store: SimpleNamespace, test: np.ndarray, rows: list):
        yield CLEAN, answers([np.full((1, 1, 1, 3), i) for i in test])

    monkeypatch.setattr(views, "answers_by_row", by_row)
    monkeypatch.setattr(views.wild, "possible_rows", lambda subject: [])
    sure, unsure = network(0.9), network(0.5)
    assert views.together([unsure])["top1"][CLEAN] == 0
    found = views.together([sure, unsure])
    assert found["top1"][CLEAN] == 100 and found["clips"] == 6
    assert found["confidence"][CLEAN] == pytest.approx(100 * (0.9 + 0.25) / 2)
