"""`just ablation` with real runs: finished rows are skipped, interrupted ones resume, a failing row stops no other."""
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import ablation
import pytest
from conftest import write_store
from recipe import ROOT, Config, load_config

OVER = ["data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "model.variant=nano", "train.batch=12",
        "train.epochs=40", "train.warmup_epochs=1", "train.lr=0.02"]
ROWS = "rows=L0,L1,L2"


def folder(row: str) -> Path:
    return Path(f"runs/{row}/tiny-xsub/seed0")


def call(argv: list[str]) -> tuple[int, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        return ablation.main(argv), out.getvalue()


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Three calls on three rows: interrupted in row one; again, with row two damaged; again, with row two repaired.

    Gives (exit code, standard output) of each call, L0's metrics and log at the interrupt, and the arguments.
    """
    with pytest.MonkeyPatch.context() as m:
        m.chdir(tmp_path_factory.mktemp("ablation"))
        store = write_store(Path("stores/tiny"), clips=12, bodies=1)
        argv = [ROWS, *OVER, f"data.store={store}"]
        # a test run in the background ignores SIGINT, and its children would inherit that
        calls, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)
        command = [sys.executable, str(ROOT / "phases" / "ablation.py"), *argv]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as p:
            while not (folder("L0") / "last.pt").exists() and p.poll() is None:
                time.sleep(0.02)
            os.kill(p.pid, signal.SIGTERM)
            calls.append((p.wait(120), p.stdout.read()))
        signal.signal(signal.SIGINT, before)
        cut, log = ((folder("L0") / name).read_text() for name in ("metrics.jsonl", "log.txt"))
        folder("L1").mkdir(parents=True)
        (folder("L1") / "last.pt").write_bytes(b"torn")
        calls.append(call(argv))
        (folder("L1") / "last.pt").unlink()
        assert not (folder("L1") / "recipe.json").exists(), "a run that was refused has written nothing"
        calls.append(call(argv))
        yield SimpleNamespace(calls=calls, cut=cut, log=log, argv=argv)


def test_an_interrupt_ends_the_run_under_way_and_the_exit_code_is_130(told):
    code, out = told.calls[0]
    assert code == 130 and "L0 seed0: run" in out and "L1" not in out
    assert told.log.splitlines()[-1].startswith("interrupted")  # the signal reached the run


def test_a_row_that_was_cut_goes_on_where_it_was(told):
    assert 0 < len(told.cut.splitlines()) < 40 and "[1/3] L0 seed0: resume" in told.calls[1][1]
    lines = (folder("L0") / "metrics.jsonl").read_text()
    done = "".join(told.cut.splitlines(keepends=True)[:-1])
    assert lines.startswith(done) and len(lines.splitlines()) == 40  # same seconds: these epochs were not run again
    assert (folder("L0") / "log.txt").read_text().count("p1_train.py recipe=L0") == 2


def test_a_failing_row_stops_no_other_and_is_named_with_its_last_line(told):
    code, out = told.calls[1]
    assert code == 1 and out.splitlines()[-1] == "2 done, 0 skipped, 1 failed"
    failed = [line for line in out.splitlines() if line.startswith("failed")]
    assert len(failed) == 1 and "L1 seed0: error:" in failed[0] and "last.pt is damaged" in failed[0]
    assert (folder("L2") / "result.json").exists()
    assert not json.loads((folder("L2") / "recipe.json").read_text())["model"]["joint_embedding"]


def test_what_is_done_is_skipped_and_what_failed_is_run_again(told):
    code, out = told.calls[2]
    assert code == 0 and [line.split("  ")[0] for line in out.splitlines() if line.startswith("[")] == [
        "[1/3] L0 seed0: done", "[2/3] L1 seed0: run", "[3/3] L2 seed0: done"]
    assert out.splitlines()[-1] == "1 done, 2 skipped, 0 failed"
    assert (folder("L0") / "log.txt").read_text().count("p1_train.py") == 2
    assert f"top-1 {json.loads((folder('L1') / 'result.json').read_text())['top1']:.1f}" in out


def test_a_dry_run_says_everything_and_does_nothing(told, capsys):
    before = sorted(Path("runs").rglob("*"))
    assert ablation.main([*told.argv, "dry=true", "train.epochs=3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 3
    assert "p1_train.py recipe=L2 data.name=tiny" in out[2] and out[2].endswith("train.epochs=3 seed=0")
    assert ": done" not in "".join(out)  # the results there are of another recipe
    assert sorted(Path("runs").rglob("*")) == before


# --- the command line ---

def test_rows_are_groups_or_names_each_once_in_order():
    rows, seeds, passed, dry = ablation.parse(["rows=L5,P,P1", "train.epochs=1", "seeds=2,0,2", "data=nw_ucla"])
    assert rows[:4] == ["L5", "P0", "P1", "P2"] and len(set(rows)) == len(rows)
    assert seeds == ["2", "0"] and passed == ["train.epochs=1", "data=nw_ucla"] and not dry
    every = ablation.parse(["rows=all"])[0]
    assert set(ablation.parse(["rows=L"])[0]) < set(every)
    assert every.index("L2") < every.index("L9") < every.index("P0")
    assert all((ROOT / "recipes" / f"{row}.toml").exists() for row in every)


def test_the_second_seed_begins_when_every_row_has_the_first(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ablation.main(["rows=L0,P3", "seeds=4,7", "dry=true"]) == 0
    assert [line.split()[1:3] for line in capsys.readouterr().out.splitlines()] == [
        ["L0", "seed4:"], ["P3", "seed4:"], ["L0", "seed7:"], ["P3", "seed7:"]]


@pytest.mark.parametrize("argv, words", [
    (["rows=L55"], "did you mean 'L5'?"), ([], "no such row"), (["rows=L0", "seeds=a"], "must be integers"),
    (["rows=L0", "seed=1", "seeds=2"], "one of them"),
    (["rows=L", "train.epoch=3"], "did you mean 'epochs'?"),
    (["rows=L0", "dry=yes"], "true or false"), (["rows=L0", "recipe=L1"], "rows="),
    (["rows=L0", "data=nw_ulca"], "did you mean 'nw_ucla'?"), (["L0"], "key=value")])
def test_bad_input_is_one_line_and_nothing_is_written(argv, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as e:
        ablation.main(argv)
    assert words in str(e.value) and "\n" not in str(e.value) and list(tmp_path.iterdir()) == []


def test_a_recipe_with_a_teacher_goes_to_phase_2_and_others_to_phase_1():
    plain = ablation.program(load_config(["recipe=L5"]))
    assert plain.name == "p1_train.py" and plain.exists()
    for teacher, name in (("runs/base", "p2_distill.py"), ((), "p1_train.py")):
        assert ablation.program(SimpleNamespace(distil=SimpleNamespace(teacher=teacher))).name == name


def test_an_unreadable_or_other_recipe_is_not_done(tmp_path):
    cfg = Config(recipe="L0", out=str(tmp_path))
    cfg.run.mkdir(parents=True)
    (cfg.run / "result.json").write_text("{}")
    assert not ablation.is_done(cfg)
    (cfg.run / "recipe.json").write_text("{")
    assert not ablation.is_done(cfg)
