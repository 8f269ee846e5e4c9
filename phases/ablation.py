"""Run the rows of the ablation tables: missing rows are run, interrupted ones resume, finished ones are skipped.

    just ablation rows=L                                    L0, L1, ... on NTU-60 xsub with seed 0
    just ablation rows=B0,B3,L5 data=nw_ucla seeds=0,1,2    some rows, three seeds; other key=value go to every run
    just ablation rows=all dry=true                         print what would be done

In:  rows=B, L, P, all or names: recipes/<row>.toml. Phase 2 trains a row with a teacher, phase 1 the others.
Out: the runs, as these phases leave them; log.txt in each run folder has what the phase printed. Standard output has
     one line per run, then what was done, skipped and failed. All rows run with the first seed, then with the second.
A row that fails does not stop the others. Ctrl-C or SIGTERM stops the run under way; the same command resumes.
Exit codes: 0 all done, 1 a row failed, 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from recipe import ROOT, Config, cli, load_config, nearest

from last import differences


def program(cfg: Config) -> Path:
    """The phase that trains a recipe: 2 if it names a teacher, else 1."""
    teacher = getattr(getattr(cfg, "distil", None), "teacher", None)
    return ROOT / "phases" / ("p2_distill.py" if teacher else "p1_train.py")


def parse(argv: list[str]) -> tuple[list[str], list[str], list[str], bool]:
    """(rows, seeds, arguments for every run, dry) of a command line."""
    own, passed = {"rows": "", "seeds": "", "seed": "", "dry": "false"}, []
    for arg in argv:
        key, eq, value = arg.partition("=")
        if not eq or key == "recipe":
            raise ValueError(f"argument {arg!r}: give key=value, and recipes as rows=B or rows=B0,L5")
        if key in own:
            own[key] = value
        else:
            passed.append(arg)
    if own["dry"] not in ("true", "false"):
        raise ValueError(f"dry = {own['dry']!r}: must be true or false")
    if own["seed"] and own["seeds"]:
        raise ValueError(f"seed = {own['seed']} and seeds = {own['seeds']}: give one of them")
    seeds = (own["seeds"] or own["seed"] or "0").split(",")
    for seed in seeds:
        if not seed.isdecimal():
            raise ValueError(f"seeds = {seed!r}: must be integers, such as seeds=0,1,2")
    rows = parse_rows(own["rows"])
    return list(dict.fromkeys(rows)), list(dict.fromkeys(seeds)), passed, own["dry"] == "true"


def parse_rows(words: str) -> list[str]:
    """Rows of comma-separated names, groups (B, L, P) or all."""
    known = [path.stem for path in (ROOT / "recipes").glob("[BLP]*.toml") if path.stem[1:].isdecimal()]
    known.sort(key=lambda row: (row[0], int(row[1:])))
    rows = []
    for word in words.split(","):
        if word == "all":
            picked = known
        elif word in known:
            picked = [word]
        else:
            picked = [row for row in known if row[0] == word]
        if not picked:
            groups = sorted({row[0] for row in known})
            raise ValueError(f"rows = {word!r}: no such row{nearest(word, [*known, *groups, 'all'])}")
        rows += picked
    return rows


def is_done(cfg: Config) -> bool:
    """Whether the folder has a result of this very recipe. If it has one of another, the phase itself refuses."""
    try:
        old = json.loads((cfg.run / "recipe.json").read_text())
    except (OSError, ValueError):
        return False
    new = json.loads(json.dumps(dataclasses.asdict(cfg)))
    return (cfg.run / "result.json").exists() and not differences(old, new)


def run(command: list[str], log: Path) -> str:
    """Run a phase and append what it prints to `log`. Returns its last line if it failed, else an empty string."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as f:
        f.write(f"\n{time.strftime('%F %T')} {' '.join(command)}\n".encode())
        f.flush()
        start = f.tell()
        # own process group: a terminal's Ctrl-C then reaches the run once, through us
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, process_group=0)
        try:
            code = child.wait()
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(60)
            raise
        finally:
            if child.poll() is None:  # it ignored SIGINT, or a second Ctrl-C came; its last.pt is intact
                os.killpg(child.pid, signal.SIGKILL)
    if code == 0:
        return ""
    lines = log.read_bytes()[start:].decode(errors="replace").replace("\r", "\n").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "said nothing")
    return last if code > 0 else f"killed by {signal.Signals(-code).name} after: {last}"


def main(argv: list[str]) -> int:
    rows, seeds, passed, dry = parse(argv)
    jobs, failed, done, skipped = [], [], 0, 0
    for seed in seeds:
        for row in rows:
            args = [f"recipe={row}", *passed, f"seed={seed}"]
            try:  # gpus= is left to the phase: it checks which GPUs there are
                jobs.append((row, seed, args, load_config([a for a in args if not a.startswith("gpus=")])))
            except ValueError as e:
                failed.append((row, seed, f"error: {e}"))
    if not jobs:  # one mistake in the arguments for every run
        raise ValueError(failed[0][2].removeprefix("error: "))
    for number, (row, seed, args, cfg) in enumerate(jobs, 1):
        command, log = [sys.executable, str(program(cfg)), *args], cfg.run / "log.txt"
        state = "done" if is_done(cfg) else "resume" if (cfg.run / "last.pt").exists() else "run"
        print(f"[{number}/{len(jobs)}] {row} seed{seed}: {state}  {' '.join(command[1:]) if dry else log}", flush=True)
        skipped += state == "done"
        if dry or state == "done":
            continue
        started, top1 = time.monotonic(), None
        try:
            error = run(command, log)
            if not error:
                top1 = json.loads((cfg.run / "result.json").read_text()).get("top1")
        except (OSError, ValueError) as e:  # its log cannot be written, or its result cannot be read
            error = f"error: {e}"
        if error:
            failed.append((row, seed, error))
        else:
            done += 1
        outcome = error or (f"top-1 {top1:.1f}" if top1 is not None else "done")
        print(f"    {outcome}, {(time.monotonic() - started) / 60:.1f} min", flush=True)
    for row, seed, error in failed:
        print(f"failed: {row} seed{seed}: {error}")
    if not dry:
        print(f"{done} done, {skipped} skipped, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # under nohup SIGHUP is ignored, and stays so
            signal.signal(number, signal.default_int_handler)
    cli(main)
