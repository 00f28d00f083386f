"""Real scales as a normalised mantissa and an exponent, and the few operations on them.

A scale is `mantissa * 2^exponent` with a mantissa of 16 bits, `2^15 <= mantissa < 2^16`, or 0 with exponent 0.
Scales are never negative. Each operation rounds once, as its docstring says; one sequential unit can do them all,
since a token needs a few of them for each vector, not for each element.
"""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from nomul.golden.rounding import bit_length, shift_round, square_root

MANTISSA_BITS = 16
EXPONENT_BITS = 10
"""Exponents are -512..511; leaving that range is an error, not a wrap."""

_ONE = 1 << MANTISSA_BITS
_WIDE = 62


@dataclass(frozen=True, eq=False)
class Scale:
    """Scales of any shape: int64 mantissas and int64 exponents of that shape."""

    mantissa: Tensor
    exponent: Tensor

    def __post_init__(self) -> None:
        low, high = self.exponent.aminmax()
        if int(low) < -(1 << (EXPONENT_BITS - 1)) or int(high) >= 1 << (EXPONENT_BITS - 1):
            raise OverflowError(
                f"a scale's exponent is {int(low)} or {int(high)}; {EXPONENT_BITS} bits hold -512 to 511"
            )

    def to_float(self) -> Tensor:
        """Return the values as float64, for measurements only."""
        return self.mantissa.double() * torch.pow(2.0, self.exponent.double())

    def unsqueeze(self, axis: int) -> "Scale":
        """Add an axis of length 1, so that one scale serves a vector of elements."""
        return Scale(self.mantissa.unsqueeze(axis), self.exponent.unsqueeze(axis))


def constant(value: float | Fraction) -> Scale:
    """Return the scale nearest to a value that is known before any token is: `round_half_even` to 16 bits.

    For parameters of a model. Raises `ValueError` for a negative value.
    """
    exact = Fraction(value)
    if exact < 0:
        raise ValueError(f"a scale is {value}; it must not be negative")
    if not exact:
        return Scale(torch.tensor(0), torch.tensor(0))
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length() - MANTISSA_BITS
    mantissa = round(exact / Fraction(2) ** exponent)
    while mantissa >= _ONE:
        exponent += 1
        mantissa = round(exact / Fraction(2) ** exponent)
    return Scale(torch.tensor(mantissa), torch.tensor(exponent))


def normalise(value: Tensor, exponent: Tensor | int = 0) -> Scale:
    """Return `value * 2^exponent` as a scale, for integers `0 <= value < 2^62`.

    With `k = bit_length(value) - 16`: the mantissa is `value * 2^-k` if `k <= 0`, else `round_half_even(value / 2^k)`;
    a mantissa that rounds up to 2^16 becomes 2^15 and the exponent one more.
    """
    length = bit_length(value)
    mantissa = shift_round(value << (_WIDE - length), _WIDE - MANTISSA_BITS)
    over = mantissa >> MANTISSA_BITS
    return Scale(mantissa >> over, (exponent + (length - MANTISSA_BITS) + over) * (length > 0))


def multiply(a: Scale, b: Scale) -> Scale:
    """Return the product: the exact 32-bit product of mantissas, normalised."""
    return normalise(a.mantissa * b.mantissa, a.exponent + b.exponent)


def divide(a: Scale, b: Scale) -> Scale:
    """Return the quotient: `floor(a.mantissa * 2^17 / b.mantissa)`, 17 or 18 bits, normalised. `b` is not 0."""
    quotient = torch.div(a.mantissa << (MANTISSA_BITS + 1), b.mantissa, rounding_mode="trunc")
    return normalise(quotient, a.exponent - b.exponent - (MANTISSA_BITS + 1))


def add(a: Scale, b: Scale) -> Scale:
    """Return the sum: 16 guard bits below the larger exponent, what is below them cut off, then normalised.

    With `e` the larger exponent: `floor(a.mantissa * 2^(16 + a.exponent - e)) + floor(b.mantissa * ...)`.
    """
    # A zero has exponent 0 by definition, which must not make it the larger one.
    floor = -(1 << EXPONENT_BITS)
    ea = torch.where(a.mantissa == 0, floor, a.exponent)
    eb = torch.where(b.mantissa == 0, floor, b.exponent)
    top = torch.maximum(ea, eb)
    total = ((a.mantissa << MANTISSA_BITS) >> (top - ea).clamp(max=63)) + (
        (b.mantissa << MANTISSA_BITS) >> (top - eb).clamp(max=63)
    )
    return normalise(total, torch.where(total == 0, 0, top - MANTISSA_BITS))


def rsqrt(a: Scale) -> Scale:
    """Return `1 / sqrt(a)`, and 0 for 0.

    With `m = mantissa`, `e = exponent`, or `m = 2 mantissa`, `e = exponent - 1` where the exponent is odd:
    `floor(sqrt(floor(2^48 / m)))`, 16 or 17 bits, times `2^(-24 - e / 2)`, normalised. Nesting the floors changes
    nothing: the result is `floor(sqrt(2^48 / m))`. The relative error is below 2^-15.
    """
    odd = a.exponent & 1
    mantissa = a.mantissa << odd
    root = square_root(
        torch.div(torch.tensor(1 << 48), mantissa.clamp(min=1), rounding_mode="trunc").clamp(max=1 << 39)
    )
    return normalise(torch.where(a.mantissa == 0, 0, root), -24 - (a.exponent - odd) // 2)
