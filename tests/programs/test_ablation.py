"""`just ablation` with real runs: finished rows are skipped, interrupted ones resume, a failing row stops no other."""
import contextlib
import dataclasses
import io
import itertools
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from last import load_checkpoint
from phases import ablation, p1_train
from phases.common.command import parse, parse_known
from phases.common.files import ROOT
from phases.training import jobs
from phases.training.recipe import Config, load_config
from tests.helpers.clip_stores import latest, write_store
from tests.helpers.programs import call

OVER = ["data.name=tiny", "data.num_classes=3", "view.frames=8", "device=cpu", "model.variant=nano", "train.batch=12",
        "train.epochs=60", "train.warmup_epochs=1", "train.lr=0.02"]


def folder(row: str) -> Path:
    return Path(f"runs/{row}/tiny-xsub/seed0")


def epochs(row: str) -> int:
    log = folder(row) / "metrics.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def answer(argv: list[str]) -> tuple[int, str]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        return call(ablation, *argv), out.getvalue()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "final.pt")["model"]


def same(a: Path, b: Path) -> bool:
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Two rows, uninterrupted, in this process; then three calls of `just ablation` on the same rows.

    The first runs them side by side: L0 is killed, then Ctrl-C ends all. The second finds L0 damaged, the third finds
    it repaired. Gives (exit code, standard output) of each call, L0's metrics and L1's log after the first, and the
    arguments.
    """
    with pytest.MonkeyPatch.context() as m:
        m.chdir(tmp_path_factory.mktemp("ablation"))
        store = write_store(Path("stores/tiny"), clips=12, bodies=1)
        argv = ["rows=L0,L1", *OVER, f"data.store={store}"]
        m.setenv("OMP_NUM_THREADS", "1")
        for row in ("L0", "L1"):
            p1_train.main([f"recipe={row}", *argv[1:], "out=whole"])
        command, out = [sys.executable, "-m", "phases.ablation", *argv, "jobs=2"], []
        # a test run in the background ignores SIGINT, and its children would inherit that
        before = signal.signal(signal.SIGINT, signal.default_int_handler)

        # the first call: L0 is killed, L1 takes a step more, Ctrl-C
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as p:
            while p.poll() is None and not (folder("L0") / "last.pt").exists():
                time.sleep(0.02)
            subprocess.run(["pkill", "-KILL", "-P", str(p.pid), "-f", "recipe=L0"], check=True)
            while p.poll() is None and "killed" not in "".join(out):
                out.append(p.stdout.readline())
            at = epochs("L1")
            while p.poll() is None and not (epochs("L1") > at and (folder("L1") / "last.pt").exists()):
                time.sleep(0.02)
            os.kill(p.pid, signal.SIGINT)
            code = p.wait(120)
            out.append(p.stdout.read())
        signal.signal(signal.SIGINT, before)
        calls = [(code, "".join(out))]

        # the second and the third
        cut, log = (folder("L0") / "metrics.jsonl").read_text(), (folder("L1") / "log.txt").read_text()
        last = folder("L0") / "last.pt"
        whole = last.read_bytes()
        last.write_bytes(b"torn")
        calls.append(answer([*argv, "jobs=2"]))
        assert (folder("L0") / "metrics.jsonl").read_text() == cut, "a run that was refused has written nothing"
        last.write_bytes(whole)
        calls.append(answer(argv))
        yield SimpleNamespace(calls=calls, cut=cut, log=log, argv=argv)


def test_a_killed_member_stops_no_other_and_is_named(told):
    out = told.calls[0][1]
    assert "[1/2] L0 seed0: killed by SIGKILL" in out and "top-1" not in out  # L1 took a step after that


def test_an_interrupt_ends_all_members_with_exit_code_130(told):
    assert told.calls[0][0] == 130 and told.log.splitlines()[-1].startswith("interrupted")


def test_sigterm_and_sighup_of_the_program_are_an_interrupt_too(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ablation.py", "rows=L0", "dry=true"])
    monkeypatch.delitem(sys.modules, "phases.ablation")  # as in a new process
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(SystemExit, match="0"):
            runpy.run_module("phases.ablation", run_name="__main__", alter_sys=True)
        assert all(signal.getsignal(number) == signal.default_int_handler for number in before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_failing_row_stops_no_other_and_is_named(told):
    code, out = told.calls[1]
    assert code == 1 and out.splitlines()[-1] == "1 done, 0 skipped, 1 failed"
    failed = [line for line in out.splitlines() if line.startswith("failed")]
    assert len(failed) == 1 and "L0 seed0: error:" in failed[0] and "last.pt is damaged" in failed[0]
    assert "[2/2] L1 seed0: resume" in out and (folder("L1") / "result.json").exists()
    assert json.loads((folder("L1") / "recipe.json").read_text())["model"]["joint_embedding"]


def test_a_row_that_was_cut_goes_on_where_it_was(told):
    assert 0 < len(told.cut.splitlines()) < 60 and "[1/2] L0 seed0: resume" in told.calls[2][1]
    lines = (folder("L0") / "metrics.jsonl").read_text()
    done = "".join(told.cut.splitlines(keepends=True)[:-1])
    assert lines.startswith(done) and len(lines.splitlines()) == 60  # same seconds: these epochs were not run again
    assert (folder("L0") / "log.txt").read_text().count("p1_train recipe=L0") == 3


def test_what_is_done_is_skipped_and_what_failed_is_run_again(told):
    code, out = told.calls[2]
    started = [line.split("  ")[0] for line in out.splitlines() if line.startswith("[") and "top-1" not in line]
    assert code == 0 and started == ["[1/2] L0 seed0: resume", "[2/2] L1 seed0: done"]
    assert out.splitlines()[-1] == "1 done, 1 skipped, 0 failed"
    assert (folder("L1") / "log.txt").read_text().count("p1_train") == 2
    assert f"top-1 {json.loads((folder('L0') / 'result.json').read_text())['top1']:.1f}" in out


def test_rows_that_were_cut_have_the_weights_of_uncut_ones(told):
    for row in ("L0", "L1"):
        assert same(folder(row), Path("whole") / folder(row).relative_to("runs"))


def test_a_dry_run_says_everything_and_does_nothing(told, capsys):
    before = sorted(Path("runs").rglob("*"))
    assert call(ablation, *latest(*told.argv, "dry=true", "train.epochs=3")) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[2] == "2 trainings to run, 2 of them from where they were cut, 0 done"
    assert out[3].startswith("time of 2 unknown")
    assert "p1_train recipe=L1 data.name=tiny" in out[1] and "train.epochs=3" in out[1] and out[1].endswith("seed=0")
    assert ": done" not in "".join(out)  # the results there are of another recipe
    assert sorted(Path("runs").rglob("*")) == before


# --- the command line ---

def rows_of(text: str) -> list[str]:
    return ablation.named_rows(parse(ablation.Options, [f"rows={text}"]).rows)


def test_rows_are_groups_or_names_each_once_in_order():
    rows = rows_of("L5,P,P1")
    assert rows[:4] == ["L5", "P0", "P1", "P2"] and len(set(rows)) == len(rows)
    assert rows_of("lite_nano,L0,B0_narrow") == ["lite_nano", "L0", "B0_narrow"], "any recipe"
    every = rows_of("all")
    assert set(rows_of("L")) < set(every)
    assert every.index("L2") < every.index("L9") < every.index("P0")
    assert all((ROOT / "recipes" / f"{row}.toml").exists() for row in every)


def test_words_that_are_no_options_go_to_every_run():
    given = ["rows=L0", "train.epochs=1", "seeds=2,0,2", "data=nw_ucla", "jobs=3"]
    options, words = parse_known(ablation.Options, given)
    assert words == ["train.epochs=1", "data=nw_ucla"] and options.jobs == 3 and not options.dry
    runs, failed = ablation.planned_runs(options, words)
    assert [run.args for run in runs] == [["recipe=L0", *words, f"seed={seed}"] for seed in (2, 0)] and not failed
    single, _ = ablation.planned_runs(parse(ablation.Options, ["rows=L0", "seed=4"]), [])
    assert [run.name for run in single] == ["L0 seed4"]


def test_the_second_seed_begins_when_every_row_has_the_first(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(ablation, "rows=L0,P3", "seeds=4,7", "dry=true") == 0
    assert [line.split()[1:3] for line in capsys.readouterr().out.splitlines() if line[0] == "["] == [
        ["L0", "seed4:"], ["P3", "seed4:"], ["L0", "seed7:"], ["P3", "seed7:"]]


@pytest.mark.parametrize("argv, words", [
    (["rows=L55"], "did you mean 'L5'?"), ([], "no rows: give rows="), (["rows=,"], "no rows: give rows="),
    (["rows=L0", "seeds=a"], "a list of integers"),
    (["rows=L0", "seed=1", "seeds=2"], "one of them"),
    (["rows=L", "train.epoch=3"], "did you mean 'epochs'?"),
    (["rows=L0", "jobs=0"], "jobs = 0: must lie in 1 to"), (["rows=L0", "jobs=two"], "an integer"),
    (["rows=L0", "dry=yes"], "true or false"), (["rows=L0", "recipe=L1"], "rows="),
    (["rows=L0", "data=nw_ulca"], "did you mean 'nw_ucla'?"), (["L0"], "key=value")])
def test_bad_input_is_one_line_and_nothing_is_written(argv, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as e:
        call(ablation, *argv)
    assert words in str(e.value) and "\n" not in str(e.value) and list(tmp_path.iterdir()) == []


def test_the_phase_of_a_recipe_is_read_from_its_fields():
    for argv, name in ((["recipe=L5"], "p1_train"), (["recipe=L11"], "p2_distill"),
                       (["recipe=L5", "distil.teacher=runs/base"], "p2_distill"),
                       (["recipe=maskclr_nano"], "p3_maskclr")):
        assert jobs.program(load_config(argv)) == name and (ROOT / "phases" / f"{name}.py").exists()


def test_an_unreadable_or_other_recipe_is_not_done(tmp_path):
    cfg = Config(recipe="L0", out=str(tmp_path))
    cfg.run.mkdir(parents=True)
    (cfg.run / "result.json").write_text("{}")
    assert not jobs.is_done(cfg)
    for text in ("{", "[]", '{"view": {"shear": 0.1}}'):
        (cfg.run / "recipe.json").write_text(text)
        assert not jobs.is_done(cfg)


def test_a_run_without_its_weights_is_not_done(tmp_path):
    for cfg, done in ((Config(recipe="L0", out=str(tmp_path)), False),
                      (Config(recipe="base", streams="all", out=str(tmp_path)), True)):
        cfg.run.mkdir(parents=True)
        (cfg.run / "recipe.json").write_text(json.dumps(dataclasses.asdict(cfg)))
        (cfg.run / "result.json").write_text("{}")
        assert jobs.is_done(cfg) == done
        (cfg.run / "final.pt").touch()
        assert jobs.is_done(cfg)


# --- side by side ---

class Recorded(jobs.Job):
    """A job that notes when it starts and ends, in place of a process."""
    events: list[str] = []

    def __init__(self, run, threads, gpu):
        self.run = run
        self.gpu = gpu
        self.started = self.told = time.monotonic()
        self.turns = 0
        self.events.append(f"+{run.name}")
        self.child = SimpleNamespace(poll=self.poll)

    def poll(self):
        self.turns += 1
        if self.turns < 3:
            return None
        if self.turns == 3:
            self.events.append(f"-{self.run.name}")
        return 0

    def outcome(self):
        return "", "done"


@pytest.fixture
def events(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "Job", Recorded)
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
    Recorded.events = []
    return Recorded.events


def test_at_most_jobs_runs_are_under_way(events):
    assert call(ablation, "rows=L0,L1,L2,L3,L4", "jobs=2") == 0
    under_way = list(itertools.accumulate(1 if event[0] == "+" else -1 for event in events))
    assert max(under_way) == 2 and under_way[-1] == 0 and len(events) == 10


def test_a_student_waits_for_teachers_an_average_for_streams(events):
    assert call(ablation, "rows=L10,last_e", "jobs=8") == 0
    assert events.index("-last_e seed0") < events.index("+L10 seed0")
    events.clear()
    assert call(ablation, "rows=base", "streams=all", "jobs=8") == 0
    assert events[:4] == ["+base seed0", "+base-bone seed0", "+base-velocity seed0", "+base-bone_velocity seed0"]
    assert events.index("+base-all seed0") == 8


def test_a_run_waits_for_the_run_that_it_starts_from(events):
    assert call(ablation, "rows=L0,lite_nano", "init=lite_nano", "jobs=4") == 0
    assert events.index("-lite_nano seed0") < events.index("+L0 seed0")
    events.clear()
    assert call(ablation, "rows=L0,lite_nano", "init=runs/lite_nano/ntu60-xsub/seed0/final.pt", "jobs=4") == 0
    assert events.index("-lite_nano seed0") < events.index("+L0 seed0")


def test_pretraining_waits_for_the_runs_of_its_gate(events, capsys):
    assert call(ablation, "rows=maskclr_small,lite_small_base,base", "jobs=8") == 0
    assert events == ["+base seed0", "-base seed0", "+lite_small_base seed0", "-lite_small_base seed0",
                      "+maskclr_small seed0", "-maskclr_small seed0"]
    capsys.readouterr()
    assert call(ablation, "rows=maskclr_small,L0", "force=true", "dry=true") == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith("p3_maskclr recipe=maskclr_small seed=0 force=true") and "force" not in second


@pytest.mark.parametrize("lines, given", [('extends = "base"', ["streams=all"]),
                                          ('extends = "base"\nstreams = "all"', [])])
def test_the_streams_of_ones_own_recipe_are_runs_of_that_file(lines, given, events, tmp_path):
    (tmp_path / "mine.toml").write_text(f"# mine\n{lines}\n")
    runs = jobs.make_runs([f"recipe={tmp_path / 'mine.toml'}", *given])
    streams = ("", "-bone", "-velocity", "-bone_velocity", "-all")
    assert [run.cfg.run_name for run in runs] == [f"mine{stream}" for stream in streams]
    assert all(run.args[0] == f"recipe={tmp_path / 'mine.toml'}" for run in runs)
    assert all(load_config(run.args) == run.cfg for run in runs), "the words of a run give its recipe"


def test_a_stream_that_is_given_beside_all_streams_is_ignored():
    runs = jobs.make_runs(["recipe=base", "model.stream=bone", "streams=all", "seed=1"])
    streams = [run.cfg.model.stream for run in runs[:4]]
    assert streams == ["joint", "bone", "velocity", "bone_velocity"]
    assert runs[0].args == ["recipe=base", "seed=1"] and runs[1].args == ["recipe=base", "model.stream=bone", "seed=1"]


def test_a_run_that_moves_says_epoch_loss_and_time_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = jobs.Run("L0", [], Config(recipe="L0"), [])
    job = Recorded(run, 1, None)
    job.epochs, job.started = 2, time.monotonic() - 60
    run.cfg.run.mkdir(parents=True)
    log = run.cfg.run / "metrics.jsonl"
    log.write_text('{"epoch": 0, "loss": 2.0}\n{"epoch": 1, "loss": 1.5}\n')
    assert job.moves() == "", "both epochs are from before"
    log.write_text(log.read_text() + '{"epoch": 2, "loss": 1.25}\n')
    assert job.moves() == "epoch 3/120, loss 1.250, 117.0 min left"
    log.write_text(log.read_text() + '{"epoch": 3, "loss": 1.9}\n{"epoch": 4, "loss": 2.0}\n')
    assert job.moves().startswith("epoch 5/120, loss 2.000, 38.3 min left; the loss is back at 2: it was 1.25 after 3")


def test_gpus_take_turns(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(jobs.torch.cuda, "device_count", lambda: 2)
    at = [SimpleNamespace(gpu=0)]
    run = jobs.Run("L0", ["recipe=L0", "gpus=1"], Config(device="cuda"), [])
    assert [jobs.free_gpu(busy, run) for busy in ([], at, [*at, SimpleNamespace(gpu=1)])] == [0, 1, 0]
    for cfg in (Config(device="cuda", gpus=2), Config(device="cuda:1")):
        assert jobs.free_gpu([], jobs.Run("L0", [], cfg, [])) is None, "the phase picks its own"
    monkeypatch.setattr(jobs.torch.cuda, "device_count", lambda: 1)
    assert jobs.free_gpu([], run) is None, "one GPU is shared by all"


def test_an_error_is_told_though_another_process_logs_too(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("older error: of another start\n")
    job = object.__new__(jobs.Job)
    job.run, job.start = SimpleNamespace(log=log), log.stat().st_size
    with open(log, "a") as f:
        f.write('train: 40%|####   | 4/10\rtrain: 50%error: runs/x: another process works there\n{"top1": 83.3}\n')
    error = "error: runs/x: another process works there"
    for code, told in ((2, error), (-9, f"killed by SIGKILL after: {error}")):
        job.child = SimpleNamespace(returncode=code)
        assert job.outcome()[0] == told
