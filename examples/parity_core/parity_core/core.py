"""What Nomul has to know of the core: one object."""

from pathlib import Path
from typing import TYPE_CHECKING

from nomul.cores.api import Core
from nomul.cores.arrays import SIZES, array_features, array_grid, array_points
from nomul.spec import Spec
from parity_core.gateware import Parity, ParityConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["CORE"]


def pack(config: ParityConfig, weight: "Tensor", mode: int) -> "npt.NDArray[np.uint8]":
    """Return the weight stream, uint8 [transfers, bytes], from int8 [n_out, n_in]."""
    import numpy as np

    from nomul.formats.ternary import check_trits
    from nomul.formats.tiles import tile

    check_trits(weight)
    steps = tile(weight, rows=config.rows, lanes=config.lanes_in).flatten(0, 1).numpy()
    codes = np.stack([steps != 0, steps < 0], axis=-1).reshape(len(steps), -1).astype(np.uint8)
    parity = codes.sum(axis=1, keepdims=True) % 2
    return np.packbits(np.concatenate([codes, parity.astype(np.uint8)], axis=1), axis=1, bitorder="little")


CORE = Core(
    gateware=Spec("parity", 0x1000, "ternary products with parity on the weight stream", ParityConfig, Parity),
    pack=pack,
    serves={"ternary": "ternary"},
    sizes=SIZES,
    candidates=array_grid(),
    features=array_features,
    cost_points=array_points(),
    cost_targets=("ecp5",),
    cost_file=Path(__file__).with_name("cost_points.json"),
)
