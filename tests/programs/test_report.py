"""report.py: one self-contained page about a run."""
import dataclasses
import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from phases import report
from phases.reporting.ranking import rankings
from tests.helpers.programs import call
from tests.helpers.shipped import ship


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return ship(tmp_path_factory.getbasetemp())


@pytest.fixture
def run(shipped, tmp_path) -> Path:
    """A copy of a finished run. Its answers are known: of each class the first clip is taken for the next class."""
    folder = tmp_path / "lite_nano" / "tiny-xsub" / "seed3"
    shutil.copytree(shipped.run, folder)
    recipe = json.loads((folder / "recipe.json").read_text())
    assert Path(recipe["data"]["store"]).is_absolute(), "the store is found from any folder"
    with np.load(folder / "scores.npz") as z:
        name, label = z["name"], z["label"]
    answer = label.copy()
    for k in range(3):
        answer[np.flatnonzero(label == k)[0]] = (k + 1) % 3
    np.savez(folder / "scores.npz", name=name, label=label, logits=np.eye(3, dtype=np.float32)[answer] * 4)
    return folder


def page_of(run: Path) -> str:
    call(report, f"run={run}")
    return (run / "report.html").read_text()


def drawings(text: str) -> list[ElementTree.Element]:
    """Every drawing of a page; each is well-formed."""
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.S)]


def rename_class(run: Path, old: str, new: str) -> None:
    """Give a class another name in the clip store of a run; final.pt, which has the names too, is removed."""
    recipe = json.loads((run / "recipe.json").read_text())
    store = run / "store"
    shutil.copytree(recipe["data"]["store"], store)
    meta = json.loads((store / "meta.json").read_text())
    meta["classes"] = [new if name == old else name for name in meta["classes"]]
    (store / "meta.json").write_text(json.dumps(meta))
    recipe["data"]["store"] = str(store)
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "final.pt").unlink()


# ---------------------------------------------------------------------------------------------------------------------
# What a page says
# ---------------------------------------------------------------------------------------------------------------------

def test_a_page_has_the_facts_of_the_run_folder(run, capsys):
    text = page_of(run)
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    result = json.loads((run / "result.json").read_text())
    for fact in (f"{result['top1']:.1f} %", f"{result['params']:,} parameters", result["command"], "tiny, split xsub"):
        assert fact in text, fact
    assert not re.search(r"https?:|src=|url\(|<script|<link", text), "nothing of the page is elsewhere"
    charts = [d for d in drawings(text) if d.findall("polyline")]
    assert [d.get("aria-label") for d in charts] == ["Loss", "Accuracy in percent", "Learning rate"]
    assert all(len(d.find("polyline").get("points").split()) == 3 for d in charts), "a point per epoch"


def test_the_clips_that_a_file_declines_are_listed_by_class(run):
    with np.load(run / "scores.npz") as z:
        name, label = z["name"].tolist(), z["label"]

    # of class 0 the first clip, which has a wrong name, and the second, which has not; of class 2 the second
    first, second = np.flatnonzero(label == 0)[:2]
    third = np.flatnonzero(label == 2)[1]
    likeness = dict.fromkeys(name, 0.9) | {name[i]: 0.2 for i in (first, second, third)}
    (run / "declining.json").write_text(json.dumps({"threshold": 0.5, "likeness": likeness}))
    text = page_of(run)
    rows = re.findall(r"<td>(\d+) of (\d+)</td>\s*<td>(.*?)</td>", text)
    count = np.bincount(label)
    assert rows == [("2", str(count[0]), f"{name[first]} (swing 1), {name[second]}"), ("1", str(count[2]), name[third]),
                    ("0", str(count[1]), "")]
    assert f"3 test clips declined, {300 / len(name):.1f} %; 2 of them had the right name" in text

    # of other clips
    del likeness[name[0]]
    (run / "declining.json").write_text(json.dumps({"threshold": 0.5, "likeness": likeness}))
    with pytest.raises(ValueError, match=f"declining.json: lacks the test clip {name[0]}"):
        call(report, f"run={run}")


def test_without_an_export_a_page_says_nothing_of_declining(run):
    (run / "declining.json").unlink()
    assert "None of these" not in page_of(run) and "declined" not in page_of(run)


@pytest.mark.parametrize("classes, says", [(3, False), (5, False), (6, True)])
def test_top_5_is_left_out_where_it_says_nothing(run, monkeypatch, classes, says):
    load = report.load_reported
    names = [f"class {k}" for k in range(classes)]
    monkeypatch.setattr(report, "load_reported", lambda folder: dataclasses.replace(load(folder), classes=names))
    lines = dict(report.facts(report.load_reported(run)))
    assert ("top-5" in lines["top-1"]) is says and "test clips" in lines["top-1"]


def test_confusions_recall_and_clips_are_those_of_the_scores(run):
    text = page_of(run)
    with np.load(run / "scores.npz") as z:
        count = np.bincount(z["label"])
        first = [z["name"][np.flatnonzero(z["label"] == k)[0]] for k in range(3)]
    matrix = next(d for d in drawings(text) if d.get("aria-label") == "Confusion matrix")
    cells = [title.text for title in matrix.iter("title")]
    for k in range(3):
        other = (k + 1) % 3
        assert f"swing {k} taken for swing {other}: 1 of {count[k]}" in cells
        assert f"swing {k} taken for swing {k}: {count[k] - 1} of {count[k]}" in cells
        assert f"<td>{count[k] - 1} of {count[k]}</td>" in text
        assert f"swing {k}, taken for swing {other}: 1 of {count[k]}" in text and str(first[k]) in text
    clips = [d for d in drawings(text) if d.get("class") == "clip"]
    assert len(clips) == 3 and all(len(d.findall("path")) > 20 for d in clips)


def test_a_page_has_roc_curves_and_average_precisions(run):
    text = page_of(run)
    roc = next(d for d in drawings(text) if d.get("aria-label") == "ROC curves")
    assert {title.text for title in roc.iter("title")} == {"swing 0", "swing 1", "swing 2"}
    with np.load(run / "scores.npz") as z:
        label, logits = z["label"], z["logits"]
    found = rankings(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), label, [f"swing {k}" for k in range(3)])
    assert f"<td>{found.macro.precision:.3f}</td>" in text and f"<td>{found.macro.area:.3f}</td>" in text
    assert 0.3 < found.macro.precision < 1 and "mean of 3 classes" in text


def test_without_the_clip_store_clips_are_named(run):
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["data"]["store"] = str(run / "nowhere")
    (run / "recipe.json").write_text(json.dumps(recipe))
    call(report, f"run={run}", f"html={run / 'other.html'}")
    text = (run / "other.html").read_text()
    assert "The clip store is not here" in text and 'class="clip"' not in text


def test_a_run_under_way_has_its_curves(run):
    (run / "result.json").unlink()
    text = page_of(run)
    assert "under way: 3 of 3 epochs" in text and "Confusion" not in text and len(drawings(text)) == 3


def test_a_run_of_phase_3_has_its_losses_and_no_accuracy(run):
    (run / "scores.npz").unlink()
    result = {"recipe": "maskclr_nano", "command": "just phase3 recipe=maskclr_nano", "commit": None, "seconds": 90,
              "device": "a CPU", "loss": 1.0, "rebuild": 0.5, "contrast": 0.5, "found": 0.25}
    (run / "result.json").write_text(json.dumps(result))
    text = page_of(run)
    assert "without labels: 1.5 minutes on a CPU" in text and "just phase3 recipe=maskclr_nano" in text
    assert "top-1" not in text and drawings(text)


def test_a_network_without_a_mistake_has_no_confusions(run):
    with np.load(run / "scores.npz") as z:
        name, label = z["name"], z["label"]
    np.savez(run / "scores.npz", name=name, label=label, logits=np.eye(3)[label])
    assert "every test clip gets its name" in page_of(run)


@pytest.mark.parametrize("name", ["<b>sit & stand", '"sit" {{ 7 * 7 }}', "it's </svg></title>"])
def test_names_of_classes_that_look_like_markup_are_text(run, name):
    rename_class(run, "swing 0", name)
    text = page_of(run)
    assert name not in text.partition("<h2>Recipe")[0] and "49" not in re.findall(r"<td>(.*?)</td>", text)
    matrix = next(d for d in drawings(text) if d.get("aria-label") == "Confusion matrix")
    assert name in [label.text for label in matrix.iter("text")], "it is read as it was written"


# ---------------------------------------------------------------------------------------------------------------------
# Bad input
# ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("damage", [b"", b"PK", "label"])
def test_damaged_scores_are_named(run, damage):
    path = run / "scores.npz"
    if damage == "label":
        np.savez(path, name=["a"], logits=np.eye(3))
    else:
        path.write_bytes(damage)
    with pytest.raises(ValueError, match="scores.npz"):
        call(report, f"run={run}")
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("words, named", [
    (["run=nowhere"], "^nowhere: no run is there .it lacks recipe.json.: train it first, or give a run's folder$"),
    ([], "run="), (["run=x", "recipe=lite_nano"], "run="), (["recipe=lite_nano", "seed=99"], "seed99")])
def test_bad_words_of_report_are_named(words, named):
    with pytest.raises(ValueError, match=named):
        call(report, *words)


def test_a_run_without_an_epoch_has_nothing_to_report(tmp_path, shipped):
    shutil.copy(shipped.run / "recipe.json", tmp_path)
    with pytest.raises(ValueError, match="no epoch"):
        call(report, f"run={tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]
