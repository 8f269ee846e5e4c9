"""Describe a recipe's network in one JSON line: parameters, and multiply-adds of one clip with one body.

    just info recipe=lite_small [key.sub=value ...]

Exit codes: 0 done, 2 bad input.
"""
from __future__ import annotations

import json

from recipe import cli, load_config
from run import describe


def main(argv: list[str]) -> None:
    print(json.dumps(describe(load_config(argv))))


if __name__ == "__main__":
    cli(main)
