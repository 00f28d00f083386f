"""The projections: ternary, INT4 in groups, binary, and INT8, all exact integer sums."""

import torch
from torch import Tensor

from nomul.golden.rounding import shift_round

GROUP_SCALE_BITS = 12
"""Width of the integer scales of rows and groups, in the integer model."""

SHORT = 16
"""Vectors shorter than this take the plain product: PyTorch's INT8 one is wrong for a length of 1 (seen in 2.13)."""


def ternary_linear(weight: Tensor, codes: Tensor) -> Tensor:
    """Return `W a` for weights -1, 0, 1 (int8 `[n_out, n_in]`) and INT8 codes (`[..., n_in]`), int64 `[..., n_out]`.

    Results are at most `127 n_in` in magnitude. Binary weights (-1, 1) and ternary activations are special cases.
    """
    if weight.shape[1] < SHORT:
        return int8_linear(weight, codes)
    rows = codes.reshape(-1, codes.shape[-1]).to(torch.int8)
    return torch._int_mm(rows, weight.t()).long().view(*codes.shape[:-1], -1)


def int8_linear(weight: Tensor, codes: Tensor) -> Tensor:
    """Return `W a` for INT8 weights `[n_out, n_in]` and codes `[..., n_in]`, int64; at most `127^2 n_in`."""
    return (codes.int() @ weight.int().t()).long()


def grouped_linear(weight: Tensor, group_scales: Tensor, group: int, codes: Tensor) -> Tensor:
    """Return `sum_g group_scale[o, g] * (sum_{k in g} weight[o, k] a[k])` for INT4 weights, int64 `[..., n_out]`.

    `weight` is int8 `[n_out, n_in]` in -8..7, `group_scales` `[n_out, groups]` in 1..255, `codes` INT8 `[..., n_in]`.
    A group sum has `11 + log2 group` bits at most, a result `19 + log2 n_in`. One real scale for each output channel
    remains outside.
    """
    n_out, n_in = weight.shape
    total = torch.zeros(*codes.shape[:-1], n_out, dtype=torch.int64)
    for index, start in enumerate(range(0, n_in, group)):
        part = slice(start, start + group)
        total += int8_linear(weight[:, part], codes[..., part]) * group_scales[:, index].long()
    return total


def scaled_linear(weight: Tensor, scales: Tensor, group: int, codes: Tensor) -> Tensor:
    """Return `rhe(sum_g scale[o, g] * (sum_{k in g} weight[o, k] a[k]) / 2^12)` for ternary weights, int64.

    `scales` are `[n_out, groups]` in 0..4095, so that a result is at most `127 n_in` in magnitude, as one of
    `ternary_linear` is. What the division drops is half a unit of a sum.
    """
    if group >= weight.shape[1]:
        exact = ternary_linear(weight, codes) * scales[:, 0].long()
    else:
        exact = torch.zeros(*codes.shape[:-1], len(weight), dtype=torch.int64)
        for index, start in enumerate(range(0, weight.shape[1], group)):
            part = slice(start, start + group)
            exact += ternary_linear(weight[:, part], codes[..., part]) * scales[:, index].long()
    return shift_round(exact, GROUP_SCALE_BITS)
