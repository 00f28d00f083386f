"""Feeds vectors to a fused norm: words times gains to the quantiser, and the sum of their squares.

    p[i] = x[i] * g[i],   S = sum x[i]^2;   x from the residual stream, from attention, or h / 2^k of gated products

A vector of gated products is read twice: for the largest magnitude, from which k follows, then as words (block
normalisation, docs/numerics.md).

Cycle schedule of a transfer addressed at t: read t + 2, a word of 20 bits t + 2 + b, multiplied by its gain
t + 2 + b + p, and queued; b and p are the latencies of `BlockShift` and `NormProducts`.
"""

import enum

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.accelerators.config import CODE_BITS, WORD_BITS, AcceleratorConfig
from nomul.arith.pipeline import Delays
from nomul.memory.credit import Credit
from nomul.memory.fifo import Fifo
from nomul.vector.activation import BlockShift, MagnitudeBits
from nomul.vector.rmsnorm import NormProducts

__all__ = ["PRODUCT_BITS", "NormFeed", "Source", "squares_bits"]

PRODUCT_BITS = WORD_BITS + CODE_BITS - 1
"""Width of a word times a gain."""

WAITING = 32
"""Transfers that may wait for the quantiser."""


class Source(enum.IntEnum):
    """Where vectors come from."""

    RESIDUAL = 0
    ATTENTION = 1
    GATED = 2


def squares_bits(config: AcceleratorConfig) -> int:
    """Return the width of a sum of squares."""
    return 2 * (WORD_BITS - 1) + config.shape.longest.bit_length()


class NormFeed(Component):
    """Reads vectors and gains.

    Parameters
    ----------
    config : AcceleratorConfig

    Members
    -------
    start : In(1)
        Begin; when `idle`.
    source : In(2)
        A `Source`, until `idle`.
    first : In
        Address of the first transfer.
    words, tokens : In
        Transfers of a vector, vectors; until `idle`.
    idle : Out(1)
    address : Out
        Of the source's memory, whose data come two cycles later.
    gain_address : Out
        The number of a transfer of gains, which come two cycles later.
    gains : In
    residual, hidden : In
        Data of the two memories.
    values : Out(stream of lanes)
        Products.
    sums : Out(stream of {squares, shift})
        One a vector.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        depth = config.tile * config.words_max
        sums = data.StructLayout({"squares": squares_bits(config), "shift": 6})
        super().__init__(
            {
                "start": In(1),
                "source": In(Source),
                "first": In(range(depth)),
                "words": In(range(config.words_max + 1)),
                "tokens": In(range(config.tile + 1)),
                "idle": Out(1),
                "address": Out(range(depth + 1)),
                "gain_address": Out(range(config.words_max + 1)),
                "gains": In(data.ArrayLayout(signed(CODE_BITS), config.lanes)),
                "residual": In(data.ArrayLayout(signed(WORD_BITS), config.lanes)),
                "hidden": In(data.ArrayLayout(signed(config.product_bits), config.lanes)),
                "values": Out(stream.Signature(data.ArrayLayout(signed(PRODUCT_BITS), config.lanes))),
                "sums": Out(stream.Signature(sums)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the walk over the vectors and the pipeline behind it."""
        m = Module()
        config = self.config
        delay = Delays(m)
        bits = config.product_bits
        m.submodules.shift = block = BlockShift(config.lanes, bits)
        m.submodules.products = products = NormProducts(config.lanes, length_max=config.shape.longest)
        m.submodules.magnitude = magnitude = MagnitudeBits(config.lanes, bits)
        m.submodules.room = room = Credit(WAITING)
        m.submodules.waiting = waiting = Fifo(self.values.payload.shape(), WAITING)
        m.submodules.summed = summed = Fifo(self.sums.payload.shape(), max(config.tile, 2))

        word, base, left = (
            Signal(range(config.words_max + 1)),
            Signal(self.address.shape()),
            Signal(self.tokens.shape()),
        )
        scanning, feeding, k = Signal(), Signal(), Signal(6)
        last, first = Signal(), Signal()
        m.d.comb += [
            self.address.eq(base + word),
            scanning.eq(0),
            first.eq(word == 0),
            last.eq(word == self.words - 1),
            room.take.eq(feeding),
        ]
        with m.If(scanning | feeding):
            m.d.sync += word.eq(Mux(last, 0, word + 1))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += [word.eq(0), base.eq(self.first), left.eq(self.tokens)]
                with m.If(self.start):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.sync += k.eq(0)
                m.next = "FEED"
                with m.If(self.source == Source.GATED):
                    m.next = "SCAN"
            with m.State("SCAN"):
                m.d.comb += scanning.eq(1)
                with m.If(last):
                    m.next = "SHIFT"
            with m.State("SHIFT"), m.If(magnitude.shift_valid):
                m.d.sync += k.eq(magnitude.shift)
                m.next = "FEED"
            with m.State("FEED"):
                m.d.comb += feeding.eq(room.available)
                with m.If(room.available & last):
                    m.next = "DRAIN"
            # k stays until the vector has passed the shifter and its sum is queued.
            with m.State("DRAIN"), m.If(products.sum_valid):
                m.d.sync += [base.eq(base + self.words), left.eq(left - 1)]
                m.next = "BEGIN"
                with m.If(left == 1):
                    m.next = "IDLE"

        for lane in range(config.lanes):
            wide = Signal(signed(bits), name=f"wide{lane}")
            m.d.comb += [
                wide.eq(Mux(self.source == Source.RESIDUAL, self.residual[lane], self.hidden[lane])),
                block.values[lane].eq(wide),
                magnitude.values[lane].eq(self.hidden[lane]),
            ]
        m.d.comb += [
            block.shift.eq(k),
            magnitude.valid.eq(delay(scanning, 2)),
            magnitude.first.eq(delay(first, 2)),
            magnitude.last.eq(delay(scanning & last, 2)),
        ]
        shifted = 2 + block.latency
        m.d.comb += [
            self.gain_address.eq(delay(word, shifted - 2)),
            products.words.eq(block.words),
            products.gains.eq(self.gains),
            products.valid.eq(delay(feeding, shifted)),
            products.first.eq(delay(first, shifted)),
            products.last.eq(delay(feeding & last, shifted)),
            waiting.write.eq(delay(feeding, shifted + products.latency)),
            room.give.eq(waiting.taken),
            self.values.payload.eq(waiting.output.payload),
            self.values.valid.eq(waiting.output.valid),
            waiting.output.ready.eq(self.values.ready),
            summed.payload.squares.eq(products.sum),
            summed.payload.shift.eq(k),
            summed.write.eq(products.sum_valid),
            self.sums.payload.eq(summed.output.payload),
            self.sums.valid.eq(summed.output.valid),
            summed.output.ready.eq(self.sums.ready),
        ]
        for lane in range(config.lanes):
            m.d.comb += waiting.payload[lane].eq(products.products[lane])
        return m
