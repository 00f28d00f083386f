"""The FP16 multiply-add array: what W4A16 is measured against."""

from typing import TYPE_CHECKING

from nomul.cores.api import Core, CostPoint
from nomul.cores.arrays import longest
from nomul.engines.fp16_fma import Fp16Fma, Fp16FmaConfig
from nomul.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["CORE"]

POINTS = ((2, 512), (4, 4096), (8, 1024), (16, 4096))
"""Rows and the longest vectors of what the cost model is fitted to."""

POINTS_TEST = ((6, 2048), (12, 4096))


def pack(config: Fp16FmaConfig, weight: "Tensor", mode: int) -> "npt.NDArray[np.uint8]":
    """Return words of binary16."""
    from nomul.formats import fp16

    return fp16.pack(weight, lanes=1, rows=config.rows, bits=16)


def expect(config: Fp16FmaConfig, weight: "Tensor", activations: "Tensor") -> "Tensor":
    """Return sums in binary32, rounded after each product, in order."""
    from nomul.golden import fp16_fma

    return fp16_fma.matmul(weight, activations)


CORE = Core(
    gateware=Spec("fp16", 8, "FP16 multiply-add array, the reference of W4A16", Fp16FmaConfig, Fp16Fma),
    pack=pack,
    expect=expect,
    sizes={"small": {"rows": 2}, "medium": {"rows": 4}, "large": {"rows": 8}},
    features=lambda config: [1, config.rows],
    cost_points=tuple(
        CostPoint({"rows": rows, **longest(length)}, held)
        for held, points in ((False, POINTS), (True, POINTS_TEST))
        for rows, length in points
    ),
    cost_targets=("ice40",),
    routed=False,
    reference="fp16",
    sized=lambda macs, target: {"rows": macs},
    cells_most=16,
)
