"""Reads a Liberty file and finds cells by what they do, never by what they are called.

Only what mapping needs is kept: area, pins, their functions and capacitances, flip-flops and clock gates. Timing and
power tables are passed over here; static timing analysis reads the file itself.
"""

import gzip
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nomul.errors import InputError

STATEMENT = re.compile(
    r"\s*(?:(?P<close>\})|(?P<name>[\w.]+)\s*(?:"
    r"\(\s*(?P<args>(?:\"[^\"]*\"|[^()\"])*)\)\s*(?P<open>\{)?\s*;?"
    r"|:\s*(?P<value>\"[^\"]*\"|[^;{}\n]*)\s*;?)|;)"
)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
SKIPPED = {
    "timing",
    "internal_power",
    "leakage_power",
    "receiver_capacitance",
    "lu_table_template",
    "power_lut_template",
}
UNUSABLE = ("dont_use", "dont_touch", "is_isolation_cell", "is_level_shifter", "always_on", "pad_cell", "is_macro_cell")
FUNCTION = re.compile(r"\s*([A-Za-z_]\w*(?:\[\d+\])?|[01]|[!'&*|+^()])")

Expression = str | tuple["Expression", ...]
"""A function: a pin or a constant, ("~", x), or (operator, x, y) with operator &, | or ^."""


@dataclass
class Group:
    """A group of a Liberty file: `name (argument) { ... }`."""

    name: str
    argument: str
    values: dict[str, str] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)

    def find(self, name: str) -> Iterator["Group"]:
        """Yield the groups of that name directly inside."""
        return (group for group in self.groups if group.name == name)

    def true(self, name: str) -> bool:
        """Tell whether an attribute is `true`."""
        return self.values.get(name) == "true"


@dataclass(frozen=True)
class Cell:
    """A cell of a library.

    `functions` has the function of each output that is one of the inputs (or, in a flip-flop, of its state); `tables`
    their truth tables, bit `sum(input_i << i)`. `loads` is the capacitance of each input and `limits` the largest load
    of each output, both in the library's unit; 0 where a file does not say. `kind` is "logic", "flip-flop", "latch",
    "clock gate" or "other" (tristates, ties, cells without outputs, macros).
    """

    name: str
    area: float
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    functions: Mapping[str, Expression]
    loads: Mapping[str, float]
    limits: Mapping[str, float]
    usable: bool
    state: Mapping[str, str]
    """Of a flip-flop: its state variables (`iq`, `iqn`) and the texts of clocked_on, next_state, clear and preset. Of a
    clock gate: its pins `enable`, `clock`, `output`."""

    @cached_property
    def tables(self) -> dict[str, int]:
        """Truth tables of the outputs of a logic cell."""
        return {pin: truth_table(self.functions[pin], self.inputs) for pin in self.outputs if pin in self.functions}

    @property
    def drive(self) -> float:
        """The load that its weakest output drives."""
        return min(self.limits.values(), default=0.0)


@dataclass(frozen=True)
class WireLoad:
    """A wire-load model: the length of a net by its readers, and the capacitance of a unit of length."""

    name: str
    capacitance: float
    slope: float
    lengths: Mapping[int, float]

    def load(self, readers: int) -> float:
        """Return the capacitance of the wires to so many readers."""
        if not self.lengths:
            return self.capacitance * self.slope * readers
        most = max(self.lengths)
        if readers >= most:
            return self.capacitance * (self.lengths[most] + self.slope * (readers - most))
        return self.capacitance * self.lengths[min(count for count in self.lengths if count >= readers)]


@dataclass(frozen=True)
class Library:
    """A library's cells by name, its units, and the text of its file, unpacked."""

    name: str
    path: Path
    text: str
    cells: Mapping[str, Cell]
    capacitance_farad: float
    time_second: float
    wires: "WireLoad | None" = None
    """The wire-load model that the library names as its default."""

    def logic(self) -> Iterator[Cell]:
        """Yield the usable combinational cells, small ones first."""
        cells = [cell for cell in self.cells.values() if cell.kind == "logic" and cell.usable]
        return iter(sorted(cells, key=lambda cell: (cell.area, cell.name)))

    def matching(self, *tables: int, inputs: int) -> tuple[Cell, tuple[str, ...], tuple[str, ...]] | None:
        """Find the smallest cell whose outputs are the given functions of `inputs` inputs.

        Returns the cell, its input pins in the order of the functions' inputs, and its output pins in the order of
        `tables`; None if there is none.
        """
        for cell in self.logic():
            if len(cell.inputs) != inputs or len(cell.outputs) != len(tables) or len(cell.tables) != len(tables):
                continue
            for pins in itertools.permutations(cell.inputs):
                found = {truth_table(cell.functions[output], pins): output for output in cell.outputs}
                if set(found) == set(tables):
                    return cell, pins, tuple(found[table] for table in tables)
        return None

    def kind(self, kind: str) -> list[Cell]:
        """Return the usable cells of a kind, small ones first."""
        cells = (cell for cell in self.cells.values() if cell.kind == kind and cell.usable)
        return sorted(cells, key=lambda cell: (cell.area, cell.name))

    @cached_property
    def buffers(self) -> list[Cell]:
        """Buffers of rising strength, each the smallest of its strength."""
        return _stronger([cell for cell in self.logic() if len(cell.inputs) == 1 and list(cell.tables.values()) == [2]])

    @cached_property
    def _families(self) -> dict[tuple[object, ...], list[Cell]]:
        families: dict[tuple[object, ...], list[Cell]] = {}
        for cell in self.cells.values():
            if cell.usable:
                families.setdefault(_signature(cell), []).append(cell)
        return {key: _stronger(cells) for key, cells in families.items()}

    def strengths(self, name: str) -> list[Cell]:
        """Return the cells with the pins and function of a cell, of rising strength; none is both weaker and larger."""
        return self._families.get(_signature(self.cells[name]), [])


def _signature(cell: Cell) -> tuple[object, ...]:
    return (
        cell.kind,
        cell.inputs,
        tuple(sorted(cell.tables.items())) if cell.kind == "logic" else tuple(sorted(map(str, cell.functions.items()))),
        tuple(sorted(cell.state.items())),
        cell.outputs,
    )


def _stronger(cells: list[Cell]) -> list[Cell]:
    """Sort by area, and leave out what drives no more than something smaller."""
    kept: list[Cell] = []
    for cell in sorted(cells, key=lambda cell: (cell.area, -cell.drive, cell.name)):
        if not kept or cell.drive > kept[-1].drive:
            kept.append(cell)
    return kept


def read_liberty(path: Path) -> Library:
    """Read a Liberty file, plain or gzipped.

    Raises
    ------
    InputError
        If the file is missing, cut short, not Liberty, or holds no cells with an area.

    """
    text = _read(path)
    root = _parse(text, path)
    unit = re.fullmatch(
        r"\s*([\d.eE+-]+)\s*,\s*([fp])f\s*", root.values.get("capacitive_load_unit", "1,pf").replace('"', ""), re.I
    )
    time = re.fullmatch(r"([\d.]+)([munpf])s", root.values.get("time_unit", "1ns"))
    if unit is None or time is None:
        raise InputError(f"liberty file {path} has a capacitive_load_unit or time_unit that makes no sense")
    scales = {"m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
    cells = [_cell(group, root) for group in root.find("cell")]
    if not any(cell.area > 0 for cell in cells):
        raise InputError(f"liberty file {path} has no cell with an area")
    return Library(
        name=root.argument,
        path=path,
        text=text,
        cells={cell.name: cell for cell in cells},
        capacitance_farad=float(unit[1]) * scales[unit[2].lower()],
        time_second=float(time[1]) * scales[time[2]],
        wires=_wires(root),
    )


def _wires(library: Group) -> WireLoad | None:
    name = library.values.get("default_wire_load")
    for group in library.find("wire_load"):
        if group.argument == name:
            pairs = [pair.split(",")[:2] for pair in group.values.get("fanout_length", "").split(";") if pair]
            lengths = {int(_number(count)): _number(length) for count, length in pairs}
            capacitance, slope = (_number(group.values.get(key)) for key in ("capacitance", "slope"))
            return WireLoad(group.argument, capacitance, slope, lengths)
    return None


def _read(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"liberty file {path} does not exist")
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error):
            raise InputError(f"liberty file {path} is a gzip file that is cut short or damaged") from None
    return data.decode("utf-8", "replace")


def _parse(text: str, path: Path) -> Group:
    """Return the group `library`; groups of `SKIPPED` are left out."""
    plain = COMMENT.sub(" ", text).replace("\\\r\n", " ").replace("\\\n", " ")
    start = re.match(r"\s*library\s*\(", plain)
    if start is None:
        raise InputError(f"file {path} is not Liberty: it does not begin with 'library (NAME) {{'")
    open_groups: list[Group] = []
    position, end = 0, len(plain.rstrip())
    while position < end:
        found = STATEMENT.match(plain, position)
        if found is None:
            break
        position = found.end()
        if found["close"]:
            group = open_groups.pop()
            if not open_groups:
                return group
        elif found["open"]:
            group = Group(found["name"], (found["args"] or "").strip().strip('"'))
            if open_groups and group.name not in SKIPPED:
                open_groups[-1].groups.append(group)
            open_groups.append(group)
        elif found["name"] and open_groups:
            value = (found["value"] if found["value"] is not None else found["args"]).strip().strip('"')
            values = open_groups[-1].values
            if found["name"] == "fanout_length":  # the one attribute that is repeated
                value = f"{values.get('fanout_length', '')};{value}"
            values[found["name"]] = value
    line = text.count("\n", 0, position) + 1
    if position >= end:
        raise InputError(
            f"liberty file {path} is cut short: it ends inside {open_groups[-1].name if open_groups else 'it'}"
        )
    raise InputError(f"file {path} is not Liberty: nothing to be read near line {line}")


def _number(text: str | None, default: float = 0.0) -> float:
    try:
        return float(text) if text is not None else default
    except ValueError:
        return default


def _cell(group: Group, library: Group) -> Cell:
    pins = [pin for pin in group.find("pin") if "," not in pin.argument]
    inputs = tuple(pin.argument for pin in pins if pin.values.get("direction") == "input")
    outputs = [pin for pin in pins if pin.values.get("direction") == "output"]
    functions = {pin.argument: parse_function(pin.values["function"]) for pin in outputs if pin.values.get("function")}
    flops = [*group.find("ff"), *group.find("ff_bank")]
    state: dict[str, str] = {}
    plain = not (list(group.find("bus")) or any(pin.values.get("three_state") for pin in outputs))
    if "clock_gating_integrated_cell" in group.values:
        kind = "clock gate"
        state["style"] = group.values["clock_gating_integrated_cell"]
        for role in ("enable", "clock", "out", "test"):
            for pin in pins:
                if pin.true(f"clock_gate_{role}_pin"):
                    state[role] = pin.argument
    elif list(group.find("latch")) or list(group.find("latch_bank")):
        kind = "latch"
    elif flops:
        kind = "flip-flop"
        names = [name.strip().strip('"') for name in flops[0].argument.split(",")]
        state = {"iq": names[0], "iqn": names[1] if len(names) > 1 else ""}
        state |= {
            name: text
            for name, text in flops[0].values.items()
            if name in ("clocked_on", "next_state", "clear", "preset")
        }
    elif plain and inputs and outputs and len(functions) == len(outputs) and len(inputs) <= 10:
        kind = "logic"
        if any(not _names(function) <= set(inputs) for function in functions.values()):
            kind = "other"
    else:
        kind = "other"
    return Cell(
        name=group.argument,
        area=_number(group.values.get("area")),
        kind=kind,
        inputs=inputs,
        outputs=tuple(pin.argument for pin in outputs),
        functions=functions,
        loads={
            pin.argument: _number(pin.values.get("capacitance"), _number(library.values.get("default_input_pin_cap")))
            for pin in pins
            if pin.argument in inputs
        },
        limits={
            pin.argument: _number(
                pin.values.get("max_capacitance"), _number(library.values.get("default_max_capacitance"))
            )
            for pin in outputs
        },
        usable=not any(group.true(name) for name in UNUSABLE) and _number(group.values.get("area")) > 0,
        state=state,
    )


def parse_function(text: str) -> Expression:
    """Parse a Liberty function; ValueError if it is not one. `'` and `!` bind first, then `^`, `&`, `|`."""
    tokens: list[str] = []
    position = 0
    while position < len(text.rstrip()):
        found = FUNCTION.match(text, position)
        if found is None:
            raise ValueError(f"'{text}' is not a Liberty function")
        tokens.append(found[1])
        position = found.end()

    def primary() -> Expression:
        token = tokens.pop(0) if tokens else ""
        if token == "!":
            return ("~", primary())
        if token == "(":
            value = level(0)
            if not tokens or tokens.pop(0) != ")":
                raise ValueError(f"'{text}' is not a Liberty function")
        elif re.match(r"\w", token):
            value = token
        else:
            raise ValueError(f"'{text}' is not a Liberty function")
        while tokens and tokens[0] == "'":
            tokens.pop(0)
            value = ("~", value)
        return value

    def level(depth: int) -> Expression:
        if depth == 3:
            return primary()
        value = level(depth + 1)
        while tokens:
            if tokens[0] in ("|+", "&*", "^")[depth]:
                tokens.pop(0)
            elif not (depth == 1 and re.match(r"[\w(!]", tokens[0])):  # two operands side by side are an and
                break
            value = ("|&^"[depth], value, level(depth + 1))
        return value

    result = level(0)
    if tokens:
        raise ValueError(f"'{text}' is not a Liberty function")
    return result


def _names(expression: Expression) -> set[str]:
    if isinstance(expression, str):
        return set() if expression in "01" else {expression}
    return set().union(*(_names(part) for part in expression[1:]))


def truth_table(expression: Expression, inputs: tuple[str, ...]) -> int:
    """Return the truth table of a function, bit `sum(input_i << i)`."""
    size = 1 << len(inputs)
    full = (1 << size) - 1
    columns = {
        name: sum(1 << index for index in range(size) if index >> place & 1) for place, name in enumerate(inputs)
    }

    def value(part: Expression) -> int:
        if isinstance(part, str):
            return {"0": 0, "1": full}[part] if part in "01" else columns[part]
        if part[0] == "~":
            return full ^ value(part[1])
        x, y = value(part[1]), value(part[2])
        return x & y if part[0] == "&" else x | y if part[0] == "|" else x ^ y

    return value(expression)


def as_verilog(expression: Expression) -> str:
    """Return a function as a Verilog expression."""
    if isinstance(expression, str):
        return f"1'b{expression}" if expression in "01" else expression
    if expression[0] == "~":
        return f"~{as_verilog(expression[1])}"
    return f"({as_verilog(expression[1])} {expression[0]} {as_verilog(expression[2])})"
