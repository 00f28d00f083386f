"""One ternary linear layer, as every reader of weights returns it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nomul.errors import InputError


def check_trits(values: Tensor) -> None:
    """Raise `InputError`, saying which value and where, unless all values are -1, 0 or +1."""
    array = values.numpy()
    if array.min(initial=0) < -1 or array.max(initial=0) > 1:
        where = np.argwhere((array < -1) | (array > 1))[0].tolist()
        raise InputError(f"weight {int(values[tuple(where)])} at {where} is not a trit; allowed are -1, 0 and 1")


@dataclass(frozen=True, eq=False)
class TernaryLayer:
    """A linear layer with weights -1, 0 and +1 under one scale.

    For quantised activations `q` (integers) with `q = round(x * s_x)`, the layer computes
    `y = (weight @ q) * scale / s_x`. The scale multiplies, whatever the file it came from says.

    Parameters
    ----------
    name : name of the layer in its checkpoint, without the suffix `.weight`.
    weight : int8 [n_out, n_in], values -1, 0, +1.
    scale : positive and finite; files keep it as a float32.

    Raises `InputError` for another type, shape, value or scale.
    """

    name: str
    weight: Tensor
    scale: float

    def __post_init__(self) -> None:
        if self.weight.dtype != torch.int8 or self.weight.ndim != 2 or self.weight.numel() == 0:
            raise InputError(
                f"layer {self.name}: the weight is {self.weight.dtype} {list(self.weight.shape)}, "
                f"but a ternary layer is a non-empty torch.int8 [n_out, n_in]"
            )
        try:
            check_trits(self.weight)
        except InputError as error:
            raise InputError(f"layer {self.name}: {error}") from None
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"layer {self.name}: the scale is {self.scale}, but it must be finite and greater than 0")

    @property
    def n_out(self) -> int:
        """Number of outputs (rows)."""
        return self.weight.shape[0]

    @property
    def n_in(self) -> int:
        """Number of inputs (columns)."""
        return self.weight.shape[1]
