"""Pictures of clips: they show every frame, appear as a whole or not at all, and bad requests are one line."""
import json

import numpy as np
import pytest

from phases import show
from phases.recordings import puppet, readers
from phases.recordings.metres import Recorded
from phases.reporting.drawing import project
from phases.shipping.exported import ExportedModel, named
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose, write_store


def test_a_gif_moves_through_every_frame_of_a_file(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    puppet.write_synthetic(tmp_path / "raw", seed=3, workers=1, subjects=(1,), replications=1)
    path = tmp_path / "raw" / "S002C002P001R001A011.skeleton"
    show.main([f"clip={path}", f"out={tmp_path}/new/clip.gif"])
    with Image.open(tmp_path / "new" / "clip.gif") as picture:
        assert picture.n_frames == readers.read_clip(path).shape[1] and picture.size[0] > 300
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["clip.gif"]


@pytest.mark.parametrize("skeleton", ["ntu25", "kinect20", "coco17"])
def test_a_png_sheet_shows_a_clip_of_a_store_or_one_of_each_class(make_store, tmp_path, skeleton, capsys):
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    store = make_store(tmp_path / "store", skeleton=skeleton)
    sizes = {}
    for clip in ("clip005", "@each"):  # clip005 has two bodies and misses frames
        show.main([f"clip={clip}", f"store={store}", f"out={tmp_path}/{clip}.png"])
        with Image.open(tmp_path / f"{clip}.png") as picture:
            sizes[clip] = picture.size
            assert len(set(picture.convert("L").tobytes())) > 3
    assert sizes["clip005"][0] == sizes["@each"][0] and str(tmp_path / "@each.png") in capsys.readouterr().out


def test_a_picture_has_the_camera_sides_and_flat_clips_stand_upright():
    ntu, coco = SKELETONS["ntu25"], SKELETONS["coco17"]
    J = np.ones((1, 1, 25, 3)) * (0.5, 1.0, 3.0)
    J[0, 0, 4] = 0  # missing
    front, side = project(J, ntu, "front"), project(J, ntu, "side")
    assert front[0, 0, 0].tolist() == [-0.5, 1.0] and side[0, 0, 0].tolist() == [3.0, 1.0]
    assert np.isnan(front[0, 0, 4]).all()
    flat = np.zeros((1, 2, 17, 3)) + (10, 100, 0)
    flat[..., [15, 16], 1] = 300  # pixels count downwards
    paper = project(flat, coco, "front")
    assert (paper[..., 0, 1] > paper[..., 15, 1]).all() and show.views(flat) == ("front",)
    flat[..., [5, 6], 1], flat[..., 7:, :] = 180, 0  # a webcam sees no legs
    paper = project(flat, coco, "front")
    assert (paper[..., 0, 1] > paper[..., 5, 1]).all()


def test_a_file_is_drawn_with_the_skeleton_that_is_said_beside_it(tmp_path):
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "x.npy", np.ones((5, 3, 3)))
    with pytest.raises(ValueError, match="3 joints fit none of the skeletons ntu25, kinect20, coco17"):
        show.load(str(tmp_path / "x.npy"), tmp_path)
    body = {"name": "stick", "joints": ["hip", "neck", "head"], "parents": [0, 0, 1], "regions": {"torso": [0, 1, 2]}}
    (tmp_path / "skeleton.json").write_text(json.dumps({"skeleton": body}))
    assert show.load(str(tmp_path / "x.npy"), tmp_path)[1].joints == ("hip", "neck", "head")
    (tmp_path / "skeleton.json").write_text('{"skeleton": "kinect20"}')
    with pytest.raises(ValueError, match="3 joints fit none of the skeletons kinect20"):
        show.load(str(tmp_path / "x.npy"), tmp_path)


@pytest.mark.parametrize("argv, message", [
    (["clip=clip00", "out=x.png"], r"no such clip, the nearest of its 24 names are clip000, "),
    (["clip=clip001", "out=x.jpg"], "must end in .gif"),
    (["clp=clip001"], "did you mean 'clip'"),
    (["clip=@each", "out=x.gif"], "out=x.png"),
    ([], "no clip"),
    (["clip=clip001", "store=nowhere"], "no clip store in nowhere"),
    (["clip=nowhere.npy", "out=x.png"], "nowhere.npy"),
])
def test_bad_wishes_are_one_line_and_draw_nothing(make_store, tmp_path, monkeypatch, argv, message):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "stores" / "ntu60")
    with pytest.raises((ValueError, OSError), match=message) as e:
        show.main(argv)
    assert "\n" not in str(e.value) and not list(tmp_path.glob("x.*"))


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(show.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install -e "\.\[figures\]"'):
        show.main(["clip=any", "out=clip.gif"])


def test_a_picture_that_fails_leaves_the_one_before_it(tmp_path):
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "clip.npy", np.zeros((4, 25, 3)))
    (tmp_path / "clip.png").write_bytes(b"old")
    with pytest.raises(ValueError, match="every joint of the clip is missing"):
        show.main([f"clip={tmp_path}/clip.npy", f"out={tmp_path}/clip.png"])
    assert (tmp_path / "clip.png").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2


class Oracle:
    """Stands in for an exported file: it is sure of the class whose number is the frames it saw, modulo three."""
    classes, skeleton, asked = ["sit", "stand", "wave"], SKELETONS["ntu25"].to_dict(), []

    def __init__(self, path=None):
        self.asked.clear()

    recorded = Recorded()

    def read(self, path):
        return readers.read_clip(path)

    def top(self, joints, k):
        self.asked.append(joints.shape[1])
        order = np.roll(self.classes, -(joints.shape[1] % 3))
        return list(zip(order.tolist(), (0.7, 0.2, 0.1), strict=True))[:k]


def test_beside_an_animation_stands_what_a_network_makes_of_the_frames_so_far(tmp_path, monkeypatch):
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(show, "ExportedModel", Oracle)
    joints = np.random.default_rng(0).normal(size=(6, 25, 3)).cumsum(0)
    np.save(tmp_path / "clip.npy", joints)
    show.main([f"clip={tmp_path}/clip.npy", "model=any.onnx", f"out={tmp_path}/with.gif"])
    show.main([f"clip={tmp_path}/clip.npy", f"out={tmp_path}/plain.gif"])
    assert Oracle.asked == [1, 2, 3, 4, 5, 6]
    with Image.open(tmp_path / "with.gif") as seen, Image.open(tmp_path / "plain.gif") as plain:
        assert seen.n_frames == plain.n_frames == 6 and seen.size[0] > plain.size[0]


def test_bars_show_a_ranking_label_by_label():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure
    bars = show.Bars(Figure().subplots(), 2)
    bars.show([("wave", 0.75), ("sit", 0.25)])
    bars.show([("sit", 0.5), ("wave", 0.125)])
    assert [bar.get_width() for bar in bars.bars] == [0.5, 0.125]
    assert [text.get_text() for text in (*bars.names, *bars.shares)] == ["sit", "wave", "50 %", "12 %"]


@pytest.mark.parametrize("argv, message", [
    (["out=x.png"], "give out=x.gif"), (["out=x.gif"], "knows the skeleton 'ntu25', the clip has 'kinect20'")])
def test_a_network_that_cannot_judge_the_clip_is_refused(argv, message, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(show, "ExportedModel", Oracle)
    write_store(tmp_path / "store", skeleton="kinect20", clips=12)
    with pytest.raises(ValueError, match=message):
        show.main(["clip=clip003", f"store={tmp_path / 'store'}", "model=any.onnx", *argv])
    assert not list(tmp_path.glob("x.*"))


def test_a_format_with_one_skeleton_needs_no_word_and_arrays_of_two_get_one(tmp_path, capsys):
    assert show.skeleton_of(tmp_path / "x.skeleton", 25).name == "ntu25" and capsys.readouterr().err == ""
    assert show.skeleton_of(tmp_path / "x.npy", 25).name == "ntu25" and "openpose25" in capsys.readouterr().err


def test_a_file_of_another_skeleton_is_drawn_with_the_joints_that_the_network_takes(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "x.npy", rest_pose(SKELETONS["mediapipe33"])[None].repeat(3, 0))
    clips, skeleton = show.load(str(tmp_path / "x.npy"), tmp_path, ExportedModel(named("nw_ucla")))
    assert skeleton.name == "kinect20" and clips[0][1].shape == (1, 3, 20, 3)
    assert "joints of mediapipe33" in capsys.readouterr().err
