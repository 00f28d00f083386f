"""A shift to the right with rounding to the nearest, ties to even, and saturation: the end of every requantiser.

    word = clamp(round_half_even(value * 2^(left - distance)), -(2^(bits-1) - 1), 2^(bits-1) - 1)

One shift to the right serves both directions, since the value enters with `left` zeros below it. A stage of the
shifter by 2^k keeps only what the stages after it can still bring into the word: `bits` + 2^k bits. Of the 2^k bits
that it drops, those below the window say whether something is left of a half, those above it whether the word
saturates; one stage drops either the ones or the others. So the widths fall from stage to stage, and neither a mask
nor a comparison of wide numbers is needed.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

__all__ = ["RoundShift"]

FINE = 3
"""Stages of the fine shift: by less than 2^FINE."""


class RoundShift(Component):
    """One lane.

    Parameters
    ----------
    value_bits : int
        Width of the value, two's complement.
    bits : int
        Width of the word, 3 or more.
    left : int
        Longest shift to the left.

    Attributes
    ----------
    latency : int
        Cycles from value and distance to word: the coarse shift, the fine shift, the rounding, the clamping.

    Members
    -------
    value : In(signed(value_bits))
    distance : In(distance_bits)
    word : Out(signed(bits))
        A register; symmetric.
    """

    latency = 4

    def __init__(self, value_bits: int, bits: int, left: int = 0) -> None:
        assert bits >= 3
        self.value_bits, self.bits, self.left = value_bits, bits, left
        distance = In(self.distance_bits(value_bits, left))
        super().__init__({"value": In(signed(value_bits)), "distance": distance, "word": Out(signed(bits))})

    @staticmethod
    def farthest(value_bits: int, left: int = 0) -> int:
        """Return the longest distance that is of use; it makes any value 0, and so does a longer one."""
        return value_bits + left + 1

    @classmethod
    def distance_bits(cls, value_bits: int, left: int = 0) -> int:
        """Return the width of `distance`, enough for the farthest: as many stages has the shifter."""
        return max(FINE + 1, cls.farthest(value_bits, left).bit_length())

    def elaborate(self, platform: object) -> Module:
        """Build the shifter and the rounding."""
        m = Module()
        bits, stages = self.bits, len(self.distance)
        # Bit 0 of the window becomes the half, the others the word, rounded down.
        entering = Signal(signed(bits + (1 << stages)))
        m.d.comb += entering.eq(Cat(Const(0, self.left + 1), self.value).as_signed())
        fine = Signal(FINE, reset_less=True)
        m.d.sync += fine.eq(self.distance[:FINE])
        window: Value = entering
        below, above, sign = Const(0, 1), Const(0, 1), self.value[-1]  # type: tuple[Value, Value, Value]
        for stage in reversed(range(stages)):
            step = 1 << stage
            chosen = self.distance[stage] if stage >= FINE else fine[stage]
            kept = Signal(bits + step, name=f"by{step}")
            m.d.comb += kept.eq(Mux(chosen, window[step:], window[: bits + step]))
            below = below | (chosen & window[:step].any())
            above = above | (~chosen & (window[bits + step :] ^ sign.replicate(step)).any())
            window = kept
            if stage == FINE:
                register = Signal(len(kept) + 3, name="coarse", reset_less=True)
                m.d.sync += register.eq(Cat(kept, below, above, sign))
                window, below, above, sign = register[: len(kept)], register[-3], register[-2], register[-1]

        floor, half, rest = Signal(signed(bits), reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        over, negative = Signal(reset_less=True), Signal(reset_less=True)
        rounded = Signal(signed(bits + 1), reset_less=True)
        beyond, minus = Signal(reset_less=True), Signal(reset_less=True)
        word = Signal(signed(bits), reset_less=True)
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
        m.d.comb += self.word.eq(word)
        return m
