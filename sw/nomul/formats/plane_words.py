"""Bit planes in 32-bit words, as the BWTA kernels pack them: 32 elements in a uint32, most significant bit first.

Element e of a row is bit 31 - (e mod 32) of word e // 32.

* Binary {-1, +1}: one plane; bit 1 is -1, the sign bit of the floating-point value (so -0.0 is -1).
* Ternary {-1, 0, +1}: two planes; P has bit 1 where the value is +1, N where it is -1. A value x under the scale s is
  +1 for x / s > 0.5 and -1 for x / s < -0.5; a tie at exactly one half is 0.
* Boolean {0, 1}: one plane; bit 1 is 1.

A row whose length is no multiple of 32 is padded with bits 0. In P and N that is the value 0, so padding of ternary
activations never changes a product; in a binary plane it is +1.

Source: BGEMM & BWTA, https://github.com/yifu-ding/BGEMM-CUDA, branch w2a3, lowbit_kernel/csrc.
"""

import math

import numpy as np
import torch
from torch import Tensor

from nomul.errors import InputError
from nomul.formats.ternary import check_trits

BITS_PER_WORD = 32
"""Elements in one word of a plane."""


def pack_plane(bits: Tensor) -> Tensor:
    """Pack bool [..., n] into uint32 [..., ceil(n / 32)], most significant bit first."""
    if bits.dtype != torch.bool or bits.ndim == 0:
        raise InputError(f"a plane is a torch.bool tensor [..., n], not {bits.dtype} {list(bits.shape)}")
    octets = np.packbits(bits.numpy(), axis=-1)
    padding = [(0, 0)] * (octets.ndim - 1) + [(0, -octets.shape[-1] % 4)]
    return torch.from_numpy(np.pad(octets, padding).view(">u4").astype(np.uint32))


def unpack_plane(words: Tensor, n: int) -> Tensor:
    """Unpack uint32 [..., ceil(n / 32)] into bool [..., n]; the inverse of `pack_plane`.

    Raises `InputError` for another type or length, and for a bit 1 in the padding.
    """
    length = -(-n // BITS_PER_WORD)
    if words.dtype != torch.uint32 or words.ndim == 0 or words.shape[-1] != length:
        raise InputError(
            f"a plane of {n} elements is a torch.uint32 tensor [..., {length}], not {words.dtype} {list(words.shape)}"
        )
    octets = np.ascontiguousarray(words.numpy().astype(">u4")).view(np.uint8)
    bits = np.unpackbits(octets, axis=-1).astype(bool)
    if bits[..., n:].any():
        raise InputError(f"the plane has a bit 1 after its {n} elements, where padding must be 0")
    return torch.from_numpy(bits[..., :n].copy())


def pack_binary(values: Tensor) -> Tensor:
    """Pack the signs of float or integer values [..., n] into one plane; `InputError` if a value is NaN."""
    _refuse_nan(values)
    return pack_plane(torch.signbit(values))


def unpack_binary(words: Tensor, n: int) -> Tensor:
    """Return the signs, int8 [..., n] of -1 and +1."""
    return 1 - 2 * unpack_plane(words, n).to(torch.int8)


def quantise_ternary(values: Tensor, scale: float) -> Tensor:
    """Return int8 -1, 0, +1 of values / scale with the thresholds +-0.5, ties to 0.

    The quotient is a float32. Raises `InputError` for a scale that is not finite and positive, and for NaN.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"the scale is {scale}, but it must be finite and greater than 0")
    _refuse_nan(values)
    quotient = values.float() / scale
    return (quotient > 0.5).to(torch.int8) - (quotient < -0.5).to(torch.int8)


def pack_ternary(trits: Tensor) -> tuple[Tensor, Tensor]:
    """Pack int8 [..., n] of -1, 0, +1 into the planes P and N; `InputError` for another value."""
    check_trits(trits)
    return pack_plane(trits > 0), pack_plane(trits < 0)


def unpack_ternary(plus: Tensor, minus: Tensor, n: int) -> Tensor:
    """Unpack the planes P and N into int8 [..., n]; `InputError` if an element has bit 1 in both."""
    positive, negative = unpack_plane(plus, n), unpack_plane(minus, n)
    if positive.shape != negative.shape:
        raise InputError(f"the planes have the shapes {list(plus.shape)} and {list(minus.shape)}, which must be equal")
    both = positive & negative
    if both.any():
        raise InputError(f"the element at {both.nonzero()[0].tolist()} is 1 in both planes; P or N may be 1, not both")
    return positive.to(torch.int8) - negative.to(torch.int8)


def _refuse_nan(values: Tensor) -> None:
    if values.is_floating_point() and bool(values.isnan().any()):
        raise InputError(f"the value at {values.isnan().nonzero()[0].tolist()} is nan")
