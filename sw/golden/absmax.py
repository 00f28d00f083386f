"""The absmax quantiser: a vector of integers to INT8 codes and its largest magnitude. The quotient is exact."""

from torch import Tensor

from sw.golden.rounding import divide_round

CODE_MAX = 127
"""Codes are -127..127."""

INPUT_BITS = 55
"""The most magnitude bits of an input: `2 * 127 * |u|` must fit 63."""


def absmax(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return `q_i = round_half_even(127 * u_i / max_j |u_j|)` over the last axis, and the maximum.

    `values` is int64 `[..., n]`, `|u| < 2^55`. Codes are int64 `[..., n]` in -127..127, the maximum is int64 `[...]`.
    All zero gives all zero. `values = codes * maximum / 127`, to within half a step.
    """
    largest = values.abs().amax(-1)
    return divide_round(CODE_MAX * values, largest.clamp(min=1).unsqueeze(-1)), largest
