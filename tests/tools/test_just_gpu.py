"""`just gpu`: steps in order, none twice, within the minutes given; what comes home."""
import os
import tarfile
import time
from pathlib import Path

import pytest
import torch

from phases import ablation
from phases.common.command import exit_code, parse_known
from phases.training.recipe import load_config
from tests.tools import gpu
from tests.tools.gpu import STEPS, Step


def run_gpu(*words: str) -> int:
    """The exit code of `just gpu` with these words; an error is a line on standard error."""
    return exit_code(lambda: gpu.main(*parse_known(gpu.Options, list(words))), "")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty project, and steps that append their name to a file."""
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "has_gpu", lambda: True)

    def steps(**codes: str) -> None:
        write = "open('order', 'a').write('{} '); {}"
        made = [Step(name, (f'-c "{write.format(name, code)}"',), ()) for name, code in codes.items()]
        monkeypatch.setattr(gpu, "STEPS", made)
    return tmp_path, steps


def test_no_step_is_repeated_and_a_failure_stops_no_other(here):
    folder, steps = here
    steps(a="1", b="import sys; sys.exit(3)", c="1")
    assert run_gpu() == 1 and (folder / "order").read_text() == "a b c "
    steps(a="1", b="1", c="1")
    assert run_gpu() == 0 and (folder / "order").read_text() == "a b c b "
    assert run_gpu("steps=c") == 0 and (folder / "order").read_text() == "a b c b "


def test_minutes_are_kept_and_the_same_command_goes_on(here, monkeypatch):
    monkeypatch.setattr(gpu, "STOP", 2.0)
    folder, steps = here
    steps(a="import time; time.sleep(60)", b="1")
    started = time.monotonic()
    assert run_gpu("minutes=0.15") == 1 and time.monotonic() - started < 9 + 2  # and what pack() takes
    assert (folder / "order").read_text() == "a "  # no time is left for b
    steps(a="1", b="1")
    assert run_gpu() == 0 and (folder / "order").read_text() == "a a b "


def ended(pid: int) -> bool:
    """Whether a process is gone, or dead and not yet collected, within five seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if ") Z" in Path(f"/proc/{pid}/stat").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_an_interrupted_step_ends_with_all_its_processes(here, monkeypatch):
    monkeypatch.setattr(gpu, "STOP", 2.0)
    folder, _ = here
    first = ("import os, signal, sys, time; open('pid', 'w').write(str(os.getpid())); signal.signal(2, {}); "
             "time.sleep(60)")
    second = "-c \"open('second', 'w')\""
    for handler in ("lambda *_: sys.exit(130)", "signal.SIG_IGN"):  # as the ablation ends; one that does not listen
        monkeypatch.setattr(gpu, "STEPS", [Step("a", (f'-c "{first.format(handler)}"', second), ())])
        assert run_gpu("minutes=0.15") == 1 and not (folder / "second").exists()
        assert ended(int((folder / "pid").read_text()))


def test_a_missing_store_is_named_before_anything_starts(here, monkeypatch, capsys):
    folder, _ = here
    monkeypatch.setattr(gpu, "STEPS", STEPS)
    assert run_gpu("steps=bench,teacher") == 2 and "recipe=nw_ucla" in capsys.readouterr().err
    assert not (folder / "build").exists()


def test_results_logs_and_weights_come_home_after_each_step(here):
    folder, steps = here
    for recipe, size in (("base", 1 << 21), ("lite_nano", 10), ("B0", 10)):
        run = folder / "runs" / recipe / "tiny-xsub" / "seed0"
        run.mkdir(parents=True)
        (run / "recipe.json").write_text("{}")
        (run / "metrics.jsonl").write_text("")
        torch.save({"model": {"w": torch.ones(size), "n": torch.ones(2, dtype=torch.long)}}, run / "final.pt")
    for recipe, name in (("base", "result.json"), ("base", "log.txt"), ("failed", "log.txt")):
        path = folder / "runs" / recipe / "tiny-xsub" / "seed0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    steps(a="print('hello')")
    assert run_gpu() == 0
    with tarfile.open(folder / "build" / "gpu" / "results.tar") as tar:
        assert {"a.log", "runs/B0/tiny-xsub/seed0/recipe.json", "runs/base/tiny-xsub/seed0/metrics.jsonl"} <= set(
            tar.getnames())
        assert tar.extractfile("a.log").read() == b"hello\n"
        assert [name for name in tar.getnames() if "log.txt" in name] == ["runs/failed/tiny-xsub/seed0/log.txt"]
    assert not list((folder / "build" / "gpu").glob("*.log")), "few files come home"
    with tarfile.open(folder / "build" / "gpu" / "students.tar") as tar:
        assert tar.getnames() == ["runs/lite_nano/tiny-xsub/seed0/final.pt"]
    state = torch.load(folder / "build" / "gpu" / "weights-base-tiny-xsub-seed0.pt", weights_only=True)["model"]
    assert state["w"].dtype == torch.half and state["n"].dtype == torch.long
    assert (folder / "build" / "gpu" / "weights-base-tiny-xsub-seed0.pt").stat().st_size < gpu.MOST


@pytest.mark.parametrize("argv, word", [(["minuets=3"], "minuets"), (["steps=teachers"], "teacher"), (["x"], "'x'"),
                                        (["minutes=ten"], "minutes"), (["tiny=yes"], "tiny")])
def test_a_wrong_word_is_one_line(here, capsys, argv, word):
    assert run_gpu(*argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("error:") and word in err and err.count("\n") == 1


def test_without_a_gpu_it_says_how_to_rehearse(here, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    assert run_gpu() == 2 and "tiny=true" in capsys.readouterr().err and not (here[0] / "build").exists()


@pytest.mark.parametrize("tiny", [False, True])
def test_every_training_of_every_step_is_a_valid_command(tiny):
    commands = [(step, c) for step in STEPS for c in step.commands if c.startswith(gpu.ABLATION)]
    assert len(commands) > 8
    for step, command in commands:
        _, _, program, *words = gpu.words_of(command, step, tiny, ["train.epochs=3"])
        assert program == "phases.ablation"
        options, recipe = parse_known(ablation.Options, words)
        for row in ablation.named_rows(options.rows):
            assert load_config([f"recipe={row}", *recipe]).train.epochs == (1 if tiny else 3)
