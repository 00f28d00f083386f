"""The weight stream of `nomul.engines.tlmm`.

A transfer holds, for each row r and each table t, the index of one ternary group, row 0 and table 0 in the lowest bits:
bits (r * tables + t) * index_width and up. The index of a group of rank k (`nomul.golden.tlmm`) is, for half tables,
|k| with a sign bit above it (set if k < 0), and for full tables k in two's complement. The transfers of a token go step
by step, and in a step block by block: row r of block b, table t of step s is the group W[b * rows + r, (s * tables + t)
* group ...]. Rows and groups that do not exist have zero weights, index 0.

With dense weights (`pack_dense`) a block is one run of trits instead: of row 0, 1, ... table 0, 1, ... the weights of
that group in order, five trits in a byte (`nomul.formats.dense`), byte 0 first. A block is padded with zero trits to
whole transfers.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nomul.formats import dense
from nomul.formats.ternary import check_trits
from nomul.formats.tiles import tile
from nomul.golden.tlmm import group_ranks

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
    ranks = group_ranks(weight, group).long()
    magnitude_width = ((3**group - 1) // 2).bit_length()
    width = magnitude_width + 1
    codes = ranks.abs() | (ranks < 0).long() << magnitude_width if half else ranks & (1 << width) - 1
    # [blocks, steps, rows, tables] -> [steps, blocks, rows, tables]
    ordered = tile(codes, rows=rows, lanes=tables).transpose(0, 1).flatten(2).flatten(0, 1)
    bits = (ordered.numpy()[:, :, None] >> np.arange(width)) & 1
    return np.packbits(bits.reshape(len(ordered), -1).astype(np.uint8), axis=1, bitorder="little")


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
    step, transfer = tables * group, units * group
    # [blocks, steps, rows, step] -> [steps, blocks, rows, step]
    ordered = tile(weight, rows=rows, lanes=step).transpose(0, 1).flatten(2).flatten(0, 1)
    missing = -rows * step % (transfer * dense.TRITS_PER_BYTE)
    return dense.pack(torch.nn.functional.pad(ordered, (0, missing))).numpy().reshape(-1, transfer)
