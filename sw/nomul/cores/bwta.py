"""BWTA, binary or ternary weights times ternary activations in population counts."""

from typing import TYPE_CHECKING

from nomul.cores.api import Core
from nomul.cores.arrays import array_features, array_grid, array_points, sizes
from nomul.engines.bwta import Bwta, BwtaConfig
from nomul.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["CORE"]


def pack(config: BwtaConfig, weight: "Tensor", mode: int) -> "npt.NDArray[np.uint8]":
    """Return one or two bits a weight."""
    from nomul.formats import bwta

    return bwta.stream(config, weight)


CORE = Core(
    gateware=Spec("bwta", 6, "binary and ternary weights x ternary activations, after BWTA", BwtaConfig, Bwta),
    pack=pack,
    serves={"bwta": "binary"},
    sizes=sizes((32, 2), (64, 4), (64, 16)),
    candidates=array_grid(scale=4),
    features=array_features,
    cost_points=array_points(scale=4),
)
