"""The standard-cell array of BWTA; `hw.engines.dot` documents its ports, `hw.engines.bwta` what it counts."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hw.arith.cells import and_or_invert22
from hw.arith.skewed_count import SkewedPace, accumulate_count
from hw.engines.bwta_array import BwtaArrayConfig
from hw.engines.dot import array_members

__all__ = ["TREES_LATENCY", "BwtaTrees", "dithered", "planes"]

TREES_LATENCY = 3
"""Cycles from a block's last step to its results."""


def planes(m: Module, activations: Any, keep: Sequence[Value], beat: Value, end: Value) -> tuple[Any, Value]:
    """Store P in bit 0 and N in bit 1, both zero beyond the vector: a `hw.engines.block_schedule.Trim`."""
    stored = Signal.like(activations, name="planes")
    for lane, count in enumerate(keep):
        mask, sign = activations[lane][0], activations[lane][1]
        m.d.comb += stored[lane].eq(Cat(count & mask & ~sign, count & mask & sign))
    return stored, Const(0, 1)


def dithered(m: Module, activations: Any, keep: Sequence[Value], beat: Value, end: Value) -> tuple[Any, Value]:
    """Store what an activation disagrees with: -1 in bit 0, 1 in bit 1.

    Of the zeros of a vector, those beyond it included, the first disagrees with both, the second with neither, and so
    on. The note is whether their number is odd. A `hw.engines.block_schedule.Trim`.
    """
    stored = Signal.like(activations, name="dithered")
    parity = Signal()
    zeros = [~(count & activations[lane][0]) for lane, count in enumerate(keep)]
    before, odd = _prefix_parity(m, zeros, parity)
    with m.If(beat):
        m.d.sync += parity.eq(odd & ~end)
    for lane, zero in enumerate(zeros):
        sign = activations[lane][1]
        both = ~before[lane]
        m.d.comb += stored[lane].eq(Cat(Mux(zero, both, ~sign), Mux(zero, both, sign)))
    return stored, odd


def _prefix_parity(m: Module, bits: Sequence[Value], before: Value, level: int = 0) -> tuple[list[Value], Value]:
    """Return, for each bit, the parity of `before` and the bits before it, and the parity of all.

    A tree of two exclusive ors a bit (Brent and Kung, 1982, "A regular layout for parallel adders").
    """
    if len(bits) == 1:
        return [before], before ^ bits[0]
    pairs: list[Value] = []
    for number in range(0, len(bits), 2):
        pair = Signal(name=f"parity{level}_{number}")
        m.d.comb += pair.eq(bits[number] ^ bits[number + 1] if number + 1 < len(bits) else bits[number])
        pairs.append(pair)
    outer, total = _prefix_parity(m, pairs, before, level + 1)
    inner: list[Value] = []
    for number, bit in enumerate(bits):
        place = Signal(name=f"before{level}_{number}")
        m.d.comb += place.eq(outer[number // 2] ^ bits[number - 1] if number % 2 else outer[number // 2])
        inner.append(place)
    return inner, total


class BwtaTrees(Component):
    """AOI22 products, trees of full adders that take the accumulators' bits too (`hw.arith.skewed_count`).

    Cycle schedule: a step taken at t is in registers in t + 1, where the low columns add it; the high ones do in t + 2,
    and a block's results are `done` in t + 3. No step has to wait.
    """

    def __init__(self, config: BwtaArrayConfig) -> None:
        self.config = config
        self.mask = config.counting == "mask"
        self.trim = dithered if self.mask else planes
        super().__init__(array_members(config, self.trim))

    def elaborate(self, platform: object) -> Module:
        """Build the shared activations, the control and the rows."""
        m = Module()
        config = self.config
        lanes = config.activation_lanes
        activations = Signal.like(self.step.activations, reset_less=True)
        enter, add, done, first, keep_low, keep_high = (
            Signal(name=name) for name in ("enter", "add", "done", "first", "keep_low", "keep_high")
        )
        last = Signal(2)
        about = [
            Signal(
                data.StructLayout({"final": 1, "note": 1, "rows": self.step.rows.shape()}),
                name=f"about{i}",
                reset_less=True,
            )
            for i in range(3)
        ]
        beats = [Signal.like(self.step.beats, name=f"beats{i}", reset_less=True) for i in range(2)]
        with m.If(self.enable):
            m.d.sync += [
                enter.eq(self.issue),
                add.eq(enter),
                last.eq(Cat(self.issue & self.step.last, last[0])),
                done.eq(last[1]),
            ]
        with m.If(self.issue):
            m.d.sync += [
                activations.eq(self.step.activations),
                keep_low.eq(~self.step.first),
                beats[0].eq(self.step.beats),
                about[0].final.eq(self.step.final),
                about[0].note.eq(self.step.note),
                about[0].rows.eq(self.step.rows),
            ]
        moves_low, moves_high = Signal(), Signal()
        m.d.comb += [moves_low.eq(self.enable & enter), moves_high.eq(self.enable & add)]
        with m.If(moves_low):
            m.d.sync += [keep_high.eq(keep_low), beats[1].eq(beats[0]), about[1].eq(about[0])]
        with m.If(moves_high):
            m.d.sync += about[2].eq(about[1])
        m.d.comb += [self.ready.eq(self.enable), self.done.eq(done), self.final.eq(about[2].final)]

        width = config.total_width - self.mask
        cut = min(config.cut, width - 1)
        start = (self._start(m, 0, beats[0], ~keep_low, width), self._start(m, 1, beats[1], ~keep_high, width))
        for row in range(config.rows):
            m.submodules[f"row{row}"] = built = _Row(config, width, cut)
            m.d.comb += [
                built.load.eq(self.issue),
                *(built.weights[lane].eq(self.weights[row * lanes + lane]) for lane in range(lanes)),
                built.activations.eq(activations),
                built.enter.eq(moves_low),
                built.add.eq(moves_high),
                built.keep_low.eq(keep_low),
                built.keep_high.eq(keep_high),
                built.start.eq(Cat(start[0][:cut], start[1][cut:])),
            ]
            value: Value = Cat(about[2].note, built.total) if self.mask else built.total
            if row and config.weight_bits == 1:
                exists = Signal(name=f"exists{row}")
                m.d.comb += exists.eq(~about[2].final | (about[2].rows >= row))
                value = value & exists.replicate(config.total_width)
            m.d.comb += self.values[row].eq(value)
        return m

    def _start(self, m: Module, number: int, beats: Signal, clear: Value, width: int) -> Signal:
        """Return what a block's counts start from: less what the lanes of all steps would count for a result of zero."""
        each = self.config.activation_lanes >> self.mask
        shift = (each & -each).bit_length() - 1
        start = Signal(width, name=f"start{number}")
        factor = each >> shift
        # -(beats + 1) is ~beats.
        inverse = (
            Cat(~beats, Const(1, 1).replicate(max(1, width - shift - len(beats)))) if len(beats) else Const(-1, width)
        )
        product: Value = Const(0, 1)
        for place in range(factor.bit_length()):
            if factor >> place & 1:
                product = inverse if factor == 1 else product + (inverse << place)
        m.d.comb += start.eq(Cat(Const(0, shift), product[: max(0, width - shift)]) & clear.replicate(width))
        return start


class _Row(Component):
    """One output: weight registers, products, tree and accumulator."""

    def __init__(self, config: BwtaArrayConfig, width: int, cut: int) -> None:
        self.config, self.width, self.cut = config, width, cut
        lanes = config.activation_lanes
        super().__init__(
            {
                "load": In(1),
                "weights": In(data.ArrayLayout(config.weight_bits, lanes)),
                "activations": In(data.ArrayLayout(2, lanes)),
                "enter": In(1), "add": In(1), "keep_low": In(1), "keep_high": In(1),
                "start": In(width),
                "total": Out(width),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        """Build the products and count them."""
        m = Module()
        config = self.config
        mask = config.counting == "mask"
        weights = Signal.like(self.weights, reset_less=True)
        with m.If(self.load):
            m.d.sync += weights.eq(self.weights)
        bits: list[Value] = []
        for lane in range(config.activation_lanes):
            low, high = self.activations[lane][0], self.activations[lane][1]
            minus = weights[lane][-1]
            plus = ~minus if config.weight_bits == 1 else weights[lane][0]
            if mask:
                bits.append(and_or_invert22(m, f"agree{lane}", minus, high, plus, low))
            else:
                bits.append(and_or_invert22(m, f"least{lane}", minus, low, plus, high))
                bits.append(~and_or_invert22(m, f"above{lane}", plus, low, minus, high))
        each = config.activation_lanes >> mask
        zeros = (each & -each).bit_length() - 1
        start = [None if index < zeros else self.start[index] for index in range(self.width)]
        pace = SkewedPace(self.enter, self.add, self.keep_low, self.keep_high, start[: self.cut], start[self.cut :])
        m.d.comb += self.total.eq(accumulate_count(m, "count", bits, self.width, pace))
        return m
