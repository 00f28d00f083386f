"""Products of large integer matrices, several times as fast as PyTorch's integer ones and the same in every bit.

A sum of integers is exact in float32 while no partial sum can reach 2^24, whatever its order. Weights become floats a
few rows at a time, in a buffer that stays in the processor's cache, so that INT8 codes are all that is kept.
The golden functions (`nomul.golden.linear`) stay in integers, and small models use them.
"""

import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from nomul.golden.absmax import CODE_MAX
from nomul.golden.linear import int8_linear, ternary_linear

__all__ = ["LARGE", "exact_product", "int8_product", "ternary_product"]

LARGE = 1 << 22
"""Weights from which a matrix is large."""

EXACT = 1 << 24
"""Integers below this are exact in float32."""

ROWS, COLUMNS = 256, 8192
"""Most of a part that becomes floats at once."""

_own = threading.local()
"""Of each thread, the buffer of such a part."""


def exact_product(weight: Tensor, codes: Tensor, most: int) -> Tensor:
    """Return `W a`, int64 `[..., n_out]`, for int8 `[n_out, n_in]` up to `most` and INT8 codes `[..., n_in]`."""
    rows = codes.reshape(-1, codes.shape[-1]).float()
    columns = (EXACT - 1) // (CODE_MAX * most)

    def multiply(some: Tensor) -> Tensor:
        if not hasattr(_own, "buffer"):
            _own.buffer = torch.empty(ROWS * COLUMNS)
        sums = torch.zeros(len(rows), len(some), dtype=torch.int64)
        for left in range(0, weight.shape[1], min(columns, COLUMNS)):
            part = some[:, left : left + min(columns, COLUMNS)]
            floats = _own.buffer[: part.numel()].view(part.shape)
            floats.copy_(part)
            sums += (rows[:, left : left + part.shape[1]] @ floats.T).long()
        return sums

    total = torch.cat(list(_workers().map(multiply, weight.split(ROWS))), 1)
    return total.view(*codes.shape[:-1], len(weight))


@functools.cache
def _workers() -> ThreadPoolExecutor:
    """Return a thread for each core; PyTorch's own share out pieces that are too small."""
    return ThreadPoolExecutor(os.cpu_count())


def ternary_product(weight: Tensor, codes: Tensor) -> Tensor:
    """Return what `ternary_linear` does."""
    return ternary_linear(weight, codes) if weight.numel() < LARGE else exact_product(weight, codes, 1)


def int8_product(weight: Tensor, codes: Tensor) -> Tensor:
    """Return what `int8_linear` does."""
    return int8_linear(weight, codes) if weight.numel() < LARGE else exact_product(weight, codes, CODE_MAX)
