"""binary16 numbers that share an exponent: each becomes an integer, on a grid that the largest of them sets.

With E the largest exponent field among numbers, at least 1, and s = `significand` bits, a number a becomes

    round_half_even(a * 2^(14 + s - E))

which has s bits and a sign. Subnormals have the exponent of field 1. Infinities and NaN must come as zero.
"""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from nomul.arith.shift import shift_right

__all__ = ["SIDE_BITS", "align", "exponent_field", "greatest", "shared_side", "unpack"]

SIDE_BITS = 6
"""An exponent that numbers share, and above it the flag that one of them is infinite or NaN."""


def exponent_field(word: Value) -> Value:
    """Return the exponent field of a binary16 word; all ones are an infinity or NaN."""
    return word[10:15]


def greatest(values: Sequence[Value]) -> Value:
    """Return the largest of unsigned values, by a tree of comparisons."""
    left = list(values)
    while len(left) > 1:
        pairs = zip(left[::2], left[1::2], strict=False)
        left = [Mux(a > b, a, b) for a, b in pairs] + left[len(left) & ~1 :]
    return left[0]


def shared_side(largest: Value, special: Value) -> Value:
    """Return E of the largest exponent field, and above it the flag."""
    return Cat(largest[0] | ~largest.any(), largest[1:], special)


def unpack(word: Value, largest: Value) -> tuple[Value, Value, Value]:
    """Return the significand (11 bits), how far E = `largest` is above its exponent, and the sign of a finite word."""
    field = exponent_field(word)
    normal = field.any()
    return Cat(word[:10], normal), (largest - Cat(field[0] | ~normal, field[1:]))[:5], word[15]


def align(m: Module, name: str, unpacked: tuple[Value, Value, Value], width: int) -> Value:
    """Return the integer, two's complement of `width` + 1 bits, of what `unpack` returns; `width` is 11 or more."""
    significand, distance, sign = unpacked
    shifted = shift_right(m, f"lane{name}", Cat(Const(0, width - 11 + 2), significand), distance)
    magnitude = shifted[2:]
    up = shifted[1] & (shifted[0] | magnitude[0])
    # -(magnitude + up) is the complement of magnitude and 1 - up.
    value = Signal(width + 2, name=f"value{name}")
    whole = Cat(magnitude, Const(0, 1)) ^ sign.replicate(width + 1)
    m.d.comb += value.eq(Cat(Const(1, 1), whole) + Cat(sign ^ up, Const(0, width)))
    return value[1:]
