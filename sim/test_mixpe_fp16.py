"""Benches of W4A16: the RTL against its golden model, in Verilator or Icarus."""

from typing import Any

import pytest
import torch

from nomul.engines.mixpe_fp16 import MixpeFp16Config
from nomul.sim.check import Run
from nomul.sim.conformance import CoreConformance
from nomul.sim.product import Product
from nomul.sim.scenarios import run

SMALL: dict[str, Any] = {"n_in_max": 48, "n_out_max": 12}
CONFIGS = {
    "portable": MixpeFp16Config(lanes_in=4, rows=2, group=8, **SMALL),
    "ragged": MixpeFp16Config(lanes_in=3, rows=3, group=15, significand=11, **SMALL),
    "one": MixpeFp16Config(lanes_in=1, rows=1, group=1, significand=20, n_in_max=16, n_out_max=8),
    "cells": MixpeFp16Config(lanes_in=4, rows=2, group=16, target="cells", **SMALL),
    "cells_wide": MixpeFp16Config(
        lanes_in=7, rows=1, group=7, significand=24, target="cells", n_in_max=35, n_out_max=4
    ),
}


class TestMixpeFp16(CoreConformance):
    core = "mixpe_fp16"
    configs = CONFIGS


@pytest.mark.bench
@pytest.mark.parametrize("name", ["portable", "cells"])
def test_every_weight_times_sampled_activations(name: str, simulator_name: str) -> None:
    """All 16 weights, in a lane that moves on, times words of every exponent and sign, under other lanes' exponents."""
    config, runs = CONFIGS[name], []
    fractions = torch.tensor([0, 1, 0x155, 0x200, 0x3FF])
    words = (torch.arange(62)[:, None] << 10 | fractions).flatten()
    words = torch.cat([words, words | 0x8000])
    words = (words & 0xFFFF ^ 0x8000) - 0x8000
    for number, others in enumerate((0, 0x3C01, 0x7BFF)):
        lane = number % config.lanes_in
        activations = torch.full((len(words), config.lanes_in), others)
        activations[:, lane] = words
        weight = torch.full((16, config.lanes_in), 7, dtype=torch.int8)
        weight[:, lane] = torch.arange(-8, 8)
        weight[:, (lane + 1) % config.lanes_in] = torch.arange(16) % 3 - 8
        runs += [Run([Product(part, activations)]) for part in weight.split(config.n_out_max)]
    run("mixpe_fp16", CONFIGS[name], simulator_name, runs)
