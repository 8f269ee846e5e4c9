"""Phase 0: a malformed file is named and the rest is stored, a killed run continues, bad arguments are one line."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from phases.common.command import fields_of
from phases.common.files import locked
from phases.common.protocols import NTU_CLASSES
from phases.p0_preprocess import OTHERS, Bodies, Phase0
from phases.recordings import ntu_shards
from phases.training.recipe import Config
from phases.training.settings import View
from tests.helpers.clip_stores import ROOT, latest
from tests.helpers.recordings import OWN, clips, contents, names, ntu_text, own_folder, phase0, skips, walker, write_ntu


def test_malformed_files_are_named_and_the_rest_is_stored(tmp_path, capsys):
    raw = write_ntu(tmp_path / "raw", names(6))
    first, second, third, fourth, *_ = sorted(p.name for p in raw.iterdir())

    # cut, empty, without a body, of another name, a second one of a name
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

    # and on standard error
    printed = capsys.readouterr().err
    assert all(Path(name).stem in printed for name in told) and "line 40" in printed


def test_unusable_samples_and_those_of_ntu120_are_left_out(tmp_path):
    unusable = (ROOT / "recipes" / "ntu-missing.txt").read_text().split()[:2]
    raw = write_ntu(tmp_path / "raw", [*names(3), *unusable, "S018C001P008R001A061", "S001C001P041R001A001"])

    assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / 's60'}")[0] == 0
    assert phase0("recipe=ntu120", f"raw={raw}", f"data.store={tmp_path / 's120'}")[0] == 0
    assert sorted(clips(tmp_path / "s60")) == sorted(names(3)) and len(clips(tmp_path / "s120")) == 5
    assert contents(tmp_path / "s60")[2]["left_out"] == 2


ACTIONS = [f"S001C001P{person:03d}R001A{action:03d}" for person in (1, 2) for action in (2, 5, 9)]
OF_ACTIONS = ("data.name=mine", "data.reader=ntu", "data.split=given")


def test_actions_without_a_file_of_ntus_text_are_left_out(tmp_path, capsys):
    raw = write_ntu(tmp_path / "raw", ACTIONS)
    code, _ = phase0("recipe=ntu60", *OF_ACTIONS, "data.num_classes=3", f"raw={raw}", f"data.store={tmp_path / 's'}")
    assert code == 0 and "no file of 6 actions up to A009: the 3 others" in capsys.readouterr().err
    _, table, meta = contents(tmp_path / "s")
    assert meta["classes"] == ["A002", "A005", "A009"]
    assert dict(zip(table["name"], table["label"], strict=True)) == dict(zip(ACTIONS, [0, 1, 2] * 2, strict=True))

    # all up to the last, if the recipe counts them so: reported, too
    phase0("recipe=ntu60", *OF_ACTIONS, "data.num_classes=9", f"raw={raw}", f"data.store={tmp_path / 'all'}")
    assert "no clip of 6 of 9 classes (A001, A003, A004, ...)" in capsys.readouterr().err
    assert set(contents(tmp_path / "all")[1]["label"]) == {1, 4, 8}


@pytest.mark.parametrize("listed, classes", [
    ("abc", ["a", "b", "c"]), ("abcdefghi", ["b", "e", "i"]), ("abcd", None)])
def test_listed_names_go_to_the_actions_of_ntus_text(tmp_path, listed, classes):
    raw = write_ntu(tmp_path / "raw", ACTIONS)
    (raw / "skeleton.json").write_text(json.dumps({"classes": list(listed)}))
    code, error = phase0("recipe=ntu60", *OF_ACTIONS, "data.num_classes=3", f"raw={raw}",
                         f"data.store={tmp_path / 's'}")
    if classes:
        assert code == 0 and contents(tmp_path / "s")[2]["classes"] == classes
    else:
        assert code == 2 and "names 4 classes, and has files of 3 actions, A002 to A009" in error


def test_a_public_data_set_keeps_its_names_for_some_actions(tmp_path):
    raw = write_ntu(tmp_path / "raw", ACTIONS)
    phase0("recipe=ntu60", "data.num_classes=3", f"raw={raw}", f"data.store={tmp_path / 's'}")
    assert contents(tmp_path / "s")[2]["classes"] == [NTU_CLASSES[k] for k in (1, 4, 8)]


def test_two_processes_store_what_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(ntu_shards, "SHARD", 2)
    raw = write_ntu(tmp_path / "raw", names(5))
    (raw / f"{names(1)[0]}.skeleton").write_text("1\n1\n")
    for n in (1, 2):
        assert phase0("recipe=ntu60", f"raw={raw}", f"data.store={tmp_path / str(n)}", f"data.workers={n}")[0] == 3
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def write_five_shards(folder: Path) -> Path:
    """A folder of 1,100 .skeleton files."""
    folder.mkdir()
    texts = [ntu_text(walker(6, i)) for i in range(8)]
    for i in range(1100):
        (folder / f"S001C001P{1 + i // 60:03d}R001A{1 + i % 60:03d}.skeleton").write_bytes(texts[i % 8])
    return folder


def test_a_killed_run_leaves_no_half_store_and_is_continued(tmp_path):
    raw = write_five_shards(tmp_path / "raw")
    reference = tmp_path / "reference"
    assert phase0("recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={reference}")[0] == 0

    # killed when some shards are finished
    store = tmp_path / "store"
    partial = store.with_name("store.partial")
    command = [sys.executable, "-m", "phases.p0_preprocess", "recipe=ntu60", f"raw={raw}", "data.workers=2",
               f"data.store={store}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(partial.glob("shard-*.npz")):
        assert killed.poll() is None, "ended before it could be killed"
        time.sleep(0.005)
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children")
    workers = children.read_text().split() if children.exists() else []
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not store.exists()

    # its workers end, too
    deadline = time.monotonic() + 10
    while any(Path("/proc", w).exists() for w in workers):
        assert time.monotonic() < deadline, "the workers of a killed run live on"
        time.sleep(0.05)
    done = {p: p.stat().st_mtime_ns for p in partial.glob("shard-*.npz")}
    assert 0 < len(done) < 5

    # the next run parses the others
    parse = ntu_shards.parse_shard
    parsed = []

    def parse_and_note(job: ntu_shards.Job) -> int:
        parsed.append(job.path)
        return parse(job)

    with mock.patch.object(ntu_shards, "parse_shard", parse_and_note):
        assert phase0("recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}")[0] == 0
    assert len(parsed) + len(done) == 5 and not set(parsed) & set(done), "finished shards are not parsed again"
    assert contents(store) == contents(reference)
    assert not partial.exists()


def test_a_second_phase_0_on_one_store_is_turned_away(tmp_path):
    raw = write_ntu(tmp_path / "raw", names(4))
    store = tmp_path / "store"
    argv = "recipe=ntu60", f"raw={raw}", "data.workers=1", f"data.store={store}"
    with locked(tmp_path / "store.partial"):
        code, message = phase0(*argv)
        assert code == 2 and "store.partial" in message
        assert not store.exists() and not list((tmp_path / "store.partial").iterdir())
    assert phase0(*argv)[0] == 0 and store.exists() and not (tmp_path / "store.partial").exists()


def test_a_folder_that_is_no_store_is_not_touched(tmp_path):
    raw = write_ntu(tmp_path / "raw", names(2))
    files = {p: p.read_bytes() for p in raw.iterdir()}
    code, message = phase0("recipe=ntu60", f"raw={raw}", f"data.store={raw}")
    assert code == 2 and "data.store" in message and files == {p: p.read_bytes() for p in raw.iterdir()}


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
    assert (p.returncode, p.stdout) == (2, "") and p.stderr == "error: raw = '/nowhere': no such file or folder\n"


@pytest.mark.parametrize("module, heavy", [
    ("phases.recordings.readers", ["torch", "tqdm"]), ("phases.p0_preprocess", ["torch"])])
def test_readers_and_phase_0_load_no_torch(module, heavy):
    code = f"import sys, {module}; assert not set({heavy}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("argv", ["out=stores/x", "train.epochs=5", "device=cpu", "view.frames=16", "dta.up=z"])
def test_what_phase_0_does_not_use_is_refused(tmp_path, argv):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    code, message = phase0(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}", argv)
    assert code == 2 and argv in message and not (tmp_path / "store").exists()


def test_phase_0_checks_what_it_reads_as_the_whole_recipe_is():
    ours, whole = fields_of(Phase0), fields_of(Config)
    assert ours.keys() | set(OTHERS) == whole.keys() and not ours.keys() & set(OTHERS)
    assert all(ours[key] == whole[key] for key in ("recipe", "raw", "seed", "data"))
    assert fields_of(Bodies)["bodies"] == fields_of(View)["bodies"]


@pytest.mark.parametrize("wrong, field", [
    ("data.unitt=cm", "data.unitt"), ("data.unit=inch", "data.unit"), ("data.num_classes=many", "data.num_classes"),
    ("data.num_classes=1", "data.num_classes"), ("data.min_score=-1", "data.min_score"), ("data.up=x", "data.up"),
    ("data.skeleton=ntu52", "data.skeleton"), ("data.leaked=[a]", "data.leaked"),
    ("seed=-1", "seed"), ("seed=one", "seed"), ("raw=2024", "raw"), ("view.bodies=3", "view.bodies"),
    ("view.bodies=true", "view.bodies")])
def test_a_wrong_setting_is_refused_by_its_name(tmp_path, monkeypatch, wrong, field):
    monkeypatch.chdir(tmp_path)
    code, message = phase0("recipe=ntu60", wrong)
    assert code == 2 and message.removeprefix("unknown key ").startswith(field) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("lines, field", [
    ('[data]\nname = "mine"\nunitt = "cm"', "data.unitt"), ("[dta]\nup = 'z'", "dta"), ("epochs = 3", "epochs"),
    ("view = 3", "view"), ("[view]\nbodies = 0", "view.bodies"), ("data = 3", "data")])
def test_a_wrong_line_of_a_recipe_file_is_refused(tmp_path, lines, field):
    (tmp_path / "mine.toml").write_text(f'extends = "lite_nano"\n{lines}\n')
    code, message = phase0(f"recipe={tmp_path / 'mine.toml'}", "raw=.")
    assert code == 2 and message.removeprefix("unknown key ").startswith(field)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize("argument, expected", [
    ('data.protocols={xsub={field="subject",train=["1"]}}', "data.protocols.xsub.train"),
    ('data.protocols={xsub={field="subject",train=[1,2],test=[2,3]}}', "data.protocols.xsub: subject 2"),
    ("data.name=ntu60", "data.name")])
def test_a_protocol_or_a_name_that_would_mislead_is_refused(tmp_path, argument, expected):
    raw = own_folder(tmp_path / "raw", "name,label\na,wave\n", a=np.ones((4, 20, 3)))
    code, message = phase0(*latest(*OWN, f"raw={raw}", f"data.store={tmp_path / 'store'}", argument))
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
