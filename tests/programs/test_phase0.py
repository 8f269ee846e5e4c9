"""Phase 0: a malformed file is named and the rest is stored, a killed run continues, bad arguments are one line."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from phases import p0_preprocess as p0
from phases.common.files import locked
from tests.helpers.clip_stores import ROOT
from tests.helpers.recordings import OWN, clips, contents, names, ntu_text, own_folder, phase0, skips, walker, write_ntu


def test_malformed_files_are_named_with_line_and_reason_the_rest_is_stored_and_the_exit_code_says_so(tmp_path, capsys):
    raw = write_ntu(tmp_path / "raw", names(6))
    first, second, third, fourth, *_ = sorted(p.name for p in raw.iterdir())
    (raw / first).write_bytes(b"".join((raw / first).read_bytes().splitlines(keepends=True)[:40]))
    (raw / second).write_bytes(b"")
    (raw / third).write_bytes(ntu_text([{}, {}]))
    (raw / "walking.skeleton").write_bytes(ntu_text(walker(3)))
    (raw / "sub").mkdir()
    (raw / "sub" / fourth).write_bytes(ntu_text(walker(3)))
    code, _ = phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / 'store'}")
    told = skips(tmp_path / "store")
    assert code == 3 and len(clips(tmp_path / "store")) == 3 and len(told) == 5
    assert told[first][0] == 40 and "ends here" in told[first][1]
    assert told[second][0] == 1 and "no body" in told[third][1]
    assert "SsssCccc" in told["walking.skeleton"][1] and "second" in told[Path(fourth).stem][1]
    printed = capsys.readouterr().err
    assert all(Path(name).stem in printed for name in told) and "line 40" in printed


def test_unusable_samples_and_those_of_ntu120_are_left_out_without_a_word_of_blame(tmp_path):
    unusable = (ROOT / "recipes" / "ntu-missing.txt").read_text().split()[:2]
    raw = write_ntu(tmp_path / "raw", [*names(3), *unusable, "S018C001P008R001A061", "S001C001P041R001A001"])
    assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / 's60'}")[0] == 0
    assert phase0("recipe=ntu120", f"raw={raw}", f"data.store={tmp_path / 's120'}")[0] == 0
    assert sorted(clips(tmp_path / "s60")) == sorted(names(3)) and len(clips(tmp_path / "s120")) == 5
    assert contents(tmp_path / "s60")[2]["left_out"] == 2


def test_two_processes_store_what_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(p0, "SHARD", 2)
    raw = write_ntu(tmp_path / "raw", names(5))
    (raw / f"{names(1)[0]}.skeleton").write_text("1\n1\n")
    for n in (1, 2):
        assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / str(n)}", f"data.workers={n}")[0] == 3
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_run_killed_at_any_moment_leaves_no_half_store_and_the_next_ends_in_the_same_store(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    texts = [ntu_text(walker(6, i)) for i in range(8)]
    for i in range(1100):
        (raw / f"S001C001P{1 + i // 60:03d}R001A{1 + i % 60:03d}.skeleton").write_bytes(texts[i % 8])
    reference, store = tmp_path / "reference", tmp_path / "store"
    command = [sys.executable, "-m", "phases.p0_preprocess", "recipe=ntu60", f"raw={raw}", "data.workers=2",
               f"data.store={store}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    partial = store.with_name("store.partial")
    assert phase0("recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={reference}")[0] == 0
    killed = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(partial.glob("shard-*.npz")):
        assert killed.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children")
    workers = children.read_text().split() if children.exists() else []
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not store.exists()
    deadline = time.monotonic() + 10
    while any(Path("/proc", w).exists() for w in workers):
        assert time.monotonic() < deadline, "the workers of a killed run live on"
        time.sleep(0.05)
    done = {p: p.stat().st_mtime_ns for p in partial.glob("shard-*.npz")}
    assert 0 < len(done) < 5
    parsed, parse = [], p0._ntu_shard

    def parse_and_note(job: tuple) -> int:
        parsed.append(job[0])
        return parse(job)

    with mock.patch.object(p0, "_ntu_shard", parse_and_note):
        assert phase0("recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}")[0] == 0
    assert len(parsed) + len(done) == 5 and not set(parsed) & set(done), "finished shards are not parsed again"
    assert contents(store) == contents(reference)
    assert not partial.exists()


def test_a_second_phase_0_on_one_store_is_turned_away(tmp_path):
    raw, store = write_ntu(tmp_path / "raw", names(4)), tmp_path / "store"
    argv = "recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}"
    with locked(tmp_path / "store.partial"):
        code, message = phase0(*argv)
        assert code == 2 and "store.partial: another process works there" in message
        assert "\n" not in message.strip()
        assert not store.exists() and not list((tmp_path / "store.partial").iterdir())
    assert phase0(*argv)[0] == 0 and store.exists() and not (tmp_path / "store.partial").exists()


def test_a_folder_that_is_no_store_is_neither_replaced_nor_touched(tmp_path):
    raw = write_ntu(tmp_path / "raw", names(2))
    files = {p: p.read_bytes() for p in raw.iterdir()}
    code, message = phase0("recipe=ntu60", f"raw={raw}", f"data.store={raw}")
    assert code == 2 and "is not a clip store" in message and files == {p: p.read_bytes() for p in raw.iterdir()}


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    raw = write_ntu(tmp_path / "raw", names(2))
    (tmp_path / "file").write_text("")
    code, message = phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / 'file' / 'store'}")
    assert code == 2 and "file" in message


@pytest.mark.parametrize("args, expected", [
    (["recipe=ntu60"], "raw="), (["recipe=ntu60", "raw=/nowhere/at/all"], "no such file"),
    (["recipe=ntu61", "raw=."], "ntu60"),
    (["recipe=ntu60", "raw=.", "data.protocols.x={field='nose', train=[1]}"], "nose"),
    (["recipe=ntu60", "raw=.", "data.protocols.x={field='subject'}"], "train"),
])
def test_bad_arguments_are_one_line_that_names_them(tmp_path, args, expected):
    code, message = phase0(*args, f"data.store={tmp_path / 'store'}")
    assert code == 2 and expected in message and not list(tmp_path.iterdir())


def test_the_program_itself_exits_with_2_and_one_line(tmp_path):
    command = [sys.executable, "-m", "phases.p0_preprocess", "recipe=ntu60", "raw=/nowhere"]
    p = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert p.returncode == 2 and p.stdout == "" and len(p.stderr.splitlines()) == 1 and p.stderr.startswith("error: ")


def test_reading_a_clip_needs_no_torch():
    code = "import sys, phases.p0_preprocess; assert 'torch' not in sys.modules and 'tqdm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("argv", ["out=stores/x", "train.epochs=5", "device=cpu"])
def test_what_phase_0_does_not_use_is_refused(tmp_path, argv):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    code, message = phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}", argv)
    assert code == 2 and f"{argv}: phase 0 does not use it" in message and not (tmp_path / "store").exists()


@pytest.mark.parametrize("argument, expected", [
    ('data.protocols={xsub={field="subject",train=["1"]}}', "must be a list of whole numbers"),
    ('data.protocols={xsub={field="subject",train=[1,2],test=[2,3]}}', "subject 2 stands on both sides"),
    ("data.name=ntu60", "is the default: give your")])
def test_a_protocol_or_a_name_that_would_mislead_is_refused(tmp_path, argument, expected):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    code, message = phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}", argument)
    assert code == 2 and expected in message


def test_joints_in_millimetres_are_asked_about(tmp_path, capsys):
    x = 1000 * np.random.default_rng(0).normal(size=(4, 20, 3))
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=x)
    assert phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}")[0] == 0
    assert "data.unit=mm" in capsys.readouterr().err


def test_a_skeleton_that_is_not_the_recipes_is_refused(tmp_path):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    code, message = phase0(*OWN, "data.skeleton=ntu25", f"raw={raw}", f"data.store={tmp_path / 'store'}")
    assert code == 2 and "ntu25" in message and "kinect20" in message
