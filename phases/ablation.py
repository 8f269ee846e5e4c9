"""Run many trainings: missing rows are run, interrupted ones resume, finished ones are skipped.

    just ablation rows=L                                    L0, L1, ... on NTU-60 xsub with seed 0
    just ablation rows=B0,B3,L5 data=nw_ucla seeds=0,1,2    some rows, three seeds; other key=value go to every run
    just ablation rows=lite_small,lite_nano,L jobs=2        any recipe; two runs side by side
    just ablation rows=base streams=all jobs=4              LAST-Base's four streams side by side, then their average
    just ablation rows=all dry=true                         print what would be done, and how long it would take

In:  rows=B, L, P, all (these three) or recipes. Phase 2 trains a recipe with a teacher, phase 3 one without labels,
     phase 1 the others. Each of the runs side by side is a process with its share of the CPU's threads; several GPUs
     take turns, unless device=cuda:N or gpus=N is given. A run whose teacher, init, streams or gate are among the runs
     waits for them.
Out: the runs, as these phases leave them; log.txt in each run folder has what the phase printed. Standard output has
     one line when a run starts, moves (every minute: epoch, loss, time left, and whether the loss climbs back to where
     it began) and ends, then what was done, skipped and failed. All rows run with the first seed, then with the second.
A row that fails does not stop the others. Ctrl-C or SIGTERM stops the runs under way; the same command resumes.
Exit codes: 0 all done, 1 a row failed, 2 bad input, 130 interrupted.
"""
from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Annotated

from phases.common.command import nearest, run
from phases.common.files import ROOT
from phases.common.recipes import recipe_files
from phases.reporting.durations import outlook
from phases.reporting.measured import Results
from phases.training.jobs import Batch, Run, make_runs, program


@dataclass(frozen=True)
class Options:
    rows: Annotated[tuple[str, ...], "groups of rows, or recipes"]
    seeds: Annotated[tuple[int, ...], (0, 2**31 - 1), "a run each; without it seed 0"] = ()
    seed: Annotated[int | None, (0, 2**31 - 1), "a single one"] = None
    jobs: Annotated[int, (1, 1024), "runs side by side"] = 1
    dry: Annotated[bool, "print the runs and do nothing"] = False
    force: Annotated[bool, "phase 3 trains whatever phase 2 reached"] = False

    def __post_init__(self):
        if not self.rows:
            raise ValueError("no rows: give rows=B or rows=B0,L5")
        if self.seed is not None and self.seeds:
            raise ValueError(f"seed = {self.seed} and seeds = {list(self.seeds)}: give one of them")


def main(options: Options, words: list[str]) -> int:
    if any(word.startswith("recipe=") for word in words):
        raise ValueError("recipe=: give recipes as rows=B or rows=B0,L5")

    # rows that cannot be run count as failed; one mistake in the words for every run ends the program
    runs, failed = planned_runs(options, words)
    if not runs:
        raise ValueError(failed[0][1].removeprefix("error: "))

    # run them, or print the command of each
    batch = Batch(runs, options.jobs)
    batch.failed += failed
    if options.dry:
        for number, planned in batch.waiting:
            batch.say(number, planned, f"{planned.state}  {program(planned.cfg)} {' '.join(planned.args)}")
        print("\n".join(outlook(runs, Results(ROOT / "results"))))
    else:
        batch.go()

    # what was done
    for name, error in batch.failed:
        print(f"failed: {name}: {error}")
    if not options.dry:
        print(f"{batch.done} done, {batch.skipped} skipped, {len(batch.failed)} failed")
    return 1 if batch.failed else 0


def planned_runs(options: Options, words: list[str]) -> tuple[list[Run], list[tuple[str, str]]]:
    """The runs in their order, each folder once; and (name, error) of the rows that cannot be run."""
    seeds = options.seeds or (options.seed or 0,)
    rows = named_rows(options.rows)

    runs: dict = {}
    failed = []
    for seed in dict.fromkeys(seeds):
        for row in rows:
            try:
                made = make_runs([f"recipe={row}", *words, f"seed={seed}"], options.force)
            except ValueError as e:
                failed.append((f"{row} seed{seed}", f"error: {e}"))
                continue

            # rows may share a run, as B7 and the average B14 do
            for one in made:
                runs.setdefault(one.cfg.run, one)
    return list(runs.values()), failed


def named_rows(words: tuple[str, ...]) -> list[str]:
    """Recipes of names, groups (B, L, P) or all of these groups, each recipe once."""
    files = recipe_files()
    numbered = [name for name in files if name[0] in "BLP" and name[1:].isdecimal()]
    numbered.sort(key=lambda row: (row[0], int(row[1:])))

    rows = []
    for word in words:
        if word == "all":
            picked = numbered
        elif word in files or word.endswith(".toml"):
            picked = [word]
        else:
            picked = [row for row in numbered if row[0] == word]
        if not picked:
            groups = sorted({row[0] for row in numbered})
            raise ValueError(f"rows = {word!r}: no such row{nearest(word, [*files, *groups, 'all'])}")
        rows += picked
    return list(dict.fromkeys(rows))


def end_as_by_an_interrupt() -> None:
    """SIGTERM and SIGHUP stop the runs under way as Ctrl-C does; under nohup SIGHUP is ignored, and stays so."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


if __name__ == "__main__":
    end_as_by_an_interrupt()
    run(main, Options, recipe=True)
