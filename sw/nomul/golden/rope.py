"""Rotary position embedding on integers, from one quarter wave of sine and a 32-bit phase for each pair.

The angle of pair `i` at position `p` is `p * step_i` in units of 2^-32 turns. The upper 12 bits of this phase choose
one of 4096 intervals, whose middle stands for it, so that a quarter wave of 1024 values serves all of sine and cosine
without a special value at 0 or at the quarter. The angle is wrong by half an interval at most, 2^-10.3.
"""

import math

import torch
from torch import Tensor

from nomul.golden.rounding import shift_round

PHASE_BITS = 32
QUARTER_BITS = 10
AMPLITUDE_BITS = 14
FRACTION_BITS = 4
"""Bits below the unit of the input that the rotated vector keeps."""

QUARTER = torch.tensor(
    [
        round(2**AMPLITUDE_BITS * math.sin((i + 0.5) * math.pi / 2 ** (QUARTER_BITS + 1)))
        for i in range(1 << QUARTER_BITS)
    ]
)
"""`round(2^14 sin((i + 1/2) pi / 2048))` for i = 0..1023; the definition of sine and cosine here."""


def phase_steps(frequencies: Tensor) -> Tensor:
    """Return the phase of one position for each pair, int64 `[head_dim / 2]`, from its radians, float64.

    `round(2^32 * frequency / (2 pi))`: parameters of a model, computed before any token.
    """
    return torch.tensor([round(2**PHASE_BITS * frequency / math.tau) for frequency in frequencies.tolist()])


def cos_sin(positions: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine with 14 fractional bits, int64 `[tokens, pairs]`, for positions `[tokens]`.

    The phase is `position * step mod 2^32`; its top two bits are the quadrant, the ten below them the index. The error
    against float64 is below 2^-10 up to position 4096: half an interval of angles, and half a unit of the table.
    """
    phase = (positions[:, None] * steps) & ((1 << PHASE_BITS) - 1)
    index = phase >> (PHASE_BITS - 2 - QUARTER_BITS)
    last = (1 << QUARTER_BITS) - 1
    low = index & last
    quadrant = index >> QUARTER_BITS
    rising, falling = QUARTER[low], QUARTER[last - low]
    sine = torch.where(quadrant & 1 == 0, rising, falling)
    cosine = torch.where(quadrant & 1 == 0, falling, rising)
    return (
        torch.where((quadrant == 1) | (quadrant == 2), -cosine, cosine),
        torch.where(quadrant >= 2, -sine, sine),
    )


def rotate(values: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate pairs `(v[i], v[i + n/2])` of the last axis; the result has 4 more fractional bits.

    `values` is int64 `[..., n]`, `|v| < 2^24`; cosine and sine `[..., n/2]` broadcast.
    `low' = round_half_even((low cos - high sin) / 2^10)`, `high' = round_half_even((high cos + low sin) / 2^10)`.
    Magnitudes grow by at most `sqrt(2) * 16`.
    """
    low, high = values.chunk(2, -1)
    drop = AMPLITUDE_BITS - FRACTION_BITS
    return torch.cat((shift_round(low * cosine - high * sine, drop), shift_round(high * cosine + low * sine, drop)), -1)
