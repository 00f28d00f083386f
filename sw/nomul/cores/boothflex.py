"""BoothFlex, INT8 or four ternary products a lane, after VitaLLM."""

from typing import TYPE_CHECKING

from nomul.cores.api import Core, MachineUse
from nomul.cores.arrays import array_features, array_grid, array_points, sizes
from nomul.engines.boothflex import BoothFlex, BoothFlexConfig
from nomul.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["CORE"]


def pack(config: BoothFlexConfig, weight: "Tensor", mode: int) -> "npt.NDArray[np.uint8]":
    """Return eight bits a lane: an INT8 weight, or four ternary ones."""
    from nomul.formats import boothflex

    ternary = config.modes[mode].name == "ternary"
    steps = boothflex.steps(weight, lanes=config.lanes_in, rows=config.rows, ternary=ternary)
    return boothflex.pack(steps, config.trees)


CORE = Core(
    gateware=Spec(
        "boothflex", 4, "INT8 or four ternary products a lane in one radix-4 datapath, after VitaLLM",
        BoothFlexConfig, BoothFlex,
    ),
    pack=pack,
    serves={"ternary": "ternary"},
    sizes=sizes((8, 2), (16, 4), (16, 16)),
    candidates=array_grid(),
    features=array_features,
    cost_points=array_points(),
    machine=MachineUse({"lanes_in": 8}),
)  # fmt: skip
