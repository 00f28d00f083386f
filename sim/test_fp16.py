"""Benches of the FP16 array: the RTL against exact integer arithmetic, in Verilator or Icarus."""

from typing import Any

import pytest
import torch

from nomul.draw import Draw
from nomul.engines.fp16_fma import Fp16FmaConfig
from nomul.sim.check import Run
from nomul.sim.conformance import CoreConformance
from nomul.sim.product import Product
from nomul.sim.scenarios import run

SMALL: dict[str, Any] = {"n_in_max": 24, "n_out_max": 16}
CONFIGS = {
    "portable": Fp16FmaConfig(rows=2, **SMALL),
    "cells": Fp16FmaConfig(rows=3, target="cells", **SMALL),
}


class TestFp16(CoreConformance):
    core = "fp16"
    configs = CONFIGS


@pytest.mark.bench
@pytest.mark.parametrize("name", CONFIGS)
def test_many_random_sums(name: str, simulator_name: str) -> None:
    """Sums of two and three products, where every alignment, cancellation and tie of an element occurs."""
    runs = []
    for seed in range(6):
        draw = Draw(seed)
        n_in = 2 + seed % 2
        weight, activations = draw.words(16, n_in), draw.words(150, n_in)
        # Near cancellations: the second product is about the first one's negative.
        activations[::2, 1] = activations[::2, 0] ^ torch.randint(0, 4, (75,), generator=draw.random)
        weight[::2, 1] = weight[::2, 0] ^ -0x8000
        runs.append(Run([Product(weight, activations)], seed=seed))
    run("fp16", CONFIGS[name], simulator_name, runs)
