"""Systolic arrays of INT4 weights in groups by INT8 or FP16 activations, after MixPE."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nomul.cores.api import MACRO_BITS, Core, CostPoint, Settings
from nomul.cores.arrays import longest
from nomul.spec import Spec
from nomul.systolic.systolic import Systolic, SystolicConfig

if TYPE_CHECKING:
    from torch import Tensor

    from nomul.draw import Draw
    from nomul.formats.job import Job
    from nomul.formats.mixpe import GroupQuantized

__all__ = ["CORE"]


def random_job(config: SystolicConfig, draw: "Draw") -> "Job":
    """Return weights with random zero points and scales, signed or not, and activations for them."""
    import torch

    from nomul.formats.mixpe import GroupQuantized
    from nomul.formats.systolic import systolic_job

    n_in, n_out = draw.number(1, min(config.n_in_max, 3 * config.group)), draw.number(1, min(config.n_out_max, 40))
    tokens, low = draw.number(1, min(config.tokens_max, 20)), draw.number(-1, 0) * 8
    parts = (n_out, -(-n_in // config.group))
    operands = GroupQuantized(
        draw.values(4, n_out, n_in).to(torch.int8) + 8 + low,
        draw.integers(low, low + 15, *parts),
        draw.values(config.scale_bits, *parts) + (1 << (config.scale_bits - 1)),
        config.group,
    )
    vectors = draw.words(tokens, n_in) if config.floats else draw.values(config.act_bits, tokens, n_in)
    return systolic_job(config, operands, vectors)


def multiply(config: SystolicConfig, weight: Any, activations: "Tensor") -> "Job":
    """Return the job of a product; a plain matrix has zero points of 0 and scales of 1."""
    from nomul.formats import mixpe
    from nomul.formats.systolic import systolic_job

    operands = weight if isinstance(weight, mixpe.GroupQuantized) else mixpe.matrix(weight, config.group)
    return systolic_job(config, operands, activations)


def group_fields(operands: "GroupQuantized", scale_bits: int, settings: Settings) -> Settings:
    """Return the layer's group and scales; one scale a row is a group of all inputs, in whole tiles of rows."""
    rows = settings.get("rows", SystolicConfig().rows)
    whole = max(2, -(-operands.shape[1] // rows)) * rows
    return {"group": whole if operands.group >= operands.shape[1] else operands.group, "scale_bits": scale_bits}


def features(config: SystolicConfig) -> list[float]:
    """Return 1, the edges, elements, elements x width of a sum, columns x width of a total, and bits of totals.

    The last are those of totals that are in no memory block: in portable form all of them, which iCE40 keeps in
    flip-flops, on the other FPGAs those of dataflow output, and in standard cells those too few for a macro.
    """
    elements, bits = config.rows * config.columns, config.places * config.total_width
    small = bits <= MACRO_BITS if config.target == "cells" else config.target == "portable" or not config.keeps_weights
    return [
        1, config.rows + config.columns, elements, elements * config.value_width, config.columns * config.total_width,
        config.columns * bits * small,
    ]  # fmt: skip


def candidates() -> Iterator[Settings]:
    """Yield a search grid of rows, columns and dataflows."""
    sides = (4, 8, 16, 32)
    for rows, columns, dataflow in itertools.product(sides, sides, ("output", "weight")):
        yield {"rows": rows, "columns": columns, "dataflow": dataflow}


POINTS = ((4, 2, 512), (4, 4, 4096), (8, 4, 512), (4, 8, 1024), (8, 8, 8192), (16, 8, 4096))
POINTS_TEST = ((4, 12, 2048), (8, 16, 1024))
"""Rows, columns and longest vectors of what the cost model is fitted to, and tested with."""

CORE = Core(
    gateware=Spec(
        "systolic", 260, "systolic INT4 x INT8 or FP16 arrays by shift and add, after MixPE", SystolicConfig, Systolic
    ),
    multiply=multiply,
    serves={"mixpe": "int4"},
    sizes={
        "small": {"rows": 4, "columns": 4},
        "medium": {"rows": 8, "columns": 8},
        "large": {"rows": 16, "columns": 16},
    },
    candidates=candidates,
    features=features,
    cost_targets=("ecp5", "ice40", "xcup", "cells"),
    cost_points=tuple(
        CostPoint({"rows": rows, "columns": columns, "dataflow": dataflow, **longest(length)}, held)
        for held, points in ((False, POINTS), (True, POINTS_TEST))
        for rows, columns, length in points
        for dataflow in ("output", "weight")
    ),
    jobs=random_job,
    group_fields=group_fields,
)
