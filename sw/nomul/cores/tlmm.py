"""TLMM, table look-up for ternary weights, after TeLLMe v2."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nomul.arith.target import AMD, Target
from nomul.arith.xilinx import lutram_parts
from nomul.cores.api import Core, CostPoint, MachineUse, Settings
from nomul.cores.arrays import ROWS, longest
from nomul.engines.tlmm import Tlmm, TlmmConfig
from nomul.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["CORE"]

TABLES = (4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64)
"""What a search looks at."""

POINTS = (
    (4, 2, 2, 512), (4, 4, 1, 4096), (8, 2, 4, 4096), (8, 8, 2, 1024), (16, 4, 4, 8192), (12, 16, 3, 4096),
    (4, 8, 4, 4096), (8, 14, 8, 8192), (16, 2, 2, 1024),
)  # fmt: skip
"""Tables, rows, tables filled at a time, and the longest vectors of what the cost model is fitted to."""

POINTS_TEST = ((8, 4, 2, 4096), (12, 8, 6, 2048), (16, 7, 8, 4096))


def pack(config: TlmmConfig, weight: "Tensor", mode: int) -> "npt.NDArray[np.uint8]":
    """Return the indices of groups, or dense weights."""
    from nomul.formats import tlmm

    sizes = {"group": config.group, "tables": config.tables, "rows": config.rows}
    if config.weights == "dense":
        return tlmm.pack_dense(weight, **sizes, units=config.dense_units)
    return tlmm.pack(weight, **sizes, half=config.table == "half")


def grid() -> Iterator[Settings]:
    """Yield tables, rows and fill units; filling all tables takes at most 16 turns."""
    for tables, rows in itertools.product(TABLES, ROWS):
        for fill in range(1, tables + 1):
            if tables % fill == 0 and tables // fill <= 16:
                yield {"tables": tables, "rows": rows, "fill_units": fill}


def features(config: TlmmConfig) -> list[float]:
    """Return 1, tables, tables filled at a time, tables x memory, tables x rows, rows x width of a total.

    The memory of a table is look-up tables on AMD parts, whose ports rows share, and elsewhere a copy for each row.
    """
    tables, memory = config.tables, config.rows
    if (target := Target(config.target)) in AMD:
        parts = lutram_parts(config.rows * -(-config.entry_width // 2), target)
        memory = sum(8 if ports == 7 else 4 for ports in parts)
    totals = config.rows * config.total_width
    return [1, tables, config.fill_units, tables * memory, tables * config.rows, totals]


def lacks(target: str) -> str:
    """Say why there is none for a target."""
    return "An iCE40 has no memories of look-up tables, which TLMM's tables are." if target == "ice40" else ""


def _fields(tables: int, rows: int, fill: int) -> dict[str, Any]:
    return {"tables": tables, "rows": rows, "fill_units": fill}


CORE = Core(
    gateware=Spec("tlmm", 1, "ternary matmul by table look-up, after TeLLMe v2", TlmmConfig, Tlmm),
    pack=pack,
    serves={"ternary": "ternary"},
    sizes={"small": _fields(4, 2, 2), "medium": _fields(8, 4, 4), "large": _fields(16, 8, 8)},
    candidates=grid,
    features=features,
    cost_points=tuple(
        CostPoint({**_fields(tables, rows, fill), **longest(length)}, held)
        for held, points in ((False, POINTS), (True, POINTS_TEST))
        for tables, rows, fill, length in points
    ),
    lacks=lacks,
    machine=MachineUse({"tables": 9, "fill_units": 9}),
)
