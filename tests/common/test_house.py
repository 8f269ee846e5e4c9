"""The house: rooms on floors, imports that point down only, modules of a size that can be read.

`python tests/common/test_house.py` prints each room with its floor and how many imports it has of which other room.
"""
import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BELOW = {  # room: the rooms that it may import
    "skeletons": set(),
    "common": {"skeletons"},
    "recordings": {"common", "skeletons"},
    "last": {"common", "skeletons"},
    "training": {"last", "recordings", "common", "skeletons"},
    "shipping": {"training", "last", "recordings", "common", "skeletons"},
    "reporting": {"shipping", "training", "last", "recordings", "common", "skeletons"},
    "programs": {"reporting", "shipping", "training", "last", "recordings", "common", "skeletons"},
}
FILES = [ROOT / "last.py", ROOT / "skeletons.py", *sorted((ROOT / "phases").rglob("*.py"))]
FILES = [path for path in FILES if "node_modules" not in path.parts]


def name_of(path: Path) -> str:
    """phases/common/files.py -> phases.common.files"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def room_of(module: str) -> str:
    parts = module.split(".")
    if len(parts) == 1:
        return module
    return "programs" if (ROOT / "phases" / f"{parts[1]}.py").is_file() else parts[1]


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, anywhere in it: modules of ours by their whole name, others by the name of the package."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative imports hide the room"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= inner or {node.module}
    ours = {name for name in found if name in MODULES}
    return frozenset(ours | {name.partition(".")[0] for name in found - ours})


def reached(module: str) -> set[str]:
    """All that a module imports, and what those modules import."""
    found = set()
    todo = [module]
    while todo:
        for name in imports(todo.pop()) - found:
            found.add(name)
            if name in MODULES:
                todo.append(name)
    return found


def arrows() -> dict[tuple[str, str], list[str]]:
    """{(room, imported room): ["module -> imported module", ...]}; arrows within a room are left out."""
    found = defaultdict(list)
    for module in MODULES:
        for name in sorted(imports(module) & set(MODULES) - {"phases"}):
            rooms = room_of(module), room_of(name)
            if rooms[0] != rooms[1] and module != "phases":
                found[rooms].append(f"{module} -> {name}")
    return found


def floors() -> dict[str, int]:
    """{room: its floor, counted from 1}: one above the highest room that it imports."""
    rooms = {}
    for room, below in BELOW.items():
        rooms[room] = 1 + max((rooms[other] for other in below if (room, other) in arrows()), default=0)
    return rooms


# ---------------------------------------------------------------------------------------------------------------------
# Arrows
# ---------------------------------------------------------------------------------------------------------------------

def test_every_module_has_a_room():
    rooms = {room_of(module) for module in MODULES if module != "phases"}
    assert rooms == set(BELOW)


def test_arrows_point_down_only():
    upward = {rooms: named for rooms, named in arrows().items() if rooms[1] not in BELOW[rooms[0]]}
    assert not upward


def test_there_are_at_most_seven_floors():
    assert max(floors().values()) <= 7, floors()


def test_no_program_imports_a_program():
    programs = {module for module in MODULES if room_of(module) == "programs"}
    assert not {module: imports(module) & programs for module in programs if imports(module) & programs}


def test_no_modules_import_each_other():
    assert not [module for module in MODULES if module in reached(module)]


@pytest.mark.parametrize("room", ["skeletons", "common", "recordings"])
def test_the_lower_rooms_need_no_torch(room):
    assert not [module for module in MODULES if room_of(module) == room and "torch" in reached(module)]


# ---------------------------------------------------------------------------------------------------------------------
# Sizes
# ---------------------------------------------------------------------------------------------------------------------

def test_no_module_is_too_long_to_read():
    most = {"last": 1600, "programs": 250, "skeletons": 455}
    lines = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert not {module: n for module, n in lines.items() if n > most.get(room_of(module), 400)}


def test_no_line_is_wider_than_120_columns():
    wide = []
    for module, path in MODULES.items():
        wide += [f"{module}:{i}" for i, line in enumerate(path.read_text().splitlines(), 1) if len(line) > 120]
    assert not wide


def test_every_module_and_folder_opens_with_a_sentence():
    assert not [module for module, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text()))]
    folders = {path.parent for path in FILES} - {ROOT}
    assert not [folder for folder in folders if folder / "__init__.py" not in FILES]


if __name__ == "__main__":
    for room, floor in sorted(floors().items(), key=lambda entry: -entry[1]):
        below = [f"{other} {len(named)}" for (above, other), named in arrows().items() if above == room]
        print(f"{floor}  {room:<12}{', '.join(sorted(below)) or '-'}")
