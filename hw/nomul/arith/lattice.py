"""Lattice ECP5 carry cells, instantiated: conditional negation inside the adder, and carry chains without waste.

A CCU2C is two columns of a four-input look-up table (propagate) and, on the same memory cells at C = D = 0, a
two-input one (generate). One truth table serves every column of an adder of two conditionally inverted operands:
propagate = A ^ B ^ C ^ D with A, C the operands' bits and B, D their inversions; generate = A ^ B.

A column of two gated operands needs no look-up table in front either (`add_gated`): propagate = A & B ^ C & D and, at
C = D = 0, generate = A & B, or both with A & B complemented. Nor does one of two operands, chosen by D (`add_chosen`):
propagate = A ^ (D ? B : C), and at C = D = 0 generate = A; nor an operand that is left out (`add_cleared`): A & ~B ^ C.

The first half-cell of a chain makes the carry-in (it generates `carry_in` and propagates nothing), so CIN and the last
COUT stay open: nextpnr spends two more cells on every chain whose CIN is a constant, and two on a COUT that is used.
"""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value

__all__ = ["add", "add_chosen", "add_cleared", "add_gated"]

_SUM = 0x6996
"""A ^ B ^ C ^ D; generate, at C = D = 0, is A ^ B."""

_GATED = 0x7888
"""(A & B) ^ (C & D); generate is A & B."""

_CHOSEN = 0x665A
"""A ^ (D ? B : C); generate is A."""

_CLEARED = 0xD222
"""(A & ~B) ^ (C & D); generate is A & ~B."""

_CARRY_IN = 0x000A
"""With C = D = 1: propagate 0; generate, at C = D = 0, is A."""


def add(m: Module, name: str, a: Value, ia: Value, b: Value, ib: Value, carry_in: Value, width: int) -> Value:
    """Instantiate a + b + carry_in, a complemented where `ia` is set, b where `ib` is; return `width` bits, signed."""
    return _chain(m, name, _SUM, [(_bit(a, i), ia, _bit(b, i), ib) for i in range(width)], carry_in)


def add_gated(
    m: Module,
    name: str,
    a: Value,
    ga: Value,
    b: Value,
    gb: Value,
    width: int,
    *,
    complemented: bool = False,
    plus_one: bool = False,
) -> Value:
    """Instantiate a + b, each where its gate is set, and return `width` bits, signed.

    With `complemented` the first operand is complemented behind its gates; with `plus_one` there is one more, so that
    both together make b - a.
    """
    columns = [(_bit(a, i), ga, _bit(b, i), gb) for i in range(width)]
    return _chain(m, name, _GATED ^ 0xFFFF * complemented, columns, Const(int(plus_one), 1))


def add_chosen(m: Module, name: str, a: Value, b: Value, c: Value, choice: Value, width: int) -> Value:
    """Instantiate a + b where `choice` is set, and a + c where it is not; return `width` bits, signed."""
    columns = [(_bit(a, i), _bit(b, i), _bit(c, i), choice) for i in range(width)]
    return _chain(m, name, _CHOSEN, columns, Const(0, 1))


def add_cleared(m: Module, name: str, a: Value, b: Value, clear: Value) -> Value:
    """Instantiate a + b, or b alone where `clear` is set; return as many bits as a has, signed."""
    columns = [(_bit(a, i), clear, _bit(b, i), Const(1, 1)) for i in range(len(a))]
    return _chain(m, name, _CLEARED, columns, Const(0, 1))


def _bit(number: Value, place: int) -> Value:
    """Return a bit of a number in two's complement, whose highest bit goes on."""
    return number[min(place, len(number) - 1)]


def _chain(
    m: Module, name: str, table: int, columns: Sequence[tuple[Value, Value, Value, Value]], carry_in: Value
) -> Value:
    """Instantiate a first half-cell that makes the carry-in, and a half-cell of `table` a column; return the sum."""
    one, zero = Const(1, 1), Const(0, 1)
    halves = [(_CARRY_IN, (carry_in, zero, one, one)), *((table, column) for column in columns)]
    if len(halves) % 2:
        halves.append((_SUM, (zero, zero, zero, zero)))
    sums: list[Value] = []
    carry: Signal | None = None
    for number in range(0, len(halves), 2):
        low, high = halves[number], halves[number + 1]
        out = Signal(2, name=f"{name}_s{number // 2}")
        pins: dict[str, Value | str] = {f"i_{pin}0": value for pin, value in zip("ABCD", low[1], strict=True)}
        pins |= {f"i_{pin}1": value for pin, value in zip("ABCD", high[1], strict=True)}
        pins |= {"p_INIT0": Const(low[0], 16), "p_INIT1": Const(high[0], 16)}
        pins |= {"p_INJECT1_0": "NO", "p_INJECT1_1": "NO", "o_S0": out[0], "o_S1": out[1]}
        if carry is not None:
            pins["i_CIN"] = carry
        if number + 2 < len(halves):
            carry = Signal(name=f"{name}_c{number // 2}")
            pins["o_COUT"] = carry
        m.submodules[f"{name}_{number // 2}"] = Instance("CCU2C", **pins)
        sums.append(out)
    return Cat(*sums)[1 : 1 + len(columns)].as_signed()
