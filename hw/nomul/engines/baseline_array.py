"""The arrays of the INT8 baseline; `nomul.engines.dot` documents their ports."""

from typing import Protocol

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.arith import lattice
from nomul.arith.carry_save import Pace, accumulate, compress, pace
from nomul.arith.digits import DIGITS, PRODUCT_BITS, Digit, digit_chain, digit_product, digit_term, number_digits
from nomul.arith.pipeline import Delays
from nomul.arith.signed_sum import signed_sum, sum_timing
from nomul.arith.target import Target
from nomul.engines.dot import DotConfig, array_members
from nomul.shared_module import SharedModule

__all__ = ["TREE_GAP", "TREE_LATENCY", "BaselineSums", "BaselineTrees"]

TREE_LATENCY = 3
"""Cycles from a block's last step to its results in `BaselineTrees`, without the one for a second segment."""

TREE_GAP = 1
"""Cycles after a block's last step in which `BaselineTrees` takes none, without the one for a second segment."""


LINES = 3
"""Registered lines of a digit: +1, -1, -2."""


class _BaselineConfig(DotConfig, Protocol):
    @property
    def segment(self) -> int: ...

    @property
    def depth(self) -> int: ...

    @property
    def product(self) -> str: ...

    @property
    def product_stages(self) -> int: ...


class BaselineSums(Component):
    """Portable and FPGA array: rows of products as the synthesiser makes them, and adder trees that accumulate."""

    def __init__(self, config: _BaselineConfig) -> None:
        self.config = config
        super().__init__(array_members(config))

    def elaborate(self, platform: object) -> Module:
        """Build the activations' registers, the marks and the rows."""
        m = Module()
        config = self.config
        lanes = config.activation_lanes
        delay = Delays(m)
        # The first register of the activations is the memory's output register where the target has one.
        read, activations = (Signal.like(self.step.activations, reset_less=True) for _ in range(2))
        valid, first, last, final = (Signal(name=name) for name in ("valid", "first", "last", "final"))
        m.d.sync += [
            read.eq(self.step.activations), activations.eq(read),
            valid.eq(self.issue), final.eq(self.step.final),
            first.eq(self.issue & self.step.first), last.eq(self.issue & self.step.last),
        ]  # fmt: skip
        stages = sum_timing(lanes, _form(config), negatable=False).latency + config.product_stages + 1
        m.d.comb += [self.ready.eq(1), self.done.eq(delay(last, stages)), self.final.eq(delay(final, stages))]
        clear, update = (delay.spread(mark, stages - 1, config.rows) for mark in (first, valid))
        for row in range(config.rows):
            m.submodules[f"row{row}"] = built = _SumRow(config)
            m.d.comb += [
                *(built.weights[lane].eq(self.weights[row * lanes + lane]) for lane in range(lanes)),
                built.activations.eq(activations),
                built.clear.eq(clear[row]),
                built.update.eq(update[row]),
                self.values[row].eq(built.total),
            ]
        return m


def _form(config: _BaselineConfig) -> Target:
    return Target.ECP5 if config.target == Target.ECP5.value else Target.PORTABLE


class _SumRow(SharedModule):
    """One output: weight registers, products and their sum."""

    def __init__(self, config: _BaselineConfig) -> None:
        self.config = config
        operands = data.ArrayLayout(signed(config.act_bits), config.activation_lanes)
        super().__init__(
            {
                "weights": In(operands),
                "activations": In(operands),
                "clear": In(1),
                "update": In(1),
                "total": Out(signed(config.total_width)),
            }
        )

    def build(self, platform: object) -> Module:
        """Build the products and add them up."""
        m = Module()
        config = self.config
        most = 1 << (2 * config.act_bits - 2)
        # With resets, so that no synthesiser makes look-up tables of them.
        taken, weights = (Signal.like(self.weights, name=name) for name in ("taken", "weights"))
        m.d.sync += [taken.eq(self.weights), weights.eq(taken)]
        m.submodules.sum = sum_ = signed_sum(
            config.activation_lanes, most, config.total_width, _form(config), negatable=False, clearable=True
        )
        m.d.comb += [
            *(
                word.eq(self._product(m, str(lane), self.activations[lane], weights[lane]))
                for lane, word in enumerate(sum_.words)
            ),
            sum_.addend.eq(sum_.total),
            sum_.clear.eq(self.clear),
            sum_.update.eq(self.update),
            self.total.eq(sum_.total),
        ]
        return m

    def _product(self, m: Module, name: str, activation: Value, weight: Value) -> Signal:
        """Build a product's registers: of its digits and of their sums, or of the whole alone."""
        if self.config.product == "whole":
            product = Signal(signed(16), name=f"product{name}", reset_less=True)
            m.d.sync += product.eq(activation * weight)
            return product
        native, top = self.config.target == Target.ECP5.value, DIGITS - 1
        terms: list[Value] = []
        for index in range(DIGITS):
            term = Signal(signed(10), name=f"digit{name}_{index}", reset_less=True)
            code, negative = weight[2 * index : 2 * index + 2], index == top
            m.d.sync += term.eq(
                digit_chain(m, f"chain{name}_{index}", code, activation, negative=negative)
                if native
                else digit_term(code, activation, Const(int(negative), 1))
            )
            terms.append(term)
        # The native form of the highest digit's term is its complement.
        low, high = (Signal(signed(12), name=f"{half}{name}", reset_less=True) for half in ("low", "high"))
        product = Signal(signed(16), name=f"product{name}", reset_less=True)
        m.d.sync += [
            low.eq(terms[0] + (terms[1] << 2)),
            high.eq(
                self._add_complement(m, f"pair{name}", terms[2], terms[3], 2) if native else terms[2] + (terms[3] << 2)
            ),
            product.eq(low + (high << 4)),
        ]
        return product

    @staticmethod
    def _add_complement(m: Module, name: str, low: Value, high: Value, shift: int) -> Value:
        """Return low + (~high << shift) on an ECP5's carry chain."""
        zero, one = Const(0, 1), Const(1, 1)
        return Cat(low[:shift], lattice.add(m, name, low[shift:], zero, high, one, zero, len(high))).as_signed()


class BaselineTrees(Component):
    """Standard-cell array: digits of the activations, compressor trees of full adders, accumulators in two segments.

    The cycle schedule is that of `nomul.arith.carry_save`, the operands' registers being one cycle more. A block's
    first step is a preload, which enters the accumulators three cycles sooner than a step's sum.
    """

    def __init__(self, config: _BaselineConfig) -> None:
        self.config = config
        super().__init__(array_members(config))

    def elaborate(self, platform: object) -> Module:
        """Build the shared digits, their correction, the control and the rows."""
        m = Module()
        config = self.config
        lanes = config.activation_lanes
        split = config.segment < config.total_width
        control = pace(m, self.enable, self.issue, Const(0), self.step.last, split=split, preload=self.step.correct)
        entered, added, final = (Signal(name=name) for name in ("entered", "added", "final"))
        with m.If(self.issue):
            m.d.sync += entered.eq(self.step.final)
        with m.If(self.enable):
            m.d.sync += [added.eq(entered), final.eq(added)]
        m.d.comb += [self.ready.eq(control.ready), self.done.eq(control.done), self.final.eq(final)]

        # The lines are registered, not the activations: the digits' decoders stay out of the longest path.
        lines = Signal(data.ArrayLayout(LINES, lanes * DIGITS), reset_less=True)
        take = self.issue & ~self.step.correct
        columns: list[list[Value]] = [[] for _ in range(2 * DIGITS)]
        for lane in range(lanes):
            for index, (low, high) in enumerate(number_digits(self.step.activations[lane])):
                digit = Digit.decode(low, high)
                with m.If(take):
                    m.d.sync += lines[lane * DIGITS + index].eq(Cat(digit.plus, digit.minus, digit.twice))
                columns[2 * index].append(~digit.plus)
        shared = self._correction(m, columns, take, control.rows)
        for row in range(config.rows):
            m.submodules[f"row{row}"] = built = _TreeRow(config, len(shared))
            m.d.comb += [
                built.take.eq(self.issue),
                *(built.weights[lane].eq(self.weights[row * lanes + lane]) for lane in range(lanes)),
                built.lines.eq(lines),
                built.shared.eq(Cat(shared)),
                *(getattr(built, name).eq(getattr(control.rows, name)) for name in _TreeRow.PACE),
                self.values[row].eq(built.total),
            ]
        return m

    def _correction(self, m: Module, columns: list[list[Value]], take: Value, control: Pace) -> list[Signal]:
        """Build the sum of what a step's products are too small by, the same for all rows; return its registers."""
        tree = compress(m, "short", columns)
        first, second = Signal(len(tree), reset_less=True), Signal(len(tree), reset_less=True)
        with m.If(take):
            m.d.sync += [
                first.eq(Cat(*(column[0] for column in tree))),
                second.eq(Cat(*(column[1] if len(column) > 1 else Const(0, 1) for column in tree))),
            ]
        width = (self.config.activation_lanes * ((1 << 2 * DIGITS) - 1) // 3).bit_length()
        registers = [Signal(name=f"short{index}", reset_less=True) for index in range(width)]
        with m.If(control.hold):
            m.d.sync += Cat(registers).eq(Mux(control.enter, first + second, 0))
        return registers


class _TreeRow(SharedModule):
    """One output: weight registers, products, tree and accumulator."""

    PACE = ("hold", "enter", "add", "clear", "settle", "load")
    """What a row sees of the array's `Pace`."""

    def __init__(self, config: _BaselineConfig, shared: int) -> None:
        self.config = config
        lanes = config.activation_lanes
        super().__init__(
            {
                "take": In(1),
                "weights": In(data.ArrayLayout(config.act_bits, lanes)),
                "lines": In(data.ArrayLayout(LINES, lanes * DIGITS)),
                "shared": In(shared),
                **{name: In(1) for name in self.PACE},
                "total": Out(config.total_width),
            }
        )

    def build(self, platform: object) -> Module:
        """Build the products and add them up."""
        m = Module()
        config = self.config
        weights = Signal.like(self.weights, reset_less=True)
        with m.If(self.take):
            m.d.sync += weights.eq(self.weights)
        columns: list[list[Value]] = [[] for _ in range(2 * DIGITS + PRODUCT_BITS - 2)]
        for lane in range(config.activation_lanes):
            for index in range(DIGITS):
                plus, minus, twice = self.lines[lane * DIGITS + index]
                digit = Digit(plus, minus, twice, minus | twice)
                for place, bit in enumerate(digit_product(m, f"product{lane}_{index}", digit, weights[lane])):
                    columns[2 * index + place].append(bit)
        total = accumulate(
            m, "sum", columns, config.total_width, 0, config.segment,
            Pace(*(getattr(self, name) for name in self.PACE)),
            start=Value.cast(weights), shared=[[bit] for bit in self.shared], depth=config.depth,
        )  # fmt: skip
        m.d.comb += self.total.eq(total)
        return m
