"""The requantiser: an integer times a scale, as a word in fixed point."""

import torch
from torch import Tensor

from nomul.golden.rounding import saturate, shift_round
from nomul.golden.scale import Scale

WORD_BITS = 20
"""Width of a word: residual stream, attention output, gated hidden vector, scores. Signed and symmetric."""

PRODUCT_BITS = 61
"""The most magnitude bits of `value * mantissa`."""


def requantise(value: Tensor, scale: Scale, bits: int = WORD_BITS) -> Tensor:
    """Return `saturate(round_half_even(value * scale), bits)`: one multiplication and one shift.

    `|value| < 2^45`, int64; the scale broadcasts over it. Saturation is to `-(2^(bits-1) - 1) .. 2^(bits-1) - 1`.
    """
    product = value * scale.mantissa
    if bool((scale.exponent > 0).any()):
        # What saturates before a left shift saturates after it too, and may not wrap on its way there.
        product = torch.where(scale.exponent > 0, saturate(product, bits), product)
    return saturate(shift_round(product, (-scale.exponent).clamp(min=-bits)), bits)


def requantise_unsigned(value: Tensor, scale: Scale, bits: int) -> Tensor:
    """Return `min(round_half_even(value * scale), 2^bits - 1)` for `value >= 0`."""
    return requantise(value, scale, bits + 1)
