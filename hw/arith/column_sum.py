"""Sums of bits by column: as explicit full adders in standard cells, as additions of words elsewhere."""

from collections.abc import Sequence
from itertools import zip_longest

from amaranth.hdl import Cat, Const, Module, Signal, Value

from hw.arith.carry_save import Columns, compress

__all__ = ["add_columns", "running_sum", "two_rows"]


def two_rows(m: Module, name: str, columns: Columns, width: int, *, cells: bool) -> tuple[Value, Value]:
    """Return two numbers of `width` bits whose sum is that of all columns, modulo 2^width."""
    reduced = [list(column) for column in (compress(m, name, columns) if cells else columns)][:width]
    rows = [Cat(*row) for row in zip_longest(*reduced, fillvalue=Const(0, 1))] or [Const(0, 1)]
    while len(rows) > 2:
        rows = [sum(rows[1:], rows[0])[:width]]
    return rows[0], rows[1] if len(rows) == 2 else Const(0, 1)


def add_columns(m: Module, name: str, columns: Columns, width: int, *, cells: bool) -> Value:
    """Return the sum of all columns, `width` bits, modulo 2^width."""
    first, second = two_rows(m, name, columns, width, cells=cells)
    return (first + second)[:width]


def running_sum(
    m: Module, name: str, columns: Columns, width: int, *, start: int, segment: int, early: int, first: Value
) -> tuple[list[Value], list[int]]:
    """Add up steps in explicit full adders; every register moves with the domain's clock.

    The bits of a step go through a compressor tree into registers, a step later into an accumulator whose carry chain
    is cut into segments. The carries between segments are registered too, and added with the next step; so they are a
    part of the state.

    Parameters
    ----------
    columns : Columns
        Bits of a step, from registers.
    width : int
        The sum is taken modulo 2^width.
    start : int
        What a sum starts at.
    segment : int
        Columns of a segment.
    early : int
        Lowest columns that the tree reduces to one bit each.
    first : Value
        The bits that meet the accumulator in this cycle are a sum's first.

    Returns
    -------
    (bits, columns)
        The state, registers, and the column of each of its bits. The sum is that of bit * 2^column.
    """
    tree = compress(m, f"{name}_tree", columns, height=lambda column: 1 if column < early else 2)[:width]
    held: list[list[Value]] = []
    for index, column in enumerate(tree):
        held.append([Signal(name=f"{name}_held{index}_{number}", reset_less=True) for number in range(len(column))])
        m.d.sync += [register.eq(bit) for register, bit in zip(held[-1], column, strict=True)]
    held += [[] for _ in range(width - len(tree))]

    start &= (1 << width) - 1
    total = Signal(width, name=f"{name}_total", reset_less=True)
    state, places = list(total), list(range(width))
    carried: list[Value] = []
    for low in range(0, width, segment):
        high = min(low + segment, width)
        sums: list[Sequence[Value]] = [[] for _ in range(low)]
        for index in range(low, high):
            kept = total[index]
            sums.append([*held[index], (kept | first) if start >> index & 1 else (kept & ~first)])
        for place, carry in carried:
            sums[place] = [*sums[place], carry & ~first]
        reduced = compress(m, f"{name}_at{low}", sums, height=1)
        m.d.sync += total[low:high].eq(Cat(*(column[0] for column in reduced[low:high])))
        carried = []
        for place in range(high, min(len(reduced), width)):
            for number, bit in enumerate(reduced[place]):
                carry = Signal(name=f"{name}_carry{place}_{number}", reset_less=True)
                m.d.sync += carry.eq(bit)
                carried.append((place, carry))
                state.append(carry)
                places.append(place)
    return state, places
