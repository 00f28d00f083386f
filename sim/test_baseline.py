"""Benches of the INT8 baseline: the RTL against plain torch, in Verilator or Icarus."""

from typing import Any

import pytest
import torch

from nomul.engines.baseline import BaselineConfig
from nomul.sim.check import Run
from nomul.sim.conformance import CoreConformance
from nomul.sim.product import Product
from nomul.sim.scenarios import run

SMALL: dict[str, Any] = {"n_in_max": 48, "n_out_max": 12}
CONFIGS = {
    "portable": BaselineConfig(lanes_in=4, rows=2, **SMALL),
    "ragged": BaselineConfig(lanes_in=3, rows=3, product="whole", **SMALL),
    "ecp5": BaselineConfig(lanes_in=3, rows=2, target="ecp5", **SMALL),
    "one": BaselineConfig(lanes_in=1, rows=1, n_in_max=16, n_out_max=8),
    "cells": BaselineConfig(lanes_in=4, rows=2, target="cells", **SMALL),
    "cells_shallow": BaselineConfig(lanes_in=5, rows=1, target="cells", segment=5, depth=4, **SMALL),
    "cells_one_segment": BaselineConfig(lanes_in=4, rows=1, target="cells", segment=64, **SMALL),
}


class TestBaseline(CoreConformance):
    core = "baseline"
    configs = CONFIGS
    behind_axi = ("portable", "cells")


@pytest.mark.bench
@pytest.mark.parametrize("name", ["portable", "ecp5", "cells"])
def test_every_weight_times_every_activation(name: str, simulator_name: str) -> None:
    """All 65,536 INT8 products, -128 included, in a lane that moves on, the other lanes at an extreme."""
    config, runs = CONFIGS[name], []
    lanes, n_out = config.lanes_in, config.n_out_max
    for start in range(-128, 128, n_out):
        values = torch.arange(start, start + n_out).clamp(max=127)
        lane = start // n_out % lanes
        activations = torch.where(torch.arange(lanes) % 2 == 0, -128, 127).expand(256, lanes).clone()
        activations[:, lane] = torch.arange(-128, 128)
        weight = torch.where(torch.arange(lanes) % 3 == 0, -128, 127).expand(n_out, lanes).to(torch.int8).clone()
        weight[:, lane] = values.to(torch.int8)
        runs.append(Run([Product(weight, activations)]))
    run("baseline", CONFIGS[name], simulator_name, runs)
