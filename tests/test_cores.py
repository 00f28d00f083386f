"""One object a core: it is complete, and nobody else knows the core by name."""

import ast
import functools
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from nomul.cores import discover
from nomul.cores.discover import GROUP, NUMBER_OF_OTHERS, cores, find_core, matmul_cores, reference_core
from nomul.cores.schema import core_schema
from nomul.errors import InputError
from nomul.sim.conformance import assert_complete
from tests.strange_cores import MINE

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ("hw/nomul", "sw/nomul", "sim/nomul")
"""Boards choose a core, benchmarks and tests measure one; the library itself may not know any."""


def is_its_own(file: Path, name: str) -> bool:
    """Tell whether a file is one of a core's: its gateware, object, formats, golden model or quantiser."""
    return any(part == name or part.startswith(f"{name}_") for part in (file.stem, file.parent.name)) or (
        file.parent.name == "cores" and file.stem == name
    )


@functools.cache
def names_in(file: Path) -> set[str]:
    """Return the texts of a file that are a core's name: constants of its code, docstrings left out."""
    tree = ast.parse(file.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    }


SHARED = {
    "bwta": r"sw/nomul/(model|commands|report/shapes)",  # arithmetic of a model's projections
    "mixpe": r"sw/nomul/(model|commands|report/shapes|cores)",
    "mixpe_fp16": r"sw/nomul/cores/mixpe\.py",  # a variant of it
    "baseline": r"sw/nomul/report/(cell_figures|sweep)\.py",  # a key of reports
    "fp16": "",  # a format of operands
}
"""Where the name of a core means something else."""


@pytest.mark.parametrize("name", cores())
def test_nobody_else_knows_a_core_by_name(name: str) -> None:
    found = [
        str(file.relative_to(ROOT))
        for folder in LIBRARY
        for file in sorted((ROOT / folder).rglob("*.py"))
        if not is_its_own(file, name) and name in names_in(file)
    ]
    assert not [file for file in found if name not in SHARED or not re.match(SHARED[name], file)]


def test_names_and_numbers_are_unique() -> None:
    numbers = [core.gateware.number for core in cores().values()]
    assert len(set(numbers)) == len(numbers)
    assert all(name == core.name for name, core in cores().items())
    assert all(core.gateware.number < NUMBER_OF_OTHERS for core in cores().values())


@pytest.mark.parametrize("name", cores())
def test_a_core_is_complete(name: str) -> None:
    """Every command that lists cores finds what it asks of ours."""
    core = find_core(name)
    assert_complete(core)
    if core.multiplies:
        assert core.features is not None and core.cost_points
        assert set(core.sizes) == {"small", "medium", "large"}
        assert not core.serves or next(iter(core.candidates()))


def test_a_reference_stands_for_each_format() -> None:
    for core in matmul_cores().values():
        array = reference_core(core.gateware.config().modes[0].activation_format)
        assert array.sized is not None
        config = array.gateware.config(**array.sized(48, "ecp5"))
        assert config.macs_per_cycle == 48


@pytest.mark.parametrize("name", cores())
def test_a_schema_takes_the_defaults_and_refuses_what_the_configuration_refuses(name: str) -> None:
    schema = core_schema(find_core(name))["properties"]
    config = find_core(name).gateware.config
    for field, entry in schema.items():
        if field in find_core(name).variants and field not in config.__dataclass_fields__:
            continue
        assert entry["description"]
        outside = "no such choice" if "enum" in entry else entry["maximum"] + 1
        with pytest.raises(ValueError, match=field):
            config(**{field: outside})


def offer(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Let a distribution offer an entry point."""
    points = [EntryPoint("stranger", value, GROUP)]
    monkeypatch.setattr(discover, "entry_points", lambda group: points if group == GROUP else [])
    discover.cores.cache_clear()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nomul_has_no_such_module:CORE", r"stranger = .* cannot be loaded: ModuleNotFoundError: "),
        ("tests.strange_cores:NOTHING", r"is a str; it has to name a nomul\.cores\.api\.Core$"),
        ("tests.strange_cores:LOW", r"has number 17; allowed: 4096 or more$"),
        ("tests.strange_cores:TAKEN", r"brings core 'tint' with number 8192, which 'tint' has already$"),
    ],
)
def test_a_wrong_entry_point_is_refused(value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, value)
    try:
        with pytest.raises(InputError, match=message):
            cores()
    finally:
        monkeypatch.undo()
        discover.cores.cache_clear()


def test_a_right_entry_point_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "tests.strange_cores:MINE")
    try:
        assert find_core("mine") is MINE
        assert list(cores())[-1] == "mine"
    finally:
        monkeypatch.undo()
        discover.cores.cache_clear()
