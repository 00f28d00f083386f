"""MixPE, INT4 weights in groups by shifts and additions, scaled once a group."""

from typing import TYPE_CHECKING, Any

from nomul.cores.api import MACRO_BITS, Core, Settings
from nomul.cores.arrays import SIZES, array_features, array_grid, array_points
from nomul.engines.mixpe import Mixpe, MixpeConfig
from nomul.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from nomul.formats.mixpe import GroupQuantized, Layout

__all__ = ["CORE", "layout"]


def layout(config: MixpeConfig) -> "Layout":
    """Return what the packer of the stream knows of a configuration."""
    from nomul.formats.mixpe import Layout

    return Layout(
        lanes=config.lanes_in, rows=config.rows, turn=config.turn, group=config.group or None,
        signed=config.codes == "signed",
        recoding=config.digits, scale_bits=config.scale_bits, transfer=config.activation_lanes,
        delay=config.entry_delay, drain=config.drain, act_bits=config.act_bits, correction_bits=config.correction_bits,
        fold=config.fold, code_bits=config.code_bits, lined=config.lined,
    )  # fmt: skip


def pack(config: MixpeConfig, weight: Any, mode: int) -> "npt.NDArray[np.uint8]":
    """Return digits of codes, with the zero points and scales of each group. Takes a plain matrix too."""
    from nomul.formats import mixpe

    operands = weight if isinstance(weight, mixpe.GroupQuantized) else mixpe.matrix(weight, config.group or None)
    return mixpe.pack(operands, layout(config))


def features(config: MixpeConfig) -> list[float]:
    """Return those of an array, and in standard cells the bits of group sums that are too few for a macro."""
    sizes = array_features(config)
    if config.target == "cells":
        bits = (2 << (config.group_count - 1).bit_length()) * config.sum_width
        sizes.append(bits if bits <= MACRO_BITS else 0)
    return sizes


def group_fields(operands: "GroupQuantized", scale_bits: int, settings: Settings) -> Settings:
    """Return the layer's group, 0 if it has one scale a row, its codes and its scales."""
    signed = int(operands.codes.min()) < 0 or int(operands.zeros.min()) < 0
    group = 0 if operands.group >= operands.shape[1] else operands.group
    return {"group": group, "codes": "signed" if signed else "unsigned", "scale_bits": scale_bits}


CORE = Core(
    gateware=Spec(
        "mixpe", 7, "INT4 dot products by shift and add, scaled once a group, after MixPE", MixpeConfig, Mixpe
    ),
    pack=pack,
    serves={"mixpe": "int4"},
    sizes=SIZES,
    candidates=array_grid(),
    features=features,
    cost_points=array_points(power_of_two=True),
    group_fields=group_fields,
    takes_groups=lambda settings: settings.get("weight") != "ternary",
    variants={
        "weight": {"int4": {}, "ternary": {"weight": "ternary"}},
        "activation": {"int8": {}, "fp16": {"core": "mixpe_fp16"}},
    },
)
