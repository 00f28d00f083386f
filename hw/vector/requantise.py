"""The requantiser: integers times a scale, as words in fixed point.

    word = clamp(round_half_even(value * mantissa * 2^exponent), -(2^(bits-1) - 1), 2^(bits-1) - 1)

The operation `requant` of docs/numerics.md, exact for every value, mantissa (normalised or not) and exponent.

One shift to the right serves both directions, since the product enters with `bits` zeros below it. A stage of the
shifter by 2^k keeps only what the stages after it can still bring into the word: `bits` + 2^k bits. Of the 2^k bits
that it drops, those below the window say whether something is left of a half, those above it whether the word
saturates; one stage drops either the ones or the others. So the widths fall from stage to stage, and neither a mask
nor a comparison of wide numbers is needed.

Cycle schedule: inputs in registers at t + 1; product t + 2, or, of values wider than `PIECE`, two products t + 2 and
their sum t + 3. Then the coarse shift, the fine shift, the rounded word, and the clamped word, a cycle each.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

__all__ = ["Requantise"]

MANTISSA_BITS = 16
EXPONENT_BITS = 10

VALUE_BITS_MAX = 45
"""Widest value; the golden requantiser takes no more."""

PIECE = 27
"""Widest factor, signed, of one multiplier of UltraScale+. A wider value is cut into PIECE - 1 bits and the rest."""

FINE = 3
"""Stages of the fine shift: by less than 2^FINE."""


class Requantise(Component):
    """Multiplies a transfer of values by one scale, every cycle.

    Parameters
    ----------
    lanes : int
        Values in parallel.
    value_bits : int
        Width of a value, two's complement, 2 to 45.
    bits : int
        Width of a word, 2 to 32.

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
        assert 2 <= value_bits <= VALUE_BITS_MAX and 2 <= bits <= 32
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
        return self._product_stages + 5

    def elaborate(self, platform: object) -> Module:
        """Build the distance, which all lanes share, and the lanes."""
        m = Module()
        mantissa = Signal(MANTISSA_BITS, reset_less=True)
        m.d.sync += mantissa.eq(self.mantissa)

        # A product of value_bits + 16 bits rounds to 0 when shifted by one more; no shift to the left needs to be
        # longer than bits - 1, which makes a word of any product but 0 saturate.
        farthest = self.value_bits + MANTISSA_BITS + self.bits
        distance = Signal(range(farthest + 1), reset_less=True)
        wanted = Signal(signed(EXPONENT_BITS + 2))
        m.d.comb += wanted.eq(self.bits - 1 - self.exponent)
        m.d.sync += distance.eq(Mux(wanted < 0, 0, Mux(wanted > farthest, farthest, wanted)))
        for stage in range(self._product_stages):
            later = Signal.like(distance, name=f"distance{stage}", reset_less=True)
            m.d.sync += later.eq(distance)
            distance = later
        fine = Signal(FINE, reset_less=True)
        m.d.sync += fine.eq(distance[:FINE])
        for lane in range(self.lanes):
            product = self._multiply(m, lane, self.values[lane], mantissa)
            m.d.comb += self.words[lane].eq(self._word(m, lane, product, distance[FINE:], fine))
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

    def _word(self, m: Module, lane: int, product: Value, coarse: Value, fine: Value) -> Value:
        """Return the word, a register, 4 cycles after the product; `fine` comes a cycle after `coarse`."""
        bits = self.bits
        stages = FINE + len(coarse)
        entering = Signal(signed(bits + (1 << stages)), name=f"entering{lane}")
        m.d.comb += entering.eq(Cat(Const(0, bits), product).as_signed())
        sign: Value = product[-1]
        below: Value = Const(0, 1)
        above: Value = Const(0, 1)
        window: Value = entering
        for stage in reversed(range(stages)):
            step = 1 << stage
            chosen = coarse[stage - FINE] if stage >= FINE else fine[stage]
            kept = Signal(bits + step, name=f"by{step}_{lane}")
            m.d.comb += kept.eq(Mux(chosen, window[step:], window[: bits + step]))
            below = below | (chosen & window[:step].any())
            above = above | (~chosen & (window[bits + step :] ^ sign.replicate(step)).any())
            window = kept
            if stage == FINE:
                state = Cat(kept, below, above, sign)
                register = Signal(len(state), name=f"coarse{lane}", reset_less=True)
                m.d.sync += register.eq(state)
                window, below, above, sign = (
                    register[: len(kept)], register[-3], register[-2], register[-1]
                )  # fmt: skip

        # Bit 0 of the window is the half, the others are the word, rounded down.
        floor = Signal(signed(bits), name=f"floor{lane}", reset_less=True)
        half, rest, over, negative = (
            Signal(name=f"{name}{lane}", reset_less=True) for name in ("half", "rest", "over", "negative")
        )
        rounded = Signal(signed(bits + 1), name=f"rounded{lane}", reset_less=True)
        beyond, minus = (Signal(name=f"{name}{lane}", reset_less=True) for name in ("beyond", "minus"))
        word = Signal(signed(bits), name=f"word{lane}", reset_less=True)
        m.d.sync += [
            floor.eq(window[1 : bits + 1]),
            half.eq(window[0]),
            rest.eq(below),
            over.eq(above),
            negative.eq(sign),
            rounded.eq(floor + (half & (rest | floor[0]))),
            beyond.eq(over | (floor[bits - 1] != negative)),
            minus.eq(negative),
            word.eq(rounded),
        ]
        with m.If(beyond | (rounded[bits] != rounded[bits - 1])):
            m.d.sync += word.eq(Cat(Const(1, 1), (~minus).replicate(bits - 2), minus))
        with m.Elif(rounded[:bits] == 1 << (bits - 1)):
            m.d.sync += word[0].eq(1)
        return word
