"""Random weights as a checkpoint, so that every command takes them as it takes a model's."""

from pathlib import Path
from typing import Any

import torch

from nomul.commands.operands import HEADS, find_mode
from nomul.errors import InputError
from nomul.formats.checkpoint import save_dense
from nomul.formats.container import write_container
from nomul.formats.ternary import TernaryLayer

__all__ = ["write_random"]

GROUP = 64
"""Inputs of a group of INT4 weights."""


def write_random(file: Path, config: Any, mode: str | None, shape: tuple[int, int], seed: int, *, groups: bool) -> None:
    """Write a checkpoint with one layer of random weights, [n_out, n_in], which a core's mode takes.

    Ternary and binary weights are a ternary layer, wider ones the head of a model. With `groups` they are INT4 weights
    in groups of `GROUP` inputs, or one group if n_in is no multiple of that, as GPTQ stores them.

    Raises
    ------
    InputError
        If there is no such mode, or the shape is none of whole words of eight INT4 weights.
    """
    random = torch.Generator().manual_seed(seed)
    n_out, n_in = shape
    if groups:
        if n_out % 8 or n_in % 8:
            raise InputError(f"shape is {n_out}x{n_in}; allowed for INT4 weights: multiples of 8")
        count = n_in // GROUP if n_in % GROUP == 0 else 1
        words = {"random.qweight": (n_in // 8, n_out), "random.qzeros": (count, n_out // 8)}
        low, high = -(1 << 31), (1 << 31)
        tensors = {
            name: torch.randint(low, high, size, generator=random, dtype=torch.int64).to(torch.int32)
            for name, size in words.items()
        }
        tensors["random.scales"] = torch.rand((count, n_out), generator=random).half() + 0.5
        write_container(file, tensors, {})
        return
    values = config.modes[find_mode("", config, mode)].weight_values
    drawn = values.start + values.step * torch.randint(len(values), (n_out, n_in), generator=random)
    if values.start >= -1 and values.stop <= 2:
        save_dense(file, [TernaryLayer("random", drawn.to(torch.int8), 1.0)], {}, {})
    else:
        save_dense(file, [], {f"{HEADS[0]}.weight": drawn.float()}, {})
