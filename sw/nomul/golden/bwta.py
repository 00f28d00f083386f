"""Reference of `nomul.engines.bwta`: products of bit planes in int64 words, by population counts.

Element e of a vector is bit e mod 64 of word e // 64; padding is bits 0. A plane of activations in these words is the
row of bits that the hardware keeps, lane 0 lowest: bit 0 of every activation makes the mask M, bit 1 the sign S. (The
kernels of BWTA begin with the highest bit; `nomul.formats.plane_words` has theirs.) The identities are of BWTA (arXiv
2604.03957) and its kernels (github.com/yifu-ding/BGEMM-CUDA, branch w2a3).

    binary W, bit w set for -1:   popcount(M) - 2 * popcount(M & (w ^ S))
    ternary W, mask V, sign T:    popcount(M & V) - 2 * popcount(M & V & (T ^ S))

Torch combines words at twice NumPy's speed but counts no bits; NumPy counts them.
"""

import dataclasses
import functools
import math
import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["WORD", "Packed", "matmul", "pack", "pack_plane", "pack_threshold"]

WORD = 64
"""Elements in a word."""

BLOCK = 1 << 16
"""Words that are combined at once: what stays in the processor's second cache."""

FEW = 3
"""Words whose counts an octet can hold the sum of."""

ROOMS = 64
"""Shapes of blocks whose views are kept."""

_kept = threading.local()


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
    """Values -1, 0, 1 as two planes of words."""

    shape: tuple[int, ...]
    """Of the values, [..., length]."""

    planes: Tensor
    """Which are not zero and which are negative, int64 [2, words, rows], of all rows one after the other."""

    @property
    def mask(self) -> Tensor:
        """Which are not zero, int64 [..., words]."""
        return self.planes[0].T.reshape(*self.shape[:-1], -1)

    @property
    def sign(self) -> Tensor:
        """Which are negative, int64 [..., words]."""
        return self.planes[1].T.reshape(*self.shape[:-1], -1)

    @functools.cached_property
    def across(self) -> tuple[Tensor, Tensor]:
        """Mask and sign, [words, 1, rows]: of weights, whose rows are columns of the result."""
        mask, sign = self.planes[:, :, None]
        return mask, sign

    @functools.cached_property
    def down(self) -> tuple[Tensor, Tensor]:
        """Mask and sign, [words, rows, 1]: of activations."""
        mask, sign = self.planes[..., None]
        return mask, sign

    @functools.cached_property
    def binary(self) -> bool:
        """Whether no value is zero; the mask is then not needed where the other operand has zeros as padding."""
        return bool((self.ones(torch.int32) == self.shape[-1]).all())

    @functools.cached_property
    def _ones(self) -> dict[torch.dtype, Tensor]:
        return {}

    def ones(self, dtype: torch.dtype) -> Tensor:
        """Return how many values of each row are not zero, [rows, 1]."""
        if dtype not in self._ones:
            counts = np.bitwise_count(self.planes[0].numpy().view(np.uint64)).sum(0, dtype=np.int32)
            self._ones[dtype] = torch.from_numpy(counts[:, None]).to(dtype)
        return self._ones[dtype]


def pack(values: Tensor) -> Packed:
    """Pack [..., n] of -1, 0, 1, integers or floats that are exactly these."""
    return pack_threshold(values, 1)


def pack_threshold(values: Tensor, scale: float) -> Packed:
    """Pack numbers [..., n]: 1 where 2 x > s, -1 where 2 x < -s, otherwise 0; s is positive."""
    numbers, half = values.numpy().reshape(-1, values.shape[-1]), scale / 2
    bits = np.empty((2, *numbers.shape), np.bool_)
    mask, sign = bits
    np.less(numbers, -half, out=sign)
    np.greater(numbers, half, out=mask)
    mask |= sign
    return Packed(tuple(values.shape), torch.from_numpy(np.ascontiguousarray(_pack(bits).swapaxes(1, 2))))


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
    masks, signs = weight.across
    mask, sign = activations.down
    words, tokens, n_out = len(mask), mask.shape[1], signs.shape[2]
    result = torch.empty((tokens, n_out), dtype=dtype)
    shared = activations.ones(dtype)
    block = max(1, min(tokens, BLOCK // (words * n_out)))
    for start in range(0, tokens, block):
        part = slice(start, min(start + block, tokens))
        room = _room(words, part.stop - start, n_out)
        bits, y, there, negative = room.bits, result[part], mask[:, part], sign[:, part]
        # A sign is only where the mask is, so M & (w ^ S) is M & w ^ S.
        if weight.binary:
            present = shared[part]
            torch.bitwise_and(signs, there, out=bits)
            bits.bitwise_xor_(negative)
        else:
            torch.bitwise_and(masks, there, out=bits)
            present = room.total(torch.empty_like(y))
            torch.bitwise_and(signs, there, out=bits)
            bits.bitwise_xor_(negative & masks)
        torch.sub(present, room.total(y), alpha=2, out=y)
    return result.view(*activations.shape[:-1], n_out)


class _Room(NamedTuple):
    """Where a block is worked out, [words, tokens, n_out]; every field is a view of the same two arrays."""

    bits: Tensor
    words: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.uint8]
    groups: list[list[npt.NDArray[np.uint8]]]
    """Counts of `FEW` words each."""
    sums: list[Tensor]
    """The first counts of each group."""

    def total(self, out: Tensor) -> Tensor:
        """Write the ones of `bits` in all words to `out`, [tokens, n_out]; the counts are written over."""
        np.bitwise_count(self.words, out=self.counts)
        for first, *others in self.groups:
            for other in others:
                np.add(first, other, out=first)
        out.copy_(self.sums[0])
        for more in self.sums[1:]:
            out += more
        return out


def _room(*shape: int) -> _Room:
    """Return this thread's own room for a block; fresh memory, and even fresh views, cost as much as counting."""
    rooms: dict[tuple[int, ...], _Room] = _kept.__dict__.setdefault("rooms", {})
    if shape not in rooms:
        size = math.prod(shape)
        if size > getattr(_kept, "size", 0) or len(rooms) == ROOMS:
            rooms.clear()
            _kept.size, _kept.bits, _kept.counts = size, torch.empty(size, dtype=torch.int64), np.empty(size, np.uint8)
        bits, counts = _kept.bits[:size].view(shape), _kept.counts[:size].reshape(shape)
        groups = [list(counts[word : word + FEW]) for word in range(0, len(counts), FEW)]
        sums = [torch.from_numpy(first) for first, *_ in groups]
        rooms[shape] = _Room(bits, bits.numpy().view(np.uint64), counts, groups, sums)
    return rooms[shape]
