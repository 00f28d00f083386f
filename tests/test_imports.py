"""The walls of the house: who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"hw", "sw", "sim", "boards", "tests"}
ALLOWED = {
    "hw": {"hw"},
    "sw/golden": {"nomul.golden"},
    "sw/quantize": {"nomul.quantize", "nomul.golden", "nomul.errors", "nomul.formats"},
    "sw/formats": {"nomul.formats", "nomul.golden", "nomul.quantize", "nomul.errors", "nomul.console", "nomul.files"},
    "sw/model": {"nomul.model", "nomul.formats", "nomul.golden", "nomul.quantize", "nomul.errors", "nomul.console", "nomul.files"},
    "sw/flow": {"nomul.flow", "nomul.errors", "nomul.console", "nomul.files", "nomul.names", "nomul.numerals", "hw", "nomul.catalog"},
    "sim": {"sim", "sw", "hw", "boards"},
    "boards": {"boards", "hw"},
}
"""What the Python files of a folder may import of ours, by prefix."""


def imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in OURS}


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_run_one_way(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        for name in imports(file):
            inside = any(name == prefix or name.startswith(f"{prefix}.") for prefix in ALLOWED[folder])
            assert inside, f"{file.relative_to(ROOT)} imports {name}"
