"""A population count that accumulates, for standard cells: the accumulator's bits go through the tree of full adders.

    total = sum over steps of (ones among the bits)

A tree that counts n bits has about n full adders, and an adder that accumulates its result some more, with a register
for each bit between them. Here each column of the tree takes the accumulator's bit of that column as one bit more, so
that 2^k bits and the accumulator take 2^k full adders, and nothing lies between.

The columns from `cut` on work a cycle later: only the carries into column `cut` are registered, n / 2^cut of them. The
low bits of a whole total wait a cycle for the high ones, so that the next block may follow at once.

Cycle schedule of a step whose bits are there in cycle t (`SkewedPace.enter`): low columns take them at the end of t, high
columns at the end of t + 1 (`SkewedPace.add`); the total is whole in t + 2.
"""

import dataclasses
from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value

from hw.arith.carry_save import compress

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

    start_low: Sequence[Value | None]
    """Bits that the low columns start from, zero but with a block's first step; None is always zero."""

    start_high: Sequence[Value | None]
    """Bits that the high columns start from, zero but when a block's first step adds."""


def accumulate_count(m: Module, name: str, bits: Sequence[Value], width: int, pace: SkewedPace) -> Value:
    """Build the tree and the accumulator of one row; return the total, `width` bits modulo 2^width."""
    cut = len(pace.start_low)
    low = Signal(cut, name=f"{name}_low", reset_less=True)
    late = Signal(cut, name=f"{name}_late", reset_less=True)
    high = Signal(width - cut, name=f"{name}_high", reset_less=True)

    def fed(total: Signal, keep: Value, start: Sequence[Value | None]) -> list[Value]:
        return [bit & keep if value is None else (bit & keep) | value for bit, value in zip(total, start, strict=True)]

    columns: list[list[Value]] = [[bit] for bit in fed(low, pace.keep_low, pace.start_low)]
    columns[0] += bits
    lower = compress(m, f"{name}_lower", columns, height=1, until=cut)
    carries: list[list[Value]] = [[] for _ in range(width - cut)]
    for index in range(cut, min(width, len(lower))):
        for number, bit in enumerate(lower[index]):
            register = Signal(name=f"{name}_carry{index}_{number}", reset_less=True)
            with m.If(pace.enter):
                m.d.sync += register.eq(bit)
            carries[index - cut].append(register)
    for column, bit in zip(carries, fed(high, pace.keep_high, pace.start_high), strict=True):
        column.append(bit)
    upper = compress(m, f"{name}_upper", carries, height=1)[: width - cut]
    with m.If(pace.enter):
        m.d.sync += low.eq(Cat(*(column[0] for column in lower[:cut])))
    with m.If(pace.add):
        m.d.sync += [high.eq(Cat(*(column[0] for column in upper))), late.eq(low)]
    return Cat(late, high)
