"""Benchmarks on one thread, one process at a time: clips per second of CPU time, with ratios measured in one run.

    just bench                      everything, 10 to 30 minutes, mostly compiling -> results/bench.json and tables
    just bench compile=false        without the compiled networks
    just bench out=                 print only
    just bench device=cuda          on a GPU: see tests/bench_gpu.py
    just bench against=COMMIT       training steps of this code against an earlier one's: see tests/bench_against.py
    just bench jobs=2               trainings side by side against one by one: see tests/bench_jobs.py

Parsing: real NTU files (../shared/data or LAST_TEST_DATA, else synthetic ones) against the field's line-by-line parser.
View: a batch of 16 clips, sampled, normalised, augmented.
Networks: LAST-Lite's training step (forward, backward, SGD) and its forward at T = 64, V = 25. Each case runs in a
    fresh process, so that its peak memory is its own.
Attention: LAST-Base's partitioned form against dense masks, as one block and in the whole network.
Distillation: the share of a training step of LAST-Lite small that its teacher takes.
"""
from __future__ import annotations

import json
import lzma
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Each benchmark imports what it needs: parsing needs no torch, and an import counts in a process's peak memory.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads
ROOT = Path(__file__).resolve().parents[2]


# ---------------------------------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------------------------------

def cpu_seconds(f: Callable, least: float = 1.0, times: int = 5) -> float:
    """CPU seconds of a call: the median of `times` rounds, each of at least `least` seconds."""
    f()
    start = time.process_time()
    f()
    calls = max(1, round(least / max(1e-6, time.process_time() - start)))
    rounds = []
    for _ in range(times):
        start = time.process_time()
        for _ in range(calls):
            f()
        rounds.append((time.process_time() - start) / calls)
    return statistics.median(rounds)


def peak_kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def speed_and_memory(step: Callable, clips: int, times: int = 5) -> dict:
    """Clips per CPU second of `step`, and the memory by which it raises the process's peak."""
    before = peak_kilobytes()
    seconds = cpu_seconds(step, 1.0, times)
    return {"clips_per_cpu_s": clips / seconds, "peak_MB": (peak_kilobytes() - before) / 1024}


def alone(call: str) -> dict:
    """The result of a function of this file, called in a fresh process."""
    code = f"import bench, json; print(json.dumps(bench.{call}))"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'phases'}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests", env=env)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["?"])[-1][:100])
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------------------------------------------------------------
# Benchmarks; those of networks run in a process of their own
# ---------------------------------------------------------------------------------------------------------------------

def bench_parse() -> dict:
    """Milliseconds per file of our parser, of the field's, and of splitting the text only."""
    from phases.recordings.ntu import parse_ntu
    from phases.recordings.puppet import write_synthetic
    from tests.helpers.reference import reference_parse
    folder = Path(os.environ.get("LAST_TEST_DATA", ROOT.parent / "shared" / "data")) / "ntu-samples"
    with tempfile.TemporaryDirectory() as tmp:
        packed = sorted(folder.glob("*.skeleton.xz"))
        if packed:
            files = [(p.stem, lzma.decompress(p.read_bytes())) for p in packed]
        else:
            write_synthetic(Path(tmp), seed=0, subjects=(1,), replications=1)
            files = [(p.stem, p.read_bytes()) for p in sorted(Path(tmp).glob("*.skeleton"))[:7]]
        path, rows = Path(tmp) / "clip.skeleton", []
        for name, data in files:
            path.write_bytes(data)
            ours = cpu_seconds(lambda d=data: parse_ntu(d), 0.1, 7) * 1e3
            field = cpu_seconds(lambda: reference_parse(path), 0.1, 7) * 1e3
            split = cpu_seconds(lambda d=data: d.split(), 0.1, 7) * 1e3
            rows.append({"file": name, "KB": len(data) // 1000, "ms": ours, "field_ms": field, "split_ms": split,
                         "ratio": field / ours})
    return {"files": rows, "ratio": statistics.median(r["ratio"] for r in rows)}


def write_random_store(folder: str, clips: int, frames: int) -> None:
    """A store of two-body clips of random joints, all of one length."""
    import numpy as np

    from skeletons import SKELETONS
    rng = np.random.default_rng(0)
    np.save(f"{folder}/frames.npy", rng.standard_normal((2 * clips * frames, 25, 3)).astype("float32"))
    first = 2 * frames * np.arange(clips)
    none = {key: np.zeros(clips, int) for key in ("label", "subject", "camera", "setup", "replication")}
    np.savez(f"{folder}/clips.npz", name=np.array([f"c{i}" for i in range(clips)]), length=np.full(clips, frames),
             offset=np.stack([first, first + frames], 1), **none)
    meta = {"skeleton": SKELETONS["ntu25"].to_dict(), "classes": ["a"], "protocols": {}}
    Path(f"{folder}/meta.json").write_text(json.dumps(meta))


def bench_view() -> dict:
    """Clips per CPU second of the view, without and with augmentation, for M = 1 and 2."""
    import torch

    from phases.training.clip_store import ClipStore
    from phases.training.view import ClipView, View
    torch.set_num_threads(1)
    augment = {"window": 0.5, "stretch": 0.1, "shear": 0.1, "flip": 0.5}
    cases = {"plain": {}, "augmented": augment, "augmented + noise": {**augment, "noise": 0.01}}
    index, rates = torch.arange(16), {}
    with tempfile.TemporaryDirectory() as tmp:
        write_random_store(tmp, clips=256, frames=80)
        store = ClipStore(tmp)
        for bodies in (1, 2):
            for name, more in cases.items():
                view = ClipView(store, View(bodies=bodies, **more))
                seconds = cpu_seconds(lambda v=view, training=bool(more): v(index, training, 0, 1), 0.3)
                rates[f"{name}, M = {bodies}"] = len(index) / seconds
    return rates


def bench_network(variant: str, bodies: int, batch: int, training: bool, compiled: bool) -> dict:
    """Clips per CPU second and peak memory of LAST-Lite's step or forward."""
    import torch
    import torch.nn.functional as F

    import last
    from phases.training.networks import build_model
    from phases.training.recipe import Config
    from skeletons import SKELETONS
    torch.set_num_threads(1)
    skeleton = SKELETONS["ntu25"]
    cfg = Config(model=last.Model(variant=variant))
    model = build_model(cfg, skeleton, 60).train(training)
    optimizer = last.make_optimizer(model, cfg.train)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # a network that learns this one batch by heart gets denormal gradients, which are slow
    joints, label = torch.randn(batch, bodies, 64, 25, 3), torch.arange(batch) % 60
    net = torch.compile(model) if compiled else model

    def step() -> None:
        if not training:
            with torch.no_grad():
                net(joints)
            return
        optimizer.zero_grad()
        F.cross_entropy(net(joints), label).backward()
        optimizer.step()

    return speed_and_memory(step, batch)


def bench_attention(form: str, channels: int, training: bool) -> dict:
    """The same of one PartitionedTemporalAttention, B = 4: `ours`, or `dense`, one mask over all pairs."""
    import torch

    import last
    from skeletons import SKELETONS
    from tests.helpers.reference import dense_attention
    torch.set_num_threads(1)
    skeleton = SKELETONS["ntu25"]
    block, x = last.PartitionedTemporalAttention(channels, skeleton, 64), torch.randn(4, channels, 64, 25)

    def step() -> None:
        with torch.set_grad_enabled(training):
            y = block(x) if form == "ours" else dense_attention(block, x, skeleton.hops)
            if training:
                y.sum().backward()

    return speed_and_memory(step, len(x), 3)


def bench_base(form: str, training: bool) -> dict:
    """The same of the whole LAST-Base, one stream, M = 1, B = 2."""
    import torch

    import last
    from phases.training.networks import build_model
    from phases.training.recipe import load_config
    from skeletons import SKELETONS
    from tests.helpers.reference import dense_attention
    torch.set_num_threads(1)
    skeleton, cfg = SKELETONS["ntu25"], load_config(["recipe=base"])
    if form == "dense":
        last.PartitionedTemporalAttention.forward = lambda block, x: dense_attention(block, x, skeleton.hops)
    model, x = build_model(cfg, skeleton, 60).train(training), torch.randn(2, 1, 64, 25, 3)
    loss_fn, label = last.classification_loss(cfg.train), torch.arange(2)

    def step() -> None:
        with torch.set_grad_enabled(training):
            if training:
                loss_fn(model, {"joints": x, "label": label})[0].backward()
            else:
                model(x)

    return speed_and_memory(step, len(x), 3)


def bench_distil(teachers: list[str]) -> dict:
    """CPU seconds per clip of phase 2's step for LAST-Lite small, M = 1, B = 8, and the teacher's share of them."""
    import torch

    from phases.p2_distill import distil_loss, make_distilled
    from phases.training.networks import build_model
    from phases.training.recipe import Distil, load_config
    from phases.training.teachers import Teacher
    from skeletons import SKELETONS
    torch.set_num_threads(1)
    skeleton, spent = SKELETONS["ntu25"], []

    def network(words: str) -> torch.nn.Module:
        return build_model(load_config(words.split()), skeleton, 60)

    teacher = Teacher([network(words) for words in teachers], 4.0)
    joints, label = torch.randn(8, 1, 64, 25, 3), torch.arange(8)
    model = make_distilled(network("recipe=lite_small"), teacher, 0.1, joints).train()

    def timed(*args):
        start = time.process_time()
        target = teacher(*args)
        spent.append(time.process_time() - start)
        return target

    loss_fn = distil_loss(timed, Distil())

    def step() -> None:
        loss_fn(model, {"joints": joints, "label": label})[0].backward()

    step()
    spent.clear()
    start, whole = time.process_time(), 0.0
    while whole < 3 or len(spent) < 3:  # whole and share come from the same steps, because a machine's speed varies
        step()
        whole = time.process_time() - start
    return {"seconds_a_clip": whole / len(spent) / 8, "teacher_share": sum(spent) / whole}


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------

def attention_table() -> list[dict]:
    cases = []
    print("| partitioned attention | C | mode | dense: clips / CPU s | ours | ratio | dense: peak MB | ours |")
    print("|---" * 8 + "|", flush=True)
    for channels in (128, 256, None):
        for training in (True, False):
            call = f"bench_attention(form, {channels}, {training})" if channels else f"bench_base(form, {training})"
            dense, ours = (alone(call.replace("form", repr(form))) for form in ("dense", "ours"))
            ratio = ours["clips_per_cpu_s"] / dense["clips_per_cpu_s"]
            what, mode = "one block" if channels else "LAST-Base", "step" if training else "forward"
            cases.append({"what": what, "channels": channels, "training": training, "dense": dense, "ours": ours,
                          "ratio": ratio})
            print(f"| {what} | {channels or ''} | {mode} "
                  f"| {dense['clips_per_cpu_s']:.2f} | {ours['clips_per_cpu_s']:.2f} | {ratio:.2f} "
                  f"| {dense['peak_MB']:.0f} | {ours['peak_MB']:.0f} |", flush=True)
    return cases


def distil_table() -> list[dict]:
    base = [f"recipe=base model.stream={s}" for s in ("joint", "bone", "velocity", "bone_velocity")]
    cases = []
    for name, teachers in (("LAST-Lite small", ["recipe=lite_small"]), ("LAST-E v3", ["recipe=last_e"]),
                           ("LAST-Base, four streams", base)):
        case = {"teacher": name, **alone(f"bench_distil({teachers!r})")}
        cases.append(case)
        print(f"distilling {name} into LAST-Lite small: {100 * case['teacher_share']:.0f} % of a step is the teacher's",
              flush=True)
    return cases


def network_table(compile_too: bool) -> list[dict]:
    cases = []
    print("| LAST-Lite | M | batch | mode | compiled | clips / CPU s | of small's step | peak MB |")
    print("|---" * 8 + "|", flush=True)
    for compiled in (False, True) if compile_too else (False,):
        for variant in ("small", "nano"):
            for bodies, batch, training in ((2, 16, True), (1, 16, True), (2, 16, False), (1, 16, False), (1, 1, True),
                                            (1, 1, False)):
                case = {"variant": variant, "bodies": bodies, "batch": batch, "training": training,
                        "compiled": compiled}
                try:
                    case |= alone(f"bench_network(**{case!r})")
                except RuntimeError as e:
                    print(f"| {variant} | {bodies} | {batch} | failed: {e} |", flush=True)
                    continue
                first = cases[0] if cases else case
                case["ratio"] = case["clips_per_cpu_s"] / first["clips_per_cpu_s"]
                cases.append(case)
                mode = "step" if training else "forward"
                print(f"| {variant} | {bodies} | {batch} | {mode} | {'yes' if compiled else 'no'} "
                      f"| {case['clips_per_cpu_s']:.1f} | {case['ratio']:.2f} | {case['peak_MB']:.0f} |", flush=True)
    return cases


def write(report: dict, out: str) -> None:
    """Write a report with the device, torch and commit that it came from; nothing if `out` is empty."""
    if not out:
        return
    import torch

    from phases.common.files import write_json
    from phases.training.run_folder import commit, device_name
    torch.set_num_threads(1)
    report |= {"device": device_name(torch.device("cpu")), "torch": torch.__version__, "commit": commit()}
    write_json(ROOT / out, report)
    print(f"written to {out}")


def main(argv: list[str]) -> None:
    given = {"compile": "true", "out": None, "device": "cpu", "networks": "", "against": "", "amp": "auto",
             "jobs": ""}
    if {"-h", "--help", "help"} & set(argv):
        print(__doc__.strip())
        return
    for arg in argv:
        key, _, value = arg.partition("=")
        if key not in given:
            print(f"error: unknown argument {arg!r} (known: {', '.join(given)})", file=sys.stderr)
            sys.exit(2)
        given[key] = value
    forms = {"true": [False, True], "false": [False], "only": [True]}
    if given["compile"] not in forms or given["device"] not in ("cpu", "cuda"):
        print("error: compile must be true, false or only, device cpu or cuda", file=sys.stderr)
        sys.exit(2)
    command, out = "just bench " + " ".join(argv), given["out"]
    try:
        if given["against"]:
            from tests.tools import bench_against
            networks = given["networks"].split(",") if given["networks"] else list(bench_against.CASES)
            steps = bench_against.table(given["against"], networks)
            return write({"command": command, "steps": steps}, "results/bench-against.json" if out is None else out)
        if given["jobs"]:
            from tests.tools import bench_jobs
            if not given["jobs"].isdigit() or int(given["jobs"]) < 2:
                raise ValueError(f"jobs={given['jobs']}: at least 2, to compare with one by one")
            return write({"command": command, **bench_jobs.ratios(int(given["jobs"]))},
                         "results/bench-jobs.json" if out is None else out)
        if given["device"] == "cuda":
            from tests.tools import bench_gpu
            networks = given["networks"].split(",") if given["networks"] else list(bench_gpu.NETWORKS)
            bench_gpu.table(networks, forms[given["compile"]], given["amp"], out, command)
            return None
    except ValueError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
    report = {"command": command, "parse": bench_parse(), "view": bench_view(), "networks": []}
    parse = report["parse"]
    print(f"parsing: {parse['ratio']:.1f} times the field's parser (median of {len(parse['files'])} files)", flush=True)
    for name, rate in report["view"].items():
        print(f"view, {name}: {rate:.0f} clips per CPU second", flush=True)
    report["attention"] = attention_table()
    report["distil"] = distil_table()
    report["networks"] = network_table(given["compile"] == "true")
    return write(report, "results/bench.json" if out is None else out)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:])
