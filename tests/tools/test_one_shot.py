"""The one-shot protocols: judged on clips with NTU-120's names, and on UTD-MHAD."""
import json

import numpy as np
import onnx
import pytest

from phases.common.protocols import ONE_SHOT
from phases.shipping.exported import ExportedModel, model_file
from phases.shipping.onnx_edit import save_onnx
from tests.helpers.clip_stores import write_store
from tests.helpers.programs import call
from tests.tools import one_shot


@pytest.fixture
def unseen(tmp_path):
    """The file of `any`, as if UTD-MHAD had been kept from it."""
    path = model_file("any")
    model = ExportedModel(path)
    unknown = [k for k, name in enumerate(model.classes) if name.startswith("utd_mhad: ")]
    save_onnx(onnx.load(path), tmp_path / "any.onnx", model.about | {"unknown": json.dumps(unknown)})
    return tmp_path / "any.onnx"


def ntu_store(folder):
    """A store of 120 classes, 4 clips each, with the names of NTU-120; the exemplar of a class comes first."""
    store = write_store(folder / "ntu120", clips=480, classes=120)
    with np.load(store / "clips.npz") as z:
        table = dict(z)
    number = np.arange(480)
    of_class = [(1 if k < 60 else 18) for k in range(120)]
    table["name"] = np.array([f"S{of_class[i % 120]:03}C003P{8 + i // 120:03}R001A{i % 120 + 1:03}" for i in number])
    np.savez(store / "clips.npz", **table)
    return store


def test_ntu_clips_are_named_by_one_exemplar(tmp_path, unseen, capsys):
    ntu_store(tmp_path)
    words = [f"model={unseen}", f"stores={tmp_path}", f"out={tmp_path / 'one-shot.json'}"]
    assert call(one_shot, *words, "data=ntu120") == 0
    assert "20 novel classes, 60 clips named by one exemplar of each" in capsys.readouterr().out
    row, = json.loads((tmp_path / "one-shot.json").read_text())["rows"]
    assert row["tested"] == 60 and row["top1"] > 15, "chance is 5"

    # again: the row is replaced
    call(one_shot, *words, "data=ntu120")
    assert len(json.loads((tmp_path / "one-shot.json").read_text())["rows"]) == 1


def test_the_novel_classes_can_be_kept_from_a_training(capsys):
    assert call(one_shot, "novel=ntu120") == 0
    assert capsys.readouterr().out.strip() == ",".join(str(k) for k in range(0, 120, 6))


def test_a_network_that_saw_the_novel_classes_is_refused(tmp_path, unseen):
    write_store(tmp_path / "utd_mhad", classes=27, clips=54)
    meta = tmp_path / "utd_mhad" / "meta.json"
    names = [name.partition(": ")[2] for name in ExportedModel(unseen).classes if name.startswith("utd_mhad: ")]
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"classes": names}))
    with pytest.raises(ValueError, match="was trained on the novel class"):
        call(one_shot, "model=any", "data=utd_mhad", f"stores={tmp_path}")
    with pytest.raises(ValueError, match="lacks the exemplar a24_s1_t1"):
        call(one_shot, f"model={unseen}", "data=utd_mhad", f"stores={tmp_path}")
    with pytest.raises(ValueError, match="'sbu': has no one-shot protocol here; ntu120, utd_mhad have"):
        call(one_shot, "model=any", "data=sbu")


def test_the_exemplars_of_utd_mhad_are_the_first_takes_of_its_first_person():
    assert list(ONE_SHOT["utd_mhad"].values()) == ["a24_s1_t1", "a25_s1_t1", "a26_s1_t1", "a27_s1_t1"]
