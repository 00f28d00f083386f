"""Softmax weights in powers of two: a table of 256 entries and a shift, as docs/numerics.md defines them.

    weight = E[distance mod 256] >> (distance div 256),   E[i] = round_half_even(2^15 * 2^(-i / 256))

With base-2 scores the exponential is exact but for the table, where TeLLMe v2 (arXiv 2510.15926) computes it in
floating point and rescales what it has summed whenever the maximum grows.
"""

from math import isqrt

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

__all__ = ["EXP2", "WEIGHT_BITS", "Exp2Negative"]

FRACTION_BITS = 8
"""Fractional bits of a distance."""

WEIGHT_BITS = 16
"""A weight is at most 2^15, that of the largest score."""


def _entry(i: int) -> int:
    """Return the entry: eight nested roots give `2^(31 - i / 256)` rounded down, which 16 bits less round."""
    root = 1 << 256 * 31 - i
    for _ in range(FRACTION_BITS):
        root = isqrt(root)
    return (root + (1 << 15)) >> 16


EXP2 = tuple(_entry(i) for i in range(1 << FRACTION_BITS))
"""The table E."""


class Exp2Negative(Component):
    """The weight of a score, two cycles after its distance to the largest one.

    Parameters
    ----------
    distance_bits : int
        Width of a distance, more than 8.

    Members
    -------
    distance : In(distance_bits)
        Unsigned, 8 fractional bits; one a cycle.
    weight : Out(16)
    """

    LATENCY = 2

    def __init__(self, distance_bits: int = 20) -> None:
        if distance_bits <= FRACTION_BITS:
            raise ValueError(f"distance_bits is {distance_bits}; allowed: {FRACTION_BITS + 1} or more")
        super().__init__({"distance": In(distance_bits), "weight": Out(WEIGHT_BITS)})

    def elaborate(self, platform: object) -> Module:
        """Look up, then shift."""
        m = Module()
        m.submodules.table = table = Memory(shape=WEIGHT_BITS, depth=len(EXP2), init=EXP2)
        read = table.read_port(domain="comb")
        whole = self.distance[FRACTION_BITS:]
        entry = Signal(WEIGHT_BITS, reset_less=True)
        shift, far = Signal(4, reset_less=True), Signal(reset_less=True)
        weight = Signal(WEIGHT_BITS, reset_less=True)
        m.d.comb += [read.addr.eq(self.distance[:FRACTION_BITS]), self.weight.eq(weight)]
        m.d.sync += [
            entry.eq(read.data),
            shift.eq(whole),
            far.eq(whole[4:].any()),
            weight.eq(Mux(far, 0, entry >> shift)),
        ]
        return m
