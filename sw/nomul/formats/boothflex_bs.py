"""The weight stream of `nomul.engines.boothflex_bs`.

A weight is one to four digits of two bits, two's complement. The steps of a token go block by block, in a block digit
by digit from the highest, and in a digit in order of inputs: row r, lane l of step s of block b is a digit of
W[b * rows + r, s * lanes + l], zero where there is none. A step is packed as two bits a digit, row 0 lane 0 lowest.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.formats.baseline import check_range
from nomul.formats.tiles import tile

__all__ = ["pack", "steps"]


def steps(weight: Tensor, *, lanes: int, rows: int, digits: int, low: int, high: int) -> Tensor:
    """Return a matrix in the order of the stream, two bits in each value: uint8 [blocks, digits, steps, rows, lanes].

    Parameters
    ----------
    weight : Tensor
        Integers [n_out, n_in].
    lanes, rows : int
        Sizes of the array.
    digits : int
        Digits of a weight.
    low, high : int
        Lowest and highest weight.

    Raises
    ------
    InputError
        If a weight is out of its range.
    """
    check_range(weight, low, high)
    ordered = tile(weight.long(), rows=rows, lanes=lanes)
    places = [2 * digit for digit in reversed(range(digits))]
    return torch.stack([ordered >> place & 3 for place in places], dim=1).to(torch.uint8)


def pack(steps: Tensor) -> npt.NDArray[np.uint8]:
    """Return the transfers of one token, uint8 [transfers, ceil(rows * lanes / 4)], little-endian."""
    codes = steps.flatten(3).flatten(0, 2)
    bits = torch.stack([codes & 1, codes >> 1], dim=-1).flatten(1)
    return np.packbits(bits.numpy(), axis=1, bitorder="little")
