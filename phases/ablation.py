"""Run many trainings: missing rows are run, interrupted ones resume, finished ones are skipped.

    just ablation rows=L                                    L0, L1, ... on NTU-60 xsub with seed 0
    just ablation rows=B0,B3,L5 data=nw_ucla seeds=0,1,2    some rows, three seeds; other key=value go to every run
    just ablation rows=lite_small,lite_nano,L jobs=2        any recipe; two runs side by side
    just ablation rows=base streams=all jobs=4              LAST-Base's four streams side by side, then their average
    just ablation rows=all dry=true                         print what would be done

In:  rows=B, L, P, all (these three) or recipes. Phase 2 trains a recipe with a teacher, phase 3 one without labels
     (force=true: whatever phase 2 reached), phase 1 the others. jobs=N runs at most N side by side: each is a process
     with its share of the CPU's threads; several GPUs take turns, unless device=cuda:N or gpus=N is given. A run whose
     teacher, init, streams or gate are among the runs waits for them.
Out: the runs, as these phases leave them; log.txt in each run folder has what the phase printed. Standard output has
     one line when a run starts, moves (every minute: epoch, loss, time left) and ends, then what was done, skipped and
     failed. All rows run with the first seed, then with the second.
A row that fails does not stop the others. Ctrl-C or SIGTERM stops the runs under way; the same command resumes.
Exit codes: 0 all done, 1 a row failed, 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import dataclasses
import signal
from dataclasses import dataclass
from pathlib import Path

from last import STREAMS
from phases.common.command import nearest
from phases.common.recipes import recipe_files
from phases.common.settings_cli import cli
from phases.training.jobs import Batch, Run, program
from phases.training.recipe import Config, load_config


@dataclass
class Options:
    """The command line: recipes, seeds, arguments for every run, runs side by side."""
    rows: list[str]
    seeds: list[str]
    passed: list[str]
    jobs: int
    dry: bool
    force: bool


def parse(argv: list[str]) -> Options:
    own, passed = {"rows": "", "seeds": "", "seed": "", "jobs": "1", "dry": "false", "force": "false"}, []
    for arg in argv:
        key, eq, value = arg.partition("=")
        if not eq or key == "recipe":
            raise ValueError(f"argument {arg!r}: give key=value, and recipes as rows=B or rows=B0,L5")
        if key in own:
            own[key] = value
        else:
            passed.append(arg)
    for key in ("dry", "force"):
        if own[key] not in ("true", "false"):
            raise ValueError(f"{key} = {own[key]!r}: must be true or false")
    if not own["jobs"].isdecimal() or int(own["jobs"]) < 1:
        raise ValueError(f"jobs = {own['jobs']!r}: must be the number of runs side by side, at least 1")
    if own["seed"] and own["seeds"]:
        raise ValueError(f"seed = {own['seed']} and seeds = {own['seeds']}: give one of them")
    seeds = (own["seeds"] or own["seed"] or "0").split(",")
    for seed in seeds:
        if not seed.isdecimal():
            raise ValueError(f"seeds = {seed!r}: must be integers, such as seeds=0,1,2")
    rows, seeds = dict.fromkeys(parse_rows(own["rows"])), dict.fromkeys(seeds)
    return Options(list(rows), list(seeds), passed, int(own["jobs"]), own["dry"] == "true", own["force"] == "true")


def parse_rows(words: str) -> list[str]:
    """Recipes of comma-separated names, groups (B, L, P) or all of these groups."""
    files = recipe_files()
    known = [name for name in files if name[0] in "BLP" and name[1:].isdecimal()]
    known.sort(key=lambda row: (row[0], int(row[1:])))
    rows = []
    for word in words.split(","):
        if word == "all":
            picked = known
        elif word in files or word.endswith(".toml"):
            picked = [word]
        else:
            picked = [row for row in known if row[0] == word]
        if not picked:
            groups = sorted({row[0] for row in known})
            raise ValueError(f"rows = {word!r}: no such row{nearest(word, [*files, *groups, 'all'])}")
        rows += picked
    return rows


def make_runs(args: list[str], force: bool = False) -> list[Run]:
    """The run of a command line; for streams=all the runs of the four streams, and the average that needs them.

    args begin with the recipe. force opens the gate of a recipe of phase 3.
    """
    cfg = load_config([a for a in args if not a.startswith("gpus=")])  # gpus= is left to the phase
    name = f"{cfg.run_name} seed{cfg.seed}"
    if not cfg.streams:
        return [Run(name, [*args, "force=true"] if force and cfg.pretrain.after else args, cfg, built_on(cfg))]
    rest = [a for a in args if a.partition("=")[0] not in ("recipe", "streams", "members", "weights")]
    row, members = args[0].partition("=")[2], []
    if not cfg.members and not any(a.startswith("streams=") for a in args):  # the recipe says streams="all"
        rest.append("streams=")
    for stream in STREAMS:
        chosen = [] if stream == "joint" else [f"model.stream={stream}"]  # the command that phase 1 itself would give
        members += make_runs([f"recipe={cfg.members or row}", *chosen, *rest])
    return [*members, Run(name, args, cfg, [member.cfg.run for member in members])]


def built_on(cfg: Config) -> list[Path]:
    """Folders of the runs that a recipe names as teachers, as its start or as its gate."""
    found = []
    for word in (*cfg.distil.teacher.split(","), f"{cfg.init}:{cfg.seed}" if cfg.init else ""):
        name, _, seed = word.strip().rpartition(":")
        if not seed.isdecimal() or not name:
            name, seed = word.strip(), "0"
        if "/" in name:
            found.append(Path(name.removesuffix("/final.pt")))
        elif name:
            named = dataclasses.replace(cfg, recipe=name, seed=int(seed)).run
            found += [named, *(named.parents[1].with_name(f"{name}-{s}") / named.parent.name / named.name
                               for s in STREAMS[1:])]
    if cfg.pretrain.after:
        found.append(dataclasses.replace(cfg, recipe=cfg.pretrain.after).run)
    return found


def main(argv: list[str]) -> int:
    given = parse(argv)
    runs, failed = {}, []
    for seed in given.seeds:
        for row in given.rows:
            try:
                for run in make_runs([f"recipe={row}", *given.passed, f"seed={seed}"], given.force):
                    runs.setdefault(run.cfg.run, run)  # rows may share a run, as B7 and the average B14 do
            except ValueError as e:
                failed.append((f"{row} seed{seed}", f"error: {e}"))
    if not runs:  # one mistake in the arguments for every run
        raise ValueError(failed[0][1].removeprefix("error: "))
    batch = Batch(list(runs.values()), given.jobs)
    batch.failed += failed
    if given.dry:
        for number, run in batch.waiting:
            batch.say(number, run, f"{run.state}  {program(run.cfg)} {' '.join(run.args)}")
    else:
        batch.go()
    for name, error in batch.failed:
        print(f"failed: {name}: {error}")
    if not given.dry:
        print(f"{batch.done} done, {batch.skipped} skipped, {len(batch.failed)} failed")
    return 1 if batch.failed else 0


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # under nohup SIGHUP is ignored, and stays so
            signal.signal(number, signal.default_int_handler)
    cli(main)
