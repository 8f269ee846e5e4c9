"""read_clip, and the reader of Northwestern-UCLA: what was written is read, and what cannot be read is named."""
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from phases.recordings.readers import read_clip
from tests.helpers.recordings import clips, contents, phase0, skips

# ---------------------------------------------------------------------------------------------------------------------
# Northwestern-UCLA
# ---------------------------------------------------------------------------------------------------------------------

def nw_ucla_json(name: str, length: int = 4, **other) -> bytes:
    joints = np.random.default_rng(sum(name.encode())).normal(0, 1, (length, 20, 3)).round(4)
    return json.dumps({"file_name": name, "skeletons": joints.tolist(), "label": 1, **other}).encode()


def test_northwestern_ucla_has_its_counts_and_repeated_clips(data_folder, tmp_path, capsys):
    store = tmp_path / "store"
    assert phase0("recipe=nw_ucla", f"raw={data_folder / 'nw-ucla.tar.xz'}", f"data.store={store}") == (0, "")
    _, table, meta = contents(store)

    # the splits
    assert meta["counts"] == {"xview": {"train": 1020, "test": 464}, "view12": {"train": 516, "test": 504},
                              "view21": {"train": 504, "test": 516}}
    assert meta["skipped"] == [] and meta["classes"][6:8] == ["donning", "doffing"]
    assert meta["quality"]["test_clips_in_training"]["xview"] >= 94
    assert "1020 training, 464 test" in capsys.readouterr().out

    # the clips
    length = np.array(table["length"])
    assert (len(length), length.min(), np.median(length), length.max()) == (1484, 1, 31, 201)
    assert set(table["subject"]) == set(range(1, 11)) and set(table["label"]) == set(range(10))
    assert max(second for _, second in table["offset"]) == -1


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

    # as in the file, and as read_clip has it
    x = clips(tmp_path / "store0")[order[0]]
    np.testing.assert_array_equal(x[0], np.float32(json.loads((raw / f"{order[0]}.json").read_text())["skeletons"]))
    np.testing.assert_array_equal(x, read_clip(raw / f"{order[0]}.json"))


def test_every_fault_of_a_json_file_is_named(tmp_path):
    good = nw_ucla_json("x")
    faults = {  # name: text, line, words of the reason
        "a01_s01_e00_v01": (b'{"label": 1,\n"skeletons": [[[0.1,\n', 3, "not JSON"),
        "a01_s01_e01_v01": (b"", 1, "not JSON"),
        "a01_s01_e02_v01": (b"[]", 0, "lacks"),
        "a01_s01_e03_v01": (nw_ucla_json("x", label=11), 0, "label 10 is out of range"),
        "a01_s01_e04_v01": (nw_ucla_json("x", label=0), 0, "out of range"),
        "a01_s01_e05_v01": (nw_ucla_json("x", skeletons=[[[1, 2, 3]] * 19]), 0, "19 joints"),
        "a01_s01_e06_v01": (nw_ucla_json("x", skeletons=[[[1, 2, 3]] * 20, [[1, 2]] * 20]), 0, "array"),
        "a01_s01_e07_v01": (nw_ucla_json("x", skeletons=[]), 0, "shape"),
        "a01_s01_e08_v01": (nw_ucla_json("x", skeletons=[[[0, 0, 0]] * 20]), 0, "no body"),
        "a01_s01_e09_v01": (nw_ucla_json("x", skeletons=[[[1, 2, float("inf")]] * 20]), 0, "not finite"),
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


def test_nan_and_null_are_missing_and_skeleton_json_is_no_clip(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 20, 3)).round(3)
    x[1, 2] = np.nan
    raw = tmp_path / "raw"
    raw.mkdir()
    for i, word in enumerate(("NaN", "null")):
        text = json.dumps({"skeletons": x.tolist(), "label": 1}).replace("NaN", word)
        (raw / f"a01_s01_e0{i}_v01.json").write_text(text)
    (raw / "skeleton.json").write_text('{"skeleton": "kinect20"}')

    assert phase0("recipe=nw_ucla", f"raw={raw}", f"data.store={tmp_path / 'store'}") == (0, "")
    for joints in clips(tmp_path / "store").values():
        np.testing.assert_array_equal(joints[0], np.float32(np.nan_to_num(x)))


def test_a_truncated_archive_gives_what_it_still_holds(tmp_path):
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

    # a file that is no archive
    (tmp_path / "text.tar").write_text("no archive")
    code, message = phase0("recipe=nw_ucla", f"raw={tmp_path / 'text.tar'}", f"data.store={tmp_path / 'other'}")
    assert code == 2 and "text.tar" in message
    assert not (tmp_path / "other").exists() and not (tmp_path / "other.partial").exists()


# ---------------------------------------------------------------------------------------------------------------------
# One file
# ---------------------------------------------------------------------------------------------------------------------

def test_one_clip_is_read_from_any_of_its_forms(tmp_path):
    x = np.random.default_rng(0).normal(0, 1, (2, 5, 20, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "one.npy", x[0])
    np.savez(tmp_path / "a.npz", x)
    np.savez(tmp_path / "b.npz", other=x[:1], joints=x)
    (tmp_path / "a.json").write_text(json.dumps({"skeletons": x[0].tolist()}))
    for name, expected in (("a.npy", x), ("one.npy", x[:1]), ("a.npz", x), ("b.npz", x), ("a.json", x[:1])):
        np.testing.assert_array_equal(read_clip(tmp_path / name), expected)


def test_a_file_that_is_no_clip_is_named(tmp_path):
    x = np.ones((2, 5, 20, 3), np.float32)
    (tmp_path / "bad.skeleton").write_text("3\n1\n")
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "bad.txt").write_text("1")
    np.savez(tmp_path / "bad.npz", a=x, b=x)
    np.save(tmp_path / "inf.npy", x * np.inf)
    np.save(tmp_path / "object.npy", np.array([{}], object))
    for name in ("bad.skeleton", "bad.json", "bad.txt", "bad.npz", "inf.npy", "object.npy"):
        with pytest.raises(ValueError, match=name):
            read_clip(tmp_path / name)
