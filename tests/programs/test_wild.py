"""wild.py: a run and its exported file are judged on the same changed clips; results hold a line per seed."""
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from phases import report, wild
from phases.recordings.wild import COUNTED, ROWS
from phases.shipping.exported import ExportedModel
from phases.training.clip_store import ClipStore, clip_joints
from tests.helpers.programs import call
from tests.helpers.shipped import ship

DATA = """[data]
name = "tiny"
reader = "arrays"
num_classes = 3
"""
FEW = (ROWS[4], ROWS[12], ROWS[-1])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return ship(tmp_path_factory.getbasetemp())


@pytest.fixture
def few(monkeypatch):
    """Three rows instead of all, so that a test is short."""
    monkeypatch.setattr(wild, "rows_for", lambda skeleton, flat: (list(FEW), []))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(DATA)
    return tmp_path


@pytest.fixture
def words(shipped, here) -> list[str]:
    """The words of a run in a folder of its own: a copy of the finished one."""
    shutil.copytree(shipped.folder / "runs", here / "runs")
    return [word for word in shipped.argv if not word.startswith("out=")]


def file_words(shipped, form: str = "") -> list[str]:
    return [f"model={shipped.export / f'model{form}.onnx'}", "data=tiny.toml",
            f"data.store={shipped.folder / 'stores' / 'tiny'}"]


def result(network: str) -> dict:
    return json.loads(Path(f"results/wild-{network}--tiny-xsub.json").read_text())


def test_a_run_and_its_exported_file_are_judged_alike(shipped, words, capsys):
    call(wild, *words)
    said = capsys.readouterr().out
    call(wild, *file_words(shipped))
    ours, theirs = result("lite_nano"), result("lite_nano-fp32")
    (run,), (file,) = ours["runs"], theirs["runs"]

    # every row, to the last clip
    assert list(run["top1"]) == ["clean", *(row.name for row in ROWS)]
    assert run["top1"] == file["top1"] and run["mean"] == file["mean"] and run["mean_of"] == len(COUNTED) == 20
    for key in ("confidence", "ece"):  # a file's probabilities are calibrated, a run's are not
        assert list(run[key]) == list(file[key]) == list(run["top1"])
    tested = json.loads((shipped.run / "result.json").read_text())
    assert run["top1"]["clean"] == round(tested["top1"], 3) and run["clips"] == tested["clips"]
    assert run["mean"] == pytest.approx(np.mean([run["top1"][row] for row in COUNTED]), abs=1e-3)

    # what the files say of their origin
    assert (ours["recipe"], ours["form"], ours["dataset"], ours["split"]) == ("lite_nano", "", "tiny", "xsub")
    assert ours["command"].startswith("just wild recipe=lite_nano ") and ours["command"].endswith(" seed=...")
    assert ours["trained"].startswith("just phase1 recipe=lite_nano") and run["seed"] == file["seed"] == 3
    assert theirs["command"] == "just wild model=model.onnx data=tiny.toml"
    assert run["device"] and "commit" in run
    assert said.startswith(f"results/wild-lite_nano--tiny-xsub.json: seed 3: clean {run['top1']['clean']:.1f}, mean of "
                           f"the 20 {run['mean']:.1f}; worst: ")


def test_an_exported_file_is_asked_about_the_clips_of_the_store(shipped, here, few, monkeypatch):
    asked = []
    answer = ExportedModel.__call__
    monkeypatch.setattr(ExportedModel, "__call__", lambda self, joints: asked.append(joints) or answer(self, joints))
    call(wild, *file_words(shipped, ".int8"))
    stored = ClipStore(shipped.folder / "stores" / "tiny")
    test = stored.split("xsub")[1]
    asked = asked[1:]  # without the clip that checks a file as it opens
    assert len(asked) == 4 * len(test)
    assert all(np.array_equal(a, clip_joints(stored, i)) for a, i in zip(asked, test, strict=False))
    assert result("lite_nano-int8")["form"] == "int8"


def test_a_result_has_a_line_per_seed_and_a_run_its_own_file(words, few, here, capsys):
    own = here / "runs" / "lite_nano" / "tiny-xsub"
    shutil.copytree(own / "seed3", own / "seed4")
    words.remove("seed=3")

    # the copy's own recipe says seed 3
    call(wild, *words, "seeds=3,4", "name=before")
    assert [run["seed"] for run in result("lite_nano-before")["runs"]] == [3]
    line = json.loads((own / "seed3" / "wild.json").read_text())
    assert line["label"] == "before" and line["top1"] == result("lite_nano-before")["runs"][0]["top1"]

    # another seed is added, the same one replaced
    path = here / "results" / "wild-lite_nano-before--tiny-xsub.json"
    table = json.loads(path.read_text())
    table["runs"] = [{**table["runs"][0], "seed": seed, "mean": -1} for seed in (1, 3, 7)]
    path.write_text(json.dumps(table))
    call(wild, *words, "seed=3", "name=before")
    assert [(run["seed"], run["mean"] < 0) for run in result("lite_nano-before")["runs"]] == [
        (1, True), (3, False), (7, True)]

    # runs of another training are not mixed with these
    path.write_text(json.dumps({**table, "trained": "just phase1 recipe=lite_nano train.epochs=500 seed=..."}))
    before = path.read_text()
    with pytest.raises(ValueError, match=r"train.epochs=500.* give name=, or move the file away"):
        call(wild, *words, "seed=3", "name=before")
    assert path.read_text() == before


def test_the_report_of_a_run_lists_its_worst_rows(words, here):
    call(wild, *words)
    folder = here / "runs" / "lite_nano" / "tiny-xsub" / "seed3"
    figures = json.loads((folder / "wild.json").read_text())
    call(report, f"run={folder}")
    page = (folder / "report.html").read_text().partition("<h2>In the wild</h2>")[2]
    worst = sorted(COUNTED[1:], key=figures["top1"].get)[:8]
    places = [page.index(f"<td>{row}</td>") for row in worst]
    assert places == sorted(places) and f"{figures['top1'][worst[0]]:.1f} %" in page
    assert "<td>noise 10 cm</td>" not in page and "in the wild" in (folder / "report.html").read_text()


def test_an_interrupted_judgement_writes_nothing(words, few, here, monkeypatch):
    def interrupted(p, label):
        raise KeyboardInterrupt

    monkeypatch.setattr("phases.training.changed_clips.judged", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call(wild, *words)
    assert not (here / "results").exists() and not list(here.glob("runs/**/wild.json"))


def test_clips_that_a_network_has_seen_give_no_result(shipped, here, few, capsys):
    model = onnx.load(shipped.export / "model.onnx")
    split = next(prop for prop in model.metadata_props if prop.key == "split")
    split.value = "all"
    onnx.save(model, here / "model.onnx")
    call(wild, "model=./model.onnx", *file_words(shipped)[1:], "data.split=all")
    assert capsys.readouterr().out.startswith("lite_nano: seed 3: clean ") and not (here / "results").exists()


@pytest.mark.parametrize("given, says", [
    (["model=nowhere.onnx", "data=tiny.toml"], "nowhere.onnx: no such file"),
    (["model=FILE"], "give model=FILE data=DATASET"),
    (["model=FILE", "data=tiny.toml", "recipe=lite_nano"], "give model=FILE data=DATASET"),
    (["model=FILE", "data=tiny.toml", "seeds=0,1"], "give model= alone"),
    (["model=FILE", "data=tiny.toml", "data.split=xview"], "may have seen clips that are held out here"),
    (["model=utd_mhad", "data=tiny.toml"], "knows other classes or joints"),
    (["recipe=lite_nano", "data=tiny.toml"], "no finished run in runs/lite_nano/tiny-xsub/seed0"),
    (["recipe=lite_nano", "data=tiny.toml", "seed=1", "seeds=0,1"], "give one of them"),
    (["recipe=lite_nano", "data=tiny.toml", "name=../../x"], "name = '../../x'"),
    ([], "no recipe: give recipe=NAME")])
def test_what_cannot_be_judged_is_refused(given, says, shipped, here):
    store = shipped.folder / "stores" / "tiny"
    given = [word.replace("FILE", str(shipped.export / "model.onnx")) for word in given]
    with pytest.raises(ValueError, match=says.replace("..", r"\.\.")):
        call(wild, *given, f"data.store={store}")
    assert not (here / "results").exists()


def test_a_file_that_hides_its_data_set_is_refused(shipped, here):
    model = onnx.load(shipped.export / "model.onnx")
    kept = [prop for prop in model.metadata_props if prop.key not in ("dataset", "seed")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, here / "model.onnx")
    with pytest.raises(ValueError, match="lacks seed, dataset in its metadata: export it again"):
        call(wild, "model=./model.onnx", *file_words(shipped)[1:])


def test_a_store_with_other_test_clips_is_refused(words, here):
    path = here / "runs" / "lite_nano" / "tiny-xsub" / "seed3" / "scores.npz"
    with np.load(path) as scores:
        arrays = dict(scores)
    np.savez(path, **{**arrays, "name": np.char.add(arrays["name"], "x")})
    with pytest.raises(ValueError, match="holds other classes or test clips"):
        call(wild, *words)


def test_without_a_folder_of_results_the_run_has_its_file(words, few, here):
    call(wild, *words, "results=")
    assert not (here / "results").exists() and list(here.glob("runs/**/wild.json"))
