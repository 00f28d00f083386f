"""What the golden model and the packer of MixPE know of a weight stream: its recodings and its layout."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DIGITS", "TERNARY_DIGITS", "Layout", "digits_of", "excess", "to_lines"]

Digits = tuple[int, dict[int, tuple[int, ...]]]
"""Offset of a recoding, and for each shift the digit of every unsigned code."""

DIGITS: dict[str, Digits] = {
    "digits": (10, {0: (-2, -1, 0, 1) * 4, 2: tuple(value for value in (-2, -1, 0, 1) for _ in range(4))}),
    "ent": (5, {0: (-1, 0, 1, 2) * 4, 2: tuple(value for value in (-1, 0, 1, 2) for _ in range(4))}),
    "booth4": (8, {0: (0, 1, -2, -1) * 4, 2: (-2, -2, -1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2)}),
    "binary": (0, {shift: tuple(code >> shift & 1 for code in range(16)) for shift in range(4)}),
}
"""Of each recoding of codes of four bits."""

TERNARY_DIGITS: dict[str, Digits] = {
    "digits": (2, {0: (-2, -1, 0, 1)}),
    "ent": (1, {0: (-1, 0, 1, 2)}),
    "booth4": (2, {0: (-2, -1, 0, 1)}),
    "binary": (0, {0: (0, 1, 0, 1), 1: (0, 0, 1, 1)}),
}
"""Of each recoding of codes of two bits, those of ternary weights."""


@dataclass(frozen=True)
class Layout:
    """What the packer knows of an engine: its sizes, how it reads codes, and where it wants its entries."""

    lanes: int
    rows: int
    turn: int
    group: int | None
    """None: the whole row."""
    signed: bool
    recoding: str
    scale_bits: int
    transfer: int
    """Activations in a transfer."""
    delay: int
    drain: int
    act_bits: int
    correction_bits: int = 0
    fold: int = 1
    code_bits: int = 4
    """4, or 2 for ternary weights."""
    lined: bool = False
    """Digits, `ent`, whose bits are the lines that select products (`to_lines`)."""

    @property
    def digits(self) -> Digits:
        """How codes are read."""
        return (DIGITS if self.code_bits == 4 else TERNARY_DIGITS)[self.recoding]

    def steps(self, n_in: int) -> int:
        """Return the steps of a pass over a group."""
        wide = self.lanes * self.fold
        return max(-(-n_in // wide), self.turn) if self.group is None else self.group // wide


def to_lines(codes: Tensor, code_bits: int) -> Tensor:
    """Return codes with each digit of `ent`, 2 h + l - 1, in the form of lines: bit 0 is not (h xor l), bit 1 is h.

    It is its own inverse.
    """
    ones = (1 << code_bits) // 3
    high = codes >> 1 & ones
    return high << 1 | (codes & ones ^ high ^ ones)


def excess(values: Tensor, shift: int, layout: Layout) -> Tensor:
    """Return by how much the products of target `cells` with digits at a shift are too large, each at its own place.

    A digit selects a word with its sign inverted, and misses one if it is negative. Lines choose a word without its
    sign, or ones for the digit 0. Where a group has a fixed number of steps, the array takes a constant off: the former
    inverted sign, or what the digit 2 is too large by.
    """
    half, fixed = 1 << (layout.act_bits - 1), layout.group is not None
    if layout.lined:
        return half * values + (2 * half - 1) * (values <= 0) - 2 * half * fixed
    choices = layout.digits[1][shift]
    return (half << (2 in choices or -2 in choices)) * (not fixed) - (values < 0).long()


def digits_of(codes: Tensor, layout: Layout) -> dict[int, Tensor]:
    """Return for each shift the digits of unsigned codes, int64."""
    return {shift: torch.tensor(values)[codes.long()] for shift, values in layout.digits[1].items()}
