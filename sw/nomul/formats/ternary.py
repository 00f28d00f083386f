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


@dataclass(frozen=True, eq=False, init=False)
class TernaryLayer:
    """A linear layer with weights -1, 0 and +1 under a scale for the layer, each row, or each group of a row.

        w[o, k] = weight[o, k] * scales[o, k // group]

    For quantised activations `q` (integers) with `q = round(x * s_x)`, a layer of one scale computes
    `y = (weight @ q) * scale / s_x`. Scales multiply, whatever the file they came from says.

    Parameters
    ----------
    name : name of the layer in its checkpoint, without the suffix `.weight`.
    weight : int8 [n_out, n_in], values -1, 0, +1.
    scales : a number, or floats [n_out, groups] (kept as float32), finite; a number is positive, each of several 0 or
        more.
    group : inputs of a group; the whole row if not given. The last group of a row may be shorter.

    Raises `InputError` for another type, shape, value or scale.
    """

    name: str
    weight: Tensor
    scales: Tensor
    group: int

    def __init__(self, name: str, weight: Tensor, scales: Tensor | float, group: int | None = None) -> None:
        for field, value in (("name", name), ("weight", weight)):
            object.__setattr__(self, field, value)
        if weight.dtype != torch.int8 or weight.ndim != 2 or weight.numel() == 0:
            raise InputError(
                f"layer {name}: the weight is {weight.dtype} {list(weight.shape)}, "
                f"but a ternary layer is a non-empty torch.int8 [n_out, n_in]"
            )
        try:
            check_trits(weight)
        except InputError as error:
            raise InputError(f"layer {name}: {error}") from None
        if group is None or not isinstance(scales, Tensor):
            group = self.n_in
        if group < 1:
            raise InputError(f"layer {name}: the group is {group}, but it must be 1 or more")
        if isinstance(scales, Tensor):
            _check_scales(name, scales, (self.n_out, -(-self.n_in // group)))
            scales = scales.float()
        elif not (math.isfinite(scales) and scales > 0):
            raise InputError(f"layer {name}: the scale is {scales}, but it must be finite and greater than 0")
        else:
            scales = torch.tensor([[scales]], dtype=torch.float64)
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "group", group)

    @property
    def n_out(self) -> int:
        """Number of outputs (rows)."""
        return self.weight.shape[0]

    @property
    def n_in(self) -> int:
        """Number of inputs (columns)."""
        return self.weight.shape[1]

    @property
    def share(self) -> str:
        """What a scale is for, in words."""
        return "layer" if self.uniform else "row" if self.group >= self.n_in else f"group of {self.group} inputs"

    @property
    def uniform(self) -> bool:
        """Whether the layer has one scale."""
        return self.scales.shape == (1, 1)

    @property
    def scale(self) -> float:
        """The scale of a layer that has one; `InputError` for one that has several."""
        if not self.uniform:
            raise InputError(f"layer {self.name} has a scale for each {self.share}, but one for the layer is needed")
        return self.scales.item()

    def dequantise(self) -> Tensor:
        """Return the weights, float32 [n_out, n_in]."""
        columns = torch.arange(self.n_in) // self.group
        return self.weight.float() * self.scales.float().expand(self.n_out, -1)[:, columns]


def _check_scales(name: str, scales: Tensor, shape: tuple[int, int]) -> None:
    if scales.shape != shape or not scales.is_floating_point():
        raise InputError(f"layer {name}: the scales are {scales.dtype} {list(scales.shape)}, not floats {list(shape)}")
    wrong = ~(scales.isfinite() & (scales >= 0))
    if bool(wrong.any()):
        where = wrong.nonzero()[0].tolist()
        raise InputError(f"layer {name}: the scale at {where} is {float(scales[tuple(where)])}; allowed: 0 or more")
