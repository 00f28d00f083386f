"""The weight stream of `nomul.engines.baseline`.

The steps of a token go block by block, and in a block in order of inputs: row r, lane l of step s of block b is
W[b * rows + r, s * lanes + l], zero where there is none. A step is packed as bytes, two's complement, row 0 lane 0
lowest.

Engines that are corrected (target cells) make of a step, in each row, with w its weights and a its activations,

    sum w * (a - 42) + 2^8 * 85 * lanes

(the activations' digits are short of 42, and four inverted top bits with the weights 1, 4, 16, 64 bring 2^8 each). A
transfer before each block holds, for each row, what the accumulator starts from, in the lowest bits of the row's bytes,
lane 0 first, the rest sign:

    42 * (sum of the row's weights) - 2^8 * 85 * lanes * steps
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.tiles import tile

__all__ = ["check_range", "pack", "prepend", "starts", "steps"]


def check_range(weight: Tensor, low: int, high: int) -> None:
    """Refuse a weight below `low` or above `high` with an InputError that says where it is."""
    wide = weight.long()  # a bound need not fit the weights' own type
    outside = (wide < low) | (wide > high)
    if outside.any():
        row, column = outside.nonzero()[0].tolist()
        raise InputError(f"weight [{row}, {column}] is {int(weight[row, column])}; allowed: {low} to {high}")


def steps(weight: Tensor, *, lanes: int, rows: int) -> Tensor:
    """Return a matrix of INT8 weights in the order of the stream, int8 [blocks, steps, rows, lanes].

    Raises
    ------
    InputError
        If a value has more than eight bits.
    """
    check_range(weight, -128, 127)
    return tile(weight.to(torch.int8), rows=rows, lanes=lanes)


def starts(steps: Tensor) -> Tensor:
    """Return what the accumulators of each block start from, int64 [blocks, rows]."""
    _, count, _, lanes = steps.shape
    return 42 * steps.long().sum((1, 3)) - 256 * 85 * lanes * count


def prepend(starts: Tensor, steps: Tensor) -> Tensor:
    """Return the steps of each block, uint8 [blocks, steps, rows, lanes], after a step of its start values."""
    *_, lanes = steps.shape
    start = torch.from_numpy(starts.numpy().astype("<i8").view(np.uint8)).view(*starts.shape, 8)
    sign = (start[..., 7:] >> 7) * 255
    start = torch.cat([start, sign.expand(-1, -1, max(0, lanes - 8))], dim=-1)[..., :lanes]
    return torch.cat([start[:, None], steps], dim=1)


def pack(steps: Tensor, corrected: bool) -> npt.NDArray[np.uint8]:
    """Return the transfers of one token, uint8 [transfers, rows * lanes]."""
    whole = steps.view(torch.uint8)
    if corrected:
        whole = prepend(starts(steps), whole)
    return whole.flatten(2).flatten(0, 1).numpy()
