"""Reference of `nomul.engines.mixpe_fp16`: groups of FP16 activations under one exponent, INT4 weights, exact sums.

Activations are bit patterns of binary16 as two's complement numbers of 16 bits; everything is integer. `Result`s are in
units of 2^(-13 - significand).
"""

import torch
from torch import Tensor

from nomul.golden.rounding import shift_round

__all__ = ["aligned", "exponents", "mark", "matmul", "result_width"]

SPECIAL = 31


def _fields(words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the exponent field, the number as an integer of 2^-24, and whether it is finite (else it is zero)."""
    field, fraction = words >> 10 & 31, words & 1023
    finite = field != SPECIAL
    magnitude = torch.where(field == 0, fraction, (fraction | 1024) << (field - 1).clamp(min=0))
    return field * finite, torch.where(words >> 15 & 1 == 1, -magnitude, magnitude) * finite, finite


def exponents(groups: Tensor) -> Tensor:
    """Return E of each group, int64 [...], of binary16 words [..., group]."""
    field, _, _ = _fields(groups.long() & 0xFFFF)
    return field.amax(-1).clamp(min=1)


def aligned(groups: Tensor, significand: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the activations as integers of 2^(E - 14 - significand), E, and whether the group is finite.

    Parameters
    ----------
    groups : Tensor
        binary16 words [..., group].
    significand : int
        Bits of an aligned activation without its sign.
    """
    words = groups.long() & 0xFFFF
    largest = exponents(groups)
    _, number, finite = _fields(words)
    return shift_round(number, (largest + 10 - significand)[..., None].expand_as(number)), largest, finite.all(-1)


def result_width(n_in_max: int, significand: int) -> int:
    """Return the width of a result: of the largest sum, and its sign twice."""
    return (n_in_max << (significand + 32)).bit_length() + 2


def mark(results: Tensor, finite: Tensor, width: int) -> Tensor:
    """Return results of `width` bits, the highest inverted where they are not finite."""
    top = 1 << (width - 1)
    # The flag inverts the sign alone, so a sum moves by 2^(width - 1) into the half that it is not in.
    moved = torch.where(results < 0, results + top, results - top) if width < 64 else results ^ torch.tensor(-(1 << 63))
    return torch.where(finite, results, moved)


def matmul(weight: Tensor, activations: Tensor, *, group: int, significand: int, n_in_max: int) -> Tensor:
    """Return y of every token, with the highest bit inverted where an activation was infinite or NaN.

    Parameters
    ----------
    weight : Tensor
        INT4 values [n_out, n_in].
    activations : Tensor
        binary16 words [tokens, n_in].
    group, significand, n_in_max : int
        Of the engine's configuration.

    Returns
    -------
    Tensor
        int64 [tokens, n_out].
    """
    missing = (0, -activations.shape[1] % group)
    groups = torch.nn.functional.pad(activations.long(), missing).unflatten(1, (-1, group))
    weights = torch.nn.functional.pad(weight.long(), missing).unflatten(1, (-1, group))
    numbers, largest, finite = aligned(groups, significand)
    sums = torch.einsum("ogk,tgk->tog", weights, numbers)
    total = (sums << (largest - 1)[:, None, :]).sum(-1)
    return mark(total, finite.all(-1)[:, None], result_width(n_in_max, significand))
