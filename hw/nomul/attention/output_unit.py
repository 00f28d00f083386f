"""The unit of a job's weighted sums, from the largest of its weighted probabilities and the total of its weights.

    unit = (norm(largest) * output_unit) / norm(total)

The operations of `nomul.vector.scale`, with what is known of the operands: only the two integers need shifts, since a
product of normalised mantissas has 31 or 32 bits, and a quotient 17 or 18. One job's integers are normalised while the
one before is multiplied and divided.

Cycle schedule: both integers are normalised in 24 cycles at most; the unit is offered 23 cycles later.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from nomul.attention.attention_config import AttentionConfig
from nomul.attention.weights import weighed_layout
from nomul.vector.scale import SCALE

__all__ = ["OutputUnit"]

MANTISSA_BITS = 16

QUOTIENT_BITS = 18

WIDE_SCALE = data.StructLayout({"mantissa": MANTISSA_BITS, "exponent": signed(12)})
"""A scale on its way: with room in its exponent."""


def _round(number: Value, exponent: Value) -> Value:
    """Return a scale, `WIDE_SCALE`: the upper 16 bits of a number with its top bit set, rounded by the others."""
    floor, half, rest = number[-MANTISSA_BITS:], number[-MANTISSA_BITS - 1], number[: -MANTISSA_BITS - 1]
    rounded = (floor + (half & (rest.any() | floor[0])))[: MANTISSA_BITS + 1]
    over = rounded[-1]
    mantissa = Cat(rounded[: MANTISSA_BITS - 1], rounded[MANTISSA_BITS - 1] | over)
    return Cat(mantissa, (exponent + over).as_signed()[:12])


class OutputUnit(Component):
    """The scale of one job's sums after the other's.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    output_unit : In(SCALE)
    jobs : In(stream of `weighed_layout`)
    units : Out(stream of SCALE)
    """

    def __init__(self, config: AttentionConfig) -> None:
        self.config = config
        super().__init__(
            {
                "output_unit": In(SCALE),
                "jobs": In(stream.Signature(weighed_layout(config))),
                "units": Out(stream.Signature(SCALE)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build both halves."""
        m = Module()
        total, largest = (Signal(WIDE_SCALE, name=name, reset_less=True) for name in ("total", "largest"))
        normalised, free = Signal(), Signal()
        self._normalise(m, total, largest, normalised, free)
        self._divide(m, total, largest, normalised, free)
        return m

    def _normalise(self, m: Module, total: Signal, largest: Signal, done: Signal, free: Signal) -> None:
        """Normalise the integers one after the other; `done` until `free`."""
        config = self.config
        width = max(config.weighted_bits, config.total_bits)
        work, other = Signal(width, reset_less=True), Signal(config.weighted_bits, reset_less=True)
        exponent = Signal(signed(12), reset_less=True)
        second = Signal(reset_less=True)
        scale = Signal(WIDE_SCALE)
        m.d.comb += scale.eq(Mux(work[-1], _round(work, exponent), 0))
        with m.FSM(name="normalise"):
            with m.State("IDLE"):
                m.d.comb += self.jobs.ready.eq(1)
                m.d.sync += [work.eq(self.jobs.payload.total), other.eq(self.jobs.payload.largest)]
                m.d.sync += [exponent.eq(width - MANTISSA_BITS), second.eq(0)]
                with m.If(self.jobs.valid):
                    m.next = "SHIFT"
            with m.State("SHIFT"):
                with m.If(work[-1] | ~work.any()):
                    m.next = "ROUND"
                with m.Elif(work[-8:].any()):
                    m.d.sync += [work.eq(work << 1), exponent.eq(exponent - 1)]
                with m.Else():
                    m.d.sync += [work.eq(work << 8), exponent.eq(exponent - 8)]
            with m.State("ROUND"):
                m.d.sync += [work.eq(other), exponent.eq(width - MANTISSA_BITS), second.eq(1)]
                m.next = "SHIFT"
                with m.If(second):
                    m.d.sync += largest.eq(scale)
                    m.next = "DONE"
                with m.Else():
                    m.d.sync += total.eq(scale)
            with m.State("DONE"):
                m.d.comb += done.eq(1)
                with m.If(free):
                    m.next = "IDLE"

    def _divide(self, m: Module, total: data.View, largest: data.View, normalised: Signal, free: Signal) -> None:
        """Multiply, divide and offer the result."""
        unit = Signal(SCALE, reset_less=True)
        divisor = Signal(WIDE_SCALE, reset_less=True)
        factor = Signal(MANTISSA_BITS, reset_less=True)
        product = Signal(2 * MANTISSA_BITS, reset_less=True)
        exponent = Signal(signed(12), reset_less=True)
        scaled = Signal(WIDE_SCALE)
        m.d.comb += scaled.eq(
            Mux(
                product[-1],
                _round(product, exponent + MANTISSA_BITS),
                _round(Cat(Const(0, 1), product[:-1]), exponent + MANTISSA_BITS - 1),
            )
        )
        # The remainder is below twice the divisor, and the dividend below that too.
        remainder = Signal(MANTISSA_BITS + 1, reset_less=True)
        quotient = Signal(QUOTIENT_BITS, reset_less=True)
        count = Signal(range(QUOTIENT_BITS), reset_less=True)
        trial = Signal(MANTISSA_BITS + 2)
        m.d.comb += trial.eq(remainder - divisor.mantissa)
        digit = ~trial[-1]
        final = Signal(WIDE_SCALE)
        m.d.comb += final.eq(
            Mux(
                quotient[-1],
                _round(quotient, exponent + 2),
                _round(Cat(Const(0, 1), quotient[:-1]), exponent + 1),
            )
        )
        m.d.sync += product.eq(factor * unit.mantissa)
        with m.If(self.units.ready):
            m.d.sync += self.units.valid.eq(0)
        with m.FSM(name="divide"):
            with m.State("IDLE"):
                m.d.comb += free.eq(1)
                m.d.sync += [
                    unit.eq(self.output_unit),
                    factor.eq(largest.mantissa),
                    divisor.eq(total),
                    exponent.eq(largest.exponent + self.output_unit.exponent),
                ]
                with m.If(normalised):
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.next = "ROUND"
            with m.State("ROUND"):
                m.d.sync += [
                    remainder.eq(scaled.mantissa),
                    exponent.eq(scaled.exponent - divisor.exponent - (MANTISSA_BITS + 1)),
                    count.eq(QUOTIENT_BITS - 1),
                ]
                m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.sync += [
                    remainder.eq(Cat(Const(0, 1), Mux(digit, trial[:-1], remainder))),
                    quotient.eq(Cat(digit, quotient)),
                    count.eq(count - 1),
                ]
                with m.If(count == 0):
                    m.next = "OFFER"
            with m.State("OFFER"), m.If(~self.units.valid | self.units.ready):
                m.d.sync += [
                    self.units.valid.eq(1),
                    self.units.payload.mantissa.eq(final.mantissa),
                    self.units.payload.exponent.eq(final.exponent),
                ]
                m.next = "IDLE"
