"""Rounding and widths: the integer primitives that every golden operator is stated in.

All functions work on int64 tensors, element by element, with no floating point. `round_half_even` of an exact
rational is the nearest integer, and the even one of two that are equally near.
"""

import torch
from torch import Tensor

_ONE = torch.tensor(1)
_POWERS = 2 ** torch.arange(63, dtype=torch.int64)


def bit_length(value: Tensor) -> Tensor:
    """Return the number of bits of non-negative integers: 0 for 0, `k` for `2^(k-1) <= value < 2^k`."""
    return torch.bucketize(value, _POWERS, right=True)


def shift_round(value: Tensor, shift: Tensor | int) -> Tensor:
    """Return `round_half_even(value / 2^shift)`; a negative shift multiplies, exactly.

    `|value| <= 2^62`, and so is `|value * 2^-shift|` where the shift is negative. A shift above 62 gives 0.
    """
    if isinstance(shift, int):
        if not 0 < shift < 63:
            return value << -shift if shift <= 0 else torch.zeros_like(value)
        # Half a unit less one, plus one if the quotient is odd: the sum carries above a half, and at a half if odd.
        return (value + ((value >> shift) & 1) + ((1 << (shift - 1)) - 1)) >> shift
    right = shift.clamp(0, 63)
    half = (_ONE << (right - 1).clamp(min=0)) - 1
    rounded = (value + half + ((value >> right) & (right > 0))) >> right
    return rounded << (-shift).clamp(min=0)


def divide_round(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return `round_half_even(numerator / denominator)` for any numerator and a positive denominator.

    `2 |numerator| < 2^63`.
    """
    magnitude = numerator.abs()
    quotient = torch.div(magnitude, denominator, rounding_mode="trunc")
    twice = 2 * (magnitude - quotient * denominator)
    up = (twice > denominator) | ((twice == denominator) & (quotient & 1 == 1))
    return torch.sign(numerator) * (quotient + up)


def square_root(value: Tensor) -> Tensor:
    """Return `floor(sqrt(value))` of non-negative integers below 2^40."""
    # Newton's steps from above: the first guess is less than twice too large, so five of them come within one.
    root = torch.ones_like(value) << ((bit_length(value) + 1) >> 1)
    for _ in range(5):
        root = (root + torch.div(value, root.clamp(min=1), rounding_mode="trunc")) >> 1
    return root - (root * root > value).long()


def saturate(value: Tensor, bits: int) -> Tensor:
    """Clamp to the symmetric range of a signed word: `-(2^(bits-1) - 1)` to `2^(bits-1) - 1`."""
    limit = (1 << (bits - 1)) - 1
    return value.clamp(-limit, limit)
