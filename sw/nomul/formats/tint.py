"""The weight stream of `nomul.engines.tint`.

The steps of a token go block by block, and in a block in order of inputs: row r, lane l of step s of block b is
W[b * rows + r, s * lanes + l], zero where there is none. A step is packed as codes of two bits, row 0 lane 0 lowest, or
dense, as one run of trits in the same order, five in a byte (`nomul.formats.dense`), padded with zero trits to whole
transfers.

Engines that are not corrected take the code 01 for 1, 11 for -1, 00 for 0. Engines that are (target cells) take 01, 10,
00, and leave out of a step's sum one for each weight that is not 1. After every `chunk` steps of a block and after its
last they take a correction step, whose activation in lane l is c_l = 2^min(l, act_bits - 1) - 1 and whose weights d_l
are 0 or 1. It also leaves out one for each weight that is not 1, so with N such weights in the chunk's row

    sum_l d_l * c_l - sum_l (1 - d_l) = N,  that is  sum_l d_l * 2^min(l, act_bits - 1) = N + lanes.

The packer takes lanes from the largest constant down, and of equal ones from the last lane down.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.formats import dense
from nomul.formats.ternary import check_trits
from nomul.formats.tiles import tile

__all__ = ["correction_chunk", "pack", "pack_dense", "steps"]


def correction_chunk(lanes: int, act_bits: int) -> int:
    """Return the steps between two correction steps: as many as all constants together can correct."""
    return (sum(2 ** min(lane, act_bits - 1) for lane in range(lanes)) - lanes) // lanes


def steps(weight: Tensor, *, lanes: int, rows: int, corrected: int | None = None) -> Tensor:
    """Return a ternary matrix in the order of the stream, int8 [steps, rows, lanes].

    Parameters
    ----------
    weight : Tensor
        int8 [n_out, n_in], values -1, 0, 1.
    lanes, rows : int
        Sizes of the array.
    corrected : int or None
        The width of an activation, if the engine wants correction steps.

    Raises
    ------
    InputError
        If a value is not ternary.
    """
    check_trits(weight)
    ordered = tile(weight, rows=rows, lanes=lanes)
    if corrected is not None:
        chunk = correction_chunk(lanes, corrected)
        parts = []
        for part in ordered.split(chunk, dim=1):
            parts += [part, _correction((part != 1).sum((1, 3)), lanes, corrected)[:, None]]
        ordered = torch.cat(parts, dim=1)
    return ordered.reshape(-1, rows, lanes)


def _correction(missing: Tensor, lanes: int, act_bits: int) -> Tensor:
    """Return the weights, int8 [..., lanes], that bring back `missing` [...]."""
    rest = missing + lanes
    chosen = torch.zeros(*missing.shape, lanes, dtype=torch.int8)
    for lane in reversed(range(lanes)):
        brings = 2 ** min(lane, act_bits - 1)
        take = rest >= brings
        chosen[..., lane] = take
        rest = rest - take * brings
    assert not rest.any()
    return chosen


def pack(steps: Tensor, corrected: int | None = None) -> npt.NDArray[np.uint8]:
    """Return the transfers of `steps` as codes, uint8 [steps, ceil(rows * lanes / 4)], little-endian."""
    minus = steps < 0
    low = (steps > 0) if corrected is not None else (steps != 0)
    bits = torch.stack([low, minus], dim=-1).reshape(len(steps), -1)
    return np.packbits(bits.numpy().astype(np.uint8), axis=1, bitorder="little")


def pack_dense(steps: Tensor, units: int) -> npt.NDArray[np.uint8]:
    """Return the dense transfers of `steps`, uint8 [transfers, units]."""
    flat = steps.reshape(len(steps), -1)
    missing = -flat.shape[1] % (units * dense.TRITS_PER_BYTE)
    return dense.pack(torch.nn.functional.pad(flat, (0, missing))).numpy().reshape(-1, units)
