"""BoothFlex-BS, weights of 2 to 8 bits, one radix-4 digit a cycle, after VitaLLM."""

from typing import TYPE_CHECKING

from nomul.cores.api import Core
from nomul.cores.arrays import array_features, array_grid, array_points, sizes
from nomul.engines.boothflex_bs import BoothFlexBs, BoothFlexBsConfig
from nomul.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["CORE"]


def pack(config: BoothFlexBsConfig, weight: "Tensor", mode: int) -> "npt.NDArray[np.uint8]":
    """Return digits, the highest of a block's weights first."""
    from nomul.formats import boothflex_bs

    (low, high), sizes = config.modes[mode].weights, {"lanes": config.lanes_in, "rows": config.rows}
    digits = (high.bit_length() + 2) // 2
    return boothflex_bs.pack(boothflex_bs.steps(weight, **sizes, digits=digits, low=low, high=high))


CORE = Core(
    gateware=Spec(
        "boothflex_bs", 5, "weights of 2 to 8 bits, one radix-4 digit a cycle, after VitaLLM",
        BoothFlexBsConfig, BoothFlexBs,
    ),
    pack=pack,
    serves={"ternary": "ternary"},
    sizes=sizes((8, 2), (16, 4), (16, 16)),
    candidates=array_grid(),
    features=array_features,
    cost_points=array_points(),
)  # fmt: skip
