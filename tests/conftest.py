"""Shared by the tests: the folder of real recordings, tiny stores, and a finished run."""
import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from phases import p1_train
from tests.helpers.clip_stores import QUICK, ROOT, RUN, latest, write_store

torch.set_num_threads(1)  # on a busy machine, spinning OpenMP threads cost far more than they give
settings.register_profile("last", deadline=None, max_examples=20, derandomize=True, database=None)
settings.load_profile("last")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in a browser begin: they wait for clocks most of the time, while another process takes all the others."""
    items.sort(key=lambda item: not item.path.name.startswith("test_page"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real recordings: $LAST_TEST_DATA or ../shared/data. Without them a test is skipped; under CI it fails."""
    folder = Path(os.environ.get("LAST_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"no recordings in {folder}: set LAST_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def make_store():
    """make_store(folder, skeleton="ntu25", clips=24, classes=3, bodies=2, seed=0) -> folder: see write_store."""
    return write_store


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """A tiny store, only to be read."""
    return write_store(tmp_path_factory.mktemp("stores") / "tiny")


@pytest.fixture
def phase1(store, tmp_path, monkeypatch):
    """Run phase 1 in an empty folder: phase1(*overrides) -> exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> int:
        return p1_train.main(latest(*QUICK, f"data.store={store}", *words))
    return run


@pytest.fixture(scope="session")
def done(store, tmp_path_factory):
    """The folder of one finished run, only to be read."""
    with pytest.MonkeyPatch.context() as m:
        m.chdir(tmp_path_factory.mktemp("done"))
        argv = [*QUICK, f"data.store={store}", "data.leaked=[0]", "train.causal=0.5", "train.average=swa"]
        assert p1_train.main(argv) == 0
        return Path(RUN).resolve()
