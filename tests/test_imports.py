"""The walls of the house: who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PORTIONS = ("hw", "sw", "sim", "boards")
BASE = {"sw/errors.py", "sw/files.py", "sw/names.py"}
FLOWS = ("jobs", "export", "fpga", "asic")
ALLOWED = {
    "hw": {"hw"},
    "sw/golden": {"sw/golden"},
    "sw/errors.py": set(),
    "sw/files.py": {"sw/errors.py"},
    "sw/console.py": {"sw/errors.py"},
    "sw/draw.py": set(),
    "sw/names.py": set(),
    "sw/quantize": {*BASE, "sw/quantize", "sw/golden", "sw/formats"},
    "sw/formats": {*BASE, "sw/formats", "sw/golden", "sw/quantize"},
    "sw/model": {*BASE, "sw/model", "sw/formats", "sw/golden", "sw/quantize"},
    "sw/cores": {*BASE, "sw/cores", "sw/draw.py", "sw/formats", "sw/golden", "hw"},
    "sw/jobs": {*BASE, "sw/jobs", "sw/console.py"},
    "sw/export": {*BASE, "sw/export", "sw/jobs", "sw/cores", "hw"},
    "sw/fpga": {*BASE, "sw/fpga", "sw/jobs", "hw"},
    "sw/asic": {*BASE, "sw/asic", "sw/fpga", "sw/jobs", "sw/cores", "hw"},
    "sw/report": {*BASE, "sw/report", *(f"sw/{room}" for room in FLOWS), "sw/cores", "sw/console.py", "hw"},
    "sw/host": {*BASE, "sw/host", "hw"},
    "boards": {"boards", "hw"},
}
FOUNDATIONS = set(ALLOWED)
ALLOWED |= {
    "sw": {*FOUNDATIONS, "sw"},
    "sim": {*FOUNDATIONS, "sw", "sim"},
    "sw/commands": {*FOUNDATIONS, "sw", "sim", "sw/commands"},
    "sw/cli.py": {"sw/commands", "sw/console.py", "sw"},
}
"""What the files of a room may import of ours. A file belongs to the room of the longest name."""


def rooms() -> dict[str, str]:
    """Return the room of every module."""
    found = {}
    for portion in PORTIONS:
        for file in sorted((ROOT / portion / "nomul").rglob("*.py")):
            place = file.relative_to(ROOT / portion / "nomul")
            name = ".".join(("nomul", *place.with_suffix("").parts)).removesuffix(".__init__")
            path = f"{portion}/{place}"
            found[name] = max((room for room in ALLOWED if path == room or path.startswith(f"{room}/")), key=len)
    return found


ROOMS = rooms()


def imports(file: Path) -> set[str]:
    """Return the modules of ours that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            assert node.module is not None
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in ROOMS else node.module for name in whole}
    ours = {name for name in names if name.partition(".")[0] in {"nomul", "tests", "benchmarks", *PORTIONS}}
    assert ours <= set(ROOMS), f"{file} imports {ours - set(ROOMS)}, which a user does not have"
    return ours


def test_every_folder_is_a_portion_of_one_namespace() -> None:
    for portion in PORTIONS:
        assert not (ROOT / portion / "__init__.py").exists()
        assert not (ROOT / portion / "nomul" / "__init__.py").exists()
    assert set(ROOMS.values()) == set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_run_one_way(room: str) -> None:
    for name in (name for name, its in ROOMS.items() if its == room):
        parts = name.split(".")[1:]
        (file,) = (
            path
            for portion in PORTIONS
            for path in (
                ROOT.joinpath(portion, "nomul", *parts).with_suffix(".py"),
                ROOT.joinpath(portion, "nomul", *parts, "__init__.py"),
            )
            if path.exists()
        )
        for other in imports(file):
            assert ROOMS[other] in ALLOWED[room], f"{file.relative_to(ROOT)} imports {other}"
