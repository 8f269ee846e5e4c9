"""Blocks about speed and memory: networks on a CPU, attention, trainings side by side, a browser, GPUs."""
from __future__ import annotations

from phases.reporting.measured import Results
from phases.reporting.tables import markdown_table

# ---------------------------------------------------------------------------------------------------------------------
# One thread of a CPU
# ---------------------------------------------------------------------------------------------------------------------

def short_speed(results: Results) -> str:
    """Clips per second of each network, and the peak memory of a training step."""
    bench = results.bench
    rows = []

    # LAST-Lite with one body: a training step, and a clip at a time
    for variant in ("nano", "small"):
        step = lite_case(bench, variant=variant, bodies=1, batch=16, training=True, compiled=False)
        one_clip = lite_case(bench, variant=variant, bodies=1, batch=1, training=False, compiled=False)
        compiled = lite_case(bench, variant=variant, bodies=1, batch=1, training=False, compiled=True)
        rows.append({
            "network": f"LAST-Lite {variant}",
            "training": f"{step['clips_per_cpu_s']:.0f}",
            "one clip at a time": f"{one_clip['clips_per_cpu_s']:.0f}",
            "the same, torch.compile": f"{compiled['clips_per_cpu_s']:.0f}",
            "peak MB": f"{step['peak_MB']:.0f}",
        })

    # a whole LAST-Base has no number of channels there
    base = next(case for case in bench["attention"] if case["channels"] is None and case["training"])
    rows.append({
        "network": f"LAST-Base, {base['ratio']:.1f} times as fast as with dense attention masks",
        "training": f"{base['ours']['clips_per_cpu_s']:.1f}",
        "peak MB": f"{base['ours']['peak_MB']:.0f}",
    })
    head = ["network", "training", "one clip at a time", "the same, torch.compile", "peak MB"]
    return (f"{markdown_table(head, rows)}\n\nClips per CPU second; peak of a step of 16 clips (LAST-Base: 2), 64 "
            f"frames, one body. `{bench['command'].strip()}`: {processor(bench)}.")


def lite_case(bench: dict, **wanted: object) -> dict:
    """The case of LAST-Lite that has these properties."""
    for case in bench["networks"]:
        if all(case[key] == value for key, value in wanted.items()):
            return case
    raise ValueError(f"bench.json: lacks a case with {wanted}")


def processor(bench: dict) -> str:
    """The device of a benchmark without its details: AMD EPYC."""
    return bench["device"].split(",")[0]


def lite_speed(results: Results) -> str:
    """Every case of LAST-Lite, eager beside compiled."""
    # the two forms of each case
    cases: dict[tuple, dict[bool, dict]] = {}
    for case in results.bench["networks"]:
        key = case["variant"], case["bodies"], case["batch"], case["training"]
        cases.setdefault(key, {})[case["compiled"]] = case

    # a line per case; what was not compiled has empty cells
    rows = []
    for (variant, bodies, batch, training), forms in cases.items():
        eager = forms[False]
        row = {
            "LAST-Lite": variant,
            "M": str(bodies),
            "batch": str(batch),
            "mode": mode(training),
            "clips per CPU second": f"{eager['clips_per_cpu_s']:.1f}",
            "of small's step": f"{eager['ratio']:.2f}",
            "peak MB: eager": f"{eager['peak_MB']:.0f}",
        }
        if True in forms:
            compiled = forms[True]
            row["compiled"] = f"{compiled['clips_per_cpu_s']:.1f}"
            row["compiled peak"] = f"{compiled['peak_MB']:.0f}"
            row["against eager"] = f"{compiled['clips_per_cpu_s'] / eager['clips_per_cpu_s']:.2f}"
        rows.append(row)
    head = ["LAST-Lite", "M", "batch", "mode", "clips per CPU second", "of small's step", "compiled", "against eager",
            "peak MB: eager", "compiled peak"]
    return markdown_table(head, rows)


def mode(training: bool) -> str:
    return "training step" if training else "forward"


def attention_speed(results: Results) -> str:
    """Partitioned attention against dense masks."""
    rows = []
    for case in results.bench["attention"]:
        # one block of so many channels, or without a number the whole network
        block = f"one block, C = {case['channels']}"
        rows.append({
            "partitioned attention": block if case["channels"] else "LAST-Base, one stream",
            "mode": mode(case["training"]),
            "times as fast": f"{case['ratio']:.2f}",
            "dense: peak MB": f"{case['dense']['peak_MB']:.0f}",
            "ours": f"{case['ours']['peak_MB']:.0f}",
        })
    return markdown_table(list(rows[0]), rows)


def teacher_share(results: Results) -> str:
    """The share of a teacher's forward in a step of phase 2."""
    rows = []
    for case in results.bench["distil"]:
        share = f"{100 * case['teacher_share']:.0f} %"
        rows.append({"teacher": case["teacher"], "share of a step of phase 2": share})
    return markdown_table(list(rows[0]), rows)


def steps_before_and_after(results: Results) -> str:
    """Training steps of two commits, `just bench against=COMMIT`: time as a ratio, memory, launches."""
    bench = results.file("bench-against")
    rows = []
    for case in bench["steps"]:
        before = case["before"]
        after = case["after"]
        rows.append({
            "step": case["name"],
            "clips": str(case["clips"]),
            "times as fast": f"{case['ratio']:.2f}",
            "from": f"{min(case['ratios']):.2f}",
            "to": f"{max(case['ratios']):.2f}",
            "peak MB before": f"{before['peak_MB']:.0f}",
            "MB now": f"{after['peak_MB']:.0f}",
            "launches before": f"{before['launches']:,}",
            "launches now": f"{after['launches']:,}",
        })
    made_by = f"`{bench['command']}`: {bench['device']}, torch {bench['torch']}."
    return f"{markdown_table(list(rows[0]), rows)}\n\n{made_by}"


def beside_peer(results: Results) -> str:
    """LAST-Lite's steps and exported graphs beside EfficientGCN-B0's, `just bench peer=true`, and whether they reach
    the aims."""
    bench = results.file("bench-peer")
    rows = []
    missed = []
    for case in bench["rows"]:
        is_step = case["what"] == "step"
        reached = case["ratio"] >= case["aim"] if is_step else case["ratio"] <= case["aim"]
        if not reached:
            missed.append(f"the {'step' if is_step else 'ONNX file'} of *{case['network']}*")
        rows.append({
            "network": f"LAST-Lite {case['network']}",
            "what": f"training step of {bench['clips']} clips" if is_step else "ONNX, one clip of two bodies",
            "ms": f"{case['ms']:.1f}",
            f"{bench['peer']}'s ms": f"{case['peer_ms']:.1f}",
            "ratio": f"{case['ratio']:.2f} times as fast" if is_step else f"{case['ratio']:.2f} of its time",
            "from": f"{min(case['ratios']):.2f}",
            "to": f"{max(case['ratios']):.2f}",
            "aim": f"≥ {case['aim']:g}" if is_step else f"≤ {case['aim']:g}",
            "reached": "yes" if reached else "no",
        })
    outcome = f"These aims are not reached: {', '.join(missed)}." if missed else "All aims are reached."
    made_by = (f"`{bench['command']}`, {bench['turns']} turns: {processor(bench)}, one thread, torch {bench['torch']}, "
               f"onnxruntime {bench['onnxruntime']}.\n{bench['peer']} has {bench['params']:,} parameters, and "
               f"{bench['edges']:,} weights of edges, which its paper does not count.")
    return f"{markdown_table(list(rows[0]), rows)}\n\n{outcome}\n{made_by}"


def tried_for_speed(results: Results) -> str:
    """What `python -m tests.tools.bench_tried` tried, a row a variant; and where the time of an exported network goes.
    """
    bench = results.file("tried-speed")
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for case in bench["tried"]:
        row = rows.setdefault((case["where"], case["what"]), {
            "where": {"step": "training step", "onnx": "ONNX"}[case["where"]],
            "what": case["what"],
            "kept": "yes" if case["kept"] else "no",
        })
        low, high = min(case["ratios"]), max(case["ratios"])
        row[f"{case['network']}: times as fast"] = f"{case['ratio']:.3f} ({low:.2f} to {high:.2f})"

    # what is left if all but products cost nothing
    peer = results.file("bench-peer")
    ratios = {case["network"]: case["ratio"] for case in peer["rows"] if case["what"] == "onnx"}
    sentences = []
    for network, spent in bench["exported"].items():
        sentences.append(
            f"Of *{network}*'s graph, {100 * spent['products']:.0f} % of the time are convolutions and products of "
            f"matrices, {100 * spent['fusion']:.1f} % stream fusion and first shift; it has {spent['norms']} batch "
            f"norms. If all but these products cost nothing, it would take {spent['products'] * ratios[network]:.2f} "
            f"of {peer['peer']}'s time.")
    made_by = f"`{bench['command']}`, {bench['turns']} turns: {processor(bench)}, one thread."
    head = list(next(iter(rows.values())))
    return "\n".join([markdown_table(head, list(rows.values())), "", *sentences, made_by])


def jobs_side_by_side(results: Results) -> str:
    """Trainings side by side against one by one, `just bench jobs=N`: one sentence."""
    bench = results.file("bench-jobs")
    low, high = min(bench["ratios"]), max(bench["ratios"])
    return (f"`{bench['command']}`: {bench['one by one']:.0f} s one by one, {bench['side by side']:.0f} s with "
            f"{bench['jobs']} side by side, {bench['ratio']:.2f} of it ({low:.2f} to {high:.2f}); {bench['cores']} "
            f"cores, {processor(bench)}.")


# ---------------------------------------------------------------------------------------------------------------------
# Elsewhere
# ---------------------------------------------------------------------------------------------------------------------

def in_browser(results: Results) -> str:
    """Milliseconds per frame of `just page`: the networks, and the pose estimator."""
    bench = results.file("bench-page")
    rows = []

    # networks, with the same file in Python's runtime
    for name, case in bench["recognition"].items():
        rows.append({
            "what": f"{name}: view and network",
            "ms a frame": f"{case['ms']:.1f}",
            "in Python": f"{case['python_ms']:.1f}",
            "KB": f"{case['bytes'] / 1000:.0f}",
        })

    view = bench["view_ms"]
    rows.append({"what": "of nano's: view and answer", "ms a frame": f"{view['browser']:.1f}",
                 "in Python": f"{view['Python']:.1f}"})

    # the pose estimator, which is not ours
    for name, case in bench["pose"].items():
        rows.append({"what": f"MediaPipe's pose, {name}", "ms a frame": f"{case['ms']:.0f}"})

    table = markdown_table(["what", "ms a frame", "in Python", "KB"], rows)
    return f"{table}\n\n`{bench['command']}`: {bench['device']}, no GPU."


def int8_nodes(results: Results, file: str = "bench-nodes") -> str:
    """Kinds of node whose time differs between a network in FP32 and in INT8, of `tests/tools/bench_nodes.py`."""
    bench = results.file(file)
    sides = [{row["kind"]: row for row in bench[side]} for side in ("fp32", "int8")]
    none = {"ms": 0.0, "nodes": 0}

    # what differs by a hundredth of a millisecond; all other kinds in one row
    rows = []
    rest = [0.0, 0.0]
    for kind in sorted(set().union(*sides)):
        fp32, int8 = (side.get(kind, none) for side in sides)
        if abs(int8["ms"] - fp32["ms"]) < 0.01:
            rest = [rest[0] + fp32["ms"], rest[1] + int8["ms"]]
            continue
        rows.append({"kind of node": kind, "FP32: nodes": str(fp32["nodes"]), "ms": f"{fp32['ms']:.2f}",
                     "INT8: nodes": str(int8["nodes"]), "INT8: ms": f"{int8['ms']:.2f}",
                     "more ms": f"{int8['ms'] - fp32['ms']:+.2f}"})
    rows.append({"kind of node": "all others", "ms": f"{rest[0]:.2f}", "INT8: ms": f"{rest[1]:.2f}",
                 "more ms": f"{rest[1] - rest[0]:+.2f}"})

    low, high = min(bench["ratios"]), max(bench["ratios"])
    outcome = f"INT8 takes {bench['ratio']:.2f} of FP32's time ({low:.2f} to {high:.2f} in {bench['turns']} turns)."
    made_by = f"`{bench['command']}`: {processor(bench)}, one thread, onnxruntime {bench['onnxruntime']}."
    if bench.get("instructions"):
        made_by += f"\nFor INT8 it has {', '.join(bench['instructions'])}."
    return f"{markdown_table(list(rows[0]), rows)}\n\n{outcome}\n{made_by}"


def gpu_steps(results: Results) -> str:
    """Every case of `just bench device=cuda`, all GPUs; an older state of the code under the name `before`."""
    rows = []
    for gpu in results.gpus:
        # a case that was measured later has its own commit
        for case in gpu["cases"]:
            rows.append(gpu_step(gpu["device"], case.get("commit", gpu["commit"]), case))

        # an earlier state of the code
        for case in gpu.get("before", {}).get("cases", []):
            rows.append(gpu_step(gpu["device"], "before", case))
    return markdown_table(list(rows[0]), rows) if rows else "No GPU has been measured."


def gpu_step(device: str, code: str, case: dict) -> dict[str, str]:
    return {
        "device": device,
        "network": case["recipe"],
        "dtype": case["dtype"],
        "code": code,
        "compiled": "yes" if case["compiled"] else "no",
        "clips a step": str(case["batch"] * case["accumulate"]),
        "step ms": f"{case['step_ms']:.1f}",
        "launches": str(case.get("launches", "")),
        "clips a second": f"{case['clips_per_s']:.0f}",
        "of it the view": f"{100 * case['view_share']:.0f} %",
        "NTU-60 epoch, s": f"{case['epoch_s']:.0f}",
        "peak MB": str(case.get("peak_MB", "")),
    }
