"""Programs in forked processes on a disk that may fail, for `just torture`: how they ended, and what they left."""
from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import runpy
import shutil
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from phases.common.files import ROOT

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
    files: frozenset = frozenset()    # (name, bytes) of what a whole run leaves


# ---------------------------------------------------------------------------------------------------------------------
# The disk
# ---------------------------------------------------------------------------------------------------------------------

class Disk:
    """A small tmpfs; an ordinary folder if this process may not mount."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir()
        self.mounted = bool(shutil.which("mount")) and succeeds("mount", "-t", "tmpfs", "-o", SIZE, "tmpfs", path)

    def again(self, options: str = f"rw,{SIZE}") -> bool:
        """Mount it again with other options, by default its own."""
        return succeeds("mount", "-o", f"remount,{options}", self.path)

    def empty(self) -> None:
        for inside in self.path.iterdir():
            if inside.is_dir() and not inside.is_symlink():
                shutil.rmtree(inside)
            else:
                inside.unlink()

    def close(self) -> None:
        if self.mounted:
            succeeds("umount", "-l", self.path)


def succeeds(*command: str | Path) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def half_files(top: Path) -> list[str]:
    """Files under final names that are incomplete; names that begin with a dot, and a `.partial` store, are at work."""
    found = []
    for path in top.rglob("*"):
        inside = path.relative_to(top).parts
        at_work = any(part.startswith(".") or part.endswith(".partial") for part in inside)
        if path.is_file() and not at_work and not is_whole(path):
            found.append(str(path))
    return found


def is_whole(path: Path) -> bool:
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


# ---------------------------------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------------------------------

def start(phase: Phase, disk: Path, log: Path, plain: bool = False, most: int | None = None) -> int:
    """The phase in a forked process, which writes what it prints to `log`; its process number.

    A fork of this process has torch loaded: a round takes a second. The phases start their own processes as always.
    plain: without the privileges of root. most: bytes that a file may have.
    """
    pid = os.fork()
    if pid:
        return pid
    # the child: it ends in this function, whatever happens
    code = 99
    try:
        redirect(log)
        os.chdir(disk)

        # a file that may not grow, and permissions that hold
        if most is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        if plain:
            drop_privileges()

        run_program(phase)
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except KeyboardInterrupt:
        code = 130  # before the program's own handler was in place
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def redirect(log: Path) -> None:
    """From here on this process, in a group of its own, writes to a log."""
    os.setpgid(0, 0)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def drop_privileges() -> None:
    """From here on permissions hold for this process, even if its user is root (Linux)."""
    header = struct.pack("<Ii", 0x20080522, 0)  # linux/capability.h, version 3
    if ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)):
        raise OSError(ctypes.get_errno(), "capset")


def run_program(phase: Phase) -> None:
    """What `python -m phases.<program>` does, in this process, which has imported what the program imports."""
    # the ablation ends its trainings at SIGTERM, also if that comes before it has set this itself
    signal.signal(signal.SIGTERM, signal.default_int_handler if phase.program == "ablation" else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    # where nothing is installed, the processes that it starts find the code
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

    # as __main__, with the arguments: those processes import it by its name
    name = f"phases.{phase.program}"
    sys.modules.pop(name, None)
    sys.argv = [name, *phase.argv]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they started."""
    # who is whose parent; a process may end while it is looked at
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))

    # the list grows while it is read
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
    return found


def ended(pid: int) -> int:
    """The exit code of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def printed(log: Path) -> list[str]:
    """Lines of a log, without the progress bars."""
    lines = log.read_text(errors="replace").replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip() and "%|" not in line]


def complaint(code: int, log: Path, promised: tuple[int, ...]) -> str:
    """What is wrong with how a run ended: its exit code, or more than one line for an error."""
    # no traceback, and a promised code
    lines = printed(log)
    if any("Traceback" in line for line in lines):
        return f"a traceback: {lines[-1][:160]}"
    if code not in promised:
        why = [line for line in lines if "error" in line or "failed:" in line] or lines or ["nothing printed"]
        return f"exit code {code}: {why[-1][:200]}"

    # bad input is one line
    errors = [line for line in lines if line.startswith("error:")]
    if code == 2 and len(errors) != 1:
        return f"exit code 2 with {len(errors)} lines of error"
    return ""
