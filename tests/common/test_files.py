"""Files appear whole or not at all: atomic, on the disk first, leftovers deleted; a folder is locked."""
import os
import subprocess
import sys

import pytest

from phases.common.files import ROOT, atomic, locked, write_json


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, None])
def test_atomic_gives_all_or_nothing(error, tmp_path):
    path = tmp_path / "deep" / "file"
    for text in ("old", "new"):
        try:
            with atomic(path) as part:
                part.write_text(text)
                assert not path.exists() or path.read_text() == "old"
                if error and text == "new":
                    raise error
        except (ValueError, KeyboardInterrupt):
            pass
    assert path.read_text() == ("old" if error else "new") and list(path.parent.iterdir()) == [path]


def test_leftovers_of_killed_processes_alone_are_deleted(tmp_path):
    killed = subprocess.Popen(["true"])
    killed.wait()
    for pid in (killed.pid, os.getppid(), 2**40):
        (tmp_path / f".file.{pid}").write_text("half")
    (tmp_path / ".file.old").write_text("not ours")
    with atomic(tmp_path / "file") as part:
        part.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {"file", ".file.old", f".file.{os.getppid()}"}


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    done, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.readlink(f"/proc/self/fd/{handle}")))
    monkeypatch.setattr(os, "replace", lambda a, b: done.append(str(b)) or replace(a, b))
    write_json(tmp_path / "file", {})
    assert done == [str(tmp_path / f".file.{os.getpid()}"), str(tmp_path / "file"), str(tmp_path)]


def test_a_second_process_in_the_same_folder_is_turned_away(tmp_path):
    with locked(tmp_path):
        code = (f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path\n"
                "from phases.common.files import locked\n"
                f"with locked(Path({str(tmp_path)!r})): pass")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another process works there" in done.stderr
    with locked(tmp_path):
        pass
