"""A population count that accumulates, for standard cells: the accumulator's bits go through the tree of full adders.

    total = sum over steps of (ones among the bits)

A tree that counts n bits has about n full adders, and an adder that accumulates its result some more, with a register
for each bit between them. Here each column of the tree takes the accumulator's bit of that column as one bit more, so
that 2^k bits and the accumulator take 2^k full adders, and nothing lies between.

The columns from `cut` on work a cycle later: only the carries into column `cut` are registered, n / 2^cut of them. The
low bits of a whole total wait a cycle for the high ones, so that the next block may follow at once.

Cycle schedule of a step whose bits are there in cycle t (`SkewedPace.enter`): low columns take them at the end of t,
high columns at the end of t + 1 (`SkewedPace.add`); the total is whole in t + 2.
"""

import dataclasses
from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value

from nomul.arith.carry_save import compress

__all__ = ["SkewedPace", "accumulate_count"]


@dataclasses.dataclass(frozen=True)
class SkewedPace:
    """When the rows of an array register what; one for all rows, so that each enable is one clock gate."""

    enter: Value
    """The low columns take the bits of a step."""

    add: Value
    """The high columns take the carries of the step before."""

    keep_low: Value
    """The step that enters is not a block's first."""

    keep_high: Value
    """The step that adds is not a block's first."""

    start: Sequence[Value]
    """Bits that the lowest columns start from, zero but with a block's first step."""


def accumulate_count(
    m: Module, name: str, bits: Sequence[Value], width: int, cut: int, constant: int, late: bool, pace: SkewedPace
) -> Value:
    """Build the tree and the accumulator of one row; return the total, `width` bits modulo 2^width.

    Parameters
    ----------
    bits : sequence of Value
        Counted with each step.
    width, cut : int
        Columns, and how many of them are low.
    constant : int
        Added with each step.
    late : bool
        Whether the low bits wait for the high ones; without it no step may enter in the cycle after a block's last.
    """
    constant &= (1 << width) - 1
    low = Signal(cut, name=f"{name}_low", reset_less=True)
    waiting = Signal(cut, name=f"{name}_waiting", reset_less=True)
    high = Signal(width - cut, name=f"{name}_high", reset_less=True)

    columns = [[bit & pace.keep_low] for bit in low]
    for index, bit in enumerate(pace.start[:cut]):
        columns[index] = [columns[index][0] | bit]
    columns[0] += bits
    ones = [[Const(1, 1)] if constant >> index & 1 else [] for index in range(width)]
    for column, one in zip(columns, ones, strict=False):
        column += one
    lower = compress(m, f"{name}_lower", columns, height=1, until=cut)
    carries: list[list[Value]] = [[] for _ in range(width - cut)]
    for index in range(cut, min(width, len(lower))):
        for number, bit in enumerate(lower[index]):
            register = Signal(name=f"{name}_carry{index}_{number}", reset_less=True)
            with m.If(pace.enter):
                m.d.sync += register.eq(bit)
            carries[index - cut].append(register)
    for column, bit, one in zip(carries, high, ones[cut:], strict=True):
        column += [bit & pace.keep_high, *one]
    upper = compress(m, f"{name}_upper", carries, height=1)[: width - cut]
    with m.If(pace.enter):
        m.d.sync += low.eq(Cat(*(column[0] for column in lower[:cut])))
    with m.If(pace.add):
        m.d.sync += [high.eq(Cat(*(column[0] for column in upper))), waiting.eq(low)]
    return Cat(waiting if late else low, high)
