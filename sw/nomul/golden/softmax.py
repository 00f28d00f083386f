"""Softmax weights in powers of two, from a table of 256 entries."""

import torch
from torch import Tensor

FRACTION_BITS = 8
"""Fractional bits of a score; scores are base-2 logarithms."""

WEIGHT_BITS = 16
"""A weight is at most 2^15, the weight of the largest score."""

EXP2 = torch.tensor([round(2**15 * 2.0 ** (-i / 2**FRACTION_BITS)) for i in range(1 << FRACTION_BITS)])
"""`round(2^15 * 2^(-i / 256))` for i = 0..255; the definition of the exponential here."""


def exp2_negative(distance: Tensor) -> Tensor:
    """Return `2^15 * 2^(-distance / 256)` by table and shift: `EXP2[distance mod 256] >> (distance div 256)`.

    `distance` is int64 and not negative. The shift cuts off; from 16 on it gives 0. The error against float64 is below
    1.25: what is cut off, and half a unit of the table.
    """
    return EXP2[distance & ((1 << FRACTION_BITS) - 1)] >> (distance >> FRACTION_BITS).clamp(max=31)


def softmax_weights(scores: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return unnormalised weights and their sum over the last axis, largest weight 2^15.

    `scores` is int64 `[..., n]` with 8 fractional bits; `visible` is bool, broadcast over it, with at least one true
    in each row; hidden entries get weight 0. Softmax is `weights / sum`. The sum is at most `n * 2^15`.
    """
    if visible is not None:
        scores = torch.where(visible, scores, torch.iinfo(torch.int64).min >> 2)
    weights = exp2_negative(scores.amax(-1, keepdim=True) - scores)
    return weights, weights.sum(-1)
