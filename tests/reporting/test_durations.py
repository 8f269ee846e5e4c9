"""How long trainings take, by earlier runs."""
import json

import pytest

from phases.reporting.durations import expected, outlook, span
from phases.reporting.measured import Results
from phases.training.jobs import make_runs


@pytest.fixture
def results(tmp_path, monkeypatch) -> Results:
    """Two runs of L0 on utd_mhad are known, of 2 and of 5 seconds per epoch; and one that tells no time."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results"
    folder.mkdir()
    runs = [{"seed": 0, "epochs": 25, "seconds": 50, "device": "a CPU"},
            {"seed": 1, "epochs": 10, "seconds": 50, "device": "a CPU"}, {"seed": 2, "epochs": 0, "seconds": None}]
    entry = {"recipe": "L0", "dataset": "utd_mhad", "split": "xsub", "runs": runs}
    (folder / "L0--utd_mhad-xsub.json").write_text(json.dumps(entry))
    return Results(folder)


def run_of(*words: str):
    return make_runs(["data=utd_mhad", "train.epochs=60", *words])[0]


def test_a_training_takes_its_epochs_of_earlier_seconds(results):
    found = expected(run_of("recipe=L0"), results)
    assert (found.low, found.high) == (120, 300) and found.file == "L0--utd_mhad-xsub.json"
    assert expected(run_of("recipe=L1"), results) is None, "another recipe"
    assert expected(run_of("recipe=L0", "data.name=mine"), results) is None, "another data set"


def test_a_cut_training_takes_the_epochs_that_are_left(results):
    run = run_of("recipe=L0")
    run.cfg.run.mkdir(parents=True)
    (run.cfg.run / "last.pt").touch()
    (run.cfg.run / "metrics.jsonl").write_text('{"epoch": 0}\n' * 50)
    assert run.state == "resume" and expected(run, results).high == 50


def test_the_outlook_counts_trainings_and_says_where_times_are_from(results):
    runs = [run_of("recipe=L0"), run_of("recipe=L0", "seed=1"), run_of("recipe=L1")]
    assert outlook(runs, results) == [
        "3 trainings to run, 0 done",
        "time of 2, one after the other: 4 to 10 minutes, by the seconds per epoch in results/ (a CPU): "
        "L0--utd_mhad-xsub.json",
        "time of 1 unknown, since results/ has no time of them: L1 seed0"]


def test_an_average_of_streams_is_no_training(results):
    runs = make_runs(["recipe=base", "streams=all"])
    assert outlook(runs, results)[0] == "4 trainings to run, 0 done, and 1 average of streams"


@pytest.mark.parametrize("low, high, words", [
    (10, 20, "1 minute"), (60, 600, "1 to 10 minutes"), (600, 620, "10 minutes"), (3600, 9000, "1.0 to 2.5 hours"),
    (7200, 7210, "2.0 hours")])
def test_times_are_said_in_minutes_or_hours(low, high, words):
    assert span(low, high) == words
