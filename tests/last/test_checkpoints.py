"""Bad checkpoints, bad numbers, bad disks: one line of error, and the checkpoint before stays."""
import json
import math
import os
import pickle
import resource
import shutil
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import last
from last import fit, load_checkpoint
from phases.common.command import run
from tests.helpers.toy_training import (
    QUICK,
    RECIPE,
    Clips,
    Cut,
    Toy,
    cut_after,
    equal,
    loss_fn,
    quick,
    refused,
    weights,
)

# --- bad checkpoints ---

@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    fit(Toy(), Clips(), loss_fn, QUICK, folder, RECIPE)
    return folder


class Bomb:
    """Unpickling one creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


DAMAGE = {"empty": lambda b: b"", "text": lambda b: b"not a checkpoint\n", "half": lambda b: b[:len(b) // 2],
          "first bytes": lambda b: b[:10], "all but one": lambda b: b[:-1], "zeros": lambda b: bytes(len(b)),
          "pickle that ends early": lambda b: b"\x80\x02.", "opcode": lambda b: b"0",
          "torn head": lambda b: bytes(100) + b[100:]}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_last_pt_is_one_line_and_is_left_alone(damage, finished, tmp_path, capsys):
    (tmp_path / "last.pt").write_bytes(DAMAGE[damage]((finished / "last.pt").read_bytes()))
    assert "damaged" in refused(tmp_path, capsys)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40).flatmap(lambda b: st.sampled_from([b, b"\x80\x02" + b])))
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_bytes_at_all_crash_the_loader(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.pt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="fuzz.pt"):
        load_checkpoint(path)


def test_one_changed_bit_of_a_checkpoint_is_noticed(finished, tmp_path):
    data = bytearray((finished / "last.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "last.pt").write_bytes(data)
    with pytest.raises(ValueError, match=r"last\.pt is damaged"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("value", [{}, [1, 2], {"recipe": json.dumps(RECIPE)},
                                   {"recipe": json.dumps(RECIPE), "model": {"other": torch.zeros(2)}}],
                         ids=["empty", "list", "recipe alone", "other network"])
def test_a_last_pt_of_other_content_is_one_line_and_stays(value, tmp_path, capsys):
    torch.save(value, tmp_path / "last.pt")
    refused(tmp_path, capsys)


@pytest.mark.parametrize("form", ["pickle", "torch"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_bomb_does_not_go_off(form, tmp_path, capsys):
    bomb = {"recipe": json.dumps(RECIPE), "model": Bomb(tmp_path / "boom")}
    if form == "pickle":
        (tmp_path / "last.pt").write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, tmp_path / "last.pt")
    refused(tmp_path, capsys)
    assert not (tmp_path / "boom").exists()


def test_a_checkpoint_larger_than_its_bytes_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "last.pt", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("archive/data/0", bytes(1 << 24))
    with pytest.raises(ValueError, match=r"last\.pt is damaged .*claims more bytes than it has"):
        load_checkpoint(tmp_path / "last.pt")


# --- bad numbers ---

class Poisoned(Clips):
    """Clips with one batch that is NaN."""

    def __init__(self, epoch: int, batch: int):
        super().__init__()
        self.poison = epoch, batch

    def __call__(self, epoch=0, start=0):
        for n, batch in enumerate(super().__call__(epoch, start), start):
            factor = math.nan if (epoch, n) == self.poison else 1
            yield {**batch, "joints": batch["joints"] * factor}


def test_a_loss_not_finite_names_step_and_last_good_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"not finite at step 7 \(epoch 2\).*last\.pt") as e:
        fit(Toy(), Poisoned(2, 1), loss_fn, quick(save_seconds=0.0), tmp_path, RECIPE)
    assert "\n" not in str(e.value)
    state = load_checkpoint(tmp_path / "last.pt")
    assert state["at"]["epoch"] == 2 and state["at"]["step"] == 1
    assert all(v.isfinite().all() for v in state["model"].values())
    whole = fit(Toy(), Clips(), loss_fn, quick(save_seconds=0.0), tmp_path / "whole", RECIPE)
    healed = fit(Toy(1), Clips(), loss_fn, quick(save_seconds=0.0), tmp_path, RECIPE)  # continues from last.pt
    assert equal(weights(healed), weights(whole))


def test_a_loss_not_finite_from_the_start_says_nothing_was_saved(tmp_path):
    with pytest.raises(ValueError, match="step 0 .*no checkpoint"):
        fit(Toy(), Poisoned(0, 0), loss_fn, quick(save_seconds=0.0), tmp_path, RECIPE)
    assert not (tmp_path / "last.pt").exists()


@pytest.mark.parametrize("step", [4, 5, 8], ids=["within", "end of an epoch", "last"])
def test_weights_not_finite_never_replace_a_good_checkpoint(step, tmp_path):
    seen = [0]

    def broken(model, batch):  # a finite loss without a finite gradient: sqrt at 0
        seen[0] += 1
        loss, metrics = loss_fn(model, batch)
        return loss + ((0 * loss).sqrt() if seen[0] == step + 1 else 0), metrics

    with pytest.raises(ValueError, match="not finite"):
        fit(Toy(), Clips(), broken, quick(save_seconds=0.0), tmp_path, RECIPE)
    assert all(v.isfinite().all() for v in load_checkpoint(tmp_path / "last.pt")["model"].values())


# --- bad disks ---

def test_a_full_disk_is_one_line_and_keeps_the_checkpoint_before(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as m, pytest.raises(Cut):
        cut_after(m, 1)
        fit(Toy(), Clips(), loss_fn, QUICK, tmp_path, RECIPE)
    limits, size = resource.getrlimit(resource.RLIMIT_FSIZE), (tmp_path / "last.pt").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))  # a larger file fails as on a full disk
    try:
        assert "last.pt" in refused(tmp_path, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_checkpoint(tmp_path / "last.pt")["at"]["epoch"] == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit) as e:
        run(lambda argv: fit(Toy(), Clips(), loss_fn, QUICK, tmp_path / "file" / "run", RECIPE) and 0)
    err = capsys.readouterr().err
    assert e.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1 and "file" in err


def test_a_checkpoint_that_cannot_be_placed_keeps_the_old_one(finished, tmp_path, monkeypatch):
    shutil.copy(finished / "last.pt", tmp_path)
    before = (tmp_path / "last.pt").read_bytes()

    def read_only(a, b):
        raise OSError(30, "Read-only file system", str(b))

    monkeypatch.setattr(os, "replace", read_only)
    with pytest.raises(OSError, match="Read-only"):
        last.save_checkpoint(tmp_path / "last.pt", {"a": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"] and (tmp_path / "last.pt").read_bytes() == before
