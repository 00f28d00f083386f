"""Where sums leave a column of a systolic array: zero point, scale, and the totals of a tile.

    total[place] += scale * (sum - zero * activations)

Sums are of codes less the recoding's offset, and so is the zero point here. Everything is shifts and additions.

Cycle schedule: a sum and its tag at step t, less its zero points at t + 1, scaled at t + 2, in its total at t + 3.

In FP16 form the scaled sum is an integer of 2^(E - 14 - significand), E coming with the sum. It is moved to the grid of
all totals, 2^-fraction, at t + 3, and is in its total at t + 4:

    total[place] += round_half_even(scaled * 2^(E - 14 - significand + fraction))

The bits that are dropped stand at fixed places, below a shift to the left by E - 1. A total keeps a flag, which rises
with that of any of its sums and inverts the highest bit of the result.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.fp16 import SIDE_BITS
from nomul.arith.pipeline import Delays
from nomul.arith.recoding import shift_add
from nomul.systolic.config import CODE_BITS, SystolicConfig
from nomul.systolic.schedule import tag_layout

__all__ = ["Edge"]


def rounds_up(dropped: Value, odd: Value) -> Value:
    """Return whether a number is rounded up, half to even, that loses these bits and is odd without them."""
    return dropped[-1] & Cat(dropped[:-1], odd).any()


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
    side : In(6)
        E of the sum, and above it whether one of its activations is infinite or NaN (FP16 form only).
    tag : In(tag_layout)
    total : Out(signed(total_width))
        `SystolicConfig.edge_latency` steps after the tag.
    """

    def __init__(self, config: SystolicConfig) -> None:
        self.config = config
        super().__init__(
            {
                "sum": In(signed(config.value_width)),
                "activations": In(signed(config.sum_width)),
                "entry": In(CODE_BITS + config.scale_bits),
                **({"side": In(SIDE_BITS)} if config.floats else {}),
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

        delay = Delays(m)
        tag = data.View(self.tag.shape(), delay(Value.cast(self.tag), config.edge_latency - 1))
        m.submodules.totals = memory = Memory(
            shape=signed(config.total_width), depth=config.places, init=[], attrs={"no_rw_check": 1}
        )
        read, write = memory.read_port(domain="comb"), memory.write_port()
        before = Mux(tag.begin, 0, read.data).as_signed()
        total = Signal(signed(config.total_width))
        m.d.comb += [
            read.addr.eq(tag.place),
            write.addr.eq(tag.place),
            write.data.eq(total),
            write.en.eq(tag.valid),
        ]
        if config.floats:
            term, up, flag = self._move(m, scaled, delay(self.side, 1), delay)
            # The flag is kept as it leaves: as the difference between the two highest bits.
            number, marked = Signal(signed(len(total) - 1)), Signal()
            m.d.comb += [
                number.eq((Cat(Const(1, 1), before[:-1]) + Cat(up, term))[1:]),
                marked.eq(before[-1] ^ before[-2] | flag),
                total.eq(Cat(number, number[-1] ^ marked).as_signed()),
            ]
        else:
            m.d.comb += total.eq(before + scaled)
        m.d.sync += self.total.eq(total)
        return m

    def _move(self, m: Module, scaled: Value, side: Value, delay: Delays) -> tuple[Value, Value, Value]:
        """Move a scaled sum to the grid of totals, by the side of a step before it.

        Return what is left of it there, whether that is rounded up, and its flag.
        """
        config = self.config
        dropped = config.fraction_exact - config.fraction
        place, moved = Signal(5, reset_less=True), Signal(config.total_width - 1 + dropped)
        m.d.sync += place.eq(side[:5] - 1)
        m.d.comb += moved.eq(scaled << place)
        term = Signal(config.total_width - 1, reset_less=True)
        m.d.sync += term.eq(moved[dropped:])
        up: Value = Const(0, 1)
        if dropped:
            up = Signal(reset_less=True)
            m.d.sync += up.eq(rounds_up(moved[:dropped], moved[dropped]))
        return term, up, delay(side[5], 2)
