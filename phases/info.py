"""Describe a recipe's network in one JSON line: parameters, and multiply-adds of one clip with one body.

    just info recipe=lite_small [key.sub=value ...]
    just info skeleton=ntu25                            the joints of a skeleton in order, each with its parent

Exit codes: 0 done, 2 bad input.
"""
from __future__ import annotations

import json

from recipe import cli, load_config, nearest
from run import describe

from last import SKELETONS


def main(argv: list[str]) -> None:
    key, _, name = argv[0].partition("=") if len(argv) == 1 else ("", "", "")
    if key != "skeleton":
        print(json.dumps(describe(load_config(argv))))
        return
    if name not in SKELETONS:
        raise ValueError(f"skeleton = {name!r}{nearest(name, SKELETONS)}")
    skeleton = SKELETONS[name]
    for joint, parent in skeleton.bones:
        print(f"{joint:3}  {skeleton.joints[joint]:16} parent {parent}")


if __name__ == "__main__":
    cli(main)
