"""`just bench`: its parts run; what it refuses, and what it compares with."""
import subprocess

import pytest

from phases.common.command import parse
from phases.training.settings import View
from tests.helpers.clip_stores import ROOT
from tests.tools import bench, bench_against, bench_cases, bench_nodes


@pytest.mark.parametrize("word, field", [("against=nope", "against"), ("jobs=1", "jobs"), ("compile=maybe", "compile"),
                                         ("device=tpu", "device"), ("amp=fp8", "amp"), ("network=base", "network")])
def test_a_wrong_word_is_named(word, field):
    with pytest.raises(ValueError, match=field):
        bench.main(parse(bench.Options, [word]))


def test_an_unknown_network_is_named_beside_the_known_ones():
    with pytest.raises(ValueError, match="lite_nanno.*lite_nano, lite_small"):
        bench.main(parse(bench.Options, ["against=HEAD", "networks=lite_nanno"]))


def test_the_other_side_is_the_code_of_that_commit(tmp_path):
    git = ["git", "-C", ROOT]
    there = subprocess.run([*git, "show", "HEAD:last.py"], capture_output=True, check=True).stdout
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    name = bench_against.unpack("HEAD", tmp_path)
    assert (tmp_path / "last.py").read_bytes() == there and commit.startswith(name)

    (tmp_path / "last.py").write_text("raise SystemExit('the other code')\n")
    with pytest.raises(ValueError, match="the other code"):
        bench_against.measured(tmp_path, "lite_nano")


FLAT = """
import torch
SKELETONS = {"ntu25": 25}
def load_config(words): return type("Config", (), {"train": None})
def classification_loss(cfg): return lambda model, batch: (model(batch["joints"]).sum(), {})
def build_model(cfg, skeleton, classes): return torch.nn.Linear(3, classes)
Teacher = Distil = distil_loss = make_distilled = None
"""


def test_a_tree_of_before_the_rooms_is_measured(tmp_path):
    (tmp_path / "phases").mkdir()
    for name in ("last", "phases/run", "phases/recipe", "phases/p2_distill"):
        (tmp_path / f"{name}.py").write_text(FLAT)
    assert bench_against.measured(tmp_path, "base")["launches"] > 3


def test_a_module_from_outside_the_measured_tree_is_refused(tmp_path):
    (tmp_path / "phases").mkdir()
    for name in ("phases/run", "phases/recipe", "phases/p2_distill"):
        (tmp_path / f"{name}.py").write_text(FLAT)
    (tmp_path / "phases" / "run.py").write_text(f"import sys\nsys.path.append({str(ROOT)!r})\n{FLAT}")
    (tmp_path / "phases" / "p2_distill.py").write_text(f"import skeletons\n{FLAT}")
    (tmp_path / "last.py").write_text(FLAT)
    with pytest.raises(ValueError, match="skeletons comes from .*, which is not in "):
        bench_against.measured(tmp_path, "base")


def test_the_view_is_measured_on_a_store_that_is_accepted(monkeypatch):
    monkeypatch.setattr(bench_cases, "cpu_seconds", lambda f, *args: (f(), 0.5)[1])
    assert set(bench_cases.bench_view().values()) == {32.0}, "16 clips in half a second"


def test_the_cost_of_damage_is_a_ratio_of_steps_on_the_same_clips():
    found = bench_cases.bench_damage(rounds=2)
    assert set(found) == {"plain", "damaged", "ratio"} and 0.5 < found["ratio"] < 5
    assert min(found.values()) > 0
    off = [name for name in bench_cases.DAMAGE if getattr(View(), name)]
    assert off == ["missing", "noise", "spikes", "idle"], "what a recipe's view does by default"


def test_instructions_for_int8_are_those_that_linux_lists(tmp_path):
    listed = tmp_path / "cpuinfo"
    listed.write_text("model name : Xeon\nflags : fpu avx512_vnni avx512_vnnix amx_int8\nflags : avx_vnni\n")
    assert bench_nodes.int8_instructions(listed) == ["amx_int8", "avx512_vnni", "avx_vnni"]
    assert bench_nodes.int8_instructions(tmp_path / "none") == []


def test_int8_nodes_are_those_of_the_optimised_graph(monkeypatch):
    monkeypatch.setattr(bench_nodes, "TURNS", 1)
    files = [ROOT / "results" / "networks" / name for name in ("utd_mhad.onnx", "utd_mhad.int8.onnx")]
    found = bench_nodes.compared(*files)
    nodes = {side: {row["kind"]: row["nodes"] for row in found[side]} for side in ("fp32", "int8")}
    assert nodes["fp32"]["Conv"] == nodes["int8"]["QLinearConv"] + nodes["int8"]["Conv"] and found["ratio"] > 0
    assert "HardSigmoid" not in nodes["fp32"], "fused into its convolution"
    with pytest.raises(ValueError, match="nope.onnx: no such file"):
        bench_nodes.main(bench_nodes.Options(fp32="nope.onnx"))
