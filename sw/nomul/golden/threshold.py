"""Reference of `nomul.vector.threshold`: values become -1, 0, 1 or 0, 1 by a threshold of half a scale."""

import torch
from torch import Tensor

__all__ = ["boolean", "ternary"]


def ternary(values: Tensor, scale: Tensor | int) -> Tensor:
    """Return int8 1 where 2 x > s, -1 where 2 x < -s, otherwise 0, for integer values and scales."""
    double = values.long() * 2
    return (double > scale).to(torch.int8) - (double < -torch.as_tensor(scale)).to(torch.int8)


def boolean(values: Tensor, scale: Tensor | int) -> Tensor:
    """Return int8 1 where 2 x > s, otherwise 0."""
    return (values.long() * 2 > scale).to(torch.int8)
