"""Sums of bits by column: as explicit full adders in standard cells, as additions of words elsewhere."""

from itertools import zip_longest

from amaranth.hdl import Cat, Const, Module, Signal, Value

from nomul.arith.carry_save import Columns, compress
from nomul.arith.cells import full_adder, half_adder

__all__ = ["add_columns", "add_constant", "running_sum", "two_rows"]


def two_rows(m: Module, name: str, columns: Columns, width: int, *, cells: bool) -> tuple[Value, Value]:
    """Return two numbers of `width` bits whose sum is that of all columns, modulo 2^width."""
    reduced = _levels(m, name, columns, width) if cells else columns[:width]
    rows = [Cat(*row) for row in zip_longest(*reduced, fillvalue=Const(0, 1))] or [Const(0, width)]
    if len(rows) > 2:
        rows = [sum(rows[1:], rows[0])[:width]]
    return rows[0], rows[1] if len(rows) == 2 else Const(0, 1)


def add_columns(m: Module, name: str, columns: Columns, width: int, *, cells: bool) -> Value:
    """Return the sum of all columns, `width` bits, modulo 2^width."""
    first, second = two_rows(m, name, columns, width, cells=cells)
    return (first + second)[:width]


def add_constant(columns: list[list[Value]], constant: int) -> None:
    """Put the ones of a constant, modulo 2^(number of columns), into columns."""
    for index, column in enumerate(columns):
        if constant >> index & 1:
            column.append(Const(1, 1))


def _levels(m: Module, name: str, columns: Columns, width: int) -> list[list[Value]]:
    """Reduce columns to two bits level by level (Dadda, 1965, "Some schemes for parallel multipliers").

    The fewest levels, and no carry runs along the columns; `compress` takes fewer cells and has long carries.
    """
    waiting = [list(column) for column in columns[:width]]
    heights = [2]
    while heights[-1] < max(map(len, waiting)):
        heights.append(heights[-1] * 3 // 2)
    for level, most in enumerate(reversed(heights[:-1])):
        carries: list[Value] = []
        for index, column in enumerate(waiting):
            column, coming, carries = [*column], carries, []
            sums: list[Value] = []
            while len(column) + len(sums) + len(coming) > most:
                few = len(column) + len(sums) + len(coming) == most + 1
                bits, column = column[: 2 if few else 3], column[2 if few else 3 :]
                cell = f"{name}_{level}_{index}_{len(sums)}"
                total, carry = half_adder(m, cell, *bits) if few else full_adder(m, cell, *bits)
                sums.append(total)
                carries.append(carry)
            waiting[index] = [*column, *sums, *coming]
    return waiting


def running_sum(
    m: Module,
    name: str,
    columns: Columns,
    width: int,
    *,
    start: int,
    low: int,
    depth: float,
    first: tuple[Value, Value],
) -> list[Value]:
    """Add up steps in explicit full adders; every register moves with the domain's clock.

    The bits of a step go through a compressor tree. Its `low` lowest columns, which are ready first, meet their part of
    the sum at once; the others, two bits a column or up to four where more adders would pass `depth`, and the carries
    of the low ones, go through registers and meet theirs a step later. So the low columns save registers, and shorten
    the carry chain of the others.

    Parameters
    ----------
    columns : Columns
        Bits of a step, from registers.
    width : int
        The sum is taken modulo 2^width.
    start : int
        What a sum starts at.
    low : int
        Columns that are one step ahead.
    depth : float
        Longest path of the tree to the other columns, in exclusive ors, as `compress` has it.
    first : (Value, Value)
        The bits that meet the low part, and those that meet the rest, are a sum's first.

    Returns
    -------
    list of Value
        The sum, registers; the low columns are one step ahead.
    """
    total = Signal(width, name=f"{name}_total", reset_less=True)
    sums = [[*column] for column in columns[:width]] + [[] for _ in range(width - len(columns))]
    for index in range(width):
        begin = first[index >= low]
        if index == low:
            tree = compress(m, f"{name}_low", sums, lambda column: 1 if column < low else 2, depth)[:width]
            m.d.sync += total[:low].eq(Cat(*(column[0] for column in tree[:low])))
            sums = [[] for _ in range(low)]
            for place, column in enumerate(tree[low:], low):
                held = [Signal(name=f"{name}_held{place}_{number}", reset_less=True) for number in range(len(column))]
                m.d.sync += [register.eq(bit) for register, bit in zip(held, column, strict=True)]
                sums.append([*held])
            sums += [[] for _ in range(width - len(sums))]
        sums[index].append((total[index] | begin) if start >> index & 1 else (total[index] & ~begin))
    rest = compress(m, f"{name}_high", sums, height=1)
    m.d.sync += total[low:].eq(Cat(*(column[0] for column in rest[low:width])))
    return list(total)
