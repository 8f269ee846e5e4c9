"""Somebody who may not write where the output goes: one line, before the work, and nothing is half-written."""
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.other_user import ROOT, as_other_user
from tests.helpers.own_clips import class_folders
from tests.helpers.recordings import OWN, own_folder
from tests.helpers.shipped import Shipped, ship


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Shipped:
    return ship(tmp_path_factory.getbasetemp())


@pytest.fixture
def closed(tmp_path) -> Path:
    """A folder that nobody may write to, with a file in it."""
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "kept.txt").write_text("kept")
    folder.chmod(0o555)
    return folder


@pytest.fixture
def clips(tmp_path) -> Path:
    """Two classes of recordings, in a folder each."""
    rng = np.random.default_rng(0)
    return class_folders(tmp_path / "mine", wave=[rng.normal(size=(9, 20, 3)) for _ in range(3)],
                         sit=[rng.normal(size=(9, 20, 3)) for _ in range(3)])


def paths_in(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*"))


def check_refused(closed: Path, program: str, *words: object, says: str, code: Path = ROOT) -> None:
    """The program ends with 2 and one line that names the place, and leaves no file."""
    before = paths_in(closed.parent)
    done = as_other_user(program, *words, cwd=closed, code=code)
    assert done.returncode == 2 and not done.stdout, done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr and "takes no new file (Permission denied): give " in done.stderr, done.stderr
    assert paths_in(closed.parent) == before


def test_the_process_may_write_where_everybody_may(tmp_path):
    # what the other tests rest on: it works, where the folder is open
    rng = np.random.default_rng(0)
    raw = own_folder(tmp_path / "own", "name,label,subject\na,0,1\nb,1,2\n", a=rng.normal(size=(9, 20, 3)),
                     b=rng.normal(size=(9, 20, 3)))
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    done = as_other_user("phases.p0_preprocess", *OWN, f"raw={raw}", "data.store=store", cwd=shared)
    assert done.returncode == 0 and (shared / "store" / "meta.json").is_file(), done


def test_adopt(closed, clips, tmp_path):
    # the recipes are part of the project: a copy of it
    code = tmp_path / "code"
    for folder in ("phases", "recipes"):
        shutil.copytree(ROOT / folder, code / folder, ignore=shutil.ignore_patterns("page", "__pycache__"))
    shutil.copyfile(ROOT / "skeletons.py", code / "skeletons.py")
    (code / "recipes").chmod(0o555)
    check_refused(closed, "phases.adopt", clips, "name=mine_too", says=f"{code}/recipes/mine_too.toml: cannot be",
                  code=code)


def test_phase_0(closed, tmp_path):
    raw = own_folder(tmp_path / "own", "name,label,subject\na,0,1\nb,1,2\n", a=np.ones((9, 20, 3)),
                     b=np.ones((9, 20, 3)))
    check_refused(closed, "phases.p0_preprocess", *OWN, f"raw={raw}",
                  says=f"{closed}/stores/own: cannot be written, {closed} takes")


@pytest.mark.parametrize("program, words, says", [
    ("teach", ["model=any", "raw={clips}", "out=mine.onnx"], "mine.onnx: cannot be"),
    ("page", ["model=utd_mhad", "out=page"], "page: cannot be"),
    ("predict", ["model=utd_mhad", "clip={clips}", "out=answer.csv"], "answer.csv: cannot be"),
    ("predict", ["model=utd_mhad", "clip={clips}", "embeddings=e.npz"], "e.npz: cannot be"),
    ("show", ["clip={clips}/wave/0.npy", "out=a.gif"], "a.gif: cannot be"),
])
def test_programs_that_write_a_file(closed, clips, program, words, says):
    check_refused(closed, f"phases.{program}", *(word.format(clips=clips) for word in words), says=says)


def test_phase_1(shipped, closed):
    recipe = [word for word in shipped.argv if not word.startswith("out=")]
    check_refused(closed, "phases.p1_train", *recipe, says="recipe.json: cannot be written")


def test_phase_4(shipped, closed):
    check_refused(closed, "phases.p4_export", *shipped.argv, says=f"{closed} takes no new file")
    check_refused(closed, "phases.p4_export", *shipped.argv, f"exports={closed / 'mine'}", says="give exports=FOLDER")
