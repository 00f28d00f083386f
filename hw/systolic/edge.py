"""Where sums leave a column of a systolic array: zero point, scale, and the totals of a tile.

    total[place] += scale * (sum - zero * activations)

Sums are of codes less the recoding's offset, and so is the zero point here. Everything is shifts and additions.

Cycle schedule: a sum and its tag at step t, less its zero points at t + 1, scaled at t + 2, in its total at t + 3.
"""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from hw.arith.recoding import shift_add
from hw.systolic.config import CODE_BITS, SystolicConfig, tag_layout

__all__ = ["EDGE_LATENCY", "Edge"]

EDGE_LATENCY = 3
"""Steps from a sum to its total."""


class Edge(Component):
    """The edge of a column; every register moves with the domain's clock.

    Parameters
    ----------
    config : SystolicConfig

    Members
    -------
    sum : In(signed(value_width))
    activations : In(signed(sum_width))
        The sum of the activations in it.
    entry : In(4 + scale_bits)
        Zero point, and the scale above it.
    tag : In(tag_layout)
    total : Out(signed(total_width))
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        super().__init__(
            {
                "sum": In(signed(config.value_width)),
                "activations": In(signed(config.sum_width)),
                "entry": In(CODE_BITS + config.scale_bits),
                "tag": In(tag_layout(config)),
                "total": Out(signed(config.total_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the three steps."""
        m = Module()
        config = self.config
        value, scale = Signal(signed(config.value_width), reset_less=True), Signal(config.scale_bits, reset_less=True)
        digits = [digit.negated() for digit in config.weight_recoding.digits]
        m.d.sync += [
            value.eq(self.sum + shift_add(m, "zero", digits, self.entry[:CODE_BITS], self.activations)),
            scale.eq(self.entry[CODE_BITS:]),
        ]
        parts: list[Value] = [Mux(bit, value << place, 0).as_signed() for place, bit in enumerate(scale)]
        scaled = Signal(signed(config.value_width + config.scale_bits), reset_less=True)
        m.d.sync += scaled.eq(sum(parts[1:], parts[0]))

        once, tag = Signal.like(self.tag), Signal.like(self.tag)
        m.d.sync += [once.eq(self.tag), tag.eq(once)]
        m.submodules.totals = memory = Memory(
            shape=signed(config.total_width), depth=config.places, init=[], attrs={"no_rw_check": 1}
        )
        read, write = memory.read_port(domain="comb"), memory.write_port()
        total = Signal(signed(config.total_width))
        m.d.comb += [
            read.addr.eq(tag.place),
            write.addr.eq(tag.place),
            total.eq(Mux(tag.begin, 0, read.data).as_signed() + scaled),
            write.data.eq(total),
            write.en.eq(tag.valid),
        ]
        m.d.sync += self.total.eq(total)
        return m
