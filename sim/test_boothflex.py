"""Benches of BoothFlex in both modes: the RTL against plain torch, in Verilator or Icarus."""

from typing import Any

import pytest
import torch

from nomul.engines.boothflex import BoothFlexConfig
from nomul.sim.check import Run
from nomul.sim.conformance import CoreConformance
from nomul.sim.product import Product, random_product
from nomul.sim.scenarios import run

SMALL: dict[str, Any] = {"n_in_max": 48, "n_out_max": 12}
CONFIGS = {
    "portable": BoothFlexConfig(lanes_in=3, rows=2, **SMALL),
    "one": BoothFlexConfig(lanes_in=1, rows=1, n_in_max=16, n_out_max=8),
    "xcup": BoothFlexConfig(lanes_in=4, rows=1, target="xcup", **SMALL),
    "ecp5": BoothFlexConfig(lanes_in=2, rows=1, target="ecp5", **SMALL),
    "cells": BoothFlexConfig(lanes_in=4, rows=2, target="cells", **SMALL),
    "cells_shallow": BoothFlexConfig(lanes_in=5, rows=1, target="cells", segment=5, depth=2, **SMALL),
    "cells_one_segment": BoothFlexConfig(lanes_in=4, rows=1, target="cells", segment=64, **SMALL),
}
INT8, TERNARY = 0, 1
GAP = {"portable": 0, "cells": 2}
"""Cycles between two blocks in which no step is taken."""


class TestBoothFlex(CoreConformance):
    core = "boothflex"
    configs = CONFIGS
    behind_axi = ("portable", "cells")


@pytest.mark.bench
@pytest.mark.parametrize("name", ["portable", "ecp5", "cells"])
def test_every_weight_times_every_activation(name: str, simulator_name: str) -> None:
    """All 65,536 INT8 products, -128 included, in a lane that moves on, the other lanes at an extreme."""
    config, runs = CONFIGS[name], []
    lanes, n_out = config.activation_lanes, config.n_out_max
    for start in range(-128, 128, n_out):
        lane = start // n_out % lanes
        activations = torch.where(torch.arange(lanes) % 2 == 0, -128, 127).expand(256, lanes).clone()
        activations[:, lane] = torch.arange(-128, 128)
        weight = torch.where(torch.arange(lanes) % 3 == 0, -128, 127).expand(n_out, lanes).to(torch.int8).clone()
        weight[:, lane] = torch.arange(start, start + n_out).clamp(max=127).to(torch.int8)
        runs.append(Run([Product(weight, activations, INT8)]))
    run("boothflex", CONFIGS[name], simulator_name, runs)


@pytest.mark.bench
@pytest.mark.parametrize("name", ["portable", "ecp5", "cells"])
def test_every_ternary_weight_times_every_activation(name: str, simulator_name: str) -> None:
    """All ternary x INT8 products in every digit row of every lane of every row, the others at an extreme."""
    config, runs = CONFIGS[name], []
    lanes = config.activation_lanes
    for lane in range(lanes):
        activations = torch.full((256, lanes), -128 if lane % 2 else 127)
        activations[:, lane] = torch.arange(-128, 128)
        weight = (torch.arange(lanes) % 3 - 1).expand(3 * config.rows, lanes).to(torch.int8).clone()
        weight[:, lane] = (torch.arange(3 * config.rows) + torch.arange(3 * config.rows) // config.rows) % 3 - 1
        runs.append(Run([Product(weight, activations, TERNARY)]))
    run("boothflex", CONFIGS[name], simulator_name, runs)


@pytest.mark.bench
@pytest.mark.parametrize("name", ["portable", "cells"])
def test_a_change_of_mode_costs_no_more_than_the_pipeline(name: str, simulator_name: str) -> None:
    """Jobs that change the mode each time, back to back, end as soon as their steps and one pipeline allow."""
    config = CONFIGS[name]
    modes = [INT8, TERNARY] * 4
    products = [random_product(config.n_in_max, config.n_out_max, 1, config, 5, mode) for mode in modes]
    (said,) = run("boothflex", CONFIGS[name], simulator_name, [Run(products)])
    steps = sum(config.weight_transfers(config.n_in_max, config.n_out_max, mode) for mode in modes)
    blocks = sum(-(-config.n_out_max // config.rows) for _ in modes)
    beats = -(-config.n_in_max // config.activation_lanes)
    fill = config.cycles(1, 1, 1, TERNARY) + beats
    assert said["cycles"] <= steps + GAP[name] * blocks + fill
