"""What `just torture` does to a program: ways to interrupt it, a small disk that fails, and what must hold after each.
"""
from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

WAYS = ("kill", "kill", "kill", "term", "int", "twice", "removed", "full", "inodes", "read-only", "permission", "clock",
        "link")
SIZE = "size=256m,nr_inodes=100000"


@dataclass
class Phase:
    """A program, its arguments, the folder that it writes below the disk, and what must come out the same."""
    program: str
    argv: list[str]
    folder: str
    result: Callable[[Path], dict]
    promised: tuple[int, ...] = (0,)  # exit codes of a run that ends by itself
    seconds: float = 0.0
    expected: dict | None = None
    files: frozenset = frozenset()


# ---------------------------------------------------------------------------------------------------------------------
# Half files
# ---------------------------------------------------------------------------------------------------------------------

def whole(path: Path) -> bool:
    """Whether a file under its final name is complete."""
    import numpy as np
    import onnx

    from last import load_checkpoint
    try:
        if path.suffix == ".pt":
            load_checkpoint(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".npz":
            with np.load(path) as z:
                [z[k] for k in z.files]
        elif path.suffix == ".npy":
            np.load(path, mmap_mode="r")
        elif path.suffix == ".onnx":
            onnx.load(path)
    except FileNotFoundError:
        return True  # a process that still runs has taken it away
    except Exception:
        return False
    return True


def half_files(top: Path) -> list[str]:
    """Files under final names that are incomplete; names that begin with a dot, and a `.partial` store, are at work."""
    found = []
    for path in top.rglob("*"):
        inside = path.relative_to(top).parts
        if path.is_file() and not any(part.startswith(".") or part.endswith(".partial") for part in inside):
            found += [] if whole(path) else [str(path)]
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Processes and the disk
# ---------------------------------------------------------------------------------------------------------------------

class Disk:
    """A small tmpfs; an ordinary folder if this process may not mount."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir()
        self.mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", SIZE, "tmpfs", path], capture_output=True,
                                      check=False).returncode == 0 if shutil.which("mount") else False

    def again(self, options: str = f"rw,{SIZE}") -> bool:
        return subprocess.run(["mount", "-o", f"remount,{options}", self.path], capture_output=True,
                              check=False).returncode == 0

    def empty(self) -> None:
        for inside in self.path.iterdir():
            if inside.is_dir() and not inside.is_symlink():
                shutil.rmtree(inside)
            else:
                inside.unlink()

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", self.path], check=False)


def without_privileges() -> None:
    """From here on permissions hold for this process, even if its user is root (Linux)."""
    header, none = struct.pack("<Ii", 0x20080522, 0), bytes(24)  # linux/capability.h, version 3
    if ctypes.CDLL(None, use_errno=True).capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def start(phase: Phase, disk: Path, log: Path, plain: bool = False, most: int | None = None) -> int:
    """The phase in a forked process, which writes what it says to `log`; its process number.

    A fork of this process has torch loaded: a round takes a second. The phases start their own processes as always.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = [str(ROOT / "phases" / f"{phase.program}.py"), *phase.argv]
        sys.modules["__main__"].__file__ = sys.argv[0]  # what a process of multiprocessing imports
        sys.modules["__main__"].__spec__ = None
        os.chdir(disk)
        if most is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        if plain:
            without_privileges()
        if phase.program == "ablation":  # as its own __main__ does
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        else:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from phases.common.settings_cli import cli
        cli(importlib.import_module(phase.program).main)
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except KeyboardInterrupt:
        code = 130  # before the program's own handler was in place
    except BaseException:
        traceback.print_exc()
        code = 99
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found


def ended(pid: int) -> int:
    """The exit code of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def said(log: Path) -> list[str]:
    """Lines of a log, without the progress bars."""
    lines = log.read_text(errors="replace").replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip() and "%|" not in line]


def complaint(code: int, log: Path, promised: tuple[int, ...]) -> str:
    """What is wrong with how a run ended: its exit code, or more than one line for an error."""
    lines = said(log)
    errors = [line for line in lines if line.startswith("error:")]
    if any("Traceback" in line for line in lines):
        return f"a traceback: {lines[-1][:160]}"
    if code not in promised:
        why = [line for line in lines if "error" in line or "failed:" in line] or lines or ["nothing said"]
        return f"exit code {code}: {why[-1][:200]}"
    if code == 2 and len(errors) != 1:
        return f"exit code 2 with {len(errors)} lines of error"
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# Ways to interrupt
# ---------------------------------------------------------------------------------------------------------------------

class Torture:
    """Interrupts one phase again and again, and counts what became of it."""

    def __init__(self, phase: Phase, disk: Disk, work: Path, rng: random.Random):
        self.phase, self.disk, self.rng, self.log = phase, disk, rng, work / "log"
        self.ways, self.faults, self.resumed, self.retried = Counter(), [], 0, 0

    @property
    def folder(self) -> Path:
        return self.disk.path / self.phase.folder

    def fault(self, way: str, words: str) -> None:
        self.faults.append(f"{way}: {words}")
        print(f"fault    {self.phase.program}: {way}: {words}", file=sys.stderr)

    def wait(self, pid: int, share: float = 1.0) -> bool:
        """Wait for a random moment of a run; False if the run ends before. Then the next ones come sooner."""
        moment = time.monotonic() + self.rng.random() * self.phase.seconds * share
        while time.monotonic() < moment:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self.phase.seconds *= 0.8
                return False
            time.sleep(0.005)
        self.phase.seconds *= 1.03
        return True

    def interrupt(self, way: str) -> None:
        """One interruption, and what must hold after it. It counts if it met a run under way."""
        promised, met = (*self.phase.promised, 2), True
        if self.phase.program == "ablation":
            promised = (*promised, 1)  # a row failed
        if way in ("kill", "term", "int"):
            pid = start(self.phase, self.disk.path, self.log)
            met = self.wait(pid)
            number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[way]
            started = descendants(pid) if way == "kill" and self.rng.random() < 0.5 else []
            for process in (pid, *started):  # with all that it started, as a machine that goes down
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
            promised = (*self.phase.promised, 130 if self.phase.program == "ablation" and way == "term" else
                        {"kill": -9, "term": -15, "int": 130}[way])
            self.judge(way, ended(pid), promised)
        elif way == "twice":
            pid, other = start(self.phase, self.disk.path, self.log), self.log.with_name("other")
            met = self.wait(pid, 0.5)
            second = start(self.phase, self.disk.path, other)
            for number, log in ((pid, self.log), (second, other)):
                words = complaint(ended(number), log, promised)
                if words:
                    self.fault(way, words)
        elif way == "removed":
            pid = start(self.phase, self.disk.path, self.log)
            met = self.wait(pid)
            for path in (self.folder, self.folder.with_name(f"{self.folder.name}.partial")):
                shutil.rmtree(path, ignore_errors=True)
            self.judge(way, ended(pid), promised)
        elif way == "clock":
            for path in self.disk.path.rglob("*"):
                with contextlib.suppress(OSError):
                    os.utime(path, (time.time() + 86400,) * 2)
        elif way == "link":
            if self.folder.is_dir() and not self.folder.is_symlink():
                elsewhere = self.disk.path / "elsewhere"
                shutil.rmtree(elsewhere, ignore_errors=True)
                os.rename(self.folder, elsewhere)
                self.folder.symlink_to(elsewhere, target_is_directory=True)
        else:
            met = self.spoil(way, promised)
        self.ways[way] += met
        for path in half_files(self.disk.path):
            self.fault(way, f"a half file {path}")

    def spoil(self, way: str, promised: tuple[int, ...]) -> bool:
        """A disk that fails under way, or from the start; whether the run noticed."""
        about, need = os.statvfs(self.disk.path), sum(size for _, size in self.phase.files) + 8192
        used = (about.f_blocks - about.f_bfree) * about.f_frsize
        options = {"full": f"size={(used + self.rng.randrange(need)) // 1024 + 4}k",
                   "inodes": f"nr_inodes={about.f_files - about.f_ffree + self.rng.randrange(1, 8)}",
                   "read-only": "ro"}.get(way, "")
        if way == "permission":
            folders = [self.disk.path, *(p for p in self.disk.path.rglob("*") if p.is_dir() and not p.is_symlink())]
            for path in folders:
                path.chmod(0o555)
            pid = start(self.phase, self.disk.path, self.log, plain=True)
        elif not self.disk.mounted:
            pid = start(self.phase, self.disk.path, self.log, most=self.rng.randrange(need))
        else:
            early = way == "read-only" or self.rng.random() < 0.5  # no disk turns read-only while a file is written
            if early:
                self.disk.again(options)
            pid = start(self.phase, self.disk.path, self.log)
            self.wait(pid)
            if not early:
                self.disk.again(options)
        code = ended(pid)
        if way == "permission":
            for path in folders:
                path.chmod(0o755)
        elif self.disk.mounted:
            self.disk.again()
        self.judge(way, code, promised)
        return code not in self.phase.promised

    def judge(self, way: str, code: int, promised: tuple[int, ...]) -> None:
        words = complaint(code, self.log, promised)
        if words:
            self.fault(way, words)

    def finish(self, ways: list[str]) -> None:
        """The same command until it ends; then the same result as ever, and no file more."""
        told = "+".join(ways)
        for _ in range(20):
            code = ended(start(self.phase, self.disk.path, self.log))
            if code in self.phase.promised:
                break
            self.retried += 1
            if not any("another process" in line for line in said(self.log)):
                self.fault(told, f"does not go on: {complaint(code, self.log, self.phase.promised)}")
                return
            time.sleep(1)  # a process of the killed run still trains
        else:
            self.fault(told, "does not go on")
        self.resumed += 1
        for path in half_files(self.disk.path):
            self.fault(told, f"a half file {path}")
        found = self.phase.result(self.folder)
        if found != self.phase.expected:
            self.fault(told, f"another result: {found} instead of {self.phase.expected}")
        files = {str(p.relative_to(self.folder.resolve())) for p in self.folder.resolve().rglob("*") if p.is_file()}
        files |= {p.name for p in self.folder.parent.iterdir() if p != self.folder and p.name != "elsewhere"}
        more = {name for name in files ^ {name for name, _ in self.phase.files} if not name.endswith("log.txt")}
        if more:
            self.fault(told, f"files that a plain run has not, or lacks: {sorted(more)[:4]}")

    def go(self, rounds: int, wanted: tuple[str, ...] = WAYS) -> None:
        possible = [way for way in wanted if self.possible(way)]
        while sum(self.ways.values()) < rounds:
            self.disk.empty()
            ways = [self.rng.choice(possible) for _ in range(self.rng.randint(1, 4))]
            for way in ways:
                self.interrupt(way)
            self.finish(ways)

    def possible(self, way: str) -> bool:
        return self.disk.mounted or way not in ("inodes", "read-only")


def reference(phase: Phase, disk: Disk, work: Path) -> None:
    """Run a phase without interruption, twice: what it gives, how long it takes, which files it leaves."""
    for _ in range(2):
        disk.empty()
        began = time.monotonic()
        code = ended(start(phase, disk.path, work / "log"))
        phase.seconds, folder = time.monotonic() - began, disk.path / phase.folder
        if code not in phase.promised:
            raise ValueError(f"{phase.program} does not run: {said(work / 'log')[-3:]}")
        found = phase.result(folder)
        if phase.expected not in (None, found):
            raise ValueError(f"{phase.program} gives another result each time: {found}, {phase.expected}")
        phase.expected = found
    files = [(str(p.relative_to(folder)), p.stat().st_size) for p in folder.rglob("*") if p.is_file()]
    phase.files = frozenset(files) | {(p.name, 0) for p in folder.parent.iterdir() if p != folder}
