"""The speed run: what its levers do to the order of clips, the rate, the view and the weights."""
import pytest
import torch

from last import MODELS, Model
from phases.common.files import read_json
from phases.training.clip_store import ClipStore
from phases.training.view import ClipView
from skeletons import SKELETONS
from tests.helpers.clip_stores import write_store
from tests.tools import speedrun
from tests.tools.speedrun import (
    LEVERS,
    Muon,
    Racer,
    Settings,
    answers_of,
    lengthen,
    order,
    orthogonal,
    settings_of,
    trained,
)

BODY = SKELETONS["kinect20"]
TRAIN = torch.arange(40).numpy()


@pytest.fixture
def store(tmp_path):
    """Ten classes, as Northwestern-UCLA has."""
    return ClipStore(write_store(tmp_path / "store", "kinect20", clips=40, classes=10, bodies=1))


class Bar:
    def update(self):
        pass


def racer(store, **changes) -> Racer:
    how = Settings(recipe="lite_nano", epochs=4, frames=8, **changes)
    return Racer(how, store, torch.zeros(20, 3) + torch.randn(20, 3), 8, 0)


@pytest.mark.parametrize("lever", LEVERS)
def test_each_lever_changes_what_it_names(lever):
    assert (settings_of(lever, 40) == Settings(epochs=40)) == (lever == "plain")


def test_levers_join():
    both = settings_of("linear+nano", 7)
    assert both == Settings(recipe="lite_nano", epochs=7, linear=True)


def test_an_epoch_shows_each_clip_once_and_in_another_order_each_time():
    how = Settings(batch=16)
    epochs = [torch.cat(order(how, TRAIN, torch.zeros(40), 0, epoch)) for epoch in (0, 1)]
    assert all(torch.equal(clips.sort().values, torch.arange(40)) for clips in epochs)
    assert not torch.equal(*epochs)


def test_clips_that_are_learnt_rest_in_the_middle_half():
    how = Settings(epochs=8, batch=16, skip=0.5)
    loss = torch.arange(40.0)
    shown = [torch.cat(order(how, TRAIN, loss, 0, epoch)).sort().values for epoch in range(8)]
    assert all(torch.equal(shown[epoch], torch.arange(20, 40)) for epoch in range(2, 6))
    assert all(torch.equal(shown[epoch], torch.arange(40)) for epoch in (0, 1, 6, 7))


def test_larger_steps_come_first():
    how = Settings(epochs=8, batch=4, growing=True)
    sizes = [[len(clips) for clips in order(how, TRAIN, torch.zeros(40), 0, epoch)] for epoch in (1, 2)]
    assert sizes == [[16, 16, 8], [4] * 10]


@pytest.mark.parametrize("linear", [False, True])
def test_the_rate_rises_then_falls_to_zero(store, linear):
    own = racer(store, linear=linear, norm_rate=4.0)
    how = Settings(linear=linear)

    def rates(done):
        own.set_rate(how, done)
        return [group["lr"] for group in own.optimizers[0].param_groups]

    assert rates(0.05) == pytest.approx([0.1, 0.4])
    assert rates(0.0)[0] == pytest.approx(0.01)
    assert rates(1.0) == pytest.approx([0, 0], abs=1e-9)
    quarter = 0.05 + 0.95 / 4
    assert rates(quarter)[0] == pytest.approx(0.075 if linear else 0.1 * (0.5 + 0.5 * 2 ** -0.5), rel=1e-3)


def test_under_an_average_the_rate_stays(store):
    own = racer(store, average=True)
    rates = []
    for done in (0.69, 0.7, 0.9, 1.0):
        own.set_rate(Settings(average=True), done)
        rates.append(own.optimizers[0].param_groups[0]["lr"])
    assert rates[0] > rates[1] == rates[2] == rates[3] > 0.01


def test_in_turns_each_clip_is_mirrored_in_one_of_two_epochs(store):
    view = racer(store, turns=True).view
    clips = torch.arange(40)
    turned = []
    for epoch in range(3):
        view(clips, True, 0, epoch)
        turned.append(view.turn_now)
    assert torch.equal(turned[0], ~turned[1]) and torch.equal(turned[0], turned[2])
    assert 5 < int(turned[0].sum()) < 35


def test_a_clip_in_its_turn_is_mirrored(store):
    view = racer(store, turns=True, damaged=False).view
    object.__setattr__(view.cfg, "swap", 0.0)
    view.turn = torch.zeros(3)  # no random rotation
    clips = torch.arange(40)
    seen = []
    for turn in (True, False):
        view.turn_now = torch.full((40,), turn)
        seen.append(ClipView.__call__(view, clips, True, 0, 0))
    torch.testing.assert_close(seen[0], seen[1][..., view.mirror, :] * torch.tensor([-1.0, 1, 1]))


def test_a_longer_network_keeps_the_spectrum_and_the_moments_of_gates():
    torch.manual_seed(0)
    short, long = (MODELS["lite"](Model(variant="nano"), BODY, 5, frames) for frames in (8, 16))
    for p in short.parameters():
        torch.nn.init.normal_(p)
    lengthen(short, long)
    for a, b in zip(short.stages, long.stages, strict=True):
        K = a.mask.shape[1]
        assert torch.equal(b.mask[:, :K], a.mask) and not b.mask[:, K:].any()
        assert torch.equal(b.gate[:, ::2], a.gate) and torch.equal(b.gate[:, 1::2], a.gate)
    for name, x in short.named_parameters():
        if not name.endswith((".mask", ".gate")):
            assert torch.equal(x, dict(long.named_parameters())[name])


def test_a_teacher_answers_the_clips_of_the_training_alone(store):
    teacher = racer(store)
    answers = answers_of(teacher.network, teacher.view, store, TRAIN[:7])
    assert not answers[7:].any()
    with torch.no_grad():
        logits = teacher.network.eval()(teacher.view(torch.arange(7)))
    torch.testing.assert_close(answers[:7], (logits / 4).softmax(1))


def test_labels_and_a_teachers_answers_count_equally(store):
    clips = torch.arange(16)
    rest = torch.randn(20, 3)

    def fresh():
        return Racer(Settings(recipe="lite_nano", frames=8), store, rest, 8, 0)

    plain = fresh().step(clips, 0, 0)
    answers = torch.rand(16, 10).softmax(1)
    own = fresh()
    with torch.no_grad():
        logits = own.network(own.view(clips, True, 0, 0))
    kd = 16 * torch.nn.functional.kl_div((logits / 4).log_softmax(1), answers, reduction="none").sum(1)
    torch.testing.assert_close(fresh().step(clips, 0, 0, answers), (plain + kd) / 2)


def test_a_teacher_takes_half_of_the_epochs(store, monkeypatch):
    steps = []

    def noted(self, clips, seed, epoch, answers=None):
        steps.append((seed, epoch, answers is not None))
        return torch.zeros(len(clips))

    monkeypatch.setattr(Racer, "step", noted)
    train, _ = store.split("xsub")
    trained(Settings(recipe="lite_nano", epochs=5, frames=8, batch=len(train), taught=True), store, train, 0, Bar())
    assert steps == [(1000, 0, False), (1000, 1, False), (0, 0, True), (0, 1, True), (0, 2, True)]


def test_orthogonal_steps():
    torch.manual_seed(0)
    for shape in ((6, 20), (20, 6), (9, 9)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert 0.5 < values.min() and values.max() < 1.3
    # near the true factor's direction
    x = torch.randn(6, 20)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    assert torch.cosine_similarity(orthogonal(x).flatten(), (u @ vh).flatten(), dim=0) > 0.95


def test_muon_takes_1x1_convolutions_alone_and_sgd_the_rest(store):
    own = racer(store, muon=True)
    taken = [p for optimizer in own.optimizers for group in optimizer.param_groups for p in group["params"]]
    assert len(taken) == len({id(p) for p in taken}) == len(list(own.network.parameters()))
    muon = own.optimizers[0]
    assert isinstance(muon, Muon) and all(p.shape[2:] == (1, 1) for group in muon.param_groups for p in group["params"])


@pytest.mark.parametrize("levers", ["plain", "muon+skip_learnt+growing", "frames_16_32+average+pair", "nano+taught"])
def test_a_race_learns_and_is_the_same_again(store, levers):
    how = settings_of(levers, 3)
    train, _ = store.split("xsub")
    networks = [trained(how, store, train, 0, Bar())[0] for _ in range(2)]
    assert all(not n.training for n in networks)
    for a, b in zip(*(n.state_dict().values() for n in networks), strict=True):
        assert torch.equal(a, b)


def test_seeds_begin_with_weights_of_their_own(store):
    train, _ = store.split("xsub")
    a, b = (trained(Settings(recipe="lite_nano", epochs=1, frames=8), store, train, seed, Bar())[0] for seed in (0, 1))
    assert not torch.equal(a.stem.stem, b.stem.stem)


def test_a_run_that_is_in_the_file_is_not_repeated(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speedrun, "clip_store", lambda work: store)
    monkeypatch.setattr(speedrun, "FOLDS", {"xsub": {}})
    options = speedrun.Options(levers=("frames_16+nano",), seeds=(0,), epochs=1, out=tmp_path / "r.json")
    assert speedrun.main(options) == 0
    first = read_json(options.out)
    assert speedrun.main(options) == 0 and read_json(options.out) == first
    row, = first["runs"]
    assert row["params"] < 64_000 and row["core_minutes"] >= 0 and row["split"] == "xsub"
    assert "frames_16+nano" in capsys.readouterr().out


def test_a_lever_that_is_unknown_is_named():
    with pytest.raises(ValueError, match="'liner', did you mean 'linear'"):
        speedrun.Options(levers=("plain+liner",))
