"""CTR-GCN's arrays and pyskl's pickles: read as written, refused by name, and no code of a pickle is run."""
import os
import pickle
import re
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phases.recordings.peers import read_ctrgcn, read_pyskl
from phases.recordings.settings import Data
from tests.helpers.recordings import clips, contents, phase0, skips

# ---------------------------------------------------------------------------------------------------------------------
# CTR-GCN's arrays
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ctrgcn_arrays_lose_their_padding_and_bring_a_split(tmp_path, save):
    # four clips of one or two bodies, padded to twelve frames; clip 1 has a gap, clip 3 nobody, clip 2 no label
    rng = np.random.default_rng(0)
    length = [5, 9, 1, 7]
    bodies = [1, 2, 2, 1]
    x = np.zeros((4, 12, 2, 25, 3), np.float32)
    for i in range(4):
        x[i, :length[i], :bodies[i]] = rng.normal(0, 1, (length[i], bodies[i], 25, 3))
    x[3] = 0
    x[1, 3] = 0
    y = np.eye(60)[[3, 59, 0, 4]]
    y[2] = 0
    flat = x.reshape(4, 12, 150)
    test = [2, 3, 0]
    save(tmp_path / "NTU60_CS.npz", x_train=flat[:2], y_train=y[:2], x_test=flat[test], y_test=y[test])

    store = tmp_path / "store"
    argv = "recipe=ntu60", "data.reader=ctrgcn", f"raw={tmp_path / 'NTU60_CS.npz'}", f"data.store={store}"
    assert phase0(*argv)[0] == 3
    stored = clips(store)
    _, table, meta = contents(store)
    assert list(stored) == ["train_000000", "train_000001", "test_000002"]
    assert table["label"] == [3, 59, 3] and table["split_given"] == [0, 0, 1]
    assert meta["counts"]["given"] == {"train": 2, "test": 1} and len(meta["skipped"]) == 2

    # the gap inside stays
    np.testing.assert_array_equal(stored["train_000000"], np.moveaxis(x[0, :5, :1], 1, 0))
    np.testing.assert_array_equal(stored["train_000001"], np.moveaxis(x[1, :9], 1, 0))
    assert "one-hot" in skips(store)["NTU60_CS.npz:x_test[0]"][1]
    assert "no body" in skips(store)["NTU60_CS.npz:x_test[1]"][1]


def centred_as_ctrgcn(raw: Path, clips_of: int = 8) -> np.ndarray:
    """Writes an .npz file of clips (N, 2, L, V, 3) as CTR-GCN does: the spine of the first frame is the origin."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (clips_of, 2, 6, 25, 3)).astype(np.float32)
    x -= x[:, :1, :1, 1:2]
    x[:, 1, :2] = 0  # the second body comes later
    x[0, 1] = 0
    flat = np.moveaxis(x, 1, 2).reshape(clips_of, 6, 150)
    y = np.eye(60)[np.arange(clips_of) % 4]
    np.savez(raw, x_train=flat[:6], y_train=y[:6], x_test=flat[6:], y_test=y[6:])
    return x


def test_the_joint_that_ctrgcn_centres_on_is_not_missing(tmp_path, capsys):
    x = centred_as_ctrgcn(tmp_path / "a.npz")
    store = tmp_path / "store"
    assert phase0("recipe=ntu60", "data.reader=ctrgcn", f"raw={tmp_path / 'a.npz'}", f"data.store={store}") == (0, "")

    # a body that a frame does not show is missing as before; all else keeps its place in the clip
    stored = clips(store)
    assert not stored["train_000001"][1, :2].any() and len(stored["train_000000"]) == 1
    for joints, recorded in zip(stored.values(), x, strict=True):
        assert joints[0].any(2).all()
        np.testing.assert_allclose(joints[0] - joints[0, :1, 1:2], recorded[0], atol=1e-6)
    assert contents(store)[2]["quality"]["missing_joints"] == 0
    assert "spine mid" not in capsys.readouterr().err


def test_phase_0_names_a_joint_that_alone_is_zero(tmp_path, capsys):
    x = centred_as_ctrgcn(tmp_path / "a.npz")
    annotations = [{"frame_dir": f"v{i}", "label": i % 2, "keypoint": joints[:1]} for i, joints in enumerate(x)]
    (tmp_path / "list.pkl").write_bytes(pickle.dumps(annotations))
    argv = "recipe=ntu60", "data.reader=pyskl", f"raw={tmp_path / 'list.pkl'}", f"data.store={tmp_path / 'store'}"
    assert phase0(*argv) == (0, "")
    assert "spine mid is missing in 8 of 8 clips" in capsys.readouterr().err


def test_ctrgcn_arrays_pass_through_memory_clip_by_clip(tmp_path):
    one = np.ones((1, 300, 150), np.float32)
    x = np.zeros((300, 300, 150), np.float32)
    x[:, 0] = 1
    np.savez_compressed(tmp_path / "a.npz", x_train=x, y_train=np.zeros(300), x_test=one, y_test=np.zeros(1))
    del x
    tracemalloc.start()
    assert sum(1 for _ in read_ctrgcn(tmp_path / "a.npz", Data(reader="ctrgcn"))) == 301
    assert tracemalloc.get_traced_memory()[1] < 4e6  # the array has 54 MB
    tracemalloc.stop()


SOUND = {"x_train": np.zeros((2, 5, 150)), "y_train": np.zeros(2),
         "x_test": np.zeros((2, 5, 150)), "y_test": np.zeros(2)}


@pytest.mark.parametrize("arrays, expected", [
    ({"x_train": np.zeros((2, 5, 150))}, "lacks"),
    ({**SOUND, "x_train": np.zeros((2, 5, 151))}, "shape"),
    ({**SOUND, "y_train": np.zeros(3)}, "shape"),
    ({**SOUND, "x_train": np.asfortranarray(np.zeros((2, 5, 150)))}, "order"),
])
def test_ctrgcn_arrays_of_another_form_are_one_line(tmp_path, arrays, expected):
    np.savez(tmp_path / "a.npz", **arrays)
    argv = "recipe=ntu60", "data.reader=ctrgcn", f"raw={tmp_path / 'a.npz'}", f"data.store={tmp_path / 'store'}"
    code, message = phase0(*argv)
    assert code == 2 and expected in message and sorted(p.name for p in tmp_path.iterdir()) == ["a.npz"]

    # a torn file
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    assert "npz" in phase0(*argv)[1]


# ---------------------------------------------------------------------------------------------------------------------
# pyskl's pickles
# ---------------------------------------------------------------------------------------------------------------------

def annotations(V: int = 25, C: int = 3) -> dict:
    """Three annotations of different types and orders in memory, and their splits."""
    rng = np.random.default_rng(1)
    points = [rng.normal(0, 1, (m, L, V, C)).astype(t) for m, L, t in ((1, 5, "f2"), (2, 8, "f4"), (1, 6, "f8"))]
    points[1] = np.asfortranarray(points[1])
    points[2] = points[2].astype(">f8")

    names = ["S001C001P001R001A003", "S002C002P003R002A004", "clip"]
    labels = [2, np.int64(3), 5]
    found = []
    for name, label, p in zip(names, labels, points, strict=True):
        score = np.ones(p.shape[:3], "f2")
        found.append({"frame_dir": name, "label": label, "total_frames": p.shape[1],
                      "keypoint": p, "keypoint_score": score})
    split = {"xsub_train": names[:1], "xsub_val": names[1:], "xview_train": np.array(["clip"])}
    return {"split": split, "annotations": found}


@pytest.mark.parametrize("protocol, core", [
    (2, b"numpy.core."), (2, b"numpy._core."), (3, b"numpy.core."), (3, b"numpy._core."), (4, b""), (5, b"")])
def test_a_pyskl_pickle_of_any_numpy_is_read_with_its_splits(tmp_path, protocol, core):
    d = annotations()
    path = tmp_path / "ntu60_3danno.pkl"
    text = pickle.dumps(d, protocol)
    path.write_bytes(re.sub(rb"cnumpy\._?core\.", b"c" + core, text) if core else text)

    assert phase0("recipe=ntu60", "data.reader=pyskl", f"raw={path}", f"data.store={tmp_path / 'store'}") == (0, "")
    _, table, meta = contents(tmp_path / "store")
    assert table["split_xsub"] == [0, 1, 1] and table["split_xview"] == [-1, -1, 0] and table["label"] == [2, 3, 5]
    assert table["subject"] == [1, 3, 0] and table["camera"] == [1, 2, 0]
    assert meta["counts"]["xsub"] == {"train": 1, "test": 2}
    for a, joints in zip(d["annotations"], clips(tmp_path / "store").values(), strict=True):
        np.testing.assert_array_equal(joints, a["keypoint"].astype(np.float32))


def test_flat_key_points_get_a_z_and_the_fitting_skeleton(tmp_path):
    path = tmp_path / "hrnet.pkl"
    path.write_bytes(pickle.dumps(annotations(17, 2)))
    store = tmp_path / "store"
    argv = "recipe=ntu60", "data.reader=pyskl", 'data.skeleton=""', f"raw={path}", f"data.store={store}"
    assert phase0(*argv) == (0, "")
    assert contents(store)[2]["skeleton"]["name"] == "coco17"
    x = clips(store)["clip"]
    assert x.shape == (1, 6, 17, 3) and not x[..., 2].any() and x[..., :2].any()


def test_annotations_that_cannot_be_stored_are_named(tmp_path):
    d = annotations()
    d["annotations"] += [
        {"frame_dir": "no points", "label": 1},
        {"frame_dir": "far label", "label": 60, "keypoint": np.ones((1, 2, 25, 3))},
        "text",
        {"frame_dir": "nan", "label": 1, "keypoint": np.full((1, 2, 25, 3), np.nan)},
        d["annotations"][0]]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(d))

    argv = "recipe=ntu60", "data.reader=pyskl", f"raw={tmp_path / 'a.pkl'}", f"data.store={tmp_path / 'store'}"
    assert phase0(*argv)[0] == 3
    told = " ".join(f"{k} {v[1]}" for k, v in skips(tmp_path / "store").items())
    assert len(clips(tmp_path / "store")) == 3
    assert all(w in told for w in ("no points", "keypoint", "label 60", "not finite", "second clip")), told


@pytest.mark.parametrize("payload", [
    # numpy itself would read the elements of an object array as raw pointers
    lambda: {"split": {}, "annotations": [{"frame_dir": "a", "label": 0, "keypoint": np.array([{}], object)}]},
    lambda: {"split": {}, "annotations": [{"frame_dir": "a", "label": 0, "keypoint": np.zeros(1, [("a", "f4")])}]},
    lambda: {"split": [], "annotations": []}, lambda: {"annotations": []}, lambda: [1, 2], lambda: None])
def test_a_pickle_of_anything_but_annotations_is_one_line(tmp_path, payload):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(payload()))
    argv = "recipe=ntu60", "data.reader=pyskl", f"raw={tmp_path / 'a.pkl'}", f"data.store={tmp_path / 'store'}"
    code, message = phase0(*argv)
    assert code == 2 and "a.pkl" in message


# ---------------------------------------------------------------------------------------------------------------------
# Hostile and damaged pickles
# ---------------------------------------------------------------------------------------------------------------------

class Bomb:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def dotted(module: str, name: str, *args: str) -> bytes:
    """A protocol 4 pickle that looks up a dotted name, calls it with an argument, and its result with the next one."""
    def text(s: str) -> bytes:
        return b"\x8c" + bytes([len(s)]) + s.encode()

    return b"\x80\x04" + text(module) + text(name) + b"\x93" + b"".join(text(a) + b"\x85R" for a in args) + b"."


def bombs(mark: Path) -> dict[str, bytes]:
    """Pickles that would make the file `mark`."""
    touch = f"open({str(mark)!r}, 'w')"
    return {"os.system": pickle.dumps(Bomb(os.system, (f"touch {mark}",))),
            "builtins.eval": pickle.dumps(Bomb(eval, (touch,))),
            "in an annotation": pickle.dumps({"split": {}, "annotations": [Bomb(eval, (touch,))]}),
            "old protocol": f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode(),
            "by way of numpy.dtypes": dotted("numpy.dtypes", "__builtins__.get", "eval", touch),
            "by way of an admitted name": dotted("numpy", "dtype.__init__.__globals__.get", "eval", touch),
            "by way of core": dotted("numpy._core", "multiarray.__builtins__.get", "eval", touch),
            "numpy.load": pickle.dumps(Bomb(np.load, (str(mark), None, True))),
            "numpy's runstring": dotted("numpy.testing._private.utils", "runstring", touch)}


@pytest.mark.parametrize("bomb", bombs(Path("x")))
def test_a_malicious_pickle_runs_nothing_and_is_refused(tmp_path, bomb):
    path = tmp_path / "a.pkl"
    mark = tmp_path / "mark"
    path.write_bytes(bombs(mark)[bomb])
    code, message = phase0("recipe=ntu60", "data.reader=pyskl", f"raw={path}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and "asks for" in message and not mark.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pkl"]


@given(st.integers(0, 10**6), st.booleans())
def test_a_damaged_pickle_is_a_clear_error_or_harmless(seed, cut):
    rng = np.random.default_rng(seed)
    text = bytearray(pickle.dumps(annotations()))
    if cut:
        del text[rng.integers(len(text)):]
    else:
        for at in rng.integers(0, len(text), 5):
            text[at] = rng.integers(256)

    with tempfile.NamedTemporaryFile() as f:
        f.write(text)
        f.flush()
        try:
            list(read_pyskl(Path(f.name), Data(reader="pyskl")))
        except ValueError as e:
            assert f.name in str(e)
