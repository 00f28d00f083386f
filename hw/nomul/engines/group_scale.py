"""The scale unit of group-wise engines: dequantises the sums of groups, one row in each step.

    total[r] = sum over groups g of scale[r, g] * (S[r, g] - (zero[r, g] - offset) * A[g] + correction[r, g])

S is a row's group sum, A the sum of the group's activations. While the rows work on the next group, one unit takes the
sums of `turn` rows, one in each step, with the entry of its group that the weight stream brings in that step. So a pass
over a group must have `turn` steps or more, and one adder tree serves all rows.

The first row's sum is taken from its accumulator at once; the others wait in registers. The totals of all passes
stand in a ring that turns by one place for each row: one of its places is the adder's own register, in carry-save
form but for AMD parts.

An entry, from its lowest bit: `zero`, as unsigned as the codes; `scale` + 2 * (1 + 4 + 16 + ...), which makes each of
its pairs of bits a digit -2, -1, 0, 1 as it is; and `correction`, unsigned, if the array wants one.
"""

from typing import Protocol

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.column_sum import add_columns, add_constant, two_rows
from nomul.arith.digit_sum import add_digits, scaled_sum
from nomul.arith.recoding import Digit, Recoding, digit_lines, digit_product, negative, recoding
from nomul.arith.target import AMD, Target

__all__ = ["GroupScale", "ScaleConfig", "entry_layout", "product_offset", "scale_digits", "zero_constant"]


class ScaleConfig(Protocol):
    """What a scale unit asks of its configuration."""

    @property
    def turn(self) -> int:
        """Rows of which a unit takes the sums, one in each step."""

    @property
    def fold(self) -> int:
        """Passes over a group, each for other rows."""

    @property
    def scale_bits(self) -> int:
        """Width of a scale, unsigned."""

    @property
    def correction_bits(self) -> int:
        """Width of a correction; 0 is none."""

    @property
    def weight_recoding(self) -> Recoding:
        """Of codes, and of zero points."""

    @property
    def group_width(self) -> int:
        """Width of a group's sum of weights, less zero point, times activations."""

    @property
    def sum_width(self) -> int:
        """Width of a group's sum of activations."""

    @property
    def total_width(self) -> int:
        """Width of a total."""

    @property
    def trees(self) -> bool:
        """Whether adders are explicit cells."""

    @property
    def code_bits(self) -> int:
        """Width of a zero point."""

    @property
    def low_columns(self) -> int:
        """Lowest bits of a row's sum that are one step ahead of the others."""

    @property
    def target(self) -> str:
        """Technology whose arithmetic forms are used."""


def scale_digits(bits: int) -> Recoding:
    """Return the digits of scale + offset for scales of `bits` bits; the last digit is 0 or 1."""
    pairs = recoding("digits", bits + bits % 2)
    top = bits + bits % 2
    return Recoding((*pairs.digits, Digit(top, top, (0, 1))), pairs.offset)


def entry_layout(config: ScaleConfig) -> data.StructLayout:
    """Return the layout of an entry."""
    scale = config.scale_bits + config.scale_bits % 2 + 1
    return data.StructLayout({"zero": config.code_bits, "scale": scale, "correction": config.correction_bits})


def product_offset(digit: Digit, width: int) -> int:
    """Return by how much `digit_product` of a word of `width` bits is too large."""
    return 1 << (digit.shift + width + digit.extra - 1)


def zero_constant(config: ScaleConfig) -> int:
    """Return what a row's sum must hold besides, or the unit add, for the zero point's product to be right."""
    return -sum(product_offset(digit, config.sum_width) for digit in config.weight_recoding.digits)


class GroupScale(Component):
    """The unit of `turn` rows; every register moves with the domain's clock.

    Cycle schedule: in the cycle in which `take` and `pick[0]` are high, `sums` are those of a group, but for the
    `low_columns`, which are so one cycle before, with `take_low`; and `entry` is that of row 0. `pick[1]` is high in
    the next cycle, with the entry of row 1, and so on. The total of row `turn` - 1 is whole two cycles after its pick.

    Parameters
    ----------
    config : ScaleConfig

    Members
    -------
    sums : In(group_width).array(turn)
        Group sums, modulo 2^group_width.
    take_low, take : In(1)
    pick : In(turn)
        One bit at most.
    begin : In(1)
        The group is its block's first. One cycle after a row's pick.
    sum : In(signed(sum_width))
        The sum of the group's activations.
    entry : In(entry_layout)
    totals : Out(signed(total_width)).array(fold * turn)
        Pass by pass.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        super().__init__(
            {
                "sums": In(config.group_width).array(config.turn),
                "take_low": In(1),
                "take": In(1),
                "pick": In(config.turn),
                "begin": In(1),
                "sum": In(signed(config.sum_width)),
                "entry": In(entry_layout(config)),
                "totals": Out(signed(config.total_width)).array(config.fold * config.turn),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the waiting sums, the two multiplications by digits, and the ring."""
        m = Module()
        config = self.config
        group = Signal(signed(config.group_width), reset_less=True)
        busy = Signal()
        scale = Signal.like(self.entry.scale, reset_less=True)
        value = self._group(m)
        m.d.sync += busy.eq(self.pick.any())
        with m.If(self.pick.any()):
            m.d.sync += [group.eq(value), scale.eq(self.entry.scale)]

        width = config.total_width
        places = config.fold * config.turn - 1
        ring = [Signal(width, name=f"total{place}", reset_less=True) for place in range(places)]
        last = Signal(width)
        oldest = (ring or [last])[0]
        rows = [Signal(width, name=name, reset_less=True) for name in ("last_sum", "last_carry")]
        target = Target(config.target)
        if target in AMD:
            rows = rows[:1]
            sums = [scaled_sum(m, "scaled", target, oldest, self.begin, scale, group)]
        else:
            sums = self._scaled(m, oldest, scale, group)
        m.d.comb += last.eq(sum(rows[1:], rows[0]))
        with m.If(busy):
            m.d.sync += [
                *(place.eq(source) for place, source in zip(ring, [*ring[1:], last], strict=False)),
                *(row.eq(bits) for row, bits in zip(rows, sums, strict=True)),
            ]
        m.d.comb += [total.eq(place) for total, place in zip(self.totals, [*ring, last], strict=True)]
        return m

    def _scaled(self, m: Module, oldest: Value, scale: Value, group: Value) -> list[Value]:
        """Return two numbers whose sum is the next total."""
        config, width = self.config, self.config.total_width
        columns: list[list[Value]] = [[] for _ in range(width)]
        constant = 0
        for digit in scale_digits(config.scale_bits).digits:
            self._multiply(m, f"scaled{digit.shift}", columns, digit, scale, group, exact=True)
            constant -= product_offset(digit, config.group_width)
        add_constant(columns, constant)
        for index in range(width):
            columns[index].append(oldest[index] & ~self.begin)
        return list(two_rows(m, "scaled", columns, width, cells=config.trees))

    def _group(self, m: Module) -> Value:
        """Return the picked row's group sum, less its zero points."""
        config, cut = self.config, self.config.low_columns
        choice: Value = Const(0, config.group_width)
        for row, live in enumerate(self.sums):
            low = Signal(cut, name=f"low{row}", reset_less=True)
            with m.If(self.take_low):
                m.d.sync += low.eq(live[:cut])
            high: Value = live[cut:]
            if row:
                high = Signal(len(high), name=f"waiting{row}", reset_less=True)
                with m.If(self.take):
                    m.d.sync += high.eq(live[cut:])
            choice = choice | Cat(low, high) & self.pick[row].replicate(config.group_width)
        picked = Signal(config.group_width)
        m.d.comb += picked.eq(choice)
        if Target(config.target) in AMD:
            digits = [digit.negated() for digit in config.weight_recoding.digits]
            return add_digits(m, "zero", Target(config.target), picked, digits, self.entry.zero, self.sum)
        columns: list[list[Value]] = [[bit] for bit in picked]
        exact = not config.correction_bits
        for digit in config.weight_recoding.digits:
            self._multiply(m, f"zero{digit.shift}", columns, digit.negated(), self.entry.zero, self.sum, exact=exact)
        for bit, column in zip(self.entry.correction, columns, strict=False):
            column.append(bit)
        if exact:
            add_constant(columns, zero_constant(config))
        return add_columns(m, "group", columns, config.group_width, cells=config.trees)

    def _multiply(
        self, m: Module, name: str, columns: list[list[Value]], digit: Digit, code: Value, word: Value, *, exact: bool
    ) -> None:
        """Add a digit times a word and `product_offset` to columns; without `exact` less one if it is negative."""
        lines = digit_lines(digit, code)
        bits = digit_product(m, name, lines, word, digit.extra, cells=self.config.trees)
        for index, bit in enumerate(bits, digit.shift):
            if index < len(columns):
                columns[index].append(bit)
        if exact and digit.shift < len(columns):
            columns[digit.shift].append(negative(lines))
