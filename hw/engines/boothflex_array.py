"""The portable and FPGA array of BoothFlex; `hw.engines.dot` documents its ports.

In it, and in that of `hw.engines.boothflex_trees`, a lane has four digit rows. Row j multiplies digit j of the weight
with the lane's activation (int8), or a weight of its own with an activation of its own (ternary). The digits' products
are added over the lanes first, and each digit's sum is shifted once for all lanes:

    S_j = sum over lanes of digit j's products      total += (S_0 + s S_1) + t (S_2 + s S_3)

with s = 4, t = 16 in int8 mode and s = t = 1 in ternary mode.
"""

from typing import Any, Protocol

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hw.arith import lattice
from hw.arith.digits import DIGITS, OFFSET, digit_chain, digit_term
from hw.arith.pair_sum import PairSum
from hw.arith.pipeline import Delays
from hw.arith.signed_sum import signed_sum, sum_timing
from hw.arith.target import Target
from hw.engines.dot import DotConfig, array_members

__all__ = ["INT8", "PASSES", "SUMS_STAGES", "TERNARY", "FlexSums"]

INT8, TERNARY = 0, 1
"""Numbers of the modes."""

PASSES = (DIGITS, 1)
"""Passes over the vector memory by mode: in int8 mode a step takes a quarter of a word."""

SUMS_STAGES = 6
"""Cycles that `FlexSums` takes beyond its adder trees: memory, quarter, operands, products, two additions of digits."""


class _SumsConfig(DotConfig, Protocol):
    @property
    def lanes_in(self) -> int: ...


class FlexSums(Component):
    """Portable and FPGA array: a product is one addition, an adder tree for each digit, then the shifts.

    On ECP5 that addition is one carry chain without look-up tables in front, because all digits are -2 to 1 in both
    modes: in int8 mode bits 1, 3 and 5 of the weights are inverted, and 42 times the sum of the step's activations,
    made once for all rows, is what the first digit's sums start from.
    """

    def __init__(self, config: _SumsConfig) -> None:
        self.config = config
        super().__init__(array_members(config, PASSES))

    def elaborate(self, platform: object) -> Module:
        """Build the operands' registers, the marks and the rows."""
        m = Module()
        config = self.config
        lanes = config.lanes_in
        latency = sum_timing(lanes, Target(config.target), negatable=False).latency
        delay = Delays(m)
        # The first register of the activations is the memory's output register where the target has one.
        read, turn = Signal.like(self.step.activations, reset_less=True), Signal.like(self.step.turn)
        # With resets, so that no synthesiser makes look-up tables of them.
        taken, waiting = (Signal.like(self.weights, name=name) for name in ("taken", "waiting"))
        # A quarter is chosen in two cycles: between the first two and between the last two, then between the halves.
        first_quarter, third_quarter, early, late = (
            [Signal(signed(8), name=f"{name}_{lane}", reset_less=True) for lane in range(lanes)]
            for name in ("first_quarter", "third_quarter", "early", "late")
        )
        half = Signal()
        activations = [
            [Signal(signed(8), name=f"a{j}_{lane}", reset_less=True) for lane in range(lanes)] for j in range(DIGITS)
        ]
        valid, first, last, final, ternary = (
            Signal(name=name) for name in ("valid", "first", "last", "final", "ternary")
        )
        m.d.sync += [
            read.eq(self.step.activations), turn.eq(self.step.turn), taken.eq(self.weights), waiting.eq(taken),
            valid.eq(self.issue), final.eq(self.step.final), ternary.eq(self.step.mode == TERNARY),
            first.eq(self.issue & self.step.first), last.eq(self.issue & self.step.last),
        ]  # fmt: skip
        modes = [delay(ternary, stage) for stage in (1, 2)]
        low_modes, high_modes = (delay.spread(ternary, latency + stage, config.rows) for stage in (3, 4))
        m.d.sync += half.eq(turn[1])
        chosen: list[Value] = []
        for lane in range(lanes):
            one, two, three, four = (read[part * lanes + lane] for part in range(DIGITS))
            m.d.sync += [
                first_quarter[lane].eq(one), early[lane].eq(Mux(turn[0], one, two)),
                third_quarter[lane].eq(three), late[lane].eq(Mux(turn[0], three, four)),
            ]  # fmt: skip
            chosen.append(Mux(half, early[lane], late[lane]))
            # In ternary mode the turn is zero: then `early` is the second quarter, and `late` the fourth.
            m.d.sync += [
                activations[0][lane].eq(Mux(modes[0], first_quarter[lane], chosen[lane])),
                activations[1][lane].eq(Mux(modes[0] | half, early[lane], late[lane])),
                activations[2][lane].eq(Mux(modes[0], third_quarter[lane], chosen[lane])),
                activations[3][lane].eq(chosen[lane]),
            ]
        m.d.comb += [
            self.ready.eq(1),
            self.done.eq(delay(last, latency + SUMS_STAGES)),
            self.final.eq(delay(final, latency + SUMS_STAGES)),
        ]
        clear, update = (delay.spread(mark, latency + SUMS_STAGES - 1, config.rows) for mark in (first, valid))
        native = config.target == Target.ECP5.value
        offset = self._offset(m, chosen, delay(ternary, latency + 1)) if native else Const(0, 1)
        for row in range(config.rows):
            m.submodules[f"row{row}"] = built = _SumRow(config, len(offset))
            m.d.comb += [
                *(built.weights[lane].eq(waiting[row * lanes + lane]) for lane in range(lanes)),
                built.operand_mode.eq(modes[0]),
                *(
                    built.activations[digit * lanes + lane].eq(activations[digit][lane])
                    for digit in range(DIGITS)
                    for lane in range(lanes)
                ),
                built.product_mode.eq(modes[1]),
                built.low_mode.eq(low_modes[row]),
                built.high_mode.eq(high_modes[row]),
                built.offset.eq(offset),
                built.clear.eq(clear[row]),
                built.update.eq(update[row]),
                self.values[row].eq(built.total),
            ]
        return m

    def _offset(self, m: Module, activations: list[Value], ternary: Value) -> Signal:
        """Build OFFSET times the sum of a step's activations, zero in ternary mode; return its register.

        It is registered once for each level of the tree, and twice for 21 = 16 + 4 + 1.
        """
        nodes = activations
        while len(nodes) > 1:
            level: list[Value] = [
                Signal(signed(len(nodes[0]) + 1), name=f"level{len(nodes)}_{place}", reset_less=True)
                for place in range(0, len(nodes), 2)
            ]
            for place, node in enumerate(level):
                m.d.sync += Value.cast(node).eq(sum(nodes[2 * place + 1 : 2 * place + 2], nodes[2 * place]))
            nodes = level
        (whole,) = nodes
        later = Signal.like(whole, name="later_whole", reset_less=True)
        five = Signal(signed(len(whole) + 3), reset_less=True)
        offset = Signal(signed(len(whole) + OFFSET.bit_length()))
        m.d.sync += [later.eq(whole), five.eq(whole + (whole << 2)), offset.eq((five + (later << 4)) << 1)]
        with m.If(ternary):
            m.d.sync += offset.eq(0)
        return offset


class _SumRow(Component):
    """One output of `FlexSums`: weight registers, products, a tree for each digit, shifts and accumulator."""

    MARKS = ("operand_mode", "product_mode", "low_mode", "high_mode", "clear", "update")
    """Whether the mode is ternary, at the stages that ask for it, and the accumulator's marks."""

    def __init__(self, config: _SumsConfig, offset: int) -> None:
        self.config = config
        self.native = config.target == Target.ECP5.value
        super().__init__(
            {
                "weights": In(data.ArrayLayout(8, config.lanes_in)),
                "activations": In(data.ArrayLayout(signed(8), DIGITS * config.lanes_in)),
                "offset": In(signed(offset)),
                **{name: In(1) for name in self.MARKS},
                "total": Out(signed(config.total_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the products and add them up."""
        m = Module()
        delay = Delays(m)
        weights = Signal.like(self.weights)  # with resets, so that no synthesiser makes look-up tables of them
        inverted = Cat(Const(0, 1), ~self.operand_mode).replicate(DIGITS - 1) if self.native else Const(0, 1)
        m.d.sync += [held.eq(code ^ inverted) for held, code in zip(weights, self.weights, strict=True)]
        sums = [self._digit(m, digit, weights, delay) for digit in range(DIGITS)]
        low = self._shifted(m, "low", sums[0], sums[1], 2, self.low_mode)
        high = self._shifted(m, "high", sums[2], sums[3], 2, self.low_mode)
        step = self._shifted(m, "step", low, high, 4, self.high_mode)
        total = Signal(signed(self.config.total_width), reset_less=True)
        with m.If(self.update):
            m.d.sync += total.eq(
                lattice.add_cleared(m, "total_chain", total, step, self.clear)
                if self.native
                else Mux(self.clear, 0, total) + step
            )
        m.d.comb += self.total.eq(total)
        return m

    def _digit(self, m: Module, digit: int, weights: Signal, delay: Delays) -> Value:
        """Build the products of a digit and their sum over the lanes."""
        config, target = self.config, Target(self.config.target)
        lanes = config.lanes_in
        most = (2 if self.native else 3) << (config.act_bits - 1)
        timing = sum_timing(lanes, target, negatable=False)
        width = (lanes * most).bit_length() + 1
        sum_: Any
        if self.native:
            starts = digit == 0
            width = max(width, len(self.offset)) + 1 if starts else width
            sum_ = PairSum(lanes, most, width, negatable=False, complemented=True, accumulates=starts)
            m.d.comb += sum_.addend.eq(self.offset if starts else 0)
        else:
            sum_ = signed_sum(lanes, most, width, target, negatable=False)
        m.submodules[f"sum{digit}"] = sum_
        # The high bit of a code is -2, but of a lower digit of a number it is 2.
        subtract: Value = Const(1, 1) if digit == DIGITS - 1 else self.product_mode
        for lane in range(lanes):
            code, activation = weights[lane][2 * digit : 2 * digit + 2], self.activations[digit * lanes + lane]
            product = Signal(signed(most.bit_length() + 1), name=f"product{digit}_{lane}", reset_less=True)
            if self.native:
                term = digit_chain(m, f"chain{digit}_{lane}", code, activation, negative=True)
            else:
                term = digit_term(code, activation, subtract)
            m.d.sync += product.eq(term)
            m.d.comb += sum_.words[lane].eq(delay(product, timing.delays[lane]))
        return sum_.total

    def _shifted(self, m: Module, name: str, low: Value, high: Value, shift: int, ternary: Value) -> Signal:
        """Build a register of low + high, high shifted in int8 mode."""
        total = Signal(signed(max(len(low), len(high) + shift) + 1), name=name, reset_less=True)
        if not self.native:
            m.d.sync += total.eq(low + Mux(ternary, high, high << shift))
            return total
        m.d.sync += total.eq(
            lattice.add_chosen(m, f"{name}_chain", low, high, Cat(Const(0, shift), high), ternary, len(total))
        )
        return total
