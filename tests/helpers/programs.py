"""A program called as its command line calls it, in this process or in one of its own that is interrupted."""
import inspect
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from phases.common.command import parse, parse_known


def call(program: ModuleType, *words: str) -> int | None:
    """What main() of a program returns for the key=value words of a command line; errors are raised, not printed."""
    options = getattr(program, "Options", None)
    if options is None:
        return program.main(list(words))
    takes_recipe = len(inspect.signature(program.main).parameters) == 2
    if takes_recipe:
        return program.main(*parse_known(options, list(words)))
    return program.main(parse(options, list(words)))


@contextmanager
def started(argv: list[str], **how) -> Iterator[subprocess.Popen]:
    """A process that Ctrl-C can end, also where the tests run in the background; it does not outlive the block."""
    def heed_ctrl_c() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(argv, text=True, preexec_fn=heed_ctrl_c, **how) as process:
        try:
            yield process
        finally:
            process.kill()
