"""Systolic arrays of INT4 weights in groups by INT8 or FP16 activations, after MixPE."""

from typing import TYPE_CHECKING, Any

from nomul.cores.api import Core, Settings
from nomul.spec import Spec
from nomul.systolic.systolic import Systolic, SystolicConfig

if TYPE_CHECKING:
    from torch import Tensor

    from nomul.draw import Draw
    from nomul.formats.job import Job
    from nomul.formats.mixpe import Operands

__all__ = ["CORE"]


def random_job(config: SystolicConfig, draw: "Draw") -> "Job":
    """Return weights with random zero points and scales, signed or not, and activations for them."""
    import torch

    from nomul.formats.mixpe import Operands
    from nomul.formats.systolic import systolic_job

    n_in, n_out = draw.number(1, min(config.n_in_max, 3 * config.group)), draw.number(1, min(config.n_out_max, 40))
    tokens, low = draw.number(1, min(config.tokens_max, 20)), draw.number(-1, 0) * 8
    parts = (n_out, -(-n_in // config.group))
    operands = Operands(
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

    operands = weight if isinstance(weight, mixpe.Operands) else mixpe.matrix(weight, config.group)
    return systolic_job(config, operands, activations)


def group_fields(operands: "Operands", scale_bits: int, settings: Settings) -> Settings:
    """Return the layer's group and scales; one scale a row is a group of all inputs, in whole tiles of rows."""
    rows = settings.get("rows", SystolicConfig().rows)
    whole = max(2, -(-operands.shape[1] // rows)) * rows
    return {"group": whole if operands.group >= operands.shape[1] else operands.group, "scale_bits": scale_bits}


CORE = Core(
    gateware=Spec(
        "systolic", 260, "systolic INT4 x INT8 or FP16 arrays by shift and add, after MixPE", SystolicConfig, Systolic
    ),
    multiply=multiply,
    jobs=random_job,
    group_fields=group_fields,
)
