"""Benchmarks, one process at a time on one thread; clips per second of CPU time, with ratios measured in the same run.

    just bench                      everything, in 10 to 30 minutes (compiling takes most of them) -> results/bench.json and a table
    just bench compile=false        without the compiled networks
    just bench out=                 print only

Parsing: a real NTU file (../shared/data or LAST_TEST_DATA; a synthetic one otherwise) against the field's line-by-line parser.
View: a batch of 16 clips, sampled, normalised, augmented. Networks: LAST-Lite's training step (forward, backward, SGD) and forward
at T = 64, V = 25, each in a fresh process so that its peak memory is its own. Attention: LAST-Base's partitioned form against dense masks,
as one block and in the whole network. Distillation: what share of a training step of LAST-Lite small its teacher takes.
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
from pathlib import Path

import recipe
import run

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parent.parent


def cpu_seconds(f, least: float = 1.0, times: int = 5) -> float:
    """Median CPU seconds of a call, over `times` rounds that share at least `least` seconds each."""
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


def bench_parse() -> dict:
    """Milliseconds a file for the field's parser, ours, and splitting the text alone; interleaved."""
    from ntu import parse_ntu
    from puppet import write_synthetic
    from reference import reference_parse
    folder = Path(os.environ.get("LAST_TEST_DATA", ROOT.parent / "shared" / "data")) / "ntu-samples"
    with tempfile.TemporaryDirectory() as tmp:
        packed = sorted(folder.glob("*.skeleton.xz"))
        if packed:
            files = [(p.stem, lzma.decompress(p.read_bytes())) for p in packed]
        else:
            write_synthetic(Path(tmp), seed=0, subjects=(1,), replications=1)
            files = [(p.stem, p.read_bytes()) for p in sorted(Path(tmp).glob("*.skeleton"))[:7]]
        rows = []
        for name, data in files:
            path = Path(tmp) / "clip.skeleton"
            path.write_bytes(data)
            ours, field, split = (cpu_seconds(f, 0.1, 7) * 1e3 for f in (
                lambda d=data: parse_ntu(d), lambda p=path: reference_parse(p), lambda d=data: d.split()))
            rows.append({"file": name, "KB": len(data) // 1000, "ms": ours, "field_ms": field, "split_ms": split, "ratio": field / ours})
    return {"files": rows, "ratio": statistics.median(r["ratio"] for r in rows)}


def bench_view() -> dict:
    """Clips a CPU second of the training view, without and with augmentation, M = 1 and 2."""
    import numpy as np
    import torch

    import last
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        rng, N, L = np.random.default_rng(0), 256, 80
        np.save(f"{tmp}/frames.npy", rng.standard_normal((2 * N * L, 25, 3)).astype("float32"))
        clips = {"name": [f"c{i}" for i in range(N)], "label": [0] * N, "length": [L] * N, "offset": [[2 * n * L, 2 * n * L + L] for n in range(N)]}
        np.savez(f"{tmp}/clips.npz", **{k: np.array(v) for k, v in clips.items()})
        Path(f"{tmp}/meta.json").write_text(json.dumps({"skeleton": last.SKELETONS["ntu25"].to_dict(), "classes": ["a"], "protocols": {}}))
        store, rates, index = run.ClipStore(tmp), {}, torch.arange(16)
        for bodies in (1, 2):
            augment = {"window": 0.5, "stretch": 0.1, "shear": 0.1, "flip": 0.5}
            for name, more in (("plain", None), ("augmented", augment), ("augmented + noise", {**augment, "noise": 0.01})):
                view = last.ClipView(store, last.View(bodies=bodies, **(more or {})))
                rates[f"{name}, M = {bodies}"] = 16 / cpu_seconds(lambda v=view, t=more is not None, i=index: v(i, t, 0, 1), 0.3)
    return rates


def bench_network(variant: str, bodies: int, batch: int, training: bool, compiled: bool) -> dict:
    """Clips a CPU second and peak memory of one case; to be called in a process of its own."""
    import torch
    import torch.nn.functional as F

    import last
    torch.set_num_threads(1)
    skeleton = last.SKELETONS["ntu25"]
    cfg = recipe.Config(model=last.Model(variant=variant))
    model = run.build_model(cfg, skeleton, 60).train(training)
    optimizer = last.make_optimizer(model, cfg.train)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the same batch again and again would be learned by heart, and denormal gradients are slow
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

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = cpu_seconds(step, 1.0)
    return {"clips_per_cpu_s": batch / seconds, "peak_MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def bench_attention(form: str, channels: int, training: bool) -> dict:
    """The same of one PartitionedTemporalAttention, B = 4: `ours`, or `dense` (one mask over all pairs); in a process of its own."""
    import torch
    from reference import dense_attention

    import last
    torch.set_num_threads(1)
    skeleton = last.SKELETONS["ntu25"]
    block, x = last.PartitionedTemporalAttention(channels, skeleton), torch.randn(4, channels, 64, 25)

    def step() -> None:
        with torch.set_grad_enabled(training):
            y = block(x) if form == "ours" else dense_attention(block, x, skeleton.hops)
            if training:
                y.sum().backward()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = cpu_seconds(step, 1.0, 3)
    return {"clips_per_cpu_s": len(x) / seconds, "peak_MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def bench_base(form: str, training: bool) -> dict:
    """The same of the whole LAST-Base, one stream, M = 1, B = 2."""
    import torch
    from reference import dense_attention

    import last
    torch.set_num_threads(1)
    skeleton, cfg = last.SKELETONS["ntu25"], recipe.load_config(["recipe=base"])
    if form == "dense":
        last.PartitionedTemporalAttention.forward = lambda block, x: dense_attention(block, x, skeleton.hops)
    model, x = run.build_model(cfg, skeleton, 60).train(training), torch.randn(2, 1, 64, 25, 3)
    loss_fn, label = last.classification_loss(cfg.train), torch.arange(2)

    def step() -> None:
        with torch.set_grad_enabled(training):
            if training:
                loss_fn(model, {"joints": x, "label": label})[0].backward()
            else:
                model(x)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = cpu_seconds(step, 1.0, 3)
    return {"clips_per_cpu_s": len(x) / seconds, "peak_MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def bench_distil(teachers: list[str]) -> dict:
    """CPU seconds a clip of phase 2's step for LAST-Lite small, M = 1, B = 8, and the share of it that the teacher's forward takes."""
    import torch
    from p2_distill import Teacher, distil_loss, make_distilled

    import last
    torch.set_num_threads(1)
    skeleton = last.SKELETONS["ntu25"]
    make = lambda *argv: run.build_model(recipe.load_config(list(argv)), skeleton, 60)  # noqa: E731
    teacher = Teacher([make(*argv.split()) for argv in teachers], 4.0)
    joints, label = torch.randn(8, 1, 64, 25, 3), torch.arange(8)
    model = make_distilled(make("recipe=lite_small"), teacher, 0.1, joints).train()
    spent = []

    def timed(*args):
        start = time.process_time()
        shown = teacher(*args)
        spent.append(time.process_time() - start)
        return shown

    loss_fn = distil_loss(timed, recipe.Distil())
    step = lambda: loss_fn(model, {"joints": joints, "label": label})[0].backward()  # noqa: E731
    step()
    spent.clear()
    start = time.process_time()
    while (whole := time.process_time() - start) < 3 or len(spent) < 3:  # both within the same steps: a machine's speed varies
        step()
    return {"seconds_a_clip": whole / len(spent) / 8, "teacher_share": sum(spent) / whole}


def alone(call: str) -> dict:
    """The result of a function of this file, called in a fresh process."""
    done = subprocess.run([sys.executable, "-c", f"import bench, json; print(json.dumps(bench.{call}))"], capture_output=True, text=True,
                          cwd=ROOT / "tests", env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'phases'}"})
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["?"])[-1][:100])
    return json.loads(done.stdout.splitlines()[-1])


def attention_table() -> list[dict]:
    cases = []
    print("| partitioned attention | C | mode | dense: clips / CPU s | ours | ratio | dense: peak MB | ours |\n" + "|---" * 8 + "|", flush=True)
    for channels in (128, 256, None):
        for training in (True, False):
            call = f"bench_attention(form, {channels}, {training})" if channels else f"bench_base(form, {training})"
            dense, ours = (alone(call.replace("form", repr(form))) for form in ("dense", "ours"))
            ratio = ours["clips_per_cpu_s"] / dense["clips_per_cpu_s"]
            what = "one block" if channels else "LAST-Base"
            cases.append({"what": what, "channels": channels, "training": training, "dense": dense, "ours": ours, "ratio": ratio})
            print(f"| {what} | {channels or ''} | {'step' if training else 'forward'} | {dense['clips_per_cpu_s']:.2f} "
                  f"| {ours['clips_per_cpu_s']:.2f} | {ratio:.2f} | {dense['peak_MB']:.0f} | {ours['peak_MB']:.0f} |", flush=True)
    return cases


def distil_table() -> list[dict]:
    cases = []
    base = [f"recipe=base model.stream={s}" for s in ("joint", "bone", "velocity", "bone_velocity")]
    for name, teachers in (("LAST-Lite small", ["recipe=lite_small"]), ("LAST-E v3", ["recipe=last_e"]), ("LAST-Base, four streams", base)):
        cases.append({"teacher": name, **alone(f"bench_distil({teachers!r})")})
        print(f"distilling {name} into LAST-Lite small: {100 * cases[-1]['teacher_share']:.0f} % of a step is the teacher's", flush=True)
    return cases


def main(argv: list[str]) -> None:
    given = {"compile": "true", "out": "results/bench.json"}
    for arg in argv:
        key, _, value = arg.partition("=")
        if key not in given:
            sys.exit(f"error: unknown argument {arg!r} (known: {', '.join(given)})")
        given[key] = value
    report = {"command": "just bench " + " ".join(argv), "parse": bench_parse(), "view": bench_view(), "networks": []}
    print(f"parsing: {report['parse']['ratio']:.1f} times the field's parser (median of {len(report['parse']['files'])} files)", flush=True)
    print("\n".join(f"view, {k}: {v:.0f} clips per CPU second" for k, v in report["view"].items()), flush=True)
    report["attention"] = attention_table()
    report["distil"] = distil_table()
    print("| LAST-Lite | M | batch | mode | compiled | clips / CPU s | of small's step | peak MB |\n|---|---|---|---|---|---|---|---|", flush=True)
    base = None
    for compiled in (False, True)[:2 if given["compile"] == "true" else 1]:
        for variant in ("small", "nano"):
            for bodies, batch, training in ((2, 16, True), (1, 16, True), (2, 16, False), (1, 16, False), (1, 1, True), (1, 1, False)):
                case = {"variant": variant, "bodies": bodies, "batch": batch, "training": training, "compiled": compiled}
                try:
                    case |= alone(f"bench_network(**{case!r})")
                except RuntimeError as e:
                    print(f"| {variant} | {bodies} | {batch} | failed: {e} |", flush=True)
                    continue
                base = base or case["clips_per_cpu_s"]
                case["ratio"] = case["clips_per_cpu_s"] / base
                report["networks"].append(case)
                print(f"| {variant} | {bodies} | {batch} | {'step' if training else 'forward'} | {'yes' if compiled else 'no'} "
                      f"| {case['clips_per_cpu_s']:.1f} | {case['ratio']:.2f} | {case['peak_MB']:.0f} |", flush=True)
    if given["out"]:
        import torch
        from run import commit, device_name

        import last
        torch.set_num_threads(1)
        last.write_json(ROOT / given["out"], {**report, "device": device_name(torch.device("cpu")), "torch": torch.__version__, "commit": commit()})
        print(f"written to {given['out']}")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "phases"), str(ROOT / "tests")]
    main(sys.argv[1:])
