"""TINT, ternary dot products without multipliers, after VitaLLM."""

from typing import TYPE_CHECKING

from nomul.cores.api import Core, MachineUse
from nomul.cores.arrays import SIZES, array_features, array_grid, array_points
from nomul.engines.tint import Tint, TintConfig
from nomul.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["CORE"]

DENSE_POINTS = ((8, 2), (8, 8), (16, 4), (16, 8))
"""Lanes and rows of what the cost model of dense weights is fitted to and tested with."""


def pack(config: TintConfig, weight: "Tensor", mode: int) -> "npt.NDArray[np.uint8]":
    """Return two bits a weight, or dense weights."""
    from nomul.formats import tint

    corrected = config.act_bits if config.trees else None
    steps = tint.steps(weight, lanes=config.lanes_in, rows=config.rows, corrected=corrected)
    return tint.pack_dense(steps, config.dense_units) if config.weights == "dense" else tint.pack(steps, corrected)


CORE = Core(
    gateware=Spec("tint", 2, "ternary dot-product array without multipliers, after VitaLLM", TintConfig, Tint),
    pack=pack,
    serves={"ternary": "ternary"},
    sizes=SIZES,
    candidates=array_grid(forms=({"weights": "code"}, {"weights": "dense"})),
    features=array_features,
    cost_points=array_points(also=lambda lanes, rows: [{"weights": "dense"}] if (lanes, rows) in DENSE_POINTS else []),
    machine=MachineUse({"lanes_in": 32}),
)
