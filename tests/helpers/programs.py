"""A program called as its command line calls it, in this process: errors are raised instead of printed."""
import inspect
from types import ModuleType

from phases.common.command import parse, parse_known


def call(program: ModuleType, *words: str) -> int | None:
    """What main() of a program returns for the key=value words of a command line."""
    options = getattr(program, "Options", None)
    if options is None:
        return program.main(list(words))
    takes_recipe = len(inspect.signature(program.main).parameters) == 2
    if takes_recipe:
        return program.main(*parse_known(options, list(words)))
    return program.main(parse(options, list(words)))
