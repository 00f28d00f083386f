"""Rotary position embedding: the rotation of pairs, and the table of their sines and cosines.

    low'  = round_half_even((low * cosine - high * sine) / 2^10)
    high' = round_half_even((high * cosine + low * sine) / 2^10)

The operation `rotate` of docs/numerics.md, exact; sine and cosine have 14 fractional bits, so the result has 4.

The phase of pair i at position p is p * step[i] mod 2^32. Its upper two bits are the quadrant, the ten below them the
index j of a quarter wave of 1024 values, T[j] = round(2^14 sin((j + 1/2) pi / 2048)). One memory with two ports gives
T[j] and T[1023 - j], which are sine and cosine or the other way round, and the quadrant their signs.
"""

import math
from collections.abc import Sequence

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays

__all__ = ["QUARTER", "RopeTable", "Rotate"]

AMPLITUDE_BITS = 14
QUARTER_BITS = 10
FRACTION_BITS = 4
POSITION_BITS = 16
PHASE_BITS = 32
WAVE_BITS = 16
"""Width of a sine or cosine, two's complement."""

QUARTER = tuple(
    round(2**AMPLITUDE_BITS * math.sin((j + 0.5) * math.pi / 2 ** (QUARTER_BITS + 1))) for j in range(1 << QUARTER_BITS)
)
"""The quarter wave."""


class Rotate(Component):
    """Rotates `lanes / 2` pairs a cycle.

    Cycle schedule: operands in registers at t + 1; four products a pair t + 2; their sum and difference t + 3; rounded
    t + 4.

    Parameters
    ----------
    lanes : int
        Values in parallel, even: first the lower elements of pairs, then the upper ones in the same order.
    value_bits : int
        Width of a value, two's complement.

    Attributes
    ----------
    latency : int
        Cycles from inputs to outputs: 4.

    Members
    -------
    values : In(data.ArrayLayout(signed(value_bits), lanes))
        Pair i is elements i and i + lanes / 2.
    cosines, sines : In(data.ArrayLayout(signed(16), lanes // 2))
        At most 2^14 in magnitude, as `RopeTable` gives them.
    rotated : Out(data.ArrayLayout(signed(value_bits + 5), lanes))
        In the order of `values`, with 4 more fractional bits.
    """

    latency = 4

    def __init__(self, lanes: int, value_bits: int) -> None:
        assert lanes % 2 == 0
        self.lanes, self.value_bits = lanes, value_bits
        wave = data.ArrayLayout(signed(WAVE_BITS), lanes // 2)
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(value_bits), lanes)),
                "cosines": In(wave),
                "sines": In(wave),
                "rotated": Out(data.ArrayLayout(signed(value_bits + FRACTION_BITS + 1), lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the pairs."""
        m = Module()
        pairs = self.lanes // 2
        for pair in range(pairs):
            low, high = (Signal(signed(self.value_bits), name=f"{n}{pair}", reset_less=True) for n in ("low", "high"))
            cosine, sine = (Signal(signed(WAVE_BITS), name=f"{n}{pair}", reset_less=True) for n in ("cosine", "sine"))
            m.d.sync += [
                low.eq(self.values[pair]),
                high.eq(self.values[pair + pairs]),
                cosine.eq(self.cosines[pair]),
                sine.eq(self.sines[pair]),
            ]
            products = []
            for name, value, wave in (("lc", low, cosine), ("hs", high, sine), ("hc", high, cosine), ("ls", low, sine)):
                product = Signal(signed(self.value_bits + WAVE_BITS), name=f"{name}{pair}", reset_less=True)
                m.d.sync += product.eq(value * wave)
                products.append(product)
            lc, hs, hc, ls = products
            for lane, total in ((pair, lc - hs), (pair + pairs, hc + ls)):
                # A bit less than any two products need: cosine and sine are at most 2^14.
                turned = Signal(signed(self.value_bits + WAVE_BITS), name=f"turned{lane}", reset_less=True)
                rounded = Signal(signed(self.value_bits + FRACTION_BITS + 1), name=f"rounded{lane}", reset_less=True)
                drop = AMPLITUDE_BITS - FRACTION_BITS
                up = turned[drop - 1] & (turned[: drop - 1].any() | turned[drop])
                m.d.sync += [turned.eq(total), rounded.eq(turned[drop:].as_signed() + up)]
                m.d.comb += self.rotated[lane].eq(rounded)
        return m


class RopeTable(Component):
    """Gives cosine and sine of pairs 0, 1, 2 ... at one position, a pair a cycle.

    Cycle schedule, from `start` at t: the number of pair i in a register at t + 1 + i, and so many cycles later: its
    step 1, products of the step's halves with the position 2, phase 3, the table's words 4, and in registers behind
    the memory 5, cosine and sine 6.

    Parameters
    ----------
    steps : sequence of int
        For each pair the phase of one position, 32 bits, in units of 2^-32 turns.

    Attributes
    ----------
    pairs : int
        How many there are.
    latency : int
        Cycles from `start` to pair 0: 7.

    Members
    -------
    start : In(1)
        Begin with pair 0; `latency` cycles later it comes, and then a pair a cycle. It restarts a unit that is busy.
    position : In(16)
        Taken with `start`.
    valid : Out(1)
        There is a pair.
    pair : Out
        Its number.
    cosine, sine : Out(signed(16))
        With 14 fractional bits.
    """

    latency = 7

    def __init__(self, steps: Sequence[int]) -> None:
        assert steps and all(0 <= step < 1 << PHASE_BITS for step in steps)
        self.steps, self.pairs = tuple(steps), len(steps)
        super().__init__(
            {
                "start": In(1),
                "position": In(POSITION_BITS),
                "valid": Out(1),
                "pair": Out(range(max(2, self.pairs))),
                "cosine": Out(signed(WAVE_BITS)),
                "sine": Out(signed(WAVE_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the counter, the phase and the table."""
        m = Module()
        delay = Delays(m)
        busy, pair, position = Signal(), Signal.like(self.pair), Signal(POSITION_BITS)
        m.d.sync += pair.eq(pair + 1)
        with m.If(self.start):
            m.d.sync += [busy.eq(1), pair.eq(0), position.eq(self.position)]
        with m.Elif(pair == self.pairs - 1):
            m.d.sync += busy.eq(0)

        step = Signal(PHASE_BITS, reset_less=True)
        m.d.sync += step.eq(Array(Const(value, PHASE_BITS) for value in self.steps)[pair])
        factor: Value = delay(position, 1)
        half = PHASE_BITS // 2
        lower, upper = Signal(half + POSITION_BITS, reset_less=True), Signal(half, reset_less=True)
        index = Signal(QUARTER_BITS + 2, reset_less=True)
        phase = Signal(half)
        m.d.comb += phase.eq(lower[half:] + upper)
        m.d.sync += [
            lower.eq(step[:half] * factor),
            upper.eq((step[half:] * factor)[:half]),
            index.eq(phase[-len(index) :]),
        ]

        m.submodules.quarter = memory = Memory(shape=WAVE_BITS - 1, depth=len(QUARTER), init=QUARTER)
        waves = []
        for name, address in (("rising", index[:QUARTER_BITS]), ("falling", ~index[:QUARTER_BITS])):
            port = memory.read_port(domain="comb")
            read, wave = (Signal(WAVE_BITS - 1, name=f"{name}_{n}", reset_less=True) for n in ("read", "wave"))
            m.d.comb += port.addr.eq(address)
            m.d.sync += [read.eq(port.data), wave.eq(read)]
            waves.append(wave)
        rising, falling = waves
        quadrant = Signal(2)
        m.d.comb += quadrant.eq(index[QUARTER_BITS:])
        odd, minus = delay(quadrant, 2)[0], delay(quadrant, 2)[1]
        cosine, sine = (Signal(signed(WAVE_BITS), name=name, reset_less=True) for name in ("cosine_", "sine_"))
        height, breadth = Mux(odd, falling, rising), Mux(odd, rising, falling)
        m.d.sync += [
            sine.eq(Mux(minus, -height, height)),
            cosine.eq(Mux(minus ^ odd, -breadth, breadth)),
        ]
        m.d.comb += [
            self.valid.eq(delay(busy, 6)),
            self.pair.eq(delay(pair, 6)),
            self.cosine.eq(cosine),
            self.sine.eq(sine),
        ]
        return m
