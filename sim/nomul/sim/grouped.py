"""Zero points and scales for engines that take weights in groups; other engines' weights stay as they are."""

from typing import Any

import torch
from torch import Tensor

from nomul.formats.mixpe import GroupQuantized

__all__ = ["extreme_groups", "random_groups"]


def random_groups(config: Any, weight: Tensor, random: torch.Generator, mode: int = 0) -> Any:
    """Return codes with random zero points and scales over their full ranges, if the engine has scales."""
    shape, group = _groups(config, weight)
    if shape is None:
        return weight
    low, high = config.modes[mode].weights
    zeros = torch.randint(low, high + 1, shape, generator=random)
    return GroupQuantized(weight, zeros, torch.randint(0, 1 << config.scale_bits, shape, generator=random), group)


def extreme_groups(config: Any, weight: Tensor, mode: int = 0) -> Any:
    """Return codes with the smallest and the largest zero point by turns, and the largest scale, if there is one."""
    shape, group = _groups(config, weight)
    if shape is None:
        return weight
    ends = torch.tensor(config.modes[mode].weights)
    zeros = ends[(torch.arange(shape[0])[:, None] // 2 + torch.arange(shape[1])) % 2]
    return GroupQuantized(weight, zeros, torch.full(shape, (1 << config.scale_bits) - 1), group)


def _groups(config: Any, weight: Tensor) -> tuple[tuple[int, int] | None, int]:
    if not hasattr(config, "scale_bits"):
        return None, 0
    n_out, n_in = weight.shape
    group = config.group or n_in
    return (n_out, -(-n_in // group)), group
