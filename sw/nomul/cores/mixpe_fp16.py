"""MixPE's W4A16: INT4 weights times FP16 activations, aligned to the largest exponent of a group."""

from typing import TYPE_CHECKING

from nomul.cores.api import Core
from nomul.cores.arrays import array_features, array_points, sizes
from nomul.engines.mixpe_fp16 import MixpeFp16, MixpeFp16Config
from nomul.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["CORE"]


def pack(config: MixpeFp16Config, weight: "Tensor", mode: int) -> "npt.NDArray[np.uint8]":
    """Return four bits a weight."""
    from nomul.formats import fp16

    return fp16.pack(weight, lanes=config.lanes_in, rows=config.rows, bits=4)


def expect(config: MixpeFp16Config, weight: "Tensor", activations: "Tensor") -> "Tensor":
    """Return the golden model's results."""
    from nomul.golden import mixpe_fp16

    parts = {"group": config.group, "significand": config.significand, "n_in_max": config.n_in_max}
    return mixpe_fp16.matmul(weight, activations, **parts)


CORE = Core(
    gateware=Spec(
        "mixpe_fp16", 9, "INT4 x FP16 dot-product array without multipliers, after MixPE", MixpeFp16Config, MixpeFp16
    ),
    pack=pack,
    expect=expect,
    sizes=sizes((4, 2), (8, 4), (16, 16)),
    features=array_features,
    cost_points=array_points(power_of_two=True),
    cost_targets=("ice40",),
    routed=False,
)
