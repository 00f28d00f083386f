"""The plain INT8 array, made as well as we can: what the others are measured against."""

import math
from typing import TYPE_CHECKING

from nomul.cores.api import Core, Settings
from nomul.cores.arrays import SIZES, array_features, array_grid, array_points
from nomul.engines.baseline import Baseline, BaselineConfig
from nomul.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["CORE"]

REFERENCE_LANES = (16, 14, 12, 10, 8, 7, 6, 5, 4)
"""Lanes of the array as a reference, the first that divides the products."""


def pack(config: BaselineConfig, weight: "Tensor", mode: int) -> "npt.NDArray[np.uint8]":
    """Return eight bits a weight."""
    from nomul.formats import baseline

    return baseline.pack(baseline.steps(weight, lanes=config.lanes_in, rows=config.rows), config.trees)


def sized(macs: int, target: str) -> Settings:
    """Return lanes and rows that form so many products in a cycle, or a few more where no lanes divide them."""
    lanes = next((lanes for lanes in REFERENCE_LANES if macs % lanes == 0 and macs // lanes <= 256), min(macs, 16))
    lanes = max(lanes, 4) if target == "cells" else lanes
    return {"lanes_in": lanes, "rows": max(1, math.ceil(macs / lanes))}


CORE = Core(
    gateware=Spec("baseline", 3, "plain INT8 array, the reference of area ratios", BaselineConfig, Baseline),
    pack=pack,
    serves={"ternary": "int8", "mixpe": "int8"},
    sizes=SIZES,
    candidates=array_grid(),
    features=array_features,
    cost_points=array_points(),
    reference="integer",
    sized=sized,
)
