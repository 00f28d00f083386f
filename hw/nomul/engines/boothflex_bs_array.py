"""The array of BoothFlex-BS: one digit of each weight in a cycle; `nomul.engines.dot` documents its ports."""

from amaranth.hdl import Array, Const, Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component

from nomul.arith.digits import digit_term
from nomul.arith.pipeline import Delays
from nomul.arith.signed_sum import signed_sum, sum_timing
from nomul.arith.target import Target
from nomul.engines.dot import DotConfig, array_members

__all__ = ["DIGITS_OF_MODE", "STAGES", "SerialSums"]

DIGITS_OF_MODE = (1, 1, 2, 3, 4)
"""Digits of a weight, and passes over the vector memory: ternary, int2, int4, int6, int8."""

STAGES = 2
"""Cycles that the array takes beyond its adder tree: operands and products."""


class SerialSums(Component):
    """Adder trees of products of digits, and accumulators that go from digit to digit by Horner's rule.

    A block walks the vector once for each digit, the highest first. With the first step of each later pass the
    accumulators are multiplied by four. The highest digit of a number is -2 to 1, the others are 0 to 3.
    """

    def __init__(self, config: DotConfig) -> None:
        self.config = config
        super().__init__(array_members(config, DIGITS_OF_MODE))

    def elaborate(self, platform: object) -> Module:
        """Build the operand registers, the products and the sums."""
        m = Module()
        config, target = self.config, Target(self.config.target)
        lanes, most = config.activation_lanes, 3 << (config.act_bits - 1)
        timing = sum_timing(lanes, target, negatable=False)
        delay = Delays(m)
        activations = Signal.like(self.step.activations, reset_less=True)
        weights = Signal(data.ArrayLayout(2, lanes * config.rows), reset_less=True)
        highest = Signal()
        valid, first, again, last, final = (Signal(name=name) for name in ("valid", "first", "again", "last", "final"))
        turns = Array(Const(digits - 1, self.step.turn.shape()) for digits in DIGITS_OF_MODE)
        m.d.sync += [
            activations.eq(self.step.activations), weights.eq(self.weights), final.eq(self.step.final),
            valid.eq(self.issue), first.eq(self.issue & self.step.first), again.eq(self.issue & self.step.again),
            last.eq(self.issue & self.step.last), highest.eq(self.step.turn == turns[self.step.mode]),
        ]  # fmt: skip
        m.d.comb += [
            self.ready.eq(1),
            self.done.eq(delay(last, timing.latency + STAGES - 1)),
            self.final.eq(delay(final, timing.latency + STAGES - 1)),
        ]
        clear, higher, update = (delay(mark, timing.latency) for mark in (first, again, valid))
        for row in range(config.rows):
            m.submodules[f"row{row}"] = sum_ = signed_sum(lanes, most, config.total_width, target, negatable=False)
            for lane in range(lanes):
                product = Signal(signed(most.bit_length() + 1), name=f"product{row}_{lane}", reset_less=True)
                m.d.sync += product.eq(digit_term(weights[row * lanes + lane], activations[lane], highest))
                m.d.comb += sum_.words[lane].eq(delay(product, timing.delays[lane]))
            addend = Signal(signed(config.total_width), name=f"addend{row}")
            with m.If(higher):
                m.d.comb += addend.eq(sum_.total << 2)
            with m.Elif(~clear):
                m.d.comb += addend.eq(sum_.total)
            m.d.comb += [sum_.addend.eq(addend), sum_.update.eq(update), self.values[row].eq(sum_.total)]
        return m
