"""Until each program has its Options."""
from phases.common.command import run as cli  # noqa: F401
