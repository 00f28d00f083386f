"""Reference of `nomul.engines.fp16_fma`: exact sums of products, rounded half to even to 24 significant bits after
each.

Every number is an integer of 2^-48, so nothing here is floating point.
"""

import torch
from torch import Tensor

__all__ = ["NAN", "fused_sum", "matmul", "units"]

NAN, INFINITY, SIGN = 0x7FC00000, 0x7F800000, 1 << 31
BITS, LEAST = 24, -48


def units(word: int) -> int:
    """Return a finite binary16 word (0 to 65535) as an integer of 2^-24."""
    field, fraction = word >> 10 & 31, word & 1023
    magnitude = fraction if field == 0 else (fraction | 1024) << (field - 1)
    return -magnitude if word >> 15 else magnitude


def _round(value: int) -> int:
    """Return the nearest integer of 24 significant bits, the even one of two."""
    extra = abs(value).bit_length() - BITS
    if extra <= 0:
        return value
    kept, rest, half = abs(value) >> extra, abs(value) & ((1 << extra) - 1), 1 << (extra - 1)
    kept += rest > half or (rest == half and kept & 1)
    return (kept << extra) * (1 if value > 0 else -1)


def _pattern(value: int) -> int:
    """Return an integer of 2^-48 with at most 24 significant bits as a binary32 word."""
    if value == 0:
        return 0
    magnitude = abs(value)
    length = magnitude.bit_length()
    significand = magnitude << BITS - length if length <= BITS else magnitude >> length - BITS
    field = length - 1 + LEAST + 127
    return (SIGN if value < 0 else 0) | field << 23 | (significand & ((1 << 23) - 1))


def fused_sum(activations: list[int], weights: list[int]) -> int:
    """Return the binary32 word that an element ends with; operands are binary16 words, 0 to 65535."""
    total, infinities, nan = 0, set(), False
    for a, w in zip(activations, weights, strict=True):
        sizes = (a & 0x7FFF, w & 0x7FFF)
        if max(sizes) > 0x7C00 or (max(sizes) == 0x7C00 and min(sizes) == 0):
            nan = True
        elif max(sizes) == 0x7C00:
            infinities.add((a ^ w) >> 15)
        else:
            total = _round(total + units(a) * units(w))
    if nan or len(infinities) == 2:
        return NAN
    if infinities:
        return INFINITY | (SIGN if infinities == {1} else 0)
    return _pattern(total)


def matmul(weight: Tensor, activations: Tensor) -> Tensor:
    """Return y of every token.

    Parameters
    ----------
    weight : Tensor
        Bit patterns of binary16 as integers of 16 bits, [n_out, n_in].
    activations : Tensor
        The same, [tokens, n_in].

    Returns
    -------
    Tensor
        Bit patterns of binary32 as two's complement numbers, int64 [tokens, n_out].
    """
    rows, vectors = (weight.long() & 0xFFFF).tolist(), (activations.long() & 0xFFFF).tolist()
    words = torch.tensor([[fused_sum(vector, row) for row in rows] for vector in vectors])
    return (words ^ SIGN) - SIGN
