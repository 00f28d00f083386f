"""Makes the widths of an RTLIL text explicit, so that linters find nothing to say of the Verilog that is printed of it.

An operator of RTLIL has a width at each port and says how a narrower operand is extended. Verilog's operators extend
and cut by rules of their own, to the same result, and a linter cannot know that it was meant. Here

* an operand is extended to its operator's width in so many words: by zeros, or copies of its sign;
* of what a shift to the right has too many bits of, the part that is meant is taken from a wire of its own;
* "is zero" of several bits is a comparison with zero;
* wires of no bits, which Verilog does not have, and the multiplexers that drive them are left out, and what an operator
  makes of an operand of no bits is a constant: all of no bits are one, and Verilog has no such operand.

The sum of two operands that are one bit narrower than the result stays as it is, since a carry is written so, and a
product stays as it is, since synthesisers look for it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["make_explicit"]

CELL = re.compile(r"  cell (\$\w+) (\S+)")
FIELD = re.compile(r"    (parameter|connect) \\(\w+) (.*)")
WIRE = re.compile(r"  wire width (\d+) .*?(\S+)")
HIGHEST = re.compile(r"(?:\{ )?(\S+)(?: \[(\d+)(?::\d+)?\])?")
CONSTANT = re.compile(r"\d+'([01x]*)")

MODULAR = {"$add", "$sub", "$neg", "$not", "$and", "$or", "$xor", "$xnor"}
"""Operators of whose operands only the bits that their result has matter."""
COMPARISONS = {"$eq", "$ne", "$lt", "$le", "$gt", "$ge"}
RIGHT_SHIFTS = {"$shr", "$sshr", "$shift"}
OF_NOTHING = {
    "$reduce_and": 1, "$reduce_xnor": 1, "$logic_not": 1, "$reduce_or": 0, "$reduce_xor": 0, "$reduce_bool": 0,
}  # fmt: skip
"""What operators of one operand make of one of no bits."""
OPERATORS = OF_NOTHING.keys() | MODULAR | COMPARISONS | RIGHT_SHIFTS | {"$shl", "$sshl", "$logic_not", "$mux"}


@dataclass
class Operator:
    """A cell: its type, its name, its parameters, which are numbers, and what its ports are connected to.

    A connection is a constant, a wire, a part of one, or several of them in braces, the highest first.
    """

    kind: str
    name: str
    numbers: dict[str, int]
    ports: dict[str, str]

    def lines(self) -> Iterator[str]:
        """Print it."""
        yield f"  cell {self.kind} {self.name}"
        yield from (f"    parameter \\{name} {number}" for name, number in self.numbers.items())
        yield from (f"    connect \\{name} {source}" for name, source in self.ports.items())
        yield "  end"

    def resize(self, port: str, width: int, widths: dict[str, int]) -> None:
        """Extend an operand to `width` bits."""
        missing = width - self.numbers[f"{port}_WIDTH"]
        if missing <= 0:
            return
        source = self.ports[port]
        if not self.numbers[f"{port}_WIDTH"]:
            self.ports[port] = f"{width}'{'0' * width}"
        elif found := CONSTANT.fullmatch(source):
            above = found[1][:1] if self.numbers[f"{port}_SIGNED"] else "0"
            self.ports[port] = f"{width}'{above * missing}{found[1]}"
        else:
            above = _highest(source, widths) if self.numbers[f"{port}_SIGNED"] else f"{missing}'{'0' * missing}"
            copies = missing if self.numbers[f"{port}_SIGNED"] else 1
            self.ports[port] = f"{{ {' '.join([above] * copies)} {source.removeprefix('{ ').removesuffix(' }')} }}"
        self.numbers[f"{port}_WIDTH"] = width


def make_explicit(text: str) -> str:
    """Return RTLIL of the same circuits whose operands are as wide as their operators want them."""
    written: list[str] = []
    widths: dict[str, int] = {}
    made: list[str] = []  # wires that the current module gets here
    start = 0
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("module "):
            widths, made, start = {}, [], len(written) + 1
        elif found := WIRE.fullmatch(line):
            widths[found[2]] = int(found[1])
            if found[1] == "0":
                while written[-1].startswith("  attribute "):
                    written.pop()
                continue
        elif (found := CELL.fullmatch(line)) and found[1] in OPERATORS:
            written += _explicit(_read(found[1], found[2], lines), widths, made)
            continue
        elif line == "end":
            written[start:start] = made
        written.append(line)
    return "\n".join(written) + "\n"


def _read(kind: str, name: str, lines: Iterator[str]) -> Operator:
    """Read a cell to its end."""
    operator = Operator(kind, name, {}, {})
    for line in lines:
        if line == "  end":
            return operator
        found = FIELD.fullmatch(line)
        assert found, line
        if found[1] == "parameter":
            operator.numbers[found[2]] = int(found[3])
        else:
            operator.ports[found[2]] = found[3]
    raise ValueError(f"cell {name} has no end")


def _explicit(cell: Operator, widths: dict[str, int], made: list[str]) -> Iterator[str]:
    """Print an operator whose operands are as wide as it wants them; `made` gets the wire that it needs, if any."""
    if cell.kind == "$mux":
        yield from cell.lines() if cell.numbers["WIDTH"] else ()
        return
    operands = [port for port in "AB" if port in cell.ports]
    size = {port: cell.numbers[f"{port}_WIDTH"] for port in (*operands, "Y")}
    if cell.kind in OF_NOTHING and not size["A"]:
        yield f"  connect {cell.ports['Y']} {size['Y']}'{OF_NOTHING[cell.kind]:0{size['Y']}b}"
        return
    if cell.kind in COMPARISONS:
        for port in operands:
            cell.resize(port, max(size["A"], size["B"]), widths)
    elif cell.kind == "$logic_not" and size["A"] > 1:
        cell.kind = "$eq"
        cell.numbers |= {"B_SIGNED": cell.numbers["A_SIGNED"], "B_WIDTH": size["A"]}
        cell.ports |= {"B": f"{size['A']}'{'0' * size['A']}"}
    elif cell.kind in MODULAR:
        if not all(size[port] == size["Y"] - 1 for port in operands) or len(operands) == 1:
            for port in operands:
                cell.resize(port, size["Y"], widths)
    elif cell.kind != "$logic_not":
        cell.resize("A", size["Y"], widths)
    if cell.kind in RIGHT_SHIFTS and size["A"] > size["Y"]:
        whole, part = f"$whole{cell.name}", cell.ports["Y"]
        made.append(f"  wire width {size['A']} {whole}")
        cell.numbers["Y_WIDTH"], cell.ports["Y"] = size["A"], whole
        yield f"  connect {part} {whole} [{size['Y'] - 1}:0]"
    yield from cell.lines()


def _highest(source: str, widths: dict[str, int]) -> str:
    """Return the highest bit of what a port is connected to."""
    found = HIGHEST.match(source)
    assert found, source
    if constant := CONSTANT.fullmatch(found[1]):
        return f"1'{constant[1][:1]}"
    return f"{found[1]} [{found[2] if found[2] else widths[found[1]] - 1}]"
