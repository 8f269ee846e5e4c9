"""Predict reads what adopt and phase 0 read: the kinds of files whose format says what they hold, and archives."""
import json
import zipfile

import numpy as np
import pytest

from phases import predict, show
from phases.shipping.exported import ExportedModel
from skeletons import SKELETONS, means, retargeted
from tests.helpers.clip_stores import rest_pose
from tests.helpers.programs import call
from tests.helpers.shipped import Shipped, ship
from tests.recordings.test_known_files import text_of
from tests.recordings.test_motion_capture import BONES, PARENTS

NTU = SKELETONS["ntu25"]


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(shipped) -> ExportedModel:
    return ExportedModel(shipped.export / "model.onnx")


def mocap(scale: float) -> str:
    """BVH of a body that stands, with usual names, `scale` units per metre; its places are in offsets alone."""
    coco = rest_pose(SKELETONS["ntu25"])
    place = {"Hips": 0, "LeftUpLeg": 12, "LeftLeg": 13, "LeftFoot": 14, "LeftToeBase": 15, "RightUpLeg": 16,
             "RightLeg": 17, "RightFoot": 18, "RightToeBase": 19, "Spine": 1, "Spine1": 20, "Neck": 2, "Head": 3,
             "LeftShoulder": 20, "LeftArm": 4, "LeftForeArm": 5, "LeftHand": 6, "RightShoulder": 20, "RightArm": 8,
             "RightForeArm": 9, "RightHand": 10}

    def joint(v: int) -> str:
        parent = coco[place[BONES[PARENTS[v]]]] if v else np.zeros(3)
        offset = " ".join(f"{x:.5f}" for x in (coco[place[BONES[v]]] - parent) * scale)
        below = " ".join(joint(u) for u in range(1, len(BONES)) if PARENTS[u] == v)
        return f"{'JOINT' if v else 'ROOT'} {BONES[v]} {{ OFFSET {offset} CHANNELS 0 {below} }}"

    return f"HIERARCHY {joint(0)}\nMOTION\nFrames: 4\nFrame Time: 0.03\n"


@pytest.mark.parametrize("scale", [1, 100])
def test_motion_capture_is_turned_into_the_networks_joints(model, tmp_path, scale, capsys):
    path = tmp_path / "walk.bvh"
    path.write_text(mocap(scale).replace("CHANNELS 0", "CHANNELS 1 Xrotation", 1) + "0\n" * 4)
    x = model.read(path)
    np.testing.assert_allclose(x[0, 0, [4, 5, 6, 12, 13, 14]], rest_pose(NTU)[[4, 5, 6, 12, 13, 14]], atol=1e-4)
    assert f"joints of bvh21 ({'m' if scale == 1 else 'cm'}, y up) are turned into" in capsys.readouterr().err


def test_text_of_17_joints_is_turned_into_the_networks_joints(model, tmp_path):
    x = np.tile(rest_pose(SKELETONS["coco17"]), (20, 1, 1))
    path = tmp_path / "P001S00G10B10H50UC022000LC021000A003R0_08241716.txt"
    path.write_text(text_of(x))
    table = means(SKELETONS["coco17"].joints, NTU.joints)
    np.testing.assert_allclose(model.read(path), retargeted(np.float32(x)[None], table), atol=1e-4)

    # 17 joints of nobody's names are refused by their number
    (tmp_path / "a.skeleton").write_text(text_of(x[:, :16]))
    with pytest.raises(ValueError, match="16 joints"):
        model.read(tmp_path / "a.skeleton")


def test_an_archive_of_clips_and_a_folder_of_videos(shipped, tmp_path, capsys):
    name = f"model={shipped.export / 'model.onnx'}"
    np.save(tmp_path / "a.npy", np.tile(rest_pose(NTU), (20, 1, 1)))
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as z:
        z.write(tmp_path / "a.npy", "wave/a.npy")
        z.write(tmp_path / "a.npy", "point/b.npy")
    assert call(predict, name, f"clip={tmp_path / 'clips.zip'}", "format=json") == 0
    assert [row["clip"] for row in json.loads(capsys.readouterr().out)] == ["point/b.npy", "wave/a.npy"]

    # files of an archive are called as in it, not as where it was unpacked
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as z:
        z.write(tmp_path / "a.npy", "wave/a.npy")
        z.writestr("wave/bad.npy", b"text")
        z.writestr("wave/readme.txt", b"text")
    assert call(predict, name, f"clip={tmp_path / 'odd.zip'}") == 3
    told = capsys.readouterr().err
    assert f"skipped: {tmp_path / 'odd.zip'}: wave/bad.npy: is not a numpy file" in told
    assert f"{tmp_path / 'odd.zip'}: 1 file is no clip: wave/readme.txt" in told and "last-" not in told
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as z:
        z.writestr("wave/bad.npy", b"text")
    with pytest.raises(ValueError, match=rf"^clip = {tmp_path / 'none.zip'}: none of its 1 files"):
        call(predict, name, f"clip={tmp_path / 'none.zip'}")
    capsys.readouterr()

    # an answer in a .txt file may be written again; a clip in one may not
    out = tmp_path / "answer.txt"
    for _ in range(2):
        assert call(predict, name, f"clip={tmp_path / 'a.npy'}", f"out={out}") == 0
    out.write_text(text_of(np.ones((3, 25, 3))))
    with pytest.raises(ValueError, match="would be lost"):
        call(predict, name, f"clip={tmp_path / 'a.npy'}", f"out={out}")

    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "0.mp4").write_bytes(b"")
    for clip in ("videos", "videos/0.mp4"):
        with pytest.raises(ValueError, match="yolo pose track"):
            call(predict, name, f"clip={tmp_path / clip}")


def test_motion_capture_is_drawn_with_its_own_bones(tmp_path):
    path = tmp_path / "walk.bvh"
    path.write_text(mocap(1).replace("CHANNELS 0", "CHANNELS 1 Xrotation", 1) + "0\n" * 4)
    (tmp_path / "skeleton.json").write_text('{"skeleton": "ntu25"}')  # the format wins
    drawn = show.clip_of_file(path)
    assert drawn.skeleton.name == "bvh21" and drawn.joints.shape[2] == 21
