"""The requantiser: integers times a scale, as words in fixed point.

    word = clamp(round_half_even(value * mantissa * 2^exponent), -(2^(bits-1) - 1), 2^(bits-1) - 1)

The operation `requant` of docs/numerics.md, exact for every value, mantissa (normalised or not) and exponent.

Cycle schedule: inputs in registers at t + 1; product t + 2, or, of values wider than `PIECE`, two products t + 2 and
their sum t + 3. Then the four stages of `nomul.vector.round_shift`.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from nomul.vector.round_shift import RoundShift

__all__ = ["Requantise"]

MANTISSA_BITS = 16
EXPONENT_BITS = 10

VALUE_BITS_MAX = 45
"""Widest value; the golden requantiser takes no more."""

PIECE = 27
"""Widest factor, signed, of one multiplier of UltraScale+. A wider value is cut into PIECE - 1 bits and the rest."""


class Requantise(Component):
    """Multiplies a transfer of values by one scale, every cycle.

    Parameters
    ----------
    lanes : int
        Values in parallel.
    value_bits : int
        Width of a value, two's complement, 2 to 45.
    bits : int
        Width of a word, 3 to 32.

    Attributes
    ----------
    latency : int
        Cycles from inputs to words: 6, or 7 for values wider than 27 bits.

    Members
    -------
    values : In(data.ArrayLayout(signed(value_bits), lanes))
    mantissa : In(16)
    exponent : In(signed(10))
        The scale of all values of this cycle.
    words : Out(data.ArrayLayout(signed(bits), lanes))
        `latency` cycles later; symmetric.
    """

    def __init__(self, lanes: int, value_bits: int, bits: int = 20) -> None:
        assert 2 <= value_bits <= VALUE_BITS_MAX and 3 <= bits <= 32
        self.lanes, self.value_bits, self.bits = lanes, value_bits, bits
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(value_bits), lanes)),
                "mantissa": In(MANTISSA_BITS),
                "exponent": In(signed(EXPONENT_BITS)),
                "words": Out(data.ArrayLayout(signed(bits), lanes)),
            }
        )

    @property
    def _product_stages(self) -> int:
        return 1 if self.value_bits <= PIECE else 2

    @property
    def latency(self) -> int:
        """Cycles from inputs to words."""
        return 1 + self._product_stages + RoundShift.latency

    def elaborate(self, platform: object) -> Module:
        """Build the distance, which all lanes share, and the lanes."""
        m = Module()
        mantissa = Signal(MANTISSA_BITS, reset_less=True)
        m.d.sync += mantissa.eq(self.mantissa)
        # A shift to the left by bits - 1 makes a word of any product but 0 saturate.
        product_bits, left = self.value_bits + MANTISSA_BITS, self.bits - 1
        farthest = RoundShift.farthest(product_bits, left)
        distance, wanted = Signal(range(farthest + 1), reset_less=True), Signal(signed(EXPONENT_BITS + 2))
        m.d.comb += wanted.eq(left - self.exponent)
        m.d.sync += distance.eq(Mux(wanted < 0, 0, Mux(wanted > farthest, farthest, wanted)))
        for stage in range(self._product_stages):
            later = Signal.like(distance, name=f"distance{stage}", reset_less=True)
            m.d.sync += later.eq(distance)
            distance = later
        for lane in range(self.lanes):
            m.submodules[f"shift{lane}"] = shift = RoundShift(product_bits, self.bits, left)
            m.d.comb += [
                shift.value.eq(self._multiply(m, lane, self.values[lane], mantissa)),
                shift.distance.eq(distance),
                self.words[lane].eq(shift.word),
            ]
        return m

    def _multiply(self, m: Module, lane: int, value: Value, mantissa: Value) -> Value:
        """Return the product, a register."""
        held = Signal(signed(self.value_bits), name=f"value{lane}", reset_less=True)
        product = Signal(signed(self.value_bits + MANTISSA_BITS), name=f"product{lane}", reset_less=True)
        m.d.sync += held.eq(value)
        if self.value_bits <= PIECE:
            m.d.sync += product.eq(held * mantissa)
            return product
        cut = PIECE - 1
        low = Signal(cut + MANTISSA_BITS, name=f"low{lane}", reset_less=True)
        high = Signal(signed(self.value_bits - cut + MANTISSA_BITS), name=f"high{lane}", reset_less=True)
        m.d.sync += [
            low.eq(held[:cut] * mantissa),
            high.eq(held[cut:].as_signed() * mantissa),
            product.eq(Cat(low[:cut], (high + low[cut:])[: len(high)])),
        ]
        return product
