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

import dataclasses
import functools
from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from nomul.arith import xilinx
from nomul.arith.target import Target

__all__ = [
    "AMD",
    "BitCount",
    "Columns",
    "add_rows",
    "count_stages",
    "reduce_columns",
    "reduce_stages",
    "register_columns",
]

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


@dataclasses.dataclass(frozen=True)
class _Counter:
    """One counter of a layer: column `first`, and in a chain every second above it, give so many bits."""

    first: int
    takes: tuple[int, ...]
    chain: bool


def _plan_layer(heights: Sequence[int], target: Target) -> tuple[list[_Counter], list[int]]:
    """Plan one layer; return its counters and the heights after it."""
    rest, after, counters = list(heights), [0] * (len(heights) + 3), []
    for index in range(len(rest)):
        if target not in AMD:
            threes, rest[index] = divmod(rest[index], 3)
            counters += [_Counter(index, (3,), False)] * threes
            after[index] += threes
            after[index + 1] += threes
            continue
        while rest[index] > 3:
            takes = [min(7, rest[index])]
            rest[index] -= takes[0]
            place = index + 2
            while place < len(rest) and rest[place] > 3:
                takes.append(min(6, rest[place]))
                rest[place] -= takes[-1]
                place += 2
            counters.append(_Counter(index, tuple(takes), True))
            for column in range(index, place + 1):
                after[column] += 1
        # Beside sums and carries of this layer three bits wait for the next, whose counters take more.
        if rest[index] == 3 and not after[index]:
            counters.append(_Counter(index, (3,), False))
            rest[index] = 0
            after[index] += 1
            after[index + 1] += 1
    for index, count in enumerate(rest):
        after[index] += count
    while not after[-1]:
        after.pop()
    return counters, after


def _plan(heights: Sequence[int], target: Target) -> list[list[_Counter]]:
    """Plan the layers that leave no column with more than two bits."""
    layers: list[list[_Counter]] = []
    heights = list(heights)
    while max(heights) > 2:
        counters, heights = _plan_layer(heights, target)
        layers.append(counters)
    return layers


@functools.cache
def reduce_stages(heights: tuple[int, ...], target: Target) -> int:
    """Return the registers on the way through `reduce_columns`, for columns of these heights."""
    layers = len(_plan(heights, target))
    return max(0, -(-layers // (1 if target in AMD else LEVELS)) - 1)


def reduce_columns(m: Module, name: str, columns: Columns, target: Target) -> Columns:
    """Reduce columns until none has more than two bits, in `reduce_stages` cycles; the last layer is not registered."""
    every = 1 if target in AMD else LEVELS
    for number, layer in enumerate(_plan([len(column) for column in columns], target)):
        if number and number % every == 0:
            columns = register_columns(m, f"{name}_held{number}", columns)
        rest = [list(column) for column in columns]
        after: Columns = [[] for _ in range(len(columns) + 3)]
        for place, counter in enumerate(layer):
            label = f"{name}{number}_{place}"
            taken = []
            for step, count in enumerate(counter.takes):
                column = counter.first + 2 * step
                bits, rest[column] = rest[column][:count], rest[column][count:]
                taken.append(bits)
            outputs = _full_adder(m, label, taken[0], target) if not counter.chain else _chain(m, label, taken, target)
            for offset, bit in enumerate(outputs):
                after[counter.first + offset].append(bit)
        for index, bits in enumerate(rest):
            after[index] += bits
        while not after[-1]:
            after.pop()
        columns = after
    return columns


def _full_adder(m: Module, name: str, bits: Sequence[Value], target: Target) -> list[Value]:
    if target in AMD:
        return list(xilinx.lut_pair(m, name, bits, lambda a, b, c, *_: a ^ b ^ c, lambda a, b, c, *_: (a + b + c) >> 1))
    (a, b, c), total, carry = bits, Signal(name=f"{name}_s"), Signal(name=f"{name}_co")
    m.d.comb += [total.eq(a ^ b ^ c), carry.eq(a & b | c & (a | b))]
    return [total, carry]


def _chain(m: Module, name: str, taken: Sequence[Sequence[Value]], target: Target) -> list[Value]:
    """Build one chain of counters, of seven bits at its start and of six bits in every second column above."""
    zero = Const(0, 1)
    carry: Value = zero
    select: list[Value] = []
    data: list[Value] = []
    for place, given in enumerate(taken):
        bits = list(given)
        if len(bits) == 7:
            carry = bits.pop()
        bits += [zero] * (6 - len(bits))
        odd = Signal(name=f"{name}_odd{place}")
        m.submodules[f"{name}_low{place}"] = xilinx.lut6(bits, lambda *x: sum(x) & 1, odd)
        two, four = xilinx.lut_pair(
            m, f"{name}_high{place}", bits[:5], lambda *x: int(sum(x) in (2, 3)), lambda *x: int(sum(x) >= 4)
        )
        select += [odd, two]
        data += [bits[5], four]
    sums, carry = xilinx.carry_chain(m, f"{name}_chain", target, select, data, carry)
    return [*sums, carry]


@functools.cache
def count_stages(bits: int, target: Target) -> int:
    """Return the cycles from the bits of a `BitCount` to its count."""
    return reduce_stages((bits,), target) + 1


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
        columns = reduce_columns(m, "tree", [list(self.bits)], self.target)
        m.d.sync += self.count.eq(add_rows(columns))
        return m


def add_rows(columns: Sequence[Sequence[Value]]) -> Value:
    """Return the sum of columns of at most two bits."""
    first, second = (Cat(*(column[row] if row < len(column) else Const(0, 1) for column in columns)) for row in (0, 1))
    return first + second
