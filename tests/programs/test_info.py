"""`just info` describes a network, a skeleton or an exported file, as text and for programs."""
import json

import pytest

from phases import info
from phases.shipping.exported import ExportedModel
from skeletons import SKELETONS
from tests.helpers.programs import call
from tests.helpers.shipped import utd_stand_in


def test_a_file_lists_its_joints_and_actions_in_its_own_order(data_folder, tmp_path, capsys):
    path = utd_stand_in(tmp_path / "utd.onnx", data_folder)
    call(info, f"model={path}")
    said = capsys.readouterr().out
    model = ExportedModel(path)
    joints = [line[5:21].strip() for line in said.splitlines() if " parent " in line]
    assert joints == model.skeleton["joints"] and "takes 1 body of utd20, 20 joints, in m with y up" in said
    assert "has learned from clips with depth only" in said
    assert said.rstrip().endswith(", ".join(model.classes)) and "mediapipe33" in said

    # the same for programs
    call(info, f"model={path}", "format=json")
    about = json.loads(capsys.readouterr().out)
    assert about["classes"] == model.classes and about["skeleton"]["joints"] == joints
    assert about["threshold"] == model.threshold
    with pytest.raises(ValueError, match="nw_ucl"):
        call(info, "model=nw_ucl")


def test_a_file_says_what_declining_costs(data_folder, tmp_path, capsys, monkeypatch):
    runs = [{"kept": kept, "strangers": {"unknown classes": {"declined": 40.0}}} for kept in (95.0, 98.0)]
    (tmp_path / "results").mkdir()
    entry = {"recipe": "lite_nano", "dataset": "utd_mhad", "split": "xsub", "runs": runs}
    (tmp_path / "results" / "decline-lite_nano--utd_mhad-xsub.json").write_text(json.dumps(entry))

    # of its recipe; and of the file itself, where phase 4 judged it on people that it did not know
    monkeypatch.setattr(info, "ROOT", tmp_path)
    path = utd_stand_in(tmp_path / "utd.onnx", data_folder)
    call(info, f"model={path}")
    said = capsys.readouterr().out
    assert "known clips 3.5 %, unknown classes 40.0 %" in said and "of its test clips" not in said
    about = info.describe_file(ExportedModel(path))
    assert about["declined"] is None and about["recipe_declines"] == {"known clips": 3.5, "unknown classes": 40.0}
    assert "of its test clips it declines 2.5 %" in info.file_text(about | {"declined": 2.46})

    # of a recipe that nobody judged
    (tmp_path / "results" / "decline-lite_nano--utd_mhad-xsub.json").unlink()
    call(info, f"model={path}")
    assert "decline" not in capsys.readouterr().out


def test_a_skeleton_is_listed_by_its_name(capsys):
    call(info, "skeleton=kinect20")
    lines = capsys.readouterr().out.splitlines()
    assert [line[5:21].strip() for line in lines] == list(SKELETONS["kinect20"].joints)
    with pytest.raises(ValueError, match="skeleton"):
        call(info, "skeleton=kinect21")


@pytest.mark.parametrize("words", [
    [], ["skeleton=ntu25", "model=utd_mhad"], ["recipe=lite_nano", "skeleton=ntu25"], ["train.lr=1", "model=utd_mhad"]])
def test_one_thing_at_a_time_is_described(words):
    with pytest.raises(ValueError, match="give recipe=..., skeleton=... or model=..., and no two of them"):
        call(info, *words)
