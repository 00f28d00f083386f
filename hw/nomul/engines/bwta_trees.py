"""The standard-cell array of BWTA; `nomul.engines.dot` documents its ports, `nomul.engines.bwta` what it counts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.cells import and_or_invert22
from nomul.arith.skewed_count import SkewedPace, accumulate_count
from nomul.engines.block_schedule import Trim
from nomul.engines.bwta_array import BwtaArrayConfig
from nomul.engines.dot import array_members
from nomul.shared_module import SharedModule

__all__ = ["PLANES", "TREES_LATENCY", "BwtaTrees", "dithered"]

STRAND = 16
"""Most lanes of a strand of zeros; each has its own count of odd and even ones, so that the path stays short."""


def _strands(lanes: int) -> int:
    return max(4, -(-lanes // STRAND))


TREES_LATENCY = 3
"""Cycles from a block's last step to its results."""


def _planes(m: Module, activations: Any, keep: Sequence[Value], beat: Value, end: Value) -> tuple[Any, Value]:
    """Store P in bit 0 and N in bit 1, both zero beyond the vector."""
    stored = Signal.like(activations, name="planes")
    for lane, count in enumerate(keep):
        mask, sign = activations[lane][0], activations[lane][1]
        m.d.comb += stored[lane].eq(Cat(count & mask & ~sign, count & mask & sign))
    return stored, Const(0, 0)


def _dithered(m: Module, activations: Any, keep: Sequence[Value], beat: Value, end: Value) -> tuple[Any, Value]:
    """Store what an activation disagrees with: 1 in bit 0, -1 in bit 1.

    Lanes make a few strands. Of the zeros of a strand, those beyond the vector included, the first disagrees with
    both, the second with neither, and so on. The note is how many strands have an odd number of zeros."""
    stored = Signal.like(activations, name="dithered")
    strands = _strands(len(keep))
    parities, begins = Signal(strands), Signal(init=1)
    odd: list[Value] = []
    size = -(-len(keep) // strands)
    for strand in range(strands):
        lanes = range(min(strand * size, len(keep)), min((strand + 1) * size, len(keep)))
        zeros = [~(keep[lane] & activations[lane][0]) for lane in lanes]
        start = parities[strand] & ~begins
        before, parity = _prefix_parity(m, zeros, start, f"{strand}") if zeros else ([], Const(0, 1))
        odd.append(parity)
        for lane, zero, flips in zip(lanes, zeros, before, strict=True):
            minus, first = keep[lane] & activations[lane][1], zero & ~flips
            m.d.comb += stored[lane].eq(Cat(first | minus, first | ~(zero | activations[lane][1])))
    with m.If(beat):
        m.d.sync += [parities.eq(Cat(*odd)), begins.eq(end)]
    note = Signal(strands.bit_length())
    m.d.comb += note.eq(sum(parities))
    return stored, note


def _prefix_parity(m: Module, bits: Sequence[Value], before: Value, name: str) -> tuple[list[Value], Value]:
    """Return, for each bit, the parity of `before` and the bits before it, and the parity of all.

    A tree of two exclusive ors a bit (Brent and Kung, 1982, "A regular layout for parallel adders").
    """
    if len(bits) == 1:
        return [before], before ^ bits[0]
    pairs: list[Value] = []
    for number in range(0, len(bits), 2):
        pair = Signal(name=f"parity{name}_{number}")
        m.d.comb += pair.eq(bits[number] ^ bits[number + 1] if number + 1 < len(bits) else bits[number])
        pairs.append(pair)
    outer, total = _prefix_parity(m, pairs, before, f"{name}_{len(pairs)}")
    inner: list[Value] = []
    for number in range(len(bits)):
        place = Signal(name=f"before{name}_{number}")
        m.d.comb += place.eq(outer[number // 2] ^ bits[number - 1] if number % 2 else outer[number // 2])
        inner.append(place)
    return inner, total


PLANES = Trim(_planes)
"""Stores P in bit 0 and N in bit 1."""


def dithered(lanes: int) -> Trim:
    """Return the `Trim` that stores what an activation disagrees with, and zeros in equal numbers as each of both."""
    return Trim(_dithered, _strands(lanes).bit_length())


class BwtaTrees(Component):
    """AOI22 products, trees of full adders that take the accumulators' bits too (`nomul.arith.skewed_count`).

    Cycle schedule: a step taken at t is in registers in t + 1, where the low columns add it; the high ones do in t + 2,
    and a block's results are `done` in t + 3. No step has to wait.
    """

    def __init__(self, config: BwtaArrayConfig) -> None:
        self.config = config
        self.mask = config.counting == "mask"
        self.edges = config.padding == "any"
        self.trim = dataclasses.replace(dithered(config.activation_lanes) if self.mask else PLANES, edges=self.edges)
        super().__init__(array_members(config, trim=self.trim))

    def elaborate(self, platform: object) -> Module:
        """Build the shared activations, the control and the rows."""
        m = Module()
        config = self.config
        lanes = config.activation_lanes
        activations = Signal.like(self.step.activations, reset_less=True)
        enter, add, done, keep_low, keep_high = (
            Signal(name=name) for name in ("enter", "add", "done", "keep_low", "keep_high")
        )
        last = Signal(2)
        about = [
            Signal(
                data.StructLayout({"final": 1, "note": len(self.step.note), "rows": self.step.rows.shape()}),
                name=f"about{i}",
                reset_less=True,
            )
            for i in range(3)
        ]
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
                about[0].final.eq(self.step.final),
                about[0].note.eq(self.step.note),
                about[0].rows.eq(self.step.rows),
            ]
        moves_low, moves_high = Signal(), Signal()
        m.d.comb += [moves_low.eq(self.enable & enter), moves_high.eq(self.enable & add)]
        with m.If(moves_low):
            m.d.sync += [keep_high.eq(keep_low), about[1].eq(about[0])]
        with m.If(moves_high):
            m.d.sync += about[2].eq(about[1])
        m.d.comb += [
            self.ready.eq(self.enable & ~last[0] if config.gap else self.enable),
            self.done.eq(done),
            self.final.eq(about[2].final),
        ]

        width = config.total_width - self.mask
        cut = min(max(config.cut, len(self.step.note) - 1), width - 1)
        start = Signal(len(self.step.note[1:]))
        if self.mask:
            m.d.comb += start.eq(about[0].note[1:] & (~keep_low).replicate(len(start)))
        for row in range(config.rows):
            m.submodules[f"row{row}"] = built = _Row(config, width, cut, len(self.step.note))
            m.d.comb += [
                built.load.eq(self.issue),
                *(built.weights[lane].eq(self.weights[row * lanes + lane]) for lane in range(lanes)),
                built.activations.eq(activations),
                built.enter.eq(moves_low),
                built.add.eq(moves_high),
                built.keep_low.eq(keep_low),
                built.keep_high.eq(keep_high),
                built.start.eq(start),
            ]
            value: Value = Cat(about[2].note[0], built.total) if self.mask else built.total
            if row and self.edges and config.weight_bits == 1:
                exists = Signal(name=f"exists{row}")
                m.d.comb += exists.eq(~about[2].final | (about[2].rows >= row))
                value = value & exists.replicate(config.total_width)
            m.d.comb += self.values[row].eq(value)
        return m


class _Row(SharedModule):
    """One output: weight registers, products, tree and accumulator."""

    def __init__(self, config: BwtaArrayConfig, width: int, cut: int, noted: int) -> None:
        self.config, self.width, self.cut = config, width, cut
        lanes = config.activation_lanes
        super().__init__(
            {
                "load": In(1),
                "weights": In(data.ArrayLayout(config.weight_bits, lanes)),
                "activations": In(data.ArrayLayout(2, lanes)),
                "enter": In(1), "add": In(1), "keep_low": In(1), "keep_high": In(1),
                "start": In(max(0, noted - 1)),
                "total": Out(width),
            }
        )  # fmt: skip

    def build(self, platform: object) -> Module:
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
        constant = -(config.activation_lanes >> mask)
        pace = SkewedPace(self.enter, self.add, self.keep_low, self.keep_high, list(self.start))
        total = accumulate_count(m, "count", bits, self.width, self.cut, constant, not config.gap, pace)
        m.d.comb += self.total.eq(total)
        return m
