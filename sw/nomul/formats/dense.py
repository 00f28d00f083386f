"""The dense ternary code: five trits in a byte, 1.6 bit per weight.

    byte = sum over i = 0..4 of (w_i + 1) * 3**i

Element 0 is in the lowest digit. 3**5 = 243, so bytes 243 to 255 mean nothing and are refused. An axis whose length
is not a multiple of five is padded with zero trits (digit 1), so that padding never changes a dot product.
"""

import numpy as np
import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.ternary import check_trits

TRITS_PER_BYTE = 5
"""Weights in one byte."""

CODES = 3**TRITS_PER_BYTE
"""Number of bytes that have a meaning: 0 to 242."""

ZERO_BYTE = 121
"""The byte of five zero weights."""


def packed_length(n: int) -> int:
    """Return the number of bytes that hold `n` trits."""
    return -(-n // TRITS_PER_BYTE)


def pack(trits: Tensor) -> Tensor:
    """Pack trits along the last axis.

    `trits` is int8 [..., n] with values -1, 0, +1; the result is uint8 [..., ceil(n / 5)].
    Raises `InputError` for another type or value; the message says which value and where.
    """
    if trits.dtype != torch.int8 or trits.ndim == 0:
        raise InputError(f"trits are a torch.int8 tensor [..., n], not {trits.dtype} {list(trits.shape)}")
    check_trits(trits)
    n = trits.shape[-1]
    digits = np.ones((*trits.shape[:-1], packed_length(n) * TRITS_PER_BYTE), np.uint8)
    digits[..., :n] = trits.numpy() + 1
    digits = digits.reshape(*trits.shape[:-1], packed_length(n), TRITS_PER_BYTE)
    packed = digits[..., TRITS_PER_BYTE - 1].copy()
    for i in reversed(range(TRITS_PER_BYTE - 1)):
        packed *= 3
        packed += digits[..., i]
    return torch.from_numpy(packed)


def unpack(packed: Tensor, n: int) -> Tensor:
    """Unpack `n` trits along the last axis; the inverse of `pack`.

    `packed` is uint8 [..., ceil(n / 5)]; the result is int8 [..., n].
    Raises `InputError` for another type or length, for bytes 243 to 255, and for padding that is not zero trits;
    the message says which byte and where.
    """
    if packed.dtype != torch.uint8 or packed.ndim == 0 or packed.shape[-1] != packed_length(n):
        raise InputError(
            f"{n} packed trits are a torch.uint8 tensor [..., {packed_length(n)}], "
            f"not {packed.dtype} {list(packed.shape)}"
        )
    rest = packed.numpy()
    if rest.max(initial=0) >= CODES:
        where = np.argwhere(rest >= CODES)[0].tolist()
        raise InputError(
            f"byte {int(packed[tuple(where)])} at {where} is not a code of five trits; allowed are 0 to {CODES - 1}"
        )
    digits = np.empty((*packed.shape, TRITS_PER_BYTE), np.uint8)
    for i in range(TRITS_PER_BYTE):
        quotient = rest // np.uint8(3)
        digits[..., i] = rest - quotient * np.uint8(3)
        rest = quotient
    digits -= 1
    trits = digits.view(np.int8).reshape(*packed.shape[:-1], packed.shape[-1] * TRITS_PER_BYTE)
    padding = trits[..., n:]
    if padding.any():
        row = np.argwhere(padding.any(axis=-1))[0].tolist()
        where = [*row, packed.shape[-1] - 1]
        raise InputError(
            f"byte {int(packed[tuple(where)])} at {where} has padding that is not zero; "
            f"only its first {n % TRITS_PER_BYTE} of {TRITS_PER_BYTE} trits are weights"
        )
    return torch.from_numpy(np.ascontiguousarray(trits[..., :n]))
