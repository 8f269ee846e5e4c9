"""x"""
from __future__ import annotations

import dataclasses
import difflib
import os
import signal
import sys
from collections.abc import Callable

import torch.distributed as dist

from last import rank_of

# ---------------------------------------------------------------------------------------------------------------------
# Tables -> dataclasses
# ---------------------------------------------------------------------------------------------------------------------

def nearest(word: str, known) -> str:
    """`, did you mean 'x'? (known: x, y, z)`: the end of every message about an unknown name."""
    known = sorted(filter(None, map(str, known)))
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    listed = ", ".join(known) if len(known) <= 40 else f"{len(known)}, see recipes/README.md"
    return (f", did you mean {close[0]!r}?" if close else "") + f" (known: {listed})"


def suggestion(key: str, defaults: dict) -> str:
    """What an unknown key may have meant: the tables that have a field of this name, else the nearest key."""
    tables = [name for name, default in defaults.items() if dataclasses.is_dataclass(default) and hasattr(default, key)]
    if tables:
        return f", did you mean {' or '.join(f'{name}.{key}' for name in tables)}?"
    return nearest(key, defaults)


def cli(main: Callable[[list[str]], int | None]) -> None:
    """Run a program: bad input is one line on standard error and exit code 2, Ctrl-C exit code 130.

    A reader of its output who has seen enough (`| head`) ends it quietly.
    """
    try:
        if {"-h", "--help", "help"} & set(sys.argv[1:]):
            print((sys.modules[main.__module__].__doc__ or "").strip())
            code = 0
        else:
            code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written at exit
        code = 128 + signal.SIGPIPE
    except (ValueError, OSError) as e:
        code = 2
        if rank_of()[0] == 0:
            print("error:", " ".join(str(e).split()), file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
        if rank_of()[0] == 0:
            print("interrupted: the same command goes on from here", file=sys.stderr)
    if dist.is_initialized() and not code:
        dist.destroy_process_group()
    sys.exit(code or 0)
