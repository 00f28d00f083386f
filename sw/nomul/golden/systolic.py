"""Reference of `nomul.systolic`: weights in groups times integers, and times binary16 activations in FP16 form.

Weights are integers: code - zero point, and a scale for each group. `hw/nomul/systolic/systolic.py` has the equations.
"""

import torch
from torch import Tensor

from nomul.golden.mixpe_fp16 import aligned, mark
from nomul.golden.rounding import shift_round

__all__ = ["matmul", "matmul_fp16"]


def matmul(weight: Tensor, scales: Tensor, activations: Tensor, *, group: int) -> Tensor:
    """Return y of every token, exact: int64 [tokens, n_out].

    Parameters
    ----------
    weight : Tensor
        Codes less zero points [n_out, n_in].
    scales : Tensor
        Integers [n_out, groups].
    activations : Tensor
        Integers [tokens, n_in].
    group : int
        Inputs that share a scale.
    """
    places = torch.arange(weight.shape[1]) // group
    return activations.long() @ (weight.long() * scales.long()[:, places]).T


def matmul_fp16(
    weight: Tensor,
    scales: Tensor,
    activations: Tensor,
    *,
    group: int,
    summed: int,
    significand: int,
    fraction: int,
    width: int,
) -> Tensor:
    """Return y of every token, in units of 2^-fraction: int64 [tokens, n_out].

    The highest bit is inverted where an activation was infinite or NaN.

    Parameters
    ----------
    weight, scales, group
        As in `matmul`.
    activations : Tensor
        binary16 words [tokens, n_in].
    summed : int
        Inputs that share an exponent, and leave the array in one sum; they divide `group`.
    significand, fraction, width : int
        Bits of an aligned activation without its sign, of a result below one, and of a result.
    """
    missing = (0, -activations.shape[1] % summed)
    parts = torch.nn.functional.pad(activations.long(), missing).unflatten(1, (-1, summed))
    weights = torch.nn.functional.pad(weight.long(), missing).unflatten(1, (-1, summed))
    numbers, largest, finite = aligned(parts, significand)
    of_part = scales.long()[:, torch.arange(parts.shape[1]) * summed // group]
    scaled = torch.einsum("opk,tpk->top", weights, numbers) * of_part
    right = (14 + significand - fraction - largest)[:, None].expand_as(scaled)
    return mark(shift_round(scaled, right).sum(-1), finite.all(-1)[:, None], width)
