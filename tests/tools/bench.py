"""Benchmarks on one thread, one process at a time: clips per second of CPU time, with ratios measured in one run.

    just bench                      everything, 10 to 30 minutes, mostly compiling -> results/bench.json and tables
    just bench compile=false        without the compiled networks
    just bench out=                 print only
    just bench device=cuda          on a GPU: see tests/tools/bench_gpu.py
    just bench against=COMMIT       training steps of this code against an earlier one's: see bench_against.py there
    just bench jobs=2               trainings side by side against one by one: see bench_jobs.py there
    just bench peer=true            LAST-Lite beside EfficientGCN-B0: see bench_peer.py there

Parsing: real NTU files (../shared/data or LAST_TEST_DATA, else synthetic ones) against the field's line-by-line parser.
View: a batch of 16 clips, sampled, normalised, augmented; and what damaging clips adds to a training step of nano.
Networks: LAST-Lite's training step (forward, backward, SGD) and its forward at T = 64, V = 25. Each case runs in a
    fresh process, so that its peak memory is its own.
Attention: LAST-Base's partitioned form against dense masks, as one block and in the whole network.
Distillation: the share of a training step of LAST-Lite small that its teacher takes.
Exit codes: 0 measured, 1 a network did not run on the GPU, 2 bad input.
"""
from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from phases.common.command import run, words
from phases.common.files import ROOT, write_json

FORMS = {"true": [False, True], "false": [False], "only": [True]}  # of networks: as they are, compiled
TEACHERS = {
    "LAST-Lite small": ["recipe=lite_small"],
    "LAST-E v3": ["recipe=last_e"],
    "LAST-Base, four streams": [f"recipe=base model.stream={stream}"
                                for stream in ("joint", "bone", "velocity", "bone_velocity")]}
LITE = ((2, 16, True), (1, 16, True), (2, 16, False), (1, 16, False), (1, 1, True), (1, 1, False))  # M, B, training


@dataclass(frozen=True)
class Options:
    compile: Annotated[Literal["true", "false", "only"], "compiled networks too; only them: on a GPU"] = "true"
    device: Annotated[Literal["cpu", "cuda"], "cuda: the steps of bench_gpu.py"] = "cpu"
    networks: Annotated[tuple[str, ...], "some of those of device=cuda and against=; empty: all"] = ()
    amp: Annotated[Literal["auto", "fp32", "bf16", "fp16"], "precision on a GPU"] = "auto"
    against: Annotated[str, "a commit to compare with"] = ""
    jobs: Annotated[int | None, (2, 64), "trainings side by side"] = None
    peer: Annotated[bool, "beside EfficientGCN-B0"] = False
    out: Annotated[str | None, "the report, by default in results/; empty: none"] = None


def attention_case(channels: int | None, training: bool) -> dict:
    """A step or a forward in both forms: of one block of so many channels, or (None) of the whole LAST-Base."""
    from tests.tools.bench_cases import alone
    sides = {}
    for form in ("dense", "ours"):
        block = f"bench_attention({form!r}, {channels}, {training})"
        sides[form] = alone(block if channels else f"bench_base({form!r}, {training})")

    ratio = sides["ours"]["clips_per_cpu_s"] / sides["dense"]["clips_per_cpu_s"]
    return {"what": "one block" if channels else "LAST-Base", "channels": channels, "training": training, **sides,
            "ratio": ratio}


def attention_table() -> list[dict]:
    """LAST-Base's attention in its partitioned form against dense masks: print the cases and return them."""
    print("| partitioned attention | C | mode | dense: clips / CPU s | ours | ratio | dense: peak MB | ours |")
    print("|---" * 8 + "|", flush=True)

    cases = []
    for channels in (128, 256, None):
        for training in (True, False):
            case = attention_case(channels, training)
            dense = case["dense"]
            ours = case["ours"]
            print(f"| {case['what']} | {channels or ''} | {'step' if training else 'forward'} "
                  f"| {dense['clips_per_cpu_s']:.2f} | {ours['clips_per_cpu_s']:.2f} | {case['ratio']:.2f} "
                  f"| {dense['peak_MB']:.0f} | {ours['peak_MB']:.0f} |", flush=True)
            cases.append(case)
    return cases


def distil_table() -> list[dict]:
    """What each teacher takes of a step: print the cases and return them."""
    from tests.tools.bench_cases import alone
    cases = []
    for name, teachers in TEACHERS.items():
        case = {"teacher": name, **alone(f"bench_distil({teachers!r})")}
        cases.append(case)
        print(f"distilling {name} into LAST-Lite small: {100 * case['teacher_share']:.0f} % of a step is the teacher's",
              flush=True)
    return cases


def network_table(compile_too: bool) -> list[dict]:
    """LAST-Lite's steps and forwards, as ratios to the first: print the cases and return those that ran."""
    from tests.tools.bench_cases import alone
    print("| LAST-Lite | M | batch | mode | compiled | clips / CPU s | of small's step | peak MB |")
    print("|---" * 8 + "|", flush=True)

    asked = []
    for compiled in (False, True) if compile_too else (False,):
        for variant in ("small", "nano"):
            for bodies, batch, training in LITE:
                asked.append({"variant": variant, "bodies": bodies, "batch": batch, "training": training,
                              "compiled": compiled})

    cases = []
    for case in asked:
        row = f"| {case['variant']} | {case['bodies']} | {case['batch']} "
        try:
            case |= alone(f"bench_network(**{case!r})")
        except RuntimeError as e:
            print(f"{row}| failed: {e} |", flush=True)
            continue

        cases.append(case)
        case["ratio"] = case["clips_per_cpu_s"] / cases[0]["clips_per_cpu_s"]
        print(f"{row}| {'step' if case['training'] else 'forward'} | {'yes' if case['compiled'] else 'no'} "
              f"| {case['clips_per_cpu_s']:.1f} | {case['ratio']:.2f} | {case['peak_MB']:.0f} |", flush=True)
    return cases


def everything(compile_too: bool) -> dict:
    """Every benchmark on this CPU: print and return them."""
    from tests.tools.bench_cases import alone, bench_parse, bench_view
    parse = bench_parse()
    print(f"parsing: {parse['ratio']:.1f} times the field's parser (median of {len(parse['files'])} files)", flush=True)

    view = bench_view()
    for name, rate in view.items():
        print(f"view, {name}: {rate:.0f} clips per CPU second", flush=True)

    damage = alone("bench_damage()")
    print(f"view, damaged as cameras do: a step of nano takes {damage['ratio']:.3f} times its time without", flush=True)

    attention = attention_table()
    distil = distil_table()
    networks = network_table(compile_too)
    return {"parse": parse, "view": view, "damage": damage, "networks": networks, "attention": attention,
            "distil": distil}


def write(report: dict, out: str) -> None:
    """Write a report with the device, torch and commit that it came from; nothing if `out` is empty."""
    if not out:
        return

    import torch

    from phases.training.run_folder import commit, device_name
    torch.set_num_threads(1)
    origin = {"device": device_name(torch.device("cpu")), "torch": torch.__version__, "commit": commit()}
    write_json(ROOT / out, report | origin)
    print(f"written to {out}")


def main(options: Options) -> int:
    command = " ".join(["just bench", *words(options)])

    # on a GPU: its file is written case by case
    if options.device == "cuda":
        from tests.tools import bench_gpu
        failed = bench_gpu.table(options.networks, FORMS[options.compile], options.amp, options.out, command)
        if failed:
            print(f"error: {', '.join(failed)} did not run", file=sys.stderr)
        return 1 if failed else 0

    # on this CPU: against another commit, side by side, beside another network, or everything
    if options.against:
        from tests.tools import bench_against
        name = "bench-against"
        report = {"steps": bench_against.table(options.against, options.networks)}
    elif options.jobs:
        from tests.tools import bench_jobs
        name = "bench-jobs"
        report = bench_jobs.ratios(options.jobs)
    elif options.peer:
        from tests.tools import bench_peer
        name = "bench-peer"
        report = bench_peer.table()
    else:
        name = "bench"
        report = everything(options.compile == "true")

    out = f"results/{name}.json" if options.out is None else options.out
    write({"command": command, **report}, out)
    return 0


if __name__ == "__main__":
    run(main, Options, interrupted="")
