"""Random operands for checks, the same for the same seed: small values, extremes, ties, and every bit pattern."""

import torch
from torch import Tensor

__all__ = ["Draw"]

MOST = (1 << 63) - 1
"""Largest number of 64 bits."""


class Draw:
    """Draws numbers and values from one seed.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)

    def number(self, low: int, high: int) -> int:
        """Return a number from low to high."""
        return int(self.integers(low, high))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return integers from low to high, int64, up to all numbers of 64 bits."""
        if high < MOST:
            return torch.randint(low, high + 1, shape, generator=self.random)
        # PyTorch takes the end of a range, which is no number of 64 bits here.
        if low > -MOST:
            return torch.randint(low - 1, high, shape, generator=self.random) + 1
        whole = torch.empty(shape, dtype=torch.int64).random_(-MOST - 1, None, generator=self.random)
        return whole.clamp(min=low)

    def values(self, bits: int, *shape: int) -> Tensor:
        """Return two's complement values, int64: extremes, one value only, a few bits only, or all of the range."""
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        kind = self.number(0, 4)
        if kind == 0:
            return torch.tensor([low, high, 0])[torch.randint(3, shape, generator=self.random)]
        if kind == 1:
            return torch.full(shape, self.number(low, high))
        some = (1 << self.number(0, bits - 1)) if kind == 2 else high
        return self.integers(-some, min(some, MOST), *shape).clamp(low, high)

    def near(self, value: int, limit: int) -> int:
        """Return a scale of which a value is the half, or nearly, from 1 to a limit."""
        return min(max(2 * abs(value) + self.number(-1, 1), 1), limit)

    def words(self, *shape: int) -> Tensor:
        """Return binary16 words, int64: each row has exponents from a range of its own; a few are of any pattern.

        Without such ranges nearly all sums would hold nothing but their largest term, and most an infinity or NaN.
        """

        def draw(low: int, high: int, size: tuple[int, ...]) -> Tensor:
            return torch.randint(low, high, size, generator=self.random)

        rows = (shape[0], 1)
        low, span = draw(0, 31, rows), draw(1, 13, rows)
        field = (low + draw(0, 1 << 16, shape) % span).clamp(max=30)
        words = draw(0, 2, shape) << 15 | field << 10 | draw(0, 1024, shape)
        anything = draw(0, 6, rows) == 0
        words = torch.where(anything & (draw(0, 16, shape) == 0), draw(0, 1 << 16, shape), words)
        special = draw(0, 2, shape) << 15 | 0x7C00 | draw(0, 2, shape) * 0x155
        words = torch.where(anything & (draw(0, 32, shape) == 0), special, words)
        words = torch.where(draw(0, 16, shape) == 0, words & 0x8000, words)
        return (words ^ 0x8000) - 0x8000
