"""Reference of `hw.engines.bwta`: products of bit planes in int64 words, by population counts.

Element e of a vector is bit e mod 64 of word e // 64; padding is bits 0. A plane of activations in these words is the
row of bits that the hardware keeps, lane 0 lowest: bit 0 of every activation makes the mask M, bit 1 the sign S. (The
kernels of BWTA begin with the highest bit; `sw.formats.plane_words` has theirs.) The identities are of BWTA (arXiv
2604.03957) and its kernels (github.com/yifu-ding/BGEMM-CUDA, branch w2a3).

    binary W, bit w set for -1:   popcount(M) - 2 * popcount(M & (w ^ S))
    ternary W, mask V, sign T:    popcount(M & V) - 2 * popcount(M & V & (T ^ S))
"""

import numpy as np
import torch
from torch import Tensor

__all__ = ["WORD", "Packed", "matmul", "pack", "pack_plane", "popcount"]

WORD = 64
"""Elements in a word."""

BLOCK = 1 << 14
"""Results of a block of tokens: what stays in the processor's caches."""


def pack_plane(bits: Tensor) -> Tensor:
    """Pack bool [..., n] into int64 [..., ceil(n / 64)], element 0 in the lowest bit."""
    octets = np.packbits(bits.numpy(), axis=-1, bitorder="little")
    padding = [(0, 0)] * (octets.ndim - 1) + [(0, -octets.shape[-1] % 8)]
    return torch.from_numpy(np.ascontiguousarray(np.pad(octets, padding)).view("<i8").astype(np.int64))


class Packed:
    """Values -1, 0, 1 as two planes: `mask` (not zero) and `sign` (negative), int64 [..., words].

    Parameters
    ----------
    values : Tensor
        [..., n], integers or floats that are exactly -1, 0 or 1.

    Attributes
    ----------
    length : int
        n.
    binary : bool
        Whether no value is zero; the mask is then not needed where the other operand has zeros as padding.
    """

    def __init__(self, values: Tensor) -> None:
        present = values != 0
        self.length = values.shape[-1]
        self.mask, self.sign = pack_plane(present), pack_plane(values < 0)
        self.binary = bool(present.all())


def pack(values: Tensor) -> Packed:
    """Pack values -1, 0, 1 into planes."""
    return Packed(values)


def popcount(words: Tensor) -> Tensor:
    """Return the number of ones in each int64 word, uint8."""
    return torch.from_numpy(np.bitwise_count(words.numpy().view(np.uint64)))


def matmul(weight: Packed, activations: Packed) -> Tensor:
    """Return y = W a for every token.

    Parameters
    ----------
    weight : Packed
        Of [n_out, n_in].
    activations : Packed
        Of [..., tokens, n_in].

    Returns
    -------
    Tensor
        int32 [..., tokens, n_out].
    """
    shape = activations.mask.shape[:-1]
    mask, sign = (plane.reshape(-1, plane.shape[-1]).numpy() for plane in (activations.mask, activations.sign))
    # Word by word: operands [words, n_out], and a block of tokens at a time.
    signs, masks = (np.ascontiguousarray(plane.numpy().T) for plane in (weight.sign, weight.mask))
    words, n_out = signs.shape
    tokens = max(1, BLOCK // n_out)
    result = np.empty((len(mask), n_out), np.int32)
    differ, ones = np.empty((tokens, n_out), np.int64), np.empty((tokens, n_out), np.uint8)
    shared = np.bitwise_count(mask.view(np.uint64)).sum(1, dtype=np.int32)[:, None]
    for start in range(0, len(mask), tokens):
        part = slice(start, min(start + tokens, len(mask)))
        count = part.stop - part.start
        total, bits, counted = result[part], differ[:count], ones[:count]
        total[:] = shared[part] if weight.binary else 0
        for word in range(words):
            # A sign is only where the mask is, so M & (w ^ S) is M & w ^ S.
            plane = signs[word]
            if not weight.binary:
                np.bitwise_and(masks[word], mask[part, word, None], out=bits)
                total += np.bitwise_count(bits.view(np.uint64), out=counted)
                np.bitwise_xor(
                    np.bitwise_and(plane, mask[part, word, None]), sign[part, word, None] & masks[word], out=bits
                )
            else:
                np.bitwise_and(plane, mask[part, word, None], out=bits)
                np.bitwise_xor(bits, sign[part, word, None], out=bits)
            np.bitwise_count(bits.view(np.uint64), out=counted)
            np.left_shift(counted, 1, out=counted)
            total -= counted
    return torch.from_numpy(result).view(*shape, n_out)
