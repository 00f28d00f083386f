"""The weight stream of `nomul.engines.boothflex`.

A step holds a byte for each row and each lane, row 0 lane 0 lowest. The steps of a token go block by block. In int8
mode a block has four passes, and step s of pass p holds W[b * rows + r, (4s + p) * lanes + l]. In ternary mode step s
holds in bits 2q and 2q + 1 the weight W[b * rows + r, (4s + q) * lanes + l], two's complement. Where there is no weight
there is zero.

Engines that are corrected (target cells) take numbers of int8 mode with bits 1, 3 and 5 inverted: then the pairs of
bits of a byte are, in both modes, the codes of digits d_j = low - 2 high, and in int8 mode w = 42 + sum 4^j d_j. With
s_j = 4^j in int8 mode and 1 in ternary mode, and activations a, a step makes

    int8:     sum_l (w * a) + 42 * 128 * lanes + sum_l sum_j s_j (2^8 - (d_j is not 1))
    ternary:  sum_l sum_j (d_j * a_j) + sum_l sum_j s_j (2^8 - (d_j is not 1))

A transfer before each block holds, for each row, what the accumulator starts from, in the lowest bits of the row's
bytes, lane 0 first, the rest sign: what all steps of the block bring too much, negated.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.formats.baseline import check_range, prepend
from nomul.formats.tiles import tile

__all__ = ["INVERTED", "codes", "pack", "starts", "steps"]

INVERTED = 0b101010
"""Bits of a number that corrected engines take inverted."""


def steps(weight: Tensor, *, lanes: int, rows: int, ternary: bool) -> Tensor:
    """Return a matrix in the order of the stream: int8 [blocks, steps, rows, lanes], ternary [..., lanes, 4].

    Raises
    ------
    InputError
        If a value is not of the mode's range.
    """
    check_range(weight, *((-1, 1) if ternary else (-128, 127)))
    # [blocks, words, rows, quarters, lanes]
    words = tile(weight.to(torch.int8), rows=rows, lanes=4 * lanes).unflatten(3, (4, lanes))
    if ternary:
        return words.transpose(3, 4).contiguous()
    return words.permute(0, 3, 1, 2, 4).flatten(1, 2)


def codes(steps: Tensor, corrected: bool) -> Tensor:
    """Return the bytes of `steps`, uint8 [blocks, steps, rows, lanes]."""
    if steps.ndim == 5:
        return ((steps.long() & 3) << torch.tensor([0, 2, 4, 6])).sum(-1).to(torch.uint8)
    return steps.view(torch.uint8) ^ (INVERTED if corrected else 0)


def starts(codes: Tensor, ternary: bool) -> Tensor:
    """Return what the accumulators of each block start from, int64 [blocks, rows], given the bytes of its steps."""
    _, count, _, lanes = codes.shape
    places = torch.tensor([1, 1, 1, 1] if ternary else [1, 4, 16, 64])
    digits = codes.long()[..., None] >> torch.tensor([0, 2, 4, 6]) & 3
    short = ((digits != 1) * places).sum((1, 3, 4))
    brought = 256 * int(places.sum()) + (0 if ternary else 42 * 128)
    return short - brought * lanes * count


def pack(steps: Tensor, corrected: bool) -> npt.NDArray[np.uint8]:
    """Return the transfers of one token, uint8 [transfers, rows * lanes]."""
    whole = codes(steps, corrected)
    if corrected:
        whole = prepend(starts(whole, ternary=steps.ndim == 5), whole)
    return whole.flatten(2).flatten(0, 1).numpy()
