"""Benches of BoothFlex-BS in its five modes: the RTL against plain torch, in Verilator or Icarus."""

from typing import Any

import pytest
import torch

from nomul.engines.boothflex_bs import BoothFlexBsConfig
from nomul.sim.check import Run
from nomul.sim.conformance import CoreConformance
from nomul.sim.product import Product, random_product
from nomul.sim.scenarios import run

SMALL: dict[str, Any] = {"n_in_max": 48, "n_out_max": 12}
CONFIGS = {
    "portable": BoothFlexBsConfig(lanes_in=4, rows=2, **SMALL),
    "ragged": BoothFlexBsConfig(lanes_in=3, rows=1, **SMALL),
    "xcup": BoothFlexBsConfig(lanes_in=4, rows=1, target="xcup", **SMALL),
    "ecp5": BoothFlexBsConfig(lanes_in=4, rows=1, target="ecp5", **SMALL),
}
MODES = ("ternary", "int2", "int4", "int6", "int8")


class TestBoothFlexBs(CoreConformance):
    core = "boothflex_bs"
    configs = CONFIGS
    behind_axi = ("portable",)


@pytest.mark.bench
@pytest.mark.parametrize("name", ["portable", "ecp5"])
def test_every_weight_times_every_activation(name: str, simulator_name: str) -> None:
    """All products of every mode, -128 included, in a lane that moves on, the other lanes at an extreme."""
    config, runs = CONFIGS[name], []
    lanes, n_out = config.lanes_in, config.n_out_max
    for mode, (low, high) in enumerate(each.weights for each in config.modes):
        for start in range(low, high + 1, n_out):
            lane = start // n_out % lanes
            activations = torch.where(torch.arange(lanes) % 2 == 0, -128, 127).expand(256, lanes).clone()
            activations[:, lane] = torch.arange(-128, 128)
            weight = torch.where(torch.arange(lanes) % 3 == 0, low, high).expand(n_out, lanes).to(torch.int8).clone()
            weight[:, lane] = torch.arange(start, start + n_out).clamp(max=high).to(torch.int8)
            runs.append(Run([Product(weight, activations, mode)]))
    run("boothflex_bs", CONFIGS[name], simulator_name, runs)


@pytest.mark.bench
def test_a_digit_takes_a_cycle(simulator_name: str) -> None:
    """1 cycle a step for ternary and INT2 weights, 2 for INT4, 3 for INT6, 4 for INT8; jobs of all modes in a row."""
    config = CONFIGS["portable"]
    assert [mode.name for mode in config.modes] == list(MODES)
    n_in, n_out = config.n_in_max, config.n_out_max
    steps = n_in // config.lanes_in * n_out // config.rows
    assert [config.weight_transfers(n_in, n_out, mode) for mode in range(5)] == [steps * d for d in (1, 1, 2, 3, 4)]
    products = [random_product(n_in, n_out, 1, config, 3, mode) for mode in (4, 0, 3, 1, 2, 4)]
    (said,) = run("boothflex_bs", CONFIGS["portable"], simulator_name, [Run(products)])
    fill = config.cycles(1, 1, 1) + n_in // config.lanes_in
    assert said["cycles"] <= steps * (4 + 1 + 3 + 1 + 2 + 4) + fill
