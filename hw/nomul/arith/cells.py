"""Generic standard cells, instantiated: the compressor trees and selectors that logic synthesis does not find.

ABC sees a full adder as two exclusive ors and a majority, and rarely puts it together again: a tree of explicit full
adders takes about two thirds of the area of the same tree written with `+`. An engine of target `Target.CELLS`
therefore names the few cells that matter. Their models are in cells.v: printed Verilog carries the models that it
uses, so it stays complete for every other tool; the standard-cell flow (`nomul.asic.cell_mapping`) replaces each
instance by the library's cell of the same function.

=============  ==============================================
NOMUL_FA       S = A ^ B ^ C, CO = majority(A, B, C)
NOMUL_HA       S = A ^ B, CO = A & B
NOMUL_AOI22    Y = ~(A1 & A2 | B1 & B2)
NOMUL_AOI222   Y = ~(A1 & A2 | B1 & B2 | C1 & C2)
NOMUL_OAI22    Y = ~((A1 | A2) & (B1 | B2))
NOMUL_OAI222   Y = ~((A1 | A2) & (B1 | B2) & (C1 | C2))
NOMUL_BUF      Y = A, kept as a buffer
=============  ==============================================

Every helper takes values of one bit; an integer or a `Const` is a constant, and what it makes superfluous is left out.
A slice of a `Const` is not taken for one. Helpers raise ValueError for a value that is wider than one bit.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from amaranth.hdl import Const, Instance, Module, Signal, Value, ValueLike

__all__ = [
    "GENERIC_CELLS",
    "and_or_invert22",
    "and_or_invert222",
    "buffer",
    "cell_models",
    "full_adder",
    "half_adder",
    "or_and_invert",
]

MODELS = Path(__file__).with_name("cells.v")

GENERIC_CELLS = {
    "NOMUL_FA": ("A", "B", "C", "S", "CO"),
    "NOMUL_HA": ("A", "B", "S", "CO"),
    "NOMUL_AOI22": ("A1", "A2", "B1", "B2", "Y"),
    "NOMUL_AOI222": ("A1", "A2", "B1", "B2", "C1", "C2", "Y"),
    "NOMUL_OAI22": ("A1", "A2", "B1", "B2", "Y"),
    "NOMUL_OAI222": ("A1", "A2", "B1", "B2", "C1", "C2", "Y"),
    "NOMUL_BUF": ("A", "Y"),
}
"""Ports of each generic cell, inputs first."""


def cell_models(text: str) -> str:
    """Return the Verilog-2001 models of the generic cells that a design, as RTLIL or Verilog, instantiates."""
    used = {name for name in GENERIC_CELLS if re.search(rf"\b{name}\b", text)}
    bodies = re.finditer(r"^module (\w+).*?^endmodule\n", MODELS.read_text(), re.MULTILINE | re.DOTALL)
    return "\n".join(body[0] for body in bodies if body[1] in used)


def full_adder(m: Module, name: str, a: ValueLike, b: ValueLike, c: ValueLike) -> tuple[Value, Value]:
    """Return (sum, carry) of three bits; with a constant among them, of a half adder or of plain logic."""
    bits, ones = _split(a, b, c)
    if len(bits) == 3:
        return _adder(m, name, "NOMUL_FA", bits)
    if len(bits) == 2 and ones:
        x, y = bits
        return ~(x ^ y), x | y
    if len(bits) == 2:
        return _adder(m, name, "NOMUL_HA", bits)
    return _count(bits, ones)


def half_adder(m: Module, name: str, a: ValueLike, b: ValueLike) -> tuple[Value, Value]:
    """Return (sum, carry) of two bits; with a constant among them, without a cell."""
    bits, ones = _split(a, b)
    return _adder(m, name, "NOMUL_HA", bits) if len(bits) == 2 else _count(bits, ones)


def and_or_invert22(m: Module, name: str, a1: ValueLike, a2: ValueLike, b1: ValueLike, b2: ValueLike) -> Value:
    """Return ~(a1 & a2 | b1 & b2)."""
    return _and_or_invert(m, name, [(a1, a2), (b1, b2)])


def and_or_invert222(
    m: Module, name: str, a1: ValueLike, a2: ValueLike, b1: ValueLike, b2: ValueLike, c1: ValueLike, c2: ValueLike
) -> Value:
    """Return ~(a1 & a2 | b1 & b2 | c1 & c2)."""
    return _and_or_invert(m, name, [(a1, a2), (b1, b2), (c1, c2)])


def or_and_invert(m: Module, name: str, pairs: Sequence[tuple[ValueLike, ValueLike]]) -> Value:
    """Return the inverted and of the pairs' ors: as a cell if no input is constant, else as logic."""
    terms: list[Value] = []
    whole = True
    for pair in pairs:
        bits, ones = _split(*pair)
        if not ones:
            whole &= len(bits) == 2
            terms.append(bits[0] | bits[-1] if bits else Const(0, 1))
    kinds = {2: "NOMUL_OAI22", 3: "NOMUL_OAI222"}
    if whole and len(terms) in kinds:
        inputs = [bit for pair in pairs if not _split(*pair)[1] for bit in _split(*pair)[0]]
        return _cell(m, name, kinds[len(terms)], inputs)
    total: Value = Const(1, 1)
    for term in terms:
        total = term if isinstance(total, Const) else total & term
    return Const(0, 1) if isinstance(total, Const) else ~total


def buffer(m: Module, name: str, a: ValueLike) -> Value:
    """Return `a` behind a buffer, which synthesis keeps: a copy of a widely read bit for a part of its readers."""
    bits, _ = _split(a)
    return _cell(m, name, "NOMUL_BUF", bits) if bits else Value.cast(a)


def _split(*values: ValueLike) -> tuple[list[Value], int]:
    """Return the bits that are not constant, and how many of the others are one."""
    bits = [Value.cast(value) for value in values]
    for bit in bits:
        if not (len(bit) == 1 or (isinstance(bit, Const) and bit.value == 0)):
            raise ValueError(f"a generic cell takes values of one bit, not of {len(bit)}")
    ones = sum(bit.value & 1 for bit in bits if isinstance(bit, Const))
    return [bit for bit in bits if not isinstance(bit, Const)], ones


def _count(bits: list[Value], ones: int) -> tuple[Value, Value]:
    """Return (sum, carry) of at most one bit and of `ones` constant ones."""
    if not bits:
        return Const(ones & 1, 1), Const(ones >> 1, 1)
    (bit,) = bits
    return (~bit if ones & 1 else bit), (Const(ones >> 1, 1) if ones != 1 else bit)


def _adder(m: Module, name: str, kind: str, bits: list[Value]) -> tuple[Value, Value]:
    total, carry = Signal(name=f"{name}_s"), Signal(name=f"{name}_co")
    inputs = {f"i_{port}": bit for port, bit in zip("ABC", bits, strict=False)}
    m.submodules[name] = Instance(kind, **inputs, o_S=total, o_CO=carry)
    return total, carry


def _cell(m: Module, name: str, kind: str, bits: list[Value]) -> Value:
    output = Signal(name=f"{name}_y")
    inputs = {f"i_{port}": bit for port, bit in zip(GENERIC_CELLS[kind], bits, strict=False)}
    m.submodules[name] = Instance(kind, **inputs, o_Y=output)
    return output


def _and_or_invert(m: Module, name: str, pairs: list[tuple[ValueLike, ValueLike]]) -> Value:
    """Return the inverted or of the pairs' ands: as a cell if no input is constant, else as plain logic."""
    terms: list[list[Value]] = []
    for pair in pairs:
        bits, ones = _split(*pair)
        if len(bits) + ones == 2:
            terms.append(bits)
    if len(terms) > 1 and all(len(bits) == 2 for bits in terms):
        kind = "NOMUL_AOI22" if len(terms) == 2 else "NOMUL_AOI222"
        return _cell(m, name, kind, [bit for bits in terms for bit in bits])
    total: Value = Const(0, 1)
    for bits in terms:
        term: Value = Const(1, 1)
        for bit in bits:
            term = bit if isinstance(term, Const) else term & bit
        if isinstance(term, Const):
            return Const(0, 1)
        total = term if isinstance(total, Const) else total | term
    return Const(1, 1) if isinstance(total, Const) else ~total
