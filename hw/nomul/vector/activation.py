"""The gated activations, and the block normalisation of what they make; exact as docs/numerics.md defines them.

===============  ===============================================================  =======================
`Relu2Gate`      product = max(gate, 0)^2 * up                                    exact
`SiluGate`       product = silu(gate) * up                                        exact but for the table
`MagnitudeBits`  shift = max(0, bitlength(max |value|) - 19), over a vector       exact
`BlockShift`     word = sat(rhe(value / 2^shift), 20)                             exact
===============  ===============================================================  =======================

A vector's products wait in a memory while `MagnitudeBits` sees them; then they pass through `BlockShift`.
"""

import math

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from nomul.arith.pipeline import Delays
from nomul.vector.round_shift import RoundShift

__all__ = ["SILU_REST", "BlockShift", "MagnitudeBits", "Relu2Gate", "SiluGate"]

WORD_BITS = 20

PIECE = 17
"""Magnitude bits of a factor that one multiplier of every target takes."""

SILU_FRACTION_BITS = 7
SILU_OUTPUT_BITS = 14
SILU_INDEX_BITS = 10
SILU_REST_BITS = 13

SILU_REST = tuple(
    round(2**SILU_OUTPUT_BITS * (z / 2**SILU_FRACTION_BITS) / (1 + math.exp(z / 2**SILU_FRACTION_BITS)))
    for z in range(1 << SILU_INDEX_BITS)
)
"""What SiLU lacks to x, with 14 fractional bits, for x = z / 128."""

GROUP = 8
"""Bits of a magnitude whose length is found in one cycle."""


class Relu2Gate(Component):
    """Gated squared ReLU.

    Cycle schedule: operands in registers at t + 1; the square t + 2; its products with `up`, one for each `PIECE` bits
    of the square, t + 3; each further piece is added in a cycle more.

    Parameters
    ----------
    lanes : int
        Values in parallel.
    value_bits : int
        Width of gate and up, two's complement, 2 to 21.

    Attributes
    ----------
    latency : int
        Cycles from operands to products: 4 for values of 10 to 18 bits.

    Members
    -------
    gate, up : In(data.ArrayLayout(signed(value_bits), lanes))
    products : Out(data.ArrayLayout(signed(3 * value_bits - 2), lanes))
    """

    def __init__(self, lanes: int, value_bits: int) -> None:
        assert 2 <= value_bits <= 21
        self.lanes, self.value_bits = lanes, value_bits
        operands = data.ArrayLayout(signed(value_bits), lanes)
        super().__init__(
            {
                "gate": In(operands),
                "up": In(operands),
                "products": Out(data.ArrayLayout(signed(3 * value_bits - 2), lanes)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from operands to products."""
        return 2 + -(-(2 * self.value_bits - 2) // PIECE)

    def elaborate(self, platform: object) -> Module:
        """Build the lanes."""
        m = Module()
        delay, width = Delays(m), self.value_bits
        for lane in range(self.lanes):
            positive = Signal(width - 1, name=f"positive{lane}", reset_less=True)
            square = Signal(2 * width - 2, name=f"square{lane}", reset_less=True)
            up = Signal(signed(width), name=f"up{lane}", reset_less=True)
            m.d.sync += [
                positive.eq(Mux(self.gate[lane][-1], 0, self.gate[lane])),
                square.eq(positive * positive),
                up.eq(self.up[lane]),
            ]
            later = delay(up, 1)
            total: Value = Const(0, 0)
            for number, start in enumerate(range(0, len(square), PIECE)):
                piece = square[start : start + PIECE]
                product = Signal(signed(len(piece) + width), name=f"product{lane}_{number}", reset_less=True)
                m.d.sync += product.eq(piece * later)
                if not number:
                    total = product
                    continue
                added = Signal(signed(start + len(piece) + width), name=f"total{lane}_{number}", reset_less=True)
                upper = total[start:].as_signed() + delay(product, number - 1)
                m.d.sync += added.eq(Cat(total[:start], upper).as_signed())
                total = added
            m.d.comb += self.products[lane].eq(total.as_signed())
        return m


class SiluGate(Component):
    """Gated SiLU; one memory serves two lanes through its two ports.

    Cycle schedule: magnitude of the gate at t + 1; the table's word t + 2, and in a register behind the memory t + 3;
    SiLU t + 4; the product t + 5.

    Parameters
    ----------
    lanes : int
        Values in parallel.
    up_bits : int
        Width of up, two's complement.

    Attributes
    ----------
    latency : int
        Cycles from operands to products: 5.

    Members
    -------
    gate : In(data.ArrayLayout(signed(20), lanes))
        Words with 7 fractional bits.
    up : In(data.ArrayLayout(signed(up_bits), lanes))
    products : Out(data.ArrayLayout(signed(26 + up_bits), lanes))
        With 14 fractional bits more than `up`.
    """

    latency = 5

    def __init__(self, lanes: int, up_bits: int) -> None:
        self.lanes, self.up_bits = lanes, up_bits
        super().__init__(
            {
                "gate": In(data.ArrayLayout(signed(WORD_BITS), lanes)),
                "up": In(data.ArrayLayout(signed(up_bits), lanes)),
                "products": Out(data.ArrayLayout(signed(26 + up_bits), lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the lanes and the tables."""
        m = Module()
        delay = Delays(m)
        for lane in range(self.lanes):
            if lane % 2 == 0:
                memory = Memory(shape=SILU_REST_BITS, depth=len(SILU_REST), init=SILU_REST)
                m.submodules[f"table{lane}"] = memory
            gate = self.gate[lane].as_signed()
            magnitude = Signal(WORD_BITS, name=f"magnitude{lane}", reset_less=True)
            positive = Signal(WORD_BITS - 1, name=f"positive{lane}", reset_less=True)
            near, read, rest = (
                Signal(width, name=f"{name}{lane}", reset_less=True)
                for name, width in (("near", 1), ("read", SILU_REST_BITS), ("rest", SILU_REST_BITS))
            )
            silu = Signal(signed(27), name=f"silu{lane}", reset_less=True)
            product = Signal(signed(26 + self.up_bits), name=f"product{lane}", reset_less=True)
            up = Signal(signed(self.up_bits), name=f"up{lane}")
            port = memory.read_port(domain="comb")
            m.d.comb += [
                port.addr.eq(magnitude[:SILU_INDEX_BITS]),
                up.eq(self.up[lane]),
                self.products[lane].eq(product),
            ]
            m.d.sync += [
                magnitude.eq(Mux(gate < 0, -gate, gate)),
                positive.eq(Mux(gate < 0, 0, gate)),
                near.eq(~magnitude[SILU_INDEX_BITS:].any()),
                read.eq(port.data),
                rest.eq(read & near.replicate(SILU_REST_BITS)),
                silu.eq((delay(positive, 2) << (SILU_OUTPUT_BITS - SILU_FRACTION_BITS)) - rest),
                product.eq(silu * delay(up, 4)),
            ]
        return m


class MagnitudeBits(Component):
    """Finds the shift that makes words of a vector.

    The magnitudes of all values are or-ed; the length of that is the length of the largest.

    Cycle schedule: magnitudes of a transfer's values at t + 1; their disjunction t + 2, with those of the vector's
    earlier transfers t + 3; the highest group of bits that is not zero t + 4, the length t + 5, and the shift t + 6.

    Parameters
    ----------
    lanes : int
        Values in parallel.
    value_bits : int
        Width of a value, two's complement.

    Attributes
    ----------
    latency : int
        Cycles from a vector's last transfer to its shift: 6.

    Members
    -------
    values : In(data.ArrayLayout(signed(value_bits), lanes))
    valid : In(1)
        There is a transfer.
    first, last : In(1)
        It begins or ends a vector.
    shift : Out
        `max(0, bitlength(max |value|) - 19)` when `shift_valid` is set; it fits `BlockShift`.
    shift_valid : Out(1)
        One cycle for each vector.
    """

    latency = 6

    def __init__(self, lanes: int, value_bits: int) -> None:
        self.lanes, self.value_bits = lanes, value_bits
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(value_bits), lanes)),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "shift": Out(RoundShift.distance_bits(value_bits)),
                "shift_valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the disjunction and the search for its highest bit."""
        m = Module()
        delay, width = Delays(m), self.value_bits
        magnitudes = [Signal(width, name=f"magnitude{lane}", reset_less=True) for lane in range(self.lanes)]
        for lane, magnitude in enumerate(magnitudes):
            value = self.values[lane].as_signed()
            m.d.sync += magnitude.eq(Mux(value < 0, -value, value))
        some, running = Signal(width, reset_less=True), Signal(width, reset_less=True)
        m.d.sync += some.eq(Cat(Cat(magnitude[bit] for magnitude in magnitudes).any() for bit in range(width)))
        valid, first = delay(self.valid, 2), delay(self.first, 2)
        with m.If(valid):
            m.d.sync += running.eq(some | Mux(first, 0, running))

        # A one below it makes the place of the highest bit the length.
        marked = Cat(Const(1, 1), running)
        groups = [marked[start : start + GROUP] for start in range(0, len(marked), GROUP)]
        place = Signal(range(max(2, len(groups))), reset_less=True)
        group = Signal(GROUP, reset_less=True)
        length, shift = Signal(range(len(marked)), reset_less=True), Signal.like(self.shift, reset_less=True)
        for number, bits in enumerate(groups):
            with m.If(bits.any()):
                m.d.sync += [place.eq(number), group.eq(bits)]
        m.d.sync += [
            length.eq(Cat(_highest(group), place)),
            shift.eq(Mux(length >= WORD_BITS - 1, length - (WORD_BITS - 1), 0)),
        ]
        ends = Signal()
        m.d.comb += [ends.eq(self.valid & self.last), self.shift.eq(shift)]
        m.d.comb += self.shift_valid.eq(delay(ends, self.latency))
        return m


def _highest(bits: Value) -> Value:
    """Return the place of the highest one of 2^k bits."""
    if len(bits) == 1:
        return Const(0, 0)
    low, high = bits[: len(bits) // 2], bits[len(bits) // 2 :]
    return Cat(_highest(Mux(high.any(), high, low)[: len(low)]), high.any())


class BlockShift(Component):
    """Makes words of integers, under one power of two.

    Cycle schedule: that of `nomul.vector.round_shift` after a register at the input.

    Parameters
    ----------
    lanes : int
        Values in parallel.
    value_bits : int
        Width of a value, two's complement.

    Attributes
    ----------
    latency : int
        Cycles from inputs to words: 5.

    Members
    -------
    values : In(data.ArrayLayout(signed(value_bits), lanes))
    shift : In
        For all values of this cycle; as `MagnitudeBits` gives it, but any value will do.
    words : Out(data.ArrayLayout(signed(20), lanes))
        Symmetric.
    """

    latency = 1 + RoundShift.latency

    def __init__(self, lanes: int, value_bits: int) -> None:
        self.lanes, self.value_bits = lanes, value_bits
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(value_bits), lanes)),
                "shift": In(RoundShift.distance_bits(value_bits)),
                "words": Out(data.ArrayLayout(signed(WORD_BITS), lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the lanes."""
        m = Module()
        distance = Signal(len(self.shift), reset_less=True)
        m.d.sync += distance.eq(self.shift)
        for lane in range(self.lanes):
            value = Signal(signed(self.value_bits), name=f"value{lane}", reset_less=True)
            m.submodules[f"shift{lane}"] = shift = RoundShift(self.value_bits, WORD_BITS)
            m.d.sync += value.eq(self.values[lane])
            m.d.comb += [shift.value.eq(value), shift.distance.eq(distance), self.words[lane].eq(shift.word)]
        return m
