"""The scale unit: one operation at a time on the scales of vectors, exactly as docs/numerics.md defines them.

    scale = mantissa * 2^exponent,   2^15 <= mantissa < 2^16,   or mantissa = exponent = 0

=========  =====================================================================================================
NORMALISE  `integer` as a scale
MULTIPLY   a * b
DIVIDE     a / b; b is not 0
ADD        a + b
RSQRT      1 / sqrt(a), and 0 for 0
FIX        the word min(round_half_even(integer * a), 65535)
=========  =====================================================================================================

All of them end in one place: an integer in a shift register of 62 bits, which moves to the left by 8 or by 1 a cycle,
and whose upper 16 bits are then rounded by those below. For a scale it moves until its highest bit is at the top, for
`FIX` a known distance, and what leaves at the top saturates the word; the smaller operand of a sum is aligned in the
same way. A quotient comes in at the bottom of the register while it moves, a bit a cycle, from a restoring recurrence,

    X <- 2 (X - d if X >= d, else X),   quotient bit (X >= d)

and the square root takes the quotient's bits from it again, with the root itself as divisor, in two cycles a digit:
d = 4 root + 1, X <- 2 (X - d or X) + bit, then X <- 2 X + bit. Both share one subtraction of 20 bits. The only
multiplier is that of 27 by 16 bits, with a register before and behind it.

Cycle schedule: operands are taken with `start`; `done` comes so many cycles later, with p shifts, at most
13, and q to align:

    NORMALISE 5 + p,  MULTIPLY 6 + p,  FIX 6 + p,  ADD 7 + p + q,  DIVIDE 23 + p,  RSQRT 75 + p
"""

import enum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

__all__ = ["FIX_BITS", "SCALE", "Operation", "ScaleUnit"]

MANTISSA_BITS = 16

SCALE = data.StructLayout({"mantissa": MANTISSA_BITS, "exponent": signed(10)})
"""A scale: `mantissa * 2^exponent`."""

WIDE = 62
"""Bits of the shift register."""

POINT = WIDE - MANTISSA_BITS
"""Place of the result's lowest bit in it."""

FIX_BITS = 27
"""Width of the integer that `FIX` takes."""

REMAINDER_BITS = 20
QUOTIENT_STEPS = 18
RSQRT_STEPS = 34
ROOT_STEPS = 35


class Operation(enum.Enum):
    """What the unit does; the module documents each."""

    NORMALISE = 0
    MULTIPLY = 1
    DIVIDE = 2
    ADD = 3
    RSQRT = 4
    FIX = 5


class ScaleUnit(Component):
    """The unit.

    Exponents that leave -512 to 511 wrap; the golden model refuses them.

    Parameters
    ----------
    integer_bits : int
        Width of the integer of `NORMALISE`, 1 to 62. `FIX` uses its lower 27 bits.

    Members
    -------
    start : In(1)
        Take the operands; ignored while the unit is busy. It may come with `done`.
    operation : In(Operation)
    a, b : In(SCALE)
        Zero or normalised.
    integer : In(integer_bits)
    done : Out(1)
        One cycle: the result is there.
    result : Out(SCALE)
        Stays until the next is there. Undefined after `FIX`.
    word : Out(16)
        The result of `FIX`, as long.
    """

    def __init__(self, integer_bits: int) -> None:
        assert 1 <= integer_bits <= WIDE
        self.integer_bits = integer_bits
        super().__init__(
            {
                "start": In(1),
                "operation": In(Operation),
                "a": In(SCALE),
                "b": In(SCALE),
                "integer": In(integer_bits),
                "done": Out(1),
                "result": Out(SCALE),
                "word": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the shift register, the recurrence and their sequence."""
        m = Module()
        operation = Signal(Operation)
        factor, mantissa = Signal(FIX_BITS, reset_less=True), Signal(MANTISSA_BITS, reset_less=True)
        product = Signal(FIX_BITS + MANTISSA_BITS, reset_less=True)
        ea, eb = Signal(signed(10), reset_less=True), Signal(signed(10), reset_less=True)
        difference = Signal(signed(11), reset_less=True)
        work = Signal(WIDE, reset_less=True)
        lost = Signal(reset_less=True)
        # The divisor is also the root, the larger operand of a sum, and the rounded mantissa.
        divisor, remainder = Signal(17, reset_less=True), Signal(REMAINDER_BITS, reset_less=True)
        exponent, count = Signal(signed(12), reset_less=True), Signal(signed(12), reset_less=True)
        steps = Signal(6, reset_less=True)
        m.d.sync += [product.eq(factor * mantissa), self.done.eq(0)]
        m.d.comb += self.word.eq(self.result.mantissa)

        empty, high = Signal(), Signal()
        m.d.comb += [empty.eq(work == 0), high.eq(work[-8:].any())]
        rooting = Signal()
        subtrahend, trial = Signal(REMAINDER_BITS), Signal(REMAINDER_BITS + 1)
        m.d.comb += [
            subtrahend.eq(Mux(rooting, Cat(Const(1, 2), divisor), divisor)),
            trial.eq(remainder - subtrahend),
        ]
        digit = ~trial[-1]
        rest = Mux(digit, trial[:REMAINDER_BITS], remainder)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    operation.eq(self.operation),
                    factor.eq(Mux(self.operation == Operation.FIX, self.integer[:FIX_BITS], self.b.mantissa)),
                    mantissa.eq(self.a.mantissa),
                    ea.eq(self.a.exponent),
                    eb.eq(self.b.exponent),
                    difference.eq(self.a.exponent - self.b.exponent),
                ]
                with m.If(self.start):
                    m.d.sync += [work.eq(self.integer), exponent.eq(POINT), lost.eq(0)]
                    m.next = "PREPARE"
            with m.State("PREPARE"), m.Switch(operation):
                with m.Case(Operation.NORMALISE):
                    m.next = "NORMALISE"
                with m.Case(Operation.MULTIPLY):
                    m.d.sync += exponent.eq(ea + eb + POINT)
                    m.next = "PRODUCT"
                with m.Case(Operation.FIX):
                    m.d.sync += count.eq(ea + POINT)
                    m.next = "PRODUCT"
                with m.Case(Operation.ADD):
                    other = factor[:MANTISSA_BITS]
                    swap = Signal()
                    m.d.comb += swap.eq(~mantissa[-1] | (other[-1] & (difference < 0)))
                    # The smaller operand, with 16 guard bits, is to stand above bit 16.
                    m.d.sync += [
                        work.eq(Mux(swap, mantissa, other)),
                        divisor.eq(Mux(swap, other, mantissa)),
                        exponent.eq(Mux(swap, eb, ea) + (POINT - 2 * MANTISSA_BITS)),
                        count.eq(2 * MANTISSA_BITS + Mux(swap, difference, ~difference) + ~swap),
                    ]
                    m.next = "ALIGN"
                with m.Case(Operation.DIVIDE):
                    m.d.sync += [
                        remainder.eq(mantissa),
                        divisor.eq(factor[:MANTISSA_BITS]),
                        work.eq(0),
                        steps.eq(QUOTIENT_STEPS),
                        exponent.eq(difference + (POINT - 17)),
                    ]
                    m.next = "DIVIDE"
                with m.Default():
                    m.d.sync += [
                        remainder.eq(1 << 15),
                        divisor.eq(Mux(ea[0], mantissa << 1, mantissa)),
                        work.eq(0),
                        steps.eq(RSQRT_STEPS),
                        exponent.eq((POINT - 24) - (ea >> 1)),
                    ]
                    m.next = "DIVIDE"
                    with m.If(~mantissa[-1]):
                        m.next = "NORMALISE"
            with m.State("PRODUCT"):
                m.d.sync += work.eq(product)
                m.next = "NORMALISE"
                with m.If(operation == Operation.FIX):
                    m.next = "ALIGN"
            with m.State("DIVIDE"):
                m.d.sync += [
                    remainder.eq(Cat(Const(0, 1), rest)),
                    work.eq(Cat(digit, work)),
                    steps.eq(steps - 1),
                ]
                with m.If(steps == 1):
                    m.d.sync += [remainder.eq(0), divisor.eq(0), steps.eq(ROOT_STEPS)]
                    m.next = "ROOT"
                    with m.If(operation == Operation.DIVIDE):
                        m.next = "NORMALISE"
            with m.State("ROOT"):
                m.d.comb += rooting.eq(1)
                bit = work[RSQRT_STEPS - 1]
                m.d.sync += [work.eq(Cat(digit, work)), steps.eq(steps - 1), remainder.eq(Cat(bit, remainder))]
                with m.If(steps[0]):
                    m.d.sync += [remainder.eq(Cat(bit, rest)), divisor.eq(Cat(digit, divisor))]
                with m.If(steps == 1):
                    m.next = "ROOTED"
            with m.State("ROOTED"):
                m.d.sync += work.eq(divisor)
                m.next = "NORMALISE"
            with m.State("ALIGN"):
                with m.If(empty | (count <= 0)):
                    m.next = "ROUND"
                    with m.If(operation == Operation.ADD):
                        m.next = "SUM"
                with m.Elif(count >= 8):
                    m.d.sync += [work.eq(work << 8), count.eq(count - 8), lost.eq(lost | high)]
                with m.Else():
                    m.d.sync += [work.eq(work << 1), count.eq(count - 1), lost.eq(lost | work[-1])]
            with m.State("SUM"):
                upper = work[32:48] + divisor[:MANTISSA_BITS]
                m.d.sync += work.eq(Cat(Const(0, 16), work[16:32], upper))
                m.next = "NORMALISE"
            with m.State("NORMALISE"):
                with m.If(empty | work[-1]):
                    m.next = "ROUND"
                with m.Elif(high):
                    m.d.sync += [work.eq(work << 1), exponent.eq(exponent - 1)]
                with m.Else():
                    m.d.sync += [work.eq(work << 8), exponent.eq(exponent - 8)]
            with m.State("ROUND"):
                up = work[POINT - 1] & (work[: POINT - 1].any() | work[POINT])
                m.d.sync += divisor.eq(work[POINT:] + up)
                m.next = "FINISH"
            with m.State("FINISH"):
                over: Value = divisor[MANTISSA_BITS]
                m.d.sync += [
                    self.done.eq(1),
                    self.result.mantissa.eq(Cat(divisor[: MANTISSA_BITS - 1], divisor[MANTISSA_BITS - 1] | over)),
                    self.result.exponent.eq(Mux(divisor == 0, 0, exponent + over)),
                ]
                with m.If((operation == Operation.FIX) & (lost | over)):
                    m.d.sync += self.result.mantissa.eq((1 << MANTISSA_BITS) - 1)
                m.next = "IDLE"
        return m
