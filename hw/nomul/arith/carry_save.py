"""Sums in explicit full adders, for standard cells: a compressor tree, a register, and an accumulator in two segments.

    total = sum over steps of (sum_i 2^i * (bits of column i) + constant)

Cycle schedule of a step whose bits come from registers in cycle t (`Pace.enter`): the tree leaves at most two bits a
column, registered at the end of t; in t + 1 (`Pace.add`) they meet the accumulator, whose low segment takes them at
once; its carries out are registered too, and reach the high segment a step later. A block's last step is therefore
followed by a cycle without a step (`Pace.settle`, t + 2), and the total is whole in t + 3.

Why two segments: one carry chain over the accumulator would be the critical path. Skewing the high segment's bits by a
register would save the extra cycle, and cost two flip-flops for each column of the tree above the cut (about 2.8 um2 a
product for 16 products in nangate45).

The reduction takes the earliest three bits of a column first, the last of them to the fastest input (Oklobdzija,
Villeger and Liu, 1996, "A method for speed optimized partial product reduction"), with an exclusive or as the unit of
delay.
"""

import dataclasses
import heapq
from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value

from nomul.arith.cells import full_adder, half_adder

__all__ = ["Columns", "Control", "Pace", "accumulate", "compress", "pace"]

Columns = Sequence[Sequence[Value]]
"""Bits to be added, by weight: column i has weight 2^i."""

_SUM, _CARRY = (2.3, 2.3, 1.9), (1.7, 1.7, 1.4)
"""Delays of a full adder from its inputs A, B, C to its outputs S and CO, in exclusive ors: nangate45's."""


def compress(
    m: Module,
    name: str,
    columns: Columns,
    height: int | Callable[[int], int] = 2,
    depth: float | None = None,
    until: int | None = None,
) -> list[list[Value]]:
    """Reduce columns until none has more than `height` bits, 1 or 2, or those of its number; the sum stays the same.

    With a `depth`, in exclusive ors, a column that may have 2 bits is left with up to 4 when the next adder would end
    later. Beyond the last column the carries open new ones. With `until`, columns from that one on are left as they
    come.
    """
    waiting: list[list[tuple[float, int, Value]]] = []
    count = 0
    for column in columns:
        waiting.append([])
        for bit in column:
            waiting[-1].append((0.0, count, bit))
            count += 1
    reduced: list[list[Value]] = []
    while len(reduced) < len(waiting):
        index = len(reduced)
        column = waiting[index]
        heapq.heapify(column)
        most = height if isinstance(height, int) else height(index)
        while len(column) > most and (until is None or index < until):
            inputs = heapq.nsmallest(min(3, len(column)), column)
            if depth is not None and most == 2 and len(column) <= 4 and inputs[-1][0] + max(_SUM) > depth:
                break
            for _ in inputs:
                heapq.heappop(column)
            bits = [bit for _, _, bit in inputs]
            cell = f"{name}_{index}_{count}"
            total, carry = full_adder(m, cell, *bits) if len(bits) == 3 else half_adder(m, cell, *bits)
            for bit, place, delays in ((total, index, _SUM), (carry, index + 1, _CARRY)):
                if isinstance(bit, Const) and bit.value == 0:
                    continue
                while len(waiting) <= place:
                    waiting.append([])
                ready = max(time + delay for (time, _, _), delay in zip(inputs, delays, strict=False))
                heapq.heappush(waiting[place], (ready, count, bit))
                count += 1
        reduced.append([bit for _, _, bit in column])
    return reduced


@dataclasses.dataclass(frozen=True)
class Pace:
    """When the rows of an array register what; one for all rows, so that each enable is one clock gate."""

    hold: Value
    """The registers of the array may move in this cycle."""

    enter: Value
    """The tree sees the bits of a step."""

    add: Value
    """The accumulator sees the tree's."""

    clear: Value
    """They are a block's first."""

    settle: Value
    """The accumulator's high segment takes the low one's last carries."""

    load: Value = dataclasses.field(default_factory=lambda: Const(0))
    """The accumulator takes the value that a block starts from."""


@dataclasses.dataclass(frozen=True)
class Control:
    """What `pace` makes: the rows' `Pace`, and what the array tells its engine."""

    rows: Pace

    done: Value
    """The totals are a block's results."""

    ready: Value
    """A step may be taken in this cycle."""


def pace(
    m: Module, enable: Value, issue: Value, first: Value, last: Value, *, split: bool, preload: Value | None = None
) -> Control:
    """Build the control of an array.

    Parameters
    ----------
    enable : Value
        Everything stands still without it.
    issue, first, last : Value
        A step is taken in this cycle, and is the first or the last of its block; its bits are registered at the end.
    split : bool
        Whether the accumulators have two segments.
    preload : Value or None
        A step with this flag is taken, and its weights are what the accumulators start from (`accumulate`).
    """
    load: Value = Const(0)
    if preload is not None:
        load = Signal(name="load")
        with m.If(enable):
            m.d.sync += load.eq(issue & preload)
        issue = issue & ~preload
    enter, add, done = (Signal(name=name) for name in ("enter", "add", "done"))
    firsts, lasts = Signal(2), Signal(2)
    with m.If(enable):
        m.d.sync += [
            enter.eq(issue), add.eq(enter), done.eq(lasts[1]),
            firsts.eq(Cat(issue & first, firsts[0])), lasts.eq(Cat(issue & last, lasts[0])),
        ]  # fmt: skip
    settle: Value = Const(0)
    if split:
        settle = Signal(name="settle")
        with m.If(enable):
            m.d.sync += [settle.eq(lasts[1]), done.eq(settle)]
    # A preload comes two cycles sooner to the accumulator than the sum of a step, and a step's needs none to settle.
    busy = (lasts[0] | lasts[1] if split else lasts[0]) if preload is not None else lasts[0] & split
    return Control(Pace(enable, enter, add, firsts[1], settle, load), done, enable & ~busy)


def accumulate(
    m: Module,
    name: str,
    columns: Columns,
    width: int,
    constant: int,
    segment: int,
    control: Pace,
    *,
    start: Value | None = None,
    shared: Columns = (),
    depth: float | None = None,
) -> Signal:
    """Build the tree, the registers and the accumulator of one row; return the total, `width` bits modulo 2^width.

    Parameters
    ----------
    columns : Columns
        Bits of a step, from registers.
    constant : int
        Added with each step.
    segment : int
        Columns of the accumulator's low segment.
    start : Value or None
        What the accumulator takes in a cycle of `control.load`; then it is never cleared, and `constant` is zero.
    shared : Columns
        Bits that are added besides, from registers that move with the tree's.
    depth : float or None
        As in `compress`, for the tree.
    """
    tree = compress(m, f"{name}_tree", columns, depth=depth)[:width]
    segment = min(segment, width)
    # A high bit of the tree is zero in a cycle without a step: the high segment moves once more than there are steps.
    held: list[list[Value]] = []
    for index, column in enumerate(tree):
        registers: list[Value] = []
        for number, bit in enumerate(column):
            register = Signal(name=f"{name}_held{index}_{number}", reset_less=True)
            if index < segment:
                with m.If(control.hold & control.enter):
                    m.d.sync += register.eq(bit)
            else:
                with m.If(control.hold):
                    m.d.sync += register.eq(bit & control.enter)
            registers.append(register)
        held.append(registers)
    held += [[] for _ in range(width - len(tree))]

    modulus = (1 << width) - 1
    constant &= modulus
    # It is added to the high segment once too often, so the high segment starts as much below.
    begin = -(constant >> segment << segment) & modulus
    total = Signal(width, name=f"{name}_total", reset_less=True)
    sums: list[list[Value]] = []
    for index in range(width):
        kept = total[index]
        fed: Value = (kept | control.clear) if begin >> index & 1 else (kept & ~control.clear)
        ones = [Const(1, 1)] if constant >> index & 1 else []
        sums.append(
            [*held[index], *(shared[index] if index < len(shared) else ()), kept if start is not None else fed, *ones]
        )
    low = compress(m, f"{name}_low", sums[:segment], height=1)
    with m.If(control.hold & control.add):
        m.d.sync += total[:segment].eq(Cat(*(column[0] for column in low[:segment])))
    if start is not None:
        with m.If(control.hold & control.load):
            m.d.sync += total[:segment].eq(start[:segment])
    if segment == width:
        return total

    # Carries out of the low segment: columns `segment` and above of its sum.
    for index in range(segment, min(len(low), width)):
        for number, bit in enumerate(low[index]):
            carry = Signal(name=f"{name}_carry{index}_{number}", reset_less=True)
            with m.If(control.hold & control.add):
                m.d.sync += carry.eq(bit)
            if start is None:
                sums[index].append(carry & ~control.clear)
                continue
            with m.If(control.hold & control.load):
                m.d.sync += carry.eq(0)
            sums[index].append(carry)
    # Above the tree and its carries only one carry goes on: it meets all the ones below a bit at once.
    plain = segment + max((place for place, column in enumerate(sums[segment:]) if len(column) > 1), default=0) + 3
    high = compress(m, f"{name}_high", [[] for _ in range(segment)] + sums[segment:plain], height=1)
    bits = [column[0] for column in high[segment : min(plain, width)]]
    if plain < width:
        (carry,) = high[plain]
        bits += [
            sums[index][0] ^ (carry & Cat(*(sums[below][0] for below in range(plain, index))).all())
            for index in range(plain, width)
        ]
    with m.If(control.hold & (control.add | control.settle)):
        m.d.sync += total[segment:].eq(Cat(*bits))
    if start is not None:
        with m.If(control.hold & control.load):
            m.d.sync += total[segment:].eq(start[segment:width])
    return total
