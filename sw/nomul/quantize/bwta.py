"""BWTA quantisers: binary weights and activations of a few levels, reduced stage by stage to ternary.

Source: BWTA (arXiv 2604.03957): binary weights are the sign times a scale; Levelwise Degradation removes two levels at
a time, 17, 15, ... 3; the Magnitude-Alignment Projection Factor multiplies the scale at a stage change so that the
quantised tensor keeps its magnitude. The learned step is the elastic quantiser of its ancestors (BiT, LSQ).
"""

import math

import torch
from torch import Tensor

from nomul.quantize.bitnet import FLOOR, straight_through

LEVELS = (17, 15, 13, 11, 9, 7, 5, 3)
"""The number of activation levels of each training stage; the last is ternary."""


def binary_codes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise a weight matrix to `codes * scale`, codes in {-1, +1} (0 gives +1), scale the mean absolute value.

    The gradient passes straight through.
    """
    scale = weight.detach().abs().mean().clamp(min=FLOOR)
    signs = torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype)
    return straight_through(weight / scale, signs), scale


def initial_step(values: Tensor, levels: int) -> float:
    """Return the elastic quantiser's first step for these activations: `2 mean|x| / sqrt((levels - 1) / 2)`."""
    return 2 * values.abs().mean().item() / math.sqrt((levels - 1) // 2)


def level_codes(values: Tensor, step: Tensor, half: Tensor | int) -> Tensor:
    """Return `clamp(round_half_even(values / step), -half, half)`: `2 half + 1` levels, ternary for `half` 1.

    Gradients are those of a learned step size: straight through inside the range, none outside it, and the step
    learns from the rounding error, its gradient scaled by `1 / sqrt(count * half)`.
    """
    bound = torch.as_tensor(half, dtype=values.dtype, device=values.device)
    ratio = torch.minimum(torch.maximum(values / effective_step(values, step, bound), -bound), bound)
    return straight_through(ratio, ratio.round())


def effective_step(values: Tensor, step: Tensor, half: Tensor) -> Tensor:
    """Return what `level_codes` divides by: the step, up to the rounding of its straight-through form."""
    factor = 1 / torch.sqrt(half * values.numel())
    return straight_through(step * factor, step).abs().clamp(min=FLOOR)


def alignment_factor(values: Tensor, step: float, half_before: int, half_after: int) -> float:
    """Return the magnitude-alignment factor `sum|A_before| / sum|A_after|` of a stage change, on sample activations.

    `A` is the quantised tensor with the same step and each number of levels. Fewer levels clip more, so the factor is
    1 or greater; the next stage's step is the old one times the factor.
    """
    tensor = torch.tensor(step, dtype=values.dtype, device=values.device)
    before = level_codes(values, tensor, half_before).abs().sum().item()
    after = level_codes(values, tensor, half_after).abs().sum().item()
    return before / after if after else 1.0
