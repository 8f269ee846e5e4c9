"""What `just torture` does to a program: ways to interrupt it and to spoil its disk, and what must hold after each."""
from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from tests.tools.forked import Disk, Phase, complaint, descendants, ended, half_files, printed, start

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
WAYS = ("kill", "kill", "kill", "term", "int", "twice", "removed", "full", "inodes", "read-only", "permission", "clock",
        "link")
DAY = 86400.0  # seconds


class Torture:
    """Interrupts one phase again and again, and counts what became of it."""

    def __init__(self, phase: Phase, disk: Disk, work: Path, rng: random.Random):
        self.phase = phase
        self.disk = disk
        self.rng = rng
        self.log = work / "log"
        self.ways = Counter()
        self.faults = []
        self.resumed = 0
        self.retried = 0

        # exit codes of an interrupted run: bad input, as a disk that fails, or (ablation) a row that failed
        self.promised = (*phase.promised, 2)
        if phase.program == "ablation":
            self.promised += (1,)

    @property
    def folder(self) -> Path:
        return self.disk.path / self.phase.folder

    def go(self, rounds: int, wanted: tuple[str, ...] = WAYS) -> None:
        """Interrupt `rounds` runs; up to four interruptions meet a run before it may end."""
        possible = [way for way in wanted if self.disk.mounted or way not in ("inodes", "read-only")]
        while sum(self.ways.values()) < rounds:
            self.disk.empty()
            ways = [self.rng.choice(possible) for _ in range(self.rng.randint(1, 4))]
            for way in ways:
                self.interrupt(way)
            self.finish(ways)

    def fault(self, way: str, words: str) -> None:
        self.faults.append(f"{way}: {words}")
        print(f"fault    {self.phase.program}: {way}: {words}", file=sys.stderr)

    def judge(self, way: str, code: int, promised: tuple[int, ...], log: Path | None = None) -> None:
        words = complaint(code, log or self.log, promised)
        if words:
            self.fault(way, words)

    # --- while it runs ---

    def interrupt(self, way: str) -> None:
        """One interruption, and what must hold after it. It counts if it met a run under way."""
        if way in SIGNALS:
            met = self.kill(way)
        elif way == "twice":
            met = self.start_twice()
        elif way == "removed":
            met = self.remove()
        elif way == "clock":
            met = self.turn_clock()
        elif way == "link":
            met = self.replace_by_link()
        elif way == "permission":
            met = self.forbid()
        else:
            met = self.spoil(way)

        # at no moment a half file
        self.ways[way] += met
        for path in half_files(self.disk.path):
            self.fault(way, f"a half file {path}")

    def wait(self, pid: int, share: float = 1.0) -> bool:
        """Wait for a random moment of a run; False if the run ends before. Then the next ones come sooner."""
        # by the time that the last runs took
        moment = time.monotonic() + self.rng.random() * self.phase.seconds * share
        while time.monotonic() < moment:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self.phase.seconds *= 0.8
                return False
            time.sleep(0.005)
        self.phase.seconds *= 1.03
        return True

    def kill(self, way: str) -> bool:
        """A signal at a random moment; every second SIGKILL meets all processes, as when a machine goes down."""
        pid = start(self.phase, self.disk.path, self.log)
        met = self.wait(pid)
        started = descendants(pid) if way == "kill" and self.rng.random() < 0.5 else []
        for process in (pid, *started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, SIGNALS[way])

        # the ablation takes SIGTERM for Ctrl-C
        code = {"kill": -9, "term": -15, "int": 130}[way]
        if way == "term" and self.phase.program == "ablation":
            code = 130
        self.judge(way, ended(pid), (*self.phase.promised, code))
        return met

    def start_twice(self) -> bool:
        """The same command while it runs: the second one works, or is refused."""
        # early enough that both are under way
        pid = start(self.phase, self.disk.path, self.log)
        met = self.wait(pid, 0.5)
        other = self.log.with_name("other")
        second = start(self.phase, self.disk.path, other)
        self.judge("twice", ended(pid), self.promised)
        self.judge("twice", ended(second), self.promised, other)
        return met

    def remove(self) -> bool:
        """The folder is deleted under way."""
        pid = start(self.phase, self.disk.path, self.log)
        met = self.wait(pid)
        for path in (self.folder, self.folder.with_name(f"{self.folder.name}.partial")):
            shutil.rmtree(path, ignore_errors=True)
        self.judge("removed", ended(pid), self.promised)
        return met

    # --- between two runs ---

    def turn_clock(self) -> bool:
        """The files were written by a clock that is a day ahead."""
        for path in self.disk.path.rglob("*"):
            with contextlib.suppress(OSError):
                os.utime(path, (time.time() + DAY, time.time() + DAY))
        return True

    def replace_by_link(self) -> bool:
        """The folder moves, and a link takes its place."""
        if self.folder.is_dir() and not self.folder.is_symlink():
            elsewhere = self.disk.path / "elsewhere"
            shutil.rmtree(elsewhere, ignore_errors=True)
            os.rename(self.folder, elsewhere)
            self.folder.symlink_to(elsewhere, target_is_directory=True)
        return True

    # --- a disk that fails; each returns whether the run noticed ---

    def forbid(self) -> bool:
        """Folders in which nothing may be written."""
        folders = [self.disk.path]
        folders += [path for path in self.disk.path.rglob("*") if path.is_dir() and not path.is_symlink()]
        for path in folders:
            path.chmod(0o555)

        # without root's privileges, which would pass
        code = ended(start(self.phase, self.disk.path, self.log, plain=True))
        for path in folders:
            path.chmod(0o755)
        self.judge("permission", code, self.promised)
        return code not in self.phase.promised

    def spoil(self, way: str) -> bool:
        """A disk that is full, has no inodes left or turns read-only, from the start or under way."""
        need = sum(size for _, size in self.phase.files) + 8192
        if self.disk.mounted:
            code = self.run_on_spoilt(way, need)
            self.disk.again()
        else:  # a file that may not grow has the same effect
            code = ended(start(self.phase, self.disk.path, self.log, most=self.rng.randrange(need)))
        self.judge(way, code, self.promised)
        return code not in self.phase.promised

    def run_on_spoilt(self, way: str, need: int) -> int:
        """The exit code of a run whose disk is mounted again with less than it needs."""
        # a little more than what is used now
        about = os.statvfs(self.disk.path)
        used = (about.f_blocks - about.f_bfree) * about.f_frsize
        options = {"full": f"size={(used + self.rng.randrange(need)) // 1024 + 4}k",
                   "inodes": f"nr_inodes={about.f_files - about.f_ffree + self.rng.randrange(1, 8)}",
                   "read-only": "ro"}[way]

        # before the run, or while it writes
        early = way == "read-only" or self.rng.random() < 0.5  # no disk turns read-only while a file is written
        if early:
            self.disk.again(options)
        pid = start(self.phase, self.disk.path, self.log)
        self.wait(pid)
        if not early:
            self.disk.again(options)
        return ended(pid)

    # --- in the end ---

    def finish(self, ways: list[str]) -> None:
        """The same command until it ends; then the same result as ever, and no file more."""
        told = "+".join(ways)
        if not self.ends(told):
            return

        # no half file, the same result, the same files
        self.resumed += 1
        for path in half_files(self.disk.path):
            self.fault(told, f"a half file {path}")
        found = self.phase.result(self.folder)
        if found != self.phase.expected:
            self.fault(told, f"another result: {found} instead of {self.phase.expected}")
        files = {name for name, _ in left_files(self.folder) if name != "elsewhere"}
        more = [name for name in files ^ {name for name, _ in self.phase.files} if not name.endswith("log.txt")]
        if more:
            self.fault(told, f"files that a plain run has not, or lacks: {sorted(more)[:4]}")

    def ends(self, told: str) -> bool:
        """Run the command until it ends as promised; only a process of the killed run that still trains may refuse."""
        for _ in range(20):
            code = ended(start(self.phase, self.disk.path, self.log))
            if code in self.phase.promised:
                return True
            self.retried += 1
            if not any("another process" in line for line in printed(self.log)):
                self.fault(told, f"does not go on: {complaint(code, self.log, self.phase.promised)}")
                return False
            time.sleep(1)
        self.fault(told, "does not go on")
        return False


def left_files(folder: Path) -> frozenset[tuple[str, int]]:
    """(name, bytes) of every file in a folder, and (name, 0) of what is beside it."""
    inside = folder.resolve()
    files = {(str(path.relative_to(inside)), path.stat().st_size) for path in inside.rglob("*") if path.is_file()}
    return frozenset(files | {(path.name, 0) for path in folder.parent.iterdir() if path != folder})


def reference(phase: Phase, disk: Disk, work: Path) -> None:
    """Run a phase without interruption, twice: what it gives, how long it takes, which files it leaves."""
    for _ in range(2):
        # how long it takes
        disk.empty()
        began = time.monotonic()
        code = ended(start(phase, disk.path, work / "log"))
        phase.seconds = time.monotonic() - began
        if code not in phase.promised:
            raise ValueError(f"{phase.program} does not run: {printed(work / 'log')[-3:]}")

        # what it gives, which must not depend on chance
        found = phase.result(disk.path / phase.folder)
        if phase.expected not in (None, found):
            raise ValueError(f"{phase.program} gives another result each time: {found}, {phase.expected}")
        phase.expected = found
    phase.files = left_files(disk.path / phase.folder)
