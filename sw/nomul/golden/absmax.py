"""The absmax quantiser: a vector of integers to 8-bit codes and its largest magnitude. The quotient is exact."""

from torch import Tensor

from nomul.golden.rounding import divide_round

CODE_MAX = 127
"""INT8 codes are -127..127."""

UNSIGNED_MAX = 255
"""Codes of vectors without negative elements may be 0..255."""

INPUT_BITS = 54
"""The most magnitude bits of an input: `2 * 255 * |u|` must fit 63."""


def absmax(values: Tensor, code_max: int = CODE_MAX) -> tuple[Tensor, Tensor]:
    """Return `q_i = round_half_even(code_max * u_i / max_j |u_j|)` over the last axis, and the maximum.

    `values` is int64 `[..., n]`, `|u| < 2^54`. Codes are int64 `[..., n]` in -code_max..code_max, the maximum is int64
    `[...]`. All zero gives all zero. `values = codes * maximum / code_max`, to within half a step.
    """
    largest = values.abs().amax(-1)
    return divide_round(code_max * values, largest.clamp(min=1).unsqueeze(-1)), largest
