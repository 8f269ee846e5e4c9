"""Readers: what is read is what was written; what cannot be read is named by file, line and reason."""
import io
import json
import os
import pickle
import re
import tarfile
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phases.recordings import readers
from phases.recordings.peers import npz_rows, read_pyskl
from phases.training.recipe import load_config
from tests.helpers.recordings import OWN, clips, contents, own_folder, phase0, skips

# ---------------------------------------------------------------------------------------------------------------------
# Northwestern-UCLA
# ---------------------------------------------------------------------------------------------------------------------

def nw_ucla_json(name: str, length: int = 4, **other) -> bytes:
    joints = np.random.default_rng(sum(name.encode())).normal(0, 1, (length, 20, 3)).round(4)
    return json.dumps({"file_name": name, "skeletons": joints.tolist(), "label": 1, **other}).encode()


def test_northwestern_ucla_gives_1020_training_and_464_test_clips_and_finds_the_repeated_ones(
        data_folder, tmp_path, capsys):
    store = tmp_path / "store"
    assert phase0("recipe=nw_ucla", f"raw={data_folder / 'nw-ucla.tar.xz'}", f"data.store={store}") == (0, "")
    _, table, meta = contents(store)
    assert meta["counts"] == {"xview": {"train": 1020, "test": 464}, "view12": {"train": 516, "test": 504},
                              "view21": {"train": 504, "test": 516}}
    assert meta["skipped"] == [] and meta["classes"][6:8] == ["donning", "doffing"]
    length = np.array(table["length"])
    assert (len(length), length.min(), np.median(length), length.max()) == (1484, 1, 31, 201)
    assert set(table["subject"]) == set(range(1, 11)) and set(table["label"]) == set(range(10))
    assert max(second for _, second in table["offset"]) == -1
    assert meta["quality"]["test_clips_in_training"]["xview"] >= 94
    assert "1020 training, 464 test" in capsys.readouterr().out


def test_a_folder_and_an_archive_of_it_give_the_same_store(tmp_path):
    raw = tmp_path / "down" / "all_sqe"
    raw.mkdir(parents=True)
    order = [f"a{a:02d}_s01_e0{e}_v0{v}" for a in (3, 1) for e in (2, 0) for v in (3, 1)]
    with tarfile.open(tmp_path / "all.tar.xz", "w:xz") as tar:
        for name in order:
            (raw / f"{name}.json").write_bytes(nw_ucla_json(name))
            tar.add(raw / f"{name}.json", f"all_sqe/{name}.json")
    for n, source in enumerate((raw, raw.parent, tmp_path / "all.tar.xz")):
        assert phase0("recipe=nw_ucla", f"raw={source}", f"data.store={tmp_path / f'store{n}'}")[0] == 0
        assert contents(tmp_path / f"store{n}") == contents(tmp_path / "store0")
    x = clips(tmp_path / "store0")[order[0]]
    np.testing.assert_array_equal(x[0], np.float32(json.loads((raw / f"{order[0]}.json").read_text())["skeletons"]))
    np.testing.assert_array_equal(x, readers.read_clip(raw / f"{order[0]}.json"))


def test_every_fault_of_a_json_file_is_named(tmp_path):
    good = nw_ucla_json("x")
    faults = {
        "a01_s01_e00_v01": (b'{"label": 1,\n"skeletons": [[[0.1,\n', 3, "not JSON"),
        "a01_s01_e01_v01": (b"", 1, "not JSON"),
        "a01_s01_e02_v01": (b"[]", 0, "lacks"),
        "a01_s01_e03_v01": (nw_ucla_json("x", label=11), 0, "label 10 is out of range"),
        "a01_s01_e04_v01": (nw_ucla_json("x", label=0), 0, "out of range"),
        "a01_s01_e05_v01": (nw_ucla_json("x", skeletons=[[[1, 2, 3]] * 19]), 0, "19 joints"),
        "a01_s01_e06_v01": (nw_ucla_json("x", skeletons=[[[1, 2, 3]] * 20, [[1, 2]] * 20]), 0, "array"),
        "a01_s01_e07_v01": (nw_ucla_json("x", skeletons=[]), 0, "shape"),
        "a01_s01_e08_v01": (nw_ucla_json("x", skeletons=[[[0, 0, 0]] * 20]), 0, "no body"),
        "a01_s01_e09_v01": (nw_ucla_json("x", skeletons=[[[1, 2, float("nan")]] * 20]), 0, "not finite"),
        "a01_s02_e00_v01": (b"\xff\xfe" + good, 0, ""),
        "a01_s02_e01_v01": (nw_ucla_json("x", label=None), 0, ""),
        "notes": (b"{}", 0, "aAA_sSS"),
    }
    for name, (text, _, _) in faults.items():
        (tmp_path / f"{name}.json").write_bytes(text)
    (tmp_path / "a02_s01_e00_v01.json").write_bytes(good)
    assert phase0("recipe=nw_ucla", f"raw={tmp_path}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = {Path(k).stem: v for k, v in skips(tmp_path / "store").items()}
    assert set(told) == set(faults) and list(clips(tmp_path / "store")) == ["a02_s01_e00_v01"]
    for name, (_, line, reason) in faults.items():
        assert told[name][0] == line and reason in told[name][1], (name, told[name])


def test_a_truncated_archive_gives_what_it_still_holds_and_exit_code_3(tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:xz") as tar:
        for i in range(40):
            text = nw_ucla_json(f"a01_s01_e{i:02d}_v01", length=40)
            info = tarfile.TarInfo(f"all_sqe/a01_s01_e{i:02d}_v01.json")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    (tmp_path / "cut.tar.xz").write_bytes(raw.getvalue()[:len(raw.getvalue()) * 2 // 3])
    code, message = phase0("recipe=nw_ucla", f"raw={tmp_path / 'cut.tar.xz'}", f"data.store={tmp_path / 'store'}")
    assert (code, message) == (3, "") and 5 < len(clips(tmp_path / "store")) < 40
    assert "cut.tar.xz" in skips(tmp_path / "store")
    (tmp_path / "text.tar").write_text("no archive")
    code, message = phase0("recipe=nw_ucla", f"raw={tmp_path / 'text.tar'}", f"data.store={tmp_path / 'other'}")
    assert code == 2 and "text.tar" in message
    assert not (tmp_path / "other").exists() and not (tmp_path / "other.partial").exists()


# ---------------------------------------------------------------------------------------------------------------------
# CTR-GCN's arrays and pyskl's pickles
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ctrgcn_arrays_lose_their_padding_and_bring_their_split(tmp_path, save):
    rng = np.random.default_rng(0)
    length, bodies = [5, 9, 1, 7], [1, 2, 2, 1]
    x = np.zeros((4, 12, 2, 25, 3), np.float32)
    for i in range(4):
        x[i, :length[i], :bodies[i]] = rng.normal(0, 1, (length[i], bodies[i], 25, 3))
    x[3] = 0
    x[1, 3] = 0  # a gap inside stays
    y = np.eye(60)[[3, 59, 0, 4]]
    y[2] = 0
    flat, test = x.reshape(4, 12, 150), [2, 3, 0]
    save(tmp_path / "NTU60_CS.npz", x_train=flat[:2], y_train=y[:2], x_test=flat[test], y_test=y[test])
    store = tmp_path / "store"
    argv = "recipe=ntu60", "data.reader=ctrgcn", f"raw={tmp_path / 'NTU60_CS.npz'}", f"data.store={store}"
    assert phase0(*argv)[0] == 3
    stored, (_, table, meta) = clips(store), contents(store)
    assert list(stored) == ["train_000000", "train_000001", "test_000002"]
    assert table["label"] == [3, 59, 3] and table["split_given"] == [0, 0, 1]
    assert meta["counts"]["given"] == {"train": 2, "test": 1} and len(meta["skipped"]) == 2
    np.testing.assert_array_equal(stored["train_000000"], np.moveaxis(x[0, :5, :1], 1, 0))
    np.testing.assert_array_equal(stored["train_000001"], np.moveaxis(x[1, :9], 1, 0))
    assert "one-hot" in skips(store)["NTU60_CS.npz:x_test[0]"][1]
    assert "no body" in skips(store)["NTU60_CS.npz:x_test[1]"][1]


def test_ctrgcn_arrays_pass_through_memory_a_clip_at_a_time(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x_train=np.zeros((300, 300, 150), np.float32))
    tracemalloc.start()
    assert sum(1 for _ in npz_rows(tmp_path / "a.npz", "x_train")[1]) == 300
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
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    assert "npz" in phase0(*argv)[1]


def annotations(V: int = 25, C: int = 3) -> dict:
    rng = np.random.default_rng(1)
    points = [rng.normal(0, 1, (m, L, V, C)).astype(t) for m, L, t in ((1, 5, "f2"), (2, 8, "f4"), (1, 6, "f8"))]
    points[1] = np.asfortranarray(points[1])
    points[2] = points[2].astype(">f8")
    names, labels = ["S001C001P001R001A003", "S002C002P003R002A004", "clip"], [2, np.int64(3), 5]
    found = []
    for name, label, p in zip(names, labels, points, strict=True):
        score = np.ones(p.shape[:3], "f2")
        found.append({"frame_dir": name, "label": label, "total_frames": p.shape[1],
                      "keypoint": p, "keypoint_score": score})
    split = {"xsub_train": names[:1], "xsub_val": names[1:], "xview_train": np.array(["clip"])}
    return {"split": split, "annotations": found}


@pytest.mark.parametrize("protocol, core", [
    (2, b"numpy.core."), (2, b"numpy._core."), (3, b"numpy.core."), (3, b"numpy._core."), (4, b""), (5, b"")])
def test_a_pyskl_pickle_of_numpy_1_or_2_is_read_with_its_splits(tmp_path, protocol, core):
    d, path = annotations(), tmp_path / "ntu60_3danno.pkl"
    text = pickle.dumps(d, protocol)
    path.write_bytes(re.sub(rb"cnumpy\._?core\.", b"c" + core, text) if core else text)
    assert phase0("recipe=ntu60", "data.reader=pyskl", f"raw={path}", f"data.store={tmp_path / 'store'}") == (0, "")
    _, table, meta = contents(tmp_path / "store")
    assert table["split_xsub"] == [0, 1, 1] and table["split_xview"] == [-1, -1, 0] and table["label"] == [2, 3, 5]
    assert table["subject"] == [1, 3, 0] and table["camera"] == [1, 2, 0]
    assert meta["counts"]["xsub"] == {"train": 1, "test": 2}
    for a, joints in zip(d["annotations"], clips(tmp_path / "store").values(), strict=True):
        np.testing.assert_array_equal(joints, a["keypoint"].astype(np.float32))


def test_flat_key_points_get_a_third_coordinate_and_the_skeleton_follows_from_their_number(tmp_path):
    path = tmp_path / "hrnet.pkl"
    path.write_bytes(pickle.dumps(annotations(17, 2)))
    store = tmp_path / "store"
    argv = "recipe=ntu60", "data.reader=pyskl", 'data.skeleton=""', f"raw={path}", f"data.store={store}"
    assert phase0(*argv) == (0, "")
    assert contents(store)[2]["skeleton"]["name"] == "coco17"
    x = clips(store)["clip"]
    assert x.shape == (1, 6, 17, 3) and not x[..., 2].any() and x[..., :2].any()


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
def test_a_malicious_pickle_runs_nothing_and_the_refusal_names_what_it_asked_for(tmp_path, bomb):
    path, mark = tmp_path / "a.pkl", tmp_path / "mark"
    path.write_bytes(bombs(mark)[bomb])
    code, message = phase0("recipe=ntu60", "data.reader=pyskl", f"raw={path}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and "asks for" in message and not mark.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pkl"]


@pytest.mark.parametrize("payload", [
    # numpy itself would read the elements of an object array as raw pointers
    lambda: {"split": {}, "annotations": [{"frame_dir": "a", "label": 0, "keypoint": np.array([{}], object)}]},
    lambda: {"split": {}, "annotations": [{"frame_dir": "a", "label": 0, "keypoint": np.zeros(1, [("a", "f4")])}]},
    lambda: {"split": [], "annotations": []}, lambda: {"annotations": []}, lambda: [1, 2], lambda: None])
def test_a_pickle_of_anything_else_than_annotations_of_numbers_is_one_line(tmp_path, payload):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(payload()))
    argv = "recipe=ntu60", "data.reader=pyskl", f"raw={tmp_path / 'a.pkl'}", f"data.store={tmp_path / 'store'}"
    code, message = phase0(*argv)
    assert code == 2 and "a.pkl" in message


@given(st.integers(0, 10**6), st.booleans())
def test_a_damaged_pickle_is_a_clear_error_or_reads_as_something_harmless(seed, cut):
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
            list(read_pyskl(Path(f.name), load_config(["recipe=ntu60"])))
        except ValueError as e:
            assert f.name in str(e)


def test_annotations_that_cannot_be_stored_are_named_and_the_rest_is(tmp_path):
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


# ---------------------------------------------------------------------------------------------------------------------
# Anyone's own arrays
# ---------------------------------------------------------------------------------------------------------------------

def test_ones_own_clips_with_class_names_subjects_and_split_are_stored(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (4, 20, 3)), rng.normal(0, 1, (2, 6, 20, 3)).astype(np.float32)
    flat = rng.normal(0, 1, (3, 20, 2))
    late = np.stack([np.zeros((5, 20, 3)), rng.normal(0, 1, (5, 20, 3))])  # only the second body is ever seen
    labels = "name,label,subject,split\na,wave,3,train\nb,1,4,test\nflat,sit,4,test\nlate,0,1,train\n"
    raw = own_folder(tmp_path / "raw", labels, a=a, b=b, flat=flat, late=late)
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}") == (0, "")
    stored, (_, table, meta) = clips(tmp_path / "store"), contents(tmp_path / "store")
    np.testing.assert_array_equal(stored["a"], np.float32(a)[None])
    np.testing.assert_array_equal(stored["b"], b)
    np.testing.assert_array_equal(stored["flat"], np.float32(np.pad(flat, [(0, 0), (0, 0), (0, 1)]))[None])
    np.testing.assert_array_equal(stored["late"], np.float32(late[1:]))
    assert table["label"] == [0, 1, 1, 0] and table["subject"] == [3, 4, 4, 1] and meta["classes"] == ["wave", "sit"]
    assert meta["counts"] == {"xsub": {"train": 2, "test": 2}, "given": {"train": 2, "test": 2}}
    assert meta["skeleton"]["name"] == "kinect20"


def test_a_damaged_array_and_a_line_that_names_no_clip_are_skipped(tmp_path):
    labels, x = "label,name,subject\nwave,good,1\n\nwave,other,3\nwave\nwave,zip,1\n", np.ones((4, 20, 3))
    raw = own_folder(tmp_path / "raw", labels, good=x, other=x)
    (raw / "zip.npy").write_bytes(b"PK\x03\x04 no archive")
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = {(s["file"], s["line"], s["reason"]) for s in contents(tmp_path / "store")[2]["skipped"]}
    assert ("labels.csv", 5, "names no clip") in told and len(told) == 2


def test_a_line_without_a_label_does_not_change_how_the_others_count(tmp_path):
    x, labels = np.ones((4, 20, 3)), "name,label,subject\na,1,1\nb,2,1\nc,1,3\nd,2,3\ne,,3\n"
    raw = own_folder(tmp_path / "raw", labels, **{name: x + i for i, name in enumerate("abcde")})
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    assert contents(tmp_path / "store")[1]["label"] == [0, 1, 0, 1]


def test_packed_labels_may_be_names_and_offsets_must_rise_from_0(tmp_path):
    x = np.random.default_rng(0).normal(size=(7, 20, 3)).astype(np.float32)
    (tmp_path / "x.json").write_text('{"skeleton": "kinect20", "classes": ["wave", "sit"]}')

    def pack(offsets, labels=("sit", "0")):
        np.savez(tmp_path / "x.npz", data=x, offsets=offsets, names=["a", "b"], labels=list(labels), subject=[1, 3])
        return phase0(*OWN, f"raw={tmp_path / 'x.npz'}", f"data.store={tmp_path / 'store'}")

    assert pack([0, 3, 7]) == (0, "")
    stored, (_, table, _) = clips(tmp_path / "store"), contents(tmp_path / "store")
    np.testing.assert_array_equal(stored["b"], x[None, 3:])
    assert table["label"] == [1, 0]
    assert pack([0, 3, 7], ("jump", "0"))[0] == 3
    (skipped,) = contents(tmp_path / "store")[2]["skipped"]
    assert skipped["file"] == "x.npz:a" and "label 'jump' is neither a class nor the number of one" in skipped["reason"]
    for offsets in ([0.0, 3.0, 7.0], [2, 3, 7], [0, 8, 7], [0, 3, 6], [0, 7]):
        code, said = pack(offsets)
        assert code == 2 and "whole numbers that rise from 0 to 7" in said, said


def test_every_fault_of_ones_own_clips_is_named(tmp_path):
    x = np.ones((4, 20, 3), np.float32)
    faults = {"nan": x * np.nan, "joints": np.ones((4, 19, 3)), "shape": np.ones((4, 60)), "empty": np.ones((0, 20, 3)),
              "zero": 0 * x,
              "objects": np.array([{}], object), "words": np.array([["a"]])}
    labels = ("name,label,subject,split\ngood,wave,1,train\ngone,wave,1,test\ngood,1,1,train\n"
              "label,jump,1,train\nrange,2,1,train\nside,0,1,left\n")
    labels += "".join(f"{k},0,1,test\n" for k in faults)
    raw = own_folder(tmp_path / "raw", labels, good=x + np.arange(4)[:, None, None], label=x, range=x, side=x, **faults)
    (raw / "cut.npy").write_bytes((raw / "good.npy").read_bytes()[:-50])
    with open(raw / "labels.csv", "a") as f:
        f.write("cut,0,1,train\n")
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    meta = contents(tmp_path / "store")[2]
    told = [f"{s['file']} line {s['line']}: {s['reason']}" for s in meta["skipped"]]
    assert list(clips(tmp_path / "store")) == ["good"] and len(told) == 6 + len(faults)
    for words in (("gone.npy",), ("good", "second clip"), ("labels.csv line 5", "jump"),
                  ("range", "label 2 is out of range"), ("labels.csv line 7", "left"), ("nan", "not finite"),
                  ("joints", "19 joints"), ("shape", "(4, 60)"), ("empty", "0 frames"),
                  ("zero", "no body"), ("objects.npy",), ("words.npy",), ("cut.npy",)):
        assert any(all(w in t for w in words) for t in told), (words, told)


BAD_PARENT = {"joints": ["a", "b"], "parents": [0, 9], "regions": {"r": [0, 1]}}


def kinect20(*classes: str) -> str:
    return json.dumps({"skeleton": "kinect20", "classes": classes})


@pytest.mark.parametrize("spoil, expected", [
    (lambda raw: (raw / "labels.csv").unlink(), "labels.csv"),
    (lambda raw: (raw / "labels.csv").write_text("a,wave\n"), "header"),
    (lambda raw: (raw / "skeleton.json").unlink(), "skeleton.json"),
    (lambda raw: (raw / "skeleton.json").write_text("{"), "JSON"),
    (lambda raw: (raw / "skeleton.json").write_text("[1]"), "skeleton.json"),
    (lambda raw: (raw / "skeleton.json").write_text("{}"), "data.skeleton"),
    (lambda raw: (raw / "skeleton.json").write_text('{"skeleton": "kinekt20"}'), "kinect20"),
    (lambda raw: (raw / "skeleton.json").write_text('{"skeleton": {"joints": ["a", "b"]}}'), "parents"),
    (lambda raw: (raw / "skeleton.json").write_text(kinect20("a", "b", "c")), "num_classes"),
    (lambda raw: (raw / "skeleton.json").write_text(kinect20("a", "a")), "names the class 'a' twice"),
    (lambda raw: (raw / "skeleton.json").write_text(json.dumps({"skeleton": BAD_PARENT})), "b has 9"),
    (lambda raw: (raw / "labels.csv").write_text("name,label,person\na,wave,1\n"), "its header is 'name,label,person'"),
    (lambda raw: (raw / "labels.csv").write_text("name;label\na;wave\n"), "with commas between"),
    (lambda raw: (raw / "labels.csv").write_text("name,label\n"), "below 'name,label' it has none"),
    (lambda raw: (raw / "labels.csv").write_text(""), "its header is ''"),
    (lambda raw: (raw / "labels.csv").write_bytes(b"name,label\na,w\xe4ve\n"), "labels.csv: is not in UTF-8"),
])
def test_a_folder_of_ones_own_that_lacks_something_is_one_line(tmp_path, spoil, expected):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    spoil(raw)
    code, message = phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and expected in message and sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


def test_words_for_labels_want_classes_and_a_line_no_more_fields_than_its_header(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 20, 3))
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\nb,0,1\nc,0\n", a=x, b=x, c=x)
    (raw / "skeleton.json").write_text('{"skeleton": "kinect20"}')
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = [s["reason"] for s in contents(tmp_path / "store")[2]["skipped"]]
    assert "skeleton.json lacks `classes`" in told[0] and told[1] == "b: has more fields than the header"
    assert list(clips(tmp_path / "store")) == ["c"]


def test_labels_are_read_as_spreadsheets_write_them_and_told_where_they_are_wrong(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 20, 3))
    labels = "\ufeffname, label, subject\na, wave, 1\nb,wvae,1\nc,sit,anna\nd,sit,\ne,sit,99999999999999999999\n"
    raw = own_folder(tmp_path / "raw", labels, a=x, b=x, c=x, d=x, e=x, f=x)
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = [f"{s['file']} line {s['line']}: {s['reason']}" for s in contents(tmp_path / "store")[2]["skipped"]]
    assert list(clips(tmp_path / "store")) == ["a"] and len(told) == 5
    for words in ("f.npy line 0: is not listed",
                  "line 3: b: label 'wvae' is neither a class nor the number of one, did you mean 'wave'?",
                  "line 4: c: subject 'anna' is not a whole number", "line 5: d: subject '' is not",
                  "line 6: e: subject '9999"):
        assert any(words in t for t in told), (words, told)


@pytest.mark.parametrize("recipe, file, train, test, V", [
    ("utd_mhad", "utd-mhad.npz", 431, 430, 20), ("irds", "irds.npz", 127, 61, 25)])
def test_packed_recordings_with_their_own_skeleton_need_no_line_of_code(
        data_folder, tmp_path, recipe, file, train, test, V):
    assert phase0(f"recipe={recipe}", f"raw={data_folder / file}", f"data.store={tmp_path / 'store'}") == (0, "")
    stored, (_, table, meta) = clips(tmp_path / "store"), contents(tmp_path / "store")
    assert meta["counts"] == {"xsub": {"train": train, "test": test}} and len(meta["skeleton"]["joints"]) == V
    with np.load(data_folder / file) as z:
        assert table["name"] == z["names"].tolist() and table["label"] == z["labels"].tolist()
        assert table["subject"] == z["subject"].tolist()
        for i in (0, 17, len(table["name"]) - 1):
            np.testing.assert_array_equal(stored[table["name"][i]][0], z["data"][z["offsets"][i]:z["offsets"][i + 1]])


def test_packed_recordings_whose_parts_do_not_fit_are_one_line(tmp_path):
    good = {"data": np.ones((5, 20, 3)), "offsets": np.array([0, 2, 5]),
            "names": np.array(["a", "b"]), "labels": np.array([0, 1])}
    (tmp_path / "a.json").write_text('{"skeleton": "kinect20"}')
    for change, expected in (({"offsets": np.array([0, 2])}, "offsets"), ({"offsets": np.array([0, 2, 6])}, "offsets"),
                             ({"labels": np.zeros(3)}, "labels"), ({"names": np.array(["a", "b"], object)}, "")):
        np.savez(tmp_path / "a.npz", **{**good, **change})
        code, message = phase0(*OWN, f"raw={tmp_path / 'a.npz'}", f"data.store={tmp_path / 'store'}")
        assert code == 2 and "a.npz" in message and expected in message
    np.savez(tmp_path / "a.npz", **good, split=np.array(["train", "test"]))
    assert phase0(*OWN, f"raw={tmp_path / 'a.npz'}", f"data.store={tmp_path / 'store'}")[0] == 0
    assert contents(tmp_path / "store")[2]["counts"]["given"] == {"train": 1, "test": 1}


# ---------------------------------------------------------------------------------------------------------------------
# One file
# ---------------------------------------------------------------------------------------------------------------------

def test_one_clip_is_read_from_any_of_its_forms_and_says_what_is_wrong(tmp_path):
    x = np.random.default_rng(0).normal(0, 1, (2, 5, 20, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "one.npy", x[0])
    np.savez(tmp_path / "a.npz", x)
    np.savez(tmp_path / "b.npz", other=x[:1], joints=x)
    (tmp_path / "a.json").write_text(json.dumps({"skeletons": x[0].tolist()}))
    for name, expected in (("a.npy", x), ("one.npy", x[:1]), ("a.npz", x), ("b.npz", x), ("a.json", x[:1])):
        np.testing.assert_array_equal(readers.read_clip(tmp_path / name), expected)
    (tmp_path / "bad.skeleton").write_text("3\n1\n")
    (tmp_path / "bad.json").write_text("{}")
    np.savez(tmp_path / "bad.npz", a=x, b=x)
    np.save(tmp_path / "nan.npy", x * np.nan)
    np.save(tmp_path / "object.npy", np.array([{}], object))
    for name in ("bad.skeleton", "bad.json", "bad.npz", "nan.npy", "object.npy"):
        with pytest.raises(ValueError, match=name):
            readers.read_clip(tmp_path / name)
