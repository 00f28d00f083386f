"""Radix-4 digits and their products.

For standard cells:

A code of two bits, low bit l and high bit h, is the digit l - 2h. Four such digits make a number of eight bits,

    sum_j 4^j d_j = number - OFFSET,    OFFSET = 2 * (1 + 4 + 16) = 42

when h is the complement of the number's bit in the three lower digits and the bit itself in the highest. Against
Booth's overlapping digits (-2 to 2) a digit takes one and-or-invert a bit, without an exclusive or and without an
encoder, and a constant times the other factor has to be added.

A product d * x is nine bits for x of eight: x, its complement, the complement of 2x, or ones. So it is one too small
unless d is 1. The highest bit is inverted, which adds 2^8: bits that are added up then need no sign extension. Bit 0
has no 2x to choose and bit 8 only a sign: both are AOI22, the seven others AOI222.

Elsewhere a product is one addition of x and 2x, each taken or not, and exact (`digit_term`). It also takes the digits
0, 1, 2, 3, of which the lower digits of a number in two's complement are made. On ECP5 the gates are inside the carry
cells, if the sign is a constant (`digit_chain`): 11 look-up tables for a number of eight bits in place of 20.
"""

import dataclasses

from amaranth.hdl import Cat, Const, Module, Mux, Value

from nomul.arith import lattice
from nomul.arith.cells import and_or_invert22, and_or_invert222

__all__ = ["DIGITS", "OFFSET", "PRODUCT_BITS", "Digit", "digit_chain", "digit_product", "digit_term", "number_digits"]

DIGITS = 4
"""Digits of a number of eight bits."""

OFFSET = 42
"""What a number exceeds its digits' sum by."""

PRODUCT_BITS = 9
"""Bits of a digit times a number of eight bits."""


@dataclasses.dataclass(frozen=True)
class Digit:
    """The lines of a digit: +1, -1, -2, and below zero."""

    plus: Value
    minus: Value
    twice: Value
    negative: Value

    @classmethod
    def decode(cls, low: Value, high: Value) -> "Digit":
        """Return the lines of a code."""
        return cls(low & ~high, low & high, ~low & high, high)


def number_digits(number: Value) -> list[tuple[Value, Value]]:
    """Return the codes, low and high bit, of a number's four digits, lowest first."""
    pairs = [(number[2 * index], number[2 * index + 1]) for index in range(DIGITS)]
    return [(low, ~high) for low, high in pairs[:-1]] + pairs[-1:]


def digit_product(m: Module, name: str, digit: Digit, number: Value) -> list[Value]:
    """Return the bits of digit * number - (digit is not 1) + 2^8, without a sign."""
    bits, top = list(number), len(number)
    product = [and_or_invert22(m, f"{name}_0", digit.plus, ~bits[0], digit.minus, bits[0])]
    for index in range(1, top):
        lines = (digit.plus, ~bits[index], digit.minus, bits[index], digit.twice, bits[index - 1])
        product.append(and_or_invert222(m, f"{name}_{index}", *lines))
    sign = bits[-1]
    product.append(and_or_invert22(m, f"{name}_{top}", ~digit.negative, sign, ~digit.plus, ~sign))
    return product


def digit_term(code: Value, number: Value, negative: Value) -> Value:
    """Return (low bit of the code) * number + 2 * (high bit) * number, the latter subtracted if `negative`; signed."""
    one, two = Mux(code[0], number, 0), Mux(code[1], number << 1, 0)
    flipped = two ^ negative.replicate(len(two)).as_signed()
    # The lowest column makes the carry-in.
    return (Cat(Const(1, 1), one).as_signed() + Cat(negative, flipped).as_signed()) >> 1


def digit_chain(m: Module, name: str, code: Value, number: Value, *, negative: bool) -> Value:
    """Build the ECP5 form of `digit_term`, or with `negative` of its complement; return it, signed."""
    low, high = code[0], code[1]
    first = number[0] & low
    rest = lattice.add_gated(m, name, number[1:], low, number, high, len(number) + 1, complemented=negative)
    return Cat(~first if negative else first, rest).as_signed()
