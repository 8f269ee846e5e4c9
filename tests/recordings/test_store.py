"""A store holds the clips that were read, appears as a whole or not at all, and reports its quality."""
import json
import os
import re
import resource
import subprocess
import sys

import numpy as np
import pytest

from phases import p0_preprocess as p0
from phases.recordings import ntu_shards, readers
from phases.training.clip_store import ClipStore
from tests.helpers.recordings import (
    OWN,
    SAMPLES,
    clips,
    contents,
    names,
    ntu_text,
    own_folder,
    phase0,
    sample,
    walker,
    write_ntu,
)


def interrupt_merging(monkeypatch, *argv: str) -> None:
    """Run phase 0 until all shards are written."""
    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(p0, "merge", interrupt)
        with pytest.raises(KeyboardInterrupt):
            phase0(*argv)


def test_a_store_of_the_samples_has_what_read_clip_reads(data_folder, tmp_path):
    raw = tmp_path / "raw" / "deeper"
    raw.mkdir(parents=True)
    for name in SAMPLES:
        (raw / f"{name}.skeleton").write_bytes(sample(data_folder, name))

    assert phase0("recipe=ntu60", f"raw={tmp_path / 'raw'}", f"data.store={tmp_path / 'store'}") == (0, "")
    stored = clips(tmp_path / "store")
    assert {n: len(x) for n, x in stored.items()} == SAMPLES
    for name, joints in stored.items():
        np.testing.assert_array_equal(joints, readers.read_clip(raw / f"{name}.skeleton"))

    store = ClipStore(tmp_path / "store")
    assert store.skeleton.name == "ntu25" and len(store.classes) == 60
    assert [len(side) for side in store.split("xsub")] == [4, 3]
    assert [len(side) for side in store.split("xview")] == [2, 5]
    assert store.clips["label"].tolist() == [int(n[-3:]) - 1 for n in store.clips["name"]]


def test_nothing_stored_names_a_reason_and_keeps_the_old_store(tmp_path):
    store = tmp_path / "store"
    phase0("recipe=ntu60", f"raw={write_ntu(tmp_path / 'good', names(2))}", f"data.store={store}")
    before = contents(store)

    # a file that cannot be read
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "S001C001P001R001A001.skeleton").write_text("oops")
    code, message = phase0("recipe=ntu60", f"raw={tmp_path / 'bad'}", f"data.store={store}")
    assert code == 2 and "S001C001P001R001A001" in message and "line 1" in message

    # no file
    (tmp_path / "empty").mkdir()
    code, message = phase0("recipe=ntu60", f"raw={tmp_path / 'empty'}", f"data.store={store}")
    assert code == 2 and "raw" in message

    assert contents(store) == before and sorted(p.name for p in tmp_path.iterdir()) == ["bad", "empty", "good", "store"]


def test_a_shard_that_a_power_cut_damaged_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(ntu_shards, "SHARD", 2)
    store = tmp_path / "store"
    argv = "recipe=ntu60", f"raw={write_ntu(tmp_path / 'raw', names(4))}", "data.workers=1", f"data.store={store}"
    interrupt_merging(monkeypatch, *argv)

    for damage in (lambda text: b"", lambda text: text[:len(text) // 2], lambda text: b"\0" * len(text)):
        shard = tmp_path / "store.partial" / "shard-00001.npz"
        shard.write_bytes(damage(shard.read_bytes()) if shard.exists() else b"")
        code, message = phase0(*argv)
        assert code == 2 and "damaged" in message and not shard.exists()

    assert phase0(*argv) == (0, "") and len(clips(store)) == 4


def test_all_is_flushed_to_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.readlink(f"/proc/self/fd/{handle}")) or sync(handle))
    monkeypatch.setattr(os, "replace", lambda a, b: done.append((str(a), str(b))) or replace(a, b))
    raw = write_ntu(tmp_path / "raw", names(2))
    store = tmp_path / "store"
    assert phase0("recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}") == (0, "")

    # a shard, then the files of the store, then their folder, and the folder around it
    shard = next(i for i, event in enumerate(done) if event[1].endswith("shard-00000.npz"))
    assert done[shard - 1] == done[shard][0]
    moved = done.index((f"{store}.partial", str(store)))
    assert {f"{store}.partial/{name}" for name in ("frames.npy", "clips.npz", "meta.json")} <= set(done[shard:moved])
    assert done[moved - 1] == f"{store}.partial" and done[moved + 1] == str(tmp_path)


def test_shards_of_other_recordings_are_not_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(ntu_shards, "SHARD", 2)
    raw = write_ntu(tmp_path / "raw", names(4))
    store = tmp_path / "store"
    interrupt_merging(monkeypatch, "recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}")
    assert len(list((tmp_path / "store.partial").glob("shard-*.npz"))) == 2

    changed = raw / f"{names(1)[0]}.skeleton"
    changed.write_bytes(ntu_text(walker(9, seed=5)))
    assert phase0("recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}")[0] == 0
    np.testing.assert_array_equal(clips(store)[changed.stem], readers.read_clip(changed))


def test_a_run_killed_between_two_renames_gets_its_store_back(tmp_path):
    store = tmp_path / "store"
    raw = write_ntu(tmp_path / "raw", names(2))
    phase0("recipe=ntu60", f"raw={raw}", f"data.store={store}")
    before = contents(store)
    os.replace(store, tmp_path / ".store.old")
    assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={store}", "data.protocols.x.field=\"nose\"")[0] == 2
    assert contents(store) == before


def test_a_link_to_a_store_elsewhere_stays_a_link(tmp_path):
    raw = write_ntu(tmp_path / "raw", names(2))
    disk = tmp_path / "disk" / "ntu"
    link = tmp_path / "store"
    disk.mkdir(parents=True)
    link.symlink_to(disk)

    for _ in range(2):
        assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={link}")[0] == 0
        assert link.is_symlink() and sorted(p.name for p in disk.iterdir()) == ["clips.npz", "frames.npy", "meta.json"]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "raw", "store"]
        assert [p.name for p in disk.parent.iterdir()] == ["ntu"]


def test_a_full_disk_is_one_line_and_keeps_the_old_store(tmp_path):
    store = tmp_path / "store"
    phase0("recipe=ntu60", f"raw={write_ntu(tmp_path / 'small', names(2))}", f"data.store={store}")
    before = contents(store)
    raw = write_ntu(tmp_path / "raw", names(4), length=100)

    def limit_file_size() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    command = [sys.executable, "-m", "phases.p0_preprocess", "recipe=ntu60", f"raw={raw}", f"data.store={store}",
               "data.workers=1"]
    p = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit_file_size, timeout=300)
    assert p.returncode == 2 and "Traceback" not in p.stderr
    assert re.fullmatch(r"error: .*store.partial cannot be written.*", p.stderr.splitlines()[-1])
    assert contents(store) == before


def test_joints_are_written_to_a_file_not_to_a_memory_map(tmp_path, monkeypatch):
    monkeypatch.setattr(np.lib.format, "open_memmap", lambda *a, **k: pytest.fail("a mapping"))
    raw = write_ntu(tmp_path / "raw", names(2))
    assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 0


def test_the_quality_report_finds_what_is_wrong_with_clips(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rest = np.cumsum(rng.normal(0.1, 0.05, (20, 3)), 0)

    def clip(L: int, scale: float = 1) -> np.ndarray:
        return np.float32(rest * scale + rng.normal(0, 0.02, (L, 1, 3)))

    arrays = {f"c{i}": clip(10 + i) for i in range(6)}
    arrays["still"] = np.tile(arrays["c0"][:1], (7, 1, 1))
    arrays["giant"] = clip(8, 3)
    arrays["copy"] = arrays["c1"].copy()
    arrays["blind"] = clip(9)
    arrays["blind"][2:4, 5] = 0
    arrays["footless"] = clip(9)
    arrays["footless"][1:, 15] = 0  # in most frames: a missing joint has no distance

    # the copy is another subject's, and a test clip
    labels = "name,label,subject\n"
    for i, name in enumerate(arrays):
        labels += f"{name},{i % 2},{1 + (name == 'copy')}\n"
    raw = own_folder(tmp_path / "raw", labels, **arrays)
    phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")

    q = contents(tmp_path / "store")[2]["quality"]
    assert q["constant"] == ["still"] and q["missing_joints"] == 2
    assert q["copies"] == [["c1", "copy"]] and q["test_clips_in_training"]["xsub"] == 1
    assert any(o.startswith("giant") for o in q["odd_bones"]) and not any(o.startswith("c") for o in q["odd_bones"])
    assert not any(o.startswith(("blind", "footless")) for o in q["odd_bones"])
    assert q["clips"] == 11 and q["frames"] == [7, 11, 15]
    assert q["per_label"] == {"0": 6, "1": 5} and q["per_subject"] == {"1": 10, "2": 1}
    assert "1 test clip is a copy of a training clip" in capsys.readouterr().out


def test_bones_of_flat_clips_are_never_out_of_range(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"c{i}": rng.normal(0, 1, (8, 20, 2)) for i in range(4)}
    arrays["turned"] = arrays["c0"] * [0.1, 1]
    labels = "name,label,subject\n" + "".join(f"{name},{i % 2},1\n" for i, name in enumerate(arrays))
    raw = own_folder(tmp_path / "raw", labels, **arrays)
    phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}", "data.unit=px")
    assert contents(tmp_path / "store")[2]["quality"]["odd_bones"] == []


def test_odd_classes_people_and_clips_are_told_by_phase_0(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = {f"c{i}": rng.normal(0, 1, (8, 20, 3)) for i in range(6)}
    arrays["c5"][:] = arrays["c5"][:1]
    sides = ("train", "train", "test", "test", "train", "test")  # all of the class sit train
    rows = [f"c{i},{'sit' if i in (0, 4) else 'wave'},{i % 2},{side}" for i, side in enumerate(sides)]
    raw = own_folder(tmp_path / "raw", "\n".join(["name,label,subject,split", *rows]), **arrays)
    (raw / "skeleton.json").write_text(json.dumps({"skeleton": "kinect20", "classes": ["wave", "sit", "none"]}))
    assert phase0(*OWN[:2], "data.num_classes=3", f"raw={raw}", f"data.store={tmp_path / 'store'}") == (0, "")

    said = capsys.readouterr()
    assert "nothing moves in c5" in said.out
    assert "no clip of 1 of 3 classes (none)" in said.err
    assert "given: no test clip of class 'sit'" in said.err
    assert "given: 2 people are on both sides (subject 0, 1)" in said.err


def test_shares_of_a_picture_are_no_metres(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = {f"c{i}": rng.uniform(0.2, 0.8, (8, 20, 3)) * [1, 1, 0.3] for i in range(4)}
    rows = [f"c{i},{i % 2},{i}" for i in range(4)]
    raw = own_folder(tmp_path / "raw", "\n".join(["name,label,subject", *rows]), **arrays)
    for unit, told in (("m", True), ("px", False)):
        phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}", f"data.unit={unit}", "data.up=-y")
        assert ("shares of a picture" in capsys.readouterr().err) == told


def test_a_protocol_with_an_empty_side_is_stored_and_pointed_out(tmp_path, capsys):
    raw = own_folder(tmp_path / "raw", "name,label,subject\na,wave,1\n", a=np.ones((4, 20, 3)))
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 0
    assert contents(tmp_path / "store")[2]["counts"]["xsub"] == {"train": 1, "test": 0}
    assert "empty" in capsys.readouterr().out
