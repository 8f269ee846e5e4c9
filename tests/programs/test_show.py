"""Pictures of clips: they show every frame, appear as a whole or not at all, and bad requests are one line."""
import json

import numpy as np
import pytest

from phases import predict, show
from phases.recordings import puppet, readers
from phases.recordings.metres import AXES, Recorded
from phases.shipping.exported import Answer, ExportedModel
from phases.training.clip_store import ClipStore, clip_joints
from skeletons import SKELETONS
from tests.helpers.clip_stores import rest_pose, write_store
from tests.helpers.own_clips import write_openpose
from tests.helpers.programs import call
from tests.helpers.shipped import stand_in


@pytest.fixture
def image():
    """PIL's Image, where the extra `figures` is installed."""
    pytest.importorskip("matplotlib")
    return pytest.importorskip("PIL.Image")


# ---------------------------------------------------------------------------------------------------------------------
# Clips
# ---------------------------------------------------------------------------------------------------------------------

def test_a_gif_moves_through_every_frame_of_a_file(tmp_path, image):
    puppet.write_synthetic(tmp_path / "raw", seed=3, workers=1, subjects=(1,), replications=1)
    path = tmp_path / "raw" / "S002C002P001R001A011.skeleton"
    call(show, f"clip={path}", f"out={tmp_path}/new/clip.gif")
    with image.open(tmp_path / "new" / "clip.gif") as picture:
        assert picture.n_frames == readers.read_clip(path).shape[1] and picture.size[0] > 300
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["clip.gif"]


@pytest.mark.parametrize("skeleton", ["ntu25", "kinect20", "coco17"])
def test_a_sheet_shows_a_stored_clip_or_one_of_each_class(make_store, tmp_path, skeleton, capsys, image):
    store = make_store(tmp_path / "store", skeleton=skeleton)
    sizes = {}
    for clip in ("clip005", "@each"):  # clip005 has two bodies and misses frames
        call(show, f"clip={clip}", f"store={store}", f"out={tmp_path}/{clip}.png")
        with image.open(tmp_path / f"{clip}.png") as picture:
            sizes[clip] = picture.size
            assert len(set(picture.convert("L").tobytes())) > 3
    assert sizes["clip005"][0] == sizes["@each"][0] and str(tmp_path / "@each.png") in capsys.readouterr().out


def test_a_file_is_drawn_with_the_skeleton_beside_it(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((5, 3, 3)))
    with pytest.raises(ValueError, match="3 joints .* ntu25, kinect20, coco17"):
        show.clip_of_file(path)

    body = {"name": "stick", "joints": ["hip", "neck", "head"], "parents": [0, 0, 1], "regions": {"torso": [0, 1, 2]}}
    (tmp_path / "skeleton.json").write_text(json.dumps({"skeleton": body}))
    assert show.clip_of_file(path).skeleton.joints == ("hip", "neck", "head")

    (tmp_path / "skeleton.json").write_text('{"skeleton": "kinect20"}')
    with pytest.raises(ValueError, match="3 joints .* kinect20"):
        show.clip_of_file(path)


def test_a_skeleton_is_named_only_where_another_would_fit(tmp_path, capsys):
    rest = rest_pose(SKELETONS["ntu25"])[None].repeat(3, 0)
    puppet.write_synthetic(tmp_path / "raw", seed=3, workers=1, subjects=(1,), replications=1)
    text = next((tmp_path / "raw").glob("*.skeleton"))
    assert show.clip_of_file(text).skeleton.name == "ntu25" and capsys.readouterr().err == ""
    np.save(tmp_path / "x.npy", rest)
    assert show.clip_of_file(tmp_path / "x.npy").skeleton.name == "ntu25"
    assert "openpose25" in capsys.readouterr().err


def test_a_file_is_turned_into_the_joints_of_the_network(tmp_path, capsys):
    np.save(tmp_path / "x.npy", rest_pose(SKELETONS["mediapipe33"])[None].repeat(3, 0))
    model = ExportedModel(stand_in(tmp_path / "m.onnx", [], SKELETONS["kinect20"]))
    clip = show.clip_of_file_for(model, tmp_path / "x.npy")
    assert clip.skeleton.name == "kinect20" and clip.joints.shape == (1, 3, 20, 3)
    assert "joints of mediapipe33" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# A network's answers beside a clip
# ---------------------------------------------------------------------------------------------------------------------

class Oracle:
    """Stands in for an exported file: it is sure of the class whose number is the frames it saw, modulo three."""
    classes, skeleton, asked = ["sit", "stand", "wave"], SKELETONS["ntu25"].to_dict(), []

    def __init__(self, path=None):
        self.asked.clear()

    recorded = Recorded()

    def read_recorded(self, path):
        return readers.read_clip(path), Recorded()

    def answer(self, joints):
        self.asked.append(joints.shape[1])
        p = np.roll([0.7, 0.2, 0.1], joints.shape[1] % 3)
        return Answer(p, np.ones(2), likeness=joints.shape[1] / 10)

    def is_known(self, answer):
        return answer.likeness >= 0.35  # from four frames on

    ranking = ExportedModel.ranking


def test_a_network_answers_to_the_frames_so_far(tmp_path, monkeypatch, image):
    monkeypatch.setattr(show, "ExportedModel", Oracle)
    joints = np.random.default_rng(0).normal(size=(6, 25, 3)).cumsum(0)
    np.save(tmp_path / "clip.npy", joints)
    call(show, f"clip={tmp_path}/clip.npy", "model=any.onnx", f"out={tmp_path}/with.gif")
    call(show, f"clip={tmp_path}/clip.npy", f"out={tmp_path}/plain.gif")
    assert Oracle.asked == [1, 2, 3, 4, 5, 6]
    with image.open(tmp_path / "with.gif") as answered, image.open(tmp_path / "plain.gif") as plain:
        assert answered.n_frames == plain.n_frames == 6 and answered.size[0] > plain.size[0]


def test_the_title_says_none_of_these_while_the_network_declines(tmp_path, monkeypatch, image):
    from matplotlib.text import Text
    said = []
    monkeypatch.setattr(show, "ExportedModel", Oracle)
    monkeypatch.setattr(Text, "set_text", lambda text, words: said.append(words))
    np.save(tmp_path / "up.npy", np.random.default_rng(0).normal(size=(6, 25, 3)))
    call(show, f"clip={tmp_path}/up.npy", "model=any.onnx", f"out={tmp_path}/x.gif")
    declined = [f" · none of these ({name} 70 %)" for name in ("stand", "wave", "sit")]
    want = [f"up{words} · frame {t}/6" for t, words in enumerate([*declined, "", "", ""], 1)]
    assert [words for words in said if "frame" in words] == want


@pytest.mark.parametrize("words, named", [(["out=x.png"], "out=x.gif"), (["out=x.gif"], "'ntu25'.*'kinect20'")])
def test_a_network_that_cannot_judge_the_clip_is_refused(words, named, tmp_path, monkeypatch, image):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(show, "ExportedModel", Oracle)
    write_store(tmp_path / "store", skeleton="kinect20", clips=12)
    with pytest.raises(ValueError, match=named):
        call(show, "clip=clip003", f"store={tmp_path / 'store'}", "model=any.onnx", *words)
    assert not list(tmp_path.glob("x.*"))


def y_down(name: str, flat: bool) -> np.ndarray:
    """(L, V, C): a body that stands as a camera sees it, y down, and swings its left arm."""
    body = SKELETONS[name]
    x = np.tile(rest_pose(body) * [-1, -1, 1] + [0, 0, 3], (8, 1, 1))
    x[:, list(body.regions["left_arm"]), 0] += 0.2 * np.sin(np.arange(8))[:, None]
    return 400 * x[..., :2] + 500 if flat else x


def asked(monkeypatch) -> list[np.ndarray]:
    """The joints that any exported file is asked about from now on."""
    given = []

    def answer(self, joints):
        given.append(joints)
        return Answer(np.float32([1, 0]), np.zeros(3), 1.0)

    monkeypatch.setattr(ExportedModel, "answer", answer)
    return given


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_a_network_gets_what_predict_gives_it(tmp_path, monkeypatch, image, flat, own):
    """It got the joints as they were turned for the picture: "wave 96 %" where predict says "sit 93 %"."""
    name = "mediapipe33"
    how = {"unit": "px" if flat else "m", "up": "-y"}
    path = stand_in(tmp_path / "m.onnx", [], SKELETONS[name if own else "kinect20"], how if own else {})
    np.save(tmp_path / "x.npy", y_down(name, flat))
    given = asked(monkeypatch)

    call(predict, f"model={path}", f"clip={tmp_path}/x.npy")
    call(show, f"model={path}", f"clip={tmp_path}/x.npy", f"out={tmp_path}/x.gif")
    np.testing.assert_array_equal(given[-1], given[1])
    assert len(given) == 2 + 9 and given[1].any(), "opening a file asks it once"


def test_a_network_gets_a_stored_clip_as_it_is_stored(tmp_path, monkeypatch, image):
    folder = write_store(tmp_path / "store", skeleton="kinect20", clips=12)
    joints = np.load(folder / "frames.npy")
    joints[..., 2] = 0
    np.save(folder / "frames.npy", joints)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"recorded": {"unit": "px", "up": "-y"}}))
    path = stand_in(tmp_path / "m.onnx", [], SKELETONS["kinect20"], {"unit": "px", "up": "-y"})

    given = asked(monkeypatch)
    call(show, "clip=clip003", f"store={folder}", f"model={path}", f"out={tmp_path}/x.gif")
    stored = ClipStore(folder)
    np.testing.assert_array_equal(given[-1], clip_joints(stored, stored.clips["name"].tolist().index("clip003")))


@pytest.mark.parametrize("turn", ["y", "-y", "z", "-z"])
@pytest.mark.parametrize("network", [False, True])
def test_a_file_is_drawn_upright(tmp_path, turn, network):
    """A camera's y down was drawn head down."""
    solid = rest_pose(SKELETONS["mediapipe33"]) + [0, 0, 3]
    recorded = np.zeros_like(solid)
    for ours, (theirs, sign) in enumerate(AXES[turn]):
        recorded[:, theirs] = sign * solid[:, ours]
    np.save(tmp_path / "x.npy", np.tile(1000 * recorded, (3, 1, 1)))
    model = ExportedModel(stand_in(tmp_path / "m.onnx", [], SKELETONS["kinect20"])) if network else None
    clip = show.clip_of_file_for(model, tmp_path / "x.npy") if model else show.clip_of_file(tmp_path / "x.npy")

    # in metres, the shoulders above the hips
    paper = clip.on_paper("front")[0, 0]
    left, hip = (list(clip.skeleton.joints).index(joint) for joint in ("left shoulder", "left hip"))
    assert paper[left, 1] - paper[hip, 1] > 0.1 and clip.up == turn
    assert 0.2 < np.ptp(paper[:, 1]) < 3


@pytest.mark.parametrize("network", [False, True])
def test_a_flat_file_is_drawn_as_its_picture_was(tmp_path, network):
    flat = y_down("mediapipe33", True)
    np.save(tmp_path / "x.npy", flat)
    model = ExportedModel(stand_in(tmp_path / "m.onnx", [], SKELETONS["kinect20"])) if network else None
    clip = show.clip_of_file_for(model, tmp_path / "x.npy") if model else show.clip_of_file(tmp_path / "x.npy")

    paper = clip.on_paper("front")[0, 0]
    for joint in ("left wrist", "right ankle"):
        theirs = flat[0, SKELETONS["mediapipe33"].joints.index(joint)] - flat[0, 11]
        ours = paper[clip.skeleton.joints.index(joint)] - paper[clip.skeleton.joints.index("left shoulder")]
        assert (np.sign(ours) == np.sign(theirs * [1, -1])).all()


def test_a_file_is_drawn_as_what_predict_takes_it_for(tmp_path, capsys):
    write_openpose(tmp_path / "clip", 400 * (y_down("openpose25", False)[..., :2] + 1))
    clip = show.clip_of_file(tmp_path / "clip")
    assert (clip.skeleton.name, clip.up) == ("openpose25", "-y") and capsys.readouterr().err == ""


# ---------------------------------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------------------------------

def test_a_name_that_is_no_clip_is_one_line_with_the_nearest(make_store, tmp_path):
    pytest.importorskip("matplotlib")
    store = make_store(tmp_path / "store")
    with pytest.raises(ValueError) as e:
        call(show, "clip=clip00", f"store={store}", f"out={tmp_path}/x.png")
    assert str(e.value) == (f"clip = 'clip00': {store} has no such clip, the nearest of its 24 names are clip000, "
                            "clip001, clip002")


@pytest.mark.parametrize("words, named", [
    (["clip=clip001", "out=x.jpg"], "out = "), (["clp=clip001"], "'clip'"), (["clip=@each", "out=x.gif"], "out=x.png"),
    ([], "no clip"), (["clip=clip001", "store=nowhere"], "nowhere"),
    (["clip=nowhere.npy", "out=x.png"], "nowhere.npy")])
def test_bad_requests_are_one_line_and_draw_nothing(make_store, tmp_path, monkeypatch, words, named):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "stores" / "ntu60")
    with pytest.raises((ValueError, OSError), match=named) as e:
        call(show, *words)
    assert "\n" not in str(e.value) and not list(tmp_path.glob("x.*"))


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(show.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install -e "\.\[figures\]"'):
        call(show, "clip=any", "out=clip.gif")


def test_a_picture_that_fails_leaves_the_one_before_it(tmp_path):
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "clip.npy", np.zeros((4, 25, 3)))
    (tmp_path / "clip.png").write_bytes(b"old")
    with pytest.raises(ValueError, match="every joint of the clip is missing"):
        call(show, f"clip={tmp_path}/clip.npy", f"out={tmp_path}/clip.png")
    assert (tmp_path / "clip.png").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2
