"""A program as somebody runs it who may not write everywhere, in a process of its own (Linux)."""
import ctypes
import os
import runpy
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
KEEP_CAPABILITIES = 8       # prctl: through the change of the user
READ_EVERYWHERE = 1 << 2    # CAP_DAC_READ_SEARCH: Python and the tests' folders may be root's own


def as_other_user(program: str, *words: object, cwd: Path, code: Path = ROOT) -> subprocess.CompletedProcess:
    """`python -m PROGRAM WORDS` in the folder cwd; by nobody where root runs the tests. code: the project's folder."""
    argv = [sys.executable, __file__, str(code), program, *map(str, words)]
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o777)
        environment = os.environ | {"HOME": home, "MPLCONFIGDIR": home, "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTHONPATH", None)
        return subprocess.run(argv, cwd=cwd, env=environment, text=True, capture_output=True, stdin=subprocess.DEVNULL)


def become_nobody() -> None:
    """From here on this process writes where everybody may write, and still reads what root may read."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(KEEP_CAPABILITIES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)

    # linux/capability.h, version 3: effective, permitted and inheritable ones, the lower 32 first
    header = struct.pack("<Ii", 0x20080522, 0)
    data = struct.pack("<6I", READ_EVERYWHERE, READ_EVERYWHERE, 0, 0, 0, 0)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    if os.geteuid() == 0:
        become_nobody()
    place, name, *rest = sys.argv[1:]
    sys.path[0] = place
    sys.argv = [name, *rest]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
