"""Weight streams of `nomul.engines.fp16_fma` and `nomul.engines.mixpe_fp16`, and binary16 words as integers.

A binary16 number travels as its bit pattern, and in tensors as the two's complement number of 16 bits that has this
pattern. The steps of a token go block by block, and in a block in order of inputs: row r, lane l of step s of block b
is W[b * rows + r, s * lanes + l], zero where there is none. A step is packed row 0 lane 0 lowest, 16 bits a weight
(binary16) or four (two's complement INT4).
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.formats.baseline import check_range
from nomul.formats.tiles import tile

__all__ = ["from_words", "pack", "to_words"]


def to_words(numbers: Tensor) -> Tensor:
    """Return real numbers, or integers, as binary16 words, int64; half to even, beyond the range to infinity."""
    return numbers.to(torch.float64).to(torch.float16).view(torch.int16).long()


def from_words(words: Tensor) -> Tensor:
    """Return the numbers, float64, of binary16 words."""
    return words.to(torch.int16).view(torch.float16).double()


def pack(weight: Tensor, *, lanes: int, rows: int, bits: int) -> npt.NDArray[np.uint8]:
    """Return the transfers of one token, uint8 [transfers, ceil(rows * lanes * bits / 8)].

    Parameters
    ----------
    weight : Tensor
        Integers [n_out, n_in].
    lanes, rows : int
        Sizes of the array.
    bits : int
        4 or 16, of a weight.

    Raises
    ------
    InputError
        If a weight has more than `bits` bits.
    """
    check_range(weight, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    steps = tile(weight.long(), rows=rows, lanes=lanes).flatten(2).flatten(0, 1)
    places = (steps.numpy()[:, :, None] >> np.arange(bits)) & 1
    return np.packbits(places.reshape(len(steps), -1).astype(np.uint8), axis=1, bitorder="little")
