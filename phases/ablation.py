"""Run the rows of the ablation tables: what is missing is run, what was cut goes on, what is done is skipped.

    just ablation rows=L                                    L0, L1, ... on NTU-60 xsub with seed 0
    just ablation rows=B0,B3,L5 data=nw_ucla seeds=0,1,2    some rows, three seeds; any key=value of phase 1 or 2 goes to every run
    just ablation rows=all dry=true                         say what would be done

In:  rows=B, L, P, all or names: recipes/<row>.toml, each trained by phase 2 if it names a teacher, by phase 1 otherwise.
Out: the runs, as these phases leave them, each with log.txt, what the phase said. One line a run on standard output, and at the end what
     was done, skipped and failed. Rows come one after another, all of them with the first seed before the second seed begins.
A row that fails stops no other. Ctrl-C (or SIGTERM) reaches the run under way; the same command goes on from there.
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
    """The phase that trains a recipe: 2 where it names a teacher, else 1."""
    teacher = getattr(getattr(cfg, "distil", None), "teacher", None)
    return ROOT / "phases" / ("p2_distill.py" if teacher else "p1_train.py")


def parse(argv: list[str]) -> tuple[list[str], list[str], list[str], bool]:
    """(rows, seeds, what goes to every run, dry) of a command line."""
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
    if bad := [s for s in seeds if not s.isdecimal()]:
        raise ValueError(f"seeds = {bad[0]!r}: must be integers, such as seeds=0,1,2")
    known = sorted((p.stem for p in (ROOT / "recipes").glob("[BLP]*.toml") if p.stem[1:].isdecimal()), key=lambda r: (r[0], int(r[1:])))
    rows = []
    for word in own["rows"].split(","):
        picked = known if word == "all" else [word] if word in known else [r for r in known if r[0] == word]
        if not picked:
            raise ValueError(f"rows = {word!r}: no such row{nearest(word, [*known, *sorted({r[0] for r in known}), 'all'])}")
        rows += picked
    return list(dict.fromkeys(rows)), list(dict.fromkeys(seeds)), passed, own["dry"] == "true"


def is_done(cfg: Config) -> bool:
    """Whether the very same recipe has its result; where another one has, the phase itself says so."""
    try:
        old = json.loads((cfg.run / "recipe.json").read_text())
    except (OSError, ValueError):
        return False
    return (cfg.run / "result.json").exists() and not differences(old, json.loads(json.dumps(dataclasses.asdict(cfg))))


def run(command: list[str], log: Path) -> str:
    """Run a phase, its words appended to `log`; empty when it went well, else the last line it said."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as f:
        f.write(f"\n{time.strftime('%F %T')} {' '.join(command)}\n".encode())
        f.flush()
        start = f.tell()
        # a process group of its own: Ctrl-C at a terminal then reaches the run once, through us
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, process_group=0)
        try:
            code = child.wait()
        except KeyboardInterrupt:
            os.killpg(child.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(60)
            raise
        finally:
            if child.poll() is None:  # deaf, or we were interrupted twice; what it had saved is whole
                os.killpg(child.pid, signal.SIGKILL)
    said = log.read_bytes()[start:].decode(errors="replace").replace("\r", "\n").split("\n")
    last = next((line.strip() for line in reversed(said) if line.strip()), "said nothing")
    return "" if code == 0 else last if code > 0 else f"killed by {signal.Signals(-code).name} after: {last}"


def main(argv: list[str]) -> int:
    rows, seeds, passed, dry = parse(argv)
    jobs, failed, done, skipped = [], [], 0, 0
    for seed, row in ((s, r) for s in seeds for r in rows):
        args = [f"recipe={row}", *passed, f"seed={seed}"]
        try:
            jobs.append((row, seed, args, load_config([a for a in args if not a.startswith("gpus=")])))  # gpus= is the phase's, not a recipe's
        except ValueError as e:
            failed.append((row, seed, f"error: {e}"))
    if not jobs:  # one mistake in what goes to every run
        raise ValueError(failed[0][2].removeprefix("error: "))
    for number, (row, seed, args, cfg) in enumerate(jobs, 1):
        command = [sys.executable, str(program(cfg)), *args]
        state = "done" if is_done(cfg) else "resume" if (cfg.run / "last.pt").exists() else "run"
        print(f"[{number}/{len(jobs)}] {row} seed{seed}: {state}  {' '.join(command[1:]) if dry else cfg.run / 'log.txt'}", flush=True)
        if dry or state == "done":
            skipped += state == "done"
            continue
        started = time.monotonic()
        try:
            error = run(command, cfg.run / "log.txt")
            top1 = "" if error else json.loads((cfg.run / "result.json").read_text()).get("top1")
        except (OSError, ValueError) as e:  # no place for its log, or no result
            error = f"error: {e}"
        if error:
            failed.append((row, seed, error))
        else:
            done += 1
        print(f"    {error or (f'top-1 {top1:.1f}' if top1 is not None else 'done')}, {(time.monotonic() - started) / 60:.1f} min", flush=True)
    for row, seed, error in failed:
        print(f"failed: {row} seed{seed}: {error}")
    if not dry:
        print(f"{done} done, {skipped} skipped, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP, and so do we then
            signal.signal(number, signal.default_int_handler)
    cli(main)
