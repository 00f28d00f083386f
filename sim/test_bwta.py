"""Benches of BWTA: the RTL of many configurations against plain torch, in Verilator or Icarus."""

import itertools
from typing import Any

import pytest
import torch

from nomul.engines.bwta import BwtaConfig
from nomul.sim.check import Run, check_core
from nomul.sim.conformance import CoreConformance
from nomul.sim.product import Product, random_product
from nomul.sim.scenarios import run

SMALL: dict[str, Any] = {"n_in_max": 96, "n_out_max": 24}
CONFIGS = {
    "portable": BwtaConfig(lanes_in=8, rows=4, products="all", **SMALL),
    "linear": BwtaConfig(lanes_in=16, rows=4, products="linear", **SMALL),
    "ragged": BwtaConfig(lanes_in=7, rows=3, products="linear", **SMALL),
    "ragged_planes": BwtaConfig(lanes_in=5, rows=3, products="linear", form="planes", **SMALL),
    "one": BwtaConfig(lanes_in=1, rows=1, products="linear", n_in_max=24, n_out_max=8),
    "xcup": BwtaConfig(lanes_in=32, rows=2, products="linear", target="xcup", **SMALL),
    "xcup_all": BwtaConfig(lanes_in=13, rows=2, products="all", target="xcup", **SMALL),
    "xc7": BwtaConfig(lanes_in=16, rows=2, target="xc7", **SMALL),
    "xc7_planes": BwtaConfig(lanes_in=8, rows=3, products="linear", form="planes", target="xc7", **SMALL),
    "ecp5": BwtaConfig(lanes_in=8, rows=2, target="ecp5", **SMALL),
    "cells": BwtaConfig(lanes_in=16, rows=4, products="linear", target="cells", cut=2, **SMALL),
    "cells_ragged": BwtaConfig(lanes_in=6, rows=3, products="linear", target="cells", cut=3, **SMALL),
    "cells_padded": BwtaConfig(lanes_in=8, rows=3, target="cells", padding="zero", gap=0, **SMALL),
    "cells_planes": BwtaConfig(lanes_in=8, rows=2, products="linear", form="planes", target="cells", **SMALL),
    "cells_all": BwtaConfig(lanes_in=12, rows=2, products="all", target="cells", cut=1, **SMALL),
}


class TestBwta(CoreConformance):
    core = "bwta"
    configs = CONFIGS


@pytest.mark.bench
@pytest.mark.parametrize("name", ["portable", "linear", "xcup", "xcup_all", "ecp5", "cells", "cells_all"])
def test_every_weight_times_every_activation(name: str, simulator_name: str) -> None:
    """All products of every mode, in every lane of every row, the other lanes at each of their values."""
    config, runs = CONFIGS[name], []
    for number, mode in enumerate(config.modes):
        weights, activations = [*mode.weight_values], [*mode.activation_values]
        for lane in range(config.lanes_in):
            cases = [*itertools.product(activations, repeat=2)]
            vectors = torch.tensor([[other] * config.lanes_in for _, other in cases])
            vectors[:, lane] = torch.tensor([one for one, _ in cases])
            pattern = [weights[place % len(weights)] for place in range(config.lanes_in)]
            weight = torch.tensor([pattern] * (len(weights) * config.rows), dtype=torch.int8)
            weight[:, lane] = torch.tensor(
                [weights[(row + row // config.rows) % len(weights)] for row in range(len(weight))]
            )
            runs.append(Run([Product(weight, vectors, number)]))
    run("bwta", CONFIGS[name], simulator_name, runs)


@pytest.mark.bench
def test_behind_axi(simulator_name: str) -> None:
    config = BwtaConfig(lanes_in=8, rows=4, products="all", n_in_max=32, n_out_max=12)
    for mode, stall in ((0, 0.0), (2, 0.3), (3, 0.3)):
        product = random_product(19, 7, 2, config, seed=mode, mode=mode)
        said = check_core("bwta", config, [product], simulator=simulator_name, bus="axi", stall=stall, seed=mode)
        assert (said["mismatches"], said["outputs"]) == (0, 14)
