"""The gated activations, and the block normalisation that follows them."""

import math

import torch
from torch import Tensor

from nomul.golden.requantise import WORD_BITS
from nomul.golden.rounding import bit_length, saturate, shift_round

SILU_FRACTION_BITS = 7
"""Fractional bits of the input and of the index of the SiLU table."""

SILU_OUTPUT_BITS = 14
"""Fractional bits of the SiLU table and of its result."""

SILU_REST = torch.tensor(
    [round(2**SILU_OUTPUT_BITS * (x / 2**SILU_FRACTION_BITS) / (1 + math.exp(x / 2**SILU_FRACTION_BITS)))
     for x in range(8 << SILU_FRACTION_BITS)]
)  # fmt: skip
"""`round(2^14 * x / (1 + e^x))` for x = 0, 1/128, ... below 8: what SiLU lacks to x; the definition of SiLU here."""


def relu2_gate(gate: Tensor, up: Tensor) -> Tensor:
    """Return `max(gate, 0)^2 * up`, exact. Inputs of `b` magnitude bits give `3 b`; `b` is at most 20."""
    positive = gate.clamp(min=0)
    return positive * positive * up


def silu(x: Tensor) -> Tensor:
    """Return SiLU of words with 7 fractional bits, as integers with 14 fractional bits.

    `silu(x) = x - rest(x)` for `x >= 0` and `-rest(-x)` below, `rest` from a table of 1024 entries and 0 from 8 on.
    The error against float64 is below 0.0028 (the rest at 8), and at most 2^-15 where `|x| < 8`.
    """
    magnitude = x.abs()
    end = len(SILU_REST)
    rest = torch.where(magnitude < end, SILU_REST[magnitude.clamp(max=end - 1)], 0)
    return (x.clamp(min=0) << (SILU_OUTPUT_BITS - SILU_FRACTION_BITS)) - rest


def silu_gate(gate: Tensor, up: Tensor) -> Tensor:
    """Return `silu(gate) * up` with 14 fractional bits, exact but for the table; `gate` as for `silu`."""
    return silu(gate) * up


def block_normalise(values: Tensor) -> tuple[Tensor, Tensor]:
    """Bring the last axis to words under one power of two: return `saturate(round_half_even(v / 2^k))` and `k`.

    `k = max(0, bit_length(max |v|) - 19)`, `[...]`; inputs are int64 below 2^62. Vectors that fit words are unchanged.
    """
    shift = (bit_length(values.abs().amax(-1)) - (WORD_BITS - 1)).clamp(min=0)
    return saturate(shift_round(values, shift.unsqueeze(-1)), WORD_BITS), shift
