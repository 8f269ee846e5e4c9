"""`just bench`: its parts run, and what it refuses and compares with against another commit and side by side."""
import subprocess

import pytest

from tests.helpers.clip_stores import ROOT
from tests.tools import bench, bench_against


@pytest.mark.parametrize("argv, words", [(["against=nope"], "no such commit"),
                                         (["against=HEAD", "networks=lite_nanno"], "lite_nano, lite_small"),
                                         (["jobs=1"], "at least 2")])
def test_what_cannot_be_compared_is_one_line(argv, words, capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(argv)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and not out and words in err and err.count("\n") == 1


def test_the_other_side_is_the_code_of_that_commit(tmp_path, monkeypatch):
    there = subprocess.run(["git", "-C", ROOT, "show", "HEAD:last.py"], capture_output=True, check=True).stdout
    name = bench_against.unpack("HEAD", tmp_path)
    assert (tmp_path / "last.py").read_bytes() == there
    assert subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True,
                          text=True).stdout.startswith(name)
    (tmp_path / "last.py").write_text("raise SystemExit('the other code')\n")
    with pytest.raises(ValueError, match="the other code"):
        bench_against.measured(tmp_path, "lite_nano")


def test_the_view_is_measured_on_a_store_that_a_clip_store_accepts(monkeypatch):
    monkeypatch.setattr(bench, "cpu_seconds", lambda f, *args: (f(), 0.5)[1])
    assert set(bench.bench_view().values()) == {32.0}, "16 clips in half a second"
