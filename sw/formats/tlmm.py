"""The weight stream of `hw.engines.tlmm`.

A transfer holds, for each row r and each table t, the index of one ternary group, row 0 and table 0 in the lowest bits:
bits (r * tables + t) * index_width and up. The index of a group of rank k (`sw.golden.tlmm`) is, for half tables, |k|
with a sign bit above it (set if k < 0), and for full tables k in two's complement. The transfers of a token go step by
step, and in a step block by block: row r of block b, table t of step s is the group W[b * rows + r, (s * tables + t) *
group ...]. Rows and groups that do not exist have zero weights, index 0.

With dense weights (`pack_dense`) a block is one run of trits instead: of row 0, 1, ... table 0, 1, ... the weights of
that group in order, five trits in a byte (`sw.formats.dense`), byte 0 first. A block is padded with zero trits to whole
transfers.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sw.formats import dense
from sw.formats.ternary import check_trits
from sw.golden.tlmm import group_ranks

__all__ = ["pack", "pack_dense"]


def pack(weight: Tensor, *, group: int, tables: int, rows: int, half: bool) -> npt.NDArray[np.uint8]:
    """Return the transfers of a ternary matrix.

    Parameters
    ----------
    weight : Tensor
        int8 [n_out, n_in], values -1, 0, 1.
    group, tables, rows : int
        G, T and Q of the engine.
    half : bool
        Whether its tables are half tables.

    Returns
    -------
    numpy.ndarray
        uint8 [transfers, ceil(rows * tables * index_width / 8)], little-endian.

    Raises
    ------
    InputError
        If a value is not ternary.
    """
    check_trits(weight)
    n_out = weight.shape[0]
    ranks = group_ranks(weight, group).long()
    blocks, steps = -(-n_out // rows), -(-ranks.shape[1] // tables)
    ranks = torch.nn.functional.pad(ranks, (0, steps * tables - ranks.shape[1], 0, blocks * rows - n_out))
    magnitude_width = ((3**group - 1) // 2).bit_length()
    width = magnitude_width + 1
    codes = ranks.abs() | (ranks < 0).long() << magnitude_width if half else ranks & (1 << width) - 1
    # [blocks, rows, steps, tables] -> [steps, blocks, rows, tables]
    ordered = codes.view(blocks, rows, steps, tables).permute(2, 0, 1, 3).reshape(steps * blocks, rows * tables)
    bits = (ordered.numpy()[:, :, None] >> np.arange(width)) & 1
    return np.packbits(bits.reshape(steps * blocks, -1).astype(np.uint8), axis=1, bitorder="little")


def pack_dense(weight: Tensor, *, group: int, tables: int, rows: int, units: int) -> npt.NDArray[np.uint8]:
    """Return the dense transfers of a ternary matrix.

    Parameters
    ----------
    weight : Tensor
        int8 [n_out, n_in], values -1, 0, 1.
    group, tables, rows : int
        G, T and Q of the engine.
    units : int
        Groups of `group` bytes in a transfer.

    Returns
    -------
    numpy.ndarray
        uint8 [transfers, units * group].

    Raises
    ------
    InputError
        If a value is not ternary.
    """
    check_trits(weight)
    n_out, n_in = weight.shape
    step, transfer = tables * group, units * group
    blocks, steps = -(-n_out // rows), -(-n_in // step)
    padded = torch.nn.functional.pad(weight, (0, steps * step - n_in, 0, blocks * rows - n_out))
    # [blocks, rows, steps, step] -> [steps, blocks, rows, step]
    ordered = padded.view(blocks, rows, steps, step).permute(2, 0, 1, 3).reshape(steps * blocks, rows * step)
    missing = -rows * step % (transfer * dense.TRITS_PER_BYTE)
    return dense.pack(torch.nn.functional.pad(ordered, (0, missing))).numpy().reshape(-1, transfer)
