"""`just table` and `just collect` with runs of phase 1: true numbers, and no synthetic ones among the results."""
import json
import statistics
from pathlib import Path

import pytest

from phases import collect, table
from phases.reporting import measured
from tests.helpers.programs import call

RUNS = (("tiny", 0, 90.0), ("tiny", 1, 94.0), ("tiny", 10, 92.5), ("other", 0, 50.0), ("synthetic", 0, 99.0))


@pytest.fixture
def runs(done, tmp_path, monkeypatch):
    """A runs folder with three seeds of a real data set, one run without top1_clean, and one on synthetic clips."""
    monkeypatch.chdir(tmp_path)
    result = json.loads((done / "result.json").read_text())
    for dataset, seed, top1 in RUNS:
        folder = tmp_path / f"runs/lite_nano/{dataset}-xsub/seed{seed}"
        folder.mkdir(parents=True)
        r = {**result, "dataset": dataset, "seed": seed, "top1": top1, "top1_clean": top1 - 1,
             "command": f"just phase1 recipe=lite_nano data={dataset} seed={seed} out=x"}
        if dataset == "other":
            del r["top1_clean"]
        (folder / "result.json").write_text(json.dumps(r))
    return tmp_path


def test_the_table_has_mean_and_deviation_over_seeds(runs, capsys):
    assert call(table, "show=rest") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = {line[1]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    sd = statistics.stdev([90, 94, 92.5])
    assert set(rows) == {"tiny", "other", "synthetic (demonstration)"}
    assert rows["tiny"]["top-1"] == f"{(90 + 94 + 92.5) / 3:.1f} ± {sd:.1f}" and rows["tiny"]["seeds"] == "3"
    assert rows["tiny"]["top-1 clean"] == f"{(90 + 94 + 92.5) / 3 - 1:.1f} ± {sd:.1f}"
    assert rows["other"]["top-1"] == "50.0" and rows["other"]["top-1 clean"] == ""


def test_collect_writes_what_its_docstring_says(runs):
    assert not call(collect)
    files = {p.name for p in (runs / "results").iterdir()}
    assert files == {"lite_nano--tiny-xsub.json", "lite_nano--other-xsub.json"}
    tiny, other = (json.loads((runs / f"results/lite_nano--{d}-xsub.json").read_text()) for d in ("tiny", "other"))
    assert list(tiny) == ["recipe", "dataset", "split", "params", "macs", "streams", "command", "runs"]
    for r in tiny["runs"] + other["runs"]:
        assert list(r) == ["seed", "top1", "top5", "top1_clean", "epochs", "seconds", "device", "commit", "top1_causal"]
        assert all(f'"{k}"' in measured.__doc__ for k in r)
    assert [(r["seed"], r["top1"]) for r in tiny["runs"]] == [(0, 90.0), (1, 94.0), (10, 92.5)]
    assert other["runs"][0]["top1_clean"] is None
    assert "out=" not in tiny["command"]
    assert tiny["command"].split()[:4] == ["just", "phase1", "recipe=lite_nano", "data=tiny"]


def test_collected_results_stand_in_the_table_without_their_runs(runs, capsys):
    call(collect)
    capsys.readouterr()
    call(table)
    both = [line for line in capsys.readouterr().out.splitlines() if "synthetic" not in line]
    assert call(table, "runs=gone") == 0
    assert capsys.readouterr().out.splitlines() == both


def test_a_real_run_is_rendered_and_collected(done, capsys, tmp_path):
    folder = done.parents[2]
    assert call(table, f"runs={folder}", "results=") == 0
    assert f"{json.loads((done / 'result.json').read_text())['top1']:.1f}" in capsys.readouterr().out
    assert not call(collect, f"runs={folder}", f"results={tmp_path}")
    assert (tmp_path / "lite_nano--tiny-xsub.json").exists()


@pytest.mark.parametrize("program, argv, words", [
    (table, ["tabel"], "give key=value"), (table, ["run=x"], "did you mean 'runs'?"),
    (table, ["runs=gone", "results="], "nothing to show"), (collect, ["runs=gone"], "no finished run")])
def test_a_table_of_nothing_is_one_line(program, argv, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as e:
        call(program, *argv)
    assert words in str(e.value) and "\n" not in str(e.value) and list(tmp_path.iterdir()) == []


def test_synthetic_runs_alone_cannot_be_collected(runs):
    for name in ("tiny", "other"):
        Path(runs, f"runs/lite_nano/{name}-xsub").rename(runs / name)
    with pytest.raises(ValueError, match="real data set"):
        call(collect)
    assert not (runs / "results").exists()


def test_a_broken_result_is_named(runs):
    path = runs / "runs/lite_nano/tiny-xsub/seed1/result.json"
    path.write_text('{"recipe": ')
    with pytest.raises(ValueError, match="seed1/result.json"):
        call(table)
