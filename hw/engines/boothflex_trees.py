"""The standard-cell array of BoothFlex, after the equation of `hw.engines.boothflex_array`."""

from typing import Protocol

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hw.arith.carry_save import Columns, Pace, accumulate, compress, pace
from hw.arith.digits import DIGITS, OFFSET, PRODUCT_BITS, Digit, digit_product
from hw.engines.boothflex_array import PASSES, TERNARY
from hw.engines.dot import DotConfig, array_members

__all__ = ["FlexRow", "FlexTrees"]


class _FlexConfig(DotConfig, Protocol):
    @property
    def lanes_in(self) -> int: ...

    @property
    def segment(self) -> int: ...

    @property
    def depth(self) -> int: ...


def _operands(config: _FlexConfig, activations: "data.View[data.ArrayLayout]", turn: Value) -> list[list[Value]]:
    """Return the quarters of a word, and last the quarter that a pass of int8 mode takes, each [lanes].

    A turn of zero chooses the last quarter.
    """
    lanes = config.lanes_in
    quarters = [[activations[part * lanes + lane] for lane in range(lanes)] for part in range(DIGITS)]
    chosen = [Array(quarters[DIGITS - 1 - number][lane] for number in range(DIGITS))[turn] for lane in range(lanes)]
    return [*quarters[:-1], chosen]


class FlexTrees(Component):
    """Standard-cell array: digits of the weights, a compressor tree for each digit, one accumulator a row.

    The cycle schedule is that of `hw.engines.baseline_array.BaselineTrees`.
    """

    def __init__(self, config: _FlexConfig) -> None:
        self.config = config
        super().__init__(array_members(config, PASSES))

    def elaborate(self, platform: object) -> Module:
        """Build the shared activations, their correction, the control and the rows."""
        m = Module()
        config = self.config
        lanes = config.lanes_in
        control = pace(
            m, self.enable, self.issue, Const(0), self.step.last,
            split=config.segment < config.total_width, preload=self.step.correct,
        )  # fmt: skip
        entered, added, final, ternary = (Signal(name=name) for name in ("entered", "added", "final", "ternary"))
        with m.If(self.issue):
            m.d.sync += [entered.eq(self.step.final), ternary.eq(self.step.mode == TERNARY)]
        with m.If(self.enable):
            m.d.sync += [added.eq(entered), final.eq(added)]
        m.d.comb += [self.ready.eq(control.ready), self.done.eq(control.done), self.final.eq(final)]

        take = self.issue & ~self.step.correct
        *own, chosen = _operands(config, self.step.activations, self.step.turn)
        activations = Signal(data.ArrayLayout(signed(8), DIGITS * lanes), reset_less=True)
        with m.If(take):
            for lane in range(lanes):
                for digit, quarter in enumerate(own):
                    m.d.sync += activations[digit * lanes + lane].eq(
                        Mux(self.step.mode == TERNARY, quarter[lane], chosen[lane])
                    )
                m.d.sync += activations[(DIGITS - 1) * lanes + lane].eq(chosen[lane])
        shared = self._correction(m, chosen, take, control.rows, ternary)
        for row in range(config.rows):
            m.submodules[f"row{row}"] = built = FlexRow(config, len(shared))
            m.d.comb += [
                built.take.eq(self.issue),
                *(built.weights[lane].eq(self.weights[row * lanes + lane]) for lane in range(lanes)),
                built.activations.eq(activations),
                built.ternary.eq(ternary),
                built.shared.eq(Cat(shared)),
                *(getattr(built, name).eq(getattr(control.rows, name)) for name in FlexRow.PACE),
                self.values[row].eq(built.total),
            ]
        return m

    def _correction(self, m: Module, words: list[Value], take: Value, control: Pace, ternary: Signal) -> list[Signal]:
        """Build OFFSET * (sum of a step's activations + 128 for each), zero in ternary mode; return its registers."""
        lanes = self.config.lanes_in
        columns = [[word[index] if index < 7 else ~word[index] for word in words] for index in range(8)]
        tree = compress(m, "offset", columns)
        rows = [Signal(len(tree), name=f"offset{number}", reset_less=True) for number in range(2)]
        with m.If(take):
            for number, row in enumerate(rows):
                m.d.sync += row.eq(Cat(*(column[number] if len(column) > number else Const(0, 1) for column in tree)))
        width = (OFFSET * lanes * 255).bit_length()
        shifted: list[list[Value]] = [[] for _ in range(width)]
        for place in (index for index in range(OFFSET.bit_length()) if OFFSET >> index & 1):
            for index in range(min(len(tree), width - place)):
                shifted[place + index] += [row[index] for row, _ in zip(rows, tree[index], strict=False)]
        pair = compress(m, "offsets", shifted)[:width]
        first = Cat(*(column[0] if column else Const(0, 1) for column in pair))
        second = Cat(*(column[1] if len(column) > 1 else Const(0, 1) for column in pair))
        registers = [Signal(name=f"offset_sum{index}", reset_less=True) for index in range(width)]
        with m.If(control.hold):
            m.d.sync += Cat(registers).eq(Mux(control.enter & ~ternary, first + second, 0))
        return registers


class FlexRow(Component):
    """One output: weight registers, products, trees, shifts and accumulator."""

    PACE = ("hold", "enter", "add", "clear", "settle", "load")
    """What a row sees of the array's `Pace`."""

    def __init__(self, config: _FlexConfig, shared: int) -> None:
        self.config = config
        lanes = config.lanes_in
        super().__init__(
            {
                "take": In(1),
                "weights": In(data.ArrayLayout(8, lanes)),
                "activations": In(data.ArrayLayout(signed(8), DIGITS * lanes)),
                "ternary": In(1),
                "shared": In(shared),
                **{name: In(1) for name in self.PACE},
                "total": Out(config.total_width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the products and add them up."""
        m = Module()
        config = self.config
        lanes = config.lanes_in
        weights = Signal.like(self.weights, reset_less=True)
        with m.If(self.take):
            m.d.sync += weights.eq(self.weights)
        sums: list[list[Value]] = [[] for _ in range(2 * DIGITS + PRODUCT_BITS + lanes.bit_length())]
        for index in range(DIGITS):
            columns: list[list[Value]] = [[] for _ in range(PRODUCT_BITS)]
            for lane in range(lanes):
                digit = Digit.decode(weights[lane][2 * index], weights[lane][2 * index + 1])
                word = self.activations[index * lanes + lane]
                for place, bit in enumerate(digit_product(m, f"product{lane}_{index}", digit, word)):
                    columns[place].append(bit)
            self.shift(sums, compress(m, f"digit{index}", columns), 2 * index)
        total = accumulate(
            m, "sum", sums, config.total_width, 0, config.segment,
            Pace(*(getattr(self, name) for name in self.PACE)),
            start=Value.cast(weights), shared=[[bit] for bit in self.shared], depth=config.depth,
        )  # fmt: skip
        m.d.comb += self.total.eq(total)
        return m

    def shift(self, sums: list[list[Value]], tree: Columns, shift: int) -> None:
        """Add a digit's sum to the columns: in its own place in ternary mode, higher by `shift` in int8 mode."""
        for column in range(len(tree) + shift):
            here = list(tree[column]) if column < len(tree) else []
            below = list(tree[column - shift]) if column >= shift else []
            for number in range(max(len(here), len(below))):
                if shift == 0:
                    sums[column].append(here[number])
                elif number >= len(below):
                    sums[column].append(here[number] & self.ternary)
                elif number >= len(here):
                    sums[column].append(below[number] & ~self.ternary)
                else:
                    sums[column].append(Mux(self.ternary, here[number], below[number]))
