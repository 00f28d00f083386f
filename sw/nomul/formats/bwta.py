"""The weight stream of `nomul.engines.bwta`.

The steps of a token go block by block, and in a block in order of inputs: row r, lane l of step s of block b is
W[b * rows + r, s * lanes + l]. A step is one transfer, row 0 lane 0 in the lowest bits. A binary weight takes one bit,
set for -1; a ternary one takes two, 00 for 0, 01 for 1, 11 for -1, or, in standard cells, 10 for -1 (`lines`). Where
the matrix has no weight the bits are 0: the engine leaves binary ones out.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.ternary import check_trits
from nomul.formats.tiles import tile

__all__ = ["pack", "steps", "stream"]


def steps(weight: Tensor, *, lanes: int, rows: int, binary: bool) -> Tensor:
    """Return a matrix in the order of the stream, int8 [steps, rows, lanes]; what is beyond it is 1 or 0.

    Parameters
    ----------
    weight : Tensor
        int8 [n_out, n_in], values -1 and 1, or -1, 0 and 1.
    lanes, rows : int
        Sizes of the array.
    binary : bool
        Whether weights take one bit.

    Raises
    ------
    InputError
        If a value is none of these.
    """
    check_trits(weight)
    if binary and bool((weight == 0).any()):
        row, column = (weight == 0).nonzero()[0].tolist()
        raise InputError(f"the weight at [{row}, {column}] is 0, but a binary weight is -1 or 1")
    return tile(weight, rows=rows, lanes=lanes, filling=int(binary)).flatten(0, 1)


def pack(steps: Tensor, *, binary: bool, lines: bool = False) -> npt.NDArray[np.uint8]:
    """Return the transfers of `steps`, uint8 [steps, bytes], little-endian."""
    minus = steps < 0
    bits = minus if binary else torch.stack([(steps > 0) if lines else (steps != 0), minus], dim=-1)
    return np.packbits(bits.reshape(len(steps), -1).numpy().astype(np.uint8), axis=1, bitorder="little")


def stream(config: Any, weight: Tensor) -> npt.NDArray[np.uint8]:
    """Return the transfers of a matrix, int8 [n_out, n_in], for a `nomul.engines.bwta.BwtaConfig`."""
    binary = config.weight_bits == 1
    return pack(
        steps(weight, lanes=config.lanes_in, rows=config.rows, binary=binary), binary=binary, lines=config.trees
    )
