"""Anyone's own clips, in folders and packed: read as written, and each fault is named."""
import json

import numpy as np
import pytest

from tests.helpers.recordings import OWN, clips, contents, own_folder, phase0


def test_own_clips_with_classes_subjects_and_split_are_stored(tmp_path):
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (4, 20, 3))
    b = rng.normal(0, 1, (2, 6, 20, 3)).astype(np.float32)
    flat = rng.normal(0, 1, (3, 20, 2))
    late = np.stack([np.zeros((5, 20, 3)), rng.normal(0, 1, (5, 20, 3))])  # only the second body is ever seen
    labels = "name,label,subject,split\na,wave,3,train\nb,1,4,test\nflat,sit,4,test\nlate,0,1,train\n"
    raw = own_folder(tmp_path / "raw", labels, a=a, b=b, flat=flat, late=late)
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}") == (0, "")

    # joints
    stored = clips(tmp_path / "store")
    np.testing.assert_array_equal(stored["a"], np.float32(a)[None])
    np.testing.assert_array_equal(stored["b"], b)
    np.testing.assert_array_equal(stored["flat"], np.float32(np.pad(flat, [(0, 0), (0, 0), (0, 1)]))[None])
    np.testing.assert_array_equal(stored["late"], np.float32(late[1:]))

    # what labels.csv and skeleton.json say
    _, table, meta = contents(tmp_path / "store")
    assert table["label"] == [0, 1, 1, 0] and table["subject"] == [3, 4, 4, 1] and meta["classes"] == ["wave", "sit"]
    assert meta["counts"] == {"xsub": {"train": 2, "test": 2}, "given": {"train": 2, "test": 2}}
    assert meta["skeleton"]["name"] == "kinect20"


def test_a_damaged_array_and_a_line_without_a_name_are_skipped(tmp_path):
    x = np.ones((4, 20, 3))
    labels = "label,name,subject\nwave,good,1\n\nwave,other,3\nwave\nwave,zip,1\n"
    raw = own_folder(tmp_path / "raw", labels, good=x, other=x)
    (raw / "zip.npy").write_bytes(b"PK\x03\x04 no archive")
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = {(s["file"], s["line"], s["reason"]) for s in contents(tmp_path / "store")[2]["skipped"]}
    assert ("labels.csv", 5, "names no clip") in told and len(told) == 2


def test_a_line_without_a_label_does_not_change_the_counting(tmp_path):
    x = np.ones((4, 20, 3))
    labels = "name,label,subject\na,1,1\nb,2,1\nc,1,3\nd,2,3\ne,,3\n"
    raw = own_folder(tmp_path / "raw", labels, **{name: x + i for i, name in enumerate("abcde")})
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    assert contents(tmp_path / "store")[1]["label"] == [0, 1, 0, 1]


def test_packed_labels_may_be_names_and_offsets_must_rise(tmp_path):
    x = np.random.default_rng(0).normal(size=(7, 20, 3)).astype(np.float32)
    (tmp_path / "x.json").write_text('{"skeleton": "kinect20", "classes": ["wave", "sit"]}')

    def pack(offsets, labels=("sit", "0")):
        np.savez(tmp_path / "x.npz", data=x, offsets=offsets, names=["a", "b"], labels=list(labels), subject=[1, 3])
        return phase0(*OWN, f"raw={tmp_path / 'x.npz'}", f"data.store={tmp_path / 'store'}")

    assert pack([0, 3, 7]) == (0, "")
    np.testing.assert_array_equal(clips(tmp_path / "store")["b"], x[None, 3:])
    assert contents(tmp_path / "store")[1]["label"] == [1, 0]

    # a label that is no class
    assert pack([0, 3, 7], ("jump", "0"))[0] == 3
    (skipped,) = contents(tmp_path / "store")[2]["skipped"]
    assert skipped["file"] == "x.npz:a" and "label 'jump'" in skipped["reason"]

    # offsets that are no row numbers
    for offsets in ([0.0, 3.0, 7.0], [2, 3, 7], [0, 8, 7], [0, 3, 6], [0, 7]):
        code, said = pack(offsets)
        assert code == 2 and "offsets" in said, said


def test_every_fault_of_own_clips_is_named(tmp_path):
    x = np.ones((4, 20, 3), np.float32)
    faults = {"nan": x * np.nan, "joints": np.ones((4, 19, 3)), "shape": np.ones((4, 60)), "zero": 0 * x,
              "empty": np.ones((0, 20, 3)), "objects": np.array([{}], object), "words": np.array([["a"]])}
    labels = ("name,label,subject,split\ngood,wave,1,train\ngone,wave,1,test\ngood,1,1,train\n"
              "label,jump,1,train\nrange,2,1,train\nside,0,1,left\n")
    labels += "".join(f"{k},0,1,test\n" for k in faults) + "cut,0,1,train\n"
    raw = own_folder(tmp_path / "raw", labels, good=x + np.arange(4)[:, None, None], label=x, range=x, side=x, **faults)
    (raw / "cut.npy").write_bytes((raw / "good.npy").read_bytes()[:-50])

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
    (lambda raw: (raw / "skeleton.json").write_text(kinect20("a", "a")), "the class 'a'"),
    (lambda raw: (raw / "skeleton.json").write_text(json.dumps({"skeleton": BAD_PARENT})), "b has 9"),
    (lambda raw: (raw / "skeleton.json").write_text('{"skeleton": {"joints": 5}}'), "parents"),
    (lambda raw: (raw / "labels.csv").write_text("name,label,person\na,wave,1\n"), "'name,label,person'"),
    (lambda raw: (raw / "labels.csv").write_text("name;label\na;wave\n"), "'name;label'"),
    (lambda raw: (raw / "labels.csv").write_text("name,label\n"), "'name,label'"),
    (lambda raw: (raw / "labels.csv").write_text(""), "header is ''"),
    (lambda raw: (raw / "labels.csv").write_bytes(b"name,label\na,w\xe4ve\n"), "UTF-8"),
])
def test_a_folder_that_lacks_something_is_one_line(tmp_path, spoil, expected):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    spoil(raw)
    code, message = phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and expected in message and sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


def test_numbers_beside_words_are_words_and_lines_fit_the_header(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 20, 3))
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\nb,0,1\nc,0\n", a=x, b=x, c=x)
    (raw / "skeleton.json").write_text('{"skeleton": "kinect20"}')

    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    _, table, meta = contents(tmp_path / "store")
    (told,) = [s["reason"] for s in meta["skipped"]]
    assert told.startswith("b: ") and "fields" in told
    assert table["name"] == ["a", "c"] and table["label"] == [1, 0] and meta["classes"] == ["0", "wave"]


@pytest.mark.parametrize("labels, listed, num_classes, expected, classes", [
    ([1, 2, 5, 9], [], 4, [0, 1, 2, 3], ["class 1", "class 2", "class 5", "class 9"]),
    ([1, 2, 3, 4], [], 4, [0, 1, 2, 3], ["class 1", "class 2", "class 3", "class 4"]),
    ([0, 1, 2, 0], [], 3, [0, 1, 2, 0], ["class 0", "class 1", "class 2"]),
    ([0, 1, 3, 0], [], 4, [0, 1, 3, 0], ["class 0", "class 1", "class 2", "class 3"]),
    ([1, 2, 4, 1], ["a", "b", "c", "d"], 4, [0, 1, 3, 0], ["a", "b", "c", "d"]),
    ([1, 2, 4, 1], ["a", "b", "c", "d"], 3, [0, 1, 2, 0], ["a", "b", "d"]),
    (["c", "a", "c", "a"], ["a", "b", "c"], 2, [1, 0, 1, 0], ["a", "c"]),
    ([0.0, 2.0, 0.0, 2.0], [], 2, [0, 1, 0, 1], ["class 0", "class 2"]),
    (["sit", "run", "sit", "run"], [], 2, [1, 0, 1, 0], ["run", "sit"])])
def test_labels_keep_their_words_and_numbers(tmp_path, labels, listed, num_classes, expected, classes):
    x = np.random.default_rng(0).normal(size=(8, 20, 3)).astype(np.float32)
    (tmp_path / "x.json").write_text(json.dumps({"skeleton": "kinect20"} | ({"classes": listed} if listed else {})))
    np.savez(tmp_path / "x.npz", data=x, offsets=[0, 2, 4, 6, 8], names=[*"abcd"], labels=labels, subject=[1, 1, 3, 3])
    own = [word for word in OWN if "num_classes" not in word]
    assert phase0(*own, f"data.num_classes={num_classes}", f"raw={tmp_path / 'x.npz'}",
                  f"data.store={tmp_path / 'store'}") == (0, "")
    _, table, meta = contents(tmp_path / "store")
    assert table["label"] == expected and meta["classes"] == classes


def test_a_number_of_classes_that_nothing_has_is_refused(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 20, 3))
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\nb,sit\n", a=x, b=x)
    code, message = phase0(*OWN[:2], "data.num_classes=3", f"raw={raw}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and "num_classes = 3" in message and "2 classes" in message


def test_labels_of_a_spreadsheet_are_read_and_faults_are_placed(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 20, 3))
    labels = "\ufeffname, label, subject\na, wave, 1\nb,wvae,1\nc,sit,anna\nd,sit,\ne,sit,99999999999999999999\n"
    raw = own_folder(tmp_path / "raw", labels, a=x, b=x, c=x, d=x, e=x, f=x)

    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 3
    told = [f"{s['file']} line {s['line']}: {s['reason']}" for s in contents(tmp_path / "store")[2]["skipped"]]
    assert list(clips(tmp_path / "store")) == ["a"] and len(told) == 5
    for where, what in (("f.npy line 0: ", "not listed"), ("line 3: b: label 'wvae'", "'wave'?"),
                        ("line 4: c: subject 'anna'", "number"), ("line 5: d: subject ''", "number"),
                        ("line 6: e: subject '9999", "number")):
        assert any(where in t and what in t for t in told), (where, told)


@pytest.mark.parametrize("recipe, file, train, test, V", [
    ("utd_mhad", "utd-mhad.npz", 431, 430, 20), ("irds", "irds.npz", 127, 61, 25)])
def test_packed_recordings_with_their_own_skeleton_need_no_code(data_folder, tmp_path, recipe, file, train, test, V):
    assert phase0(f"recipe={recipe}", f"raw={data_folder / file}", f"data.store={tmp_path / 'store'}") == (0, "")
    stored = clips(tmp_path / "store")
    _, table, meta = contents(tmp_path / "store")
    assert meta["counts"] == {"xsub": {"train": train, "test": test}} and len(meta["skeleton"]["joints"]) == V

    # as in the file
    with np.load(data_folder / file) as z:
        assert table["name"] == z["names"].tolist() and table["label"] == z["labels"].tolist()
        assert table["subject"] == z["subject"].tolist()
        for i in (0, 17, len(table["name"]) - 1):
            np.testing.assert_array_equal(stored[table["name"][i]][0], z["data"][z["offsets"][i]:z["offsets"][i + 1]])


def test_a_packed_file_whose_parts_do_not_fit_is_one_line(tmp_path):
    good = {"data": np.ones((5, 20, 3)), "offsets": np.array([0, 2, 5]),
            "names": np.array(["a", "b"]), "labels": np.array([0, 1])}
    (tmp_path / "a.json").write_text('{"skeleton": "kinect20"}')
    bad = (({"offsets": np.array([0, 2])}, "offsets"), ({"offsets": np.array([0, 2, 6])}, "offsets"),
           ({"labels": np.array([0, 1, 1])}, "labels"), ({"names": np.array(["a", "b"], object)}, ""))
    for change, expected in bad:
        np.savez(tmp_path / "a.npz", **{**good, **change})
        code, message = phase0(*OWN, f"raw={tmp_path / 'a.npz'}", f"data.store={tmp_path / 'store'}")
        assert code == 2 and "a.npz" in message and expected in message

    # with a column of the split
    np.savez(tmp_path / "a.npz", **good, split=np.array(["train", "test"]))
    assert phase0(*OWN, f"raw={tmp_path / 'a.npz'}", f"data.store={tmp_path / 'store'}")[0] == 0
    assert contents(tmp_path / "store")[2]["counts"]["given"] == {"train": 1, "test": 1}
