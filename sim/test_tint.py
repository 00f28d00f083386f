"""Benches of TINT: the RTL of many configurations against plain torch, in Verilator or Icarus."""

from typing import Any

import pytest
import torch

from nomul.engines.tint import TintConfig
from nomul.sim.check import Run
from nomul.sim.conformance import CoreConformance
from nomul.sim.product import Product
from nomul.sim.scenarios import run

SMALL: dict[str, Any] = {"n_in_max": 96, "n_out_max": 24}
CONFIGS = {
    "portable": TintConfig(lanes_in=8, rows=4, **SMALL),
    "ragged": TintConfig(lanes_in=5, rows=3, act_bits=6, **SMALL),
    "one": TintConfig(lanes_in=1, rows=1, n_in_max=24, n_out_max=8),
    "dense": TintConfig(lanes_in=8, rows=2, weights="dense", **SMALL),
    "dense_parts": TintConfig(lanes_in=16, rows=3, weights="dense", weight_lanes=4, **SMALL),
    "xcup": TintConfig(lanes_in=12, rows=4, target="xcup", **SMALL),
    "xc7": TintConfig(lanes_in=7, rows=2, act_bits=4, target="xc7", **SMALL),
    "ecp5": TintConfig(lanes_in=8, rows=2, target="ecp5", **SMALL),
    "cells": TintConfig(lanes_in=8, rows=4, target="cells", **SMALL),
    "cells_chunks": TintConfig(lanes_in=4, rows=2, target="cells", segment=5, **SMALL),
    "cells_one_segment": TintConfig(lanes_in=6, rows=2, act_bits=5, target="cells", segment=64, **SMALL),
    "cells_dense": TintConfig(lanes_in=16, rows=2, target="cells", weights="dense", **SMALL),
}


class TestTint(CoreConformance):
    core = "tint"
    configs = CONFIGS


@pytest.mark.bench
@pytest.mark.parametrize("name", ["portable", "xcup", "ecp5", "cells"])
def test_every_weight_times_every_activation(name: str, simulator_name: str) -> None:
    """All ternary x INT8 products, -128 included, in every lane of every row, the other lanes at an extreme."""
    config, runs = CONFIGS[name], []
    for lane in range(config.lanes_in):
        activations = torch.full((256, config.lanes_in), -128 if lane % 2 else 127)
        activations[:, lane] = torch.arange(-128, 128)
        weight = torch.zeros(3 * config.rows, config.lanes_in, dtype=torch.int8)
        for row in range(3 * config.rows):
            weight[row] = torch.arange(config.lanes_in) % 3 - 1
            weight[row, lane] = (row + row // config.rows) % 3 - 1
        runs.append(Run([Product(weight, activations)]))
    run("tint", CONFIGS[name], simulator_name, runs)
