"""Trainings side by side: each run is a process with its own log; a run waits for those that it builds on."""
from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from phases.common.files import read_json, read_log
from phases.common.progress import loss_is_back
from phases.common.recipes import differences, shipped
from phases.training.networks import named_folders
from phases.training.recipe import Config, load_config, stream_members
from phases.training.teachers import named_teachers

MOVES = 60.0  # seconds between two lines about a run under way
PATIENCE = 60.0  # seconds that interrupted runs have to end by themselves

# ---------------------------------------------------------------------------------------------------------------------
# Runs, and what they build on
# ---------------------------------------------------------------------------------------------------------------------

@dataclass
class Run:
    """A training: the words of its command, its resolved recipe, and the folders of the runs that it builds on."""
    name: str
    args: list[str]
    cfg: Config
    needs: list[Path]

    @property
    def log(self) -> Path:
        return self.cfg.run / "log.txt"

    @property
    def state(self) -> str:
        """done, resume or run. A result of another recipe is not done: the phase itself refuses its folder."""
        if is_done(self.cfg):
            return "done"
        return "resume" if (self.cfg.run / "last.pt").exists() else "run"


def make_runs(args: list[str], force: bool = False) -> list[Run]:
    """The run of a command line; for streams=all the runs of the four streams, and the average that needs them.

    force opens the gate of a recipe of phase 3.
    """
    cfg = load_config(args)
    if not cfg.streams:
        return [make_run(cfg, args, built_on(cfg), force)]

    # the streams first; the average needs them all
    streams = []
    for member, words in stream_members(cfg, args):
        streams.append(make_run(member, words, built_on(member), force))
    return [*streams, make_run(cfg, args, [stream.cfg.run for stream in streams])]


def make_run(cfg: Config, args: list[str], needs: list[Path], force: bool = False) -> Run:
    opened = ["force=true"] if force and cfg.pretrain.after else []
    return Run(f"{cfg.run_name} seed{cfg.seed}", [*args, *opened], cfg, needs)


def built_on(cfg: Config) -> list[Path]:
    """Folders of the runs that a recipe names as teachers, as its start or as its gate."""
    found = []
    for name, seed in named_teachers(cfg):
        found += named_folders(name, cfg, seed)
    if cfg.init and not shipped(cfg.init):
        found += named_folders(cfg.init, cfg, cfg.seed)[:1]
    if cfg.pretrain.after:
        found.append(dataclasses.replace(cfg, recipe=cfg.pretrain.after).run)
    return found


def program(cfg: Config) -> str:
    """The phase that trains a recipe: 2 if it names a teacher, 3 if it learns without labels, else 1."""
    if cfg.distil.teacher:
        return "p2_distill"
    return "p3_maskclr" if cfg.pretrain.after else "p1_train"


def is_done(cfg: Config) -> bool:
    """Whether the folder has a result of this very recipe."""
    new = json.loads(json.dumps(dataclasses.asdict(cfg)))
    try:
        changed = differences(read_json(cfg.run / "recipe.json"), new)
    except (OSError, ValueError):
        return False

    # an average has scores and no weights
    whole = bool(cfg.streams) or (cfg.run / "final.pt").exists()
    return whole and (cfg.run / "result.json").exists() and not changed


# ---------------------------------------------------------------------------------------------------------------------
# A run under way
# ---------------------------------------------------------------------------------------------------------------------

class Job:
    """A run under way: a process of its own that appends what it prints to the run's log."""

    def __init__(self, run: Run, threads: int, gpu: int | None):
        self.run = run
        self.gpu = gpu
        self.started = time.monotonic()
        self.told = self.started
        self.epochs = len(read_log(run.cfg.run / "metrics.jsonl"))

        # a share of the CPU's threads, and a GPU
        env = os.environ.copy()
        env.setdefault("OMP_NUM_THREADS", str(threads))
        if gpu is not None:
            env["CUDA_VISIBLE_DEVICES"] = str(gpu)

        # what it prints is appended to the log, after its command
        command = [sys.executable, "-m", f"phases.{program(run.cfg)}", *run.args]
        run.log.parent.mkdir(parents=True, exist_ok=True)
        with open(run.log, "ab") as log:
            log.write(f"\n{time.strftime('%F %T')} {' '.join(command)}\n".encode())
            log.flush()
            self.start = log.tell()

            # own process group: a terminal's Ctrl-C then reaches the run once, through us
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                          process_group=0, env=env)

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.started) / 60

    def moves(self) -> str:
        """`epoch 12/25, loss 0.412, 1.3 min left`, and a loss that is back; empty before an epoch has ended."""
        lines = read_log(self.run.cfg.run / "metrics.jsonl")
        new = len(lines) - self.epochs
        total = self.run.cfg.train.epochs
        if new < 1:
            return ""

        left = self.minutes / new * (total - len(lines))
        loss = lines[-1].get("loss", float("nan"))
        moved = f"epoch {len(lines)}/{total}, loss {loss:.3f}, {left:.1f} min left"
        return "; ".join(filter(None, (moved, loss_is_back(lines))))

    def outcome(self) -> tuple[str, str]:
        """(error, what was reached) of a process that ended; the error is the last in its log, else the last line."""
        # what a finished run reached; phase 3 has no accuracy
        code = self.child.returncode
        if code == 0:
            try:
                top1 = json.loads((self.run.cfg.run / "result.json").read_text()).get("top1")
            except (OSError, ValueError) as e:
                return f"error: {e}", ""
            return "", "done" if top1 is None else f"top-1 {top1:.1f}"

        # a process that a killed `just ablation` left behind may write to the same log
        text = self.run.log.read_bytes()[self.start:].decode(errors="replace").replace("\r", "\n")
        errors = re.findall(r"error: .*", text)
        lines = errors or [line.strip() for line in text.split("\n") if line.strip()]
        last = lines[-1] if lines else "said nothing"
        return last if code > 0 else f"killed by {signal.Signals(-code).name} after: {last}", ""

    def stop(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)


def stop_all(jobs: list[Job]) -> None:
    """Interrupt runs and wait a minute for them to end; then kill what is left. Their last.pt is intact either way."""
    try:
        for job in jobs:
            job.stop(signal.SIGINT)

        # all of them within the same minute
        end = time.monotonic() + PATIENCE
        for job in jobs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                job.child.wait(max(0.0, end - time.monotonic()))
    finally:
        for job in jobs:
            if job.child.poll() is None:
                job.stop(signal.SIGKILL)


def free_gpu(jobs: list[Job], run: Run) -> int | None:
    """The GPU with the fewest runs, if there are several; None leaves the choice to the phase."""
    gpus = torch.cuda.device_count()
    chosen = ":" in run.cfg.device or run.cfg.gpus > 1  # by the recipe or its words
    if gpus < 2 or chosen or "CUDA_VISIBLE_DEVICES" in os.environ:
        return None
    return min(range(gpus), key=lambda gpu: sum(job.gpu == gpu for job in jobs))


# ---------------------------------------------------------------------------------------------------------------------
# All runs
# ---------------------------------------------------------------------------------------------------------------------

class Batch:
    """The runs that are waiting, under way, done and failed; at most `jobs` of them at once."""

    def __init__(self, runs: list[Run], jobs: int):
        self.waiting = list(enumerate(runs, 1))
        self.total = len(runs)
        self.jobs = jobs
        self.under_way: list[tuple[int, Job]] = []
        self.done = 0
        self.skipped = 0
        self.failed: list[tuple[str, str]] = []  # (name, error)

    def go(self) -> None:
        """Start runs and look after them until all have ended; on an exception stop those under way."""
        try:
            while self.waiting or self.under_way:
                moved = self.start()

                # runs that wait for each other: the first one starts, and says what it lacks
                if not moved and not self.under_way:
                    self.waiting[0][1].needs.clear()

                time.sleep(0.1)
                self.look()
        finally:
            stop_all([job for _, job in self.under_way])

    def start(self) -> bool:
        """Start what may start: a place is free, and nothing that the run builds on is waiting or under way.

        Returns whether any run waits no longer.
        """
        before = len(self.waiting)
        for number, run in list(self.waiting):
            if len(self.under_way) >= self.jobs:
                break
            if self.must_wait(number, run):
                continue

            # what has its result is done, all else becomes a process
            self.waiting.remove((number, run))
            if run.state == "done":
                self.skipped += 1
                self.say(number, run, "done")
            else:
                self.launch(number, run)
        return len(self.waiting) < before

    def must_wait(self, number: int, run: Run) -> bool:
        """Whether another run that has not ended is one that `run` builds on."""
        # all that are under way or waiting, except itself
        unfinished = [job.run for _, job in self.under_way]
        unfinished += [other for n, other in self.waiting if n != number]

        folders = {other.cfg.run.resolve() for other in unfinished}
        return any(folder.resolve() in folders for folder in run.needs)

    def launch(self, number: int, run: Run) -> None:
        self.say(number, run, f"{run.state}  {run.log}")

        # its share of the machine
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        gpu = free_gpu([job for _, job in self.under_way], run)

        try:
            self.under_way.append((number, Job(run, threads, gpu)))
        except OSError as e:  # its log cannot be written
            self.fail(number, run, f"error: {e}")

    def look(self) -> None:
        """Report the runs that ended, and each minute those that moved."""
        for number, job in list(self.under_way):
            if job.child.poll() is not None:
                self.under_way.remove((number, job))
                self.report(number, job)
            elif time.monotonic() - job.told > MOVES:
                job.told = time.monotonic()
                moves = job.moves()
                if moves:
                    self.say(number, job.run, moves)

    def report(self, number: int, job: Job) -> None:
        """Count a run that ended, and say how."""
        error, reached = job.outcome()
        if error:
            self.fail(number, job.run, error)
        else:
            self.done += 1
            self.say(number, job.run, f"{reached}, {job.minutes:.1f} min")

    def fail(self, number: int, run: Run, error: str) -> None:
        self.failed.append((run.name, error))
        self.say(number, run, error)

    def say(self, number: int, run: Run, message: str) -> None:
        print(f"[{number}/{self.total}] {run.name}: {message}", flush=True)
