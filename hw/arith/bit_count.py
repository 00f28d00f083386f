"""Population counts as pipelined compressor trees: how many of many bits are one.

=========  ============================================================================================
portable   full adders, three bits of a column into two, `LEVELS` of them between registers
AMD        7:3 counters of two dual-output look-up tables on a carry chain, one layer between registers
=========  ============================================================================================

The AMD counter removes two bits a look-up table, where a full adder in one dual-output table removes one. Its first
column takes the exclusive or of six bits as S, the sixth of them as DI and the seventh as carry-in; its second column
is a function of the first five alone, S where they are two or three and DI where they are four or more. The carry out
has the weight of the column after next, where the chain goes on with six bits more.
"""

import functools
from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from hw.arith import xilinx
from hw.arith.target import Target

__all__ = ["AMD", "BitCount", "Columns", "count_stages", "reduce_columns", "register_columns"]

AMD = (Target.XCUP, Target.XC7)
"""Targets with carry chains behind dual-output look-up tables."""

LEVELS = 2
"""Full adders in a row between two registers of the portable form."""

Columns = list[list[Value]]
"""Bits to be added: those of column i have weight 2^i."""


def register_columns(m: Module, name: str, columns: Columns) -> Columns:
    """Return the columns a cycle later."""
    later: Columns = []
    for index, column in enumerate(columns):
        later.append([])
        for number, bit in enumerate(column):
            register = Signal(name=f"{name}_{index}_{number}", reset_less=True)
            m.d.sync += register.eq(bit)
            later[-1].append(register)
    return later


def reduce_columns(m: Module, name: str, columns: Columns, target: Target) -> tuple[Columns, int]:
    """Reduce columns until none has more than two bits; return them, and the registers on the way.

    The last layer is not registered.
    """
    stages = 0
    while max(len(column) for column in columns) > 2:
        if stages:
            columns = register_columns(m, f"{name}_held{stages}", columns)
        if target in AMD:
            columns = _counters(m, f"{name}_layer{stages}", columns, target)
        else:
            for level in range(LEVELS):
                if max(len(column) for column in columns) > 2:
                    columns = _full_adders(m, f"{name}_layer{stages}_{level}", columns)
        stages += 1
    return columns, max(0, stages - 1)


def _full_adders(m: Module, name: str, columns: Columns) -> Columns:
    """Add three bits of a column at a time."""
    after: Columns = [[] for _ in range(len(columns) + 1)]
    for index, column in enumerate(columns):
        while len(column) >= 3:
            (a, b, c), column = column[:3], column[3:]
            total, carry = Signal(name=f"{name}_s{index}_{len(column)}"), Signal(name=f"{name}_c{index}_{len(column)}")
            m.d.comb += [total.eq(a ^ b ^ c), carry.eq(a & b | c & (a | b))]
            after[index].append(total)
            after[index + 1].append(carry)
        after[index] += column
    return after if after[-1] else after[:-1]


def _counters(m: Module, name: str, columns: Columns, target: Target) -> Columns:
    """Count up to seven bits of a column at a time, along carry chains, and three where fewer are left."""
    rest = [list(column) for column in columns]
    after: Columns = [[] for _ in range(len(columns) + 3)]
    for index in range(len(rest)):
        while len(rest[index]) > 3:
            _chain(m, f"{name}_{index}_{len(rest[index])}", index, rest, after, target)
        # Beside sums and carries of this layer three bits wait for the next, whose counters take more.
        if len(rest[index]) == 3 and not after[index]:
            total, carry = xilinx.lut_pair(
                m, f"{name}_fa{index}", rest[index], lambda a, b, c, *_: a ^ b ^ c, lambda a, b, c, *_: (a + b + c) >> 1
            )
            after[index].append(total)
            after[index + 1].append(carry)
            rest[index] = []
        after[index] += rest[index]
    while not after[-1]:
        after.pop()
    return after


def _chain(m: Module, name: str, index: int, rest: Columns, after: Columns, target: Target) -> None:
    """Build one chain of 7:3 counters from a column upwards, as long as columns have bits for it."""
    zero = Const(0, 1)
    carry: Value = rest[index].pop() if len(rest[index]) > 6 else zero
    select: list[Value] = []
    data: list[Value] = []
    places: list[int] = []
    while True:
        bits, rest[index] = rest[index][:6], rest[index][6:]
        bits += [zero] * (6 - len(bits))
        pair = f"{name}_at{index}"
        odd = Signal(name=f"{pair}_odd")
        m.submodules[f"{pair}_low"] = xilinx.lut6(bits, lambda *x: sum(x) & 1, odd)
        two, four = xilinx.lut_pair(
            m, f"{pair}_high", bits[:5], lambda *x: int(sum(x) in (2, 3)), lambda *x: int(sum(x) >= 4)
        )
        select += [odd, two]
        data += [bits[5], four]
        places += [index, index + 1]
        index += 2
        if index >= len(rest) or len(rest[index]) < 4:
            break
    sums, carry = xilinx.carry_chain(m, f"{name}_chain", target, select, data, carry)
    for place, bit in zip(places, sums, strict=True):
        after[place].append(bit)
    after[index].append(carry)


@functools.cache
def count_stages(bits: int, target: Target) -> int:
    """Return the cycles from the bits of a `BitCount` to its count."""
    _, stages = reduce_columns(Module(), "plan", [[Signal() for _ in range(bits)]], target)
    return stages + 1


class BitCount(Component):
    """A population count.

    Parameters
    ----------
    size : int
        Bits.
    target : Target
        Technology whose form is used.

    Members
    -------
    bits : In(size)
    count : Out
        How many of them are one, `count_stages` cycles later; a register.
    """

    def __init__(self, size: int, target: Target) -> None:
        self.size, self.target = size, target
        super().__init__({"bits": In(size), "count": Out(size.bit_length())})

    def elaborate(self, platform: object) -> Module:
        """Build the tree and the last addition."""
        m = Module()
        columns, _ = reduce_columns(m, "tree", [list(self.bits)], self.target)
        m.d.sync += self.count.eq(add_rows(columns))
        return m


def add_rows(columns: Sequence[Sequence[Value]]) -> Value:
    """Return the sum of columns of at most two bits."""
    first, second = (Cat(*(column[row] if row < len(column) else Const(0, 1) for column in columns)) for row in (0, 1))
    return first + second
