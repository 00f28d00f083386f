"""Reference of `hw.engines.bwta`: products of bit planes in int64 words, by population counts.

Element e of a vector is bit e mod 64 of word e // 64; padding is bits 0. A plane of activations in these words is the
row of bits that the hardware keeps, lane 0 lowest: bit 0 of every activation makes the mask M, bit 1 the sign S. (The
kernels of BWTA begin with the highest bit; `sw.formats.plane_words` has theirs.) The identities are of BWTA (arXiv
2604.03957) and its kernels (github.com/yifu-ding/BGEMM-CUDA, branch w2a3).

    binary W, bit w set for -1:   popcount(M) - 2 * popcount(M & (w ^ S))
    ternary W, mask V, sign T:    popcount(M & V) - 2 * popcount(M & V & (T ^ S))

Torch combines words at twice NumPy's speed but counts no bits; NumPy counts them.
"""

import dataclasses
import functools
import math
import threading

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["WORD", "Packed", "matmul", "pack", "pack_plane", "pack_threshold", "popcount"]

WORD = 64
"""Elements in a word."""

BLOCK = 1 << 17
"""Words that are combined at once: what stays in the processor's second cache."""

_kept = threading.local()

FEW = 3
"""Words whose counts an octet can hold the sum of."""


def pack_plane(bits: Tensor) -> Tensor:
    """Pack bool [..., n] into int64 [..., ceil(n / 64)], element 0 in the lowest bit."""
    return torch.from_numpy(_pack(bits.numpy()))


def _pack(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    octets = np.packbits(bits, axis=-1, bitorder="little")
    whole = np.zeros((*octets.shape[:-1], -(-octets.shape[-1] // 8) * 8), np.uint8)
    whole[..., : octets.shape[-1]] = octets
    return whole.view("<i8").astype(np.int64, copy=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """Values -1, 0, 1 as two planes of words, int64 [..., ceil(length / 64)]."""

    length: int
    """Values in a row."""

    mask: Tensor
    """Which are not zero."""

    sign: Tensor
    """Which are negative."""

    @functools.cached_property
    def binary(self) -> bool:
        """Whether no value is zero; the mask is then not needed where the other operand has zeros as padding."""
        return bool((self.ones == self.length).all())

    @functools.cached_property
    def words(self) -> tuple[Tensor, Tensor]:
        """Mask and sign by words, [words, rows], of all rows one after the other."""
        mask, sign = (plane.view(-1, plane.shape[-1]).T.contiguous() for plane in (self.mask, self.sign))
        return mask, sign

    @functools.cached_property
    def ones(self) -> Tensor:
        """How many values of each row are not zero, int32 [rows, 1]."""
        counts = np.bitwise_count(self.words[0].numpy().view(np.uint64))
        return torch.from_numpy(counts.sum(0, dtype=np.int32)[:, None])


def pack(values: Tensor) -> Packed:
    """Pack [..., n] of -1, 0, 1, integers or floats that are exactly these."""
    return pack_threshold(values, 1)


def pack_threshold(values: Tensor, scale: float) -> Packed:
    """Pack numbers [..., n]: 1 where 2 x > s, -1 where 2 x < -s, otherwise 0; s is positive."""
    numbers, half = values.numpy(), scale / 2
    plus, minus = _pack(numbers > half), _pack(numbers < -half)
    return Packed(values.shape[-1], torch.from_numpy(plus | minus), torch.from_numpy(minus))


def popcount(words: Tensor) -> Tensor:
    """Return the number of ones in each int64 word, uint8."""
    return torch.from_numpy(np.bitwise_count(words.numpy().view(np.uint64)))


def matmul(weight: Packed, activations: Packed, dtype: torch.dtype = torch.int32) -> Tensor:
    """Return y = W a for every token.

    Parameters
    ----------
    weight : Packed
        Of [n_out, n_in].
    activations : Packed
        Of [..., tokens, n_in].
    dtype : torch.dtype
        int32, or float32 for a consumer that scales; exact for lengths below 2^24.

    Returns
    -------
    Tensor
        [..., tokens, n_out].
    """
    shape = activations.mask.shape[:-1]
    masks, signs = (plane[:, None] for plane in weight.words)
    mask, sign = (plane[..., None] for plane in activations.words)
    words, tokens, n_out = len(mask), mask.shape[1], signs.shape[2]
    result = torch.empty((tokens, n_out), dtype=dtype)
    shared = activations.ones.to(dtype)
    block = max(1, min(tokens, BLOCK // (words * n_out)))
    some = _scratch(words, block, n_out)
    for start in range(0, tokens, block):
        part = slice(start, min(start + block, tokens))
        if part.stop - start != block:
            some = _scratch(words, part.stop - start, n_out)
        bits, y = some[0], result[part]
        # A sign is only where the mask is, so M & (w ^ S) is M & w ^ S.
        if weight.binary:
            present = shared[part]
            torch.bitwise_and(signs, mask[:, part], out=bits)
            bits.bitwise_xor_(sign[:, part])
        else:
            torch.bitwise_and(masks, mask[:, part], out=bits)
            present = _total(*some, torch.empty_like(y))
            torch.bitwise_and(signs, mask[:, part], out=bits)
            bits.bitwise_xor_(sign[:, part] & masks)
        torch.sub(present, _total(*some, y), alpha=2, out=y)
    return result.view(*shape, n_out)


def _scratch(*shape: int) -> tuple[Tensor, npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Return room for words (as int64, and the same as uint64) and for their counts, this thread's own.

    Memory that is fresh with every product costs as much as counting.
    """
    size = math.prod(shape)
    if size > getattr(_kept, "size", 0):
        _kept.size, _kept.bits, _kept.counts = size, torch.empty(size, dtype=torch.int64), np.empty(size, np.uint8)
    bits = _kept.bits[:size].view(shape)
    return bits, bits.numpy().view(np.uint64), _kept.counts[:size].reshape(shape)


def _total(bits: Tensor, same: npt.NDArray[np.uint64], counts: npt.NDArray[np.uint8], out: Tensor) -> Tensor:
    """Write the ones of [words, tokens, n_out] in all words to `out`, [tokens, n_out]; `counts` is written over."""
    np.bitwise_count(same, out=counts)
    for word in range(0, len(counts), FEW):
        some = counts[word]
        for other in counts[word + 1 : word + FEW]:
            some += other
        if word:
            out += torch.from_numpy(some)
        else:
            np.copyto(out.numpy(), some)
    return out
