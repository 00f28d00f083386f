"""From the dense ternary code, five trits in a byte, to the group codes of an engine, on the way to it.

    byte = sum over i = 0..4 of (w_i + 1) * 3**i

Bytes 243 to 255 mean nothing: they decode to five zero trits and raise `fault`.

Cost, on UltraScale+ (Yosys, with the code of TLMM's half tables), in LUTs of `TritUnit` for a byte:

    group   1   2   3   4   5
    LUT    30  40  42  64  39

A byte is split into a quotient and a remainder by 27, two small numbers of two and three trits, and the groups are
looked up in these. For groups of three that takes 42 LUTs a byte, where looking up each trit and then the groups takes
59, and looking up each group in the whole byte where that is possible takes 61. Groups of four or five that lie within
one byte are looked up in the byte.
"""

import dataclasses
from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

__all__ = ["BYTE_TRITS", "GroupCode", "TritDecoder", "TritUnit"]

BYTE_TRITS = 5
LOW_TRITS = 3
"""Trits in the remainder of a byte; the others are in its quotient."""

LOW = 3**LOW_TRITS
HIGH = 3 ** (BYTE_TRITS - LOW_TRITS)


@dataclasses.dataclass(frozen=True)
class GroupCode:
    """What an engine calls each group of trits.

    Raises
    ------
    ValueError
        If there is not one code for each group.
    """

    group: int
    """Trits in a group."""

    codes: tuple[int, ...]
    """3**group of them: of the group with trits w_i that of number sum over i of (w_i + 1) * 3**i."""

    def __post_init__(self) -> None:
        """Count the codes."""
        if len(self.codes) != 3**self.group:
            raise ValueError(f"groups of {self.group} trits have {3**self.group} codes, not {len(self.codes)}")

    @property
    def width(self) -> int:
        """Bits of a code."""
        return max(self.codes).bit_length()


def _trits(number: int, start: int, count: int) -> int:
    """Return `count` base-3 digits of a number from digit `start` up, as a number."""
    return number // 3**start % 3**count


def _look_up(m: Module, address: Value, table: Sequence[int], width: int, name: str) -> Signal:
    """Return the entry of a table of constants."""
    entry = Signal(width, name=name)
    with m.Switch(address):
        for number, value in enumerate(table):
            with m.Case(number):
                m.d.comb += entry.eq(value)
    return entry


class TritUnit(Component):
    """Decodes as many bytes as a group has trits, which are five groups, without a clock.

    Parameters
    ----------
    code : GroupCode

    Members
    -------
    dense : In(8).array(group)
        Bytes; trit 0 of byte 0 is the first.
    codes : Out(code.width).array(5)
    invalid : Out(1)
        Some byte is above 242.
    """

    def __init__(self, code: GroupCode) -> None:
        self.code = code
        super().__init__(
            {
                "dense": In(8).array(code.group),
                "codes": Out(code.width).array(BYTE_TRITS),
                "invalid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Split the bytes and look the groups up."""
        m = Module()
        lows, highs = [], []
        for number, byte in enumerate(self.dense):
            high = _look_up(m, byte, [value // LOW for value in range(256)], 4, f"high{number}")
            offset = _look_up(m, high, [-LOW * value % 32 for value in range(HIGH + 1)], 5, f"offset{number}")
            low, invalid = Signal(LOW_TRITS + 2, name=f"low{number}"), Signal(name=f"invalid{number}")
            # 243 // 27 = 9 is the only quotient with both bits.
            m.d.comb += [low.eq(byte[:5] + offset), invalid.eq(high[3] & high[0])]
            lows.append(Cat(low, invalid))
            highs.append(high)
        m.d.comb += self.invalid.eq(Cat(low[-1] for low in lows).any())

        for number in range(BYTE_TRITS):
            address, numbers = self._address(m, number, lows, highs)
            table = [self.code.codes[value] for value in numbers]
            m.d.comb += self.codes[number].eq(_look_up(m, address, table, self.code.width, f"code{number}"))
        return m

    def _address(
        self, m: Module, number: int, lows: Sequence[Value], highs: Sequence[Value]
    ) -> tuple[Value, list[int]]:
        """Return what a group is looked up by, and the number of the group for each of its values."""
        group = self.code.group
        first, end = number * group, (number + 1) * group
        byte, start = divmod(first, BYTE_TRITS)
        if group > LOW_TRITS and start + group <= BYTE_TRITS:
            zero = 3**BYTE_TRITS // 2
            values = [value if value < 3**BYTE_TRITS else zero for value in range(256)]
            return self.dense[byte], [_trits(value, start, group) for value in values]
        address, numbers = Cat(), [0]
        while first < end:
            byte, start = divmod(first, BYTE_TRITS)
            if start < LOW_TRITS:
                # The bit above the remainder tells an invalid byte; a remainder from 27 up does not occur.
                half, size = lows[byte], LOW_TRITS
                values = [value if value < LOW else 0 if value < 32 else LOW // 2 for value in range(64)]
            else:
                half, size, start = highs[byte], BYTE_TRITS - LOW_TRITS, start - LOW_TRITS
                values = [value if value < HIGH else HIGH // 2 for value in range(16)]
            count = min(size - start, end - first)
            values = [_trits(value, start, count) for value in values]
            if count not in (size, group):
                width = (3**count - 1).bit_length()
                half = _look_up(m, half, values, width, f"part{number}_{first}")
                values = [value if value < 3**count else 0 for value in range(1 << width)]
            weight = 3 ** (first - number * group)
            numbers = [high * weight + low for high in values for low in numbers]
            address = Cat(address, half)
            first += count
        return address, numbers


class TritDecoder(Component):
    """Turns transfers of dense bytes into blocks of group codes.

    A block of `groups` groups comes in ceil(groups / (5 * units)) transfers, in order, the first trit in the lowest
    digit of byte 0; what the last transfer holds beyond the block is dropped, and should be zero trits (byte 121).

    Cycle schedule: the codes of a transfer taken at t enter their place in the block at t + 1, where the block is
    offered if it was the last. A transfer is taken in every cycle, also in that in which a block leaves; it waits only
    while a whole block does.

    Parameters
    ----------
    code : GroupCode
    groups : int
        Groups in a block.
    units : int
        Units of `code.group` bytes in a transfer.

    Members
    -------
    dense : In(stream of bytes, units * code.group)
    blocks : Out(stream of codes, groups)
    fault : Out(1)
        A byte above 242 has come since reset; two cycles after its transfer. It was taken for five zero trits.
    """

    def __init__(self, code: GroupCode, groups: int, units: int) -> None:
        self.code, self.groups, self.units = code, groups, units
        super().__init__(
            {
                "dense": In(stream.Signature(data.ArrayLayout(8, units * code.group))),
                "blocks": Out(stream.Signature(data.ArrayLayout(code.width, groups))),
                "fault": Out(1),
            }
        )

    @property
    def transfers(self) -> int:
        """Transfers of a block."""
        return -(-self.groups // (BYTE_TRITS * self.units))

    def elaborate(self, platform: object) -> Module:
        """Build the units and the register of the block."""
        m = Module()
        transfers, lanes = self.transfers, BYTE_TRITS * self.units
        part = Signal(range(transfers))
        taken, last = Signal(), Signal()
        m.d.comb += [
            self.dense.ready.eq(~self.blocks.valid | self.blocks.ready),
            taken.eq(self.dense.valid & self.dense.ready),
            last.eq(part == transfers - 1),
        ]
        with m.If(taken):
            m.d.sync += [part.eq(part + 1), self.blocks.valid.eq(last)]
            if transfers > 1:
                with m.If(last):
                    m.d.sync += part.eq(0)
        with m.Elif(self.blocks.ready):
            m.d.sync += self.blocks.valid.eq(0)

        invalid = Signal(self.units)
        m.d.sync += self.fault.eq(self.fault | invalid.any())
        for number in range(self.units):
            m.submodules[f"unit{number}"] = unit = TritUnit(self.code)
            for byte in range(self.code.group):
                m.d.comb += unit.dense[byte].eq(self.dense.payload[number * self.code.group + byte])
            m.d.sync += invalid[number].eq(unit.invalid & taken)
            for lane in range(BYTE_TRITS):
                for place in range(transfers):
                    position = place * lanes + number * BYTE_TRITS + lane
                    if position < self.groups:
                        with m.If(taken & (part == place)):
                            m.d.sync += self.blocks.payload[position].eq(unit.codes[lane])
        return m
