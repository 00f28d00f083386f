"""Leading-one prediction of attention scores: `q . k` with keys, or keys and queries, rounded down to powers of two.

After VitaLLM (arXiv 2605.00320) and LAPA (arXiv 2512.07855); VitaLLM does not publish its exact form, so there are two:

    symmetric    s = sum_i LO(q_i) LO(k_i)
    asymmetric   s = sum_i q_i LO(k_i)

with `LO(x) = sign(x) * 2^floor(log2 |x|)` and `LO(0) = 0`. The code of a `bits`-bit number is the length of its
magnitude, 0 for 0, and above it the sign: 4 bits for INT8. The least two's complement value counts as its successor.
"""

import torch
from torch import Tensor

from nomul.golden.rounding import bit_length

PREDICTORS = ("symmetric", "asymmetric")
"""Both operands as powers of two, or keys alone."""


def length_bits(bits: int) -> int:
    """Return the bits of a magnitude's length, 0 to `bits - 1`; a code has one more, the sign."""
    return (bits - 1).bit_length()


def leading_one(values: Tensor, bits: int = 8) -> Tensor:
    """Return the codes of integers of `bits` bits, int64 of the same shape."""
    magnitude = values.long().abs().clamp(max=(1 << (bits - 1)) - 1)
    return bit_length(magnitude) | ((values < 0).long() << length_bits(bits))


def decode(codes: Tensor, bits: int = 8) -> Tensor:
    """Return the number that each code stands for: a signed power of two, or 0."""
    length = codes & ((1 << length_bits(bits)) - 1)
    power = (torch.ones_like(codes) << length) >> 1
    return torch.where(codes >> length_bits(bits) != 0, -power, power)


def predict(queries: Tensor, codes: Tensor, predictor: str, bits: int = 8) -> Tensor:
    """Return predicted scores `[..., n, m]` of queries `[..., n, d]`, integers, against codes of keys `[..., m, d]`."""
    left = decode(leading_one(queries, bits), bits) if predictor == "symmetric" else queries.long()
    # Sums of at most 2^24 are exact in float32, and sixteen times faster than in int64.
    right = decode(codes, bits)
    if queries.shape[-1] << (2 * bits - 3) <= 1 << 24:
        return (left.float() @ right.float().transpose(-1, -2)).long()
    return (left.unsqueeze(-2) * right.unsqueeze(-3)).sum(-1)
